"""What a program cost and brought: means, intervals, chances, expected losses, and what would change the sign."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ldlab.estimate import Estimate, Grade, Money, Sensitivity
from ldlab.money.inputs import DRAWS, Input, Value, benefit_inputs, benefit_of, cost_inputs, cost_of
from ldlab.money.words import People, plain, say
from ldlab.program import Program
from ldlab.program.costs import Costs

SIZED = ("A", "B", "C")


def full_cost(program: Program, participants: int) -> tuple[float, float]:
    """Full cost and, within it, the cost of participants' time, at the best guesses, in the program's currency.

    Fully loaded as the Phillips guiding principle 10 asks: items, and hours at the loaded rate.

    >>> # two items: 1,000 fixed, 50 a head; 8 hours at 40; 10 participants: 1,000 + 500 + 3,200 = 4,700
    """
    costs = program.costs
    if costs is None:
        return 0.0, 0.0
    total, time = cost_of(costs, participants, _guesses(cost_inputs(program, costs, 1)))
    return float(total), float(time)


def payback(program: Program, estimate: Estimate, grade: Grade | None = None) -> Money | None:
    """What the program cost and brought; None where its file gives no costs.

    Benefit = improvement (KPI units) x people x years x value of one unit a year; net benefit is benefit less
    full cost. The effect's draws are those of its posterior, or of its t or normal distribution; every other number
    that the file gives with a range is drawn independently (:func:`ldlab.money.inputs.draw`), from ``analysis.seed``.
    The expected losses of scaling and of stopping are means over these draws of what the wrong choice would cost;
    the smaller one is the expected value of perfect information (Raiffa and Schlaifer 1961).

    Parameters
    ----------
    program
        Its ``costs`` are used. Costs are counted for ``costs.participants``, by default the trained units with a KPI
        (for an intention-to-treat effect: those who attended). Benefits are counted for the trained units with a
        KPI, for an intention-to-treat effect for everyone offered. Participants beyond those in the data gained
        nothing, unless ``costs.people_without_data`` says that they gained like the others.
    estimate
        The estimate that leads.
    grade
        Grade of the evidence, if it is known already: below C no benefit is stated.
    """
    costs = program.costs
    if costs is None:
        return None
    people = _people(costs, estimate)
    why_not = _why_not(costs, people, grade)
    benefits = {} if why_not else benefit_inputs(program, costs, estimate)
    size = np.size(benefits["effect"].draws) if benefits else DRAWS
    ledger = _Ledger(costs, estimate, people, {**benefits, **cost_inputs(program, costs, size)})
    cost, time = cost_of(costs, people.participants, ledger.draws)
    money = Money(
        currency=costs.currency,
        cost=float(np.mean(cost)),
        cost_of_time=float(np.mean(time)),
        participants=people.participants,
        beneficiaries=people.beneficiaries,
        owner=costs.owner,
        level=estimate.level,
        horizon_years=costs.horizon_years.value,
    )
    if not why_not:
        money = _with_benefit(money, ledger, cost)
    return money.model_copy(update={"said": say(money, program, people, why_not)})


@dataclass(frozen=True)
class _Ledger:
    """Inputs, and the net benefit that follows from them."""

    costs: Costs
    estimate: Estimate
    people: People
    inputs: Mapping[str, Input]

    @property
    def draws(self) -> dict[str, Value]:
        return {name: one.draws for name, one in self.inputs.items()}

    def net(self, at: Mapping[str, Value]) -> float:
        cost = cost_of(self.costs, self.people.participants, at)[0]
        return float(benefit_of(self.estimate, self.people.beneficiaries, at) - cost)


def _guesses(inputs: Mapping[str, Input]) -> dict[str, Value]:
    return {name: one.guess for name, one in inputs.items()}


def _why_not(costs: Costs, people: People, grade: Grade | None) -> str:
    """Why no benefit can be stated; empty where it can."""
    if costs.value_of_unit is None:
        return "the program file gives no value of a KPI unit"
    if grade is not None and grade not in SIZED:
        return f"evidence of grade {grade} cannot carry an amount"
    return "" if people.beneficiaries else "nobody who was trained has a KPI"


def _people(costs: Costs, estimate: Estimate) -> People:
    """Whose cost and whose benefit is counted; see :func:`payback`."""
    treated, attended = estimate.n.get("treated") or 0, estimate.n.get("attended")
    is_offer = estimate.estimand == "ITT"
    measured = treated if attended is None else attended
    participants = costs.participants or measured
    if is_offer and attended is None:
        measured = min(measured, participants)
    gained = participants if costs.people_without_data == "like the others" else min(participants, measured)
    reached = treated if is_offer else measured
    return People(
        participants=participants,
        beneficiaries=round(reached * gained / measured) if measured else treated,
        without_data=max(participants - measured, 0),
        beyond_the_file=max(measured - participants, 0),
        is_offer=is_offer,
    )


def _with_benefit(money: Money, ledger: _Ledger, cost: Value) -> Money:
    benefit = np.asarray(benefit_of(ledger.estimate, money.beneficiaries, ledger.draws))
    net = benefit - cost
    guesses = _guesses(ledger.inputs)
    tail = (1 - money.level) / 2
    stated = {
        **_spread("net", net, tail),
        **_spread("benefit", benefit, tail),
        "p_payback": float((net >= 0).mean()),
        "loss_of_scaling": float(np.maximum(-net, 0).mean()),
        "loss_of_stopping": float(np.maximum(net, 0).mean()),
        "net_at_best_guess": ledger.net(guesses),
        "break_even": _break_even(ledger, guesses),
        "break_even_unit": ledger.estimate.shown_unit,
        "sensitivity": _sensitivity(ledger),
    }
    if np.min(cost) > 0:
        # The ratio of the means: its sign is that of the mean net benefit, and it is finite.
        stated |= {
            **_spread("roi", 100 * net / cost, tail),
            "roi": float(100 * net.mean() / np.mean(cost)),
        }
    told = money.model_copy(update=stated)
    told._draws = tuple(float(draw) for draw in net)
    return told


def _spread(name: str, draws: np.ndarray, tail: float) -> dict[str, float]:
    """Mean, and ends of the equal-tailed interval."""
    low, high = np.quantile(draws, [tail, 1 - tail])
    return {name: float(draws.mean()), f"{name}_low": float(low), f"{name}_high": float(high)}


def _break_even(ledger: _Ledger, guesses: Mapping[str, Value]) -> float:
    """The effect, as readers see it, at which the benefit covers the cost at the best guesses."""
    estimate, costs = ledger.estimate, ledger.costs
    cost = cost_of(costs, ledger.people.participants, guesses)[0]
    needed = estimate.sign * float(cost / (ledger.people.beneficiaries * guesses["years"] * guesses["value"]))
    return needed if estimate.scale != "log" else 100 * needed / float(estimate.baseline or np.nan)


def _sensitivity(ledger: _Ledger) -> tuple[Sensitivity, ...]:
    """Every input at its two ends, the others at their best guess; what moves the net benefit most comes first."""
    guesses = _guesses(ledger.inputs)
    rows = []
    for name, one in ledger.inputs.items():
        if one.guess == one.low == one.high == 0:
            continue
        low, high = (ledger.net({**guesses, name: end}) for end in (one.low, one.high))
        shown = ledger.estimate.shown if name == "effect" else float
        rows.append(
            Sensitivity(
                input=one.name,
                unit=one.unit,
                owner=one.owner,
                low=shown(one.low),
                high=shown(one.high),
                net_at_low=low,
                net_at_high=high,
                changes_sign=(low >= 0) != (high >= 0),
            )
        )
    return tuple(sorted(rows, key=lambda row: -abs(row.net_at_high - row.net_at_low)))


def sensitivity_table(money: Money | None) -> pd.DataFrame | None:
    """One row for each number behind the net benefit: its 9-in-10 range, the net benefit at both ends, its owner.

    What moves the net benefit most comes first; a number that is taken as known exactly has one value for both ends.
    None where no net benefit is stated.
    """
    if money is None or not money.sensitivity:
        return None
    rows = [
        {
            "number": row.input,
            "unit": row.unit,
            "range": f"{plain(row.low)} to {plain(row.high)}" if row.low < row.high else plain(row.low),
            "net at low end": money.amount(row.net_at_low),
            "net at high end": money.amount(row.net_at_high),
            "changes the sign": "yes" if row.changes_sign else "no",
            "who answers for it": row.owner,
        }
        for row in money.sensitivity
    ]
    return pd.DataFrame(rows).set_index("number")
