"""The money side of a program file: what it cost, and what an improvement is worth."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, Strict, model_validator

from ldlab.program.sections import NotNegative, Positive, Section, Text, refuse


class CostItem(Section):
    """One item of cost."""

    item: Text
    amount: NotNegative = Field(description="In the currency of costs.")
    per: Literal["program", "participant"] = Field(description="Paid once, or for each participant.")


class ValueOfUnit(Section):
    """What one KPI unit of improvement is worth, for one participant over one year."""

    amount: Positive = Field(description="Best guess, in the currency of costs.")
    low: NotNegative | None = Field(None, description="Lower end of the 9-in-10 range.")
    high: Positive | None = Field(None, description="Upper end of the 9-in-10 range.")
    owner: Text = Field(description="Who answers for this number.")

    @model_validator(mode="after")
    def _range_holds_amount(self) -> Self:
        if (self.low is None) != (self.high is None):
            raise refuse("low and high together, or neither")
        if self.low is not None and self.high is not None and not self.low <= self.amount <= self.high:
            raise refuse("low <= amount <= high", f"{self.low} / {self.amount} / {self.high}")
        return self


class Costs(Section):
    """What the program cost, fully loaded, and what an improvement is worth."""

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = Field(description="ISO code, such as EUR.")
    items: tuple[CostItem, ...] = ()
    participant_hours: NotNegative = Field(0.0, description="Hours of working time per participant.")
    loaded_hourly_rate: NotNegative = Field(0.0, description="Cost of one working hour, with on-costs.")
    participants: Annotated[int, Strict(), Field(gt=0)] | None = Field(
        None, description="People trained; default: the trained units in the data."
    )
    owner: Text = Field(description="Who answers for the costs.")
    value_of_unit: ValueOfUnit | None = None
    horizon_years: Positive = Field(1.0, description="Years of benefit counted; one unless agreed otherwise.")
