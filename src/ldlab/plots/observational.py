"""Figures of designs without random assignment: overlap of the groups, balance before and after weighting."""

from __future__ import annotations

import textwrap
from typing import Protocol

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy import special

from ldlab.estimate import format_number
from ldlab.plots.figure import ACCENT, LINE, MOST_ROWS, PALE, SOFT, Figure, finished, new_axes, style
from ldlab.program import Study

SCORES = (0.0001, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
BAND = 0.1


class Scored(Protocol):
    """What :func:`overlap` reads of :class:`ldlab.observational.Propensity`."""

    @property
    def study(self) -> Study:
        """Who was scored."""
        ...

    @property
    def comparable(self) -> int:
        """How many trained have someone untrained with nearly their score."""
        ...

    @property
    def effective_sample_size(self) -> float:
        """What the weighted comparison group counts for."""
        ...

    @property
    def trim(self) -> tuple[float, float] | None:
        """Bounds of the score that are still to be applied."""
        ...

    def classes(self) -> pd.DataFrame:
        """Numbers by class of the score: ``low``, ``high``, ``trained``, ``comparison``."""
        ...


def overlap(propensity: Scored | None, *, name: str = "overlap") -> Figure | None:
    """Propensity scores of both arms in classes that hold nobody, or the minimum group, of each; None without any.

    The axis is in log odds, labelled with chances; the outer classes are open. What the agreed rule will leave
    out is shaded.
    """
    if propensity is None:
        return None
    classes, title = propensity.classes(), _overlap_title(propensity)
    with style():
        canvas, axes = new_axes(3.0)
        edges = _drawn_edges(classes)
        for arm, color in (("comparison", PALE), ("trained", ACCENT)):
            density = classes[arm].to_numpy(dtype=float) / classes[arm].sum() / np.diff(edges)
            axes.stairs(density, edges, fill=True, color=color, alpha=0.55, label=arm)
            axes.stairs(density, edges, color=color, linewidth=1.5)
        axes.set_xlim(edges[0], edges[-1])
        ticks = [score for score in SCORES if edges[0] <= special.logit(score) <= edges[-1]]
        axes.set_xticks(special.logit(ticks), [f"{score:g}" for score in ticks])
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("chance of being trained, given the covariates (log odds)")
        axes.set_ylabel("share of each arm")
        _shade(axes, propensity.trim)
        axes.legend(frameon=False)
        rows = "; ".join(
            f"{low:.2g} to {high:.2g}: {trained:,} and {comparison:,}"
            for low, high, trained, comparison in classes.itertuples(index=False)
        )
        return finished(
            canvas, name, title, f"{title}. Trained and comparison by chance of being trained: {rows}."
        )


def balance_after_weighting(table: pd.DataFrame) -> Figure | None:
    """Standardised differences before and after weighting, the largest before on top; None without covariates.

    ``table`` is that of :func:`ldlab.observational.weighted_balance_table`; at most 30 rows are drawn.
    """
    if table.empty:
        return None
    shown = table.head(MOST_ROWS)
    before, after = (shown[name].to_numpy(dtype=float) for name in ("before", "after"))
    most = [float(table[name].abs().max()) for name in ("before", "after")]
    title = (
        f"Weighting takes the largest difference between the groups from {most[0]:.2f} to {most[1]:.2f} "
        "standard deviations"
    )
    with style():
        canvas, axes = new_axes(1.6 + 0.26 * len(shown))
        axes.axvspan(-BAND, BAND, color="#eef1f4", zorder=0)
        axes.axvline(0, color=SOFT, linewidth=1)
        rows = np.arange(len(shown))
        axes.hlines(rows, before, after, color=LINE, linewidth=2)
        axes.plot(
            before, rows, "o", markerfacecolor="white", markeredgecolor=SOFT, markersize=6, label="before"
        )
        axes.plot(after, rows, "o", color=ACCENT, markersize=6, label="after")
        axes.set_yticks(
            rows, [textwrap.shorten(str(name), 34, placeholder="…") for name in shown["covariate"]]
        )
        axes.set_ylim(len(shown) - 0.4, -0.6)
        reach = max(0.3, 1.12 * max(most))
        axes.set_xlim(-reach, reach)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"trained minus comparison (standard deviations); band: ±{BAND:g}")
        axes.legend(frameon=False, loc="lower right")
        listed = "; ".join(
            f"{covariate} {format_number(first, 2, sign=True)} to {format_number(then, 2, sign=True)}"
            for covariate, first, then in shown.itertuples(index=False)
        )
        return finished(canvas, "balance_after_weighting", title, f"{title}. {listed}.")


def _overlap_title(propensity: Scored) -> str:
    design, minimum = propensity.study.program.design, propensity.study.program.analysis.minimum_group_size
    trained = int((propensity.study.frame["arm"] == 1).sum())
    alone = trained - propensity.comparable
    who = (
        "All"
        if alone == 0
        else "Nearly all"
        if alone < minimum
        else f"{propensity.comparable / trained:.0%} of"
    )
    if propensity.comparable < minimum:
        who = "Next to none of"
    untrained = len(propensity.study.frame) - trained
    return (
        f"{who} trained {design.units} have untrained ones like them; the {untrained:,} untrained count for "
        f"{propensity.effective_sample_size:,.0f}"
    )


def _drawn_edges(classes: pd.DataFrame) -> np.ndarray:
    """Edges in log odds; the open outer classes are drawn as wide as the middle one of the others."""
    inner = special.logit(classes["high"].to_numpy(dtype=float)[:-1])
    if not len(inner):
        return np.array([-1.0, 1.0])
    width = float(np.median(np.diff(inner))) if len(inner) > 1 else 1.0
    return np.concatenate([[inner[0] - width], inner, [inner[-1] + width]])


def _shade(axes: Axes, trim: tuple[float, float] | None) -> None:
    if trim is None:
        return
    start, end = axes.get_xlim()
    low, high = np.clip(special.logit(np.array(trim)), start, end)
    for left, right in ((start, low), (high, end)):
        if right > left:
            axes.axvspan(left, right, color=SOFT, alpha=0.12, linewidth=0, zorder=0)
    axes.annotate("shaded: left out by the agreed rule", (1, 1), xycoords="axes fraction", xytext=(0, 3),
                  textcoords="offset points", ha="right", fontsize=8.5, color=SOFT)  # fmt: skip
