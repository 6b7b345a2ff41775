"""Checks that could break an estimate: passed, failed or not run, with what they could have seen.

A check that does not apply to the design is no check: its function returns None.
"""

from ldlab.checks.arms import balance, balance_table, enough_clusters, missing_kpi, sample_ratio, take_up
from ldlab.checks.methods import methods_agree, second_method
from ldlab.checks.panels import Leads, leads, placebo, robust_to_staggering, staggered_weights

__all__ = [
    "Leads",
    "balance",
    "balance_table",
    "enough_clusters",
    "leads",
    "methods_agree",
    "missing_kpi",
    "placebo",
    "robust_to_staggering",
    "sample_ratio",
    "second_method",
    "staggered_weights",
    "take_up",
]
