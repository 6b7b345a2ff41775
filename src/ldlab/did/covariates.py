"""Group-time effects adjusted for baseline covariates, as far as the cohorts are large and alike enough."""

from __future__ import annotations

from functools import partial

import pandas as pd

from ldlab.did.group_cells import GroupCells, fit_cells
from ldlab.program import LdlabError, Study

UNITS_PER_COVARIATE = 10


def fit_adjusted(
    study: Study, rows: pd.DataFrame, *, never_trained: bool
) -> tuple[GroupCells, str, tuple[str, ...]]:
    """Group-time effects with the strongest adjustment that the data bear, by their sizes and not by results.

    Doubly robust where every cohort has ten units for each covariate and nobody's chance of being trained is
    near 0 or 1; else a regression on the comparison's covariates; else no adjustment. A covariate counts as
    each unit's first observed value from before training.

    Parameters
    ----------
    study
        A panel with a comparison.
    rows
        Its frame without units trained from the start.
    never_trained
        Whom to compare with.

    Returns
    -------
    GroupCells
        The effects.
    str
        What was adjusted for, and why not more.
    tuple of str
        Who was left out.

    Notes
    -----
    Sant'Anna & Zhao (2020), Journal of Econometrics 219. Ten units for each covariate of a propensity score:
    Peduzzi and others (1996), Journal of Clinical Epidemiology 49.
    """
    fit = partial(fit_cells, never_trained=never_trained, anticipation=study.program.design.anticipation)
    if not study.covariates:
        return fit(rows)[0], "nothing: the program names no covariates", ()
    part, without = _with_baseline_values(study, rows)
    names = tuple(name for name in study.covariates if part[name].nunique() > 1)
    smallest = part[part["arm"] == 1].groupby("start")["unit"].nunique().min()
    listed = ", ".join(names)
    if not names or len(part) == 0:
        return fit(rows)[0], "nothing: no covariate was measured before training", ()
    why = f"a cohort has fewer than {UNITS_PER_COVARIATE} {study.program.design.units} for each covariate"
    if smallest >= UNITS_PER_COVARIATE * len(names):
        cells, warned = fit(part, covariates=names, propensity=True)
        if not any("ropensity" in text for text in warned):
            return cells, f"doubly robust: {listed}", without
        why = "some could hardly have been trained, or hardly not, going by the covariates"
    cells, _ = fit(part, covariates=names)
    if cells.controls.min() >= UNITS_PER_COVARIATE * len(names):
        return cells, f"regression-adjusted: {listed}; not doubly robust, because {why}", without
    return fit(rows)[0], f"nothing: {listed} are too many covariates for those to compare with", ()


def _with_baseline_values(study: Study, rows: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Rows with each unit's first value from before training; without units that have none."""
    before = rows[rows["treated"] == 0].sort_values("period")
    first = before.groupby("unit")[list(study.covariates)].first().dropna()
    part = rows.drop(columns=list(study.covariates)).join(first, on="unit", how="inner")
    missing = rows["unit"].nunique() - len(first)
    if part["arm"].nunique() == 0:
        raise LdlabError(
            "group-time effects: found no unit with all covariates before training; expected some."
        )
    minimum = study.program.analysis.minimum_group_size
    number = f"{missing:,}" if missing >= minimum else f"fewer than {minimum}"
    units = study.program.design.units
    return part, ((f"{number} {units} without all covariates before training",) if missing else ())
