"""What was believed before the data: priors in KPI units, carried to the scale on which a model adds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import special

from ldlab.bayes.panel_series import Series, series_of
from ldlab.bayes.units import Family, Units, units_of
from ldlab.estimate import Printed, format_number
from ldlab.program import CrossProducts, Question, Study

Link = Literal["identity", "logit", "log", "ordinal"]
LINKS: dict[str, Link] = {"binary": "logit", "count": "log", "ordinal": "ordinal"}
LOGISTIC_SD = math.pi / 3**0.5  # of the latent variable behind a cumulative logit


@dataclass(frozen=True, repr=False)
class Priors(Printed):
    """Priors, effects in KPI units; made by :func:`priors`.

    Attributes
    ----------
    unit, link
        Unit of effects; the scale on which the model adds: identity, logit (binary), log (counts, rates),
        cumulative logit (ordinal).
    effect_mean, effect_sd
        The mean of the segments' effects ~ Normal, in effect units; without segments, the average effect.
    segment_sd
        Scale of the half-normal prior for the sd of segment effects around that mean, in effect units.
    link_effect_mean, link_effect_sd, link_segment_sd
        The same on the link scale, see :func:`on_link`.
    baseline_mean, baseline_sd, slope_sd, interaction_sd, cluster_sd
        Normal (cluster_sd: half-normal) priors on the link scale: the comparison arm's mean in a segment (flat for
        Gaussian KPIs without clusters); slopes of covariates and what training changes in them, per sd of the
        covariate; spread of clusters.
    slope
        KPI units per unit of the link, at the baseline.
    any_level
        The comparison mean has a flat prior instead (Gaussian KPIs without clusters).
    residual_scale
        Mean of the exponential prior of each arm's residual sd (KPIs on the identity scale).
    """

    unit: str
    link: Link
    effect_mean: float
    effect_sd: float
    segment_sd: float
    link_effect_mean: float
    link_effect_sd: float
    link_segment_sd: float
    baseline_mean: float
    baseline_sd: float
    slope_sd: float
    interaction_sd: float
    cluster_sd: float
    residual_scale: float
    slope: float
    any_level: bool = False

    def _rows(self) -> list[tuple[str, str]]:
        low, high = (self._number(end, sign=True) for end in self._nine_in_ten())
        rows = [
            (
                "average effect",
                f"{'about ' if self.link in ('logit', 'log') else ''}"
                f"Normal({self._number(self.effect_mean)}, {self._number(self.effect_sd)}) {self.unit}: "
                f"9 in 10 between {low} and {high}",
            ),
            (
                "how far segments differ",
                f"half-normal with scale {self._number(self.segment_sd)} {self.unit}",
            ),
        ]
        scale = {"identity": "", "logit": " log odds", "log": " on the log scale", "ordinal": " log odds"}[
            self.link
        ]
        if self.link != "identity":
            effect = f"Normal({self.link_effect_mean:.2g}, {self.link_effect_sd:.2g}){scale}"
            rows.append(("the same in the model", f"{effect}; segments {self.link_segment_sd:.2g}"))
        rows += [
            ("comparison mean", self._baseline_text(scale)),
            ("slope of a covariate", f"Normal(0, {self._number(self.slope_sd)}){scale} per sd"),
            ("what training adds to it", f"Normal(0, {self._number(self.interaction_sd)}){scale} per sd"),
        ]
        if self.link == "identity":
            rows.append(
                ("residual sd of an arm", f"exponential with mean {self._number(self.residual_scale)}")
            )
        return rows

    def _nine_in_ten(self) -> tuple[float, float]:
        """The prior's range of the average effect in effect units, by the model's own scale at the baseline."""
        if self.link not in ("logit", "log"):
            return self.effect_mean - 1.645 * self.effect_sd, self.effect_mean + 1.645 * self.effect_sd
        ends = self.baseline_mean + self.link_effect_mean + np.array([-1.645, 1.645]) * self.link_effect_sd
        back = (lambda x: 100 * special.expit(x)) if self.link == "logit" else np.exp
        low, high = back(ends) - back(self.baseline_mean)
        return float(low), float(high)

    def _baseline_text(self, scale: str) -> str:
        if self.any_level:
            return "any value is equally likely, in each segment"
        if self.link == "ordinal":
            return "every division of people over the categories is equally likely"
        return f"Normal({self._number(self.baseline_mean)}, {self._number(self.baseline_sd)}){scale}"

    def _number(self, value: float, *, sign: bool = False) -> str:
        """Three digits of the effect's scale."""
        size = max(abs(value), self.effect_sd) if self.link == "identity" else max(abs(value), 0.1)
        return format_number(value, max(0, 2 - math.floor(math.log10(size))), sign=sign)


class PanelPriors(Priors):
    """Priors of a staggered panel's effects, in KPI units; cohorts' levels and periods may have any value."""

    def _rows(self) -> list[tuple[str, str]]:
        spread = f"half-normal with scale {self._number(self.segment_sd)} {self.unit}"
        return [
            super()._rows()[0],
            (
                "growth since the start",
                f"Normal(0, {self._number(self.segment_sd)}) {self.unit}, as sd over the trained",
            ),
            ("how far it bends, and cohorts and cells differ", f"each {spread}"),
            ("levels of cohorts, and periods", "any value is equally likely"),
        ]


def panel_priors(series: Series) -> PanelPriors:
    """As :func:`priors`, from a reduced panel; the KPI's sd is that of a unit's change between two periods."""
    made = priors_for(series.study, "gaussian", 0.0, series.sd)
    return PanelPriors(**{name: getattr(made, name) for name in made.__dataclass_fields__})


def priors(study: Study | CrossProducts) -> Priors:
    """The priors that the program file gives, and documented defaults for the rest.

    Parameters
    ----------
    study : Study or CrossProducts
        One row per unit; a two-group before/after panel, which is collapsed to changes per unit first; or a
        staggered panel. In panels 'the KPI' is the change of an untrained unit.

    Returns
    -------
    Priors
        Effect: ``priors.effect`` of the file (in effect units: percentage points for a binary KPI, log points
        on a log scale); default mean 0 and sd the larger of twice the target's size and half the KPI's sd in
        the comparison arm. Segments: ``priors.segment_sd``; default half the effect's sd. The rest is weakly
        informative on the comparison arm's scale (as in rstanarm's default priors, with slopes held tighter:
        1 sd of the KPI per sd of a covariate, half of that for interactions).

    Raises
    ------
    LdlabError
        Wrong design; an arm under the minimum group size; a covariate that equals the treatment.
    """
    if isinstance(study, CrossProducts):
        comparison = study.arms().loc["comparison", ["mean", "sd"]].to_numpy(dtype=float)
        any_level = study.cluster is None
        return replace(
            priors_for(study, "gaussian", float(comparison[0]), float(comparison[1])), any_level=any_level
        )
    if study.program.design.kind == "staggered":
        return panel_priors(series_of(study))
    return priors_of(units_of(study))


def priors_of(units: Units) -> Priors:
    """As :func:`priors`, from arrays."""
    any_level = units.family == "gaussian" and units.cluster is None and units.own_levels
    return replace(priors_for(units.study, units.family, *_comparison(units)), any_level=any_level)


def priors_for(question: Question, family: Family, mean: float, sd: float) -> Priors:
    """As :func:`priors`, from the comparison arm's mean and sd in effect units."""
    link: Link = LINKS.get(family, "identity")
    agreed = question.program.priors
    effect_mean, effect_sd = 0.0, max(2 * abs(question.target), sd / 2)
    if agreed.effect is not None:
        effect_mean, effect_sd = agreed.effect.mean, agreed.effect.sd
    segment_sd = agreed.segment_sd if agreed.segment_sd is not None else effect_sd / 2
    spread = {"identity": sd, "logit": 0.5, "log": 0.25, "ordinal": 0.5}[link]
    base = {
        "identity": mean,
        "logit": special.logit(mean / 100),
        "log": np.log(abs(mean) or 1.0),
        "ordinal": 0.0,
    }
    slope = {
        "identity": 1.0,
        "logit": mean / 100 * (1 - mean / 100),
        "log": mean,
        "ordinal": sd / LOGISTIC_SD,
    }
    unfinished = Priors(
        unit=question.program.kpi.effect_unit,
        link=link,
        effect_mean=effect_mean,
        effect_sd=effect_sd,
        segment_sd=segment_sd,
        link_effect_mean=0.0,
        link_effect_sd=1.0,
        link_segment_sd=1.0,
        baseline_mean=float(base[link]),
        baseline_sd=2.5 * sd if link == "identity" else 1.5 * spread,
        slope_sd=spread,
        interaction_sd=spread / 2,
        cluster_sd=sd / 2 if link == "identity" else 0.5,
        residual_scale=sd,
        slope=float(slope[link]),
    )
    return with_effect(unfinished, effect_mean, effect_sd, segment_sd)


def with_effect(prior: Priors, mean: float, sd: float, segment_sd: float) -> Priors:
    """The same priors with another one for the effect, in effect units."""
    baseline = prior.baseline_mean
    if prior.link == "logit":
        baseline = 100 * float(special.expit(baseline))
    elif prior.link == "log":
        baseline = float(np.exp(baseline))
    if prior.link == "ordinal":
        link_mean, link_sd, link_segment = mean / prior.slope, sd / prior.slope, segment_sd / prior.slope
    else:
        link_mean, link_sd = on_link(prior.link, baseline, mean, sd)
        link_segment = on_link(prior.link, baseline, 0.0, segment_sd)[1]
    return replace(
        prior,
        effect_mean=mean,
        effect_sd=sd,
        segment_sd=segment_sd,
        link_effect_mean=link_mean,
        link_effect_sd=link_sd,
        link_segment_sd=link_segment,
    )


def _comparison(units: Units) -> tuple[float, float]:
    """Mean and sd of the KPI in the comparison arm, in effect units; never on the edge of what it can be."""
    rows = units.arm == 0
    y, exposure = units.outcome[rows], units.exposure[rows]
    if units.family == "binary":
        share = (y.sum() + 0.5) / (len(y) + 1)
        return 100 * share, 100 * float(np.sqrt(share * (1 - share)))
    if units.family == "count":
        mean = float((y.sum() + 0.5) / exposure.sum())
        return mean, max(float((y / exposure).std(ddof=1)), mean / len(y) ** 0.5)
    return float(y.mean()), float(y.std(ddof=1))


def on_link(link: Link, baseline: float, mean: float, sd: float) -> tuple[float, float]:
    """Mean and sd on the link scale of an effect that is Normal(mean, sd) in effect units.

    The normal on the link scale is exact at the mean and one sd from it, on the side where the KPI has more
    room. For small effects this is the delta approximation, sd times the link's slope at the baseline; unlike
    it, it does not blow up for rare events.

    Examples
    --------
    >>> [round(x, 3) for x in on_link("logit", 50.0, 0.0, 1.0)]
    [0.0, 0.04]
    """
    if link == "identity":
        return mean, sd
    if link == "log":
        centre = max(baseline + mean, baseline / 20)
        return float(np.log(centre / baseline)), float(np.log1p(sd / centre))
    share = np.clip((baseline + mean) / 100, 0.005, 0.995)
    away = np.clip(share + (sd / 100 if share < 0.5 else -sd / 100), 0.005, 0.995)
    centre = special.logit(share)
    return float(centre - special.logit(baseline / 100)), float(abs(special.logit(away) - centre))
