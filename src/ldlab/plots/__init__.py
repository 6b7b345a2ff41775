"""Frame or estimates + title -> Figure: one style, titles that are claims, alternative text, nobody's own point."""

from ldlab.plots.effects import event_study, interval, segments
from ldlab.plots.figure import Figure
from ldlab.plots.money import net_benefit, tornado
from ldlab.plots.observational import balance_after_weighting, overlap
from ldlab.plots.posterior import diagnostics, posterior_predictive, prior_posterior, prior_predictive
from ldlab.plots.samples import arms, balance, trends

__all__ = [
    "Figure",
    "arms",
    "balance",
    "balance_after_weighting",
    "diagnostics",
    "event_study",
    "interval",
    "net_benefit",
    "overlap",
    "posterior_predictive",
    "prior_posterior",
    "prior_predictive",
    "segments",
    "tornado",
    "trends",
]
