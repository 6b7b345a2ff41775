"""Whether units that started at different times mislead the estimate."""

from __future__ import annotations

import re

import numpy as np

from ldlab.checks.shared import not_run
from ldlab.estimate import Check, Estimate
from ldlab.program import Study

NEGATIVE_WEIGHTS = 0.05


def staggered_weights(study: Study, share_negative: float) -> Check | None:
    """Whether the two-way regression counts trained cells with the wrong sign: failed over 5% of them.

    5% is a bound of ours, there is none in the literature. ``share_negative`` comes from
    :func:`ldlab.did.negative_weights`. The grade does not presume it: :func:`robust_to_staggering` sees to
    that. None where all start together, nothing is compared, or the two-way estimate does not lead.
    """
    if not _is_staggered(study) or study.program.estimator != "two_way":
        return None
    failed = share_negative > NEGATIVE_WEIGHTS
    mislead = ", so it can mislead, even about the direction" if failed else ""
    return Check(
        name="staggered weights",
        status="failed" if failed else "passed",
        sentence=f"Training started at different times. The two-way estimate counts {share_negative:.0%} of the "
        f"trained {study.program.design.period}s with the wrong sign{mislead}; it also weighs early and late "
        "starters unevenly.",
        statistic=share_negative,
        statistic_name="share of trained cells with a negative weight",
        threshold=NEGATIVE_WEIGHTS,
    )


def robust_to_staggering(study: Study, lead: Estimate, *others: Estimate | None) -> Check | None:
    """Whether other estimators made for different starts agree with the one that leads.

    Failed where one differs from it in sign, or by the smallest effect worth having or more. What noise alone
    would do to the gap is not counted: the estimators share their data, so it is smaller than either's error.

    Parameters
    ----------
    study
        A panel.
    lead
        The leading estimate, :func:`ldlab.did.lead_estimate`.
    others
        The sound estimators beside it: :func:`ldlab.did.imputation` where group-time effects lead, group-time
        effects where imputation leads, both where the two-way regression leads. None: could not be had.

    Returns
    -------
    Check or None
        None where the question does not arise: all start together, or nothing is compared. Not run, though
        needed, where none of ``others`` could be had.
    """
    if not _is_staggered(study):
        return None
    name, smallest = "robust to staggering", abs(study.smallest)
    had = [other for other in others if other is not None]
    if not had:
        reason = (
            "Training started at different times, and no second estimator made for that could be run: too few trained "
            "units, or too few clusters; the estimate can mislead if effects grow or differ between early and late "
            "starters."
        )
        return not_run(name, reason, needed=True)
    other = max(had, key=lambda e: (np.sign(e.value) != np.sign(lead.value), abs(e.value - lead.value)))
    gap = abs(lead.value - other.value)
    same_direction = bool(np.sign(lead.value) == np.sign(other.value))
    passed = same_direction and gap < smallest
    if passed:
        verdict = "gives a result that differs by too little to matter"
    elif same_direction:
        verdict = (
            "gives a result that differs by more than the smallest effect worth having: the size of the effect "
            "depends on the method"
        )
    else:
        verdict = "points the other way: the direction of the effect depends on the method"
    which = "Another estimator made for different starts" if len(had) == 1 else "The less alike of two others"
    numbers = f"{lead.format(other.value, sign=True)} against {lead.format(lead.value, sign=True)} {lead.shown_unit}"
    return Check(
        name=name,
        status="passed" if passed else "failed",
        sentence=f"{which} ({_short(other.method)}) {verdict} ({numbers}).",
        statistic=gap,
        statistic_name=f"difference in {lead.unit}",
        threshold=smallest,
        power="it sees what different starts do to an estimate; all of them lean on the same data and on parallel "
        "trends, and can be wrong together",
        needed=True,
    )


def _short(method: str) -> str:
    """A method's name without its paper and settings."""
    return re.split(r" \(|,", method, maxsplit=1)[0]


def _is_staggered(study: Study) -> bool:
    return "start" in study.frame and study.frame["start"].nunique() > 1 and study.has_comparison
