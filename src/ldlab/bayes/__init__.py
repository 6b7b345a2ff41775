"""Bayesian estimate of a program's effect: prior, model, posterior, and the checks that could break it."""

from ldlab.bayes.checks import convergence_checks, posterior_predictive_checks, predictive
from ldlab.bayes.compiled import Sampling
from ldlab.bayes.posterior import Posterior, estimate, fit, model, prior_effect_draws, segment_estimates
from ldlab.bayes.priors import Priors, priors
from ldlab.bayes.sites import PooledSites, pooled_sites
from ldlab.bayes.units import unit_changes

__all__ = [
    "PooledSites",
    "Posterior",
    "Priors",
    "Sampling",
    "convergence_checks",
    "estimate",
    "fit",
    "model",
    "pooled_sites",
    "posterior_predictive_checks",
    "predictive",
    "prior_effect_draws",
    "priors",
    "segment_estimates",
    "unit_changes",
]
