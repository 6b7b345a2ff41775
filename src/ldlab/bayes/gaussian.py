"""The Gaussian model whose cost does not depend on the number of rows.

In each arm a unit's KPI is normal around ``level + x'b``, with an own level for each segment and an own sd ``sigma``.
Such rows enter only through sums. Within segments, least squares of the KPI on the covariates has coefficients that are
normal around ``b``, element by element once they are rotated (``F v`` below), and a residual sum of squares that is
``sigma^2`` times a chi-square, which is a gamma. Between the arms, the adjusted difference in a segment is normal
around that segment's effect with variance ``sigma0^2 / n0 + sigma1^2 / n1``; segment effects are normal around a
common mean with sd ``tau``; so, with the effects integrated out, differences are normal with the sum of the two
variances. A flat prior on the levels leaves only the differences. Nothing is approximated.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import xarray as xr

from ldlab.bayes.compiled import Data, Shape, room_for
from ldlab.bayes.priors import Priors
from ldlab.bayes.units import Floats
from ldlab.program import CrossProducts

ONE, NONE = np.ones(1), np.zeros(1)


def build(shape: Shape) -> pm.Model:
    """The model, its numbers still to be put in; 2 x shape.covariates rotated slopes."""
    slopes = 2 * shape.covariates
    with pm.Model() as model:
        mean, sd, segment_sd, residual_scale = (
            pm.Data(name, 1.0) for name in ("prior_mean", "prior_sd", "prior_segment_sd", "prior_residual")
        )
        effect = pm.Normal("mean_effect", mean, sd)
        tau = segment_sd * pm.HalfNormal("segment_spread", 1)
        sigma = pm.Deterministic("sigma", residual_scale * pm.Exponential("relative_sigma", 1, shape=2))
        v = pm.Normal("rotated_slopes", 0, 1, shape=slopes)
        for arm in (0, 1):
            fitted = pt.dot(pm.Data(f"design_{arm}", np.zeros((1, slopes))), v)
            pm.Normal(f"fit_{arm}", fitted, sigma[arm], observed=pm.Data(f"fit_{arm}_data", NONE))
        rest, degrees = pm.Data("rest_data", np.ones(2)), pm.Data("degrees", np.ones(2))
        pm.Gamma("rest", degrees / 2, 1 / (2 * sigma**2), observed=rest)
        adjustment = pt.dot(pm.Data("adjustment", np.zeros((1, slopes))), v)
        weight = pm.Data("inverse_n", np.ones((2, 1)))
        spread = pt.sqrt(sigma[0] ** 2 * weight[0] + sigma[1] ** 2 * weight[1] + tau**2)
        pm.Normal("difference", effect + adjustment, spread, observed=pm.Data("difference_data", NONE))
    return model


class Gaussian:
    """The numbers of one program: what :func:`build` is given, and draws of the effects from what it returns."""

    def __init__(self, cells: CrossProducts, prior: Priors) -> None:
        self.cells, self.prior = cells, prior
        self.shape = room_for(covariates=len(cells.covariates))
        segments = max(len(cells.segments), 1)
        self.n, self.y = np.zeros((2, segments)), np.zeros((2, segments))
        self.x = np.zeros((2, segments, len(cells.covariates)))
        for table, values in ((self.n, cells.n), (self.y, cells.y), (self.x, cells.x)):
            table[cells.arm, cells.segment] = values
        self.x = self.x - cells.z_by_segment
        self.both = (self.n > 0).all(axis=0)
        self.rotation = self._rotation()

    @property
    def pooled(self) -> bool:
        """Whether there are segments to pool."""
        return len(self.cells.segments) > 1

    def _rotation(self) -> Floats:
        """(2p, 2p) from rotated slopes to (comparison slopes, what training adds): prior sds, then the data's axes."""
        p = len(self.cells.covariates)
        scale = np.repeat([self.prior.slope_sd, self.prior.interaction_sd], p)
        first, second = (self.cells.xx[arm] / max(self._sd(arm), 1e-12) ** 2 for arm in (0, 1))
        precision = np.block([[first + second, second], [second, second]])
        axes = np.linalg.eigh(scale[:, None] * precision * scale)[1] if p else np.zeros((0, 0))
        return scale[:, None] * axes

    def _sd(self, arm: int) -> float:
        return float((self.cells.yy[arm] / max(self.n[arm].sum() - 1, 1)) ** 0.5)

    def _slopes(self, arm: int) -> Floats:
        """(p, 2p) the arm's slopes as a function of the rotated ones."""
        p = len(self.cells.covariates)
        return self.rotation[:p] + arm * self.rotation[p:]

    def data(self) -> Data:
        """What :func:`build` reads."""
        prior, cells, width = self.prior, self.cells, 2 * self.shape.covariates
        found: dict[str, Any] = {
            "prior_mean": prior.effect_mean,
            "prior_sd": prior.effect_sd,
            "prior_segment_sd": prior.segment_sd if self.pooled else 0.0,
            "prior_residual": prior.residual_scale,
        }
        rest, degrees = np.zeros(2), np.zeros(2)
        for arm in (0, 1):
            root, projection, rest[arm] = least_squares(cells.xx[arm], cells.xy[arm], float(cells.yy[arm]))
            degrees[arm] = self.n[arm].sum() - (self.n[arm] > 0).sum() - len(projection)
            found[f"design_{arm}"] = _widened(root @ self._slopes(arm), width)
            found[f"fit_{arm}_data"] = projection
        found |= {"rest_data": np.maximum(rest, 1e-300), "degrees": np.maximum(degrees, 1e-6)}
        change = self.x[1] @ self._slopes(1) - self.x[0] @ self._slopes(0)
        found["adjustment"] = _widened(change[self.both], width)
        found["inverse_n"] = 1 / self.n[:, self.both]
        found["difference_data"] = (self.y[1] - self.y[0])[self.both]
        return found

    def prior_effect(self, draws: int, rng: np.random.Generator) -> Floats:
        """(draws,) the average effect from the prior: a mean, and segments around it."""
        prior, share = self.prior, self.cells.share
        tau = prior.segment_sd * self.pooled * np.abs(rng.standard_normal((draws, 1)))
        own = tau * rng.standard_normal((draws, len(share)))
        return np.asarray(rng.normal(prior.effect_mean, prior.effect_sd, draws) + own @ share)

    def effects(self, posterior: xr.Dataset, rng: np.random.Generator) -> dict[str, Floats]:
        """Draws of what was integrated out, given what was sampled; each (chain, draw, ...).

        ``effect``; ``segment_effect`` (s); ``coefficients`` (arm, s + p): each arm's level in each segment at the
        population's covariates, then its slopes.
        """
        sigma = posterior["sigma"].values[..., None, :]
        v = posterior["rotated_slopes"].values[..., : self.rotation.shape[1]]
        slopes = np.stack([v @ self._slopes(arm).T for arm in (0, 1)], axis=-2)
        adjusted = self.y - np.einsum("asp,...ap->...as", self.x, slopes)
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = np.swapaxes(sigma**2, -1, -2) / self.n
        mean = posterior["mean_effect"].values[..., None]
        tau = self.prior.segment_sd * posterior["segment_spread"].values[..., None] * self.pooled
        own = _normal_product(
            adjusted[..., 1, :] - adjusted[..., 0, :], variance.sum(axis=-2), mean, tau**2, rng
        )
        segment_effect = np.where(self.pooled, own, np.broadcast_to(mean, own.shape))
        untrained = _normal_product(
            adjusted[..., 0, :],
            variance[..., 0, :],
            adjusted[..., 1, :] - segment_effect,
            variance[..., 1, :],
            rng,
        )
        levels = np.stack([untrained, untrained + segment_effect], axis=-2)
        return {
            "effect": segment_effect @ self.cells.share,
            "segment_effect": segment_effect,
            "coefficients": np.concatenate([levels, slopes], axis=-1),
        }


def least_squares(xx: Floats, xy: Floats, yy: float) -> tuple[Floats, Floats, float]:
    """Root R with R'R = xx, the projection Q'y, and the residual sum of squares; directions without spread are left out.

    Examples
    --------
    >>> root, projection, rest = least_squares(np.array([[4.0]]), np.array([6.0]), 10.0)
    >>> abs(root.item()), abs(projection.item()), rest
    (2.0, 3.0, 1.0)
    """
    values, vectors = np.linalg.eigh(xx) if len(xx) else (np.zeros(0), np.zeros((0, 0)))
    kept = values > 1e-10 * max(float(values.max(initial=0.0)), 1e-300)
    root = np.sqrt(values[kept])[:, None] * vectors[:, kept].T
    projection = (vectors[:, kept].T @ xy) / np.sqrt(values[kept])
    return root, projection, max(yy - float(projection @ projection), 0.0)


def _widened(columns: Floats, width: int) -> Floats:
    """``columns`` with zeros for the spare parameters."""
    return np.pad(columns, ((0, 0), (0, width - columns.shape[1])))


def _normal_product(a: Any, a_variance: Any, b: Any, b_variance: Any, rng: np.random.Generator) -> Floats:
    """Draws from N(a, a_variance) x N(b, b_variance); a variance that is not finite says nothing."""
    a_precision = np.where(np.isfinite(a_variance), 1 / np.maximum(a_variance, 1e-300), 0.0)
    b_precision = np.where(np.isfinite(b_variance), 1 / np.maximum(b_variance, 1e-300), 0.0)
    total = a_precision + b_precision
    mean = (a_precision * np.nan_to_num(a) + b_precision * np.nan_to_num(b)) / total
    return np.asarray(mean + rng.standard_normal(mean.shape) / np.sqrt(total))
