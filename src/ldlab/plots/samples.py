"""Figures of the data: trends, distributions, balance; in groups of at least the minimum size."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from ldlab.estimate import format_number
from ldlab.plots.figure import (
    ACCENT,
    COHORT_STYLES,
    MOST_ROWS,
    NEVER_STYLE,
    PALE,
    SOFT,
    Figure,
    decimals_for,
    finished,
    new_axes,
    style,
    thousands,
)
from ldlab.plots.panel import NEVER, cohort_groups, cohort_name
from ldlab.program import Study


def trends(study: Study) -> Figure:
    """Mean KPI by cohort and period, each start marked on its line.

    Cells under the minimum group are left out; cohorts under it are put together, or left out if they are too few
    even so.
    """
    minimum, kpi = study.program.analysis.minimum_group_size, study.program.kpi
    cohorts = _cohort_means(study, minimum)
    smaller = _smaller_cohorts(study, minimum)
    log = kpi.scale == "log"
    with style():
        canvas, axes = new_axes(3.8)
        for rank, (start, means) in enumerate(cohorts):
            color, line, marker = _cohort_style(rank, start)
            values = np.exp(means) if log else means
            name = cohort_name(study, [NEVER if np.isnan(start) else start])
            axes.plot(_period_axis(study, means.index), values, color=color, linestyle=line, marker=marker, markersize=4,
                      markevery=max(1, len(means) // 8), label=name)  # fmt: skip
            if start in means.index:
                at = _period_axis(study, [int(start)])
                axes.axvline(at[0], color=color, linestyle=line, linewidth=1, alpha=0.4)
                axes.plot(at, [values[start]], "o", markersize=9, markerfacecolor="white", markeredgecolor=color,
                          markeredgewidth=2, zorder=4)  # fmt: skip
        if smaller is not None:
            name, means = smaller
            axes.plot(
                _period_axis(study, means.index), np.exp(means) if log else means, color=PALE, label=name
            )
        thousands(axes, "y")
        axes.set_ylabel(
            "\n".join(
                textwrap.wrap(
                    f"{'geometric ' if log else ''}mean {kpi.label.removeprefix('the ')} ({kpi.unit})", 40
                )
            )
        )
        axes.set_xlabel(study.program.design.period)
        if not isinstance(study.periods[0], int):
            canvas.autofmt_xdate(rotation=0, ha="center")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, fontsize=8.5, title="trained", alignment="left")
        title = _trend_title(study, cohorts)
        table = _trend_table(study, [*cohorts, *([smaller] if smaller is not None else [])], log=log)
        return finished(canvas, "trends", title, _trend_alt(study, title, cohorts), table)


def _trend_table(study: Study, lines: Sequence[tuple[float | str, pd.Series]], *, log: bool) -> pd.DataFrame:
    """Means by period, one column for each line of the picture."""
    named = {
        start if isinstance(start, str) else cohort_name(study, [NEVER if np.isnan(start) else start]): means
        for start, means in lines
    }
    means = pd.DataFrame(named)
    values = means.map(np.exp) if log else means
    rounded = values.round(decimals_for(float(np.nanstd(values.to_numpy()))))
    names = [str(study.periods[int(str(rank))]) for rank in rounded.index]
    return rounded.set_axis(names).rename_axis(study.program.design.period).reset_index()


def _cohort_means(study: Study, minimum: int) -> list[tuple[float, pd.Series]]:
    """Per start rank (NaN for never): mean outcome by period, without cells under the minimum group."""
    found = []
    for start, rows in study.frame.groupby("start", dropna=False):
        means = _means(rows, minimum)
        if len(means) > 1:
            found.append((float(np.asarray(start, dtype=float)), means))
    return found


def _means(rows: pd.DataFrame, minimum: int) -> pd.Series:
    cells = rows.groupby("period")["outcome"].agg(["mean", "size"])
    return cells.loc[cells["size"] >= minimum, "mean"]


def _smaller_cohorts(study: Study, minimum: int) -> tuple[str, pd.Series] | None:
    """Name and means of the cohorts under the minimum group, together."""
    sizes = study.frame.drop_duplicates("unit")["start"].fillna(NEVER).value_counts()
    pooled = [group for group in cohort_groups(sizes, minimum)[0] if len(group) > 1]
    if not pooled:
        return None
    means = _means(study.frame[study.frame["start"].fillna(NEVER).isin(pooled[0])], minimum)
    return (cohort_name(study, pooled[0]), means) if len(means) > 1 else None


def _cohort_style(rank: int, start: float) -> tuple[str, Any, str]:
    """Colour, line and marker of a cohort; never two alike among 16, the never trained apart from all."""
    if np.isnan(start):
        return NEVER_STYLE
    color, line, _ = COHORT_STYLES[rank % 4]
    return color, line, COHORT_STYLES[(rank + rank // 4) % 4][2]


def _period_axis(study: Study, ranks: Any) -> list[Any]:
    return [study.periods[int(rank)] for rank in ranks]


def _trend_alt(study: Study, title: str, cohorts: Sequence[tuple[float, pd.Series]]) -> str:
    """The title, and each cohort's mean before and after its start (the never trained's first and last)."""
    log, period = study.program.kpi.scale == "log", study.program.design.period
    said = []
    for start, means in cohorts:
        values = np.exp(means) if log else means
        decimals = decimals_for(float(values.max() - values.min()))
        cut = means.index < start if not np.isnan(start) else means.index == means.index[0]
        sides = [values[cut], values[~cut] if not np.isnan(start) else values.iloc[-1:]]
        words = [format_number(float(side.mean()), decimals) if len(side) else "not seen" for side in sides]
        name = cohort_name(study, [NEVER if np.isnan(start) else start])
        ends = (
            f"{words[0]} before, {words[1]} after"
            if not np.isnan(start)
            else f"{words[0]} at first, {words[1]} at last"
        )
        said.append(f"{name}: {ends}")
    return f"{title}. Mean by {period} and cohort, starts marked. {'; '.join(said)}."


def _trend_title(study: Study, cohorts: list[tuple[float, pd.Series]]) -> str:
    kpi = study.program.kpi
    treated = study.frame[study.frame["arm"] == 1]
    before, after = (treated.loc[treated["treated"] == flag, "outcome"].mean() for flag in (0, 1))
    more = "higher" if after > before else "lower"
    name = kpi.label[:1].upper() + kpi.label[1:]
    title = f"{name} was {more} after training than before among {study.program.design.population}"
    if any(np.isnan(start) for start, _ in cohorts):
        return title + "; the never trained show what happened anyway"
    return title


def arms(study: Study) -> Figure:
    """Share of each arm's units by class of the KPI; each class holds the minimum group in both arms.

    The outer classes are open, so that no extreme value can be read. One value per unit: a panel's mean.
    """
    kpi, frame = study.program.kpi, study.frame
    per_unit = (
        frame.groupby("unit", sort=False)[["arm", "outcome"]].mean() if study.program.is_panel else frame
    )
    values = [per_unit.loc[per_unit["arm"] == arm, "outcome"].to_numpy(dtype=float) for arm in (0, 1)]
    log = kpi.scale == "log"
    means = [float(np.exp(part.mean())) if log else float(part.mean()) for part in values]
    if log:
        values = [np.exp(part) for part in values]
    decimals = decimals_for(np.concatenate(values).std())
    unit = "percent" if kpi.value_type == "binary" else kpi.unit
    said = f"{format_number(means[1], decimals)} against {format_number(means[0], decimals)} {unit}"
    which = "Share with" if kpi.value_type == "binary" else "Geometric mean of" if log else "Mean"
    title = f"{which} {kpi.label}, trained against comparison: {said}"
    with style():
        if kpi.value_type == "binary":
            canvas, axes = new_axes(2.0)
            axes.barh(["comparison", "trained"], means, color=[PALE, ACCENT], height=0.55)
            axes.set_xlabel(f"share with {kpi.label} (percent)")
            return finished(canvas, "arms", title, f"{title}.")
        edges = _classes(values, study.program.analysis.minimum_group_size)
        whole = all((part == np.round(part)).all() for part in values)
        ends = (0.0 if kpi.value_type == "count" else kpi.lowest, kpi.highest)
        labels = _class_labels(edges, whole=whole, ends=ends)
        shares = [100 * _counts(part, edges) / len(part) for part in values]
        canvas, axes = new_axes(1.5 + 0.42 * len(labels))
        rows = np.arange(len(labels))
        axes.barh(rows - 0.19, shares[1], height=0.36, color=ACCENT, label="trained")
        axes.barh(rows + 0.19, shares[0], height=0.36, color=PALE, label="comparison")
        axes.set_yticks(rows, labels)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"percent of each arm's {study.program.design.units}")
        axes.set_ylabel("\n".join(textwrap.wrap(f"{kpi.label} ({unit})", 34)))
        axes.legend(frameon=False)
        listed = "; ".join(
            f"{label} {trained:.0f}% against {comparison:.0f}%"
            for label, comparison, trained in zip(labels, *shares, strict=True)
        )
        return finished(canvas, "arms", title, f"{title}. Share of trained against comparison: {listed}.")


def _classes(values: Sequence[np.ndarray], minimum: int) -> np.ndarray:
    """Inner edges of classes, at round numbers, such that every class holds ``minimum`` of each arm."""
    pooled = np.concatenate(values)
    low, high = np.quantile(pooled, [0.03, 0.97])
    few = np.unique(pooled)
    if len(few) <= 10 and (few == np.round(few)).all():
        return _kept(values, few[1:], minimum)
    ticks = MaxNLocator(nbins=9, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return _kept(values, ticks[(ticks > low) & (ticks < high)], minimum)


def _kept(values: Sequence[np.ndarray], ticks: np.ndarray, minimum: int) -> np.ndarray:
    """Those edges, from below, between which each class holds ``minimum`` of each arm."""
    kept: list[float] = []
    for edge in ticks:
        trial = [*kept, float(edge)]
        if min(_counts(part, np.array(trial))[-2] for part in values) >= minimum:
            kept = trial
    while kept and min(_counts(part, np.array(kept))[-1] for part in values) < minimum:
        kept.pop()
    return np.array(kept)


def _counts(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Numbers below the first edge, between edges (the lower one included), and from the last one on."""
    return np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)


def _class_labels(
    edges: np.ndarray, *, whole: bool = False, ends: tuple[float | None, float | None] = (None, None)
) -> list[str]:
    """What lies between edges; of ``whole`` numbers between whole edges, '0', '1', '2 to 4', '5 or more'.

    ``ends`` are the lowest and highest value that there can be, where known.
    """
    if not len(edges):
        return ["all"]
    if whole and (edges == np.round(edges)).all():
        inner = [
            format_number(low, 0) + ("" if high - low == 1 else f" to {format_number(high - 1, 0)}")
            for low, high in pairwise(edges.tolist())
        ]
        first, last = format_number(edges[0] - 1, 0), format_number(edges[-1], 0)
        return [
            first if edges[0] - 1 == ends[0] else f"{first} or less",
            *inner,
            last if edges[-1] == ends[1] else f"{last} or more",
        ]
    exact = (
        decimals for decimals in range(9) if np.allclose(edges, np.round(edges, decimals), rtol=1e-9, atol=0)
    )
    decimals = next(exact, 9)
    text = [format_number(float(edge), decimals) for edge in edges]
    inner = [f"{low} to {high}" for low, high in pairwise(text)]
    return [f"under {text[0]}", *inner, f"{text[-1]} or more"]


def balance(table: pd.DataFrame) -> Figure | None:
    """Standardised differences before training, the largest on top; None without covariates.

    ``table`` is that of :func:`ldlab.checks.balance_table`; at most 30 rows are drawn.
    """
    if table.empty:
        return None
    shown = table.head(MOST_ROWS)
    gaps = shown["standardised difference"].to_numpy(dtype=float)
    largest = format_number(gaps[0], 2, sign=True)
    title = f"Largest difference before training: {shown['covariate'].iloc[0]}, {largest} standard deviations"
    with style():
        canvas, axes = new_axes(1.4 + 0.26 * len(shown))
        axes.axvspan(-0.25, 0.25, color="#eef1f4", zorder=0)
        axes.axvline(0, color=SOFT, linewidth=1)
        rows = np.arange(len(shown))
        axes.hlines(rows, 0, gaps, color=PALE, linewidth=2)
        axes.plot(gaps, rows, "o", color=ACCENT, markersize=6)
        axes.set_yticks(
            rows, [textwrap.shorten(str(name), 34, placeholder="…") for name in shown["covariate"]]
        )
        axes.set_ylim(len(shown) - 0.4, -0.6)
        reach = max(0.3, 1.12 * float(np.nanmax(np.abs(gaps))))
        axes.set_xlim(-reach, reach)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("trained minus comparison (standard deviations); band: ±0.25")
        listed = "; ".join(
            f"{name} {format_number(gap, 2, sign=True)}"
            for name, gap in zip(shown["covariate"], gaps, strict=True)
        )
        return finished(canvas, "balance", title, f"{title}. Standardised differences: {listed}.")
