"""Other KPIs of an experiment, as the leader's page shows them: guard-rails first, then secondary KPIs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from ldlab.estimate import GuardRailResult, KpiResult

ORDER = ("breached", "not shown", "not estimated", "held")
WORST = ("breached", "not shown", "not estimated")


def guard_rails_html(rails: Sequence[GuardRailResult]) -> str:
    """A list of guard-rails, those that did not hold first."""
    rows = sorted(rails, key=lambda rail: ORDER.index(rail.state))
    return _list(
        (rail.state, f"{_opening(rail.name)}. {rail.sentence}", rail.state in WORST) for rail in rows
    )


def secondary_html(results: Sequence[KpiResult]) -> str:
    """A list of secondary KPIs in the order of the program file."""
    return _list(
        (one.verdict, f"{_opening(one.kpi)}. {one.sentence}", "wrong" in one.verdict) for one in results
    )


def _list(rows: Iterable[tuple[str, str, bool]]) -> str:
    lines = "".join(
        f"<li{' class=f' if bad else ''}><b>{escape(word)}</b>{escape(text)}</li>" for word, text, bad in rows
    )
    return f'<ul class="checks">{lines}</ul>'


def _opening(text: str) -> str:
    return text[:1].upper() + text[1:]
