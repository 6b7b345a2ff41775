"""Figures of a Bayesian analysis: prior, posterior, chains, data against what the model makes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas

from ldlab.estimate import Estimate, format_number
from ldlab.plots.figure import (
    ACCENT,
    DPI,
    MOST_ROWS,
    PALE,
    SOFT,
    WIDTH,
    Figure,
    decimals_for,
    effect_label,
    finished,
    mark_no_effect_and_target,
    new_axes,
    style,
    thousands,
)
from ldlab.program import Study


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
    if np.ptp(draws) == 0:
        return
    low, high = np.quantile(draws, [0.002, 0.998])
    sns.kdeplot(x=draws[(draws >= low) & (draws <= high)], ax=axes, cut=0.5, **look)


def prior_predictive(posterior: Draws) -> Figure:
    """The prior of the average effect in KPI units, with no effect and the target marked."""
    study = posterior.study
    draws = _shown(posterior.prior_effect, study)
    low, high = np.quantile(draws, [0.05, 0.95])
    decimals = decimals_for(draws.std())
    unit = "percent" if study.program.kpi.scale == "log" else study.program.kpi.effect_unit
    said = f"{format_number(low, decimals, sign=True)} and {format_number(high, decimals, sign=True)} {unit}"
    title = f"Before the data, 9 in 10 effects were expected between {said}"
    with style():
        canvas, axes = new_axes(2.8)
        _density(axes, draws, fill=True, color=PALE, alpha=0.6, linewidth=1.5)
        _mark_study(axes, study)
        axes.set_xlabel(f"effect on {study.program.kpi.label} ({unit})")
        return finished(canvas, "prior", title, f"{title}. Density of the prior.")


def _mark_study(axes: Axes, study: Study) -> None:
    thousands(axes)
    mark_no_effect_and_target(axes, float(_shown(np.array([study.target]), study)[0]))
    axes.set_yticks([])
    axes.set_ylabel("")
    axes.spines["left"].set_visible(False)


def prior_posterior(posterior: Draws, estimate: Estimate) -> Figure:
    """Prior and posterior of the average effect, with the interval, no effect and the target."""
    study = posterior.study
    narrower = posterior.prior_effect.std() / max(estimate.se, 1e-12)
    said = f"{estimate.format(estimate.value, sign=True)} {estimate.shown_unit}, {estimate.interval_text()}"
    title = f"After the data: {said}; {narrower:.1f} times narrower than before"
    with style():
        canvas, axes = new_axes(3.0)
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
        axes.set_xlabel(effect_label(estimate))
        axes.legend(frameon=False)
        return finished(canvas, "prior_posterior", title, f"{title}. Densities of prior and posterior.")


class Replicated(Protocol):
    """What :func:`posterior_predictive` reads of :class:`ldlab.bayes.checks.Statistic`."""

    family: str
    label: str
    observed: float
    replicated: np.ndarray


def posterior_predictive(statistics: Sequence[Replicated]) -> Figure | None:
    """Where each statistic of the data lies among those of data sets that the model makes; None without any."""
    if not statistics:
        return None
    shown = list(statistics)[:MOST_ROWS]
    spreads = [max(float(s.replicated.std()), 1e-12) for s in shown]
    places = [
        (s.observed - float(s.replicated.mean())) / spread for s, spread in zip(shown, spreads, strict=True)
    ]
    outside = sum(abs(place) > 2.58 for place in places)
    title = f"{outside} of {len(shown)} statistics lie outside what the model makes 99 times in 100"
    with style():
        canvas, axes = new_axes(1.4 + 0.26 * len(shown))
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
        return finished(canvas, "posterior_predictive", title, f"{title}. In standard deviations: {listed}.")


def diagnostics(posterior: Draws) -> Figure | None:
    """ArviZ's trace of the effect: its density and its draws, chain by chain; None where chains cannot be compared."""
    import arviz as az
    from matplotlib import pyplot

    draws = posterior.idata["posterior"].to_dataset()["effect"]
    if draws.sizes["chain"] < 2 or float(np.ptp(draws.values)) == 0:
        return None
    rhat = float(az.rhat(draws.to_dataset())["effect"])
    title = f"The {draws.sizes['chain']} chains tell one story (R-hat {rhat:.3f})" if rhat <= 1.01 else (
        f"The {draws.sizes['chain']} chains disagree (R-hat {rhat:.3f})"
    )  # fmt: skip
    with style():
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
        return finished(
            canvas, "chains", title, f"{title}. Density of the effect and ranks of {draws.sizes['draw']:,} draws, "
            "one line for each chain."
        )  # fmt: skip


def _label_chains(canvas: Canvas, study: Study) -> None:
    kpi, (density, ranks) = study.program.kpi, canvas.axes
    density.set_xlabel("\n".join(textwrap.wrap(f"effect on {kpi.label} ({kpi.effect_unit}), by chain", 44)))
    thousands(density)
    ranks.set_xlabel("place of a draw among all chains' draws, 0 to 1")
    ranks.set_ylabel("a chain's share\nless the expected")
    for axes in canvas.axes:
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set(fontsize=9.5, color=SOFT)
        axes.tick_params(labelsize=9)
