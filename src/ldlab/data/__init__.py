"""Program -> Study: the data read by DuckDB and held against the program file before anything is estimated."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ldlab.data.contract import checked_frame
from ldlab.data.cross_products import load_cross_products
from ldlab.data.limits import (
    ARMS,
    arms_can_be_shown,
    percent_has_a_base,
    target_is_possible,
    too_early_can_be_told,
)
from ldlab.data.read import read_table, source_name
from ldlab.data.values import Faults
from ldlab.program import Program, Study

__all__ = ["identifiers", "load_cross_products", "load_study", "read_table"]


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
    _refuse_thin_data(seen, program)
    cut_off = program.data.cut_off or (periods[-1] if periods else None)
    too_early_can_be_told(cut_off, program)
    baseline = _baseline(seen, covariates, program)
    percent_has_a_base(baseline, float(seen["outcome"].std()), seen["unit"].nunique(), program)
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
    target_is_possible(study)
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
    by_arm = flags.groupby("arm")
    return by_arm.sum().assign(rows=by_arm.size()).astype(int)[["rows", "without KPI", "without covariates"]]


def _refuse_thin_data(frame: pd.DataFrame, program: Program) -> None:
    """Refuse a single arm, an arm too small to publish, a KPI that does not vary, and an empty before or after."""
    wanted = [1] if program.design.kind == "before_after" else [1, 0]
    units = frame.groupby("arm")["unit"].nunique()
    arms_can_be_shown({arm: int(units.get(arm, 0)) for arm in wanted}, wanted, program)
    faults = Faults(source_name(program))
    if frame["outcome"].nunique() < 2:
        faults.add(program.kpi.column, "one value in every row", "a KPI that varies")
    elif not program.is_panel and frame.groupby("arm")["outcome"].nunique().max() == 1:
        hint = "It may be the treatment under another name."
        faults.add(program.kpi.column, "one value in each arm", "a KPI that varies within the arms", hint)
    if program.is_panel:
        first = frame["start"].min()
        cells = frame.groupby(["arm", frame["period"] >= first]).size()
        for arm in wanted:
            for after in (False, True):
                if (arm, after) not in cells.index:
                    when = "after" if after else "before"
                    faults.add(
                        program.kpi.column,
                        f"no {ARMS[arm]} rows {when} the first start",
                        "rows before and after in each arm",
                    )
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
