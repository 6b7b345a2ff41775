"""The batch: which notebooks for which programs, in which order, in which process."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path

from ldlab.batch import publish
from ldlab.batch.job import BRIEF, PORTFOLIO, IdsOf, Job, JobResult, run_job
from ldlab.batch.notebook import check_doors
from ldlab.batch.progress import Event, Progress
from ldlab.batch.publish import Failure
from ldlab.program import Fault, InputError, Program, did_you_mean, load_program, program_files, project_root

# The slowest first, so that no long job is left alone at the end.
SLOWEST_FIRST = ("bayes_impact", "diff_in_diff", "ab_test")
STOP_SECONDS = 2.0
_GIVES_ID = re.compile(r"""^["']?id["']?\s*:""", re.MULTILINE)
_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}


@dataclass(frozen=True)
class Summary:
    """How a batch ended: one result for each job, in the order they were planned."""

    results: tuple[JobResult, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether every job was published."""
        return all(result.status == "ok" for result in self.results)

    @property
    def failures(self) -> tuple[JobResult, ...]:
        """The jobs that were not."""
        return tuple(result for result in self.results if result.status != "ok")

    def __str__(self) -> str:
        """What was published, where the time went, what failed, and what the gate could not search for."""
        slowest = max(self.results, key=lambda result: result.seconds)
        execute, render = (
            sum(getattr(r, f"seconds_{part}") for r in self.results) for part in ("execute", "render")
        )
        lines = [
            f"{len(self.results) - len(self.failures)} of {len(self.results)} published in {self.seconds:.0f} s "
            f"(summed over processes: executing {execute:.0f} s, rendering {render:.0f} s; "
            f"slowest: {slowest.name}, {slowest.seconds:.0f} s)"
        ]
        lines += [f"{result.status}: {result.name}: {result.error}" for result in self.failures]
        short = {r.program: r.ids_not_searched for r in self.results if r.program and r.ids_not_searched}
        lines += [
            f"{program}: {count:,} ids are too short to be told from counts and words; pages were not searched for them"
            for program, count in short.items()
        ]
        return "\n".join(lines)


def run(
    programs: Sequence[Program],
    *,
    ids_of: IdsOf,
    notebooks: Iterable[str] | None = None,
    jobs: int | None = None,
    outputs: Path | None = None,
    root: Path | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Run notebooks for programs, several at a time; one that fails never stops the others.

    Each program's brief runs as soon as its analyses have ended, the portfolio when everything else has.

    Parameters
    ----------
    programs
        The programs, read and checked.
    ids_of
        Gives a program's identifiers, which no published file may hold. A function of a module: it is sent to
        the worker processes by name.
    notebooks
        Only these; what is made from their results (brief, portfolio) runs after them. Default: all.
    jobs
        How many at a time; default: one for each processor.
    outputs, root
        Default: ``outputs/`` in the project, and the project of the working folder.
    progress
        Told every :class:`Event`.

    Returns
    -------
    Summary
        How each job ended. The caller decides on the exit status.

    Raises
    ------
    InputError
        Before anything runs: a notebook that is missing or has no proper parameters cell, or that nobody runs;
        an output folder that cannot be written to.
    """
    begun = time.perf_counter()
    root = (root or project_root()).resolve()
    outputs = (outputs or root / "outputs").resolve()
    planned = plan(programs, root=root, outputs=outputs, notebooks=notebooks)
    names = sorted({job.notebook for job in planned})
    check_doors(*(root / "notebooks" / f"{name}.ipynb" for name in names), root=root)
    publish.make_room(outputs)
    batch = _Batch(planned, ids_of, max(1, jobs or os.cpu_count() or 1), progress or (lambda event: None))
    try:
        results = batch.run()
    finally:
        shutil.rmtree(outputs / publish.STAGING / planned[0].run, ignore_errors=True)
    return Summary(tuple(results[job] for job in planned), time.perf_counter() - begun)


def plan(
    programs: Sequence[Program], *, root: Path, outputs: Path, notebooks: Iterable[str] | None = None
) -> list[Job]:
    """The jobs of a batch: analyses, slowest first; then briefs; then the portfolio.

    Raises
    ------
    InputError
        If a wanted notebook is run by none of the programs.
    """
    wanted = None if notebooks is None else set(notebooks)
    known = {BRIEF, PORTFOLIO, *(name for program in programs for name in program.notebooks)}
    if wanted is not None and (wanted - known or not wanted):
        unknown = [
            Fault(
                "--notebook",
                None,
                "notebook",
                f"'{name}'",
                "a notebook that these programs run",
                did_you_mean(name, sorted(known)),
            )
            for name in sorted(wanted - known)
        ]
        raise InputError(unknown or [Fault("--notebook", None, "notebook", "no name", "a notebook")])
    run_id = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    files = {program.id: _program_file(program, root) for program in programs}

    def job(program: str, notebook: str) -> Job:
        return Job(program, notebook, files.get(program, "params"), root, outputs, run_id)

    analyses = [
        job(program.id, name)
        for program in programs
        for name in program.notebooks
        if wanted is None or name in wanted
    ]
    order = {name: place for place, name in enumerate(SLOWEST_FIRST)}
    analyses.sort(key=lambda one: order.get(one.notebook, len(order)))
    touched = {one.program for one in analyses}
    all_briefs = wanted is None or BRIEF in wanted
    briefs = [job(program.id, BRIEF) for program in programs if all_briefs or program.id in touched]
    return [*analyses, *briefs, job("", PORTFOLIO)]


def _program_file(program: Program, root: Path) -> str:
    """The program's file, relative to the project: the one with its name, or the one that gives its id."""
    own = root / "params" / f"{program.id}.yaml"
    if own.is_file() and not _GIVES_ID.search(own.read_text(encoding="utf-8")):
        return own.relative_to(root).as_posix()
    for path in program_files(root):
        try:
            if load_program(path, root).id == program.id:
                return path.relative_to(root).as_posix()
        except InputError:
            continue
    raise InputError(
        [Fault(program.id, None, "program file", "none in params/", f"params/{program.id}.yaml")]
    )


@dataclass(eq=False)
class _Worker:
    """A process that runs one job at a time, and our end of the pipe to it."""

    process: multiprocessing.process.BaseProcess
    connection: Connection
    job: Job | None = None
    since: float = 0.0

    @classmethod
    def start(cls, ids_of: IdsOf) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, ids_of), daemon=True)
        with _without_interrupts():
            process.start()
        theirs.close()
        return cls(process, ours)

    def give(self, job: Job) -> None:
        self.job, self.since = job, time.perf_counter()
        self.connection.send(job)


@dataclass
class _Batch:
    planned: list[Job]
    ids_of: IdsOf
    limit: int
    progress: Progress
    results: dict[Job, JobResult] = field(default_factory=dict)
    workers: list[_Worker] = field(default_factory=list)
    analyses_left: Counter[str] = field(init=False)

    def __post_init__(self) -> None:
        self.analyses_left = Counter(
            job.program for job in self.planned if job.notebook not in (BRIEF, PORTFOLIO)
        )

    def run(self) -> dict[Job, JobResult]:
        """Keep every worker busy until nothing waits. On an interrupt, workers and kernels end at once."""
        waiting = list(self.planned)
        try:
            while waiting or self._busy():
                for job in [job for job in waiting if self._is_ready(job)][: self.limit - len(self._busy())]:
                    waiting.remove(job)
                    self._begin(job)
                ready = wait([worker.connection for worker in self._busy()])
                for worker in [worker for worker in self._busy() if worker.connection in ready]:
                    self._hear(worker)
        finally:
            _stop(self.workers)
        return self.results

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self.workers if worker.job is not None]

    def _is_ready(self, job: Job) -> bool:
        """A brief waits for its program's analyses, the portfolio for everything."""
        if job.notebook == PORTFOLIO:
            return len(self.results) == len(self.planned) - 1
        return job.notebook != BRIEF or not self.analyses_left[job.program]

    def _begin(self, job: Job) -> None:
        idle = [worker for worker in self.workers if worker.job is None]
        if not idle:
            idle = [_Worker.start(self.ids_of)]
            self.workers += idle
        idle[0].give(job)
        self._tell(job, "started", 0.0)

    def _hear(self, worker: _Worker) -> None:
        assert worker.job is not None
        job, seconds = worker.job, time.perf_counter() - worker.since
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            self.workers.remove(worker)
            _stop([worker])
            text = "The process that ran the notebook died. A common cause is too little memory."
            failure = Failure(job.notebook, job.program, "WorkerDied", None, text)
            message = JobResult(job.program, job.notebook, "failed", seconds, failure=failure)
        if isinstance(message, str):
            self._tell(job, message, seconds)
            return
        worker.job = None
        self.results[job] = message
        self.analyses_left[job.program] -= job.notebook not in (BRIEF, PORTFOLIO)
        self._tell(job, message.status, seconds, message.error)

    def _tell(self, job: Job, stage: str, seconds: float, text: str = "") -> None:
        self.progress(Event(job.name, stage, seconds, text, len(self.results), len(self.planned)))


def _stop(workers: Iterable[_Worker]) -> None:
    """End the processes; each takes its kernel with it."""
    workers = list(workers)
    for worker in workers:
        worker.connection.close()
        worker.process.terminate()
    for worker in workers:
        worker.process.join(STOP_SECONDS)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """A process started here never hears an interrupt, nor does its kernel; we hear it afterwards.

    Kernels would answer the interrupt that comes before their end with an error on standard error.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # its own start would let interrupts through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, ids_of: IdsOf) -> None:
    """A worker process: run jobs until the other end closes."""
    # The parent decides on an interrupt; its SIGTERM unwinds the stack, which ends the kernel.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.environ.update(_ENVIRONMENT)
    while True:
        try:
            job: Job = connection.recv()
        except EOFError:
            return
        # The researcher's own IPython profile must not change what a batch finds.
        os.environ["IPYTHONDIR"] = str(job.outputs / publish.STAGING / job.run / "ipython")
        os.environ["LDLAB_PROJECT"] = str(job.root)
        result = run_job(job, ids_of, connection.send)
        connection.send(result)
