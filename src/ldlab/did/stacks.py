"""Cohorts beside their comparison, one two-by-two table under the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ldlab.did.clusters import clusters_of
from ldlab.did.panel import need_panel
from ldlab.program import Study

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Stacks:
    """Each cohort beside the same comparison units: one row for each cohort and unit seen before the cohort's start.

    Attributes
    ----------
    stack, trained, unit, cluster
        Which cohort; whether the unit is of it; the unit; its first cluster.
    at_end
        Whether it has a KPI in the last period compared.
    change
        Mean KPI from the start on less mean KPI before it; NaN where there is none from the start on.
    weight
        1 for the trained; for the comparison so that every cohort counts as much as it has trained units.
    """

    stack: Ints
    trained: Bools
    unit: Ints
    cluster: Ints
    at_end: Bools
    change: Floats
    weight: Floats

    def units(self, rows: Bools) -> int:
        """Different units among some rows."""
        return len(np.unique(self.unit[rows]))

    def se(self, influence: Floats) -> float:
        """Standard error of an estimate from its rows' influence, cohorts' sizes fixed, summed within clusters."""
        cell = 2 * self.stack + self.trained
        centred = influence - (np.bincount(cell, influence) / np.maximum(np.bincount(cell), 1))[cell]
        total = np.bincount(self.cluster, centred)
        return float(np.sqrt((self.df + 1) / self.df * (total**2).sum()))

    @property
    def df(self) -> float:
        """Clusters less one."""
        return len(np.unique(self.cluster)) - 1.0


@dataclass(frozen=True)
class _Grid:
    """A panel by unit, and by unit and period: first trained period, cluster, KPI and whether there is one."""

    first: Floats
    cluster: Ints
    outcome: Floats
    seen: Bools

    @classmethod
    def of(cls, frame: pd.DataFrame) -> _Grid:
        unit, units = pd.factorize(frame["unit"])
        period = frame["period"].to_numpy()
        shape = (len(units), int(period.max()) + 1)
        first, cluster = np.full(len(units), np.nan), np.zeros(len(units), dtype=np.int64)
        first[unit] = frame["start"].to_numpy(dtype=float)
        cluster[unit[::-1]] = pd.factorize(clusters_of(frame))[0][::-1]
        outcome, seen = np.zeros(shape), np.zeros(shape, dtype=bool)
        outcome[unit, period], seen[unit, period] = frame["outcome"].to_numpy(dtype=float), True
        return cls(first, cluster, outcome, seen)

    def comparison(self, minimum: int) -> tuple[Bools, int]:
        """Whom the cohorts are held against, and the first period in which these are trained (or none is left).

        The never trained; where they are fewer than the minimum group, the last cohorts that together are not.
        """
        others, end = np.isnan(self.first), self.outcome.shape[1]
        for start in sorted(set(self.first[~others]), reverse=True):
            if others.sum() >= minimum:
                break
            others, end = self.first >= start, int(start)
        return others, end


def stacked(study: Study) -> Stacks | None:
    """The stacks of a panel; None where an arm has fewer units than the minimum group, or there is one cluster.

    Raises
    ------
    LdlabError
        If the study is no panel.
    """
    need_panel(study)
    if not study.has_comparison:
        return None
    minimum, early = study.program.analysis.minimum_group_size, study.program.design.anticipation
    grid = _Grid.of(study.frame)
    others, end = grid.comparison(minimum)
    end = end if end == grid.outcome.shape[1] else end - early
    total, number = (
        np.cumsum(np.pad(cells, ((0, 0), (1, 0))), axis=1)
        for cells in (grid.outcome, grid.seen.astype(float))
    )
    parts = []
    for start in np.unique(grid.first[~np.isnan(grid.first) & ~others]).astype(int):
        before = start - early
        rows = np.flatnonzero(((grid.first == start) | others) & (number[:, max(before, 0)] > 0))
        own = grid.first[rows] == start
        if start >= end or not 0 < own.sum() < len(rows):
            continue
        with np.errstate(invalid="ignore"):
            after = (total[rows, end] - total[rows, start]) / (number[rows, end] - number[rows, start])
        change = after - total[rows, before] / number[rows, before]
        weight = np.where(own, 1.0, own.sum() / (~own).sum())
        parts.append((own, rows, grid.cluster[rows], grid.seen[rows, end - 1], change, weight))
    if not parts:
        return None
    stack = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
    stacks = Stacks(stack, *(np.concatenate(part) for part in zip(*parts, strict=True)))
    few = min(stacks.units(stacks.trained), stacks.units(~stacks.trained)) < minimum
    return None if few or stacks.df < 1 else stacks
