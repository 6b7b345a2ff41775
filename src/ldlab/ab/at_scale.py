"""An experiment evaluated from sums: the headline, its percentage, CUPED, arms, and all KPIs, in the nouns of the rows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ldlab.ab.arms import ArmEffect, Arms, Family, arm_effect, arms_in_words
from ldlab.ab.cuped import Cuped, cuped_in_words
from ldlab.ab.from_sums import ADJUSTED, DIFFERENCE, Mean, answers, arm_mean, effect, is_robust, percent
from ldlab.ab.kpis import (
    GuardRailResult,
    KpiResult,
    Kpis,
    discovered,
    moved_in_words,
    p_value,
    rail_of,
    verdict_of,
)
from ldlab.ab.percent import PercentEffect
from ldlab.estimate import Estimate, Noun, Printed
from ldlab.program import LdlabError
from ldlab.program.experiment_sums import Experiment, KpiSums

Floats = NDArray[np.float64]

RAW = "the KPI as it was, not winsorised"


class AtScale(Printed, Noun):
    """What an experiment's sums say.

    Attributes
    ----------
    estimates
        Answers for the primary KPI and the headline's comparison, the leading one first; see
        :func:`ldlab.ab.from_sums.answers`. Last, where winsorising was agreed, the leading one on the KPI as it was.
    percent
        The leading estimate as percent of the control's mean.
    cuped
        What the KPI before adds; None where the program names none.
    arms
        Each program arm against control and each other; None with one program arm.
    kpis
        Primary, secondary (false-discovery control), guard-rails (each arm).
    """

    estimates: tuple[Estimate, ...]
    percent: PercentEffect
    cuped: Cuped | None
    arms: Arms | None
    kpis: Kpis

    def _rows(self) -> list[tuple[str, str]]:
        rows = [
            (e.method, f"{e.format(e.value, sign=True)} {e.shown_unit}, {e.interval_text()}")
            for e in self.estimates
        ]
        rows.append(("percent", str(self.percent)))
        rows += [("KPI before", self.cuped.sentence)] if self.cuped else []
        rows += [("arms", self.arms.sentence)] if self.arms else []
        return [*rows, ("other KPIs", self.kpis.sentence)] if self.kpis.sentence else rows


def at_scale(experiment: Experiment) -> AtScale:
    """Evaluate an experiment from its sums.

    Estimates, percent effects, multiplicity and guard-rails follow the same rules as :func:`ldlab.ab.estimates`,
    :func:`ldlab.ab.percent_effect`, :func:`ldlab.ab.cuped`, :func:`ldlab.ab.arms` and :func:`ldlab.ab.kpis`, and give the
    same numbers; where an error differs, ``se_kind`` says so (HC1 for HC2 in the adjusted estimate; see
    :func:`ldlab.ab.from_sums.effect`).

    Parameters
    ----------
    experiment
        Made by :func:`ldlab.load_experiment`.

    Raises
    ------
    LdlabError
        If a covariate of the primary KPI follows from the others within an arm.
    """
    primary, treated = experiment.primary, experiment.headline
    found = answers(primary, treated)
    raw = next((kpi for kpi in experiment.kpis if kpi.role == "primary, not winsorised"), None)
    beside = (answers(raw, treated)[0].model_copy(update={"term": RAW}),) if raw is not None else ()
    return AtScale(
        estimates=(*found, *beside),
        percent=percent(primary, treated, found[0]),
        cuped=_cuped(experiment),
        arms=_arms(experiment),
        kpis=_kpis(experiment),
    )


def _cuped(experiment: Experiment) -> Cuped | None:
    """The KPI before alone, beside the unadjusted difference; as :func:`ldlab.ab.cuped`."""
    kpi, treated = experiment.primary, experiment.headline
    label = kpi.program.kpi.label
    if f"{label} before" not in kpi.covariates:
        return None
    if not is_robust(kpi):
        return None  # other covariates: their part cannot be told from that of the KPI before
    raw, adjusted = effect(kpi, treated), effect(kpi, treated, adjusted=True)
    reduction = 1 - (adjusted.se / raw.se) ** 2
    without, total = int(kpi.without_before.sum()), int(kpi.n.sum())
    minimum, units = kpi.program.analysis.minimum_group_size, kpi.program.design.units
    unknown = ""
    if without:
        few = ((kpi.without_before > 0) & (kpi.without_before < minimum)).any() or total - without < minimum
        unknown = f"some {units}" if few else f"{without:,} of {total:,} {units}"
    sides = [kpi.powers_of(arms) for arms in ((0,), treated)]
    within = sum((side for side in sides if side is not None), np.zeros((3, 5)))
    spread = within[2, 0] * within[0, 2]
    return Cuped(
        raw=raw,
        adjusted=adjusted,
        variance_reduction=reduction,
        correlation=float(within[1, 1] / math.sqrt(spread)) if spread > 0 else None,
        unknown=unknown,
        sentence=cuped_in_words(experiment, reduction, unknown),  # type: ignore[arg-type]
    )


@dataclass(frozen=True)
class ArmsFromSums:
    """Arms' means of one model, as :class:`ldlab.ab.arms.Family` reads them; arms are independent given the covariates' means."""

    means: tuple[Mean, ...]
    df: float

    @property
    def covariance(self) -> Floats:
        """(arms, arms), diagonal."""
        return np.diag([mean.variance for mean in self.means])

    def contrast(self, weights: Floats) -> tuple[float, float, float]:
        """Value, standard error and degrees of freedom of a weighted sum of the arms' means."""
        value = float(weights @ np.array([mean.value for mean in self.means]))
        return value, math.sqrt(float(weights @ self.covariance @ weights)), self.df


def _arms(experiment: Experiment) -> Arms | None:
    """As :func:`ldlab.ab.arms`: simultaneous (max-t) intervals and Holm's p values, against control and each other."""
    kpi, arms = experiment.primary, range(len(experiment.arms))
    if len(arms) < 3:
        return None
    adjusted = kpi.program.estimator == "adjusted" and bool(kpi.covariates)
    means = tuple(arm_mean(kpi, [place], arms, adjusted=adjusted, fits=len(arms)) for place in arms)
    df = float(sum(mean.n for mean in means) - len(arms) * (1 + len(kpi.covariates) * adjusted))
    compared = ArmsFromSums(means, df)
    families = [
        Family.of(compared, pairs, len(arms), df=df)  # type: ignore[arg-type]
        for pairs in ([(i, 0) for i in arms[1:]], [(b, a) for a, b in itertools.combinations(arms[1:], 2)])
    ]
    control, each_other = (_arm_effects(experiment, family, means, adjusted=adjusted) for family in families)
    return Arms(
        against_control=control,
        against_each_other=each_other,
        multiplicity=kpi.program.agreement.multiplicity,
        critical=families[0].critical(kpi.program.level),
        df=df,
        sentence=arms_in_words(experiment, control, each_other),  # type: ignore[arg-type]
    )


def _arm_effects(
    experiment: Experiment, family: Family, means: tuple[Mean, ...], *, adjusted: bool
) -> tuple[ArmEffect, ...]:
    kpi, codes = experiment.primary, experiment.arms
    level, agreement = kpi.program.level, kpi.program.agreement
    alone, together, holm = family.p_values
    simultaneous, critical, made = agreement.multiplicity == "simultaneous", family.critical(level), []
    for i, (arm, against) in enumerate(family.pairs):
        n = {"treated": means[arm].n, "comparison": means[against].n, "clusters": None}
        single = Estimate.from_t(
            family.value[i],
            family.se[i],
            df=family.df,
            method=ADJUSTED if adjusted else DIFFERENCE,
            estimand=kpi.estimand,
            se_kind=effect(kpi, [1], adjusted=adjusted).se_kind,
            n={**n, "observations": means[arm].n + means[against].n},
            term=f"{codes[arm]} against {codes[against]}" if against else codes[arm],
            **kpi.measure(),
        )
        half = critical * family.se[i]
        p = (float(alone[i]), float(together[i]), float(holm[i]))
        made.append(arm_effect(codes[arm], codes[against], single, half if simultaneous else None, p))
    return tuple(made)


def _kpis(experiment: Experiment) -> Kpis:
    """As :func:`ldlab.ab.kpis`."""
    program, treated = experiment.program, experiment.headline
    secondary = [_result(kpi, treated, primary=False) for kpi in experiment.kpis if kpi.role == "secondary"]
    arms = range(1, len(experiment.arms))
    names = {place: experiment.arms[place] if len(arms) > 1 else "" for place in arms}
    rails = [kpi for kpi in experiment.kpis if kpi.role == "guard-rail"]
    rate = program.agreement.false_discovery_rate
    return Kpis(
        primary=_result(experiment.primary, treated, primary=True),
        secondary=discovered(secondary, rate),
        guard_rails=tuple(_rail(kpi, place, names[place]) for kpi in rails for place in arms),
        false_discovery_rate=rate,
        level=program.level,
    )


def _leading(kpi: KpiSums, treated: Collection[int]) -> tuple[Estimate | None, str]:
    """The leading estimate, or why there is none."""
    minimum, units = kpi.program.analysis.minimum_group_size, kpi.program.design.units
    sides = [kpi.of(arms) for arms in ((0,), treated)]
    if min(side.n for side in sides) < minimum:
        return None, f"an arm has fewer than {minimum} {units} with this KPI"
    if not any((np.diag(side.about) > 0).any() for side in sides):
        alike = "in both arms" if (sides[0].mean == sides[1].mean).all() else "within each arm"
        return None, f"it is the same for all {units} {alike}"
    flat = not all((np.diag(side.about)[0] > 0) for side in sides)
    if flat and kpi.program.kpi.value_type not in ("binary", "count"):
        return None, "it has one value throughout an arm"
    try:
        return answers(kpi, treated)[0], ""
    except LdlabError as error:
        return None, str(error)


def _spread(kpi: KpiSums, treated: Collection[int]) -> float | None:
    """Root mean variance within arms; of a rate that of its linear form."""
    spread = math.sqrt(
        sum(m.variance * m.n for m in (arm_mean(kpi, a, a, adjusted=False) for a in ((0,), treated))) / 2
    )
    return spread if math.isfinite(spread) and spread > 0 else None


def _result(kpi: KpiSums, treated: Collection[int], *, primary: bool) -> KpiResult:
    about = kpi.program.kpi
    estimate, reason = _leading(kpi, treated)
    said = {"kpi": about.label, "unit": about.effect_unit, "direction": about.direction}
    if estimate is None:
        return KpiResult(**said, verdict="not estimated", reason=reason, sentence=f"Not estimated: {reason}.")
    verdict = verdict_of(estimate, shown=estimate.low > 0 or estimate.high < 0)
    return KpiResult(
        **said,
        estimate=estimate,
        p=p_value(estimate),
        verdict=verdict,
        spread=_spread(kpi, treated),
        sentence=moved_in_words(estimate, verdict) if primary else "",
    )


def _rail(kpi: KpiSums, place: int, arm: str) -> GuardRailResult:
    return rail_of(kpi, arm, *_leading(kpi, [place]), spread=_spread(kpi, [place]))
