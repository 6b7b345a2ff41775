"""Cross-sections: hand-solved tables, published numbers, simulated truth, refusals."""

import math

import numpy as np
import pandas as pd
import pytest

from ldlab import ab
from ldlab.program import LdlabError
from tests.studies import DATA, make_study

RUNS = 250
MONTE_CARLO = 3  # standard errors of a simulated share

TRAINED, COMPARISON = [4.0, 6, 8], [1.0, 3, 3, 5]
# means 6 and 3; sums of squares 8 and 8; variances 4 and 8/3


def hand_study(**sections):
    outcome = TRAINED + COMPARISON
    return make_study(pd.DataFrame({"arm": [1] * 3 + [0] * 4, "outcome": outcome}), **sections)


def nsw(design="randomised", file="nsw.csv", **sections):
    names = {"person": "unit", "treated": "arm", "re78": "outcome"}
    return make_study(pd.read_csv(DATA / file).rename(columns=names), design, **sections)


def people(rng, *, n=60, effect=0.0, slope=2.0):
    """Half trained by lot; the trained vary twice as much, and a covariate predicts the outcome."""
    x = rng.normal(size=n)
    arm = rng.permutation(np.arange(n) < n // 3).astype(int)
    return pd.DataFrame(
        {"arm": arm, "x": x, "outcome": effect * arm + slope * x + (1 + arm) * rng.normal(size=n)}
    )


def test_difference_in_means_by_hand():
    # HC2: 4/3 + (8/3)/4 = 2. Classical: (8 + 8)/5 * (1/3 + 1/4) = 28/15.
    estimate = ab.difference_in_means(hand_study())
    assert estimate.value == pytest.approx(3)
    assert estimate.se == pytest.approx(math.sqrt(2))
    assert (estimate.df, estimate.se_kind, estimate.estimand) == (5, "HC2", "ATE")
    assert estimate.n == {"treated": 3, "comparison": 4, "clusters": None, "observations": 7}
    assert ab.difference_in_means(hand_study(), se="classical").se == pytest.approx(math.sqrt(28 / 15))


def test_clustered_errors_by_hand():
    # Sums of residuals: trained clusters -4 and 4 around 7, comparison clusters -2 and 2 around 3.
    # (16 + 16)/4**2 + (4 + 4)/4**2 = 2.5, times G/(G-1) (n-1)/(n-k) = 4/3 * 7/6.
    frame = pd.DataFrame(
        {"arm": [1, 1, 1, 1, 0, 0, 0, 0], "cluster": list("AABBCCDD"), "outcome": [4.0, 6, 8, 10, 1, 3, 3, 5]}
    )
    study = make_study(frame, {"kind": "randomised", "columns": {}})
    estimate = ab.difference_in_means(study)
    assert estimate.value == pytest.approx(4)
    assert estimate.se == pytest.approx(math.sqrt(2.5 * 4 / 3 * 7 / 6))
    assert (estimate.df, estimate.se_kind, estimate.n["clusters"]) == (3, "cluster by cluster", 4)


def test_regression_adjusted_by_hand():
    # Trained: slope 2, mean y 10/3 at x 1. Comparison: slope 1.5, mean y 2 at x 2.
    # At the overall mean 1.5: 13/3 - 1.25. At the trained mean 1: 10/3 - 0.5.
    frame = pd.DataFrame(
        {"arm": [1, 1, 1, 0, 0, 0], "x": [0.0, 1, 2, 1, 2, 3], "outcome": [1.0, 4, 5, 1, 1, 4]}
    )
    assert ab.regression_adjusted(make_study(frame)).value == pytest.approx(13 / 3 - 1.25)
    att = ab.regression_adjusted(make_study(frame, "observational"))
    assert (att.value, att.estimand) == (pytest.approx(10 / 3 - 0.5), "ATT")


def test_percent_effect_by_hand():
    # 6/3 - 1 = 100%. Ratio 2: variance 2**2 * ((4/3)/6**2 + (2/3)/3**2) = 4/9.
    percent = ab.percent_effect(hand_study(), ab.difference_in_means(hand_study()))
    assert percent.value == pytest.approx(100)
    assert percent.se == pytest.approx(100 * math.sqrt(4 / 9))
    assert percent.comparison_mean == pytest.approx(3)
    assert "+100.0 percent" in str(percent)


def test_percent_effect_has_no_number_when_the_comparison_mean_is_about_zero():
    frame = hand_study().frame.assign(
        outcome=lambda rows: rows["outcome"] - 2.5
    )  # comparison mean .5, se .816
    study = make_study(frame)
    percent = ab.percent_effect(study, ab.difference_in_means(study))
    assert percent.value is None
    assert "within 2 standard errors" in str(percent)


def test_percent_effect_keeps_the_sign_of_the_effect_when_the_mean_is_negative():
    study = make_study(hand_study().frame.assign(outcome=lambda rows: rows["outcome"] - 10))
    assert ab.percent_effect(study, ab.difference_in_means(study)).value == pytest.approx(100 * 3 / 7)


def test_percent_effect_on_the_log_scale_is_the_effect_itself():
    kpi = {"scale": "log", "target": {"value": 5.0, "unit": "percent of baseline"}}
    kpi["smallest_effect_worth_having"] = {"value": 1.0, "unit": "percent of baseline"}
    study = hand_study(kpi=kpi)
    percent = ab.percent_effect(study, ab.difference_in_means(study))
    assert percent.value == pytest.approx(100 * math.expm1(3))
    assert percent.comparison_mean is None


def test_percent_effect_refuses_what_it_did_not_make():
    estimate = ab.difference_in_means(hand_study())
    with pytest.raises(LdlabError, match="two-way"):
        ab.percent_effect(hand_study(), estimate.model_copy(update={"method": "two-way fixed effects"}))
    with pytest.raises(LdlabError, match="other data"):
        ab.percent_effect(hand_study(), estimate.model_copy(update={"value": 2.0}))


def test_arm_table():
    rng = np.random.default_rng(4)
    table = ab.arm_table(make_study(people(rng, n=90)))
    assert table.loc["trained", "units"] == 30
    assert list(table.columns) == ["units", "mean", "sd", "se"]
    assert ab.arm_table(make_study(people(rng, n=24), minimum=10)).loc["trained"].isna().all()


def test_binary_outcomes_are_percentage_points():
    # 6 of 20 against 2 of 20: 20 points; HC2 s^2/n with s^2 = 20/19 p (1 - p).
    frame = pd.DataFrame({"arm": [1] * 20 + [0] * 20, "outcome": [100] * 6 + [0] * 14 + [100] * 2 + [0] * 18})
    amount = {"value": 5.0, "unit": "percentage points"}
    kpi = {"value_type": "binary", "unit": "percentage points", "target": amount}
    study = make_study(frame, kpi={**kpi, "smallest_effect_worth_having": amount})
    estimate = ab.difference_in_means(study)
    assert estimate.value == pytest.approx(20)
    assert estimate.se == pytest.approx(100 * math.sqrt((0.3 * 0.7 + 0.1 * 0.9) / 19))
    assert ab.arm_table(study)["share"].to_dict() == {"comparison": 10, "trained": 30}


def test_estimates_put_the_plain_difference_first():
    rng = np.random.default_rng(6)
    assert [e.method for e in ab.estimates(make_study(people(rng)))] == [ab.DIFFERENCE, ab.ADJUSTED]
    assert [e.method for e in ab.estimates(hand_study())] == [ab.DIFFERENCE]
    raw, adjusted = ab.estimates(nsw("observational", "nsw_cps.csv"))
    assert (raw.estimand, adjusted.method, adjusted.se_kind) == (
        "raw difference, not an effect",
        ab.ANCOVA,
        "HC1",
    )


def test_published_experiment():
    # National Supported Work (Dehejia & Wahba 1999): 1794.34, HC2 671.00, classical 632.85.
    hc2, classical = ab.difference_in_means(nsw()), ab.difference_in_means(nsw(), se="classical")
    assert f"{hc2.value:.2f} {hc2.se:.2f} {classical.se:.2f}" == "1794.34 671.00 632.85"


def test_published_observational_answer():
    study = nsw("observational", "nsw_cps.csv")
    adjusted = ab.regression_adjusted(study, interactions=False, se="HC1")
    assert study.covariates == (
        "age",
        "educ",
        "black",
        "hisp",
        "marr",
        "nodegree",
        "re74",
        "re75",
        "u74",
        "u75",
    )
    assert f"{ab.difference_in_means(study).value:.2f}" == "-8497.52"
    assert f"{adjusted.value:.2f} {adjusted.se:.2f}" == "1066.38 626.85"
    # With interactions and the trained as population: the outcome model of the untrained alone.
    assert f"{ab.regression_adjusted(study).value:.0f}" == "1133"


def test_intervals_cover_the_truth_effect_or_none():
    rng = np.random.default_rng(20261121)
    covered = {ab.DIFFERENCE: 0, ab.ADJUSTED: 0}
    widths = {ab.DIFFERENCE: 0.0, ab.ADJUSTED: 0.0}
    for run in range(RUNS):
        effect = 1.5 * (run % 2)
        study = make_study(people(rng, effect=effect), level=0.9)
        for estimate in (ab.difference_in_means(study), ab.regression_adjusted(study)):
            covered[estimate.method] += estimate.low <= effect <= estimate.high
            widths[estimate.method] += estimate.high - estimate.low
    error = MONTE_CARLO * math.sqrt(0.9 * 0.1 / RUNS)  # 5.7 points
    assert all(abs(count / RUNS - 0.9) < error for count in covered.values()), covered
    assert widths[ab.ADJUSTED] < 0.8 * widths[ab.DIFFERENCE]


def test_incomplete_covariates_are_left_out_and_counted():
    frame = people(np.random.default_rng(1))
    frame.loc[:6, "x"] = np.nan
    assert ab.regression_adjusted(make_study(frame)).n["observations"] == 53
    assert ab.difference_in_means(make_study(frame)).n["observations"] == 60


@pytest.mark.parametrize(
    ("column", "name"),
    [
        (lambda rows: rows["arm"] * 2.0, "same_as_arm"),
        (lambda rows: rows["arm"] * 0 + 7.0, "constant"),
        (lambda rows: 3 - 2 * rows["x"], "twice_x"),
        (lambda rows: (rows.index % 5) * (rows["arm"] == 0), "flat_among_trained"),
        (lambda rows: (rows.index == rows.index[rows["arm"] == 1][0]) * 1.0 + (rows.index == 0), "lonely"),
    ],
)
def test_useless_covariates_are_refused_by_name(column, name):
    frame = people(np.random.default_rng(2)).sort_values("arm", ignore_index=True)
    with pytest.raises(LdlabError, match=rf"found {name}[ ,]"):
        ab.regression_adjusted(make_study(frame.assign(**{name: column(frame)})))


def test_refusals():
    with pytest.raises(LdlabError, match="no covariates"):
        ab.regression_adjusted(hand_study())
    with pytest.raises(LdlabError, match="found 'HC9'"):
        ab.difference_in_means(hand_study(), se="HC9")
    panel = pd.DataFrame({"unit": list("aabb"), "period": [0, 1] * 2, "start": [1, 1, None, None]})
    with pytest.raises(LdlabError, match="several rows per unit"):
        ab.difference_in_means(make_study(panel.assign(outcome=[1.0, 2, 3, 4]), "staggered"))


def test_the_frame_is_left_as_it_was():
    study = nsw()
    before = study.frame.copy()
    ab.percent_effect(study, ab.regression_adjusted(study))
    ab.arm_table(study)
    pd.testing.assert_frame_equal(study.frame, before)
