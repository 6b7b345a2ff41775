"""Checks that could break an estimate: passed, failed or not run, with what they could have seen.

A check that does not apply to the design is no check: its function returns None.
"""

from ldlab.checks.arms import balance, balance_table, missing_kpi, sample_ratio, take_up
from ldlab.checks.attrition import attrition
from ldlab.checks.clusters import enough_clusters
from ldlab.checks.fairness import Before, anticipation, nomination_dip, other_changes
from ldlab.checks.honest import Honest, honest_trends
from ldlab.checks.methods import methods_agree, second_method
from ldlab.checks.panels import robust_to_staggering, staggered_weights
from ldlab.checks.placebos import Tried, placebo, placebo_group, placebo_kpis, spillover
from ldlab.checks.received import training_took_place
from ldlab.checks.trends import Leads, leads

__all__ = [
    "Before",
    "Honest",
    "Leads",
    "Tried",
    "anticipation",
    "attrition",
    "balance",
    "balance_table",
    "enough_clusters",
    "honest_trends",
    "leads",
    "methods_agree",
    "missing_kpi",
    "nomination_dip",
    "other_changes",
    "placebo",
    "placebo_group",
    "placebo_kpis",
    "robust_to_staggering",
    "sample_ratio",
    "second_method",
    "spillover",
    "staggered_weights",
    "take_up",
    "training_took_place",
]
