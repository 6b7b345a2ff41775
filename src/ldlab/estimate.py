"""The nouns every study ends with: Estimate, Check, Claim, Decision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, PrivateAttr
from scipy import stats

Verdict = Literal["target met", "moved, below target", "unclear", "wrong way", "too early", "not readable"]
Status = Literal["passed", "failed", "not_run"]
Grade = Literal["A", "B", "C", "D", "E"]
VERDICT_MEANS: dict[str, str] = {
    "target met": "the target is shown to be reached",
    "moved, below target": "it moved; that it reached the target is not shown",
    "unclear": "no clear difference in either direction",
    "wrong way": "it moved away from the goal",
    "too early": "an effect is not expected yet",
    "not readable": "a check broke the result",
}
GRADES: tuple[Grade, ...] = ("A", "B", "C", "D", "E")


class Printed:
    """Prints itself as rows of (name, text): lines on a terminal, a table in JupyterLab."""

    def _rows(self) -> list[tuple[str, str]]:
        raise NotImplementedError

    def __str__(self) -> str:
        return "\n".join(f"{name}: {text}" for name, text in self._rows())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return rows_to_html(self._rows())


class Noun(BaseModel):
    """A frozen result that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(Printed, Noun):
    """One estimate of what a program did to its KPI.

    Effects are signed in the KPI's own direction of counting: a fall is negative even where less is better.

    Attributes
    ----------
    method, estimand, design
        How it was estimated; what of (ATE, ITT, ATT, CACE, change); by which design.
    kpi, unit, direction, scale, baseline
        The KPI, the unit of ``value`` and ``se``, which way is better, 'log' if ``value`` is in log points,
        and the KPI mean that percentages refer to.
    value, se, se_kind, df
        Point estimate, its standard error, which kind of standard error (HC2, cluster by team, posterior sd),
        and the degrees of freedom of its t distribution (None: normal, or posterior draws).
    low, high, level
        The interval and its level; equal-tailed.
    n
        Numbers of treated and comparison units, clusters, observations (intention-to-treat: ``treated`` were
        offered, ``attended`` of them came); None where it does not apply or is suppressed.
    p_gain, p_target, p_negligible
        Chance of any gain; of reaching ``target``; of an effect smaller than ``smallest`` either way.
        From the t or normal distribution (a flat prior's posterior) or from draws.
    term
        Which part of a larger result this is, such as 'year 1' or a segment; empty for the whole.
    """

    method: str
    estimand: str
    design: str
    kpi: str
    unit: str
    direction: Literal["increase", "decrease"]
    scale: Literal["as is", "log"] = "as is"
    baseline: float | None = None
    value: float
    se: float
    se_kind: str
    df: float | None = None
    low: float
    high: float
    level: float
    n: dict[str, int | None]
    p_gain: float
    p_target: float
    p_negligible: float
    target: float
    smallest: float
    term: str = ""
    _draws: tuple[float, ...] = PrivateAttr(())

    @property
    def draws(self) -> np.ndarray | None:
        """(draws,) posterior draws of ``value``; None without a posterior. Saved beside ``estimate.json``."""
        return np.array(self._draws) if self._draws else None

    def with_draws(self, draws: Sequence[float] | np.ndarray) -> Self:
        """The same estimate with its posterior draws, as they were saved."""
        copy = self.model_copy()
        copy._draws = tuple(float(draw) for draw in draws)
        return copy

    @classmethod
    def from_t(cls, value: float, se: float, *, df: float | None = None, **rest: Any) -> Self:
        """An estimate whose error is t with ``df`` degrees of freedom (None: normal) and scale ``se``.

        The chances are those of the posterior under a flat prior (Gelman et al., Bayesian Data Analysis,
        3rd ed., section 3.2); ``rest`` holds the other fields, see :meth:`ldlab.Study.measure`.
        """
        if not (math.isfinite(value) and math.isfinite(se) and se > 0):
            raise ValueError(f"value == {value}, se == {se}, must be finite, se > 0")
        law = stats.norm(value, se) if df is None else stats.t(df, value, se)
        sign = 1 if rest["direction"] == "increase" else -1
        low, high = law.interval(rest["level"])
        smallest = abs(rest["smallest"])
        return cls(
            value=float(value),
            se=float(se),
            df=None if df is None else float(df),
            low=float(low),
            high=float(high),
            p_gain=float(law.sf(0) if sign > 0 else law.cdf(0)),
            p_target=float(law.sf(rest["target"]) if sign > 0 else law.cdf(rest["target"])),
            p_negligible=float(law.cdf(smallest) - law.cdf(-smallest)),
            **rest,
        )

    @classmethod
    def from_draws(cls, draws: np.ndarray, **rest: Any) -> Self:
        """An estimate from posterior draws of the effect (any shape; flattened)."""
        draws = np.asarray(draws, dtype=float).ravel()
        if not np.isfinite(draws).all():
            raise ValueError("draws must be finite")
        tail = (1 - rest["level"]) / 2
        low, high = np.quantile(draws, [tail, 1 - tail])
        sign = 1 if rest["direction"] == "increase" else -1
        made = cls(
            value=float(draws.mean()),
            se=float(draws.std(ddof=1)),
            low=float(low),
            high=float(high),
            p_gain=float((sign * draws > 0).mean()),
            p_target=float((sign * draws >= sign * rest["target"]).mean()),
            p_negligible=float((np.abs(draws) < abs(rest["smallest"])).mean()),
            **rest,
        )
        return made.with_draws(draws)

    @property
    def sign(self) -> int:
        """+1 where more is better, -1 where less is."""
        return 1 if self.direction == "increase" else -1

    @property
    def shown_unit(self) -> str:
        """The unit of what readers see: percent where the analysis was on logs."""
        return "percent" if self.scale == "log" else self.unit

    def shown(self, effect: float) -> float:
        """An effect as readers see it: log points become percent."""
        return math.expm1(effect) * 100 if self.scale == "log" else effect

    @property
    def decimals(self) -> int:
        """Decimals that the interval's width supports."""
        width = abs(self.shown(self.high) - self.shown(self.low))
        return 0 if width <= 0 else max(0, min(6, 1 - math.floor(math.log10(width))))

    def format(self, effect: float, *, sign: bool = False) -> str:
        """An effect as text, rounded to what the interval supports, without its unit."""
        return format_number(self.shown(effect), self.decimals, sign=sign)

    def interval_text(self) -> str:
        """'9-in-10 range a to b', with the level that the bounds have."""
        return f"{level_in_words(self.level)} {self.format(self.low, sign=True)} to {self.format(self.high, sign=True)}"

    def _rows(self) -> list[tuple[str, str]]:
        counts = ", ".join(f"{count:,} {name}" for name, count in self.n.items() if count is not None)
        log = f" (log points {self.value:.4f}, se {self.se:.4f})" if self.scale == "log" else ""
        se = "" if self.scale == "log" else f", se {format_number(self.se, self.decimals + 1)}"
        return [
            (self.method + (f", {self.term}" if self.term else ""), self.estimand),
            ("effect", f"{self.format(self.value, sign=True)} {self.shown_unit}{se} ({self.se_kind}){log}"),
            (
                f"{self.level:.0%} interval",
                f"{self.format(self.low, sign=True)} to {self.format(self.high, sign=True)}",
            ),
            ("chance of any gain", format_chance(self.p_gain)),
            (f"chance of {self.format(self.target, sign=True)} or better", format_chance(self.p_target)),
            ("chance it is practically nothing", format_chance(self.p_negligible)),
            ("counted", counts),
        ]


class Check(Printed, Noun):
    """One check that could have broken the estimate.

    Attributes
    ----------
    name, sentence
        What was checked; what came of it, in one sentence for a leader.
    status
        'passed' means not rejected; 'not_run' is never passed.
    statistic, threshold
        The number looked at, and the bound it was held against; None when not run.
    power
        What the check could have seen.
    needed
        The design's grade presumes this check: the grade falls if it failed or was not run.
    breaks
        A failure makes the claim 'not readable'.
    """

    name: str
    status: Status
    sentence: str
    statistic: float | None = None
    statistic_name: str = ""
    threshold: float | None = None
    power: str = ""
    needed: bool = False
    breaks: bool = False

    def _rows(self) -> list[tuple[str, str]]:
        rows = [(self.name, f"{self.status.replace('_', ' ')}. {self.sentence}")]
        if self.statistic is not None:
            bound = f" (bound {self.threshold:g})" if self.threshold is not None else ""
            rows.append((self.statistic_name or "statistic", f"{self.statistic:.4g}{bound}"))
        if self.power:
            rows.append(("what it could see", self.power))
        return rows


class Claim(Noun):
    """The one sentence that may be said, with its verdict."""

    verdict: Verdict
    sentence: str

    def __str__(self) -> str:
        return self.sentence

    def _repr_html_(self) -> str:
        verdict = f"Verdict: {self.verdict} ({VERDICT_MEANS[self.verdict]})."
        return f"<p><strong>{escape(self.sentence)}</strong></p><p>{escape(verdict)}</p>"


class Decision(Noun):
    """What the agreed rule says, and why."""

    decision: Literal["scale", "continue", "fix", "test further", "stop", "too early"]
    reason: str


class Sensitivity(Noun):
    """One input's 5% and 95% ends, and the net benefit there, every other input at its best guess."""

    input: str
    unit: str
    owner: str
    low: float
    high: float
    net_at_low: float
    net_at_high: float
    changes_sign: bool


class Money(Printed, Noun):
    """Fully loaded cost against the benefit of the horizon, in the currency of the program file.

    Attributes
    ----------
    cost, cost_of_time, participants, beneficiaries
        Full cost (mean), its part that is working time; people whose cost is counted, and whose benefit.
    net, benefit, roi, p_payback, loss_of_scaling, loss_of_stopping
        Net benefit, benefit, ROI in percent; chance that net >= 0; means of max(0, -net) and of max(0, net).
    break_even, net_at_best_guess, sensitivity, said
        Effect (as readers see it) at which benefit equals cost, all else at its best guess; (name, text) to read.
    """

    currency: str
    cost: float
    cost_of_time: float
    participants: int
    beneficiaries: int
    owner: str
    level: float
    horizon_years: float
    net: float | None = None
    net_low: float | None = None
    net_high: float | None = None
    net_at_best_guess: float | None = None
    benefit: float | None = None
    benefit_low: float | None = None
    benefit_high: float | None = None
    roi: float | None = None
    roi_low: float | None = None
    roi_high: float | None = None
    p_payback: float | None = None
    loss_of_scaling: float | None = None
    loss_of_stopping: float | None = None
    break_even: float | None = None
    break_even_unit: str = ""
    sensitivity: tuple[Sensitivity, ...] = ()
    said: tuple[tuple[str, str], ...] = ()
    _draws: tuple[float, ...] = PrivateAttr(())

    @property
    def draws(self) -> np.ndarray | None:
        """(draws,) of the net benefit; None where none can be stated, and after saving."""
        return np.array(self._draws) if self._draws else None

    def _rows(self) -> list[tuple[str, str]]:
        return list(self.said)

    def amount(self, value: float) -> str:
        """An amount in this currency, to three significant digits."""
        return format_money(value, self.currency)


def rows_to_html(rows: list[tuple[str, str]]) -> str:
    """A two-column table with row headers; all text escaped. JupyterLab would align text to the right."""
    left = 'style="text-align:left"'
    cells = "".join(
        f'<tr><th scope="row" {left}>{escape(name)}</th><td {left}>{escape(text)}</td></tr>'
        for name, text in rows
    )
    return f"<table>{cells}</table>"


def format_number(value: float, decimals: int, *, sign: bool = False) -> str:
    """A number with thousands separators and a true minus sign; never '-0'.

    >>> format_number(-1234.56, 1, sign=True)
    '−1,234.6'
    """
    rounded = round(value, decimals) + 0.0
    text = f"{abs(rounded):,.{decimals}f}"
    mark = "−" if rounded < 0 else "+" if sign and rounded > 0 else ""
    return mark + text


def format_chance(chance: float) -> str:
    """A chance as a percentage that never claims certainty.

    >>> format_chance(0.9999), format_chance(0.314)
    ('over 99.5%', '31%')
    """
    if chance > 0.995:
        return "over 99.5%"
    if chance < 0.005:
        return "under 0.5%"
    return f"{chance:.0%}"


def format_money(value: float, currency: str) -> str:
    """An amount of money to three significant digits.

    >>> format_money(-103776, "EUR")
    'EUR −104,000'
    """
    digits = 0 if value == 0 else max(0, math.floor(math.log10(abs(value))) - 2)
    return f"{currency} {format_number(round(value, -digits), 0)}"


def chance_in_words(chance: float) -> str:
    """The defined word for a chance (after the UK PHIA yardstick, its bands made contiguous).

    >>> chance_in_words(0.31)
    'unlikely'
    """
    bounds = [
        (0.05, "remote chance"),
        (0.2, "very unlikely"),
        (0.4, "unlikely"),
        (0.55, "about as likely as not"),
        (0.8, "likely"),
        (0.95, "very likely"),
    ]
    return next((word for bound, word in bounds if chance < bound), "almost certain")


def level_in_words(level: float) -> str:
    """How pages name an interval of this level: '9-in-10 range', or its percentage.

    >>> level_in_words(0.9), level_in_words(0.95)
    ('9-in-10 range', '95% range')
    """
    tenths = level * 10
    return f"{tenths:.0f}-in-10 range" if abs(tenths - round(tenths)) < 1e-9 else f"{level:.0%} range"
