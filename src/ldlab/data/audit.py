"""Who is in the panel: joiners, leavers, gaps, missing KPI and movers, by arm and period; small counts hidden."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ldlab.data.limits import ARMS
from ldlab.program import Program

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MOST_ROWS = 8  # rows for each arm; more periods are put together


@dataclass(frozen=True)
class Grid:
    """A panel as (units, periods) arrays.

    Attributes
    ----------
    listed, seen, moved
        Whether a unit has a row, has a KPI, and is in another group than before, one of the other arm.
    arm
        (units,) 1 where ever trained.
    """

    listed: Bools
    seen: Bools
    moved: Bools
    arm: Ints

    @classmethod
    def of(cls, frame: pd.DataFrame, periods: int, group: str | None) -> Grid:
        """The grid of a checked frame, rows without a KPI among them; ``group``: the column that units may change."""
        unit, units = pd.factorize(frame["unit"])
        period = frame["period"].to_numpy()
        listed, seen, moved = (np.zeros((len(units), periods), dtype=bool) for _ in range(3))
        listed[unit, period] = True
        seen[unit, period] = frame["outcome"].notna().to_numpy()
        arm = np.zeros(len(units), dtype=np.int64)
        arm[unit] = frame["arm"].to_numpy()
        if group is not None:
            moved[unit, period] = _moved(frame, unit, group)
        return cls(listed, seen, moved, arm)

    def flows(self, block: Ints, blocks: int) -> dict[str, Bools]:
        """Name -> (units, blocks): whether it befell the unit in the block; ``block`` is that of each period."""
        periods = len(block)
        first, last = np.argmax(self.listed, axis=1), periods - 1 - np.argmax(self.listed[:, ::-1], axis=1)
        time = np.arange(periods)
        between = (time > first[:, None]) & (time < last[:, None])
        cells = {
            "units": self.listed,
            "joined": (time == first[:, None]) & (time > 0),
            "left": time == last[:, None] + 1,
            "away": between & ~self.listed,
            "without KPI": self.listed & ~self.seen,
            "moved": self.moved,
        }
        ends = np.searchsorted(block, np.arange(blocks))
        return {name: np.logical_or.reduceat(cell, ends, axis=1) for name, cell in cells.items()}


def panel_audit(frame: pd.DataFrame, program: Program, periods: tuple[Any, ...]) -> pd.DataFrame:
    """Who is in the panel, and who comes, goes and is missing.

    Parameters
    ----------
    frame
        The checked frame, rows without a KPI among them.
    program
        The program file.
    periods
        The panel's periods in order.

    Returns
    -------
    DataFrame
        One row for each arm and period, or run of periods so that an arm has at most 8. Numbers of units:
        ``units`` with a row; ``joined`` (first row, after the first period); ``left`` (last row was the one before);
        ``away`` (no row between the first and the last); ``without KPI``; and, where teams or clusters are named,
        ``moved`` (into one whose units are mostly of the other arm). Counts under the minimum group read 'fewer
        than', and as many more 'not shown' as hide them from subtraction; the numbers of units beside them are
        rounded to whole minimum groups, 'about 240'.
    """
    columns = program.design.columns
    group = "cluster" if columns.cluster else "team" if columns.team else None
    grid = Grid.of(frame, len(periods), group)
    runs = np.array_split(np.arange(len(periods)), min(len(periods), MOST_ROWS))
    flows = grid.flows(np.repeat(np.arange(len(runs)), [len(run) for run in runs]), len(runs))
    if group is None:
        del flows["moved"]
    names = [_run_name(periods, run) for run in runs]
    parts = {}
    for arm in (1, 0):
        if (grid.arm == arm).any():
            counts = pd.DataFrame(
                {name: found[grid.arm == arm].sum(axis=0) for name, found in flows.items()}, names
            )
            parts[ARMS[arm]] = _hidden(counts, program.analysis.minimum_group_size)
    return pd.concat(parts, names=["arm", program.design.period])


def panel_notes(frame: pd.DataFrame, program: Program, periods: tuple[Any, ...]) -> list[str]:
    """What a reader of the panel should know: who is kept, small cohorts, and when nobody is left to compare with."""
    design, minimum = program.design, program.analysis.minimum_group_size
    seen = frame[frame["outcome"].notna()]
    rows = np.bincount(pd.factorize(seen["unit"])[0])
    units, whole = len(rows), int((rows == len(periods)).sum())
    if whole == units:
        notes = [f"All {units:,} {design.units} have a KPI in all {len(periods)} {design.period}s."]
    else:
        shown = f"{whole:,} of {units:,}" if min(whole, units - whole) >= minimum else _mostly(whole, units)
        notes = [
            f"{shown} {design.units} have a KPI in every {design.period}. The others are kept with the {design.period}s "
            f"that they have: the effect is that on {design.units} in the {design.period}s in which they were seen."
        ]
    never = int(frame["unit"].nunique()) - units
    if never:
        shown = f"{never:,}" if never >= minimum else f"Fewer than {minimum}"
        notes.append(
            f"{shown} further {design.units} have no KPI in any {design.period}: nothing is said about them."
        )
    starts = seen.drop_duplicates("unit")["start"]
    cohorts = starts.value_counts()
    small = int((cohorts < minimum).sum())
    if small and design.kind == "staggered":
        notes.append(
            f"{small} of {len(cohorts)} starts {'have' if small > 1 else 'has'} fewer than {minimum} {design.units}: "
            "they count in the whole, and are never shown or told apart."
        )
    if design.kind == "staggered" and starts.notna().all() and len(cohorts) > 1:
        notes.append(
            f"Every one of the {design.units} is trained in the end. Those not trained yet are the comparison; from "
            f"{periods[int(starts.max())]} on there is none, and later {design.period}s say nothing about the effect."
        )
    return notes


def _mostly(whole: int, units: int) -> str:
    return "Nearly all" if whole > units / 2 else "Hardly any"


def _moved(frame: pd.DataFrame, unit: Ints, group: str) -> Bools:
    """(rows,) whether a unit is in another group than in its row before, and the two groups are of different arms."""
    code = pd.factorize(frame[group])[0]
    named = np.where(code < 0, code.max() + 1, code)
    other_arm = np.bincount(named, frame["arm"]) / np.bincount(named) > 0.5
    order = np.lexsort((frame["period"].to_numpy(), unit))
    before, after = order[:-1], order[1:]
    changed = (unit[before] == unit[after]) & (code[before] >= 0) & (code[after] >= 0)
    found = np.zeros(len(frame), dtype=bool)
    found[after] = changed & (other_arm[named[before]] != other_arm[named[after]])
    return found


def _run_name(periods: tuple[Any, ...], run: Ints) -> str:
    first, last = periods[run[0]], periods[run[-1]]
    text = f"{first}" if first == last else f"{first} to {last}"
    return text.replace("-", "\u2011").replace(" ", "\u00a0")  # a table does not break these


def _hidden(counts: pd.DataFrame, minimum: int) -> pd.DataFrame:
    """Counts of one arm, small ones hidden, also from subtraction; see :func:`panel_audit`."""
    shown = counts.astype(object)
    flows = [name for name in counts if name != "units"]
    for name in flows:
        shown[name] = _hide(counts[name].to_numpy(), minimum)
    units = counts["units"]
    if any(isinstance(value, str) for value in shown[flows].to_numpy().ravel()):
        shown["units"] = [f"about {max(1, round(count / minimum)) * minimum:,}" for count in units]
    shown.loc[(units > 0) & (units < minimum), "units"] = f"fewer than {minimum}"
    return shown


def _hide(counts: Ints, minimum: int) -> list[int | str]:
    """Counts as text or number: small ones, and the next smallest until those hidden cannot be told from a total."""
    small = (counts > 0) & (counts < minimum)
    hidden = small.copy()
    for place in np.argsort(counts, kind="stable"):
        if not small.any() or (hidden.sum() > 1 and counts[hidden].sum() >= minimum):
            break
        hidden[place] |= counts[place] > 0
    words = np.where(small, f"fewer than {minimum}", "not shown")
    return [str(word) if hide else int(n) for n, word, hide in zip(counts, words, hidden, strict=True)]
