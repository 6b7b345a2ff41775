"""Panels: two-way fixed effects, imputation, effects since the start, placebo start, before and after."""

from ldlab.did.estimators import (
    before_after,
    first_difference,
    lead_estimate,
    negative_weights,
    placebo_start,
    two_way_fixed_effects,
)
from ldlab.did.events import EventStudy, effects_since_start, event_study, period_effects
from ldlab.did.untreated import imputation

__all__ = [
    "EventStudy",
    "before_after",
    "effects_since_start",
    "event_study",
    "first_difference",
    "imputation",
    "lead_estimate",
    "negative_weights",
    "period_effects",
    "placebo_start",
    "two_way_fixed_effects",
]
