"""Power of an experiment: the chance to see an effect, the units that it takes, and the smallest effect seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy import optimize, stats

from ldlab.ab.boundaries import chance_of_crossing
from ldlab.ab.sequential import always_valid_bound
from ldlab.program import LdlabError

Looks = Literal["fixed", "always_valid", "group_sequential"]
Multiplicity = Literal["simultaneous", "holm"]

MOST_UNITS = 1e9
NODES = 64
LARGE_DF = 2000  # beyond it t is taken as normal
FARTHEST = 8.0  # standard errors; what lies beyond has no weight
FARTHEST_DRIFT = 1e3


def dunnett_critical(alpha: float, allocations: tuple[float, ...], df: float = math.inf) -> float:
    """Two-sided critical value of the largest of several comparisons with one control.

    Parameters
    ----------
    alpha
        Chance that any of them is beyond it when no arm differs from control.
    allocations
        For each program arm n_arm / (n_arm + n_control); the correlation of two comparisons is the root of
        the product of theirs.
    df
        Degrees of freedom of the common standard deviation.

    Notes
    -----
    Dunnett (1955), JASA 50: the double integral over the control's mean and the standard deviation, by
    quadrature.
    """
    return _dunnett(alpha, tuple(round(one, 6) for one in allocations), math.inf if df > LARGE_DF else df)


@lru_cache(maxsize=4096)
def _dunnett(alpha: float, allocations: tuple[float, ...], df: float) -> float:
    control, weight = np.polynomial.hermite_e.hermegauss(NODES)
    weight = weight / weight.sum()
    sd, of_sd = np.ones(1), np.ones(1)
    if math.isfinite(df):
        place, of_sd = np.polynomial.legendre.leggauss(NODES)
        sd, of_sd = np.sqrt(stats.chi2.ppf((place + 1) / 2, df) / df), of_sd / 2
    share = np.array(allocations)
    centre = (np.sqrt(share / (1 - share)) * control[:, None])[None]

    def excess(critical: float) -> float:
        reach = (critical * sd)[:, None, None] / np.sqrt(1 - share)
        inside = (stats.norm.cdf(reach - centre) - stats.norm.cdf(-reach - centre)).prod(axis=-1)
        return float(1 - of_sd @ inside @ weight - alpha)

    ends = [float(stats.t.isf(alpha / 2 / count, df)) for count in (1, len(allocations))]
    return (
        ends[0] if len(allocations) == 1 else float(optimize.brentq(excess, ends[0] - 1e-9, ends[1] + 1e-6))
    )


@dataclass(frozen=True)
class Reading:
    """How a comparison of one program arm with control will be read.

    Attributes
    ----------
    alpha
        Two-sided error rate: 1 less the level of intervals.
    allocations
        For each program arm n_arm / (n_arm + n_control).
    multiplicity
        Several arms: 'simultaneous' (Dunnett) or 'holm', for which the first, hardest step is counted.
    method
        When it is read: 'fixed' (once), 'always_valid' (taken as tuned for the planned size) or 'group_sequential'.
    bounds, fractions
        Group-sequential: bounds of the z statistic, and share of the information, at each look.
    """

    alpha: float
    allocations: tuple[float, ...] = (0.5,)
    multiplicity: Multiplicity = "simultaneous"
    method: Looks = "fixed"
    bounds: tuple[float, ...] = ()
    fractions: tuple[float, ...] = ()

    def power(self, drift: float, df: float) -> float:
        """Chance that an effect of ``drift`` standard errors is seen, in its own direction."""
        if self.method == "group_sequential":
            narrower = stats.norm.isf(self.alpha / 2) / stats.t.isf(self.alpha / 2, df)
            return float(chance_of_crossing(self.fractions, self.bounds, drift * narrower)[:, 0].sum())
        critical = self.critical(df)
        if drift - critical > FARTHEST:
            return 1.0
        if df > LARGE_DF:
            return float(stats.norm.sf(critical - drift))
        return float(stats.nct.sf(critical, df, drift))

    def drift(self, power: float, df: float) -> float:
        """Standard errors that an effect must measure to be seen with chance ``power``."""
        return _root(lambda drift: self.power(drift, df) - power, 0.0, FARTHEST_DRIFT)

    def critical(self, df: float) -> float:
        """How many standard errors an effect must be from zero to be seen at the end."""
        arms = len(self.allocations)
        if self.method == "always_valid":
            return always_valid_bound(1.0, 1 - self.alpha / arms)
        if self.method == "group_sequential":
            return self.bounds[-1]
        if arms > 1 and self.multiplicity == "simultaneous":
            return dunnett_critical(self.alpha, self.allocations, df if df < 100 else round(df, -1))
        return float(stats.t.isf(self.alpha / 2 / arms, df))


@dataclass(frozen=True)
class Scenario:
    """What is assumed of the comparison of one program arm with control.

    Attributes
    ----------
    variance
        Variance of the KPI between units, given the change that they underwent (0: control); effect units.
    reading
        How it will be read.
    share, control_share
        Shares of all units that are assigned to the arm and to control.
    unexplained
        Share of the variance that earlier KPI values leave: 1 - r^2.
    cluster_size, icc, size_cv
        Assigned units in a cluster (0: units are assigned one by one), their correlation, and the sd of
        cluster sizes over their mean.
    take_up
        Share of those offered who attend; the change is theirs.
    kept
        Share of units whose KPI will be known.
    """

    variance: Callable[[float], float]
    reading: Reading
    share: float = 0.5
    control_share: float = 0.5
    unexplained: float = 1.0
    cluster_size: float = 0.0
    icc: float = 0.0
    size_cv: float = 0.0
    take_up: float = 1.0
    kept: float = 1.0

    @property
    def design_effect(self) -> float:
        """How many times the variance grows because clusters are assigned whole.

        1 + ((cv^2 + 1) m - 1) icc, m the units with a KPI in a cluster: Kish (1965); with unequal sizes Eldridge,
        Ashby & Kerry (2006), International Journal of Epidemiology 35.
        """
        if not self.cluster_size:
            return 1.0
        measured = self.cluster_size * self.kept
        return max(1.0, 1 + ((self.size_cv**2 + 1) * measured - 1) * self.icc)

    def standard_error(self, units: float, effect: float = 0.0) -> float:
        """Standard error of the difference with ``units`` assigned in all; unpooled variances."""
        change = self.take_up * effect
        arms = self.variance(change) / self.share + self.variance(0.0) / self.control_share
        return math.sqrt(self.unexplained * self.design_effect * arms / (units * self.kept))

    def df(self, units: float) -> float:
        """Degrees of freedom: n - 2; of cluster means Welch's, which are G - 2 in equal arms; 0 if there are none.

        Bell & McCaffrey's degrees of freedom of CR2 errors are Welch's for a difference in means (Imbens & Kolesar
        2016, Review of Economics and Statistics 98).
        """
        groups = units / self.cluster_size if self.cluster_size else units * self.kept
        one, other = groups * self.share, groups * self.control_share
        if min(one, other) <= 1:
            return 0.0
        if not self.cluster_size:
            return max(0.0, one + other - 2)
        return (1 / one + 1 / other) ** 2 / (1 / (one**2 * (one - 1)) + 1 / (other**2 * (other - 1)))

    def power(self, units: float, effect: float) -> float:
        """Chance that the interval lies on the effect's side of zero, with ``units`` assigned in all."""
        df = self.df(units)
        if df < 1:
            return 0.0
        error = self.standard_error(units, effect)
        drift = math.inf if error == 0 else abs(self.take_up * effect) / error
        return self.reading.power(min(drift, FARTHEST_DRIFT), df)

    def units(self, effect: float, power: float) -> float:
        """Units to assign in all, not rounded, to see ``effect`` with chance ``power``.

        Raises
        ------
        LdlabError
            If a thousand million are not enough.
        """
        low = 2 * (self.cluster_size or 1.0)
        high = low
        while self.power(high, effect) < power:
            low, high = high, 2 * high
            if high > MOST_UNITS:
                raise LdlabError(
                    f"plan: found a smallest effect of {effect:.3g} that {MOST_UNITS:,.0f} units would not show; "
                    "expected one that an experiment can see. Look at plan.sd and at kpi.smallest_effect_worth_having."
                )
        return _root(lambda units: self.power(units, effect) - power, low, high)

    def smallest(self, units: float, power: float, largest: float) -> float | None:
        """Size of the smallest effect seen with chance ``power``; None if not even ``largest`` is.

        ``largest`` is signed, and gives the direction.
        """
        if self.power(units, largest) < power:
            return None
        sign = math.copysign(1.0, largest)
        tiny = abs(largest) * 1e-9
        return _root(lambda size: self.power(units, sign * size) - power, tiny, abs(largest))


def _root(excess: Callable[[float], float], low: float, high: float) -> float:
    if excess(low) >= 0:
        return low
    return float(optimize.brentq(excess, low, high, rtol=1e-7))


def missing_share_seen(
    shares: tuple[float, ...], units: float, *, alpha: float, power: float
) -> float | None:
    """Share of the largest arm's units that must go missing for a chi-square test of the arms' sizes to see it.

    Parameters
    ----------
    shares
        Planned share of each arm.
    units
        Units (or clusters, where these are assigned) in all.
    alpha, power
        Level of the test, and the wanted chance to see it.

    Returns
    -------
    float or None
        None if not even half of them would be missed.
    """
    df = len(shares) - 1
    critical = stats.chi2.isf(alpha, df)
    arm = max(shares)

    def excess(gone: float) -> float:
        left = 1 - arm * gone
        found = arm * (1 - gone) / left
        others = (1 - arm) / left
        noncentrality = units * left * (found**2 / arm + others**2 / (1 - arm) - 1)
        return float(stats.ncx2.sf(critical, df, max(noncentrality, 1e-12)) - power)

    return None if excess(0.5) < 0 else _root(excess, 1e-6, 0.5)
