"""Honest bounds: R's numbers, hand-solved trends, coverage, refusals, the check and its picture."""

import math

import numpy as np
import pandas as pd
import pytest

from ldlab import did
from ldlab.checks.honest import honest_trends
from ldlab.did.departures import MOST, Departures, bent, breakdown, broken, departures, zero_fits
from ldlab.did.honest import HonestBounds, honest_bounds
from ldlab.plots.honest import honest_bounds as picture
from ldlab.program import LdlabError
from tests.studies import make_study

MONTE_CARLO = 3  # standard errors of a simulated share


def medicaid():
    """R HonestDiD's example: states that expanded Medicaid in 2014 against those that had not by 2015, 2008-15."""
    from moderndid import load_ehec

    rows = load_ehec().to_pandas()
    year = rows["year"].astype(int)
    rows = rows[(year < 2016) & (rows["yexp2"] != 2015)]
    start = rows["yexp2"].where(rows["yexp2"] == 2014) - 2008
    frame = pd.DataFrame(
        {
            "unit": rows["stfips"],
            "period": rows["year"].astype(int) - 2008,
            "start": start,
            "outcome": rows["dins"],
        }
    )
    return make_study(frame, "two_group_before_after", level=0.95)


@pytest.fixture(scope="module")
def example():
    """The study, and its event study with R's normal errors."""
    study = medicaid()
    return study, did.event_study(study).model_copy(update={"df": math.inf})


def hand(effects, times, covariance=None, *, reference=-1, df=60.0, level=0.9):
    """A study with event times -3 to 1, and an event study with these numbers."""
    unit, period = (g.ravel() for g in np.meshgrid(np.arange(40), np.arange(5), indexing="ij"))
    start = np.where(unit < 20, 3.0, np.nan)
    noise = np.random.default_rng(1).normal(size=len(unit))
    frame = pd.DataFrame({"unit": unit, "period": period, "start": start, "outcome": noise})
    study = make_study(frame, "two_group_before_after", level=level)
    events = did.event_study(study)
    covariance = np.eye(len(effects)) * 1e-8 if covariance is None else covariance
    one = events.estimates[0]
    estimates = tuple(
        one.model_copy(update={"value": float(x), "term": f"week {t}"})
        for x, t in zip(effects, times, strict=True)
    )
    return study, events.model_copy(
        update={
            "estimates": estimates,
            "event_times": tuple(times),
            "reference": reference,
            "covariance_all": tuple(map(tuple, covariance.tolist())),
            "df": df,
        }
    )


def test_published_relative_magnitudes(example):
    # HonestDiD's README (R): .0240 .0672, .0170 .0720, .0082 .0797, -.0009 .0881; an earlier one .0241 .0673 and
    # -.0011 .0883 for the first and the last.
    bounds = honest_bounds(*example, target="first")
    published = [(0.0240, 0.0672), (0.0170, 0.0720), (0.0082, 0.0797), (-0.0009, 0.0881)]
    for bound, ends in zip(bounds.breaks, published, strict=True):
        assert (bound.low, bound.high) == pytest.approx(ends, abs=0.001)
    assert 1.85 <= bounds.breakdown <= 2  # the README reads 2 off its half steps
    assert bounds.original.value == pytest.approx(0.0464, abs=0.0001)


def test_published_smoothness(example):
    # .0259 .0607, .0132 .0787, .0029 .0907 for M = 0, .01, .02 in the same README.
    parts = departures(*example, "first")
    for bend, ends in ((0.0, (0.0259, 0.0607)), (0.01, (0.0132, 0.0787)), (0.02, (0.0029, 0.0907))):
        assert bent(parts, bend) == pytest.approx(ends, abs=0.001)


def test_one_post_period_gives_the_interval_of_all(example):
    # moderndid with both effects after the start, by linear programs, against the target alone.
    from moderndid.didhonest import create_sensitivity_results_rm

    parts = departures(*example, "average")
    whole = create_sensitivity_results_rm(
        parts.effects,
        parts.covariance,
        5,
        2,
        m_bar_vec=[1.0],
        l_vec=np.array([[0.5], [0.5]]),
        grid_points=300,
    )
    assert (parts.reach, list(parts.weights)) == (1.5, [0.5, 0.5])
    assert broken(parts, 1.0) == pytest.approx(
        (whole["lb"][0], whole["ub"][0]), abs=0.0025
    )  # its grid: .0013


def test_bounds_by_hand():
    # Hardly any noise. Gap 1, .5, 0 before: breaks of .5, no bend. Target (2 + 4) / 2 = 3, on average 1.5 breaks
    # away from the reference: 3 -+ M .75, zero at M = 4. The slope of -.5 gone on: -.5 and -1, so 3 + .75.
    study, events = hand([1.0, 0.5, 2.0, 4.0], [-3, -2, 0, 1])
    bounds = honest_bounds(study, events)
    assert [b.low for b in bounds.breaks] == pytest.approx([2.625, 2.25, 1.875, 1.5], abs=0.002)
    assert [b.high for b in bounds.breaks] == pytest.approx([3.375, 3.75, 4.125, 4.5], abs=0.002)
    assert (bounds.breakdown, bounds.largest_break) == (3.95, 0.5)
    assert (bounds.bends[0].low, bounds.bends[0].high) == pytest.approx((3.75, 3.75), abs=0.002)
    assert bounds.largest_bend == 0
    assert "(0.50 minutes from one week to the next)" in bounds.sentence
    first = honest_bounds(study, events, target="first")
    assert (first.breaks[1].low, first.breaks[1].high) == pytest.approx((1.5, 2.5), abs=0.002)


def test_many_leads_are_averaged_into_stretches():
    # 13 leads: stretches of two weeks. The gap falls by .1 a week, so by .2 from one stretch to the next; the base is
    # the mean of 0 and .1. Target 3 - .05, one stretch away.
    times = [*range(-14, -1), 0, 1]
    study, events = hand([0.1 * (-1 - t) for t in times[:-2]] + [2.0, 4.0], times)
    bounds = honest_bounds(study, events)
    assert (bounds.leads, bounds.stretch, bounds.span) == (6, 2, 14)
    assert (bounds.original.value, bounds.largest_break) == (pytest.approx(2.95), pytest.approx(0.2))
    assert (bounds.breaks[1].low, bounds.breaks[1].high) == pytest.approx((2.75, 3.15), abs=0.002)
    assert "from 2 weeks to the next 2)" in bounds.sentence
    assert (bounds.bends[0].low, bounds.bends[0].high) == pytest.approx((3.15, 3.15), abs=0.002)


def test_anticipation_counts_as_after_the_reference_but_not_as_effect():
    # Reference -2: the effect at -1 is free, that at 0 is two breaks away.
    study, events = hand([0.5, 1.0, 2.0, 4.0], [-3, -1, 0, 1], reference=-2)
    parts = departures(study, events, "average")
    assert (list(parts.weights), parts.reach, parts.leads) == ([0, 0.5, 0.5], 2.5, 1)
    bounds = honest_bounds(study, events)
    assert (bounds.breaks[1].low, bounds.breaks[1].high) == pytest.approx((1.75, 4.25), abs=0.003)
    assert bounds.bends == ()
    assert bounds.largest_bend is None


def test_average_is_the_leads():
    rng = np.random.default_rng(3)
    unit, period = (g.ravel() for g in np.meshgrid(np.arange(90), np.arange(8), indexing="ij"))
    start = np.choose(unit % 3, [3.0, 5.0, np.nan])
    outcome = rng.normal(size=len(unit)) + np.where(period >= start, period - start + 1, 0)
    frame = pd.DataFrame({"unit": unit, "period": period, "start": start, "outcome": outcome})
    study = make_study(frame, "staggered")
    effects = did.group_time(study)
    parts = departures(study, effects.by_event, "average")
    assert parts.to_target()[0][-1] == pytest.approx(effects.overall.value)
    bounds = honest_bounds(
        study, effects.by_event
    )  # the weights are taken as known: a slightly smaller error
    assert bounds.original.se == pytest.approx(effects.overall.se, rel=0.06)


def test_breakdown_is_searched_in_steps():
    assert breakdown(lambda times: times <= 0.6 + 1e-9) == 0.6
    assert [breakdown(lambda _: True), breakdown(lambda _: False)] == [MOST, 0]


def test_intervals_cover_when_the_trend_breaks_as_much_as_before(example):
    # One break of .08 before, the largest allowed in each period after; plug-in bounds -+ 1.64 se cover 86% there.
    parts = departures(*example, "average")
    root, rng, runs = np.linalg.cholesky(parts.covariance), np.random.default_rng(4), 150
    trend = np.array([-0.08, -0.08, 0, 0, 0, 0.08, 0.16])
    covered = 0
    for _ in range(runs):
        drawn = Departures(trend + root @ rng.normal(size=7), parts.covariance, 5, parts.weights, 0.1)
        covered += zero_fits(drawn, 1.0)
    assert covered / runs > 0.9 - MONTE_CARLO * math.sqrt(0.9 * 0.1 / runs)


def test_a_result_that_trends_explain_breaks_down_early():
    # No effect, a drift of 1 a period before and after: it looks like 1.5, and breaks of the size seen undo it.
    covariance = np.eye(4) * 0.02
    study, events = hand([-2.0, -1.0, 1.0, 2.0], [-3, -2, 0, 1], covariance)
    check = honest_trends(honest_bounds(study, events))
    assert (check.status, check.threshold, check.needed) == ("failed", 1.0, False)
    assert 0 < check.statistic < 1
    assert "would undo it" in check.sentence
    study, events = hand([-0.1, 0.1, 3.0, 3.0], [-3, -2, 0, 1], covariance)
    check = honest_trends(honest_bounds(study, events))
    assert check.status == "passed"
    assert check.sentence.startswith("The result holds unless the trend broke by more than")
    assert "3 weeks before training" in check.power


def test_no_bounds_have_a_reason():
    def reason(*numbers, **more):
        bounds = honest_bounds(*hand(*numbers, **more))
        check = honest_trends(bounds)
        assert (check.status, check.sentence, bounds.bounds) == ("not_run", bounds.sentence, ())
        assert picture(bounds) is None
        return check.sentence

    assert "no earlier break can be seen" in reason([1.0, 2.0], [0, 1])
    assert "no earlier break can be seen" in reason(
        [0.0, 1.0, 2.0], [-4, 0, 1]
    )  # a hole next to the reference
    assert "No effect could be estimated" in reason([0.0], [-2])
    assert "There are 3 clusters for 3 effects" in reason([0.0, 0.0, 1.0], [-3, -2, 0], df=2.0)
    study, events = hand([0.0, 1.0], [-2, 0])
    alone = study.frame[study.frame["arm"] == 1]
    alone = make_study(alone[["unit", "period", "start", "outcome"]], "before_after")
    assert "no comparison" in honest_bounds(alone, events).reason


def test_unclear_results_cannot_be_undone():
    study, events = hand([0.1, -0.1, 0.2, -0.2], [-3, -2, 0, 1], np.eye(4))
    bounds = honest_bounds(study, events)
    assert (bounds.breakdown, len(bounds.breaks)) == (None, 4)
    check = honest_trends(bounds)
    assert check.status == "not_run"
    assert "unclear even if trends were parallel" in check.sentence


def test_bounds_print_and_can_be_seen(example):
    bounds = honest_bounds(*example)
    assert isinstance(bounds, HonestBounds)
    assert list(bounds.table().columns) == ["assumed of the trend", "low", "high"]
    assert bounds.claim in str(bounds)
    assert "a break 0.5 × the largest before" in bounds._repr_html_()
    figure = picture(bounds)
    assert figure.title == bounds.claim
    assert "a bend 1 × the largest before: +0.002 to +0.114" in figure.alt
    with pytest.raises(LdlabError, match="'average' or 'first'"):
        honest_bounds(*example, target="last")
