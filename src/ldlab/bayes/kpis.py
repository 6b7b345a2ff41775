"""Every KPI of an experiment with a model of its own kind: primary, secondary, guard-rails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from ldlab.bayes.checks import convergence_checks
from ldlab.bayes.compiled import Sampling
from ldlab.bayes.panel import PanelPosterior
from ldlab.bayes.posterior import Posterior, estimate, fit
from ldlab.estimate import Estimate, Printed, format_chance
from ldlab.program import LdlabError, Study

Role = Literal["primary", "secondary", "guard-rail"]


@dataclass(frozen=True, repr=False)
class KpiPosterior(Printed):
    """The posterior of one KPI's effect.

    Attributes
    ----------
    role, kpi
        What the KPI was agreed to be, and its label.
    estimate
        None where ``reason`` says why: data that cannot be modelled, or chains that did not converge.
    p_harm
        Guard-rails: chance of harm beyond the largest acceptable one; else None.
    state
        Guard-rails: 'held' where that chance is at most (1 - level) / 2, as the lower bound of the interval would say,
        'breached' where at least 1 - (1 - level) / 2; else 'not shown'. Empty for other KPIs.
    """

    role: Role
    kpi: str
    estimate: Estimate | None = None
    p_harm: float | None = None
    state: Literal["held", "not shown", "breached", ""] = ""
    reason: str = ""

    @property
    def sentence(self) -> str:
        """For a leader."""
        e = self.estimate
        if e is None:
            return f"{self.kpi}: not estimated, {self.reason}"
        if self.p_harm is not None:
            limit = f"{e.format(abs(e.smallest)).lstrip('−')} {e.shown_unit}"
            return f"{self.kpi}: chance of harm beyond {limit} is {format_chance(self.p_harm)}, {self.state}."
        return f"{self.kpi}: chance of any gain {format_chance(e.p_gain)}, of one worth having {format_chance(e.p_worthwhile)}."

    def _rows(self) -> list[tuple[str, str]]:
        e = self.estimate
        effect = "" if e is None else f" {e.format(e.value, sign=True)} {e.shown_unit} ({e.interval_text()})."
        return [(self.role, f"{self.sentence}{effect}")]


@dataclass(frozen=True, repr=False)
class KpiPosteriors(Printed):
    """Posteriors of all KPIs in the order of the program file. Made by :func:`kpis`."""

    kpis: tuple[KpiPosterior, ...]

    @property
    def table(self) -> pd.DataFrame:
        """One row for each KPI."""
        return pd.DataFrame([_row(one) for one in self.kpis])

    @property
    def may_scale(self) -> bool:
        """Whether every guard-rail held."""
        return all(one.state == "held" for one in self.kpis if one.role == "guard-rail")

    def _rows(self) -> list[tuple[str, str]]:
        return [row for one in self.kpis for row in one._rows()]

    def _repr_html_(self) -> str:
        return self.table.to_html(border=0, index=False)


def kpis(
    study: Study, *, primary: Posterior | PanelPosterior | None = None, sampling: Sampling | None = None
) -> KpiPosteriors | None:
    """Fit each KPI by :func:`ldlab.bayes.fit`: the family of its value type, the default priors in its own unit.

    Secondary KPIs and guard-rails that are no normal measures are fitted without covariates and segments: that is
    right where lots were drawn, and many times quicker.

    The KPIs are fitted one by one: each chance is that KPI's own, and chances of several are not multiplied. Models of
    one family and shape are compiled once.

    Parameters
    ----------
    study
        An experiment; with several program arms ``study.lead_comparison``.
    primary
        The primary KPI's posterior where there is one already.
    sampling
        As in :func:`ldlab.bayes.fit`.

    Returns
    -------
    KpiPosteriors or None
        None where the program names no other KPI. One that cannot be modelled, or whose chains did not converge, stands
        there with the reason.
    """
    if not (study.secondary or study.guard_rails):
        return None
    found = [_primary(study, primary, sampling)]
    asked: list[tuple[Role, Sequence[Study]]] = [
        ("secondary", study.secondary),
        ("guard-rail", study.guard_rails),
    ]
    for role, studies in asked:
        found += [_one(other, role, sampling) for other in studies]
    return KpiPosteriors(tuple(found))


def _primary(
    study: Study, posterior: Posterior | PanelPosterior | None, sampling: Sampling | None
) -> KpiPosterior:
    return _one(study, "primary", sampling) if posterior is None else _read(study, "primary", posterior)


def _one(study: Study, role: Role, sampling: Sampling | None) -> KpiPosterior:
    try:
        posterior = fit(_light(study), sampling=sampling)
    except LdlabError as error:
        return KpiPosterior(role, study.program.kpi.label, reason=str(error))
    return _read(study, role, posterior)


def _light(study: Study) -> Study:
    """The study without what would make a count's or share's model slow; chance made the arms alike without it."""
    if study.program.kpi.value_type in ("continuous", "duration"):
        return study
    return replace(study, covariates=(), frame=study.frame.drop(columns="segment", errors="ignore"))


def _read(study: Study, role: Role, posterior: Posterior | PanelPosterior) -> KpiPosterior:
    label = study.program.kpi.label
    broken = [check for check in convergence_checks(posterior) if check.status == "failed"]
    if broken:
        return KpiPosterior(role, label, reason=broken[0].sentence)
    effect = estimate(posterior)
    if role != "guard-rail":
        return KpiPosterior(role, label, effect)
    assert effect.draws is not None
    p_harm = float((effect.sign * np.asarray(effect.draws) < -abs(_limit(study))).mean())
    tail = (1 - effect.level) / 2
    state: Literal["held", "not shown", "breached"] = (
        "held" if p_harm <= tail else "breached" if p_harm >= 1 - tail else "not shown"
    )
    return KpiPosterior(role, label, effect, p_harm, state)


def _limit(study: Study) -> float:
    """The largest acceptable harm in effect units; a guard-rail's smallest effect is that size (``GuardRail.as_kpi``)."""
    return study.smallest


def _row(one: KpiPosterior) -> dict[str, str]:
    e = one.estimate
    if e is None:
        return {"role": one.role, "KPI": one.kpi, "verdict": f"not estimated: {one.reason}"}
    return {
        "role": one.role,
        "KPI": one.kpi,
        "effect": f"{e.format(e.value, sign=True)} {e.shown_unit}",
        "range": f"{e.format(e.low, sign=True)} to {e.format(e.high, sign=True)}",
        "any gain": format_chance(e.p_gain),
        "worth having": "" if one.p_harm is not None else format_chance(e.p_worthwhile),
        "harm beyond the limit": "" if one.p_harm is None else format_chance(one.p_harm),
        "verdict": one.state,
    }
