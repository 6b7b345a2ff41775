"""What a program did to KPIs beside the primary one: secondary KPIs, and guard-rails with their harm limits."""

from __future__ import annotations

from typing import Literal

from ldlab.estimate.effect import Estimate
from ldlab.estimate.text import Noun

Moved = Literal["moved", "moved the wrong way", "not shown", "not estimated"]
Rail = Literal["held", "not shown", "breached", "not estimated"]


class KpiResult(Noun):
    """What the program did to one KPI that was agreed to be looked at.

    Attributes
    ----------
    kpi, unit, direction
        Its label, unit of effects, and which way is better.
    estimate
        Of the leading estimator; None where ``reason`` says why.
    p, p_adjusted
        Two-sided p value of no effect; after Benjamini and Hochberg over the secondary KPIs (None for the primary one).
    verdict
        'moved' and 'moved the wrong way' where ``p_adjusted`` is at most the agreed false discovery rate (primary: where
        the interval excludes zero).
    spread
        Standard deviation of the KPI within arms (root mean variance), in effect units.
    """

    kpi: str
    unit: str
    direction: Literal["increase", "decrease"]
    estimate: Estimate | None = None
    p: float | None = None
    p_adjusted: float | None = None
    verdict: Moved
    spread: float | None = None
    reason: str = ""
    sentence: str


class GuardRailResult(Noun):
    """Whether a KPI that must not be harmed was.

    Attributes
    ----------
    arm
        Which of several program arms; empty with one.
    limit
        Largest acceptable harm as a signed effect, in effect units; None where it is a percentage of what is not known.
    bound
        The interval's end on the harmful side: harm beyond it is excluded with one-sided error (1 - level)/2.
    state
        'held': the whole interval is better than the limit. 'breached': all of it is worse. Else 'not
        shown'; 'not estimated' where ``reason`` says why.
    harmed
        Whether harm of some size is shown: the whole interval lies on the harmful side of zero.
    """

    kpi: str
    unit: str
    direction: Literal["increase", "decrease"]
    arm: str = ""
    estimate: Estimate | None = None
    limit: float | None
    bound: float | None = None
    state: Rail
    harmed: bool = False
    spread: float | None = None
    reason: str = ""
    sentence: str

    @property
    def name(self) -> str:
        """The KPI, and the arm where there are several."""
        return f"{self.kpi} in {self.arm}" if self.arm else self.kpi

    @property
    def may_scale(self) -> bool:
        """Whether harm beyond the limit is excluded."""
        return self.state == "held"
