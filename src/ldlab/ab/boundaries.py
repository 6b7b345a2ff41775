"""Group-sequential boundaries: what several looks at growing data cost, and how wide an interval has to be for them.

The recursion is that of Armitage, McPherson & Rowe (1969, JRSS A 132); see Jennison & Turnbull (1999, Group
Sequential Methods, chapters 8 and 19). Looks are fractions of the planned size; z values refer to a statistic
that is standard normal at every look when there is no effect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from ldlab.program import LdlabError

Spending = Literal["obrien_fleming", "pocock"]
Vector = NDArray[np.float64]

NO_BOUND = 8.0  # a z value beyond which a boundary cannot be crossed: chance 1e-15
REACH = 9.0  # standard deviations that the integration covers
CLOSEST = 0.002  # looks nearer to each other than this fraction of the plan count as one


def error_spent(fraction: float, level: float, spending: Spending) -> float:
    """Two-sided error rate that may be spent up to a fraction of the planned size (Lan & DeMets 1983, Biometrika 70).

    Parameters
    ----------
    fraction
        Of the planned size; 1 and more spend everything.
    level
        Level of the interval, such as 0.9.
    spending
        'obrien_fleming': little at first. 'pocock': evenly. Each side spends half.
    """
    alpha, at = 1 - level, min(fraction, 1.0)
    if at <= 0:
        return 0.0
    if spending == "pocock":
        return alpha * math.log1p((math.e - 1) * at)
    return float(4 * stats.norm.sf(stats.norm.isf(alpha / 4) / math.sqrt(at)))


def boundaries(
    fractions: Sequence[float], level: float, spending: Spending, *, final: bool = False
) -> tuple[float, ...]:
    """The z value at each look beyond which an effect is shown; infinite where nothing can be shown yet.

    Parameters
    ----------
    fractions
        Looks as fractions of the planned size, rising. The last may be over 1 (more units than planned).
    level, spending
        See :func:`error_spent`.
    final
        The last look is the end although it lies below 1: everything that is left is spent.

    Raises
    ------
    LdlabError
        If the fractions do not rise, or are closer than 1/500.
    """
    _need_rising(fractions)
    spent = [error_spent(fraction, level, spending) for fraction in fractions]
    if final:
        spent[-1] = 1 - level
    found: list[float] = []
    for place, now in enumerate(spent):
        before = spent[place - 1] if place else 0.0
        found.append(_bound(fractions[: place + 1], found, now - before))
    return tuple(found)


def chance_of_crossing(fractions: Sequence[float], bounds: Sequence[float], drift: float = 0.0) -> Vector:
    """(looks, 2): chance that the first crossing is at each look, of the upper and of the lower bound.

    Parameters
    ----------
    fractions, bounds
        Looks, and their symmetric z values.
    drift
        Mean of the z statistic at fraction 1; 0 for no effect. The power of a design is the sum over looks.
    """
    _need_rising(fractions)
    steps = _walk(fractions, bounds, drift)
    return np.array(
        [[above(bound), below(-bound)] for (above, below), bound in zip(steps, bounds, strict=True)]
    )


def false_alarms(fractions: Sequence[float], level: float) -> float:
    """Chance that an interval meant for one look excludes no effect at one of these looks, when there is none."""
    bound = float(stats.norm.isf((1 - level) / 2))
    return float(chance_of_crossing(fractions, [bound] * len(fractions)).sum())


def apart(fractions: Sequence[float]) -> list[float]:
    """Rising looks without those that are followed by another within 1/500 of the plan."""
    rising = sorted(fractions)
    return [now for now, after in zip(rising, [*rising[1:], math.inf], strict=True) if after - now >= CLOSEST]


def after_stopping(
    fractions: Sequence[float], bounds: Sequence[float], z: float, level: float
) -> tuple[float, float, float]:
    """Lower bound, median-unbiased estimate and upper bound of the drift after a stop at the last of these looks.

    By the stage-wise ordering (Fairbanks & Madsen 1982; Tsiatis, Rosner & Mehta 1984, Biometrics 40; Jennison &
    Turnbull 1999, section 8.4). The drift is the mean of z at fraction 1.

    Parameters
    ----------
    fractions, bounds
        All looks up to the one at which the test stopped, with their bounds.
    z
        The statistic at that look.
    level
        Level of the interval.
    """
    tail = (1 - level) / 2
    centre, reach = z / math.sqrt(fractions[-1]), 12 / math.sqrt(fractions[0])

    def drift_with(chance: float) -> float:
        def gap(drift: float) -> float:
            return _at_least_as_high(fractions, bounds, z, drift) - chance

        return float(optimize.brentq(gap, centre - reach, centre + reach, xtol=1e-8))

    return drift_with(tail), drift_with(0.5), drift_with(1 - tail)


def _at_least_as_high(fractions: Sequence[float], bounds: Sequence[float], z: float, drift: float) -> float:
    """Chance of a result at least as high in the stage-wise ordering: crossed above earlier, or over ``z`` now."""
    *earlier, (above, _) = _walk(fractions, bounds, drift)
    upward = sum(over(bound) for (over, _), bound in zip(earlier, bounds, strict=False))
    return float(upward + above(z))


Tail = Callable[[float], float]


def _walk(fractions: Sequence[float], bounds: Sequence[float], drift: float) -> Iterator[tuple[Tail, Tail]]:
    """At each look the chances, as functions of z, to be above and below it without having crossed before."""
    at, mass = np.zeros(1), np.ones(1)
    before = 0.0
    for place, now in enumerate(fractions):
        step = now - before
        mean, sd, root = at + drift * step, math.sqrt(step), math.sqrt(now)

        def above(
            z: float, mean: Vector = mean, mass: Vector = mass, sd: float = sd, root: float = root
        ) -> float:
            return float(mass @ special.ndtr((mean - z * root) / sd))

        def below(
            z: float, mean: Vector = mean, mass: Vector = mass, sd: float = sd, root: float = root
        ) -> float:
            return float(mass @ special.ndtr((z * root - mean) / sd))

        yield above, below
        if place + 1 == len(fractions):
            return
        finest = math.sqrt(min(step, fractions[place + 1] - now))
        grid, weights = _grid(now, bounds[place], drift, finest)
        density = np.exp(-0.5 * ((grid[:, None] - mean) / sd) ** 2) @ mass / (sd * math.sqrt(2 * math.pi))
        at, mass, before = grid, weights * density, now


def _grid(at: float, bound: float, drift: float, finest: float) -> tuple[Vector, Vector]:
    """Gauss-Legendre nodes and weights between the bounds, four to the narrowest step of the random walk."""
    root = math.sqrt(at)
    low = max(-bound * root, drift * at - REACH * root)
    high = min(bound * root, drift * at + REACH * root)
    if low >= high:
        return np.zeros(1), np.zeros(1)
    nodes, weights = _legendre(64 * math.ceil((4 * (high - low) / finest + 32) / 64))
    return (low + high) / 2 + (high - low) / 2 * nodes, (high - low) / 2 * weights


@lru_cache(maxsize=64)
def _legendre(count: int) -> tuple[Vector, Vector]:
    nodes, weights = special.roots_legendre(count)
    return nodes, weights


def _bound(fractions: Sequence[float], earlier: Sequence[float], chance: float) -> float:
    """The z value whose two-sided chance of a first crossing at the last look is ``chance``."""
    *_, (above, below) = _walk(fractions, [*earlier, math.inf], 0.0)
    if chance <= above(NO_BOUND) + below(-NO_BOUND):
        return math.inf
    return float(optimize.brentq(lambda z: above(z) + below(-z) - chance, 0.0, NO_BOUND, xtol=1e-10))


def _need_rising(fractions: Sequence[float]) -> None:
    steps = np.diff([0.0, *fractions])
    if len(fractions) == 0 or not (steps >= CLOSEST / 2).all():
        shown = ", ".join(f"{fraction:.4g}" for fraction in fractions) or "none"
        raise LdlabError(
            f"looks: found fractions {shown} of the planned size; expected rising ones above 0, at least "
            f"{CLOSEST:g} apart. Leave out looks that add next to nothing."
        )
