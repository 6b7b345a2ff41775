"""Cross-sections: difference in means, regression adjustment."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pandas as pd
import statsmodels.api as sm

from ldlab.ab.clusters import ADJUSTED, ANCOVA, DIFFERENCE, assigned_difference
from ldlab.ab.rows import complete_cases, need_cross_section
from ldlab.estimate import Estimate
from ldlab.program import LdlabError, Study

ErrorKind = Literal["HC2", "HC1", "classical"]

CONSTANT = "(constant)"

__all__ = [
    "ADJUSTED",
    "ANCOVA",
    "CONSTANT",
    "DIFFERENCE",
    "ErrorKind",
    "adjusting_design",
    "arm_table",
    "complete_cases",
    "difference_in_means",
    "estimates",
    "need_cross_section",
    "regression_adjusted",
]


def estimates(study: Study) -> tuple[Estimate, ...]:
    """All least-squares answers to a study's question, the leading one first.

    Randomised: the difference in means and, with covariates, the regression with interactions, HC2; the one that
    :attr:`ldlab.Program.estimator` names leads. Where the program names strata or clusters both are made as lots were
    drawn (:func:`ldlab.ab.assigned_difference`). Changes of a two-group panel: the same two, the difference first.
    Observational: the raw difference, marked as no effect, then the regression with common slopes, both HC1. None of
    them for durations of which some were still running: least squares would take those as ended.

    Raises
    ------
    LdlabError
        As :func:`regression_adjusted` and :func:`ldlab.ab.assigned_difference`.
    """
    if "censored" in study.frame:
        return ()
    kind = study.program.design.kind
    if kind == "observational":
        raw = difference_in_means(study, se="HC1").model_copy(
            update={"estimand": "raw difference, not an effect"}
        )
        adjusted = regression_adjusted(study, interactions=False, se="HC1") if study.covariates else None
        return (raw,) if adjusted is None else (raw, adjusted)
    if kind == "randomised" and ("stratum" in study.frame or "cluster" in study.frame):
        both = [assigned_difference(study, adjusted=adjusting) for adjusting in _adjusting(study)]
    else:
        both = [
            regression_adjusted(study) if adjusting else difference_in_means(study)
            for adjusting in _adjusting(study)
        ]
    leads_adjusted = kind == "randomised" and study.program.estimator == "adjusted"
    return tuple(reversed(both) if leads_adjusted else both)


def _adjusting(study: Study) -> tuple[bool, ...]:
    return (False, True) if study.covariates else (False,)


def difference_in_means(study: Study, *, se: ErrorKind = "HC2") -> Estimate:
    """Mean of the trained less mean of the comparison group.

    Parameters
    ----------
    study
        A cross-section: one row per unit.
    se
        HC2 (Neyman's conservative variance: s1^2/n1 + s0^2/n0), HC1, or classical (equal variances); t with
        n - 2 degrees of freedom. Where the program names a cluster column the errors are clustered instead
        (Liang & Zeger with G/(G-1) (n-1)/(n-k)), t with clusters - 1. Strata do not count here. An experiment with
        strata or clusters is led by :func:`ldlab.ab.assigned_difference`, which :func:`estimates` calls.

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
