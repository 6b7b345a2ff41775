"""Effects of several groups drawn towards each other, and the joint test that they are all alike; no sampling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

Floats = NDArray[np.float64]
NODES = 400  # of the quadrature over the spread


@dataclass(frozen=True)
class Pooled:
    """Posterior of effects that are normal around a common mean with an unknown spread. Made by :func:`pool`.

    Attributes
    ----------
    spreads, weights
        (nodes,) values of the spread, and the posterior's weight of each.
    means, sds
        (nodes, groups) of the normal posterior of each group's effect at a spread.
    """

    spreads: Floats
    weights: Floats
    means: Floats
    sds: Floats

    @property
    def value(self) -> Floats:
        """(groups,) posterior means."""
        return np.asarray(self.weights @ self.means)

    @property
    def se(self) -> Floats:
        """(groups,) posterior sds."""
        return np.asarray(np.sqrt(self.weights @ (self.sds**2 + (self.means - self.value) ** 2)))

    def below(self, group: int, bound: float) -> float:
        """Chance that a group's effect is below a bound."""
        return float(self.weights @ stats.norm.cdf(bound, self.means[:, group], self.sds[:, group]))

    def quantile(self, group: int, share: float) -> float:
        """The value that a group's effect is below with chance ``share``."""
        value, reach = self.value[group], 20 * self.se[group]
        return float(
            optimize.brentq(lambda x: self.below(group, x) - share, value - reach, value + reach, xtol=1e-9)
        )

    def spread(self, share: float) -> float:
        """Quantile of the spread between groups."""
        return float(np.interp(share, np.cumsum(self.weights), self.spreads))


def pool(value: Floats, covariance: Floats, scale: float) -> Pooled:
    """Effects ~ Normal(mean, spread), mean flat, spread half-normal; estimates normal around them.

    The posterior given the spread is normal in closed form (Gelman et al., Bayesian Data Analysis, 3rd ed., section 5.4,
    equations 5.17 to 5.21); the spread is summed over numerically. With one value for the spread instead it
    would be empirical Bayes, which is too sure where groups are few.

    Parameters
    ----------
    value, covariance
        (groups,) estimates and (groups, groups) their covariance, taken as known.
    scale
        Of the half-normal prior of the spread, in units of ``value``.
    """
    ones = np.ones(len(value))
    unit = float(np.sqrt(np.mean(np.diag(covariance)) + np.var(value)))
    u = (np.arange(NODES) + 0.5) / NODES
    spreads = unit * u / (1 - u)
    logs, means, sds = np.empty(NODES), np.empty((NODES, len(value))), np.empty((NODES, len(value)))
    for i, spread in enumerate(spreads):
        total = covariance + spread**2 * np.eye(len(value))
        solved = np.linalg.solve(total, np.column_stack([ones, value, covariance]))
        precision = float(ones @ solved[:, 0])
        mean = float(ones @ solved[:, 1]) / precision
        away = value - mean
        quadratic = float(away @ (solved[:, 1] - mean * solved[:, 0]))
        logs[i] = -0.5 * (np.linalg.slogdet(total)[1] + np.log(precision) + quadratic)
        means[i] = value - covariance @ (solved[:, 1] - mean * solved[:, 0])
        drag = covariance @ solved[:, 0]
        sds[i] = np.sqrt(np.diag(covariance - covariance @ solved[:, 2:]) + drag**2 / precision)
    logs += stats.halfnorm.logpdf(spreads, scale=scale) - 2 * np.log1p(-u)
    weights = np.exp(logs - logs.max())
    return Pooled(spreads, weights / weights.sum(), means, sds)


@dataclass(frozen=True)
class Alike:
    """Test that all groups have one effect. Made by :func:`alike`.

    Attributes
    ----------
    f, df1, df2, p
        The statistic, its degrees of freedom and p value.
    precision
        Sum of the groups' precisions: turns a noncentrality into a spread.
    factor
        What the statistic was divided by, beside ``df1``.
    """

    f: float
    df1: float
    df2: float
    p: float
    precision: float
    factor: float

    def detectable(self, error: float, power: float = 0.8) -> float:
        """The spread (precision-weighted sd of the groups' effects) that is seen with chance ``power``."""
        critical = stats.f.isf(error, self.df1, self.df2)

        def short(noncentrality: float) -> float:
            return float(stats.ncf.sf(critical, self.df1, self.df2, noncentrality)) - power

        high = 10.0
        while short(high) < 0:
            high *= 2
        return float(np.sqrt(optimize.brentq(short, 1e-9, high) * self.factor / self.precision))


def alike(value: Floats, covariance: Floats, df: Floats) -> Alike:
    """Whether (groups,) estimates differ by more than their errors.

    Independent estimates, of which each has own degrees of freedom: Welch (1951), Biometrika 38. Estimates that share
    clusters: Hotelling's T squared with the smallest of the degrees of freedom (Pustejovsky & Tipton 2018, Journal of
    Business & Economic Statistics 36, the reference law of equation 13).

    Raises
    ------
    ValueError
        Fewer than two groups.
    """
    groups, q = len(value), len(value) - 1
    if q < 1:
        raise ValueError(f"len(value) == {groups}, must be at least 2")
    inverse = np.linalg.inv(covariance)
    precision = float(inverse.sum())
    away = value - float(inverse.sum(axis=0) @ value) / precision
    wald = float(away @ inverse @ away)
    if np.allclose(covariance, np.diag(np.diag(covariance))):
        share = np.diag(inverse) / precision
        slack = float(((1 - share) ** 2 / df).sum())
        factor = 1 + 2 * (groups - 2) / (groups**2 - 1) * slack
        df2 = (groups**2 - 1) / (3 * slack)
    else:
        least = max(float(np.min(df)), q + 0.5)
        df2 = least - q + 1
        factor = least / df2
    f = wald / q / factor
    return Alike(f, float(q), float(df2), float(stats.f.sf(f, q, df2)), precision, float(factor))
