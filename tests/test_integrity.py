"""Is the experiment intact? Planted faults through files, hand-solved statistics, false alarms and power."""

from __future__ import annotations

import inspect
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.multivariate.manova import MANOVA

from ldlab import did
from ldlab.ab.attrition import lee_bounds, worst_case_bounds
from ldlab.checks import balance
from ldlab.checks.arms import sample_ratio
from ldlab.checks.assigned import split_p
from ldlab.checks.attrition_arms import attrition_by_arm
from ldlab.checks.experiment import (
    before_known_alike,
    clusters_kept_whole,
    comparison_kept_apart,
    contamination,
    exposed_before_assignment,
    kpi_varies,
    people_in_two_arms,
)
from ldlab.checks.intact import intact
from ldlab.checks.sample_ratios import sample_ratio_by_day, sample_ratio_by_segment, sample_ratio_by_stratum
from ldlab.data import identifiers, load_study
from ldlab.program import InputError, Study, load_program
from tests.projects import REPOSITORY, agents, make_project, write_program, write_table
from tests.studies import make_study

OTHER = {"label": "satisfaction", "unit": "points", "direction": "increase", "value_type": "continuous"}


def study_of(folder: Path, frame: pd.DataFrame, **changes: Any) -> Study:
    project = make_project(folder)
    write_table(project, frame)
    return load_study(load_program(write_program(project, **changes), project))


def refused(folder: Path, frame: pd.DataFrame, **changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        study_of(folder, frame, **changes)
    return str(caught.value)


def columns(**named: Any) -> dict[str, Any]:
    return {"columns": named}


def secondary(column: str, **changes: Any) -> dict[str, Any]:
    worth = {"smallest_effect_worth_having": {"value": 0.5, "unit": "points"}}
    return OTHER | worth | changes | {"column": column}


def guard_rail(column: str, **changes: Any) -> dict[str, Any]:
    return {"column": column, **OTHER, "largest_acceptable_harm": {"value": 0.5, "unit": "points"}, **changes}


def lots(rng: np.random.Generator, n: int = 200, *, arms: int = 2, **columns: Any) -> pd.DataFrame:
    """People assigned by lot to arms of about equal size."""
    code = rng.permutation(np.arange(n) % arms)
    made: dict[str, Any] = {"arm": (code > 0).astype(int), "outcome": rng.normal(size=n)}
    if arms > 2:
        made["variant"] = np.array(["0", "A", "B", "C"])[code]
    return pd.DataFrame(made | columns)


def experiment(
    frame: pd.DataFrame, *, lost: Any = None, covariates: tuple[str, ...] = (), **design: Any
) -> Study:
    """A study whose assigned units are ``frame``; ``lost`` ones have no KPI."""
    several = {"treated_values": ["A", "B"], "control_value": "0"} if "variant" in frame else {}
    made = make_study(frame, {"kind": "randomised", **several, **design}, covariates=covariates)
    assigned = made.frame.assign(two_arms=frame.get("two_arms", 0))
    if lost is not None:
        assigned["outcome"] = assigned["outcome"].where(~np.asarray(lost))
    single = assigned[assigned["two_arms"] == 0]
    seen = single[single["outcome"].notna()].reset_index(drop=True)
    missing = made.missing.copy()
    missing["rows"] = single.groupby("arm").size()
    missing["without KPI"] = single["outcome"].isna().groupby(single["arm"]).sum()
    return replace(made, frame=seen, assigned=assigned, missing=missing)


def alarms(p: list[Any], level: float) -> tuple[float, float]:
    """The share of p-values below a level, and three simulation standard errors."""
    return float(np.mean(np.array(p) < level)), 3 * math.sqrt(level * (1 - level) / len(p))


# The data contract


def test_people_in_two_arms_leave_the_estimate_and_are_counted(tmp_path: Path) -> None:
    twice = agents(60).head(4).assign(trained=lambda d: 1 - d["trained"])
    study = study_of(tmp_path, pd.concat([agents(60), twice]))
    assert len(study.frame) == 56 and study.assigned is not None
    assert study.assigned["two_arms"].sum() == 4 and len(study.assigned) == 60
    assert study.left_out == (("agents found in more than one arm", 4),)
    assert "fewer than 10 rows left out: agents found in more than one arm" in repr(study)
    assert study.missing["rows"].sum() == 56
    check = people_in_two_arms(study)
    assert check is not None and check.status == "failed" and check.breaks and check.statistic is None
    assert "Fewer than 10 agents were found in two arms" in check.sentence


def test_the_same_unit_twice_in_one_arm_is_refused(tmp_path: Path) -> None:
    for again in (agents().head(3), agents().head(3).assign(minutes=1.0)):
        text = refused(tmp_path, pd.concat([agents(), again]))
        assert "agent: found 3 repeated keys" in text and "Aggregate with data.query" in text


NAMES = {"treated_value": "training", "control_value": "control"}
ARMS = {"treated_values": ["A", "B"], "control_value": "none", "columns": {"treatment": "version"}}
DAYS = {"assigned_on": "assigned", "measured_on": "measured"}
LOOKS = {"method": "group_sequential", "at": ["2026-02-01", "2026-03-01"], "planned_units": 40}


def named(*codes: str) -> pd.DataFrame:
    return agents().assign(trained=np.resize(codes, 40))


def versions(b: int) -> pd.DataFrame:
    return agents().assign(version=["B"] * b + ["A"] * 15 + ["none"] * (25 - b))


def dated(assigned: Any = "2026-01-05", measured: Any = "2026-02-05") -> pd.DataFrame:
    return agents().assign(assigned=assigned, measured=measured)


# DuckDB 1.5 hands times with a zone to pandas 3.1 in a way that pandas will drop.
@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.drop")
@pytest.mark.parametrize(
    ("frame", "changes", "said"),
    [
        (dated(measured=["2026-01-04"] * 3 + ["2026-02-05"] * 37), {"design": columns(**DAYS)},
         ["table.csv): measured: found a KPI measured before assignment for 3 of 40 agents",
          "dates from assigned on", "swapped"]),
        (named("training", "control", "training", "ctrl"), {"design": NAMES},
         ["control, ctrl, training, of which ctrl are of no arm",
          "only training (trained) and control (not)", "Did you mean 'control'?", "in one way"]),
        (named("training", "Control ", "training", "control"), {"design": NAMES},
         ["of which Control  are of no arm", "Did you mean 'control'?"]),
        (named("training", "untrained"), {"design": NAMES}, ["of which untrained are of no arm", "no row with control"]),
        (versions(3), {"design": ARMS}, ["fewer than 10 agents with a KPI in arm B", "Take B out of design.treated_values"]),
        (versions(12).assign(minutes=[None] * 12 + [1.0, 2.0] * 14), {"design": ARMS},
         ["minutes: found no value for any agent in arm B"]),
        (agents().assign(minutes=[None, 2.0] * 10 + [None, 3.0] * 10), {},
         ["minutes: found no value for any comparison agent", "recorded only for the others"]),
        (agents().assign(hours=[-1.0, *range(39)]), {"design": columns(dose="hours")}, ["hours: found 1 negative doses"]),
        (agents().assign(pre=5.0), {"kpi": {"before_column": "pre"}},
         ["pre: found one value or none", "Leave before_column out"]),
        (dated(assigned=20260105), {"design": columns(**DAYS)}, ["assigned: found numbers such as 20260105", "ISO dates"]),
        (dated(assigned=["5.1.2026"] * 2 + ["2026-01-05"] * 38), {"design": columns(**DAYS)},
         ["no date in 2 rows, such as '5.1.2026'"]),
        (dated(assigned=None), {"design": columns(**DAYS)}, ["assigned: found no date at all"]),
        (dated(assigned="2026-01-05T10:00:00Z", measured="2026-01-06 10:00:00"), {"design": columns(**DAYS)},
         ["assigned: found times with a time zone, and measured without"]),
        (dated(), {"design": columns(**DAYS), "looks": {**LOOKS, "at": ["2025-02-01", "2025-03-01"]}},
         ["looks.at: found the last planned look on 2025-03-01, before the first date in measured, 2026-02-05"]),
        (dated(measured=[None] * 3 + ["2026-02-05"] * 37), {"design": columns(**DAYS), "looks": LOOKS},
         ["measured: found no date for 3 of 40 agents with a KPI"]),
        (agents(), {"looks": {"method": "group_sequential", "at": [2, 3]}},
         ["3 agents planned at the last look, and 40 with a KPI"]),
        (pd.concat([agents(), agents().assign(trained=lambda d: 1 - d["trained"])]), {},
         ["trained: found every agent in more than one arm", "an id that is not the unit's"]),
        (agents().assign(agent=lambda d: d["agent"].where(d.index > 1, "  ")), {}, ["agent: found 2 rows without a unit"]),
        (agents().assign(minutes=lambda d: d["minutes"] * d["trained"]), {},
         ["minutes: found one value for everybody in arm comparison", "missing values that were written as 0"]),
        (versions(12).assign(minutes=lambda d: d["minutes"].where(d["version"] != "B", 0)), {"design": ARMS},
         ["minutes: found one value for everybody in arm B"]),
        (agents().assign(lot=lambda d: d["trained"]), {"design": columns(stratum="lot")},
         ["lot: found no stratum in which both arms can be compared", "Leave columns.stratum out"]),
        (agents().assign(lot=[0, 0, *range(1, 39)]), {"design": columns(stratum="lot")},
         ["lot: found too few in both arms of any stratum"]),
        (agents().assign(team=lambda d: d["trained"]), {"design": columns(cluster="team")},
         ["team: found one cluster in an arm", "two or more clusters in each arm"]),
        (agents().assign(team=np.arange(40) // 4, lot=np.arange(40) // 2 % 2), {"design": columns(cluster="team", stratum="lot")},
         ["lot: found clusters (team) spread over several strata", "Leave out columns.cluster where units were drawn"]),
        (agents().assign(hours=np.nan), {"design": columns(dose="hours")}, ["hours: found no dose at all"]),
        (agents().assign(minutes=np.arange(40.0) + 50, pre=np.arange(40.0) + 50), {"kpi": {"before_column": "pre"}},
         ["pre: found the values of minutes again", "Leave before_column out"]),
        (agents().assign(minutes=[1.0] * 39 + [50.0]), {"kpi": {"winsorise": {"above": 0.9}}},
         ["one value in every row", "winsorise clips it"]),
        (agents().assign(score="good"), {"secondary_kpis": [secondary("score")]},
         ["secondary_kpis.0.column (score): found text in 40 rows"]),
        (agents().assign(score=range(40), pre=1.0), {"guard_rails": [guard_rail("score", before_column="pre")]},
         ["guard_rails.0.before_column (pre): found one value or none"]),
        (agents().assign(score=np.arange(40) // 2 % 2 - 0.5),
         {"guard_rails": [guard_rail("score", largest_acceptable_harm={"value": 5.0, "unit": "percent of baseline"})]},
         ["guard_rails.0.largest_acceptable_harm: found a baseline of 0 points"]),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_what_to_do(
    tmp_path: Path, frame: pd.DataFrame, changes: dict[str, Any], said: list[str]
) -> None:
    text = refused(tmp_path, frame, **changes)
    assert text.startswith("params/tickets.yaml")
    for part in said:
        assert part in text
    assert "a-0" not in text, "no id of a person"


def test_zones_in_some_rows_only_are_refused(tmp_path: Path) -> None:
    frame = dated(assigned=["2026-01-05T10:00:00Z", "2026-01-05T10:00:00"] * 20)
    project = make_project(tmp_path)
    frame.to_parquet(project / "data" / "table.parquet")
    said = refused(tmp_path, agents(), data={"source": "data/table.parquet"}, design=columns(**DAYS))
    assert "assigned: found times with a time zone in some rows only" in said


@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.drop")
def test_days_and_times_are_compared_by_day_and_zones_become_utc(tmp_path: Path) -> None:
    # Assigned at ten in the morning, measured on the same day: not before.
    frame = dated(assigned="2026-01-05 10:00:00", measured="2026-01-05")
    assert len(study_of(tmp_path, frame, design=columns(**DAYS)).frame) == 40
    zoned = dated(assigned="2026-01-05T01:30:00+02:00", measured="2026-01-05T00:30:00+01:00")
    study = study_of(tmp_path, zoned, design=columns(**DAYS))
    assert (study.frame["assigned_on"] == pd.Timestamp("2026-01-04 23:30")).all()
    assert (study.frame["measured_on"] == study.frame["assigned_on"]).all()


def test_other_kpis_that_say_nothing_do_not_stop_the_primary_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frame = agents(60).assign(
        score=rng.normal(10, 1, 60),
        zero=0,
        lost=np.where(np.arange(60) % 2, 3.0, None),
        copy=np.arange(60) % 2,
        unseen=rng.poisson(5, 60) * (np.arange(60) % 2),
    )
    study = study_of(
        tmp_path,
        frame,
        secondary_kpis=[secondary("score"), secondary("zero", label="sales"), secondary("lost", label="visits"),
                        secondary("unseen", label="orders", value_type="count")],
        guard_rails=[guard_rail("copy", label="complaints")],
    )  # fmt: skip
    assert [other.program.kpi.column for other in study.secondary] == ["score"] and study.guard_rails == ()
    assert study.notes == (
        "sales is not evaluated: it has the same value in every row",
        "visits is not evaluated: it is known for fewer than 10 agents of an arm",
        "orders is not evaluated: it has one value for everybody in arm comparison. Look for a KPI that was recorded only "
        "in another arm, and for missing values that were written as 0.",
        "complaints is not evaluated: it has one value in each arm, as if it were the treatment under another name",
    )
    assert study.secondary[0].notes == ()


def test_another_kpi_is_read_as_if_it_were_the_primary_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    frame = agents(60).assign(
        tickets=rng.poisson(9, 60), hours=rng.uniform(1, 2, 60), pre=rng.normal(size=60), site=["x", "y", "z"] * 20
    )  # fmt: skip
    frame.loc[3, "tickets"] = np.nan
    frame = pd.concat([frame, frame.iloc[[0]].assign(trained=1)])
    rate = {"value_type": "rate", "exposure_column": "hours", "before_column": "pre"}
    shared = {"design": columns(segment="site", covariates=["site"])}
    kpi = {**rate, "label": "pace", "unit": "points", "direction": "increase"}
    amounts = {name: {"value": 0.5, "unit": "points"} for name in ("target", "smallest_effect_worth_having")}
    alone = study_of(tmp_path, frame, kpi={**kpi, **amounts, "column": "tickets"}, **shared)
    beside = study_of(
        tmp_path, frame, kpi={"before_column": "pre"}, secondary_kpis=[secondary("tickets", **kpi)], **shared
    ).secondary[0]
    pd.testing.assert_frame_equal(beside.frame, alone.frame, check_like=True)
    pd.testing.assert_frame_equal(beside.missing, alone.missing)
    assert (beside.covariates, beside.baseline) == (alone.covariates, alone.baseline)
    # A rate's baseline is all tickets over all hours of the comparison.
    control = alone.frame[alone.frame["arm"] == 0]
    assert alone.baseline == pytest.approx(control["count"].sum() / control["exposure"].sum())


def test_a_guard_rail_s_limit_is_no_target(tmp_path: Path) -> None:
    # Errors from 0 up, mean .5: a fall by 3 is not possible, but a harm of 3 is.
    frame = agents().assign(errors=np.arange(40) // 2 % 2)
    limit = {"value": 3.0, "unit": "points"}
    rail = guard_rail("errors", direction="decrease", lowest=0, largest_acceptable_harm=limit)
    assert len(study_of(tmp_path, frame, guard_rails=[rail]).guard_rails) == 1


def test_arms_keep_the_names_of_the_program_file(tmp_path: Path) -> None:
    frame = agents(90).assign(version=["yes", "maybe", "No "] * 30)
    arms = {"treated_values": ["yes", "maybe"], "control_value": "no", "columns": {"treatment": "version"}}
    study = study_of(
        tmp_path, frame, design={**arms, "planned_shares": {"yes": 0.3, "maybe": 0.3, "no": 0.4}}
    )
    assert set(study.frame["variant"]) == {"yes", "maybe", "no"}
    assert study.versus("yes").count()["comparison"] == 30
    check = sample_ratio(study)
    assert (
        check is not None
        and "33.3% comparison (planned 40.0%), 33.3% arm yes (planned 30.0%)" in check.sentence
    )


def test_the_names_of_small_strata_are_identifiers(tmp_path: Path) -> None:
    frame = agents().assign(
        pair=[f"pair {i // 2}" for i in range(40)], site=["north", "north", "south", "south"] * 10
    )
    design = columns(stratum="pair")
    assert "pair 7" in identifiers(study_of(tmp_path, frame, design=design).program)
    assert "north" not in identifiers(study_of(tmp_path, frame, design=columns(stratum="site")).program)


def test_a_log_scale_holds_for_the_kpi_before(tmp_path: Path) -> None:
    amount = {"value": 5.0, "unit": "percent of baseline"}
    percent = {"target": amount, "smallest_effect_worth_having": amount}
    kpi = {"scale": "log", "before_column": "pre", **percent}
    study = study_of(tmp_path, agents().assign(pre=range(1, 41)), kpi=kpi)
    assert study.frame["before"].iloc[4] == pytest.approx(math.log(5))
    assert "pre: found 1 values of 0 or less" in refused(tmp_path, agents().assign(pre=range(40)), kpi=kpi)


def test_a_missing_kpi_before_in_half_of_the_people_is_said_and_nobody_is_dropped(tmp_path: Path) -> None:
    frame = agents(200).assign(pre=np.where(np.arange(200) % 4 < 2, np.arange(200) % 9, np.nan))
    study = study_of(tmp_path, frame, kpi={"before_column": "pre"})
    assert len(study.frame) == 200 and study.frame["before"].isna().sum() == 100
    assert "resolution time before is missing for 100 of 200 agents (50%); they stay in" in repr(study)
    check = before_known_alike(study)
    assert check is not None and check.status == "passed" and balance(study).status == "passed"


# Sizes of the arms


def test_sample_ratio_of_three_arms_by_hand() -> None:
    shares = {"0": 0.5, "A": 0.25, "B": 0.25}
    frame = pd.DataFrame({"variant": ["0"] * 480 + ["A"] * 220 + ["B"] * 300})
    frame = frame.assign(arm=(frame["variant"] != "0").astype(int), outcome=np.arange(1000) % 7.0)
    check = sample_ratio(experiment(frame, planned_shares=shares))
    # (480 - 500)^2/500 + (220 - 250)^2/250 + (300 - 250)^2/250 = .8 + 3.6 + 10 = 14.4 with 2 degrees of freedom
    assert check is not None and check.statistic == pytest.approx(stats.chi2.sf(14.4, 2))
    assert check.status == "failed" and check.needed and check.breaks
    assert check.sentence.startswith(
        "1,000 agents were assigned thus: 48.0% comparison (planned 50.0%), 22.0% arm A (planned 25.0%), 30.0% arm B"
    )
    # One arm against control: its plan is 2 to 1.
    versus = experiment(frame, planned_shares=shares).versus("B")
    of_two = sample_ratio(versus)
    assert of_two is not None and of_two.statistic == pytest.approx(
        stats.chisquare([480, 300], [520, 260]).pvalue
    )


def test_sample_ratio_is_exact_for_few() -> None:
    frame = pd.DataFrame({"arm": [1] * 5 + [0] * 55, "outcome": np.arange(60) % 7.0})
    check = sample_ratio(experiment(frame, planned_treated_share=0.02))
    assert check is not None and check.statistic == pytest.approx(stats.binomtest(5, 60, 0.02).pvalue)


def test_sample_ratio_power_of_three_arms_is_what_it_says() -> None:
    rng = np.random.default_rng(3)
    shares = {"0": 0.4, "A": 0.3, "B": 0.3}
    frame = pd.DataFrame({"variant": ["0"] * 400 + ["A"] * 300 + ["B"] * 300})
    frame = frame.assign(arm=(frame["variant"] != "0").astype(int), outcome=np.arange(1000) % 7.0)
    check = sample_ratio(experiment(frame, planned_shares=shares))
    assert check is not None
    off = float(check.power.split()[3]) / 100
    truth = np.array([0.4 + off, 0.3 - off / 2, 0.3 - off / 2])
    made = rng.multinomial(1000, truth, size=4000)
    p = stats.chisquare(made, [400, 300, 300], axis=1).pvalue
    assert abs(np.mean(p < 0.001) - 0.8) < 0.03


def test_a_99_to_1_split_declared_50_50_breaks_the_claim(tmp_path: Path) -> None:
    frame = agents(2000).assign(trained=lambda d: (np.arange(2000) % 100 == 0).astype(int))
    check = sample_ratio(study_of(tmp_path, frame, design={"planned_treated_share": 0.5}))
    assert check is not None and check.status == "failed" and check.breaks
    assert "1.0% of 2,000 agents were assigned to training, 50.0% were planned" in check.sentence
    assert "Look for" in check.sentence


def days(rng: np.random.Generator, n: int, span: int = 10) -> pd.Series:
    return pd.Series(pd.Timestamp("2026-01-05") + pd.to_timedelta(rng.integers(0, span, n), "D"))


@pytest.mark.parametrize("planned", [True, False])
def test_sample_ratio_by_day_and_segment_false_alarms(planned: bool) -> None:
    # Null worlds, 1,000 with a plan and 400 without: 240 people by coin, over 8 days and 8 segments.
    worlds = 1000 if planned else 400
    rng, n, p = np.random.default_rng(4), 240, []
    base = pd.DataFrame(
        {"arm": np.arange(n) % 2, "outcome": 0.0, "assigned_on": days(rng, n), "segment": "a"}
    )
    study = experiment(base, planned_treated_share=0.3 if planned else None)
    for _ in range(worlds):
        arm, segment = (rng.random(n) < 0.3).astype(int), rng.choice(list("abcdefgh"), n)
        frame = base.assign(arm=arm, assigned_on=days(rng, n, 8), segment=segment)
        world = replace(study, frame=frame, assigned=frame.assign(two_arms=0))
        p += [
            check.statistic for check in (sample_ratio_by_day(world), sample_ratio_by_segment(world)) if check
        ]
    assert len(p) == 2 * worlds
    for level in (0.001, 0.05, 0.2):
        share, noise = alarms(p, level)
        assert share - level < noise
        assert level < 0.05 or share > level / 3, "two tests that agree cost power, but not all of it"


def test_sample_ratio_by_day_finds_one_day_among_sixty() -> None:
    rng = np.random.default_rng(9)
    frame = lots(rng, 4000, assigned_on=days(rng, 4000, 60))
    lost = (frame["arm"] == 1) & (frame["assigned_on"] == "2026-01-20")
    assert 20 < lost.sum() < 50
    for share in (0.5, None):
        study = experiment(frame[~lost].reset_index(drop=True), planned_treated_share=share)
        check = sample_ratio_by_day(study)
        assert check is not None and check.status == "failed" and check.breaks
        assert (
            "farthest off is 2026-01-20, with" in check.sentence or "too small to be named" in check.sentence
        )


def test_split_p_by_hand() -> None:
    # 10 cells of 20 and one of 20 that all went one way: 2 x 11 x 2 x 0.5^20 of the binomial law.
    counts = np.array([[10, 10]] * 10 + [[0, 20]])
    assert split_p(counts, np.array([0.5, 0.5]), 1) == pytest.approx(2 * 11 * 2 * 0.5**20, rel=1e-12)
    # Without planned shares: the hypergeometric law of 0 of 20 where 100 of 220 are of that arm.
    alone = math.comb(120, 20) / math.comb(220, 20)
    assert split_p(counts, None, 1) == pytest.approx(2 * 11 * 2 * alone, rel=1e-9)
    assert split_p(np.array([[10, 10]] * 3), None, 1) == 1.0


def test_sample_ratio_by_day_finds_a_log_that_began_later() -> None:
    rng = np.random.default_rng(5)
    frame = lots(rng, 2000, assigned_on=days(rng, 2000))
    late = (frame["arm"] == 0) & (frame["assigned_on"] < "2026-01-06")
    check = sample_ratio_by_day(experiment(frame[~late].reset_index(drop=True), planned_treated_share=0.5))
    assert check is not None and check.status == "failed" and check.breaks
    assert "farthest off is 2026-01-05, with 0.0% comparison (planned 50.0%)" in check.sentence
    assert "Look for an arm whose log began later" in check.sentence
    whole = sample_ratio_by_day(experiment(frame, planned_treated_share=0.5))
    assert whole is not None and whole.status == "passed"
    assert (
        whole.sentence
        == "Over 10 days of assignment the split between the arms differs from the plan as chance allows."
    )


def test_sample_ratio_by_day_uses_weeks_where_days_are_thin_and_counts_missing_dates() -> None:
    rng = np.random.default_rng(6)
    frame = lots(rng, 800, assigned_on=days(rng, 800, 70))
    week = sample_ratio_by_day(experiment(frame))
    assert week is not None and week.name == "sample ratio by week of assignment"
    frame.loc[frame["arm"] == 1, "assigned_on"] = frame["assigned_on"].where(rng.random(800) < 0.8)
    gone = sample_ratio_by_day(experiment(frame))
    assert gone is not None and gone.status == "failed" and "farthest off is no date" in gone.sentence


def test_sample_ratio_by_segment_names_no_small_one_and_counts_clusters() -> None:
    rng = np.random.default_rng(7)
    frame = lots(rng, 2000, segment=np.repeat(["a", "b", "c", "d"], 500))
    frame = frame[(frame["segment"] != "a") | (frame["arm"] == 1) | (frame.index < 10)].reset_index(drop=True)
    check = sample_ratio_by_segment(experiment(frame, planned_treated_share=0.5))
    assert check is not None and check.status == "failed"
    assert "the one farthest off is too small to be named" in check.sentence
    frame = pd.DataFrame({"cluster": np.repeat(np.arange(40), 25)})
    frame = frame.assign(arm=frame["cluster"] % 2, segment=np.where(frame["cluster"] < 20, "n", "s"))
    frame["outcome"] = np.arange(1000) % 7.0
    whole = sample_ratio_by_segment(experiment(frame, planned_treated_share=0.5))
    assert whole is not None and whole.statistic == pytest.approx(1.0), "10 of 20 clusters in each"
    across = sample_ratio_by_segment(experiment(frame.assign(segment=np.arange(1000) % 2 * 1)))
    assert across is not None and across.status == "not_run" and not across.needed


def test_shares_that_differ_between_strata_break_nothing_and_stop_the_other_two() -> None:
    rng = np.random.default_rng(8)
    frame = pd.DataFrame({"stratum": np.repeat(["x", "y"], 500), "segment": ["n", "s"] * 500})
    frame["arm"] = (rng.random(1000) < np.where(frame["stratum"] == "x", 0.2, 0.6)).astype(int)
    study = experiment(frame.assign(outcome=rng.normal(size=1000)), planned_treated_share=0.4)
    strata, segments = sample_ratio_by_stratum(study), sample_ratio_by_segment(study)
    assert strata is not None and strata.status == "failed" and not strata.breaks and not strata.needed
    assert "Where the shares were meant to differ between strata this is no fault" in strata.sentence
    assert segments is not None and segments.status == "not_run"
    pairs = frame.assign(stratum=np.arange(1000) // 2, outcome=rng.normal(size=1000))
    assert sample_ratio_by_stratum(experiment(pairs)) is None


# The protocol


@pytest.mark.parametrize(("twice", "status"), [(0, "passed"), (1, "passed"), (2, "failed"), (20, "failed")])
def test_people_in_two_arms(twice: int, status: str) -> None:
    frame = lots(np.random.default_rng(9), 1000).assign(two_arms=(np.arange(1000) < twice).astype(int))
    check = people_in_two_arms(experiment(frame))
    assert check is not None and check.status == status
    assert ("20 agents (2.0% of those assigned)" in check.sentence) == (twice == 20)
    assert people_in_two_arms(make_study(frame[["arm", "outcome"]])) is None


def test_exposed_before_assignment_by_day_and_by_time() -> None:
    rng = np.random.default_rng(10)
    frame = lots(rng, 400, assigned_on=pd.Timestamp("2026-01-05 12:00"))
    same_day = frame.assign(exposed_on=pd.Timestamp("2026-01-05"))
    by_day = exposed_before_assignment(experiment(same_day))
    assert by_day is not None and by_day.status == "passed" and by_day.statistic == 0
    hours = frame.assign(
        exposed_on=pd.Timestamp("2026-01-05 12:00") + pd.to_timedelta(np.arange(400) - 20, "h")
    )
    by_time = exposed_before_assignment(experiment(hours))
    assert by_time is not None and by_time.status == "failed" and by_time.breaks
    assert by_time.statistic == pytest.approx(5), "20 of 400"
    assert "5.0% of the agents who met the program did so before they were assigned" in by_time.sentence
    assert exposed_before_assignment(experiment(frame)) is None


def test_a_comparison_that_waits_for_the_program_is_kept_apart() -> None:
    frame = lots(np.random.default_rng(11), 400, measured_on=pd.Timestamp("2026-02-05"))
    frame["exposed_on"] = pd.Timestamp("2026-01-10")
    met = comparison_kept_apart(experiment(frame))
    assert met is not None and met.status == "failed" and "All of the comparison agents met" in met.sentence
    later = frame["exposed_on"].where(frame["arm"] == 1, pd.Timestamp("2026-03-01"))
    waited = comparison_kept_apart(experiment(frame.assign(exposed_on=later)))
    assert (
        waited is not None
        and waited.status == "passed"
        and "None of the comparison agents" in waited.sentence
    )
    offered = experiment(frame, columns={"assignment": "offered", "treatment": "came"})
    assert comparison_kept_apart(offered) is None


def test_clusters_kept_whole() -> None:
    rng = np.random.default_rng(12)
    frame = pd.DataFrame({"cluster": np.repeat(np.arange(40), 25), "outcome": rng.normal(size=1000)})
    whole = frame.assign(arm=frame["cluster"] % 2)
    moved = whole.assign(arm=np.where(np.arange(1000) % 25 == 0, 1 - whole["arm"], whole["arm"]))
    singly = frame.assign(arm=rng.integers(0, 2, 1000))
    checks = [clusters_kept_whole(experiment(d)) for d in (whole, moved, singly)]
    assert checks[0] is not None and checks[0].status == "passed"
    assert checks[1] is not None and checks[1].status == "failed" and checks[1].breaks
    assert "4.0% of the agents are in another arm than the rest of their cluster" in checks[1].sentence
    assert checks[2] is None


def teams_of(rng: np.random.Generator, spill: float, teams: int = 60, size: int = 6) -> Study:
    team = np.repeat(np.arange(teams), size)
    arm = rng.permutation(np.arange(teams * size) % 2)
    share = (np.bincount(team, arm)[team] - arm) / (size - 1)
    outcome = rng.normal(size=teams)[team] + rng.normal(size=len(team)) + spill * share
    return experiment(pd.DataFrame({"team": team, "arm": arm, "outcome": outcome}), columns={"team": "team"})


def test_contamination_false_alarms_and_power() -> None:
    rng = np.random.default_rng(13)
    null = [contamination(teams_of(rng, 0, teams=25)) for _ in range(250)]
    p = [check.statistic for check in null if check is not None and check.statistic is not None]
    for level in (0.01, 0.05):
        share, noise = alarms(p, level)
        assert share < level + noise
    worlds = [contamination(teams_of(rng, 2.5)) for _ in range(100)]
    assert all(check is not None for check in worlds)
    caught = np.mean([check.status == "failed" for check in worlds if check is not None])
    said = worlds[0].power.split() if worlds[0] is not None else []
    assert 10 * float(said[0]) == pytest.approx(2.5, rel=0.35), "what it says it sees 4 times in 5"
    assert 0.6 < caught < 0.97
    failed = next(check for check in worlds if check is not None and check.status == "failed")
    assert "higher: the program reaches beyond those who were assigned" in failed.sentence and failed.breaks


def test_contamination_needs_teams_that_mix() -> None:
    rng = np.random.default_rng(14)
    few = contamination(teams_of(rng, 0, teams=8))
    assert few is not None and few.status == "not_run" and not few.needed
    whole = pd.DataFrame({"team": np.repeat(np.arange(40), 5), "outcome": rng.normal(size=200)})
    assert contamination(experiment(whole.assign(arm=whole["team"] % 2))) is None


def test_before_known_alike() -> None:
    rng = np.random.default_rng(15)
    frame = lots(rng, 800).assign(before=rng.normal(size=800))
    half = before_known_alike(experiment(frame.assign(before=frame["before"].where(rng.random(800) < 0.5))))
    assert (
        half is not None and half.status == "passed" and "before assignment is missing for" in half.sentence
    )
    chance = np.where(frame["arm"] == 1, 0.95, 0.7)
    joined = before_known_alike(
        experiment(frame.assign(before=frame["before"].where(rng.random(800) < chance)))
    )
    assert joined is not None and joined.status == "failed" and joined.breaks and not joined.needed
    known = before_known_alike(experiment(frame))
    assert (
        known is not None and known.sentence == "Resolution time before assignment is known for all agents."
    )
    assert before_known_alike(experiment(frame.drop(columns="before"))) is None
    few = before_known_alike(experiment(frame.assign(before=frame["before"].where(frame.index > 2))))
    assert few is not None and few.statistic is None and "fewer than 10" in few.sentence


@pytest.mark.parametrize(
    ("trained", "comparison", "status"),
    [
        (np.arange(100) % 5, np.zeros(100), "failed"),  # zeros are 60% of all: .6^100
        (np.arange(100) < 8, np.zeros(100), "passed"),  # 96% of all: .96^100 = .017
        (np.arange(100) % 5, np.arange(100) % 4, "passed"),
    ],
)
def test_kpi_varies(trained: np.ndarray, comparison: np.ndarray, status: str) -> None:
    frame = pd.DataFrame(
        {"arm": [1] * 100 + [0] * 100, "outcome": np.concatenate([trained, comparison]) * 1.0}
    )
    check = kpi_varies(experiment(frame))
    assert check is not None and check.status == status
    if status == "failed":
        assert check.breaks and check.statistic == pytest.approx(0.6**100)
        assert "is 0 minutes for everybody in the comparison, which chance does not explain" in check.sentence


# Balance with several arms and strata


def test_joint_balance_of_three_arms_is_pillai_s_trace() -> None:
    rng = np.random.default_rng(16)
    frame = lots(rng, 90, arms=3).assign(x=rng.normal(size=90), y=rng.normal(size=90))
    frame["x"] += (frame["variant"] == "B") * 0.4
    check = balance(experiment(frame, covariates=("x", "y")))
    test = MANOVA.from_formula("x + y ~ C(variant)", frame).mv_test().results["C(variant)"]["stat"]
    assert check.statistic == pytest.approx(float(test.loc["Pillai's trace", "Pr > F"]))


def test_joint_balance_within_strata_has_the_false_alarms_it_says() -> None:
    # Strata differ in covariate and in share trained, by design: only differences within strata are faults.
    rng = np.random.default_rng(17)
    p = []
    for _ in range(300):
        stratum = np.repeat(np.arange(8), 15)
        arm = np.concatenate([rng.permutation(np.arange(15) < k) for k in (3, 3, 3, 3, 9, 9, 9, 9)]).astype(
            int
        )
        x = 2.0 * (stratum >= 4) + rng.normal(size=120)
        frame = pd.DataFrame(
            {"arm": arm, "stratum": stratum, "x": x, "y": rng.normal(size=120), "outcome": x}
        )
        statistic = balance(experiment(frame, covariates=("x", "y"))).statistic
        assert statistic is not None
        p.append(statistic)
    for level in (0.01, 0.1):
        share, noise = alarms(p, level)
        assert abs(share - level) < noise
    naive = balance(experiment(frame.drop(columns="stratum"), covariates=("x", "y")))
    assert naive.status == "failed", "without strata the design itself looks like a fault"
    constant = balance(experiment(frame.assign(x=stratum * 0.1), covariates=("x",)))
    assert constant.status == "not_run", "a covariate that is constant within strata says nothing"


# Attrition


def lost_at(rng: np.random.Generator, n: int, rate: Any, **columns: Any) -> tuple[pd.DataFrame, np.ndarray]:
    frame = lots(rng, n, x=rng.normal(size=n), **columns)
    return frame, rng.random(n) < (rate(frame) if callable(rate) else rate)


def test_attrition_false_alarms() -> None:
    rng = np.random.default_rng(18)
    failed = []
    for _ in range(200):
        # Who is lost depends on x, but not on the arm.
        frame, lost = lost_at(rng, 300, lambda d: 1 / (1 + np.exp(1.5 - d["x"])))
        check = attrition_by_arm(experiment(frame, lost=lost, covariates=("x",)))
        assert check is not None
        failed.append(check.status == "failed")
    share = np.mean(failed)
    assert share < 0.02 + 3 * math.sqrt(0.02 * 0.98 / 200), "two tests at 1%"


def test_attrition_that_differs_in_rate_or_in_kind_breaks_the_claim() -> None:
    rng = np.random.default_rng(19)
    frame, lost = lost_at(rng, 600, lambda d: np.where(d["arm"] == 1, 0.25, 0.08))
    rate = attrition_by_arm(experiment(frame, lost=lost))
    assert rate is not None and rate.status == "failed" and rate.breaks and not rate.needed
    assert "who is lost depends on the program" in rate.sentence and "bounds" in rate.sentence
    assert "could not be tested" in rate.power
    # As many in both arms, but the weak leave one and the strong the other.
    frame, lost = lost_at(rng, 1000, lambda d: np.where(d["arm"] == 1, d["x"] > 1, d["x"] < -1) * 0.8)
    kind = attrition_by_arm(experiment(frame, lost=lost, covariates=("x",)))
    assert kind is not None and kind.status == "failed"
    assert "the lost of one arm are other people than those of the other" in kind.sentence
    nobody = attrition_by_arm(experiment(frame, covariates=("x",)))
    assert nobody is not None and nobody.sentence == "Nobody was lost: all agents have a KPI."


def test_attrition_of_whole_clusters_is_tested_on_their_shares() -> None:
    # Two of 20 clusters closed, both trained: 200 people gone, but only two draws.
    frame = pd.DataFrame({"cluster": np.repeat(np.arange(20), 50), "outcome": np.arange(1000) % 7.0})
    frame["arm"] = frame["cluster"] % 2
    study = experiment(frame, lost=frame["cluster"].isin([1, 3]))
    check = attrition_by_arm(study)
    assert check is not None and check.status == "passed"
    singly = attrition_by_arm(experiment(frame.drop(columns="cluster"), lost=frame["cluster"].isin([1, 3])))
    assert singly is not None and singly.status == "failed"


def by_hand() -> Study:
    """10 trained with KPI 1 to 10; 10 comparison, of whom 8 are seen, with KPI 1 to 8."""
    frame = pd.DataFrame({"arm": [1] * 10 + [0] * 10, "outcome": [*range(1, 11), *range(1, 9), 0, 0]})
    frame["outcome"] = frame["outcome"].astype(float)
    study = experiment(frame, lost=np.arange(20) >= 18)
    analysis = study.program.analysis.model_copy(update={"minimum_group_size": 5})
    kpi = study.program.kpi.model_copy(update={"lowest": 0.0, "highest": 10.0})
    return replace(study, program=study.program.model_copy(update={"analysis": analysis, "kpi": kpi}))


def test_lee_bounds_by_hand() -> None:
    # Of the trained 20% too many are seen: without the top two 1 to 8, mean 4.5; without the bottom two 3 to 10, mean 6.5.
    # The comparison's mean is 4.5.
    bounds = lee_bounds(by_hand())
    assert bounds is not None and bounds.method == "Lee" and bounds.arm == "trained"
    assert [bounds.lower.value, bounds.upper.value] == pytest.approx([0, 2])
    assert bounds.trimmed is None, "two lost people would be counted from it"
    assert bounds.lower.n["comparison"] is None and bounds.lower.n["treated"] == 10
    assert "no effect at all remains possible" in bounds.sentence and "in short" in str(bounds)


def test_worst_case_bounds_by_hand() -> None:
    # The two lost get 10 (lower bound: 5.5 - (36 + 20)/10 = -.1) or 0 (upper: 5.5 - 3.6 = 1.9).
    bounds = worst_case_bounds(by_hand())
    assert bounds is not None and [bounds.lower.value, bounds.upper.value] == pytest.approx([-0.1, 1.9])
    # HC1 at the lower end: squared residuals 82.5 of the trained; of the comparison 204 + 200 - 10 * 5.6^2 = 90.4
    assert bounds.lower.se == pytest.approx(math.sqrt(20 / 18 * (82.5 + 90.4) / 100))
    assert worst_case_bounds(experiment(lots(np.random.default_rng(1), 60), lost=np.arange(60) < 20)) is None


def test_lee_bounds_are_those_of_a_panel_whose_kpi_was_zero_before() -> None:
    # The same people in two periods, all 0 before training: the change is the KPI, and `did.lee_bounds` reads changes.
    rng = np.random.default_rng(20)
    n = 400
    for worse in (0, 1):
        arm = rng.permutation(np.arange(n) % 2)
        outcome = rng.normal(size=n) + 0.5 * arm
        lost = rng.random(n) < np.where(arm == worse, 0.3, 0.1)
        ours = lee_bounds(experiment(pd.DataFrame({"arm": arm, "outcome": outcome}), lost=lost))
        start = np.where(arm == 1, 1.0, np.nan)
        before = pd.DataFrame({"unit": range(n), "period": 0, "start": start, "outcome": 0.0})
        after = before.assign(period=1, outcome=outcome)[~lost]
        panel = make_study(pd.concat([before, after]), "two_group_before_after", covariates=())
        theirs = did.lee_bounds(panel)
        assert ours is not None and theirs is not None
        pairs = zip((ours.lower, ours.upper), (theirs.lower, theirs.upper), strict=True)
        for mine, other in pairs:
            assert mine.value == pytest.approx(other.value)
            # n / (n - 2) here, n / (n - 1) there
            assert mine.se == pytest.approx(other.se * math.sqrt((n - 1) / (n - 2)))
        assert (ours.trimmed, ours.arm) == (pytest.approx(theirs.trimmed), theirs.arm)
        assert [ours.low, ours.high] == pytest.approx([theirs.low, theirs.high], rel=0.01)


def test_lee_interval_covers_the_effect_on_those_seen_either_way() -> None:
    # Effect 1 on everybody; the program keeps people of whom the weak would have left. 95% interval, 200 worlds.
    rng = np.random.default_rng(21)
    inside, plain_inside = 0, 0
    for _ in range(200):
        n = 400
        ability = rng.normal(size=n)
        arm = rng.permutation(np.arange(n) % 2)
        leaves = ability < np.where(arm == 1, -1.5, -0.5)
        frame = pd.DataFrame({"arm": arm, "outcome": ability + 1.0 * arm})
        study = experiment(frame, lost=leaves)
        bounds = lee_bounds(study)
        assert bounds is not None
        inside += bounds.low <= 1 <= bounds.high
        seen = study.frame.groupby("arm")["outcome"].agg(["mean", "var", "size"])
        gap, error = seen["mean"][1] - seen["mean"][0], math.sqrt((seen["var"] / seen["size"]).sum())
        plain_inside += abs(gap - 1) < 1.96 * error
    assert inside / 200 > 0.95 - 3 * math.sqrt(0.05 * 0.95 / 200)
    assert plain_inside / 200 < 0.5, "the plain difference of those seen does not"


def test_bounds_with_strata_weigh_both_arms_alike_and_sum_errors_by_cluster() -> None:
    # Two strata of 40: KPI about 0 with 10 of 40 trained, about 10 with 30 of 40; no effect. Unweighted, trained look 5 better.
    rng = np.random.default_rng(22)
    stratum = np.repeat(["x", "y"], 400)
    arm = np.concatenate([np.arange(400) < 100, np.arange(400) < 300]).astype(int)
    outcome = 10.0 * (stratum == "y") + rng.normal(size=800)
    frame = pd.DataFrame({"arm": arm, "stratum": stratum, "outcome": outcome})
    bounds = lee_bounds(experiment(frame, lost=rng.random(800) < 0.05))
    assert bounds is not None and bounds.low < 0 < bounds.high and bounds.upper.value < 2.5
    # Everyone twice, as clusters of two: the error is that of half as many.
    twice = pd.DataFrame({"arm": np.repeat(np.arange(200) % 2, 2), "cluster": np.repeat(np.arange(200), 2)})
    twice["outcome"] = np.repeat(rng.normal(size=200), 2)
    lost = np.repeat(rng.random(200) < np.where(np.arange(200) % 2, 0.1, 0.3), 2)
    by_cluster = lee_bounds(experiment(twice, lost=lost))
    once = lee_bounds(experiment(twice.iloc[::2].drop(columns="cluster"), lost=lost[::2]))
    assert by_cluster is not None and once is not None
    assert by_cluster.lower.value == pytest.approx(once.lower.value)
    assert by_cluster.lower.se == pytest.approx(once.lower.se, rel=0.01)


@pytest.mark.parametrize(
    ("effect", "direction", "said"),
    [
        (3.0, "increase", "a gain, even so"),
        (3.0, "decrease", "the wrong way, even so"),
        (0.0, "increase", "no effect at all remains possible"),
    ],
)
def test_bounds_say_what_they_mean(effect: float, direction: str, said: str) -> None:
    rng = np.random.default_rng(23)
    frame = lots(rng, 400)
    frame["outcome"] += effect * frame["arm"]
    study = experiment(frame, lost=rng.random(400) < np.where(frame["arm"] == 1, 0.05, 0.2))
    kpi = study.program.kpi.model_copy(update={"direction": direction})
    bounds = lee_bounds(replace(study, program=study.program.model_copy(update={"kpi": kpi})))
    assert bounds is not None and said in bounds.sentence
    assert lee_bounds(experiment(frame)) is None, "nobody was lost"


def test_a_new_check_lowers_no_grade_of_a_program_that_names_no_new_column(tmp_path: Path) -> None:
    study = study_of(tmp_path, agents(200))
    found = [
        check(study)
        for check in (sample_ratio_by_segment, sample_ratio_by_stratum, sample_ratio_by_day, people_in_two_arms,
                      exposed_before_assignment, comparison_kept_apart, clusters_kept_whole, contamination,
                      before_known_alike, kpi_varies, attrition_by_arm)
    ]  # fmt: skip
    assert [check.name for check in found if check is not None] == [
        "people in two arms", "KPI varies in every arm", "attrition by arm"
    ]  # fmt: skip
    assert all(check.status == "passed" and not check.needed for check in found if check is not None)


def test_what_breaks_an_experiment_breaks_it_in_every_notebook(tmp_path: Path) -> None:
    notebook = json.loads((REPOSITORY / "notebooks" / "ab_test.ipynb").read_text())
    source = "".join("".join(cell["source"]) for cell in notebook["cells"])
    rng = np.random.default_rng(12)
    frame = agents(400).assign(minutes=rng.normal(50, 7, 400))
    frame = frame.assign(minutes=frame["minutes"].where((frame["trained"] == 0) | (rng.random(400) < 0.6)))
    study = study_of(tmp_path, pd.concat([frame, frame.head(12).assign(trained=lambda d: 1 - d["trained"])]))
    found = intact(study)
    assert {check.name for check in found if check.status == "failed"} == {
        "people in two arms",
        "attrition by arm",
    }
    # Every check of the list is in the notebook ab_test, and those of its that break are in the list.
    of_list = set(inspect.getsource(inspect.getmodule(intact)).split("found = (")[1].split("(study")[:-1])  # type: ignore[arg-type]
    for name in {part.split()[-1].strip(",)") for part in of_list}:
        assert f"ldlab.checks.{name}(" in source
    assert (
        intact(
            make_study(agents(40).rename(columns={"trained": "arm", "minutes": "outcome"}), "observational")
        )
        == ()
    )
