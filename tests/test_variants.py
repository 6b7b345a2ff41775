"""Binary KPIs against exact Beta posteriors; several arms: who is best, and what each choice would lose; every KPI."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, special, stats

from ldlab import bayes
from ldlab.bayes.exact import Difference, exact_beta
from ldlab.bayes.kpis import kpis
from ldlab.bayes.variants import NONE, rope
from ldlab.estimate import Estimate
from ldlab.program import LdlabError, Study
from tests.studies import make_study
from tests.test_bayes import POINTS

A, B = (31.0, 71.0), (45.0, 57.0)  # 30 of 100, and 44 of 100, under Beta(1, 1)


def two_shares(successes: tuple[int, int], units: tuple[int, int]) -> pd.DataFrame:
    """Comparison and program arm with so many successes."""
    parts = [
        pd.DataFrame({"arm": arm, "outcome": [100.0] * hits + [0.0] * (n - hits)})
        for arm, (hits, n) in enumerate(zip(successes, units, strict=True))
    ]
    return pd.concat(parts, ignore_index=True)


def evan_miller(a: tuple[float, float], b: tuple[float, float]) -> float:
    """P(B > A) as a finite sum (Miller 2015, Formulas for Bayesian A/B testing, equation 6)."""
    return sum(
        math.exp(
            special.betaln(a[0] + i, b[1] + a[1])
            - math.log(b[1] + i)
            - special.betaln(1 + i, b[1])
            - special.betaln(a[0], a[1])
        )
        for i in range(int(b[0]))
    )


# The exact posterior


def test_one_success_each_by_hand() -> None:
    """Beta(2, 1) against Beta(1, 1): P(B > A) = integral of 2b * b = 2/3; means 2/3 - 1/2; E[max(0, A - B)] = 1/12.

    For A uniform E[max(0, A - b)] = (1 - b)^2 / 2, and the integral of 2b (1 - b)^2 / 2 from 0 to 1 is B(2, 3) = 1/12.
    """
    found = Difference(program=(2, 1), comparison=(1, 1))
    assert found.above(0) == pytest.approx(2 / 3, abs=1e-9)
    assert found.mean == pytest.approx(1 / 6)
    assert found.shortfall(0) == pytest.approx(1 / 12, abs=1e-9)


@pytest.mark.parametrize(("a", "b"), [(A, B), ((3.0, 999.0), (6.0, 1001.0)), ((2.0, 1.0), (1.0, 12.0))])
def test_chance_of_gain_is_evan_millers_sum(a: tuple[float, float], b: tuple[float, float]) -> None:
    assert Difference(program=b, comparison=a).above(0) == pytest.approx(evan_miller(a, b), abs=1e-6)


def test_tails_losses_and_bounds_are_those_of_scipys_quadrature() -> None:
    found, density = Difference(program=B, comparison=A), (stats.beta(*B).pdf, stats.beta(*A).pdf)

    def expected(value: Any, bound: float) -> float:
        return float(integrate.dblquad(lambda b, a: value(b - a) * density[0](b) * density[1](a),
                                       0, 1, lambda a: max(0.0, a + bound), 1, epsabs=1e-9)[0])  # fmt: skip

    assert found.above(0.05) == pytest.approx(expected(lambda d: 1.0, 0.05), abs=1e-6)
    over = expected(lambda d: d - 0.05, 0.05)
    assert found.mean - 0.05 + found.shortfall(0.05) == pytest.approx(over, abs=1e-6)
    low = found.quantile(0.025)
    assert found.above(low) == pytest.approx(0.975, abs=1e-8)


@pytest.mark.parametrize("direction", ["increase", "decrease"])
def test_the_effect_of_a_binary_kpi_is_exact_in_percentage_points(direction: str) -> None:
    """Chances and losses follow the direction: fewer of a bad thing is a gain."""
    study = make_study(two_shares((30, 44), (100, 100)), kpi={**POINTS, "direction": direction})
    found, law = exact_beta(study), Difference(program=B, comparison=A)
    assert found is not None
    e = found.estimate
    assert e.value == pytest.approx(100 * (45 / 102 - 31 / 102)) and e.draws is None
    gain, worthwhile = (
        (law.above(0), law.above(0.01))
        if direction == "increase"
        else (1 - law.above(0), 1 - law.above(-0.01))
    )
    assert (e.p_gain, e.p_worthwhile) == (pytest.approx(gain), pytest.approx(worthwhile))
    shortfall = 100 * law.shortfall(0.01 if direction == "increase" else -0.01)
    excess = shortfall + e.sign * e.value - 1.0
    assert (found.scaling if direction == "increase" else found.stopping) == pytest.approx(shortfall)
    assert found.stopping - found.scaling == pytest.approx(e.sign * e.value - 1.0)
    assert excess > 0 if direction == "increase" else True


def test_nothing_and_wrong_way_are_said_as_such() -> None:
    nothing = exact_beta(make_study(two_shares((50, 50), (100, 100)), kpi=POINTS))
    worse = exact_beta(make_study(two_shares((60, 40), (100, 100)), kpi=POINTS))
    assert nothing is not None and worse is not None
    assert nothing.estimate.p_gain == pytest.approx(0.5, abs=1e-9)
    assert worse.estimate.p_gain < 0.005 and worse.scaling > worse.stopping


def test_what_beta_shares_do_not_know_has_no_exact_answer() -> None:
    frame = two_shares((30, 44), (100, 100))
    assert exact_beta(make_study(frame.assign(outcome=frame["outcome"] + 0.5))) is None, "no binary KPI"
    assert (
        exact_beta(make_study(frame.assign(cluster=[f"t{i // 5}" for i in frame.index]), kpi=POINTS)) is None
    )
    with pytest.raises(LdlabError, match="above 0"):
        exact_beta(make_study(frame, kpi=POINTS), prior=(0, 1))


def test_the_sampled_model_agrees_with_the_exact_posterior() -> None:
    """Vague prior on the effect, 800 people: within four Monte Carlo errors and a tenth of an error for the priors."""
    study = make_study(
        two_shares((120, 152), (400, 400)), kpi=POINTS, covariates=(), priors={"effect": {"sd": 40.0}}
    )
    exact, sampled = exact_beta(study), bayes.estimate(bayes.fit(study))
    assert exact is not None
    monte_carlo = 4 / 40  # of an error: 4 chains of 1,000 draws hold well over 1,600 independent ones
    e = exact.estimate
    assert sampled.value == pytest.approx(e.value, abs=(monte_carlo + 0.1) * e.se)
    assert sampled.se == pytest.approx(e.se, rel=0.05)
    assert (sampled.low, sampled.high) == (
        pytest.approx(e.low, abs=0.3 * e.se),
        pytest.approx(e.high, abs=0.3 * e.se),
    )
    assert sampled.p_worthwhile == pytest.approx(e.p_worthwhile, abs=0.02)
    loss = bayes.expected_loss(sampled)
    assert loss.stopping == pytest.approx(exact.stopping, abs=0.2 * e.se)
    assert loss.scaling == pytest.approx(exact.scaling, abs=0.02 * e.se)


# Several arms


ARMS = {"kind": "randomised", "treated_values": ["a", "b"], "control_value": "none"}


def three_shares(hits: tuple[int, int, int], n: int) -> pd.DataFrame:
    parts = [
        pd.DataFrame({"variant": name, "outcome": [100.0] * hit + [0.0] * (n - hit)})
        for name, hit in zip(("none", "a", "b"), hits, strict=True)
    ]
    return pd.concat(parts, ignore_index=True).assign(arm=lambda d: (d["variant"] != "none") * 1)


@pytest.fixture(scope="module")
def three() -> Study:
    vague = {"effect": {"sd": 40.0}, "segment_sd": 40.0}
    return make_study(three_shares((200, 220, 250), 500), ARMS, kpi=POINTS, covariates=(), priors=vague)


@pytest.fixture(scope="module")
def sampled(three: Study) -> bayes.Variants:
    found = bayes.variants(three)
    assert found is not None
    return found


def test_who_is_best_is_what_the_exact_shares_say(three: Study, sampled: bayes.Variants) -> None:
    """Exact P(best) by scipy's quadrature of f_b F_a F_none; arms pooled under a vague spread come close to it."""
    exact = exact_beta(three)
    assert exact is not None
    laws = {name: stats.beta(1 + hit, 501 - hit) for name, hit in (("none", 200), ("a", 220), ("b", 250))}
    best = {
        name: integrate.quad(
            lambda x, own=name: laws[own].pdf(x) * math.prod(laws[o].cdf(x) for o in laws if o != own),
            0.3, 0.7, epsabs=1e-10,
        )[0]
        for name in laws
    }  # fmt: skip
    assert dict(exact.p_best) == pytest.approx(best, abs=1e-6)
    assert sum(best.values()) == pytest.approx(1, abs=1e-6)
    found = {e.term: chance for e, chance in zip(sampled.estimates, sampled.p_best, strict=True)}
    assert found == pytest.approx({name: best[name] for name in ("a", "b")}, abs=0.03)
    pair = {name: Difference(program=laws[name].args, comparison=laws["none"].args).above(0) for name in "ab"}
    assert sampled.p_better[NONE].to_dict() == pytest.approx(pair, abs=0.03)


def test_the_matrix_of_chances_adds_up(sampled: bayes.Variants) -> None:
    table = sampled.p_better
    assert list(table.columns) == [*table.index, NONE] and list(table.index) == [
        e.term for e in sampled.estimates
    ]
    assert table.loc["a", "b"] + table.loc["b", "a"] == pytest.approx(1)
    assert all(math.isnan(table.loc[name, name]) for name in table.index)
    assert table[NONE].to_dict() == {e.term: pytest.approx(e.p_gain) for e in sampled.estimates}


def test_losses_of_each_choice_from_the_draws(sampled: bayes.Variants) -> None:
    """No program gains nothing; the choice with the best mean gain loses least; differences of losses are those of means."""
    losses = dict(sampled.losses)
    assert list(losses) == ["b", "a", NONE] and losses["b"] >= 0
    by_name = {e.term: e for e in sampled.estimates}
    assert losses["a"] - losses["b"] == pytest.approx(by_name["b"].value - by_name["a"].value)
    assert losses[NONE] - losses["b"] == pytest.approx(by_name["b"].value)
    assert "choosing it would lose on average: b" in str(sampled)


def test_less_is_better_turns_the_order(sampled: bayes.Variants, three: Study) -> None:
    kpi = three.program.kpi.model_copy(update={"direction": "decrease"})
    turned = bayes.variants(replace(three, program=three.program.model_copy(update={"kpi": kpi})))
    assert turned is not None
    assert turned.losses[0][0] == NONE and max(turned.p_best) < 0.2
    assert turned.p_better["b"]["a"] > 0.9, "fewer in a than in b"


def test_an_arm_that_is_too_small_is_left_out_and_named() -> None:
    frame = three_shares((20, 25, 30), 60)
    few = pd.DataFrame({"variant": "c", "arm": 1, "outcome": [100.0, 0.0, 0.0]})
    design = {**ARMS, "treated_values": ["a", "b", "c"]}
    found = bayes.variants(
        make_study(pd.concat([frame, few], ignore_index=True), design, kpi=POINTS, covariates=())
    )
    assert found is not None and found.left_out == ("c",)
    assert "left out, too small: c" in str(found) and [e.term for e in found.estimates] == ["b", "a"]


def test_one_comparison_of_several_arms_has_no_variants(three: Study) -> None:
    assert bayes.variants(three.versus("b")) is None


def posterior_of(low: float, high: float, direction: str = "increase") -> Estimate:
    study = make_study(two_shares((3, 4), (40, 40)), kpi={**POINTS, "direction": direction})
    rest = {"method": "m", "estimand": "ATE", "se_kind": "posterior sd", "n": {}}
    return Estimate.from_draws(np.linspace(low, high, 4001), **rest, **study.measure())


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(2, 9, "worthwhile"), (-9, -2, "harmful"), (-0.9, 0.9, "practically nothing"), (-0.5, 3, "undecided")],
)
def test_the_region_of_practical_equivalence(low: float, high: float, verdict: str) -> None:
    """The smallest effect worth having is 1; where less is better all is mirrored."""
    assert rope(posterior_of(low, high)) == verdict
    assert rope(posterior_of(-high, -low, "decrease")) == verdict


# Every KPI


def other(study: Study, outcome: Any, **kpi: Any) -> Study:
    made = make_study(study.frame[["unit", "arm"]].assign(outcome=outcome), covariates=(), kpi=kpi)
    return replace(made, covariates=())


@pytest.fixture(scope="module")
def several() -> Study:
    """Continuous up by 1, binary not moved, counts up by half; guard-rails: harmed by 2 where .5 is allowed, and not."""
    rng, n = np.random.default_rng(11), 600
    arm = np.arange(n) % 2
    frame = pd.DataFrame({"arm": arm, "outcome": arm + rng.normal(0, 2, n)})
    study = make_study(frame, covariates=())
    binary = 100.0 * (rng.random(n) < 0.4)
    counts = rng.poisson(2.0 + arm).astype(float)
    half = {"smallest_effect_worth_having": {"value": 0.5, "unit": "minutes"}}
    return replace(
        study,
        secondary=(
            other(study, binary, **{**POINTS, "label": "certified"}),
            other(study, counts, value_type="count", label="ideas"),
        ),
        guard_rails=(
            other(study, rng.normal(0, 2, n) - 2 * arm, label="quality", **half),
            other(study, rng.normal(0, 0.5, n), label="calm", **half),
            other(study, np.where(arm == 0, 1.0, rng.normal(size=n)), label="flat", **half),
        ),
    )


def test_every_kpi_in_its_own_family_and_unit(several: Study) -> None:
    found = {one.kpi: one for one in kpis(several).kpis}
    effects = {name: one.estimate for name, one in found.items() if one.estimate is not None}
    assert [one.role for one in found.values()] == ["primary", "secondary", "secondary", *["guard-rail"] * 3]
    words = {"resolution time": "linear", "certified": "logistic", "ideas": "negative binomial"}
    assert all(word in effects[name].method for name, word in words.items())
    truth = {"resolution time": 1.0, "certified": 0.0, "ideas": 1.0, "quality": -2.0, "calm": 0.0}
    assert all(abs(effects[name].value - value) < 3 * effects[name].se for name, value in truth.items())
    assert effects["certified"].unit == "percentage points" and effects["certified"].p_gain < 0.99


def test_guard_rails_have_their_chance_of_harm(several: Study) -> None:
    """Normal by hand for 'quality': P(effect < -.5) with the posterior's mean and sd; the constant arm is named, not lost."""
    found = kpis(replace(several, secondary=()))
    by_name = {one.kpi: one for one in found.kpis}
    harmed, calm, flat = by_name["quality"], by_name["calm"], by_name["flat"]
    assert harmed.state == "breached" and calm.state == "held" and not found.may_scale
    assert harmed.estimate is not None and harmed.p_harm is not None
    by_hand = stats.norm.cdf(-0.5, harmed.estimate.value, harmed.estimate.se)
    assert harmed.p_harm == pytest.approx(by_hand, abs=0.01)
    assert flat.estimate is None and "one value only" in flat.reason and flat.state == ""
    assert "chance of harm beyond" in str(found) and list(found.table["KPI"])[-1] == "flat"


def test_the_primary_posterior_is_not_sampled_again(several: Study) -> None:
    posterior = bayes.fit(several)
    found = kpis(replace(several, secondary=several.secondary[:1], guard_rails=()), primary=posterior)
    assert found is not None and found.kpis[0].estimate == bayes.estimate(posterior)
    assert kpis(replace(several, secondary=(), guard_rails=()), primary=posterior) is None
