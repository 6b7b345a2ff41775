"""Small projects in a temporary folder, for tests that start from files."""

from __future__ import annotations

import copy
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

REPOSITORY = Path(__file__).parents[1]

PROGRAM: dict[str, Any] = {
    "title": "Ticket training",
    "owner": "People Analytics",
    "objective": {"goal": "Faster answers", "key_result": "Down 10%", "owner": "COO"},
    "kpi": {
        "column": "minutes",
        "label": "resolution time",
        "unit": "minutes",
        "direction": "decrease",
        "value_type": "continuous",
        "owner": "Service",
        "smallest_effect_worth_having": {"value": 0.5, "unit": "minutes"},
        "target": {"value": 2.0, "unit": "minutes"},
    },
    "skills": {"gap": "Slow", "learning_objective": "Fast"},
    "design": {
        "kind": "randomised",
        "unit": "agent",
        "population": "agents",
        "columns": {"unit": "agent", "treatment": "trained"},
    },
    "data": {"source": "data/table.csv"},
    "agreement": {
        "agreed_by": ["COO"],
        "agreed_on": "2025-01-06",
        "decision_rule": [
            {"decision": "scale", "when": "chance of target", "at_least": 0.7},
            {"decision": "stop", "when": "chance of gain", "below": 0.8},
            {"decision": "test further"},
        ],
    },
}


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` laid over it, section by section; None takes a key away."""
    result = copy.deepcopy(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def make_project(folder: Path, *, notebooks: bool = False) -> Path:
    """An empty project; with the real notebooks if asked for."""
    for name in ("params", "data", "notebooks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    if notebooks:
        for path in (REPOSITORY / "notebooks").glob("*.ipynb"):
            shutil.copy(path, folder / "notebooks" / path.name)
    return folder


def write_program(project: Path, name: str = "tickets", **changes: Any) -> Path:
    """A program file: the valid minimal one with ``changes``."""
    path = project / "params" / f"{name}.yaml"
    path.write_text(yaml.safe_dump(merged(PROGRAM, changes), sort_keys=False), encoding="utf-8")
    return path


def write_table(project: Path, frame: pd.DataFrame, name: str = "table.csv") -> Path:
    """A table under ``data/``."""
    path = project / "data" / name
    frame.to_csv(path, index=False)
    return path


def agents(n: int = 40) -> pd.DataFrame:
    """A cross-section of ``n`` agents, every second one trained."""
    rows = range(n)
    return pd.DataFrame(
        {
            "agent": [f"a-{i:03d}" for i in rows],
            "trained": [i % 2 for i in rows],
            "minutes": [50.0 + i % 7 for i in rows],
        }
    )


def panel(n: int = 40, periods: int = 4) -> pd.DataFrame:
    """A panel of ``n`` agents; every second one starts in period 3."""
    rows = [
        {
            "agent": f"a-{i:03d}",
            "week": t,
            "start": 3.0 if i % 2 else None,
            "minutes": 50.0 + (i * 7 + t * 3) % 11,
        }
        for i in range(n)
        for t in range(1, periods + 1)
    ]
    return pd.DataFrame(rows)


PANEL_DESIGN = {
    "kind": "staggered",
    "period": "week",
    "columns": {"treatment": None, "period": "week", "start": "start"},
}


def ends(pid: int, *, within: float = 2.0) -> bool:
    """Whether a process has ended in so many seconds; one that nobody has waited for yet has."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            stat = Path(f"/proc/{pid}/stat")
            if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False
