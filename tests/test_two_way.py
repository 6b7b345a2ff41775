"""The two-way family: engines that agree, Goodman-Bacon weights by hand, Sun and Abraham."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from ldlab.did import panel as engine
from ldlab.did.events import effects_since_start, event_study
from ldlab.did.group_time import group_time
from ldlab.did.panel import fixed_effects
from ldlab.did.regression import by_cells, by_rows, cells_of
from ldlab.did.two_way import first_difference, two_way_fixed_effects
from ldlab.did.weights import goodman_bacon
from ldlab.plots.weights import comparison_weights
from ldlab.program import LdlabError
from tests.studies import make_study
from tests.test_did import company, panel


def waves(rng, *, gaps=0.0, cluster_size=4, units=80):
    frame = company(
        rng, units=units, starts=(2, 3, 4), effect=(1.0, 2.0), cluster_size=cluster_size, gaps=gaps
    )
    return make_study(frame, "staggered", minimum=5)


def dummies_of(study):
    """Event-time dummies against the last period before the start."""
    event = study.frame["period"] - study.frame["start"]
    times = sorted(event.dropna().unique())
    return pd.DataFrame({f"week {time:g}": (event == time).astype(float) for time in times if time != -1})


@pytest.mark.parametrize("se", ["cluster", "classical"])
@pytest.mark.parametrize(("gaps", "cluster_size"), [(0.0, 4), (0.2, 4), (0.2, 1)])
def test_three_engines_give_the_same_numbers(gaps, cluster_size, se):
    study = waves(np.random.default_rng(1), gaps=gaps, cluster_size=cluster_size)
    rows, regressors = study.frame, dummies_of(study)
    small = fixed_effects(rows, regressors, se)
    pyfixest = by_rows(rows, regressors, se, ["unit", "period"], True)
    cells = cells_of(rows, regressors)
    assert cells is not None
    sums = by_cells(rows, cells, list(regressors), se)
    for fit in (pyfixest, sums):
        np.testing.assert_allclose(fit.params, small.params, atol=1e-9)
        # linearmodels finds the means of panels with gaps by iteration.
        np.testing.assert_allclose(fit.cov, small.cov, rtol=1e-5, atol=1e-9)
        assert fit.df_resid == small.df_resid


def test_large_panels_take_the_quick_way_and_give_the_same(monkeypatch):
    study = waves(np.random.default_rng(2), gaps=0.1)
    small = [two_way_fixed_effects(study), *effects_since_start(study), *event_study(study).estimates]
    monkeypatch.setattr(engine, "MOST_ROWS", 0)
    monkeypatch.setattr(engine, "_linearmodels_effects", None)
    large = [two_way_fixed_effects(study), *effects_since_start(study), *event_study(study).estimates]
    for one, other in zip(small, large, strict=True):
        assert (one.value, one.se) == pytest.approx((other.value, other.se), rel=1e-5)
        assert one.df == other.df


def test_large_panels_whose_units_move_go_to_pyfixest(monkeypatch):
    rng = np.random.default_rng(3)
    frame = waves(rng, gaps=0.1).frame
    study = make_study(frame.assign(cluster=rng.integers(0, 9, len(frame))), "staggered", minimum=5)
    small = two_way_fixed_effects(study)
    monkeypatch.setattr(engine, "MOST_ROWS", 0)
    large = two_way_fixed_effects(study)
    assert (small.value, small.se) == pytest.approx((large.value, large.se), rel=1e-5)


def test_regressors_that_vary_within_start_and_period_are_no_cells():
    study = waves(np.random.default_rng(4))
    own = pd.DataFrame({"x": np.random.default_rng(5).normal(size=len(study.frame))}, index=study.frame.index)
    assert cells_of(study.frame, own) is None


@pytest.mark.parametrize("most", [300_000, 0])
def test_absorbed_treatment_is_refused_by_every_engine(monkeypatch, most):
    always = make_study(panel([[1, 2], [2, 5], [3, 3]], [0, 0, None]), "staggered")
    monkeypatch.setattr(engine, "MOST_ROWS", most)
    with pytest.raises(LdlabError, match="nothing of the treatment left"):
        two_way_fixed_effects(always)
    moved = always.frame.assign(cluster=[0, 1, 0, 0, 1, 1])
    with pytest.raises(LdlabError, match="nothing of the treatment left"):
        fixed_effects(moved, moved[["treated"]].astype(float), "cluster", cluster_effects=True)


@pytest.mark.parametrize("most", [300_000, 0])
def test_errors_are_those_of_first_differences_not_sqrt_2_wider(monkeypatch, most):
    # Both carry G/(G-1); besides, n-1 over n-k is 239/239 in the panel and 119/118 in differences.
    monkeypatch.setattr(engine, "MOST_ROWS", most)
    rng = np.random.default_rng(6)
    frame = company(rng, units=120, periods=2, starts=(1,), cluster_size=4)
    study = make_study(frame, "two_group_before_after")
    two_way, difference = two_way_fixed_effects(study), first_difference(study)
    assert two_way.value == pytest.approx(difference.value)
    assert two_way.se == pytest.approx(difference.se * math.sqrt(118 / 119))


def test_cluster_effects_match_least_squares_with_dummies():
    rng = np.random.default_rng(7)
    frame = waves(rng).frame
    moved = frame.assign(cluster=frame["cluster"] + (rng.random(len(frame)) < 0.3))
    study = make_study(moved, "staggered", minimum=5)
    dummies = pd.get_dummies(moved[["unit", "period", "cluster"]].astype(str), drop_first=True, dtype=float)
    design = sm.add_constant(dummies.join(study.frame["treated"].astype(float)))
    ols = sm.OLS(study.frame["outcome"], design).fit()
    estimate = two_way_fixed_effects(study, se="classical", cluster_effects=True)
    assert (estimate.value, estimate.se) == pytest.approx((ols.params["treated"], ols.bse["treated"]))
    assert estimate.method == "two-way fixed effects and cluster effects"
    with pytest.raises(LdlabError, match="no units that change cluster"):
        two_way_fixed_effects(waves(rng), cluster_effects=True)


def test_periods_of_anticipation_are_no_before():
    # Changes without the announcement's week: trained 4 - 1, comparison 2 - 1.
    frame = panel([[1, 9, 4]] * 10 + [[1, 5, 2]] * 10, [2] * 10 + [None] * 10)
    noise = np.random.default_rng(8).normal(size=len(frame)) * 1e-6
    design = {"kind": "two_group_before_after", "anticipation": 1}
    study = make_study(frame.assign(outcome=frame["outcome"] + noise), design)
    assert two_way_fixed_effects(study).value == pytest.approx(2, abs=1e-4)


# --- Goodman-Bacon

THREE = panel([[0, 3, 4]] * 10 + [[0, 1, 5]] * 10 + [[0, 1, 1]] * 10, [1] * 10 + [2] * 10 + [None] * 10)


def test_comparisons_and_weights_by_hand():
    # Early (trained in 2/3 of the periods), late (1/3), never, ten units each.
    # Early against never: (3 + 4)/2 - 0 - (1 - 0) = 2.5; late: 5 - 1/2 - (1 - 1/2) = 4.
    # Early against late before late starts: 3 - (1 - 0) = 2; late against early after early started: 4 - 1 = 3.
    # Weights in proportion to 2/3 * 1/3, 1/3 * 2/3, (2/3 - 1/3)(1 - 2/3), 1/3 * (2/3 - 1/3): 1/3, 1/3, 1/6, 1/6.
    study = make_study(THREE, "staggered")
    parts = goodman_bacon(study)
    found = {(p.trained, p.comparison): (p.weight, p.estimate) for p in parts.comparisons}
    expected = {
        ("1", "never"): (1 / 3, 2.5),
        ("2", "never"): (1 / 3, 4),
        ("1", "2"): (1 / 6, 2),
        ("2", "1"): (1 / 6, 3),
    }
    assert found.keys() == expected.keys()
    for groups, numbers in expected.items():
        assert found[groups] == pytest.approx(numbers)
    assert parts.value == pytest.approx(3)
    assert parts.already_trained == pytest.approx(1 / 6)
    assert [p.kind for p in parts.comparisons if p.comparison == "1"] == ["later against earlier"]
    assert "later against earlier           1    17%" in str(parts)


@pytest.mark.parametrize("never", [10, 0])
def test_comparisons_add_up_to_the_two_way_estimate(never):
    rng = np.random.default_rng(9)
    start = [2] * 10 + [4] * 14 + [5] * 11 + [None] * never
    study = make_study(panel(rng.normal(size=(len(start), 8)), start), "staggered")
    parts = goodman_bacon(study)
    assert sum(p.weight for p in parts.comparisons) == pytest.approx(1)
    assert sum(p.weight * p.estimate for p in parts.comparisons) == pytest.approx(
        two_way_fixed_effects(study).value
    )
    assert {p.kind for p in parts.comparisons} >= {"earlier against later", "later against earlier"}
    assert len(parts.comparisons) == 6 + 3 * bool(never)


def test_decomposition_is_not_run_with_its_reason():
    gaps = goodman_bacon(make_study(THREE.drop(index=4), "staggered"))
    together = goodman_bacon(make_study(THREE[THREE["start"] != 2], "staggered"))
    assert "not seen in every week" in gaps.not_run
    assert "all start together" in together.not_run
    assert gaps.already_trained is together.already_trained is None
    assert str(gaps).startswith("not run: ")
    assert comparison_weights(gaps, make_study(THREE, "staggered")) is None


def test_small_groups_are_not_shown():
    study = make_study(THREE.drop(index=range(3)), "staggered")  # nine start early
    parts = goodman_bacon(study)
    assert {(p.trained, p.comparison) for p in parts.comparisons} == {("2", "never")}
    assert parts.hidden == pytest.approx(1 - sum(p.weight for p in parts.comparisons))
    assert parts.already_trained is None
    figure = comparison_weights(parts, study)
    assert figure is not None
    assert figure.title == "What the two-way estimate compares, but for groups too small to show"
    assert "too small to show" in str(parts)


def test_weights_as_a_picture():
    study = make_study(THREE, "staggered")
    figure = comparison_weights(goodman_bacon(study), study)
    assert figure is not None
    assert figure.title == "17% of the two-way estimate compares with units already trained"
    assert "2 comparisons against never trained, 67% of the weight, estimates +2.50 to +4.00" in figure.alt
    assert "two-way estimate of +3.00 minutes" in figure.alt
    assert figure.png().startswith(b"\x89PNG")


def test_sun_and_abraham_is_the_group_time_estimate_with_never_trained_controls():
    # In a balanced panel without covariates the saturated regression's cells are the group-time effects.
    import pyfixest

    study = waves(np.random.default_rng(10), units=160)
    rows = study.frame.assign(
        cohort=study.frame["start"].fillna(-1).astype(int) + 1, time=study.frame["period"] + 1
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = pyfixest.event_study(
            rows, yname="outcome", idname="unit", tname="time", gname="cohort", estimator="saturated",
            cluster="cluster",
        )  # fmt: skip
        by_event = fit.aggregate(weighting="shares")["Estimate"]
    ours = group_time(study, controls="never")
    assert ours is not None
    for time, estimate in zip(ours.by_event.event_times, ours.by_event.estimates, strict=True):
        if time >= 0:
            assert estimate.value == pytest.approx(float(by_event.loc[float(time)]), abs=1e-6)


@pytest.mark.parametrize("clusters", [12, 20, 40])
def test_sums_bear_the_rounding_of_large_balanced_panels(clusters):
    # The period dummies' cross product is singular: a constant adds nothing. Rounding makes that a small number.
    rng = np.random.default_rng(11)
    for _ in range(20):
        frame = company(rng, units=10 * clusters, periods=10, starts=(5,), cluster_size=10)
        study = make_study(frame, "staggered", minimum=5)
        regressors = study.frame[["treated"]].astype(float)
        cells = cells_of(study.frame, regressors)
        fit = by_cells(study.frame, cells, ["treated"], "cluster")
        means = study.frame.assign(after=study.frame["period"] >= 5).pivot_table("outcome", "arm", "after")
        assert fit.params["treated"] == pytest.approx((means[True] - means[False]).diff()[1], abs=1e-9)


def test_large_panels_without_a_comparison_go_to_pyfixest(monkeypatch):
    rng = np.random.default_rng(12)
    study = make_study(panel(rng.normal(size=(30, 5)), [2] * 30), "before_after", minimum=5)
    small = effects_since_start(study)
    monkeypatch.setattr(engine, "MOST_ROWS", 0)
    for one, other in zip(small, effects_since_start(study), strict=True):
        assert (one.value, one.se, one.df) == pytest.approx((other.value, other.se, other.df), rel=1e-6)
