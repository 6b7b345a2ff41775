"""How sure a panel estimate is: by a rule that the number of clusters fixes before any result."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from ldlab.did.clusters import clusters_of, stay_in_clusters
from ldlab.did.engines import Engine, Estimator, controls_of, engine_of
from ldlab.did.panel import need_panel
from ldlab.did.permutation import Confidence, assignments
from ldlab.did.permutation import ways as count_ways
from ldlab.estimate import Estimate, Noun, Printed
from ldlab.program import Study

Rule = Literal["clustered", "jackknife", "permutation", "none"]
Floats = NDArray[np.float64]

FEWEST = 2  # clusters in the smaller arm, below which nothing can be inferred
FEW = 5  # below which the permutation leads
MANY = 40  # from which clustered errors do
MOST_ASSIGNMENTS = 5_000
MOST_REFITS = 1_000  # assignments where each needs the estimator run again


class Inference(Printed, Noun):
    """By which rule a panel's interval is made, and why; after :func:`infer` also what came of it.

    Attributes
    ----------
    rule
        'clustered': cluster-robust errors, t with clusters - 1 degrees of freedom. 'jackknife': each cluster left
        out in turn (CR3). 'permutation': the starts dealt anew to the clusters. 'none': no interval can be given.
    why
        One sentence for a leader; small numbers of units are not in it.
    treated_clusters, comparison_clusters
        Clusters (units, where no cluster is named) ever trained in a period that has a comparison, and those
        untrained while others were trained. None where fewer units than the minimum group.
    whole
        Whether each cluster starts as a whole.
    assignments, drawn
        In how many ways the starts could have fallen to the clusters, and how many were looked at; None where
        the rule is another.
    p_value
        Two-sided, of no effect; None before :func:`infer`, and where there is none.
    placebos
        The estimate under each assignment looked at but the true one, in effect units.
    """

    rule: Rule
    why: str
    treated_clusters: int | None
    comparison_clusters: int | None
    whole: bool
    df: float | None = None
    assignments: int | None = None
    drawn: int | None = None
    p_value: float | None = None
    placebos: tuple[float, ...] = ()

    def _rows(self) -> list[tuple[str, str]]:
        rows = [(f"inference: {self.rule}", self.why)]
        if self.p_value is not None:
            rows.append(("p-value of no effect", f"{self.p_value:.3g}"))
        return rows


class Inferred(NamedTuple):
    """An estimate with the error and interval that its clusters allow, and how they were made."""

    estimate: Estimate
    inference: Inference


def plan_inference(study: Study, *, estimator: str | None = None) -> Inference:
    """Choose how to infer, from the numbers of trained and comparison clusters alone.

    By the smaller of the two, where each cluster starts as a whole: 40 or more, clustered errors; 5 to 39, each
    cluster left out in turn; 2 to 4, permutation of the starts over the clusters; 1, or fewer than
    2 / (1 - level) ways to deal the starts, nothing. Where starts differ within a cluster, units were chosen and
    clusters only share errors: no permutation, and nothing below 3. Units are the clusters where none is named. Comparison
    clusters are those untrained while others were trained; for group-time effects that compare with the never
    trained, those never trained.

    Parameters
    ----------
    study
        A panel.
    estimator
        'two_way', 'group_time' or 'imputation'; default: the program's leading estimator.

    Raises
    ------
    LdlabError
        If the study is no panel.

    Notes
    -----
    The bounds come from 400 worlds without an effect for each setting, at the 10% level (tests/worlds_inference.py:
    clusters of 10 units, autocorrelated shocks). With 2 of 12 clusters trained, clustered errors alarm in 30%,
    permutation in 10%; with 6 of 40, clustered in 17%, jackknife in 8% to 10%; with 10 of 100, 14% to 16% and 10% to
    11%; with 20 of 40, 11% and 8% to 10%; with 45 of 90, clustered in 9%. Permutation presumes that clusters move
    alike: with 2 of 12, of which the trained are 1.5 times as noisy, it alarms in 19%; the jackknife, with 6 of 40,
    in 8%. Of clusters of unequal size both alarm in 8% to 9%. MacKinnon & Webb (2018), The Econometrics Journal 21;
    (2020), Journal of Econometrics 218.
    """
    need_panel(study)
    count = _count(study, estimator)
    smaller = min(count.treated, count.comparison)
    shown = _shown(study, count)
    if study.program.design.kind == "before_after":
        rule: Rule = "clustered" if count.treated >= FEWEST else "none"
        return Inference(rule=rule, why=_why(study, count, rule), **shown)
    if smaller >= MANY:
        return Inference(rule="clustered", why=_why(study, count, "clustered"), **shown)
    if not count.whole:
        rule = "jackknife" if smaller > FEWEST else "none"
        df = float(smaller - 1) if rule == "jackknife" else None
        return Inference(rule=rule, why=_why(study, count, rule), df=df, **shown)
    if smaller >= FEW:
        starts = len(np.unique(count.starts))
        df = min(bell_mccaffrey_df(count.treated, count.comparison), float(len(count.starts) - starts))
        return Inference(rule="jackknife", why=_why(study, count, "jackknife"), df=df, **shown)
    ways = count_ways(count.starts)
    if smaller < FEWEST or ways < 2 / (1 - study.program.level) - 1e-9:
        return Inference(rule="none", why=_why(study, count, "none"), assignments=ways, **shown)
    drawn = min(ways, MOST_ASSIGNMENTS)
    why = _why(study, count, "permutation", drawn)
    return Inference(rule="permutation", why=why, assignments=ways, drawn=drawn, **shown)


def bell_mccaffrey_df(treated: int, comparison: int) -> float:
    """Degrees of freedom of the difference between two arms' means of equally large, equally noisy clusters.

    Bell & McCaffrey (2002), Survey Methodology 28; with two groups it is Welch's formula at equal variances.
    """
    parts = 1 / treated, 1 / comparison
    return sum(parts) ** 2 / (parts[0] ** 2 / (treated - 1) + parts[1] ** 2 / (comparison - 1))


@dataclass(frozen=True)
class Count:
    """The clusters of a panel: numbers, and the start of each (infinite for never; empty if they differ within)."""

    treated: int
    comparison: int
    whole: bool
    starts: Floats


def _count(study: Study, estimator: str | None = None) -> Count:
    rows, design = study.frame, study.program.design
    cluster = pd.factorize(clusters_of(rows), sort=True)[0]
    start = rows["start"].to_numpy(dtype=float)
    start = np.where(np.isnan(start), np.inf, start)
    by_cluster = pd.Series(start).groupby(cluster)
    first, last = by_cluster.min().to_numpy(), by_cluster.max().to_numpy()
    # The last to start have nobody to be compared with from then on, where nobody is never trained.
    treated = int((first < start.max()).sum()) if study.has_comparison else len(first)
    comparison = int((last > start.min()).sum())
    if design.kind != "before_after" and (estimator or study.program.estimator) == "group_time":
        never = study.has_comparison and controls_of(study) == "never"
        comparison = int(np.isinf(last).sum()) if never else comparison
    whole = bool((first == last).all()) and stay_in_clusters(rows)
    return Count(treated, comparison, whole, first if whole else np.empty(0))


def _shown(study: Study, count: Count) -> dict[str, Any]:
    hidden = 0 if "cluster" in study.frame else study.program.analysis.minimum_group_size
    sizes = [size if size >= hidden else None for size in (count.treated, count.comparison)]
    return {"treated_clusters": sizes[0], "comparison_clusters": sizes[1], "whole": count.whole}


def _why(study: Study, count: Count, rule: Rule, drawn: int = 0) -> str:
    """The rule and its reason, for a leader."""
    design, named = study.program.design, "cluster" in study.frame
    one = "cluster" if named else design.unit
    ones = "clusters" if named else design.units
    column = f" ({design.columns.cluster})" if named else ""
    trained, others = (_size(study, size) for size in (count.treated, count.comparison))
    there = f"There {'is' if trained == '1' else 'are'} {trained} trained {one if trained == '1' else ones}{column}"
    if design.kind == "before_after":
        rest = (
            "no interval can be given" if rule == "none" else f"the error is that of the {ones}' mean change"
        )
        return f"{there} and nobody to compare with: {rest}."
    there += f" and {others} to compare with"
    if rule == "clustered":
        return f"{there}: enough for clustered errors."
    if rule == "jackknife":
        within = "" if count.whole else f", and starts differ within a {one}"
        return (
            f"{there}{within}: too few for plain clustered errors, so each {one} is left out in turn (CR3)."
        )
    if rule == "none":
        return f"{there}: chance among so few cannot be told from an effect, so no interval can be given."
    return f"{there}: so few that the interval comes from {_looked_at(study, count, drawn)}."


def _size(study: Study, size: int) -> str:
    minimum = study.program.analysis.minimum_group_size
    return f"{size:,}" if "cluster" in study.frame or size >= minimum else f"fewer than {minimum}"


def _looked_at(study: Study, count: Count, drawn: int) -> str:
    """'all 66 ways in which the trained could have been chosen'."""
    ways = count_ways(count.starts)
    number = f"all {ways:,}" if drawn >= ways else f"{drawn:,} of the {ways:,}"
    if _size(study, min(count.treated, count.comparison)).startswith("fewer"):
        number = "the"
    several = len(np.unique(count.starts)) > 2
    how = "the starts could have fallen to them" if several else "the trained could have been chosen"
    return f"{number} ways in which {how}"


def infer(
    study: Study,
    estimate: Estimate,
    *,
    estimator: str | Estimator | None = None,
    plan: Inference | None = None,
) -> Inferred:
    """Give an estimate the error, interval and chances that its clusters allow.

    Parameters
    ----------
    study
        The panel that the estimate is of.
    estimate
        With errors clustered as its estimator makes them.
    estimator
        What made it: 'two_way', 'group_time' or 'imputation', or a function of a study, linear in the KPI. Default:
        the program's leading estimator.
    plan
        From :func:`plan_inference`; default: made here, from the study's clusters.

    Returns
    -------
    Inferred
        The estimate as it came under rule 'clustered'. With 'none' its error and bounds are infinite, and its
        chances not a number.

    Raises
    ------
    LdlabError
        If the study is no panel, or the estimator does not give the estimate.

    Notes
    -----
    Jackknife: CR3, root of (G - 1) / G times the sum of squared deviations from the estimate, each cluster left out
    in turn (MacKinnon, Nielsen & Webb 2023, Journal of Applied Econometrics 38, equation 13), with t of Bell and
    McCaffrey's degrees of freedom for equal clusters, at most clusters less starts. Of more than 400 clusters with
    one start (60, where the estimator must be run again) as many groups are left out instead.

    Permutation: under a constant effect tau, the KPI less tau times the true treatment owes nothing to training,
    and its estimate under assignment p is e_p - tau b_p, with e_p from the KPI and b_p from the true treatment. The
    true assignment's is estimate - tau, so p has the more extreme estimate from tau = (estimate - e_p) / (1 - b_p)
    on: these values are the confidence distribution, the true assignment counting half on each side for chances,
    and against both sides for the p-value and the interval, which is equal-tailed and exact. Assignments that move
    with the effect as much as the true one count against both sides too. The standard error is the root mean square
    of e_p - b_p times the estimate, the placebos of the KPI freed from the estimated effect. Over 5,000 assignments
    that many are drawn, the true one among them. Young (2019), Quarterly Journal of Economics 134, section IV.
    """
    named = estimator if isinstance(estimator, str) else None
    plan = plan or plan_inference(study, estimator=named)
    if plan.rule == "clustered":
        p_value = _p_value_of_t(estimate)
        return Inferred(estimate, plan.model_copy(update={"p_value": p_value}))
    if plan.rule == "none":
        return Inferred(refused(estimate), plan)
    engine = engine_of(study, estimate, estimator or study.program.estimator)
    if plan.rule == "jackknife":
        return _jackknife(study, estimate, plan, engine)
    return _permutation(study, estimate, plan, engine, _count(study, named))


def refused(estimate: Estimate) -> Estimate:
    """The estimate without an interval: infinite bounds, and chances that are not a number."""
    nothing = dict.fromkeys(("p_gain", "p_target", "p_negligible", "p_worthwhile"), math.nan)
    bounds = {"low": -math.inf, "high": math.inf, "se": math.inf, "df": None}
    return estimate.model_copy(update={**bounds, **nothing, "se_kind": "no interval can be given"})


def _p_value_of_t(estimate: Estimate) -> float:
    ratio = abs(estimate.value / estimate.se)
    return float(2 * (stats.norm.sf(ratio) if estimate.df is None else stats.t.sf(ratio, estimate.df)))


def _jackknife(study: Study, estimate: Estimate, plan: Inference, engine: Engine) -> Inferred:
    values = engine.without_each()
    groups = len(values)
    # Without a cluster that carries the estimate alone nothing is left of it.
    values = np.where(np.isfinite(values), values, 0.0)
    se = math.sqrt((groups - 1) / groups * float(((values - estimate.value) ** 2).sum()))
    kind = f"{estimate.se_kind.partition(',')[0].replace('cluster bootstrap', 'cluster')}, CR3"
    made = _with_error(estimate, se, plan.df, kind)
    return Inferred(made, plan.model_copy(update={"p_value": _p_value_of_t(made)}))


def _with_error(estimate: Estimate, se: float, df: float | None, se_kind: str) -> Estimate:
    """The same estimate with another error, and all that follows from it."""
    chances = {"p_gain", "p_target", "p_negligible", "p_worthwhile"}
    derived = {"value", "se", "df", "se_kind", "low", "high", *chances}
    fields = {name: getattr(estimate, name) for name in Estimate.model_fields if name not in derived}
    return Estimate.from_t(estimate.value, se, df=df, se_kind=se_kind, **fields)


def _permutation(study: Study, estimate: Estimate, plan: Inference, engine: Engine, count: Count) -> Inferred:
    starts = count.starts
    most = MOST_REFITS if engine.refits else MOST_ASSIGNMENTS
    others = assignments(starts, most, study.program.analysis.seed)
    placebos, moved = engine.reassigned(others).T
    told = Confidence.of(estimate.value, placebos, moved)
    finite = np.isfinite(placebos)
    if not finite.any():
        return Inferred(refused(estimate), plan)
    se = math.sqrt(float(((placebos - moved * estimate.value)[finite] ** 2).mean()))
    low, high = told.interval(estimate.level)
    columns = study.program.design.columns
    what = f"clusters ({columns.cluster})" if "cluster" in study.frame else study.program.design.units
    shown = plan.treated_clusters is not None and plan.comparison_clusters is not None
    ways = f", {len(others) + 1:,} assignments" if shown else ""
    all_of_them = f"{len(starts):,} {what}"
    target, smallest = told.above(estimate.target), told.above(estimate.smallest)
    made = estimate.model_copy(
        update={
            "se": se, "df": None, "se_kind": f"permutation of {all_of_them}{ways}", "low": low, "high": high,
            "p_gain": told.above(0.0) if estimate.sign > 0 else 1 - told.above(0.0),
            "p_target": target if estimate.sign > 0 else 1 - target,
            "p_worthwhile": smallest if estimate.sign > 0 else 1 - smallest,
            "p_negligible": max(0.0, told.above(-abs(estimate.smallest)) - told.above(abs(estimate.smallest))),
        }
    )  # fmt: skip
    drawn = len(others) + 1
    seen = {
        "p_value": told.p_value(0.0), "placebos": tuple(float(x) for x in placebos[finite]), "drawn": drawn,
        "why": _why(study, count, "permutation", drawn),
    }  # fmt: skip
    return Inferred(made, plan.model_copy(update=seen))
