"""Worlds for calibration: small data sets whose true effect was drawn from the very prior that the fit is given.

Written apart from the models' own code, from what their docstrings say, so that a mistake there cannot hide here. The
prior is fixed: the default prior looks at the data's mean and sd, and simulation-based calibration (Talts, Betancourt,
Simpson, Vehtari and Gelman 2018, arXiv:1804.06788) holds only for a prior that doesn't.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import arviz as az
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize, special

from ldlab.bayes import Posterior, Priors, Sampling, compliers, fit
from ldlab.bayes.compiled import Shape, sample
from ldlab.bayes.priors import priors_for
from ldlab.bayes.units import Family as Likelihood
from ldlab.bayes.units import Units, units_of
from ldlab.program import LdlabError, Study
from tests.ranks import RANKS
from tests.studies import make_study

Floats = NDArray[np.float64]
Mean = Callable[[Floats], Floats]
LONGER = 5  # times, where two short chains were not enough

EVENTS = {"unit": "tickets", "target": {"value": 1.0, "unit": "tickets"},
          "smallest_effect_worth_having": {"value": 0.5, "unit": "tickets"}}  # fmt: skip
MINUTES = {"target": {"value": 2.5, "unit": "minutes"}}
POINTS = {
    "unit": "percentage points", "value_type": "binary",
    "target": {"value": 8.0, "unit": "percentage points"},
    "smallest_effect_worth_having": {"value": 1.0, "unit": "percentage points"},
}  # fmt: skip
LOG_MINUTES = {
    "value_type": "duration", "scale": "log", "censored_column": "censored",
    "target": {"value": 20.0, "unit": "percent of baseline"},
    "smallest_effect_worth_having": {"value": 5.0, "unit": "percent of baseline"},
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """One kind of world.

    ``mean`` and ``sd`` are the comparison arm's, in effect units, as the default priors want them. With
    ``prior_from_data`` the fit makes its default prior from the data, as in use; ranks need not be uniform then.
    ``worlds`` and ``nulls`` are how many are drawn; ``draws`` are those of each of two chains at first.
    """

    name: str
    likelihood: Likelihood | Literal["compliers"]
    mean: float
    sd: float
    kpi: dict[str, Any]
    units: int = 120
    segments: int = 0
    covariates: int = 0
    clusters: int = 0
    errors: str = "normal"
    minimum: int = 5
    prior_from_data: bool = False
    worlds: int = 700
    nulls: int = 300
    draws: int = 300


GAUSSIAN = Family("gaussian", "gaussian", 50.0, 10.0, MINUTES, units=60)
QUICK: dict[str, Any] = {"worlds": 1000, "nulls": 500}
FAMILIES = {
    family.name: family
    for family in (
        replace(GAUSSIAN, **QUICK),
        replace(GAUSSIAN, name="gaussian, segments", units=120, segments=4, covariates=2, **QUICK),
        replace(GAUSSIAN, name="gaussian, clusters", units=96, clusters=16, covariates=1),
        replace(GAUSSIAN, name="student-t", likelihood="student_t", errors="student_t", covariates=1),
        Family("binary, segments", "binary", 40.0, 49.0, POINTS, units=200, segments=3, covariates=1),
        Family("count", "count", 4.0, 3.0, {"value_type": "count", **EVENTS}, covariates=1),
        Family("rate", "count", 3.0, 2.0, {"value_type": "rate", "exposure_column": "exposure", **EVENTS},
               covariates=1),
        Family("ordinal, segments", "ordinal", 3.0, 1.2, {"value_type": "ordinal", "lowest": 1.0, "highest": 5.0},
               units=150, segments=2, covariates=1),
        Family("duration, censored", "duration", 3.4, 0.8, LOG_MINUTES, covariates=1),
        replace(GAUSSIAN, name="compliers", likelihood="compliers", units=240),
        replace(GAUSSIAN, name="gaussian, prior from data", prior_from_data=True),
    )
}  # fmt: skip


@dataclass(frozen=True)
class World:
    """A study, the prior that its parameters come from, and their true values by name."""

    study: Study
    prior: Priors
    truth: dict[str, float]


@dataclass
class Parameters:
    """What is drawn from the prior; on the scale of the link."""

    level: Floats
    mean: float
    spread: float
    deviation: Floats
    slope: Floats
    change: Floats
    cluster_spread: float = 0.0
    shift: Floats = field(default_factory=lambda: np.zeros(1))
    sigma: Floats = field(default_factory=lambda: np.ones(2))
    overdispersion: Floats = field(default_factory=lambda: np.zeros(2))
    nu_above_1: float = np.inf
    cuts: Floats = field(default_factory=lambda: np.zeros(0))


def world_of(family: Family, number: int, *, null: bool = False) -> World:
    """World ``number`` of a family; the same whenever and wherever it is drawn.

    ``null``: the average effect is exactly 0; segments still differ, all other parameters are from the prior.
    """
    rng = np.random.default_rng([zlib.crc32(family.name.encode()), number, int(null)])
    if family.likelihood == "compliers":
        return _complier_world(family, rng, null)
    study = _empty_study(family, rng)
    units = units_of(study)
    prior = priors_for(study, family.likelihood, family.mean, family.sd)
    z = _z(units)
    drawn = _draw(units, prior, family, rng)
    mean_of = _mean_of(family, drawn)
    if null:
        reach = 40 * prior.link_effect_sd
        drawn.mean = optimize.brentq(
            lambda mean: _effect(units, z, replace(drawn, mean=mean), mean_of), -reach, reach, xtol=1e-12
        )
    frame = _outcomes(family, study.frame, _eta(units, z, drawn, units.arm), drawn, rng)
    truth = _truth(family, units, z, drawn, mean_of)
    return World(_seeded(replace(study, frame=frame), rng), prior, truth)


def _seeded(study: Study, rng: np.random.Generator) -> Study:
    """The study with a sampler's seed of its own: with one seed for all, errors of all worlds would be one."""
    analysis = study.program.analysis.model_copy(update={"seed": int(rng.integers(2**31 - 1))})
    return replace(study, program=study.program.model_copy(update={"analysis": analysis}))


def posterior_of(world: World, family: Family) -> dict[str, Floats] | None:
    """(chain, draw) posterior draws of what ``world.truth`` holds, by the same names; None where a fit is refused.

    Where draws are too much alike, chains are run again, LONGER times as long. Neither this nor leaving out refused
    worlds leans on the truth, so ranks stay uniform.
    """
    draw = _complier_draws if family.likelihood == "compliers" else _fitted
    for times in (1, LONGER):
        draws = draw(world, family, Sampling(draws=times * family.draws, tune=300, chains=2, cores=1))
        if draws is None or _enough(draws):
            break
    return draws


def _enough(draws: dict[str, Floats]) -> bool:
    """Effective draws: of the effect, whose interval is looked at, twice as many as ranks; of the rest half as many."""
    return all(
        float(az.ess(values)) >= RANKS * (2 if name == "effect" else 0.5) for name, values in draws.items()
    )


def _fitted(world: World, family: Family, sampling: Sampling) -> dict[str, Floats] | None:
    try:
        fitted = fit(world.study, prior=None if family.prior_from_data else world.prior, sampling=sampling)
    except LdlabError:
        return None
    return _read(fitted, family)


def _read(posterior: Posterior, family: Family) -> dict[str, Floats]:
    draws = posterior.idata["posterior"].to_dataset()
    found = {"effect": draws["effect"].values}
    if family.segments:
        found["effect in the first segment"] = draws["segment_effect"].values[..., 0]
        found["spread of segments"] = draws["segment_spread"].values
    if family.covariates:
        found["slope of the trained"] = draws["coefficients"].values[..., 1, -1]
    if family.clusters:
        found["spread of clusters"] = draws["cluster_spread"].values
    if _has_proper_level(family):
        found["level of the comparison"] = draws["coefficients"].values[..., 0, 0]
    for name, variable in (
        ("sd of the trained", "sigma"),
        ("overdispersion of the trained", "overdispersion"),
    ):
        if variable in draws:
            found[name] = draws[variable].values[..., 1]
    if "nu_above_1" in draws:
        found["degrees of freedom"] = draws["nu_above_1"].values
    return found


def _has_proper_level(family: Family) -> bool:
    """The plain Gaussian's levels have a flat prior, from which nothing can be drawn."""
    return family.likelihood != "gaussian" or family.clusters > 0


def _empty_study(family: Family, rng: np.random.Generator) -> Study:
    """Who is where, with a KPI still to be drawn; two in five are trained, in clusters every second one."""
    n, count = family.units, np.arange(family.units)
    frame = pd.DataFrame({"arm": (count % 5 < 2).astype(int), "outcome": (count % 2) * 1.0})
    if family.segments:
        shares = np.arange(family.segments, 0, -1) / np.arange(family.segments + 1).sum()
        code = np.searchsorted(np.cumsum(shares), (count + 0.5) / n)
        frame["segment"] = np.array(list("abcdefgh"))[code]
    if family.clusters:
        frame["cluster"] = count * family.clusters // n
        frame["arm"] = frame["cluster"] % 2
    if family.likelihood == "ordinal":
        frame["outcome"] += 1
    if family.likelihood == "binary":
        frame["outcome"] *= 100
    if family.kpi.get("value_type") == "rate":
        frame["exposure"] = rng.choice([1.0, 2.0, 4.0], n)
        frame["count"] = 1.0
    if family.likelihood == "duration":
        frame["censored"] = 0.0
    names = tuple(f"x{place}" for place in range(family.covariates))
    for place, name in enumerate(names):
        continuous = rng.normal(size=n) + (0 if place == 0 else count / n)
        is_row = family.likelihood in ("gaussian", "student_t")
        frame[name] = continuous if is_row else (continuous > 0).astype(float)
    analysis = {"errors": family.errors, "interval_level": 0.9, "minimum_group_size": family.minimum}
    baseline = float(np.exp(family.mean)) if family.likelihood == "duration" else family.mean
    return make_study(frame, covariates=names, kpi=family.kpi, analysis=analysis, baseline=baseline)


def _z(units: Units) -> Floats:
    """Covariates as the model has them; the plain Gaussian compares people at the mean of their own segment."""
    if units.family != "gaussian" or units.cluster is not None:
        return units.z
    means = np.array([units.z[units.segment == code].mean(axis=0) for code in range(units.levels)])
    return units.z - means[units.segment]


def _draw(units: Units, prior: Priors, family: Family, rng: np.random.Generator) -> Parameters:
    """Everything from its prior, as the docstring of ``ldlab.bayes.Priors`` and the families say."""
    s, p = units.levels, units.z.shape[1]
    spread = abs(rng.normal())
    proper = _has_proper_level(family)
    fixed = family.mean + np.arange(s, dtype=float)
    level = rng.normal(prior.baseline_mean, prior.baseline_sd, s) if proper else fixed
    drawn = Parameters(
        level=level,
        mean=rng.normal(prior.link_effect_mean, prior.link_effect_sd),
        spread=spread,
        deviation=rng.normal(0, prior.link_segment_sd * spread * (s > 1), s),
        slope=np.asarray(rng.normal(0, prior.slope_sd, p)),
        change=np.asarray(rng.normal(0, prior.interaction_sd, p)),
        sigma=rng.exponential(prior.residual_scale, 2),
    )
    if family.clusters:
        drawn.cluster_spread = abs(rng.normal())
        drawn.shift = rng.normal(0, prior.cluster_sd * drawn.cluster_spread, family.clusters)
    if family.likelihood == "count":
        drawn.overdispersion = np.abs(rng.normal(size=2))
    if family.likelihood == "student_t":
        drawn.nu_above_1 = rng.gamma(2, 1 / 0.1)
    if family.likelihood == "ordinal":
        drawn.level = level - level[0]
        drawn.cuts = special.logit(np.cumsum(rng.dirichlet(np.ones(5)))[:-1])
    return drawn


def _eta(units: Units, z: Floats, drawn: Parameters, arm: Any) -> Floats:
    """(n,) linear predictor of the units, each in ``arm``."""
    segment = units.segment
    added = drawn.mean + drawn.deviation[segment] + z @ drawn.change
    shift = 0.0 if units.cluster is None else drawn.shift[units.cluster]
    return np.asarray(drawn.level[segment] + z @ drawn.slope + arm * added + shift)


def _mean_of(family: Family, drawn: Parameters) -> Mean:
    """The expected KPI at a linear predictor, in effect units."""
    if family.likelihood == "binary":
        return lambda eta: 100 * special.expit(eta)
    if family.likelihood == "count":
        return np.exp
    if family.likelihood == "ordinal":
        return lambda eta: special.expit(eta[:, None] - drawn.cuts).sum(axis=1)
    return lambda eta: eta


def _gains(units: Units, z: Floats, drawn: Parameters, mean_of: Mean) -> Floats:
    """(n,) what training does to each person's expected KPI."""
    ones = np.ones(len(z))
    return mean_of(_eta(units, z, drawn, ones)) - mean_of(_eta(units, z, drawn, 0 * ones))


def _effect(units: Units, z: Floats, drawn: Parameters, mean_of: Mean) -> float:
    return float(_gains(units, z, drawn, mean_of)[units.population].mean())


def _truth(family: Family, units: Units, z: Floats, drawn: Parameters, mean_of: Mean) -> dict[str, float]:
    found = {"effect": _effect(units, z, drawn, mean_of)}
    if family.segments:
        found["effect in the first segment"] = float(
            _gains(units, z, drawn, mean_of)[units.segment == 0].mean()
        )
        found["spread of segments"] = drawn.spread
    if family.covariates:
        found["slope of the trained"] = drawn.slope[-1] + drawn.change[-1]
    if family.clusters:
        found["spread of clusters"] = drawn.cluster_spread
    if _has_proper_level(family):
        found["level of the comparison"] = drawn.level[0] - (drawn.cuts[0] if len(drawn.cuts) else 0.0)
    if family.likelihood in ("gaussian", "student_t", "duration"):
        found["sd of the trained"] = drawn.sigma[1]
    if family.likelihood == "count":
        found["overdispersion of the trained"] = drawn.overdispersion[1]
    if family.likelihood == "student_t":
        found["degrees of freedom"] = drawn.nu_above_1
    return found


def _outcomes(
    family: Family, frame: pd.DataFrame, eta: Floats, drawn: Parameters, rng: np.random.Generator
) -> pd.DataFrame:
    """The frame with the KPI of each unit drawn."""
    n, arm = len(frame), frame["arm"].to_numpy()
    sigma = drawn.sigma[arm]
    if family.likelihood == "binary":
        return frame.assign(outcome=100.0 * (rng.random(n) < special.expit(eta)))
    if family.likelihood == "count":
        exposure = frame["exposure"].to_numpy() if "exposure" in frame else np.ones(n)
        alpha = 1 / np.maximum(drawn.overdispersion[arm], 1e-3) ** 2
        count = rng.poisson(rng.gamma(alpha, 1 / alpha) * exposure * np.exp(eta)).astype(float)
        return frame.assign(outcome=count / exposure, **({"count": count} if "count" in frame else {}))
    if family.likelihood == "ordinal":
        latent = eta + rng.logistic(size=n)
        return frame.assign(outcome=1.0 + (latent[:, None] > drawn.cuts).sum(axis=1))
    if family.likelihood == "student_t":
        return frame.assign(outcome=eta + sigma * rng.standard_t(1 + drawn.nu_above_1, n))
    value = rng.normal(eta, sigma)
    if family.likelihood == "duration":
        last_seen = family.mean + rng.uniform(0.5, 3, n)
        late = value > last_seen
        return frame.assign(outcome=np.minimum(value, last_seen), censored=late.astype(float))
    return frame.assign(outcome=value)


def _complier_world(family: Family, rng: np.random.Generator, null: bool) -> World:
    """Never-takers, always-takers and compliers; each of the four cells normal around the mean of its kinds."""
    n = family.units
    offered = np.arange(n) % 2
    share = rng.dirichlet(np.ones(3))  # never, always, compliers
    kind = rng.choice(3, size=n, p=share)
    came = ((kind == 1) | ((kind == 2) & (offered == 1))).astype(int)
    frame = pd.DataFrame({"arm": offered, "treated": came, "outcome": offered * 1.0})
    analysis = {"interval_level": 0.9, "minimum_group_size": family.minimum}
    study = make_study(frame, covariates=(), kpi=family.kpi, analysis=analysis, baseline=family.mean)
    prior = priors_for(study, "gaussian", family.mean, family.sd)
    effect = 0.0 if null else rng.normal(prior.effect_mean, prior.effect_sd)
    never, always, untrained = rng.normal(prior.baseline_mean, prior.baseline_sd, 3)
    sigma = prior.residual_scale * np.exp(rng.normal(size=(2, 2)))
    mean = np.empty((2, 2))  # offered, came
    mean[1, 0], mean[0, 1] = never, always
    mean[0, 0] = np.average([never, untrained], weights=share[[0, 2]])
    mean[1, 1] = np.average([always, untrained + effect], weights=share[[1, 2]])
    frame = study.frame.assign(outcome=rng.normal(mean[offered, came], sigma[offered, came]))
    truth = {"effect": effect, "share of compliers": share[2], "sd of the trained": sigma[1, 1]}
    return World(_seeded(replace(study, frame=frame), rng), prior, truth)


def _complier_draws(world: World, _family: Family, sampling: Sampling) -> dict[str, Floats] | None:
    """As ``complier_effect``, but with the fixed prior. Both kinds of deviation have to be seen: else the model
    takes one for impossible, which the world's prior does not.
    """
    cells = compliers.cells_of(world.study.frame)
    if compliers.why_not(world.study) or min(cells.n[1, 0], cells.n[0, 1]) == 0:
        return None
    data, seed = compliers.data_of(cells, world.prior), world.study.program.analysis.seed
    draws = sample(compliers.build, Shape(), data, seed=seed, sampling=sampling)["posterior"].to_dataset()
    scale = world.prior.residual_scale
    return {
        "effect": scale * draws["effect"].values,
        "share of compliers": draws["share"].values[..., 2],
        "sd of the trained": scale * np.exp(draws["log_sigma"].values[..., 3]),
    }
