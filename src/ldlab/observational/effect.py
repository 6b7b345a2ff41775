"""Doubly robust effect on the trained, and the same estimator where no effect can be."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ldlab.estimate import Check, Estimate, level_in_words
from ldlab.observational.propensity import Propensity, need_same_units
from ldlab.observational.propensity import propensity as estimated_propensity
from ldlab.program import LdlabError, Study
from ldlab.program.design import NegativeControl

Floats = NDArray[np.float64]

METHOD = "doubly robust (weights and regression)"
POWER = 0.8


def doubly_robust(study: Study, propensity: Propensity | None) -> Estimate | None:
    """Effect on the trained by inverse-probability-weighted regression adjustment.

    The comparison group gets the weights e / (1 - e), so that it stands for the trained; a linear regression
    on the covariates is fitted to it with these weights; the effect is the trained people's mean less what that
    regression says of them. Right in large samples if the propensity model is right or the regression is, one of
    them being enough (Wooldridge 2007, Journal of Econometrics 141; with weights e / (1 - e) it is the
    normalised augmented estimator, as the weighted residuals add up to nothing).

    Parameters
    ----------
    study
        Design observational.
    propensity
        Of that study, from :func:`ldlab.observational.propensity`.

    Returns
    -------
    Estimate or None
        In effect units. The standard error is the sandwich of all three estimating equations (score, regression,
        effect) stacked (Stefanski & Boos 2002, The American Statistician 56), so that it counts that the weights
        are estimated and holds if one model is wrong; normal. Where a cluster is named influences are summed by
        cluster, times G / (G - 1), t with G - 1 degrees of freedom. None for other designs, without
        covariates, and where some durations were still running, which it would take for ended.

    Raises
    ------
    LdlabError
        If the propensity score is another study's.

    Notes
    -----
    ``statsmodels.treatment.TreatmentEffect.ipw_ra(effect_group=1)`` gives the same value. Its standard error is
    not used: it clips scores at .001 and (0.15) reads six coefficients of the score whatever their number.
    """
    if study.program.design.kind != "observational" or propensity is None or "censored" in study.frame:
        return None
    need_same_units(study, propensity)
    rows = propensity.study
    effect, influence = _effect_on_trained(propensity, rows.frame["outcome"].to_numpy(dtype=float))
    error, df = _error(influence, rows)
    return Estimate.from_t(
        effect,
        error,
        df=df,
        method=METHOD,
        estimand=rows.estimand_in_full,
        se_kind="sandwich" if df is None else f"sandwich, cluster by {study.program.design.columns.cluster}",
        n=rows.count(),
        **study.measure(),
    )


def negative_controls(study: Study, propensity: Propensity | None) -> tuple[Check, ...]:
    """The same estimator on columns that training cannot have changed: an effect found there is bias.

    Each control is left out of its own covariates, with those that ``without`` names. Failed if its interval
    (at the program's level) excludes zero, which with no bias happens as often as the level allows
    (Lipsitch et al. 2010, Epidemiology 21; Imbens & Rubin 2015, chapter 21). Empty for other designs.
    """
    if study.program.design.kind != "observational":
        return ()
    controls = study.program.design.negative_controls
    if not controls:
        reason = (
            "The program file names nothing that training cannot have changed, so bias cannot be looked for. Add "
            "design.negative_controls, such as the KPI in a period before training."
        )
        return (_not_run("negative control", reason, needed=False),)
    if propensity is not None:
        need_same_units(study, propensity)
    return tuple(_negative_control(control, propensity) for control in controls)


def _negative_control(control: NegativeControl, propensity: Propensity | None) -> Check:
    name = _name(control)
    if propensity is None:
        return _not_run(name, "No baseline covariates are named, so there is no adjusted comparison to test.")
    study, column = propensity.study, f"negative: {control.column}"
    leave = (control.column, *control.without)
    kept = tuple(c for c in study.covariates if not any(comes_from(c, source) for source in leave))
    seen = study.frame[study.frame[column].notna()].reset_index(drop=True)
    try:
        score = estimated_propensity(replace(study, frame=seen, covariates=kept))
    except LdlabError as problem:
        return _not_run(name, str(problem))
    if score is None:
        return _not_run(name, "Without the same measurement no covariate remains to adjust for.")
    values = score.study.frame[column].to_numpy(dtype=float)
    spread = pooled_sd(values, score._arm)
    if not spread > 0:
        return _not_run(name, "It has one value only among those who are compared.")
    effect, influence = _effect_on_trained(score, values / spread)
    error, df = _error(influence, score.study)
    return _judged(control, effect, error, df, study)


def _judged(control: NegativeControl, effect: float, error: float, df: int | None, study: Study) -> Check:
    """The check, from the control's effect and standard error in standard deviations."""
    level = study.program.level
    law = stats.norm() if df is None else stats.t(df)
    bound = float(law.ppf((1 + level) / 2)) * error
    failed = abs(effect) > bound
    seen = bound + float(law.ppf(POWER)) * error
    units = study.program.design.units
    where = f"In {control.label}, which training cannot have changed, the trained"
    like = f"untrained {units} like them on record"
    if failed:
        side = "above" if effect > 0 else "below"
        sentence = (
            f"{where} are {abs(effect):.2f} standard deviations {side} {like}: they differed from the start, and the "
            "effect found on the KPI may be no more than that."
        )
    else:
        sentence = f"{where} differ from {like} by {abs(effect):.2f} standard deviations: no more than chance allows."
    return Check(
        name=_name(control),
        status="failed" if failed else "passed",
        sentence=sentence,
        statistic=effect,
        statistic_name="adjusted difference in standard deviations",
        threshold=bound,
        power=f"a bias of {seen:.2f} standard deviations would have been seen 4 times in 5 "
        f"({level_in_words(level)})",
        needed=True,
    )


def _effect_on_trained(propensity: Propensity, outcome: Floats) -> tuple[float, Floats]:
    """The effect and each unit's (n,) influence on it, of the three stacked estimating equations.

    score: x (t - e); regression: (1 - t) w (y - x'b) x with w = e / (1 - e); effect: t (y - x'b - effect).
    """
    x, e, t = propensity._x, propensity._scores, propensity._arm
    w = (1 - t) * e / (1 - e)
    bread = np.linalg.pinv((x * w[:, None]).T @ x, hermitian=True)
    slopes = bread @ (x.T @ (w * outcome))
    residual = outcome - x @ slopes
    effect = float(residual[t == 1].mean())
    of_score = ((t - e)[:, None] * x) @ np.linalg.pinv((x * (e * (1 - e))[:, None]).T @ x, hermitian=True)
    through_weights = (x * (w * residual)[:, None]).T @ x  # dw/dg = w x
    of_slopes = ((w * residual)[:, None] * x + of_score @ through_weights) @ bread
    own = t * (residual - effect) / t.sum()
    return effect, own - of_slopes @ x[t == 1].mean(axis=0)


def _error(influence: Floats, study: Study) -> tuple[float, int | None]:
    """Standard error, and degrees of freedom where errors are clustered."""
    if "cluster" not in study.frame:
        return math.sqrt(float(influence @ influence)), None
    sums = np.asarray(study.frame.assign(influence=influence).groupby("cluster")["influence"].sum())
    groups = len(sums)
    if groups < 2:
        raise LdlabError(
            f"doubly_robust: found one cluster ({study.program.design.columns.cluster}) among those compared; "
            "expected at least two, or there is no error to state."
        )
    return math.sqrt(float(sums @ sums) * groups / (groups - 1)), groups - 1


def pooled_sd(values: Floats, arm: Floats) -> float:
    """Standard deviation within the arms, pooled over them by their degrees of freedom."""
    parts = [values[arm == 1], values[arm == 0]]
    squares = sum(float(((part - part.mean()) ** 2).sum()) for part in parts)
    return math.sqrt(squares / (len(values) - 2))


def _name(control: NegativeControl) -> str:
    return f"negative control: {control.label}"


def comes_from(covariate: str, column: str) -> bool:
    """Whether a covariate of the frame was made from a column of the data (text is spread by category)."""
    return covariate == column or covariate.startswith((f"{column}: ", f"{column} (covariate)"))


def _not_run(name: str, reason: str, *, needed: bool = True) -> Check:
    return Check(name=name, status="not_run", sentence=reason, needed=needed)
