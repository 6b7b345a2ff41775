"""The linear predictor that the families beside the plain Gaussian share, and effects standardised over people.

``eta = level[segment] + x'b`` in the comparison arm; training adds ``effect[segment] + x'c``. Segment effects are
normal around a common mean; clusters add random intercepts. Several program arms are like segments with one common
level. Covariates are rotated to their own axes, which leaves their normal priors as they are. A row may stand for many
identical units.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr

from ldlab.bayes.compiled import Data, Shape
from ldlab.bayes.geometry import cluster_centring, segment_centring
from ldlab.bayes.priors import Priors
from ldlab.bayes.units import Floats, Ints, Units, group_cells

CHUNK = 250  # draws at a time, so that rows x draws stay small


def linear_predictor(shape: Shape, *, levels: bool = True) -> Any:
    """(rows,) eta of a model under construction; ``levels=False`` starts from 0 in the first segment.

    Group effects are ``scale * r^(1 - w) * x`` with ``x ~ N(0, r^w)`` and ``r`` half-normal, see ``geometry``.
    """
    s, p = shape.segments, shape.covariates
    prior = {name: pm.Data(f"prior_{name}", 1.0) for name in PRIOR_FIELDS + CLUSTER_FIELDS[: shape.clusters]}
    level = pm.Normal("level", prior["baseline_mean"], prior["baseline_sd"], shape=s)
    mean = pm.Normal("link_effect", prior["link_effect_mean"], prior["link_effect_sd"])
    deviation = _group_effects("segment", prior["link_segment_sd"], s)
    slope = prior["slope_sd"] * pm.Normal("slope_unit", 0, 1, shape=p)
    change = prior["interaction_sd"] * pm.Normal("interaction_unit", 0, 1, shape=p)
    segment = pm.Data("segment", np.zeros(1, dtype=np.int64))
    level_of = pm.Data("level_of", np.zeros(1, dtype=np.int64))
    arm = pm.Data("arm", np.zeros(1))
    x = pm.Data("x", np.zeros((1, p)))
    member, start = (pt.eq(codes[:, None], np.arange(s)) for codes in (segment, level_of))
    own = level if levels else level - level[0]
    eta = pt.dot(start, own) + arm * (mean + pt.dot(member, deviation)) + pt.dot(x, slope)
    eta = eta + arm * pt.dot(x, change)
    if shape.clusters:
        shift = _group_effects("cluster", prior["cluster_sd"], shape.clusters)
        eta = eta + shift[pm.Data("cluster", np.zeros(1, dtype=np.int64))]
    return eta


PRIOR_FIELDS = (
    "baseline_mean", "baseline_sd", "link_effect_mean", "link_effect_sd", "link_segment_sd", "slope_sd",
    "interaction_sd",
)  # fmt: skip
CLUSTER_FIELDS = ("cluster_sd",)


def _group_effects(name: str, scale: Any, size: int) -> Any:
    spread = pm.HalfNormal(f"{name}_spread", 1)
    centring = pm.Data(f"{name}_centring", np.zeros(size))
    unit = pm.Normal(f"{name}_unit", 0, spread**centring, shape=size)
    return pm.Deterministic(f"{name}_shift", scale * spread ** (1 - centring) * unit)


class Rows:
    """The rows of one program in the form that :func:`linear_predictor` reads, and what its draws mean.

    Parameters
    ----------
    units, prior
        The units and their priors.
    shape
        The shape that the model was compiled for.
    arm, segment, cluster, z
        (r,) and (r, p): the rows; one for each unit, or for each kind of identical units.
    """

    def __init__(
        self, units: Units, prior: Priors, shape: Shape, *, arm: Ints, segment: Ints, cluster: Ints, z: Floats
    ) -> None:
        self.units, self.prior, self.shape = units, prior, shape
        self.arm, self.segment, self.cluster, self.z = arm, segment, cluster, z
        p = units.z.shape[1]
        self.axes = np.linalg.eigh(units.z.T @ units.z)[1] if p else np.zeros((0, 0))

    @property
    def pooled(self) -> bool:
        """Whether there are segments to pool."""
        return len(self.units.segments) > 1

    def data(self) -> Data:
        """What :func:`linear_predictor` reads."""
        units, prior, shape = self.units, self.prior, self.shape
        p = units.z.shape[1]
        fields = PRIOR_FIELDS + CLUSTER_FIELDS[: shape.clusters]
        found: dict[str, Any] = {f"prior_{name}": getattr(prior, name) for name in fields}
        found |= {"arm": self.arm.astype(float), "segment": self.segment}
        found["level_of"] = self.segment if units.own_levels else np.zeros_like(self.segment)
        found["x"] = np.pad(self.z @ self.axes, ((0, 0), (0, shape.covariates - p)))
        centring = np.zeros(shape.segments)
        if self.pooled:
            centring[: units.levels] = segment_centring(units, prior.slope, prior.link_segment_sd)
        else:
            found["prior_link_segment_sd"] = 0.0
        found["segment_centring"] = centring
        if shape.clusters:
            assert units.cluster is not None
            own = np.zeros(shape.clusters)
            own[: units.cluster.max() + 1] = cluster_centring(units, prior.slope, prior.cluster_sd)
            found |= {"cluster": self.cluster, "cluster_centring": own}
        return found

    def coefficients(self, posterior: xr.Dataset) -> dict[str, Floats]:
        """``coefficients`` (chain, draw, arm, s + p) and, with clusters, ``cluster_shift`` (chain, draw, clusters)."""
        s, p = self.units.levels, self.units.z.shape[1]
        level = posterior["level"].values[..., :s]
        if not self.units.own_levels:
            level = np.repeat(level[..., :1], s, axis=-1)
        if self.units.family == "ordinal":  # log odds to be above the lowest category; see ``levels=False``
            level = level - level[..., :1] - posterior["cutpoints"].values[..., :1]
        effect = posterior["link_effect"].values[..., None] + posterior["segment_shift"].values[..., :s]
        slope = self.prior.slope_sd * posterior["slope_unit"].values[..., :p] @ self.axes.T
        change = self.prior.interaction_sd * posterior["interaction_unit"].values[..., :p] @ self.axes.T
        untrained = np.concatenate([level, slope], axis=-1)
        trained = np.concatenate([level + effect, slope + change], axis=-1)
        found = {"coefficients": np.stack([untrained, trained], axis=-2)}
        if self.shape.clusters:
            assert self.units.cluster is not None
            found["cluster_shift"] = posterior["cluster_shift"].values[..., : self.units.cluster.max() + 1]
        return found

    def prior_draws(self, draws: int, categories: int, rng: np.random.Generator) -> xr.Dataset:
        """The sampled quantities of :func:`linear_predictor` from their prior, one chain; quicker than by PyMC."""
        prior, shape = self.prior, self.shape
        spread = prior.link_segment_sd * self.pooled * np.abs(rng.standard_normal((draws, 1)))
        found = {
            "level": rng.normal(prior.baseline_mean, prior.baseline_sd, (draws, shape.segments)),
            "link_effect": rng.normal(prior.link_effect_mean, prior.link_effect_sd, draws),
            "segment_shift": spread * rng.standard_normal((draws, shape.segments)),
            "slope_unit": rng.standard_normal((draws, shape.covariates)),
            "interaction_unit": rng.standard_normal((draws, shape.covariates)),
        }
        if shape.clusters:
            spread = prior.cluster_sd * np.abs(rng.standard_normal((draws, 1)))
            found["cluster_shift"] = spread * rng.standard_normal((draws, shape.clusters))
        if categories:
            below = np.cumsum(rng.dirichlet(np.ones(categories), draws), axis=1)[:, :-1]
            found["cutpoints"] = np.log(below) - np.log1p(-below)
        return xr.Dataset(
            {
                name: (("chain", "draw", *(f"{name}_{i}" for i in range(value.ndim - 1))), value[None])
                for name, value in found.items()
            }
        )


def standardised(units: Units, draws: dict[str, Floats], mean_of: Any) -> dict[str, Floats]:
    """``effect`` (chain, draw) and ``segment_effect`` (chain, draw, s) in KPI units: averages over the population.

    ``mean_of(eta, sample)`` is the expected KPI at a linear predictor (rows, draws), for the draws of the slice
    ``sample``; every person of the population is given both arms in turn.
    """
    people = units.population
    cluster = np.zeros_like(units.arm) if units.cluster is None else units.cluster
    cells, which = group_cells(units.segment[people], cluster[people], units.design[people])
    segment, cluster = cells[:, 0].astype(int), cells[:, 1].astype(int)
    weight = np.eye(units.levels)[segment].T * np.bincount(which)
    share = weight.sum(axis=1) / weight.sum()
    weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-12)
    coefficients = draws["coefficients"]
    chains, kept = coefficients.shape[:2]
    flat = coefficients.reshape(chains * kept, 2, -1)
    shift = draws["cluster_shift"].reshape(chains * kept, -1) if "cluster_shift" in draws else None
    parts = []
    for start in range(0, len(flat), CHUNK):
        sample = slice(start, start + CHUNK)
        own = 0.0 if shift is None else shift[sample].T[cluster]
        means = [mean_of(cells[:, 2:] @ flat[sample, arm].T + own, sample) for arm in (0, 1)]
        parts.append((weight @ (means[1] - means[0])).T)
    by_segment = np.concatenate(parts).reshape(chains, kept, units.levels)
    return {"effect": by_segment @ share, "segment_effect": by_segment}
