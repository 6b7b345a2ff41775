"""The door check: may papermill run this notebook, and will it report the program that it was given?

papermill only warns about an unknown parameter or a missing ``parameters`` tag, and then reports the default
program. Both are refused here, before the first kernel starts.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ldlab.program import Fault

PARAMETERS = ("output_dir", "program")
TAG = "parameters"
INJECTED_TAG = "injected-parameters"
_EXPECTED = 'program = "params/..." and output_dir = "outputs/...", two plain texts and nothing else'


def tags(cell: Mapping[str, Any]) -> list[str]:
    """The cell's tags."""
    return list(cell.get("metadata", {}).get("tags", []))


def _source(cell: Mapping[str, Any]) -> str:
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def check_doors(*paths: Path, root: Path | None = None) -> None:
    """Refuse notebooks that papermill would run for the wrong program.

    A notebook has exactly one code cell tagged ``parameters``, which assigns exactly ``program`` and
    ``output_dir``, each a plain text; no other cell sets them to a fixed text.

    Raises
    ------
    InputError
        With every fault of every notebook: the file, what was found, what was expected.
    """
    faults = [fault for path in paths for fault in _faults(path, _shown(path, root))]
    if faults:
        from ldlab.program import InputError

        raise InputError(faults)


def _shown(path: Path, root: Path | None) -> str:
    return path.relative_to(root).as_posix() if root and path.is_relative_to(root) else path.name


def _faults(path: Path, shown: str) -> list[Fault]:
    """The faults of one notebook."""
    return [_fault(shown, *found) for found in _found(path)]


def _fault(shown: str, field: str, found: str, expected: str, hint: str = "") -> Fault:
    from ldlab.program import Fault

    return Fault(shown, None, field, found, expected, hint)


def _found(path: Path) -> list[tuple[str, ...]]:
    """What is wrong with a notebook: field, found, expected, hint."""
    # Read as JSON: nbformat takes longer to import than all notebooks to check.
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
    except FileNotFoundError:
        return [("notebook", "no such file", "a notebook")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [("notebook", f"a file that cannot be read ({type(error).__name__})", "a notebook")]
    tagged = [cell for cell in code if TAG in tags(cell)]
    if len(tagged) != 1:
        found = "no code cell" if not tagged else f"{len(tagged)} code cells"
        hint = "Without it papermill reports the notebook's default program." if not tagged else ""
        return [("parameters", f"{found} tagged '{TAG}'", f"one code cell tagged '{TAG}'", hint)]
    wrong: list[tuple[str, ...]] = [("parameters", found, _EXPECTED) for found in _wrong(_source(tagged[0]))]
    for number, cell in enumerate(code, start=1):
        again = sorted(set(PARAMETERS) & _overruled(_source(cell))) if TAG not in tags(cell) else []
        if again and INJECTED_TAG not in tags(cell):
            said = f"{' and '.join(again)} set to a fixed text again"
            wrong.append((f"code cell {number}", said, "the parameters assigned in the parameters cell only"))
    return wrong


def _wrong(source: str) -> Iterable[str]:
    """What is wrong with a parameters cell."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        yield "code that Python cannot parse"
        return
    names: list[str] = []
    for statement in body:
        target = _target(statement)
        if target is None:
            yield f"a statement that is not an assignment of one name (line {statement.lineno})"
            continue
        name, value = target
        names.append(name)
        if not (isinstance(value, ast.Constant) and isinstance(value.value, str)):
            yield f"{name} assigned something else than a plain text"
    if sorted(names) != sorted(PARAMETERS):
        yield f"the names {', '.join(names)}" if names else "no names"


def _target(statement: ast.stmt) -> tuple[str, ast.expr | None] | None:
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
    elif isinstance(statement, ast.AnnAssign):
        target = statement.target
    else:
        return None
    return (target.id, statement.value) if isinstance(target, ast.Name) else None


def _overruled(source: str) -> set[str]:
    """Names that a cell sets to a fixed text; cells with magics are IPython's, and skipped."""
    try:
        targets = [_target(statement) for statement in ast.parse(source).body]
    except SyntaxError:
        return set()
    return {
        name for target in targets if target for name, value in [target] if isinstance(value, ast.Constant)
    }
