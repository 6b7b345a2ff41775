"""Checks: each passes, fails and is not run; false alarms and power are what they say."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ldlab import checks, did
from tests.studies import DATA, make_study

MONTE_CARLO = 3  # standard errors of a simulated share


def lots(rng, n=100, *, covariates=3, shift=0.0, planned=0.5, **sections):
    """People assigned by lot; ``shift`` in the trained's first covariate breaks the lot."""
    arm = rng.permutation(np.arange(n) < n * planned).astype(int)
    frame = pd.DataFrame(rng.normal(size=(n, covariates)), columns=[f"x{i}" for i in range(covariates)])
    frame["x0"] += shift * arm
    frame = frame.assign(arm=arm, outcome=rng.normal(size=n))
    return make_study(frame, {"kind": "randomised", "planned_treated_share": planned}, **sections)


def missing(trained, comparison, *, covariates=(0, 0)):
    """The table of missing values: (without KPI, rows) by arm."""
    return pd.DataFrame(
        {
            "rows": [comparison[1], trained[1]],
            "without KPI": [comparison[0], trained[0]],
            "without covariates": covariates,
        },
        index=pd.Index([0, 1], name="arm"),
    )


def panel(rng, *, clusters=24, periods=8, start=6, drift=0.0, starts=None):
    """Clusters of two, half of them trained, with errors that last."""
    first = (
        np.where(np.arange(clusters) % 2, np.nan, start) if starts is None else np.resize(starts, clusters)
    )
    noise = rng.normal(size=(clusters, periods)).cumsum(axis=1)
    unit, period = (
        g.ravel() for g in np.meshgrid(np.arange(2 * clusters), np.arange(periods), indexing="ij")
    )
    own = first[unit // 2]
    outcome = noise[unit // 2, period] + rng.normal(size=len(unit)) + drift * period * ~np.isnan(own)
    return pd.DataFrame(
        {"unit": unit, "cluster": unit // 2, "period": period, "start": own, "outcome": outcome}
    )


def test_missing_kpi_alike_in_both_arms_passes():
    study = lots(np.random.default_rng(1), missing=missing((20, 200), (24, 200)))
    check = checks.missing_kpi(study)
    assert (check.status, check.statistic, check.needed, check.breaks) == ("passed", 2.0, True, False)
    assert "20 of 200 trained (10%) and 24 of 200 comparison (12%)" in check.sentence
    # (1.96 + .84) sqrt(11 * 89 * 2/200) = 8.8
    assert check.power.startswith("a gap of 9 percentage points")


@pytest.mark.parametrize(
    ("trained", "comparison", "status"),
    [
        ((40, 200), (20, 200), "failed"),  # 10 points apart, p = .006
        ((14, 100), (8, 100), "passed"),  # 6 points apart, p = .18
        ((200, 10_000), (500, 10_000), "passed"),  # p < 1e-20, but 3 points
        ((50, 200), (50, 200), "failed"),  # a quarter has none
        ((0, 200), (0, 200), "passed"),
    ],
)
def test_missing_kpi_bounds(trained, comparison, status):
    assert (
        checks.missing_kpi(lots(np.random.default_rng(1), missing=missing(trained, comparison))).status
        == status
    )


def test_missing_kpi_hides_small_counts():
    study = lots(np.random.default_rng(1), missing=missing((9, 61), (0, 60), covariates=(3, 12)))
    check = checks.missing_kpi(study)
    assert check.status == "failed"
    # 61 less those with a KPI would be the small count.
    assert "fewer than 10 trained and 0 of 60 comparison agents;" in check.sentence
    assert "12 of 61 trained (20%) and fewer than 10 comparison agents" in check.sentence
    assert (check.statistic, check.power) == (None, "")


def test_sample_ratio():
    rng = np.random.default_rng(2)
    good = checks.sample_ratio(lots(rng, missing=missing((0, 480), (0, 520))))
    bad = checks.sample_ratio(lots(rng, missing=missing((0, 440), (0, 560))))
    # chi-square: (20^2 + 20^2)/500 = 1.6; (60^2 + 60^2)/500 = 14.4
    assert good.statistic == pytest.approx(stats.chi2.sf(1.6, 1))
    assert bad.statistic == pytest.approx(stats.chi2.sf(14.4, 1))
    assert [good.status, bad.status] == ["passed", "failed"]
    assert bad.breaks
    assert bad.needed
    assert "44.0% of 1,000 agents were assigned to training, 50.0% were planned" in bad.sentence
    # (3.29 + .84) sqrt(.25 / 1000) = 6.5 points
    assert "below 43.5% or above 56.5%" in good.power


def test_sample_ratio_power_is_what_it_says():
    rng = np.random.default_rng(3)
    runs = rng.binomial(1000, 0.435, size=400)
    caught = [
        checks.sample_ratio(lots(rng, 20, missing=missing((0, t), (0, 1000 - t)))).status == "failed"
        for t in runs
    ]
    assert abs(np.mean(caught) - 0.8) < MONTE_CARLO * math.sqrt(0.8 * 0.2 / 400)  # 6 points


def test_sample_ratio_counts_clusters_that_were_assigned_whole():
    # 12 of 24 clusters, but the trained ones are four times as large: no fault of the lot.
    sizes = [20, 5] * 12
    frame = pd.DataFrame({"cluster": np.repeat(np.arange(24), sizes)})
    frame["arm"] = (frame["cluster"] + 1) % 2
    frame["outcome"] = np.arange(len(frame)) % 7.0
    study = make_study(frame, {"kind": "randomised", "planned_treated_share": 0.5})
    check = checks.sample_ratio(study)
    assert check.status == "passed"
    assert "50.0% of 24 clusters" in check.sentence


def test_sample_ratio_without_a_plan_is_not_run():
    frame = pd.DataFrame({"arm": [0, 1], "outcome": [1.0, 2]})
    check = checks.sample_ratio(make_study(frame))
    assert (check.status, check.needed, check.statistic) == ("not_run", True, None)
    assert "Add design.planned_treated_share" in check.sentence


def test_sample_ratio_without_lots_is_no_check():
    frame = pd.DataFrame({"arm": [0, 1], "outcome": [1.0, 2]})
    assert checks.sample_ratio(make_study(frame, "observational")) is None
    assert checks.sample_ratio(make_study(panel(np.random.default_rng(19)), "staggered")) is None


def test_sample_ratio_hides_a_total_that_gives_missing_people_away():
    study = lots(np.random.default_rng(2), missing=missing((3, 480), (0, 520)))
    assert "48.0% of agents were assigned" in checks.sample_ratio(study).sentence


def offers(took, others, *, clusters=None, minimum=10):
    """(took part, offered) and (took part, not offered); or whole clusters, so many in each arm."""
    frame = pd.DataFrame({"arm": [1] * took[1] + [0] * others[1]})
    frame["treated"] = [int(i < took[0]) for i in range(took[1])] + [
        int(i < others[0]) for i in range(others[1])
    ]
    frame["outcome"] = np.arange(len(frame)) % 7.0
    if clusters:
        frame["cluster"] = frame["arm"] * 100 + frame.groupby("arm").cumcount() * clusters // took[1]
    columns = {"assignment": "offered", "treatment": "came"}
    return checks.take_up(make_study(frame, {"kind": "randomised", "columns": columns}, minimum=minimum))


@pytest.mark.parametrize(
    ("took", "others", "status"),
    [
        ((116, 200), (20, 500), "passed"),
        ((60, 100), (50, 100), "failed"),  # Fisher, one-sided: p = .10
        ((62, 100), (50, 100), "failed"),  # p = .058
        ((63, 100), (50, 100), "passed"),  # p = .043
        ((30, 100), (70, 100), "failed"),  # the wrong way
        ((0, 100), (0, 100), "failed"),
    ],
)
def test_take_up_bounds(took, others, status):
    check = offers(took, others)
    assert (check.status, check.needed, check.breaks) == (status, True, False)
    assert ("did not clearly bring" in check.sentence) == (status == "failed")


def test_take_up_says_the_shares():
    check = offers((116, 200), (20, 500))
    assert check.sentence == "58% of those offered took part, 4% of those not offered."
    # pooled 136/700; (1.645 + .842) sqrt(.194 * .806 * (1/200 + 1/500)) = 8.2 points
    assert check.power.startswith("a difference of 8 percentage points")


@pytest.mark.parametrize(
    ("took", "others", "sentence"),
    [
        ((116, 200), (9, 500), "58% of those offered took part, fewer than 10 of those not offered."),
        ((116, 200), (0, 500), "58% of those offered took part, 0% of those not offered."),
        (
            (195, 200),
            (50, 500),
            "All but fewer than 10 of those offered took part, 10% of those not offered.",
        ),
    ],
)
def test_take_up_hides_small_counts(took, others, sentence):
    check = offers(took, others)
    assert check.sentence == sentence
    assert (check.statistic is None) == (check.power == "") == ("fewer" in sentence)


def test_take_up_of_assigned_clusters_is_tested_on_their_shares():
    # 40 of 200 against 10 of 200 is clear for people, not where one cluster of five in each arm brought them all.
    assert offers((40, 200), (10, 200)).status == "passed"
    assert offers((40, 200), (10, 200), clusters=5).status == "failed"
    assert offers((190, 200), (10, 200), clusters=5).status == "passed"


def test_take_up_needs_both_columns():
    assert checks.take_up(lots(np.random.default_rng(20))) is None


def test_balance_statistic_is_hansen_and_bowers():
    # d-squared for complete randomisation: z'(S * n/(n1 n0))^-1 z, which is (n - 1) R-squared.
    rng = np.random.default_rng(4)
    study = lots(rng, 60, planned=0.25)
    x, arm = study.frame[list(study.covariates)].to_numpy(), study.frame["arm"].to_numpy() == 1
    gap = x[arm].mean(axis=0) - x[~arm].mean(axis=0)
    d2 = gap @ np.linalg.inv(np.cov(x.T) * (1 / 15 + 1 / 45)) @ gap
    r2 = d2 / 59
    assert checks.balance(study).statistic == pytest.approx(stats.f.sf(r2 / 3 / ((1 - r2) / 56), 3, 56))


def test_balance_false_alarms_and_power():
    rng = np.random.default_rng(5)
    runs, n = 250, 40
    null = np.array([checks.balance(lots(rng, n, covariates=6)).statistic for _ in range(runs)])
    # 40 people, 6 characteristics: a chi-square or a robust Wald test would be far off.
    for p in (0.01, 0.1):
        assert abs(np.mean(null < p) - p) < MONTE_CARLO * math.sqrt(p * (1 - p) / runs)
    shift = float(checks.balance(lots(rng, n)).power.split()[3])
    caught = [checks.balance(lots(rng, n, shift=shift)).status == "failed" for _ in range(runs)]
    assert abs(np.mean(caught) - 0.8) < 0.1


def test_balance_of_assigned_clusters_is_tested_on_their_means():
    # A covariate that clusters share: people would look unbalanced in most lots.
    rng = np.random.default_rng(6)
    failed = 0
    for _ in range(100):
        frame = pd.DataFrame({"cluster": np.repeat(np.arange(20), 15)})
        frame["arm"] = rng.permutation(np.arange(20) % 2)[frame["cluster"]]
        frame["x"] = rng.normal(size=20)[frame["cluster"]] + rng.normal(size=300)
        failed += checks.balance(make_study(frame.assign(outcome=frame["x"]))).status == "failed"
    assert failed / 100 < 0.01 + MONTE_CARLO * math.sqrt(0.01 * 0.99 / 100)  # 4 of 100


def test_balance_of_the_published_experiment_and_of_its_observational_twin():
    names = {"person": "unit", "treated": "arm", "re78": "outcome"}
    lot, twin = (pd.read_csv(DATA / f"{name}.csv").rename(columns=names) for name in ("nsw", "nsw_cps"))
    experiment, observational = (
        checks.balance(make_study(lot)),
        checks.balance(make_study(twin, "observational")),
    )
    assert [experiment.status, observational.status] == ["passed", "failed"]
    assert experiment.needed and not observational.needed, "weights come first"
    assert observational.statistic == pytest.approx(2.43, abs=0.005)
    table = checks.balance_table(make_study(twin, "observational"))
    assert table["covariate"].tolist()[:3] == ["black", "re75", "re74"]


def test_balance_table_by_hand_and_suppressed():
    # x: means 3 and 1, variances 1 and 3 (n - 1): 2 / sqrt(2). flag: 2 of 3 against 0 of 4 is too few to show.
    frame = pd.DataFrame(
        {"arm": [1] * 3 + [0] * 4, "x": [2.0, 3, 4, -1, 1, 1, 3], "flag": [1, 1, 0, 0, 0, 0, 0]}
    )
    frame.loc[3:, "x"] = 1 + np.array([-1.5, 1.5, -1.5, 1.5])
    table = checks.balance_table(make_study(frame.assign(outcome=1.0), minimum=5))
    x = table.set_index("covariate").loc["x"]
    assert x.tolist() == pytest.approx([3, 1, 2 / math.sqrt(2)])
    assert table.set_index("covariate").loc["flag", ["mean trained", "mean comparison"]].isna().all()
    assert table["covariate"].tolist() == ["flag", "x"]


def test_balance_is_not_run_without_covariates():
    frame = pd.DataFrame({"arm": [0, 1], "outcome": [1.0, 2]})
    for design in ("randomised", "observational"):
        check = checks.balance(make_study(frame, design))
        assert (check.status, check.needed) == ("not_run", True)
    constant = checks.balance(make_study(frame.assign(x=1.0)))
    assert (constant.status, constant.needed) == ("not_run", True)
    assert checks.balance_table(make_study(frame)).empty


def leads_of(rng, design="staggered", **world):
    study = make_study(panel(rng, **world), design)
    return checks.leads(did.event_study(study), study)


def test_leads_statistic_by_hand():
    # One lead: the squared t against F(1, clusters - 1).
    study = make_study(panel(np.random.default_rng(7), start=2, periods=4), "staggered")
    events = did.event_study(study)
    check, lead = checks.leads(events, study), events.leads[0]
    assert check.statistic == pytest.approx(2 * stats.t.sf(abs(lead.value / lead.se), 23))
    assert (check.threshold, check.needed, check.breaks) == (0.05, True, False)


def test_leads_false_alarms_are_few_although_leads_are_many():
    # 24 clusters, 11 leads, errors that last. W / 11 against F(11, 23) would reject every third.
    rng, runs = np.random.default_rng(8), 40
    alarms, naive = 0, 0
    for _ in range(runs):
        study = make_study(panel(rng, start=12, periods=13), "two_group_before_after")
        events = did.event_study(study)
        alarms += checks.leads(events, study).status == "failed"
        effects = np.array([lead.value for lead in events.leads])
        wald = effects @ np.linalg.solve(np.array(events.covariance), effects)
        naive += stats.f.sf(wald / len(effects), len(effects), events.df) < 0.05
    bound = 0.05 + MONTE_CARLO * math.sqrt(0.05 * 0.95 / runs)  # 15.3 points
    assert alarms / runs < bound < naive / runs, (alarms, naive)


def test_leads_power_is_what_it_says():
    rng, runs = np.random.default_rng(9), 50
    slopes = [float(leads_of(rng).power.split()[4]) for _ in range(15)]
    caught = [leads_of(rng, drift=float(np.mean(slopes))).status == "failed" for _ in range(runs)]
    assert abs(np.mean(caught) - 0.8) < MONTE_CARLO * math.sqrt(0.8 * 0.2 / runs)  # 17 points


def test_leads_say_what_they_saw():
    check = leads_of(np.random.default_rng(10), drift=5.0)
    assert check.status == "failed"
    assert "moving apart" in check.sentence
    assert "minutes per week" in check.power


def test_leads_without_a_comparison_ask_whether_the_kpi_stood_still():
    moving = leads_of(np.random.default_rng(18), "before_after", starts=[6], drift=5.0)
    still = leads_of(np.random.default_rng(18), "before_after", starts=[6])
    assert [moving.status, still.status] == ["failed", "passed"]
    assert "the KPI was already moving" in moving.sentence


def test_leads_without_a_lead_are_not_run():
    check = leads_of(np.random.default_rng(11), start=1, periods=3)
    assert (check.status, check.needed) == ("not_run", True)


def test_placebo():
    rng = np.random.default_rng(12)
    for drift, status in ((0.0, "passed"), (5.0, "failed")):
        study = make_study(panel(rng, drift=drift), "two_group_before_after", level=0.9)
        estimate = did.placebo_start(study)
        check = checks.placebo(study, estimate)
        assert (check.status, check.needed) == (status, True)
        assert "3 weeks earlier" in check.sentence
        t = abs(estimate.value / estimate.se)
        assert (check.statistic, check.threshold) == (pytest.approx(2 * stats.t.sf(t, 23)), 0.05)
    not_run = checks.placebo(study, None)
    assert (not_run.status, not_run.needed) == ("not_run", False)
    alone = make_study(panel(rng, starts=[6]), "before_after")
    assert "no comparison" in checks.placebo(alone, did.placebo_start(alone)).sentence


def test_placebo_is_judged_at_five_percent_whatever_the_interval_level():
    study = make_study(panel(np.random.default_rng(12)), "two_group_before_after", level=0.8)
    estimate = did.placebo_start(study)
    for t, status in (
        (1.9, "passed"),
        (2.2, "failed"),
    ):  # the bound is 2.07 at 23 degrees of freedom; 80%: 1.32
        value = t * estimate.se
        moved = estimate.model_copy(
            update={"value": value, "low": value - 1.32 * estimate.se, "high": value + 1.32 * estimate.se}
        )
        check = checks.placebo(study, moved)
        assert check.status == status
        low, high = check.sentence.rsplit("95% range ", 1)[1].rstrip(").").split(" to ")
        assert (low.startswith("−"), high[0]) == (status == "passed", "+")


def test_methods_agree_needs_two_answers():
    one = did.two_way_fixed_effects(make_study(panel(np.random.default_rng(1)), "staggered"))
    assert checks.methods_agree([one]) is None
    assert checks.methods_agree([one, one.model_copy(update={"method": "another"})]).status == "passed"
    against = one.model_copy(update={"value": -one.value - 5, "method": "another"})
    assert checks.methods_agree([one, against]).status == "failed"


def test_enough_clusters():
    rng = np.random.default_rng(13)
    enough = checks.enough_clusters(make_study(panel(rng), "staggered"))
    few = checks.enough_clusters(make_study(panel(rng, starts=[6, 6, 6, 6] + [np.nan] * 20), "staggered"))
    assert [enough.status, few.status] == ["passed", "failed"]
    assert "4 trained clusters and 20 comparison clusters (cluster): too few" in few.sentence
    assert few.needed
    units = checks.enough_clusters(lots(rng, 20, planned=0.25))
    assert "fewer than 10 trained agents and 15 comparison agents" in units.sentence
    assert units.status == "passed"
    assert units.statistic is None


def test_enough_clusters_before_after_asks_for_no_comparison():
    study = make_study(panel(np.random.default_rng(14), starts=[6]), "before_after")
    assert checks.enough_clusters(study).status == "passed"


def test_few_treated_clusters_do_bring_false_alarms():
    # What the check says of two trained clusters of 24: a 95% interval misses far more than one time in 20.
    rng, runs = np.random.default_rng(15), 60
    missed = 0
    for _ in range(runs):
        study = make_study(panel(rng, periods=4, starts=[2, 2] + [np.nan] * 22), "two_group_before_after")
        estimate = did.two_way_fixed_effects(study)
        missed += not estimate.low <= 0 <= estimate.high
    assert missed / runs > 0.05 + MONTE_CARLO * math.sqrt(0.05 * 0.95 / runs)


def test_staggered_starts():
    rng = np.random.default_rng(16)
    together = make_study(panel(rng), "staggered")
    frame = panel(rng, starts=[2, 6, np.nan])
    assert checks.staggered_weights(make_study(frame, "staggered"), 0.2) is None  # it does not lead
    waves = make_study(frame, "staggered", agreement={"estimator": "two_way"})
    assert [checks.staggered_weights(waves, share).status for share in (0.04, 0.06)] == ["passed", "failed"]
    assert (
        "counts 6% of the trained weeks with the wrong sign" in checks.staggered_weights(waves, 0.06).sentence
    )
    everyone = make_study(panel(rng, starts=[2, 6]), "before_after")
    assert [checks.staggered_weights(study, 0.2) for study in (together, everyone)] == [None, None]


def test_robust_to_staggering():
    rng = np.random.default_rng(16)
    study = make_study(panel(rng, starts=[2, 6, np.nan]), "staggered")  # smallest effect: 0.5
    estimate = did.two_way_fixed_effects(study)

    def check_of(two_way, robust):
        pair = (estimate.model_copy(update={"value": value}) for value in (two_way, robust))
        return checks.robust_to_staggering(study, *pair)

    for two_way, robust, status, words in (
        (-2.0, -2.4, "passed", "differs by too little to matter"),
        (-2.0, -2.6, "failed", "the size of the effect depends on the method"),
        (2.6, 2.0, "failed", "by more than the smallest effect worth having"),
        (0.1, -0.1, "failed", "the direction of the effect depends on the method"),
    ):
        check = check_of(two_way, robust)
        assert (check.status, check.needed, check.threshold) == (status, True, 0.5)
        assert check.statistic == pytest.approx(abs(two_way - robust))
        assert words in check.sentence
    not_run = checks.robust_to_staggering(study, estimate, None)
    assert (not_run.status, not_run.needed) == ("not_run", True)
    assert checks.robust_to_staggering(study, estimate, did.imputation(study)).status in ("passed", "failed")
    together, everyone = (
        make_study(panel(rng), "staggered"),
        make_study(panel(rng, starts=[2, 6]), "before_after"),
    )
    assert checks.robust_to_staggering(together, estimate, estimate) is None
    assert checks.robust_to_staggering(everyone, estimate, None) is None


def test_second_method():
    estimate = did.two_way_fixed_effects(make_study(panel(np.random.default_rng(17)), "staggered"))
    lead = estimate.model_copy(update={"value": 2.0})
    for other, smallest, status in ((0.1, 0.5, "passed"), (-0.1, 0.5, "failed"), (-0.1, -2.5, "passed")):
        check = checks.second_method(lead, estimate.model_copy(update={"value": other}), smallest)
        assert check.status == status
        assert check.statistic == pytest.approx(2 - other)
        assert check.threshold > 0
