"""What a program file says of an experiment beyond its primary KPI: other KPIs, looks, and the plan of its size."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal, Self

from pydantic import Field, Strict, field_validator, model_validator

from ldlab.program.sections import (
    Amount,
    Kpi,
    Number,
    Positive,
    Section,
    Share,
    Text,
    ValueType,
    Winsorise,
    refuse,
)

Count = Annotated[int, Strict(), Field(ge=2)]


class OtherKpi(Section):
    """A KPI beside the primary one."""

    column: Text = Field(description="The column that holds the KPI.")
    label: Text = Field(description="What the KPI is called in a sentence.")
    unit: Text = Field(description="Unit of one value; binary: 'percentage points'.")
    direction: Literal["increase", "decrease"] = Field(description="Which way is better.")
    value_type: ValueType = Field(description="What kind of number the KPI is.")
    owner: Text | None = Field(None, description="Who answers for it; default: the primary KPI's owner.")
    exposure_column: Text | None = Field(None, description="For a rate: the column with the exposure.")
    before_column: Text | None = Field(None, description="The same KPI before assignment.")
    winsorise: Winsorise | None = Field(None, description="Agreed quantiles beyond which values are clipped.")
    lowest: Number | None = Field(None, description="The lowest value the KPI can have.")
    highest: Number | None = Field(None, description="The highest value the KPI can have.")

    def _as_kpi(self, primary: Kpi, amount: Amount) -> Kpi:
        said = self.model_dump(include=set(OtherKpi.model_fields), exclude={"owner"})
        return Kpi(
            owner=self.owner or primary.owner, target=amount, smallest_effect_worth_having=amount, **said
        )


class SecondaryKpi(OtherKpi):
    """A KPI that was agreed to be looked at, but not to decide."""

    smallest_effect_worth_having: Amount = Field(
        description="The smallest improvement that would be worth the trouble."
    )

    def as_kpi(self, primary: Kpi) -> Kpi:
        """The same as a primary KPI, whose target is the smallest effect worth having."""
        return self._as_kpi(primary, self.smallest_effect_worth_having)


class GuardRail(OtherKpi):
    """A KPI that the program must not harm by more than was agreed."""

    largest_acceptable_harm: Amount = Field(
        description="How far the KPI may worsen, as a positive number; more is a breach."
    )

    def as_kpi(self, primary: Kpi) -> Kpi:
        """The same as a primary KPI; its target and smallest effect are the harm limit's size."""
        return self._as_kpi(primary, self.largest_acceptable_harm)


class Looks(Section):
    """When the result may be read, agreed before the first look."""

    method: Literal["fixed", "always_valid", "group_sequential"] = Field(
        description="'fixed': once, at the end; 'always_valid': at any time; 'group_sequential': at the planned looks."
    )
    at: tuple[dt.date | Annotated[int, Strict(), Field(ge=1)], ...] = Field(
        (),
        description="Planned looks, the last one the end: numbers of units with a KPI (in the arms that the headline "
        "compares), or dates (inclusive).",
    )
    planned_units: Count | None = Field(
        None,
        description="Units with a KPI at the end, in the arms that the headline compares; needed for looks by date, else the "
        "last of 'at'.",
    )
    spending: Literal["obrien_fleming", "pocock"] = Field(
        "obrien_fleming",
        description="How a group-sequential test spends its error rate (Lan and DeMets 1983).",
    )

    @field_validator("at", mode="before")
    @classmethod
    def _counts_from_one(cls, at: object) -> object:
        """Pydantic reads the numbers that are no counts as seconds since 1970, and so as dates."""
        for look in at if isinstance(at, list | tuple) else ():
            if isinstance(look, float) or (type(look) is int and look < 1):
                raise refuse("numbers of units from 1 up, or dates", look)
        return at

    @model_validator(mode="after")
    def _looks_fit_the_method(self) -> Self:
        if len({type(look) for look in self.at}) > 1:
            raise refuse("looks of one kind: all dates, or all numbers of units", at=("at",))
        if any(a >= b for a, b in zip(self.at, self.at[1:], strict=False)):  # type: ignore[operator]
            raise refuse("looks in rising order", ", ".join(map(str, self.at)), at=("at",))
        if self.method == "group_sequential" and len(self.at) < 2:
            raise refuse("two or more planned looks", f"{len(self.at)} planned", at=("at",))
        if self.method == "fixed" and len(self.at) > 1:
            raise refuse(
                "at most one look, the end, with method fixed", f"{len(self.at)} planned", at=("at",)
            )
        by_date = bool(self.at) and isinstance(self.at[0], dt.date)
        if self.method == "group_sequential" and by_date and self.planned_units is None:
            raise refuse("planned_units, because the looks are dates", at=("planned_units",))
        if self.at and not by_date and self.planned_units not in (None, self.at[-1]):
            raise refuse(
                f"the last look, {self.at[-1]}, or nothing", self.planned_units, at=("planned_units",)
            )
        return self

    @property
    def by_date(self) -> bool:
        """Whether the looks are dates."""
        return bool(self.at) and isinstance(self.at[0], dt.date)

    @property
    def planned(self) -> int | None:
        """Units with a KPI at the end, where that was planned."""
        last = self.at[-1] if self.at else None
        return last if isinstance(last, int) else self.planned_units


class Plan(Section):
    """What is expected of an experiment that is being planned; see the notebook ``plan``."""

    mean: Number | None = Field(
        None, description="Expected KPI without the program, in KPI units; binary: percent."
    )
    sd: Positive | None = Field(
        None, description="Its standard deviation between units; not for a binary KPI."
    )
    power: Annotated[float, Strict(), Field(ge=0.5, le=0.99)] = Field(
        0.8, description="Chance to see the smallest effect worth having if it is there."
    )
    units_available: Count | None = Field(None, description="Units that could be assigned at most, all arms.")
    units_per_week: Positive | None = Field(
        None, description="Units that can be assigned in a week; gives the duration."
    )
    weeks_to_measure: Annotated[float, Strict(), Field(ge=0)] = Field(
        0, description="Weeks from a unit's assignment until its KPI is known."
    )
    before_correlation: Annotated[float, Strict(), Field(gt=-1, lt=1)] | None = Field(
        None, description="Correlation of the KPI with the same KPI before assignment; CUPED uses it."
    )
    cluster_size: Positive | None = Field(
        None, description="Mean number of units in a cluster, where whole clusters are assigned."
    )
    cluster_size_cv: Annotated[float, Strict(), Field(ge=0)] = Field(
        0, description="Sd of cluster sizes over their mean."
    )
    icc: Annotated[float, Strict(), Field(ge=0, lt=1)] | None = Field(
        None, description="Intra-cluster correlation of the KPI."
    )
    take_up: Share | None = Field(
        None, description="Share of those offered who will attend, where the offer is assigned."
    )
    lost: Annotated[float, Strict(), Field(ge=0, lt=1)] = Field(
        0, description="Share of units whose KPI will be missing."
    )

    @model_validator(mode="after")
    def _clusters_whole(self) -> Self:
        if (self.cluster_size is None) != (self.icc is None):
            raise refuse("cluster_size and icc together, or neither", "one of them")
        return self
