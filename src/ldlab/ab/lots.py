"""Lots drawn anew: the assignments of an experiment, and the studentised statistic under each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import gammaln

from ldlab.ab.arm_means import Codes, Drawn, Floats, within
from ldlab.ab.blocks import small_factors, strata_of

MOST_ENUMERATED = 20_000
MOST_DRAWS, FEWEST_DRAWS = 9_999, 999
SHUFFLES = 20_000_000  # labels drawn at most, but for FEWEST_DRAWS
CHUNK = 4_000_000
SLACK = 1e-9


@dataclass(frozen=True)
class Reference:
    """Studentised differences under each assignment, as functions of a constant effect b; the true one first.

    t(b) = (difference - b moved) / sqrt(v_yy - 2 b v_ya + b^2 v_aa): as if b were taken off the treated.

    Attributes
    ----------
    difference, moved
        (assignments,) the difference of the outcome, and of the true treatment as if it were the outcome.
    v_yy, v_ya, v_aa
        (assignments,) variances of the two and their covariance.
    exact
        Whether these are all assignments.
    """

    difference: Floats
    moved: Floats
    v_yy: Floats
    v_ya: Floats
    v_aa: Floats
    exact: bool

    @property
    def value(self) -> float:
        """The constant effect that leaves no difference."""
        return float(self.difference[0] / self.moved[0])

    @property
    def se(self) -> float:
        """Standard deviation of the estimate over assignments, were the estimate the effect on everybody."""
        away = (self.difference - self.value * self.moved) / self.moved[0]
        return math.sqrt(float((away**2).mean()))

    def t(self, effect: float) -> Floats:
        """(assignments,) statistics of a constant effect."""
        variance = self.v_yy - 2 * effect * self.v_ya + effect**2 * self.v_aa
        top = self.difference - effect * self.moved
        scale = float(np.abs(self.v_yy[0])) + 1e-300
        with np.errstate(divide="ignore", invalid="ignore"):
            t = top / np.sqrt(np.maximum(variance, 0.0))
        flat = variance <= 1e-12 * scale
        none = flat & (np.abs(top) <= SLACK * math.sqrt(scale))
        return np.where(none, 0.0, np.where(flat, np.sign(top) * np.inf, t))

    def shares(self, effect: float) -> tuple[float, float]:
        """Shares of assignments whose statistic is at least, and at most, the true one."""
        t = self.t(effect)
        slack = SLACK * max(1.0, abs(t[0])) if math.isfinite(t[0]) else 0.0
        return float((t >= t[0] - slack).mean()), float((t <= t[0] + slack).mean())

    def p_value(self, effect: float = 0.0) -> float:
        """Two-sided p value of a constant effect."""
        return min(1.0, 2 * min(self.shares(effect)))

    def above(self, effect: float) -> float:
        """The chance that the effect is larger, ties and the true assignment counting half."""
        at_least, at_most = self.shares(effect)
        return 0.5 * (1 - at_least + at_most)

    def interval(self, level: float) -> tuple[float, float]:
        """Constant effects that neither one-sided test rejects at (1 - level) / 2."""
        return self._end(level, 0, -1.0), self._end(level, 1, 1.0)

    def _end(self, level: float, side: int, way: float) -> float:
        bound = (1 - level) / 2 + 1e-12
        inside, step = self.value, 4 * self.se or 1.0
        for _ in range(40):
            outside = self.value + way * step
            if self.shares(outside)[side] <= bound:
                break
            inside, step = outside, 2 * step
        else:
            return way * math.inf
        for _ in range(60):
            middle = (inside + outside) / 2
            if self.shares(middle)[side] <= bound:
                outside = middle
            else:
                inside = middle
        return inside


class Lots:
    """The assignments to look at, by group sorted by stratum; the true one first."""

    def __init__(self, drawn: Drawn, seed: int) -> None:
        groups = drawn.groups
        count = int(groups.max()) + 1
        arm, stratum = np.zeros(count, dtype=np.intp), np.zeros(count, dtype=np.intp)
        arm[groups], stratum[groups] = drawn.arm, drawn.stratum
        order = np.argsort(stratum, kind="stable")
        self.true, self.group_stratum, self.seed = arm[order].astype(np.int8), stratum[order], seed
        self.exact = log_ways(arm, stratum) <= math.log(MOST_ENUMERATED) + 1e-9

    def chunks(self) -> Iterator[NDArray[np.int8]]:
        """(some, groups) arms by assignment."""
        if self.exact:
            every = np.array(list(self._every()), dtype=np.int8)
            others = every[(every != self.true).any(axis=1)]
            yield from np.array_split(np.vstack([self.true, others]), max(1, others.size // CHUNK))
            return
        groups = len(self.true)
        left = int(np.clip(SHUFFLES // groups, FEWEST_DRAWS, MOST_DRAWS))
        rng = np.random.default_rng(self.seed)
        yield self.true[None]
        while left:
            some = min(left, max(1, CHUNK // groups))
            yield self._drawn(rng, some)
            left -= some

    def _drawn(self, rng: np.random.Generator, some: int) -> NDArray[np.int8]:
        if self.group_stratum[-1] == 0:
            return rng.permuted(np.tile(self.true, (some, 1)), axis=1)
        keys = self.group_stratum + rng.random((some, len(self.true)))
        return np.asarray(self.true[np.argsort(keys, axis=1)])

    def _every(self) -> Iterator[Codes]:
        size = np.bincount(self.group_stratum)
        ends = np.cumsum(size)
        parts = [list(_deals(self.true[end - n : end])) for n, end in zip(size, ends, strict=True)]
        for chosen in itertools.product(*parts):
            yield np.concatenate(chosen)


def _deals(labels: NDArray[np.int8]) -> Iterator[NDArray[np.int8]]:
    """All different orders of the labels."""
    last = labels.max()
    if (labels == last).all():
        yield labels
        return
    lowest = labels.min()
    for places in itertools.combinations(range(len(labels)), int((labels == lowest).sum())):
        rest = np.setdiff1d(np.arange(len(labels)), places)
        for deal in _deals(labels[labels > lowest]):
            made = np.full(len(labels), lowest)
            made[rest] = deal
            yield made


def log_ways(arm: Codes, stratum: Codes) -> float:
    """Logarithm of the number of ways in which lots could have fallen to these groups."""
    cells = pd.crosstab(stratum, arm).to_numpy()
    return float(gammaln(cells.sum(axis=1) + 1).sum() - gammaln(cells + 1).sum())


class Sums:
    """Sums by group of which every assignment's statistic is made.

    The variance of a difference is the sum over strata and arms of k / (k - 1) times the groups' squared residual
    sums over the squared number of units; in strata with one group in an arm, as in :class:`SmallStrata`.
    """

    def __init__(self, drawn: Drawn, group_stratum: Codes) -> None:
        groups = drawn.groups
        count = int(groups.max()) + 1
        y, treated = drawn.outcome, (drawn.arm > 0).astype(float)
        if drawn.covariates.shape[1]:
            y, treated = _without_covariates(drawn)
        y = y - y.mean()
        self.scale = float(y.std()) or 1.0
        stratum = np.zeros(count, dtype=np.intp)
        stratum[groups] = drawn.stratum
        order = np.argsort(stratum, kind="stable")
        n, total, dose = (
            np.bincount(groups, values, count)[order] for values in (np.ones_like(y), y / self.scale, treated)
        )
        self.columns = np.column_stack(
            [np.ones(count), n, total, dose, total**2, total * dose, dose**2, total * n, dose * n, n**2]
        )
        self.first = np.flatnonzero(np.diff(group_stratum, prepend=-1))
        sizes = np.bincount(drawn.stratum).astype(float)
        self.weight = sizes / sizes.sum()
        self.small = ~strata_of(drawn).large

    def statistics(self, labels: NDArray[np.int8], arm: int = 1) -> Floats:
        """(5, assignments) difference, moved, and the variances, of ``arm`` against 0; see :class:`Reference`."""
        parts = [self._cells(labels == code) for code in (arm, 0)]
        (y1, a1, yy1, ya1, aa1), (y0, a0, yy0, ya0, aa0) = parts
        dy, da = y1 - y0, a1 - a0
        w, small = self.weight, self.small
        squares = [
            (w**2 * (one + none))[:, ~small].sum(axis=1) for one, none in ((yy1, yy0), (ya1, ya0), (aa1, aa0))
        ]
        if small.any():
            share = w[small].sum()
            own = w[small] / share
            away_y, away_a = (d[:, small] - (d[:, small] @ own)[:, None] for d in (dy, da))
            c = share**2 * small_factors(own)
            squares = [
                square + (left * right) @ c
                for square, left, right in zip(
                    squares, (away_y, away_y, away_a), (away_y, away_a, away_a), strict=True
                )
            ]
        s = self.scale
        return np.array([s * (dy @ w), da @ w, s**2 * squares[0], s * squares[1], squares[2]])

    def _cells(self, mask: NDArray[np.bool_]) -> tuple[Floats, ...]:
        """(assignments, strata) means of outcome and treatment in the masked groups, and their (co)variances."""
        if len(self.first) == 1:
            sums = (mask.astype(float) @ self.columns)[:, None]
        else:
            sums = np.stack(
                [np.add.reduceat(mask * column, self.first, axis=1) for column in self.columns.T], axis=-1
            )
        k, n, y, a, yy, ya, aa, yn, an, nn = np.moveaxis(sums, -1, 0)
        y, a = y / n, a / n
        factor = np.where(k > 1, k / np.maximum(k - 1, 1), 0.0) / n**2
        return (
            y,
            a,
            factor * (yy - 2 * y * yn + y**2 * nn),
            factor * (ya - y * an - a * yn + y * a * nn),
            factor * (aa - 2 * a * an + a**2 * nn),
        )


def _without_covariates(drawn: Drawn) -> tuple[Floats, Floats]:
    """Outcome and treatment less what the covariates predict, with strata held fixed."""
    both = np.column_stack([drawn.outcome, (drawn.arm > 0).astype(float)])

    x = within(drawn.covariates, drawn.stratum)
    slope = np.linalg.lstsq(x, within(both, drawn.stratum), rcond=1e-10)[0]
    left = both - x @ slope
    return left[:, 0], left[:, 1]
