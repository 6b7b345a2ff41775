"""Lots drawn within strata, blocks or pairs: the blocked difference in means and its variance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ldlab.ab.arm_means import ArmMeans, Drawn, Floats, arm_means, within
from ldlab.ab.rows import complete_cases, need_cross_section
from ldlab.estimate import Noun, Printed, format_number
from ldlab.program import LdlabError, Study

FEWEST_SMALL = 3  # strata with one unit in an arm, below which their variance cannot be told from each other


@dataclass(frozen=True)
class Compared:
    """Arms compared within strata: the means, how sure any contrast is, and what was left out.

    Attributes
    ----------
    large, small
        Strata with two or more units (or clusters) in each arm, and the others; each with its share of the units.
    kept
        (rows,) which rows count.
    common_slopes
        Whether one slope per covariate served all arms, because some strata have one unit in an arm.
    left_out_strata, left_out_units
        Strata without every arm, or with one unit in an arm and too few of that kind to tell a variance.
    """

    large: tuple[float, ArmMeans] | None
    small: tuple[float, SmallStrata] | None
    kept: NDArray[np.bool_]
    left_out_strata: int
    left_out_units: int
    common_slopes: bool = False
    factor: float = 1.0

    def contrast(self, weights: Sequence[float] | Floats) -> tuple[float, float, float]:
        """Value, standard error and Satterthwaite degrees of freedom of a weighted sum of the arms' means."""
        c = np.asarray(weights, dtype=float)
        value, variance, first, second = 0.0, 0.0, 0.0, 0.0
        for part in (self.large, self.small):
            if part is None:
                continue
            share, means = part
            value += share * float(means.means @ c)
            variance += share**2 * float(c @ means.covariance @ c)
            of_first, of_second = means.moments(c)
            first, second = first + share**2 * of_first, second + share**4 * of_second
        return value, math.sqrt(self.factor * max(variance, 0.0)), first**2 / second

    @property
    def covariance(self) -> Floats:
        """(arms, arms) of which every contrast's variance follows."""
        parts = [part for part in (self.large, self.small) if part is not None]
        squares = [share**2 * means.covariance for share, means in parts]
        return np.asarray(self.factor * np.sum(squares, axis=0))


@dataclass(frozen=True)
class SmallStrata:
    """Strata with a single unit (or cluster) in some arm: their variance comes from how strata differ.

    Pashley & Miratrix (2021), Journal of Educational and Behavioral Statistics 46, their estimator for small blocks of
    any sizes: sum of c_k (d_k - d)^2 with c_k = n_k^2 / ((n - 2 n_k) (n + sum of n_i^2 / (n - 2 n_i))). Of equal sizes,
    such as pairs, it is the matched-pairs variance (Imai 2008, Statistics in Medicine 27). It is too large where
    strata's effects differ, never too small on average.

    Attributes
    ----------
    by_stratum, sizes
        (strata, arms) means, and numbers of units.
    """

    by_stratum: Floats
    sizes: Floats

    @property
    def weights(self) -> Floats:
        """(strata,) share of the units."""
        total = self.sizes.sum(axis=1)
        return np.asarray(total / total.sum())

    @property
    def means(self) -> Floats:
        """(arms,) over all these strata."""
        return self.weights @ self.by_stratum

    @property
    def factors(self) -> Floats:
        """(strata,) the c_k."""
        return small_factors(self.weights)

    @property
    def covariance(self) -> Floats:
        """(arms, arms) of which every contrast's variance follows; on its own it holds differences between strata too."""
        away = self.by_stratum - self.means
        return np.asarray((self.factors[:, None] * away).T @ away)

    def moments(self, c: Floats) -> tuple[float, float]:
        """As in :meth:`ArmMeans.moments`: of a quadratic form in independent differences by stratum."""
        noise = (c**2 / self.sizes).sum(axis=1)
        d, b = self.factors, self.weights
        root = np.sqrt(noise)
        diagonal, left, right, total = d * noise, root * d, root * b, float(d.sum())
        lr, ll, rr = float(left @ right), float(left @ left), float(right @ right)
        first = float(diagonal.sum()) - 2 * lr + total * rr
        crossed = -4 * float((diagonal * left) @ right) + 2 * total * float(diagonal @ right**2)
        second = float(diagonal @ diagonal) + crossed + 2 * ll * rr + 2 * lr**2
        return first, second + total**2 * rr**2 - 4 * total * lr * rr


def small_factors(weights: Floats) -> Floats:
    """The c_k of :class:`SmallStrata` from the strata's shares of the units; each share is below a half."""
    parts = weights**2 / (1 - 2 * weights)
    return np.asarray(parts / (1 + parts.sum()))


def drawn_of(study: Study, rows: pd.DataFrame, arm: NDArray[Any], covariates: Sequence[str]) -> Drawn:
    """The rows as arrays; ``arm`` holds each row's code, 0 for control. Covariates that strata fix are left away.

    Raises
    ------
    LdlabError
        If a cluster spreads over several strata.
    """
    stratum = pd.factorize(rows["stratum"])[0] if "stratum" in rows else np.zeros(len(rows), dtype=np.intp)
    cluster = pd.factorize(rows["cluster"])[0] if "cluster" in rows else None
    if cluster is not None and pd.Series(stratum).groupby(cluster).nunique().gt(1).any():
        names = study.program.design.columns
        raise LdlabError(
            f"the experiment: found clusters ({names.cluster}) spread over several strata ({names.stratum}); expected each "
            "in one. Leave out design.columns.cluster where units were drawn one by one, else design.columns.stratum."
        )
    x = rows[list(covariates)].to_numpy(dtype=float)
    scale = x.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    varies = (np.abs(within(x / scale, stratum)) > 1e-9).any(axis=0)
    return Drawn(
        outcome=rows["outcome"].to_numpy(dtype=float),
        arm=np.asarray(arm, dtype=np.intp),
        stratum=stratum.astype(np.intp),
        cluster=cluster,
        covariates=(x / scale)[:, varies],
    )


@dataclass(frozen=True)
class Strata:
    """Which strata are large, which small (see :class:`Compared`), and which rows count."""

    large: NDArray[np.bool_]
    small: NDArray[np.bool_]
    kept: NDArray[np.bool_]


def strata_of(drawn: Drawn) -> Strata:
    """Sort the strata by how many units (or clusters) each arm has in them."""
    strata, arms = int(drawn.stratum.max()) + 1, drawn.arms
    cells = np.unique(
        np.column_stack([drawn.stratum, drawn.arm, drawn.groups])
        if drawn.cluster is not None
        else np.column_stack([drawn.stratum, drawn.arm, np.arange(len(drawn.arm))]),
        axis=0,
    )
    groups = np.bincount(cells[:, 0] * arms + cells[:, 1], minlength=strata * arms).reshape(strata, arms)
    large, small = groups.min(axis=1) >= 2, groups.min(axis=1) == 1
    size = np.bincount(drawn.stratum, minlength=strata) * small
    if small.sum() < FEWEST_SMALL or 2 * size.max() >= size.sum():
        small = np.zeros_like(small)
    return Strata(large, small, (large | small)[drawn.stratum])


def compare(drawn: Drawn) -> Compared:
    """Compare arms within strata, weighted by the strata's shares of the units.

    Raises
    ------
    LdlabError
        If no stratum has what it takes; as :func:`ldlab.ab.arm_means.arm_means`.
    """
    strata = strata_of(drawn)
    if not strata.kept.any():
        raise LdlabError(
            "the experiment: found no stratum with two units (clusters, where whole clusters were drawn) in each arm, "
            f"and fewer than {FEWEST_SMALL} strata with one; expected more. Join strata, or leave out "
            "design.columns.stratum if lots were drawn over all."
        )
    used, factor, common = drawn.kept(strata.kept), 1.0, False
    if strata.small.any() and used.covariates.shape[1]:
        used, factor = _common_slopes(used)
        common = True
    is_small = strata.small[drawn.stratum][strata.kept]
    share = float(is_small.mean())
    large = None if is_small.all() else (1 - share, arm_means(used.kept(~is_small)))
    small = (share, _small(used.kept(is_small))) if is_small.any() else None
    out = ~(strata.large | strata.small)
    return Compared(large, small, strata.kept, int(out.sum()), int((~strata.kept).sum()), common, factor)


def _small(drawn: Drawn) -> SmallStrata:
    strata, arms = int(drawn.stratum.max()) + 1, drawn.arms
    cell = drawn.stratum * arms + drawn.arm
    size = np.bincount(cell, minlength=strata * arms).reshape(strata, arms).astype(float)
    total = np.bincount(cell, drawn.outcome, strata * arms).reshape(strata, arms)
    return SmallStrata(total / size, size)


def _common_slopes(drawn: Drawn) -> tuple[Drawn, float]:
    """The outcome less one slope per covariate, with strata and arms held fixed, and what its fitting costs.

    In pairs it is the regression of the pairs' differences on those of the covariates (Imbens & Rubin 2015, section
    10.6).
    """
    x = within(drawn.covariates, drawn.stratum)
    dummies = (drawn.arm[:, None] == np.arange(1, drawn.arms)).astype(float)
    design = np.column_stack([x, within(dummies, drawn.stratum)])
    y = within(drawn.outcome[:, None], drawn.stratum)[:, 0]
    slope, _, rank, _ = np.linalg.lstsq(design, y, rcond=1e-10)
    groups = len(np.unique(drawn.groups))
    spare = groups - int(drawn.stratum.max()) - drawn.arms
    p = x.shape[1]
    if rank < design.shape[1] or spare <= p:
        raise LdlabError(
            f"covariates: found {p} that strata with one unit in an arm cannot tell apart; expected fewer, each of which "
            "adds something within strata. Leave some out of design.columns.covariates."
        )
    outcome = drawn.outcome - x @ slope[:p]
    return replace(drawn, outcome=outcome, covariates=np.empty((len(y), 0))), spare / (spare - p)


class Blocks(Printed, Noun):
    """The strata within which lots were drawn, and what ignoring them would do.

    Attributes
    ----------
    strata, small, left_out
        Strata that count; those of them with a single unit (or cluster) in an arm; those left out.
    left_out_units
        Units in strata left out, as text: small numbers are hidden.
    least_share, most_share
        Least and largest treated share of a stratum, in percent, among those with the minimum group size in each arm;
        None where fewer than two have it.
    blocked, pooled
        The difference within strata, and that of all together, in effect units.
    sentence
        For a leader.
    """

    strata: int
    small: int
    left_out: int
    left_out_units: str
    least_share: float | None
    most_share: float | None
    blocked: float
    pooled: float
    sentence: str

    def _rows(self) -> list[tuple[str, str]]:
        rows = [("strata", f"{self.strata:,}")]
        if self.small:
            rows.append(("with a single unit or cluster in an arm", f"{self.small:,}"))
        if self.left_out:
            rows.append(("left out", f"{self.left_out:,} strata, {self.left_out_units}"))
        return [*rows, ("in words", self.sentence)]


def blocks(study: Study) -> Blocks | None:
    """Describe the strata of an experiment; None where the program names no stratum.

    Raises
    ------
    LdlabError
        As :func:`compare`.
    """
    need_cross_section(study)
    if "stratum" not in study.frame:
        return None
    rows = study.frame
    drawn = drawn_of(study, rows, rows["arm"].to_numpy(), ())
    compared, strata = compare(drawn), strata_of(drawn)
    pooled = float(drawn.outcome[drawn.arm == 1].mean() - drawn.outcome[drawn.arm == 0].mean())
    blocked, se, _ = compared.contrast((-1.0, 1.0))
    minimum, units = study.program.analysis.minimum_group_size, study.program.design.units
    out, shares = compared.left_out_units, _shares(drawn, minimum)
    return Blocks(
        strata=int((strata.large | strata.small).sum()),
        small=int(strata.small.sum()),
        left_out=compared.left_out_strata,
        left_out_units=f"{f'{out:,}' if out >= minimum else f'fewer than {minimum}'} {units}",
        least_share=None if shares is None else float(shares.min()),
        most_share=None if shares is None else float(shares.max()),
        blocked=blocked,
        pooled=pooled,
        sentence=_in_words(study, shares, blocked - pooled, se, small=bool(strata.small.any())),
    )


def _shares(drawn: Drawn, minimum: int) -> pd.Series | None:
    """Treated share in percent of the strata whose arms are large enough to be shown."""
    cells = pd.crosstab(drawn.stratum, drawn.arm)
    shown = cells[(cells >= minimum).all(axis=1) & (cells.shape[1] > 1)]
    return None if len(shown) < 2 else 100 * shown[1] / shown.sum(axis=1)


def _in_words(study: Study, shares: pd.Series | None, gap: float, se: float, *, small: bool) -> str:
    units = study.program.design.units
    how = f"Each arm is compared within its stratum, and strata count by their numbers of {units}"
    if small:
        how += "; some have one in an arm, so the error comes from how the strata's differences vary"
    if shares is None:
        return f"{how}."
    least, most = (format_number(float(x), 0) for x in (shares.min(), shares.max()))
    if least == most:
        return f"{how}; {least}% are trained in each, so the plain difference agrees."
    size = "more" if abs(gap) > se else "less"
    return (
        f"{how}. The trained share goes from {least}% to {most}%, so the plain difference mixes the strata with the "
        f"effect: it is off by {size} than one standard error."
    )


def rows_for(study: Study, *, adjusted: bool) -> pd.DataFrame:
    """The rows that an estimator uses: all, or those with every covariate."""
    need_cross_section(study)
    return complete_cases(study) if adjusted else study.frame
