"""Means of arms that were drawn by lot, within strata or by whole clusters, and how sure any contrast of them is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldlab.program import LdlabError

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]


@dataclass(frozen=True)
class Drawn:
    """What lots were drawn over: one entry per unit, codes 0, 1, ... without gaps.

    Attributes
    ----------
    outcome
        (units,) in effect units.
    arm, stratum
        (units,) which arm; within which stratum lots were drawn.
    cluster
        (units,) the cluster, each in one stratum; None where units were drawn one by one.
    covariates
        (units, p) baseline covariates; p may be 0.
    """

    outcome: Floats
    arm: Codes
    stratum: Codes
    cluster: Codes | None
    covariates: Floats

    @property
    def arms(self) -> int:
        """How many."""
        return int(self.arm.max()) + 1

    @property
    def groups(self) -> Codes:
        """(units,) what lots were drawn for: the cluster, or the unit itself."""
        return np.arange(len(self.arm)) if self.cluster is None else self.cluster

    def kept(self, rows: NDArray[np.bool_]) -> Drawn:
        """Only these rows; strata and clusters are numbered anew."""
        cluster = None if self.cluster is None else np.unique(self.cluster[rows], return_inverse=True)[1]
        stratum = np.unique(self.stratum[rows], return_inverse=True)[1]
        return Drawn(self.outcome[rows], self.arm[rows], stratum, cluster, self.covariates[rows])


@dataclass(frozen=True)
class ArmMeans:
    """Adjusted mean of each arm, their joint covariance, and what the degrees of freedom of a contrast need.

    Attributes
    ----------
    means, covariance
        (arms,), (arms, arms) in effect units.
    own, lost
        (groups, arms) sums of squares of each group's weights on its own residuals, and what fitting takes away.
    shared
        (arms, arms) squared sums of what fitting makes groups share.
    """

    means: Floats
    covariance: Floats
    own: Floats
    lost: Floats
    shared: Floats

    def contrast(self, weights: Sequence[float] | Floats) -> tuple[float, float, float]:
        """Value, variance and Satterthwaite degrees of freedom of a weighted sum of the means."""
        c = np.asarray(weights, dtype=float)
        first, second = self.moments(c)
        return float(c @ self.means), float(c @ self.covariance @ c), first**2 / second

    def moments(self, c: Floats) -> tuple[float, float]:
        """Mean, and half the variance, of the variance estimate if all errors had variance 1 and were independent."""
        own, lost = self.own @ c**2, self.lost @ c**2
        return float((own - lost).sum()), float((own**2 - 2 * own * lost).sum() + c**2 @ self.shared @ c**2)


def arm_means(drawn: Drawn) -> ArmMeans:
    """Each arm's mean of the outcome, standardised to the strata and covariate means of all units.

    Within each arm least squares of the outcome on stratum dummies and covariates (one slope each), evaluated at the
    share of each stratum and the covariate means within it. The difference of two is, with one stratum, Lin's (2013)
    regression with interactions; without covariates, the blocked difference in means (weights n_s / n).

    Errors are CR2: each group's residuals are corrected by (I - H_gg)^(-1/2) (Bell & McCaffrey 2002, Survey
    Methodology 28; Pustejovsky & Tipton 2018, JBES 36, eq. 5, working model: independent errors of one variance);
    degrees of freedom are Satterthwaite's under the same model (their eq. 11; Imbens & Kolesar 2016, REStat 98). Where
    each unit is its own group that is HC2, and without covariates Neyman's variance by stratum. Only sums by group and
    arm are needed: X_g'(I - X_g M X_g')^(-1/2) = (I - S_g M)^(-1/2) X_g' with S_g = X_g'X_g.

    Raises
    ------
    LdlabError
        If one group alone decides a mean or slope, so that no error can be had.
    """
    fit = _Fit(drawn)
    arms, groups = drawn.arms, int(drawn.groups.max()) + 1
    scores, own, lost = (np.zeros((groups, arms)) for _ in range(3))
    strata = int(drawn.stratum.max()) + 1
    of_stratum = np.zeros(groups, dtype=np.intp)
    of_stratum[drawn.groups] = drawn.stratum
    shares: list[Floats] = []
    for arm in range(arms):
        group, score, own_part, share = fit.pieces(arm)
        scores[group, arm], own[group, arm], lost[group, arm] = score, own_part, (share**2).sum(axis=1)
        whole = np.zeros((groups, share.shape[1]))
        whole[group] = share
        shares.append(whole)
    shared = np.array([[_overlap(a, b, of_stratum, strata) for b in shares] for a in shares])
    return ArmMeans(fit.means, scores.T @ scores, own, lost, shared)


def _overlap(a: Floats, b: Floats, stratum: Codes, strata: int) -> float:
    """Squared Frobenius norm of A'B, where the first column stands for one column for each stratum."""
    if not (a.any(axis=1) & b.any(axis=1)).any():
        return 0.0

    def by_stratum(values: Floats) -> float:
        return float((np.bincount(stratum, values, strata) ** 2).sum())

    p = a.shape[1]
    total = by_stratum(a[:, 0] * b[:, 0]) + float(((a[:, 1:].T @ b[:, 1:]) ** 2).sum())
    return total + sum(by_stratum(a[:, 0] * b[:, j]) + by_stratum(a[:, j] * b[:, 0]) for j in range(1, p))


class _Fit:
    """Least squares within each arm, in orthonormal coordinates: one for the stratum's mean, then the slopes'."""

    def __init__(self, drawn: Drawn) -> None:
        self.drawn = drawn
        strata, arms = int(drawn.stratum.max()) + 1, drawn.arms
        cell = drawn.stratum * arms + drawn.arm
        size = np.bincount(cell, minlength=strata * arms).astype(float)
        weight = np.bincount(drawn.stratum, minlength=strata) / len(cell)
        self.size, self.weight = size[cell], weight[drawn.stratum]
        x = drawn.covariates
        middle = _means(x, cell, size)
        self.x = x - middle[cell]
        of_stratum = _means(x, drawn.stratum, np.bincount(drawn.stratum, minlength=strata))
        away = (middle.reshape(strata, arms, -1) - of_stratum[:, None]) * weight[:, None, None]
        self.away = away.sum(axis=0)
        mean = _means(drawn.outcome[:, None], cell, size)[:, 0]
        self.residual = drawn.outcome - mean[cell]
        self.means = weight @ mean.reshape(strata, arms)
        self.root = [self._slopes(arm) for arm in range(arms)]

    def _slopes(self, arm: int) -> Floats:
        """Take the slopes out of the arm's residuals and mean; the matrix that makes its covariates orthonormal."""
        rows = self.drawn.arm == arm
        x = self.x[rows]
        if not x.shape[1]:
            return np.empty((0, 0))
        try:
            root = np.linalg.inv(np.linalg.cholesky(x.T @ x)).T
        except np.linalg.LinAlgError:
            raise LdlabError(
                "covariates: found some that are fixed by the strata and the other covariates within one arm; expected "
                "covariates that each add something in every arm. Leave out of design.columns.covariates what adds nothing."
            ) from None
        slope = root @ (root.T @ (x.T @ self.residual[rows]))
        self.residual[rows] -= x @ slope
        self.means[arm] -= self.away[arm] @ slope
        return root

    def pieces(self, arm: int) -> tuple[Codes, Floats, Floats, Floats]:
        """Of each group with units in the arm: its number, corrected score, own weight, and shared coordinates."""
        rows = np.flatnonzero(self.drawn.arm == arm)
        z = np.column_stack([1 / np.sqrt(self.size[rows]), self.x[rows] @ self.root[arm]])
        group, piece = np.unique(self.drawn.groups[rows], return_inverse=True)
        first = np.zeros(len(group), dtype=np.intp)
        first[piece] = rows
        wanted = np.broadcast_to(-self.away[arm] @ self.root[arm], (len(group), z.shape[1] - 1))
        wanted = np.column_stack([self.weight[first] / np.sqrt(self.size[first]), wanted])
        if len(group) == len(rows):
            return group, *_of_units(z, self.residual[rows], wanted)
        return group, *_of_clusters(z, self.residual[rows], wanted, piece)


def _of_units(z: Floats, residual: Floats, wanted: Floats) -> tuple[Floats, Floats, Floats]:
    leverage = (z**2).sum(axis=1)
    if leverage.max() > 1 - 1e-8:
        raise LdlabError(
            "the experiment: found a unit that alone decides a mean or a slope within its arm and stratum; expected two "
            "or more. Leave out the covariate in which it is alone, or join strata."
        )
    weight = (z * wanted).sum(axis=1) / np.sqrt(1 - leverage)
    return weight * residual, weight**2, weight[:, None] * z


def _of_clusters(z: Floats, residual: Floats, wanted: Floats, piece: Codes) -> tuple[Floats, Floats, Floats]:
    count, k = len(wanted), z.shape[1]
    square = np.empty((count, k, k))
    for i in range(k):
        for j in range(i + 1):
            square[:, i, j] = square[:, j, i] = np.bincount(piece, z[:, i] * z[:, j], count)
    score = np.column_stack([np.bincount(piece, z[:, i] * residual, count) for i in range(k)])
    root, vectors = np.linalg.eigh(square)
    if root.max() > 1 - 1e-8:
        raise LdlabError(
            "the experiment: found a cluster that alone decides a mean or a slope within its arm and stratum; expected "
            "two or more clusters. Leave out covariates that are alike within clusters, or join strata."
        )
    turned = np.einsum("gij,gi->gj", vectors, wanted) / np.sqrt(1 - root)
    corrected = np.einsum("gij,gj->gi", vectors, turned)
    own = (turned**2 * root).sum(axis=1)
    shared = np.einsum("gij,gj->gi", vectors, turned * root)
    return (corrected * score).sum(axis=1), own, shared


def _means(values: Floats, code: Codes, size: Floats | NDArray[np.intp]) -> Floats:
    """(codes, columns) the mean of each column by code; 0 where a code has no row."""
    columns = [np.bincount(code, column, len(size)) for column in values.T]
    total = np.array(columns).reshape(values.shape[1], len(size)).T
    return np.asarray(total / np.maximum(size, 1)[:, None])


def within(values: Floats, code: Codes) -> Floats:
    """(rows, columns) each column less its mean by code."""
    return np.asarray(values - _means(values, code, np.bincount(code))[code])
