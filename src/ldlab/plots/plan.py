"""Figures of a planned experiment: the chance to see an effect by size, and the smallest effect seen by time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import pandas as pd

from ldlab.estimate import format_chance
from ldlab.plots.figure import (
    ACCENT,
    GOOD,
    SOFT,
    Figure,
    decimals_for,
    finished,
    new_axes,
    style,
    thousands,
)

TABLE_ROWS = 10


class Available(Protocol):
    """The units that there are (:class:`ldlab.ab.Available`)."""

    @property
    def units(self) -> int: ...  # noqa: D102
    @property
    def power(self) -> float: ...  # noqa: D102


class Plan(Protocol):
    """What the figures read of :class:`ldlab.ab.ExperimentPlan`."""

    @property
    def sentence(self) -> str: ...  # noqa: D102
    @property
    def kpi(self) -> str: ...  # noqa: D102
    @property
    def unit(self) -> str: ...  # noqa: D102
    @property
    def units_called(self) -> str: ...  # noqa: D102
    @property
    def effect(self) -> float: ...  # noqa: D102
    @property
    def effect_in_words(self) -> str: ...  # noqa: D102
    @property
    def power(self) -> float: ...  # noqa: D102
    @property
    def units(self) -> int: ...  # noqa: D102
    @property
    def weeks(self) -> int | None: ...  # noqa: D102
    @property
    def available(self) -> Available | None: ...  # noqa: D102
    @property
    def curve(self) -> Sequence[tuple[float, float, float]]: ...  # noqa: D102
    @property
    def over_time(self) -> Sequence[tuple[int, float, float | None]]: ...  # noqa: D102


def power_curve(plan: Plan) -> Figure:
    """The chance to see the smallest effect worth having, and the target, by number of units."""
    units = [point[0] for point in plan.curve]
    with style():
        canvas, axes = new_axes(3.4)
        axes.plot(
            units, [100 * p[2] for p in plan.curve], color=GOOD, linestyle="--", label="the agreed target"
        )
        axes.plot(units, [100 * p[1] for p in plan.curve], color=ACCENT, linewidth=2.2,
                  label=f"{plan.effect_in_words}, the smallest worth having")  # fmt: skip
        axes.axhline(100 * plan.power, color=SOFT, linewidth=1)
        axes.plot([plan.units], [100 * plan.power], "o", color=ACCENT, markersize=7)
        axes.annotate(f"{plan.units:,} {plan.units_called}", (plan.units, 100 * plan.power), xytext=(4, -14),
                      textcoords="offset points", fontsize=9, color=ACCENT)  # fmt: skip
        if plan.available is not None:
            axes.axvline(plan.available.units, color=SOFT, linestyle=":", linewidth=1.4)
            axes.annotate(f"there are {plan.available.units:,}", (plan.available.units, 2), xytext=(4, 0),
                          textcoords="offset points", fontsize=8.5, color=SOFT)  # fmt: skip
        axes.set_ylim(0, 103)
        axes.set_xlim(left=0)
        axes.set_xlabel(f"{plan.units_called} assigned, all arms")
        axes.set_ylabel("chance to see it (percent)")
        axes.legend(frameon=False, loc="lower right", fontsize=8.5)
        thousands(axes)
        rows = plan.curve[:: max(1, len(plan.curve) // TABLE_ROWS)]
        table = pd.DataFrame(
            [(f"{n:,.0f}", format_chance(small), format_chance(target)) for n, small, target in rows],
            columns=[plan.units_called, plan.effect_in_words, "agreed target"],
        )
        alt = f"{plan.sentence} {_at_hand(plan)}The chance rises with the number of {plan.units_called}."
        return finished(canvas, "power", plan.sentence, alt, table)


def _at_hand(plan: Plan) -> str:
    there = plan.available
    if there is None:
        return ""
    return f"With the {there.units:,} that there are the chance is {format_chance(there.power)}. "


def smallest_over_time(plan: Plan) -> Figure | None:
    """The smallest effect that would be seen, by week; None where the plan has no weeks."""
    points = [(week, abs(_shown(plan, size))) for week, _, size in plan.over_time if size is not None]
    if plan.weeks is None or len(points) < 2:
        return None
    unit = "percent" if plan.unit == "log points" else plan.unit
    wanted = abs(_shown(plan, abs(plan.effect)))
    title = f"In {plan.weeks:,} weeks the smallest change seen falls to the smallest worth having"
    with style():
        canvas, axes = new_axes(3.2)
        axes.plot(*zip(*points, strict=True), color=ACCENT, linewidth=2.2)
        axes.axhline(wanted, color=GOOD, linestyle="--", linewidth=1.4)
        axes.annotate("smallest worth having", (points[0][0], wanted), xytext=(0, -11), textcoords="offset points",
                      fontsize=8.5, color=GOOD)  # fmt: skip
        axes.axvline(plan.weeks, color=SOFT, linestyle=":", linewidth=1.4)
        axes.set_ylim(0, min(max(size for _, size in points), 6 * wanted) * 1.05)
        axes.set_xlabel("weeks from the first assignment")
        axes.set_ylabel(f"smallest change seen ({unit})")
        decimals = decimals_for(wanted)
        table = pd.DataFrame(
            [(week, f"{size:.{decimals}f}") for week, size in points[:: max(1, len(points) // TABLE_ROWS)]],
            columns=["week", f"smallest change seen ({unit})"],
        )
        first, last = points[0], points[-1]
        alt = (
            f"{title}. It is {first[1]:.{decimals}f} {unit} in week {first[0]} and {last[1]:.{decimals}f} in week "
            f"{last[0]}; {wanted:.{decimals}f} is the smallest worth having."
        )
        return finished(canvas, "smallest_over_time", title, alt, table)


def _shown(plan: Plan, size: float) -> float:
    """A size in effect units as readers see it: percent where the KPI is on a log scale, in the effect's direction."""
    return 100 * math.expm1(math.copysign(size, plan.effect)) if plan.unit == "log points" else size
