"""The shipped experiment: reminders for agents, two versions against none, with everything an A/B test is asked for."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ldlab.simulate.worlds import World

ARMS = ("none", "weekly tip", "manager prompt")
MONDAY, WEEKS, WAIT = (
    pd.Timestamp("2026-03-02"),
    12,
    28,
)  # assignment starts; for weeks; days until the KPI is read
AGENTS, TEAM = 2_160, 12
EFFECTS = {  # of an arm on the expected KPI: points, repeat calls per hour, share, points, minutes
    "weekly tip": {"quality": 0.4, "repeats": 0.0, "certified": 0.02, "satisfaction": 0.0, "minutes": 0.0},
    "manager prompt": {
        "quality": 2.1,
        "repeats": -0.03,
        "certified": 0.08,
        "satisfaction": -0.02,
        "minutes": 0.1,
    },
}


def nudges(seed: int = 20260302) -> World:
    """Draw a company's experiment with reminders after a course on customer calls.

    2,160 agents in teams of 12 at 4 sites come to the course over 12 weeks. Within each week and site lots are drawn:
    a third get no reminder, a third a weekly tip, a third a prompt by their manager. Four weeks later their calls are
    scored. About 4 in 100 leave before that, in every arm alike.

    Returns
    -------
    World
        `frame`, one row per agent: agent, team, site, block (site and week), tenure (years), reminder (see ``ARMS``),
        assigned_on, first_opened (date, empty for never), opened (reminders opened), quality and quality_before
        (points of 100), repeat_calls and hours, certified (0/1), satisfaction (1 to 5), minutes (per call, with a heavy
        tail). `effects`: one row per agent, what each arm adds to the expected quality. `truth`: by arm, ATE on each.

    Examples
    --------
    >>> nudges().truth["manager prompt"]["quality"] > nudges().truth["weekly tip"]["quality"]
    True
    """
    rng = np.random.default_rng(seed)
    agents = _roster(rng)
    skill = rng.normal(size=AGENTS) + 0.4 * rng.normal(size=AGENTS // TEAM)[agents["team_number"]]
    tenure = agents["tenure"].to_numpy()
    own = {arm: _own_effects(arm, tenure) for arm in ARMS}
    arm = agents["reminder"].to_numpy()
    added = np.select([arm == name for name in ARMS], [own[name] for name in ARMS])
    effect = pd.DataFrame({name: _of(name, arm) for name in EFFECTS["weekly tip"]})
    typical = 68 + 5.5 * skill + 0.3 * tenure
    hours = rng.gamma(40, 3, AGENTS).round(1)
    frame = agents.drop(columns="team_number").assign(
        quality=(typical + added + 5 * rng.normal(size=AGENTS)).clip(0, 100).round(1),
        quality_before=(typical + 5 * rng.normal(size=AGENTS)).clip(0, 100).round(1),
        repeat_calls=rng.poisson(
            hours * (0.45 * np.exp(-0.2 * skill) + effect["repeats"].to_numpy()).clip(0.01)
        ),
        hours=hours,
        certified=(rng.random(AGENTS) < 0.42 + 0.08 * np.tanh(skill) + effect["certified"]).astype(int),
        satisfaction=(4.1 + 0.15 * skill + effect["satisfaction"] + 0.4 * rng.normal(size=AGENTS))
        .clip(1, 5)
        .round(2),
        minutes=(np.exp(1.9 + 0.4 * rng.normal(size=AGENTS)) * _left_open(rng) + effect["minutes"]).round(1),
    )
    recent = rng.random(AGENTS) < 0.06  # joined too lately to have a score before
    frame["quality_before"] = frame["quality_before"].mask(recent)
    left = rng.random(AGENTS) < 0.04
    measured = ["quality", "repeat_calls", "hours", "certified", "satisfaction", "minutes"]
    for name in measured:
        frame[name] = frame[name].mask(left)
    for name in ("repeat_calls", "certified"):
        frame[name] = frame[name].astype("Int64")
    truth = {
        name: {
            "quality": float(own[name].mean()),
            **{k: v for k, v in EFFECTS[name].items() if k != "quality"},
        }
        for name in ARMS[1:]
    }
    effects = pd.DataFrame({"agent": agents["agent"], **{name: own[name] for name in ARMS[1:]}})
    return World(frame=frame, truth=truth, effects=effects)


def _roster(rng: np.random.Generator) -> pd.DataFrame:
    """Who, where, when, and which reminder: thirds within each block of site and week."""
    team = np.repeat(np.arange(AGENTS // TEAM), TEAM)
    site = np.array(["Leeds", "Lisbon", "Krakow", "Turin"])[team % 4]
    week = rng.permutation(np.tile(np.arange(WEEKS), AGENTS // WEEKS))
    block = np.char.add(np.char.add(site, " week "), (week + 1).astype(str))
    reminder = np.empty(AGENTS, dtype=object)
    for name in np.unique(block):
        members = np.flatnonzero(block == name)
        reminder[members] = rng.permutation(np.resize(rng.permutation(ARMS), len(members)))
    day = MONDAY + pd.to_timedelta(7 * week + rng.integers(0, 5, AGENTS), unit="D")
    opened = np.where(reminder == "none", 0, rng.binomial(4, np.where(reminder == "weekly tip", 0.55, 0.8)))
    first = (day + pd.to_timedelta(rng.integers(1, 7, AGENTS), unit="D")).where(opened > 0)
    return pd.DataFrame({
        "agent": np.char.mod("a%04d", rng.permutation(AGENTS) + 1), "team": np.char.mod("team-%03d", team + 1),
        "site": site, "block": block, "tenure": rng.gamma(2, 2, AGENTS).round(1), "reminder": reminder,
        "assigned_on": day, "first_opened": first, "opened": opened,
        "scored_on": day + pd.to_timedelta(WAIT, unit="D"), "team_number": team,
    })  # fmt: skip


def _own_effects(arm: str, tenure: np.ndarray) -> np.ndarray:
    """What an arm adds to each agent's expected quality: the newer the agent, the more; on average its effect."""
    if arm == "none":
        return np.zeros(AGENTS)
    newer = np.exp(-tenure / 4)
    return np.asarray(EFFECTS[arm]["quality"] * newer / newer.mean())


def _left_open(rng: np.random.Generator) -> np.ndarray:
    """Eight agents in a thousand forget to close their calls: their minutes count twelve times."""
    return np.where(rng.random(AGENTS) < 0.008, 12.0, 1.0)


def _of(kpi: str, arm: np.ndarray) -> np.ndarray:
    return np.select([arm == name for name in ARMS[1:]], [EFFECTS[name][kpi] for name in ARMS[1:]], 0.0)
