"""Group-time effects where training starts at different times, or together: averages that compare like with like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from ldlab.did.atoms import Atoms
from ldlab.did.clusters import clusters_of
from ldlab.did.controls import Controls, choose_controls
from ldlab.did.covariates import fit_adjusted
from ldlab.did.events import EventStudy, event_study_of
from ldlab.did.group_cells import Averages, GroupCells
from ldlab.did.panel import need_comparison, need_panel, se_kind_of
from ldlab.estimate import Estimate, Noun, Printed, rows_to_html
from ldlab.program import LdlabError, Study

PAPER = "Callaway and Sant'Anna 2021"


class CohortEffect(Noun):
    """The effect on one cohort (or several small ones together) at one event time, for the heat map."""

    cohort: str
    event_time: int
    effect: float
    low: float
    high: float


class GroupTime(Printed, Noun):
    """Group-time effects and their averages.

    Attributes
    ----------
    overall
        The average that leads: all trained unit-periods count alike ('simple' in R's did), as in imputation.
    group
        Each cohort's average effect, weighted by its units: all trained units count alike, however long ago they
        were trained.
    dynamic
        The mean of the effects by event time: every period since the start counts alike.
    by_event, by_cohort, by_period
        Averages at each event time, of each cohort, and in each calendar period.
    cells
        Effects by cohort and event time.
    controls, why_controls
        'never trained' or 'not yet trained', and why.
    adjusted
        What was adjusted for, and why not more.
    left_out
        Whom the averages leave out, in words.
    """

    overall: Estimate
    group: Estimate
    dynamic: Estimate
    by_event: EventStudy
    by_cohort: tuple[Estimate, ...]
    by_period: tuple[Estimate, ...]
    cells: tuple[CohortEffect, ...]
    controls: Literal["never trained", "not yet trained"]
    why_controls: str
    adjusted: str
    left_out: tuple[str, ...] = ()

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """The leading average and the two beside it."""
        return self.overall, self.group, self.dynamic

    def table(self) -> pd.DataFrame:
        """Effects as readers see them: one row per cohort, one column per event time; empty where not shown."""
        e = self.overall
        rows = pd.DataFrame([(c.cohort, c.event_time, e.shown(c.effect)) for c in self.cells])
        table = rows.set_axis(["cohort", "event time", "effect"], axis=1)
        return table.pivot(index="cohort", columns="event time", values="effect").round(e.decimals)

    def _rows(self) -> list[tuple[str, str]]:
        averages = [
            (
                ", ".join(text for text in (e.method, e.term) if text),
                f"{e.format(e.value, sign=True)} {e.shown_unit}, {e.interval_text()}, {e.se_kind}",
            )
            for e in self.estimates
        ]
        said = [("compared with", f"{self.controls}: {self.why_controls}"), ("adjusted for", self.adjusted)]
        return averages + said + [("left out", text) for text in self.left_out]

    def _repr_html_(self) -> str:
        return rows_to_html(self._rows())


def group_time(study: Study, *, controls: Controls | None = None) -> GroupTime | None:
    """Effects of each cohort in each period, and their averages (Callaway and Sant'Anna 2021).

    Each cohort is compared with units not trained at the time, each unit with itself in the last period before
    training (and before any agreed anticipation). With gaps, an effect is of the units seen in both periods: the
    panel is neither cut to units that are always seen, nor are people compared with others who replaced them.
    One start for all is the special case of one cohort.

    Parameters
    ----------
    study
        A panel, balanced or not.
    controls
        'never' or 'not_yet' trained units as comparison. Default: the never trained where there are enough of
        them, see :func:`ldlab.did.controls.choose_controls`.

    Returns
    -------
    GroupTime or None
        None for design before_after, which has no comparison.

    Raises
    ------
    LdlabError
        If the study is no panel, everyone is trained at the same time, no cohort has a period before training,
        or fewer units than the minimum group could be shown.

    Notes
    -----
    Callaway & Sant'Anna (2021), Journal of Econometrics 225: group-time effects by diff-diff with a universal base
    period, averaged as in their section 3. Standard errors from influence functions summed within clusters (the
    program's cluster column, else units), with G / (G - 1) for clusters; as in R's did they hold that other units
    would have come in other shares of cohorts. t with clusters - 1 degrees of freedom. Cohorts smaller than the
    minimum group are shown together with their neighbours, and cells that would show fewer units are left out of
    every average that could give them away.
    """
    need_panel(study)
    if study.program.design.kind == "before_after":
        return None
    need_comparison(study)
    rows, left_out = _with_a_before(study)
    chosen, why = choose_controls(study, rows, controls)
    cells, adjusted, without = fit_adjusted(study, rows, never_trained=chosen == "never trained")
    result = _Result(study, cells, chosen, study.count(rows), study.count())
    return result.noun(why, adjusted, (*left_out, *without))


def by_cohort_and_period(effects: GroupTime | None) -> tuple[Estimate, ...]:
    """The average of each cohort, and of each calendar period; empty without group-time effects."""
    return () if effects is None else (*effects.by_cohort, *effects.by_period)


def _with_a_before(study: Study) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows of units that have a period before training and its anticipation, and how many have none."""
    design, rows = study.program.design, study.frame
    none = rows["start"] - 1 - design.anticipation < 0
    if clusters_of(rows[~none]).nunique() < 2 or not (rows.loc[~none, "arm"] == 1).any():
        raise LdlabError(
            f"group-time effects: found no trained {design.units} with a {design.period} before training, or one "
            "cluster; expected at least one period before training (and its anticipation), and two clusters."
        )
    count = rows.loc[none, "unit"].nunique()
    if not count:
        return rows, ()
    number = _number(count, study)
    and_before = " and its anticipation" if design.anticipation else ""
    return rows[~none], (f"{number} {design.units} with no {design.period} before training{and_before}",)


def _number(count: int, study: Study) -> str:
    minimum = study.program.analysis.minimum_group_size
    return f"{count:,}" if count >= minimum else f"fewer than {minimum}"


@dataclass(frozen=True)
class _Result:
    """Cells on their way to the noun."""

    study: Study
    all_cells: GroupCells
    controls: Literal["never trained", "not yet trained"]
    used: dict[str, int | None]
    everyone: dict[str, int | None]

    def noun(self, why: str, adjusted: str, left_out: tuple[str, ...]) -> GroupTime:
        atoms = Atoms.of(self.all_cells, self.study.program.analysis.minimum_group_size)
        if not atoms.shown_after.any():
            raise LdlabError(
                "group-time effects: found too few trained units, or too few to compare them with, after the start; "
                "expected at least analysis.minimum_group_size of each."
            )
        cohorts = atoms.average_by(atoms.pool, atoms.shown_after)
        events = atoms.average_by(atoms.cells.event, atoms.shown)
        times = np.unique(atoms.cells.event[atoms.shown])
        tail = f"{self.controls.replace(' ', '-')} controls"
        tail += "" if adjusted.startswith("nothing") else f", {adjusted.partition(':')[0]}"
        return GroupTime(
            overall=self._overall(atoms, f"group-time effects, simple average ({PAPER}), {tail}"),
            group=self._one(
                cohorts.weighted_by_units(atoms.units_by_cluster()),
                f"group-time effects, average by cohort, {tail}",
            ),
            dynamic=self._one(events.mean(times >= 0), f"group-time effects, average by event time, {tail}"),
            by_event=self._event_study(atoms, events, times, tail),
            by_cohort=self._by_cohort(atoms, cohorts, tail),
            by_period=self._by_period(atoms, tail),
            cells=self._cells(atoms),
            controls=self.controls,
            why_controls=why,
            adjusted=adjusted,
            left_out=(*left_out, *self._small(atoms)),
        )

    @property
    def _df(self) -> float:
        return len(self.all_cells.cohort_units) - 1

    def _estimates(
        self, averages: Averages, method: str, terms: Sequence[str], n: Sequence[int | None]
    ) -> tuple[Estimate, ...]:
        kind = se_kind_of(self.study, "cluster")
        errors = averages.se
        if not (errors > 0).all():
            raise LdlabError(
                "group-time effects: found no variation between units; expected a KPI that varies. Check kpi.column."
            )
        return tuple(
            Estimate.from_t(
                value, se, df=self._df, method=method, estimand=self.study.estimand, se_kind=kind, term=term,
                n={**self.used, "treated": treated}, **self.study.measure(),
            )
            for value, se, term, treated in zip(averages.value, errors, terms, n, strict=True)
        )  # fmt: skip

    def _one(self, average: Averages, method: str, term: str = "") -> Estimate:
        return self._estimates(average, method, [term], [self._treated()])[0]

    def _treated(self) -> int | None:
        """Trained units; None where the difference to all of them would show a small group."""
        all_units, used = (int(counts["treated"] or 0) for counts in (self.everyone, self.used))
        return None if 0 < all_units - used < self.study.program.analysis.minimum_group_size else used

    def _overall(self, atoms: Atoms, method: str) -> Estimate:
        period = self.study.program.design.period
        used = int(atoms.cells.trained[atoms.counted_overall].sum())
        trained = int(self.study.frame["treated"].sum())
        share = "" if used == trained else f"{math.floor(100 * used / trained)}% of the trained {period}s"
        return self._one(atoms.cells.average(atoms.counted_overall[:, None].astype(float)), method, share)

    def _event_study(self, atoms: Atoms, events: Averages, times: np.ndarray, tail: str) -> EventStudy:
        period, cells = self.study.program.design.period, atoms.cells
        seen = [int(cells.trained[atoms.shown & (cells.event == time)].sum()) for time in times]
        terms = [f"{period} {time}".replace("-", "−") for time in times]
        estimates = self._estimates(events, f"group-time effects by event time, {tail}", terms, seen)
        return event_study_of(self.study, estimates, [int(t) for t in times], events.covariance, self._df)

    def _by_cohort(self, atoms: Atoms, cohorts: Averages, tail: str) -> tuple[Estimate, ...]:
        pools = np.unique(atoms.pool[atoms.shown_after])
        units = atoms.units_by_cluster().sum(axis=0).astype(int)
        terms = [f"trained from {self._label(atoms, pool)}" for pool in pools]
        return self._estimates(
            cohorts, f"group-time effects by cohort, {tail}", terms, [int(x) for x in units]
        )

    def _by_period(self, atoms: Atoms, tail: str) -> tuple[Estimate, ...]:
        """Of cohorts that are shown alone: with pools, the difference to their cells would show a small cohort."""
        counted = atoms.shown_after & atoms.alone
        if not counted.any():
            return ()
        averages, cells = atoms.average_by(atoms.cells.period, counted), atoms.cells
        ranks = np.unique(cells.period[counted])
        seen = [int(cells.trained[counted & (cells.period == rank)].sum()) for rank in ranks]
        terms = [f"{self.study.program.design.period} {self._period(rank)}" for rank in ranks]
        return self._estimates(averages, f"group-time effects by calendar period, {tail}", terms, seen)

    def _cells(self, atoms: Atoms) -> tuple[CohortEffect, ...]:
        made: list[CohortEffect] = []
        for pool in np.unique(atoms.pool[atoms.shown]):
            of_pool = atoms.shown & (atoms.pool == pool)
            averages = atoms.average_by(atoms.cells.event, of_pool)
            times = np.unique(atoms.cells.event[of_pool])
            for time, value, se in zip(times, averages.value, averages.se, strict=True):
                made.append(self._cell(self._label(atoms, pool), time, value, se))
        return tuple(made)

    def _cell(self, cohort: str, event: int, value: float, se: float) -> CohortEffect:
        reach = float(stats.t.ppf((1 + self.study.program.level) / 2, self._df)) * se
        return CohortEffect(
            cohort=cohort, event_time=int(event), effect=value, low=value - reach, high=value + reach
        )

    def _label(self, atoms: Atoms, pool: int) -> str:
        starts = atoms.starts(pool)
        names = [str(self._period(rank)) for rank in (starts[0], starts[-1])]
        return names[0] if len(starts) == 1 else f"{names[0]} to {names[1]}"

    def _period(self, rank: int) -> Any:
        return self.study.periods[rank] if self.study.periods else int(rank)

    def _small(self, atoms: Atoms) -> tuple[str, ...]:
        period, minimum = self.study.program.design.period, self.study.program.analysis.minimum_group_size
        said = []
        if not atoms.alone.all():
            said.append(
                f"cohorts of fewer than {minimum} {self.study.program.design.units} are shown together with those "
                "next to them"
            )
        if not atoms.shown.all():
            said.append(
                f"averages by event time and cohort leave out {period}s in which a cohort has fewer than {minimum} "
                f"{self.study.program.design.units}"
            )
        if len(atoms.cells.effect) < len(self.all_cells.effect):
            said.append(f"{period}s in which fewer than {minimum} were left to compare with")
        return tuple(said)
