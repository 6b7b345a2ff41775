"""Effects of several sites (or programs) pooled by a hierarchical normal model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import xarray as xr

from ldlab.bayes.units import Floats
from ldlab.estimate import format_chance, rows_to_html
from ldlab.program import LdlabError


@dataclass(frozen=True, eq=False, repr=False)
class PooledSites:
    """Posterior of :func:`pooled_sites`.

    ``idata`` is the DataTree; ``mean`` (draws,) the mean over the population of sites, ``spread`` (draws,)
    the sd between sites, ``sites`` (sites, draws) each site's own effect; all in the units of the effects.
    """

    idata: xr.DataTree

    @property
    def mean(self) -> Floats:
        """(draws,) mean effect over the population of sites."""
        return np.asarray(self.idata["posterior"]["mu"].values).ravel()

    @property
    def spread(self) -> Floats:
        """(draws,) sd of true effects between sites."""
        return np.asarray(self.idata["posterior"]["tau"].values).ravel()

    @property
    def sites(self) -> Floats:
        """(sites, draws) effect of each site, shrunk towards the mean."""
        return np.asarray(self.idata["posterior"]["theta"].stack(sample=("chain", "draw")).values)

    def _rows(self) -> list[tuple[str, str]]:
        return [
            ("sites", f"{len(self.sites)}"),
            ("mean effect", f"{self.mean.mean():.3g} (posterior sd {self.mean.std(ddof=1):.3g})"),
            ("sd between sites", f"{self.spread.mean():.3g} (posterior sd {self.spread.std(ddof=1):.3g})"),
            ("chance that the mean is above zero", format_chance(float((self.mean > 0).mean()))),
        ]

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {text}" for name, text in self._rows())

    def _repr_html_(self) -> str:
        return rows_to_html(self._rows())


def pooled_sites(
    effects: Sequence[float] | Floats,
    ses: Sequence[float] | Floats,
    *,
    mean_sd: float,
    tau_scale: float,
    seed: int,
    draws: int = 2000,
) -> PooledSites:
    """Pool independent estimates: effect_j ~ N(theta_j, se_j), theta_j ~ N(mu, tau).

    Priors mu ~ N(0, mean_sd), tau ~ half-Cauchy(tau_scale); non-centred. Rubin (1981), Estimation in parallel
    randomized experiments; Gelman et al., Bayesian Data Analysis, 3rd ed., section 5.5.

    Parameters
    ----------
    effects, ses : sequence of float
        (sites,) estimates and their standard errors, in one unit.
    mean_sd, tau_scale : float
        Scales of the priors, in that unit.
    seed : int
    draws : int
        Kept draws of each of the four chains, after as many of warm-up.

    Raises
    ------
    LdlabError
        Fewer than two sites, or a standard error that is not positive.
    """
    y, se = np.asarray(effects, dtype=float), np.asarray(ses, dtype=float)
    if (
        len(y) < 2
        or len(y) != len(se)
        or not (np.isfinite(y).all() and np.isfinite(se).all() and (se > 0).all())
    ):
        raise LdlabError(
            f"pooled_sites: found {len(y)} effects, {len(se)} standard errors; expected two or more finite "
            "effects, each with an error above 0"
        )
    with pm.Model(coords={"site": np.arange(len(y))}):
        mu = pm.Normal("mu", 0, mean_sd)
        tau = pm.HalfCauchy("tau", tau_scale)
        theta = pm.Deterministic("theta", mu + tau * pm.Normal("unit", 0, 1, dims="site"), dims="site")
        pm.Normal("effect", theta, se, observed=y, dims="site")
        sampled: Any = pm.sample(
            draws,
            tune=draws,
            chains=4,
            cores=2,
            nuts_sampler="nutpie",
            target_accept=0.95,
            random_seed=seed,
            progressbar=False,
            quiet=True,
            compute_convergence_checks=False,
        )
    return PooledSites(sampled)
