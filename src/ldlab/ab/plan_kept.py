"""What was planned beside what the data showed, for the next round."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from ldlab.ab.expected import Expected, expect, planned_shares, reading
from ldlab.ab.experiment_plan import digits, in_words, times
from ldlab.ab.planning import plan
from ldlab.ab.power import Reading
from ldlab.ab.ratio import linearised
from ldlab.estimate import Estimate, Noun, rows_to_html
from ldlab.program import Program, Study

FEW = "not shown"


class KeptRow(Noun):
    """One assumption: as planned, and as found."""

    what: str
    planned: str
    found: str


class PlanKept(Noun):
    """The plan beside the data.

    Attributes
    ----------
    sentence
        What the experiment could see, and what it was planned to see.
    smallest_seen
        Size of the smallest effect that would have been seen with the planned power, in effect units, by the
        standard error that was reached; None where there is none.
    rows
        Assumption by assumption.
    """

    sentence: str
    smallest_seen: float | None
    rows: tuple[KeptRow, ...]

    def __str__(self) -> str:
        return "\n".join(
            [self.sentence, *(f"{r.what}: planned {r.planned}; found {r.found}" for r in self.rows)]
        )

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        listed = [(row.what, f"planned {row.planned}; found {row.found}") for row in self.rows]
        return rows_to_html([("In short", self.sentence), *listed])


def plan_kept(study: Study, estimate: Estimate) -> PlanKept | None:
    """What was planned beside what the data show; None where the program file has no section ``plan``.

    Parameters
    ----------
    study
        An experiment.
    estimate
        Its leading estimate, whose standard error says what could be seen.

    Notes
    -----
    Standard deviation, correlation with earlier values and intra-cluster correlation are those within arms; the
    latter by analysis of variance (Donner & Koval 1980, Biometrics 36). Where an arm, or the people whom a number is about,
    are fewer than ``analysis.minimum_group_size``, it is not shown.
    """
    said = study.program.plan
    if said is None:
        return None
    expected = expect(study.program)
    smallest = _smallest_seen(study, estimate, expected)
    planned = plan(study.program).units
    return PlanKept(
        sentence=_sentence(study, smallest, expected, planned),
        smallest_seen=smallest,
        rows=tuple(_rows(study, expected, planned)),
    )


def _smallest_seen(study: Study, estimate: Estimate, expected: Expected) -> float | None:
    """Drift that the agreed reading needs, times the standard error; of those who attend, where some did not."""
    said = study.program.plan
    if said is None or not math.isfinite(estimate.se):
        return None
    agreed = reading(study.program)
    alone = Reading(
        agreed.alpha, method=agreed.method, bounds=agreed.bounds, fractions=agreed.fractions
    )  # the estimate that leads is one comparison
    drift = alone.drift(said.power, math.inf if estimate.df is None else estimate.df)
    came = _take_up(study) if said.take_up is not None else 1.0
    return drift * estimate.se / came if came > 0 else None


def _sentence(study: Study, smallest: float | None, expected: Expected, planned: int) -> str:
    program = study.program
    assert program.plan is not None
    units, found = program.design.units, len(_assigned(study))
    counted = f"{planned:,} {units} were planned and {found:,} were assigned."
    if smallest is None:
        return f"{counted} What could have been seen cannot be said: the estimate has no standard error."
    wanted = in_words(program, expected.smallest)
    seen = in_words(program, math.copysign(smallest, expected.smallest))
    enough = smallest <= abs(expected.smallest) * 1.005
    as_planned = "so the experiment was as sharp as planned" if enough else f"{wanted} was planned to be"
    return f"{counted} {seen[0].upper()}{seen[1:]} would have been seen {times(program.plan.power)}; {as_planned}."


def _rows(study: Study, expected: Expected, planned: int) -> Iterator[KeptRow]:
    program, rows = study.program, study.frame
    said, minimum = program.plan, program.analysis.minimum_group_size
    assert said is not None
    assigned = _assigned(study)
    sizes = _arm_of(assigned, program).value_counts()
    small = len(sizes) == 0 or sizes.min() < minimum or _arm_of(rows, program).value_counts().min() < minimum

    def row(what: str, planned: str, found: float | None, text: str | None = None) -> KeptRow:
        shown = FEW if small or found is None or not math.isfinite(found) else text or digits(found)
        return KeptRow(what=what, planned=planned, found=shown)

    yield row(f"{program.design.units} assigned", f"{planned:,}", len(assigned), f"{len(assigned):,}")
    for name, share in planned_shares(program).items():
        count = sizes.get(name, 0)
        yield row(f"share of {name}", f"{share:.1%}", count, f"{count / len(assigned):.1%}")
    unit = program.kpi.effect_unit
    if program.kpi.scale != "log" and said.mean is not None:
        yield row(f"mean without the program ({program.kpi.unit})", digits(said.mean), _control_mean(rows))
    within = _within(study)
    sd = math.sqrt(expected.stages[0][1].variance(0.0))
    yield row(f"standard deviation between units ({unit})", digits(sd), _sd(within, "outcome"))
    if said.before_correlation is not None and "before" in rows:
        yield row("correlation with earlier values", digits(said.before_correlation), _correlation(within))
    if said.icc is not None and said.cluster_size is not None and "cluster" in rows:
        size = assigned.groupby("cluster").size()
        yield row("units in a cluster", digits(said.cluster_size), float(size.mean()))
        yield row(
            "spread of cluster sizes", f"{said.cluster_size_cv:.0%}", 1, f"{size.std() / size.mean():.0%}"
        )
        yield row("intra-cluster correlation", digits(said.icc), intra_cluster_correlation(within))
    if said.take_up is not None:
        came = _take_up(study)
        yield row("attended, of those offered less of the others", f"{said.take_up:.0%}",
                  came if _enough_either_way(rows, minimum) else None, f"{came:.0%}")  # fmt: skip
    lost = len(assigned) - len(rows)
    few = 0 < lost < minimum
    text = f"fewer than {minimum} {program.design.units}" if few else f"{lost / len(assigned):.1%}"
    yield row("without a KPI, or left out", f"{said.lost:.0%}", lost, text)


def _assigned(study: Study) -> pd.DataFrame:
    """Everyone who was assigned; where the study does not say, everyone with a KPI."""
    return study.frame if study.assigned is None else study.assigned


def _arm_of(rows: pd.DataFrame, program: Program) -> pd.Series:
    """The arm of each row, by the names of the planned shares."""
    if "variant" in rows:
        return rows["variant"].astype(str)
    trained, *_, control = planned_shares(program)
    return rows["arm"].map({1: trained, 0: control})


def _control_mean(rows: pd.DataFrame) -> float:
    control = rows[rows["arm"] == 0]
    if "exposure" in rows:
        return float(control["count"].sum() / control["exposure"].sum())
    return float(control["outcome"].mean())


def _within(study: Study) -> pd.DataFrame:
    """Outcome and earlier values less the mean of their own arm; rates linearised as their estimate is."""
    rows = (linearised(study) if "exposure" in study.frame else study).frame
    arms = _arm_of(rows, study.program)
    values = {
        name: rows[name].astype(float) - rows[name].astype(float).groupby(arms).transform("mean")
        for name in ("outcome", "before")
        if name in rows
    }
    kept = {"cluster": rows["cluster"]} if "cluster" in rows else {}
    return pd.DataFrame({**values, **kept, "of": arms})


def _sd(within: pd.DataFrame, name: str) -> float:
    known = within[name].dropna()
    df = len(known) - within["of"].nunique()
    return math.sqrt(float((known**2).sum()) / df) if df > 0 else math.nan


def _correlation(within: pd.DataFrame) -> float:
    known = within.dropna(subset=["before"])
    if len(known) < 3 or known["before"].std() == 0 or known["outcome"].std() == 0:
        return math.nan
    return float(known["outcome"].corr(known["before"]))


def intra_cluster_correlation(within: pd.DataFrame) -> float:
    """Intra-cluster correlation by analysis of variance, within arms.

    Parameters
    ----------
    within
        One row per unit: ``outcome`` less its arm's mean, ``cluster``, and ``of``, the arm.
    """
    groups = within.groupby(["of", "cluster"])["outcome"]
    sizes, means = groups.size(), groups.mean()
    arms, clusters, units = within["of"].nunique(), len(sizes), len(within)
    if clusters <= arms or units <= clusters:
        return math.nan
    between = float((sizes * means**2).sum()) / (clusters - arms)
    inside = float(((within["outcome"] - groups.transform("mean")) ** 2).sum()) / (units - clusters)
    by_arm = (sizes**2).groupby("of").sum() / sizes.groupby("of").sum()
    typical = (units - float(by_arm.sum())) / (clusters - arms)
    total = between + (typical - 1) * inside
    return (between - inside) / total if total > 0 else math.nan


def _take_up(study: Study) -> float:
    """Share of those offered who attended, less that of the others."""
    shares = study.frame.groupby("arm")["treated"].mean()
    return float(shares.get(1, np.nan) - shares.get(0, 0.0))


def _enough_either_way(rows: pd.DataFrame, minimum: int) -> bool:
    """Whether those who came and those who stayed away, in each arm, are none or enough to be counted."""
    counts = rows.groupby(["arm", "treated"]).size()
    return bool((counts >= minimum).all())
