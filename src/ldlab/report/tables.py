"""Checks and estimates as tables for a notebook: sorted, rounded, escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ldlab.estimate import Check, Estimate, Noun, format_chance, format_number
from ldlab.program import Study
from ldlab.report.claim import verdict

CHECK_ORDER = {"failed": 0, "not_run": 1, "passed": 2}


class CheckTable(Noun):
    """Checks as a table: failed first, then not run, then passed."""

    checks: tuple[Check | None, ...]

    def __str__(self) -> str:
        return "\n".join(
            f"{c.status.replace('_', ' ')}: {c.name}. {c.sentence}" for c in sorted_checks(self.checks)
        )

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        rows = [(c.status.replace("_", " "), c.name, c.sentence, c.power) for c in sorted_checks(self.checks)]
        return _table(("status", "check", "what it says", "what it could see"), rows)


class EstimateTable(Noun):
    """Estimates as a table, in the given order, in the unit readers see; None is left out."""

    estimates: tuple[Estimate | None, ...]

    def _given(self) -> list[Estimate]:
        return [estimate for estimate in self.estimates if estimate is not None]

    def _name(self, estimate: Estimate) -> str:
        """Term where all are of one method, such as event times; else the method, and of what if it has a term."""
        if len({given.method for given in self._given()}) == 1 and estimate.term:
            return estimate.term
        return ", ".join(text for text in (estimate.method, estimate.term) if text)

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (
                self._name(estimate),
                estimate.estimand,
                estimate.format(estimate.value, sign=True),
                _error(estimate),
                f"{estimate.format(estimate.low, sign=True)} to {estimate.format(estimate.high, sign=True)}"
                if estimate.has_interval
                else "none can be given",
                format_chance(estimate.p_gain),
            )
            for estimate in self._given()
        ]

    def _head(self) -> tuple[str, ...]:
        first = self._given()[0]
        error = "log points (standard error)" if first.scale == "log" else "standard error"
        return ("estimate", "of", first.shown_unit, error, f"{first.level:.0%} interval", "chance of gain")

    def _notes(self) -> list[str]:
        """What some of them rest on, once each."""
        return list(dict.fromkeys(e.assumption for e in self._given() if e.assumption))

    def __str__(self) -> str:
        if not self._given():
            return "There is nothing to show."
        return "\n".join([*(" | ".join(row) for row in [self._head(), *self._cells()]), *self._notes()])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        if not self._given():
            return "<p>There is nothing to show.</p>"
        notes = "".join(f"<p>{escape(note)}</p>" for note in self._notes())
        return _table(self._head(), self._cells()) + notes


class ClaimTable(Noun):
    """What would be claimed of each estimate, all else equal: the verdict beside the numbers. Made by :func:`claims`."""

    estimates: tuple[Estimate, ...]
    verdicts: tuple[str, ...]

    def _head(self) -> tuple[str, ...]:
        first = self.estimates[0]
        target = f"chance of {first.format(first.target, sign=True)} or better"
        return ("", first.shown_unit, f"{first.level:.0%} interval", "chance of gain", target, "verdict")

    def _cells(self) -> list[tuple[str, ...]]:
        return [
            (
                e.term or e.method,
                e.format(e.value, sign=True),
                f"{e.format(e.low, sign=True)} to {e.format(e.high, sign=True)}",
                format_chance(e.p_gain),
                format_chance(e.p_target),
                word,
            )
            for e, word in zip(self.estimates, self.verdicts, strict=True)
        ]

    def __str__(self) -> str:
        return "\n".join(" | ".join(row) for row in [self._head(), *self._cells()])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return _table(self._head(), self._cells())


def claims(study: Study, estimates: Sequence[Estimate], checks: Sequence[Check | None]) -> ClaimTable:
    """The verdict on each estimate by the same rules and checks: how far a claim depends on what differs between them."""
    verdicts = tuple(verdict(estimate, checks, study) for estimate in estimates)
    return ClaimTable(estimates=tuple(estimates), verdicts=verdicts)


def _error(estimate: Estimate) -> str:
    """Standard error with its kind; on the log scale with the estimate that it belongs to."""
    if not estimate.has_interval:
        return estimate.se_kind
    if estimate.scale != "log":
        return f"{format_number(estimate.se, estimate.decimals)} ({estimate.se_kind})"
    return f"{format_number(estimate.value, 4)} ({format_number(estimate.se, 4)}, {estimate.se_kind})"


def sorted_checks(checks: Sequence[Check | None]) -> list[Check]:
    """Failed checks first, then those not run, then those that passed; None (does not apply) is left out."""
    return sorted(
        (check for check in checks if check is not None), key=lambda check: CHECK_ORDER[check.status]
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    left = 'style="text-align:left"'
    top = "".join(f'<th scope="col" {left}>{escape(name)}</th>' for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td {left}>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
