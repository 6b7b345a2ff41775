"""Every command in the README, run in a copy of the project; and what `make run` leaves on the shipped programs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bs4 import BeautifulSoup

from ldlab import ab, did
from ldlab.data import identifiers, load_study
from ldlab.program import load_program, load_programs
from tests.projects import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines()]
PROGRAMS = ("academy", "michigan", "nsw", "nsw-cps", "nudges")


def tracked() -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return [name for name in done.stdout.splitlines() if (REPOSITORY / name).is_file()]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a clone holds it, with this environment instead of a new one."""
    folder = tmp_path_factory.mktemp("project") / "ldlab"
    for name in tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, folder / name)
    (folder / ".venv").symlink_to(REPOSITORY / ".venv")
    return folder


def run(command: str, folder: Path, *, expect: int = 0, seconds: int = 1500) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV"))}
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=seconds,
        env=environment,
        check=False,
    )
    assert done.returncode == expect, (
        f"{command}: {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    )
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def outputs(copy: Path) -> Path:
    """What `make run` leaves."""
    said = run("make run", copy)
    assert "16 of 16 published" in said
    assert f"The page: {copy}/outputs/index.html" in said
    return copy / "outputs"


def estimate_of(outputs: Path, program: str, notebook: str) -> dict[str, Any]:
    return json.loads((outputs / program / notebook / "estimate.json").read_text())


def test_the_readme_names_the_commands_that_are_run_here() -> None:
    assert COMMANDS == [
        "make run", "make test",
        ".venv/bin/ldlab new my-program --data data/my_table.csv", ".venv/bin/ldlab check my-program",
        ".venv/bin/ldlab run my-program",
        "make lab",
        ".venv/bin/ldlab --help", ".venv/bin/ldlab check", ".venv/bin/ldlab schema",
        "make check", "make bench", "make calibrate", "make data",
    ]  # fmt: skip


def test_every_shipped_program_has_its_pages(outputs: Path) -> None:
    for program in load_programs(root=REPOSITORY):
        for notebook in (*program.notebooks, "program_brief"):
            folder = outputs / program.id / notebook
            assert (folder / "report.html").is_file() and (folder / "report.ipynb").is_file()
            assert not (outputs / program.id / f"{notebook}.failed").exists()
    assert not (outputs / ".staging").exists() or not any((outputs / ".staging").iterdir())


def test_published_numbers_are_in_the_results(outputs: Path) -> None:
    lead = estimate_of(outputs, "nsw", "ab_test")["lead"]
    assert [round(lead["value"], 2), round(lead["se"], 2), lead["se_kind"]] == [1794.34, 671.00, "HC2"]
    raw, adjusted = estimate_of(outputs, "nsw-cps", "bayes_impact")["estimates"][2:]
    assert round(raw["value"], 2) == -8497.52
    assert raw["estimand"] == "raw difference, not an effect"
    assert [round(adjusted["value"], 2), round(adjusted["se"], 2), adjusted["se_kind"]] == [
        1066.38,
        626.85,
        "HC1",
    ]
    page = (outputs / "michigan" / "diff_in_diff" / "report.html").read_text()
    assert "−0.2523 (0.1421, cluster by firm)" in page
    assert "−0.4216" in page
    # Group-time effects against both comparisons, the flag of the grant's year alone, and why it is too small.
    assert "−0.3450 (0.1952, cluster by firm)" in page and "−0.3205 (0.1874, cluster by firm)" in page
    assert "comes out too small" in page


def test_published_numbers_through_the_public_functions() -> None:
    michigan = load_study(load_program("michigan", REPOSITORY))
    grant, last_year = did.effects_since_start(michigan, se="classical")
    assert [round(x, 4) for x in (grant.value, grant.se, last_year.value, last_year.se)] == [
        -0.2523,
        0.1506,
        -0.4216,
        0.2102,
    ]
    assert did.period_effects(michigan)["effect"].round(4).tolist() == [-0.0802, -0.2472]
    nsw = load_study(load_program("nsw", REPOSITORY))
    assert round(ab.difference_in_means(nsw).value, 2) == 1794.34


def test_the_academys_interval_covers_its_known_truth(outputs: Path) -> None:
    truth = json.loads((REPOSITORY / "data" / "academy_truth.json").read_text())["ATT"]
    result = estimate_of(outputs, "academy", "diff_in_diff")
    assert result["lead"]["low"] < truth < result["lead"]["high"]
    assert result["claim"]["verdict"] == "moved, below target"
    assert result["grade"] == "B"
    assert result["estimates"][1]["method"] == "imputation from untreated cells"


def test_the_experiments_intervals_cover_its_known_truth(outputs: Path) -> None:
    truth = json.loads((REPOSITORY / "data" / "nudges_truth.json").read_text())["manager prompt"]
    result = estimate_of(outputs, "nudges", "ab_test")
    assert result["lead"]["low"] < truth["quality"] < result["lead"]["high"]
    assert result["grade"] == "A" and "(manager prompt)" in result["claim"]["sentence"]
    repeats, certified = (found["estimate"] for found in result["secondary"])
    assert repeats["low"] < truth["repeats"] < repeats["high"]
    assert certified["low"] < 100 * truth["certified"] < certified["high"]
    assert {rail["state"] for rail in result["guard_rails"] if rail["arm"] == "manager prompt"} == {"held"}
    assert result["decision"]["decision"] == "scale"


def test_the_posterior_agrees_with_the_experiment(outputs: Path) -> None:
    posterior, plain = (
        estimate_of(outputs, "nsw", "bayes_impact")["lead"],
        estimate_of(outputs, "nsw", "ab_test")["lead"],
    )
    assert abs(posterior["value"] - plain["value"]) < plain["se"]


def test_without_its_experiment_the_page_states_no_effect(outputs: Path) -> None:
    text = BeautifulSoup(
        (outputs / "nsw-cps" / "program_brief" / "report.html").read_text(), "html.parser"
    ).get_text(" ")
    assert "shows a direction at most, not a size" in text
    assert "8,49" not in text and "1,066" not in text and "1,901" not in text
    assert json.loads((outputs / "nsw-cps" / "program_brief" / "brief.json").read_text())["grade"] == "D"


def test_the_observational_analysis_comes_near_the_experiment(outputs: Path) -> None:
    """1,794 (671) by experiment; doubly robust 1,906 (793) among the comparable; the raw difference is no effect."""
    found = estimate_of(outputs, "nsw-cps", "bayes_impact")
    by_method = {e["method"]: e for e in found["estimates"]}
    assert (
        abs(found["lead"]["value"] - 1794) < 671 and found["lead"]["estimand"] == "ATT among the comparable"
    )
    robust = by_method["doubly robust (weights and regression)"]
    assert (round(robust["value"]), round(robust["se"])) == (1906, 793)
    raw = by_method["difference in means"]
    assert round(raw["value"], 2) == -8497.52 and raw["estimand"] == "raw difference, not an effect"


def test_pages_load_nothing_and_say_nothing_about_this_machine_or_a_person(outputs: Path) -> None:
    ids = frozenset().union(*(identifiers(load_program(name, REPOSITORY)) for name in PROGRAMS))
    distinctive = {i for i in ids if not i.isdigit() or len(i) > 4}
    files = [path for path in outputs.rglob("*") if path.suffix in (".html", ".ipynb", ".json")]
    assert len(files) > 25
    for path in files:
        text = path.read_text()
        assert (
            str(REPOSITORY) not in text and str(outputs.parent) not in text and f"{Path.home()}/" not in text
        )
        words = set(
            re.findall(r"[\w-]+", re.sub(r'"image/png": "[^"]*"|data:image/png;base64,[^"]*', "", text))
        )
        assert not words & distinctive, path
        if path.suffix == ".html":
            page = BeautifulSoup(text, "html.parser")
            loaded = [
                tag.get("src") or tag.get("href")
                for tag in page.find_all(["img", "script", "link", "iframe"])
            ]
            assert all(address.startswith("data:") for address in loaded)
            assert page.find("meta", {"http-equiv": "Content-Security-Policy"})
            assert len(page.find_all("h1")) == 1
            assert all(image.get("alt") for image in page.find_all("img"))
            assert not page.find_all("script")


def test_links_between_pages_lead_somewhere(outputs: Path) -> None:
    for path in outputs.rglob("*.html"):
        for link in BeautifulSoup(path.read_text(), "html.parser").find_all("a"):
            target = str(link["href"])
            if not target.startswith(("#", "https:")):
                assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_a_second_run_gives_the_same_bytes(outputs: Path, copy: Path) -> None:
    before = {p: p.read_bytes() for p in (outputs / "nsw").rglob("*.json") if p.name != "run.json"}
    run(".venv/bin/ldlab run nsw --force", copy)
    after = {p: p.read_bytes() for p in (outputs / "nsw").rglob("*.json") if p.name != "run.json"}
    assert before == after
    assert sorted(p.name for p in before) == ["brief.json", "draws.json", "estimate.json", "estimate.json"]


def test_what_is_current_is_not_run_again(copy: Path) -> None:
    assert "current" in run(".venv/bin/ldlab run nsw", copy)
    assert "current" in run(".venv/bin/ldlab status nsw", copy)


def test_your_own_program_in_five_minutes(outputs: Path, copy: Path) -> None:
    shutil.copy(copy / "data" / "nsw.csv", copy / "data" / "my_table.csv")
    assert "Replace every TODO" in run(COMMANDS[2], copy)
    assert "found a TODO" in run(COMMANDS[3], copy, expect=2)
    path = copy / "params" / "my-program.yaml"
    text = path.read_text().replace("kind: observational", "kind: randomised")
    text = text.replace("TODO unit of one value", "dollars")
    path.write_text(re.sub(r"TODO[^\n\]]*", "written by a person", text))
    assert "my-program: ok" in run(COMMANDS[3], copy)
    assert "4 of 4 published" in run(COMMANDS[4], copy)
    assert (outputs / "my-program" / "program_brief" / "report.html").is_file()
    assert "my-program/program_brief/report.html" in (outputs / "index.html").read_text()
    path.unlink()


@pytest.mark.parametrize(
    "command", [".venv/bin/ldlab --help", ".venv/bin/ldlab check", ".venv/bin/ldlab schema"]
)
def test_plain_commands(copy: Path, command: str) -> None:
    assert run(command, copy)


def test_make_test_make_check_make_bench(copy: Path) -> None:
    assert "passed" in run('make test ARGS="-q tests/test_simulate.py"', copy)
    run("make check", copy)
    assert "ratio" in run('make bench ARGS="command-start --runs 2"', copy)
    assert "--fresh" in run('make calibrate ARGS="--help"', copy)


def test_make_data_rebuilds_the_same_tables(copy: Path) -> None:
    simulated = ("calibration.csv", "coverage_ab.csv", "coverage_did.csv")
    built = [path.name for path in (REPOSITORY / "data").glob("*.csv") if path.name not in simulated]
    for name in built:
        (copy / "data" / name).write_text("gone")
    run("make data", copy)
    for path in (REPOSITORY / "data" / name for name in built):
        assert (copy / "data" / path.name).read_bytes() == path.read_bytes()


@pytest.fixture
def lab(copy: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        ["make", "lab", "ARGS=--no-browser --port=0 --allow-root"],
        cwd=copy, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    yield process
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(30)


def test_make_lab_starts_in_the_project(lab: subprocess.Popen[str], copy: Path) -> None:
    assert lab.stdout is not None
    said, end = "", time.monotonic() + 90
    while "/lab?token=" not in said and time.monotonic() < end:
        said += lab.stdout.readline()
    assert "/lab?token=" in said
    assert f"Serving notebooks from local directory: {copy}" in said


def test_plain_papermill_behaves_the_same_from_any_folder(outputs: Path, copy: Path) -> None:
    command = re.search(r"`(papermill notebooks/ab_test.ipynb [^`]*)`", README)
    assert command is not None
    expected = (outputs / "nsw" / "ab_test" / "estimate.json").read_bytes()
    elsewhere = command.group(1).replace("outputs/nsw/ab_test", "outputs/plain/ab_test")
    run(f".venv/bin/{elsewhere}", copy)
    assert (outputs / "plain" / "ab_test" / "estimate.json").read_bytes() == expected
    shutil.rmtree(outputs / "plain")
    moved = elsewhere.replace("notebooks/ab_test.ipynb", "ab_test.ipynb")
    run(f"../.venv/bin/{moved}", copy / "notebooks")
    assert (outputs / "plain" / "ab_test" / "estimate.json").read_bytes() == expected


def test_papermill_with_a_program_alone_writes_to_that_programs_own_folder(outputs: Path, copy: Path) -> None:
    academy, michigan = (
        outputs / name / "diff_in_diff" / "estimate.json" for name in ("academy", "michigan")
    )
    before, expected = academy.read_bytes(), michigan.read_bytes()
    michigan.unlink()
    run(".venv/bin/papermill notebooks/diff_in_diff.ipynb out.ipynb -p program params/michigan.yaml", copy)
    assert michigan.read_bytes() == expected
    assert academy.read_bytes() == before
