"""ldlab: what did a training program do to the KPI that the business agreed on?

Rooms are reached as ``ldlab.ab``, ``ldlab.did``, ``ldlab.bayes`` ... and loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_ROOMS = (
    "ab",
    "batch",
    "bayes",
    "checks",
    "data",
    "did",
    "disclosure",
    "estimate",
    "money",
    "observational",
    "plots",
    "program",
    "report",
    "simulate",
)
_NAMES = {
    "load_program": "program",
    "load_programs": "program",
    "project_root": "program",
    "Program": "program",
    "Study": "program",
    "InputError": "program",
    "LdlabError": "program",
    "load_study": "data",
    "load_cross_products": "data",
    "load_experiment": "data",
    "Estimate": "estimate",
    "Check": "estimate",
    "Claim": "estimate",
}


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"ldlab.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"ldlab.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'ldlab' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOMS, *_NAMES])
