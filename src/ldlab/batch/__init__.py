"""Program files -> executed notebooks -> outputs.

``run`` (``runner``) runs what is due: the plan (``jobs``) less what is current (``status``, by the hashes of
``inputs`` and the ``record`` of each run). A ``worker`` process walks each ``job``: the notebook's doors are checked
(``notebook``), papermill executes it in a ``kernel`` (forked from the ``forkserver`` through the ``provisioner``, or
``cold``), the copy is cleaned and held at the disclosure gate (``publish``, ``failure``), and swapped in (``store``)
together with its ``page``. What is here is loaded when first used, so that a run with nothing to do ends quickly.
"""

from __future__ import annotations

import importlib
from typing import Any

_NAMES = {
    "BRIEF": "jobs",
    "PORTFOLIO": "jobs",
    "Event": "progress",
    "JobResult": "job",
    "Progress": "progress",
    "Standing": "status",
    "Summary": "summary",
    "check_doors": "notebook",
    "open_run": "scratch",
    "plan": "jobs",
    "plan_of": "status",
    "run": "runner",
    "shown": "progress",
    "standings": "status",
    "send_all": "upload",
}
__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"ldlab.batch.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'ldlab.batch' has no attribute '{name}'")
