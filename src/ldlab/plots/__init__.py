"""Frame or estimates + title -> Figure: one style, titles that are claims, alternative text, nobody's own point."""

from ldlab.plots.arms_effects import arms_effects
from ldlab.plots.cohorts import cohort_effects
from ldlab.plots.effects import event_study, interval, segments
from ldlab.plots.exploratory import exploratory, for_whom
from ldlab.plots.figure import Figure
from ldlab.plots.honest import honest_bounds
from ldlab.plots.kpis import kpis
from ldlab.plots.money import net_benefit, tornado
from ldlab.plots.observational import balance_after_weighting, overlap
from ldlab.plots.panel import panel_view
from ldlab.plots.path import path
from ldlab.plots.permutation import permutation
from ldlab.plots.plan import power_curve, smallest_over_time
from ldlab.plots.posterior import diagnostics, posterior_predictive, prior_posterior, prior_predictive
from ldlab.plots.samples import arms, balance, trends
from ldlab.plots.weights import comparison_weights

__all__ = [
    "Figure",
    "arms",
    "arms_effects",
    "balance",
    "balance_after_weighting",
    "cohort_effects",
    "comparison_weights",
    "diagnostics",
    "event_study",
    "exploratory",
    "for_whom",
    "honest_bounds",
    "interval",
    "kpis",
    "net_benefit",
    "overlap",
    "panel_view",
    "path",
    "permutation",
    "posterior_predictive",
    "power_curve",
    "prior_posterior",
    "prior_predictive",
    "segments",
    "smallest_over_time",
    "tornado",
    "trends",
]
