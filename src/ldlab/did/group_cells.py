"""Group-time effects: one for each cohort and period, and weighted averages of them with their covariance."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ldlab.did.clusters import clusters_of
from ldlab.program import LdlabError

BLOCK = 64  # cells whose influence is held at once


class Influence(NamedTuple):
    """What each unit adds to a cell's error: clusters of its trained and comparison units, and their parts."""

    trained: np.ndarray
    trained_part: np.ndarray
    control: np.ndarray
    control_part: np.ndarray


@dataclass(frozen=True)
class GroupCells:
    """Group-time effects: of cohort g in period t, relative to its last period before training.

    Attributes
    ----------
    start, period
        (cells,) ranks of the cohort's first trained period and of the period.
    effect
        (cells,) in effect units.
    trained, controls
        (cells,) units seen both in the base period and in the period.
    influence
        One for each cell; sums of squares over clusters are its variance.
    cohort_units
        (clusters, periods) trained units by cluster and start.
    correction
        What the sum of squares over clusters is multiplied by: G / (G - 1) for clusters, 1 for units (as R's
        did does).
    """

    start: np.ndarray
    period: np.ndarray
    effect: np.ndarray
    trained: np.ndarray
    controls: np.ndarray
    influence: tuple[Influence, ...]
    cohort_units: np.ndarray
    correction: float

    @property
    def event(self) -> np.ndarray:
        """(cells,) periods since the start."""
        return self.period - self.start

    def where(self, kept: np.ndarray) -> GroupCells:
        """The cells for which ``kept`` is true."""
        rows = np.flatnonzero(kept)
        return GroupCells(
            start=self.start[rows],
            period=self.period[rows],
            effect=self.effect[rows],
            trained=self.trained[rows],
            controls=self.controls[rows],
            influence=tuple(self.influence[row] for row in rows),
            cohort_units=self.cohort_units,
            correction=self.correction,
        )

    def average(self, counted: np.ndarray) -> Averages:
        """Averages of cells, weighted by their trained units.

        Parameters
        ----------
        counted
            (cells, averages) of 0 and 1: which cells each average is of.

        Notes
        -----
        Callaway & Sant'Anna (2021), Journal of Econometrics 225, sections 3 and 4: the influence of a unit on an
        average is its weighted influence on the cells, and what it does to the weights, which are estimated too.
        """
        mass = counted * self.trained[:, None]
        total = mass.sum(axis=0)
        weight = mass / total
        value = weight.T @ self.effect
        by_weight = counted * (self.effect[:, None] - value) / total
        influence = np.zeros((len(self.cohort_units), counted.shape[1]))
        for first in range(0, len(self.influence), BLOCK):
            block = slice(first, first + BLOCK)
            parts, seen = self._by_cluster(self.influence[block])
            influence += parts @ weight[block] + seen @ by_weight[block]
        return Averages(value, influence, self.correction)

    def _by_cluster(self, influence: Sequence[Influence]) -> tuple[np.ndarray, np.ndarray]:
        """(clusters, cells) sums of the influence, and numbers of trained units."""
        clusters = len(self.cohort_units)
        parts, seen = np.empty((2, len(influence), clusters))
        for k, part in enumerate(influence):
            parts[k] = np.bincount(part.trained, part.trained_part, clusters)
            parts[k] += np.bincount(part.control, part.control_part, clusters)
            seen[k] = np.bincount(part.trained, minlength=clusters)
        return parts.T, seen.T


@dataclass(frozen=True)
class Averages:
    """Estimates and the influence of each cluster on them.

    Attributes
    ----------
    value
        (averages,).
    influence
        (clusters, averages).
    correction
        As in :class:`GroupCells`.
    """

    value: np.ndarray
    influence: np.ndarray
    correction: float

    @property
    def covariance(self) -> np.ndarray:
        """(averages, averages), clustered."""
        return self.correction * self._centred.T @ self._centred

    @property
    def se(self) -> np.ndarray:
        """(averages,) standard errors."""
        return np.sqrt(self.correction * (self._centred**2).sum(axis=0))

    @property
    def _centred(self) -> np.ndarray:
        return self.influence - self.influence.mean(axis=0) * (self.correction != 1)

    def mean(self, counted: np.ndarray) -> Averages:
        """Their plain mean over those ``counted``, with fixed weights."""
        return Averages(
            np.array([self.value[counted].mean()]),
            self.influence[:, counted].mean(axis=1, keepdims=True),
            self.correction,
        )

    def weighted_by_units(self, units: np.ndarray) -> Averages:
        """Their mean weighted by units; ``units`` is (clusters, averages), how many belong to each."""
        total = units.sum()
        value = float(self.value @ units.sum(axis=0) / total)
        influence = self.influence @ units.sum(axis=0) / total + units @ (self.value - value) / total
        return Averages(np.array([value]), influence[:, None], self.correction)


def fit_cells(
    rows: pd.DataFrame,
    *,
    never_trained: bool,
    anticipation: int,
    covariates: Sequence[str] = (),
    propensity: bool = False,
) -> tuple[GroupCells, tuple[str, ...]]:
    """Group-time effects by diff-diff, on units seen in both periods that a cell compares.

    Parameters
    ----------
    rows
        A study's frame without units trained from the start; covariates constant within units, none missing.
    never_trained
        Compare with the never trained only; else with the not yet trained too.
    anticipation
        Periods before the start that do not count as before.
    covariates, propensity
        Adjust for them by outcome regression; with ``propensity`` doubly robust (Sant'Anna & Zhao 2020).

    Returns
    -------
    GroupCells
        Of the cells that could be estimated, but for each cohort's base period.
    tuple of str
        What the library warned of.

    Raises
    ------
    LdlabError
        If no cell can be estimated.
    """
    from diff_diff import CallawaySantAnna

    unit, units = pd.factorize(rows["unit"], sort=True)
    panel = pd.DataFrame({"unit": unit, "period": rows["period"].to_numpy() + 1})
    panel["start"] = rows["start"].fillna(-1).to_numpy() + 1  # 0 is never
    panel["outcome"] = rows["outcome"].to_numpy(dtype=float)
    panel[list(covariates)] = rows[list(covariates)].to_numpy(dtype=float)
    estimator = CallawaySantAnna(
        control_group="never_treated" if never_trained else "not_yet_treated",
        anticipation=anticipation,
        estimation_method="dr" if propensity else "reg",
        base_period="universal",
        rank_deficient_action="silent",
        pscore_fallback="unconditional",
    )
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            fit = estimator.fit(panel, "outcome", "unit", "period", "start", list(covariates) or None)
        except ValueError as error:
            raise LdlabError(f"group-time effects: found nothing to compare ({error}).") from error
    return _cells_of(fit, rows, unit, len(units)), tuple(str(warning.message) for warning in warned)


def _cells_of(fit: Any, rows: pd.DataFrame, unit: np.ndarray, units: int) -> GroupCells:
    """diff-diff's result by cluster; a unit that changes cluster counts in its first."""
    first = np.unique(unit, return_index=True)[1]
    cluster = pd.factorize(clusters_of(rows).to_numpy()[first], sort=True)[0]
    start = rows["start"].to_numpy()[first]
    trained = ~np.isnan(start)
    clusters, periods = int(cluster.max()) + 1, int(rows["period"].max()) + 1
    cohort_units = np.zeros((clusters, periods))
    np.add.at(cohort_units, (cluster[trained], start[trained].astype(int)), 1)
    influence = fit._aggregation_kit.influence
    kept = [
        (key, cell)
        for key, cell in sorted(fit.group_time_effects.items())
        if np.isfinite(cell["effect"]) and not cell.get("is_reference")
    ]
    return GroupCells(
        start=np.array([int(g) - 1 for (g, _), _ in kept]),
        period=np.array([int(t) - 1 for (_, t), _ in kept]),
        effect=np.array([cell["effect"] for _, cell in kept]),
        trained=np.array([cell["n_treated"] for _, cell in kept]),
        controls=np.array([cell["n_control"] for _, cell in kept]),
        influence=tuple(_influence_of(influence[key], cluster) for key, _ in kept),
        cohort_units=cohort_units,
        correction=1.0 if clusters == units else clusters / (clusters - 1),
    )


def _influence_of(found: dict[str, np.ndarray], cluster: np.ndarray) -> Influence:
    return Influence(
        cluster[found["treated_idx"]],
        found["treated_inf"],
        cluster[found["control_idx"]],
        found["control_inf"],
    )
