"""Worlds for the coverage of estimators of measures: rates, winsorised means, percentages, shares with any, doses.

``world(rng, effect)`` draws one experiment with ``effect`` times the world's own effect (0: none), and gives the study
and the truths; ``WORLDS`` holds them with the estimator whose intervals should hold those: (name, world, estimator), the
fields of :class:`tests.coverage_ab.Case`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from ldlab.ab.dose import dose_response
from ldlab.ab.means import difference_in_means
from ldlab.ab.percent import percent_effect
from ldlab.ab.ratio import ratio_difference
from ldlab.ab.score import score_interval
from ldlab.ab.tails import two_parts
from ldlab.program import Study
from tests.studies import make_study

Interval = tuple[float, float]
World = Callable[[np.random.Generator, float], tuple[Study, Sequence[float]]]
LEVEL = 0.9
RATE = {
    "column": "count", "exposure_column": "exposure", "value_type": "rate", "unit": "tickets per hour",
    "target": {"value": 0.1, "unit": "tickets per hour"},
    "smallest_effect_worth_having": {"value": 0.05, "unit": "tickets per hour"},
}  # fmt: skip
POINTS = {
    "value_type": "binary", "unit": "percentage points", "target": {"value": 5.0, "unit": "percentage points"},
    "smallest_effect_worth_having": {"value": 2.0, "unit": "percentage points"},
}  # fmt: skip


def study_of(frame: pd.DataFrame, design: Any = "randomised", **kpi: Any) -> Study:
    """A study without covariates, at this file's level."""
    return make_study(frame, design, covariates=(), level=LEVEL, kpi=kpi)


def lots(rng: np.random.Generator, n: int, share: float = 0.5) -> np.ndarray:
    """(n,) 1 for a share of the units, by lot."""
    return rng.permutation(np.arange(n) < round(share * n)).astype(int)


def rate_frame(
    rng: np.random.Generator, arm: np.ndarray, *, effect: float, depends: float = 0.0
) -> pd.DataFrame:
    """Overdispersed counts at a rate 0.5 + ``effect``; with ``depends`` the effect grows with exposure."""
    exposure = rng.gamma(3, 3, len(arm))
    rate = 0.5 + arm * (effect + depends * (exposure - 9) / 9)
    count = rng.poisson(np.maximum(rate, 0) * exposure * rng.gamma(4, 0.25, len(arm)))
    return pd.DataFrame({"arm": arm, "count": count, "exposure": exposure, "outcome": count / exposure})


def clipped_study(arm: np.ndarray, raw: np.ndarray, above: float) -> Study:
    """A study winsorised at a quantile."""
    frame = pd.DataFrame({"arm": arm, "outcome": np.minimum(raw, np.quantile(raw, above)), "raw": raw})
    return make_study(frame, kpi={"winsorise": {"above": above}}, covariates=())


def world_rate(rng: np.random.Generator, effect: float) -> tuple[Study, Sequence[float]]:
    """60 and 120 units; the effect grows with exposure, so that units' own rates would answer another question."""
    # E[count] = (0.5 + arm effect (.1 + .05 (x - 9)/9)) x with x ~ Gamma(3, 3): E x = 9, E x^2 = 108.
    frame = rate_frame(rng, lots(rng, 180, 1 / 3), effect=0.1 * effect, depends=0.05 * effect)
    return study_of(frame, **RATE), [effect * (0.1 + 0.05 * (108 / 9 - 9) / 9)]


def world_rate_clustered(rng: np.random.Generator, effect: float) -> tuple[Study, Sequence[float]]:
    """40 teams of 5 to 15, each with a rate of its own, assigned whole."""
    sizes = rng.integers(5, 16, 40)
    team = np.repeat(np.arange(40), sizes)
    arm = lots(rng, 40)[team]
    exposure = rng.gamma(3, 3, len(team))
    count = rng.poisson((0.5 + 0.1 * effect * arm) * rng.gamma(10, 0.1, 40)[team] * exposure)
    frame = pd.DataFrame({"arm": arm, "cluster": team.astype(str), "count": count, "exposure": exposure})
    return study_of(frame.assign(outcome=count / exposure), **RATE), [0.1 * effect]


def world_winsorised(rng: np.random.Generator, effect: float) -> tuple[Study, Sequence[float]]:
    """150 in each arm, lognormal, clipped at the 98th percentile; the truth is the effect on the clipped KPI."""
    arm, times = lots(rng, 300), 1 + 0.3 * effect
    raw = np.exp(rng.normal(0, 1.2, 300)) * np.where(arm == 1, times, 1.0)
    frame = pd.DataFrame({"arm": arm, "outcome": np.minimum(raw, np.quantile(raw, 0.98)), "raw": raw})
    return study_of(frame, winsorise={"above": 0.98}), [winsorised_truth(times)]


@cache
def winsorised_truth(times: float) -> float:
    """E min(times x, c) - E min(x, c), x lognormal, c the 98th percentile of the arms' mixture; by quadrature."""
    z = np.linspace(-9, 9, 400_001)
    points, weight = np.exp(1.2 * z), np.exp(-(z**2) / 2)
    weight /= weight.sum()
    values = np.concatenate([points, times * points])
    order = np.argsort(values)
    c = values[order][np.searchsorted(np.cumsum(np.concatenate([weight, weight])[order]) / 2, 0.98)]
    return float((weight * (np.minimum(times * points, c) - np.minimum(points, c))).sum())


def world_percent(rng: np.random.Generator, effect: float) -> tuple[Study, Sequence[float]]:
    """A base of 5 standard errors, where the delta method's symmetric interval misses on one side only."""
    arm = lots(rng, 60)
    outcome = 1.0 + effect * arm + rng.normal(0, math.sqrt(30) / 5, 60)
    return study_of(pd.DataFrame({"arm": arm, "outcome": outcome})), [100.0 * effect]


def world_two_parts(rng: np.random.Generator, effect: float) -> tuple[Study, Sequence[float]]:
    """60% zeros, 50% in the program arm; lognormal amounts."""
    arm = lots(rng, 300)
    has_any = rng.random(300) < 0.4 + 0.1 * effect * arm
    return study_of(pd.DataFrame({"arm": arm, "outcome": has_any * np.exp(rng.normal(0, 1, 300))})), [
        10.0 * effect
    ]


def world_few_cases(rng: np.random.Generator, effect: float) -> tuple[Study, Sequence[float]]:
    """2% of 60 against 6% of 60."""
    arm = lots(rng, 120)
    outcome = 100.0 * (rng.random(120) < 0.02 + 0.04 * effect * arm)
    return study_of(pd.DataFrame({"arm": arm, "outcome": outcome}), **POINTS), [4.0 * effect]


def world_dose(rng: np.random.Generator, effect: float) -> tuple[Study, Sequence[float]]:
    """The able take more hours and do better anyway; an hour adds 0.5."""
    arm, able = lots(rng, 200), rng.normal(size=200)
    dose = arm * np.maximum(0, np.round(4 + 2 * able + rng.normal(size=200), 1))
    outcome = 10 + 0.5 * effect * dose + 2 * able + rng.normal(size=200)
    design = {"kind": "randomised", "columns": {"dose": "dose"}}
    return study_of(pd.DataFrame({"arm": arm, "dose": dose, "outcome": outcome}), design), [0.5 * effect]


def of_ratio(study: Study) -> Sequence[Interval]:
    """Total over total."""
    found = ratio_difference(study)
    return [(found.low, found.high)]


def of_difference(study: Study) -> Sequence[Interval]:
    """Plain difference in means."""
    found = difference_in_means(study)
    return [(found.low, found.high)]


def of_percent(study: Study) -> Sequence[Interval]:
    """Percent effect of the plain difference; no bounds where it is refused."""
    found = percent_effect(study, difference_in_means(study))
    return [(-math.inf, math.inf) if found.low is None or found.high is None else (found.low, found.high)]


def of_delta(study: Study) -> Sequence[Interval]:
    """The same by the delta method, which does not lead."""
    found = percent_effect(study, difference_in_means(study))
    low, high = found.delta_low, found.delta_high
    return [(-math.inf, math.inf) if low is None or high is None else (low, high)]


def of_share(study: Study) -> Sequence[Interval]:
    """The effect on the share with any."""
    found = two_parts(study)
    assert found is not None
    return [(found.share_low, found.share_high)]


def of_score(study: Study) -> Sequence[Interval]:
    """The score interval; nothing is claimed where nobody has a case, least squares where there are cases enough."""
    if not study.frame["outcome"].any():
        return [(-100.0, 100.0)]
    found = score_interval(study) or difference_in_means(study)
    return [(found.low, found.high)]


def of_dose(study: Study) -> Sequence[Interval]:
    """The effect of one more hour."""
    found = dose_response(study)
    assert found is not None and found.estimate is not None
    return [(found.estimate.low, found.estimate.high)]


WORLDS: list[tuple[str, World, Callable[[Study], Sequence[Interval]]]] = [
    ("rate, total over total", world_rate, of_ratio),
    ("rate, total over total, 40 teams assigned", world_rate_clustered, of_ratio),
    ("winsorised", world_winsorised, of_difference),
    ("percent, Fieller, base 5 standard errors off zero", world_percent, of_percent),
    ("percent, delta method (beside), the same", world_percent, of_delta),
    ("share with any", world_two_parts, of_share),
    ("few cases, score interval", world_few_cases, of_score),
    ("one more unit of dose", world_dose, of_dose),
]
