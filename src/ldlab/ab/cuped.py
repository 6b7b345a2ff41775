"""CUPED: how much knowing the KPI before assignment adds to the precision of an experiment."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from ldlab.ab.ratio import least_squares
from ldlab.estimate import Estimate, Noun, Printed, format_number
from ldlab.program import Study

WEAK = 0.02  # variance reduction under which it is not worth a sentence of praise


class Cuped(Printed, Noun):
    """The same study with and without the KPI before.

    Attributes
    ----------
    raw, adjusted
        The unadjusted estimate, and the one adjusted for the KPI before alone; of the same people.
    variance_reduction
        1 - (adjusted error / raw error)^2; negative where adjusting made the error larger.
    correlation
        Of the KPI with itself before, within arms, among those who have both; None where too few have.
    unknown
        How many have no KPI before, as text (small counts hidden); empty where all have one.
    sentence
        For a leader.
    """

    raw: Estimate
    adjusted: Estimate
    variance_reduction: float
    correlation: float | None
    unknown: str = ""
    sentence: str

    def _rows(self) -> list[tuple[str, str]]:
        rows = [
            (name, f"{e.format(e.value, sign=True)} {e.shown_unit}, {e.interval_text()}")
            for name, e in (("without the KPI before", self.raw), ("with it", self.adjusted))
        ]
        rows.append(("variance reduction", f"{format_number(100 * self.variance_reduction, 0)}%"))
        if self.correlation is not None:
            rows.append(("correlation within arms", format_number(self.correlation, 2)))
        if self.unknown:
            rows.append(("no KPI before", f"{self.unknown}; they stay in, with the mean of the others"))
        return [*rows, ("in words", self.sentence)]


def cuped(study: Study) -> Cuped | None:
    """The difference adjusted for the KPI before assignment alone, beside the unadjusted one of the same people.

    Deng, Xu, Kohavi & Walker (2013, WSDM) subtract theta times the KPI before, centred; here each arm
    has its own theta (Lin 2013, Annals of Applied Statistics 7), which is never less precise in large samples,
    whatever the shares of the arms. Who has no KPI before stays in (see ``before`` in :class:`ldlab.Study`). A rate
    is adjusted in its linear form (:func:`ldlab.ab.linearised`).

    Returns
    -------
    Cuped or None
        None where the program names no KPI before.

    Raises
    ------
    LdlabError
        As :func:`ldlab.ab.regression_adjusted`.
    """
    before = _columns(study)
    if not before:
        return None
    raw = least_squares(replace(_led_by(study, "difference"), covariates=()))[0]
    found = least_squares(replace(_led_by(study, "adjusted"), covariates=before))
    adjusted = next(estimate for estimate in found if "adjusted" in estimate.method)
    reduction = 1 - (adjusted.se / raw.se) ** 2
    correlation, unknown = _correlation(study), _unknown(study)
    return Cuped(
        raw=raw,
        adjusted=adjusted,
        variance_reduction=reduction,
        correlation=correlation,
        unknown=unknown,
        sentence=cuped_in_words(study, reduction, unknown),
    )


def _columns(study: Study) -> tuple[str, ...]:
    """The KPI before and, where at least two in each arm have none (and two have one), the mark of those who have none."""
    label = study.program.kpi.label
    value, mark = f"{label} before", f"no {label} before"
    if "before" not in study.frame or value not in study.covariates:
        return ()
    known = pd.crosstab(study.frame["arm"], study.frame["before"].isna())
    return (value, mark) if known.shape[1] == 2 and known.to_numpy().min() >= 2 else (value,)


def _led_by(study: Study, estimator: str) -> Study:
    program = study.program
    agreement = program.agreement.model_copy(update={"estimator": estimator})
    return replace(study, program=program.model_copy(update={"agreement": agreement}))


def _correlation(study: Study) -> float | None:
    rows = study.frame.dropna(subset=["before"])
    sizes = rows.groupby("arm").size()
    if len(sizes) < 2 or sizes.min() < study.program.analysis.minimum_group_size:
        return None
    outcome, before = (
        rows[name] - rows.groupby("arm")[name].transform("mean") for name in ("outcome", "before")
    )
    if not (outcome.std() > 0 and before.std() > 0):
        return None
    return float(outcome.corr(before))


def _unknown(study: Study) -> str:
    """'60 of 120 agents'; a small count, or all but a small count, has no number."""
    minimum, units = study.program.analysis.minimum_group_size, study.program.design.units
    without = study.frame["before"].isna()
    by_arm: pd.Series = without.groupby(study.frame["arm"]).sum()
    total, rows = int(without.sum()), len(study.frame)
    if not total:
        return ""
    if total < minimum or ((by_arm > 0) & (by_arm < minimum)).any():
        return f"some {units}" if total >= minimum else f"fewer than {minimum} {units}"
    if rows - total < minimum:
        return f"all but fewer than {minimum} {units}"
    return f"{total:,} of {rows:,} {units}"


def cuped_in_words(study: Study, reduction: float, unknown: str) -> str:
    """What the KPI before was worth, in one sentence."""
    label, units = study.program.kpi.label, study.program.design.units
    known = f" {unknown[0].upper()}{unknown[1:]} have none and stay in." if unknown else ""
    if reduction < 0:
        return (
            f"Knowing {label} before did not help: it predicts too little, and adjusting for it made the standard error "
            f"{(1 - reduction) ** 0.5 - 1:.1%} larger.{known}"
        )
    if reduction < WEAK:
        return (
            f"Knowing {label} before adds next to nothing (variance {reduction:.1%} smaller): it hardly predicts "
            f"{label} after.{known}"
        )
    times = format_number(1 / (1 - reduction), 1)
    return (
        f"Knowing {label} before makes the study as precise as one with {times} times as many {units} "
        f"(variance {reduction:.0%} smaller).{known}"
    )
