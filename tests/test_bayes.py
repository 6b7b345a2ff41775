"""The Bayesian estimate: exact where it can be, right on known effects, and broken by what should break it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

from ldlab import bayes, simulate
from ldlab.bayes import checks as bayes_checks
from ldlab.bayes.compiled import Sampling
from ldlab.bayes.gaussian import least_squares
from ldlab.bayes.geometry import informed
from ldlab.bayes.posterior import likelihood_of
from ldlab.bayes.priors import on_link, priors_of
from ldlab.bayes.units import POOLED, cross_products, split_small, units_of
from ldlab.program import LdlabError, Study
from tests.studies import DATA, make_study

POINTS = {
    "unit": "percentage points",
    "value_type": "binary",
    "target": {"value": 5.0, "unit": "percentage points"},
    "smallest_effect_worth_having": {"value": 1.0, "unit": "percentage points"},
}


def people(world: simulate.World, **columns: Any) -> pd.DataFrame:
    return world.frame.rename(columns={"person": "unit", "treated": "arm"}).assign(**columns)


def nsw(name: str = "nsw") -> pd.DataFrame:
    return pd.read_csv(DATA / f"{name}.csv").rename(
        columns={"person": "unit", "treated": "arm", "re78": "outcome"}
    )


@pytest.fixture(scope="module")
def nsw_study() -> Study:
    return make_study(nsw(), priors={"effect": {"sd": 1e6}}, covariates=())


@pytest.fixture(scope="module")
def nsw_posterior(nsw_study: Study) -> bayes.Posterior:
    return bayes.fit(nsw_study)


@pytest.fixture(scope="module")
def known() -> tuple[bayes.Posterior, simulate.World]:
    """Three segments that differ, one too small to show; the trained vary twice as much."""
    segments = {"north": 0.4, "south": -0.4, "west": 0.0}
    world = simulate.randomised(900, 1.0, segments=segments, effect_sd=1.7, seed=4)
    frame = people(world)
    frame.loc[frame.index[frame["segment"] == "west"][:12], "segment"] = "islet"
    return bayes.fit(make_study(frame)), world


@pytest.fixture(scope="module")
def null() -> bayes.Posterior:
    frame = people(simulate.randomised(480, 0.0, covariates=0, segments=dict.fromkeys("abcd", 0.0), seed=9))
    return bayes.fit(make_study(frame))


# The number that was published, and the same number twice


def test_nsw_under_a_wide_prior_is_the_difference_in_means(nsw_posterior: bayes.Posterior) -> None:
    """1794.34 (HC2 671.00): Dehejia and Wahba's experimental benchmark."""
    effect = bayes.estimate(nsw_posterior)
    error = 671.0 / np.sqrt(2000)
    assert effect.value == pytest.approx(1794.34, abs=4 * error)
    assert effect.se == pytest.approx(671.0, rel=0.05)
    assert (effect.method, effect.se_kind, effect.estimand) == (
        "Bayesian linear regression",
        "posterior sd",
        "ATE",
    )
    assert effect.n == {"treated": 185, "comparison": 260, "clusters": None, "observations": 445}


def test_nsw_against_cps_is_the_outcome_model_of_the_untrained() -> None:
    """1133 (624): the trained against what 15,992 untrained people's regression expects of them."""
    study = make_study(nsw("nsw_cps"), "observational", priors={"effect": {"sd": 1e6}})
    effect = bayes.estimate(bayes.fit(study))
    assert effect.value == pytest.approx(1133, abs=4 * 624 / np.sqrt(1500))
    assert effect.se == pytest.approx(624, rel=0.08)
    assert effect.estimand == "ATT" and effect.n["treated"] == 185


def test_the_same_seed_gives_the_same_numbers(nsw_study: Study, nsw_posterior: bayes.Posterior) -> None:
    again = bayes.fit(nsw_study, sampling=Sampling(cores=1))
    assert np.array_equal(again.effect, nsw_posterior.effect)
    assert np.array_equal(again.prior_effect, nsw_posterior.prior_effect)


def test_no_person_is_kept_in_what_is_printed_or_stored(nsw_posterior: bayes.Posterior) -> None:
    assert set(nsw_posterior.idata.children) == {"posterior", "prior", "sample_stats"}
    shown = repr(nsw_posterior) + nsw_posterior._repr_html_()
    assert "Units(" not in shown and "draws: 4 chains of 1,000" in shown


# Exactness


def rows_model(study: Study) -> pm.Model:
    """The same Gaussian model written out for every row: flat levels, normal slopes, segments around their mean."""
    units = units_of(study)
    prior = priors_of(units)
    with pm.Model() as rows:
        level = pm.Flat("level", shape=units.levels)
        mean = pm.Normal("mean_effect", prior.effect_mean, prior.effect_sd)
        effect = mean
        if units.segments:
            tau = pm.HalfNormal("tau", prior.segment_sd)
            effect = (mean + tau * pm.Normal("unit", 0, 1, shape=units.levels))[units.segment]
        sigma = pm.Exponential("sigma", 1 / prior.residual_scale, shape=2)
        mu = level[units.segment] + units.arm * effect
        if units.z.shape[1]:
            slope = pm.Normal("slope", 0, prior.slope_sd, shape=units.z.shape[1])
            change = pm.Normal("change", 0, prior.interaction_sd, shape=units.z.shape[1])
            own = cross_products(units).z_by_segment[units.segment]
            mu = (
                mu
                + ((units.z - own) * slope).sum(axis=1)
                + units.arm * ((units.z - own) * change).sum(axis=1)
            )
        pm.Normal("kpi", mu, sigma[units.arm], observed=units.outcome)
        share = np.bincount(units.segment[units.population], minlength=units.levels) / units.population.sum()
        average = pm.math.dot(share, mean + tau * rows["unit"]) if units.segments else mean
        pm.Deterministic("effect", average)
    return rows


def agree(first: NDArray[Any], second: NDArray[Any], ess: float) -> None:
    """Two sets of draws of one posterior: means, sds and tails within four Monte Carlo errors."""
    sd, error = second.std(), second.std() * np.sqrt(2 / ess)
    assert first.mean() == pytest.approx(second.mean(), abs=4 * error)
    assert first.std() == pytest.approx(sd, rel=4 * np.sqrt(1 / ess))
    for q in (0.05, 0.95):
        assert np.quantile(first, q) == pytest.approx(np.quantile(second, q), abs=8 * error)


SHAPES: list[tuple[str, dict[str, Any]]] = [
    ("randomised", {"segments": None, "covariates": 0}),
    ("randomised", {"segments": {"a": 0.5, "b": -0.5, "c": 0.0}, "covariates": 2}),
    ("observational", {"segments": {"a": 0.3, "b": -0.3}, "covariates": 3}),
]


@pytest.mark.parametrize(("design", "world"), SHAPES, ids=["arms", "segments", "observational"])
def test_cross_products_have_the_row_level_posterior(design: str, world: dict[str, Any]) -> None:
    frame = people(simulate.randomised(120, 1.0, seed=6, **world))
    if design == "observational":  # unequal arms, trained people with higher covariates
        rng = np.random.default_rng(1)
        frame = frame[(frame["arm"] == 1) & (frame["x1"] > -0.5) | (frame["arm"] == 0)]
        frame = frame.assign(outcome=frame["outcome"] + frame["x2"] * rng.normal(1, 0.1, len(frame)))
    study = make_study(frame, design, minimum=5)
    compressed = bayes.fit(study, sampling=Sampling(draws=2000))
    with rows_model(study):
        rows: Any = pm.sample(
            2000, tune=1000, chains=4, cores=2, nuts_sampler="nutpie", random_seed=1, progressbar=False, quiet=True,
            compute_convergence_checks=False, target_accept=0.95,
        )  # fmt: skip
    for name in ("effect", "sigma"):
        there, here = rows["posterior"][name].values, compressed.idata["posterior"][name].values
        if name == "sigma":
            there, here = there[..., 0], here[..., 0]
        ess = float(bayes_checks.az.ess(rows["posterior"].to_dataset()[["effect"]])["effect"])
        agree(here.ravel(), there.ravel(), min(ess, 4000))


def test_pymc_s_own_sampler_gives_the_same_answer() -> None:
    study = make_study(people(simulate.randomised(90, 1.0, covariates=1, seed=3)))
    with bayes.model(study):
        own: Any = pm.sample(
            1000, tune=1000, chains=2, cores=2, nuts_sampler="pymc", random_seed=1, progressbar=False, quiet=True,
            compute_convergence_checks=False,
        )  # fmt: skip
    posterior = bayes.fit(study)
    agree(posterior.effect, own["posterior"]["mean_effect"].values.ravel(), 1200)


def test_compression_by_hand() -> None:
    """x'x 2, x'y 2, y'y 3: slope 1, R = sqrt 2, Q'y = sqrt 2, rest 3 - 2 = 1."""
    root, projection, rest = least_squares(np.array([[2.0]]), np.array([2.0]), 3.0)
    assert abs(root[0, 0]) == pytest.approx(2**0.5) and abs(projection[0]) == pytest.approx(2**0.5)
    assert rest == pytest.approx(1.0)


def test_a_covariate_without_spread_in_an_arm_says_nothing() -> None:
    """xx has rank 1: one direction is left out, and the fit in the other is exact."""
    root, _, rest = least_squares(np.array([[4.0, 4.0], [4.0, 4.0]]), np.array([2.0, 2.0]), 1.0)
    assert root.shape == (1, 2) and rest == pytest.approx(0.0)


def test_cross_products_by_hand() -> None:
    """Arm 0: y 1, 3 (mean 2, sum of squares 2), x 0, 2; arm 1: y 5, 5, x 1, 3. Population mean of x 1.5, sd 1.118."""
    frame = pd.DataFrame(
        {"arm": [0, 0, 1, 1] * 10, "outcome": [1.0, 3, 5, 5] * 10, "x1": [0.0, 2, 1, 3] * 10}
    )
    cells = cross_products(units_of(make_study(frame)))
    sd = np.sqrt(1.25)
    assert cells.n.tolist() == [20, 20] and cells.y.tolist() == [2.0, 5.0]
    assert np.allclose(cells.x[:, 0], [-0.5 / sd, 0.5 / sd])
    assert np.allclose(cells.yy, [20, 0]) and np.allclose(cells.xx[:, 0, 0], [20 / sd**2, 20 / sd**2])
    assert np.allclose(cells.xy[:, 0], [20 / sd, 0])


@pytest.fixture(scope="module")
def binary() -> bayes.Posterior:
    outcome = np.repeat([100.0, 0.0, 100.0, 0.0], [360, 540, 330, 370])
    frame = pd.DataFrame({"arm": np.repeat([0, 1], [900, 700]), "outcome": outcome})
    return bayes.fit(make_study(frame, kpi=POINTS, priors={"effect": {"sd": 60.0}}))


def test_binary_matches_the_exact_beta_posteriors(binary: bayes.Posterior) -> None:
    """Flat priors on two shares: Beta(361, 541) and Beta(331, 371); their difference by its two moments."""
    shares = stats.beta(361, 541), stats.beta(331, 371)
    mean = 100 * (shares[1].mean() - shares[0].mean())
    sd = 100 * float(np.hypot(shares[0].std(), shares[1].std()))
    effect = bayes.estimate(binary)
    assert effect.value == pytest.approx(mean, abs=4 * sd / np.sqrt(1500))
    assert effect.se == pytest.approx(sd, rel=0.05)
    assert all(check.status == "passed" for check in bayes.posterior_predictive_checks(binary))


# Known effects


def test_a_known_effect_is_recovered(known: tuple[bayes.Posterior, simulate.World]) -> None:
    posterior, world = known
    effect = bayes.estimate(posterior)
    assert abs(effect.value - world.truth["ATE"]) < 3 * effect.se
    assert effect.se < 0.2 and effect.p_gain > 0.99
    assert all(check.status == "passed" for check in bayes.convergence_checks(posterior))


def test_each_arm_has_its_own_spread(known: tuple[bayes.Posterior, Any]) -> None:
    comparison, trained = known[0].idata["posterior"]["sigma"].mean(("chain", "draw")).values
    assert comparison == pytest.approx(1.0, abs=0.1) and trained == pytest.approx(2.0, abs=0.2)


def test_no_effect_and_no_difference_between_segments(null: bayes.Posterior) -> None:
    effect = bayes.estimate(null)
    assert abs(effect.value) < 3 * effect.se
    raw = null.study.frame.groupby(["segment", "arm"])["outcome"].mean().unstack()
    pooled = {e.term: e.value for e in bayes.segment_estimates(null)}
    assert np.std(list(pooled.values())) < 0.7 * float((raw[1] - raw[0]).std(ddof=0)), "segments shrink"
    assert all(check.status == "passed" for check in bayes.convergence_checks(null))


def test_segments_average_to_the_effect_and_small_ones_are_pooled(known: tuple[bayes.Posterior, Any]) -> None:
    posterior = known[0]
    names = [e.term for e in bayes.segment_estimates(posterior)]
    assert POOLED in names and "islet" not in names and "islet" not in str(posterior.idata)
    assert posterior.units is not None
    draws = np.array([posterior.segment_effects[name] for name in posterior.segments])
    assert np.allclose(cross_products(posterior.units).share @ draws, posterior.effect)
    assert all(
        min(e.n["treated"] or 0, e.n["comparison"] or 0) >= 10 for e in bayes.segment_estimates(posterior)
    )


def test_a_rate_in_its_own_unit() -> None:
    """Poisson events (no overdispersion) at .5 and .9 per hour; the effect is .4 whatever the hours."""
    rng, n = np.random.default_rng(3), 300
    frame = pd.DataFrame({"arm": np.arange(n) % 2, "exposure": rng.integers(2, 9, n).astype(float)})
    frame["count"] = rng.poisson(np.where(frame["arm"] == 1, 0.9, 0.5) * frame["exposure"]).astype(float)
    frame["outcome"] = frame["count"] / frame["exposure"]
    kpi = {"value_type": "rate", "exposure_column": "exposure"}
    posterior = bayes.fit(make_study(frame, kpi=kpi, covariates=()))
    effect = bayes.estimate(posterior)
    totals = frame.groupby("arm")[["count", "exposure"]].sum()
    rates = totals["count"] / totals["exposure"]
    assert effect.value == pytest.approx(rates[1] - rates[0], abs=0.02)
    assert effect.se == pytest.approx(
        float(np.sqrt((totals["count"] / totals["exposure"] ** 2).sum())), rel=0.1
    )
    checks = [*bayes.convergence_checks(posterior), *bayes.posterior_predictive_checks(posterior)]
    assert [check.name for check in checks if check.status != "passed"] == []
    assert {"zeros fit", "means fit", "spread fits"} <= {check.name for check in checks}


def test_a_panel_of_two_groups_with_clusters() -> None:
    """Teams share shocks: intercepts of clusters widen the range over that of independent units."""
    world = simulate.panel(300, 6, 2.0, cohorts=[4, None], cluster_size=10, cluster_sd=1.0, seed=8)
    frame = world.frame.drop(columns="treated").assign(
        period=lambda d: d["period"] - 1, start=lambda d: d["start"] - 1
    )
    posterior = bayes.fit(make_study(frame, "two_group_before_after"))
    effect = bayes.estimate(posterior)
    assert abs(effect.value - world.truth["ATT"]) < 3 * effect.se
    changes = posterior.study.frame.groupby("arm")["outcome"]
    independent = float(np.sqrt((changes.var() / changes.size()).sum()))
    assert effect.se > 1.5 * independent
    assert effect.estimand == "ATT" and effect.n["clusters"] == 30
    assert "changes per agent" in effect.method and "clusters" in effect.method


# Checks that break


def test_a_sampler_stopped_early_is_not_readable(nsw_study: Study) -> None:
    posterior = bayes.fit(nsw_study, sampling=Sampling(draws=20, tune=5, chains=1))
    failed = {check.name for check in bayes.convergence_checks(posterior) if check.status == "failed"}
    assert {"chains agree", "effective draws (bulk)", "effective draws (tail)"} <= failed
    assert all(check.breaks and check.needed for check in bayes.convergence_checks(posterior))


def by_name(posterior: bayes.Posterior) -> dict[str, Any]:
    return {check.name: check for check in bayes.posterior_predictive_checks(posterior)}


def test_data_that_the_model_could_not_have_made(nsw_posterior: bayes.Posterior) -> None:
    """The posterior of one data set beside others: shifted, spread out, and with one extreme value."""
    units = nsw_posterior.units
    shifted = replace(nsw_posterior, units=replace(units, outcome=units.outcome + 3000 * units.arm))
    wider = replace(nsw_posterior, units=replace(units, outcome=units.outcome * (1 + units.arm)))
    extreme = units.outcome.copy()
    extreme[np.argmax(units.arm)] = 1e6
    assert by_name(shifted)["means fit"].status == "failed" and by_name(shifted)["means fit"].breaks
    assert by_name(wider)["spread fits"].status == "failed" and by_name(wider)["spread fits"].breaks
    lonely = by_name(replace(nsw_posterior, units=replace(units, outcome=extreme)))["mean despite skewness"]
    assert lonely.status == "failed" and lonely.needed and not lonely.breaks


def test_skewed_earnings_are_said_but_do_not_break(nsw_posterior: bayes.Posterior) -> None:
    found = by_name(nsw_posterior)
    assert [name for name, check in found.items() if check.status == "failed"] == ["shape"]
    assert not found["shape"].breaks and not found["shape"].needed and "skewed" in found["shape"].sentence
    # skewness of the difference by hand: G 2.72 and 1.82, sd 7,846 and 5,473, n 185 and 260
    assert found["mean despite skewness"].statistic == pytest.approx(0.113, abs=0.002)


def test_figures_get_replicates_without_small_groups(known: tuple[bayes.Posterior, Any]) -> None:
    found = bayes.predictive(known[0])
    assert not [s for s in found if "islet" in s.label]
    assert {s.family for s in found} == {"mean", "sd", "skewness"}
    assert all(0 < s.p <= 1 and len(s.replicated) == bayes_checks.REPLICATES for s in found)


# Priors


def test_default_priors_are_in_kpi_units() -> None:
    """Comparison sd 2 and target 1: effect sd the larger of 2 and 1; a target of .1: half of the KPI's sd."""
    frame = pd.DataFrame({"arm": np.repeat([0, 1], 40), "outcome": np.tile([8.0, 12.0], 40)})
    sd = float(np.std([8.0, 12.0] * 20, ddof=1))
    kpi = {
        "target": {"value": 0.1, "unit": "minutes"},
        "smallest_effect_worth_having": {"value": 0.1, "unit": "minutes"},
    }
    assert bayes.priors(make_study(frame)).effect_sd == 2.0
    modest = bayes.priors(make_study(frame, kpi=kpi))
    assert modest.effect_sd == pytest.approx(sd / 2) and modest.segment_sd == pytest.approx(sd / 4)
    agreed = bayes.priors(make_study(frame, priors={"effect": {"mean": -1.0, "sd": 3.0}, "segment_sd": 0.2}))
    assert (agreed.effect_mean, agreed.effect_sd, agreed.segment_sd) == (-1.0, 3.0, 0.2)
    assert "Normal(−1.00, 3.00) minutes" in str(agreed)


def test_prior_draws_are_those_of_the_model(
    known: tuple[bayes.Posterior, Any], binary: bayes.Posterior
) -> None:
    """The same law drawn by PyMC from the model itself."""
    for posterior in (known[0], binary):
        study = posterior.study
        assert isinstance(study, Study)
        units = units_of(study)
        found = likelihood_of(study, units, priors_of(units))
        built = bayes.model(study)
        names = [v.name for v in (*built.free_RVs, *built.deterministics)]
        values = pm.draw([built[name] for name in names], draws=1500, random_seed=1)
        dims = [
            ("chain", "draw", *(f"{name}_{i}" for i in range(np.ndim(v) - 1)))
            for name, v in zip(names, values, strict=True)
        ]
        table = xr.Dataset({name: (own, v[None]) for name, own, v in zip(names, dims, values, strict=True)})
        ours = posterior.prior_effect
        if units.family == "gaussian":  # its effects are drawn given the data; the mean is the prior's own
            assert table["mean_effect"].std() == pytest.approx(posterior.priors.effect_sd, rel=0.08)
            assert ours.std() > posterior.priors.effect_sd
        else:
            theirs = found.effects(table)["effect"].ravel()
            assert ours.std() == pytest.approx(theirs.std(), rel=0.1)
            assert ours.mean() == pytest.approx(theirs.mean(), abs=0.1 * theirs.std())


def test_prior_draws_have_the_agreed_size(nsw_posterior: bayes.Posterior, binary: bayes.Posterior) -> None:
    assert nsw_posterior.prior_effect.std() == pytest.approx(1e6, rel=0.06)
    assert np.abs(binary.prior_effect).max() <= 100
    draws = bayes.prior_effect_draws(binary.study)
    assert np.array_equal(draws, binary.prior_effect)


@pytest.mark.parametrize(
    ("link", "baseline", "sd", "expected"),
    [
        ("identity", 7.0, 2.0, 2.0),
        ("logit", 20.0, 0.1, 0.001 / (0.2 * 0.8)),  # delta method: sd over p (1 - p)
        ("log", 4.0, 0.04, 0.01),  # delta method: sd over the mean
        ("logit", 2.0, 7.0, np.log(0.09 / 0.91) - np.log(0.02 / 0.98)),  # one sd up from 2% is 9%
    ],
)
def test_effects_on_the_scale_of_the_link(link: Any, baseline: float, sd: float, expected: float) -> None:
    mean, scale = on_link(link, baseline, 0.0, sd)
    assert mean == 0 and scale == pytest.approx(expected, rel=0.01)


def test_centring_follows_the_data() -> None:
    far_apart, alike = np.linspace(-3, 3, 12), np.zeros(12)
    assert informed(far_apart, np.full(12, 0.05), 1.0) > 0.95
    assert informed(alike, np.full(12, 1.0), 1.0) < 0.2


# One row per unit


def test_unit_changes_by_hand() -> None:
    """Unit a: mean(5, 7) - mean(1, 3) = 4; covariate before the start; c has no KPI after it."""
    rows = [
        ("a", 0, 1),
        ("a", 1, 3),
        ("a", 2, 5),
        ("a", 3, 7),
        ("b", 0, 2),
        ("b", 1, 2),
        ("b", 2, 3),
        ("c", 0, 9),
    ]
    frame = pd.DataFrame(rows, columns=["unit", "period", "outcome"]).astype({"outcome": float})
    frame["start"] = frame["unit"].map({"a": 2.0})
    frame["age"] = frame["period"].astype(float)
    study = make_study(frame, "two_group_before_after")
    changes = bayes.unit_changes(study)
    table = changes.frame.set_index("unit")
    assert table["outcome"].to_dict() == {"a": 4.0, "b": 1.0}
    assert table["arm"].to_dict() == {"a": 1, "b": 0} and table.loc["a", "age"] == 0.5
    assert changes.left_out[-1] == ("agents without a KPI both before and after the start", 1)
    assert "period" in study.frame, "the caller's frame is left alone"


def test_units_without_a_covariate_are_counted() -> None:
    frame = people(simulate.randomised(80, 0.0, covariates=1, seed=2))
    frame.loc[:4, "x1"] = np.nan
    assert units_of(make_study(frame)).study.left_out == (("agents without some covariate", 5),)


@pytest.mark.parametrize(
    ("sizes", "shown"),
    [
        ({"a": (40, 40), "b": (30, 30)}, ["a", "b"]),
        ({"a": (40, 40), "b": (30, 30), "c": (3, 20)}, ["a"]),  # c alone could be had by subtraction
        ({"a": (40, 40), "b": (5, 30), "c": (6, 20)}, ["a"]),  # b and c together are enough
        ({"a": (40, 40), "b": (12, 12), "c": (2, 3), "d": (1, 2)}, ["a"]),  # c and d together are not
    ],
)
def test_small_segments_cannot_be_found_by_subtraction(
    sizes: dict[str, tuple[int, int]], shown: list[str]
) -> None:
    table = pd.DataFrame.from_dict(sizes, orient="index", columns=[0, 1])
    assert split_small(table, 10)[0] == shown


def test_refusals() -> None:
    frame = people(simulate.randomised(60, 0.0, covariates=1, seed=1))
    panel = simulate.panel(40, 4, 0.0, cohorts=[2, 3, None], seed=1).frame.drop(columns="treated")
    panel = panel.assign(period=panel["period"] - 1, start=panel["start"] - 1)
    few = frame.assign(arm=(np.arange(60) < 4).astype(int))
    refused = [
        (make_study(frame.assign(x2=frame["arm"] * 2.0)), "covariate 'x2' equals the treatment"),
        (make_study(frame.assign(x2=frame["arm"] - frame["x1"])), "covariates add up to the treatment"),
        (make_study(frame.assign(x2=1.0)), "'x2' has one value only"),
        (make_study(few), "fewer than 10 agents with a KPI"),
        (make_study(panel.assign(start=1.0), "before_after"), "found design before_after"),
        (make_study(panel, "two_group_before_after"), "found 2 different starts"),
        (make_study(frame.assign(outcome=frame["arm"] * 1.0)), "one value only in the comparison arm"),
    ]
    for study, message in refused:
        with pytest.raises(LdlabError, match=message):
            bayes.priors(study)
    with pytest.raises(LdlabError, match="found 1 effects"):
        bayes.pooled_sites([1.0], [1.0], mean_sd=1, tau_scale=1, seed=1)


# Several sites


def test_eight_schools() -> None:
    """Exact by quadrature: mu 4.397 (3.318), tau 3.598 (3.220). Rubin (1981).

    Tolerance: four Monte Carlo standard errors, sd / sqrt(effective draws) with the effective draws measured
    (about 8,000 for mu and 5,000 for tau, so .037 and .046); for sds, 8% (tau's tail is heavy).
    """
    pooled = bayes.pooled_sites(
        [28, 8, -3, 7, -1, 1, 18, 12], [15, 10, 16, 11, 9, 11, 10, 18], mean_sd=5, tau_scale=5, seed=7
    )
    effective = bayes_checks.az.ess(pooled.idata["posterior"].to_dataset()[["mu", "tau"]], method="mean")
    for draws, ess, mean, sd in (
        (pooled.mean, effective["mu"], 4.397, 3.318),
        (pooled.spread, effective["tau"], 3.598, 3.220),
    ):
        assert draws.mean() == pytest.approx(mean, abs=4 * sd / np.sqrt(float(ess)))
        assert draws.std() == pytest.approx(sd, rel=0.08)
    assert (pooled.mean > 0).mean() == pytest.approx(0.9076, abs=0.02)
    assert pooled.sites.shape == (8, 8000) and "sd between sites" in repr(pooled)


def test_skewness_of_few_normal_clusters_is_within_its_noise() -> None:
    """Eight normal clusters in each arm: the bound of .2 is passed by chance in a third of the samples, two sds seldom."""
    rng = np.random.default_rng(8)
    found = [bayes_checks._skewness_of_difference(list(rng.normal(size=(2, 8)))) for _ in range(2_000)]
    skew, noise = np.array(found).T
    assert (skew > 0.2).mean() > 0.1 and (skew > np.maximum(0.2, 2 * noise)).mean() < 0.02
    normal = [bayes_checks._skewness_of_difference(list(rng.normal(size=(2, 200)))) for _ in range(500)]
    assert np.sqrt(np.mean(np.square(np.array(normal)[:, 0]))) == pytest.approx(normal[0][1], rel=0.15)
    far = [np.append(np.zeros(99) + rng.normal(size=99), 50.0), rng.normal(size=100)]
    skewed, chance = bayes_checks._skewness_of_difference(far)
    assert skewed > 0.2 and skewed > 2 * chance
