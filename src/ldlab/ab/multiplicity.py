"""Several comparisons at once: the law of the largest |t|, simultaneous bounds, adjusted p values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats
from scipy.stats import qmc

from ldlab.ab.blocks import Compared
from ldlab.program import LdlabError

Floats = NDArray[np.float64]
POINTS = 15  # 2**15 quasi-random points for the law of the largest |t|


@dataclass(frozen=True)
class Family:
    """Contrasts of the arms' means that are tested together.

    Attributes
    ----------
    pairs
        (arm, against), positions of the arms.
    contrasts
        (comparisons, arms).
    value, se, df
        (comparisons,); ``df`` is one number, the smallest of the comparisons'.
    largest
        (draws,) largest |t| if nothing differed.
    """

    pairs: tuple[tuple[int, int], ...]
    contrasts: Floats
    value: Floats
    se: Floats
    df: float
    largest: Floats

    @classmethod
    def of(
        cls, compared: Compared, pairs: Sequence[tuple[int, int]], arms: int, *, df: float | None
    ) -> Family:
        """The family of these pairs; ``df`` None takes Satterthwaite's."""
        contrasts = np.zeros((len(pairs), arms))
        for row, (arm, against) in enumerate(pairs):
            contrasts[row, arm], contrasts[row, against] = 1.0, -1.0
        found = np.array([compared.contrast(c) for c in contrasts])
        if not (found[:, 1] > 0).all():
            raise LdlabError("arms: found an arm in which the KPI does not vary; expected some variation.")
        smallest = float(found[:, 2].min()) if df is None else df
        joint = contrasts @ compared.covariance @ contrasts.T
        correlation = joint / np.outer(found[:, 1], found[:, 1])
        return cls(
            tuple(pairs), contrasts, found[:, 0], found[:, 1], smallest, _largest_t(correlation, smallest)
        )

    def critical(self, level: float) -> float:
        """The largest |t| that chance keeps below with probability ``level``."""
        return float(np.quantile(self.largest, level))

    @property
    def p_values(self) -> tuple[Floats, Floats, Floats]:
        """Alone, single-step max-t, and Holm's."""
        t = np.abs(self.value / self.se)
        alone = 2 * stats.t.sf(t, self.df)
        together = np.array([(self.largest >= x).mean() for x in t])
        return alone, np.maximum(together, alone), holm(alone)


def _largest_t(correlation: Floats, df: float) -> Floats:
    """Largest |t| of jointly t distributed statistics, at scrambled Sobol points: the same in every run."""
    normal, scale = _points(len(correlation), df)
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return np.asarray(np.abs(normal @ root.T).max(axis=1) / scale)


@lru_cache(maxsize=8)
def _points(k: int, df: float) -> tuple[Floats, Floats]:
    points = qmc.Sobol(k + 1, rng=np.random.default_rng(20080801)).random_base2(POINTS)
    points = np.clip(points, 1e-12, 1 - 1e-12)
    return special.ndtri(points[:, :k]), np.sqrt(2 * special.gammaincinv(df / 2, points[:, k]) / df)


def holm(p_values: Floats) -> Floats:
    """Holm's (1979) adjusted p values: those of statsmodels' multipletests, which collects garbage at each call."""
    order = np.argsort(p_values)
    stepped = np.maximum.accumulate(np.arange(len(order), 0, -1) * p_values[order])
    adjusted = np.empty_like(stepped)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
