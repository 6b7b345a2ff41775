"""Checks that could break an estimate: each passed, failed or not run, with what it could have seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pandas as pd
from scipy import optimize, stats

from ldlab.estimate import Check, Estimate, format_number
from ldlab.program import Study

SAMPLE_RATIO_P = 0.001
BALANCE_P = 0.01
LEADS_P = 0.05
MISSING_P = 0.05
MISSING_GAP = 5.0  # percentage points between the arms
MISSING_MOST = 20.0  # percent without KPI overall
LARGEST_DIFFERENCE = 0.25  # standard deviations
FEWEST_CLUSTERS = 5
NEGATIVE_WEIGHTS = 0.05
CLUSTERS_PER_LEAD = 6
POWER = 0.8
NOT_STAGGERED = "Not applicable: training started together, or nothing is compared."


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


def missing_kpi(study: Study) -> Check:
    """Whether the KPI is missing too often, or more often in one arm.

    Failed when the shares without KPI differ between the arms by over 5 points and a chi-square test of two
    proportions has p < .05, or when over 20% have none. In a panel the rows, not the units, are counted; as
    rows of one unit go together, the test is then too ready to fail, and no power is given. A count under
    the minimum group size is not shown, nor a share that would give it away.
    """
    rows, without = study.missing["rows"].astype(float), study.missing["without KPI"].astype(float)
    share = 100 * without / rows
    overall = 100 * without.sum() / rows.sum()
    differ, power = False, ""
    gap = abs(share.get(1, 0.0) - share.get(0, 0.0)) if len(rows) > 1 else 0.0
    if len(rows) > 1 and without.sum():
        p = stats.chi2_contingency(np.column_stack([without, rows - without]), correction=False).pvalue
        differ = bool(p < MISSING_P and gap > MISSING_GAP)
        spread = math.sqrt(overall * (100 - overall) * (1 / rows).sum())
        seen = max(MISSING_GAP, (stats.norm.isf(MISSING_P / 2) + stats.norm.ppf(POWER)) * spread)
        if not study.program.is_panel:
            power = (
                f"a gap of {seen:.0f} percentage points between the arms would have been seen 4 times in 5"
            )
    shown = all(_can_be_shown(count, study) for count in without)
    what = "rows" if study.program.is_panel else study.program.design.units
    sentence = f"The KPI is missing for {_missing_by_arm(study, 'without KPI')} {what}"
    if differ:
        sentence += "; who is missing depends on training, and the estimate compares those who remain"
    elif overall > MISSING_MOST:
        sentence += "; those who remain may not stand for all"
    if study.missing["without covariates"].sum():
        sentence += f". Some covariate is missing for {_missing_by_arm(study, 'without covariates')}"
    return Check(
        name="missing KPI",
        status="failed" if differ or overall > MISSING_MOST else "passed",
        sentence=f"{sentence}.",
        statistic=round(float(gap), 1) if shown and len(rows) > 1 else None,
        statistic_name="difference between the arms in percentage points",
        threshold=MISSING_GAP,
        power=power,
        needed=True,
    )


def sample_ratio(study: Study) -> Check:
    """Whether the arms have the planned sizes: chi-square test, failed at p < .001.

    All assigned units count, with or without a KPI; whole clusters where each lies in one arm. The bound is
    that of Fabijan et al. (2019, KDD, 'Diagnosing sample ratio mismatch'), strict because a failure breaks the
    claim.
    """
    planned, name = study.program.design.planned_treated_share, "sample ratio"
    if planned is None:
        return _not_run(name, "The program file does not say which share was meant to be trained.")
    clustered = _assigned_by_cluster(study)
    counts = study.frame.groupby("arm")["cluster"].nunique() if clustered else study.missing["rows"]
    total = int(counts.sum())
    share = float(counts.get(1, 0)) / total
    p = float(
        stats.chisquare([share * total, (1 - share) * total], [planned * total, (1 - planned) * total])[1]
    )
    shift = (stats.norm.isf(SAMPLE_RATIO_P / 2) + stats.norm.ppf(POWER)) * math.sqrt(
        planned * (1 - planned) / total
    )
    low, high = max(0.0, planned - shift), min(1.0, planned + shift)
    failed = p < SAMPLE_RATIO_P
    what = "clusters" if clustered else study.program.design.units
    verdict = (
        "chance does not explain it: assignment or the extract is broken" if failed else "as chance allows"
    )
    return Check(
        name=name,
        status="failed" if failed else "passed",
        sentence=f"{share:.1%} of {total:,} {what} were assigned to training, {planned:.1%} were planned: {verdict}.",
        statistic=p,
        statistic_name="p-value",
        threshold=SAMPLE_RATIO_P,
        power=f"a true share below {low:.1%} or above {high:.1%} would have been caught 4 times in 5",
        needed=True,
        breaks=True,
    )


def balance(study: Study) -> Check:
    """Whether trained and comparison units were alike before training.

    Randomised: F test that the covariates together predict the arm, failed at p < .01. Under random assignment
    the arm's variance does not depend on the covariates, so the classical F is right; its R-squared times n - 1
    is the d-squared of Hansen & Bowers (2008, Statistical Science 23). Where whole clusters were assigned the
    clusters' means are tested. Other designs: the largest standardised difference, failed over .25 standard
    deviations (Imbens & Rubin 2015, section 14.2); the grade presumes it only where the design is
    observational, because panels compare changes.
    """
    name, needed = "balance", study.program.design.kind in ("randomised", "observational")
    if not study.covariates:
        return _not_run(name, "No baseline covariates are named in the program file.", needed=needed)
    if not _has_comparison(study):
        return _not_run(name, "There is no comparison group.")
    if study.program.design.kind == "randomised":
        return _joint_balance(study, name)
    table = balance_table(study)
    worst = table.iloc[0]
    largest = abs(float(worst["standardised difference"]))
    failed = not largest <= LARGEST_DIFFERENCE
    verdict = "trained and comparison differ too much" if failed else "none is large"
    return Check(
        name=name,
        status="failed" if failed else "passed",
        sentence=f"The largest of {len(table)} differences before training is in {worst['covariate']}, "
        f"{largest:.2f} standard deviations: {verdict}. What was not recorded cannot be checked.",
        statistic=largest,
        statistic_name="largest standardised difference",
        threshold=LARGEST_DIFFERENCE,
        needed=needed,
    )


def balance_table(study: Study) -> pd.DataFrame:
    """Covariates by arm before training, the most different first.

    Returns
    -------
    DataFrame
        ``covariate``, ``mean trained``, ``mean comparison`` (empty for a 0/1 covariate that fewer than the
        minimum group have, or lack, in an arm) and ``standardised difference``: difference in means over the
        root mean of the two variances (Imbens & Rubin 2015, equation 14.1). One value per unit, its first.
        Empty without covariates or with one arm.
    """
    if not study.covariates or not _has_comparison(study):
        return pd.DataFrame(
            columns=["covariate", "mean trained", "mean comparison", "standardised difference"]
        )
    rows = _first_rows(study)
    trained, comparison = (rows.loc[rows["arm"] == arm, list(study.covariates)] for arm in (1, 0))
    gap = trained.mean() - comparison.mean()
    spread = np.sqrt((trained.var() + comparison.var()) / 2)
    table = pd.DataFrame(
        {
            "mean trained": trained.mean(),
            "mean comparison": comparison.mean(),
            "standardised difference": (gap / spread).where(gap != 0, 0.0),
        }
    )
    hidden = [name for name in study.covariates if _small_category(trained[name], comparison[name], study)]
    table.loc[hidden, ["mean trained", "mean comparison"]] = np.nan
    table = table.rename_axis("covariate").reset_index()
    order = table["standardised difference"].abs().sort_values(ascending=False, kind="stable").index
    return table.loc[order].reset_index(drop=True)


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
        return _not_run(name, reason, needed=True)
    effects = np.array([lead.value for lead in event_study.leads])
    drift = np.array(event_study.lead_times, dtype=float) - event_study.reference
    blocks = _blocks(len(effects), event_study.df)
    effects, drift = blocks @ effects, blocks @ drift
    precision = np.linalg.inv(blocks @ np.array(event_study.covariance) @ blocks.T)
    df = event_study.df - len(blocks) + 1
    statistic = effects @ precision @ effects * df / (event_study.df * len(blocks))
    p = float(stats.f.sf(statistic, len(blocks), df))
    unbiased = precision * max(df - 2, 1) / event_study.df
    slope = math.sqrt(_noncentrality(len(blocks), df) / (drift @ unbiased @ drift))
    lead, failed = event_study.leads[0], p < LEADS_P
    seen = f"{_plain(abs(lead.shown(slope)))} {lead.shown_unit} per {period}"
    moving = (
        "the two groups were already moving apart" if _has_comparison(study) else "the KPI was already moving"
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
    """Whether a false, earlier start finds an effect too: failed if its interval excludes zero.

    At the program's interval level, so without any fault it fails in 1 - level of all studies.
    """
    name, period = "placebo start", study.program.design.period
    if not _has_comparison(study):
        return _not_run(name, "There is no comparison group to hold a false start against.")
    if placebo_estimate is None:
        return _not_run(name, f"It needs three {period}s before training and enough units in both arms.")
    e = placebo_estimate
    failed = not e.low <= 0 <= e.high
    found = f"{e.format(e.value, sign=True)} {e.shown_unit}, {e.interval_text()}"
    verdict = "an effect before there was any training" if failed else "nothing clear, as it should be"
    df = np.inf if e.df is None else e.df
    seen = (stats.t.isf((1 - e.level) / 2, df) + stats.t.ppf(POWER, df)) * e.se
    return Check(
        name=name,
        status="failed" if failed else "passed",
        sentence=f"Pretending that training began {e.term} finds {verdict} ({found}).",
        statistic=e.value / e.se,
        statistic_name="effect over its standard error",
        threshold=float(stats.t.isf((1 - e.level) / 2, df)),
        power=f"a false effect of {_plain(abs(e.shown(seen)))} {e.shown_unit} would have been seen 4 times in 5",
    )


def enough_clusters(study: Study) -> Check:
    """Whether each arm has at least 5 clusters (units, where no cluster is named) to take errors from.

    With fewer, clustered errors are too small however many people there are (Cameron & Miller 2015, Journal of
    Human Resources 50, section VI; MacKinnon & Webb 2018, The Econometrics Journal 21).
    """
    clustered = "cluster" in study.frame
    counts = study.frame.groupby("arm")["cluster" if clustered else "unit"].nunique()
    wanted = [1] if study.program.design.kind == "before_after" else [1, 0]
    sizes = {arm: int(counts.get(arm, 0)) for arm in wanted}
    fewest = min(sizes.values())
    failed = fewest < FEWEST_CLUSTERS
    what = "clusters" if clustered else study.program.design.units
    names = {1: "trained", 0: "comparison"}
    shown = " and ".join(
        f"{size if clustered else _count(size, study)} {names[arm]} {what}" for arm, size in sizes.items()
    )
    shown += f" ({study.program.design.columns.cluster})" if clustered else ""
    verdict = (
        "too few: results this clear also come about by chance, more often than the interval says"
        if failed
        else "enough for the interval to be taken at its word"
    )
    return Check(
        name="enough clusters",
        status="failed" if failed else "passed",
        sentence=f"There are {shown}: {verdict}.",
        statistic=float(fewest) if clustered or _can_be_shown(fewest, study) else None,
        statistic_name="clusters in the smaller arm",
        threshold=float(FEWEST_CLUSTERS),
        needed=True,
    )


def staggered_weights(study: Study, share_negative: float) -> Check:
    """Whether the two-way regression counts trained cells with the wrong sign: failed over 5% of them.

    5% is a bound of ours, there is none in the literature. ``share_negative`` comes from
    :func:`ldlab.did.negative_weights`. The grade does not presume it: :func:`robust_to_staggering` sees to that.
    """
    name = "staggered weights"
    if not _is_staggered(study):
        return _not_run(name, NOT_STAGGERED)
    failed = share_negative > NEGATIVE_WEIGHTS
    mislead = ", so it can mislead, even about the direction" if failed else ""
    return Check(
        name=name,
        status="failed" if failed else "passed",
        sentence=f"Training started at different times. The two-way estimate counts {share_negative:.0%} of the "
        f"trained {study.program.design.period}s with the wrong sign{mislead}; it also weighs early and late "
        "starters unevenly.",
        statistic=share_negative,
        statistic_name="share of trained cells with a negative weight",
        threshold=NEGATIVE_WEIGHTS,
    )


def robust_to_staggering(study: Study) -> Check:
    """Whether an estimator made for different starts agrees: never run in this version.

    With different starts it is needed, so the grade falls; with one start the question does not arise.
    """
    name = "robust to staggering"
    if not _is_staggered(study):
        return _not_run(name, NOT_STAGGERED)
    reason = (
        "Training started at different times, and the estimators made for that (group-time effects) are not in "
        "this version; the estimate can mislead if effects grow or differ between early and late starters."
    )
    return _not_run(name, reason, needed=True)


def methods_agree(leads: Sequence[Estimate]) -> Check:
    """Whether the first two of several notebooks' leading estimates agree; not run where there is only one."""
    if len(leads) < 2:
        return _not_run("second method", "Only one method answered this question, so none could disagree.")
    return second_method(leads[0], leads[1], leads[0].smallest)


def second_method(lead: Estimate, other: Estimate, smallest: float) -> Check:
    """Whether a second method agrees: in sign, or within the smallest effect worth having.

    Parameters
    ----------
    lead, other
        Two estimates of one question, in one unit.
    smallest
        The smallest effect worth having in effect units, of either sign (``study.smallest``).
    """
    gap = abs(lead.value - other.value)
    agree = lead.value * other.value > 0 or gap < abs(smallest)
    verdict = "does not agree, so the choice of method decides"
    if agree:
        same_sign = lead.value * other.value > 0
        verdict = "agrees in direction" if same_sign else "differs by too little to matter"
    return Check(
        name="second method",
        status="passed" if agree else "failed",
        sentence=f"A second method ({other.method}) {verdict}.",
        statistic=gap,
        statistic_name=f"difference in {lead.unit}",
        threshold=abs(smallest),
        power="methods that share their data and assumptions can be wrong together",
    )


def _not_run(name: str, reason: str, *, needed: bool = False) -> Check:
    return Check(name=name, status="not_run", sentence=reason, needed=needed)


def _can_be_shown(count: float, study: Study) -> bool:
    return count == 0 or count >= study.program.analysis.minimum_group_size


def _count(count: float, study: Study) -> str:
    minimum = study.program.analysis.minimum_group_size
    return f"{int(count):,}" if _can_be_shown(count, study) else f"fewer than {minimum}"


def _missing_by_arm(study: Study, column: str) -> str:
    """'14 of 200 trained (7%) and fewer than 10 of 185 comparison'."""
    parts = []
    for arm, name in ((1, "trained"), (0, "comparison")):
        if arm in study.missing.index:
            rows, count = (int(study.missing[key][arm]) for key in ("rows", column))
            share = f" ({count / rows:.0%})" if count and _can_be_shown(count, study) else ""
            parts.append(f"{_count(count, study)} of {rows:,} {name}{share}")
    return " and ".join(parts)


def _assigned_by_cluster(study: Study) -> bool:
    """Whether every cluster lies in one arm, so that clusters were assigned, not units."""
    return "cluster" in study.frame and study.frame.groupby("cluster")["arm"].nunique().max() == 1


def _is_staggered(study: Study) -> bool:
    return "start" in study.frame and study.frame["start"].nunique() > 1 and _has_comparison(study)


def _has_comparison(study: Study) -> bool:
    return study.frame["arm"].nunique() > 1


def _first_rows(study: Study) -> pd.DataFrame:
    rows = study.frame
    return rows.sort_values("period").groupby("unit").head(1) if "period" in rows else rows


def _small_category(trained: pd.Series, comparison: pd.Series, study: Study) -> bool:
    counts = [(arm == value).sum() for arm in (trained, comparison) for value in (0, 1)]
    is_binary = all(arm.dropna().isin([0, 1]).all() for arm in (trained, comparison))
    return is_binary and not all(_can_be_shown(count, study) for count in counts)


def _joint_balance(study: Study, name: str) -> Check:
    rows = study.frame.dropna(subset=list(study.covariates))
    what = study.program.design.units
    if _assigned_by_cluster(study):
        rows, what = rows.groupby("cluster")[["arm", *study.covariates]].mean(), "clusters"
    covariates = rows[list(study.covariates)].to_numpy(dtype=float)
    centred = covariates - covariates.mean(axis=0)
    scale = centred.std(axis=0)
    centred = centred[:, scale > 0] / scale[scale > 0]
    arm = rows["arm"].to_numpy(dtype=float) - rows["arm"].mean()
    rank = int(np.linalg.matrix_rank(centred)) if centred.size else 0
    df = len(rows) - 1 - rank
    if rank == 0 or df < 1 or not arm.any():
        reason = f"There are too few {what} with all covariates, or covariates that vary, to test it."
        return _not_run(name, reason, needed=True)
    explained = float(((centred @ np.linalg.lstsq(centred, arm, rcond=None)[0]) ** 2).sum())
    left = float((arm**2).sum()) - explained
    p = float(stats.f.sf(explained / rank / (left / df), rank, df)) if left > 0 else 0.0
    share = float(rows["arm"].mean())
    seen = math.sqrt(_noncentrality(rank, df, BALANCE_P) / (len(rows) * share * (1 - share)))
    failed = p < BALANCE_P
    verdict = (
        "more than chance explains: assignment was not random, or not kept" if failed else "as chance allows"
    )
    return Check(
        name=name,
        status="failed" if failed else "passed",
        sentence=f"Recorded characteristics before training ({len(study.covariates)} of them, {len(rows):,} {what}) "
        f"differ between the groups {verdict}.",
        statistic=p,
        statistic_name="p-value",
        threshold=BALANCE_P,
        power=f"a difference of {seen:.2f} standard deviations in one characteristic would have been seen 4 times "
        "in 5",
        needed=True,
    )


def _blocks(count: int, df: float) -> np.ndarray:
    """(blocks, leads) matrix that averages neighbouring leads into at most one block per 6 clusters."""
    blocks = min(count, max(1, int(df + 1) // CLUSTERS_PER_LEAD))
    parts = np.array_split(np.arange(count), blocks)
    return np.array([np.isin(np.arange(count), part) / len(part) for part in parts])


def _noncentrality(df1: int, df2: float, p: float = LEADS_P) -> float:
    """The noncentrality at which an F test at level ``p`` rejects 4 times in 5."""
    bound = stats.f.isf(p, df1, df2)

    def short_of_power(size: float) -> float:
        return float(stats.ncf.sf(bound, df1, df2, size)) - POWER

    top = 10.0
    while short_of_power(top) < 0:
        top *= 2
    return float(optimize.brentq(short_of_power, 1e-6, top))


def _plain(size: float) -> str:
    """A positive size with two significant digits."""
    return format_number(size, max(0, 1 - math.floor(math.log10(size)))) if size > 0 else "0"
