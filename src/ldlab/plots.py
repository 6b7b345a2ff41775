"""Frame or estimates + title -> Figure: one style, titles that are claims, alternative text, nobody's own point."""

from __future__ import annotations

import io
import textwrap
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from ldlab.estimate import Estimate, format_number
from ldlab.program import Study

INK, SOFT, LINE, ACCENT, GOOD = "#1b1f24", "#5b6570", "#d9dee3", "#1f4e79", "#0b6e4f"
PALE = "#9fb4c7"
COHORT_STYLES = [("#1f4e79", "-", "o"), ("#b3651f", "--", "s"), ("#5c8f6b", "-.", "^"), ("#8a5a9e", ":", "D")]
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
    """

    name: str
    title: str
    alt: str
    canvas: Canvas = field(repr=False, compare=False)

    def png(self) -> bytes:
        """The picture, 150 dots per inch; the same bytes for the same figure."""
        stream = io.BytesIO()
        self.canvas.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
        return stream.getvalue()

    def save(self, folder: Path) -> Path:
        """Write ``<name>.png`` into a folder, and return its path."""
        path = folder / f"{self.name}.png"
        path.write_bytes(self.png())
        return path

    def __str__(self) -> str:
        return f"{self.title}\n{self.alt}"

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        data = {"image/png": b64encode(self.png()).decode(), "text/plain": str(self)}
        width = int(self.canvas.get_figwidth() * 100)
        return data, {"image/png": {"alt": self.alt, "width": width}}


@contextmanager
def _style() -> Iterator[None]:
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


def _new(height: float) -> tuple[Canvas, Axes]:
    canvas = Canvas(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(canvas)
    return canvas, canvas.subplots()


def _figure(canvas: Canvas, name: str, title: str, alt: str) -> Figure:
    text = canvas.suptitle("", x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
    text.set_parse_math(False)
    for columns in range(84, 40, -4):
        text.set_text("\n".join(textwrap.wrap(title, columns)))
        if text.get_window_extent().x1 <= 0.99 * canvas.bbox.x1:
            break
    return Figure(name, title, alt, canvas)


def _no_effect_and_target(axes: Axes, estimate: Estimate) -> None:
    axes.axvline(0, color=SOFT, linewidth=1.2, zorder=1)
    axes.axvline(estimate.shown(estimate.target), color=GOOD, linewidth=1.4, linestyle="--", zorder=1)
    for x, text, color in ((0.0, "no effect", SOFT), (estimate.shown(estimate.target), "target", GOOD)):
        axes.annotate(text, (x, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points",
                      ha="center", fontsize=8.5, color=color)  # fmt: skip


def _effect_label(estimate: Estimate) -> str:
    return f"effect on {estimate.kpi} ({estimate.shown_unit})"


def _said(estimate: Estimate) -> str:
    name = estimate.term or estimate.method
    return f"{name}: {estimate.format(estimate.value, sign=True)} ({estimate.interval_text()})"


def interval(estimates: Sequence[Estimate], *, title: str, name: str = "effect") -> Figure:
    """Estimates with their intervals, the leading one on top, with no effect and the target marked."""
    with _style():
        canvas, axes = _new(1.5 + 0.5 * len(estimates))
        _forest(axes, estimates)
        alt = f"Effect in {estimates[0].shown_unit}. " + "; ".join(_said(e) for e in estimates) + "."
        return _figure(canvas, name, title, alt)


def _forest(axes: Axes, estimates: Sequence[Estimate]) -> None:
    for row, e in enumerate(estimates):
        low, value, high = e.shown(e.low), e.shown(e.value), e.shown(e.high)
        leads = row == 0
        axes.plot(
            [low, high], [row, row], color=ACCENT if leads else PALE, linewidth=5, solid_capstyle="round"
        )
        axes.plot([value], [row], "o", markersize=9, markerfacecolor="white", markeredgewidth=2.5,
                  markeredgecolor=ACCENT if leads else SOFT)  # fmt: skip
    labels = ["\n".join(textwrap.wrap(e.term or e.method, 30)) for e in estimates]
    axes.set_yticks(range(len(estimates)), labels)
    axes.set_ylim(len(estimates) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(_effect_label(estimates[0]))
    _no_effect_and_target(axes, estimates[0])


def segments(estimates: Sequence[Estimate]) -> Figure | None:
    """Effect by segment, the largest gain on top; None without segments."""
    if not estimates:
        return None
    ordered = sorted(estimates, key=lambda e: -e.sign * e.value)
    best, worst = ordered[0], ordered[-1]
    apart = (best.low > worst.high) or (best.high < worst.low)
    title = (
        f"The effect differs between segments: most in {best.term}, least in {worst.term}"
        if apart
        else "The ranges of all segments overlap: no segment stands out"
    )
    return interval(ordered, title=title, name="segments")


class EventTimes(Protocol):
    """What :func:`event_study` reads of :class:`ldlab.did.EventStudy`."""

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """By event time."""
        ...

    @property
    def event_times(self) -> tuple[int, ...]:
        """Periods since training began."""
        ...


def event_study(events: EventTimes | None, study: Study) -> Figure | None:
    """Effect by periods since training began, the last period before it as zero; None without a comparison."""
    if events is None:
        return None
    estimates, times = events.estimates, events.event_times
    before = [e for e, time in zip(estimates, times, strict=True) if time < -1]
    away = sum(not e.low <= 0 <= e.high for e in before)
    last = estimates[-1]
    title = (
        (
            f"Before training {away} of {len(before)} ranges exclude zero; "
            if before
            else "No period before training to test; "
        )
        + f"{times[-1]} {study.program.design.period}s after the start: {last.format(last.value, sign=True)} {last.shown_unit}"
    )
    with _style():
        canvas, axes = _new(3.6)
        middle = [e.shown(e.value) for e in estimates]
        ends = np.array([[e.shown(e.low), e.shown(e.high)] for e in estimates]).T
        axes.axhline(0, color=SOFT, linewidth=1)
        axes.axvline(-0.5, color=SOFT, linewidth=1, linestyle=":")
        axes.vlines(times, ends[0], ends[1], color=PALE, linewidth=3.5)
        axes.plot(times, middle, "o", color=ACCENT, markersize=5)
        axes.plot([-1], [0], "o", markerfacecolor="white", markeredgecolor=SOFT, markersize=6)
        axes.annotate("training starts", (-0.5, 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
                      textcoords="offset points", ha="center", fontsize=8.5, color=SOFT)  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(f"{study.program.design.period}s since training began")
        axes.set_ylabel("\n".join(textwrap.wrap(_effect_label(last), 34)))
        alt = f"{title}. " + "; ".join(_said(e) for e in (*before[-3:], *estimates[len(before) :][:6])) + "."
        return _figure(canvas, "event_study", title, alt)


def trends(study: Study) -> Figure:
    """Mean KPI by cohort and period, starts marked; cohorts and cells under the minimum group are left out."""
    minimum, kpi = study.program.analysis.minimum_group_size, study.program.kpi
    cohorts = _cohort_means(study, minimum)
    log = kpi.scale == "log"
    with _style():
        canvas, axes = _new(3.8)
        for (start, means), (color, line, marker) in zip(cohorts, COHORT_STYLES * 9, strict=False):
            label = "never trained" if np.isnan(start) else f"from {study.periods[int(start)]}"
            values = np.exp(means) if log else means
            x = _period_axis(study, means.index)
            often = max(1, len(x) // 8)
            axes.plot(
                x,
                values,
                color=color,
                linestyle=line,
                marker=marker,
                markersize=4,
                markevery=often,
                label=label,
            )
            if not np.isnan(start):
                axes.axvline(
                    _period_axis(study, [int(start)])[0], color=color, linestyle=line, linewidth=1, alpha=0.55
                )
        axes.set_ylabel(
            "\n".join(textwrap.wrap(f"{'geometric ' if log else ''}mean {kpi.label} ({kpi.unit})", 40))
        )
        axes.set_xlabel(study.program.design.period)
        if not isinstance(study.periods[0], int):
            canvas.autofmt_xdate(rotation=0, ha="center")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, fontsize=8.5, title="trained", alignment="left")
        title = _trend_title(study, cohorts)
        return _figure(canvas, "trends", title, f"{title}. Mean by {study.program.design.period} for "
                       f"{len(cohorts)} cohorts; vertical lines mark where training starts.")  # fmt: skip


def _cohort_means(study: Study, minimum: int) -> list[tuple[float, pd.Series]]:
    """Per start rank (NaN for never): mean outcome by period, without cells under the minimum group."""
    found = []
    for start, rows in study.frame.groupby("start", dropna=False):
        cells = rows.groupby("period")["outcome"].agg(["mean", "size"])
        means = cells.loc[cells["size"] >= minimum, "mean"]
        if len(means) > 1:
            found.append((float(np.asarray(start, dtype=float)), means))
    return found


def _period_axis(study: Study, ranks: Any) -> list[Any]:
    return [study.periods[int(rank)] for rank in ranks]


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
    """Distribution of the KPI in each arm, in bins of at least the minimum group of each arm (or none)."""
    kpi, rows = study.program.kpi, study.frame
    values = [rows.loc[rows["arm"] == arm, "outcome"].to_numpy(dtype=float) for arm in (0, 1)]
    means = [float(part.mean()) for part in values]
    decimals = _decimals(np.concatenate(values).std())
    unit = "log points" if kpi.scale == "log" else kpi.unit
    said = f"{format_number(means[1], decimals)} against {format_number(means[0], decimals)} {unit}"
    title = f"Mean {kpi.label}, trained against comparison: {said}"
    with _style():
        canvas, axes = _new(3.2)
        if kpi.value_type == "binary":
            axes.barh(["comparison", "trained"], means, color=[PALE, ACCENT], height=0.55)
            axes.set_xlabel(f"share with {kpi.label} (percent)")
            return _figure(canvas, "arms", title, f"{title}.")
        edges = _bins(values, study.program.analysis.minimum_group_size)
        for part, label, color, line in zip(
            values, ("comparison", "trained"), (SOFT, ACCENT), ("--", "-"), strict=True
        ):
            counts, _ = np.histogram(part, edges)
            density = 100 * counts / len(part) / np.diff(edges)
            axes.stairs(density, edges, color=color, linestyle=line, linewidth=1.8, label=label)
        for mean, color, line in zip(means, (SOFT, ACCENT), ("--", "-"), strict=True):
            axes.axvline(mean, color=color, linestyle=line, linewidth=1, alpha=0.6)
        axes.set_xlabel(f"{kpi.label} ({unit}); vertical lines: means")
        axes.set_ylabel(f"percent of {study.program.design.units}\nper unit of the axis")
        axes.legend(frameon=False)
        return _figure(canvas, "arms", title, f"{title}. Histogram of both arms in {len(edges) - 1} bins.")


def _bins(values: Sequence[np.ndarray], minimum: int, most: int = 24) -> np.ndarray:
    """Edges of bins that hold at least ``minimum`` of each arm; the outer ones are quantiles, not extremes."""
    pooled = np.concatenate(values)
    inner = np.unique(np.quantile(pooled, np.linspace(0.02, 0.98, most + 1)))
    grid = np.unique(np.concatenate([inner, np.linspace(inner[0], inner[-1], most + 1)]))
    edges = [float(grid[0])]
    for edge in grid[1:]:
        inside = [((part >= edges[-1]) & (part < edge)).sum() for part in values]
        if min(inside) >= minimum:
            edges.append(float(edge))
    if len(edges) < 2 or edges[-1] < grid[-1]:
        edges = [*edges[: max(1, len(edges) - 1)], float(grid[-1])]
    return np.asarray(edges if edges[-1] > edges[0] else [edges[0] - 0.5, edges[0] + 0.5])


def _decimals(spread: float) -> int:
    return (
        0 if spread <= 0 or not np.isfinite(spread) else max(0, min(4, 2 - int(np.floor(np.log10(spread)))))
    )


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
    with _style():
        canvas, axes = _new(1.4 + 0.26 * len(shown))
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
        return _figure(canvas, "balance", title, f"{title}. Standardised differences: {listed}.")


class Draws(Protocol):
    """What the Bayesian figures read of :class:`ldlab.bayes.Posterior`."""

    study: Study
    idata: Any

    @property
    def effect(self) -> np.ndarray:
        """Posterior draws of the effect, in effect units."""
        ...

    @property
    def prior_effect(self) -> np.ndarray:
        """Prior draws of the effect, in effect units."""
        ...


def _shown(draws: np.ndarray, study: Study) -> np.ndarray:
    return np.expm1(draws) * 100 if study.program.kpi.scale == "log" else draws


def _density(axes: Axes, draws: np.ndarray, **look: Any) -> None:
    low, high = np.quantile(draws, [0.002, 0.998])
    sns.kdeplot(x=draws[(draws >= low) & (draws <= high)], ax=axes, cut=0.5, **look)


def prior_predictive(posterior: Draws) -> Figure:
    """The prior of the average effect in KPI units, with no effect and the target marked."""
    study = posterior.study
    draws = _shown(posterior.prior_effect, study)
    low, high = np.quantile(draws, [0.05, 0.95])
    decimals = _decimals(draws.std())
    unit = "percent" if study.program.kpi.scale == "log" else study.program.kpi.effect_unit
    said = f"{format_number(low, decimals, sign=True)} to {format_number(high, decimals, sign=True)} {unit}"
    title = f"Before the data, 9 in 10 effects were expected between {said}"
    with _style():
        canvas, axes = _new(2.8)
        _density(axes, draws, fill=True, color=PALE, alpha=0.6, linewidth=1.5)
        _mark_study(axes, study)
        axes.set_xlabel(f"effect on {study.program.kpi.label} ({unit})")
        return _figure(canvas, "prior", title, f"{title}. Density of the prior.")


def _mark_study(axes: Axes, study: Study) -> None:
    target = float(_shown(np.array([study.target]), study)[0])
    axes.axvline(0, color=SOFT, linewidth=1.2)
    axes.axvline(target, color=GOOD, linewidth=1.4, linestyle="--")
    for x, text, color in ((0.0, "no effect", SOFT), (target, "target", GOOD)):
        axes.annotate(text, (x, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points",
                      ha="center", fontsize=8.5, color=color)  # fmt: skip
    axes.set_yticks([])
    axes.set_ylabel("")
    axes.spines["left"].set_visible(False)


def prior_posterior(posterior: Draws, estimate: Estimate) -> Figure:
    """Prior and posterior of the average effect, with the interval, no effect and the target."""
    study = posterior.study
    narrower = posterior.prior_effect.std() / max(estimate.se, 1e-12)
    said = f"{estimate.format(estimate.value, sign=True)} {estimate.shown_unit}, {estimate.interval_text()}"
    title = f"After the data: {said}; {narrower:.1f} times narrower than before"
    with _style():
        canvas, axes = _new(3.0)
        _density(
            axes,
            _shown(posterior.prior_effect, study),
            color=SOFT,
            linestyle="--",
            linewidth=1.5,
            label="before the data",
        )
        _density(
            axes,
            _shown(posterior.effect, study),
            fill=True,
            color=ACCENT,
            alpha=0.35,
            linewidth=1.8,
            label="after the data",
        )
        axes.plot([estimate.shown(estimate.low), estimate.shown(estimate.high)], [0, 0], color=ACCENT, linewidth=6,
                  solid_capstyle="butt", clip_on=False)  # fmt: skip
        _mark_study(axes, study)
        axes.set_xlabel(_effect_label(estimate))
        axes.legend(frameon=False)
        return _figure(canvas, "prior_posterior", title, f"{title}. Densities of prior and posterior.")


class Replicated(Protocol):
    """What :func:`posterior_predictive` reads of :class:`ldlab.bayes.checks.Statistic`."""

    family: str
    label: str
    observed: float
    replicated: np.ndarray


def posterior_predictive(statistics: Sequence[Replicated]) -> Figure:
    """Where each statistic of the data lies among those of data sets that the model makes."""
    shown = list(statistics)[:MOST_ROWS]
    spreads = [max(float(s.replicated.std()), 1e-12) for s in shown]
    places = [
        (s.observed - float(s.replicated.mean())) / spread for s, spread in zip(shown, spreads, strict=True)
    ]
    outside = sum(abs(place) > 2.58 for place in places)
    title = f"{outside} of {len(shown)} statistics lie outside what the model makes 99 times in 100"
    with _style():
        canvas, axes = _new(1.4 + 0.26 * len(shown))
        axes.axvspan(-2.58, 2.58, color="#eef1f4", zorder=0)
        axes.axvline(0, color=SOFT, linewidth=1)
        rows = np.arange(len(shown))
        axes.plot(places, rows, "o", color=ACCENT, markersize=6)
        axes.set_yticks(
            rows, [textwrap.shorten(f"{s.family}, {s.label}", 40, placeholder="…") for s in shown]
        )
        axes.set_ylim(len(shown) - 0.4, -0.6)
        reach = max(3.2, 1.1 * max(map(abs, places), default=0.0))
        axes.set_xlim(-reach, reach)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("data against the model's replicates (their standard deviations); band: 99 in 100")
        listed = "; ".join(
            f"{s.family} {s.label} {format_number(place, 1, sign=True)}"
            for s, place in zip(shown, places, strict=True)
        )
        return _figure(canvas, "posterior_predictive", title, f"{title}. In standard deviations: {listed}.")


def diagnostics(posterior: Draws) -> Figure:
    """ArviZ's trace of the effect: its density and its draws, chain by chain."""
    import arviz as az
    from matplotlib import pyplot

    draws = posterior.idata["posterior"].to_dataset()["effect"]
    rhat = float(az.rhat(draws.to_dataset())["effect"])
    title = f"The {draws.sizes['chain']} chains tell one story (R-hat {rhat:.3f})" if rhat <= 1.01 else (
        f"The {draws.sizes['chain']} chains disagree (R-hat {rhat:.3f})"
    )  # fmt: skip
    with _style():
        plot = az.plot_trace_dist(
            posterior.idata,
            var_names=["effect"],
            backend="matplotlib",
            figure_kwargs={"figsize": (WIDTH, 2.8)},
        )
        canvas = plot.viz["figure"].item()
        pyplot.close(canvas)
        FigureCanvasAgg(canvas)
        canvas.set_layout_engine("constrained")
        return _figure(
            canvas, "chains", title, f"{title}. Densities and traces of {draws.sizes['draw']:,} draws each."
        )
