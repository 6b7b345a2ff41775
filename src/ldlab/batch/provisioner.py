"""Provisioner: how jupyter_client gets a kernel from the batch's fork server."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import LocalProvisioner
from traitlets import Bool

from ldlab.batch.worker import MODELS_VARIABLE, SOCKET_VARIABLE, framed


class Forked:
    """A forked kernel, with what jupyter_client expects of a process."""

    stdin = stdout = stderr = None

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self.returncode = connection, None
        self._said = b""
        self.pid = int(self._line())

    @classmethod
    def start(cls, server: str, arguments: list[str], environment: dict[str, str], folder: str) -> Forked:
        """Ask a fork server for a kernel."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(server)
        request = {"kernel": arguments, "env": environment, "cwd": folder}
        connection.sendall(framed(request))
        return cls(connection)

    returncode: int | None

    def _line(self) -> bytes:
        while b"\n" not in self._said:
            more = self.connection.recv(64)
            if not more:
                raise ConnectionError("The fork server of this batch has ended.")
            self._said += more
        line, _, self._said = self._said.partition(b"\n")
        return line

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        if self.returncode is None:
            self.connection.setblocking(False)
            try:
                self.returncode = int(self._line())
            except BlockingIOError:
                return None
            except OSError:  # the server died, and every kernel with it
                self.returncode = -signal.SIGKILL
            finally:
                if self.returncode is not None:
                    self.connection.close()
        return self.returncode

    def wait(self) -> int:
        """Wait for its end."""
        while (code := self.poll()) is None:
            time.sleep(0.005)
        return code

    def send_signal(self, signum: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


class ForkedProvisioner(LocalProvisioner):
    """Kernels that start in a fork of a process which has everything imported; and, with ``models``, compiled."""

    models = Bool(False)

    async def launch_kernel(self, cmd: list[str], **settings: Any) -> KernelConnectionInfo:
        """Fork a kernel with the arguments of an ordinary one."""
        arguments = cmd[cmd.index("-f") :]
        folder = str(settings.get("cwd") or os.getcwd())
        environment = dict(settings["env"])
        server = environment.pop(SOCKET_VARIABLE)
        of_models = environment.pop(MODELS_VARIABLE)
        forked = Forked.start(of_models if self.models else server, arguments, environment, folder)
        self.process = forked  # type: ignore[assignment]
        self.pid = self.pgid = forked.pid
        self.cwd = folder
        return self.connection_info

    async def wait(self) -> int | None:
        """Wait for the kernel's end."""
        while self.process and await self.poll() is None:
            await asyncio.sleep(0.005)
        code = self.process.poll() if self.process else None
        self.process = None
        return code
