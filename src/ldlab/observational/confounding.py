"""Omitted-variable bias of a regression: robustness values and benchmarks after Cinelli & Hazlett (2020)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from ldlab.estimate import Noun
from ldlab.observational.effect import comes_from
from ldlab.program import LdlabError, Study

Floats = NDArray[np.float64]


class Benchmark(Noun):
    """A recorded covariate as a yardstick for an unrecorded one, in the regression.

    Attributes
    ----------
    covariate, r2_treatment, r2_kpi
        What it is (text as a whole, not by category); share of the rest of training, and of the KPI, that
        something unrecorded as strong as it would explain (partial R-squared, at most 1).
    value, low, high
        The regression's effect, and its interval, had something as strong been left out; effect units. None
        where nothing unrecorded can be as strong, and no interval where errors are clustered.
    times_to_zero
        How many times as strong it would have to be to bring the effect to zero; None: never.
    """

    covariate: str
    r2_treatment: float
    r2_kpi: float
    value: float | None = None
    low: float | None = None
    high: float | None = None
    times_to_zero: float | None = None


def robustness(t: float, df: float, alpha: float | None = None) -> float:
    """Robustness value (Cinelli & Hazlett 2020, section 4.2); with ``alpha`` that of the interval."""
    f = abs(t) / math.sqrt(df)
    bound = 0.0 if alpha is None else stats.t.isf(alpha / 2, df - 1) / math.sqrt(df - 1)
    if f <= bound:
        return 0.0
    if bound > 0 and f >= 1 / bound:  # then the interval is reached with more of training than of the KPI
        return (f**2 - bound**2) / (1 + f**2)
    gap = f - bound
    return (math.sqrt(gap**4 + 4 * gap**2) - gap**2) / 2


class Regression:
    """Least squares of the KPI on training and the covariates, and what each covariate explains in it."""

    def __init__(self, study: Study, arm: Floats, outcome: Floats, covariates: Floats) -> None:
        spread = covariates.std(axis=0)
        z = (covariates - covariates.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        rows = np.column_stack([np.ones(len(arm)), z, arm, outcome])
        # All that follows are sums of products of columns, which the triangle of a QR keeps whatever the rows.
        triangle = np.linalg.qr(rows, mode="r")
        self.n, self.sources = len(rows), _sources(study)
        self.x, self.arm, self.outcome = triangle[:, :-2], triangle[:, -2], triangle[:, -1]
        rest = _rest(self.x, self.arm)
        within = float(rest @ rest)
        if within < 1e-8 * self.n:
            raise LdlabError(
                "sensitivity: found covariates from which training follows; expected trained and comparison "
                f"{study.program.design.units} with the same values. Leave out of design.columns.covariates what "
                "is known only of the trained."
            )
        self.value = float(rest @ self.outcome) / within
        residual = _rest(self.x, self.outcome) - self.value * rest
        self.df = float(self.n - np.linalg.matrix_rank(self.x) - 1)
        if self.df < 2 or residual @ residual < 1e-16 * (self.outcome @ self.outcome):
            raise LdlabError(
                f"sensitivity: found a KPI that training and the covariates explain without rest, on {self.n} "
                f"{study.program.design.units}; expected one that varies beyond them. Name fewer covariates."
            )
        self.se = math.sqrt(float(residual @ residual) / self.df / within)
        self.t = self.value / self.se

    def benchmarks(self, alpha: float | None) -> tuple[Benchmark, ...]:
        """Every covariate of the program file, the strongest first."""
        both = np.column_stack([self.x, self.arm])
        found = []
        for source, columns in self.sources.items():
            of_training = _partial_r2(self.x, self.arm, columns)
            of_kpi = _partial_r2(both, self.outcome, columns)
            found.append(self._benchmark(source, of_training, of_kpi, alpha))
        return tuple(sorted(found, key=lambda b: math.inf if b.times_to_zero is None else b.times_to_zero))

    def _benchmark(self, name: str, of_training: float, of_kpi: float, alpha: float | None) -> Benchmark:
        training, kpi = _as_strong(1.0, of_training, of_kpi)
        said = {"covariate": name, "r2_treatment": min(training, 1.0), "r2_kpi": kpi}
        times = self._times_to_zero(of_training, of_kpi)
        if training >= 1:
            return Benchmark(**said, times_to_zero=times)
        value = math.copysign(1.0, self.value) * (abs(self.value) - self._bias(training, kpi))
        if alpha is None:
            return Benchmark(**said, value=value, times_to_zero=times)
        se = self.se * math.sqrt((1 - kpi) / (1 - training) * self.df / (self.df - 1))
        half = float(stats.t.isf(alpha / 2, self.df - 1)) * se
        return Benchmark(**said, value=value, low=value - half, high=value + half, times_to_zero=times)

    def _bias(self, training: float, kpi: float) -> float:
        return self.se * math.sqrt(self.df * kpi * training / (1 - training))

    def _times_to_zero(self, of_training: float, of_kpi: float) -> float | None:
        """How many times as strong as a covariate brings the effect to zero."""
        if of_training < 1e-12 or of_kpi < 1e-12:
            return None
        most = (1 - 1e-9) * (1 - of_training) / of_training  # where all of training is explained

        def left(times: float) -> float:
            return abs(self.value) - self._bias(*_as_strong(times, of_training, of_kpi))

        return None if left(most) > 0 else float(optimize.brentq(left, 0, most))


def _as_strong(times: float, of_training: float, of_kpi: float) -> tuple[float, float]:
    """Partial R-squared with training and with the KPI of something ``times`` as strong as a covariate.

    Cinelli & Hazlett (2020), section 4.4: from the covariate's own partial R-squared, given the others, with
    training, and with the KPI given training.
    """
    training = times * of_training / (1 - of_training)
    shared = times * of_training**2 / ((1 - times * of_training) * (1 - of_training))
    if shared >= 1:
        return training, 1.0
    factor = (math.sqrt(times) + math.sqrt(shared)) / math.sqrt(1 - shared)
    return training, min(1.0, factor**2 * of_kpi / (1 - of_kpi))


def _rest(x: Floats, y: Floats) -> Floats:
    return y - x @ np.linalg.lstsq(x, y, rcond=None)[0]


def _partial_r2(x: Floats, y: Floats, columns: list[int]) -> float:
    """Share of what the other columns leave of ``y`` that ``columns`` explain together."""
    without, rest = _rest(np.delete(x, columns, axis=1), y), _rest(x, y)
    return max(0.0, 1 - float(rest @ rest) / float(without @ without))


def _sources(study: Study) -> dict[str, list[int]]:
    """For each covariate of the program file its columns in (constant, covariates); text has one for a category."""
    found = {
        source: [i for i, name in enumerate(study.covariates, start=1) if comes_from(name, source)]
        for source in study.program.design.columns.covariates
    }
    return {source: columns for source, columns in found.items() if columns}
