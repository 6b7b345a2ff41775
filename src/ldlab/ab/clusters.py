"""Whole clusters drawn by lot: the estimate, and an error that its number of clusters allows."""

from __future__ import annotations

import math
from typing import Any, Literal

import pandas as pd

from ldlab.ab.blocks import compare, drawn_of, rows_for, strata_of
from ldlab.ab.lots import Reference, log_ways
from ldlab.ab.permutation import reference_of, whole_clusters
from ldlab.estimate import Estimate, Noun, Printed, format_number
from ldlab.program import LdlabError, Study

Rule = Literal["CR2", "permutation", "none"]

DIFFERENCE = "difference in means"
ADJUSTED = "regression-adjusted difference"
ANCOVA = "regression-adjusted difference, common slopes"
FEWEST = 2  # clusters in the smaller arm, below which nothing can be inferred
FEW = 5  # below which the permutation leads, as for panels (ldlab.did.plan_inference)


class Clusters(Printed, Noun):
    """The clusters of an experiment, by which rule its error is made, and what else the clusters could be asked.

    Attributes
    ----------
    rule
        'CR2': bias-corrected cluster-robust errors, t with Satterthwaite's degrees of freedom. 'permutation': lots
        dealt anew. 'none': no interval can be given.
    whole
        Whether whole clusters were drawn; else units were, and clusters share errors.
    treated, comparison
        Clusters with trained, and with comparison, units.
    mean_size, sd_size
        Units in a cluster.
    df
        Satterthwaite's degrees of freedom of the difference; None by another rule.
    of_units, of_clusters
        Difference of the arms' means, every unit counting alike (it leads), and every cluster; the latter None where
        clusters were not drawn whole, sizes are alike, or the rule is another.
    why, sentence
        The rule and its reason; which of the two estimands is used and whether they differ.
    """

    rule: Rule
    whole: bool
    treated: int
    comparison: int
    mean_size: float
    sd_size: float
    df: float | None = None
    of_units: Estimate
    of_clusters: Estimate | None = None
    why: str
    sentence: str

    def _rows(self) -> list[tuple[str, str]]:
        rows = [
            (f"errors: {self.rule}", self.why),
            ("units in a cluster", f"{self.mean_size:.1f} on average, sd {self.sd_size:.1f}"),
        ]
        for name, e in (
            ("every unit alike (leads)", self.of_units),
            ("every cluster alike", self.of_clusters),
        ):
            if e is not None:
                rows.append((name, f"{e.format(e.value, sign=True)} {e.shown_unit}, {e.interval_text()}"))
        return [*rows, ("in words", self.sentence)]


def clusters(study: Study) -> Clusters | None:
    """Describe the clusters of an experiment, and say how its errors are made; None where none is named.

    Raises
    ------
    LdlabError
        As :func:`assigned_difference`.
    """
    rows = rows_for(study, adjusted=False)
    if "cluster" not in rows:
        return None
    rule, sizes = rule_of(study, rows), rows.groupby("cluster").size()
    by_arm = rows.groupby("arm")["cluster"].nunique().reindex([0, 1], fill_value=0)
    of_units = assigned_difference(study)
    whole = whole_clusters(rows)
    alike = not whole or rule != "CR2" or sizes.nunique() == 1
    of_clusters = None if alike else _every_cluster_alike(study, rows)
    return Clusters(
        rule=rule,
        whole=whole,
        treated=int(by_arm[1]),
        comparison=int(by_arm[0]),
        mean_size=float(sizes.mean()),
        sd_size=float(sizes.std(ddof=0)),
        df=of_units.df if rule == "CR2" else None,
        of_units=of_units,
        of_clusters=of_clusters,
        why=_why(study, rule, int(by_arm[1]), int(by_arm[0]), of_units.df, whole=whole),
        sentence=_estimands(study, of_units, of_clusters, whole=whole),
    )


def rule_of(study: Study, rows: pd.DataFrame) -> Rule:
    """How to infer, from the numbers of clusters alone, so that no result can choose it.

    By the smaller number of clusters of the two arms: five or more, CR2; two to four, permutation of what was drawn;
    one, or fewer than 2 / (1 - level) ways in which lots could have fallen, nothing. Where clusters share errors but
    units were drawn, the permutation deals units anew.
    """
    smaller = int(rows.groupby("arm")["cluster"].nunique().reindex([0, 1], fill_value=0).min())
    if smaller >= FEW:
        return "CR2"
    whole = whole_clusters(rows)
    if whole and smaller < FEWEST:
        return "none"
    drawn = drawn_of(study, rows, rows["arm"].to_numpy(), ())
    strata = strata_of(drawn)
    if not strata.kept.any():
        return "none"
    each = pd.DataFrame({"arm": drawn.arm, "stratum": drawn.stratum, "group": drawn.groups})[strata.kept]
    each = each.drop_duplicates("group") if whole else each
    ways = log_ways(each["arm"].to_numpy(), pd.factorize(each["stratum"])[0])
    enough = ways >= math.log(2 / (1 - study.program.level)) - 1e-9
    return "permutation" if enough else "none"


def assigned_difference(study: Study, *, adjusted: bool = False) -> Estimate:
    """The difference between the arms of an experiment, as its lots were drawn: within strata, by whole clusters.

    Parameters
    ----------
    study
        A randomised cross-section that names a stratum or a cluster column, or both.
    adjusted
        With covariates, by arm, centred within strata (Lin 2013; in strata Liu & Yang 2020, Biometrika 107); one
        slope for all arms where strata have one unit in an arm or the permutation leads.

    Returns
    -------
    Estimate
        In effect units, every unit counting alike, strata by their shares of the units. ``se`` is HC2 (with strata,
        Neyman's; where strata have a single unit in an arm, Pashley & Miratrix 2021) or CR2 by cluster, t with
        Satterthwaite's degrees of freedom under equal variances; or by permutation, or infinite, where clusters
        are few (:func:`rule_of`). ``n`` counts the rows of strata that could be compared.

    Raises
    ------
    LdlabError
        If the study is a panel; if no stratum can be compared, a cluster spreads over strata, or a single unit or
        cluster decides a slope; with ``adjusted``, as :func:`ldlab.ab.regression_adjusted`.
    """
    rows = rows_for(study, adjusted=adjusted)
    if "cluster" in rows and (rule := rule_of(study, rows)) != "CR2":
        return _by_permutation(study, rows, rule, adjusted=adjusted)
    drawn = drawn_of(study, rows, rows["arm"].to_numpy(), study.covariates if adjusted else ())
    compared = compare(drawn)
    value, se, df = compared.contrast((-1.0, 1.0))
    if not se > 0:
        raise LdlabError(
            f"the experiment: found no variation of {study.program.kpi.label} within arms; expected some. Check "
            "kpi.column."
        )
    how = ADJUSTED if adjusted and not compared.common_slopes else ANCOVA if adjusted else DIFFERENCE
    return Estimate.from_t(
        value,
        se,
        df=df,
        method=_named(study, how),
        estimand=study.estimand,
        se_kind=_se_kind(study, small=compared.small is not None, large=compared.large is not None),
        n=study.count(rows[compared.kept]),
        **study.measure(),
    )


def _named(study: Study, method: str) -> str:
    return f"blocked {method}" if "stratum" in study.frame else method


def _se_kind(study: Study, *, small: bool, large: bool) -> str:
    columns = study.program.design.columns
    kind = f"CR2, cluster by {columns.cluster}" if "cluster" in study.frame else "HC2"
    if small:
        return f"{kind}, and between small strata" if large else "between strata"
    return f"{kind} by stratum" if "stratum" in study.frame and "cluster" not in study.frame else kind


def _by_permutation(study: Study, rows: pd.DataFrame, rule: Rule, *, adjusted: bool) -> Estimate:
    """The estimate with the permutation's interval and chances, or without any."""
    kept = strata_of(drawn_of(study, rows, rows["arm"].to_numpy(), ())).kept
    found: dict[str, Any] = {
        "method": _named(study, ANCOVA if adjusted else DIFFERENCE),
        "estimand": study.estimand,
        "n": study.count(rows[kept] if kept.any() else rows),
        **study.measure(),
    }
    if rule == "none":
        nothing = dict.fromkeys(("p_gain", "p_target", "p_worthwhile", "p_negligible"), math.nan)
        bounds = {"se": math.inf, "low": -math.inf, "high": math.inf}
        value = _plain_value(rows)
        found["method"] = DIFFERENCE
        return Estimate(value=value, se_kind="no interval can be given", **bounds, **nothing, **found)
    reference = reference_of(study, adjusted=adjusted)
    low, high = reference.interval(study.program.level)
    whole, columns = whole_clusters(rows), study.program.design.columns
    what = f"whole clusters ({columns.cluster})" if whole else study.program.design.units
    ways = f", {len(reference.difference):,} assignments" if whole else ""
    return Estimate(
        value=reference.value,
        se=reference.se,
        se_kind=f"permutation of {what}{ways}",
        low=low,
        high=high,
        **_chances(study, reference),
        **found,
    )


def _chances(study: Study, reference: Reference) -> dict[str, float]:
    def reaches(effect: float) -> float:
        above = reference.above(effect)
        return above if study.program.kpi.sign > 0 else 1 - above

    smallest = abs(study.smallest)
    return {
        "p_gain": reaches(0.0),
        "p_target": reaches(study.target),
        "p_worthwhile": reaches(study.smallest),
        "p_negligible": max(0.0, reference.above(-smallest) - reference.above(smallest)),
    }


def _plain_value(rows: pd.DataFrame) -> float:
    means = rows.groupby("arm")["outcome"].mean()
    return float(means[1] - means[0])


def _every_cluster_alike(study: Study, rows: pd.DataFrame) -> Estimate | None:
    """The difference of the arms' means of cluster means; None where their errors cannot be had."""
    keys = ["cluster", "arm", *(["stratum"] if "stratum" in rows else [])]
    means = rows.groupby(keys, sort=False)[["outcome"]].mean().reset_index()
    alone = means.drop(columns="cluster")
    compared = compare(drawn_of(study, alone, alone["arm"].to_numpy(), ()))
    value, se, df = compared.contrast((-1.0, 1.0))
    if not se > 0:
        return None
    return Estimate.from_t(
        value,
        se,
        df=df,
        method=_named(study, "difference in means of clusters"),
        estimand=f"{study.estimand} on clusters",
        se_kind="HC2 of cluster means",
        n=study.count(rows),
        **study.measure(),
    )


def _why(study: Study, rule: Rule, treated: int, comparison: int, df: float | None, *, whole: bool) -> str:
    column = study.program.design.columns.cluster
    drawn = "drawn whole" if whole else f"sharing errors, while {study.program.design.units} were drawn"
    there = f"{treated:,} trained clusters and {comparison:,} comparison clusters ({column}), {drawn}"
    if rule == "CR2":
        assert df is not None
        return (
            f"{there}: errors are clustered and corrected for their number (CR2), as good as {format_number(df, 1)} "
            "independent differences would be."
        )
    if rule == "permutation":
        return f"{there}: fewer than {FEW} in an arm, so the range comes from dealing the lots anew."
    return f"{there}: chance among so few cannot be told from an effect, so no range can be given."


def _estimands(study: Study, of_units: Estimate, of_clusters: Estimate | None, *, whole: bool) -> str:
    units = study.program.design.units
    leads = f"The effect is the mean over {units}"
    if not whole:
        return f"{leads}."
    if of_clusters is None:
        return f"{leads}; no second answer by clusters is given where sizes are alike or clusters are few."
    first, second = (of_units.format(e.value, sign=True) for e in (of_units, of_clusters))
    both = f"{first} and {second} {of_units.shown_unit}"
    if abs(of_units.value - of_clusters.value) <= max(of_units.se, of_clusters.se):
        return f"{leads}; over clusters it is much the same: {both}."
    return (
        f"{leads}; over clusters, large and small alike, it is different by more than a standard error: {both}. Then the "
        "effect, or the KPI, goes with the size of the cluster; the first is the one that was asked for."
    )
