"""Inference by the number of clusters: tables by hand, references, false alarms and power, refusals."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from ldlab import did
from ldlab.checks.clusters import enough_clusters
from ldlab.did.by_cluster import Blocks
from ldlab.did.clusters import clusters_of
from ldlab.did.engines import _by_refits, _named, engine_of, parts_of
from ldlab.did.estimators import before_after, lead_estimate
from ldlab.did.inference import bell_mccaffrey_df, infer, plan_inference
from ldlab.did.permutation import Confidence, assignments, ways
from ldlab.did.two_way import two_way_fixed_effects
from ldlab.did.wild_bootstrap import wild_cluster_p_value
from ldlab.plots.permutation import permutation
from ldlab.program import LdlabError
from tests.studies import make_study
from tests.test_did import company, panel
from tests.worlds_inference import NEVER, Setting, score, study_of, treated_of, two_way

RUNS = 300
MONTE_CARLO = 3  # standard errors of a simulated share


def at_most(share, runs=RUNS):
    """The largest share of ``runs`` that chance makes of ``share``."""
    return share + MONTE_CARLO * math.sqrt(share * (1 - share) / runs)


def changes(trained, comparison, **sections):
    """Two periods, one unit per cluster, with these changes."""
    outcomes = [[0, change] for change in (*trained, *comparison)]
    start = [1] * len(trained) + [None] * len(comparison)
    frame = panel(outcomes, start, cluster=[f"team {i}" for i in range(len(start))])
    return make_study(frame, "two_group_before_after", **sections)


def few(rng, start, *, gaps=0.0, estimator="two_way", size=6, periods=8, level=0.9):
    """Clusters of ``size`` units with these starts; autocorrelated cluster shocks."""
    frame = company(rng, units=len(start) * size, periods=periods, cluster_size=size, gaps=gaps)
    frame["start"] = np.array(start, dtype=float)[frame["cluster"]]
    return make_study(frame, "staggered", minimum=5, level=level, agreement={"estimator": estimator})


# --- Permutation


def test_permutation_of_four_clusters_by_hand():
    # Changes 5, 7 | 0, 2: 6 - 1 = 5. Two other teams: -2, 0, 0, 2 with one of the trained among them, which moves
    # with the effect by 1/2 - 1/2 = 0, and -5 with none, which moves by -1. The effects from which they are more
    # extreme: 5+2, 5-0, 5-0, 5-2, (5+5)/2, so 3 5 5 5 7. With the true one: p = 2 * 1/6 of no effect.
    # 50% interval: of 6, 1.5 in each tail, so the first and the last: 3 to 7.
    # Placebos freed from the effect of 5: -2, 0, 0, 2, -5+5: squares 8, over 5.
    study = changes([5, 7], [0, 2], level=0.5)
    inferred = infer(study, two_way_fixed_effects(study))
    estimate, inference = inferred
    assert (inference.rule, inference.assignments, inference.drawn) == ("permutation", 6, 6)
    assert inference.p_value == pytest.approx(1 / 3)
    assert sorted(inference.placebos) == pytest.approx([-5, -2, 0, 0, 2])
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((5, 3, 7))
    assert estimate.se == pytest.approx(math.sqrt(8 / 5))
    assert estimate.se_kind == "permutation of 4 clusters (cluster), 6 assignments"
    # The true one counts half: above 0 are 5.5 of 6; above the target, 1, too; between -0.5 and 0.5 none.
    assert (estimate.p_gain, estimate.p_target, estimate.p_negligible) == pytest.approx((5.5 / 6, 5.5 / 6, 0))


def test_chances_have_the_direction_of_the_kpi():
    study = changes([5, 7], [0, 2], level=0.5, kpi={"direction": "decrease"})
    estimate = infer(study, two_way_fixed_effects(study)).estimate
    assert (estimate.p_gain, estimate.p_target) == pytest.approx((0.5 / 6, 0.5 / 6))


def test_confidence_distribution_is_the_inversion_of_the_tests():
    # Against the definition: at each effect, the share of assignments whose freed estimate is as extreme.
    study = few(np.random.default_rng(1), [3, 5, 5] + [NEVER] * 7)
    estimate = two_way_fixed_effects(study)
    engine = engine_of(study, estimate, "two_way")
    starts = Blocks.of(study.frame).start
    placebos, moved = engine.reassigned(assignments(starts, 5_000, 1)).T
    told = Confidence.of(estimate.value, placebos, moved)
    assert len(placebos) == ways(starts) - 1 == 10 * 36 - 1
    for effect in np.linspace(estimate.value - 4, estimate.value + 4, 41):
        freed, own = placebos - effect * moved, estimate.value - effect
        sides = (1 + (freed >= own).sum(), 1 + (freed <= own).sum())
        assert told.p_value(effect) == pytest.approx(min(1, 2 * min(sides) / (len(placebos) + 1)))
    low, high = told.interval(0.9)
    for end, inside in ((low, 1e-6), (high, -1e-6)):
        assert told.p_value(end + inside) > 0.1 >= told.p_value(end - inside)


def test_assignments_that_cannot_tell_count_against_both_sides():
    told = Confidence.of(2.0, np.array([1.0, 5.0, np.nan]), np.array([0.0, 1.0, 0.0]))
    assert told.p_value(0) == 1.0
    assert told.interval(0.5) == (-math.inf, math.inf)
    assert told.above(1.0) == pytest.approx(0.5)


def test_assignments_are_all_different_or_drawn_by_seed():
    starts = np.array([2.0, 2.0, 4.0, np.inf, np.inf, np.inf])
    every = assignments(starts, 5_000, seed=1)
    assert ways(starts) == 60
    assert len({tuple(row) for row in every}) == len(every) == 59
    assert all(sorted(row) == sorted(starts) for row in every)
    drawn = assignments(starts, 20, seed=1)
    assert drawn.shape == (19, 6)
    np.testing.assert_array_equal(drawn, assignments(starts, 20, seed=1))
    assert (drawn != assignments(starts, 20, seed=2)).any()


# --- Sums by cluster


@pytest.mark.parametrize("estimator", ["two_way", "group_time", "imputation"])
@pytest.mark.parametrize("start", [[3, 5, 5, 6] + [NEVER] * 4, [3, 3, 5, 5, 5, 6, 6]])
def test_sums_give_what_running_the_estimator_again_gives(estimator, start):
    rng = np.random.default_rng(2)
    study = few(rng, start, gaps=0.15, estimator=estimator, size=12)
    estimate = lead_estimate(study)
    quick, slow = engine_of(study, estimate, estimator), _by_refits(study, _named(estimator, study))
    assert (quick.refits, slow.refits) == (False, True)
    np.testing.assert_allclose(quick.without_each(), slow.without_each(), atol=1e-6)
    starts = np.where(np.isnan(start), np.inf, start)
    dealt = np.array([rng.permutation(starts) for _ in range(4)])
    np.testing.assert_allclose(quick.reassigned(dealt), slow.reassigned(dealt), atol=1e-6)


def test_estimators_without_sums_are_run_again():
    study = few(np.random.default_rng(3), [3, 3] + [NEVER] * 5, level=0.6)

    def last_less_first(study):
        """Difference in differences of the first and the last period alone, by units."""
        ends = study.frame[study.frame["period"].isin([0, 7])]
        return two_way_fixed_effects(replace(study, frame=ends)).value

    estimate = two_way_fixed_effects(replace(study, frame=study.frame[study.frame["period"].isin([0, 7])]))
    inferred = infer(study, estimate, estimator=last_less_first)
    change = (
        study.frame[study.frame["period"].isin([0, 7])]
        .pivot_table("outcome", "cluster", "period")
        .diff(axis=1)[7]
    )
    placebos = [
        change[list(pair)].mean() - change.drop(list(pair)).mean()
        for pair in itertools.combinations(range(7), 2)
    ]
    assert inferred.inference.drawn == 21
    assert sorted([*inferred.inference.placebos, estimate.value]) == pytest.approx(sorted(placebos))
    with pytest.raises(LdlabError, match="Name the estimator that made it"):
        infer(study, estimate)
    with pytest.raises(LdlabError, match="found estimator 'ols'"):
        infer(study, estimate, estimator="ols")


# --- Each cluster left out in turn


def test_jackknife_by_hand():
    # Trained 1 to 5, comparison -2 to 2. Without the change x of a mean m of 5: m - (x - m)/4, so both arms deviate
    # by .5 .25 0 .25 .5: squares .625 each, times 9/10. Welch's degrees of freedom of 5 and 5: 8.
    study = changes([1, 2, 3, 4, 5], [-2, -1, 0, 1, 2], minimum=5)
    estimate, inference = infer(study, two_way_fixed_effects(study))
    assert inference.rule == "jackknife"
    assert (estimate.value, estimate.se, estimate.df) == pytest.approx((3, math.sqrt(2 * 0.625 * 0.9), 8))
    assert estimate.se_kind == "cluster by cluster, CR3"


def test_jackknife_is_the_cr3_of_pyfixest():
    import pyfixest

    study = few(np.random.default_rng(4), [3, 3, 4, 4, 5, 6] + [NEVER] * 6, gaps=0.1)
    estimate = infer(study, two_way_fixed_effects(study)).estimate
    fit = pyfixest.feols(
        "outcome ~ treated | unit + period", study.frame, vcov={"CRV3": "cluster"},
        ssc=pyfixest.ssc(k_adj=False, G_adj=False), fixef_rm="none",
    )  # fmt: skip
    # Without its factors pyfixest gives the sum of squares.
    assert estimate.se == pytest.approx(float(fit.se().iloc[0]) * math.sqrt(11 / 12), rel=1e-5)


def test_degrees_of_freedom():
    # (1/2 + 1/10)**2 / (1/4 + 1/100/9)
    assert bell_mccaffrey_df(2, 10) == pytest.approx(0.36 / (0.25 + 1 / 900))
    assert bell_mccaffrey_df(20, 20) == pytest.approx(38)
    several = plan_inference(few(np.random.default_rng(5), [2, 3, 4, 5, 6, 6] + [NEVER] * 6))
    assert several.df == 12 - 6


# --- Wild cluster bootstrap


def test_wild_bootstrap_is_the_enumeration_of_all_signs():
    # Written out: the model without the effect, its residuals with each team's sign, the t statistic again.
    study = few(np.random.default_rng(6), [3, 3, 5] + [NEVER] * 3, gaps=0.1, size=4, periods=6)
    rows = study.frame
    effects = sm.add_constant(
        pd.get_dummies(rows[["unit", "period"]].astype(str), drop_first=True, dtype=float)
    )
    treated = sm.OLS(rows["treated"].astype(float), effects).fit().resid.to_numpy()
    restricted = sm.OLS(rows["outcome"], effects).fit()
    projection = effects.to_numpy() @ np.linalg.pinv(effects.to_numpy())

    def t_of(outcome):
        effect = treated @ outcome / (treated @ treated)
        residual = outcome - projection @ outcome - effect * treated
        scores = pd.Series(treated * residual).groupby(rows["cluster"].to_numpy()).sum()
        return effect / (np.sqrt((scores**2).sum() * 6 / 5) / (treated @ treated))

    observed = abs(t_of(rows["outcome"].to_numpy()))
    signs = np.array(list(itertools.product([1, -1], repeat=6)))[:, rows["cluster"]]
    drawn = [abs(t_of(restricted.fittedvalues.to_numpy() + s * restricted.resid.to_numpy())) for s in signs]
    p = wild_cluster_p_value(study)
    assert p == pytest.approx((np.array(drawn) >= observed * (1 - 1e-9)).mean())
    assert 2 / 64 <= p <= 1


def test_wild_bootstrap_agrees_with_diff_diff():
    from diff_diff.utils import wild_bootstrap_se

    study = few(np.random.default_rng(7), [3] * 6 + [NEVER] * 6, size=3, periods=5)
    rows = study.frame
    dummies = pd.get_dummies(rows[["unit", "period"]].astype(str), drop_first=True, dtype=float)
    X = np.column_stack([rows["treated"], np.ones(len(rows)), dummies])
    fit = wild_bootstrap_se(
        X, rows["outcome"].to_numpy(), np.zeros(len(rows)), rows["cluster"].to_numpy(), 0, n_bootstrap=4096
    )
    assert wild_cluster_p_value(study) == pytest.approx(fit.p_value, abs=2 / 4096)


def test_wild_bootstrap_needs_clusters_that_hold_their_units():
    study = few(np.random.default_rng(8), [3] * 3 + [NEVER] * 3)
    moved = study.frame.assign(cluster=study.frame["period"] % 2)
    with pytest.raises(LdlabError, match="units that change cluster"):
        wild_cluster_p_value(replace(study, frame=moved))


# --- The rule, and what it does


@pytest.mark.parametrize(
    ("treated", "clusters", "rule"),
    [(1, 12, "none"), (1, 40, "none"), (11, 12, "none"), (2, 5, "none"), (2, 7, "permutation"), (4, 40, "permutation"),
     (3, 6, "permutation"), (5, 12, "jackknife"), (39, 100, "jackknife"), (40, 80, "clustered")],
)  # fmt: skip
def test_the_rule_goes_by_numbers_of_clusters(treated, clusters, rule):
    study = study_of(Setting("", treated_of(treated, clusters)), np.random.default_rng(9))
    inference = plan_inference(study)
    assert inference.rule == rule
    assert (inference.treated_clusters, inference.comparison_clusters) == (treated, clusters - treated)
    # 90% needs 20 ways: 5 teams give 10, 7 give 21, 3 of 6 just 20.


def test_the_last_to_start_are_a_comparison_and_not_treated():
    inference = plan_inference(few(np.random.default_rng(10), [2, 2, 4, 4, 4, 6, 6, 6, 6]))
    assert (inference.treated_clusters, inference.comparison_clusters) == (5, 7)


def test_two_treated_clusters_alarm_as_often_as_they_should():
    found = score(Setting("", treated_of(2, 12)), RUNS)
    assert found.rule == "permutation"
    assert found.alarms <= at_most(0.1)
    assert found.clustered_alarms > at_most(0.1)
    # Where there is nothing, the chance of a gain is as often below 10% as above 90%: uniform.
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        share = float((np.array(found.gains) <= quantile).mean())
        assert share == pytest.approx(quantile, abs=0.02 + at_most(quantile) - quantile)


def test_six_treated_clusters_alarm_as_often_as_they_should():
    found = score(Setting("", treated_of(6, 12, (3, 5, 7))), RUNS)
    assert found.rule == "jackknife"
    assert found.alarms <= at_most(0.1)


def test_twenty_treated_clusters_alarm_as_often_as_they_should():
    found = score(Setting("", treated_of(20, 40)), RUNS)
    assert found.rule == "jackknife"
    assert found.alarms <= at_most(0.1)


def test_intervals_hold_a_true_effect_and_find_it():
    # 3 is about four standard errors with 2 of 12 clusters, five with 6.
    for treated in (2, 6):
        found = score(Setting("", treated_of(treated, 12), effect=3.0), 60)
        assert 1 - found.covered <= at_most(0.1, 60)
        assert found.alarms > 0.8


def test_many_clusters_leave_the_estimate_as_it_is():
    study = study_of(Setting("", treated_of(40, 80)), np.random.default_rng(12))
    estimate = two_way(study)
    inferred = infer(study, estimate)
    assert inferred.estimate == estimate
    assert (
        inferred.inference.why
        == "There are 40 trained clusters (cluster) and 40 to compare with: enough for clustered errors."
    )
    ratio = abs(estimate.value / estimate.se)
    assert inferred.inference.p_value == pytest.approx(math.erfc(ratio / math.sqrt(2)), abs=0.02)


def test_starts_that_differ_within_clusters_are_not_permuted():
    rng = np.random.default_rng(13)
    frame = company(rng, units=60, cluster_size=20)
    frame["start"] = np.where(frame["unit"] % 2 == 0, 3.0, np.nan)
    study = make_study(frame, "staggered", minimum=5, agreement={"estimator": "two_way"})
    estimate, inference = infer(study, two_way_fixed_effects(study))
    assert (inference.rule, inference.whole, estimate.df) == ("jackknife", False, 2)
    assert "starts differ within a cluster" in inference.why
    two = make_study(frame[frame["cluster"] < 2], "staggered", minimum=5)
    assert plan_inference(two).rule == "none"


def test_units_that_change_cluster_are_left_out_with_the_rows_of_that_cluster():
    study = few(np.random.default_rng(14), [3] * 5 + [NEVER] * 5)
    moved = study.frame.assign(cluster=(study.frame["cluster"] + (study.frame["period"] == 0)) % 10)
    study = replace(study, frame=moved)
    estimate = two_way_fixed_effects(study)
    inferred = infer(study, estimate)
    without = [
        two_way_fixed_effects(replace(study, frame=moved[moved["cluster"] != c])).value for c in range(10)
    ]
    assert inferred.inference.rule == "jackknife"
    assert inferred.estimate.se == pytest.approx(
        math.sqrt(0.9 * sum((x - estimate.value) ** 2 for x in without))
    )


def test_one_treated_cluster_gets_no_interval():
    study = few(np.random.default_rng(15), [3] + [NEVER] * 11)
    plain = two_way_fixed_effects(study)
    estimate, inference = infer(study, plain)
    assert inference.rule == "none"
    assert estimate.value == plain.value
    assert (estimate.low, estimate.high, estimate.se) == (-math.inf, math.inf, math.inf)
    assert math.isnan(estimate.p_gain) and math.isnan(estimate.p_target) and math.isnan(estimate.p_negligible)
    assert "no interval can be given" in str(estimate)
    check = enough_clusters(study, inference)
    assert (check.status, check.breaks, check.needed) == ("failed", True, True)
    assert check.sentence == (
        "There is 1 trained cluster (cluster) and 11 to compare with: chance among so few cannot be told from an "
        "effect, so no interval can be given."
    )
    assert permutation(estimate, inference) is None


def test_a_cluster_that_carries_all_leaves_nothing_certain():
    # Gaps: in one comparison cluster alone both weeks were seen.
    rng = np.random.default_rng(16)
    study = few(rng, [1] * 5 + [NEVER] * 5, periods=2)
    rows = study.frame
    study = replace(study, frame=rows[(rows["arm"] == 1) | (rows["period"] == 0) | (rows["cluster"] == 9)])
    estimate = infer(study, two_way_fixed_effects(study)).estimate
    assert estimate.low < 0 < estimate.high


def test_before_after_keeps_its_error():
    rng = np.random.default_rng(17)
    study = make_study(panel(rng.normal(size=(12, 4)), [2] * 12), "before_after", minimum=5)
    estimate = before_after(study)
    inferred = infer(study, estimate)
    assert inferred.estimate == estimate
    assert "nobody to compare with" in inferred.inference.why
    assert enough_clusters(study, inferred.inference).statistic == 12


def test_small_groups_of_units_are_not_counted_in_words():
    rng = np.random.default_rng(18)
    study = make_study(panel(rng.normal(size=(30, 4)), [2] * 4 + [None] * 26), "staggered", level=0.9)
    estimate, inference = infer(study, two_way_fixed_effects(study), estimator="two_way")
    assert inference.rule == "permutation"
    assert inference.treated_clusters is None
    assert "fewer than 10 trained agents and 26 to compare with" in inference.why
    assert "the ways in which" in inference.why
    assert estimate.se_kind == "permutation of 30 agents"
    assert permutation(estimate, inference) is None
    assert enough_clusters(study, inference).statistic is None
    assert "27,405" not in str(enough_clusters(study, inference))


def test_check_and_picture_of_a_permutation():
    study = few(np.random.default_rng(19), [3, 3] + [NEVER] * 10)
    estimate, inference = infer(study, two_way_fixed_effects(study))
    check = enough_clusters(study, inference)
    assert (check.status, check.statistic) == ("passed", 2)
    assert "interval comes from all 66 ways in which the trained could have been chosen" in check.sentence
    assert "smallest p-value that it can give is 0.03" in check.power
    figure = permutation(estimate, inference)
    assert figure is not None
    beyond = sum(abs(x) >= abs(estimate.value) for x in inference.placebos)
    assert figure.title.startswith(
        f"Had training fallen to others, {beyond} of the 65" if beyond else "None of the 65 other ways"
    )
    assert f"p-value {inference.p_value:.2g}" in figure.alt
    assert figure.png().startswith(b"\x89PNG")
    assert "p-value of no effect" in str(inference)


def test_nothing_is_changed_and_the_seed_settles_it():
    study = few(np.random.default_rng(20), [2, 3, 4, 5] + [NEVER] * 12)
    before, estimate = study.frame.copy(), two_way_fixed_effects(study)
    one, two = (infer(study, estimate) for _ in range(2))
    assert one.inference.drawn == 5_000 < one.inference.assignments
    assert one == two
    pd.testing.assert_frame_equal(study.frame, before)
    assert clusters_of(study.frame).nunique() == 16


def test_group_time_effects_count_whom_they_compare_with():
    # 5 never trained are compared with; 9 are untrained while others are trained.
    study = few(np.random.default_rng(21), [2] * 3 + [4] * 2 + [6] * 2 + [NEVER] * 5, estimator="group_time")
    inference = plan_inference(study)
    assert (inference.treated_clusters, inference.comparison_clusters) == (7, 5)
    assert inference.df == pytest.approx(min(bell_mccaffrey_df(7, 5), 12 - 4))
    assert plan_inference(study, estimator="two_way").comparison_clusters == 9
    estimate = infer(study, lead_estimate(study)).estimate
    assert estimate.df == inference.df


def test_many_clusters_of_one_start_are_left_out_in_groups():
    # 12 trained units, 900 never trained: 400 groups of these, each trained unit alone.
    cluster = np.arange(912)
    start = np.where(cluster < 12, 5.0, np.inf)
    part = parts_of(cluster, start, 400)
    sizes = np.bincount(part)
    assert sizes[part[:12]].tolist() == [1] * 12
    assert len(sizes) == 412 and set(sizes[part[12:]]) == {2, 3}


def test_groups_left_out_give_nearly_the_error_of_each_left_out():
    rng = np.random.default_rng(8)
    frame = pd.DataFrame({"unit": np.repeat(np.arange(900), 6), "period": np.tile(np.arange(6), 900)})
    frame["start"] = np.where(frame["unit"] < 20, 3.0, np.nan)
    frame["outcome"] = rng.normal(size=len(frame))
    study = make_study(frame, "staggered")
    found = did.infer(study, did.lead_estimate(study)).estimate
    values = [
        did.lead_estimate(make_study(frame[frame["unit"] != left], "staggered")).value for left in range(20)
    ]
    never = frame.loc[frame["start"].isna()].pivot(index="unit", columns="period", values="outcome")
    change = never[[3, 4, 5]].mean(axis=1) - never[2]  # their part of the error, by hand
    by_hand = sum((v - found.value) ** 2 for v in values) + change.var(ddof=1) / len(change)
    assert found.se == pytest.approx(by_hand**0.5, rel=0.02)
