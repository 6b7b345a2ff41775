"""Several KPIs: false discoveries, harm limits, what cannot be estimated, the figure; from files and from frames."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ldlab.ab import estimates
from ldlab.ab.kpis import Kpis, kpis, p_value
from ldlab.data import load_study
from ldlab.plots.kpis import kpis as draw
from ldlab.program import LdlabError, load_program
from ldlab.report import Result, conclude
from tests.projects import make_project, write_program, write_table
from tests.studies import make_study
from tests.worlds_ab import lots

MONTE_CARLO = 3  # standard errors of a simulated share
MINUTES = {"unit": "minutes", "direction": "decrease", "value_type": "continuous"}


def amount(value, unit="minutes"):
    return {"value": value, "unit": unit}


def guard(name, *, limit=1.0, **changes):
    return {"column": name, "label": name, **MINUTES, "largest_acceptable_harm": amount(limit), **changes}


def secondary(name, **changes):
    return {"column": name, "label": name, **MINUTES, "smallest_effect_worth_having": amount(1.0), **changes}


def table(rng, n=400):
    arm = lots(rng, n)
    return pd.DataFrame({
        "agent": [f"a-{i}" for i in range(n)], "trained": arm, "minutes": 50 - 2 * arm + 5 * rng.normal(size=n),
        "waiting": 20 - 3 * arm + 5 * rng.normal(size=n), "travel": 20 + 5 * rng.normal(size=n),
        "errors": 5 + 0.05 * rng.normal(size=n), "calls": rng.poisson(9, n), "hours": 1 + rng.gamma(4, 2, n),
        "returned": (rng.random(n) < 0.1 + 0.25 * arm).astype(int), "stress": 30 + 40 * rng.normal(size=n),
    })  # fmt: skip


def study_of(tmp_path, frame, **changes):
    project = make_project(tmp_path)
    write_table(project, frame)
    return load_study(load_program(write_program(project, **changes)))


RATE = {"value_type": "rate", "exposure_column": "hours", "unit": "calls per hour", "direction": "increase",
        "smallest_effect_worth_having": amount(0.1, "calls per hour")}  # fmt: skip
SHARE = {
    "value_type": "binary",
    "unit": "percentage points",
    "largest_acceptable_harm": amount(5.0, "percentage points"),
}
SECONDARY = [secondary("waiting"), secondary("travel"), {**secondary("calls"), **RATE}]
RAILS = [guard("errors"), guard("stress", limit=2.0), guard("returned", **SHARE)]


def test_kpis_from_a_file(tmp_path):
    study = study_of(tmp_path, table(np.random.default_rng(1)), secondary_kpis=SECONDARY, guard_rails=RAILS)
    found = kpis(study)
    assert [k.kpi for k in found.secondary] == ["waiting", "travel", "calls"]
    assert [k.verdict for k in found.secondary] == ["moved", "not shown", "not shown"]
    assert "total over total" in found.secondary[2].estimate.method
    assert [rail.state for rail in found.guard_rails] == ["held", "not shown", "breached"]
    assert [rail.limit for rail in found.guard_rails] == [1.0, 2.0, 5.0]
    assert found.primary.verdict == "moved" and found.primary.p_adjusted is None
    assert not found.may_scale and [rail.kpi for rail in found.breached] == ["returned"]
    assert "waiting improved, allowing for 3 KPIs" in found.sentence and "limit: returned." in found.sentence
    assert "Breached: harmed beyond the agreed limit of +5 percentage points" in found.guard_rails[2].sentence
    assert list(found.table["role"]) == ["primary"] + ["secondary"] * 3 + ["guard-rail"] * 3
    assert "arm" not in found.table
    assert Kpis.model_validate(json.loads(found.model_dump_json())) == found


def test_p_values_by_benjamini_and_hochberg(tmp_path):
    # Smallest of m / rank x p over this and larger ones.
    study = study_of(tmp_path, table(np.random.default_rng(1)), secondary_kpis=SECONDARY)
    ps = np.array([result.p for result in kpis(study).secondary])
    order = np.argsort(ps)
    by_hand = np.minimum.accumulate((ps[order] * 3 / np.arange(1, 4))[::-1])[::-1]
    assert [kpis(study).secondary[i].p_adjusted for i in order] == pytest.approx(by_hand)


def test_several_arms_and_a_kpi_that_cannot_be_estimated(tmp_path):
    rng = np.random.default_rng(2)
    frame = table(rng, 600)
    arm = rng.permutation(np.arange(600) % 3)
    frame["trained"] = np.array(["none", "online", "class"])[arm]
    frame["waiting"] = 20 + 6.0 * (arm == 2) + rng.normal(size=600)
    frame.loc[arm == 1, "travel"] = np.where(
        np.arange((arm == 1).sum()) < 4, 1.0 + np.arange((arm == 1).sum()), np.nan
    )
    study = study_of(
        tmp_path, frame, guard_rails=[guard("waiting", limit=3.0), guard("errors")],
        design={"treated_values": ["online", "class"], "control_value": "none"}, agreement={"lead_arm": "online"},
    )  # fmt: skip
    found = kpis(study)
    states = [(rail.kpi, rail.arm, rail.state) for rail in found.guard_rails]
    assert states == [("waiting", "online", "held"), ("waiting", "class", "breached"),
                      ("errors", "online", "held"), ("errors", "class", "held")]  # fmt: skip
    assert "waiting in class" in found.sentence and not found.may_scale
    small = replace(study.guard_rails[0], frame=study.guard_rails[0].frame.query("variant != 'online'"))
    apart = kpis(replace(study, guard_rails=(small,)))
    assert apart.guard_rails[0].state == "not estimated" and "fewer than 10" in apart.guard_rails[0].reason
    assert not apart.guard_rails[0].may_scale


def test_a_constant_kpi_does_not_break_the_page():
    frame = pd.DataFrame({"arm": np.repeat([0, 1], 40), "outcome": np.tile([1.0, 2.0], 40)})
    other = make_study(frame.assign(outcome=0.0))
    found = kpis(replace(make_study(frame), secondary=(other, make_study(frame))))
    assert [k.verdict for k in found.secondary] == ["not estimated", "not shown"]
    assert "the same for all agents" in found.secondary[0].sentence
    assert found.secondary[1].p_adjusted == pytest.approx(found.secondary[1].p)  # one test is left
    alone = kpis(make_study(frame))
    assert alone.sentence == "" and draw(alone) is None and alone.may_scale


@pytest.mark.parametrize(
    ("direction", "effect", "state", "harmed"),
    [
        ("increase", 0.0, "held", False), ("increase", -0.6, "held", True), ("increase", -1.0, "not shown", True),
        ("increase", -1.6, "breached", True), ("increase", 3.0, "held", False), ("decrease", 0.6, "held", True),
        ("decrease", 1.6, "breached", True), ("decrease", -3.0, "held", False),
    ],
)  # fmt: skip
def test_guard_rails_by_direction(direction, effect, state, harmed):
    # 400 in each arm, sd 1.5, so that the 95% interval is about +-.21; the limit is 1.
    outcome = np.tile([1.5, -1.5], 400) + effect * np.repeat([0, 1], 400)
    frame = pd.DataFrame({"arm": np.repeat([0, 1], 400), "outcome": outcome + 10})
    sizes = {"target": amount(1.0), "smallest_effect_worth_having": amount(1.0)}
    rail = make_study(frame, kpi={"direction": direction, **sizes})
    found = kpis(replace(make_study(frame), guard_rails=(rail,))).guard_rails[0]
    assert (found.state, found.harmed, found.may_scale) == (state, harmed, state == "held")
    assert found.limit == (-1.0 if direction == "increase" else 1.0)
    words = {"held": "Held", "not shown": "Not shown to hold", "breached": "Breached"}
    assert found.sentence.startswith(
        "It was harmed, but by less" if harmed and state == "held" else words[state]
    )


def test_a_limit_just_reached_is_seldom_called_held_or_breached():
    # True harm at the limit; 90% intervals, so each is wrong in 5%. 300 runs.
    rng, states, arm = np.random.default_rng(3), [], np.repeat([0, 1], 40)
    sizes = {"target": amount(1.0), "smallest_effect_worth_having": amount(1.0)}
    study = make_study(pd.DataFrame({"arm": arm, "outcome": rng.normal(size=80)}), kpi=sizes, level=0.9)
    for _ in range(300):
        rail = replace(study, frame=study.frame.assign(outcome=rng.normal(size=80) - arm))
        states.append(kpis(replace(study, guard_rails=(rail,))).guard_rails[0].state)
    for state in ("held", "breached"):
        assert states.count(state) / 300 < 0.05 + MONTE_CARLO * np.sqrt(0.05 * 0.95 / 300)
        assert states.count(state) > 0


def test_false_discoveries_are_kept_to_the_agreed_share():
    # Four KPIs, nothing moved: any discovery is false, so it happens in at most 10% of studies. 150 runs.
    rng, false, arm = np.random.default_rng(4), 0, np.repeat([0, 1], 30)
    study = make_study(pd.DataFrame({"arm": arm, "outcome": rng.normal(size=60)}))
    for _ in range(150):
        drawn = [replace(study, frame=study.frame.assign(outcome=rng.normal(size=60))) for _ in range(4)]
        found = kpis(replace(study, secondary=tuple(drawn)))
        false += any(k.verdict != "not shown" for k in found.secondary)
    assert 0 < false / 150 < 0.1 + MONTE_CARLO * np.sqrt(0.1 * 0.9 / 150)


def test_p_value_without_degrees_of_freedom():
    estimate = kpis(
        make_study(pd.DataFrame({"arm": [0] * 20 + [1] * 20, "outcome": np.arange(40.0)}))
    ).primary.estimate
    by_chance = p_value(estimate.model_copy(update={"df": None}))
    assert by_chance == pytest.approx(p_value(estimate), abs=1e-9)


def test_observational_designs_are_refused():
    frame = pd.DataFrame({"arm": np.repeat([0, 1], 20), "outcome": np.arange(40.0)})
    with pytest.raises(LdlabError, match="randomised"):
        kpis(make_study(frame, "observational"))


def test_the_figure_puts_all_on_one_scale(tmp_path):
    study = study_of(tmp_path, table(np.random.default_rng(1)), secondary_kpis=SECONDARY, guard_rails=RAILS)
    figure = draw(kpis(study))
    assert figure.title == kpis(study).sentence and figure.name == "kpis"
    assert "guard-rail returned (less is better)" in figure.alt and "limit +5" in figure.alt
    axes = figure.canvas.axes[0]
    assert "standard deviations" in axes.get_xlabel() and len(axes.get_yticks()) == 7
    limits = [line for line in axes.lines if len(set(line.get_xdata())) == 1 and len(line.get_xdata()) == 2]
    assert len(limits) == 3  # zero, and two guard-rails; the limit of the third is far off
    assert [line.get_marker() for line in axes.lines].count(">") == 1
    percent = draw(kpis(replace(study, guard_rails=(), secondary=study.secondary[:2])))
    assert "percent of the comparison mean" in percent.canvas.axes[0].get_xlabel()


def test_what_could_not_be_read_is_there_and_does_not_hold(tmp_path):
    project = make_project(tmp_path)
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"agent": [f"a{i}" for i in range(200)], "trained": np.arange(200) % 2})
    frame["minutes"] = 20 - 3 * frame["trained"] + rng.normal(size=200)
    frame["mood"], frame["errors"] = 4, 0
    write_table(project, frame)
    other = {"unit": "points", "direction": "increase", "value_type": "continuous"}
    rail = {"column": "mood", "label": "mood", "largest_acceptable_harm": {"value": 1, "unit": "percent of baseline"}}
    second = {"column": "errors", "label": "errors", "smallest_effect_worth_having": {"value": 1, "unit": "points"}}
    path = write_program(project, secondary_kpis=[second | other], guard_rails=[rail | other])
    study = load_study(load_program(path, project))
    found = kpis(study)
    assert [one.verdict for one in found.secondary] == ["not estimated"]
    assert [one.state for one in found.guard_rails] == ["not estimated"] and not found.may_scale
    assert "same value in every row" in found.guard_rails[0].sentence
    answers = estimates(study)
    said = conclude(study, "ab_test", answers, [], kpis=found)
    assert said.decision.decision == "test further" and Result.model_validate_json(said.model_dump_json())
