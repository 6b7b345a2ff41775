"""One job: a notebook executed for one program, cleaned, rendered, held at the gate, swapped in."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ldlab.batch import failure as failures
from ldlab.batch import publish, store
from ldlab.batch.failure import INDEX_FILE, Failure, NotebookFailedError, find_failure, links
from ldlab.batch.inputs import Inputs, known_programs, settled
from ldlab.batch.jobs import BRIEF, PORTFOLIO, Job, reads_data
from ldlab.batch.publish import NOTEBOOK_FILE, PAGE_FILE, About
from ldlab.batch.record import Record, Status, files_of
from ldlab.data.unit_ids import UnitIds, unit_ids
from ldlab.program import LdlabError, Program, load_program, program_files

if TYPE_CHECKING:
    from nbformat import NotebookNode

Report = Callable[[str], None]


@dataclass(frozen=True)
class JobResult:
    """How a job ended: its status (see :class:`ldlab.batch.record.Record`), or 'current': there was no need to run.

    ``ids_not_searched`` counts ids too short to be told from counts and words.
    """

    program: str
    notebook: str
    status: Status
    seconds: float = 0.0
    seconds_execute: float = 0.0
    seconds_render: float = 0.0
    failure: Failure | None = None
    ids_not_searched: int = 0
    worker: str = ""

    @property
    def name(self) -> str:
        """How messages call the job."""
        return f"{self.program}/{self.notebook}" if self.program else self.notebook

    @property
    def error(self) -> str:
        """The failure in one line; empty if there is none."""
        return str(self.failure) if self.failure else ""


def run_job(job: Job, report: Report) -> JobResult:
    """Walk one job to its end. Never raises for what a notebook did: a failure is a result.

    Parameters
    ----------
    job
        What to run.
    report
        Told the stage that begins: 'executing', 'rendering'.
    """
    begun = executed = time.perf_counter()
    record = Record(job.program, job.notebook, job.run, "running").here(store.now())
    short = 0
    failure = None
    try:
        before = _inputs(job)
        record = replace(record, inputs=before)
        job.staged.mkdir(parents=True, exist_ok=True)
        record.write(job.folder)
        report("executing")
        notebook = _execute(job)
        executed = time.perf_counter()
        report("rendering")
        about = _about(job)
        short = publish.ids_not_searched(about.ids)
        _write(job, publish.cleaned(job, notebook), about)
        record = replace(record, inputs=settled(before, _inputs(job)), seconds=round(executed - begun, 3))
        _finish(job, replace(record, status="ok"))
    except Exception as error:
        executed = time.perf_counter() if executed == begun else executed
        what, private, shown = failures.of_exception(job, error)
        record = replace(record, seconds=round(time.perf_counter() - begun, 3))
        failure = failures.keep(job, what, private, shown, record=record, about_of=lambda: _about(job))
    shutil.rmtree(job.folder, ignore_errors=True)  # what it says is over
    done = time.perf_counter()
    return JobResult(
        job.program,
        job.notebook,
        failure.status if failure else "ok",
        done - begun,
        executed - begun,
        done - executed,
        failure,
        short,
        f"{record.host}:{record.pid}",
    )


def bury(job: Job, failure: Failure) -> JobResult:
    """Publish the failure of a job whose process is no more."""
    record = Record(job.program, job.notebook, job.run, "running").here(store.now())
    said = failures.keep(
        job, failure, failure.message, failures.source(job), record=record, about_of=lambda: _about(job)
    )
    return JobResult(job.program, job.notebook, failure.status, failure=said)


def _inputs(job: Job) -> dict[str, str]:
    return Inputs(known_programs(job.root, job.outputs / store.PROGRAMS_FILE), job.root).of(job)


def _execute(job: Job) -> NotebookNode:
    """Run the notebook through papermill and read back what it wrote."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    from ldlab.batch import kernel

    executed = job.staged / NOTEBOOK_FILE
    folder = publish.relative(job.staged, job.root)
    os.chdir(job.root)
    watch = kernel.Watch(job.timeout)
    watch.begin(job.run)
    # The researcher's own IPython profile must not change what a batch finds.
    os.environ["IPYTHONDIR"] = str(watch.folder / "ipython")
    try:
        papermill.execute_notebook(
            f"notebooks/{job.notebook}.ipynb",
            f"{folder}/{NOTEBOOK_FILE}",
            parameters={"program": job.program_file, "output_dir": folder},
            kernel_name=kernel.kind(job),
            language="python",
            engine_name=kernel.ENGINE,
            progress_bar=False,
            config=kernel.config(watch),
        )
    except (papermill.PapermillExecutionError, DeadKernelError, RuntimeError) as error:
        died = watch.timed_out or watch.exit_code is not None  # perhaps before nbclient could speak to it
        if not died and not isinstance(error, papermill.PapermillExecutionError | DeadKernelError):
            raise
        notebook = publish.read_notebook(executed)
        failure, private = find_failure(notebook, job.program, job.notebook, watch)
        raise NotebookFailedError(failure, private, notebook) from error
    finally:
        watch.done()
    return publish.read_notebook(executed)


def _about(job: Job) -> About:
    if job.notebook != PORTFOLIO:
        program = load_program(job.root / job.program_file, job.root)
        design = program.design
        minimum = program.analysis.minimum_group_size
        return About(program.title, _ids(program), minimum, design.columns.unit, design.unit)
    programs = []
    ids = UnitIds()
    for path in program_files(job.root):
        try:
            program = load_program(path, job.root)
            ids |= _ids(program)
        except LdlabError:  # what cannot be read has no page; what it had published passed its own gate
            continue
        programs.append(program)
    # Every group comes from files that passed their own program's gate.
    return About("All programs", ids, min((p.analysis.minimum_group_size for p in programs), default=10))


def _ids(program: Program) -> UnitIds:
    """What no file may hold; nothing where no notebook reads the data, which may not be there yet."""
    return unit_ids(program) if reads_data(program.notebooks) else UnitIds()


def _write(job: Job, notebook: NotebookNode, about: About) -> None:
    """Write the cleaned notebook and its page, and hold all files at the gate.

    Where a check broke the result, notebook, page and figures show no answer; ``ldlab open`` gives them again.
    """
    from ldlab.batch import page

    found = _found(job, "estimate.json")
    answer = found or {"claim": {"sentence": _found(job, "plan.json").get("sentence")}}
    own_page = job.notebook in (BRIEF, PORTFOLIO)
    if not own_page and (why := page.withheld(found)):
        notebook = page.without_answers(notebook, why)
        publish.keep_shown_figures(job.staged, notebook)
    publish.write_notebook(notebook, job.staged / NOTEBOOK_FILE)
    publish.defuse(job.staged)
    html = page.render(
        notebook,
        in_short_html="" if own_page else page.in_short(answer),
        nav=links(job),
        kind=job.notebook if own_page else "analysis",
        kicker="" if own_page else about.title,
    )
    (job.staged / PAGE_FILE).write_text(html, encoding="utf-8")
    publish.gate_job(job.staged, job, about)


def _found(job: Job, name: str) -> dict[str, Any]:
    """What a notebook saved under this name; empty if it saved nothing."""
    path = job.staged / name
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _finish(job: Job, record: Record) -> None:
    """Swap the result in, its record with it. The index goes first: without the portfolio it is made again."""
    if job.notebook == PORTFOLIO:
        index = job.folder / INDEX_FILE
        (job.staged / PAGE_FILE).rename(index)
        replace(record, files=files_of(job.staged, index)).write(job.staged)
        store.put(index, job.outputs / INDEX_FILE)
    else:
        replace(record, files=files_of(job.staged)).write(job.staged)
    store.swap(job.staged, job.final)
    store.forget_failure(job.outputs, job.program or PORTFOLIO, job.notebook, job.failed)
