"""Files -> raw table: DuckDB reads CSV, TSV, Parquet and JSON lines, globs of them, or a SELECT over them."""

from __future__ import annotations

import hashlib
from pathlib import Path

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


def source_name(program: Program) -> str:
    """What a message calls the data: the source as the program file gives it, or its query."""
    return program.data.source or f"query of {program.id}"


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
    connection = duckdb.connect()
    try:
        connection.execute("SET file_search_path = ?", [program.root.as_posix()])
        connection.execute("SET threads = 2")
        if program.data.query is not None:
            frame = _run_query(connection, program)
            return frame, _frame_sha256(frame)
        files = _files(program)
        frame = _read_files(connection, program, files)
        return frame, _files_sha256(files)
    finally:
        connection.close()


def _fault(program: Program, found: str, expected: str, hint: str = "") -> InputError:
    return InputError([Fault(source_name(program), None, "data", found, expected, hint)])


def _files(program: Program) -> list[Path]:
    source = str(program.data.source)
    base = Path(source)
    if base.is_absolute():
        files = sorted(Path(base.anchor).glob(str(base.relative_to(base.anchor))))
    else:
        files = sorted(program.root.glob(source))
    files = [file for file in files if file.is_file()]
    if not files:
        folder = (program.root / source).parent
        others = [p.name for p in sorted(folder.iterdir())] if folder.is_dir() else []
        raise _fault(
            program, "no such file", "a file, relative to the project folder", did_you_mean(base.name, others)
        )
    empty = [file.name for file in files if file.stat().st_size == 0]
    if empty:
        raise _fault(program, f"0 bytes in {empty[0]}", "a table with rows")
    return files


def _read_files(connection: duckdb.DuckDBPyConnection, program: Program, files: list[Path]) -> pd.DataFrame:
    suffix = next((s for s in reversed(files[0].suffixes) if s.lower() in READERS), "")
    if not suffix:
        raise _fault(program, f"a file ending in '{files[0].suffix}'", "one of " + ", ".join(READERS))
    names = [file.as_posix() for file in files]
    reader = READERS[suffix.lower()]
    try:
        if reader == "csv":
            missing = list(dict.fromkeys(["", *program.data.missing_values]))
            relation = connection.sql(
                "SELECT * FROM read_csv($files, sample_size = -1, union_by_name = true, nullstr = $missing)",
                params={"files": names, "missing": missing},
            )
        else:
            name = "read_parquet" if reader == "parquet" else "read_json"
            relation = connection.sql(
                f"SELECT * FROM {name}($files, union_by_name = true)", params={"files": names}
            )
        return relation.df()
    except duckdb.Error as error:
        raise _fault(program, _first_line(error, program), f"a readable {suffix.lstrip('.')} table") from None


def _run_query(connection: duckdb.DuckDBPyConnection, program: Program) -> pd.DataFrame:
    query = str(program.data.query)
    try:
        statements = connection.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise _fault(
                program, f"{len(statements)} statement(s), not one SELECT", "one SELECT", "Queries only read."
            )
        return connection.sql(query).df()
    except duckdb.Error as error:
        raise _fault(program, _first_line(error, program), "a SELECT that runs") from None


def _first_line(error: Exception, program: Program) -> str:
    text = str(error).splitlines()[0].replace(program.root.as_posix() + "/", "")
    return text if len(text) < 200 else text[:197] + "..."


def _files_sha256(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _frame_sha256(frame: pd.DataFrame) -> str:
    digest = hashlib.sha256("\t".join(map(str, frame.columns)).encode())
    digest.update(frame.to_csv(index=False).encode())
    return digest.hexdigest()
