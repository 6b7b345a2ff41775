"""The data contract: what is read, what is counted, and what is refused."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ldlab.data import identifiers, load_study, read_table
from ldlab.data.contract import checked_frame
from ldlab.data.periods import Periods, holes
from ldlab.data.values import Faults
from ldlab.program import InputError, Study, load_program
from tests.projects import PANEL_DESIGN, REPOSITORY, agents, make_project, panel, write_program, write_table


def study_of(project: Path, **changes: Any) -> Study:
    return load_study(load_program(write_program(project, **changes), project))


def refused(project: Path, **changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        study_of(project, **changes)
    return str(caught.value)


@pytest.mark.parametrize("name", ["table.csv", "table.tsv", "table.parquet", "table.jsonl", "table.csv.gz"])
def test_every_format_gives_the_same_frame(tmp_path: Path, name: str) -> None:
    project, frame = make_project(tmp_path), agents()
    write_table(project, frame, "base.csv")
    target = project / "data" / name
    if name.endswith("tsv"):
        frame.to_csv(target, sep="\t", index=False)
    elif name.endswith("parquet"):
        frame.to_parquet(target)
    elif name.endswith("jsonl"):
        frame.to_json(target, orient="records", lines=True)
    else:
        frame.to_csv(target, index=False)
    read = study_of(project, data={"source": f"data/{name}"}).frame
    base = study_of(project, data={"source": "data/base.csv"}).frame
    pd.testing.assert_frame_equal(read, base)


def test_globs_and_queries(tmp_path: Path) -> None:
    project, frame = make_project(tmp_path), agents(60)
    write_table(project, frame.iloc[:30], "part-1.csv")
    write_table(project, frame.iloc[30:], "part-2.csv")
    assert len(study_of(project, data={"source": "data/part-*.csv"}).frame) == 60
    query = "SELECT agent, trained, minutes * 2 AS minutes FROM 'data/part-1.csv'"
    doubled = study_of(project, data={"source": None, "query": query})
    assert doubled.frame["outcome"].mean() == pytest.approx(2 * frame.iloc[:30]["minutes"].mean())
    assert "Queries only read" in refused(
        project, data={"source": None, "query": "CREATE TABLE x AS SELECT 1"}
    )


def test_paths_hold_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path)
    write_table(project, agents())
    write_program(project)
    monkeypatch.chdir(project / "notebooks")
    assert load_study(load_program("params/tickets.yaml")).count()["treated"] == 20


def break_agents(**columns: Any) -> pd.DataFrame:
    return agents().assign(**columns)


@pytest.mark.parametrize(
    ("frame", "changes", "said"),
    [
        (agents(), {"kpi": {"column": "minuts"}}, ["no column 'minuts'", "Did you mean 'minutes'?"]),
        (agents(), {"data": {"source": "data/tabel.csv"}}, ["no such file", "Did you mean 'table.csv'?"]),
        (pd.concat([agents(), agents().head(3)]), {}, ["3 repeated keys"]),
        (break_agents(minutes=["slow"] * 3 + [1.0] * 20 + [2.0] * 17), {}, ["text in 3 rows", "'slow'"]),
        (break_agents(trained=[0, 1, 2, 1] * 10), {}, ["0, 1, 2", "only 1 (trained) and 0 (not)"]),
        (break_agents(trained=1), {}, ["no comparison agent"]),
        (break_agents(trained=0), {}, ["no trained agent"]),
        (break_agents(trained=[1] * 4 + [0] * 36), {}, ["fewer than 10 trained"]),
        (break_agents(trained=[None, *[0, 1] * 19, 1]), {}, ["1 rows without a value"]),
        (break_agents(minutes=5.0), {}, ["the one value 5"]),
        (
            break_agents(minutes=agents()["trained"] * 2.0),
            {},
            ["one value in each arm", "treatment under another"],
        ),
        (
            break_agents(minutes=[9.0, *[1.0, 2.0] * 19, 3.0]),
            {"kpi": {"lowest": 1, "highest": 5}},
            ["values such as 9", "from 1 to 5"],
        ),
        (
            break_agents(),
            {"kpi": {"target": {"value": 99, "unit": "minutes"}, "lowest": 0}},
            ["can reach", "at least 0"],
        ),
        (
            break_agents(version=["a", "b", "none", "none"] * 10),
            {
                "design": {
                    "treated_values": ["a", "b", "c"],
                    "control_value": "none",
                    "columns": {"treatment": "version"},
                }
            },
            ["no row with c"],
        ),
        (
            break_agents(running=2),
            {
                "kpi": {
                    "value_type": "duration",
                    "scale": "log",
                    "censored_column": "running",
                    "target": {"value": 10, "unit": "percent of baseline"},
                    "smallest_effect_worth_having": {"value": 1, "unit": "percent of baseline"},
                },
            },
            ["values other than 0 and 1"],
        ),
        (break_agents(minutes=[math.inf, *[1.0, 2.0] * 19, 3.0]), {}, ["1 infinite"]),
        (break_agents(minutes=None), {}, ["no value at all"]),
        (break_agents(team="T1"), {"design": {"columns": {"cluster": "team"}}}, ["one cluster"]),
        (
            break_agents(copy=agents()["trained"]),
            {"design": {"columns": {"covariates": ["copy"]}}},
            ["same as the treatment"],
        ),
        (
            break_agents(site="A"),
            {"design": {"columns": {"covariates": ["site"]}}},
            ["one value in every row"],
        ),
        (break_agents(minutes="2025-01-06"), {}, ["dates or times", "expected numbers"]),
        (agents().iloc[:0], {}, ["no rows"]),
        (break_agents(agent=None), {}, ["without a unit"]),
    ],
)
def test_breaches_of_the_contract(
    tmp_path: Path, frame: pd.DataFrame, changes: dict[str, Any], said: list[str]
) -> None:
    project = make_project(tmp_path)
    write_table(project, frame)
    text = refused(project, **changes)
    assert "params/tickets.yaml" in text
    for part in said:
        assert part in text


def test_an_empty_parquet_file_is_refused(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    (project / "data" / "table.parquet").write_bytes(b"")
    assert "0 bytes" in refused(project, data={"source": "data/table.parquet"})
    (project / "data" / "table.parquet").write_bytes(b"not parquet at all")
    assert "a readable parquet table" in refused(project, data={"source": "data/table.parquet"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: pd.concat([d, d.head(2)]), "2 repeated keys"),
        (lambda d: d.assign(week="2025-13-0" + d["week"].astype(str)), "no date"),
        (lambda d: d.assign(start=1.0), "trained from the first period"),
        (lambda d: d.assign(start=None), "no trained agent"),
        (lambda d: d.assign(start=d["start"].where(d["week"] < 3, 2)), "more than one start"),
        (lambda d: d.assign(week=1 + 0 * d["week"], agent=range(len(d))), "1 period"),
        (
            lambda d: d.assign(start=np.where(d["start"].notna(), "2025-01-06", None)),
            "periods like those of week",
        ),
    ],
)
def test_breaches_in_a_panel(tmp_path: Path, change: Any, said: str) -> None:
    project = make_project(tmp_path)
    write_table(project, change(panel()))
    assert said in refused(project, design=PANEL_DESIGN)


def test_training_that_switches_off_is_refused_by_name(tmp_path: Path) -> None:
    project, frame = make_project(tmp_path), panel()
    write_table(project, frame.assign(on=((frame["start"].notna()) & (frame["week"] == 3)).astype(int)))
    design = {**PANEL_DESIGN, "columns": {"treatment": "on", "period": "week"}}
    assert "switches off again for 20 units" in refused(project, design=design)


def test_treatment_by_period_gives_the_start(tmp_path: Path) -> None:
    project, frame = make_project(tmp_path), panel()
    write_table(project, frame.assign(on=(frame["week"] >= frame["start"]).astype(int)))
    design = {**PANEL_DESIGN, "columns": {"treatment": "on", "period": "week"}}
    by_flag, by_start = study_of(project, design=design), study_of(project, design=PANEL_DESIGN)
    pd.testing.assert_series_equal(by_flag.frame["start"], by_start.frame["start"])
    assert by_start.frame.query("treated == 1")["period"].min() == 2


def test_window_leaves_rows_out_and_counts_them(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    write_table(project, panel(periods=6))
    study = study_of(project, design=PANEL_DESIGN, agreement={"observation_window": {"first": 1, "last": 4}})
    assert study.left_out == (("outside the agreed observation window", 80),)
    assert study.periods == (1, 2, 3, 4)


def test_units_trained_from_the_first_period_are_left_out_and_counted(tmp_path: Path) -> None:
    project, frame = make_project(tmp_path), panel()
    write_table(project, frame.assign(start=frame["start"].where(frame["agent"] > "a-004", 1)))
    study = study_of(project, design=PANEL_DESIGN)
    assert study.left_out[0][1] == 20
    assert study.count()["comparison"] + study.count()["treated"] == 35


def test_missing_values_are_counted_by_arm_and_never_filled(tmp_path: Path) -> None:
    project, frame = make_project(tmp_path), agents(60)
    frame["age"] = range(60)
    frame.loc[[0, 2, 4], "minutes"] = np.nan
    frame.loc[[1], "age"] = np.nan
    write_table(project, frame)
    study = study_of(project, design={"columns": {"covariates": ["age"]}})
    assert study.missing.to_dict() == {
        "rows": {0: 30, 1: 30},
        "without KPI": {0: 3, 1: 0},
        "without covariates": {0: 0, 1: 1},
    }
    assert len(study.frame) == 57
    assert study.frame["age"].isna().sum() == 1


def test_named_texts_mean_missing_and_others_do_not(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    write_table(project, break_agents(minutes=["NA", *map(str, range(39))]))
    assert "text in 1 rows" in refused(project)
    study = study_of(project, data={"missing_values": ["NA"]})
    assert study.missing["without KPI"].sum() == 1


def test_named_codes_and_segments(tmp_path: Path) -> None:
    project, frame = make_project(tmp_path), agents()
    frame["trained"] = frame["trained"].map({1: "yes", 0: "no"})
    frame["site"] = ["<script>", None] * 20
    write_table(project, frame)
    study = study_of(
        project, design={"treated_value": "yes", "control_value": "no", "columns": {"segment": "site"}}
    )
    assert study.count()["treated"] == 20
    assert set(study.frame["segment"]) == {"<script>", "not recorded"}


def test_value_types_reach_effect_units(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    write_table(project, break_agents(solved=[0, 1, 1, 1] * 10, tickets=range(1, 41), hours=4.0))
    binary = {
        "column": "solved",
        "value_type": "binary",
        "unit": "percentage points",
        "direction": "increase",
    }
    amounts = {
        "target": {"value": 20.0, "unit": "percent of baseline"},
        "smallest_effect_worth_having": {"value": 1.0, "unit": "percentage points"},
    }
    study = study_of(project, kpi={**binary, **amounts})
    assert set(study.frame["outcome"]) == {0.0, 100.0}
    # control agents 0, 2, ...: solved 0, 1, 0, 1 ... = 50%; 20 percent of it = 10 points
    assert study.target == pytest.approx(10)
    rate = study_of(project, kpi={"column": "tickets", "value_type": "rate", "exposure_column": "hours"})
    assert rate.frame["outcome"].max() == 10
    logs = {
        "scale": "log",
        "target": {"value": 20.0, "unit": "percent of baseline"},
        "smallest_effect_worth_having": {"value": 5.0, "unit": "percent of baseline"},
    }
    assert study_of(project, kpi=logs).target == pytest.approx(math.log(0.8))


@pytest.mark.parametrize(
    ("kpi", "said"),
    [
        ({"column": "minutes", "value_type": "binary", "unit": "percentage points",
          "target": {"value": 5.0, "unit": "percentage points"},
          "smallest_effect_worth_having": {"value": 1.0, "unit": "percentage points"}}, "0 and 1"),
        ({"column": "signed", "value_type": "count"}, "whole numbers from 0 up"),
        ({"column": "signed", "value_type": "duration"}, "negative durations"),
        ({"column": "half", "value_type": "ordinal"}, "whole numbers"),
    ],
)  # fmt: skip
def test_values_must_fit_the_value_type(tmp_path: Path, kpi: dict[str, Any], said: str) -> None:
    project = make_project(tmp_path)
    write_table(project, break_agents(signed=[-1.0, 2.0] * 20, half=[0.5, 2.0] * 20))
    assert said in refused(project, kpi=kpi)


def test_shipped_programs_pass_and_their_identifiers_are_known() -> None:
    study = load_study(load_program("michigan", REPOSITORY))
    # 54 firms report scrap: 25 never, 19 from 1988, 10 from 1989 (real-data.md)
    starts = study.frame.drop_duplicates("unit")["start"]
    assert [int(starts.isna().sum()), int((starts == 1).sum()), int((starts == 2).sum())] == [25, 19, 10]
    assert study.missing["without KPI"].sum() == 471 - 162
    assert len(identifiers(study.program)) == 157


def test_covariates_with_our_own_column_names_take_no_role(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    names = ["outcome", "segment", "cluster", "period", "start", "arm"]
    write_table(project, agents().assign(**{name: range(40) for name in names}))
    study = study_of(project, design={"columns": {"covariates": names}})
    assert "cluster" not in study.frame and "segment" not in study.frame
    assert study.covariates == tuple(f"{name} (covariate)" for name in names)
    assert study.count()["clusters"] is None


def test_dates_are_iso_or_refused(tmp_path: Path) -> None:
    project, frame = make_project(tmp_path), panel()
    american = [f"0{t}/01/2025" for t in frame["week"]]
    write_table(project, frame.assign(week=american, start=None, trained=frame["start"].notna() * 1))
    design = {"kind": "two_group_before_after", "period": "month", "start_period": "2025-01-03",
              "columns": {"treatment": "trained", "period": "week"}}  # fmt: skip
    assert "no date, such as '01/01/2025'" in refused(project, design=design)


def test_a_treatment_that_contradicts_the_common_start_is_refused(tmp_path: Path) -> None:
    project, frame = make_project(tmp_path), panel()
    design = {"kind": "two_group_before_after", "period": "week", "start_period": 3,
              "columns": {"treatment": "trained", "period": "week"}}  # fmt: skip
    ever = frame["start"].notna()
    write_table(project, frame.assign(trained=(ever & (frame["week"] >= 2)) * 1))
    assert "values that change at other periods than 3" in refused(project, design=design)
    for right in (ever * 1, (ever & (frame["week"] >= 3)) * 1):
        write_table(project, frame.assign(trained=right))
        assert study_of(project, design=design).frame.query("treated == 1")["period"].min() == 2


def test_a_repeated_column_is_refused(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    text = agents().assign(again=1.0).to_csv(index=False).replace("again", "minutes", 1)
    (project / "data" / "table.csv").write_text(text)
    assert "the column 'minutes' more than once" in refused(project)
    write_table(project, agents().assign(minutes_1=1.0))
    assert study_of(project).count()["treated"] == 20


def test_percent_of_a_baseline_near_zero_is_refused(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    write_table(project, agents().assign(minutes=[(-1) ** (i // 2) * (1 + i % 5) for i in range(40)]))
    percent = {"target": {"value": 10.0, "unit": "percent of baseline"}}
    assert "not clearly above zero" in refused(project, kpi=percent)


def test_identifiers_are_units_and_small_clusters(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    write_table(project, agents(60).assign(team=["Sales"] * 40 + ["T-small"] * 6 + ["Support"] * 14))
    program = load_program(write_program(project, design={"columns": {"cluster": "team"}}), project)
    assert {"a-000", "T-small"} < identifiers(program)
    assert not {"Sales", "Support"} & identifiers(program)


def test_those_offered_and_those_who_came_are_counted_apart(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    write_table(project, agents(60).assign(came=[(i % 2) * (i < 40) for i in range(60)]))
    study = study_of(project, design={"columns": {"assignment": "trained", "treatment": "came"}})
    assert study.estimand == "ITT"
    assert [study.count()[key] for key in ("treated", "comparison", "attended")] == [30, 30, 20]


def test_too_early_needs_a_day_to_compare_with(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    write_table(project, agents())
    agreement = {"too_early_before": "2025-06-30"}
    assert "Give data.cut_off" in refused(project, agreement=agreement)
    assert study_of(project, agreement=agreement, data={"cut_off": "2025-05-31"}).cut_off is not None
    write_table(project, panel())
    assert "data up to 4" in refused(project, design=PANEL_DESIGN, agreement=agreement)


def test_the_baseline_of_an_observational_study_is_that_of_people_like_the_trained() -> None:
    study = load_study(load_program("nsw-cps", REPOSITORY))
    untrained = study.frame.query("arm == 0")["outcome"].mean()
    assert untrained > 14_000
    assert study.baseline < 7_000


# Panels ---------------------------------------------------------------------------------------------------------


def with_columns(**columns: str) -> dict[str, Any]:
    return {**PANEL_DESIGN, "columns": {**PANEL_DESIGN["columns"], **columns}}


def number_of(frame: pd.DataFrame) -> pd.Series:
    return frame["agent"].str[2:].astype(int)


def two_waves(frame: pd.DataFrame) -> pd.DataFrame:
    """Everyone trained: every second unit from week 3, the others from week 4."""
    return frame.assign(start=frame["start"].fillna(4.0))


def repeated_cross_sections(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(agent=[f"a-{i}" for i in range(len(frame))])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.assign(start=3.0), ["trained from one week on, all at once", "Use design before_after"]),
        (
            lambda d: d.assign(start=np.where(number_of(d) < 4, 4.0, 3.0)),
            ["fewer than 10 seen untrained while others were trained", "or use design before_after"],
        ),
        (
            lambda d: d.assign(
                start=np.where(number_of(d) < 4, np.nan, np.where(number_of(d) < 20, 3.0, 4.0))
            ),
            ["fewer than 10 never-trained units", "Leave them out with data.query"],
        ),
        (repeated_cross_sections, ["repeated cross-sections, not a panel", "make the group the unit"]),
        (
            lambda d: d.assign(week=np.where(d["week"] < 3, d["week"].astype(str), "2025-01-06")),
            ["whole numbers and dates in one column, such as 1 and 2025-01-06", "one kind"],
        ),
        (
            lambda d: d.assign(week=d["week"] - 1, start=d["start"].fillna(0)),
            ["0 in 80 rows, and a week 0", "an empty cell for never trained"],
        ),
        (
            lambda d: d.assign(minutes=d["minutes"].where(d["start"].isna(), 7.0)),
            ["one value in every row of the trained", "varies among them"],
        ),
        (
            lambda d: d.assign(minutes=d["minutes"].where(d["week"] >= 3, 0.0)),
            ["0 in every row of the trained before training", "has no before"],
        ),
        (
            lambda d: d.assign(minutes=d["minutes"].where((d["week"] < 3) | d["start"].isna())),
            ["no trained rows after the first start"],
        ),
    ],
)
def test_panels_that_say_nothing_are_refused(tmp_path: Path, change: Any, said: list[str]) -> None:
    project = make_project(tmp_path)
    write_table(project, change(panel()))
    text = refused(project, design=PANEL_DESIGN)
    assert len(text.splitlines()) == 1
    for part in said:
        assert part in text


def test_nobody_needs_to_be_never_trained(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    write_table(project, two_waves(panel(periods=5)))
    study = study_of(project, design=PANEL_DESIGN)
    assert study.has_comparison
    assert [study.count()[key] for key in ("treated", "comparison")] == [40, 20]
    assert list(study.missing.index) == [1]


def test_anticipation_must_leave_a_before(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    write_table(project, panel())
    assert "leaves no week before any start" in refused(project, design={**PANEL_DESIGN, "anticipation": 2})
    assert study_of(project, design={**PANEL_DESIGN, "anticipation": 1}).count()["treated"] == 20


def test_columns_that_only_panels_have(tmp_path: Path) -> None:
    project, frame = make_project(tmp_path), panel()
    frame["crew"] = 7.0 + number_of(frame) % 3
    frame["same_boss"] = ((number_of(frame) % 4 == 0) & frame["start"].isna()).astype(int)
    frame["hours"] = np.where(frame["week"] >= frame["start"], 8.0, 0.0)
    frame["sick_days"] = frame["week"] % 3 * 1.0
    write_table(project, frame)
    design = {
        **with_columns(team="crew", placebo_group="same_boss"),
        "manipulation_check": {"column": "hours", "label": "hours of training", "unit": "hours"},
        "negative_controls": [{"column": "sick_days", "label": "sick days", "kind": "outcome"}],
    }
    study = study_of(project, design=design)
    assert set(study.frame["team"]) == {"7", "8", "9"}
    assert study.frame.groupby("unit")["placebo_group"].first().sum() == 10
    assert study.frame.loc[study.frame["treated"] == 1, "manipulation"].eq(8).all()
    assert study.frame["negative: sick_days"].nunique() == 3
    for role, column in (("team", "crow"), ("placebo_group", "same_bos")):
        assert f"design.columns.{role}: found no column '{column}'" in refused(
            project, design=with_columns(**{role: column})
        )
    hours = {"manipulation_check": {"column": "hour", "label": "hours of training", "unit": "hours"}}
    assert "Did you mean 'hours'?" in refused(project, design={**PANEL_DESIGN, **hours})


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        (lambda d: d["week"] % 2, "units that change the placebo group"),
        (lambda d: 1, "1 for 20 trained units"),
        (lambda d: np.where(d["start"].isna(), np.nan, 0), "empty cells, or values other than 0 and 1"),
    ],
)
def test_a_placebo_group_is_fixed_and_never_trained(tmp_path: Path, flag: Any, said: str) -> None:
    project, frame = make_project(tmp_path), panel()
    write_table(project, frame.assign(rival=flag(frame)))
    assert said in refused(project, design=with_columns(placebo_group="rival"))


def notes_of(project: Path, frame: pd.DataFrame) -> tuple[str, ...]:
    write_table(project, frame)
    program = load_program(write_program(project, design=PANEL_DESIGN), project)
    return checked_frame(read_table(program)[0], program).notes


def test_starts_after_the_data_count_as_never_and_are_told(tmp_path: Path) -> None:
    project, frame = make_project(tmp_path), panel(60)
    late = frame.assign(start=frame["start"].where(number_of(frame) % 4 != 1, 9.0))
    assert notes_of(project, late) == (
        "15 agents are trained after the last week of these data (4): here they count as not trained.",
    )
    assert study_of(project, design=PANEL_DESIGN).count()["treated"] == 15
    few = frame.assign(start=frame["start"].where(number_of(frame) != 1, 9.0))
    assert notes_of(project, few)[0].startswith("A few agents are trained after")


def test_a_start_between_two_periods_counts_from_the_later(tmp_path: Path) -> None:
    project, frame = make_project(tmp_path), panel()
    dates = pd.to_datetime("2025-01-06") + pd.to_timedelta(7 * (frame["week"] - 1), unit="D")
    start = np.where(frame["start"].notna(), "2025-01-16", None)  # week 3 begins on the 20th
    write_table(project, frame.assign(week=dates.dt.date, start=start))
    study = study_of(project, design=PANEL_DESIGN)
    assert study.frame["start"].dropna().unique().tolist() == [2.0]
    assert [str(day) for day in study.periods] == ["2025-01-06", "2025-01-13", "2025-01-20", "2025-01-27"]
    zeros = frame.assign(week=dates.dt.date, start=np.where(frame["start"].notna(), "2025-01-20", "0"))
    write_table(project, zeros)
    assert study_of(project, design=PANEL_DESIGN).count()["comparison"] == 20


def test_a_hole_in_the_calendar_is_told(tmp_path: Path) -> None:
    frame = panel(periods=6)
    (note,) = notes_of(make_project(tmp_path), frame[frame["week"] != 5])
    assert "1 week is missing for everybody (1 between 4 and 6)" in note


def days(*texts: str) -> tuple[dt.date, ...]:
    return tuple(dt.date.fromisoformat(text) for text in texts)


@pytest.mark.parametrize(
    ("periods", "missing"),
    [
        ((1987, 1988, 1989), 0),
        ((1, 2, 4, 7), 3),
        ((202411, 202412, 202501), 0),
        ((202411, 202412, 202502), 1),
        ((202451, 202452, 202501, 202503), 1),  # ISO weeks: 2024 has 52
        ((202052, 202053, 202101), 0),  # 2020 has 53
        (days("2025-01-01", "2025-02-01", "2025-03-01"), 0),
        (days("2025-01-31", "2025-02-28", "2025-03-31"), 0),
        (days("2025-01-01", "2025-04-01", "2025-10-01"), 1),  # quarters
        (days("2025-01-06", "2025-01-13", "2025-01-27"), 1),
        (days("2025-01-09", "2025-01-10", "2025-01-13", "2025-01-14"), 0),  # a weekend
        (days("2025-01-01", "2025-02-01"), 0),
    ],
)
def test_holes_in_calendars(periods: tuple[Any, ...], missing: int) -> None:
    assert sum(count for _, _, count in holes(periods)) == missing


def test_periods_of_every_type_are_the_same() -> None:
    def read(values: Any) -> tuple[Any, ...]:
        found = Periods.of(pd.Series(values), "week", faults)
        return found.codes.tolist(), found.values

    faults = Faults("test")
    assert read([3, 1, 3]) == read([3.0, 1.0, 3.0]) == read(["3", "1", "3"]) == ([1, 0, 1], (1, 3))
    assert read(pd.array([3, None, 1], dtype="Int64")) == read([3.0, np.nan, 1.0]) == ([1, -1, 0], (1, 3))
    first, second = days("2025-01-06", "2025-01-13")
    dates = read([second, first, None])
    assert dates == read(["2025-01-13", "2025-01-06", None]) == ([1, 0, -1], (first, second))
    assert dates == read(pd.to_datetime(["2025-01-13 08:30", "2025-01-06 17:00", None]))
    assert read(["20250106", "20250113"]) == ([0, 1], (first, second))
    assert not faults.found
    read([1.5, 2.0])
    assert "values such as 1.5" in str(faults.found[0])


def test_loading_keeps_to_the_callers_frame_and_to_the_old_meaning(tmp_path: Path) -> None:
    """Units as text without a decimal point, whatever number type the file has; the hash is that of the file."""
    project, frame = make_project(tmp_path), panel()
    frame["agent"] = number_of(frame)
    path = write_table(project, frame)
    study = study_of(project, design=PANEL_DESIGN)
    assert study.frame["unit"].iloc[0] == "0" and study.frame["unit"].dtype == object
    assert study.data_sha256 == hashlib.sha256(hashlib.sha256(path.read_bytes()).digest()).hexdigest()
    assert identifiers(study.program) == {str(i) for i in range(40)}


def test_identifiers_of_teams_and_of_queries(tmp_path: Path) -> None:
    project, frame = make_project(tmp_path), panel(60)
    frame["crew"] = np.where(number_of(frame) < 6, "C-small", "Floor")
    write_table(project, frame)
    query = {"source": None, "query": "SELECT *, crew AS team FROM 'data/table.csv' WHERE agent <> 'a-000'"}
    program = load_program(write_program(project, design=with_columns(team="team"), data=query), project)
    found = identifiers(program)
    assert len(found) == 60 and "C-small" in found and not {"Floor", "a-000"} & found
    gone = {"source": "data/gone.csv"}
    program = load_program(write_program(project, "other", design=PANEL_DESIGN, data=gone), project)
    with pytest.raises(InputError, match="no such file"):
        identifiers(program)


def test_several_kpis_are_refused_by_name(tmp_path: Path) -> None:
    path = write_program(make_project(tmp_path), kpi={"column": ["minutes", "errors"]})
    with pytest.raises(InputError, match=r"kpi\.column"):
        load_program(path, tmp_path)
