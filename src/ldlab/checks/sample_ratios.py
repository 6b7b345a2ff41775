"""Whether the arms keep their planned sizes in every segment, stratum and day of assignment."""

from __future__ import annotations

import math
from collections.abc import Hashable

import numpy as np
import pandas as pd

from ldlab.checks.assigned import (
    arm_column,
    arm_names,
    chi2_noncentrality,
    counted,
    drawn,
    planned_shares,
    split_p,
)
from ldlab.checks.shared import assigned_by_cluster, can_be_shown, not_run
from ldlab.estimate import Check
from ldlab.program import Study

P = 0.001
THIN = 50  # units (or clusters) in the median cell
LOOK_FOR = {
    "segment": "Look for a filter or a log that works in one arm only",
    "stratum": "Where the shares were meant to differ between strata this is no fault; else look at how lots were drawn",
    "day": "Look for an arm whose log began later or stopped earlier, or a share that was changed on the way",
}


def sample_ratio_by_segment(study: Study) -> Check | None:
    """Whether the arms have the planned shares in every agreed segment; see :func:`sample_ratio_by_day`.

    None where no segment is named, or nobody drew lots.
    """
    if study.program.design.kind != "randomised" or "segment" not in study.frame:
        return None
    return _by(study, "sample ratio by segment", "segment", drawn(study)[0]["segment"], "segments")


def sample_ratio_by_stratum(study: Study) -> Check | None:
    """Whether the arms have the same shares in every stratum; a failure does not break the claim.

    Lots may have been drawn with shares of their own in each stratum, and the program file does not say which.
    None where no stratum is named, or strata are as small as pairs: under 50 units in the median one.
    """
    if study.program.design.kind != "randomised" or "stratum" not in study.frame:
        return None
    stratum = drawn(study)[0]["stratum"]
    if stratum.value_counts().median() < THIN:
        return None
    return _by(study, "sample ratio by stratum", "stratum", stratum, "strata", breaks=False)


def sample_ratio_by_day(study: Study) -> Check | None:
    """Whether the arms have the planned shares on every day of assignment: failed at p < .001.

    Two tests count for one: chi-square of all days together, and the exact test of the day farthest off.

    Weeks, or months, where the median day has under 50 units; units without a date are a cell of their own. Where
    no share is planned, days are held against each other. Where whole clusters were assigned, clusters count. The
    bound is that of Fabijan et al. (2019, KDD). None without dates, or with all on one day.
    """
    if study.program.design.kind != "randomised" or "assigned_on" not in study.frame:
        return None
    when, what = _spans(drawn(study)[0]["assigned_on"])
    return _by(study, f"sample ratio by {what} of assignment", "day", when, f"{what}s of assignment")


def _spans(times: pd.Series) -> tuple[pd.Series, str]:
    """Each time's day, or week or month where days are thin, as text; and which."""
    fine = [(name, times.dt.to_period(name[0].upper())) for name in ("day", "week", "month")]
    what, spans = next((pair for pair in fine if pair[1].value_counts().median() >= THIN), fine[-1])
    starts = spans.dt.start_time.dt.strftime("%Y-%m-%d")
    return (starts if what == "day" else f"{what} of " + starts).fillna("no date"), what


def _shares_differ_between_strata(study: Study) -> bool:
    found = sample_ratio_by_stratum(study)
    return found is not None and found.status == "failed"


def _by(
    study: Study, name: str, kind: str, group: pd.Series, groups: str, *, breaks: bool = True
) -> Check | None:
    rows, what = drawn(study)
    if group.nunique() < 2:
        return None
    if what == "clusters" and not _lies_within(study, kind):
        reason = (
            f"Whole clusters were assigned, and {groups} cut across them, so that their shares are no lots."
        )
        return not_run(name, reason)
    if kind != "stratum" and _shares_differ_between_strata(study):
        reason = (
            "The shares of the arms differ between strata, perhaps on purpose, and there is no one plan for"
        )
        return not_run(name, f"{reason} {groups}.")
    names, planned = arm_names(study), planned_shares(study)
    by = "arm" if planned is not None and set(planned) == {0, 1} else arm_column(study)
    names = names if by == arm_column(study) else {0: "comparison", 1: "trained"}
    counts = counted(group, rows[by], names)
    shares = None if planned is None or kind == "stratum" else np.array([planned[code] for code in names])
    p = split_p(counts.to_numpy(), shares, study.program.analysis.seed)
    failed = p < P
    against = "differs from the plan" if shares is not None else "varies"
    sentence = f"Over {len(counts)} {groups} the split between the arms {against} as chance allows."
    if failed:
        sentence = (
            f"Over {len(counts)} {groups} the split between the arms {against} more than chance explains"
            f"{_farthest(counts, shares, names, study, what)}. {LOOK_FOR[kind]}."
        )
    return Check(
        name=name,
        status="failed" if failed else "passed",
        sentence=sentence,
        statistic=p,
        statistic_name="p-value",
        threshold=P,
        power=_power(counts, shares, study, what),
        breaks=breaks,
    )


def _lies_within(study: Study, kind: str) -> bool:
    column = {"day": "assigned_on"}.get(kind, kind)
    rows = study.frame if study.assigned is None else study.assigned
    return assigned_by_cluster(study) and bool(rows.groupby("cluster")[column].nunique().max() == 1)


def _farthest(
    counts: pd.DataFrame, shares: np.ndarray | None, names: dict[Hashable, str], study: Study, what: str
) -> str:
    """Which cell is farthest off, and how, where its groups are large enough to be shown."""
    expected_share = counts.sum().to_numpy() / counts.to_numpy().sum() if shares is None else shares
    totals = counts.sum(axis=1).to_numpy()[:, None]
    spread = np.sqrt(totals * expected_share * (1 - expected_share))
    off = np.abs(counts.to_numpy() - totals * expected_share) / spread
    row, column = divmod(int(off.argmax()), off.shape[1])
    if what != "clusters" and not all(can_be_shown(count, study) for count in counts.iloc[row]):
        return "; the one farthest off is too small to be named"
    share = counts.iloc[row, column] / totals[row, 0]
    arm = list(names.values())[column]
    word = "all together" if shares is None else "planned"
    return (
        f"; farthest off is {counts.index[row]}, with {share:.1%} {arm} ({word} {expected_share[column]:.1%})"
    )


def _power(counts: pd.DataFrame, shares: np.ndarray | None, study: Study, what: str) -> str:
    cells, arms = counts.shape
    df = (arms - 1) * (cells if shares is not None else cells - 1)
    typical = float(counts.sum(axis=1).median())
    share = counts.sum().to_numpy() / counts.to_numpy().sum() if shares is None else shares
    points = 100 * math.sqrt(chi2_noncentrality(df, P) * (share * (1 - share)).max() / typical)
    if points >= 100 or (what != "clusters" and typical < study.program.analysis.minimum_group_size):
        return ""
    return f"a share {points:.0f} percentage points off in one of typical size would have been caught 4 times in 5"
