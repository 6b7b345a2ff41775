"""More than one machine: the same jobs, sent to an existing Dask cluster.

The rules that make it safe (measured: a killed worker's job runs again, and so may finished ones whose results it
held): a job's key is its run's id; a job that finds its own finished marker does not run again; results are swapped
in whole; one thread a worker; what a worker returns is small, and taken as it completes.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ldlab.batch.jobs import PORTFOLIO, Job
from ldlab.batch.record import read_record
from ldlab.batch.worker import ForkServer, Workers, can_fork, prepare

if TYPE_CHECKING:
    from distributed import Client

    from ldlab.batch.job import JobResult
    from ldlab.batch.ledger import Ledger

ALLOWED_FAILURES = 2
START_SECONDS = 20
_one_at_a_time = threading.Lock()
_processes: dict[str, Workers] = {}


@contextlib.contextmanager
def connected(address: str) -> Iterator[Client]:
    """A client of the scheduler at ``address``.

    Raises
    ------
    LdlabError
        If the library is not installed, or nothing answers there.
    """
    from ldlab.program import LdlabError

    try:
        import dask
        from distributed import Client
    except ImportError:
        raise LdlabError(
            "--dask needs the package 'distributed'. Install it with: pip install 'ldlab[dask]'"
        ) from None
    with dask.config.set({"distributed.scheduler.allowed-failures": ALLOWED_FAILURES}):
        try:
            client = Client(address, timeout=START_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise LdlabError(f"No Dask scheduler answers at {address} ({type(error).__name__}).") from None
    with client:
        several = [
            worker["host"]
            for worker in client.scheduler_info(n_workers=-1)["workers"].values()
            if worker["nthreads"] != 1
        ]
        if several:
            raise LdlabError(
                f"{len(several)} Dask workers have several threads, and papermill needs one: start them with "
                "--nthreads 1."
            )
        yield client


def run_all(client: Client, ledger: Ledger, families: Sequence[str]) -> None:
    """Run a ledger's jobs on the cluster; root and outputs are folders that every worker sees under the same path."""
    from distributed import as_completed

    jobs, begun = dict[str, Job](), dict[str, float]()
    completed = as_completed(loop=client.loop)

    def submit() -> None:
        while (job := ledger.next()) is not None:
            key = f"ldlab-{job.run}-{job.program or PORTFOLIO}-{job.notebook}"
            jobs[key], begun[key] = job, time.perf_counter()
            completed.add(client.submit(do, job, tuple(families), key=key, pure=False, retries=0))

    ledger.limit = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
    submit()
    try:
        while jobs:
            future = next(completed)
            job = jobs.pop(future.key)
            ledger.ended(job, _result(job, future), time.perf_counter() - begun[future.key])
            submit()
    finally:
        with contextlib.suppress(Exception):  # a cluster that is gone has nothing to end
            client.run(end_processes)


def _result(job: Job, future: Any) -> JobResult:
    from ldlab.batch.failure import Failure
    from ldlab.batch.job import bury

    if future.status == "finished":
        result: JobResult = future.result()
        return result
    error = type(future.exception()).__name__
    text = f"No worker of the cluster could run it to its end ({error})."
    return bury(job, Failure(job.notebook, job.program, error, None, text, "killed"))


def do(job: Job, families: tuple[str, ...]) -> JobResult:
    """On a worker of the cluster: run a job, unless it was finished before.

    It runs in a process of our own where there can be one; that, its fork server and its kernels end with the worker.
    """
    from ldlab.batch.job import JobResult, run_job

    record = read_record(job.final)
    if record is not None and record.run == job.run:
        return JobResult(
            job.program, job.notebook, "ok", record.seconds, worker=f"{record.host}:{record.pid}"
        )
    job = replace(
        job, attempt=uuid.uuid4().hex[:6]
    )  # the one before may not be as dead as the scheduler thinks
    with _one_at_a_time:
        if not can_fork():
            prepare(job)
            return run_job(job, lambda stage: None)
        worker = _workers(job.run, families).idle()
        worker.give(job)
        while True:
            kind, message = worker.connection.recv()
            if kind == "done":
                worker.job = None
                result: JobResult = message
                return result


def _workers(run: str, families: tuple[str, ...]) -> Workers:
    """This process's own workers for one batch; another batch's are ended."""
    if run not in _processes:
        end_processes()
        _processes[run] = Workers(1, ForkServer(run, families))
    return _processes[run]


def end_processes() -> None:
    """On a worker of the cluster: end what it started for us."""
    while _processes:
        _, workers = _processes.popitem()
        workers.stop()
