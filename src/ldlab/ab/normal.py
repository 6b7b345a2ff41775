"""Whether a t interval can be trusted where the KPI is skewed: skewness of the estimate, and a bootstrap-t interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from ldlab.ab.means import need_cross_section
from ldlab.ab.ratio import linearised
from ldlab.estimate import Check, Noun, Printed, format_number
from ldlab.program import Study

Floats = NDArray[np.float64]

LARGEST_SKEWNESS = 1 / math.sqrt(
    355
)  # of the estimate; n > 355 s^2 for one mean (Kohavi et al. 2014, KDD, rule 7)
LARGEST_SHIFT = 0.1  # of the interval's width, that a bootstrap-t bound may lie off the t bound
DRAWS = 1_999
CHUNK = 4_000_000  # numbers drawn at once
MOST_GROUPS = 50_000
FEWEST_GROUPS = 10  # clusters in an arm, from which drawing them anew says something
ALIKE = "everyone in an arm has the same value"


class Tails(Printed, Noun):
    """How heavy the KPI's tails are, and what they do to the t interval of the difference in means.

    Attributes
    ----------
    skewness
        Of the estimate (0: symmetric), not of the KPI.
    top, top_units, variance_share
        The share of units, in percent, farthest from their arm's mean, how many they are, and the percent of the
        variance within arms that they hold.
    low, high
        The t interval of the plain difference in means, clustered where the program names clusters.
    boot_low, boot_high
        The bootstrap-t interval; None where it was not run.
    reason
        Why it was not run.
    """

    skewness: float
    top: float
    top_units: int
    variance_share: float
    low: float
    high: float
    boot_low: float | None = None
    boot_high: float | None = None
    level: float
    reason: str = ""

    @property
    def shift(self) -> float | None:
        """Largest distance of a bootstrap-t bound from its t bound, over the t interval's width."""
        if self.boot_low is None or self.boot_high is None:
            return None
        return max(abs(self.boot_low - self.low), abs(self.boot_high - self.high)) / (self.high - self.low)

    @property
    def agree_about_zero(self) -> bool:
        """Whether both intervals say the same of zero."""
        if self.boot_low is None or self.boot_high is None:
            return True
        t, boot = (
            (low > 0) - (high < 0) for low, high in ((self.low, self.high), (self.boot_low, self.boot_high))
        )
        return t == boot

    def _rows(self) -> list[tuple[str, str]]:
        digits = max(0, 2 - math.floor(math.log10(self.high - self.low)))
        t, boot = (
            "not run" if low is None or high is None
            else f"{format_number(low, digits, sign=True)} to {format_number(high, digits, sign=True)}"
            for low, high in ((self.low, self.high), (self.boot_low, self.boot_high))
        )  # fmt: skip
        return [
            (
                f"the {self.top:.2g}% farthest from their arm's mean",
                f"hold {self.variance_share:.0f}% of the variance",
            ),
            ("skewness of the estimate", f"{format_number(self.skewness, 3)} (bound {LARGEST_SKEWNESS:.3f})"),
            ("t interval without covariates", t),
            ("bootstrap-t interval", f"{boot}{': ' if self.reason else ''}{self.reason}"),
        ]


def tails(study: Study) -> Tails | None:
    """Heavy-tail diagnostics of the plain difference in means (of the rates, for a rate).

    The bootstrap-t (Efron & Tibshirani 1993, chapter 12) draws units, or whole clusters, anew within each arm
    (deviations from the stratum's mean, where there are strata; the strata's own differences, where some have a single
    unit or cluster in an arm, as in matched pairs), 1,999 times, seeded by ``analysis.seed``. Unlike the t
    interval it follows the skewness that the sample shows; extreme values that the sample happens to lack no bootstrap can
    make up for. Raw values count where the KPI is not winsorised, else the clipped ones, as they lead.

    Returns
    -------
    Tails or None
        None for binary and ordinal KPIs, whose values are bounded, and where an arm has fewer than the minimum
        group of units or ten clusters.

    Raises
    ------
    LdlabError
        If the study is a panel.
    """
    need_cross_section(study)
    kpi, rows = study.program.kpi, study.frame
    sizes = rows.groupby("arm").size().reindex([0, 1], fill_value=0)
    if kpi.value_type in ("binary", "ordinal") or sizes.min() < study.program.analysis.minimum_group_size:
        return None
    if kpi.value_type == "rate" and study.program.design.kind == "randomised":
        rows = linearised(study).frame
    arms = _differences(rows) if _single(rows) else _arms(_without_strata(rows))
    if min(len(arm.sums) for arm in arms) < FEWEST_GROUPS or all(arm.variance == 0 for arm in arms):
        return None
    return _measured(study, arms, rows)


def normal_approximation(study: Study) -> Check | None:
    """Whether the t interval of the plain difference in means can be trusted in spite of skewness.

    Passed where the estimate's skewness is at most 1/sqrt(355) (for one mean: n > 355 s^2, Kohavi, Deng, Longbotham
    & Xu 2014, KDD, rule 7, after Boos & Hughes-Oliver 2000, The American Statistician 54), or where the
    bootstrap-t bounds lie within a tenth of the interval's width of the t bounds and say the same of zero. None as
    :func:`tails`.
    """
    found = tails(study)
    return None if found is None else _check(study, found)


@dataclass(frozen=True)
class Arm:
    """One arm's values summed by cluster (or alone): (groups,) sums and units."""

    sums: Floats
    units: Floats

    @property
    def mean(self) -> float:
        """Mean of the units."""
        return float(self.sums.sum() / self.units.sum())

    @property
    def influence(self) -> Floats:
        """(groups,) what each group adds to the error of the mean."""
        return (self.sums - self.mean * self.units) / float(self.units.sum())

    @property
    def variance(self) -> float:
        """Of the mean: s^2 / n without clusters, the clustered (linearised) one with."""
        groups = len(self.sums)
        return float((self.influence**2).sum()) * groups / (groups - 1)

    @property
    def third(self) -> float:
        """Third central moment of the mean."""
        return float((self.influence**3).sum())

    def drawn(self, draws: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """(draws,) means and their variances, of groups drawn with replacement."""
        groups = len(self.sums)
        which = rng.integers(groups, size=(draws, groups))
        sums, units = self.sums[which], self.units[which]
        total = units.sum(axis=1)
        mean = sums.sum(axis=1) / total
        off = (sums - mean[:, None] * units) / total[:, None]
        return mean, (off**2).sum(axis=1) * groups / (groups - 1)


def _arms(rows: pd.DataFrame) -> tuple[Arm, Arm]:
    """Comparison and program arm."""
    found = []
    for code in (0, 1):
        part = rows[rows["arm"] == code]
        if "cluster" in rows:
            by = part.groupby("cluster")["outcome"].agg(["sum", "size"]).to_numpy(dtype=float)
            found.append(Arm(by[:, 0], by[:, 1]))
        else:
            values = part["outcome"].to_numpy(dtype=float)
            found.append(Arm(values, np.ones(len(values))))
    return found[0], found[1]


def _without_strata(rows: pd.DataFrame) -> pd.DataFrame:
    """Values whose plain difference is the blocked one: the arm's mean over strata, and what varies within them.

    A unit counts by its stratum's share of all units over that of its arm, so that treated shares may differ.
    """
    if "stratum" not in rows:
        return rows
    rows = rows[rows.groupby("stratum")["arm"].transform("nunique") == 2]
    cell = rows.groupby(["arm", "stratum"])["outcome"]
    share = rows.groupby("stratum")["arm"].transform("size") / len(rows)
    within = cell.transform("size") / rows.groupby("arm")["arm"].transform("size")
    of_arm = (cell.transform("mean") * share / within).groupby(rows["arm"]).transform("mean")
    return rows.assign(outcome=of_arm + (rows["outcome"] - cell.transform("mean")) * share / within)


def _single(rows: pd.DataFrame) -> bool:
    """Whether some stratum has a single unit (or cluster) in an arm, so that nothing varies within it."""
    if "stratum" not in rows:
        return False
    group = rows["cluster"] if "cluster" in rows else pd.Series(rows.index, index=rows.index)
    return bool((group.groupby([rows["stratum"], rows["arm"]]).nunique() == 1).any())


def _differences(rows: pd.DataFrame) -> tuple[Arm]:
    """The strata's differences between the arms, each counting by its units, as one sample."""
    means = rows.groupby(["stratum", "arm"])["outcome"].mean().unstack("arm")
    gap = (means[1] - means[0]).dropna()
    units = rows.groupby("stratum").size().reindex(gap.index)
    return (Arm(np.asarray(gap * units, dtype=np.float64), np.asarray(units, dtype=np.float64)),)


def _signed(values: Sequence[float]) -> float:
    """Program less comparison; of a sample of differences, itself."""
    return float(values[-1] - (values[0] if len(values) > 1 else 0.0))


def _measured(study: Study, arms: tuple[Arm, ...], rows: pd.DataFrame) -> Tails:
    difference = _signed([arm.mean for arm in arms])
    error = math.sqrt(sum(arm.variance for arm in arms))
    groups = sum(len(arm.sums) for arm in arms)
    level = study.program.level
    half = float(stats.t.ppf((1 + level) / 2, groups - len(arms))) * error
    skewness = _signed([arm.third for arm in arms]) / error**3
    reason, low, high = _not_booted(arms, groups), None, None
    if not reason:
        low, high = _bootstrap_t(arms, difference, error, level, study.program.analysis.seed)
    top_units, share = _top(study, rows)
    return Tails(
        skewness=float(skewness),
        top=100 * top_units / len(rows),
        top_units=top_units,
        variance_share=share,
        low=difference - half,
        high=difference + half,
        boot_low=low,
        boot_high=high,
        level=level,
        reason=reason,
    )


def _not_booted(arms: tuple[Arm, ...], groups: int) -> str:
    if groups > MOST_GROUPS:
        return f"over {MOST_GROUPS:,} units, drawing them anew takes too long"
    if min(arm.variance for arm in arms) == 0:
        return ALIKE
    return ""


def _bootstrap_t(
    arms: tuple[Arm, ...], difference: float, error: float, level: float, seed: int
) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    chunk = max(1, CHUNK // max(len(arm.sums) for arm in arms))
    ts = []
    for start in range(0, DRAWS, chunk):
        draws = min(chunk, DRAWS - start)
        drawn = [arm.drawn(draws, rng) for arm in arms]
        spread = np.sqrt(np.sum([variance for _, variance in drawn], axis=0))
        means = drawn[-1][0] - (drawn[0][0] if len(drawn) > 1 else 0.0)
        ok = spread > 0
        ts.append((means - difference)[ok] / spread[ok])
    tail = (1 - level) / 2
    below, above = np.quantile(np.concatenate(ts), [tail, 1 - tail])
    return float(difference - above * error), float(difference - below * error)


def _top(study: Study, rows: pd.DataFrame) -> tuple[int, float]:
    """How many the farthest 1% are (at least the minimum group), and their percent of the variance within arms."""
    off = (rows["outcome"] - rows.groupby("arm")["outcome"].transform("mean")).to_numpy(dtype=float) ** 2
    count = max(study.program.analysis.minimum_group_size, len(off) // 100)
    largest = np.partition(off, len(off) - count)[-count:]
    return count, float(100 * largest.sum() / off.sum())


def _check(study: Study, found: Tails) -> Check:
    label, units = study.program.kpi.label, study.program.design.units
    skewed = abs(found.skewness) > LARGEST_SKEWNESS
    off = found.shift is None or found.shift > LARGEST_SHIFT or not found.agree_about_zero
    who = f"The {found.top:.2g}% of {units} with the most extreme {label} hold {found.variance_share:.0f}% of its variance"
    alike = found.reason == ALIKE
    if alike:
        verdict = f"{ALIKE}, which the range takes as known exactly: it is too narrow"
    elif not skewed:
        verdict = "the number of people evens that out, and the range can be trusted"
    elif found.shift is None:
        verdict = f"the range may be off at its ends, and a second one was not computed: {found.reason}"
    elif not found.agree_about_zero:
        verdict = "a range that follows the skewness says otherwise about whether there is an effect"
    else:
        verdict = (
            "a range that follows the skewness ends elsewhere: read the range loosely, and agree on winsorising next time"
            if off
            else "a range that follows the skewness is nearly the same"
        )
    return Check(
        name="normal approximation",
        status="failed" if alike or (skewed and off) else "passed",
        sentence=f"{who}; {verdict}.",
        statistic=abs(found.skewness),
        statistic_name="skewness of the estimate",
        threshold=LARGEST_SKEWNESS,
        power="about the range's ends only: at the bound a 95% range misses on one side about 3.0% of the time instead of 2.5%",
    )
