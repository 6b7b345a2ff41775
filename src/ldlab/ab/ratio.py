"""Rates: total count over total exposure in each arm, their difference by the delta method."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ldlab.ab.blocks import drawn_of, strata_of
from ldlab.ab.means import DIFFERENCE, estimates, need_cross_section
from ldlab.estimate import Estimate, Noun, Printed, format_number
from ldlab.program import LdlabError, Study

TOTALS = "total over total"


class Rates(Printed, Noun):
    """The two ways to compare rates, and whether they say the same.

    Attributes
    ----------
    of_totals
        Difference of the arms' rates, total count over total exposure: every hour (ticket) counts alike. It leads.
    of_units
        Difference of the means of the units' own rates: every unit counts alike.
    gap, gap_low, gap_high
        ``of_units`` less ``of_totals``, both unadjusted, with the interval of that difference, in the KPI's unit;
        no interval where clusters are too few for one.
    sentence
        What it means, for a leader.
    """

    of_totals: Estimate
    of_units: Estimate
    gap: float
    gap_low: float | None = None
    gap_high: float | None = None
    sentence: str

    def _rows(self) -> list[tuple[str, str]]:
        rows = [
            (name, f"{e.format(e.value, sign=True)} {e.shown_unit}, {e.interval_text()}")
            for name, e in (
                ("total over total (leads)", self.of_totals),
                ("mean of own rates", self.of_units),
            )
        ]
        return [*rows, ("in words", self.sentence)]


def least_squares(study: Study) -> tuple[Estimate, ...]:
    """All least-squares answers, the leading one first: :func:`rate_estimates` for the rates of an experiment, else
    :func:`ldlab.ab.means.estimates`."""
    return rate_estimates(study) if _is_rate(study) else estimates(study)


def rate_estimates(study: Study) -> tuple[Estimate, ...]:
    """Answers for a rate: total over total first (as :attr:`ldlab.Program.estimator` says), units' own rates last.

    Raises
    ------
    LdlabError
        If the study is not a randomised cross-section with a rate; as :func:`ldlab.ab.regression_adjusted`.
    """
    line = linearised(study)
    of_totals = tuple(_named(estimate) for estimate in estimates(line))
    return (*of_totals, _of_units(study))


def ratio_difference(study: Study) -> Estimate:
    """Difference of the arms' rates, each the arm's total count over its total exposure; leads for a rate.

    Parameters
    ----------
    study
        A randomised cross-section whose KPI is a rate.

    Returns
    -------
    Estimate
        In the rate's unit. The error is the delta method's (Deng, Knoblich & Lu 2018, KDD, 'Applying the Delta Method
        in Metric Analytics', section 3), with each arm's variance over n - 1; clustered and by strata as
        the estimator of :func:`ldlab.ab.estimates` that leads; adjusted for the KPI before where the program says so.

    Raises
    ------
    LdlabError
        As :func:`rate_estimates`.

    Notes
    -----
    It agrees with the Bayesian model for rates (negative binomial, log exposure as offset): without overdispersion that
    model's rate is the total over the total exactly. The more overdispersed, the more it weighs units alike; the two
    part where rates depend on exposure, and then so do the two rows of :func:`rates`.
    """
    return rate_estimates(study)[0]


def rates(study: Study) -> Rates | None:
    """Rates compared in both ways; None for a KPI that is no rate, or without an experiment."""
    if not _is_rate(study):
        return None
    line = linearised(study)
    of_totals, of_units = rate_estimates(study)[0], _of_units(study)
    gap = _plain_difference(
        replace(line, frame=line.frame.assign(outcome=study.frame["outcome"] - line.frame["outcome"]))
    )
    said = {"of_totals": of_totals, "of_units": of_units}
    if gap is None:
        return Rates(
            **said, gap=0.0, gap_low=0.0, gap_high=0.0, sentence=_in_words(study, *said.values(), apart=False)
        )
    if not gap.has_interval:
        few = "There are too few clusters to say whether counting every unit of exposure alike gives another answer."
        return Rates(**said, gap=gap.value, sentence=few)
    sentence = _in_words(study, of_totals, of_units, apart=not gap.low <= 0 <= gap.high)
    return Rates(**said, gap=gap.value, gap_low=gap.low, gap_high=gap.high, sentence=sentence)


def linearised(study: Study) -> Study:
    """The study whose outcome's difference in means is the difference of rates, to first order with its error.

    ``outcome`` = R + (count - R exposure) / mean exposure, with R and the mean exposure of the unit's own arm (Deng,
    Knoblich & Lu 2018, equation 4). In strata R is that of the arm's weighted totals, as the blocked
    difference weights them. The frame loses ``count`` and ``exposure``, and the KPI becomes continuous.

    Raises
    ------
    LdlabError
        If the study is a panel, or not an experiment with a rate.
    """
    need_cross_section(study)
    if not _is_rate(study):
        kpi, kind = study.program.kpi, study.program.design.kind
        raise LdlabError(
            f"ratio_difference: found a {kpi.value_type} KPI in a design {kind}; expected value_type: rate in a "
            "randomised design. Use ldlab.ab.estimates."
        )
    rows = study.frame
    weighted = rows[["count", "exposure"]].astype(float).mul(unit_weights(study), axis=0)
    totals = weighted.groupby(rows["arm"]).sum()
    rate, exposure = (
        rows["arm"].map(column) for column in (totals["count"] / totals["exposure"], totals["exposure"])
    )
    outcome = rate + (rows["count"] - rate * rows["exposure"]) / exposure
    kpi = study.program.kpi.model_copy(update={"value_type": "continuous", "exposure_column": None})
    return replace(
        study,
        program=study.program.model_copy(update={"kpi": kpi}),
        frame=rows.drop(columns=["count", "exposure"]).assign(outcome=outcome),
    )


def unit_weights(study: Study) -> NDArray[np.float64]:
    """(rows,) weights that add up to 1 in each arm: alike, or in strata by the stratum's share of all units.

    0 in strata that the blocked difference leaves out, and the shares are of the others.
    """
    rows = study.frame
    if "stratum" not in rows:
        return (1 / rows.groupby("arm")["arm"].transform("size")).to_numpy(dtype=float)
    kept = strata_of(drawn_of(study, rows, rows["arm"].to_numpy(), ())).kept
    size = rows.groupby("stratum")["arm"].transform("size").to_numpy(dtype=float)
    cell = rows.groupby(["stratum", "arm"])["arm"].transform("size").to_numpy(dtype=float)
    return np.where(kept, size / max(int(kept.sum()), 1) / cell, 0.0)


def _is_rate(study: Study) -> bool:
    return study.program.kpi.value_type == "rate" and study.program.design.kind == "randomised"


def _named(estimate: Estimate) -> Estimate:
    method = estimate.method.replace(DIFFERENCE, "difference in rates")
    return estimate.model_copy(update={"method": f"{method}, {TOTALS}"})


def _plain_difference(study: Study) -> Estimate | None:
    """The unadjusted difference of any outcome; None where it does not vary beyond rounding."""
    spread = study.frame.groupby("arm")["outcome"].std()
    if not float(spread.max()) > 1e-10 * float(study.frame["outcome"].abs().max()):
        return None
    return _of_units(study)


def _of_units(study: Study) -> Estimate:
    """The unadjusted difference in means of the units' own outcomes, as lots were drawn."""
    return estimates(replace(study, covariates=()))[0]


def _in_words(study: Study, of_totals: Estimate, of_units: Estimate, *, apart: bool) -> str:
    unit, units = study.program.design.unit, study.program.design.units
    both = (
        f"{of_totals.format(of_totals.value, sign=True)} and "
        f"{of_units.format(of_units.value, sign=True)} {of_totals.shown_unit}"
    )
    if not apart:
        return (
            f"Counting every unit of exposure alike or every {unit} alike gives no different answer: {both}."
        )
    correlation = study.frame["outcome"].corr(study.frame["exposure"])
    size = format_number(float(correlation), 2, sign=True)
    return (
        f"The two differ by more than chance: {both}. The effect, or the rate itself, is different among {units} with "
        f"more exposure (correlation of rate and exposure {size}). The first is about all the work done, the second about the "
        f"typical {unit}; the first leads."
    )
