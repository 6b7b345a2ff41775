"""Bayesian estimate of a program's effect: prior, model, posterior, and the checks that could break it."""

from ldlab.bayes.checks import convergence_checks, posterior_predictive_checks, predictive
from ldlab.bayes.compiled import Sampling
from ldlab.bayes.compliers import ComplierPosterior, complier_check, complier_effect, complier_estimate
from ldlab.bayes.exact import ExactBeta, exact_beta
from ldlab.bayes.kpis import KpiPosterior, KpiPosteriors, kpis
from ldlab.bayes.other_priors import ExpectedLoss, expected_loss, prior_check, under_other_priors
from ldlab.bayes.panel import PanelPosterior
from ldlab.bayes.panel_events import EventEffects, event_effects
from ldlab.bayes.posterior import (
    Posterior,
    estimate,
    fit,
    model,
    prior_effect_draws,
    segment_estimates,
    segments_alone,
    warm,
)
from ldlab.bayes.priors import Priors, priors
from ldlab.bayes.sites import PooledSites, pooled_sites
from ldlab.bayes.units import classical, unit_changes
from ldlab.bayes.variants import Variants, variants

__all__ = [
    "ComplierPosterior",
    "EventEffects",
    "ExactBeta",
    "ExpectedLoss",
    "KpiPosterior",
    "KpiPosteriors",
    "PanelPosterior",
    "PooledSites",
    "Posterior",
    "Priors",
    "Sampling",
    "Variants",
    "classical",
    "complier_check",
    "complier_effect",
    "complier_estimate",
    "convergence_checks",
    "estimate",
    "event_effects",
    "exact_beta",
    "expected_loss",
    "fit",
    "kpis",
    "model",
    "pooled_sites",
    "posterior_predictive_checks",
    "predictive",
    "prior_check",
    "prior_effect_draws",
    "priors",
    "segment_estimates",
    "segments_alone",
    "under_other_priors",
    "unit_changes",
    "variants",
    "warm",
]
