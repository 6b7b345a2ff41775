"""Randomisation inference: lots drawn anew as they were drawn, within strata, by whole clusters, for several arms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ldlab.ab.arm_means import Drawn
from ldlab.ab.blocks import drawn_of, rows_for, strata_of
from ldlab.ab.lots import SLACK, Lots, Reference, Sums
from ldlab.estimate import Estimate, Noun, Printed, format_number, level_in_words
from ldlab.program import Study

MOST_GROUPS = 100_000  # above, the normal law of a mean is as good, and this is slow


class Permutation(Printed, Noun):
    """What other lots would have given.

    Attributes
    ----------
    scheme
        How lots were drawn, and so how they are drawn anew.
    ways
        In how many ways they could have fallen; None where too many to count, or a small arm would show.
    drawn
        How many of them were looked at, the true one among them; 0 where none were.
    p_value
        Two-sided, of no effect on anybody: twice the smaller share at least as extreme; None where ``reason`` says why.
    low, high, level
        Constant effects that it does not reject; infinite where there are too few ways.
    p_any
        Several program arms: of no effect of any of them, by the largest statistic; else None.
    reason
        Why it was not run; empty where it was.
    sentence
        For a leader.
    """

    scheme: str
    ways: int | None = None
    drawn: int = 0
    p_value: float | None = None
    low: float | None = None
    high: float | None = None
    level: float
    p_any: float | None = None
    reason: str = ""
    sentence: str

    def _rows(self) -> list[tuple[str, str]]:
        rows = [("lots", self.scheme)]
        if self.drawn:
            rows.append(
                ("looked at", f"{self.drawn:,} of {f'{self.ways:,}' if self.ways else 'very many'} ways")
            )
        if self.p_value is not None:
            rows.append(("p-value of no effect", f"{self.p_value:.3g}"))
        if self.p_any is not None:
            rows.append(("p-value of no effect of any arm", f"{self.p_any:.3g}"))
        return [*rows, ("in words", self.sentence)]


def permutation(study: Study, *, adjusted: bool | None = None) -> Permutation:
    """Test no effect, and find the constant effects that fit, by drawing lots anew as they were drawn.

    Labels are dealt again among units, or whole clusters where each cluster has one arm, within strata where the
    program names one; with several program arms all labels are. All ways are looked at where there are up to 20,000;
    else 9,999 are drawn (fewer, at least 999, of large data), seeded by ``analysis.seed``, and the true one counts
    among them (Phipson & Smyth 2010). The statistic is studentised, so that the test of no average effect holds in
    large samples too (Chung & Romano 2013, Annals of Statistics 41; Wu & Ding 2021, JASA 116). Rates are compared as
    totals over totals, in linear form.

    Parameters
    ----------
    study
        An experiment, one row per unit.
    adjusted
        Take the covariates out of the outcome first, with strata held fixed and no regard to the arm (Rosenbaum 2002,
        Statistical Science 17). Default: where the program's leading estimate is adjusted.

    Returns
    -------
    Permutation
        Bounds in effect units. With a ``reason`` and no numbers where an arm has fewer units than the minimum group
        size, or there are more than 100,000 units (clusters) to deal with.
    """
    adjusted = study.program.estimator == "adjusted" if adjusted is None else adjusted
    study = _of_totals(study)
    rows = rows_for(study, adjusted=adjusted)
    scheme, reason = _scheme(study), _not_run(study, rows)
    level = study.program.level
    if reason:
        return Permutation(scheme=scheme, level=level, reason=reason, sentence=f"Not run: {reason}.")
    reference = reference_of(study, adjusted=adjusted)
    p_value, (low, high) = reference.p_value(), reference.interval(level)
    several = "variant" in rows and rows["variant"].nunique() > 2
    drawn = len(reference.difference)
    return Permutation(
        scheme=scheme,
        ways=drawn if reference.exact else None,
        drawn=drawn,
        p_value=p_value,
        low=low,
        high=high,
        level=level,
        p_any=_of_any_arm(study, rows, adjusted=adjusted) if several else None,
        sentence=_in_words(p_value, low, high, level, exact=reference.exact, drawn=drawn),
    )


def beside(found: Permutation, estimate: Estimate) -> Permutation:
    """The same, whose sentence says whether it and the leading estimate agree about zero, and if not, why."""
    return found.model_copy(update={"sentence": _agreement(found, estimate)})


def _agreement(found: Permutation, estimate: Estimate) -> str:
    if found.low is None or found.high is None or not estimate.has_interval:
        return found.sentence
    theirs, ours = (
        not low <= 0 <= high for low, high in ((estimate.low, estimate.high), (found.low, found.high))
    )
    bounds = f"{estimate.format(found.low, sign=True)} to {estimate.format(found.high, sign=True)}"
    span = f"{found.sentence} Its {level_in_words(found.level)} is {bounds} {estimate.shown_unit}."
    if theirs == ours:
        return (
            f"{span} It agrees with the estimate that {'there is an effect' if ours else 'zero is possible'}."
        )
    which = "excludes zero and the estimate's does not" if ours else "holds zero and the estimate's does not"
    return (
        f"{span} It {which}: it asks for one effect for all and needs no bell curve, so the two part where zero is near an "
        "end, where numbers are small, or where a few values are far out. The estimate leads, as agreed."
    )


def reference_of(study: Study, *, adjusted: bool) -> Reference:
    """The statistics under the true assignment and the others; trained against comparison."""
    rows = rows_for(study, adjusted=adjusted)
    drawn = _prepared(study, rows, rows["arm"].to_numpy(), adjusted=adjusted)
    labels = Lots(drawn, study.program.analysis.seed)
    sums = Sums(drawn, labels.group_stratum)
    parts = [sums.statistics(chunk) for chunk in labels.chunks()]
    difference, moved, v_yy, v_ya, v_aa = np.concatenate(parts, axis=1)
    return Reference(difference, moved, v_yy, v_ya, v_aa, labels.exact)


def whole_clusters(rows: pd.DataFrame) -> bool:
    """Whether clusters are named and each has one arm."""
    if "cluster" not in rows:
        return False
    arm = rows["variant"] if "variant" in rows else rows["arm"]
    return bool(arm.groupby(rows["cluster"]).nunique().max() == 1)


def _of_any_arm(study: Study, rows: pd.DataFrame, *, adjusted: bool) -> float:
    """p value of no effect of any program arm, by the largest statistic against control (all labels dealt anew)."""
    control = str(study.program.design.control_value)
    codes = [control, *sorted(set(rows["variant"]) - {control})]
    drawn = _prepared(study, rows, rows["variant"].map(codes.index).to_numpy(), adjusted=adjusted)
    labels = Lots(drawn, study.program.analysis.seed)
    sums = Sums(drawn, labels.group_stratum)
    largest = []
    for chunk in labels.chunks():
        against = [sums.statistics(chunk, arm) for arm in range(1, len(codes))]
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.abs([part[0] / np.sqrt(part[2]) for part in against])
        largest.append(np.nan_to_num(t, nan=0.0, posinf=np.inf).max(axis=0))
    t = np.concatenate(largest)
    return float((t >= t[0] * (1 - SLACK)).mean())


def _prepared(study: Study, rows: pd.DataFrame, arm: NDArray[np.int64], *, adjusted: bool) -> Drawn:
    """The rows of the strata that count; units are their own groups where clusters were not drawn whole."""
    drawn = drawn_of(study, rows, arm, study.covariates if adjusted else ())
    if not whole_clusters(rows):
        drawn = replace(drawn, cluster=None)
    return drawn.kept(strata_of(drawn).kept)


def _of_totals(study: Study) -> Study:
    """For a rate, count less the rate of all arms together times exposure, over mean exposure: total over total."""
    rows = study.frame
    if "exposure" not in rows:
        return study
    excess = rows["count"] - rows["count"].sum() / rows["exposure"].sum() * rows["exposure"]
    return replace(study, frame=rows.assign(outcome=excess / rows["exposure"].mean()))


def _scheme(study: Study) -> str:
    columns, units = study.program.design.columns, study.program.design.units
    who = f"whole clusters ({columns.cluster})" if whole_clusters(study.frame) else units
    within = f", within strata ({columns.stratum})" if "stratum" in study.frame else ""
    return f"the arms are dealt anew among {who}{within}"


def _not_run(study: Study, rows: pd.DataFrame) -> str:
    minimum, units = study.program.analysis.minimum_group_size, study.program.design.units
    if not whole_clusters(rows):
        if rows["arm"].value_counts().reindex([0, 1], fill_value=0).min() < minimum:
            return f"an arm has fewer than {minimum} {units}"
        if len(rows) > MOST_GROUPS:
            return (
                f"with {len(rows):,} {units} the estimate's own error is as good, and dealing anew takes long"
            )
    elif rows["cluster"].nunique() > MOST_GROUPS:
        return "with so many clusters the estimate's own error is as good, and dealing anew takes long"
    return ""


def _in_words(p_value: float, low: float, high: float, level: float, *, exact: bool, drawn: int) -> str:
    looked = f"all {drawn:,} ways" if exact else f"{drawn:,} ways"
    of_hundred = format_number(100 * p_value, 1 if p_value < 0.1 else 0) + "%"
    of_hundred = "under 0.1%" if p_value < 0.001 else of_hundred
    there = f"Had lots fallen otherwise, a difference as large either way would come up in {of_hundred} of {looked}"
    if p_value < 1 - level:
        return f"{there}: hard to put down to chance."
    if math.isinf(low) and math.isinf(high):
        return f"{there}; there are too few ways to bound the effect at this level."
    return f"{there}: chance alone can make it."
