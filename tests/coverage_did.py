"""How often difference-in-differences intervals hold the truth: ``python -m tests.coverage_did [--runs 500]``.

Worlds with one effect for all, a growing one, another in each cohort, and none; balanced and with a tenth of the
unit-periods missing at random. Each estimator is judged by the interval that a page would show. The table is
data/coverage_did.csv.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing as mp
import os
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np

from ldlab import did
from ldlab.estimate import Estimate
from ldlab.program import Study
from tests.studies import make_study
from tests.worlds_did import KINDS, Kind, world

TABLE = Path(__file__).resolve().parent.parent / "data" / "coverage_did.csv"
LEVEL, GAPS, BATCH = 0.9, (0.0, 0.1), 25


def lead(study: Study) -> Estimate | None:
    """The estimate that leads, as published: with the interval that its clusters allow."""
    return did.infer(study, did.lead_estimate(study)).estimate


ESTIMATORS: dict[str, Callable[[Study], Estimate | None]] = {
    "group-time effects, as published": lead,
    "group-time effects, clustered errors": did.lead_estimate,
    "imputation": did.imputation,
    "two-way fixed effects": did.two_way_fixed_effects,
}


def some(kind: Kind, gaps: float, first: int, runs: int) -> list[tuple[str, float, float, bool]]:
    """Runs ``first`` and the following: estimator, error, standard error, whether the interval holds the truth."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for run in range(first, first + runs):
            made = world(kind, gaps, np.random.default_rng([KINDS.index(kind), int(100 * gaps), run]))
            study = make_study(made.frame.reset_index(drop=True), "staggered", level=LEVEL)
            for name, estimator in ESTIMATORS.items():
                e = estimator(study)
                assert e is not None
                found.append((name, e.value - made.truth, e.se, e.low <= made.truth <= e.high))
    return found


def table(runs: int) -> list[dict[str, object]]:
    """One row for each world and estimator."""
    rows, begun = [], time.monotonic()
    with ProcessPoolExecutor(os.cpu_count(), mp_context=mp.get_context("spawn")) as pool:
        asked = {
            pool.submit(some, kind, gaps, first, min(BATCH, runs - first)): (kind, gaps)
            for kind in KINDS
            for gaps in GAPS
            for first in range(0, runs, BATCH)
        }
        seen: dict[tuple[str, float, str], list[tuple[float, float, bool]]] = {}
        for count, future in enumerate(as_completed(asked), start=1):
            for name, *rest in future.result():
                seen.setdefault((*asked[future], name), []).append(tuple(rest))  # type: ignore[arg-type]
            left = (time.monotonic() - begun) / count * (len(asked) - count)
            print(
                f"\r{count} of {len(asked)} parts, about {left / 60:.0f} min left ", end="", file=sys.stderr
            )
    print(file=sys.stderr)
    for kind in KINDS:
        for gaps in GAPS:
            for name in ESTIMATORS:
                error, se, covered = np.array(seen[kind, gaps, name], dtype=float).T
                rows.append(
                    {
                        "effect": kind, "missing": f"{gaps:.0%}", "estimator": name, "runs": len(error),
                        "bias": f"{error.mean():+.4f}", "bias se": f"{error.std() / len(error) ** 0.5:.4f}",
                        "sd": f"{error.std():.4f}", "mean se": f"{se.mean():.4f}",
                        f"{LEVEL:.0%} interval holds": f"{covered.mean():.3f}",
                    }
                )  # fmt: skip
    return rows


def main() -> None:
    """Run and write the table."""
    parser = argparse.ArgumentParser(description="Coverage of difference-in-differences intervals.")
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--out", type=Path, default=TABLE)
    options = parser.parse_args()
    rows = table(options.runs)
    with options.out.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(*row.values(), sep="\t")


if __name__ == "__main__":
    main()
