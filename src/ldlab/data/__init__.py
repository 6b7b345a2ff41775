"""Program -> Study: the data read by DuckDB and held against the program file before anything is estimated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from ldlab.data.audit import panel_audit, panel_notes
from ldlab.data.contract import Checked, checked_frame
from ldlab.data.cross_products import load_cross_products
from ldlab.data.experiment_sums import load_experiment
from ldlab.data.limits import (
    arms_can_be_shown,
    looks_can_be_matched,
    panel_can_be_read,
    percent_has_a_base,
    target_is_possible,
    too_early_can_be_told,
    variants_can_be_shown,
)
from ldlab.data.lots import DISCRETE, LOOK_FOR_VALUES, lots_can_be_followed, one_value_arm
from ldlab.data.other_kpis import other_studies
from ldlab.data.read import read_table, select, source_name
from ldlab.data.sums import quoted
from ldlab.data.values import Faults, as_text, varies
from ldlab.program import Program, Study
from ldlab.program.study import missing_by_arm

__all__ = [
    "identifiers",
    "load_cross_products",
    "load_experiment",
    "load_study",
    "panel_audit",
    "panel_notes",
    "read_table",
]


def load_study(program: Program) -> Study:
    """Read and check a program's data.

    Raises
    ------
    InputError
        With every breach of the data contract: the column, what was found, what was expected.
    """
    raw, sha256 = read_table(program)
    checked = checked_frame(raw, program)
    study = _study(checked, program, sha256)
    if program.design.kind != "randomised":
        return study
    looks_can_be_matched(study)
    secondary, guard_rails = (
        other_studies(raw, checked, study, section, lambda seen, about: _baseline(seen, (), about))
        for section in ("secondary_kpis", "guard_rails")
    )
    notes = (*study.notes, *secondary[1], *guard_rails[1])
    return replace(study, secondary=secondary[0], guard_rails=guard_rails[0], notes=notes)


def _study(checked: Checked, program: Program, sha256: str) -> Study:
    """The table held against what the program says of its primary KPI."""
    frame, covariates, periods = checked.frame, checked.covariates, checked.periods
    is_experiment = program.design.kind == "randomised"
    in_one_arm = frame[frame["two_arms"] == 0] if is_experiment else frame
    missing = _missing(in_one_arm, covariates, is_panel=program.is_panel)
    seen = in_one_arm[in_one_arm["outcome"].notna()].drop(columns="two_arms", errors="ignore")
    seen = seen.reset_index(drop=True)
    _refuse_thin_data(seen, in_one_arm, program)
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
        left_out=checked.left_out,
        periods=periods,
        cut_off=cut_off,
        data_sha256=sha256,
        audit=panel_audit(frame, program, periods) if program.is_panel else None,
        notes=(*checked.notes, *panel_notes(frame, program, periods)) if program.is_panel else checked.notes,
        assigned=frame.reset_index(drop=True) if is_experiment else None,
    )
    target_is_possible(study)
    return study


def identifiers(program: Program) -> frozenset[str]:
    """What no published file may hold, as text: every unit's id, and the ids of clusters, teams and strata of few units.

    A cluster of at least the minimum group size is no person, and its name may be an ordinary word; a segment's
    name is shown on purpose.
    """
    columns, minimum = program.design.columns, program.analysis.minimum_group_size
    groups = sorted({columns.cluster, columns.team, columns.stratum} - {None, columns.segment}, key=str)
    listed = ", ".join(quoted(str(name)) for name in (columns.unit, *groups))
    rows = select(program, f"DISTINCT {listed}").set_axis(["unit", *groups], axis=1)
    found = [rows["unit"]]
    for group in groups:
        sizes = rows.groupby(group)["unit"].nunique()
        found.append(sizes.index[sizes < minimum].to_series())
    return frozenset(text for ids in found for text in as_text(ids.dropna()))


def _missing(frame: pd.DataFrame, covariates: tuple[str, ...], *, is_panel: bool) -> pd.DataFrame:
    """By arm: rows, and those with something missing; in panels also units, and clusters' shares of missing KPI."""
    rows = missing_by_arm(frame, covariates)
    return rows.join(_missing_units(frame)) if is_panel else rows


def _missing_units(frame: pd.DataFrame) -> pd.DataFrame:
    """By arm: units, those without any KPI, and number, mean and sd of the clusters' (or units') missing shares."""
    unit = pd.factorize(frame["unit"])[0]
    without = frame["outcome"].isna()
    never_seen = without.groupby([frame["arm"], unit]).min().groupby("arm")
    group = pd.factorize(frame["cluster"])[0] if "cluster" in frame else unit
    shares = without.groupby([frame["arm"], group]).mean().groupby("arm")
    return pd.DataFrame(
        {
            "units": never_seen.size(),
            "units without KPI": never_seen.sum().astype(int),
            "clusters": shares.size(),
            "mean share": shares.mean(),
            "sd of shares": shares.std(),
        }
    )


def _refuse_thin_data(frame: pd.DataFrame, assigned: pd.DataFrame, program: Program) -> None:
    """Refuse a single arm, an arm too small to publish, and a KPI that does not vary; ``frame`` has the KPI."""
    if program.is_panel:
        panel_can_be_read(frame, program)
        return
    counts = [rows["arm"].value_counts() for rows in (frame, assigned)]
    units, all_units = ({arm: int(count.get(arm, 0)) for arm in (1, 0)} for count in counts)
    arms_can_be_shown(units, [1, 0], program, all_units)
    variants_can_be_shown(assigned, program)
    faults = Faults(source_name(program))
    if not varies(frame["outcome"]):
        clipped = "" if program.kpi.winsorise is None else "kpi.winsorise clips it to one value."
        faults.add(program.kpi.column, "one value in every row", "a KPI that varies", clipped)
    elif frame.groupby("arm")["outcome"].nunique().max() == 1:
        hint = "It may be the treatment under another name."
        faults.add(program.kpi.column, "one value in each arm", "a KPI that varies within the arms", hint)
    elif program.kpi.value_type not in DISCRETE and (arm := one_value_arm(frame, program)):
        found = f"one value for everybody in arm {arm}"
        faults.add(program.kpi.column, found, "a KPI that varies within the arms", LOOK_FOR_VALUES)
    faults.stop_if_any()
    if program.design.kind == "randomised":
        lots_can_be_followed(frame, program)


def _baseline(frame: pd.DataFrame, covariates: tuple[str, ...], program: Program) -> float:
    """The KPI mean that 'percent of baseline' refers to; see :class:`ldlab.Study`."""
    outcome = np.exp(frame["outcome"]) if program.kpi.scale == "log" else frame["outcome"]
    if program.is_panel:
        before = (frame["arm"] == 1) & (frame["treated"] == 0)
        return float(outcome[before].mean())
    untrained = frame["arm"] == 0
    if program.design.kind == "randomised" and program.kpi.value_type == "rate":
        return float(frame.loc[untrained, "count"].sum() / frame.loc[untrained, "exposure"].sum())
    if program.design.kind == "observational" and covariates:
        complete = frame[list(covariates)].notna().all(axis=1)
        design = np.column_stack([np.ones(len(frame)), frame[list(covariates)].to_numpy()])
        fit = (untrained & complete).to_numpy()
        slopes = np.linalg.lstsq(design[fit], outcome.to_numpy()[fit], rcond=None)[0]
        trained = (~untrained & complete).to_numpy()
        return float((design[trained] @ slopes).mean())
    return float(outcome[untrained].mean())
