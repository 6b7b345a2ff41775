"""Several arms of one program against one comparison group: effects of arms are partially pooled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr

from ldlab.bayes.compiled import Sampling, room_for, sample
from ldlab.bayes.families import FAMILIES, rows_of, scale_of
from ldlab.bayes.predictor import standardised
from ldlab.bayes.priors import priors_of
from ldlab.bayes.units import Floats, Units, units_of
from ldlab.estimate import Estimate, Printed, format_chance, format_number
from ldlab.program import Study

Rope = Literal["worthwhile", "practically nothing", "harmful", "undecided"]
NONE = "no program"


@dataclass(frozen=True, eq=False, repr=False)
class Variants(Printed):
    """Effect of each arm of a program against the comparison group. Made by :func:`variants`.

    Attributes
    ----------
    estimates
        One for each arm, the best first; ``term`` names it. Arms share what the model learns of their spread.
    p_best
        Chance that an arm is the best, and better than no program; in the same order.
    p_better
        Chance that the arm of a row does better than that of a column; ``no program`` among the columns, by code.
    losses
        What choosing an arm, or no program, would lose on average against the best choice, in the unit that readers see;
        the least first. Benefits only: costs are for :mod:`ldlab.money`.
    left_out
        Arms under the minimum group size.
    idata
        Draws of the effects (variant), and ``sample_stats``.
    """

    estimates: tuple[Estimate, ...]
    p_best: tuple[float, ...]
    p_better: pd.DataFrame
    losses: tuple[tuple[str, float], ...]
    idata: xr.DataTree
    left_out: tuple[str, ...] = ()

    @property
    def verdicts(self) -> tuple[Rope, ...]:
        """Of each estimate, by the region of practical equivalence (Kruschke 2018): see :func:`rope`."""
        return tuple(rope(estimate) for estimate in self.estimates)

    @property
    def table(self) -> pd.DataFrame:
        """One row for each arm: effect, chances, expected loss, verdict."""
        losses, rows = dict(self.losses), []
        for e, best in zip(self.estimates, self.p_best, strict=True):
            rows.append(
                {
                    "arm": e.term,
                    f"effect ({e.shown_unit})": e.format(e.value, sign=True),
                    f"{e.level:.0%} from": e.format(e.low, sign=True),
                    "to": e.format(e.high, sign=True),
                    "chance best": format_chance(best),
                    "any gain": format_chance(e.p_gain),
                    f"gain of {e.format(abs(e.smallest))} or more": format_chance(e.p_worthwhile),
                    "target": format_chance(e.p_target),
                    "practically nothing": format_chance(e.p_negligible),
                    "choosing it loses": format_number(losses[e.term], e.decimals + 1),
                    "verdict": rope(e),
                }
            )
        return pd.DataFrame(rows)

    def _rows(self) -> list[tuple[str, str]]:
        rows = [
            (
                row.term,
                f"{row.format(row.value, sign=True)} {row.shown_unit} ({row.interval_text()}); chance to be the best "
                f"{format_chance(best)}, of the smallest effect worth having {format_chance(row.p_worthwhile)}, of the "
                f"target {format_chance(row.p_target)}: {rope(row)}",
            )
            for row, best in zip(self.estimates, self.p_best, strict=True)
        ]
        digits, unit = self.estimates[0].decimals + 1, self.estimates[0].shown_unit
        said = (f"{name} {format_number(loss, digits)}" for name, loss in self.losses)
        rows.append(("choosing it would lose on average", f"{', '.join(said)} {unit}"))
        return [*rows, ("left out, too small", ", ".join(self.left_out))] if self.left_out else rows

    def _repr_html_(self) -> str:
        better = self.p_better.map(lambda chance: "" if np.isnan(chance) else format_chance(chance))
        beside = better.rename_axis("chance that it does better than").reset_index()
        return super()._repr_html_() + "".join(
            table.to_html(border=0, index=False) for table in (self.table, beside)
        )


def rope(estimate: Estimate) -> Rope:
    """Where the interval lies against the region of practical equivalence, plus or minus the smallest effect worth having.

    Kruschke (2018), Advances in Methods and Practices in Psychological Science 1, with the equal-tailed interval.
    """
    size = abs(estimate.smallest)
    nearest, farthest = sorted((estimate.sign * estimate.low, estimate.sign * estimate.high))
    if nearest >= size:
        return "worthwhile"
    if farthest <= -size:
        return "harmful"
    return "practically nothing" if nearest > -size and farthest < size else "undecided"


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
        None where the study has one program arm of the minimum group size, or none. Smaller arms are left out and
        named.

    Raises
    ------
    LdlabError
        As :func:`ldlab.bayes.priors`.
    """
    if "variant" not in study.frame:
        return None
    names, small = _large_enough(study)
    if len(names) < 2:
        return None
    control = ~study.frame["variant"].astype(str).isin([*names, *small])
    kept = control | study.frame["variant"].astype(str).isin(names)
    study = replace(study, frame=study.frame[kept].reset_index(drop=True))
    units = _units_by_arm(study, names)
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
    return _summed_up(units, draws, drawn, small)


def _large_enough(study: Study) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Program arms in the study that may be shown, and those that may not."""
    sizes = study.frame["variant"].astype(str).value_counts()
    agreed = dict.fromkeys(str(value) for value in study.program.design.treated_values)
    minimum = study.program.analysis.minimum_group_size
    present = [name for name in agreed if sizes.get(name, 0) > 0]
    large = tuple(name for name in present if sizes[name] >= minimum)
    return large, tuple(name for name in present if name not in large)


def _units_by_arm(study: Study, names: tuple[str, ...]) -> Units:
    """Arms in the place of segments, with one untrained level for all."""
    units = units_of(replace(study, frame=study.frame.drop(columns="segment", errors="ignore")))
    variant = units.study.frame["variant"].astype(str)
    segment = np.array([names.index(name) if name in names else 0 for name in variant], dtype=np.int64)
    design = np.column_stack([np.eye(len(names))[segment], units.z])
    columns = (*(f"arm {name}" for name in names), *units.study.covariates)
    return replace(units, segment=segment, segments=names, design=design, columns=columns, own_levels=False)


def _summed_up(units: Units, draws: Floats, drawn: xr.DataTree, small: tuple[str, ...]) -> Variants:
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
    return Variants(
        estimates=tuple(estimates[i] for i in order),
        p_best=tuple(best[i] for i in order),
        p_better=_better(gain, names, order),
        losses=_losses(estimates, names),
        idata=idata,
        left_out=small,
    )


def _better(gain: Floats, names: tuple[str, ...], order: list[int]) -> pd.DataFrame:
    """Chance that the row's arm does better than the column's; the last column is no program."""
    rival = np.column_stack([gain[:, order], np.zeros(len(gain))])
    chances = (gain[:, order, None] > rival[:, None, :]).mean(axis=0)
    np.fill_diagonal(chances, np.nan)
    ordered = [names[i] for i in order]
    return pd.DataFrame(chances, index=ordered, columns=[*ordered, NONE])


def _losses(estimates: list[Estimate], names: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
    """E[best gain - gain of the choice] (Berger 1985, section 2.4), no program gaining nothing."""
    shown = [e.sign * np.array([e.shown(draw) for draw in e.draws]) for e in estimates if e.draws is not None]
    gains = np.column_stack([*shown, np.zeros(len(shown[0]))])
    losses = (gains.max(axis=1, keepdims=True) - gains).mean(axis=0)
    pairs = zip((*names, NONE), losses.tolist(), strict=True)
    return tuple(sorted(pairs, key=lambda pair: pair[1]))
