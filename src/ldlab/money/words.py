"""What a leader reads about the money: the finding in one sentence, and the numbers behind it, by name."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ldlab.estimate import Money, format_chance, format_number, level_in_words
from ldlab.program import Program


@dataclass(frozen=True)
class People:
    """Whose cost is counted, whose benefit is, and why the two differ."""

    participants: int
    beneficiaries: int
    without_data: int
    beyond_the_file: int
    is_offer: bool


Rows = tuple[tuple[str, str], ...]


def say(money: Money, program: Program, people: People, why_not: str) -> Rows:
    """Rows of (name, text). ``why_not`` says why no benefit can be stated; empty where it can."""
    share = money.cost_of_time / money.cost if money.cost else 0.0
    cost = ("full cost", f"{money.amount(money.cost)}, {share:.0%} of it participants' time")
    if why_not:
        return cost, ("net benefit", f"not stated: {why_not}")
    return (
        ("in short", _in_short(money)),
        cost,
        ("benefit", _span(money, money.benefit, money.benefit_low, money.benefit_high)),
        ("net benefit", _span(money, money.net, money.net_low, money.net_high)),
        ("return on investment", _roi(money)),
        ("chance it pays back", format_chance(float(money.p_payback or 0))),
        ("expected loss", _losses(money)),
        ("worth of better evidence", _worth_of_evidence(money)),
        ("breaks even at", _break_even(money)),
        ("would change the sign", _sign_changers(money)),
        ("counted", _counted(money, program, people)),
    )


def _in_short(money: Money) -> str:
    """Whether it pays back, by where the interval of the net benefit lies."""
    low, high = float(money.net_low or 0), float(money.net_high or 0)
    least, most = float(money.benefit_low or 0), float(money.benefit_high or 0)
    when = _horizon(money, "in")
    nothing = " A benefit of nothing fits the data too." if least <= 0 <= most else ""
    if low == high == 0:
        return f"Benefit and cost are equal {when}: nothing is gained and nothing is lost."
    if low >= 0:
        return f"It pays back {when}."
    if high >= 0:
        return f"Whether it pays back {when} is open: the range holds losses and gains.{nothing}"
    if most < 0:
        return f"It loses more than it costs {when}: the KPI moved the wrong way."
    return f"It does not pay back {when}.{nothing}"


def _horizon(money: Money, preposition: str = "") -> str:
    if money.horizon_years == 1:
        return f"{preposition} the first year".strip()
    return f"{'within' if preposition else ''} {money.horizon_years:g} years".strip()


def _bare(money: Money, value: float | None) -> str:
    """An amount without its currency."""
    return money.amount(float(value or 0)).removeprefix(f"{money.currency} ")


def plain(value: float) -> str:
    """A number to three significant digits, no digit before the point lost, without trailing zeros.

    >>> plain(18250), plain(-3.3561), plain(8)
    ('18,250', '−3.36', '8')
    """
    decimals = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    text = format_number(value, decimals)
    return text.rstrip("0").rstrip(".") if "." in text else text


def _span(money: Money, mean: float | None, low: float | None, high: float | None) -> str:
    ends = f"{money.amount(float(low or 0))} to {_bare(money, high)}"
    return f"{ends} ({level_in_words(money.level)}), mean {_bare(money, mean)}"


def _roi(money: Money) -> str:
    if money.roi is None or money.roi_low is None or money.roi_high is None:
        return "not stated: " + (
            "the program file counts no cost" if money.cost == 0 else "the cost may be zero"
        )
    mean, low, high = (
        f"{format_number(value, 0, sign=True)}%" for value in (money.roi, money.roi_low, money.roi_high)
    )
    return f"{low} to {high} ({level_in_words(money.level)}), mean {mean}"


def _losses(money: Money) -> str:
    scaling, stopping = (
        money.amount(float(loss or 0)) for loss in (money.loss_of_scaling, money.loss_of_stopping)
    )
    return f"{scaling} if it is scaled to as many people again, {stopping} if it is stopped"


def _worth_of_evidence(money: Money) -> str:
    """Expected value of perfect information: the expected loss of the better decision."""
    return (
        f"at most {money.amount(min(float(money.loss_of_scaling or 0), float(money.loss_of_stopping or 0)))}"
    )


def _break_even(money: Money) -> str:
    effect = float(money.break_even or 0)
    decimals = 0 if effect == 0 else max(0, 1 - math.floor(math.log10(abs(effect))))
    return f"an effect of {format_number(effect, decimals, sign=True)} {money.break_even_unit}"


def _sign_changers(money: Money) -> str:
    rows = [row for row in money.sensitivity if row.changes_sign]
    if not rows:
        return "no single number, as long as it stays within its 9-in-10 range"
    return "; ".join(f"{row.input} ({plain(row.low)} to {plain(row.high)} {row.unit})" for row in rows)


def _counted(money: Money, program: Program, people: People) -> str:
    units, minimum = program.design.units, program.analysis.minimum_group_size
    assert program.costs is not None
    parts = [f"cost of {people.participants:,} participants"]
    years = _horizon(money)
    if people.is_offer:
        parts.append(f"benefit of {years} for the {people.beneficiaries:,} {units} who were offered it")
    elif 0 < people.without_data < minimum:
        parts.append(f"benefit of {years}")
    else:
        parts.append(f"benefit of {years} for {people.beneficiaries:,} {units}")
    if people.without_data:
        few = people.without_data < minimum
        number = f"fewer than {minimum}" if few else f"{people.without_data:,}"
        gained = {
            "no improvement": "count as no improvement",
            "like the others": "count like the others, as was agreed",
        }
        parts.append(f"{number} participants without KPI data {gained[program.costs.people_without_data]}")
    if people.beyond_the_file:
        parts.append(
            f"the data hold more trained {units} than the program file has participants; they count for nothing"
        )
    if money.horizon_years > 1:
        parts.append("more than the first year was agreed, against the convention")
    return "; ".join(parts)
