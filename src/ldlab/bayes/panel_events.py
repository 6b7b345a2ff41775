"""Staggered panels: the effect by time since the start, and what the same errors say of the periods before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd

from ldlab.bayes.panel_model import Panel
from ldlab.bayes.panel_series import Series
from ldlab.bayes.units import Floats
from ldlab.estimate import Estimate, Printed, level_in_words

if TYPE_CHECKING:
    from ldlab.bayes.panel import PanelPosterior
    from ldlab.bayes.posterior import Posterior

Pool = tuple[list[int], Floats]  # event times, and the share of each cell in them, adding up to 1


@dataclass(frozen=True, repr=False)
class EventEffects(Printed):
    """Effects by time since the start. Made by :func:`event_effects`; ``ldlab.plots.event_study`` draws it.

    Attributes
    ----------
    estimates
        One for each time since the start (or pool of times, where fewer than the minimum group were seen), in order;
        those before the reference are no effects, but how far cohorts were from the untrained then.
    event_times
        The same in numbers; for a pool the one nearest to the start.
    reference
        The last time before training or its announcement, with which those before it are compared.
    band_low, band_high
        Bounds that hold all of the estimates together with the chance of ``level``.
    """

    estimates: tuple[Estimate, ...]
    event_times: tuple[int, ...]
    reference: int
    band_low: tuple[float, ...]
    band_high: tuple[float, ...]

    def table(self) -> pd.DataFrame:
        """One row per time since the start as readers see it: effect, interval, and band."""
        rows = [
            {
                "event time": time, "term": e.term, "effect": e.shown(e.value), "low": e.shown(e.low),
                "high": e.shown(e.high), "band low": e.shown(low), "band high": e.shown(high),
            }
            for time, e, low, high in zip(
                self.event_times, self.estimates, self.band_low, self.band_high, strict=True
            )
        ]  # fmt: skip
        return pd.DataFrame(rows).set_index("event time").round(max(e.decimals for e in self.estimates))

    def _rows(self) -> list[tuple[str, str]]:
        last = self.estimates[-1]
        head = ("time since the start", f"effect in {last.shown_unit}, {level_in_words(last.level)}")
        rows = [
            (
                e.term,
                f"{e.format(e.value, sign=True)} ({e.format(e.low, sign=True)} to {e.format(e.high, sign=True)})",
            )
            for e in self.estimates
        ]
        return [head, *rows]


def event_effects(posterior: PanelPosterior | Posterior) -> EventEffects | None:
    """The average effect on those seen at each time since the start; None but for staggered panels.

    Times before the start are not part of the model, which takes them to be no different. Beside it they show whether
    they were: trained cohorts less the untrained, against the last period before training, with the model's errors and
    flat priors.
    """
    if posterior.family != "panel":
        return None
    posterior = cast("PanelPosterior", posterior)
    panel, draws = posterior.panel, posterior.idata["posterior"].to_dataset()
    before, after = pools_before(panel), pools_after(panel)
    sigma = draws["error_scale"].values.ravel()
    gaps = _gaps(panel, before, sigma)
    values = np.column_stack([gaps, draws["event_effect"].values.reshape(len(sigma), -1)])
    pools = [pool for pool, _ in (*before, *after)]
    estimates = tuple(
        _estimate(posterior, own, pool, pools) for own, pool in zip(values.T, pools, strict=True)
    )
    middle, sd = values.mean(axis=0), values.std(axis=0, ddof=1)
    reach = float(np.quantile(np.abs((values - middle) / sd).max(axis=1), panel.series.study.program.level))
    return EventEffects(
        estimates=estimates,
        event_times=tuple(min(pool, key=abs) for pool in pools),
        reference=reference_of(panel.series),
        band_low=tuple(float(x) for x in middle - reach * sd),
        band_high=tuple(float(x) for x in middle + reach * sd),
    )


def reference_of(series: Series) -> int:
    """The last event time before training and its announcement."""
    return -1 - series.anticipation


def _estimate(posterior: PanelPosterior, draws: Floats, pool: list[int], pools: list[list[int]]) -> Estimate:
    study, method = posterior.study, posterior.method
    event = study.frame["period"] - study.frame["start"]
    seen = int(study.frame.loc[event.isin(pool), "unit"].nunique())
    return Estimate.from_draws(
        draws,
        method=method,
        estimand=study.estimand_in_full if pool[0] >= 0 else "placebo",
        se_kind="posterior sd",
        n={**study.count(), "treated": seen},
        term=_term(pool, pools, study.program.design.period),
        **study.measure(),
    )


def _term(pool: list[int], pools: list[list[int]], period: str) -> str:
    low, high = (str(time).replace("-", "−") for time in (pool[0], pool[-1]))
    if len(pool) == 1:
        return f"{period} {low}"
    if pool is pools[-1]:
        return f"{period} {low} or later"
    return f"{period} {high} or earlier" if pool is pools[0] and pool[0] < 0 else f"{period}s {low} to {high}"


def pools_after(panel: Panel) -> list[Pool]:
    """Times since the start, joined from the last on until the minimum group was seen; shares of ``panel.cells``."""
    cells = panel.cells
    times = sorted({int(time) for time in cells.event[cells.share > 0]}, reverse=True)
    pools = [sorted(pool) for pool in reversed(_joined(panel.series, times))]
    shares = [cells.share * np.isin(cells.event, pool) for pool in pools]
    return [(pool, share / share.sum()) for pool, share in zip(pools, shares, strict=True)]


def pools_before(panel: Panel) -> list[Pool]:
    """Times before the reference, joined from the first on; shares of the (g, t) table of means."""
    series, reference = panel.series, reference_of(panel.series)
    event = np.nan_to_num(series.event_times(), nan=np.inf)
    base = series.seen & (event == reference)
    known = series.seen & series.seen[-1] & (event < reference) & base.any(axis=1, keepdims=True)
    pools = _joined(series, sorted({int(time) for time in event[known]}), least_needed=True)
    found = []
    for pool in pools:
        rows = series.rows * known * np.isin(event, pool)
        found.append((pool, rows / rows.sum()))
    return found


def _joined(series: Series, times: list[int], *, least_needed: bool = False) -> list[list[int]]:
    """Event times, given from the outside in, joined until each pool holds the minimum group.

    What is left over joins the pool before it; where no pool holds it, all are one, or none with ``least_needed``.
    """
    frame, minimum = series.study.frame, series.study.program.analysis.minimum_group_size
    event = frame["period"] - frame["start"]
    pools: list[list[int]] = []
    waiting: list[int] = []
    for time in times:
        waiting.append(time)
        if frame.loc[event.isin(waiting), "unit"].nunique() >= minimum:
            pools.append(waiting)
            waiting = []
    if pools:
        pools[-1] += waiting
        return pools
    return [] if least_needed or not waiting else [waiting]


def _gaps(panel: Panel, pools: list[Pool], sigma: Floats) -> Floats:
    """(draws, pools) the cohorts' gaps to the untrained at times before the start, less those at the reference."""
    series = panel.series
    tables = np.array([_contrast(series, share) for _, share in pools]).reshape(
        len(pools), *series.means.shape
    )
    back = panel.errors.root.T @ series.contrasts
    covariance = np.einsum("pgt,gh,qhs,ts->pq", tables, series.overlap, tables, back.T @ back, optimize=True)
    values = np.einsum("pgt,gt->p", tables, series.means)
    root = np.linalg.cholesky(covariance + 1e-12 * np.trace(covariance) * np.eye(len(pools)))
    rng = np.random.default_rng([series.study.program.analysis.seed, 4])
    return np.asarray(values + sigma[:, None] * (rng.standard_normal((len(sigma), len(pools))) @ root.T))


def _contrast(series: Series, share: Floats) -> Floats:
    """(g, t) weights of the means: shares, less their cohorts' reference periods, less the same of the untrained."""
    event = np.nan_to_num(series.event_times(), nan=np.inf)
    base = (event == reference_of(series)) * share.sum(axis=1, keepdims=True)
    table = share - base
    table[-1] -= table.sum(axis=0)
    return np.asarray(table)
