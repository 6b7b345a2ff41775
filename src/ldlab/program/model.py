"""What a program file says, whole: :class:`Program`, and the register of objectives."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any, Self

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator

from ldlab.program.costs import Costs
from ldlab.program.design import (
    ESTIMATORS,
    LEAD_BY_DESIGN,
    LEADING_ESTIMATOR,
    NOTEBOOKS_BY_DESIGN,
    PANEL_DESIGNS,
    SELECTABLE,
    Design,
)
from ldlab.program.experiment import GuardRail, Looks, Plan, SecondaryKpi
from ldlab.program.sections import (
    PERCENT_OF_BASELINE,
    PROGRAM_ID,
    RESERVED_IDS,
    Agreement,
    Analyses,
    Data,
    Kpi,
    Objective,
    Priors,
    Section,
    Skills,
    Text,
    refuse,
)


class Program(Section):
    """One learning program: what was wanted, agreed, done and measured. Made by :func:`ldlab.load_program`."""

    id: str = Field("", description="Default: the file's name.")
    title: Text = Field(description="The program's name, as leaders know it.")
    owner: Text = Field(description="Who answers for this evaluation.")
    objective: Objective
    kpi: Kpi
    skills: Skills
    design: Design
    data: Data
    agreement: Agreement
    costs: Costs | None = None
    priors: Priors = Priors()
    analysis: Analyses = Analyses()
    secondary_kpis: tuple[SecondaryKpi, ...] = Field(
        (), max_length=20, description="Randomised: KPIs that were agreed to be looked at, but not to decide."
    )
    guard_rails: tuple[GuardRail, ...] = Field(
        (), max_length=10, description="Randomised: KPIs that the program must not harm."
    )
    looks: Looks | None = Field(
        None, description="Randomised: when the result may be read. Default: once, at the end."
    )
    plan: Plan | None = Field(
        None, description="Randomised: what is expected, for the sample size and duration."
    )

    _root: Path = PrivateAttr(default=Path())
    _sha256: str = PrivateAttr(default="")
    _file: str = PrivateAttr(default="")

    @field_validator("id")
    @classmethod
    def _safe_id(cls, value: str) -> str:
        if not re.match(PROGRAM_ID, value):
            raise refuse("lower-case letters, digits, - and _, at most 64, no dots or slashes", value)
        if value in RESERVED_IDS:
            raise refuse("a name other than " + ", ".join(RESERVED_IDS), value)
        return value

    @model_validator(mode="after")
    def _notebooks_fit_the_design(self) -> Self:
        allowed = SELECTABLE.get(self.design.kind, NOTEBOOKS_BY_DESIGN[self.design.kind])
        for name in self.analysis.notebooks or ():
            if name not in allowed:
                raise refuse(
                    f"analysis.notebooks from {', '.join(allowed)} for design {self.design.kind}", name
                )
        if self.kpi.censored_column is not None:
            if self.is_panel:
                raise refuse("no censored_column in a panel design", self.kpi.censored_column)
            if set(self.notebooks) != {"bayes_impact"}:
                raise refuse(
                    "analysis.notebooks: [bayes_impact], the one that reads censored durations",
                    ", ".join(self.notebooks),
                )
        if self.analysis.lead is not None and self.analysis.lead not in self.notebooks:
            raise refuse(
                f"analysis.lead to be one of the notebooks that run: {', '.join(self.notebooks)}",
                self.analysis.lead,
            )
        if self.analysis.lead == "plan" and self.notebooks != ("plan",):
            raise refuse("analysis.lead to be a notebook that estimates", "plan")
        needs_payback = any(line.when == "chance of payback" for line in self.agreement.decision_rule)
        if needs_payback and (self.costs is None or self.costs.value_of_unit is None):
            raise refuse("costs with value_of_unit, because the decision rule asks for the chance of payback")
        return self

    @model_validator(mode="after")
    def _each_column_has_one_role(self) -> Self:
        columns, kpi = self.design.columns, self.kpi
        roles = {
            name: getattr(columns, name) for name in ("unit", "treatment", "assignment", "period", "start")
        }
        taken = {column: role for role, column in roles.items() if column is not None}
        taken |= dict.fromkeys(columns.covariates, "covariates")
        for role, column in (("column", kpi.column), ("exposure_column", kpi.exposure_column)):
            if column in taken:
                raise refuse(
                    f"a column that is not also design.columns.{taken[column]}", column, at=("kpi", role)
                )
        if kpi.column == kpi.exposure_column:
            raise refuse("a column that is not also kpi.column", kpi.column, at=("kpi", "exposure_column"))
        self._other_kpis_have_their_own(taken)
        if (
            columns.segment is not None
            and columns.segment in taken
            and taken[columns.segment] != "covariates"
        ):
            at = ("design", "columns", "segment")
            raise refuse(
                f"a column that is not also design.columns.{taken[columns.segment]}", columns.segment, at=at
            )
        return self

    def _other_kpis_have_their_own(self, taken: dict[str, str]) -> None:
        """Every KPI has a label and a column of its own, and no column before that has another role."""
        seen_labels, seen_columns = {self.kpi.label}, {self.kpi.column}
        if self.kpi.before_column in taken or self.kpi.before_column == self.kpi.column:
            raise refuse("a column without another role", self.kpi.before_column, at=("kpi", "before_column"))
        for section in ("secondary_kpis", "guard_rails"):
            for place, kpi in enumerate(getattr(self, section)):
                at = (section, place)
                if kpi.label in seen_labels:
                    raise refuse("a label of its own for each KPI", kpi.label, at=(*at, "label"))
                if kpi.column in seen_columns or kpi.column in taken:
                    raise refuse("a column without another role", kpi.column, at=(*at, "column"))
                if kpi.before_column is not None and kpi.before_column in {*taken, kpi.column}:
                    raise refuse(
                        "a column without another role", kpi.before_column, at=(*at, "before_column")
                    )
                seen_labels.add(kpi.label)
                seen_columns.add(kpi.column)
                self._can_be_primary(kpi, at)
        self._groups_are_no_outcomes(seen_columns)

    def _can_be_primary(self, kpi: SecondaryKpi | GuardRail, at: tuple[str | int, ...]) -> None:
        """Refuse another KPI for what a primary one would be refused for, at its own place in the file."""
        try:
            self.about(kpi)
        except ValidationError as error:
            fault = error.errors()[0]
            said = fault.get("ctx", {})
            place = list(said.get("at", fault["loc"]))
            if place and place[0] in ("target", "smallest_effect_worth_having"):
                place[0] = (
                    "largest_acceptable_harm"
                    if isinstance(kpi, GuardRail)
                    else "smallest_effect_worth_having"
                )
            raise refuse(said.get("expected", fault["msg"]), said.get("found"), at=(*at, *place)) from None

    def _groups_are_no_outcomes(self, kpis: set[str]) -> None:
        """Outside panels nothing that describes a unit is also its id, its arm or a KPI."""
        columns = self.design.columns
        if self.is_panel:
            return
        named = {name: getattr(columns, name) for name in ("unit", "treatment", "assignment")}
        taken = {column: f"design.columns.{role}" for role, column in named.items() if column is not None}
        taken |= dict.fromkeys(kpis, "a KPI")
        described: list[tuple[str, str | None]] = [
            (role, getattr(columns, role))
            for role in (
                "cluster",
                "team",
                "stratum",
                "segment",
                "dose",
                "assigned_on",
                "exposed_on",
                "measured_on",
            )
        ]
        for role, column in described:
            if column in taken:
                at = ("design", "columns", role)
                raise refuse(f"a column that is not also {taken[column]}, or no {role}", column, at=at)
        for place, column in enumerate(columns.exploratory_segments):
            others = (columns.segment, *columns.exploratory_segments[:place])
            if column in taken or column in others:
                raise refuse(
                    "a column without another role",
                    column,
                    at=("design", "columns", "exploratory_segments", place),
                )

    @model_validator(mode="after")
    def _experiment_fits_the_design(self) -> Self:
        if self.design.kind != "randomised":
            for name in ("secondary_kpis", "guard_rails", "looks", "plan"):
                if getattr(self, name):
                    raise refuse(f"{name} only with design randomised", at=(name,))
            for name in ("before_column", "winsorise"):
                if getattr(self.kpi, name) is not None:
                    raise refuse(f"{name} only with design randomised", at=("kpi", name))
            return self
        arms, lead = self.design.treated_values, self.agreement.lead_arm
        if lead is not None and str(lead) not in {str(arm) for arm in arms}:
            expected = f"one of design.treated_values: {', '.join(map(str, arms))}" if arms else "no lead_arm"
            raise refuse(expected, lead, at=("agreement", "lead_arm"))
        columns = self.design.columns
        if self.looks is not None and self.looks.by_date and not (columns.assigned_on or columns.measured_on):
            raise refuse(
                "design.columns.measured_on or assigned_on, because looks are dates", at=("looks", "at")
            )
        if "plan" in (self.analysis.notebooks or ()) and self.plan is None:
            raise refuse("a section plan, because analysis.notebooks names the notebook", at=("analysis",))
        return self

    @model_validator(mode="after")
    def _window_fits_the_design(self) -> Self:
        if self.agreement.observation_window is not None and not self.is_panel:
            at = ("agreement", "observation_window")
            raise refuse(
                f"no observation_window: design {self.design.kind} has no periods", "a window", at=at
            )
        chosen, allowed = self.agreement.estimator, ESTIMATORS.get(self.design.kind, ())
        if chosen is not None and chosen not in allowed:
            at = ("agreement", "estimator")
            raise refuse(
                f"one of {', '.join(allowed)}" if allowed else "no estimator in this design", chosen, at=at
            )
        if chosen == "adjusted" and not (self.kpi.before_column or self.design.columns.covariates):
            raise refuse(
                "kpi.before_column or design.columns.covariates, to adjust for", at=("agreement", "estimator")
            )
        return self

    @property
    def notebooks(self) -> tuple[str, ...]:
        """The analysis notebooks to run, in order."""
        return self.analysis.notebooks or self._fitting()

    def _fitting(self) -> tuple[str, ...]:
        """By design; least squares cannot read durations of which some were still running."""
        by_design = NOTEBOOKS_BY_DESIGN[self.design.kind]
        if self.kpi.censored_column is not None:
            return ("bayes_impact",)
        return (*by_design, "plan") if self.plan is not None else by_design

    @property
    def lead(self) -> str:
        """The notebook whose estimate leads: agreed, or by design; never by result."""
        by_design = LEAD_BY_DESIGN[self.design.kind]
        if self.analysis.lead is not None:
            return self.analysis.lead
        if by_design in self.notebooks:
            return by_design
        return next((name for name in self.notebooks if name != "plan"), "plan")

    @property
    def estimator(self) -> str:
        """Which estimate leads in a panel with a comparison or an experiment: agreed, or by design; never by result."""
        if self.design.kind == "randomised":
            return self.agreement.estimator or ("adjusted" if self.kpi.before_column else "difference")
        return self.agreement.estimator or LEADING_ESTIMATOR[self.design.kind]

    def about(self, kpi: SecondaryKpi | GuardRail) -> Program:
        """The same program with another of its KPIs in the place of the primary one."""
        return self.model_copy(
            update={"kpi": kpi.as_kpi(self.kpi), "secondary_kpis": (), "guard_rails": (), "costs": None}
        )

    @property
    def is_panel(self) -> bool:
        """Whether the data have one row per unit and period."""
        return self.design.kind in PANEL_DESIGNS

    @property
    def level(self) -> float:
        """Level of every interval."""
        return self.analysis.interval_level

    @property
    def root(self) -> Path:
        """The project folder that paths are relative to."""
        return self._root

    @property
    def file(self) -> str:
        """The program file, relative to the project."""
        return self._file

    @property
    def sha256(self) -> str:
        """Hash of what the file says; comments and layout do not change it."""
        return self._sha256

    @property
    def compared(self) -> str:
        """What is held against the comparison group: the program, one of its arms, or several together."""
        if self.agreement.lead_arm is not None:
            return f"{self.title} ({self.agreement.lead_arm})"
        arms = len(self.design.treated_values)
        return f"{self.title} ({arms} versions taken together)" if arms else self.title

    def question(self) -> str:
        """The question that the program file asks, in one sentence."""
        verb = "raise" if self.kpi.sign > 0 else "lower"
        amount = self.kpi.target
        size = (
            f"{amount.value:g}%" if amount.unit == PERCENT_OF_BASELINE else f"{amount.value:g} {amount.unit}"
        )
        return f"Did {self.compared} {verb} {self.kpi.label} among {self.design.population}, and by the agreed {size}?"

    def _rows(self) -> list[tuple[str, str]]:
        return [
            ("Program", f"{self.title} ({self.id})"),
            ("Objective", f"{self.objective.goal} → {self.objective.key_result}"),
            ("KPI", f"{self.kpi.label}, {self.kpi.unit}; better: {self.kpi.direction}"),
            ("Target", f"{self.kpi.target.value:g} {self.kpi.target.unit}"),
            ("Skills gap", self.skills.gap),
            ("Design", f"{self.design.kind.replace('_', ' ')}; unit: {self.design.unit}"),
            ("Agreed", f"{self.agreement.agreed_on} by {', '.join(self.agreement.agreed_by)}"),
            ("Rule", self.agreement.rule_in_words()),
            ("Intervals", f"{self.level:.0%}; groups under {self.analysis.minimum_group_size} are not shown"),
        ]

    def __str__(self) -> str:
        return "\n".join(f"{name:<11} {text}" for name, text in self._rows())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        left = 'style="text-align:left"'
        rows = "".join(
            f'<tr><th scope="row" {left}>{escape(name)}</th><td {left}>{escape(text)}</td></tr>'
            for name, text in self._rows()
        )
        return f"<table>{rows}</table>"


class RegisteredObjective(Section):
    """An objective of the business, whether or not a program serves it."""

    id: str = Field(pattern=PROGRAM_ID)
    goal: Text
    key_result: Text
    owner: Text


class Objectives(Section):
    """``params/objectives.yaml``: what the business wants, so that the index can name what no program serves."""

    objectives: tuple[RegisteredObjective, ...] = Field(min_length=1)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a program file, for editors."""
    schema = Program.model_json_schema(by_alias=True)
    schema["$schema"] = "http://json-schema.org/draft-07/schema#"
    schema["title"] = "ldlab program file"
    return schema
