"""Job: a notebook for a program; and the plan of a batch."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ldlab.batch.store import STAGING

BRIEF, PORTFOLIO = "program_brief", "portfolio"
# It reads no data: an experiment is planned before there are any.
PLAN = "plan"
# It reads only sums, of however many rows.
SCALE = "ab_at_scale"
# The slowest first, so that no long job is left alone at the end.
SLOWEST_FIRST = ("bayes_impact", "observational", "diff_in_diff", "ab_test")


def reads_data(notebooks: Iterable[str]) -> bool:
    """Whether any of a program's analysis notebooks reads its data; the plan of an experiment does not."""
    return set(notebooks) != {PLAN}


class Planned(Protocol):
    """What a plan needs to know of a program."""

    @property
    def id(self) -> str:
        """The program's id."""
        ...

    @property
    def file(self) -> str:
        """Its file, relative to the project."""
        ...

    @property
    def notebooks(self) -> tuple[str, ...]:
        """Its analysis notebooks."""
        ...


@dataclass(frozen=True)
class Job:
    """A notebook for a program. ``program`` is empty for the portfolio, which is about all of them.

    ``analyses`` are the notebooks whose results it reads, for a brief; ``timeout`` counts seconds;
    ``attempt`` keeps two runs of one job apart, where it is not sure that the first is dead.
    """

    program: str
    notebook: str
    program_file: str
    root: Path
    outputs: Path
    run: str
    analyses: tuple[str, ...] = ()
    timeout: float | None = None
    attempt: str = ""

    @property
    def name(self) -> str:
        """How progress and messages call the job."""
        return f"{self.program}/{self.notebook}" if self.program else self.notebook

    @property
    def folder(self) -> Path:
        """The run's own folder, with its ``run.json``; nobody reads there."""
        name = f"{self.notebook}.{self.attempt}" if self.attempt else self.notebook
        return self.outputs / STAGING / self.run / (self.program or PORTFOLIO) / name

    @property
    def staged(self) -> Path:
        """Where the notebook writes."""
        return self.folder / "out"

    @property
    def final(self) -> Path:
        """Where results are published."""
        return self.outputs / self.program / self.notebook

    @property
    def failed(self) -> Path:
        """Where the copy of a failed run is kept."""
        return self.final.with_name(f"{self.notebook}.failed")


def plan(
    programs: Sequence[Planned],
    *,
    root: Path,
    outputs: Path,
    notebooks: Iterable[str] | None = None,
    timeout: float | None = None,
) -> list[Job]:
    """The jobs of a batch: analyses, slowest first; then briefs; then the portfolio.

    Raises
    ------
    InputError
        If a wanted notebook is run by none of the programs.
    """
    wanted = None if notebooks is None else set(notebooks)
    known = {BRIEF, PORTFOLIO, *(name for program in programs for name in program.notebooks)}
    if wanted is not None and (wanted - known or not wanted):
        _refuse(sorted(wanted - known), sorted(known))
    run = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"

    def job(program: Planned, notebook: str, analyses: tuple[str, ...] = ()) -> Job:
        return Job(program.id, notebook, program.file, root, outputs, run, analyses, timeout)

    order = {name: place for place, name in enumerate(SLOWEST_FIRST)}
    analyses = [
        job(program, name)
        for program in programs
        for name in program.notebooks
        if wanted is None or name in wanted
    ]
    analyses.sort(key=lambda one: order.get(one.notebook, len(order)))
    touched = {one.program for one in analyses}
    all_briefs = wanted is None or BRIEF in wanted
    briefs = [job(p, BRIEF, p.notebooks) for p in programs if all_briefs or p.id in touched]
    return [*analyses, *briefs, Job("", PORTFOLIO, "params", root, outputs, run, (), timeout)]


def _refuse(unknown: Sequence[str], known: Sequence[str]) -> None:
    from ldlab.program import Fault, InputError, did_you_mean

    expected = "a notebook that these programs run"
    faults = [
        Fault("--notebook", None, "notebook", f"'{name}'", expected, did_you_mean(name, known))
        for name in unknown
    ]
    raise InputError(faults or [Fault("--notebook", None, "notebook", "no name", "a notebook")])
