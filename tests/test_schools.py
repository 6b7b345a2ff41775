"""Both schools on one page: they agree, or what parts them is said, or the check fails."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from ldlab import ab, bayes
from ldlab.ab.schools import both_schools
from ldlab.estimate import Estimate
from tests.studies import make_study


def study_of(**kpi: Any) -> Any:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"arm": np.arange(40) % 2, "outcome": rng.normal(size=40)})
    return make_study(frame, covariates=(), kpi=kpi)


STUDY = study_of()


def answer(value: float, se: float, method: str = "difference in means", **changes: Any) -> Estimate:
    rest = {"method": method, "estimand": "ATE", "se_kind": "HC2", "n": {"observations": 400}, "term": ""}
    return Estimate.from_t(value, se, df=None, **{**rest, **STUDY.measure(), **changes})


def model(value: float, se: float, method: str = "Bayesian linear regression", **changes: Any) -> Estimate:
    return answer(value, se, method, **changes)


def test_answers_that_agree_say_so_in_one_sentence() -> None:
    found = both_schools(answer(2.0, 0.5), model(1.95, 0.5))
    assert found is not None and found.agree and not found.contradict and found.reasons == ()
    assert found.sentence == "Both schools agree: +2.0 and +1.9 minutes, above zero by either."
    assert found.check.status == "passed" and found.check.needed
    null, worse = (
        both_schools(answer(0.1, 0.5), model(0.1, 0.5)),
        both_schools(answer(-2, 0.5), model(-2, 0.5)),
    )
    assert null is not None and "not told from zero by either" in null.sentence
    assert worse is not None and "below zero by either" in worse.sentence


def test_a_contradiction_without_reason_fails() -> None:
    """Opposite signs; and one that excludes zero where the other holds it by far."""
    for f, b in ((answer(2.0, 0.5), model(-2.0, 0.5)), (answer(2.0, 0.5), model(0.1, 0.5))):
        found = both_schools(f, b)
        assert found is not None and found.contradict and found.check.status == "failed"
        assert "nothing listed explains it: look at" in found.sentence


def test_bounds_on_either_side_of_zero_by_a_hair_are_no_contradiction() -> None:
    """2 - 1.96 = .04 above zero, 1.9 - 1.96 = -.06 below it by .06 errors."""
    found = both_schools(answer(2.0, 1.0), model(1.9, 1.0))
    assert found is not None and not found.contradict and not found.agree
    assert found.check.status == "passed" and "read it as open" in found.sentence


def test_the_priors_pull_by_hand() -> None:
    """Error 1, prior Normal(0, 1): half of 3 is kept, with error .71; 1.5 +- 1.39 still excludes zero, 2.4 / 2 does not."""
    pulled = both_schools(answer(3.0, 1.0), model(1.5, 0.707), prior_sd=1.0)
    assert pulled is not None and pulled.check.status == "passed" and not pulled.contradict
    assert (
        "the prior pulls the effect towards 0.0 by about 1.5 minutes (3.0 prior sds away" in pulled.sentence
    )
    explained = both_schools(answer(2.4, 1.0), model(1.2, 0.707), prior_sd=1.0)
    assert explained is not None and explained.contradict and explained.check.status == "passed"
    assert "because the prior pulls" in explained.check.sentence
    too_far = both_schools(answer(2.4, 1.0), model(0.0, 0.707), prior_sd=1.0)
    assert too_far is not None and too_far.check.status == "failed", (
        "a prior of that width does not pull so far"
    )
    other_way = both_schools(answer(2.4, 0.5), model(4.0, 0.5), prior_sd=1.0)
    assert other_way is not None and other_way.reasons == ()


def test_a_range_that_allows_for_looks_is_wider_by_design() -> None:
    wide = answer(2.5, 1.0).model_copy(update={"low": -1.0, "high": 6.0})
    found = both_schools(wide, model(2.5, 1.0))
    assert found is not None and found.contradict and found.check.status == "passed"
    assert "allows for several looks or comparisons by design" in found.sentence


def test_another_question_or_another_frequentist_answer() -> None:
    log = both_schools(answer(2.0, 0.5, scale="log", unit="log points"), model(-2.0, 0.5))
    assert log is not None and "different questions" in log.reasons[0] and log.check.status == "passed"
    raw = answer(0.1, 0.5, "difference in means, raw")
    found = both_schools(answer(2.0, 0.5), model(0.1, 0.5), beside=(raw,))
    assert found is not None and found.check.status == "passed"
    assert "the model agrees with the difference in means, raw" in found.sentence


@pytest.mark.parametrize(
    ("method", "value", "status"),
    [
        ("Bayesian negative binomial regression", 1.0, "passed"),
        ("Bayesian negative binomial regression", 0.0, "failed"),
        ("Bayesian robust (Student-t) regression", 0.0, "passed"),
        ("Bayesian linear regression, partially pooled segments", 1.0, "passed"),
        ("Bayesian logistic regression", 1.0, "failed"),
    ],
)
def test_another_likelihood_accounts_for_a_standard_error_not_for_more(
    method: str, value: float, status: str
) -> None:
    """Frequentist 2 +- .8 excludes zero, the model holds it; logit and least squares fit the same shares."""
    found = both_schools(answer(2.0, 0.8), model(value, 1.2, method))
    assert found is not None and found.contradict and found.check.status == status


def test_rows_that_one_of_them_leaves_out() -> None:
    fewer = answer(2.0, 0.9, n={"observations": 300})
    found = both_schools(fewer, model(1.2, 0.9))
    assert found is not None and "frequentist answer leaves out 25% of the rows" in found.sentence
    assert found.check.status == "passed"


def test_nothing_to_compare() -> None:
    assert both_schools(None, model(1, 1)) is None and both_schools(answer(1, 1), None) is None


@pytest.mark.parametrize("effect", [0.0, 1.0, -1.0])
def test_the_real_answers_of_one_study_agree(effect: float) -> None:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"arm": np.arange(300) % 2, "x1": rng.normal(size=300)})
    frame["outcome"] = effect * frame["arm"] + frame["x1"] + rng.normal(size=300)
    study = make_study(frame)
    prior, (plain, adjusted) = bayes.priors(study), ab.estimates(study)
    posterior = bayes.estimate(bayes.fit(study))
    found = both_schools(
        adjusted, posterior, prior_mean=prior.effect_mean, prior_sd=prior.effect_sd, beside=(plain,)
    )
    assert found is not None and found.agree and found.check.status == "passed"
    assert list(found.table["school"]) == ["frequentist", "Bayesian"]
    said = {0.0: f"{1 - adjusted.p_gain:.3f}", 1.0: "under 0.001", -1.0: "over 0.999"}[effect]
    assert said in set(found.table["one-sided p"])


def test_a_strong_prior_against_the_data_is_named_on_real_answers() -> None:
    """Agreed prior Normal(0, .1) with an error of about .23: the model shrinks it to a sixth."""
    rng = np.random.default_rng(6)
    frame = pd.DataFrame({"arm": np.arange(300) % 2})
    frame["outcome"] = 0.6 * frame["arm"] + rng.normal(0, 2, 300)
    study = make_study(frame, covariates=(), priors={"effect": {"sd": 0.1}})
    lead, posterior = ab.estimates(study)[0], bayes.estimate(bayes.fit(study))
    named = both_schools(lead, posterior, prior_sd=0.1)
    silent = both_schools(lead, posterior)
    assert named is not None and named.contradict and named.check.status == "passed"
    assert "the prior pulls" in named.sentence
    assert silent is not None and silent.check.status == "failed"


def test_chances_are_never_shown_as_certain() -> None:
    for value, said in ((4.0, "under 0.001"), (-4.0, "over 0.999")):
        found = both_schools(answer(value, 0.5), model(value, 0.5))
        assert found is not None and said in set(found.table["one-sided p"]) and f"p {said}" in str(found)


def test_ranges_of_other_widths_are_accounted_for_where_both_agree() -> None:
    looks = answer(2.0, 0.5).model_copy(update={"low": 0.2, "high": 3.8})
    always = both_schools(looks, model(2.0, 0.5))
    assert always is not None and always.agree
    assert always.sentence.endswith(
        "The frequentist range is 1.8 times as wide: it allows for several looks or comparisons by design."
    )
    few = looks.model_copy(update={"se_kind": "permutation of whole clusters (team), 20 assignments"})
    dealt = both_schools(few, model(2.0, 0.5))
    assert (
        dealt is not None and "looks" not in dealt.sentence and "dealing few clusters anew" in dealt.sentence
    )
    pairs = both_schools(answer(4.0, 0.5, se_kind="between strata"), model(4.0, 1.0))
    assert (
        pairs is not None and "Bayesian range is 2.0 times as wide: the model does not hold" in pairs.sentence
    )
