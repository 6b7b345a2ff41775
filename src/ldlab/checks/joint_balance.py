"""The joint test that baseline covariates do not tell the arms apart, as lots leave them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from ldlab.checks.assigned import arm_column
from ldlab.checks.shared import assigned_by_cluster
from ldlab.program import Study

FLAT = 1e-9  # spread within strata, as a share of the spread overall, below which a covariate says nothing


class JointTest(NamedTuple):
    """p-value, degrees of freedom, rows tested, the smallest arm's share, and what a row is."""

    p: float
    df: tuple[float, float]
    rows: int
    share: float
    what: str


def joint_test(study: Study, rows: pd.DataFrame) -> JointTest | None:
    """Test that covariates together do not tell the arms apart, in ``rows``; None with too few to test.

    Pillai's trace of the regression of the arms' indicators on the covariates, in its F form; with two arms this is
    the classical F test, whose R-squared times n - 1 is the d-squared of Hansen & Bowers (2008, Statistical Science
    23). Where there are strata both sides are taken from their stratum's means. Where whole clusters were assigned,
    the clusters' means are tested.
    """
    names, code = list(study.covariates), arm_column(study)
    rows, what = rows.dropna(subset=names), study.program.design.units
    if assigned_by_cluster(study):
        kept = {name: "first" for name in (code, "stratum") if name in rows}
        rows, what = rows.groupby("cluster").agg({**kept, **dict.fromkeys(names, "mean")}), "clusters"
    if rows.empty:
        return None
    stratum = pd.factorize(rows["stratum"])[0] if "stratum" in rows else np.zeros(len(rows), dtype=int)
    arms = pd.get_dummies(rows[code]).to_numpy(dtype=float)
    covariates = rows[names].to_numpy(dtype=float)
    spread = covariates.std(axis=0)
    x, z = _centred(covariates, stratum), _centred(arms[:, 1:], stratum)
    kept_columns = (spread > 0) & (x.std(axis=0) > FLAT * np.where(spread > 0, spread, 1))
    x = x[:, kept_columns] / spread[kept_columns]
    responses = int(np.linalg.matrix_rank(z)) if z.size else 0
    rank = int(np.linalg.matrix_rank(x)) if x.size else 0
    left = len(rows) - (stratum.max() + 1) - responses
    if min(responses, rank) == 0 or responses < z.shape[1] or left - rank < 0:
        return None
    trace = float(np.trace(np.linalg.pinv(z.T @ z) @ z.T @ x @ np.linalg.lstsq(x, z, rcond=None)[0]))
    s, m, n = min(rank, responses), (abs(rank - responses) - 1) / 2, (left - rank - 1) / 2
    df = (s * (2 * m + s + 1), s * (2 * n + s + 1))
    if df[1] <= 0:
        return None
    p = float(stats.f.sf(trace / df[0] / ((s - trace) / df[1]), *df)) if s - trace > 1e-12 else 0.0
    return JointTest(p, df, len(rows), float(arms.mean(axis=0).min()), what)


def _centred(values: np.ndarray, stratum: np.ndarray) -> np.ndarray:
    """Values less their stratum's mean."""
    size = np.bincount(stratum)
    means = np.column_stack([np.bincount(stratum, column) / size for column in values.T])
    return values - means[stratum]
