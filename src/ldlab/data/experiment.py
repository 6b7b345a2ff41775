"""What an experiment's table holds beside arms and KPI: dates, strata, doses, the KPI before, people in two arms."""

from __future__ import annotations

import pandas as pd

from ldlab.data.values import Faults, as_text, numeric
from ldlab.program import Program

DATES = ("assigned_on", "exposed_on", "measured_on")


def one_row_per_unit(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with ``two_arms`` (1 or 0); of a unit that is in several arms only the first row is kept."""
    arm = frame["variant"] if "variant" in frame else frame["arm"]
    arms = arm.groupby(frame["unit"]).nunique()
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
    for role in DATES:
        name = getattr(columns, role)
        if name is not None:
            frame[role] = _dates(raw, name, faults)
    if columns.dose is not None:
        frame["dose"] = numeric(raw, columns.dose, faults)
    _add_before(raw, frame, program, faults)
    _winsorise(frame, program)


def before_covariates(frame: pd.DataFrame, program: Program) -> tuple[str, ...]:
    """Add the KPI before, filled in by its mean, and who had none, as covariates; their names.

    Filling in with an indicator keeps everybody and needs nothing to be missing at random when lots were drawn
    (Zhao & Ding 2022, JASA 119).
    """
    before, label = frame["before"], program.kpi.label
    frame[f"{label} before"] = before.fillna(before.mean())
    if not before.isna().any():
        return (f"{label} before",)
    frame[f"no {label} before"] = before.isna().astype(float)
    return f"{label} before", f"no {label} before"


def before_notes(frame: pd.DataFrame, program: Program) -> list[str]:
    """How many have no KPI before."""
    if "before" not in frame or not frame["before"].isna().any():
        return []
    without, units = int(frame["before"].isna().sum()), program.design.units
    minimum = program.analysis.minimum_group_size
    count = f"fewer than {minimum} {units}"
    if minimum <= without <= len(frame) - minimum:
        count = f"{without:,} of {len(frame):,} {units} ({without / len(frame):.0%})"
    return [
        f"{program.kpi.label} before is missing for {count}; they stay in, with its mean and a mark of their own"
    ]


def _add_before(raw: pd.DataFrame, frame: pd.DataFrame, program: Program, faults: Faults) -> None:
    kpi = program.kpi
    if kpi.before_column is None:
        return
    before = numeric(raw, kpi.before_column, faults)
    if before.notna().sum() < 2 or before.nunique() < 2:
        faults.add(
            kpi.before_column, "one value or none", "the KPI before assignment, which varies between units"
        )
    frame["before"] = before * 100 if kpi.value_type == "binary" else before


def _winsorise(frame: pd.DataFrame, program: Program) -> None:
    """Clip the outcome at the agreed quantiles of all arms together; ``raw`` keeps it as it was."""
    agreed = program.kpi.winsorise
    if agreed is None:
        return
    frame["raw"] = frame["outcome"]
    low, high = frame["outcome"].quantile([agreed.below, agreed.above])
    frame["outcome"] = frame["outcome"].clip(low, high)


def _dates(raw: pd.DataFrame, column: str, faults: Faults) -> pd.Series:
    values = raw[column]
    if pd.api.types.is_datetime64_any_dtype(values):
        return values
    found = pd.to_datetime(values, errors="coerce", format="ISO8601")
    bad = values.notna() & found.isna()
    if bad.any():
        faults.add(column, f"values such as {values[bad].iloc[0]!r}", "ISO dates, such as 2026-03-31")
    return found
