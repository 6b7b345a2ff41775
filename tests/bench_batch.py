"""Time the batch against a plain loop of papermill, in one run: ``python -m tests.bench_batch [--programs 12]``.

The budgets are issue 4's. Each figure is a ratio of two things timed here and now, or seconds where the budget is in
seconds; ``noise`` is the spread of a fixed piece of work, timed before each measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ldlab.batch.inputs import Inputs, known_programs
from ldlab.batch.jobs import plan
from ldlab.batch.record import files_of, read_record
from tests.projects import agents, make_project, write_program, write_table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "outputs" / "bench-batch.json"
NOTEBOOKS = ("ab_test", "bayes_impact", "program_brief")
BINARIES = Path(sys.executable).parent
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """What a process and all below it used: wall and CPU seconds, and the most memory (PSS, MB) at one time."""

    wall: float
    cpu: float
    memory: float


class Watch(threading.Thread):
    """Adds up a process tree five times a second; kernels that are killed are counted too."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self.root, self.seen, self.peak, self.over = root, dict[int, float](), 0.0, threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.2):
            self.look()

    def look(self) -> None:
        parents, ticks = {}, {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(folder.name)] = int(fields[1])
            ticks[int(folder.name)] = int(fields[11]) + int(fields[12])
        tree = {self.root}
        while found := {pid for pid, parent in parents.items() if parent in tree} - tree:
            tree |= found
        self.seen |= {pid: ticks[pid] / TICKS for pid in tree if pid in ticks}
        self.peak = max(self.peak, sum(map(memory_of, tree)))


def memory_of(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def use(command: list[str], folder: Path) -> Usage:
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    watch = Watch(process.pid)
    watch.start()
    _, errors = process.communicate()
    watch.over.set()
    watch.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{errors[-2000:]}")
    return Usage(time.perf_counter() - begun, sum(watch.seen.values()), watch.peak)


def make(folder: Path, programs: int) -> Path:
    """A project of so many randomised programs of 400 people each."""
    project = make_project(folder, notebooks=True)
    for i in range(programs):
        rng = np.random.default_rng(i)
        frame = agents(400)
        frame["minutes"] = 50 + rng.normal(0, 3, len(frame)) - 2 * frame["trained"]
        write_table(project, frame, f"table{i:03d}.csv")
        write_program(
            project,
            f"program{i:03d}",
            data={"source": f"data/table{i:03d}.csv"},
            analysis={"notebooks": ["ab_test", "bayes_impact"]},
        )
    return project


def plain_loop(project: Path) -> Usage:
    """What people do without ldlab run: papermill, then nbconvert, for each program and notebook."""
    used = [Usage(0, 0, 0)]
    for file in sorted((project / "params").glob("*.yaml")):
        for notebook in NOTEBOOKS:
            out = Path("outputs") / file.stem / notebook
            (project / out).mkdir(parents=True)
            report = str(out / "report.ipynb")
            run = [str(BINARIES / "papermill"), f"notebooks/{notebook}.ipynb", report, "--no-progress-bar",
                   "-p", "program", f"params/{file.name}", "-p", "output_dir", out.as_posix()]  # fmt: skip
            used.append(use(run, project))
            used.append(
                use([str(BINARIES / "jupyter"), "nbconvert", "--to", "html", "--no-input", report], project)
            )
    return Usage(sum(u.wall for u in used), sum(u.cpu for u in used), max(u.memory for u in used))


BARE = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import matplotlib; matplotlib.use("agg")
import ldlab
def cells(name):
    found = json.load(open(f"notebooks/{name}.ipynb"))["cells"]
    code = [c for c in found if c["cell_type"] == "code" and "parameters" not in c["metadata"].get("tags", [])]
    return "\\n".join("".join(c["source"]) for c in code)
code = {name: compile(cells(name), name, "exec") for name in sys.argv[2:]}
programs = json.loads(sys.argv[1])
for number, program in enumerate([programs[0], *programs]):
    if number == 1:
        begun = time.perf_counter()  # the first one warms up: imports and compiled models are not counted
    for name in code:
        exec(code[name], {"program": f"params/{program}.yaml", "output_dir": f"bare/{program}/{name}"})
print(time.perf_counter() - begun)
"""


def bare(project: Path) -> float:
    """Seconds of the notebooks' code alone, in one warm process."""
    programs = json.dumps([file.stem for file in sorted((project / "params").glob("*.yaml"))])
    command = [sys.executable, "-c", BARE, programs, *NOTEBOOKS]
    done = subprocess.run(command, cwd=project, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def ldlab(*words: str) -> list[str]:
    return [str(BINARIES / "ldlab"), *words]


def as_if_run(project: Path, like: Path) -> int:
    """Give every job of ``project`` the published files of ``like``, and a record that says they are its own."""
    known = known_programs(project, project / "outputs" / ".programs.json")
    jobs, inputs = plan(known, root=project, outputs=project / "outputs"), Inputs(known, project)
    for job in jobs:
        source = like / "outputs" / ("program000" if job.program else "") / job.notebook
        shutil.copytree(source, job.final)
        outside = (
            [shutil.copy(like / "outputs" / "index.html", project / "outputs")] if not job.program else []
        )
        record = read_record(source)
        assert record is not None
        files = files_of(job.final, *map(Path, outside))
        replace(record, program=job.program, inputs=inputs.of(job), files=files).write(job.final)
    known_programs(project, project / "outputs" / ".programs.json")
    return len(jobs)


def noise() -> float:
    """How far apart five runs of the same work lie: (max - min) / min."""
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        sum(range(3_000_000))
        took.append(time.perf_counter() - begun)
    return round((max(took) - min(took)) / min(took), 2)


def best(command: list[str], folder: Path, runs: int = 5) -> list[float]:
    """Seconds of each of some runs, quickest first."""
    return sorted(use(command, folder).wall for _ in range(runs))


def measure(programs: int, folder: Path) -> dict[str, Any]:
    """All figures, by name; seconds if not said otherwise."""
    found: dict[str, Any] = {"programs": programs, "noise": [noise()]}

    def timed(name: str, action: Callable[[], Any]) -> Any:
        found["noise"].append(noise())
        value = action()
        print(f"{name}: {value}", flush=True)
        return value

    looped, batched, few = (make(folder / name, count) for name, count in
                            (("loop", programs), ("batch", programs), ("few", max(1, programs // 3))))  # fmt: skip
    loop = timed("plain loop", lambda: plain_loop(looped))
    whole = timed("ldlab run", lambda: use(ldlab("run", "--jobs", "2"), batched))
    part = timed("ldlab run, a third", lambda: use(ldlab("run", "--jobs", "2"), few))
    alone = timed("bare computation", lambda: bare(batched))
    further = (whole.cpu - part.cpu) / (programs - max(1, programs // 3))
    many = make(folder / "many", 133)
    (many / "outputs").mkdir()
    found["results"] = as_if_run(many, batched)
    again = timed("nothing changed", lambda: best(ldlab("run"), many))
    shown = timed("--help", lambda: best(ldlab("--help"), many))
    hundred = make(folder / "hundred", 100)
    checked = timed("check 100", lambda: best(ldlab("check"), hundred, runs=3))
    found["budgets"] = {
        "whole batch, times faster (at least 8)": loop.wall / whole.wall,
        "further program, times less CPU (at least 15)": loop.cpu / programs / further,
        "wall against bare computation (at most 2.5)": whole.wall / alone,
        "nothing changed, s (at most 1.5)": again[len(again) // 2],
        "--help, s (at most 0.5)": shown[len(shown) // 2],
        "check 100 programs, s (at most 2)": checked[len(checked) // 2],
        "peak memory, MB (at most 1500)": whole.memory,
    }
    found["raw"] = {"loop": vars(loop), "batch": vars(whole), "third": vars(part), "bare": alone, "again": again,
                    "help": shown, "check": checked, "cpu_per_further_program": further}  # fmt: skip
    return found


def draw(found: dict[str, Any], path: Path) -> None:
    """Each budget as a bar: how much of it is used, less is better."""
    from matplotlib.figure import Figure

    names = list(found["budgets"])
    limits = [float(name.split()[-1].rstrip(")")) for name in names]
    used = [limit / value if "at least" in name else value / limit
            for (name, value), limit in zip(found["budgets"].items(), limits, strict=True)]  # fmt: skip
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(names, used, color=["tab:blue" if share <= 1 else "tab:red" for share in used])
    axes.bar_label(bars, [f"{value:.2f}" for value in found["budgets"].values()], padding=3)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlabel("share of the budget that is used")
    axes.invert_yaxis()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the batch against a plain loop of papermill.")
    parser.add_argument(
        "--programs", type=int, default=12, metavar="N", help="programs of 3 notebooks (default: 12)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options.programs, Path(folder))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    draw(found, RESULTS.with_suffix(".png"))
    for name, value in found["budgets"].items():
        print(f"{value:10.2f}  {name}")
    print(
        f"noise of the machine: {min(found['noise']):.0%} to {max(found['noise']):.0%}. Written to outputs/{RESULTS.name}"
    )


if __name__ == "__main__":
    main()
