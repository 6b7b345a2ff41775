"""The record of looks, and the checks that read it: peeking, and looks that were planned."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path as File
from typing import Any

import pandas as pd
import pytest

from ldlab import load_program, load_study
from ldlab.ab.boundaries import false_alarms
from ldlab.ab.means import difference_in_means
from ldlab.ab.paths import path
from ldlab.ab.sequential import looks_taken, peeking_rate
from ldlab.checks.peeking import peeking, planned_looks
from ldlab.program import Study
from ldlab.report.looks import earlier_looks, record_look
from tests.projects import make_project, write_program, write_table
from tests.test_sequential import FIVE, PLAN, experiment, make


def test_planned_looks_that_were_kept_or_not() -> None:
    assert planned_looks(make(experiment())) is None
    kept = planned_looks(make(experiment(400), PLAN))
    late = planned_looks(make(experiment(480), PLAN))
    assert kept is not None and kept.status == "passed" and "look 2 of 3" in kept.sentence
    assert (
        late is not None
        and late.status == "failed"
        and not late.needed
        and "13% of the plan" in late.sentence
    )
    fixed = {"method": "fixed", "planned_units": 1000}
    early, end = planned_looks(make(experiment(600), fixed)), planned_looks(make(experiment(950), fixed))
    assert early is not None and (early.status, early.needed) == ("failed", True)
    assert end is not None and end.status == "passed"
    dated = planned_looks(make(experiment(600), {"method": "fixed", "at": ["2026-12-31"]}))
    assert dated is not None and dated.status == "failed" and "31 December 2026" in dated.sentence


def test_looks_that_do_not_match_the_data() -> None:
    looks = {"method": "group_sequential", "at": ["2025-06-01", "2026-03-05"], "planned_units": 600}
    study = make(experiment(600), looks)
    check = planned_looks(study)
    assert check is not None and check.status == "failed" and "do not match the data" in check.sentence
    assert looks_taken(study) == (600,)
    undated = replace(study, frame=study.frame.assign(measured_on=pd.NaT))
    unknown = planned_looks(undated)
    assert unknown is not None and unknown.status == "not_run"


def test_peeking_at_a_fixed_test_costs_a_grade() -> None:
    study = make(experiment(500))
    rate = peeking_rate(study, (100, 200, 300, 400))
    assert rate == pytest.approx(false_alarms(FIVE, 0.9))
    found = peeking(study, (100, 200, 300, 400), rate)
    assert found is not None and (found.status, found.needed, found.breaks) == ("failed", True, False)
    assert "read 4 times before" in found.sentence and f"{rate:.0%} of programs" in found.sentence
    assert "not in 10%" in found.sentence
    none = peeking(study, (), peeking_rate(study, ()))
    assert none is not None and none.status == "passed" and peeking_rate(study, ()) == pytest.approx(0.1)


def test_peeking_is_allowed_where_it_was_agreed() -> None:
    sequence = peeking(make(experiment(), {"method": "always_valid"}), (100, 200), 0.2)
    assert sequence is not None and sequence.status == "passed"
    planned = peeking(make(experiment(), PLAN), (200, 400), 0.2)
    more = peeking(make(experiment(), PLAN), (200, 300, 400), 0.2)
    assert planned is not None and planned.status == "passed"
    assert more is not None and more.status == "failed" and not more.needed


# The record of looks


def at_look(folder: File, units: int, name: str = "", minimum: int = 10) -> Study:
    study = make(experiment(units), minimum=minimum)
    study.program._root = folder
    return replace(study, data_sha256=name or f"data {units}")


OUTPUT = "outputs/made-up/ab_test"


def lines(folder: File) -> list[dict[str, Any]]:
    file = folder / "outputs" / ".looks" / "made-up.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_looks_are_recorded_once_and_keep_their_order(tmp_path: File) -> None:
    for units in (200, 300, 300, 500):
        record_look(at_look(tmp_path, units), OUTPUT)
    assert [line["units"] for line in lines(tmp_path)] == [200, 300, 500]
    assert earlier_looks(at_look(tmp_path, 500), OUTPUT) == (200, 300)
    assert earlier_looks(at_look(tmp_path, 300), OUTPUT) == (200,)  # the same answer after more data came
    assert earlier_looks(at_look(tmp_path, 600), OUTPUT) == (200, 300, 500)  # not recorded yet
    assert earlier_looks(at_look(tmp_path, 600), "") == (200, 300, 500)
    assert set(lines(tmp_path)[0]) == {"data_sha256", "program_sha256", "units", "cut_off"}


def test_the_record_outlives_the_folders_that_runs_replace(tmp_path: File) -> None:
    staged = "outputs/.staging/run-1/made-up/ab_test"
    record_look(at_look(tmp_path, 200), staged)
    assert not (tmp_path / staged).exists()
    assert earlier_looks(at_look(tmp_path, 300), OUTPUT) == (200,)


def test_no_small_count_is_recorded(tmp_path: File) -> None:
    record_look(at_look(tmp_path, 30, minimum=20), OUTPUT)
    assert lines(tmp_path)[0]["units"] is None
    assert earlier_looks(at_look(tmp_path, 300, minimum=20), OUTPUT) == (40,)


def test_a_torn_line_harms_no_other(tmp_path: File) -> None:
    record_look(at_look(tmp_path, 200), OUTPUT)
    file = tmp_path / "outputs" / ".looks" / "made-up.jsonl"
    file.write_text(file.read_text() + '{"data_sha')
    record_look(at_look(tmp_path, 300), OUTPUT)
    assert earlier_looks(at_look(tmp_path, 400), OUTPUT) == (200, 300)


def test_from_files_data_that_grow_are_looks(tmp_path: File) -> None:
    project = make_project(tmp_path)
    columns = {"measured_on": "measured_on"}
    program = write_program(
        project, design={"columns": columns}, looks={"method": "always_valid", "planned_units": 800}
    )
    rows = experiment(800, -1.0).rename(columns={"arm": "trained", "outcome": "minutes"})
    rows.insert(0, "agent", [f"a-{i:04d}" for i in range(800)])
    for units, before in ((300, ()), (800, (300,)), (800, (300,))):
        write_table(project, rows[:units])
        study = load_study(load_program(program, project))
        assert earlier_looks(study, "") == before
        record_look(study, "")
        found = path(study, difference_in_means(study))
        assert found is not None and found.table["units"].iloc[-1] == units
    assert found.first_crossing is not None and "wrong way" not in found.claim  # fewer minutes are better
    record = (project / "outputs" / ".looks" / "tickets.jsonl").read_text()
    assert record.count("\n") == 2 and str(project) not in record


def test_corrected_data_of_the_same_size_are_no_look(tmp_path: File) -> None:
    record_look(at_look(tmp_path, 300, "first extract"), OUTPUT)
    assert earlier_looks(at_look(tmp_path, 300, "corrected"), OUTPUT) == ()


def test_jobs_at_once_do_not_harm_the_record(tmp_path: File) -> None:
    study = at_look(tmp_path, 100)
    names = [f"extract {number}" for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: record_look(replace(study, data_sha256=name), OUTPUT), names))
    assert {line["data_sha256"] for line in lines(tmp_path)} == set(names)
    assert len(lines(tmp_path)) == 200
