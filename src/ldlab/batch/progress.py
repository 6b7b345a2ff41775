"""Telling how a batch goes: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

FINAL = ("ok", "current", "failed", "refused", "killed", "timed out")


@dataclass(frozen=True)
class Event:
    """Something that happened to a job.

    ``stage`` is 'started', 'executing', 'rendering', or how it ended: 'ok', 'current' (no need to run), 'failed',
    'refused', 'killed', 'timed out'. ``seconds`` count since its start; ``done`` of ``total`` jobs are finished;
    ``remaining`` is a guess of the seconds left, once there is something to guess from.
    """

    name: str
    stage: str
    seconds: float
    text: str
    done: int
    total: int
    remaining: float | None = None


Progress = Callable[[Event], None]


def line(event: Event) -> str:
    """An event as one plain line."""
    if event.stage == "ok":
        return f"{event.name}: ok {event.seconds:.1f} s"
    return f"{event.name}: {event.text or event.stage}"


def total(event: Event, seconds: float) -> str:
    """How far the batch is, in one line."""
    text = f"{event.done} of {event.total} done, {_clock(seconds)}"
    return text if event.remaining is None else f"{text}; about {_clock(event.remaining)} left"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"


def print_lines(event: Event) -> None:
    """Plain lines: when a job starts, and how it ended."""
    if event.stage == "started" or event.stage in FINAL:
        print(line(event), flush=True)


@contextmanager
def shown() -> Iterator[Progress]:
    """The progress display that fits where standard output goes.

    Examples
    --------
    ``with shown() as progress: run(programs, progress=progress, ...)``
    """
    if not sys.stdout.isatty():
        yield print_lines
        return
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    running: dict[str, tuple[str, float]] = {}
    begun, last = time.monotonic(), [Event("", "", 0.0, "", 0, 0)]

    def table() -> Table:
        rows = Table(box=None, pad_edge=False, min_width=48, caption_justify="left")
        for name in ("program", "notebook", "stage", "seconds"):
            rows.add_column(name, justify="right" if name == "seconds" else "left")
        for name, (stage, since) in running.items():
            program, _, notebook = name.rpartition("/")
            rows.add_row(program or "all", notebook, stage, f"{time.monotonic() - since:.0f}")
        rows.caption = total(last[0], time.monotonic() - begun)
        return rows

    console = Console()
    with Live(get_renderable=table, console=console, refresh_per_second=4, transient=True):

        def follow(event: Event) -> None:
            last[0] = event
            if event.stage in FINAL:
                running.pop(event.name, None)
                console.print(Text(line(event), style="" if event.stage == "ok" else "red"))
            else:
                running[event.name] = (event.stage, time.monotonic() - event.seconds)

        yield follow
