"""The data contract held in SQL: which columns are to be added up, and what is refused before."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ldlab.data.contract import CANONICAL, MOST_LEVELS, columns_exist, outcome_of
from ldlab.data.read import source_name
from ldlab.data.sums import Table, literal, quoted
from ldlab.data.values import Faults, binary_arm, numeric
from ldlab.program import Program

MOST_CODES = 1000  # of a treatment column; more are no codes
MOST_CLUSTERS = 20_000
COMPLETE, NO_COVARIATE, NO_KPI = 0, 1, 2


@dataclass(frozen=True)
class Columns:
    """What is to be added up, as SQL.

    Attributes
    ----------
    keys
        What groups the rows: arm, and segment and cluster where there are such.
    level, is_log
        The KPI as it is, and whether its logarithm is analysed.
    covariates, sources
        Names of the covariates, 0/1 columns for texts, and their expressions; the data's column behind each.
    has_gaps
        Whether some KPI or covariate is missing.
    """

    keys: dict[str, str]
    level: str
    is_log: bool
    covariates: dict[str, str]
    sources: tuple[str, ...]
    has_gaps: bool

    @property
    def sums(self) -> list[str]:
        """The KPI in effect units, the covariates, and after a logarithm the KPI as it is."""
        outcome, last = (f"ln({self.level})", [self.level]) if self.is_log else (self.level, [])
        return [outcome, *self.covariates.values(), *last]

    @property
    def status(self) -> str:
        """Of a row: complete, without some covariate, without KPI."""
        if not self.has_gaps:
            return str(COMPLETE)
        gap = " OR ".join(f"({sql}) IS NULL" for sql in self.covariates.values()) or "false"
        return f"CASE WHEN ({self.level}) IS NULL THEN {NO_KPI} WHEN {gap} THEN {NO_COVARIATE} ELSE {COMPLETE} END"


def checked_columns(table: Table, program: Program, *, nan: bool) -> Columns:
    """Hold a table against the program file as :func:`ldlab.load_study` does; ``nan`` where 'not a number' is missing.

    Raises
    ------
    InputError
        With every breach that can be seen at once, in the same words.
    """
    faults, columns, kpi = Faults(source_name(program)), program.design.columns, program.kpi
    columns_exist(table.head, program, faults)
    faults.stop_if_any()
    if not table.rows:
        faults.add("data", "no rows", "at least one row for each unit")
        faults.stop_if_any()
    in_every_row(table, columns.unit, "unit", "a unit", faults)
    outcome_of(telling(table, kpi.column, *within_bounds(program)), program, pd.DataFrame(), faults)
    arm = str(columns.assignment or columns.treatment)
    for column in dict.fromkeys((arm, columns.treatment or arm)):
        arm_codes(table, column, program, faults)
    if columns.cluster is not None:
        _clusters_exist(table, columns.cluster, faults)
    twice = table.repeated(columns.unit)
    if twice:
        hint = "Aggregate with data.query, or mend the extract."
        faults.add(columns.unit, f"{twice} repeated keys", f"one row for each {columns.unit}", hint)
    for control in program.design.negative_controls:
        if numeric(telling(table, control.column), control.column, faults).nunique() < 2:
            faults.add(control.column, "one value in every row", "a negative control that varies")
    faults.stop_if_any()
    covariates, sources = covariate_columns(table, program, faults, nan=nan)
    faults.stop_if_any()
    level = table.number_sql(kpi.column, nan=nan)
    counts = ", ".join(f"count({sql})" for sql in (level, *covariates.values()))
    gaps = bool((table.select(counts).to_numpy() < table.rows).any())
    found = Columns({"key_arm": quoted(arm)}, level, kpi.scale == "log", covariates, sources, gaps)
    if columns.segment is not None:
        found.keys["key_segment"] = quoted(columns.segment)
    if columns.cluster is not None and _groups_units(table, columns.cluster, found.status, faults):
        found.keys["key_cluster"] = quoted(columns.cluster)
    faults.stop_if_any()
    return found


def within_bounds(program: Program) -> tuple[float, float]:
    """Between what the KPI must lie."""
    kpi = program.kpi
    low = [-math.inf if kpi.lowest is None else kpi.lowest]
    low += [0.0] if kpi.value_type == "duration" else []
    low += [math.ulp(0.0)] if kpi.scale == "log" else []
    return max(low), math.inf if kpi.highest is None else kpi.highest


def telling(table: Table, column: str, low: float = -math.inf, high: float = math.inf) -> pd.DataFrame:
    """The values of a column that the contract could refuse, and the least and the largest of the others."""
    types, kind, number = pd.api.types, table.head[column].dtype, table.number_sql(column)
    if types.is_datetime64_any_dtype(kind) or types.is_timedelta64_dtype(kind):
        return table.head[[column]]
    ends = table.select(f"min({number}), max({number})").to_numpy(dtype=float)[0]
    if types.is_numeric_dtype(kind) and np.isfinite(ends).all() and low <= ends[0] and ends[1] <= high:
        return pd.DataFrame({column: ends})
    odd = f"isinf({number}) OR (NOT isnan({number}) AND ({number} < '{low!r}'::DOUBLE OR {number} > '{high!r}'::DOUBLE))"
    odd = f"coalesce({odd}, {quoted(column)} IS NOT NULL)"
    rows = table.select(quoted(column), f"WHERE {odd}")[column]
    ends = table.select(f"min({number}), max({number})", f"WHERE NOT ({odd} OR isnan({number}))").to_numpy(
        dtype=float
    )[0]
    others = pd.Series(ends[~np.isnan(ends)])
    return pd.DataFrame(
        {column: pd.concat([part for part in (rows, others) if len(part)] or [others], ignore_index=True)}
    )


def in_every_row(table: Table, column: str, what: str, expected: str, faults: Faults) -> None:
    """Note a fault if the column is empty somewhere."""
    missing = table.rows - table.number(f"count({quoted(column)})")
    if missing:
        faults.add(column, f"{missing} rows without a {what}", f"{expected} in every row")


def arm_codes(table: Table, column: str, program: Program, faults: Faults) -> None:
    """Note every code that belongs to no arm."""
    in_every_row(table, column, "value", "trained or not", faults)
    rest = f"WHERE {quoted(column)} IS NOT NULL ORDER BY ALL LIMIT {MOST_CODES}"
    binary_arm(table.select(f"DISTINCT {quoted(column)}", rest), column, program, faults)


def _clusters_exist(table: Table, column: str, faults: Faults) -> None:
    before = len(faults.found)
    in_every_row(table, column, "cluster", "a cluster", faults)
    if len(faults.found) == before and table.number(f"min({quoted(column)}) = max({quoted(column)})"):
        hint = "Leave columns.cluster out if nothing is clustered."
        faults.add(column, "one cluster", "at least two clusters", hint)


def _groups_units(table: Table, column: str, status: str, faults: Faults) -> bool:
    """Whether clusters hold more than one unit each; refuses more of them than there is memory for."""
    count = f"count(DISTINCT {quoted(column)})"
    clusters = table.number(count)
    if clusters <= MOST_CLUSTERS:
        return True
    complete = table.select(f"{count} AS clusters, count(*) AS units", f"WHERE ({status}) = {COMPLETE}").iloc[
        0
    ]
    if complete["clusters"] == complete["units"]:
        return False
    hint = "Name the group in which training was given."
    faults.add(column, f"{clusters:,} clusters", f"at most {MOST_CLUSTERS:,}", hint)
    return False


def covariate_columns(
    table: Table, program: Program, faults: Faults, *, nan: bool
) -> tuple[dict[str, str], tuple[str, ...]]:
    """SQL of the covariate columns by name, and the columns they come from."""
    taken = CANONICAL | {f"negative: {control.column}" for control in program.design.negative_controls}
    found: dict[str, str] = {}
    sources: list[str] = []
    for column in program.design.columns.covariates:
        if pd.api.types.is_numeric_dtype(table.head[column].dtype):
            spread = {column: table.number_sql(column, nan=nan)}
            if numeric(telling(table, column), column, faults).nunique() < 2:
                faults.add(column, "one value in every row", "a covariate that varies")
        else:
            spread = _indicators(table, column, faults)
        for name, sql in spread.items():
            found[f"{name} (covariate)" if name in taken or name in found else name] = sql
            sources.append(column)
    return found, tuple(sources)


def _indicators(table: Table, column: str, faults: Faults) -> dict[str, str]:
    """A 0/1 column for each text but the most frequent; of equally frequent ones the first to occur comes first."""
    text = f"CAST({quoted(column)} AS VARCHAR)"
    rest = f"WHERE {quoted(column)} IS NOT NULL GROUP BY 1"
    levels = table.select(
        f"{text} AS level, count(*) AS n", f"{rest} ORDER BY n DESC, level LIMIT {MOST_LEVELS + 1}"
    )
    if len(levels) > MOST_LEVELS:
        values = table.number(f"count(DISTINCT {text})")
        expected = f"numbers, or at most {MOST_LEVELS} categories"
        faults.add(column, f"text with {values} different values", expected)
        return {}
    if len(levels) < 2:
        faults.add(column, "one value in every row", "a covariate that varies")
    if levels["n"].duplicated().any():
        place = "min((file_index, file_row_number))"
        levels = table.select(
            f"{text} AS level, count(*) AS n, {place} AS place", f"{rest} ORDER BY n DESC, place"
        )
    return {
        f"{column}: {level}": f"CAST({text} = {literal(level)} AS DOUBLE)" for level in levels["level"][1:]
    }
