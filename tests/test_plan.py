"""Planning: published and hand-solved sizes, reference libraries, the house's own estimators, and the notebook."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tea_tasting as tt
from scipy import optimize, stats
from statsmodels.stats import power as sm

from ldlab.ab.arms import arms
from ldlab.ab.boundaries import boundaries
from ldlab.ab.expected import expect
from ldlab.ab.experiment_plan import ExperimentPlan, plan_steps, plan_what_if, times
from ldlab.ab.leading import estimates
from ldlab.ab.plan_kept import intra_cluster_correlation, plan_kept
from ldlab.ab.planning import plan
from ldlab.ab.power import Reading, Scenario, dunnett_critical, missing_share_seen
from ldlab.plots.plan import power_curve, smallest_over_time
from ldlab.program import InputError, LdlabError, Program
from tests.projects import PROGRAM, merged
from tests.studies import make_study

POINTS = "percentage points"
PLAN: dict[str, Any] = {"mean": 50.0, "sd": 5.0}
TEAMS = {"columns": {"cluster": "team"}}
BINARY = {
    "unit": POINTS, "value_type": "binary", "direction": "increase",
    "smallest_effect_worth_having": {"value": 20.0, "unit": POINTS}, "target": {"value": 20.0, "unit": POINTS},
}  # fmt: skip


def unit_variance(change: float) -> float:
    return 1.0


def planned(**changes: Any) -> Program:
    """The minimal program (0.5 minutes fewer, sd 5: d = 0.1) with a plan, at the 95% level."""
    base = {"id": "tickets", **PROGRAM, "plan": PLAN, "analysis": {"interval_level": 0.95}}
    return Program.model_validate(merged(base, changes))


def needed(**changes: Any) -> float:
    program = planned(**changes)
    expected = expect(program)
    assert program.plan is not None
    return expected.scenario.units(expected.smallest, program.plan.power)


# Two arms


def test_cohen_s_medium_effect() -> None:
    """Cohen (1988, table 2.4.1): d = 0.5, alpha 0.05, power 0.8: 64 in each arm; exactly 63.77."""
    units = Scenario(unit_variance, Reading(0.05)).units(0.5, 0.8)
    assert units / 2 == pytest.approx(63.7658, abs=1e-3)


@pytest.mark.parametrize(
    ("d", "alpha", "share", "power"),
    [(0.2, 0.05, 0.5, 0.9), (0.35, 0.1, 0.3, 0.8), (1.0, 0.01, 0.7, 0.7), (0.05, 0.1, 0.5, 0.95)],
)
def test_same_as_statsmodels_and_tea_tasting(d: float, alpha: float, share: float, power: float) -> None:
    units = Scenario(unit_variance, Reading(alpha), share=share, control_share=1 - share).units(d, power)
    ratio = share / (1 - share)
    control = sm.TTestIndPower().solve_power(d, alpha=alpha, power=power, ratio=ratio)
    assert units == pytest.approx(control * (1 + ratio), rel=2e-4)  # it counts the wrong tail too
    # tea-tasting 2.0's own search for n_obs meets a nan of the noncentral t at 10,000 units; its power is right.
    whole = round(units)
    mean = tt.Mean("kpi", alpha=alpha, ratio=ratio, equal_var=True, effect_size=d, n_obs=whole)
    sums = tt.aggr.Aggregates(count_=whole, mean_={"kpi": 3.0}, var_={"kpi": 1.0}, cov_={})
    assert mean.solve_power_from_aggregates(sums, "power")[0].power == pytest.approx(power, abs=0.004)


def test_shares_by_hand_and_by_statsmodels() -> None:
    """Chow, Shao & Wang (2008, 4.2.4): 65% against 85%: (1.96 + 0.84)^2 (.2275 + .1275) / .2^2 = 70 in each arm."""
    units = needed(kpi=BINARY, plan={"mean": 65.0, "sd": None}, design={"planned_treated_share": 0.5})
    normal = sm.normal_sample_size_one_tail(
        0.2, 0.8, 0.025, std_null=math.sqrt(0.355), std_alternative=math.sqrt(0.355)
    )
    assert math.ceil(normal) == 70
    assert normal < units / 2 < normal + 1.2  # t instead of z: about one more


def test_factors_of_take_up_loss_and_earlier_values_by_hand() -> None:
    base = needed()
    before = {"kpi": {"before_column": "before"}, "plan": {"before_correlation": 0.6}}
    assert needed(**before) == pytest.approx(0.64 * base, rel=1e-3)
    offered = {"design": {"columns": {"assignment": "offered"}}, "plan": {"take_up": 0.5}}
    assert needed(**offered) == pytest.approx(4 * base, rel=1e-3)
    assert needed(plan={"lost": 0.2}) == pytest.approx(base / 0.8, rel=1e-3)
    assert needed(design={"planned_treated_share": 0.2}) == pytest.approx(base * 0.25 / 0.16, rel=1e-3)


def test_poisson_counts_and_percent_on_a_log_scale() -> None:
    count = {"value_type": "count", "unit": "tickets", "smallest_effect_worth_having": {"value": 1.0, "unit": "tickets"},
             "target": {"value": 1.0, "unit": "tickets"}}  # fmt: skip
    z = stats.norm.isf(0.025) + stats.norm.isf(0.2)
    # variance = mean: 9 with the program, 10 without; n per arm (9 + 10) z^2 / 1^2
    assert needed(kpi=count, plan={"mean": 10.0, "sd": None}) == pytest.approx(2 * 19 * z**2, abs=3)
    five = {"value": 5.0, "unit": "percent of baseline"}
    log = {"scale": "log", "smallest_effect_worth_having": five, "target": five}
    # log-normal: sd of the log sqrt(log(1 + (5 / 50)^2)); a fall of 5 percent is log(0.95)
    by_hand = 4 * math.log(1.01) * z**2 / math.log(0.95) ** 2
    assert needed(kpi=log) == pytest.approx(by_hand, abs=4)
    percent = planned(kpi={"smallest_effect_worth_having": {"value": 1.0, "unit": "percent of baseline"}})
    assert expect(percent).smallest == pytest.approx(-0.5)


# Clusters


def test_whole_clusters_as_published() -> None:
    """WebPower (Zhang & Yuan 2018), wp.crt2arm(f = .6, n = 20, J = 10, icc = .1): power .5901684, both tails."""
    scenario = Scenario(unit_variance, Reading(0.05), cluster_size=20, icc=0.1)
    critical = stats.t.isf(0.025, 8)
    wrong_tail = stats.nct.cdf(-critical, 8, 0.6 / scenario.standard_error(200))
    assert scenario.power(200, 0.6) + wrong_tail == pytest.approx(0.5901684, abs=1e-7)


def test_design_effects_by_hand() -> None:
    """Kish: 1 + 19 x 0.05 = 1.95. Eldridge et al. (2006): cv 0.5: 1 + (1.25 x 20 - 1) 0.05 = 2.2."""
    kish = Scenario(unit_variance, Reading(0.05), cluster_size=20, icc=0.05)
    assert kish.design_effect == pytest.approx(1.95)
    assert replace(kish, size_cv=0.5).design_effect == pytest.approx(2.2)
    assert replace(kish, kept=0.5).design_effect == pytest.approx(1.45)  # 10 with a KPI in each
    # Welch's degrees of freedom in equal arms are G - 2; 12 against 4 clusters: (1/12 + 1/4)^2 / (1/1584 + 1/48)
    assert kish.df(200) == pytest.approx(8)
    unequal = replace(kish, share=0.75, control_share=0.25)
    assert unequal.df(320) == pytest.approx((1 / 3) ** 2 / (1 / 1584 + 1 / 48))
    assert kish.power(40, 5.0) == 0.0  # one cluster in each arm shows nothing


def test_units_come_in_whole_clusters() -> None:
    result = plan(planned(design=TEAMS, plan={"cluster_size": 12.0, "icc": 0.08}))
    assert [arm.units for arm in result.arms] == [12 * (arm.clusters or 0) for arm in result.arms]
    assert result.clusters == sum(arm.clusters or 0 for arm in result.arms)
    steps = {step.name: step.factor for step in result.steps}
    assert steps["whole clusters"] == pytest.approx(1 + 11 * 0.08, rel=0.01)


# Several arms


@pytest.mark.parametrize(
    ("arms", "df", "published"),
    [
        (2, 20, 2.38),
        (3, 20, 2.54),
        (4, 10, 2.89),
        (2, math.inf, 2.21),
        (3, math.inf, 2.35),
        (9, math.inf, 2.69),
    ],
)
def test_dunnett_s_table(arms: int, df: float, published: float) -> None:
    """Dunnett (1964), Biometrics 20, table II: two-sided 5%, equal arms."""
    assert round(dunnett_critical(0.05, (0.5,) * arms, df), 2) == published


def test_dunnett_with_unequal_arms_against_simulation() -> None:
    """200,000 draws: arms of 10, 20 and 40 against 30; the largest |z| is beyond the critical value in 10%."""
    sizes, control = np.array([10, 20, 40]), 30
    draws = np.random.default_rng(3).normal(size=(200_000, 4)) / np.sqrt([30, *sizes])
    z = np.abs(draws[:, 1:] - draws[:, :1]) / np.sqrt(1 / sizes + 1 / control)
    critical = dunnett_critical(0.10, tuple(sizes / (sizes + control)))
    assert (z.max(axis=1) > critical).mean() == pytest.approx(0.10, abs=0.003)


ARMS = {"treated_values": ["a", "b", "c", "d"], "control_value": "none"}


def test_several_arms_and_their_best_control() -> None:
    """Four arms: a control twice as large as each (Dunnett 1955) cuts the variance by 10 percent: 6 + 3 for 5 + 5.

    The comparisons are then less alike, which takes a little of that back.
    """
    equal = plan(planned(design=ARMS))
    best = {**ARMS, "planned_shares": {"a": 1 / 6, "b": 1 / 6, "c": 1 / 6, "d": 1 / 6, "none": 1 / 3}}
    assert any("√4 times as large as each arm (33%" in hint for hint in equal.hints)
    assert plan(planned(design=best)).hints == ()
    assert plan(planned(design=best)).steps[1].units == pytest.approx(0.9 * equal.steps[1].units, rel=1e-3)
    units = plan(planned(design=best)).units
    assert 0.9 < units / equal.units < 0.93 and f"about {units - 1:,}"[:9] in equal.hints[0]
    holm = plan(planned(design=ARMS, agreement={"multiplicity": "holm"}))
    z = [stats.norm.isf(one) + stats.norm.isf(0.2) for one in (0.025 / 4, 0.025)]
    assert holm.steps[2].factor == pytest.approx((z[0] / z[1]) ** 2, rel=0.003)
    assert 1 < equal.steps[2].factor < holm.steps[2].factor


# Looks on the way


@pytest.mark.parametrize(
    ("bounds", "published"),
    [((2.413,) * 5, 1.228), (tuple(2.040 * math.sqrt(5 / k) for k in range(1, 6)), 1.028)],
    ids=["Pocock", "O'Brien and Fleming"],
)
def test_inflation_by_looks_as_published(bounds: tuple[float, ...], published: float) -> None:
    """Jennison & Turnbull (1999), tables 2.2 and 2.4: five looks, two-sided 5%, power 0.8."""
    fractions = (0.2, 0.4, 0.6, 0.8, 1.0)
    looks = Reading(0.05, method="group_sequential", bounds=bounds, fractions=fractions)
    ratio = looks.drift(0.8, math.inf) / Reading(0.05).drift(0.8, math.inf)
    assert ratio**2 == pytest.approx(published, abs=0.0015)


def test_planned_looks_reach_the_power_in_simulation() -> None:
    """40,000 random walks over three looks: the upper boundary is crossed in 80% of them, without effect in 2.5%."""
    fractions = (0.3, 0.6, 1.0)
    bounds = np.array(boundaries(fractions, 0.95, "obrien_fleming"))
    looks = Reading(0.05, method="group_sequential", bounds=tuple(bounds), fractions=fractions)
    steps = np.diff([0.0, *fractions])
    noise = np.random.default_rng(5).normal(size=(40_000, 3)) * np.sqrt(steps)
    for drift, expected in ((looks.drift(0.8, math.inf), 0.8), (0.0, 0.025)):
        z = np.cumsum(noise + drift * steps, axis=1) / np.sqrt(fractions)
        assert (z > bounds).any(axis=1).mean() == pytest.approx(expected, abs=0.008)


def test_looks_cost_units_and_must_reach_the_size() -> None:
    fixed = plan(planned())
    agreed = {"method": "group_sequential", "at": [1000, 2000, 3000]}
    looked = plan(planned(looks=agreed))
    assert 1.0 < looked.units / fixed.units < 1.03
    assert any("looks end at 3,000" in hint for hint in looked.hints)
    valid = plan(planned(looks={"method": "always_valid"}))
    # 3.035 standard errors instead of 1.960: ((3.035 + 0.842) / (1.960 + 0.842))^2
    assert valid.units / fixed.units == pytest.approx((3.035 + 0.842) ** 2 / (1.960 + 0.842) ** 2, abs=0.005)
    assert any("Set looks.planned_units" in hint for hint in valid.hints)


# The planned power is reached by the estimators of this house


def runs(frame_of: Callable[[np.random.Generator], pd.DataFrame], count: int, **study: Any) -> list[Any]:
    """The leading estimates of so many simulated experiments."""
    rng = np.random.default_rng(11)
    first = make_study(frame_of(rng), level=0.9, **study)
    return [
        estimates(replace(first, frame=frame_of(rng).assign(treated=first.frame["treated"])))[0]
        for _ in range(count)
    ]


def test_planned_power_is_reached_by_the_difference_in_means() -> None:
    """400 experiments of the planned size, 30% trained: power 0.8 +- 3 standard errors of 0.02; no effect: 5%."""
    scenario = Scenario(unit_variance, Reading(0.1), share=0.3, control_share=0.7)
    units = math.ceil(scenario.units(0.6, 0.8))
    arm = np.arange(units) < round(0.3 * units)

    def frame(effect: float) -> Callable[[np.random.Generator], pd.DataFrame]:
        return lambda rng: pd.DataFrame(
            {"unit": np.arange(units), "arm": arm * 1, "outcome": effect * arm + rng.normal(size=units)}
        )

    assert np.mean([one.low > 0 for one in runs(frame(0.6), 400)]) == pytest.approx(0.8, abs=0.06)
    assert np.mean([one.low > 0 for one in runs(frame(0.0), 400)]) == pytest.approx(0.05, abs=0.033)


def test_planned_power_is_reached_where_teams_are_assigned() -> None:
    """200 experiments, teams of unequal size, icc 0.15: power 0.8 +- 3 standard errors of 0.028.

    1,500 runs each gave 0.823 of 0.813 planned (20 teams), 0.845 of 0.851 (10 teams) and, without effect, 0.049 of 0.05.
    """
    scenario = Scenario(unit_variance, Reading(0.1), cluster_size=10, icc=0.15, size_cv=0.4)
    clusters = 2 * math.ceil(scenario.units(0.6, 0.8) / 10 / 2)
    sizes = np.resize([6, 14], clusters)  # mean 10, sd 4
    team = np.repeat(np.arange(clusters), sizes)
    arm = (team // 2) % 2

    def frame(rng: np.random.Generator) -> pd.DataFrame:
        shared = rng.normal(0, math.sqrt(0.15), clusters)[team]
        outcome = 0.6 * arm + shared + rng.normal(0, math.sqrt(0.85), len(team))
        return pd.DataFrame({"unit": np.arange(len(team)), "arm": arm, "outcome": outcome, "cluster": team})

    found = runs(frame, 200)
    assert found[0].se_kind.startswith("CR2")
    planned_power = scenario.power(len(team), 0.6)
    assert planned_power == pytest.approx(0.8, abs=0.03)
    assert np.mean([one.low > 0 for one in found]) == pytest.approx(planned_power, abs=0.085)


def test_planned_power_is_reached_with_earlier_values_and_with_shares() -> None:
    """300 experiments each: CUPED with r = 0.7; 40% against 55% solved. Power 0.8 +- 3 standard errors of 0.023."""
    cuped = Scenario(unit_variance, Reading(0.1), unexplained=1 - 0.49)
    count = 2 * math.ceil(cuped.units(0.5, 0.8) / 2)
    arm = np.arange(count) % 2

    def adjusted(rng: np.random.Generator) -> pd.DataFrame:
        before = rng.normal(size=count)
        outcome = 0.5 * arm + 0.7 * before + rng.normal(0, math.sqrt(0.51), count)
        return pd.DataFrame(
            {"unit": range(count), "arm": arm, "outcome": outcome, "before": before, "minutes before": before}
        )

    found = runs(adjusted, 300, covariates=("minutes before",), kpi={"before_column": "earlier"})
    assert found[0].method.startswith("regression-adjusted")
    assert np.mean([one.low > 0 for one in found]) == pytest.approx(0.8, abs=0.07)

    shares = Scenario(lambda change: (40 + change) * (60 - change), Reading(0.1))
    size = 2 * math.ceil(shares.units(15.0, 0.8) / 2)
    half = np.arange(size) % 2

    def solved(rng: np.random.Generator) -> pd.DataFrame:
        hit = 100.0 * (rng.random(size) < 0.40 + 0.15 * half)
        return pd.DataFrame({"unit": range(size), "arm": half, "outcome": hit})

    said = runs(solved, 300, kpi=BINARY)
    assert np.mean([one.low > 0 for one in said]) == pytest.approx(0.8, abs=0.07)


def test_same_critical_value_as_the_arms_of_this_house() -> None:
    """The plan's Dunnett value and that of ldlab.ab.arms, from the joint covariance of three unequal arms."""
    rng = np.random.default_rng(4)
    codes = np.repeat(["none", "a", "b", "c"], [60, 30, 45, 65])
    frame = pd.DataFrame(
        {"unit": range(200), "arm": (codes != "none") * 1, "variant": codes, "outcome": rng.normal(size=200)}
    )
    design = {"kind": "randomised", "treated_values": ["a", "b", "c"], "control_value": "none"}
    found = arms(make_study(frame, design, covariates=(), level=0.9))
    assert found is not None
    ours = dunnett_critical(0.1, (30 / 90, 45 / 105, 65 / 125), found.df)
    assert ours == pytest.approx(found.critical, rel=0.015)


# What else the plan says


def test_smallest_effect_is_the_inverse_of_the_size() -> None:
    scenario = Scenario(unit_variance, Reading(0.05), cluster_size=8, icc=0.1, kept=0.9)
    units = scenario.units(0.4, 0.8)
    assert scenario.smallest(units, 0.8, 10.0) == pytest.approx(0.4, rel=1e-4)
    assert scenario.smallest(units, 0.8, 0.39) is None
    assert scenario.smallest(units, 0.8, -10.0) == pytest.approx(0.4, rel=1e-4)


def test_what_there_is_may_be_enough_or_not() -> None:
    few = plan(planned(plan={"units_available": 1000})).available
    assert few is not None and not few.enough
    z = 0.5 / (5 * math.sqrt(4 / 1000))
    assert few.power == pytest.approx(stats.norm.sf(1.96 - z), abs=0.002)
    assert few.smallest == pytest.approx(2.8016 * 5 * math.sqrt(4 / 1000), rel=0.003)
    assert few.sentence == (
        "The 1,000 agents that there are are too few (3,142 are needed): the chance to see a fall of 0.5 minutes is "
        "35%; the smallest change seen 4 times in 5 is a fall of 0.887 minutes."
    )
    many = plan(planned(plan={"units_available": 9000}))
    assert many.available is not None and many.available.enough
    assert many.sentence.endswith("9,000 are available: enough.")
    near = {**BINARY, "smallest_effect_worth_having": {"value": 4.0, "unit": POINTS}}
    tiny = plan(planned(kpi=near | {"target": near["smallest_effect_worth_having"]},
                        plan={"mean": 95.0, "sd": None, "units_available": 60}))  # fmt: skip
    assert tiny.available is not None and tiny.available.smallest is None
    assert "not even the largest possible change" in tiny.available.sentence


def test_no_arm_is_planned_that_could_not_be_shown() -> None:
    """A change of 4 sd takes 6 agents; arms under 10 are never shown, and a tenth will be lost: 10 / (0.5 x 0.9)."""
    huge = {"value": 20.0, "unit": "minutes"}
    result = plan(planned(kpi={"smallest_effect_worth_having": huge, "target": huge}, plan={"lost": 0.1}))
    assert result.units == 24 and result.steps[-1].name == "large enough to be shown"
    assert all(one.units >= 20 for one in result.what_if)


def test_weeks_and_the_answer() -> None:
    result = plan(planned(plan={"units_per_week": 100.0, "weeks_to_measure": 4.0}))
    # 3,142 at 100 a week: 31.42 weeks, and 4 to measure
    assert result.weeks == 36
    assert result.sentence == (
        "It takes 3,142 agents (1,571 trained, 1,571 comparison) and 36 weeks to see a fall of 0.5 minutes in "
        "resolution time 4 times in 5."
    )
    by_week = dict((week, size) for week, _, size in result.over_time)
    sizes = list(by_week.values())
    assert sizes == sorted(sizes, reverse=True) and by_week[36] <= 0.5 < by_week[35]
    assert plan(planned()).weeks is None and plan(planned()).over_time == ()
    assert times(0.8) == "4 times in 5" and times(0.85) == "85 times in 100"


def test_a_guard_rail_says_how_much_its_kpi_may_vary() -> None:
    rails = [
        {"column": "q", "label": "quality", "unit": "points", "direction": "increase", "value_type": "continuous",
         "largest_acceptable_harm": {"value": 2.0, "unit": "points"}},
        {"column": "c", "label": "complaints", "unit": POINTS, "direction": "decrease", "value_type": "binary",
         "largest_acceptable_harm": {"value": 3.0, "unit": POINTS}},
    ]  # fmt: skip
    result = plan(planned(guard_rails=rails))
    quality, complaints = result.guard_rails
    # 2 = (1.96 + 0.84) x sd x sqrt(4 / 3,142)
    assert quality.largest_sd == pytest.approx(2 / (2.8016 * math.sqrt(4 / result.units)), rel=0.002)
    # 3 points allow an sd of 30.0, that of a share of 10.0 percent
    share = 50 * (1 - math.sqrt(1 - (complaints.largest_sd / 50) ** 2))
    assert math.sqrt(share * (100 - share)) == pytest.approx(complaints.largest_sd)
    assert f"under {share:.3g}" in complaints.sentence
    held = stats.norm.sf(1.96 - 2 / (quality.largest_sd * math.sqrt(4 / result.units)))
    assert held == pytest.approx(0.8, abs=0.001)


def test_sample_ratio_check_sees_what_the_plan_says() -> None:
    """4,000 experiments in which that share of one of three arms is missing: the chi-square test sees 80% of them."""
    shares, units = (0.5, 0.3, 0.2), 2000
    gone = missing_share_seen(shares, units, alpha=0.001, power=0.8)
    assert gone is not None
    left = np.array(shares) * [1 - gone, 1, 1]
    found = np.random.default_rng(2).multinomial(round(units * left.sum()), left / left.sum(), 4000)
    total = found.sum(axis=1, keepdims=True)
    statistic = ((found - total * shares) ** 2 / (total * shares)).sum(axis=1)
    assert (statistic > stats.chi2.isf(0.001, 2)).mean() == pytest.approx(0.8, abs=0.025)
    assert missing_share_seen((0.5, 0.5), 12, alpha=0.001, power=0.8) is None


def test_steps_multiply_to_the_size_and_print() -> None:
    program = planned(
        design={**ARMS, **TEAMS},
        kpi={"before_column": "before"},
        plan={"cluster_size": 12.0, "icc": 0.08, "before_correlation": 0.6, "lost": 0.1},
    )
    result = plan(program)
    product = result.steps[0].units * math.prod(step.factor for step in result.steps)
    assert product == pytest.approx(result.steps[-1].units, rel=1e-9)
    assert 0 <= result.units - result.steps[-1].units <= 12 * 5
    assert "design effect" in str(plan_steps(result)) and "<table" in plan_steps(result)._repr_html_()
    worse = {one.assumption: one.units for one in result.what_if}
    assert len(worse) == 4 and min(worse.values()) > result.units and "icc" not in str(plan_what_if(result))
    assert ExperimentPlan.model_validate_json(result.model_dump_json()) == result


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"plan": {"sd": None}}, "plan.sd: found nothing; expected the KPI's standard deviation"),
        ({"kpi": BINARY, "plan": {"sd": None, "mean": None}}, "plan.mean: found nothing"),
        ({"kpi": BINARY}, "plan.sd: found 5; expected nothing: the sd of a binary KPI follows"),
        ({"kpi": BINARY, "plan": {"sd": None, "mean": 140.0}}, "a mean from 0 to 100"),
        ({"kpi": BINARY, "plan": {"sd": None, "mean": 85.5}}, "at most 14.5 percentage points"),
        ({"kpi": {"target": {"value": 5.0, "unit": "percent of baseline"}}, "plan": {"mean": None}}, "plan.mean"),
        ({"kpi": {"lowest": 49.8}}, "at most 0.2 minutes: from 50 the KPI cannot go further"),
        ({"design": TEAMS}, "often 0.05 to 0.2. Nothing is assumed for you"),
        ({"plan": {"icc": 0.1, "cluster_size": 9.0}}, "design.columns.cluster: found nothing, but plan.icc is given"),
        ({"plan": {"take_up": 0.5}}, "design.columns.assignment: found nothing, but plan.take_up"),
        ({"plan": {"units_available": 12}}, "plan.units_available: found 12; expected at least 20"),
    ],
)  # fmt: skip
def test_refusals_name_what_is_missing(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError) as caught:
        plan(planned(**changes))
    assert named in str(caught.value)


def test_refusals_of_no_plan_and_of_an_effect_that_nothing_shows() -> None:
    with pytest.raises(LdlabError, match="found no section plan"):
        plan(planned(plan=None))
    with pytest.raises(LdlabError, match="would not show"):
        plan(planned(plan={"sd": 1e6}))


def test_figures_say_the_answer_and_carry_their_numbers() -> None:
    result = plan(planned(plan={"units_per_week": 100.0, "units_available": 1000}))
    curve, weeks = power_curve(result), smallest_over_time(result)
    assert curve.title == result.sentence and "the chance is 35%" in curve.alt
    assert curve.table is not None and len(curve.table) > 5
    assert weeks is not None and weeks.title.startswith(f"In {result.weeks} weeks") and "minutes" in weeks.alt
    assert curve.png()[:4] == weeks.png()[:4] == b"\x89PNG"
    assert smallest_over_time(plan(planned())) is None


# Planned and found


def test_intra_cluster_correlation_by_hand() -> None:
    """One arm, clusters (1, 3), (5, 7): between 16, within 2, size 2: (16 - 2) / (16 + 2) = 0.778."""
    within = pd.DataFrame({"outcome": [-3.0, -1.0, 1.0, 3.0], "cluster": [0, 0, 1, 1], "of": 0})
    assert intra_cluster_correlation(within) == pytest.approx(14 / 18)


def test_the_plan_beside_the_data() -> None:
    rng = np.random.default_rng(8)
    team = np.repeat(np.arange(60), 10)
    arm = team % 2
    shared = rng.normal(0, 2.0, 60)[team]
    before = rng.normal(0, 1, 600)
    outcome = 50 + shared + 3 * before + rng.normal(0, 4, 600)
    frame = pd.DataFrame(
        {"unit": np.arange(600), "arm": arm, "cluster": team, "outcome": outcome, "before": before}
    )
    study = make_study(
        frame, {"kind": "randomised", "columns": {"cluster": "cluster"}}, covariates=(), level=0.9,
        plan={"mean": 50.0, "sd": 4.0, "cluster_size": 12.0, "icc": 0.05, "before_correlation": 0.5, "lost": 0.05},
    )  # fmt: skip
    lead = estimates(study)[0]
    kept = plan_kept(study, lead)
    assert kept is not None
    found = {row.what: row for row in kept.rows}
    assert found["share of trained"].found == "50.0%"
    assert float(found["standard deviation between units (minutes)"].found) == pytest.approx(
        math.sqrt(29), abs=0.6
    )
    assert float(found["intra-cluster correlation"].found) == pytest.approx(4 / 29, abs=0.09)
    assert float(found["correlation with earlier values"].found) == pytest.approx(3 / math.sqrt(29), abs=0.08)
    assert found["units in a cluster"].planned == "12" and found["units in a cluster"].found == "10"
    drift = optimize.brentq(
        lambda d: stats.nct.sf(stats.t.isf(0.05, lead.df), lead.df, d) - 0.8, 0, 10
    )  # by the estimate's own error
    assert kept.smallest_seen == pytest.approx(drift * lead.se, rel=1e-5)
    assert "was planned to be" in kept.sentence and "would have been seen 4 times in 5" in kept.sentence
    assert plan_kept(make_study(frame, covariates=()), lead) is None


def test_small_groups_are_not_shown_beside_the_plan() -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"unit": range(100), "arm": [1] * 95 + [0] * 5, "outcome": rng.normal(50, 5, 100)})
    study = make_study(frame, covariates=(), plan={"mean": 50.0, "sd": 5.0})
    kept = plan_kept(study, estimates(study)[0])
    assert kept is not None and {row.found for row in kept.rows} == {"not shown"}
    even = make_study(frame.assign(arm=[0, 1] * 50), covariates=(), plan={"mean": 50.0, "sd": 5.0})
    some_lost = pd.concat([even.frame, even.frame.tail(4).assign(outcome=np.nan)], ignore_index=True)
    study = replace(even, assigned=some_lost)
    kept = plan_kept(study, estimates(study)[0])
    assert kept is not None and kept.rows[-1].found == "fewer than 10 agents"
