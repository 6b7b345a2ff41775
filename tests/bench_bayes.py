"""The budgets of the Bayesian estimate: each figure from a process of its own, ratios from one run.

Every ``*_child`` runs in a new process (``python -m tests.bench_bayes NAME``) and prints its figures; the functions
without that ending start them and compare. Seconds depend on the machine and on what else it does; ratios less.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
CAUSALPY = "LDLAB_CAUSALPY_PYTHON"  # a Python that has CausalPy; without it the comparison is not run
ROWS, DEPARTMENTS, SEED = 10_000, 12, 1
TEN_MILLION = 10_000_000
Figures = dict[str, Any]


def child(name: str, *words: str, cold_cache: bool = False) -> Figures:
    """Figures of a new process; ``seconds_in_all`` counts its start and its imports too."""
    with tempfile.TemporaryDirectory() as cache:
        flags = {"PYTENSOR_FLAGS": f"base_compiledir={cache}"} if cold_cache else {}
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench_bayes", name, *words],
            cwd=ROOT, check=True, capture_output=True, text=True, env=os.environ | flags,
        )  # fmt: skip
        taken = time.perf_counter() - start
    return {"seconds_in_all": taken, **json.loads(done.stdout.splitlines()[-1])}


def seconds(action: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = action()
    return time.perf_counter() - start, found


def cpu() -> float:
    """Processor seconds of this process and its finished children: they depend less on who else is computing."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def effective(draws: Any) -> float:
    """Bulk effective sample size of (chain, draw) draws."""
    import arviz as az

    return float(az.ess(np.asarray(draws), method="bulk"))


def helper(module: str) -> Any:
    """A module of the tests, which are not type-checked."""
    return importlib.import_module(f"tests.{module}")


# The row-level PyMC model


def department_study() -> Any:
    """10,000 people in 12 departments whose effects differ, with 5 covariates."""
    from ldlab import simulate

    segments = {f"d{i:02d}": (i - 5.5) / 10 for i in range(DEPARTMENTS)}
    world = simulate.randomised(ROWS, 1.0, segments=segments, covariates=5, seed=SEED)
    return helper("studies").make_study(world.frame.rename(columns={"person": "unit", "treated": "arm"}))


def ours_child() -> Figures:
    from ldlab import bayes

    study = department_study()
    before = cpu()
    cold, posterior = seconds(lambda: bayes.fit(study))
    cpu_cold = cpu() - before
    warm = [seconds(lambda: bayes.fit(study))[0] for _ in range(5)]
    draws = posterior.idata["posterior"]
    return {
        "seconds_cold": cold,
        "seconds_warm": median(warm),
        "cpu_seconds_cold": cpu_cold,
        "cpu_seconds_warm": (cpu() - before - cpu_cold) / len(warm),
        "ess_effect": effective(draws["effect"].values),
        "ess_mean_effect": effective(draws["mean_effect"].values),
        "effect": float(posterior.effect.mean()),
        "sd": float(posterior.effect.std()),
    }


def rows_child(centred: str) -> Figures:
    """The same model with every row in the graph, sampled by PyMC's own sampler.

    Department effects are written as ``mean + spread * unit`` (non-centred, the usual advice), or centred, which suits
    departments of 800 people better.
    """
    import pymc as pm

    from ldlab.bayes.priors import priors_of
    from ldlab.bayes.units import cross_products, units_of

    units = units_of(department_study())
    prior = priors_of(units)
    z = units.z - cross_products(units).z_by_segment[units.segment]

    def sampled() -> Any:
        with pm.Model():
            level = pm.Normal("level", prior.baseline_mean, prior.baseline_sd, shape=units.levels)
            mean = pm.Normal("mean_effect", prior.effect_mean, prior.effect_sd)
            spread = pm.HalfNormal("spread", prior.segment_sd)
            if centred == "centred":
                effect = pm.Normal("segment_effect", mean, spread, shape=units.levels)
            else:
                effect = mean + spread * pm.Normal("unit", 0, 1, shape=units.levels)
            slope = pm.Normal("slope", 0, prior.slope_sd, shape=z.shape[1])
            change = pm.Normal("change", 0, prior.interaction_sd, shape=z.shape[1])
            sigma = pm.Exponential("sigma", 1 / prior.residual_scale, shape=2)
            mu = level[units.segment] + pm.math.dot(z, slope)
            mu = mu + units.arm * (effect[units.segment] + pm.math.dot(z, change))
            pm.Normal("kpi", mu, sigma[units.arm], observed=units.outcome)
            share = np.bincount(units.segment) / len(units.segment)
            pm.Deterministic("effect", pm.math.dot(share, effect))
            return pm.sample(
                1000, tune=1000, chains=4, cores=2, nuts_sampler="pymc", random_seed=SEED, progressbar=False
            )

    before = cpu()
    taken, found = seconds(sampled)
    draws = found["posterior"]
    return {
        "seconds": taken,
        "cpu_seconds": cpu() - before,
        "ess_effect": effective(draws["effect"].values),
        "ess_mean_effect": effective(draws["mean_effect"].values),
        "effect": float(draws["effect"].mean()),
        "sd": float(draws["effect"].std()),
    }


def rows_or_sums() -> Figures:
    """10,000 rows, 12 departments, 5 covariates: how many times sooner 1,000 effective draws of the mean effect come.

    Cold counts compiling on both sides; an empty disk cache is that of a machine on which no model was ever compiled.
    """
    ours = {"empty": child("ours", cold_cache=True), "warm": child("ours")}
    rows = {
        "non-centred rows, empty disk cache": child("rows", "non-centred", cold_cache=True),
        "non-centred rows": child("rows", "non-centred"),
        "centred rows": child("rows", "centred"),
    }
    figures: Figures = {}
    for how, other in rows.items():
        mine = ours["empty" if "empty" in how else "warm"]
        for unit in ("seconds", "cpu_seconds"):
            for name in ("cold", "warm"):
                took = mine[f"{unit}_{name}"] / mine["ess_mean_effect"]
                figures[f"times faster {name} than {how} ({unit})"] = (
                    other[unit] / other["ess_mean_effect"] / took
                )
    named = {f"ldlab, {cache} disk cache": found for cache, found in ours.items()}
    return figures | named | rows


# Ten million rows


def write_people(file: Path, rows: int) -> None:
    """A Parquet file: person, treated, department, kpi, x1 to x5; the effect is 0.5."""
    import duckdb

    normal = "sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())"
    x = ", ".join(f"{normal} AS x{i}" for i in range(1, 6))
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        connection.execute("SELECT setseed(0.5)")
        connection.execute(
            "COPY (SELECT person, treated, department, 50 + 0.5 * treated + x1 + 0.3 * x2 + 2 * noise AS kpi, "
            "x1, x2, x3, x4, x5 FROM (SELECT range AS person, (random() < 0.4)::TINYINT AS treated, "
            f"'department ' || (1 + floor(random() * 12))::INT AS department, {normal} AS noise, {x} "
            f"FROM range({rows}))) TO '{file.as_posix()}' (FORMAT parquet)"
        )


def people_program(project: Path, rows: int) -> Any:
    from ldlab import load_program

    projects = helper("projects")
    projects.make_project(project)
    write_people(project / "data" / "people.parquet", rows)
    columns = {"unit": "person", "treatment": "treated", "segment": "department"}
    columns["covariates"] = [f"x{i}" for i in range(1, 6)]  # type: ignore[assignment]
    amounts = {"target": {"value": 1.0, "unit": "minutes"}, "direction": "increase", "column": "kpi"}
    file = projects.write_program(
        project, kpi=amounts, design={"columns": columns}, data={"source": "data/people.parquet"}
    )
    return load_program(file.relative_to(project), project)


def scan_child(file: str) -> Figures:
    """DuckDB alone, summing the columns that the posterior reads."""
    import duckdb

    columns = ["treated", "strlen(department)", "kpi", *(f"x{i}" for i in range(1, 6))]
    sql = f"SELECT {', '.join(f'sum({column})' for column in columns)} FROM '{file}'"
    with duckdb.connect() as connection:
        times = [seconds(lambda: connection.execute(sql).fetchall())[0] for _ in range(7)]
    return {"seconds": median(times[1:])}


def load_child(project: str, parts: str) -> Figures:
    """Load, and the parts of loading; then the posterior."""
    import ldlab
    from ldlab.data import cross_products as room
    from ldlab.data.read import files_sha256
    from ldlab.data.sums import Table, add_up

    program = ldlab.load_program("params/tickets.yaml", Path(project))
    loads = [seconds(lambda: ldlab.load_cross_products(program)) for _ in range(3)]
    found: Figures = {"load": median(taken for taken, _ in loads)}
    same = [loads[0][1].xx.tobytes() == again.xx.tobytes() for _, again in loads]
    found["same_bits"] = all(same)
    if parts == "parts":
        with room.opened(program) as (table, _):
            keys = {"key_arm": "treated", "key_segment": "department", "key_status": "0"}
            columns = ["CAST(kpi AS DOUBLE)", *(f"CAST(x{i} AS DOUBLE)" for i in range(1, 6))]
            found["sums"] = median(seconds(lambda: add_up(table, keys, columns))[0] for _ in range(5))
            found["repeated_ids"] = median(
                seconds(lambda: Table.repeated(table, "person"))[0] for _ in range(3)
            )
        file = Path(project) / "data" / "people.parquet"
        found["sha256"] = median(seconds(lambda: files_sha256([file]))[0] for _ in range(3))
        found["peak_mb_loading"] = peak()
        found["fit_cold"], _ = seconds(lambda: ldlab.bayes.fit(loads[0][1]))
        found["fit_warm"], posterior = seconds(lambda: ldlab.bayes.fit(loads[0][1]))
        found |= {"effect": float(posterior.effect.mean()), "sd": float(posterior.effect.std())}
        found["peak_mb"] = peak()
    return found


def peak() -> float:
    """Largest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def ten_million_rows() -> Figures:
    """A Parquet file of 10 million rows against a plain scan, and against the same on 10,000 rows (the constant)."""
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small", Path(folder) / "large"
        people_program(small, ROWS)
        people_program(large, TEN_MILLION)
        file = (large / "data" / "people.parquet").as_posix()
        before = child("scan", file)["seconds"]
        constant = child("load", small.as_posix(), "no")["load"]
        found = child("load", large.as_posix(), "parts")
        after = child("scan", file)["seconds"]
    scan = (before + after) / 2
    return {
        "sums_to_scan": found["sums"] / scan,
        "load_less_constant_to_scan": (found["load"] - constant) / scan,
        "without_ids_and_hash_to_scan": (found["load"] - constant - found["repeated_ids"] - found["sha256"])
        / scan,
        "scan_before": before,
        "scan_after": after,
        "constant": constant,
        **found,
    }


# A further program in the same process


def further_child() -> Figures:
    import ldlab
    from ldlab import bayes

    def whole(name: str) -> float:
        program = ldlab.load_program(f"params/{name}.yaml", ROOT)
        return seconds(lambda: bayes.fit(ldlab.load_study(program)))[0]

    figures = {"first_nsw_cps": whole("nsw-cps"), "further_nsw": whole("nsw")}
    study = department_study()
    figures["further_12_departments_5_covariates"] = seconds(lambda: bayes.fit(study))[0]
    few = study.__class__(**{**vars(study), "covariates": ("x1",)})
    figures["other_size_1_covariate"] = seconds(lambda: bayes.fit(few))[0]
    figures["further_1_covariate"] = seconds(lambda: bayes.fit(few))[0]
    return figures


def further_program() -> Figures:
    """Seconds from file to posterior, one program after another in one process."""
    return child("further")


# CausalPy


def two_periods() -> pd.DataFrame:
    """1,000 people before and after; the effect is 1."""
    rng, n = np.random.default_rng(SEED), 1000
    group, person = np.arange(n) % 2, rng.normal(size=n)
    pre, post = (10 + person + rng.normal(size=n) for _ in range(2))
    return pd.DataFrame({"unit": np.arange(n), "group": group, "pre": pre, "post": post + group})


def causalpy_ours_child() -> Figures:
    from ldlab import bayes

    wide = two_periods()
    ancova = helper("studies").make_study(
        wide.rename(columns={"group": "arm", "post": "outcome"})[["unit", "arm", "outcome", "pre"]]
    )
    long = wide.melt(["unit", "group"], ["pre", "post"], var_name="when", value_name="outcome")
    long = long.assign(unit=long["unit"].astype(str), period=(long["when"] == "post").astype(int))
    long["start"] = np.where(long["group"] == 1, 1.0, np.nan)
    did = helper("studies").make_study(
        long[["unit", "period", "start", "outcome"]], "two_group_before_after", covariates=()
    )
    figures: Figures = {}
    for name, study in (("ancova", ancova), ("did", did)):
        cold, posterior = seconds(partial(bayes.fit, study))
        warm = seconds(partial(bayes.fit, study))[0]
        ess = effective(posterior.idata["posterior"]["effect"].values)
        figures[name] = {
            "seconds_cold": cold, "seconds_warm": warm, "ess": ess, "effective_draws_per_second_cold": ess / cold,
            "effective_draws_per_second_warm": ess / warm, "effect": float(posterior.effect.mean()),
            "sd": float(posterior.effect.std()),
        }  # fmt: skip
    return figures


def beside_causalpy() -> Figures:
    """CausalPy's ANCOVA and difference-in-differences on the same people, where it is installed."""
    python = os.environ.get(CAUSALPY)
    if not python:
        return {"not_run": f"set {CAUSALPY} to a Python that has CausalPy"}
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.csv"
        two_periods().to_csv(table, index=False)
        done = subprocess.run(
            [python, "-W", "ignore", str(ROOT / "tests" / "bench_causalpy.py"), str(table)],
            cwd=folder, check=True, capture_output=True, text=True,
        )  # fmt: skip
    return {"ldlab": child("causalpy_ours"), "causalpy": json.loads(done.stdout.splitlines()[-1])}


CHILDREN: dict[str, Callable[..., Figures]] = {
    "ours": ours_child,
    "rows": rows_child,
    "scan": scan_child,
    "load": load_child,
    "further": further_child,
    "causalpy_ours": causalpy_ours_child,
}

if __name__ == "__main__":
    print(json.dumps(CHILDREN[sys.argv[1]](*sys.argv[2:])))
