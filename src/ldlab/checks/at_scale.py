"""Whether an experiment that was read as sums is intact: the same checks and bounds as on rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ldlab.checks.arms import (
    BALANCE_P,
    MISSING_GAP,
    MISSING_MOST,
    MISSING_P,
    ratio_check,
)
from ldlab.checks.assigned import STRAY, cells_p, chi2_noncentrality, more_than_stray, split_p
from ldlab.checks.experiment import BEFORE_P
from ldlab.checks.sample_ratios import LOOK_FOR, THIN, P
from ldlab.checks.shared import POWER, can_be_shown, count_text, noncentrality, not_run
from ldlab.estimate import Check
from ldlab.program.experiment_sums import Experiment, KpiSums

FLAT = 1e-9
SPANS = {"day": "D", "week": "W", "month": "M"}


def at_scale(experiment: Experiment) -> tuple[Check, ...]:
    """The checks that sums can answer, in the order in which a reader should meet them.

    Sample ratio (overall, by day of assignment, by segment), units in two arms, missing KPI by arm, KPI before known
    alike, joint balance, and whether the KPI varies in every arm; names and bounds are those of the checks on rows.
    What needs the rows (exposure before assignment, contamination, who lost the KPI) is in the notebook ``ab_test``.
    """
    ratios = [_sample_ratio(experiment), _by_day(experiment), _by_segment(experiment)]
    rest = [
        _two_arms(experiment),
        _missing(experiment),
        _before_known(experiment),
        _balance(experiment),
        _varies(experiment),
    ]
    return tuple(check for check in (*ratios, *rest) if check is not None)


def _planned(experiment: Experiment) -> np.ndarray | None:
    """Planned share of each arm, control first."""
    design = experiment.program.design
    if design.planned_treated_share is not None and len(experiment.arms) == 2:
        return np.array([1 - design.planned_treated_share, design.planned_treated_share])
    shares = {str(code): share for code, share in design.planned_shares.items()}
    if not all(code in shares for code in experiment.arms):
        return None
    return np.array([shares[code] for code in experiment.arms]) / sum(shares.values())


def _names(experiment: Experiment) -> list[str]:
    if len(experiment.arms) == 2:
        return ["comparison", "trained"]
    return ["comparison", *(f"arm {code}" for code in experiment.arms[1:])]


def _sample_ratio(experiment: Experiment) -> Check:
    name, planned, counts = "sample ratio", _planned(experiment), experiment.assigned
    if planned is None:
        field = "planned_shares" if experiment.program.design.treated_values else "planned_treated_share"
        reason = (
            "The program file does not say which share was meant to be trained, so the sizes of the arms cannot be "
            f"checked. Add design.{field}."
        )
        return not_run(name, reason, needed=True)
    total, units = int(counts.sum()), experiment.program.design.units
    hidden = [*experiment.primary.without, experiment.two_arms]
    what = (
        f"{total:,} {units}" if all(can_be_shown(count, _as_study(experiment)) for count in hidden) else units
    )
    found = counts / total
    split = f"{found[1]:.1%} of {what} were assigned to training, {planned[1]:.1%} were planned"
    if len(planned) > 2:
        told = (
            f"{x:.1%} {arm} (planned {plan:.1%})"
            for x, arm, plan in zip(found, _names(experiment), planned, strict=True)
        )
        split = f"{what[:1].upper()}{what[1:]} were assigned thus: {', '.join(told)}"
    return ratio_check(split, counts, planned, experiment.program.analysis.seed)


def _by_day(experiment: Experiment) -> Check | None:
    if experiment.by_day is None:
        return None
    days = experiment.by_day
    known = days.drop(index="not recorded", errors="ignore")
    at = pd.PeriodIndex(known.index, freq="D")
    tables = {what: known.groupby(at.asfreq(span).astype(str)).sum() for what, span in SPANS.items()}
    what = next((what for what, table in tables.items() if table.sum(axis=1).median() >= THIN), "month")
    table = tables[what]
    table = pd.concat([table, days.loc[days.index == "not recorded"]])
    return _cells(experiment, table, f"sample ratio by {what} of assignment", "day", f"{what}s of assignment")


def _by_segment(experiment: Experiment) -> Check | None:
    if experiment.by_segment is None:
        return None
    return _cells(experiment, experiment.by_segment, "sample ratio by segment", "segment", "segments")


def _cells(experiment: Experiment, table: pd.DataFrame, name: str, kind: str, groups: str) -> Check | None:
    """Joint chi-square test of the arms' shares over cells, against the plan or, without one, against each other."""
    if len(table) < 2:
        return None
    counts, planned = table.to_numpy(), _planned(experiment)
    p = split_p(counts, planned, experiment.program.analysis.seed)
    failed, against = p < P, "from the plan" if planned is not None else "from each other"
    sentence = f"Over {len(table)} {groups} the split between the arms differs {against} as chance allows."
    share = counts.sum(axis=0) / counts.sum() if planned is None else planned
    if failed:
        far = _farthest(experiment, table, share, "all together" if planned is None else "planned")
        sentence = (
            f"Over {len(table)} {groups} the split between the arms differs {against} more than chance explains{far}. "
            f"{LOOK_FOR[kind]}."
        )
    cells, arms = counts.shape
    typical = float(np.median(counts.sum(axis=1)))
    df = (arms - 1) * (cells if planned is not None else cells - 1)
    points = 100 * math.sqrt(chi2_noncentrality(df, P) * (share * (1 - share)).max() / typical)
    shown = points < 100 and typical >= experiment.program.analysis.minimum_group_size
    return Check(
        name=name,
        status="failed" if failed else "passed",
        sentence=sentence,
        statistic=p,
        statistic_name="p-value",
        threshold=P,
        power=f"a share {points:.1f} percentage points off in one of typical size would have been caught 4 times in 5"
        if shown
        else "",
        breaks=True,
    )


def _farthest(experiment: Experiment, table: pd.DataFrame, share: np.ndarray, word: str) -> str:
    counts = table.to_numpy()
    totals = counts.sum(axis=1, keepdims=True)
    off = np.abs(counts - totals * share) / np.sqrt(np.maximum(totals * share * (1 - share), 1e-300))
    row, column = divmod(int(off.argmax()), off.shape[1])
    if not all(can_be_shown(count, _as_study(experiment)) for count in counts[row]):
        return "; the one farthest off is too small to be named"
    found = counts[row, column] / totals[row, 0]
    return f"; farthest off is {table.index[row]}, with {found:.1%} {_names(experiment)[column]} ({word} {share[column]:.1%})"


def _two_arms(experiment: Experiment) -> Check:
    design, twice = experiment.program.design, experiment.two_arms
    total = int(experiment.assigned.sum()) + twice
    failed = more_than_stray(twice, total)
    sentence = f"No {design.unit} was found in two arms."
    if twice:
        sentence = (
            f"{count_text(twice, _as_study(experiment))} {design.units} were found in two arms and left out"
        )
        sentence += (
            "; those who remain may differ between the arms. Look for people who were assigned again after a change of "
            "team, device or account, and for the arm that their first assignment gave."
            if failed
            else "."
        )
    return Check(
        name="people in two arms",
        status="failed" if failed else "passed",
        sentence=sentence[0].upper() + sentence[1:],
        statistic=100 * twice / total if can_be_shown(twice, _as_study(experiment)) else None,
        statistic_name="percent in two arms",
        threshold=100 * STRAY,
        power="every unit was looked at; it cannot see people who have two ids",
        breaks=True,
    )


def _shares(experiment: Experiment, counts: np.ndarray, totals: np.ndarray) -> str:
    """'14 of 200 (7%) comparison, fewer than 10 trained'; a small count has no denominator."""
    parts = []
    for count, total, name in zip(counts.tolist(), totals.tolist(), _names(experiment), strict=True):
        shown = can_be_shown(count, _as_study(experiment))
        of = f" of {total:,} ({count / total:.1%})" if shown and count else ""
        parts.append(f"{count_text(count, _as_study(experiment))}{of} {name}")
    return ", ".join(parts)


def _missing(experiment: Experiment) -> Check:
    """As :func:`ldlab.checks.missing_kpi`: over 5 points between two arms with p < .05, or over 20% overall."""
    without, rows, units = experiment.primary.without, experiment.assigned, experiment.program.design.units
    share, overall = 100 * without / rows, 100 * without.sum() / rows.sum()
    gap = float(share.max() - share.min())
    shown = all(can_be_shown(count, _as_study(experiment)) for count in without)
    p = (
        float(stats.chi2_contingency(np.column_stack([without, rows - without]), correction=False).pvalue)
        if without.any()
        else 1.0
    )
    differ = p < MISSING_P and gap > MISSING_GAP
    sentence = f"The KPI is missing for {_shares(experiment, without, rows)} {units}"
    if differ:
        sentence += "; who is missing depends on training, and the estimate compares those who remain"
    elif overall > MISSING_MOST:
        sentence += "; those who remain may not stand for all"
    power = ""
    if without.any() and shown:
        error = math.sqrt(overall * (100 - overall) * (1 / np.sort(rows)[:2]).sum())
        seen = max(MISSING_GAP, (stats.norm.isf(MISSING_P / 2) + stats.norm.ppf(POWER)) * error)
        power = f"a gap of {seen:.0f} percentage points between the arms would have been seen 4 times in 5"
    return Check(
        name="missing KPI",
        status="failed" if differ or overall > MISSING_MOST else "passed",
        sentence=f"{sentence}.",
        statistic=round(gap, 1) if shown else None,
        statistic_name="difference between the arms in percentage points",
        threshold=MISSING_GAP,
        power=power,
        needed=True,
    )


def _before_known(experiment: Experiment) -> Check | None:
    kpi = experiment.primary
    if kpi.program.kpi.before_column is None:
        return None
    label, missing = kpi.program.kpi.label, kpi.without_before
    seen = np.array([kpi.of([place]).n for place in range(len(experiment.arms))])
    varies = missing.any() and (missing < seen).any()
    p = (
        cells_p(np.column_stack([missing, seen - missing]), None, kpi.program.analysis.seed)
        if varies
        else 1.0
    )
    units = kpi.program.design.units
    sentence = f"{label} before assignment is known for all {units} with a KPI"
    if missing.any():
        sentence = f"{label} before assignment is missing for {_shares(experiment, missing, seen)} {units}"
    failed = p < BEFORE_P
    if failed:
        sentence += (
            ". Before the lot nothing can differ by arm: look for a value that was recorded, or joined to the table, "
            "after the program had begun"
        )
    return Check(
        name="KPI before known alike",
        status="failed" if failed else "passed",
        sentence=f"{sentence[0].upper()}{sentence[1:]}.",
        statistic=p if all(can_be_shown(count, _as_study(experiment)) for count in missing) else None,
        statistic_name="p-value",
        threshold=BEFORE_P,
        breaks=True,
    )


def joint_test(kpi: KpiSums, arms: int) -> tuple[float, tuple[float, float], int] | None:
    """p, degrees of freedom and rows of Pillai's trace, in its F form, that the covariates do not tell the arms apart.

    With two arms the classical F test of the regression of the arm on the covariates (Hansen & Bowers 2008); the numbers are
    those of the same test on rows. None without covariates that vary.
    """
    each = [kpi.of([place], complete=True) for place in range(arms)]
    everyone = kpi.of(range(arms), complete=True)
    first = len(kpi.columns) - len(kpi.covariates)
    total = everyone.about[first:, first:]
    scale = np.sqrt(np.diag(total)) if len(total) else np.zeros(0)
    varies = scale > FLAT * np.sqrt(everyone.n) * np.maximum(np.abs(everyone.mean[first:]), 1e-300)
    if not varies.any() or min(arm.n for arm in each) == 0:
        return None
    total = (
        (total / np.outer(scale, scale))[np.ix_(varies, varies)]
        if varies.all()
        else (total[np.ix_(varies, varies)] / np.outer(scale[varies], scale[varies]))
    )
    between = np.zeros_like(total)
    for arm in each:
        away = (arm.mean[first:] - everyone.mean[first:])[varies] / scale[varies]
        between += arm.n * np.outer(away, away)
    rank, responses = int(np.linalg.matrix_rank(total)), arms - 1
    trace = float(np.trace(np.linalg.pinv(total) @ between))
    left = everyone.n - 1 - responses
    s, m, n = min(rank, responses), (abs(rank - responses) - 1) / 2, (left - rank - 1) / 2
    df = (s * (2 * m + s + 1), s * (2 * n + s + 1))
    if df[1] <= 0:
        return None
    p = float(stats.f.sf(trace / df[0] / ((s - trace) / df[1]), *df)) if s - trace > 1e-12 else 0.0
    return p, df, everyone.n


def _balance(experiment: Experiment) -> Check:
    kpi, name = experiment.primary, "balance"
    if not kpi.covariates:
        return not_run(name, "No baseline covariates are named in the program file.", needed=True)
    test, units = joint_test(kpi, len(experiment.arms)), experiment.program.design.units
    if test is None:
        reason = f"There are too few {units} with all covariates, or covariates that vary, to test it."
        return not_run(name, reason, needed=True)
    p, df, rows = test
    sizes = np.array([kpi.of([place], complete=True).n for place in range(len(experiment.arms))])
    share = float(sizes.min() / sizes.sum())
    seen = math.sqrt(noncentrality(round(df[0]), df[1], BALANCE_P) / (rows * share * (1 - share)))
    failed = p < BALANCE_P
    verdict = (
        "more than chance explains: assignment was not random, or not kept" if failed else "as chance allows"
    )
    return Check(
        name=name,
        status="failed" if failed else "passed",
        sentence=f"Recorded characteristics before training ({len(kpi.covariates)} of them, {rows:,} {units}) differ between "
        f"the groups {verdict}.",
        statistic=p,
        statistic_name="p-value",
        threshold=BALANCE_P,
        power=f"a difference of {seen:.2g} standard deviations in one characteristic would have been seen 4 times in 5",
        needed=True,
    )


def _varies(experiment: Experiment) -> Check:
    kpi = experiment.primary
    flat = [
        name
        for place, name in enumerate(_names(experiment))
        if not (np.diag(kpi.of([place]).about)[: 2 if kpi.is_rate else 1] > 0).any()
    ]
    label = kpi.program.kpi.label
    sentence = f"{label} varies in every arm."
    if flat:
        sentence = (
            f"{label} is the same for everybody in the {flat[0]} group. Look for a KPI that was recorded only in the other "
            "arm, and for missing values that were written as 0."
        )
    return Check(
        name="KPI varies in every arm",
        status="failed" if flat else "passed",
        sentence=sentence[0].upper() + sentence[1:],
        breaks=True,
    )


def _as_study(experiment: Experiment) -> Any:
    """What the shared wording reads of a study, its program, is there."""
    return experiment
