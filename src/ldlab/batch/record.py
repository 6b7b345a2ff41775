"""run.json: what happened to one run of one notebook. It is the truth; papermill's metadata is not."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

RECORD_FILE = "run.json"
SCHEMA_VERSION = 1
CHANGED = "changed while it ran"

Status = Literal["queued", "running", "ok", "failed", "killed", "timed out", "refused", "current"]


@dataclass(frozen=True)
class Record:
    """One run of a notebook for a program.

    Attributes
    ----------
    program, notebook, run
        Which, and in which batch. ``program`` is empty for the portfolio.
    status
        ``queued``, ``running``, ``ok``, ``failed``, ``killed``, ``timed out`` or ``refused``.
    host, pid, started
        The worker process that ran it, and when the run began (UTC).
    seconds
        From its start to its end.
    inputs
        Hashes of all that the result follows from; where one changed meanwhile, it says so.
    files
        The result's files: size in bytes, or for a file outside its folder the sha256.
    error
        Publishable: error type, code cell, message.
    """

    program: str
    notebook: str
    run: str
    status: Status
    host: str = ""
    pid: int = 0
    started: str = ""
    seconds: float = 0.0
    inputs: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, int | str] = field(default_factory=dict)
    error: Mapping[str, str | int | None] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def here(self, started: str) -> Record:
        """The record of a run that this process begins."""
        return replace(self, status="running", host=socket.gethostname(), pid=os.getpid(), started=started)

    def write(self, folder: Path) -> None:
        """Write ``run.json``, whole or not at all."""
        temporary = folder / f".{RECORD_FILE}.{os.getpid()}"
        temporary.write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        temporary.replace(folder / RECORD_FILE)


def read_record(folder: Path) -> Record | None:
    """The folder's record; None where there is none that this version wrote."""
    try:
        value = json.loads((folder / RECORD_FILE).read_bytes())
        return Record(**value) if value["schema_version"] == SCHEMA_VERSION else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def files_of(folder: Path, *outside: Path) -> dict[str, int | str]:
    """The files of a finished folder with their sizes; those outside with their sha256."""
    files: dict[str, int | str] = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != RECORD_FILE
    }
    return files | {f"../{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in outside}


def missing_files(record: Record, folder: Path) -> list[str]:
    """Files of the result that are gone, or no longer what they were."""
    return [name for name, expected in record.files.items() if not _is_there(folder, name, expected)]


def _is_there(folder: Path, name: str, expected: int | str) -> bool:
    try:
        if isinstance(expected, int):
            return os.stat(f"{folder}/{name}").st_size == expected
        return hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected
    except OSError:
        return False
