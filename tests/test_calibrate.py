"""Calibration in small: it passes the real model, and catches a wrong prior scale and a dropped Jacobian."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from arviz_stats.ecdf_utils import simulate_confidence_bands

from ldlab.bayes.gaussian import Gaussian
from tests.calibrate import FIGURE, TABLE, missed, row_of, rows_of, run_family, shown, summary, wanted
from tests.ranks import RANKS, band, difference, p_uniform, rank, tail, uniform_tails
from tests.studies import DATA
from tests.worlds import FAMILIES, GAUSSIAN, Family, posterior_of, world_of

TINY = replace(GAUSSIAN, name="few", units=11, draws=150)  # five are trained: every power of sigma matters
WORLDS = 100
type Data = dict[str, Any]


# The model, and mutants of it


def ranks() -> dict[str, list[int]]:
    """Ranks of the true effect and the true sd in the same tiny worlds, whatever the model has become."""
    found: dict[str, list[int]] = {"effect": [], "sd of the trained": []}
    for number in range(WORLDS):
        world = world_of(TINY, number)
        draws = posterior_of(world, TINY)
        assert draws is not None
        for name, own in found.items():
            own.append(rank(draws[name], world.truth[name]))
    return found


def mutated(monkeypatch: pytest.MonkeyPatch, change: Callable[[Data], Data]) -> dict[str, list[int]]:
    """Ranks under a Gaussian model whose numbers are tampered with."""
    real = Gaussian.data
    monkeypatch.setattr(Gaussian, "data", lambda self: {**real(self), **change(dict(real(self)))})
    return ranks()


def test_the_model_is_calibrated() -> None:
    assert all(p_uniform(own) > 0.05 for own in ranks().values())


def test_a_prior_half_as_wide_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    found = mutated(monkeypatch, lambda data: {"prior_sd": data["prior_sd"] / 2})
    assert p_uniform(found["effect"]) < 0.01


def test_a_dropped_jacobian_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """NUTS moves in log sigma, so the density needs a factor sigma. Without it the posterior is the real one times
    1 / sigma; that is what one degree of freedom more for the same sum of squares does, constants apart.
    """
    found = mutated(monkeypatch, lambda data: {"degrees": data["degrees"] + 1})
    assert p_uniform(found["sd of the trained"]) < 0.01


# The test of uniformity


def test_rank_counts_draws_below() -> None:
    draws = np.arange(99.0).reshape(3, 33)
    assert [rank(draws, truth) for truth in (-1.0, 0.5, 97.5, 200.0)] == [0, 1, 98, 99]


def test_tail_by_hand() -> None:
    """One world, rank 0: the ECDF is 1 from the first step on, where its chance is 1 / RANKS."""
    counts = np.zeros(RANKS, dtype=np.int64)
    counts[0] = 1
    assert tail(counts) == pytest.approx(2 / RANKS)


def test_the_band_is_that_of_arviz() -> None:
    """arviz_stats simulates continuous ranks; at the same points the pointwise level agrees."""
    n, share = 400, np.arange(1, RANKS) / RANKS
    theirs = simulate_confidence_bands(n, 1, share, 0.95, 2000, np.random.default_rng(1))
    assert 1 - np.quantile(uniform_tails(n), 0.05) == pytest.approx(theirs, abs=0.002)
    low, high = band(n)
    assert (low < 0).all() and (high > 0).all() and 0.05 < high.max() < 0.09


def test_uniform_ranks_are_refused_one_time_in_twenty() -> None:
    rng = np.random.default_rng(5)
    p = np.array([p_uniform(rng.integers(0, RANKS, 100)) for _ in range(1000)])
    assert 0.03 < (p < 0.05).mean() < 0.07
    assert np.abs(difference(np.arange(RANKS))).max() < 1e-12


@pytest.mark.parametrize("power", [0.7, 1.4])
def test_ranks_that_lean_to_one_side_are_seen(power: float) -> None:
    leaning = RANKS * np.random.default_rng(6).random(500) ** power
    assert p_uniform(leaning.astype(int)) < 0.001


# The worlds


def test_a_world_is_the_same_whenever_it_is_drawn() -> None:
    first, again, next_one = (world_of(GAUSSIAN, number) for number in (3, 3, 4))
    pd.testing.assert_frame_equal(first.study.frame, again.study.frame)
    assert first.truth == again.truth != next_one.truth
    seeds = {world.study.program.analysis.seed for world in (first, next_one)}
    assert len(seeds) == 2, "one seed for all would make their errors one"


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_null_worlds_have_no_effect(family: Family) -> None:
    assert world_of(family, 1, null=True).truth["effect"] == pytest.approx(0, abs=1e-9)
    assert abs(world_of(family, 1).truth["effect"]) > 1e-3


LARGE = ["gaussian, segments", "binary, segments", "count", "rate", "ordinal, segments"]


@pytest.mark.parametrize("name", LARGE)
def test_the_true_effect_is_what_a_large_experiment_finds(name: str) -> None:
    """20,000 people: the difference in means within its own error; nothing of the models takes part."""
    for number in range(3):
        world = world_of(replace(FAMILIES[name], units=20_000), number)
        arms = world.study.frame.groupby("arm")["outcome"]
        gap, error = arms.mean().diff().iloc[-1], float(np.sqrt((arms.var() / arms.size()).sum()))
        assert abs(gap - world.truth["effect"]) < 4 * error


# The run


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    family = FAMILIES["gaussian"]
    share = 2 / family.worlds
    assert wanted(family, share) == [(False, 0), (True, 0), (False, 1)]
    run_family(tmp_path, "gaussian", 1 / family.worlds)
    first = (tmp_path / "gaussian.csv").read_text()
    run_family(tmp_path, "gaussian", share)
    both = (tmp_path / "gaussian.csv").read_text()
    assert both.startswith(first) and len(rows_of(tmp_path, "gaussian")) == 3
    run_family(tmp_path, "gaussian", share)
    assert (tmp_path / "gaussian.csv").read_text() == both


def test_what_is_kept_of_a_world() -> None:
    row, again = (row_of(GAUSSIAN, 0, null=False) for _ in range(2))
    assert {**row, "seconds": 0} == {**again, "seconds": 0}
    assert 0 <= row["rank: effect"] < RANKS
    assert row["verdict"] in {"target met", "moved, below target", "unclear", "wrong way"}


def made_up(false_alarms: int, ranks: Any) -> pd.DataFrame:
    """1,000 worlds from the prior with these ranks, and 1,000 null worlds with so many wrong ways."""
    n = 1000
    prior = pd.DataFrame(
        {"null": 0, "rank: effect": ranks, "in 50%: effect": np.arange(n) % 2, "verdict": "unclear"}
    )
    null = prior.assign(null=1, verdict=np.where(np.arange(n) < false_alarms, "wrong way", "unclear"))
    prior["in 90%: effect"], null["in 90%: effect"] = np.arange(n) % 10 > 0, np.arange(n) % 20 > 0
    rest = dict.fromkeys(("refused", "p_gain", "p_target", "gain", "target"), 0)
    return pd.concat([prior, null]).assign(**rest)


def test_what_is_not_as_it_should_be_is_said() -> None:
    uniform = np.arange(1000) % RANKS
    fine = summary(GAUSSIAN, made_up(40, uniform))
    assert missed(fine).empty
    false_alarms = missed(summary(GAUSSIAN, made_up(100, uniform)))
    assert list(false_alarms["of"]) == ["wrong way"] and false_alarms["value"].item() == 0.1
    skewed = missed(summary(GAUSSIAN, made_up(40, np.arange(1000) % RANKS // 2)))
    assert list(skewed["measure"]) == ["p value of uniform ranks"]
    assert shown(fine)["null: wrong way"].item() == "4.0% ± 0.7"


# What is committed


def test_the_committed_table_holds_every_family() -> None:
    table = pd.read_csv(TABLE)
    assert list(dict.fromkeys(table["family"])) == list(FAMILIES)
    effect = table[(table["of"] == "effect") & (table["measure"] == "coverage 90%")]
    counted = effect.groupby("family")["n"].sum()
    assert counted.drop("compliers").min() >= 990 and counted["compliers"] >= 700, (
        "1,000 drawn, less the refused"
    )
    assert (FIGURE / "calibration.png").is_file()
    assert "calibration.csv" in (DATA / "README.md").read_text()
