"""Several arms of one program against one comparison group: effects of arms are partially pooled."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from ldlab.bayes.compiled import Sampling, room_for, sample
from ldlab.bayes.families import FAMILIES, rows_of, scale_of
from ldlab.bayes.predictor import standardised
from ldlab.bayes.priors import priors_of
from ldlab.bayes.units import Floats, Units, units_of
from ldlab.estimate import Estimate, Printed, format_chance
from ldlab.program import LdlabError, Study


@dataclass(frozen=True, eq=False, repr=False)
class Variants(Printed):
    """Effect of each arm of a program against the comparison group. Made by :func:`variants`.

    Attributes
    ----------
    estimates
        One for each arm, the best first; ``term`` names it. Arms share what the model learns of their spread.
    p_best
        Chance that an arm is the best, and better than no program; in the same order.
    idata
        Draws of the effects (variant), and ``sample_stats``.
    """

    estimates: tuple[Estimate, ...]
    p_best: tuple[float, ...]
    idata: xr.DataTree

    def _rows(self) -> list[tuple[str, str]]:
        return [
            (
                row.term,
                f"{row.format(row.value, sign=True)} {row.shown_unit} ({row.interval_text()}); chance to be the best "
                f"{format_chance(best)}, of the target {format_chance(row.p_target)}",
            )
            for row, best in zip(self.estimates, self.p_best, strict=True)
        ]


def variants(study: Study, *, sampling: Sampling | None = None) -> Variants | None:
    """Effects of several program arms, normal around a common mean with a spread that the data inform.

    Parameters
    ----------
    study : Study
        One row per unit, ``design.treated_values`` in the program file. Arms, not segments, are compared here.
    sampling : Sampling, optional

    Returns
    -------
    Variants or None
        None where the program has one arm.

    Raises
    ------
    LdlabError
        As :func:`ldlab.bayes.priors`; an arm under the minimum group size.
    """
    if "variant" not in study.frame:
        return None
    units = _units_by_arm(study)
    prior = priors_of(units)
    clusters = 0 if units.cluster is None else int(units.cluster.max()) + 1
    categories = scale_of(units)[1] if units.family == "ordinal" else 0
    shape = room_for(units.levels, units.z.shape[1], clusters, categories)
    rows, data = rows_of(units, prior, shape)
    family = FAMILIES[units.family]
    drawn = sample(
        family.build, shape, data, seed=study.program.analysis.seed, sampling=sampling or Sampling()
    )
    posterior = drawn["posterior"].to_dataset()
    coefficients, flat = rows.coefficients(posterior), posterior.stack(sample=("chain", "draw"))

    def effect(arm: int) -> Floats:
        """(chain, draw) everyone in this arm against everyone untrained."""
        design = np.column_stack([np.eye(units.levels)[np.full(len(units.arm), arm)], units.z])
        people = replace(units, design=design, segment=np.full_like(units.segment, arm))
        means = standardised(people, coefficients, lambda eta, part: family.mean(eta, flat.isel(sample=part)))
        return means["effect"]

    draws = np.stack([effect(arm) for arm in range(units.levels)], axis=-1)
    return _summed_up(units, draws, drawn)


def _units_by_arm(study: Study) -> Units:
    """Arms in the place of segments, with one untrained level for all."""
    units = units_of(replace(study, frame=study.frame.drop(columns="segment", errors="ignore")))
    frame = units.study.frame
    names = tuple(dict.fromkeys(str(value) for value in study.program.design.treated_values))
    variant = frame["variant"].astype(str)
    minimum = study.program.analysis.minimum_group_size
    few = [name for name in names if (variant == name).sum() < minimum]
    if few:
        raise LdlabError(
            f"design.treated_values: found fewer than {minimum} {study.program.design.units} in {', '.join(few)}; expected at "
            f"least analysis.minimum_group_size = {minimum} in each arm. Leave out small arms with data.query"
        )
    segment = np.array([names.index(name) if name in names else 0 for name in variant], dtype=np.int64)
    design = np.column_stack([np.eye(len(names))[segment], units.z])
    columns = (*(f"arm {name}" for name in names), *study.covariates)
    return replace(units, segment=segment, segments=names, design=design, columns=columns, own_levels=False)


def _summed_up(units: Units, draws: Floats, drawn: xr.DataTree) -> Variants:
    study, names = units.study, units.segments
    gain = study.program.kpi.sign * draws.reshape(-1, len(names))
    best = [float(((gain.argmax(axis=1) == i) & (gain[:, i] > 0)).mean()) for i in range(len(names))]
    comparison = int((units.arm == 0).sum())
    estimates = []
    for i, name in enumerate(names):
        treated = int(((units.segment == i) & (units.arm == 1)).sum())
        counts = {
            "treated": treated,
            "comparison": comparison,
            "clusters": None,
            "observations": treated + comparison,
        }
        estimates.append(
            Estimate.from_draws(
                draws[..., i],
                method=f"Bayesian {FAMILIES[units.family].words} regression, partially pooled arms",
                estimand=study.estimand,
                se_kind="posterior sd",
                n=counts,
                term=name,
                **study.measure(),
            )
        )
    order = sorted(range(len(names)), key=lambda i: -study.program.kpi.sign * estimates[i].value)
    table = xr.Dataset({"effect": (("chain", "draw", "variant"), draws)}, coords={"variant": list(names)})
    idata = xr.DataTree.from_dict({"posterior": table, "sample_stats": drawn["sample_stats"].to_dataset()})
    return Variants(tuple(estimates[i] for i in order), tuple(best[i] for i in order), idata)
