"""The panel model: effects by cohort and time since the start, pooled; only how far they differ is sampled.

A cohort's mean in a period is a level of the cohort's own, what the period did to all, and, once trained, an effect.
Flat priors on levels and periods leave contrasts between cohorts of contrasts between periods. Rotated by their
covariance (``panel_errors``) these are independent, normal around what effects do to them, with sd 1. The effect in a
cell of cohort and period is

    effect + growth x time since the start + path(time since the start) + cohort + cell,

where all but the first are deviations that average to 0 over the trained unit-periods: ``effect`` is the average effect
on the trained. The path is a random walk, so neighbouring times are alike. Path, cohorts and cells each have a spread of
their own, which the data inform; growth has a given one, or it would be pulled to none where late times are seen rarely.
Given the spreads all effects are normal: they are integrated out, and drawn afterwards. So the number of parameters
does not depend on the panel. The errors' scale is uncertain too: it is drawn as the clusters' scatter leaves it (a
scaled inverse chi-square, which makes the effects t), and learns nothing from the cohorts' means, of which it would
believe too much: they are many, but of few cohorts (a cut: Plummer 2015, Cuts in Bayesian graphical models, Statistics
and Computing 25).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from ldlab.bayes.compiled import Data, Shape
from ldlab.bayes.panel_errors import Errors
from ldlab.bayes.panel_series import Series, trained_cells
from ldlab.bayes.priors import Priors
from ldlab.bayes.units import Floats, Ints

KINDS = ("path", "cohort", "cell")
PATH, COHORT, CELL, GIVEN = 0, 1, 2, -1
UNKNOWN = 10.0  # sds of a change: as good as flat, for cells that were announced, or in which nobody was seen
TOGETHER = 500  # draws at a time
MOST_NODES, SPACING = (
    48,
    0.35,
)  # nodes are the variances themselves, or so far apart in logs: weights within 1.6%
SMALLEST = 1e-4  # relative variance by cells that is as good as none
ONE, SQUARE = np.ones(1), np.zeros((1, 1))


def build(_: Shape) -> pm.Model:
    """The model, its numbers still to be put in: three parameters for a panel of any size.

    Spreads are half-normal: normal, with a sign that nothing depends on, so that the way through 0 is open. ``grams``,
    ``moments``, ``squares`` and ``counts`` are sums over the contrasts at a node, which all have the variance
    ``1 + node * (spread of cells)^2``.
    """
    with pm.Model() as model:
        signed = pm.Normal("signed_spread", 0, 1, shape=len(KINDS))
        pm.Deterministic("relative_spread", pt.abs(signed))
        spread = pm.Data("prior_spread", 1.0) * signed
        weight = 1 / (1 + pm.Data("nodes", ONE) * spread[CELL] ** 2)
        sd = pm.Data("given", ONE) + pt.dot(pm.Data("kind", np.zeros((1, CELL))), spread[:CELL])
        size = sd.shape[0]
        gram = pt.dot(weight, pm.Data("grams", SQUARE)).reshape((size, size))
        moment = sd * pt.dot(weight, pm.Data("moments", SQUARE))
        root = pt.linalg.cholesky(pt.eye(size) + sd[:, None] * gram * sd)
        fitted = pt.linalg.solve_triangular(root, moment, lower=True)
        fit = pt.sum(fitted**2) - pt.dot(weight, pm.Data("squares", ONE))
        volume = pt.dot(pt.log(weight), pm.Data("counts", ONE)) / 2 - pt.sum(pt.log(pt.diag(root)))
        pm.Potential("kpi", fit / 2 + volume)
    return model


@dataclass(frozen=True)
class Cells:
    """The cells that training may have moved: cohort, period, event time, and share of the trained unit-periods."""

    cohort: Ints
    period: Ints
    event: Ints
    share: Floats

    @classmethod
    def of(cls, series: Series) -> Cells:
        """All of them; announced but not yet trained ones, and those that nobody was seen in, have no share."""
        cohort, period, event = np.array(list(trained_cells(series)), dtype=np.int64).T
        rows = series.rows[cohort, period] * (event >= 0) * series.seen[cohort, period]
        return cls(cohort, period, event, rows / rows.sum())

    @property
    def trained(self) -> Any:
        """(cells,) whether training had begun."""
        return self.event >= 0


class Panel:
    """The numbers of one program: what :func:`build` is given, and draws of the effects from what it returns.

    ``map`` (cells, d) and ``design`` (contrasts, d) say what ``d`` normal deviations (the average effect first) do to the
    effect in each cell and to each rotated contrast; ``of_cells`` (contrasts,) the variance there by one of cells.
    """

    def __init__(self, series: Series, errors: Errors, prior: Priors) -> None:
        self.series, self.errors, self.prior, self.cells = series, errors, prior, Cells.of(series)
        self.rows = np.linalg.solve(errors.root, series.contrasts)  # (t - 1, t) periods, whitened
        self.columns = _cohort_contrasts(series.overlap)  # (g - 1, g) cohorts, whitened
        blocks = self._blocks()
        self.cell_map = blocks.pop()[2]
        self.axes, scales, self.cell_axes = np.linalg.svd(self._seen(self.cell_map))
        self.scales = np.zeros(len(self.axes))
        self.scales[: len(scales)] = scales
        self.kinds = np.concatenate([np.full(block.shape[1], kind) for kind, _, block in blocks])
        self.given = np.concatenate([np.full(block.shape[1], sd) for _, sd, block in blocks])
        self.map = np.column_stack([block for _, _, block in blocks])
        self.design = self.axes.T @ self._seen(self.map)
        self.z = self.axes.T @ self.contrast(series.means) - self.design[:, 0] * prior.effect_mean

    shape = Shape()

    def contrast(self, means: Floats) -> Floats:
        """(contrasts,) the whitened contrasts of a (g, t) table."""
        return np.asarray((self.rows @ means.T @ self.columns.T).ravel())

    def _seen(self, block: Floats) -> Floats:
        """(contrasts, d) what deviations do to the contrasts."""
        tables = np.zeros((block.shape[1], *self.series.means.shape))
        tables[:, self.places[0], self.places[1]] = block.T
        return np.einsum("rt,dgt,cg->rcd", self.rows, tables, self.columns, optimize=True).reshape(
            -1, block.shape[1]
        )

    @property
    def places(self) -> tuple[Ints, Ints]:
        """Cohort and period of each row of ``map``: the cells, then those nobody was seen in."""
        blank = np.argwhere(~self.series.seen)
        return np.append(self.cells.cohort, blank[:, 0]), np.append(self.cells.period, blank[:, 1])

    def _blocks(self) -> list[tuple[int, float, Floats]]:
        """Kind, given sd and map of each block of deviations; that of the cells is the last."""
        cells, trained = self.cells, self.cells.trained
        blank = len(self.places[0]) - len(trained)
        event = np.where(trained, cells.event, 0)
        member = (cells.event[:, None] == np.arange(event.max() + 1)) & trained[:, None]
        cohorts = (cells.cohort[:, None] == np.unique(cells.cohort)).astype(float)
        crossed = cohorts.shape[1] > 1 and member.any(axis=0).sum() > 1
        free = np.eye(len(trained) + blank)[:, np.append(~trained, np.ones(blank, dtype=bool))]
        deviations = (
            (GIVEN, self.prior.segment_sd, event[:, None].astype(float)),
            (PATH, 0.0, member @ np.tril(np.ones((event.max() + 1, event.max() + 1)))),
            (COHORT, 0.0, cohorts),
            (CELL, 0.0, np.eye(len(trained)) * crossed),
        )
        centred = [
            (kind, sd, np.pad(self._centred(raw), ((0, blank), (0, 0)))) for kind, sd, raw in deviations
        ]
        effect = np.pad(trained.astype(float), (0, blank))[:, None]
        given = [(GIVEN, self.prior.effect_sd, effect), (GIVEN, UNKNOWN * self.series.sd, free)]
        return [*given, *centred]

    def _centred(self, raw: Floats) -> Floats:
        """Deviations that average to 0 over the trained unit-periods, with sd 1 there; none where nothing is left."""
        own = (raw - self.cells.share @ raw) * self.cells.trained[:, None]
        size = float(np.sqrt(self.cells.share @ (own**2).sum(axis=1)))
        return own / size if size > 1e-8 else 0 * own

    @property
    def present(self) -> list[int]:
        """The kinds of deviations that this panel has."""
        maps = [self.map[:, self.kinds == kind] for kind in (PATH, COHORT)] + [self.cell_map]
        return [kind for kind, block in enumerate(maps) if block.any()]

    def data(self) -> Data:
        """What :func:`build` reads."""
        return {
            "prior_spread": self.prior.segment_sd,
            "given": self.given,
            "kind": (self.kinds[:, None] == np.arange(CELL)).astype(float),
            **self.sums,
        }

    @cached_property
    def sums(self) -> dict[str, Floats]:
        """Sums over the contrasts near each node of the variance by cells; between two nodes a contrast is shared."""
        nodes, near = _nodes(self.scales**2, SMALLEST / self.prior.segment_sd**2)
        grams = [self.design.T @ (self.design * share[:, None]) for share in near.T]
        return {
            "nodes": nodes,
            "grams": np.array(grams).reshape(len(nodes), -1),
            "moments": (near.T * self.z) @ self.design,
            "squares": near.T @ self.z**2,
            "counts": near.sum(axis=0),
        }

    def error_scale(self, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
        """Draws of the errors' scale, about 1: as uncertain as so many clusters leave it."""
        degrees = self.errors.degrees
        return np.sqrt(degrees / rng.chisquare(degrees, shape))

    def cell_effects(self, relative_spread: Floats, sigma: Floats, rng: np.random.Generator) -> Floats:
        """(chain, draw, cells) draws of the effect in every cell that training may have moved, given what was sampled."""
        spread = self.prior.segment_sd * relative_spread
        flat = spread.reshape(-1, len(KINDS)), sigma.ravel()
        parts = [
            self._given_spreads(flat[0][i : i + TOGETHER], flat[1][i : i + TOGETHER], rng)
            for i in range(0, len(flat[1]), TOGETHER)
        ]
        return np.concatenate(parts).reshape(*sigma.shape, -1)

    def _given_spreads(self, spread: Floats, sigma: Floats, rng: np.random.Generator) -> Floats:
        """(draws, cells): first what cells have in common, then each cell's own, in the data's axes."""
        sd = self.given + np.where(self.kinds >= 0, spread[:, self.kinds], 0.0)
        weight = 1 / (sigma[:, None] ** 2 + spread[:, [CELL]] ** 2 * self.sums["nodes"])
        size = len(self.kinds)
        gram = (weight @ self.sums["grams"]).reshape(-1, size, size)
        gram = np.eye(size) + sd[:, :, None] * gram * sd[:, None, :]
        moments = (sd * (weight @ self.sums["moments"]))[..., None]
        root = np.linalg.cholesky(np.linalg.inv(gram))
        noise = root @ rng.standard_normal((*sigma.shape, len(self.kinds), 1))
        shared = sd * (np.linalg.solve(gram, moments) + noise)[..., 0]
        effects = shared @ self.map.T + self._own(
            spread[:, CELL], sigma, self.z - shared @ self.design.T, rng
        )
        kept = effects[:, : len(self.cells.event)]
        return np.asarray(kept + self.prior.effect_mean * self.cells.trained)

    def _own(self, spread: Floats, sigma: Floats, rest: Floats, rng: np.random.Generator) -> Floats:
        """(draws, places) each cell's own deviation; what the data do not see of it is as in the prior."""
        size = len(self.cell_axes)
        scale, told = np.zeros(size), np.zeros((len(sigma), size))
        both = min(size, len(self.scales))
        scale[:both], told[:, :both] = self.scales[:both], rest[:, :both]
        ratio = spread[:, None] ** 2 / (sigma[:, None] ** 2 + spread[:, None] ** 2 * scale**2)
        own = ratio * scale * told
        own += sigma[:, None] * np.sqrt(ratio) * rng.standard_normal(own.shape)
        return np.asarray(own @ self.cell_axes @ self.cell_map.T)

    def prior_effect(self, draws: int, rng: np.random.Generator) -> Floats:
        """(draws,) the average effect from the prior."""
        return np.asarray(rng.normal(self.prior.effect_mean, self.prior.effect_sd, draws))


def _nodes(values: Floats, smallest: float) -> tuple[Floats, Floats]:
    """Nodes for variances, and (values, nodes) how near each value is to its two nodes, adding up to 1.

    Examples
    --------
    >>> _nodes(np.array([0.5, 2.0]), 1e-4)[0].tolist()
    [0.5, 2.0]
    """
    if len(values) <= MOST_NODES:
        return values, np.eye(len(values))
    log = np.log(np.maximum(values, smallest))
    steps = max(int(np.ceil(np.ptp(log) / SPACING)), 1)
    grid = np.linspace(log.min(), log.max(), steps + 1)
    place = np.clip((log - grid[0]) / max(grid[-1] - grid[0], 1e-12) * steps, 0, steps)
    return np.exp(grid), np.maximum(1 - np.abs(place[:, None] - np.arange(steps + 1)), 0.0)


def _cohort_contrasts(overlap: Floats) -> Floats:
    """(g - 1, g) rows that add up to 0, in which the cohorts' errors are independent with variance 1."""
    differences = np.column_stack([np.eye(len(overlap) - 1), -np.ones(len(overlap) - 1)])
    return np.asarray(np.linalg.solve(np.linalg.cholesky(differences @ overlap @ differences.T), differences))
