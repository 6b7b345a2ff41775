"""What the two-way estimate is made of: one dot for each two-by-two comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import pandas as pd
from matplotlib.ticker import FuncFormatter

from ldlab.estimate import format_number
from ldlab.plots.figure import (
    ACCENT,
    MOST_ROWS,
    SOFT,
    Figure,
    decimals_for,
    finished,
    new_axes,
    style,
    thousands,
)
from ldlab.program import Study

AGAIN = "#b3651f"
STYLES = {
    "trained against never trained": (ACCENT, "o"),
    "earlier against later": ("#5c8f6b", "^"),
    "later against earlier": (AGAIN, "s"),
}
MEANS = {
    "trained against never trained": "against never trained",
    "earlier against later": "against not yet trained",
    "later against earlier": "against already trained",
}


class Comparison(Protocol):
    """One two-by-two comparison."""

    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def weight(self) -> float: ...  # noqa: D102
    @property
    def estimate(self) -> float: ...  # noqa: D102


class Decomposition(Protocol):
    """What :func:`comparison_weights` reads of :class:`ldlab.did.GoodmanBacon`."""

    @property
    def comparisons(self) -> Sequence[Comparison]: ...  # noqa: D102
    @property
    def already_trained(self) -> float | None: ...  # noqa: D102
    @property
    def value(self) -> float | None: ...  # noqa: D102
    @property
    def unit(self) -> str: ...  # noqa: D102


def comparison_weights(parts: Decomposition | None, study: Study) -> Figure | None:
    """Weight and estimate of each comparison behind the two-way estimate; None without a decomposition to show."""
    if parts is None or not parts.comparisons or parts.value is None:
        return None
    shares = {kind: sum(p.weight for p in parts.comparisons if p.kind == kind) for kind in STYLES}
    title = _title(parts.already_trained)
    places = decimals_for(max(abs(p.estimate) for p in parts.comparisons))
    with style():
        canvas, axes = new_axes(3.6)
        axes.axvline(0, color=SOFT, linewidth=1)
        axes.axvline(parts.value, color=SOFT, linewidth=1.2, linestyle="--")
        for kind, (color, marker) in STYLES.items():
            own = [p for p in parts.comparisons if p.kind == kind]
            if own:
                axes.scatter([p.estimate for p in own], [p.weight for p in own], s=46, color=color, marker=marker,
                             alpha=0.85, linewidth=0, label=f"{MEANS[kind]}: {shares[kind]:.0%} of the weight")  # fmt: skip
        axes.annotate("two-way estimate", (parts.value, 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
                      textcoords="offset points", ha="center", fontsize=8.5, color=SOFT)  # fmt: skip
        axes.set_ylim(bottom=0)
        axes.margins(y=0.15)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
        axes.set_ylabel("weight in the two-way estimate")
        axes.set_xlabel(f"estimate of the comparison ({parts.unit})")
        thousands(axes)
        axes.legend(frameon=False, fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
        told = "; ".join(
            _told(parts.comparisons, kind, shares[kind], places) for kind in STYLES if shares[kind]
        )
        alt = (
            f"{title}. {told}. Together they give the two-way estimate of {format_number(parts.value, places, sign=True)} "
            f"{parts.unit}."
        )
        rows = [(MEANS[p.kind], f"{p.weight:.0%}", format_number(p.estimate, places, sign=True))
                for p in sorted(parts.comparisons, key=lambda p: -p.weight)[:MOST_ROWS]]  # fmt: skip
        table = pd.DataFrame(rows, columns=["compared", "weight", parts.unit])
        return finished(canvas, "comparison_weights", title, alt, table)


def _title(already: float | None) -> str:
    if already is None:
        return "What the two-way estimate compares, but for groups too small to show"
    if already < 0.005:
        return "The two-way estimate never compares with units already trained"
    return f"{already:.0%} of the two-way estimate compares with units already trained"


def _told(comparisons: Sequence[Comparison], kind: str, share: float, places: int) -> str:
    own = [p.estimate for p in comparisons if p.kind == kind]
    low, high = (format_number(end, places, sign=True) for end in (min(own), max(own)))
    spread = low if low == high else f"{low} to {high}"
    one = "comparison" if len(own) == 1 else "comparisons"
    return f"{len(own)} {one} {MEANS[kind]}, {share:.0%} of the weight, estimates {spread}"
