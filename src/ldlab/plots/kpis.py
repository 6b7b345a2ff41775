"""Figure of several KPIs on one scale, with the guard-rails' limits."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd
from matplotlib.axes import Axes

from ldlab.estimate import Estimate, format_number, level_in_words
from ldlab.plots.figure import ACCENT, GOOD, INK, PALE, SOFT, Figure, finished, new_axes, style, thousands

BAD = "#a4322a"
FARTHEST = 2.5  # a limit so many times as far from zero as any interval reaches is marked at the edge
LEAST_BASE = 0.5  # comparison mean over its spread, under which percentages of it would drown the other rows
COLORS = {"moved": GOOD, "held": GOOD, "moved the wrong way": BAD, "breached": BAD}


class Kpis(Protocol):
    """What :func:`kpis` reads of :class:`ldlab.ab.Kpis`."""

    @property
    def primary(self) -> Any:
        """Result of the primary KPI."""
        ...

    @property
    def secondary(self) -> Sequence[Any]:
        """Results of the secondary KPIs."""
        ...

    @property
    def guard_rails(self) -> Sequence[Any]:
        """Results of the guard-rails."""
        ...

    @property
    def sentence(self) -> str:
        """What came of all, for a leader."""
        ...

    @property
    def table(self) -> pd.DataFrame:
        """The numbers in KPI units."""
        ...


@dataclass(frozen=True)
class _Row:
    """One line of the figure; ``word`` is its verdict, ``limit`` a guard-rail's."""

    name: str
    direction: str
    estimate: Estimate
    spread: float
    word: str
    leads: bool = False
    limit: float | None = None


def kpis(results: Kpis) -> Figure | None:
    """Every KPI's effect with its interval on one scale, guard-rail limits marked; None without other KPIs.

    The scale is percent of the comparison group's mean where every KPI has one well off zero, else standard deviations
    within arms. Right of zero is more of the KPI, not better; the colour says what was shown.
    """
    rows = _rows(results)
    if len(rows) < 2:
        return None
    scale, label = _scale(rows)
    with style():
        canvas, axes = new_axes(1.5 + 0.55 * len(rows))
        for place, row in enumerate(rows):
            _draw(axes, place, row, scale)
        _draw_limits(axes, rows, scale)
        axes.axvline(0, color=SOFT, linewidth=1.2, zorder=1)
        axes.set_yticks(range(len(rows)), [_label(row, width=34) for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("\n".join(textwrap.wrap(_axis_text(rows, label), 90)))
        thousands(axes)
        _numbers_beside(axes, rows)
        told = "; ".join(_told(row) for row in rows)
        title = results.sentence or "Every KPI on one scale"
        return finished(canvas, "kpis", title, f"{title} {told}.", results.table)


def _axis_text(rows: Sequence[_Row], label: str) -> str:
    said = f"effect in {label}, {level_in_words(rows[0].estimate.level)}"
    limits = (
        "; short red line: a guard-rail's limit (arrow: beyond the axis)"
        if any(row.limit is not None for row in rows)
        else ""
    )
    return f"{said}; green: improved or held; red: worse{limits}"


def _rows(results: Kpis) -> list[_Row]:
    found = []
    for place, one in enumerate((results.primary, *results.secondary)):
        if one.estimate is not None:
            spread = one.spread or 0.0
            found.append(_Row(one.kpi, one.direction, one.estimate, spread, one.verdict, leads=place == 0))
    for rail in results.guard_rails:
        if rail.estimate is not None:
            name = f"guard-rail {rail.kpi}" + (f", {rail.arm}" if rail.arm else "")
            found.append(_Row(name, rail.direction, rail.estimate, rail.spread, rail.state, limit=rail.limit))
    return found


def _scale(rows: Sequence[_Row]) -> tuple[Callable[[_Row, float], float], str]:
    """Effect units -> the common scale, and what it is called."""
    if all(_has_base(row) for row in rows):
        return _percent, "percent of the comparison mean"
    return _deviations, "standard deviations within arms"


def _has_base(row: _Row) -> bool:
    base = row.estimate.baseline
    return row.estimate.scale == "log" or (
        base is not None and abs(base) >= LEAST_BASE * row.spread and base != 0
    )


def _percent(row: _Row, effect: float) -> float:
    if row.estimate.scale == "log":
        return row.estimate.shown(effect)
    base = row.estimate.baseline
    return 100 * effect / abs(base) if base else float("nan")


def _deviations(row: _Row, effect: float) -> float:
    return effect / row.spread


def _draw(axes: Axes, place: int, row: _Row, scale: Callable[[_Row, float], float]) -> None:
    e = row.estimate
    low, value, high = (scale(row, x) for x in (e.low, e.value, e.high))
    color = COLORS.get(row.word, ACCENT if row.leads else PALE)
    axes.plot([low, high], [place, place], color=color, linewidth=5, solid_capstyle="round", zorder=2)
    axes.plot([value], [place], "o", markersize=8, markerfacecolor="white", markeredgewidth=2.2,
              markeredgecolor=color if color != PALE else SOFT, zorder=3)  # fmt: skip


def _draw_limits(axes: Axes, rows: Sequence[_Row], scale: Callable[[_Row, float], float]) -> None:
    """Each guard-rail's limit; one far off as an arrow at the edge, so that it does not press the intervals together."""
    reach = max(abs(scale(row, end)) for row in rows for end in (row.estimate.low, row.estimate.high))
    limits = [(place, scale(row, row.limit)) for place, row in enumerate(rows) if row.limit is not None]
    for place, at in limits:
        if abs(at) <= FARTHEST * reach:
            axes.plot([at, at], [place - 0.36, place + 0.36], color=BAD, linewidth=1.6, zorder=4)
    low, high = axes.get_xlim()
    for place, at in limits:
        if abs(at) > FARTHEST * reach:
            marker, edge = (">", high) if at > 0 else ("<", low)
            axes.plot([edge], [place], marker, color=BAD, markersize=7, clip_on=False, zorder=4)
    axes.set_xlim(low, high)


def _label(row: _Row, width: int | None = None) -> str:
    """The KPI and which way is better, the latter on a line of its own where a width is given."""
    way = f"({'more' if row.direction == 'increase' else 'less'} is better)"
    return f"{row.name} {way}" if width is None else "\n".join([*textwrap.wrap(row.name, width), way])


def _numbers_beside(axes: Axes, rows: Sequence[_Row]) -> None:
    """The effect in the KPI's own unit, and the verdict."""
    beside = axes.secondary_yaxis("right")
    texts = [f"{_size(row)}\n{row.word}" for row in rows]
    beside.set_yticks(
        range(len(rows)), ["\n".join(textwrap.wrap(t, 30)) if len(t) > 60 else t for t in texts]
    )
    beside.tick_params(axis="y", length=0, labelcolor=INK, labelsize=8.5)
    beside.spines["right"].set_visible(False)


def _size(row: _Row) -> str:
    e = row.estimate
    return f"{e.format(e.value, sign=True)} {e.shown_unit}"


def _told(row: _Row) -> str:
    e = row.estimate
    limit = "" if row.limit is None else f", limit {format_number(e.shown(row.limit), e.decimals, sign=True)}"
    return f"{_label(row)}: {_size(row)} ({e.interval_text()}{limit}), {row.word}"
