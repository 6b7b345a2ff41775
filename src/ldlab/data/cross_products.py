"""Program -> CrossProducts: the same contract as :func:`ldlab.load_study`, held by DuckDB over a file of any size."""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from ldlab.data.limits import arms_can_be_shown, percent_has_a_base, target_is_possible, too_early_can_be_told
from ldlab.data.read import files_sha256, first_line, parquet_files, source_name
from ldlab.data.sql_contract import COMPLETE, NO_COVARIATE, NO_KPI, Columns, checked_columns
from ldlab.data.sums import Floats, Ints, Sums, Table, add_up
from ldlab.data.values import Faults, as_text, binary_arm
from ldlab.program import CrossProducts, Fault, InputError, LdlabError, Program
from ldlab.program.cross_products import POOLED, refuse_explained, split_small

NO_SPREAD = 1e-12  # of a sum of squares, what rounding leaves
FEW_DIGITS = 1e-9


def load_cross_products(program: Program) -> CrossProducts:
    """Read and check a program's data, however many rows they have, and keep only what a normal likelihood reads.

    For cross-sections with a continuous KPI (or a duration without censoring); :func:`ldlab.bayes.fit` takes the result
    in place of a study and gives the same posterior. Parquet files are added up in one pass; CSV, JSON and queries are
    first written to a temporary Parquet file. Memory does not grow with rows, but for 8 bytes each while the units'
    ids are compared. The same data give the same bits, on any number of cores.
    Nobody is trimmed: an agreed ``trim_propensity`` needs the rows.

    Parameters
    ----------
    program : Program
        Design randomised or observational.

    Returns
    -------
    CrossProducts
        Equal to what :func:`ldlab.load_study` and the Bayesian model make of the rows. ``left_out`` counts units
        without a KPI and units without some covariate. ``data_sha256`` is that of :func:`ldlab.load_study` for a
        source; for a query it is a hash of the rows whatever their order.

    Raises
    ------
    LdlabError
        Design or KPI of another kind; covariates that hold the treatment; nothing to learn from.
    InputError
        With every breach of the data contract: the column, what was found, what was expected.
    """
    _normal_likelihood(program)
    try:
        with opened(program) as (table, sha256):
            columns, sums = _added(table, program)
            found = _cross_products(sums, columns, program, sha256())
    except duckdb.Error as error:
        fault = Fault(
            source_name(program), None, "data", first_line(error, program.root), "columns that add up"
        )
        raise InputError([fault]) from None
    target_is_possible(found)
    return found


def _normal_likelihood(program: Program) -> None:
    """Refuse by name what does not enter through sums of squares alone."""
    kpi, kind = program.kpi, program.design.kind
    if kind not in ("randomised", "observational"):
        raise LdlabError(
            f"cross-products: found design {kind}; expected randomised or observational, one row per "
            f"{program.design.unit}. Use ldlab.load_study and the notebooks for this design"
        )
    if kpi.value_type not in ("continuous", "duration") or kpi.censored_column is not None:
        what = (
            "durations of which some were still running"
            if kpi.censored_column
            else f"a KPI that is {kpi.value_type}"
        )
        raise LdlabError(
            f"cross-products: found {what}; expected a continuous KPI, whose likelihood reads only sums. "
            "Use ldlab.load_study and ldlab.bayes.fit, as the notebook bayes_impact does; where rows are too many, let "
            "data.query draw some"
        )
    if program.analysis.errors == "student_t":
        raise LdlabError(
            "cross-products: found analysis.errors: student_t, whose likelihood reads every row; expected normal. Use "
            "ldlab.load_study and ldlab.bayes.fit, or set analysis.errors: normal"
        )


@contextmanager
def opened(program: Program) -> Iterator[tuple[Table, Any]]:
    """The program's table, and a function that waits for the data's hash."""
    with (
        tempfile.TemporaryDirectory() as folder,
        duckdb.connect() as connection,
        ThreadPoolExecutor(1) as pool,
    ):
        files, named = parquet_files(program, connection, Path(folder))
        hashing = pool.submit(files_sha256, named)
        table = Table.of(files, connection, Path(folder))

        def sha256() -> str:
            return hashing.result() if named else hashlib.sha256(table.hashed().encode()).hexdigest()

        yield table, sha256


def _added(table: Table, program: Program) -> tuple[Columns, Sums]:
    """The checked columns added up; a second time where 'not a number' stands for missing."""
    for nan in (False, True):
        columns = checked_columns(table, program, nan=nan)
        keys = columns.keys | {"key_status": columns.status}
        sums = add_up(table, keys, columns.sums, many="key_cluster" in keys)
        complete, seen = sums.keys["key_status"] == COMPLETE, sums.keys["key_status"] < NO_KPI
        if np.isfinite(sums.products[complete]).all() and np.isfinite(sums.products[seen, 0, 0]).all():
            return columns, sums
    raise LdlabError(
        "cross-products: found numbers whose squares are beyond 1e308; expected a KPI and covariates in a unit "
        "that people use. Change the unit with data.query"
    )


def _cross_products(sums: Sums, columns: Columns, program: Program, sha256: str) -> CrossProducts:
    arm = binary_arm(sums.keys, "key_arm", program, Faults("")).to_numpy(dtype=np.int64)
    status = sums.keys["key_status"].to_numpy()
    seen, complete = status < NO_KPI, status == COMPLETE
    arms_can_be_shown({code: int(sums.n[seen & (arm == code)].sum()) for code in (0, 1)}, [1, 0], program)
    too_early_can_be_told(program.data.cut_off, program)
    baseline = _baseline(sums, arm, (seen, complete), columns, program)
    units, _, about = sums.of(seen)
    percent_has_a_base(baseline, math.sqrt(about[0, 0] / (units - 1)), units, program)
    _enough_to_learn_from(sums, arm, complete, columns, program)
    segment, segments = _segments(sums, arm, complete, program.analysis.minimum_group_size)
    cluster, clusters = _clusters(sums, complete)
    cells, keys = _pooled(sums, np.column_stack([arm, segment, cluster]), complete)
    mean = cells.total / cells.n[:, None]
    within = _within(cells, keys[:, 0], program)
    x = slice(1, 1 + len(columns.covariates))
    size, _, about = sums.of(complete)
    sd = np.sqrt(np.diag(about)[x] / size)
    found = CrossProducts(
        program=program,
        baseline=baseline,
        covariates=tuple(columns.covariates),
        segments=segments,
        clusters=clusters,
        arm=keys[:, 0],
        segment=keys[:, 1],
        cluster=keys[:, 2] if clusters else None,
        n=cells.n,
        y=sums.shift[0] + mean[:, 0],
        x=mean[:, x] / sd,
        xx=within[:, x, x] / np.outer(sd, sd),
        xy=within[:, x, 0] / sd,
        yy=within[:, 0, 0],
        left_out=_left_out(sums, status, program.design.units),
        cut_off=program.data.cut_off,
        data_sha256=sha256,
    )
    found = replace(found, x=found.x - found.population @ found.x / found.population.sum())
    rows: Floats = np.column_stack([np.ones(len(found.n)), found.x, found.arm])
    products = (rows * found.n[:, None]).T @ rows
    products[x, x] += found.xx.sum(axis=0)
    refuse_explained(found.covariates, products)
    return found


def _pooled(sums: Sums, codes: Ints, complete: Any) -> tuple[Sums, Ints]:
    """Complete groups with the same codes together, in the codes' order; and the codes."""
    keys, which = np.unique(codes[complete], axis=0, return_inverse=True)
    cells = Sums(
        pd.DataFrame(keys),
        np.zeros(len(keys), dtype=np.int64),
        np.zeros((len(keys), *sums.total.shape[1:])),
        np.zeros((len(keys), *sums.products.shape[1:])),
        sums.shift,
    )
    for name in ("n", "total", "products"):
        np.add.at(getattr(cells, name), which.ravel(), getattr(sums, name)[complete])
    return cells, keys


def _within(cells: Sums, arm: Ints, program: Program) -> Floats:
    """(2, k, k) products about the cells' means, by arm; exactly 0 for a column that is the same within each cell."""
    about = cells.products - cells.total[:, :, None] * cells.total[:, None, :] / cells.n[:, None, None]
    within, raw = (
        np.array([part[arm == code].sum(axis=0) for code in (0, 1)]) for part in (about, cells.products)
    )
    if within[:, 0, 0].sum() < FEW_DIGITS * raw[:, 0, 0].sum():
        raise LdlabError(
            f"cross-products: '{program.kpi.column}' differs between segments or clusters by more than 30,000 times what "
            "it differs within them, so that sums of squares lose their digits; expected one scale. Use kpi.scale: log, "
            "or bring the groups to one unit with data.query"
        )
    flat = np.diagonal(within, axis1=1, axis2=2) <= NO_SPREAD * np.diagonal(raw, axis1=1, axis2=2)
    within[flat[:, :, None] | flat[:, None, :]] = 0.0
    return within


def _left_out(sums: Sums, status: Any, units: str) -> tuple[tuple[str, int], ...]:
    counts = [
        (what, int(sums.n[status == code].sum()))
        for what, code in (("a KPI", NO_KPI), ("some covariate", NO_COVARIATE))
    ]
    return tuple((f"{units} without {what}", count) for what, count in counts if count)


def _baseline(sums: Sums, arm: Ints, which: tuple[Any, Any], columns: Columns, program: Program) -> float:
    """As :attr:`ldlab.Study.baseline`: the comparison's mean, or what untrained people like the trained have."""
    (seen, complete), level = which, -1 if columns.is_log else 0
    if program.design.kind != "observational" or not columns.covariates:
        return float(sums.shift[level] + sums.of(seen & (arm == 0))[1][level])
    x = slice(1, 1 + len(columns.covariates))
    _, untrained, about = sums.of(complete & (arm == 0))
    trained = sums.of(complete & (arm == 1))[1]
    scale = np.sqrt(np.maximum(np.diag(about)[x], 1e-300))
    slopes = (
        np.linalg.lstsq(about[x, x] / np.outer(scale, scale), about[x, level] / scale, rcond=None)[0] / scale
    )
    return float(sums.shift[level] + untrained[level] + (trained - untrained)[x] @ slopes)


def _enough_to_learn_from(sums: Sums, arm: Ints, complete: Any, columns: Columns, program: Program) -> None:
    minimum, units = program.analysis.minimum_group_size, program.design.units
    for code, name in enumerate(("comparison", "trained")):
        if sums.n[complete & (arm == code)].sum() < minimum:
            raise LdlabError(
                f"cross-products: found fewer than {minimum} {units} with a KPI and all covariates in the {name} arm; "
                f"expected at least analysis.minimum_group_size = {minimum} in each arm. Leave out covariates that are "
                "often missing, or wait for more data"
            )

    def spread(rows: Any) -> tuple[Floats, Floats]:
        return np.diag(sums.of(rows)[2]), NO_SPREAD * np.diag(sums.products[rows].sum(axis=0))

    own, lost = spread(complete & (arm == 0))
    if own[0] <= lost[0]:
        raise LdlabError(
            "cross-products: the KPI has one value only in the comparison arm; there is no spread to learn from"
        )
    total, lost = spread(complete)
    in_arms = own + spread(complete & (arm == 1))[0]
    faults = Faults(source_name(program))
    for place, (name, source) in enumerate(zip(columns.covariates, columns.sources, strict=True), start=1):
        if total[place] <= lost[place]:
            raise LdlabError(
                f"cross-products: covariate '{name}' has one value only; take it out of columns.covariates"
            )
        if in_arms[place] <= NO_SPREAD * total[place]:
            faults.add(source, "the same as the treatment column", "a covariate measured before training")
    faults.stop_if_any()


def _segments(sums: Sums, arm: Ints, complete: Any, minimum: int) -> tuple[Ints, tuple[str, ...]]:
    """(g,) codes and names of segments; those that may not be shown are pooled, last."""
    none = np.zeros_like(arm), ()
    if "key_segment" not in sums.keys:
        return none
    label = sums.keys["key_segment"].astype("string").fillna("not recorded").astype(object)
    table = pd.DataFrame({"label": label, "arm": arm, "n": sums.n})[complete]
    size = table.pivot_table(index="label", columns="arm", values="n", aggfunc="sum", fill_value=0)
    shown, hidden = split_small(size.reindex(columns=[0, 1], fill_value=0), minimum)
    names = (*shown, POOLED) if hidden else tuple(shown)
    if len(names) < 2:
        return none
    code = {name: place for place, name in enumerate(shown)}
    return label.map(lambda name: code.get(name, len(shown))).to_numpy(dtype=np.int64), names


def _clusters(sums: Sums, complete: Any) -> tuple[Ints, int]:
    """(g,) codes of clusters and their number; 0 without clusters, or where every unit is its own."""
    codes = np.zeros(len(sums.n), dtype=np.int64)
    if "key_cluster" not in sums.keys:
        return codes, 0
    codes[complete], names = pd.factorize(as_text(sums.keys["key_cluster"])[complete], sort=True)
    return (codes, len(names)) if len(names) < sums.n[complete].sum() else (np.zeros_like(codes), 0)
