"""Raw table -> checked frame: the data contract of a program file, every breach reported at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ldlab.data.experiment import add_experiment, before_covariates, before_notes, one_row_per_unit
from ldlab.data.panel import Panel, panel_frame
from ldlab.data.read import source_name
from ldlab.data.values import (
    Faults,
    as_text,
    binary_arm,
    code_text,
    codes_of,
    examples,
    numeric,
    unique,
    varies,
)
from ldlab.program import Program, did_you_mean
from ldlab.program.sections import Kpi

MOST_LEVELS = 30
CANONICAL = {
    "unit",
    "arm",
    "treated",
    "outcome",
    "cluster",
    "segment",
    "count",
    "exposure",
    "period",
    "start",
    "variant",
    "censored",
    "team",
    "placebo_group",
    "manipulation",
    *("before", "raw", "stratum", "dose", "assigned_on", "exposed_on", "measured_on", "two_arms"),
}


@dataclass(frozen=True)
class Checked:
    """A table that holds the contract.

    Attributes
    ----------
    frame
        Canonical columns (see :class:`ldlab.Study`), rows without a KPI among them.
    covariates
        Names of the numeric covariate columns.
    periods
        The panel's periods in order; empty for a cross-section.
    left_out
        Why rows were left out, and how many.
    notes
        What a reader should know of a panel's periods and starts.
    """

    frame: pd.DataFrame
    covariates: tuple[str, ...]
    periods: tuple[Any, ...] = ()
    left_out: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()


def checked_frame(raw: pd.DataFrame, program: Program) -> Checked:
    """Hold the raw table against the program file.

    Raises
    ------
    InputError
        With every breach that can be seen at once.
    """
    faults = Faults(source_name(program))
    columns_exist(raw, program, faults)
    faults.stop_if_any()
    if raw.empty:
        faults.add("data", "no rows", "at least one row for each unit")
        faults.stop_if_any()
    columns = program.design.columns
    frame = pd.DataFrame({"unit": _identifiers(raw, columns.unit, faults)}, index=raw.index)
    frame["outcome"] = outcome_of(raw, program, frame, faults)
    if columns.cluster is not None:
        frame["cluster"] = _clusters(raw, columns.cluster, faults)
    if columns.segment is not None:
        frame["segment"] = as_text(raw[columns.segment]).fillna("not recorded")
    panel = Panel(frame, (), [], [])
    if program.is_panel:
        panel = panel_frame(raw, frame, pd.factorize(frame["unit"])[0], program, faults)
    else:
        both = columns.assignment is not None and columns.treatment is not None
        frame["arm"] = binary_arm(raw, columns.assignment or str(columns.treatment), program, faults)
        frame["treated"] = binary_arm(raw, str(columns.treatment), program, faults) if both else frame["arm"]
        _add_design_columns(raw, frame, program, faults)
        left_out: list[tuple[str, int]] = []
        if program.design.kind == "randomised":
            frame = one_row_per_unit(frame)
            add_experiment(raw.loc[frame.index], frame, program, faults)
            twice = int(frame["two_arms"].sum())
            left_out = [(f"{program.design.units} found in more than one arm", twice)] if twice else []
            if twice == len(frame):
                arm = str(columns.assignment or columns.treatment)
                found = f"every {program.design.unit} in more than one arm"
                hint = "Look for a table that has a row for each arm, and for an id that is not the unit's."
                faults.add(arm, found, "each in one arm", hint)
                faults.stop_if_any()
        unique(frame, ["unit"], [columns.unit], faults)
        panel = Panel(frame, (), left_out, before_notes(frame, program))
    faults.stop_if_any()
    covariates = _add_covariates(raw, panel.frame, program, faults)
    if "before" in panel.frame:
        covariates += before_covariates(panel.frame, program)
    faults.stop_if_any()
    return Checked(panel.frame, covariates, panel.periods, tuple(panel.left_out), tuple(panel.notes))


def columns_exist(raw: pd.DataFrame, program: Program, faults: Faults) -> None:
    """Note every column that the program file names and the table does not have."""
    columns = program.design.columns
    named: list[tuple[str, str | None]] = [
        ("kpi.column", program.kpi.column),
        ("kpi.exposure_column", program.kpi.exposure_column),
        *(
            (f"design.columns.{role}", getattr(columns, role))
            for role in (
                *("unit", "treatment", "assignment", "period", "start", "cluster", "segment"),
                *("team", "placebo_group", "stratum", "assigned_on", "exposed_on", "measured_on", "dose"),
            )
        ),
        *(("design.columns.exploratory_segments", name) for name in columns.exploratory_segments),
        ("kpi.before_column", program.kpi.before_column),
        *(
            (f"{section}.{place}.{role}", getattr(kpi, role))
            for section in ("secondary_kpis", "guard_rails")
            for place, kpi in enumerate(getattr(program, section))
            for role in ("column", "exposure_column", "before_column")
        ),
        *(("design.columns.covariates", name) for name in columns.covariates),
        ("kpi.censored_column", program.kpi.censored_column),
        *(("design.negative_controls", control.column) for control in program.design.negative_controls),
    ]
    if program.design.manipulation_check is not None:
        named.append(("design.manipulation_check.column", program.design.manipulation_check.column))
    for role, name in named:
        if name is not None and name not in raw.columns:
            faults.add(
                role, f"no column '{name}'", "a column of the data", did_you_mean(name, map(str, raw.columns))
            )


def _identifiers(raw: pd.DataFrame, column: str, faults: Faults) -> pd.Series:
    units = as_text(raw[column])
    missing = int(units.isna().sum())
    if missing:
        faults.add(column, f"{missing} rows without a unit", "a unit in every row")
    return units


def _clusters(raw: pd.DataFrame, column: str, faults: Faults) -> pd.Series:
    clusters = as_text(raw[column])
    missing = int(clusters.isna().sum())
    if missing:
        faults.add(column, f"{missing} rows without a cluster", "a cluster in every row")
    elif clusters.nunique() < 2:
        faults.add(
            column,
            "one cluster",
            "at least two clusters",
            "Leave columns.cluster out if nothing is clustered.",
        )
    return clusters


def outcome_of(
    raw: pd.DataFrame,
    program: Program,
    frame: pd.DataFrame,
    faults: Faults,
    *,
    may_be_constant: bool = False,
) -> pd.Series:
    """The KPI in effect units; a rate's parts are added to ``frame``."""
    kpi = program.kpi
    values = numeric(raw, kpi.column, faults)
    seen = values.dropna()
    if not len(seen):
        if not may_be_constant and not any(fault.field == kpi.column for fault in faults.found):
            faults.add(kpi.column, "no value at all", "a KPI in at least some rows")
        return values
    if kpi.value_type == "binary":
        if not seen.isin([0, 1]).all():
            faults.add(
                kpi.column,
                f"values such as {examples(seen[~seen.isin([0, 1])])}",
                "0 and 1 for a binary KPI",
            )
        values = values * 100
    elif kpi.value_type in ("count", "rate") and ((seen < 0) | (seen % 1 != 0)).any():
        faults.add(
            kpi.column,
            f"values such as {examples(seen[(seen < 0) | (seen % 1 != 0)])}",
            "whole numbers from 0 up",
        )
    elif kpi.value_type == "ordinal" and (seen % 1 != 0).any():
        faults.add(
            kpi.column,
            f"values such as {examples(seen[seen % 1 != 0])}",
            "whole numbers, one for each category",
        )
    elif kpi.value_type == "duration" and (seen < 0).any():
        faults.add(kpi.column, f"{int((seen < 0).sum())} negative durations", "durations from 0 up")
    outside = seen[
        (seen < (-np.inf if kpi.lowest is None else kpi.lowest))
        | (seen > (np.inf if kpi.highest is None else kpi.highest))
    ]
    if len(outside):
        faults.add(kpi.column, f"values such as {examples(outside)}", f"values {_bounds(kpi)}")
    if kpi.scale == "log":
        if (seen <= 0).any():
            faults.add(
                kpi.column, f"{int((seen <= 0).sum())} values of 0 or less", "values above 0 for scale: log"
            )
        values = np.log(values.where(values > 0))
    if kpi.exposure_column is not None:
        exposure = numeric(raw, kpi.exposure_column, faults)
        bad = int((exposure <= 0).sum())
        if bad:
            faults.add(kpi.exposure_column, f"{bad} exposures of 0 or less", "exposures above 0")
        frame["count"], frame["exposure"] = values, exposure
        values = values / exposure.where(exposure > 0)
    if not may_be_constant and not varies(values):
        faults.add(kpi.column, f"the one value {seen.iloc[0]:g} in every row", "a KPI that varies")
    return values


def _bounds(kpi: Kpi) -> str:
    """'from 1 to 5', as kpi.lowest and kpi.highest say."""
    low = "" if kpi.lowest is None else f"from {kpi.lowest:g} up"
    high = "" if kpi.highest is None else f"up to {kpi.highest:g}"
    return f"from {kpi.lowest:g} to {kpi.highest:g}" if low and high else low or high


def _add_design_columns(raw: pd.DataFrame, frame: pd.DataFrame, program: Program, faults: Faults) -> None:
    """Arms by name, whether a duration was still running, and negative controls, where the program names them."""
    design, kpi = program.design, program.kpi
    if design.treated_values:
        spelt = {code_text(code): str(code) for code in (*design.treated_values, design.control_value)}
        frame["variant"] = codes_of(raw[str(design.columns.treatment)]).map(spelt)
    if kpi.censored_column is not None:
        flag = numeric(raw, kpi.censored_column, faults)
        if not flag.isin([0, 1]).all():
            faults.add(
                kpi.censored_column, "values other than 0 and 1", "1 where still running, 0 where ended"
            )
        frame["censored"] = flag
    for control in design.negative_controls:
        values = numeric(raw, control.column, faults)
        if not varies(values):
            faults.add(control.column, "one value in every row", "a negative control that varies")
        frame[f"negative: {control.column}"] = values


def _add_covariates(
    raw: pd.DataFrame, frame: pd.DataFrame, program: Program, faults: Faults
) -> tuple[str, ...]:
    names: list[str] = []
    named = list(program.design.columns.covariates)
    rows = raw[named] if len(raw) == len(frame) else raw.loc[frame.index, named]
    for column in named:
        values = rows[column]
        if pd.api.types.is_bool_dtype(values) or pd.api.types.is_numeric_dtype(values):
            spread = {column: numeric(rows, column, faults)}
        else:
            spread = _indicators(values, column, faults)
        for name, numbers in spread.items():
            safe = f"{name} (covariate)" if name in CANONICAL or name in frame.columns else name
            if not varies(numbers):
                faults.add(column, "one value in every row", "a covariate that varies")
            elif not program.is_panel and numbers.notna().all() and _equal_or_opposite(numbers, frame["arm"]):
                faults.add(column, "the same as the treatment column", "a covariate measured before training")
            frame[safe] = numbers.astype(float)
            names.append(safe)
    return tuple(names)


def _equal_or_opposite(numbers: pd.Series, arm: pd.Series) -> bool:
    return bool(numbers.groupby(arm).nunique().eq(1).all()) and numbers.nunique() == 2


def _indicators(values: pd.Series, column: str, faults: Faults) -> dict[str, pd.Series]:
    text = values.astype("string")
    levels = text.value_counts().index.tolist()
    if len(levels) > MOST_LEVELS:
        faults.add(
            column,
            f"text with {len(levels)} different values",
            f"numbers, or at most {MOST_LEVELS} categories",
        )
        return {}
    if len(levels) < 2:
        faults.add(column, "one value in every row", "a covariate that varies")
    return {f"{column}: {level}": (text == level).astype(float).where(text.notna()) for level in levels[1:]}
