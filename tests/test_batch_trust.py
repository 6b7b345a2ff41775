"""Nothing lost and nothing stale: batches that are killed, run out of time, room or memory, or have nothing to do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ldlab import batch
from ldlab.batch import store
from ldlab.batch.inputs import data_sha256
from ldlab.batch.publish import defuse
from ldlab.batch.record import read_record
from ldlab.cli import main
from ldlab.data import read_table
from ldlab.program import LdlabError, load_program
from tests.projects import agents, ends, make_project, write_program, write_table
from tests.test_batch import CELLS, NAMES, SCRIPT, status, write_notebook

linux = pytest.mark.skipif(
    sys.platform != "linux", reason="kernels are forked, and die with their parent, on Linux"
)


def tiny(folder: Path, *programs: str, behave: dict[str, str] | None = None) -> Path:
    """A project whose notebooks say nothing but what behave.json says."""
    project = make_project(folder / "project")
    write_table(project, agents())
    for name in programs or ("alpha",):
        write_program(project, name, analysis={"notebooks": ["ab_test"]})
    for name in NAMES:
        write_notebook(project, name, *CELLS)
    (project / "behave.json").write_text(json.dumps(behave or {}))
    return project


def published(project: Path) -> dict[str, bytes]:
    """Every published file but the records of who ran it when."""
    files = [path for path in (project / "outputs").rglob("*") if path.is_file()]
    return {
        path.relative_to(project / "outputs").as_posix(): path.read_bytes()
        for path in files
        if path.name != "run.json" and not path.relative_to(project / "outputs").parts[0].startswith(".")
        and path.name != store.LOG_FILE
    }  # fmt: skip


def logged(project: Path) -> list[dict[str, object]]:
    text = (project / "outputs" / store.LOG_FILE).read_text()
    return [json.loads(line) for line in text.splitlines()]


def where(project: Path) -> dict[str, tuple[str, str]]:
    return {one.name: (one.status, one.why) for one in batch.standings(root=project)}


# --- Only what changed ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = tiny(tmp_path_factory.mktemp("once"), "alpha", "beta")
    assert batch.run(root=project, jobs=2).ok
    return project


@pytest.fixture
def done(once: Path, tmp_path: Path) -> Path:
    """A project with nothing left to do, free to be spoilt."""
    return Path(shutil.copytree(once, tmp_path / "project"))


def test_a_second_run_does_nothing_and_says_so(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = published(done)
    summary = batch.run(root=done)
    assert (summary.results, summary.current, summary.ok) == ((), 5, True)
    assert main(["--project", str(done), "run"]) == 0
    assert (
        capsys.readouterr().out == "All 5 results are current; nothing was run (--force runs them again).\n"
    )
    assert published(done) == before
    assert set(where(done).values()) == {("current", "")}


def test_a_new_project_has_never_run(tmp_path: Path) -> None:
    assert set(where(tiny(tmp_path)).values()) == {("never run", "")}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_comment_in_a_program_file_changes_nothing(done: Path) -> None:
    path = done / "params" / "alpha.yaml"
    path.write_text("# a comment\n\n" + path.read_text())
    assert set(where(done).values()) == {("current", "")}


def test_status_says_which_input_changed(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(done / "params" / "alpha.yaml", "owner: People Analytics", "owner: Somebody else")
    found = where(done)
    assert found["alpha/ab_test"] == ("stale", "changed: the program file")
    assert found["portfolio"] == ("stale", "changed: the program files")
    assert found["beta/ab_test"] == ("current", "")
    assert main(["--project", str(done), "status", "alpha"]) == 0
    assert "alpha/ab_test        stale      changed: the program file\n" in capsys.readouterr().out


def test_data_and_notebooks_are_inputs_but_their_outputs_and_dates_are_not(done: Path) -> None:
    os.utime(done / "data" / "table.csv")
    path = done / "notebooks" / "ab_test.ipynb"
    notebook = json.loads(path.read_text())
    notebook["metadata"]["opened"] = "today"
    notebook["cells"][-1]["execution_count"] = 7
    path.write_text(json.dumps(notebook))
    assert where(done)["alpha/ab_test"] == ("current", "")
    edit(done / "data" / "table.csv", "a-000,0,50.0", "a-000,0,51.0")
    notebook["cells"][-1]["source"] += "\n1"
    path.write_text(json.dumps(notebook))
    assert where(done)["alpha/ab_test"] == ("stale", "changed: the notebook, the data")


def test_the_lock_file_is_an_input(done: Path) -> None:
    (done / "requirements.lock").write_text("ldlab==0")
    assert {why for _, why in where(done).values()} == {"changed: the lock file"}


@pytest.mark.parametrize(
    ("name", "job"), [("alpha/ab_test/report.html", "alpha/ab_test"), ("index.html", "portfolio")]
)
def test_an_output_that_is_deleted_or_cut_makes_its_result_stale(done: Path, name: str, job: str) -> None:
    path = done / "outputs" / name
    path.write_bytes(path.read_bytes()[:-1])
    assert where(done)[job][0] == "stale"
    path.unlink()
    assert where(done)[job][1].startswith("missing or altered: ")
    assert status(batch.run(root=done, jobs=1))[job] == "ok"
    assert path.is_file()


def test_results_read_by_others_are_inputs_of_theirs_and_force_runs_all(done: Path) -> None:
    (done / "behave.json").write_text(json.dumps({"beta/ab_test": "print('not in the key')"}))
    summary = batch.run(["beta"], root=done, notebooks=["ab_test"], force=True, jobs=1)
    assert status(summary) == {"beta/ab_test": "ok", "beta/program_brief": "ok", "portfolio": "ok"}
    (done / "outputs" / "alpha" / "ab_test" / "report.html").unlink()
    # What the brief reads came out as it was: the brief is current, and so is the portfolio.
    assert status(batch.run(root=done, jobs=1)) == {
        "alpha/ab_test": "ok", "alpha/program_brief": "current", "portfolio": "current"
    }  # fmt: skip


def test_an_input_that_changes_meanwhile_leaves_a_stale_result(tmp_path: Path) -> None:
    change = "p = pathlib.Path('data/table.csv'); p.write_text(p.read_text().replace('50.0', '50.5'))"
    project = tiny(tmp_path, behave={"alpha/ab_test": change})
    assert batch.run(root=project, jobs=1).ok
    assert where(project)["alpha/ab_test"] == ("stale", "changed: the data")


def test_the_key_hashes_the_data_as_the_data_room_does(tmp_path: Path) -> None:
    project = tiny(tmp_path)
    program = load_program("alpha", project)
    assert data_sha256("data/*.csv", project) == read_table(program)[1]


def test_a_query_is_keyed_by_the_rows_that_it_returns(tmp_path: Path) -> None:
    project = tiny(tmp_path)
    write_program(project, "alpha", analysis={"notebooks": ["ab_test"]},
                  data={"source": None, "query": "SELECT * FROM 'data/table.csv' WHERE minutes < 100"})  # fmt: skip
    assert batch.run(root=project, jobs=1).ok
    with (project / "data" / "table.csv").open("a") as file:
        file.write("a-999,1,300\n")
    assert where(project)["alpha/ab_test"] == ("current", "")
    edit(project / "data" / "table.csv", "a-000,0,50.0", "a-000,0,51.0")
    assert where(project)["alpha/ab_test"] == ("stale", "changed: the data")


# --- Nothing lost ---------------------------------------------------------------------------------------------


def start(project: Path, *arguments: str) -> subprocess.Popen[str]:
    (project.parent / "go.py").write_text(SCRIPT)
    command = [sys.executable, str(project.parent / "go.py"), str(project), *arguments]
    return subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, running: subprocess.Popen[str], seconds: float = 60) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and running.poll() is None:
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.05)
    raise AssertionError(f"{path.name} never came")


@linux
@pytest.mark.parametrize("kind", ["--forked", "--cold"])
def test_no_kernel_outlives_a_killed_batch_and_the_next_run_ends_as_if_nothing_had_been(
    tmp_path: Path, kind: str
) -> None:
    spin = "pathlib.Path('kernel.pid').write_text(str(os.getpid()))\nsum(range(10 ** 14))"  # never lets go
    project = tiny(tmp_path, behave={"alpha/program_brief": spin})
    running = start(project, kind)
    kernel = int(wait_for(project / "kernel.pid", running))
    assert where(project)["alpha/program_brief"] == ("running", "")
    running.kill()
    running.wait()
    assert ends(kernel)
    found = where(project)
    assert found["alpha/ab_test"] == ("current", "")
    assert found["alpha/program_brief"][0] == "killed"
    assert found["portfolio"][0] == "never run"
    (project / "behave.json").write_text("{}")
    assert status(batch.run(root=project, jobs=2)) == {"alpha/program_brief": "ok", "portfolio": "ok"}
    assert [event["notebook"] for event in logged(project) if event.get("status") == "killed"] == [
        "program_brief"
    ]
    assert not list((project / "outputs" / ".staging").iterdir())
    undisturbed = tiny(tmp_path / "undisturbed")
    batch.run(root=undisturbed, jobs=2)
    assert published(project) == published(undisturbed)


@linux
def test_a_killed_worker_takes_its_kernel_along_and_fails_only_its_own_notebook(tmp_path: Path) -> None:
    kill = (
        "import ctypes; run = json.loads(next(pathlib.Path('outputs/.staging').rglob('alpha/ab_test/run.json')).read_text())\n"
        "pathlib.Path('kernel.pid').write_text(str(os.getpid()))\nos.kill(run['pid'], 9)\nsum(range(10 ** 14))"
    )
    project = tiny(tmp_path, "alpha", "beta", behave={"alpha/ab_test": kill})
    summary = batch.run(root=project, jobs=2)
    assert status(summary) == {
        "alpha/ab_test": "killed", "beta/ab_test": "ok", "alpha/program_brief": "ok", "beta/program_brief": "ok",
        "portfolio": "ok",
    }  # fmt: skip
    assert ends(int((project / "kernel.pid").read_text()), within=0.5)
    error = json.loads((project / "outputs" / "alpha" / "ab_test.failed" / "error.json").read_text())
    assert (error["error_type"], error["status"]) == ("WorkerDied", "killed")
    assert where(project)["alpha/ab_test"] == ("killed", "WorkerDied")


def test_a_notebook_that_never_ends_is_timed_out_and_called_that(tmp_path: Path) -> None:
    project = tiny(tmp_path, "alpha", "beta")
    assert batch.run(root=project, jobs=2).ok
    kept = published(project)
    (project / "behave.json").write_text(json.dumps({"alpha/ab_test": "sum(range(10 ** 14))"}))
    edit(project / "notebooks" / "ab_test.ipynb", "print('wrote'", "print('has written'")
    summary = batch.run(root=project, jobs=2, timeout=15)
    assert status(summary)["alpha/ab_test"] == "timed out"
    assert status(summary)["beta/ab_test"] == "ok"
    (result,) = summary.failures
    assert result.error == "timed out at cell 4. It ran longer than 15 s, the limit that --timeout gives."
    assert published(project)["alpha/ab_test/report.html"] == kept["alpha/ab_test/report.html"]
    record = read_record(project / "outputs" / "alpha" / "ab_test.failed")
    assert record is not None and record.status == "timed out" and record.error["cell"] == 4
    assert where(project)["alpha/ab_test"] == ("timed out", "TimedOut at cell 4")
    page = (project / "outputs" / "alpha" / "ab_test.failed" / "report.html").read_text()
    assert "This run timed out at code cell 4." in page and "are kept" in page


def test_a_second_batch_on_one_outputs_folder_says_who_holds_it(tmp_path: Path) -> None:
    project = tiny(tmp_path)
    store.make_room(project / "outputs")
    with store.alone(project / "outputs"):
        with pytest.raises(
            LdlabError, match=rf"in use by another batch \(process {os.getpid()} on .*, since 20"
        ):
            batch.run(root=project, jobs=1)
        assert store.in_use(project / "outputs")
    assert not store.in_use(project / "outputs")
    assert not list((project / "outputs").glob("alpha"))


FULL_DISK = """
mount -t tmpfs -o size=3m none {outputs} && cp -a {kept}/. {outputs}/ &&
dd if=/dev/zero of={outputs}/filler bs=1k status=none; truncate -s -{free}k {outputs}/filler
{python} -m ldlab.cli --project {project} run --cold --jobs 1
echo "exit $?"; rm -rf {kept}; cp -a {outputs} {kept}
"""


def can_mount() -> bool:
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs a namespace of its own to mount a small disk in")
@pytest.mark.parametrize(
    ("free", "exit_status", "said"),
    [
        (0, 2, "outputs: folder: found a folder that cannot be written to (No space left on device)"),
        (99, 1, "OSError: The disk is full (No space left on device)."),
    ],
    ids=["from the start", "while it runs"],
)
def test_a_full_disk_is_called_that_and_keeps_the_last_good_page(
    tmp_path: Path, free: int, exit_status: int, said: str
) -> None:
    project = tiny(tmp_path)
    assert batch.run(root=project, jobs=1).ok
    before = published(project)
    kept = Path(shutil.copytree(project / "outputs", tmp_path / "kept"))
    edit(project / "notebooks" / "ab_test.ipynb", "print('wrote'", "print('has written'")
    (project / "behave.json").write_text(
        json.dumps({"alpha/ab_test": "(folder / 'x.txt').write_text(300_000 * 'x')"})
    )
    script = FULL_DISK.format(
        outputs=project / "outputs", kept=kept, project=project, python=sys.executable, free=free
    )
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert said in done.stdout + done.stderr
    assert f"exit {exit_status}\n" in done.stdout
    after = {p.relative_to(kept).as_posix(): p.read_bytes() for p in kept.rglob("*") if p.is_file()}
    for name in ("alpha/ab_test/report.html", "alpha/ab_test/estimate.json", "index.html"):
        assert after[name] == before[name]


def test_a_folder_that_cannot_be_written_to_fails_only_its_own_notebook(tmp_path: Path) -> None:
    project = tiny(tmp_path, "alpha", "beta")
    store.make_room(project / "outputs")
    (project / "outputs" / "alpha").write_text(
        "in the way"
    )  # root may write into any folder, but not into a file
    found = status(batch.run(root=project, jobs=1))
    assert found["alpha/ab_test"] == "failed"
    assert (found["beta/ab_test"], found["beta/program_brief"]) == ("ok", "ok")
    assert (project / "outputs" / "alpha").read_text() == "in the way"


def test_an_error_of_the_operating_system_is_named_without_its_paths(tmp_path: Path) -> None:
    project = tiny(
        tmp_path, behave={"alpha/ab_test": "raise OSError(28, 'No space left on device', '/secret/a-001')"}
    )
    batch.run(root=project, jobs=1, notebooks=["ab_test"])
    error = json.loads((project / "outputs" / "alpha" / "ab_test.failed" / "error.json").read_text())
    assert error["message"] == "The disk is full (No space left on device)."


# --- Kernels --------------------------------------------------------------------------------------------------


@linux
def test_forked_kernels_share_nothing_that_they_should_not(tmp_path: Path) -> None:
    look = (
        "import numpy, random, os, ctypes, multiprocessing, threading\n"
        "told = {'numpy': numpy.random.rand(), 'random': random.random(), 'cwd': os.getcwd(), 'argv': sys.argv[0],\n"
        "    'threads': os.environ['OPENBLAS_NUM_THREADS'], 'child': multiprocessing.parent_process() is not None,\n"
        "    'server': sorted(k for k in os.environ if k.startswith('LDLAB')), 'ipc': 'NAME',\n"
        "    'loaded': 'pandas' in sys.modules, 'parent': pathlib.Path(f'/proc/{os.getppid()}/cmdline').read_text()}\n"
        "import ipykernel.connect as c\n"
        "file = pathlib.Path(c.get_connection_file()); info = json.loads(file.read_text())\n"
        "told |= {'transport': info['transport'], 'mode': oct(file.parent.stat().st_mode)[-3:]}\n"
        "told |= {'in': info['ip'].startswith(str(file.parent))}\n"
        "pathlib.Path(pathlib.Path(program).stem + '.json').write_text(json.dumps(told))"
    )
    project = tiny(tmp_path, "alpha", "beta", behave={"alpha/ab_test": look, "beta/ab_test": look})
    assert batch.run(root=project, jobs=2, notebooks=["ab_test"]).ok
    alpha, beta = (json.loads((project / f"{name}.json").read_text()) for name in ("alpha", "beta"))
    assert "ldlab.batch.forkserver" in alpha["parent"]
    assert alpha["numpy"] != beta["numpy"]
    assert alpha["random"] != beta["random"]
    assert (alpha["cwd"], alpha["threads"], alpha["child"]) == (str(project), "1", False)
    assert alpha["server"] == ["LDLAB_PROJECT"]
    assert alpha["loaded"]
    assert (alpha["transport"], alpha["mode"], alpha["in"]) == ("ipc", "700", True)


@linux
def test_the_fork_server_has_one_thread(tmp_path: Path) -> None:
    look = "pathlib.Path('threads').write_text(str(len(os.listdir(f'/proc/{os.getppid()}/task'))))"
    project = tiny(tmp_path, behave={"alpha/ab_test": look})
    assert batch.run(root=project, jobs=1, notebooks=["ab_test"]).ok
    assert (project / "threads").read_text() == "1"


def test_forked_and_cold_kernels_give_the_same_bytes(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", notebooks=True)
    write_table(project, agents(80))
    write_program(project, "alpha", analysis={"notebooks": ["ab_test"]})
    assert batch.run(root=project).ok
    forked = published(project)
    shutil.rmtree(project / "outputs")
    assert batch.run(root=project, cold=True).ok
    assert published(project) == forked
    assert any(name.endswith("ab_test/estimate.json") for name in forked)


# --- Safe by construction -------------------------------------------------------------------------------------


def test_csv_cells_that_would_be_formulas_become_texts(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text('name,value\n"=HYPERLINK(""x"")",-3.5\n@SUM(A1),+1e3\n"-2+3","plain, text"\n')
    defuse(tmp_path)
    assert (
        path.read_text() == 'name,value\n"\'=HYPERLINK(""x"")",-3.5\n\'@SUM(A1),+1e3\n\'-2+3,"plain, text"\n'
    )


def test_an_opened_run_reproduces_its_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = make_project(tmp_path / "project", notebooks=True)
    write_table(project, agents(80))
    write_program(project, "alpha", analysis={"notebooks": ["ab_test"]})
    assert batch.run(root=project).ok
    for program, notebook, file in (("alpha", "ab_test", "estimate.json"), ("alpha", "program_brief", "brief.json"),
                                    ("portfolio", "portfolio", "portfolio.json")):  # fmt: skip
        assert main(["--project", str(project), "open", program, notebook]) == 0
        copy = (
            project / "scratch" / ("" if program == "portfolio" else program) / notebook / f"{notebook}.ipynb"
        )
        assert copy.is_file()
        run_all = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--inplace", copy.name]
        subprocess.run(
            run_all, cwd=copy.parent, check=True, capture_output=True
        )  # as JupyterLab: in its own folder
        published_file = project / "outputs" / ("" if program == "portfolio" else program) / notebook / file
        assert (copy.parent / file).read_bytes() == published_file.read_bytes()
    assert main(["--project", str(project), "open", "alpha", "ab_test"]) == 2
    assert "was changed. Rename or delete it first." in capsys.readouterr().err
    assert main(["--project", str(project), "open", "alpha", "ab_tset"]) == 2
    assert "Did you mean 'ab_test'?" in capsys.readouterr().err


def test_the_log_says_who_ran_what(once: Path) -> None:
    events = logged(once)
    assert events[0]["event"] == "begun" and events[-1]["event"] == "ended"
    ran = {(event["program"], event["notebook"]) for event in events if event.get("status") == "ok"}
    assert len(ran) == 5
    record = read_record(once / "outputs" / "alpha" / "ab_test")
    assert record is not None and record.status == "ok" and record.pid > 0 and record.started.startswith("20")
    assert f"{record.host}:{record.pid}" in {event.get("worker") for event in events}
    assert stat.S_IMODE((once / "outputs" / ".staging").stat().st_mode) == 0o700


def test_an_interrupt_is_quick_and_what_was_finished_is_kept(tmp_path: Path) -> None:
    spin = "pathlib.Path('kernel.pid').write_text(str(os.getpid()))\nsum(range(10 ** 14))"
    project = tiny(tmp_path, behave={"alpha/program_brief": spin})
    running = start(project)
    kernel = int(wait_for(project / "kernel.pid", running))
    begun = time.monotonic()
    os.killpg(running.pid, signal.SIGINT)
    running.communicate(timeout=30)
    assert time.monotonic() - begun < 2
    assert ends(kernel)
    assert where(project)["alpha/ab_test"][0] == "current"
    assert logged(project)[-1]["event"] == "stopped"
    assert not list((project / "outputs" / ".staging").iterdir())


def test_a_path_that_a_library_adds_changes_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """setuptools puts its vendored packages, with their metadata, on sys.path."""
    from ldlab.batch.inputs import environment_sha256

    before = environment_sha256(tmp_path)
    vendored = tmp_path / "vendored" / "made_up-1.0.dist-info"
    vendored.mkdir(parents=True)
    (vendored / "METADATA").write_text("Metadata-Version: 2.1\nName: made-up\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(vendored.parent))
    assert environment_sha256(tmp_path) == before
