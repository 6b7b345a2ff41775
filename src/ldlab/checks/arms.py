"""Whether the arms are what they should be: sizes, balance, take-up, missing KPI."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping

import numpy as np
import pandas as pd
from scipy import stats

from ldlab.checks.assigned import (
    FEWEST_EXPECTED,
    arm_names,
    cells_p,
    chi2_noncentrality,
    drawn,
    planned_shares,
)
from ldlab.checks.joint_balance import joint_test
from ldlab.checks.shared import (
    POWER,
    assigned_by_cluster,
    can_be_shown,
    count_text,
    noncentrality,
    not_run,
)
from ldlab.estimate import Check
from ldlab.program import Study

SAMPLE_RATIO_P = 0.001
BALANCE_P = 0.01
MISSING_P = 0.05
MISSING_GAP = 5.0  # percentage points between the arms
MISSING_MOST = 20.0  # percent without KPI overall
TAKE_UP_P = 0.05
LARGEST_DIFFERENCE = 0.25  # standard deviations


def missing_kpi(study: Study) -> Check:
    """Whether the KPI is missing too often, or more often in one arm.

    Failed when the shares without KPI differ between the arms by over 5 points and a test of equality has p < .05,
    or when over 20% have none. The test is chi-square of two proportions; in a panel, where the rows of one unit
    go together, it is Welch's t of the clusters' (or units') shares of rows without KPI. A count under the minimum
    group size is not shown, nor a share, a denominator or a power that would give it away.
    """
    missing, design = study.missing, study.program.design
    rows, without = missing["rows"].astype(float), missing["without KPI"].astype(float)
    share, overall = 100 * without / rows, 100 * without.sum() / rows.sum()
    by_unit = "sd of shares" in missing
    what = f"{design.unit}-{design.period}s" if study.program.is_panel else design.units
    gap = abs(share.get(1, 0.0) - share.get(0, 0.0)) if len(rows) > 1 else 0.0
    shown = all(can_be_shown(count, study) for count in without)
    differ, power = False, ""
    if len(rows) > 1 and without.sum():
        p, error = _clusters_missing(missing) if by_unit else _units_missing(rows, without)
        differ = bool(p < MISSING_P and gap > MISSING_GAP)
        seen = max(MISSING_GAP, (stats.norm.isf(MISSING_P / 2) + stats.norm.ppf(POWER)) * error)
        if shown and seen < 100 and (by_unit or not study.program.is_panel):
            power = (
                f"a gap of {seen:.0f} percentage points between the arms would have been seen 4 times in 5"
            )
    sentence = f"The KPI is missing for {_missing_by_arm(study, 'without KPI', what)}"
    if by_unit and missing["units without KPI"].sum():
        sentence += (
            f", altogether for {_missing_by_arm(study, 'units without KPI', design.units, of='units')}"
        )
    if differ:
        sentence += "; who is missing depends on training, and the estimate compares those who remain"
    elif overall > MISSING_MOST:
        sentence += "; those who remain may not stand for all"
    if missing["without covariates"].sum():
        sentence += f". Some covariate is missing for {_missing_by_arm(study, 'without covariates', what)}"
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


def sample_ratio(study: Study) -> Check | None:
    """Whether the arms have the planned sizes: chi-square test, failed at p < .001.

    All units assigned to one arm count, with or without a KPI; whole clusters where each lies in one arm. Exact
    (binomial) or simulated (several arms) where fewer than 5 are expected in an arm. The bound is that of Fabijan
    et al. (2019, KDD, 'Diagnosing sample ratio mismatch'), strict because a failure breaks the claim. None where
    nobody drew lots.
    """
    name = "sample ratio"
    if study.program.design.kind != "randomised":
        return None
    planned = planned_shares(study)
    if planned is None:
        field = "planned_shares" if study.program.design.treated_values else "planned_treated_share"
        reason = (
            "The program file does not say which share was meant to be trained, so the sizes of the arms cannot be "
            f"checked. Add design.{field}."
        )
        return not_run(name, reason, needed=True)
    clustered = assigned_by_cluster(study)
    counts = _assigned_counts(study, planned)
    total, shares = int(counts.sum()), np.array(list(planned.values()))
    what = f"{total:,} clusters" if clustered else study.program.design.units
    if not clustered and all(can_be_shown(count, study) for count in _not_in_frame(study)):
        what = f"{total:,} {what}"
    split = _split_in_words((counts / total).to_dict(), planned, what, study)
    return ratio_check(split, counts.to_numpy(), shares, study.program.analysis.seed)


def ratio_check(split: str, counts: np.ndarray, planned: np.ndarray, seed: int) -> Check:
    """Whether these counts have the planned shares; ``split`` tells both in words."""
    p = ratio_p(counts, planned, seed)
    failed = p < SAMPLE_RATIO_P
    verdict = (
        "chance does not explain it: assignment or the extract is broken. Look for a filter or a log that works in "
        "one arm only"
        if failed
        else "as chance allows"
    )
    return Check(
        name="sample ratio",
        status="failed" if failed else "passed",
        sentence=f"{split}: {verdict}.",
        statistic=p,
        statistic_name="p-value",
        threshold=SAMPLE_RATIO_P,
        power=ratio_power(planned, int(counts.sum())),
        needed=True,
        breaks=True,
    )


def _assigned_counts(study: Study, planned: Mapping[Hashable, float]) -> pd.Series:
    """Units, or clusters, assigned to each arm, in the order of the plan."""
    two = set(planned) == {0, 1}
    if two and study.assigned is None and not assigned_by_cluster(study):
        return study.missing["rows"].reindex([0, 1], fill_value=0)
    rows = drawn(study)[0]["arm" if two else "variant"]
    return rows.value_counts().reindex(list(planned), fill_value=0)


def _not_in_frame(study: Study) -> list[float]:
    """Counts that a total would give away by subtraction: units without a KPI, by arm, and those in two arms."""
    twice = 0.0 if study.assigned is None else float(study.assigned["two_arms"].sum())
    return [*study.missing["without KPI"], twice]


def ratio_p(counts: np.ndarray, shares: np.ndarray, seed: int) -> float:
    """p value of these counts under these shares: chi-square, or exact where counts are small."""
    if len(counts) == 2 and (shares * counts.sum()).min() < FEWEST_EXPECTED:
        return float(stats.binomtest(int(counts[1]), int(counts.sum()), float(shares[1])).pvalue)
    return cells_p(counts[None, :], shares, seed)


def ratio_power(shares: np.ndarray, total: int) -> str:
    """What a sample-ratio test could have seen."""
    if len(shares) > 2:
        spread = (shares * (1 - shares)).max() / total
        points = 100 * math.sqrt(chi2_noncentrality(len(shares) - 1, SAMPLE_RATIO_P) * spread)
        return f"a true share {points:.1f} percentage points off its plan would have been caught 4 times in 5"
    planned = float(shares[1])
    shift = (stats.norm.isf(SAMPLE_RATIO_P / 2) + stats.norm.ppf(POWER)) * math.sqrt(
        planned * (1 - planned) / total
    )
    low, high = max(0.0, planned - shift), min(1.0, planned + shift)
    return f"a true share below {low:.1%} or above {high:.1%} would have been caught 4 times in 5"


def _split_in_words(
    found: Mapping[Hashable, float], planned: Mapping[Hashable, float], what: str, study: Study
) -> str:
    if len(planned) == 2 and set(planned) == {0, 1}:
        return f"{found[1]:.1%} of {what} were assigned to training, {planned[1]:.1%} were planned"
    names = arm_names(study)
    told = ", ".join(f"{found[code]:.1%} {names[code]} (planned {planned[code]:.1%})" for code in planned)
    return f"{what[:1].upper()}{what[1:]} were assigned thus: {told}"


def balance(study: Study) -> Check:
    """Whether trained and comparison units were alike before training.

    Randomised: F test that the covariates together predict the arm, failed at p < .01. Under random assignment
    the arm's variance does not depend on the covariates, so the classical F is right; its R-squared times n - 1
    is the d-squared of Hansen & Bowers (2008, Statistical Science 23). With several arms it is Pillai's trace; where
    lots were drawn within strata, differences within strata are tested; where whole clusters were assigned, the
    clusters' means. Other designs: the largest standardised difference, failed over .25 standard
    deviations (Imbens & Rubin 2015, section 14.2). The grade presumes it only where arms were randomised: panels
    compare changes, and observational designs are weighted first (``observational.balance_after_weighting``), but
    need covariates for it.
    """
    name, kind = "balance", study.program.design.kind
    needed = kind == "randomised"
    if not study.covariates:
        reason = "No baseline covariates are named in the program file."
        return not_run(name, reason, needed=needed or kind == "observational")
    if not study.has_comparison:
        return not_run(name, "There is no comparison group.")
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
    if not study.covariates or not study.has_comparison:
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


def take_up(study: Study) -> Check | None:
    """Whether the offer moved who took part: failed unless the offered's share is above the others', p < .05.

    One-sided: Fisher's exact test of the units with a KPI; where each cluster lies in one arm, the
    Mann-Whitney test of the clusters' shares. Shares are not shown where fewer than the minimum group took
    part, or did not, in an arm. None unless the program file names both who was offered it and who took part.
    """
    columns = study.program.design.columns
    if columns.assignment is None or columns.treatment is None or not study.has_comparison:
        return None
    counts = pd.crosstab(study.frame["treated"], study.frame["arm"]).reindex(
        index=[1, 0], columns=[1, 0], fill_value=0
    )
    share = counts.loc[1] / counts.sum()
    clustered = assigned_by_cluster(study)
    p = _clusters_take_up_p(study) if clustered else stats.fisher_exact(counts, alternative="greater").pvalue
    failed = not (share[1] > share[0] and p < TAKE_UP_P)
    shown = all(can_be_shown(count, study) for count in counts.to_numpy().ravel())
    sentence = f"{_took_part(counts[1], study)} of those offered took part, "
    sentence += f"{_took_part(counts[0], study)} of those not offered"
    if failed:
        sentence += ": the offer did not clearly bring more people to take part"
    pooled = float(study.frame["treated"].mean())
    spread = math.sqrt(pooled * (1 - pooled) * (1 / counts.sum()).sum())
    seen = 100 * (stats.norm.isf(TAKE_UP_P) + stats.norm.ppf(POWER)) * spread
    return Check(
        name="take-up",
        status="failed" if failed else "passed",
        sentence=f"{sentence[0].upper()}{sentence[1:]}.",
        statistic=float(p) if shown else None,
        statistic_name="p-value",
        threshold=TAKE_UP_P,
        power=f"a difference of {seen:.0f} percentage points would have been seen 4 times in 5"
        if shown and not clustered
        else "",
        needed=True,
    )


def _units_missing(rows: pd.Series, without: pd.Series) -> tuple[float, float]:
    """p-value of equal shares, and the standard error of their difference in percentage points; rows independent."""
    p = stats.chi2_contingency(np.column_stack([without, rows - without]), correction=False).pvalue
    overall = 100 * without.sum() / rows.sum()
    return float(p), math.sqrt(overall * (100 - overall) * (1 / rows).sum())


def _clusters_missing(missing: pd.DataFrame) -> tuple[float, float]:
    """The same from the clusters' shares; p is 1 where an arm has one cluster, or nothing varies."""
    error = math.sqrt((missing["sd of shares"] ** 2 / missing["clusters"]).sum())
    if missing["clusters"].min() < 2 or error == 0:
        return 1.0, math.inf
    sides = [(missing[key][1], missing[key][0]) for key in ("mean share", "sd of shares", "clusters")]
    (m1, m0), (s1, s0), (n1, n0) = sides
    return float(stats.ttest_ind_from_stats(m1, s1, n1, m0, s0, n0, equal_var=False).pvalue), 100 * error


def _missing_by_arm(study: Study, column: str, what: str, *, of: str = "rows") -> str:
    """'14 of 200 trained (7%) and fewer than 10 comparison agents'; a small count has no denominator."""
    parts = []
    for arm, name in ((1, "trained"), (0, "comparison")):
        if arm in study.missing.index:
            rows, count = (int(study.missing[key][arm]) for key in (of, column))
            total = f" of {rows:,}" if can_be_shown(count, study) else ""
            share = f" ({count / rows:.0%})" if total and count else ""
            parts.append(f"{count_text(count, study)}{total} {name}{share}")
    return f"{' and '.join(parts)} {what}"


def _took_part(counts: pd.Series, study: Study) -> str:
    """The share of an arm that took part (1), or in words where those who did, or did not (0), are few."""
    minimum = study.program.analysis.minimum_group_size
    if not can_be_shown(counts[1], study):
        return f"fewer than {minimum}"
    if not can_be_shown(counts[0], study):
        return f"all but fewer than {minimum}"
    return f"{counts[1] / counts.sum():.0%}"


def _clusters_take_up_p(study: Study) -> float:
    by_cluster = study.frame.groupby("cluster")[["arm", "treated"]].mean()
    offered, others = (by_cluster.loc[by_cluster["arm"] == arm, "treated"] for arm in (1, 0))
    return float(stats.mannwhitneyu(offered, others, alternative="greater").pvalue)


def _first_rows(study: Study) -> pd.DataFrame:
    rows = study.frame
    return rows.sort_values("period").groupby("unit").head(1) if "period" in rows else rows


def _small_category(trained: pd.Series, comparison: pd.Series, study: Study) -> bool:
    counts = [(arm == value).sum() for arm in (trained, comparison) for value in (0, 1)]
    is_binary = all(arm.dropna().isin([0, 1]).all() for arm in (trained, comparison))
    return is_binary and not all(can_be_shown(count, study) for count in counts)


def _joint_balance(study: Study, name: str) -> Check:
    test = joint_test(study, study.frame)
    if test is None:
        what = "clusters" if assigned_by_cluster(study) else study.program.design.units
        reason = f"There are too few {what} with all covariates, or covariates that vary, to test it."
        return not_run(name, reason, needed=True)
    seen = math.sqrt(
        noncentrality(round(test.df[0]), test.df[1], BALANCE_P) / (test.rows * test.share * (1 - test.share))
    )
    failed = test.p < BALANCE_P
    verdict = (
        "more than chance explains: assignment was not random, or not kept" if failed else "as chance allows"
    )
    within = " within strata" if "stratum" in study.frame else ""
    return Check(
        name=name,
        status="failed" if failed else "passed",
        sentence=f"Recorded characteristics before training ({len(study.covariates)} of them, {test.rows:,} "
        f"{test.what}) differ between the groups{within} {verdict}.",
        statistic=test.p,
        statistic_name="p-value",
        threshold=BALANCE_P,
        power=f"a difference of {seen:.2f} standard deviations in one characteristic would have been seen 4 times "
        "in 5",
        needed=True,
    )
