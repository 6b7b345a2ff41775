"""The arithmetic of honest bounds: an event study, and intervals under departures from parallel trends."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from ldlab.did.events import EventStudy
from ldlab.program import Study

STEP, MOST = 0.05, 5.0  # breakdown values are searched in these steps, up to this
MOST_LEADS = 6
COARSE, FINE, ROUNDS = 101, 21, 2  # points of the search for an interval's ends

Target = Literal["average", "first"]


@dataclass(frozen=True)
class Departures:
    """The event study as the bounds need it: by period, or by stretches of several periods where there are many.

    Attributes
    ----------
    effects, covariance
        The leads in order of time, then the effects after the reference; the covariance enlarged from t to normal.
    leads
        How many of them are leads.
    weights
        (effects after the reference,) of the target.
    alpha
        1 - the interval's level.
    stretch
        Periods in one of them.
    reason
        Why there is nothing to bound.
    """

    effects: np.ndarray
    covariance: np.ndarray
    leads: int
    weights: np.ndarray
    alpha: float
    stretch: int = 1
    reason: str = ""

    @property
    def before(self) -> np.ndarray:
        """(leads,) effects before the reference."""
        return self.effects[: self.leads]

    @property
    def reach(self) -> float:
        """By how many breaks the target is away from the reference, on average."""
        return float(self.weights @ np.arange(1, len(self.weights) + 1))

    def to_target(self) -> tuple[np.ndarray, np.ndarray]:
        """Leads and the target, and their covariance."""
        rows = np.zeros((self.leads + 1, len(self.effects)))
        rows[: self.leads, : self.leads] = np.eye(self.leads)
        rows[self.leads, self.leads :] = self.weights
        return rows @ self.effects, rows @ self.covariance @ rows.T


def departures(study: Study, events: EventStudy, target: Target) -> Departures:
    """The leads next to the reference and the effects after it, as far as event times have no gap.

    With more than 6 leads neighbouring periods are averaged into stretches, the last of them before training being
    the base: between single periods the largest of many breaks is mostly noise.
    """
    place = {time: row for row, time in enumerate(events.event_times)}
    before, after = (_run(place, events.reference, step) for step in (-1, +1))
    weights = _weights(study, after, target)
    stretch = math.ceil((len(before) + 1) / (MOST_LEADS + 1))
    leads = (len(before) + 1) // stretch - 1
    alpha, clusters, name = 1 - study.program.level, events.df + 1, study.program.design.period
    reason = ""
    if not before:
        reason = f"No {name} before the last one before training could be compared, so no earlier break can be seen."
    elif weights is None:
        reason = f"No effect could be estimated in the {name}s next to the start."
    elif clusters <= leads + 1:
        reason = f"There are {clusters:.0f} clusters for {leads + 1} effects: too few to know how they vary together."
    if reason or weights is None:
        return Departures(np.zeros(0), np.zeros((0, 0)), 0, np.zeros(0), alpha, stretch, reason)
    after_blocks = [slice(k, k + stretch) for k in range(0, len(after), stretch)]
    rows = np.array(
        [_mean(place, before[k - 1 : k - 1 + stretch]) for k in range(leads * stretch, 0, -stretch)]
        + [_mean(place, after[block], weights[block]) for block in after_blocks]
    )
    rows -= _mean(place, before[: stretch - 1], of=stretch)
    enlarged = (stats.t.isf(alpha / 2, events.df) / stats.norm.isf(alpha / 2)) ** 2
    return Departures(
        effects=rows @ np.array([e.value for e in events.estimates]),
        covariance=rows @ np.array(events.covariance_all) @ rows.T * enlarged,
        leads=leads,
        weights=np.array([weights[block].sum() for block in after_blocks]),
        alpha=alpha,
        stretch=stretch,
    )


def _mean(
    place: dict[int, int], times: list[int], weights: np.ndarray | None = None, of: int | None = None
) -> np.ndarray:
    """(effects,) weights that average the effects at these times; ``of`` more times than these, the rest zero."""
    row = np.zeros(len(place))
    use_given = weights is not None and weights.sum() > 0
    shares = (
        weights / weights.sum()
        if use_given and weights is not None
        else np.full(len(times), 1 / (of or len(times)))
    )
    row[[place[time] for time in times]] = shares
    return row


def _run(place: dict[int, int], reference: int, step: int) -> list[int]:
    """Event times next to the reference without a gap, outwards."""
    times, time = [], reference + step
    while time in place:
        times.append(time)
        time += step
    return times


def _weights(study: Study, after: list[int], target: Target) -> np.ndarray | None:
    """(effects after the reference,) weights that add to 1; a pool's later times count at its first."""
    times = np.array(after)
    if not len(times) or times[-1] < 0 or 0 not in times:
        return None
    if target == "first":
        return (times == 0).astype(float)
    rows = study.frame
    untrained = rows.loc[rows["treated"] == 0, "period"].unique()
    trained = rows[(rows["treated"] == 1) & rows["period"].isin(untrained)]
    since = (trained["period"] - trained["start"]).to_numpy()
    counts = np.bincount(np.searchsorted(times, since, side="right") - 1, minlength=len(times)).astype(float)
    return counts / counts.sum() if counts.sum() else None


def broken(parts: Departures, times: float) -> tuple[float, float]:
    """The interval if the trend breaks by at most ``times`` the largest break before training."""
    from moderndid.didhonest.utils import relative_magnitudes_grid_bounds

    effects, covariance = parts.to_target()
    grid = relative_magnitudes_grid_bounds(
        effects, covariance, parts.leads, 1, np.ones(1), times * parts.reach
    )
    step = float(grid[1] - grid[0]) / (COARSE - 1)
    low, high = _accepted(parts, times, COARSE, *grid)
    for _ in range(ROUNDS):
        low = _accepted(parts, times, FINE, low - step, low)[0]
        high = _accepted(parts, times, FINE, high, high + step)[1]
        step /= FINE - 1
    return low, high


def zero_fits(parts: Departures, times: float) -> bool:
    """Whether no effect is compatible with that break; with parallel trends if ``times`` is 0."""
    if times == 0:
        effects, covariance = parts.to_target()
        return bool(abs(effects[-1]) <= stats.norm.isf(parts.alpha / 2) * math.sqrt(covariance[-1, -1]))
    return not math.isnan(_accepted(parts, times, 1, 0.0, 0.0)[0])


def _accepted(parts: Departures, times: float, points: int, low: float, high: float) -> tuple[float, float]:
    """Smallest and largest effect on a grid that the test does not reject; NaN if it rejects all."""
    from moderndid.didhonest import create_sensitivity_results_rm

    effects, covariance = parts.to_target()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "CI is open at one of the endpoints")
        found = create_sensitivity_results_rm(
            effects, covariance, parts.leads, 1, m_bar_vec=[times * parts.reach], l_vec=np.ones((1, 1)),
            alpha=parts.alpha, grid_points=points, grid_lb=low, grid_ub=high,
        )  # fmt: skip
    return float(found["lb"][0]), float(found["ub"][0])


def bent(parts: Departures, bend: float) -> tuple[float, float] | None:
    """The interval if the trend's slope changes by at most ``bend`` from one to the next; None if not found."""
    from moderndid.didhonest import create_sensitivity_results_sm

    scale = math.sqrt(parts.to_target()[1][-1, -1])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Solution may be inaccurate")
        try:
            found = create_sensitivity_results_sm(
                parts.effects / scale, parts.covariance / scale**2, parts.leads, len(parts.weights),
                m_vec=[bend / scale], l_vec=parts.weights[:, None], alpha=parts.alpha,
            )  # fmt: skip
        except UserWarning:
            return None
    low, high = scale * float(found["lb"][0]), scale * float(found["ub"][0])
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def breakdown(holds: Callable[[float], bool]) -> float:
    """The largest multiple of STEP up to MOST at which it still holds, by bisection; it holds at 0."""
    low, high = 0, round(MOST / STEP) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle * STEP) else (low, middle)
    return round(low * STEP, 2)
