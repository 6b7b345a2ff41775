"""The committed tables are what `data/build.py` makes, and they give the numbers that were published."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from linearmodels import PanelOLS
from linearmodels.datasets import jobtraining

DATA = Path(__file__).parents[1] / "data"
TABLES = ["nsw.csv", "nsw_cps.csv", "michigan_grants.csv", "academy_kpi.csv", "academy_learning.csv",
          "academy_costs.csv", "academy_truth.json", "nudges.csv", "nudges_truth.json"]  # fmt: skip
COVARIATES = "age + educ + black + hisp + marr + nodegree + re74 + re75 + u74 + u75"


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory):
    spec = importlib.util.spec_from_file_location("build", DATA / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    folder = tmp_path_factory.mktemp("data")
    build.main(folder)
    return folder


@pytest.fixture(scope="module")
def michigan():
    return pd.read_csv(DATA / "michigan_grants.csv")


@pytest.fixture(scope="module")
def complete(michigan):
    """Firms whose scrap rate is known in all three years."""
    return michigan[michigan.groupby("firm")["scrap"].transform("count") == 3]


def test_every_table_is_rebuilt(rebuilt):
    assert sorted(path.name for path in rebuilt.iterdir()) == sorted(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_rebuilding_changes_no_byte(rebuilt, name):
    assert (rebuilt / name).read_bytes() == (DATA / name).read_bytes()


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_small_and_described(name):
    assert (DATA / name).stat().st_size < 1_000_000
    assert f"`{name}`" in (DATA / "README.md").read_text(encoding="utf-8")


def test_nsw_is_the_experiment():
    nsw = pd.read_csv(DATA / "nsw.csv")
    assert nsw["treated"].value_counts().to_dict() == {0: 260, 1: 185}
    assert nsw["person"].is_unique and nsw.notna().all(axis=None)
    fit = smf.ols("re78 ~ treated", nsw).fit(cov_type="HC2")
    assert round(fit.params["treated"], 2) == 1794.34
    assert round(fit.bse["treated"], 2) == 671.00


def test_nsw_cps_puts_the_same_trained_people_beside_the_survey():
    nsw, cps = pd.read_csv(DATA / "nsw.csv"), pd.read_csv(DATA / "nsw_cps.csv")
    assert cps["treated"].value_counts().to_dict() == {0: 15_992, 1: 185}
    assert cps["person"].is_unique and cps.notna().all(axis=None)
    pd.testing.assert_frame_equal(nsw[nsw["treated"] == 1], cps[cps["treated"] == 1])
    raw = smf.ols("re78 ~ treated", cps).fit()
    adjusted = smf.ols(f"re78 ~ treated + {COVARIATES}", cps).fit(cov_type="HC1")
    assert round(raw.params["treated"], 2) == -8497.52
    assert round(adjusted.params["treated"], 2) == 1066.38
    assert round(adjusted.bse["treated"], 2) == 626.85


@pytest.mark.parametrize("name", ["nsw.csv", "nsw_cps.csv"])
def test_zero_earnings_are_marked(name):
    table = pd.read_csv(DATA / name)
    for year in ("74", "75"):
        assert (table[f"u{year}"] == (table[f"re{year}"] == 0)).all()


def test_michigan_is_a_full_panel_of_firms(michigan):
    assert len(michigan) == 471 and not michigan.duplicated(["firm", "year"]).any()
    assert (michigan.groupby("firm")["year"].apply(list).map(str) == "[1987, 1988, 1989]").all()
    assert michigan["scrap"].isna().sum() == 309


def test_michigan_grants_last_one_year_and_the_lag_is_right(michigan):
    wide = michigan.pivot(index="firm", columns="year", values=["grant", "grant_last_year"])
    assert (wide["grant"].sum(axis=1) <= 1).all()
    assert (wide["grant_last_year"][1987] == 0).all()
    assert (wide["grant_last_year"][1988] == wide["grant"][1987]).all()
    assert (wide["grant_last_year"][1989] == wide["grant"][1988]).all()
    granted = michigan[michigan["grant"] == 1]
    assert (granted["first_grant"] == granted["year"]).all()
    assert (michigan.groupby("firm")["first_grant"].nunique(dropna=False) == 1).all()


def test_michigan_cohorts_with_scrap_in_all_years(complete):
    cohorts = complete.drop_duplicates("firm")["first_grant"].value_counts(dropna=False)
    assert cohorts[cohorts.index.isna()].sum() == 25
    assert cohorts[[1988, 1989]].to_dict() == {1988: 19, 1989: 10}


def test_michigan_fixed_effects_are_the_published_ones(complete):
    rows = complete.assign(log_scrap=np.log(complete["scrap"])).set_index(["firm", "year"])
    exog = rows[["grant", "grant_last_year"]]
    fit = PanelOLS(rows["log_scrap"], exog, entity_effects=True, time_effects=True).fit(debiased=True)
    assert fit.params.round(4).to_dict() == {"grant": -0.2523, "grant_last_year": -0.4216}
    assert fit.std_errors.round(4).to_dict() == {"grant": 0.1506, "grant_last_year": 0.2102}


def test_michigan_traps_described_in_the_readme_are_still_there(michigan):
    source = jobtraining.load().sort_values(["fcode", "year"]).reset_index(drop=True)
    change = michigan["grant"] - michigan["grant_last_year"]
    assert (source["cgrant"] != change).sum() == 36
    hours = (source["tothrs"] * source["totrain"] / source["employ"]).where(source["hrsemp"].notna())
    np.testing.assert_allclose(michigan["hours_per_employee"], hours.to_numpy(), rtol=1e-3)


def test_academy_truth_belongs_to_the_committed_kpi_table():
    truth = json.loads((DATA / "academy_truth.json").read_text(encoding="utf-8"))
    kpi = pd.read_csv(DATA / "academy_kpi.csv")
    treated = kpi[(kpi["treated"] == 1) & kpi["resolution_minutes"].notna()]
    weeks = (pd.to_datetime(treated["week"]) - pd.to_datetime(treated["start"])).dt.days // 7
    shares = weeks.value_counts(normalize=True)
    mean = sum(truth["by_event_time"][str(week)] * share for week, share in shares.items())
    assert truth["ATT"] == pytest.approx(mean, abs=1e-5)
    assert truth["kpi"] in kpi
