"""More than one machine: a real Dask scheduler with two worker processes, one of which is killed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ldlab import batch
from ldlab.batch.record import read_record
from ldlab.cli import main
from tests.projects import ends
from tests.test_batch import status
from tests.test_batch_trust import edit, linux, logged, published, tiny

pytest.importorskip("distributed")


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two workers of one thread: (address, worker processes)."""
    file = folder / "scheduler.json"
    common = ["--no-dashboard", "--scheduler-file", str(file)]

    def start(*words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", *words, *common]
        return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    scheduler = start("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0")
    processes = [scheduler]
    try:
        deadline = time.monotonic() + 60
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        workers = [start("distributed.cli.dask_worker", "--nthreads", "1", "--no-nanny") for _ in range(2)]
        processes += workers
        from distributed import Client

        with Client(scheduler_file=str(file), set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)
        yield json.loads(file.read_text())["address"], workers
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


@linux
def test_a_killed_worker_of_a_cluster_loses_nothing(tmp_path: Path) -> None:
    names = ("alpha", "beta", "gamma", "delta")
    # The first notebook of all notes its processes and never ends; its worker is killed, and the second try ends.
    once = (
        "told = pathlib.Path('kernel.pid')\nif not told.exists():\n"
        "    told.write_text(str(os.getpid()))\n    sum(range(10 ** 14))"
    )
    project = tiny(tmp_path, *names, behave={"alpha/ab_test": once})
    local = tiny(tmp_path / "local", *names, behave={"alpha/ab_test": once})
    (local / "kernel.pid").write_text("0")
    with cluster(tmp_path) as (address, workers):
        command = [sys.executable, "-m", "ldlab.cli", "--project", str(project), "run", "--dask", address]
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        pid_file, deadline = project / "kernel.pid", time.monotonic() + 120
        while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        kernel = int(pid_file.read_text())
        children = {worker.pid: worker for worker in workers}
        (victim,) = [worker for pid, worker in children.items() if pid in ancestors(kernel)]
        victim.kill()
        assert ends(kernel)
        said, _ = running.communicate(timeout=240)
    assert running.returncode == 0, said
    assert set(one.status for one in batch.standings(root=project)) == {"current"}
    assert batch.run(root=local, jobs=2).ok
    assert published(project) == published(local)
    ran = {event["worker"] for event in logged(project) if event.get("status") == "ok"}
    assert ran
    record = read_record(project / "outputs" / "alpha" / "ab_test")
    assert record is not None and f"{record.host}:{record.pid}" in ran
    assert not list((project / "outputs" / ".staging").iterdir())


def ancestors(pid: int) -> list[int]:
    found = []
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        found.append(pid)
    return found


def test_a_scheduler_that_is_not_there_is_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                     monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr("ldlab.batch.cluster.START_SECONDS", 1)
    project = tiny(tmp_path)
    assert main(["--project", str(project), "run", "--dask", "tcp://127.0.0.1:9"]) == 2
    assert "No Dask scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().err


def test_finished_folders_are_copied_to_a_url_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tiny(tmp_path)
    assert batch.run(root=project, jobs=1).ok
    url = f"file://{tmp_path}/elsewhere"
    for copied in (3, 0):
        assert main(["--project", str(project), "run", "--upload", url]) == 0
        assert f"{copied} finished folders copied to {url}" in capsys.readouterr().out
    there = tmp_path / "elsewhere"
    for name, data in published(project).items():
        assert (there / name).read_bytes() == data
    assert read_record(there / "alpha" / "ab_test") == read_record(project / "outputs" / "alpha" / "ab_test")
    edit(project / "notebooks" / "ab_test.ipynb", "print('wrote'", "print('has written'")
    shutil.rmtree(project / "outputs" / "alpha" / "program_brief")
    assert status(batch.run(root=project, jobs=1))["alpha/ab_test"] == "ok"
    assert main(["--project", str(project), "run", "--upload", url]) == 0
    assert "2 finished folders copied" in capsys.readouterr().out
