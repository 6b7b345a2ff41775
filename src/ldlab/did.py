"""Panels: two-way fixed effects, effects since the start, event study, placebo start, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import statsmodels.api as sm
from linearmodels.panel import PanelOLS
from linearmodels.panel.data import PanelData
from linearmodels.panel.utility import AbsorbingEffectError

from ldlab.estimate import Estimate, Noun
from ldlab.program import LdlabError, Study

PanelErrors = Literal["cluster", "classical"]
DifferenceErrors = Literal["classical", "HC1", "cluster"]
REFERENCE = -1
PLACEBO_PERIODS = 3  # periods before training that a placebo start needs

__all__ = [
    "EventStudy",
    "before_after",
    "effects_since_start",
    "event_study",
    "first_difference",
    "lead_estimate",
    "negative_weights",
    "period_effects",
    "placebo_start",
    "two_way_fixed_effects",
]


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
        """One row per event time as readers see it: effect, interval, trained units; the reference as 0."""
        rows = [
            {
                "event time": time, "term": e.term, "effect": e.shown(e.value), "low": e.shown(e.low),
                "high": e.shown(e.high), "trained units": e.n["treated"],
            }
            for time, e in zip(self.event_times, self.estimates, strict=True)
        ]  # fmt: skip
        rows.append({"event time": self.reference, "term": "reference", "effect": 0.0})
        table = pd.DataFrame(rows).astype({"trained units": "Int64"})
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


def two_way_fixed_effects(study: Study, *, se: PanelErrors = "cluster") -> Estimate:
    """Difference-in-differences: regression on treated with unit and period effects.

    Parameters
    ----------
    study
        A panel, balanced or not.
    se
        'cluster': by the program's cluster column, else by unit; t with clusters - 1 degrees of freedom.
        'classical': independent errors with equal variance, unit and period effects counted.

    Returns
    -------
    Estimate
        The ATT where training starts together, or where its effect is the same for all and does not grow;
        otherwise a weighted mean of effects whose weights can be negative (see :func:`negative_weights`).

    Raises
    ------
    LdlabError
        If the study is no panel with a comparison, or the effects leave nothing of the treatment.

    Notes
    -----
    linearmodels with ``group_debias=True``. Where units nest in clusters, ``auto_df=False,
    count_effects=False``: the unit effects are then not charged a second time (linearmodels' default for two
    effects charges them: sqrt(2) too wide for two periods). Cameron & Miller (2015), Journal of Human
    Resources 50, section III.B.
    """
    _need_comparison(study)
    rows = study.frame
    fit = _fit(rows, rows[["treated"]].astype(float), se)
    return _estimate(study, rows, fit, "treated", se, method="two-way fixed effects")


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
    _need_panel(study)
    dummies, times = _event_dummies(study, leads=False)
    fit = _fit(study.frame, dummies, se, time_effects=_has_comparison(study))
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
    _need_comparison(study)
    dummies, _ = _event_dummies(study, leads=False)
    fit = _fit(study.frame, dummies.join(_period_dummies(study.frame)), se, time_effects=False)
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
    _need_panel(study)
    dummies, times = _event_dummies(study, leads=True)
    fit = _fit(study.frame, dummies, "cluster", time_effects=_has_comparison(study))
    leads = [term for term, time in times.items() if time < REFERENCE]
    covariance = fit.cov.loc[leads, leads].to_numpy()
    return EventStudy(
        estimates=_by_event_time(study, fit, dummies, list(times), "cluster", method="event study"),
        event_times=tuple(times.values()),
        covariance=tuple(tuple(float(x) for x in row) for row in covariance),
        df=float(_clusters(study.frame).nunique() - 1),
    )


def first_difference(study: Study, *, se: DifferenceErrors = "cluster") -> Estimate:
    """Two periods: regression of each unit's change on the change in its treatment.

    Units seen in one period only say nothing about a change and are left out; ``n`` counts those used.

    Parameters
    ----------
    study
        A panel of exactly two periods.
    se
        'classical' and 'HC1' with t of n - 2; 'cluster' by the program's cluster column, else by unit.

    Raises
    ------
    LdlabError
        If there are not exactly two periods, or the study is no panel with a comparison.

    Notes
    -----
    Wooldridge, Introductory Econometrics, section 13.3. The estimate equals :func:`two_way_fixed_effects`.
    """
    _need_comparison(study)
    if se not in ("cluster", "classical", "HC1"):
        raise LdlabError(f"se: found '{se}'; expected 'cluster', 'classical' or 'HC1'.")
    ranks = sorted(study.frame["period"].unique())
    if len(ranks) != 2:
        raise LdlabError(
            f"first_difference: found {len(ranks)} periods; expected 2. For more use two_way_fixed_effects."
        )
    before, after = (study.frame[study.frame["period"] == rank].set_index("unit") for rank in ranks)
    both = before.index.intersection(after.index)
    columns = ["outcome", "treated"]
    change = (after.loc[both, columns] - before.loc[both, columns]).astype(float)
    rows = study.frame[study.frame["unit"].isin(both)]
    model = sm.OLS(change["outcome"], sm.add_constant(change["treated"]))
    if se == "cluster":
        groups = pd.factorize(_clusters(before.loc[both].reset_index()))[0]
        fit = model.fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
        df: float = len(np.unique(groups)) - 1
    else:
        fit = model.fit(cov_type="nonrobust" if se == "classical" else se, use_t=True)
        df = fit.df_resid
    return Estimate.from_t(
        fit.params["treated"],
        fit.bse["treated"],
        df=df,
        method="first difference",
        estimand=study.estimand,
        se_kind=_se_kind(study, se),
        n=study.count(rows),
        **study.measure(),
    )


def placebo_start(study: Study) -> Estimate | None:
    """Pretend that training began k periods earlier: its effect before it truly began should be none.

    Only rows of units not yet trained are used, and only cohorts with at least 3 periods before training.
    k is half the shortest of these cohorts' pre-periods, rounded down: the false start splits them in two.

    Returns
    -------
    Estimate or None
        Two-way fixed effects with clustered errors, estimand 'placebo'; ``term`` says what k was. None where
        no cohort has 3 periods before training, or an arm is left with fewer units than the minimum group
        (always so without a comparison).

    Raises
    ------
    LdlabError
        If the study is no panel.
    """
    _need_panel(study)
    frame, minimum = study.frame, study.program.analysis.minimum_group_size
    long_enough = frame["start"].isna() | (frame["start"] >= PLACEBO_PERIODS)
    rows = frame[long_enough & (frame["treated"] == 0)]
    starts = rows["start"].dropna()
    rows = rows[rows["period"] < starts.max()] if len(starts) else rows
    units = rows.groupby("arm")["unit"].nunique()
    if min(units.get(0, 0), units.get(1, 0)) < minimum:
        return None
    k = int(starts.min()) // 2
    false_start = (rows["period"] >= rows["start"] - k).astype(float).to_frame("placebo")
    fit = _fit(rows, false_start, "cluster")
    earlier = f"{k} {study.program.design.period}{'s' * (k != 1)} earlier"
    method, estimand = "placebo start", "placebo"
    return _estimate(study, rows, fit, "placebo", "cluster", method=method, estimand=estimand, term=earlier)


def negative_weights(study: Study) -> float:
    """Share of treated cells that the two-way regression counts with the wrong sign.

    The weight of a treated cell (unit and period) is proportional to the residual of ``treated`` after unit
    and period effects; where it is negative, a larger effect there lowers the estimate (de Chaisemartin &
    D'Haultfoeuille 2020, American Economic Review 110, theorem 1).

    Returns
    -------
    float
        Between 0 and 1.
    """
    _need_panel(study)
    panel = study.frame.set_index(["unit", "period"])
    residual = PanelData(panel[["treated"]].astype(float)).demean("both", low_memory=True).values2d[:, 0]
    treated = panel["treated"].to_numpy() == 1
    return float((residual[treated] < -1e-10).mean())


def before_after(study: Study) -> Estimate:
    """Mean change within units: after the start less before it. There is no comparison, so no causal claim.

    Each unit's mean over its periods before training is taken from its mean over those after it; units seen
    only on one side are left out, and ``n`` counts those used. t with units - 1 (clusters - 1) degrees of
    freedom; the error is that of the mean of the changes, clustered where the program names a cluster.

    Raises
    ------
    LdlabError
        If the study is no panel, or fewer units than the minimum group are seen before and after.
    """
    _need_panel(study)
    trained = study.frame[study.frame["arm"] == 1]
    means = trained.groupby(["unit", "treated"])["outcome"].mean().unstack()
    change = (means[1] - means[0]).dropna() if {0, 1} <= set(means) else pd.Series(dtype=float)
    minimum = study.program.analysis.minimum_group_size
    if len(change) < minimum:
        raise LdlabError(
            f"before_after: found fewer than {minimum} units seen both before and after training; expected "
            "at least analysis.minimum_group_size."
        )
    rows = trained[trained["unit"].isin(change.index)]
    groups = pd.factorize(_clusters(rows).groupby(rows["unit"]).first().loc[change.index])[0]
    model = sm.OLS(change, np.ones(len(change)))
    fit = model.fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    return Estimate.from_t(
        fit.params.iloc[0],
        fit.bse.iloc[0],
        df=len(np.unique(groups)) - 1,
        method="mean change within units",
        estimand="change",
        se_kind=_se_kind(study, "cluster"),
        n=study.count(rows),
        **study.measure(),
    )


def lead_estimate(study: Study) -> Estimate:
    """The estimate that leads a panel study, by its design: never by its result.

    :func:`before_after` where there is no comparison, :func:`two_way_fixed_effects` elsewhere.
    """
    if study.program.design.kind == "before_after":
        return before_after(study)
    return two_way_fixed_effects(study)


def _fit(rows: pd.DataFrame, regressors: pd.DataFrame, se: str, *, time_effects: bool = True) -> Any:
    """The fixed-effects regression; ``regressors`` share the index of ``rows``."""
    if se not in ("cluster", "classical"):
        raise LdlabError(f"se: found '{se}'; expected 'cluster' or 'classical'.")
    index = pd.MultiIndex.from_frame(rows[["unit", "period"]])
    outcome, design = rows["outcome"].astype(float).set_axis(index), regressors.set_axis(index)
    options: dict[str, Any] = {"cov_type": "unadjusted", "low_memory": True}
    if se == "cluster":
        clusters = _clusters(rows)
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


def _estimate(
    study: Study, rows: pd.DataFrame, fit: Any, regressor: str, se: str, *, method: str, **said: Any
) -> Estimate:
    fields = {"estimand": study.estimand, "n": study.count(rows), **study.measure(), **said}
    return Estimate.from_t(
        fit.params[regressor],
        fit.std_errors[regressor],
        df=_clusters(rows).nunique() - 1 if se == "cluster" else fit.df_resid,
        method=method,
        se_kind=_se_kind(study, se),
        **fields,
    )


def _by_event_time(
    study: Study, fit: Any, dummies: pd.DataFrame, terms: list[str], se: str, *, method: str
) -> tuple[Estimate, ...]:
    """One estimate per event time; ``n`` counts the trained units seen at it."""
    rows, n = study.frame, study.count()
    seen = {term: int(rows.loc[dummies[term] == 1, "unit"].nunique()) for term in terms}
    return tuple(
        _estimate(study, rows, fit, term, se, method=method, term=term, n={**n, "treated": seen[term]})
        for term in terms
    )


def _clusters(rows: pd.DataFrame) -> pd.Series:
    return rows["cluster"] if "cluster" in rows else rows["unit"]


def _se_kind(study: Study, se: str) -> str:
    columns = study.program.design.columns
    return f"cluster by {columns.cluster or columns.unit}" if se == "cluster" else se


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


def _need_panel(study: Study) -> None:
    if not study.program.is_panel:
        raise LdlabError(
            f"ldlab.did: found design {study.program.design.kind}, one row per unit; expected a panel "
            "(staggered, two_group_before_after or before_after). For cross-sections use ldlab.ab."
        )


def _has_comparison(study: Study) -> bool:
    return study.frame["arm"].nunique() > 1


def _need_comparison(study: Study) -> None:
    _need_panel(study)
    if not _has_comparison(study):
        raise LdlabError(
            "ldlab.did: found one arm; expected trained and comparison units. Without a comparison use "
            "before_after."
        )
