"""Who was assigned to which arm, what was planned, and tests of counts and shares between arms."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from functools import cache

import numpy as np
import pandas as pd
from scipy import optimize, stats

from ldlab.checks.shared import POWER, assigned_by_cluster, can_be_shown
from ldlab.program import Study

FEWEST_EXPECTED = 5
RESAMPLES = 9_999
STRAY = 0.001


def in_one_arm(study: Study) -> pd.DataFrame:
    """All assigned units that were found in one arm, with or without a KPI; those with a KPI where no more is known."""
    if study.assigned is None:
        return study.frame
    return study.assigned[study.assigned["two_arms"] == 0]


def arm_column(study: Study) -> str:
    """The column of the frame that tells the arms apart."""
    return "variant" if "variant" in study.frame else "arm"


def arm_names(study: Study) -> dict[Hashable, str]:
    """What the arms that are there are called, control first: 'comparison' and 'trained', or 'arm A'."""
    if arm_column(study) == "arm":
        return {0: "comparison", 1: "trained"}
    design, there = study.program.design, set(study.frame["variant"])
    names: dict[Hashable, str] = {str(design.control_value): "comparison"}
    return names | {str(code): f"arm {code}" for code in design.treated_values if str(code) in there}


def planned_shares(study: Study) -> dict[Hashable, float] | None:
    """The planned share of each arm that is there, adding up to 1; None where the program file names none."""
    design = study.program.design
    if design.planned_treated_share is not None:
        return {0: 1 - design.planned_treated_share, 1: design.planned_treated_share}
    shares = {code: design.planned_shares[str(code)] for code in arm_names(study) if design.planned_shares}
    total = sum(shares.values())
    return {code: share / total for code, share in shares.items()} or None


def drawn(study: Study) -> tuple[pd.DataFrame, str]:
    """One row for each unit for which lots were drawn, or for each cluster; and what these are called."""
    rows = in_one_arm(study)
    if assigned_by_cluster(study):
        return rows.drop_duplicates("cluster"), "clusters"
    return rows, study.program.design.units


def counted(group: pd.Series, arm: pd.Series, codes: Iterable[Hashable]) -> pd.DataFrame:
    """Rows of each group (index, sorted) in each arm (columns, in the order of ``codes``)."""
    names = list(codes)
    row, groups = pd.factorize(group, sort=True)
    column = pd.Index(names).get_indexer(pd.Index(arm))
    counts = np.bincount(row * len(names) + column, minlength=len(groups) * len(names))
    return pd.DataFrame(counts.reshape(-1, len(names)), index=groups, columns=names)


def more_than_stray(count: float, total: float) -> bool:
    """Whether units that broke the protocol are more than one, and more than 0.1%."""
    return count > 1 and count > STRAY * total


def share_text(count: float, total: float, study: Study) -> str:
    """A share of units as a percentage; in words where it would give a small group away."""
    minimum = study.program.analysis.minimum_group_size
    if not can_be_shown(count, study):
        return f"fewer than {minimum}"
    if not can_be_shown(total - count, study):
        return f"all but fewer than {minimum}"
    return "none" if count == 0 else f"{count / total:.1%}" if total > count else "all"


def shares_in_words(flag: pd.Series, rows: pd.DataFrame, study: Study) -> str:
    """'3.1% of the comparison, 4.0% of the trained agents'."""
    by_arm = flag.groupby(rows[arm_column(study)])
    count, size = by_arm.sum().to_dict(), by_arm.size().to_dict()
    told = [
        f"{share_text(count[arm], size[arm], study)} of {the(name)}"
        for arm, name in arm_names(study).items()
        if arm in size
    ]
    return f"{', '.join(told)} {study.program.design.units}"


def the(arm: str) -> str:
    """'the comparison', but 'arm A'."""
    return arm if arm.startswith("arm ") else f"the {arm}"


def opened(text: str) -> str:
    """A text that begins a sentence."""
    return text[:1].upper() + text[1:]


def cells_p(counts: np.ndarray, shares: np.ndarray | None, seed: int) -> float:
    """Chi-square p-value of counts, (cells, arms), against planned shares or, without them, against equal ones.

    By simulation, 9,999 times, where fewer than 5 are expected in some cell.
    """
    rng = np.random.default_rng(seed)
    if shares is None:
        expected = stats.contingency.expected_freq(counts)
        method = None if expected.min() >= FEWEST_EXPECTED else stats.MonteCarloMethod(RESAMPLES, rng=rng)
        return float(stats.chi2_contingency(counts, correction=False, method=method).pvalue)
    totals = counts.sum(axis=1)
    expected = totals[:, None] * shares
    statistic = float(((counts - expected) ** 2 / expected).sum())
    if expected.min() >= FEWEST_EXPECTED:
        return float(stats.chi2.sf(statistic, counts.shape[0] * (counts.shape[1] - 1)))
    made = rng.multinomial(totals, shares, size=(RESAMPLES, len(totals)))
    simulated = ((made - expected) ** 2 / expected).sum(axis=(1, 2))
    return float((1 + (simulated >= statistic * (1 - 1e-12)).sum()) / (RESAMPLES + 1))


def split_p(counts: np.ndarray, shares: np.ndarray | None, seed: int) -> float:
    """p-value that all cells, (cells, arms), have one split: the smaller of two, doubled.

    The chi-square test of all cells together sees many that are a little off, and the exact test (binomial, or
    hypergeometric without planned shares) of the cell farthest off, times their number, sees one day that was lost
    among sixty.
    """
    joint = cells_p(counts, shares, seed)
    arms = counts if counts.shape[1] > 2 else counts[:, :1]
    totals, columns = counts.sum(axis=1, keepdims=True), range(arms.shape[1])
    if shares is None:
        law = stats.hypergeom(counts.sum(), counts.sum(axis=0)[list(columns)], totals)
    else:
        law = stats.binom(totals, shares[list(columns)])
    alone = 2 * np.minimum(law.cdf(arms), law.sf(arms - 1)).min() * arms.size
    return float(min(1.0, 2 * min(joint, alone)))


@cache
def chi2_noncentrality(df: int, p: float) -> float:
    """The noncentrality at which a chi-square test at level ``p`` rejects 4 times in 5."""
    bound = stats.chi2.isf(p, df)
    return float(
        optimize.brentq(lambda size: stats.ncx2.sf(bound, df, size) - POWER, 1e-6, 100.0 + 10 * bound)
    )


def shares_differ_p(flag: pd.Series, rows: pd.DataFrame, study: Study) -> float:
    """p-value that a share is the same in all arms: chi-square of units, Kruskal-Wallis of the clusters' shares."""
    if not flag.any() or flag.all():
        return 1.0
    arm = rows[arm_column(study)]
    if not assigned_by_cluster(study):
        return cells_p(counted(flag, arm, arm.unique()).to_numpy(), None, study.program.analysis.seed)
    by_cluster = flag.astype(float).groupby(rows["cluster"]).mean()
    arm_of = arm.groupby(rows["cluster"]).first()
    sides = [by_cluster[arm_of == code].to_numpy() for code in arm_of.unique()]
    if by_cluster.nunique() < 2 or min(map(len, sides)) < 2:
        return 1.0
    return float(stats.kruskal(*sides).pvalue)
