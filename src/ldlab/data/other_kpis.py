"""The same experiment asked about its secondary KPIs and guard-rails: arms and covariates are read once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pandas as pd

from ldlab.data.contract import Checked, outcome_of
from ldlab.data.experiment import add_before, before_covariates, before_notes, winsorise
from ldlab.data.limits import arms_can_be_shown, percent_has_a_base, target_is_possible, variants_can_be_shown
from ldlab.data.lots import LOOK_FOR_VALUES, one_value_arm
from ldlab.data.read import source_name
from ldlab.data.values import Faults, varies
from ldlab.program import InputError, Program, Study
from ldlab.program.sections import Kpi
from ldlab.program.study import missing_by_arm

OF_ONE_KPI = ("outcome", "raw", "count", "exposure", "before", "censored")
AMOUNT = {"secondary_kpis": "smallest_effect_worth_having", "guard_rails": "largest_acceptable_harm"}


def other_studies(
    raw: pd.DataFrame,
    checked: Checked,
    primary: Study,
    section: Literal["secondary_kpis", "guard_rails"],
    baseline_of: Callable[[pd.DataFrame, Program], float],
) -> tuple[tuple[Study, ...], tuple[str, ...]]:
    """The study asked about each KPI of a section of the program file.

    Parameters
    ----------
    raw, checked
        The table as it was read, and the primary KPI's checked frame of it.
    primary
        The study of the primary KPI.
    baseline_of
        Gives the mean that percentages refer to, from a frame.

    Returns
    -------
    studies, notes
        A KPI that says nothing (one value only, or missing in one arm) has no study but a note: it must not stop the
        primary one.

    Raises
    ------
    InputError
        With the KPI's place in the program file, if its column breaks the contract.
    """
    studies, notes = [], []
    rows = raw.loc[checked.frame.index]
    for place, kpi in enumerate(getattr(primary.program, section)):
        program = primary.program.about(kpi)
        where = f"{section}.{place}"
        try:
            frame, covariates, said = _checked(rows, checked, primary, program)
        except InputError as error:
            raise _placed(error, program.kpi, where) from None
        seen = _seen(frame)
        silent = _says_nothing(seen, frame, program)
        if silent:
            notes.append(f"{program.kpi.label} is not evaluated: {silent}")
            continue
        study = replace(
            primary,
            program=program,
            frame=seen,
            covariates=covariates,
            baseline=baseline_of(seen, program),
            missing=missing_by_arm(frame[frame["two_arms"] == 0], covariates),
            notes=tuple(said),
            assigned=frame.reset_index(drop=True),
            secondary=(),
            guard_rails=(),
        )
        try:
            _limits(study, section)
        except InputError as error:
            raise _placed(error, program.kpi, where, AMOUNT[section]) from None
        studies.append(study)
    return tuple(studies), tuple(notes)


def _checked(
    rows: pd.DataFrame, checked: Checked, primary: Study, program: Program
) -> tuple[pd.DataFrame, tuple[str, ...], list[str]]:
    """The frame with the other KPI in the place of the primary one, its covariates and what to say of it."""
    faults, label = Faults(source_name(program)), primary.program.kpi.label
    own = (*OF_ONE_KPI, f"{label} before", f"no {label} before")
    frame = checked.frame.drop(columns=[name for name in own if name in checked.frame])
    covariates = tuple(name for name in checked.covariates if name in frame)
    frame["outcome"] = outcome_of(rows, program, frame, faults, may_be_constant=True)
    add_before(rows, frame, program, faults)
    winsorise(frame, program)
    faults.stop_if_any()
    if "before" in frame:
        covariates += before_covariates(frame, program)
    return frame, covariates, before_notes(frame, program)


def _seen(frame: pd.DataFrame) -> pd.DataFrame:
    kept = frame[frame["outcome"].notna() & (frame["two_arms"] == 0)]
    return kept.drop(columns="two_arms").reset_index(drop=True)


def _says_nothing(seen: pd.DataFrame, frame: pd.DataFrame, program: Program) -> str:
    """Why nothing can be estimated on this KPI; empty where something can."""
    try:
        counts = seen["arm"].value_counts()
        arms_can_be_shown({arm: int(counts.get(arm, 0)) for arm in (1, 0)}, [1, 0], program)
        variants_can_be_shown(frame[frame["two_arms"] == 0], program)
    except InputError:
        minimum, units = program.analysis.minimum_group_size, program.design.units
        return f"it is known for fewer than {minimum} {units} of an arm"
    if not varies(seen["outcome"]):
        return "it has the same value in every row"
    if seen.groupby("arm")["outcome"].nunique().max() == 1:
        return "it has one value in each arm, as if it were the treatment under another name"
    if arm := one_value_arm(seen, program):
        return f"it has one value for everybody in arm {arm}. {LOOK_FOR_VALUES}"
    return ""


def _limits(study: Study, section: str) -> None:
    percent_has_a_base(study.baseline, float(study.frame["outcome"].std()), len(study.frame), study.program)
    if section == "secondary_kpis":
        target_is_possible(study)


def _placed(error: InputError, kpi: Kpi, where: str, amount: str = "") -> InputError:
    """The error with the KPI's place in the program file as its fields."""
    roles = {getattr(kpi, role): role for role in ("column", "exposure_column", "before_column")}
    fields = {column: f"{where}.{role} ({column})" for column, role in roles.items() if column is not None}
    fields["kpi.target"] = f"{where}.{amount}"
    own = f"Give {amount} in {kpi.unit}."
    return InputError(
        replace(
            fault,
            field=fields.get(fault.field, f"{where}: {fault.field}"),
            hint=own if fault.field == "kpi.target" and fault.hint else fault.hint,
        )
        for fault in error.faults
    )
