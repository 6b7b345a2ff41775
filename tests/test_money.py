"""What a program cost and brought: hand-solved cases, the laws of uncertain inputs, whose benefit counts, the words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ldlab import plots
from ldlab.estimate import Estimate, Money
from ldlab.money import full_cost, payback, sensitivity_table
from ldlab.money.inputs import DRAWS, draw
from ldlab.program import InputError, LdlabError, Study, load_program
from ldlab.program.costs import Uncertain
from ldlab.report import conclude, decide, load_result, save
from ldlab.report.claim import claim
from tests.projects import REPOSITORY, make_project, merged, write_program
from tests.test_report import COSTS, PASSED, estimate, page_of, saved_project, study

SURE_ITEM = {"item": "all of it", "per": "program"}


def money_of(costs: dict[str, Any], value: float = 1.2, se: float = 0.1, **changes: Any) -> Money:
    of = study(costs=costs)
    found = payback(of.program, estimate(value, se, of=of, **changes))
    assert found is not None
    return found


def posterior(draws: np.ndarray, of: Study, **changes: Any) -> Estimate:
    n = {"treated": 20, "comparison": 20, "clusters": None, "observations": 40}
    rest = {"method": "posterior", "estimand": "ATE", "se_kind": "posterior sd", "n": n}
    return Estimate.from_draws(draws, **rest, **of.measure(), **changes)


def said(money: Money, name: str) -> str:
    return dict(money.said)[name]


# ---- solved by hand -----------------------------------------------------------------------------------------


def test_cost_benefit_break_even_and_roi_by_hand() -> None:
    # 1,000 + 10 x 50 + 10 x 8 x 40 = 4,700, of which 3,200 is time; benefit 1.2 x 10 x 500 = 6,000, sd 500; net 1,300
    assert full_cost(study(costs=COSTS).program, 10) == (4700.0, 3200.0)
    money = money_of(COSTS)
    assert (money.cost, money.cost_of_time) == (4700.0, 3200.0)
    assert money.benefit == pytest.approx(6000, abs=0.01)
    assert money.net == pytest.approx(1300, abs=0.01)
    assert money.net_at_best_guess == pytest.approx(1300)
    assert (money.net_low, money.net_high) == pytest.approx((1300 - 822.4, 1300 + 822.4), abs=0.2)
    # an effect of 4,700 / (10 x 500) = .94 covers the cost; P(effect > .94) = Phi((1.2 - .94) / .1) = Phi(2.6)
    assert money.break_even == pytest.approx(0.94)
    assert money.p_payback == pytest.approx(stats.norm.cdf(2.6), abs=5e-5)
    # 1,300 / 4,700 = 27.66%; ends (1,300 -+ 822.4) / 4,700
    assert money.roi == pytest.approx(27.66, abs=0.005)
    assert (money.roi_low, money.roi_high) == pytest.approx((10.16, 45.16), abs=0.01)


@pytest.mark.parametrize("value", [1.2, 0.94, 0.8, -0.5])
def test_expected_losses_are_those_of_the_normal_distribution(value: float) -> None:
    # net is normal: m = 5,000 value - 4,700, s = 500; E max(0, net) = m Phi(m/s) + s phi(m/s), E max(0, -net) = that - m
    money, m, s = money_of(COSTS, value), 5000 * value - 4700, 500
    gain = m * stats.norm.cdf(m / s) + s * stats.norm.pdf(m / s)
    assert money.loss_of_stopping == pytest.approx(gain, abs=0.1)
    assert money.loss_of_scaling == pytest.approx(gain - m, abs=0.1)
    assert money.loss_of_stopping - money.loss_of_scaling == pytest.approx(money.net)
    least = min(money.loss_of_stopping, money.loss_of_scaling)
    assert said(money, "worth of better evidence") == f"at most {money.amount(least)}"


def test_roi_is_the_textbooks() -> None:
    # Phillips and Phillips (2005), Return on Investment Basics: benefits 350,000, cost 200,000: ROI 75%
    costs = {
        "items": [{**SURE_ITEM, "amount": 200_000}],
        "participant_hours": 0,
        "value_of_unit": {"amount": 35_000},
    }
    money = money_of(merged(COSTS, costs), 1.0, 1e-9)
    assert money.roi == pytest.approx(75.0) and money.roi_low == pytest.approx(75.0)
    assert said(money, "return on investment") == "+75% to +75% (9-in-10 range), mean +75%"


def test_a_worsening_costs_money_on_top() -> None:
    of = study(direction="decrease", costs=COSTS)
    worse = payback(of.program, estimate(1.2, 0.1, of=of))
    assert worse is not None and worse.net == pytest.approx(-4700 - 6000, rel=0.01)
    assert worse.break_even == pytest.approx(-0.94)


def test_a_log_effect_is_applied_to_the_baseline() -> None:
    # baseline 50 minutes; -.1 log points save 50 (1 - e^-.1) = 4.758 minutes: 10 x 4.758 x 500 = 23,791; net 19,091.
    # The cost of 4,700 is covered by .94 minutes = 1.88%. A rise of .2 log points costs 50 (e^.2 - 1) x 5,000 = 55,351.
    of = study(direction="decrease", costs=COSTS)
    log = {"scale": "log", "baseline": 50.0, "unit": "log points"}
    money = payback(of.program, estimate(-0.1, 1e-9, of=of, **log))
    assert money is not None and money.net == pytest.approx(19_091, abs=1)
    assert money.break_even == pytest.approx(-1.88) and money.break_even_unit == "percent"
    effect = next(row for row in money.sensitivity if row.input.startswith("effect"))
    assert (effect.low, effect.unit) == (pytest.approx(-9.516, abs=1e-3), "percent")
    worse = payback(of.program, estimate(0.2, 1e-9, of=of, **log))
    assert worse is not None and worse.benefit == pytest.approx(-55_351, abs=1)
    with pytest.raises(LdlabError, match="without a baseline"):
        payback(of.program, estimate(-0.1, of=of, **{**log, "baseline": None}))


# ---- uncertain inputs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("range_", [(8, 6, 10), (8, 7, 14), (8, 3, 8.5), (2, 0, 10), (6, 6, 10)])
def test_a_range_is_kept_as_given_however_lopsided(range_: tuple[float, float, float]) -> None:
    value, low, high = range_
    drawn = np.asarray(draw(Uncertain(value=value, low=low, high=high), 200_000, (1, 2)))
    assert np.quantile(drawn, [0.05, 0.5, 0.95]) == pytest.approx([low, value, high], abs=1e-4 * (high - low))
    assert drawn.min() >= 0
    # each side is half a normal: its mean lies sqrt(2 / pi) / 1.644854 = 0.485084 of the way to its end; half of the draws each
    up, down = 0.242542 * (high - value), 0.242542 * (value - low)
    if low > value / 2:
        assert drawn.mean() == pytest.approx(value + up - down, abs=1e-4 * (high - low))


def test_a_symmetric_range_is_a_normal_and_a_plain_number_is_no_draw() -> None:
    drawn = np.asarray(draw(Uncertain(value=8, low=6, high=10), 5_000, (1, 2)))
    assert stats.kstest(drawn, stats.norm(8, 2 / 1.644854).cdf).statistic < 1e-3
    assert draw(Uncertain(value=8), 5_000, (1, 2)) == 8.0
    assert draw(Uncertain(value=8, low=8, high=8), 5_000, (1, 2)) == 8.0


def test_every_uncertain_input_reaches_the_net_benefit_and_they_are_independent() -> None:
    # sd of the net benefit: effect .1 x 5,000 = 500; hours 2 / 1.645 x 10 x 40 = 486.4; design 400 / 1.645 = 243.2;
    # horizon .2 / 1.645 x 6,000 = 729.5; rate 8 / 1.645 x 80 = 389.1. Products of two small errors add under 1%.
    items = [
        {"item": "design", "amount": {"value": 1000, "low": 600, "high": 1400}, "per": "program"},
        COSTS["items"][1],
    ]
    unsure = {
        "items": items,
        "participant_hours": {"value": 8, "low": 6, "high": 10},
        "loaded_hourly_rate": {"value": 40, "low": 32, "high": 48},
        "horizon_years": {"value": 1, "low": 0.8, "high": 1.2},
    }
    money = money_of(merged(COSTS, unsure))
    assert money.draws is not None and len(money.draws) == DRAWS
    expected = np.sqrt(500**2 + 486.4**2 + 243.2**2 + 729.5**2 + 389.1**2)
    assert money.draws.std() == pytest.approx(expected, rel=0.02)
    assert money.draws.mean() == pytest.approx(money.net) == pytest.approx(1300, abs=10)
    assert money.net == pytest.approx(money.benefit - money.cost)
    assert money.roi == pytest.approx(100 * money.net / money.cost)


def test_a_lopsided_cost_moves_the_mean_but_not_the_best_guess() -> None:
    # hours 8, 6 to 14: mean 8 + .2425 x (6 - 2) = 8.97, so cost 4,700 + .97 x 400 = 5,088
    money = money_of(merged(COSTS, {"participant_hours": {"value": 8, "low": 6, "high": 14}}))
    assert money.cost == pytest.approx(5088, abs=1)
    assert money.net_at_best_guess == pytest.approx(1300)
    assert money.break_even == pytest.approx(0.94)


def test_plain_numbers_and_ranges_without_ends_are_the_same() -> None:
    spelt = {"participant_hours": {"value": 8}, "horizon_years": {"value": 1.0, "low": 1.0, "high": 1.0}}
    assert money_of(merged(COSTS, spelt)).model_dump() == money_of(COSTS).model_dump()


def test_the_same_seed_gives_the_same_money_and_another_seed_does_not() -> None:
    again = money_of(COSTS)
    assert again == money_of(COSTS)
    of = study(costs=COSTS, analysis={"seed": 7})
    other = payback(of.program, estimate(1.2, 0.1, of=of))
    assert other is not None and other.net != again.net


# ---- the posterior ------------------------------------------------------------------------------------------


def test_draws_of_a_posterior_that_is_not_normal_are_used_as_they_are() -> None:
    # 21 of 30 draws are +2: net 2 x 5,000 - 4,700 = 5,300; 9 are -1: net -9,700. Chance 70%; mean .7 x 5,300 - .3 x 9,700
    # = 800; expected loss of scaling .3 x 9,700 = 2,910, of stopping .7 x 5,300 = 3,710; ROI 800 / 4,700.
    # A normal distribution with the same mean 1.1 and sd 1.4 would say 55%.
    of = study(costs=COSTS)
    two_humps = np.array([2.0, 2.0, -1.0, 2.0, -1.0, 2.0, 2.0, -1.0, 2.0, 2.0] * 3)
    money = payback(of.program, posterior(two_humps, of))
    assert money is not None and money.draws is not None
    assert len(money.draws) == 20_010, "whole repetitions, so that every draw counts equally"
    assert money.p_payback == pytest.approx(0.7, abs=1e-12)
    stated = (money.net, money.benefit, money.loss_of_scaling, money.loss_of_stopping, money.roi)
    assert stated == pytest.approx((800, 5500, 2910, 3710, 100 * 800 / 4700))
    assert (money.net_low, money.net_high) == pytest.approx((-9700, 5300))
    normal = payback(of.program, estimate(1.1, float(two_humps.std()), of=of))
    assert normal is not None and normal.p_payback == pytest.approx(0.55, abs=0.01)


def test_more_posterior_draws_than_money_draws_are_all_used() -> None:
    of = study(costs=COSTS)
    money = payback(of.program, posterior(np.append(np.zeros(29_999), 30_000.0), of))
    # one draw in 30,000 is 30,000: its mean is 1, so the mean benefit is 5,000
    assert money is not None and money.draws is not None and len(money.draws) == 30_000
    assert money.benefit == pytest.approx(5000)


def test_the_saved_posterior_gives_the_same_money(tmp_path: Path) -> None:
    of = study(costs=merged(COSTS, {"value_of_unit": {"low": 300.0, "high": 900.0}}))
    found = posterior(np.random.default_rng(4).gamma(2.0, 0.6, 4000), of)
    before = payback(of.program, found)
    save(conclude(of, "bayes_impact", [found], [], money=before), "x", root=tmp_path)
    loaded = load_result(tmp_path / "x" / "estimate.json")
    after = payback(of.program, loaded.lead)
    assert before is not None and after is not None and loaded.money is not None
    assert loaded.money.draws is None and str(loaded.money) == str(before)
    names = ("net", "net_low", "net_high", "roi_high", "p_payback", "loss_of_scaling", "loss_of_stopping")
    for name in names:
        assert getattr(after, name) == pytest.approx(getattr(before, name), rel=1e-6)
        assert getattr(loaded.money, name) == pytest.approx(getattr(before, name), rel=1e-9)


# ---- what would change the sign -----------------------------------------------------------------------------


def test_sensitivity_by_hand() -> None:
    # best guess: net 1,300. Value 100 to 900: 12 x 100 - 4,700 = -3,500 to 6,100. Effect 1.2 -+ .16449: 477.6 to 2,122.4.
    # Hours 6 to 10: 4,700 -+ 800 of cost: 2,100 to 500. The rest is known: 1,300 at either end.
    unsure = {
        "value_of_unit": {"low": 100.0, "high": 900.0},
        "participant_hours": {"value": 8, "low": 6, "high": 10},
    }
    money = money_of(merged(COSTS, unsure))
    rows = [(row.input, row.net_at_low, row.net_at_high, row.changes_sign) for row in money.sensitivity]
    assert rows[0] == ("value of one KPI unit", pytest.approx(-3500), pytest.approx(6100), True)
    assert rows[1] == (
        "effect on resolution time",
        pytest.approx(477.6, abs=0.1),
        pytest.approx(2122.4, abs=0.1),
        False,
    )
    assert rows[2] == ("working time", pytest.approx(2100), pytest.approx(500), False)
    assert {row[0] for row in rows[3:]} == {"horizon", "cost of a working hour", "design", "seat"}
    assert all(row[1:] == (pytest.approx(1300), pytest.approx(1300), False) for row in rows[3:])
    effect = money.sensitivity[1]
    assert (effect.low, effect.high) == pytest.approx((1.03551, 1.36449), abs=1e-5)
    assert said(money, "would change the sign") == "value of one KPI unit (100 to 900 EUR a year per agent)"


def test_every_number_has_its_owner() -> None:
    table = sensitivity_table(money_of(COSTS))
    assert table is not None
    owners = table["who answers for it"]
    assert owners["effect on resolution time"] == "People analytics"
    assert owners["value of one KPI unit"] == owners["seat"] == "Finance"
    assert table.loc["seat", "range"] == "50" and table.loc["seat", "unit"] == "EUR per agent"
    assert sensitivity_table(None) is None


# ---- whose cost, whose benefit ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("participants", "rule", "beneficiaries", "text"),
    [
        (30, "no improvement", 20, "10 participants without KPI data count as no improvement"),
        (30, "like the others", 30, "10 participants without KPI data count like the others"),
        (23, "no improvement", 20, "fewer than 10 participants without KPI data"),
        (20, "no improvement", 20, "for 20 agents"),
        (None, "no improvement", 20, "for 20 agents"),
        (
            15,
            "like the others",
            15,
            "the data hold more trained agents than the program file has participants",
        ),
    ],
)
def test_people_without_data(participants: int | None, rule: str, beneficiaries: int, text: str) -> None:
    money = money_of(merged(COSTS, {"participants": participants, "people_without_data": rule}), 1.2, 1e-9)
    assert money.participants == (participants or 20)
    # cost is every participant's: 1,000 + 370 a head; benefit 1.2 x 500 for those who count
    assert money.cost == pytest.approx(1000 + 370 * (participants or 20))
    assert money.beneficiaries == beneficiaries
    assert money.benefit == pytest.approx(600 * beneficiaries)
    assert text in said(money, "counted")
    if participants == 23:
        assert "20" not in said(money, "counted"), "a small group is not told by subtraction"


@pytest.mark.parametrize(
    ("participants", "attended", "rule", "paid", "beneficiaries"),
    [
        (None, 10, "no improvement", 10, 20),  # the cost of the 10 who came, the benefit of the 20 offered
        (15, 10, "no improvement", 15, 20),  # 5 more came whose KPI nobody has: they cost, and gained nothing
        (15, 10, "like the others", 15, 30),  # as many offered for each who came: 20 x 15 / 10
        (None, 0, "no improvement", 0, 20),  # nobody came
        (12, None, "no improvement", 12, 20),  # who came is not in the data
        (None, None, "no improvement", 20, 20),
    ],
)
def test_an_offer_costs_what_those_who_came_cost_and_brings_what_all_offered_gained(
    participants: int | None, attended: int | None, rule: str, paid: int, beneficiaries: int
) -> None:
    n = {"treated": 20, "comparison": 20, "clusters": None, "observations": 40}
    n |= {} if attended is None else {"attended": attended}
    costs = merged(COSTS, {"participants": participants, "people_without_data": rule})
    money = money_of(costs, 2.0, 1e-9, n=n, estimand="ITT")
    assert (money.participants, money.beneficiaries) == (paid, beneficiaries)
    assert money.net == pytest.approx(2 * 500 * beneficiaries - 1000 - 370 * paid)
    assert f"for the {beneficiaries} agents who were offered it" in said(money, "counted")


def test_the_effect_among_those_who_came_is_counted_for_them() -> None:
    n = {"treated": 20, "attended": 10, "comparison": 20, "clusters": None, "observations": 40}
    money = money_of(merged(COSTS, {"participants": None}), 2.0, 1e-9, n=n, estimand="CACE")
    assert (money.participants, money.beneficiaries) == (10, 10)


def test_a_horizon_longer_than_the_first_year_is_said_to_be_one() -> None:
    money = money_of(merged(COSTS, {"horizon_years": 3}), 1.2, 1e-9)
    assert money.benefit == pytest.approx(3 * 6000) and money.break_even == pytest.approx(0.94 / 3)
    assert said(money, "counted").endswith("more than the first year was agreed, against the convention")
    assert said(money, "in short") == "It pays back within 3 years."
    assert "convention" not in said(money_of(COSTS), "counted")


# ---- nothing to state ---------------------------------------------------------------------------------------


def test_no_costs_no_money() -> None:
    assert payback(study().program, estimate(1.0)) is None


def test_without_a_value_of_a_unit_only_the_cost_is_stated() -> None:
    money = money_of(merged(COSTS, {"value_of_unit": None}))
    assert (money.cost, money.net, money.p_payback, money.sensitivity) == (4700.0, None, None, ())
    assert said(money, "net benefit") == "not stated: the program file gives no value of a KPI unit"
    assert (
        plots.net_benefit(money) is None and plots.tornado(money) is None and sensitivity_table(money) is None
    )


@pytest.mark.parametrize("grade", ["D", "E"])
def test_evidence_below_c_carries_no_amount(grade: Any) -> None:
    of = study(costs=COSTS)
    money = payback(of.program, estimate(1.2, of=of), grade)
    assert money is not None and money.cost == 4700.0
    assert money.net is money.roi is money.p_payback is money.draws is None
    assert f"evidence of grade {grade} cannot carry an amount" in str(money)


def test_the_page_is_silent_below_c_and_speaks_from_c_up(tmp_path: Path) -> None:
    costs = merged(COSTS, {"participants": 20})
    silent = page_of(saved_project(tmp_path / "d", -3.0, [PASSED], "observational", costs=costs))
    assert "Full cost EUR 8,400" in silent
    assert not [word for word in ("Return on", "Expected loss", "pays back", "Breaks even") if word in silent]
    page = page_of(saved_project(tmp_path / "a", -3.0, [PASSED], costs=costs))
    # 20 agents: cost 1,000 + 370 x 20 = 8,400; benefit 3 x 20 x 500 = 30,000 -+ 1,645; break-even 8,400 / 10,000
    assert "EUR 20,000 to EUR 23,200 net in the first year" in page
    assert "It pays back in the first year." in page and "Breaks even at an effect of −0.84 minutes" in page
    assert "Expected loss: EUR 0 if it is scaled" in page


def test_the_rule_reads_the_chance_of_payback() -> None:
    rule = [{"decision": "scale", "when": "chance of payback", "at_least": 0.9}, {"decision": "stop"}]
    of = study(costs=COSTS, agreement={"decision_rule": rule})
    for value, expected in ((1.2, "scale"), (0.9, "stop")):
        found = estimate(value, of=of)
        word = decide(of.program, found, claim(found, [PASSED], of), "A", payback(of.program, found))
        assert word.decision == expected


# ---- zero, and what is read ---------------------------------------------------------------------------------


def test_without_a_cost_any_gain_pays_back_and_no_roi_is_stated() -> None:
    free = merged(COSTS, {"items": [], "participant_hours": 0})
    money = money_of(free, 0.1, 0.1)
    assert money.cost == 0 and money.break_even == 0
    assert money.p_payback == pytest.approx(stats.norm.cdf(1), abs=1e-4)
    assert (
        money.roi is None
        and said(money, "return on investment") == "not stated: the program file counts no cost"
    )
    assert said(money, "breaks even at") == "an effect of 0 minutes"


def test_a_cost_that_may_be_zero_has_no_roi() -> None:
    maybe = {"items": [{**SURE_ITEM, "amount": {"value": 10, "low": 0, "high": 100}}], "participant_hours": 0}
    money = money_of(merged(COSTS, maybe))
    assert money.roi is None and said(money, "return on investment") == "not stated: the cost may be zero"


@pytest.mark.parametrize(
    ("value", "se", "sentence"),
    [
        (1.2, 0.1, "It pays back in the first year."),
        (0.94, 0.1, "Whether it pays back in the first year is open: the range holds losses and gains."),
        (0.3, 1.0, "Whether it pays back in the first year is open: the range holds losses and gains. "
                   "A benefit of nothing fits the data too."),
        (0.5, 0.1, "It does not pay back in the first year."),
        (0.0, 0.1, "It does not pay back in the first year. A benefit of nothing fits the data too."),
        (-0.5, 0.1, "It loses more than it costs in the first year: the KPI moved the wrong way."),
    ],
)  # fmt: skip
def test_each_outcome_has_its_plain_sentence(value: float, se: float, sentence: str) -> None:
    assert said(money_of(COSTS, value, se), "in short") == sentence


def test_exactly_zero_is_called_neither_gain_nor_loss() -> None:
    of = study(costs=merged(COSTS, {"items": [], "participant_hours": 0}))
    money = payback(of.program, posterior(np.zeros(100), of))
    assert money is not None and money.net == 0 and money.p_payback == 1
    assert said(money, "in short").startswith("Benefit and cost are equal in the first year")
    assert plots.net_benefit(money) is not None


def test_the_table_reads_well() -> None:
    text = str(money_of(COSTS, 1.3))
    assert "full cost: EUR 4,700, 68% of it participants' time" in text
    assert "chance it pays back: over 99.5%" in text
    assert "breaks even at: an effect of +0.94 minutes" in text
    assert "nan" not in text and "None" not in text


# ---- the program file ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ({"participant_hours": "eight"}, ["costs.participant_hours", "'eight'", "a number of at least 0"]),
        ({"participant_hours": -1}, ["costs.participant_hours", "-1", "a number of at least 0"]),
        ({"participant_hours": {"value": 8, "low": 9, "high": 10}}, ["'9 / 8 / 10'", "low <= value <= high"]),
        ({"participant_hours": {"value": 8, "low": 6}}, ["'low alone'", "low and high together"]),
        ({"loaded_hourly_rate": {"value": 8, "hgh": 6}}, ["loaded_hourly_rate.hgh", "Did you mean 'high'?"]),
        ({"loaded_hourly_rate": {"low": 6, "high": 8}}, ["loaded_hourly_rate.value", "found nothing", "Best guess"]),
        ({"horizon_years": 0}, ["costs.horizon_years", "found 0", "a best guess above 0"]),
        ({"horizon_years": {"value": 2, "low": -1, "high": 3}}, ["costs.horizon_years.low", "found -1"]),
        ({"items": [{**SURE_ITEM, "amount": {"value": 5, "low": 6, "high": 7}}]}, ["costs.items.0.amount", "'6 / 5 / 7'"]),
        ({"value_of_unit": {"low": 1, "high": None}}, ["costs.value_of_unit", "low and high together"]),
        ({"value_of_unit": {"low": 600, "high": 700}}, ["costs.value_of_unit", "low <= amount <= high"]),
        ({"people_without_data": "like others"}, ["people_without_data", "Did you mean 'like the others'?"]),
    ],
)  # fmt: skip
def test_a_crooked_number_is_named(tmp_path: Path, costs: dict[str, Any], expected: list[str]) -> None:
    project = make_project(tmp_path)
    with pytest.raises(InputError) as caught:
        load_program(write_program(project, costs=merged(COSTS, costs)), project)
    text = str(caught.value)
    assert len(caught.value.faults) == 1, text
    for part in ("params/tickets.yaml:", *expected):
        assert part in text


def test_the_academys_ranges_are_read() -> None:
    costs = load_program("params/academy.yaml", REPOSITORY).costs
    assert costs is not None and costs.participant_hours.ends == (7.0, 11.0)
    assert costs.items[0].amount.ends == (18_000.0, 18_000.0)


# ---- figures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1.2, 0.9, 0.0, -1.0])
def test_figures_claim_what_the_money_says(value: float) -> None:
    unsure = {
        "value_of_unit": {"low": 450.0, "high": 600.0},
        "participant_hours": {"value": 8, "low": 6, "high": 10},
    }
    money = money_of(merged(COSTS, unsure), value)
    density, tornado = plots.net_benefit(money), plots.tornado(money)
    assert density is not None and tornado is not None
    assert f"with a chance of {said(money, 'chance it pays back')}" in density.title
    assert money.amount(money.net_low or 0) in density.alt
    moving = [row for row in money.sensitivity if row.net_at_low != row.net_at_high]
    assert {row.input for row in moving} >= {"working time", "effect on resolution time"}
    for row in moving:
        assert f"{money.amount(row.net_at_low)} to {money.amount(row.net_at_high)}" in tornado.alt
    assert "seat" not in tornado.alt, "what is known exactly has no bar"
    turning = [row.input for row in money.sensitivity if row.changes_sign]
    assert all(name in tornado.title for name in turning)
    assert bool(turning) == tornado.title.startswith("Within its range")
    for figure in (density, tornado):
        canvas = figure.canvas
        canvas.draw_without_rendering()
        axes = canvas.axes[0]
        texts = [axes.xaxis.label, *axes.texts, *axes.get_yticklabels(), canvas._suptitle]
        boxes = [text.get_window_extent() for text in texts if text.get_text()]
        assert all(box.x0 >= -1 and box.x1 <= canvas.bbox.x1 + 1 for box in boxes)


def test_bars_and_zero_stand_where_the_numbers_are() -> None:
    unsure = {"value_of_unit": {"low": 100.0, "high": 900.0}}
    figure = plots.tornado(money_of(merged(COSTS, unsure)))
    assert figure is not None
    bars = figure.canvas.axes[0].patches
    ends = sorted({round(x) for bar in bars[:2] for x in (bar.get_x(), bar.get_x() + bar.get_width())})
    assert ends == [-3500, 1300, 6100]
    assert [0.0, 0.0] in [list(line.get_xdata()) for line in figure.canvas.axes[0].lines]


def test_the_same_money_has_the_same_picture() -> None:
    for make in (plots.net_benefit, plots.tornado):
        first, again = make(money_of(COSTS)), make(money_of(COSTS))
        assert first is not None and again is not None and first.png() == again.png()


def test_no_money_no_figure() -> None:
    assert plots.net_benefit(None) is None and plots.tornado(None) is None
