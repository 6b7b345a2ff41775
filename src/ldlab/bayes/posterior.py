"""Posterior: draws of the effect, sampled with NUTS, and the estimates read from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr

from ldlab.bayes.regression import Priors, model_of, priors_of
from ldlab.bayes.units import Floats, Units, units_of
from ldlab.estimate import Estimate, Printed
from ldlab.program import Study

FAMILY_WORDS = {"gaussian": "linear", "binary": "logistic", "count": "negative binomial"}


@dataclass(frozen=True, eq=False, repr=False)
class Posterior(Printed):
    """Draws from the posterior of a study's model. Made by :func:`fit`.

    Attributes
    ----------
    study
        The study, one row per unit.
    priors
        The priors, in KPI units.
    idata
        xarray DataTree with the groups ``posterior``, ``prior`` (draws of the effect) and ``sample_stats``,
        as ArviZ reads them; it holds no data of single units.
    units
        The arrays behind the likelihood.
    """

    study: Study
    priors: Priors
    idata: xr.DataTree
    units: Units = field(repr=False)

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
        if not self.units.segments:
            return {}
        draws = self.idata["posterior"].to_dataset()["segment_effect"]
        return {name: np.ravel(draws.sel(segment=name).values) for name in self._shown_segments()}

    def _shown_segments(self) -> list[str]:
        """Segments with the minimum group size in each arm; no other group can be had by subtraction."""
        minimum = self.study.program.analysis.minimum_group_size
        sizes = {name: self._sizes(code) for code, name in enumerate(self.units.segments)}
        return [name for name, size in sizes.items() if min(size) >= minimum]

    def _sizes(self, segment: int) -> tuple[int, int]:
        counts = np.bincount(self.units.arm[self.units.segment == segment], minlength=2)
        return int(counts[0]), int(counts[1])

    @property
    def method(self) -> str:
        """How it was estimated, in words."""
        parts = [f"Bayesian {FAMILY_WORDS[self.units.family]} regression"]
        if self.study.program.is_panel:
            parts[0] += " on changes per " + self.study.program.design.unit
        if self.units.segments:
            parts.append("partially pooled segments")
        if self.units.cluster is not None:
            parts.append("clusters as random intercepts")
        return ", ".join(parts)

    def _rows(self) -> list[tuple[str, str]]:
        """What was sampled; the effect waits until convergence was looked at."""
        sizes = self.idata["posterior"].sizes
        return [
            ("model", self.method),
            ("units", f"{len(self.units.arm):,} {self.study.program.design.units}"),
            ("draws", f"{sizes['chain']} chains of {sizes['draw']:,}"),
        ]


def prior_effect_draws(study: Study, draws: int = 4000) -> Floats:
    """(draws,) the average effect in effect units, drawn from the prior alone.

    For binary KPIs and counts this is the prior on the link scale carried back to KPI units by standardising
    over the people, so it shows what the translation in :func:`ldlab.bayes.priors` did.

    Raises
    ------
    LdlabError
        As :func:`ldlab.bayes.priors`.
    """
    units = units_of(study)
    return _prior_draws(model_of(units, priors_of(units)), draws, study.program.analysis.seed)


def _prior_draws(model: pm.Model, draws: int, seed: int) -> Floats:
    return np.asarray(pm.draw(model["effect"], draws=draws, random_seed=seed), dtype=float)


def fit(
    study: Study,
    *,
    draws: int = 1000,
    tune: int = 1000,
    chains: int = 4,
    cores: int = 2,
    target_accept: float = 0.95,
) -> Posterior:
    """Sample the posterior of :func:`ldlab.bayes.model` with NUTS (nutpie).

    Parameters
    ----------
    study : Study
        One row per unit, or a two-group before/after panel, which is collapsed to changes per unit first.
    draws, tune, chains : int
        Kept draws and warm-up of each chain.
    cores : int
        Chains run side by side; the draws do not depend on it.
    target_accept : float
        NUTS's target acceptance; higher means smaller steps.

    Returns
    -------
    Posterior
        The same numbers for the same data and ``analysis.seed``.

    Raises
    ------
    LdlabError
        As :func:`ldlab.bayes.priors`.
    """
    units = units_of(study)
    prior = priors_of(units)
    model = model_of(units, prior)
    seed = study.program.analysis.seed
    with model:
        sampled: Any = pm.sample(
            draws,
            tune=tune,
            chains=chains,
            cores=cores,
            nuts_sampler="nutpie",
            target_accept=target_accept,
            random_seed=seed,
            progressbar=False,
            quiet=True,
            compute_convergence_checks=False,
        )
    effect = xr.DataArray(_prior_draws(model, 4000, seed)[None], dims=("chain", "draw"), name="effect")
    groups = {
        "posterior": sampled["posterior"],
        "prior": effect.to_dataset(),
        "sample_stats": sampled["sample_stats"],
    }
    idata = xr.DataTree.from_dict(
        {
            name: group.to_dataset() if isinstance(group, xr.DataTree) else group
            for name, group in groups.items()
        }
    )
    return Posterior(units.study, prior, idata, units)


def estimate(posterior: Posterior) -> Estimate:
    """The average effect as an :class:`ldlab.Estimate`: posterior mean, sd, equal-tailed interval, chances.

    For the estimand's population (everyone: ATE, ITT; the trained: ATT), in effect units.
    """
    study = posterior.study
    return Estimate.from_draws(
        posterior.effect,
        method=posterior.method,
        estimand=study.estimand,
        se_kind="posterior sd",
        n=study.count(),
        **study.measure(),
    )


def segment_estimates(posterior: Posterior) -> tuple[Estimate, ...]:
    """One estimate for each segment with the minimum group size in both arms; empty without segments.

    Segments that are too small, and the next smallest where a single one could be found by subtraction,
    are pooled into 'smaller groups', which is shown if it is large enough.
    """
    study, units = posterior.study, posterior.units
    return tuple(
        Estimate.from_draws(
            draws,
            method=posterior.method,
            estimand=study.estimand,
            se_kind="posterior sd",
            n=study.count(study.frame[units.segment == units.segments.index(name)]),
            term=name,
            **study.measure(),
        )
        for name, draws in posterior.segment_effects.items()
    )
