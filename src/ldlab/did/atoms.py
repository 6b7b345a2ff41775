"""Which cells of group-time effects may be shown: none of a group that is too small, nor by subtraction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ldlab.did.group_cells import Averages, GroupCells


@dataclass(frozen=True)
class Atoms:
    """Cells of cohorts and event times, joined so that each shown set of them holds enough units.

    Cohorts next to each other are pooled until each pool holds the minimum group. A pool at one event time is an
    atom: shown averages are of whole atoms of at least the minimum, so none of their differences is of fewer.

    Attributes
    ----------
    cells
        Those with at least the minimum to compare with.
    pool
        (cells,) which pool each cell's cohort belongs to.
    alone
        (cells,) whether its pool is one cohort.
    shown
        (cells,) whether its atom holds at least the minimum group.
    minimum
        The smallest group that may be shown.
    """

    cells: GroupCells
    pool: np.ndarray
    alone: np.ndarray
    shown: np.ndarray
    minimum: int

    @classmethod
    def of(cls, cells: GroupCells, minimum: int) -> Atoms:
        """The atoms of cells that have enough units to compare with."""
        cells = cells.where(cells.controls >= minimum)
        starts = np.unique(cells.start)
        pool_of = _pools(cells.cohort_units.sum(axis=0)[starts], minimum)
        pool = pool_of[np.searchsorted(starts, cells.start)]
        keys = np.column_stack([pool, cells.event])
        _, atom = np.unique(keys, axis=0, return_inverse=True)
        units = np.bincount(atom, cells.trained, minlength=1)[atom] if len(atom) else np.zeros(0)
        alone = np.bincount(pool_of, minlength=1)[pool] == 1 if len(pool) else np.zeros(0, dtype=bool)
        return cls(cells, pool, alone, units >= minimum, minimum)

    @property
    def shown_after(self) -> np.ndarray:
        """(cells,) shown cells from the start on."""
        return self.shown & (self.cells.event >= 0)

    @property
    def counted_overall(self) -> np.ndarray:
        """(cells,) all cells from the start on; without those not shown if too few units are in these."""
        after = self.cells.event >= 0
        hidden = after & ~self.shown
        units = sum(
            self.cells.trained[hidden & (self.cells.start == start)].max()
            for start in np.unique(self.cells.start[hidden])
        )
        return after if units >= self.minimum else self.shown_after

    def starts(self, pool: int) -> np.ndarray:
        """The starts of a pool's cohorts, in order."""
        return np.unique(self.cells.start[self.pool == pool])

    def average_by(self, key: np.ndarray, counted: np.ndarray) -> Averages:
        """One average for each value of ``key``, in order, of the ``counted`` cells."""
        kept = self.cells.where(counted)
        return kept.average((key[counted][:, None] == np.unique(key[counted])).astype(float))

    def units_by_cluster(self) -> np.ndarray:
        """(clusters, pools) trained units of each pool that is shown after its start."""
        pools = np.unique(self.pool[self.shown_after])
        return np.column_stack([self.cells.cohort_units[:, self.starts(pool)].sum(axis=1) for pool in pools])


def _pools(units: np.ndarray, minimum: int) -> np.ndarray:
    """(cohorts,) the pool of each cohort: neighbours joined until each pool holds ``minimum`` units."""
    pools = np.zeros(len(units), dtype=int)
    pool, held = 0, 0
    for i, count in enumerate(units):
        pools[i] = pool
        held += count
        if held >= minimum:
            pool, held = pool + 1, 0
    if held and pool:
        pools[pools == pool] = pool - 1
    return pools
