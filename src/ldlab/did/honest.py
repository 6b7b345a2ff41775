"""Honest bounds: what the effect could be if trends were not quite parallel (Rambachan and Roth 2023)."""

from __future__ import annotations

import math
from html import escape
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from ldlab.did.departures import (
    MOST,
    Departures,
    Target,
    bent,
    breakdown,
    broken,
    departures,
    zero_fits,
)
from ldlab.did.events import EventStudy
from ldlab.did.panel import need_panel, se_kind_of
from ldlab.estimate import Estimate, Noun
from ldlab.program import LdlabError, Study

BREAKS = (0.5, 1.0, 1.5, 2.0)  # times the largest break seen before training
BENDS = (0.0, 0.5, 1.0)  # times the largest bend seen before training


class Bound(Noun):
    """The interval if the trend departs from parallel by no more than this.

    Attributes
    ----------
    departs
        'breaks': by how much it changes from one period to the next; 'bends': by how much its slope changes.
    times
        How large a departure is allowed, in multiples of the largest one seen before training.
    low, high
        The interval, in effect units.
    """

    departs: Literal["breaks", "bends"]
    times: float
    low: float
    high: float

    @property
    def short(self) -> str:
        """The assumption, for an axis or a table."""
        if self.departs == "bends" and self.times == 0:
            return "the earlier slope goes on"
        return f"{'a break' if self.departs == 'breaks' else 'a bend'} {self.times:g} × the largest before"


class HonestBounds(Noun):
    """How far trends may depart from parallel before the result is lost. Made by :func:`honest_bounds`.

    Attributes
    ----------
    target, period
        Which effect is bounded, in words; one period, in words.
    original
        The same effect if trends are parallel, from the event study; None where there are no bounds.
    breaks, bends
        Intervals under either kind of departure.
    breakdown, bend_breakdown
        The largest multiple, in steps of .05 and up to 5, at which the interval still excludes zero; None where
        it includes zero already with parallel trends (breaks) or with the earlier slope gone on (bends).
    largest_break, largest_bend
        Largest change of the gap between the arms from one period to the next, and of its slope, before training,
        as estimated and so in part noise; in effect units. The bend is None with fewer than two leads.
    leads, stretch
        How many leads were used; how many neighbouring periods are averaged in one (1 where there are few).
    reason
        Why there are no bounds; empty where there are.
    """

    target: str
    period: str
    original: Estimate | None = None
    breaks: tuple[Bound, ...] = ()
    bends: tuple[Bound, ...] = ()
    breakdown: float | None = None
    bend_breakdown: float | None = None
    largest_break: float | None = None
    largest_bend: float | None = None
    leads: int = 0
    stretch: int = 1
    reason: str = ""

    @property
    def claim(self) -> str:
        """What it takes to lose the result, in a line without its full stop; the reason where there are no bounds."""
        if self.original is None:
            return self.reason.rstrip(".")
        if self.breakdown is None:
            return "The result is unclear even if trends were parallel: there is nothing for a broken trend to undo"
        most = (
            "even if the trend broke by" if self.breakdown >= MOST else "unless the trend broke by more than"
        )
        return f"The result holds {most} {self.breakdown:g} times the largest break seen before training"

    @property
    def sentence(self) -> str:
        """The claim, with the size of the largest break."""
        e, size = self.original, self.largest_break
        if e is None or size is None or self.breakdown is None:
            return f"{self.claim}."
        return f"{self.claim} ({_positive(e, size)} {e.shown_unit} {self._step})."

    @property
    def span(self) -> int:
        """How many periods before training were used."""
        return (self.leads + 1) * self.stretch

    @property
    def _step(self) -> str:
        if self.stretch == 1:
            return f"from one {self.period} to the next"
        return f"from {self.stretch} {self.period}s to the next {self.stretch}"

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """All intervals, breaks first."""
        return self.breaks + self.bends

    def table(self) -> pd.DataFrame:
        """One row per assumption on the trend after training: the interval, as readers see it."""
        if self.original is None:
            return pd.DataFrame(columns=["assumed of the trend", "low", "high"])
        e = self.original
        rows = [("trends run parallel", e.low, e.high)] + [(b.short, b.low, b.high) for b in self.bounds]
        table = pd.DataFrame(rows, columns=["assumed of the trend", "low", "high"])
        return table.assign(
            **{end: [round(e.shown(x), e.decimals) for x in table[end]] for end in ("low", "high")}
        )

    def _head(self) -> str:
        e = self.original
        return f"{self.target} ({e.shown_unit}, {e.level:.0%} intervals)" if e is not None else self.target

    def __str__(self) -> str:
        table = self.table()
        shown = [table.to_string(index=False)] if len(table) else []
        return "\n".join([self._head(), *shown, self.sentence])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        table = self.table()
        shown = table.to_html(border=0, index=False) if len(table) else ""
        return f"<p>{escape(self._head())}</p>{shown}<p>{escape(self.sentence)}</p>"


def honest_bounds(study: Study, events: EventStudy | None, *, target: Target = "average") -> HonestBounds:
    """Intervals for an effect that hold although trends break, or bend, as much as they did before training.

    Breaks (relative magnitudes): from one period to the next the gap between the arms would have changed, without
    training, by at most M times the largest such change seen before. Bends (smoothness): the gap's slope would
    have changed by at most M times the largest bend seen before; 0 is the earlier slope going on.

    Parameters
    ----------
    study
        A panel with a comparison.
    events
        Its event study, all effects relative to one reference period; None gives bounds with a reason.
    target
        'average': over the periods since the start, each counting by the trained rows seen at it while someone
        was untrained: the leading estimate's weights, here taken as known, so that its error can come out a
        little smaller. 'first': the period in which training began.

    Returns
    -------
    HonestBounds
        Without numbers, and with the ``reason``, where there is no comparison, no lead next to the reference,
        or as few clusters as effects used (the leads and the target).

    Raises
    ------
    LdlabError
        If the study is no panel, or ``target`` is unknown.

    Notes
    -----
    Rambachan & Roth (2023), Review of Economic Studies 90: relative magnitudes by the conditional
    least-favourable hybrid test, smoothness by fixed-length intervals; both by moderndid. Effects after the start
    are unrestricted, so the trend matters through one number, its part of the target; a break of at most b in each
    period changes it by at most b times the target's mean distance from the reference. Relative magnitudes are
    therefore tested with one post-period and the bound so multiplied: the same set, without linear programs.
    With more than 6 leads, neighbouring periods are averaged into stretches, and the last stretch before training is
    the base of the target too; breaks and bends are then those from one stretch to the next. Periods of
    anticipation count as after the reference, with weight 0. The errors are t in the event study and
    normal in the paper: the covariance is enlarged by the square of the two quantiles' ratio.
    """
    need_panel(study)
    if target not in ("average", "first"):
        raise LdlabError(f"target: found '{target}'; expected 'average' or 'first'.")
    period = study.program.design.period
    words = f"average over the {period}s since training began"
    words = words if target == "average" else f"first trained {period}"
    if events is None or not study.has_comparison:
        reason = "There is no comparison group whose trend could differ."
        return HonestBounds(target=words, period=period, reason=reason)
    parts = departures(study, events, target)
    if parts.reason:
        return HonestBounds(target=words, period=period, reason=parts.reason)
    return HonestBounds(
        target=words,
        period=period,
        original=_original(study, events, parts, words),
        leads=parts.leads,
        stretch=parts.stretch,
        **_breaks(parts),
        **_bends(parts),
    )


def _breaks(parts: Departures) -> dict[str, Any]:
    ends = {m: broken(parts, m) for m in BREAKS}
    return {
        "breaks": tuple(
            Bound(departs="breaks", times=m, low=low, high=high) for m, (low, high) in ends.items()
        ),
        "breakdown": None if zero_fits(parts, 0.0) else breakdown(lambda m: not zero_fits(parts, m)),
        "largest_break": float(np.abs(np.diff([*parts.before, 0.0])).max()),
    }


def _bends(parts: Departures) -> dict[str, Any]:
    """Nothing with one lead, in which no bend was seen, nor where the solver is not sure of an interval."""
    if parts.leads < 2:
        return {}
    largest = float(np.abs(np.diff([*parts.before, 0.0], n=2)).max())
    ends = {times: bent(parts, times * largest) for times in BENDS}
    found = {times: interval for times, interval in ends.items() if interval is not None}
    if len(found) < len(BENDS):
        return {}

    def holds(times: float) -> bool:
        return _excludes_zero(bent(parts, times * largest))

    return {
        "bends": tuple(
            Bound(departs="bends", times=m, low=low, high=high) for m, (low, high) in found.items()
        ),
        "bend_breakdown": breakdown(holds) if _excludes_zero(ends[0.0]) else None,
        "largest_bend": largest,
    }


def _excludes_zero(interval: tuple[float, float] | None) -> bool:
    return interval is not None and not interval[0] <= 0 <= interval[1]


def _original(study: Study, events: EventStudy, parts: Departures, words: str) -> Estimate:
    """The target if trends are parallel; its error is the event study's own."""
    effects, covariance = parts.to_target()
    reach = stats.t.isf(parts.alpha / 2, events.df) / stats.norm.isf(parts.alpha / 2)
    return Estimate.from_t(
        effects[-1],
        math.sqrt(covariance[-1, -1]) / reach,
        df=events.df,
        method="event study",
        estimand=study.estimand,
        se_kind=se_kind_of(study, "cluster"),
        term=words,
        n=study.count(),
        **study.measure(),
    )


def _positive(estimate: Estimate, size: float) -> str:
    """A size in the estimate's unit with two significant digits."""
    shown = abs(estimate.shown(size))
    return f"{shown:,.{max(0, 1 - math.floor(math.log10(shown)))}f}" if shown > 0 else "0"
