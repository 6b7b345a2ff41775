"""The plan of an experiment as a noun: what it says, and how it prints."""

from __future__ import annotations

import math
from html import escape

from ldlab.estimate import Noun, format_number, rows_to_html
from ldlab.program import Program


class Step(Noun):
    """One reason for the size: what was added, the units needed with it, how many times more that is, and why."""

    name: str
    units: float
    factor: float
    why: str


class PlannedArm(Noun):
    """An arm: its planned share, and the units (and clusters) to assign to it."""

    name: str
    share: float
    units: int
    clusters: int | None = None


class Available(Noun):
    """What the units that there are will show: chance to see the smallest effect worth having, smallest effect seen.

    ``smallest`` is in effect units, without a sign; None if not even the largest possible change is seen.
    """

    units: int
    enough: bool
    power: float
    smallest: float | None
    sentence: str


class PlannedGuardRail(Noun):
    """How much a guard-rail KPI may vary between units for the plan to show that it held, if nothing happens."""

    label: str
    limit: float
    unit: str
    largest_sd: float
    sentence: str


class WhatIf(Noun):
    """Units needed if one assumption is worse than planned."""

    assumption: str
    units: int


class ExperimentPlan(Noun):
    """How large and how long an experiment has to be; the content of ``plan.json``.

    Attributes
    ----------
    sentence
        The answer.
    effect, target
        Smallest effect worth having and agreed target, signed, in effect units.
    level, power
        Level of intervals; chance to see the smallest effect worth having if it is there.
    arms, units, clusters
        What to assign, by arm and in all.
    weeks
        Until the last KPI is known; None without ``plan.units_per_week``.
    steps
        From two equal arms to the experiment as designed.
    available
        What the units that there are would show; None without ``plan.units_available``.
    guard_rails, what_if
        What guard-rails need; units if an assumption is worse than planned.
    missing_share_seen
        Share of the largest arm's units that must go missing for the sample ratio check to see it.
    curve
        (units, chance to see the smallest effect, chance to see the target).
    over_time
        (weeks, units assigned by then that are measured, smallest effect seen); empty without weeks.
    notes, hints
        What was assumed; what would save units.
    """

    schema_version: int = 1
    program: str
    title: str
    sentence: str
    kpi: str
    unit: str
    units_called: str
    effect: float
    effect_in_words: str
    target: float
    level: float
    power: float
    arms: tuple[PlannedArm, ...]
    units: int
    clusters: int | None = None
    weeks: int | None = None
    steps: tuple[Step, ...]
    available: Available | None = None
    guard_rails: tuple[PlannedGuardRail, ...] = ()
    what_if: tuple[WhatIf, ...] = ()
    missing_share_seen: float | None = None
    curve: tuple[tuple[float, float, float], ...] = ()
    over_time: tuple[tuple[int, float, float | None], ...] = ()
    notes: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    inputs: dict[str, str]

    @property
    def default_folder(self) -> str:
        """Where it belongs, relative to the project."""
        return f"outputs/{self.program}/plan"

    def _rows(self) -> list[tuple[str, str]]:
        rows = [("Answer", self.sentence)]
        rows += [(f"Arm {arm.name}", _size(arm, self.units_called)) for arm in self.arms]
        rows += [("With what there is", self.available.sentence)] if self.available else []
        wanted = f"the {self.level:.0%} interval lies wholly on the side of a {'fall' if self.effect < 0 else 'rise'}"
        rows += [("To see it means", f"{wanted}, with the multiplicity and looks that were agreed.")]
        rows += [("Sample ratio check", self._sample_ratio())]
        rows += [(f"Guard-rail {one.label}", one.sentence) for one in self.guard_rails]
        rows += [("Assumed", text) for text in self.notes]
        return rows + [("Hint", text) for text in self.hints]

    def _sample_ratio(self) -> str:
        if self.missing_share_seen is None:
            return f"will not see it if half of one arm’s {self.units_called} go missing: the experiment is too small."
        return (
            f"will see it, {times(self.power)}, if {self.missing_share_seen:.1%} of one arm’s {self.units_called} "
            "go missing."
        )

    def __str__(self) -> str:
        return "\n".join(f"{name}: {text}" for name, text in self._rows())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return rows_to_html(self._rows())


class Rows(Noun):
    """A small table that prints well: head, and rows of text."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        return (
            "\n".join(" | ".join(row) for row in (self.head, *self.rows)) if self.rows else "Nothing to show."
        )

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        if not self.rows:
            return "<p>Nothing to show.</p>"
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in self.head)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def plan_steps(plan: ExperimentPlan) -> Rows:
    """Why so many: each step with the units that it leads to."""
    rows = tuple(
        (
            step.name,
            "" if place == 0 else f"× {step.factor:.2f}",
            format_number(math.ceil(step.units), 0),
            step.why,
        )
        for place, step in enumerate(plan.steps)
    )
    return Rows(head=("what is counted", "times", plan.units_called, "why"), rows=rows)


def plan_what_if(plan: ExperimentPlan) -> Rows:
    """What the size would have to be if one assumption is worse than planned."""
    rows = tuple((one.assumption, format_number(one.units, 0)) for one in plan.what_if)
    return Rows(
        head=("if", f"{plan.units_called} needed"), rows=(("as planned", format_number(plan.units, 0)), *rows)
    )


def in_words(program: Program, effect: float, *, fall_or_rise: bool = True) -> str:
    """An effect as readers see it: 'a fall of 0.5 minutes'."""
    log = program.kpi.scale == "log"
    size = abs(100 * math.expm1(effect)) if log else abs(effect)
    text = f"{digits(size)} {'percent' if log else program.kpi.unit}"
    return f"a {'fall' if effect < 0 else 'rise'} of {text}" if fall_or_rise else text


def digits(value: float) -> str:
    """A number with three significant digits, thousands separated."""
    return format_number(value, 0) if abs(value) >= 100 else f"{value:.3g}"


def times(power: float) -> str:
    """A chance as a count: '4 times in 5'."""
    simple = {0.5: "1 time in 2", 0.75: "3 times in 4", 0.8: "4 times in 5", 0.9: "9 times in 10"}
    return simple.get(round(power, 4), f"{100 * power:.0f} times in 100")


def _size(arm: PlannedArm, units_called: str) -> str:
    clusters = f" in {arm.clusters:,} clusters" if arm.clusters is not None else ""
    return f"{arm.units:,} {units_called}{clusters} ({arm.share:.0%})"
