"""An experiment from sums: tea-tasting held against hand-solved tables, and the sums' answers against those of the rows."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tea_tasting as tt
from scipy import stats
from tea_tasting.aggr import Aggregates

import ldlab
from ldlab import checks
from ldlab.ab.arms import arms as arms_of_rows
from ldlab.ab.at_scale import at_scale
from ldlab.ab.from_sums import ONE_SLOPE, answers, effect, percent
from ldlab.ab.kpis import kpis as kpis_of_rows
from ldlab.ab.means import ADJUSTED, regression_adjusted
from ldlab.ab.percent import percent_effect
from ldlab.ab.ratio import least_squares
from ldlab.checks.at_scale import at_scale as scale_checks
from ldlab.checks.joint_balance import joint_test
from ldlab.data import identifiers
from ldlab.data.experiment_sums import load_experiment
from ldlab.data.unit_ids import UnitIds, unit_ids
from ldlab.disclosure import scan_folder
from ldlab.program import InputError, LdlabError, Program
from ldlab.report import conclude
from tests.projects import make_project, merged, write_program, write_table

WELCH: dict[str, Any] = {
    "equal_var": False,
    "use_t": True,
    "confidence_level": 0.9,
    "alternative": "two-sided",
}


def table(n: int = 1200, seed: int = 1, effect: float = -0.5) -> pd.DataFrame:
    """Three arms; a KPI with a KPI before that a third lack, a rate, a heavy-tailed and a binary KPI; gaps."""
    rng = np.random.default_rng(seed)
    arm = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    before = rng.normal(50, 8, n)
    hours = rng.uniform(1, 9, n)
    spend = np.exp(rng.normal(3, 1, n))
    frame = pd.DataFrame(
        {
            "agent": np.arange(n) + 10_000,
            "arm": np.array(["control", "video", "coach"])[arm],
            "minutes": before * 0.5 + 25 + rng.normal(0, 4, n) + effect * arm,
            "minutes_before": np.where(rng.random(n) < 0.3, np.nan, before),
            "tickets": rng.poisson(hours * (2 + 0.1 * arm)).astype(float),
            "hours": hours,
            "spend": spend,
            "spend_before": spend * np.exp(rng.normal(0, 0.5, n)),
            "solved": (rng.random(n) < 0.5) * 1,
            "solved_before": (rng.random(n) < 0.4) * 1,
            "age": rng.normal(40, 9, n),
            "assigned_on": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 20, n), unit="D"),
            "site": rng.choice(["North", "South"], n),
        }
    )
    frame.loc[rng.random(n) < 0.05, "minutes"] = np.nan
    frame.loc[rng.random(n) < 0.03, "tickets"] = np.nan
    return frame


def program_of(folder: Path, frame: pd.DataFrame, **changes: Any) -> Program:
    project = make_project(folder)
    frame.to_parquet(project / "data" / "table.parquet", index=False, row_group_size=500)
    euro, points = {"value": 1.0, "unit": "EUR"}, {"value": 5.0, "unit": "percentage points"}
    asked: dict[str, Any] = {
        "data": {"source": "data/table.parquet"},
        "kpi": {"before_column": "minutes_before"},
        "design": {
            "columns": {"unit": "agent", "treatment": "arm", "assigned_on": "assigned_on", "segment": "site"},
            "treated_values": ["video", "coach"],
            "control_value": "control",
            "planned_shares": {"control": 0.5, "video": 0.3, "coach": 0.2},
        },
        "secondary_kpis": [
            {
                "column": "tickets", "label": "tickets per hour", "unit": "tickets per hour", "direction": "increase",
                "value_type": "rate", "exposure_column": "hours",
                "smallest_effect_worth_having": {"value": 0.1, "unit": "tickets per hour"},
            },
            {
                "column": "spend", "label": "spend", "unit": "EUR", "direction": "increase", "value_type": "continuous",
                "before_column": "spend_before", "winsorise": {"above": 0.99}, "smallest_effect_worth_having": euro,
            },
        ],
        "guard_rails": [
            {
                "column": "solved", "label": "solved", "unit": "percentage points", "direction": "increase",
                "value_type": "binary", "before_column": "solved_before", "largest_acceptable_harm": points,
            }
        ],
    }  # fmt: skip
    said = merged(asked, changes)
    if "query" in said["data"]:
        said["data"]["source"] = None
    return ldlab.load_program(write_program(project, **said), project)


def two_arms(folder: Path, frame: pd.DataFrame, **changes: Any) -> Program:
    """One program arm, one KPI."""
    design = {
        "columns": {"unit": "agent", "treatment": "trained", "assigned_on": None, "segment": None},
        "treated_values": None, "control_value": None, "planned_shares": None,
    }  # fmt: skip
    none = {"design": design, "secondary_kpis": None, "guard_rails": None, "kpi": {"before_column": None}}
    return program_of(folder, frame, **merged(none, changes))


# tea-tasting on tables solved by hand.


def test_tea_tasting_mean_by_hand() -> None:
    # Control 2, 4, 6: mean 4, variance 4. Treatment 5, 7, 9, 11: mean 8, variance 20/3.
    # Welch: variance 4/3 + 5/3 = 3; df = 3^2 / ((4/3)^2/2 + (5/3)^2/3) = 9 / (8/9 + 25/27) = 243/49.
    control, treatment = Aggregates(3, {"y": 4.0}, {"y": 4.0}), Aggregates(4, {"y": 8.0}, {"y": 20 / 3})
    found = tt.Mean("y", **WELCH).analyze_aggregates(control, treatment)
    half = stats.t.ppf(0.95, 243 / 49) * math.sqrt(3)
    assert found.effect_size == 4
    assert found.statistic == pytest.approx(4 / math.sqrt(3))
    assert (found.effect_size_ci_lower, found.effect_size_ci_upper) == pytest.approx((4 - half, 4 + half))
    # Relative: 8/4 - 1. On the log scale the means' variances are 4/3/4^2 = 1/12 and 5/3/8^2 = 5/192, together 21/192;
    # df = (21/192)^2 / ((1/12)^2/2 + (5/192)^2/3).
    df = (21 / 192) ** 2 / ((1 / 12) ** 2 / 2 + (5 / 192) ** 2 / 3)
    assert found.rel_effect_size == 1
    assert found.rel_effect_size_ci_upper == pytest.approx(
        2 * math.exp(stats.t.ppf(0.95, df) * math.sqrt(21 / 192)) - 1
    )


def test_tea_tasting_cuped_has_one_slope_for_all_arms() -> None:
    # x is 0, 1, 2 in both arms; y 0, 3, 3 in control and 4, 4, 7 in treatment.
    x, y0, y1 = np.array([0.0, 1, 2]), np.array([0.0, 3, 3]), np.array([4.0, 4, 7])
    theta = np.cov(np.r_[x, x], np.r_[y0, y1])[0, 1] / np.var(np.r_[x, x], ddof=1)
    assert theta == pytest.approx(1.5)  # sum of (x - 1) y: 3 + 3, over sum of (x - 1)^2: 2 + 2
    groups = [
        Aggregates(
            3, {"x": 1.0, "y": y.mean()}, {"x": 1.0, "y": y.var(ddof=1)}, {("x", "y"): np.cov(x, y)[0, 1]}
        )
        for y in (y0, y1)
    ]
    found = tt.Mean("y", "x", **WELCH).analyze_aggregates(*groups)
    # Residual variances: 3 + 1.5^2 - 3 * 1.5 = 0.75 in both arms.
    assert found.effect_size == pytest.approx(3)
    assert found.statistic == pytest.approx(3 / math.sqrt(0.75 / 3 * 2))


def test_tea_tasting_ratio_is_total_over_total() -> None:
    # Counts 2, 4 over hours 1, 3: rate 6/4; residuals 2 - 1.5 = .5 and 4 - 4.5 = -.5; variance .5 / 2^2 = .125.
    sums = Aggregates(2, {"n": 3.0, "h": 2.0}, {"n": 2.0, "h": 2.0}, {("n", "h"): 2.0})
    assert sums.ratio_var("n", "h") == pytest.approx(0.125)
    other = Aggregates(2, {"n": 6.0, "h": 2.0}, {"n": 2.0, "h": 2.0}, {("n", "h"): 2.0})
    found = tt.RatioOfMeans("n", "h", **WELCH).analyze_aggregates(sums, other)
    assert found.effect_size == pytest.approx(1.5)


def test_tea_tasting_counts_units_without_a_kpi() -> None:
    """The trap that makes its intervals too narrow: hand it rows with gaps and they are in n."""
    frame = pd.DataFrame({"arm": [0, 0, 0, 0, 1, 1, 1, 1], "y": [1.0, 3, None, None, 2, 4, None, None]})
    aggregates = tt.aggr.read_aggregates(
        frame, "arm", has_count=True, mean_cols=["y"], var_cols=["y"], cov_cols=[]
    )
    assert aggregates[0].count() == 4 and aggregates[0].mean("y") == 2


def test_tea_tasting_sample_ratio_is_the_chi_square_of_two_arms() -> None:
    groups = {0: Aggregates(5_200), 1: Aggregates(4_800)}
    p = tt.SampleRatio(1, method="norm", correction=False).analyze(groups, 0, 1).pvalue
    assert p == pytest.approx(stats.chisquare([5_200, 4_800]).pvalue)


def test_tea_tasting_holm_and_benjamini_hochberg(tmp_path: Path) -> None:
    from statsmodels.stats.multitest import multipletests

    frame = pd.DataFrame({f"y{i}": np.random.default_rng(i).normal(0, 1, 400) for i in range(3)})
    frame["variant"] = np.arange(400) % 2
    frame["y1"] += 0.3 * frame["variant"]
    result = tt.Experiment({name: tt.Mean(name, **WELCH) for name in ("y0", "y1", "y2")}).analyze(frame)
    p = [row["pvalue"] for row in result.to_dicts()]
    holm = tt.adjust_fwer(result, arbitrary_dependence=True, method="bonferroni")
    fdr = tt.adjust_fdr(result)
    assert [r["pvalue_adj"] for r in holm.to_dicts()] == pytest.approx(multipletests(p, method="holm")[1])
    assert [r["pvalue_adj"] for r in fdr.to_dicts()] == pytest.approx(multipletests(p, method="fdr_bh")[1])


# Sums against rows.


def test_answers_are_those_of_the_rows(tmp_path: Path) -> None:
    program = program_of(tmp_path, table())
    experiment, study = load_experiment(program), ldlab.load_study(program)
    rows = (study, *study.secondary, *study.guard_rails)
    assert experiment.baseline == pytest.approx(study.baseline, abs=1e-10)
    for kpi, whole in zip(experiment.kpis, rows, strict=True):
        for treated, part in (((1, 2), whole), ((1,), whole.versus("video"))):
            of_rows = {estimate.method: estimate for estimate in least_squares(part)}
            found = answers(kpi, treated)
            assert found[0].method == least_squares(part)[0].method
            for estimate in found:
                if estimate.method == ONE_SLOPE:
                    continue
                same = of_rows[estimate.method]
                assert estimate.value == pytest.approx(same.value, abs=1e-9)
                assert (estimate.n, estimate.df) == (same.n, same.df)
                # HC2 to the last digits; HC1 for HC2 where adjusted: a heavy-tailed KPI before shows the difference.
                assert estimate.se == pytest.approx(same.se, rel=1e-9 if estimate.se_kind == "HC2" else 0.06)


def test_adjusted_errors_are_hc1_of_the_rows(tmp_path: Path) -> None:
    program = program_of(tmp_path, table(300))
    experiment, study = load_experiment(program), ldlab.load_study(program)
    pairs = [
        (experiment.kpis[0], study),
        (experiment.kpis[2], study.secondary[1]),
        (experiment.kpis[3], study.guard_rails[0]),
    ]
    for kpi, rows in pairs:
        for treated, part in (((1, 2), rows), ((2,), rows.versus("coach"))):
            found, same = effect(kpi, treated, adjusted=True), regression_adjusted(part, se="HC1")
            assert found.se_kind == "HC1"
            assert (found.value, found.se) == pytest.approx((same.value, same.se), rel=1e-9)


def test_other_covariates_take_one_spread_within_each_arm(tmp_path: Path) -> None:
    frame = table(4000)
    frame.loc[::50, "age"] = np.nan
    program = program_of(tmp_path, frame, design={"columns": {"covariates": ["age"]}})
    kpi, study = load_experiment(program).primary, ldlab.load_study(program)
    found, same = effect(kpi, (1, 2), adjusted=True), regression_adjusted(study)
    assert found.se_kind == "residual variance by arm, from sums"
    assert found.value == pytest.approx(same.value, abs=1e-9)
    assert found.se == pytest.approx(same.se, rel=5e-3)
    assert found.n == same.n


def test_percent_arms_and_kpis_are_those_of_the_rows(tmp_path: Path) -> None:
    program = program_of(tmp_path, table())
    experiment, study = load_experiment(program), ldlab.load_study(program)
    found = at_scale(experiment)
    plain = next(e for e in found.estimates if e.method == "difference in means")
    of_rows = next(e for e in least_squares(study) if e.method == "difference in means")
    a, b = percent(experiment.primary, (1, 2), plain), percent_effect(study, of_rows)
    assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high), rel=1e-6)
    rows = arms_of_rows(study)
    assert found.arms is not None and rows is not None
    for mine, theirs in zip(found.arms.against_control, rows.against_control, strict=True):
        assert mine.estimate.value == pytest.approx(theirs.estimate.value, abs=1e-9)
        assert mine.p_simultaneous == pytest.approx(theirs.p_simultaneous, abs=0.02)
        assert mine.p_holm == pytest.approx(theirs.p_holm, abs=0.02)
    several = kpis_of_rows(study)
    assert [k.verdict for k in found.kpis.secondary] == [k.verdict for k in several.secondary]
    assert [r.state for r in found.kpis.guard_rails] == [r.state for r in several.guard_rails]
    assert found.cuped is not None and 0.2 < found.cuped.variance_reduction < 0.6


def test_a_known_effect_and_none(tmp_path: Path) -> None:
    for number, (size, seen) in enumerate(((-1.5, True), (0.0, False))):
        program = program_of(tmp_path / str(number), table(4000, seed=5, effect=size))
        lead = at_scale(load_experiment(program)).estimates[0]
        mixed = size * (0.3 * 1 + 0.2 * 2) / 0.5
        assert lead.method == ADJUSTED and abs(lead.value - mixed) < 3 * lead.se
        assert (lead.high < 0) == seen


def test_false_alarms_of_the_leading_estimate(tmp_path: Path) -> None:
    """60 worlds without an effect at level 90%: 1 to 13 false alarms (a binomial(60, .1) leaves that 3 times in 1,000)."""
    wrong = 0
    for seed in range(60):
        frame = table(250, seed=100 + seed, effect=0.0)[["agent", "arm", "minutes", "minutes_before"]]
        frame["trained"] = (frame["arm"] != "control").astype(int)
        program = two_arms(tmp_path / str(seed), frame, kpi={"before_column": "minutes_before"})
        estimate = answers(load_experiment(program).primary, (1,))[0]
        wrong += estimate.low > 0 or estimate.high < 0
    assert 1 <= wrong <= 13


def test_no_digits_are_lost_far_from_zero(tmp_path: Path) -> None:
    frame = table(800)
    frame["trained"] = (frame["arm"] != "control").astype(int)
    frame["minutes"] += 1e9
    frame["minutes_before"] += 1e9
    program = two_arms(tmp_path, frame, kpi={"before_column": "minutes_before"})
    kpi, study = load_experiment(program).primary, ldlab.load_study(program)
    near = study.frame["outcome"] - 1e9
    expected = near.groupby(study.frame["arm"]).agg(["mean", "var"])
    for place in (0, 1):
        moments = kpi.of([place])
        assert moments.mean[0] - 1e9 == pytest.approx(expected["mean"][place], abs=1e-5)
        assert moments.covariance[0, 0] == pytest.approx(expected["var"][place], rel=1e-6)


@pytest.mark.parametrize("kind", ["nan", "csv", "query", "log"])
def test_other_ways_to_the_same_sums(tmp_path: Path, kind: str) -> None:
    frame = table(400).drop(columns="minutes_before")
    frame["trained"] = (frame["arm"] != "control").astype(int)
    changes: dict[str, Any] = {}
    if kind == "csv":
        make_project(tmp_path)
        frame.to_csv(tmp_path / "data" / "table.csv", index=False)
        changes = {"data": {"source": "data/table.csv"}}
    elif kind == "query":
        changes = {"data": {"source": None, "query": "SELECT * FROM 'data/table.parquet'"}}
    elif kind == "log":
        amount = {"value": 1.0, "unit": "percent of baseline"}
        changes = {"kpi": {"scale": "log", "target": amount, "smallest_effect_worth_having": amount}}
    program = two_arms(tmp_path, frame, **changes)
    if kind == "nan":
        import duckdb

        path = (tmp_path / "data" / "table.parquet").as_posix()
        sql = f"SELECT * REPLACE (coalesce(minutes, 'nan'::DOUBLE) AS minutes) FROM '{path}'"
        duckdb.sql(f"COPY ({sql}) TO '{path}2' (FORMAT parquet)")
        Path(f"{path}2").replace(path)
    experiment, study = load_experiment(program), ldlab.load_study(program)
    found, same = effect(experiment.primary, (1,)), least_squares(study)[0]
    assert (found.value, found.se) == pytest.approx((same.value, same.se), rel=1e-9)
    assert found.n == same.n and experiment.baseline == pytest.approx(study.baseline)
    assert experiment.target == pytest.approx(study.target)


def test_units_in_two_arms_are_left_out_and_counted(tmp_path: Path) -> None:
    frame = table(600)
    again = frame.iloc[:20].assign(arm=lambda f: np.where(f["arm"] == "video", "coach", "video"))
    program = program_of(tmp_path, pd.concat([frame, again]), secondary_kpis=None)
    experiment, study = load_experiment(program), ldlab.load_study(program)
    assert experiment.two_arms == 20 and experiment.assigned.sum() == 580
    assert experiment.by_day is not None and experiment.by_day.to_numpy().sum() == 580
    assert effect(experiment.primary, (1, 2)).value == pytest.approx(least_squares(study)[1].value, abs=1e-9)
    assert "20 agents left out" in str(experiment)
    assert {c.name: c.status for c in scale_checks(experiment)}["people in two arms"] == "failed"


# Checks.


def test_an_intact_experiment_passes_and_the_numbers_are_those_of_the_rows(tmp_path: Path) -> None:
    program = program_of(tmp_path, table(1500))
    experiment, study = load_experiment(program), ldlab.load_study(program)
    found = {check.name: check for check in scale_checks(experiment)}
    assert {check.status for check in found.values()} == {"passed"}
    ratio = checks.sample_ratio(study)
    assert ratio is not None and found["sample ratio"].statistic == pytest.approx(ratio.statistic)
    rows = joint_test(study, study.frame)
    assert rows is not None and found["balance"].statistic == pytest.approx(rows.p, rel=1e-6)


def test_planted_faults_are_found_and_break_the_claim(tmp_path: Path) -> None:
    frame = table(3000)
    late = (frame["assigned_on"] >= "2026-01-15") & (frame["arm"] == "coach") & (frame.index % 2 == 0)
    frame = frame[~late]
    frame.loc[(frame["arm"] == "video") & (frame.index % 3 == 0), "minutes"] = np.nan
    frame["minutes_before"] += np.where(frame["arm"] == "video", 3.0, 0.0)
    experiment = load_experiment(program_of(tmp_path, frame))
    found = {check.name: check for check in scale_checks(experiment)}
    broken = {name for name, check in found.items() if check.status == "failed"}
    assert {"sample ratio by day of assignment", "missing KPI", "balance"} <= broken
    assert "arm coach" in found["sample ratio by day of assignment"].sentence
    result = conclude(experiment, "ab_at_scale", at_scale(experiment).estimates, tuple(found.values()))  # type: ignore[arg-type]
    assert result.claim.verdict == "not readable"


# Bad input.


def refused(program: Program) -> str:
    with pytest.raises((InputError, LdlabError)) as caught:
        load_experiment(program)
    return str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: f.assign(arm=f["arm"].replace("coach", "Control ")), "only video, coach (trained) and control"),
        (lambda f: f.assign(solved=f["solved"] * 2), "0 and 1 for a binary KPI"),
        (lambda f: f.assign(tickets=f["tickets"] - 50), "whole numbers from 0 up"),
        (lambda f: f.assign(hours=0.0), "exposures above 0"),
        (lambda f: f.assign(minutes=np.inf), "infinite values"),
        (lambda f: f.assign(minutes_before=1.0), "one value or none"),
        (lambda f: f[(f["arm"] != "coach") | (f.index < 12)], "fewer than 10 agents with a KPI in arm coach"),
        (lambda f: pd.concat([f, f.iloc[:3]]), "3 repeated keys"),
        (lambda f: f.assign(agent=f["agent"].where(f.index > 1)), "2 rows without a unit"),
        (lambda f: f.drop(columns="spend"), "no column 'spend'"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_in_the_words_of_the_rows(tmp_path: Path, spoil: Any, words: str) -> None:
    assert words in refused(program_of(tmp_path, spoil(table(300))))


def test_what_needs_rows_is_refused_by_name(tmp_path: Path) -> None:
    said = refused(program_of(tmp_path, table(100), design={"columns": {"cluster": "site"}}))
    assert "columns.cluster" in said and "ab_test" in said


# Disclosure: ids are looked up, not listed.


def test_ids_that_are_looked_up_are_found_as_listed_ones_are(tmp_path: Path) -> None:
    frame = table(300).assign(agent=[f"Ä-{i}" if i % 100 == 0 else f"E-{i:05d}-x" for i in range(300)])
    program = program_of(tmp_path, frame)
    pages = tmp_path / "pages"
    pages.mkdir()
    looked_up = UnitIds(frozenset(), (program,))
    for text, leaks in (
        ("<p>e-00017-X</p>", 1),
        ("<p>Ä-200, 00017 and x</p>", 1),
        ("<p>E-00017 and 00018-x</p>", 0),
    ):
        (pages / "report.html").write_text(text, encoding="utf-8")
        listed = scan_folder(pages, ids=identifiers(program), minimum=10)
        assert [str(leak) for leak in listed] == [
            str(leak) for leak in scan_folder(pages, ids=looked_up, minimum=10)
        ]
        assert len(listed) == leaks
    assert unit_ids(program).listed == identifiers(program)
    assert looked_up.short() == {"Ä-0"}


def test_an_experiment_holds_no_unit(tmp_path: Path) -> None:
    experiment = load_experiment(program_of(tmp_path, table(300)))
    sizes = [np.size(getattr(kpi, f.name)) for kpi in experiment.kpis for f in dataclasses.fields(kpi)]
    assert max(sizes) < 300
    assert "10017" not in json.dumps(str(experiment))


def test_the_notebook_runs_and_a_breached_guard_rail_holds_the_rule_back(tmp_path):
    project = make_project(tmp_path, notebooks=True)
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"agent": [f"emp-{i:05d}" for i in range(2000)], "trained": np.arange(2000) % 2})
    table["minutes"] = 30 - 4 * table["trained"] + 3 * rng.normal(size=2000)
    table["mood"] = 5 - 1 * table["trained"] + rng.normal(size=2000)
    write_table(project, table)
    rail = {"column": "mood", "label": "mood", "unit": "points", "direction": "increase"}
    rail |= {"value_type": "continuous", "largest_acceptable_harm": {"value": 0.2, "unit": "points"}}
    write_program(
        project,
        guard_rails=[rail],
        design={"planned_treated_share": 0.5},
        analysis={"notebooks": ["ab_at_scale"]},
    )
    command = [sys.executable, "-m", "ldlab.cli", "--project", str(project), "run", "--jobs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((project / "outputs/tickets/ab_at_scale/estimate.json").read_text())
    assert found["lead"]["low"] < -4 < found["lead"]["high"] and found["lead"]["p_target"] > 0.99
    assert [one["state"] for one in found["guard_rails"]] == ["breached"]
    assert found["decision"]["decision"] == "fix" and "mood" in found["decision"]["reason"]
    page = (project / "outputs/tickets/program_brief/report.html").read_text()
    assert "emp-0" not in page and "breached" in page


def test_several_looks_need_the_rows(tmp_path):
    project = make_project(tmp_path)
    write_table(project, pd.DataFrame({"agent": range(40), "trained": [0, 1] * 20, "minutes": range(40)}))
    program = ldlab.load_program(write_program(project, looks={"method": "always_valid"}), project)
    with pytest.raises(InputError, match=r"looks.method: found always_valid; expected one look .*ab_test"):
        load_experiment(program)
