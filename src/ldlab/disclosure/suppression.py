"""A table by group -> the same table with small groups blanked."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

COMPLEMENTARY = "not shown"


def suppress(
    table: pd.DataFrame, counts: Sequence[str], minimum: int, label: str | None = None
) -> pd.DataFrame:
    """Blank the rows of small groups, and as many more as hide them from subtraction.

    A row is blanked when any of its counts is under ``minimum`` (or missing). The total of all rows is taken
    as known: while the blanked rows together hold fewer than ``minimum`` in some count, the next smallest row
    is blanked too (complementary suppression; Hundepool et al. 2012, Statistical Disclosure Control, ch. 4).

    Parameters
    ----------
    table
        One row per group, the group's name in the index. Not changed.
    counts
        Columns that count people.
    minimum
        Smallest group that may be shown.
    label
        What a small row's count columns say; default 'fewer than <minimum>'. Rows blanked to protect another
        say 'not shown'. All their other columns become missing.

    Raises
    ------
    KeyError
        If a count column is not in the table.
    """
    numbers = table[list(counts)].apply(pd.to_numeric, errors="coerce").fillna(0)
    small = (numbers < minimum).any(axis=1).to_numpy()
    result = table.copy()
    if not small.any():
        return result
    hidden = small.copy()
    by_size = numbers.min(axis=1).to_numpy().argsort(kind="stable")
    for row in by_size:
        if (numbers[hidden].sum() >= minimum).all():
            break
        hidden[row] = True
    for name in result.columns:
        if name in counts:
            column = result[name].astype(object)
            column[hidden] = COMPLEMENTARY
            column[small] = label or f"fewer than {minimum}"
            result[name] = column
        else:
            result[name] = result[name].mask(hidden)
    return result
