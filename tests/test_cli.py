"""The command line: exit status, messages, and that bad input leaves everything as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ldlab.cli import main
from tests.projects import agents, make_project, panel, write_program, write_table


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = make_project(tmp_path, notebooks=True)
    monkeypatch.chdir(folder)
    write_table(folder, agents())
    return folder


def test_check_says_what_it_found(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_program(project)
    assert main(["check"]) == 0
    assert capsys.readouterr().out == "tickets: ok; 20 trained, 20 comparison agents; ab_test, bayes_impact\n"


def test_check_reports_file_and_data_faults_of_all_programs_together(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_program(project, "one", ownr="x")
    write_program(project, "two", kpi={"column": "minuts"})
    write_program(project, "three", data={"source": "data/absent.csv"})
    assert main(["check"]) == 2
    said = capsys.readouterr().err
    assert "Did you mean 'owner'?" in said
    assert "Did you mean 'minutes'?" in said
    assert "params/three.yaml (data/absent.csv): data: found no such file" in said
    assert "3 faults; nothing was run and nothing was changed" in said


def test_check_holds_the_data_against_what_the_notebook_at_scale_can_read(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at_scale = {"notebooks": ["ab_at_scale"]}
    write_program(project, analysis=at_scale)
    assert main(["check"]) == 0
    assert capsys.readouterr().out == "tickets: ok; 20 comparison, 20 trained agents; ab_at_scale\n"
    write_table(project, agents().assign(team=range(40), minutes=lambda d: d["minutes"] * d["trained"]))
    write_program(project, analysis=at_scale)
    assert main(["check"]) == 2
    assert "minutes: found one value for everybody in arm 0" in capsys.readouterr().err
    write_program(project, analysis=at_scale, design={"columns": {"cluster": "team"}})
    assert main(["check"]) == 2
    said = capsys.readouterr().err
    assert "design.columns.cluster: found team; expected units that were assigned one by one" in said
    assert "use the notebook ab_test" in said and "nothing was run" in said


def test_a_bad_file_stops_the_run_before_anything_starts(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_program(project, "fine")
    write_program(project, "bad", analysis={"minimum_group_size": 3})
    old = project / "outputs" / "fine" / "ab_test" / "report.html"
    old.parent.mkdir(parents=True)
    old.write_text("earlier page")
    assert main(["run"]) == 2
    assert "minimum_group_size: found 3" in capsys.readouterr().err
    assert [
        p.relative_to(project / "outputs").as_posix() for p in (project / "outputs").rglob("*") if p.is_file()
    ] == ["fine/ab_test/report.html"]
    assert old.read_text() == "earlier page"


def test_a_notebook_without_parameters_stops_the_run(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_program(project)
    path = project / "notebooks" / "ab_test.ipynb"
    notebook = json.loads(path.read_text())
    for cell in notebook["cells"]:
        cell["metadata"].pop("tags", None)
    path.write_text(json.dumps(notebook))
    assert main(["run"]) == 2
    said = capsys.readouterr().err
    assert "notebooks/ab_test.ipynb" in said and "parameters" in said
    assert not (project / "outputs").exists()


def test_an_unknown_notebook_gets_a_hint(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_program(project)
    assert main(["run", "--notebook", "ab_tset"]) == 2
    assert "Did you mean 'ab_test'?" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["run", "--jobs", "0"], ["run", "--jobs", "two"], ["rnu"], []])
def test_bad_arguments_exit_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


def test_outside_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check"]) == 2
    assert "--project" in capsys.readouterr().err


def test_project_option_works_from_anywhere(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(project)
    monkeypatch.chdir("/")
    assert main(["--project", str(project), "check", "tickets"]) == 0


def test_new_recognises_columns_and_is_refused_until_todos_are_gone(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(project, panel().assign(team="T1"), "weeks.csv")
    assert main(["new", "mine", "--data", "data/weeks.csv"]) == 0
    text = (project / "params" / "mine.yaml").read_text()
    for line in (
        "kind: staggered",
        "unit: agent",
        "period: week",
        "start: start",
        "column: minutes",
        "cluster: team",
    ):
        assert line in text
    assert main(["check", "mine"]) == 2
    assert "kpi.label: found a TODO" in capsys.readouterr().err
    assert main(["new", "mine", "--data", "data/weeks.csv"]) == 2
    assert (project / "params" / "mine.yaml").read_text() == text


@pytest.mark.parametrize("name", ["a/b", "../x", "A", ""])
def test_new_refuses_names_that_leave_the_folder(project: Path, name: str) -> None:
    assert main(["new", name, "--data", "data/table.csv"]) == 2


def test_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "ldlab program file"


def test_run_checks_the_data_of_what_is_due_whatever_its_file_is_called(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_program(project, "one", id="two", kpi={"column": "minuts"})
    assert main(["run", "two"]) == 2
    said = capsys.readouterr().err
    assert "params/one.yaml" in said and "Did you mean 'minutes'?" in said
    assert not (project / "outputs").exists()


@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf", "soon"])
def test_a_timeout_is_seconds_above_zero(given: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["run", "--timeout", given])
    assert stopped.value.code == 2


def test_a_run_with_nothing_to_do_imports_nothing_heavy() -> None:
    code = "import sys, ldlab.batch.runner, ldlab.batch.status, ldlab.cli; print([m for m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not [
        name for name in ("pandas", "pydantic", "nbformat", "zmq", "duckdb") if f"'{name}'" in done.stdout
    ]
