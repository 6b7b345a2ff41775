"""Permutation: every way written out, agreement with large samples, size with few clusters, refusals."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ldlab import ab
from ldlab.ab.permutation import beside, permutation, reference_of
from ldlab.ab.ratio import ratio_difference
from tests.studies import make_study

IN_STRATA = {"kind": "randomised", "columns": {"stratum": "stratum"}}
SEVERAL = {"kind": "randomised", "treated_values": ("A", "B"), "control_value": "C"}
MONTE_CARLO = 3  # standard errors of a simulated share


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


# Permutation


def naive_t(outcome, arm):
    one, none = outcome[arm == 1], outcome[arm == 0]
    return (one.mean() - none.mean()) / math.sqrt(one.var(ddof=1) / len(one) + none.var(ddof=1) / len(none))


def test_permutation_by_hand():
    # Three trained clusters above three others: 1 of 20 ways is as extreme on its side, two-sided 2/20.
    outcome = np.array([1.0, 2, 3, 10, 12, 14])
    frame = pd.DataFrame({"arm": [0, 0, 0, 1, 1, 1], "cluster": range(6), "outcome": outcome})
    found = permutation(make_study(frame, covariates=(), level=0.8))
    assert (found.p_value, found.ways, found.drawn) == (pytest.approx(0.1), 20, 20)
    # The bounds are where a test written out, over all ways, turns at 10% on a side.
    arm = frame["arm"].to_numpy()
    ways = [np.isin(np.arange(6), places).astype(int) for places in itertools.combinations(range(6), 3)]

    def shares(effect):
        t = np.array([naive_t(outcome - effect * arm, way) for way in ways])
        own = naive_t(outcome - effect * arm, arm)
        return (t >= own - 1e-9).mean(), (t <= own + 1e-9).mean()

    assert shares(found.low - 1e-6)[0] <= 0.1 < shares(found.low + 1e-6)[0]
    assert shares(found.high + 1e-6)[1] <= 0.1 < shares(found.high - 1e-6)[1]


def test_permutation_stays_within_strata():
    # Four pairs, the trained always above: the 2^4 ways; two-sided 2/16.
    frame = pd.DataFrame(
        {"arm": [0, 1] * 4, "stratum": list("aabbccdd"), "outcome": [1.0, 2, 11, 13, 21, 24, 31, 36]}
    )
    reference = reference_of(make_study(frame, IN_STRATA, covariates=()), adjusted=False)
    assert reference.exact and len(reference.difference) == 16
    assert reference.p_value() == pytest.approx(2 / 16)
    signs = np.array(list(itertools.product((1, -1), repeat=4)))
    assert sorted(reference.difference) == pytest.approx(sorted((signs @ [1.0, 2, 3, 5]) / 4))


@pytest.mark.parametrize("adjusted", [False, True])
def test_permutation_agrees_with_the_errors_of_large_samples(adjusted):
    rng = np.random.default_rng(16)
    frame = pd.DataFrame({"x": rng.normal(size=2000), "arm": (rng.random(2000) < 0.3).astype(int)})
    frame["outcome"] = 2 * frame["x"] + 0.1 * frame["arm"] + rng.exponential(size=2000)
    study = make_study(frame, covariates=("x",))
    found, by_error = permutation(study, adjusted=adjusted), ab.estimates(study)[int(adjusted)]
    assert found.low == pytest.approx(by_error.low, abs=0.1 * by_error.se)
    assert found.high == pytest.approx(by_error.high, abs=0.1 * by_error.se)
    assert found.p_value == pytest.approx(
        2 * stats.t.sf(abs(by_error.value / by_error.se), by_error.df), abs=0.02
    )


def test_permutation_of_clusters_agrees_with_cr2_and_strata_with_neyman():
    rng = np.random.default_rng(17)
    for study in (
        make_study(clustered(rng, list(range(4, 64)) * 2), covariates=()),
        make_study(stratified(rng, n=600), IN_STRATA, covariates=()),
    ):
        found, lead = permutation(study), ab.estimates(study)[0]
        assert found.low == pytest.approx(lead.low, abs=0.25 * lead.se)
        assert found.high == pytest.approx(lead.high, abs=0.25 * lead.se)
        assert "It agrees with the estimate" in beside(found, lead).sentence


def test_permutation_holds_its_size_and_its_coverage_with_few_clusters_and_wild_outcomes():
    rng, runs, alarms, covered = np.random.default_rng(18), 150, 0, 0
    for _ in range(runs):
        frame = clustered(rng, rng.integers(2, 30, size=8), spread=2.0)
        frame["outcome"] = np.exp(frame["outcome"]) + 3 * frame["arm"]
        study = make_study(frame, covariates=(), level=0.9, minimum=5)
        lead = ab.estimates(study)[0]
        reference = reference_of(study, adjusted=False)
        alarms += reference.p_value(3.0) < 0.1
        covered += lead.low <= 3.0 <= lead.high
    assert alarms / runs < 0.1 + MONTE_CARLO * math.sqrt(0.09 / runs)
    assert covered / runs > 0.9 - MONTE_CARLO * math.sqrt(0.09 / runs)


def test_several_arms_are_dealt_together():
    # Three arms of two clusters: 6! / (2! 2! 2!) = 90 ways, each with the larger of the two |t| against control.
    outcome = np.array([1.0, 2.5, 3, 4.2, 9, 12])
    variant = list("CCAABB")
    frame = pd.DataFrame(
        {"variant": variant, "arm": [0, 0, 1, 1, 1, 1], "cluster": range(6), "outcome": outcome}
    )
    ways = set(itertools.permutations(variant))

    def largest(way):
        codes = np.array(way)
        return max(abs(naive_t(outcome[(codes == arm) | (codes == "C")], (codes[codes != other] == arm) * 1))
                   for arm, other in ("AB", "BA"))  # fmt: skip

    own = largest(variant)
    expected = np.mean([largest(way) >= own * (1 - 1e-9) for way in ways])
    found = permutation(make_study(frame, SEVERAL, covariates=()))
    assert len(ways) == 90 and found.p_any == pytest.approx(expected)
    assert found.p_value == pytest.approx(2 / 15)


def test_rates_are_dealt_anew_as_totals_over_totals():
    rng = np.random.default_rng(26)
    frame = pd.DataFrame({"arm": np.arange(400) % 2, "exposure": rng.uniform(1, 9, 400)})
    frame["count"] = rng.poisson(frame["exposure"] * (2 + 0.3 * frame["arm"]))
    frame["outcome"] = frame["count"] / frame["exposure"]
    kpi = {"value_type": "rate", "exposure_column": "hours"}
    study = make_study(frame, covariates=(), kpi=kpi)
    found, lead = permutation(study), ratio_difference(study)
    assert found.low == pytest.approx(lead.low, abs=0.25 * lead.se)
    assert found.high == pytest.approx(lead.high, abs=0.25 * lead.se)


def test_permutation_says_why_it_is_not_run():
    frame = pd.DataFrame({"arm": [1] * 8 + [0] * 30, "outcome": np.arange(38.0)})
    found = permutation(make_study(frame, covariates=(), minimum=10))
    assert found.p_value is None and "fewer than 10 agents" in found.reason
    assert "Not run" in beside(found, ab.estimates(make_study(frame, covariates=()))[0]).sentence
    huge = pd.DataFrame({"arm": np.arange(100_002) % 2, "outcome": np.arange(100_002.0) % 7})
    assert "dealing anew takes long" in permutation(make_study(huge, covariates=())).sentence
