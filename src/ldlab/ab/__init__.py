"""Cross-sections: difference in means, regression adjustment, percent effect, effect on those who came."""

from ldlab.ab.arms import ArmEffect, Arms, arm_estimates, arms
from ldlab.ab.at_scale import AtScale, at_scale
from ldlab.ab.attrition import Bounds, lee_bounds, worst_case_bounds
from ldlab.ab.blocks import Blocks, blocks
from ldlab.ab.boundaries import boundaries, chance_of_crossing, error_spent, false_alarms
from ldlab.ab.clusters import Clusters, assigned_difference, clusters
from ldlab.ab.compliers import (
    INSTRUMENT,
    INSTRUMENT_ADJUSTED,
    Compliers,
    complier_effect,
    complier_estimates,
    compliers,
)
from ldlab.ab.cuped import Cuped, cuped
from ldlab.ab.dose import DOSE_ASSUMES, PER_DOSE, Dose, dose_response
from ldlab.ab.experiment_plan import ExperimentPlan, plan_steps, plan_what_if
from ldlab.ab.from_sums import tea_tasting_table
from ldlab.ab.kpis import Kpis, kpis, p_value
from ldlab.ab.leading import estimates
from ldlab.ab.means import (
    ADJUSTED,
    ANCOVA,
    CONSTANT,
    DIFFERENCE,
    ErrorKind,
    arm_table,
    difference_in_means,
    regression_adjusted,
)
from ldlab.ab.normal import Tails, normal_approximation, tails
from ldlab.ab.paths import Path, adjusted_for_stopping, path
from ldlab.ab.percent import SMALLEST_RATIO, PercentEffect, percent_effect
from ldlab.ab.permutation import Permutation, beside, permutation
from ldlab.ab.plan_kept import PlanKept, plan_kept
from ldlab.ab.planning import plan
from ldlab.ab.ratio import Rates, rate_estimates, rates, ratio_difference
from ldlab.ab.schools import Schools, both_schools
from ldlab.ab.score import SCORE, score_interval
from ldlab.ab.segment_effects import SegmentEffect, Segments
from ldlab.ab.segments import exploratory_segments, segments
from ldlab.ab.sequential import (
    agreed,
    agreed_estimates,
    always_valid_bound,
    always_valid_p,
    looks_taken,
    peeking_rate,
)
from ldlab.ab.tails import RAW, TwoParts, Winsorised, raw_estimate, two_parts, winsorised

__all__ = [
    "ADJUSTED",
    "ANCOVA",
    "CONSTANT",
    "DIFFERENCE",
    "DOSE_ASSUMES",
    "INSTRUMENT",
    "INSTRUMENT_ADJUSTED",
    "PER_DOSE",
    "RAW",
    "SCORE",
    "SMALLEST_RATIO",
    "ArmEffect",
    "Arms",
    "AtScale",
    "Blocks",
    "Bounds",
    "Clusters",
    "Compliers",
    "Cuped",
    "Dose",
    "ErrorKind",
    "ExperimentPlan",
    "Kpis",
    "Path",
    "PercentEffect",
    "Permutation",
    "PlanKept",
    "Rates",
    "Schools",
    "SegmentEffect",
    "Segments",
    "Tails",
    "TwoParts",
    "Winsorised",
    "adjusted_for_stopping",
    "agreed",
    "agreed_estimates",
    "always_valid_bound",
    "always_valid_p",
    "arm_estimates",
    "arm_table",
    "arms",
    "assigned_difference",
    "at_scale",
    "beside",
    "blocks",
    "both_schools",
    "boundaries",
    "chance_of_crossing",
    "clusters",
    "complier_effect",
    "complier_estimates",
    "compliers",
    "cuped",
    "difference_in_means",
    "dose_response",
    "error_spent",
    "estimates",
    "exploratory_segments",
    "false_alarms",
    "kpis",
    "lee_bounds",
    "looks_taken",
    "normal_approximation",
    "p_value",
    "path",
    "peeking_rate",
    "percent_effect",
    "permutation",
    "plan",
    "plan_kept",
    "plan_steps",
    "plan_what_if",
    "rate_estimates",
    "rates",
    "ratio_difference",
    "raw_estimate",
    "regression_adjusted",
    "score_interval",
    "segments",
    "tails",
    "tea_tasting_table",
    "two_parts",
    "winsorised",
    "worst_case_bounds",
]
