"""The committed table of coverage is what the page says of it, and its script still runs."""

import csv

from tests.coverage_did import ESTIMATORS, GAPS, TABLE, some
from tests.worlds_did import KINDS


def test_the_published_intervals_hold_and_the_two_way_ones_fail_where_they_must() -> None:
    with TABLE.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(KINDS) * len(GAPS) * len(ESTIMATORS)
    assert {row["runs"] for row in rows} == {"500"}
    for row in rows:
        covered, two_way = float(row["90% interval holds"]), row["estimator"] == "two-way fixed effects"
        if two_way and row["effect"] in ("growing", "cohort"):
            assert covered < 0.1
        else:
            assert 0.87 <= covered <= 0.93
            assert abs(float(row["bias"])) < 0.25 * float(row["sd"])


def test_the_script_still_gives_what_the_table_is_made_of() -> None:
    found = some("growing", 0.1, 0, 2)
    assert [name for name, *_ in found] == [*ESTIMATORS] * 2
    assert all(se > 0 and isinstance(held, bool) for _, _, se, held in found)
