"""Wild cluster bootstrap of the two-way regression: a second opinion where clusters are few."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from ldlab.did.by_cluster import Blocks, TwoWay, treated, without_constants
from ldlab.did.clusters import stay_in_clusters
from ldlab.did.panel import need_comparison
from ldlab.program import LdlabError, Study

DRAWS = 9_999
MOST_ENUMERATED = 13  # clusters whose signs can all be tried


def wild_cluster_p_value(study: Study) -> float:
    """Two-sided p-value of no effect of the two-way regression, by restricted wild cluster bootstrap.

    Parameters
    ----------
    study
        A panel whose units stay in their clusters (units, where no cluster is named).

    Returns
    -------
    float
        Share of signs whose t statistic is at least as large as the observed one. Up to 13 clusters all signs are
        tried, so it is exact and needs no seed; above, 9,999 are drawn, seeded by ``analysis.seed``.

    Raises
    ------
    LdlabError
        If the study is no panel with a comparison, or units change cluster.

    Notes
    -----
    Cameron, Gelbach & Miller (2008), Review of Economics and Statistics 90: the effect is left out of the model
    that is resampled, Rademacher signs, clustered errors. Everything is linear in the residuals' sums by cluster
    and period, so no regression is run. With 2 of 12 clusters trained it hardly ever rejects (MacKinnon & Webb
    2018): there use :func:`ldlab.did.infer`, which permutes.
    """
    need_comparison(study)
    if not stay_in_clusters(study.frame):
        raise LdlabError("wild_cluster_p_value: found units that change cluster; expected one cluster each.")
    sums = _Sums(Blocks.of(study.frame))
    signs = _signs(sums.clusters, study.program.analysis.seed)
    slack = 1 - 1e-9
    return float((np.abs(sums.t_of(signs)) >= slack * abs(sums.observed_t)).mean())


def _signs(clusters: int, seed: int) -> NDArray[np.float64]:
    """(draws, clusters) of 1 and -1; the first row all 1, the signs of the data."""
    if clusters <= MOST_ENUMERATED:
        return np.array(list(itertools.product((1.0, -1.0), repeat=clusters)))
    drawn = np.random.default_rng(seed).choice((1.0, -1.0), size=(DRAWS, clusters))
    return np.concatenate([np.ones((1, clusters)), drawn])


class _Sums:
    """What the regression and its scores need of each cluster.

    With ``links`` L and ``moments`` v of :class:`TwoWay` and steps h: the regressor less its period effects is d,
    and a cluster's score under moments v is the sum of d'(v - L (period effects) - L h (effect)).
    """

    def __init__(self, blocks: Blocks) -> None:
        model = TwoWay(blocks)
        self.blocks, self.clusters = blocks, int(blocks.cluster.max()) + 1
        step = treated(blocks.start, blocks.periods)
        linked = np.einsum("btu,bu->bt", model.links, step)
        self.inverse = without_constants(model.links.sum(axis=0))
        self.shared = linked.sum(axis=0)
        self.rest = step - self.inverse @ self.shared
        self.spread = float((self.rest * linked).sum())
        if self.spread <= 1e-9:
            raise LdlabError("wild_cluster_p_value: found nothing of the treatment left after the effects.")
        self.by_period = self._by_cluster(np.einsum("btu,bu->bt", model.links, self.rest))
        self.by_effect = self._by_cluster((self.rest * linked).sum(axis=1))
        restricted = model.moments - model.links @ (self.inverse @ model.moments.sum(axis=0))
        self.observed_t = float(self._t(*self._parts(model.moments), np.ones((1, self.clusters)))[0])
        self.restricted = self._parts(restricted)

    def t_of(self, signs: NDArray[np.float64]) -> NDArray[np.float64]:
        """(draws,) t statistics of the restricted residuals with these signs."""
        return self._t(*self.restricted, signs)

    def _parts(self, moments: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """By cluster: the regressor's product with the moments, and the moments."""
        return self._by_cluster((self.rest * moments).sum(axis=1)), self._by_cluster(moments)

    def _by_cluster(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        made = np.zeros((self.clusters, *values.shape[1:]))
        np.add.at(made, self.blocks.cluster, values)
        return made

    def _t(
        self, product: NDArray[np.float64], moments: NDArray[np.float64], signs: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        effect = signs @ product / self.spread
        period = (signs @ moments - effect[:, None] * self.shared) @ self.inverse
        scores = signs * product - period @ self.by_period.T - effect[:, None] * self.by_effect
        error = np.sqrt((scores**2).sum(axis=1) * self.clusters / (self.clusters - 1)) / self.spread
        return effect / np.where(error > 0, error, np.inf)
