"""What the training was: whether it took place when the file says, and what a flag that switches off would hide."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ldlab.did.clusters import clusters_of
from ldlab.did.group_time import GroupTime, group_time
from ldlab.did.panel import asked_of, fixed_effects, need_panel, panel_estimate
from ldlab.estimate import Estimate, Noun, Printed
from ldlab.program import LdlabError, Study
from ldlab.program.sections import Amount


def training_received(study: Study) -> GroupTime | None:
    """The manipulation check: group-time effects on what shows that the training took place.

    ``design.manipulation_check`` names the column (hours of training, sessions). Rows without it are left out.

    Returns
    -------
    GroupTime or None
        Effects in that column's unit; None where the program names none, nothing is compared, or too few units
        have it.

    Raises
    ------
    LdlabError
        If the study is no panel.
    """
    need_panel(study)
    named = study.program.design.manipulation_check
    if named is None or not study.has_comparison:
        return None
    rows = study.frame[study.frame["manipulation"].notna()].reset_index(drop=True)
    spread = Amount(value=float(rows["manipulation"].std()) or 1.0, unit=named.unit)
    said = {"label": named.label, "unit": named.unit, "direction": "increase",
            "smallest_effect_worth_having": spread, "target": spread}  # fmt: skip
    try:
        return group_time(asked_of(study, rows, rows["manipulation"], **said))
    except LdlabError:
        return None


class FlagAlone(Printed, Noun):
    """What a flag of the training period alone would have said, and why that is another question.

    Attributes
    ----------
    estimate
        Two-way regression on the flag.
    share
        Share of the trained unit-periods that the flag counts as untrained.
    sentence
        For a leader.
    """

    estimate: Estimate
    share: float
    sentence: str

    def _rows(self) -> list[tuple[str, str]]:
        e = self.estimate
        found = f"{e.format(e.value, sign=True)} {e.shown_unit}, {e.interval_text()} ({e.se_kind})"
        return [("flag of the training period alone", found), ("why it is not used", self.sentence)]


def flag_alone(study: Study) -> FlagAlone | None:
    """Two-way regression on a flag that is 1 only in the periods in which training was given, and 0 afterwards.

    Where a program names both ``columns.start`` and ``columns.treatment``, the second may be such a flag. Periods
    after the training then count as untrained: what training went on to do is taken for the course of things, and
    the effect shrinks, or turns. It is shown for comparison, and never leads.

    Returns
    -------
    FlagAlone or None
        None without such a flag, or where the flag does not switch off.

    Raises
    ------
    LdlabError
        If the study is no panel.
    """
    need_panel(study)
    rows = study.frame
    if "given" not in rows or not study.has_comparison:
        return None
    trained = rows["treated"] == 1
    after = trained & (rows["given"] == 0)
    if rows.loc[after, "unit"].nunique() < study.program.analysis.minimum_group_size:
        return None
    fit = fixed_effects(rows, rows[["given"]].astype(float), "cluster")
    method = "two-way fixed effects, flag of the training period alone"
    estimate = panel_estimate(study, rows, fit, "given", "cluster", method=method)
    share, period = float(after.sum() / trained.sum()), study.program.design.period
    sentence = (
        f"A flag that is 1 only in the {period} of the training counts {share:.0%} of the trained {period}s as "
        f"untrained. What training did in those {period}s is then taken for what would have happened without it, so "
        "an effect that lasts is held against itself and comes out too small. The start of training is used instead."
    )
    return FlagAlone(estimate=estimate, share=share, sentence=sentence)


def effect_per_dose(study: Study) -> Estimate | None:
    """Effect of one unit of ``design.manipulation_check`` (an hour of training), by instrumental variables.

    Two periods: each unit's change in the KPI on its change in the dose, the dose instrumented by the start of
    training. It is the effect of the dose that training brought, and counts only if training changes the KPI
    through the dose alone.

    Returns
    -------
    Estimate or None
        None without such a column, without a comparison, or if there are not exactly two periods.

    Raises
    ------
    LdlabError
        If the study is no panel.

    Notes
    -----
    linearmodels ``IV2SLS`` with ``debiased=True``, homoskedastic errors where no cluster is named as in Wooldridge,
    Introductory Econometrics, Example 15.10; else clustered.
    """
    from linearmodels.iv import IV2SLS

    need_panel(study)
    named = study.program.design.manipulation_check
    rows = study.frame
    if named is None or not study.has_comparison or rows["period"].nunique() != 2:
        return None
    names = ["outcome", "manipulation", "treated"]
    first, second = (part.set_index("unit")[names].astype(float) for _, part in rows.groupby("period"))
    change = (second - first).dropna()
    used = rows[rows["unit"].isin(change.index)]
    if used.groupby("arm")["unit"].nunique().min() < study.program.analysis.minimum_group_size:
        return None
    options: dict[str, Any] = {"cov_type": "unadjusted", "debiased": True}
    kind, df = "classical", float(len(change) - 2)
    if "cluster" in rows:
        clusters = pd.factorize(clusters_of(used).groupby(used["unit"]).first().loc[change.index])[0]
        options |= {"cov_type": "clustered", "clusters": clusters}
        kind, df = f"cluster by {study.program.design.columns.cluster}", float(clusters.max())
    one = pd.Series(np.ones(len(change)), change.index, name="constant")
    fit = IV2SLS(change["outcome"], one, change["manipulation"], change["treated"]).fit(**options)
    return Estimate.from_t(
        float(fit.params["manipulation"]),
        float(fit.std_errors["manipulation"]),
        df=df,
        method="instrumental variables, first difference",
        estimand="effect per dose",
        se_kind=kind,
        n=study.count(used),
        term=f"per unit of {named.label}",
        **study.measure(),
    )
