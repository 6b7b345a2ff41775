"""Exact permutation of starts over clusters: the assignments, and the confidence distribution by inversion."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def ways(starts: Floats) -> int:
    """In how many different ways these starts can fall to the clusters."""
    counts = np.unique(starts, return_counts=True)[1]
    return math.factorial(len(starts)) // math.prod(math.factorial(int(n)) for n in counts)


def assignments(starts: Floats, most: int, seed: int) -> Floats:
    """(assignments, clusters) the other ways to deal the starts to the clusters: all of them, or ``most`` - 1 drawn.

    Drawn with replacement, and the true one may be among them: it then counts again, which only widens.
    """
    if ways(starts) <= most:
        every = np.array(list(_deals(starts)))
        return every[(every != starts).any(axis=1)]
    rng = np.random.default_rng(seed)
    return np.array([rng.permutation(starts) for _ in range(most - 1)])


def _deals(starts: Floats) -> Iterator[Floats]:
    """All different ways to deal the starts: the places of the first level, then of the next in the rest."""
    levels, counts = np.unique(starts, return_counts=True)

    def deal(free: tuple[int, ...], level: int, dealt: Floats) -> Iterator[Floats]:
        if level == len(levels) - 1:
            yield dealt
            return
        for places in itertools.combinations(free, int(counts[level])):
            made = dealt.copy()
            made[list(places)] = levels[level]
            yield from deal(tuple(place for place in free if place not in places), level + 1, made)

    yield from deal(tuple(range(len(starts))), 0, np.full(len(starts), levels[-1]))


@dataclass(frozen=True)
class Confidence:
    """Confidence distribution of an effect by permutation; see the notes of :func:`infer`.

    ``low`` and ``high`` are (assignments,) the effects from which each assignment's estimate is the more extreme,
    sorted; where an assignment counts against both sides they are -inf and inf.
    """

    low: Floats
    high: Floats

    @classmethod
    def of(cls, value: float, placebos: Floats, moved: Floats) -> Confidence:
        """From the estimate, and the placebo estimates of the outcome and of the true treatment."""
        tells = np.isfinite(placebos) & (moved < 1 - 1e-9)
        from_there = (value - placebos[tells]) / (1 - moved[tells])
        never = np.full(int((~tells).sum()), np.inf)
        return cls(np.sort(np.append(-never, from_there)), np.sort(np.append(from_there, never)))

    @property
    def _all(self) -> int:
        return len(self.low) + 1

    def p_value(self, effect: float) -> float:
        """Two-sided: twice the smaller share of assignments at least as extreme, the true one among them."""
        slack = 1e-9 * max(1.0, abs(effect))
        below = np.searchsorted(self.low, effect + slack, side="right")
        above = len(self.high) - np.searchsorted(self.high, effect - slack, side="left")
        return float(min(1.0, 2 * (1 + min(below, above)) / self._all))

    def interval(self, level: float) -> tuple[float, float]:
        """The effects that neither one-sided test rejects at (1 - level) / 2."""
        j = math.floor(self._all * (1 - level) / 2 + 1e-9)
        return (float(self.low[j - 1]), float(self.high[-j])) if j else (-math.inf, math.inf)

    def above(self, effect: float) -> float:
        """The chance that the true effect is larger, ties and the true assignment counting half."""
        below = np.searchsorted(self.low, effect, side="left") + np.searchsorted(
            self.low, effect, side="right"
        )
        under = np.searchsorted(self.high, effect, side="left") + np.searchsorted(
            self.high, effect, side="right"
        )
        return float(1 - ((below + under) / 4 + 0.5) / self._all)
