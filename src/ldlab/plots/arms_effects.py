"""Effects of several program arms: each against control and against each other, with ranges that hold together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from matplotlib.axes import Axes

from ldlab.estimate import Estimate, level_in_words
from ldlab.plots.effects import _forest
from ldlab.plots.figure import LINE, Figure, effect_label, finished, new_axes, said, style, table_of


class Comparison(Protocol):
    """What :func:`arms_effects` reads of :class:`ldlab.ab.ArmEffect`."""

    @property
    def estimate(self) -> Estimate: ...  # noqa: D102
    @property
    def single_low(self) -> float: ...  # noqa: D102
    @property
    def single_high(self) -> float: ...  # noqa: D102


class Comparisons(Protocol):
    """What :func:`arms_effects` reads of :class:`ldlab.ab.Arms`."""

    @property
    def against_control(self) -> Sequence[Comparison]: ...  # noqa: D102
    @property
    def against_each_other(self) -> Sequence[Comparison]: ...  # noqa: D102
    @property
    def multiplicity(self) -> str: ...  # noqa: D102
    @property
    def sentence(self) -> str: ...  # noqa: D102


def arms_effects(arms: Comparisons | None) -> Figure | None:
    """Each arm against control, then arms against each other below a line; None with one program arm.

    The bar is the range that leads by agreement; where that is the simultaneous one, white ticks mark each range alone.
    """
    if arms is None:
        return None
    rows = [*arms.against_control, *arms.against_each_other]
    estimates = [row.estimate for row in rows]
    together = arms.multiplicity == "simultaneous"
    first = estimates[0]
    with style():
        canvas, axes = new_axes(1.6 + 0.5 * len(rows))
        _forest(axes, estimates, leading=False)
        axes.axhline(len(arms.against_control) - 0.5, color=LINE, linewidth=1)
        level = level_in_words(first.level)
        note = f"{level} of each alone; allow for several by the p values"
        if together:
            _ticks(axes, rows)
            note = f"bar: {level} that holds for all of its kind together; ticks: each alone"
        axes.set_xlabel(f"{effect_label(first)}\n{note}")
        alt = f"{arms.sentence} Effect in {first.shown_unit}: " + "; ".join(said(e) for e in estimates) + "."
        table = table_of(estimates, [e.term for e in estimates])
        return finished(canvas, "arms_effects", arms.sentence.removesuffix("."), alt, table)


def _ticks(axes: Axes, rows: Sequence[Comparison]) -> None:
    for place, row in enumerate(rows):
        ends = [row.estimate.shown(end) for end in (row.single_low, row.single_high)]
        axes.plot(ends, [place, place], "|", color="white", markersize=5, markeredgewidth=1.6, zorder=3)
