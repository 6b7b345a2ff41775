"""Every family of the Bayesian model on data with a known effect; several arms; other priors; what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

from ldlab import ab, bayes
from ldlab.bayes.units import units_of
from ldlab.estimate import Estimate
from ldlab.program import LdlabError
from tests.studies import make_study
from tests.test_bayes import POINTS

PERCENT = {"value": 10.0, "unit": "percent of baseline"}


def frame_of(n: int, seed: int, **columns: Any) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"arm": rng.permutation(np.arange(n) % 2), "x1": rng.normal(size=n), **columns})


def failed(posterior: bayes.Posterior) -> list[str]:
    checks = [*bayes.convergence_checks(posterior), *bayes.posterior_predictive_checks(posterior)]
    return [check.name for check in checks if check.status == "failed"]


@pytest.fixture(scope="module")
def ordinal() -> tuple[bayes.Posterior, float]:
    """Answers 1 to 5 in four sites; the true mean difference over these people from the model's own formula."""
    frame, rng = frame_of(600, 1), np.random.default_rng(2)
    frame["x1"] = rng.integers(0, 3, 600)
    cuts = np.array([-1.5, -0.5, 0.5, 1.5])
    eta = 0.4 * frame["x1"].to_numpy() - 0.4
    score = [1 + stats.logistic.sf(cuts[None, :] - (eta + 0.8 * arm)[:, None]).sum(axis=1) for arm in (0, 1)]
    latent = eta + 0.8 * frame["arm"].to_numpy() + rng.logistic(size=600)
    frame["outcome"] = 1.0 + np.digitize(latent, cuts)
    frame["segment"] = np.array(["a", "b", "c", "d"])[rng.integers(0, 4, 600)]
    return bayes.fit(make_study(frame, kpi={"value_type": "ordinal"})), float((score[1] - score[0]).mean())


def test_an_ordinal_item_in_points_of_its_scale(ordinal: tuple[bayes.Posterior, float]) -> None:
    posterior, truth = ordinal
    effect = bayes.estimate(posterior)
    assert abs(effect.value - truth) < 3 * effect.se and effect.se < 0.15
    assert "cumulative logit" in effect.method and failed(posterior) == []
    assert len(bayes.segment_estimates(posterior)) == 4


def test_segments_alone_are_the_plain_differences(ordinal: tuple[bayes.Posterior, float]) -> None:
    """Welch by hand for one site; pooled effects lie nearer to each other."""
    posterior = ordinal[0]
    frame, alone = posterior.study.frame, {e.term: e for e in bayes.segments_alone(posterior)}  # type: ignore[union-attr]
    first, second = (
        frame.loc[(frame["segment"] == "b") & (frame["arm"] == arm), "outcome"] for arm in (0, 1)
    )
    reference = stats.ttest_ind(second, first, equal_var=False)
    assert alone["b"].value / alone["b"].se == pytest.approx(reference.statistic)
    assert alone["b"].df == pytest.approx(reference.df)
    pooled = [e.value for e in bayes.segment_estimates(posterior)]
    assert np.std(pooled) < np.std([e.value for e in alone.values()])


def test_student_t_errors_do_not_follow_three_wild_values() -> None:
    frame = frame_of(60, 5)
    frame["outcome"] = 1.0 * frame["arm"] + np.random.default_rng(6).normal(0, 0.5, 60)
    frame.loc[frame.index[frame["arm"] == 1][:3], "outcome"] += 40
    robust = bayes.estimate(bayes.fit(make_study(frame, covariates=(), analysis={"errors": "student_t"})))
    plain = frame.groupby("arm")["outcome"].mean()
    assert plain[1] - plain[0] > 3
    assert robust.value == pytest.approx(1.0, abs=0.5) and "Student-t" in robust.method


def test_durations_that_were_still_running() -> None:
    """Half are censored; taking them as ended would lose a quarter of the effect, the model does not."""
    frame, rng = frame_of(800, 7), np.random.default_rng(8)
    ends = 0.5 * frame["arm"] + rng.normal(0, 1, 800)
    seen = rng.normal(0.4, 0.5, 800)
    frame["censored"] = (ends > seen).astype(float)
    frame["outcome"] = np.minimum(ends, seen)
    kpi = {"value_type": "duration", "scale": "log", "censored_column": "running", "target": PERCENT,
           "smallest_effect_worth_having": PERCENT}  # fmt: skip
    posterior = bayes.fit(make_study(frame, kpi=kpi, covariates=()))
    effect = bayes.estimate(posterior)
    naive = frame.groupby("arm")["outcome"].mean()
    assert naive[1] - naive[0] < 0.4 and abs(effect.value - 0.5) < 3 * effect.se and effect.se < 0.12
    (check,) = bayes.posterior_predictive_checks(posterior)
    assert check.status == "not_run" and check.needed


def test_binary_with_clusters_is_wider_than_without() -> None:
    """40 teams, each in one arm, whose levels differ by 1 log odds (sd)."""
    rng = np.random.default_rng(9)
    team = np.repeat(np.arange(40), 15)
    logit = (rng.normal(0, 1, 40) + 0.8 * (np.arange(40) % 2))[team]
    frame = pd.DataFrame({"arm": team % 2, "cluster": [f"t{t}" for t in team]})
    frame["outcome"] = 100.0 * (rng.random(600) < stats.logistic.cdf(logit))
    clustered = bayes.fit(make_study(frame, kpi=POINTS))
    plain = bayes.fit(make_study(frame.drop(columns="cluster"), kpi=POINTS))
    assert bayes.estimate(clustered).se > 1.4 * bayes.estimate(plain).se
    assert failed(clustered) == []


@pytest.fixture(scope="module")
def variants() -> bayes.Variants:
    rng = np.random.default_rng(2)
    variant = rng.integers(0, 4, 900)
    frame = pd.DataFrame({"arm": (variant > 0) * 1, "variant": np.array(["none", "a", "b", "c"])[variant]})
    frame["x1"] = rng.normal(size=900)
    frame["outcome"] = 0.5 * frame["x1"] + np.array([0, 0.2, 0.5, 1.0])[variant] + rng.normal(size=900)
    design = {"kind": "randomised", "treated_values": ["a", "b", "c"], "control_value": "none"}
    found = bayes.variants(make_study(frame, design, covariates=("x1",)))
    assert found is not None
    return found


def test_several_arms_against_one_comparison(variants: bayes.Variants) -> None:
    truth = {"a": 0.2, "b": 0.5, "c": 1.0}
    assert [e.term for e in variants.estimates] == ["c", "b", "a"], "the best first"
    assert all(abs(e.value - truth[e.term]) < 3 * e.se for e in variants.estimates)
    assert variants.p_best[0] > 0.99 and sum(variants.p_best) <= 1
    assert all(e.n["treated"] and e.n["treated"] < 300 for e in variants.estimates)
    assert "chance to be the best" in str(variants)


def test_one_arm_has_no_variants() -> None:
    assert bayes.variants(make_study(frame_of(60, 1).assign(outcome=lambda d: d["x1"]))) is None


# Other priors, and losses


def effect_of(low: float, high: float, term: str) -> Estimate:
    study = make_study(frame_of(40, 1).assign(outcome=lambda d: d["x1"]))
    draws = np.linspace(low, high, 2001)
    rest = {"method": "m", "estimand": "ATE", "se_kind": "posterior sd", "n": {}, "term": term}
    return Estimate.from_draws(draws, **rest, **study.measure())


def test_a_claim_that_comes_from_the_prior_is_said() -> None:
    free, doubt = effect_of(-1, 3, "flat prior"), effect_of(-1, 1, "sceptical prior")
    decided = bayes.prior_check((doubt, effect_of(0.5, 3, "agreed prior"), free))
    assert decided.status == "failed" and decided.needed and not decided.breaks
    shown = bayes.prior_check((doubt, effect_of(0.5, 3, "agreed prior"), effect_of(0.4, 3, "flat prior")))
    assert shown.status == "passed" and "sceptic" in shown.sentence
    unclear = bayes.prior_check((doubt, effect_of(-1, 3, "agreed prior"), free))
    assert unclear.status == "passed" and "sceptic" not in unclear.sentence


def test_priors_between_doubt_and_none() -> None:
    """A sceptic's prior of sd s and data of error e: posterior mean is data x s^2 / (s^2 + e^2)."""
    rng = np.random.default_rng(3)
    frame = frame_of(400, 3).assign(outcome=lambda d: 0.8 * d["arm"] + rng.normal(0, 2, 400))
    posterior = bayes.fit(make_study(frame, covariates=()))
    by_name = {e.term: e for e in bayes.under_other_priors(posterior)}
    means = frame.groupby("arm")["outcome"].agg(["mean", "var", "size"])
    gap, error = means["mean"].diff()[1], float(np.sqrt((means["var"] / means["size"]).sum()))
    doubt = 1.0 / 1.645
    shrunk = gap * doubt**2 / (doubt**2 + error**2)
    assert by_name["flat prior"].value == pytest.approx(gap, abs=0.03)
    assert by_name["sceptical prior"].value == pytest.approx(shrunk, abs=0.03)
    assert by_name["agreed prior"].value == bayes.estimate(posterior).value


def test_expected_losses_by_hand() -> None:
    """Gains 0, 1, 2, 3 with a smallest effect of .5: shortfall .5 / 4; excess (.5 + 1.5 + 2.5) / 4."""
    study = make_study(frame_of(40, 1).assign(outcome=lambda d: d["x1"]))
    rest = {"method": "m", "estimand": "ATE", "se_kind": "posterior sd", "n": {}}
    loss = bayes.expected_loss(Estimate.from_draws(np.arange(4.0), **rest, **study.measure()))
    assert (loss.scaling, loss.stopping) == (pytest.approx(0.125), pytest.approx(1.125))
    assert "less is lost by: scaling" in str(loss)


# Explicit approximations and refusals


def test_binning_is_off_by_default_and_makes_cells_when_asked() -> None:
    frame = frame_of(500, 4).assign(outcome=lambda d: 100.0 * (d["x1"] + d["arm"] > 0.3))
    frame.loc[::7, "outcome"] = 100 - frame.loc[::7, "outcome"]
    exact = units_of(make_study(frame, kpi=POINTS))
    binned = units_of(make_study(frame, kpi=POINTS, analysis={"covariate_bins": 5}))
    assert len(np.unique(exact.z)) == 500 and len(np.unique(binned.z.round(9))) == 5


def test_perfect_separation_is_refused() -> None:
    frame = frame_of(100, 4)
    for outcome in (frame["arm"] * 100.0, 100.0 * (frame["x1"] > 0.2)):
        with pytest.raises(LdlabError, match="perfect separation"):
            bayes.priors(make_study(frame.assign(outcome=outcome), kpi=POINTS))
    one_error = 100.0 * (frame["x1"] > 0.2)
    one_error.iloc[frame["x1"].argmax()] = 0.0
    assert bayes.priors(make_study(frame.assign(outcome=one_error), kpi=POINTS)).link == "logit"


def test_a_segment_without_trained_people_is_pooled() -> None:
    frame = frame_of(200, 4).assign(outcome=lambda d: d["x1"])
    frame["segment"] = np.where(
        np.arange(200) < 90, "north", np.where(np.arange(200) < 180, "south", "alone")
    )
    frame.loc[frame["segment"] == "alone", "arm"] = 0
    posterior = bayes.fit(make_study(frame))
    assert "alone" not in posterior.segment_effects
    assert np.isfinite(posterior.effect).all()


def in_strata(levels: list[float], shares: list[float], n: int = 200) -> pd.DataFrame:
    """Strata with these levels and treated shares, and an effect of 2."""
    rng = np.random.default_rng(13)
    stratum = np.repeat(np.arange(len(levels)), n)
    arm = np.concatenate([rng.permutation(np.arange(n) < n * share) for share in shares]) * 1
    outcome = np.array(levels)[stratum] + 2 * arm + rng.normal(0, 5, len(arm))
    return pd.DataFrame({"arm": arm, "stratum": stratum.astype(str), "outcome": outcome})


IN_STRATA = {"kind": "randomised", "columns": {"stratum": "stratum"}}


def test_strata_with_unequal_shares_do_not_mix_with_the_effect() -> None:
    """Levels fall as shares rise: the plain difference is about -6, the blocked one about 2."""
    study = make_study(in_strata([80, 65, 60], [0.2, 0.5, 0.8]), IN_STRATA, covariates=())
    assert study.frame.groupby("arm")["outcome"].mean().diff()[1] < -4
    effect, blocked = bayes.estimate(bayes.fit(study)), ab.estimates(study)[0]
    assert effect.value == pytest.approx(blocked.value, abs=0.25 * blocked.se)
    assert effect.se == pytest.approx(blocked.se, rel=0.1)
    assert effect.low < 2 < effect.high


def test_strata_of_a_binary_kpi_are_held_constant_too() -> None:
    rng = np.random.default_rng(2)
    frame = in_strata([60, 40, 20], [0.2, 0.5, 0.8], n=500)
    chance = np.array([0.6, 0.4, 0.2])[frame["stratum"].astype(int)] + 0.1 * frame["arm"]
    frame["outcome"] = 100.0 * (rng.random(len(frame)) < chance)
    study = make_study(frame, IN_STRATA, covariates=(), kpi=POINTS)
    effect, blocked = bayes.estimate(bayes.fit(study)), ab.estimates(study)[0]
    assert frame.groupby("arm")["outcome"].mean().diff()[1] < 0 < effect.low
    assert effect.value == pytest.approx(blocked.value, abs=0.4 * blocked.se)


def test_many_strata_enter_by_their_shares_and_only_where_these_differ() -> None:
    shares = [0.2, 0.4, 0.6, 0.8] * 3
    many = units_of(make_study(in_strata([60.0] * 12, shares, 50), IN_STRATA, covariates=()))
    assert many.columns == ("constant", *(f"stratum: like shares, class {i}" for i in (1, 2, 3)))
    shares = [0.2 + 0.05 * place for place in range(12)]
    finer = units_of(make_study(in_strata([60.0] * 12, shares, 50), IN_STRATA, covariates=()))
    assert finer.z.shape[1] == 4 and (np.unique(finer.z, axis=0).shape[0]) == 5
    alike = units_of(make_study(in_strata([60.0] * 12, [0.5] * 12, 50), IN_STRATA, covariates=()))
    assert alike.columns == ("constant",)


def test_strata_that_are_the_segments_and_small_ones_add_no_column() -> None:
    frame = in_strata([60, 70], [0.5, 0.5]).assign(segment=lambda d: d["stratum"])
    assert units_of(make_study(frame, IN_STRATA, covariates=())).columns == ("segment 0", "segment 1")
    few = pd.concat([in_strata([60], [0.5]), in_strata([70], [0.5], 8).assign(stratum="1")])
    assert units_of(make_study(few, IN_STRATA, covariates=())).columns == ("constant",)


def test_a_priors_range_is_the_one_that_the_model_holds() -> None:
    """Five in a hundred cannot fall by more than five points."""
    frame = pd.DataFrame({"arm": np.repeat([0, 1], 200), "outcome": np.tile([100.0] + [0.0] * 19, 20)})
    prior = bayes.priors(make_study(frame, kpi=POINTS))
    low, high = prior._nine_in_ten()
    draws = np.random.default_rng(1).normal(prior.link_effect_mean, prior.link_effect_sd, 100_000)
    effects = 100 * special.expit(prior.baseline_mean + draws) - 100 * special.expit(prior.baseline_mean)
    assert -6 < low < 0 < high
    assert (low, high) == pytest.approx(tuple(np.quantile(effects, [0.05, 0.95])), rel=0.02)
