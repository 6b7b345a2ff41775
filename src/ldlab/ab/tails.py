"""Heavy tails and many zeros: winsorised beside raw, whether t intervals can be trusted, and the two parts of a mean."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd

from ldlab.ab.ratio import least_squares, unit_weights
from ldlab.estimate import Estimate, Noun, Printed, format_number
from ldlab.program import LdlabError, Study

RAW = "as measured, not winsorised"
ZEROS = 15  # percent of zeros from which a mean is taken apart


class Winsorised(Printed, Noun):
    """The estimate with extreme values clipped as agreed, and the same without.

    Attributes
    ----------
    clipped, raw
        The estimate that leads, and the same estimator on the KPI as measured.
    touched
        How many values were clipped, as text.
    sentence
        Whether the two agree, for a leader.
    """

    clipped: Estimate
    raw: Estimate
    touched: str
    sentence: str

    def _rows(self) -> list[tuple[str, str]]:
        rows = [
            (name, f"{e.format(e.value, sign=True)} {e.shown_unit}, {e.interval_text()}")
            for name, e in (("winsorised, as agreed (leads)", self.clipped), (RAW, self.raw))
        ]
        return [*rows, ("values clipped", self.touched), ("in words", self.sentence)]


class TwoParts(Printed, Noun):
    """A mean with many zeros taken apart: who has any, and how much those have.

    Attributes
    ----------
    zeros
        Percent of units with 0, both arms.
    share, share_se, share_low, share_high, level, se_kind
        Effect on the percent of units with any, in percentage points, with its error and interval.
    total
        Difference in means of the KPI; ``from_share`` + ``from_amount`` exactly.
    from_share, from_amount
        Part of ``total`` owed to more units having any, and to those with any having more.
    """

    zeros: float
    share: float
    share_se: float
    share_low: float
    share_high: float
    level: float
    se_kind: str
    total: float
    from_share: float
    from_amount: float
    unit: str
    sentence: str

    def _rows(self) -> list[tuple[str, str]]:
        share, low, high = (
            format_number(x, 1, sign=True) for x in (self.share, self.share_low, self.share_high)
        )
        digits = _digits(self.total)
        total, first, second = (
            format_number(x, digits, sign=True) for x in (self.total, self.from_share, self.from_amount)
        )
        return [
            ("units with 0", f"{self.zeros:.0f}%"),
            ("effect on the share with any", f"{share} percentage points, {low} to {high} ({self.se_kind})"),
            ("difference in means", f"{total} {self.unit} = {first} (share) + {second} (amount)"),
            ("in words", self.sentence),
        ]


def raw_estimate(study: Study) -> Estimate | None:
    """The leading estimator on the KPI as measured, beside the winsorised; None where nothing is winsorised.

    ``term`` says which it is. Target and smallest effect are those of the winsorised study.
    """
    if "raw" not in study.frame:
        return None
    as_measured = replace(study, frame=study.frame.assign(outcome=study.frame["raw"]))
    return least_squares(as_measured)[0].model_copy(update={"term": RAW})


def winsorised(study: Study) -> Winsorised | None:
    """The winsorised estimate beside the raw one; None where nothing is winsorised.

    Winsorising at agreed quantiles of all arms together trades a little bias for much variance (Wilcox 2017,
    Introduction to Robust Estimation, section 3.3); it answers for the clipped KPI, so both are always shown.
    """
    raw = raw_estimate(study)
    if raw is None:
        return None
    clipped = least_squares(study)[0]
    changed = study.frame["raw"] != study.frame["outcome"]
    return Winsorised(
        clipped=clipped,
        raw=raw,
        touched=_touched(study, int(changed.sum())),
        sentence=_clipped_in_words(study, clipped, raw),
    )


def two_parts(study: Study) -> TwoParts | None:
    """A mean with many zeros as share with any times mean among those, and the effect on each.

    ``total`` = (p1 - p0)(m1 + m0)/2 + (m1 - m0)(p1 + p0)/2 with p the share with any and m their mean (Kitagawa
    1955, JASA 50). Only the effect on the share, and the total, compare what chance made alike: who has any may itself
    be the program's doing, so that the amount among those is no causal comparison.

    Returns
    -------
    TwoParts or None
        None for other KPIs than counts and continuous ones as they are, under 15% zeros, and where
        an arm has fewer than the minimum group with, or without, any.
    """
    kpi, rows = study.program.kpi, study.frame
    if kpi.value_type not in ("count", "continuous") or kpi.scale == "log" or rows["arm"].nunique() < 2:
        return None
    has_any = rows["outcome"] != 0
    zeros = 100 * float(1 - has_any.mean())
    counts = pd.crosstab(rows["arm"], has_any).reindex(columns=[False, True], fill_value=0)
    if zeros < ZEROS or counts.to_numpy().min() < study.program.analysis.minimum_group_size:
        return None
    shares = least_squares(
        replace(
            _unadjusted(study),
            frame=rows.assign(outcome=100.0 * has_any).drop(columns="raw", errors="ignore"),
        )
    )[0]
    weights = unit_weights(study)
    p0, p1 = _arm_sums(rows, has_any * weights)
    y0, y1 = _arm_sums(rows, rows["outcome"] * weights)
    m0, m1 = y0 / p0, y1 / p1
    from_share, from_amount = (p1 - p0) * (m1 + m0) / 2, (m1 - m0) * (p1 + p0) / 2
    unit = kpi.unit
    return TwoParts(
        zeros=zeros,
        share=shares.value,
        share_se=shares.se,
        share_low=shares.low,
        share_high=shares.high,
        level=shares.level,
        se_kind=shares.se_kind,
        total=y1 - y0,
        from_share=from_share,
        from_amount=from_amount,
        unit=unit,
        sentence=_parts_in_words(study, shares, y1 - y0, from_share),
    )


def _unadjusted(study: Study) -> Study:
    """The study without covariates: the plain (or blocked) difference leads."""
    agreement = study.program.agreement.model_copy(update={"estimator": "difference"})
    program = study.program.model_copy(update={"agreement": agreement})
    return replace(study, covariates=(), program=program)


def _arm_sums(rows: pd.DataFrame, values: pd.Series) -> tuple[float, float]:
    sums = values.groupby(rows["arm"]).sum()
    return float(sums[0]), float(sums[1])


def _digits(size: float) -> int:
    return 0 if size == 0 else max(0, 2 - math.floor(math.log10(abs(size))))


def _touched(study: Study, count: int) -> str:
    agreed, minimum = study.program.kpi.winsorise, study.program.analysis.minimum_group_size
    if agreed is None:
        raise LdlabError(
            "winsorised: found no kpi.winsorise; expected the agreed quantiles in the program file."
        )
    number = f"{count:,}" if count >= minimum else f"fewer than {minimum}" if count else "none"
    ends = [
        text
        for text, there in (
            (f"below the {_place(agreed.below)} percentile", agreed.below > 0),
            (f"above the {_place(agreed.above)} percentile", agreed.above < 1),
        )
        if there
    ]
    return f"{number}, {' and '.join(ends)} of all arms together"


def _place(quantile: float) -> str:
    place = f"{100 * quantile:g}"
    ending = {"1": "st", "2": "nd", "3": "rd"}.get(place[-1], "th")
    return place + ("th" if place in ("11", "12", "13") or "." in place else ending)


def _side(estimate: Estimate) -> int:
    """-1, 0 or 1: whether the interval lies below zero, holds it, or lies above."""
    return int(estimate.low > 0) - int(estimate.high < 0)


def _clipped_in_words(study: Study, clipped: Estimate, raw: Estimate) -> str:
    agreed = study.program.kpi.winsorise
    assert agreed is not None
    extreme = [f"highest {100 * (1 - agreed.above):.2g}%"] if agreed.above < 1 else []
    extreme += [f"lowest {100 * agreed.below:.2g}%"] if agreed.below > 0 else []
    who = f"the {' and '.join(extreme)} of {study.program.design.units}"
    sizes = f"{clipped.format(clipped.value, sign=True)} winsorised, {raw.format(raw.value, sign=True)} as measured"
    sizes += f" ({clipped.shown_unit})"
    if _side(clipped) == _side(raw):
        same = "neither tells an effect from none" if _side(raw) == 0 else "both show an effect the same way"
        return f"Clipping extreme values changes no conclusion, {same}: {sizes}."
    if _side(clipped) * _side(raw) < 0:
        return f"The two point in opposite directions: {sizes}. {who.capitalize()} decide the sign; trust neither."
    if _side(raw) == 0:
        return (
            f"An effect shows only when extreme values are clipped: {sizes}. As measured, {who} add so much noise, or so much "
            "of an opposite difference, that zero is not excluded."
        )
    return (
        f"An effect shows only as measured: {sizes}. The difference comes from {who}; without what they have beyond the "
        "agreed bound, zero is not excluded."
    )


def _parts_in_words(study: Study, shares: Estimate, total: float, from_share: float) -> str:
    kpi, units = study.program.kpi, study.program.design.units
    moved = format_number(shares.value, 1, sign=True)
    clear = "" if _side(shares) else ", which chance explains as well"
    first = f"The share of {units} with any {kpi.label} moved by {moved} percentage points{clear}."
    if total == 0:
        split = "The means do not differ."
    elif 0 <= from_share / total <= 1:
        split = f"That makes up {from_share / total:.0%} of the difference in means; the rest is the amount among those with any."
    else:
        split = "The share with any and the amount among those moved the mean in opposite directions."
    return f"{first} {split} The amount is not a causal comparison: who has any may itself be the program's doing."
