"""The design section of a program file: which columns, and how people came to be trained."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal, Self

from pydantic import Field, Strict, model_validator

from ldlab.program.sections import Period, Section, Share, Text, refuse

PANEL_DESIGNS = ("staggered", "two_group_before_after", "before_after")
NOTEBOOKS_BY_DESIGN: dict[str, tuple[str, ...]] = {
    "randomised": ("ab_test", "bayes_impact"),
    "staggered": ("diff_in_diff", "bayes_impact"),
    "two_group_before_after": ("diff_in_diff", "bayes_impact"),
    "observational": ("bayes_impact",),
    "before_after": ("diff_in_diff",),
}
SELECTABLE = {"randomised": ("ab_test", "ab_at_scale", "bayes_impact", "plan")}
LEADING_ESTIMATOR = {"staggered": "group_time", "two_group_before_after": "two_way"}
ESTIMATORS = {
    "staggered": ("group_time", "imputation", "two_way"),
    "two_group_before_after": ("group_time", "imputation", "two_way"),
    "randomised": ("difference", "adjusted"),
}
EXPERIMENT_COLUMNS = (
    *("stratum", "assigned_on", "exposed_on", "measured_on", "dose"),
    "exploratory_segments",
)
LEAD_BY_DESIGN = {design: names[0] for design, names in NOTEBOOKS_BY_DESIGN.items()}

DesignKind = Literal["randomised", "staggered", "two_group_before_after", "observational", "before_after"]


class Columns(Section):
    """Names of the columns in the data."""

    unit: Text = Field(description="Identifies the unit (a person, firm, team).")
    treatment: Text | None = Field(None, description="1 for trained, 0 for not (or see treated_value).")
    assignment: Text | None = Field(
        None, description="Who was offered the program, 1 or 0; then the estimand is intention-to-treat."
    )
    period: Text | None = Field(None, description="Panel designs: the period, a whole number or an ISO date.")
    start: Text | None = Field(
        None, description="Panel designs: the unit's first trained period; empty (or 0) for never."
    )
    cluster: Text | None = Field(
        None, description="The group in which training was given or errors are shared."
    )
    segment: Text | None = Field(None, description="The agreed segment for which effects are shown.")
    covariates: tuple[Text, ...] = Field((), description="Baseline columns, measured before training.")
    team: Text | None = Field(
        None,
        description="Panel and randomised designs: people who work together; shows spillover to untrained teammates.",
    )
    stratum: Text | None = Field(
        None, description="Randomised: the stratum, block or pair within which lots were drawn."
    )
    assigned_on: Text | None = Field(None, description="Randomised: the date (or time) of assignment.")
    exposed_on: Text | None = Field(
        None, description="Randomised: when the unit first met the program; empty for never."
    )
    measured_on: Text | None = Field(None, description="Randomised: when the KPI was measured.")
    dose: Text | None = Field(
        None, description="Randomised: how much of the program the unit received (hours, sessions), a number."
    )
    exploratory_segments: tuple[Text, ...] = Field(
        (), max_length=5, description="Randomised: segments that were not agreed; shown as exploratory."
    )
    placebo_group: Text | None = Field(
        None,
        description="Panel designs: 1 for never-trained units that a rival cause of the effect would have touched too.",
    )


class OtherChange(Section):
    """Something else that changed at the same time."""

    what: Text = Field(description="What changed, such as 'a new ticket form'.")
    when: dt.date | Text = Field(union_mode="left_to_right", description="When it changed: a date, or words.")
    who: Text = Field(description="Whom it touched: 'everyone', 'trained only', a site.")

    @property
    def touched_everyone(self) -> bool:
        """Whether it touched trained and untrained alike, so that a comparison takes it out."""
        return self.who.strip().lower() in ("everyone", "everybody", "all")


class NegativeControl(Section):
    """A column on which the program cannot have had an effect, so that one found there shows bias."""

    column: Text = Field(description="A column of numbers that training cannot have moved.")
    label: Text = Field(description="What it is, as in a sentence: 'earnings in 1975'.")
    kind: Literal["outcome", "period"] = Field(
        description="'period': the KPI before training; 'outcome': another outcome that training cannot touch."
    )
    without: tuple[Text, ...] = Field(
        (), description="Covariates to leave out for it, because they are the same measurement."
    )


class ManipulationCheck(Section):
    """A column that shows whether the training took place: hours, sessions, modules."""

    column: Text = Field(description="A column of numbers, one for each unit and period.")
    label: Text = Field(description="What it is, as in a sentence: 'hours of training'.")
    unit: Text = Field(description="Its unit: 'hours per employee'.")


class Design(Section):
    """How people came to be trained, and who they are compared with."""

    kind: DesignKind = Field(description="The design; it sets the ceiling of the evidence grade.")
    unit: Text = Field(description="One unit in the singular: 'agent', 'firm'.")
    unit_plural: Text | None = Field(
        None, description="The unit in the plural; default: the singular with an s."
    )
    population: Text = Field(description="The trained population in the plural, as the headline names it.")
    columns: Columns
    period: Text = Field("period", description="One period in the singular: 'week', 'year'.")
    treated_value: str | int | bool | None = Field(
        None, description="The treatment column's value for trained, if it is not 1."
    )
    control_value: str | int | bool | None = Field(
        None, description="The treatment column's value for not trained, if it is not 0."
    )
    start_period: Period | None = Field(
        None, description="First trained period, when it is the same for all (before/after designs)."
    )
    treated_values: tuple[str | Annotated[int, Strict()], ...] = Field(
        (),
        description="Randomised with several program arms: the codes of the arms, with control_value for the rest.",
    )
    negative_controls: tuple[NegativeControl, ...] = Field(
        (),
        max_length=5,
        description="Where the program cannot have had an effect (observational and panel designs).",
    )
    manipulation_check: ManipulationCheck | None = Field(
        None, description="Panel designs: what shows that the training took place when the file says."
    )
    anticipation: Annotated[int, Strict(), Field(ge=0, le=24)] = Field(
        0,
        description="Panel designs: periods before the start in which the KPI may react already, such as to an "
        "announcement; they do not count as before.",
    )
    planned_treated_share: Share | None = Field(
        None, description="Randomised: the share that was meant to be assigned to training."
    )
    planned_shares: dict[str, Share] = Field(
        {},
        description="Randomised with several program arms: planned share of each code, the control's among them.",
    )
    other_changes: tuple[OtherChange, ...] = Field((), description="What else changed in the window.")
    limits: tuple[Text, ...] = Field(
        (),
        max_length=3,
        description="What this study cannot tell, in the owner's words; the page shows at most three.",
    )

    @property
    def units(self) -> str:
        """The unit in the plural."""
        return self.unit_plural or f"{self.unit}s"

    def _codes_fit(self) -> None:
        several = self.treated_values
        if self.treated_value is not None and several:
            raise refuse("either treated_value or treated_values", "both", at=("treated_values",))
        if (self.treated_value is None and not several) != (self.control_value is None):
            raise refuse(
                "treated_value (or treated_values) and control_value together, or neither", "one of them"
            )
        codes = [self.control_value, *(several or (self.treated_value,))]
        if codes[0] is not None and len({str(code) for code in codes}) < len(codes):
            raise refuse(
                "two different values" if len(codes) == 2 else "a value of its own for each arm",
                ", ".join(map(str, codes)),
                at=("control_value",),
            )
        if len(several) == 1:
            raise refuse("two or more values; treated_value for one", several[0], at=("treated_values",))
        if several and (self.kind != "randomised" or self.columns.assignment is not None):
            raise refuse(
                "treated_values only with design randomised and columns.treatment alone",
                at=("treated_values",),
            )
        if self.negative_controls and self.kind not in ("observational", *PANEL_DESIGNS):
            raise refuse(
                "negative_controls only with design observational or a panel design",
                at=("negative_controls",),
            )
        if self.kind in PANEL_DESIGNS and any(c.kind == "period" for c in self.negative_controls):
            raise refuse(
                "kind: outcome in a panel design, whose earlier periods are held against each other anyway",
                "period",
                at=("negative_controls",),
            )

    @model_validator(mode="after")
    def _panel_settings_fit_the_design(self) -> Self:
        if self.kind not in PANEL_DESIGNS:
            if self.columns.placebo_group is not None:
                raise refuse("columns.placebo_group only in a panel design", at=("columns", "placebo_group"))
            if self.columns.team is not None and self.kind != "randomised":
                raise refuse("columns.team only in a panel or randomised design", at=("columns", "team"))
            for name in ("manipulation_check", "anticipation"):
                if getattr(self, name):
                    raise refuse(f"{name} only in a panel design", at=(name,))
        if self.kind != "randomised":
            for name in EXPERIMENT_COLUMNS:
                if getattr(self.columns, name):
                    raise refuse(f"columns.{name} only with design randomised", at=("columns", name))
        return self

    @model_validator(mode="after")
    def _planned_shares_fit_the_arms(self) -> Self:
        shares = self.planned_shares
        if not shares:
            return self
        at = ("planned_shares",)
        if not self.treated_values:
            raise refuse("planned_treated_share where there is one program arm", at=at)
        if self.planned_treated_share is not None:
            raise refuse("either planned_shares or planned_treated_share", "both", at=at)
        arms = {str(code) for code in (*self.treated_values, self.control_value)}
        if set(shares) != arms:
            raise refuse(f"a share for each of {', '.join(sorted(arms))}", ", ".join(sorted(shares)), at=at)
        if abs(sum(shares.values()) - 1) > 1e-6:
            raise refuse("shares that add up to 1", f"{sum(shares.values()):g}", at=at)
        return self

    @model_validator(mode="after")
    def _columns_fit_the_design(self) -> Self:
        columns, kind = self.columns, self.kind
        self._codes_fit()
        if kind in PANEL_DESIGNS:
            if columns.period is None:
                raise refuse(f"columns.period, because the design is {kind}")
            if kind == "staggered" and columns.start is None and columns.treatment is None:
                raise refuse("columns.start (first trained period) or columns.treatment (0/1 by period)")
            if (
                kind == "two_group_before_after"
                and columns.start is None
                and (columns.treatment is None or self.start_period is None)
            ):
                raise refuse("columns.treatment with start_period, or columns.start")
            if kind == "before_after" and columns.start is None and self.start_period is None:
                raise refuse("start_period, or columns.start")
            if columns.assignment is not None:
                raise refuse("columns.assignment only with design randomised")
        else:
            for name in ("period", "start"):
                if getattr(columns, name) is not None:
                    raise refuse(f"no columns.{name}: design {kind} reads one row per {self.unit}", name)
            if self.start_period is not None:
                raise refuse(f"no start_period: design {kind} reads one row per {self.unit}")
            if columns.treatment is None and columns.assignment is None:
                raise refuse("columns.treatment (or columns.assignment)")
        if self.planned_treated_share is not None and kind != "randomised":
            raise refuse("planned_treated_share only with design randomised")
        named = [columns.unit, columns.treatment, columns.assignment, columns.period, columns.start]
        roles = [name for name in (*named, *columns.covariates) if name is not None]
        twice = sorted({name for name in roles if roles.count(name) > 1})
        if twice:
            raise refuse("each column in one role only", ", ".join(twice))
        return self
