"""What the two-way estimate is made of: Goodman-Bacon's two-by-two comparisons and their weights."""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd

from ldlab.did.panel import need_comparison, need_panel
from ldlab.estimate import Noun, format_number
from ldlab.program import LdlabError, Study

ComparisonKind = Literal["trained against never trained", "earlier against later", "later against earlier"]
KINDS: dict[str, ComparisonKind] = {
    "treated_vs_never": "trained against never trained",
    "earlier_vs_later": "earlier against later",
    "later_vs_earlier": "later against earlier",
}
SAME = 1e-6  # of the spread of the estimates: how closely the parts must add up


class TwoByTwo(Noun):
    """One comparison of two groups before and after one of them starts.

    Attributes
    ----------
    kind
        'later against earlier' uses units already trained as the comparison: wrong where effects grow or fade.
    trained, comparison
        The first trained periods of the two groups as in the data; 'never'.
    weight
        Its share of the two-way estimate, between 0 and 1.
    estimate
        Difference-in-differences of the two groups, in effect units.
    """

    kind: ComparisonKind
    trained: str
    comparison: str
    weight: float
    estimate: float


class GoodmanBacon(Noun):
    """The two-way estimate as a weighted mean of two-by-two comparisons.

    Attributes
    ----------
    value, unit
        The two-way estimate, and its unit.
    comparisons
        The comparisons of groups of at least the minimum size.
    hidden
        Weight of the comparisons with a smaller group, which are not shown.
    not_run
        Why there is no decomposition; empty where there is one.
    """

    unit: str
    value: float | None = None
    comparisons: tuple[TwoByTwo, ...] = ()
    hidden: float = 0.0
    not_run: str = ""

    @property
    def already_trained(self) -> float | None:
        """Weight of comparisons with units already trained; None without a decomposition."""
        if self.not_run or self.hidden:
            return None
        return sum(part.weight for part in self.comparisons if part.kind == "later against earlier")

    def table(self) -> pd.DataFrame:
        """One row per kind of comparison: ``comparisons``, ``weight`` and weighted mean ``estimate``."""
        rows: list[dict[str, Any]] = []
        for kind in KINDS.values():
            parts = [part for part in self.comparisons if part.kind == kind]
            weight = sum(part.weight for part in parts)
            mean = sum(part.weight * part.estimate for part in parts) / weight if weight else None
            if parts:
                rows.append({"compared": kind, "comparisons": len(parts), "weight": weight, "estimate": mean})
        if self.hidden:
            rows.append({"compared": "with a group too small to show", "weight": self.hidden})
        return pd.DataFrame(rows, columns=["compared", "comparisons", "weight", "estimate"])

    def _printable(self) -> pd.DataFrame:
        table = self.table()
        spread = table["estimate"].abs().max()
        decimals = 2 if not spread > 0 else max(0, 2 - len(str(int(spread))) + 1)
        table["weight"] = [f"{weight:.0%}" for weight in table["weight"]]
        table["comparisons"] = ["" if pd.isna(n) else f"{n:.0f}" for n in table["comparisons"]]
        table["estimate"] = [
            "" if pd.isna(x) else format_number(x, decimals, sign=True) for x in table["estimate"]
        ]
        return table.rename(columns={"estimate": f"estimate ({self.unit})"})

    def __str__(self) -> str:
        return f"not run: {self.not_run}" if self.not_run else self._printable().to_string(index=False)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        if self.not_run:
            return f"<p>not run: {self.not_run}</p>"
        return self._printable().to_html(border=0, index=False)


def goodman_bacon(study: Study) -> GoodmanBacon | None:
    """Split the two-way estimate into its two-by-two comparisons.

    Parameters
    ----------
    study
        A panel with a comparison.

    Returns
    -------
    GoodmanBacon or None
        None for design before_after. With ``not_run`` and no comparisons where the panel has gaps (the theorem is one
        of balanced panels), or where all start together with a group that never does (there is then one comparison).

    Raises
    ------
    LdlabError
        If the study is no panel with a comparison, or the parts do not add up to the two-way estimate.

    Notes
    -----
    Goodman-Bacon (2021), Journal of Econometrics 225, theorem 1, by diff-diff's ``BaconDecomposition`` with exact
    weights. Units and periods weigh alike, so one row per cohort and period with the cohort's size as weight gives
    the same comparisons as the rows themselves.
    """
    need_panel(study)
    if study.program.design.kind == "before_after":
        return None
    need_comparison(study)
    unit, period = study.program.kpi.effect_unit, study.program.design.period
    rows = study.frame
    if len(rows) < rows["unit"].nunique() * rows["period"].nunique():
        return GoodmanBacon(
            unit=unit,
            not_run=f"some units are not seen in every {period}, and the decomposition is one of panels without gaps.",
        )
    if rows["start"].nunique(dropna=False) < 3 and rows["start"].isna().any():
        return GoodmanBacon(unit=unit, not_run="all start together, so there is one comparison only.")
    fit = _decompose(rows)
    spread = float(rows["outcome"].std())
    total = sum(part.weight * part.estimate for part in fit.comparisons)
    if abs(total - fit.twfe_estimate) > SAME * spread:
        raise LdlabError(
            f"goodman_bacon: found parts that add up to {total:g}; expected the two-way estimate {fit.twfe_estimate:g}."
        )
    units = rows.assign(start=rows["start"].fillna(-1)).groupby("start")["unit"].nunique()
    minimum = study.program.analysis.minimum_group_size
    shown, hidden = [], 0.0
    for part in fit.comparisons:
        groups = [_rank(part.treated_group), _rank(part.control_group)]
        if min(int(units[rank]) for rank in groups) < minimum:
            hidden += float(part.weight)
            continue
        names = ["never" if rank < 0 else str(study.periods[rank]) for rank in groups]
        shown.append(
            TwoByTwo(
                kind=KINDS[part.comparison_type],
                trained=names[0],
                comparison=names[1],
                weight=float(part.weight),
                estimate=float(part.estimate),
            )
        )
    return GoodmanBacon(unit=unit, value=float(fit.twfe_estimate), comparisons=tuple(shown), hidden=hidden)


def _decompose(rows: pd.DataFrame) -> Any:
    """diff-diff's decomposition of the cohorts' means, each cohort weighing as many units as it has."""
    from diff_diff import BaconDecomposition, SurveyDesign

    cells = rows.assign(start=rows["start"].fillna(-1)).groupby(["start", "period"], as_index=False)
    means = cells.agg(outcome=("outcome", "mean"), units=("unit", "size"))
    # diff-diff reads 0 as never trained, so periods count from 1.
    means = means.assign(
        cohort=means["start"] + 1, time=means["period"] + 1, size=means["units"] / means["units"].mean()
    )
    return BaconDecomposition().fit(
        means, outcome="outcome", unit="start", time="time", first_treat="cohort",
        survey_design=SurveyDesign(weights="size"),
    )  # fmt: skip


def _rank(group: Any) -> int:
    """The period in which diff-diff's group starts; -1 for never."""
    return -1 if group == "never_treated" else int(group) - 1
