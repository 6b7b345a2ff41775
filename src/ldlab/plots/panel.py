"""Figure of the panel: who is trained when, and who is seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch
from numpy.typing import NDArray

from ldlab.plots.figure import ACCENT, INK, LINE, PALE, SOFT, Figure, finished, new_axes, style
from ldlab.program import Study

MOST_LETTERS = 60  # of all labels below the axis
NEVER = -1.0  # in place of a start
STATES = ((PALE, "not trained yet, or never"), (ACCENT, "trained"), ("#ffffff", "no KPI"))

Cells = NDArray[np.int64]


def panel_view(study: Study) -> Figure:
    """When each cohort is trained, and what share of its units is seen with a KPI, by period.

    Cohorts under the minimum group are put together, or left out if they are too few even so. A cell's colour mixes
    those of its units' states by their shares; fewer units than the minimum group in a state are drawn as the others.
    """
    rows = cohort_rows(study)
    design, minimum = study.program.design, study.program.analysis.minimum_group_size
    image = np.stack([_colours(counts, minimum) for _, counts in rows])
    title, alt = _title(study), _alt(study, rows)
    with style():
        canvas, axes = new_axes(1.55 + 0.3 * len(rows))
        axes.imshow(image, aspect="auto", interpolation="nearest")
        axes.set_yticks(range(len(rows)), [name for name, _ in rows], color=INK)
        axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
        axes.set_xticks(np.arange(len(study.periods) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="#ffffff", linewidth=0.8 if len(study.periods) <= 60 else 0.0)
        axes.tick_params(which="both", length=0)
        often = -(-len(study.periods) * max(len(str(period)) for period in study.periods) // MOST_LETTERS)
        shown = range(0, len(study.periods), often)
        axes.set_xticks(list(shown), [str(study.periods[place]) for place in shown])
        axes.set_xlabel(design.period, color=SOFT)
        axes.spines[:].set_visible(False)
        handles = [Patch(facecolor=color, edgecolor=LINE, label=label) for color, label in STATES]
        axes.legend(
            handles=handles, frameon=False, fontsize=8.5, ncols=3, loc="lower left", bbox_to_anchor=(0, 1)
        )
        return finished(canvas, "panel_view", title, alt, _table(rows, minimum))


def cohort_rows(study: Study) -> list[tuple[str, Cells]]:
    """Name and (periods, 3) numbers of units untrained, trained and not seen, for each cohort that may be shown.

    In order of the start, the never trained last. The name holds the number of units, but for the smallest cohort
    where another is left out: it would be found by subtraction.
    """
    start = study.frame["start"].fillna(NEVER)
    sizes = study.frame.drop_duplicates("unit")["start"].fillna(NEVER).value_counts()
    groups, left_out = cohort_groups(sizes, study.program.analysis.minimum_group_size)
    smallest = min((int(sizes[group].sum()) for group in groups), default=0) if left_out else 0
    cells = study.frame.groupby([start, "period", "treated"]).size()
    rows = []
    for group in groups:
        units, found = int(sizes[group].sum()), np.zeros((len(study.periods), 3), dtype=np.int64)
        own = cells[cells.index.isin(group, level=0)].reset_index(name="units")
        np.add.at(found, (own["period"].to_numpy(), own["treated"].to_numpy()), own["units"].to_numpy())
        found[:, 2] = units - found.sum(axis=1)
        rows.append((cohort_name(study, group) + (f" ({units:,})" if units != smallest else ""), found))
    return rows


def cohort_groups(sizes: pd.Series, minimum: int) -> tuple[list[list[float]], bool]:
    """Starts that are shown as one, in order, and whether any are left out; by their numbers of units.

    A start with the minimum group is shown alone. All others are put together before the never trained, or left out
    if together they are still too few.
    """
    few = sorted(float(start) for start in sizes.index[sizes < minimum])
    groups = [[float(start)] for start in sorted(sizes.index[sizes >= minimum])]
    pooled = len(few) > 1 and int(sizes[few].sum()) >= minimum
    if pooled:
        groups.append(few)
    return sorted(groups, key=lambda group: (group == [NEVER], len(group))), bool(few) and not pooled


def cohort_name(study: Study, starts: Sequence[float]) -> str:
    """'never trained', 'from 2025-03-03', or 'smaller cohorts' with the first and last of their starts."""
    known = [study.periods[int(start)] for start in starts if start != NEVER]
    if len(starts) == 1:
        return f"from {known[0]}" if known else "never trained"
    return f"smaller cohorts, {known[0]} to {known[-1]}" + (", or never" if len(known) < len(starts) else "")


def _colours(counts: Cells, minimum: int) -> NDArray[np.float64]:
    """(periods, 3) red, green and blue of the cells of a cohort."""
    shown = counts.copy()
    for cell in shown:
        most = int(np.argmax(cell))
        small = (cell < minimum) & (np.arange(3) != most)
        cell[most] += cell[small].sum()
        cell[small] = 0
    shares = shown / shown.sum(axis=1, keepdims=True)
    return shares @ np.array([to_rgb(color) for color, _ in STATES])


def _table(rows: Sequence[tuple[str, Cells]], minimum: int) -> pd.DataFrame:
    """One row per cohort: the most of its units that had no KPI in a period, small numbers hidden."""
    most = [int(counts[:, 2].max()) for _, counts in rows]
    hidden = [f"fewer than {minimum}" if 0 < count < minimum else f"{count:,}" for count in most]
    return pd.DataFrame(
        {"cohort (units)": [name for name, _ in rows], "most without a KPI at a time": hidden}
    )


def _title(study: Study) -> str:
    frame, design = study.frame, study.program.design
    starts = frame["start"].dropna()
    units = frame["unit"].nunique()
    trained = frame.loc[frame["arm"] == 1, "unit"].nunique()
    count = starts.nunique()
    first, last = (study.periods[int(rank)] for rank in (starts.min(), starts.max()))
    named = f"{design.period} {first}" if isinstance(first, int) else f"{first}"
    when = f"in {named}" if count == 1 else f"in {count} waves, {named} to {last}"
    whom = f"{trained:,} of {units:,}" if trained < units else f"all {units:,}"
    return f"Training reached {whom} {design.units} {when}"


def _alt(study: Study, rows: Sequence[tuple[str, Cells]]) -> str:
    design, minimum = study.program.design, study.program.analysis.minimum_group_size
    said = []
    for name, counts in rows:
        most = int(counts[:, 2].max())
        share = counts[:, 2].sum() / counts.sum()
        missing = (
            f"{share:.0%} without a KPI"
            if most >= minimum
            else f"fewer than {minimum} without a KPI at any time"
        )
        said.append(f"{name}: {missing if most else 'all with a KPI throughout'}")
    return (
        f"{_title(study)}. Cohorts by {design.period}, with their numbers of {design.units}, coloured by whether they are "
        f"trained and seen. {'; '.join(said)}."
    )
