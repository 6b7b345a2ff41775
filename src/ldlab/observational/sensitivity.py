"""How strong something unrecorded would have to be to explain an estimate away."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape

import numpy as np
from numpy.typing import NDArray

from ldlab.estimate import Estimate, Noun, Printed, format_number, rows_to_html
from ldlab.observational.confounding import Benchmark, Regression, robustness
from ldlab.observational.effect import pooled_sd
from ldlab.program import Study

Floats = NDArray[np.float64]
RATIO_OF_MEANS = {"binary": "risk ratio", "count": "rate ratio", "rate": "rate ratio"}
D_TO_RATIO = 0.91  # VanderWeele & Ding 2017, table 2
MOST_TIMES = 100.0  # multiples above are printed as 'over 100'
MOST_BENCHMARKS = 10


class Sensitivity(Printed, Noun):
    """What something unrecorded would have to be to explain an estimate away.

    Attributes
    ----------
    estimate
        The estimate that the E-values are about.
    scale, ratio, ratio_nearest
        The ratio that E-values start from ('risk ratio', 'rate ratio', or 'risk ratio from the standardised
        difference'), for the estimate and for the interval's end nearest zero (1 if it crosses zero).
    e_value, e_value_nearest
        E-values of the two, at least 1; None where the estimate leaves an untrained mean of 0 or less.
    regression, regression_t, regression_df
        The least-squares estimate with common slopes (effect units), its classical t and degrees of freedom.
    robustness, robustness_nearest
        Share of the rest of both training and KPI that something unrecorded would have to explain to bring the
        regression's estimate to zero, or its interval to include zero (None where errors are clustered).
    benchmarks
        The recorded covariates as yardsticks, the strongest first.
    """

    estimate: Estimate
    scale: str
    ratio: float | None
    ratio_nearest: float | None
    e_value: float | None
    e_value_nearest: float | None
    regression: float
    regression_t: float
    regression_df: float
    robustness: float
    robustness_nearest: float | None
    benchmarks: tuple[Benchmark, ...]

    @property
    def sentence(self) -> str:
        """The table in plain words."""
        parts = [self._e_value_in_words()]
        reachable = [b for b in self.benchmarks if b.times_to_zero is not None]
        if reachable:
            first = reachable[0]
            parts.append(
                f"To bring the regression's estimate to zero, it would have to be {_times(first.times_to_zero)} as strongly "
                f"tied to both as {first.covariate} is, which is the strongest on record."
            )
        return " ".join(parts)

    def _e_value_in_words(self) -> str:
        if self.e_value is None or self.e_value_nearest is None:
            return "How strong something unrecorded would have to be cannot be said as a ratio of risks."
        sentence = (
            "To explain this estimate away, something unrecorded would have to make both training and a better or "
            f"worse KPI at least {self.e_value:.2f} times as likely"
        )
        if self.e_value_nearest == 1:
            return f"{sentence}; the range includes no effect as it is, so nothing unrecorded is needed for that."
        return f"{sentence}; to bring the range to no effect, {self.e_value_nearest:.2f} times."

    def _rows(self) -> list[tuple[str, str]]:
        e, level = self.estimate, f"{self.estimate.level:.0%}"
        nearest = (
            "not given: errors are clustered"
            if self.robustness_nearest is None
            else f"{self.robustness_nearest:.1%}"
        )
        return [
            ("estimate", f"{e.method}: {e.format(e.value, sign=True)} {e.shown_unit}, {e.interval_text()}"),
            ("E-value of the estimate", _number(self.e_value, self.ratio, self.scale)),
            (
                "E-value of the range's end nearest zero",
                _number(self.e_value_nearest, self.ratio_nearest, self.scale),
            ),
            (
                "least squares, common slopes",
                f"{e.format(self.regression, sign=True)} {e.shown_unit}, t {self.regression_t:.2f} with "
                f"{self.regression_df:,.0f} degrees of freedom (classical)",
            ),
            ("robustness value of that estimate", f"{self.robustness:.1%}"),
            (f"robustness value of its {level} interval", nearest),
            ("in words", self.sentence),
        ]

    def _table(self) -> list[tuple[str, ...]]:
        e = self.estimate
        head = ("something unrecorded, as strong as", "training explained", "KPI explained",
                f"effect would be ({e.shown_unit})", f"{e.level:.0%} interval", "to bring it to zero")  # fmt: skip
        rows = [
            (
                b.covariate,
                f"{b.r2_treatment:.2%}",
                f"{b.r2_kpi:.2%}",
                "cannot be" if b.value is None else e.format(b.value, sign=True),
                ""
                if b.low is None or b.high is None
                else f"{e.format(b.low, sign=True)} to {e.format(b.high, sign=True)}",
                f"{_times(b.times_to_zero)} as strong" if b.times_to_zero is not None else "never",
            )
            for b in self.benchmarks[:MOST_BENCHMARKS]
        ]
        return [head, *rows]

    def __str__(self) -> str:
        rows = [f"{name}: {text}" for name, text in self._rows()]
        return "\n".join(rows + [" | ".join(row) for row in self._table()] if self.benchmarks else rows)

    def _repr_html_(self) -> str:
        if not self.benchmarks:
            return rows_to_html(self._rows())
        left = 'style="text-align:left"'
        head, *rows = self._table()
        top = "".join(f'<th scope="col" {left}>{escape(name)}</th>' for name in head)
        body = "".join(
            "<tr>" + "".join(f"<td {left}>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
        )
        table = f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
        return rows_to_html(self._rows()) + table


def e_value(ratio: float) -> float:
    """E-value of a risk ratio: r + sqrt(r (r - 1)), for r or its inverse, whichever is above 1.

    VanderWeele & Ding (2017), Annals of Internal Medicine 167; their first example:

    >>> round(e_value(3.9), 1), round(e_value(1.8), 1)
    (7.3, 3.0)
    """
    if not ratio > 0:
        raise ValueError(f"ratio == {ratio}, must be > 0")
    above = max(ratio, 1 / ratio)
    return above + math.sqrt(above * (above - 1))


def sensitivity(study: Study, estimate: Estimate | None) -> Sensitivity | None:
    """How strong something unrecorded would have to be to explain an estimate away.

    Parameters
    ----------
    study
        Design observational: the one that the estimate was made from. Units that lack a covariate are left out.
    estimate
        An adjusted estimate of any method, in effect units.

    Returns
    -------
    Sensitivity or None
        None for other designs, or without an estimate.

    Raises
    ------
    LdlabError
        If training follows from the covariates.

    Notes
    -----
    E-values: VanderWeele & Ding (2017), Annals of Internal Medicine 167. A binary KPI by its risk ratio, counts
    and rates by the ratio of means: the trained people's mean over that mean less the effect. Others by
    exp(0.91 d) with d the effect over the pooled standard deviation within the arms (their table 2), which does
    not change with the KPI's unit. An interval that crosses zero has the E-value 1.

    Robustness value and benchmarks: Cinelli & Hazlett (2020), Journal of the Royal Statistical Society B 82,
    sections 4.2 and 4.4, on the least-squares regression of the KPI on training and the covariates. They are
    about that regression, not about the estimate, and about linear confounding.
    """
    if study.program.design.kind != "observational" or estimate is None:
        return None
    frame = study.frame.dropna(subset=list(study.covariates))
    arm, outcome = frame["arm"].to_numpy(dtype=float), frame["outcome"].to_numpy(dtype=float)
    to_ratio, scale = _ratio_of(study, arm, outcome)
    crosses = estimate.low <= 0 <= estimate.high
    nearest = 0.0 if crosses else min(estimate.low, estimate.high, key=abs)
    ratio, ratio_nearest = to_ratio(estimate.value), 1.0 if crosses else to_ratio(nearest)
    regression = Regression(study, arm, outcome, frame[list(study.covariates)].to_numpy(dtype=float))
    clustered = "cluster" in frame
    alpha = 1 - estimate.level
    return Sensitivity(
        estimate=estimate,
        scale=scale,
        ratio=ratio,
        ratio_nearest=ratio_nearest,
        e_value=None if ratio is None else e_value(ratio),
        e_value_nearest=None if ratio_nearest is None else e_value(ratio_nearest),
        regression=regression.value,
        regression_t=regression.t,
        regression_df=regression.df,
        robustness=robustness(regression.t, regression.df),
        robustness_nearest=None if clustered else robustness(regression.t, regression.df, alpha),
        benchmarks=regression.benchmarks(None if clustered else alpha),
    )


def _ratio_of(study: Study, arm: Floats, outcome: Floats) -> tuple[Callable[[float], float | None], str]:
    """How an effect becomes a ratio of risks, and what that ratio is called."""
    kpi = study.program.kpi
    name = RATIO_OF_MEANS.get(kpi.value_type)
    if name is None:
        spread = pooled_sd(outcome, arm)
        return lambda effect: math.exp(
            D_TO_RATIO * effect / spread
        ), "risk ratio from the standardised difference"
    mean = float(outcome[arm == 1].mean())
    return lambda effect: mean / (mean - effect) if mean > 0 and mean > effect else None, name


def _times(times: float | None) -> str:
    if times is None or times > MOST_TIMES:
        return f"over {MOST_TIMES:.0f} times"
    return f"{format_number(times, 1)} times"


def _number(value: float | None, ratio: float | None, scale: str) -> str:
    if value is None:
        return "not given: the estimate leaves an untrained mean of 0 or less"
    return f"{value:.2f} ({scale} {ratio:.2f})"
