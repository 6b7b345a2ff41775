"""The sections of a program file: pydantic models, closed to unknown keys."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, Strict, field_validator, model_validator
from pydantic_core import PydanticCustomError

PERCENT_OF_BASELINE = "percent of baseline"
PERCENTAGE_POINTS = "percentage points"
PROGRAM_ID = r"^[a-z0-9][a-z0-9_-]{0,63}$"
RESERVED_IDS = ("portfolio", "objectives", "program", "readme")

Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Positive = Annotated[float, Strict(), Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Strict(), Field(gt=0, lt=1)]
Text = Annotated[str, Field(min_length=1, max_length=600)]
Period = dt.date | Annotated[int, Strict()]

Analysis = Literal["ab_test", "ab_at_scale", "diff_in_diff", "bayes_impact", "plan"]
ValueType = Literal["continuous", "binary", "count", "rate", "ordinal", "duration"]
DecisionWord = Literal["scale", "continue", "fix", "test further", "stop", "too early"]
Grade = Literal["A", "B", "C", "D", "E"]


def refuse(expected: str, found: object = None, *, at: tuple[str | int, ...] = ()) -> PydanticCustomError:
    """The error a validator raises: what was expected, what was found, and where below the validated section."""
    return PydanticCustomError("ldlab", "{expected}", {"expected": expected, "found": found, "at": at})


class Section(BaseModel):
    """A part of a program file: frozen, and closed to keys that nobody defined."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True, populate_by_name=True)


class Objective(Section):
    """The business objective that the program serves, and its key result (OKR)."""

    goal: Text = Field(description="The objective, as the business says it.")
    key_result: Text = Field(description="The measurable key result, with its date.")
    owner: Text = Field(description="Who answers for the objective.")
    id: str | None = Field(
        None,
        pattern=PROGRAM_ID,
        description="Name of the objective in params/objectives.yaml, if there is one.",
    )


class Amount(Section):
    """A size of improvement with its unit; the direction is the KPI's."""

    value: Positive = Field(description="How large an improvement, as a positive number.")
    unit: Text = Field(description="The KPI's unit, or 'percent of baseline'.")


class Winsorise(Section):
    """Quantiles of the KPI, all arms together, beyond which values are clipped; agreed before the data were read."""

    below: Annotated[float, Strict(), Field(ge=0, lt=0.5)] = Field(
        0.0, description="Values under this quantile are raised to it."
    )
    above: Annotated[float, Strict(), Field(gt=0.5, le=1)] = Field(
        1.0, description="Values over this quantile are lowered to it, such as 0.99."
    )

    @model_validator(mode="after")
    def _clips_something(self) -> Self:
        if self.below == 0 and self.above == 1:
            raise refuse("below above 0, or above under 1", "neither")
        return self


class Kpi(Section):
    """The key performance indicator that was agreed."""

    column: Text = Field(description="The column that holds the KPI.")
    label: Text = Field(description="What the KPI is called in a sentence, such as 'resolution time'.")
    unit: Text = Field(
        description="Unit of one value, such as 'minutes per ticket'; binary: 'percentage points'."
    )
    direction: Literal["increase", "decrease"] = Field(description="Which way is better.")
    value_type: ValueType = Field(description="What kind of number the KPI is.")
    owner: Text = Field(description="Who answers for the KPI's definition and data.")
    smallest_effect_worth_having: Amount = Field(
        description="The smallest improvement that would be worth the trouble."
    )
    target: Amount = Field(description="The improvement that was agreed as the target.")
    exposure_column: Text | None = Field(
        None,
        description="For a rate: the column with the exposure (hours, tickets); the KPI column is the count.",
    )
    scale: Literal["as is", "log"] = Field(
        "as is", description="'log' analyses the logarithm; effects are then percent changes."
    )
    measured: Text | None = Field(None, description="When the KPI was measured, in words, such as 'in 1978'.")
    lowest: Number | None = Field(
        None, description="The lowest value the KPI can have; an ordinal item's lowest category."
    )
    highest: Number | None = Field(None, description="The highest value the KPI can have.")
    censored_column: Text | None = Field(
        None,
        description="For a duration on a log scale: 1 where it was still running when last seen, so that it is longer.",
    )

    before_column: Text | None = Field(
        None,
        description="Randomised: the same KPI before assignment (CUPED); who has none stays in, and is counted.",
    )
    winsorise: Winsorise | None = Field(
        None,
        description="Randomised, heavy-tailed KPIs: agreed quantiles beyond which values are clipped; shown beside the raw.",
    )

    @model_validator(mode="after")
    def _winsorising_fits(self) -> Self:
        if self.winsorise is not None and self.value_type not in ("continuous", "count", "duration"):
            raise refuse(
                "winsorise only with value_type continuous, count or duration",
                self.value_type,
                at=("winsorise",),
            )
        return self

    @model_validator(mode="after")
    def _units_fit(self) -> Self:
        if self.value_type == "binary" and self.unit != PERCENTAGE_POINTS:
            raise refuse(f"'{PERCENTAGE_POINTS}' for a binary KPI", self.unit, at=("unit",))
        if self.scale == "log" and self.value_type not in ("continuous", "duration"):
            raise refuse("'log' only with value_type continuous or duration", self.value_type, at=("scale",))
        if (self.value_type == "rate") != (self.exposure_column is not None):
            raise refuse(
                "exposure_column with value_type: rate, and only then",
                self.exposure_column,
                at=("value_type",),
            )
        if self.lowest is not None and self.highest is not None and self.lowest >= self.highest:
            raise refuse("lowest below highest", f"{self.lowest:g} and {self.highest:g}", at=("highest",))
        if self.censored_column is not None and (self.value_type != "duration" or self.scale != "log"):
            raise refuse(
                "censored_column with value_type: duration and scale: log, and only then",
                self.value_type,
                at=("censored_column",),
            )
        allowed = [PERCENT_OF_BASELINE] if self.scale == "log" else [self.unit, PERCENT_OF_BASELINE]
        for name, amount in (
            ("target", self.target),
            ("smallest_effect_worth_having", self.smallest_effect_worth_having),
        ):
            if amount.unit not in allowed:
                raise refuse(" or ".join(f"'{unit}'" for unit in allowed), amount.unit, at=(name, "unit"))
            if amount.unit == PERCENT_OF_BASELINE and self.direction == "decrease" and amount.value >= 100:
                raise refuse("a fall of less than 100 percent", amount.value, at=(name, "value"))
        if self.target.unit == self.smallest_effect_worth_having.unit and (
            self.target.value < self.smallest_effect_worth_having.value
        ):
            raise refuse(
                f"a target of at least the smallest effect worth having ({self.smallest_effect_worth_having.value:g})",
                self.target.value,
                at=("target", "value"),
            )
        return self

    @property
    def sign(self) -> int:
        """+1 where more is better, -1 where less is."""
        return 1 if self.direction == "increase" else -1

    @property
    def effect_unit(self) -> str:
        """Unit in which effects on this KPI are reported."""
        return "log points" if self.scale == "log" else self.unit


class Skills(Section):
    """What people could not do, and what they should be able to do after the program."""

    gap: Text = Field(description="The skills gap, with how it was seen.")
    learning_objective: Text = Field(description="What participants can do afterwards, measurably.")


class Data(Section):
    """Where the data are. Paths are relative to the project folder."""

    source: Text | None = Field(
        None, description="A CSV, TSV, Parquet or JSON-lines file, or a glob of them."
    )
    query: Annotated[str, Field(min_length=1, max_length=20_000)] | None = Field(
        None, description="A SELECT in DuckDB's SQL instead of source; it may name files."
    )
    missing_values: tuple[str, ...] = Field((), description="Texts in a CSV that mean missing, such as NA.")
    owner: Text | None = Field(None, description="Who answers for the extract.")
    cut_off: dt.date | None = Field(None, description="Data are complete up to this date.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.source is None) == (self.query is None):
            raise refuse("either source or query", "neither" if self.source is None else "both")
        return self


class Window(Section):
    """First and last period of the agreed observation window, both included."""

    first: Period = Field(description="First period, as in the data (a date or a whole number).")
    last: Period = Field(description="Last period, as in the data.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if type(self.first) is not type(self.last):
            raise refuse("first and last of one kind: two dates, or two whole numbers")
        if self.first > self.last:  # type: ignore[operator]
            raise refuse("first before last", f"{self.first} to {self.last}")
        return self


class RuleLine(Section):
    """One line of the agreed decision rule. Lines are tried in order; the last has no condition."""

    decision: DecisionWord
    when: (
        Literal["chance of target", "chance of gain", "chance of worthwhile gain", "chance of payback"] | None
    ) = None
    at_least: Annotated[float, Strict(), Field(ge=0, le=1)] | None = None
    below: Annotated[float, Strict(), Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        bounds = [self.at_least, self.below]
        if self.when is None and bounds != [None, None]:
            raise refuse("when: beside at_least or below")
        if self.when is not None and (self.at_least is None) == (self.below is None):
            raise refuse("either at_least or below, a chance between 0 and 1")
        return self

    def __str__(self) -> str:
        if self.when is None:
            return f"otherwise {self.decision}"
        chance = {
            "chance of target": "the chance of reaching the target",
            "chance of gain": "the chance of any gain",
            "chance of worthwhile gain": "the chance of at least the smallest effect worth having",
            "chance of payback": "the chance that it pays back",
        }[self.when]
        bound = f"at least {self.at_least:.0%}" if self.at_least is not None else f"below {self.below:.0%}"
        return f"{self.decision} if {chance} is {bound}"


class Trim(Section):
    """Propensity scores outside which people are left out, agreed before the data were read."""

    below: Annotated[float, Strict(), Field(ge=0, lt=1)] = Field(
        0.0, description="Left out with a score below; 0.1 is the rule of Crump et al. (2009)."
    )
    above: Annotated[float, Strict(), Field(gt=0, le=1)] = Field(
        1.0, description="Left out with a score above."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.below >= self.above:
            raise refuse("below smaller than above", f"{self.below:g} and {self.above:g}", at=("above",))
        return self


class Agreement(Section):
    """What was agreed before the data were read."""

    agreed_by: tuple[Text, ...] = Field(min_length=1, description="Who agreed.")
    agreed_on: dt.date = Field(description="When, as an ISO date.")
    decision_rule: tuple[RuleLine, ...] = Field(
        min_length=1, description="Tried in order; the last is 'otherwise'."
    )
    observation_window: Window | None = Field(
        None, description="Periods outside it are left out, and counted."
    )
    too_early_before: Period | None = Field(
        None, description="Before this the effect cannot be expected yet."
    )
    trim_propensity: Trim | None = Field(
        None,
        description="Observational: who is too unlike the other arm to be compared; default: nobody is left out.",
    )
    estimator: Literal["group_time", "imputation", "two_way", "difference", "adjusted"] | None = Field(
        None,
        description="Which estimate leads. Panels: group_time (Callaway and Sant'Anna; default for staggered), "
        "imputation or two_way (default for two_group_before_after). Randomised: adjusted (Lin's regression; default "
        "where kpi.before_column is named) or difference (of the arms; default otherwise).",
    )
    lead_arm: str | Annotated[int, Strict()] | None = Field(
        None,
        description="Several program arms: the one that the headline is about; default: all of them together.",
    )
    multiplicity: Literal["simultaneous", "holm"] = Field(
        "simultaneous",
        description="Several program arms: intervals that hold together (max-t), or Holm's p values beside single ones.",
    )
    false_discovery_rate: Share = Field(
        0.1, description="Secondary KPIs: accepted share of false ones among those called moved."
    )
    minimum_grade: Grade = Field(
        "C", description="Below this grade the rule may not say scale, continue or stop."
    )

    @field_validator("decision_rule")
    @classmethod
    def _ends_with_otherwise(cls, rule: tuple[RuleLine, ...]) -> tuple[RuleLine, ...]:
        if rule[-1].when is not None or any(line.when is None for line in rule[:-1]):
            raise refuse("conditions (when:) on all lines but the last, and none on the last")
        return rule

    def rule_in_words(self) -> str:
        """The rule as one sentence."""
        return "; ".join(str(line) for line in self.decision_rule)


class EffectPrior(Section):
    """Normal prior for the effect, in KPI units (percentage points if binary, log points with scale: log)."""

    mean: Number = 0.0
    sd: Positive


class Priors(Section):
    """Priors in KPI units; what is not given gets the documented default."""

    effect: EffectPrior | None = Field(
        None, description="Default: mean 0, sd the larger of twice the target and half the KPI's sd."
    )
    segment_sd: Positive | None = Field(
        None,
        description="Scale of the half-normal prior for how far segments differ; default: half the effect's sd.",
    )


class Analyses(Section):
    """How to analyse."""

    interval_level: Annotated[float, Strict(), Field(ge=0.5, le=0.99)] = Field(
        0.9, description="Level of every interval on every page."
    )
    minimum_group_size: Annotated[int, Strict(), Field(ge=5)] = Field(
        10, description="Groups with fewer units are never shown; at least 5."
    )
    seed: Annotated[int, Strict(), Field(ge=0, lt=2**31)] = Field(20250101, description="Seed of every draw.")
    errors: Literal["normal", "student_t"] = Field(
        "normal", description="Errors of a continuous KPI; 'student_t' gives less weight to extreme values."
    )
    covariate_bins: Annotated[int, Strict(), Field(ge=2, le=50)] | None = Field(
        None,
        description="Binary and count KPIs: replace each covariate by the mean of its quantile group, of so many; "
        "quicker on large data, and no longer exact. Default: no binning.",
    )
    notebooks: tuple[Analysis, ...] | None = Field(None, min_length=1, description="Default: by design.")
    lead: Analysis | None = Field(None, description="Which notebook leads the brief; default: by design.")
