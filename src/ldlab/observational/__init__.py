"""Designs without random assignment: comparable people first, then the effect, then what could explain it away.

Each function gives None (or nothing) where the design is another, so that one notebook serves all designs.
"""

from ldlab.observational.balance import balance_after_weighting, overlap, weighted_balance_table
from ldlab.observational.confounding import Benchmark
from ldlab.observational.effect import doubly_robust, negative_controls
from ldlab.observational.propensity import Propensity, propensity, trimmed
from ldlab.observational.sensitivity import Sensitivity, e_value, sensitivity

__all__ = [
    "Benchmark",
    "Propensity",
    "Sensitivity",
    "balance_after_weighting",
    "doubly_robust",
    "e_value",
    "negative_controls",
    "overlap",
    "propensity",
    "sensitivity",
    "trimmed",
    "weighted_balance_table",
]
