"""Time what should stay quick, each against its baseline, pair by pair in one run."""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests import bench_bayes

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "outputs" / "bench.json"

type Action = Callable[[], object]


@dataclass(frozen=True)
class Benchmark:
    """Two things to time in turn, and how many times."""

    name: str
    subject: Action
    baseline: Action
    runs: int


@dataclass(frozen=True)
class Survey:
    """More than two times: whatever figures one run of it gives."""

    name: str
    run: Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Spread:
    """The median of the runs, and how far they lie apart."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        return cls(median(values), min(values), max(values))

    def show(self, unit: str) -> str:
        return f"{self.median:.3f} {unit} ({self.min:.3f} to {self.max:.3f})"


@dataclass(frozen=True)
class Result:
    """Seconds for each side, and the ratio within each pair."""

    name: str
    subject: Spread
    baseline: Spread
    ratio: Spread
    runs: int


def command(*words: str) -> Action:
    """Run a whole process; one that fails is not a time."""
    return lambda: subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


BENCHMARKS: list[Benchmark | Survey] = [
    Benchmark(
        "command-start",
        subject=command(str(Path(sys.executable).parent / "ldlab"), "--help"),
        baseline=command(sys.executable, "-c", "pass"),
        runs=10,
    ),
    Survey("bayes-rows", bench_bayes.rows_or_sums),
    Survey("bayes-ten-million", bench_bayes.ten_million_rows),
    Survey("bayes-further-program", bench_bayes.further_program),
    Survey("bayes-causalpy", bench_bayes.beside_causalpy),
]


def seconds(action: Action) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def measure(benchmark: Benchmark, runs: int) -> Result:
    """Time the pairs after one untimed pair, which fills the caches."""
    benchmark.baseline()
    benchmark.subject()
    pairs = [(seconds(benchmark.subject), seconds(benchmark.baseline)) for _ in range(runs)]
    return Result(
        benchmark.name,
        subject=Spread.of([subject for subject, _ in pairs]),
        baseline=Spread.of([baseline for _, baseline in pairs]),
        ratio=Spread.of([subject / baseline for subject, baseline in pairs]),
        runs=runs,
    )


def timed(benchmark: Benchmark, runs: int) -> dict[str, Any]:
    """Time, print, and return what is stored."""
    result = measure(benchmark, runs)
    print(f"{result.name}, {result.runs} pairs: median (min to max)")
    print(f"  subject  {result.subject.show('s')}")
    print(f"  baseline {result.baseline.show('s')}")
    print(f"  ratio    {result.ratio.show('x')}", flush=True)
    return asdict(result)


def surveyed(survey: Survey) -> dict[str, Any]:
    """Run, print, and return what is stored."""
    print(survey.name, flush=True)
    figures = survey.run()
    for name, value in figures.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for part, number in parts:
            shown = f"{number:.3f}" if isinstance(number, float) else number
            print(f"  {name} {part}  {shown}", flush=True)
    return {"name": survey.name, "figures": figures}


def main() -> None:
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser = argparse.ArgumentParser(description="Time what should stay quick, each against its baseline.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"all, unless some of: {', '.join(names)}")
    parser.add_argument("--runs", type=int, help="pairs to time, in place of each benchmark's own number")
    wanted = parser.parse_args()
    if unknown := set(wanted.names) - set(names):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(names)}")

    results: list[dict[str, Any]] = []
    for benchmark in BENCHMARKS:
        if wanted.names and benchmark.name not in wanted.names:
            continue
        if isinstance(benchmark, Survey):
            results.append(surveyed(benchmark))
        else:
            results.append(timed(benchmark, wanted.runs or benchmark.runs))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(f"Written to {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
