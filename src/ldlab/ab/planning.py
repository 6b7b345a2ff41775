"""The plan of an experiment: how many units, how long, what it will see, and why."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ldlab.ab.expected import Expected, expect, planned_shares
from ldlab.ab.experiment_plan import (
    Available,
    ExperimentPlan,
    PlannedArm,
    PlannedGuardRail,
    Step,
    WhatIf,
    digits,
    in_words,
    times,
)
from ldlab.ab.power import Reading, Scenario, missing_share_seen
from ldlab.estimate import format_chance
from ldlab.program import PERCENT_OF_BASELINE, Program
from ldlab.program.experiment import GuardRail, Plan

SAMPLE_RATIO_P = 0.001  # as ldlab.checks.sample_ratio tests
POINTS = 40
MOST_WEEKS = 104
WORTH_SAYING = 0.98  # of the units: a saving of less than 2 percent is not worth a word
LARGEST_BINARY_SD = 50.0


def plan(program: Program) -> ExperimentPlan:
    """Size and duration of an experiment, from the section ``plan`` of its program file; no data are read.

    The test is the two-sided one that the interval makes: at ``analysis.interval_level``, with the agreed
    multiplicity and looks. Power counts effects seen in the right direction only.

    Returns
    -------
    ExperimentPlan

    Raises
    ------
    LdlabError
        Without a section ``plan``; if the smallest effect is too small for any experiment.
    InputError
        With every number that is missing or impossible.

    Notes
    -----
    Noncentral t; see :class:`ldlab.ab.power.Scenario` for the factors and their sources.
    """
    expected = expect(program)
    said = program.plan
    assert said is not None
    scenario, effect, power = expected.scenario, expected.smallest, said.power
    steps = tuple(_steps(expected, effect, power))
    needed = steps[-1].units
    arms = _arms(program, said, needed)
    units = sum(arm.units for arm in arms)
    weeks = _weeks(said, units)
    clusters = sum(arm.clusters or 0 for arm in arms) or None
    change = in_words(program, effect)
    available = _available(program, expected, said, units)
    return ExperimentPlan(
        program=program.id,
        title=program.title,
        sentence=_sentence(program, arms, weeks, change, power) + _enough(available),
        kpi=program.kpi.label,
        unit=program.kpi.effect_unit,
        units_called=program.design.units,
        effect=effect,
        effect_in_words=change,
        target=expected.target,
        level=program.level,
        power=power,
        arms=arms,
        units=units,
        clusters=clusters,
        weeks=weeks,
        steps=steps,
        available=available,
        guard_rails=tuple(_guard_rail(program, one, scenario, units, power) for one in program.guard_rails),
        what_if=tuple(_what_if(program, said)),
        missing_share_seen=missing_share_seen(
            tuple(arm.share for arm in arms), clusters or units, alpha=SAMPLE_RATIO_P, power=power
        ),
        curve=tuple(_curve(expected, said, units)),
        over_time=tuple(_over_time(expected, said, weeks)),
        notes=expected.notes,
        hints=tuple(_hints(program, expected, needed, units)),
        inputs={"program_sha256": program.sha256},
    )


def _arms(program: Program, said: Plan, needed: float) -> tuple[PlannedArm, ...]:
    """Whole units, or whole clusters of the mean size."""
    arms = []
    for name, share in planned_shares(program).items():
        if said.cluster_size is None:
            arms.append(PlannedArm(name=name, share=share, units=_up(needed * share)))
        else:
            clusters = _up(needed * share / said.cluster_size)
            units = _up(clusters * said.cluster_size)
            arms.append(PlannedArm(name=name, share=share, units=units, clusters=clusters))
    return tuple(arms)


def _up(value: float) -> int:
    """The next whole number; one within rounding error is that number."""
    return math.ceil(value - 1e-5)


def _weeks(said: Plan, units: float) -> int | None:
    return None if said.units_per_week is None else _up(units / said.units_per_week + said.weeks_to_measure)


def _sentence(
    program: Program, arms: tuple[PlannedArm, ...], weeks: int | None, change: str, power: float
) -> str:
    units = sum(arm.units for arm in arms)
    each = ", ".join(f"{arm.units:,} {arm.name}" for arm in arms)
    clusters = sum(arm.clusters or 0 for arm in arms)
    whole = f" in {clusters:,} whole clusters" if clusters else ""
    time = f" and {weeks:,} week{'' if weeks == 1 else 's'}" if weeks is not None else ""
    return (
        f"It takes {units:,} {program.design.units}{whole} ({each}){time} to see {change} in {program.kpi.label} "
        f"{times(power)}."
    )


def _enough(available: Available | None) -> str:
    if available is None:
        return ""
    if available.enough:
        return f" {available.units:,} are available: enough."
    return f" Only {available.units:,} are available: too few."


def _steps(expected: Expected, effect: float, power: float) -> Iterator[Step]:
    before = math.nan
    for name, scenario, why in expected.stages:
        units = scenario.units(effect, power)
        yield Step(name=name, units=units, factor=1.0 if math.isnan(before) else units / before, why=why)
        before = units
    fewest = _fewest(expected)
    if before < fewest:
        minimum, called = expected.program.analysis.minimum_group_size, expected.program.design.units
        why = f"arms with fewer than {minimum} {called} are never shown"
        yield Step(name="large enough to be shown", units=fewest, factor=fewest / before, why=why)


def _fewest(expected: Expected) -> float:
    """Units with which every arm has as many with a KPI as the smallest group that may be shown."""
    smallest = min(planned_shares(expected.program).values()) * expected.scenario.kept
    return expected.program.analysis.minimum_group_size / smallest


def _available(program: Program, expected: Expected, said: Plan, needed: int) -> Available | None:
    units = said.units_available
    if units is None:
        return None
    scenario = expected.scenario
    power = scenario.power(units, expected.smallest)
    smallest = scenario.smallest(units, said.power, expected.largest)
    there = f"The {units:,} {program.design.units} that there are"
    if smallest is None:
        seen = f"not even the largest possible change would be seen {times(said.power)}"
    else:
        least = in_words(program, math.copysign(smallest, expected.smallest))
        seen = f"the smallest change seen {times(said.power)} is {least}"
    if power >= said.power:
        sentence = f"{there} are enough: {seen}."
    else:
        sentence = (
            f"{there} are too few ({needed:,} are needed): the chance to see {in_words(program, expected.smallest)} is "
            f"{format_chance(power)}; {seen}."
        )
    return Available(
        units=units, enough=power >= said.power, power=power, smallest=smallest, sentence=sentence
    )


def _guard_rail(
    program: Program, rail: GuardRail, scenario: Scenario, units: int, power: float
) -> PlannedGuardRail:
    """The largest sd with which the whole interval stays inside the limit, if nothing happens."""
    limit = rail.largest_acceptable_harm
    df = scenario.df(units)
    drift = Reading(scenario.reading.alpha).drift(power, df)
    plain = replace(scenario, variance=lambda change: 1.0, unexplained=1.0, take_up=1.0)
    largest = limit.value / (drift * plain.standard_error(units))
    unit = "percent of its mean" if limit.unit == PERCENT_OF_BASELINE else limit.unit
    harm = f"{limit.value:g} {limit.unit}"
    held = f"That it is not harmed by {harm} will be shown {times(power)}, if nothing happens"
    if rail.value_type == "binary" and unit == rail.unit:
        if largest >= LARGEST_BINARY_SD:
            sentence = f"{held}, whatever its level."
        else:
            edge = 50 * (1 - math.sqrt(1 - (largest / LARGEST_BINARY_SD) ** 2))
            sentence = f"{held}, only while it is under {digits(edge)} or over {digits(100 - edge)} percent."
    else:
        sentence = f"{held} and its standard deviation between {program.design.units} is at most {digits(largest)} {unit}."
    return PlannedGuardRail(
        label=rail.label, limit=limit.value, unit=unit, largest_sd=largest, sentence=sentence
    )


def _what_if(program: Program, said: Plan) -> Iterator[WhatIf]:
    """Each assumption a step worse, the others as planned."""
    worse: list[tuple[str, dict[str, float]]] = []
    if said.sd is not None:
        worse.append(
            (f"the standard deviation is {digits(1.2 * said.sd)}, a fifth larger", {"sd": 1.2 * said.sd})
        )
    if program.kpi.value_type == "binary" and said.mean is not None:
        nearer = said.mean + (5 if said.mean < 50 else -5)
        worse.append((f"the KPI without the program is {digits(nearer)} percent", {"mean": nearer}))
    if said.icc is not None:
        worse.append(
            (f"the intra-cluster correlation is {said.icc + 0.05:.2g}", {"icc": min(0.99, said.icc + 0.05)})
        )
    if said.before_correlation and program.estimator == "adjusted":
        less = said.before_correlation * 0.8
        worse.append((f"the correlation with earlier values is {less:.2g}", {"before_correlation": less}))
    if said.take_up is not None:
        worse.append(
            (f"only {0.8 * said.take_up:.0%} of those offered attend", {"take_up": 0.8 * said.take_up})
        )
    lost = said.lost + 0.1
    if lost < 1:
        worse.append((f"{lost:.0%} have no KPI", {"lost": lost}))
    for text, change in worse:
        changed = program.model_copy(
            update={"plan": said.model_copy(update={**change, "units_available": None})}
        )
        expected = expect(changed)
        needed = max(_fewest(expected), expected.scenario.units(expected.smallest, said.power))
        yield WhatIf(assumption=text, units=sum(arm.units for arm in _arms(program, said, needed)))


def _curve(expected: Expected, said: Plan, units: int) -> Iterator[tuple[float, float, float]]:
    most = max(1.6 * units, 1.1 * (said.units_available or 0))
    for size in np.linspace(most / POINTS, most, POINTS):
        powers = (expected.scenario.power(size, effect) for effect in (expected.smallest, expected.target))
        yield float(size), *powers  # type: ignore[misc]


def _over_time(
    expected: Expected, said: Plan, weeks: int | None
) -> Iterator[tuple[int, float, float | None]]:
    """From the first week in which a KPI is known."""
    if weeks is None or said.units_per_week is None:
        return
    first = math.floor(said.weeks_to_measure) + 1
    last = max(first + 1, weeks, min(MOST_WEEKS, math.ceil(1.5 * weeks)))
    for week in sorted({round(one) for one in np.linspace(first, last, min(POINTS, last - first + 1))}):
        units = said.units_per_week * (week - said.weeks_to_measure)
        yield week, units, expected.scenario.smallest(units, said.power, expected.largest)


def _with_shares(program: Program, shares: dict[str, float]) -> float:
    """Units needed with other shares of the arms."""
    assert program.plan is not None
    several = len(shares) > 2
    update = {
        "planned_shares": shares if several else {},
        "planned_treated_share": None if several else next(iter(shares.values())),
    }
    changed = program.model_copy(
        update={
            "design": program.design.model_copy(update=update),
            "plan": program.plan.model_copy(update={"units_available": None}),
        }
    )
    expected = expect(changed)
    return expected.scenario.units(expected.smallest, program.plan.power)


def _hints(program: Program, expected: Expected, needed: float, units: int) -> Iterator[str]:
    """What would save units, and what does not fit together."""
    *arms, control = planned_shares(program)
    best_control = math.sqrt(len(arms)) / (len(arms) + math.sqrt(len(arms)))
    best_each = (1 - best_control) / len(arms)
    scenario = expected.scenario
    best = _with_shares(program, {**dict.fromkeys(arms, best_each), control: best_control})
    if best < WORTH_SAYING * needed:
        how = (
            "equal arms"
            if len(arms) == 1
            else f"the control √{len(arms)} times as large as each arm ({best_control:.0%}; Dunnett 1955)"
        )
        yield f"With {how} about {_up(best):,} {program.design.units} would do."
    lead = program.agreement.lead_arm
    shares = planned_shares(program)
    compared = 1.0 if lead is None else shares[str(lead)] + list(shares.values())[-1]
    with_kpi = units * scenario.kept * compared
    looks = program.looks
    if looks is not None and looks.method == "always_valid" and looks.planned is None:
        yield (
            f"Set looks.planned_units to {math.floor(with_kpi):,}: the always-valid interval is "
            "narrowest at the number that it is told."
        )
    if looks is not None and looks.planned is not None and looks.planned < math.floor(with_kpi):
        yield (
            f"The agreed looks end at {looks.planned:,} {program.design.units} with a KPI in the arms that the headline "
            f"compares; the plan needs {math.ceil(with_kpi):,}."
        )
    clusters = units / scenario.cluster_size if scenario.cluster_size else math.inf
    if clusters * min(scenario.share, scenario.control_share) < 10:
        yield "With fewer than 10 clusters in an arm, one odd cluster can decide; take more and smaller ones if you can."
