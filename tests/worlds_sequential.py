"""How often sequential intervals err, by simulation: ``python -m tests.worlds_sequential [runs, runs by path]``.

Each run is one experiment of 60 days, read every day (or at five planned looks). With no effect every crossing is a false
alarm; with an effect the interval errs if it leaves out the truth at any look. :func:`quick` computes the difference
in means from sums of plain arrays; :func:`simulate` goes through :func:`ldlab.ab.path`, for every estimator. A test holds
that both give the same numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from ldlab.ab.boundaries import boundaries
from ldlab.ab.means import difference_in_means, regression_adjusted
from ldlab.ab.paths import Path, adjusted_for_stopping, path
from ldlab.ab.ratio import ratio_difference
from ldlab.ab.sequential import FIRST_OTHERS, FIRST_UNITS, always_valid_bound, as_t_values
from ldlab.program import Study
from tests.studies import make_study

DAYS, LOOKS, LEVEL = 60, 5, 0.9
Frame = dict[str, Any]
Vector = NDArray[np.float64]
Maker = Callable[[np.random.Generator, NDArray[np.int64]], Frame]


@dataclass(frozen=True)
class World:
    """A kind of data: how the columns come about, given the arms, and what is agreed."""

    make: Maker
    share: float = 0.5
    effect: float = 0.0
    units: int = 2400
    planned: int = 2400
    method: str = "always_valid"
    value_type: str = "continuous"
    adjusted: bool = False
    spending: str = "obrien_fleming"


def _normal(rng: np.random.Generator, arm: NDArray[np.int64]) -> Frame:
    return {"outcome": rng.normal(size=len(arm))}


def _events(chance: float) -> Maker:
    return lambda rng, arm: {"outcome": 100.0 * (rng.random(len(arm)) < chance)}


def _lognormal(rng: np.random.Generator, arm: NDArray[np.int64]) -> Frame:
    return {"outcome": rng.lognormal(0, 1.5, len(arm))}


def _heavy(rng: np.random.Generator, arm: NDArray[np.int64]) -> Frame:
    return {"outcome": rng.standard_t(3, len(arm))}


def _with_before(rng: np.random.Generator, arm: NDArray[np.int64]) -> Frame:
    before = rng.normal(size=len(arm))
    return {"before it": before, "outcome": before + 0.5 * rng.normal(size=len(arm))}


def _in_teams(rng: np.random.Generator, arm: NDArray[np.int64]) -> Frame:
    """Teams of 20 assigned whole; their members come in throughout."""
    teams = len(arm) // 20
    team = rng.permutation(np.arange(len(arm)) % teams)
    assigned = rng.permutation(np.arange(teams) % 2)
    shared = rng.normal(0, 0.5, teams)
    return {
        "arm": assigned[team],
        "cluster": team.astype(str),
        "outcome": shared[team] + rng.normal(size=len(arm)),
    }


def _rate(rng: np.random.Generator, arm: NDArray[np.int64]) -> Frame:
    exposure = rng.gamma(2, 20, len(arm)) + 1
    count = rng.poisson(exposure * rng.gamma(4, 0.025, len(arm)))
    return {"count": count.astype(float), "exposure": exposure, "outcome": count / exposure}


WORLDS: dict[str, World] = {
    "normal": World(_normal),
    "normal, tuned for 600": World(_normal, planned=600),
    "5% events": World(_events(0.05), value_type="binary"),
    "2% events, 20% treated": World(_events(0.02), share=0.2, value_type="binary"),
    "log-normal, sigma 1.5": World(_lognormal),
    "log-normal, 20% treated": World(_lognormal, share=0.2),
    "t with 3 df": World(_heavy),
    "normal, 10% treated, 1,200 units": World(_normal, share=0.1, units=1200, planned=1200),
    "adjusted for the KPI before": World(_with_before, adjusted=True),
    "teams of 20": World(_in_teams),
    "rate, total over total": World(_rate, value_type="rate"),
    "normal, effect 0.15": World(_normal, effect=0.15),
    "five looks, O'Brien-Fleming": World(_normal, method="group_sequential"),
    "five looks, Pocock": World(_normal, method="group_sequential", spending="pocock"),
    "five looks, Pocock, 300 units": World(
        _normal, method="group_sequential", spending="pocock", units=300, planned=300
    ),
    "five looks, Pocock, effect 0.1": World(
        _normal, method="group_sequential", spending="pocock", effect=0.1
    ),
}


PLAIN = [
    world.make for world in WORLDS.values() if not world.adjusted and world.make not in (_in_teams, _rate)
]


def template(world: World) -> Study:
    """A study of the world's kind, whose frame each run replaces."""
    rng = np.random.default_rng(0)
    looks: dict[str, Any] = {"method": world.method, "planned_units": world.planned}
    if world.method == "group_sequential":
        looks |= {"at": [world.planned * k // LOOKS for k in range(1, LOOKS + 1)], "spending": world.spending}
    kpi: dict[str, Any] = {"value_type": world.value_type}
    amount = {"value": 1.0, "unit": "percentage points"}
    if world.value_type == "binary":
        kpi |= {"unit": "percentage points", "target": amount, "smallest_effect_worth_having": amount}
    if world.value_type == "rate":
        kpi |= {"exposure_column": "exposure"}
    agreement = {"estimator": "adjusted" if world.adjusted else "difference"}
    covariates = ("before it",) if world.adjusted else ()
    design = {"kind": "randomised", "columns": {"measured_on": "measured_on"}}
    return make_study(
        frame(world, rng), design, covariates=covariates, level=LEVEL, minimum=5, kpi=kpi, looks=looks,
        agreement=agreement,
    )  # fmt: skip


def frame(world: World, rng: np.random.Generator) -> pd.DataFrame:
    """One experiment's rows."""
    arm = (rng.random(world.units) < world.share).astype(np.int64)
    day = np.arange(world.units) * DAYS // world.units
    columns = {"arm": arm, **world.make(rng, arm)}
    columns["outcome"] = columns["outcome"] + world.effect * columns["arm"]
    dates = pd.Timestamp("2026-01-05") + pd.to_timedelta(day, unit="D")
    units = [f"u{i}" for i in range(world.units)]
    return pd.DataFrame({"unit": units, **columns, "treated": columns["arm"], "measured_on": dates})


def one_run(study: Study, world: World) -> Path:
    """The path of one experiment."""
    if world.value_type == "rate":
        estimate = ratio_difference(study)
    else:
        estimate = regression_adjusted(study) if world.adjusted else difference_in_means(study)
    found = path(study, estimate)
    assert found is not None
    return found


def simulate(world: World, runs: int, seed: int = 1) -> pd.Series:
    """Shares of runs: ``crossed`` (any look), ``missed`` the truth at any look, ``naive`` crossed, and after stopping
    ``adjusted`` intervals that miss the truth and ``above`` of the estimates over it (group-sequential)."""
    base, rng = template(world), np.random.default_rng(seed)
    found = []
    for _ in range(runs):
        study = replace(base, frame=frame(world, rng))
        result = one_run(study, world)
        table = result.table
        away = (table["low"] > world.effect) | (table["high"] < world.effect)
        naive = (table["naive_low"] > 0) | (table["naive_high"] < 0)
        after = adjusted_for_stopping(study, result)
        adjusted = np.nan if after is None else not after.low <= world.effect <= after.high
        above = np.nan if after is None else after.value > world.effect
        found.append((table["crossed"].any(), away.any(), naive.any(), adjusted, above))
    names = ["crossed", "missed", "naive", "adjusted", "above"]
    return pd.DataFrame(found, columns=names).astype(float).mean()


def statistics(outcome: Vector, arm: NDArray[np.int64], world: World) -> tuple[Vector, Vector, Vector]:
    """At each look the difference in means, its standard error, and the agreed bound as a t value."""
    looks = DAYS if world.method == "always_valid" else LOOKS
    ends = world.units // looks * np.arange(1, looks + 1) - 1
    values, counts = np.unique(outcome, return_counts=True)
    uncommon = outcome != values[counts.argmax()]
    units, means, variances, others = np.empty((4, 2, looks))
    for side in (0, 1):
        inside = arm == side
        n, total, squares, other = (
            np.cumsum(inside * of)[ends] for of in (1.0, outcome, outcome**2, 1.0 * uncommon)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            units[side], means[side], others[side] = n, total / n, other
            variances[side] = (squares - total**2 / n) / (n - 1) / n
    fractions = (ends + 1) / world.planned
    bounds = np.array(_bounds(tuple(fractions), world.method, world.spending))
    if world.method == "always_valid":
        enough = (units.min(axis=0) >= FIRST_UNITS) & (others.min(axis=0) >= FIRST_OTHERS)
        bounds = np.where(enough, bounds, np.inf)
    bounds = as_t_values(bounds, ends - 1.0)
    return means[1] - means[0], np.sqrt(variances.sum(axis=0)), bounds


@lru_cache
def _bounds(fractions: tuple[float, ...], method: str, spending: Any) -> Sequence[float]:
    if method == "always_valid":
        return [always_valid_bound(fraction, LEVEL) for fraction in fractions]
    return boundaries(fractions, LEVEL, spending)


def quick(world: World, runs: int, seed: int = 1) -> pd.Series:
    """As :func:`simulate` for the difference in means, by arrays."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(runs):
        arm = (rng.random(world.units) < world.share).astype(np.int64)
        outcome = world.make(rng, arm)["outcome"] + world.effect * arm
        values, errors, bounds = statistics(outcome, arm, world)
        seen = np.isfinite(bounds)
        values, errors, reach = values[seen], errors[seen], bounds[seen] * errors[seen]
        naive = np.abs(values) > stats.norm.isf((1 - LEVEL) / 2) * errors
        crossed, missed = np.abs(values) > reach, np.abs(values - world.effect) > reach
        found.append((crossed.any(), missed.any(), naive.any()))
    return pd.DataFrame(found, columns=["crossed", "missed", "naive"]).astype(float).mean()


def main(arguments: Sequence[str]) -> None:
    """Print a line for each world; the nominal error is 10%."""
    runs, by_path = [int(a) for a in arguments] if len(arguments) == 2 else [2000, 400]
    for name, world in WORLDS.items():
        fast, planned = world.make in PLAIN, world.method == "group_sequential"
        for times, by in ((runs, quick), (by_path, simulate)):
            if (fast and by is quick) or (by is simulate and (planned or not fast)):
                told = "  ".join(f"{key} {share:6.2%}" for key, share in by(world, times).dropna().items())
                print(f"{name:34}{times:6,} runs  {told}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
