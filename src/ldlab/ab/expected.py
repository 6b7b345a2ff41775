"""What the program file expects of an experiment that is being planned, as a :class:`~ldlab.ab.power.Scenario`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ldlab.ab.boundaries import boundaries
from ldlab.ab.power import Reading, Scenario
from ldlab.program import PERCENT_OF_BASELINE, Fault, InputError, LdlabError, Program, Question
from ldlab.program.experiment import Plan

PERCENT = 100.0
FAR = 1000.0  # standard deviations: larger than any effect
TYPICAL_ICC = "0.05 to 0.2"


@dataclass(frozen=True)
class Expected(Question):
    """A plan's assumptions, whole and possible.

    Attributes
    ----------
    program
        The program file.
    baseline
        Expected KPI without the program, in KPI units; nan where it is not needed.
    stages
        From two equal arms to the experiment as designed: what is added, the scenario with it, and why.
    largest
        The largest change that the KPI allows in the wanted direction, signed, in effect units.
    notes
        What was assumed, or not counted.
    """

    program: Program
    baseline: float
    stages: tuple[tuple[str, Scenario, str], ...]
    largest: float
    notes: tuple[str, ...] = ()

    @property
    def scenario(self) -> Scenario:
        """The experiment as designed."""
        return self.stages[-1][1]


def expect(program: Program) -> Expected:
    """Read and check the section ``plan`` of a program file.

    Raises
    ------
    LdlabError
        If there is no such section.
    InputError
        With every number that is missing, does not fit the design, or asks for a change that the KPI cannot make.
    """
    plan = program.plan
    if plan is None:
        raise LdlabError(
            f"plan: found no section plan in {program.file or 'the program file'}; expected one with the KPI's mean "
            "and sd. See params/program.schema.json for what it may hold."
        )
    faults = list(_missing(program, plan)) or list(_impossible(program, plan))
    if faults:
        raise InputError(Fault(program.file, None, *fault) for fault in faults)
    notes = list(_notes(program, plan))
    return Expected(
        program=program,
        baseline=math.nan if plan.mean is None else plan.mean,
        stages=tuple(_stages(program, plan)),
        largest=_largest(program, plan),
        notes=tuple(notes),
    )


def _missing(program: Program, plan: Plan) -> Iterator[tuple[str, str, str, str]]:
    """Field, found, expected, hint of what is missing or has no place."""
    kpi, columns = program.kpi, program.design.columns
    kind = kpi.value_type
    relative = PERCENT_OF_BASELINE in (kpi.smallest_effect_worth_having.unit, kpi.target.unit)
    poisson = kind == "count" and plan.sd is None
    if plan.mean is None and (kind == "binary" or relative or kpi.scale == "log" or poisson):
        why = "percent with a yes" if kind == "binary" else f"in {kpi.unit}"
        yield (
            "plan.mean",
            "nothing",
            f"the KPI expected without the program, {why}",
            "Take it from last year.",
        )
    if kind == "binary" and plan.sd is not None:
        yield "plan.sd", f"{plan.sd:g}", "nothing: the sd of a binary KPI follows from plan.mean", ""
    if kind not in ("binary", "count") and plan.sd is None:
        hint = "Take it from last year's data, one value per unit."
        if kind == "rate":
            hint = "Of count less mean x exposure, over the mean exposure, one value per unit."
        yield "plan.sd", "nothing", "the KPI's standard deviation between units", hint
    if columns.cluster is not None and plan.icc is None:
        hint = (
            "Estimate the icc from last year's data; in education and work teams it is often "
            f"{TYPICAL_ICC}. Nothing is assumed for you: it can change the size tenfold."
        )
        found = f"nothing, but design.columns.cluster is '{columns.cluster}'"
        yield "plan.icc", found, "plan.cluster_size and plan.icc", hint
    if columns.cluster is None and plan.icc is not None:
        hint = "Else the analysis would not count that whole clusters are assigned."
        yield (
            "design.columns.cluster",
            "nothing, but plan.icc is given",
            "the column that holds the cluster",
            hint,
        )
    if columns.assignment is None and plan.take_up is not None:
        hint = "Where everyone who is assigned attends, leave plan.take_up out."
        yield (
            "design.columns.assignment",
            "nothing, but plan.take_up is given",
            "who was offered the program",
            hint,
        )


def _impossible(program: Program, plan: Plan) -> Iterator[tuple[str, str, str, str]]:
    """The same, of numbers that cannot be."""
    kpi, mean = program.kpi, plan.mean
    ends = _range(program)
    if mean is not None and not ends[0] <= mean <= ends[1]:
        yield "plan.mean", f"{mean:g}", f"a mean from {ends[0]:g} to {ends[1]:g}, which the KPI can have", ""
        return
    if kpi.value_type == "binary" and mean in (0.0, PERCENT):
        yield "plan.mean", f"{mean:g}", "a share between 0 and 100 percent", "It is in percent: 40, not 0.4."
        return
    if kpi.scale == "log" and mean is not None and mean <= 0:
        yield "plan.mean", f"{mean:g}", "a mean above 0, because the KPI is on a log scale", ""
        return
    if mean == 0 and kpi.smallest_effect_worth_having.unit == PERCENT_OF_BASELINE:
        yield "plan.mean", "0", "a mean that is not 0: the smallest effect is a percentage of it", ""
        return
    wanted, largest = _smallest(program, plan), _largest(program, plan)
    if abs(wanted) > abs(largest) * (1 + 1e-12):
        found = f"{kpi.smallest_effect_worth_having.value:g} {kpi.smallest_effect_worth_having.unit}"
        expected = f"at most {abs(largest):g} {kpi.unit}: from {mean:g} the KPI cannot go further"
        yield "kpi.smallest_effect_worth_having", found, expected, ""
    shares, minimum = planned_shares(program), program.analysis.minimum_group_size
    if plan.units_available is not None:
        fewest = min(shares.values()) * plan.units_available * (1 - plan.lost)
        if fewest < minimum:
            expected = (
                f"at least {math.ceil(minimum / (min(shares.values()) * (1 - plan.lost)))}, so that each arm has "
                f"{minimum} with a KPI (analysis.minimum_group_size)"
            )
            yield "plan.units_available", f"{plan.units_available}", expected, ""


def _range(program: Program) -> tuple[float, float]:
    """Lowest and highest value of the KPI."""
    kpi = program.kpi
    low = kpi.lowest if kpi.lowest is not None else -math.inf
    high = kpi.highest if kpi.highest is not None else math.inf
    if kpi.value_type == "binary":
        return 0.0, PERCENT
    if kpi.value_type in ("count", "rate", "duration"):
        low = max(low, 0.0)
    return low, high


def _smallest(program: Program, plan: Plan) -> float:
    return Expected(program, math.nan if plan.mean is None else plan.mean, (), 0.0).smallest


def _largest(program: Program, plan: Plan) -> float:
    """The largest possible change, signed, in effect units."""
    sign, far = program.kpi.sign, FAR * math.sqrt(_variance(program, plan)(0.0))
    if program.kpi.scale == "log" or plan.mean is None:
        return sign * far
    low, high = _range(program)
    return sign * min(far, high - plan.mean if sign > 0 else plan.mean - low)


def _variance(program: Program, plan: Plan) -> Callable[[float], float]:
    """Variance between units in an arm, given its change from control; effect units squared."""
    kpi, mean, sd = program.kpi, plan.mean, plan.sd
    if kpi.value_type == "binary":
        assert mean is not None
        return lambda change: max(0.0, (mean + change) * (PERCENT - mean - change))
    if sd is None:
        assert mean is not None
        return lambda change: max(0.0, mean + change)
    if kpi.scale == "log":
        assert mean is not None
        return lambda change: math.log1p((sd / mean) ** 2)
    return lambda change: sd**2


def planned_shares(program: Program) -> dict[str, float]:
    """Planned share of each arm by name, the control's last; equal where none is planned."""
    design = program.design
    control = "comparison" if design.control_value is None else str(design.control_value)
    arms = [str(code) for code in design.treated_values]
    if design.planned_shares:
        return {arm: design.planned_shares[arm] for arm in (*arms, control)}
    if not arms:
        arms = ["offered" if design.columns.assignment is not None else "trained"]
        if design.treated_value is not None:
            arms = [str(design.treated_value)]
    treated = design.planned_treated_share
    each = 1 / (len(arms) + 1) if treated is None else treated / len(arms)
    return dict.fromkeys(arms, each) | {control: 1 - each * len(arms)}


def reading(program: Program) -> Reading:
    """How each arm's comparison with control is read: level, number of arms, looks."""
    *arms, control = planned_shares(program).values()
    once = Reading(
        alpha=1 - program.level,
        allocations=tuple(arm / (arm + control) for arm in arms),
        multiplicity=program.agreement.multiplicity,
    )
    looks = program.looks
    if looks is None or looks.method == "fixed":
        return once
    if looks.method == "always_valid":
        return replace(once, method="always_valid")
    fractions = _fractions(program)
    bounds = boundaries(fractions, 1 - once.alpha / len(arms), looks.spending)
    return replace(once, method="group_sequential", fractions=fractions, bounds=bounds)


def _fractions(program: Program) -> tuple[float, ...]:
    """Share of the planned units at each look; looks by date are taken as evenly spaced."""
    looks = program.looks
    assert looks is not None
    count = len(looks.at)
    if looks.by_date:
        return tuple((place + 1) / count for place in range(count))
    ends = [int(look) for look in looks.at if isinstance(look, int)]
    return tuple(end / ends[-1] for end in ends)


def _stages(program: Program, plan: Plan) -> Iterator[tuple[str, Scenario, str]]:
    """What is added to two equal arms, one after the other."""
    *arms, control = planned_shares(program).values()
    agreed, kpi = reading(program), program.kpi
    now = Scenario(variance=_variance(program, plan), reading=Reading(agreed.alpha))
    spread = math.sqrt(now.variance(0.0))
    told = "log points" if kpi.scale == "log" else kpi.unit
    yield (
        "two equal arms",
        now,
        f"standard deviation between units {spread:.3g} {told}; read once, at the end",
    )
    if len(arms) > 1 or not math.isclose(arms[0], control):
        now = replace(now, share=min(arms), control_share=control)
        shares = ", ".join(f"{name} {share:.0%}" for name, share in planned_shares(program).items())
        yield "the planned arms", now, f"{shares}; counted for the smallest arm against control"
    if len(arms) > 1:
        several = replace(agreed, method="fixed", bounds=(), fractions=())
        now = replace(now, reading=several)
        how = (
            "Dunnett’s intervals hold together"
            if agreed.multiplicity == "simultaneous"
            else "Holm’s first step"
        )
        yield "several comparisons", now, f"{len(arms)} arms against control: {how}"
    if plan.before_correlation is not None and program.estimator == "adjusted":
        r = plan.before_correlation
        now = replace(now, unexplained=1 - r**2)
        of = "clusters’ means" if plan.cluster_size else "the KPI"
        yield (
            "earlier values",
            now,
            f"the correlation of {of} with earlier values, {r:g}, explains {r**2:.0%}",
        )
    if plan.cluster_size is not None and plan.icc is not None:
        now = replace(now, cluster_size=plan.cluster_size, icc=plan.icc, size_cv=plan.cluster_size_cv)
        uneven = f", sizes vary by {plan.cluster_size_cv:.0%}" if plan.cluster_size_cv else ""
        yield (
            "whole clusters",
            now,
            f"{plan.cluster_size:g} in each{uneven}, intra-cluster correlation {plan.icc:g}: design effect "
            f"{now.design_effect:.2f}, and t with few degrees of freedom",
        )
    if plan.take_up is not None:
        now = replace(now, take_up=plan.take_up)
        why = f"only {plan.take_up:.0%} of those offered attend, and the change is theirs: 1 / {plan.take_up:g}²"
        yield "those who stay away", now, why
    if agreed.method != "fixed":
        now = replace(now, reading=agreed)
        yield "looks on the way", now, _why_looks(agreed)
    if plan.lost:
        now = replace(now, kept=1 - plan.lost)
        yield "lost units", now, f"{plan.lost:.0%} will have no KPI"


def _why_looks(agreed: Reading) -> str:
    if agreed.method == "always_valid":
        return "the interval is right at any time, and so wider at the end"
    return f"{len(agreed.bounds)} planned looks share one error rate"


def _notes(program: Program, plan: Plan) -> Iterator[str]:
    """What was assumed, and what was not counted."""
    kpi, design = program.kpi, program.design
    if not design.planned_shares and design.planned_treated_share is None:
        yield "The program file plans no shares of the arms; equal ones were assumed."
    if kpi.value_type == "count" and plan.sd is None:
        yield (
            "Without plan.sd the counts were taken as Poisson (variance = mean); real counts usually vary more, and "
            "then more units are needed."
        )
    if kpi.scale == "log":
        yield "The sd of the logarithm follows from plan.mean and plan.sd as for log-normal values."
    if plan.before_correlation is not None and program.estimator != "adjusted":
        yield (
            "plan.before_correlation was not counted: the agreed estimate is the plain difference. It would be with "
            "kpi.before_column named."
        )
    if plan.cluster_size is not None and plan.before_correlation is not None:
        yield "Where whole clusters are assigned, plan.before_correlation must be that of the clusters’ means."
    if plan.take_up is not None:
        yield (
            "The smallest effect worth having was taken as that on those who attend; over all who are offered it is "
            f"{plan.take_up:.0%} of it."
        )
    if program.looks is not None and program.looks.method == "group_sequential":
        if program.looks.by_date:
            yield "Looks by date were taken as evenly spaced in units."
        if len(design.treated_values) > 1:
            yield "Looks with several arms: the error rate was split evenly between the arms (Bonferroni)."
    if design.columns.stratum is not None:
        yield "What the strata explain was not counted; the experiment will see a little more than planned."
    if kpi.winsorise is not None:
        yield "plan.sd should be that of the winsorised KPI."
    if program.secondary_kpis:
        names = ", ".join(kpi.label for kpi in program.secondary_kpis)
        yield f"Not planned, because the plan tells the spread of the primary KPI only: {names}."
