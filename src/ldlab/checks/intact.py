"""All that can break an experiment's claim, whoever analyses it: one list for every notebook that shows its effect."""

from __future__ import annotations

from ldlab.checks.attrition_arms import attrition_by_arm
from ldlab.checks.experiment import (
    before_known_alike,
    clusters_kept_whole,
    comparison_kept_apart,
    contamination,
    exposed_before_assignment,
    kpi_varies,
    people_in_two_arms,
)
from ldlab.checks.peeking import planned_looks
from ldlab.checks.sample_ratios import sample_ratio_by_day, sample_ratio_by_segment, sample_ratio_by_stratum
from ldlab.estimate import Check
from ldlab.program import Study


def intact(study: Study) -> tuple[Check, ...]:
    """Whether the experiment is intact, beside ``sample_ratio``, ``balance`` and ``missing_kpi``, which every design has.

    Parameters
    ----------
    study
        With all its arms.

    Returns
    -------
    tuple of Check
        Those that apply, in the order of the notebook ab_test; empty where nobody drew lots.
    """
    if study.program.design.kind != "randomised":
        return ()
    found = (
        sample_ratio_by_segment(study),
        sample_ratio_by_stratum(study),
        sample_ratio_by_day(study),
        people_in_two_arms(study),
        clusters_kept_whole(study),
        before_known_alike(study),
        exposed_before_assignment(study),
        comparison_kept_apart(study),
        contamination(study),
        kpi_varies(study),
        attrition_by_arm(study),
        planned_looks(study.lead_comparison),
    )
    return tuple(check for check in found if check is not None)
