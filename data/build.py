"""Rebuild the committed tables, byte for byte, from packages that carry the data and from `ldlab.simulate`.

Run from the repository: ``.venv/bin/python data/build.py [folder]``; the folder is this one unless given.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from causaldata import cps_mixtape, nsw_mixtape
from linearmodels.datasets import jobtraining

from ldlab import simulate

HERE = Path(__file__).parent


def people(source: pd.DataFrame, person: str) -> pd.DataFrame:
    """One row per person, with an id made from the row order: the source has none."""
    return pd.DataFrame({
        "person": [person.format(row) for row in range(1, len(source) + 1)],
        "treated": source["treat"],
        **{name: source[name] for name in ("age", "educ", "black", "hisp", "marr", "nodegree")},
        "re74": shortest(source["re74"]), "re75": shortest(source["re75"]),
        "u74": (source["re74"] == 0).astype(int), "u75": (source["re75"] == 0).astype(int),
        "re78": shortest(source["re78"]),
    })  # fmt: skip


def shortest(numbers: pd.Series) -> pd.Series:
    """The shortest text that is the same 32-bit number: the sources hold no more digits than that."""
    text = [np.format_float_positional(np.float32(value), trim="-") for value in numbers]
    return pd.Series(text, index=numbers.index).where(numbers.notna())


def michigan(source: pd.DataFrame) -> pd.DataFrame:
    """One row per firm and year. The lag is derived here: the package's cgrant is wrong in 36 rows."""
    rows = source.sort_values(["fcode", "year"]).reset_index(drop=True)
    firm = rows["fcode"]
    return pd.DataFrame({
        "firm": firm, "year": rows["year"], "grant": rows["grant"],
        "grant_last_year": rows.groupby("fcode")["grant"].shift(fill_value=0),
        "first_grant": rows["year"].where(rows["grant"] == 1).groupby(firm).transform("min").astype("Int64"),
        "scrap": shortest(rows["scrap"]), "hours_per_employee": shortest(rows["hrsemp"]),
        "employees": rows["employ"].astype("Int64"), "union": rows["union"],
    })  # fmt: skip


def main(target: Path = HERE) -> None:
    """Write every table to `target`."""
    nsw = people(nsw_mixtape.load_pandas().data, "nsw-{:04d}")
    cps = people(cps_mixtape.load_pandas().data, "cps-{:05d}")
    company = simulate.academy()
    reminders = simulate.nudges()
    tables = {
        "nsw": nsw,
        "nsw_cps": pd.concat([nsw[nsw["treated"] == 1], cps]),
        "michigan_grants": michigan(jobtraining.load()),
        "academy_kpi": company.kpi,
        "academy_learning": company.learning,
        "academy_costs": company.costs,
        "nudges": reminders.frame,
    }
    for name, table in tables.items():
        table.to_csv(target / f"{name}.csv", index=False, lineterminator="\n", date_format="%Y-%m-%d")
    for name, found in (("academy", company.truth), ("nudges", reminders.truth)):
        truth = json.loads(json.dumps(found), parse_float=lambda digits: round(float(digits), 6))
        (target / f"{name}_truth.json").write_text(json.dumps(truth, indent=2) + "\n", newline="\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
