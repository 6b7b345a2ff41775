"""Figures of estimates: forests and event studies, against no effect and the agreed target."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ldlab.estimate import Estimate, level_in_words
from ldlab.plots.figure import (
    ACCENT,
    INK,
    PALE,
    SOFT,
    Figure,
    effect_label,
    finished,
    mark_no_effect_and_target,
    new_axes,
    said,
    style,
    table_of,
    thousands,
)
from ldlab.program import Study


def interval(estimates: Sequence[Estimate | None], *, title: str, name: str = "effect") -> Figure:
    """Estimates with their intervals, the leading one on top, with no effect and the target marked; None is left out."""
    given = [estimate for estimate in estimates if estimate is not None]
    with style():
        canvas, axes = new_axes(1.5 + 0.5 * len(given))
        _forest(axes, given)
        alt = f"Effect in {given[0].shown_unit}. " + "; ".join(said(e) for e in given) + "."
        return finished(canvas, name, title, alt, table_of(given, _names(given)))


def _forest(axes: Axes, estimates: Sequence[Estimate], *, leading: bool = True) -> None:
    """Rows of intervals; where one is ``leading`` it is the first, and darker."""
    for row, e in enumerate(estimates):
        low, value, high = e.shown(e.low), e.shown(e.value), e.shown(e.high)
        leads = row == 0 or not leading
        if e.has_interval:
            axes.plot(
                [low, high], [row, row], color=ACCENT if leads else PALE, linewidth=5, solid_capstyle="round"
            )
        axes.plot([value], [row], "o", markersize=9, markerfacecolor="white", markeredgewidth=2.5,
                  markeredgecolor=ACCENT if leads else SOFT)  # fmt: skip
    labels = ["\n".join(_wrapped(name)) for name in _names(estimates)]
    axes.set_yticks(range(len(estimates)), labels)
    axes.set_ylim(len(estimates) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(effect_label(estimates[0]))
    thousands(axes)
    mark_no_effect_and_target(axes, estimates[0].shown(estimates[0].target))
    beside = axes.secondary_yaxis("right")
    numbers = [f"{e.format(e.value, sign=True)}\n{e.format(e.low, sign=True)} to {e.format(e.high, sign=True)}"
               if e.has_interval else f"{e.format(e.value, sign=True)}\nno range" for e in estimates]  # fmt: skip
    beside.set_yticks(range(len(estimates)), numbers)
    beside.tick_params(axis="y", length=0, labelcolor=INK, labelsize=8.5)
    beside.spines["right"].set_visible(False)


def _wrapped(name: str) -> list[str]:
    return textwrap.wrap(name, 30)


def _names(estimates: Sequence[Estimate]) -> list[str]:
    """What tells the estimates apart: their terms where they share a method, else method and term."""
    one_method = len({e.method for e in estimates}) == 1
    both = [", ".join(text for text in (e.method, e.term) if text) for e in estimates]
    return [e.term or e.method if one_method else name for e, name in zip(estimates, both, strict=True)]


def segments(estimates: Sequence[Estimate], alone: Sequence[Estimate] = ()) -> Figure | None:
    """Effect by segment, the largest gain on top; None without segments.

    ``alone`` holds each segment's estimate from its own data only, drawn hollow and smaller: the way from it to the
    pooled estimate is the shrinkage.
    """
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
    own = {e.term: e for e in alone}
    with style():
        canvas, axes = new_axes(1.5 + 0.5 * len(ordered))
        for row, e in enumerate(ordered):
            if e.term in own:
                _shrinkage(axes, row, own[e.term], e)
        _forest(axes, ordered, leading=False)
        if own:
            axes.set_xlabel(f"{effect_label(ordered[0])}; small squares: the segment's own data alone")
        told = (
            f"{said(e)}" + (f", alone {e.format(own[e.term].value, sign=True)}" if e.term in own else "")
            for e in ordered
        )
        return finished(canvas, "segments", title, f"Effect in {ordered[0].shown_unit}. {'; '.join(told)}.")


def _shrinkage(axes: Axes, row: int, alone: Estimate, pooled: Estimate) -> None:
    """The segment's own estimate with its interval, and how far it was pulled."""
    start, end = alone.shown(alone.value), pooled.shown(pooled.value)
    place = row + 0.24
    axes.plot([alone.shown(alone.low), alone.shown(alone.high)], [place, place], color=SOFT, linewidth=1)
    axes.plot([start], [place], "s", markersize=4.5, markerfacecolor="white", markeredgecolor=SOFT)
    axes.plot([start, end], [place, row], color=SOFT, linewidth=0.8, linestyle=":")


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

    @property
    def reference(self) -> int:
        """The event time that all are compared with."""
        ...

    @property
    def band_low(self) -> tuple[float, ...]:
        """Lower bounds that hold for all event times together."""
        ...

    @property
    def band_high(self) -> tuple[float, ...]:
        """Upper bounds."""
        ...


def event_study(events: EventTimes | None, study: Study) -> Figure | None:
    """Effect by periods since training began, each with its interval and, thinner, the band that holds all together.

    The last period before training (and any anticipation) is zero by definition. None without a comparison.
    """
    if events is None:
        return None
    title, last = _event_title(events, study), events.estimates[-1]
    with style():
        canvas, axes = new_axes(3.6)
        _draw_events(axes, events)
        axes.annotate("training starts", (-0.5, 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
                      textcoords="offset points", ha="center", fontsize=8.5, color=SOFT)  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        level = level_in_words(last.level)
        axes.set_xlabel(
            f"{study.program.design.period}s since training began (thick: {level} of each; thin: of all together)"
        )
        thousands(axes, "y")
        axes.set_ylabel("\n".join(textwrap.wrap(effect_label(last), 34)))
        before = sum(time < 0 for time in events.event_times)
        told = (*events.estimates[:before][-3:], *events.estimates[before:][:6])
        table = table_of(events.estimates, [e.term for e in events.estimates])
        return finished(
            canvas, "event_study", title, f"{title}. " + "; ".join(said(e) for e in told) + ".", table
        )


def _event_title(events: EventTimes, study: Study) -> str:
    bands = zip(events.event_times, events.band_low, events.band_high, strict=True)
    before = [not low <= 0 <= high for time, low, high in bands if time < events.reference]
    last, period = events.estimates[-1], study.program.design.period
    found = (
        f"Before training {sum(before) or 'none'} of {len(before)} bands excludes zero"
        if len(before) > 1
        else f"Before training the one band {'excludes' if before[0] else 'holds'} zero"
        if before
        else "No period before training to test"
    )
    time = events.event_times[-1]
    after = f"{time} {period}{'s' * (time != 1)} after the start" if time else f"in the {period} of the start"
    return f"{found}; {after}: {last.format(last.value, sign=True)} {last.shown_unit}"


def _draw_events(axes: Axes, events: EventTimes) -> None:
    times, last = events.event_times, events.estimates[-1]
    middle = [e.shown(e.value) for e in events.estimates]
    ends = np.array([[e.shown(e.low), e.shown(e.high)] for e in events.estimates]).T
    band_low, band_high = ([last.shown(end) for end in side] for side in (events.band_low, events.band_high))
    axes.axhline(0, color=SOFT, linewidth=1)
    axes.axvline(-0.5, color=SOFT, linewidth=1, linestyle=":")
    axes.vlines(times, band_low, band_high, color=ACCENT, linewidth=0.9)
    axes.vlines(times, ends[0], ends[1], color=PALE, linewidth=3.5)
    axes.plot(times, middle, "o", color=ACCENT, markersize=5)
    axes.plot([events.reference], [0], "o", markerfacecolor="white", markeredgecolor=SOFT, markersize=6)
