"""How a batch ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ldlab.batch.job import JobResult

SLOWEST = 3


@dataclass(frozen=True)
class Summary:
    """How a batch ended: a result for each job that was due, in the order they were planned.

    ``current`` counts the results that were current, and so were not run.
    """

    results: tuple[JobResult, ...]
    current: int
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether every result is there and current."""
        return not self.failures

    @property
    def failures(self) -> tuple[JobResult, ...]:
        """The jobs that were not published."""
        return tuple(result for result in self.results if result.status not in ("ok", "current"))

    def __str__(self) -> str:
        """What was published, where the time went, what failed, and what the gate could not search for."""
        ran = [result for result in self.results if result.status != "current"]
        current = self.current + len(self.results) - len(ran)
        if not ran:
            return f"All {current} results are current; nothing was run (--force runs them again)."
        slowest = sorted(ran, key=lambda result: result.seconds, reverse=True)[:SLOWEST]
        execute, render = (sum(getattr(r, f"seconds_{part}") for r in ran) for part in ("execute", "render"))
        skipped = f", {current} were current" if current else ""
        lines = [
            f"{len(ran) - len(self.failures)} of {len(ran)} published in {self.seconds:.0f} s{skipped} "
            f"(summed over processes: executing {execute:.0f} s, rendering {render:.0f} s; "
            f"slowest: {', '.join(f'{one.name}, {one.seconds:.0f} s' for one in slowest)})"
        ]
        lines += [f"{result.status}: {result.name}: {result.error}" for result in self.failures]
        short = {r.program: r.ids_not_searched for r in self.results if r.program and r.ids_not_searched}
        lines += [
            f"{program}: {count:,} ids are too short to be told from counts and words; pages were not searched for them"
            for program, count in short.items()
        ]
        return "\n".join(lines)
