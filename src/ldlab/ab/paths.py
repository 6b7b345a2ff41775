"""The path of a result: what each look at the growing data said, and what it was allowed to say."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from ldlab.ab.boundaries import after_stopping, apart, boundaries
from ldlab.ab.running import running
from ldlab.ab.sequential import (
    FIRST_CLUSTERS,
    FIRST_OTHERS,
    FIRST_UNITS,
    agreed,
    always_valid_bound,
    always_valid_p,
    as_t_values,
    known_on,
    last_look_reached,
    looks_taken,
    planned_units,
    uncommon,
)
from ldlab.estimate import Estimate, Printed
from ldlab.program import Study

MOST_POINTS = 120
STEPS = ("D", "W-SUN", "ME", "YE")  # days, then ends of weeks, months, years
BEYOND = 30.0  # z values are cut here: no chance can be told from 0

Known = tuple[NDArray[np.intp], list[dt.date | None]]


@dataclass(frozen=True, repr=False)
class Path(Printed):
    """A result over time.

    Attributes
    ----------
    table
        One row per look, the last one the data at hand: ``day`` (missing without dates), ``treated``, ``comparison``,
        ``units``, ``fraction`` of the planned size, ``value``, ``se``, ``df``, ``naive_low`` and ``naive_high`` (meant
        for one look), ``bound`` (z), ``low`` and ``high`` (as agreed; infinite where nothing may be concluded),
        ``crossed``, ``p`` (always-valid, the smallest so far; missing for planned looks). Effect units. Looks at which
        an arm has, or gained since the look before, fewer than the minimum group are left out.
    estimate
        The result now, with the agreed interval.
    method
        'always_valid' or 'group_sequential'.
    looks, planned_looks, planned_units
        Looks taken, planned (0: any number), and units planned for the end.
    finished
        The last planned look is reached.
    undated
        Units without a date; they are known at the last look only.
    bounds
        Group-sequential: fraction and bound of every look taken, also of those that are not shown.
    """

    table: pd.DataFrame = field(repr=False)
    estimate: Estimate
    method: str
    looks: int
    planned_looks: int
    planned_units: int
    finished: bool
    undated: int
    bounds: tuple[tuple[float, float], ...] = ()

    @property
    def first_crossing(self) -> pd.Series | None:
        """The row of the first look at which the agreed interval excluded no effect."""
        crossed = self.table[self.table["crossed"]]
        return None if crossed.empty else crossed.iloc[0]

    @property
    def came_back(self) -> bool:
        """Whether the agreed boundary was crossed and the data at hand are within it."""
        return self.first_crossing is not None and not bool(self.table["crossed"].iloc[-1])

    @property
    def claim(self) -> str:
        """What the path shows, in one sentence."""
        first = self.first_crossing
        if first is None:
            if not np.isfinite(self.table["bound"]).any():
                return "There are too few data yet for the first agreed look"
            so_far = "" if self.finished and self.method == "group_sequential" else " so far"
            return f"The result has not crossed the agreed boundary{so_far}"
        better = first["value"] * self.estimate.sign > 0
        way = "" if better else ", the wrong way"
        said = f"The result crossed the agreed boundary {self.when(first)}{way}"
        return f"{said}, and came back since" if self.came_back else said

    @property
    def sentence(self) -> str:
        """What it means, for a leader."""
        if not self.came_back:
            return f"{self.claim}."
        over = " The test was over at that look." if self.method == "group_sequential" else ""
        return (
            f"{self.claim}: the interval from all data includes no effect again.{over} By the agreed rule an effect was "
            "shown then, but those added since showed less of it; the headline is about all data."
        )

    def when(self, row: pd.Series) -> str:
        """'on 12 May 2025', or 'at 400 units'."""
        day = row["day"]
        return f"at {int(row['units']):,} units" if pd.isna(day) else f"on {day.day} {day:%B %Y}"

    def _rows(self) -> list[tuple[str, str]]:
        kind = "always-valid interval" if self.method == "always_valid" else "planned looks"
        of = f" of {self.planned_looks}" if self.planned_looks else ""
        p = self.table["p"].iloc[-1]
        rows = [
            ("agreed", kind),
            ("looks shown" if not of else "look", f"{self.looks}{of}"),
            ("units", f"{int(self.table['units'].iloc[-1]):,} of {self.planned_units:,} planned"),
            ("now", f"{self.estimate.format(self.estimate.value, sign=True)} {self.estimate.shown_unit}, "
                    f"{self.estimate.interval_text()}"),
            ("in words", self.sentence),
        ]  # fmt: skip
        return rows if math.isnan(p) else [*rows[:-1], ("always-valid p", f"{p:.3g}"), rows[-1]]


def path(study: Study, estimate: Estimate, earlier: Sequence[int] = ()) -> Path | None:
    """The result at each look, recomputed from the data, with the agreed interval; None for a test of one look.

    Parameters
    ----------
    study
        A randomised cross-section of two arms. Units come in the order of ``measured_on``, else ``assigned_on``.
    estimate
        The study's answer from all data, with its plain interval; it is the last point.
    earlier
        As in :func:`agreed`.

    Returns
    -------
    Path
        Always-valid: by days (weeks, months where there are over 120). Group-sequential: the looks taken. Without
        dates only the last point.

    Notes
    -----
    Earlier points are :func:`ldlab.ab.running.running`'s, from sums: the same estimator, whose error may differ
    from that of the last point by a percent or so.
    """
    looks = study.program.looks
    if looks is None or looks.method == "fixed":
        return None
    known = known_on(study)
    sequential = looks.method == "group_sequential"
    taken = looks_taken(study, earlier) or (len(study.frame),)
    at, days = _no_days(study) if known is None else _planned(known, taken) if sequential else _by_day(known)
    table = running(study, at, len(days)).iloc[:-1]
    table["units"] = table["treated"] + table["comparison"]
    table["day"] = days[:-1]
    table = pd.concat([table, _last(study, estimate, days[-1])], ignore_index=True)
    table["fraction"] = table["units"] / planned_units(study)
    bounds = _bounds(study, taken) if sequential else {}
    table["bound"] = (
        table["fraction"].map(bounds).fillna(math.inf) if sequential else _sequence(study, table, at)
    )
    table = _with_intervals(table, study.program.level)
    table.loc[table.index[-1], ["low", "high"]] = (now := agreed(study, estimate, earlier)).low, now.high
    table = _shown(table, study.program.analysis.minimum_group_size)
    table["p"] = math.nan if sequential else _p_values(table, study.program.level)
    return Path(
        table=table.drop(columns="clusters"),
        estimate=now,
        method=looks.method,
        looks=len(taken) if sequential else len(table),
        planned_looks=len(looks.at) if sequential else 0,
        planned_units=planned_units(study),
        finished=last_look_reached(study),
        undated=0 if known is None else int(known.isna().sum()),
        bounds=tuple(bounds.items()),
    )


def adjusted_for_stopping(study: Study, path: Path | None) -> Estimate | None:
    """Estimate and interval after a group-sequential test has stopped, free of the bias of stopping.

    The median-unbiased estimate and the interval of the stage-wise ordering, for the look at which the boundary was
    first crossed, else for the last planned look; with the data of that look. None while the test goes on, and for
    other methods. The repeated interval of :func:`agreed` holds too, and is wider.

    Notes
    -----
    Jennison & Turnbull (1999), sections 8.4 and 8.5. ``se`` is that of the plain estimate at that look.
    """
    if path is None or path.method != "group_sequential" or study.program.looks is None:
        return None
    if path.first_crossing is None and not path.finished:
        return None
    row = path.table.iloc[-1] if path.first_crossing is None else path.first_crossing
    looks = [(fraction, bound) for fraction, bound in path.bounds if fraction <= row["fraction"]]
    fractions, bounds = [list(column) for column in zip(*looks, strict=True)]
    z = float(_as_z(row["value"] / row["se"], row["df"]))
    unit = (row["value"] / z if abs(z) > 1e-6 else row["se"]) * math.sqrt(fractions[-1])
    low, value, high = (
        float(drift * unit) for drift in after_stopping(fractions, bounds, z, study.program.level)
    )
    usual = 2 * float(stats.norm.isf((1 - study.program.level) / 2))
    counts = {"treated": int(row["treated"]), "comparison": int(row["comparison"])}
    made = Estimate.from_t(
        value,
        (high - low) / usual,
        method=f"{path.estimate.method.partition(', repeated')[0]}, adjusted for stopping {path.when(row)}",
        estimand=path.estimate.estimand,
        se_kind=path.estimate.se_kind,
        n={**counts, "clusters": None, "observations": int(row["units"])},
        **study.measure(),
    )
    return made.model_copy(update={"se": float(row["se"]), "low": low, "high": high})


def _no_days(study: Study) -> Known:
    """Without dates all units are known at the one look."""
    return np.zeros(len(study.frame), dtype=np.intp), [None]


def _planned(known: pd.Series, taken: Sequence[int]) -> Known:
    """At which of the looks taken each unit is known, and the looks' days."""
    place = known.argsort(kind="stable").to_numpy()  # missing dates come last
    rank = np.empty(len(known), dtype=np.intp)
    rank[place] = np.arange(len(known))
    ends = known.iloc[place[np.array(taken) - 1]]
    days = [None if pd.isna(day) else day.date() for day in ends]
    days[-1] = known.max().date()
    return np.searchsorted(np.array(taken), rank, side="right"), days


def _by_day(known: pd.Series) -> Known:
    first, last = known.min(), known.max()
    for step in STEPS:
        days = pd.date_range(first, last, freq=step)
        if len(days) <= MOST_POINTS:
            break
    days = days.union([last])
    at = np.searchsorted(days.to_numpy(), known.to_numpy())
    return np.where(known.isna(), len(days) - 1, at), [day.date() for day in days]


def _last(study: Study, estimate: Estimate, day: dt.date | None) -> pd.DataFrame:
    arms = study.frame["arm"].value_counts()
    row = {
        "treated": arms.get(1, 0), "comparison": arms.get(0, 0), "units": len(study.frame), "day": day,
        "clusters": study.frame.groupby("arm")["cluster"].nunique().min() if "cluster" in study.frame else 0,
        "value": estimate.value, "se": estimate.se, "df": math.nan if estimate.df is None else estimate.df,
    }  # fmt: skip
    return pd.DataFrame([row])


def _bounds(study: Study, taken: Sequence[int]) -> dict[float, float]:
    """z values by fraction, of the looks taken; looks that another follows at once have none."""
    looks, level = study.program.looks, study.program.level
    if looks is None or not looks_taken(study):
        return {}
    fractions = apart([units / planned_units(study) for units in taken])
    found = boundaries(fractions, level, looks.spending, final=last_look_reached(study))
    return dict(zip(fractions, found, strict=True))


def _sequence(study: Study, table: pd.DataFrame, at: NDArray[np.intp]) -> pd.Series:
    """Always-valid bounds; infinite at looks with too few units (see :func:`ldlab.ab.sequential.enough_units`)."""
    cell = 2 * at + study.frame["arm"].to_numpy(dtype=np.intp)
    counts = np.bincount(cell, weights=uncommon(study), minlength=2 * len(table)).reshape(-1, 2)
    others = counts.cumsum(axis=0).min(axis=1)
    enough = (table[["treated", "comparison"]].min(axis=1) >= FIRST_UNITS) & (others >= FIRST_OTHERS)
    if "cluster" in study.frame:
        enough &= table["clusters"] >= FIRST_CLUSTERS
    bounds = [always_valid_bound(max(at, 1e-9), study.program.level) for at in table["fraction"]]
    return pd.Series(bounds, index=table.index).where(enough, math.inf)


def _with_intervals(table: pd.DataFrame, level: float) -> pd.DataFrame:
    """Naive and agreed intervals of every look."""
    df = table["df"].where(table["df"].notna(), np.inf)
    naive = stats.t.isf((1 - level) / 2, df) * table["se"]
    reach = as_t_values(table["bound"].to_numpy(), df.to_numpy()) * table["se"]
    return table.assign(
        naive_low=table["value"] - naive,
        naive_high=table["value"] + naive,
        low=(table["value"] - reach).where(np.isfinite(reach), -math.inf),
        high=(table["value"] + reach).where(np.isfinite(reach), math.inf),
    )


def _shown(table: pd.DataFrame, minimum: int) -> pd.DataFrame:
    """Rows whose arms each have, and gained since the row before, the minimum group; the last row in any case."""
    counts = table[["treated", "comparison"]].to_numpy()
    kept: list[int] = []
    for place in np.flatnonzero(table["se"].notna().to_numpy()[:-1]):
        before = counts[kept[-1]] if kept else 0
        if (counts[place] - before).min() >= minimum and (counts[-1] - counts[place]).min() >= minimum:
            kept.append(int(place))
    shown = table.iloc[[*kept, len(table) - 1]].reset_index(drop=True)
    return shown.assign(crossed=(shown["low"] > 0) | (shown["high"] < 0))


def _p_values(table: pd.DataFrame, level: float) -> pd.Series:
    """Always-valid p values, the smallest so far; 1 where no interval is given yet."""
    z = _as_z(table["value"] / table["se"], table["df"])
    rows = zip(z, table["fraction"], table["bound"], strict=True)
    p = [always_valid_p(z, at, level) if math.isfinite(bound) else 1.0 for z, at, bound in rows]
    return pd.Series(p, index=table.index).cummin()


def _as_z(t: Any, df: Any) -> Any:
    """The z value whose tail is that of t; no degrees of freedom means normal."""
    size = stats.norm.isf(stats.t.sf(np.abs(t), np.where(np.isnan(df), np.inf, df)))
    return np.sign(t) * np.minimum(size, BEYOND)
