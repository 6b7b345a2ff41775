"""Heavy tails, many zeros, few cases: by hand, against published numbers, simulated."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ldlab import ab
from ldlab.ab import leading
from ldlab.ab.normal import LARGEST_SKEWNESS, Arm, normal_approximation, tails
from ldlab.ab.percent import percent_effect
from ldlab.ab.score import TwoShares, score_interval
from ldlab.ab.tails import raw_estimate, two_parts, winsorised
from tests.studies import make_study
from tests.test_ab import hand_study
from tests.worlds_ab import POINTS, clipped_study

MONTE_CARLO = 3  # standard errors of a simulated share


def test_winsorised_beside_raw():
    rng = np.random.default_rng(11)
    arm = np.repeat([0, 1], 150)
    raw = rng.normal(10, 1, 300)
    far = raw + np.where(np.arange(300) % 150 >= 147, 150, 0)
    decides = winsorised(clipped_study(arm, far + 0.35 * arm, 0.98))
    assert (
        decides.raw.low < 0 < decides.clipped.low
        and "only when extreme values are clipped" in decides.sentence
    )
    few = raw - 0.15 * arm + np.where(np.arange(300) >= 288, 25, 0)
    comes_from = winsorised(clipped_study(arm, few, 0.955))
    assert (
        comes_from.raw.low > 0
        and comes_from.clipped.low < 0
        and "comes from the highest" in comes_from.sentence
    )
    same = winsorised(clipped_study(arm, raw + 2 * arm, 0.99))
    assert "no conclusion" in same.sentence and same.touched.startswith("fewer than 10, above the 99th")
    assert same.raw.value == pytest.approx((raw + 2 * arm)[arm == 1].mean() - raw[arm == 0].mean())
    assert raw_estimate(hand_study()) is None and winsorised(hand_study()) is None


def test_skewness_of_an_estimate_by_hand():
    # Values 0, 0, 3: deviations -1, -1, 2 over n = 3, so third moment 6/27 and variance 6/9 * 3/2 = 1.
    arm = Arm(np.array([0.0, 0, 3]), np.ones(3))
    assert (arm.mean, arm.third, arm.variance) == pytest.approx((1, 6 / 27, 1))
    # Groups of 1 and 2 units with sums 1 and 5: mean 2; residuals -1 and 1 over 3; variance 2/9 * 2.
    assert Arm(np.array([1.0, 5]), np.array([1.0, 2])).variance == pytest.approx(4 / 9)
    rng = np.random.default_rng(12)
    values = rng.exponential(size=710)  # skewness 2: Kohavi's rule asks for 355 * 4 in one mean
    one = Arm(values, np.ones(710))
    assert one.third / one.variance**1.5 == pytest.approx(2 / math.sqrt(710), rel=0.25)
    assert pytest.approx(2 / math.sqrt(355 * 4)) == LARGEST_SKEWNESS


def test_normal_approximation_passes_and_fails():
    rng = np.random.default_rng(13)
    arm = np.repeat([0, 1], [300, 40])
    fine = normal_approximation(make_study(pd.DataFrame({"arm": arm, "outcome": rng.normal(size=340)})))
    heavy = make_study(pd.DataFrame({"arm": arm, "outcome": np.exp(1.6 * rng.normal(size=340))}))
    assert fine.status == "passed" and not fine.needed
    check, found = normal_approximation(heavy), tails(heavy)
    assert check.status == "failed"
    assert "ends elsewhere" in check.sentence or "says otherwise" in check.sentence
    assert found.variance_share > 30 and found.shift > 0.1
    assert tails(heavy) == found  # seeded
    points = make_study(pd.DataFrame({"arm": arm, "outcome": 100.0 * (rng.random(340) < 0.5)}), kpi=POINTS)
    assert normal_approximation(points) is None


def test_bootstrap_t_is_nearer_the_level_where_t_is_not():
    # 40 lognormal values against 400, no effect: 90% intervals miss by 5% on each side if all is well. 120 runs.
    rng, arm = np.random.default_rng(14), np.repeat([0, 1], [400, 40])
    ends = []
    for _ in range(120):
        found = tails(
            make_study(pd.DataFrame({"arm": arm, "outcome": np.exp(0.8 * rng.normal(size=440))}), level=0.9)
        )
        ends.append((found.high < 0, found.low > 0, found.boot_high < 0, found.boot_low > 0))
    below, above, boot_below, boot_above = np.mean(ends, axis=0)
    assert below - above > 0.03  # the t interval misses on one side
    assert abs(boot_below - boot_above) < below - above
    assert boot_below + boot_above < 0.1 + MONTE_CARLO * math.sqrt(0.1 * 0.9 / 120)


def test_two_parts_by_hand():
    # Any: 20% and 40%; mean among those 4 and 5. Total 2 - .8; share .2 * 4.5; amount 1 * .3.
    outcome = [4.0] * 20 + [0.0] * 80 + [5.0] * 40 + [0.0] * 60
    found = two_parts(make_study(pd.DataFrame({"arm": [0] * 100 + [1] * 100, "outcome": outcome})))
    assert (found.total, found.from_share, found.from_amount) == pytest.approx((1.2, 0.9, 0.3))
    assert found.share == pytest.approx(20) and found.zeros == pytest.approx(70)
    assert found.share_se == pytest.approx(100 * math.sqrt((0.2 * 0.8 + 0.4 * 0.6) / 99))
    assert "75% of the difference" in found.sentence and "not a causal comparison" in found.sentence


def test_two_parts_only_where_zeros_are_many_and_groups_large():
    arm = np.repeat([0, 1], 100)
    few_zeros = np.where(np.arange(200) % 10 == 0, 0.0, 5.0) + arm * (np.arange(200) % 10 > 0)
    assert two_parts(make_study(pd.DataFrame({"arm": arm, "outcome": few_zeros}))) is None
    lonely = np.where(np.arange(200) < 5, 3.0, 0.0)
    assert two_parts(make_study(pd.DataFrame({"arm": arm, "outcome": lonely}))) is None


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17:873, table II, method 6 (Miettinen-Nurminen), 95%.
        ((56, 70, 48, 80), 0.0528, 0.3382),
        ((9, 10, 3, 10), 0.1700, 0.8406),
        ((5, 56, 0, 29), -0.0326, 0.1933),
        ((10, 10, 0, 20), 0.7156, 1.0),
    ],
)
def test_score_interval_published(table, low, high):
    assert TwoShares(*table).interval(0.95) == pytest.approx((low, high), abs=6e-5)


def test_score_interval_where_an_arm_has_no_case():
    outcome = [100.0] * 5 + [0.0] * 51 + [0.0] * 29
    study = make_study(pd.DataFrame({"arm": [1] * 56 + [0] * 29, "outcome": outcome}), kpi=POINTS)
    plain, score = leading.estimates(study)
    assert (plain.method, score.method) == (ab.DIFFERENCE, "difference in shares, score interval")
    assert (round(score.low, 1), round(score.high, 1)) == (-3.3, 19.3)
    assert plain.low > 0 > score.low  # t takes the arm without a case as known exactly
    assert 0.8 < score.p_gain < 0.975
    assert percent_effect(study, plain).value is None
    many = make_study(study.frame.assign(outcome=np.arange(85) % 2 * 100.0), kpi=POINTS)
    assert score_interval(many) is None
    fewer = make_study(study.frame, kpi={**POINTS, "direction": "decrease"})
    assert score_interval(fewer).p_gain == pytest.approx(1 - score.p_gain)


def test_an_arm_without_any_is_said_to_be_taken_as_known():
    arm = np.repeat([0, 1], 40)
    outcome = np.where(arm == 1, np.random.default_rng(22).poisson(1, 80), 0)
    study = make_study(pd.DataFrame({"arm": arm, "outcome": outcome}), kpi={"value_type": "count"})
    check = normal_approximation(study)
    assert check.status == "failed" and "same value" in check.sentence
    assert leading.estimates(study)[0].low > 0
    assert percent_effect(study, leading.estimates(study)[0]).value is None


IN_STRATA = {"kind": "randomised", "columns": {"stratum": "stratum"}}


def test_tails_of_matched_pairs_are_those_of_their_differences():
    rng = np.random.default_rng(12)
    pair = np.repeat(np.arange(150), 2)
    arm = np.concatenate([rng.permutation([0, 1]) for _ in range(150)])
    outcome = 70 + 2 * arm + rng.normal(0, 6, 150)[pair] + rng.normal(0, 4, 300)
    frame = pd.DataFrame({"arm": arm, "stratum": pair.astype(str), "outcome": outcome})
    study = make_study(frame, IN_STRATA, covariates=())
    found, check = tails(study), normal_approximation(study)
    wide = frame.pivot(index="stratum", columns="arm", values="outcome")
    one = stats.ttest_1samp(wide[1] - wide[0], 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((one.low, one.high))
    assert found.skewness == pytest.approx(stats.skew(wide[1] - wide[0]) / math.sqrt(150), rel=0.02)
    assert abs(found.boot_low - one.low) < 0.1 * (one.high - one.low)
    assert check.status == "passed" and "same value" not in check.sentence


def test_tails_of_strata_with_unequal_shares_are_about_the_blocked_difference():
    """Levels 60, 70, 80 and treated shares 80, 50, 20 in 100: the plain difference is -5."""
    rng = np.random.default_rng(13)
    stratum = np.repeat([0, 1, 2], 300)
    arm = np.concatenate([rng.permutation(np.arange(300) < 300 * share) for share in (0.8, 0.5, 0.2)]) * 1
    frame = pd.DataFrame({"arm": arm, "stratum": stratum.astype(str)})
    frame["outcome"] = 60 + 10 * stratum + 1.5 * arm + rng.normal(0, 7, 900)
    study = make_study(frame, IN_STRATA, covariates=())
    found, blocked = tails(study), leading.estimates(study)[0]
    assert frame.groupby("arm")["outcome"].mean().diff()[1] < -3
    assert (found.low, found.high) == pytest.approx((blocked.low, blocked.high), abs=0.03)
