"""Program -> Experiment: the contract of :func:`ldlab.load_study` held by DuckDB, and all that least squares reads, added up."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ldlab.data.cross_products import opened
from ldlab.data.experiment_contract import Arms, checked_arms, checked_kpi, measured_after, shown_arms
from ldlab.data.limits import percent_has_a_base, target_is_possible, too_early_can_be_told
from ldlab.data.one_pass import add_up_sets
from ldlab.data.read import first_line, source_name
from ldlab.data.sql_contract import covariate_columns
from ldlab.data.sums import Floats, Ints, Sums, Table, quoted
from ldlab.data.values import Faults, as_text
from ldlab.program import Fault, InputError, LdlabError, Program
from ldlab.program.experiment_sums import Experiment, KpiSums, Role
from ldlab.program.experiment_sums import about as about_means

COMPLETE, NO_BEFORE, NO_COVARIATE, NO_KPI = range(4)
MOST_PATTERNS = 64  # of gaps in the KPIs of one scan, which are added up apart


@dataclass(frozen=True)
class Wanted:
    """What is to be added up of one KPI, as SQL: its parts, covariates and the KPI before (None: not named)."""

    program: Program
    role: Role
    parts: dict[str, str]
    covariates: dict[str, str]
    before: str | None

    @property
    def all(self) -> list[str]:
        """Every expression that is added up."""
        return [*self.parts.values(), *self.covariates.values(), *([self.before] if self.before else [])]


def load_experiment(program: Program) -> Experiment:
    """Read and check an experiment's data, however many units it has, and keep only sums.

    One scan gives, for each KPI by arm, units, means, variances and covariances of the KPI, the KPI
    before assignment and the covariates; units without a KPI do not count for it. Means of the first rows are subtracted
    before squaring, so that no digits are lost. An agreed winsorising needs the quantiles first: exact ones, all arms
    together, in a scan more. Units' ids are compared once (8 bytes each in memory). Parquet files are read as they are;
    CSV, JSON and queries are first written to a temporary Parquet file. The same data give the same bits, on any number of
    cores.

    Parameters
    ----------
    program : Program
        Design randomised, one row per unit, without clusters, strata or censored durations.

    Returns
    -------
    Experiment
        Sums equal to those of the rows of :func:`ldlab.load_study`; units found in two arms are left out, and counted.

    Raises
    ------
    LdlabError
        Numbers too large to square.
    InputError
        With every breach of the data contract: the column, what was found, what was expected; a design that needs the
        rows: clusters, strata, several looks, censored durations.
    """
    _reads_only_sums(program)
    try:
        with opened(program) as (table, sha256):
            return _experiment(table, program, sha256)
    except duckdb.Error as error:
        found = first_line(error, program.root)
        raise InputError([Fault(source_name(program), None, "data", found, "columns that add up")]) from None


def _reads_only_sums(program: Program) -> None:
    """Refuse by name what sums by arm cannot tell."""
    columns, kind, faults = program.design.columns, program.design.kind, Faults(source_name(program))
    rows = "Only sums by arm are read at scale; use the notebook ab_test, which reads the rows."
    if kind != "randomised":
        faults.add("design.kind", kind, "randomised")
    if columns.cluster is not None:
        faults.add("design.columns.cluster", columns.cluster, "units that were assigned one by one", rows)
    if columns.stratum is not None:
        faults.add("design.columns.stratum", columns.stratum, "lots drawn among all units alike", rows)
    if program.looks is not None and program.looks.method != "fixed":
        faults.add("looks.method", program.looks.method, "one look (fixed)", rows)
    if program.kpi.censored_column is not None:
        running = "durations of which some were still running"
        faults.add("kpi.censored_column", running, "durations that have ended", rows)
    faults.stop_if_any()


def _experiment(table: Table, program: Program, sha256: Callable[[], str]) -> Experiment:
    faults = Faults(source_name(program))
    arms = checked_arms(table, program, faults)
    measured_after(table, program, faults)
    for about, role in _asked(program):
        if role != "primary, not winsorised":
            checked_kpi(table, about, faults)
    covariates, _sources = covariate_columns(table, program, faults, nan=False)
    faults.stop_if_any()
    kpis = _added(table, program, arms, bool(covariates))
    primary = kpis[0]
    assigned = np.array([primary.of([place]).n for place in range(len(arms.codes))]) + primary.without
    shown_arms(primary, arms.codes, program)
    too_early_can_be_told(program.data.cut_off, program)
    everyone = primary.of(range(len(arms.codes)))
    sd = math.sqrt(everyone.covariance[0, 0]) / (everyone.mean[1] if primary.is_rate else 1)
    percent_has_a_base(primary.baseline, sd, everyone.n, program)
    found = Experiment(
        program=program,
        baseline=primary.baseline,
        arms=arms.codes,
        assigned=assigned,
        two_arms=arms.in_two,
        kpis=kpis,
        by_day=_by(table, program.design.columns.assigned_on, arms, day=True),
        by_segment=_by(table, program.design.columns.segment, arms, day=False),
        notes=_notes(kpis, arms, program),
        cut_off=program.data.cut_off,
        data_sha256=sha256(),
    )
    target_is_possible(found)  # type: ignore[arg-type]
    return found


def _asked(program: Program) -> list[tuple[Program, Role]]:
    """The program about each of its KPIs; a winsorised primary one also as it was."""
    asked: list[tuple[Program, Role]] = [(program, "primary")]
    if program.kpi.winsorise is not None:
        raw = program.kpi.model_copy(update={"winsorise": None})
        asked.append((program.model_copy(update={"kpi": raw}), "primary, not winsorised"))
    asked += [(program.about(kpi), "secondary") for kpi in program.secondary_kpis]
    return asked + [(program.about(kpi), "guard-rail") for kpi in program.guard_rails]


def _added(table: Table, program: Program, arms: Arms, covariates: bool) -> tuple[KpiSums, ...]:
    """All KPIs added up; a second time where 'not a number' stands for missing."""
    for nan in (False, True):
        spread = covariate_columns(table, program, Faults(""), nan=nan)[0] if covariates else {}
        wanted = [_wanted(table, asked, arms, spread, nan=nan) for asked in _asked(program)]
        found: list[KpiSums] = []
        for batch in _batches([(kpi, _status(table, kpi)) for kpi in wanted]):
            found += _batch(table, batch, arms)
        if len(found) == len(wanted):
            return tuple(found)
    raise LdlabError(
        "at scale: found numbers whose squares are beyond 1e308; expected KPIs in a unit that people use. Change the unit "
        "with data.query"
    )


def _batches(wanted: list[tuple[Wanted, str]]) -> list[list[tuple[Wanted, str]]]:
    """KPIs that are added up in one scan: as long as their gaps make no more than MOST_PATTERNS together."""
    batches: list[list[tuple[Wanted, str]]] = [[]]
    patterns = 1
    for kpi, status in wanted:
        own = 1 + status.count("WHEN")
        if patterns * own > MOST_PATTERNS:
            batches.append([])
            patterns = 1
        patterns *= own
        batches[-1].append((kpi, status))
    return batches


def _batch(table: Table, batch: list[tuple[Wanted, str]], arms: Arms) -> list[KpiSums]:
    """KPIs added up in one scan; fewer than asked for where one has sums that are no finite numbers."""
    keys = {"key_arm": quoted(arms.column)} | arms.keys
    keys |= {f"key_status_{i}": status for i, (_, status) in enumerate(batch) if status != str(COMPLETE)}
    found = []
    high = [(0, len(kpi.all) - 1) if kpi.before and len(kpi.parts) == 1 else None for kpi, _ in batch]
    for i, (sums, powers) in enumerate(add_up_sets(table, keys, [kpi.all for kpi, _ in batch], high)):
        name = f"key_status_{i}"
        status = sums.keys[name].to_numpy() if name in sums.keys else np.full(len(sums.n), COMPLETE)
        if not _finite(batch[i][0], status, sums):
            break
        found.append(_kpi_sums(table, batch[i][0], status, (sums, powers), arms))
    return found


def _finite(wanted: Wanted, status: Ints, sums: Sums) -> bool:
    """Whether all that is there has finite sums."""
    parts, known = len(wanted.parts), len(wanted.parts) + len(wanted.covariates)
    asked = ((status < NO_KPI, parts), (status < NO_COVARIATE, known), (status == COMPLETE, len(wanted.all)))
    return all(np.isfinite(sums.products[rows][:, :width, :width]).all() for rows, width in asked)


def _wanted(
    table: Table, asked: tuple[Program, Role], arms: Arms, covariates: dict[str, str], *, nan: bool
) -> Wanted:
    program, role = asked
    kpi = program.kpi
    times = "100 * " if kpi.value_type == "binary" else ""
    nan = nan or kpi.winsorise is not None  # least() and greatest() would take 'not a number' for a number
    level = times + table.number_sql(kpi.column, nan=nan)
    if kpi.winsorise is not None:
        level = _winsorised(
            table, level, (kpi.winsorise.below, kpi.winsorise.above), arms, log=kpi.scale == "log"
        )
    elif kpi.scale == "log":
        level = f"ln({level})"
    parts = {"outcome": level}
    if kpi.exposure_column is not None:
        exposure = table.number_sql(kpi.exposure_column, nan=nan)
        parts = {"count": level, "exposure": exposure}
    before = None if kpi.before_column is None else times + table.number_sql(kpi.before_column, nan=nan)
    return Wanted(program, role, parts, covariates, before)


def _winsorised(table: Table, level: str, quantiles: tuple[float, float], arms: Arms, *, log: bool) -> str:
    """The KPI clipped at its exact quantiles, by linear interpolation between values, all arms together."""
    level = f"ln({level})" if log else level
    rest = f"WHERE NOT {arms.keys['key_two_arms']}" if arms.keys else ""
    low, high = table.number(f"quantile_cont({level}, [{quantiles[0]!r}, {quantiles[1]!r}])", rest) or (
        0.0,
        0.0,
    )
    return f"CASE WHEN ({level}) IS NULL THEN NULL ELSE least(greatest({level}, {low!r}::DOUBLE), {high!r}::DOUBLE) END"


def _status(table: Table, wanted: Wanted) -> str:
    """Of a row, as SQL: complete, without KPI before, without some covariate, without KPI."""
    counts = table.select(", ".join(f"count({sql})" for sql in wanted.all)).to_numpy()[0]
    gaps = dict(zip(wanted.all, counts < table.rows, strict=True))

    def some_null(expressions: list[str]) -> str:
        return " OR ".join(f"({sql}) IS NULL" for sql in expressions if gaps[sql]) or "false"

    lost = [
        (some_null(list(wanted.parts.values())), NO_KPI),
        (some_null(list(wanted.covariates.values())), NO_COVARIATE),
    ]
    lost += [(some_null([wanted.before]), NO_BEFORE)] if wanted.before else []
    cases = " ".join(f"WHEN {condition} THEN {code}" for condition, code in lost if condition != "false")
    return f"CASE {cases} ELSE {COMPLETE} END" if cases else str(COMPLETE)


def _kpi_sums(
    table: Table, wanted: Wanted, status: Ints, added: tuple[Sums, Floats | None], arms: Arms
) -> KpiSums:
    sums, powers = added
    keys = sums.keys
    kept = keys["key_two_arms"].eq(0).to_numpy() if "key_two_arms" in keys else np.ones(len(keys), dtype=bool)
    place = arms.places(keys["key_arm"])
    seen = kept & (status < NO_KPI)
    n = sums.n[seen]
    mean, about = _about_means(sums, seen)
    if powers is not None:
        powers = _central(sums, powers)[seen]
    columns, mean, about = _with_before(wanted, status[seen] == NO_BEFORE, n, mean, about)

    def per_arm(rows: NDArray[np.bool_]) -> Ints:
        return np.bincount(place[rows], weights=sums.n[rows], minlength=len(arms.codes)).astype(np.int64)

    found = KpiSums(
        program=wanted.program,
        role=wanted.role,
        baseline=math.nan,
        columns=columns,
        arm=place[seen],
        complete=status[seen] < NO_COVARIATE,
        n=n,
        mean=mean,
        about=about,
        powers=powers,
        lacks_before=status[seen] == NO_BEFORE,
        without=per_arm(kept & (status == NO_KPI)),
        without_before=per_arm(kept & (status == NO_BEFORE)),
    )
    object.__setattr__(found, "baseline", _baseline(table, found, arms))
    return found


def _about_means(sums: Sums, rows: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """(c, k) means and (c, k, k) products about them; 0 where a column is missing."""
    n, total, products = sums.n[rows], np.nan_to_num(sums.total[rows]), np.nan_to_num(sums.products[rows])
    shifted = total / n[:, None]
    about = products - n[:, None, None] * shifted[:, :, None] * shifted[:, None, :]
    diagonal = np.einsum("ckk->ck", about)
    flat = diagonal <= 1e-12 * np.einsum("ckk->ck", products)
    about[flat[:, :, None] | flat[:, None, :]] = 0.0
    mean = shifted + sums.shift
    mean[np.abs(mean) <= 1e-14 * n[:, None] ** 0.5 * np.abs(sums.shift)] = 0.0
    return mean, about


def _central(sums: Sums, powers: Floats) -> Floats:
    """(c, 3, 5) sums of u^k v^l about each cell's means of its first and last column; not a number where one is missing."""
    u, v = 0, sums.total.shape[1] - 1
    raw = powers.copy()
    raw[:, 0, 0], raw[:, 1, 0], raw[:, 0, 1] = sums.n, sums.total[:, u], sums.total[:, v]
    raw[:, 2, 0], raw[:, 1, 1], raw[:, 0, 2] = (sums.products[:, i, j] for i, j in ((u, u), (u, v), (v, v)))
    mean = sums.total / sums.n[:, None]
    return np.array([about_means(cell, -m[u], -m[v]) for cell, m in zip(raw, mean, strict=True)])


def _with_before(
    wanted: Wanted, lacks: NDArray[np.bool_], n: Ints, mean: Floats, about: Floats
) -> tuple[tuple[str, ...], Floats, Floats]:
    """Columns, means and products, with the KPI before filled in by its mean, and a mark of who had none."""
    columns = (*wanted.parts, *wanted.covariates)
    if wanted.before is None:
        return columns, mean, about
    lacking = lacks
    label = wanted.program.kpi.label
    columns = (*columns, f"{label} before")
    if not lacking.any():
        return columns, mean, about
    known = n * ~lacking
    mean[lacking, -1] = known @ mean[:, -1] / max(float(known.sum()), 1.0)
    about[lacking, -1, :] = about[lacking, :, -1] = 0.0
    mean = np.column_stack([mean, lacking.astype(float)])
    return (*columns, f"no {label} before"), mean, np.pad(about, ((0, 0), (0, 1), (0, 1)))


def _baseline(table: Table, kpi: KpiSums, arms: Arms) -> float:
    """As :attr:`ldlab.Study.baseline`: the control's mean, of a log scale that of the KPI itself."""
    control = kpi.of([0])
    if not control.n:
        return math.nan
    if kpi.is_rate:
        return float(control.mean[0] / control.mean[1])
    if kpi.program.kpi.scale != "log":
        return float(control.mean[0])
    level = table.number_sql(kpi.program.kpi.column, nan=True)
    return float(table.number(f"avg({level})", f"WHERE {arms.control_sql}"))


def _by(table: Table, column: str | None, arms: Arms, *, day: bool) -> pd.DataFrame | None:
    """Units assigned by day or segment (rows) and arm (columns)."""
    if column is None:
        return None
    key = f"CAST(TRY_CAST({quoted(column)} AS TIMESTAMP) AS DATE)" if day else quoted(column)
    where = "WHERE NOT " + arms.keys["key_two_arms"] if arms.keys else ""
    rows = table.select(f"{key} AS key, {quoted(arms.column)} AS arm, count(*) AS n", f"{where} GROUP BY ALL")
    names = pd.to_datetime(rows["key"]).dt.strftime("%Y-%m-%d") if day else as_text(rows["key"])
    counts = rows.assign(key=names.fillna("not recorded"), arm=arms.places(rows["arm"]))
    wide = counts.pivot_table(index="key", columns="arm", values="n", aggfunc="sum", fill_value=0)
    wide = wide.reindex(columns=range(len(arms.codes)), fill_value=0).astype(int)
    return wide.set_axis(list(arms.codes), axis=1).rename_axis(column)


def _notes(kpis: tuple[KpiSums, ...], arms: Arms, program: Program) -> tuple[str, ...]:
    minimum, units = program.analysis.minimum_group_size, program.design.units
    notes = []
    if arms.in_two:
        count = f"{arms.in_two:,}" if arms.in_two >= minimum else f"fewer than {minimum}"
        notes.append(f"{count} {units} left out: found in more than one arm")
    for kpi in kpis:
        without, total = int(kpi.without_before.sum()), int(kpi.n.sum())
        if not without or kpi.role == "primary, not winsorised":
            continue
        count = f"fewer than {minimum} {units}"
        if minimum <= without <= total - minimum:
            count = f"{without:,} of {total:,} {units} ({without / total:.0%})"
        notes.append(
            f"{kpi.program.kpi.label} before is missing for {count}; they stay in, with its mean and a mark of their own"
        )
    return tuple(notes)
