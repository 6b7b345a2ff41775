"""Sums over files of any size: DuckDB adds up, and only what is the same for many rows reaches Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MEMORY = "1GB"
SAMPLE = 10_000  # rows whose means are subtracted before squaring


def quoted(name: str) -> str:
    """A column's name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True)
class Table:
    """Parquet files as one table.

    Attributes
    ----------
    connection, source
        An open DuckDB, and the FROM clause.
    head
        No rows; names and types of the columns.
    rows
        How many rows there are.
    row_group
        Rows in each row group, where they are all alike (but for a file's last); else None.
    """

    connection: duckdb.DuckDBPyConnection
    source: str
    head: pd.DataFrame
    rows: int
    row_group: int | None

    @classmethod
    def of(cls, files: list[Path], connection: duckdb.DuckDBPyConnection, folder: Path) -> Table:
        """Open Parquet files; what does not fit into memory goes to ``folder``."""
        connection.execute(f"SET memory_limit = '{MEMORY}'")
        connection.execute(f"SET temp_directory = {literal(folder.as_posix())}")
        names = "[" + ", ".join(literal(file.as_posix()) for file in files) + "]"
        source = f"read_parquet({names}, union_by_name = true)"
        head = connection.execute(f"SELECT * FROM {source} LIMIT 0").df()
        rows = connection.execute(f"SELECT count(*) FROM {source}").fetchall()[0][0]
        return cls(connection, source, head, rows, _row_group(names, connection))

    def select(self, what: str, rest: str = "") -> pd.DataFrame:
        """A SELECT from the table; ``rest`` follows the FROM clause."""
        return self.connection.execute(f"SELECT {what} FROM {self.source} {rest}").df()

    def number(self, what: str, rest: str = "") -> Any:
        """The one value of a SELECT."""
        return self.connection.execute(f"SELECT {what} FROM {self.source} {rest}").fetchall()[0][0]

    def number_sql(self, column: str, *, nan: bool = False) -> str:
        """A column as a double; text that is no number as NULL, with ``nan`` also 'not a number'."""
        numbers = pd.api.types.is_numeric_dtype(self.head[column].dtype)
        sql = f"{'CAST' if numbers else 'TRY_CAST'}({quoted(column)} AS DOUBLE)"
        return f"nullif({sql}, 'nan'::DOUBLE)" if nan else sql

    def repeated(self, column: str) -> int:
        """How many rows hold a value that an earlier row holds.

        Equal values have equal hashes; 8 bytes a row are sorted, and values are compared only if two hashes are equal.
        """
        hashes = self.connection.execute(
            f"SELECT hash({quoted(column)}) AS h FROM {self.source}"
        ).fetchnumpy()["h"]
        hashes = np.sort(np.asarray(hashes))
        if not (hashes[1:] == hashes[:-1]).any():
            return 0
        per_value = f"(SELECT count(*) AS n FROM {self.source} GROUP BY {quoted(column)} HAVING n > 1)"
        return int(
            self.connection.execute(f"SELECT coalesce(sum(n - 1), 0) FROM {per_value}").fetchall()[0][0]
        )

    def hashed(self) -> str:
        """A hash of the rows, whatever their order, by DuckDB's own hash."""
        columns = ", ".join(quoted(str(name)) for name in self.head.columns)
        return f"{columns} {self.rows} {self.number(f'sum(hash({columns})::HUGEINT)')}"


def _row_group(names: str, connection: duckdb.DuckDBPyConnection) -> int | None:
    groups = connection.execute(
        "SELECT DISTINCT file_name, row_group_id, row_group_num_rows AS size "
        f"FROM parquet_metadata({names}) ORDER BY ALL"
    ).df()
    if groups.empty:
        return None
    last = groups["row_group_id"] == groups.groupby("file_name")["row_group_id"].transform("max")
    sizes = groups.loc[~last, "size"].unique()
    size = int(sizes[0] if len(sizes) else groups["size"].max())
    return size if len(sizes) < 2 and (groups.loc[last, "size"] <= size).all() else None


@dataclass(frozen=True)
class Sums:
    """Sums by group; g groups, k columns.

    Attributes
    ----------
    keys
        (g,) what the rows of a group have in common.
    n, total, products
        (g,) rows; (g, k) sums of the columns less ``shift``; (g, k, k) sums of their products.
    shift
        (k,) about the columns' means, so that squaring loses no digits.
    """

    keys: pd.DataFrame
    n: Ints
    total: Floats
    products: Floats
    shift: Floats

    def of(self, rows: Any) -> tuple[int, Floats, Floats]:
        """Of some groups together: rows, means less ``shift``, and products about these means."""
        n, total = int(self.n[rows].sum()), self.total[rows].sum(axis=0)
        mean = total / max(n, 1)
        return n, mean, self.products[rows].sum(axis=0) - n * np.outer(mean, mean)


def add_up(table: Table, keys: dict[str, str], columns: list[str], *, many: bool = False) -> Sums:
    """Sums and cross-products of ``columns`` by ``keys``, in one pass; both are SQL expressions.

    The same to the last bit however many threads run: a row group is added up by one thread, and these sums are added in
    order. Where row groups are not alike, or groups of rows are ``many``, one thread does it all.
    """
    shift, k = shift_of(table, columns), len(columns)
    in_blocks = table.row_group is not None and not many
    blocks = {"file": "file_index", "block": f"file_row_number // {table.row_group}"} if in_blocks else {}
    inner = [f"{sql} AS {name}" for name, sql in (keys | blocks).items()]
    inner += [
        f"({sql}) - ({value!r})::DOUBLE AS c{i}"
        for i, (sql, value) in enumerate(zip(columns, shift.tolist(), strict=True))
    ]
    pairs = [(i, j) for i in range(k) for j in range(i, k)]
    names = list(keys | blocks)
    outer = [*names, "count(*) AS n", *(f"sum(c{i}) AS s{i}" for i in range(k))]
    outer += [f"sum(c{i} * c{j}) AS p{i}_{j}" for i, j in pairs]
    by = ", ".join(names)
    sql = f"SELECT {', '.join(outer)} FROM (SELECT {', '.join(inner)} FROM {table.source}) GROUP BY {by} ORDER BY {by}"
    if not in_blocks:
        table.connection.execute("SET threads = 1")
    found = table.connection.execute(sql).df()
    table.connection.execute("RESET threads")
    which = found.groupby(list(keys), dropna=False, sort=False).ngroup().to_numpy()
    first = np.unique(which, return_index=True)[1]
    n, total = np.zeros(len(first), dtype=np.int64), np.zeros((len(first), k))
    products = np.zeros((len(first), k, k))
    np.add.at(n, which, found["n"].to_numpy())
    np.add.at(total, which, found[[f"s{i}" for i in range(k)]].to_numpy(dtype=float))
    for i, j in pairs:
        np.add.at(products[:, i, j], which, found[f"p{i}_{j}"].to_numpy(dtype=float))
        products[:, j, i] = products[:, i, j]
    return Sums(found.loc[first, list(keys)].reset_index(drop=True), n, total, products, shift)


def shift_of(table: Table, columns: list[str]) -> Floats:
    """(k,) means of the first rows; 0 where they hold no number.

    With m of n rows in it, no column's mean is more than sqrt(n / m) sds away, so squares lose at most a factor n / m.
    """
    listed = ", ".join(f"({sql})::DOUBLE AS c{i}" for i, sql in enumerate(columns))
    first = table.connection.execute(
        f"SELECT {listed} FROM (SELECT * FROM {table.source} LIMIT {SAMPLE})"
    ).fetchnumpy()
    values = [np.ma.filled(np.ma.masked_invalid(column), np.nan) for column in first.values()]
    return np.array([np.nanmean(v) if np.isfinite(v).any() else 0.0 for v in values])
