"""Worlds in which the Bayesian panel model must hold the truth; ``python -m tests.worlds_bayes_panel growing 200``.

24 teams of 10, 12 periods, three waves and a quarter never trained; errors of people and of teams autocorrelated (.5).
A longer study than the tests run: each world takes about a second.
"""

from __future__ import annotations

import sys
from typing import Literal

import numpy as np
import pandas as pd

from ldlab import bayes, simulate
from ldlab.bayes.compiled import Sampling
from tests.studies import make_study

Kind = Literal["none", "homogeneous", "growing", "cohort"]
SHORT = Sampling(draws=500, tune=500, chains=2)
WAVES = {4: 0.8, 6: 0.0, 8: -0.8}  # first trained period, and what a cohort's effect differs by


def world(kind: Kind, gaps: float, rng: np.random.Generator) -> tuple[pd.DataFrame, float]:
    """A canonical panel without the cells that are missing, and its true ATT over trained unit-periods."""
    drawn = simulate.panel(
        240, 12, 0.0, cohorts=[*(start + 1 for start in WAVES), None], cluster_size=10, autocorrelation=0.5,
        missing=gaps, seed=rng,
    )  # fmt: skip
    frame = drawn.frame.assign(period=drawn.frame["period"] - 1, start=drawn.frame["start"] - 1)
    event = (frame["period"] - frame["start"]).where(frame["period"] >= frame["start"])
    by_kind = {
        "none": 0 * event,
        "homogeneous": 1 + 0 * event,
        "growing": 0.5 + 0.2 * event,
        "cohort": 1 + frame["start"].map(WAVES) + 0 * event,
    }
    effect = by_kind[kind]
    frame["outcome"] += effect.fillna(0.0)
    seen = frame["outcome"].notna()
    return frame[seen].reset_index(drop=True), float(effect[seen].mean())


def held(kind: Kind, gaps: float, worlds: int, first: int) -> pd.DataFrame:
    """One row for each world: truth, posterior mean and sd, whether the 90% interval holds the truth."""
    rows = []
    for number in range(first, first + worlds):
        frame, truth = world(kind, gaps, np.random.default_rng([number, 5]))
        study = make_study(frame, {"kind": "staggered"}, level=0.9)
        found = bayes.estimate(bayes.fit(study, sampling=SHORT))
        rows.append((truth, found.value, found.se, found.low <= truth <= found.high))
    return pd.DataFrame(rows, columns=["truth", "value", "se", "held"])


if __name__ == "__main__":
    kind, worlds, gaps, first = (*sys.argv[1:], *("growing", "100", "0", "0")[len(sys.argv) - 1 :])
    table = held(kind, float(gaps), int(worlds), int(first))  # type: ignore[arg-type]
    bias = table["value"] - table["truth"]
    print(f"{kind}, {worlds} worlds, gaps {gaps}: bias {bias.mean():+.3f} (error {bias.std() / len(bias) ** 0.5:.3f}), "
          f"sd of estimates {bias.std():.3f}, mean posterior sd {table['se'].mean():.3f}, "
          f"90% interval holds the truth in {table['held'].mean():.1%}")  # fmt: skip
