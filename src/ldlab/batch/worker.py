"""Worker processes: each walks one job at a time; forked from the fork server, or started afresh."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ldlab.batch.forkserver import MODELS, PANELS
from ldlab.batch.jobs import Job
from ldlab.batch.process import ENVIRONMENT, die_with, kill, without_interrupts
from ldlab.batch.store import RUNTIME

if TYPE_CHECKING:
    from ldlab.batch.failure import Failure

SOCKET_VARIABLE, MODELS_VARIABLE = "LDLAB_FORK_SERVER", "LDLAB_FORK_SERVER_OF_MODELS"
PROVISIONER = "ldlab-forked"
# In a notebook's source: it uses what the fork server of models has compiled; what only panels need.
USES_MODELS, USES_PANELS = "ldlab.bayes", "ldlab.did.honest_bounds"
STOP_SECONDS = 1.0
START_SECONDS = 30.0


def can_fork() -> bool:
    """Whether kernels can be forked here: on Linux, with the provisioner installed."""
    if sys.platform != "linux":
        return False
    return any(one.name == PROVISIONER for one in entry_points(group="jupyter_client.kernel_provisioners"))


def framed(request: dict[str, Any]) -> bytes:
    """A request to the fork server."""
    said = json.dumps(request).encode()
    return len(said).to_bytes(4) + said


def uses_models(job: Job) -> bool:
    """Whether a job's notebook samples from the standard models."""
    return USES_MODELS in _source(job)


def uses_panels(job: Job) -> bool:
    """Whether a job's notebook needs what only panels need."""
    return USES_PANELS in _source(job)


def _source(job: Job) -> str:
    return (job.root / "notebooks" / f"{job.notebook}.ipynb").read_text(encoding="utf-8")


class ForkServer:
    """The process that workers and kernels are forked from.

    Parameters
    ----------
    run
        The batch's name.
    families
        The families of models to compile.
    panels
        Whether notebooks of panels will run.
    """

    def __init__(self, run: str, families: Sequence[str] = (), *, panels: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"{RUNTIME}{run}-"))
        self.address = str(self.folder / "fork")
        command = [sys.executable, "-m", "ldlab.batch.forkserver", self.address]
        command += [*([PANELS] if panels else []), *families]
        models = self.address + MODELS if families else self.address
        environment = {**os.environ, **ENVIRONMENT, SOCKET_VARIABLE: self.address, MODELS_VARIABLE: models}
        with without_interrupts():
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)

    def connect(self) -> Connection:
        """Ask for a worker. The answer may take as long as the server's imports; this does not."""
        deadline = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            client = socket.socket(socket.AF_UNIX)
            try:
                client.connect(self.address)
            except (FileNotFoundError, ConnectionRefusedError):
                client.close()
                time.sleep(0.01)
                continue
            client.sendall(framed({"worker": True}))
            return Connection(client.detach())
        from ldlab.program import LdlabError

        raise LdlabError("The fork server did not start. Run with --cold, which does without.")

    def stop(self) -> None:
        """End it, and with it everything that it forked."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(eq=False)
class Worker:
    """A process that runs one job at a time, and our end of the pipe to it."""

    connection: Connection
    process: Any = None
    pid: int | None = None
    job: Job | None = None
    since: float = 0.0

    @classmethod
    def start(cls, server: ForkServer | None) -> Worker:
        """Fork a worker from the server; without one, start it afresh."""
        return cls(server.connect()) if server is not None else cls._spawned()

    @classmethod
    def _spawned(cls) -> Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_spawned, args=(theirs,), daemon=True)
        resource_tracker.ensure_running()  # its own start would let interrupts through again
        with without_interrupts():
            process.start()
        theirs.close()
        return cls(ours, process, process.pid)

    def give(self, job: Job, failure: Failure | None = None) -> None:
        """Give it a job to run; or, with a failure, one to bury."""
        self.job, self.since = job, time.perf_counter()
        self.connection.send((job, failure))


@dataclass
class Workers:
    """The workers of a batch, started when they are needed."""

    limit: int
    server: ForkServer | None = None
    all: list[Worker] = field(default_factory=list)

    def busy(self) -> list[Worker]:
        """Those that have a job."""
        return [worker for worker in self.all if worker.job is not None]

    def idle(self) -> Worker:
        """One that has none; a new one if need be."""
        for worker in self.all:
            if worker.job is None:
                return worker
        self.all.append(Worker.start(self.server))
        return self.all[-1]

    def end(self, worker: Worker) -> None:
        """End one, with its kernel."""
        self.all.remove(worker)
        _stop([worker])

    def stop(self) -> None:
        """End them all, with their kernels."""
        if self.server is not None:
            self.server.stop()
        _stop(self.all)
        self.all.clear()


def _stop(workers: Iterable[Worker]) -> None:
    """End the processes; each takes its kernel with it."""
    workers = list(workers)
    for worker in workers:
        worker.connection.close()
        if worker.process is None:
            if worker.pid is not None:
                kill(worker.pid)
        elif sys.platform == "linux":
            worker.process.kill()
        else:  # kernels are not killed with it there: it has to end its own
            worker.process.terminate()
    for worker in workers:
        if worker.process is not None:
            worker.process.join(STOP_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def _spawned(connection: Connection) -> None:
    parent = multiprocessing.parent_process()
    die_with(parent.pid if parent and parent.pid else os.getppid())
    os.environ.update(ENVIRONMENT)
    for name in (SOCKET_VARIABLE, MODELS_VARIABLE):
        os.environ.pop(name, None)
    serve(connection)


def prepare(job: Job) -> None:
    """Make this process ready for a job."""
    os.environ["LDLAB_PROJECT"] = str(job.root)


def serve(connection: Connection) -> None:
    """In a worker: run jobs until the other end closes."""
    # The parent decides on an interrupt; its SIGTERM unwinds the stack, which ends the kernel.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    from ldlab.batch.job import bury, run_job

    with contextlib.suppress(EOFError, OSError):
        connection.send(("pid", os.getpid()))
        while True:
            job, failure = connection.recv()
            prepare(job)
            if failure is not None:
                connection.send(("done", bury(job, failure)))
            else:
                connection.send(("done", run_job(job, lambda stage: connection.send(("stage", stage)))))
