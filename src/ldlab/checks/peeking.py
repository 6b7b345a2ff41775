"""Whether the result was read when it was agreed to be read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import pandas as pd

from ldlab.checks.shared import not_run
from ldlab.estimate import Check
from ldlab.program import Study

OFF_PLAN = 0.1  # of the planned units: further from a planned look than this is said
SHORT = 0.9  # of the planned units: fewer at the end of a fixed test, and it was read too early
UNSEEN = (
    "Only runs that wrote to this outputs folder are on record; who looked at the raw data left no trace."
)


def peeking(study: Study, earlier: Sequence[int], false_alarms: float) -> Check | None:
    """Whether a result was read more often than its interval allows; None for other than randomised designs.

    Agreed was one look, or nothing: failed with any earlier look on record, and the grade presumes it then.
    Always-valid: passed. Group-sequential: failed where there were more looks than planned; these are spent
    (:func:`ldlab.ab.looks_taken`), so the grade stays.

    Parameters
    ----------
    study
        The study.
    earlier
        Units with a KPI at earlier looks: :func:`ldlab.report.earlier_looks`.
    false_alarms
        Of an interval for one look that is read at all of them: :func:`ldlab.ab.peeking_rate`.
    """
    if study.program.design.kind != "randomised":
        return None
    looks, level = study.program.looks, study.program.level
    method = "fixed" if looks is None else looks.method
    times = f"{len(earlier)} times" if len(earlier) > 1 else "once"
    failed, needed = False, False
    if method == "always_valid":
        said = f"The result was read {times} before" if earlier else "No earlier look is on record here"
        sentence = f"{said}; its interval was agreed to hold at any number of looks."
    elif not earlier:
        sentence = "No earlier look is on record here."
    elif method == "fixed":
        failed = needed = True
        sentence = (
            f"The result was read {times} before, on fewer data. A test meant for one look then finds something in "
            f"{false_alarms:.0%} of programs in which nothing happened, not in {1 - level:.0%}."
        )
    else:
        planned = len(looks.at) if looks is not None else 0
        failed = len(earlier) + 1 > planned
        sentence = f"The result was read {times} before; {planned} looks were planned" + (
            ". The interval is wider for the looks that were not." if failed else "."
        )
    return Check(
        name="peeking",
        status="failed" if failed else "passed",
        sentence=sentence,
        statistic=float(len(earlier)),
        statistic_name="earlier looks on record",
        power=UNSEEN,
        needed=needed,
    )


def planned_looks(study: Study) -> Check | None:
    """Whether the data are those of a planned look; None where no time or size was planned.

    Fixed: failed before the planned date or with under 90% of the planned units; the grade presumes it.
    Group-sequential: failed, and the claim is not readable, before the first planned look; failed without harm to the
    grade where looks do not match the data, or lie over 10% of the planned units beside the plan: the boundary is
    recomputed for the actual sizes, which is right as long as results did not set the time. Always-valid: failed,
    and not readable, under 50 units (10 clusters) in an arm.
    """
    looks = study.program.looks
    if looks is None or (looks.method == "fixed" and not looks.at and looks.planned is None):
        return None
    if looks.method == "always_valid":
        return _always_valid(study)
    if looks.by_date and _days(study) is None:
        reason = "Looks are planned by date, and no unit has a date on which its KPI was known."
        return not_run("planned looks", reason, needed=True)
    return _fixed(study) if looks.method == "fixed" else _group_sequential(study)


def _always_valid(study: Study) -> Check:
    few = _fewest(study)
    if not few:
        return _check("passed", "There are enough units for the first always-valid interval.")
    sentence = f"There are too few data for an always-valid interval yet: {few}. Wait for more."
    return _check("failed", sentence, breaks=True)


def _fewest(study: Study) -> str:
    """What is too few, if something is; as in :func:`ldlab.ab.sequential.enough_units`."""
    rows, units = study.frame, study.program.design.units
    if rows["arm"].nunique() < 2 or rows.groupby("arm").size().min() < 50:
        return f"an arm has fewer than 50 {units}"
    if "cluster" in rows and rows.groupby("arm")["cluster"].nunique().min() < 10:
        return "an arm has fewer than 10 clusters"
    commonest = rows["outcome"].value_counts().index[0]
    if (rows["outcome"] != commonest).groupby(rows["arm"]).sum().min() < 5:
        return f"in an arm fewer than 5 {units} have another {study.program.kpi.label} than the commonest"
    return ""


def _fixed(study: Study) -> Check:
    looks, units = study.program.looks, study.program.design.units
    assert looks is not None
    now, end = len(study.frame), looks.at[-1] if looks.at else None
    if isinstance(end, dt.date) and not _reached(end, study):
        sentence = f"The test was agreed to be read once, on {_in_words(end)}; the data end on {_in_words(_last_day(study))}."
        return _check("failed", sentence, needed=True)
    if looks.planned is not None and now < SHORT * looks.planned:
        sentence = (
            f"The test was agreed to be read once, with {looks.planned:,} {units}; it was read with "
            f"{_count(now, study)}. If results set the time, the range is too narrow."
        )
        return _check("failed", sentence, needed=True, statistic=now / looks.planned)
    return _check("passed", "The test was read at its planned end.")


def _group_sequential(study: Study) -> Check:
    looks, units = study.program.looks, study.program.design.units
    assert looks is not None and looks.planned is not None
    now, total = len(study.frame), len(looks.at)
    reached = [look for look in looks.at if _reached(look, study)]
    first = looks.at[0]
    if not reached:
        when = f"on {_in_words(first)}" if isinstance(first, dt.date) else f"with {first:,} {units}"
        far = f"end on {_in_words(_last_day(study))}" if looks.by_date else f"have {_count(now, study)}"
        sentence = f"The first look was planned {when}; the data {far}. Nothing can be concluded before it."
        return _check("failed", sentence, breaks=True)
    empty = [look for look in reached if isinstance(look, dt.date) and _known_by(look, study) == 0]
    if empty:
        sentence = f"A look was planned on {_in_words(empty[-1])}, when no KPI was known yet: the looks do not match the data."
        return _check("failed", sentence, needed=True)
    share = now / looks.planned
    place, last = f"look {len(reached)} of {total}", len(reached) == total
    if last and share < 1 - OFF_PLAN:
        sentence = f"The last look has {share:.0%} of the {looks.planned:,} planned {units}: an effect was harder to see."
        return _check("failed", sentence, statistic=share)
    late = (now - _known_by(reached[-1], study)) / looks.planned
    if late > OFF_PLAN:
        sentence = (
            f"This is {place}, with {_count(now, study)} {units}, {late:.0%} of the plan more than planned for it. The "
            "boundary is that of the actual number, right as long as the results did not set the time."
        )
        return _check("failed", sentence, statistic=share)
    return _check("passed", f"This is {place}, as planned.", statistic=share)


def _check(
    status: str, sentence: str, *, statistic: float | None = None, needed: bool = False, breaks: bool = False
) -> Check:
    return Check(
        name="planned looks",
        status="passed" if status == "passed" else "failed",
        sentence=sentence,
        statistic=statistic,
        statistic_name="units as a fraction of those planned" if statistic is not None else "",
        needed=needed,
        breaks=breaks,
    )


def _days(study: Study) -> pd.Series | None:
    """When each unit's KPI was known; None without dates."""
    name = next((name for name in ("measured_on", "assigned_on") if name in study.frame), None)
    return None if name is None or study.frame[name].isna().all() else study.frame[name]


def _last_day(study: Study) -> dt.date | None:
    days = _days(study)
    if isinstance(study.cut_off, dt.date):
        return study.cut_off
    return None if days is None else days.max().date()


def _reached(look: dt.date | int, study: Study) -> bool:
    if isinstance(look, int):
        return len(study.frame) >= look
    last = _last_day(study)
    return last is not None and last >= look


def _known_by(look: dt.date | int, study: Study) -> int:
    if isinstance(look, int):
        return look
    days = _days(study)
    return 0 if days is None else int((days.dt.date <= look).sum())


def _count(units: int, study: Study) -> str:
    minimum = study.program.analysis.minimum_group_size
    return f"{units:,}" if units >= 2 * minimum else f"fewer than {2 * minimum}"


def _in_words(day: dt.date | None) -> str:
    return "an unknown day" if day is None else f"{day.day} {day:%B %Y}"
