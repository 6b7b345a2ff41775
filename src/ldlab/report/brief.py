"""A program's results -> the leader's page."""

from __future__ import annotations

from html import escape

from ldlab.estimate import (
    Check,
    Decision,
    Estimate,
    Grade,
    Money,
    Verdict,
    chance_in_words,
    format_chance,
    level_in_words,
)
from ldlab.report import claim as claims
from ldlab.report.html import STYLE, Span, bar, count_of, grade_boxes, table
from ldlab.report.result import Result, Saved
from ldlab.report.tables import sorted_checks
from ldlab.report.watched import guard_rails_html, secondary_html

SIZED = ("A", "B", "C")
TOLD_WHEN_PASSED = ("robust to staggering", "second method")
PLAN_LINK = '<a href="../plan/report.html">How large and how long, and why</a>'
TONE = {"scale": "good", "continue": "good", "stop": "bad"}
DESIGN_IN_WORDS = {
    "randomised": "Randomised experiment",
    "staggered": "Staggered roll-out, compared with units not trained yet",
    "two_group_before_after": "Trained and comparison group, before and after",
    "observational": "Trained people against others, adjusted for what was recorded",
    "before_after": "Before and after, without a comparison",
}
WHY_LEAD = {
    "randomised": "chance made the groups, so the difference between them is the effect",
    "staggered": "it compares each unit with itself and with those not trained at the time",
    "two_group_before_after": "it compares each unit with itself and with those not trained",
    "observational": "without assignment by chance, the comparison has to be adjusted",
    "before_after": "without a comparison group, each unit can only be compared with itself",
}


class Brief(Saved):
    """The leader's page of one program, and ``brief.json``, which the portfolio reads.

    ``lead`` is None when no readable result exists. ``units_of_target`` holds value, low and high of the
    effect as multiples of the target (1 = met), and is None where the grade or a broken check forbids a size.
    ``plan`` holds the answer of the notebook ``plan`` and the ``program_sha256`` that it was made from; ``measured`` is
    False where the program is only planned, and then verdict and grade say nothing.
    """

    schema_version: int = 1
    program: str
    title: str
    objective: dict[str, str | None]
    owner: str
    population: str
    decision: Decision
    rule: str
    agreed_on: str
    agreed_by: tuple[str, ...]
    headline: str
    verdict: Verdict
    grade: Grade
    design: str
    leading_notebook: str
    leads_by_design: bool = True
    lead: Estimate | None
    others: tuple[tuple[str, Estimate], ...] = ()
    results: tuple[Result, ...] = ()
    money: Money | None = None
    checks: tuple[Check, ...] = ()
    limits: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    cut_off: str = ""
    run_id: str = ""
    units_of_target: dict[str, float] | None = None
    plan: dict[str, str] | None = None
    measured: bool = True

    @property
    def default_folder(self) -> str:
        """Where it belongs, relative to the project."""
        return f"outputs/{self.program}/program_brief"

    @property
    def shows_size(self) -> bool:
        """Whether the page may show how large the effect is."""
        return (
            self.lead is not None
            and self.grade in SIZED
            and self.verdict not in ("not readable", "too early")
        )

    def __str__(self) -> str:
        return f"{self.decision.decision.upper() if self.measured else 'PLANNED'}: {self.headline}"

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        inside = self._first_screen() + self._methods() if self.measured else self._planned()
        return STYLE + f'<div class="ldlab brief">{inside}</div>'

    def _planned(self) -> str:
        """The page of a program that is planned and not measured yet."""
        goal = f"{self.objective['goal']} → {self.objective['key_result']}"
        rule = f"Rule agreed on {self.agreed_on}: {self.rule}. {self.decision.reason}"
        evidence = "".join(
            f'<p class="note"><b>failed</b> The notebook {escape(name)} stopped with an error in this run.</p>'
            for name in self.failed
        )
        rows = [
            ("Plan", PLAN_LINK if self.plan else "None yet."),
            ("Evidence", _row("None yet", "planned, not measured.") + evidence),
        ]
        listed = "".join(f"<dt>{name}</dt><dd>{content}</dd>" for name, content in rows)
        return (
            f'<p class="kicker">Program brief · Goal: {escape(goal)}</p><h1>{escape(self.headline)}</h1>'
            f'<div class="decision"><b>planned</b><span>{escape(rule)}</span></div><dl>{listed}</dl>'
            f"<footer>{escape(f'Owner: {self.owner}')}</footer>"
        )

    def _first_screen(self) -> str:
        goal = f"{self.objective['goal']} → {self.objective['key_result']}"
        rule = f"Rule agreed on {self.agreed_on}: {self.rule}. {self.decision.reason}"
        rows = [
            ("Effect", self._effect()),
            ("Target", self._target()),
            *self._other_kpis(),
            ("Money", self._money()),
            ("Evidence", self._evidence()),
            (
                "Cannot tell you",
                "<ol>" + "".join(f"<li>{escape(text)}</li>" for text in self.limits) + "</ol>",
            ),
        ]
        if self.deviations:
            rows.append(("Not as agreed", "<br>".join(escape(text) for text in self.deviations)))
        listed = "".join(f"<dt>{name}</dt><dd>{content}</dd>" for name, content in rows)
        return (
            f'<p class="kicker">Program brief · Goal: {escape(goal)}</p><h1>{escape(self.headline)}</h1>'
            f'<div class="decision {TONE.get(self.decision.decision, "")}"><b>{escape(self.decision.decision)}</b>'
            f"<span>{escape(rule)}</span></div><dl>{listed}</dl><footer>{escape(self._foot())}</footer>"
        )

    def _effect(self) -> str:
        lead = self.lead
        if lead is None:
            return _row("No estimate", "the leading analysis did not finish.")
        if not self.shows_size:
            return self._direction(lead)
        target = lead.format(lead.target, sign=True)
        text = f"{lead.format(lead.value, sign=True)} {lead.shown_unit}"
        better = "more is better" if lead.sign > 0 else "less is better"
        picture = bar(
            Span(lead.shown(lead.value), lead.shown(lead.low), lead.shown(lead.high)),
            target=lead.shown(lead.target),
            target_label=f"agreed target {target}",
            zero_label="no effect",
            alt=f"Effect {text}, {lead.interval_text()}; agreed target {target}; no effect is zero; {better}",
        )
        return _row(text, f"{lead.interval_text()}; {better}") + picture + self._second_opinion()

    def _second_opinion(self) -> str:
        said = "; ".join(
            f"{name} says {other.format(other.value, sign=True)} ({other.interval_text()})"
            for name, other in self.others
        )
        return f'<p class="note second">The same question, second method: {escape(said)}.</p>' if said else ""

    def _direction(self, lead: Estimate) -> str:
        if self.verdict == "not readable":
            return _row("Not shown", "a check broke this result.")
        if self.verdict == "too early":
            return _row("Not shown yet", "an effect was not expected by now.")
        if self.grade == "E":
            return _row("None can be stated", "evidence of grade E cannot carry an effect.")
        word = "no clear direction" if self.verdict == "unclear" else "higher" if lead.value > 0 else "lower"
        note = "evidence of grade D shows a direction at most; a size would promise too much."
        return _row(f"Direction: {word}", note)

    def _target(self) -> str:
        lead = self.lead
        if lead is None or not self.shows_size:
            return _row(
                "Not stated", "no estimate." if lead is None else "this evidence cannot carry a chance."
            )
        return _row(
            f"{format_chance(lead.p_target).capitalize()} chance that it was met",
            f"({chance_in_words(lead.p_target)}). Chance of any gain: {format_chance(lead.p_gain)}. Chance that the "
            f"change is smaller than what is worth having: {format_chance(lead.p_negligible)}.",
        )

    def _other_kpis(self) -> list[tuple[str, str]]:
        """Guard-rails and secondary KPIs of the leading notebook, where the evidence can carry a size."""
        if not self.results or not self.shows_size:
            return []
        rows = []
        if self.results[0].guard_rails:
            rows.append(("Guard-rails", guard_rails_html(self.results[0].guard_rails)))
        if self.results[0].secondary:
            rows.append(("Also moved?", secondary_html(self.results[0].secondary)))
        if self.results[0].findings:
            rows.append(("Also found", "<br>".join(escape(text) for text in self.results[0].findings)))
        return rows

    def _money(self) -> str:
        money = self.money
        if money is None:
            return _row("Not computed", "the program file gives no costs.")
        cost, share = money.amount(money.cost), money.cost_of_time / money.cost if money.cost else 0.0
        full = f"full cost {cost}, {share:.0%} of it participants’ time"
        said = dict(money.said)
        if not self.shows_size:
            return _row(f"Full cost {cost}", "net benefit not stated: the effect has no size to count.")
        if money.net_low is None or money.net_high is None:
            return _row(f"Full cost {cost}", f"net benefit {said.get('net benefit', 'not stated')}.")
        years = "the first year" if money.horizon_years == 1 else f"{money.horizon_years:g} years"
        return _row(
            f"{money.amount(money.net_low)} to {money.amount(money.net_high)} net in {years}",
            f"{level_in_words(money.level)}; {full}. {said['in short']} Chance that it pays back: "
            f"{said['chance it pays back']}. Return on investment: {said['return on investment']}. Breaks even at "
            f"{said['breaks even at']}. Expected loss: {said['expected loss']}. Counted: {said['counted']}.",
        )

    def _evidence(self) -> str:
        by_status = {s: [c for c in self.checks if c.status == s] for s in ("failed", "not_run", "passed")}
        lines = [("failed", check.sentence) for check in by_status["failed"]]
        lines += [
            ("failed", f"The notebook {name} stopped with an error in this run.") for name in self.failed
        ]
        lines += [("not run", check.sentence) for check in by_status["not_run"] if check.needed]
        if spare := sum(not check.needed for check in by_status["not_run"]):
            lines.append(
                ("not run", f"{count_of(spare, 'check')} that the grade does not presume; listed below.")
            )
        told = [check for check in by_status["passed"] if check.name in TOLD_WHEN_PASSED]
        lines += [("passed", check.sentence) for check in told]
        if len(by_status["passed"]) > len(told):
            count = len(by_status["passed"]) - len(told)
            lines.append(("passed", f"{count_of(count, 'other check')}, listed below."))
        listed = "".join(
            f"<li{' class=f' if status == 'failed' else ''}><b>{status}</b>{escape(text)}</li>"
            for status, text in lines
        )
        design = f"{DESIGN_IN_WORDS[self.design]}. {self._why_not_better()}"
        return f'{grade_boxes(self.grade)}{escape(design)}<ul class="checks">{listed}</ul>'

    def _why_not_better(self) -> str:
        ceiling = claims.CEILING[self.design]
        short = sum(check.needed and check.status != "passed" for check in self.checks)
        if self.lead is None or ceiling == self.grade:
            return ""
        if self.verdict == "not readable":
            return f"Would be {ceiling}: a check broke the result."
        return f"Would be {ceiling}: {count_of(short, 'needed check')} failed or could not be run."

    def _foot(self) -> str:
        parts = [
            f"Owner: {self.owner}",
            f"data to {self.cut_off}" if self.cut_off else "data cut-off not given",
        ]
        if self.results:
            parts.append(_counted(self.results[0]))
        parts += [f"run {self.run_id}" if self.run_id else "no run", "methods below"]
        return " · ".join(parts)

    def _methods(self) -> str:
        leads = (
            f"{self.leading_notebook} leads: {WHY_LEAD[self.design]}. This was fixed before any result."
            if self.leads_by_design
            else f"{self.leading_notebook} leads, because the program file says so; that was fixed before any result."
        )
        rows = []
        seen: set[tuple[str, float]] = set()
        for result in self.results:
            for estimate in result.estimates:
                if (estimate.method, estimate.value) in seen:
                    continue
                seen.add((estimate.method, estimate.value))
                name = f'<a href="../{result.notebook}/report.html">{result.notebook}</a>'
                size = (
                    [escape(x) for x in _numbers(estimate)]
                    if self.shows_size
                    else ["see the notebook’s page", ""]
                )
                role = "leads" if result.notebook == self.leading_notebook and estimate == result.lead else ""
                method = estimate.method + (f": {estimate.term}" if estimate.term else "")
                rows.append([name, escape(method), escape(estimate.estimand), *size, role])
        table_html = table(
            ["notebook", "method", "estimand", "effect (standard error)", "interval", ""], rows
        )
        assumed = dict.fromkeys(
            e.assumption for result in self.results for e in result.estimates if e.assumption
        )
        table_html += "".join(f"<p>{escape(text)}</p>" for text in assumed)
        checks = table(
            ["status", "check", "what it says", "what it could see"],
            [
                [c.status.replace("_", " "), escape(c.name), escape(c.sentence), escape(c.power)]
                for c in sorted_checks(self.checks)
            ],
        )
        unit = self.lead.shown_unit if self.lead else ""
        note = f'<p class="note">Effects in {escape(unit)}.</p>' if unit and self.shows_size else ""
        if self.plan is not None:
            leads += f" Planned beforehand: {self.plan['sentence']}"
            table_html += f"<p>{PLAN_LINK}</p>"
        return f"<h2>How this was estimated</h2><p>{escape(leads)}</p>{table_html}{note}<h2>All checks</h2>{checks}"


def _row(big: str, note: str) -> str:
    return f'<span class="big">{escape(big)}</span> <span class="note">{escape(note)}</span>'


def _numbers(estimate: Estimate) -> tuple[str, str]:
    if not estimate.has_interval:
        return f"{estimate.format(estimate.value, sign=True)} {estimate.shown_unit}", "none can be given"
    low, high = estimate.format(estimate.low, sign=True), estimate.format(estimate.high, sign=True)
    if estimate.scale == "log":
        effect = f"{estimate.format(estimate.value, sign=True)} percent"
    else:
        effect = f"{estimate.format(estimate.value, sign=True)} ({estimate.format(estimate.se)})"
    return f"{effect}, {estimate.se_kind}", f"{low} to {high} ({estimate.level:.0%})"


def _counted(result: Result) -> str:
    n, units = result.lead.n, str(result.sample["units"])
    treated = "offered" if result.lead.estimand == "ITT" else "trained"
    arms = (("treated", treated), ("comparison", "comparison"))
    people = [f"{n[arm]:,} {name}" for arm, name in arms if n.get(arm)]
    text = f"{' and '.join(people)} {units}"
    if n.get("clusters"):
        text += f", {n['clusters']:,} clusters"
    if result.sample["periods"]:
        text += f", {result.sample['periods']} {result.sample['period']}s"
    return text
