"""The effect on those who came: a table solved by hand, a published trial, worlds with a known effect, refusals."""

import math

import numpy as np
import pandas as pd
import pymc as pm
import pytest
from scipy import stats

from ldlab import ab, bayes
from ldlab.bayes.compiled import Shape, with_data
from ldlab.bayes.compliers import build, cells_of, data_of
from ldlab.estimate import COMPLIERS_ASSUME
from ldlab.program import LdlabError
from tests.studies import make_study

OFFERED = {"kind": "randomised", "columns": {"assignment": "offered"}}
QUICK = bayes.Sampling(draws=300, tune=300, chains=2)
WIDE = {"effect": {"mean": 0.0, "sd": 1000.0}}
RUNS = 200
MONTE_CARLO = 3  # standard errors of a simulated share


def offered_study(frame, *, covariates=(), level=0.9, **sections):
    return make_study(frame, OFFERED, covariates=covariates, level=level, **sections)


def cell(arm, treated, *outcomes):
    return pd.DataFrame({"arm": arm, "treated": treated, "outcome": np.array(outcomes, dtype=float)})


def hand_frame():
    # Offered 40, of whom 20 came (8 or 12) and 20 did not (4 or 8); 40 not offered (4 or 8).
    came, stayed = cell(1, 1, *[8, 12] * 10), cell(1, 0, *[4, 8] * 10)
    return pd.concat([came, stayed, cell(0, 0, *[4, 8] * 20)], ignore_index=True)


def vitamin_a(**sections):
    """Sommer & Zeger (1991), the table of Imbens & Rubin (1997): survival of 23,682 children, one-sided no-shows."""
    counts = {(0, 0): (74, 11514), (1, 0): (34, 2385), (1, 1): (12, 9663)}
    cells = [cell(*key, *[0] * died, *[100] * lived) for key, (died, lived) in counts.items()]
    points = {"value": 0.1, "unit": "percentage points"}
    kpi = {"value_type": "binary", "unit": "percentage points", "target": points}
    kpi["smallest_effect_worth_having"] = points
    return offered_study(pd.concat(cells, ignore_index=True), kpi=kpi, **sections)


def world(rng, *, n=300, never=0.3, always=0.0, effect=0.0, slope=0.0):
    """People of three kinds with different means (45, 58, 50; sd 10); attending adds ``effect`` to whoever comes."""
    kind = rng.choice(3, size=n, p=[never, always, 1 - never - always])
    arm, x = rng.permutation(np.arange(n) % 2), rng.normal(size=n)
    treated = np.where(kind == 2, arm, kind == 1).astype(int)
    y = np.array([45, 58, 50])[kind] + effect * treated + slope * x + 10 * rng.normal(size=n)
    return pd.DataFrame({"arm": arm, "treated": treated, "outcome": y, "x": x})


def test_the_ratio_of_wald_by_hand():
    # Arm means 8 and 6, half came: 2 / .5 = 4. Residuals of y - 4 came are all 2 or -2: variance of the ratio
    # (160/40^2 + 160/40^2) / .5^2 = .8, times n/(n-2) for HC1. First stage: .5^2 / (.25/40 * 80/78) = 39.
    study = offered_study(hand_frame())
    estimate = ab.complier_effect(study)
    assert (estimate.value, estimate.estimand, estimate.df) == (pytest.approx(4), "CACE", 78)
    assert estimate.se == pytest.approx(math.sqrt(0.8 * 80 / 78))
    assert estimate.n == {
        "treated": 40,
        "comparison": 40,
        "clusters": None,
        "observations": 80,
        "attended": 20,
    }
    found = ab.compliers(study)
    assert (found.share, found.first_stage, found.reason) == (pytest.approx(50), pytest.approx(39), "")
    assert COMPLIERS_ASSUME in str(found) and "first-stage F 39.0 (HC1)" in str(found)


def test_the_interval_of_anderson_and_rubin_by_hand():
    # (2 - b/2)^2 = d with d = (4 - b)^2 / 4; the variance of (y - b came) is 80/78 ((4 + d)/40 + 4/40).
    # So d = k (8 + d) with k = t^2 80 / (78 * 40).
    estimate = ab.complier_effect(offered_study(hand_frame()))
    k = stats.t.ppf(0.95, 78) ** 2 * 80 / 78 / 40
    reach = 2 * math.sqrt(8 * k / (1 - k))
    assert (estimate.low, estimate.high) == (pytest.approx(4 - reach), pytest.approx(4 + reach))
    # No gain at all: 2 over its HC1 error, sqrt(80/78 ((4 + 4)/40 + 4/40)), as for the offer itself.
    assert estimate.p_gain == pytest.approx(stats.t.cdf(2 / math.sqrt(80 / 78 * 0.3), 78))
    assert estimate.p_gain == pytest.approx(
        ab.difference_in_means(offered_study(hand_frame()), se="HC1").p_gain
    )


def test_clustered_errors_by_hand():
    # Everyone twice, in a cluster: the sums of .8 above, times G/(G-1) (n-1)/(n-k).
    frame = hand_frame().assign(cluster=range(80))
    estimate = ab.complier_effect(offered_study(pd.concat([frame, frame])))
    assert estimate.se == pytest.approx(math.sqrt(0.8 * 80 / 79 * 159 / 158))
    assert (estimate.df, estimate.se_kind) == (79, "cluster by cluster; Anderson-Rubin interval")
    assert ab.compliers(offered_study(pd.concat([frame, frame]))).se_kind == "cluster by cluster"


def test_fewer_is_better():
    less = {"direction": "decrease"}
    more, fewer = (
        ab.complier_effect(offered_study(hand_frame())),
        ab.complier_effect(offered_study(hand_frame(), kpi=less)),
    )
    assert (fewer.value, fewer.p_gain) == (more.value, pytest.approx(1 - more.p_gain))
    assert fewer.p_target < 0.01 < more.p_target


def test_published_trial_by_the_ratio():
    # 2.6 fewer deaths in 1,000 by the offer (.9), 3.2 (1.2) by the vitamin: 74/11588 - 46/12094 over 9675/12094.
    estimate = ab.complier_effect(vitamin_a())
    assert f"{10 * estimate.value:.1f} {10 * estimate.se:.1f}" == "3.2 1.2"
    assert estimate.value == pytest.approx(100 * (74 / 11588 - 46 / 12094) / (9675 / 12094))
    # The offer brought 80%: here Anderson and Rubin's interval is that of the normal.
    assert estimate.low == pytest.approx(estimate.value - 1.645 * estimate.se, abs=0.002)


def test_covariates_make_it_more_precise():
    rng = np.random.default_rng(3)
    study = offered_study(world(rng, n=2000, always=0.1, effect=4, slope=15), covariates=("x",))
    plain, adjusted = ab.complier_estimates(study)
    assert (plain.method, adjusted.method) == (ab.INSTRUMENT, ab.INSTRUMENT_ADJUSTED)
    assert adjusted.se < 0.7 * plain.se
    assert abs(adjusted.value - 4) < 3 * adjusted.se


@pytest.mark.parametrize(("never", "always"), [(0.3, 0.0), (0.3, 0.1), (0.7, 0.15)])
def test_intervals_cover_the_truth_also_where_the_offer_brought_few(never, always):
    rng = np.random.default_rng([20261122, int(100 * never)])
    covered = stated = 0
    for run in range(RUNS):
        effect = 5.0 * (run % 2)
        study = offered_study(world(rng, n=300, never=never, always=always, effect=effect), minimum=5)
        estimate = ab.complier_effect(study)
        stated += estimate is not None
        covered += estimate is not None and estimate.low <= effect <= estimate.high
    assert stated > 0.9 * RUNS
    assert abs(covered / stated - 0.9) < MONTE_CARLO * math.sqrt(0.9 * 0.1 / stated)  # 6 points


def few_came(of_offered, of_others, *, units=1000):
    """So many came of each arm; no effect."""
    treated = np.concatenate([np.arange(units) < came for came in (of_offered, of_others)]).astype(int)
    outcome = np.random.default_rng(5).normal(50, 10, 2 * units)
    return offered_study(
        pd.DataFrame({"arm": np.repeat([1, 0], units), "treated": treated, "outcome": outcome})
    )


def test_a_weak_offer_says_so_or_gives_no_number():
    weak, estimate = ab.compliers(few_came(130, 95)), ab.complier_effect(few_came(130, 95))
    assert weak.first_stage < 10 and not weak.reason
    assert "under 10, a weak offer: read the interval, not the estimate" in str(weak)
    assert estimate.high - estimate.low > 1.1 * 2 * 1.645 * estimate.se  # the normal's would be too short
    none = few_came(110, 95)
    assert ab.complier_effect(none) is None and ab.complier_estimates(none) == ()
    assert "cannot bound" in ab.compliers(none).reason
    # The model has a prior, which bounds it; no posterior without a word on whether it converged.
    posterior = bayes.complier_effect(none)
    status = bayes.complier_check(none, posterior).status
    assert (status == "passed") == (bayes.complier_estimate(posterior) is not None)


def test_nothing_to_say_without_an_offer_or_where_all_did_as_assigned():
    alone = make_study(hand_frame(), covariates=())
    obeyed = offered_study(hand_frame().assign(treated=lambda rows: rows["arm"]))
    for study in (alone, obeyed):
        assert ab.complier_effect(study) is None and ab.compliers(study) is None
        assert ab.complier_estimates(study) == ()
        assert bayes.complier_effect(study) is None and bayes.complier_check(study, None) is None
    assert bayes.complier_estimate(None) is None


def small(which):
    """Frames with a small group: four crossovers, four no-shows, four compliers, an arm of four."""
    offered, others = [(1, 1)] * 30 + [(1, 0)] * 30, [(0, 0)] * 60
    pairs = {
        "crossovers": [*offered, *others, *[(0, 1)] * 4],
        "no-shows": [*[(1, 1)] * 60, *[(1, 0)] * 4, *others],
        "compliers": [*offered, *[(0, 1)] * 26, *[(0, 0)] * 34],
        "defiers": [*offered, *[(0, 1)] * 40, *[(0, 0)] * 20],
        "arm": [*offered, *[(0, 0)] * 4],
    }[which]
    frame = pd.DataFrame(pairs, columns=["arm", "treated"])
    return offered_study(frame.assign(outcome=np.random.default_rng(1).normal(size=len(frame))))


@pytest.mark.parametrize("which", ["crossovers", "no-shows", "compliers", "defiers", "arm"])
def test_small_groups_are_named_and_not_counted(which):
    study = small(which)
    assert ab.complier_effect(study) is None and bayes.complier_effect(study) is None
    found, check = ab.compliers(study), bayes.complier_check(study, None)
    assert (found.share, found.first_stage, check.status) == (None, None, "not_run")
    for text in (str(found), str(check)):
        assert "fewer than 10" in text and not {" 4 ", "%"} & set(text.split())
        assert "4" not in text


def test_what_the_model_of_cells_cannot_answer_is_not_run():
    frame = hand_frame()
    clusters = offered_study(pd.concat([frame.assign(cluster=range(80))] * 2))
    check = bayes.complier_check(clusters, bayes.complier_effect(clusters))
    assert check.status == "not_run" and "clustered errors stands alone" in check.sentence
    points = {"value": 5.0, "unit": "percentage points"}
    kpi = {
        "value_type": "binary",
        "unit": "percentage points",
        "target": points,
        "smallest_effect_worth_having": points,
    }
    rare = offered_study(
        frame.assign(outcome=100.0 * (frame.index % 10 == 0)), kpi=kpi
    )  # 2 of 20 in two groups
    assert "share" in bayes.complier_check(rare, bayes.complier_effect(rare)).sentence
    flat = offered_study(frame.assign(outcome=frame["outcome"].where(frame["treated"] == 0, 7.0)))
    assert "one value" in bayes.complier_check(flat, bayes.complier_effect(flat)).sentence
    censored = offered_study(frame.assign(censored=0))
    assert "still running" in bayes.complier_check(censored, bayes.complier_effect(censored)).sentence


def test_a_panel_is_refused():
    study = offered_study(pd.concat([hand_frame().assign(unit=range(80))] * 2))
    with pytest.raises(LdlabError, match="several rows per unit"):
        ab.complier_effect(study)


def test_cells_of_the_table_by_hand():
    cells = cells_of(hand_frame())
    assert cells.n.tolist() == [[40, 0], [20, 20]]
    assert cells.mean.tolist() == [[6, 0], [6, 10]]
    assert cells.squares.ravel().tolist() == pytest.approx([160, 0, 80, 80])


def test_published_trial_by_principal_strata():
    # One-sided and binary: draws of the binomial model itself. Deaths of never-takers and of compliers who had the
    # vitamin are seen; those of the others follow from the unoffered arm, which mixes the two.
    study = vitamin_a(priors=WIDE)
    posterior = bayes.complier_effect(study)
    estimate, check = bayes.complier_estimate(posterior), bayes.complier_check(study, posterior)
    rng, size = np.random.default_rng(7), 200_000
    came = rng.beta(9675 + 1, 2419 + 1, size)
    never, had, unoffered = rng.beta(34, 2385, size), rng.beta(12, 9663, size), rng.beta(74, 11514, size)
    exact = 100 * ((unoffered - (1 - came) * never) / came - had)
    assert estimate.value == pytest.approx(exact.mean(), abs=0.006)
    assert estimate.se == pytest.approx(exact.std(), rel=0.06)
    assert (estimate.low, estimate.high) == pytest.approx(tuple(np.quantile(exact, [0.05, 0.95])), abs=0.02)
    assert (estimate.estimand, estimate.n["attended"], len(estimate.draws)) == ("CACE", 9675, 4000)
    assert posterior.compliers.mean() == pytest.approx(came.mean(), abs=0.001)
    assert check.status == "passed" and "cannot be tested" in check.sentence
    assert "80%" in str(posterior) and "attendance alone" in str(posterior)


@pytest.mark.parametrize("effect", [0.0, 6.0])
def test_agrees_with_the_instrument_under_a_wide_prior_with_no_shows_and_crossovers(effect):
    frame = world(np.random.default_rng(11), n=2000, never=0.25, always=0.2, effect=effect)
    study = offered_study(frame, priors=WIDE)
    instrument, strata = ab.complier_effect(study), bayes.complier_estimate(bayes.complier_effect(study))
    assert strata.value == pytest.approx(instrument.value, abs=0.1 * instrument.se)
    assert strata.se == pytest.approx(instrument.se, rel=0.08)
    assert abs(strata.value - effect) < 3 * strata.se
    # Comparing those who came with those who did not takes the kinds' own differences for the program's.
    means = frame.groupby("treated")["outcome"].mean()
    assert means[1] - means[0] - effect > 3


def test_the_prior_is_the_stated_one():
    # Cell means are the parameters; what follows from them has the priors of the kinds, whatever the shares.
    study = offered_study(world(np.random.default_rng(14), n=400, always=0.2))
    prior = bayes.complier_effect(study, sampling=QUICK).priors
    model = with_data(build, Shape(), data_of(cells_of(study.frame), prior))
    names = ("effect", "untrained", "share")
    effect, untrained, share = pm.draw([model[name] for name in names], 8000, random_seed=1)
    scale = prior.residual_scale
    assert effect.std() == pytest.approx(prior.effect_sd / scale, rel=0.03)
    assert untrained.std() == pytest.approx(prior.baseline_sd / scale, rel=0.03)
    # Uniform over the divisions: each share has mean 1/3 and variance 1/18.
    assert share.mean(axis=0) == pytest.approx([1 / 3] * 3, abs=0.01)
    assert share.var(axis=0) == pytest.approx([1 / 18] * 3, rel=0.05)


def test_the_prior_counts():
    frame = world(np.random.default_rng(12), n=200, effect=6)
    tight = offered_study(frame, priors={"effect": {"mean": 0.0, "sd": 0.1}})
    assert abs(bayes.complier_estimate(bayes.complier_effect(tight)).value) < 0.1
    # By default Normal(0, half the KPI's sd), as for the effect of the offer.
    default = bayes.complier_effect(offered_study(frame))
    sd = frame.loc[frame["arm"] == 0, "outcome"].std()
    assert (default.priors.effect_mean, default.priors.effect_sd) == (0, pytest.approx(sd / 2))


def test_what_did_not_converge_gives_no_number():
    study = offered_study(hand_frame())
    posterior = bayes.complier_effect(study, sampling=bayes.Sampling(draws=30, tune=30, chains=1))
    check = bayes.complier_check(study, posterior)
    assert check.status == "failed" and bayes.complier_estimate(posterior) is None
    assert "+" not in str(posterior)


def test_the_same_numbers_for_the_same_seed_and_the_frame_as_it_was():
    study = offered_study(world(np.random.default_rng(13), n=200))
    before = study.frame.copy()
    first, second = (bayes.complier_effect(study, sampling=QUICK).effect for _ in range(2))
    assert np.array_equal(first, second)
    ab.complier_effect(study)
    pd.testing.assert_frame_equal(study.frame, before)


def test_posterior_intervals_cover_the_truth_effect_or_none():
    # A third of the worlds have no effect; every other one has people who come unoffered.
    rng, runs = np.random.default_rng(20261122), 100
    covered = above = 0
    for run in range(runs):
        effect = [0.0, 4.0, -4.0][run % 3]
        frame = world(rng, n=400, never=0.3, always=0.1 * (run % 2), effect=effect)
        study = offered_study(
            frame, minimum=5, priors={"effect": {"mean": 0.0, "sd": 20.0}}, analysis={"seed": run}
        )
        draws = bayes.complier_effect(study, sampling=QUICK).effect
        low, high = np.quantile(draws, [0.05, 0.95])
        covered += low <= effect <= high
        above += low > effect
    assert abs(covered / runs - 0.9) < MONTE_CARLO * math.sqrt(0.9 * 0.1 / runs)  # 9 points
    assert above / runs < 0.05 + MONTE_CARLO * math.sqrt(0.05 * 0.95 / runs)
