"""Worlds for inference by few clusters: how often each rule alarms where there is no effect, and finds one.

Run as a script for the table: ``python -m tests.worlds_inference 400``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ldlab.did.inference import infer, plan_inference
from ldlab.did.panel import panel_estimate
from ldlab.did.regression import by_cells, cells_of
from ldlab.estimate import Estimate
from ldlab.program import Study
from tests.studies import make_study

NEVER = np.nan


@dataclass(frozen=True)
class Setting:
    """Clusters with autocorrelated shocks of sd 1, and units with noise of sd 1.

    ``starts`` holds each cluster's start, NaN for never. ``noisier`` multiplies the trained clusters' shocks.
    """

    name: str
    starts: Sequence[float]
    effect: float = 0.0
    noisier: float = 1.0
    sizes: Sequence[int] = field(default=())
    periods: int = 10
    autocorrelation: float = 0.7


def treated_of(treated: int, clusters: int, starts: Sequence[float] = (5,)) -> list[float]:
    """``treated`` clusters that start in turn at ``starts``, and the rest never."""
    return [*np.resize(starts, treated), *[NEVER] * (clusters - treated)]


SETTINGS = [
    Setting(f"{k} of {G}{', waves' if len(starts) > 1 else ''}", treated_of(k, G, starts))
    for k, G in ((2, 12), (3, 12), (4, 12), (6, 12), (6, 40), (10, 100), (20, 40), (45, 90))
    for starts in ((5,), (3, 5, 7))
] + [
    Setting("2 of 12, trained 1.5 times as noisy", treated_of(2, 12), noisier=1.5),
    Setting("6 of 12, trained 1.5 times as noisy", treated_of(6, 12), noisier=1.5),
    Setting("6 of 40, trained 1.5 times as noisy", treated_of(6, 40), noisier=1.5),
    Setting("2 of 12, trained four times as large", treated_of(2, 12), sizes=[40] * 2 + [10] * 10),
    Setting("6 of 40, trained a quarter as large", treated_of(6, 40), sizes=[10] * 6 + [40] * 34),
    Setting("everyone in three waves, 12", treated_of(12, 12, (3, 5, 7))),
]


def study_of(setting: Setting, rng: np.random.Generator, *, level: float = 0.9) -> Study:
    """One world: clusters of 10 units unless the setting says otherwise."""
    start = np.array(setting.starts, dtype=float)
    clusters, periods, rho = len(start), setting.periods, setting.autocorrelation
    shock = rng.normal(size=(clusters, periods))
    for t in range(1, periods):
        shock[:, t] = rho * shock[:, t - 1] + np.sqrt(1 - rho**2) * shock[:, t]
    shock *= np.where(np.isnan(start), 1.0, setting.noisier)[:, None]
    cluster = np.repeat(np.arange(clusters), setting.sizes or [10] * clusters)
    unit, period = (grid.ravel() for grid in np.indices((len(cluster), periods)))
    since = period - start[cluster[unit]]
    outcome = shock[cluster[unit], period] + rng.normal(size=len(unit)) + setting.effect * (since >= 0)
    frame = pd.DataFrame({"unit": unit, "period": period, "start": start[cluster[unit]], "outcome": outcome})
    frame["cluster"] = cluster[unit]
    return make_study(frame, "staggered", level=level, minimum=5, agreement={"estimator": "two_way"})


def two_way(study: Study) -> Estimate:
    """The two-way estimate by sums: the numbers of linearmodels (tests/test_two_way.py), fifty times as fast."""
    rows = study.frame
    cells = cells_of(rows, rows[["treated"]])
    assert cells is not None
    fit = by_cells(rows, cells, ["treated"], "cluster")
    return panel_estimate(study, rows, fit, "treated", "cluster", method="two-way fixed effects")


@dataclass(frozen=True)
class Score:
    """Shares of worlds: alarms of the rule and of plain clustered errors; intervals that hold the truth.

    ``width`` is the median width of the intervals, ``gains`` each world's chance of a gain.
    """

    rule: str
    alarms: float
    clustered_alarms: float
    covered: float
    width: float
    gains: tuple[float, ...]


def score(setting: Setting, runs: int, seed: int = 1) -> Score:
    """What the rule for these clusters does in ``runs`` worlds, by the two-way estimate."""
    rng = np.random.default_rng(seed)
    alarms, clustered, covered = 0, 0, 0
    widths, gains = [], []
    for _ in range(runs):
        study = study_of(setting, rng)
        plain = two_way(study)
        found = infer(study, plain).estimate
        alarms += not found.low <= 0 <= found.high
        clustered += not plain.low <= 0 <= plain.high
        covered += found.low <= setting.effect <= found.high
        widths.append(found.high - found.low)
        gains.append(found.p_gain)
    rule = plan_inference(study).rule
    return Score(
        rule, alarms / runs, clustered / runs, covered / runs, float(np.median(widths)), tuple(gains)
    )


if __name__ == "__main__":
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print(f"{runs} worlds each, 90% intervals\nsetting | rule | alarms | clustered errors alarm | width")
    for setting in SETTINGS:
        s = score(setting, runs)
        print(
            f"{setting.name} | {s.rule} | {s.alarms:.3f} | {s.clustered_alarms:.3f} | {s.width:.2f}",
            flush=True,
        )
