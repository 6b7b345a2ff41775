"""Estimate + costs -> what the program cost, what it brought, and the chance that it pays back."""

from __future__ import annotations

import numpy as np
from scipy import stats

from ldlab.estimate import Estimate, Money
from ldlab.program import Program

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


def net_benefit(program: Program, estimate: Estimate) -> Money | None:
    """Net benefit of a program, or None where the file gives no costs or no value of a KPI unit.

    Benefit = improvement (KPI units) x participants x value of one unit a year x years. The effect is drawn from
    the estimate's t or normal distribution, the value of a unit from a normal one whose 90% range is the file's
    ``low`` to ``high`` (cut off at zero). Effects are independent of values.

    Parameters
    ----------
    program
        Its ``costs`` are used; ``costs.participants`` defaults to the trained units with a KPI.
    estimate
        The estimate that leads; its effect is counted for every participant.
    """
    costs = program.costs
    participants = (costs.participants if costs else None) or estimate.n.get("treated")
    if costs is None or costs.value_of_unit is None or not participants:
        return None
    cost, time = full_cost(program, participants)
    rng = np.random.default_rng(program.analysis.seed)
    law = (
        stats.norm(estimate.value, estimate.se)
        if estimate.df is None
        else stats.t(estimate.df, estimate.value, estimate.se)
    )
    improvement = estimate.sign * _in_kpi_units(law.rvs(DRAWS, random_state=rng), estimate)
    worth = costs.value_of_unit
    spread = (
        0.0
        if worth.low is None or worth.high is None
        else (worth.high - worth.low) / (2 * stats.norm.ppf(0.95))
    )
    value = np.maximum(rng.normal(worth.amount, spread, DRAWS), 0)
    net = improvement * participants * costs.horizon_years * value - cost
    tail = (1 - estimate.level) / 2
    low, high = np.quantile(net, [tail, 1 - tail])
    needed = estimate.sign * cost / (participants * costs.horizon_years * worth.amount)
    on_percent = estimate.scale == "log"
    return Money(
        currency=costs.currency,
        cost=cost,
        cost_of_time=time,
        participants=participants,
        net=float(net.mean()),
        net_low=float(low),
        net_high=float(high),
        level=estimate.level,
        p_payback=float((net >= 0).mean()),
        break_even=100 * needed / float(estimate.baseline or np.nan) if on_percent else needed,
        break_even_unit=estimate.shown_unit,
        horizon_years=costs.horizon_years,
        owner=costs.owner,
    )


def _in_kpi_units(effects: np.ndarray, estimate: Estimate) -> np.ndarray:
    """Effects in KPI units: log points are applied to the baseline."""
    if estimate.scale != "log":
        return effects
    return np.expm1(effects) * float(estimate.baseline or np.nan)
