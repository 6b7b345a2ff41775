"""Figures of effects by segment: agreed ones, and those that nobody agreed, marked as such."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import pandas as pd
from matplotlib.axes import Axes

from ldlab.estimate import Estimate, format_number
from ldlab.plots.figure import (
    ACCENT,
    INK,
    MOST_ROWS,
    SOFT,
    Figure,
    effect_label,
    finished,
    mark_no_effect_and_target,
    new_axes,
    said,
    style,
    thousands,
)

NOT_AGREED = "Not agreed, a reason to test and not a finding: "


class Effect(Protocol):
    """What the figures read of :class:`ldlab.ab.SegmentEffect`."""

    @property
    def segment(self) -> str:
        """Its name."""
        ...

    @property
    def own(self) -> Estimate:
        """From the segment's own units."""
        ...

    @property
    def pooled(self) -> Estimate:
        """Drawn towards the others."""
        ...

    @property
    def differs(self) -> bool:
        """Whether it stands apart from the others, corrected for the number of comparisons."""
        ...


class Column(Protocol):
    """What the figures read of :class:`ldlab.ab.Segments`."""

    @property
    def column(self) -> str:
        """The column that makes the segments."""
        ...

    @property
    def effects(self) -> Sequence[Effect]:
        """Its segments."""
        ...

    @property
    def p(self) -> float | None:
        """Of the test that all are alike."""
        ...

    @property
    def detectable(self) -> float | None:
        """Spread that this test would see 8 times in 10."""
        ...


def for_whom(segments: Column | None) -> Figure | None:
    """Effects by the agreed segment: pooled, and alone beside; None without segments that may be shown."""
    if segments is None or not segments.effects:
        return None
    return _forest([segments], "for_whom", _title(segments))


def exploratory(columns: Sequence[Column]) -> Figure | None:
    """Effects by columns that were not agreed, marked as such; None without any that may be shown."""
    shown = [column for column in columns if column.effects]
    if not shown:
        return None
    apart = [f"{e.segment} ({column.column})" for column in shown for e in column.effects if e.differs]
    tried = sum(len(column.effects) for column in shown)
    title = (
        f"{', '.join(apart)} {'seems' if len(apart) == 1 else 'seem'} to differ from the others"
        if apart
        else f"none of {tried} segments differs from the others by more than chance allows"
    )
    return _forest(shown, "exploratory_segments", NOT_AGREED + title)


def _title(segments: Column) -> str:
    first, last, p = segments.effects[0], segments.effects[-1], segments.p
    if p is None or segments.detectable is None:
        return f"Effect by {segments.column}"
    text = "under .001" if p < 0.001 else f"= {p:.3f}".replace("0.", ".")
    e = first.own
    if p < 1 - e.level:
        return f"The effect differs by {segments.column} (p {text}): most in {first.segment}, least in {last.segment}"
    size = (
        f"{format_number(100 * segments.detectable, 0)} percent"
        if e.scale == "log"
        else f"{format_number(segments.detectable, e.decimals + 1)} {e.unit}"
    )
    return f"No sign that segments differ (p {text}); a spread of {size} would have been seen 8 times in 10"


def _forest(columns: Sequence[Column], name: str, title: str) -> Figure:
    several = len(columns) > 1
    rows = [
        (f"{column.column}: {effect.segment}" if several else effect.segment, effect)
        for column in columns
        for effect in column.effects
    ]
    drawn = rows[:MOST_ROWS]
    first = rows[0][1].pooled
    with style():
        canvas, axes = new_axes(1.5 + 0.42 * len(drawn))
        for place, (_, effect) in enumerate(drawn):
            _row(axes, place, effect)
        axes.set_yticks(range(len(drawn)), [label for label, _ in drawn])
        axes.set_ylim(len(drawn) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        thousands(axes)
        mark_no_effect_and_target(axes, first.shown(first.target))
        axes.set_xlabel(f"{effect_label(first)}; small squares: the segment's own data alone")
        _numbers(axes, [effect for _, effect in drawn])
        left = f" The first {MOST_ROWS} of {len(rows)} are drawn." if len(rows) > MOST_ROWS else ""
        told = "; ".join(f"{said(e.pooled)}, alone {e.own.format(e.own.value, sign=True)}" for _, e in drawn)
        return finished(
            canvas, name, title, f"Effect in {first.shown_unit}, by segment. {told}.{left}", _table(rows)
        )


def _row(axes: Axes, place: int, effect: Effect) -> None:
    """The pooled effect, and under it the segment's own with the way from one to the other."""
    own, pooled = effect.own, effect.pooled
    color = INK if effect.differs else ACCENT
    ends = [pooled.shown(pooled.low), pooled.shown(pooled.high)]
    axes.plot(ends, [place, place], color=color, linewidth=4.5, solid_capstyle="round")
    centre, start = pooled.shown(pooled.value), own.shown(own.value)
    axes.plot([centre], [place], "o", markersize=8, markerfacecolor="white", markeredgewidth=2.2,
              markeredgecolor=color)  # fmt: skip
    below = place + 0.27
    axes.plot([own.shown(own.low), own.shown(own.high)], [below, below], color=SOFT, linewidth=1)
    axes.plot([start], [below], "s", markersize=4, markerfacecolor="white", markeredgecolor=SOFT)
    axes.plot([start, centre], [below, place], color=SOFT, linewidth=0.8, linestyle=":")


def _numbers(axes: Axes, effects: Sequence[Effect]) -> None:
    beside = axes.secondary_yaxis("right")
    texts = [
        f"{e.pooled.format(e.pooled.value, sign=True)}\nalone {e.own.format(e.own.value, sign=True)}"
        for e in effects
    ]
    beside.set_yticks(range(len(effects)), texts)
    beside.tick_params(axis="y", length=0, labelcolor=INK, labelsize=8)
    beside.spines["right"].set_visible(False)


def _table(rows: Sequence[tuple[str, Effect]]) -> pd.DataFrame:
    found = []
    for label, effect in rows:
        e, own = effect.pooled, effect.own
        row = {
            "segment": label,
            f"pooled ({e.shown_unit})": e.format(e.value, sign=True),
            f"{e.level:.0%} from": e.format(e.low, sign=True),
            "to": e.format(e.high, sign=True),
            "alone": own.format(own.value, sign=True),
            "alone from": own.format(own.low, sign=True),
            "alone to": own.format(own.high, sign=True),
            "stands apart": "yes" if effect.differs else "",
        }
        found.append(row)
    return pd.DataFrame(found)
