"""What an experiment's table holds beside arms and KPI: dates, strata, doses, the KPI before, people in two arms."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from ldlab.data.values import Faults, as_text, numeric
from ldlab.program import Program, shorten

DATES = ("assigned_on", "exposed_on", "measured_on")
COPIED = 10  # different values that two columns share; fewer may be chance
ZONE = r"\d{2}:\d{2}.*(?:Z|[+-]\d{2}(?::?\d{2})?)$"


def one_row_per_unit(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with ``two_arms`` (1 or 0); of a unit that is in several arms only the first row is kept."""
    arm = frame["variant"] if "variant" in frame else frame["arm"]
    repeated = frame["unit"].duplicated(keep=False)
    arms = arm[repeated].groupby(frame.loc[repeated, "unit"]).nunique()
    twice = frame["unit"].isin(arms.index[arms > 1])
    kept = frame[~(twice & frame["unit"].duplicated())].copy()
    kept["two_arms"] = twice.loc[kept.index].astype(int)
    return kept


def add_experiment(raw: pd.DataFrame, frame: pd.DataFrame, program: Program, faults: Faults) -> None:
    """Add the columns of an experiment that the program names (see :class:`ldlab.Study`) to ``frame``."""
    columns = program.design.columns
    for role in ("stratum", "team"):
        name = getattr(columns, role)
        if name is not None:
            frame[role] = as_text(raw[name]).fillna("not recorded")
    for name in columns.exploratory_segments:
        frame[f"exploratory: {name}"] = as_text(raw[name]).fillna("not recorded")
    _add_dates(raw, frame, program, faults)
    if columns.dose is not None:
        frame["dose"] = numeric(raw, columns.dose, faults)
        negative = int((frame["dose"] < 0).sum())
        if raw[columns.dose].isna().all():
            faults.add(columns.dose, "no dose at all", "doses in at least some rows")
        if negative:
            faults.add(columns.dose, f"{negative:,} negative doses", "doses from 0 up")
    add_before(raw, frame, program, faults)
    winsorise(frame, program)


def add_before(raw: pd.DataFrame, frame: pd.DataFrame, program: Program, faults: Faults) -> None:
    """Add the KPI before assignment as ``before``, in effect units."""
    kpi = program.kpi
    if kpi.before_column is None:
        return
    readable = len(faults.found)
    before = numeric(raw, kpi.before_column, faults)
    hint = "Leave before_column out if there is no such KPI."
    if before.nunique() < 2 and len(faults.found) == readable:
        found = "one value or none"
        faults.add(kpi.before_column, found, "the KPI before assignment, which varies between units", hint)
    elif _same_values(before, raw[kpi.column]):
        found = f"the values of {kpi.column} again"
        faults.add(kpi.before_column, found, "the KPI as it was before assignment", hint)
    if kpi.scale == "log":
        none = int((before <= 0).sum())
        if none:
            faults.add(kpi.before_column, f"{none:,} values of 0 or less", "values above 0 for scale: log")
        before = np.log(before.where(before > 0))
    frame["before"] = before * 100 if kpi.value_type == "binary" else before


def _same_values(before: pd.Series, after: pd.Series) -> bool:
    """Whether the KPI before is the KPI itself, wherever both are known: at least 10 different values."""
    numbers = pd.to_numeric(after, errors="coerce")
    both = before.notna() & numbers.notna()
    return before[both].nunique() >= COPIED and bool((before[both] == numbers[both]).all())


def winsorise(frame: pd.DataFrame, program: Program) -> None:
    """Clip the outcome at the agreed quantiles of all arms together; ``raw`` keeps it as it was."""
    agreed = program.kpi.winsorise
    if agreed is None:
        return
    frame["raw"] = frame["outcome"]
    low, high = frame.loc[frame["two_arms"] == 0, "outcome"].quantile([agreed.below, agreed.above])
    frame["outcome"] = frame["outcome"].clip(low, high)


def before_covariates(frame: pd.DataFrame, program: Program) -> tuple[str, ...]:
    """Add the KPI before, filled in by its mean, and who had none, as covariates; their names.

    Filling in with an indicator keeps everybody and needs nothing to be missing at random when lots were drawn
    (Zhao & Ding 2022, JASA 119). Where too few of an arm lack it, or have it, to tell them apart there is no indicator.
    """
    before, label = frame["before"], program.kpi.label
    frame[f"{label} before"] = before.fillna(before.mean())
    if not _marked(frame, program):
        return (f"{label} before",)
    frame[f"no {label} before"] = before.isna().astype(float)
    return f"{label} before", f"no {label} before"


def before_notes(frame: pd.DataFrame, program: Program) -> list[str]:
    """How many have no KPI before."""
    if "before" not in frame:
        return []
    frame = frame[frame["two_arms"] == 0]
    without, units = int(frame["before"].isna().sum()), program.design.units
    if not without:
        return []
    minimum = program.analysis.minimum_group_size
    count = f"fewer than {minimum} {units}"
    if minimum <= without <= len(frame) - minimum:
        count = f"{without:,} of {len(frame):,} {units} ({without / len(frame):.0%})"
    return [
        f"{program.kpi.label} before is missing for {count}; they stay in, with its mean"
        + (" and a mark of their own" if _marked(frame, program) else "")
    ]


def _marked(frame: pd.DataFrame, program: Program) -> bool:
    """Whether every arm has a minimum group with, and one without, the KPI before."""
    rows = frame[frame["outcome"].notna() & (frame["two_arms"] == 0)]
    arm = rows["variant"] if "variant" in rows else rows["arm"]
    counts = pd.crosstab(arm, rows["before"].isna()).reindex(columns=[False, True], fill_value=0)
    return bool(counts.to_numpy().min() >= program.analysis.minimum_group_size)


def earlier(first: pd.Series, then: pd.Series) -> pd.Series:
    """Where ``first`` lies before ``then``: by day if either column has days only, else by time; never where missing."""
    if any((times.dropna().dt.normalize() == times.dropna()).all() for times in (first, then)):
        first, then = first.dt.normalize(), then.dt.normalize()
    return first < then


def _add_dates(raw: pd.DataFrame, frame: pd.DataFrame, program: Program, faults: Faults) -> None:
    """Add the dates; note zones on some only, and a KPI that was measured before its unit was assigned."""
    columns = program.design.columns
    named = {role: str(getattr(columns, role)) for role in DATES if getattr(columns, role) is not None}
    read = {role: _dates(raw, name, faults) for role, name in named.items()}
    for role, (dates, _) in read.items():
        frame[role] = dates
    for one, other in itertools.pairwise(named):
        if read[one][1] != read[other][1]:
            with_zone, without = (one, other) if read[one][1] else (other, one)
            found = f"times with a time zone, and {named[without]} without"
            hint = "Convert them alike with data.query, such as column::timestamp::date."
            faults.add(named[with_zone], found, "all times with a zone, or none", hint)
    if "measured_on" in named and "assigned_on" in named:
        known = frame["outcome"].notna() & (frame["two_arms"] == 0)
        early = int((earlier(frame["measured_on"], frame["assigned_on"]) & known).sum())
        if early:
            faults.add(
                named["measured_on"],
                f"a KPI measured before assignment for {early:,} of {int(known.sum()):,} {program.design.units}",
                f"dates from {named['assigned_on']} on",
                "Assignment after the outcome is no experiment: look for columns that were swapped, or an extract "
                "of the KPI that is too old; leave such rows out with data.query only if you know why.",
            )


def _dates(raw: pd.DataFrame, column: str, faults: Faults) -> tuple[pd.Series, bool]:
    """Dates or times without a zone (in UTC if they had one), and whether they had one."""
    values, nothing = raw[column], pd.Series(pd.NaT, index=raw.index, dtype="datetime64[us]")
    if values.isna().all():
        faults.add(column, "no date at all", "dates in at least some rows")
        return nothing, False
    if pd.api.types.is_datetime64_any_dtype(values):
        has_zone = getattr(values.dtype, "tz", None) is not None
        return (values.dt.tz_convert("UTC").dt.tz_localize(None) if has_zone else values), has_zone
    if pd.api.types.is_numeric_dtype(values):
        faults.add(column, f"numbers such as {values.dropna().iloc[0]}", "ISO dates, such as 2026-03-31")
        return nothing, False
    text = values.astype("string").str.strip()
    zoned = text.str.contains(ZONE, regex=True).fillna(False)
    found = pd.to_datetime(text, errors="coerce", format="ISO8601", utc=True).dt.tz_localize(None)
    bad = text.notna() & found.isna()
    if bad.any():
        faults.add(
            column,
            f"no date in {int(bad.sum()):,} rows, such as {shorten(str(text[bad].iloc[0]), 30)}",
            "ISO dates, such as 2026-03-31, or times, such as 2026-03-31 14:05:00",
            "If the text means missing, name it in data.missing_values.",
        )
    elif zoned.any() and not zoned[text.notna()].all():
        faults.add(
            column, "times with a time zone in some rows only", "all times with a zone, or none of them"
        )
    return found, bool(zoned.any())
