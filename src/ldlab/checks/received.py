"""Whether the training took place, as its own trace in the data tells."""

from __future__ import annotations

from typing import Protocol

from scipy import stats

from ldlab.checks.shared import POWER, not_run, plain
from ldlab.estimate import Check, Estimate
from ldlab.program import Study

P = 0.05


class Events(Protocol):
    """What :func:`training_took_place` reads of an event study."""

    @property
    def estimates(self) -> tuple[Estimate, ...]: ...  # noqa: D102
    @property
    def event_times(self) -> tuple[int, ...]: ...  # noqa: D102


class Received(Protocol):
    """What :func:`training_took_place` reads of :func:`ldlab.did.training_received`."""

    @property
    def by_event(self) -> Events: ...  # noqa: D102


def training_took_place(study: Study, received: Received | None) -> Check:
    """Whether the trained received more training than the others in the period of their start: one-sided p < .05.

    Failed means that the effect on the KPI is not one of training that took place as the file says.
    """
    name, named = "training took place", study.program.design.manipulation_check
    if named is None:
        reason = (
            "The program file names nothing that shows whether the training took place: fill in "
            "design.manipulation_check (hours, sessions) if it was recorded."
        )
        return not_run(name, reason)
    events = None if received is None else received.by_event
    if events is None or 0 not in events.event_times:
        units = study.program.design.units
        reason = (
            f"{named.label} could not be compared: too few {units} have it recorded, or it does not change."
        )
        return not_run(name, reason[:1].upper() + reason[1:])
    at = {time: e for time, e in zip(events.event_times, events.estimates, strict=True) if time >= 0}
    first = at[0]
    df = float("inf") if first.df is None else first.df
    p = float(stats.t.sf(first.value / first.se, df))
    failed = p >= P
    later = [time for time in sorted(at) if time > 0]
    period = study.program.design.period
    rest = ""
    if later:
        e = at[later[-1]]
        rest = f"; {later[-1]} {period}{'s' * (later[-1] > 1)} later {e.format(e.value, sign=True)}"
    more = f"{first.format(first.value, sign=True)} {first.unit} more than the others{rest}"
    sentence = (
        f"In the {period} of their start the trained received {more}."
        if not failed
        else f"The trained did not clearly receive more {named.label} in the {period} of their start "
        f"({first.format(first.value, sign=True)} {first.unit}, {first.interval_text()})."
    )
    seen = (stats.t.isf(P, df) + stats.t.ppf(POWER, df)) * first.se
    return Check(
        name=name,
        status="failed" if failed else "passed",
        sentence=sentence,
        statistic=p,
        statistic_name="p-value, one-sided",
        threshold=P,
        power=f"{plain(float(seen))} {first.unit} more would have been seen 4 times in 5",
    )
