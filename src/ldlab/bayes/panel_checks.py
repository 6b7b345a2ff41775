"""What the panel model makes beside what was seen: changes, trends before training, and how restless they are."""

from __future__ import annotations

import numpy as np

from ldlab.bayes.panel import PanelPosterior
from ldlab.bayes.panel_series import FEWEST_DEGREES
from ldlab.bayes.units import Floats, Ints
from ldlab.estimate import Check

TREND, RESTLESS = 2, 4  # periods before training that a trend, and a spread around nothing, need

Replicated = dict[tuple[str, str], tuple[float, Floats]]


def enough_clusters(posterior: PanelPosterior) -> Check:
    """Whether clusters (units, where none is named) of one cohort show how errors last; it breaks the claim.

    At least 3 more than cohorts; with fewer the posterior is too narrow, and good for no claim.
    """
    found = posterior.panel.series
    named, cohorts = "cluster" in posterior.study.frame, len(found.starts) + 1
    what = "clusters" if named else posterior.study.program.design.units
    count = posterior.study.frame["cluster"].nunique() if named else found.clusters
    verdict = (
        "too few to learn how whole clusters stray, so no range can be given"
        if found.too_few_clusters
        else "enough to learn how they stray"
    )
    return Check(
        name="enough clusters for the model",
        status="failed" if found.too_few_clusters else "passed",
        sentence=f"There are {count:,} {what} in {cohorts} cohorts: {verdict}.",
        statistic=float(count - cohorts),
        statistic_name="clusters beyond one in each cohort",
        threshold=FEWEST_DEGREES,
        needed=True,
        breaks=True,
    )


def panel_statistics(posterior: PanelPosterior, draws: int) -> Replicated:
    """Statistics of each trained cohort less the untrained, of the data and of so many data sets from the posterior.

    ``mean``: the change from before to after the start; ``trend before``: the slope over the periods before it (KPI
    units per period); ``sd before``: the spread over these periods, larger where something moves a cohort as a whole that
    does not move its clusters apart. Cohorts under the minimum group are left out.
    """
    found, design = posterior.panel.series, posterior.study.program.design
    minimum = posterior.study.program.analysis.minimum_group_size
    tables = np.concatenate([found.means[None], _replicates(posterior, draws)])
    made: Replicated = {}
    for cohort, start in enumerate(found.starts):
        if found.units[cohort] < minimum:
            continue
        name = f"start {posterior.study.periods[start] if posterior.study.periods else start}"
        seen = found.seen[cohort] & found.seen[-1]
        gap = tables[:, cohort] - tables[:, -1]
        before = np.flatnonzero(seen[: start - design.anticipation])
        after = start + np.flatnonzero(seen[start:])
        for family, values in _of_cohort(gap, before, after).items():
            made[family, name] = (float(values[0]), values[1:])
    return made


def _of_cohort(gap: Floats, before: Ints, after: Ints) -> dict[str, Floats]:
    """(data sets,) each statistic of (data sets, t) differences to the untrained; the data come first."""
    found = {}
    if len(before) and len(after):
        found["mean"] = gap[:, after].mean(axis=1) - gap[:, before].mean(axis=1)
    if len(before) >= TREND:
        along = before - before.mean()
        found["trend before"] = gap[:, before] @ along / (along @ along)
    if len(before) >= RESTLESS:
        found["sd before"] = gap[:, before].std(axis=1, ddof=1)
    return found


def _replicates(posterior: PanelPosterior, draws: int) -> Floats:
    """(draws, g, t) cohort means of new data sets, apart from a constant and what the periods did to all."""
    panel, rng = posterior.panel, np.random.default_rng([posterior.study.program.analysis.seed, 3])
    effects = posterior.cell_effects.reshape(-1, posterior.cell_effects.shape[-1])
    picked = np.unique(np.linspace(0, len(effects) - 1, draws).astype(int))
    cohorts, periods = panel.series.means.shape
    made = np.zeros((len(picked), cohorts, periods))
    made[:, panel.cells.cohort, panel.cells.period] = effects[picked]
    between = np.linalg.cholesky(panel.series.overlap)
    back = panel.errors.root.T @ panel.series.contrasts
    sigma = posterior.idata["posterior"].to_dataset()["error_scale"].values.ravel()[picked]
    noise = sigma[:, None, None] * rng.standard_normal((len(picked), cohorts, periods - 1))
    return np.asarray(made + between @ noise @ back)
