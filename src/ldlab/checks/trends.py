"""Whether trained and comparison units moved alike before training, and how large a drift could hide."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from scipy import stats

from ldlab.checks.shared import noncentrality, not_run, plain
from ldlab.estimate import Check, Estimate
from ldlab.program import Study

LEADS_P = 0.05
CLUSTERS_PER_LEAD = 6


class Leads(Protocol):
    """What :func:`leads` reads of an event study (:class:`ldlab.did.EventStudy`)."""

    @property
    def leads(self) -> tuple[Estimate, ...]: ...  # noqa: D102
    @property
    def lead_times(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def reference(self) -> int: ...  # noqa: D102
    @property
    def covariance(self) -> tuple[tuple[float, ...], ...]: ...  # noqa: D102
    @property
    def df(self) -> float: ...  # noqa: D102


def leads(event_study: Leads, study: Study) -> Check:
    """Whether trained and comparison units moved alike before training: joint test of the leads, p < .05.

    Without a comparison (design before_after): whether the KPI stood still before training.

    Hotelling's T-squared: Wald statistic W of m leads, W (d - m + 1) / (d m) against F(m, d - m + 1) with
    d = clusters - 1. Referring W / m to F(m, d) instead rejects far too often once m is not small beside the
    clusters (14% at 13 leads and 54 clusters). With fewer than 6 clusters per lead neighbouring leads are
    averaged first, into as many blocks as there are sixes of clusters. The power is that against a linear
    drift (Roth 2022, American Economic Review: Insights 4); (d - m - 1) / d takes out that the inverse of an
    estimated covariance is too large on average. The bias is what such a drift, had it gone on, would have added
    to the leading estimate: the drift times the mean time between trained rows and their base, which is the
    reference period for group-time effects and the mean of all earlier periods for the other estimators.
    """
    name, period = "leads", study.program.design.period
    if not event_study.leads:
        reason = f"Too few units were seen in more than one {period} before training."
        return not_run(name, reason, needed=True)
    effects = np.array([lead.value for lead in event_study.leads])
    drift = np.array(event_study.lead_times, dtype=float) - event_study.reference
    blocks = _blocks(len(effects), event_study.df)
    effects, drift = blocks @ effects, blocks @ drift
    precision = np.linalg.inv(blocks @ np.array(event_study.covariance) @ blocks.T)
    df = event_study.df - len(blocks) + 1
    statistic = effects @ precision @ effects * df / (event_study.df * len(blocks))
    p = float(stats.f.sf(statistic, len(blocks), df))
    unbiased = precision * max(df - 2, 1) / event_study.df
    slope = math.sqrt(noncentrality(len(blocks), df, LEADS_P) / (drift @ unbiased @ drift))
    bias = slope * _distance(study, event_study.reference)
    lead, failed = event_study.leads[0], p < LEADS_P
    return Check(
        name=name,
        status="failed" if failed else "passed",
        sentence=_sentence(study, event_study, failed)
        + ("" if failed else _what_could_hide(study, lead, bias)),
        statistic=p,
        statistic_name="p-value",
        threshold=LEADS_P,
        power=f"a steady drift of {_size(lead, slope)} per {period} would have been seen 4 times in 5; going on, it "
        f"would add {_size(lead, bias)} to the estimate",
        needed=True,
    )


def _sentence(study: Study, event_study: Leads, failed: bool) -> str:
    period = study.program.design.period
    moving = (
        "the two groups were already moving apart" if study.has_comparison else "the KPI was already moving"
    )
    verdict = f"{moving}: the estimate may be that movement" if failed else f"there was no sign that {moving}"
    last = "the last" if event_study.reference == -1 else "the last before any anticipation"
    return f"In the {period}s before training {verdict} ({len(event_study.leads)} compared with {last})."


def _what_could_hide(study: Study, lead: Estimate, bias: float) -> str:
    """A warning where a drift too small to be sure of seeing could be the whole of an effect worth having."""
    smallest = abs(study.smallest)
    if bias < smallest:
        return ""
    return (
        f" But a drift that could go unseen would make {_size(lead, bias)} of the estimate, no less than the smallest "
        f"effect worth having ({_size(lead, smallest)})."
    )


def _distance(study: Study, reference: int) -> float:
    """Mean number of periods between trained rows and the rows that they are compared with."""
    event = study.frame["period"] - study.frame["start"]
    after = float(event[study.frame["treated"] == 1].mean())
    if study.program.design.kind != "before_after" and study.program.estimator == "group_time":
        return after - reference
    return after - float(event[event <= reference].mean())


def _size(lead: Estimate, effect: float) -> str:
    return f"{plain(abs(lead.shown(effect)))} {lead.shown_unit}"


def _blocks(count: int, df: float) -> np.ndarray:
    """(blocks, leads) matrix that averages neighbouring leads into at most one block per 6 clusters."""
    blocks = min(count, max(1, int(df + 1) // CLUSTERS_PER_LEAD))
    parts = np.array_split(np.arange(count), blocks)
    return np.array([np.isin(np.arange(count), part) / len(part) for part in parts])
