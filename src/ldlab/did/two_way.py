"""The two-way family: fixed effects, the first difference, and who carries which weight."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from ldlab.did.clusters import clusters_of, stay_in_clusters
from ldlab.did.panel import (
    PanelErrors,
    fixed_effects,
    need_comparison,
    need_panel,
    panel_estimate,
    se_kind_of,
)
from ldlab.estimate import Estimate
from ldlab.program import LdlabError, Study

DifferenceErrors = Literal["classical", "HC1", "cluster"]


def two_way_fixed_effects(
    study: Study, *, se: PanelErrors = "cluster", cluster_effects: bool = False
) -> Estimate:
    """Difference-in-differences: regression on treated with unit and period effects.

    Periods in which the KPI may react already (``design.anticipation``) are left out for the units concerned.

    Parameters
    ----------
    study
        A panel, balanced or not.
    se
        'cluster': by the program's cluster column, else by unit; t with clusters - 1 degrees of freedom.
        'classical': independent errors with equal variance, unit and period effects counted.
    cluster_effects
        A third kind of effect, of the cluster, by pyfixest: where units change cluster, it keeps a cluster's level
        from being taken for training. Needs a named cluster that some units change.

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
    linearmodels with ``group_debias=True``, and what gives the same on over 50,000 rows, see
    :func:`ldlab.did.panel.fixed_effects`. Where units nest in clusters, ``auto_df=False,
    count_effects=False``: the unit effects are then not charged a second time (linearmodels' default for two
    effects charges them: sqrt(2) too wide for two periods). Cameron & Miller (2015), Journal of Human
    Resources 50, section III.B.
    """
    need_comparison(study)
    rows = study.frame
    if cluster_effects and stay_in_clusters(rows):
        raise LdlabError(
            "cluster_effects: found no units that change cluster; expected some, as a unit's effect holds its "
            "cluster's otherwise. Leave it out."
        )
    reacting = (rows["period"] >= rows["start"] - study.program.design.anticipation) & (rows["treated"] == 0)
    rows = rows[~reacting] if reacting.any() else rows
    fit = fixed_effects(rows, rows[["treated"]].astype(float), se, cluster_effects=cluster_effects)
    method = "two-way fixed effects" + (" and cluster effects" if cluster_effects else "")
    return panel_estimate(study, rows, fit, "treated", se, method=method)


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
    import statsmodels.api as sm

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
    from linearmodels.panel.data import PanelData

    need_panel(study)
    panel = study.frame.set_index(["unit", "period"])
    residual = PanelData(panel[["treated"]].astype(float)).demean("both", low_memory=True).values2d[:, 0]
    treated = panel["treated"].to_numpy() == 1
    return float((residual[treated] < -1e-10).mean())
