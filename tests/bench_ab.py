"""Time an experiment from sums against a plain aggregate and the libraries by hand: ``python -m tests.bench_ab [--small]``.

Ten million people, three arms, four KPIs with their KPI before, from Parquet (``--small``: one million). Each measurement
is a process of its own; the tasks take turns, and the best of the repeats counts. Budget of issue 6: the sums within 2
times a plain DuckDB aggregate of the same columns (count, mean and variance of each of the eight, covariance of each pair,
by arm), in less than 1.5 GB. On one million the same beside tea-tasting alone, pandas with statsmodels, and the rows.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb

from tests.projects import make_project, write_program

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "outputs" / "bench_ab.json"
KPIS = ("minutes", "tickets", "mood", "solved")
MILLION = 1_000_000
WARM = 20_000


def make(folder: Path, people: int) -> Path:
    """A project with one experiment on so many people."""
    project = make_project(folder)
    draws = ", ".join(f"hash(i * 7 + {k}) / 18446744073709551616.0 AS u{k}" for k in range(5))
    target = (project / "data" / "people.parquet").as_posix()
    duckdb.sql(f"""COPY (
        WITH draws AS (SELECT i, {draws} FROM range({people}) AS people(i)),
        people AS (SELECT *, floor(u0 * 3)::INT AS g, sqrt(-2 * ln(u1 + 1e-12)) AS r, 2 * pi() * u2 AS th FROM draws)
        SELECT 1000000 + i AS person, ['control', 'video', 'coach'][g + 1] AS arm,
          50 + 8 * r * cos(th) AS minutes_before, 50 + 4 * r * cos(th) + 6 * r * sin(th) - g * 0.1 AS minutes,
          floor(10 * u3)::INT AS tickets_before, floor(10 * u3 + 3 * u4)::INT AS tickets,
          20 + 5 * r * sin(th) AS mood_before, 20 + 4 * r * sin(th) + 3 * (u4 - 0.5) + 0.02 * g AS mood,
          (u3 < 0.5)::INT AS solved_before, (u3 + u4 < 0.9 + 0.01 * g)::INT AS solved,
          DATE '2026-01-01' + (u4 * 28)::INT AS assigned_on, 'site ' || (hash(i) % 8) AS site
        FROM people) TO '{target}' (FORMAT parquet)""")
    third = 1 / 3
    write_program(
        project,
        "scale",
        data={"source": "data/people.parquet"},
        kpi={"before_column": "minutes_before"},
        design={
            "columns": {
                "unit": "person",
                "treatment": "arm",
                "assigned_on": "assigned_on",
                "segment": "site",
            },
            "treated_values": ["video", "coach"],
            "control_value": "control",
            "planned_shares": {"control": third, "video": third, "coach": third},
        },
        secondary_kpis=[_other("tickets", "count", "tickets"), _other("mood", "continuous", "points")],
        guard_rails=[_other("solved", "binary", "percentage points", size="largest_acceptable_harm")],
    )
    return project


def _other(name: str, kind: str, unit: str, size: str = "smallest_effect_worth_having") -> dict[str, Any]:
    said = {"column": name, "label": name, "unit": unit, "direction": "increase", "value_type": kind}
    return {**said, "before_column": f"{name}_before", size: {"value": 0.1, "unit": unit}}


def program_of(project: Path) -> Any:
    import ldlab

    return ldlab.load_program(project / "params" / "scale.yaml", project)


def parquet(project: Path) -> str:
    return f"read_parquet('{(project / 'data' / 'people.parquet').as_posix()}')"


def plain(project: Path) -> Callable[[], Any]:
    """The plain aggregate, by arm."""
    parts = [
        f"avg({k}), var_samp({k}), avg({k}_before), var_samp({k}_before), covar_samp({k}, {k}_before)"
        for k in KPIS
    ]
    sql = f"SELECT arm, count(*), {', '.join(parts)} FROM {parquet(project)} GROUP BY arm"
    return lambda: duckdb.connect().execute(sql).fetchall()


def sums(project: Path) -> Callable[[], Any]:
    """load_experiment and all answers and checks, without comparing ids and without hashing the file."""
    from ldlab.data import cross_products
    from ldlab.data.sums import Table

    Table.repeated = lambda self, column: 0  # type: ignore[method-assign]
    cross_products.files_sha256 = lambda files: ""  # type: ignore[attr-defined]
    return whole(project)


def loading(project: Path) -> Callable[[], Any]:
    """load_experiment whole: with the units' ids compared and the file hashed."""
    from ldlab.data.experiment_sums import load_experiment

    program = program_of(project)
    return lambda: load_experiment(program)


def whole(project: Path) -> Callable[[], Any]:
    """Sums, all answers (with robust errors) and checks."""
    from ldlab.ab.at_scale import at_scale
    from ldlab.checks.at_scale import at_scale as checks
    from ldlab.data.experiment_sums import load_experiment

    program = program_of(project)

    def run() -> Any:
        experiment = load_experiment(program)
        return at_scale(experiment), checks(experiment)

    return run


def tea_tasting(project: Path) -> Callable[[], Any]:
    """tea-tasting alone on the DuckDB relation: CUPED of four KPIs and the sample ratio, every arm against control."""
    import tea_tasting as tt

    metrics = {k: tt.Mean(k, f"{k}_before") for k in KPIS}
    experiment = tt.Experiment(metrics | {"sample_ratio": tt.SampleRatio()}, variant="arm")

    def run() -> Any:
        relation = duckdb.connect().sql(f"SELECT * FROM {parquet(project)}")
        return experiment.analyze(relation, control="control", all_variants=True)

    return run


def by_hand(project: Path) -> Callable[[], Any]:
    """pandas and statsmodels: Lin's regression with HC2 errors of four KPIs, each arm against control."""
    import pandas as pd
    import statsmodels.api as sm

    def run() -> Any:
        frame = pd.read_parquet(project / "data" / "people.parquet")
        found = []
        for arm in ("video", "coach"):
            part = frame[frame["arm"].isin(["control", arm])]
            treated = (part["arm"] == arm).astype(float)
            for k in KPIS:
                before = part[f"{k}_before"] - part[f"{k}_before"].mean()
                design = pd.DataFrame({"one": 1.0, "arm": treated, "x": before, "both": treated * before})
                found.append(sm.OLS(part[k].astype(float), design).fit(cov_type="HC2").params["arm"])
        return found

    return run


def rows(project: Path) -> Callable[[], Any]:
    """ldlab on the rows: load_study, headline, arms, KPIs."""
    import ldlab
    from ldlab.ab.arms import arms
    from ldlab.ab.kpis import kpis
    from ldlab.ab.ratio import least_squares

    program = program_of(project)

    def run() -> Any:
        study = ldlab.load_study(program)
        return least_squares(study), arms(study), kpis(study)

    return run


TASKS: dict[str, Callable[[Path], Callable[[], Any]]] = {
    "plain DuckDB aggregate": plain,
    "sums, answers, checks": sums,
    "the same, ids compared, file hashed": whole,
    "load_experiment": loading,
    "tea-tasting alone": tea_tasting,
    "pandas and statsmodels": by_hand,
    "ldlab on the rows": rows,
}
LARGE = (
    "plain DuckDB aggregate",
    "sums, answers, checks",
    "the same, ids compared, file hashed",
    "tea-tasting alone",
)


def child(task: str, small: str, large: str) -> None:
    """One measurement, after the same on few people: seconds, CPU seconds, and the most memory of the process (MB)."""
    warnings.simplefilter("ignore")
    TASKS[task](Path(small))()
    action = TASKS[task](Path(large))
    begun, cpu = time.perf_counter(), time.process_time()
    action()
    used = {
        "wall": time.perf_counter() - begun,
        "cpu": time.process_time() - cpu,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(used))


def measure(task: str, small: Path, large: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench_ab", "--child", task, str(small), str(large)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{task}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Time an experiment from sums against a plain aggregate.")
    parser.add_argument("--small", action="store_true", help="one million people only")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", nargs=3, metavar=("TASK", "SMALL", "LARGE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(*options.child)
    sizes = {MILLION: tuple(TASKS)} | ({} if options.small else {10 * MILLION: LARGE})
    found: dict[int, dict[str, dict[str, float]]] = {}
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        warm = make(Path(folder) / "warm", WARM)
        for people, tasks in sizes.items():
            project = make(Path(folder) / str(people), people)
            runs: dict[str, list[dict[str, float]]] = {task: [] for task in tasks}
            for repeat in range(options.repeats):
                for task in tasks:
                    if repeat == 0 or task in LARGE:
                        runs[task].append(measure(task, warm, project))
            found[people] = {
                task: {key: (max if key == "memory" else min)(run[key] for run in each) for key in each[0]}
                for task, each in runs.items()
            }
            for task, best in found[people].items():
                print(
                    f"{people:>12,}  {task:<36} {best['wall']:7.2f} s  {best['memory']:6.0f} MB", flush=True
                )
    at = found[max(found)]
    base = at["plain DuckDB aggregate"]["wall"]
    budgets = {
        "sums, answers and checks, times a plain aggregate (at most 2)": at["sums, answers, checks"]["wall"]
        / base,
        "with ids compared and the file hashed, times a plain aggregate": at[
            "the same, ids compared, file hashed"
        ]["wall"]
        / base,
        "tea-tasting alone, times a plain aggregate": at["tea-tasting alone"]["wall"] / base,
        "MB (at most 1500)": at["the same, ids compared, file hashed"]["memory"],
    }
    RESULTS.parent.mkdir(exist_ok=True)
    said = {"people": max(found), "load before": load, "budgets": budgets, "raw": found}
    RESULTS.write_text(json.dumps(said, indent=2) + "\n")
    for name, value in budgets.items():
        print(f"{value:10.2f}  {name}")
    return None


if __name__ == "__main__":
    main()
