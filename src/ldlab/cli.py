"""The command ``ldlab``: run, check, schema, new."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ldlab import __version__

if TYPE_CHECKING:
    from ldlab.program import Study

BAD_INPUT = 2
SOME_FAILED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 fine, 1 a notebook failed, 2 bad input."""
    options = _parser().parse_args(arguments)
    from ldlab.program import InputError, LdlabError

    try:
        return int(options.do(options))
    except InputError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        count = len(error.faults)
        print(
            f"ldlab: {count} fault{'' if count == 1 else 's'}; nothing was run and nothing was changed.",
            file=sys.stderr,
        )
        return BAD_INPUT
    except LdlabError as error:
        print(f"ldlab: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("ldlab: stopped; earlier outputs are untouched.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ldlab",
        description="Estimate what a training program did to the KPI that the business agreed on.",
    )
    parser.add_argument("--version", action="version", version=f"ldlab {__version__}")
    parser.add_argument("--project", type=Path, help="the project folder (default: found from here upwards)")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run programs through their notebooks, and write the pages")
    run.add_argument("programs", nargs="*", metavar="PROGRAM", help="id or file of a program (default: all)")
    run.add_argument(
        "--jobs", type=_positive, metavar="N", help="notebooks at the same time (default: one a core)"
    )
    run.add_argument(
        "--notebook", action="append", metavar="NAME", help="only this notebook (may be repeated)"
    )
    run.set_defaults(do=_run)

    check = commands.add_parser("check", help="check program files and their data, without running anything")
    check.add_argument(
        "programs", nargs="*", metavar="PROGRAM", help="id or file of a program (default: all)"
    )
    check.set_defaults(do=_check)

    schema = commands.add_parser("schema", help="write the JSON Schema of a program file")
    schema.set_defaults(do=_schema)

    new = commands.add_parser("new", help="write a commented program file for a table")
    new.add_argument("name", metavar="NAME", help="the new program's id")
    new.add_argument(
        "--data", required=True, metavar="FILE", help="the table: CSV, TSV, Parquet or JSON lines"
    )
    new.set_defaults(do=_new)
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found '{text}', expected a whole number from 1 up")
    return int(text)


def _root(options: argparse.Namespace) -> Path:
    from ldlab.program import Fault, InputError, project_root

    if options.project is None:
        return project_root()
    root = options.project.resolve()
    if not (root / "params").is_dir():
        raise InputError(
            [Fault("command", None, "--project", f"'{options.project}'", "a folder that holds params/")]
        )
    return root


def _checked_programs(options: argparse.Namespace) -> list[Study]:
    """All named programs with files and data checked; every fault of every one is raised together."""
    from ldlab.data import load_study
    from ldlab.program import InputError, load_objectives
    from ldlab.program.reading import read_programs

    root = _root(options)
    programs, faults = read_programs(options.programs, root)
    try:
        load_objectives(root)
    except InputError as error:
        faults.extend(error.faults)
    studies = []
    for program in programs:
        try:
            studies.append(load_study(program))
        except InputError as error:
            faults.extend(error.faults)
    if faults:
        raise InputError(dict.fromkeys(faults))
    return studies


def _check(options: argparse.Namespace) -> int:
    for study in _checked_programs(options):
        program, n = study.program, study.count()
        arms = f"{n['treated']:,} trained" + (f", {n['comparison']:,} comparison" if n["comparison"] else "")
        missing = int(study.missing["without KPI"].sum())
        notes = [f"{missing:,} rows without KPI"] if missing else []
        notes += [f"{count:,} rows left out ({why})" for why, count in study.left_out]
        print(f"{program.id}: ok; {arms} {program.design.units}; {', '.join([*notes, *program.notebooks])}")
    return 0


def _run(options: argparse.Namespace) -> int:
    from ldlab.batch import run, shown
    from ldlab.data import identifiers

    programs = [study.program for study in _checked_programs(options)]
    with shown() as progress:
        summary = run(
            programs,
            ids_of=identifiers,
            notebooks=options.notebook,
            jobs=options.jobs,
            root=_root(options),
            progress=progress,
        )
    print(summary)
    return 0 if summary.ok else SOME_FAILED


def _schema(options: argparse.Namespace) -> int:
    from ldlab.program import json_schema
    from ldlab.program.reading import to_json

    print(to_json(json_schema()), end="")
    return 0


def _new(options: argparse.Namespace) -> int:
    import datetime as dt
    import re

    from ldlab.data.draft import draft_program
    from ldlab.data.read import read_files
    from ldlab.program import Fault, InputError
    from ldlab.program.sections import PROGRAM_ID, RESERVED_IDS

    root = _root(options)
    if not re.match(PROGRAM_ID, options.name):
        raise InputError(
            [
                Fault(
                    "command",
                    None,
                    "NAME",
                    f"'{options.name}'",
                    "lower-case letters, digits, - and _, no dots or slashes",
                )
            ]
        )
    if options.name in RESERVED_IDS:
        raise InputError(
            [Fault("command", None, "NAME", f"'{options.name}'", "a name that ldlab does not use itself")]
        )
    target = root / "params" / f"{options.name}.yaml"
    if target.exists():
        raise InputError([Fault(f"params/{target.name}", None, "file", "a file of that name", "a new name")])
    given = Path(options.data)
    path = given.resolve() if given.exists() else root / given
    source = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
    frame = read_files(source, root)
    target.parent.mkdir(exist_ok=True)
    target.write_text(
        draft_program(options.name, source, frame, dt.date.today().isoformat()), encoding="utf-8"
    )
    print(f"params/{target.name}: written. Replace every TODO, then: ldlab check {options.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
