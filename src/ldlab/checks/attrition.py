"""Whether those who are lost after training are lost alike in both arms."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy import stats

from ldlab.checks.shared import POWER, not_run
from ldlab.estimate import Check, Estimate, format_number, level_in_words
from ldlab.program import Study

LOST_P = 0.05
# Overall attrition and the largest difference between the arms, in percent and percentage points: What Works
# Clearinghouse, Standards Handbook 4.0 (2017), table II.1, cautious boundary.
OVERALL = (0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 57)
LARGEST_GAP = (5.7, 6.1, 6.3, 5.9, 5.4, 4.8, 4.1, 3.3, 2.6, 1.8, 1.0, 0.3, 0.0)


class Lost(Protocol):
    """What :func:`attrition` reads of :class:`ldlab.did.Attrition`."""

    @property
    def trained(self) -> float: ...  # noqa: D102
    @property
    def comparison(self) -> float: ...  # noqa: D102
    @property
    def gap(self) -> float: ...  # noqa: D102
    @property
    def se(self) -> float: ...  # noqa: D102
    @property
    def df(self) -> float: ...  # noqa: D102
    @property
    def overall(self) -> float: ...  # noqa: D102
    @property
    def few(self) -> bool: ...  # noqa: D102


class Bounds(Protocol):
    """What :func:`attrition` reads of :class:`ldlab.did.LeeBounds`."""

    @property
    def lower(self) -> Estimate: ...  # noqa: D102
    @property
    def upper(self) -> Estimate: ...  # noqa: D102
    @property
    def low(self) -> float: ...  # noqa: D102
    @property
    def high(self) -> float: ...  # noqa: D102
    @property
    def trimmed(self) -> float | None: ...  # noqa: D102


def attrition(lost: Lost | None, study: Study, bounds: Bounds | None = None) -> Check:
    """Whether as many of the trained as of the comparison are still seen at the end, of those seen before training.

    Failed where the shares lost differ by more than the cautious boundary of the What Works Clearinghouse, which at
    that overall loss keeps the bias under .05 standard deviations where who is lost depends on the KPI (Standards
    Handbook 4.0, table II.1; Deke & Chiang 2017, Evaluation Review 41), and by more than chance explains (p < .05,
    clustered). The boundary was made for experiments; here it is a convention. The bounds do not decide.

    Parameters
    ----------
    lost
        :func:`ldlab.did.attrition`.
    study
        A panel.
    bounds
        :func:`ldlab.did.lee_bounds`: what the effect is at worst, for the sentence.
    """
    name, design = "attrition", study.program.design
    if not study.has_comparison:
        return not_run(name, f"There is no comparison group to hold {design.units} who left against.")
    if lost is None:
        least = study.program.analysis.minimum_group_size
        reason = f"Fewer than {least} {design.units} were seen before training in some arm, or none was left to compare with."
        return not_run(name, reason, needed=True)
    gap, boundary = abs(100 * lost.gap), float(np.interp(100 * lost.overall, OVERALL, LARGEST_GAP))
    p = float(2 * stats.t.sf(abs(lost.gap) / lost.se, lost.df)) if lost.se > 0 else float(lost.gap == 0)
    failed = gap > boundary and p < LOST_P
    seen = 100 * (stats.t.isf(LOST_P / 2, lost.df) + stats.t.ppf(POWER, lost.df)) * lost.se
    return Check(
        name=name,
        status="failed" if failed else "passed",
        sentence=f"{_shares(lost, study)}{_verdict(lost, gap, boundary, failed=failed)}.{_at_worst(bounds)}",
        statistic=None if lost.few else round(gap, 1),
        statistic_name="difference between the arms in percentage points",
        threshold=None if lost.few else round(boundary, 1),
        power=""
        if lost.few or seen == 0
        else f"a difference of {max(seen, boundary):.0f} percentage points would have been seen 4 times in 5",
        needed=True,
    )


def _shares(lost: Lost, study: Study) -> str:
    units = study.program.design.units
    before = f"Of the {units} seen before training"
    if lost.few:
        return f"{before}, fewer than {study.program.analysis.minimum_group_size} of an arm are not seen at the end"
    return f"{before}, {lost.trained:.0%} of the trained and {lost.comparison:.0%} of the comparison are not seen at the end"


def _verdict(lost: Lost, gap: float, boundary: float, *, failed: bool) -> str:
    if failed:
        return ": who is still seen depends on training, and the estimate compares those who stayed"
    if gap > boundary:
        return ": chance can explain the difference, but a true one of that size could mislead"
    return ": too alike to mislead" if lost.overall else ": nobody was lost"


def _at_worst(bounds: Bounds | None) -> str:
    """What the bounds say, where anybody was trimmed."""
    if bounds is None or bounds.trimmed == 0:
        return ""
    e = bounds.lower
    low, high = (e.format(value, sign=True) for value in (e.value, bounds.upper.value))
    ends = " to ".join(
        format_number(e.shown(end), e.decimals, sign=True) for end in (bounds.low, bounds.high)
    )
    return (
        f" Even if those missing were the best or the worst, the effect on those who stay either way lies between {low} "
        f"and {high} {e.shown_unit} ({level_in_words(e.level)} {ends})."
    )
