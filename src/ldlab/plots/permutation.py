"""The estimate among those that other assignments of training would have given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from ldlab.estimate import Estimate
from ldlab.plots.figure import ACCENT, PALE, SOFT, Figure, effect_label, finished, new_axes, style, thousands


class Placebos(Protocol):
    """What :func:`permutation` reads of :class:`ldlab.did.Inference`."""

    @property
    def placebos(self) -> Sequence[float]: ...  # noqa: D102
    @property
    def p_value(self) -> float | None: ...  # noqa: D102
    @property
    def treated_clusters(self) -> int | None: ...  # noqa: D102
    @property
    def comparison_clusters(self) -> int | None: ...  # noqa: D102


def permutation(estimate: Estimate, inference: Placebos) -> Figure | None:
    """Placebo estimates with the true one marked.

    None where the interval does not come from a permutation, or the number of ways would show a small group.
    """
    if not inference.placebos or inference.p_value is None:
        return None
    if inference.treated_clusters is None or inference.comparison_clusters is None:
        return None
    placebos = np.array([estimate.shown(effect) for effect in inference.placebos])
    value, ways = estimate.shown(estimate.value), len(placebos) + 1
    beyond = int((np.abs(placebos) >= abs(value) * (1 - 1e-9)).sum())
    title = (
        f"Had training fallen to others, {beyond:,} of the {ways - 1:,} other ways would have given as large an "
        "effect, up or down"
        if beyond
        else f"None of the {ways - 1:,} other ways in which training could have fallen gives as large an effect"
    )
    with style():
        canvas, axes = new_axes(3.2)
        bins = int(np.clip(np.sqrt(ways) * 1.5, 9, 45))
        axes.hist(placebos, bins=bins, color=PALE, edgecolor="white", linewidth=0.6)
        axes.axvline(0, color=SOFT, linewidth=1)
        axes.axvline(value, color=ACCENT, linewidth=2.2)
        axes.annotate(f"what was found\n{estimate.format(estimate.value, sign=True)}", (value, 1),
                      xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points", ha="center",
                      fontsize=8.5, color=ACCENT)  # fmt: skip
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel("ways")
        axes.set_xlabel(effect_label(estimate))
        thousands(axes)
        low, high = np.quantile(inference.placebos, [0.05, 0.95])
        alt = (
            f"{title}. Nine in ten of them lie between {estimate.format(float(low), sign=True)} and "
            f"{estimate.format(float(high), sign=True)} {estimate.shown_unit}; found was "
            f"{estimate.format(estimate.value, sign=True)}, p-value {inference.p_value:.2g}."
        )
        points = [0.05, 0.25, 0.5, 0.75, 0.95]
        ends = [estimate.format(float(x), sign=True) for x in np.quantile(inference.placebos, points)]
        names = [*(f"{point:.0%} of the other ways lie below" for point in points), "found"]
        values = [*ends, estimate.format(estimate.value, sign=True)]
        table = pd.DataFrame({"": names, estimate.shown_unit: values})
        return finished(canvas, "permutation", title, alt, table)
