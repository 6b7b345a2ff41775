"""Frames with a known effect, per unit: what a study should find, tried before it meets a real program.

The same seed gives the same world, and its truth is never typed in: it is the average of the effects of its
own units. Made for ldlab; nothing here describes a real person, firm or program.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Seed = int | np.random.Generator
Kind = Literal["continuous", "binary", "count"]
Floats = NDArray[np.float64]

RANGE = {"continuous": (-np.inf, np.inf), "binary": (0, 1), "count": (0, np.inf)}
SITES = {"Lisbon": 7, "Krakow": 6, "Leeds": 6, "Turin": 4, "Tartu": 1}  # teams per site
WEEKS, MONDAY = 39, pd.Timestamp("2025-01-06")
WAVES = (13, 19, 25)  # weeks, counted from 0, in which a wave of teams starts
COSTS = [
    ("course design", 18_000, "fixed"), ("facilitators", 24_000, "fixed"), ("evaluation", 4_500, "fixed"),
    ("platform seat", 85, "per participant"), ("agents' time, 8 hours at 31", 248, "per participant"),
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class World:
    """A simulated study.

    `frame` is what a researcher would see; `effects` holds the true effect of each unit, or of each unit and
    period; `truth` averages `effects` in KPI units: ATT, and ATE for people or by_event_time for panels.
    """

    frame: pd.DataFrame
    truth: dict[str, Any]
    effects: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Academy:
    """The shipped company: five tables about one program, described in `academy`."""

    kpi: pd.DataFrame
    learning: pd.DataFrame
    costs: pd.DataFrame
    effects: pd.DataFrame
    truth: dict[str, Any]


def randomised(
    n: int, effect: float, *, kind: Kind = "continuous", share: float = 0.5, covariates: int = 2,
    segments: Mapping[str, float] | None = None, effect_sd: float = 0.0, seed: Seed,
) -> World:  # fmt: skip
    """Draw a person-level experiment: each person is assigned by an independent coin.

    Parameters
    ----------
    n : int
        People.
    effect, effect_sd : float
        Mean effect and how much people of one segment differ, in points (the noise has sd 1), probability or
        events per person. Nobody's expected outcome leaves its range: the effect is cut there.
    kind : {"continuous", "binary", "count"}
        Untrained, the outcome averages about 10 points, a probability of .4, or 4 events.
    share : float
        Chance of being trained, between 0 and 1.
    covariates : int
        How many standard normal x1, x2, .. are known before training and predict the outcome.
    segments : mapping of str to float, optional
        Segment -> what it adds to the effect. Segments are equally likely.
    seed : int or numpy.random.Generator

    Returns
    -------
    World
        `frame`, one row per person: person, treated, outcome, x1 .., and segment if any. `effects`: person,
        untrained and trained (expected outcomes), effect (their difference). `truth`: ATE, ATT.

    Examples
    --------
    >>> round(randomised(1_000, effect=0.05, kind="binary", seed=1).truth["ATE"], 3)
    0.05
    """
    if not (0 < share < 1 and kind in RANGE):
        raise ValueError(f"need 0 < share < 1 and a kind among {list(RANGE)}, got {share} and {kind!r}")
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, covariates))
    extra = dict(segments or {"all": 0.0})
    segment = rng.choice(sorted(extra), size=n)
    untrained = _expected(kind, x.sum(axis=1) / max(covariates, 1) ** 0.5)
    own = effect + np.array([extra[name] for name in segment]) + effect_sd * rng.normal(size=n)
    trained = np.clip(untrained + own, *RANGE[kind])
    treated = (rng.random(n) < share).astype(int)
    outcome = _observed(rng, kind, np.where(treated, trained, untrained))
    frame = pd.DataFrame({"person": _ids("p%05d", n), "treated": treated, "outcome": outcome})
    frame = frame.assign(**{f"x{i + 1}": x[:, i] for i in range(covariates)})
    return _people(frame.assign(segment=segment) if segments else frame, untrained, trained)


def observational(
    n: int, effect: float, *, confounding: float, effect_slope: float = 0.0, seed: Seed
) -> World:
    """Draw people who chose training by what also moves the outcome: x1 and x2.

    Parameters
    ----------
    n : int
        People.
    effect, effect_slope : float
        Mean effect in points of the outcome, and what a unit of x1 adds to it: not 0, ATT and ATE part.
    confounding : float
        Log odds of being trained per unit of (x1 + x2) / sqrt(2): 0 is a coin, 1 is strong.
    seed : int or numpy.random.Generator

    Returns
    -------
    World
        `frame`, one row per person: person, treated, outcome (10 + x1 + x2, noise sd 1), x1, x2. `effects`
        and `truth` as in `randomised`.

    Examples
    --------
    >>> truth = observational(5_000, effect=1.0, confounding=1.0, effect_slope=0.5, seed=1).truth
    >>> truth["ATT"] > truth["ATE"]
    True
    """
    rng = np.random.default_rng(seed)
    x1, x2 = rng.normal(size=(2, n))
    treated = (rng.random(n) < 1 / (1 + np.exp(-confounding * (x1 + x2) / 2**0.5))).astype(int)
    untrained = 10 + x1 + x2
    trained = untrained + effect + effect_slope * x1
    outcome = np.where(treated, trained, untrained) + rng.normal(size=n)
    frame = pd.DataFrame({"person": _ids("p%05d", n), "treated": treated, "outcome": outcome})
    return _people(frame.assign(x1=x1, x2=x2), untrained, trained)


def panel(
    units: int, periods: int, effect: float, *, cohorts: Sequence[int | None], growth: float = 0.0,
    effect_sd: float = 0.0, cluster_size: int = 1, autocorrelation: float = 0.0, cluster_sd: float = 0.5,
    unit_sd: float = 2.0, noise_sd: float = 1.0, period_sd: float = 1.0, trend_gap: float = 0.0,
    missing: float = 0.0, seed: Seed,
) -> World:  # fmt: skip
    """Draw a unit x period panel: clusters of units start training at different times and keep it.

    Parameters
    ----------
    units, periods, cluster_size : int
        Size of the panel and units per cluster. Periods count from 1; a cluster starts together.
    effect, growth, effect_sd : float
        Effect in the first treated period, what each later period adds, and how much units differ.
    cohorts : sequence of int or None
        Start periods (None = never), dealt by lot and evenly to the clusters.
    autocorrelation : float
        Of unit noise and cluster shocks from one period to the next, between -1 and 1.
    cluster_sd, unit_sd, noise_sd, period_sd : float
        Spread, in points, of cluster shocks, unit levels, unit noise and shocks common to all.
    trend_gap : float
        Points per period by which ever-trained units drift away whatever the training; 0 = parallel trends.
    missing : float
        Share of outcomes lost at random.
    seed : int or numpy.random.Generator

    Returns
    -------
    World
        `frame`, one row per unit and period: unit, cluster, period, start (first treated period, missing for
        never), treated (0/1, absorbing), outcome. `effects`: unit, period, event_time (periods since the
        start), treated, effect (0 while untreated). `truth`: ATT over treated cells, by_event_time.

    Examples
    --------
    >>> panel(40, 6, effect=2.0, growth=0.5, cohorts=[4, 5, None], seed=1).truth["by_event_time"]
    {0: 2.0, 1: 2.5, 2: 3.0}
    """
    if not cohorts or any(not 1 <= start <= periods for start in cohorts if start is not None):
        raise ValueError(f"cohorts must be None or start within 1..{periods}, got {cohorts}")
    if not -1 < autocorrelation < 1:
        raise ValueError(f"autocorrelation must lie between -1 and 1, got {autocorrelation}")
    rng = np.random.default_rng(seed)
    cluster = np.arange(units) // cluster_size
    clusters = int(cluster[-1]) + 1
    start = rng.permutation(np.resize(np.array(cohorts, dtype=float), clusters))[cluster][:, None]
    period = np.arange(1, periods + 1)
    event = period - start
    tau = np.where(event >= 0, effect + effect_sd * rng.normal(size=(units, 1)) + growth * event, 0.0)
    level = 10 + unit_sd * rng.normal(size=(units, 1)) + period_sd * rng.normal(size=periods)
    shocks = _ar1(rng, clusters, periods, autocorrelation, cluster_sd)[cluster]
    noise = _ar1(rng, units, periods, autocorrelation, noise_sd)
    drift = trend_gap * np.where(np.isnan(start), 0, period - 1)
    lost = np.where(rng.random((units, periods)) < missing, np.nan, 0.0)
    cells = _long(
        unit=_ids("u%05d", units)[:, None], cluster=_ids("c%05d", clusters)[cluster][:, None], period=period,
        start=start, treated=(event >= 0).astype(int), outcome=level + shocks + noise + drift + tau + lost,
        event_time=event, effect=tau,
    )  # fmt: skip
    effects = cells[["unit", "period", "event_time", "treated", "effect"]]
    return World(cells.drop(columns=["event_time", "effect"]), _att(effects), effects)


def academy(seed: int = 20250106) -> Academy:
    """Draw the customer-service academy: 39 weeks of 2025, 24 teams, three waves of training.

    Agreed: resolution time down 10% by the fourth quarter. Teams were dealt by lot, in blocks of four, to a
    wave or to none: nobody was nominated after a bad month. Agents who completed feel the full effect, those
    who broke off half of it, no-shows none; a quarter of it comes in the first week, all from the fourth.

    Parameters
    ----------
    seed : int
        The committed tables are those of the default.

    Returns
    -------
    Academy
        `kpi`: one row per agent and employed week; minutes per ticket are missing in a week on leave.
        `effects`: row by row with `kpi`, in minutes per ticket. `learning`: one row per agent enrolled.
        `costs`: one row per item, in EUR. `truth`: JSON-able. Columns: data/README.md.

    Examples
    --------
    >>> academy().kpi.groupby("site")["agent"].nunique()["Tartu"].item()
    8
    """
    rng = np.random.default_rng(seed)
    agents = _roster(rng)
    kpi, effects = _weekly(rng, agents)
    truth = _att(effects) | {
        "ATT_completers": _att(effects[effects["completed"] == 1])["ATT"],
        "kpi": "resolution_minutes", "unit": "minutes per ticket", "seed": seed,
        "meaning": "ATT: mean true effect over the weeks worked in trained teams since their start, by those "
        "who came or not; ATT_completers: by who completed; by_event_time: weeks since. Negative is faster.",
    }  # fmt: skip
    costs = pd.DataFrame(COSTS, columns=["item", "amount", "kind"]).assign(currency="EUR")
    return Academy(kpi, _learning(rng, agents), costs, effects, truth)


def _roster(rng: np.random.Generator) -> pd.DataFrame:
    """One row per agent; start, joined and left (first week gone) in weeks; done, the share of the course."""
    site = np.repeat(list(SITES), list(SITES.values()))
    size = np.where(site == "Tartu", 8, rng.integers(8, 13, len(site)))  # one site too small to show
    start = np.concatenate([rng.permutation([*WAVES, np.nan]) for _ in range(len(site) // 4)])
    team = np.repeat(np.arange(len(site)), size)
    n = len(team)
    joined = np.where(rng.random(n) < 0.04, rng.integers(3, 11, n), 0)
    left = np.where(rng.random(n) < 0.06, rng.integers(14, WEEKS, n), WEEKS)
    done = rng.choice([1.0, 0.5, 0.0], size=n, p=[0.82, 0.10, 0.08])
    done = np.where((done == 1) & (left < start[team] + 5), 0.5, done)
    return pd.DataFrame({
        "agent": np.char.mod("AG-%04d", rng.choice(np.arange(100, 10_000), n, replace=False)),
        "team": _ids("T%02d", len(site))[team], "site": site[team], "start": start[team],
        "joined": joined, "left": left, "done": done, "full_effect": done * rng.normal(-4.25, 1.2, n),
    })  # fmt: skip


def _weekly(rng: np.random.Generator, agents: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """KPI table and true effects, one row per agent and employed week."""
    n, week = len(agents), np.arange(WEEKS)
    of = {name: agents[name].to_numpy()[:, None] for name in agents}
    event = week - of["start"]
    tau = np.where(event >= 0, of["full_effect"] * np.clip((event + 1) / 4, 0, 1), 0.0)
    season = 1.5 * np.sin(2 * np.pi * week / 52) + rng.normal(0, 0.7, WEEKS)
    team = pd.factorize(agents["team"])[0]
    shocks = _ar1(rng, agents["team"].nunique(), WEEKS, 0.6, 1.5)[team]
    tickets = rng.poisson(rng.gamma(30, 1.5, (n, 1)), (n, WEEKS))
    noise = 28 * rng.normal(size=(n, WEEKS)) / np.sqrt(np.maximum(tickets, 1))
    minutes = 50 + 6 * rng.normal(size=(n, 1)) + season + shocks + noise + tau
    mood = 0.2 * rng.normal(size=(n, 1)) + 0.12 * rng.normal(size=(n, WEEKS))
    leave = rng.random((n, WEEKS)) < 0.005
    cells = _long(
        agent=of["agent"], team=of["team"], site=of["site"], week=_dates(pd.Series(7 * week)).to_numpy(),
        start=_dates(agents["start"] * 7).to_numpy()[:, None], treated=(event >= 0).astype(int),
        tickets=np.where(leave, 0, tickets), resolution_minutes=np.where(leave, np.nan, minutes).round(1),
        satisfaction=np.where(leave, np.nan, 4.1 - 0.01 * (minutes - 50) + mood).clip(1, 5).round(2),
        event_time=event, completed=(of["done"] == 1).astype(int), effect=np.where(leave, np.nan, tau),
    )  # fmt: skip
    cells = cells[((week >= of["joined"]) & (week < of["left"])).ravel()].reset_index(drop=True)
    known = ["event_time", "completed", "effect"]
    return cells.drop(columns=known), cells[["agent", "week", "treated", *known]]


def _learning(rng: np.random.Generator, agents: pd.DataFrame) -> pd.DataFrame:
    """Learning records of the agents who were still there when their team started."""
    who = agents[agents["start"] < agents["left"]].reset_index(drop=True)
    n, monday = len(who), who["start"] * 7
    came, finished = who["done"] > 0, who["done"] == 1
    pre = rng.normal(62, 12, n).clip(0, 100)
    post = (80 + 0.46 * (pre - 62) + rng.normal(0, 10, n)).clip(0, 100)
    started = _dates((monday + rng.integers(0, 3, n)).where(came))
    applies = who["full_effect"] + rng.normal(0, 1, n) < -2.5  # helped more: uses it more, replies more
    replied = rng.random(n) < np.where(applies, 0.75, 0.6)
    return pd.DataFrame({
        "agent": who["agent"], "enrolled": _dates(monday - rng.integers(10, 22, n)), "started": started,
        "completed": (started + pd.to_timedelta(rng.integers(7, 26, n), unit="D")).where(finished),
        "hours": np.where(finished, 8.0, np.where(came, rng.integers(2, 15, n) / 2, 0.0)),
        "pre_score": pd.Series(pre).round().astype("Int64"),
        "post_score": pd.Series(post).where(finished).round().astype("Int64"),
        "uses_weekly": pd.Series(np.where(applies, "yes", "no")).where(replied & came),
    })  # fmt: skip


def _dates(days: pd.Series) -> pd.Series:
    """Days since the first Monday, as dates."""
    return MONDAY + pd.to_timedelta(days, unit="D")


def _people(frame: pd.DataFrame, untrained: Floats, trained: Floats) -> World:
    effects = frame[["person"]].assign(untrained=untrained, trained=trained, effect=trained - untrained)
    ate, att = effects["effect"].mean(), effects.loc[frame["treated"] == 1, "effect"].mean()
    return World(frame, {"ATE": float(ate), "ATT": float(att)}, effects)


def _att(effects: pd.DataFrame) -> dict[str, Any]:
    treated = effects[effects["treated"] == 1]
    by_time = treated["effect"].groupby(treated["event_time"].astype(int)).mean()
    return {"ATT": float(treated["effect"].mean()), "by_event_time": by_time.to_dict()}


def _expected(kind: Kind, score: Floats) -> Floats:
    """Expected outcome of the untrained, given a standard normal score."""
    if kind == "binary":
        return 1 / (1 + 1.5 * np.exp(-0.5 * score))
    return 4 * np.exp(0.3 * score - 0.3**2 / 2) if kind == "count" else 10 + 0.5 * score


def _observed(rng: np.random.Generator, kind: Kind, mean: Floats) -> NDArray[Any]:
    if kind == "binary":
        return (rng.random(len(mean)) < mean).astype(int)
    return rng.poisson(mean) if kind == "count" else mean + rng.normal(size=len(mean))


def _ar1(rng: np.random.Generator, rows: int, periods: int, rho: float, sd: float) -> Floats:
    """Stationary first-order autoregressive noise, one independent series per row."""
    draws = rng.normal(0, sd, (rows, periods))
    for t in range(1, periods):
        draws[:, t] = rho * draws[:, t - 1] + (1 - rho**2) ** 0.5 * draws[:, t]
    return draws


def _long(**columns: NDArray[Any]) -> pd.DataFrame:
    """Stack columns shaped (units, 1), (periods,) or (units, periods) into one row per unit and period."""
    cells = np.broadcast_arrays(*columns.values())
    return pd.DataFrame({name: cell.ravel() for name, cell in zip(columns, cells, strict=True)})


def _ids(pattern: str, n: int) -> NDArray[np.str_]:
    return np.char.mod(pattern, np.arange(1, n + 1))
