"""How often A/B intervals hold the truth, and alarm at none: ``python -m tests.coverage_ab [--runs 1000]``.

Each case is a world with a known effect, an estimator, and the truth it is asked for; where it gives several
estimates all of them have to hold. Worlds are skewed, of unequal variance, with unequal shares. Other files add their
own: append a :class:`Case` to ``CASES``. The table is data/coverage_ab.csv.
"""

from __future__ import annotations

import argparse
import csv
import sys
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ldlab import ab
from ldlab.ab.arms import arms
from ldlab.ab.clusters import assigned_difference
from ldlab.ab.permutation import permutation
from ldlab.program import Study
from tests.studies import make_study

TABLE = Path(__file__).resolve().parent.parent / "data" / "coverage_ab.csv"
LEVEL, EFFECT = 0.9, 1.0
IN_STRATA = {"kind": "randomised", "columns": {"stratum": "stratum"}}
SEVERAL = {"kind": "randomised", "treated_values": ("A", "B"), "control_value": "C"}
OFFERED = {"kind": "randomised", "columns": {"assignment": "offered"}}
Interval = tuple[float, float]
World = Callable[[np.random.Generator, float], tuple[Study, Sequence[float]]]


@dataclass(frozen=True)
class Case:
    """``world(rng, effect)`` gives a study and the truths; ``estimator`` as many intervals."""

    name: str
    world: World
    estimator: Callable[[Study], Sequence[Interval]]


def study_of(
    frame: pd.DataFrame, design: object = "randomised", covariates: tuple[str, ...] = (), **rest: object
) -> Study:
    """A study at this script's level; groups of five may be shown."""
    return make_study(frame, design, covariates=covariates, level=LEVEL, minimum=5, **rest)  # type: ignore[arg-type]


def bounds(*estimates: object) -> Sequence[Interval]:
    """The intervals of estimates."""
    return [(e.low, e.high) for e in estimates]  # type: ignore[attr-defined]


def people(rng: np.random.Generator, effect: float) -> tuple[Study, Sequence[float]]:
    """60 of 200 trained; exponential errors, twice as wide among the trained; a covariate."""
    arm = rng.permutation(200) < 60
    x = rng.normal(size=200)
    noise = (1 + arm) * (rng.exponential(size=200) - 1)
    frame = pd.DataFrame({"arm": arm.astype(int), "x": x, "outcome": effect * arm + 2 * x + noise})
    return study_of(frame, covariates=("x",)), [effect]


def strata(rng: np.random.Generator, effect: float) -> tuple[Study, Sequence[float]]:
    """Five strata of 30 whose level goes up with their treated share, a fifth to four fifths."""
    stratum = np.repeat(np.arange(5), 30)
    arm = np.concatenate([rng.permutation(30) < 6 * s for s in (1, 2, 3, 4, 4)])
    x = rng.normal(size=150)
    outcome = effect * arm + 2 * stratum + x + (1 + arm) * (rng.exponential(size=150) - 1)
    frame = pd.DataFrame({"arm": arm.astype(int), "stratum": stratum.astype(str), "x": x, "outcome": outcome})
    return study_of(frame, IN_STRATA, ("x",)), [effect]


def pairs(rng: np.random.Generator, effect: float) -> tuple[Study, Sequence[float]]:
    """25 pairs that are alike within."""
    stratum = np.repeat(np.arange(25), 2)
    arm = np.concatenate([rng.permutation([0, 1]) for _ in range(25)])
    x = rng.normal(size=50)
    outcome = effect * arm + 3 * rng.normal(size=25)[stratum] + x + rng.exponential(size=50)
    frame = pd.DataFrame({"arm": arm, "stratum": stratum.astype(str), "x": x, "outcome": outcome})
    return study_of(frame, IN_STRATA, ("x",)), [effect]


def teams(counts: tuple[int, int], sizes: tuple[int, int], spread: float = 0.7) -> World:
    """Whole clusters: ``counts`` trained and not, of sizes drawn evenly between the two ``sizes``."""

    def world(rng: np.random.Generator, effect: float) -> tuple[Study, Sequence[float]]:
        number = sum(counts)
        size = rng.integers(sizes[0], sizes[1] + 1, number)
        cluster = np.repeat(np.arange(number), size)
        arm = (cluster < counts[0]).astype(int)
        shock = spread * rng.normal(size=number)
        outcome = effect * arm + shock[cluster] + rng.normal(size=len(cluster))
        return study_of(pd.DataFrame({"arm": arm, "cluster": cluster, "outcome": outcome})), [effect]

    return world


def three(rng: np.random.Generator, effect: float) -> tuple[Study, Sequence[float]]:
    """Two program arms of 40 and 30 beside 60; the second does nothing, and varies twice as much."""
    variant = np.repeat(["C", "A", "B"], [60, 40, 30])
    noise = np.where(variant == "B", 2.0, 1.0) * rng.normal(size=130)
    frame = pd.DataFrame({"variant": variant, "arm": (variant != "C").astype(int)})
    frame["outcome"] = effect * (variant == "A") + noise
    return study_of(frame, SEVERAL), [effect, 0.0]


def offered(rng: np.random.Generator, effect: float) -> tuple[Study, Sequence[float]]:
    """Half of 300 offered, of whom 60% come; those who would come have a higher outcome anyway."""
    arm, complier = (rng.permutation(300) < 150).astype(int), rng.random(300) < 0.6
    treated = arm * complier
    outcome = effect * treated + 1.0 * complier + rng.exponential(size=300)
    return study_of(pd.DataFrame({"arm": arm, "treated": treated, "outcome": outcome}), OFFERED), [effect]


def of_permutation(study: Study) -> Sequence[Interval]:
    """The permutation's interval."""
    found = permutation(study)
    assert found.low is not None and found.high is not None
    return [(found.low, found.high)]


CASES: list[Case] = [
    Case("difference in means", people, lambda s: bounds(ab.difference_in_means(s))),
    Case("regression-adjusted", people, lambda s: bounds(ab.regression_adjusted(s))),
    Case("blocked", strata, lambda s: bounds(assigned_difference(s))),
    Case("blocked, adjusted", strata, lambda s: bounds(assigned_difference(s, adjusted=True))),
    Case("plain difference, shares differ by stratum", strata, lambda s: bounds(ab.difference_in_means(s))),
    Case("pairs", pairs, lambda s: bounds(assigned_difference(s))),
    Case("pairs, adjusted", pairs, lambda s: bounds(assigned_difference(s, adjusted=True))),
    Case("CR2, 6 and 6 equal clusters", teams((6, 6), (15, 15)), lambda s: bounds(assigned_difference(s))),
    Case("CR2, 6 and 10 unequal clusters", teams((6, 10), (3, 40)), lambda s: bounds(assigned_difference(s))),
    Case(
        "CR1, 6 and 10 unequal clusters", teams((6, 10), (3, 40)), lambda s: bounds(ab.difference_in_means(s))
    ),
    Case(
        "permutation, 4 and 4 unequal clusters",
        teams((4, 4), (3, 40)),
        lambda s: bounds(assigned_difference(s)),
    ),
    Case("permutation of 4 and 5 clusters", teams((4, 5), (10, 10)), of_permutation),
    Case("two arms against control, together", three, lambda s: bounds(*_arms(s))),
    Case("effect on compliers", offered, lambda s: bounds(*ab.complier_estimates(s)[:1])),
]


def _arms(study: Study) -> Sequence[object]:
    found = arms(study)
    assert found is not None
    return found.estimates


def score(case: Case, effect: float, runs: int) -> tuple[int, int]:
    """How often all intervals hold their truths, and how often some interval alarms where the truth is none."""
    held = alarms = 0
    rng = np.random.default_rng([zlib.crc32(case.name.encode()), int(effect)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(runs):
            study, truths = case.world(rng, effect)
            found = list(zip(case.estimator(study), truths, strict=True))
            held += all(low <= truth <= high for (low, high), truth in found)
            alarms += any(truth == 0 and not low <= 0 <= high for (low, high), truth in found)
    return held, alarms


def row_of(case: Case, runs: int) -> dict[str, object]:
    """One row of the table."""
    held, _ = score(case, EFFECT, runs)
    _, alarms = score(case, 0.0, runs)
    return {
        "estimator": case.name,
        "runs with an effect": runs,
        f"{LEVEL:.0%} interval holds": f"{held / runs:.3f}",
        "runs without": runs,
        "false alarms": f"{alarms / runs:.3f}",
        "Monte Carlo se": f"{(LEVEL * (1 - LEVEL) / runs) ** 0.5:.4f}",
    }


def main() -> None:
    """Run and write the table."""
    parser = argparse.ArgumentParser(description="Coverage of A/B intervals.")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=TABLE)
    parser.add_argument("--only", default="", help="part of a case's name; rows of the others are kept")
    options = parser.parse_args()
    from tests.worlds_ab import WORLDS

    cases = [*CASES, *(Case(*world) for world in WORLDS)]
    kept: dict[str, dict[str, object]] = {}
    if options.only and options.out.is_file():
        with options.out.open(encoding="utf-8") as stream:
            kept = {row["estimator"]: dict(row) for row in csv.DictReader(stream)}
    rows = []
    for place, case in enumerate(cases, start=1):
        if options.only not in case.name and case.name in kept:
            rows.append(kept[case.name])
            continue
        rows.append(row_of(case, options.runs))
        print(place, "of", len(cases), *rows[-1].values(), sep="\t", file=sys.stderr, flush=True)
        with options.out.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
