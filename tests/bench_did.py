"""Time difference-in-differences against the libraries called by hand: ``python -m tests.bench_did [--rows 1000000]``.

Every measurement is a process of its own, warmed up on a small panel, so imports and compiled code are not in it.
The budgets are issue 5's; figures are ratios of two things timed here and now.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tests.projects import make_project, write_program

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "outputs" / "bench-did.json"
PERIODS, TEAM, SIZES = 25, 20, (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000)
SMALL = 10_000


def panel(rows: int, gaps: float = 0.0) -> pd.DataFrame:
    """So many rows: teams of 20 people over 25 months, four waves and teams never trained."""
    rng, people = np.random.default_rng(rows), rows // PERIODS
    teams = -(-people // TEAM)
    start = rng.choice([0, 9, 13, 17, 21], teams, p=[0.3, 0.2, 0.2, 0.15, 0.15])
    person, month = np.divmod(np.arange(people * PERIODS), PERIODS)
    team = person // TEAM
    shock = rng.normal(0, 0.3, (teams, PERIODS))[team, month]
    trained = (start[team] > 0) & (month + 1 >= start[team])
    kpi = (
        50
        + rng.normal(0, 2, people)[person]
        + 0.05 * month
        + shock
        + rng.normal(0, 1, len(month))
        + 0.5 * trained
    )
    frame = pd.DataFrame(
        {
            "person": person + 100_000,
            "month": month + 1,
            "first": start[team],
            "team": team + 1000,
            "minutes": kpi,
        }
    )
    return frame[rng.random(len(frame)) >= gaps] if gaps else frame


def make(folder: Path, rows: int, gaps: float = 0.0) -> Path:
    """A project with one program on such a panel."""
    project = make_project(folder, notebooks=True)
    panel(rows, gaps).to_parquet(project / "data" / "panel.parquet", index=False)
    write_program(
        project,
        "rollout",
        data={"source": "data/panel.parquet"},
        design={
            "kind": "staggered", "unit": "agent", "population": "agents", "period": "month",
            "columns": {"unit": "person", "period": "month", "start": "first", "cluster": "team", "treatment": None},
        },
        analysis={"notebooks": ["diff_in_diff"]},
    )  # fmt: skip
    return project


def study_of(project: Path) -> Any:
    import ldlab

    return ldlab.load_study(ldlab.load_program(project / "params" / "rollout.yaml", project))


def by_hand(project: Path) -> pd.DataFrame:
    frame = pd.read_parquet(project / "data" / "panel.parquet")
    event = (frame["month"] - frame["first"]).where(frame["first"] > 0)
    return frame.assign(event=event.fillna(-1).astype(int))


def pyfixest_event_study(project: Path) -> Callable[[], Any]:
    import pyfixest

    frame = by_hand(project)
    formula = "minutes ~ i(event, ref=-1) | person + month"
    return lambda: pyfixest.feols(formula, frame, vcov={"CRV1": "team"}, copy_data=False, store_data=False)


def ldlab_event_study(project: Path) -> Callable[[], Any]:
    from ldlab import did

    study = study_of(project)
    return lambda: did.event_study(study)


def diff_diff_group_time(project: Path, *, gaps: bool = False) -> Callable[[], Any]:
    import diff_diff

    frame = by_hand(project)

    def run() -> Any:
        estimator = diff_diff.CallawaySantAnna(
            cluster="team", base_period="universal", n_bootstrap=999, seed=1, allow_unbalanced_panel=gaps
        )
        fit = estimator.fit(frame, "minutes", "person", "month", "first")
        return fit.aggregate("simple"), fit.aggregate("event_study")

    return run


def ldlab_group_time(project: Path) -> Callable[[], Any]:
    from ldlab import did

    study = study_of(project)
    return lambda: did.group_time(study)


def loading(project: Path) -> Callable[[], Any]:
    return lambda: study_of(project)


def estimators(project: Path) -> Callable[[], Any]:
    """What the notebook asks of its estimators: everything but reading, checks' sentences, figures and files."""
    from ldlab import did

    study = study_of(project)

    def run() -> Any:
        lead = did.lead_estimate(study)
        return (
            did.group_time(study), did.event_study(study), did.imputation(study), did.infer(study, lead),
            did.two_way_fixed_effects(study), did.placebo_start(study), did.effects_since_start(study),
        )  # fmt: skip

    return run


def notebook(project: Path) -> Callable[[], Any]:
    """All cells of diff_in_diff, with what each shows."""
    import os

    import matplotlib

    matplotlib.use("agg")
    import ldlab  # noqa: F401

    cells = json.loads((project / "notebooks" / "diff_in_diff.ipynb").read_text())["cells"]
    code = [
        c for c in cells if c["cell_type"] == "code" and "parameters" not in c["metadata"].get("tags", [])
    ]

    def run() -> Any:
        os.chdir(project)
        names: dict[str, Any] = {
            "program": "params/rollout.yaml",
            "output_dir": "outputs/rollout/diff_in_diff",
        }
        for cell in code:
            *body, last = "".join(cell["source"]).strip().splitlines()
            exec("\n".join([*body, last]), names)
            shown = names.get(last.strip())
            if hasattr(shown, "_repr_mimebundle_"):
                shown._repr_mimebundle_()
        return names

    return run


TASKS: dict[str, Callable[[Path], Callable[[], Any]]] = {
    "pyfixest event study by hand": pyfixest_event_study,
    "event study": ldlab_event_study,
    "diff-diff group-time by hand": diff_diff_group_time,
    "group-time effects": ldlab_group_time,
    "loading": loading,
    "estimators": estimators,
    "notebook": notebook,
}


def child(task: str, small: str, large: str) -> None:
    """One measurement: seconds, CPU seconds, and the most memory of the process (MB)."""
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
    command = [sys.executable, "-m", "tests.bench_did", "--child", task, str(small), str(large)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{task}: {done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{large.name:>12}  {task:<32} {found['wall']:7.2f} s  {found['memory']:6.0f} MB", flush=True)
    return dict(found)


def draw(found: dict[str, dict[str, dict[str, float]]], path: Path) -> None:
    """Seconds by rows, on logarithmic axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4), layout="constrained")
    axes = figure.subplots()
    for task in TASKS:
        points = [(int(rows), by[task]["wall"]) for rows, by in found.items() if task in by]
        if len(points) > 1:
            axes.plot(*zip(*points, strict=True), marker="o", label=task)
    axes.set(xscale="log", yscale="log", xlabel="rows", ylabel="seconds, warm")
    axes.legend()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Time difference-in-differences against the libraries by hand."
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--growth", action="store_true", help="also 10,000 to 3 million rows, as a plot")
    parser.add_argument("--child", nargs=3, metavar=("TASK", "SMALL", "LARGE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(*options.child)
    sizes = sorted({options.rows, *(SIZES if options.growth else ())})
    found: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        small = make(Path(folder) / "warm", SMALL)
        for rows in sizes:
            large = make(Path(folder) / str(rows), rows)
            found[str(rows)] = {task: measure(task, small, large) for task in TASKS}
    at = found[str(options.rows)]
    budgets = {
        "two-way event study, times pyfixest by hand (at most 1.3)":
            at["event study"]["wall"] / at["pyfixest event study by hand"]["wall"],
        "group-time effects with bands, times diff-diff by hand (at most 1.5)":
            at["group-time effects"]["wall"] / at["diff-diff group-time by hand"]["wall"],
        "notebook, times its estimators (at most 3)": at["notebook"]["wall"] / at["estimators"]["wall"],
        "notebook, MB (at most 2500)": at["notebook"]["memory"],
    }  # fmt: skip
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"rows": options.rows, "budgets": budgets, "raw": found}, indent=2) + "\n")
    if len(sizes) > 1:
        draw(found, RESULTS.with_suffix(".png"))
    for name, value in budgets.items():
        print(f"{value:10.2f}  {name}")
    return None


if __name__ == "__main__":
    main()
