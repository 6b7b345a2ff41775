"""How far to centre a group of random effects, so that NUTS moves freely whatever the data say.

``d = scale * r^(1 - w) * x`` with ``x ~ N(0, r^w)`` is the same prior d ~ N(0, scale * r) for every w between 0
(non-centred: right where the data say little) and 1 (centred: right where they say much). Papaspiliopoulos,
Roberts and Skold (2007), A general framework for the parametrization of hierarchical models, Statistical
Science 22(1): w is best near tau^2 / (tau^2 + se^2). It changes the sampler's path, never the posterior.
"""

from __future__ import annotations

import numpy as np

from ldlab.bayes.units import Floats, Ints, Units


def segment_centring(units: Units, slope: float, scale: float) -> float:
    """w for the segments' deviations from the average effect; ``slope`` is KPI units per unit of the link."""
    rest = _residual(units) / slope
    groups = len(units.segments)
    mean, se = [], []
    for arm in (0, 1):
        rows = units.arm == arm
        level, error = _means(rest[rows], units.segment[rows], groups)
        mean.append(level)
        se.append(error)
    return informed(mean[1] - mean[0], np.hypot(*se), scale)


def cluster_centring(units: Units, slope: float, scale: float) -> float:
    """w for the clusters' random intercepts."""
    assert units.cluster is not None
    return informed(*_means(_residual(units) / slope, units.cluster, int(units.cluster.max()) + 1), scale)


def informed(estimates: Floats, ses: Floats, scale: float) -> float:
    """How far to centre, from rough estimates of the effects.

    Given tau, the sd of x is ``s(tau) r^(w - 1)``, with s the conditional sd of an effect. w makes it the same at
    both ends of what tau can be: 1 - w is the slope of log s on log tau between the .001 and .999 quantiles of
    the posterior of tau ~ half-normal(scale), on a grid, for ``estimates ~ N(theta, ses)``,
    ``theta ~ N(mu, tau)`` with mu flat and integrated out (Gelman et al., Bayesian Data Analysis, 3rd ed.,
    equation 5.21).

    Examples
    --------
    >>> known, unknown = (informed(np.array([0.0, 5.0]), np.full(2, se), 5.0) for se in (0.01, 100.0))
    >>> known > 0.9, unknown < 0.1
    (True, True)
    """
    tau = scale * np.geomspace(1e-6, 4, 800)[:, None]
    precision = 1 / (ses**2 + tau**2)
    mu = (precision * estimates).sum(axis=1, keepdims=True) / precision.sum(axis=1, keepdims=True)
    log = (np.log(precision).sum(axis=1) - np.log(precision.sum(axis=1))) / 2 + np.log(tau[:, 0])
    log -= ((precision * (estimates - mu) ** 2).sum(axis=1) + (tau[:, 0] / scale) ** 2) / 2
    below = np.cumsum(np.exp(log - log.max()))
    ends = np.searchsorted(below / below[-1], [0.001, 0.999])
    log_sd = np.log(tau**2 * ses**2 * precision)[ends].mean(axis=1) / 2
    log_tau = np.log(tau[ends, 0])
    return float(1 - (log_sd[1] - log_sd[0]) / max(log_tau[1] - log_tau[0], 1e-6))


def _residual(units: Units) -> Floats:
    """KPI less what the arm and the covariates say by least squares."""
    x = np.column_stack([np.ones(len(units.arm)), units.arm, units.z])
    y = units.outcome / units.exposure
    return np.asarray(y - x @ np.linalg.lstsq(x, y, rcond=None)[0])


def _means(values: Floats, group: Ints, groups: int) -> tuple[Floats, Floats]:
    """Means of groups and their standard errors from the pooled sd; very uncertain where there is nobody."""
    size = np.maximum(np.bincount(group, minlength=groups), 1e-6)
    mean = np.bincount(group, weights=values, minlength=groups) / size
    spread = max(float((values - mean[group]).std()), 1e-12)
    return mean, spread / np.sqrt(size)
