"""Whether a panel bears its estimate: leads, placebo start, different starts."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from scipy import stats

from ldlab.checks.shared import POWER, has_comparison, noncentrality, not_run, plain
from ldlab.estimate import Check, Estimate
from ldlab.program import Study

LEADS_P = 0.05
PLACEBO_P = 0.05
NEGATIVE_WEIGHTS = 0.05
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
    estimated covariance is too large on average.
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
    lead, failed = event_study.leads[0], p < LEADS_P
    seen = f"{plain(abs(lead.shown(slope)))} {lead.shown_unit} per {period}"
    moving = (
        "the two groups were already moving apart" if has_comparison(study) else "the KPI was already moving"
    )
    verdict = f"{moving}: the estimate may be that movement" if failed else f"there was no sign that {moving}"
    return Check(
        name=name,
        status="failed" if failed else "passed",
        sentence=f"In the {period}s before training {verdict} ({len(event_study.leads)} compared with the last).",
        statistic=p,
        statistic_name="p-value",
        threshold=LEADS_P,
        power=f"a steady drift of {seen} would have been seen 4 times in 5",
        needed=True,
    )


def placebo(study: Study, placebo_estimate: Estimate | None) -> Check:
    """Whether a false, earlier start finds an effect too: failed at p < .05.

    Whatever the program's interval level, so that a study does not pass by asking for wider intervals; the
    range shown is therefore the 95% range. The grade presumes the check only where it can be run.
    """
    name, period = "placebo start", study.program.design.period
    if not has_comparison(study):
        return not_run(name, "There is no comparison group to hold a false start against.")
    if placebo_estimate is None:
        return not_run(name, f"It needs three {period}s before training and enough units in both arms.")
    df = np.inf if placebo_estimate.df is None else placebo_estimate.df
    reach = float(stats.t.isf(PLACEBO_P / 2, df))
    e = placebo_estimate.model_copy(
        update={
            "level": 1 - PLACEBO_P,
            "low": placebo_estimate.value - reach * placebo_estimate.se,
            "high": placebo_estimate.value + reach * placebo_estimate.se,
        }
    )
    p = float(2 * stats.t.sf(abs(e.value / e.se), df))
    failed = p < PLACEBO_P
    found = f"{e.format(e.value, sign=True)} {e.shown_unit}, {e.interval_text()}"
    verdict = "an effect before there was any training" if failed else "nothing clear, as it should be"
    seen = (reach + stats.t.ppf(POWER, df)) * e.se
    return Check(
        name=name,
        status="failed" if failed else "passed",
        sentence=f"Pretending that training began {e.term} finds {verdict} ({found}).",
        statistic=p,
        statistic_name="p-value",
        threshold=PLACEBO_P,
        power=f"a false effect of {plain(abs(e.shown(seen)))} {e.shown_unit} would have been seen 4 times in 5",
        needed=True,
    )


def staggered_weights(study: Study, share_negative: float) -> Check | None:
    """Whether the two-way regression counts trained cells with the wrong sign: failed over 5% of them.

    5% is a bound of ours, there is none in the literature. ``share_negative`` comes from
    :func:`ldlab.did.negative_weights`. The grade does not presume it: :func:`robust_to_staggering` sees to
    that. None where all start together, or nothing is compared.
    """
    if not _is_staggered(study):
        return None
    failed = share_negative > NEGATIVE_WEIGHTS
    mislead = ", so it can mislead, even about the direction" if failed else ""
    return Check(
        name="staggered weights",
        status="failed" if failed else "passed",
        sentence=f"Training started at different times. The two-way estimate counts {share_negative:.0%} of the "
        f"trained {study.program.design.period}s with the wrong sign{mislead}; it also weighs early and late "
        "starters unevenly.",
        statistic=share_negative,
        statistic_name="share of trained cells with a negative weight",
        threshold=NEGATIVE_WEIGHTS,
    )


def robust_to_staggering(study: Study, two_way: Estimate, robust: Estimate | None) -> Check | None:
    """Whether an estimator made for different starts agrees with the two-way regression.

    Failed where the two differ in sign, or by the smallest effect worth having or more.

    Parameters
    ----------
    study
        A panel.
    two_way, robust
        :func:`ldlab.did.two_way_fixed_effects` and :func:`ldlab.did.imputation`.

    Returns
    -------
    Check or None
        None where the question does not arise: all start together, or nothing is compared. Not run, though
        needed, where ``robust`` is None.
    """
    if not _is_staggered(study):
        return None
    name, smallest = "robust to staggering", abs(study.smallest)
    if robust is None:
        reason = (
            "Training started at different times, and the estimator made for that (imputation) could not be run: "
            "too few trained units can be imputed, or too few clusters; the estimate can mislead if effects grow "
            "or differ between early and late starters."
        )
        return not_run(name, reason, needed=True)
    gap = abs(two_way.value - robust.value)
    same_direction = np.sign(two_way.value) == np.sign(robust.value)
    passed = bool(same_direction and gap < smallest)
    if passed:
        verdict = "gives a result that differs by too little to matter"
    elif same_direction:
        verdict = (
            "gives a result that differs by more than the smallest effect worth having: the size of the effect "
            "depends on the method"
        )
    else:
        verdict = "points the other way: the direction of the effect depends on the method"
    return Check(
        name=name,
        status="passed" if passed else "failed",
        sentence=f"An estimator made for different starts (imputation) {verdict}.",
        statistic=gap,
        statistic_name=f"difference in {two_way.unit}",
        threshold=smallest,
        power="it sees what different starts do to the two-way estimate; both lean on the same data and on parallel "
        "trends, and can be wrong together",
        needed=True,
    )


def _is_staggered(study: Study) -> bool:
    return "start" in study.frame and study.frame["start"].nunique() > 1 and has_comparison(study)


def _blocks(count: int, df: float) -> np.ndarray:
    """(blocks, leads) matrix that averages neighbouring leads into at most one block per 6 clusters."""
    blocks = min(count, max(1, int(df + 1) // CLUSTERS_PER_LEAD))
    parts = np.array_split(np.arange(count), blocks)
    return np.array([np.isin(np.arange(count), part) / len(part) for part in parts])
