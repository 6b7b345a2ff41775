"""Every program's brief -> the index: what to do with each, on what evidence, and what nobody knows."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from pydantic import ValidationError
from scipy import stats

from ldlab.estimate import Money, Noun, format_chance, format_money
from ldlab.program import Program, load_objectives, load_programs
from ldlab.report.brief import TONE, Brief
from ldlab.report.html import STYLE, Span, count_of, forest_row, forest_scale, scale_of, table
from ldlab.report.result import Saved, outputs_root

ORDER = ("scale", "continue", "fix", "test further", "too early", "stop")


class Row(Noun):
    """One program in the index; ``brief`` is None if there is none yet."""

    program: str
    title: str
    goal: str
    objective_id: str | None
    brief: Brief | None
    stale: bool = False
    failed: tuple[tuple[str, str, str], ...] = ()

    @property
    def is_planned(self) -> bool:
        """Whether the program is planned and not measured yet."""
        return self.brief is not None and not self.brief.measured


class Portfolio(Saved):
    """All programs, sorted by decision and then by evidence; ``portfolio.json`` and the index page."""

    schema_version: int = 1
    rows: tuple[Row, ...]
    objectives: tuple[dict[str, str], ...] = ()

    @property
    def default_folder(self) -> str:
        """Where it belongs, relative to the project."""
        return "outputs/portfolio"

    def headline(self) -> str:
        """What the programs together show, in one sentence."""
        briefs = self._measured()
        planned = sum(row.is_planned for row in self.rows)
        met = sum(brief.verdict == "target met" for brief in briefs)
        moved = sum(brief.verdict == "moved, below target" and brief.shows_size for brief in briefs)
        direction = sum(brief.verdict == "moved, below target" and not brief.shows_size for brief in briefs)
        wrong = sum(brief.verdict == "wrong way" for brief in briefs)
        rest = len(self.rows) - planned - met - moved - direction - wrong
        parts = [
            f"{met} shown to reach the target",
            f"{moved} moved the KPI without that",
            f"{rest} without a clear answer",
        ]
        if direction:
            parts.insert(2, f"{direction} with a direction at most")
        if wrong:
            parts.insert(2, f"{wrong} went the wrong way")
        if planned:
            parts.append(f"{planned} planned, not measured yet")
        return f"{count_of(len(self.rows), 'program')}: {', '.join(parts)}."

    def _measured(self) -> list[Brief]:
        return [row.brief for row in self.rows if row.brief is not None and row.brief.measured]

    def __str__(self) -> str:
        return "\n".join(
            [self.headline(), *(f"{row.program}: {row.brief or 'no brief'}" for row in self.rows)]
        )

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        parts = [
            '<p class="kicker">Learning programs and the KPIs that were agreed</p>',
            f"<h1>{escape(self.headline())}</h1>",
            self._failures(),
            self._table(),
            "<h2>Effects, in units of each program’s own target</h2>",
            self._forest(),
            "<h2>Totals</h2>",
            self._totals(),
            "<h2>Objectives</h2>",
            self._objectives(),
        ]
        return STYLE + f'<div class="ldlab portfolio">{"".join(parts)}</div>'

    def _failures(self) -> str:
        links = [
            f'<li class="f"><b>failed</b><a href="{escape(link)}">{escape(row.program)} / {escape(name)}</a>: '
            f"{escape(why)}</li>"
            for row in self.rows
            for name, link, why in row.failed
        ]
        return f'<ul class="checks">{"".join(links)}</ul>' if links else ""

    def _table(self) -> str:
        rows = []
        for row in self.rows:
            brief = row.brief
            if brief is None:
                rows.append(["—", f"<b>{escape(row.title)}</b>", "no result yet", "", "", ""])
                continue
            name = f'<a href="{escape(row.program)}/program_brief/report.html"><b>{escape(row.title)}</b></a>'
            old = " <span class='note'>(from an earlier program file)</span>" if row.stale else ""
            if row.is_planned:
                rows.append(["<b>planned</b>", name + old, escape(brief.headline), "", "", ""])
                continue
            cost = "" if brief.money is None else escape(brief.money.amount(brief.money.cost))
            chance = format_chance(brief.lead.p_target) if brief.shows_size and brief.lead else "not stated"
            rows.append(
                [
                    f'<b class="{TONE.get(brief.decision.decision, "")}">{escape(brief.decision.decision)}</b>',
                    name + old,
                    escape(brief.headline),
                    chance,
                    brief.grade,
                    cost,
                ]
            )
        return table(
            ["decision", "program", "what can be said", "chance of target", "evidence", "full cost"],
            rows,
            numbers=(3, 5),
        )

    def _forest(self) -> str:
        sized = [(row, row.brief) for row in self.rows if row.brief is not None and row.brief.units_of_target]
        left_out = [row.title for row in self.rows if not row.is_planned and row not in [r for r, _ in sized]]
        note = (
            f'<p class="note">Without a size that can be shown: {escape(", ".join(left_out))}.</p>'
            if left_out
            else ""
        )
        if not sized:
            return note
        spans = [Span(**(brief.units_of_target or {})) for _, brief in sized]
        scale = scale_of(spans, [0.0, 1.0])
        rows = [
            forest_row(
                escape(row.title),
                span,
                scale,
                alt=f"{row.title}: {span.value:.2f} of the target, {span.low:.2f} to {span.high:.2f}",
            )
            for (row, _), span in zip(sized, spans, strict=True)
        ]
        return f'<div class="forest">{"".join(rows)}{forest_scale(scale)}</div>{note}'

    def _totals(self) -> str:
        briefs = self._measured()
        costed = [(brief, brief.money) for brief in briefs if brief.money is not None]
        lines = []
        for currency in sorted({money.currency for _, money in costed}):
            here = [(brief, money) for brief, money in costed if money.currency == currency]
            text = f"Full cost {format_money(sum(m.cost for _, m in here), currency)} over {count_of(len(here), 'program')}"
            known = [money for brief, money in here if money.net is not None and brief.shows_size]
            if known:
                low, high = _net_range(known)
                text += (
                    f"; net benefit {format_money(low, currency)} to {format_money(high, currency)} over "
                    f"{count_of(len(known), 'program')} where it can be stated"
                )
            lines.append(text + ".")
        if len(costed) < len(briefs):
            lines.append(
                f"{count_of(len(briefs) - len(costed), 'program')} without costs in the program file."
            )
        readable = sum(brief.shows_size for brief in briefs)
        lines.append(f"{readable} of {len(self.rows)} with readable evidence of grade C or better.")
        return "<ul class='plain'>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"

    def _objectives(self) -> str:
        rows = []
        for objective in self.objectives:
            serving = [row for row in self.rows if row.objective_id == objective["id"]]
            readable = [row for row in serving if row.brief is not None and row.brief.shows_size]
            if not serving:
                state = "no program"
            elif readable:
                state = "evidence: " + ", ".join(row.title for row in readable)
            elif all(row.is_planned for row in serving):
                state = "planned, not measured yet: " + ", ".join(row.title for row in serving)
            else:
                state = "no readable evidence: " + ", ".join(row.title for row in serving)
            rows.append(
                [f"<b>{escape(objective['goal'])}</b>", escape(objective["key_result"]), escape(state)]
            )
        if not rows:
            return "<p>No register of objectives (params/objectives.yaml), so objectives without a program cannot be named.</p>"
        return table(["objective", "key result", "program"], rows)


def _net_range(known: Sequence[Money]) -> tuple[float, float]:
    """Interval of a sum of net benefits, each roughly normal and independent of the others."""
    if len(known) == 1:
        return float(known[0].net_low or 0), float(known[0].net_high or 0)
    z = stats.norm.ppf(0.5 + known[0].level / 2)
    sds = [((m.net_high or 0) - (m.net_low or 0)) / (2 * stats.norm.ppf(0.5 + m.level / 2)) for m in known]
    total, half = sum(m.net or 0.0 for m in known), z * math.hypot(*sds)
    return total - half, total + half


def make_portfolio(root: Path, output_dir: str | Path) -> Portfolio:
    """The index of all programs in ``params/``, from their ``brief.json`` files.

    Parameters
    ----------
    root
        The project folder.
    output_dir
        The portfolio's own folder, staged or ``outputs/portfolio``.
    """
    outputs = outputs_root(root / (output_dir or "outputs/portfolio"), levels=1)
    rows = [_row(program, outputs) for program in load_programs(root=root)]
    register = load_objectives(root)
    return Portfolio(
        rows=tuple(sorted(rows, key=_rank)),
        objectives=tuple(objective.model_dump() for objective in register.objectives) if register else (),
    )


def _row(program: Program, outputs: Path) -> Row:
    folder = outputs / program.id
    path = folder / "program_brief" / "brief.json"
    brief = _load_brief(path)
    failed = [
        (name, f"{program.id}/{name}.failed/report.html", _why_failed(folder / f"{name}.failed"))
        for name in (*program.notebooks, "program_brief")
        if (folder / f"{name}.failed").is_dir()
    ]
    made_from = [] if brief is None else [result.inputs["program_sha256"] for result in brief.results]
    if brief is not None and brief.plan is not None:
        made_from.append(brief.plan["program_sha256"])
    stale = any(sha256 != program.sha256 for sha256 in made_from)
    return Row(
        program=program.id,
        title=program.title,
        goal=program.objective.goal,
        objective_id=program.objective.id,
        brief=brief,
        stale=stale,
        failed=tuple(failed),
    )


def _why_failed(folder: Path) -> str:
    """What the failed run's ``error.json`` says, in one clause."""
    try:
        error = json.loads((folder / "error.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return "did not finish."
    if error.get("status") == "refused":
        return "was not published, because it would have disclosed something."
    where = f" at cell {error['cell']}" if error.get("cell") else ""
    return f"stopped{where} with {error.get('error_type', 'an error')}."


def _load_brief(path: Path) -> Brief | None:
    """A brief, or None where there is none, or one that another version of ldlab wrote."""
    try:
        return Brief.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValidationError, json.JSONDecodeError):
        return None


def _rank(row: Row) -> tuple[int, str, str]:
    if row.brief is None:
        return len(ORDER), "Z", row.title
    if row.is_planned:
        return len(ORDER), "A", row.title
    return ORDER.index(row.brief.decision.decision), row.brief.grade, row.title
