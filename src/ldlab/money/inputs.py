"""The numbers that a net benefit depends on, each with its best guess, its 9-in-10 range and its draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ldlab.estimate import Estimate
from ldlab.program import LdlabError, Program
from ldlab.program.costs import Costs, Uncertain

DRAWS = 20_000
Value = float | np.ndarray


@dataclass(frozen=True)
class Input:
    """One number: ``low`` and ``high`` are its 5% and 95% quantiles; ``draws`` is a float where it is known exactly."""

    name: str
    unit: str
    owner: str
    guess: float
    low: float
    high: float
    draws: Value


def _levels(size: int, seed: tuple[int, int]) -> np.ndarray:
    """The middles of ``size`` equal parts of (0, 1), in random order.

    Inputs drawn at such levels are a Latin hypercube sample (McKay, Beckman and Conover 1979): independent of each
    other, while each keeps its own distribution without Monte Carlo error.
    """
    return np.random.default_rng(seed).permutation((np.arange(size) + 0.5) / size)


def draw(guess: Uncertain, size: int, seed: tuple[int, int]) -> Value:
    """Draws of a number given as best guess and 9-in-10 range; the best guess itself where it is known exactly.

    The law is two halves of normal distributions that meet at the best guess, which is the median: each half has
    half of the probability, and the scale that puts the 5% quantile at ``low`` and the 95% quantile at ``high``.
    So three stated quantiles are kept exactly however lopsided the range is, and a symmetric range is a plain
    normal. Below zero it is cut off at zero, which moves neither quantile because ``low`` is not negative.
    (Best guess as median, range as quantiles: O'Hagan et al. 2006, Uncertain Judgements, ch. 5.)
    """
    low, high = guess.ends
    if low == high:
        return guess.value
    z = stats.norm.ppf(_levels(size, seed)) / stats.norm.ppf(0.95)
    return np.maximum(guess.value + np.where(z < 0, guess.value - low, high - guess.value) * z, 0.0)


def effect_input(program: Program, estimate: Estimate) -> Input:
    """The effect, in effect units (log points with scale: log), with at least ``DRAWS`` draws.

    The posterior draws where there are any, all of them and each equally often (repeated whole, in their order);
    else draws from the estimate's t or normal distribution.
    """
    name, seed = f"effect on {estimate.kpi}", program.analysis.seed
    posterior = estimate.draws
    if posterior is not None:
        draws = np.tile(posterior, -(-DRAWS // len(posterior)))
        low, high = np.quantile(posterior, [0.05, 0.95])
    else:
        law = stats.norm if estimate.df is None else stats.t(estimate.df)
        draws = estimate.value + estimate.se * law.ppf(_levels(DRAWS, (seed, 0)))
        low, high = estimate.value + estimate.se * law.ppf([0.05, 0.95])
    return Input(name, estimate.shown_unit, program.owner, estimate.value, float(low), float(high), draws)


def benefit_inputs(program: Program, costs: Costs, estimate: Estimate) -> dict[str, Input]:
    """``effect``, ``value`` and ``years``."""
    assert costs.value_of_unit is not None
    effect = effect_input(program, estimate)
    size, seed, years = np.size(effect.draws), program.analysis.seed, costs.horizon_years
    value, owner = costs.value_of_unit.guess, costs.value_of_unit.owner
    per_unit = f"{costs.currency} a year per {program.design.unit}"
    return {
        "effect": effect,
        "value": _input("value of one KPI unit", per_unit, owner, value, draw(value, size, (seed, 1))),
        "years": _input("horizon", "years", costs.owner, years, draw(years, size, (seed, 2))),
    }


def cost_inputs(program: Program, costs: Costs, size: int) -> dict[str, Input]:
    """``hours``, ``rate`` and every ``item <i>``."""
    seed, unit = program.analysis.seed, program.design.unit
    hours, rate = costs.participant_hours, costs.loaded_hourly_rate
    found = {
        "hours": _input(
            "working time", f"hours per {unit}", costs.owner, hours, draw(hours, size, (seed, 3))
        ),
        "rate": _input(
            "cost of a working hour", costs.currency, costs.owner, rate, draw(rate, size, (seed, 4))
        ),
    }
    for i, item in enumerate(costs.items):
        per = f"{costs.currency} per {unit}" if item.per == "participant" else costs.currency
        drawn = draw(item.amount, size, (seed, 5 + i))
        found[f"item {i}"] = _input(item.item, per, costs.owner, item.amount, drawn)
    return found


def _input(name: str, unit: str, owner: str, guess: Uncertain, draws: Value) -> Input:
    return Input(name, unit, owner, guess.value, *guess.ends, draws)


def cost_of(costs: Costs, participants: int, at: Mapping[str, Value]) -> tuple[Value, Value]:
    """Full cost and, within it, the cost of participants' time, at the given amounts, hours and rate."""
    time = participants * at["hours"] * at["rate"]
    heads = [participants if item.per == "participant" else 1 for item in costs.items]
    return sum((head * at[f"item {i}"] for i, head in enumerate(heads)), 0.0) + time, time


def benefit_of(estimate: Estimate, people: int, at: Mapping[str, Value]) -> Value:
    """Improvement in KPI units x people x years x value of a unit a year; a worsening is negative."""
    effect = at["effect"]
    if estimate.scale == "log":
        if estimate.baseline is None:
            raise LdlabError(
                f"{estimate.method}: found an effect in log points without a baseline; expected the mean that it changes."
            )
        effect = np.expm1(effect) * estimate.baseline
    return estimate.sign * effect * people * at["years"] * at["value"]
