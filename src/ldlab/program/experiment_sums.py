"""Experiment: all that least squares reads of an experiment's data, however many units it has."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from html import escape
from math import comb
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ldlab.program.model import Program
from ldlab.program.study import Question

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
POWERS = (
    (2, 1),
    (1, 2),
    (0, 3),
    (2, 2),
    (1, 3),
    (0, 4),
)  # beyond sums of products, what HC1 reads of u^k v^l
Role = Literal["primary", "primary, not winsorised", "secondary", "guard-rail"]


@dataclass(frozen=True, eq=False)
class Moments:
    """Of n units: (k,) means, and (k, k) sums of squares and products about them."""

    n: int
    mean: Floats
    about: Floats

    @property
    def covariance(self) -> Floats:
        """(k, k) sample covariance, n - 1 in the denominator."""
        return self.about / (self.n - 1)


def about(powers: Floats, u: float, v: float) -> Floats:
    """Sums of (a + u)^k (b + v)^l from those of a^k b^l; (3, 5), for k + l of at most 4."""
    moved = np.zeros_like(powers)
    for k, m in ((k, m) for k in range(3) for m in range(5) if k + m <= 4):
        moved[k, m] = sum(
            comb(k, i) * comb(m, j) * u ** (k - i) * v ** (m - j) * powers[i, j]
            for i in range(k + 1)
            for j in range(m + 1)
        )
    return moved


@dataclass(frozen=True, eq=False, repr=False)
class KpiSums(Question):
    """Sums of one KPI, by arm and by what is known of its units; c cells, k columns.

    Attributes
    ----------
    program
        The program asked about this KPI (:meth:`ldlab.Program.about`).
    role
        What the KPI is agreed to be.
    baseline
        The control arm's mean in KPI units; of a rate, its total count over its total exposure.
    columns
        (k,) ``outcome`` (effect units), or ``count`` and ``exposure`` of a rate; then the covariates, ``<label> before``
        among them (0 where there is none, and then ``no <label> before`` is 1).
    arm, complete
        (c,) place of the arm in :attr:`Experiment.arms`; whether all covariates are known but the KPI before.
    n, mean, about
        (c,) units with a KPI; (c, k) means and (c, k, k) sums of products about them. Only the outcome's where not
        ``complete``.
    powers
        (c, 3, 5) sums of u^k v^l of the outcome u and the KPI before v about the cell's means, for robust errors; None
        for a rate, and without a KPI before. Nothing where ``lacks_before``.
    lacks_before
        (c,) whether nobody of the cell has the KPI before.
    without, without_before
        (arms,) units without the KPI; units with the KPI, and without the KPI before.
    """

    program: Program
    role: Role
    baseline: float
    columns: tuple[str, ...]
    arm: Ints
    complete: NDArray[np.bool_]
    n: Ints
    mean: Floats
    about: Floats
    powers: Floats | None
    lacks_before: NDArray[np.bool_]
    without: Ints
    without_before: Ints

    @property
    def is_rate(self) -> bool:
        """Whether the KPI is a ratio of two totals."""
        return self.columns[0] == "count"

    @property
    def covariates(self) -> tuple[str, ...]:
        """Names of the covariates, the KPI before among them."""
        return self.columns[2 if self.is_rate else 1 :]

    def of(self, arms: Collection[int], *, complete: bool = False) -> Moments:
        """Of all units of some arms together; with ``complete`` only those with all covariates."""
        rows = np.isin(self.arm, list(arms)) & (self.n > 0)
        if complete:
            rows &= self.complete
        width = len(self.columns) if complete else len(self.columns) - len(self.covariates)
        n, mean = self.n[rows].astype(float), self.mean[rows, :width]
        total = n.sum()
        if not total:
            return Moments(0, np.zeros(width), np.zeros((width, width)))
        centre = n @ mean / total
        apart = mean - centre
        about = self.about[rows, :width, :width].sum(axis=0) + (apart.T * n) @ apart
        return Moments(int(total), centre, about)

    def powers_of(self, arms: Collection[int]) -> Floats | None:
        """(3, 5) sums of u^k v^l about the common means, of all units of some arms with all covariates and the KPI before."""
        if self.powers is None:
            return None
        rows = np.isin(self.arm, list(arms)) & self.complete & ~self.lacks_before & (self.n > 0)
        at = [0, self.columns.index(f"{self.program.kpi.label} before")]
        n, mean = self.n[rows].astype(float), self.mean[rows][:, at]
        away = mean - n @ mean / n.sum()
        return sum(
            (about(cell, *shift) for cell, shift in zip(self.powers[rows], away, strict=True)),
            np.zeros((3, 5)),
        )


@dataclass(frozen=True, eq=False, repr=False)
class Experiment(Question):
    """An experiment as sums. Made by :func:`ldlab.load_experiment`; holds nothing about single units.

    Attributes
    ----------
    program, baseline, notes, cut_off, data_sha256
        As in :class:`ldlab.Study`, of the primary KPI.
    arms
        Codes of the arms, the control's first.
    assigned, two_arms
        (arms,) units assigned to one arm only, with or without a KPI; units found in several arms, which are left out.
    kpis
        Sums of the primary KPI (first), of the same before winsorising, of secondary KPIs and of guard-rails.
    by_day, by_segment
        Units assigned (rows: day, or segment; columns: arms); None where the program names no such column.
    """

    program: Program
    baseline: float
    arms: tuple[str, ...]
    assigned: Ints
    two_arms: int
    kpis: tuple[KpiSums, ...]
    by_day: pd.DataFrame | None = None
    by_segment: pd.DataFrame | None = None
    notes: tuple[str, ...] = ()
    cut_off: dt.date | int | None = None
    data_sha256: str = ""
    periods: tuple[Any, ...] = ()

    @property
    def primary(self) -> KpiSums:
        """The sums of the primary KPI."""
        return self.kpis[0]

    @property
    def headline(self) -> tuple[int, ...]:
        """Places of the program arms that the headline is about: the agreed lead arm, or all of them together."""
        lead = self.program.agreement.lead_arm
        return tuple(range(1, len(self.arms))) if lead is None else (self.arms.index(str(lead)),)

    def table(self) -> pd.DataFrame:
        """Per arm: units assigned, units with the primary KPI, its mean and sd; nothing of an arm under the minimum."""
        minimum, kpi = self.program.analysis.minimum_group_size, self.primary
        rows: list[tuple[Any, ...]] = []
        for place, name in enumerate(self.arms):
            seen, lost = kpi.of([place]), int(kpi.without[place])
            mean = seen.mean[0] / seen.mean[1] if kpi.is_rate else seen.mean[0]
            sd = float("nan") if kpi.is_rate else float(np.sqrt(seen.covariance[0, 0]))
            hidden = f"fewer than {minimum}" if 0 < lost < minimum else f"{lost:,}"
            assigned = "not shown" if 0 < lost < minimum else f"{int(self.assigned[place]):,}"
            rows.append((name, assigned, f"{seen.n:,}", float(mean), sd, hidden))
        columns = ["arm", "assigned", "with KPI", "mean", "sd", "without KPI"]
        return pd.DataFrame(rows, columns=columns).set_index("arm")

    def __repr__(self) -> str:
        return "\n".join([f"Experiment of {self.program.title}", str(self._rounded()), *self.notes])

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        table = self._rounded().reset_index().to_html(border=0, index=False)
        return table + (f"<ul>{notes}</ul>" if notes else "")

    def _rounded(self) -> pd.DataFrame:
        table = self.table()
        text = {name: [f"{x:.4g}" for x in table[name]] for name in ("mean", "sd")}
        return table.assign(**text).drop(columns=["sd"] if self.primary.is_rate else [])
