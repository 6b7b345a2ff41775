"""Checks that could break an estimate: passed, failed or not run, with what they could have seen.

A check that does not apply to the design is no check: its function returns None.
"""

from ldlab.checks.arms import balance, balance_table, missing_kpi, sample_ratio, take_up
from ldlab.checks.at_scale import at_scale
from ldlab.checks.attrition import attrition
from ldlab.checks.attrition_arms import attrition_by_arm
from ldlab.checks.clusters import enough_clusters
from ldlab.checks.experiment import (
    before_known_alike,
    clusters_kept_whole,
    comparison_kept_apart,
    contamination,
    exposed_before_assignment,
    kpi_varies,
    people_in_two_arms,
)
from ldlab.checks.fairness import Before, anticipation, nomination_dip, other_changes
from ldlab.checks.honest import Honest, honest_trends
from ldlab.checks.intact import intact
from ldlab.checks.methods import methods_agree, second_method
from ldlab.checks.panels import robust_to_staggering, staggered_weights
from ldlab.checks.peeking import peeking, planned_looks
from ldlab.checks.placebos import Tried, placebo, placebo_group, placebo_kpis, spillover
from ldlab.checks.received import training_took_place
from ldlab.checks.sample_ratios import sample_ratio_by_day, sample_ratio_by_segment, sample_ratio_by_stratum
from ldlab.checks.trends import Leads, leads

__all__ = [
    "Before",
    "Honest",
    "Leads",
    "Tried",
    "anticipation",
    "at_scale",
    "attrition",
    "attrition_by_arm",
    "balance",
    "balance_table",
    "before_known_alike",
    "clusters_kept_whole",
    "comparison_kept_apart",
    "contamination",
    "enough_clusters",
    "exposed_before_assignment",
    "honest_trends",
    "intact",
    "kpi_varies",
    "leads",
    "methods_agree",
    "missing_kpi",
    "nomination_dip",
    "other_changes",
    "peeking",
    "people_in_two_arms",
    "placebo",
    "placebo_group",
    "placebo_kpis",
    "planned_looks",
    "robust_to_staggering",
    "sample_ratio",
    "sample_ratio_by_day",
    "sample_ratio_by_segment",
    "sample_ratio_by_stratum",
    "second_method",
    "spillover",
    "staggered_weights",
    "take_up",
    "training_took_place",
]
