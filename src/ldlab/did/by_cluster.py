"""Panel estimates as functions of which cluster starts when: exact, from sums by cluster, for any number of rows.

Every estimator here is a ratio of sums over units, so sums by block (the units of one cluster with one start) are
all that it needs. Other starts, or a cluster left out, then cost no new regression on the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ldlab.did.clusters import clusters_of

Floats = NDArray[np.float64]
CHUNK = 4_000_000  # numbers held at once


class Reassigned(Protocol):
    """An estimator whose starts can be dealt anew."""

    def values(self, starts: Floats, keep: Floats | None = None) -> Floats:
        """(draws, 2) the estimate of the outcome, and of the true treatment as if it were the outcome.

        Parameters
        ----------
        starts
            (draws, blocks) the period in which each block starts in each draw; infinite for never.
        keep
            (draws, blocks) 1 where a block counts, 0 where it is left out; default: all count.
        """
        ...


@dataclass(frozen=True)
class Blocks:
    """A panel whose units nest in clusters, as arrays sorted by block.

    Attributes
    ----------
    outcome, seen
        (units, periods) in effect units, 0 where not observed; 1 where observed.
    first
        (blocks + 1,) the first unit of each block, and the number of units.
    cluster, start
        (blocks,) the cluster, 0 to clusters - 1, and the period of the start, infinite for never.
    """

    outcome: Floats
    seen: Floats
    first: NDArray[np.intp]
    cluster: NDArray[np.intp]
    start: Floats

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Blocks:
        """The blocks of a study's frame, whose units each stay in one cluster."""
        unit, units = pd.factorize(rows["unit"])
        row = pd.Series(np.arange(len(rows))).groupby(unit).first().to_numpy()
        cluster = pd.factorize(clusters_of(rows), sort=True)[0][row]
        start = rows["start"].to_numpy(dtype=float)[row]
        start = np.where(np.isnan(start), np.inf, start)
        order = np.lexsort((start, cluster))
        cluster, start = cluster[order], start[order]
        place = np.empty(len(units), dtype=np.intp)
        place[order] = np.arange(len(units))
        shape = (len(units), int(rows["period"].max()) + 1)
        outcome, seen = np.zeros(shape), np.zeros(shape)
        cell = place[unit], rows["period"].to_numpy()
        outcome[cell], seen[cell] = rows["outcome"].to_numpy(dtype=float), 1.0
        new = np.ones(len(units), dtype=bool)
        new[1:] = (cluster[1:] != cluster[:-1]) | (start[1:] != start[:-1])
        first = np.append(np.flatnonzero(new), len(units))
        return cls(outcome, seen, first, cluster[new], start[new])

    def __len__(self) -> int:
        return len(self.cluster)

    @property
    def periods(self) -> int:
        """How many."""
        return self.outcome.shape[1]

    def total(self, left: Floats, right: Floats) -> Floats:
        """(blocks, a, b) sums over each block's units of the products of ``left`` (units, a) and ``right``."""
        pairs = zip(self.first[:-1], self.first[1:], strict=True)
        return np.array([left[i:j].T @ right[i:j] for i, j in pairs])

    def sum(self, values: Floats) -> Floats:
        """(blocks, ...) sums over each block's units."""
        return np.add.reduceat(values, self.first[:-1], axis=0)


def treated(starts: Floats, periods: int) -> Floats:
    """(..., periods) 1 from the start on."""
    return (np.arange(periods) >= starts[..., None]).astype(float)


def without_constants(links: Floats) -> Floats:
    """(..., periods, periods) pseudo-inverse of sums of ``links``, whose constants add nothing.

    numpy's default bound for a singular value of zero, 1e-15, is below the rounding of these sums.
    """
    return np.linalg.pinv(links, rtol=1e-10, hermitian=True)


def _in_chunks(method: object, starts: Floats, keep: Floats | None, width: int) -> Floats:
    """``method`` on a few draws at a time, so that ``width`` numbers for each draw and block fit in memory."""
    step = max(1, CHUNK // (starts.shape[1] * width))
    parts = [
        method(starts[i : i + step], None if keep is None else keep[i : i + step])  # type: ignore[operator]
        for i in range(0, len(starts), step)
    ]
    return np.concatenate(parts)


class TwoWay:
    """The two-way regression on treated, with unit and period effects; exact on unbalanced panels.

    With unit effects concentrated out (Frisch-Waugh-Lovell), ``links`` (blocks, periods, periods) is the cross
    product of the period dummies, and ``moments`` (blocks, periods) theirs with the outcome.
    """

    def __init__(self, blocks: Blocks) -> None:
        seen, share = blocks.seen, blocks.seen / blocks.seen.sum(axis=1, keepdims=True)
        self.links = blocks.sum(seen)[:, :, None] * np.eye(blocks.periods) - blocks.total(seen, share)
        mean = (share * blocks.outcome).sum(axis=1, keepdims=True)
        self.moments = blocks.sum(blocks.outcome - seen * mean)
        self.true = np.einsum("btu,bu->bt", self.links, treated(blocks.start, blocks.periods))

    def values(self, starts: Floats, keep: Floats | None = None) -> Floats:
        """As in :class:`Reassigned`."""
        return _in_chunks(self._values, starts, keep, self.links.shape[1])

    def _values(self, starts: Floats, keep: Floats | None) -> Floats:
        on = treated(starts, self.links.shape[1])
        if keep is None:
            counted, links = on, self.links.sum(axis=0)[None]
            outcome, true = self.moments.sum(axis=0), self.true.sum(axis=0)
        else:
            counted, links = on * keep[..., None], np.einsum("db,btu->dtu", keep, self.links)
            outcome, true = keep @ self.moments, keep @ self.true
        shared = np.einsum("btu,dbu->dt", self.links, counted, optimize=True)
        effect = np.einsum("dtu,du->dt", without_constants(links), shared, optimize=True)
        spread = np.einsum("dbt,btu,dbu->d", counted, self.links, on, optimize=True) - (effect * shared).sum(
            axis=1
        )
        raw = np.stack([np.einsum("dbt,bt->d", counted, own) for own in (self.moments, self.true)], axis=1)
        by_period = np.stack([(effect * own).sum(axis=1) for own in (outcome, true)], axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(spread[:, None] > 1e-9, (raw - by_period) / spread[:, None], np.nan)


class GroupTime:
    """The mean of all group-time effects after the start, weighted by trained units; without covariates.

    ``changes`` (blocks, periods, periods) sums each unit's outcome in a period less that in an earlier one, over
    units seen in both; ``pairs`` counts them. Base period: the last before the start, or before anticipation.
    """

    def __init__(self, blocks: Blocks, *, never_trained: bool, anticipation: int) -> None:
        self.never_trained, self.anticipation = never_trained, anticipation
        self.pairs = blocks.total(blocks.seen, blocks.seen)
        product = blocks.total(blocks.outcome, blocks.seen)
        on = treated(blocks.start, blocks.periods)
        self.changes = np.stack(
            [product - product.swapaxes(1, 2), self.pairs * (on[:, :, None] - on[:, None, :])], axis=1
        )

    def values(self, starts: Floats, keep: Floats | None = None) -> Floats:
        """As in :class:`Reassigned`."""
        counted = np.ones_like(starts) if keep is None else keep
        total, weight = np.zeros((len(starts), 2)), np.zeros(len(starts))
        for start in np.unique(starts[np.isfinite(starts)]).astype(int):
            base = start - 1 - self.anticipation
            if base < 0:
                continue
            trained = counted * (starts == start)
            for period in range(start, self.pairs.shape[1]):
                waiting = counted * (
                    np.isinf(starts) if self.never_trained else starts > period + self.anticipation
                )
                pairs, changes = self.pairs[:, period, base], self.changes[:, :, period, base]
                n, controls = trained @ pairs, waiting @ pairs
                both = (n > 0) & (controls > 0)
                effect = (trained @ changes)[both] / n[both, None] - (waiting @ changes)[both] / controls[
                    both, None
                ]
                total[both] += n[both, None] * effect
                weight[both] += n[both]
        with np.errstate(invalid="ignore"):
            return total / weight[:, None]


class Imputation:
    """Observed less imputed outcome, averaged over trained cells; unit and period effects from untrained cells.

    Sums of each block for each start that occurs: ``links`` and ``moments`` as in :class:`TwoWay`, of untrained
    cells; by period of the trained cells ``gap``, their outcome less their unit's mean, ``reach`` (periods,
    periods), how they depend on the period effects, and ``cells``, their number. Cells of units, and of periods,
    without an untrained cell do not count.
    """

    def __init__(self, blocks: Blocks, *, anticipation: int = 0) -> None:
        self.anticipation = anticipation
        self.levels = np.unique(blocks.start)
        true = treated(blocks.start, blocks.periods)
        outcomes = (blocks.outcome, blocks.seen * np.repeat(true, np.diff(blocks.first), axis=0))
        parts = [self._sums(blocks, level, outcomes) for level in self.levels]
        self.links, self.moments, self.gap, self.reach, self.cells = (
            np.stack(part) for part in zip(*parts, strict=True)
        )

    def _sums(self, blocks: Blocks, start: float, outcomes: tuple[Floats, Floats]) -> tuple[Floats, ...]:
        free = blocks.seen * (1 - treated(np.array(start - self.anticipation), blocks.periods))
        number = free.sum(axis=1, keepdims=True)
        share = np.divide(free, number, out=np.zeros_like(free), where=number > 0)
        after = blocks.seen * treated(np.array(start), blocks.periods) * (number > 0)
        means = [(share * outcome).sum(axis=1, keepdims=True) for outcome in outcomes]
        pairs = list(zip(outcomes, means, strict=True))
        moments = np.stack([blocks.sum(free * (outcome - mean)) for outcome, mean in pairs], axis=1)
        gap = np.stack([blocks.sum(after * (outcome - mean)) for outcome, mean in pairs], axis=1)
        cells, each = blocks.sum(after), np.eye(blocks.periods)
        links = blocks.sum(free)[:, :, None] * each - blocks.total(free, share)
        return links, moments, gap, cells[:, :, None] * each - blocks.total(after, share), cells

    def values(self, starts: Floats, keep: Floats | None = None) -> Floats:
        """As in :class:`Reassigned`."""
        return _in_chunks(self._values, starts, keep, 2 * self.links.shape[-1] ** 2)

    def _values(self, starts: Floats, keep: Floats | None) -> Floats:
        at = np.searchsorted(self.levels, starts), np.arange(starts.shape[1])
        counted = np.ones_like(starts) if keep is None else keep
        links, moments, gap, reach, cells = (
            np.einsum("db,db...->d...", counted, part[at])
            for part in (self.links, self.moments, self.gap, self.reach, self.cells)
        )
        known = np.diagonal(links, axis1=1, axis2=2) > 0
        effect = np.einsum("dtu,dku->dkt", without_constants(links), moments)
        gap -= np.einsum("dtu,dku->dkt", reach, effect)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.einsum("dkt,dt->dk", gap, known) / (cells * known).sum(axis=1)[:, None]
