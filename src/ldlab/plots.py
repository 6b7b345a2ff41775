"""Frame or estimates + title -> Figure: one style, titles that are claims, alternative text, nobody's own point."""

from __future__ import annotations

import io
import textwrap
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ldlab.estimate import Estimate, format_number
from ldlab.program import Study

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
        folder.mkdir(parents=True, exist_ok=True)
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
    canvas = Canvas(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
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


def _no_effect_and_target(axes: Axes, target: float) -> None:
    """Lines at zero and at the target (as shown), their labels apart however close the lines are."""
    axes.axvline(0, color=SOFT, linewidth=1.2, zorder=1)
    axes.axvline(target, color=GOOD, linewidth=1.4, linestyle="--", zorder=1)
    low, high = axes.get_xlim()
    close = abs(target) < 0.16 * (high - low)
    sides = ("right", "left") if target > 0 else ("left", "right")
    for x, text, color, side in ((0.0, "no effect", SOFT, sides[0]), (target, "target", GOOD, sides[1])):
        axes.annotate(text, (x, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points",
                      ha=side if close else "center", fontsize=8.5, color=color)  # fmt: skip


def _thousands(axes: Axes, which: str = "x") -> None:
    """Numbers on an axis with thousands separators and a true minus sign."""
    text = FuncFormatter(lambda value, _: f"{value:,.10g}".replace("-", "−"))
    (axes.xaxis if which == "x" else axes.yaxis).set_major_formatter(text)


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
    _thousands(axes)
    _no_effect_and_target(axes, estimates[0].shown(estimates[0].target))
    beside = axes.secondary_yaxis("right")
    numbers = [f"{e.format(e.value, sign=True)}\n{e.format(e.low, sign=True)} to {e.format(e.high, sign=True)}"
               for e in estimates]  # fmt: skip
    beside.set_yticks(range(len(estimates)), numbers)
    beside.tick_params(axis="y", length=0, labelcolor=INK, labelsize=8.5)
    beside.spines["right"].set_visible(False)


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
        _thousands(axes, "y")
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
        for rank, (start, means) in enumerate(cohorts):
            color, line, marker = _cohort_style(rank, start)
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
        _thousands(axes, "y")
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


def _cohort_style(rank: int, start: float) -> tuple[str, Any, str]:
    """Colour, line and marker of a cohort; never two alike among 16, the never trained apart from all."""
    if np.isnan(start):
        return NEVER_STYLE
    color, line, _ = COHORT_STYLES[rank % 4]
    return color, line, COHORT_STYLES[(rank + rank // 4) % 4][2]


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
    """Share of each arm's units by class of the KPI; each class holds the minimum group in both arms.

    The outer classes are open, so that no extreme value can be read. One value per unit: a panel's mean.
    """
    kpi, frame = study.program.kpi, study.frame
    per_unit = (
        frame.groupby("unit", sort=False)[["arm", "outcome"]].mean() if study.program.is_panel else frame
    )
    values = [per_unit.loc[per_unit["arm"] == arm, "outcome"].to_numpy(dtype=float) for arm in (0, 1)]
    means = [float(part.mean()) for part in values]
    decimals = _decimals(np.concatenate(values).std())
    unit = "log points" if kpi.scale == "log" else kpi.unit
    said = f"{format_number(means[1], decimals)} against {format_number(means[0], decimals)} {unit}"
    title = f"Mean {kpi.label}, trained against comparison: {said}"
    with _style():
        if kpi.value_type == "binary":
            canvas, axes = _new(2.0)
            axes.barh(["comparison", "trained"], means, color=[PALE, ACCENT], height=0.55)
            axes.set_xlabel(f"share with {kpi.label} (percent)")
            return _figure(canvas, "arms", title, f"{title}.")
        edges = _classes(values, study.program.analysis.minimum_group_size)
        labels, shares = _class_labels(edges), [100 * _counts(part, edges) / len(part) for part in values]
        canvas, axes = _new(1.5 + 0.42 * len(labels))
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
        return _figure(canvas, "arms", title, f"{title}. Share of trained against comparison: {listed}.")


def _classes(values: Sequence[np.ndarray], minimum: int) -> np.ndarray:
    """Inner edges of classes, at round numbers, such that every class holds ``minimum`` of each arm."""
    pooled = np.concatenate(values)
    low, high = np.quantile(pooled, [0.03, 0.97])
    ticks = MaxNLocator(nbins=9, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    kept: list[float] = []
    for edge in ticks[(ticks > low) & (ticks < high)]:
        trial = [*kept, float(edge)]
        if min(_counts(part, np.array(trial))[-2] for part in values) >= minimum:
            kept = trial
    while kept and min(_counts(part, np.array(kept))[-1] for part in values) < minimum:
        kept.pop()
    return np.array(kept)


def _counts(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Numbers below the first edge, between edges (the lower one included), and from the last one on."""
    return np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)


def _class_labels(edges: np.ndarray) -> list[str]:
    if not len(edges):
        return ["all"]
    exact = (
        decimals for decimals in range(9) if np.allclose(edges, np.round(edges, decimals), rtol=1e-9, atol=0)
    )
    decimals = next(exact, 9)
    text = [format_number(float(edge), decimals) for edge in edges]
    inner = [f"{low} to {high}" for low, high in pairwise(text)]
    return [f"under {text[0]}", *inner, f"{text[-1]} or more"]


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
    said = f"{format_number(low, decimals, sign=True)} and {format_number(high, decimals, sign=True)} {unit}"
    title = f"Before the data, 9 in 10 effects were expected between {said}"
    with _style():
        canvas, axes = _new(2.8)
        _density(axes, draws, fill=True, color=PALE, alpha=0.6, linewidth=1.5)
        _mark_study(axes, study)
        axes.set_xlabel(f"effect on {study.program.kpi.label} ({unit})")
        return _figure(canvas, "prior", title, f"{title}. Density of the prior.")


def _mark_study(axes: Axes, study: Study) -> None:
    _thousands(axes)
    _no_effect_and_target(axes, float(_shown(np.array([study.target]), study)[0]))
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
        plot = az.plot_rank_dist(
            posterior.idata,
            var_names=["effect"],
            backend="matplotlib",
            figure_kwargs={"figsize": (WIDTH, 2.8), "dpi": DPI},
            visuals={"dist": {"color": ACCENT}, "rank": {"color": ACCENT}, "label": False},
        )
        canvas = plot.viz["figure"].item()
        pyplot.close(canvas)
        FigureCanvasAgg(canvas)
        canvas.set_layout_engine("constrained")
        _label_chains(canvas, posterior.study)
        return _figure(
            canvas, "chains", title, f"{title}. Density of the effect and ranks of {draws.sizes['draw']:,} draws, "
            "one line for each chain."
        )  # fmt: skip


def _label_chains(canvas: Canvas, study: Study) -> None:
    kpi, (density, ranks) = study.program.kpi, canvas.axes
    density.set_xlabel("\n".join(textwrap.wrap(f"effect on {kpi.label} ({kpi.effect_unit}), by chain", 44)))
    _thousands(density)
    ranks.set_xlabel("place of a draw among all chains' draws, 0 to 1")
    ranks.set_ylabel("a chain's share\nless the expected")
    for axes in canvas.axes:
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set(fontsize=9.5, color=SOFT)
        axes.tick_params(labelsize=9)
