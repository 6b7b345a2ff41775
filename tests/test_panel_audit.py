"""Who is in the panel: the audit, attrition, Lee bounds, and their pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ldlab.checks.arms import missing_kpi
from ldlab.checks.attrition import LARGEST_GAP, OVERALL
from ldlab.checks.attrition import attrition as attrition_check
from ldlab.data import load_study
from ldlab.data.audit import panel_audit, panel_notes
from ldlab.data.contract import checked_frame
from ldlab.data.read import read_table
from ldlab.did.attrition import attrition, lee_bounds
from ldlab.plots import panel as panel_plot
from ldlab.plots import samples
from ldlab.program import LdlabError, Study, load_program
from tests.projects import PANEL_DESIGN, make_project, panel, write_program, write_table
from tests.studies import make_study


def audited(project: Path, frame: pd.DataFrame, **changes: Any) -> tuple[pd.DataFrame, list[str]]:
    write_table(project, frame)
    program = load_program(write_program(project, **{"design": PANEL_DESIGN, **changes}), project)
    checked = checked_frame(read_table(program)[0], program)
    audit = panel_audit(checked.frame, program, checked.periods)
    return audit, [*checked.notes, *panel_notes(checked.frame, program, checked.periods)]


def weeks(units: int, periods: int = 4, start: int = 3) -> pd.DataFrame:
    """Every second unit starts in week ``start``; nobody is missing."""
    frame = panel(units, periods)
    return frame.assign(start=np.where(frame["start"].notna(), start, np.nan))


# The audit -----------------------------------------------------------------------------------------------------


def test_who_comes_and_goes_by_hand(tmp_path: Path) -> None:
    # 60 trained (odd numbers), 60 not. Of the trained: 12 have no row in week 1, 15 none in week 4, 11 others none in
    # week 2, and 20 no KPI in week 3.
    frame = weeks(120)
    number = frame["agent"].str[2:].astype(int)
    trained, rank, week = number % 2 == 1, number // 2, frame["week"]
    absent = (
        (rank < 12) & (week == 1)
        | (rank.between(12, 26) & (week == 4))
        | (rank.between(27, 37) & (week == 2))
    )
    frame.loc[trained & (rank >= 40) & (week == 3), "minutes"] = np.nan
    audit, notes = audited(make_project(tmp_path), frame[~(absent & trained)])
    assert audit.loc["trained"].to_dict("list") == {
        "units": [48, 49, 60, 45],
        "joined": [0, 12, 0, 0],
        "left": [0, 0, 0, 15],
        "away": [0, 11, 0, 0],
        "without KPI": [0, 0, 20, 0],
    }
    assert (audit.loc["comparison", "units"] == 60).all()
    assert audit.loc["comparison"].drop(columns="units").to_numpy().sum() == 0
    # 12 + 15 + 11 + 20 = 58 of the trained miss a week: 2 and the other 60 do not
    assert "62 of 120 agents have a KPI in every week. The others are kept" in notes[0]


def test_small_counts_are_hidden_also_from_subtraction(tmp_path: Path) -> None:
    # 3 of the trained leave before week 3 and 12 before week 4. The 15 who left in all may be known.
    frame = weeks(120)
    number = frame["agent"].str[2:].astype(int)
    trained, rank, week = number % 2 == 1, number // 2, frame["week"]
    gone = trained & ((rank < 3) & (week >= 3) | (rank < 15) & (week >= 4))
    audit, notes = audited(make_project(tmp_path), frame[~gone])
    assert list(audit.loc["trained", "left"]) == [0, 0, "fewer than 10", "not shown"]
    # exact numbers of units would give them away: 60, 60, 57, 45
    assert list(audit.loc["trained", "units"]) == ["about 60", "about 60", "about 60", "about 40"]
    assert list(audit.loc["comparison", "units"]) == [60, 60, 60, 60]
    assert "105 of 120 agents have a KPI in every week" in notes[0]
    few, said = audited(make_project(tmp_path), frame[~(trained & (rank < 3) & (week >= 3))])
    assert "Nearly all agents" in said[0] and "117" not in said[0] and "57" not in few.to_string()


def test_many_periods_are_put_together(tmp_path: Path) -> None:
    audit, _ = audited(make_project(tmp_path), weeks(40, periods=25))
    assert len(audit) == 16
    assert audit.loc["trained"].index[0] == "1\u00a0to\u00a04"


def test_those_who_move_between_arms_are_counted(tmp_path: Path) -> None:
    frame = weeks(80)
    number = frame["agent"].str[2:].astype(int)
    frame["team"] = np.where(number % 2 == 1, "T" + (number % 4).astype(str), "C" + (number % 4).astype(str))
    moves = (number % 2 == 1) & (number < 24) & (frame["week"] == 4)
    frame.loc[moves, "team"] = "C0"
    swaps = (number % 4 == 0) & (frame["week"] >= 3)  # from one comparison team to another
    frame.loc[swaps, "team"] = "C2"
    columns = {**PANEL_DESIGN["columns"], "team": "team"}
    audit, _ = audited(make_project(tmp_path), frame, design={**PANEL_DESIGN, "columns": columns})
    assert list(audit.loc["trained", "moved"]) == [0, 0, 0, 12]
    assert audit.loc["comparison", "moved"].sum() == 0


def test_what_a_reader_is_told(tmp_path: Path) -> None:
    project, frame = make_project(tmp_path), weeks(80)
    assert audited(project, frame)[1] == ["All 80 agents have a KPI in all 4 weeks."]
    number = frame["agent"].str[2:].astype(int)
    silent = frame.assign(minutes=frame["minutes"].where(number >= 12))
    assert (
        audited(project, silent)[1][1]
        == "12 further agents have no KPI in any week: nothing is said about them."
    )
    alone = frame.assign(start=frame["start"].where(number != 1, 4))
    assert "1 of 2 starts has fewer than 10 agents" in audited(project, alone)[1][1]
    everyone = frame.assign(start=frame["start"].fillna(4))
    assert "from 4 on there is none" in audited(project, everyone)[1][1]


# Attrition and Lee bounds ---------------------------------------------------------------------------------------


def before_and_after(trained: list[float | None], comparison: list[float | None]) -> pd.DataFrame:
    """Two periods; the KPI is 0 before, and as given after; None: not seen after."""
    rows = [
        (f"{arm}{i}", period, 1.0 if arm == "t" else np.nan, 0.0 if period == 0 else value)
        for arm, values in (("t", trained), ("c", comparison))
        for i, value in enumerate(values)
        for period in (0, 1)
        if period == 0 or value is not None
    ]
    return pd.DataFrame(rows, columns=["unit", "period", "start", "outcome"])


def test_lee_bounds_by_hand() -> None:
    # All 8 trained are seen after, with 1 to 8; 6 of 8 others, with mean 3. Share to take off: 1 - .75 / 1 = a quarter,
    # 2 of the 8. Lowest six: mean 3.5, bound .5; highest six: 5.5, bound 2.5. Nothing taken off: 4.5 - 3 = 1.5.
    study = make_study(
        before_and_after([1, 2, 3, 4, 5, 6, 7, 8], [2, 2, 3, 3, 4, 4, None, None]),
        "two_group_before_after",
        minimum=5,
    )
    bounds = lee_bounds(study)
    assert bounds is not None and bounds.arm == "trained"
    assert (bounds.lower.value, bounds.upper.value) == (pytest.approx(0.5), pytest.approx(2.5))
    # Lee's proposition 3 with n = 16, E[SD] = 1/2, 1 - p = 3/4, quantile 6, variance of 1..6 = 35/12:
    # 35/12 / (3/8) + 2.5^2 (1/4) / (3/8) + (2.5 / .75)^2 V^p, V^p = .75^2 (.25 / (.5 .75)) = .375 -> 16.1111;
    # comparison: variance 2/3 over 6/16 = 1.7778. Our factor for clusters: n / (n - 1).
    se = np.sqrt((16.11111 + 1.77778) / 16 * 16 / 15)
    assert bounds.lower.se == pytest.approx(se, rel=1e-5) and bounds.upper.se == pytest.approx(se, rel=1e-5)
    # Imbens & Manski: reach c with F(c + 2 / se) - F(-c) = .95, t with 15 degrees of freedom
    reach = (bounds.lower.value - bounds.low) / se
    assert stats.t.cdf(reach + 2 / se, 15) - stats.t.cdf(-reach, 15) == pytest.approx(0.95)
    assert stats.t.isf(0.05, 15) < reach < stats.t.isf(0.025, 15)
    # 2 of the comparison are lost, fewer than 5: neither the share nor the number that remains may show it
    assert (bounds.trimmed, bounds.lower.n["comparison"], bounds.lower.n["treated"]) == (None, None, 8)
    assert "25" not in str(bounds)


def test_the_arm_of_which_more_are_seen_is_trimmed() -> None:
    mirrored = before_and_after([2, 2, 3, 3, 4, 4, None, None], [1, 2, 3, 4, 5, 6, 7, 8])
    bounds = lee_bounds(make_study(mirrored, "two_group_before_after", minimum=5))
    assert bounds is not None and bounds.arm == "comparison"
    assert (bounds.lower.value, bounds.upper.value) == (pytest.approx(-2.5), pytest.approx(-0.5))


def test_where_nobody_is_lost_the_bounds_meet_at_the_difference() -> None:
    frame = before_and_after([1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5])
    bounds = lee_bounds(make_study(frame, "two_group_before_after", minimum=5))
    assert bounds is not None and bounds.trimmed == 0
    assert bounds.lower.value == bounds.upper.value == pytest.approx(1.0)
    # Welch's standard error with n - 1 in both variances replaced by n, and 12 / 11 for all: 2 * 35/12 / 6 * 12 / 11
    assert bounds.lower.se == pytest.approx(np.sqrt(2 * 35 / 12 / 6 * 12 / 11))
    assert bounds.low == pytest.approx(bounds.lower.low) and bounds.high == pytest.approx(bounds.upper.high)


def waves(
    rng: np.random.Generator, *, effect: float, low_performers_leave: float, n: int = 400, per_team: int = 1
) -> pd.DataFrame:
    """Three waves, the last for nobody; trained units with the lowest changes leave, and 5% of all."""
    periods = np.arange(8)
    start = np.repeat(rng.choice([3.0, 5.0, np.nan], size=n // per_team), per_team)
    trend = rng.normal(0, 0.3, size=n) + np.repeat(rng.normal(0, 0.4, size=n // per_team), per_team) * (
        per_team > 1
    )
    after = periods >= np.nan_to_num(start, nan=99)[:, None]
    outcome = rng.normal(size=n)[:, None] + 0.1 * periods + trend[:, None] * (periods >= 3) + effect * after
    outcome += rng.normal(0, 0.5, size=outcome.shape)
    scale = 0.5 if per_team > 1 else 0.3
    leaves = (trend < stats.norm.ppf(low_performers_leave, scale=scale)) & ~np.isnan(start)
    gone = (leaves[:, None] & after) | ((rng.random(n) < 0.05)[:, None] & (periods >= 3))
    unit, period = (grid.ravel() for grid in np.meshgrid(np.arange(n), periods, indexing="ij"))
    frame = pd.DataFrame({"unit": unit, "period": period, "start": start[unit], "outcome": outcome.ravel()})
    if per_team > 1:
        frame["cluster"] = frame["unit"] // per_team
    return frame[~gone.ravel()]


def staggered(frame: pd.DataFrame, **settings: Any) -> Study:
    return make_study(frame, {"kind": "staggered", **settings}, level=0.9)


@pytest.mark.parametrize(("effect", "per_team"), [(1.0, 1), (0.0, 1), (1.0, 10)])
def test_bounds_hold_the_effect_where_leavers_are_the_least_improved(effect: float, per_team: int) -> None:
    rng = np.random.default_rng(11)
    found = []
    for _ in range(60):
        frame = waves(rng, effect=effect, low_performers_leave=0.25, per_team=per_team)
        bounds, lost = lee_bounds(staggered(frame)), attrition(staggered(frame))
        assert bounds is not None and lost is not None
        found.append(
            (bounds.lower.value, bounds.upper.value, bounds.low, bounds.high, bounds.lower.se, lost.gap)
        )
    lower, upper, low, high, se, gap = np.array(found).T
    # The mean of those who stay is above the effect by .3 phi(z) / .75 = .13 (teams: .21): bounds must reach below it.
    assert lower.mean() < effect < upper.mean()
    assert ((low <= effect) & (effect <= high)).mean() >= 0.9
    assert se.mean() == pytest.approx(lower.std(ddof=1), rel=0.3)
    assert gap.mean() == pytest.approx(0.25 * 0.95, abs=0.04)


def test_attrition_that_does_not_depend_on_training_is_rarely_called_so() -> None:
    rng = np.random.default_rng(12)
    p = []
    for _ in range(200):
        lost = attrition(staggered(waves(rng, effect=1.0, low_performers_leave=1e-9, n=240)))
        assert lost is not None
        p.append(2 * stats.t.sf(abs(lost.gap / lost.se), lost.df))
    assert np.mean(np.array(p) < 0.05) < 0.1


def test_where_everyone_is_trained_the_last_cohort_is_the_comparison() -> None:
    frame = waves(np.random.default_rng(13), effect=1.0, low_performers_leave=0.2)
    never = lee_bounds(staggered(frame[frame["period"] < 7]))
    in_the_end = lee_bounds(staggered(frame.assign(start=frame["start"].fillna(7.0))))
    assert never is not None and in_the_end is not None
    assert (in_the_end.lower.value, in_the_end.upper.value) == (never.lower.value, never.upper.value)
    assert in_the_end.lower.se == pytest.approx(never.lower.se)


def test_anticipated_periods_are_neither_before_nor_after() -> None:
    frame = before_and_after([1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5])
    frame["period"] += frame["period"] == 1  # 0 and 2
    frame["start"] = frame["start"] + 1
    jump = frame[frame["period"] == 0].assign(period=1, outcome=50.0)
    study = make_study(
        pd.concat([frame, jump]), {"kind": "two_group_before_after", "anticipation": 1}, minimum=5
    )
    bounds = lee_bounds(study)
    assert bounds is not None and bounds.lower.value == pytest.approx(1.0)


def test_nothing_to_compare_is_none_and_not_run() -> None:
    alone = before_and_after([1, 2, 3, 4, 5, 6], [])
    study = make_study(alone, "before_after", minimum=5)
    assert lee_bounds(study) is None and attrition(study) is None
    check = attrition_check(None, study)
    assert (check.status, check.needed) == ("not_run", False)
    few = make_study(before_and_after([1, 2, 3, 4, 5, 6], [1, 2, 3]), "two_group_before_after", minimum=5)
    assert lee_bounds(few) is None
    assert attrition_check(attrition(few), few).status == "not_run"
    people = make_study(pd.DataFrame({"unit": range(20), "arm": [0, 1] * 10, "outcome": np.arange(20.0)}))
    with pytest.raises(LdlabError, match="one row per unit"):
        attrition(people)


# The check ------------------------------------------------------------------------------------------------------


def leavers(trained: int, comparison: int, n: int = 200) -> Study:
    """``n`` units an arm, of whom so many are not seen after."""
    after = np.random.default_rng(3).normal(size=2 * n)
    arms = [
        [None if i < lost else float(after[i + n * side]) for i in range(n)]
        for side, lost in enumerate((trained, comparison))
    ]
    return make_study(before_and_after(arms[0], arms[1]), "two_group_before_after")


@pytest.mark.parametrize(
    ("trained", "comparison", "status"),
    [
        (40, 12, "failed"),  # 20% against 6%: 14 points, boundary 6.1 at 13%
        (24, 16, "passed"),  # 4 points
        (40, 24, "failed"),  # 8 points, boundary 5.8 at 16%; p = .027
        (0, 0, "passed"),
    ],
)
def test_attrition_is_held_against_the_cautious_boundary(trained: int, comparison: int, status: str) -> None:
    study = leavers(trained, comparison)
    check = attrition_check(attrition(study), study, lee_bounds(study))
    assert (check.status, check.needed, check.breaks) == (status, True, False)
    assert check.statistic == pytest.approx(abs(trained - comparison) / 2, abs=0.05)
    assert f"{trained / 2:.0f}% of the trained and {comparison / 2:.0f}% of the comparison" in check.sentence


def test_the_check_by_hand() -> None:
    # 40 and 24 of 200: .2 - .12 = .08; se sqrt(.2 .8 / 200 + .12 .88 / 200) = .0364, t = 2.195
    study = leavers(40, 24)
    lost = attrition(study)
    assert lost is not None
    assert (lost.gap, lost.df, lost.overall) == (pytest.approx(0.08), 399, pytest.approx(0.16))
    assert lost.se == pytest.approx(np.sqrt((0.16 + 0.1056) / 200 * 400 / 399))
    check = attrition_check(lost, study, lee_bounds(study))
    # between 5.9 at 15% and 5.4 at 20%
    assert check.threshold == 5.8
    # (1.97 + .84) * 3.65 = 10.3 points
    assert check.power.startswith("a difference of 10 percentage points")
    assert "the effect on those who stay either way lies between" in check.sentence


def test_a_difference_that_chance_explains_is_not_called_harmless() -> None:
    study = leavers(20, 14, n=60)  # 10 points, p = .2
    check = attrition_check(attrition(study), study)
    assert check.status == "passed" and "a true one of that size could mislead" in check.sentence


def test_few_leavers_are_not_shown() -> None:
    study = leavers(7, 1)
    check = attrition_check(attrition(study), study, lee_bounds(study))
    assert (check.statistic, check.threshold, check.power) == (None, None, "")
    assert "fewer than 10 of an arm" in check.sentence and "%" not in check.sentence.split(".")[0]
    assert "fewer than 10" in str(attrition(study))


def test_the_boundary_is_the_published_table() -> None:
    # What Works Clearinghouse, Standards Handbook 4.0, table II.1, cautious
    published = {
        0: 5.7,
        5: 6.1,
        10: 6.3,
        15: 5.9,
        20: 5.4,
        25: 4.8,
        30: 4.1,
        35: 3.3,
        40: 2.6,
        45: 1.8,
        50: 1.0,
        55: 0.3,
        57: 0.0,
    }
    assert dict(zip(OVERALL, LARGEST_GAP, strict=True)) == published


# Missing KPI in panels ------------------------------------------------------------------------------------------


def missing_by(tmp_path: Path, frame: pd.DataFrame) -> Study:
    project = make_project(tmp_path)
    write_table(project, frame)
    return load_study(load_program(write_program(project, design=PANEL_DESIGN), project))


def test_missing_kpi_is_tested_between_units_not_rows(tmp_path: Path) -> None:
    # 4 of 20 trained and 2 of 20 others have no KPI in any of 30 weeks: 120 and 60 of 600 rows. By rows p < .0001; between
    # units p = .4.
    frame = weeks(40, periods=30)
    number = frame["agent"].str[2:].astype(int)
    silent = (number % 2 == 1) & (number < 8) | (number % 2 == 0) & (number < 4)
    study = missing_by(tmp_path, frame.assign(minutes=frame["minutes"].mask(silent)))
    assert study.missing["without KPI"].to_dict() == {0: 60, 1: 120}
    assert study.missing["units without KPI"].to_dict() == {0: 2, 1: 4}
    rows = stats.chi2_contingency([[120, 480], [60, 540]], correction=False).pvalue
    units = stats.ttest_ind([1] * 4 + [0] * 16, [1] * 2 + [0] * 18, equal_var=False).pvalue
    assert rows < 0.0001 < units
    check = missing_kpi(study)
    assert (check.status, check.statistic) == ("passed", 10.0)
    assert "120 of 600 trained (20%) and 60 of 600 comparison (10%) agent-weeks" in check.sentence
    assert "altogether for fewer than 10 trained and fewer than 10 comparison agents" in check.sentence
    # 2.8 sqrt(.41^2 / 20 + .31^2 / 20) = 32 points
    assert "a gap of 32 percentage points" in check.power


def test_missing_kpi_that_training_explains_fails(tmp_path: Path) -> None:
    frame = weeks(80)
    number = frame["agent"].str[2:].astype(int)
    silent = (number % 2 == 1) & (number < 30) & (frame["week"] >= 3)
    check = missing_kpi(missing_by(tmp_path, frame.assign(minutes=frame["minutes"].mask(silent))))
    assert check.status == "failed" and "who is missing depends on training" in check.sentence


# Pictures -------------------------------------------------------------------------------------------------------


def cohorts(sizes: dict[float, int], periods: int = 8) -> Study:
    rng = np.random.default_rng(2)
    start = np.repeat(list(sizes), list(sizes.values()))
    unit, period = (
        grid.ravel() for grid in np.meshgrid(np.arange(len(start)), np.arange(periods), indexing="ij")
    )
    frame = pd.DataFrame(
        {"unit": unit, "period": period, "start": start[unit], "outcome": rng.normal(50, 2, len(unit))}
    )
    return make_study(frame, "staggered")


def test_cells_count_the_untrained_the_trained_and_the_unseen() -> None:
    study = cohorts({3.0: 20, np.nan: 30})
    frame = study.frame[(study.frame["unit"] >= 15) | (study.frame["period"] < 6)]
    rows = panel_plot.cohort_rows(make_study(frame, "staggered"))
    assert [name for name, _ in rows] == ["from 3 (20)", "never trained (30)"]
    assert rows[0][1].tolist() == [[20, 0, 0]] * 3 + [[0, 20, 0]] * 3 + [[0, 5, 15]] * 2


def test_small_cohorts_are_put_together_and_smaller_ones_left_out() -> None:
    names = [name for name, _ in panel_plot.cohort_rows(cohorts({2.0: 20, 3.0: 6, 5.0: 7, np.nan: 12}))]
    assert names == ["from 2 (20)", "smaller cohorts, 3 to 5 (13)", "never trained (12)"]
    # one unit alone: left out, and the smallest number beside it too, from which it could be subtracted
    names = [name for name, _ in panel_plot.cohort_rows(cohorts({2.0: 20, 3.0: 1, np.nan: 12}))]
    assert names == ["from 2 (20)", "never trained"]
    drawn = samples.trends(cohorts({2.0: 20, 3.0: 6, 5.0: 7, np.nan: 12}))
    assert [text.get_text() for text in drawn.canvas.axes[0].get_legend().get_texts()] == [
        "from 2", "never trained", "smaller cohorts, 3 to 5",
    ]  # fmt: skip


def test_a_few_unseen_units_do_not_colour_a_cell() -> None:
    whole, few = (panel_plot._colours(np.array([cell]), 10) for cell in ([0, 30, 0], [0, 26, 4]))
    assert (whole == few).all()
    assert not (whole == panel_plot._colours(np.array([[0, 15, 15]]), 10)).any()


def test_the_panel_view_says_what_it_shows() -> None:
    figure = panel_plot.panel_view(cohorts({2.0: 20, 5.0: 15, np.nan: 12}))
    assert figure.title == "Training reached 35 of 47 agents in 2 waves, week 2 to 5"
    assert "from 2 (20): all with a KPI throughout" in figure.alt
    everyone = panel_plot.panel_view(cohorts({2.0: 20, 5.0: 15}))
    assert everyone.title == "Training reached all 35 agents in 2 waves, week 2 to 5"
    assert figure.png() == panel_plot.panel_view(cohorts({2.0: 20, 5.0: 15, np.nan: 12})).png()
    trend = samples.trends(cohorts({2.0: 20, np.nan: 12}))
    assert "from 2: " in trend.alt and "before" in trend.alt
