"""Dose: what one more hour (session) did, by the lot that changed the dose; and means by dose, which show no cause."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ldlab.ab.compliers import WEAK, Stages, plain_design, se_kind_of, two_stages
from ldlab.ab.means import need_cross_section
from ldlab.ab.ratio import linearised
from ldlab.estimate import Estimate, Noun, Printed, format_number
from ldlab.program import Study

PER_DOSE = "instrumental variable, per unit of dose"
NOT_CAUSAL = "not a causal comparison: people chose, or were able to take, their dose"
DOSE_ASSUMES = (
    "Being assigned changed the KPI through the dose alone, nobody got less of it for being assigned, and the answer is "
    "about those whose dose the assignment changed: their average effect of one more."
)
BANDS = 3


class Dose(Printed, Noun):
    """What one more unit of dose did, and what was seen by dose.

    Attributes
    ----------
    estimate
        Effect of one more unit of dose, in KPI units; None where ``reason`` says why.
    first_stage, mean_gap
        F of dose on assignment; mean dose of the assigned less that of the comparison group.
    bands
        (dose, units, mean KPI in effect units) in the program arm, from little to much; empty where
        groups would be too small. Not a causal comparison.
    notes
        What else a reader should know of the doses.
    """

    estimate: Estimate | None = None
    first_stage: float | None = None
    mean_gap: float | None = None
    bands: tuple[tuple[str, int, float], ...] = ()
    notes: tuple[str, ...] = ()
    reason: str = ""
    sentence: str

    @property
    def table(self) -> pd.DataFrame:
        """Means by dose in the program arm, from little to much."""
        return pd.DataFrame(self.bands, columns=["dose received", "units", "mean KPI"])

    def _rows(self) -> list[tuple[str, str]]:
        rows = [("in words", self.sentence)]
        if self.estimate is not None:
            rows.append(("what has to hold", DOSE_ASSUMES))
        if self.first_stage is not None:
            weak = f"; under {WEAK}, weak: read the interval, not the estimate"
            text = f"first-stage F {format_number(self.first_stage, 1)}"
            rows.append(("what assignment did to the dose", text + (weak if self.first_stage < WEAK else "")))
        for dose, units, mean in self.bands:
            rows.append(
                (f"dose {dose}", f"{units:,} of those in the program arm, mean {mean:g} ({NOT_CAUSAL})")
            )
        return [*rows, *(("note", note) for note in self.notes)]


def dose_response(study: Study) -> Dose | None:
    """The effect of one more unit of dose, with assignment as instrument, and means by dose received.

    The dose is chosen, not drawn by lot, so units with more and with less differ in more than the dose. The lot is
    what can be trusted: its effect on the KPI over its effect on the dose (two-stage least squares) is an average of the
    effects of one more unit, over those whose dose it changed (Angrist & Imbens 1995, JASA 90, theorem 1),
    under what ``DOSE_ASSUMES`` says. Strata are taken out of all three variables first.

    Parameters
    ----------
    study
        A randomised cross-section whose program names ``design.columns.dose``. Control units without a dose had none;
        program units without one are left out, and counted.

    Returns
    -------
    Dose or None
        ``estimate`` has HC1 or clustered errors, and Anderson and Rubin's interval as
        :func:`ldlab.ab.complier_effect`. None where the program names no dose.

    Raises
    ------
    LdlabError
        If the study is a panel.
    """
    if "dose" not in study.frame:
        return None
    need_cross_section(study)
    line = linearised(study) if study.program.kpi.value_type == "rate" else study
    rows, notes = _with_dose(line)
    bands = _bands(study, rows)
    reason = _cannot(study, rows)
    if reason:
        return Dose(bands=bands, notes=notes, reason=reason, sentence=f"No effect of dose: {reason}.")
    stages = two_stages(study, _within_strata(rows), plain_design(_within_strata(rows)))
    gap = float(stages.came)
    found = {"first_stage": stages.f, "mean_gap": gap, "bands": bands, "notes": notes}
    interval = stages.interval()
    if interval is None:
        reason = "assignment changed the dose too little for the data to bound what one more of it does"
        return Dose(**found, reason=reason, sentence=f"No effect of dose: {reason}.")
    estimate = _estimate(study, rows, stages, interval)
    return Dose(**found, estimate=estimate, sentence=_in_words(study, estimate, gap))


def _with_dose(study: Study) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Rows with a dose; ``treated`` is the dose, as the two stages read it."""
    rows, units = study.frame, study.program.design.units
    lacking = rows["dose"].isna()
    notes = []
    if (lacking & (rows["arm"] == 0)).any():
        notes.append(f"comparison {units} without a recorded dose count as having had none")
    if (lacking & (rows["arm"] == 1)).any():
        minimum = study.program.analysis.minimum_group_size
        lost = int((lacking & (rows["arm"] == 1)).sum())
        count = f"{lost:,}" if lost >= minimum else f"fewer than {minimum}"
        notes.append(
            f"{count} program {units} without a recorded dose are left out, which undoes part of the lot"
        )
    dose = rows["dose"].mask(lacking & (rows["arm"] == 0), 0.0).astype(float)
    rows = rows.assign(dose=dose, treated=dose)
    return rows.dropna(subset=["dose"]).reset_index(drop=True), tuple(notes)


def _cannot(study: Study, rows: pd.DataFrame) -> str:
    minimum, units = study.program.analysis.minimum_group_size, study.program.design.units
    sizes = rows.groupby("arm").size().reindex([0, 1], fill_value=0)
    if sizes.min() < minimum:
        return f"an arm has fewer than {minimum} {units} with a dose"
    gap = rows.groupby("arm")["dose"].mean().diff().iloc[-1]
    if not gap > 0:
        return "those assigned did not receive more of it than the others"
    if (rows.groupby("arm")["dose"].nunique() == 1).all():
        return "everyone in an arm received the same dose, so that it adds nothing to the effect of being assigned"
    return ""


def _within_strata(rows: pd.DataFrame) -> pd.DataFrame:
    """Outcome, dose and arm less their stratum's mean: the same as an indicator for each stratum."""
    if "stratum" not in rows:
        return rows
    kept = rows[rows.groupby("stratum")["arm"].transform("nunique") == 2]
    names = ["outcome", "treated", "arm"]
    means = kept.groupby("stratum")[names].transform("mean")
    return kept.assign(**(kept[names].astype(float) - means))


def _estimate(study: Study, rows: pd.DataFrame, stages: Stages, interval: tuple[float, float]) -> Estimate:
    value = stages.outcome / stages.came
    variance = stages.outcome_variance - 2 * value * stages.covariance + value**2 * stages.came_variance
    kpi = study.program.kpi
    counted = study.count(rows.assign(treated=rows["arm"]))
    counted.pop("attended", None)
    no_chance = {
        "p_target": np.nan,
        "p_negligible": np.nan,
    }  # both were agreed for the program, not for one unit of it
    above = stages.chance_above(0.0)
    return Estimate(
        method=PER_DOSE,
        estimand="average effect of one more unit of dose, among those whose dose assignment changed",
        value=value,
        se=float(np.sqrt(variance)) / abs(stages.came),
        se_kind=f"{se_kind_of(study)}; Anderson-Rubin interval",
        df=stages.df,
        low=interval[0],
        high=interval[1],
        n=counted,
        p_gain=above if kpi.sign > 0 else 1 - above,
        term="per unit of dose",
        **no_chance,
        **study.measure(),
    )


def _bands(study: Study, rows: pd.DataFrame) -> tuple[tuple[str, int, float], ...]:
    """Program arm by dose: none, then up to three groups of like size; fewer where one would be too small."""
    minimum = study.program.analysis.minimum_group_size
    ours = rows[rows["arm"] == 1]
    none = ours["dose"] == 0
    if len(ours) < minimum:
        return ()
    for bands in range(BANDS, 0, -1):
        some = ours.loc[~none, "dose"]
        if some.empty:
            return ()
        edges = np.unique([_two_digits(edge) for edge in some.quantile(np.arange(1, bands) / bands)])
        label = pd.Series("none", index=ours.index).mask(~none, _labels(ours["dose"], edges))
        sizes = label.value_counts().to_dict()
        means = ours["outcome"].groupby(label).mean().to_dict()
        if len(sizes) > 1 and min(sizes.values()) >= minimum:
            order = ["none", *(_label(edges, place) for place in range(len(edges) + 1))]
            digits = max(0, 2 - int(np.floor(np.log10(max(float(ours["outcome"].std()), 1e-12)))))
            return tuple(
                (name, int(sizes[name]), round(float(means[name]), digits)) for name in order if name in sizes
            )
    return ()


def _labels(dose: pd.Series, edges: np.ndarray) -> pd.Series:
    place = np.searchsorted(edges, dose.to_numpy(), side="left")
    return pd.Series([_label(edges, int(p)) for p in place], index=dose.index)


def _label(edges: np.ndarray, place: int) -> str:
    if not len(edges):
        return "some"
    if place == 0:
        return f"up to {edges[0]:g}"
    if place == len(edges):
        return f"over {edges[-1]:g}"
    return f"over {edges[place - 1]:g} to {edges[place]:g}"


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")


def _in_words(study: Study, estimate: Estimate, gap: float) -> str:
    column, units = study.program.design.columns.dose, study.program.design.units
    size = f"{estimate.format(estimate.value, sign=True)} {estimate.shown_unit}"
    start = f"Assignment raised {column} by {format_number(gap, 1)} on average. "
    if estimate.low <= 0 <= estimate.high:
        return f"{start}What one more of {column} did is not clear: {size}, {estimate.interval_text()}."
    way = "the wrong way: " if estimate.value * estimate.sign < 0 else ""
    return (
        f"{start}One more of {column} moved {estimate.kpi} {way}by {size} ({estimate.interval_text()}), among {units} "
        "whose dose the assignment changed, if nothing but the dose was different for them."
    )
