"""Files -> raw table: DuckDB reads CSV, TSV, Parquet and JSON lines, globs of them, or a SELECT over them."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from ldlab.program import Fault, InputError, Program, did_you_mean

READERS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
}


@cache
def _connection(process: int) -> duckdb.DuckDBPyConnection:
    """One database in memory for this process, because to open one takes a tenth of a second; never a forked one."""
    return duckdb.connect()


def source_name(program: Program) -> str:
    """What a message calls the data: the program file, and the source or query that it gives."""
    return f"{program.file or program.id} ({program.data.source or 'data.query'})"


def read_table(program: Program) -> tuple[pd.DataFrame, str]:
    """Read a program's data as they are.

    Returns
    -------
    frame
        The raw table; column names and types as DuckDB reads them.
    sha256
        Hash of the files' bytes in sorted order (source), or of the rows returned (query).

    Raises
    ------
    InputError
        If a file is missing, empty or unreadable, or the query is not one SELECT.
    """
    if program.data.query is not None:
        frame = _run_query(program.data.query, program.root, source_name(program))
        return frame, _frame_sha256(frame)
    source = str(program.data.source)
    name = source_name(program)
    frame = read_files(source, program.root, program.data.missing_values, name=name)
    return frame, files_sha256(_files(source, program.root, name))


def read_files(
    source: str, root: Path, missing_values: tuple[str, ...] = (), *, name: str = ""
) -> pd.DataFrame:
    """Read a file or a glob of files, relative to ``root``.

    Raises
    ------
    InputError
        If no file is there, one is empty, or they cannot be read.
    """
    name = name or source
    files = _files(source, root, name)
    sql, values = _reading(files, missing_values, name)
    with _connection(os.getpid()).cursor() as connection:
        try:
            frame = _frame(connection.execute(sql, values))
        except duckdb.Error as error:
            raise _unreadable(error, files[0], root, name) from None
    if _reader(files[0]) == "csv":
        _refuse_repeated_columns(files[0], frame, name)
    return frame


def _frame(result: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """The rows; DuckDB hands times with a zone to pandas in a way that pandas warns of, and will drop."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The inplace keyword")
        return result.df()


def select(program: Program, what: str, rest: str = "") -> pd.DataFrame:
    """A SELECT from a program's data; ``rest`` follows the FROM clause. Only its result comes into memory.

    Raises
    ------
    InputError
        As :func:`read_table`; also if a column is not there.
    """
    name, root = source_name(program), program.root
    values: dict[str, Any] = {}
    with duckdb.connect() as connection:
        try:
            if program.data.query is not None:
                data = _one_select(program.data.query, root, name, connection)
            else:
                files = _files(str(program.data.source), root, name)
                data, values = _reading(files, program.data.missing_values, name)
            return _frame(connection.execute(f"SELECT {what} FROM (\n{data}\n) {rest}", values))
        except duckdb.Error as error:
            raise _fault(name, first_line(error, root), "a table with the program file's columns") from None


def parquet_files(
    program: Program, connection: duckdb.DuckDBPyConnection, folder: Path
) -> tuple[list[Path], list[Path]]:
    """A program's data as Parquet files that DuckDB can read again and again, and the files that the program names.

    Parquet files are taken as they are; CSV, JSON lines and what a query returns are written to ``folder`` first.

    Raises
    ------
    InputError
        As :func:`read_table`.
    """
    name, root, written = source_name(program), program.root, folder / "rows.parquet"
    if program.data.query is not None:
        try:
            sql = _one_select(program.data.query, root, name, connection)
            connection.execute(f"COPY (\n{sql}\n) TO '{written.as_posix()}' (FORMAT parquet)")
        except duckdb.Error as error:
            raise _fault(name, first_line(error, root), "a SELECT that runs") from None
        return [written], []
    files = _files(str(program.data.source), root, name)
    sql, values = _reading(files, program.data.missing_values, name)
    try:
        if _reader(files[0]) == "csv":
            _refuse_repeated_columns(files[0], connection.execute(f"{sql} LIMIT 0", values).df(), name)
        elif _reader(files[0]) == "parquet":
            connection.execute(f"{sql} LIMIT 0", values)
            return files, files
        connection.execute(f"COPY ({sql}) TO '{written.as_posix()}' (FORMAT parquet)", values)
    except duckdb.Error as error:
        raise _unreadable(error, files[0], root, name) from None
    return [written], files


def _suffix(file: Path) -> str:
    return next((suffix.lower() for suffix in reversed(file.suffixes) if suffix.lower() in READERS), "")


def _reader(file: Path) -> str:
    return READERS[_suffix(file)]


def _reading(files: list[Path], missing_values: tuple[str, ...], name: str) -> tuple[str, dict[str, Any]]:
    """The SELECT that reads the files, and its parameters."""
    if not _suffix(files[0]):
        raise _fault(name, f"a file ending in '{files[0].suffix}'", "one of " + ", ".join(READERS))
    values: dict[str, Any] = {"files": [file.as_posix() for file in files]}
    if _reader(files[0]) != "csv":
        return f"SELECT * FROM read_{_reader(files[0])}($files, union_by_name = true)", values
    values["missing"] = list(dict.fromkeys(["", *missing_values]))
    sql = (
        "SELECT * FROM read_csv($files, sample_size = -1, union_by_name = true, nullstr = $missing, "
        "dateformat = '%Y-%m-%d', timestampformat = '%Y-%m-%d %H:%M:%S')"
    )
    return sql, values


def _unreadable(error: Exception, file: Path, root: Path, name: str) -> InputError:
    return _fault(name, first_line(error, root), f"a readable {_suffix(file).lstrip('.')} table")


def _refuse_repeated_columns(file: Path, frame: pd.DataFrame, name: str) -> None:
    """DuckDB renames a repeated column in silence: y, y_1."""
    renamed = [str(column).rpartition("_") for column in frame.columns]
    known = {str(column).casefold() for column in frame.columns}
    suspects = {base for base, _, number in renamed if number.isdigit() and base.casefold() in known}
    opened = gzip.open if file.suffix == ".gz" else open
    with opened(file, "rt", encoding="utf-8-sig", errors="replace") as stream:
        header = re.split(r"[,;\t|]", stream.readline().strip())
    heads = [head.strip().strip('"').casefold() for head in header]
    twice = sorted(base for base in suspects if heads.count(base.casefold()) > 1)
    if twice:
        raise _fault(
            name, f"the column '{twice[0]}' more than once", "each column once", "Rename or drop one."
        )


def _fault(source: str, found: str, expected: str, hint: str = "") -> InputError:
    return InputError([Fault(source, None, "data", found, expected, hint)])


def _files(source: str, root: Path, name: str) -> list[Path]:
    base = Path(source)
    folder, pattern = (
        (Path(base.anchor), str(base.relative_to(base.anchor))) if base.is_absolute() else (root, source)
    )
    files = sorted(file for file in folder.glob(pattern) if file.is_file())
    if not files:
        near = (root / source).parent
        others = [path.name for path in sorted(near.iterdir())] if near.is_dir() else []
        raise _fault(
            name, "no such file", "a file, relative to the project folder", did_you_mean(base.name, others)
        )
    empty = [file.name for file in files if file.stat().st_size == 0]
    if empty:
        raise _fault(name, f"0 bytes in {empty[0]}", "a table with rows")
    return files


def _run_query(query: str, root: Path, name: str) -> pd.DataFrame:
    with duckdb.connect() as connection:
        try:
            return _frame(connection.execute(_one_select(query, root, name, connection)))
        except duckdb.Error as error:
            raise _fault(name, first_line(error, root), "a SELECT that runs") from None


def _one_select(query: str, root: Path, name: str, connection: duckdb.DuckDBPyConnection) -> str:
    """The query without its semicolon; ``connection`` then finds files from ``root``."""
    connection.execute("SET file_search_path = ?", [root.as_posix()])
    statements = connection.extract_statements(query)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise _fault(
            name, f"{len(statements)} statement(s), not one SELECT", "one SELECT", "Queries only read."
        )
    return statements[0].query.strip().rstrip(";")


def first_line(error: Exception, root: Path) -> str:
    """What DuckDB says, without the paths of this machine."""
    text = str(error).splitlines()[0].replace(root.as_posix() + "/", "")
    return text if len(text) < 200 else text[:197] + "..."


def files_sha256(files: list[Path]) -> str:
    """Hash of the files' bytes, one after the other."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _frame_sha256(frame: pd.DataFrame) -> str:
    digest = hashlib.sha256("\t".join(map(str, frame.columns)).encode())
    digest.update(frame.to_csv(index=False).encode())
    return digest.hexdigest()
