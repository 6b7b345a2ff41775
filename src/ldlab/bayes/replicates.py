"""Data sets that a posterior would make of the same units."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from scipy import special

from ldlab.bayes.families import LARGEST_DISPERSION, scale_of
from ldlab.bayes.posterior import Posterior
from ldlab.bayes.units import Floats, Units

Draw = Mapping[str, np.ndarray]


def replicates(posterior: Posterior, draws: int) -> Iterator[Floats]:
    """(n,) outcomes of the same units, one data set for each of evenly spaced posterior draws."""
    units, rng = posterior.units, np.random.default_rng(posterior.study.program.analysis.seed)
    assert units is not None
    kept = posterior.idata["posterior"].to_dataset()[[*_read_by(units)]]
    stacked = kept.stack(sample=("chain", "draw")).transpose("sample", ...)
    picked = np.unique(np.linspace(0, stacked.sizes["sample"] - 1, draws).astype(int))
    values = {str(name): table.values[picked] for name, table in stacked.data_vars.items()}
    for i in range(len(picked)):
        draw = {name: table[i] for name, table in values.items()}
        yield REPLICATE[units.family](predictor(units, draw), draw, units, rng)


def _read_by(units: Units) -> tuple[str, ...]:
    """The parameters that replicates of a family are made from."""
    of_family = {"gaussian": ("sigma",), "student_t": ("sigma", "nu_above_1"), "count": ("overdispersion",),
                 "ordinal": ("cutpoints",)}  # fmt: skip
    shifts = () if units.cluster is None else ("cluster_shift",)
    return ("coefficients", *shifts, *of_family.get(units.family, ()))


def _normal(eta: Floats, draw: Draw, units: Units, rng: np.random.Generator) -> Floats:
    return rng.normal(eta, draw["sigma"][units.arm])


def _student_t(eta: Floats, draw: Draw, units: Units, rng: np.random.Generator) -> Floats:
    nu = 1 + float(draw["nu_above_1"])
    return np.asarray(eta + draw["sigma"][units.arm] * rng.standard_t(nu, len(eta)))


def _binomial(eta: Floats, draw: Draw, units: Units, rng: np.random.Generator) -> Floats:
    return rng.binomial(1, special.expit(eta)).astype(float)


def _negative_binomial(eta: Floats, draw: Draw, units: Units, rng: np.random.Generator) -> Floats:
    alpha = 1 / (draw["overdispersion"] ** 2 + 1 / LARGEST_DISPERSION)
    rate = rng.gamma(alpha[units.arm], 1 / alpha[units.arm])
    return rng.poisson(rate * units.exposure * np.exp(eta)).astype(float)


def _categories(eta: Floats, draw: Draw, units: Units, rng: np.random.Generator) -> Floats:
    cuts = draw["cutpoints"]
    latent = eta + rng.logistic(size=len(eta))
    return np.asarray(scale_of(units)[0] + (latent[:, None] > cuts - cuts[0]).sum(axis=1), dtype=float)


REPLICATE: dict[str, Callable[[Floats, Draw, Units, np.random.Generator], Floats]] = {
    "gaussian": _normal,
    "student_t": _student_t,
    "binary": _binomial,
    "count": _negative_binomial,
    "ordinal": _categories,
}


def predictor(units: Units, draw: Draw) -> Floats:
    """(n,) linear predictor of the units under one posterior draw."""
    coefficients = draw["coefficients"]
    eta = np.where(units.arm == 1, units.design @ coefficients[1], units.design @ coefficients[0])
    return eta if units.cluster is None else eta + draw["cluster_shift"][units.cluster]
