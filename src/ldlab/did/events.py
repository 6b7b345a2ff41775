"""Effects by time since the start, with leads (event study) and without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ldlab.did.panel import (
    PanelErrors,
    clusters_of,
    fixed_effects,
    has_comparison,
    need_comparison,
    need_panel,
    panel_estimate,
)
from ldlab.estimate import Estimate, Noun
from ldlab.program import LdlabError, Study

REFERENCE = -1


class EventStudy(Noun):
    """Effects by event time: periods since training began, against the last period before it.

    Attributes
    ----------
    estimates
        One for each event time, or pool of event times, in order; ``term`` names it, ``n`` counts the trained
        units seen at it.
    event_times
        The same in numbers; for a pool the event time nearest to the start.
    reference
        The event time that all are compared with, -1.
    covariance
        Covariance matrix of ``leads``, in effect units squared.
    df
        Degrees of freedom of the joint test: clusters - 1.
    """

    estimates: tuple[Estimate, ...]
    event_times: tuple[int, ...]
    reference: int = REFERENCE
    covariance: tuple[tuple[float, ...], ...]
    df: float

    @property
    def leads(self) -> tuple[Estimate, ...]:
        """The estimates before the reference; under parallel trends all of them estimate zero."""
        return self.estimates[: len(self.lead_times)]

    @property
    def lead_times(self) -> tuple[int, ...]:
        """Event times of the leads."""
        return tuple(time for time in self.event_times if time < self.reference)

    def table(self) -> pd.DataFrame:
        """One row per event time as readers see it: effect and interval; the reference as 0.

        Without numbers of trained units: where they step from one event time to the next, the step is a small
        cohort.
        """
        rows = [
            {
                "event time": time, "term": e.term, "effect": e.shown(e.value), "low": e.shown(e.low),
                "high": e.shown(e.high),
            }
            for time, e in zip(self.event_times, self.estimates, strict=True)
        ]  # fmt: skip
        rows.append({"event time": self.reference, "term": "reference", "effect": 0.0})
        table = pd.DataFrame(rows)
        decimals = max(e.decimals for e in self.estimates)
        return table.sort_values("event time").set_index("event time").round(decimals)

    def _printable(self) -> pd.DataFrame:
        unit = self.estimates[0].shown_unit
        return self.table().rename(columns={"effect": f"effect ({unit})"})

    def __str__(self) -> str:
        return self._printable().to_string(na_rep="")

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return self._printable().reset_index().to_html(border=0, na_rep="", index=False)


def effects_since_start(study: Study, *, se: PanelErrors = "cluster") -> tuple[Estimate, ...]:
    """Effect in the period of the start, the next one, and so on, with unit and period effects and no leads.

    All periods before the start serve as the base, so the answer leans on parallel trends throughout; see
    :func:`event_study` for a test of it. Design before_after has no comparison to take period effects from:
    these are then mere changes (estimand 'change'). Event times at which fewer trained units than the
    minimum group are seen are pooled with their neighbour, and ``term`` says so.

    Parameters
    ----------
    study
        A panel, balanced or not.
    se
        As in :func:`two_way_fixed_effects`. These are the settings that give Wooldridge's .1421 clustered by
        firm in his Example 14.1, and ``se="classical"`` his printed .1506.

    Returns
    -------
    tuple of Estimate
        In order of event time; ``n`` counts the trained units seen at it.

    Raises
    ------
    LdlabError
        If the study is no panel, or has too few trained units to show.
    """
    need_panel(study)
    dummies, times = _event_dummies(study, leads=False)
    fit = fixed_effects(study.frame, dummies, se, time_effects=has_comparison(study))
    return _by_event_time(study, fit, dummies, list(times), se, method="effects since the start")


def period_effects(study: Study, *, se: PanelErrors = "cluster") -> pd.DataFrame:
    """How the KPI moved from period to period apart from training: the base of :func:`effects_since_start`.

    Returns
    -------
    DataFrame
        One row per period after the first: ``period`` as in the data, ``effect`` relative to the first period
        and its ``se``, in effect units. The period effects are regressors here, so they are counted in the
        degrees of freedom and clustered errors are wider by about (periods / observations) / 2.
    """
    need_comparison(study)
    dummies, _ = _event_dummies(study, leads=False)
    fit = fixed_effects(study.frame, dummies.join(_period_dummies(study.frame)), se, time_effects=False)
    ranks = [int(name.removeprefix("period ")) for name in fit.params.index if name not in dummies]
    names = [f"period {rank}" for rank in ranks]
    return pd.DataFrame(
        {
            "period": [study.periods[rank] if study.periods else rank for rank in ranks],
            "effect": fit.params[names].to_numpy(),
            "se": fit.std_errors[names].to_numpy(),
        }
    )


def event_study(study: Study) -> EventStudy:
    """Effects by event time relative to the last period before training, clustered by cluster or unit.

    The regression holds unit effects, period effects (but for design before_after, which has no comparison
    to take them from) and a dummy for each event time but -1. Event times at which fewer trained units than
    the minimum group are seen are pooled with their neighbour nearer to the start: this bins the end points
    (Schmidheiny & Siegloch 2023, Journal of Applied Econometrics 38).

    Returns
    -------
    EventStudy
        Without leads where there is one period before training, or too few units in those before it.

    Raises
    ------
    LdlabError
        If the study is no panel, or has too few trained units to show.

    Notes
    -----
    With several cohorts whose effects differ, leads and lags are contaminated by other event times (Sun &
    Abraham 2021, Journal of Econometrics 225).
    """
    need_panel(study)
    dummies, times = _event_dummies(study, leads=True)
    fit = fixed_effects(study.frame, dummies, "cluster", time_effects=has_comparison(study))
    leads = [term for term, time in times.items() if time < REFERENCE]
    covariance = fit.cov.loc[leads, leads].to_numpy()
    return EventStudy(
        estimates=_by_event_time(study, fit, dummies, list(times), "cluster", method="event study"),
        event_times=tuple(times.values()),
        covariance=tuple(tuple(float(x) for x in row) for row in covariance),
        df=float(clusters_of(study.frame).nunique() - 1),
    )


def _by_event_time(
    study: Study, fit: Any, dummies: pd.DataFrame, terms: list[str], se: str, *, method: str
) -> tuple[Estimate, ...]:
    """One estimate per event time; ``n`` counts the trained units seen at it."""
    rows, n = study.frame, study.count()
    seen = {term: int(rows.loc[dummies[term] == 1, "unit"].nunique()) for term in terms}
    return tuple(
        panel_estimate(study, rows, fit, term, se, method=method, term=term, n={**n, "treated": seen[term]})
        for term in terms
    )


def _period_dummies(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.get_dummies(rows["period"], prefix="period", prefix_sep=" ", dtype=float).iloc[:, 1:]


def _event_dummies(study: Study, *, leads: bool) -> tuple[pd.DataFrame, dict[str, int]]:
    """0/1 columns named as terms; and each term's event time, of a pool the one nearest the start."""
    rows, minimum = study.frame, study.program.analysis.minimum_group_size
    event = rows["period"] - rows["start"]
    units = {int(time): frozenset(part) for time, part in rows["unit"].groupby(event)}
    after = _pools({time: units[time] for time in reversed(units) if time >= 0}, minimum)
    if not after:
        raise LdlabError(
            f"effects by event time: found fewer than {minimum} trained units after their start; expected at "
            "least analysis.minimum_group_size."
        )
    before = _pools({time: units[time] for time in units if time < REFERENCE}, minimum) if leads else []
    pools, name = [*before, *reversed(after)], study.program.design.period
    by_term = {_term(pool, min(units), max(units), name): pool for pool in pools}
    dummies = pd.DataFrame({term: event.isin(pool).astype(float) for term, pool in by_term.items()})
    return dummies, {term: min(pool, key=abs) for term, pool in by_term.items()}


def _pools(units: dict[int, frozenset[Any]], minimum: int) -> list[list[int]]:
    """Event times, given from the outside in, joined until each pool holds ``minimum`` units."""
    pools: list[list[int]] = []
    open_pool: list[int] = []
    held: frozenset[Any] = frozenset()
    for time, seen in units.items():
        open_pool.append(time)
        held |= seen
        if len(held) >= minimum:
            pools.append(open_pool)
            open_pool, held = [], frozenset()
    if pools:
        pools[-1] += open_pool
    return pools


def _term(pool: Sequence[int], first: float, last: float, period: str) -> str:
    low, high = (str(time).replace("-", "−") for time in (min(pool), max(pool)))
    if len(pool) == 1:
        return f"{period} {low}"
    if max(pool) == last:
        return f"{period} {low} or later"
    return f"{period} {high} or earlier" if min(pool) == first else f"{period}s {low} to {high}"
