"""A panel of any size as a few numbers: the period means of each cohort, and how far its clusters stray from them.

Within a cohort (units that start together) the KPI is regressed on unit and period effects, so that joiners, leavers and
gaps do not move the cohort's mean. What is left over, added up by cluster (units, where none is named), are the cluster's
shares in the error of that mean, whatever its autocorrelation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import linalg
from scipy.sparse.csgraph import connected_components

from ldlab.bayes.units import Floats, Ints
from ldlab.program import LdlabError, Study

FEWEST_DEGREES = 3.0  # clusters beyond one in each cohort, from which errors can be learned


@dataclass(frozen=True, eq=False, repr=False)
class Series:
    """What a panel says about effects; g cohorts (the last never trained in the periods read), t periods.

    Attributes
    ----------
    study
        The study, its rows those that were read.
    starts
        (g - 1,) first trained period of each trained cohort, in order.
    means
        (g, t) each cohort's KPI by period, apart from a constant, in effect units; 0 where nobody was seen.
    seen
        (g, t) whether the mean is known.
    rows
        (g, t) units seen.
    units
        (g,) units.
    overlap
        (g, g) covariance between the cohorts' means in one direction of the periods, in those of a typical cluster.
    scatter, degrees
        (t - 1, t - 1) sum of squares and products of clusters' errors in the directions of ``contrasts``, each in those
        of a typical cluster; and the degrees of freedom behind it.
    clusters
        Number of clusters.
    sd
        Sd of an untrained unit's change between two periods.
    anticipation
        Periods before the start that do not count as before.
    too_few_clusters
        Whether the clusters were too few to learn from, so that the errors are those of units that owe nothing to
        their cluster: too small, and good for no claim.
    """

    study: Study
    starts: Ints
    means: Floats
    seen: NDArray[np.bool_]
    rows: Floats
    units: Ints
    overlap: Floats
    scatter: Floats
    degrees: float
    clusters: int
    sd: float
    anticipation: int
    too_few_clusters: bool = False

    @property
    def contrasts(self) -> Floats:
        """(t - 1, t) orthonormal directions in which a constant does not show."""
        return contrasts(self.means.shape[1])

    def event_times(self) -> Floats:
        """(g, t) periods since the start; NaN in the cohort without one."""
        starts = np.append(self.starts, np.nan)[:, None]
        return np.asarray(np.arange(self.means.shape[1]) - starts)


def contrasts(periods: int) -> Floats:
    """(periods - 1, periods) orthonormal rows that add up to 0.

    Examples
    --------
    >>> contrasts(2).round(3).tolist()
    [[0.707, -0.707]]
    """
    return np.asarray(linalg.helmert(periods))


def series_of(study: Study) -> Series:
    """Reduce a staggered panel to its :class:`Series`.

    Units trained, or reacting in anticipation, from the first period on have no before and are left out. Where fewer
    than the minimum group are never trained, the periods from which all others are trained are left out, because nobody
    is left to compare with, and those who start last count as untrained. Both are counted in ``left_out``.

    Raises
    ------
    LdlabError
        Another design; Student-t errors; under the minimum group trained or untrained; too few units to learn errors
        from; a KPI without spread.
    """
    program = study.program
    if program.design.kind != "staggered":
        raise LdlabError(f"bayes: found design {program.design.kind}; expected staggered for the panel model")
    if program.analysis.errors == "student_t":
        raise LdlabError(
            "bayes: found analysis.errors: student_t; expected normal in a staggered panel, whose model reads means of "
            "many units. Take analysis.errors out of the program file"
        )
    study = _comparable(study)
    frame = study.frame
    unit, names = pd.factorize(frame["unit"])
    ranks, period = np.unique(frame["period"], return_inverse=True)
    shape = (len(names), len(ranks))
    outcome, observed = np.zeros(shape), np.zeros(shape)
    outcome[unit, period] = frame["outcome"].to_numpy(dtype=float)
    observed[unit, period] = 1.0
    first = np.zeros(len(names), dtype=np.int64)
    first[unit] = np.arange(len(frame))
    start = frame["start"].to_numpy(dtype=float)[first]
    place = np.where(np.isnan(start), len(ranks), np.searchsorted(ranks, start))
    starts = np.unique(place[place < len(ranks)])
    cohort = np.searchsorted(starts, place)
    _refuse_small(study, cohort, len(starts))
    cluster = pd.factorize(frame["cluster"].to_numpy()[first])[0] if "cluster" in frame else None
    return _reduced(study, (outcome, observed), cohort, starts, cluster)


def _comparable(study: Study) -> Study:
    """The study without rows that nothing can be compared with; who is trained later than they end is untrained."""
    frame, design = study.frame, study.program.design
    early = frame["start"] - design.anticipation <= frame["period"].min()
    left_out = [
        (f"{design.units} without a {design.period} before training", frame.loc[early, "unit"].nunique())
    ]
    frame = frame[~early]
    never = frame.loc[frame["start"].isna(), "unit"].nunique()
    if never < study.program.analysis.minimum_group_size and frame["start"].notna().any():
        late = frame["period"] >= frame["start"].max() - design.anticipation
        left_out.append(
            (f"rows of {design.period}s in which nobody was left to compare with", int(late.sum()))
        )
        later = frame["start"] == frame["start"].max()
        frame = frame.assign(start=frame["start"].mask(later), arm=frame["arm"].mask(later, 0))[~late]
    kept = tuple(item for item in left_out if item[1])
    return replace(study, frame=frame.reset_index(drop=True), left_out=(*study.left_out, *kept))


def _refuse_small(study: Study, cohort: Ints, trained: int) -> None:
    design, minimum = study.program.design, study.program.analysis.minimum_group_size
    sizes = {"trained": int((cohort < trained).sum()), "untrained": int((cohort == trained).sum())}
    for arm, size in sizes.items():
        if size < minimum:
            raise LdlabError(
                f"bayes: found fewer than {minimum} {design.units} that are {arm} in the {design.period}s that can be "
                f"compared; expected at least analysis.minimum_group_size = {minimum}. Where all start together "
                f"nobody is left to compare with: name {design.units} that are not trained, or use before_after"
            )


def _reduced(
    study: Study, table: tuple[Floats, Floats], cohort: Ints, starts: Ints, cluster: Ints | None
) -> Series:
    """The numbers of a (units, t) table of outcomes and whether they were observed."""
    outcome, observed = table
    groups, periods = len(starts) + 1, outcome.shape[1]
    means, seen = np.zeros((groups, periods)), np.zeros((groups, periods), dtype=bool)
    rest, inverses = np.zeros_like(outcome), np.zeros((groups, periods, periods))
    for group in range(groups):
        own = cohort == group
        means[group], seen[group], inverses[group], rest[own] = _means(outcome[own], observed[own])
    member = np.arange(len(cohort)) if cluster is None else cluster
    errors = _Errors(rest, observed, cohort, member, inverses, clustered=cluster is not None)
    too_few = cluster is not None and errors.degrees < FEWEST_DEGREES
    if too_few:
        errors = _Errors(rest, observed, cohort, np.arange(len(cohort)), inverses, clustered=False)
    degrees = errors.degrees
    if degrees < FEWEST_DEGREES:
        units = study.program.design.units
        raise LdlabError(
            f"bayes: found {errors.clusters} {units} in {groups} cohorts; expected at least {FEWEST_DEGREES:.0f} more "
            f"than cohorts, to learn from how {units} of one cohort differ. Use diff_in_diff, which says what so few "
            "can show"
        )
    if not errors.scatter.any():
        raise LdlabError(
            "bayes: the KPI never strays from its cohort's mean; there is no spread to learn from"
        )
    return Series(
        study=study,
        starts=starts,
        means=means,
        seen=seen,
        rows=np.array([observed[cohort == group].sum(axis=0) for group in range(groups)]),
        units=np.bincount(cohort, minlength=groups),
        overlap=errors.overlap,
        scatter=errors.scatter,
        degrees=degrees,
        clusters=errors.clusters,
        sd=float(
            np.sqrt(2 * (rest**2).sum() / max(observed.sum() - len(cohort) - groups * (periods - 1), 1))
        ),
        anticipation=study.program.design.anticipation,
        too_few_clusters=too_few,
    )


def _means(y: Floats, o: Floats) -> tuple[Floats, NDArray[np.bool_], Floats, Floats]:
    """Period effects of one cohort with unit effects taken out: them, whether known, the inverse, the residuals.

    Unit effects are concentrated out, which leaves a Laplacian of the graph that links periods in which one unit was
    seen; periods outside its largest connected part are not known.
    """
    share = o / np.maximum(o.sum(axis=1, keepdims=True), 1)
    laplacian = np.diag(o.sum(axis=0)) - share.T @ o
    part = connected_components(np.abs(laplacian) > 1e-9, directed=False)[1]
    size = np.bincount(part, weights=o.sum(axis=0))
    known = (part == size.argmax()) & (o.sum(axis=0) > 0)
    inverse = np.zeros_like(laplacian)
    inverse[np.ix_(known, known)] = np.linalg.pinv(laplacian[np.ix_(known, known)], hermitian=True)
    gap = o * (y - (share * y).sum(axis=1, keepdims=True))
    mean = inverse @ gap.sum(axis=0)
    rest = o * known * (gap - mean + (share @ mean)[:, None])
    return mean, known, inverse, rest


class _Errors:
    """Clusters' shares in the errors of cohort means, made comparable over clusters of different size.

    A cluster's mean of n units has a shock of its own (variance ``shared``) and 1/n of a unit's (``single``): a one-way
    analysis of variance over all periods says how much of each (Searle, Casella and McCulloch 1992, Variance
    Components, section 3.6).
    """

    def __init__(
        self, rest: Floats, observed: Floats, cohort: Ints, member: Ints, inverses: Floats, *, clustered: bool
    ) -> None:
        periods = rest.shape[1]
        self.groups = len(inverses)
        self.clusters = int(member.max()) + 1
        cells, cell = np.unique(np.column_stack([cohort, member]), axis=0, return_inverse=True)
        cell = cell.ravel()
        self.cohort, self.member = cells.T
        self.rest = np.column_stack([np.bincount(cell, weights=rest[:, t]) for t in range(periods)])
        self.n = np.bincount(cell, weights=observed.sum(axis=1)) / periods
        self.share = self.n / np.bincount(self.cohort, weights=self.n)[self.cohort]
        self.shared, self.single = self._components(rest, np.bincount(cell)) if clustered else (0.0, 1.0)
        self.own = self.share**2 * (self.shared + self.single / self.n)
        found = np.empty_like(self.rest)
        for group, inverse in enumerate(inverses):
            found[self.cohort == group] = self.rest[self.cohort == group] @ inverse
        scaled = found @ contrasts(periods).T / np.sqrt(self.own)[:, None]
        self.scatter = scaled.T @ scaled

    def _components(self, rest: Floats, units: Ints) -> tuple[float, float]:
        """Variance of what a cluster shares, and of a single unit beside it; their sum for one unit is 1."""
        total = float((rest**2).sum())
        between = float(((self.rest**2).sum(axis=1) / units).sum())
        within = max(total - between, 0.0) / max(len(rest) - len(units), 1)
        sums = np.bincount(self.cohort, weights=units.astype(float))
        squares = np.bincount(self.cohort, weights=units.astype(float) ** 2)
        degrees = max(len(units) - self.groups, 1)
        size = (len(rest) - (squares / sums).sum()) / degrees
        shared = max(between / degrees - within, 0.0) / max(size, 1e-12)
        if shared + within == 0:
            return 0.0, 1.0
        return shared / (shared + within), within / (shared + within)

    @property
    def overlap(self) -> Floats:
        """(g, g): clusters with units of two cohorts share a shock."""
        weight = np.zeros((self.groups, self.clusters))
        weight[self.cohort, self.member] = self.share
        both = self.shared * weight @ weight.T
        np.fill_diagonal(both, np.bincount(self.cohort, weights=self.own))
        return both

    @property
    def degrees(self) -> float:
        """Expected sum of the scaled errors' squares, in those of a typical cluster, in one direction."""
        whole = np.bincount(self.cohort, weights=self.own)[self.cohort]
        kept = 1 - 2 * self.share + self.share**2 * whole / self.own
        return float(min(kept.sum(), self.clusters - 1))


def trained_cells(series: Series) -> Iterator[tuple[int, int, int]]:
    """(cohort, period, event time) of every cell that training, or its announcement, may have moved."""
    times = series.event_times()
    for group, period in np.argwhere(times >= -series.anticipation):
        yield int(group), int(period), int(times[group, period])
