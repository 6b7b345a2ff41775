"""Panels with a known effect, for how often intervals hold it: four kinds of effect, with gaps or without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from ldlab.estimate import Estimate
from ldlab.program import Study
from tests.studies import make_study

Kind = Literal["homogeneous", "growing", "cohort", "none"]
KINDS: tuple[Kind, ...] = ("homogeneous", "growing", "cohort", "none")
PERIODS, CLUSTERS, SIZE = 12, 40, 8
STARTS = (3, 6, 9)  # each as likely as never


class World(NamedTuple):
    """What a study sees, and the mean effect of the trained unit-periods among clusters of this kind."""

    frame: pd.DataFrame
    truth: float


class Coverage(NamedTuple):
    """Of so many runs: mean error, standard deviation of the estimate, mean standard error, share that hold the truth."""

    runs: int
    bias: float
    sd: float
    se: float
    covered: float


def effect_of(kind: Kind, start: np.ndarray, event: np.ndarray) -> np.ndarray:
    """The effect by cohort and periods since the start; none before."""
    by_kind = {
        "homogeneous": np.ones_like(event),
        "growing": 0.5 + 0.25 * event,
        "cohort": np.where(start == STARTS[0], 2.0, np.where(start == STARTS[1], 0.5, -0.5))
        * (1 + 0.2 * event),
        "none": np.zeros_like(event),
    }
    return np.where(event >= 0, by_kind[kind], 0.0)


def world(kind: Kind, gaps: float, rng: np.random.Generator) -> World:
    """40 clusters of 8 units over 12 periods; noise and shocks of clusters follow each other (AR .5).

    Parameters
    ----------
    kind
        One effect for all; growing with time; of another size and sign in each cohort; none.
    gaps
        Share of unit-periods that are not seen, at random.
    rng
        The same state gives the same world.
    """
    start = rng.choice([*STARTS, np.nan], CLUSTERS).repeat(SIZE)[:, None]
    units = len(start)
    event = np.arange(PERIODS) - start
    effect = effect_of(kind, start, np.nan_to_num(event, nan=-1.0))
    shocks = _ar1(rng, CLUSTERS, 0.5).repeat(SIZE, axis=0)
    outcome = (
        effect + shocks + _ar1(rng, units, 1.0) + rng.normal(0, 2, (units, 1)) + rng.normal(size=PERIODS)
    )
    unit, period = (x.ravel() for x in np.indices((units, PERIODS)))
    frame = pd.DataFrame(
        {
            "unit": unit,
            "cluster": unit // SIZE,
            "period": period,
            "start": start[unit, 0],
            "outcome": outcome.ravel(),
        }
    )
    return World(frame[rng.random(len(frame)) >= gaps], truth_of(kind))


def truth_of(kind: Kind) -> float:
    """The mean effect of trained unit-periods where each start is as likely: what standard errors refer to.

    Had starts been dealt evenly, and the truth been that of the deal, intervals would be too wide for the kind
    'cohort': errors hold that other clusters would have come in other shares of cohorts.
    """
    start = np.array(STARTS, dtype=float)[:, None]
    event = np.arange(PERIODS) - start
    return float(effect_of(kind, start, event)[event >= 0].mean())


def _ar1(rng: np.random.Generator, rows: int, sd: float) -> np.ndarray:
    noise = rng.normal(0, sd, (rows, PERIODS))
    for t in range(1, PERIODS):
        noise[:, t] = 0.5 * noise[:, t - 1] + np.sqrt(0.75) * noise[:, t]
    return noise


def coverage(
    estimate: Callable[[Study], Estimate | None], kind: Kind, gaps: float, *, runs: int, seed: int
) -> Coverage:
    """How the 90% intervals of ``estimate`` fare in ``runs`` worlds of one kind."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(runs):
        made = world(kind, gaps, rng)
        e = estimate(make_study(made.frame, "staggered", level=0.9))
        assert e is not None
        found.append((e.value - made.truth, e.se, e.low <= made.truth <= e.high))
    error, se, covered = np.array(found, dtype=float).T
    return Coverage(runs, float(error.mean()), float(error.std()), float(se.mean()), float(covered.mean()))
