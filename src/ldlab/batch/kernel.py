"""Kernels of a batch: which kind, where they speak, and how each one ended."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines
from traitlets import default
from traitlets.config import Config

from ldlab.batch.jobs import Job
from ldlab.batch.process import kill, killed_for_memory
from ldlab.batch.store import RUNTIME
from ldlab.batch.worker import SOCKET_VARIABLE, uses_models

SPECS = Path(__file__).parents[1] / "kernels"
COLD, FORKED, FORKED_MODELS = "ldlab-cold", "ldlab-forked", "ldlab-forked-models"
ENGINE = "ldlab"


class SavesOnce(NBClientEngine):
    """papermill's own engine; but the notebook is written when it has ended, not before and after each cell.

    A notebook of 40 cells would be written 80 times, its figures each time.
    """

    @classmethod
    def execute_managed_notebook(cls, nb_man: NotebookExecutionManager, *args: Any, **settings: Any) -> Any:
        """Execute the notebook; whatever became of it, papermill then writes it."""
        path, nb_man.output_path = nb_man.output_path, None
        try:
            return super().execute_managed_notebook(nb_man, *args, **settings)
        finally:
            nb_man.output_path = path


papermill_engines.register(ENGINE, SavesOnce)


def kind(job: Job) -> str:
    """The kernelspec to use: forked from the batch's fork server where this process has one."""
    if not os.environ.get(SOCKET_VARIABLE):
        return COLD
    return FORKED_MODELS if uses_models(job) else FORKED


@dataclass
class Watch:
    """One kernel, from its start to its end.

    Attributes
    ----------
    timeout
        Seconds after which it is killed.
    pid, exit_code
        Its process, and how that ended by itself; None until then.
    timed_out, out_of_memory
        Whether it was killed for its time, or by the system for its memory.
    """

    timeout: float | None = None
    pid: int | None = None
    exit_code: int | None = None
    timed_out: bool = False
    folder: Path = field(default_factory=Path)
    _killed_before: int = 0
    _timer: threading.Timer | None = None

    def begin(self, run: str) -> None:
        """Make the folder for its sockets, and start the clock."""
        self.folder = Path(tempfile.mkdtemp(prefix=f"{RUNTIME}{run}-"))  # of mode 0700
        self._killed_before = killed_for_memory()
        if self.timeout is not None:
            self._timer = threading.Timer(self.timeout, self._end)
            self._timer.daemon = True
            self._timer.start()

    def _end(self) -> None:
        self.timed_out = True
        if self.pid is not None:
            kill(self.pid)

    def started(self, pid: int) -> None:
        """Told by the kernel manager."""
        self.pid = pid
        if self.timed_out:
            kill(pid)

    def done(self) -> None:
        """Stop the clock and remove the sockets."""
        if self._timer is not None:
            self._timer.cancel()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def out_of_memory(self) -> bool:
        """Whether the system killed something for memory while this kernel was killed."""
        return self.exit_code == -9 and not self.timed_out and killed_for_memory() > self._killed_before


class Kernel(AsyncKernelManager):
    """A kernel that ends with its process, also while it is still starting and has no client yet."""

    watch: Watch | None = None

    @default("kernel_spec_manager")
    def _own_specs_too(self) -> KernelSpecManager:
        specs = KernelSpecManager(data_dir=self.data_dir)
        specs.kernel_dirs = [str(SPECS), *specs.kernel_dirs]
        return specs

    async def start_kernel(self, *args: Any, **settings: Any) -> None:  # type: ignore[override]
        """Start the kernel."""
        await super().start_kernel(*args, **settings)
        process = getattr(self.provisioner, "process", None)
        if process is not None:
            atexit.register(process.kill)  # which does nothing where the process has ended
            if self.watch is not None:
                self.watch.started(process.pid)

    async def is_alive(self) -> bool:  # type: ignore[override]
        """Whether the kernel's process runs; if it ended by itself, how is noted."""
        process = getattr(self.provisioner, "process", None)
        alive = await self._async_is_alive()
        if not alive and process is not None and self.watch is not None:
            self.watch.exit_code = process.poll()
        return alive


def config(watch: Watch) -> Config:
    """Settings for papermill.

    Kernels speak over sockets in a folder that only this user can enter; where there are no such sockets
    (Windows), over encrypted ones. They are ended at once: a graceful end begins with an interrupt, and the
    kernel complains of one that comes while a message is in hand.
    """
    manager = type("WatchedKernel", (Kernel,), {"watch": watch})
    settings = Config({"NotebookClient": {"shutdown_kernel": "immediate", "kernel_manager_class": manager}})
    if sys.platform != "win32":
        settings.KernelManager.transport = "ipc"
        settings.KernelManager.connection_file = str(watch.folder / "kernel.json")
    elif zmq.has("curve"):
        settings.KernelManager.transport_encryption = "auto"
    return settings
