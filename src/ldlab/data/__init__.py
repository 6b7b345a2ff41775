"""Program -> Study: the data read by DuckDB and held against the program file before anything is estimated."""

from __future__ import annotations

import datetime as dt
import math

import numpy as np
import pandas as pd

from ldlab.data.contract import checked_frame
from ldlab.data.read import read_table, source_name
from ldlab.data.values import Faults
from ldlab.program import PERCENT_OF_BASELINE, Program, Study

__all__ = ["identifiers", "load_study", "read_table"]


def load_study(program: Program) -> Study:
    """Read and check a program's data.

    Raises
    ------
    InputError
        With every breach of the data contract: the column, what was found, what was expected.
    """
    raw, sha256 = read_table(program)
    frame, covariates, periods, left_out = checked_frame(raw, program)
    missing = _missing(frame, covariates)
    seen = frame[frame["outcome"].notna()].reset_index(drop=True)
    _arms_can_be_shown(seen, program)
    cut_off = program.data.cut_off or (periods[-1] if periods else None)
    _too_early_can_be_told(cut_off, program)
    baseline = _baseline(seen, covariates, program)
    _percent_has_a_base(baseline, seen, program)
    study = Study(
        program=program,
        frame=seen,
        covariates=covariates,
        baseline=baseline,
        missing=missing,
        left_out=tuple(left_out),
        periods=periods,
        cut_off=cut_off,
        data_sha256=sha256,
    )
    _target_is_possible(study)
    return study


def identifiers(program: Program) -> frozenset[str]:
    """What no published file may hold, as text: every unit's id, and the ids of clusters of few units.

    A cluster of at least the minimum group size is no person, and its name may be an ordinary word; a segment's
    name is shown on purpose.
    """
    raw, _ = read_table(program)
    columns = program.design.columns
    ids = {str(value) for value in raw[columns.unit].dropna().unique()}
    if columns.cluster is None or columns.cluster == columns.segment:
        return frozenset(ids)
    sizes = raw.groupby(columns.cluster)[columns.unit].nunique()
    small = sizes.index[sizes < program.analysis.minimum_group_size]
    return frozenset(ids | {str(value) for value in small})


def _missing(frame: pd.DataFrame, covariates: tuple[str, ...]) -> pd.DataFrame:
    incomplete = (
        frame[list(covariates)].isna().any(axis=1) if covariates else pd.Series(False, index=frame.index)
    )
    flags = pd.DataFrame(
        {"arm": frame["arm"], "without KPI": frame["outcome"].isna(), "without covariates": incomplete}
    )
    rows = flags.groupby("arm").agg({"without KPI": ["size", "sum"], "without covariates": "sum"})
    rows.columns = pd.Index(["rows", "without KPI", "without covariates"])
    return rows.astype(int)


def _arms_can_be_shown(frame: pd.DataFrame, program: Program) -> None:
    """Refuse a single arm, an arm too small to publish, and an empty before or after."""
    faults, minimum = Faults(source_name(program)), program.analysis.minimum_group_size
    names = {1: "trained", 0: "comparison"}
    wanted = [1] if program.design.kind == "before_after" else [1, 0]
    column = (
        program.design.columns.start or program.design.columns.assignment or program.design.columns.treatment
    )
    units = frame.groupby("arm")["unit"].nunique()
    for arm in wanted:
        count = int(units.get(arm, 0))
        if count == 0:
            faults.add(
                str(column),
                f"no {names[arm]} {program.design.unit} with a KPI",
                "units in both arms" if len(wanted) > 1 else "trained units",
                "A program that reached everybody has no comparison group: use design before_after."
                if arm == 0
                else "",
            )
        elif count < minimum:
            faults.add(
                str(column),
                f"fewer than {minimum} {names[arm]} units with a KPI",
                f"at least analysis.minimum_group_size = {minimum} in each arm",
                "Smaller groups cannot be published.",
            )
    faults.stop_if_any()
    if frame["outcome"].nunique() < 2:
        faults.add(program.kpi.column, "one value in every row", "a KPI that varies")
    if program.is_panel:
        first = frame["start"].min()
        cells = frame.groupby(["arm", frame["period"] >= first]).size()
        for arm in wanted:
            for after in (False, True):
                if (arm, after) not in cells.index:
                    when = "after" if after else "before"
                    faults.add(
                        program.kpi.column,
                        f"no {names[arm]} rows {when} the first start",
                        "rows before and after in each arm",
                    )
    faults.stop_if_any()


def _percent_has_a_base(baseline: float, frame: pd.DataFrame, program: Program) -> None:
    """Refuse 'percent of baseline' where the baseline is not clearly above zero."""
    kpi, faults = program.kpi, Faults(source_name(program))
    error = float(frame["outcome"].std()) / math.sqrt(max(frame["unit"].nunique() / 2, 1))
    in_percent = PERCENT_OF_BASELINE in (kpi.target.unit, kpi.smallest_effect_worth_having.unit)
    if in_percent and kpi.scale != "log" and not baseline > 2 * error:
        found = f"a baseline of {baseline:.3g} {kpi.unit}, not clearly above zero"
        hint = f"Give target and smallest effect in {kpi.unit}."
        faults.add("kpi.target", found, "a baseline that a percentage can refer to", hint)
    faults.stop_if_any()


def _target_is_possible(study: Study) -> None:
    """Refuse a target that would take the KPI beyond what it can be."""
    kpi, faults = study.program.kpi, Faults(source_name(study.program))
    if kpi.scale == "log":
        return
    floor = 0.0 if kpi.value_type in ("binary", "count", "rate", "duration") else None
    lowest = kpi.lowest if kpi.lowest is not None else floor
    highest = kpi.highest if kpi.highest is not None else (100.0 if kpi.value_type == "binary" else None)
    reached = study.baseline + study.target
    if (lowest is not None and reached < lowest) or (highest is not None and reached > highest):
        bounds = " and ".join(
            f"at {word} {bound:g}"
            for word, bound in (("least", lowest), ("most", highest))
            if bound is not None
        )
        faults.add(
            "kpi.target",
            f"{kpi.target.value:g} {kpi.target.unit}, which from {study.baseline:.3g} leads to {reached:.3g}",
            f"a target that the KPI can reach: it is {bounds}",
        )
    faults.stop_if_any()


def _too_early_can_be_told(cut_off: dt.date | int | None, program: Program) -> None:
    early, faults = program.agreement.too_early_before, Faults(source_name(program))
    if early is None or type(early) is type(cut_off):
        return
    found = "no data.cut_off" if cut_off is None else f"data up to {cut_off}"
    hint = "Give data.cut_off, the day up to which the data are complete."
    faults.add("agreement.too_early_before", f"{early}, and {found}", "something to compare it with", hint)
    faults.stop_if_any()


def _baseline(frame: pd.DataFrame, covariates: tuple[str, ...], program: Program) -> float:
    """The KPI mean that 'percent of baseline' refers to; see :class:`ldlab.Study`."""
    outcome = np.exp(frame["outcome"]) if program.kpi.scale == "log" else frame["outcome"]
    if program.is_panel:
        before = (frame["arm"] == 1) & (frame["treated"] == 0)
        return float(outcome[before].mean())
    untrained = frame["arm"] == 0
    if program.design.kind == "observational" and covariates:
        complete = frame[list(covariates)].notna().all(axis=1)
        design = np.column_stack([np.ones(len(frame)), frame[list(covariates)].to_numpy()])
        fit = (untrained & complete).to_numpy()
        slopes = np.linalg.lstsq(design[fit], outcome.to_numpy()[fit], rcond=None)[0]
        trained = (~untrained & complete).to_numpy()
        return float((design[trained] @ slopes).mean())
    return float(outcome[untrained].mean())
