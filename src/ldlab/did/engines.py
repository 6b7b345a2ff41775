"""An estimator whose clusters can be left out, or given other starts: by sums where they give it, else run again."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ldlab.did.by_cluster import Blocks, GroupTime, Imputation, Reassigned, TwoWay
from ldlab.did.clusters import clusters_of, stay_in_clusters
from ldlab.did.controls import Controls, choose_controls
from ldlab.did.untreated import Cells, effect_on_treated
from ldlab.estimate import Estimate
from ldlab.program import LdlabError, Study

Estimator = Callable[[Study], float | None]
Floats = NDArray[np.float64]

ESTIMATORS = ("two_way", "group_time", "imputation")
MOST_PARTS, MOST_REFIT_PARTS = (
    400,
    60,
)  # of one start, left out in turn; where the estimator must be run again
MOST_NUMBERS = 10_000_000  # held at a time
SAME = 1e-5  # of the standard error: how closely sums must give the estimate


class Engine(NamedTuple):
    """An estimator whose clusters can be left out, or given other starts."""

    without_each: Callable[[], Floats]
    reassigned: Callable[[Floats], Floats]
    refits: bool


def engine_of(study: Study, estimate: Estimate, estimator: str | Estimator) -> Engine:
    """Sums where they give the estimate, else the estimator run again."""
    if isinstance(estimator, str) and estimator not in ESTIMATORS:
        raise LdlabError(
            f"infer: found estimator '{estimator}'; expected {', '.join(ESTIMATORS)}, or a function."
        )
    if isinstance(estimator, str) and stay_in_clusters(study.frame):
        blocks = Blocks.of(study.frame)
        sums = _sums(study, blocks, estimator)
        value = sums.values(blocks.start[None])[0, 0]
        if abs(value - estimate.value) <= SAME * estimate.se:
            return _by_sums(blocks, sums)
    again = _named(estimator, study) if isinstance(estimator, str) else estimator
    found = again(study)
    if found is None or not abs(found - estimate.value) <= SAME * estimate.se:
        raise LdlabError(
            f"infer: found {found} from estimator {estimator}; expected the estimate, {estimate.value}. Name the "
            "estimator that made it: two_way, group_time, imputation, or a function of a study."
        )
    return _by_refits(study, again)


def _sums(study: Study, blocks: Blocks, estimator: str) -> Reassigned:
    anticipation = study.program.design.anticipation
    if estimator == "two_way":
        return TwoWay(blocks)
    if estimator == "imputation":
        return Imputation(blocks, anticipation=anticipation)
    return GroupTime(blocks, never_trained=controls_of(study) == "never", anticipation=anticipation)


def controls_of(study: Study) -> Controls:
    """Whom the group-time effects compare with: it stays so whatever clusters are left out or dealt anew."""
    rows = study.frame[~(study.frame["start"] - 1 - study.program.design.anticipation < 0)]
    return "never" if choose_controls(study, rows)[0] == "never trained" else "not_yet"


def _named(estimator: str, study: Study) -> Estimator:
    """The estimator as a function of a study like this one."""
    from ldlab.did.group_time import group_time
    from ldlab.did.two_way import two_way_fixed_effects

    if estimator == "two_way":
        return lambda other: two_way_fixed_effects(other).value
    if estimator == "imputation":
        return _imputed
    controls = controls_of(study)

    def overall(other: Study) -> float | None:
        effects = group_time(other, controls=controls)
        return None if effects is None else effects.overall.value

    return overall


def _imputed(study: Study) -> float:
    """The value alone, without the bootstrap of its error."""
    cells = Cells.of(study.frame, study.program.design.anticipation)
    return effect_on_treated(cells, np.ones(cells.outcome.shape))[0]


def parts_of(cluster: NDArray[np.intp], start: Floats, most: int) -> NDArray[np.intp]:
    """What is left out together: each cluster; where more than ``most`` share a start, as many groups of them.

    Parameters
    ----------
    cluster, start
        (n,) cluster and start of each row, unit or block; a cluster's first start counts.
    most
        Parts for each start.

    Returns
    -------
    ndarray
        (n,) the part, 0 to parts - 1. Independent clusters left out together are a cluster themselves.
    """
    first = pd.Series(start).groupby(cluster).min()
    place = first.groupby(first).cumcount() % most
    parts = pd.factorize(pd.MultiIndex.from_arrays([first, place]))[0]
    return np.asarray(parts[cluster])


def _by_sums(blocks: Blocks, sums: Reassigned) -> Engine:
    def without_each() -> Floats:
        part = parts_of(blocks.cluster, blocks.start, MOST_PARTS)
        parts, found = int(part.max()) + 1, []
        for some in np.array_split(np.arange(parts), 1 + parts * len(part) // MOST_NUMBERS):
            keep = (some[:, None] != part).astype(float)
            found.append(sums.values(np.repeat(blocks.start[None], len(some), axis=0), keep)[:, 0])
        return np.concatenate(found)

    return Engine(without_each, sums.values, refits=False)


def _by_refits(study: Study, estimator: Estimator) -> Engine:
    """The estimator run again on changed frames; NaN where it has no answer."""
    rows = study.frame
    cluster = pd.factorize(clusters_of(rows), sort=True)[0]

    def value(frame: pd.DataFrame) -> float:
        try:
            found = estimator(replace(study, frame=frame))
        except LdlabError:
            return math.nan
        return math.nan if found is None else found

    def without_each() -> Floats:
        part = parts_of(cluster, rows["start"].fillna(np.inf).to_numpy(), MOST_REFIT_PARTS)
        return np.array([value(rows[part != some]) for some in range(int(part.max()) + 1)])

    def reassigned(starts: Floats) -> Floats:
        found = np.empty((len(starts), 2))
        for draw, row in enumerate(starts):
            start = pd.Series(np.where(np.isinf(row), np.nan, row)[cluster], index=rows.index)
            on = (rows["period"] >= start).astype(int)
            frame = rows.assign(start=start, treated=on, arm=start.notna().astype(int))
            found[draw] = value(frame), value(frame.assign(outcome=rows["outcome"] + rows["treated"]))
        # Linear in the KPI; the treatment alone does not vary enough for an estimator that also gives errors.
        found[:, 1] -= found[:, 0]
        return found

    return Engine(without_each, reassigned, refits=True)
