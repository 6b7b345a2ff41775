"""The house: rooms import one way, notebooks keep their form, nothing of this machine is committed."""

from __future__ import annotations

import ast
import itertools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.projects import REPOSITORY

SOURCE = REPOSITORY / "src" / "ldlab"
MAY_IMPORT = {
    "program": set(),
    "estimate": set(),
    "disclosure": set(),
    "data": {"program"},
    "simulate": {"program"},
    "ab": {"program", "estimate"},
    "did": {"program", "estimate"},
    "bayes": {"program", "estimate"},
    "checks": {"program", "estimate"},
    "money": {"program", "estimate"},
    "observational": {"program", "estimate"},
    "plots": {"program", "estimate"},
    "report": {"program", "estimate"},
    # The gate stands between an executed notebook and the outputs folder, and needs the ids in the data; whether a
    # result is current follows from the rows that a program's query returns; "In short" reads an estimate.
    "batch": {"program", "estimate", "report", "disclosure", "data"},
}
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
FILES = [REPOSITORY / name for name in subprocess.run(
    ["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True
).stdout.splitlines()]  # fmt: skip


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            modules |= {node.module} | {
                f"{node.module}.{alias.name}" for alias in node.names if node.module == "ldlab"
            }
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path.name}: relative import"
    return {module.split(".")[1] for module in modules if module.startswith("ldlab.")}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: p.relative_to(SOURCE).as_posix())
def test_rooms_import_one_way(path: Path) -> None:
    room = room_of(path)
    if room in ("cli", "__init__"):
        return
    assert imported_rooms(path) - {room, "__version__"} <= MAY_IMPORT[room]


def cells_of(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["cells"]


def source_of(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_keep_their_form(path: Path) -> None:
    cells = cells_of(path)
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    headings = [
        line
        for c in cells
        if c["cell_type"] == "markdown"
        for line in source_of(c).splitlines()
        if line.startswith("# ")
    ]
    assert len(headings) == 1 and headings[0].endswith("?")
    assert code[0]["metadata"].get("tags") == ["parameters"]
    names = [target.id for node in ast.parse(source_of(code[0])).body for target in node.targets]  # type: ignore[attr-defined]
    assert names == ["program", "output_dir"]
    assert source_of(code[1]) == "import ldlab"
    assert "ldlab.report.save(" in source_of(code[-1])
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert all(cell.get("id") for cell in cells)
    for cell in code:
        assert len(source_of(cell).splitlines()) <= 12
        assert not re.search(
            r"^\s*(def|class|import (?!ldlab$)|from|for|if|while|try)\b", source_of(cell), re.M
        )
    pairs = [(a, b) for a, b in itertools.pairwise(cells) if a["cell_type"] == b["cell_type"] == "code"]
    assert pairs == [(code[0], code[1])], "prose before every code cell"


def test_all_notebooks_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS] == [
        "ab_at_scale",
        "ab_test",
        "bayes_impact",
        "diff_in_diff",
        "plan",
        "portfolio",
        "program_brief",
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(REPOSITORY).as_posix())
def test_no_registry_host_and_no_path_of_a_machine(path: Path) -> None:
    if path.suffix in (".png", ".parquet") or not path.is_file():
        return
    text = path.read_text(encoding="utf-8")
    hosts = ["pythonhosted" + ".org", "//pypi" + ".org", "registry" + ".npmjs", "deb" + ".debian"]
    assert not [host for host in hosts if host in text]
    assert not [path for path in (f"{REPOSITORY}/", f"{Path.home()}/") if path in text and path != "//"]


def test_the_top_level_is_the_agreed_one() -> None:
    agreed = {"pyproject.toml", "notebooks", "src", "data", "params", "outputs", "tests", "README.md", "Makefile", "LICENSE",
              "requirements.lock", ".ci", ".gitignore", ".gitattributes", ".python-version"}  # fmt: skip
    assert {path.relative_to(REPOSITORY).parts[0] for path in FILES} <= agreed
