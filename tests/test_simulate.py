"""The worlds hold the effect they say they hold: seen without any estimator where that is possible."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from linearmodels import PanelOLS
from pandas.testing import assert_frame_equal

from ldlab.simulate import academy, observational, panel, randomised

WAVES = {"cohorts": [4, 6, None], "cluster_size": 5}
MESSY = {"effect_sd": 0.3, "missing": 0.1, "autocorrelation": 0.4}
MAKERS = {
    "randomised": lambda seed: randomised(200, 1.0, effect_sd=0.5, segments={"A": 0, "B": 1}, seed=seed),
    "observational": lambda seed: observational(200, 1.0, confounding=1.0, effect_slope=0.5, seed=seed),
    "panel": lambda seed: panel(60, 8, 1.0, **WAVES, **MESSY, seed=seed),
}


@pytest.fixture(scope="module")
def company():
    return academy()


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_the_seed_alone_decides_the_world(make):
    first, again, other = make(1), make(1), make(2)
    assert_frame_equal(first.frame, again.frame)
    assert_frame_equal(first.effects, again.effects)
    assert first.truth == again.truth
    assert not first.frame["outcome"].equals(other.frame["outcome"])
    assert_frame_equal(first.frame, make(np.random.default_rng(1)).frame)


def test_academy_is_decided_by_its_seed(company):
    again, other = academy(), academy(seed=7)
    for table in ("kpi", "learning", "costs", "effects"):
        assert_frame_equal(getattr(company, table), getattr(again, table))
    assert company.truth == again.truth
    assert company.truth["ATT"] != other.truth["ATT"]


@pytest.mark.parametrize(("kind", "effect"), [("continuous", 1.5), ("binary", 0.08), ("count", 0.7)])
def test_randomised_truth_is_the_mean_difference_of_expected_outcomes(kind, effect):
    world = randomised(20_000, effect, kind=kind, effect_sd=effect / 4, seed=3)
    effects, treated = world.effects, world.frame["treated"] == 1
    assert world.truth["ATE"] == pytest.approx(effects["trained"].mean() - effects["untrained"].mean())
    assert world.truth["ATT"] == pytest.approx(effects.loc[treated, "effect"].mean())
    assert world.truth["ATE"] == pytest.approx(effect, rel=0.02)
    assert effects["effect"].std() == pytest.approx(effect / 4, rel=0.05)


@pytest.mark.parametrize(("kind", "effect"), [("continuous", 1.5), ("binary", 0.08), ("count", 0.7)])
def test_randomised_outcomes_show_the_effect(kind, effect):
    world = randomised(20_000, effect, kind=kind, seed=4)
    fit = smf.ols("outcome ~ treated", world.frame).fit(cov_type="HC2")
    assert abs(fit.params["treated"] - world.truth["ATE"]) < 3 * fit.bse["treated"]
    assert fit.tvalues["treated"] > 5


def test_randomised_outcomes_keep_their_range():
    binary = randomised(2_000, 0.7, kind="binary", seed=5)
    assert set(binary.frame["outcome"]) == {0, 1}
    assert binary.effects["trained"].max() == 1
    assert binary.truth["ATE"] < 0.7
    count = randomised(2_000, -3.0, kind="count", seed=5)
    assert count.frame["outcome"].min() == 0
    assert count.effects["trained"].min() == 0


def test_segments_have_their_own_effect():
    world = randomised(500, 1.0, segments={"north": 0.0, "south": 2.0}, covariates=3, seed=6)
    by_segment = world.effects["effect"].groupby(world.frame["segment"]).mean()
    assert by_segment.to_dict() == pytest.approx({"north": 1.0, "south": 3.0})
    assert list(world.frame) == ["person", "treated", "outcome", "x1", "x2", "x3", "segment"]


def test_the_share_is_the_chance_of_being_trained():
    share = randomised(20_000, 0.0, share=0.3, seed=7).frame["treated"].mean()
    assert share == pytest.approx(0.3, abs=3 * (0.3 * 0.7 / 20_000) ** 0.5)


def test_observational_confounding_misleads_and_adjustment_recovers():
    world = observational(20_000, 1.0, confounding=1.0, seed=8)
    raw = smf.ols("outcome ~ treated", world.frame).fit()
    adjusted = smf.ols("outcome ~ treated + x1 + x2", world.frame).fit(cov_type="HC2")
    assert raw.params["treated"] - world.truth["ATT"] > 1
    assert abs(adjusted.params["treated"] - world.truth["ATT"]) < 3 * adjusted.bse["treated"]
    coin = smf.ols("outcome ~ treated", observational(20_000, 1.0, confounding=0.0, seed=8).frame).fit()
    assert abs(coin.params["treated"] - 1) < 3 * coin.bse["treated"]


def test_observational_gain_of_the_trained_differs_when_effects_follow_x1():
    world = observational(20_000, 1.0, confounding=1.0, effect_slope=0.5, seed=9)
    treated = world.frame["treated"] == 1
    assert world.truth["ATT"] == pytest.approx(1 + 0.5 * world.frame.loc[treated, "x1"].mean())
    assert world.truth["ATE"] == pytest.approx(1 + 0.5 * world.frame["x1"].mean())
    assert world.truth["ATT"] - world.truth["ATE"] > 0.1


def test_panel_truth_is_the_mean_effect_of_treated_cells():
    world = panel(60, 8, 2.0, **WAVES, growth=0.5, effect_sd=0.4, seed=10)
    cells = world.effects.assign(start=world.frame["start"])
    treated = cells[cells["period"] >= cells["start"]]
    assert (treated["treated"] == 1).all() and len(treated) == cells["treated"].sum()
    assert world.truth["ATT"] == pytest.approx(treated["effect"].mean())
    for time, cells_then in treated.groupby(treated["period"] - treated["start"]):
        assert world.truth["by_event_time"][time] == pytest.approx(cells_then["effect"].mean())
    assert (cells.drop(treated.index)["effect"] == 0).all()


def test_panel_effect_moves_treated_cells_by_itself_and_nothing_else():
    none, some = panel(60, 8, 0.0, **WAVES, seed=11), panel(60, 8, 2.0, **WAVES, growth=0.5, seed=11)
    moved = some.frame["outcome"] - none.frame["outcome"]
    np.testing.assert_allclose(moved, some.effects["effect"], atol=1e-9)
    assert moved[some.frame["treated"] == 1].mean() == pytest.approx(some.truth["ATT"])
    assert none.truth["ATT"] == 0


def test_panel_trend_gap_moves_the_ever_trained_and_nobody_else():
    flat, gap = panel(60, 8, 1.0, **WAVES, seed=12), panel(60, 8, 1.0, **WAVES, trend_gap=0.3, seed=12)
    expected = 0.3 * (flat.frame["period"] - 1) * flat.frame["start"].notna()
    np.testing.assert_allclose(gap.frame["outcome"] - flat.frame["outcome"], expected, atol=1e-9)
    assert gap.truth == flat.truth


def test_panel_clusters_start_together_and_stay():
    frame = panel(60, 8, 1.0, **WAVES, seed=13).frame
    assert list(frame) == ["unit", "cluster", "period", "start", "treated", "outcome"]
    assert not frame.duplicated(["unit", "period"]).any()
    assert (frame.groupby("cluster")["start"].nunique(dropna=False) == 1).all()
    assert (frame.drop_duplicates("cluster")["start"].value_counts(dropna=False) == 4).all()
    assert (frame.groupby("unit")["treated"].diff().fillna(0) >= 0).all()


def test_panel_noise_is_stationary_and_as_autocorrelated_as_asked():
    quiet = {"unit_sd": 0, "period_sd": 0, "cluster_sd": 0}
    world = panel(2_000, 10, 0.0, cohorts=[None], autocorrelation=0.6, noise_sd=2.0, **quiet, seed=14)
    wide = world.frame.pivot(index="unit", columns="period", values="outcome")
    assert wide[9].corr(wide[10]) == pytest.approx(0.6, abs=0.05)
    assert wide[1].std() == pytest.approx(2, rel=0.06)
    assert wide[10].std() == pytest.approx(2, rel=0.06)


def test_panel_loses_outcomes_at_random():
    frame = panel(500, 10, 1.0, cohorts=[5, None], missing=0.1, seed=15).frame
    assert len(frame) == 5_000
    assert frame["outcome"].isna().mean() == pytest.approx(0.1, abs=0.015)


def test_arguments_that_make_no_world_are_refused_with_their_value():
    with pytest.raises(ValueError, match=r"got 1\.2"):
        randomised(10, 1.0, share=1.2, seed=1)
    with pytest.raises(ValueError, match="ordinal"):
        randomised(10, 1.0, kind="ordinal", seed=1)
    with pytest.raises(ValueError, match=r"\[9\]"):
        panel(10, 8, 1.0, cohorts=[9], seed=1)
    with pytest.raises(ValueError, match="got 1"):
        panel(10, 8, 1.0, cohorts=[4], autocorrelation=1, seed=1)


def test_academy_has_the_promised_shape(company):
    kpi = company.kpi
    assert kpi["team"].nunique() == 24
    assert kpi["agent"].nunique() == pytest.approx(240, abs=15)
    assert kpi.groupby("team")["agent"].nunique().between(8, 12).all()
    smallest, *others = kpi.groupby("site")["agent"].nunique().sort_values()
    assert smallest == 8 and min(others) > 30
    assert (kpi.groupby("team")["site"].nunique() == 1).all()
    assert not kpi.duplicated(["agent", "week"]).any()
    assert (kpi["week"].dt.day_of_week == 0).all()
    assert (kpi["week"].min(), kpi["week"].max()) == (pd.Timestamp("2025-01-06"), pd.Timestamp("2025-09-29"))
    assert (kpi.drop_duplicates("team")["start"].value_counts(dropna=False) == 6).all()
    assert (kpi["treated"] == (kpi["week"] >= kpi["start"])).all()
    assert kpi["agent"].str.fullmatch(r"AG-\d{4}").all()


def test_academy_is_unbalanced_but_loses_only_leave(company):
    kpi = company.kpi
    weeks = kpi.groupby("agent")["week"].agg(["size", "min", "max"])
    assert 0.02 < (weeks["size"] < 39).mean() < 0.15
    assert (weeks["size"] == (weeks["max"] - weeks["min"]).dt.days // 7 + 1).all()
    assert weeks["min"].max() < kpi["start"].min()
    assert kpi["resolution_minutes"].isna().mean() == pytest.approx(0.005, abs=0.0025)
    assert (kpi.loc[kpi["resolution_minutes"].isna(), "tickets"] == 0).all()
    assert kpi["satisfaction"].dropna().between(1, 5).all()


def test_academy_truth_is_the_mean_effect_of_treated_weeks(company):
    effects, truth = company.effects, company.truth
    treated = effects[company.kpi["week"] >= company.kpi["start"]]
    assert truth["ATT"] == pytest.approx(treated["effect"].mean())
    assert truth["ATT"] == pytest.approx(-3.2, abs=0.15)
    by_week = treated.groupby("event_time")["effect"].mean()
    assert truth["by_event_time"] == pytest.approx(by_week.to_dict())
    assert by_week.loc[[0, 1, 2, 3]].is_monotonic_decreasing
    assert (effects.drop(treated.index)["effect"].dropna() == 0).all()
    assert effects["effect"].isna().equals(company.kpi["resolution_minutes"].isna())


def test_academy_teams_were_not_nominated_after_a_bad_month(company):
    kpi = company.kpi.dropna(subset=["resolution_minutes"])
    rows = kpi[(kpi["week"] < kpi["start"]) | kpi["start"].isna()]
    last_month = rows["week"] >= rows["start"] - pd.Timedelta(weeks=4)
    rows = rows.assign(last_month=last_month.astype(int))
    clusters = {"groups": pd.factorize(rows["team"])[0]}
    model = smf.ols("resolution_minutes ~ last_month + C(team) + C(week)", rows)
    fit = model.fit(cov_type="cluster", cov_kwds=clusters)
    assert abs(fit.params["last_month"]) < 3 * fit.bse["last_month"]


def test_a_plain_difference_in_differences_finds_the_academy_effect(company):
    rows = company.kpi.dropna(subset=["resolution_minutes"]).set_index(["agent", "week"])
    model = PanelOLS(rows["resolution_minutes"], rows[["treated"]], entity_effects=True, time_effects=True)
    team = pd.Series(pd.factorize(rows["team"])[0], index=rows.index)
    fit = model.fit(cov_type="clustered", clusters=team)
    error = fit.std_errors["treated"]
    assert abs(fit.params["treated"] - company.truth["ATT"]) < 3 * error
    assert fit.params["treated"] < -3 * error


def test_academy_learning_records_hold_together(company):
    learning, kpi = company.learning, company.kpi
    teams = kpi.drop_duplicates("agent").set_index("agent")["start"]
    start = learning["agent"].map(teams)
    assert learning["agent"].is_unique and start.notna().all()
    assert (learning["enrolled"] < start).all()
    came, finished = learning["started"].notna(), learning["completed"].notna()
    assert (learning.loc[came, "started"] >= start[came]).all()
    assert (learning.loc[finished, "completed"] > learning.loc[finished, "started"]).all()
    assert 0 < (~came).sum() < (~finished).sum() < len(learning) / 2
    assert (learning.loc[~came, "hours"] == 0).all() and (learning.loc[finished, "hours"] == 8).all()
    assert learning["pre_score"].between(0, 100).all()
    assert learning["post_score"].notna().equals(finished)
    assert (learning["post_score"].max(), (learning["post_score"] == 100).sum() > 1) == (100, True)
    assert set(learning["uses_weekly"].dropna()) == {"yes", "no"}
    assert 0.2 < learning.loc[came, "uses_weekly"].isna().mean() < 0.5


def test_academy_effect_follows_what_the_agent_did(company):
    done = company.learning.set_index("agent")
    full = company.effects[company.effects["event_time"] >= 3].groupby("agent")["effect"].mean()
    no_shows = done.index[done["started"].isna()].intersection(full.index)
    finished = done.index[done["completed"].notna()]
    assert (full[no_shows] == 0).all() and len(no_shows) > 0
    assert full[finished].mean() < -3.5
    assert full[finished].std() > 0.8


def test_academy_costs_say_what_they_multiply(company):
    assert list(company.costs) == ["item", "amount", "kind", "currency"]
    assert set(company.costs["kind"]) == {"fixed", "per participant"}
    assert (company.costs["amount"] > 0).all() and set(company.costs["currency"]) == {"EUR"}
