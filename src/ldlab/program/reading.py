"""YAML -> Program: strict reading, with every fault of every file reported at once."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ldlab.program.faults import Fault, InputError, did_you_mean, shorten
from ldlab.program.model import Objectives, Program
from ldlab.program.sections import PROGRAM_ID
from ldlab.program.strict_yaml import Document, Where, dotted, parse_yaml

OBJECTIVES_FILE = "objectives.yaml"
PROJECT_VARIABLE = "LDLAB_PROJECT"


def project_root(start: Path | None = None) -> Path:
    """The project folder: the nearest one above ``start`` that holds ``params/`` and ``notebooks/``.

    The environment variable LDLAB_PROJECT overrides the search.

    Raises
    ------
    InputError
        If no folder above ``start`` is a project.
    """
    if os.environ.get(PROJECT_VARIABLE):
        return Path(os.environ[PROJECT_VARIABLE]).resolve()
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "params").is_dir() and (folder / "notebooks").is_dir():
            return folder
    raise InputError(
        [
            Fault(
                "this folder",
                None,
                "project",
                "no params/ and notebooks/ here or above",
                "a project folder",
                "Change into the project, or give --project FOLDER.",
            )
        ]
    )


def _section_schema(model: type[BaseModel], where: Where) -> dict[str, Any]:
    """The JSON Schema of the section at ``where``."""
    schema = model.model_json_schema()
    here: Any = schema
    for part in where:
        here = _resolve(here, schema)
        here = here.get("items", {}) if isinstance(part, int) else here.get("properties", {}).get(part, {})
    return _resolve(here, schema)


def _resolve(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    for option in node.get("anyOf", []):
        if "$ref" in option:
            node = option
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return node


def _fault(error: Any, model: type[BaseModel], document: Document, file: str) -> Fault:
    where: Where = tuple(part for part in error["loc"] if not _is_union_arm(part))
    if error["type"] == "ldlab":
        where = (*where, *error["ctx"]["at"])
    line, field = document.line(where), dotted(where)
    if error["type"] == "extra_forbidden":
        known = list(_section_schema(model, where[:-1]).get("properties", {}))
        return Fault(
            file,
            line,
            field,
            f"the unknown key '{where[-1]}'",
            "a key of the program file",
            did_you_mean(str(where[-1]), known),
        )
    if error["type"] == "missing":
        told = (
            _section_schema(model, where[:-1]).get("properties", {}).get(where[-1], {}).get("description", "")
        )
        return Fault(file, line, field, "nothing", told.rstrip(".") or f"{where[-1]}: (it is required)")
    if error["type"] == "ldlab":
        found = error["ctx"].get("found")
        told = shorten(found) if found is not None else _written(document, where)
        return Fault(file, line, field, told, error["ctx"]["expected"])
    if field in ("kpi", "kpi.column") and isinstance(error["input"], list):
        advice = "A program file has one KPI, the one agreed; write one more file for each other KPI."
        return Fault(file, line, field, f"a list of {len(error['input'])}", "one KPI", advice)
    hint = ""
    if error["type"] == "literal_error":
        options = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        hint = did_you_mean(str(error["input"]), options)
    expected = re.sub("^(Input should be|Value error,|String should have) ", "", error["msg"])
    if error["type"].startswith("date"):
        expected, hint = "a date as YYYY-MM-DD", ""
    if error["type"] in ("greater_than", "greater_than_equal") and field.endswith("minimum_group_size"):
        hint = "Smaller groups can identify people."
    given = error["input"]
    found = (
        "a section"
        if isinstance(given, dict)
        else f"a list of {len(given)}"
        if isinstance(given, list)
        else shorten(given)
    )
    return Fault(file, line, field, found, expected, hint)


def _is_union_arm(part: str | int) -> bool:
    """Pydantic puts the arm of a union ('date', 'int', 'function-after...') into the location."""
    names = ("date", "int", "str", "bool", "float", "constrained-int", "constrained-str")
    return isinstance(part, str) and (part in names or "[" in part)


def _written(document: Document, where: Where) -> str:
    """What stands at a place of the file, for a message."""
    value: Any = document.value
    for part in where:
        inside = isinstance(value, dict) or (isinstance(value, list) and isinstance(part, int))
        value = (dict(enumerate(value)) if isinstance(value, list) else value).get(part) if inside else None
    if value is None:
        return "nothing"
    return "something else" if isinstance(value, dict) else shorten(_listed(value))


def _listed(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _faults(error: ValidationError, model: type[BaseModel], document: Document, file: str) -> list[Fault]:
    """One fault for each place; the arms of a union are alternatives."""
    seen: dict[tuple[int | None, str], list[Fault]] = {}
    for entry in error.errors():
        fault = _fault(entry, model, document, file)
        seen.setdefault((fault.line, fault.field), []).append(fault)
    faults = [replace(same[0], expected=_alternatives(same)) for same in seen.values()]
    return sorted(faults, key=lambda fault: fault.line or 0)


def _alternatives(faults: Sequence[Fault]) -> str:
    return " or ".join(dict.fromkeys(fault.expected for fault in faults))


def _shown(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _read_document(path: Path, shown: str) -> Document:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        others = [p.name for p in sorted(path.parent.glob("*.y*ml"))] if path.parent.is_dir() else []
        raise InputError(
            [Fault(shown, None, "file", "no such file", "a program file", did_you_mean(path.name, others))]
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            [Fault(shown, None, "file", type(error).__name__, "a readable UTF-8 text file")]
        ) from None
    document = parse_yaml(text, shown)
    if not isinstance(document.value, dict):
        raise InputError(
            [Fault(shown, 1, "file", "no keys", "a program file (see params/program.schema.json)")]
        )
    return document


def resolve_program(program: str | Path, root: Path | None = None) -> Path:
    """Path of a program file, given its path (from here or from the project) or its id."""
    given = Path(program)
    if given.suffix not in (".yaml", ".yml") and not re.match(PROGRAM_ID, str(program)):
        raise InputError(
            [
                Fault(
                    "command",
                    None,
                    "PROGRAM",
                    shorten(str(program)),
                    "a program's id, or the path of its .yaml file",
                )
            ]
        )
    root = root or (project_root(given.parent) if given.is_absolute() and given.exists() else project_root())
    if given.suffix in (".yaml", ".yml"):
        return given.resolve() if given.is_file() else (root / given).resolve()
    return root / "params" / f"{given}.yaml"


def load_program(program: str | Path, root: Path | None = None) -> Program:
    """Read and check one program file.

    Parameters
    ----------
    program
        Path of the file, absolute or relative to the project folder, or a program's id.
    root
        The project folder; found from the working folder if not given.

    Raises
    ------
    InputError
        With every fault: file, line, field, what was found, what was expected.
    """
    path = resolve_program(program, root)
    root = root or project_root(path.parent if path.parent.name == "params" else None)
    shown = _shown(path, root)
    document = _read_document(path, shown)
    value = dict(document.value)
    value.setdefault("id", path.stem)
    todo = _left_to_write(document, shown)
    try:
        parsed = Program.model_validate(value)
    except ValidationError as error:
        left = {fault.field for fault in todo}
        others = [fault for fault in _faults(error, Program, document, shown) if fault.field not in left]
        raise InputError(sorted([*todo, *others], key=lambda fault: fault.line or 0)) from None
    if todo:
        raise InputError(todo)
    parsed._root, parsed._file = root, shown
    parsed._sha256 = hashlib.sha256(parsed.model_dump_json().encode()).hexdigest()
    unknown = _unknown_objective(parsed, root, document, shown)
    if unknown:
        raise InputError([unknown])
    return parsed


def _left_to_write(document: Document, shown: str) -> list[Fault]:
    """The fields of a new file in which nothing but a TODO stands."""

    def walk(value: Any, where: Where) -> Iterable[Where]:
        if isinstance(value, dict):
            for key, item in value.items():
                yield from walk(item, (*where, key))
        elif isinstance(value, list):
            for i, item in enumerate(value):
                yield from walk(item, (*where, i))
        elif isinstance(value, str) and value.startswith("TODO"):
            yield where

    places = walk(document.value, ())
    return [Fault(shown, document.line(w), dotted(w), "a TODO", "what only you can say") for w in places]


def load_objectives(root: Path) -> Objectives | None:
    """The register of objectives, ``params/objectives.yaml``, or None where there is none."""
    path = root / "params" / OBJECTIVES_FILE
    if not path.is_file():
        return None
    document = _read_document(path, _shown(path, root))
    try:
        return Objectives.model_validate(document.value)
    except ValidationError as error:
        raise InputError(_faults(error, Objectives, document, _shown(path, root))) from None


def _unknown_objective(program: Program, root: Path, document: Document, shown: str) -> Fault | None:
    register = load_objectives(root)
    if program.objective.id is None:
        return None
    known = [objective.id for objective in register.objectives] if register else []
    if program.objective.id in known:
        return None
    return Fault(
        shown,
        document.line(("objective", "id")),
        "objective.id",
        shorten(program.objective.id),
        f"an id from params/{OBJECTIVES_FILE}",
        did_you_mean(program.objective.id, known),
    )


def program_files(root: Path) -> list[Path]:
    """Every program file of the project, sorted."""
    files = [p for p in (root / "params").iterdir() if p.suffix in (".yaml", ".yml")]
    return sorted(p for p in files if p.name != OBJECTIVES_FILE)


def load_programs(programs: Sequence[str | Path] = (), root: Path | None = None) -> list[Program]:
    """Read several program files (all of the project's, if none is named), reporting all faults of all.

    Raises
    ------
    InputError
        With the faults of every file; two programs with one id are a fault.
    """
    loaded, faults = read_programs(programs, root or project_root())
    if faults:
        raise InputError(faults)
    return loaded


def read_programs(programs: Sequence[str | Path], root: Path) -> tuple[list[Program], list[Fault]]:
    """The programs that could be read (all of the project's, if none is named), and the faults of the others.

    Raises
    ------
    InputError
        If there is no program file, or a name can be none.
    """
    paths = [resolve_program(p, root) for p in programs] if programs else program_files(root)
    if not paths:
        raise InputError(
            [
                Fault(
                    "params/",
                    None,
                    "folder",
                    "no program file",
                    "at least one *.yaml",
                    "Write one with: ldlab new NAME --data FILE",
                )
            ]
        )
    faults: list[Fault] = []
    loaded: dict[str, tuple[Program, Path]] = {}
    for path in dict.fromkeys(paths):
        try:
            program = load_program(path, root)
        except InputError as error:
            faults.extend(error.faults)
            continue
        if program.id in loaded:
            first = _shown(loaded[program.id][1], root)
            faults.append(
                Fault(
                    _shown(path, root),
                    None,
                    "id",
                    shorten(program.id),
                    f"an id of its own; {first} has it too",
                )
            )
        loaded[program.id] = (program, path)
    if programs and not faults:
        faults.extend(_id_clashes(loaded, root))
    return [program for program, _ in loaded.values()], faults


def _id_clashes(loaded: dict[str, tuple[Program, Path]], root: Path) -> list[Fault]:
    """A named program whose id another, unnamed file of the project has too."""
    named = {path for _, path in loaded.values()}
    faults = []
    for path in program_files(root):
        if path.resolve() in {p.resolve() for p in named}:
            continue
        try:
            other = load_program(path, root).id
        except InputError:
            continue
        if other in loaded:
            faults.append(
                Fault(
                    _shown(path, root),
                    None,
                    "id",
                    shorten(other),
                    "an id of its own",
                    f"{_shown(loaded[other][1], root)} has it too.",
                )
            )
    return faults


def iso(value: dt.date | int | None) -> str | int | None:
    """A period as it is written: ISO for dates."""
    return value.isoformat() if isinstance(value, dt.date) else value


def to_json(value: object) -> str:
    """JSON with sorted keys, two-space indent and a final newline: one serial form, stable from run to run."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
