"""Peeking: boundaries against published tables, always-valid intervals, paths, the record of looks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ldlab.ab.boundaries import (
    after_stopping,
    apart,
    boundaries,
    chance_of_crossing,
    error_spent,
    false_alarms,
)
from ldlab.ab.means import difference_in_means
from ldlab.ab.paths import Path, adjusted_for_stopping, path
from ldlab.ab.ratio import least_squares
from ldlab.ab.sequential import (
    agreed,
    agreed_estimates,
    always_valid_bound,
    always_valid_p,
    enough_units,
    looks_taken,
    present_bound,
)
from ldlab.checks.peeking import planned_looks
from ldlab.plots.path import path as draw
from ldlab.program import LdlabError, Study
from tests.studies import make_study
from tests.worlds_sequential import DAYS, WORLDS, World, one_run, quick, simulate, statistics, template

FIVE = [0.2, 0.4, 0.6, 0.8, 1.0]
MONDAY = pd.Timestamp("2026-01-05")


def make(
    frame: pd.DataFrame, looks: dict[str, Any] | None = None, *, dated: bool = True, **rest: Any
) -> Study:
    columns = {"measured_on": "measured_on"} if dated else {}
    design = {"kind": "randomised", "columns": columns}
    rest.setdefault("covariates", ())
    sections = {} if looks is None else {"looks": looks}
    return make_study(frame, design, level=0.9, **sections, **rest)


def experiment(units: int = 600, effect: float = 0.0, days: int = 60, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    arm = rng.permutation(np.arange(units) % 2)
    x = rng.normal(size=units)
    day = MONDAY + pd.to_timedelta(np.arange(units) * days // units, unit="D")
    return pd.DataFrame(
        {"arm": arm, "x": x, "outcome": 20 + effect * arm + x + rng.normal(size=units), "measured_on": day}
    )


def found_path(study: Study, earlier: tuple[int, ...] = ()) -> Path:
    found = path(study, difference_in_means(study), earlier)
    assert found is not None
    return found


# Boundaries


@pytest.mark.parametrize(
    ("looks", "rate"),
    [(1, 0.05), (2, 0.083), (3, 0.107), (4, 0.126), (5, 0.142), (10, 0.193), (20, 0.248), (50, 0.320)],
)
def test_repeated_tests_raise_false_alarms_as_published(looks: int, rate: float) -> None:
    """Armitage, McPherson & Rowe (1969), table 2, also Jennison & Turnbull (1999), table 2.1: nominal 5%."""
    assert false_alarms([k / looks for k in range(1, looks + 1)], 0.95) == pytest.approx(rate, abs=6e-4)


@pytest.mark.parametrize(
    ("spending", "published"),
    [
        ("obrien_fleming", (4.877, 3.357, 2.680, 2.290, 2.031)),
        ("pocock", (2.438, 2.427, 2.410, 2.397, 2.386)),
    ],
)
def test_spending_boundaries_as_published(spending: Any, published: tuple[float, ...]) -> None:
    """Five equal looks, two-sided 5%: sfLDOF and sfLDPocock of R's gsDesign; Lan & DeMets (1983)."""
    assert boundaries(FIVE, 0.95, spending) == pytest.approx(published, abs=6e-4)


def test_classic_constants_of_pocock_and_obrien_fleming() -> None:
    """Jennison & Turnbull (1999), tables 2.1 and 2.3: K = 5, alpha .05: C_P = 2.413, C_B = 2.040."""
    assert chance_of_crossing(FIVE, [2.413] * 5).sum() == pytest.approx(0.05, abs=1e-4)
    classic = [2.040 * math.sqrt(5 / k) for k in range(1, 6)]
    assert chance_of_crossing(FIVE, classic).sum() == pytest.approx(0.05, abs=1e-4)


def test_power_at_the_published_drift() -> None:
    """Jennison & Turnbull (1999), table 2.4: O'Brien-Fleming, K = 5, alpha .05, power .9 needs 1.026 of the fixed
    size, whose drift is z(.975) + z(.9) = 3.2415."""
    drift = (stats.norm.ppf(0.975) + stats.norm.ppf(0.9)) * math.sqrt(1.026)
    upper, lower = chance_of_crossing(FIVE, [2.040 * math.sqrt(5 / k) for k in range(1, 6)], drift).sum(
        axis=0
    )
    assert upper == pytest.approx(0.9, abs=5e-4)
    assert lower < 1e-5


def test_two_looks_by_hand() -> None:
    """With bounds b at half and the whole, P(cross) = 1 - P(|Z1| < b, |Z2| < b), of normals correlated sqrt(1/2)."""
    b, rho = 1.8, math.sqrt(0.5)
    law = stats.multivariate_normal(cov=[[1, rho], [rho, 1]])
    inside = law.cdf([b, b]) - law.cdf([-b, b]) - law.cdf([b, -b]) + law.cdf([-b, -b])
    assert chance_of_crossing([0.5, 1.0], [b, b]).sum() == pytest.approx(1 - inside, abs=1e-5)


@pytest.mark.parametrize("spending", ["obrien_fleming", "pocock"])
@pytest.mark.parametrize(
    "fractions", [[0.13, 0.5, 0.52, 1.0], [0.5], [0.3, 0.9, 1.2], [k / 50 for k in range(1, 51)]]
)
def test_boundaries_spend_what_they_may_at_the_actual_fractions(
    spending: Any, fractions: list[float]
) -> None:
    bounds = boundaries(fractions, 0.9, spending)
    spent = chance_of_crossing(fractions, bounds).sum(axis=1).cumsum()
    # a look at which under 1e-15 may be spent has no boundary
    allowed = [error_spent(fraction, 0.9, spending) for fraction in fractions]
    assert spent == pytest.approx(np.array(allowed), abs=1e-8)
    assert spent[-1] <= 0.1 + 1e-8


def test_what_is_left_is_spent_at_an_end_short_of_the_plan() -> None:
    whole = boundaries([0.5, 0.8], 0.9, "obrien_fleming", final=True)
    assert chance_of_crossing([0.5, 0.8], whole).sum() == pytest.approx(0.1, abs=1e-8)
    assert whole[-1] < boundaries([0.5, 0.8], 0.9, "obrien_fleming")[-1]


@pytest.mark.parametrize("fractions", [[], [0.0, 0.5], [0.5, 0.4], [0.5, 0.5001]])
def test_looks_that_do_not_rise_are_refused(fractions: list[float]) -> None:
    with pytest.raises(LdlabError, match="expected rising ones"):
        boundaries(fractions, 0.9, "pocock")


def test_looks_at_once_count_as_one() -> None:
    assert apart([1.0, 0.5, 0.4995, 0.2]) == [0.2, 0.5, 1.0]


def test_after_one_look_the_adjusted_interval_is_the_plain_one() -> None:
    low, middle, high = after_stopping([1.0], [1.645], 2.5, 0.9)
    half = stats.norm.isf(0.05)
    assert (low, middle, high) == pytest.approx((2.5 - half, 2.5, 2.5 + half), abs=1e-5)


def test_after_an_early_stop_the_adjusted_estimate_is_drawn_towards_zero() -> None:
    bounds = boundaries(FIVE, 0.9, "pocock")
    low, middle, high = after_stopping(FIVE[:2], bounds[:2], 2.6, 0.9)
    plain = 2.6 / math.sqrt(0.4)
    assert 0 < low < middle < plain < high
    mirrored = after_stopping(FIVE[:2], bounds[:2], -2.6, 0.9)
    assert mirrored == pytest.approx((-high, -middle, -low), abs=1e-6)


# Always-valid


def test_the_sequence_by_hand() -> None:
    """alpha = .05 at the planned size: c solves c = log(1 + c) - 2 log(alpha), the condition for the shortest
    (1 + 1/c) log((1 + c) / alpha^2); c = 8.212, so sqrt(1.12177 * (log(9.212) + 5.99146)) = sqrt(9.2120) = 3.0351."""
    assert always_valid_bound(1, 0.95) == pytest.approx(3.0351, abs=1e-4)
    nearby = [always_valid_bound(f, 0.95) / math.sqrt(1) for f in (0.9, 1, 1.1)]
    assert min(nearby) == nearby[1]


def test_the_sequence_is_that_of_the_paper() -> None:
    """Waudby-Smith et al. (2024), theorem 2.2, written out in n and rho, for n = 300 tuned for 1,000."""
    alpha, n = 0.1, 300
    c = 6.638352067993813  # -W_{-1}(-alpha^2 / e) - 1
    assert math.isclose(c, math.log1p(c) - 2 * math.log(alpha), rel_tol=1e-12)
    rho2 = c / 1000
    half = math.sqrt(2 * (n * rho2 + 1) / (n**2 * rho2) * math.log(math.sqrt(n * rho2 + 1) / alpha))
    assert always_valid_bound(0.3, 0.9) / math.sqrt(n) == pytest.approx(half, rel=1e-12)


@pytest.mark.parametrize("fraction", [0.1, 1.0, 3.0])
def test_the_p_value_is_the_interval_turned_round(fraction: float) -> None:
    bound = always_valid_bound(fraction, 0.9)
    assert always_valid_p(bound, fraction, 0.9) == pytest.approx(0.1)
    assert always_valid_p(bound + 0.01, fraction, 0.9) < 0.1 < always_valid_p(bound - 0.01, fraction, 0.9)
    assert always_valid_p(0.0, fraction, 0.9) == 1


def test_the_agreed_interval_widens_and_the_chances_fit_it() -> None:
    study = make(experiment(1000, 0.25), {"method": "always_valid", "planned_units": 1000})
    plain = difference_in_means(study)
    ours = agreed(study, plain)
    assert (ours.value, ours.se, ours.n) == (plain.value, plain.se, plain.n)
    reach = stats.t.isf(stats.norm.sf(always_valid_bound(1, 0.9)), 998) * plain.se
    assert (ours.low, ours.high) == pytest.approx((plain.value - reach, plain.value + reach))
    assert ours.method == "difference in means, always-valid interval"
    assert (ours.p_gain >= 0.95) == (ours.low > 0)
    assert plain.p_gain >= 0.95 > ours.p_gain and ours.p_negligible < 1
    assert agreed_estimates(study, [plain, plain]) == (ours, ours)
    assert agreed(make(experiment(1000, 0.25)), plain) is plain
    assert agreed(make(experiment(1000, 0.25), {"method": "fixed"}), plain) is plain


def test_too_few_units_have_no_interval() -> None:
    study = make(experiment(80), {"method": "always_valid"})
    ours = agreed(study, difference_in_means(study))
    assert not ours.has_interval and math.isnan(ours.p_gain) and math.isfinite(ours.value)
    check = planned_looks(study)
    assert check is not None and check.status == "failed" and check.breaks
    assert "fewer than 50 agents" in check.sentence


def test_rare_events_wait_for_five_in_each_arm() -> None:
    """The interval's normal approximation fails first where an arm has next to no events."""
    frame = experiment(400)
    frame["outcome"] = 0.0
    frame.loc[frame.index[frame["arm"] == 0][:30], "outcome"] = 100.0
    frame.loc[frame.index[frame["arm"] == 1][:4], "outcome"] = 100.0
    amount = {"value": 1.0, "unit": "percentage points"}
    kpi = {
        "value_type": "binary",
        "unit": "percentage points",
        "target": amount,
        "smallest_effect_worth_having": amount,
    }
    study = make(frame, {"method": "always_valid"}, kpi=kpi)
    assert not enough_units(study)
    check = planned_looks(study)
    assert check is not None and "fewer than 5 agents" in check.sentence
    frame.loc[frame.index[frame["arm"] == 1][:5], "outcome"] = 100.0
    study = make(frame, {"method": "always_valid"}, kpi=kpi)
    assert enough_units(study) and (planned_looks(study) or check).status == "passed"


def test_posteriors_are_refused() -> None:
    study = make(experiment(), {"method": "always_valid"})
    with pytest.raises(LdlabError, match="posterior draws"):
        agreed(study, difference_in_means(study).with_draws([0.1, 0.2]))


# False alarms; 2,000 runs of each world are in worlds_sequential.py, this many are what a test has time for


@pytest.mark.parametrize("name", ["normal", "5% events", "2% events, 20% treated", "log-normal, 20% treated"])
def test_daily_looks_keep_the_error_rate(name: str) -> None:
    """500 experiments with no effect read on 60 days: at most the nominal 10%, where naive intervals alarm far more
    that. Over 13.2% (66 of 500) has a chance of 1% at a true 10%."""
    shares = quick(WORLDS[name], 500, seed=7)
    assert shares["crossed"] <= 0.132
    assert shares["naive"] > 0.15


@pytest.mark.parametrize(
    ("name", "looks"), [("normal", DAYS), ("5% events", DAYS), ("five looks, Pocock", 5)]
)
def test_the_quick_simulation_is_the_path(name: str, looks: int) -> None:
    world = WORLDS[name]
    study = template(world)
    table = one_run(study, world).table
    values, errors, bounds = statistics(
        study.frame["outcome"].to_numpy(), study.frame["arm"].to_numpy(), world
    )
    shown = table["units"].to_numpy(dtype=int) // (world.units // looks) - 1
    assert len(shown) > 0.9 * looks
    assert table["value"].to_numpy() == pytest.approx(values[shown])
    assert table["se"].to_numpy() == pytest.approx(errors[shown])
    low = np.where(np.isinf(bounds), -np.inf, values - bounds * errors)[shown]
    assert table["low"].to_numpy() == pytest.approx(low)


def test_planned_looks_keep_the_error_rate_in_small_samples() -> None:
    """300 units, Pocock, first look at 60: the bound is read as t. 1,000 runs; outside 7.6% to 12.6% has a chance of
    about 1% at a true 10%."""
    assert 0.076 <= quick(WORLDS["five looks, Pocock, 300 units"], 1000, seed=7)["crossed"] <= 0.126


def test_after_stopping_half_the_estimates_are_too_high() -> None:
    """Pocock with an effect; 60 runs: the adjusted interval misses the truth in at most 12, and 17 to 43 estimates are
    over it (each has a chance of under 1% outside)."""
    shares = simulate(WORLDS["five looks, Pocock, effect 0.1"], 60, seed=7)
    assert shares["adjusted"] <= 12 / 60
    assert 17 / 60 <= shares["above"] <= 43 / 60


def test_the_sequence_finds_effects() -> None:
    world = World(WORLDS["normal"].make, effect=0.3, units=1200, planned=1200)
    shares = quick(world, 200, seed=7)
    assert shares["crossed"] > 0.95 and shares["missed"] <= 0.14


# Paths


def test_the_path_is_the_estimator_on_the_data_of_each_day() -> None:
    frame = experiment(600, 0.3)
    study = make(frame, {"method": "always_valid", "planned_units": 600})
    table = found_path(study).table
    row = table.iloc[len(table) // 2]
    known = frame[frame["measured_on"].dt.date <= row["day"]]
    then = difference_in_means(make(known))
    bound = stats.t.isf(stats.norm.sf(always_valid_bound(len(known) / 600, 0.9)), len(known) - 2)
    assert row["units"] == len(known)
    assert (row["value"], row["se"]) == pytest.approx((then.value, then.se))
    assert (row["naive_low"], row["naive_high"]) == pytest.approx((then.low, then.high))
    assert row["low"] == pytest.approx(then.value - bound * then.se)


@pytest.mark.parametrize("kind", ["difference", "adjusted", "clusters", "strata", "rate"])
def test_every_estimator_has_its_path(kind: str) -> None:
    """Each point, recomputed from sums, is the estimator's on the rows known by then: values alike, errors nearly."""
    frame, rest = experiment(800, 0.3), {}
    rng = np.random.default_rng(2)
    if kind == "adjusted":
        rest = {"covariates": ("x",), "agreement": {"estimator": "adjusted"}}
        frame["outcome"] += (
            2 * frame["x"] * rng.normal(size=len(frame))
        )  # errors that grow with the covariate
    elif kind == "clusters":
        frame["cluster"] = rng.integers(0, 60, len(frame)).astype(str)
    elif kind == "strata":  # a third and two thirds trained, and the strata differ
        high = rng.integers(0, 2, len(frame))
        frame["stratum"] = np.where(high, "high", "low")
        frame["arm"] = (rng.random(len(frame)) < (1 + high) / 3).astype(int)
        frame["outcome"] += 3 * high
    elif kind == "rate":
        frame["exposure"] = rng.gamma(3, 10, len(frame)) + 1
        frame["count"] = rng.poisson(0.2 * frame["exposure"]).astype(float)
        frame["outcome"] = frame["count"] / frame["exposure"]
        rest = {"kpi": {"value_type": "rate", "exposure_column": "exposure"}}
    study = make(frame, {"method": "always_valid", "planned_units": 800}, **rest)
    lead = least_squares(study)[0]
    found = path(study, lead)
    assert found is not None
    row = found.table.iloc[-10]
    then = least_squares(make(frame[frame["measured_on"].dt.date <= row["day"]], **rest))[0]
    assert row["value"] == pytest.approx(then.value, rel=1e-6)
    assert row["se"] == pytest.approx(then.se, rel=0.03)
    assert found.table["value"].iloc[-1] == lead.value


def test_a_look_shows_no_small_group() -> None:
    """Between two looks shown, each arm gains at least the minimum group, or a difference would tell of single people."""
    frame = experiment(300, days=150)  # two a day
    table = found_path(make(frame, {"method": "always_valid"}, minimum=10)).table
    gained = table[["treated", "comparison"]].diff().iloc[1:]
    assert gained.to_numpy().min() >= 10
    assert table[["treated", "comparison"]].iloc[0].min() >= 10


def test_long_experiments_are_shown_by_week() -> None:
    table = found_path(make(experiment(4000, days=400), {"method": "always_valid"})).table
    assert 50 < len(table) <= 120
    assert pd.Timestamp(table["day"].iloc[5]).day_name() == "Sunday"


def test_without_dates_only_the_last_point() -> None:
    study = make(experiment(600, 0.3).drop(columns="measured_on"), {"method": "always_valid"}, dated=False)
    found = found_path(study)
    assert len(found.table) == 1 and found.table["day"].isna().all()
    figure = draw(found)
    assert figure is not None and figure.png()


def test_units_without_a_date_are_known_at_the_end_only() -> None:
    frame = experiment(600, 0.3)
    frame.loc[:19, "measured_on"] = pd.NaT
    found = found_path(make(frame, {"method": "always_valid"}))
    assert found.undated == 20
    assert found.table["units"].iloc[-1] == 600
    by_day = frame["measured_on"].dt.date
    row = found.table.iloc[-3]
    assert row["units"] == (by_day <= row["day"]).sum()


def test_a_fixed_test_has_no_path() -> None:
    study = make(experiment())
    assert path(study, difference_in_means(study)) is None
    assert draw(None) is None


def test_a_crossing_that_came_back_is_said() -> None:
    frame = experiment(1200, 0.0, seed=3)
    first = frame.index < 500
    frame.loc[first & (frame["arm"] == 1), "outcome"] += 1.0
    frame.loc[~first & (frame["arm"] == 1), "outcome"] -= 0.7
    found = found_path(make(frame, {"method": "always_valid", "planned_units": 1200}))
    assert found.came_back
    assert found.claim.endswith("and came back since")
    assert "includes no effect again" in found.sentence
    figure = draw(found)
    assert figure is not None and figure.title == f"{found.claim}."


def test_the_wrong_way_is_said() -> None:
    found = found_path(make(experiment(1200, -0.6), {"method": "always_valid", "planned_units": 1200}))
    assert "the wrong way" in found.claim
    fewer = make(experiment(1200, -0.6), {"method": "always_valid"}, kpi={"direction": "decrease"})
    assert "the wrong way" not in found_path(fewer).claim


PLAN = {"method": "group_sequential", "at": [200, 400, 600]}


@pytest.mark.parametrize(
    ("units", "earlier", "taken"),
    [
        (150, (), ()),  # before the first look
        (200, (), (200,)),
        (460, (), (200, 460)),  # the second look, late
        (460, (230,), (230, 460)),  # the first is on record as taken late
        (460, (90, 410), (90, 200, 410, 460)),  # two that were not planned
        (640, (), (200, 400, 640)),  # the last, with more than planned
    ],
)
def test_which_looks_were_taken(units: int, earlier: tuple[int, ...], taken: tuple[int, ...]) -> None:
    assert looks_taken(make(experiment(units), PLAN), earlier) == taken


def test_the_bound_is_that_of_the_looks_taken() -> None:
    study = make(experiment(460), PLAN)
    assert present_bound(study) == boundaries([200 / 600, 460 / 600], 0.9, "obrien_fleming")[-1]
    assert present_bound(study, (410,)) > present_bound(study)
    assert present_bound(make(experiment(150), PLAN)) == math.inf
    end = make(experiment(640), PLAN)
    assert present_bound(end) == boundaries([1 / 3, 2 / 3, 640 / 600], 0.9, "obrien_fleming", final=True)[-1]


def test_looks_by_date() -> None:
    days = [(MONDAY + pd.Timedelta(days=d)).date().isoformat() for d in (19, 59)]
    looks = {"method": "group_sequential", "at": days, "planned_units": 600, "spending": "pocock"}
    study = make(experiment(600, 0.4), looks)
    assert looks_taken(study) == (200, 600)
    found = found_path(study)
    assert found.table["units"].tolist() == [200, 600] and found.finished
    short = make(experiment(480, 0.4), looks)  # all days, a fifth fewer units: what is left is spent
    assert present_bound(short) == boundaries([160 / 600, 0.8], 0.9, "pocock", final=True)[-1]
    check = planned_looks(short)
    assert check is not None and (check.status, check.breaks) == ("failed", False) and "80%" in check.sentence


def test_the_estimate_after_stopping_is_that_of_the_stop() -> None:
    study = make(experiment(600, 0.5, seed=0), PLAN)
    found = found_path(study)
    first = found.first_crossing
    assert first is not None and first["units"] < 600
    after = adjusted_for_stopping(study, found)
    assert after is not None and after.n["observations"] == first["units"]
    assert after.low > 0 and abs(after.value) < abs(first["value"])
    going_on = make(experiment(400, 0.0), PLAN)
    assert adjusted_for_stopping(going_on, found_path(going_on)) is None
    assert "so far" in found_path(going_on).claim


def test_before_the_first_look_nothing_is_said() -> None:
    study = make(experiment(150, 2.0), PLAN)
    assert not agreed(study, difference_in_means(study)).has_interval
    found = found_path(study)
    assert found.first_crossing is None and "too few data yet" in found.claim
    check = planned_looks(study)
    assert check is not None and check.breaks and "200 agents" in check.sentence
