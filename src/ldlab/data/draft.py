"""Table -> a commented program file, with the columns that could be recognised."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd

HINTS = {
    "start": r"(^|_)(start|cohort|first|go_?live|rollout)",
    "period": r"^(year|quarter|month|week|period|date|day|wave|sprint)$|_(year|quarter|month|week|period|date)$",
    "assignment": r"assign|offered|invited",
    "treatment": r"treat|train|particip|attend|arm$|^group$|completed",
    "cluster": r"(^|_)(team|store|school|ward|manager|cluster|class|branch)",
    "segment": r"(^|_)(site|region|department|segment|function|level|role|country|location)",
    "unit": r"(^|_)(id|person|employee|agent|worker|firm|unit|user|rep|learner|name)($|_)|_id$|id$",
}
TODO = "TODO"


@dataclass(frozen=True)
class Recognised:
    """What the columns of a table seem to be; None where nothing fits."""

    unit: str | None
    period: str | None
    start: str | None
    treatment: str | None
    assignment: str | None
    cluster: str | None
    segment: str | None
    kpi: str | None
    covariates: tuple[str, ...]
    design: str
    value_type: str


def recognise(frame: pd.DataFrame) -> Recognised:
    """Guess each column's role from its name and values; one role a column."""
    free = [str(column) for column in frame.columns]
    found: dict[str, str | None] = {}

    def take(role: str, fits: set[str]) -> None:
        match = [c for c in free if re.search(HINTS[role], c.lower()) and c in fits]
        found[role] = match[0] if match else None
        if match:
            free.remove(match[0])

    every = set(free)
    two_valued = {c for c in free if frame[c].nunique() == 2}
    dates = {c for c in free if pd.api.types.is_datetime64_any_dtype(frame[c])}
    numbers = {
        c
        for c in free
        if pd.api.types.is_numeric_dtype(frame[c]) and not pd.api.types.is_bool_dtype(frame[c])
    }
    take("assignment", two_valued)
    take("treatment", two_valued)
    take("start", dates | numbers)
    take("period", dates | numbers)
    take("cluster", every)
    take("segment", every - numbers)
    take("unit", every)
    if found["unit"] is None and free:
        most_distinct = max(free, key=lambda c: frame[c].nunique())
        found["unit"] = most_distinct
        free.remove(most_distinct)
    candidates = [c for c in free if c in numbers and frame[c].nunique() > 2] or [
        c for c in free if c in numbers
    ]
    kpi = candidates[-1] if candidates else None
    rest = tuple(c for c in free if c in numbers and c != kpi) if found["period"] is None else ()
    if found["period"] is None:
        found["start"] = None
    return Recognised(
        kpi=kpi,
        covariates=rest,
        design=_design(found),
        value_type=_value_type(frame, kpi),
        **{
            role: found.get(role)
            for role in ("unit", "period", "start", "treatment", "assignment", "cluster", "segment")
        },
    )


def _design(found: dict[str, str | None]) -> str:
    if found["period"] is not None:
        return "staggered" if found["start"] is not None else "two_group_before_after"
    return "randomised" if found["assignment"] is not None else "observational"


def _value_type(frame: pd.DataFrame, kpi: str | None) -> str:
    if kpi is not None and set(frame[kpi].dropna().unique()) <= {0, 1}:
        return "binary"
    return "continuous"


def draft_program(name: str, source: str, frame: pd.DataFrame, today: str) -> str:
    """Text of a commented program file for ``source``; what only people can say is marked TODO.

    ``ldlab check`` refuses a file as long as a TODO stands in it.
    """
    seen = recognise(frame)
    unit = "percentage points" if seen.value_type == "binary" else "TODO unit of one value"
    columns = [
        ("unit", seen.unit, "identifies the person, firm or team"),
        ("treatment", seen.treatment, "1 trained, 0 not"),
        ("assignment", seen.assignment, "randomised offers: 1 offered, 0 not"),
        ("period", seen.period, "panels: whole number or ISO date"),
        ("start", seen.start, "panels: first trained period, empty for never"),
        ("cluster", seen.cluster, "the group that was trained together"),
        ("segment", seen.segment, "agreed segment for which effects are shown"),
    ]
    listed = "\n".join(
        f"    {role}: {_quoted(column)}  # {why}" if column else f"    # {role}:  # {why}"
        for role, column, why in columns
    )
    covariates = ", ".join(_quoted(column) for column in seen.covariates)
    start = (
        "" if seen.design != "two_group_before_after" else "  start_period: TODO  # first trained period\n"
    )
    return f"""# yaml-language-server: $schema=program.schema.json
# Written by `ldlab new` from {source}. Replace every TODO; `ldlab check {name}` says what is left.
title: TODO the program's name
owner: TODO who answers for this evaluation

objective:
  goal: TODO what the business wants
  key_result: TODO measurable, with a date
  owner: TODO

kpi:
  column: {_quoted(seen.kpi) if seen.kpi else "TODO"}  # all columns: {", ".join(map(str, frame.columns))}
  label: TODO such as resolution time
  unit: {unit}
  direction: increase  # or decrease: which way is better
  value_type: {seen.value_type}  # continuous, binary, count, rate, ordinal, duration
  owner: TODO
  smallest_effect_worth_having: {{value: 1, unit: percent of baseline}}  # TODO agree on it
  target: {{value: 10, unit: percent of baseline}}  # TODO agree on it; or in the KPI's unit

skills:
  gap: TODO what people could not do, and how that was seen
  learning_objective: TODO what they can do afterwards

design:
  # randomised, staggered, two_group_before_after, observational, before_after.
  # Say randomised only if chance decided who was trained.
  kind: {seen.design}
  unit: TODO one unit, such as agent
  population: TODO the trained people in the plural
{start}  columns:
{listed}
    covariates: [{covariates}]  # measured before training; take out what is not
    # experiments: stratum, team, assigned_on, exposed_on, measured_on, dose, exploratory_segments
  # planned_treated_share: 0.5  # experiments: the share that was meant to be trained
  # treated_values: [version b, version c]  # experiments with several program arms, and control_value for the rest
  # negative_controls:  # observational: what training cannot have changed
  #   - {{column: minutes_last_year, label: minutes last year, kind: period}}
  # other_changes:
  #   - {{what: a new ticket form, when: 2025-03-03, who: everyone}}

data:
  source: {source}
  # missing_values: [NA]  # texts that mean missing
  # cut_off: {today}  # data are complete up to this day

agreement:
  agreed_by: [TODO]
  agreed_on: {today}
  decision_rule:  # tried in order; the last line has no condition
    - {{decision: scale, when: chance of target, at_least: 0.7}}
    - {{decision: stop, when: chance of gain, below: 0.8}}
    - {{decision: test further}}
  # too_early_before: 2026-01-01
  # trim_propensity: {{below: 0.1, above: 0.9}}  # observational: who is too unlike the other group to be compared

# Experiments: KPIs that do not decide, KPIs that must not be harmed, and when the result may be read.
# secondary_kpis:
#   - {{column: c, label: l, unit: u, direction: increase, value_type: binary,
#      smallest_effect_worth_having: {{value: 5, unit: percentage points}}}}
# guard_rails:
#   - {{column: c, label: l, unit: u, direction: increase, value_type: continuous,
#      largest_acceptable_harm: {{value: 5, unit: percent of baseline}}}}
# looks: {{method: always_valid, planned_units: 2000}}  # or fixed, or group_sequential with at: [500, 1000, 2000]
# plan: {{mean: 50.0, sd: 5.0, power: 0.8}}  # how large must it be? With analysis: {{notebooks: [plan]}} no data are read

# costs:
#   currency: EUR
#   owner: Finance
#   items:
#     - {{item: trainers, amount: 10000, per: program}}
#     - {{item: licences, amount: 100, per: participant}}
#   participant_hours: {{value: 8, low: 6, high: 10}}  # a 9-in-10 range; a plain number is known exactly
#   loaded_hourly_rate: 45
#   value_of_unit: {{amount: 50, low: 30, high: 70, owner: Finance}}  # one KPI unit, one participant, one year

# analysis:
#   interval_level: 0.9
#   minimum_group_size: 10  # at least 5
#   seed: 1
"""


def _quoted(text: str) -> str:
    plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_ ]*", text) and text.lower() not in (
        "true",
        "false",
        "null",
        "yes",
        "no",
        "on",
        "off",
    )
    return text if plain else "'" + text.replace("'", "''") + "'"
