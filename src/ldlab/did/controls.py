"""Whom trained units are compared with: those never trained, or all not trained yet."""

from __future__ import annotations

from typing import Literal

import pandas as pd

from ldlab.did.clusters import clusters_of
from ldlab.program import LdlabError, Study

Controls = Literal["never", "not_yet"]
NEVER_SHARE = 0.1
NEVER_CLUSTERS = 5


def choose_controls(
    study: Study, rows: pd.DataFrame, asked: Controls | None = None
) -> tuple[Literal["never trained", "not yet trained"], str]:
    """The comparison of group-time effects, and why: by numbers of units, never by results.

    Parameters
    ----------
    study
        A panel with a comparison.
    rows
        Its frame without units trained from the start.
    asked
        What the caller wants; default: the never trained where they are at least the minimum group, a tenth of
        all units and, where clusters are named, in five clusters; else the not yet trained too.

    Returns
    -------
    str
        'never trained' or 'not yet trained'.
    str
        Why.

    Raises
    ------
    LdlabError
        If the never trained are asked for, and are fewer than the minimum group.

    Notes
    -----
    With a share s never trained, 1 - s of the variance of a difference in means is theirs: below a tenth nine
    parts in ten of the error would come from them. Not-yet-trained units are no worse a comparison if parallel
    trends hold for every cohort, which is the stronger assumption (Callaway & Sant'Anna 2021, assumptions 4, 5).
    """
    design, minimum = study.program.design, study.program.analysis.minimum_group_size
    never = rows[rows["start"].isna()]
    units, count = rows["unit"].nunique(), never["unit"].nunique()
    enough = count >= minimum
    if asked not in (None, "never", "not_yet"):
        raise LdlabError(f"controls: found '{asked}'; expected 'never' or 'not_yet'.")
    if asked == "never" and not enough:
        raise LdlabError(
            f"group-time effects: found fewer than {minimum} {design.units} never trained; expected at least "
            "analysis.minimum_group_size. Compare with controls='not_yet'."
        )
    if asked is not None:
        return ("never trained" if asked == "never" else "not yet trained"), "as asked"
    if not count:
        return "not yet trained", f"in the end every one of the {design.units} was trained"
    of_all = f"{count:,} of {units:,} {design.units} were never trained"
    if not enough:
        return "not yet trained", f"fewer than {minimum} {design.units} were never trained"
    if count < NEVER_SHARE * units and rows["start"].nunique() > 1:
        return "not yet trained", f"only {of_all}, too few to carry the comparison alone"
    clusters = clusters_of(never).nunique()
    if clusters < NEVER_CLUSTERS and rows["start"].nunique() > 1:
        return (
            "not yet trained",
            f"only {clusters} clusters were never trained, too few to carry the comparison",
        )
    return "never trained", of_all
