"""Between which bounds the effect lies if those who lost their KPI differ by arm: Lee's, and the worst case."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pandas as pd
from scipy import optimize, stats

from ldlab.estimate import Estimate, Noun, level_in_words
from ldlab.estimate.text import Printed
from ldlab.program import Study

Floats = np.ndarray


class Bounds(Printed, Noun):
    """The least and the largest effect that the missing KPIs leave possible.

    Attributes
    ----------
    method
        'Lee' or 'worst case'.
    lower, upper
        The bounds, each an estimate with its own interval.
    low, high
        Interval for the effect itself at the program's level (Imbens & Manski 2004).
    trimmed, arm
        Lee: share taken off the arm of which more are seen (None where fewer than the minimum group were lost in an
        arm: the share would show how many), and which arm that is; empty for the worst case.
    sentence
        What the bounds mean, for a leader.
    """

    method: Literal["Lee", "worst case"]
    lower: Estimate
    upper: Estimate
    low: float
    high: float
    trimmed: float | None = None
    arm: Literal["trained", "comparison", ""] = ""

    @property
    def sentence(self) -> str:
        """What the bounds mean, for a leader."""
        e = self.lower
        assumed = (
            "Among those who are seen trained or not, if the program only keeps people or only loses them"
            if self.method == "Lee"
            else "Whatever the KPI of the lost would have been"
        )
        ends = f"{e.format(self.low, sign=True)} and {e.format(self.high, sign=True)} {e.shown_unit}"
        range_text = f"{assumed}, the effect lies between {ends} ({level_in_words(e.level)})"
        nearest, farthest = (self.low, self.high) if e.sign > 0 else (-self.high, -self.low)
        if nearest > 0:
            return f"{range_text}: a gain, even so."
        if farthest < 0:
            return f"{range_text}: the wrong way, even so."
        return f"{range_text}: no effect at all remains possible."

    def _rows(self) -> list[tuple[str, str]]:
        e = self.lower
        ends = f"{e.format(e.value, sign=True)} to {self.upper.format(self.upper.value, sign=True)} {e.shown_unit}"
        rows = [
            (f"bounds for attrition ({self.method})", ends),
            (
                f"{e.level:.0%} interval",
                f"{e.format(self.low, sign=True)} to {e.format(self.high, sign=True)}",
            ),
        ]
        if self.method == "Lee":
            share = "a few" if self.trimmed is None else f"{self.trimmed:.1%}"
            off = "nobody" if self.trimmed == 0 else f"{share} of the {self.arm}, of whom more are seen"
            rows.append(("taken off", off))
        return [*rows, ("in short", self.sentence)]


def lee_bounds(study: Study) -> Bounds | None:
    """Bounds on the effect if the program changed who still has a KPI.

    Of the arm of which a larger share has a KPI, the excess share is taken off: those with the largest KPI for one
    bound, those with the smallest for the other. They hold for units that would be seen in either arm, if the program
    moves all units' being seen one way (it makes none leave, or none stay). Where lots were drawn within strata,
    units are weighted so that each stratum counts by its size in both arms. The KPI is the units' own: of a rate, it
    is their mean rate.

    Returns
    -------
    Bounds or None
        None where nobody drew lots or nobody was lost, or fewer units than the minimum group remain in an arm.

    Notes
    -----
    Lee (2009), Review of Economic Studies 76, proposition 1a; standard errors of proposition 3, as influence functions
    with the correction n / (n - 2), summed within clusters where they are named. Interval: Imbens & Manski (2004),
    Econometrica 72, equations 6 and 7, with t for the normal.
    """
    rows = _assigned(study)
    if rows is None:
        return None
    mass, seen = _mass(rows), rows["outcome"].notna().to_numpy()
    share = [float(weight @ seen) for weight in mass]
    more, fewer = (1, 0) if share[1] >= share[0] else (0, 1)
    keep = 1.0 if math.isclose(share[0], share[1], rel_tol=1e-12) else share[fewer] / share[more]
    off = [weight * (seen - part) for weight, part in zip(mass, share, strict=True)]
    off_keep = (off[fewer] - keep * off[more]) / share[more]
    outcome = rows["outcome"].fillna(0.0).to_numpy()
    kept = [weight * seen / part for weight, part in zip(mass, share, strict=True)]
    mean_fewer = float(kept[fewer] @ outcome)
    off_fewer = kept[fewer] * (outcome - mean_fewer)
    ends = []
    for side in (1, -1):
        mean, influence = _mean_of_lowest(side * outcome, kept[more], keep, off_keep)
        direction = 1 if more == 1 else -1
        ends.append((direction * (side * mean - mean_fewer), side * influence - off_fewer))
    ends.sort(key=lambda end: end[0])
    minimum = study.program.analysis.minimum_group_size
    return _bounds(
        study,
        rows,
        ends,
        method="Lee",
        estimand=f"{study.estimand} among those seen either way",
        trimmed=None if any(0 < count < minimum for count in _lost(rows)) else 1 - keep,
        arm="trained" if more == 1 else "comparison",
    )


def worst_case_bounds(study: Study) -> Bounds | None:
    """Bounds on the effect on all assigned units, whatever the KPI of the lost: they get its lowest or highest value.

    It needs no assumption but the KPI's range: ``kpi.lowest`` and ``kpi.highest``, or 0 to 100 for a binary KPI.
    Weights, errors and interval as in :func:`lee_bounds`.

    Returns
    -------
    Bounds or None
        None where nobody drew lots or nobody was lost, or the KPI's range is not known.

    Notes
    -----
    Horowitz & Manski (2000), JASA 95; interval: Imbens & Manski (2004).
    """
    rows, ends_of_kpi = _assigned(study), _range(study)
    if rows is None or ends_of_kpi is None:
        return None
    mass, arm = _mass(rows), rows["arm"].to_numpy()
    ends = []
    for trained, comparison in (ends_of_kpi, ends_of_kpi[::-1]):
        filled = rows["outcome"].fillna(pd.Series(np.where(arm == 1, trained, comparison), index=rows.index))
        outcome = filled.to_numpy()
        means = [float(weight @ outcome) for weight in mass]
        ends.append((means[1] - means[0], mass[1] * (outcome - means[1]) - mass[0] * (outcome - means[0])))
    return _bounds(study, rows, ends, method="worst case", estimand=study.estimand)


def _assigned(study: Study) -> pd.DataFrame | None:
    """Units in one arm, of strata that have both; None where there is nothing to bound."""
    if study.program.design.kind != "randomised" or study.assigned is None:
        return None
    rows = study.assigned[study.assigned["two_arms"] == 0]
    if "stratum" in rows:
        rows = rows[rows.groupby("stratum")["arm"].transform("nunique") == 2]
    seen = rows.loc[rows["outcome"].notna(), "arm"].value_counts().reindex([0, 1], fill_value=0)
    few = seen.min() < study.program.analysis.minimum_group_size
    return None if few or rows["outcome"].notna().all() else rows


def _mass(rows: pd.DataFrame) -> tuple[Floats, Floats]:
    """Each unit's weight in its arm (comparison, trained), adding up to 1; strata count by their size."""
    arm = rows["arm"].to_numpy()
    weight = np.ones(len(rows))
    if "stratum" in rows:
        of_arm = rows.groupby(["stratum", "arm"])["arm"].transform("size")
        weight = (rows.groupby("stratum")["arm"].transform("size") / of_arm).to_numpy()
    return tuple(np.where(arm == code, weight, 0.0) / weight[arm == code].sum() for code in (0, 1))


def _mean_of_lowest(own: Floats, mass: Floats, keep: float, off_keep: Floats) -> tuple[float, Floats]:
    """Mean of the lowest share ``keep`` of a distribution, and its influence function.

    ``off_keep`` is that of ``keep``. With the quantile c at ``keep`` the mean is c + E[min(value - c, 0)] / keep, which
    splits a mass point at c.
    """
    rows = np.flatnonzero(mass)
    order = rows[np.argsort(own[rows], kind="stable")]
    place = int(np.searchsorted(np.cumsum(mass[order]), keep * (1 - 1e-12)))
    cut = own[order[min(place, len(order) - 1)]]
    short = np.minimum(own - cut, 0.0) / keep
    mean = float(cut + mass @ short)
    influence = mass * (short + cut - mean)
    return mean, influence + (cut - mean) / keep * off_keep if keep < 1 else influence


def _bounds(
    study: Study,
    rows: pd.DataFrame,
    ends: list[tuple[float, Floats]],
    *,
    method: Literal["Lee", "worst case"],
    estimand: str,
    trimmed: float | None = None,
    arm: Literal["trained", "comparison", ""] = "",
) -> Bounds | None:
    errors, df = zip(*(_error(influence, rows) for _, influence in ends), strict=True)
    if not min(errors) > 0:
        return None
    clustered = "cluster" in rows
    lower, upper = (
        Estimate.from_t(
            value,
            error,
            df=df[0],
            method=f"{method} bound, {name}",
            estimand=estimand,
            se_kind=f"cluster by {study.program.design.columns.cluster}" if clustered else "HC1",
            n=_counts(study, rows),
            **study.measure(),
        )
        for name, (value, _), error in zip(("lower", "upper"), ends, errors, strict=True)
    )
    reach = _reach(upper.value - lower.value, max(errors), df[0], lower.level)
    return Bounds(
        method=method,
        lower=lower,
        upper=upper,
        low=lower.value - reach * lower.se,
        high=upper.value + reach * upper.se,
        trimmed=trimmed,
        arm=arm,
    )


def _error(influence: Floats, rows: pd.DataFrame) -> tuple[float, float]:
    """Standard error from an influence function (HC1, or CR1 by cluster), and its degrees of freedom."""
    n = len(rows)
    if "cluster" not in rows:
        return math.sqrt(n / (n - 2) * float(influence @ influence)), n - 2.0
    sums = np.bincount(pd.factorize(rows["cluster"])[0], influence)
    clusters = len(sums)
    small = clusters / (clusters - 1) * (n - 1) / (n - 2)
    return math.sqrt(small * float(sums @ sums)), clusters - 1.0


def _reach(width: float, se: float, df: float, level: float) -> float:
    """Standard errors beyond the bounds that cover the effect, wherever it is between them (Imbens & Manski)."""

    def short(reach: float) -> float:
        return float(stats.t.cdf(reach + width / se, df) - stats.t.cdf(-reach, df)) - level

    return float(optimize.brentq(short, 0.0, stats.t.isf((1 - level) / 4, df)))


def _lost(rows: pd.DataFrame) -> list[int]:
    missing = rows["outcome"].isna().groupby(rows["arm"]).sum()
    return [int(missing.get(arm, 0)) for arm in (0, 1)]


def _counts(study: Study, rows: pd.DataFrame) -> dict[str, int | None]:
    """Units with a KPI; None where those lost are few, and would be found by subtraction."""
    minimum, sizes = study.program.analysis.minimum_group_size, rows["arm"].value_counts()
    n: dict[str, int | None] = {}
    for name, arm in (("treated", 1), ("comparison", 0)):
        lost = _lost(rows)[arm]
        n[name] = None if 0 < lost < minimum else int(sizes[arm]) - lost
    n["clusters"] = int(rows["cluster"].nunique()) if "cluster" in rows else None
    return n


def _range(study: Study) -> tuple[float, float] | None:
    """Lowest and highest value that the KPI can have, in effect units."""
    kpi = study.program.kpi
    if kpi.value_type == "binary":
        return 0.0, 100.0
    if kpi.lowest is None or kpi.highest is None or (kpi.scale == "log" and kpi.lowest <= 0):
        return None
    return (math.log(kpi.lowest), math.log(kpi.highest)) if kpi.scale == "log" else (kpi.lowest, kpi.highest)
