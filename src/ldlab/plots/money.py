"""Figures of the money: how likely a loss is, and which number would turn it."""

from __future__ import annotations

import textwrap

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ldlab.estimate import Money, Sensitivity, format_chance, level_in_words
from ldlab.plots.figure import (
    ACCENT,
    GOOD,
    INK,
    MOST_ROWS,
    PALE,
    SOFT,
    Figure,
    decimals_for,
    finished,
    new_axes,
    style,
    thousands,
)

LOSS = "#b3651f"


def net_benefit(money: Money | None) -> Figure | None:
    """The distribution of the net benefit, losses and gains apart; None where no net benefit was drawn."""
    if money is None or money.draws is None:
        return None
    draws = money.draws
    ends = [money.amount(float(end or 0)) for end in (money.net_low, money.net_high)]
    chance = format_chance(float(money.p_payback or 0))
    years = _years(money)
    span = f"{ends[0]} to {ends[1]} net ({level_in_words(money.level)})"
    title = f"It pays back {years} with a chance of {chance}: {span}"
    with style():
        canvas, axes = new_axes(3.0)
        _two_sided_density(axes, draws)
        axes.plot([money.net_low or 0, money.net_high or 0], [0, 0], color=ACCENT, linewidth=6,
                  solid_capstyle="butt", clip_on=False)  # fmt: skip
        _mark_zero(axes)
        axes.set_yticks([])
        axes.set_ylabel("")
        axes.spines["left"].set_visible(False)
        thousands(axes)
        axes.set_xlabel(f"net benefit {years} ({money.currency}); bar: {level_in_words(money.level)}")
        mean = money.amount(float(money.net or 0))
        return finished(canvas, "net_benefit", title, f"{title}. Mean {mean}. Density, with zero marked.")


def _years(money: Money) -> str:
    return "in the first year" if money.horizon_years == 1 else f"within {money.horizon_years:g} years"


def _two_sided_density(axes: Axes, draws: np.ndarray) -> None:
    """One density, filled in one colour below zero and in another above."""
    low, high = np.quantile(draws, [0.002, 0.998])
    if low == high:
        axes.axvline(low, color=INK, linewidth=2)
        return
    sns.kdeplot(x=draws[(draws >= low) & (draws <= high)], ax=axes, cut=0.5, color=INK, linewidth=1.5)
    x, y = axes.lines[0].get_data()
    places, heights = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    gains = np.linspace(max(0.0, places[0]), max(0.0, places[-1]), 400)
    losses = np.linspace(min(0.0, places[0]), min(0.0, places[-1]), 400)
    for part, color, alpha in ((gains, GOOD, 0.35), (losses, LOSS, 0.55)):
        axes.fill_between(part, np.interp(part, places, heights), color=color, alpha=alpha, linewidth=0)


def _mark_zero(axes: Axes) -> None:
    low, high = axes.get_xlim()
    reach = 0.09 * (high - low)
    axes.set_xlim(min(low, -reach), max(high, reach))
    axes.axvline(0, color=SOFT, linewidth=1.4)
    for text, color, side, offset in (("loss", LOSS, "right", -4), ("gain", GOOD, "left", 4)):
        axes.annotate(text, (0, 1), xycoords=("data", "axes fraction"), xytext=(offset, 3), textcoords="offset points",
                      ha=side, fontsize=8.5, color=color)  # fmt: skip


def tornado(money: Money | None) -> Figure | None:
    """The net benefit with one number at either end of its range and the others at their best guess.

    What moves it most is on top; numbers that are taken as known exactly are left out. None where no net benefit
    is stated, or where nothing is uncertain.
    """
    rows = [] if money is None else [row for row in money.sensitivity if row.net_at_low != row.net_at_high]
    if money is None or not rows:
        return None
    title = _what_turns_it(rows, float(money.net_at_best_guess or 0))
    shown = rows[:MOST_ROWS]
    with style():
        canvas, axes = new_axes(1.7 + 0.46 * len(shown))
        middle = float(money.net_at_best_guess or 0)
        for place, row in enumerate(shown):
            for end, color in ((row.net_at_low, PALE), (row.net_at_high, ACCENT)):
                axes.barh(place, end - middle, left=middle, height=0.5, color=color)
        axes.axvline(middle, color=INK, linewidth=1)
        _mark_zero(axes)
        axes.set_yticks(range(len(shown)), [_label(row) for row in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        thousands(axes)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(
            f"net benefit {_years(money)} ({money.currency}); line: every number at its best guess;\n"
            "pale: one number at its low end; dark: at its high end"
        )
        listed = "; ".join(
            f"{row.input} {_range(row)}: {money.amount(row.net_at_low)} to {money.amount(row.net_at_high)}"
            for row in shown
        )
        return finished(canvas, "tornado", title, f"{title}. Net benefit at the ends: {listed}.")


def _what_turns_it(rows: list[Sensitivity], best: float) -> str:
    names = [row.input for row in rows if row.changes_sign]
    sign = "gain into a loss" if best >= 0 else "loss into a gain"
    if not names:
        return f"No single number within its range would turn the {sign}; {rows[0].input} moves it most"
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
    return f"Within its range, {listed} alone would turn the {sign}"


def _label(row: Sensitivity) -> str:
    return "\n".join([*textwrap.wrap(row.input, 34), *textwrap.wrap(_range(row), 40)])


def _range(row: Sensitivity) -> str:
    decimals = decimals_for(row.high - row.low)
    low, high = (f"{round(end, decimals):,.10g}".replace("-", "−") for end in (row.low + 0.0, row.high + 0.0))
    return f"{low} to {high} {row.unit}"
