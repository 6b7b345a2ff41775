"""How a cluster's series strays from period to period: a covariance that the data inform, held near AR(1) plus noise.

The covariance S of a typical cluster's errors is inverse Wishart around that of a first-order autoregression plus white
noise. Its three numbers, and how closely S keeps to it, are those under which the clusters' scatter is likeliest, S
integrated out (Chen 1979, Bayesian inference for a normal dispersion matrix, JRSS B 41(2)). With many clusters the data
speak, whatever their autocorrelation; with few of them the errors are as smooth as AR(1) plus noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from ldlab.bayes.panel_series import Series
from ldlab.bayes.units import Floats
from ldlab.estimate import Printed

LARGEST_AUTOCORRELATION = 0.98
START = (0.4, 0.3)  # autocorrelation and share of noise before the data, the middle of
WIDTH = 1.5  # a bell with this sd on the logit scale


@dataclass(frozen=True, eq=False, repr=False)
class Errors(Printed):
    """The errors' covariance.

    Attributes
    ----------
    autocorrelation
        Of the autoregression, from one period to the next.
    noise
        Share of the variance that does not last into the next period.
    sd
        Sd of one unit's error in a single period, with that of its cluster, in effect units.
    worth
        How many clusters' data the AR(1) shape counts for.
    root
        (t - 1, t - 1) lower Cholesky root of a typical cluster's covariance, in the directions of the contrasts.
    degrees
        Errors are t with so many degrees of freedom, the scatter's: the shape was fitted to the same clusters, so what it
        is worth does not count a second time.
    """

    autocorrelation: float
    noise: float
    sd: float
    worth: float
    root: Floats
    degrees: float

    def _rows(self) -> list[tuple[str, str]]:
        return [
            ("autocorrelation", f"{self.autocorrelation:.2f} from one period to the next"),
            ("share that is gone by the next period", f"{self.noise:.0%}"),
            ("sd of a unit in one period", f"{self.sd:.3g}"),
            ("the AR(1) shape counts for", f"{self.worth:.0f} clusters"),
        ]


def errors_of(series: Series) -> Errors:
    """Fit :class:`Errors` to a panel's scatter."""
    q, scatter, degrees = series.contrasts, series.scatter, series.degrees
    size = len(scatter)
    typical = float(np.trace(scatter)) / degrees / size

    def unpacked(x: Floats) -> tuple[Floats, float]:
        shape = q @ _ar1_plus_noise(*_numbers(x), size + 1) @ q.T
        return typical * np.exp(x[2]) * shape * size / np.trace(shape), _worth(x[3], size, degrees)

    def loss(x: Floats) -> float:
        return -_log_evidence(scatter, degrees, *unpacked(x)) + _surprise(x)

    found = optimize.minimize(
        loss, np.zeros(4), method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-4, "maxiter": 800}
    ).x
    centre, worth = unpacked(found)
    autocorrelation, noise = _numbers(found)
    mean = (worth * centre + scatter) / (worth + degrees)
    return Errors(
        autocorrelation=autocorrelation,
        noise=noise,
        sd=float(np.sqrt(np.trace(mean) / size)),
        worth=worth,
        root=np.linalg.cholesky(mean),
        degrees=degrees,
    )


def _numbers(x: Floats) -> tuple[float, float]:
    """Autocorrelation and share of noise from unbounded numbers, START at 0."""
    bounded = special.expit(special.logit(START) + WIDTH * x[:2])
    return LARGEST_AUTOCORRELATION * float(bounded[0]), float(bounded[1])


def _surprise(x: Floats) -> float:
    """A wide bell over all four numbers, so that what the data do not say stays where it is."""
    return float(x[0] ** 2 + x[1] ** 2 + x[2] ** 2 / 4 + x[3] ** 2 / 4) / 2


def _worth(x: float, size: int, degrees: float) -> float:
    """How many clusters the shape is worth: at most what keeps the errors' own uncertainty on the page."""
    return float((size + 1 + degrees) * special.expit(x))


def _ar1_plus_noise(autocorrelation: float, noise: float, periods: int) -> Floats:
    lag = np.abs(np.subtract.outer(np.arange(periods), np.arange(periods)))
    return np.asarray((1 - noise) * autocorrelation**lag + noise * np.eye(periods))


def _log_evidence(scatter: Floats, degrees: float, centre: Floats, worth: float) -> float:
    """log p(scatter) up to a constant: Wishart, its covariance inverse Wishart with mean ``centre`` integrated out."""
    size = len(scatter)
    before = worth + size + 1
    after = before + degrees
    gain = special.multigammaln(after / 2, size) - special.multigammaln(before / 2, size)
    prior = np.linalg.slogdet(worth * centre)[1]
    return float(gain + before / 2 * prior - after / 2 * np.linalg.slogdet(worth * centre + scatter)[1])
