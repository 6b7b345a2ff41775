"""The real notebooks, run as a batch on simulated programs whose effects are known, by design and value type."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from ldlab import simulate
from tests.projects import PANEL_DESIGN, agents, make_project, write_program, write_table

SCRIPT = "<script>alert(1)</script>"
POINTS = "percentage points"


def binary(rng: np.random.Generator) -> pd.DataFrame:
    """2,000 agents; 40% solve at once, 12 points more when trained; one segment of 8, one that is a script."""
    arm = rng.permutation(np.repeat([0, 1], 1000))
    site = np.array([SCRIPT] * 1000 + ["South"] * 992 + ["Tiny place"] * 8)
    return pd.DataFrame({"agent": [f"AG-{i:05d}" for i in range(2000)], "trained": np.where(arm, "yes", "no"), "site": site,
                         "solved": (rng.random(2000) < 0.40 + 0.12 * arm) * 1})  # fmt: skip


def two_groups(rng: np.random.Generator) -> pd.DataFrame:
    """80 agents in 20 teams, 6 months from January, trained teams 4 minutes faster from April on."""
    rows = []
    for i in range(80):
        team, own = i // 4, rng.normal(0, 3)
        for month in range(1, 7):
            effect = -4.0 if team < 10 and month >= 4 else 0.0
            rows.append({"agent": f"AG-{i:05d}", "team": f"team {team}", "month": dt.date(2025, month, 1).isoformat(),
                         "trained": int(team < 10), "minutes": 50 + own + effect + rng.normal(0, 2)})  # fmt: skip
    return pd.DataFrame(rows)


def build(project: Path) -> None:
    rng = np.random.default_rng(20261121)
    decrease = {"design": {"planned_treated_share": 0.5}}
    write_table(project, binary(rng), "binary.csv")
    kpi = {"column": "solved", "label": "first-call resolution", "unit": POINTS, "direction": "increase", "value_type": "binary",
           "target": {"value": 5.0, "unit": POINTS}, "smallest_effect_worth_having": {"value": 1.0, "unit": POINTS}}  # fmt: skip
    codes = {"treated_value": "yes", "control_value": "no", "planned_treated_share": 0.5}
    write_program(
        project,
        "binary",
        data={"source": "data/binary.csv"},
        kpi=kpi,
        design={**codes, "columns": {"segment": "site"}},
    )

    null = simulate.randomised(800, 0.0, kind="count", seed=5).frame.rename(
        columns={"person": "agent", "outcome": "minutes"}
    )
    write_table(project, null.rename(columns={"treated": "trained"}), "null.csv")
    write_program(project, "null", data={"source": "data/null.csv"}, kpi={"value_type": "count"},
                  design={"columns": {"covariates": ["x1"]}}, analysis={"notebooks": ["ab_test"]})  # fmt: skip

    broken = agents(400).assign(trained=[int(i % 10 < 7) for i in range(400)])
    broken["minutes"] = 50 - 30 * broken["trained"] + rng.normal(0, 1, 400)
    write_table(project, broken, "broken.csv")
    write_program(
        project, "broken", data={"source": "data/broken.csv"}, analysis={"notebooks": ["ab_test"]}, **decrease
    )

    write_table(project, two_groups(rng), "groups.csv")
    columns = {"treatment": "trained", "period": "month", "cluster": "team"}
    design = {
        "kind": "two_group_before_after",
        "period": "month",
        "start_period": "2025-04-01",
        "columns": columns,
    }
    write_program(project, "groups", data={"source": "data/groups.csv"}, design=design)

    world = simulate.panel(120, 8, -3.0, cohorts=[4, 6, None], noise_sd=2.0, seed=8).frame
    waves = world.rename(columns={"unit": "agent", "period": "week", "outcome": "minutes", "treated": "on"})
    write_table(project, waves.drop(columns=["start", "cluster"]), "waves.csv")
    write_program(project, "waves", data={"source": "data/waves.csv"},
                  design={**PANEL_DESIGN, "columns": {"treatment": "on", "period": "week"}})  # fmt: skip

    everyone = waves[waves["start"].notna()] if "start" in waves else world[world["start"].notna()]
    write_table(project, everyone[["agent", "week", "minutes"]], "everyone.csv")
    columns = {"treatment": None, "period": "week"}
    design = {"kind": "before_after", "period": "week", "start_period": 6, "columns": columns}
    write_program(project, "everyone", data={"source": "data/everyone.csv"}, design=design)

    offered = agents(600)
    offered["came"] = offered["trained"] * (rng.random(600) < 0.6)
    offered["minutes"] = 50 - 3.0 * offered["came"] + rng.normal(0, 3, 600)
    write_table(project, offered, "offered.csv")
    write_program(project, "offered", data={"source": "data/offered.csv"},
                  design={"planned_treated_share": 0.5, "columns": {"assignment": "trained", "treatment": "came"}})  # fmt: skip

    version = rng.integers(0, 3, 600)
    arms = pd.DataFrame(
        {
            "agent": [f"AG-{i:05d}" for i in range(600)],
            "version": np.array(["none", "video", "coach"])[version],
        }
    )
    arms["minutes"] = 50 - np.array([0.0, 1.0, 3.0])[version] + rng.normal(0, 3, 600)
    write_table(project, arms, "arms.csv")
    design = {
        "treated_values": ["video", "coach"],
        "control_value": "none",
        "columns": {"treatment": "version"},
    }
    write_program(
        project,
        "arms",
        data={"source": "data/arms.csv"},
        design=design,
        analysis={"notebooks": ["bayes_impact"]},
    )


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = make_project(tmp_path_factory.mktemp("worlds"), notebooks=True)
    build(project)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV"))}
    command = [sys.executable, "-m", "ldlab.cli", "run", "--jobs", "2"]
    done = subprocess.run(
        command, cwd=project, capture_output=True, text=True, timeout=900, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "Traceback" not in done.stderr and "Warning" not in done.stdout + done.stderr
    return project / "outputs"


def result(outputs: Path, program: str, notebook: str) -> dict[str, Any]:
    return json.loads((outputs / program / notebook / "estimate.json").read_text())


def text_of(outputs: Path, program: str, notebook: str = "program_brief") -> str:
    return BeautifulSoup((outputs / program / notebook / "report.html").read_text(), "html.parser").get_text(
        " "
    )


@pytest.mark.parametrize(
    ("program", "notebook", "truth"),
    [
        ("binary", "ab_test", 12.0),
        ("binary", "bayes_impact", 12.0),
        ("groups", "diff_in_diff", -4.0),
        ("groups", "bayes_impact", -4.0),
        ("waves", "diff_in_diff", -3.0),
        ("offered", "ab_test", -1.8),
        ("offered", "bayes_impact", -1.8),
        ("arms", "bayes_impact", -2.0),
    ],
)
def test_known_effects_lie_within_three_standard_errors(
    outputs: Path, program: str, notebook: str, truth: float
) -> None:
    lead = result(outputs, program, notebook)["lead"]
    assert abs(lead["value"] - truth) < 3 * lead["se"]
    assert lead["low"] < lead["value"] < lead["high"]
    assert lead["p_gain"] > 0.95


def test_no_effect_is_said_plainly(outputs: Path) -> None:
    found = result(outputs, "null", "ab_test")
    assert found["claim"]["verdict"] == "unclear"
    assert found["claim"]["sentence"].startswith(
        ("It is unclear whether", "Ticket training made practically no difference")
    )


def test_a_broken_split_leaves_no_number_on_the_page(outputs: Path) -> None:
    found = result(outputs, "broken", "ab_test")
    assert found["claim"]["verdict"] == "not readable"
    assert found["decision"]["decision"] == "test further"
    page = text_of(outputs, "broken")
    assert "This result cannot be read" in page
    assert "−30" not in page and "−29" not in page


CEILINGS = {
    "binary": "A",
    "null": "A",
    "broken": "A",
    "offered": "A",
    "arms": "A",
    "waves": "B",
    "groups": "C",
    "everyone": "E",
}


@pytest.mark.parametrize("program", CEILINGS)
def test_a_grade_is_the_ceiling_less_what_failed_or_was_not_run(outputs: Path, program: str) -> None:
    for path in (outputs / program).rglob("estimate.json"):
        found = json.loads(path.read_text())
        short = sum(check["needed"] and check["status"] != "passed" for check in found["checks"])
        broken = any(check["breaks"] and check["status"] == "failed" for check in found["checks"])
        expected = "E" if broken else "ABCDE"[min(4, "ABCDE".index(CEILINGS[program]) + short)]
        assert found["grade"] == expected
        assert broken == (program == "broken")


def test_a_needed_check_without_its_columns_is_not_run(outputs: Path) -> None:
    checks = {check["name"]: check for check in result(outputs, "binary", "ab_test")["checks"]}
    assert (checks["balance"]["status"], checks["sample ratio"]["status"]) == ("not_run", "passed")
    assert result(outputs, "binary", "ab_test")["grade"] == "B"


def test_before_and_after_claims_no_cause(outputs: Path) -> None:
    page = text_of(outputs, "everyone")
    assert "Nobody was compared, so the reason is unknown" in page
    assert not any(word in page for word in (" raised ", " lowered ", "real gain"))


def test_an_offer_is_not_called_training(outputs: Path) -> None:
    sentence = result(outputs, "offered", "ab_test")["claim"]["sentence"]
    assert sentence.startswith("Offering Ticket training lowered")
    assert "300 offered and 300 comparison" in text_of(outputs, "offered")


def test_the_effect_on_those_who_came_stands_beside_that_of_the_offer(outputs: Path) -> None:
    """3 minutes faster for those who came; both schools, and what has to hold for them on the page."""
    estimates = result(outputs, "offered", "bayes_impact")["estimates"]
    cace = {e["method"]: e for e in estimates if e["estimand"] == "CACE"}
    assert set(cace) == {"Bayesian principal strata", "instrumental variable"}
    assert all(abs(e["value"] + 3) < 3 * e["se"] for e in cace.values())
    assert "through attendance alone" in text_of(outputs, "offered")


def test_each_arm_of_several_is_estimated(outputs: Path) -> None:
    by_arm = {e["term"]: e for e in result(outputs, "arms", "bayes_impact")["estimates"] if e["term"]}
    assert set(by_arm) == {"coach", "video"}
    assert abs(by_arm["coach"]["value"] + 3) < 3 * by_arm["coach"]["se"]
    assert "chance to be the best" in text_of(outputs, "arms", "bayes_impact")


def test_the_posterior_is_saved(outputs: Path) -> None:
    found = result(outputs, "offered", "bayes_impact")
    draws = json.loads((outputs / "offered" / "bayes_impact" / "draws.json").read_text())["effect"]
    assert np.mean(draws) == pytest.approx(found["lead"]["value"], rel=1e-6) and len(draws) == 4000


def test_a_posterior_that_did_not_converge_shows_no_number(tmp_path: Path) -> None:
    """The real notebook, its sampler stopped after five steps of warm-up."""
    project = make_project(tmp_path, notebooks=True)
    path = project / "notebooks" / "bayes_impact.ipynb"
    short = "fit(comparable, sampling=ldlab.bayes.Sampling(draws=20, tune=5, chains=1))"
    path.write_text(path.read_text().replace("fit(comparable)", short))
    rows = agents(200).assign(minutes=lambda d: 50 - 30 * d["trained"] + np.arange(200) % 7)
    write_table(project, rows)
    write_program(project, analysis={"notebooks": ["bayes_impact"]})
    command = [sys.executable, "-m", "ldlab.cli", "run"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = result(project / "outputs", "tickets", "bayes_impact")
    assert found["claim"]["verdict"] == "not readable" and found["grade"] == "E"
    for notebook in ("bayes_impact", "program_brief"):
        page = text_of(project / "outputs", "tickets", notebook)
        assert "The separate runs of the computation disagree" in page or "Too few independent draws" in page
        assert not any(number in page for number in ("−30", "−29", "−31"))


def test_text_from_data_is_text_and_small_segments_are_not_shown(outputs: Path) -> None:
    html = (outputs / "binary" / "bayes_impact" / "report.html").read_text()
    assert not BeautifulSoup(html, "html.parser").find_all("script")
    for path in (outputs / "binary").rglob("*"):
        if path.suffix in (".html", ".json", ".ipynb"):
            assert "Tiny place" not in path.read_text()


def test_convergence_and_fit_are_checked(outputs: Path) -> None:
    checks = {check["name"]: check["status"] for check in result(outputs, "binary", "bayes_impact")["checks"]}
    assert {"chains agree", "effective draws (bulk)", "effective draws (tail)", "no divergences"} <= set(
        checks
    )
    assert set(checks.values()) <= {"passed", "failed", "not_run"}
