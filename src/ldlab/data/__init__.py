"""Program -> Study: the data read by DuckDB and held against the program file before anything is estimated."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd

from ldlab.data.contract import Faults, checked_frame
from ldlab.data.read import read_table, source_name
from ldlab.program import Program, Study

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
    return Study(
        program=program,
        frame=seen,
        covariates=covariates,
        baseline=_baseline(seen, covariates, program),
        missing=missing,
        left_out=tuple(left_out),
        periods=periods,
        cut_off=cut_off,
        data_sha256=sha256,
    )


def identifiers(program: Program) -> frozenset[str]:
    """Every unit and cluster id in a program's data, as text: what no published file may hold."""
    raw, _ = read_table(program)
    columns = program.design.columns
    named = [name for name in (columns.unit, columns.cluster) if name is not None and name in raw.columns]
    return frozenset(str(value) for name in named for value in raw[name].dropna().unique())


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
