"""The ledger of a batch: what waits for what, what has ended and how, and who is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ldlab.batch import store
from ldlab.batch.inputs import Inputs, Known
from ldlab.batch.jobs import BRIEF, PORTFOLIO, Job
from ldlab.batch.progress import Event, Progress
from ldlab.batch.status import standing

if TYPE_CHECKING:
    from ldlab.batch.job import JobResult


@dataclass
class Ledger:
    """The jobs of a batch that are due, from waiting to ended."""

    planned: list[Job]
    known: Sequence[Known]
    progress: Progress
    force: bool = False
    limit: int = 1
    waiting: list[Job] = field(init=False)
    results: dict[Job, JobResult] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.waiting = list(self.planned)

    def next(self) -> Job | None:
        """The next job that waits for no other; None if there is none now.

        A brief or portfolio whose inputs turn out to be what they were is current, and ends here.
        """
        while True:
            job = next((one for one in self.waiting if self._is_ready(one)), None)
            if job is None:
                return None
            self.waiting.remove(job)
            if self.force or job.notebook not in (BRIEF, PORTFOLIO):
                break
            if standing(job, Inputs(self.known, job.root)).status != "current":
                break
            from ldlab.batch.job import JobResult

            self.ended(job, JobResult(job.program, job.notebook, "current"), 0.0)
        self.tell(job, "started", 0.0)
        return job

    def _is_ready(self, job: Job) -> bool:
        """A brief waits for its program's analyses, the portfolio for everything."""
        if job.notebook == PORTFOLIO:
            return len(self.results) == len(self.planned) - 1
        if job.notebook != BRIEF:
            return True
        analyses = [one for one in self.planned if one.program == job.program and one.notebook != BRIEF]
        return all(one in self.results for one in analyses)

    def ended(self, job: Job, result: JobResult, seconds: float) -> None:
        """A job has ended."""
        self.results[job] = result
        failure = result.failure
        told = {"error_type": failure.error_type, "cell": failure.cell} if failure else {}
        store.log(
            job.outputs,
            job.run,
            program=result.program,
            notebook=result.notebook,
            status=result.status,
            seconds=round(result.seconds, 2),
            worker=result.worker,
            **told,
        )
        self.tell(job, result.status, seconds, result.error)

    def tell(self, job: Job, stage: str, seconds: float, text: str = "") -> None:
        """Tell whoever watches."""
        done, total = len(self.results), len(self.planned)
        self.progress(Event(job.name, stage, seconds, text, done, total, self._remaining()))

    def _remaining(self) -> float | None:
        """Seconds left: for each job that has not ended, what its notebook took on average in this batch."""
        took: dict[str, list[float]] = {}
        for job, result in self.results.items():
            took.setdefault(job.notebook, []).append(result.seconds)
        if not took:
            return None
        means = {name: sum(seconds) / len(seconds) for name, seconds in took.items()}
        typical = sum(means.values()) / len(means)
        left = sum(means.get(job.notebook, typical) for job in self.planned if job not in self.results)
        return left / self.limit
