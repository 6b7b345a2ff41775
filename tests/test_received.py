"""What the training was: manipulation check, the flag of its period alone, effect per hour."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from ldlab import checks, did
from ldlab.data import load_study
from ldlab.program import InputError, Study, load_program
from tests.projects import make_project, merged, write_program, write_table
from tests.studies import DATA, make_study

ROOT = DATA.parent
HOURS = {
    "column": "hours_per_employee", "label": "hours of training", "unit": "hours", "direction": "increase",
    "scale": "as is", "target": {"value": 10, "unit": "hours"},
    "smallest_effect_worth_having": {"value": 1, "unit": "hours"},
}  # fmt: skip


def michigan(folder: Path, **changes: Any) -> Study:
    """The shipped program with ``changes``, from a folder of its own."""
    given = yaml.safe_load((ROOT / "params" / "michigan.yaml").read_text(encoding="utf-8"))
    given["objective"].pop("id")
    program = merged(given, {"data": {"source": str(DATA / "michigan_grants.csv")}, **changes})
    (folder / "params").mkdir(parents=True)
    (folder / "params" / "grants.yaml").write_text(yaml.safe_dump(program), encoding="utf-8")
    return load_study(load_program(folder / "params" / "grants.yaml", folder))


def test_published_hours_of_training(tmp_path: Path) -> None:
    # Group-time effects on the 124 firms with hours in all three years: +33.28 in the year of the grant, -0.18 after it.
    table = DATA / "michigan_grants.csv"
    query = (
        f"SELECT * FROM '{table}' WHERE firm IN (SELECT firm FROM '{table}' GROUP BY firm "
        "HAVING count(hours_per_employee) = 3)"
    )
    study = michigan(
        tmp_path, kpi=HOURS, data={"source": None, "query": query}, design={"manipulation_check": None}
    )
    effects = did.group_time(study, controls="never")
    assert effects is not None
    found = dict(zip(effects.by_event.event_times, effects.by_event.estimates, strict=True))
    assert [round(found[time].value, 2) for time in (0, 1)] == [33.28, -0.18]


def test_the_grant_bought_training_in_its_year(tmp_path: Path) -> None:
    study = michigan(tmp_path)
    check = checks.training_took_place(study, did.training_received(study))
    assert check.status == "passed"
    assert "In the year of their start the trained received +3" in check.sentence
    assert "hours per employee" in check.sentence and "1 year later" in check.sentence


def test_training_that_did_not_take_place_is_seen() -> None:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"unit": np.repeat(np.arange(80), 5), "period": np.tile(np.arange(5), 80)})
    frame["start"] = np.where(frame["unit"] < 40, 3.0, np.nan)
    frame["outcome"] = rng.normal(size=len(frame))
    frame["manipulation"] = rng.normal(2, 1, len(frame))
    design = {"kind": "staggered", "manipulation_check": {"column": "h", "label": "hours", "unit": "hours"}}
    study = make_study(frame, design, covariates=())
    check = checks.training_took_place(study, did.training_received(study))
    assert check.status == "failed" and "did not clearly receive more hours" in check.sentence
    given = frame.assign(manipulation=frame["manipulation"] + 4 * (frame["period"] == frame["start"]))
    study = make_study(given, design, covariates=())
    assert checks.training_took_place(study, did.training_received(study)).status == "passed"


def test_without_a_manipulation_check_it_is_not_run() -> None:
    frame = pd.DataFrame({"unit": np.repeat(np.arange(40), 4), "period": np.tile(np.arange(4), 40)})
    frame["start"] = np.where(frame["unit"] < 20, 2.0, np.nan)
    frame["outcome"] = np.random.default_rng(1).normal(size=160)
    study = make_study(frame, "staggered")
    assert did.training_received(study) is None
    check = checks.training_took_place(study, None)
    assert check.status == "not_run" and "design.manipulation_check" in check.sentence


def test_the_flag_alone_shrinks_the_published_effect(tmp_path: Path) -> None:
    study = michigan(tmp_path)
    flag = did.flag_alone(study)
    assert flag is not None
    assert round(flag.estimate.value, 3) == -0.082  # research: -.082 (.081), errors classical
    assert flag.share == pytest.approx(
        19 / 48
    )  # 19 firms x 2 years and 10 x 1 trained, of which 19 after the grant
    assert abs(flag.estimate.value) < abs(did.lead_estimate(study).value) / 2


def test_without_a_flag_that_switches_off_there_is_nothing_to_explain(tmp_path: Path) -> None:
    study = michigan(tmp_path, design={"columns": {"treatment": None}})
    assert did.flag_alone(study) is None


def test_training_before_its_start_is_refused(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    frame = pd.DataFrame(
        {"agent": np.repeat([f"a{i}" for i in range(40)], 4), "week": np.tile(range(1, 5), 40)}
    )
    number = frame["agent"].str[1:].astype(int)
    frame["first"] = np.where(number < 20, 3, 0)
    frame["on"] = ((number < 20) & (frame["week"] == 2)).astype(int)
    frame["minutes"] = np.random.default_rng(2).normal(50, 3, len(frame))
    write_table(project, frame)
    write_program(project, design={
        "kind": "staggered", "period": "week",
        "columns": {"treatment": "on", "period": "week", "start": "first"},
    })  # fmt: skip
    with pytest.raises(InputError, match="training in 20 rows before first says that it started"):
        load_study(load_program("tickets", project))


def test_published_effect_of_an_hour(tmp_path: Path) -> None:
    # Wooldridge, Example 15.10: 1987-88, hours instrumented by the grant, n 45.
    study = michigan(tmp_path, agreement={"observation_window": {"first": 1987, "last": 1988}})
    per_hour = did.effect_per_dose(study)
    assert per_hour is not None
    assert f"{per_hour.value:.4f} {per_hour.se:.4f} {per_hour.se_kind}" == "-0.0142 0.0079 classical"
    assert (per_hour.n["treated"], per_hour.n["comparison"]) == (17, 28)


def test_the_dose_needs_two_periods(tmp_path: Path) -> None:
    assert did.effect_per_dose(michigan(tmp_path)) is None
