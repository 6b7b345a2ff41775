"""Kernels that start encrypted and end at once, without a word on standard error."""

from __future__ import annotations

import atexit
from typing import Any

import zmq
from jupyter_client.manager import AsyncKernelManager
from traitlets.config import Config


class Kernel(AsyncKernelManager):
    """A kernel that ends with its process, also while it is still starting and has no client yet."""

    async def start_kernel(self, *args: Any, **settings: Any) -> None:  # type: ignore[override]
        """Start the kernel."""
        await super().start_kernel(*args, **settings)
        process = getattr(self.provisioner, "process", None)
        if process is not None:
            atexit.register(process.kill)  # which does nothing where the process has ended


def config() -> Config:
    """Settings for papermill.

    What kernels say over loopback sockets, which any user can reach, is encrypted. They are ended at once: a
    graceful end begins with an interrupt, and the kernel complains of one that comes while a message is in hand.
    """
    settings = Config({"NotebookClient": {"shutdown_kernel": "immediate", "kernel_manager_class": Kernel}})
    if zmq.has("curve"):
        settings.KernelManager.transport_encryption = "auto"
    return settings
