"""What the panel estimators share: the regression, its clusters, and refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pandas as pd
from linearmodels.panel import PanelOLS
from linearmodels.panel.utility import AbsorbingEffectError

from ldlab.did.clusters import clusters_of, stay_in_clusters
from ldlab.estimate import Estimate
from ldlab.program import LdlabError, Study

PanelErrors = Literal["cluster", "classical"]
MOST_ROWS = 50_000  # by linearmodels, which from here on takes seconds; the others give the same numbers


def fixed_effects(
    rows: pd.DataFrame,
    regressors: pd.DataFrame,
    se: str,
    *,
    time_effects: bool = True,
    cluster_effects: bool = False,
) -> Any:
    """Regression of the outcome with unit and period effects; ``regressors`` share the index of ``rows``.

    linearmodels up to 50,000 rows. Above, sums by start and period where the regressors are alike within them
    and units stay in their clusters, else pyfixest; pyfixest too with ``cluster_effects``, a third kind. All give
    the same numbers.

    Clustered errors carry G / (G - 1) times (N - 1) / (N - K): N rows, G clusters, K regressors; where units
    change clusters, K counts the effects too. Classical errors count them always.

    Returns
    -------
    Regression
        ``params``, ``std_errors``, ``cov`` and ``df_resid``, of the regressors only.

    Raises
    ------
    LdlabError
        If the effects leave nothing of a regressor.
    """
    if se not in ("cluster", "classical"):
        raise LdlabError(f"se: found '{se}'; expected 'cluster' or 'classical'.")
    nested = stay_in_clusters(rows)
    try:
        if cluster_effects or len(rows) > MOST_ROWS:
            effects = [
                "unit",
                *(["period"] if time_effects else []),
                *(["cluster"] if cluster_effects else []),
            ]
            return _fast_effects(rows, regressors, se, nested, effects)
        return _linearmodels_effects(rows, regressors, se, nested, time_effects)
    except (AbsorbingEffectError, ValueError) as error:
        raise LdlabError(
            "fixed effects: found nothing of the treatment left after unit and period effects; expected "
            "units that change from untrained to trained while others do not. Check start and period."
        ) from error


def _fast_effects(
    rows: pd.DataFrame, regressors: pd.DataFrame, se: str, nested: bool, effects: list[str]
) -> Any:
    from ldlab.did.regression import by_cells, by_rows, cells_of

    cells = cells_of(rows, regressors) if nested and effects == ["unit", "period"] else None
    if cells is not None:
        return by_cells(rows, cells, [str(name) for name in regressors], se)
    return by_rows(rows, regressors, se, effects, nested)


def _linearmodels_effects(
    rows: pd.DataFrame, regressors: pd.DataFrame, se: str, nested: bool, time_effects: bool
) -> Any:
    index = pd.MultiIndex.from_frame(rows[["unit", "period"]])
    outcome, design = rows["outcome"].astype(float).set_axis(index), regressors.set_axis(index)
    options: dict[str, Any] = {"cov_type": "unadjusted", "low_memory": True}
    if se == "cluster":
        codes = pd.DataFrame({"cluster": pd.factorize(clusters_of(rows))[0]}, index=index)
        options |= {"cov_type": "clustered", "clusters": codes, "group_debias": True}
        options |= {"auto_df": False, "count_effects": not nested}
    return PanelOLS(outcome, design, entity_effects=True, time_effects=time_effects).fit(**options)


def panel_estimate(
    study: Study, rows: pd.DataFrame, fit: Any, regressor: str, se: str, *, method: str, **said: Any
) -> Estimate:
    """The estimate of one regressor; ``said`` overrides what the study says of itself, and ``df``."""
    fields = {"estimand": study.estimand, **study.measure(), **said}
    if "n" not in fields:
        fields["n"] = study.count(rows)
    if "df" not in fields:
        fields["df"] = clusters_of(rows).nunique() - 1 if se == "cluster" else fit.df_resid
    return Estimate.from_t(
        fit.params[regressor],
        fit.std_errors[regressor],
        method=method,
        se_kind=se_kind_of(study, se),
        **fields,
    )


def se_kind_of(study: Study, se: str) -> str:
    """What kind of standard error it is, with the column that it is clustered by."""
    columns = study.program.design.columns
    return f"cluster by {columns.cluster or columns.unit}" if se == "cluster" else se


def asked_of(study: Study, rows: pd.DataFrame, outcome: pd.Series, **kpi: Any) -> Study:
    """The same question asked of another outcome, on ``rows`` of the study; ``kpi`` says what it is."""
    other = {"value_type": "continuous", "scale": "as is", **kpi}
    program = study.program.model_copy(update={"kpi": study.program.kpi.model_copy(update=other)})
    return replace(study, program=program, frame=rows.assign(outcome=outcome))


def need_panel(study: Study) -> None:
    """Refuse a study with one row per unit."""
    if not study.program.is_panel:
        raise LdlabError(
            f"ldlab.did: found design {study.program.design.kind}, one row per unit; expected a panel "
            "(staggered, two_group_before_after or before_after). For cross-sections use ldlab.ab."
        )


def need_comparison(study: Study) -> None:
    """Refuse a study that is no panel or has one arm."""
    need_panel(study)
    if not study.has_comparison:
        design = study.program.design
        raise LdlabError(
            f"ldlab.did: found one arm, all of it trained in the same {design.period}; expected {design.units} that "
            "are not trained, or trained later, to compare with. Without them the design is before_after."
        )
