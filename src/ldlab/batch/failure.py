"""Failures: why a run failed in words that may be published, and the copy that readers find."""

from __future__ import annotations

import copy
import errno
import json
import os
import re
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ldlab import disclosure
from ldlab.batch import publish, store
from ldlab.batch.jobs import BRIEF, PORTFOLIO, Job
from ldlab.batch.notebook import INJECTED_TAG, tags
from ldlab.batch.publish import NOTEBOOK_FILE, PAGE_FILE, PAPERMILL_TAG, About
from ldlab.batch.record import Record
from ldlab.program import InputError, LdlabError

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from ldlab.batch.kernel import Watch

ERROR_FILE, INDEX_FILE = "error.json", "index.html"
WITHHELD = (
    "The message may quote data and is kept out of this page; it is in the private log of whoever ran it."
)
MEMORY = "Python could not get the memory that it asked for."
_SYSTEM = {
    errno.ENOSPC: "The disk is full",
    errno.EDQUOT: "The disk quota is used up",
    errno.EROFS: "The folder is read-only",
    errno.EACCES: "The folder may not be written to or read by this user",
    errno.EMFILE: "Too many files are open",
}
_ANSI = re.compile("\x1b\\[[0-9;]*[A-Za-z]")
_ERRNO = re.compile(r"^\[Errno (\d+)\]")


@dataclass(frozen=True)
class Failure:
    """Why a job failed, in words that may be published.

    ``status`` is 'refused' where the disclosure gate held the files back. ``cell`` counts the notebook's code
    cells from 1; None where no cell is to blame.
    """

    notebook: str
    program: str
    error_type: str
    cell: int | None
    message: str
    status: Literal["failed", "refused", "killed", "timed out"] = "failed"

    def __str__(self) -> str:
        if self.status == "refused":
            return f"was refused by the disclosure gate. {self.message}"
        where = f" at cell {self.cell}" if self.cell else ""
        if self.status == "timed out":
            return f"timed out{where}. {self.message}"
        if self.status == "killed":
            return f"was killed{where}. {self.message}"
        told = self.message != WITHHELD and (not where or self.error_type not in own_errors())
        return f"{f'failed{where}: ' if where else ''}{self.error_type}{f': {self.message}' if told else ''}"


class NotebookFailedError(Exception):
    """A notebook that stopped, with what may be published of it and what may not."""

    def __init__(self, failure: Failure, private: str, notebook: NotebookNode) -> None:
        super().__init__(str(failure))
        self.failure, self.private, self.notebook = failure, private, notebook


def own_errors() -> set[str]:
    """Names of ldlab's own exceptions, whose messages are written for readers and quote no row of data."""
    names, classes = {disclosure.DisclosureError.__name__}, [LdlabError, InputError]
    while classes:
        one = classes.pop()
        names.add(one.__name__)
        classes.extend(one.__subclasses__())
    return names


def publishable(error_type: str, message: str) -> str:
    """What may be said of an error: our own messages, and what the operating system says without its paths."""
    if error_type in own_errors():
        return _ANSI.sub("", message)
    number = _ERRNO.match(message)
    if number:
        code = int(number[1])
        said = os.strerror(code)
        return f"{_SYSTEM[code]} ({said})." if code in _SYSTEM else f"The operating system says: {said}."
    return MEMORY if error_type == "MemoryError" else WITHHELD


def find_failure(notebook: NotebookNode, program: str, name: str, watch: Watch) -> tuple[Failure, str]:
    """The failure that an executed notebook shows, and its private traceback.

    Without an error output the kernel died: in the last cell that papermill started, for its own status
    says 'completed' of cells that never ran.
    """
    code = [c for c in notebook.cells if c.cell_type == "code" and PAPERMILL_TAG not in tags(c)]
    code = [c for c in code if INJECTED_TAG not in tags(c)]
    last = None
    for number, cell in enumerate(code, start=1):
        if cell.metadata.get("papermill", {}).get("start_time"):
            last = number
        for output in cell.outputs:
            if output.output_type == "error":
                message = publishable(output.ename, output.evalue)
                private = (
                    _ANSI.sub("", "\n".join(output.traceback)) + f"\n\n{output.ename}: {output.evalue}\n"
                )
                return Failure(name, program, output.ename, number, message), private
    if watch.timed_out:
        message = f"It ran longer than {watch.timeout:g} s, the limit that --timeout gives."
        return Failure(name, program, "TimedOut", last, message, "timed out"), message
    died = _how_it_died(watch)
    return Failure(name, program, "DeadKernelError", last, died, "killed"), f"{died} There is no traceback.\n"


def _how_it_died(watch: Watch) -> str:
    if watch.out_of_memory:
        return "The kernel was killed because memory ran out."
    if watch.exit_code == -9:
        return "The kernel was killed from outside while this cell ran. A common cause is too little memory."
    if watch.exit_code is None:
        return "The kernel died while this cell ran."
    what = f"signal {-watch.exit_code}" if watch.exit_code < 0 else f"exit code {watch.exit_code}"
    return f"The kernel died while this cell ran ({what})."


def of_exception(job: Job, error: Exception) -> tuple[Failure, str, NotebookNode]:
    """The failure of the walk itself (page, gate, disk), its private traceback, and the notebook to show."""
    if isinstance(error, NotebookFailedError):
        return error.failure, error.private, error.notebook
    failure = Failure(
        job.notebook, job.program, type(error).__name__, None, publishable(type(error).__name__, str(error))
    )
    if isinstance(error, disclosure.DisclosureError):
        failure = replace(failure, status="refused")
    return failure, "".join(traceback.format_exception(error)), source(job)


def source(job: Job) -> NotebookNode:
    """The notebook as it was before it ran."""
    return publish.read_notebook(job.root / "notebooks" / f"{job.notebook}.ipynb")


def keep(
    job: Job,
    failure: Failure,
    private: str,
    notebook: NotebookNode,
    *,
    record: Record,
    about_of: Callable[[], About],
) -> Failure:
    """Keep the failed copy where readers find it, and its traceback where they do not.

    Returns the failure as it was published. The results of the last run that worked are not touched.
    """
    try:
        store.write_private(job.outputs, job.program or PORTFOLIO, job.notebook, private)
        return _keep_copy(job, failure, publish.cleaned(job, notebook), record, about_of)
    except Exception as second:  # such as a full disk: the result still says what happened first
        return replace(failure, message=f"{failure.message} No copy could be kept: {type(second).__name__}.")


def _keep_copy(
    job: Job, failure: Failure, notebook: NotebookNode, record: Record, about_of: Callable[[], About]
) -> Failure:
    """Publish the most that the gate lets through: all outputs, else sources only, else the bare fact."""
    failure = replace(failure, message=publish.without_paths(failure.message, job.root))
    withheld = replace(failure, message=WITHHELD)
    sources = publish.without_outputs(notebook)
    attempts: list[tuple[Failure, NotebookNode | None]] = [
        (failure, without_tracebacks(notebook, failure)),
        (failure, sources),
        (withheld, sources),
        (withheld, None),
    ]
    try:
        about = about_of()
    except Exception:  # without the ids nothing that the data touched can be checked
        about, attempts = About(job.program, frozenset(), 10), attempts[1:]
    folder = job.folder / "failed"
    for said, shown in attempts:
        folder.mkdir(parents=True, exist_ok=True)
        write_failure(said, folder / ERROR_FILE)
        if shown is None:
            (folder / NOTEBOOK_FILE).unlink()
        else:
            publish.write_notebook(shown, folder / NOTEBOOK_FILE)
        (folder / PAGE_FILE).write_text(_page(job, said, shown, about.title), encoding="utf-8")
        try:
            publish.gate_job(folder, job, about)
        except disclosure.DisclosureError:
            continue
        _publish(job, folder, record, said)
        return said
    if failure.status != "refused":
        raise LdlabError("the gate refused even the bare fact")
    # An id is a word of our own sentences. These are fixed, so nothing is told by publishing them ungated.
    (folder / PAGE_FILE).write_text(_page(job, withheld, None, job.program), encoding="utf-8")
    _publish(job, folder, record, withheld)
    return failure


def _publish(job: Job, folder: Path, record: Record, said: Failure) -> None:
    error = {"error_type": said.error_type, "cell": said.cell, "message": said.message}
    replace(record, status=said.status, error=error).write(folder)
    store.swap(folder, job.failed)


def write_failure(failure: Failure, path: Path) -> None:
    """Write an ``error.json``."""
    text = json.dumps(asdict(failure), indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def without_tracebacks(notebook: NotebookNode, failure: Failure) -> NotebookNode:
    """A copy whose error outputs say type and publishable message only."""
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                output.evalue, output.traceback = failure.message, []
    return notebook


def _page(job: Job, failure: Failure, notebook: NotebookNode | None, title: str) -> str:
    from nbformat import v4

    from ldlab.batch import page

    cells = notebook.cells if notebook else []
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    question = re.search(r"^# .+", prose, re.MULTILINE)
    title_cell = v4.new_markdown_cell(question.group() if question else f"# {job.notebook}", id="title")
    bare = v4.new_notebook(cells=[title_cell])
    tries = [notebook, publish.without_outputs(notebook), bare] if notebook else [bare]
    settings: dict[str, Any] = {
        "nav": [link for link in links(job, failed=True) if notebook or link[1] != NOTEBOOK_FILE],
        "kind": "failed",
        "kicker": title,
        "notice_html": _notice(job, failure),
    }
    for attempt in tries[:-1]:
        try:
            return page.render(attempt, **settings)
        except page.PageError:
            continue
    return page.render(tries[-1], **settings)


def links(job: Job, *, failed: bool = False) -> list[tuple[str, str]]:
    """The links at the top of a job's page: (text, relative address)."""
    code = ("Notebook with code", NOTEBOOK_FILE)
    if job.notebook == PORTFOLIO:
        above = ("All programs", f"../{INDEX_FILE}")
        return [above, code] if failed else [(code[0], f"{PORTFOLIO}/{NOTEBOOK_FILE}")]
    index = ("All programs", f"../../{INDEX_FILE}")
    if job.notebook == BRIEF and not failed:
        return [index, code]
    return [index, ("Program brief", f"../{BRIEF}/{PAGE_FILE}"), code]


def _notice(job: Job, failure: Failure) -> str:
    where = f" at code cell {failure.cell}" if failure.cell else ""
    what = {
        "refused": "was refused by the disclosure gate.",
        "failed": f"failed{where}: {escape(failure.error_type)}.",
        "killed": f"was killed{where}.",
        "timed out": f"timed out{where}.",
    }[failure.status]
    text = f"<strong>This run {what}</strong> {escape(failure.message)}"
    earlier = job.outputs / INDEX_FILE if job.notebook == PORTFOLIO else job.final / PAGE_FILE
    if earlier.exists():
        address = f"../{INDEX_FILE}" if job.notebook == PORTFOLIO else f"../{job.notebook}/{PAGE_FILE}"
        kept = f'The <a href="{address}">results of the last run that worked</a> are kept.'
    else:
        kept = "There are no earlier results."
    return f'<section class="notice" role="note"><p>{text}</p><p>{kept}</p></section>'
