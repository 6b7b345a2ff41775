"""One job: a notebook executed for one program, cleaned, rendered, held at the gate, swapped in."""

from __future__ import annotations

import json
import os
import re
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ldlab import disclosure
from ldlab.batch import publish
from ldlab.batch.publish import ERROR_FILE, NOTEBOOK_FILE, PAGE_FILE, Failure
from ldlab.program import LdlabError, Program, load_program, program_files

if TYPE_CHECKING:
    from nbformat import NotebookNode

BRIEF, PORTFOLIO, INDEX_FILE = "program_brief", "portfolio", "index.html"
KERNEL = "python3"
IdsOf = Callable[[Program], frozenset[str]]
Status = Literal["ok", "failed", "refused"]


@dataclass(frozen=True)
class Job:
    """A notebook for a program. ``program`` is empty for the portfolio, which is about all of them."""

    program: str
    notebook: str
    program_file: str
    root: Path
    outputs: Path
    run: str

    @property
    def name(self) -> str:
        """How progress and messages call the job."""
        return f"{self.program}/{self.notebook}" if self.program else self.notebook

    @property
    def staged(self) -> Path:
        """Where the notebook writes; nobody reads there."""
        return self.outputs / publish.STAGING / self.run / self.program / self.notebook

    @property
    def final(self) -> Path:
        """Where results are published."""
        return self.outputs / self.program / self.notebook

    @property
    def failed(self) -> Path:
        """Where the copy of a failed run is kept."""
        return self.final.with_name(f"{self.notebook}.failed")


@dataclass(frozen=True)
class JobResult:
    """How a job ended: 'ok', 'failed' (the notebook or its page), 'refused' (it would disclose something).

    ``ids_not_searched`` counts ids too short to be told from counts and words.
    """

    program: str
    notebook: str
    status: Status
    seconds: float
    seconds_execute: float = 0.0
    seconds_render: float = 0.0
    failure: Failure | None = None
    ids_not_searched: int = 0

    @property
    def name(self) -> str:
        """How messages call the job."""
        return f"{self.program}/{self.notebook}" if self.program else self.notebook

    @property
    def error(self) -> str:
        """The failure in one line; empty if there is none."""
        return str(self.failure) if self.failure else ""


class _NotebookFailedError(Exception):
    def __init__(self, failure: Failure, private: str, notebook: NotebookNode) -> None:
        super().__init__(str(failure))
        self.failure, self.private, self.notebook = failure, private, notebook


@dataclass(frozen=True)
class _About:
    """What publication needs to know of the program: its rules and its ids."""

    title: str
    ids: frozenset[str]
    minimum: int
    unit_column: str = ""
    unit: str = ""


def run_job(job: Job, ids_of: IdsOf, report: Callable[[str], None]) -> JobResult:
    """Walk one job to its end. Never raises for what a notebook did: a failure is a result.

    Parameters
    ----------
    job
        What to run.
    ids_of
        A program's identifiers.
    report
        Told the stage that begins: 'executing', 'rendering'.
    """
    begun = time.perf_counter()
    executed = begun
    try:
        report("executing")
        notebook = _execute(job)
        executed = time.perf_counter()
        report("rendering")
        about = _about(job, ids_of)
        _finish(job, _cleaned(job, notebook), about)
    except Exception as error:
        if executed == begun:
            executed = time.perf_counter()
        failure = _publish_failure(job, error, ids_of)
        done = time.perf_counter()
        return JobResult(
            job.program,
            job.notebook,
            failure.status,
            done - begun,
            executed - begun,
            done - executed,
            failure,
        )
    done = time.perf_counter()
    short = len(about.ids) - len(disclosure.searchable(about.ids))
    return JobResult(
        job.program,
        job.notebook,
        "ok",
        done - begun,
        executed - begun,
        done - executed,
        ids_not_searched=short,
    )


def _relative(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root)).as_posix()


def _execute(job: Job) -> NotebookNode:
    """Run the notebook through papermill and read back what it wrote."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    from ldlab.batch import kernel

    job.staged.mkdir(parents=True)
    executed = job.staged / NOTEBOOK_FILE
    folder = _relative(job.staged, job.root)
    os.chdir(job.root)
    try:
        papermill.execute_notebook(
            f"notebooks/{job.notebook}.ipynb",
            f"{folder}/{NOTEBOOK_FILE}",
            parameters={"program": job.program_file, "output_dir": folder},
            kernel_name=KERNEL,
            language="python",
            progress_bar=False,
            config=kernel.config(),
        )
    except (papermill.PapermillExecutionError, DeadKernelError) as error:
        notebook = publish.read_notebook(executed)
        failure, private = publish.find_failure(notebook, job.program, job.notebook)
        raise _NotebookFailedError(failure, private, notebook) from error
    return publish.read_notebook(executed)


def _cleaned(job: Job, notebook: NotebookNode) -> NotebookNode:
    final = "/".join(part for part in ("outputs", job.program, job.notebook) if part)
    return publish.clean(notebook, staging=_relative(job.staged, job.root), final=final, root=job.root)


def _about(job: Job, ids_of: IdsOf) -> _About:
    if job.notebook != PORTFOLIO:
        program = load_program(job.root / job.program_file, job.root)
        design = program.design
        return _About(
            program.title,
            ids_of(program),
            program.analysis.minimum_group_size,
            design.columns.unit,
            design.unit,
        )
    programs = []
    ids: frozenset[str] = frozenset()
    for path in program_files(job.root):
        try:
            program = load_program(path, job.root)
            ids |= ids_of(program)
        except LdlabError:  # what cannot be read has no page; what it had published passed its own gate
            continue
        programs.append(program)
    # Every group comes from files that passed their own program's gate.
    return _About("All programs", ids, min((p.analysis.minimum_group_size for p in programs), default=10))


def _finish(job: Job, notebook: NotebookNode, about: _About) -> None:
    from ldlab.batch import page

    publish.write_notebook(notebook, job.staged / NOTEBOOK_FILE)
    result = job.staged / "estimate.json"
    in_short = page.in_short(json.loads(result.read_text(encoding="utf-8"))) if result.is_file() else ""
    own_page = job.notebook in (BRIEF, PORTFOLIO)
    html = page.render(
        notebook,
        in_short_html="" if own_page else in_short,
        nav=_links(job),
        kind=job.notebook if own_page else "analysis",
        kicker="" if own_page else about.title,
    )
    (job.staged / PAGE_FILE).write_text(html, encoding="utf-8")
    _gate(job.staged, job, about)
    if job.notebook == PORTFOLIO:
        index = job.staged.with_name(INDEX_FILE)
        (job.staged / PAGE_FILE).rename(index)
        publish.swap(job.staged, job.final)
        index.replace(job.outputs / INDEX_FILE)
    else:
        publish.swap(job.staged, job.final)
    publish.forget_failure(job.outputs, job.program, job.notebook, job.failed)


def _links(job: Job, *, failed: bool = False) -> list[tuple[str, str]]:
    code = ("Notebook with code", NOTEBOOK_FILE)
    if job.notebook == PORTFOLIO:
        return (
            [("All programs", f"../{INDEX_FILE}"), code]
            if failed
            else [(code[0], f"{PORTFOLIO}/{NOTEBOOK_FILE}")]
        )
    index = ("All programs", f"../../{INDEX_FILE}")
    if job.notebook == BRIEF and not failed:
        return [index, code]
    return [index, ("Program brief", f"../{BRIEF}/{PAGE_FILE}"), code]


def _gate(folder: Path, job: Job, about: _About) -> None:
    publish.gate(
        folder,
        ids=about.ids,
        minimum=about.minimum,
        root=job.root,
        unit_column=about.unit_column,
        unit=about.unit,
    )


def _publish_failure(job: Job, error: Exception, ids_of: IdsOf) -> Failure:
    """Keep the failed copy where readers find it, and its traceback where they do not."""
    if isinstance(error, _NotebookFailedError):
        failure, private, notebook = error.failure, error.private, error.notebook
    else:
        own = type(error).__name__ in publish.own_errors()
        message = str(error) if own else publish.WITHHELD
        failure = Failure(job.notebook, job.program, type(error).__name__, None, message)
        if isinstance(error, disclosure.DisclosureError):
            failure = replace(failure, status="refused")
        private = "".join(traceback.format_exception(error))
        notebook = publish.read_notebook(job.root / "notebooks" / f"{job.notebook}.ipynb")
    try:
        publish.write_private(job.outputs, job.program or PORTFOLIO, job.notebook, private)
        return _keep_failed_copy(job, failure, _cleaned(job, notebook), ids_of)
    except Exception as second:  # such as a full disk: the result still says what happened first
        return replace(failure, message=f"{failure.message} No copy could be kept: {type(second).__name__}.")


def _keep_failed_copy(job: Job, failure: Failure, notebook: NotebookNode, ids_of: IdsOf) -> Failure:
    """Publish the most that the gate lets through: all outputs, else sources only, else the bare fact."""
    failure = replace(failure, message=publish.without_paths(failure.message, job.root))
    withheld = replace(failure, message=publish.WITHHELD)
    sources = publish.without_outputs(notebook)
    attempts: list[tuple[Failure, NotebookNode | None]] = [
        (failure, publish.without_tracebacks(notebook, failure)),
        (failure, sources),
        (withheld, sources),
        (withheld, None),
    ]
    try:
        about = _about(job, ids_of)
    except Exception:  # without the ids nothing that the data touched can be checked
        about, attempts = _About(job.program, frozenset(), 10), attempts[1:]
    folder = job.staged.with_name(f"{job.notebook}.failed")
    for said, copy in attempts:
        folder.mkdir(parents=True, exist_ok=True)
        publish.write_failure(said, folder / ERROR_FILE)
        if copy is None:
            (folder / NOTEBOOK_FILE).unlink()
        else:
            publish.write_notebook(copy, folder / NOTEBOOK_FILE)
        (folder / PAGE_FILE).write_text(_failure_page(job, said, copy, about.title), encoding="utf-8")
        try:
            _gate(folder, job, about)
        except disclosure.DisclosureError:
            continue
        publish.swap(folder, job.failed)
        return said
    if failure.status != "refused":
        raise LdlabError("the gate refused even the bare fact")
    # An id is a word of our own sentences. These are fixed, so nothing is told by publishing them ungated.
    (folder / PAGE_FILE).write_text(_failure_page(job, withheld, None, job.program), encoding="utf-8")
    publish.swap(folder, job.failed)
    return failure


def _failure_page(job: Job, failure: Failure, notebook: NotebookNode | None, title: str) -> str:
    from nbformat import v4

    from ldlab.batch import page

    prose = (
        "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown") if notebook else ""
    )
    question = re.search(r"^# .+", prose, re.MULTILINE)
    title_cell = v4.new_markdown_cell(question.group() if question else f"# {job.notebook}", id="title")
    bare = v4.new_notebook(cells=[title_cell])
    tries = [notebook, publish.without_outputs(notebook), bare] if notebook else [bare]
    settings: dict[str, Any] = {
        "nav": [link for link in _links(job, failed=True) if notebook or link[1] != NOTEBOOK_FILE],
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


def _notice(job: Job, failure: Failure) -> str:
    if failure.status == "refused":
        what = "was refused by the disclosure gate."
    else:
        where = f" at code cell {failure.cell}" if failure.cell else ""
        what = f"failed{where}: {escape(failure.error_type)}."
    text = f"<strong>This run {what}</strong> {escape(failure.message)}"
    earlier = job.outputs / INDEX_FILE if job.notebook == PORTFOLIO else job.final / PAGE_FILE
    if earlier.exists():
        address = f"../{INDEX_FILE}" if job.notebook == PORTFOLIO else f"../{job.notebook}/{PAGE_FILE}"
        kept = f'The <a href="{address}">results of the last run that worked</a> are kept.'
    else:
        kept = "There are no earlier results."
    return f'<section class="notice" role="note"><p>{text}</p><p>{kept}</p></section>'
