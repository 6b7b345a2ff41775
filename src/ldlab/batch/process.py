"""Processes: how one ends with its parent, and how another is ended."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

PR_SET_PDEATHSIG = 1
# Set before a process that imports numpy starts: later they are ignored. One thread for linear algebra a process,
# for there is a process for each core.
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # pyarrow's allocator: no thread, so that we may fork
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}


def die_with(parent: int) -> None:
    """Ask Linux to kill this process when ``parent``, which started it, ends; elsewhere nothing is done.

    It reaches a kernel that never lets go of the interpreter, as ipykernel's own polling does not.
    """
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)


def die_first_for_memory() -> None:
    """Where memory runs out, let Linux end this process rather than one that others depend on."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("600", encoding="ascii")


def kill(pid: int) -> None:
    """End a process at once, with the processes that it started."""
    for end in (os.killpg, os.kill) if hasattr(os, "killpg") else (os.kill,):
        with contextlib.suppress(OSError):
            end(pid, getattr(signal, "SIGKILL", signal.SIGTERM))


def killed_for_memory() -> int:
    """How many processes this machine has killed because memory ran out; 0 where it does not say."""
    try:
        counters = Path("/proc/vmstat").read_text(encoding="ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in counters.splitlines() if line.startswith("oom_kill ")), 0)


@contextlib.contextmanager
def without_interrupts() -> Iterator[None]:
    """A process started here never hears an interrupt, nor does its kernel; we hear it afterwards.

    Kernels would answer the interrupt that comes before their end with an error on standard error.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
