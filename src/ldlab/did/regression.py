"""Fixed-effects regressions of more rows than linearmodels takes in good time: pyfixest, and sums by cell."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ldlab.did.by_cluster import Blocks, without_constants
from ldlab.did.clusters import clusters_of

LEFT = 1e-9  # share of a regressor's variation that the effects must leave


@dataclass(frozen=True)
class Regression:
    """What a regression gives, as linearmodels names it.

    Attributes
    ----------
    params, std_errors
        By regressor, in effect units.
    cov
        Covariance matrix of ``params``.
    df_resid
        Observations less regressors and effects.
    """

    params: pd.Series
    cov: pd.DataFrame
    df_resid: float

    @property
    def std_errors(self) -> pd.Series:
        """By regressor, in effect units."""
        return pd.Series(np.sqrt(np.diag(self.cov)), index=self.params.index)


class AbsorbedError(ValueError):
    """The effects leave nothing of a regressor."""


def by_rows(
    rows: pd.DataFrame, regressors: pd.DataFrame, se: str, effects: Sequence[str], nested: bool
) -> Regression:
    """The regression by pyfixest; any number of effects, named as columns of ``rows``.

    Small-sample factors as in :func:`ldlab.did.panel.fixed_effects`: clustered, G / (G - 1) times
    (N - 1) / (N - K), K the regressors, with all effects where units do not nest in clusters.
    """
    import pyfixest

    names = {f"x{i}": str(regressor) for i, regressor in enumerate(regressors)}
    data = regressors.set_axis(list(names), axis=1).assign(y=rows["outcome"].astype(float))
    data = data.assign(**{f"f{i}": pd.factorize(rows[effect])[0] for i, effect in enumerate(effects)})
    counted = "none" if se == "cluster" and nested else "full"
    vcov: str | dict[str, str] = "iid"
    if se == "cluster":
        data, vcov = data.assign(cluster=pd.factorize(clusters_of(rows))[0]), {"CRV1": "cluster"}
    formula = f"y ~ {' + '.join(names)} | {' + '.join(f'f{i}' for i in range(len(effects)))}"
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        try:
            fit = pyfixest.feols(
                formula, data, vcov=vcov, ssc=pyfixest.ssc(k_fixef=counted), fixef_rm="none", lean=True,
                copy_data=False, store_data=False,
            )  # fmt: skip
        except ValueError as error:
            raise AbsorbedError(str(error)) from error
    if len(fit._coefnames) < len(names):
        raise AbsorbedError("collinear")
    index = pd.Index(list(names.values()))
    effects_charged = sum(int(data[f"f{i}"].nunique()) for i in range(len(effects))) - len(effects) + 1
    return Regression(
        pd.Series(fit._beta_hat, index=index),
        pd.DataFrame(fit._vcov, index=index, columns=index),
        float(len(rows) - len(names) - effects_charged),
    )


def cells_of(rows: pd.DataFrame, regressors: pd.DataFrame) -> NDArray[np.float64] | None:
    """(starts, periods, regressors) the regressors by start and period; None if they vary within.

    Starts in order, never last; 0 where no row has the start and period.
    """
    start = pd.factorize(rows["start"], sort=True, use_na_sentinel=False)[0]
    width = int(rows["period"].max()) + 1
    cell = start * width + rows["period"].to_numpy()
    table = np.zeros((int(start.max()) + 1) * width)
    found = np.empty((len(table), regressors.shape[1]))
    for k, name in enumerate(regressors):
        values = regressors[name].to_numpy(dtype=float)
        table[:] = 0
        table[cell] = values
        if not np.array_equal(table[cell], values):
            return None
        found[:, k] = table
    return found.reshape(-1, width, regressors.shape[1])


def by_cells(rows: pd.DataFrame, cells: NDArray[np.float64], names: Sequence[str], se: str) -> Regression:
    """The two-way regression of regressors that are alike within start and period, from sums: exact.

    Units nest in clusters. With the unit effects concentrated out, all sums are by start and period; clustered
    scores need the residuals' sums by cluster, start and period. The same factors as :func:`by_rows`.
    Wong, Forsell, Lewis, Mao & Wardrop (2021), arXiv:2102.11297, do the like for experiments.
    """
    blocks = Blocks.of(rows)
    level = pd.factorize(blocks.start, sort=True)[0]
    unit_level = np.repeat(level, np.diff(blocks.first))
    seen, outcome = blocks.seen, blocks.outcome
    number = seen.sum(axis=1, keepdims=True)
    centred = outcome - seen * (outcome.sum(axis=1, keepdims=True) / number)
    starts, periods, k = cells.shape
    links, moments = np.zeros((starts, periods, periods)), np.zeros((starts, periods))
    for s in range(starts):
        mine = unit_level == s
        links[s] = np.diag(seen[mine].sum(axis=0)) - seen[mine].T @ (seen[mine] / number[mine])
        moments[s] = centred[mine].sum(axis=0)
    inverse = without_constants(links.sum(axis=0))
    linked = links @ cells
    by_period = inverse @ linked.sum(axis=0)
    raw = np.einsum("stk,stl->kl", cells, linked)
    normal = raw - linked.sum(axis=0).T @ by_period
    if not (np.diag(normal) > LEFT * np.diag(raw)).all() or np.linalg.matrix_rank(normal, hermitian=True) < k:
        raise AbsorbedError("collinear")
    cross = np.einsum("stk,st->k", cells, moments) - by_period.T @ moments.sum(axis=0)
    beta = np.linalg.solve(normal, cross)
    fitted = cells @ beta
    fitted += inverse @ (moments.sum(axis=0) - (linked @ beta).sum(axis=0))
    residual = outcome - seen * fitted[unit_level]
    residual -= seen * (residual.sum(axis=1, keepdims=True) / number)
    n = float(seen.sum())
    df = n - k - len(seen) - np.count_nonzero(seen.any(axis=0)) + 1
    bread = np.linalg.inv(normal)
    if se == "classical":
        cov = bread * float((residual**2).sum()) / df
    else:
        by_block = blocks.sum(residual)
        scores = np.einsum("bt,btk->bk", by_block, (cells - by_period)[level], optimize=True)
        groups = int(blocks.cluster.max()) + 1
        meat = np.zeros((groups, k))
        np.add.at(meat, blocks.cluster, scores)
        cov = bread @ (meat.T @ meat) @ bread * groups / (groups - 1) * (n - 1) / (n - k)
    index = pd.Index(names)
    return Regression(pd.Series(beta, index=index), pd.DataFrame(cov, index=index, columns=index), df)
