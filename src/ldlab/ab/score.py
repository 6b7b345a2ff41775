"""Few cases of a binary KPI: the difference in shares with Miettinen and Nurminen's score interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
from scipy import optimize, stats

from ldlab.estimate import Estimate
from ldlab.program import Study

SCORE = "difference in shares, score interval"
FEW_CASES = 10  # units with, or without, a case in an arm, below which a share's t interval misleads
EDGE = 1 - 1e-9  # a difference of all against none


@dataclass(frozen=True)
class TwoShares:
    """Cases and units of the program arm (1) and of the comparison group (0).

    Written here because statsmodels 0.15 (``confint_proportions_2indep``, method 'score') fails to find the ends of
    tables with few cases, and gives ends for 2 of 60 against 2 of 60 that are not symmetric.
    """

    cases1: int
    units1: int
    cases0: int
    units0: int

    @property
    def difference(self) -> float:
        """Share of the program arm less that of the comparison group."""
        return self.cases1 / self.units1 - self.cases0 / self.units0

    def restricted(self, difference: float) -> tuple[float, float]:
        """Most likely shares (1, 0) if they differ by ``difference``: the root of a cubic (Miettinen & Nurminen 1985)."""
        n, cases = self.units1 + self.units0, self.cases1 + self.cases0
        l2 = (self.units1 + 2 * self.units0) * difference - n - cases
        l1 = (self.units0 * difference - n - 2 * self.cases0) * difference + cases
        l0 = self.cases0 * difference * (1 - difference)
        q = l2**3 / (27 * n**3) - l1 * l2 / (6 * n**2) + l0 / (2 * n)
        p = math.copysign(math.sqrt(max(l2**2 / (9 * n**2) - l1 / (3 * n), 0.0)), q)
        angle = math.acos(min(1.0, max(-1.0, q / p**3))) if p else 0.0
        share0 = 2 * p * math.cos((math.pi + angle) / 3) - l2 / (3 * n)
        share0 = min(max(share0, 0.0, -difference), 1.0, 1 - difference)
        return share0 + difference, share0

    def z(self, difference: float) -> float:
        """Score statistic of the test that the shares differ by ``difference``."""
        share1, share0 = self.restricted(difference)
        n = self.units1 + self.units0
        spread = share1 * (1 - share1) / self.units1 + share0 * (1 - share0) / self.units0
        off = self.difference - difference
        if off == 0:
            return 0.0
        return off / math.sqrt(spread * n / (n - 1)) if spread > 0 else math.copysign(math.inf, off)

    def interval(self, level: float) -> tuple[float, float]:
        """Differences that the two-sided score test does not reject."""
        bound = float(stats.norm.ppf((1 + level) / 2))

        start = min(max(self.difference, -EDGE), EDGE)

        def end(z: float, towards: float) -> float:
            def short(difference: float) -> float:
                return max(-1e6, min(1e6, self.z(difference) - z))

            apart = short(start) * short(towards) < 0
            return float(optimize.brentq(short, start, towards)) if apart else towards

        return end(bound, -EDGE), end(-bound, EDGE)

    def chance_above(self, difference: float) -> float:
        """One less the one-sided p value of the score test that the shares differ by ``difference``."""
        if abs(difference) >= EDGE:
            return float(difference < 0)
        return float(stats.norm.cdf(self.z(difference)))


def score_interval(study: Study) -> Estimate | None:
    """For a binary KPI with few cases: the difference in shares with Miettinen and Nurminen's score interval.

    The t interval misleads where a share is near 0 or 100% in a small arm, as its error counts an arm without any case
    as known exactly. The score interval does not, and stays inside what is possible (Miettinen &
    Nurminen 1985, Statistics in Medicine 4; recommended by Fagerland, Lydersen & Laake 2015, Statistical Methods in
    Medical Research 24). Chances invert the score test.

    Returns
    -------
    Estimate or None
        In percentage points; ``se`` is the interval's half-width over the normal quantile. None for other KPIs, for
        clusters and strata, where every arm has at least 10 units with and 10 without, and where all units are alike.
    """
    rows = study.frame
    if study.program.kpi.value_type != "binary" or {"cluster", "stratum"} & set(rows.columns):
        return None
    cases = pd.crosstab(rows["arm"], rows["outcome"] > 0).reindex(columns=[False, True], fill_value=0)
    if len(cases) < 2 or cases.to_numpy().min() >= FEW_CASES or cases.sum().min() == 0:
        return None
    (without0, with0), (without1, with1) = cases.to_numpy().tolist()
    table = TwoShares(with1, with1 + without1, with0, with0 + without0)
    level, sign = study.program.level, study.program.kpi.sign
    low, high = (100 * end for end in table.interval(level))
    smallest = abs(study.smallest)
    above = [table.chance_above(points / 100) for points in (0.0, study.target, study.smallest)]
    gain, target, worthwhile = (chance if sign > 0 else 1 - chance for chance in above)
    return Estimate(
        method=SCORE,
        estimand=study.estimand,
        value=100 * table.difference,
        se=(high - low) / 2 / float(stats.norm.ppf((1 + level) / 2)),
        se_kind="score (Miettinen and Nurminen)",
        low=low,
        high=high,
        n=study.count(),
        p_gain=gain,
        p_target=target,
        p_worthwhile=worthwhile,
        p_negligible=max(0.0, table.chance_above(-smallest / 100) - table.chance_above(smallest / 100)),
        **study.measure(),
    )
