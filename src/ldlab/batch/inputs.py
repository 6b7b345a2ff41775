"""What a result follows from, as hashes: notebook, program, data, other results, package, environment.

Nothing heavy is imported here: where nothing changed, hashing files is all that a run does.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ldlab.batch.jobs import BRIEF, PLAN, PORTFOLIO, Job, reads_data
from ldlab.batch.record import CHANGED

PACKAGE = Path(__file__).parents[1]
# What briefs read of the analyses, and the portfolio of the briefs.
READ_BY_BRIEF = ("estimate.json", "draws.json", "plan.json")
READ_BY_PORTFOLIO = ("brief.json",)


@dataclass(frozen=True)
class Known:
    """What a batch knows of a program without parsing its file again."""

    id: str
    file: str
    sha256: str
    notebooks: tuple[str, ...]
    source: str | None
    value_type: str
    design: str = ""
    covariates: int = 0
    other_value_types: tuple[str, ...] = ()


def sha256_of(*parts: str | bytes) -> str:
    """One hash of several parts, in their order."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()


@lru_cache(maxsize=4096)
def _file_digest(path: str, size: int, changed: int, inode: int) -> bytes:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def file_digest(path: Path) -> bytes:
    """The sha256 of a file's bytes, remembered in this process while size and times stay the same."""
    seen = path.stat()
    return _file_digest(str(path), seen.st_size, seen.st_mtime_ns, seen.st_ino)


def data_sha256(source: str, root: Path) -> str:
    """The same hash that :func:`ldlab.data.read_table` gives for a source; empty if no file is there."""
    base = Path(source)
    folder, pattern = (
        (Path(base.anchor), str(base.relative_to(base.anchor))) if base.is_absolute() else (root, source)
    )
    files = sorted(file for file in folder.glob(pattern) if file.is_file())
    return hashlib.sha256(b"".join(file_digest(file) for file in files)).hexdigest() if files else ""


def _rows_sha256(program_file: str, root: Path) -> str:
    """Hash of the rows that a program's query returns; empty if it fails."""
    from ldlab.data import read_table
    from ldlab.program import InputError, load_program

    try:
        return read_table(load_program(root / program_file, root))[1]
    except InputError:
        return ""


def notebook_sha256(path: Path) -> str:
    """Hash of what the cells say and how they are tagged; outputs and other metadata do not count."""
    try:
        cells = json.loads(path.read_bytes())["cells"]
        said = [[c["cell_type"], "".join(c["source"]), c.get("metadata", {}).get("tags", [])] for c in cells]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return sha256_of(json.dumps(said))


@lru_cache
def package_sha256() -> str:
    """Hash of the package's source: Python, templates, kernelspecs."""
    files = sorted(p for p in PACKAGE.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return sha256_of(*(part for p in files for part in (p.relative_to(PACKAGE).as_posix(), p.read_bytes())))


def environment_sha256(root: Path) -> str:
    """Hash of the lock file (where there is none, of the installed packages), and of Python's version."""
    lock, python = root / "requirements.lock", f"{sys.version_info.major}.{sys.version_info.minor}"
    if lock.is_file():
        return sha256_of(python, file_digest(lock))
    return sha256_of(python, *_installed())


@lru_cache
def _installed() -> tuple[str, ...]:
    """Names and versions of the installed packages, read once a process."""
    from importlib.metadata import distributions

    # The environment's own folders, not sys.path: libraries add folders of vendored packages to it when imported.
    folders = sorted({sysconfig.get_path(name) for name in ("purelib", "platlib")})
    return tuple(sorted({f"{d.name}=={d.version}" for d in distributions(path=folders)}))


class Inputs:
    """The inputs of jobs, each file hashed once.

    Parameters
    ----------
    programs
        All programs of the project.
    root
        The project folder.
    """

    def __init__(self, programs: Iterable[Known], root: Path) -> None:
        self.programs = {program.id: program for program in programs}
        self.root = root
        self._notebooks: dict[str, str] = {}
        self._shared = {"package": package_sha256(), "environment": environment_sha256(root)}
        self._data: dict[str, str] = {}

    def of(self, job: Job) -> dict[str, str]:
        """Hashes by name: notebook, program or programs, data or results, package, environment."""
        return {"notebook": self._notebook(job.notebook), **self._own(job), **self._shared}

    def _own(self, job: Job) -> dict[str, str]:
        if job.notebook == PORTFOLIO:
            register = self.root / "params" / "objectives.yaml"
            said = register.read_bytes() if register.is_file() else b""
            programs = sha256_of(*(f"{p.id} {p.sha256}" for p in self._in_order()), said)
            return {"programs": programs, "results": self._briefs(job)}
        program = self.programs[job.program]
        own = {"program": program.sha256}
        if job.notebook != PLAN and reads_data(program.notebooks):
            own["data"] = self._data_of(program)
        return own | {"results": _results(job)} if job.notebook == BRIEF else own

    def _in_order(self) -> list[Known]:
        return sorted(self.programs.values(), key=lambda program: program.id)

    def _notebook(self, name: str) -> str:
        if name not in self._notebooks:
            self._notebooks[name] = notebook_sha256(self.root / "notebooks" / f"{name}.ipynb")
        return self._notebooks[name]

    def _data_of(self, program: Known) -> str:
        if program.id not in self._data:
            source = program.source
            found = (
                _rows_sha256(program.file, self.root) if source is None else data_sha256(source, self.root)
            )
            self._data[program.id] = found
        return self._data[program.id]

    def _briefs(self, job: Job) -> str:
        parts: list[bytes] = []
        for program in self._in_order():
            folder = job.outputs / program.id
            parts += _parts(folder / BRIEF, READ_BY_PORTFOLIO)
            for name in (*program.notebooks, BRIEF):
                parts += _parts(folder / f"{name}.failed", ("error.json",))
        return sha256_of(*parts)


def _results(job: Job) -> str:
    parts: list[bytes] = []
    for name in job.analyses:
        parts += _parts(job.outputs / job.program / name, READ_BY_BRIEF)
    return sha256_of(*parts)


def _parts(folder: Path, names: Iterable[str]) -> list[bytes]:
    return [_bytes(f"{folder}/{name}") for name in names]


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError:
        return b""


def settled(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """The inputs of a result: those that changed while it was made say so, and are never current."""
    return {name: value if after.get(name) == value else CHANGED for name, value in before.items()}


def differing(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names of the inputs that are not what they were."""
    return [name for name in now if not now[name] or then.get(name) != now[name]]


def known_programs(root: Path, cache: Path) -> list[Known]:
    """Every program of the project. Only files whose bytes changed are parsed.

    Parameters
    ----------
    cache
        Where what the files say is kept from run to run; it holds for this version of the package only.

    Raises
    ------
    InputError
        With every fault of every file.
    """
    folder = root / "params"
    files = sorted(
        p for p in folder.iterdir() if p.suffix in (".yaml", ".yml") and p.name != "objectives.yaml"
    )
    register = folder / "objectives.yaml"
    version = sha256_of(package_sha256(), register.read_bytes() if register.is_file() else b"")
    seen = {path.name: file_digest(path).hex() for path in files}
    kept = _kept(cache, version)
    if seen and seen == {name: entry["bytes"] for name, entry in kept.items()}:
        return [_known(entry["known"]) for entry in kept.values()]
    known = {Path(one.file).name: one for one in _parsed(root)}
    value = {"version": version, "programs": {n: {"bytes": seen[n], "known": asdict(known[n])} for n in seen}}
    _write(cache, json.dumps(value))
    return list(known.values())


def _known(entry: dict[str, Any]) -> Known:
    listed = ("notebooks", "other_value_types")
    return Known(**{**entry, **{name: tuple(entry[name]) for name in listed}})


def _kept(cache: Path, version: str) -> dict[str, dict[str, Any]]:
    try:
        value = json.loads(cache.read_bytes())
        return dict(value["programs"]) if value["version"] == version else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _write(cache: Path, text: str) -> None:
    """Keep the cache if outputs are there already; a cache that cannot be kept is done without."""
    temporary = cache.with_name(f"{cache.name}.{os.getpid()}")
    with suppress(OSError):
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(cache)


def _parsed(root: Path) -> list[Known]:
    from ldlab.program import load_programs

    return [
        Known(
            p.id,
            p.file,
            p.sha256,
            p.notebooks,
            p.data.source,
            p.kpi.value_type,
            p.design.kind,
            len(p.design.columns.covariates) + 2 * (p.kpi.before_column is not None),
            tuple(sorted({kpi.value_type for kpi in (*p.secondary_kpis, *p.guard_rails)})),
        )
        for p in load_programs(root=root)
    ]


def select(known: Sequence[Known], programs: Sequence[str] | None) -> list[Known]:
    """The programs of these ids or files; all, if none is named.

    Raises
    ------
    InputError
        If there is no such program.
    """
    if not programs:
        return list(known)
    by_name = {name: one for one in known for name in (one.id, one.file, Path(one.file).name)}
    unknown = [name for name in programs if str(name) not in by_name]
    if unknown:
        from ldlab.program import Fault, InputError, did_you_mean

        raise InputError(
            Fault(
                "command",
                None,
                "PROGRAM",
                f"'{name}'",
                "a program of params/",
                did_you_mean(str(name), list(by_name)),
            )
            for name in unknown
        )
    return list(dict.fromkeys(by_name[str(name)] for name in programs))
