"""Simulation-based calibration of every Bayesian model: ranks, coverage, false alarms. ``make calibrate``.

Each world's parameters come from the prior, its data from the model, so the true value has to be equally likely at
every rank among the posterior's draws (Talts et al. 2018), a 90% interval has to hold it in 90% of worlds, and a claim
that is made at a chance of 9 in 10 has to be right 9 times in 10. Then worlds in which the effect is exactly 0: how
often is something said to have moved? An interrupted run goes on where it stopped.
"""

import argparse
import ast
import csv
import hashlib
import multiprocessing as mp
import os
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas
from scipy import stats

from ldlab.estimate import Check, Estimate
from ldlab.plots.figure import ACCENT, DPI, PALE, SOFT, WIDTH, Figure, finished, style
from ldlab.report.claim import verdict
from tests.ranks import RANKS, band, difference, p_uniform, rank
from tests.worlds import FAMILIES, Family, posterior_of, world_of

ROOT = Path(__file__).resolve().parent.parent
ROWS = ROOT / "outputs" / "calibration"
TABLE, FIGURE = ROOT / "data" / "calibration.csv", ROOT / "outputs" / "readme"
MODEL = ["compiled", "compliers", "families", "gaussian", "posterior", "predictor", "priors", "units"]
LEVELS = (0.5, 0.9)
RANKS_UNIFORM = "p value of uniform ranks"
VERDICTS = ("target met", "moved, below target", "wrong way")
NOMINAL = {"target met": 0.05, "moved, below target": 0.05, "wrong way": 0.05, "any of the three": 0.1}
PASSED = Check(name="all", status="passed", sentence="Every check passed.", needed=True, breaks=True)


def code_version() -> str:
    """Hash of what the models and the worlds say; comments and docstrings do not change it."""
    files = [ROOT / "src" / "ldlab" / "bayes" / f"{name}.py" for name in MODEL] + [
        ROOT / "tests" / "worlds.py"
    ]
    return hashlib.sha256("\n".join(map(_statements, files)).encode()).hexdigest()[:10]


def _statements(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body[0] = ast.Pass()
    return ast.dump(tree)


# One world


def row_of(family: Family, number: int, *, null: bool) -> dict[str, Any]:
    """What is kept of one world: ranks, whether intervals hold the truth, the verdict."""
    started = time.perf_counter()
    world = world_of(family, number, null=null)
    draws = posterior_of(world, family)
    row: dict[str, Any] = {"world": number, "null": int(null), "refused": int(draws is None)}
    if draws is None:
        return row
    for name, truth in world.truth.items():
        row[f"rank: {name}"] = rank(draws[name], truth)
        for level in LEVELS:
            low, high = np.quantile(draws[name], [(1 - level) / 2, (1 + level) / 2])
            row[f"in {level:.0%}: {name}"] = int(low <= truth <= high)
    estimate = Estimate.from_draws(
        draws["effect"],
        method="",
        estimand=world.study.estimand,
        se_kind="posterior sd",
        n={},
        **world.study.measure(),
    )
    true = world.truth["effect"]
    row |= {"truth": true, "estimate": estimate.value, "se": estimate.se}
    row |= {"p_gain": estimate.p_gain, "p_target": estimate.p_target}
    row |= {"gain": int(true > 0), "target": int(true >= estimate.target)}
    return row | {
        "verdict": verdict(estimate, [PASSED], world.study),
        "seconds": time.perf_counter() - started,
    }


# The table


def summary(family: Family, rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each measure: value, its Monte Carlo error, and what it should be."""
    kept = rows[rows["refused"] == 0]
    prior, null = (kept[kept["null"] == flag] for flag in (0, 1))
    names = [str(name).removeprefix("rank: ") for name in rows if str(name).startswith("rank: ")]
    found: list[dict[str, Any]] = []
    for name in names:
        p = p_uniform(prior[f"rank: {name}"])
        found.append(_measured("prior", RANKS_UNIFORM, name) | {"n": len(prior), "value": p})
    for level in LEVELS:
        held = f"in {level:.0%}: "
        what = f"coverage {level:.0%}"
        found += [
            _measured("prior", what, name) | _share(prior[held + name], "equal", level) for name in names
        ]
        found.append(_measured("null", what, "effect") | _share(null[f"{held}effect"], "at least", level))
    for word, most in NOMINAL.items():
        said = null["verdict"].isin(VERDICTS) if word == "any of the three" else null["verdict"] == word
        found.append(_measured("null", "false alarm", word) | _share(said, "at most", most))
    for word, wrong, chance in _mistakes(prior):
        said = prior["verdict"] == word
        expected = float(chance[said].mean())
        found.append(_measured("prior", "said and wrong", word) | _share(wrong[said], "equal", expected))
    refused = {"n": len(rows), "value": float(rows["refused"].mean())}
    found.append(_measured("both", "fits refused", "") | refused)
    return pd.DataFrame([{"family": family.name, **row} for row in found])


def _mistakes(prior: pd.DataFrame) -> list[tuple[str, pd.Series, pd.Series]]:
    """Each verdict, in which worlds it would be wrong, and the posterior's own chance of that."""
    return [
        ("target met", 1 - prior["target"], 1 - prior["p_target"]),
        ("moved, below target", 1 - prior["gain"], 1 - prior["p_gain"]),
        ("wrong way", prior["gain"], prior["p_gain"]),
    ]


def _measured(worlds: str, measure: str, of: str) -> dict[str, Any]:
    return {"worlds": worlds, "measure": measure, "of": of}


def _share(values: pd.Series, bound: str, nominal: float) -> dict[str, Any]:
    """A share; its error is the binomial one at the nominal share, which is not 0 where nothing was seen."""
    n, share = len(values), float(values.mean()) if len(values) else float("nan")
    error = float(np.sqrt(nominal * (1 - nominal) / n)) if n else float("nan")
    return {"n": n, "value": share, "mc_error": error, "should": bound, "nominal": nominal}


def missed(table: pd.DataFrame) -> pd.DataFrame:
    """Rows that are not what they should be, at 5% for all families and measures together (Bonferroni).

    Families that take their prior from the data are looked at, not held to it.
    """
    held = table[~table["family"].map(lambda name: FAMILIES[name].prior_from_data)]
    ranks = held[held["measure"] == RANKS_UNIFORM]
    shares = held[held["should"].notna() & (held["n"] > 0)]
    each = 0.05 / (len(ranks) + len(shares))
    hits, nominal = (shares["value"] * shares["n"]).round(), shares["nominal"]
    low, high = stats.binom.cdf(hits, shares["n"], nominal), stats.binom.sf(hits - 1, shares["n"], nominal)
    p = np.select(
        [shares["should"] == "at most", shares["should"] == "at least"],
        [high, low],
        2 * np.minimum(low, high),
    )
    return pd.concat([ranks[ranks["value"] < each], shares[p < each]])


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table as the README has it: one line for each family."""
    lines = []
    for name, rows in table.groupby("family", sort=False):
        ranks = rows[rows["measure"] == RANKS_UNIFORM]
        line = {
            "family": str(name),
            "smallest p of uniform ranks": f"{ranks['value'].min():.2f} of {len(ranks)}",
        }
        for kind in ("prior", "null"):
            for level in LEVELS:
                cell = _cell(rows, kind, f"coverage {level:.0%}", "effect")
                line[f"{kind} worlds"] = f"{cell['n']:,}"
                line[f"{kind}: in {level:.0%}"] = _percent(cell)
        line |= {f"null: {word}": _percent(_cell(rows, "null", "false alarm", word)) for word in NOMINAL}
        lines.append(line)
    return pd.DataFrame(lines)


def _cell(rows: pd.DataFrame, worlds: str, measure: str, of: str) -> dict[str, Any]:
    found = rows[(rows["worlds"] == worlds) & (rows["measure"] == measure) & (rows["of"] == of)]
    return dict(found.iloc[0])


def _percent(cell: dict[str, Any]) -> str:
    return f"{100 * cell['value']:.1f}% ± {100 * cell['mc_error']:.1f}" if cell["n"] else ""


# The figure


def figure(rows: dict[str, pd.DataFrame], table: pd.DataFrame) -> Figure:
    """ECDF of the ranks less the uniform one, for each family, with its 95% simultaneous band."""
    names = [name for name in rows if not FAMILIES[name].prior_from_data]
    columns, share = 5, np.arange(1, RANKS) / RANKS
    with style():
        lines = -(-len(names) // columns)
        canvas = Canvas(figsize=(WIDTH, 0.9 + 1.55 * lines), dpi=DPI, layout="constrained")
        panels = canvas.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, name in zip(panels, names, strict=False):
            prior = rows[name][(rows[name]["null"] == 0) & (rows[name]["refused"] == 0)]
            low, high = band(len(prior))
            axes.fill_between(share, low, high, color="#eef1f4", step="mid")
            for column in reversed([column for column in prior if str(column).startswith("rank: ")]):
                lead = column == "rank: effect"
                axes.plot(share, difference(prior[column]), color=ACCENT if lead else PALE, linewidth=1.5 if lead else 0.8,
                          label="effect" if lead else "other parameters")  # fmt: skip
            axes.axhline(0, color=SOFT, linewidth=0.6)
            axes.set_title(name, fontsize=8, loc="left")
            axes.tick_params(labelsize=7.5)
            axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
        for axes in panels[len(names) :]:
            axes.set_axis_off()
        handles, labels = panels[0].get_legend_handles_labels()
        canvas.legend(
            handles[-2:][::-1],
            labels[-2:][::-1],
            frameon=False,
            fontsize=8,
            ncols=2,
            loc="outside lower right",
        )
        canvas.supxlabel(
            "rank of the true value among posterior draws (share)", fontsize=8.5, color=SOFT, x=0.35
        )
        canvas.supylabel("ECDF of ranks less uniform", fontsize=8.5, color=SOFT)
        title = claim(table, names)
        return finished(canvas, "calibration", title, f"{title}. One panel for each of {len(names)} kinds of model: "
                        "ECDF of ranks less the uniform one, with its 95% simultaneous band.")  # fmt: skip


def claim(table: pd.DataFrame, names: list[str]) -> str:
    """The figure's title: in how many kinds of model nothing was missed, and how often 90% intervals hold the truth."""
    held = table[table["family"].isin(names)]
    faults = set(missed(held).query("measure == @RANKS_UNIFORM")["family"])
    covered = 100 * held.query("worlds == 'prior' and measure == 'coverage 90%' and of == 'effect'")["value"]
    right = len(names) - len(faults)
    count = f"all {right}" if not faults else f"{right} of {len(names)}"
    return (
        f"True values are where the posterior expects them in {count} kinds of model; "
        f"90% intervals hold the true effect in {covered.min():.0f} to {covered.max():.0f}% of worlds"
    )


# The run


def wanted(family: Family, share: float) -> list[tuple[bool, int]]:
    """Worlds from the prior, and null worlds, in turn."""
    counts = (round(share * family.worlds), round(share * family.nulls))
    both = [(null, number) for null in (False, True) for number in range(counts[null])]
    return sorted(both, key=lambda item: (item[1] / counts[item[0]], item[0]))


def path_of(folder: Path, name: str) -> Path:
    return folder / f"{name.replace(', ', '-').replace(' ', '-')}.csv"


def rows_of(folder: Path, name: str) -> pd.DataFrame:
    """The worlds of a family that were done; each once."""
    path = path_of(folder, name)
    if not path.exists():
        return pd.DataFrame({"null": [], "world": []}, dtype=int)
    return pd.read_csv(path).drop_duplicates(["null", "world"])


def run_family(folder: Path, name: str, share: float) -> None:
    """Do what is still to be done of a family, and append each world's row; one writer for each file."""
    family, path = FAMILIES[name], path_of(folder, name)
    rows = rows_of(folder, name)
    done = set(zip(rows["null"] == 1, rows["world"], strict=True))
    columns = list(rows.columns) if path.exists() else []
    for null, number in wanted(family, share):
        if (null, number) in done:
            continue
        row = row_of(family, number, null=null)
        if not columns and row["refused"]:
            continue
        columns = columns or list(row)
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)


def progress(folder: Path, names: list[str], share: float, running: set[Future[None]]) -> Iterator[str]:
    """A line for as long as something runs: worlds done of each family that has begun and is not complete."""
    while running:
        running = wait(running, timeout=5).not_done
        counts = {name: len(rows_of(folder, name)) for name in names}
        totals = {name: len(wanted(FAMILIES[name], share)) for name in names}
        now = [
            f"{name} {counts[name]:,}/{totals[name]:,}" for name in names if 0 < counts[name] < totals[name]
        ]
        yield f"{sum(counts.values()):,} of {sum(totals.values()):,} worlds" + (
            f" ({'; '.join(now)})" if now else ""
        )


def run(folder: Path, names: list[str], share: float, jobs: int) -> None:
    """Each family in a process of its own: its model is compiled once."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with ProcessPoolExecutor(jobs, mp_context=mp.get_context("spawn")) as pool:
        futures = {pool.submit(run_family, folder, name, share) for name in names}
        last = time.monotonic()
        for line in progress(folder, names, share, futures):
            if sys.stdout.isatty():
                print(f"\r\033[K{line}", end="", flush=True)
            elif time.monotonic() - last > 60:
                print(line, flush=True)
                last = time.monotonic()
    print()
    for future in futures:
        future.result()


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Calibrate every Bayesian model on worlds from its own prior."
    )
    parser.add_argument(
        "families", nargs="*", metavar="FAMILY", help=f"all, unless some of: {'; '.join(FAMILIES)}"
    )
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the worlds to draw, such as 0.1 for a first look"
    )
    parser.add_argument("--fresh", action="store_true", help="forget the worlds that an earlier run has done")
    asked = parser.parse_args()
    if unknown := set(asked.families) - set(FAMILIES):
        parser.error(f"no family {', '.join(sorted(unknown))}; there are: {'; '.join(FAMILIES)}")
    names = [name for name in FAMILIES if not asked.families or name in asked.families]
    folder = ROWS / code_version()
    if asked.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    run(folder, names, asked.share, asked.jobs)
    rows = {name: rows_of(folder, name) for name in names}
    table = pd.concat([summary(FAMILIES[name], rows[name]) for name in names], ignore_index=True)
    print(shown(table).to_string(index=False))
    faults = missed(table)
    print(
        "\nNot as it should be:\n" + faults.to_string(index=False)
        if len(faults)
        else "\nAll as it should be."
    )
    if asked.families or asked.share < 1:
        print("The committed table and figure are written by a run of all families at full size.")
        return
    table.to_csv(TABLE, index=False, float_format="%.4f", lineterminator="\n")
    written = figure(rows, table).save(FIGURE)
    print(f"Written to {TABLE.relative_to(ROOT)} and {written.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
