"""One number for a panel: the estimate that leads, the placebo start, before and after."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import statsmodels.api as sm

from ldlab.did.clusters import clusters_of
from ldlab.did.group_time import GroupTime, group_time
from ldlab.did.inference import Inference, infer, refused
from ldlab.did.panel import fixed_effects, need_panel, panel_estimate, se_kind_of
from ldlab.did.two_way import two_way_fixed_effects
from ldlab.did.untreated import imputation
from ldlab.estimate import Estimate
from ldlab.program import LdlabError, Study

PLACEBO_PERIODS = 3  # periods before training that a placebo start needs


def placebo_start(study: Study) -> Estimate | None:
    """Pretend that training began k periods earlier: its effect before it truly began should be none.

    Only rows of units not yet trained (nor reacting already, where the file names periods of anticipation) are
    used, and only cohorts with at least 3 periods before that. k is half the shortest of these cohorts'
    pre-periods, rounded down: the false start splits them in two. Units trained later serve as comparison until
    their own false start.

    Returns
    -------
    Estimate or None
        Two-way fixed effects with clustered errors, estimand 'placebo'; ``term`` says what k was. None where
        no cohort has 3 periods before training, or fewer units than the minimum group are falsely trained or
        left to compare with (always so without a comparison).

    Raises
    ------
    LdlabError
        If the study is no panel.
    """
    need_panel(study)
    frame, minimum = study.frame, study.program.analysis.minimum_group_size
    start = frame["start"] - study.program.design.anticipation
    rows = frame[(start.isna() | (start >= PLACEBO_PERIODS)) & ~(frame["period"] >= start)]
    start = start[rows.index]
    if start.notna().any():
        rows = rows[rows["period"] < start.max()]
    start = start[rows.index]
    k = int(start.min()) // 2 if start.notna().any() else 0
    placebo = (rows["period"] >= start - k).astype(float).to_frame("placebo")
    contested = rows["period"] >= start.min() - k
    units = rows[contested].groupby(placebo["placebo"])["unit"].nunique()
    if min(units.get(0, 0), units.get(1, 0)) < minimum:
        return None
    fit = fixed_effects(rows, placebo, "cluster")
    earlier = f"{k} {study.program.design.period}{'s' * (k != 1)} earlier"
    method, estimand = "placebo start", "placebo"
    return panel_estimate(
        study, rows, fit, "placebo", "cluster", method=method, estimand=estimand, term=earlier
    )


def before_after(study: Study) -> Estimate:
    """Mean change within units: after the start less before it. There is no comparison, so no causal claim.

    Each unit's mean over its periods before training is taken from its mean over those after it; units seen
    only on one side are left out, and ``n`` counts those used. t with units - 1 (clusters - 1) degrees of
    freedom; the error is that of the mean of the changes, clustered where the program names a cluster.

    Raises
    ------
    LdlabError
        If the study is no panel, or fewer units than the minimum group are seen before and after.
    """
    need_panel(study)
    trained = study.frame[study.frame["arm"] == 1]
    means = trained.groupby(["unit", "treated"])["outcome"].mean().unstack()
    change = (means[1] - means[0]).dropna() if {0, 1} <= set(means) else pd.Series(dtype=float)
    minimum = study.program.analysis.minimum_group_size
    if len(change) < minimum:
        raise LdlabError(
            f"before_after: found fewer than {minimum} units seen both before and after training; expected "
            "at least analysis.minimum_group_size."
        )
    rows = trained[trained["unit"].isin(change.index)]
    groups = pd.factorize(clusters_of(rows).groupby(rows["unit"]).first().loc[change.index])[0]
    model = sm.OLS(change, np.ones(len(change)))
    fit = model.fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    return Estimate.from_t(
        fit.params.iloc[0],
        fit.bse.iloc[0],
        df=len(np.unique(groups)) - 1,
        method="mean change within units",
        estimand="change",
        se_kind=se_kind_of(study, "cluster"),
        n=study.count(rows),
        **study.measure(),
    )


def lead_estimate(study: Study, effects: GroupTime | None = None) -> Estimate:
    """The estimate that leads a panel study, by its design and agreement: never by its result.

    :func:`before_after` where the design has no comparison; else the agreed estimator, by default
    :func:`ldlab.did.group_time` (its simple average) for staggered starts and :func:`two_way_fixed_effects` for
    one start. ``effects`` are the group-time effects, if they were computed already.

    Raises
    ------
    LdlabError
        If that estimate cannot be had; another one would have to be agreed, not taken.
    """
    if study.program.design.kind == "before_after":
        return before_after(study)
    if study.program.estimator == "two_way":
        return two_way_fixed_effects(study)
    if study.program.estimator == "imputation":
        return _agreed_imputation(study)
    effects = effects or group_time(study)
    assert effects is not None  # only before_after has none
    return effects.overall


class Beside(NamedTuple):
    """Estimates beside the lead: the ``sound`` ones, made for different starts as it is, and ``others``, two-way last."""

    sound: tuple[Estimate, ...] = ()
    others: tuple[Estimate, ...] = ()


def beside(study: Study, lead: Estimate, effects: GroupTime | None, inference: Inference) -> Beside:
    """What the other estimators make of the same panel, for a reader who would have chosen another.

    Their errors come by the same rule as the lead's; averages for which that rule has no method are given with
    clustered errors where the rule is the jackknife, else without an interval. Empty for design before_after.

    Parameters
    ----------
    study, lead, effects
        The panel, its leading estimate, and its group-time effects.
    inference
        From :func:`ldlab.did.infer` of the lead.
    """
    if study.program.design.kind == "before_after":
        return Beside()
    found: dict[str, Estimate | None] = {
        "group_time": effects.overall if effects is not None else None,
        "imputation": imputation(study),
        "two_way": two_way_fixed_effects(study),
    }
    made = {
        name: infer(study, estimate, estimator=name, plan=inference).estimate
        for name, estimate in found.items()
        if estimate is not None and name != study.program.estimator
    }
    two_way = (made.pop("two_way"),) if "two_way" in made else ()
    averages = [] if effects is None else [*effects.estimates[1:], *_other_controls(study, effects)]
    if effects is not None and inference.rule == "jackknife":
        averages.append(effects.overall)  # with the clustered error that papers print
    if inference.rule in ("permutation", "none"):
        averages = [refused(average) for average in averages]
    return Beside(tuple(made.values()), (*averages, *two_way))


def _other_controls(study: Study, effects: GroupTime) -> tuple[Estimate, ...]:
    """The simple average against the other comparison: never trained units, or those not trained yet."""
    if study.frame["start"].nunique() < 2 or study.frame["arm"].nunique() < 2:
        return ()
    try:
        other = group_time(study, controls="never" if effects.controls == "not yet trained" else "not_yet")
    except LdlabError:
        return ()
    return () if other is None else (other.overall,)


def _agreed_imputation(study: Study) -> Estimate:
    estimate = imputation(study)
    if estimate is None:
        raise LdlabError(
            "agreement.estimator: found imputation, which too few trained units or clusters allow here; expected an "
            "estimator that the data bear. Agree on group_time."
        )
    return estimate
