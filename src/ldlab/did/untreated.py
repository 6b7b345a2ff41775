"""Imputation: what treated cells would have been, from unit and period effects of untreated cells."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse.csgraph import connected_components

from ldlab.did.clusters import clusters_of
from ldlab.did.panel import need_panel, se_kind_of
from ldlab.estimate import Estimate
from ldlab.program import Study

DRAWS = 200
BLOCK = 512  # clusters whose sums are held at once
LEAST_DRAWS = 0.9  # share of resamples in which some treated cell can be imputed


@dataclass(frozen=True)
class Cells:
    """A panel as (units, periods) arrays; a cell that was not observed is neither untreated nor treated.

    Attributes
    ----------
    outcome
        In effect units; 0 where not observed.
    untreated, treated
        Whether the cell was observed, and how.
    cluster
        The cell's cluster, 0 to clusters - 1.
    unit, period
        Row and column of each row of the frame.
    """

    outcome: np.ndarray
    untreated: np.ndarray
    treated: np.ndarray
    cluster: np.ndarray
    unit: np.ndarray
    period: np.ndarray

    @classmethod
    def of(cls, rows: pd.DataFrame, anticipation: int = 0) -> Cells:
        """The cells of a study's frame: one row per unit and period; those of anticipation are neither."""
        unit, units = pd.factorize(rows["unit"], sort=True)
        period, periods = pd.factorize(rows["period"], sort=True)
        shape = (len(units), len(periods))
        outcome, cluster = np.zeros(shape), np.zeros(shape, dtype=int)
        untreated, treated = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
        outcome[unit, period] = rows["outcome"].to_numpy(dtype=float)
        cluster[unit, period] = pd.factorize(clusters_of(rows), sort=True)[0]
        treated[unit, period] = rows["treated"].to_numpy() == 1
        untreated[unit, period] = ~(rows["period"] >= rows["start"] - anticipation).to_numpy()
        return cls(outcome, untreated, treated, cluster, unit, period)


def imputation(study: Study) -> Estimate | None:
    """Effect on the treated where training starts at different times: observed less imputed outcome, averaged.

    Unit and period effects are fitted by least squares on untreated cells only. Each treated cell's outcome
    without training is their sum, so no treated unit ever serves as a comparison. All treated cells count
    alike; those of agreed anticipation are neither. One is left out where its unit, or its period, has no
    untreated cell that the other's effect can be compared through; ``term`` then says which share was imputed,
    and ``n`` counts the cells used.

    Parameters
    ----------
    study
        A panel, balanced or not.

    Returns
    -------
    Estimate or None
        None where the question does not arise (nothing is compared; or all start together, unless it was agreed
        that imputation leads), and where it cannot be answered: fewer trained units than the minimum group can
        be imputed, one cluster, or over 10% of the resamples hold no cell that can be imputed.

    Raises
    ------
    LdlabError
        If the study is no panel.

    Notes
    -----
    Borusyak, Jaravel & Spiess (2024), Review of Economic Studies 91, equation 4 with equal weights. The
    standard error is the standard deviation of 200 resamples of whole clusters (the program's cluster column,
    else units), seeded by ``analysis.seed``; t with clusters - 1 degrees of freedom. It is not the paper's
    conservative analytic one. A resample is a vector of integer cluster weights, not a copy of rows.
    """
    need_panel(study)
    if not _arises(study):
        return None
    cells = Cells.of(study.frame, study.program.design.anticipation)
    value, used = effect_on_treated(cells, np.ones(cells.outcome.shape))
    rows = study.frame[(cells.untreated | used)[cells.unit, cells.period]]
    imputed_units = int(used.any(axis=1).sum())
    clusters = int(cells.cluster.max()) + 1
    if imputed_units < study.program.analysis.minimum_group_size or clusters < 2:
        return None
    se = _bootstrap_se(cells, clusters, np.random.default_rng(study.program.analysis.seed))
    if se is None:
        return None
    return Estimate.from_t(
        value,
        se,
        df=clusters - 1,
        method="imputation from untreated cells",
        estimand=study.estimand,
        se_kind=f"{se_kind_of(study, 'cluster').replace('cluster', 'cluster bootstrap', 1)}, {DRAWS} draws",
        term=_share_imputed(cells, used, study.program.design.period),
        n=_counts(study, rows, cells.treated & ~used, imputed_units),
        **study.measure(),
    )


def _arises(study: Study) -> bool:
    agreed = study.program.agreement.estimator == "imputation"
    return study.has_comparison and (agreed or is_staggered(study))


def is_staggered(study: Study) -> bool:
    """Whether trained units start in different periods, with units to compare them with."""
    return study.has_comparison and study.frame["start"].nunique() > 1


def effect_on_treated(cells: Cells, weight: np.ndarray) -> tuple[float, np.ndarray]:
    """Weighted mean of observed less imputed outcome, NaN if none can be imputed; and the cells it is of.

    Parameters
    ----------
    cells
        The panel.
    weight
        (units, periods), at least 0: how often each cell counts.

    Notes
    -----
    With unit effects concentrated out, the period effects solve a weighted Laplacian of the graph that links
    periods in which one unit is untreated. Its null space is one constant for each connected part of the
    graph; adding the parts' indicator matrix sets those constants, which cancel from every imputed cell.
    """
    untreated = weight * cells.untreated
    per_unit = untreated.sum(axis=1)
    seen = per_unit > 0
    share = np.divide(untreated, per_unit[:, None], out=np.zeros_like(untreated), where=seen[:, None])
    unit_mean = (share * cells.outcome).sum(axis=1)
    links = share.T @ untreated
    part = connected_components(links > 0, directed=False)[1]
    normal = np.diag(untreated.sum(axis=0)) - links + (part[:, None] == part)
    moments = (untreated * (cells.outcome - unit_mean[:, None])).sum(axis=0)
    period_effect = np.linalg.solve(normal, moments)
    unit_effect = unit_mean - share @ period_effect
    unit_part = np.where(seen, part[np.argmax(untreated > 0, axis=1)], -1)
    used = cells.treated & (weight > 0) & (unit_part[:, None] == part)
    if not used.any():
        return math.nan, used
    gap = cells.outcome - unit_effect[:, None] - period_effect
    return float(np.average(gap[used], weights=weight[used])), used


def _bootstrap_se(cells: Cells, clusters: int, rng: np.random.Generator) -> float | None:
    times_drawn = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=DRAWS)
    draws = resampled_effects(cells, times_drawn)
    draws = draws[np.isfinite(draws)]
    if len(draws) < LEAST_DRAWS * DRAWS:
        return None
    se = float(draws.std(ddof=1))
    return se if se > 0 else None


def resampled_effects(cells: Cells, times_drawn: np.ndarray) -> np.ndarray:
    """The effect with each cluster counted as often as it was drawn.

    Parameters
    ----------
    cells
        The panel.
    times_drawn
        (draws, clusters).

    Returns
    -------
    ndarray
        (draws,); NaN where no treated cell can be imputed.

    Notes
    -----
    As :func:`effect_on_treated`, from sums over each cluster's units that are added up once: the cells
    themselves are only visited for draws that fall into unlinked parts, and where units change cluster.
    """
    if (cells.cluster.max(axis=1) != _cluster_of_units(cells)).any():
        return np.array([_one_draw(cells, times) for times in times_drawn])
    values = (_from_sums(Sums(*parts)) for parts in zip(*_sums(cells, times_drawn), strict=True))
    return np.array(
        [
            _one_draw(cells, times) if value is None else value
            for value, times in zip(values, times_drawn, strict=True)
        ]
    )


def _one_draw(cells: Cells, times: np.ndarray) -> float:
    return effect_on_treated(cells, times[cells.cluster].astype(float))[0]


def _cluster_of_units(cells: Cells) -> np.ndarray:
    """(units,) the cluster of each unit; of one that changes cluster, the lowest that it was seen in."""
    seen = cells.untreated | cells.treated
    return np.where(seen, cells.cluster, cells.cluster.max()).min(axis=1)


class Sums(NamedTuple):
    """What the effect of a draw takes, summed over its units; a leading axis of draws where there are several.

    ``links`` and ``crossed`` are (periods, periods): the untreated, and the treated, cells of one period by the
    shares of the other in its units' untreated cells. The rest are (periods,): counts, and sums of the outcome
    less the mean of its unit's untreated cells.
    """

    links: np.ndarray
    crossed: np.ndarray
    untreated: np.ndarray
    moments: np.ndarray
    treated: np.ndarray
    gaps: np.ndarray


def _sums(cells: Cells, times_drawn: np.ndarray) -> Sums:
    untreated = cells.untreated.astype(float)
    per_unit = untreated.sum(axis=1, keepdims=True)
    share = np.divide(untreated, per_unit, out=np.zeros_like(untreated), where=per_unit > 0)
    treated = cells.treated * (per_unit > 0)
    gap = cells.outcome - (share * cells.outcome).sum(axis=1, keepdims=True)
    order = np.argsort(_cluster_of_units(cells), kind="stable")
    ends = np.searchsorted(_cluster_of_units(cells)[order], np.arange(times_drawn.shape[1] + 1))
    lines = (untreated, untreated * gap, treated, treated * gap)
    return Sums(
        _squares(share[order], untreated[order], ends, times_drawn),
        _squares(treated[order], share[order], ends, times_drawn),
        *(times_drawn @ np.add.reduceat(line[order], ends[:-1], axis=0) for line in lines),
    )


def _squares(left: np.ndarray, right: np.ndarray, ends: np.ndarray, times_drawn: np.ndarray) -> np.ndarray:
    """(draws, periods, periods) sums of left' right over the clusters drawn; units in order of cluster."""
    draws, periods = len(times_drawn), left.shape[1]
    found = np.zeros((draws, periods**2))
    for first in range(0, len(ends) - 1, BLOCK):
        of_block = ends[first : first + BLOCK + 1]
        parts = [left[a:b].T @ right[a:b] for a, b in pairwise(of_block)]
        found += times_drawn[:, first : first + BLOCK] @ np.reshape(parts, (len(parts), -1))
    return found.reshape(draws, periods, periods)


def _from_sums(sums: Sums) -> float | None:
    """The effect of one draw; None where the untreated cells fall into unlinked parts."""
    usable = sums.untreated > 0
    part = connected_components(sums.links > 0, directed=False)[1]
    if len(np.unique(part[usable])) > 1:
        return None
    if not (sums.treated[usable] > 0).any():
        return math.nan
    normal = np.diag(sums.untreated) - sums.links + (part[:, None] == part)
    period_effect = np.linalg.solve(normal, sums.moments)
    gaps = sums.gaps + sums.crossed @ period_effect - sums.treated * period_effect
    return float(gaps[usable].sum() / sums.treated[usable].sum())


def _share_imputed(cells: Cells, used: np.ndarray, period: str) -> str:
    if used.sum() == cells.treated.sum():
        return ""
    return f"{math.floor(100 * used.sum() / cells.treated.sum())}% of the trained {period}s"


def _counts(
    study: Study, rows: pd.DataFrame, left_out: np.ndarray, imputed_units: int
) -> dict[str, int | None]:
    """Units and cells used; None where the difference to all of them would show a small group."""
    all_units, minimum = study.count(), study.program.analysis.minimum_group_size
    n: dict[str, int | None] = {**study.count(rows), "treated": imputed_units}
    if 0 < int(all_units["treated"] or 0) - imputed_units < minimum:
        n["treated"] = None
    if 0 < int(left_out.any(axis=1).sum()) < minimum:
        n["observations"] = None
    return n
