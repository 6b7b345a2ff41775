"""Raw table -> checked frame: the data contract of a program file, every breach reported at once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ldlab.data.read import source_name
from ldlab.program import Fault, InputError, Program, did_you_mean, shorten

MOST_LEVELS = 30
CANONICAL = {
    "unit",
    "arm",
    "treated",
    "outcome",
    "cluster",
    "segment",
    "count",
    "exposure",
    "period",
    "start",
}


@dataclass
class Faults:
    """Collects faults of one table."""

    file: str
    found: list[Fault] = field(default_factory=list)

    def add(self, column: str, found: str, expected: str, hint: str = "") -> None:
        """Note a fault of one column."""
        self.found.append(Fault(self.file, None, column, found, expected, hint))

    def stop_if_any(self) -> None:
        """Raise all faults found so far."""
        if self.found:
            raise InputError(self.found)


def checked_frame(
    raw: pd.DataFrame, program: Program
) -> tuple[pd.DataFrame, tuple[str, ...], tuple[Any, ...], list[tuple[str, int]]]:
    """Hold the raw table against the program file.

    Returns
    -------
    frame
        Canonical columns (see :class:`ldlab.Study`), rows without KPI still in it.
    covariates
        Names of the numeric covariate columns.
    periods
        The panel's periods in order; empty for a cross-section.
    left_out
        Why rows were left out, and how many.

    Raises
    ------
    InputError
        With every breach that can be seen at once.
    """
    faults = Faults(source_name(program))
    _columns_exist(raw, program, faults)
    faults.stop_if_any()
    if raw.empty:
        faults.add("data", "no rows", "at least one row for each unit")
        faults.stop_if_any()
    columns = program.design.columns
    frame = pd.DataFrame({"unit": _identifiers(raw, columns.unit, faults)}, index=raw.index)
    frame["outcome"] = _outcome(raw, program, frame, faults)
    if columns.cluster is not None:
        frame["cluster"] = _clusters(raw, columns.cluster, faults)
    if columns.segment is not None:
        frame["segment"] = raw[columns.segment].astype("string").fillna("not recorded").astype(object)
    periods: tuple[Any, ...] = ()
    left_out: list[tuple[str, int]] = []
    if program.is_panel:
        frame, periods, left_out = _panel(raw, frame, program, faults)
    else:
        frame["arm"] = _binary_arm(raw, columns.assignment or str(columns.treatment), program, faults)
        frame["treated"] = _binary_arm(raw, columns.treatment or str(columns.assignment), program, faults)
        _unique(frame, ["unit"], [columns.unit], faults)
    faults.stop_if_any()
    covariates = _add_covariates(raw, frame, program, faults)
    faults.stop_if_any()
    return frame, covariates, periods, left_out


def _columns_exist(raw: pd.DataFrame, program: Program, faults: Faults) -> None:
    columns = program.design.columns
    named: list[tuple[str, str | None]] = [
        ("kpi.column", program.kpi.column),
        ("kpi.exposure_column", program.kpi.exposure_column),
        *(
            (f"design.columns.{role}", getattr(columns, role))
            for role in ("unit", "treatment", "assignment", "period", "start", "cluster", "segment")
        ),
        *(("design.columns.covariates", name) for name in columns.covariates),
    ]
    for role, name in named:
        if name is not None and name not in raw.columns:
            faults.add(
                role, f"no column '{name}'", "a column of the data", did_you_mean(name, map(str, raw.columns))
            )


def _identifiers(raw: pd.DataFrame, column: str, faults: Faults) -> pd.Series:
    missing = int(raw[column].isna().sum())
    if missing:
        faults.add(column, f"{missing} rows without a unit", "a unit in every row")
    return _as_text(raw[column])


def _as_text(values: pd.Series) -> pd.Series:
    """Identifiers as text; whole numbers without a decimal point."""
    if pd.api.types.is_float_dtype(values) and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")
    return values.astype("string").astype(object)


def _clusters(raw: pd.DataFrame, column: str, faults: Faults) -> pd.Series:
    missing = int(raw[column].isna().sum())
    if missing:
        faults.add(column, f"{missing} rows without a cluster", "a cluster in every row")
    elif raw[column].nunique() < 2:
        faults.add(
            column,
            "one cluster",
            "at least two clusters",
            "Leave columns.cluster out if nothing is clustered.",
        )
    return _as_text(raw[column])


def _numeric(raw: pd.DataFrame, column: str, faults: Faults) -> pd.Series:
    values = raw[column]
    if pd.api.types.is_datetime64_any_dtype(values) or pd.api.types.is_timedelta64_dtype(values):
        faults.add(column, "dates or times", "numbers")
        return pd.Series(np.nan, index=values.index)
    if pd.api.types.is_bool_dtype(values):
        return values.astype(float)
    if pd.api.types.is_numeric_dtype(values):
        numbers = values.astype(float)
    else:
        numbers = pd.to_numeric(values, errors="coerce").astype(float)
        text = values[numbers.isna() & values.notna()]
        if len(text):
            faults.add(
                column,
                f"text in {len(text)} rows, such as {shorten(str(text.iloc[0]), 30)}",
                "numbers",
                "If the text means missing, name it in data.missing_values.",
            )
    infinite = int(np.isinf(numbers).sum())
    if infinite:
        faults.add(column, f"{infinite} infinite values", "finite numbers")
    return numbers.replace([np.inf, -np.inf], np.nan)


def _outcome(raw: pd.DataFrame, program: Program, frame: pd.DataFrame, faults: Faults) -> pd.Series:
    kpi = program.kpi
    values = _numeric(raw, kpi.column, faults)
    seen = values.dropna()
    if not len(seen):
        if not any(fault.field == kpi.column for fault in faults.found):
            faults.add(kpi.column, "no value at all", "a KPI in at least some rows")
        return values
    if kpi.value_type == "binary":
        if not seen.isin([0, 1]).all():
            faults.add(
                kpi.column,
                f"values such as {_examples(seen[~seen.isin([0, 1])])}",
                "0 and 1 for a binary KPI",
            )
        values = values * 100
    elif kpi.value_type in ("count", "rate") and ((seen < 0) | (seen % 1 != 0)).any():
        faults.add(
            kpi.column,
            f"values such as {_examples(seen[(seen < 0) | (seen % 1 != 0)])}",
            "whole numbers from 0 up",
        )
    elif kpi.value_type == "ordinal" and (seen % 1 != 0).any():
        faults.add(
            kpi.column,
            f"values such as {_examples(seen[seen % 1 != 0])}",
            "whole numbers, one for each category",
        )
    elif kpi.value_type == "duration" and (seen < 0).any():
        faults.add(kpi.column, f"{int((seen < 0).sum())} negative durations", "durations from 0 up")
    if kpi.scale == "log":
        if (seen <= 0).any():
            faults.add(
                kpi.column, f"{int((seen <= 0).sum())} values of 0 or less", "values above 0 for scale: log"
            )
        values = np.log(values.where(values > 0))
    if kpi.exposure_column is not None:
        exposure = _numeric(raw, kpi.exposure_column, faults)
        bad = int((exposure <= 0).sum())
        if bad:
            faults.add(kpi.exposure_column, f"{bad} exposures of 0 or less", "exposures above 0")
        frame["count"], frame["exposure"] = values, exposure
        values = values / exposure.where(exposure > 0)
    if values.nunique() == 1:
        faults.add(kpi.column, f"the one value {seen.iloc[0]:g} in every row", "a KPI that varies")
    return values


def _examples(values: Iterable[Any], most: int = 4) -> str:
    distinct = list(dict.fromkeys(values))
    shown = ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in distinct[:most])
    return shown + (", ..." if len(distinct) > most else "")


def _binary_arm(raw: pd.DataFrame, column: str, program: Program, faults: Faults) -> pd.Series:
    """1 and 0 for trained and not; NaN never: missing or other codes are faults."""
    values, design = raw[column], program.design
    missing = int(values.isna().sum())
    if missing:
        faults.add(column, f"{missing} rows without a value", "trained or not in every row")
    on, off = (1, 0) if design.treated_value is None else (design.treated_value, design.control_value)
    text = values.map(_code, na_action="ignore")
    other = values[values.notna() & ~text.isin([_code(on), _code(off)])]
    if len(other):
        hint = "Give design.treated_value and design.control_value, or choose rows with data.query."
        faults.add(
            column,
            f"the values {_examples(sorted(values.dropna().unique(), key=str), 6)}",
            f"only {on} (trained) and {off} (not)",
            hint,
        )
    return (text == _code(on)).astype(int)


def _code(value: Any) -> str:
    """One text for 1, 1.0, True, 'yes' and '1', so that a coding matches whatever type a reader made of it."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    text = str(value).strip()
    return {"true": "1", "yes": "1", "false": "0", "no": "0"}.get(text.lower(), text)


def _unique(frame: pd.DataFrame, keys: list[str], names: list[str], faults: Faults) -> None:
    twice = int(frame.duplicated(keys).sum())
    if twice:
        faults.add(
            " x ".join(names),
            f"{twice} repeated keys",
            "one row for each " + " and ".join(names),
            "Aggregate with data.query, or mend the extract.",
        )


def _as_periods(values: pd.Series, column: str, faults: Faults) -> pd.Series:
    """Periods as whole numbers or dates (object); missing stays missing."""
    if pd.api.types.is_datetime64_any_dtype(values):
        return values.dt.date.astype(object).where(values.notna(), None)
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        if (values.dropna() % 1 != 0).any():
            faults.add(
                column,
                f"values such as {_examples(values[values % 1 != 0].dropna())}",
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


def _panel(
    raw: pd.DataFrame, frame: pd.DataFrame, program: Program, faults: Faults
) -> tuple[pd.DataFrame, tuple[Any, ...], list[tuple[str, int]]]:
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
    _unique(frame, ["unit", "period"], [columns.unit, str(columns.period)], faults)
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
    return sum(period < value for period in periods)


def _first_on(raw: pd.DataFrame, frame: pd.DataFrame, program: Program, faults: Faults) -> pd.Series:
    column = str(program.design.columns.treatment)
    on = _binary_arm(raw, column, program, faults)
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
    on = _binary_arm(raw, design.columns.treatment, program, faults)
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


def _add_covariates(
    raw: pd.DataFrame, frame: pd.DataFrame, program: Program, faults: Faults
) -> tuple[str, ...]:
    names: list[str] = []
    rows = raw.loc[frame.index]
    for column in program.design.columns.covariates:
        values = rows[column]
        if pd.api.types.is_bool_dtype(values) or pd.api.types.is_numeric_dtype(values):
            spread = {column: _numeric(rows, column, faults)}
        else:
            spread = _indicators(values, column, faults)
        for name, numbers in spread.items():
            safe = f"{name} (covariate)" if name in CANONICAL or name in frame.columns else name
            if numbers.nunique() < 2:
                faults.add(column, "one value in every row", "a covariate that varies")
            elif not program.is_panel and numbers.notna().all() and _equal_or_opposite(numbers, frame["arm"]):
                faults.add(column, "the same as the treatment column", "a covariate measured before training")
            frame[safe] = numbers.astype(float)
            names.append(safe)
    return tuple(names)


def _equal_or_opposite(numbers: pd.Series, arm: pd.Series) -> bool:
    return bool(numbers.groupby(arm).nunique().eq(1).all()) and numbers.nunique() == 2


def _indicators(values: pd.Series, column: str, faults: Faults) -> dict[str, pd.Series]:
    text = values.astype("string")
    levels = text.value_counts().index.tolist()
    if len(levels) > MOST_LEVELS:
        faults.add(
            column,
            f"text with {len(levels)} different values",
            f"numbers, or at most {MOST_LEVELS} categories",
        )
        return {}
    if len(levels) < 2:
        faults.add(column, "one value in every row", "a covariate that varies")
    return {f"{column}: {level}": (text == level).astype(float).where(text.notna()) for level in levels[1:]}
