"""The exact posterior of a binary KPI: Beta shares in each arm, without a model to converge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, stats

from ldlab.bayes.units import Floats
from ldlab.estimate import Estimate, Printed, format_chance, format_number
from ldlab.program import LdlabError, Study

NODES = 512  # of Gauss and Legendre, in quantiles of a share: right to seven decimals
METHOD = "exact Beta-Binomial"


@dataclass(frozen=True)
class Difference:
    """The difference of two independent Beta shares, ``program - comparison``.

    Attributes
    ----------
    program, comparison
        (successes + prior, failures + prior) of each.
    """

    program: tuple[float, float]
    comparison: tuple[float, float]

    @property
    def mean(self) -> float:
        """Posterior mean of the difference."""
        return float(stats.beta(*self.program).mean() - stats.beta(*self.comparison).mean())

    @property
    def sd(self) -> float:
        """Posterior sd of the difference."""
        return float(np.sqrt(stats.beta(*self.program).var() + stats.beta(*self.comparison).var()))

    def _nodes(self) -> tuple[Floats, Floats]:
        """Shares of the comparison arm at its quantiles, and their weights."""
        x, weight = np.polynomial.legendre.leggauss(NODES)
        return np.asarray(stats.beta(*self.comparison).ppf((x + 1) / 2)), np.asarray(weight / 2)

    def above(self, bound: float) -> float:
        """Chance that the difference is above a bound: the expectation of the program share's tail."""
        share, weight = self._nodes()
        return float(weight @ stats.beta(*self.program).sf(share + bound))

    def quantile(self, chance: float) -> float:
        """The difference that is not reached with this chance."""
        return float(optimize.brentq(lambda d: 1 - self.above(d) - chance, -1, 1, xtol=1e-10))

    def shortfall(self, bound: float) -> float:
        """E[max(0, bound - difference)]; for X ~ Beta(a, b), E[max(0, c - X)] = c F(c) - a / (a + b) F_(a + 1, b)(c)."""
        share, weight = self._nodes()
        a, b = self.program
        c = share + bound
        part = c * stats.beta(a, b).cdf(c) - a / (a + b) * stats.beta(a + 1, b).cdf(c)
        return float(weight @ part)


@dataclass(frozen=True, repr=False)
class ExactBeta(Printed):
    """Exact posterior of a binary KPI. Made by :func:`exact_beta`.

    Attributes
    ----------
    estimate
        Effect in percentage points, of all program arms together against control; no draws, nothing sampled.
    scaling, stopping
        Expected losses as in :func:`ldlab.bayes.expected_loss`, in percentage points.
    p_best
        Several arms: chance that an arm has the best share, control among them, by code; empty with one arm.
    """

    estimate: Estimate
    scaling: float
    stopping: float
    p_best: tuple[tuple[str, float], ...] = ()

    def _rows(self) -> list[tuple[str, str]]:
        e = self.estimate
        rows = [
            ("exact, without covariates", f"{e.format(e.value, sign=True)} {e.unit}, {e.interval_text()}"),
            ("chance of any gain", format_chance(e.p_gain)),
            (
                f"chance of the smallest effect worth having ({e.format(e.smallest, sign=True)})",
                format_chance(e.p_worthwhile),
            ),
            ("scaling would lose on average", f"{format_number(self.scaling, e.decimals + 1)} {e.unit}"),
            ("stopping would lose on average", f"{format_number(self.stopping, e.decimals + 1)} {e.unit}"),
        ]
        return rows + [(f"chance that {name} is best", format_chance(chance)) for name, chance in self.p_best]


def exact_beta(study: Study, *, prior: tuple[float, float] = (1.0, 1.0)) -> ExactBeta | None:
    """Posterior of the arms' shares under independent Beta priors, by quadrature.

    A cross-check for the sampled model, which has another prior (on the effect) and may adjust: without covariates
    the two agree where data are many.

    Parameters
    ----------
    study
        One row per unit, binary KPI.
    prior
        Of each arm's share; (1, 1) is uniform.

    Returns
    -------
    ExactBeta or None
        In percentage points. None for other KPIs and designs without random assignment, and where units were drawn in clusters
        or strata, which the formula does not know.

    Raises
    ------
    LdlabError
        A prior that is not positive.
    """
    if min(prior) <= 0:
        raise LdlabError(f"exact_beta: found prior {prior}; expected two numbers above 0, such as (1, 1)")
    program, frame = study.program, study.frame
    grouped = "stratum" in frame or ("cluster" in frame and frame["cluster"].duplicated().any())
    if program.kpi.value_type != "binary" or program.design.kind != "randomised" or grouped:
        return None
    comparison, trained = (_beta(frame.loc[frame["arm"] == arm, "outcome"], prior) for arm in (0, 1))
    found = Difference(trained, comparison)
    smallest = study.smallest / 100
    short, over = found.shortfall(smallest), found.mean - smallest + found.shortfall(smallest)
    scaling, stopping = (short, over) if program.kpi.sign > 0 else (over, short)
    best = _best(frame, prior, program.kpi.sign) if "variant" in frame else ()
    return ExactBeta(_estimate(study, found), 100 * scaling, 100 * stopping, best)


def _beta(outcome: pd.Series, prior: tuple[float, float]) -> tuple[float, float]:
    successes = float((outcome == 100).sum())
    return prior[0] + successes, prior[1] + len(outcome) - successes


def _estimate(study: Study, found: Difference) -> Estimate:
    sign, tail = study.program.kpi.sign, (1 - study.program.level) / 2

    def reaches(bound: float) -> float:
        above = found.above(bound / 100)
        return above if sign > 0 else 1 - above

    smallest = abs(study.smallest) / 100
    return Estimate(
        method=METHOD,
        estimand=study.estimand,
        value=100 * found.mean,
        se=100 * found.sd,
        se_kind="posterior sd",
        low=100 * found.quantile(tail),
        high=100 * found.quantile(1 - tail),
        n=study.count(),
        p_gain=reaches(0.0),
        p_target=reaches(study.target),
        p_worthwhile=reaches(study.smallest),
        p_negligible=found.above(-smallest) - found.above(smallest),
        **study.measure(),
    )


def _best(frame: pd.DataFrame, prior: tuple[float, float], sign: int) -> tuple[tuple[str, float], ...]:
    """Chance of each arm's share to be the best: over its quantiles, the product of the others' chances to be worse."""
    arms = {str(name): _beta(part, prior) for name, part in frame.groupby("variant")["outcome"]}
    x, weight = np.polynomial.legendre.leggauss(NODES)
    found = []
    for name, own in arms.items():
        share = stats.beta(*own).ppf((x + 1) / 2)
        others = [stats.beta(*other) for key, other in arms.items() if key != name]
        worse = [law.cdf(share) if sign > 0 else law.sf(share) for law in others]
        found.append((name, float(weight / 2 @ np.prod(worse, axis=0))))
    return tuple(sorted(found, key=lambda pair: -pair[1]))
