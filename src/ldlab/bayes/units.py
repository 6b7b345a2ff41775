"""What the likelihood reads: one row per unit, covariates centred, small segments pooled; and its cross-products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize

from ldlab.bayes.strata import with_strata
from ldlab.estimate import Estimate
from ldlab.program import CrossProducts, LdlabError, Study
from ldlab.program.cross_products import POOLED, refuse_explained, split_small

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Family = Literal["gaussian", "student_t", "binary", "count", "ordinal", "duration"]

DESIGNS = ("randomised", "observational", "two_group_before_after")
ARMS = ("comparison", "trained")


@dataclass(frozen=True, eq=False, repr=False)
class Units:
    """One row per unit as arrays; n units, k columns, s segments.

    Attributes
    ----------
    study
        The study, one row per unit.
    family
        'gaussian', 'student_t', 'binary' (logit), 'count' (log link, with exposure), 'ordinal' (cumulative logit),
        'duration' (log scale, some still running).
    arm, outcome, exposure
        (n,): 0 or 1; the KPI (binary as 0/1, counts as counts); 1 unless the KPI is a rate.
    design, columns
        (n, s + p): a dummy for every segment (ones where there is nothing to compare), then covariates centred at
        the mean of the estimand's population and divided by their sd; and the names of these columns.
    segment, segments
        (n,) codes and the s names; no names where there is nothing to compare.
    cluster
        (n,) codes, or None.
    censored
        (n,) whether a duration was still running.
    population
        (n,): who the average effect is about: everyone (ATE, ITT) or the trained (ATT).
    own_levels
        Whether each segment has an untrained level of its own; not where 'segments' are arms of the program.
    """

    study: Study
    family: Family
    arm: Ints
    outcome: Floats
    exposure: Floats
    design: Floats
    columns: tuple[str, ...]
    segment: Ints
    segments: tuple[str, ...]
    cluster: Ints | None
    censored: NDArray[np.bool_]
    population: NDArray[np.bool_]
    own_levels: bool = True

    @property
    def levels(self) -> int:
        """Number of segments, 1 where there is nothing to compare."""
        return max(len(self.segments), 1)

    @property
    def z(self) -> Floats:
        """(n, p) the covariate columns of ``design``."""
        return self.design[:, self.levels :]

    def sizes(self, segment: int) -> tuple[int, int]:
        """Units of a segment in the comparison and the trained arm."""
        counts = np.bincount(self.arm[self.segment == segment], minlength=2)
        return int(counts[0]), int(counts[1])


def unit_changes(study: Study) -> Study:
    """Collapse a two-group before/after panel to one row per unit.

    Parameters
    ----------
    study : Study
        Design two_group_before_after, one row per unit and period. A study that already has one row per unit
        comes back as it is.

    Returns
    -------
    Study
        One row per unit: ``outcome`` is the mean after the start less the mean before it, in effect units;
        covariates are means before the start; cluster and segment the last known before it. Units without a
        KPI on both sides are left out and counted in ``left_out``.

    Raises
    ------
    LdlabError
        If trained units start in several periods.
    """
    frame = study.frame
    if "period" not in frame:
        return study
    starts = frame.loc[frame["arm"] == 1, "start"].dropna().unique()
    if len(starts) != 1:
        raise LdlabError(
            f"bayes: found {len(starts)} different starts among trained units; expected one for a before/after"
            " comparison of two groups. Set design.kind to staggered"
        )
    frame = frame.sort_values(["unit", "period"], kind="stable")
    before, after = frame[frame["period"] < starts[0]], frame[frame["period"] >= starts[0]]
    change = after.groupby("unit")["outcome"].mean() - before.groupby("unit")["outcome"].mean()
    groups = before.groupby("unit")
    kept = [name for name in ("arm", "cluster", "segment") if name in frame]
    rows = groups[kept].last().join(groups[list(study.covariates)].mean()).assign(outcome=change)
    rows = rows.dropna(subset=["outcome"])
    rows = rows.assign(treated=rows["arm"]).reset_index()
    lost = frame["unit"].nunique() - len(rows)
    why = f"{study.program.design.units} without a KPI both before and after the start"
    return replace(study, frame=rows, left_out=(*study.left_out, (why, int(lost))))


def classical(
    study: Study,
    *,
    of_units: Callable[[Study], tuple[Estimate, ...]],
    of_panels: Callable[[Study], Estimate],
) -> tuple[Estimate, ...]:
    """The same question by a classical method, to stand beside the Bayesian estimate.

    Parameters
    ----------
    study
        Any design.
    of_units
        What answers for one row per unit, such as ``ldlab.ab.estimates``; a two-group before/after panel is collapsed
        by :func:`unit_changes` first.
    of_panels
        What answers for a staggered panel, such as ``ldlab.did.lead_estimate``.
    """
    if study.program.design.kind == "staggered":
        return (of_panels(study),)
    return of_units(unit_changes(study))


def units_of(study: Study) -> Units:
    """The study as arrays; refuses what a model of two arms cannot be fitted to."""
    kind = study.program.design.kind
    if kind not in DESIGNS:
        raise LdlabError(
            f"bayes: found design {kind}; expected {', '.join(DESIGNS)} or staggered. Use diff_in_diff for this design"
        )
    study = with_strata(_complete_cases(unit_changes(study)))
    frame = study.frame
    arm = frame["arm"].to_numpy(dtype=np.int64)
    _refuse_small_arms(study, arm)
    family = _family(study)
    outcome, exposure = _outcome(frame, family, study.program.kpi.value_type)
    if outcome[arm == 0].std() == 0 and family not in ("binary", "count"):
        raise LdlabError(
            "bayes: the KPI has one value only in the comparison arm; there is no spread to learn from"
        )
    if family == "binary":
        _refuse_separation(study, arm, outcome)
    population = arm == 1 if study.estimand == "ATT" else np.ones(len(arm), dtype=bool)
    z = _standardised(study, arm, population)
    codes, names = _segments(study, arm)
    columns = (*(f"segment {name}" for name in names), *study.covariates)
    return Units(
        study=study,
        family=family,
        arm=arm,
        outcome=outcome,
        exposure=exposure,
        design=np.column_stack([np.eye(max(len(names), 1))[codes], z]),
        columns=columns if names else ("constant", *columns),
        segment=codes,
        segments=names,
        cluster=_clusters(frame),
        censored=frame["censored"].to_numpy(dtype=float) == 1
        if "censored" in frame
        else np.zeros(len(arm), dtype=bool),
        population=population,
    )


def _complete_cases(study: Study) -> Study:
    """The study without units that lack a covariate; they are counted, not filled in."""
    complete = study.frame[list(study.covariates)].notna().all(axis=1)
    if complete.all():
        return study
    why = f"{study.program.design.units} without some covariate"
    left_out = (*study.left_out, (why, int((~complete).sum())))
    return replace(study, frame=study.frame[complete].reset_index(drop=True), left_out=left_out)


def _refuse_small_arms(study: Study, arm: Ints) -> None:
    minimum = study.program.analysis.minimum_group_size
    for code, name in enumerate(ARMS):
        if (arm == code).sum() < minimum:
            raise LdlabError(
                f"bayes: found fewer than {minimum} {study.program.design.units} with a KPI and all covariates "
                f"in the {name} arm; expected at least analysis.minimum_group_size = {minimum} in each arm. "
                "Leave out covariates that are often missing, or wait for more data"
            )


def _family(study: Study) -> Family:
    """Which likelihood: changes between periods are Gaussian whatever the KPI is."""
    by_type: dict[str, Family] = {
        "binary": "binary",
        "count": "count",
        "rate": "count",
        "ordinal": "ordinal",
    }
    normal: Family = "student_t" if study.program.analysis.errors == "student_t" else "gaussian"
    if study.program.is_panel:
        return normal
    if study.program.kpi.censored_column is not None:
        return "duration"
    return by_type.get(study.program.kpi.value_type, normal)


def _outcome(frame: pd.DataFrame, family: Family, value_type: str) -> tuple[Floats, Floats]:
    ones = np.ones(len(frame))
    if family == "binary":
        return frame["outcome"].to_numpy(dtype=float) / 100, ones
    if family == "count" and value_type == "rate":
        return frame["count"].to_numpy(dtype=float), frame["exposure"].to_numpy(dtype=float)
    return frame["outcome"].to_numpy(dtype=float), ones


def _standardised(study: Study, arm: Ints, population: NDArray[np.bool_]) -> Floats:
    """(n, p) covariates, centred at the population's mean, in sds; refuses those that hold the treatment."""
    x = study.frame[list(study.covariates)].to_numpy(dtype=float)
    if study.program.analysis.covariate_bins is not None and _family(study) in ("binary", "count", "ordinal"):
        x = np.column_stack([_binned(column, study.program.analysis.covariate_bins) for column in x.T])
    sd = x.std(axis=0)
    if (sd == 0).any():
        name = study.covariates[int(np.argmin(sd))]
        raise LdlabError(f"bayes: covariate '{name}' has one value only; take it out of columns.covariates")
    z = (x - x[population].mean(axis=0)) / sd
    refuse_explained(
        study.covariates,
        np.column_stack([np.ones(len(arm)), z, arm]).T @ np.column_stack([np.ones(len(arm)), z, arm]),
    )
    return z


def _refuse_separation(study: Study, arm: Ints, outcome: Floats) -> None:
    """Refuse a binary KPI that arm and covariates predict without a single error.

    A linear program looks for a plane with all successes on one side (Konis, 2007, Linear programming algorithms for
    detecting separated data in binary logistic regression models, DPhil thesis, Oxford, section 4.1).
    """
    x = np.column_stack([np.ones(len(arm)), arm, study.frame[list(study.covariates)].to_numpy(dtype=float)])
    x /= np.maximum(np.abs(x).max(axis=0), 1e-300)
    sides = -(2 * outcome - 1)[:, None] * x
    found = optimize.linprog(np.zeros(x.shape[1]), A_ub=sides, b_ub=-np.ones(len(arm)), bounds=(None, None))
    if found.status == 0:
        what = "the treatment and the covariates" if study.covariates else "the treatment"
        raise LdlabError(
            f"bayes: {what} predict the KPI '{study.program.kpi.column}' without one error (perfect separation), so it is "
            "one of them under another name. Take what was measured after the KPI out of columns.covariates, or check the "
            "KPI's column"
        )


def _binned(values: Floats, bins: int) -> Floats:
    """Each value replaced by the mean of its quantile group, so that rows become few cells; not exact.

    Examples
    --------
    >>> _binned(np.array([1.0, 2.0, 3.0, 6.0]), 2).tolist()
    [1.5, 1.5, 4.5, 4.5]
    """
    group = pd.qcut(values, bins, labels=False, duplicates="drop")
    return np.asarray(pd.Series(values).groupby(group).transform("mean"), dtype=float)


def _segments(study: Study, arm: Ints) -> tuple[Ints, tuple[str, ...]]:
    """Codes and names of segments; those that may not be shown are pooled, last."""
    if "segment" not in study.frame:
        return np.zeros_like(arm), ()
    label = study.frame["segment"].astype(str)
    size = pd.crosstab(label, arm).reindex(columns=[0, 1], fill_value=0)
    shown, hidden = split_small(size, study.program.analysis.minimum_group_size)
    names = (*shown, POOLED) if hidden else tuple(shown)
    if len(names) < 2:
        return np.zeros_like(arm), ()
    code = {name: i for i, name in enumerate(shown)} | dict.fromkeys(hidden, len(shown))
    return np.asarray(label.map(code), dtype=np.int64), names


def _clusters(frame: pd.DataFrame) -> Ints | None:
    """Cluster codes; None without clusters, or where every unit is its own."""
    if "cluster" not in frame:
        return None
    codes, names = pd.factorize(frame["cluster"], sort=True)
    return None if len(names) == len(frame) else codes.astype(np.int64)


def cross_products(units: Units) -> CrossProducts:
    """The cross-products of rows that are at hand; from a file of any size: :func:`ldlab.load_cross_products`."""
    study = units.study
    cluster = np.zeros_like(units.arm) if units.cluster is None else units.cluster
    keys, cell = group_cells(units.arm, units.segment, cluster)
    arm, segment, cluster = keys.astype(np.int64).T
    n = np.bincount(cell)
    means = np.zeros((len(n), 1 + units.z.shape[1]))
    both = np.column_stack([units.outcome, units.z])
    np.add.at(means, cell, both)
    means /= n[:, None]
    within = both - means[cell]
    sums = np.array([within[units.arm == code].T @ within[units.arm == code] for code in (0, 1)])
    return CrossProducts(
        program=study.program,
        baseline=study.baseline,
        covariates=study.covariates,
        segments=units.segments,
        clusters=0 if units.cluster is None else int(units.cluster.max()) + 1,
        arm=arm,
        segment=segment,
        cluster=None if units.cluster is None else cluster,
        n=n,
        y=means[:, 0],
        x=means[:, 1:],
        xx=sums[:, 1:, 1:],
        xy=sums[:, 1:, 0],
        yy=sums[:, 0, 0],
        left_out=study.left_out,
        cut_off=study.cut_off,
        data_sha256=study.data_sha256,
        periods=study.periods,
    )


def group_cells(*parts: Any) -> tuple[Floats, Ints]:
    """Identical rows of the stacked ``parts`` once each, and which of them each row is."""
    rows, which = np.unique(np.column_stack(parts), axis=0, return_inverse=True)
    return rows, which.ravel().astype(np.int64)
