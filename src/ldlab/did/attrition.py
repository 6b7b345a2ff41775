"""Who is lost after training, and between which bounds the effect then lies."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy import optimize, stats

from ldlab.did.panel import se_kind_of
from ldlab.did.stacks import Bools, Floats, Stacks, stacked
from ldlab.estimate import Estimate, Noun
from ldlab.estimate.text import Printed
from ldlab.program import Study


class Attrition(Printed, Noun):
    """How many of the units seen before training are not seen at the end, in each arm.

    Attributes
    ----------
    trained, comparison
        Share without a KPI in the last period, of those with one before the start.
    gap, se, df
        ``trained`` less ``comparison``, its clustered standard error, and degrees of freedom.
    overall
        Share of both arms together.
    few
        Whether an arm lost some, but fewer than the minimum group; then no share may be shown.
    minimum
        The minimum group size.
    """

    trained: float
    comparison: float
    gap: float
    se: float
    df: float
    overall: float
    few: bool
    minimum: int

    def _rows(self) -> list[tuple[str, str]]:
        if self.few:
            return [("not seen at the end", f"fewer than {self.minimum} units in some arm")]
        both = f"{self.trained:.1%} of the trained, {self.comparison:.1%} of the comparison"
        return [("not seen at the end", both), ("difference", f"{self.gap:+.1%} (se {self.se:.1%})")]


class LeeBounds(Printed, Noun):
    """The least and the largest effect that attrition leaves possible, on units that are seen trained or not.

    Attributes
    ----------
    lower, upper
        The bounds, each an estimate with its own interval.
    low, high
        Interval for the effect itself at the program's level (Imbens & Manski 2004): narrower than from the
        lower bound's lower end to the upper bound's upper end.
    trimmed, arm
        Share taken off the arm of which more are seen, from the bottom and then from the top (None where fewer than
        the minimum group were lost in an arm: the share would show how many); which arm it is.
    """

    lower: Estimate
    upper: Estimate
    low: float
    high: float
    trimmed: float | None
    arm: Literal["trained", "comparison"]

    def _rows(self) -> list[tuple[str, str]]:
        e = self.lower
        share = "a few" if self.trimmed is None else f"{self.trimmed:.1%}"
        ends = f"{e.format(e.value, sign=True)} to {self.upper.format(self.upper.value, sign=True)} {e.shown_unit}"
        return [
            ("bounds for attrition", ends),
            (
                f"{e.level:.0%} interval",
                f"{e.format(self.low, sign=True)} to {e.format(self.high, sign=True)}",
            ),
            (
                "taken off",
                f"{share} of the {self.arm}, of whom more are seen" if self.trimmed != 0 else "nobody",
            ),
        ]


def attrition(study: Study) -> Attrition | None:
    """How many of those seen before training are not seen in the last period, trained against comparison.

    Cohorts are held against the same comparison one by one, from each one's own start, and averaged by their numbers
    of units; see :func:`lee_bounds` for the comparison.

    Returns
    -------
    Attrition or None
        None where nothing can be compared: one arm, or fewer units than the minimum group seen before in an arm.

    Raises
    ------
    LdlabError
        If the study is no panel.
    """
    stacks = stacked(study)
    if stacks is None:
        return None
    share, influence = {}, np.zeros(len(stacks.stack))
    for sign, rows in ((1, stacks.trained), (-1, ~stacks.trained)):
        weight = np.where(rows, stacks.weight, 0.0) / stacks.weight[rows].sum()
        share[sign] = float(weight @ ~stacks.at_end)
        influence += sign * weight * (~stacks.at_end - share[sign])
    minimum = study.program.analysis.minimum_group_size
    lost = [stacks.units(~stacks.at_end & arm) for arm in (stacks.trained, ~stacks.trained)]
    return Attrition(
        trained=share[1],
        comparison=share[-1],
        gap=share[1] - share[-1],
        se=stacks.se(influence),
        df=stacks.df,
        overall=sum(lost) / (stacks.units(stacks.trained) + stacks.units(~stacks.trained)),
        few=any(0 < count < minimum for count in lost),
        minimum=minimum,
    )


def lee_bounds(study: Study) -> LeeBounds | None:
    """Between which bounds the effect lies if training changed who is still seen, and not only what they do.

    The outcome is each unit's change: its mean KPI from the start on less its mean before. Of the arm of which a
    larger share is still seen (once or more from the start on), the excess share is taken off: the units with the
    largest changes for one bound, those with the smallest for the other. The bounds hold for units that would be seen
    trained or not, if training moves all units' presence one way (it makes none leave, or none stay), and changes
    would have been alike in both arms.

    With several starts each cohort is held against the same comparison, over its own start: the never trained where
    they are at least the minimum group, else the last cohorts, in the periods before they start (as in Sun & Abraham
    2021, Journal of Econometrics 225, with the last one). Each cohort's changes are taken from the mean change of its
    comparison; the cohorts are pooled, and trimmed as one. Periods in which the KPI may react already
    (``design.anticipation``) count neither as before nor as after.

    Returns
    -------
    LeeBounds or None
        None where nothing can be compared, or fewer units than the minimum group remain in an arm.

    Raises
    ------
    LdlabError
        If the study is no panel.

    Notes
    -----
    Lee (2009), Review of Economic Studies 76, proposition 1a; standard errors of proposition 3, as influence
    functions summed within clusters (without clusters its formula, times the root of n / (n - 1)). Interval: Imbens &
    Manski (2004), Econometrica 72, equations 6 and 7, with t of clusters - 1 for the normal.
    """
    stacks = stacked(study)
    if stacks is None:
        return None
    seen, minimum = np.isfinite(stacks.change), study.program.analysis.minimum_group_size
    fewest = min(stacks.units(seen & arm) for arm in (stacks.trained, ~stacks.trained))
    compared = set(stacks.stack[seen & ~stacks.trained])
    if fewest < minimum or compared < set(stacks.stack):
        return None
    lost = [stacks.units(~seen & arm) for arm in (stacks.trained, ~stacks.trained)]
    ends = [_bound(stacks, seen, sign) for sign in (-1, 1)]
    if not all(se > 0 for _, se, _, _ in ends):
        return None
    lower, upper = (
        Estimate.from_t(
            value,
            se,
            df=stacks.df,
            method=f"Lee bound, {name}",
            estimand=f"{study.estimand} among those seen either way",
            se_kind=se_kind_of(study, "cluster"),
            n=_counts(study, stacks, seen),
            **study.measure(),
        )
        for name, (value, se, _, _) in zip(("lower", "upper"), ends, strict=True)
    )
    reach = _reach(upper.value - lower.value, max(lower.se, upper.se), stacks.df, lower.level)
    return LeeBounds(
        lower=lower,
        upper=upper,
        low=lower.value - reach * lower.se,
        high=upper.value + reach * upper.se,
        trimmed=None if any(0 < count < minimum for count in lost) else ends[0][2],
        arm="trained" if ends[0][3] else "comparison",
    )


def _bound(stacks: Stacks, seen: Bools, sign: int) -> tuple[float, float, float, bool]:
    """The lower (-1) or upper (1) bound, its standard error, the share trimmed, and whether off the trained."""
    arms = (~stacks.trained, stacks.trained)
    mass = [np.where(arm, stacks.weight, 0.0) / stacks.weight[arm].sum() for arm in arms]
    share = [float(weight @ seen) for weight in mass]
    of_trained = share[1] >= share[0]
    trimmed = 0.0 if np.isclose(share[0], share[1], rtol=1e-12) else 1 - min(share) / max(share)
    more, fewer = (1, 0) if of_trained else (0, 1)
    off_share = [mass[arm] * (seen - share[arm]) for arm in (0, 1)]
    off_trimmed = (min(share) / max(share) * off_share[more] - off_share[fewer]) / max(share)
    centre = _mean_change_of_comparison(stacks, seen)
    gap = np.where(seen, stacks.change - centre[stacks.stack], 0.0)
    kept = [mass[arm] * seen / share[arm] for arm in (0, 1)]
    keep_high = (sign > 0) == of_trained
    mean, influence, kept[more] = _trimmed_mean(gap, kept[more], trimmed, keep_high, off_trimmed)
    mean_fewer = float(kept[fewer] @ gap)
    off_fewer = kept[fewer] * (gap - mean_fewer)
    direction = 1 if of_trained else -1
    total = direction * (influence - off_fewer) + _through_centre(stacks, seen, gap, kept)
    return direction * (mean - mean_fewer), stacks.se(total), trimmed, of_trained


def _mean_change_of_comparison(stacks: Stacks, seen: Bools) -> Floats:
    rows = seen & ~stacks.trained
    size = stacks.stack.max() + 1
    number = np.bincount(stacks.stack[rows], minlength=size)
    return np.bincount(stacks.stack[rows], stacks.change[rows], minlength=size) / number


def _trimmed_mean(
    values: Floats, mass: Floats, trimmed: float, keep_high: bool, off_trimmed: Floats
) -> tuple[float, Floats, Floats]:
    """Mean of the lowest (highest) ``1 - trimmed`` of a distribution, its influence function, and the mass kept.

    ``mass`` sums to 1; ``off_trimmed`` is the influence function of ``trimmed``. With q the quantile at which it is
    cut, the mean is q + E[min(value - q, 0)] / (1 - trimmed), which splits a mass point at q.
    """
    side = -1.0 if keep_high else 1.0
    own = side * values
    rows = np.flatnonzero(mass)
    order = rows[np.argsort(own[rows], kind="stable")]
    below = np.cumsum(mass[order])
    last = min(int(np.searchsorted(below, (1 - trimmed) * (1 - 1e-12))), len(order) - 1)
    cut = own[order[last]]
    short = np.minimum(own - cut, 0.0) / (1 - trimmed)
    mean = cut + float(mass @ short)
    influence = mass * (short + cut - mean)
    if trimmed > 0:
        influence = influence + (mean - cut) / (1 - trimmed) * off_trimmed
    kept = np.zeros(len(own))
    kept[order[: last + 1]] = mass[order[: last + 1]]
    return side * mean, side * influence, kept / kept.sum()


def _through_centre(stacks: Stacks, seen: Bools, gap: Floats, kept: list[Floats]) -> Floats:
    """Influence through the comparison's mean changes, where trimming keeps unequal shares of the cohorts."""
    size = stacks.stack.max() + 1
    share = [np.bincount(stacks.stack, mass, minlength=size) for mass in kept]
    rows = seen & ~stacks.trained
    number = np.bincount(stacks.stack[rows], minlength=size)
    return np.where(rows, gap * ((share[0] - share[1]) / number)[stacks.stack], 0.0)


def _reach(width: float, se: float, df: float, level: float) -> float:
    """Standard errors beyond the bounds that cover the effect, wherever it is between them."""

    def short(reach: float) -> float:
        return float(stats.t.cdf(reach + width / se, df) - stats.t.cdf(-reach, df)) - level

    return float(optimize.brentq(short, 0.0, stats.t.isf((1 - level) / 4, df)))


def _counts(study: Study, stacks: Stacks, seen: Bools) -> dict[str, int | None]:
    """Units that remain; None where those lost are few, and would be found by subtraction."""
    minimum = study.program.analysis.minimum_group_size
    n: dict[str, int | None] = {}
    for name, arm in (("treated", stacks.trained), ("comparison", ~stacks.trained)):
        kept = stacks.units(seen & arm)
        n[name] = None if 0 < stacks.units(arm) - kept < minimum else kept
    n["clusters"] = int(stacks.df) + 1 if "cluster" in study.frame else None
    return n
