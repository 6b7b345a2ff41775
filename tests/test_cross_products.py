"""Cross-products added up by DuckDB: the same as from rows, whatever the file, and the same refusals."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest

from ldlab import bayes, load_cross_products, load_program, load_study
from ldlab.bayes.compiled import Sampling
from ldlab.bayes.units import cross_products, units_of
from ldlab.data.sums import Table, add_up
from ldlab.program import CrossProducts, InputError, LdlabError, Program
from tests.projects import REPOSITORY, agents, make_project, write_program, write_table

ARRAYS = ("arm", "segment", "cluster", "n", "y", "x", "xx", "xy", "yy")
SEGMENT = {"design": {"columns": {"segment": "site"}}}


def people(n: int = 3000, seed: int = 1) -> pd.DataFrame:
    """Agents at five sites, two of them small, in 60 teams; a text, an integer, a yes/no and a number known before."""
    rng = np.random.default_rng(seed)
    site = rng.choice(["north", "south", "west", "isle", "peak"], n, p=[0.5, 0.3, 0.19, 0.006, 0.004])
    frame = pd.DataFrame(
        {"agent": [f"a-{i:05d}" for i in range(n)], "trained": rng.integers(0, 2, n), "site": site}
    )
    frame["team"] = rng.integers(0, 60, n)
    frame["contract"] = rng.choice(["full", "part", "temp"], n, p=[0.6, 0.3, 0.1])
    frame["tenure"] = rng.integers(0, 20, n)
    frame["remote"] = rng.random(n) < 0.4
    frame["score"] = rng.normal(60, 8, n)
    frame["minutes"] = 1e3 + frame["score"] - 3 * frame["trained"] * (site == "north") + rng.normal(0, 5, n)
    return frame


COVARIATES = ["contract", "tenure", "remote", "score"]


def with_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    """The same with 1 in 20 missing of KPI, number, text and segment."""
    rng = np.random.default_rng(2)
    frame = frame.copy()
    for column in ("minutes", "score", "contract", "site"):
        frame.loc[rng.random(len(frame)) < 0.05, column] = None
    return frame


def program_of(project: Path, frame: pd.DataFrame | None = None, **changes: Any) -> Program:
    make_project(project)
    if frame is not None:
        file = project / "data" / "table.parquet"
        with duckdb.connect() as connection:
            connection.register("frame", frame)
            connection.execute(f"COPY frame TO '{file.as_posix()}' (FORMAT parquet)")
        changes = {"data": {"source": "data/table.parquet"}} | changes
    return load_program(write_program(project, **changes), project)


def same(program: Program, *, tolerance: float = 1e-9) -> CrossProducts:
    """Load both ways and compare everything."""
    found, rows = load_cross_products(program), cross_products(units_of(load_study(program)))
    for name in ("covariates", "segments", "clusters", "cut_off", "periods", "estimand"):
        assert getattr(found, name) == getattr(rows, name), name
    assert [entry for entry in found.left_out if not entry[0].endswith("a KPI")] == list(rows.left_out)
    assert found.baseline == pytest.approx(rows.baseline, rel=tolerance)
    for name in ARRAYS:
        there, here = getattr(rows, name), getattr(found, name)
        if there is None:
            assert here is None
            continue
        assert here.shape == there.shape and here.dtype == there.dtype
        size = max(np.abs(there).max(initial=0), 1.0 if name == "x" else 1e-300)  # x is in sds
        assert np.abs(here - there).max(initial=0) <= tolerance * size, name
    assert np.allclose(found.share, rows.share, rtol=tolerance) and found.count() == rows.count()
    return found


# The same numbers


def test_by_hand(tmp_path: Path) -> None:
    """Arm 0: y 1, 3 (mean 2, sum of squares 2), x 0, 2; arm 1: y 5, 7, x 1, 3. Mean of x 1.5, sd 1.118."""
    frame = pd.DataFrame(
        {"trained": [0, 0, 1, 1] * 10, "minutes": [1.0, 3, 5, 7] * 10, "x": [0.0, 2, 1, 3] * 10}
    )
    frame["agent"] = np.arange(len(frame))
    cells = load_cross_products(program_of(tmp_path, frame, design={"columns": {"covariates": ["x"]}}))
    sd = math.sqrt(1.25)
    assert cells.n.tolist() == [20, 20] and cells.y.tolist() == [2.0, 6.0] and cells.baseline == 2.0
    assert np.allclose(cells.x[:, 0], [-0.5 / sd, 0.5 / sd])
    assert np.allclose(cells.yy, [20, 20]) and np.allclose(cells.xx[:, 0, 0], [20 / sd**2, 20 / sd**2])
    assert np.allclose(cells.xy[:, 0], [20 / sd, 20 / sd])


@pytest.mark.parametrize("name", ["nsw", "nsw-cps"])
def test_shipped_programs(name: str) -> None:
    program = load_program(f"params/{name}.yaml", REPOSITORY)
    assert same(program).data_sha256 == load_study(program).data_sha256


@pytest.mark.parametrize("kind", ["randomised", "observational"])
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
@pytest.mark.parametrize("cluster", [None, "team"])
def test_segments_texts_and_gaps(tmp_path: Path, kind: str, gaps: bool, cluster: str | None) -> None:
    frame = with_gaps(people()) if gaps else people()
    columns = {"segment": "site", "covariates": COVARIATES, "cluster": cluster}
    found = same(program_of(tmp_path, frame, design={"kind": kind, "columns": columns}))
    assert (
        found.segments == ("north", "not recorded", "south", "west", "smaller groups")
        if gaps
        else found.segments
    )
    assert "smaller groups" in found.segments and "isle" not in found.segments
    assert found.covariates == ("contract: part", "contract: temp", "tenure", "remote", "score")
    lost = {"agents without a KPI": frame["minutes"].isna().sum()}
    lost["agents without some covariate"] = (
        frame.loc[frame["minutes"].notna(), COVARIATES].isna().any(axis=1).sum()
    )
    assert dict(found.left_out) == {why: count for why, count in lost.items() if count}


@pytest.mark.parametrize("name", ["table.csv", "table.parquet", "table.jsonl", "table.csv.gz"])
def test_every_format(tmp_path: Path, name: str) -> None:
    make_project(tmp_path)
    frame, file = with_gaps(people(600)), tmp_path / "data" / name
    if name.endswith("jsonl"):
        frame.to_json(file, orient="records", lines=True)
    elif name.endswith("parquet"):
        duckdb.from_df(frame).write_parquet(file.as_posix())
    else:
        frame.to_csv(file, index=False)
    columns = {"segment": "site", "covariates": COVARIATES}
    same(program_of(tmp_path, data={"source": f"data/{name}"}, design={"columns": columns}))


def test_globs_and_queries(tmp_path: Path) -> None:
    make_project(tmp_path)
    frame = people(900)
    for part in range(3):
        duckdb.from_df(frame.iloc[300 * part : 300 * part + 300]).write_parquet(
            (tmp_path / "data" / f"part-{part}.parquet").as_posix()
        )
    design = {"columns": {"segment": "site", "covariates": COVARIATES}}
    glob = same(program_of(tmp_path, data={"source": "data/part-*.parquet"}, design=design))
    query = "SELECT * FROM 'data/part-*.parquet' WHERE agent < 'a-00600' -- some;\n"
    some = same(program_of(tmp_path, data={"source": None, "query": query}, design=design))
    assert glob.n.sum() == 900 and some.n.sum() == 600
    turned = query.replace("-- some;\n", "ORDER BY agent DESC")
    again = load_cross_products(program_of(tmp_path, data={"source": None, "query": turned}, design=design))
    assert again.data_sha256 == some.data_sha256 != glob.data_sha256


@pytest.mark.parametrize(
    ("changes", "columns"),
    [
        ({"kpi": {"scale": "log", "target": {"value": 5.0, "unit": "percent of baseline"},
                  "smallest_effect_worth_having": {"value": 1.0, "unit": "percent of baseline"}}}, {}),
        ({"kpi": {"value_type": "duration"}}, {}),
        ({"design": {"treated_value": "new", "control_value": "old"}}, {"trained": "code"}),
        ({"design": {"treated_values": ["new", "newer"], "control_value": "old"}}, {"trained": "codes"}),
        ({"design": {"columns": {"assignment": "offered"}}}, {"offered": "offer"}),
    ],
    ids=["log", "duration", "codes", "arms", "offered"],
)  # fmt: skip
def test_scales_and_codes(tmp_path: Path, changes: dict[str, Any], columns: dict[str, str]) -> None:
    frame = with_gaps(people(800))
    made = {
        "code": frame["trained"].map({0: "old", 1: "new"}),
        "codes": np.where(frame["trained"] == 0, "old", np.where(frame["tenure"] < 9, "new", "newer")),
        "offer": np.maximum(frame["trained"], (frame["tenure"] > 15).astype(int)),
    }
    frame = frame.assign(**{name: made[how] for name, how in columns.items()})
    design = changes.get("design", {})
    used = {"segment": "site", "covariates": COVARIATES} | design.get("columns", {})
    for kind in ("randomised", "observational") if changes.get("kpi") else ("randomised",):
        same(program_of(tmp_path, frame, **(changes | {"design": design | {"kind": kind, "columns": used}})))


def test_equally_frequent_texts_are_taken_in_the_order_of_the_file(tmp_path: Path) -> None:
    frame = agents().assign(level=["c", "b", "a", "b", "a", "c", "d", "d"] * 5)
    found = same(program_of(tmp_path, frame, design={"columns": {"covariates": ["level"]}}))
    assert found.covariates == ("level: b", "level: a", "level: d")


def test_names_that_sql_could_trip_over(tmp_path: Path) -> None:
    names = {"site": 'si"te', "score": "c0", "minutes": "key_status", "contract": "it's", "tenure": "n"}
    frame = people(600).replace({"contract": {"temp": "o'clock"}}).rename(columns=names)
    columns = {"segment": 'si"te', "covariates": ["it's", "n", "c0"]}
    program = program_of(tmp_path, frame, kpi={"column": "key_status"}, design={"columns": columns})
    assert "it's: o'clock" in same(program).covariates


def test_not_a_number_is_missing(tmp_path: Path) -> None:
    frame = people(600)
    with duckdb.connect() as connection:
        connection.register("frame", frame)
        make_project(tmp_path)
        connection.execute(
            "COPY (SELECT * REPLACE (CASE WHEN tenure = 3 THEN 'nan'::DOUBLE ELSE score END AS score) FROM frame) "
            f"TO '{(tmp_path / 'data' / 'nan.parquet').as_posix()}' (FORMAT parquet)"
        )
    design = {"columns": {"covariates": ["score"]}}
    found = same(program_of(tmp_path, data={"source": "data/nan.parquet"}, design=design))
    assert dict(found.left_out) == {"agents without some covariate": (frame["tenure"] == 3).sum()}


# The same bits


def test_digits_survive_a_large_mean(tmp_path: Path) -> None:
    """Mean 1e6, sd 1, the first rows far away: squares about 0 would keep four digits of the variance."""
    rng, n = np.random.default_rng(5), 40_000
    frame = pd.DataFrame(
        {"agent": np.arange(n), "trained": np.arange(n) % 2, "minutes": 1e6 + rng.normal(size=n)}
    )
    frame["score"] = 1e6 + rng.normal(size=n)
    frame = frame.sort_values("minutes")
    found = same(program_of(tmp_path, frame, design={"columns": {"covariates": ["score"]}}), tolerance=1e-10)
    assert found.yy / found.n == pytest.approx([1, 1], abs=0.05)


def test_the_same_bits_again(tmp_path: Path) -> None:
    """Sums of 300,000 numbers depend on their order; a row group's do not depend on the number of threads."""
    rng, n = np.random.default_rng(6), 300_000
    frame = pd.DataFrame(
        {"agent": np.arange(n), "trained": rng.integers(0, 2, n), "minutes": rng.normal(9, 1, n)}
    )
    program = program_of(tmp_path, frame)
    file, bits = tmp_path / "data" / "table.parquet", set()
    for threads in (1, 2, 4, 4, 4):
        with duckdb.connect(config={"threads": threads}) as connection:
            table = Table.of([file], connection, tmp_path)
            assert table.row_group == 122_880
            found = add_up(table, {"arm": "trained"}, ['"minutes"'])
            bits.add(found.total.tobytes() + found.products.tobytes())
    assert len(bits) == 1
    assert load_cross_products(program).yy.tobytes() == load_cross_products(program).yy.tobytes()


def test_row_groups_that_are_not_alike_are_added_up_by_one_thread(tmp_path: Path) -> None:
    frame = people(9000)
    parts = [frame.iloc[:5000], frame.iloc[5000:]]
    files = [tmp_path / f"{i}.parquet" for i in range(2)]
    for part, file, size in zip(parts, files, (2048, 4096), strict=True):
        duckdb.from_df(part).write_parquet(file.as_posix(), row_group_size=size)
    with duckdb.connect() as connection:
        table = Table.of(files, connection, tmp_path)
        assert table.row_group is None
        found = add_up(table, {"arm": "trained"}, ['"minutes"'])
    assert found.n.sum() == 9000
    assert found.products.sum() == pytest.approx(((frame["minutes"] - found.shift[0]) ** 2).sum(), rel=1e-12)


# The same refusals


def refusals(program: Program) -> tuple[set[str], set[str]]:
    said = []
    for load in (load_cross_products, load_study):
        with pytest.raises(InputError) as caught:
            load(program)
        said.append({str(fault) for fault in caught.value.faults})
    return said[0], said[1]


def changed(**columns: Any) -> pd.DataFrame:
    return agents().assign(**columns)


@pytest.mark.parametrize(
    ("frame", "changes"),
    [
        (agents(), {"kpi": {"column": "minuts"}}),
        (agents(), {"data": {"source": "data/tabel.csv"}}),
        (pd.concat([agents(), agents().head(3)]), {}),
        (changed(minutes=["slow"] * 3 + [1.0] * 20 + [2.0] * 17), {}),
        (changed(trained=[0, 1, 2, 1] * 10), {}),
        (changed(trained=1), {}),
        (changed(trained=0), {}),
        (changed(trained=[1] * 4 + [0] * 36), {}),
        (changed(trained=[None, *[0, 1] * 19, 1]), {}),
        (changed(minutes=5.0), {}),
        (changed(minutes=[math.inf, *[1.0, 2.0] * 19, 3.0]), {}),
        (changed(minutes=None), {}),
        (changed(team="T1"), {"design": {"columns": {"cluster": "team"}}}),
        (changed(copy=agents()["trained"]), {"design": {"columns": {"covariates": ["copy"]}}}),
        (changed(copy=np.where(agents()["trained"], "a", "b")), {"design": {"columns": {"covariates": ["copy"]}}}),
        (changed(site="A"), {"design": {"columns": {"covariates": ["site"]}}}),
        (changed(site=3), {"design": {"columns": {"covariates": ["site"]}}}),
        (changed(site=[f"s{i}" for i in range(40)]), {"design": {"columns": {"covariates": ["site"]}}}),
        (changed(score=[math.inf, *range(39)]), {"design": {"columns": {"covariates": ["score"]}}}),
        (changed(minutes="2025-01-06"), {}),
        (agents().iloc[:0], {}),
        (changed(agent=None), {}),
        (changed(minutes=[-1.0, -2.0, *range(38)]), {"kpi": {"value_type": "duration"}}),
        (agents(), {"kpi": {"lowest": 0.0, "highest": 55.0}}),
        (agents(), {"kpi": {"lowest": 50.0, "target": {"value": 4.0, "unit": "minutes"}}}),
        (changed(minutes=[0.0, -2.0, *range(1, 39)]), {"kpi": {
            "scale": "log", "target": {"value": 5.0, "unit": "percent of baseline"},
            "smallest_effect_worth_having": {"value": 1.0, "unit": "percent of baseline"}}}),
        (changed(minutes=[-3.0, 3.0, 2.0, -2.5] * 10), {"kpi": {
            "target": {"value": 5.0, "unit": "percent of baseline"}}}),
        (agents(), {"agreement": {"too_early_before": "2025-03-01"}}),
        (changed(before=1.0), {"design": {"kind": "observational", "negative_controls": [
            {"column": "before", "label": "before", "kind": "outcome"}]}}),
    ],
)  # fmt: skip
def test_the_same_faults_in_the_same_words(
    tmp_path: Path, frame: pd.DataFrame, changes: dict[str, Any]
) -> None:
    project = make_project(tmp_path)
    write_table(project, frame)
    here, there = refusals(load_program(write_program(project, **changes), project))
    assert here == there


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kpi": {"value_type": "ordinal"}}, "ordinal"),
        ({"kpi": {"value_type": "count"}}, "count"),
        ({"analysis": {"errors": "student_t"}}, "student_t"),
        ({"design": {"kind": "before_after", "start_period": 3,
                     "columns": {"period": "week", "treatment": None}}}, "before_after"),
    ],
)  # fmt: skip
def test_what_does_not_enter_through_sums(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    project = make_project(tmp_path)
    write_table(project, agents())
    with pytest.raises(LdlabError, match=f"found .*{said}.*expected.*load_study"):
        load_cross_products(load_program(write_program(project, **changes), project))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"minutes": [50.0, 1.0, 50.0, 3.0] * 10}, "one value (only|for everybody) in (the|arm) comparison"),
        ({"score": [None] * 32 + list(range(8))}, "fewer than 10 agents with a KPI and all covariates"),
        ({"score": [2.0 * (i % 2) + (i == 0) * 1e-4 for i in range(40)]}, "equals the treatment"),
    ],
)
def test_nothing_to_learn_from(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    used = {"covariates": ["score"]} if "score" in columns else {}
    program = program_of(tmp_path, changed(**columns), design={"columns": used})
    for load in (load_cross_products, lambda program: units_of(load_study(program))):
        with pytest.raises(LdlabError, match=said):
            load(program)


def test_clusters_of_one_are_none_and_too_many_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ldlab.data.sql_contract.MOST_CLUSTERS", 15)
    frame = changed(desk=range(40), pair=[i // 2 for i in range(40)])
    own = program_of(tmp_path, frame, design={"columns": {"cluster": "desk"}})
    assert same(own).clusters == 0
    with pytest.raises(InputError, match="20 clusters; expected at most 15"):
        load_cross_products(program_of(tmp_path, frame, design={"columns": {"cluster": "pair"}}))


def test_segments_too_far_apart_for_their_digits(tmp_path: Path) -> None:
    frame = people(2000)
    frame["minutes"] += np.where(frame["site"] == "north", 1e9, 0)
    with pytest.raises(LdlabError, match="lose their digits"):
        load_cross_products(program_of(tmp_path, frame, **SEGMENT))


# The posterior


@pytest.fixture(scope="module")
def posteriors(tmp_path_factory: pytest.TempPathFactory) -> tuple[bayes.Posterior, bayes.Posterior]:
    columns = {"segment": "site", "covariates": COVARIATES}
    program = program_of(tmp_path_factory.mktemp("project"), with_gaps(people()), design={"columns": columns})
    return bayes.fit(load_cross_products(program)), bayes.fit(load_study(program))


def test_the_posterior_is_that_of_the_rows(posteriors: tuple[bayes.Posterior, bayes.Posterior]) -> None:
    sums, rows = posteriors
    for one, other in zip(
        [bayes.estimate(sums), *bayes.segment_estimates(sums)],
        [bayes.estimate(rows), *bayes.segment_estimates(rows)],
        strict=True,
    ):
        error = 4 * other.se / math.sqrt(400)
        assert one.value == pytest.approx(other.value, abs=error) and one.se == pytest.approx(
            other.se, rel=0.15
        )
        assert (one.term, one.n, one.method, one.target) == (other.term, other.n, other.method, other.target)
    assert sums.family == rows.family and sums.prior_effect == pytest.approx(rows.prior_effect)


def test_checks_and_figures_of_such_a_posterior(posteriors: tuple[bayes.Posterior, bayes.Posterior]) -> None:
    found = posteriors[0]
    assert {check.status for check in bayes.convergence_checks(found)} == {"passed"}
    (check,) = bayes.posterior_predictive_checks(found)
    assert check.status == "not_run" and "only their sums" in check.sentence
    assert "a-00" not in repr(found) + repr(found.study) + found._repr_html_()


def test_a_known_effect_and_none(tmp_path: Path) -> None:
    rng, n = np.random.default_rng(8), 20_000
    frame = pd.DataFrame({"agent": np.arange(n), "trained": np.arange(n) % 2})
    scores = [f"score {i}" for i in range(5)]
    frame[scores] = rng.normal(size=(n, 5))
    noise = frame["score 0"] + rng.normal(size=n)
    for effect in (0.5, 0.0):
        program = program_of(
            tmp_path, frame.assign(minutes=50 + effect * frame["trained"] + noise),
            design={"columns": {"covariates": scores}},
        )  # fmt: skip
        found = bayes.estimate(
            bayes.fit(load_cross_products(program), sampling=Sampling(draws=500, tune=500))
        )
        assert found.se == pytest.approx(2 / math.sqrt(n), rel=0.15)
        assert abs(found.value - effect) < 3 * found.se


def test_clusters_are_not_passed_over(tmp_path: Path) -> None:
    columns = {"cluster": "team", "covariates": COVARIATES}
    program = program_of(tmp_path, people(600), design={"columns": columns})
    with pytest.raises(LdlabError, match="cluster"):
        bayes.fit(load_cross_products(program), sampling=Sampling(draws=10, tune=10, chains=1))


def test_squares_beyond_what_a_number_can_be(tmp_path: Path) -> None:
    frame = changed(minutes=[1e200 * (1 + i % 3) for i in range(40)])
    with pytest.raises(LdlabError, match="whose squares are beyond 1e308"):
        load_cross_products(program_of(tmp_path, frame))
