"""The Bayesian panel model: exact where it can be, right on known effects, wider than independent errors would be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

import ldlab
from ldlab import bayes, did, plots, simulate
from ldlab.bayes.compiled import Sampling, with_data
from ldlab.bayes.panel import PanelPosterior, panel_of
from ldlab.bayes.panel_checks import enough_clusters, panel_statistics
from ldlab.bayes.panel_errors import errors_of
from ldlab.bayes.panel_events import event_effects
from ldlab.bayes.panel_model import CELL, build
from ldlab.bayes.panel_series import contrasts, series_of
from ldlab.bayes.posterior import Posterior
from ldlab.program import LdlabError, Study
from tests.projects import REPOSITORY
from tests.studies import make_study
from tests.worlds_bayes_panel import world

SHORT = Sampling(draws=1000, tune=500, chains=2)


def staggered(frame: pd.DataFrame, level: float = 0.9, anticipation: int = 0, **sections: Any) -> Study:
    return make_study(frame, {"kind": "staggered", "anticipation": anticipation}, level=level, **sections)


def people(seed: int, **changes: Any) -> simulate.World:
    asked: dict[str, Any] = {
        "cohorts": [5, 7, 9, None],
        "cluster_size": 10,
        "autocorrelation": 0.5,
        "seed": seed,
    }
    return simulate.panel(240, 12, **{"effect": 1.0, **asked, **changes})


def frame_of(world: simulate.World) -> pd.DataFrame:
    frame = world.frame.assign(period=world.frame["period"] - 1, start=world.frame["start"] - 1)
    return frame.dropna(subset=["outcome"]).reset_index(drop=True)


def fitted(study: Study, **options: Any) -> PanelPosterior:
    found = bayes.fit(study, sampling=SHORT, **options)
    assert isinstance(found, PanelPosterior)
    return found


@pytest.fixture(scope="module")
def growing() -> tuple[PanelPosterior, simulate.World]:
    drawn = people(3, effect=0.5, growth=0.2)
    return fitted(staggered(frame_of(drawn))), drawn


@pytest.fixture(scope="module")
def michigan() -> PanelPosterior:
    return fitted(ldlab.load_study(ldlab.load_program(REPOSITORY / "params" / "michigan.yaml")))


# The numbers that enter


def small_panel(rng: np.random.Generator, periods: int = 3) -> pd.DataFrame:
    """12 people trained from period 2 on, and 14 never; noise that lasts."""
    values = rng.normal(size=(26, periods)).cumsum(axis=1) + 5 * rng.normal(size=(26, 1))
    frame = pd.DataFrame(
        {"unit": np.repeat(np.arange(26), periods), "period": np.tile(np.arange(periods), 26)}
    )
    start = np.where(np.arange(26) < 12, 2.0, np.nan)
    return frame.assign(start=np.repeat(start, periods), outcome=values.ravel())


def test_two_periods_by_hand() -> None:
    """Of changes d only means and their scatter count: contrast (y0 - y1) / sqrt(2), so halves of sums of squares."""
    frame = small_panel(np.random.default_rng(1)).query("period > 0").assign(period=lambda f: f["period"] - 1)
    frame["start"] -= 1
    series = series_of(staggered(frame))
    wide = frame.pivot(index="unit", columns="period", values="outcome")
    change = (wide[1] - wide[0]).to_numpy()
    first, second = change[:12], change[12:]
    assert np.diff(series.means).ravel() == pytest.approx([first.mean(), second.mean()])
    squares = ((first - first.mean()) ** 2).sum() + ((second - second.mean()) ** 2).sum()
    assert series.scatter == pytest.approx(np.array([[squares / 2]]))
    assert series.degrees == pytest.approx(24)
    assert series.overlap == pytest.approx(np.diag([1 / 12, 1 / 14]))
    assert series.sd == pytest.approx((squares / 24) ** 0.5)


def test_cohort_means_with_gaps_are_those_of_unit_dummies() -> None:
    frame = frame_of(people(5, missing=0.3))
    series = series_of(staggered(frame))
    own = frame[frame["start"] == 4].reset_index(drop=True)
    dummies = pd.get_dummies(own[["unit", "period"]].astype(str), drop_first=True, dtype=float)
    fit = sm.OLS(own["outcome"], sm.add_constant(dummies)).fit()
    expected = np.array([0, *(fit.params[f"period_{t}"] for t in range(1, 12))])
    assert series.means[0] - series.means[0, 0] == pytest.approx(expected)


def test_uneven_clusters_count_by_what_they_share() -> None:
    """Shocks of teams with sd 1 and people with sd 1, no autocorrelation: half of one person's variance is shared."""
    rng = np.random.default_rng(2)
    sizes = rng.integers(2, 30, 200)
    cluster = np.repeat(np.arange(200), sizes)
    values = rng.normal(size=(200, 4))[cluster] + rng.normal(size=(len(cluster), 4))
    frame = pd.DataFrame(
        {"unit": np.repeat(np.arange(len(cluster)), 4), "period": np.tile(np.arange(4), len(cluster))}
    )
    frame = frame.assign(cluster=np.repeat(cluster, 4), outcome=values.ravel())
    series = series_of(staggered(frame.assign(start=np.where(frame["cluster"] < 100, 2.0, np.nan))))
    assert np.trace(series.scatter) / 3 / series.degrees == pytest.approx(2, rel=0.1)  # one person's variance
    shares = sizes[:100] / sizes[:100].sum()
    assert series.overlap[0, 0] == pytest.approx((shares**2 * (0.5 + 0.5 / sizes[:100])).sum(), rel=0.1)
    assert errors_of(series).autocorrelation * (1 - errors_of(series).noise) < 0.15


def test_errors_are_those_that_made_the_data() -> None:
    found = errors_of(series_of(staggered(frame_of(people(4)))))
    assert (1 - found.noise) * found.autocorrelation == pytest.approx(0.5, abs=0.15)
    many = errors_of(series_of(staggered(frame_of(simulate.panel(
        4000, 5, 0.0, cohorts=[3, None], autocorrelation=0.5, seed=1
    )).drop(columns="cluster"))))  # fmt: skip
    lag = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    q = contrasts(5)
    assert many.root @ many.root.T == pytest.approx(1.25 * q @ 0.5**lag @ q.T, abs=0.08)


# Exactness


def test_one_cohort_and_one_trained_period_is_the_conjugate_posterior() -> None:
    """First differences instead of contrasts, normal prior, scale of the errors by quadrature."""
    study = staggered(small_panel(np.random.default_rng(7)), priors={"effect": {"mean": 0.3, "sd": 0.8}})
    found = fitted(study)
    wide = study.frame.pivot(index="unit", columns="period", values="outcome").to_numpy()
    steps = np.diff(wide, axis=1)
    z, x = steps[:12].mean(axis=0) - steps[12:].mean(axis=0), np.array([0.0, 1.0])
    back = found.errors.root.T @ contrasts(3) @ np.array([[-1, 0], [1, -1], [0, 1.0]])
    precision = np.linalg.inv(back.T @ back * (1 / 12 + 1 / 14))
    u = (np.arange(4000) + 0.5) / 4000
    scale = 24 / stats.chi2(24).ppf(u)  # sigma^2
    total = 1 / 0.8**2 + x @ precision @ x / scale
    means = (0.3 / 0.8**2 + x @ precision @ z / scale) / total
    assert found.errors.degrees == pytest.approx(24)
    assert found.effect.mean() == pytest.approx(means.mean(), abs=0.03)
    assert found.effect.std() == pytest.approx((means.var() + (1 / total).mean()) ** 0.5, rel=0.08)


def dense(panel: Any, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Covariance of the rotated contrasts, and of them with the cells' effects, written out; sigma 1."""
    sd = panel.given + np.where(panel.kinds >= 0, spread[panel.kinds], 0.0)
    cells = panel.axes.T @ panel._seen(panel.cell_map)
    covariance = np.eye(len(panel.z)) + panel.design @ np.diag(sd**2) @ panel.design.T
    covariance += spread[CELL] ** 2 * cells @ cells.T
    count = len(panel.cells.event)
    cross = panel.map[:count] @ np.diag(sd**2) @ panel.design.T
    return covariance, cross + spread[CELL] ** 2 * panel.cell_map[:count] @ cells.T


def test_what_is_integrated_out_is_the_normal_density(growing: tuple[PanelPosterior, Any]) -> None:
    panel = growing[0].panel
    model = with_data(build, panel.shape, panel.data())
    logp, gaps = model.compile_logp(mode="FAST_COMPILE"), []
    for relative in ([0.2, 0.5, 0.1], [1.0, 0.3, 2.0], [1e-4, 1e-4, 1e-4]):
        covariance, _ = dense(panel, panel.prior.segment_sd * np.array(relative))
        expected = stats.multivariate_normal(cov=covariance).logpdf(panel.z)
        expected += stats.norm.logpdf(relative).sum()
        gaps.append(float(logp({"signed_spread": np.array(relative)})) - expected)
    assert gaps == pytest.approx([gaps[0]] * 3, abs=1e-6)


def test_many_contrasts_are_summed_up_at_nodes() -> None:
    """11 cohorts in 30 periods: 330 contrasts at a few nodes; density and conditional mean stay where they were."""
    drawn = simulate.panel(550, 30, 1.0, cohorts=[*range(8, 28, 2), None], cluster_size=5, seed=4)
    panel = panel_of(staggered(frame_of(drawn)))
    assert len(panel.z) == 290 and len(panel.sums["nodes"]) < 60
    model = with_data(build, panel.shape, panel.data())
    logp, gaps = model.compile_logp(mode="FAST_COMPILE"), []
    for relative in ([0.2, 0.5, 0.1], [0.3, 0.3, 0.3], [0.1, 0.2, 0.02]):
        covariance, cross = dense(panel, panel.prior.segment_sd * np.array(relative))
        expected = stats.multivariate_normal(cov=covariance).logpdf(panel.z)
        expected += stats.norm.logpdf(relative).sum()
        gaps.append(float(logp({"signed_spread": np.array(relative)})) - expected)
        many = np.broadcast_to(relative, (1, 2000, 3))
        draws = panel.cell_effects(many, np.ones((1, 2000)), np.random.default_rng(1))[0] @ panel.cells.share
        mean = panel.cells.share @ (cross @ np.linalg.solve(covariance, panel.z))
        assert draws.mean() == pytest.approx(mean, abs=4 * draws.std() / 2000**0.5)
    assert gaps == pytest.approx([gaps[0]] * 3, abs=0.3)


def test_what_is_drawn_afterwards_is_the_conditional_normal(growing: tuple[PanelPosterior, Any]) -> None:
    panel, relative = growing[0].panel, np.array([0.2, 0.5, 0.3])
    covariance, cross = dense(panel, panel.prior.segment_sd * relative)
    mean = panel.prior.effect_mean + cross @ np.linalg.solve(covariance, panel.z)
    many = np.broadcast_to(relative, (1, 20_000, 3))
    draws = panel.cell_effects(many, np.ones((1, 20_000)), np.random.default_rng(1))[0]
    error = 4 * draws.std(axis=0) / 20_000**0.5
    assert (np.abs(draws.mean(axis=0) - mean) < error).all()
    sd = panel.given + np.where(panel.kinds >= 0, panel.prior.segment_sd * relative[panel.kinds], 0.0)
    count = len(mean)
    prior = panel.map[:count] @ np.diag(sd**2) @ panel.map[:count].T
    own = panel.cell_map[:count] * panel.prior.segment_sd * relative[CELL]
    after = np.diag(prior + own @ own.T - cross @ np.linalg.solve(covariance, cross.T))
    assert draws.var(axis=0) == pytest.approx(after, rel=0.06)


def test_the_prior_is_that_of_the_average_effect() -> None:
    """Deviations average to 0 over the trained unit-periods, so the effect's prior is the agreed one."""
    panel = panel_of(staggered(frame_of(people(1)), priors={"effect": {"mean": 0.5, "sd": 0.4}}))
    draws = panel.prior_effect(20_000, np.random.default_rng(1))
    assert (draws.mean(), draws.std()) == pytest.approx((0.5, 0.4), abs=0.02)
    shares = panel.cells.share @ panel.map[: len(panel.cells.event)]
    assert shares[0] == pytest.approx(1) and np.abs(shares[1:]).max() < 1e-9
    assert np.abs(panel.cells.share @ panel.cell_map[: len(panel.cells.event)]).max() < 1e-9


# Known effects


def test_growth_is_found(growing: tuple[PanelPosterior, simulate.World]) -> None:
    found, drawn = growing
    effect, events = bayes.estimate(found), event_effects(found)
    assert events is not None and events.event_times == (*range(-8, -1), *range(8))
    assert effect.value == pytest.approx(drawn.truth["ATT"], abs=2.5 * effect.se)
    after = events.estimates[7:]
    for time, row in enumerate(after):
        assert row.value == pytest.approx(drawn.truth["by_event_time"][time], abs=2.5 * row.se)
    assert after[7].value - after[0].value > 0.5
    assert effect.n == {"treated": 180, "comparison": 60, "clusters": 24, "observations": 2880}
    assert all(low < e.low < e.high < high for e, low, high in
               zip(events.estimates, events.band_low, events.band_high, strict=True))  # fmt: skip


def test_convergence_and_fit_of_a_right_model(growing: tuple[PanelPosterior, Any]) -> None:
    found, _ = growing
    checks = [*bayes.convergence_checks(found), *bayes.posterior_predictive_checks(found)]
    assert {check.status for check in checks} == {"passed"}
    assert {"means fit", "trends before fit", "restlessness before fits"} <= {check.name for check in checks}


@pytest.mark.parametrize("kind", ["none", "cohort"])
def test_gaps_and_cohorts_that_differ(kind: Any) -> None:
    frame, truth = world(kind, 0.1, np.random.default_rng([1, 5]))
    before = frame.copy()
    effect = bayes.estimate(fitted(staggered(frame)))
    assert effect.value == pytest.approx(truth, abs=2.5 * effect.se)
    assert 0.12 < effect.se < 0.26
    pd.testing.assert_frame_equal(frame, before)


def test_independent_errors_would_be_too_narrow() -> None:
    """Errors of teams with autocorrelation .8: the regression that takes rows as independent says far too much."""
    study = staggered(frame_of(people(6, autocorrelation=0.8)), priors={"effect": {"sd": 10.0}})
    ours, rows = bayes.estimate(fitted(study)), did.two_way_fixed_effects(study, se="classical")
    clustered = did.two_way_fixed_effects(study)
    assert rows.se * 1.25 < clustered.se
    assert rows.se * 1.25 < ours.se < 2 * clustered.se


def test_nobody_is_left_untrained_in_the_end() -> None:
    """Three waves, none of them never: the last one is the comparison until it starts, and is not counted as trained."""
    frame = frame_of(people(8, cohorts=[5, 7, 10]))
    found = fitted(staggered(frame))
    assert found.study.frame["period"].max() == 8 and found.panel.series.starts.tolist() == [4, 6]
    assert found.study.count() == {"treated": 160, "comparison": 80, "clusters": 24, "observations": 240 * 9}
    assert ("rows of weeks in which nobody was left to compare with", 720) in found.study.left_out
    effect = bayes.estimate(found)
    assert effect.value == pytest.approx(1.0, abs=2.5 * effect.se)
    again = fitted(found.study)
    assert np.array_equal(again.effect, found.effect)


def test_anticipation_is_not_before() -> None:
    """People improve two periods ahead: read as 'before' this hides half of the effect."""
    frame = frame_of(people(9, cluster_sd=0.05, noise_sd=0.3, autocorrelation=0.0))
    ahead = (frame["start"] - frame["period"]).isin([1, 2])
    frame["outcome"] += 0.8 * ahead
    naive, right = (bayes.estimate(fitted(staggered(frame, anticipation=k))) for k in (0, 2))
    assert naive.value < 1 - 4 * naive.se
    assert right.value == pytest.approx(1.0, abs=2.5 * right.se)
    events = event_effects(fitted(staggered(frame, anticipation=2)))
    assert events is not None and events.reference == -3 and -2 not in events.event_times


def test_periods_without_anyone_of_a_cohort() -> None:
    """A plant that sent no figures for two periods: they are unknown, not zero."""
    frame = frame_of(people(10))
    kept = frame[~((frame["start"] == 6) & frame["period"].isin([3, 8]))].reset_index(drop=True)
    all_rows, fewer = (bayes.estimate(fitted(staggered(rows))) for rows in (frame, kept))
    assert fewer.value == pytest.approx(all_rows.value, abs=all_rows.se)
    assert fewer.value == pytest.approx(1.0, abs=2.5 * fewer.se)


# A study that was published


def test_michigan(michigan: PanelPosterior) -> None:
    """Group-time effects -.345 (.195), imputation -.331 (.194), first differences -.223 (.131): between them."""
    free = {e.term: e for e in bayes.under_other_priors(michigan, sampling=SHORT)}["flat prior"]
    assert -0.345 < free.value < -0.22 and 0.13 < free.se < 0.2
    effect = bayes.estimate(michigan)
    assert free.value < effect.value < 0
    assert effect.n == {"treated": 29, "comparison": 25, "clusters": None, "observations": 162}
    events = event_effects(michigan)
    assert events is not None and events.event_times == (-2, 0, 1)
    assert events.estimates[2].value < events.estimates[1].value


def test_the_same_seed_gives_the_same_numbers(michigan: PanelPosterior) -> None:
    again = fitted(michigan.study)
    assert np.array_equal(again.effect, michigan.effect)
    assert np.array_equal(again.prior_effect, michigan.prior_effect)


def test_nothing_of_single_units_is_kept_or_printed(michigan: PanelPosterior) -> None:
    assert set(michigan.idata.children) == {"posterior", "prior", "sample_stats"}
    assert set(michigan.idata["posterior"].to_dataset()) == {
        "effect",
        "event_effect",
        "spread",
        "error_scale",
    }
    assert "Panel(" not in repr(michigan) and "draws: 2 chains of 1,000" in repr(michigan)


def test_the_figure_and_its_table(michigan: PanelPosterior) -> None:
    events = event_effects(michigan)
    assert events is not None
    figure = plots.event_study(events, michigan.study)
    assert figure is not None and "1 year after the start" in figure.title
    table = events.table()
    assert table.index.tolist() == [-2, 0, 1] and (table["band low"] < table["low"]).all()


# What it should catch


def test_a_drift_before_training_is_seen() -> None:
    drift = fitted(staggered(frame_of(people(11, trend_gap=0.3))))
    failed = {c.name for c in bayes.posterior_predictive_checks(drift) if c.status == "failed"}
    assert "trends before fit" in failed
    events = event_effects(drift)
    assert events is not None and events.band_high[0] < 0


def test_shocks_of_whole_cohorts_are_seen() -> None:
    """Something moves a whole cohort from period to period; clusters of one cohort do not show it."""
    frame = frame_of(people(12))
    shocks = 1.5 * np.random.default_rng(1).normal(size=12)
    frame.loc[frame["start"] == 8, "outcome"] += shocks[frame.loc[frame["start"] == 8, "period"]]
    checks = bayes.posterior_predictive_checks(fitted(staggered(frame)))
    assert {c.status for c in checks if c.name == "restlessness before fits"} == {"failed"}


def test_small_cohorts_and_times_are_not_shown() -> None:
    frame = frame_of(people(13))
    few = frame.loc[frame["start"] == 4, "unit"].unique()[6:]
    found = fitted(staggered(frame[~frame["unit"].isin(few)].reset_index(drop=True)))
    assert not [label for _, label in panel_statistics(found, 20) if label == "start 4"]
    events = event_effects(found)
    assert events is not None and events.estimates[-1].term == "week 5 or later"
    assert min(int(e.n["treated"] or 0) for e in events.estimates) >= 10


def few_trained(frame: pd.DataFrame) -> pd.DataFrame:
    kept = frame.loc[frame["start"].isna(), "unit"].unique()
    return frame[frame["unit"].isin([*kept, *frame.loc[frame["start"] == 4, "unit"].unique()[:4]])]


@pytest.mark.parametrize(
    ("spoilt", "sections", "said"),
    [
        (lambda f: f[f["start"] == 4], {}, "fewer than 10 agents that are trained"),
        (few_trained, {}, "fewer than 10 agents that are trained"),
        (lambda f: f, {"analysis": {"errors": "student_t"}}, "analysis.errors: student_t"),
        (lambda f: f.assign(outcome=1.0), {}, "no spread to learn from"),
    ],
)
def test_refusals(spoilt: Any, sections: dict[str, Any], said: str) -> None:
    frame = spoilt(frame_of(people(1))).reset_index(drop=True)
    with pytest.raises(LdlabError, match=said):
        bayes.fit(staggered(frame, **sections))


def test_other_designs_are_not_panels(michigan: PanelPosterior) -> None:
    def of_units(study: Study) -> tuple[Any, ...]:
        return (did.first_difference(study),)

    beside = bayes.classical(michigan.study, of_units=of_units, of_panels=did.lead_estimate)
    assert [e.estimand for e in beside] == ["ATT"] and beside[0].se > 0
    draws = np.random.default_rng(1).normal(size=60)
    study = make_study(pd.DataFrame({"arm": np.tile([0, 1], 30), "outcome": draws}))
    other = bayes.fit(study, sampling=SHORT)
    assert isinstance(other, Posterior) and event_effects(other) is None


def test_priors_are_in_kpi_units() -> None:
    study = staggered(frame_of(people(1)))
    prior = bayes.priors(study)
    assert (prior.effect_mean, prior.effect_sd, prior.segment_sd) == (0.0, 2.0, 1.0)
    assert "growth since the start" in str(prior) and "residual" not in str(prior)
    assert bayes.prior_effect_draws(study, 4000).std() == pytest.approx(2.0, rel=0.06)
    assert {rv.name for rv in bayes.model(study).free_RVs} == {"signed_spread"}


def test_a_sampler_stopped_early_is_not_readable() -> None:
    study = staggered(frame_of(people(1)))
    found = bayes.fit(study, sampling=replace(SHORT, draws=20, tune=5, chains=1))
    assert "failed" in {check.status for check in bayes.convergence_checks(found)}


def test_too_few_clusters_break_the_claim():
    # 1 of 4 teams trained: what whole teams do cannot be learned from them.
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"unit": np.repeat(np.arange(80), 8), "period": np.tile(np.arange(8), 80)})
    frame["cluster"] = frame["unit"] // 20
    frame["start"] = np.where(frame["cluster"] == 0, 4.0, np.nan)
    frame["outcome"] = (
        rng.normal(size=len(frame)) + rng.normal(0, 0.5, (4, 8))[frame["cluster"], frame["period"]]
    )
    check = enough_clusters(bayes.fit(make_study(frame, "staggered")))
    assert check.status == "failed" and check.breaks
    assert check.sentence.startswith("There are 4 clusters in 2 cohorts: too few")
