"""Effects where training can have had none: a false start, another KPI, another group, untrained teammates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from scipy import stats

from ldlab.checks.shared import POWER, not_run, plain
from ldlab.estimate import Check, Estimate
from ldlab.program import Study

PLACEBO_P = 0.05


class Tried(Protocol):
    """What the checks read of a placebo (:class:`ldlab.did.Placebo`)."""

    @property
    def label(self) -> str: ...  # noqa: D102
    @property
    def estimate(self) -> Estimate | None: ...  # noqa: D102
    @property
    def reason(self) -> str: ...  # noqa: D102


def placebo(study: Study, placebo_estimate: Estimate | None) -> Check:
    """Whether a false, earlier start finds an effect too: failed at p < .05.

    Whatever the program's interval level, so that a study does not pass by asking for wider intervals; the
    range shown is therefore the 95% range. The grade presumes the check only where it can be run.
    """
    name, period = "placebo start", study.program.design.period
    if not study.has_comparison:
        return not_run(name, "There is no comparison group to hold a false start against.")
    if placebo_estimate is None:
        return not_run(name, f"It needs three {period}s before training and enough units in both arms.")
    pretending = f"Pretending that training began {placebo_estimate.term} finds"
    return _nothing_expected(
        name,
        placebo_estimate,
        found=f"{pretending} an effect before there was any training",
        nothing=f"{pretending} nothing clear, as it should be",
    )


def placebo_kpis(study: Study, placebos: Sequence[Tried]) -> tuple[Check, ...]:
    """Whether the leading estimator finds an effect on outcomes that training cannot have moved: p < .05.

    Parameters
    ----------
    study
        A panel.
    placebos
        :func:`ldlab.did.placebo_kpis`. The grade presumes each one that could be run; with more of them more
        fail by chance, one in twenty.
    """
    if not placebos:
        reason = "The program file names no outcome that training cannot have moved: fill in design.negative_controls."
        return (not_run("placebo KPI", reason),)
    return tuple(_placebo_kpi(tried) for tried in placebos)


def _placebo_kpi(tried: Tried) -> Check:
    name = f"placebo KPI: {tried.label}"
    if tried.estimate is None:
        return not_run(name, tried.reason)
    where = f"On {tried.label}, which training cannot have moved, the same method finds"
    return _nothing_expected(
        name,
        tried.estimate,
        found=f"{where} an effect",
        nothing=f"{where} nothing clear, as it should",
        then="What moved it may have moved the KPI too.",
    )


def placebo_group(study: Study, tried: Tried) -> Check:
    """Whether untrained units that a rival cause would have touched moved against the other untrained: p < .05.

    Parameters
    ----------
    study
        A panel.
    tried
        :func:`ldlab.did.placebo_group`. The grade presumes it where it could be run.
    """
    name, units = "placebo group", study.program.design.units
    if tried.estimate is None:
        return not_run(name, tried.reason)
    return _nothing_expected(
        name,
        tried.estimate,
        found=f"Untrained {units} that a rival cause would have touched moved too, against the other untrained",
        nothing=f"Untrained {units} that a rival cause would have touched moved like the other untrained",
        then="The effect may be that cause.",
    )


def spillover(study: Study, tried: Tried, lead: Estimate | None = None) -> Check:
    """Whether untrained units moved once teammates were trained, against untrained in untouched teams: p < .05.

    The grade does not presume it: a spillover of the effect's own sign makes the estimate too small.

    Parameters
    ----------
    study
        A panel.
    tried
        :func:`ldlab.did.spillover`.
    lead
        The leading estimate; where it is given, a failure says which way it is off.
    """
    name, units = "spillover", study.program.design.units
    if tried.estimate is None:
        return not_run(name, tried.reason)
    off = "off"
    if lead is not None:
        off = "too small" if lead.value * tried.estimate.value > 0 else "too large"
    return _nothing_expected(
        name,
        tried.estimate,
        found=f"Untrained {units} moved once teammates were trained, against untrained {units} in other teams",
        nothing=f"Untrained {units} with trained teammates moved like untrained {units} in other teams",
        then=f"Training seems to reach the comparison, so the estimate is probably {off}.",
        needed=False,
    )


def _nothing_expected(
    name: str, e: Estimate, *, found: str, nothing: str, then: str = "", needed: bool = True
) -> Check:
    """Two-sided test at p < .05 of an effect that should be none; the range shown is the 95% range."""
    df = np.inf if e.df is None else e.df
    reach = float(stats.t.isf(PLACEBO_P / 2, df))
    wide = e.model_copy(
        update={
            "level": 1 - PLACEBO_P,
            "low": e.value - reach * e.se,
            "high": e.value + reach * e.se,
        }
    )
    p = float(2 * stats.t.sf(abs(e.value / e.se), df))
    failed = p < PLACEBO_P
    size = f"{wide.format(wide.value, sign=True)} {wide.shown_unit}, {wide.interval_text()}"
    seen = (reach + stats.t.ppf(POWER, df)) * e.se
    return Check(
        name=name,
        status="failed" if failed else "passed",
        sentence=f"{found if failed else nothing} ({size})." + (f" {then}" if failed and then else ""),
        statistic=p,
        statistic_name="p-value",
        threshold=PLACEBO_P,
        power=f"a false effect of {plain(abs(e.shown(seen)))} {e.shown_unit} would have been seen 4 times in 5",
        needed=needed,
    )
