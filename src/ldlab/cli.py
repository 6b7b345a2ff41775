"""The command ``ldlab``: run, status, open, check, schema, new."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ldlab import __version__

if TYPE_CHECKING:
    from ldlab.program import Program, Study
    from ldlab.program.experiment_sums import Experiment

BAD_INPUT = 2
SOME_FAILED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 fine, 1 a notebook failed, 2 bad input."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.do(options))
    except KeyboardInterrupt:
        print("ldlab: stopped; what was finished is kept, ldlab run goes on from there.", file=sys.stderr)
        return 130
    except Exception as error:
        return _refused(error)


def _refused(error: Exception) -> int:
    """Say what was wrong with the input; any other error is raised again."""
    from ldlab.program import InputError, LdlabError

    if isinstance(error, InputError):
        for fault in error.faults:
            print(fault, file=sys.stderr)
        count = len(error.faults)
        print(
            f"ldlab: {count} fault{'' if count == 1 else 's'}; nothing was run and nothing was changed.",
            file=sys.stderr,
        )
        return BAD_INPUT
    if isinstance(error, LdlabError):
        print(f"ldlab: {error}", file=sys.stderr)
        return BAD_INPUT
    raise error


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
    run.add_argument("--force", action="store_true", help="run also what is current")
    run.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS", help="kill a notebook that executes longer than this"
    )
    run.add_argument(
        "--cold",
        action="store_true",
        help="start every kernel afresh (default on Linux: forked, ready to go)",
    )
    run.add_argument(
        "--dask", metavar="ADDRESS", help="run on the Dask cluster of this scheduler, such as tcp://host:8786"
    )
    run.add_argument(
        "--upload", metavar="URL", help="copy finished folders there too (any URL that fsspec knows)"
    )
    run.set_defaults(do=_run)

    status = commands.add_parser(
        "status", help="show which results are current, stale, failed or not there yet"
    )
    status.add_argument(
        "programs", nargs="*", metavar="PROGRAM", help="id or file of a program (default: all)"
    )
    status.set_defaults(do=_status)

    opened = commands.add_parser(
        "open", help="copy a run to scratch/, to look into and change it in JupyterLab"
    )
    opened.add_argument("program", metavar="PROGRAM", help="id of a program, or 'portfolio'")
    opened.add_argument(
        "notebook", metavar="NOTEBOOK", nargs="?", default="portfolio", help="a notebook that was run for it"
    )
    opened.set_defaults(do=_open)

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


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"found '{text}', expected seconds above 0")
    return seconds


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


def _quick_root(options: argparse.Namespace) -> Path:
    """The project, found without importing what reads program files."""
    if options.project is None and not os.environ.get("LDLAB_PROJECT"):
        here = Path.cwd()
        for folder in (here, *here.parents):
            if (folder / "params").is_dir() and (folder / "notebooks").is_dir():
                return folder
    return _root(options)


def _checked_programs(options: argparse.Namespace) -> list[Study | Experiment | Program]:
    """All named programs with files and data checked; every fault of every one is raised together.

    A program that is only planned has no data yet, and stands for itself.
    """
    from ldlab.program import InputError, load_objectives
    from ldlab.program.reading import read_programs

    root = _root(options)
    programs, faults = read_programs(options.programs, root)
    try:
        load_objectives(root)
    except InputError as error:
        faults.extend(error.faults)
    studies: list[Study | Experiment | Program] = []
    for program in programs:
        try:
            if program.plan is not None:
                from ldlab.ab.expected import expect

                expect(program)
            studies.append(_as_notebooks_read_it(program))
        except InputError as error:
            faults.extend(error.faults)
    if faults:
        raise InputError(dict.fromkeys(faults))
    return studies


def _as_notebooks_read_it(program: Program) -> Study | Experiment | Program:
    """The data held against the contract of every notebook that will read them."""
    from ldlab.batch.jobs import PLAN, SCALE, reads_data
    from ldlab.data import load_experiment, load_study

    if not reads_data(program.notebooks):
        return program
    summed = load_experiment(program) if SCALE in program.notebooks else None
    if summed is not None and set(program.notebooks) <= {SCALE, PLAN}:
        return summed
    return load_study(program)


def _check(options: argparse.Namespace) -> int:
    from ldlab.program import Program
    from ldlab.program.experiment_sums import Experiment

    for study in _checked_programs(options):
        if isinstance(study, Program):
            print(f"{study.id}: ok; planned, no data read; {', '.join(study.notebooks)}")
            continue
        if isinstance(study, Experiment):
            print(_summed(study))
            continue
        program, n = study.program, study.count()
        arms = f"{n['treated']:,} trained" + (f", {n['comparison']:,} comparison" if n["comparison"] else "")
        missing = int(study.missing["without KPI"].sum())
        notes = [f"{missing:,} rows without KPI"] if missing else []
        notes += [f"{count:,} rows left out ({why})" for why, count in study.left_out]
        print(f"{program.id}: ok; {arms} {program.design.units}; {', '.join([*notes, *program.notebooks])}")
    return 0


def _summed(found: Experiment) -> str:
    """What was found in data that are read as sums."""
    program = found.program
    names = found.arms if program.design.treated_values else ("comparison", "trained")
    arms = ", ".join(f"{int(n):,} {arm}" for arm, n in zip(names, found.assigned, strict=True))
    notes = "".join(f"; {note}" for note in found.notes)
    return f"{program.id}: ok; {arms} {program.design.units}{notes}; {', '.join(program.notebooks)}"


def _run(options: argparse.Namespace) -> int:
    from ldlab.batch import run, shown

    def check(programs: Sequence[str]) -> None:
        _checked_programs(argparse.Namespace(**{**vars(options), "programs": programs}))

    with shown() as progress:
        summary = run(
            options.programs,
            notebooks=options.notebook,
            jobs=options.jobs,
            root=_quick_root(options),
            force=options.force,
            timeout=options.timeout,
            cold=options.cold,
            cluster=options.dask,
            check=check,
            progress=progress,
        )
    print(summary)
    if options.upload:
        from ldlab.batch import plan_of, send_all

        copied = send_all(plan_of(options.programs, root=_quick_root(options)), options.upload)
        print(f"{copied} finished folder{'' if copied == 1 else 's'} copied to {options.upload}")
    return 0 if summary.ok else SOME_FAILED


def _status(options: argparse.Namespace) -> int:
    from ldlab.batch import standings

    found = standings(options.programs, root=_quick_root(options))
    width = max(len(one.name) for one in found)
    for one in found:
        print(f"{one.name:<{width}}  {one.status:<9}  {one.why}".rstrip())
    return 0


def _open(options: argparse.Namespace) -> int:
    from ldlab.batch import open_run

    root = _root(options)
    copy = open_run(options.program, options.notebook, root=root)
    shown = copy.relative_to(Path.cwd()) if copy.is_relative_to(Path.cwd()) else copy
    print(
        f"{shown}: written. Run All gives the run's result again, beside the notebook.\nmake lab ARGS={shown}"
    )
    return 0


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
