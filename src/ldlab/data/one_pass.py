"""Several sets of columns added up by the same keys in one scan, each set with its own cross-products."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np

from ldlab.data.sums import Floats, Sums, Table, shift_of
from ldlab.program.experiment_sums import POWERS

# Products of pairs, which DuckDB computes once for all sums that hold them.
PRODUCT = {
    (2, 1): "{uv} * {u}",
    (1, 2): "{uv} * {v}",
    (0, 3): "{vv} * {v}",
    (2, 2): "{uv} * {uv}",
    (1, 3): "{uv} * {vv}",
    (0, 4): "{vv} * {vv}",
}


def add_up_sets(
    table: Table, keys: dict[str, str], sets: list[list[str]], powers: list[tuple[int, int] | None]
) -> list[tuple[Sums, Floats | None]]:
    """As :func:`ldlab.data.sums.add_up` for each set of SQL expressions, in one scan of them all.

    Columns of different sets are not multiplied with each other; what several sets have in common is added up once. Of two
    columns u and v of a set (their places are ``powers``) also the sums of u^k v^l, less the shift, that
    :data:`ldlab.program.experiment_sums.POWERS` names: (groups, 3, 5). Deterministic in the same way: a row group is added
    up by one thread, and these sums are added in order.
    """
    columns = list(dict.fromkeys(sql for group in sets for sql in group))
    place = {sql: i for i, sql in enumerate(columns)}
    shift = shift_of(table, columns)
    places = [[place[sql] for sql in group] for group in sets]
    pairs = sorted({pair for group in places for pair in combinations_with_replacement(sorted(group), 2)})
    high = sorted({(group[at[0]], group[at[1]]) for group, at in zip(places, powers, strict=True) if at})
    in_blocks = table.row_group is not None
    blocks = {"file": "file_index", "block": f"file_row_number // {table.row_group}"} if in_blocks else {}
    inner = [f"{sql} AS {name}" for name, sql in (keys | blocks).items()]
    inner += [
        f"({sql}) - ({value!r})::DOUBLE AS c{i}"
        for i, (sql, value) in enumerate(zip(columns, shift.tolist(), strict=True))
    ]
    names = list(keys | blocks)
    outer = [*names, "count(*) AS n", *(f"sum(c{i}) AS s{i}" for i in range(len(columns)))]
    outer += [f"sum(c{i} * c{j}) AS p{i}_{j}" for i, j in pairs]
    for i, j in high:
        known = {"u": f"c{i}", "v": f"c{j}", "uv": f"(c{i} * c{j})", "vv": f"(c{j} * c{j})"}
        outer += [f"sum({PRODUCT[k, m].format(**known)}) AS q{i}_{j}_{k}_{m}" for k, m in POWERS]
    by = ", ".join(names)
    if not in_blocks:
        table.connection.execute("SET threads = 1")
    sql = f"SELECT {', '.join(outer)} FROM (SELECT {', '.join(inner)} FROM {table.source}) GROUP BY {by} ORDER BY {by}"
    found = table.connection.execute(sql).df()
    table.connection.execute("RESET threads")
    which = found.groupby(list(keys), dropna=False, sort=False).ngroup().to_numpy()
    first = np.unique(which, return_index=True)[1]
    kept = found.loc[first, list(keys)].reset_index(drop=True)

    def added(name: str) -> Floats:
        sums = np.zeros(len(first))
        np.add.at(sums, which, found[name].to_numpy(dtype=float))
        return sums

    total = {i: added(f"s{i}") for i in range(len(columns))}
    product = {pair: added(f"p{pair[0]}_{pair[1]}") for pair in pairs}
    n = added("n").astype(np.int64)

    def power(group: list[int], at: tuple[int, int] | None) -> Floats | None:
        if at is None:
            return None
        i, j = group[at[0]], group[at[1]]
        sums = np.zeros((len(first), 3, 5))
        for k, m in POWERS:
            sums[:, k, m] = added(f"q{i}_{j}_{k}_{m}")
        return sums

    return [
        (
            Sums(
                kept,
                n,
                np.column_stack([total[i] for i in group]),
                np.stack([[product[min(i, j), max(i, j)] for j in group] for i in group]).transpose(2, 0, 1),
                shift[group],
            ),
            power(group, at),
        )
        for group, at in zip(places, powers, strict=True)
    ]
