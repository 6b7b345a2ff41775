"""The path of a result: the estimate over time within the agreed boundary, the naive range behind it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, num2date
from matplotlib.ticker import FuncFormatter

from ldlab.estimate import Estimate, format_number
from ldlab.plots.figure import (
    ACCENT,
    GOOD,
    INK,
    PALE,
    SOFT,
    Figure,
    effect_label,
    finished,
    new_axes,
    style,
    thousands,
)

MOST_LISTED = 12


class ResultPath(Protocol):
    """What :func:`path` reads of :class:`ldlab.ab.Path`."""

    @property
    def table(self) -> pd.DataFrame:
        """One row per look."""
        ...

    @property
    def estimate(self) -> Estimate:
        """The result now."""
        ...

    @property
    def method(self) -> str:
        """'always_valid' or 'group_sequential'."""
        ...

    @property
    def planned_units(self) -> int:
        """Units planned for the end."""
        ...

    @property
    def first_crossing(self) -> pd.Series | None:
        """The row of the first crossing."""
        ...

    @property
    def claim(self) -> str:
        """What the path shows."""
        ...


def path(result: ResultPath | None, *, name: str = "path") -> Figure | None:
    """A result at each look, with the agreed interval (dark) and the one meant for a single look (pale).

    None for a test of one look. Where the agreed interval leaves zero, the agreed boundary is crossed; the first time
    is marked. Intervals of early looks that are much wider than later ones are cut off.
    """
    if result is None:
        return None
    table, e = _shown(result)
    with style():
        canvas, axes = new_axes(3.6)
        x = _places(axes, table, result)
        _draw(axes, x, table, as_band=result.method == "always_valid" and len(table) > 2)
        axes.axhline(0, color=SOFT, linewidth=1.2, zorder=1)
        axes.axhline(e.shown(e.target), color=GOOD, linewidth=1.4, linestyle="--", zorder=1)
        _mark_crossing(axes, x, table, e)
        _limits(axes, table, e)
        _name_lines(axes, e.shown(e.target))
        axes.set_ylabel(effect_label(e))
        thousands(axes, "y")
        return finished(canvas, name, f"{result.claim}.", _alt(result, table), _listed(table, e))


def _shown(result: ResultPath) -> tuple[pd.DataFrame, Estimate]:
    """The looks from the first at which something may be concluded; percent where the analysis was on logs."""
    table, e = result.table.copy(), result.estimate
    for column in ("value", "naive_low", "naive_high", "low", "high"):
        table[column] = [e.shown(value) for value in table[column]]
    start = int(np.isfinite(table["bound"]).to_numpy().argmax())
    return table.iloc[start:].reset_index(drop=True), e


def _places(axes: Axes, table: pd.DataFrame, result: ResultPath) -> pd.Series:
    """Where the looks stand on the x axis: their days, else their units."""
    if table["day"].isna().any():
        axes.set_xlabel(f"units with a KPI (planned: {result.planned_units:,})")
        thousands(axes)
        axes.set_xlim(0, 1.05 * max(result.planned_units, int(table["units"].iloc[-1])))
        return table["units"]
    last = table["day"].iloc[-1]
    axes.xaxis.set_major_locator(AutoDateLocator(maxticks=8))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda place, _: f"{num2date(place).day} {num2date(place):%b}")
    )
    units = f"{int(table['units'].iloc[-1]):,} of {result.planned_units:,} planned units"
    axes.set_xlabel(f"data up to this day; by {last.day} {last:%B %Y} {units}")
    return pd.to_datetime(table["day"])


def _draw(axes: Axes, x: pd.Series, table: pd.DataFrame, *, as_band: bool) -> None:
    finite = np.isfinite(table["low"]) & np.isfinite(table["high"])
    low, high = table["low"].where(finite), table["high"].where(finite)
    if as_band:
        axes.fill_between(x, low, high, color=ACCENT, alpha=0.14, linewidth=0)
        for bound, label in ((low, "as agreed, for any number of looks"), (high, None)):
            axes.plot(x, bound, color=ACCENT, linewidth=1.3, label=label)
        for bound, label in ((table["naive_low"], "meant for one look"), (table["naive_high"], None)):
            axes.plot(x, bound, color=SOFT, linewidth=1, linestyle=":", label=label)
        axes.plot(x, table["value"], color=ACCENT, linewidth=2.4)
    else:
        axes.vlines(
            x, table["naive_low"], table["naive_high"], color=PALE, linewidth=7, label="meant for one look"
        )
        axes.vlines(x, low, high, color=ACCENT, linewidth=2.2, label="as agreed")
        axes.plot(x, table["value"], "o-", color=ACCENT, linewidth=0.8, markersize=6, markerfacecolor="white")
    axes.legend(facecolor="white", edgecolor="none", framealpha=0.85, fontsize=8.5, loc="best")


def _mark_crossing(axes: Axes, x: pd.Series, table: pd.DataFrame, e: Estimate) -> None:
    crossed = np.flatnonzero(table["crossed"])
    if not len(crossed):
        return
    first = int(crossed[0])
    axes.plot([x.iloc[first]], [table["value"].iloc[first]], "D", color=INK, markersize=7, zorder=5)
    up = table["value"].iloc[first] > 0
    axes.annotate("crossed", (x.iloc[first], table["value"].iloc[first]), xytext=(0, 12 if up else -12),
                  textcoords="offset points", ha="center", va="bottom" if up else "top", fontsize=8.5, color=INK,
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.85})  # fmt: skip


def _name_lines(axes: Axes, target: float) -> None:
    """'no effect' and 'target' beside their lines, apart however close the lines are."""
    low, high = axes.get_ylim()
    close = abs(target) < 0.07 * (high - low)
    sides = ("top", "bottom") if target > 0 else ("bottom", "top")
    for y, text, color, side in ((0.0, "no effect", SOFT, sides[0]), (target, "target", GOOD, sides[1])):
        axes.annotate(text, (1, y), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
                      va=side if close else "center", fontsize=8.5, color=color)  # fmt: skip


def _limits(axes: Axes, table: pd.DataFrame, e: Estimate) -> None:
    """The later half of the agreed intervals, the estimates, zero and the target are in view."""
    later = table.iloc[len(table) // 2 :]
    bounds = pd.concat([later["low"], later["high"], table["value"], later["naive_low"], later["naive_high"]])
    seen = [*bounds[np.isfinite(bounds)], 0.0, e.shown(e.target)]
    room = 0.12 * (max(seen) - min(seen))
    axes.set_ylim(min(seen) - room, max(seen) + room)


def _alt(result: ResultPath, table: pd.DataFrame) -> str:
    e, first = result.estimate, result.first_crossing
    now = f"Now {e.format(e.value, sign=True)} {e.shown_unit} ({e.interval_text()}), as agreed."
    one = f"Meant for one look: {_text(table['naive_low'].iloc[-1], e)} to {_text(table['naive_high'].iloc[-1], e)}."
    crossing = "" if first is None else (
        f" First crossing with {int(first['units']):,} units: {e.format(first['value'], sign=True)}."
    )  # fmt: skip
    return f"Effect on {e.kpi} at {len(table)} look{'s' * (len(table) > 1)}. {now} {one}{crossing}"


def _listed(table: pd.DataFrame, e: Estimate) -> pd.DataFrame:
    """At most twelve looks, evenly over time, with the first crossing."""
    places = set(np.linspace(0, len(table) - 1, min(len(table), MOST_LISTED)).round().astype(int))
    rows = table.iloc[sorted(places | set(np.flatnonzero(table["crossed"])[:1]))]
    listed = pd.DataFrame({"day": rows["day"].astype(str).where(rows["day"].notna(), "")})
    listed["units"] = [f"{int(units):,}" for units in rows["units"]]
    listed[e.shown_unit] = [_text(value, e) for value in rows["value"]]
    listed["agreed from"] = [_text(value, e) for value in rows["low"]]
    listed["to"] = [_text(value, e) for value in rows["high"]]
    listed["crossed"] = np.where(rows["crossed"], "yes", "no")
    return listed


def _text(value: float, e: Estimate) -> str:
    return format_number(value, e.decimals + 1, sign=True)
