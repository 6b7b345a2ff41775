"""Designs without random assignment: by hand, against statsmodels and published numbers, and on known worlds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.treatment.treatment_effects import TreatmentEffect

import ldlab
from ldlab import observational
from ldlab.estimate import Check, Estimate
from ldlab.program import LdlabError, Study
from tests.projects import REPOSITORY
from tests.studies import make_study

CONTROL = {"column": "earlier", "label": "resolution time the year before", "kind": "period"}


def strata() -> pd.DataFrame:
    """x = 0: 10 trained, 30 not; x = 1: 20 trained, 20 not. All means are whole numbers.

    Untrained means are 4 and 10, trained means 7 and 12; in each cell half lie 1 above and half 1 below.
    """
    cells = [(0, 1, 10, 7.0), (0, 0, 30, 4.0), (1, 1, 20, 12.0), (1, 0, 20, 10.0)]
    return pd.concat(
        [
            pd.DataFrame({"x": float(x), "arm": arm, "outcome": mean + np.tile([1.0, -1.0], size // 2)})
            for x, arm, size, mean in cells
        ]
    )


def world(
    seed: int, n: int = 400, *, effect: float = 1.0, score_bends: bool = False, kpi_bends: bool = False
) -> pd.DataFrame:
    """Two covariates behind training and KPI; what bends is not linear, so that our model of it is wrong.

    The effect is effect * (1 + a / 2); its mean over the trained is near 1.176 where effect is 1.
    """
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, n))
    bend = a**2 - 1
    odds = -0.7 + 0.6 * a + 0.4 * b + 0.5 * bend * score_bends
    arm = (rng.random(n) < 1 / (1 + np.exp(-odds))).astype(int)
    untrained = 2 * a - b + 1.5 * bend * kpi_bends + rng.normal(size=n)
    return pd.DataFrame({"a": a, "b": b, "arm": arm, "outcome": untrained + effect * arm * (1 + a / 2)})


def observed(frame: pd.DataFrame, **options: object) -> Study:
    design = {"kind": "observational", **dict(options.pop("design", {}))}  # type: ignore[call-overload]
    return make_study(frame, design, **options)  # type: ignore[arg-type]


def scored(study: Study) -> observational.Propensity:
    found = observational.propensity(study)
    assert found is not None
    return found


def effect_of(study: Study) -> Estimate:
    found = observational.doubly_robust(study, scored(study))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def nsw_cps() -> Study:
    return ldlab.load_study(ldlab.load_program(REPOSITORY / "params" / "nsw-cps.yaml"))


# The effect, by hand


def test_effect_on_the_trained_by_hand() -> None:
    # Untrained mean for people like the trained: (10 * 4 + 20 * 10) / 30 = 8; trained mean (70 + 240) / 30 = 31 / 3.
    estimate = effect_of(observed(strata()))
    assert estimate.value == pytest.approx(31 / 3 - 8)
    # Both models are saturated. Influences: of a trained person (y - m0 - effect) / 30, with y - m0 - effect
    # = 7 - 4 - 7/3 (+-1) = 2/3 (+-1) at x = 0 and -1/3 (+-1) at x = 1; of an untrained one (10 / 30) / 30 and
    # (20 / 20) / 30 times +-1. Squares: 10 * (4/9 + 1) + 20 * (1/9 + 1) + 30 / 9 + 20, over 900.
    squares = 10 * (4 / 9 + 1) + 20 * (1 / 9 + 1) + 30 / 9 + 20
    assert estimate.se == pytest.approx(np.sqrt(squares / 900))
    assert estimate.se_kind == "sandwich" and estimate.df is None
    assert estimate.estimand == "ATT" and estimate.n["treated"] == 30


def test_weighted_comparison_group_by_hand() -> None:
    # e / (1 - e) is 1/3 for 30 people and 1 for 20: (10 + 20)^2 / (30 / 9 + 20) = 38.57.
    study = observed(strata())
    assert scored(study).effective_sample_size == pytest.approx(900 / (30 / 9 + 20))
    table = observational.weighted_balance_table(scored(study))
    # Before: means 2/3 and 2/5, variances 30/29 * 2/9 and 50/49 * 6/25. After: alike.
    spread = np.sqrt((30 / 29 * 2 / 9 + 50 / 49 * 6 / 25) / 2)
    assert table["before"].tolist() == pytest.approx([(2 / 3 - 2 / 5) / spread])
    assert table["after"].tolist() == pytest.approx([0], abs=1e-9)


def test_standard_error_is_that_of_statsmodels_where_its_own_is_right() -> None:
    # statsmodels 0.15 reads six coefficients of the score whatever their number, so five covariates; and it clips
    # scores at .001, so none beyond.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 5))
    odds = -0.5 + x @ [0.4, 0.3, 0, 0, 0.2]
    arm = (rng.random(600) < 1 / (1 + np.exp(-odds))).astype(int)
    outcome = x @ [1, 1, 0, 0, 1] + arm + rng.normal(size=600) * (1 + 0.5 * abs(x[:, 0]))
    estimate = effect_of(observed(pd.DataFrame(x, columns=list("vwxyz")).assign(arm=arm, outcome=outcome)))
    design = sm.add_constant(x)
    score = sm.Logit(arm, design).fit(disp=0)
    assert score.predict().min() > 0.001 and score.predict().max() < 0.999
    model = TreatmentEffect(sm.OLS(outcome, design), arm, results_select=score)
    value, *_ = model.ipw_ra(effect_group=1, return_results=False)
    assert estimate.value == pytest.approx(value, rel=1e-6)
    assert estimate.se == pytest.approx(model.ipw_ra(effect_group=1).results_gmm.bse[0], rel=1e-5)


def test_clustered_error_of_doubled_people_is_that_of_the_people() -> None:
    once = world(3, 300)
    twice = pd.concat([once, once]).assign(cluster=[f"c{i}" for i in [*range(300), *range(300)]])
    one, two = effect_of(observed(once)), effect_of(observed(twice))
    assert two.value == pytest.approx(one.value)
    assert two.se == pytest.approx(one.se * np.sqrt(300 / 299))
    assert two.se_kind == "sandwich, cluster by cluster" and two.df == 299


# The effect, where it is known


@pytest.mark.parametrize("effect", [0.0, 1.0])
@pytest.mark.parametrize(("score_bends", "kpi_bends"), [(False, False), (True, False), (False, True)])
def test_right_when_either_model_is_wrong(effect: float, score_bends: bool, kpi_bends: bool) -> None:
    bends = {"score_bends": score_bends, "kpi_bends": kpi_bends}
    truth = effect * (1 + _mean_of_a_among_trained(**bends) / 2)
    found = [
        effect_of(observed(world(seed, effect=effect, **bends), level=0.9))  # type: ignore[arg-type]
        for seed in range(1000, 1200)
    ]
    errors = np.array([e.value for e in found]) - truth
    assert abs(errors.mean()) < 3.5 * errors.std() / np.sqrt(200)
    covered = np.mean([e.low <= truth <= e.high for e in found])
    # 200 worlds: Monte Carlo standard error .021.
    assert 0.83 <= covered <= 0.97
    assert np.mean([e.se for e in found]) == pytest.approx(errors.std(), rel=0.15)


def test_wrong_when_both_models_are_wrong() -> None:
    truth = 1 + _mean_of_a_among_trained(score_bends=True, kpi_bends=True) / 2
    found = [effect_of(observed(world(seed, score_bends=True, kpi_bends=True))) for seed in range(40)]
    assert np.mean([e.value for e in found]) - truth > 0.8


def _mean_of_a_among_trained(**bends: bool) -> float:
    frame = world(1, 400_000, **bends)  # type: ignore[arg-type]
    return float(frame.loc[frame["arm"] == 1, "a"].mean())


# Real numbers


def test_trained_against_a_survey(nsw_cps: Study) -> None:
    estimate = effect_of(nsw_cps)
    # By hand: the augmented estimator with weights e / (1 - e) and a regression weighted by them, and its influence
    # function with both models taken as known.
    frame = nsw_cps.frame
    x = sm.add_constant(frame[list(nsw_cps.covariates)].to_numpy())
    t, y = frame["arm"].to_numpy(), frame["outcome"].to_numpy()
    e = sm.GLM(t, x / x.std(axis=0).clip(1), family=sm.families.Binomial()).fit().predict()
    w = (1 - t) * e / (1 - e)
    rest = y - sm.WLS(y[t == 0], x[t == 0], weights=w[t == 0]).fit().predict(x)
    by_hand = rest[t == 1].mean() - (w * rest).sum() / w.sum()
    influence = t * (rest - by_hand) / t.sum() - w * rest / w.sum()
    assert estimate.value == pytest.approx(by_hand, rel=1e-6) and estimate.value == pytest.approx(
        1402.76, abs=0.01
    )
    assert estimate.se == pytest.approx(np.sqrt((influence**2).sum()), rel=0.001)
    assert estimate.se == pytest.approx(667.55, abs=0.01)
    raw = ldlab.ab.difference_in_means(nsw_cps, se="HC1").value
    assert raw == pytest.approx(-8497.52, abs=0.01) and not estimate.low <= raw <= estimate.high


def test_survey_page_says_what_is_wrong_until_people_are_comparable(nsw_cps: Study) -> None:
    score = scored(nsw_cps)
    before = {c.name: c.status for c in _checks(nsw_cps, score)}
    assert before == {
        "overlap": "passed",
        "balance after weighting": "failed",
        "negative control: earnings in 1975": "failed",
    }
    comparable = observational.trimmed(nsw_cps, score)
    again = scored(comparable)
    assert {c.status for c in _checks(comparable, again)} == {"passed"}
    estimate = observational.doubly_robust(comparable, again)
    assert estimate is not None and estimate.estimand == "ATT among the comparable"
    assert estimate.n["treated"] == 144 and estimate.n["comparison"] == 308
    assert estimate.low < 1794.34 < estimate.high  # what the experiment says of all the trained
    # Among the comparable everyone is black or hispanic, so one of the two follows from the other.
    assert set(nsw_cps.covariates) - set(comparable.covariates) == {"hisp"}
    assert "about those trained who can be compared" in _checks(comparable, again)[0].sentence


def _checks(study: Study, score: observational.Propensity) -> list[Check]:
    found = [
        observational.overlap(study, score),
        observational.balance_after_weighting(study, score),
        *observational.negative_controls(study, score),
    ]
    return [check for check in found if check is not None]


# Propensity: what it refuses, what it shows


@pytest.mark.parametrize("kind", ["alone", "category", "together"])
def test_perfect_separation_is_refused_by_name(kind: str) -> None:
    frame = world(5)
    rng = np.random.default_rng(5)
    if kind == "alone":
        frame["hours"] = frame["arm"] * 10 + rng.random(len(frame))
    elif kind == "category":  # a site with untrained people only
        frame["hours"] = ((frame["arm"] == 0) & (rng.random(len(frame)) < 0.2)).astype(float)
    else:
        part = rng.normal(size=len(frame))
        frame["hours"], frame["seats"] = 3 * part, frame["arm"] * 2 - 3 * part + rng.random(len(frame))
    named = "a combination of covariates" if kind == "together" else "hours"
    with pytest.raises(LdlabError, match=f"found {named} with values that only trained or only comparison"):
        observational.propensity(observed(frame))


def test_extreme_scores_are_no_separation() -> None:
    rng = np.random.default_rng(2)
    x = np.append(
        rng.normal(scale=6, size=500), [15.0, -15.0]
    )  # log odds to 30; one of each on the wrong side
    arm = (rng.random(502) < 1 / (1 + np.exp(-2 * x))).astype(int)
    arm[-2:] = [0, 1]
    study = observed(pd.DataFrame({"x": x, "arm": arm, "outcome": x + rng.normal(size=502)}))
    assert scored(study).effective_sample_size > 0


def test_people_without_a_covariate_are_counted_and_small_arms_refused() -> None:
    frame = world(7)
    frame.loc[frame.index[:50], "a"] = np.nan
    score = scored(observed(frame))
    assert score.study.count()["observations"] == 350
    assert ("agents without some covariate", 50) in score.study.left_out
    frame.loc[frame["arm"] == 1, "a"] = np.nan
    with pytest.raises(LdlabError, match="fewer than 10 trained agents with every covariate"):
        observational.propensity(observed(frame, covariates=("a", "b")))


def test_the_outcome_is_not_looked_at() -> None:
    frame = world(4)
    shuffled = frame.assign(outcome=np.random.default_rng(0).permutation(frame["outcome"]))
    assert str(scored(observed(frame))) == str(scored(observed(shuffled)))


@pytest.mark.parametrize("seed", range(8))
def test_classes_of_the_score_hold_nobody_or_the_minimum(seed: int) -> None:
    study = observed(world(seed, 60 + 40 * seed), minimum=12)
    classes = scored(study).classes()
    assert classes["trained"].sum() == study.count()["treated"]
    assert classes["comparison"].sum() == study.count()["comparison"]
    for arm in ("trained", "comparison"):
        assert all(count == 0 or count >= 12 for count in classes[arm])
    assert (classes[["trained", "comparison"]].sum(axis=1) > 0).all()
    assert classes["low"].iloc[0] == 0 and classes["high"].iloc[-1] == 1


def test_numbers_outside_the_agreed_scores_are_suppressed() -> None:
    rule = {"agreement": {"trim_propensity": {"below": 0.12, "above": 0.95}}}
    text = str(scored(observed(world(1), **rule)))
    assert "outside the agreed 0.12 to 0.95: fewer than 10 trained and " in text


# Trimming


def test_trimming_follows_the_agreement_and_counts() -> None:
    plain = observed(world(1))
    assert observational.trimmed(plain, scored(plain)) is plain
    rule = {"agreement": {"trim_propensity": {"below": 0.25, "above": 0.75}}}
    study = observed(world(1), **rule)
    rest = observational.trimmed(study, scored(study))
    gone = {why.split()[0]: count for why, count in rest.left_out}
    before, after = study.count(), rest.count()
    for arm, key in (("trained", "treated"), ("comparison", "comparison")):
        assert gone[arm] == int(before[key] or 0) - int(after[key] or 0) > 10
    assert len(study.frame) == 400
    again = scored(rest)
    assert again.trim is None and observational.trimmed(rest, again) is rest
    x = rest.frame[["a", "b"]]
    untrained = rest.frame["arm"] == 0
    fit = sm.OLS(rest.frame.loc[untrained, "outcome"], sm.add_constant(x[untrained])).fit()
    assert rest.baseline == pytest.approx(fit.predict(sm.add_constant(x[~untrained])).mean())


def test_trimming_that_leaves_too_few_and_scores_of_others_are_refused() -> None:
    study = observed(world(1), agreement={"trim_propensity": {"below": 0.97}})
    with pytest.raises(LdlabError, match=r"fewer than 10 .* with propensity score from 0.97 to 1"):
        observational.trimmed(study, scored(study))
    with pytest.raises(LdlabError, match="expected scores of this study"):
        observational.doubly_robust(study, scored(observed(world(2, 300))))


# Checks


def test_overlap_fails_where_few_are_comparable() -> None:
    rng = np.random.default_rng(1)
    arm = np.repeat([1, 0], 150)
    x = np.where(arm == 1, 2.6, -2.6) + rng.normal(size=300)
    study = observed(pd.DataFrame({"x": x, "arm": arm, "outcome": x + rng.normal(size=300)}))
    check = observational.overlap(study, scored(study))
    assert check is not None and check.status == "failed" and check.needed
    assert check.statistic is not None and check.statistic < 0.9
    assert "too few to compare with" in check.sentence
    alike = observed(world(1, 2000))
    fine = observational.overlap(alike, scored(alike))
    assert fine is not None and fine.status == "passed"


def test_overlap_does_not_give_away_a_small_number_alone() -> None:
    frame = world(1, 1000)
    frame.loc[frame.index[frame["arm"] == 1][:2], "a"] = 9.0
    study = observed(frame)
    check = observational.overlap(study, scored(study))
    assert check is not None and "all but fewer than 10 of" in check.sentence and check.statistic is None


def test_balance_after_weighting_fails_where_weights_cannot_mend_it() -> None:
    # Training depends on |a|: the score, linear in a, does not see it; a squared covariate stays apart.
    rng = np.random.default_rng(8)
    a = rng.normal(size=1500)
    arm = (rng.random(1500) < 1 / (1 + np.exp(1 - 3 * a))).astype(int)
    steep = observed(pd.DataFrame({"a": a, "square": a**2, "arm": arm, "outcome": a}))
    mild = observed(world(1, 2000))
    failed, passed = (observational.balance_after_weighting(s, scored(s)) for s in (steep, mild))
    assert failed is not None and failed.status == "failed" and failed.needed
    assert "does not make the groups alike" in failed.sentence
    assert passed is not None and passed.status == "passed" and passed.statistic is not None
    assert passed.statistic < 0.1 == passed.threshold


def test_without_covariates_checks_are_not_run() -> None:
    study = observed(world(1)[["arm", "outcome"]])
    assert observational.propensity(study) is None and observational.doubly_robust(study, None) is None
    checks = (observational.overlap(study, None), observational.balance_after_weighting(study, None))
    assert [check.status for check in checks if check] == ["not_run", "not_run"]
    assert observational.weighted_balance_table(None).empty


@pytest.mark.parametrize("design", ["randomised", "two_group_before_after"])
def test_other_designs_get_nothing(design: str) -> None:
    frame = world(1)
    panel = pd.concat(
        [frame.assign(period=p, unit=range(400), start=frame["arm"].map({1: 1.0})) for p in (0, 1)]
    )
    study = make_study(panel.drop(columns="arm") if design != "randomised" else frame, design)
    assert observational.propensity(study) is None
    assert observational.trimmed(study, None) is study
    assert observational.overlap(study, None) is None
    assert observational.balance_after_weighting(study, None) is None
    assert observational.doubly_robust(study, None) is None
    assert observational.negative_controls(study, None) == ()
    assert observational.sensitivity(study, None) is None


# Negative controls


def controlled(frame: pd.DataFrame, **control: object) -> Study:
    design = {"negative_controls": [{**CONTROL, **control}]}
    covariates = tuple(name for name in frame if name in ("a", "b", "earlier", "was_slow"))
    return observed(
        frame.assign(**{"negative: earlier": frame["earlier"]}),
        design=design,
        covariates=covariates,
        level=0.9,
    )


def test_negative_control_sees_what_nobody_recorded() -> None:
    rng = np.random.default_rng(11)
    hidden = rng.normal(size=2000)
    arm = (rng.random(2000) < 1 / (1 + np.exp(0.5 - hidden))).astype(int)
    frame = pd.DataFrame({"a": rng.normal(size=2000), "arm": arm, "earlier": hidden, "outcome": hidden + arm})
    study = controlled(frame)
    (check,) = observational.negative_controls(study, scored(study))
    assert check.status == "failed" and check.needed and check.name.endswith("the year before")
    assert "they differed from the start" in check.sentence
    # The same gap by hand: a has nothing to do with it, so about the raw gap over the sd within the arms.
    gap = hidden[arm == 1].mean() - hidden[arm == 0].mean()
    assert check.statistic == pytest.approx(gap / frame.groupby("arm")["earlier"].std().mean(), rel=0.05)


def test_negative_control_leaves_out_what_is_the_same_measurement() -> None:
    # 'earlier' is a covariate too, and 'was_slow' is it again; both would adjust the difference away.
    frame = world(3, 1500)
    frame["earlier"] = frame["b"] + frame["arm"] + np.random.default_rng(103).normal(size=1500)
    frame["was_slow"] = (frame["earlier"] > 1).astype(float)
    kept, without = (controlled(frame, without=names) for names in ((), ("was_slow",)))
    (narrow,), (honest,) = (observational.negative_controls(s, scored(s)) for s in (kept, without))
    assert honest.statistic is not None and narrow.statistic is not None
    assert honest.status == "failed" and honest.statistic > narrow.statistic + 0.2


def test_negative_control_alarms_as_often_as_it_says_and_sees_what_it_says() -> None:
    alarms, seen = 0, 0
    for seed in range(150):
        frame = world(seed)
        noise = frame["a"] + np.random.default_rng(seed + 1000).normal(size=400)
        study = controlled(frame.assign(earlier=noise))
        (check,) = observational.negative_controls(study, scored(study))
        alarms += check.status == "failed"
        bias = float(check.power.split("a bias of ")[1].split()[0]) * noise.std()
        biased = controlled(frame.assign(earlier=noise + bias * frame["arm"]))
        seen += observational.negative_controls(biased, scored(biased))[0].status == "failed"
    assert 0.03 <= alarms / 150 <= 0.19  # a tenth; Monte Carlo standard error .024
    assert (
        0.69 <= seen / 150 <= 0.92
    )  # four fifths; .033. The bias is in sds of a column that it widens a little


def test_negative_control_that_is_not_named_or_cannot_be_run() -> None:
    study = observed(world(1))
    (check,) = observational.negative_controls(study, scored(study))
    assert check.status == "not_run" and not check.needed and "design.negative_controls" in check.sentence
    alone = controlled(world(1)[["arm", "outcome"]].assign(earlier=world(2)["a"]))
    (check,) = observational.negative_controls(alone, scored(alone))
    assert check.status == "not_run" and check.needed and "no covariate remains" in check.sentence


# Sensitivity


@pytest.mark.parametrize(
    ("ratio", "low", "high", "expected", "nearest"),
    [
        # VanderWeele & Ding (2017): the first example, and one of their further examples (protective).
        (3.9, 1.8, 8.7, 7.26, 3.00),
        (0.80, 0.71, 0.91, 1.81, 1.43),
        (1.2, 0.9, 1.6, 1.69, 1.0),
    ],
)
def test_published_e_values_of_risk_ratios(
    ratio: float, low: float, high: float, expected: float, nearest: float
) -> None:
    # 40 of 100 trained have it; an effect of 40 - 40 / r points is a risk ratio of r.
    frame = world(1, 200).assign(arm=np.repeat([1, 0], 100), outcome=np.tile([100.0] * 4 + [0.0] * 6, 20))
    study = observed(frame, kpi=BINARY)
    assert frame.loc[frame["arm"] == 1, "outcome"].mean() == 40
    value, end, other = (40 - 40 / r for r in (ratio, low, high))
    found = observational.sensitivity(study, _estimate(study, value, end, other))
    assert found is not None and found.scale == "risk ratio"
    assert found.e_value == pytest.approx(expected, abs=0.006)
    assert found.e_value_nearest == (1.0 if nearest == 1 else pytest.approx(nearest, abs=0.006))


BINARY = {
    "value_type": "binary", "unit": "percentage points", "target": {"value": 1.0, "unit": "percentage points"},
    "smallest_effect_worth_having": {"value": 0.5, "unit": "percentage points"},
}  # fmt: skip


def _estimate(study: Study, value: float, low: float, high: float) -> Estimate:
    made = Estimate.from_t(
        value, 1.0, method="made up", estimand="ATT", se_kind="sd", n=study.count(), **study.measure()
    )
    return made.model_copy(update={"low": low, "high": high})


def test_e_value_of_a_standardised_difference() -> None:
    # exp(.91 d) for d = .5 with interval .11 to .89, in sds: what the package EValue gives, 2.53 and 1.45.
    study = observed(world(1))
    sizes = study.frame.groupby("arm")["outcome"].agg(["var", "size"])
    sd = np.sqrt((sizes["var"] * (sizes["size"] - 1)).sum() / (len(study.frame) - 2))
    found = observational.sensitivity(study, _estimate(study, 0.5 * sd, 0.11 * sd, 0.89 * sd))
    assert found is not None and found.ratio == pytest.approx(np.exp(0.455))
    assert found.e_value == pytest.approx(np.exp(0.455) + np.sqrt(np.exp(0.455) * (np.exp(0.455) - 1)))
    assert found.e_value_nearest == pytest.approx(observational.e_value(np.exp(0.91 * 0.11)))


@pytest.mark.parametrize("value_type", ["continuous", "count"])
def test_sensitivity_does_not_change_with_the_unit(value_type: str) -> None:
    frame = world(9)
    if value_type == "count":
        frame["outcome"] = np.random.default_rng(90).poisson(
            np.exp(0.3 * frame["a"] + 0.4 * frame["arm"] + 1)
        )
    small, large = (
        observed(frame.assign(outcome=frame["outcome"] * unit), kpi={"value_type": value_type})
        for unit in (1, 1000)
    )
    one, other = (observational.sensitivity(s, effect_of(s)) for s in (small, large))
    assert one is not None and other is not None and one.e_value_nearest is not None
    assert one.e_value_nearest > 1
    for name in ("ratio", "ratio_nearest", "e_value", "e_value_nearest", "robustness", "robustness_nearest"):
        assert getattr(one, name) == pytest.approx(getattr(other, name)), name
    for mine, theirs in zip(one.benchmarks, other.benchmarks, strict=True):
        assert mine.times_to_zero == pytest.approx(theirs.times_to_zero)
        assert 1000 * (mine.value or 0) == pytest.approx(theirs.value)


def darfur() -> pd.DataFrame:
    """786 rows with the moments of Cinelli & Hazlett's regression: estimate .0973, t 4.18445 with 783 df.

    One covariate with the partial R-squared of 'female': .0090811 with the treatment (so that once as strong is
    .0091643) and, given it, what makes once as strong .1246409 with the outcome.
    """
    n, df, value, t, of_training, of_kpi = (
        786,
        783,
        0.09731582,
        4.18445,
        0.00916428667504862,
        0.12464092303637,
    )
    own = of_training / (1 + of_training)
    arm = np.repeat([1.0, 0.0], n // 2)
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(np.column_stack([np.ones(n), arm, rng.normal(size=(n, 2))]))[0]
    d = (arm - arm.mean()) / np.linalg.norm(arm - arm.mean())
    female = np.sqrt(own) * d + np.sqrt(1 - own) * directions[:, 2]
    # Once as strong with the outcome is (1 + s)^2 / (1 - s^2) * f2, where s^2 = own^2 / (1 - own)^2.
    s = own / (1 - own)
    f2 = of_kpi * (1 - s**2) / (1 + s) ** 2
    # effect on the scale of unit vectors: value * |arm|; its se: sigma / sqrt(1 - own).
    size = value * np.linalg.norm(arm - arm.mean())
    sigma = size / t * np.sqrt(1 - own)
    slope = np.sqrt(f2 * df) * sigma / np.sqrt(1 - own)
    outcome = size * d + slope * female + np.sqrt(df) * sigma * directions[:, 3]
    return pd.DataFrame({"female": female, "arm": arm.astype(int), "outcome": outcome})


def test_published_robustness_values_and_bounds() -> None:
    # Cinelli & Hazlett (2020), section 5; digits of the authors' R package, sensemakr.
    study = observed(darfur(), level=0.95)
    found = observational.sensitivity(study, ldlab.ab.regression_adjusted(study, interactions=False))
    assert found is not None and found.regression_df == 783
    assert found.regression == pytest.approx(0.09731582) and found.regression_t == pytest.approx(4.18445)
    assert found.robustness == pytest.approx(0.1387764, abs=1e-6)
    assert found.robustness_nearest == pytest.approx(0.0762580, abs=1e-6)
    (female,) = found.benchmarks
    assert female.r2_treatment == pytest.approx(0.00916428667504862)
    assert female.r2_kpi == pytest.approx(0.12464092303637)
    assert female.value == pytest.approx(0.0752202698, abs=1e-8)
    assert (female.low, female.high) == (
        pytest.approx(0.0322829603, abs=1e-7),
        pytest.approx(0.1181575794, abs=1e-7),
    )
    # Their table goes to three times as strong, which leaves .0304; 4.33 times leaves nothing.
    assert female.times_to_zero == pytest.approx(4.3346, abs=1e-3)


def test_a_confounder_as_strong_as_said_does_what_is_said() -> None:
    # z is left out of the regression and is as strong as a: the benchmark bounds what that does.
    rng = np.random.default_rng(21)
    a, z = rng.normal(size=(2, 60_000))
    arm = (0.4 * a + 0.4 * z + rng.normal(size=60_000) > 0).astype(int)
    frame = pd.DataFrame({"a": a, "arm": arm, "outcome": a + z + arm + rng.normal(size=60_000)})
    study = observed(frame)
    found = observational.sensitivity(study, ldlab.ab.regression_adjusted(study, interactions=False))
    assert found is not None and found.regression > 1.3
    assert found.benchmarks[0].value == pytest.approx(1, abs=0.08)


def test_sensitivity_in_words_and_with_clusters() -> None:
    frame = world(6).assign(site=lambda rows: (rows["a"] > 0).astype(float))
    frame["cluster"] = [f"c{i % 40}" for i in range(400)]
    study = observed(frame.rename(columns={"site": "grade: high"}), design={"columns": {"covariates": ("grade",)}},
                     covariates=("grade: high",))  # fmt: skip
    found = observational.sensitivity(study, effect_of(study))
    assert found is not None and found.robustness_nearest is None
    assert [b.covariate for b in found.benchmarks] == ["grade"] and found.benchmarks[0].low is None
    assert "not given: errors are clustered" in str(found) and "<th" in found._repr_html_()
    assert "times as strongly tied to both as grade is" in found.sentence
    crossing = observational.sensitivity(study, _estimate(study, 0.3, -0.1, 0.7))
    assert crossing is not None and crossing.e_value_nearest == 1.0
    assert "the range includes no effect as it is" in crossing.sentence


def test_e_value_is_not_given_where_the_untrained_mean_is_not_positive() -> None:
    study = observed(
        world(1).assign(outcome=lambda rows: rows["arm"] * 50.0 + 50.0 * (rows["a"] > 0)), kpi=BINARY
    )
    mean = study.frame.loc[study.frame["arm"] == 1, "outcome"].mean()
    found = observational.sensitivity(study, _estimate(study, mean + 1, mean - 20, mean + 22))
    assert found is not None and found.e_value is None and "not given" in str(found)


# Figures


def test_figures_show_groups_only() -> None:
    assert ldlab.plots.overlap(None) is None
    assert ldlab.plots.balance_after_weighting(observational.weighted_balance_table(None)) is None
    study = observed(world(2), agreement={"trim_propensity": {"below": 0.1, "above": 0.9}})
    score = scored(study)
    overlap = ldlab.plots.overlap(score)
    balance = ldlab.plots.balance_after_weighting(observational.weighted_balance_table(score))
    assert overlap is not None and balance is not None
    assert "have untrained ones like them" in overlap.title
    assert "trained and comparison" in overlap.alt.lower()
    assert balance.title.startswith("Weighting takes the largest difference between the groups from 0.")
    assert all(figure.png().startswith(b"\x89PNG") for figure in (overlap, balance))


def test_the_study_is_left_as_it_was() -> None:
    study = controlled(world(2).assign(earlier=world(3)["a"]))
    before = study.frame.copy()
    score = scored(study)
    observational.negative_controls(study, score)
    observational.sensitivity(study, effect_of(study))
    pd.testing.assert_frame_equal(study.frame, before)
