"""Which rows of a cross-section an estimator may use."""

from __future__ import annotations

import pandas as pd

from ldlab.program import LdlabError, Study


def need_cross_section(study: Study) -> None:
    """Refuse a panel."""
    if study.frame["unit"].duplicated().any():
        raise LdlabError(
            f"ldlab.ab: found several rows per unit (design {study.program.design.kind}, a panel); expected one. For "
            "panels use ldlab.did."
        )


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
