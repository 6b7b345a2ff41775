"""Check, Claim, Decision: what could break an estimate, what may be said of it, and what the agreed rule says."""

from __future__ import annotations

from html import escape
from typing import Literal

from ldlab.estimate.text import Noun, Printed

Verdict = Literal["target met", "moved, below target", "unclear", "wrong way", "too early", "not readable"]
Status = Literal["passed", "failed", "not_run"]
Grade = Literal["A", "B", "C", "D", "E"]
VERDICT_MEANS: dict[str, str] = {
    "target met": "the target is shown to be reached",
    "moved, below target": "it moved; that it reached the target is not shown",
    "unclear": "no clear difference in either direction",
    "wrong way": "it moved away from the goal",
    "too early": "an effect is not expected yet",
    "not readable": "a check broke the result",
}
GRADES: tuple[Grade, ...] = ("A", "B", "C", "D", "E")


class Check(Printed, Noun):
    """One check that could have broken the estimate.

    Attributes
    ----------
    name, sentence
        What was checked; what came of it, in one sentence for a leader.
    status
        'passed' means not rejected; 'not_run' is never passed.
    statistic, threshold
        The number looked at, and the bound it was held against; None when not run.
    power
        What the check could have seen.
    needed
        The design's grade presumes this check: the grade falls if it failed or was not run.
    breaks
        A failure makes the claim 'not readable'.
    """

    name: str
    status: Status
    sentence: str
    statistic: float | None = None
    statistic_name: str = ""
    threshold: float | None = None
    power: str = ""
    needed: bool = False
    breaks: bool = False

    def _rows(self) -> list[tuple[str, str]]:
        rows = [(self.name, f"{self.status.replace('_', ' ')}. {self.sentence}")]
        if self.statistic is not None:
            bound = f" (bound {self.threshold:g})" if self.threshold is not None else ""
            rows.append((self.statistic_name or "statistic", f"{self.statistic:.4g}{bound}"))
        if self.power:
            rows.append(("what it could see", self.power))
        return rows


class Claim(Noun):
    """The one sentence that may be said, with its verdict."""

    verdict: Verdict
    sentence: str

    def __str__(self) -> str:
        return self.sentence

    def _repr_html_(self) -> str:
        verdict = f"Verdict: {self.verdict} ({VERDICT_MEANS[self.verdict]})."
        return f"<p><strong>{escape(self.sentence)}</strong></p><p>{escape(verdict)}</p>"


class Decision(Noun):
    """What the agreed rule says, and why."""

    decision: Literal["scale", "continue", "fix", "test further", "stop", "too early"]
    reason: str
