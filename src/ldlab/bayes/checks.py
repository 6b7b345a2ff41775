"""Checks that can break a posterior: did the sampler converge, and could the model have made these data?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import batched
from typing import Any

import arviz as az
import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from ldlab.bayes.panel import PanelPosterior
from ldlab.bayes.panel_checks import enough_clusters, panel_statistics
from ldlab.bayes.posterior import Posterior
from ldlab.bayes.replicates import replicates
from ldlab.bayes.units import ARMS, Floats, Units
from ldlab.estimate import Check

LARGEST_RHAT, LEAST_DRAWS, SMALLEST_P, LEAST_BFMI = 1.01, 400, 0.01, 0.3
LARGEST_SKEW_OF_MEAN = 0.2  # Cochran's n > 25 G^2 is G / sqrt(n) < 1 / 5
REPLICATES = 1000
TOGETHER = 4_000_000  # outcomes of replicated data sets held at a time


def convergence_checks(posterior: Posterior | PanelPosterior) -> tuple[Check, ...]:
    """R-hat, effective sample size (bulk and tail) and divergences, over every parameter of the model.

    Bounds after Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021), Rank-normalization, folding, and
    localization: an improved R-hat, Bayesian Analysis 16(2): R-hat at most 1.01, at least 400 effective
    draws; no divergent transition. Energy: Betancourt (2016), Diagnosing suboptimal cotangent disintegrations, a
    fraction of missing information of at least .3 in every chain. A failure makes the claim 'not readable'.
    """
    draws = posterior.idata["posterior"].to_dataset()
    size = f"{draws.sizes['chain']} chains of {draws.sizes['draw']:,} draws"
    with np.errstate(invalid="ignore", divide="ignore"):  # a chain that never moved has no R-hat: it fails
        rhat = _extreme(az.rhat(draws), largest=True) if draws.sizes["chain"] > 1 else math.nan
        ess = {kind: _extreme(az.ess(draws, method=kind), largest=False) for kind in ("bulk", "tail")}
    divergences = int(posterior.idata["sample_stats"]["diverging"].sum())
    bfmi = float(np.min(np.asarray(az.bfmi(np.asarray(posterior.idata["sample_stats"]["energy"].data)))))
    return (
        _bound(
            "chains agree",
            rhat <= LARGEST_RHAT,
            ("The separate runs of the computation agree", "The separate runs of the computation disagree"),
            statistic=rhat,
            statistic_name="largest R-hat",
            threshold=LARGEST_RHAT,
            power=f"{size}; a single chain cannot pass",
        ),
        *(
            _bound(
                f"effective draws ({kind})",
                ess[kind] >= LEAST_DRAWS,
                (f"Enough independent draws for {what}", f"Too few independent draws for {what}"),
                statistic=ess[kind],
                statistic_name=f"smallest {kind} effective sample size",
                threshold=LEAST_DRAWS,
                power=size,
            )
            for kind, what in (("bulk", "the average effect"), ("tail", "the ends of the range"))
        ),
        _bound(
            "no divergences",
            divergences == 0,
            (
                "The sampler reached every part of the posterior that it tried",
                f"The sampler lost the posterior {divergences} times, so parts of it may be missing",
            ),
            statistic=divergences,
            statistic_name="divergent transitions",
            threshold=0,
            power=size,
        ),
        _bound(
            "energy",
            bfmi >= LEAST_BFMI,
            (
                "The sampler moved freely between likely and unlikely values",
                "The sampler hardly reached the unlikely values, so the ends of the range may be wrong",
            ),
            statistic=bfmi,
            statistic_name="smallest fraction of missing information (BFMI)",
            threshold=LEAST_BFMI,
            power=size,
        ),
    )


def _extreme(values: Any, *, largest: bool) -> float:
    """The worst value over all parameters; NaN if any is NaN."""
    data = values.to_dataset() if isinstance(values, xr.DataTree) else values
    every = np.concatenate([np.ravel(data[name].values) for name in data.data_vars])
    return float(every.max() if largest else every.min())


def _bound(name: str, passed: bool, sentences: tuple[str, str], *, statistic: float, **rest: Any) -> Check:
    """A check that breaks the claim; a statistic that could not be computed is a failure."""
    return Check(
        name=name,
        status="passed" if passed else "failed",
        sentence=sentences[0 if passed else 1] + ".",
        statistic=float(statistic) if math.isfinite(statistic) else None,
        needed=True,
        breaks=True,
        **rest,
    )


@dataclass(frozen=True)
class Statistic:
    """One statistic of a data set: where the model's replicates lie beside the data."""

    family: str
    label: str
    observed: float
    replicated: Floats

    @property
    def p(self) -> float:
        """Two-sided posterior predictive p value."""
        n = len(self.replicated)
        above = (1 + (self.replicated >= self.observed).sum()) / (n + 1)
        below = (1 + (self.replicated <= self.observed).sum()) / (n + 1)
        return float(min(1.0, 2 * min(above, below)))

    def rank(self) -> tuple[float, float]:
        """Sorts the worst fit first: by p, then by distance in sds of the replicates."""
        spread = max(float(self.replicated.std()), 1e-12)
        return self.p, -abs(self.observed - float(self.replicated.mean())) / spread


def skewness(values: Floats) -> Floats:
    """Moment skewness along the last axis; 0 where all values are one."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = stats.moment(values, 3, axis=-1) / values.var(axis=-1) ** 1.5
    return np.where(np.ptp(values, axis=-1) == 0, 0.0, found)


def _sd(values: Floats) -> Floats:
    return np.asarray(values.std(axis=-1, ddof=1))


def _variance(values: Floats) -> Floats:
    return np.asarray(values.var(axis=-1, ddof=1))


def _zeros(values: Floats) -> Floats:
    return np.asarray((values == 0).mean(axis=-1))


def _spread(values: Floats) -> Floats:
    return np.asarray(np.subtract(*np.quantile(values, [0.75, 0.25], axis=-1)))


# Statistics of (data sets, units) along the last axis.
SHAPES: dict[str, dict[str, Callable[[Floats], Floats]]] = {
    "gaussian": {"sd": _sd, "skewness": skewness},
    "student_t": {"quartile range": _spread},
    "binary": {},
    "count": {"variance": _variance, "zeros": _zeros},
    "ordinal": {"sd": _sd},
    "duration": {},
}


def predictive(posterior: Posterior | PanelPosterior) -> tuple[Statistic, ...]:
    """Statistics of the data beside those of data sets replicated from the posterior.

    Mean by arm and by arm x segment (binary: rates, in percentage points); for Gaussian KPIs the sd and the
    skewness of each arm; for counts the variance and the share of zeros; for Student-t errors the distance between
    the quartiles, for ordinal items the sd. Of staggered panels :func:`ldlab.bayes.panel_checks.panel_statistics`. Only
    groups of the minimum size. Empty where there are no rows to compare
    with: cross-products, and durations of which some were still running.
    """
    if isinstance(posterior, PanelPosterior):
        made = panel_statistics(posterior, REPLICATES)
        return tuple(Statistic(family, label, *values) for (family, label), values in made.items())
    units = posterior.units
    if units is None or units.family == "duration":
        return ()
    groups = _groups(posterior)
    observed = _statistics((units.outcome / units.exposure)[None], units, groups)
    many = max(1, TOGETHER // len(units.outcome))
    replicated = [
        _statistics(np.array(y) / units.exposure, units, groups)
        for y in batched(replicates(posterior, REPLICATES), many)
    ]
    return tuple(
        Statistic(
            family, label, float(value[0]), np.concatenate([part[family, label] for part in replicated])
        )
        for (family, label), value in observed.items()
    )


def _groups(posterior: Posterior) -> dict[str, np.ndarray]:
    """Arms, and arm x segment cells that may be shown: name -> rows."""
    units = posterior.units
    assert units is not None
    groups = {ARMS[arm]: units.arm == arm for arm in (0, 1)}
    for name in posterior.segment_effects:
        rows = units.segment == units.segments.index(name)
        groups |= {f"{ARMS[arm]}, {name}": rows & (units.arm == arm) for arm in (0, 1)}
    return groups


def _statistics(y: Floats, units: Units, groups: dict[str, np.ndarray]) -> dict[tuple[str, str], Floats]:
    """(data sets,) values of each statistic of (data sets, n) outcomes."""
    found: dict[tuple[str, str], Floats] = {}
    scale = 100 if units.family == "binary" else 1
    for name, rows in groups.items():
        found["mean", name] = scale * y[:, rows].mean(axis=-1)
    for family, statistic in SHAPES[units.family].items():
        for name in ARMS:
            found[family, name] = statistic(y[:, groups[name]])
    return found


def posterior_predictive_checks(
    posterior: Posterior | PanelPosterior, statistics: tuple[Statistic, ...] | None = None
) -> tuple[Check, ...]:
    """Whether data replicated from the posterior look like the data, where it matters for the mean effect.

    Statistics as in :func:`predictive`; a two-sided posterior predictive p value under .01 fails (Gelman et
    al., Bayesian Data Analysis, 3rd ed., section 6.3). Failed means, spreads, variances and shares of zeros
    make the claim 'not readable'. A skewed Gaussian KPI does not: the mean effect does not depend on it,
    unless the sample is too small for that by Cochran's rule (``mean despite skewness``). ``statistics`` are
    those of :func:`predictive`, if they were computed already.
    """
    found = predictive(posterior) if statistics is None else statistics
    if not found:
        return (_not_comparable(posterior),)
    breaking = [
        ("mean", "means fit", "averages of the groups"),
        ("sd", "spread fits", "spread of the KPI in each arm"),
        ("quartile range", "spread fits", "spread of the KPI in each arm"),
        ("variance", "spread fits", "spread of the KPI in each arm"),
        ("zeros", "zeros fit", "share of zeros in each arm"),
        ("trend before", "trends before fit", "trends before training"),
        ("sd before", "restlessness before fits", "ups and downs of whole cohorts before training"),
    ]
    checks = [
        _fit_check(name, what, [s for s in found if s.family == family])
        for family, name, what in breaking
        if any(s.family == family for s in found)
    ]
    if isinstance(posterior, Posterior) and posterior.family == "gaussian":
        checks += [_shape(found), mean_despite_skewness(posterior)]
    if isinstance(posterior, PanelPosterior):
        checks.append(enough_clusters(posterior))
    return tuple(checks)


def _not_comparable(posterior: Posterior | PanelPosterior) -> Check:
    why = (
        "the rows were not read, only their sums"
        if posterior.units is None
        else "how long the durations that were still running would have been is not known"
    )
    return Check(
        name="means fit",
        status="not_run",
        sentence=f"Data made up by the model were not compared with those observed, because {why}.",
        needed=True,
    )


def _fit_check(name: str, what: str, statistics: list[Statistic]) -> Check:
    worst = min(statistics, key=Statistic.rank)
    passed = worst.p >= SMALLEST_P
    groups = f"{len(statistics)} groups" if len(statistics) > 1 else "1 group"
    low, high = np.quantile(worst.replicated, [0.05, 0.95])
    sentence = (
        f"Data made up by the model have the observed {what} ({groups})."
        if passed
        else f"The model does not reproduce the {what}: {worst.label}, observed {worst.observed:.4g}, "
        f"the model expects {low:.4g} to {high:.4g}."
    )
    return Check(
        name=name,
        status="passed" if passed else "failed",
        sentence=sentence,
        statistic=worst.p,
        statistic_name=f"smallest posterior predictive p ({worst.label})",
        threshold=SMALLEST_P,
        power=f"{worst.family} of '{worst.label}' outside about {low:.4g} to {high:.4g}: "
        "a prior that fights the data, segments or covariates held too tight",
        needed=True,
        breaks=True,
    )


def _shape(found: tuple[Statistic, ...]) -> Check:
    worst = min((s for s in found if s.family == "skewness"), key=Statistic.rank)
    passed = worst.p >= SMALLEST_P
    return Check(
        name="shape",
        status="passed" if passed else "failed",
        sentence="KPI values are about as symmetric as the model says."
        if passed
        else "KPI values are skewed; the average effect does not depend on it, "
        "ranges for single people would.",
        statistic=worst.observed,
        statistic_name=f"skewness ({worst.label})",
        power="skewness beyond about "
        f"{np.quantile(worst.replicated, 0.005):.2g} to {np.quantile(worst.replicated, 0.995):.2g}",
    )


def mean_despite_skewness(posterior: Posterior) -> Check:
    """Whether the samples are large enough for a normal mean effect, given how skewed the residuals are.

    Cochran (1977), Sampling Techniques, 3rd ed., section 2.15: n > 25 G^2 keeps a 95% interval for a mean
    wrong in at most 6% of samples. It bounds the skewness of the sample mean, G / sqrt(n), by 1/5. What is
    published here is a difference of two means, so the bound is put on the difference's skewness:
    ``(k1 / n1^2 - k0 / n0^2) / (v1 / n1 + v0 / n0)^1.5`` with third moments k and variances v of each arm's
    residuals. With clusters the units are cluster means of the residuals. A skewness beyond the bound that so few units
    show by chance (within two sds under normal errors) counts as not run.
    """
    values = _residual_groups(posterior)
    assert posterior.units is not None
    skew, noise = _skewness_of_difference(values)
    passed = skew < LARGEST_SKEW_OF_MEAN
    by_chance = not passed and skew < 2 * noise
    units = posterior.study.program.design.units if posterior.units.cluster is None else "clusters"
    return Check(
        name="mean despite skewness",
        status="passed" if passed else "not_run" if by_chance else "failed",
        sentence=f"There are enough {units} for a reliable average, however skewed the KPI is."
        if passed
        else f"There are too few {units} to tell whether a few extreme values could move the average effect."
        if by_chance
        else f"A few extreme values could move the average effect: too few {units} for a KPI this skewed.",
        statistic=skew,
        statistic_name="skewness of the difference in means",
        threshold=LARGEST_SKEW_OF_MEAN,
        power="skewness in the sample; extremes that are rarer than one in the sample stay unseen",
        needed=True,
    )


def _skewness_of_difference(values: list[Floats]) -> tuple[float, float]:
    """Size of the skewness of a difference in means, and its sd where errors are normal (that of a third moment is 6 v^3 / n)."""
    variance = sum(v.var() / len(v) for v in values)
    if variance == 0:
        return 0.0, 0.0
    third = [stats.moment(v, 3) / len(v) ** 2 for v in values]
    noise = sum(6 * v.var() ** 3 / len(v) ** 5 for v in values) ** 0.5
    return float(abs(third[1] - third[0]) / variance**1.5), float(noise / variance**1.5)


def _residual_groups(posterior: Posterior) -> list[Floats]:
    """Residuals at the posterior mean, by arm; means of clusters where there are some."""
    units = posterior.units
    assert units is not None
    draws = posterior.idata["posterior"].to_dataset()["coefficients"]
    mean = np.asarray(draws.mean(("chain", "draw")).values)
    residual = units.outcome - np.where(units.arm == 1, units.design @ mean[1], units.design @ mean[0])
    if units.cluster is None:
        return [residual[units.arm == arm] for arm in (0, 1)]
    cells = pd.DataFrame({"arm": units.arm, "cluster": units.cluster, "residual": residual})
    means = cells.groupby(["arm", "cluster"], as_index=False)["residual"].mean()
    return [means.loc[means["arm"] == arm, "residual"].to_numpy() for arm in (0, 1)]
