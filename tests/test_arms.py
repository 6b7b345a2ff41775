"""Several arms: Dunnett, Tukey, Holm and Lin by reference, simulated truth, sentences, the figure."""

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.multitest import multipletests

from ldlab import ab
from ldlab.ab.arm_means import Drawn
from ldlab.ab.arms import arms
from ldlab.ab.blocks import compare
from ldlab.ab.multiplicity import Family, holm
from ldlab.plots.arms_effects import arms_effects
from tests.studies import make_study

IN_STRATA = {"kind": "randomised", "columns": {"stratum": "stratum"}}
SEVERAL = {"kind": "randomised", "treated_values": ("A", "B"), "control_value": "C"}
MONTE_CARLO = 3  # standard errors of a simulated share


def drawn(outcome, arm, stratum=None, cluster=None, covariates=None):
    n = len(outcome)
    return Drawn(
        outcome=np.array(outcome, dtype=float),
        arm=np.array(arm),
        stratum=np.zeros(n, dtype=int) if stratum is None else np.array(stratum),
        cluster=None if cluster is None else np.array(cluster),
        covariates=np.empty((n, 0)) if covariates is None else np.asarray(covariates, dtype=float),
    )


# Several arms


def balanced(shifts, n=12):
    """Arms of one variance exactly, so that HC2 is the pooled error; means as in ``shifts`` (C first)."""
    base = stats.norm.ppf((np.arange(n) + 0.5) / n)
    variant = np.repeat(["C", *"ABDE"[: len(shifts) - 1]], n)
    outcome = np.concatenate([base + shift for shift in shifts])
    return pd.DataFrame({"variant": variant, "arm": (variant != "C").astype(int), "outcome": outcome})


def several(count):
    return {**SEVERAL, "treated_values": tuple("ABDE"[:count])}


def test_arms_against_control_are_dunnetts_test():
    frame = balanced((0, 0.9, 0.4, -0.2))
    found = arms(make_study(frame, several(3), covariates=()))
    groups = {name: rows["outcome"].to_numpy() for name, rows in frame.groupby("variant")}
    test = stats.dunnett(*(groups[name] for name in "ABD"), control=groups["C"], rng=np.random.default_rng(1))
    assert [e.p_simultaneous for e in found.against_control] == pytest.approx(test.pvalue, abs=2e-3)
    bounds = test.confidence_interval(0.95)
    assert [e.estimate.low for e in found.against_control] == pytest.approx(bounds.low, abs=5e-3)
    assert found.against_control[0].single_low > found.against_control[0].estimate.low
    assert (found.df, found.estimates[0].n["treated"]) == (44, 12)


def test_arms_among_each_other_are_tukeys_test():
    frame = balanced((0, 0.9, 0.4, -0.2))
    compared = compare(drawn(frame["outcome"], frame["variant"].map("CABD".index)))
    family = Family.of(compared, [(2, 1), (3, 1), (3, 2)], 4, df=44)
    assert family.critical(0.95) == pytest.approx(
        stats.studentized_range.ppf(0.95, 3, 44) / math.sqrt(2), abs=3e-3
    )
    t = np.abs(family.value / family.se) * math.sqrt(2)
    assert family.p_values[1] == pytest.approx(stats.studentized_range.sf(t, 3, 44), abs=2e-3)


def test_holm_by_hand_and_single_intervals_as_agreed():
    frame = balanced((0, 1.2, 0.9))
    study = make_study(frame, SEVERAL, covariates=(), agreement={"multiplicity": "holm"})
    found = arms(study)
    small, large = sorted(e.p_value for e in found.against_control)
    assert sorted(e.p_holm for e in found.against_control) == pytest.approx(sorted([2 * small, large]))
    assert found.estimates[0].low == found.against_control[0].single_low
    one = ab.difference_in_means(study.versus("A"))
    assert (one.value, one.se) == (
        pytest.approx(found.estimates[0].value),
        pytest.approx(found.estimates[0].se),
    )


def test_holm_is_statsmodels():
    p = np.array([0.04, 0.001, 0.03, 0.9, 0.03])
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_the_family_holds_together():
    rng, runs, held = np.random.default_rng(20), 150, 0
    sizes, truth = {"C": 40, "A": 20, "B": 15}, {"A": 0.5, "B": 0.0}
    variant = np.repeat(list(sizes), list(sizes.values()))
    scale = np.where(variant == "B", 2.0, 1.0)
    for _ in range(runs):
        outcome = scale * rng.normal(size=75) + 0.5 * (variant == "A")
        frame = pd.DataFrame({"variant": variant, "arm": (variant != "C").astype(int), "outcome": outcome})
        found = arms(make_study(frame, SEVERAL, covariates=(), level=0.9))
        held += all(e.estimate.low <= truth[e.arm] <= e.estimate.high for e in found.against_control)
    assert abs(held / runs - 0.9) < MONTE_CARLO * math.sqrt(0.09 / runs) + 0.02


def test_sentences_of_arms_that_gain_lose_or_do_nothing():
    def said(*shifts, **sections):
        return arms(make_study(balanced(shifts), SEVERAL, covariates=(), **sections)).sentence

    assert said(0, 0.1, -0.1) == (
        "Allowing for 2 comparisons, no arm can be told from control; the program arms cannot be told from each other."
    )
    assert said(0, 3, -3) == (
        "Allowing for 2 comparisons, A does better than control, B does worse than control; between program arms, A does "
        "better than B."
    )
    assert "A does worse than control" in said(0, 3, 0, kpi={"direction": "decrease"})
    assert "A and B do better than control; the program arms cannot be told" in said(0, 3, 3)


def test_adjusted_arms_are_lins_regression_with_an_interaction_for_each_arm():
    rng = np.random.default_rng(21)
    variant = rng.choice(list("CAB"), 150)
    frame = pd.DataFrame({"variant": variant, "arm": (variant != "C").astype(int), "x": rng.normal(size=150)})
    frame["outcome"] = frame["x"] * (1 + (variant == "B")) + rng.normal(size=150)
    study = make_study(frame, SEVERAL, covariates=("x",), agreement={"estimator": "adjusted"})
    found = arms(study)
    x = frame["x"] - frame["x"].mean()
    dummies = pd.DataFrame({name: (variant == name).astype(float) for name in "AB"})
    design = dummies.assign(x=x, ax=x * dummies["A"], bx=x * dummies["B"])
    fit = sm.OLS(frame["outcome"], sm.add_constant(design)).fit(cov_type="HC2")
    assert [e.value for e in found.estimates] == pytest.approx([fit.params["A"], fit.params["B"]])
    assert [e.se for e in found.estimates] == pytest.approx([fit.bse["A"], fit.bse["B"]])
    assert found.df == fit.df_resid
    between = found.against_each_other[0].estimate
    contrast = np.array([0, -1, 1, 0, 0, 0])
    assert between.se == pytest.approx(math.sqrt(contrast @ fit.cov_params().to_numpy() @ contrast))


def test_small_arms_are_left_out_and_one_arm_has_no_table():
    frame = balanced((0, 1, 2, 3))
    few = frame.drop(frame.index[frame["variant"] == "D"][5:])
    found = arms(make_study(few, several(3), covariates=()))
    assert found.left_out == ("D",) and "fewer than 10 agents: arm D" in found.caution
    assert arms(make_study(frame[frame["variant"] != "D"].drop(columns="variant"), covariates=())) is None
    assert arms(make_study(frame[frame["variant"].isin(["C", "A"])], SEVERAL, covariates=())) is None


def test_rates_of_arms_are_totals_over_totals():
    rng = np.random.default_rng(22)
    frame = balanced((0, 1, 2), n=40)
    frame["exposure"] = rng.uniform(1, 9, 120)
    frame["count"] = rng.poisson(frame["exposure"] * (2 + 0.5 * frame["arm"]))
    frame["outcome"] = frame["count"] / frame["exposure"]
    kpi = {"value_type": "rate", "exposure_column": "hours"}
    found = arms(make_study(frame, SEVERAL, covariates=(), kpi=kpi))
    totals = frame.groupby("variant")[["count", "exposure"]].sum()
    rate = totals["count"] / totals["exposure"]
    assert [e.value for e in found.estimates] == pytest.approx([rate["A"] - rate["C"], rate["B"] - rate["C"]])


def test_the_figure_of_arms_says_what_the_table_says():
    found = arms(make_study(balanced((0, 3, 0)), SEVERAL, covariates=()))
    figure = arms_effects(found)
    assert figure.title == found.sentence.removesuffix(".")
    assert "A: " in figure.alt and "B against A: " in figure.alt and len(figure.table) == 3
    assert figure.png().startswith(b"\x89PNG") and arms_effects(None) is None
