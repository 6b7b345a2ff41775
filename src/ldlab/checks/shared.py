"""What the checks share: counts that may be shown, power, plain numbers."""

from __future__ import annotations

import math

from scipy import optimize, stats

from ldlab.estimate import Check, format_number
from ldlab.program import Study

POWER = 0.8


def not_run(name: str, reason: str, *, needed: bool = False) -> Check:
    """A check that was not run, and why."""
    return Check(name=name, status="not_run", sentence=reason, needed=needed)


def can_be_shown(count: float, study: Study) -> bool:
    """Whether a count is none, or no small group."""
    return count == 0 or count >= study.program.analysis.minimum_group_size


def count_text(count: float, study: Study) -> str:
    """A count, or that it is under the minimum group."""
    minimum = study.program.analysis.minimum_group_size
    return f"{int(count):,}" if can_be_shown(count, study) else f"fewer than {minimum}"


def assigned_by_cluster(study: Study) -> bool:
    """Whether every cluster lies in one arm, so that clusters were assigned, not units."""
    return "cluster" in study.frame and study.frame.groupby("cluster")["arm"].nunique().max() == 1


def noncentrality(df1: int, df2: float, p: float) -> float:
    """The noncentrality at which an F test at level ``p`` rejects 4 times in 5."""
    bound = stats.f.isf(p, df1, df2)

    def short_of_power(size: float) -> float:
        return float(stats.ncf.sf(bound, df1, df2, size)) - POWER

    top = 10.0
    while short_of_power(top) < 0:
        top *= 2
    return float(optimize.brentq(short_of_power, 1e-6, top))


def plain(size: float) -> str:
    """A positive size with two significant digits."""
    return format_number(size, max(0, 1 - math.floor(math.log10(size)))) if size > 0 else "0"
