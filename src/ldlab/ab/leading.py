"""All answers of an experiment to its question, the one that leads first, for every kind of KPI."""

from __future__ import annotations

from ldlab.ab.ratio import least_squares
from ldlab.ab.score import score_interval
from ldlab.ab.tails import raw_estimate
from ldlab.estimate import Estimate
from ldlab.program import Study


def estimates(study: Study) -> tuple[Estimate, ...]:
    """All answers to a study's question, the leading one first.

    Least squares lead (:func:`ldlab.ab.means.estimates`); for the rates of an experiment total over total
    (:func:`ldlab.ab.ratio_difference`), its units' own rates beside. Then, where they apply, the same estimator on the KPI
    before winsorising, and for few cases of a binary KPI the score interval.

    Raises
    ------
    LdlabError
        As :func:`ldlab.ab.regression_adjusted`.
    """
    found = least_squares(study)
    if study.program.design.kind != "randomised" or not found:
        return found
    beside = (raw_estimate(study), score_interval(study))
    return (*found, *(estimate for estimate in beside if estimate is not None))
