"""The record of looks: which data a program's result was read from before, so that peeking can be seen."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from ldlab.program import Study
from ldlab.program.reading import iso
from ldlab.report.result import outputs_root

FOLDER = ".looks"


@dataclass(frozen=True)
class Look:
    """One look: the data that were read, no clock and no path, so that it is the same from run to run.

    ``units`` are those with a KPI; None where an arm has fewer than the minimum group.
    """

    data_sha256: str
    program_sha256: str
    units: int | None
    cut_off: str | None


def record_look(study: Study, output_dir: str | Path) -> None:
    """Add a line for these data to the program's record, ``outputs/.looks/<program>.jsonl``; once for the same data.

    The record lies beside the folders that runs replace, and outlives them. A line is written in one piece, so that
    jobs which run at once do not harm it. Studies without a data hash (frames made by hand) leave no record.

    Parameters
    ----------
    study
        The program and its data; of several KPIs the primary one.
    output_dir
        The notebook's output folder, relative to the project; empty: its own place under ``outputs/``.
    """
    file = _file(study, output_dir)
    known = _read(file)
    if not study.data_sha256 or any(look.data_sha256 == study.data_sha256 for look in known):
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(asdict(_look(study)), sort_keys=True) + "\n"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, (("\n" if _is_torn(file) else "") + line).encode())
    finally:
        os.close(descriptor)


def earlier_looks(study: Study, output_dir: str | Path) -> tuple[int, ...]:
    """Units with a KPI at each earlier look on record, in the order of the looks.

    Earlier is what was recorded before these data first were, with fewer units or an earlier cut-off: the answer for
    the same data does not change when they are read again, or after more data have come. A look with a small arm
    counts with twice the minimum group.

    Parameters
    ----------
    study, output_dir
        As in :func:`record_look`.
    """
    now = _look(study)
    units = len(study.frame)
    smallest = 2 * study.program.analysis.minimum_group_size
    before: list[int] = []
    for look in _read(_file(study, output_dir)):
        if look.data_sha256 == study.data_sha256:
            break
        seen = smallest if look.units is None else look.units
        if seen < units or (look.cut_off or "") < (now.cut_off or ""):
            before.append(min(seen, units))
    return tuple(before)


def _look(study: Study) -> Look:
    arms = study.frame["arm"].value_counts()
    small = len(arms) < 2 or int(arms.min()) < study.program.analysis.minimum_group_size
    cut_off = iso(study.cut_off)
    return Look(
        data_sha256=study.data_sha256,
        program_sha256=study.program.sha256,
        units=None if small else len(study.frame),
        cut_off=None if cut_off is None else str(cut_off),
    )


def _file(study: Study, output_dir: str | Path) -> Path:
    program = study.program
    folder = program.root / (output_dir or f"outputs/{program.id}/{program.lead}")
    return outputs_root(folder, levels=2) / FOLDER / f"{program.id}.jsonl"


def _read(file: Path) -> list[Look]:
    """The looks on record, each data set once; lines that are not whole are passed over."""
    looks: dict[str, Look] = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        try:
            look = Look(**json.loads(line))
        except (ValueError, TypeError):
            continue
        looks.setdefault(look.data_sha256, look)
    return list(looks.values())


def _is_torn(file: Path) -> bool:
    """Whether the last line was cut off, as by a full disk."""
    text = file.read_bytes()
    return bool(text) and not text.endswith(b"\n")
