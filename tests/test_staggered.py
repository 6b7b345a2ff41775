"""Staggered programs from file to page: what few clusters, a one-person cohort or nobody left untrained do to the claim."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.projects import make_project, write_program, write_table

DESIGN = {
    "kind": "staggered", "period": "week",
    "columns": {"treatment": None, "period": "week", "start": "first", "cluster": "team"},
}  # fmt: skip
EFFECT = -2.0


def roll_out(starts: list[int], size: int, weeks: int, seed: int) -> pd.DataFrame:
    """Teams of ``size`` agents; the first trained week of each, 0 for never; an effect of -2 from then on."""
    rng, teams = np.random.default_rng(seed), len(starts)
    agent, week = (x.ravel() for x in np.indices((teams * size, weeks)))
    team = agent // size
    first = np.array(starts)[team]
    minutes = 50 + rng.normal(0, 2, teams * size)[agent] + rng.normal(0, 0.5, (teams, weeks))[team, week]
    minutes = minutes + rng.normal(0, 1, len(agent)) + EFFECT * ((first > 0) & (week + 1 >= first))
    return pd.DataFrame(
        {"agent": [f"AG-{i:05d}" for i in agent], "week": week + 1, "first": first,
         "team": [f"Team {k}" for k in team], "minutes": minutes}
    )  # fmt: skip


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = make_project(tmp_path_factory.mktemp("staggered"), notebooks=True)
    one_person = roll_out([5, 0] * 6, 15, 8, 3)
    one_person.loc[one_person["agent"] == "AG-00000", "first"] = 3
    programs = {
        "one-of-four": roll_out([5, 0, 0, 0], 20, 8, 1),
        "two-of-twelve": roll_out([5, 5] + [0] * 10, 15, 8, 2),
        "one-person": one_person,
        "no-never": roll_out([4, 7, 9] * 4, 15, 10, 4),
    }
    for name, frame in programs.items():
        write_table(project, frame, f"{name}.csv")
        write_program(
            project, name, design=DESIGN, data={"source": f"data/{name}.csv"},
            analysis={"notebooks": ["diff_in_diff", "bayes_impact"] if name == "one-of-four" else ["diff_in_diff"]},
        )  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV"))}
    command = [sys.executable, "-m", "ldlab.cli", "run", "--jobs", "2"]
    done = subprocess.run(
        command, cwd=project, capture_output=True, text=True, timeout=900, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "Warning" not in done.stdout + done.stderr
    return project / "outputs"


def result(outputs: Path, program: str, notebook: str = "diff_in_diff") -> dict[str, Any]:
    return dict(json.loads((outputs / program / notebook / "estimate.json").read_text(encoding="utf-8")))


def page(outputs: Path, program: str, notebook: str = "diff_in_diff") -> str:
    return (outputs / program / notebook / "report.html").read_text(encoding="utf-8")


def test_one_trained_team_gets_no_interval_and_no_claim(outputs: Path) -> None:
    found = result(outputs, "one-of-four")
    lead = found["lead"]
    assert [lead[name] for name in ("se", "low", "high", "p_gain", "p_target")] == [None] * 5
    assert (found["claim"]["verdict"], found["grade"]) == ("not readable", "E")
    assert "There is 1 trained cluster (team) and 3 to compare with" in found["claim"]["sentence"]
    assert result(outputs, "one-of-four", "bayes_impact")["claim"]["verdict"] == "not readable"
    brief = page(outputs, "one-of-four", "program_brief")
    assert "This result cannot be read" in brief and "∞" not in brief and "bayes_impact says" not in brief


def test_two_of_twelve_teams_get_the_interval_of_all_66_ways(outputs: Path) -> None:
    lead = result(outputs, "two-of-twelve")["lead"]
    assert lead["se_kind"] == "permutation of 12 clusters (team), 66 assignments"
    assert lead["low"] < EFFECT < lead["high"]
    assert "all 66 ways" in page(outputs, "two-of-twelve")


def test_a_cohort_of_one_person_is_nowhere_to_be_seen(outputs: Path) -> None:
    found, text = result(outputs, "one-person"), page(outputs, "one-person")
    assert found["lead"]["low"] < EFFECT < found["lead"]["high"]
    # It may be shown together with the others ("trained from 3 to 5"), never alone.
    assert not re.search(r"from 3(?! to 5)", text) and "(1)" not in text
    counts = [
        n for estimate in found["estimates"] for n in (estimate["n"]["treated"], estimate["n"]["comparison"])
    ]
    assert all(n is None or n in (89, 90) for n in counts)


def test_where_nobody_stays_untrained_those_who_wait_are_the_comparison(outputs: Path) -> None:
    found = result(outputs, "no-never")
    assert "not-yet-trained controls" in found["lead"]["method"]
    assert found["lead"]["low"] < EFFECT < found["lead"]["high"]
    assert found["lead"]["n"]["comparison"] == 120  # of 180, the two later waves
    assert found["grade"] in ("B", "C")
