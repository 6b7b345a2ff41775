"""Whether another method agrees."""

from __future__ import annotations

from collections.abc import Sequence

from ldlab.checks.shared import not_run
from ldlab.estimate import Check, Estimate


def methods_agree(leads: Sequence[Estimate]) -> Check | None:
    """Whether the first two of several notebooks' leading estimates agree; None where one notebook answered."""
    if len(leads) < 2:
        return None
    return second_method(leads[0], leads[1], leads[0].smallest)


def second_method(lead: Estimate, other: Estimate | None, smallest: float) -> Check:
    """Whether a second method agrees: in sign, or within the smallest effect worth having.

    Parameters
    ----------
    lead, other
        Two estimates of one question, in one unit; ``other`` is None where no second method applies.
    smallest
        The smallest effect worth having in effect units, of either sign (``study.smallest``).
    """
    if other is None:
        return not_run("second method", "No second method can read this kind of KPI.")
    gap = abs(lead.value - other.value)
    agree = lead.value * other.value > 0 or gap < abs(smallest)
    verdict = "does not agree, so the choice of method decides"
    if agree:
        same_sign = lead.value * other.value > 0
        verdict = "agrees in direction" if same_sign else "differs by too little to matter"
    return Check(
        name="second method",
        status="passed" if agree else "failed",
        sentence=f"A second method ({other.method}) {verdict}.",
        statistic=gap,
        statistic_name=f"difference in {lead.unit}",
        threshold=abs(smallest),
        power="methods that share their data and assumptions can be wrong together",
    )
