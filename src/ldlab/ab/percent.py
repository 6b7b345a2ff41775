"""Percent effects: the effect over the comparison mean, with Fieller's interval, or the reason why there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import statsmodels.api as sm
from scipy import stats

from ldlab.ab.means import (
    ADJUSTED,
    ANCOVA,
    CONSTANT,
    DIFFERENCE,
    adjusting_design,
    complete_cases,
    difference_in_means,
    regression_adjusted,
)
from ldlab.ab.ratio import least_squares
from ldlab.ab.tails import RAW
from ldlab.estimate import Estimate, Noun, format_number, level_in_words, rows_to_html
from ldlab.program import LdlabError, Study

SMALLEST_RATIO = 2  # comparison mean over its standard error, below which a percentage means nothing

NO_JOINT_ERROR = "the range was found by permutation (or none could be given), which does not say how sure the comparison mean is"


class PercentEffect(Noun):
    """An effect as percent of the comparison mean, or the reason why there is no such number.

    Attributes
    ----------
    value, low, high
        Percent of the comparison mean, with Fieller's interval; None where ``reason`` says why not.
    se, delta_low, delta_high
        Error and interval by the delta method, which is symmetric.
    level, se_kind
        Level of the intervals; kind of standard error.
    comparison_mean, comparison_se
        What the percentage refers to, in KPI units; None for a KPI on the log scale.
    """

    value: float | None = None
    se: float | None = None
    low: float | None = None
    high: float | None = None
    delta_low: float | None = None
    delta_high: float | None = None
    level: float
    se_kind: str
    comparison_mean: float | None = None
    comparison_se: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        if self.value is None or self.low is None or self.high is None:
            return f"no percent effect: {self.reason}"
        low, value, high = (format_number(x, 1, sign=True) for x in (self.low, self.value, self.high))
        base = "comparison mean" if self.comparison_mean is not None else "comparison's geometric mean"
        return f"{value} percent of the {base}, {level_in_words(self.level)} {low} to {high}"

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return rows_to_html([("percent effect", str(self))])


@dataclass(frozen=True)
class EffectAndBase:
    """An effect and the comparison mean it refers to, with their joint covariance.

    ``df`` are those of the effect's t.
    """

    effect: float
    base: float
    effect_variance: float
    base_variance: float
    covariance: float
    df: float

    def t(self, level: float) -> float:
        """Two-sided critical value."""
        return _t(self.df, level)

    @property
    def delta_se(self) -> float:
        """Error of effect / base by the delta method (Casella & Berger 2002, section 5.5.4)."""
        ratio = self.effect / self.base
        variance = self.effect_variance - 2 * ratio * self.covariance + ratio**2 * self.base_variance
        return math.sqrt(max(variance, 0.0)) / abs(self.base)

    def fieller(self, level: float) -> tuple[float, float] | None:
        """Values r that the t test of effect - r base = 0 does not reject; None where they have no end.

        Fieller (1954), Journal of the Royal Statistical Society B 16: exact where both are normal.
        """
        t2 = self.t(level) ** 2
        a = self.base**2 - t2 * self.base_variance
        b = self.effect * self.base - t2 * self.covariance
        c = self.effect**2 - t2 * self.effect_variance
        if a <= 0:
            return None
        half = math.sqrt(max(b**2 - a * c, 0.0))
        return (b - half) / a, (b + half) / a


def percent_effect(study: Study, estimate: Estimate) -> PercentEffect:
    """A least-squares estimate as percent of the comparison mean, with Fieller's interval.

    The comparison mean is the estimator's own: the comparison group's mean (weighted by stratum, total over total
    for a rate), or what the covariates predict for untrained people like those of the estimand. Its error and its
    covariance with the effect are counted. Fieller's interval leads, not the delta method's: it is not symmetric, as
    the ratio's distribution is not, and it excludes zero exactly when the effect's interval does. On the log
    scale the effect is a percentage already: exp(effect) - 1, its interval transformed.

    Parameters
    ----------
    study
        The study that the estimate was made of.
    estimate
        One of :func:`ldlab.ab.estimates`.

    Returns
    -------
    PercentEffect
        With ``value`` None and a ``reason`` where the comparison mean is within 2 of its own standard errors
        of zero, or so near that Fieller's interval has no end; and where few clusters left the interval to a
        permutation, or left none.

    Raises
    ------
    LdlabError
        If the estimate was not made in this room from this study.
    """
    if estimate.term == RAW and "raw" in study.frame:
        study = replace(study, frame=study.frame.assign(outcome=study.frame["raw"]))
        estimate = estimate.model_copy(update={"term": ""})
    said: dict[str, Any] = {"level": estimate.level, "se_kind": f"{estimate.se_kind}, delta method"}
    if estimate.scale == "log":
        if estimate.method != ANCOVA:
            _again(study, estimate)
        value, low, high = (100 * math.expm1(x) for x in (estimate.value, estimate.low, estimate.high))
        error = 100 * math.exp(estimate.value) * estimate.se
        half = _t(estimate.df, estimate.level) * error
        said |= {"delta_low": value - half, "delta_high": value + half}
        return PercentEffect(value=value, se=error, low=low, high=high, **said)
    if estimate.df is None:
        return PercentEffect(reason=NO_JOINT_ERROR, **said)
    both = effect_and_base(study, estimate)
    if not math.isclose(both.effect, estimate.value, rel_tol=1e-7, abs_tol=1e-10 * (1 + abs(both.base))):
        raise LdlabError("percent_effect: found an estimate of other data; expected one of this study.")
    base_se = math.sqrt(max(both.base_variance, 0.0))
    said |= {"comparison_mean": both.base, "comparison_se": base_se}
    reason = no_percentage(both, base_se, estimate)
    if reason:
        return PercentEffect(reason=reason, **said)
    size = abs(both.base)
    ends = both.fieller(estimate.level)
    assert ends is not None
    low, high = (math.copysign(1, both.base) * 100 * end for end in ends)
    value, error = 100 * both.effect / size, 100 * both.delta_se
    half = both.t(estimate.level) * error
    return PercentEffect(
        value=value,
        se=error,
        low=min(low, high),
        high=max(low, high),
        delta_low=value - half,
        delta_high=value + half,
        **said,
    )


def effect_and_base(study: Study, estimate: Estimate) -> EffectAndBase:
    """The effect and its comparison mean, jointly, for any estimator that fits the arms apart.

    Such an estimator is a difference m1 - m0 of two arms' means, each linear in its own arm's outcomes. On the
    comparison group's outcomes times r it gives m1 - r m0 and that number's error, so that r = 1, 2 and -1 give
    the comparison mean, its variance and the covariance, whatever the kind of error (HC2, by stratum, clustered).

    Raises
    ------
    LdlabError
        If :func:`ldlab.ab.estimates` does not make such an estimate.
    """
    if estimate.method == ANCOVA:
        return _common_slopes(study, estimate)
    once, twice, minus = (_again(_comparison_times(study, r), estimate) for r in (1.0, 2.0, -1.0))
    v1, v2, v_1 = (e.se**2 for e in (once, twice, minus))
    covariance_of_means = (v_1 - v1) / 4
    base_variance = (v2 - v1 + 2 * covariance_of_means) / 3
    return EffectAndBase(
        effect=once.value,
        base=once.value - twice.value,
        effect_variance=v1,
        base_variance=base_variance,
        covariance=covariance_of_means - base_variance,
        df=math.inf if once.df is None else once.df,
    )


def _comparison_times(study: Study, factor: float) -> Study:
    rows = study.frame
    scale = rows["arm"].map({0: factor, 1: 1.0})
    changed = {name: rows[name].astype(float) * scale for name in ("outcome", "count") if name in rows}
    return replace(study, frame=rows.assign(**changed))


def _again(study: Study, estimate: Estimate) -> Estimate:
    """The estimate of the same method, with the same kind of error, of another study."""
    kind: Any = estimate.se_kind
    if kind in ("HC2", "HC1", "classical") and estimate.method in (DIFFERENCE, ADJUSTED):
        again = difference_in_means if estimate.method == DIFFERENCE else regression_adjusted
        return again(study, se=kind)
    needed = study if "adjusted" in estimate.method else replace(study, covariates=())
    found = _same_method(needed, estimate)
    if found is None:
        made = ", ".join(f"'{e.method}'" for e in least_squares(study))
        raise LdlabError(
            f"percent_effect: found an estimate by '{estimate.method}'; expected one by {made}. Pass what "
            "ldlab.ab.estimates returned."
        )
    return found


def _same_method(study: Study, estimate: Estimate) -> Estimate | None:
    same = (e for e in least_squares(study) if e.method == estimate.method and e.term == estimate.term)
    return next(same, None)


def _t(df: float | None, level: float) -> float:
    return float(stats.norm.ppf((1 + level) / 2) if df is None else stats.t.ppf((1 + level) / 2, df))


def no_percentage(both: EffectAndBase, base_se: float, estimate: Estimate) -> str:
    """Why there is no percentage; empty where there is one."""
    mean = f"the comparison mean, {both.base:.3g} {estimate.unit},"
    if not abs(both.base) > max(SMALLEST_RATIO * base_se, 1e-12):
        return f"{mean} is within {SMALLEST_RATIO} standard errors ({base_se:.3g} each) of zero"
    if both.fieller(estimate.level) is None:
        return (
            f"{mean} is so near zero (standard error {base_se:.3g}) that the range of a percentage has no end"
        )
    return ""


def _common_slopes(study: Study, estimate: Estimate) -> EffectAndBase:
    """The same for one slope in both arms, whose constant is the comparison mean."""
    rows = complete_cases(study)
    model = sm.OLS(rows["outcome"].astype(float), adjusting_design(study, rows, interactions=False))
    if "cluster" in rows:
        groups = pd.factorize(rows["cluster"])[0]
        fit = model.fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    else:
        kind = "nonrobust" if estimate.se_kind == "classical" else estimate.se_kind
        fit = model.fit(cov_type=kind, use_t=True)
    joint = fit.cov_params()
    return EffectAndBase(
        effect=float(fit.params["arm"]),
        base=float(fit.params[CONSTANT]),
        effect_variance=float(joint.loc["arm", "arm"]),
        base_variance=float(joint.loc[CONSTANT, CONSTANT]),
        covariance=float(joint.loc["arm", CONSTANT]),
        df=math.inf if estimate.df is None else estimate.df,
    )
