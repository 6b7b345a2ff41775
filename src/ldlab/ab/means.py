"""Cross-sections: difference in means, regression adjustment, percent effect."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy import stats

from ldlab.estimate import Estimate, Noun, format_number, level_in_words, rows_to_html
from ldlab.program import LdlabError, Study

ErrorKind = Literal["HC2", "HC1", "classical"]

DIFFERENCE = "difference in means"
ADJUSTED = "regression-adjusted difference"
ANCOVA = "regression-adjusted difference, common slopes"
CONSTANT = "(constant)"
SMALLEST_RATIO = 2  # comparison mean over its standard error, below which a percentage means nothing


class PercentEffect(Noun):
    """An effect as percent of the comparison mean, or the reason why there is no such number.

    Attributes
    ----------
    value, se, low, high
        Percent of the comparison mean; None where ``reason`` says why not.
    level, se_kind
        Level of the interval; kind of standard error, after the delta method.
    comparison_mean, comparison_se
        What the percentage refers to, in KPI units; None for a KPI on the log scale.
    """

    value: float | None = None
    se: float | None = None
    low: float | None = None
    high: float | None = None
    level: float
    se_kind: str
    comparison_mean: float | None = None
    comparison_se: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        if self.value is None or self.low is None or self.high is None:
            return f"no percent effect: {self.reason}"
        low, value, high = (format_number(x, 1, sign=True) for x in (self.low, self.value, self.high))
        return f"{value} percent of the comparison mean, {level_in_words(self.level)} {low} to {high}"

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return rows_to_html([("percent effect", str(self))])


def estimates(study: Study) -> tuple[Estimate, ...]:
    """All least-squares answers to a study's question, the plain difference first.

    Randomised (and changes of a two-group panel): the difference in means, then the regression with
    interactions, both HC2. Observational: the raw difference, marked as no effect, then the regression with
    common slopes, both HC1. The adjusted one only where there are covariates. None of them for durations of which
    some were still running: least squares would take those as ended.

    Raises
    ------
    LdlabError
        As :func:`regression_adjusted`.
    """
    if "censored" in study.frame:
        return ()
    if study.program.design.kind != "observational":
        adjusted = (regression_adjusted(study),) if study.covariates else ()
        return (difference_in_means(study), *adjusted)
    raw = difference_in_means(study, se="HC1").model_copy(
        update={"estimand": "raw difference, not an effect"}
    )
    return (raw, regression_adjusted(study, interactions=False, se="HC1")) if study.covariates else (raw,)


def difference_in_means(study: Study, *, se: ErrorKind = "HC2") -> Estimate:
    """Mean of the trained less mean of the comparison group.

    Parameters
    ----------
    study
        A cross-section: one row per unit.
    se
        HC2 (Neyman's conservative variance: s1^2/n1 + s0^2/n0), HC1, or classical (equal variances); t with
        n - 2 degrees of freedom. Where the program names a cluster column the errors are clustered instead
        (Liang & Zeger with G/(G-1) (n-1)/(n-k)), t with clusters - 1.

    Returns
    -------
    Estimate
        In effect units; percentage points for a binary KPI.

    Raises
    ------
    LdlabError
        If the study is a panel.

    Notes
    -----
    HC2 in the regression on the arm equals Neyman's variance: Samii & Aronow (2012), Statistics & Probability
    Letters 82.
    """
    return _estimate(study, DIFFERENCE, se)


def regression_adjusted(study: Study, *, interactions: bool = True, se: ErrorKind = "HC2") -> Estimate:
    """Difference between the arms adjusted for the baseline covariates.

    Parameters
    ----------
    study
        A cross-section with covariates. Rows that lack some covariate are left out; ``n`` counts those used.
    interactions
        True: covariates centred and interacted with the arm (Lin 2013, Annals of Applied Statistics 7). They
        are centred at the mean of the estimand's population: all units (ATE, ITT) or the trained (ATT).
        False: one slope for both arms (ANCOVA).
    se
        As in :func:`difference_in_means`, with n - k degrees of freedom. The covariate means are taken as
        given: the errors are those for these people.

    Raises
    ------
    LdlabError
        Without covariates; if a covariate is constant, follows from the arm or other covariates (the message
        names it); if HC2 does not exist because a single unit decides a coefficient; if the study is a panel.
    """
    return _estimate(study, ADJUSTED if interactions else ANCOVA, se)


def percent_effect(study: Study, estimate: Estimate) -> PercentEffect:
    """An estimate of this room as percent of the comparison mean, by the delta method.

    The comparison mean is the intercept of the same regression: the comparison group's mean, or what the
    covariates predict for untrained people like those of the estimand. Its error and its covariance with
    the effect are counted (delta method: Casella & Berger 2002, section 5.5.4). On the log scale the effect
    is a percentage already: exp(effect) - 1, its interval transformed.

    Returns
    -------
    PercentEffect
        With ``value`` None and a ``reason`` where the comparison mean is within 2 of its own standard errors
        of zero.

    Raises
    ------
    LdlabError
        If the estimate was not made in this room from this study.
    """
    if estimate.method not in (DIFFERENCE, ADJUSTED, ANCOVA):
        raise LdlabError(
            f"percent_effect: found an estimate by '{estimate.method}'; expected one by '{DIFFERENCE}' or "
            f"'{ADJUSTED}'. Pass what ldlab.ab.difference_in_means or regression_adjusted returned."
        )
    said: dict[str, Any] = {"level": estimate.level, "se_kind": f"{estimate.se_kind}, delta method"}
    if estimate.scale == "log":
        value, low, high = (100 * math.expm1(x) for x in (estimate.value, estimate.low, estimate.high))
        error = 100 * math.exp(estimate.value) * estimate.se
        return PercentEffect(value=value, se=error, low=low, high=high, **said)
    kind: Any = estimate.se_kind if estimate.se_kind in ("HC2", "HC1", "classical") else "HC2"
    fit, _ = _fit(study, estimate.method, kind)
    effect, mean = fit.params["arm"], fit.params[CONSTANT]
    if not math.isclose(effect, estimate.value, rel_tol=1e-9, abs_tol=1e-12):
        raise LdlabError("percent_effect: found an estimate of other data; expected one of this study.")
    mean_se = fit.bse[CONSTANT]
    said |= {"comparison_mean": mean, "comparison_se": mean_se}
    if abs(mean) < SMALLEST_RATIO * mean_se:
        reason = (
            f"the comparison mean, {mean:.3g} {estimate.unit}, is within {SMALLEST_RATIO} standard errors "
            f"({mean_se:.3g} each) of zero"
        )
        return PercentEffect(reason=reason, **said)
    slope = np.array([1 / abs(mean), -effect / (mean * abs(mean))])
    joint = fit.cov_params().loc[["arm", CONSTANT], ["arm", CONSTANT]].to_numpy()
    value, error = 100 * effect / abs(mean), 100 * math.sqrt(slope @ joint @ slope)
    half = stats.t.ppf((1 + estimate.level) / 2, estimate.df) * error
    return PercentEffect(value=value, se=error, low=value - half, high=value + half, **said)


def arm_table(study: Study) -> pd.DataFrame:
    """What was seen in each arm: one row per arm.

    Returns
    -------
    DataFrame
        Index ``arm`` (comparison, trained); ``units``, and the KPI's ``mean`` with its ``sd`` and ``se`` in
        effect units, rounded. For a binary KPI ``share``, in percent, stands for the mean and no sd is shown.
        An arm under the minimum group size is left empty.
    """
    need_cross_section(study)
    rows = study.frame.groupby("arm").agg(
        units=("outcome", "size"), mean=("outcome", "mean"), sd=("outcome", "std")
    )
    rows["se"] = rows["sd"] / np.sqrt(rows["units"])
    widest = rows["se"].max()
    decimals = max(0, 2 - math.floor(math.log10(widest))) if widest > 0 else 3
    rows = rows.round(decimals)
    if study.program.kpi.value_type == "binary":
        rows = rows.rename(columns={"mean": "share"}).drop(columns="sd")
    small = rows["units"] < study.program.analysis.minimum_group_size
    rows["units"] = rows["units"].astype("Int64")
    rows.loc[small] = pd.NA
    return rows.rename(index={0: "comparison", 1: "trained"})


def _estimate(study: Study, method: str, se: ErrorKind) -> Estimate:
    fit, rows = _fit(study, method, se)
    clustered = "cluster" in rows
    return Estimate.from_t(
        fit.params["arm"],
        fit.bse["arm"],
        df=rows["cluster"].nunique() - 1 if clustered else fit.df_resid,
        method=method,
        estimand=study.estimand,
        se_kind=f"cluster by {study.program.design.columns.cluster}" if clustered else se,
        n=study.count(rows),
        **study.measure(),
    )


def _fit(study: Study, method: str, se: ErrorKind) -> tuple[Any, pd.DataFrame]:
    """The regression behind a method, and the rows it used; its constant is the comparison mean."""
    need_cross_section(study)
    if se not in ("HC2", "HC1", "classical"):
        raise LdlabError(f"se: found '{se}'; expected 'HC2', 'HC1' or 'classical'.")
    rows = study.frame
    design = pd.DataFrame({CONSTANT: 1.0, "arm": rows["arm"].astype(float)})
    if method != DIFFERENCE:
        rows = complete_cases(study)
        design = adjusting_design(study, rows, interactions=method == ADJUSTED)
        if se == "HC2" and "cluster" not in rows:
            _refuse_full_leverage(design, rows, study)
    model = sm.OLS(rows["outcome"].astype(float), design)
    if "cluster" in rows:
        groups = pd.factorize(rows["cluster"])[0]
        return model.fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True), rows
    return model.fit(cov_type="nonrobust" if se == "classical" else se, use_t=True), rows


def complete_cases(study: Study) -> pd.DataFrame:
    """Rows with all covariates; refused without covariates, or where an arm has no such row."""
    if not study.covariates:
        raise LdlabError(
            "regression_adjusted: found no covariates; expected at least one in design.columns.covariates. "
            "Without covariates use difference_in_means."
        )
    rows = study.frame.dropna(subset=list(study.covariates))
    if rows["arm"].nunique() < 2:
        raise LdlabError(
            "regression_adjusted: found no unit with all covariates in one of the arms; expected some in "
            "both. Leave out the covariate that is missing there."
        )
    return rows


def adjusting_design(study: Study, rows: pd.DataFrame, *, interactions: bool) -> pd.DataFrame:
    """Constant, arm, centred covariates and, if wanted, their products with the arm; full rank or refused."""
    names = list(study.covariates)
    centre = rows.loc[rows["arm"] == 1, names] if study.estimand == "ATT" else rows[names]
    covariates = rows[names].astype(float) - centre.astype(float).mean()
    arm = rows["arm"].astype(float)
    design = pd.DataFrame({CONSTANT: 1.0, "arm": arm}).join(covariates)
    _refuse_dependent(design, "constant or fixed by the treatment and the other covariates")
    if interactions:
        products = covariates.mul(arm, axis=0).add_prefix("arm x ")
        design = design.join(products)
        _refuse_dependent(design, "constant or fixed by the other covariates within one arm")
    return design


def _refuse_dependent(design: pd.DataFrame, why: str) -> None:
    """Refuse a design in which a column is a linear combination of columns to its left."""
    values = design.to_numpy()
    scale = np.linalg.norm(values, axis=0)
    empty = scale <= 1e-10 * np.sqrt(len(values))
    triangle = np.linalg.qr(values / np.where(empty, 1.0, scale), mode="r")
    diagonal = np.zeros(values.shape[1])
    diagonal[: len(triangle)] = np.abs(np.diagonal(triangle))
    dependent = [str(name) for name, size in zip(design.columns, diagonal, strict=True) if size < 1e-8]
    if dependent:
        shown = ", ".join(name.removeprefix("arm x ") for name in dependent)
        raise LdlabError(
            f"covariates: found {shown}, {why}; expected covariates that each add something in both arms. "
            "Leave out of design.columns.covariates what adds nothing."
        )


def _refuse_full_leverage(design: pd.DataFrame, rows: pd.DataFrame, study: Study) -> None:
    """Refuse HC2 where one unit alone decides a coefficient: its residual is 0 and its weight infinite."""
    leverage = (np.linalg.qr(design.to_numpy())[0] ** 2).sum(axis=1)
    if leverage.max() < 1 - 1e-8:
        return
    lonely = [
        name
        for name in study.covariates
        if any(len(part) - part.value_counts().max() == 1 for _, part in rows.groupby("arm")[name])
    ]
    raise LdlabError(
        f"covariates: found {', '.join(lonely) or 'a combination'}, in which one unit of an arm is alone; "
        "expected several, or HC2 errors do not exist. Leave it out of design.columns.covariates, or join its "
        "categories."
    )


def need_cross_section(study: Study) -> None:
    """Refuse a panel."""
    if study.frame["unit"].duplicated().any():
        raise LdlabError(
            f"ldlab.ab: found several rows per unit (design {study.program.design.kind}, a panel); expected one. For "
            "panels use ldlab.did."
        )
