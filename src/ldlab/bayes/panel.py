"""Staggered panels: draws of the effect on the trained, from the model of ``panel_model``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pymc as pm
import xarray as xr
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from ldlab.bayes.compiled import Sampling, compiled, sample, with_data
from ldlab.bayes.panel_errors import Errors, errors_of
from ldlab.bayes.panel_events import pools_after
from ldlab.bayes.panel_model import KINDS, Panel, build
from ldlab.bayes.panel_series import series_of
from ldlab.bayes.priors import Priors, panel_priors
from ldlab.bayes.units import Floats
from ldlab.estimate import Printed
from ldlab.program import Study

PRIOR_DRAWS = 4000


@dataclass(frozen=True, eq=False, repr=False)
class PanelPosterior(Printed):
    """Draws from the posterior of a staggered panel. Made by :func:`ldlab.bayes.fit`.

    Attributes
    ----------
    study
        The study, its rows those that can be compared.
    priors
        The priors, in KPI units.
    idata
        xarray DataTree with the groups ``posterior`` (``effect``; ``event_effect`` by time since the start; ``spread`` of
        path, cohorts and cells; ``error_scale``, about 1), ``prior`` (draws of the effect) and ``sample_stats``; no data
        of single units.
    errors
        How clusters (units, where none is named) stray from period to period.
    """

    study: Study
    priors: Priors
    idata: xr.DataTree
    errors: Errors
    panel: Panel = field(repr=False)
    cell_effects: Floats = field(repr=False)  # (chain, draw, cells)

    units: ClassVar[None] = None  # what the other models have, so that one notebook reads all of them
    segments: ClassVar[tuple[str, ...]] = ()
    family: ClassVar[str] = "panel"

    @property
    def effect(self) -> Floats:
        """(chains x draws,) the average effect over trained unit-periods, in effect units."""
        return np.asarray(self.idata["posterior"]["effect"].values).ravel()

    @property
    def prior_effect(self) -> Floats:
        """(draws,) the same from the prior."""
        return np.asarray(self.idata["prior"]["effect"].values).ravel()

    @property
    def segment_effects(self) -> dict[str, Floats]:
        """None: segments are not compared in a staggered panel."""
        return {}

    @property
    def method(self) -> str:
        """How it was estimated, in words."""
        return "Bayesian panel model, effects pooled over cohorts and time since the start, autocorrelated errors"

    def _rows(self) -> list[tuple[str, str]]:
        """What was sampled; the effect waits until convergence was looked at."""
        sizes, counts, design = self.idata["posterior"].sizes, self.study.count(), self.study.program.design
        one = design.columns.cluster or design.unit
        who = f"clusters ({design.columns.cluster})" if design.columns.cluster else design.units
        return [
            ("model", self.method),
            ("read", f"{counts['observations']:,} rows of {self.panel.series.clusters:,} {who}"),
            (
                "errors",
                f"one {one}'s are correlated {self.errors.autocorrelation:.2f} from one {design.period} to the next, "
                f"but for a share of {self.errors.noise:.0%} that is gone by then",
            ),
            ("draws", f"{sizes['chain']} chains of {sizes['draw']:,}"),
        ]


def panel_of(study: Study, prior: Priors | None = None) -> Panel:
    """The numbers of a staggered panel's model.

    Raises
    ------
    LdlabError
        As :func:`ldlab.bayes.panel_series.series_of`.
    """
    series = series_of(study)
    return Panel(series, errors_of(series), prior or panel_priors(series))


def panel_model(study: Study) -> pm.Model:
    """The PyMC model of a staggered panel with its numbers in place."""
    found = panel_of(study)
    return with_data(build, found.shape, found.data())


def fit_panel(
    study: Study, *, prior: Priors | None = None, sampling: Sampling | None = None
) -> PanelPosterior:
    """Sample the posterior of :func:`panel_model`; see :func:`ldlab.bayes.fit`."""
    found = panel_of(study, prior)
    seed = study.program.analysis.seed
    with threadpool_limits(1):  # chains run side by side; on small matrices more threads are ten times slower
        sampled = sample(build, found.shape, found.data(), seed=seed, sampling=sampling or Sampling())
    draws = sampled["posterior"].to_dataset()
    rngs = [np.random.default_rng([seed, part]) for part in (1, 2)]
    before, spread = found.prior_effect(PRIOR_DRAWS, rngs[0]), draws["relative_spread"].values
    scale = found.error_scale(spread.shape[:2], rngs[1])
    cells = found.cell_effects(spread, scale, rngs[1])
    idata = xr.DataTree.from_dict(
        {
            "posterior": _named(found, spread, scale, cells),
            "prior": xr.DataArray(before[None], dims=("chain", "draw"), name="effect").to_dataset(),
            "sample_stats": sampled["sample_stats"].to_dataset(),
        }
    )
    return PanelPosterior(found.series.study, found.prior, idata, found.errors, found, cells)


def _named(found: Panel, spread: Floats, scale: Floats, cells: Floats) -> xr.Dataset:
    """What is kept of a posterior: the effect, by time since the start, and the spreads of the kinds that exist."""
    pools = pools_after(found)
    weights = np.column_stack([share for _, share in pools])
    kinds = found.present
    return xr.Dataset(
        {
            "effect": (("chain", "draw"), cells @ found.cells.share),
            "event_effect": (("chain", "draw", "event"), cells @ weights),
            "spread": (("chain", "draw", "kind"), found.prior.segment_sd * spread[..., kinds]),
            "error_scale": (("chain", "draw"), scale),
        },
        coords={"event": [pool[0] for pool, _ in pools], "kind": [KINDS[kind] for kind in kinds]},
    )


def warm_panel() -> None:
    """Compile the model; one serves panels of any size."""
    compiled(build, Panel.shape)
