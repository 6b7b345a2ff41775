"""Measures: CUPED, rates, percentages, dose; by hand, against others' code, simulated."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from linearmodels.iv import IV2SLS

from ldlab import ab
from ldlab.ab import leading
from ldlab.ab.cuped import cuped
from ldlab.ab.dose import dose_response
from ldlab.ab.percent import effect_and_base, percent_effect
from ldlab.ab.ratio import linearised, rate_estimates, rates, ratio_difference, unit_weights
from ldlab.program import LdlabError
from tests.studies import make_study
from tests.test_ab import hand_study, people
from tests.worlds_ab import LEVEL, RATE, WORLDS, clipped_study, lots, rate_frame, world_dose

RUNS = 100
MONTE_CARLO = 3  # standard errors of a simulated share
BEFORE = ("resolution time before", "no resolution time before")


def rate_study(frame, design="randomised", **kpi):
    frame = frame.assign(outcome=frame["count"] / frame["exposure"])
    return make_study(frame, design, kpi={**RATE, **kpi}, covariates=())


def with_before(before, outcome, arm):
    known = pd.Series(before, dtype=float)
    frame = pd.DataFrame({"arm": arm, "outcome": outcome, "before": known})
    frame[BEFORE[0]] = known.fillna(known.mean())
    names = BEFORE[:1]
    if known.isna().any():
        frame[BEFORE[1]], names = known.isna().astype(float), BEFORE
    return make_study(frame, kpi={"before_column": "b"}, covariates=names)


# Rates


def test_ratio_by_hand():
    # Totals 6/4 and 6/6. Deviations (count - R exposure)/2: trained .25, -.25; comparison 0, -.5, .5.
    # s^2/n: .125/2 and .25/3, together 7/48. Own rates: 5/3 and (1 + 2/3 + 3/2)/3.
    frame = pd.DataFrame({"arm": [1, 1, 0, 0, 0], "count": [2, 4, 1, 2, 3], "exposure": [1.0, 3, 1, 3, 2]})
    study = rate_study(frame)
    estimate = ratio_difference(study)
    assert estimate.value == pytest.approx(0.5)
    assert estimate.se == pytest.approx(math.sqrt(7 / 48))
    assert (estimate.df, estimate.unit) == (3, "tickets per hour")
    assert rate_estimates(study)[-1].value == pytest.approx(5 / 3 - (1 + 2 / 3 + 3 / 2) / 3)
    assert "exposure" in study.frame and study.program.kpi.value_type == "rate"


def test_ratio_agrees_with_tea_tasting():
    tea = pytest.importorskip("tea_tasting")
    study = rate_study(rate_frame(np.random.default_rng(1), lots(np.random.default_rng(2), 300), effect=0.1))
    metric = tea.RatioOfMeans("count", "exposure", equal_var=False)
    result = tea.Experiment({"rate": metric}, variant="arm").analyze(study.frame)["rate"]
    estimate = ratio_difference(study)
    assert estimate.value == pytest.approx(result.effect_size)
    assert estimate.se == pytest.approx(result.effect_size / result.statistic)


def test_ratio_agrees_with_weighted_regression_and_poisson():
    # WLS of own rates with exposure as weight has the totals' ratio as its mean, and HC0 is the delta method with n for
    # n - 1. A Poisson regression with log exposure as offset, the Bayesian model without overdispersion, has it too.
    study = rate_study(
        rate_frame(np.random.default_rng(3), lots(np.random.default_rng(4), 200, 0.3), effect=0.1)
    )
    rows, design = study.frame, sm.add_constant(study.frame["arm"].astype(float))
    fit = sm.WLS(rows["outcome"], design, weights=rows["exposure"]).fit(cov_type="HC0")
    joint = fit.cov_params()
    of_arm = {0: joint.loc["const", "const"], 1: joint.to_numpy().sum()}
    sizes = rows.groupby("arm").size()
    variance = sum(of_arm[arm] * sizes[arm] / (sizes[arm] - 1) for arm in (0, 1))
    estimate = ratio_difference(study)
    assert estimate.value == pytest.approx(fit.params["arm"])
    assert estimate.se == pytest.approx(math.sqrt(variance))
    poisson = sm.GLM(rows["count"], design, family=sm.families.Poisson(), exposure=rows["exposure"]).fit()
    assert estimate.value == pytest.approx(np.exp(poisson.params.sum()) - np.exp(poisson.params["const"]))


def test_clustered_rates_count_teams_not_people():
    rng = np.random.default_rng(5)
    team = np.repeat(np.arange(30), 10)
    frame = rate_frame(rng, lots(rng, 30)[team], effect=0.1)
    frame["count"] = rng.poisson(frame["exposure"] * 0.5 * rng.gamma(4, 0.25, 30)[team])
    alone, clustered = (
        ratio_difference(rate_study(f)) for f in (frame, frame.assign(cluster=team.astype(str)))
    )
    assert clustered.value == pytest.approx(alone.value)
    assert clustered.se > 1.5 * alone.se
    fit = sm.WLS(frame["count"] / frame["exposure"], sm.add_constant(frame["arm"]), weights=frame["exposure"])
    assert clustered.se == pytest.approx(
        fit.fit(cov_type="cluster", cov_kwds={"groups": team}).bse["arm"], rel=0.05
    )


def test_rates_within_strata_by_hand():
    # Strata of 6 and 4 units weigh .6 and .4. Rate of an arm: weighted mean count over weighted mean exposure.
    frame = pd.DataFrame({
        "stratum": list("aaaaaabbbb"), "arm": [1, 1, 0, 0, 0, 0, 1, 1, 0, 0],
        "count": [2, 4, 1, 2, 3, 2, 8, 6, 5, 3], "exposure": [1.0, 3, 1, 3, 2, 2, 4, 4, 5, 3],
    })  # fmt: skip
    trained = (0.6 * 3 + 0.4 * 7) / (0.6 * 2 + 0.4 * 4)
    comparison = (0.6 * 2 + 0.4 * 4) / (0.6 * 2 + 0.4 * 4)
    study = rate_study(frame, {"kind": "randomised", "columns": {"stratum": "stratum"}})
    assert ratio_difference(study).value == pytest.approx(trained - comparison)
    assert pd.Series(unit_weights(study)).groupby(frame["arm"]).sum().tolist() == pytest.approx([1, 1])


def test_rates_say_when_the_two_ways_differ():
    rng = np.random.default_rng(6)
    alike = rates(rate_study(rate_frame(rng, lots(rng, 2000), effect=0.1)))
    apart = rates(rate_study(rate_frame(rng, lots(rng, 2000), effect=0.2, depends=0.25)))
    assert alike.gap_low < 0 < alike.gap_high and "no different answer" in alike.sentence
    assert apart.gap_high < 0 and "more than chance" in apart.sentence
    assert "total over total" in apart.of_totals.method and apart.of_totals.value > apart.of_units.value
    same = rate_frame(rng, lots(rng, 100), effect=0.1).assign(exposure=2.0)
    assert rates(rate_study(same)).gap == pytest.approx(0)


def test_rates_of_too_few_clusters_have_no_interval_and_say_so():
    rng = np.random.default_rng(25)
    team = np.repeat(np.arange(6), 20)
    found = rates(rate_study(rate_frame(rng, team % 2, effect=0.1).assign(cluster=team.astype(str))))
    assert not found.of_totals.has_interval and found.gap_low is None and "too few clusters" in found.sentence


def test_rates_are_adjusted_for_the_rate_before():
    rng = np.random.default_rng(7)
    ability = rng.gamma(4, 0.25, 600)
    arm, exposure = lots(rng, 600), rng.gamma(9, 1, 600)
    frame = pd.DataFrame({"arm": arm, "count": rng.poisson((0.5 + 0.05 * arm) * 4 * ability * exposure)})
    frame = frame.assign(exposure=exposure, before=rng.poisson(2 * ability * 9) / 9)
    frame[BEFORE[0]] = frame["before"]
    frame["outcome"] = frame["count"] / frame["exposure"]
    study = make_study(frame, kpi={**RATE, "before_column": "b"}, covariates=BEFORE[:1])
    adjusted, plain = rate_estimates(study)[:2]
    assert "adjusted" in adjusted.method and adjusted.se < 0.7 * plain.se
    found = cuped(study)
    assert found.variance_reduction == pytest.approx(1 - (adjusted.se / plain.se) ** 2)
    assert percent_effect(study, adjusted).comparison_mean == pytest.approx(2, rel=0.1)


def test_what_is_no_rate_is_refused():
    with pytest.raises(LdlabError, match="value_type: rate"):
        ratio_difference(hand_study())
    assert rates(hand_study()) is None
    with pytest.raises(LdlabError):
        linearised(make_study(people(np.random.default_rng(1)), "observational"))


# CUPED


def test_cuped_by_hand():
    # The table of test_regression_adjusted_by_hand, with the KPI before as its covariate; raw 10/3 - 2.
    found = cuped(with_before([0.0, 1, 2, 1, 2, 3], [1.0, 4, 5, 1, 1, 4], [1, 1, 1, 0, 0, 0]))
    assert found.adjusted.value == pytest.approx(13 / 3 - 1.25)
    assert found.raw.value == pytest.approx(10 / 3 - 2)
    assert found.variance_reduction == pytest.approx(1 - (found.adjusted.se / found.raw.se) ** 2)
    assert found.correlation is None  # three in an arm are fewer than ten


def test_cuped_agrees_with_tea_tasting():
    # tea-tasting has one theta for both arms, ours one each: the same where the slopes are, to first order.
    tea = pytest.importorskip("tea_tasting")
    rng = np.random.default_rng(8)
    arm, x = lots(rng, 2000), rng.normal(size=2000)
    study = with_before(x, 20 + arm + 2 * x + rng.normal(size=2000), arm)
    metric = tea.Mean("outcome", "before", equal_var=False)
    result = tea.Experiment({"kpi": metric}, variant="arm").analyze(study.frame)["kpi"]
    found = cuped(study)
    assert found.adjusted.value == pytest.approx(result.effect_size, rel=2e-3)
    assert found.adjusted.se == pytest.approx(result.effect_size / result.statistic, rel=5e-3)
    assert found.variance_reduction == pytest.approx(0.8, abs=0.03)
    assert found.correlation == pytest.approx(2 / math.sqrt(5), abs=0.02)
    assert "times as many agents" in found.sentence


def test_cuped_keeps_and_counts_those_without_a_before():
    rng = np.random.default_rng(9)
    arm, x = lots(rng, 400), rng.normal(size=400)
    found = cuped(with_before(np.where(rng.random(400) < 0.5, np.nan, x), 2 * x + rng.normal(size=400), arm))
    assert found.adjusted.n == found.raw.n and found.adjusted.n["observations"] == 400
    assert "of 400 agents" in found.unknown and "stay in" in found.sentence
    few = np.where(np.arange(400) < 3, np.nan, x)
    assert cuped(with_before(few, 2 * x + rng.normal(size=400), arm)).unknown == "fewer than 10 agents"


def test_cuped_that_does_not_help_says_so():
    rng = np.random.default_rng(10)
    sentences = {}
    for seed in range(12):
        rng = np.random.default_rng(seed)
        found = cuped(with_before(rng.normal(size=24), rng.normal(size=24), lots(rng, 24)))
        sentences[found.variance_reduction < 0] = found.sentence
    assert "did not help" in sentences[True]
    assert cuped(hand_study()) is None


# Percent


def test_percent_of_the_kpi_before_winsorising():
    arm = np.repeat([0, 1], 50)
    raw = np.random.default_rng(23).exponential(size=100) + 1 + arm
    study = clipped_study(arm, raw, 0.95)
    beside = leading.estimates(study)[-1]
    percent = percent_effect(study, beside)
    assert percent.value == pytest.approx(100 * (raw[arm == 1].mean() / raw[arm == 0].mean() - 1))
    assert percent.value > percent_effect(study, leading.estimates(study)[0]).value


def test_few_clusters_leave_no_percentage_and_say_so():
    rng = np.random.default_rng(24)
    team = np.repeat(np.arange(8), 20)
    frame = pd.DataFrame({"arm": team % 2, "cluster": team.astype(str), "outcome": 10 + rng.normal(size=160)})
    study = make_study(frame)
    assert "permutation" in percent_effect(study, ab.estimates(study)[0]).reason


def test_fieller_ends_are_where_the_t_test_stops():
    # At each end r the t of m1 - (1 + r) m0 = 0 is the critical value; arms and covariates as they come.
    rng = np.random.default_rng(15)
    study = make_study(people(rng, n=90).assign(outcome=lambda rows: rows["outcome"] + 6))
    for estimate in ab.estimates(study):
        percent = percent_effect(study, estimate)
        for end in (percent.low, percent.high):
            scale = study.frame["arm"].map({0: 1 + end / 100, 1: 1.0})
            again = replace(study, frame=study.frame.assign(outcome=study.frame["outcome"] * scale))
            at_end = next(e for e in ab.estimates(again) if e.method == estimate.method)
            assert min(abs(at_end.low), abs(at_end.high)) == pytest.approx(0, abs=1e-8)


def test_base_and_covariance_agree_with_the_regression():
    study = make_study(
        people(np.random.default_rng(16), n=80).assign(outcome=lambda rows: rows["outcome"] + 6)
    )
    rows = study.frame
    x = rows["x"] - rows["x"].mean()
    design = pd.DataFrame({"base": 1.0, "arm": rows["arm"], "x": x, "arm x": x * rows["arm"]})
    fit = sm.OLS(rows["outcome"], design).fit(cov_type="HC2", use_t=True)
    joint = fit.cov_params()
    both = effect_and_base(study, ab.regression_adjusted(study))
    assert both.base == pytest.approx(fit.params["base"])
    assert both.base_variance == pytest.approx(joint.loc["base", "base"])
    assert both.covariance == pytest.approx(joint.loc["arm", "base"])
    assert both.effect_variance == pytest.approx(joint.loc["arm", "arm"])
    common = ab.regression_adjusted(study, interactions=False)
    ancova = sm.OLS(rows["outcome"], design.drop(columns="arm x")).fit(cov_type="HC2", use_t=True)
    assert percent_effect(study, common).comparison_mean == pytest.approx(ancova.params["base"])


def test_percent_excludes_zero_exactly_when_the_effect_does():
    for seed in range(12):
        rng = np.random.default_rng(seed)
        arm = lots(rng, 40)
        study = make_study(pd.DataFrame({"arm": arm, "outcome": 3 + 1.2 * arm + 2 * rng.normal(size=40)}))
        estimate = ab.difference_in_means(study)
        percent = percent_effect(study, estimate)
        assert (percent.low > 0) == (estimate.low > 0)


def test_percent_works_in_clusters_and_strata_and_for_a_negative_base():
    rng = np.random.default_rng(17)
    team = np.repeat(np.arange(24), 8)
    frame = pd.DataFrame({"arm": lots(rng, 24)[team], "cluster": team.astype(str)})
    frame["outcome"] = -20 + 2 * frame["arm"] + rng.normal(size=24)[team] + rng.normal(size=192)
    study = make_study(frame)
    estimate = ab.estimates(study)[0]
    percent = percent_effect(study, estimate)
    assert percent.value == pytest.approx(100 * estimate.value / abs(percent.comparison_mean))
    assert percent.low < percent.value < percent.high and percent.comparison_mean < 0
    strata = make_study(
        frame.drop(columns="cluster").assign(stratum=np.where(team < 12, "a", "b")),
        {"kind": "randomised", "columns": {"stratum": "stratum"}}, covariates=(),
    )  # fmt: skip
    blocked = percent_effect(strata, ab.estimates(strata)[0])
    means = strata.frame[strata.frame["arm"] == 0].groupby("stratum")["outcome"].mean()
    shares = strata.frame["stratum"].value_counts(normalize=True)
    assert blocked.comparison_mean == pytest.approx((means * shares).sum())


def test_no_percentage_without_an_end():
    # Base 2.3 standard errors off zero: Fieller's 99% interval has no end (t is above 2.6).
    arm = np.repeat([0, 1], 100)
    outcome = np.tile([1.0, -1.0], 100) + 0.23 + arm
    study = make_study(pd.DataFrame({"arm": arm, "outcome": outcome}), level=0.99)
    percent = percent_effect(study, ab.difference_in_means(study))
    assert percent.value is None and "has no end" in percent.reason
    wide = make_study(pd.DataFrame({"arm": arm, "outcome": outcome}), level=0.9)
    assert percent_effect(wide, ab.difference_in_means(wide)).high > 400


# Dose


def dose_study(frame):
    return make_study(frame, {"kind": "randomised", "columns": {"dose": "hours"}}, covariates=())


def test_dose_by_hand_and_against_two_stage_least_squares():
    # Doses 2 and 4 against none; mean KPI 15 against 12: 3 more for 3 hours more, 1 per hour.
    arm = np.repeat([1, 0], 20)
    frame = pd.DataFrame({"arm": arm, "dose": np.tile([2.0, 4], 20) * arm})
    frame["outcome"] = np.tile([13.0, 17], 20) * arm + np.tile([11.0, 13], 20) * (1 - arm)
    found = dose_response(dose_study(frame))
    assert found.estimate.value == pytest.approx(1) and found.mean_gap == pytest.approx(3)
    design = pd.DataFrame({"constant": 1.0, "dose": frame["dose"], "arm": arm.astype(float)})
    fit = IV2SLS(frame["outcome"], design[["constant"]], design["dose"], design["arm"]).fit(
        cov_type="robust", debiased=True
    )
    assert found.estimate.se == pytest.approx(fit.std_errors["dose"], rel=1e-6)
    assert found.bands == (("up to 2", 10, 13.0), ("over 2 to 4", 10, 17.0))
    assert "not a causal comparison" in str(found) and math.isnan(found.estimate.p_target)


def test_dose_bands_hide_small_groups():
    arm = np.repeat([1, 0], 20)
    dose = np.where(np.arange(40) < 4, 0.0, np.arange(40) % 5 + 1.0) * arm
    rng = np.random.default_rng(18)
    found = dose_response(
        dose_study(pd.DataFrame({"arm": arm, "dose": dose, "outcome": rng.normal(size=40)}))
    )
    assert found.bands == ()


def test_dose_that_cannot_be_told():
    rng = np.random.default_rng(19)
    arm = np.repeat([1, 0], 30)
    frame = pd.DataFrame({"arm": arm, "outcome": rng.normal(size=60)})
    assert "the same dose" in dose_response(dose_study(frame.assign(dose=3.0 * arm))).reason
    assert (
        "did not receive more"
        in dose_response(dose_study(frame.assign(dose=1 - arm + rng.random(60)))).reason
    )
    unknown = np.where(arm == 1, rng.random(60) + 1, np.nan)
    unknown[0] = np.nan
    found = dose_response(dose_study(frame.assign(dose=unknown)))
    assert found.estimate is not None and "fewer than 10 program agents" in found.notes[1]
    assert dose_response(hand_study()) is None


def test_dose_follows_the_lot_not_the_choice():
    rng = np.random.default_rng(20)
    study, _ = world_dose(rng, 1.0)
    rows = study.frame[study.frame["arm"] == 1]
    naive = np.polyfit(rows["dose"], rows["outcome"], 1)[0]
    found = dose_response(study).estimate
    assert naive > 1 and found.low < 0.5 < found.high < naive


# Coverage


@pytest.mark.parametrize(("name", "world", "estimator"), WORLDS, ids=[name for name, _, _ in WORLDS])
@pytest.mark.parametrize("effect", [0.0, 1.0])
def test_intervals_cover(name, world, estimator, effect):
    # 100 runs of 90% intervals each; the full table comes from tests/coverage_ab.py.
    rng, hits = np.random.default_rng(21), 0
    for _ in range(RUNS):
        study, (truth,) = world(rng, effect)
        ((low, high),) = estimator(study)
        hits += low <= truth <= high
    assert hits / RUNS > LEVEL - MONTE_CARLO * math.sqrt(LEVEL * (1 - LEVEL) / RUNS)
