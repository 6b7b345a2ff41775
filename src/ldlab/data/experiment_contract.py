"""The contract of an experiment held in SQL: its arms, its KPIs, its dates; refused in the words of :func:`ldlab.load_study`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ldlab.data.contract import columns_exist, outcome_of
from ldlab.data.limits import arms_can_be_shown
from ldlab.data.lots import DISCRETE, LOOK_FOR_VALUES
from ldlab.data.read import source_name
from ldlab.data.sql_contract import arm_codes, in_every_row, telling, within_bounds
from ldlab.data.sums import Ints, Table, quoted
from ldlab.data.values import Faults, code_text, numeric
from ldlab.program import Program
from ldlab.program.experiment_sums import KpiSums

ODD = {
    "binary": "{y} NOT IN (0, 1)",
    "count": "{y} < 0 OR {y} <> floor({y})",
    "rate": "{y} < 0 OR {y} <> floor({y})",
    "ordinal": "{y} <> floor({y})",
}


@dataclass(frozen=True)
class Arms:
    """The arms of an experiment: the column, their codes (control first), and who is in two of them.

    ``keys`` holds SQL that marks the rows of units in two arms, where there are any.
    """

    column: str
    codes: tuple[str, ...]
    in_two: int
    keys: dict[str, str]
    control_sql: str

    def places(self, codes: pd.Series) -> Ints:
        """(rows,) place of each code."""
        place = {code: i for i, code in enumerate(self.codes)}
        return np.array([place[code_text(code)] for code in codes], dtype=np.int64)


def checked_arms(table: Table, program: Program, faults: Faults) -> Arms:
    """The arms, after every column was found, every unit has an id and an arm, and no unit has two rows in one arm."""
    columns_exist(table.head, program, faults)
    faults.stop_if_any()
    if not table.rows:
        faults.add("data", "no rows", "at least one row for each unit")
        faults.stop_if_any()
    design, columns = program.design, program.design.columns
    in_every_row(table, columns.unit, "unit", "a unit", faults)
    column = str(columns.assignment or columns.treatment)
    for name in dict.fromkeys((column, columns.treatment or column)):
        arm_codes(table, name, program, faults)
    off = 0 if design.control_value is None else design.control_value
    on = design.treated_values or (1 if design.treated_value is None else design.treated_value,)
    codes = tuple(code_text(value) for value in (off, *on))
    if design.planned_shares and set(codes) != {code_text(key) for key in design.planned_shares}:
        codes = tuple(str(value) for value in (off, *on))
    in_two, keys = _in_two_arms(table, columns.unit, column, faults)
    raw = table.select(f"DISTINCT {quoted(column)} AS code")["code"]
    control = ", ".join(_sql_value(code) for code in raw.dropna() if code_text(code) == codes[0])
    where = f"{quoted(column)} IN ({control})" if control else "false"
    if keys:
        where += f" AND NOT {keys['key_two_arms']}"
    return Arms(column, codes, in_two, keys, where)


def _sql_value(code: object) -> str:
    return "'" + str(code).replace("'", "''") + "'"


def _in_two_arms(table: Table, unit: str, arm: str, faults: Faults) -> tuple[int, dict[str, str]]:
    """How many units are in several arms, and SQL that marks their rows; several rows in one arm are a fault."""
    if not table.repeated(unit):
        return 0, {}
    u, a = quoted(unit), quoted(arm)
    table.connection.execute(
        f"CREATE OR REPLACE TEMP TABLE repeated AS SELECT {u} AS unit, count(*) AS n, min({a}) <> max({a}) AS two_arms "
        f"FROM {table.source} WHERE {u} IS NOT NULL GROUP BY {u} HAVING n > 1"
    )
    twice, in_two = table.connection.execute(
        "SELECT coalesce(sum(n - 1) FILTER (NOT two_arms), 0)::BIGINT, count(*) FILTER (two_arms) FROM repeated"
    ).fetchall()[0]
    if twice:
        hint = "Aggregate with data.query, or mend the extract."
        faults.add(unit, f"{twice} repeated keys", f"one row for each {unit}", hint)
    return int(in_two), {
        "key_two_arms": f"({u} IN (SELECT unit FROM repeated WHERE two_arms))"
    } if in_two else {}


def checked_kpi(table: Table, program: Program, faults: Faults) -> None:
    """Note what the contract would refuse of a KPI, its exposure and the KPI before."""
    kpi = program.kpi
    values = _values(table, program)
    if kpi.exposure_column is not None:
        exposure = _ends(table, kpi.exposure_column)[kpi.exposure_column]
        number = table.number_sql(kpi.exposure_column)
        bad = table.number(f"count(*) FILTER ({number} <= 0)")
        if bad:
            faults.add(kpi.exposure_column, f"{bad} exposures of 0 or less", "exposures above 0")
        # The least count beside the largest exposure, so that rates differ wherever counts or exposures do.
        both = pd.concat([values.reset_index(drop=True), exposure[::-1].reset_index(drop=True)], axis=1)
        numeric(both, kpi.exposure_column, faults)
        both[kpi.exposure_column] = pd.to_numeric(both[kpi.exposure_column], errors="coerce").clip(
            lower=1e-300
        )
        values = both
    outcome_of(values, program, pd.DataFrame(), faults)
    if kpi.before_column is not None:
        before = numeric(_ends(table, kpi.before_column), kpi.before_column, faults)
        if before.nunique() < 2:
            found = "the KPI before assignment, which varies between units"
            faults.add(kpi.before_column, "one value or none", found)


def _values(table: Table, program: Program) -> pd.DataFrame:
    """Values of the KPI that the contract could refuse, if any, with the least and the largest of the others."""
    kpi, number = program.kpi, table.number_sql(program.kpi.column)
    low, high = within_bounds(program)
    if kpi.value_type == "binary":
        low, high = max(low, 0.0), min(high, 1.0)
    elif kpi.value_type in ("count", "rate"):
        low = max(low, 0.0)
    telling, kind = _ends(table, kpi.column, low, high), table.head[kpi.column].dtype
    if kpi.value_type not in ODD or pd.api.types.is_integer_dtype(kind) or pd.api.types.is_bool_dtype(kind):
        return telling
    if pd.api.types.is_datetime64_any_dtype(kind) or pd.api.types.is_timedelta64_dtype(kind):
        return telling
    odd = f"NOT isnan({number}) AND ({ODD[kpi.value_type].format(y=number)})"
    rows = table.select(quoted(kpi.column), f"WHERE {odd}")
    return pd.concat([rows, telling], ignore_index=True) if len(rows) else telling


def _ends(table: Table, column: str, low: float = -math.inf, high: float = math.inf) -> pd.DataFrame:
    """As ``telling``; whole numbers within the bounds cost no scan, because Parquet keeps each row group's ends."""
    if not pd.api.types.is_integer_dtype(table.head[column].dtype):
        return telling(table, column, low, high)
    ends = table.select(f"min({quoted(column)}) AS low, max({quoted(column)}) AS high").to_numpy(dtype=float)[
        0
    ]
    inside = low <= ends[0] and ends[1] <= high
    return pd.DataFrame({column: ends}) if inside else telling(table, column, low, high)


def measured_after(table: Table, program: Program, faults: Faults) -> None:
    """Note dates that are none, and a KPI that was measured before its unit was assigned."""
    columns = program.design.columns
    named = {
        role: getattr(columns, role) for role in ("assigned_on", "measured_on") if getattr(columns, role)
    }
    for column in named.values():
        text = f"TRY_CAST({quoted(column)} AS TIMESTAMP) IS NULL AND {quoted(column)} IS NOT NULL"
        bad = table.select(f"any_value({quoted(column)}) AS value, count(*) AS n", f"WHERE {text}").iloc[0]
        if bad["n"]:
            faults.add(column, f"values such as {bad['value']!r}", "ISO dates, such as 2026-03-31")
    if len(named) < 2:
        return
    day = {role: f"CAST(TRY_CAST({quoted(column)} AS TIMESTAMP) AS DATE)" for role, column in named.items()}
    early = table.number(f"count(*) FILTER ({day['measured_on']} < {day['assigned_on']})")
    if early:
        minimum, units = program.analysis.minimum_group_size, program.design.units
        count = f"{early:,}" if early >= minimum else f"fewer than {minimum}"
        found = f"a date before {columns.assigned_on} for {count} {units}"
        faults.add(str(columns.measured_on), found, "a KPI that was measured after assignment")


def shown_arms(primary: KpiSums, codes: tuple[str, ...], program: Program) -> None:
    """Refuse an arm too small to publish, and a primary KPI with one value in every row or in each arm."""
    seen = [primary.of([place]) for place in range(len(codes))]
    program_arms = sum(arm.n for arm in seen[1:])
    arms_can_be_shown({0: seen[0].n, 1: program_arms}, [1, 0], program)
    faults, minimum, columns = (
        Faults(source_name(program)),
        program.analysis.minimum_group_size,
        program.design.columns,
    )
    few = [code for code, arm in zip(codes, seen, strict=True) if arm.n < minimum]
    if few:
        faults.add(
            str(columns.assignment or columns.treatment),
            f"fewer than {minimum} {program.design.units} with a KPI in arm {', '.join(few)}",
            f"at least analysis.minimum_group_size = {minimum} in each arm",
            "Smaller groups cannot be published.",
        )
    elif not any(arm.about[0, 0] > 0 for arm in (seen[0], primary.of(range(1, len(codes))))):
        hint = "It may be the treatment under another name."
        faults.add(program.kpi.column, "one value in each arm", "a KPI that varies within the arms", hint)
    elif program.kpi.value_type not in DISCRETE and not all(arm.about[0, 0] > 0 for arm in seen):
        flat = next(code for code, arm in zip(codes, seen, strict=True) if not arm.about[0, 0] > 0)
        found = f"one value for everybody in arm {flat}"
        faults.add(program.kpi.column, found, "a KPI that varies within the arms", LOOK_FOR_VALUES)
    faults.stop_if_any()
