"""Periods as the data have them: whole numbers or dates, one kind in a column; and the ones that nobody has."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ldlab.data.values import Faults, examples
from ldlab.program import shorten

Ints = NDArray[np.int64]

ONE_KIND = "whole numbers, or ISO dates (YYYY-MM-DD)"
WHOLE_TEXT = r"[-+]?\d{1,7}"  # eight digits are a date without its dashes


@dataclass(frozen=True)
class Periods:
    """A column of periods.

    Attributes
    ----------
    codes
        (rows,) index into ``values``; -1 where missing.
    values
        The distinct periods in order: all of them whole numbers, or all of them dates.
    """

    codes: Ints
    values: tuple[Any, ...]

    @classmethod
    def of(cls, column: pd.Series, name: str, faults: Faults) -> Periods:
        """Read a column; text that is no period, and two kinds in one column, are faults."""
        codes, distinct = pd.factorize(column)
        parsed = _parsed(pd.Series(distinct), np.bincount(codes[codes >= 0]), name, faults)
        values = tuple(sorted({value for value in parsed if value is not None}))
        rank = {value: place for place, value in enumerate(values)}
        ranks = np.array([-1 if value is None else rank[value] for value in parsed] + [-1])
        return cls(ranks[codes], values)

    def places_in(self, periods: tuple[Any, ...]) -> Ints:
        """(rows,) rank among ``periods`` of the first one not before each row's; -1 where missing."""
        places = [int(np.searchsorted(_numbers(periods), number)) for number in _numbers(self.values)]
        return np.array([*places, -1])[self.codes]


def _numbers(values: tuple[Any, ...]) -> Ints:
    return np.array([v.toordinal() if isinstance(v, dt.date) else v for v in values], dtype=np.int64)


def _parsed(distinct: pd.Series, rows: Ints, name: str, faults: Faults) -> list[Any]:
    """Each distinct value as a whole number or a date; None where it is neither."""
    if pd.api.types.is_datetime64_any_dtype(distinct):
        return list(distinct.dt.date)
    if pd.api.types.is_numeric_dtype(distinct) and not pd.api.types.is_bool_dtype(distinct):
        numbers = distinct.astype(float)
        if (numbers % 1 != 0).any():
            faults.add(name, f"values such as {examples(numbers[numbers % 1 != 0])}", ONE_KIND)
        return [int(number) for number in numbers.round()]
    text = pd.Series(
        [v.isoformat() if isinstance(v, dt.date) else str(v).strip() for v in distinct], dtype="str"
    )
    whole = text.str.fullmatch(WHOLE_TEXT)
    if len(text) and whole.all():
        return [int(value) for value in text]
    dates = pd.to_datetime(text, format="ISO8601", errors="coerce")
    if (whole & dates.isna()).any() and dates.notna().any():
        both = f"{text[whole & dates.isna()].iloc[0]} and {text[dates.notna()].iloc[0]}"
        faults.add(name, f"whole numbers and dates in one column, such as {both}", f"one kind: {ONE_KIND}")
    elif dates.isna().any():
        bad = dates.isna().to_numpy()
        found = f"{int(rows[bad].sum())} values that are no date, such as {shorten(text[bad].iloc[0], 30)}"
        faults.add(name, found, ONE_KIND)
    return [None if pd.isna(date) else date.date() for date in dates]


def holes(periods: tuple[Any, ...]) -> tuple[tuple[Any, Any, int], ...]:
    """Neighbouring periods between which some are missing for everybody: before, after, and how many.

    The step is the greatest common divisor of all steps, counted in months where the dates are always the same day
    of the month, or the numbers YYYYMM; in ISO weeks where the numbers are YYYYWW; in working days where no date is
    on a weekend; else in days or units.
    """
    steps = np.diff(_calendar(periods))
    if len(steps) < 2:
        return ()
    missing = steps // np.gcd.reduce(steps) - 1
    return tuple((periods[i], periods[i + 1], int(missing[i])) for i in np.flatnonzero(missing))


def _calendar(periods: tuple[Any, ...]) -> Ints:
    """The periods on a scale on which neighbours are equally far apart."""
    if isinstance(periods[0], dt.date):
        return _days_or_months(periods)
    numbers = np.array(periods, dtype=np.int64)
    year, part = numbers // 100, numbers % 100
    if ((year >= 1900) & (year < 3000) & (part >= 1) & (part <= 53)).all():
        if (part <= 12).all():
            return year * 12 + part
        first = [dt.date.fromisocalendar(y, 1, 1).toordinal() // 7 for y in year.tolist()]
        return np.array(first, dtype=np.int64) + part
    return numbers


def _days_or_months(dates: tuple[dt.date, ...]) -> Ints:
    months = np.array([date.year * 12 + date.month for date in dates])
    last_days = all((date + dt.timedelta(days=1)).day == 1 for date in dates)
    if last_days or len({date.day for date in dates}) == 1:
        return months
    days = np.array(dates, dtype="datetime64[D]")
    if np.is_busday(days).all():
        return np.busday_count(days[0], days)
    return days.astype(np.int64)
