"""The money side of a program file: what it cost, and what an improvement is worth."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, Strict, model_validator

from ldlab.program.sections import NotNegative, Positive, Section, Text, refuse

PeopleWithoutData = Literal["no improvement", "like the others"]


def _refuse_a_crooked_range(guess: float, low: float | None, high: float | None, name: str) -> None:
    if (low is None) != (high is None):
        raise refuse("low and high together, or neither", f"{'low' if high is None else 'high'} alone")
    if low is not None and high is not None and not low <= guess <= high:
        raise refuse(f"low <= {name} <= high", f"{low:g} / {guess:g} / {high:g}")


class Uncertain(Section):
    """A number that nobody knows exactly: a best guess, and the range that holds it 9 times in 10."""

    value: NotNegative = Field(description="Best guess: as likely too low as too high.")
    low: NotNegative | None = Field(None, description="Lower end of the 9-in-10 range.")
    high: NotNegative | None = Field(None, description="Upper end of the 9-in-10 range.")

    @model_validator(mode="after")
    def _range_holds_value(self) -> Self:
        _refuse_a_crooked_range(self.value, self.low, self.high, "value")
        return self

    @property
    def ends(self) -> tuple[float, float]:
        """The 5% and 95% quantiles; twice the best guess where it is known exactly."""
        known = self.low is None or self.high is None
        return (self.value, self.value) if known else (float(self.low or 0), float(self.high or 0))


def _spelt_out(given: Any) -> Any:
    """A plain number stands for itself, known exactly."""
    if isinstance(given, dict | Uncertain):
        return given
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not math.isfinite(given) or given < 0:
        raise refuse("a number of at least 0, or {value: 8, low: 6, high: 10}", given)
    return {"value": given}


def _above_zero(guess: Uncertain) -> Uncertain:
    if guess.value <= 0:
        raise refuse("a best guess above 0", guess.value)
    return guess


Guess = Annotated[Uncertain, BeforeValidator(_spelt_out, json_schema_input_type=NotNegative | Uncertain)]
PositiveGuess = Annotated[
    Uncertain,
    BeforeValidator(_spelt_out, json_schema_input_type=Positive | Uncertain),
    AfterValidator(_above_zero),
]


class CostItem(Section):
    """One item of cost."""

    item: Text
    amount: Guess = Field(description="In the currency of costs: a number, or value with low and high.")
    per: Literal["program", "participant"] = Field(description="Paid once, or for each participant.")


class ValueOfUnit(Section):
    """What one KPI unit of improvement is worth, for one participant over one year."""

    amount: Positive = Field(description="Best guess, in the currency of costs.")
    low: NotNegative | None = Field(None, description="Lower end of the 9-in-10 range.")
    high: Positive | None = Field(None, description="Upper end of the 9-in-10 range.")
    owner: Text = Field(description="Who answers for this number.")

    @model_validator(mode="after")
    def _range_holds_amount(self) -> Self:
        _refuse_a_crooked_range(self.amount, self.low, self.high, "amount")
        return self

    @property
    def guess(self) -> Uncertain:
        """The amount with its range."""
        return Uncertain(value=self.amount, low=self.low, high=self.high)


class Costs(Section):
    """What the program cost, fully loaded, and what an improvement is worth.

    Amounts, hours, rate and horizon are plain numbers, or ``{value: 8, low: 6, high: 10}``.
    """

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = Field(description="ISO code, such as EUR.")
    items: tuple[CostItem, ...] = ()
    participant_hours: Guess = Field(
        default=0.0, validate_default=True, description="Hours of working time per participant."
    )
    loaded_hourly_rate: Guess = Field(
        default=0.0, validate_default=True, description="Cost of one working hour, with on-costs."
    )
    participants: Annotated[int, Strict(), Field(gt=0)] | None = Field(
        None, description="People trained; default: the trained units in the data."
    )
    people_without_data: PeopleWithoutData = Field(
        "no improvement",
        description="What participants without a KPI gained; 'no improvement' is Phillips' guiding principle 6.",
    )
    owner: Text = Field(description="Who answers for the costs.")
    value_of_unit: ValueOfUnit | None = None
    horizon_years: PositiveGuess = Field(
        default=1.0,
        validate_default=True,
        description="Years of benefit counted; one (Phillips' guiding principle 9) unless agreed otherwise.",
    )
