"""What the prior does to the answer, and what either decision would lose on average."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from ldlab.bayes.compiled import Sampling
from ldlab.bayes.posterior import Posterior, estimate, fit
from ldlab.bayes.priors import Priors, with_effect
from ldlab.estimate import Check, Estimate, Printed

SCEPTIC = 0.05  # chance that a sceptic gives the target
FLAT = 20  # times the agreed sd, at least: as good as flat
FLAT_ON_LINK = 5.0  # log odds or logs: beyond any effect that people can have


def under_other_priors(posterior: Posterior, *, sampling: Sampling | None = None) -> tuple[Estimate, ...]:
    """The effect under a sceptic's prior, the agreed one, and one that is as good as flat.

    The sceptic expects nothing and gives the target a chance of 1 in 20: Normal(0, target / 1.645), after Spiegelhalter,
    Freedman and Parmar (1994), Bayesian approaches to randomized trials, JRSS A 157(3). All else stays as agreed.

    Returns
    -------
    tuple of Estimate
        Sceptical, agreed, flat, with the prior's name as ``term``; the agreed one is the posterior's own.
    """
    agreed = posterior.priors
    named = {"sceptical prior": sceptical(agreed, posterior.study.target), "flat prior": flat(agreed)}
    others = {
        name: estimate(fit(posterior.study, prior=prior, sampling=sampling)) for name, prior in named.items()
    }
    own = estimate(posterior)
    rows = (
        ("sceptical prior", others["sceptical prior"]),
        ("agreed prior", own),
        ("flat prior", others["flat prior"]),
    )
    return tuple(row.model_copy(update={"term": name}) for name, row in rows)


def sceptical(prior: Priors, target: float) -> Priors:
    """Centred at no effect, with a chance of 5% for the target or better."""
    return with_effect(prior, 0.0, abs(target) / float(stats.norm.isf(SCEPTIC)), prior.segment_sd)


def flat(prior: Priors) -> Priors:
    """Wide enough that the data alone speak."""
    wide = with_effect(prior, 0.0, FLAT * max(prior.effect_sd, prior.slope_sd), prior.segment_sd)
    if prior.link == "identity":
        return wide
    return replace(wide, link_effect_mean=0.0, link_effect_sd=FLAT_ON_LINK)


def prior_check(estimates: tuple[Estimate, ...]) -> Check:
    """Whether the claim would be another one without the agreed prior.

    Failed where the interval excludes no effect under the agreed prior but not under the flat one, or the two have
    different signs: then the claim comes from what was believed, not from the data.
    """
    by_name = {estimate.term: estimate for estimate in estimates}
    agreed, free, doubt = (by_name[f"{name} prior"] for name in ("agreed", "flat", "sceptical"))
    decides = _direction(agreed) not in (0, _direction(free))
    sentence = (
        "What was believed beforehand decides: without it, the data do not show an effect in this direction."
        if decides
        else "What was believed beforehand does not decide: without it, the direction of the claim is the same."
    )
    if not decides and _direction(agreed) and not _direction(doubt):
        sentence += " A sceptic who expected nothing would not be convinced yet."
    return Check(
        name="prior does not decide",
        status="failed" if decides else "passed",
        sentence=sentence,
        statistic=free.p_gain,
        statistic_name="chance of any gain under a flat prior",
        power="a prior that turns a range that holds zero into one that does not",
        needed=True,
    )


def _direction(estimate: Estimate) -> int:
    """+1 or -1 where the interval excludes zero, else 0."""
    return int(estimate.low > 0) - int(estimate.high < 0)


@dataclass(frozen=True, repr=False)
class ExpectedLoss(Printed):
    """What either decision would lose on average, in the unit that readers see.

    Attributes
    ----------
    scaling
        Mean shortfall below the smallest effect worth having, where there is one: what scaling would lose.
    stopping
        Mean excess over it: what stopping would lose.
    unit, smallest
        Unit of both, and the smallest effect worth having.
    """

    scaling: float
    stopping: float
    unit: str
    smallest: str

    def _rows(self) -> list[tuple[str, str]]:
        digits = max(0, 2 - int(np.floor(np.log10(max(self.scaling, self.stopping, 1e-9)))))
        return [
            ("measured from", f"the smallest effect worth having, {self.smallest} {self.unit}"),
            ("scaling would lose on average", f"{self.scaling:,.{digits}f} {self.unit}"),
            ("stopping would lose on average", f"{self.stopping:,.{digits}f} {self.unit}"),
            ("less is lost by", "scaling" if self.scaling < self.stopping else "stopping"),
        ]


def expected_loss(estimate: Estimate) -> ExpectedLoss:
    """Expected loss of scaling and of stopping, from the posterior draws of an estimate.

    With gain g and the smallest effect worth having s: E[max(0, s - g)] and E[max(0, g - s)] (Berger, 1985,
    Statistical Decision Theory, section 2.4).

    Raises
    ------
    ValueError
        If the estimate has no draws.
    """
    if estimate.draws is None:
        raise ValueError("estimate.draws is None, must be posterior draws")
    gain = estimate.sign * np.array([estimate.shown(draw) for draw in estimate.draws])
    smallest = estimate.sign * estimate.shown(estimate.smallest)
    return ExpectedLoss(
        scaling=float(np.maximum(smallest - gain, 0).mean()),
        stopping=float(np.maximum(gain - smallest, 0).mean()),
        unit=estimate.shown_unit,
        smallest=estimate.format(abs(estimate.smallest)).lstrip("−"),
    )
