"""The model that a researcher can read: priors in KPI units, then one PyMC model per family of KPI."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from scipy import special

from ldlab.bayes.geometry import cluster_centring, segment_centring
from ldlab.bayes.units import ARMS, Floats, Units, group_cells, units_of
from ldlab.estimate import Printed, format_number
from ldlab.program import Study

Link = Literal["identity", "logit", "log"]
LINKS: dict[str, Link] = {"gaussian": "identity", "binary": "logit", "count": "log"}
LARGEST_DISPERSION = 1e6  # a negative binomial this close to Poisson can't be told from it, nor computed well


@dataclass(frozen=True, repr=False)
class Priors(Printed):
    """Priors, effects in KPI units; made by :func:`priors`.

    Attributes
    ----------
    unit, link
        Unit of effects; the scale on which the model adds: identity, logit (binary), log (counts, rates).
    effect_mean, effect_sd
        effect ~ Normal, in effect units: the average over the estimand's population.
    segment_sd
        Scale of the half-normal prior for the sd of segment effects around the average, in effect units.
    link_effect_mean, link_effect_sd, link_segment_sd
        The same on the link scale, see :func:`on_link`.
    baseline_mean, baseline_sd, slope_sd, interaction_sd, cluster_sd
        Normal (cluster_sd: half-normal) priors on the link scale: the comparison arm's mean; slopes of
        covariates and what training changes in them, per sd of the covariate; spread of clusters.
    slope
        KPI units per unit of the link, at the baseline.
    residual_scale
        Mean of the exponential prior of each arm's residual sd (Gaussian KPIs only).
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

    def _rows(self) -> list[tuple[str, str]]:
        low, high = (
            self._number(self.effect_mean + side * 1.645 * self.effect_sd, sign=True) for side in (-1, 1)
        )
        rows = [
            (
                "average effect",
                f"Normal({self._number(self.effect_mean)}, {self._number(self.effect_sd)}) {self.unit}: "
                f"9 in 10 between {low} and {high}",
            ),
            (
                "how far segments differ",
                f"half-normal with scale {self._number(self.segment_sd)} {self.unit}",
            ),
        ]
        scale = {"identity": "", "logit": " log odds", "log": " on the log scale"}[self.link]
        if self.link != "identity":
            effect = f"Normal({self.link_effect_mean:.2g}, {self.link_effect_sd:.2g}){scale}"
            rows.append(("the same in the model", f"{effect}; segments {self.link_segment_sd:.2g}"))
        rows += [
            (
                "comparison mean",
                f"Normal({self._number(self.baseline_mean)}, {self._number(self.baseline_sd)}){scale}",
            ),
            ("slope of a covariate", f"Normal(0, {self._number(self.slope_sd)}){scale} per sd"),
            ("what training adds to it", f"Normal(0, {self._number(self.interaction_sd)}){scale} per sd"),
        ]
        if self.link == "identity":
            rows.append(
                ("residual sd of an arm", f"exponential with mean {self._number(self.residual_scale)}")
            )
        return rows

    def _number(self, value: float, *, sign: bool = False) -> str:
        """Three digits of the effect's scale."""
        size = max(abs(value), self.effect_sd) if self.link == "identity" else max(abs(value), 0.1)
        return format_number(value, max(0, 2 - math.floor(math.log10(size))), sign=sign)


def priors(study: Study) -> Priors:
    """The priors that the program file gives, and documented defaults for the rest.

    Parameters
    ----------
    study : Study
        One row per unit, or a two-group before/after panel, which is collapsed to changes per unit first;
        'the KPI' is then that change.

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
    return priors_of(units_of(study))


def priors_of(units: Units) -> Priors:
    """As :func:`priors`, from arrays."""
    study, link = units.study, LINKS[units.family]
    agreed = study.program.priors
    mean, sd = _comparison(units)
    effect_mean, effect_sd = 0.0, max(2 * abs(study.target), sd / 2)
    if agreed.effect is not None:
        effect_mean, effect_sd = agreed.effect.mean, agreed.effect.sd
    segment_sd = agreed.segment_sd if agreed.segment_sd is not None else effect_sd / 2
    link_mean, link_sd = on_link(link, mean, effect_mean, effect_sd)
    spread = {"identity": sd, "logit": 0.5, "log": 0.25}[link]
    return Priors(
        unit=study.program.kpi.effect_unit,
        link=link,
        effect_mean=effect_mean,
        effect_sd=effect_sd,
        segment_sd=segment_sd,
        link_effect_mean=link_mean,
        link_effect_sd=link_sd,
        link_segment_sd=on_link(link, mean, 0.0, segment_sd)[1],
        baseline_mean=float(
            {"identity": mean, "logit": special.logit(mean / 100), "log": np.log(abs(mean))}[link]
        ),
        baseline_sd=2.5 * sd if link == "identity" else 1.5 * spread,
        slope_sd=spread,
        interaction_sd=spread / 2,
        cluster_sd=sd / 2 if link == "identity" else 0.5,
        residual_scale=sd,
        slope={"identity": 1.0, "logit": mean / 100 * (1 - mean / 100), "log": mean}[link],
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


def model(study: Study) -> pm.Model:
    """The PyMC model of a study.

    With D a unit's row of the design (one, its segment, its centred covariates), the linear predictor is
    ``D b`` in the comparison arm and ``D (b + c)`` among the trained: ``c`` holds the average effect, the
    segments' partially pooled deviations from it (their mean over the population is 0, so that the prior of
    the average effect is the stated one), and interactions with the covariates, which are centred at the mean
    of the estimand's population so that they do not move the average. Clusters add random intercepts.

    - Gaussian KPIs: normal errors with an own sd in each arm. Without clusters the data enter exactly, at a
      cost that does not depend on their number: with X = QR in an arm, Q'y ~ Normal(R b, sigma) and the
      residual sum of squares / sigma^2 ~ chi-squared(n - k), independently.
    - Binary: binomial on the cells of identical rows (exact), logit link.
    - Counts and rates: negative binomial with log(exposure) as offset and an own overdispersion in each arm.

    The last two report ``effect`` in KPI units by standardising over the people of the estimand's population.

    Parameters
    ----------
    study : Study
        See :func:`priors`.

    Returns
    -------
    pymc.Model
        With ``effect``, where there are segments ``segment_effect``, and ``coefficients`` (arm, column).

    Raises
    ------
    LdlabError
        As :func:`priors`.
    """
    units = units_of(study)
    return model_of(units, priors_of(units))


def model_of(units: Units, prior: Priors) -> pm.Model:
    """As :func:`model`, from arrays and given priors."""
    coords: dict[str, Any] = {"arm": list(ARMS), "column": list(units.columns)}
    coords |= {"segment": list(units.segments), "covariate": list(units.study.covariates)}
    if units.cluster is not None:
        coords["cluster"] = np.arange(units.cluster.max() + 1)
    with pm.Model(coords=coords) as built:
        coefficients = _coefficients(units, prior)
        shift = _cluster_shift(units, prior)
        if units.family == "gaussian":
            _gaussian(units, prior, coefficients, shift)
        elif units.family == "binary":
            _binary(units, coefficients, shift)
        else:
            _count(units, coefficients, shift)
        if units.family != "gaussian":
            _standardise(units, coefficients, shift)
    return built


def _coefficients(units: Units, prior: Priors) -> Any:
    """(2, k) coefficients of the design in each arm, from their priors."""
    gaussian = units.family == "gaussian"
    baseline = pm.Normal("baseline", prior.baseline_mean, prior.baseline_sd)
    effect = pm.Normal("effect" if gaussian else "link_effect", prior.link_effect_mean, prior.link_effect_sd)
    untrained, change = [baseline[None]], [effect[None]]
    if units.segments:
        level = pm.ZeroSumNormal("segment_level", prior.slope_sd, dims="segment")
        centring = segment_centring(units, prior.slope, prior.link_segment_sd)
        deviation = _pooled("segment", prior.link_segment_sd, centring, pm.ZeroSumNormal)
        untrained.append(_around_average(level, units.share))
        change.append(_around_average(deviation, units.share))
    if units.study.covariates:
        untrained.append(pm.Normal("slope", 0, prior.slope_sd, dims="covariate"))
        change.append(pm.Normal("interaction", 0, prior.interaction_sd, dims="covariate"))
    if units.segments and gaussian:
        own = effect + change[1]
        own = own + pt.dot(units.z_by_segment(), change[2]) if units.study.covariates else own
        pm.Deterministic("segment_effect", own, dims="segment")
    b, c = pt.concatenate(untrained), pt.concatenate(change)
    return pm.Deterministic("coefficients", pt.stack([b, b + c]), dims=("arm", "column"))


def _pooled(name: str, scale: float, centring: float, law: Any) -> Any:
    """Effects ~ Normal(0, spread), spread ~ half-normal(scale), parametrised as in ``geometry``."""
    spread = pm.HalfNormal(f"{name}_spread", 1)
    unit = law(f"{name}_unit", sigma=spread**centring, dims=name)
    return scale * spread ** (1 - centring) * unit


def _around_average(values: Any, share: Floats) -> Any:
    return values - pt.dot(share, values)


def _cluster_shift(units: Units, prior: Priors) -> Any:
    """(clusters,) random intercepts; None without clusters."""
    if units.cluster is None:
        return None
    shift = _pooled(
        "cluster", prior.cluster_sd, cluster_centring(units, prior.slope, prior.cluster_sd), pm.Normal
    )
    return pm.Deterministic("cluster_shift", shift, dims="cluster")


def _predictor(coefficients: Any, shift: Any, arm: Any, design: Floats, cluster: Any) -> Any:
    """(rows,) linear predictor: each arm's coefficients, plus the cluster's shift."""
    trained = np.asarray(arm)[:, None] * design
    eta = pt.dot(design - trained, coefficients[0]) + pt.dot(trained, coefficients[1])
    return eta if shift is None else eta + shift[cluster]


def _by_arm(values: Any, arm: Any) -> Any:
    """(rows,) each row's own of two values; arithmetic, because indexing is slow to differentiate."""
    return values[0] + (values[1] - values[0]) * np.asarray(arm, dtype=float)


def _gaussian(units: Units, prior: Priors, coefficients: Any, shift: Any) -> None:
    sigma = pm.Exponential("sigma", 1 / prior.residual_scale, dims="arm")
    if shift is not None:
        mu = _predictor(coefficients, shift, units.arm, units.design, units.cluster)
        pm.Normal("kpi", mu, _by_arm(sigma, units.arm), observed=units.outcome)
        return
    for code, name in enumerate(ARMS):
        r, projection, rest, degrees = compress(
            units.design[units.arm == code], units.outcome[units.arm == code]
        )
        pm.Normal(f"kpi_{name}", pt.dot(r, coefficients[code]), sigma[code], observed=projection)
        if degrees > 0:
            pm.Gamma(f"residual_{name}", alpha=degrees / 2, beta=1 / (2 * sigma[code] ** 2), observed=rest)


def compress(x: Floats, y: Floats) -> tuple[Floats, Floats, float, int]:
    """R, Q'y, residual sum of squares and its degrees of freedom: all that a normal likelihood reads.

    Examples
    --------
    >>> r, projection, rest, degrees = compress(np.ones((4, 1)), np.array([1.0, 2.0, 3.0, 4.0]))
    >>> round(abs(projection[0]), 6), round(rest, 6), degrees
    (5.0, 5.0, 3)
    """
    q, r = np.linalg.qr(x)
    projection = q.T @ y
    rest = y - q @ projection
    return r, projection, float(rest @ rest), len(y) - q.shape[1]


def _binary(units: Units, coefficients: Any, shift: Any) -> None:
    """Binomial on cells of identical rows."""
    cluster = np.zeros_like(units.arm) if units.cluster is None else units.cluster
    cells, which = group_cells(units.arm, cluster, units.design)
    arm, cluster = cells[:, 0].astype(int), cells[:, 1].astype(int)
    eta = _predictor(coefficients, shift, arm, cells[:, 2:], cluster)
    pm.Binomial("kpi", n=np.bincount(which), logit_p=eta, observed=np.bincount(which, weights=units.outcome))


def _count(units: Units, coefficients: Any, shift: Any) -> None:
    """Negative binomial on distinct rows, each weighted by how often it occurs."""
    spread = pm.HalfNormal("overdispersion", 1, dims="arm")
    cluster = np.zeros_like(units.arm) if units.cluster is None else units.cluster
    cells, which = group_cells(units.arm, cluster, units.outcome, units.exposure, units.design)
    arm, cluster = cells[:, 0].astype(int), cells[:, 1].astype(int)
    mu = cells[:, 3] * pt.exp(_predictor(coefficients, shift, arm, cells[:, 4:], cluster))
    alpha = 1 / (_by_arm(spread, arm) ** 2 + 1 / LARGEST_DISPERSION)
    times = np.bincount(which).astype(float)

    def weighted(value: Any, mu: Any, alpha: Any) -> Any:
        return times * pm.logp(pm.NegativeBinomial.dist(mu=mu, alpha=alpha), value)

    pm.CustomDist("kpi", mu, alpha, logp=weighted, observed=cells[:, 2].astype(int), dtype="int64")


def _standardise(units: Units, coefficients: Any, shift: Any) -> None:
    """Average difference between arms over the people of the population, in KPI units."""
    people = units.population
    cluster = np.zeros_like(units.arm) if units.cluster is None else units.cluster
    cells, which = group_cells(units.segment[people], cluster[people], units.design[people])
    segment, cluster = cells[:, 0].astype(int), cells[:, 1].astype(int)
    weight = np.bincount(which) / len(which)
    inverse, scale = (pm.math.invlogit, 100) if units.family == "binary" else (pt.exp, 1)
    own = 0 if shift is None else shift[cluster]
    means = [inverse(pt.dot(cells[:, 2:], coefficients[arm]) + own) for arm in (0, 1)]
    difference = scale * (means[1] - means[0])
    pm.Deterministic("effect", pt.dot(weight, difference))
    if units.segments:
        by_segment = np.eye(len(units.segments))[segment].T * weight
        by_segment /= np.maximum(by_segment.sum(axis=1, keepdims=True), 1e-12)
        pm.Deterministic("segment_effect", pt.dot(by_segment, difference), dims="segment")
