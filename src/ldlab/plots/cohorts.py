"""Heat map of effects by cohort and event time."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Protocol

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm

from ldlab.estimate import Estimate, format_number
from ldlab.plots.figure import (
    INK,
    LINE,
    MOST_ROWS,
    SOFT,
    Figure,
    effect_label,
    finished,
    new_axes,
    said,
    style,
)
from ldlab.program import Study

MOST_NUMBERS = 13  # columns that still hold a number each


class Cell(Protocol):
    """One cohort at one event time."""

    @property
    def cohort(self) -> str: ...  # noqa: D102
    @property
    def event_time(self) -> int: ...  # noqa: D102
    @property
    def effect(self) -> float: ...  # noqa: D102
    @property
    def low(self) -> float: ...  # noqa: D102
    @property
    def high(self) -> float: ...  # noqa: D102


class CohortEffects(Protocol):
    """What :func:`cohort_effects` reads of :class:`ldlab.did.GroupTime`."""

    @property
    def cells(self) -> Sequence[Cell]: ...  # noqa: D102
    @property
    def by_cohort(self) -> tuple[Estimate, ...]: ...  # noqa: D102


def cohort_effects(effects: CohortEffects | None, study: Study) -> Figure | None:
    """Effect of each cohort at each event time; bold, or dotted, where its interval excludes zero; hatched: not seen.

    None without group-time effects or with one cohort only. The latest cohorts are left out beyond 30 rows, and
    the axis says so.
    """
    if effects is None or len(effects.by_cohort) < 2:
        return None
    shown = effects.by_cohort[0]
    rows = pd.DataFrame([(c.cohort, c.event_time, c.effect, c.low, c.high) for c in effects.cells],
                        columns=["cohort", "event", "effect", "low", "high"])  # fmt: skip
    order = list(dict.fromkeys(rows["cohort"]))[:MOST_ROWS]
    times = range(rows["event"].min(), rows["event"].max() + 1)
    rows["clear"] = ((rows["low"] > 0) | (rows["high"] < 0)).astype(float)
    values, clear = (
        rows.pivot(index="cohort", columns="event", values=name).loc[order].reindex(columns=times)
        for name in ("effect", "clear")
    )
    values = values.map(shown.shown, na_action="ignore")
    title = _title(effects.by_cohort)
    with style():
        canvas, axes = new_axes(2.4 + 0.3 * len(order))
        _draw(axes, values, clear, shown)
        axes.set_xlabel(f"{study.program.design.period}s since training began")
        left_out = rows["cohort"].nunique() - len(order)
        more = f" ({left_out} later ones not drawn)" if left_out else ""
        axes.set_ylabel(f"first trained {study.program.design.period}{more}")
        alt = f"{title}. {'; '.join(said(e) for e in effects.by_cohort[:12])}."
        numbers = values.map(lambda x: format_number(x, shown.decimals, sign=True), na_action="ignore")
        table = numbers.rename_axis("first trained").rename_axis(None, axis=1).reset_index()
        return finished(canvas, "cohort_effects", title, alt, table)


def _title(cohorts: Sequence[Estimate]) -> str:
    ordered = sorted(cohorts, key=lambda e: -e.sign * e.value)
    best, worst = ordered[0], ordered[-1]
    gained = sum(e.sign * e.value > 0 for e in cohorts)
    apart = best.low > worst.high or best.high < worst.low
    told = (
        f"most in those {best.term}, least in those {worst.term}"
        if apart
        else "the ranges of best and worst overlap: none stands out"
    )
    return f"{gained} of {len(cohorts)} cohorts moved the right way; {told}"


def _draw(axes: Axes, values: pd.DataFrame, clear: pd.DataFrame, shown: Estimate) -> None:
    """Better is blue, worse is red; hatched where there is no effect to show."""
    largest = float(np.nanmax(np.abs(values.to_numpy()))) or 1.0
    colors = mpl.colormaps["RdBu" if shown.sign > 0 else "RdBu_r"].with_extremes(bad=(0, 0, 0, 0))
    norm = TwoSlopeNorm(0, -largest, largest)
    drawn = axes.imshow(values, cmap=colors, norm=norm, aspect="auto")
    axes.patch.set(hatch="////", edgecolor=LINE)
    axes.set_yticks(range(len(values)), list(values.index))
    axes.set_xticks(range(values.shape[1]), [str(time).replace("-", "−") for time in values.columns])
    axes.tick_params(length=0)
    if values.shape[1] > MOST_NUMBERS:
        axes.set_xticks(axes.get_xticks()[:: values.shape[1] // MOST_NUMBERS + 1])
    axes.axvline(int(np.searchsorted(values.columns, 0)) - 0.5, color=SOFT, linewidth=1.4, linestyle=":")
    for (i, j), value in np.ndenumerate(values.to_numpy()):
        if np.isfinite(value):
            number = format_number(value, shown.decimals, sign=True)
            sure = bool(clear.to_numpy()[i, j] == 1)
            text = number if values.shape[1] <= MOST_NUMBERS else "•" if sure else ""
            bold = "bold" if sure else "normal"
            strong = "white" if abs(value) > 0.65 * largest else INK
            axes.annotate(text, (j, i), ha="center", va="center", fontsize=8, color=strong, fontweight=bold)
    axes.figure.colorbar(
        drawn, ax=axes, label="\n".join(textwrap.wrap(effect_label(shown), 28)), fraction=0.05
    )
