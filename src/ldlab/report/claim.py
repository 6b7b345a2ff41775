"""Estimate + checks -> what may be said: grade, verdict, sentence, decision."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence

from ldlab.estimate import (
    GRADES,
    Check,
    Claim,
    Decision,
    Estimate,
    Grade,
    GuardRailResult,
    Money,
    Verdict,
    format_chance,
)
from ldlab.program import PERCENT_OF_BASELINE, Program, Study
from ldlab.program.sections import Agreement

CEILING: dict[str, Grade] = {
    "randomised": "A",
    "staggered": "B",
    "two_group_before_after": "C",
    "observational": "D",
    "before_after": "E",
}
GRADE_MEANS: dict[str, str] = {
    "A": "randomised and intact",
    "B": "staggered roll-out or natural experiment that stands",
    "C": "difference-in-differences with earlier trends that hold, or a better design with one check short",
    "D": "adjusted comparison: direction at most",
    "E": "no fair comparison: says nothing about cause",
}

RANDOMISED_MEANS: dict[str, str] = {
    "B": "randomised, one needed check failed or could not be run",
    "C": "randomised, two needed checks failed or could not be run",
    "D": "randomised, too many checks failed or could not be run: direction at most",
}


def grade_in_words(design: str, evidence: Grade) -> str:
    """What a grade means for a design."""
    return (RANDOMISED_MEANS if design == "randomised" else {}).get(evidence, GRADE_MEANS[evidence])


def applying(checks: Sequence[Check | None]) -> list[Check]:
    """The checks that apply to the design; the others are None."""
    return [check for check in checks if check is not None]


def grade(design: str, checks: Sequence[Check | None]) -> Grade:
    """The design's ceiling, less one for each needed check that failed or was not run; E if a check broke the result.

    It does not look at the estimate: the sign and size of a result cannot change its grade.
    """
    if any(check.breaks and check.status == "failed" for check in applying(checks)):
        return "E"
    short = sum(check.needed and check.status != "passed" for check in applying(checks))
    return GRADES[min(GRADES.index(CEILING[design]) + short, len(GRADES) - 1)]


def verdict(estimate: Estimate, checks: Sequence[Check | None], study: Study) -> Verdict:
    """One of six words, by rules fixed in advance.

    In this order: ``not readable`` if a check that breaks the claim failed; ``too early`` if the data end before
    the agreed date; at grade E ``unclear``; ``wrong way`` or ``moved`` if the interval excludes zero;
    ``target met`` if moreover the chance of the target is at least the interval's level and the grade is above D.
    """
    if any(check.breaks and check.status == "failed" for check in applying(checks)):
        return "not readable"
    if is_too_early(study):
        return "too early"
    evidence = grade(estimate.design, checks)
    nearest = estimate.low if estimate.sign > 0 else -estimate.high
    farthest = estimate.high if estimate.sign > 0 else -estimate.low
    if evidence == "E" or nearest <= 0 <= farthest:
        return "unclear"
    if farthest < 0:
        return "wrong way"
    return "target met" if estimate.p_target >= estimate.level and evidence != "D" else "moved, below target"


def is_too_early(study: Study) -> bool:
    """Whether the data end before the date from which an effect was agreed to be expected."""
    early, end = study.program.agreement.too_early_before, study.cut_off
    return early is not None and end is not None and end < early  # type: ignore[operator]


def claim(estimate: Estimate, checks: Sequence[Check | None], study: Study) -> Claim:
    """The one sentence that may be said of this estimate."""
    word = verdict(estimate, checks, study)
    evidence = grade(estimate.design, checks)
    if word == "not readable":
        broken = next(check for check in applying(checks) if check.breaks and check.status == "failed")
        return Claim(verdict=word, sentence=f"This result cannot be read. {broken.sentence}")
    if word == "too early":
        early = study.program.agreement.too_early_before
        return Claim(
            verdict=word,
            sentence=f"It is too early to say what {study.program.compared} did: no effect on {estimate.kpi} was expected "
            f"before {in_words(early)}, and the data end at {in_words(study.cut_off)}.",
        )
    say = {"D": _direction_sentence, "E": _no_cause_sentence}.get(evidence, _causal_sentence)
    return Claim(verdict=word, sentence=say(word, estimate, study) + _caveat(evidence, checks))


def _caveat(evidence: Grade, checks: Sequence[Check | None]) -> str:
    """What stands behind a claim that is made although a needed check failed."""
    failed = [check.name for check in applying(checks) if check.needed and check.status == "failed"]
    if not failed or evidence in ("D", "E"):
        return ""
    return f" But {'a needed check' if len(failed) == 1 else 'needed checks'} failed: {', '.join(failed)}."


def _causal_sentence(word: Verdict, estimate: Estimate, study: Study) -> str:
    program = study.program
    where = f"among {program.design.population}{_when(study)}"
    size = f"{estimate.format(abs(estimate.value) if estimate.scale != 'log' else estimate.value).lstrip('−')} {_unit(estimate)}"
    verb = "raised" if estimate.value > 0 else "lowered"
    target = target_in_words(study, estimate)
    name = f"offering {program.compared}" if estimate.estimand == "ITT" else program.compared
    effect = f"{_opening(name)} {verb} {estimate.kpi} by {size} {where}"
    if word == "target met":
        return f"{effect}. That reaches the agreed {target}."
    if word == "moved, below target":
        return f"{effect}. That is a real gain, {_against_target(estimate.p_target)} the agreed {target}."
    if word == "wrong way":
        return f"{effect}. That is the wrong way: the goal was to {program.kpi.direction} it."
    if estimate.p_negligible >= estimate.level:
        nothing = f"{estimate.format(abs(estimate.smallest)).lstrip('−')} {_unit(estimate)}"
        return f"{_opening(name)} made practically no difference to {estimate.kpi} {where}: less than {nothing} either way."
    low, high = estimate.format(estimate.low, sign=True), estimate.format(estimate.high, sign=True)
    return (
        f"It is unclear whether {name} changed {estimate.kpi} {where}: "
        f"anything from {low} to {high} {_unit(estimate)} fits the data."
    )


def _against_target(chance: float) -> str:
    if chance < 0.2:
        return "and probably short of"
    if chance < 0.5:
        return "but more likely than not short of"
    return "and more likely than not at"


def _direction_sentence(word: Verdict, estimate: Estimate, study: Study) -> str:
    program = study.program
    where = f"among {program.design.population}{_when(study)}"
    compared = {
        "observational": "than among untrained people who look alike on record",
        "randomised": "than in the comparison group",
    }.get(estimate.design, "than the comparison group lets expect")
    why = {
        "observational": "Nobody was assigned by chance, so this shows a direction at most, not a size.",
    }.get(
        estimate.design,
        "Too many checks failed or could not be run: this shows a direction at most, not a size.",
    )
    if word == "unclear":
        return f"{_opening(estimate.kpi)} was not clearly different {where} {compared}. {why}"
    more = "higher" if estimate.value > 0 else "lower"
    wrong = " That is the wrong direction." if word == "wrong way" else ""
    return f"{_opening(estimate.kpi)} was {more} {where}, {compared}.{wrong} {why}"


def _no_cause_sentence(word: Verdict, estimate: Estimate, study: Study) -> str:
    program = study.program
    where = f"among {program.design.population}{_when(study)}"
    if estimate.design == "before_after":
        more = "higher" if estimate.value > 0 else "lower"
        return (
            f"{_opening(estimate.kpi)} was {more} after {program.compared} than before {where}. "
            "Nobody was compared, so the reason is unknown."
        )
    return (
        f"These data cannot tell what {program.compared} did to {estimate.kpi} {where}: "
        "the comparison that was possible is not a fair one."
    )


def _opening(text: str) -> str:
    return text[:1].upper() + text[1:]


def _unit(estimate: Estimate) -> str:
    return "percent" if estimate.scale == "log" else estimate.unit


def _when(study: Study) -> str:
    """', in 1978', ', 7 April 2025 to 29 September 2025', ', week 3 to 10'."""
    if study.program.kpi.measured:
        return f", {study.program.kpi.measured}"
    if not study.periods:
        return ""
    first = study.periods[int(study.frame["start"].min())] if "start" in study.frame else study.periods[0]
    last, period = study.periods[-1], study.program.design.period
    name = f"{period} " if isinstance(last, int) and period != "year" else ""
    return f", {name}{in_words(first)} to {in_words(last)}" if first != last else f", {name}{in_words(last)}"


def target_in_words(study: Study, estimate: Estimate) -> str:
    """The agreed target as a size: '1,500 dollars', '10% (5.1 minutes per ticket)'."""
    target = study.program.kpi.target
    if target.unit != PERCENT_OF_BASELINE:
        return f"{target.value:,g} {target.unit}"
    if estimate.scale == "log":
        return f"{target.value:g}%"
    return f"{target.value:g}% ({estimate.format(abs(estimate.target))} {_unit(estimate)})"


def in_words(value: dt.date | int | None) -> str:
    """A date as '6 January 2025'; other periods as they are."""
    return f"{value.day} {value:%B %Y}" if isinstance(value, dt.date) else str(value)


def decide(
    program: Program,
    estimate: Estimate,
    claim: Claim,
    evidence: Grade,
    money: Money | None,
    *,
    guard_rails: Sequence[GuardRailResult] = (),
) -> Decision:
    """What the rule that was agreed says of this estimate.

    The rule is not applied to a broken claim, nor before its time; below the agreed minimum grade it can say
    no more than 'test further'. Where it says 'scale' or 'continue', a breached guard-rail of the arm that leads (of any,
    if all lead) turns that into 'fix', and one that is not shown to hold into 'test further'.
    """
    agreement = program.agreement
    if claim.verdict == "not readable":
        return Decision(
            decision="test further", reason="A check broke the result, so the agreed rule cannot be applied."
        )
    if claim.verdict == "too early":
        return Decision(decision="too early", reason="The agreed date has not been reached.")
    chances = {
        "chance of target": estimate.p_target,
        "chance of gain": estimate.p_gain,
        "chance of worthwhile gain": None if math.isnan(estimate.p_worthwhile) else estimate.p_worthwhile,
        "chance of payback": money.p_payback if money is not None else None,
    }
    if GRADES.index(evidence) > GRADES.index(agreement.minimum_grade):
        because = f"Evidence is graded {evidence}; the agreement lets the rule speak from {agreement.minimum_grade} up."
        return Decision(decision="test further", reason=because)
    arm = None if agreement.lead_arm is None else str(agreement.lead_arm)
    deciding = [rail for rail in guard_rails if arm is None or rail.arm in ("", arm)]
    return _within_guard_rails(_by_rule(agreement, chances), deciding)


def _by_rule(agreement: Agreement, chances: Mapping[str, float | None]) -> Decision:
    for line in agreement.decision_rule:
        if line.when is None:
            return Decision(decision=line.decision, reason=_why_otherwise(agreement, chances))
        chance = chances[line.when]
        if chance is None:
            continue
        if chance >= line.at_least if line.at_least is not None else chance < float(line.below or 0):
            return Decision(decision=line.decision, reason=f"The {line.when} is {format_chance(chance)}.")
    raise AssertionError("the rule's last line has no condition")


def _within_guard_rails(said: Decision, guard_rails: Sequence[GuardRailResult]) -> Decision:
    """The rule's decision, unless it would scale what is harmful, or not shown to be harmless."""
    if said.decision not in ("scale", "continue"):
        return said
    breached = [rail.name for rail in guard_rails if rail.state == "breached"]
    if breached:
        why = f"The rule would say {said.decision}, but a guard-rail is breached: {', '.join(breached)}."
        return Decision(decision="fix", reason=why)
    unsure = [rail.name for rail in guard_rails if not rail.may_scale]
    if unsure:
        why = f"The rule would say {said.decision}, but harm beyond the agreed limit is not excluded: {', '.join(unsure)}."
        return Decision(decision="test further", reason=why)
    return said


def _why_otherwise(agreement: Agreement, chances: Mapping[str, float | None]) -> str:
    """The chances that the rule's other lines asked for."""
    asked = dict.fromkeys(line.when for line in agreement.decision_rule if line.when is not None)
    said = [
        f"the {name} is {format_chance(chance)}" for name in asked if (chance := chances[name]) is not None
    ]
    return f"{_opening(' and '.join(said))}." if said else "The rule has no conditions."


def deviations(study: Study) -> tuple[str, ...]:
    """Where what was done departs from what was agreed, one sentence each."""
    agreement, end = study.program.agreement, study.cut_off
    found = []
    if isinstance(end, dt.date) and agreement.agreed_on > end:
        found.append(
            f"The rule was agreed on {in_words(agreement.agreed_on)}, after the data were complete ({in_words(end)})."
        )
    window = agreement.observation_window
    if window is not None and study.periods and study.periods[-1] < window.last:
        found.append(
            f"The agreed window runs to {in_words(window.last)}; the data end at {in_words(study.periods[-1])}."
        )
    if study.program.analysis.lead is not None:
        found.append(f"The program file lets {study.program.lead} lead, not the design's default.")
    return tuple(found)
