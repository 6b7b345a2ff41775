"""Estimate: what a program did to its KPI, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from pydantic import PrivateAttr, field_validator
from scipy import stats

from ldlab.estimate.text import Noun, Printed, format_chance, format_number, level_in_words

COMPLIERS_ASSUME = (
    "The effect on those who came counts only if the offer changed the KPI through attendance alone, and nobody "
    "stays away because of being offered."
)


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
        The interval and its level; equal-tailed. Where no interval can be given, bounds and error are infinite and
        chances not a number (null in ``estimate.json``).
    n
        Numbers of treated and comparison units, clusters, observations (intention-to-treat: ``treated`` were
        offered, ``attended`` of them came); None where it does not apply or is suppressed.
    p_gain, p_target, p_negligible
        Chance of any gain; of reaching ``target``; of an effect smaller than ``smallest`` either way.
        From the t or normal distribution (a flat prior's posterior) or from draws.
    p_worthwhile
        Chance of at least ``smallest``; not a number in files of versions that had none.
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
    p_worthwhile: float = math.nan
    term: str = ""
    _draws: tuple[float, ...] = PrivateAttr(())

    @field_validator("se", "high", mode="before")
    @classmethod
    def _null_is_no_bound(cls, value: Any) -> Any:
        return math.inf if value is None else value

    @field_validator("low", mode="before")
    @classmethod
    def _null_is_no_lower_bound(cls, value: Any) -> Any:
        return -math.inf if value is None else value

    @field_validator("p_gain", "p_target", "p_negligible", "p_worthwhile", mode="before")
    @classmethod
    def _null_is_not_known(cls, value: Any) -> Any:
        return math.nan if value is None else value

    @property
    def has_interval(self) -> bool:
        """Whether anything can be said about how sure it is."""
        return math.isfinite(self.low) or math.isfinite(self.high)

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
            p_worthwhile=float(law.sf(rest["smallest"]) if sign > 0 else law.cdf(rest["smallest"])),
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
            p_worthwhile=float((sign * draws >= sign * rest["smallest"]).mean()),
            p_negligible=float((np.abs(draws) < abs(rest["smallest"])).mean()),
            **rest,
        )
        return made.with_draws(draws)

    @property
    def assumption(self) -> str:
        """What the estimand rests on that no data can show; empty where the design provides it."""
        return COMPLIERS_ASSUME if self.estimand == "CACE" else ""

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
        return math.expm1(effect) * 100 if self.scale == "log" and effect < math.inf else effect

    @property
    def decimals(self) -> int:
        """Decimals that the interval's width supports."""
        ends = [end for end in (self.low, self.high) if math.isfinite(end)]
        ends = ends if len(ends) == 2 else [0.0, self.value]
        width = abs(self.shown(ends[1]) - self.shown(ends[0]))
        return 0 if width <= 0 else max(0, min(6, 1 - math.floor(math.log10(width))))

    def format(self, effect: float, *, sign: bool = False) -> str:
        """An effect as text, rounded to what the interval supports, without its unit."""
        return format_number(self.shown(effect), self.decimals, sign=sign)

    def interval_text(self) -> str:
        """'9-in-10 range a to b', with the level that the bounds have."""
        if not self.has_interval:
            return "no range can be given"
        return f"{level_in_words(self.level)} {self.format(self.low, sign=True)} to {self.format(self.high, sign=True)}"

    def _rows(self) -> list[tuple[str, str]]:
        counts = ", ".join(f"{count:,} {name}" for name, count in self.n.items() if count is not None)
        log = (
            f" (log points {format_number(self.value, 4)}, se {format_number(self.se, 4)})"
            if self.scale == "log"
            else ""
        )
        se = "" if self.scale == "log" else f", se {format_number(self.se, self.decimals + 1)}"
        return [
            (self.method + (f", {self.term}" if self.term else ""), self.estimand),
            ("effect", f"{self.format(self.value, sign=True)} {self.shown_unit}{se} ({self.se_kind}){log}"),
            (
                f"{self.level:.0%} interval",
                f"{self.format(self.low, sign=True)} to {self.format(self.high, sign=True)}"
                if self.has_interval
                else "none can be given",
            ),
            ("chance of any gain", format_chance(self.p_gain)),
            (f"chance of {self.format(self.target, sign=True)} or better", format_chance(self.p_target)),
            ("chance it is practically nothing", format_chance(self.p_negligible)),
            ("counted", counts),
        ]
