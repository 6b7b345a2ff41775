"""Estimate + costs -> what the program cost, what it brought, and the chance that it pays back."""

from __future__ import annotations

import numpy as np
from scipy import stats

from ldlab.estimate import Estimate, Money
from ldlab.program import Program
from ldlab.program.costs import ValueOfUnit

DRAWS = 20_000


def full_cost(program: Program, participants: int) -> tuple[float, float]:
    """Full cost and, within it, the cost of participants' time, in the program's currency.

    Fully loaded as the Phillips guiding principle 10 asks: items, and hours at the loaded rate.

    >>> # two items: 1,000 fixed, 50 a head; 8 hours at 40; 10 participants: 1,000 + 500 + 3,200 = 4,700
    """
    costs = program.costs
    if costs is None:
        return 0.0, 0.0
    items = sum(item.amount * (participants if item.per == "participant" else 1) for item in costs.items)
    time = participants * costs.participant_hours * costs.loaded_hourly_rate
    return items + time, time


def payback(program: Program, estimate: Estimate) -> Money | None:
    """What the program cost and brought; None where its file gives no costs.

    Benefit = improvement (KPI units) x participants x value of one unit a year x years. The effect is drawn from
    the estimate's t or normal distribution, the value of a unit from a normal one whose 90% range is the file's
    ``low`` to ``high`` (cut off at zero). Effects are independent of values.

    Parameters
    ----------
    program
        Its ``costs`` are used; ``costs.participants`` defaults to the trained units with a KPI. For an
        intention-to-treat effect cost is that of those who attended, benefit that of all who were offered.
    estimate
        The estimate that leads; its effect is counted for every participant.
    """
    costs = program.costs
    if costs is None:
        return None
    treated = estimate.n.get("treated") or 0
    participants = costs.participants or estimate.n.get("attended") or treated
    beneficiaries = treated if estimate.estimand == "ITT" else participants
    cost, time = full_cost(program, participants)
    money = Money(
        currency=costs.currency,
        cost=cost,
        cost_of_time=time,
        participants=participants,
        beneficiaries=beneficiaries,
        owner=costs.owner,
        level=estimate.level,
        horizon_years=costs.horizon_years,
    )
    if costs.value_of_unit is None or not beneficiaries:
        return money
    person_years = beneficiaries * costs.horizon_years
    net = _improvements(program, estimate) * person_years * _values(program, costs.value_of_unit) - cost
    tail = (1 - estimate.level) / 2
    low, high = np.quantile(net, [tail, 1 - tail])
    break_even = estimate.sign * cost / (person_years * costs.value_of_unit.amount)
    if estimate.scale == "log":
        break_even *= 100 / float(estimate.baseline or np.nan)
    stated = {
        "net": float(net.mean()),
        "net_low": float(low),
        "net_high": float(high),
        "p_payback": float((net >= 0).mean()),
        "break_even": break_even,
        "break_even_unit": estimate.shown_unit,
    }
    return money.model_copy(update=stated)


def _improvements(program: Program, estimate: Estimate) -> np.ndarray:
    """Draws of the improvement in KPI units, positive is better."""
    law = stats.norm if estimate.df is None else stats.t(estimate.df)
    rng = np.random.default_rng([program.analysis.seed, 0])
    effects = estimate.value + estimate.se * law.rvs(size=DRAWS, random_state=rng)
    return estimate.sign * _in_kpi_units(effects, estimate)


def _values(program: Program, value: ValueOfUnit) -> np.ndarray:
    """Draws of the value of one KPI unit; never negative."""
    known = value.low is not None and value.high is not None
    spread = (float(value.high or 0) - float(value.low or 0)) / (2 * stats.norm.ppf(0.95)) if known else 0.0
    rng = np.random.default_rng([program.analysis.seed, 1])
    return np.maximum(rng.normal(value.amount, spread, DRAWS), 0)


def _in_kpi_units(effects: np.ndarray, estimate: Estimate) -> np.ndarray:
    """Effects in KPI units: log points are applied to the baseline."""
    if estimate.scale != "log":
        return effects
    return np.expm1(effects) * float(estimate.baseline or np.nan)
