"""Blocks and clusters: hand-solved tables, reference implementations, refusals."""

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from diff_diff.linalg import compute_robust_vcov
from scipy import stats

from ldlab import ab
from ldlab.ab.arm_means import Drawn, arm_means
from ldlab.ab.blocks import SmallStrata, blocks, compare
from ldlab.ab.clusters import assigned_difference, clusters
from ldlab.disclosure import scan_folder
from ldlab.program import LdlabError
from tests.studies import make_study

IN_STRATA = {"kind": "randomised", "columns": {"stratum": "stratum"}}
SEVERAL = {"kind": "randomised", "treated_values": ("A", "B"), "control_value": "C"}
MONTE_CARLO = 3  # standard errors of a simulated share


def drawn(outcome, arm, stratum=None, cluster=None, covariates=None):
    n = len(outcome)
    return Drawn(
        outcome=np.array(outcome, dtype=float),
        arm=np.array(arm),
        stratum=np.zeros(n, dtype=int) if stratum is None else np.array(stratum),
        cluster=None if cluster is None else np.array(cluster),
        covariates=np.empty((n, 0)) if covariates is None else np.asarray(covariates, dtype=float),
    )


def clustered(rng, sizes, *, effect=0.0, spread=0.5):
    """Clusters of these sizes, every second one trained, with shocks of their own."""
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    arm = cluster % 2
    shock = spread * rng.normal(size=len(sizes))
    outcome = shock[cluster] + rng.normal(size=len(cluster)) + effect * arm
    return pd.DataFrame({"arm": arm, "cluster": cluster, "outcome": outcome})


def stratified(rng, *, n=120, effect=1.0, shares=(0.2, 0.5, 0.8)):
    """Strata whose level goes up with their treated share."""
    stratum = np.arange(n) % len(shares)
    treated = [rng.permutation(np.arange(n // len(shares)) < share * n / len(shares)) for share in shares]
    arm = np.empty(n, dtype=int)
    for s, drawn_here in enumerate(treated):
        arm[stratum == s] = drawn_here
    x = rng.normal(size=n)
    outcome = effect * arm + 3.0 * stratum + x + rng.normal(size=n)
    return pd.DataFrame({"arm": arm, "stratum": stratum.astype(str), "x": x, "outcome": outcome})


# CR2


def test_cr2_by_hand():
    # Equal clusters: trained means 5 and 9 (variance 8), comparison 2 and 4 (variance 2): 8/2 + 2/2, df 4 - 2.
    equal = arm_means(
        drawn([4, 6, 8, 10, 1, 3, 3, 5], [1] * 4 + [0] * 4, cluster=[0, 0, 1, 1, 2, 2, 3, 3])
    ).contrast((-1, 1))
    assert equal == pytest.approx((4, 5, 2))
    # Clusters of 1 and 3, mean 3.5, residual sums -1.5 and 1.5, leverages 1/4 and 3/4:
    # (2.25 / (3/4) + 2.25 / (1/4)) / 16 = .75.
    unequal = arm_means(drawn([2, 4, 4, 4], [0] * 4, cluster=[0, 1, 1, 1]))
    assert (unequal.means[0], unequal.covariance[0, 0]) == (pytest.approx(3.5), pytest.approx(0.75))


def test_cr2_is_the_numbers_of_r_clubsandwich():
    # Data and numbers: the case 'unbalanced_medium' that diff-diff's repository generated with R's clubSandwich.
    # One arm and one covariate: the arm's mean is the intercept plus the slope times the covariate's mean.
    sizes = (3, 4, 5, 6, 7, 8, 9, 10)
    cluster = np.repeat(np.arange(8), sizes)
    made = arm_means(
        drawn(CLUBSANDWICH_Y, [0] * 52, cluster=cluster, covariates=np.array([CLUBSANDWICH_X]).T)
    )
    at = np.array([1.0, np.mean(CLUBSANDWICH_X)])
    cr2 = np.array([[0.1192052700634108, -0.04806533789647253], [-0.04806533789647224, 0.09454689012283392]])
    assert made.means[0] == pytest.approx(at @ [1.407664197609156, -0.02639903174573305], rel=1e-9)
    assert made.covariance[0, 0] == pytest.approx(at @ cr2 @ at, rel=1e-9)


@pytest.mark.parametrize("spanning", [False, True])
def test_cr2_and_its_degrees_of_freedom_are_those_of_diff_diff(spanning):
    rng = np.random.default_rng(5)
    frame = clustered(rng, [3, 8, 5, 2, 9, 4, 6, 12, 5, 7])
    frame["arm"] = rng.integers(0, 2, len(frame)) if spanning else frame["arm"]
    design = np.column_stack([np.ones(len(frame)), frame["arm"]])
    fit = sm.OLS(frame["outcome"].to_numpy(), design).fit()
    vcov, df = compute_robust_vcov(
        design, fit.resid, frame["cluster"].to_numpy(), vcov_type="hc2_bm", return_dof=True
    )
    estimate = assigned_difference(make_study(frame, covariates=()))
    assert estimate.value == pytest.approx(fit.params[1])
    assert (estimate.se, estimate.df) == (pytest.approx(math.sqrt(vcov[1, 1])), pytest.approx(df[1]))
    assert estimate.se_kind == "CR2, cluster by cluster"


def test_equal_clusters_give_the_t_test_on_cluster_means():
    frame = clustered(np.random.default_rng(6), [7] * 12)
    means = frame.groupby(["arm", "cluster"])["outcome"].mean()
    test = stats.ttest_ind(means[1], means[0])
    estimate = assigned_difference(make_study(frame, covariates=()))
    assert (estimate.df, estimate.value / estimate.se) == (pytest.approx(10), pytest.approx(test.statistic))


def test_many_clusters_give_plain_clustered_errors():
    frame = clustered(np.random.default_rng(7), [10] * 20_000)
    study = make_study(frame, covariates=())
    estimate, plain = assigned_difference(study), ab.difference_in_means(study)
    assert estimate.se == pytest.approx(plain.se, rel=1e-4)
    assert estimate.df == pytest.approx(19_998)


def test_few_clusters_are_dealt_anew_and_fewer_give_no_interval():
    rng = np.random.default_rng(8)
    by_count = {
        count: ab.estimates(make_study(clustered(rng, [6] * count), covariates=(), minimum=5))[0]
        for count in (2, 4, 8, 10)
    }
    assert not by_count[2].has_interval and not by_count[4].has_interval
    assert by_count[4].se_kind == "no interval can be given" and math.isnan(by_count[4].p_worthwhile)
    assert by_count[8].se_kind == "permutation of whole clusters (cluster), 70 assignments"
    assert by_count[10].se_kind == "CR2, cluster by cluster"
    described = clusters(make_study(clustered(rng, [6] * 8), covariates=(), minimum=5))
    assert described.rule == "permutation" and "fewer than 5 in an arm" in described.why


def test_units_and_clusters_are_two_questions():
    # Large clusters gain 4, small ones nothing: 4 * 60 / 70 over units, 2 over clusters.
    rng = np.random.default_rng(9)
    cluster = np.repeat(np.arange(24), [60, 60, 10, 10] * 6)
    arm = cluster % 2
    large = np.isin(cluster % 4, (0, 1))
    frame = pd.DataFrame({"arm": arm, "cluster": cluster, "outcome": 4.0 * arm * large})
    frame["outcome"] += 0.1 * rng.normal(size=len(frame))
    found = clusters(make_study(frame, covariates=()))
    assert found.of_units.value == pytest.approx(4 * 60 / 70, abs=0.05)
    assert found.of_clusters.value == pytest.approx(2, abs=0.1)
    assert "different by more than a standard error" in found.sentence
    assert "every cluster alike" in str(found)


# Blocks


def test_blocked_difference_by_hand():
    # Stratum a (4 units): 6 - 2 = 4; stratum b (6 units): 10 - 8 = 2; 0.4 * 4 + 0.6 * 2 = 2.8.
    # Variances of the means: a: 2/2 + 2/2 = 2; b: 8/2 + (0, 3, -3, 0 around 8: 18/3)/4 = 4 + 1.5;
    # 0.16 * 2 + 0.36 * 5.5 = 2.3.
    outcome = [5, 7, 1, 3, 8, 12, 8, 11, 5, 8]
    frame = pd.DataFrame(
        {"arm": [1, 1, 0, 0, 1, 1, 0, 0, 0, 0], "stratum": list("aaaabbbbbb"), "outcome": outcome}
    ).astype({"outcome": float})
    estimate = assigned_difference(make_study(frame, IN_STRATA, covariates=()))
    assert (estimate.value, estimate.se) == (pytest.approx(2.8), pytest.approx(math.sqrt(2.3)))
    # With equal variances the four cells' parts are .16/2, .16/2, .36/2, .36/4 with 1, 1, 1, 3 degrees of freedom.
    parts, df = np.array([0.08, 0.08, 0.18, 0.09]), np.array([1, 1, 1, 3])
    assert estimate.df == pytest.approx(parts.sum() ** 2 / (parts**2 / df).sum())
    assert (estimate.method, estimate.se_kind) == ("blocked difference in means", "HC2 by stratum")


def test_unequal_shares_make_the_pooled_difference_wrong_and_the_blocked_one_leads():
    study = make_study(stratified(np.random.default_rng(10), n=1200), IN_STRATA, covariates=("x",))
    lead, adjusted = ab.estimates(study)
    assert lead.low < 1 < lead.high and lead.method.startswith("blocked")
    assert ab.difference_in_means(study).low > 1.5
    assert adjusted.se < 0.85 * lead.se and adjusted.low < 1 < adjusted.high
    said = blocks(study)
    assert "from 20% to 80%" in said.sentence and "more than one standard error" in said.sentence


def test_adjusting_within_strata_is_the_regression_with_stratum_dummies_and_all_interactions():
    frame = stratified(np.random.default_rng(11))
    estimate = assigned_difference(make_study(frame, IN_STRATA, covariates=("x",)), adjusted=True)
    dummies = pd.get_dummies(frame["stratum"], drop_first=True, dtype=float)
    x = frame["x"] - frame.groupby("stratum")["x"].transform("mean")
    centred = (dummies - dummies.mean()).assign(x=x)
    design = centred.join(centred.mul(frame["arm"], axis=0).add_prefix("arm x "))
    fit = sm.OLS(frame["outcome"], sm.add_constant(design.assign(arm=frame["arm"]))).fit(cov_type="HC2")
    assert (estimate.value, estimate.se) == (pytest.approx(fit.params["arm"]), pytest.approx(fit.bse["arm"]))


def test_pairs_by_hand():
    # Differences 1, 2, 6: mean 3, variance 7; 7/3; t with 2 degrees of freedom.
    frame = pd.DataFrame({"arm": [0, 1] * 3, "stratum": list("aabbcc"), "outcome": [1.0, 2, 5, 7, 0, 6]})
    estimate = assigned_difference(make_study(frame, IN_STRATA, covariates=()))
    assert (estimate.value, estimate.se) == (pytest.approx(3), pytest.approx(math.sqrt(7 / 3)))
    assert (estimate.df, estimate.se_kind) == (pytest.approx(2), "between strata")


def test_pairs_with_a_covariate_are_the_regression_of_their_differences():
    rng = np.random.default_rng(12)
    pairs = 30
    frame = pd.DataFrame({"arm": [0, 1] * pairs, "stratum": np.repeat(np.arange(pairs), 2).astype(str)})
    frame["x"] = rng.normal(size=2 * pairs)
    frame["outcome"] = 2 * frame["x"] + np.repeat(rng.normal(size=pairs), 2) + rng.normal(size=2 * pairs)
    differences = frame[["outcome", "x"]].to_numpy()[1::2] - frame[["outcome", "x"]].to_numpy()[::2]
    fit = sm.OLS(differences[:, 0], sm.add_constant(differences[:, 1])).fit()
    estimate = assigned_difference(make_study(frame, IN_STRATA, covariates=("x",)), adjusted=True)
    assert estimate.value == pytest.approx(fit.params[0])
    # The classical error of the intercept, but for what the covariates' mean difference adds.
    assert estimate.se == pytest.approx(math.sqrt(fit.ssr / fit.df_resid / pairs))
    assert "common slopes" in estimate.method


def test_small_strata_of_unequal_size_have_a_variance_that_is_right_on_average():
    # Shares w of independent differences with variances v: the estimate's expectation is sum of w^2 v.
    sizes = np.array([[1.0, 1], [1, 2], [1, 3], [2, 1], [1, 1]])
    w = sizes.sum(axis=1) / sizes.sum()
    v = np.array([1.0, 5, 2, 0.3, 4])
    expected = 0.0
    for k in range(
        5
    ):  # a quadratic form in independent errors: the sum over unit errors times their variances
        means = np.zeros((5, 2))
        means[k, 1] = 1.0
        expected += v[k] * float(SmallStrata(means, sizes).covariance[1, 1])
    assert expected == pytest.approx((w**2 * v).sum())
    # Its degrees of freedom: the low-rank sums are those of the matrix written out.
    small = SmallStrata(np.zeros((5, 2)), sizes)
    noise = (1 / sizes).sum(axis=1)
    away = np.eye(5) - np.ones((5, 1)) * w
    form = away.T @ np.diag(small.factors) @ away * np.sqrt(np.outer(noise, noise))
    assert small.moments(np.array([-1.0, 1])) == pytest.approx((np.trace(form), (form**2).sum()))


def test_strata_without_both_arms_are_left_out_and_counted():
    frame = stratified(np.random.default_rng(13))
    alone = pd.DataFrame({"arm": [1] * 15, "stratum": "all trained", "x": 0.0, "outcome": 99.0})
    with_them = make_study(pd.concat([frame, alone]), IN_STRATA, covariates=())
    assert assigned_difference(with_them).value == pytest.approx(
        assigned_difference(make_study(frame, IN_STRATA, covariates=())).value
    )
    assert assigned_difference(with_them).n["observations"] == 120
    said = blocks(with_them)
    assert (said.left_out, said.left_out_units) == (1, "15 agents")
    with pytest.raises(LdlabError, match="no stratum"):
        assigned_difference(
            make_study(alone.assign(arm=[0, 1] * 7 + [0], stratum=list("abcdefghijklmno")), IN_STRATA)
        )


def test_large_and_small_strata_add_up():
    # Shares 8/14 and 6/14 of a blocked difference and of three pairs.
    rng = np.random.default_rng(14)
    arm, stratum = [0, 1] * 4 + [0, 1] * 3, [0] * 8 + [1, 1, 2, 2, 3, 3]
    y = rng.normal(size=14)
    both = compare(drawn(y, arm, stratum))
    large = compare(drawn(y[:8], arm[:8]))
    small = compare(drawn(y[8:], arm[8:], np.array(stratum[8:]) - 1))
    value, se, _ = both.contrast((-1, 1))
    parts = [part.contrast((-1, 1)) for part in (large, small)]
    assert value == pytest.approx(8 / 14 * parts[0][0] + 6 / 14 * parts[1][0])
    assert se == pytest.approx(math.hypot(8 / 14 * parts[0][1], 6 / 14 * parts[1][1]))


def test_the_effect_on_compliers_is_the_ratio_of_the_blocked_differences():
    # Whoever is in a high stratum is offered more often; half of the offered come, and gain 2.
    rng = np.random.default_rng(24)
    frame = stratified(rng, n=1500, effect=0.0)
    frame["treated"] = frame["arm"] * rng.integers(0, 2, 1500)
    frame["outcome"] += 2.0 * frame["treated"]
    offered = {"kind": "randomised", "columns": {"stratum": "stratum", "assignment": "offered"}}
    study = make_study(frame, offered, covariates=("x",))
    plain, adjusted = ab.complier_estimates(study)
    came = assigned_difference(make_study(frame.assign(outcome=frame["treated"]), offered, covariates=()))
    assert plain.value == pytest.approx(ab.estimates(study)[0].value / came.value)
    assert plain.low < 2 < plain.high and adjusted.low < 2 < adjusted.high and adjusted.se < plain.se
    assert plain.se_kind == "HC2, within strata; Anderson-Rubin interval"
    pooled = make_study(
        frame.drop(columns="stratum"), {**offered, "columns": {"assignment": "offered"}}, covariates=()
    )
    assert ab.complier_effect(pooled).low > 3


def test_few_clusters_give_no_effect_on_compliers():
    rng = np.random.default_rng(25)
    frame = clustered(rng, [40] * 8)
    frame["treated"] = frame["arm"] * rng.integers(0, 2, len(frame))
    offered = {"kind": "randomised", "columns": {"assignment": "offered"}}
    study = make_study(frame, offered, covariates=())
    assert ab.complier_effect(study) is None
    assert "an arm has fewer than 5 clusters" in ab.compliers(study).reason


def test_whole_clusters_in_strata_and_clusters_over_strata():
    rng = np.random.default_rng(15)
    frame = clustered(rng, [5] * 24, effect=1.0)
    frame["stratum"] = np.where(frame["cluster"] < 8, "north", "south")
    study = make_study(frame, IN_STRATA, covariates=())
    parts = [
        assigned_difference(make_study(rows.drop(columns="stratum"), covariates=(), minimum=5))
        for _, rows in frame.groupby("stratum")
        if rows["cluster"].nunique() > 8
    ]
    whole = assigned_difference(study)
    assert whole.se_kind == "CR2, cluster by cluster" and whole.df == pytest.approx(24 - 4, rel=0.2)
    north = frame[frame["stratum"] == "north"].groupby("arm")["outcome"].mean()
    assert whole.value == pytest.approx((8 * (north[1] - north[0]) + 16 * parts[0].value) / 24)
    crossed = frame.assign(stratum=np.arange(len(frame)) % 2)
    with pytest.raises(LdlabError, match="spread over several strata"):
        assigned_difference(make_study(crossed, IN_STRATA, covariates=()))


def test_the_adjusted_estimate_leads_where_that_was_agreed():
    study = make_study(
        stratified(np.random.default_rng(23)).drop(columns="stratum"),
        covariates=("x",),
        agreement={"estimator": "adjusted"},
    )
    assert [e.method for e in ab.estimates(study)] == [
        "regression-adjusted difference",
        "difference in means",
    ]


# fmt: off
CLUBSANDWICH_X = [
    0.128862570039928, 0.6701512336730957, 0.3297898611053824, 0.2037271915469319, 0.368284564698115,
    0.7823035586625338, 0.1984838922508061, 0.2190779817756265, 0.4419498639181256, 0.6422768677584827,
    0.07627971330657601, 0.2270524124614894, 0.2186972440686077, 0.7315562770236284, 0.02659884956665337,
    0.2013396944385022, 0.6228771209716797, 0.6576305113267154, 0.6803408381529152, 0.1647861595265567,
    0.4449463130440563, 0.5335798722226173, 0.8809765174519271, 0.6302034477703273, 0.218909045914188,
    0.4129483439028263, 0.457392189418897, 0.4145040600560606, 0.9525077047292143, 0.8236416757572442,
    0.3981174814980477, 0.1786765605211258, 0.9758388390764594, 0.8111260565929115, 0.2872961156535894,
    0.462518839398399, 0.8308089969214052, 0.4791092942468822, 0.9257831228896976, 0.5312510745134205,
    0.6328634682577103, 0.8924754566978663, 0.8108281444292516, 0.2660467734094709, 0.8168796338140965,
    0.306065121665597, 0.7733509626705199, 0.897745214169845, 0.6402185300830752, 0.2910342407412827,
    0.5996965372469276, 0.03418785543181002,
]
CLUBSANDWICH_Y = [
    1.281270710066877, 1.722881312144584, 1.281775401696968, 1.413528483141223, 1.043366086227046,
    1.45241495488675, 1.675613928059604, 0.8983891882314028, 0.8686731426084141, 1.093944759246245,
    0.9249145411811377, 0.8493184917053391, 2.85305770155655, 2.514730609257615, 2.436761333058375,
    2.341302160178671, 2.505201653980506, 2.944303753193914, 2.227941048801415, 2.412340826904834,
    2.207925805301888, 2.2923019573263, 2.342348481613817, 2.226590726847836, 2.086344787976651,
    1.656871526710177, 1.904644888582141, 1.862885866969904, 1.964874740458616, 1.520180307273704,
    1.685953582170327, 1.515607792243089, 2.005418184074291, 0.8171658134910009, 0.6646849084479258,
    1.019695539332419, 1.070006641198372, 0.7096919907678358, 1.075733955227796, 0.8546317660179634,
    0.903663211647689, 0.9348092890610543, 0.4821668914973627, -0.04429208656038075, 0.3016826155382485,
    0.4284240023231432, 0.663698185175872, 0.9351900235072026, 0.5567615926932054, 0.4072033162858779,
    0.1744773447144307, 0.5377150345076495,
]
# fmt: on


def test_few_clusters_are_not_taken_for_a_small_group_of_people(tmp_path):
    """'8 trained and 8 comparison clusters' would be held back at the gate, and with it the whole notebook."""
    rng = np.random.default_rng(5)
    for count in (6, 16):
        described = clusters(make_study(clustered(rng, [25] * count), covariates=()))
        (tmp_path / "report.html").write_text(f"<html><body>{described._repr_html_()}</body></html>")
        assert f"{count // 2} trained clusters and {count // 2} comparison clusters" in str(described)
        assert scan_folder(tmp_path, ids=[], minimum=10, unit="agent") == []
