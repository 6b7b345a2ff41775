"""The estimate as it would have been with the units known at each look, from sums that only grow."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ldlab.program import Study

Vector = NDArray[np.float64]
Codes = NDArray[np.intp]

MOST_STRATA = 30
SINGULAR = 1e-9


@dataclass(frozen=True)
class _Columns:
    """Regressors (constant first), and the outcome as one column, or count and exposure as two."""

    regressors: Vector
    outcome: Vector

    @property
    def all(self) -> Vector:
        return np.column_stack([self.regressors, self.outcome])


def running(study: Study, look: Codes, looks: int) -> pd.DataFrame:
    """The program's estimator at each look, with the units known by then.

    Parameters
    ----------
    study
        A cross-section with two arms.
    look
        (units,) the look, 0, 1, ..., at which each row of ``study.frame`` was known; ``looks`` or more: at none.
    looks
        Number of looks.

    Returns
    -------
    DataFrame
        One row per look: ``treated``, ``comparison`` (units known), ``clusters`` (in the arm that has fewer), ``value``,
        ``se``, ``df``. Not a number where the units known are too few.

    Notes
    -----
    Difference of the arms (rates: of total over total, linearised), adjusted by one regression in each arm where
    :attr:`ldlab.Program.estimator` says so (Lin 2013), and for up to 30 strata in each of which both arms have the
    minimum group. Errors: without adjustment Neyman's, the same as HC2; with it the sandwich with n / (n - k) in each
    arm, where the headline has HC2; where clusters are named, the clusters' scores with the factor of Liang & Zeger, t
    with clusters - 1, where the headline may have fewer degrees of freedom. With hundreds of units they differ by a
    few percent at most.
    """
    kept = _complete(study)
    rows, look = study.frame[kept], look[kept]
    columns, arm = _columns(study, rows), rows["arm"].to_numpy()
    clusters = pd.factorize(rows["cluster"])[0] if "cluster" in rows else None
    arms = [_Arm(columns, clusters, np.flatnonzero(arm == side), look, looks) for side in (0, 1)]
    found = [_estimate(*[side.known(at) for side in arms]) for at in range(looks)]
    return pd.DataFrame(found, columns=["treated", "comparison", "clusters", "value", "se", "df"])


def _complete(study: Study) -> NDArray[np.bool_]:
    if study.program.estimator != "adjusted":
        return np.ones(len(study.frame), dtype=bool)
    return study.frame[list(study.covariates)].notna().all(axis=1).to_numpy()


def _columns(study: Study, rows: pd.DataFrame) -> _Columns:
    others = [_strata(study, rows)]
    if study.program.estimator == "adjusted":
        covariates = rows[list(study.covariates)].to_numpy(dtype=float)
        spread = covariates.std(axis=0)
        others.append((covariates - covariates.mean(axis=0)) / np.where(spread > 0, spread, 1.0))
    regressors = np.column_stack([np.ones(len(rows)), *others])
    if study.program.kpi.value_type == "rate":
        return _Columns(regressors, rows[["count", "exposure"]].to_numpy(dtype=float))
    outcome = rows["outcome"].to_numpy(dtype=float)
    return _Columns(regressors, (outcome - outcome.mean())[:, None])


def _strata(study: Study, rows: pd.DataFrame) -> Vector:
    """0/1 columns of all strata but the first; none where there are too many, or some are too small."""
    none = np.empty((len(rows), 0))
    if "stratum" not in rows or rows["stratum"].nunique() > MOST_STRATA:
        return none
    counts = pd.crosstab(rows["stratum"], rows["arm"])
    if counts.shape[1] < 2 or counts.to_numpy().min() < study.program.analysis.minimum_group_size:
        return none
    return pd.get_dummies(rows["stratum"], drop_first=True).to_numpy(dtype=float)


def _estimate(comparison: _Known, treated: _Known) -> tuple[float, ...]:
    """Units trained and compared, clusters in the smaller arm, value, standard error and degrees of freedom."""
    present = np.array([comparison.present, treated.present])
    seen, fewer = int(present.any(axis=0).sum()), int(present.sum(axis=1).min())
    counts = (treated.units, comparison.units, fewer)
    nothing = (*counts, math.nan, math.nan, math.nan)
    n, k = treated.units + comparison.units, 2 * treated.width
    if min(treated.units, comparison.units) <= treated.width:
        return nothing
    centre = (comparison.sums + treated.sums) / n
    means = [side.mean_at(centre) for side in (comparison, treated)]
    if means[0] is None or means[1] is None:
        return nothing
    value = means[1].value - means[0].value
    if not present.size:
        variance, df = means[0].variance + means[1].variance, n - k
    elif seen < 3:
        return nothing
    else:
        scores = means[1].scores - means[0].scores
        variance, df = float(scores @ scores) * seen / (seen - 1) * (n - 1) / (n - k), seen - 1
    return (*counts, value, math.sqrt(variance) if variance > 0 else math.nan, df)


class _Arm:
    """One arm's rows in the order in which they became known, and their cross-products by look."""

    def __init__(
        self, columns: _Columns, clusters: Codes | None, rows: Codes, look: Codes, looks: int
    ) -> None:
        rows = rows[np.argsort(look[rows], kind="stable")]
        self.width, self.of_rate = columns.regressors.shape[1], columns.outcome.shape[1] == 2
        self.values = columns.all[rows]
        self.ends = np.searchsorted(look[rows], np.arange(looks), side="right")
        width = self.values.shape[1]
        self.products = np.zeros((width, width))
        self.clusters = None if clusters is None else clusters[rows]
        groups = 0 if clusters is None else int(clusters.max()) + 1
        self.by_cluster = np.zeros((groups, self.width, width))
        self.before = 0

    def known(self, at: int) -> _Known:
        """What is known at a look; looks are asked for in order."""
        new = slice(self.before, int(self.ends[at]))
        values = self.values[new]
        self.products += values.T @ values
        if self.clusters is not None:
            each = values[:, : self.width, None] * values[:, None, :]
            np.add.at(self.by_cluster, self.clusters[new], each)
        self.before = new.stop
        return _Known(
            self.values[: new.stop], self.products.copy(), self.by_cluster.copy(), self.width, self.of_rate
        )


@dataclass(frozen=True)
class _Mean:
    """An arm's mean at common covariate means, its variance, and what each cluster adds to it."""

    value: float
    variance: float
    scores: Vector


@dataclass(frozen=True)
class _Known:
    """One arm at one look."""

    values: Vector
    products: Vector
    by_cluster: Vector
    width: int
    of_rate: bool

    @property
    def units(self) -> float:
        return float(self.products[0, 0])

    @property
    def sums(self) -> Vector:
        """Sums of the regressors."""
        return self.products[0, : self.width]

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which clusters have a unit here."""
        return self.by_cluster[:, 0, 0] > 0

    def mean_at(self, centre: Vector) -> _Mean | None:
        """The arm's mean at ``centre``; None where the regressors are not independent yet."""
        to_outcome = self._to_outcome()
        products = to_outcome.T @ self.products @ to_outcome
        of_x, with_y = products[:-1, :-1], products[:-1, -1]
        if np.linalg.eigvalsh(of_x / self.units)[0] < SINGULAR:
            return None
        slopes, weights = np.linalg.solve(of_x, np.column_stack([with_y, centre])).T
        by_cluster = self.by_cluster @ to_outcome
        scores = (by_cluster[:, :, -1] - by_cluster[:, :, :-1] @ slopes) @ weights
        if self.width == 1:
            squares = max(float(products[-1, -1] - with_y @ slopes), 0.0) * float(weights[0]) ** 2
        elif len(scores):
            squares = math.nan  # the clusters' scores are used
        else:
            residuals = self.values @ to_outcome[:, -1] - self.values[:, : self.width] @ slopes
            squares = float((((self.values[:, : self.width] @ weights) * residuals) ** 2).sum())
        return _Mean(float(centre @ slopes), squares * self.units / (self.units - self.width), scores)

    def _to_outcome(self) -> Vector:
        """Maps the columns to regressors and outcome; a rate is linearised at the arm's rate so far."""
        unchanged = np.eye(len(self.products))
        if not self.of_rate:
            return unchanged
        units, count, exposure = self.products[0, [0, -2, -1]]
        rate, to_outcome = count / exposure, unchanged[:, :-1]
        to_outcome[0, -1], to_outcome[-2, -1] = rate, units / exposure
        to_outcome[-1, -1] = -rate * units / exposure
        return to_outcome
