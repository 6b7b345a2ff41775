"""CausalPy's side of a benchmark; run by a Python that has it: ``bench_causalpy.py TABLE``. See tests/bench_bayes.py."""

import json
import sys
import time

import arviz as az
import causalpy as cp
import numpy as np
import pandas as pd
import pymc


def figures(start: float, draws: np.ndarray) -> dict[str, float]:
    """``draws`` are (chain, draw)."""
    taken, ess = time.perf_counter() - start, float(az.ess(draws, method="bulk"))
    return {
        "seconds": taken,
        "ess": ess,
        "effective_draws_per_second": ess / taken,
        "effect": float(draws.mean()),
        "sd": float(draws.std()),
    }


def model() -> cp.pymc_models.LinearRegression:
    kwargs = {"draws": 1000, "tune": 1000, "chains": 4, "cores": 2, "random_seed": 1, "progressbar": False}
    return cp.pymc_models.LinearRegression(sample_kwargs=kwargs)


def coefficient(result: object, name: str) -> np.ndarray:
    beta = result.idata["posterior"]["beta"]  # type: ignore[attr-defined]
    return beta.sel(coeffs=name).isel(treated_units=0).transpose("chain", "draw").values


wide = pd.read_csv(sys.argv[1])
start = time.perf_counter()
ancova = cp.PrePostNEGD(
    wide,
    formula="post ~ 1 + C(group) + pre",
    group_variable_name="group",
    pretreatment_variable_name="pre",
    model=model(),
).fit()
found = {"ancova": figures(start, coefficient(ancova, "C(group)[T.1]"))}

long = wide.melt(["unit", "group"], ["pre", "post"], var_name="when", value_name="y")
long = long.assign(t=(long["when"] == "post").astype(int), post_treatment=long["when"] == "post")
start = time.perf_counter()
did = cp.DifferenceInDifferences(
    long.drop(columns="when"),
    formula="y ~ 1 + group * post_treatment",
    time_variable_name="t",
    group_variable_name="group",
    model=model(),
).fit()
found["did"] = figures(start, coefficient(did, "group:post_treatment[T.True]"))
print(json.dumps({"versions": f"CausalPy {cp.__version__}, PyMC {pymc.__version__}", **found}))
