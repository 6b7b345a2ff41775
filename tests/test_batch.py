"""The batch: doors, cleaning, swapping, and whole runs with real kernels."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from ldlab import batch
from ldlab.batch import failure, publish, store
from ldlab.batch.jobs import Job
from ldlab.batch.progress import Event, line, total
from ldlab.batch.publish import About
from ldlab.batch.record import Record
from ldlab.disclosure import ID_VALUES, DisclosureError, Leak
from ldlab.program import InputError, load_programs
from tests.projects import agents, ends, make_project, write_program, write_table

PARAMETERS = 'program = "params/alpha.yaml"\noutput_dir = "outputs/alpha/x"'
KERNELSPEC = {"name": "python3", "display_name": "Python 3"}
NAMES = ("ab_test", "bayes_impact", "program_brief", "portfolio")
# What a tiny notebook does beyond its own cells stands in behave.json, so that it can differ from run to run.
CELLS = [
    "import json, os, pathlib, sys\nfolder = pathlib.Path(output_dir)\nfolder.mkdir(parents=True, exist_ok=True)",
    "print('wrote', folder, 'in', os.getcwd())\nprint('a', 'warning', file=sys.stderr)",
    "exec(json.loads(pathlib.Path('behave.json').read_text()).get(f'{pathlib.Path(program).stem}/NAME', ''))",
    "(folder / 'estimate.json').write_text(json.dumps({'grade': 'C', 'n': {'treated': 20}}))",
]


def write_notebook(
    project: Path, name: str, *cells: str, parameters: str = PARAMETERS, tagged: int = 1
) -> Path:
    """A notebook with ``tagged`` parameters cells; it says nothing but what its cells say."""
    doors = [
        new_code_cell(parameters, id=f"door{i}", metadata={"tags": ["parameters"] if i < tagged else []})
        for i in range(max(tagged, 1))
    ]
    rest = [new_code_cell(cell.replace("NAME", name), id=f"cell{i}") for i, cell in enumerate(cells)]
    notebook = new_notebook(cells=[new_markdown_cell(f"# Question of {name}?", id="question"), *doors, *rest])
    path = project / "notebooks" / f"{name}.ipynb"
    nbformat.write(notebook, path)
    return path


# --- The doors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "tagged", "found"),
    [
        (PARAMETERS, 0, "no code cell tagged 'parameters'"),
        (PARAMETERS, 2, "2 code cells tagged 'parameters'"),
        (PARAMETERS.replace("program", "programme"), 1, "the names programme, output_dir"),
        (PARAMETERS + "\nseed = '1'", 1, "the names program, output_dir, seed"),
        ("program = 'a'", 1, "the names program;"),
        (
            "program = 'a'\noutput_dir = f'outputs/{program}'",
            1,
            "output_dir assigned something else than a plain text",
        ),
        (PARAMETERS + "\nprint(program)", 1, "a statement that is not an assignment of one name (line 3)"),
        ("program = = 1", 1, "code that Python cannot parse"),
        ("", 1, "no names"),
    ],
)
def test_doors_that_papermill_would_only_warn_about(
    tmp_path: Path, parameters: str, tagged: int, found: str
) -> None:
    path = write_notebook(make_project(tmp_path), "ab_test", parameters=parameters, tagged=tagged)
    with pytest.raises(InputError) as error:
        batch.check_doors(path, root=tmp_path)
    assert "notebooks/ab_test.ipynb" in str(error.value)
    assert f"found {found}" in str(error.value)


def test_a_later_cell_must_not_overrule_the_parameters(tmp_path: Path) -> None:
    path = write_notebook(make_project(tmp_path), "ab_test", "program = 'params/other.yaml'")
    with pytest.raises(InputError, match="code cell 2: found program set to a fixed text again"):
        batch.check_doors(path)


def test_proper_doors_open(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    batch.check_doors(write_notebook(project, "ab_test", "%matplotlib inline", "program = load(program)"))
    batch.check_doors(
        write_notebook(project, "x", parameters="# which\nprogram: str = 'a'\noutput_dir = 'b'")
    )


def test_all_faults_of_all_notebooks_are_told_before_anything_runs(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    write_table(project, agents())
    write_program(project, "alpha")
    write_notebook(project, "ab_test", tagged=0)
    (project / "notebooks" / "bayes_impact.ipynb").write_text("{")
    write_notebook(project, "program_brief")
    with pytest.raises(InputError) as error:
        batch.run(root=project)
    assert [fault.file for fault in error.value.faults] == [
        "notebooks/ab_test.ipynb",
        "notebooks/bayes_impact.ipynb",
        "notebooks/portfolio.ipynb",
    ]
    assert not (project / "outputs").exists()


# --- The plan -------------------------------------------------------------------------------------------------


def planned(project: Path, notebooks: list[str] | None = None) -> list[str]:
    programs = load_programs(root=project)
    return [
        job.name
        for job in batch.plan(programs, root=project, outputs=project / "outputs", notebooks=notebooks)
    ]


def test_the_slowest_run_first_then_briefs_then_the_portfolio(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    write_program(project, "alpha")
    write_program(project, "beta", design={"kind": "observational"})
    assert planned(project) == [
        "alpha/bayes_impact", "beta/bayes_impact", "alpha/ab_test", "alpha/program_brief", "beta/program_brief", "portfolio"
    ]  # fmt: skip
    assert planned(project, ["ab_test"]) == ["alpha/ab_test", "alpha/program_brief", "portfolio"]
    assert planned(project, ["program_brief"]) == ["alpha/program_brief", "beta/program_brief", "portfolio"]
    assert planned(project, ["portfolio"]) == ["portfolio"]
    with pytest.raises(InputError, match=r"found 'ab_tset'.*Did you mean 'ab_test'"):
        planned(project, ["ab_tset"])


def test_the_program_file_is_found_by_its_id(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    write_program(project, "alpha", id="beta")
    write_program(project, "beta", id="alpha")
    jobs = batch.plan(
        load_programs(root=project), root=project, outputs=project / "outputs", notebooks=["program_brief"]
    )
    assert {job.program: job.program_file for job in jobs} == {
        "beta": "params/alpha.yaml", "alpha": "params/beta.yaml", "": "params"
    }  # fmt: skip


# --- Cleaning and swapping ------------------------------------------------------------------------------------


def executed(root: Path) -> nbformat.NotebookNode:
    injected = (
        f'# Parameters\nprogram = "params/alpha.yaml"\noutput_dir = "outputs/.staging/7-ab/alpha/ab_test"\n'  # noqa: F541
    )
    outputs = [
        new_output("stream", name="stdout", text="one "),
        new_output("stream", name="stderr", text="FutureWarning"),
        new_output("stream", name="stdout", text=f"{root}/data/x.csv in {root}\n"),
        new_output("display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}),
        new_output(
            "execute_result",
            {"text/plain": f"<Axes at 0x7f0011223344> {Path.home()}/x /home/jdoe/x"},
            execution_count=9,
        ),
    ]
    timed = {"papermill": {"start_time": "2026-11-21"}, "execution": {"iopub.status.busy": "2026-11-21"}}
    return new_notebook(
        metadata={"papermill": {"input_path": str(root)}, "widgets": {}, "kernelspec": KERNELSPEC},
        cells=[
            new_markdown_cell(
                "An Exception was encountered", metadata={"tags": ["papermill-error-cell-tag"]}
            ),
            new_code_cell(PARAMETERS, id="door", execution_count=1, metadata={"tags": ["parameters"]}),
            new_code_cell(
                injected, id="random", execution_count=2, metadata={"tags": ["injected-parameters"]}
            ),
            new_code_cell("work()", id="work", execution_count=3, metadata=timed, outputs=outputs),
            new_code_cell("never()", id="never"),
        ],
    )


def test_cleaning_leaves_what_may_be_published_and_runs_again(tmp_path: Path) -> None:
    notebook = executed(tmp_path)
    before = str(notebook)
    cleaned = publish.clean(
        notebook, staging="outputs/.staging/7-ab/alpha/ab_test", final="outputs/alpha/ab_test", root=tmp_path
    )
    assert str(notebook) == before
    door, work, never = cleaned.cells
    assert (door.id, door.metadata.tags) == ("door", ["parameters"])
    assert (
        door.source == '# Parameters\nprogram = "params/alpha.yaml"\noutput_dir = "outputs/alpha/ab_test"\n'
    )
    assert [door.execution_count, work.execution_count, never.execution_count] == [1, 2, None]
    assert work.metadata == {}
    assert cleaned.metadata == {"kernelspec": KERNELSPEC}
    stream, result = work.outputs
    assert stream.text == "one data/x.csv in .\n"
    assert result.data["text/plain"] == "<Axes> ~/x ~/x"
    assert result.execution_count == 2
    nbformat.validate(cleaned)


def folder(path: Path, text: str) -> Path:
    path.mkdir(parents=True)
    (path / "report.html").write_text(text)
    return path


def test_a_swap_replaces_the_whole_folder(tmp_path: Path) -> None:
    final = folder(tmp_path / "alpha" / "ab_test", "old")
    (final / "left-over.png").touch()
    store.swap(folder(tmp_path / "staged", "new"), final)
    assert [p.name for p in final.iterdir()] == ["report.html"]
    assert (final / "report.html").read_text() == "new"
    assert [p.name for p in final.parent.iterdir()] == ["ab_test"]


def test_an_interrupted_swap_is_finished_by_the_next_run(tmp_path: Path) -> None:
    folder(tmp_path / "alpha" / ".old.ab_test", "old")  # the new folder never came
    folder(tmp_path / "alpha" / ".old.bayes_impact", "old")  # it came, and the old one was not deleted
    folder(tmp_path / "alpha" / "bayes_impact", "new")
    folder(tmp_path / ".staging" / "1-dead" / "alpha" / "ab_test", "partial")
    Record("alpha", "ab_test", "1-dead", "running").write(
        tmp_path / ".staging" / "1-dead" / "alpha" / "ab_test"
    )
    store.recover(tmp_path)
    store.forget(tmp_path)
    texts = {p.relative_to(tmp_path).as_posix(): p.read_text() for p in tmp_path.rglob("report.html")}
    assert texts == {"alpha/ab_test/report.html": "old", "alpha/bayes_impact/report.html": "new"}


def test_plain_lines() -> None:
    assert line(Event("a/ab_test", "started", 0, "", 0, 2)) == "a/ab_test: started"
    assert line(Event("a/ab_test", "ok", 3.21, "", 1, 2)) == "a/ab_test: ok 3.2 s"
    assert (
        line(Event("a/ab_test", "failed", 3, "failed at cell 4: KeyError", 1, 2))
        == "a/ab_test: failed at cell 4: KeyError"
    )


def test_the_total_says_how_long_it_will_take() -> None:
    assert total(Event("a/ab_test", "started", 0, "", 0, 2), 61.2) == "0 of 2 done, 1:01"
    assert total(Event("a/ab_test", "ok", 3, "", 1, 2, 125.0), 3) == "1 of 2 done, 0:03; about 2:05 left"


# --- Whole runs -----------------------------------------------------------------------------------------------

FIRST = {
    "alpha/ab_test": "from IPython.display import HTML, display\n"
    "display(HTML('<table><tr><th>segment</th><td>&lt;script&gt;</td></tr></table>'))",
    "beta/ab_test": "secret = {}\nsecret['a-001']",
    "beta/program_brief": "from ldlab.program import LdlabError\nraise LdlabError('KPI is constant in ' + os.getcwd())",
}
SECOND = {
    "alpha/ab_test": "print('a-001')\nraise ValueError('a-001')",
    "alpha/bayes_impact": "print('agent a-001')",
    "beta/program_brief": "os.kill(os.getpid(), 9)",
    "params/portfolio": "1 / 0",
}


@dataclass
class Runs:
    """One project, run twice."""

    project: Path
    first: batch.Summary
    events: list[Event]
    kept: dict[str, bytes]
    then: dict[str, str]
    second: batch.Summary

    @property
    def outputs(self) -> Path:
        return self.project / "outputs"


def status(summary: batch.Summary) -> dict[str, str]:
    return {result.name: result.status for result in summary.results}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    project = make_project(tmp_path_factory.mktemp("runs") / "project")
    write_table(project, agents())
    write_program(project, "alpha")
    write_program(project, "beta", analysis={"notebooks": ["ab_test"]})
    for name in NAMES:
        write_notebook(project, name, *CELLS)
    events = list[Event]()
    (project / "behave.json").write_text(json.dumps(FIRST))
    first = batch.run(root=project, jobs=2, progress=events.append)
    files = [p for p in (project / "outputs").rglob("*") if p.is_file()]
    kept = {p.relative_to(project / "outputs").as_posix(): p.read_bytes() for p in files}
    then = {name: data.decode() for name, data in kept.items() if not name.endswith(".png")}
    (project / "behave.json").write_text(json.dumps(SECOND))
    second = batch.run(root=project, jobs=2, force=True)
    return Runs(project, first, events, kept, then, second)


def test_one_failed_notebook_never_stops_the_others(runs: Runs) -> None:
    assert status(runs.first) == {
        "alpha/bayes_impact": "ok",
        "alpha/ab_test": "ok",
        "beta/ab_test": "failed",
        "alpha/program_brief": "ok",
        "beta/program_brief": "failed",
        "portfolio": "ok",
    }
    assert not runs.first.ok
    assert len(runs.first.failures) == 2


def test_the_summary_tells_time_and_failures(runs: Runs) -> None:
    first, *failures = str(runs.first).splitlines()
    assert re.fullmatch(
        r"4 of 6 published in \d+ s \(.*executing \d+ s, rendering \d+ s; slowest: .*\)", first
    )
    assert failures == [
        "failed: beta/ab_test: failed at cell 4: KeyError",
        "failed: beta/program_brief: failed at cell 4: LdlabError",
    ]


def test_what_is_published(runs: Runs) -> None:
    public = {name for name in runs.then if not name.startswith(".private/")}
    good = [f"alpha/{name}/" for name in ("ab_test", "bayes_impact", "program_brief")]
    failed = [f"beta/{name}.failed/" for name in ("ab_test", "program_brief")]
    assert public == {
        *(
            folder + file
            for folder in good
            for file in ("estimate.json", "report.html", "report.ipynb", "run.json")
        ),
        *(
            folder + file
            for folder in failed
            for file in ("error.json", "report.html", "report.ipynb", "run.json")
        ),
        "index.html",
        "portfolio/estimate.json",
        "portfolio/report.ipynb",
        "portfolio/run.json",
        "run-log.jsonl",
        ".lock",
        ".programs.json",
    }
    assert not list((runs.outputs / ".staging").iterdir())


def test_a_notebook_got_the_program_it_was_given_and_runs_in_the_project(runs: Runs) -> None:
    assert "wrote outputs/alpha/ab_test in .\n" in runs.then["alpha/ab_test/report.html"]
    assert "wrote outputs/portfolio in .\n" in runs.then["index.html"]
    assert 'program = \\"params\\"\\n' in runs.then["portfolio/report.ipynb"]


def test_nothing_published_tells_where_it_was_made_or_warned(runs: Runs) -> None:
    for name, text in runs.then.items():
        if not name.startswith(".private/"):
            for word in (
                str(runs.project),
                str(Path.home()) + "/",
                ".staging",
                "papermill",
                "a warning",
                "start_time",
            ):
                assert word not in text, (name, word)


def test_the_page_of_an_analysis(runs: Runs) -> None:
    page = BeautifulSoup(runs.then["alpha/ab_test/report.html"], "html.parser")
    assert [h.get_text() for h in page.find_all("h1")] == ["Question of ab_test?"]
    assert page.find("td", string="<script>")
    assert "grade C" in page.find(class_="in-short").get_text()  # type: ignore[union-attr]
    links = [str(link["href"]) for link in page.find_all("a")]
    assert links == ["../../index.html", "../program_brief/report.html", "report.ipynb"]
    for link in links:
        assert (runs.outputs / "alpha" / "ab_test" / link).resolve().is_file()
    index = BeautifulSoup(runs.then["index.html"], "html.parser")
    assert [link["href"] for link in index.find_all("a")] == ["portfolio/report.ipynb"]


def test_an_error_of_someone_elses_is_kept_without_its_message(runs: Runs) -> None:
    error = json.loads(runs.then["beta/ab_test.failed/error.json"])
    assert error == {
        "notebook": "ab_test", "program": "beta", "error_type": "KeyError", "cell": 4, "message": failure.WITHHELD,
        "status": "failed",
    }  # fmt: skip
    for file in ("error.json", "report.html", "report.ipynb"):
        assert "a-001" not in runs.then[f"beta/ab_test.failed/{file}"]
    page = runs.then["beta/ab_test.failed/report.html"]
    assert "This run failed at code cell 4: KeyError." in page
    assert "There are no earlier results." in page
    notebook = nbformat.reads(runs.then["beta/ab_test.failed/report.ipynb"], as_version=4)
    (output,) = [o for c in notebook.cells for o in c.get("outputs", []) if o.output_type == "error"]
    assert (output.ename, output.traceback) == ("KeyError", [])
    assert [r.error for r in runs.first.results if r.failure and r.failure.error_type == "KeyError"] == [
        "failed at cell 4: KeyError"
    ]


def test_an_error_of_our_own_says_what_it_says(runs: Runs) -> None:
    error = json.loads(runs.then["beta/program_brief.failed/error.json"])
    assert error["error_type"] == "LdlabError"
    assert "KPI is constant in ." in runs.then["beta/program_brief.failed/report.html"]


def test_the_traceback_is_for_the_eyes_of_this_user_only(runs: Runs) -> None:
    path = runs.outputs / ".private" / "beta" / "program_brief.txt"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parents[1].stat().st_mode) == 0o700
    assert "a-001" in runs.then[".private/beta/ab_test.txt"]
    assert "Traceback" in runs.then[".private/beta/ab_test.txt"]
    assert not any(".private" in text for name, text in runs.then.items() if name.endswith(".html"))


def test_progress_tells_every_start_and_end_in_order(runs: Runs) -> None:
    names = {event.name for event in runs.events}
    assert len(names) == 6
    for name in names:
        stages = [event.stage for event in runs.events if event.name == name]
        assert stages[:2] == ["started", "executing"]
        assert stages[-1] in ("ok", "failed")
    ends = [event.name for event in runs.events if event.stage in ("ok", "failed")]
    starts = [event.name for event in runs.events if event.stage == "started"]
    for program, analyses in (("alpha", {"alpha/ab_test", "alpha/bayes_impact"}), ("beta", {"beta/ab_test"})):
        place = runs.events.index(next(e for e in runs.events if e.name == f"{program}/program_brief"))
        assert analyses <= {e.name for e in runs.events[:place] if e.stage in ("ok", "failed")}
    assert starts[-1] == ends[-1] == "portfolio"
    assert runs.events[-1].done == runs.events[-1].total == 6


def test_a_failure_leaves_the_last_good_result_untouched(runs: Runs) -> None:
    assert status(runs.second) == {
        "alpha/bayes_impact": "refused",
        "alpha/ab_test": "failed",
        "beta/ab_test": "ok",
        "alpha/program_brief": "ok",
        "beta/program_brief": "killed",
        "portfolio": "failed",
    }
    for place in ("alpha/ab_test", "alpha/bayes_impact", "portfolio", "index.html"):
        before = {
            name: data for name, data in runs.kept.items() if name.startswith(place + "/") or name == place
        }
        assert before
        for name, data in before.items():
            assert (runs.outputs / name).read_bytes() == data
    page = (runs.outputs / "alpha" / "ab_test.failed" / "report.html").read_text()
    assert '<a href="../ab_test/report.html">results of the last run that worked</a> are kept' in page
    assert (
        '<a href="../index.html">results' in (runs.outputs / "portfolio.failed" / "report.html").read_text()
    )


def test_the_same_outputs_give_the_same_bytes(runs: Runs) -> None:
    for file in ("report.html", "report.ipynb", "estimate.json"):
        assert (runs.outputs / "alpha" / "program_brief" / file).read_bytes() == runs.kept[
            f"alpha/program_brief/{file}"
        ]


def test_a_success_clears_the_earlier_failure(runs: Runs) -> None:
    assert (runs.outputs / "beta" / "ab_test" / "report.html").is_file()
    assert not (runs.outputs / "beta" / "ab_test.failed").exists()
    assert not (runs.outputs / ".private" / "beta" / "ab_test.txt").exists()


def test_a_dead_kernel_is_called_that(runs: Runs) -> None:
    error = json.loads((runs.outputs / "beta" / "program_brief.failed" / "error.json").read_text())
    assert (error["error_type"], error["cell"]) == ("DeadKernelError", 4)
    assert error["status"] == "killed"
    assert error["message"].startswith("The kernel was killed from outside while this cell ran.")


def test_a_page_that_shows_an_id_is_refused_and_its_copy_has_sources_only(runs: Runs) -> None:
    folder = runs.outputs / "alpha" / "bayes_impact.failed"
    error = json.loads((folder / "error.json").read_text())
    message = error.pop("message")
    assert error == {
        "notebook": "bayes_impact", "program": "alpha", "error_type": "DisclosureError", "cell": None,
        "status": "refused",
    }  # fmt: skip
    assert "report.html: values of an id column (1)" in message
    assert "give ids a prefix" in message
    text = BeautifulSoup((folder / "report.html").read_text(), "html.parser").get_text()
    assert f"This run was refused by the disclosure gate. {message}" in text
    (result,) = [r for r in runs.second.results if r.name == "alpha/bayes_impact"]
    console = line(Event(result.name, result.status, 1, result.error, 1, 2))
    assert console == f"alpha/bayes_impact: was refused by the disclosure gate. {message}"
    assert f"refused: {console}" in str(runs.second).splitlines()
    notebook = nbformat.read(folder / "report.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    assert "a-001" not in "".join(p.read_text() for p in folder.iterdir())


def test_a_failed_copy_that_shows_an_id_is_reduced_to_sources(runs: Runs) -> None:
    folder = runs.outputs / "alpha" / "ab_test.failed"
    assert json.loads((folder / "error.json").read_text())["error_type"] == "ValueError"
    assert not any(cell.get("outputs") for cell in nbformat.read(folder / "report.ipynb", as_version=4).cells)
    assert "a-001" not in "".join(p.read_text() for p in folder.iterdir())


SCRIPT = """
import sys
from pathlib import Path
from ldlab import batch

if __name__ == "__main__":
    batch.run(root=Path(sys.argv[1]), jobs=1, notebooks=["ab_test"], cold="--cold" in sys.argv)
"""


def test_an_interrupt_ends_kernels_and_leaves_outputs_alone(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    write_table(project, agents())
    write_program(project, "alpha")
    for name in NAMES:
        write_notebook(project, name, *CELLS)
    wait = (
        "import signal, time\n"
        "deaf = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())\n"
        "pathlib.Path('kernel.deaf').write_text(str(deaf))\n"
        "pathlib.Path('kernel.pid').write_text(str(os.getpid()))\n"
        "time.sleep(600)"
    )
    (project / "behave.json").write_text(json.dumps({"alpha/ab_test": wait}))
    old = folder(project / "outputs" / "alpha" / "ab_test", "old")
    (tmp_path / "go.py").write_text(SCRIPT)
    running = subprocess.Popen(
        [sys.executable, tmp_path / "go.py", project],
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    pid_file = project / "kernel.pid"
    deadline = time.monotonic() + 60
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert pid_file.exists(), "the notebook never started"
    kernel = int(pid_file.read_text())
    os.killpg(running.pid, signal.SIGINT)  # as the terminal does
    begun = time.monotonic()
    _, errors = running.communicate(timeout=30)
    assert time.monotonic() - begun < 8
    # One traceback, the caller's own: workers and kernels leave without a word.
    assert errors.count("Traceback") == 1
    assert errors.endswith("KeyboardInterrupt\n")
    assert "[IPKernelApp]" not in errors
    assert (
        project / "kernel.deaf"
    ).read_text() == "True"  # else the interrupt before its end is complained of
    assert ends(kernel)
    assert (old / "report.html").read_text() == "old"
    assert [p.name for p in old.parent.iterdir()] == ["ab_test"]


def test_a_refusal_is_told_even_if_an_id_is_a_word_of_its_own_page(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    write_table(project, agents())
    write_program(project, "alpha")
    write_notebook(project, "ab_test", *CELLS)
    one = Job("alpha", "ab_test", "params/alpha.yaml", project, project / "outputs", "1-x")
    store.make_room(one.outputs)
    error = DisclosureError([Leak("figures/page.png", ID_VALUES, 1)])
    what, private, shown = failure.of_exception(one, error)
    record = Record("alpha", "ab_test", "1-x", "running")
    said_to_console = failure.keep(
        one, what, private, shown, record=record, about_of=lambda: About("Alpha", frozenset({"page"}), 10)
    )
    assert (said_to_console.status, said_to_console.message) == ("refused", str(error))
    said = json.loads((one.failed / "error.json").read_text())
    assert (said["status"], said["message"]) == ("refused", failure.WITHHELD)
    assert sorted(p.name for p in one.failed.iterdir()) == ["error.json", "report.html", "run.json"]
    assert "was refused by the disclosure gate" in (one.failed / "report.html").read_text()


def refusal_of_outputs(tmp_path: Path, spoil: Callable[[Path], object]) -> str:
    project = make_project(tmp_path / "project")
    write_table(project, agents())
    write_program(project, "alpha")
    for name in NAMES:
        write_notebook(project, name, *CELLS)
    spoil(project / "outputs")
    with pytest.raises(InputError) as error:
        batch.run(root=project, jobs=1)
    (fault,) = error.value.faults
    assert (fault.file, fault.expected) == ("outputs", "a folder that can be written to")
    return fault.found


def test_outputs_that_are_a_file_are_refused(tmp_path: Path) -> None:
    found = refusal_of_outputs(tmp_path, lambda outputs: outputs.write_text("kept"))
    assert found == "a file in the place of a folder"
    assert (tmp_path / "project" / "outputs").read_text() == "kept"


def test_outputs_that_may_not_be_written_to_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(outputs: Path) -> None:
        real = Path.mkdir

        def mkdir(path: Path, *args: Any, **settings: Any) -> None:
            if path.is_relative_to(outputs):
                raise PermissionError(13, "Permission denied")
            real(path, *args, **settings)

        monkeypatch.setattr(Path, "mkdir", mkdir)

    assert refusal_of_outputs(tmp_path, forbid) == "a folder that this user may not write to"


def test_a_full_disk_is_called_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(outputs: Path) -> None:
        def mkdir(*_: Any, **__: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "mkdir", mkdir)

    found = refusal_of_outputs(tmp_path, fill)
    assert found == "a folder that cannot be written to (No space left on device)"


def gate_of(tmp_path: Path, text: str, **settings: Any) -> str:
    (tmp_path / "report.html").write_text(f"<p>{text}</p>")
    try:
        publish.gate(tmp_path, **({"ids": (), "minimum": 10, "root": Path("/srv/project")} | settings))
    except Exception as error:
        return re.sub(r"^Not published, because it would disclose: report.html: | \(1\)\..*$", "", str(error))
    return ""


def test_the_gate(tmp_path: Path) -> None:
    assert gate_of(tmp_path, "185 people") == ""
    assert gate_of(tmp_path, "see /srv/project/data/x.csv") == "absolute paths or user names"
    assert gate_of(tmp_path, f"see {Path.home()}/x.csv") == "absolute paths or user names"
    assert gate_of(tmp_path, "a-001", ids={"a-001"}) == "values of an id column"
    small = "<table><tr><th>units</th><td>4</td></tr></table>"
    assert gate_of(tmp_path, small) == "counts of fewer than 10 people"
    assert gate_of(tmp_path, small, minimum=4) == ""
