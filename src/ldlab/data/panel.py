"""The panel side of the data contract: periods, window, starts."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left
from typing import Any

import numpy as np
import pandas as pd

from ldlab.data.values import Faults, binary_arm, examples, unique
from ldlab.program import Program, shorten


def _as_periods(values: pd.Series, column: str, faults: Faults) -> pd.Series:
    """Periods as whole numbers or dates (object); missing stays missing."""
    if pd.api.types.is_datetime64_any_dtype(values):
        return values.dt.date.astype(object).where(values.notna(), None)
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        if (values.dropna() % 1 != 0).any():
            faults.add(
                column,
                f"values such as {examples(values[values % 1 != 0].dropna())}",
                "whole numbers or ISO dates",
            )
        whole = values.round().astype("Int64").astype(object)
        return whole.where(values.notna(), None)
    text = values.map(
        lambda value: value.isoformat() if isinstance(value, dt.date) else value, na_action="ignore"
    )
    dates = pd.to_datetime(text, format="ISO8601", errors="coerce")
    bad = text[dates.isna() & text.notna()]
    if len(bad):
        faults.add(
            column,
            f"{len(bad)} values that are no date, such as {shorten(str(bad.iloc[0]), 30)}",
            "ISO dates (YYYY-MM-DD) or whole numbers",
        )
    return dates.dt.date.astype(object).where(dates.notna(), None)


def panel_frame(
    raw: pd.DataFrame, frame: pd.DataFrame, program: Program, faults: Faults
) -> tuple[pd.DataFrame, tuple[Any, ...], list[tuple[str, int]]]:
    """The frame with ``period``, ``start``, ``treated`` and ``arm``; the periods; why rows were left out."""
    design, columns = program.design, program.design.columns
    when = _as_periods(raw[str(columns.period)], str(columns.period), faults)
    if when.isna().any() and not faults.found:
        faults.add(
            str(columns.period), f"{int(when.isna().sum())} rows without a period", "a period in every row"
        )
    faults.stop_if_any()
    frame, when, left_out = _inside_window(frame, when, program, faults)
    faults.stop_if_any()
    periods = tuple(sorted(when.unique()))
    if len(periods) < 2:
        faults.add(str(columns.period), f"{len(periods)} period", "at least two periods")
        faults.stop_if_any()
    rank = {period: i for i, period in enumerate(periods)}
    frame["period"] = when.map(rank).astype(int)
    unique(frame, ["unit", "period"], [columns.unit, str(columns.period)], faults)
    faults.stop_if_any()
    frame["start"] = _starts(raw.loc[frame.index], frame, periods, program, faults)
    faults.stop_if_any()
    always = frame["start"] == 0
    if always.any() and not always.all():
        left_out.append((f"{design.units} trained from the first period on (no before)", int(always.sum())))
        frame = frame[~always].copy()
    elif always.all():
        faults.add(
            "start", "every unit trained from the first period on", "at least one period before training"
        )
        faults.stop_if_any()
    frame["treated"] = (frame["period"] >= frame["start"]).astype(int)
    frame["arm"] = frame["start"].notna().astype(int)
    return frame, periods, left_out


def _inside_window(
    frame: pd.DataFrame, when: pd.Series, program: Program, faults: Faults
) -> tuple[pd.DataFrame, pd.Series, list[tuple[str, int]]]:
    window = program.agreement.observation_window
    if window is None:
        return frame.copy(), when, []
    if not isinstance(when.iloc[0], type(window.first)):
        faults.add(
            "agreement.observation_window",
            f"{window.first}",
            f"periods like the data's, such as {when.iloc[0]}",
        )
        return frame, when, []
    inside = (when >= window.first) & (when <= window.last)
    if not inside.any():
        faults.add(
            "agreement.observation_window",
            f"no row between {window.first} and {window.last}",
            "rows in the window",
        )
    outside = int((~inside).sum())
    return (
        frame[inside].copy(),
        when[inside],
        [("outside the agreed observation window", outside)] if outside else [],
    )


def _starts(
    raw: pd.DataFrame, frame: pd.DataFrame, periods: tuple[Any, ...], program: Program, faults: Faults
) -> pd.Series:
    """The rank of each row's unit's first trained period; NaN for never (within the window)."""
    design, columns = program.design, program.design.columns
    if columns.start is not None:
        start = _as_periods(raw[columns.start], columns.start, faults)
        faults.stop_if_any()
        start = start.where(start != 0, None)
        known = start.dropna()
        if len(known) and not isinstance(known.iloc[0], type(periods[0])):
            faults.add(
                columns.start,
                f"values such as {known.iloc[0]}",
                f"periods like those of {columns.period}, such as {periods[0]}",
            )
            return pd.Series(np.nan, index=frame.index)
        moved = start.map(str).groupby(frame["unit"]).nunique()
        if (moved > 1).any():
            faults.add(
                columns.start,
                f"{int((moved > 1).sum())} units with more than one start",
                "one start for each unit",
            )
        ranks = start.map(lambda value: _rank(value, periods), na_action="ignore").astype(float)
    elif design.kind == "staggered":
        ranks = _first_on(raw, frame, program, faults)
    else:
        ranks = _common_start(raw, frame, periods, program, faults)
    return ranks.where(ranks < len(periods))


def _rank(value: Any, periods: tuple[Any, ...]) -> int:
    return bisect_left(periods, value)


def _first_on(raw: pd.DataFrame, frame: pd.DataFrame, program: Program, faults: Faults) -> pd.Series:
    column = str(program.design.columns.treatment)
    on = binary_arm(raw, column, program, faults)
    first = frame["period"].where(on == 1).groupby(frame["unit"]).transform("min")
    switched_off = (on == 0) & (frame["period"] > first)
    if switched_off.any():
        units = frame.loc[switched_off, "unit"].nunique()
        faults.add(
            column,
            f"training that switches off again for {units} units",
            "1 from the first trained period on",
            "If 1 marks only when training was given, name the first such period in columns.start.",
        )
    return first.astype(float)


def _common_start(
    raw: pd.DataFrame, frame: pd.DataFrame, periods: tuple[Any, ...], program: Program, faults: Faults
) -> pd.Series:
    design = program.design
    if not isinstance(periods[0], type(design.start_period)):
        faults.add(
            "design.start_period", f"{design.start_period}", f"a period like the data's, such as {periods[0]}"
        )
        return pd.Series(np.nan, index=frame.index)
    rank = _rank(design.start_period, periods)
    if not 0 < rank < len(periods):
        faults.add(
            "design.start_period",
            f"{design.start_period}",
            f"a period after {periods[0]} and not after {periods[-1]}",
        )
    if design.columns.treatment is None:
        return pd.Series(float(rank), index=frame.index)
    on = binary_arm(raw, design.columns.treatment, program, faults)
    ever = on.groupby(frame["unit"]).transform("max")
    expected = (ever == 1) & (frame["period"] >= rank)
    by_period = on.groupby(frame["unit"]).nunique().max() > 1
    if by_period and (on.astype(bool) != expected).any():
        faults.add(
            design.columns.treatment,
            f"values that change at other periods than {design.start_period}",
            f"0 before {design.start_period} and 1 from then on, or one value for each {design.unit}",
        )
    return pd.Series(np.where(ever == 1, float(rank), np.nan), index=frame.index)
