"""Figure: a picture with its claim and its alternative text; the one style that all share."""

from __future__ import annotations

import io
import textwrap
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter

from ldlab.estimate import Estimate

INK, SOFT, LINE, ACCENT, GOOD = "#1b1f24", "#5b6570", "#d9dee3", "#1f4e79", "#0b6e4f"
PALE = "#9fb4c7"
COHORT_STYLES = [("#1f4e79", "-", "o"), ("#b3651f", "--", "s"), ("#5c8f6b", "-.", "^"), ("#8a5a9e", ":", "D")]
NEVER_STYLE = (SOFT, (0, (5, 2, 1, 2, 1, 2)), "")
WIDTH, DPI, MOST_ROWS = 7.2, 150, 30


@dataclass(frozen=True)
class Figure:
    """A figure with its claim and its text for those who cannot see it.

    Shows itself in Jupyter as a PNG whose alternative text travels in the output's metadata.

    Attributes
    ----------
    name
        File stem of the saved PNG.
    title
        What the figure shows, as a claim.
    alt
        The same for those who cannot see it, with the numbers.
    table
        The numbers as a table, which a page folds away under the picture; None where another cell shows them.
    """

    name: str
    title: str
    alt: str
    canvas: Canvas = field(repr=False, compare=False)
    table: pd.DataFrame | None = field(default=None, repr=False, compare=False)

    def png(self) -> bytes:
        """The picture, 150 dots per inch; the same bytes for the same figure."""
        if self.canvas.stale:
            self.__dict__.pop("_drawn", None)
        return self._drawn

    @cached_property
    def _drawn(self) -> bytes:
        """Drawn once, to be shown and saved; again if the canvas was changed since."""
        stream = io.BytesIO()
        self.canvas.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
        self.canvas.stale = False
        return stream.getvalue()

    def save(self, folder: Path) -> Path:
        """Write ``<name>.png`` into a folder, and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.png"
        path.write_bytes(self.png())
        return path

    def __str__(self) -> str:
        return f"{self.title}\n{self.alt}"

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        data = {"image/png": b64encode(self.png()).decode(), "text/plain": str(self)}
        width = int(self.canvas.get_figwidth() * 100)
        said: dict[str, Any] = {"alt": self.alt, "width": width}
        if self.table is not None:
            said["table"] = self.table.to_html(border=0, na_rep="", index=False)
        return data, {"image/png": said}


@contextmanager
def style() -> Iterator[None]:
    """The one style; text from data is never read as mathematics."""
    ours: Any = {
        "font.family": "DejaVu Sans",
        "font.size": 9.5,
        "text.color": INK,
        "axes.edgecolor": LINE,
        "axes.labelcolor": SOFT,
        "xtick.color": SOFT,
        "ytick.color": SOFT,
        "text.parse_math": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with sns.axes_style("ticks"), mpl.rc_context(ours):
        yield


def new_axes(height: float) -> tuple[Canvas, Axes]:
    """A canvas of the common width and ``height`` inches, with one pair of axes."""
    canvas = Canvas(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(canvas)
    return canvas, canvas.subplots()


def finished(canvas: Canvas, name: str, title: str, alt: str, table: pd.DataFrame | None = None) -> Figure:
    """The figure with its title, wrapped so that it is never clipped."""
    text = canvas.suptitle("", x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    text.set_parse_math(False)
    for columns in range(84, 40, -4):
        text.set_text("\n".join(textwrap.wrap(title, columns)))
        if text.get_window_extent().x1 <= 0.99 * canvas.bbox.x1:
            break
    return Figure(name, title, alt, canvas, table)


def table_of(estimates: Sequence[Estimate], names: Sequence[str]) -> pd.DataFrame:
    """Estimates and their intervals as text, in the unit that readers see."""
    first = estimates[0]
    rows = [
        (name, *(e.format(x, sign=True) for x in (e.value, e.low, e.high)))
        for name, e in zip(names, estimates, strict=True)
    ]
    return pd.DataFrame(rows, columns=["", first.shown_unit, f"{first.level:.0%} from", "to"])


def mark_no_effect_and_target(axes: Axes, target: float) -> None:
    """Lines at zero and at the target (as shown), their labels apart however close the lines are."""
    axes.axvline(0, color=SOFT, linewidth=1.2, zorder=1)
    axes.axvline(target, color=GOOD, linewidth=1.4, linestyle="--", zorder=1)
    low, high = axes.get_xlim()
    close = abs(target) < 0.16 * (high - low)
    sides = ("right", "left") if target > 0 else ("left", "right")
    for x, text, color, side in ((0.0, "no effect", SOFT, sides[0]), (target, "target", GOOD, sides[1])):
        axes.annotate(text, (x, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points",
                      ha=side if close else "center", fontsize=8.5, color=color)  # fmt: skip


def thousands(axes: Axes, which: str = "x") -> None:
    """Numbers on an axis with thousands separators and a true minus sign."""
    text = FuncFormatter(lambda value, _: f"{value:,.10g}".replace("-", "−"))
    (axes.xaxis if which == "x" else axes.yaxis).set_major_formatter(text)


def effect_label(estimate: Estimate) -> str:
    """Axis label of an effect, with its unit."""
    return f"effect on {estimate.kpi} ({estimate.shown_unit})"


def said(estimate: Estimate) -> str:
    """An estimate and its interval as alternative text says them."""
    name = estimate.term or estimate.method
    return f"{name}: {estimate.format(estimate.value, sign=True)} ({estimate.interval_text()})"


def decimals_for(spread: float) -> int:
    """Decimals that three significant digits of a spread need."""
    return (
        0 if spread <= 0 or not np.isfinite(spread) else max(0, min(4, 2 - int(np.floor(np.log10(spread)))))
    )
