"""What can be asked of the data as a whole: arms large enough to show, a target that can be reached, a base for a percentage."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from typing import NoReturn

import pandas as pd

from ldlab.data.read import source_name
from ldlab.data.values import Faults, varies
from ldlab.program import PERCENT_OF_BASELINE, CrossProducts, Fault, InputError, Program, Study

ARMS = {1: "trained", 0: "comparison"}
LOST_ARM = (
    "a KPI in every arm",
    "Look for an extract that leaves the arm out, or a KPI that was recorded only for the others.",
)
MOST_OVER_PLAN = 10


def arms_can_be_shown(
    units: Mapping[int, int],
    wanted: list[int],
    program: Program,
    assigned: Mapping[int, int] | None = None,
) -> None:
    """Refuse a single arm and an arm too small to publish.

    ``units`` are those with a KPI in each arm, ``assigned`` those with or without one.
    """
    faults, minimum = Faults(source_name(program)), program.analysis.minimum_group_size
    columns = program.design.columns
    column = str(columns.start or columns.assignment or columns.treatment)
    for arm in wanted:
        count = int(units.get(arm, 0))
        if count == 0 and assigned is not None and assigned.get(arm, 0):
            faults.add(program.kpi.column, f"no value for any {ARMS[arm]} {program.design.unit}", *LOST_ARM)
        elif count == 0:
            faults.add(
                column,
                f"no {ARMS[arm]} {program.design.unit} with a KPI",
                "units in both arms" if len(wanted) > 1 else "trained units",
                "A program that reached everybody has no comparison group: use design before_after."
                if arm == 0
                else "",
            )
        elif count < minimum:
            faults.add(
                column,
                f"fewer than {minimum} {ARMS[arm]} units with a KPI",
                f"at least analysis.minimum_group_size = {minimum} in each arm",
                "Smaller groups cannot be published.",
            )
    faults.stop_if_any()


def variants_can_be_shown(frame: pd.DataFrame, program: Program) -> None:
    """Refuse one of several program arms that is too small to publish; all assigned rows, with or without a KPI."""
    if "variant" not in frame:
        return
    faults, minimum = Faults(source_name(program)), program.analysis.minimum_group_size
    with_kpi = frame["outcome"].notna().groupby(frame["variant"]).sum()
    for code in map(str, program.design.treated_values):
        count, column = int(with_kpi.get(code, 0)), str(program.design.columns.treatment)
        if count == 0 and code in with_kpi.index:
            faults.add(program.kpi.column, f"no value for any {program.design.unit} in arm {code}", *LOST_ARM)
        elif count < minimum:
            faults.add(
                column,
                f"fewer than {minimum} {program.design.units} with a KPI in arm {code}",
                f"at least analysis.minimum_group_size = {minimum} in each arm",
                f"Take {code} out of design.treated_values and leave its rows out with data.query; smaller groups "
                "cannot be published.",
            )
    faults.stop_if_any()


def panel_can_be_read(frame: pd.DataFrame, program: Program) -> None:
    """Refuse a panel in which nobody can be compared or shown, or whose KPI says nothing; rows with a KPI only."""
    design, minimum = program.design, program.analysis.minimum_group_size
    per_unit = frame.drop_duplicates("unit")
    sizes = {arm: int((per_unit["arm"] == arm).sum()) for arm in (1, 0)}
    starts = per_unit["start"].nunique()
    if design.kind == "staggered" and starts and not sizes[0]:
        arms_can_be_shown(sizes, [1], program)
        _others_wait(frame, program)
        wanted = [1]
    elif design.kind == "staggered" and starts > 1 and 0 < sizes[0] < minimum:
        hint = f"Leave them out with data.query; {design.units} not trained yet are then the comparison."
        _fault(
            program,
            f"fewer than {minimum} never-trained units with a KPI",
            f"none, or at least {minimum}",
            hint,
        )
    else:
        wanted = [1] if design.kind == "before_after" else [1, 0]
        arms_can_be_shown(sizes, wanted, program)
    _kpi_says_something(frame, wanted, program)


def _others_wait(frame: pd.DataFrame, program: Program) -> None:
    """Where everyone is trained in the end: refuse too few who are seen untrained while others are trained."""
    design, minimum = program.design, program.analysis.minimum_group_size
    if frame["start"].nunique() == 1:
        found = f"every {design.unit} trained from one {design.period} on, all at once"
        hint = "Use design before_after: it states how the KPI changed, and no effect."
        _fault(program, found, f"{design.units} that were never trained, or trained later", hint)
    contested = (frame["period"] >= frame["start"].min()) & (frame["treated"] == 0)
    if frame.loc[contested, "unit"].nunique() < minimum:
        found = (
            f"every {design.unit} trained, and fewer than {minimum} seen untrained while others were trained"
        )
        hint = f"Add {design.units} that were never trained, or use design before_after."
        _fault(program, found, f"at least analysis.minimum_group_size = {minimum} of them", hint)


def _kpi_says_something(frame: pd.DataFrame, wanted: list[int], program: Program) -> None:
    """Refuse a KPI that is constant, or was no KPI before training, and an arm without a before or an after."""
    faults, column = Faults(source_name(program)), program.kpi.column
    outcome, trained = frame["outcome"], frame["arm"] == 1
    before = trained & (frame["treated"] == 0)
    if not varies(outcome):
        faults.add(column, "one value in every row", "a KPI that varies")
    elif not varies(outcome[trained]):
        faults.add(column, "one value in every row of the trained", "a KPI that varies among them")
    elif program.kpi.scale != "log" and before.any() and not outcome[before].any():
        hint = "A KPI that begins with the training, such as a test score in it, has no before."
        faults.add(
            column, "0 in every row of the trained before training", "a KPI that was measured before", hint
        )
    first = frame["start"].min()
    cells = frame.groupby(["arm", frame["period"] >= first]).size()
    for arm in wanted:
        for after in (False, True):
            if (arm, after) not in cells.index:
                found = f"no {ARMS[arm]} rows {'after' if after else 'before'} the first start"
                faults.add(column, found, "rows before and after in each arm")
    faults.stop_if_any()


def _fault(program: Program, found: str, expected: str, hint: str) -> NoReturn:
    columns = program.design.columns
    field = str(columns.start or columns.treatment)
    raise InputError([Fault(source_name(program), None, field, found, expected, hint)])


def percent_has_a_base(baseline: float, sd: float, units: int, program: Program) -> None:
    """Refuse 'percent of baseline' where the baseline is not clearly above zero; ``sd`` of the KPI over ``units``."""
    kpi, faults = program.kpi, Faults(source_name(program))
    error = sd / math.sqrt(max(units / 2, 1))
    in_percent = PERCENT_OF_BASELINE in (kpi.target.unit, kpi.smallest_effect_worth_having.unit)
    if in_percent and kpi.scale != "log" and not baseline > 2 * error:
        found = f"a baseline of {baseline:.3g} {kpi.unit}, not clearly above zero"
        hint = f"Give target and smallest effect in {kpi.unit}."
        faults.add("kpi.target", found, "a baseline that a percentage can refer to", hint)
    faults.stop_if_any()


def target_is_possible(study: Study | CrossProducts) -> None:
    """Refuse a target that would take the KPI beyond what it can be."""
    kpi, faults = study.program.kpi, Faults(source_name(study.program))
    if kpi.scale == "log":
        return
    floor = 0.0 if kpi.value_type in ("binary", "count", "rate", "duration") else None
    lowest = kpi.lowest if kpi.lowest is not None else floor
    highest = kpi.highest if kpi.highest is not None else (100.0 if kpi.value_type == "binary" else None)
    reached = study.baseline + study.target
    if (lowest is not None and reached < lowest) or (highest is not None and reached > highest):
        bounds = " and ".join(
            f"at {word} {bound:g}"
            for word, bound in (("least", lowest), ("most", highest))
            if bound is not None
        )
        faults.add(
            "kpi.target",
            f"{kpi.target.value:g} {kpi.target.unit}, which from {study.baseline:.3g} leads to {reached:.3g}",
            f"a target that the KPI can reach: it is {bounds}",
        )
    faults.stop_if_any()


def too_early_can_be_told(cut_off: dt.date | int | None, program: Program) -> None:
    """Refuse a day before which it is too early, where nothing says how far the data go."""
    early, faults = program.agreement.too_early_before, Faults(source_name(program))
    if early is None or type(early) is type(cut_off):
        return
    found = "no data.cut_off" if cut_off is None else f"data up to {cut_off}"
    hint = "Give data.cut_off, the day up to which the data are complete."
    faults.add("agreement.too_early_before", f"{early}, and {found}", "something to compare it with", hint)
    faults.stop_if_any()


def looks_can_be_matched(study: Study) -> None:
    """Refuse planned looks that the data cannot be held against: dates that are missing or all too early, wrong sizes."""
    looks, faults = study.program.looks, Faults(source_name(study.program))
    if looks is None or not looks.at:
        return
    units, design = len(study.lead_comparison.frame), study.program.design
    planned = looks.planned
    if planned is not None and units > MOST_OVER_PLAN * planned:
        faults.add(
            "looks.planned_units" if looks.by_date else "looks.at",
            f"{planned:,} {design.units} planned at the last look, and {units:,} with a KPI in the data",
            "a plan of about the size of the data",
            "Looks count units with a KPI in the arms that the headline compares.",
        )
    if looks.by_date:
        _dates_can_be_matched(study, faults)
    faults.stop_if_any()


def _dates_can_be_matched(study: Study, faults: Faults) -> None:
    looks, columns = study.program.looks, study.program.design.columns
    role = "measured_on" if columns.measured_on is not None else "assigned_on"
    dates, column = study.frame[role], str(getattr(columns, role))
    missing = int(dates.isna().sum())
    if missing:
        faults.add(
            column,
            f"no date for {missing:,} of {len(dates):,} {study.program.design.units} with a KPI",
            "a date for each of them, because looks.at are dates",
            "Without it nobody can tell which look had seen them.",
        )
    first = dates.min()
    if looks is not None and pd.notna(first) and pd.Timestamp(looks.at[-1]) < first.normalize():
        faults.add(
            "looks.at",
            f"the last planned look on {looks.at[-1]}, before the first date in {column}, {first.date()}",
            "looks while the experiment ran",
            "Mend the dates of looks.at, or of the extract.",
        )
