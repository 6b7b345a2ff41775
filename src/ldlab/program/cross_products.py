"""CrossProducts: all that a normal likelihood reads of a program's data, however many rows they have."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ldlab.program.faults import LdlabError
from ldlab.program.model import Program
from ldlab.program.study import Question

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

POOLED = "smaller groups"


@dataclass(frozen=True, eq=False, repr=False)
class CrossProducts(Question):
    """Counts, means and cross-products of a cross-section. Made by :func:`ldlab.load_cross_products`.

    A cell holds the units of one arm, segment and cluster (where there are such); c cells, p covariates.

    Attributes
    ----------
    program, baseline, left_out, cut_off, data_sha256
        As in :class:`ldlab.Study`.
    covariates
        (p,) names; their values are centred at the mean of the estimand's population, in sds.
    segments, clusters
        Names of the segments that may be told apart (none where there is nothing to compare); number of clusters.
    arm, segment, cluster
        (c,) codes of each cell; cluster is None without clusters.
    n, y, x
        (c,) units; (c,) mean of the KPI in effect units; (c, p) means of the covariates.
    xx, xy, yy
        (2, p, p), (2, p), (2,) sums of squares and products about the cells' means, by arm.
    """

    program: Program
    baseline: float
    covariates: tuple[str, ...]
    segments: tuple[str, ...]
    clusters: int
    arm: Ints
    segment: Ints
    cluster: Ints | None
    n: Ints
    y: Floats
    x: Floats
    xx: Floats
    xy: Floats
    yy: Floats
    left_out: tuple[tuple[str, int], ...] = ()
    cut_off: dt.date | int | None = None
    data_sha256: str = ""
    periods: tuple[Any, ...] = field(default=())

    @property
    def population(self) -> Floats:
        """(c,) units of each cell that the average effect is about: all (ATE, ITT), or the trained (ATT)."""
        return self.n * (self.arm == 1) if self.estimand == "ATT" else self.n.astype(float)

    @property
    def share(self) -> Floats:
        """(s,) share of each segment in that population; one segment where there is nothing to compare."""
        size = np.bincount(self.segment, weights=self.population, minlength=max(len(self.segments), 1))
        return np.asarray(size / size.sum())

    @property
    def z_by_segment(self) -> Floats:
        """(s, p) mean of the covariates in each segment's population; 0 where it has nobody."""
        total = np.zeros((max(len(self.segments), 1), len(self.covariates)))
        np.add.at(total, self.segment, self.population[:, None] * self.x)
        size = np.bincount(self.segment, weights=self.population, minlength=len(total))
        return total / np.maximum(size, 1)[:, None]

    def count(self, segment: int | None = None) -> dict[str, int | None]:
        """Numbers of units in each arm, of clusters, and of observations; of one segment, or of all."""
        rows = np.ones(len(self.n), dtype=bool) if segment is None else self.segment == segment
        treated = int(self.n[rows & (self.arm == 1)].sum())
        comparison = int(self.n[rows & (self.arm == 0)].sum())
        clusters = None if self.cluster is None else len(np.unique(self.cluster[rows]))
        return {
            "treated": treated,
            "comparison": comparison,
            "clusters": clusters,
            "observations": treated + comparison,
        }

    def arms(self) -> pd.DataFrame:
        """Per arm: units, mean and sd of the KPI about its cells' means."""
        rows = []
        for code, name in enumerate(("comparison", "trained")):
            own = self.arm == code
            mean = float(np.average(self.y[own], weights=self.n[own]))
            within = self.yy[code] + float(self.n[own] @ (self.y[own] - mean) ** 2)
            rows.append((name, int(self.n[own].sum()), mean, (within / max(self.n[own].sum() - 1, 1)) ** 0.5))
        return pd.DataFrame(rows, columns=["arm", "units", "mean", "sd"]).set_index("arm")

    def __repr__(self) -> str:
        cells = f"{len(self.n):,} cells, {len(self.covariates)} covariates"
        return f"Cross-products of {self.program.title}: {cells}\n{self.arms()}"


def split_small(size: pd.DataFrame, minimum: int) -> tuple[list[str], list[str]]:
    """Segments that may be shown, and those that may not, by their numbers in each arm.

    A segment under the minimum in an arm is hidden. Then the next smallest follow until at least two are
    hidden and they hold the minimum together, or what is hidden could be found by subtraction.

    Examples
    --------
    >>> split_small(pd.DataFrame({0: [40, 30, 3], 1: [50, 30, 20]}, index=["a", "b", "c"]), 10)
    (['a'], ['c', 'b'])
    """
    smallest = size.min(axis=1).sort_values(kind="stable")
    hidden = [str(name) for name in smallest.index[smallest < minimum]]
    rest = [str(name) for name in smallest.index[smallest >= minimum]]
    while hidden and rest and (len(hidden) == 1 or (size.loc[hidden].sum() < minimum).any()):
        hidden.append(rest.pop(0))
    return sorted(rest), hidden


def refuse_explained(covariates: tuple[str, ...], products: Floats) -> None:
    """Refuse covariates that hold the treatment; ``products`` are those of (one, covariates, arm)."""

    def explained(columns: list[int]) -> bool:
        x = products[np.ix_(columns, columns)]
        xy, yy = products[columns, -1], products[-1, -1]
        return bool(yy - xy @ np.linalg.lstsq(x, xy, rcond=None)[0] < 1e-8 * products[0, 0])

    same = [name for place, name in enumerate(covariates) if explained([0, 1 + place])]
    if same or explained(list(range(1 + len(covariates)))):
        which = (
            f"covariate '{same[0]}' equals the treatment"
            if same
            else "the covariates add up to the treatment"
        )
        raise LdlabError(
            f"bayes: {which}, so nobody can be compared. Name only columns measured before training in "
            "columns.covariates"
        )
