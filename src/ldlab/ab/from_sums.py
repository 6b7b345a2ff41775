"""Least squares from sums: the same answers as from rows, however many units there are."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ldlab.ab.means import ADJUSTED, DIFFERENCE
from ldlab.ab.percent import EffectAndBase, PercentEffect, no_percentage
from ldlab.ab.ratio import TOTALS
from ldlab.estimate import Estimate
from ldlab.program import LdlabError
from ldlab.program.experiment_sums import Experiment, KpiSums, Moments

if TYPE_CHECKING:  # it imports polars, which starts threads: only where it is asked for
    from tea_tasting.aggr import Aggregates

Floats = NDArray[np.float64]

ONE_SLOPE = "CUPED, one slope for all arms (tea-tasting)"
BY_ARM = "residual variance by arm, from sums"
DEPENDENT = 1e-8  # of a covariate's variance, what others must leave


@dataclass(frozen=True)
class Mean:
    """An arm's (adjusted) mean and its variance; units used."""

    value: float
    variance: float
    n: int


def effect(kpi: KpiSums, treated: Collection[int], *, adjusted: bool = False) -> Estimate:
    """Some program arms together against control.

    Parameters
    ----------
    kpi
        Sums of one KPI of :func:`ldlab.load_experiment`.
    treated
        Places of the program arms; control is 0.
    adjusted
        False: difference in means, of rates total over total, by tea-tasting's ``Mean`` and ``RatioOfMeans`` (delta
        method; Deng, Knoblich & Lu 2018, KDD). True: Lin's (2013) regression with interactions on all covariates, the KPI
        before among them, which is least squares within each arm, both evaluated at the covariates' common mean.

    Returns
    -------
    Estimate
        Value and unadjusted error (HC2, Neyman's s1^2/n1 + s0^2/n0) are those of the rows to the last digits. HC2 of the
        adjusted one would need fourth moments; its error here takes the residuals' variance as one within each arm (not
        between arms), which differs from HC2 by a relative O(n^-1/2) under random assignment. t with n less
        the number of coefficients.

    Raises
    ------
    LdlabError
        If a covariate follows from the others within an arm.
    """
    one, none = (arm_mean(kpi, arms, treated, adjusted=adjusted) for arms in (treated, (0,)))
    n, coefficients = one.n + none.n, 2 * (1 + len(kpi.covariates) * adjusted)
    method = ADJUSTED if adjusted else DIFFERENCE
    if kpi.is_rate:
        method = f"{method.replace(DIFFERENCE, 'difference in rates')}, {TOTALS}"
    return Estimate.from_t(
        one.value - none.value if adjusted else _tea_tasting(kpi, treated, None).effect_size,
        math.sqrt(one.variance + none.variance),
        df=n - coefficients,
        method=method,
        estimand=kpi.estimand,
        se_kind="HC2" if not adjusted else "HC1" if is_robust(kpi) else BY_ARM,
        n={"treated": one.n, "comparison": none.n, "clusters": None, "observations": n},
        **kpi.measure(),
    )


def one_slope(kpi: KpiSums, treated: Collection[int]) -> Estimate | None:
    """CUPED as tea-tasting has it: the KPI before with one slope for all arms; None where it is not the only covariate.

    theta is that of all units of the comparison together (Deng, Xu, Kohavi & Walker 2013, WSDM); Welch's error and degrees
    of freedom. It takes no covariate but the KPI before, and nobody without one.
    """
    label = f"{kpi.program.kpi.label} before"
    if kpi.covariates != (label,):
        return None
    found = _tea_tasting(kpi, treated, label)
    half = (found.effect_size_ci_upper - found.effect_size_ci_lower) / 2
    one, none = kpi.of(treated), kpi.of([0])
    n = one.n + none.n
    flat = Estimate.from_t(0.0, 1.0, df=n - 2, method="", estimand="", se_kind="", n={}, **kpi.measure())
    return Estimate.from_t(
        found.effect_size,
        half / flat.high,
        df=n - 2,
        method=ONE_SLOPE,
        estimand=kpi.estimand,
        se_kind="Welch",
        n={"treated": one.n, "comparison": none.n, "clusters": None, "observations": n},
        **kpi.measure(),
    )


def answers(kpi: KpiSums, treated: Collection[int]) -> tuple[Estimate, ...]:
    """All answers for a KPI, the leading one first, as :attr:`ldlab.Program.estimator` says."""
    plain = effect(kpi, treated)
    if not kpi.covariates:
        return (plain,)
    adjusted = effect(kpi, treated, adjusted=True)
    beside = one_slope(kpi, treated)
    pair = (adjusted, plain) if kpi.program.estimator == "adjusted" else (plain, adjusted)
    return (*pair, beside) if beside is not None else pair


def percent(kpi: KpiSums, treated: Collection[int], estimate: Estimate) -> PercentEffect:
    """An estimate as percent of the control's mean, by Fieller's interval, as :func:`ldlab.ab.percent_effect`."""
    said: dict[str, Any] = {"level": estimate.level, "se_kind": f"{estimate.se_kind}, delta method"}
    if estimate.scale == "log":
        value, low, high = (100 * math.expm1(x) for x in (estimate.value, estimate.low, estimate.high))
        return PercentEffect(
            value=value, se=100 * math.exp(estimate.value) * estimate.se, low=low, high=high, **said
        )
    base = arm_mean(kpi, (0,), treated, adjusted=estimate.method.startswith(ADJUSTED))
    assert estimate.df is not None
    both = EffectAndBase(
        effect=estimate.value,
        base=base.value,
        effect_variance=estimate.se**2,
        base_variance=base.variance,
        covariance=-base.variance,
        df=estimate.df,
    )
    error = math.sqrt(base.variance)
    said |= {"comparison_mean": base.value, "comparison_se": error}
    reason = no_percentage(both, error, estimate)
    ends = both.fieller(estimate.level)
    if reason or ends is None:
        return PercentEffect(reason=reason, **said)
    low, high = sorted(math.copysign(100, both.base) * end for end in ends)
    value, se = 100 * both.effect / abs(both.base), 100 * both.delta_se
    half = both.t(estimate.level) * se
    return PercentEffect(
        value=value, se=se, low=low, high=high, delta_low=value - half, delta_high=value + half, **said
    )


def tea_tasting_table(experiment: Experiment) -> pd.DataFrame:
    """What tea-tasting alone says of the same sums: each KPI and program arm against control.

    Returns
    -------
    DataFrame
        Index ``KPI``, ``arm``; mean of ``control`` and ``treatment``, ``effect``, its Welch interval ``low`` to ``high``,
        ``percent`` with its interval on the log scale, and ``p``. With the KPI before where all have one (one slope).
    """
    rows = []
    for kpi in experiment.kpis:
        label = f"{kpi.program.kpi.label} before"
        covariate = label if label in kpi.covariates and not kpi.without_before.any() else None
        for place in range(1, len(experiment.arms)):
            found = _tea_tasting(kpi, [place], covariate)
            relative = (found.rel_effect_size, found.rel_effect_size_ci_lower, found.rel_effect_size_ci_upper)
            rows.append(
                (
                    kpi.program.kpi.label, experiment.arms[place], found.control, found.treatment, found.effect_size,
                    found.effect_size_ci_lower, found.effect_size_ci_upper, *(100 * x for x in relative), found.pvalue,
                )
            )  # fmt: skip
    names = [
        "KPI",
        "arm",
        "control",
        "treatment",
        "effect",
        "low",
        "high",
        "percent",
        "percent low",
        "percent high",
        "p",
    ]
    return pd.DataFrame(rows, columns=names).set_index(["KPI", "arm"])


def _tea_tasting(kpi: KpiSums, treated: Collection[int], covariate: str | None) -> Any:
    """tea-tasting's analysis of the sums; every setting is given, so that its global ones do not matter."""
    import tea_tasting as tt

    level: dict[str, Any] = {
        "confidence_level": kpi.program.level, "alternative": "two-sided", "equal_var": False, "use_t": True,
    }  # fmt: skip
    metric = (
        tt.RatioOfMeans("count", "exposure", covariate, None, **level)
        if kpi.is_rate
        else tt.Mean("outcome", covariate, **level)
    )
    complete = covariate is not None
    control, treatment = (_aggregates(kpi, arms, complete=complete) for arms in ((0,), treated))
    return metric.analyze_aggregates(control, treatment)


def _aggregates(kpi: KpiSums, arms: Collection[int], *, complete: bool = False) -> Aggregates:
    """Units with the KPI only, because tea-tasting would count those without as well."""
    from tea_tasting.aggr import Aggregates

    moments = kpi.of(arms, complete=complete)
    names, cov = kpi.columns[: len(moments.mean)], moments.covariance
    pairs = {(a, b): float(cov[i, j]) for i, a in enumerate(names) for j, b in enumerate(names) if i < j}
    return Aggregates(
        moments.n,
        {name: float(x) for name, x in zip(names, moments.mean, strict=True)},
        {name: float(x) for name, x in zip(names, np.diag(cov), strict=True)},
        pairs,
    )


def arm_mean(
    kpi: KpiSums, arms: Collection[int], treated: Collection[int], *, adjusted: bool, fits: int = 2
) -> Mean:
    """Mean of some arms; ``adjusted`` at the covariates' mean in control and ``treated``, as one of ``fits`` regressions."""
    return _adjusted(kpi, arms, treated, fits) if adjusted else _plain(kpi, arms)


def _plain(kpi: KpiSums, arms: Collection[int]) -> Mean:
    sums = _aggregates(kpi, arms)
    numerator, denominator = ("count", "exposure") if kpi.is_rate else ("outcome", None)
    value = sums.mean(numerator) / sums.mean(denominator)
    return Mean(value, sums.ratio_var(numerator, denominator) / sums.count(), sums.count())


def _adjusted(kpi: KpiSums, arms: Collection[int], treated: Collection[int], fits: int) -> Mean:
    """Mean that the arm's own regression predicts at the covariates' mean in control and ``treated`` together."""
    one, p = _linear(kpi, arms), len(kpi.covariates)
    everyone = kpi.of([0, *treated], complete=True)
    centre = everyone.mean[-p:]
    scale = np.sqrt(np.diag(one.about)[1:] / one.n)
    _refuse_dependent(kpi, one, scale)
    xx, xy = one.about[1:, 1:] / np.outer(scale, scale), one.about[1:, 0] / scale
    away = (centre - one.mean[1:]) / scale
    slopes, far = np.linalg.solve(xx, np.column_stack([xy, away])).T
    variance = (one.about[0, 0] - xy @ slopes) / (one.n - 1 - p)
    value, variance = float(one.mean[0] + away @ slopes), float(variance * (1 / one.n + away @ far))
    if is_robust(kpi):
        variance = _hc0(kpi, arms, far / scale) * everyone.n / (everyone.n - fits * (1 + p))
    return Mean(value, variance, one.n)


def is_robust(kpi: KpiSums) -> bool:
    """Whether the KPI before is the only covariate, so that sums to the fourth power are there."""
    label = kpi.program.kpi.label
    return kpi.powers is not None and set(kpi.covariates) <= {f"{label} before", f"no {label} before"}


def _hc0(kpi: KpiSums, arms: Collection[int], pulls: Floats) -> float:
    """White's variance of the arm's adjusted mean: the sum of (w e)^2, with w = 1/n + pulls (x - mean x).

    Who has no KPI before is fitted apart: e is y less their mean. For the others e = u - b v, and the sum of e^2 v^k is
    that of u^2 v^k - 2 b u v^(k+1) + b^2 v^(k+2).
    """
    one, known = kpi.of(arms, complete=True), kpi.powers_of(arms)
    assert known is not None
    n, slope = known[0, 0], known[1, 1] / known[0, 2]
    squares = [known[2, k] - 2 * slope * known[1, k + 1] + slope**2 * known[0, k + 2] for k in range(3)]
    if len(pulls) == 1:
        constant, steep = 1 / one.n, pulls[0]
        return float(constant**2 * squares[0] + 2 * constant * steep * squares[1] + steep**2 * squares[2])
    rows = np.isin(kpi.arm, list(arms)) & kpi.complete & kpi.lacks_before
    lacking, size = kpi.mean[rows, 0], kpi.n[rows].astype(float)
    own = float(kpi.about[rows, 0, 0].sum() + size @ (lacking - size @ lacking / size.sum()) ** 2)
    share = one.mean[2]
    # x = (KPI before, filled in; whether there is none): (before, 0) for those who have it, (fill, 1) for the others.
    fill = float(size @ kpi.mean[rows, 1] / size.sum())
    mean_known = (one.mean[1] - share * fill) / (1 - share)
    constant = 1 / one.n + pulls[0] * (mean_known - one.mean[1]) - pulls[1] * share
    weight = 1 / one.n + pulls[0] * (fill - one.mean[1]) + pulls[1] * (1 - share)
    steep = pulls[0]
    with_before = constant**2 * squares[0] + 2 * constant * steep * squares[1] + steep**2 * squares[2]
    return float(with_before + weight**2 * own) if n else float(weight**2 * own)


def _linear(kpi: KpiSums, arms: Collection[int]) -> Moments:
    """Moments of (outcome, covariates); of a rate its linear form, as in :func:`ldlab.ab.linearised`."""
    moments = kpi.of(arms, complete=True)
    if not kpi.is_rate:
        return moments
    count, exposure = kpi.of(arms).mean
    rate, p = count / exposure, len(kpi.covariates)
    turn = np.zeros((1 + p, 2 + p))
    turn[0, :2] = 1 / exposure, -rate / exposure
    turn[1:, 2:] = np.eye(p)
    mean = turn @ moments.mean
    mean[0] += rate
    return Moments(moments.n, mean, turn @ moments.about @ turn.T)


def _refuse_dependent(kpi: KpiSums, arm: Moments, scale: Floats) -> None:
    """Refuse a covariate that is constant, or follows from those before it, within an arm."""
    found = [name for name, size in zip(kpi.covariates, scale, strict=True) if not size > 0]
    if not found:
        xx = arm.about[1:, 1:] / np.outer(scale, scale) / arm.n
        for i in range(1, len(xx)):
            left = 1 - xx[i, :i] @ np.linalg.lstsq(xx[:i, :i], xx[:i, i], rcond=None)[0]
            found += [kpi.covariates[i]] if left < DEPENDENT else []
    if found:
        raise LdlabError(
            f"covariates: found {', '.join(found)}, constant or fixed by the other covariates within one arm; expected "
            "covariates that each add something in both arms. Leave out of design.columns.covariates what adds nothing."
        )
