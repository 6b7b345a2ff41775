"""Compile once, sample often: a family's model is compiled for a shape, and each program's numbers are swapped in.

Compiling takes seconds to a minute, sampling a fraction of a second. So the models hold no data: arrays enter through
``pm.Data`` and may have any length; only the number of parameters is fixed. Spare parameters have their prior, touch
nothing, and are cut off.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pymc as pm
import xarray as xr

Data = Mapping[str, Any]
SMALL_STEPS = 0.99  # target acceptance after divergences
SEGMENTS, COVARIATES, CLUSTERS = (1, 12, 60, 300), (4, 16, 64, 256), (0, 64, 512, 4096)


class Shape(NamedTuple):
    """Numbers of parameters that a compiled model has room for."""

    segments: int = 1
    covariates: int = 4
    clusters: int = 0
    categories: int = 0


@dataclass(frozen=True)
class Sampling:
    """How long NUTS runs: ``draws`` kept after ``tune`` of warm-up in each of ``chains``."""

    draws: int = 1000
    tune: int = 1000
    chains: int = 4
    cores: int = 2
    target_accept: float = 0.9


def room_for(segments: int = 1, covariates: int = 0, clusters: int = 0, categories: int = 0) -> Shape:
    """The smallest shape that a model is compiled for and that holds so many parameters."""

    def room(ladder: tuple[int, ...], size: int) -> int:
        return next((step for step in ladder if step >= size), size)

    return Shape(room(SEGMENTS, segments), room(COVARIATES, covariates), room(CLUSTERS, clusters), categories)


@functools.cache
def compiled(build: Callable[[Shape], pm.Model], shape: Shape) -> Any:
    """The nutpie model of ``build(shape)``; compiled once in a process."""
    import nutpie

    return nutpie.compile_pymc_model(build(shape))


def sample(
    build: Callable[[Shape], pm.Model], shape: Shape, data: Data, *, seed: int, sampling: Sampling
) -> xr.DataTree:
    """Posterior draws of a model with ``data`` in place; groups ``posterior`` and ``sample_stats``.

    Where a step was too long for some corner of the posterior (a divergence), it is drawn once more in smaller steps.
    """
    import nutpie

    model = compiled(build, shape).with_data(**data)
    for target_accept in (sampling.target_accept, SMALL_STEPS):
        drawn = nutpie.sample(
            model,
            draws=sampling.draws,
            tune=sampling.tune,
            chains=sampling.chains,
            cores=sampling.cores,
            target_accept=target_accept,
            seed=seed,
            progress_bar=False,
        )
        if not drawn["sample_stats"]["diverging"].any():
            break
    return drawn


def with_data(build: Callable[[Shape], pm.Model], shape: Shape, data: Data) -> pm.Model:
    """The PyMC model itself with ``data`` in place, to be read, or sampled by PyMC's own sampler."""
    model = build(shape)
    with model:
        pm.set_data({name: np.asarray(value) for name, value in data.items()})
    return model
