"""Study: a program together with its checked data, ready for an estimator."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any

import pandas as pd

from ldlab.program.model import Program
from ldlab.program.sections import PERCENT_OF_BASELINE, Amount


class Question:
    """What an estimator has to know about the question, from the program and its baseline."""

    program: Program
    baseline: float
    among: str = ""

    def _effect(self, amount: Amount) -> float:
        sign = self.program.kpi.sign
        if amount.unit != PERCENT_OF_BASELINE:
            return sign * amount.value
        if self.program.kpi.scale == "log":
            return math.log1p(sign * amount.value / 100)
        return sign * amount.value / 100 * abs(self.baseline)

    @property
    def target(self) -> float:
        """The agreed target as a signed effect, in effect units."""
        return self._effect(self.program.kpi.target)

    @property
    def smallest(self) -> float:
        """The smallest effect worth having, signed, in effect units."""
        return self._effect(self.program.kpi.smallest_effect_worth_having)

    @property
    def estimand(self) -> str:
        """What the design estimates: ATE, ITT, ATT, or a mere change."""
        columns = self.program.design.columns
        by_design = {"randomised": "ATE", "observational": "ATT", "before_after": "change"}
        if self.program.design.kind == "randomised" and columns.assignment is not None:
            return "ITT"
        return by_design.get(self.program.design.kind, "ATT")

    @property
    def estimand_in_full(self) -> str:
        """The estimand, and among whom of those that the design names: 'ATT among the comparable'."""
        return f"{self.estimand} {self.among}".strip()

    def measure(self) -> dict[str, Any]:
        """What an :class:`ldlab.Estimate` has to know about the question, as keyword arguments."""
        kpi = self.program.kpi
        return {
            "design": self.program.design.kind,
            "kpi": kpi.label,
            "unit": kpi.effect_unit,
            "direction": kpi.direction,
            "scale": kpi.scale,
            "target": self.target,
            "smallest": self.smallest,
            "baseline": self.baseline,
            "level": self.program.level,
        }


@dataclass(frozen=True, repr=False)
class Study(Question):
    """A program and its checked frame. Made by :func:`ldlab.load_study`.

    Attributes
    ----------
    program
        The program file.
    frame
        One row per unit (cross-sections) or per unit and period (panels) with an observed KPI.
        Columns: ``unit``, ``arm`` (1 for ever trained, or offered where there is an assignment),
        ``treated`` (1 where and while trained), ``outcome`` (effect units: binary as 0/100, log where the
        program asks for it, rates as count / exposure). Where the program names them ``cluster``, ``segment``,
        ``count`` and ``exposure``, ``variant`` (which of several program arms; the control value for the rest),
        ``censored`` (1 where a duration was still running), ``negative: <column>`` (negative controls).
        In experiments, where named: ``before`` (the KPI before assignment, missing where unknown; the covariates hold
        it filled in), ``raw`` (the outcome before agreed winsorising), ``stratum``, ``team``, ``dose``,
        ``assigned_on``, ``exposed_on``, ``measured_on`` (datetimes), ``exploratory: <column>`` (text).
        In panels ``period`` (0, 1, ... in order), ``start`` (the period of the first training; missing for
        never) and, where named, ``team``, ``placebo_group`` (1 or 0), ``manipulation``, and ``given`` (1 in
        periods in which training was given, by a flag named beside the start). Then the numeric covariates.
    covariates
        Names of the covariate columns; text columns are spread into 0/1 columns.
    baseline
        KPI mean that 'percent of baseline' refers to, in KPI units: the comparison group's mean (randomised),
        the trained units' mean before training (panels), or what untrained people with the trained people's
        covariates have (observational).
    missing
        By arm (index): rows, rows without KPI, rows without some covariate. In panels also ``units``, ``units without
        KPI``, and number (``clusters``), ``mean share`` and ``sd of shares`` of the clusters' (units') missing shares.
    left_out
        Why rows were left out, and how many.
    periods
        The panel's periods in order, as in the data.
    cut_off
        Last day or period that the data cover.
    data_sha256
        Hash of the data that were read.
    audit
        Panels: who joined, left, was away, had no KPI or moved, by arm and period; small counts hidden.
    notes
        What else a reader should know of the rows.
    among
        To whom of the estimand's people an agreed rule restricted the study; empty: to all of them.
    assigned
        Experiments: the frame's columns for all units that were assigned, also those without a KPI (``outcome``
        missing) and those found in two arms (``two_arms`` is 1; ``arm`` is that of their first row).
    secondary, guard_rails
        Experiments: the same study asked about each other KPI of the program file.
    """

    program: Program
    frame: pd.DataFrame
    covariates: tuple[str, ...]
    baseline: float
    missing: pd.DataFrame
    left_out: tuple[tuple[str, int], ...] = ()
    periods: tuple[Any, ...] = ()
    cut_off: dt.date | int | None = None
    data_sha256: str = ""
    among: str = ""
    audit: pd.DataFrame | None = None
    notes: tuple[str, ...] = ()
    assigned: pd.DataFrame | None = None
    secondary: tuple[Study, ...] = ()
    guard_rails: tuple[Study, ...] = ()
    ids: frozenset[str] = field(default=frozenset(), repr=False)

    def versus(self, arm: str) -> Study:
        """The study of one program arm (a code of ``design.treated_values``, as text) against control."""
        return self._only({arm, str(self.program.design.control_value)})

    @property
    def lead_comparison(self) -> Study:
        """The comparison that the headline is about: the agreed lead arm's, or all program arms' against control."""
        lead = self.program.agreement.lead_arm
        return self if lead is None else self.versus(str(lead))

    def _only(self, codes: set[str]) -> Study:
        frame = self.frame[self.frame["variant"].isin(codes)].reset_index(drop=True)
        assigned, missing = self.assigned, self.missing
        if assigned is not None:
            assigned = assigned[assigned["variant"].isin(codes)].reset_index(drop=True)
            missing = missing_by_arm(assigned[assigned["two_arms"] == 0], self.covariates)
        return replace(
            self,
            frame=frame,
            assigned=assigned,
            missing=missing,
            secondary=tuple(study._only(codes) for study in self.secondary),
            guard_rails=tuple(study._only(codes) for study in self.guard_rails),
        )

    @property
    def has_comparison(self) -> bool:
        """Whether trained units can be held against others: never trained or, if starts differ, not trained yet."""
        if self.frame["arm"].nunique() > 1:
            return True
        return self.program.design.kind == "staggered" and self._not_yet_trained(self.frame) > 0

    def _not_yet_trained(self, rows: pd.DataFrame) -> int:
        """Units seen untrained in a period in which others are trained."""
        if self.program.design.kind != "staggered":
            return 0
        contested = rows["period"] >= rows["start"].min()
        return int(rows.loc[contested & (rows["treated"] == 0), "unit"].nunique())

    def count(self, frame: pd.DataFrame | None = None) -> dict[str, int | None]:
        """Numbers of units in each arm, of clusters, and of observations, in ``frame`` (default: all).

        Where everyone is trained in the end, ``comparison`` are those seen untrained while others were trained.
        For an intention-to-treat study ``treated`` are those offered, and ``attended`` those of them who came.
        """
        rows = self.frame if frame is None else frame
        units = rows.groupby("arm")["unit"].nunique()
        untrained = int(units.get(0, 0)) or self._not_yet_trained(rows)
        clusters = int(rows["cluster"].nunique()) if "cluster" in rows else None
        counts = {
            "treated": int(units.get(1, 0)),
            "comparison": untrained,
            "clusters": clusters,
            "observations": len(rows),
        }
        if self.estimand == "ITT" and self.program.design.columns.treatment is not None:
            counts["attended"] = int(rows.loc[(rows["arm"] == 1) & (rows["treated"] == 1), "unit"].nunique())
        return counts

    def arms(self) -> pd.DataFrame:
        """Per arm: units, observations, mean and sd of the KPI (effect units), rows without KPI."""
        names = {0: "comparison", 1: "trained"}
        rows = self.frame.groupby("arm").agg(
            units=("unit", "nunique"),
            observations=("outcome", "size"),
            mean=("outcome", "mean"),
            sd=("outcome", "std"),
        )
        minimum = self.program.analysis.minimum_group_size
        missing = self.missing["without KPI"].reindex(rows.index).fillna(0).astype(int)
        few = (missing > 0) & (missing < minimum)
        rows["without KPI"] = missing.astype(str).mask(few, f"fewer than {minimum}")
        spread = float(rows["sd"].max())
        decimals = max(0, 2 - math.floor(math.log10(spread))) if spread > 0 else 3
        rows[["mean", "sd"]] = rows[["mean", "sd"]].round(decimals)
        if decimals == 0:
            rows[["mean", "sd"]] = rows[["mean", "sd"]].astype(int)
        return rows.rename(index=names).rename_axis("arm")

    def _notes(self) -> list[str]:
        minimum = self.program.analysis.minimum_group_size
        notes = [
            f"{f'{count:,}' if count >= minimum else f'fewer than {minimum}'} rows left out: {why}"
            for why, count in self.left_out
            if count
        ]
        if self.periods:
            notes.insert(0, f"{len(self.periods)} periods, {self.periods[0]} to {self.periods[-1]}")
        return [*notes, *self.notes]

    def __repr__(self) -> str:
        return "\n".join([f"Study of {self.program.title}", str(self.arms()), *self._notes()])

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{escape(note)}</li>" for note in self._notes())
        return self.arms().reset_index().to_html(border=0, index=False) + (
            f"<ul>{notes}</ul>" if notes else ""
        )


def missing_by_arm(frame: pd.DataFrame, covariates: tuple[str, ...]) -> pd.DataFrame:
    """By arm (index): rows, rows without KPI, rows without some covariate."""
    incomplete = (
        frame[list(covariates)].isna().any(axis=1) if covariates else pd.Series(False, index=frame.index)
    )
    flags = pd.DataFrame(
        {"arm": frame["arm"], "without KPI": frame["outcome"].isna(), "without covariates": incomplete}
    )
    by_arm = flags.groupby("arm")
    rows = by_arm.sum().assign(rows=by_arm.size()).astype(int)
    return rows[["rows", "without KPI", "without covariates"]]
