"""Are the ranks of true values among posterior draws uniform? The test and the band of its figure."""

import functools
from typing import Any

import numpy as np
from arviz_stats.ecdf_utils import get_pointwise_confidence_band
from numpy.typing import NDArray
from scipy import stats

RANKS = 100  # possible ranks, 0 to 99, among 99 draws far enough apart to be nearly independent

type Floats = NDArray[np.float64]


def rank(draws: Any, truth: float) -> int:
    """Number of draws below the truth, among RANKS - 1 spread evenly over all chains."""
    flat = np.ravel(draws)
    kept = flat[np.linspace(0, len(flat) - 1, RANKS - 1).astype(int)]
    return int((kept < truth).sum())


def tail(counts: NDArray[np.int64]) -> Floats:
    """(...,) smallest two-sided binomial tail over the steps of the ECDFs whose counts by rank are (..., RANKS).

    Saeilynoja, Buerkner and Vehtari (2022), Graphical test for discrete uniformity and its applications in
    goodness-of-fit evaluation and multiple sample comparison, Statistics and Computing 32, section 2.
    """
    n = counts.sum(axis=-1, keepdims=True)
    below, share = np.cumsum(counts, axis=-1)[..., :-1], np.arange(1, RANKS) / RANKS
    tails = np.minimum(stats.binom.cdf(below, n, share), stats.binom.sf(below - 1, n, share))
    return np.asarray(2 * tails.min(axis=-1))


@functools.cache
def uniform_tails(worlds: int, simulations: int = 2000) -> Floats:
    """(simulations,) sorted ``tail`` of ranks that are uniform."""
    rng = np.random.default_rng(2022)
    return np.sort(tail(rng.multinomial(worlds, np.full(RANKS, 1 / RANKS), size=simulations)))


def p_uniform(ranks: Any) -> float:
    """Chance that uniform ranks leave the middle as far as these."""
    counts = np.bincount(np.asarray(ranks, dtype=int), minlength=RANKS)
    null = uniform_tails(int(counts.sum()))
    return float((1 + np.searchsorted(null, tail(counts), side="right")) / (1 + len(null)))


def difference(ranks: Any) -> Floats:
    """(RANKS - 1,) ECDF of the ranks less the uniform one, at shares 1 / RANKS, 2 / RANKS, ..."""
    counts = np.bincount(np.asarray(ranks, dtype=int), minlength=RANKS)
    return np.asarray(np.cumsum(counts)[:-1] / counts.sum() - np.arange(1, RANKS) / RANKS)


def band(worlds: int, level: float = 0.95) -> tuple[Floats, Floats]:
    """Lower and upper simultaneous band of :func:`difference` where ranks are uniform."""
    share = np.arange(1, RANKS) / RANKS
    pointwise = 1 - float(np.quantile(uniform_tails(worlds), 1 - level))
    low, high = get_pointwise_confidence_band(pointwise, worlds, share)
    return low - share, high - share
