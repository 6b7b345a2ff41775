"""Figure of honest bounds: how the interval grows as trends may depart from parallel."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Protocol

import pandas as pd

from ldlab.estimate import Estimate
from ldlab.plots.figure import (
    ACCENT,
    INK,
    PALE,
    SOFT,
    Figure,
    effect_label,
    finished,
    mark_no_effect_and_target,
    new_axes,
    style,
    thousands,
)


class Interval(Protocol):
    """One bound (:class:`ldlab.did.Bound`)."""

    @property
    def low(self) -> float: ...  # noqa: D102
    @property
    def high(self) -> float: ...  # noqa: D102
    @property
    def short(self) -> str: ...  # noqa: D102


class Bounds(Protocol):
    """What :func:`honest_bounds` reads of :class:`ldlab.did.HonestBounds`."""

    @property
    def original(self) -> Estimate | None: ...  # noqa: D102
    @property
    def bounds(self) -> Sequence[Interval]: ...  # noqa: D102
    @property
    def claim(self) -> str: ...  # noqa: D102
    @property
    def target(self) -> str: ...  # noqa: D102


def honest_bounds(bounds: Bounds) -> Figure | None:
    """The interval with parallel trends on top, then with larger and larger departures; None without bounds."""
    e = bounds.original
    if e is None:
        return None
    rows = [("trends run parallel", e.low, e.high), *((b.short, b.low, b.high) for b in bounds.bounds)]
    with style():
        canvas, axes = new_axes(1.5 + 0.34 * len(rows))
        for row, (_, low, high) in enumerate(rows):
            lost = low <= 0 <= high
            color = PALE if lost else ACCENT
            axes.plot(
                [e.shown(low), e.shown(high)], [row, row], color=color, linewidth=5, solid_capstyle="round"
            )
        axes.plot(
            [e.shown(e.value)], [0], "o", markersize=9, markerfacecolor="white", markeredgewidth=2.5,
            markeredgecolor=SOFT,
        )  # fmt: skip
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("\n".join(textwrap.wrap(f"{effect_label(e)}, {bounds.target}", 70)))
        thousands(axes)
        beside = axes.secondary_yaxis("right")
        numbers = [f"{e.format(low, sign=True)} to {e.format(high, sign=True)}" for _, low, high in rows]
        beside.set_yticks(range(len(rows)), numbers)
        beside.tick_params(axis="y", length=0, labelcolor=INK, labelsize=8.5)
        beside.spines["right"].set_visible(False)
        mark_no_effect_and_target(axes, e.shown(e.target))
        said = "; ".join(f"{row[0]}: {ends}" for row, ends in zip(rows, numbers, strict=True))
        what = f"{bounds.target[:1].upper()}{bounds.target[1:]}, {e.level:.0%} intervals in {e.shown_unit}"
        table = pd.DataFrame(
            {"assumed of the trend": [row[0] for row in rows], f"{e.level:.0%} interval": numbers}
        )
        return finished(canvas, "honest_bounds", bounds.claim, f"{bounds.claim}. {what}. {said}.", table)
