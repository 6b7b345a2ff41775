"""Standing: is a published result current, and if not, why not?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ldlab.batch import store
from ldlab.batch.inputs import Inputs, differing, known_programs, select
from ldlab.batch.jobs import BRIEF, PORTFOLIO, Job, plan
from ldlab.batch.record import RECORD_FILE, Record, missing_files, read_record

WORDS = {
    "notebook": "the notebook",
    "program": "the program file",
    "programs": "the program files",
    "data": "the data",
    "results": "the results it reads",
    "package": "ldlab's source",
    "environment": "the lock file",
}


@dataclass(frozen=True)
class Standing:
    """Where a result stands: ``current``, ``stale``, ``never run``, or how its last run went or goes."""

    job: Job
    status: Literal[
        "current", "stale", "never run", "queued", "running", "failed", "killed", "timed out", "refused"
    ]
    why: str = ""

    @property
    def name(self) -> str:
        """The job's name."""
        return self.job.name


def standing(job: Job, inputs: Inputs) -> Standing:
    """Where a job's published result stands, whatever may be under way."""
    failed = read_record(job.failed)
    if failed is not None:
        error = failed.error
        cell = f" at cell {error['cell']}" if error.get("cell") else ""
        return Standing(job, failed.status, f"{error.get('error_type', '')}{cell}")  # type: ignore[arg-type]
    record = read_record(job.final)
    if record is None:
        there = job.final.is_dir()
        return Standing(job, "stale" if there else "never run", f"it has no {RECORD_FILE}" if there else "")
    why = _why_stale(record, job, inputs)
    return Standing(job, "stale" if why else "current", why)


def _why_stale(record: Record, job: Job, inputs: Inputs) -> str:
    changed = differing(record.inputs, inputs.of(job))
    if changed:
        return "changed: " + ", ".join(WORDS[name] for name in changed)
    missing = missing_files(record, job.final)
    return "missing or altered: " + ", ".join(missing) if missing else ""


def due(jobs: Iterable[Job], inputs: Inputs, *, force: bool = False) -> list[Job]:
    """The jobs whose results are not current, and those that read their results."""
    found: list[Job] = []
    for job in jobs:  # in the order of the plan: what is read comes first
        reads = [one for one in found if job.notebook == PORTFOLIO or one.program == job.program]
        follows = job.notebook in (BRIEF, PORTFOLIO) and bool(reads)
        if force or follows or standing(job, inputs).status != "current":
            found.append(job)
    return found


def plan_of(programs: Sequence[str] | None = None, *, root: Path, outputs: Path | None = None) -> list[Job]:
    """Every job of these programs (default: of all), current or not."""
    root = root.resolve()
    outputs = (outputs or root / "outputs").resolve()
    known = known_programs(root, outputs / store.PROGRAMS_FILE)
    return plan(select(known, programs), root=root, outputs=outputs)


def unfinished(outputs: Path) -> list[Record]:
    """The records of what is queued or runs, or did when its batch was killed; not those whose end is published."""
    found = [read_record(path.parent) for path in (outputs / store.STAGING).glob(f"*/*/*/{RECORD_FILE}")]
    return [record for record in found if record is not None and not _is_published(record, outputs)]


def _is_published(record: Record, outputs: Path) -> bool:
    folder = outputs / record.program
    ends = [read_record(folder / name) for name in (record.notebook, f"{record.notebook}.failed")]
    return any(end is not None and end.run == record.run for end in ends)


def standings(
    programs: Sequence[str] | None = None, *, root: Path, outputs: Path | None = None
) -> list[Standing]:
    """Where every result of these programs stands, with what a batch does now, or did when it was killed."""
    root = root.resolve()
    outputs = (outputs or root / "outputs").resolve()
    known = known_programs(root, outputs / store.PROGRAMS_FILE)
    jobs, inputs = plan_of(programs, root=root, outputs=outputs), Inputs(known, root)
    alive, found = store.in_use(outputs), []
    under_way = {(record.program, record.notebook): record for record in unfinished(outputs)}
    for job in jobs:
        record = under_way.get((job.program, job.notebook))
        if record is not None and alive:
            found.append(Standing(job, record.status))  # type: ignore[arg-type]
        elif record is not None and record.status == "running":
            found.append(
                Standing(job, "killed", f"its batch ended while it ran, which began {record.started}")
            )
        else:
            found.append(standing(job, inputs))
    return found
