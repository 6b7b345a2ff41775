"""One number for a panel: two-way fixed effects, first difference, placebo start, before and after."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
import statsmodels.api as sm
from linearmodels.panel.data import PanelData

from ldlab.did.panel import (
    PanelErrors,
    clusters_of,
    fixed_effects,
    need_comparison,
    need_panel,
    panel_estimate,
    se_kind_of,
)
from ldlab.estimate import Estimate
from ldlab.program import LdlabError, Study

DifferenceErrors = Literal["classical", "HC1", "cluster"]
PLACEBO_PERIODS = 3  # periods before training that a placebo start needs


def two_way_fixed_effects(study: Study, *, se: PanelErrors = "cluster") -> Estimate:
    """Difference-in-differences: regression on treated with unit and period effects.

    Parameters
    ----------
    study
        A panel, balanced or not.
    se
        'cluster': by the program's cluster column, else by unit; t with clusters - 1 degrees of freedom.
        'classical': independent errors with equal variance, unit and period effects counted.

    Returns
    -------
    Estimate
        The ATT where training starts together, or where its effect is the same for all and does not grow;
        otherwise a weighted mean of effects whose weights can be negative (see :func:`negative_weights`).

    Raises
    ------
    LdlabError
        If the study is no panel with a comparison, or the effects leave nothing of the treatment.

    Notes
    -----
    linearmodels with ``group_debias=True``. Where units nest in clusters, ``auto_df=False,
    count_effects=False``: the unit effects are then not charged a second time (linearmodels' default for two
    effects charges them: sqrt(2) too wide for two periods). Cameron & Miller (2015), Journal of Human
    Resources 50, section III.B.
    """
    need_comparison(study)
    rows = study.frame
    fit = fixed_effects(rows, rows[["treated"]].astype(float), se)
    return panel_estimate(study, rows, fit, "treated", se, method="two-way fixed effects")


def first_difference(study: Study, *, se: DifferenceErrors = "cluster") -> Estimate:
    """Two periods: regression of each unit's change on the change in its treatment.

    Units seen in one period only say nothing about a change and are left out; ``n`` counts those used.

    Parameters
    ----------
    study
        A panel of exactly two periods.
    se
        'classical' and 'HC1' with t of n - 2; 'cluster' by the program's cluster column, else by unit.

    Raises
    ------
    LdlabError
        If there are not exactly two periods, or the study is no panel with a comparison.

    Notes
    -----
    Wooldridge, Introductory Econometrics, section 13.3. The estimate equals :func:`two_way_fixed_effects`.
    """
    need_comparison(study)
    if se not in ("cluster", "classical", "HC1"):
        raise LdlabError(f"se: found '{se}'; expected 'cluster', 'classical' or 'HC1'.")
    ranks = sorted(study.frame["period"].unique())
    if len(ranks) != 2:
        raise LdlabError(
            f"first_difference: found {len(ranks)} periods; expected 2. For more use two_way_fixed_effects."
        )
    before, after = (study.frame[study.frame["period"] == rank].set_index("unit") for rank in ranks)
    both = before.index.intersection(after.index)
    columns = ["outcome", "treated"]
    change = (after.loc[both, columns] - before.loc[both, columns]).astype(float)
    rows = study.frame[study.frame["unit"].isin(both)]
    model = sm.OLS(change["outcome"], sm.add_constant(change["treated"]))
    if se == "cluster":
        groups = pd.factorize(clusters_of(before.loc[both].reset_index()))[0]
        fit = model.fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
        df: float = len(np.unique(groups)) - 1
    else:
        fit = model.fit(cov_type="nonrobust" if se == "classical" else se, use_t=True)
        df = fit.df_resid
    return Estimate.from_t(
        fit.params["treated"],
        fit.bse["treated"],
        df=df,
        method="first difference",
        estimand=study.estimand,
        se_kind=se_kind_of(study, se),
        n=study.count(rows),
        **study.measure(),
    )


def placebo_start(study: Study) -> Estimate | None:
    """Pretend that training began k periods earlier: its effect before it truly began should be none.

    Only rows of units not yet trained are used, and only cohorts with at least 3 periods before training.
    k is half the shortest of these cohorts' pre-periods, rounded down: the false start splits them in two.

    Returns
    -------
    Estimate or None
        Two-way fixed effects with clustered errors, estimand 'placebo'; ``term`` says what k was. None where
        no cohort has 3 periods before training, or an arm is left with fewer units than the minimum group
        (always so without a comparison).

    Raises
    ------
    LdlabError
        If the study is no panel.
    """
    need_panel(study)
    frame, minimum = study.frame, study.program.analysis.minimum_group_size
    long_enough = frame["start"].isna() | (frame["start"] >= PLACEBO_PERIODS)
    rows = frame[long_enough & (frame["treated"] == 0)]
    starts = rows["start"].dropna()
    rows = rows[rows["period"] < starts.max()] if len(starts) else rows
    units = rows.groupby("arm")["unit"].nunique()
    if min(units.get(0, 0), units.get(1, 0)) < minimum:
        return None
    k = int(starts.min()) // 2
    false_start = (rows["period"] >= rows["start"] - k).astype(float).to_frame("placebo")
    fit = fixed_effects(rows, false_start, "cluster")
    earlier = f"{k} {study.program.design.period}{'s' * (k != 1)} earlier"
    method, estimand = "placebo start", "placebo"
    return panel_estimate(
        study, rows, fit, "placebo", "cluster", method=method, estimand=estimand, term=earlier
    )


def negative_weights(study: Study) -> float:
    """Share of treated cells that the two-way regression counts with the wrong sign.

    The weight of a treated cell (unit and period) is proportional to the residual of ``treated`` after unit
    and period effects; where it is negative, a larger effect there lowers the estimate (de Chaisemartin &
    D'Haultfoeuille 2020, American Economic Review 110, theorem 1).

    Returns
    -------
    float
        Between 0 and 1.
    """
    need_panel(study)
    panel = study.frame.set_index(["unit", "period"])
    residual = PanelData(panel[["treated"]].astype(float)).demean("both", low_memory=True).values2d[:, 0]
    treated = panel["treated"].to_numpy() == 1
    return float((residual[treated] < -1e-10).mean())


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


def lead_estimate(study: Study) -> Estimate:
    """The estimate that leads a panel study, by its design: never by its result.

    :func:`before_after` where there is no comparison, :func:`two_way_fixed_effects` elsewhere.
    """
    if study.program.design.kind == "before_after":
        return before_after(study)
    return two_way_fixed_effects(study)
