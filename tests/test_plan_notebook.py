"""The notebook ``plan`` through the real batch: without data, beside a measured program, and when it is stale."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bs4 import BeautifulSoup

from ldlab.ab.experiment_plan import ExperimentPlan
from tests.projects import agents, make_project, write_program, write_table

PLAN = {"mean": 50.0, "sd": 5.0}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One program that is only planned, whose data do not exist yet, and one that was planned and measured."""
    folder = make_project(tmp_path_factory.mktemp("planned"), notebooks=True)
    said = {**PLAN, "units_per_week": 100.0, "units_available": 900}
    half = {"planned_treated_share": 0.5}
    write_program(folder, "coming", title="Coming", plan=said, design=half, data={"source": "data/not-yet.csv"},
                  analysis={"notebooks": ["plan"]})  # fmt: skip
    noise = np.random.default_rng(1).normal(0, 5, 400)
    write_table(folder, agents(400).assign(minutes=lambda f: 50 - 3 * f["trained"] + noise))
    write_program(folder, "measured", title="Measured", plan=said, design=half,
                  analysis={"notebooks": ["ab_test", "plan"]})  # fmt: skip
    return folder


def ldlab(project: Path, *arguments: str, fails: bool = False) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV"))}
    command = [sys.executable, "-m", "ldlab.cli", *arguments]
    done = subprocess.run(
        command, cwd=project, capture_output=True, text=True, timeout=600, env=environment, check=False
    )
    assert (done.returncode != 0) == fails, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def words(path: Path) -> str:
    return " ".join(BeautifulSoup(path.read_text(), "html.parser").get_text(" ").split())


def test_a_plan_needs_no_data(project: Path) -> None:
    assert "coming: ok; planned, no data read; plan" in ldlab(project, "check")
    ran = ldlab(project, "run", "--jobs", "2")
    assert "6 of 6 published" in ran and "Warning" not in ran
    outputs = project / "outputs"
    saved = ExperimentPlan.model_validate(json.loads((outputs / "coming" / "plan" / "plan.json").read_text()))
    assert saved.arms[0].units == 1238 and saved.weeks == 25  # d = 0.1 at 90%: 1,237.3 in each arm
    assert len(list((outputs / "coming" / "plan" / "figures").glob("*.png"))) == 2

    page = words(outputs / "coming" / "plan" / "report.html")
    assert page.index("It takes 2,476 agents") < page.index("What was asked")
    brief = outputs / "coming" / "program_brief"
    said = json.loads((brief / "brief.json").read_text())
    assert said["measured"] is False and said["lead"] is None and said["headline"] == saved.sentence
    text = words(brief / "report.html")
    assert "Planned, not measured yet" in text and "no readable result" not in text and "Grade" not in text
    assert 'href="../plan/report.html"' in (brief / "report.html").read_text()

    measured = outputs / "measured" / "program_brief" / "report.html"
    assert 'href="../plan/report.html"' in measured.read_text() and "Planned beforehand" in words(measured)
    index = words(outputs / "index.html")
    assert "1 planned, not measured yet" in index and "planned Coming It takes 2,476" in index
    assert "no result yet" not in index and "Without a size that can be shown" not in index


def test_a_plan_is_current_until_the_program_file_changes(project: Path) -> None:
    if not (project / "outputs").exists():
        ldlab(project, "run", "--jobs", "2")
    status = ldlab(project, "status")
    assert status.count("current") == 6
    write_table(project, agents(600))
    changed = ldlab(project, "status")
    lines = {line.split()[0]: line for line in changed.splitlines()}
    assert "current" in lines["measured/plan"] and "stale" in lines["measured/ab_test"]
    assert "current" in lines["coming/plan"] and "current" in lines["coming/program_brief"]
    write_program(project, "coming", title="Coming", plan=PLAN, data={"source": "data/not-yet.csv"},
                  analysis={"notebooks": ["plan"]})  # fmt: skip
    lines = {line.split()[0]: line for line in ldlab(project, "status").splitlines()}
    assert "stale" in lines["coming/plan"] and "the program file" in lines["coming/plan"]


def test_missing_data_are_refused_where_something_reads_them(project: Path) -> None:
    write_program(project, "late", plan=PLAN, data={"source": "data/not-yet.csv"})
    assert "not-yet.csv" in ldlab(project, "check", "late", fails=True)
    write_program(project, "late", plan={"mean": 50.0}, data={"source": "data/not-yet.csv"},
                  analysis={"notebooks": ["plan"]})  # fmt: skip
    assert "plan.sd: found nothing" in ldlab(project, "check", "late", fails=True)
    (project / "params" / "late.yaml").unlink()
