"""Several KPIs: the primary one, secondary ones with false-discovery control, and guard-rails with harm limits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from ldlab.ab.ratio import least_squares
from ldlab.estimate import Estimate, GuardRailResult, KpiResult, Moved, Noun, Printed, Rail, format_number
from ldlab.program import PERCENT_OF_BASELINE, LdlabError, Question, Study
from ldlab.program.experiment import GuardRail, OtherKpi

COLUMNS = ["role", "KPI", "arm", "effect", "range", "p", "p adjusted", "limit", "verdict"]


class Kpis(Printed, Noun):
    """All KPIs of an experiment beside each other, in the order of the program file.

    Attributes
    ----------
    primary, secondary
        Of the comparison that the headline is about.
    guard_rails
        For every program arm.
    false_discovery_rate
        Accepted share of false ones among the secondary KPIs called moved.
    """

    primary: KpiResult
    secondary: tuple[KpiResult, ...] = ()
    guard_rails: tuple[GuardRailResult, ...] = ()
    false_discovery_rate: float
    level: float

    @property
    def may_scale(self) -> bool:
        """Whether every guard-rail held, in every arm; True without any."""
        return all(rail.may_scale for rail in self.guard_rails)

    @property
    def breached(self) -> tuple[GuardRailResult, ...]:
        """Guard-rails that were breached."""
        return tuple(rail for rail in self.guard_rails if rail.state == "breached")

    @property
    def sentence(self) -> str:
        """In one sentence for a leader: which secondary KPIs moved, and whether the guard-rails held."""
        return f"{self._secondary_in_words()} {self._rails_in_words()}".strip()

    @property
    def table(self) -> pd.DataFrame:
        """One row per KPI (and arm, for guard-rails), as text; p values rounded to two digits."""
        rows = [_row("primary", self.primary), *(_row("secondary", k) for k in self.secondary)]
        rows += [_rail_row(rail) for rail in self.guard_rails]
        table = pd.DataFrame(rows, columns=COLUMNS)
        return table.loc[:, [name for name in COLUMNS if (table[name] != "").any()]]

    def _rows(self) -> list[tuple[str, str]]:
        rows = [(self.primary.kpi, self.primary.sentence)]
        rows += [(result.kpi, result.sentence) for result in self.secondary]
        names = (f"guard-rail {rail.kpi}{', ' if rail.arm else ''}{rail.arm}" for rail in self.guard_rails)
        return rows + list(zip(names, (rail.sentence for rail in self.guard_rails), strict=True))

    def _repr_html_(self) -> str:
        return self.table.to_html(border=0, index=False) + f"<p>{escape(self.sentence)}</p>"

    def _secondary_in_words(self) -> str:
        if not self.secondary:
            return ""
        moved = [k.kpi for k in self.secondary if k.verdict == "moved"]
        wrong = [k.kpi for k in self.secondary if k.verdict == "moved the wrong way"]
        parts = [f"{_joined(moved)} improved"] * bool(moved) + [f"{_joined(wrong)} got worse"] * bool(wrong)
        number = len(self.secondary)
        if not parts:
            return f"None of {number} secondary KPIs is shown to have moved." if number > 1 else (
                "The secondary KPI is not shown to have moved."
            )  # fmt: skip
        tests = f", allowing for {number} KPIs looked at" if number > 1 else ""
        return f"Of the secondary KPIs {' and '.join(parts)}{tests}."

    def _rails_in_words(self) -> str:
        if not self.guard_rails:
            return ""
        if self.breached:
            return f"Harm beyond the agreed limit: {_joined([rail.name for rail in self.breached])}."
        open_ = [rail.name for rail in self.guard_rails if not rail.may_scale]
        if open_:
            return f"Harm beyond the agreed limit is not excluded for {_joined(open_)}."
        return "Every guard-rail held." if len(self.guard_rails) > 1 else "The guard-rail held."


def kpis(study: Study, *, primary: Estimate | None = None) -> Kpis:
    """All KPIs of an experiment: primary, secondary and guard-rails, each by the estimator that leads.

    Secondary KPIs are called moved by Benjamini & Hochberg (1995, JRSS B 57) at ``agreement.false_discovery_rate``, over
    those that could be estimated; their intervals are single ones, each at ``analysis.interval_level``. A guard-rail
    is a test of non-inferiority: it held where the interval's harmful end is better than the limit, which is a one-sided
    test at (1 - level)/2. With several program arms the secondary KPIs are those of ``study.lead_comparison``;
    guard-rails are asked of every arm apart, as harm in one of them matters. None is corrected for the number of guard-rails:
    'all held' is wrong no more often than each, and a breach is rather seen too often than missed.

    Parameters
    ----------
    study
        An experiment, with all its arms.
    primary
        The leading estimate of the primary KPI where it is not the one of least squares, such as one that allows for
        several looks.

    Returns
    -------
    Kpis
        A KPI that cannot be estimated is there with its reason.

    Raises
    ------
    LdlabError
        If the study is not randomised.
    """
    program = study.program
    if program.design.kind != "randomised":
        raise LdlabError(f"kpis: found a design {program.design.kind}; expected a randomised one.")
    lead = study.lead_comparison
    results = list(_secondary(lead))
    rate = program.agreement.false_discovery_rate
    return Kpis(
        primary=_result(lead, primary=True, estimate=primary),
        secondary=discovered(results, rate),
        guard_rails=tuple(_rails(study)),
        false_discovery_rate=rate,
        level=program.level,
    )


def p_value(estimate: Estimate) -> float:
    """Two-sided p value of no effect: of the estimate's t, else (permutation) from its chance of any gain."""
    if estimate.df is None:
        return min(1.0, 2 * min(estimate.p_gain, 1 - estimate.p_gain))
    return float(2 * stats.t.sf(abs(estimate.value) / estimate.se, estimate.df))


def estimable(study: Study) -> str:
    """Why a study's KPI cannot be compared or shown; empty where it can."""
    minimum, units = study.program.analysis.minimum_group_size, study.program.design.units
    sizes = study.frame.groupby("arm").size().reindex([0, 1], fill_value=0)
    if sizes.min() < minimum:
        return f"an arm has fewer than {minimum} {units} with this KPI"
    outcome = study.frame["outcome"]
    if (outcome.groupby(study.frame["arm"]).nunique() <= 1).all():
        alike = "in both arms" if outcome.nunique() <= 1 else "within each arm"
        return f"it is the same for all {units} {alike}"
    return ""


def _leading(study: Study) -> tuple[Estimate | None, str]:
    """The leading estimate, or why there is none."""
    reason = estimable(study)
    if reason:
        return None, reason
    try:
        found = least_squares(study)
    except LdlabError as error:
        return None, str(error)
    if not found:
        return None, "some durations were still running, which least squares would take as ended"
    if not found[0].has_interval:
        return None, "there are too few clusters to say how sure it would be"
    return found[0], ""


def _spread(study: Study) -> float | None:
    spread = math.sqrt(float(study.frame.groupby("arm")["outcome"].var().mean()))
    return spread if math.isfinite(spread) and spread > 0 else None


def _result(study: Study, *, primary: bool, estimate: Estimate | None = None) -> KpiResult:
    kpi, reason = study.program.kpi, ""
    if estimate is None:
        estimate, reason = _leading(study)
    said = {"kpi": kpi.label, "unit": kpi.effect_unit, "direction": kpi.direction}
    if estimate is None:
        return KpiResult(**said, verdict="not estimated", reason=reason, sentence=f"Not estimated: {reason}.")
    excludes = estimate.low > 0 or estimate.high < 0
    verdict = verdict_of(estimate, shown=excludes)
    sentence = moved_in_words(estimate, verdict) if primary else ""
    return KpiResult(
        **said,
        estimate=estimate,
        p=p_value(estimate),
        verdict=verdict,
        spread=_spread(study),
        sentence=sentence,
    )


def discovered(results: Sequence[KpiResult], rate: float) -> tuple[KpiResult, ...]:
    """The results with p values adjusted over all that have one."""
    tested = [result.p for result in results if result.p is not None]
    adjusted = iter(multipletests(tested, method="fdr_bh")[1] if tested else ())
    return tuple(
        _with(result, float(next(adjusted)), rate) if result.p is not None else result for result in results
    )


def _with(result: KpiResult, p_adjusted: float, rate: float) -> KpiResult:
    assert result.estimate is not None
    verdict = verdict_of(result.estimate, shown=p_adjusted <= rate)
    changes = {"p_adjusted": p_adjusted, "verdict": verdict}
    return result.model_copy(update={**changes, "sentence": moved_in_words(result.estimate, verdict)})


def verdict_of(estimate: Estimate, *, shown: bool) -> Moved:
    """Whether a KPI moved, and which way."""
    if not shown:
        return "not shown"
    return "moved" if estimate.value * estimate.sign > 0 else "moved the wrong way"


def moved_in_words(estimate: Estimate, verdict: Moved) -> str:
    """The verdict with its size, in one sentence."""
    size = f"{estimate.format(estimate.value, sign=True)} {estimate.shown_unit}, {estimate.interval_text()}"
    words = {
        "moved": "It moved as wanted",
        "moved the wrong way": "It moved the wrong way",
        "not shown": "It is not shown to have moved",
    }
    return f"{words[verdict]}: {size}."


def _secondary(study: Study) -> Iterator[KpiResult]:
    """Those that could be read, then those that could not, with the reason."""
    for one in study.secondary:
        yield _result(one, primary=False)
    for kpi in _not_read(study.program.secondary_kpis, study.secondary):
        reason = _why_unread(study, kpi.label)
        said = {"kpi": kpi.label, "unit": kpi.unit, "direction": kpi.direction, "reason": reason}
        yield KpiResult(**said, verdict="not estimated", sentence=f"Not estimated: {reason}.")


def _rails(study: Study) -> Iterator[GuardRailResult]:
    """By guard-rail, and in each by arm; then those that could not be read, with the reason."""
    arms = tuple(str(code) for code in study.program.design.treated_values)
    by_arm = [(arm, study.versus(arm) if arms else study) for arm in arms or ("",)]
    for place in range(len(study.guard_rails)):
        for arm, part in by_arm:
            yield _rail(part.guard_rails[place], arm)
    for rail in _not_read(study.program.guard_rails, study.guard_rails):
        yield _unread(study, rail)


def _not_read[Agreed: OtherKpi](agreed: Sequence[Agreed], read: Sequence[Study]) -> list[Agreed]:
    """KPIs of the program file that have no study."""
    labels = {study.program.kpi.label for study in read}
    return [kpi for kpi in agreed if kpi.label not in labels]


def _unread(study: Study, rail: GuardRail) -> GuardRailResult:
    reason, harm = _why_unread(study, rail.label), rail.largest_acceptable_harm
    sign = 1 if rail.direction == "decrease" else -1
    return GuardRailResult(
        kpi=rail.label,
        unit=rail.unit,
        direction=rail.direction,
        limit=None if harm.unit == PERCENT_OF_BASELINE else sign * harm.value,
        state="not estimated",
        reason=reason,
        sentence=f"Not estimated: {reason}. Harm beyond the limit is not excluded.",
    )


def _why_unread(study: Study, label: str) -> str:
    """Why a KPI has no study, as the notes of the data say."""
    start = f"{label} is not evaluated: "
    found = (note.removeprefix(start).rstrip(".") for note in study.notes if note.startswith(start))
    return next(found, "it could not be read")


def _rail(study: Study, arm: str) -> GuardRailResult:
    return rail_of(study, arm, *_leading(study), spread=_spread(study))


def rail_of(
    about: Question, arm: str, estimate: Estimate | None, reason: str, *, spread: float | None
) -> GuardRailResult:
    """The state of a guard-rail in an arm from its estimate, or from the ``reason`` why there is none."""
    kpi, limit = about.program.kpi, -about.smallest
    said = {"kpi": kpi.label, "unit": kpi.effect_unit, "direction": kpi.direction, "arm": arm, "limit": limit}
    if estimate is None:
        sentence = f"Not estimated: {reason}. Harm beyond the limit is not excluded."
        return GuardRailResult(**said, state="not estimated", reason=reason, sentence=sentence)
    worst, best = (estimate.low, estimate.high) if estimate.sign > 0 else (-estimate.high, -estimate.low)
    line = -abs(limit)
    state: Rail = "held" if worst > line else "breached" if best < line else "not shown"
    return GuardRailResult(
        **said,
        estimate=estimate,
        bound=estimate.sign * worst,
        state=state,
        harmed=best < 0,
        spread=spread,
        sentence=_rail_in_words(estimate, limit, state, harmed=best < 0),
    )


def _rail_in_words(estimate: Estimate, limit: float, state: Rail, *, harmed: bool) -> str:
    size = f"{estimate.format(estimate.value, sign=True)} {estimate.shown_unit}, {estimate.interval_text()}"
    bound = f"the agreed limit of {_limit_text(estimate, limit)}"
    if state == "breached":
        return f"Breached: harmed beyond {bound} ({size})."
    if state == "held":
        some = "It was harmed, but by less than" if harmed else "Held: harm is excluded beyond"
        return f"{some} {bound} ({size})."
    some = "It was harmed, and harm" if harmed else "Harm"
    return f"Not shown to hold: {some[0].lower() + some[1:]} beyond {bound} is not excluded ({size})."


def _limit_text(estimate: Estimate, limit: float) -> str:
    shown = estimate.shown(limit)
    digits = 0 if shown == 0 else max(0, 1 - math.floor(math.log10(abs(shown))))
    text = format_number(shown, digits, sign=True)
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return f"{text} {estimate.shown_unit}"


def _joined(names: Sequence[str]) -> str:
    return " and ".join(", ".join(part) for part in (names[:-1], names[-1:]) if part)


def _p_text(p: float | None) -> str:
    return "" if p is None else "under 0.001" if p < 0.001 else f"{p:.2g}"


def _ends(estimate: Estimate | None) -> tuple[str, str]:
    if estimate is None:
        return "not estimated", ""
    low, value, high = (estimate.format(x, sign=True) for x in (estimate.low, estimate.value, estimate.high))
    return f"{value} {estimate.shown_unit}", f"{low} to {high}"


def _row(role: str, result: KpiResult) -> list[str]:
    adjusted = _p_text(result.p_adjusted)
    verdict = result.verdict + (f": {result.reason}" if result.reason else "")
    return [role, result.kpi, "", *_ends(result.estimate), _p_text(result.p), adjusted, "", verdict]


def _rail_row(rail: GuardRailResult) -> list[str]:
    limit = (
        ""
        if rail.limit is None
        else format_number(rail.limit, 2, sign=True)
        if rail.estimate is None
        else _limit_text(rail.estimate, rail.limit)
    )
    verdict = rail.state + (f": {rail.reason}" if rail.reason else "")
    return ["guard-rail", rail.kpi, rail.arm, *_ends(rail.estimate), "", "", limit, verdict]
