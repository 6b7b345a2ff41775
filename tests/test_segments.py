"""For whom: effects by segment by hand, the test that they are alike, pooling, what was not agreed, and false alarms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.oneway import anova_oneway

from ldlab.ab.pooled import alike, pool
from ldlab.ab.segments import estimated, exploratory_segments, segments
from ldlab.plots.exploratory import exploratory, for_whom
from ldlab.program import LdlabError, Study
from tests.studies import make_study
from tests.test_bayes import POINTS

SCHOOLS = np.array([28.0, 8, -3, 7, -1, 1, 18, 12]), np.array([15.0, 10, 16, 11, 9, 11, 10, 18])


def world(
    n: int = 400, seed: int = 1, effects: tuple[float, ...] = (0.0, 0.0, 0.0), **columns: Any
) -> pd.DataFrame:
    """Segments of unequal sizes with own effects, levels and spreads."""
    rng = np.random.default_rng(seed)
    shares = np.arange(1, len(effects) + 1) / np.arange(1, len(effects) + 1).sum()
    code = rng.choice(len(effects), n, p=shares)
    frame = pd.DataFrame(
        {"arm": rng.permutation(np.arange(n) % 2), "segment": np.array(list("abcdef"))[code]}
    )
    frame["outcome"] = code + np.asarray(effects)[code] * frame["arm"] + rng.normal(0, 1 + code / 2)
    return frame.assign(**columns)


def study_of(frame: pd.DataFrame, **rest: Any) -> Study:
    return make_study(frame, **{"covariates": (), **rest})


# By hand and against libraries


def test_two_segments_by_hand() -> None:
    """a: 10 trained 3, 5 and 10 others 1, 3 in turn: effect 2; variances 10/9 each, so error sqrt(2/9) = .4714.

    b: trained 1, 3 and others 1, 3: effect 0, same error. Apart 2, error sqrt(4/9) = 2/3, t 3, F 9 with 4 x 9 degrees.
    """
    values = {("a", 1): (3, 5), ("a", 0): (1, 3), ("b", 1): (1, 3), ("b", 0): (1, 3)}
    frame = pd.DataFrame(
        [(s, arm, float(y)) for (s, arm), pair in values.items() for y in pair * 5],
        columns=["segment", "arm", "outcome"],
    )
    found = segments(study_of(frame))
    assert found is not None and not found.exploratory
    a, b = found.effects
    assert (a.segment, a.own.value, b.own.value) == ("a", 2.0, 0.0)
    assert a.own.se == pytest.approx((2 / 9) ** 0.5) and a.own.df == pytest.approx(18)
    assert (a.apart, a.apart_se) == (pytest.approx(2), pytest.approx(2 / 3))
    assert (found.f, found.df1, found.df2) == (pytest.approx(9), 1, pytest.approx(36))
    assert (
        a.p == a.p_adjusted == b.p_adjusted == pytest.approx(2 * stats.t.sf(3, 36)) == pytest.approx(found.p)
    )
    assert found.sentence.startswith("The effect differs by segment (p = .005): most in a")
    assert 0 < b.pooled.value < a.pooled.value < 2


def test_the_joint_test_is_welchs() -> None:
    """Means of single groups are such estimates: statsmodels' Welch test gives the same F, degrees and p."""
    rng = np.random.default_rng(1)
    groups = [rng.normal(0, sd, n) for sd, n in ((1, 5), (3, 9), (2, 30), (0.5, 7))]
    reference = anova_oneway(groups, use_var="unequal", welch_correction=True)
    variance = np.array([g.var(ddof=1) / len(g) for g in groups])
    found = alike(
        np.array([g.mean() for g in groups]), np.diag(variance), np.array([len(g) - 1.0 for g in groups])
    )
    assert (found.f, found.df1, found.df2) == pytest.approx((reference.statistic, *reference.df))
    assert found.p == pytest.approx(reference.pvalue)


def test_eight_schools_are_those_of_the_book() -> None:
    """Gelman et al., Bayesian Data Analysis, 3rd ed., table 5.3 (flat spread): medians 10, 8, 7, 8, 5, 6, 10, 8; A -2 to 31."""
    found = pool(SCHOOLS[0], np.diag(SCHOOLS[1] ** 2), 1e4)
    medians = [found.quantile(i, 0.5) for i in range(8)]
    assert medians == pytest.approx([10, 8, 7, 8, 5, 6, 10, 8], abs=0.9)
    assert (found.quantile(0, 0.025), found.quantile(0, 0.975)) == pytest.approx((-2, 31), abs=1.5)
    assert (found.quantile(4, 0.025), found.quantile(4, 0.975)) == pytest.approx((-9, 18), abs=2.5)


def test_pooling_at_its_two_ends() -> None:
    """No spread: everyone has the mean by precision, with its error. Endless spread: nobody is moved."""
    y, variance = np.array([1.0, 4.0]), np.diag([1.0, 2.0])
    none, endless = pool(y, variance, 1e-6), pool(np.array([-1e4, 1e4]), variance, 1e9)
    assert none.value == pytest.approx([2, 2], abs=1e-3) and none.se == pytest.approx(
        [(2 / 3) ** 0.5] * 2, abs=1e-3
    )
    assert endless.value == pytest.approx([-1e4, 1e4], abs=0.1) and endless.se == pytest.approx(
        [1, 2**0.5], rel=1e-3
    )


def test_estimates_that_share_clusters_are_not_taken_as_independent() -> None:
    """Correlation .9, values 1 and 2, variances 1: (2 - 1)^2 / (1 + 1 - 1.8) = 5; on 10 degrees F(1, 10)."""
    found = alike(np.array([1.0, 2.0]), np.array([[1, 0.9], [0.9, 1]]), np.array([10.0, 12.0]))
    assert found.f == pytest.approx(5) and found.df2 == 10
    assert found.p == pytest.approx(2 * stats.t.sf(5**0.5, 10))


def test_what_the_test_would_have_seen_it_sees_eight_times_in_ten() -> None:
    """2,000 draws of three estimates with errors 1, 1, 2 whose true effects have the stated spread."""
    rng, variance = np.random.default_rng(2), np.array([1.0, 1.0, 4.0])
    df = np.full(3, 200.0)
    spread = alike(np.zeros(3), np.diag(variance), df).detectable(0.05)
    share = (1 / variance) / (1 / variance).sum()
    shape = np.array([1.0, -1.0, 0.0])
    truth = shape * spread / np.sqrt(share @ (shape - share @ shape) ** 2)
    hits = [alike(truth + rng.normal(0, variance**0.5), np.diag(variance), df).p < 0.05 for _ in range(2000)]
    assert np.mean(hits) == pytest.approx(0.8, abs=0.03)


# Every kind of study


def test_covariates_narrow_each_segment() -> None:
    rng = np.random.default_rng(4)
    frame = world(seed=3, x1=rng.normal(size=400))
    frame["outcome"] += 3 * frame["x1"]
    plain = segments(make_study(frame))
    lead: Any = {"agreement": {"estimator": "adjusted"}}
    adjusted = segments(make_study(frame, **lead))
    assert plain is not None and adjusted is not None
    assert all(a.se < 0.7 * b.se for a, b in zip(
        sorted(adjusted.alone, key=lambda e: e.term), sorted(plain.alone, key=lambda e: e.term), strict=True))  # fmt: skip
    assert (
        "regression-adjusted" in adjusted.alone[0].method
        and "regression-adjusted" not in plain.alone[0].method
    )


def test_binary_decreasing_and_rates() -> None:
    rng = np.random.default_rng(5)
    frame = world(seed=6)
    binary = study_of(
        frame.assign(outcome=100.0 * (rng.random(400) < 0.5)), kpi={**POINTS, "direction": "decrease"}
    )
    found = segments(binary)
    assert found is not None and found.effects[0].own.unit == "percentage points"
    gains = [-e.own.value for e in found.effects]
    assert gains == sorted(gains, reverse=True) and found.estimates[0].p_gain > found.estimates[-1].p_gain
    hours = rng.uniform(1, 5, 400)
    counts = rng.poisson(hours * (1 + frame["arm"]))
    rates = frame.assign(count=counts, exposure=hours, outcome=counts / hours)
    kpi = {"value_type": "rate", "exposure_column": "exposure"}
    rate = segments(study_of(rates, kpi=kpi))
    assert rate is not None
    own = {e.term: e.value for e in rate.alone}
    part = rates[rates["segment"] == "c"].groupby("arm")[["count", "exposure"]].sum()
    assert own["c"] == pytest.approx((part["count"] / part["exposure"]).diff()[1])


def test_small_segments_are_hidden_also_from_subtraction() -> None:
    """'d' has 8 people, and 'a', the next smallest, goes with it; nothing else is said of either."""
    frame = pd.concat([world(), world(8, seed=9).assign(segment="d")], ignore_index=True)
    found = segments(study_of(frame))
    assert found is not None
    assert {e.segment for e in found.effects} == {"b", "c", "smaller groups"}
    alone = segments(study_of(world(40, effects=(0.0, 0.0)), minimum=15))
    assert alone is not None and alone.effects == () and alone.p is None
    assert "nothing can be compared" in alone.sentence


def test_a_segment_in_which_nothing_varies_is_named_not_shown() -> None:
    frame = world()
    frame.loc[frame["segment"] == "b", "outcome"] = 3.0
    found = segments(study_of(frame))
    assert found is not None and found.left_out == ("b",) and {e.segment for e in found.effects} == {"a", "c"}


def test_clusters_widen_segments_and_the_test() -> None:
    """40 teams drawn whole, each within all segments: errors clustered, and segments correlated through the teams."""
    rng = np.random.default_rng(7)
    team = np.repeat(np.arange(40), 20)
    frame = pd.DataFrame(
        {"arm": team % 2, "cluster": [f"t{t}" for t in team], "segment": np.tile(list("aabbb"), 160)}
    )
    frame["outcome"] = rng.normal(0, 2, 40)[team] + rng.normal(size=800)
    clustered, plain = segments(study_of(frame)), segments(study_of(frame.drop(columns="cluster")))
    assert clustered is not None and plain is not None
    assert (
        clustered.alone[0].se > 2 * plain.alone[0].se
        and clustered.alone[0].se_kind == "CR2, cluster by cluster"
    )
    apart, alone = clustered.effects[0].apart_se, clustered.alone[0].se
    assert apart < 0.5 * alone, "the teams' levels cancel between segments"


def test_no_segments_and_panels() -> None:
    assert segments(study_of(world().drop(columns="segment"))) is None
    assert exploratory_segments(study_of(world())) == ()
    frame = world().assign(unit="u1")
    with pytest.raises(LdlabError, match="several rows per unit"):
        segments(study_of(frame))


# What was not agreed


def explored(seed: int, n: int = 600, effect: float = 0.0) -> Study:
    rng = np.random.default_rng(seed)
    frame = world(n, seed=seed)
    frame["exploratory: age"] = rng.choice(["old", "young"], n)
    frame["exploratory: site"] = rng.choice(list("ABCD"), n)
    frame["outcome"] += effect * frame["arm"] * (frame["exploratory: age"] == "old")
    return study_of(frame)


def test_exploratory_is_said_everywhere() -> None:
    found = exploratory_segments(explored(8, effect=3.0))
    assert [part.column for part in found] == ["age", "site"] and all(part.exploratory for part in found)
    assert all(
        part.sentence.startswith(f"Looking by {part.column} was not agreed: a reason to test")
        for part in found
    )
    assert all(e.term.endswith(" (exploratory)") for part in found for e in (*part.estimates, *part.alone))
    assert all(e.differs for e in found[0].effects) and "seems to differ" in found[0].sentence
    figure = exploratory(found)
    assert figure is not None and figure.title.startswith(
        "Not agreed, a reason to test and not a finding: old (age)"
    )


def test_false_discovery_control_is_over_all_columns() -> None:
    """5 contrasts (two mirrored ones count once): Benjamini and Hochberg by scipy."""
    found = exploratory_segments(explored(8))
    age, site = found
    p = np.array([age.effects[0].p, *(e.p for e in site.effects)])
    wanted = stats.false_discovery_control(p)
    assert [age.effects[0].p_adjusted, *(e.p_adjusted for e in site.effects)] == pytest.approx(list(wanted))


def test_figures_say_what_was_found() -> None:
    null, apart = segments(study_of(world())), segments(study_of(world(effects=(4.0, 0.0, 0.0))))
    quiet, loud = for_whom(null), for_whom(apart)
    assert quiet is not None and loud is not None and null is not None and apart is not None
    assert (
        quiet.title.startswith("No sign that segments differ (p = .")
        and "would have been seen" in quiet.title
    )
    assert (
        loud.title
        == f"The effect differs by segment (p under .001): most in a, least in {apart.effects[-1].segment}"
    )
    assert "alone" in quiet.alt and len(quiet.table) == 3  # type: ignore[arg-type]
    assert for_whom(None) is None and exploratory(()) is None
    assert "No sign that the effect differs by segment" in null.sentence


# False alarms


@pytest.mark.parametrize("clusters", [False, True])
def test_false_alarms_of_the_joint_test(clusters: bool) -> None:
    """400 experiments without differences at 5%: 3 segments of unequal sizes and spreads; 24 teams in all segments.

    The share is binomial: .05 +- 3.3 x .011; with teams the test may be careful, not careless.
    """
    rng, alarms = np.random.default_rng(10), []
    for run in range(400):
        frame = world(240, seed=1000 + run)
        if clusters:
            team = rng.permutation(np.arange(240) % 24)
            frame = frame.assign(arm=team % 2, cluster=[f"t{t}" for t in team])
            frame["outcome"] = frame["outcome"] + rng.normal(0, 1, 24)[team]
        study = study_of(frame, minimum=5)
        found = estimated(study, study.frame["segment"], "segment", exploratory=False)
        alarms.append(alike(found.value, found.covariance, found.df).p < 0.05)
    assert np.mean(alarms) <= 0.05 + 0.036 and (clusters or np.mean(alarms) >= 0.05 - 0.036)
