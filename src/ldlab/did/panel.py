"""What the panel estimators share: the regression, its clusters, and refusals."""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd
from linearmodels.panel import PanelOLS
from linearmodels.panel.utility import AbsorbingEffectError

from ldlab.estimate import Estimate
from ldlab.program import LdlabError, Study

PanelErrors = Literal["cluster", "classical"]


def fixed_effects(rows: pd.DataFrame, regressors: pd.DataFrame, se: str, *, time_effects: bool = True) -> Any:
    """Regression of the outcome with unit and period effects; ``regressors`` share the index of ``rows``."""
    if se not in ("cluster", "classical"):
        raise LdlabError(f"se: found '{se}'; expected 'cluster' or 'classical'.")
    index = pd.MultiIndex.from_frame(rows[["unit", "period"]])
    outcome, design = rows["outcome"].astype(float).set_axis(index), regressors.set_axis(index)
    options: dict[str, Any] = {"cov_type": "unadjusted", "low_memory": True}
    if se == "cluster":
        clusters = clusters_of(rows)
        nested = clusters.groupby(rows["unit"]).nunique().max() == 1
        codes = pd.DataFrame({"cluster": pd.factorize(clusters)[0]}, index=index)
        options |= {"cov_type": "clustered", "clusters": codes, "group_debias": True}
        options |= {"auto_df": False, "count_effects": not nested}
    try:
        return PanelOLS(outcome, design, entity_effects=True, time_effects=time_effects).fit(**options)
    except (AbsorbingEffectError, ValueError) as error:
        raise LdlabError(
            "fixed effects: found nothing of the treatment left after unit and period effects; expected "
            "units that change from untrained to trained while others do not. Check start and period."
        ) from error


def panel_estimate(
    study: Study, rows: pd.DataFrame, fit: Any, regressor: str, se: str, *, method: str, **said: Any
) -> Estimate:
    """The estimate of one regressor; ``said`` overrides what the study says of itself."""
    fields = {"estimand": study.estimand, "n": study.count(rows), **study.measure(), **said}
    return Estimate.from_t(
        fit.params[regressor],
        fit.std_errors[regressor],
        df=clusters_of(rows).nunique() - 1 if se == "cluster" else fit.df_resid,
        method=method,
        se_kind=se_kind_of(study, se),
        **fields,
    )


def clusters_of(rows: pd.DataFrame) -> pd.Series:
    """The cluster of each row; where the program names none, its unit."""
    return rows["cluster"] if "cluster" in rows else rows["unit"]


def se_kind_of(study: Study, se: str) -> str:
    """What kind of standard error it is, with the column that it is clustered by."""
    columns = study.program.design.columns
    return f"cluster by {columns.cluster or columns.unit}" if se == "cluster" else se


def need_panel(study: Study) -> None:
    """Refuse a study with one row per unit."""
    if not study.program.is_panel:
        raise LdlabError(
            f"ldlab.did: found design {study.program.design.kind}, one row per unit; expected a panel "
            "(staggered, two_group_before_after or before_after). For cross-sections use ldlab.ab."
        )


def has_comparison(study: Study) -> bool:
    """Whether there is anyone to compare the trained with."""
    return study.has_comparison


def need_comparison(study: Study) -> None:
    """Refuse a study that is no panel or has one arm."""
    need_panel(study)
    if not has_comparison(study):
        raise LdlabError(
            "ldlab.did: found one arm; expected trained and comparison units. Without a comparison use "
            "before_after."
        )
