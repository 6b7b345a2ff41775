"""Effects where there should be none: another KPI, another group, untrained teammates, the last period before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ldlab.did.clusters import clusters_of
from ldlab.did.estimators import lead_estimate
from ldlab.did.panel import asked_of, fixed_effects, need_panel, panel_estimate
from ldlab.estimate import Estimate, Noun
from ldlab.program import LdlabError, Study
from ldlab.program.design import NegativeControl
from ldlab.program.sections import Amount

FEWEST_CLUSTERS = 5  # in each arm; below, clustered errors find effects where there are none
CLEAR_P = 0.05  # one-sided, for the last period before training
IN_SD = "standard deviations"


class Placebo(Noun):
    """The leading estimator where training cannot have had an effect.

    Attributes
    ----------
    label
        What it was tried on.
    estimate
        What it found, estimand 'placebo'; None if it was not run.
    reason
        Why it was not run; empty if it was.
    """

    label: str
    estimate: Estimate | None = None
    reason: str = ""


class LastBefore(Noun):
    """The last period before training (and before any agreed anticipation) against the earlier ones.

    Attributes
    ----------
    last
        How far the trained were off their own earlier periods then, more than the comparison; None if not run.
    length
        How many periods were clearly off the same way: 1, or 2 with the one before.
    lead, without
        The leading estimate, and the same with these periods left out of what counts as before; only where
        ``last`` is clear, else None.
    reason
        Why it was not run; empty if it was.
    """

    last: Estimate | None = None
    length: int = 1
    lead: Estimate | None = None
    without: Estimate | None = None
    reason: str = ""


def placebo_kpis(study: Study) -> tuple[Placebo, ...]:
    """The leading estimator on each of ``design.negative_controls``: outcomes that training cannot have moved.

    Each is measured in standard deviations of its untrained rows. Rows without it are left out.

    Raises
    ------
    LdlabError
        If the study is no panel.
    """
    need_panel(study)
    controls = study.program.design.negative_controls
    return tuple(_placebo_kpi(study, control) for control in controls if control.kind == "outcome")


def placebo_group(study: Study) -> Placebo:
    """The leading estimator among the never trained: ``design.columns.placebo_group`` as if it had been trained.

    A rival cause of the effect would have touched that group as well, at about the time of the training; so all of
    it gets one false start, the median start of the trained units (the lower of two), and the other never trained
    units are the comparison.

    Raises
    ------
    LdlabError
        If the study is no panel.
    """
    need_panel(study)
    rows, label = study.frame, "placebo group"
    if "placebo_group" not in rows:
        reason = (
            "The program file names no untrained group that a rival cause would have touched too: fill in "
            "design.columns.placebo_group if there is one."
        )
        return Placebo(label=label, reason=reason)
    never = rows[rows["start"].isna() & rows["placebo_group"].notna()]
    if never.empty:
        return Placebo(label=label, reason="Everyone was trained in the end, so there is no untrained group.")
    starts = rows.groupby("unit")["start"].first().dropna()
    start = starts.quantile(0.5, interpolation="lower")
    flagged = never.groupby("unit")["placebo_group"].transform("max") == 1
    return _estimated(label, _as_if(study, never, pd.Series(start, never.index).where(flagged)))


def spillover(study: Study) -> Placebo:
    """The leading estimator among the never trained: those with a trained teammate as if trained.

    A never trained unit's start is the first period in which it is in a team (``design.columns.team``) where
    someone had been trained; never trained units that never are in such a team are the comparison.

    Raises
    ------
    LdlabError
        If the study is no panel.
    """
    need_panel(study)
    rows, label = study.frame, "spillover"
    if "team" not in rows:
        reason = (
            "The program file names no teams: fill in design.columns.team to look for spillover to teammates."
        )
        return Placebo(label=label, reason=reason)
    never = rows[rows["start"].isna() & rows["team"].notna()]
    team_start = rows[rows["treated"] == 1].groupby("team")["period"].min()
    exposed = never["period"] >= never["team"].map(team_start)
    units = study.program.design.units
    if not exposed.any():
        reason = f"No untrained {units} were in a team with a trained one, so none could pick it up from a teammate."
        return Placebo(label=label, reason=reason)
    first = never["period"].where(exposed).groupby(never["unit"]).transform("min")
    if not first.isna().any():
        reason = f"All untrained {units} had trained teammates, so there is nobody to hold them against."
        return Placebo(label=label, reason=reason)
    return _estimated(label, _as_if(study, never, first))


def last_before_start(study: Study) -> LastBefore:
    """Whether the KPI was off in the last period before training, in either direction.

    A regression with unit and period effects on untrained rows, with a dummy for the last period before the start
    (and before ``design.anticipation``) and, where cohorts have three or more periods before, one for the period
    before that; the earlier periods are the base. Its errors are clustered.

    Returns
    -------
    LastBefore
        Without numbers, and with the reason, where there is no comparison, no cohort with two periods before
        training, or fewer than 5 clusters (units) or the minimum group of units on either side.

    Raises
    ------
    LdlabError
        If the study is no panel.

    Notes
    -----
    Ashenfelter (1978), Review of Economics and Statistics 60: trainees' earnings dip just before training; what
    follows is partly a return to normal. The last period is the base of an event study, where a dip hides.
    """
    need_panel(study)
    period, ready = study.program.design.period, 1 + study.program.design.anticipation
    if not study.has_comparison:
        return LastBefore(reason="There is no comparison group to tell a bad moment from a bad season.")
    before = study.frame["start"] - ready + 1  # periods before the start and its anticipation
    for dummies in (2, 1):
        rows = study.frame[study.frame["start"].isna() | (before > dummies)]
        event = rows["period"] - rows["start"]
        rows = rows[event.isna() | (event <= -ready)]
        off = pd.DataFrame({f"{k}": (event[rows.index] == -ready - k).astype(float) for k in range(dummies)})
        last = off["0"] == 1
        short = _too_few(study, rows, last, rows["period"].isin(rows.loc[last, "period"]))
        if not short:
            break
    else:
        return LastBefore(reason=short if last.any() else f"No cohort has two {period}s before training.")
    try:
        fit = fixed_effects(rows, off, "cluster")
    except LdlabError as problem:
        return LastBefore(reason=str(problem))
    said: dict[str, Any] = {"method": "last period before training", "estimand": "placebo"}
    seen = [
        panel_estimate(study, rows, fit, name, "cluster", term=f"{period} −{ready + k}", **said)
        for k, name in enumerate(("0", "1")[:dummies])
    ]
    return _with_and_without(study, seen)


def _with_and_without(study: Study, seen: list[Estimate]) -> LastBefore:
    """Adds the two leading estimates where the last period is clearly off; ``seen`` are it and the one before."""
    last, same_way = seen[0], [e for e in seen if e.value * seen[0].value > 0]
    if not _is_clear(last):
        return LastBefore(last=last)
    length = 2 if len(same_way) > 1 and _is_clear(same_way[1]) else 1
    return LastBefore(
        last=last, length=length, lead=_or_none(study), without=_or_none(_left_out(study, length))
    )


def _is_clear(estimate: Estimate) -> bool:
    df = np.inf if estimate.df is None else estimate.df
    return bool(stats.t.sf(abs(estimate.value / estimate.se), df) < CLEAR_P)


def _or_none(study: Study) -> Estimate | None:
    try:
        return lead_estimate(study)
    except LdlabError:
        return None


def _left_out(study: Study, length: int) -> Study:
    """The study with that many more periods before the start that do not count as before."""
    program, design = study.program, study.program.design
    if program.estimator == "two_way":  # it has no base period, so these rows are left out instead
        event = study.frame["period"] - study.frame["start"]
        kept = ~event.between(-design.anticipation - length, -design.anticipation - 1)
        return replace(study, frame=study.frame[kept].reset_index(drop=True))
    longer = design.model_copy(update={"anticipation": design.anticipation + length})
    return replace(study, program=program.model_copy(update={"design": longer}))


def _placebo_kpi(study: Study, control: NegativeControl) -> Placebo:
    column = f"negative: {control.column}"
    rows = study.frame[study.frame[column].notna()].reset_index(drop=True)
    spread = float(rows.loc[rows["treated"] == 0, column].std())
    if not spread > 0:
        return Placebo(label=control.label, reason=f"{control.label} does not vary among untrained rows.")
    one = Amount(value=1.0, unit=IN_SD)
    said = {"label": control.label, "unit": IN_SD, "smallest_effect_worth_having": one, "target": one}
    return _estimated(control.label, asked_of(study, rows, rows[column] / spread, **said))


def _as_if(study: Study, rows: pd.DataFrame, start: pd.Series) -> Study:
    """The study of these never trained rows, some of them as if trained from ``start``."""
    frame = rows.assign(
        start=start,
        arm=start.notna().astype(int),
        treated=(rows["period"] >= start).astype(int),
    )
    return replace(study, frame=frame.reset_index(drop=True))


def _estimated(label: str, sub: Study) -> Placebo:
    rows = sub.frame
    short = _too_few(sub, rows, rows["arm"] == 1, rows["arm"].notna())
    if short:
        return Placebo(label=label, reason=short)
    try:
        found = lead_estimate(sub)
    except LdlabError as problem:
        return Placebo(label=label, reason=str(problem))
    return Placebo(label=label, estimate=found.model_copy(update={"estimand": "placebo", "term": label}))


def _too_few(study: Study, rows: pd.DataFrame, trained: pd.Series, compared: pd.Series) -> str:
    """Why too few units or clusters are left on a side, of the rows that are compared; empty if enough."""
    minimum, design = study.program.analysis.minimum_group_size, study.program.design
    sides = [rows[trained], rows[compared & ~trained]]
    if min(side["unit"].nunique() for side in sides) < minimum:
        return f"Fewer than {minimum} {design.units} are left on one side."
    clusters = min(clusters_of(side).nunique() for side in sides)
    if clusters < FEWEST_CLUSTERS:
        return f"Only {clusters} clusters are left on one side: too few to tell an effect from chance."
    return ""
