"""The panel side of the data contract: periods, window, starts, and the columns that only panels have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ldlab.data.periods import Periods, holes
from ldlab.data.values import Faults, as_text, binary_arm, numeric, varies
from ldlab.program import Program

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SEEN_AGAIN = 0.1  # share of units seen in more than one period, under which the data are no panel
MOST_HOLES = 3


@dataclass(frozen=True)
class Panel:
    """What a panel's frame says of itself.

    Attributes
    ----------
    frame
        One row per unit and period, rows without a KPI among them.
    periods
        The periods in order.
    left_out
        Why rows were left out, and how many.
    notes
        What a reader should know of periods and starts, one sentence each.
    """

    frame: pd.DataFrame
    periods: tuple[Any, ...]
    left_out: list[tuple[str, int]]
    notes: list[str]


def panel_frame(
    raw: pd.DataFrame, frame: pd.DataFrame, unit: Ints, program: Program, faults: Faults
) -> Panel:
    """The frame with ``period``, ``start``, ``treated``, ``arm`` and the columns that only panels have.

    ``unit`` numbers the units, one number for each row; ``frame`` is changed in place.
    """
    design, columns = program.design, program.design.columns
    when = Periods.of(raw[str(columns.period)], str(columns.period), faults)
    faults.stop_if_any()
    if (when.codes < 0).any():
        found = f"{int((when.codes < 0).sum()):,} rows without a period"
        faults.add(str(columns.period), found, "a period in every row")
    inside = _inside_window(when, program, faults)
    faults.stop_if_any()
    left_out = [("outside the agreed observation window", int((~inside).sum()))] if not inside.all() else []
    if not inside.all():
        raw, frame, unit = raw[inside], frame[inside].copy(), unit[inside]
        when = Periods.of(raw[str(columns.period)], str(columns.period), faults)
    if len(when.values) < 2:
        faults.add(str(columns.period), f"{len(when.values)} period", "at least two periods")
        faults.stop_if_any()
    _one_row_each(unit, when, program, faults)
    faults.stop_if_any()
    notes = _notes_of_holes(when.values, design.period)
    first = _starts(raw, unit, when, program, faults)
    faults.stop_if_any()
    late = first >= len(when.values)
    if late.any() and not (first < len(when.values)).any():
        found = f"starts after the last {design.period} ({when.values[-1]}) only"
        advice = f"Extract later {design.period}s, or wait for them."
        faults.add(str(columns.start), found, f"some start by then, and {design.period}s after it", advice)
        faults.stop_if_any()
    notes += _notes_of_late_starts(len(np.unique(unit[late])), when, program)
    frame["period"], frame["start"] = when.codes, np.where(late, np.nan, first)
    _add_panel_columns(raw, frame, unit, program, faults)
    faults.stop_if_any()
    frame = _with_a_before(frame, program, faults, left_out)
    frame["treated"] = (frame["period"] >= frame["start"]).astype(int)
    frame["arm"] = frame["start"].notna().astype(int)
    if design.kind == "staggered" and columns.start is not None and columns.treatment is not None:
        frame["given"] = _given(raw.loc[frame.index], frame["treated"], program, faults)
        faults.stop_if_any()
    return Panel(frame, when.values, left_out, notes)


def _given(raw: pd.DataFrame, treated: pd.Series, program: Program, faults: Faults) -> pd.Series:
    """1 in the rows in which training was given, by the flag that is named beside the start."""
    columns = program.design.columns
    given = binary_arm(raw, str(columns.treatment), program, faults)
    early = int(((given == 1) & (treated == 0)).sum())
    if early:
        faults.add(
            str(columns.treatment),
            f"training in {early:,} rows before {columns.start} says that it started",
            f"no training before {columns.start}",
        )
    return given


def _inside_window(when: Periods, program: Program, faults: Faults) -> NDArray[np.bool_]:
    """(rows,) whether each lies in the agreed window."""
    window = program.agreement.observation_window
    if window is None or not when.values:
        return np.ones(len(when.codes), dtype=bool)
    name = "agreement.observation_window"
    if not isinstance(when.values[0], type(window.first)):
        faults.add(name, f"{window.first}", f"periods like the data's, such as {when.values[0]}")
        return np.ones(len(when.codes), dtype=bool)
    inside = np.array([window.first <= value <= window.last for value in when.values])
    if not inside.any():
        faults.add(name, f"no row between {window.first} and {window.last}", "rows in the window")
    return inside[when.codes]


def _one_row_each(unit: Ints, when: Periods, program: Program, faults: Faults) -> None:
    """Note repeated keys, and units of which nearly none is seen again: repeated cross-sections."""
    columns, count = program.design.columns, len(when.values)
    rows = np.bincount(unit * count + when.codes)
    twice = int((rows[rows > 1] - 1).sum())
    if twice:
        keys = f"{columns.unit} x {columns.period}"
        expected = f"one row for each {columns.unit} and {columns.period}"
        faults.add(
            keys, f"{twice:,} repeated keys", expected, "Aggregate with data.query, or mend the extract."
        )
        return
    seen = np.bincount(unit)
    units, again = int((seen > 0).sum()), int((seen > 1).sum())
    if again < SEEN_AGAIN * units:
        faults.add(
            columns.unit,
            f"{1 - again / units:.0%} of {program.design.units} in one {program.design.period} only: repeated "
            "cross-sections, not a panel",
            f"the same {program.design.units} in several {program.design.period}s",
            "If whole groups were trained, make the group the unit: take its mean KPI in each period with data.query.",
        )


def _starts(raw: pd.DataFrame, unit: Ints, when: Periods, program: Program, faults: Faults) -> Floats:
    """(rows,) rank of the unit's first trained period; NaN for never."""
    design = program.design
    if design.columns.start is not None:
        return _named_starts(raw, unit, when, program, faults)
    if design.kind == "staggered":
        return _first_on(raw, unit, when, program, faults)
    return _common_start(raw, unit, when, program, faults)


def _named_starts(raw: pd.DataFrame, unit: Ints, when: Periods, program: Program, faults: Faults) -> Floats:
    """From ``columns.start``; a start between two periods counts from the later one."""
    column = str(program.design.columns.start)
    values = raw[column]
    if not pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_datetime64_any_dtype(values):
        values = values.where(values.astype(object) != "0")
    start = Periods.of(values, column, faults)
    faults.stop_if_any()
    never = np.array([value == 0 for value in start.values] + [True])[start.codes]
    if 0 in start.values and 0 in when.values:
        found = f"0 in {int((never & (start.codes >= 0)).sum()):,} rows, and a {program.design.period} 0"
        faults.add(column, found, "an empty cell for never trained", "0 could mean either.")
    if start.values and not isinstance(start.values[0], type(when.values[0])):
        expected = f"periods like those of {program.design.columns.period}, such as {when.values[0]}"
        faults.add(column, f"values such as {start.values[-1]}", expected)
        return np.full(len(unit), np.nan)
    codes = pd.Series(np.where(never, -1, start.codes)).groupby(unit)
    moved = int((codes.min() != codes.max()).sum())
    if moved:
        faults.add(column, f"{moved:,} units with more than one start", "one start for each unit")
    return np.where(never, np.nan, start.places_in(when.values).astype(float))


def _first_on(raw: pd.DataFrame, unit: Ints, when: Periods, program: Program, faults: Faults) -> Floats:
    """From a 0/1 treatment by period, which must not switch off."""
    column = str(program.design.columns.treatment)
    on = binary_arm(raw, column, program, faults).to_numpy() == 1
    first = pd.Series(np.where(on, when.codes, np.nan)).groupby(unit).transform("min").to_numpy()
    switched_off = ~on & (when.codes > first)
    if switched_off.any():
        faults.add(
            column,
            f"training that switches off again for {len(np.unique(unit[switched_off])):,} units",
            "1 from the first trained period on",
            "If 1 marks only when training was given, name the first such period in columns.start.",
        )
    return first


def _common_start(raw: pd.DataFrame, unit: Ints, when: Periods, program: Program, faults: Faults) -> Floats:
    """From ``design.start_period``, for those who are ever trained."""
    design, periods = program.design, when.values
    if not isinstance(periods[0], type(design.start_period)):
        expected = f"a period like the data's, such as {periods[0]}"
        faults.add("design.start_period", f"{design.start_period}", expected)
        return np.full(len(unit), np.nan)
    rank = sum(period < design.start_period for period in periods)
    if not 0 < rank < len(periods):
        expected = f"a period after {periods[0]} and not after {periods[-1]}"
        faults.add("design.start_period", f"{design.start_period}", expected)
    if design.columns.treatment is None:
        return np.full(len(unit), float(rank))
    on = binary_arm(raw, design.columns.treatment, program, faults)
    by_unit = on.groupby(unit)
    ever = by_unit.transform("max").to_numpy() == 1
    by_period = bool((by_unit.max() != by_unit.min()).any())
    if by_period and ((on.to_numpy() == 1) != (ever & (when.codes >= rank))).any():
        faults.add(
            design.columns.treatment,
            f"values that change at other periods than {design.start_period}",
            f"0 before {design.start_period} and 1 from then on, or one value for each {design.unit}",
        )
    return np.where(ever, float(rank), np.nan)


def _with_a_before(
    frame: pd.DataFrame, program: Program, faults: Faults, left_out: list[tuple[str, int]]
) -> pd.DataFrame:
    """The frame without units that are trained from the first period on; nobody with a before is a fault."""
    design = program.design
    always, before = frame["start"] == 0, frame["start"] - design.anticipation
    if always.all():
        faults.add(
            "start", "every unit trained from the first period on", "at least one period before training"
        )
    elif before.notna().any() and not (before > 0).any() and design.anticipation:
        found = f"{design.anticipation}, which leaves no {design.period} before any start"
        faults.add("design.anticipation", found, "at least one period before the KPI may react")
    elif before.notna().any() and not (before > 0).any():
        found = f"all trained {design.units} trained from the first {design.period} on"
        faults.add(str(design.columns.start or design.columns.treatment), found, f"a {design.period} before training",
                   f"Extract earlier {design.period}s, or check the start.")  # fmt: skip
    faults.stop_if_any()
    if not always.any():
        return frame
    left_out.append((f"{design.units} trained from the first period on (no before)", int(always.sum())))
    return frame[~always].copy()


def _add_panel_columns(
    raw: pd.DataFrame, frame: pd.DataFrame, unit: Ints, program: Program, faults: Faults
) -> None:
    """Teams, the placebo group and what shows that training took place, where the program names them."""
    design, columns = program.design, program.design.columns
    if columns.team is not None:
        frame["team"] = as_text(raw[columns.team])
    if columns.placebo_group is not None:
        frame["placebo_group"] = _placebo_group(raw, frame, unit, columns.placebo_group, faults)
    if design.manipulation_check is not None:
        frame["manipulation"] = _varying(raw, design.manipulation_check.column, faults)
    for control in design.negative_controls:
        frame[f"negative: {control.column}"] = _varying(raw, control.column, faults)


def _placebo_group(
    raw: pd.DataFrame, frame: pd.DataFrame, unit: Ints, column: str, faults: Faults
) -> pd.Series:
    flag = numeric(raw, column, faults)
    if not flag.isin([0, 1]).all():
        faults.add(
            column, "empty cells, or values other than 0 and 1", "1 for the placebo group, 0 for all others"
        )
        return flag
    by_unit = flag.groupby(unit)
    moved = int((by_unit.min() != by_unit.max()).sum())
    if moved:
        faults.add(column, f"{moved:,} units that change the placebo group", "one value for each unit")
    trained = int(frame.loc[(flag == 1) & frame["start"].notna(), "unit"].nunique())
    if trained:
        faults.add(column, f"1 for {trained:,} trained units", "1 for units that were never trained only")
    return flag.astype(int)


def _varying(raw: pd.DataFrame, column: str, faults: Faults) -> pd.Series:
    values = numeric(raw, column, faults)
    if not varies(values):
        faults.add(column, "one value in every row", "numbers that vary")
    return values


def _notes_of_holes(periods: tuple[Any, ...], period: str) -> list[str]:
    found = holes(periods)
    if not found:
        return []
    listed = ", ".join(f"{count} between {before} and {after}" for before, after, count in found[:MOST_HOLES])
    more = ", ..." if len(found) > MOST_HOLES else ""
    missing = sum(count for _, _, count in found)
    return [
        f"{missing} {period}{'s are' if missing > 1 else ' is'} missing for everybody ({listed}{more}); time since "
        f"the start counts the {period}s that were seen."
    ]


def _notes_of_late_starts(units: int, when: Periods, program: Program) -> list[str]:
    design = program.design
    if not units:
        return []
    shown = f"{units:,}" if units >= program.analysis.minimum_group_size else "A few"
    return [
        f"{shown} {design.units} are trained after the last {design.period} of these data ({when.values[-1]}): "
        "here they count as not trained."
    ]
