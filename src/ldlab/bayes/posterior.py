"""Posterior: draws of the effect, sampled with NUTS, and the estimates read from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeGuard

import numpy as np
import pymc as pm
import xarray as xr

from ldlab.bayes import gaussian
from ldlab.bayes.compiled import Data, Sampling, Shape, compiled, room_for, sample, with_data
from ldlab.bayes.families import FAMILIES, rows_of, scale_of
from ldlab.bayes.gaussian import Gaussian
from ldlab.bayes.panel import PanelPosterior, fit_panel, panel_model, panel_of, warm_panel
from ldlab.bayes.predictor import standardised
from ldlab.bayes.priors import Priors, priors, priors_of
from ldlab.bayes.units import Floats, Units, cross_products, units_of
from ldlab.estimate import Estimate, Printed
from ldlab.program import CrossProducts, LdlabError, Study

PRIOR_DRAWS = 4000


@dataclass(frozen=True, eq=False, repr=False)
class Posterior(Printed):
    """Draws from the posterior of a study's model. Made by :func:`fit`.

    Attributes
    ----------
    study
        The study, one row per unit; or its cross-products.
    priors
        The priors, in KPI units.
    idata
        xarray DataTree with the groups ``posterior``, ``prior`` (draws of the effect) and ``sample_stats``,
        as ArviZ reads them; it holds no data of single units.
    segments, sizes
        Names of segments, and units of each in the comparison and the trained arm.
    units
        The arrays behind the likelihood; None where only cross-products were read.
    """

    study: Study | CrossProducts
    priors: Priors
    idata: xr.DataTree
    segments: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    units: Units | None = field(repr=False, default=None)

    @property
    def effect(self) -> Floats:
        """(chains x draws,) the average effect over the estimand's population, in effect units."""
        return np.asarray(self.idata["posterior"]["effect"].values).ravel()

    @property
    def prior_effect(self) -> Floats:
        """(draws,) the same from the prior."""
        return np.asarray(self.idata["prior"]["effect"].values).ravel()

    @property
    def segment_effects(self) -> dict[str, Floats]:
        """Per segment that may be shown: (chains x draws,) draws of its effect; small ones are one group."""
        if not self.segments:
            return {}
        draws = self.idata["posterior"].to_dataset()["segment_effect"]
        minimum = self.study.program.analysis.minimum_group_size
        sizes = zip(self.segments, self.sizes, strict=True)
        return {
            name: np.ravel(draws.sel(segment=name).values) for name, size in sizes if min(size) >= minimum
        }

    @property
    def family(self) -> str:
        """The likelihood's family."""
        return "gaussian" if self.units is None else self.units.family

    @property
    def method(self) -> str:
        """How it was estimated, in words."""
        parts = [f"Bayesian {FAMILIES[self.family].words} regression"]
        if self.study.program.is_panel:
            parts[0] += " on changes per " + self.study.program.design.unit
        if self.segments:
            parts.append("partially pooled segments")
        if self.units is not None and self.units.cluster is not None:
            parts.append("clusters as random intercepts")
        return ", ".join(parts)

    def _rows(self) -> list[tuple[str, str]]:
        """What was sampled; the effect waits until convergence was looked at."""
        sizes, counts = self.idata["posterior"].sizes, self.study.count()
        return [
            ("model", self.method),
            ("units", f"{counts['observations']:,} {self.study.program.design.units}"),
            ("draws", f"{sizes['chain']} chains of {sizes['draw']:,}"),
        ]


@dataclass(frozen=True)
class Likelihood:
    """A study's model ready to be sampled: which model, its room, its numbers, and what its draws mean.

    ``effects`` turns the posterior's draws into ``effect``, ``segment_effect``, ``coefficients`` ...; ``prior_effect``
    draws ``effect`` from the prior.
    """

    build: Callable[[Shape], pm.Model]
    shape: Shape
    data: Data
    effects: Callable[[xr.Dataset], dict[str, Floats]]
    prior_effect: Callable[[int], Floats]


def likelihood_of(study: Study | CrossProducts, units: Units | None, prior: Priors) -> Likelihood:
    """Which model answers for these data: by the kind of KPI, and whether there are clusters."""
    seed = study.program.analysis.seed
    if units is None or (units.family == "gaussian" and units.cluster is None):
        cells = study if isinstance(study, CrossProducts) else cross_products(units) if units else None
        assert cells is not None
        made = Gaussian(cells, prior)
        rngs = [np.random.default_rng([seed, part]) for part in (1, 2)]
        return Likelihood(
            gaussian.build,
            made.shape,
            made.data(),
            lambda found: made.effects(found, rngs[1]),
            lambda draws: made.prior_effect(draws, rngs[0]),
        )
    family = FAMILIES[units.family]
    clusters = 0 if units.cluster is None else int(units.cluster.max()) + 1
    categories = scale_of(units)[1] if units.family == "ordinal" else 0
    shape = room_for(units.levels, units.z.shape[1], clusters, categories)
    rows, data = rows_of(units, prior, shape)

    def effects(found: xr.Dataset) -> dict[str, Floats]:
        draws = rows.coefficients(found)
        flat = found.stack(sample=("chain", "draw"))
        means = standardised(units, draws, lambda eta, part: family.mean(eta, flat.isel(sample=part)))
        return {**draws, **means}

    def prior_effect(draws: int) -> Floats:
        found = rows.prior_draws(draws, categories, np.random.default_rng([seed, 1]))
        return effects(found)["effect"].ravel()

    return Likelihood(family.build, shape, data, effects, prior_effect)


def warm(families: Iterable[str] = ("gaussian", "gaussian-16", "binary", "count")) -> None:
    """Compile the standard models of these families, so that a fit in this process, or a fork of it, only samples.

    No data enter. ``gaussian`` has room for 4 covariates and any number of segments, ``gaussian-16`` for 16; ``panel``
    (staggered) for about 100 cells of cohort and period; the others for 4 covariates without segments or clusters.
    """
    for name in families:
        if name == "panel":
            warm_panel()
        elif name in ("gaussian", "gaussian-16"):
            compiled(gaussian.build, room_for(covariates=4 if name == "gaussian" else 16))
        else:
            compiled(FAMILIES[name].build, room_for())


def model(study: Study | CrossProducts) -> pm.Model:
    """The PyMC model of a study with its numbers in place, to be read or sampled by any sampler.

    Which one: see :mod:`ldlab.bayes.gaussian` (continuous KPIs without clusters), :mod:`ldlab.bayes.panel_model`
    (staggered panels) and :mod:`ldlab.bayes.families` (all others).

    Raises
    ------
    LdlabError
        As :func:`ldlab.bayes.priors`.
    """
    if _is_staggered(study):
        return panel_model(study)
    study, units, prior = _asked(study, None)
    found = likelihood_of(study, units, prior)
    return with_data(found.build, found.shape, found.data)


def prior_effect_draws(study: Study | CrossProducts, draws: int = PRIOR_DRAWS) -> Floats:
    """(draws,) the average effect in effect units, drawn from the prior alone.

    For binary, count and ordinal KPIs this is the prior on the link scale carried back to KPI units by standardising
    over the people, so it shows what the translation in :func:`ldlab.bayes.priors` did.

    Raises
    ------
    LdlabError
        As :func:`ldlab.bayes.priors`.
    """
    if _is_staggered(study):
        return panel_of(study).prior_effect(draws, np.random.default_rng([study.program.analysis.seed, 1]))
    return likelihood_of(*_asked(study, None)).prior_effect(draws)


def _is_staggered(study: Study | CrossProducts) -> TypeGuard[Study]:
    return isinstance(study, Study) and study.program.design.kind == "staggered"


def _asked(
    study: Study | CrossProducts, prior: Priors | None
) -> tuple[Study | CrossProducts, Units | None, Priors]:
    if isinstance(study, CrossProducts):
        if study.cluster is not None:
            raise LdlabError(
                "bayes: found clusters in cross-products; expected none, because random intercepts need the rows. Use "
                "ldlab.load_study, or take columns.cluster out of the program file"
            )
        return study, None, prior or priors(study)
    units = units_of(study)
    return units.study, units, prior or priors_of(units)


def fit(
    study: Study | CrossProducts, *, prior: Priors | None = None, sampling: Sampling | None = None
) -> Posterior | PanelPosterior:
    """Sample the posterior of :func:`ldlab.bayes.model` with NUTS (nutpie).

    Parameters
    ----------
    study : Study or CrossProducts
        One row per unit; a two-group before/after panel, which is collapsed to changes per unit first; or a
        staggered panel, which is reduced to means of cohorts and the scatter of clusters.
    prior : Priors, optional
        Default: :func:`ldlab.bayes.priors` of the study.
    sampling : Sampling, optional
        Draws, warm-up, chains; the draws do not depend on the number of cores.

    Returns
    -------
    Posterior, or PanelPosterior for a staggered panel
        The same numbers for the same data and ``analysis.seed``.

    Raises
    ------
    LdlabError
        As :func:`ldlab.bayes.priors`.
    """
    if _is_staggered(study):
        return fit_panel(study, prior=prior, sampling=sampling)
    study, units, prior = _asked(study, prior)
    found = likelihood_of(study, units, prior)
    seed = study.program.analysis.seed
    sampled = sample(found.build, found.shape, found.data, seed=seed, sampling=sampling or Sampling())
    segments, sizes = _segments_of(study, units)
    draws = sampled["posterior"].to_dataset()
    effect = xr.DataArray(found.prior_effect(PRIOR_DRAWS)[None], dims=("chain", "draw"), name="effect")
    idata = xr.DataTree.from_dict(
        {
            "posterior": _named(found.effects(draws), draws, study, segments, units),
            "prior": effect.to_dataset(),
            "sample_stats": sampled["sample_stats"].to_dataset(),
        }
    )
    return Posterior(study, prior, idata, segments, sizes, units)


def _segments_of(
    study: Study | CrossProducts, units: Units | None
) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    if units is not None:
        return units.segments, tuple(units.sizes(code) for code in range(len(units.segments)))
    assert isinstance(study, CrossProducts)
    counts = [study.count(code) for code in range(len(study.segments))]
    return study.segments, tuple((int(c["comparison"] or 0), int(c["treated"] or 0)) for c in counts)


KEPT = (
    "sigma",
    "overdispersion",
    "nu_above_1",
    "cutpoints",
    "segment_spread",
    "cluster_spread",
    "mean_effect",
    "link_effect",
)


def _named(
    effects: dict[str, Floats],
    draws: xr.Dataset,
    study: Study | CrossProducts,
    segments: tuple[str, ...],
    units: Units | None,
) -> xr.Dataset:
    """What is kept of a posterior, under the names of arms, columns and segments."""
    names = segments or ("all",)
    columns = (*((f"segment {name}" for name in segments) if segments else ("constant",)), *study.covariates)
    dims = {
        "effect": (),
        "segment_effect": ("segment",),
        "coefficients": ("arm", "column"),
        "cluster_shift": ("cluster",),
    }
    coords = {"arm": ["comparison", "trained"], "segment": list(names), "column": list(columns)}
    table = xr.Dataset(
        {name: (("chain", "draw", *dims[name]), value) for name, value in effects.items()}, coords=coords
    )
    pooled = bool(segments)
    for name in KEPT:
        if name in draws and (pooled or name != "segment_spread"):
            value = draws[name]
            own = ("arm",) if name in ("sigma", "overdispersion") else tuple(value.dims[2:])
            table[name] = (("chain", "draw", *own), value.values)
    return table if pooled else table.drop_vars("segment_effect")


def estimate(posterior: Posterior | PanelPosterior) -> Estimate:
    """The average effect as an :class:`ldlab.Estimate`: posterior mean, sd, equal-tailed interval, chances.

    For the estimand's population (everyone: ATE, ITT; the trained: ATT), in effect units.
    """
    study = posterior.study
    return Estimate.from_draws(
        posterior.effect,
        method=posterior.method,
        estimand=study.estimand_in_full,
        se_kind="posterior sd",
        n=study.count(),
        **study.measure(),
    )


def segment_estimates(posterior: Posterior | PanelPosterior) -> tuple[Estimate, ...]:
    """One estimate for each segment with the minimum group size in both arms; empty without segments.

    Segments that are too small, and the next smallest where a single one could be found by subtraction,
    are pooled into 'smaller groups', which is shown if it is large enough.
    """
    study = posterior.study
    return tuple(
        Estimate.from_draws(
            draws,
            method=posterior.method,
            estimand=study.estimand_in_full,
            se_kind="posterior sd",
            n=_counted(posterior, posterior.segments.index(name)),
            term=name,
            **study.measure(),
        )
        for name, draws in posterior.segment_effects.items()
    )


def segments_alone(posterior: Posterior | PanelPosterior) -> tuple[Estimate, ...]:
    """Each segment's plain difference in means, as if the others did not exist; beside the pooled ones it shows how
    far they were pulled to the average. Welch errors; empty without segments or rows.
    """
    study, units = posterior.study, posterior.units
    if units is None or isinstance(study, CrossProducts):
        return ()
    found = []
    for name in posterior.segment_effects:
        rows = units.segment == posterior.segments.index(name)
        arms = [study.frame.loc[rows & (units.arm == arm), "outcome"] for arm in (0, 1)]
        parts = [values.var() / len(values) for values in arms]
        if sum(parts) == 0:
            continue
        df = sum(parts) ** 2 / sum(part**2 / (len(v) - 1) for part, v in zip(parts, arms, strict=True))
        estimate_alone = Estimate.from_t(
            float(arms[1].mean() - arms[0].mean()),
            sum(parts) ** 0.5,
            df=df,
            method="difference in means of the segment alone",
            estimand=study.estimand_in_full,
            se_kind="HC2",
            n=_counted(posterior, posterior.segments.index(name)),
            term=name,
            **study.measure(),
        )
        found.append(estimate_alone)
    return tuple(found)


def _counted(posterior: Posterior | PanelPosterior, segment: int) -> dict[str, int | None]:
    study, units = posterior.study, posterior.units
    if isinstance(study, CrossProducts) or units is None:
        return study.count(segment)  # type: ignore[arg-type]
    return study.count(study.frame[units.segment == segment])
