"""Panels: group-time effects, imputation, two-way fixed effects; whether the comparison is fair, and how sure it is."""

from ldlab.did.attrition import Attrition, LeeBounds, attrition, lee_bounds
from ldlab.did.estimators import Beside, before_after, beside, lead_estimate, placebo_start
from ldlab.did.events import EventStudy, effects_since_start, event_study, first_differences, period_effects
from ldlab.did.group_time import GroupTime, by_cohort_and_period, group_time
from ldlab.did.honest import Bound, HonestBounds, honest_bounds
from ldlab.did.inference import Inference, Inferred, infer, plan_inference
from ldlab.did.placebos import LastBefore, Placebo, last_before_start, placebo_group, placebo_kpis, spillover
from ldlab.did.received import FlagAlone, effect_per_dose, flag_alone, training_received
from ldlab.did.two_way import first_difference, negative_weights, two_way_fixed_effects
from ldlab.did.untreated import imputation
from ldlab.did.weights import GoodmanBacon, TwoByTwo, goodman_bacon
from ldlab.did.wild_bootstrap import wild_cluster_p_value

__all__ = [
    "Attrition",
    "Beside",
    "Bound",
    "EventStudy",
    "FlagAlone",
    "GoodmanBacon",
    "GroupTime",
    "HonestBounds",
    "Inference",
    "Inferred",
    "LastBefore",
    "LeeBounds",
    "Placebo",
    "TwoByTwo",
    "attrition",
    "before_after",
    "beside",
    "by_cohort_and_period",
    "effect_per_dose",
    "effects_since_start",
    "event_study",
    "first_difference",
    "first_differences",
    "flag_alone",
    "goodman_bacon",
    "group_time",
    "honest_bounds",
    "imputation",
    "infer",
    "last_before_start",
    "lead_estimate",
    "lee_bounds",
    "negative_weights",
    "period_effects",
    "placebo_group",
    "placebo_kpis",
    "placebo_start",
    "plan_inference",
    "spillover",
    "training_received",
    "two_way_fixed_effects",
    "wild_cluster_p_value",
]
