"""The batch: which jobs are due, in which order, in which process."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Literal

from ldlab.batch import store
from ldlab.batch.inputs import Inputs, Known, known_programs, select
from ldlab.batch.jobs import BRIEF, PORTFOLIO, Job, plan
from ldlab.batch.ledger import Ledger
from ldlab.batch.notebook import check_doors
from ldlab.batch.progress import Progress
from ldlab.batch.record import Record
from ldlab.batch.status import due, unfinished
from ldlab.batch.summary import Summary
from ldlab.batch.worker import ForkServer, Worker, Workers, can_fork, uses_models, uses_panels

# What a worker may take beyond a notebook's own limit, to render and to publish, before it is taken for stuck.
GRACE_SECONDS = 120.0
# So many programs with models before one process compiles for all: it compiles more than each of them needs.
WORTH_COMPILING = 3
# Which standard model (ldlab.bayes.warm) a design, else a kind of KPI, gets; one of the gaussian, if neither is named.
FEW_COVARIATES = 4
FAMILIES = {"staggered": "panel", "binary": "binary", "count": "count", "rate": "count"}


def run(
    programs: Sequence[str] | None = None,
    *,
    root: Path,
    outputs: Path | None = None,
    notebooks: Iterable[str] | None = None,
    jobs: int | None = None,
    force: bool = False,
    timeout: float | None = None,
    cold: bool = False,
    cluster: str | None = None,
    check: Callable[[Sequence[str]], object] | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Run the notebooks whose results are not current, several at a time; one that fails never stops the others.

    Each program's brief runs as soon as its analyses have ended, the portfolio when everything else has.

    Parameters
    ----------
    programs
        Ids; default: all of the project's.
    root, outputs
        The project, and where results go; default: ``outputs/`` in the project.
    notebooks
        Only these; what is made from their results (brief, portfolio) runs after them. Default: all.
    jobs
        How many at a time; default: one for each processor.
    force
        Run also what is current.
    timeout
        Seconds that a notebook may execute; it is killed after that.
    cold
        Start every kernel afresh, rather than fork it from a process that has everything imported.
    cluster
        Address of a Dask scheduler whose workers run the jobs, instead of processes of this machine.
    check
        Given the files of the programs that will run, before anything does; raises to stop.
    progress
        Told every :class:`Event`.

    Returns
    -------
    Summary
        How each job ended. The caller decides on the exit status.

    Raises
    ------
    InputError
        Before anything runs: a program file with a fault; a notebook that is missing or has no proper
        parameters cell, or that nobody runs; an output folder that cannot be written to.
    LdlabError
        If another batch holds the outputs folder.
    """
    begun = time.perf_counter()
    root = root.resolve()
    outputs = (outputs or root / "outputs").resolve()
    known = known_programs(root, outputs / store.PROGRAMS_FILE)
    planned = plan(select(known, programs), root=root, outputs=outputs, notebooks=notebooks, timeout=timeout)
    names = sorted({job.notebook for job in planned})
    check_doors(*(root / "notebooks" / f"{name}.ipynb" for name in names), root=root)
    wanted = due(planned, Inputs(known, root), force=force)
    if not wanted:
        return Summary((), len(planned), time.perf_counter() - begun)
    if check is not None:
        check(_files_of(wanted))
    store.make_room(outputs)
    with store.alone(outputs), _stopping_on_sigterm():
        _tidy(outputs, planned[0].run)
        wanted = due(planned, Inputs(known, root), force=force) or wanted
        run_id = planned[0].run
        _queue(wanted, len(planned))
        ledger = Ledger(wanted, known, progress or (lambda event: None), force=force)
        try:
            _work(ledger, jobs=max(1, jobs or os.cpu_count() or 1), cold=cold, cluster=cluster)
        except BaseException as error:
            store.log(outputs, run_id, event="stopped", why=type(error).__name__)
            raise
        finally:
            store.forget_run(outputs, run_id)
        results = ledger.results
        done, current = tuple(results[job] for job in wanted), len(planned) - len(wanted)
        summary = Summary(done, current, time.perf_counter() - begun)
        store.log(
            outputs, run_id, event="ended", seconds=round(summary.seconds, 1), failed=len(summary.failures)
        )
        return summary


def _work(ledger: Ledger, *, jobs: int, cold: bool, cluster: str | None) -> None:
    """Do what the ledger holds, here or on a cluster."""
    families = _families(ledger.planned, ledger.known)
    if cluster is not None:
        from ldlab.batch.cluster import connected, run_all

        with connected(cluster) as client:
            run_all(client, ledger, families)
        return
    server = None
    if not cold and can_fork():
        panels = any(uses_panels(job) for job in ledger.waiting)
        server = ForkServer(ledger.planned[0].run, families, panels=panels)
    if server is not None:  # what needs no compiled models goes first, while they are compiled
        ledger.waiting.sort(key=lambda job: job.notebook not in (BRIEF, PORTFOLIO) and uses_models(job))
    workers, ledger.limit = Workers(jobs, server), jobs
    try:
        _Local(workers, ledger).run()
    finally:
        workers.stop()


def _files_of(jobs: Iterable[Job]) -> list[str]:
    return list(dict.fromkeys(job.program_file for job in jobs if job.program))


def _tidy(outputs: Path, run: str) -> None:
    """Finish what a killed batch left, and write down what it was doing."""
    store.recover(outputs)
    for record in unfinished(outputs):
        if record.status == "running":
            store.log(
                outputs, record.run, program=record.program, notebook=record.notebook, status="killed",
                worker=f"{record.host}:{record.pid}", found_by=run,
            )  # fmt: skip
    store.forget(outputs)


@contextmanager
def _stopping_on_sigterm() -> Iterator[None]:
    """A request to end is an interrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _queue(wanted: Sequence[Job], planned: int) -> None:
    """Make each job's folder, and note that it waits."""
    first = wanted[0]
    try:
        for job in wanted:
            job.folder.mkdir(parents=True, exist_ok=True)
            Record(job.program, job.notebook, job.run, "queued").write(job.folder)
    except OSError as error:
        store.forget_run(first.outputs, first.run)
        raise store.cannot_write(first.outputs, error) from error
    store.log(first.outputs, first.run, event="begun", jobs=len(wanted), current=planned - len(wanted))


def _families(jobs: Iterable[Job], known: Iterable[Known]) -> list[str]:
    """The families of the standard models that these jobs sample from; for a few jobs it is quicker without."""
    of_models = {job.program for job in jobs if uses_models(job)}
    if len(of_models) < WORTH_COMPILING:
        return []
    asked = [program for program in known if program.id in of_models]
    others = {FAMILIES.get(kind, "gaussian") for program in asked for kind in program.other_value_types}
    return sorted(others | {_family(program) for program in asked})


def _family(program: Known) -> str:
    gaussian = "gaussian" if program.covariates <= FEW_COVARIATES else "gaussian-16"
    return FAMILIES.get(program.design) or FAMILIES.get(program.value_type, gaussian)


@dataclass
class _Local:
    """The processes of this machine, at work on a ledger."""

    workers: Workers
    ledger: Ledger
    lost: Counter[Job] = field(default_factory=Counter)

    def run(self) -> None:
        """Keep every worker busy until nothing waits."""
        while True:
            while len(self.workers.busy()) < self.workers.limit and (job := self.ledger.next()) is not None:
                self.workers.idle().give(job)
            busy = self.workers.busy()
            if not busy:
                return
            ready = wait([worker.connection for worker in busy], timeout=self._patience())
            for worker in [worker for worker in busy if worker.connection in ready]:
                self._hear(worker)
            for worker in [worker for worker in self.workers.busy() if self._is_stuck(worker)]:
                self._lost(worker, "It did not come to an end after its notebook had.", "timed out")

    def _hear(self, worker: Worker) -> None:
        assert worker.job is not None
        try:
            kind, message = worker.connection.recv()
        except (EOFError, OSError):
            text = "The process that ran the notebook died. A common cause is too little memory."
            self._lost(worker, text, "killed")
            return
        if kind == "pid":
            worker.pid = message
        elif kind == "stage":
            self.ledger.tell(worker.job, message, time.perf_counter() - worker.since)
        else:
            job, worker.job = worker.job, None
            self.ledger.ended(job, message, time.perf_counter() - worker.since)

    def _lost(self, worker: Worker, text: str, status: Literal["killed", "timed out"]) -> None:
        """A worker died or is stuck: another one publishes that its job failed."""
        from ldlab.batch.failure import Failure
        from ldlab.batch.job import JobResult

        job = worker.job
        assert job is not None
        self.workers.end(worker)
        failure = Failure(job.notebook, job.program, "WorkerDied", None, text, status)
        self.lost[job] += 1
        if self.lost[job] == 1:
            self.workers.idle().give(job, failure)
        else:  # the one that was to publish it died too
            seconds = time.perf_counter() - worker.since
            self.ledger.ended(job, JobResult(job.program, job.notebook, status, failure=failure), seconds)

    def _patience(self) -> float | None:
        ends = [worker.since + worker.job.timeout + GRACE_SECONDS for worker in self.workers.busy()
                if worker.job is not None and worker.job.timeout is not None]  # fmt: skip
        return max(0.0, min(ends) - time.perf_counter()) if ends else None

    def _is_stuck(self, worker: Worker) -> bool:
        limit = worker.job.timeout if worker.job is not None else None
        return limit is not None and time.perf_counter() - worker.since > limit + GRACE_SECONDS
