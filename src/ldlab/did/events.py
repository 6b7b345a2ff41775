"""Effects by time since the start, with leads (event study) and without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd

from ldlab.did.clusters import clusters_of
from ldlab.did.panel import (
    PanelErrors,
    fixed_effects,
    need_comparison,
    need_panel,
    panel_estimate,
)
from ldlab.estimate import Estimate, Noun
from ldlab.program import LdlabError, Study

REFERENCE = -1
BAND_DRAWS = 20_000


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
        The event time that all are compared with: -1, or earlier by the periods of anticipation.
    covariance_all
        (event times, event times) covariance matrix, in effect units squared.
    df
        Degrees of freedom of joint tests: clusters - 1.
    critical
        Half-width, in standard errors, of bands that hold all effects together at the program's level.
    """

    estimates: tuple[Estimate, ...]
    event_times: tuple[int, ...]
    reference: int = REFERENCE
    covariance_all: tuple[tuple[float, ...], ...]
    df: float
    critical: float

    @property
    def leads(self) -> tuple[Estimate, ...]:
        """The estimates before the reference; under parallel trends all of them estimate zero."""
        return self.estimates[: len(self.lead_times)]

    @property
    def lead_times(self) -> tuple[int, ...]:
        """Event times of the leads."""
        return tuple(time for time in self.event_times if time < self.reference)

    @property
    def covariance(self) -> tuple[tuple[float, ...], ...]:
        """Covariance matrix of ``leads``."""
        m = len(self.lead_times)
        return tuple(row[:m] for row in self.covariance_all[:m])

    @property
    def effects(self) -> np.ndarray:
        """(event times,) effects, in effect units."""
        return np.array([e.value for e in self.estimates])

    @property
    def band_low(self) -> tuple[float, ...]:
        """Lower bounds of the simultaneous band, one for each event time."""
        return tuple(e.value - self.critical * e.se for e in self.estimates)

    @property
    def band_high(self) -> tuple[float, ...]:
        """Upper bounds of the simultaneous band."""
        return tuple(e.value + self.critical * e.se for e in self.estimates)

    def table(self) -> pd.DataFrame:
        """One row per event time as readers see it: effect, interval and band; the reference as 0.

        Without numbers of trained units: where they step from one event time to the next, the step is a small
        cohort.
        """
        rows = [
            {
                "event time": time, "term": e.term, "effect": e.shown(e.value), "low": e.shown(e.low),
                "high": e.shown(e.high), "band low": e.shown(low), "band high": e.shown(high),
            }
            for time, e, low, high in zip(
                self.event_times, self.estimates, self.band_low, self.band_high, strict=True
            )
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


def event_study_of(
    study: Study, estimates: Sequence[Estimate], event_times: Sequence[int], covariance: np.ndarray, df: float
) -> EventStudy:
    """The event study of these estimates, with its simultaneous bands."""
    settings = study.program.analysis
    return EventStudy(
        estimates=tuple(estimates),
        event_times=tuple(event_times),
        reference=REFERENCE - study.program.design.anticipation,
        covariance_all=tuple(tuple(float(x) for x in row) for row in covariance),
        df=float(df),
        critical=simultaneous_critical(covariance, df, settings.interval_level, settings.seed),
    )


def simultaneous_critical(covariance: np.ndarray, df: float, level: float, seed: int) -> float:
    """Half-width, in standard errors, at which bands hold all effects together with chance ``level``.

    Parameters
    ----------
    covariance
        (effects, effects); of any rank.
    df
        Degrees of freedom of the errors.
    level, seed
        Chance that no effect lies outside its band; seed of the draws.

    Notes
    -----
    The sup-t band: the quantile of the largest of jointly t-distributed errors, from 20,000 draws (Montiel Olea
    & Plagborg-Moeller 2019, Journal of Applied Econometrics 34).
    """
    scale = np.sqrt(np.diag(covariance))
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    root = vectors * np.sqrt(np.clip(values, 0, None))
    rng = np.random.default_rng(seed)
    errors = rng.standard_normal((BAND_DRAWS, len(scale))) @ root.T
    largest = np.abs(errors).max(axis=1) / np.sqrt(rng.chisquare(df, BAND_DRAWS) / df)
    return float(np.quantile(largest, level))


def effects_since_start(study: Study, *, se: PanelErrors = "cluster") -> tuple[Estimate, ...]:
    """Effect in the period of the start, the next one, and so on, with unit and period effects and no leads.

    All periods before the start (and before any anticipation) serve as the base, so the answer leans on parallel
    trends throughout; see :func:`event_study` for a test of it. Design before_after has no comparison to take
    period effects from: these are then mere changes (estimand 'change'). Event times at which fewer trained
    units than the minimum group are seen are pooled with their neighbour, and ``term`` says so.

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
    fit = fixed_effects(study.frame, dummies, se, time_effects=study.has_comparison)
    since = [term for term, time in times.items() if time >= 0]
    return _by_event_time(study, fit, dummies, since, se, method="effects since the start")


def first_differences(study: Study, *, se: PanelErrors = "cluster") -> tuple[Estimate, ...]:
    """The same effects from each unit's changes from period to period, with period effects.

    It leans on other changes than :func:`effects_since_start` does: where the two are far apart, units did not move
    around fixed levels. Only units seen in the period before count in a period.

    Parameters
    ----------
    study
        A panel with a comparison.
    se
        'cluster' by the program's cluster column, else by unit; 'classical' for independent changes.

    Raises
    ------
    LdlabError
        If the study is no panel with a comparison, or has too few trained units to show.

    Notes
    -----
    linearmodels ``FirstDifferenceOLS``; Wooldridge, Introductory Econometrics, section 14.1.
    """
    from linearmodels.panel import FirstDifferenceOLS

    need_comparison(study)
    rows = study.frame
    dummies, times = _event_dummies(study, leads=False)
    index = pd.MultiIndex.from_frame(rows[["unit", "period"]])
    options: dict[str, Any] = {"cov_type": "unadjusted"}
    if se == "cluster":
        codes = pd.DataFrame({"cluster": pd.factorize(clusters_of(rows))[0]}, index=index)
        options = {"cov_type": "clustered", "clusters": codes, "debiased": True}
    design = dummies.join(_period_dummies(rows)).set_axis(index)
    fit = FirstDifferenceOLS(rows["outcome"].astype(float).set_axis(index), design).fit(**options)
    return _by_event_time(study, fit, dummies, list(times), se, method="first differences")


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


class ByEvent(Protocol):
    """What :func:`event_study` reads of :class:`ldlab.did.GroupTime`."""

    @property
    def by_event(self) -> EventStudy: ...  # noqa: D102


def event_study(study: Study, effects: ByEvent | None = None) -> EventStudy:
    """Effects by event time relative to the last period before training, clustered by cluster or unit.

    In a staggered design those of the group-time ``effects``, where they are given; else a two-way regression.

    The regression holds unit effects, period effects (but for design before_after, which has no comparison
    to take them from) and a dummy for each event time but the last before training and its anticipation. Event
    times at which fewer trained units than the minimum group are seen are pooled with their neighbour nearer to
    the start: this bins the end points (Schmidheiny & Siegloch 2023, Journal of Applied Econometrics 38).

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
    if effects is not None and study.program.design.kind == "staggered":
        return effects.by_event
    dummies, times = _event_dummies(study, leads=True)
    fit = fixed_effects(study.frame, dummies, "cluster", time_effects=study.has_comparison)
    terms = list(times)
    return event_study_of(
        study,
        _by_event_time(study, fit, dummies, terms, "cluster", method="event study"),
        list(times.values()),
        fit.cov.loc[terms, terms].to_numpy(),
        clusters_of(study.frame).nunique() - 1,
    )


def _by_event_time(
    study: Study, fit: Any, dummies: pd.DataFrame, terms: list[str], se: str, *, method: str
) -> tuple[Estimate, ...]:
    """One estimate per event time; ``n`` counts the trained units seen at it."""
    rows, n = study.frame, study.count()
    unit = pd.factorize(rows["unit"])[0]
    seen = {term: int(np.unique(unit[dummies[term].to_numpy() == 1]).size) for term in terms}
    df = clusters_of(rows).nunique() - 1 if se == "cluster" else fit.df_resid
    return tuple(
        panel_estimate(
            study, rows, fit, term, se, df=df, method=method, term=term, n={**n, "treated": seen[term]}
        )
        for term in terms
    )


def _period_dummies(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.get_dummies(rows["period"], prefix="period", prefix_sep=" ", dtype=float).iloc[:, 1:]


def _event_dummies(study: Study, *, leads: bool) -> tuple[pd.DataFrame, dict[str, int]]:
    """0/1 columns named as terms; and each term's event time, of a pool the one nearest the start."""
    rows, minimum = study.frame, study.program.analysis.minimum_group_size
    event, reference = rows["period"] - rows["start"], REFERENCE - study.program.design.anticipation
    unit = pd.Series(pd.factorize(rows["unit"])[0], index=rows.index)
    units = {int(time): frozenset(part.tolist()) for time, part in unit.groupby(event)}
    after = _pools({time: units[time] for time in reversed(units) if time >= 0}, minimum)
    if not after:
        raise LdlabError(
            f"effects by event time: found fewer than {minimum} trained units after their start; expected at "
            "least analysis.minimum_group_size."
        )
    before = _pools({time: units[time] for time in units if time < reference}, minimum) if leads else []
    expecting = _pools({time: units[time] for time in units if reference < time < 0}, minimum)
    pools, name = [*before, *expecting, *reversed(after)], study.program.design.period
    by_term = {_term(pool, min(units), max(units), name): pool for pool in pools}
    time, columns = event.to_numpy(), np.zeros((len(by_term), len(rows)))
    for column, pool in zip(columns, by_term.values(), strict=True):
        for member in pool:
            column[time == member] = 1
    dummies = pd.DataFrame(columns.T, index=rows.index, columns=list(by_term), copy=False)
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
