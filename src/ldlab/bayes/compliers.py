"""The effect on compliers by principal strata: the Bayesian counterpart of the instrumental variable.

People are of three kinds, whatever they are offered: some never come, some always come, and compliers come if they are
offered. What is seen are four cells: offered or not by came or not. Those who came unoffered always come, those who were
offered and stayed away never come; the other two cells mix one of these with compliers. So the counts of the first two
are binomial in the kinds' shares, and the mean KPI of each cell is normal around the mean of its kinds, weighted by their
shares. Compliers who are offered are ``effect`` above compliers who are not; nobody else's mean depends on the offer. A
cell's sum of squares around its mean is its variance times a chi-square.

Only counts, means and sums of squares of the cells are used: the cost does not depend on the number of rows, and the
answer does not lean on the shape of the KPI's distribution, as the mixtures of Imbens & Rubin (1997, Annals of Statistics
25) do. It rests on the same assumptions: no defiers, and no effect of the offer but through attendance (Frangakis & Rubin
2002, Biometrics 58). Means of cells are normal by the central limit theorem; for a binary KPI they are shares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import xarray as xr

from ldlab.bayes.checks import convergence_checks
from ldlab.bayes.compiled import Data, Sampling, Shape, sample
from ldlab.bayes.priors import Priors, priors_for
from ldlab.bayes.units import Floats
from ldlab.estimate import Check, Estimate, Printed, format_number
from ldlab.program import Study

METHOD = "Bayesian principal strata"
LEAST_OF_EACH = 5  # a share is about normal from 5 with and 5 without on
NAME = "effect on those who came"
KINDS = ("never", "always", "compliers")
CELLS = ("not offered, stayed away", "not offered, came", "offered, stayed away", "offered, came")


@dataclass(frozen=True, eq=False, repr=False)
class ComplierPosterior(Printed):
    """Draws from the posterior of :func:`complier_effect`.

    Attributes
    ----------
    study, priors
        The study; its priors, in KPI units, of which the effect's, the comparison mean's and the residual's are used.
    idata
        xarray DataTree with the groups ``posterior`` and ``sample_stats``; it holds no data of single units. ``effect``
        is that on compliers, ``share`` (kind) sums to 1, ``sigma`` (cell) are the sds of the cells.
    """

    study: Study
    priors: Priors
    idata: xr.DataTree

    @property
    def effect(self) -> Floats:
        """(chains x draws,) the average effect of attending on compliers, in effect units."""
        return np.asarray(self.idata["posterior"]["effect"].values).ravel()

    @property
    def compliers(self) -> Floats:
        """(chains x draws,) the share of compliers, 0 to 1."""
        return np.asarray(self.idata["posterior"]["share"].sel(kind="compliers").values).ravel()

    def _rows(self) -> list[tuple[str, str]]:
        """What was sampled; the effect waits until convergence was looked at."""
        sizes, level = self.idata["posterior"].sizes, self.study.program.level
        low, high = 100 * np.quantile(self.compliers, [(1 - level) / 2, (1 + level) / 2])
        share = f"{format_number(100 * self.compliers.mean(), 0)}% ({format_number(low, 0)} to {format_number(high, 0)}%)"
        return [
            ("model", f"{METHOD}: those who never come, always come, come if offered (compliers)"),
            ("compliers", share),
            (
                "what has to hold",
                "nobody stays away because of the offer; the offer works through attendance alone",
            ),
            ("draws", f"{sizes['chain']} chains of {sizes['draw']:,}"),
        ]


@dataclass(frozen=True)
class Cells:
    """Sums of the four cells, index (offered, came): (2, 2) units, mean KPI, sum of squares around that mean."""

    n: Floats
    mean: Floats
    squares: Floats


def complier_effect(study: Study, *, sampling: Sampling | None = None) -> ComplierPosterior | None:
    """Sample the complier average causal effect (CACE): what attending did to those whom the offer brought.

    Parameters
    ----------
    study : Study
        A randomised cross-section, one row per unit: ``arm`` offered, ``treated`` attended.
    sampling : Sampling, optional
        As in :func:`ldlab.bayes.fit`.

    Returns
    -------
    ComplierPosterior or None
        Priors: every division into kinds is equally likely; the effect as in :func:`ldlab.bayes.priors`; means of the
        kinds Normal around the comparison mean with 2.5 sds of the KPI; sds of the cells within a factor of e of the
        KPI's two times in three. A kind of which nobody was seen does not exist. Covariates are not used.
        None where nobody deviated from the offer, and where :func:`complier_check` says why not.
    """
    if not some_deviate(study) or why_not(study):
        return None
    rows = study.frame
    comparison = rows.loc[rows["arm"] == 0, "outcome"]
    prior = priors_for(study, "gaussian", float(comparison.mean()), float(comparison.std()))
    cells, seed = cells_of(rows), study.program.analysis.seed
    sampled = sample(build, Shape(), data_of(cells, prior), seed=seed, sampling=sampling or Sampling())
    groups = {
        "posterior": _named(sampled["posterior"].to_dataset(), cells, prior.residual_scale),
        "sample_stats": sampled["sample_stats"].to_dataset(),
    }
    return ComplierPosterior(study, prior, xr.DataTree.from_dict(groups))


def _named(draws: xr.Dataset, cells: Cells, sd: float) -> xr.Dataset:
    """What is kept of a posterior, in KPI units: the kinds and cells that exist, under their names."""
    kept = xr.Dataset(
        {
            "effect": (("chain", "draw"), sd * draws["effect"].values),
            "share": (("chain", "draw", "kind"), draws["share"].values),
            "sigma": (("chain", "draw", "cell"), sd * np.exp(draws["log_sigma"].values)),
        },
        coords={"kind": list(KINDS), "cell": list(CELLS)},
    )
    exist = np.array([cells.n[1, 0] > 0, cells.n[0, 1] > 0, True])
    return kept.isel(kind=np.flatnonzero(exist), cell=np.flatnonzero(cells.n.ravel() > 0))


def complier_estimate(posterior: ComplierPosterior | None) -> Estimate | None:
    """The effect on compliers as an :class:`ldlab.Estimate`; None without a posterior, or where it did not converge."""
    if posterior is None or not _converged(posterior):
        return None
    study = posterior.study
    return Estimate.from_draws(
        posterior.effect,
        method=METHOD,
        estimand="CACE",
        se_kind="posterior sd",
        n=study.count(),
        **study.measure(),
    )


def complier_check(study: Study, posterior: ComplierPosterior | None) -> Check | None:
    """Whether the effect on compliers could be modelled, and the sampler converged; None where nobody deviated.

    It stands beside the effect of the offer, which leads, and can neither break that nor lower its grade.
    """
    if not some_deviate(study):
        return None
    reason = why_not(study)
    if reason or posterior is None:
        reason = reason or "it was not sampled"
        return Check(name=NAME, status="not_run", sentence=f"No Bayesian effect on those who came: {reason}.")
    failed = [check for check in convergence_checks(cast(Any, posterior)) if check.status == "failed"]
    if failed:
        return Check(
            name=NAME, status="failed", sentence=f"No Bayesian effect on those who came: {failed[0].sentence}"
        )
    return Check(
        name=NAME,
        status="passed",
        sentence="The model of those who come only if they are offered was sampled without trouble. That the offer works "
        "through attendance alone cannot be tested.",
        power="whether the computation can be trusted; not whether its assumptions hold",
    )


def _converged(posterior: ComplierPosterior) -> bool:
    return all(check.status == "passed" for check in convergence_checks(cast(Any, posterior)))


def some_deviate(study: Study) -> bool:
    """Whether the program names an offer and attendance, and someone did not do as assigned."""
    columns = study.program.design.columns
    if columns.assignment is None or columns.treatment is None:
        return False
    return bool((study.frame["arm"] != study.frame["treated"]).any())


def why_not(study: Study) -> str:
    """Why the effect on compliers is not modelled; empty where it is.

    Beside the effect of the offer that on compliers gives away how many came, so no group may be small.
    """
    rows, design = study.frame, study.program.design
    minimum = study.program.analysis.minimum_group_size
    if "cluster" in rows and rows["cluster"].nunique() < len(rows):
        return (
            f"{design.units} share their {design.columns.cluster}, which the model does not know; the instrumental "
            "variable with clustered errors stands alone"
        )
    if "censored" in rows:
        return "some durations were still running, so the groups have no means"
    n = cells_of(rows).n
    if n.sum(axis=1).min() < minimum or ((n > 0) & (n < minimum)).any():
        return f"one of the groups (offered or not, came or not) has fewer than {minimum} {design.units}"
    if n[1, 1] - n[1].sum() * n[0, 1] / n[0].sum() < minimum:
        return f"the offer brought fewer than {minimum} {design.units}"
    if study.program.kpi.value_type == "binary":
        few = (rows["outcome"] > 0).groupby([rows["arm"], rows["treated"]]).agg(["sum", "size"])
        if np.minimum(few["sum"], few["size"] - few["sum"]).min() < LEAST_OF_EACH:
            return f"in one of the groups too few {design.units} have, or lack, the KPI for its share to be about normal"
    if not (cells_of(rows).squares[n > 0] > 0).all():
        return "in one of the groups the KPI has one value only"
    return ""


def cells_of(rows: pd.DataFrame) -> Cells:
    """The four cells' counts, means and sums of squares; an empty cell has zeros."""
    groups = rows.astype({"outcome": float}).groupby(["arm", "treated"])["outcome"]
    every = pd.MultiIndex.from_product([[0, 1], [0, 1]])
    n, mean, variance = (
        groups.agg(what).reindex(every).fillna(0.0).to_numpy(dtype=float).reshape(2, 2)
        for what in ("size", "mean", "var")
    )
    return Cells(n, mean, variance * np.maximum(n - 1, 0))


def build(shape: Shape) -> pm.Model:
    """The model in sds of the comparison arm from its mean; cells in the order of CELLS, empty ones left out.

    The mean of each cell is a parameter, and what follows from it is computed: they are nearly independent given the
    data. Normal means of kinds, mixed with known weights, are normal, so this is the prior that the module states.
    """
    with pm.Model() as model:
        spread, effect_mean, effect_sd, some_never, some_always = (
            pm.Data(name, 1.0) for name in ("spread", "effect_mean", "effect_sd", "some_never", "some_always")
        )
        # Uniform over the divisions into kinds: Dirichlet(1, 1, 1) by stick-breaking, without the kinds nobody is of.
        always = some_always * pm.Beta("always", 1, 1 + some_never)
        never = some_never * (1 - always) * pm.Beta("never_of_rest", 1, 1)
        comply = pm.Deterministic("share", pt.stack([never, always, 1 - always - never]))[2]
        level = pm.Normal("level", 0, spread, shape=2)
        stayed = comply / (never + comply)
        stay = pm.Normal("stay", (1 - stayed) * level[0], stayed * spread)
        untrained = pm.Deterministic("untrained", (stay - (1 - stayed) * level[0]) / stayed)
        came = comply / (always + comply)
        come = pm.Normal("come", (1 - came) * level[1] + came * (untrained + effect_mean), came * effect_sd)
        pm.Deterministic("effect", (come - (1 - came) * level[1]) / came - untrained)
        expected = pt.stack([stay, level[1], level[0], come])

        sigma = pt.exp(pm.Normal("log_sigma", 0, 1, shape=4))
        seen, n = pm.Data("seen", np.arange(2)), pm.Data("n", np.full(2, 2.0))
        means, squares = pm.Data("means", np.zeros(2)), pm.Data("squares", np.ones(2))
        pm.Normal("cell_mean", expected[seen], sigma[seen] / pt.sqrt(n), observed=means)
        pm.Gamma("cell_squares", (n - 1) / 2, 1 / (2 * sigma[seen] ** 2), observed=squares)
        share = pt.stack([never, always])[pm.Data("deviating", np.arange(1))]
        of, deviated = (pm.Data(name, np.ones(1, dtype=np.int64)) for name in ("of", "deviated_data"))
        pm.Binomial("deviated", of, share, observed=deviated)
    return model


def data_of(cells: Cells, prior: Priors) -> Data:
    """What :func:`build` reads."""
    n, sd = cells.n.ravel(), prior.residual_scale
    seen = np.flatnonzero(n > 0)
    deviated, of = np.array([cells.n[1, 0], cells.n[0, 1]]), cells.n.sum(axis=1)[::-1]
    some = np.flatnonzero(deviated > 0)
    return {
        "spread": prior.baseline_sd / sd,
        "effect_mean": prior.effect_mean / sd,
        "effect_sd": prior.effect_sd / sd,
        "some_never": float(deviated[0] > 0),
        "some_always": float(deviated[1] > 0),
        "seen": seen,
        "n": n[seen],
        "means": (cells.mean.ravel()[seen] - prior.baseline_mean) / sd,
        "squares": cells.squares.ravel()[seen] / sd**2,
        "deviating": some,
        "of": of[some].astype(np.int64),
        "deviated_data": deviated[some].astype(np.int64),
    }
