"""The fork server: a process that has imported the stack and compiled the models, and forks kernels and workers.

``python -m ldlab.batch.forkserver SOCKET [--panels] [FAMILY ...]`` is started by a batch, and ends with it. Compiling takes
longer than importing, so a fork of it does that, and then serves SOCKET-models; kernels that use no models need not
wait. Each runs one thread, reads no data and executes no notebook. Whoever connects sends one request (JSON behind
its length); the connection then stands for the child:

- ``{"kernel": [arguments], "env": {...}, "cwd": "..."}`` forks a kernel. The process id comes back, later the
  exit code; a kernel whose connection closes (its worker died) is killed.
- ``{"worker": true}`` forks a worker of the batch, which keeps the connection.

multiprocessing's own fork server was tried first: its children are not killed when the one who asked for them
dies, a notebook sees that it is somebody's child process, and it is one a process, whoever else wants one.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ldlab.batch.process import die_first_for_memory, die_with, kill

MODELS = "-models"
# What a notebook that names "ldlab.did.honest_bounds" needs besides: a hundred megabytes that others do without.
PANELS, OF_PANELS = "--panels", ("diff_diff", "cvxpy")
# What workers and notebooks import. A room that cannot be imported fails in the notebook that asks for it.
STACK = (
    "ipykernel.kernelapp", "ipykernel.ipkernel", "matplotlib_inline.backend_inline", "matplotlib.pyplot", "seaborn",
    "papermill", "nbconvert", "ldlab.ab", "ldlab.bayes", "ldlab.checks", "ldlab.data", "ldlab.did", "ldlab.money",
    "ldlab.plots", "ldlab.report", "ldlab.simulate", "ldlab.observational", "ldlab.batch.worker", "ldlab.batch.job",
    "ldlab.batch.page", "arviz_plots.backend.matplotlib", "arro3.core",
    "dask.array",  # xarray asks for it where it is installed
)  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Import, compile, then fork on request until the batch ends."""
    path, *rest = arguments
    families = [name for name in rest if name != PANELS]
    die_with(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listener, for_models = _listen(path), _listen(path + MODELS) if families else None
    _import_stack((*STACK, *(OF_PANELS if PANELS in rest else ())))
    _render_something()
    parent = os.getpid()
    if for_models is not None and os.fork() == 0:
        die_with(parent)
        _compile(families)
        listener = for_models
    gc.collect()
    gc.freeze()  # so that a child's collector does not touch, and thereby copy, all of the parent's memory
    _serve(listener)


def _import_stack(modules: Sequence[str] = STACK) -> None:
    """Import what kernels will; polars not, which starts threads: those who can do without it here do, until a kernel asks."""
    sys.modules["polars"] = None  # type: ignore[assignment]
    for module in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(module)
    del sys.modules["polars"]


def _listen(path: str) -> socket.socket:
    """Whoever connects from now on waits until we serve."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    return listener


def _compile(families: Sequence[str]) -> None:
    """Compile the standard models; one that cannot be compiled, the notebook compiles itself."""
    import ldlab

    for family in families:
        with contextlib.suppress(Exception):
            ldlab.bayes.warm([family])


def _render_something() -> None:
    """Compile the page's templates; draw a figure, which loads the fonts."""
    from nbformat.v4 import new_markdown_cell, new_notebook

    from ldlab.batch import page

    figure = importlib.import_module("ldlab.plots.figure")
    with contextlib.suppress(Exception):
        page.render(new_notebook(cells=[new_markdown_cell("# Ready?")]))
    with contextlib.suppress(Exception), figure.style():
        figure.finished(figure.new_axes(1.0)[0], "ready", "Ready?", "Nothing yet").png()


def _serve(listener: socket.socket) -> None:
    """Fork for whoever asks; pass on how each kernel ended, and end those that nobody waits for."""
    kernels: dict[socket.socket, int] = {}
    wake, woken = socket.socketpair()
    for end in (wake, woken):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    while True:
        ready, _, _ = select.select([listener, woken, *kernels], [], [])
        if woken in ready:
            woken.recv(4096)
        _reap(kernels)
        for connection in [one for one in ready if one in kernels]:
            kill(kernels.pop(connection))  # nothing is ever sent after the request: the other end is gone
            connection.close()
        if listener in ready:
            asked, _ = listener.accept()
            _answer(asked, kernels, (listener, wake, woken))


def _reap(kernels: dict[socket.socket, int]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        for connection in [one for one, of in kernels.items() if of == pid]:
            del kernels[connection]
            with contextlib.suppress(OSError):
                connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            connection.close()


def _answer(
    connection: socket.socket, kernels: dict[socket.socket, int], ours: Sequence[socket.socket]
) -> None:
    request = _request(connection)
    if request is None:
        connection.close()
        return
    parent, pid = os.getpid(), os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in (*ours, *kernels):
            end.close()
        die_with(parent)
        _become(request, connection)
    if "kernel" not in request:
        connection.close()
        return
    kernels[connection] = pid
    with contextlib.suppress(OSError):
        connection.sendall(f"{pid}\n".encode())


def _request(connection: socket.socket) -> dict[str, Any] | None:
    connection.settimeout(10)
    try:
        value = json.loads(_exactly(connection, int.from_bytes(_exactly(connection, 4))))
    except (OSError, ValueError):
        return None
    connection.settimeout(None)
    return value if isinstance(value, dict) else None


def _exactly(connection: socket.socket, count: int) -> bytes:
    """So many bytes and none of those behind them, which are for the child."""
    parts = b""
    while len(parts) < count:
        part = connection.recv(count - len(parts))
        if not part:
            raise ConnectionError
        parts += part
    return parts


def _become(request: dict[str, Any], connection: socket.socket) -> NoReturn:
    """In the child: be what was asked for, and never return into the server."""
    code = 1
    try:
        if "kernel" in request:
            connection.close()
            _be_kernel(request["kernel"], request["env"], request["cwd"])
        else:
            _be_worker(connection)
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _be_kernel(arguments: list[str], environment: dict[str, str], folder: str) -> None:
    import numpy as np
    from ipykernel.kernelapp import IPKernelApp

    os.setsid()
    die_first_for_memory()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    np.random.seed()  # numpy's legacy state was the parent's, and so the same in every child
    sys.argv = ["ipykernel_launcher.py", *arguments]
    # Without a parent's number it takes itself for one that a person started, and says how to connect.
    IPKernelApp.launch_instance(argv=[*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"])


def _be_worker(connection: socket.socket) -> None:
    from multiprocessing.connection import Connection

    from ldlab.batch.worker import serve

    serve(Connection(connection.detach()))


if __name__ == "__main__":
    main(sys.argv[1:])
