"""What may be said: grades, verdicts, sentences, decisions, money, and the pages made of them."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ldlab.estimate import Check, Estimate, chance_in_words, format_chance
from ldlab.money import payback
from ldlab.program import LdlabError, Study, load_program
from ldlab.report import (
    claim,
    claims,
    conclude,
    decide,
    deviations,
    grade,
    load_result,
    load_results,
    make_brief,
    make_portfolio,
    save,
    verdict,
)
from tests.projects import make_project, merged, write_program
from tests.studies import make_study

PASSED = Check(name="Balance", status="passed", sentence="The arms look alike.", needed=True)
FAILED = PASSED.model_copy(update={"status": "failed", "sentence": "The arms differ."})
NOT_RUN = PASSED.model_copy(update={"status": "not_run", "sentence": "No covariates."})
BROKEN = FAILED.model_copy(update={"breaks": True})


def study(
    design: str = "randomised", *, direction: str = "increase", level: float = 0.9, **sections: Any
) -> Study:
    """40 agents; target 1 minute, smallest effect worth having 0.5."""
    frame = pd.DataFrame(
        {"unit": [f"u{i}" for i in range(40)], "arm": [0, 1] * 20, "outcome": np.arange(40.0)}
    )
    if design in ("staggered", "two_group_before_after", "before_after"):
        frame = pd.concat(
            [frame.assign(period=t, start=frame["arm"].map({0: np.nan, 1: 1.0})) for t in (0, 1)]
        )
        frame["treated"] = ((frame["period"] == 1) & (frame["arm"] == 1)).astype(int)
    return make_study(
        frame.reset_index(drop=True),
        design,
        level=level,
        **merged({"kpi": {"direction": direction}}, sections),
    )


def estimate(value: float, se: float = 0.1, *, of: Study | None = None, **changes: Any) -> Estimate:
    of = of or study()
    n = {"treated": 20, "comparison": 20, "clusters": None, "observations": 40}
    rest = {
        "method": "difference in means",
        "estimand": of.estimand,
        "se_kind": "HC2",
        "n": n,
        **of.measure(),
        **changes,
    }
    return Estimate.from_t(value, se, **rest)


# ---- estimates ----------------------------------------------------------------------------------------------


def test_interval_and_chances_by_hand() -> None:
    found = estimate(1.0, 0.5)
    # normal: 1 -+ 1.6449 * 0.5; P(effect > 0) = Phi(2); P(effect > target 1) = 1/2; P(|effect| < .5) = Phi(-1) - Phi(-3)
    assert (found.low, found.high) == pytest.approx((0.17757, 1.82243), abs=1e-5)
    assert found.p_gain == pytest.approx(0.97725, abs=1e-5)
    assert found.p_target == pytest.approx(0.5)
    assert found.p_negligible == pytest.approx(0.15866 - 0.00135, abs=1e-4)


def test_where_less_is_better_chances_turn_round() -> None:
    down = study(direction="decrease")
    found = estimate(-1.5, 0.5, of=down)
    assert down.target == -1.0
    assert found.p_gain == pytest.approx(stats.norm.cdf(3))
    assert found.p_target == pytest.approx(stats.norm.cdf(1))


def test_draws_and_t_agree() -> None:
    of = study()
    draws = stats.norm(0.8, 0.3).ppf((np.arange(100_000) + 0.5) / 100_000)
    rest = {"method": "m", "estimand": "ATE", "se_kind": "posterior sd", "n": {}, **of.measure()}
    by_draws, by_law = Estimate.from_draws(draws, **rest), Estimate.from_t(0.8, 0.3, **rest)
    for name in ("value", "se", "low", "high", "p_gain", "p_target", "p_negligible"):
        assert getattr(by_draws, name) == pytest.approx(getattr(by_law, name), abs=1e-3)


@pytest.mark.parametrize(("value", "se"), [(np.nan, 1.0), (1.0, 0.0), (1.0, np.inf)])
def test_an_estimate_refuses_what_is_no_number(value: float, se: float) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        estimate(value, se)


def test_chances_never_claim_certainty() -> None:
    assert [format_chance(x) for x in (1.0, 0.0, 0.5)] == ["over 99.5%", "under 0.5%", "50%"]
    assert chance_in_words(0.05) == "very unlikely"


# ---- grade, verdict, sentence -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("design", "checks", "expected"),
    [
        ("randomised", [PASSED], "A"),
        ("randomised", [FAILED], "B"),
        ("randomised", [NOT_RUN], "B"),
        ("randomised", [NOT_RUN.model_copy(update={"needed": False})], "A"),
        ("randomised", [PASSED, BROKEN], "E"),
        ("staggered", [PASSED], "B"),
        ("two_group_before_after", [FAILED, FAILED], "E"),
        ("observational", [PASSED], "D"),
        ("before_after", [PASSED], "E"),
        ("before_after", [FAILED] * 9, "E"),
    ],
)
def test_grade_is_the_ceiling_less_what_failed_or_was_not_run(
    design: str, checks: list[Check], expected: str
) -> None:
    assert grade(design, checks) == expected


@pytest.mark.parametrize(
    ("value", "direction", "expected"),
    [
        (2.0, "increase", "target met"),
        (0.8, "increase", "moved, below target"),
        (0.05, "increase", "unclear"),
        (-0.8, "increase", "wrong way"),
        (-2.0, "decrease", "target met"),
        (0.8, "decrease", "wrong way"),
    ],
)
def test_verdicts(value: float, direction: str, expected: str) -> None:
    of = study(direction=direction)
    assert verdict(estimate(value, of=of), [PASSED], of) == expected


def test_a_broken_check_makes_the_claim_not_readable_whatever_the_numbers() -> None:
    said = claim(estimate(2.0), [BROKEN], study())
    assert said.verdict == "not readable"
    assert said.sentence == "This result cannot be read. The arms differ."


def test_too_early() -> None:
    of = study(agreement={"too_early_before": "2026-06-01"}, data={"cut_off": "2026-01-31"})
    of = Study(of.program, of.frame, (), of.baseline, of.missing, cut_off=dt.date(2026, 1, 31))
    said = claim(estimate(2.0, of=of), [], of)
    assert said.verdict == "too early"
    assert "before 1 June 2026" in said.sentence
    assert decide(of.program, estimate(2.0, of=of), said, "A", None).decision == "too early"


def test_sentences_say_what_the_verdict_means() -> None:
    of = study()
    said = {value: claim(estimate(value), [PASSED], of).sentence for value in (2.0, 0.8, -0.8, 0.02)}
    assert (
        "raised resolution time by 2.00 minutes among agents. That reaches the agreed 1 minutes." in said[2.0]
    )
    assert "a real gain, and probably short of the agreed" in said[0.8]
    assert "the wrong way" in said[-0.8]
    assert "practically no difference" in said[0.02]
    unclear = claim(estimate(0.3, 0.5), [PASSED], of).sentence
    assert unclear.startswith("It is unclear whether")
    assert "−0.5 to +1.1 minutes fits the data" in unclear


CAUSAL = re.compile(r"\b(raised|lowered|because|due to|caused|gain|made)\b")


@pytest.mark.parametrize("value", [2.0, 0.8, 0.02, -0.8])
def test_grade_e_uses_no_causal_verb_and_no_size(value: float) -> None:
    of = study("before_after")
    said = claim(estimate(value, of=of), [], of)
    assert said.verdict == "unclear"
    assert not CAUSAL.search(said.sentence)
    assert not re.search(r"\d\.\d", said.sentence)


@pytest.mark.parametrize("value", [2.0, 0.8, 0.02, -0.8])
def test_grade_d_gives_a_direction_at_most(value: float) -> None:
    of = study("observational")
    said = claim(estimate(value, of=of), [PASSED], of)
    assert said.verdict != "target met"
    assert "direction at most" in said.sentence
    assert not re.search(r"\d\.\d", said.sentence)


# ---- decision, deviations -----------------------------------------------------------------------------------

RULE = [
    {"decision": "scale", "when": "chance of target", "at_least": 0.7},
    {"decision": "stop", "when": "chance of gain", "below": 0.8},
    {"decision": "test further"},
]


@pytest.mark.parametrize(("value", "expected"), [(2.0, "scale"), (0.8, "test further"), (-1.0, "stop")])
def test_the_agreed_rule_decides(value: float, expected: str) -> None:
    of = study(agreement={"decision_rule": RULE})
    found = estimate(value, of=of)
    assert decide(of.program, found, claim(found, [PASSED], of), "A", None).decision == expected


@pytest.mark.parametrize("value", [2.0, -1.0])
def test_weak_or_broken_evidence_cannot_scale_or_stop(value: float) -> None:
    of = study(agreement={"decision_rule": RULE})
    found = estimate(value, of=of)
    weak = decide(of.program, found, claim(found, [PASSED], of), "D", None)
    assert weak.decision == "test further"
    assert "graded D" in weak.reason
    assert decide(of.program, found, claim(found, [BROKEN], of), "B", None).decision == "test further"


def test_a_rule_made_after_the_data_is_a_deviation() -> None:
    of = study()
    late = Study(of.program, of.frame, (), 0.0, of.missing, cut_off=dt.date(2020, 12, 31))
    assert "after the data were complete (31 December 2020)" in deviations(late)[0]
    early = Study(of.program, of.frame, (), 0.0, of.missing, cut_off=dt.date(2030, 1, 1))
    assert deviations(early) == ()


# ---- estimate.json, brief, portfolio; money itself: test_money.py ----------------------------------------------

COSTS = {
    "currency": "EUR",
    "owner": "Finance",
    "items": [
        {"item": "design", "amount": 1000.0, "per": "program"},
        {"item": "seat", "amount": 50.0, "per": "participant"},
    ],
    "participant_hours": 8.0,
    "loaded_hourly_rate": 40.0,
    "participants": 10,
    "value_of_unit": {"amount": 500.0, "owner": "Finance"},
}


def saved_project(
    tmp_path: Path, value: float, checks: list[Check], design: str = "randomised", **changes: Any
) -> Path:
    """A project with one program, and that program's leading result saved."""
    project = make_project(tmp_path)
    if design == "observational":
        changes = merged({"design": {"kind": design}, "analysis": {"notebooks": ["bayes_impact"]}}, changes)
    path = write_program(project, title="Ticket <b>school</b>", **changes)
    program = load_program(path, project)
    base = study(design)
    of = Study(
        program, base.frame, (), 20.0, base.missing, cut_off=dt.date(2025, 6, 30), data_sha256="d" * 64
    )
    result = conclude(
        of, program.lead, [estimate(value, of=of)], checks, money=payback(program, estimate(value, of=of))
    )
    save(result, f"outputs/tickets/{program.lead}", root=project)
    return project


def page_of(project: Path) -> str:
    program = load_program("tickets", project)
    brief = make_brief(
        program, "outputs/tickets/program_brief", load_results(program, "outputs/tickets/program_brief")
    )
    save(brief, "outputs/tickets/program_brief", root=project, name="brief.json")
    return brief._repr_html_()


def test_estimate_json_round_trips_and_is_stable(tmp_path: Path) -> None:
    project = saved_project(tmp_path, -3.0, [PASSED])
    path = project / "outputs" / "tickets" / "ab_test" / "estimate.json"
    first = path.read_bytes()
    saved_project(tmp_path, -3.0, [PASSED])
    assert path.read_bytes() == first
    result = load_result(path)
    assert result.lead.value == -3.0
    fields = json.loads(first)
    promised = (
        "schema_version program notebook question lead estimates kpi target checks claim grade decision "
        "deviations inputs versions seed"
    )
    assert set(promised.split()) <= set(fields)
    assert set(
        ["method", "estimand", "value", "se", "se_kind", "low", "high", "level", "n", "p_gain", "p_target"]
    ) <= set(fields["lead"])
    assert str(project) not in path.read_text()


def test_small_counts_are_suppressed_in_estimate_json() -> None:
    of = study()
    few = estimate(1.0, n={"treated": 4, "comparison": 20, "clusters": 3, "observations": 24})
    assert conclude(of, "ab_test", [few], []).lead.n == {
        "treated": None,
        "comparison": 20,
        "clusters": 3,
        "observations": 24,
    }


def test_the_brief_shows_effect_target_and_escapes(tmp_path: Path) -> None:
    page = page_of(saved_project(tmp_path, -3.0, [PASSED]))
    assert "<b>school" not in page
    assert "Ticket &lt;b&gt;school&lt;/b&gt; lowered resolution time by 3.00 minutes" in page
    assert "−3.00 minutes" in page and "agreed target −2.00" in page and "no effect" in page
    assert ">scale</b>" in page
    assert "the program file gives no costs" in page
    assert page.index("decision") < page.index(">Effect<") < page.index(">Target<") < page.index(">Money<")


def test_a_brief_below_grade_c_shows_no_size_no_chance_no_money(tmp_path: Path) -> None:
    costs = merged(COSTS, {"participants": 20})
    page = page_of(saved_project(tmp_path, -3.0, [PASSED], "observational", costs=costs))
    assert "Direction: lower" in page
    assert "−3.00" not in page and "chance that it was met" not in page and "pays back" not in page
    assert "Full cost EUR 8,400" in page
    assert ">test further</b>" in page


def test_a_broken_result_has_no_number_on_the_page(tmp_path: Path) -> None:
    page = page_of(saved_project(tmp_path, -3.0, [BROKEN]))
    assert "This result cannot be read" in page and "−3.00" not in page


def test_a_brief_refuses_results_of_another_program_file(tmp_path: Path) -> None:
    project = saved_project(tmp_path, -3.0, [PASSED])
    write_program(project, title="Other")
    with pytest.raises(LdlabError, match="another version of the program file"):
        page_of(project)


def test_a_brief_refuses_results_from_different_data(tmp_path: Path) -> None:
    project = saved_project(tmp_path, -3.0, [PASSED])
    result = load_result(project / "outputs/tickets/ab_test/estimate.json")
    inputs = {**result.inputs, "data_sha256": "e" * 64}
    other = result.model_copy(update={"notebook": "bayes_impact", "inputs": inputs})
    save(other, "outputs/tickets/bayes_impact", root=project)
    with pytest.raises(LdlabError, match="ab_test and bayes_impact read different data"):
        page_of(project)


def test_without_an_output_dir_a_result_goes_to_its_own_place(tmp_path: Path) -> None:
    project = saved_project(tmp_path, -3.0, [PASSED])
    path = project / "outputs/tickets/ab_test/estimate.json"
    result, before = load_result(path), path.read_bytes()
    path.unlink()
    save(result, "", root=project)
    assert path.read_bytes() == before
    assert load_results(load_program("tickets", project), "")[0] == result


def test_an_offer_is_called_an_offer() -> None:
    of = study()
    offered = estimate(2.0, of=of, estimand="ITT")
    assert claim(offered, [PASSED], of).sentence.startswith(f"Offering {of.program.title} raised")


def test_a_failed_needed_check_stands_in_the_claim() -> None:
    missing = FAILED.model_copy(update={"name": "missing KPI"})
    assert claim(estimate(2.0), [missing], study()).sentence.endswith(
        "But a needed check failed: missing KPI."
    )


def test_checks_and_estimates_that_do_not_apply_are_left_out() -> None:
    result = conclude(study(), "ab_test", [estimate(1.0), None], [PASSED, None])
    assert result.checks == (PASSED,) and len(result.estimates) == 1


def test_without_its_leading_result_the_brief_says_so(tmp_path: Path) -> None:
    project = saved_project(tmp_path, -3.0, [PASSED])
    (project / "outputs/tickets/ab_test.failed").mkdir()
    page = page_of(project)
    assert "no readable result" in page and "−3.00" not in page


def test_the_portfolio_sorts_totals_and_names_what_nobody_knows(tmp_path: Path) -> None:
    register = "objectives:\n" + "".join(
        f"  - {{id: {i}, goal: Goal {i}, key_result: soon, owner: COO}}\n" for i in ("fast", "lonely")
    )
    (make_project(tmp_path) / "params" / "objectives.yaml").write_text(register)
    costs = merged(COSTS, {"participants": 20})
    project = saved_project(tmp_path, -3.0, [PASSED], costs=costs, objective={"id": "fast"})
    page_of(project)
    write_program(project, "another", title="Not run yet")
    (project / "outputs/another/ab_test.failed").mkdir(parents=True)
    portfolio = make_portfolio(project, "outputs/portfolio")
    assert [row.program for row in portfolio.rows] == ["tickets", "another"]
    page = portfolio._repr_html_()
    (project / "outputs/tickets/program_brief/brief.json").write_text('{"schema_version": 0}')
    assert "no result yet" in make_portfolio(project, "outputs/portfolio")._repr_html_()
    assert "2 programs: 1 shown to reach the target" in page
    assert 'href="another/ab_test.failed/report.html"' in page
    assert "Goal lonely" in page and "no program" in page
    assert "Full cost EUR 8,400 over 1 program" in page
    assert "1.50 of the target" in page


# ---- draws and claims ---------------------------------------------------------------------------------------


def test_posterior_draws_are_saved_and_come_back(tmp_path: Path) -> None:
    of = study()
    rest = {"method": "m", "estimand": "ATE", "se_kind": "posterior sd", "n": {}, **of.measure()}
    lead = Estimate.from_draws(np.linspace(0.1, 2.0, 50), **rest)
    save(conclude(of, "bayes_impact", [lead], [PASSED]), "out", root=tmp_path)
    found = load_result(tmp_path / "out" / "estimate.json")
    assert found.lead.draws is not None and found.lead.draws == pytest.approx(lead.draws, rel=1e-8)
    assert found.lead in found.estimates, "the brief marks which one leads"
    assert "draws" not in (tmp_path / "out" / "estimate.json").read_text()


def test_the_same_rules_for_each_prior() -> None:
    """Target 1, level .9: one clear of it, one that holds zero, one clearly below."""
    rows = [
        estimate(2.0, 0.1, term="flat"),
        estimate(0.1, 0.2, term="sceptical"),
        estimate(-1.0, term="wrong"),
    ]
    table = claims(study(), rows, [PASSED])
    assert table.verdicts == ("target met", "unclear", "wrong way")
    assert "flat | +2" in str(table) and "<td" in table._repr_html_()
    assert claims(study(), rows, [BROKEN]).verdicts == ("not readable",) * 3


def test_a_small_number_of_no_shows_cannot_be_had_by_subtraction() -> None:
    n = {"treated": 60, "attended": 56, "comparison": 60, "clusters": None, "observations": 120}
    result = conclude(study(), "ab_test", [estimate(1.0, n=n)], [PASSED])
    assert result.lead.n["attended"] is None and result.lead.n["treated"] == 60


def test_what_an_effect_on_compliers_rests_on_is_said_once() -> None:
    from ldlab.report import EstimateTable

    rows = (estimate(1.0), estimate(1.5, estimand="CACE"), estimate(1.6, estimand="CACE"))
    text = str(EstimateTable(estimates=rows))
    assert text.count("through attendance alone") == 1
