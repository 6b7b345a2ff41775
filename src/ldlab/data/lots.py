"""What cannot be compared however lots were drawn: units in all arms, one value in an arm, strata and clusters of one arm."""

from __future__ import annotations

import pandas as pd

from ldlab.data.read import source_name
from ldlab.data.values import Faults
from ldlab.program import Program

BY_CHANCE = 0.001
FEWEST_PAIRS = 3
LOOK_FOR_VALUES = (
    "Look for a KPI that was recorded only in another arm, and for missing values that were written as 0."
)
DISCRETE = ("binary", "count", "rate")


def lots_can_be_followed(frame: pd.DataFrame, program: Program) -> None:
    """Refuse arms that share no stratum, clusters across strata, and an arm that is one cluster; rows with a KPI only."""
    lead, columns = program.agreement.lead_arm, program.design.columns
    if lead is not None:
        frame = frame[frame["variant"].isin([str(lead), str(program.design.control_value)])]
    faults = Faults(source_name(program))
    group = "cluster" if "cluster" in frame else "unit"
    in_each_arm = frame.groupby("arm")[group].nunique()
    if group == "cluster" and in_each_arm.min() < 2:
        faults.add(
            str(columns.cluster),
            "one cluster in an arm",
            "two or more clusters in each arm",
            "What the program did cannot be told from what is special about that cluster.",
        )
    if "stratum" in frame:
        _strata(frame, group, program, faults)
    faults.stop_if_any()


def _strata(frame: pd.DataFrame, group: str, program: Program, faults: Faults) -> None:
    columns = program.design.columns
    if group == "cluster" and frame.groupby("cluster")["stratum"].nunique().max() > 1:
        faults.add(
            str(columns.stratum),
            f"clusters ({columns.cluster}) spread over several strata",
            "each cluster in one stratum",
            "Leave out columns.cluster where units were drawn one by one, else columns.stratum.",
        )
        return
    groups = frame.groupby(["stratum", "arm"])[group].nunique().unstack(fill_value=0).min(axis=1)
    if not (groups >= 2).any() and (groups == 1).sum() < FEWEST_PAIRS:
        faults.add(
            str(columns.stratum),
            "no stratum in which both arms can be compared"
            if groups.max() == 0
            else "too few in both arms of any stratum",
            "strata within which lots were drawn, with units of each arm",
            "Leave columns.stratum out if lots were drawn over all.",
        )


def one_value_arm(frame: pd.DataFrame, program: Program) -> str:
    """An arm in which the KPI is the same for everybody, and is so by no chance; empty where there is none.

    Kinds of number that repeat (0 and 1, counts) may do so by chance: p < .001 at the share that the value has in all.
    """
    outcome = frame["outcome"]
    arm = frame["variant"] if "variant" in frame else frame["arm"].map({1: "trained", 0: "comparison"})
    for name, of_arm in outcome.groupby(arm):
        if of_arm.nunique() > 1 or not len(of_arm):
            continue
        groups = frame.loc[of_arm.index, "cluster"].nunique() if "cluster" in frame else len(of_arm)
        chance = float((outcome == of_arm.iloc[0]).mean()) ** groups
        if program.kpi.value_type not in DISCRETE or chance < BY_CHANCE:
            return str(name)
    return ""
