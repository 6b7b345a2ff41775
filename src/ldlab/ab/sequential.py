"""Intervals that hold at every look: the always-valid sequence, and the repeated interval of planned looks."""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special, stats

from ldlab.ab.boundaries import apart, boundaries, false_alarms
from ldlab.estimate import Estimate
from ldlab.program import LdlabError, Study

UNPLANNED = 1000  # units that an always-valid interval is tuned for where the program file plans no number
# In each arm, fewer and no always-valid interval is given: it is exact only for large samples, and rare values are
# where it fails first (2% events, a tenth in one arm: 30% false alarms at level 0.9 without the third bound, under 1%
# with it; see tests/worlds_sequential.py).
FIRST_UNITS, FIRST_CLUSTERS, FIRST_OTHERS = 50, 10, 5


def agreed(study: Study, estimate: Estimate, earlier: Sequence[int] = ()) -> Estimate:
    """The estimate with the interval that was agreed: for one look, for planned looks, or for any number of them.

    Parameters
    ----------
    study
        A randomised cross-section; ``program.looks`` says what was agreed (nothing: one look).
    estimate
        Its answer with a standard error (not a posterior); value and error stay as they are.
    earlier
        Units with a KPI at earlier looks on record; see :func:`ldlab.report.earlier_looks`. In a group-sequential
        test they are looks too, and spend error.

    Returns
    -------
    Estimate
        Unchanged for method fixed. Else the interval is value +- z* se, with z* from :func:`always_valid_bound` or
        :func:`ldlab.ab.boundaries.boundaries`, read as the t value of the same tail where the estimate has degrees of
        freedom (Jennison & Turnbull 1999, section 4.4). Infinite where no interval can be given yet.

    Notes
    -----
    The chances are those of a distribution whose interval is this wider one, so that a chance of gain reaches
    (1 + level) / 2 only where the interval excludes no effect. They are smaller than a flat prior's posterior, whose
    chances lead to false alarms if they are read again and again until they are high.

    Raises
    ------
    LdlabError
        If the estimate is a posterior: its chances do not depend on looks, given its prior.
    """
    looks = study.program.looks
    if looks is None or looks.method == "fixed":
        return estimate
    if estimate.draws is not None:
        raise LdlabError("agreed: found posterior draws; expected an estimate with a standard error.")
    if looks.method == "always_valid":
        return _with_bound(estimate, present_bound(study), "always-valid interval")
    taken = looks_taken(study, earlier)
    return _with_bound(estimate, present_bound(study, earlier), f"repeated interval at look {len(taken)}")


def agreed_estimates(
    study: Study, estimates: Sequence[Estimate], earlier: Sequence[int] = ()
) -> tuple[Estimate, ...]:
    """Each of a study's answers with the agreed interval; see :func:`agreed`."""
    return tuple(agreed(study, estimate, earlier) for estimate in estimates)


def always_valid_bound(fraction: float, level: float) -> float:
    """How many standard errors an always-valid interval reaches, at a fraction of the planned size.

    sqrt((1 + 1/c) log((1 + c) / alpha^2)) with c = n rho^2: the asymptotic confidence sequence of Waudby-Smith, Arbour,
    Sinha, Kennedy & Ramdas (2024, Annals of Statistics 52, theorem 2.2), with their rho that makes it shortest at the
    planned size (appendix B.2, exact by Lambert's W). c depends on the fraction alone.

    Parameters
    ----------
    fraction
        Units with a KPI as a fraction of the planned number; any positive number.
    level
        Level of the interval.
    """
    growth = fraction * _at_planned(level)
    return math.sqrt((1 + 1 / growth) * (math.log1p(growth) - 2 * math.log(1 - level)))


def always_valid_p(z: float, fraction: float, level: float) -> float:
    """The always-valid p value: the smallest alpha at which this sequence excludes no effect.

    ``level`` is that of the agreed interval, for which the sequence is tuned; p < 1 - level exactly where that
    interval excludes no effect.
    """
    growth = fraction * _at_planned(level)
    return min(1.0, math.exp(0.5 * (math.log1p(growth) - z**2 * growth / (1 + growth))))


def present_bound(study: Study, earlier: Sequence[int] = ()) -> float:
    """The agreed bound as a z value for the data at hand; infinite where nothing may be concluded from them yet."""
    looks = study.program.looks
    level = study.program.level
    if looks is None or looks.method == "fixed":
        return float(stats.norm.isf((1 - level) / 2))
    if looks.method == "always_valid":
        if not enough_units(study):
            return math.inf
        return always_valid_bound(len(study.frame) / planned_units(study), level)
    taken = looks_taken(study, earlier)
    if not taken:
        return math.inf
    fractions = apart([units / planned_units(study) for units in taken])
    return boundaries(fractions, level, looks.spending, final=last_look_reached(study))[-1]


def looks_taken(study: Study, earlier: Sequence[int] = ()) -> tuple[int, ...]:
    """Units with a KPI at each look of a group-sequential test, the data at hand the last; empty before the first.

    Data between two planned looks are the earlier one, taken late. Earlier planned looks count with the units on
    record, else with those planned (looks by date: known by that date); what is on record beside them counts too.
    """
    now, planned = len(study.frame), _reached(study)
    if not planned:
        return ()
    before = {units for units in earlier if 0 < units < now}
    spans = itertools.pairwise(planned)
    unrecorded = {start for start, end in spans if not any(start <= units < end for units in before)}
    return (*sorted(before | unrecorded), now)


def planned_units(study: Study) -> int:
    """Units with a KPI that were planned for the end; 1,000 where the program file does not say.

    Of several program arms the numbers of a plan are those of the comparison that is asked about
    (:attr:`ldlab.Study.lead_comparison`).
    """
    looks = study.program.looks
    return (looks.planned if looks is not None else None) or UNPLANNED


def known_on(study: Study) -> pd.Series | None:
    """When each unit's KPI was known: ``measured_on``, else ``assigned_on``, as days; None without dates."""
    name = next((name for name in ("measured_on", "assigned_on") if name in study.frame), None)
    if name is None or study.frame[name].isna().all():
        return None
    days = study.frame[name]
    return (days.dt.tz_localize(None) if days.dt.tz is not None else days).dt.normalize()


def last_day(study: Study) -> dt.date | None:
    """The last day that the data cover."""
    if isinstance(study.cut_off, dt.date):
        return study.cut_off
    known = known_on(study)
    return None if known is None else known.max().date()


def last_look_reached(study: Study) -> bool:
    """Whether the data cover the last planned look."""
    looks = study.program.looks
    return looks is not None and bool(looks.at) and _is_reached(looks.at[-1], study)


def enough_units(study: Study) -> bool:
    """Whether an always-valid interval may be given yet.

    In each arm 50 units, 10 clusters, and 5 units with another value than the commonest (events of a rare kind).
    """
    rows = study.frame
    if rows["arm"].nunique() < 2:
        return False
    by_arm = rows.groupby("arm")
    if "cluster" in rows and by_arm["cluster"].nunique().min() < FIRST_CLUSTERS:
        return False
    others = uncommon(study).groupby(rows["arm"]).sum()
    return bool(by_arm.size().min() >= FIRST_UNITS and others.min() >= FIRST_OTHERS)


def uncommon(study: Study) -> pd.Series:
    """Whether each unit's KPI is another value than the commonest of all."""
    outcome = study.frame["outcome"]
    return outcome != outcome.value_counts().index[0]


def peeking_rate(study: Study, earlier: Sequence[int]) -> float:
    """False-alarm rate of an interval for one look that is read at these earlier numbers of units and now.

    Among programs in which nothing happened, the share in which some look excludes no effect.
    """
    now = len(study.frame)
    fractions = apart([units / now for units in {*earlier, now} if 0 < units <= now])
    return false_alarms(fractions, study.program.level)


def as_t(z: float, df: float | None) -> float:
    """The t value whose tail is that of ``z``; no degrees of freedom mean normal."""
    return float(as_t_values(np.array([z]), np.array([math.inf if df is None else df]))[0])


def as_t_values(z: NDArray[np.float64], df: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same for arrays of one shape; infinite z values and degrees of freedom stay as they are."""
    changes = np.isfinite(z) & np.isfinite(df)
    return np.where(changes, stats.t.isf(stats.norm.sf(z), np.where(changes, df, 1.0)), z)


def _at_planned(level: float) -> float:
    """n rho^2 at the planned size, at which the sequence is shortest: -W(-alpha^2 / e) - 1, the lower branch."""
    return float(-special.lambertw(-((1 - level) ** 2) / math.e, k=-1).real - 1)


def _with_bound(estimate: Estimate, z: float, name: str) -> Estimate:
    method = f"{estimate.method}, {name}"
    if math.isinf(z):
        unknown = dict.fromkeys(("p_gain", "p_target", "p_negligible", "p_worthwhile"), math.nan)
        return estimate.model_copy(update={"method": method, "low": -math.inf, "high": math.inf, **unknown})
    usual = as_t(float(stats.norm.isf((1 - estimate.level) / 2)), estimate.df)
    said = estimate.model_dump(exclude={"value", "se", "df", "low", "high", "p_gain", "p_target"})
    said = {name: item for name, item in said.items() if name not in ("p_negligible", "p_worthwhile")}
    wider = estimate.se * as_t(z, estimate.df) / usual
    made = Estimate.from_t(estimate.value, wider, df=estimate.df, **{**said, "method": method})
    return made.model_copy(update={"se": estimate.se})


def _reached(study: Study) -> list[int]:
    """Units with a KPI at each planned look that the data cover."""
    looks = study.program.looks
    if looks is None:
        return []
    counts = [_units_at(look, study) for look in looks.at if _is_reached(look, study)]
    return [units for units in counts if units > 0]


def _is_reached(look: dt.date | int, study: Study) -> bool:
    if isinstance(look, int):
        return len(study.frame) >= look
    last = last_day(study)
    return last is not None and last >= look


def _units_at(look: dt.date | int, study: Study) -> int:
    if isinstance(look, int):
        return look
    known = known_on(study)
    return 0 if known is None else int((known <= np.datetime64(look)).sum())
