"""Columns -> checked values: faults collected, numbers, codes, keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ldlab.program import Fault, InputError, Program, did_you_mean, shorten


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


def numeric(raw: pd.DataFrame, column: str, faults: Faults) -> pd.Series:
    """A column as finite floats, missing as NaN; text, dates and infinities are faults."""
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


def varies(numbers: pd.Series) -> bool:
    """Whether there are two different numbers."""
    return bool(numbers.min() < numbers.max())


def examples(values: Iterable[Any], most: int = 4) -> str:
    """The first few distinct values, for a message."""
    distinct = list(dict.fromkeys(values))
    shown = ", ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in distinct[:most])
    return shown + (", ..." if len(distinct) > most else "")


def binary_arm(raw: pd.DataFrame, column: str, program: Program, faults: Faults) -> pd.Series:
    """1 and 0 for trained and not; NaN never: missing or other codes are faults."""
    values, design = raw[column], program.design
    missing = int(values.isna().sum())
    if missing:
        faults.add(column, f"{missing} rows without a value", "trained or not in every row")
    off = 0 if design.control_value is None else design.control_value
    on = design.treated_values or (1 if design.treated_value is None else design.treated_value,)
    text = codes_of(values)
    trained = {code_text(value) for value in on}
    known = trained | {code_text(off)}
    other = values[values.notna() & ~text.isin(known)]
    if len(other):
        faults.add(
            column,
            f"the values {examples(sorted(values.dropna().unique(), key=str), 6)}, of which "
            f"{examples(sorted(other.unique(), key=str), 6)} are of no arm",
            f"only {', '.join(map(str, on))} (trained) and {off} (not)",
            _how_to_mend(other, known),
        )
    named = (*(on if len(on) > 1 else ()), *(() if design.control_value is None else (off,)))
    absent = [str(value) for value in named if code_text(value) not in set(text)]
    if absent:
        where = "design.treated_values and design.control_value" if len(on) > 1 else "design.control_value"
        faults.add(column, f"no row with {', '.join(absent)}", f"rows in every arm of {where}")
    return text.isin(trained).astype(int)


def _how_to_mend(other: pd.Series, known: set[str]) -> str:
    """What to do about codes of no arm; a code that is near a known one is one arm written in two ways."""
    for code in other.unique():
        near = did_you_mean(code_text(code), known)
        if near.startswith("Did you mean"):
            return f"{near} Write each arm in one way, with data.query."
    return "Give design.treated_value (or treated_values) and design.control_value, or choose rows with data.query."


def codes_of(values: pd.Series) -> pd.Series:
    """The codes of a column, by :func:`code_text`; missing stays missing."""
    return _by_distinct(values, lambda distinct: [code_text(value) for value in distinct])


def as_text(values: pd.Series) -> pd.Series:
    """Identifiers as text, whole numbers without a decimal point; equal ones are one object, missing stays missing."""
    return _by_distinct(values, _texts)


def _texts(distinct: pd.Series) -> pd.Series:
    """Texts; one of spaces only is missing."""
    if pd.api.types.is_float_dtype(distinct) and (distinct % 1 == 0).all():
        distinct = distinct.astype("Int64")
    text = distinct.astype("string")
    return text.where(text.str.strip() != "", None).astype(object)


def _by_distinct(values: pd.Series, name: Callable[[pd.Series], Iterable[Any]]) -> pd.Series:
    """Each value's name, made once for every distinct value."""
    codes, distinct = pd.factorize(values)
    names = np.array([*name(pd.Series(distinct)), None], dtype=object)
    return pd.Series(names[codes], index=values.index, dtype=object)


def code_text(value: Any) -> str:
    """One text for 1, 1.0, True, 'yes' and '1', so that a coding matches whatever type a reader made of it."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    text = str(value).strip()
    return {"true": "1", "yes": "1", "false": "0", "no": "0"}.get(text.lower(), text)


def unique(frame: pd.DataFrame, keys: list[str], names: list[str], faults: Faults) -> None:
    """Note a fault if a key occurs more than once; ``names`` are the columns as the data call them."""
    twice = int(frame.duplicated(keys).sum())
    if twice:
        faults.add(
            " x ".join(names),
            f"{twice} repeated keys",
            "one row for each " + " and ".join(names),
            "Aggregate with data.query, or mend the extract.",
        )
