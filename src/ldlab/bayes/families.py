"""One model for each kind of KPI that the plain Gaussian does not fit; a few lines of PyMC each.

Each family has ``build(shape)``, a model whose numbers are still to be put in, and ``data(rows)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr
from scipy import special

from ldlab.bayes.compiled import Data, Shape
from ldlab.bayes.gaussian import least_squares
from ldlab.bayes.predictor import Rows, linear_predictor
from ldlab.bayes.units import Floats, Units, cross_products, group_cells

LARGEST_DISPERSION = 1e6  # a negative binomial this close to Poisson can't be told from it, nor computed well
ONES, NONE = np.ones(1), np.zeros(1)


@dataclass(frozen=True)
class Family:
    """A likelihood.

    ``build`` gives its model; ``rows`` and ``data`` what of the units it reads; ``mean`` the expected KPI in effect units
    at a linear predictor (rows, draws), given the posterior with a flat ``sample`` dimension.
    """

    words: str
    build: Callable[[Shape], pm.Model]
    rows: Callable[[Units], tuple[Floats, Data]]
    mean: Callable[[Floats, xr.Dataset], Floats]


def _by_arm(values: Any, arm: Any) -> Any:
    """(rows,) each row's own of two values; arithmetic, because indexing is slow to differentiate."""
    return values[0] + (values[1] - values[0]) * arm


def _keys(units: Units, *more: Floats) -> tuple[Floats, Any]:
    """Distinct rows: arm, segment, cluster, ``more``, covariates; and which of them each unit is."""
    cluster = np.zeros_like(units.arm) if units.cluster is None else units.cluster
    return group_cells(units.arm, units.segment, cluster, units.z, *more)


# Binary: binomial on cells of identical rows, logit link


def binary(shape: Shape) -> pm.Model:
    """Successes among identical units ~ Binomial."""
    with pm.Model() as model:
        eta = linear_predictor(shape)
        pm.Binomial("kpi", n=pm.Data("units", ONES), logit_p=eta, observed=pm.Data("successes", NONE))
    return model


def binary_rows(units: Units) -> tuple[Floats, Data]:
    """Cells, their units and successes."""
    cells, which = _keys(units)
    successes = np.bincount(which, weights=units.outcome, minlength=len(cells))
    return cells, {"units": np.bincount(which).astype(float), "successes": successes}


# Counts and rates: negative binomial with log(exposure) as offset, each distinct row weighted by how often it occurs


def count(shape: Shape) -> pm.Model:
    """Counts ~ negative binomial (mean mu, alpha = 1 / overdispersion^2 by arm), written out.

    ``log p(y) = [lgamma(y + alpha) - lgamma(alpha) - lgamma(y + 1) + alpha log alpha] + y log mu - (y + alpha)
    log(mu + alpha)``: the bracket depends on arm and y alone, so that it is added over distinct counts, not rows.
    """
    with pm.Model() as model:
        eta = linear_predictor(shape)
        spread = pm.HalfNormal("overdispersion", 1, shape=2)
        alphas = 1 / (spread**2 + 1 / LARGEST_DISPERSION)
        alpha, y = _by_arm(alphas, model["arm"]), pm.Data("counts", ONES)
        log_mu = pm.Data("log_exposure", NONE) + eta
        rows = y * log_mu - (y + alpha) * pt.log(pt.exp(log_mu) + alpha)
        pm.Potential("rows", pt.dot(pm.Data("times", ONES), rows))
        own, value = _by_arm(alphas, pm.Data("value_arm", ONES)), pm.Data("value", ONES)
        bracket = pt.gammaln(value + own) - pt.gammaln(own) - pt.gammaln(value + 1) + own * pt.log(own)
        pm.Potential("values", pt.dot(pm.Data("value_times", ONES), bracket))
    return model


def count_rows(units: Units) -> tuple[Floats, Data]:
    """Distinct rows, their counts, exposures, and how often they occur; and the same of counts in an arm."""
    cells, which = _keys(units, units.outcome, units.exposure)
    values, value_of = group_cells(units.arm, units.outcome)
    data = {
        "counts": cells[:, -2],
        "log_exposure": np.log(cells[:, -1]),
        "times": np.bincount(which).astype(float),
        "value_arm": values[:, 0],
        "value": values[:, 1],
        "value_times": np.bincount(value_of).astype(float),
    }
    return cells[:, :-2], data


# Ordinal: cumulative logit; every division of people over the categories is equally likely before the data


def ordinal(shape: Shape) -> pm.Model:
    """Categories ~ cumulative logit; cutpoints are those of Dirichlet(1) shares at the reference.

    McCullagh (1980), Regression models for ordinal data, JRSS B 42(2).
    """
    with pm.Model() as model:
        eta = linear_predictor(shape, levels=False)
        shares = pm.Dirichlet("shares", np.ones(shape.categories))
        below = pt.cumsum(shares)[:-1]
        cuts = pm.Deterministic("cutpoints", pt.log(below) - pt.log1p(-below))
        reached = pm.math.invlogit(cuts - eta[:, None])
        edge = pt.zeros_like(eta)[:, None]
        p = pt.clip(
            pt.concatenate([reached, edge + 1], axis=1) - pt.concatenate([edge, reached], axis=1), 1e-12, 1
        )
        pm.Potential("kpi", pt.sum(pm.Data("tally", np.ones((1, shape.categories))) * pt.log(p)))
    return model


def ordinal_rows(units: Units) -> tuple[Floats, Data]:
    """Cells, and how many of their units chose each category."""
    cells, which = _keys(units)
    lowest, categories = scale_of(units)
    tally = np.zeros((len(cells), categories))
    np.add.at(tally, (which, (units.outcome - lowest).astype(int)), 1.0)
    return cells, {"tally": tally}


def scale_of(units: Units) -> tuple[int, int]:
    """Lowest category and number of categories: the program file's, or those in the data."""
    kpi = units.study.program.kpi
    lowest = units.outcome.min() if kpi.lowest is None else kpi.lowest
    highest = units.outcome.max() if kpi.highest is None else kpi.highest
    return int(lowest), int(highest - lowest) + 1


def ordinal_mean(eta: Floats, posterior: xr.Dataset) -> Floats:
    """Expected score above the lowest category: the chances to pass each cutpoint, added.

    ``eta`` is here the log odds to be above the lowest category, see :meth:`Rows.coefficients`.
    """
    cuts = posterior["cutpoints"].transpose(..., "sample").values
    return np.asarray(sum(special.expit(eta - (cut - cuts[0])) for cut in cuts))


# Student-t rows: extreme values of small samples weigh less


def student_t(shape: Shape) -> pm.Model:
    """KPI ~ Student-t with an own scale in each arm; nu ~ Gamma(2, .1), Juarez and Steel (2010)."""
    with pm.Model() as model:
        eta = linear_predictor(shape)
        sigma = _sigma()
        nu = 1 + pm.Gamma("nu_above_1", 2, 0.1)
        spread = _by_arm(sigma, model["arm"])
        pm.StudentT("kpi", nu=nu, mu=eta, sigma=spread, observed=pm.Data("values", NONE))
    return model


def _sigma() -> Any:
    scale = pm.Data("prior_residual_scale", 1.0)
    return pm.Deterministic("sigma", scale * pm.Exponential("relative_sigma", 1, shape=2))


def value_rows(units: Units) -> tuple[Floats, Data]:
    """Every unit with its value."""
    cluster = np.zeros_like(units.arm) if units.cluster is None else units.cluster
    return np.column_stack([units.arm, units.segment, cluster, units.z]), {"values": units.outcome}


# Durations on a log scale, of which some were still running: normal, or known only to be longer


def duration(shape: Shape) -> pm.Model:
    """Log duration ~ Normal; one that was still running adds the chance to be longer."""
    with pm.Model() as model:
        eta = linear_predictor(shape)
        spread = _by_arm(_sigma(), model["arm"])
        ends = pm.Data("upper", NONE)
        law = pm.Normal.dist(eta, spread)
        pm.Censored("kpi", law, lower=None, upper=ends, observed=pm.Data("values", NONE))
    return model


def duration_rows(units: Units) -> tuple[Floats, Data]:
    """Every unit with its log duration, and the bound at which it was last seen."""
    rows, data = value_rows(units)
    return rows, {**data, "upper": np.where(units.censored, units.outcome, np.inf)}


# Gaussian with clusters or several arms: cell means and what is left within cells


def cells(shape: Shape) -> pm.Model:
    """Means of arm x segment x cluster cells ~ Normal, with random intercepts; within cells as in ``gaussian``."""
    p = shape.covariates
    with pm.Model() as model:
        eta = linear_predictor(shape)
        sigma = _sigma()
        spread = _by_arm(sigma, model["arm"]) * pm.Data("inverse_root_n", ONES)
        pm.Normal("kpi", eta, spread, observed=pm.Data("values", NONE))
        slope = model["prior_slope_sd"] * model["slope_unit"]
        change = model["prior_interaction_sd"] * model["interaction_unit"]
        for arm in (0, 1):
            fitted = pt.dot(pm.Data(f"design_{arm}", np.zeros((1, p))), slope + arm * change)
            pm.Normal(f"fit_{arm}", fitted, sigma[arm], observed=pm.Data(f"fit_{arm}_data", NONE))
        rest, degrees = pm.Data("rest_data", np.ones(2)), pm.Data("degrees", np.ones(2))
        pm.Gamma("rest", degrees / 2, 1 / (2 * sigma**2), observed=rest)
    return model


def cell_rows(units: Units) -> tuple[Floats, Data]:
    """Cells with their means, and the least-squares fit within them."""
    found = cross_products(units)
    cluster = np.zeros_like(found.arm) if found.cluster is None else found.cluster
    rows = np.column_stack([found.arm, found.segment, cluster, found.x])
    data: dict[str, Any] = {"values": found.y, "inverse_root_n": 1 / np.sqrt(found.n)}
    rest, degrees = np.zeros(2), np.zeros(2)
    for arm in (0, 1):
        own = found.arm == arm
        root, data[f"fit_{arm}_data"], rest[arm] = least_squares(
            found.xx[arm], found.xy[arm], float(found.yy[arm])
        )
        degrees[arm] = found.n[own].sum() - own.sum() - len(root)
        data[f"design_{arm}"] = root
    return rows, {**data, "rest_data": np.maximum(rest, 1e-300), "degrees": np.maximum(degrees, 1e-6)}


def _same(eta: Floats, posterior: xr.Dataset) -> Floats:
    return eta


FAMILIES: dict[str, Family] = {
    "gaussian": Family("linear", cells, cell_rows, _same),
    "student_t": Family("robust (Student-t)", student_t, value_rows, _same),
    "binary": Family("logistic", binary, binary_rows, lambda eta, _: 100 * special.expit(eta)),
    "count": Family("negative binomial", count, count_rows, lambda eta, _: np.exp(eta)),
    "ordinal": Family("cumulative logit", ordinal, ordinal_rows, ordinal_mean),
    "duration": Family("log-normal, censored", duration, duration_rows, _same),
}


def rows_of(units: Units, prior: Any, shape: Shape) -> tuple[Rows, Data]:
    """The rows of a family, and all numbers that its model reads."""
    table, own = FAMILIES[units.family].rows(units)
    arm, segment, cluster = table[:, :3].astype(np.int64).T
    rows = Rows(units, prior, shape, arm=arm, segment=segment, cluster=cluster, z=table[:, 3:])
    own = dict(own)
    if units.family in ("gaussian", "student_t", "duration"):
        own["prior_residual_scale"] = prior.residual_scale
    for arm_code in (0, 1):
        name = f"design_{arm_code}"
        if name in own:
            rotated = own[name] @ rows.axes
            own[name] = np.pad(rotated, ((0, 0), (0, shape.covariates - rotated.shape[1])))
    return rows, {**rows.data(), **own}
