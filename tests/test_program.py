"""The program file: what is accepted, and what each fault says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ldlab.program import InputError, json_schema, load_program, load_programs
from ldlab.program.strict_yaml import parse_yaml
from tests.projects import REPOSITORY, make_project, write_program

COSTS = {
    "currency": "EUR",
    "owner": "Finance",
    "items": [{"item": "seat", "amount": 5.0, "per": "participant"}],
}


def faults(project: Path, *names: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_programs(names, project)
    return [str(fault) for fault in caught.value.faults]


def test_a_minimal_file_gets_the_documented_defaults(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    program = load_program(write_program(project), project)
    assert (program.id, program.level, program.analysis.minimum_group_size) == ("tickets", 0.9, 10)
    assert program.notebooks == ("ab_test", "bayes_impact")
    assert program.lead == "ab_test"


AMOUNT = {"value": 1.0, "unit": "euro"}
SALES = {
    "column": "sales",
    "label": "sales",
    "unit": "euro",
    "direction": "increase",
    "value_type": "continuous",
}


def worth(unit: str) -> dict[str, Any]:
    return {"smallest_effect_worth_having": {"value": 1.0, "unit": unit}}


def at(*looks: Any) -> dict[str, Any]:
    return {"method": "group_sequential", "at": list(looks)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ownr": "x"}, ["ownr", "unknown key", "Did you mean 'owner'?"]),
        ({"kpi": {"diretion": "decrease"}}, ["kpi.diretion", "Did you mean 'direction'?"]),
        ({"design": {"kind": "randomized"}}, ["design.kind", "'randomized'", "Did you mean 'randomised'?"]),
        (
            {"kpi": {"target": {"value": 2.0, "unit": None}}},
            ["kpi.target.unit", "nothing", "percent of baseline"],
        ),
        ({"kpi": {"target": {"value": 2.0, "unit": "hours"}}}, ["kpi.target.unit", "'hours'", "'minutes'"]),
        ({"kpi": {"target": {"value": -2.0}}}, ["kpi.target.value", "-2.0", "greater than 0"]),
        ({"kpi": {"target": {"value": 0.1}}}, ["kpi.target.value", "at least the smallest effect"]),
        ({"kpi": {"value_type": "binary"}}, ["kpi.unit", "percentage points"]),
        ({"kpi": {"value_type": "rate"}}, ["kpi.value_type", "exposure_column"]),
        ({"analysis": {"minimum_group_size": 3}}, ["minimum_group_size", "found 3", "identify people"]),
        ({"analysis": {"interval_level": 90}}, ["interval_level", "0.99"]),
        ({"analysis": {"notebooks": ["diff_in_diff"]}}, ["analysis.notebooks", "diff_in_diff"]),
        ({"costs": {**COSTS, "participant_hours": -1.0}}, ["costs.participant_hours", "-1.0"]),
        (
            {"costs": {**COSTS, "items": [{"item": "a", "amount": -5.0, "per": "program"}]}},
            ["costs.items.0.amount", "-5"],
        ),
        ({"id": "../escaped"}, ["id", "'../escaped'", "no dots or slashes"]),
        ({"id": "a/b"}, ["id", "'a/b'"]),
        ({"agreement": {"agreed_on": "2025-13-40"}}, ["agreement.agreed_on", "2025-13-40", "YYYY-MM-DD"]),
        (
            {"agreement": {"decision_rule": [{"decision": "scale", "when": "chance of gain"}]}},
            ["decision_rule.0"],
        ),
        ({"design": {"columns": {"period": "week"}}}, ["one row per agent"]),
        ({"design": {"kind": "staggered"}}, ["columns.period"]),
        (
            {"design": {"columns": {"covariates": ["minutes"]}}},
            ["kpi.column", "not also design.columns.covariates"],
        ),
        ({"kpi": {"column": "trained"}}, ["kpi.column", "not also design.columns.treatment"]),
        (
            {"design": {"columns": {"segment": "agent"}}},
            ["design.columns.segment", "not also design.columns.unit"],
        ),
        (
            {"agreement": {"observation_window": {"first": 1, "last": 3}}},
            ["agreement.observation_window", "no periods"],
        ),
        (
            {"design": {"treated_value": "x", "control_value": "x"}},
            ["design.control_value", "two different values"],
        ),
        (
            {"design": {"treated_values": ["x"], "control_value": "y"}},
            ["design.treated_values", "two or more values"],
        ),
        (
            {"design": {"treated_values": ["x", "y"], "control_value": "y"}},
            ["design.control_value", "a value of its own for each arm"],
        ),
        (
            {"design": {"negative_controls": [{"column": "age", "label": "age", "kind": "outcome"}]}},
            ["design.negative_controls", "only with design observational"],
        ),
        ({"kpi": {"censored_column": "running"}}, ["kpi.censored_column", "duration and scale: log"]),
        ({"kpi": {"lowest": 5, "highest": 1}}, ["kpi.highest", "lowest below highest"]),
        (
            {"agreement": {"trim_propensity": {"below": 0.9, "above": 0.1}}},
            ["trim_propensity", "below smaller"],
        ),
        ({"priors": {"effect": {"sd": 0}}}, ["priors.effect.sd", "greater than 0"]),
        ({"title": 5}, ["title", "valid string"]),
        ({"data": {"query": "select 1"}}, ["data", "either source or query"]),
        ({"title": "x" * 601}, ["title: found 'xxx", "expected at most 600 characters"]),
        (
            {"design": {"treated_value": "x", "control_value": ["control", "Control"]}},
            ["design.control_value: found a list of 2; expected a valid string or a valid integer"],
        ),
        (
            {"secondary_kpis": [SALES | {"unit": "euro", **worth("hats")}]},
            ["secondary_kpis.0.smallest_effect_worth_having.unit: found 'hats'", "'euro'"],
        ),
        (
            {"guard_rails": [SALES | {"value_type": "rate", "largest_acceptable_harm": AMOUNT}]},
            ["guard_rails.0.value_type: found 'rate'; expected exposure_column with value_type: rate"],
        ),
        (
            {"guard_rails": [SALES | {"largest_acceptable_harm": {"value": 1.0, "unit": "hats"}}]},
            ["guard_rails.0.largest_acceptable_harm.unit: found 'hats'"],
        ),
        ({"looks": at(0, 20)}, ["looks.at: found 0; expected numbers of units from 1 up, or dates"]),
        (
            {"looks": at("march", 20)},
            ["looks.at.0: found 'march'; expected a date as YYYY-MM-DD or a valid integer"],
        ),
        (
            {"looks": at("2026-02-01", "2026-03-01")},
            ["looks.planned_units: found nothing; expected planned_units"],
        ),
        ({"looks": at(20, "2026-03-01")}, ["looks.at: found '20, 2026-03-01'; expected looks of one kind"]),
        ({"looks": at(20)}, ["looks.at: found '1 planned'; expected two or more planned looks"]),
        (
            {"agreement": {"estimator": "adjusted"}},
            ["agreement.estimator: found 'adjusted'", "to adjust for"],
        ),
        *(
            (
                {"design": {"columns": {role: "agent"}}},
                [f"design.columns.{role}: found 'agent'", "design.columns.unit"],
            )
            for role in ("cluster", "stratum", "team", "dose", "measured_on")
        ),
        (
            {"design": {"columns": {"stratum": "trained"}}},
            ["design.columns.stratum", "design.columns.treatment"],
        ),
        (
            {"design": {"columns": {"dose": "minutes"}}},
            ["design.columns.dose: found 'minutes'", "a KPI, or no dose"],
        ),
        *(
            (
                {"design": {"columns": explored}},
                ["design.columns.exploratory_segments.", "a column without another role"],
            )
            for explored in (
                {"exploratory_segments": ["agent"]},
                {"exploratory_segments": ["minutes"]},
                {"exploratory_segments": ["site", "site"]},
                {"exploratory_segments": ["site"], "segment": "site"},
            )
        ),
    ],
)
def test_each_fault_names_field_found_and_expected(
    tmp_path: Path, changes: dict[str, Any], said: list[str]
) -> None:
    project = make_project(tmp_path)
    write_program(project, **changes)
    text = "\n".join(faults(project))
    assert text.startswith("params/tickets.yaml:")
    for part in said:
        assert part in text


def test_a_fault_names_its_line(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    path = write_program(project, kpi={"direction": "up"})
    line = next(i for i, text in enumerate(path.read_text().splitlines(), 1) if "direction:" in text)
    assert faults(project)[0].startswith(f"params/tickets.yaml:{line}: kpi.direction: found 'up'")
    path = write_program(project, secondary_kpis=[SALES | worth("hats")])
    line = next(i for i, text in enumerate(path.read_text().splitlines(), 1) if "hats" in text)
    assert faults(project)[0].startswith(f"params/tickets.yaml:{line}: secondary_kpis.0.smallest_effect")


def test_all_faults_of_all_files_come_at_once(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    write_program(project, "one", title=None, kpi={"direction": "up"})
    write_program(project, "two", ownr="x")
    found = faults(project)
    assert sum("one.yaml" in fault for fault in found) == 2
    assert sum("two.yaml" in fault for fault in found) == 1


def test_two_programs_with_one_id_are_refused(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    write_program(project, "first", id="same")
    write_program(project, "second", id="same")
    assert "first.yaml has it too" in faults(project)[0]
    assert "first.yaml" in "".join(faults(project, "second"))


@pytest.mark.parametrize("name", ["../x", "a/b", "x.y", "Tickets"])
def test_a_program_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    project = make_project(tmp_path)
    write_program(project)
    assert "a program's id" in faults(project, name)[0]


def test_a_missing_program_is_named_with_its_nearest(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    write_program(project)
    assert "Did you mean 'tickets.yaml'?" in faults(project, "tickest")[0]


def test_several_kpis_are_refused_by_name(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    columns = write_program(project, kpi={"column": ["minutes", "tickets"]})
    [said] = faults(project)
    assert "kpi.column: found a list of 2; expected one KPI" in said and "one more file for each" in said
    text = columns.read_text().replace(
        "kpi:\n  column:\n  - minutes\n  - tickets\n", "kpi:\n- column: minutes\n"
    )
    columns.write_text(text.split("  label:")[0] + "skills: {gap: a, learning_objective: b}\n")
    assert any("found a list of 1; expected one KPI" in fault for fault in faults(project))


@pytest.mark.parametrize(
    ("design", "agreement", "said"),
    [
        ({"anticipation": 1}, {}, "anticipation only in a panel design"),
        (
            {"manipulation_check": {"column": "h", "label": "l", "unit": "u"}},
            {},
            "manipulation_check only in a panel",
        ),
        (
            {"kind": "observational", "columns": {"team": "team"}},
            {},
            "columns.team only in a panel or randomised design",
        ),
        ({}, {"estimator": "imputation"}, "one of difference, adjusted"),
        ({}, {"estimator": "imputations"}, "Did you mean 'imputation'?"),
    ],
)
def test_what_belongs_to_panels_is_refused_elsewhere(
    tmp_path: Path, design: dict[str, Any], agreement: dict[str, Any], said: str
) -> None:
    project = make_project(tmp_path)
    write_program(project, design=design, agreement=agreement)
    assert any(said in fault for fault in faults(project))


def test_an_objective_must_be_in_the_register(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    register = "objectives:\n  - {id: fast, goal: Fast, key_result: 10%, owner: COO}\n"
    (project / "params" / "objectives.yaml").write_text(register)
    write_program(project, objective={"id": "fats"})
    assert "Did you mean 'fast'?" in faults(project)[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: !!python/object/apply:os.system [ls]", "tag"),
        ("a: !!set {x}", "tag"),
        ("a: &x 1\nb: *x", "anchor"),
        ("a: 1\na: 2", "a second time"),
        ("a: b: c", "readable YAML"),
        ("a: [1", "readable YAML"),
        ("a: 1\n---\nb: 2", "readable YAML"),
        ("a: " + "x" * 300_000, "KiB"),
    ],
)
def test_yaml_is_strict(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_yaml(text, "x.yaml")


def test_yaml_1_1_surprises_stay_text() -> None:
    value = parse_yaml("a: NO\nb: 012\nc: 12:30\nd: 2025-01-06\ne: 1e3\nf: -7\ng: true\nh: ~", "x.yaml").value
    assert value == {
        "a": "NO",
        "b": "012",
        "c": "12:30",
        "d": "2025-01-06",
        "e": 1000.0,
        "f": -7,
        "g": True,
        "h": None,
    }


def test_comments_do_not_change_the_hash_but_values_do(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    path = write_program(project)
    before = load_program(path, project).sha256
    path.write_text("# a comment\n" + path.read_text())
    assert load_program(path, project).sha256 == before
    write_program(project, analysis={"seed": 2})
    assert load_program(path, project).sha256 != before


def test_the_committed_schema_is_the_models_and_every_shipped_file_names_it() -> None:
    committed = json.loads((REPOSITORY / "params" / "program.schema.json").read_text())
    assert committed == json_schema()
    files = [p for p in (REPOSITORY / "params").glob("*.yaml") if p.name != "objectives.yaml"]
    assert len(files) >= 4
    for path in files:
        assert path.read_text().startswith("# yaml-language-server: $schema=program.schema.json\n")
    assert len(load_programs(root=REPOSITORY)) == len(files)
