"""Whether something besides training moved the trained: a dip, anticipation, other changes."""

from __future__ import annotations

import datetime as dt
from typing import Any, Protocol

import numpy as np
from scipy import stats

from ldlab.checks.shared import POWER, not_run, plain
from ldlab.estimate import Check, Estimate, Status
from ldlab.program import Study
from ldlab.program.design import OtherChange

BEFORE_P = 0.05  # one-sided
ONE_ARM = ("trained only", "untrained only", "comparison only")


class Before(Protocol):
    """What the checks read of :class:`ldlab.did.LastBefore`."""

    @property
    def last(self) -> Estimate | None: ...  # noqa: D102
    @property
    def length(self) -> int: ...  # noqa: D102
    @property
    def lead(self) -> Estimate | None: ...  # noqa: D102
    @property
    def without(self) -> Estimate | None: ...  # noqa: D102
    @property
    def reason(self) -> str: ...  # noqa: D102


def nomination_dip(study: Study, before: Before) -> Check:
    """Whether the trained had a bad period just before training: one-sided test at p < .05 (Ashenfelter's dip).

    Against their own earlier periods and the comparison at the time. If managers send people after a bad period,
    part of what follows is a return to normal. The grade presumes the check only where leaving the dip out of what
    counts as before moves the leading estimate by the smallest effect worth having, or cannot be done.

    Parameters
    ----------
    study
        A panel.
    before
        :func:`ldlab.did.last_before_start`.
    """
    return _last_period(study, before, "nomination dip", good=False)


def anticipation(study: Study, before: Before) -> Check:
    """Whether the trained had a good period just before training: one-sided test at p < .05.

    The opposite of :func:`nomination_dip`: people may have reacted to the announcement, or training began before
    the date on file; the estimate is then too small, for it starts from a base that training had already moved.
    Agreed ``design.anticipation`` is left out of what counts as before. The grade presumes it as it does a dip.

    Parameters
    ----------
    study
        A panel.
    before
        :func:`ldlab.did.last_before_start`.
    """
    return _last_period(study, before, "anticipation", good=True)


def _last_period(study: Study, before: Before, name: str, *, good: bool) -> Check:
    e = before.last
    if e is None:
        return not_run(name, before.reason)
    df = np.inf if e.df is None else e.df
    p = float(stats.t.sf((1 if good else -1) * e.sign * e.value / e.se, df))
    failed = p < BEFORE_P
    seen = (stats.t.isf(BEFORE_P, df) + stats.t.ppf(POWER, df)) * e.se
    period = study.program.design.period
    size = f"{e.format(e.value, sign=True)} {e.shown_unit} against their earlier {period}s and the comparison"
    kind = "good" if good else "bad"
    if failed:
        why = (
            "they may have reacted before training began"
            if good
            else f"people may have been sent after a bad {period}, and part of the effect is a return to normal"
        )
        sentence = f"The trained had a {kind} {period} just before training ({size}): {why}. {_without(before, study)}"
    else:
        sentence = f"The trained had no clearly {kind} {period} just before training ({size})."
    return Check(
        name=name,
        status="failed" if failed else "passed",
        sentence=sentence,
        statistic=p,
        statistic_name="p-value, one-sided",
        threshold=BEFORE_P,
        power=f"a {kind} {period} of {plain(abs(e.shown(seen)))} {e.shown_unit} would have been seen 4 times in 5",
        needed=failed and _matters(before, study),
    )


def _matters(before: Before, study: Study) -> bool:
    if before.lead is None or before.without is None:
        return True
    return abs(before.lead.value - before.without.value) >= abs(study.smallest)


def _without(before: Before, study: Study) -> str:
    """What leaving those periods out does to the estimate."""
    period, lead, without = study.program.design.period, before.lead, before.without
    if lead is None or without is None:
        return f"How much that matters cannot be said: too few {period}s are left before it."
    which = f"that {period}" if before.length == 1 else f"the {before.length} {period}s before training"
    numbers = f"{lead.format(without.value, sign=True)} instead of {lead.format(lead.value, sign=True)}"
    return f"Not counting {which} as before, the estimate is {numbers} {lead.shown_unit}."


def other_changes(study: Study) -> Check:
    """Whether something else changed for one arm only, by ``design.other_changes``.

    Failed if a change within the periods analysed touched the trained only, or the comparison only, or anyone where
    there is no comparison: no data can tell it from training. One that touched everyone is taken out by the
    comparison, whenever it was. Not run where the file names none, gives no date that can be placed among the
    periods, or names people of whom it is not on record in which arm they were. The grade presumes it if it failed.
    """
    name, changes = "other changes", study.program.design.other_changes
    if not changes:
        reason = "The program file names nothing else that changed (design.other_changes), nor does it say that nothing did."
        return not_run(name, reason)
    judged = [_judged(change, study) for change in changes]
    statuses = {status for status, _ in judged}
    status: Status = "failed" if "failed" in statuses else "not_run" if "not_run" in statuses else "passed"
    text = "; ".join(text for _, text in judged)
    return Check(
        name=name,
        status=status,
        sentence=f"{text[:1].upper()}{text[1:]}.",
        power="it sees what was written down" if status != "not_run" else "",
        needed=status == "failed",
    )


def _judged(change: OtherChange, study: Study) -> tuple[Status, str]:
    said, who = f"{change.what} ({change.when})", change.who.strip().lower()
    everyone = change.touched_everyone
    if everyone and study.has_comparison:
        return "passed", f"{said} touched everyone, and the comparison takes it out"
    inside = _within(change.when, study)
    if inside is None:
        return "not_run", f"{said} has no date that can be placed among the {study.program.design.period}s"
    if not inside:
        return "passed", f"{said} lies outside the {study.program.design.period}s analysed"
    alone = "its effect cannot be told from training's"
    if everyone:
        return "failed", f"{said} touched everyone, and nobody was compared: {alone}"
    if who in ONE_ARM:
        whom = f"{who.removesuffix(' only')} {study.program.design.units}"
        return "failed", f"{said} touched {whom} only: {alone}"
    return "not_run", f"{said} touched {change.who}, and which of them were trained is not on record"


def _within(when: dt.date | str, study: Study) -> bool | None:
    """Whether it fell into the periods analysed, the last one to its end; None if it cannot be placed."""
    first, last = study.periods[0], study.periods[-1]
    moment: Any = int(when) if isinstance(when, str) and when.strip().isdigit() else when
    if type(moment) is not type(first):
        return None
    end = last + (last - study.periods[-2]) if len(study.periods) > 1 else last
    return bool(first <= moment < end or moment == last)
