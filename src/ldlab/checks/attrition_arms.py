"""Whether who lost a KPI depends on the arm: in how many, and in whom."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ldlab.checks.assigned import arm_column, in_one_arm, shares_differ_p, shares_in_words
from ldlab.checks.joint_balance import joint_test
from ldlab.checks.shared import can_be_shown
from ldlab.estimate import Check
from ldlab.program import Study

P = 0.01
GAP = 5.0  # percentage points
SHIFT = 0.02  # standard deviations


def attrition_by_arm(study: Study) -> Check | None:
    """Whether who has no KPI depends on the arm, in rate or in kind; both at p < .01, and large enough to matter.

    In rate: chi-square of the shares without a KPI (Kruskal-Wallis of the clusters' shares where whole clusters were
    assigned), and over 5 points between two arms. In kind: under lots that changed nobody's staying, the lost are
    spread over the arms by lot; so their baseline covariates are tested as for balance, among the lost alone. It
    counts where the difference, times the share lost, shifts a covariate among those who remain by over 0.02 standard
    deviations. ``ldlab.ab.lee_bounds`` then gives the effects that remain possible. None where nobody drew lots.
    """
    name, rows = "attrition by arm", in_one_arm(study)
    if study.program.design.kind != "randomised" or study.assigned is None:
        return None
    lost, code = rows["outcome"].isna(), arm_column(study)
    by_arm = lost.groupby(rows[code]).agg(["sum", "size"])
    share = by_arm["sum"] / by_arm["size"]
    gap = 100 * float(share.max() - share.min())
    p_rate = shares_differ_p(lost, rows, study)
    in_rate = p_rate < P and gap > GAP
    enough = bool((by_arm["sum"] >= study.program.analysis.minimum_group_size).all())
    test = joint_test(study, rows[lost]) if enough and study.covariates else None
    in_kind = test is not None and test.p < P and _shift(rows, lost, study) > SHIFT
    shown = all(can_be_shown(count, study) for count in by_arm["sum"])
    p = min(p_rate, 1.0 if test is None else test.p)
    return Check(
        name=name,
        status="failed" if in_rate or in_kind else "passed",
        sentence=_sentence(study, rows, lost, in_rate, in_kind),
        statistic=p if shown else None,
        statistic_name="smaller p-value of rate and kind",
        threshold=P,
        power=_power(study, lost, test is not None),
        breaks=True,
    )


def _shift(rows: pd.DataFrame, lost: pd.Series, study: Study) -> float:
    """The largest shift between arms, in standard deviations, that the lost leave behind in some covariate."""
    names = list(study.covariates)
    spread = rows[names].std()
    means = rows.loc[lost].groupby(arm_column(study))[names].mean()
    gaps = (means.max() - means.min()) / spread.where(spread > 0, np.inf)
    return float(gaps.max() * lost.mean())


def _sentence(study: Study, rows: pd.DataFrame, lost: pd.Series, in_rate: bool, in_kind: bool) -> str:
    if not lost.any():
        return f"Nobody was lost: all {study.program.design.units} have a KPI."
    sentence = f"No KPI for {shares_in_words(lost, rows, study)}"
    look = "Look at why they left (exits, transfers, unanswered surveys), and read the bounds for attrition"
    if in_rate:
        return f"{sentence}: who is lost depends on the program, and those who remain are no longer alike. {look}."
    if in_kind:
        return f"{sentence}, and the lost of one arm are other people than those of the other. {look}."
    return f"{sentence}: neither how many nor who was lost clearly depends on the arm."


def _power(study: Study, lost: pd.Series, in_kind: bool) -> str:
    if not lost.any():
        return "every unit was looked at"
    said = f"a gap of less than {GAP:g} percentage points between the arms is let pass"
    if not in_kind:
        said += (
            "; whether other people were lost could not be tested: too few lost, or no baseline covariates"
        )
    return f"{said}. It cannot see differences in what was not recorded"
