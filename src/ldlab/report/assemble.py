"""Saved results -> a brief: what belongs together, which one leads, what the page must not promise."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ldlab.estimate import Check, Decision, Estimate
from ldlab.program import LdlabError, Program
from ldlab.report import claim as claims
from ldlab.report.brief import SIZED, Brief
from ldlab.report.result import Result, load_result, outputs_root

PLAN = "plan"


def outputs_folder(program: Program, output_dir: str | Path) -> Path:
    """The outputs folder that ``output_dir`` (of one notebook of one program) lies in, staged or not."""
    folder = program.root / (output_dir or f"outputs/{program.id}/program_brief")
    return outputs_root(folder, levels=2)


def load_results(program: Program, output_dir: str | Path) -> tuple[Result, ...]:
    """The program's finished results, the leading notebook's first.

    Raises
    ------
    LdlabError
        If a result was made from another version of the program file, or results from different data.
    """
    folder = outputs_folder(program, output_dir) / program.id
    names = [program.lead, *(name for name in program.notebooks if name != program.lead)]
    results = []
    for name in names:
        path = folder / name / "estimate.json"
        if not path.is_file() or _failed(folder, name):
            continue
        result = load_result(path)
        if result.inputs["program_sha256"] != program.sha256:
            raise LdlabError(
                f"{program.id}/{name} was made from another version of the program file. "
                f"Run it again: ldlab run {program.id}"
            )
        results.append(result)
    if len({result.inputs["data_sha256"] for result in results}) > 1:
        readers = " and ".join(result.notebook for result in results)
        raise LdlabError(
            f"{program.id}: {readers} read different data. Run them again: ldlab run {program.id}"
        )
    return tuple(results)


def readable(results: Sequence[Result]) -> tuple[Estimate, ...]:
    """The leading estimates of the results that no check broke."""
    return tuple(result.lead for result in results if result.claim.verdict != "not readable")


def _failed(folder: Path, name: str) -> bool:
    return (folder / f"{name}.failed").is_dir()


def make_brief(
    program: Program,
    output_dir: str | Path,
    results: Sequence[Result],
    *,
    checks: Sequence[Check | None] = (),
) -> Brief:
    """The leader's page from a program's results.

    Parameters
    ----------
    program
        The program.
    output_dir
        The brief's own folder; failures are looked for beside it.
    results
        From :func:`load_results`.
    checks
        Checks that compare results, such as whether a second method agrees; None where one does not apply.
    """
    folder = outputs_folder(program, output_dir) / program.id
    failed = tuple(name for name in program.notebooks if _failed(folder, name))
    leading = results[0] if results and results[0].notebook == program.lead else None
    agreement = program.agreement
    common: dict[str, Any] = {
        "program": program.id,
        "title": program.title,
        "objective": {**program.objective.model_dump()},
        "owner": program.owner,
        "population": program.design.population,
        "rule": agreement.rule_in_words(),
        "agreed_on": claims.in_words(agreement.agreed_on),
        "agreed_by": agreement.agreed_by,
        "design": program.design.kind,
        "leading_notebook": program.lead,
        "leads_by_design": program.analysis.lead is None,
        "results": tuple(results),
        "failed": failed,
        "limits": limits(program, results),
        "plan": _plan(program, folder),
    }
    if set(program.notebooks) == {PLAN}:
        return _only_planned(program, common)
    if leading is None:
        return Brief(
            **common,
            decision=Decision(
                decision="test further", reason=f"The leading analysis, {program.lead}, has no result."
            ),
            headline=f"There is no readable result for {program.title}: the analysis that was agreed to lead did not finish.",
            verdict="not readable",
            grade="E",
            lead=None,
        )
    others = [
        check
        for result in results[1:]
        for check in result.checks
        if check.breaks and check.status == "failed"
    ]
    names = {check.name for check in leading.checks}
    added = [check for check in claims.applying(checks) if check.name not in names]
    names |= {check.name for check in added}
    every = (*leading.checks, *added, *(check for check in others if check.name not in names))
    evidence = claims.grade(program.design.kind, (*leading.checks, *added))
    estimate = leading.lead
    sized = evidence in SIZED and leading.claim.verdict not in ("not readable", "too early")
    return Brief(
        **common,
        decision=leading.decision,
        headline=leading.claim.sentence,
        verdict=leading.claim.verdict,
        grade=evidence,
        lead=estimate,
        others=tuple((one.notebook, one.lead) for one in results[1:] if one.claim.verdict != "not readable"),
        money=leading.money,
        checks=every,
        deviations=leading.deviations,
        cut_off=_day(leading),
        run_id=leading.run_id,
        units_of_target=_in_target_units(estimate) if sized else None,
    )


def _plan(program: Program, folder: Path) -> dict[str, str] | None:
    """The answer of the notebook ``plan``, and the version of the program file that it was made from."""
    path = folder / PLAN / "plan.json"
    if PLAN not in program.notebooks or not path.is_file() or _failed(folder, PLAN):
        return None
    said = json.loads(path.read_text(encoding="utf-8"))
    if said["inputs"]["program_sha256"] != program.sha256:
        raise LdlabError(
            f"{program.id}/{PLAN} was made from another version of the program file. Run it again: ldlab run {program.id}"
        )
    return {"sentence": said["sentence"], "program_sha256": program.sha256}


def _only_planned(program: Program, common: dict[str, Any]) -> Brief:
    """The page of a program that has no data yet."""
    plan = common["plan"]
    return Brief(
        **common,
        decision=Decision(decision="too early", reason="Planned, not measured yet."),
        headline=plan["sentence"] if plan else f"{program.title} is planned; its size is not worked out yet.",
        verdict="too early",
        grade="E",
        lead=None,
        measured=False,
    )


def _day(result: Result) -> str:
    end = result.sample["cut_off"]
    if isinstance(end, int) and result.sample["periods"]:
        period = result.sample["period"]
        return f"{period} {end}" if period != "year" else str(end)
    return (
        claims.in_words(dt.date.fromisoformat(end))
        if isinstance(end, str)
        else ""
        if end is None
        else str(end)
    )


def _when(when: dt.date | str) -> str:
    return when if isinstance(when, str) else claims.in_words(when)


def _in_target_units(estimate: Estimate) -> dict[str, float]:
    ends = sorted((estimate.low / estimate.target, estimate.high / estimate.target))
    return {"value": estimate.value / estimate.target, "low": ends[0], "high": ends[1]}


def limits(program: Program, results: Sequence[Result]) -> tuple[str, ...]:
    """What this evaluation cannot tell: at most three sentences, most specific first."""
    design = program.design
    compared = design.kind != "before_after"
    mixed = [change for change in design.other_changes if not (compared and change.touched_everyone)]
    changes = [f"How much is due to {change.what} ({_when(change.when)}; {change.who})." for change in mixed]
    if len(changes) > 1:
        changes = [f"How much is due to what else changed: {', '.join(change.what for change in mixed)}."]
    found = [*changes, *design.limits, *(text for result in results for text in result.limits)]
    if results and results[0].sample["periods"]:
        found.append(f"Whether it lasts beyond {_day(results[0])}.")
    if design.kind == "observational":
        found.append("Whether those who were trained differ in ways that nobody recorded.")
    if not design.other_changes:
        found.append("What else changed at the same time: the program file records nothing.")
    return tuple(dict.fromkeys(found))[:3]
