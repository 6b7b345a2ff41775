"""Disclosure control: what is blanked, what is found in finished files, what is let through."""

from __future__ import annotations

import json
import time
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from ldlab.disclosure import DisclosureError, Leak, refuse, scan_folder, searchable, suppress


def page(folder: Path, body: str, name: str = "report.html") -> Path:
    (folder / name).write_text(f"<!DOCTYPE html><html><body>{body}</body></html>", encoding="utf-8")
    return folder


def kinds(folder: Path, **changes: object) -> list[str]:
    settings = {"ids": frozenset(), "minimum": 10} | changes
    return [leak.kind for leak in scan_folder(folder, **settings)]  # type: ignore[arg-type]


IDS = "values of an id column"
SMALL = "counts of fewer than 10 people"
ROWS = "tables with a row for each unit"
PATHS = "absolute paths or user names"


def segments(**counts: list[int]) -> pd.DataFrame:
    size = len(next(iter(counts.values())))
    return pd.DataFrame(counts | {"effect": np.linspace(1, 2, size)}, index=[f"s{i}" for i in range(size)])


def test_rows_of_small_groups_are_blanked() -> None:
    table = segments(trained=[40, 4, 9, 30], comparison=[50, 60, 70, 80])
    shown = suppress(table, ["trained", "comparison"], 10)
    assert shown["trained"].tolist() == [40, "fewer than 10", "fewer than 10", 30]
    assert shown["comparison"].tolist() == [50, "fewer than 10", "fewer than 10", 80]
    assert shown["effect"].isna().tolist() == [False, True, True, False]
    assert table["trained"].tolist() == [40, 4, 9, 30]  # the caller's frame is as it was


def test_a_row_blanked_alone_takes_the_next_smallest_with_it() -> None:
    # Total 130 is known: 130 - 40 - 85 = 5 would give the blanked group away.
    shown = suppress(segments(trained=[85, 5, 40]), ["trained"], 10)
    assert shown["trained"].tolist() == [85, "fewer than 10", "not shown"]
    assert shown["effect"].isna().tolist() == [False, True, True]


def test_two_tiny_rows_whose_sum_is_small_take_another_with_them() -> None:
    # 2 + 3 = 5 < 10: what can be computed from the total is itself a small group.
    shown = suppress(segments(trained=[85, 2, 3, 40]), ["trained"], 10)
    assert shown["trained"].tolist() == [85, "fewer than 10", "fewer than 10", "not shown"]


def test_a_table_without_small_groups_is_unchanged() -> None:
    table = segments(trained=[10, 11])
    pd.testing.assert_frame_equal(suppress(table, ["trained"], 10), table)


def test_suppression_of_a_lone_small_row() -> None:
    assert suppress(segments(trained=[3]), ["trained"], 10)["trained"].tolist() == ["fewer than 10"]


def test_a_suppressed_table_passes_the_scan_and_an_unsuppressed_one_does_not(tmp_path: Path) -> None:
    table = segments(trained=[85, 5, 40])
    assert kinds(page(tmp_path, table.to_html())) == [SMALL]
    assert kinds(page(tmp_path, suppress(table, ["trained"], 10).to_html(na_rep="–"))) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("AG-0417", "see AG-0417."),
        ("AG-0417", "figures/AG-0417_trend.png"),
        ("ag-0417", "(AG-0417)"),
        ("jane.doe@example.org", "mail jane.doe@example.org, please"),
        ("Jane Doe", "Jane\n   Doe"),
        ("Zoë Müller", "by Zoë Müller"),
        ("#4711-B", "case #4711-B"),
        ("10417", "agent 10417 improved"),
        ("10417", "agent-10417"),
        ("x71", "x71"),
    ],
)
def test_ids_are_found_as_whole_words(tmp_path: Path, value: str, text: str) -> None:
    (leak,) = scan_folder(page(tmp_path, f"<p>{text}</p>"), ids={value, "other-1"}, minimum=10)
    assert leak == Leak("report.html", IDS, 1)
    assert value not in str(leak)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("AG-0417", "AG-04170 and XAG-0417"),
        ("10417", "10,417 people, 10417.5 minutes, 0.10417, 110417, 1,10417 and −10417"),
        ("417", "417 people"),
        ("a1", "a1"),
    ],
)
def test_what_only_looks_like_an_id_is_let_through(tmp_path: Path, value: str, text: str) -> None:
    assert kinds(page(tmp_path, f"<p>{text}</p>"), ids={value}) == []


def test_ids_too_short_to_find_can_be_counted() -> None:
    assert searchable(["1", "999", "ab", "12345", "abc", " AG-1 "]) == {"12345", "abc", "ag-1"}


def test_ids_are_found_in_attributes_but_not_in_images_and_drawings(tmp_path: Path) -> None:
    assert kinds(
        page(tmp_path, '<img alt="Trend of AG-0417" src="data:image/png;base64,AAAA">'), ids={"AG-0417"}
    ) == [IDS]
    drawing = '<img alt="x" src="data:image/png;base64,abc/10417/def"><svg><path d="M 10417 0"/></svg>'
    assert kinds(page(tmp_path, drawing + "<style>p{width:10417px}</style>"), ids={"10417", "abc"}) == []


def test_notebooks_are_read_whole_but_for_images(tmp_path: Path) -> None:
    def scan(cell: nbformat.NotebookNode) -> list[str]:
        nbformat.write(new_notebook(cells=[cell]), tmp_path / "report.ipynb")
        return kinds(tmp_path, ids={"AG-0417"})

    def shown(output: nbformat.NotebookNode) -> list[str]:
        return scan(new_code_cell("1", outputs=[output]))

    assert scan(new_markdown_cell("about AG-0417")) == [IDS]
    assert scan(new_code_cell("frame.loc['AG-0417']")) == [IDS]
    assert shown(new_output("stream", text="AG-0417")) == [IDS]
    assert shown(new_output("error", ename="KeyError", evalue="'AG-0417'", traceback=[])) == [IDS]
    assert shown(new_output("display_data", {"text/plain": "AG-0417"})) == [IDS]
    assert shown(new_output("display_data", {"text/html": "<b>AG-0417</b>"})) == [IDS]
    assert shown(
        new_output("display_data", {"text/html": "<table><tr><th>n</th></tr><tr><td>4</td></tr></table>"})
    ) == [SMALL]
    assert shown(new_output("display_data", {"image/png": "AG-0417"})) == []
    described = new_output("display_data", {"image/png": "AAAA"}, metadata={"image/png": {"alt": "AG-0417"}})
    assert shown(described) == [IDS]


@pytest.mark.parametrize(
    ("table", "leaks"),
    [
        # A count's heading over a small whole number.
        ("<tr><th>site</th><th>units</th></tr><tr><td>North</td><td>7</td></tr>", True),
        ("<tr><th>site</th><th>number of trained agents</th></tr><tr><td>North</td><td>7</td></tr>", True),
        ("<tr><th>site</th><th>n</th></tr><tr><td>North</td><td>7.0</td></tr>", True),
        ("<tr><th rowspan=2>site</th><th colspan=2>units</th></tr><tr><th>before</th><th>after</th></tr>"
         "<tr><td>North</td><td>70</td><td>7</td></tr>", True),
        # A count as the row's heading.
        ("<tr><th>trained</th><td>9</td></tr>", True),
        ("<tr><th>counted</th><td>185 treated, 6 comparison</td></tr>", True),
        ("<tr><th></th><th>value</th></tr><tr><th>trained</th><td>7</td></tr>", True),
        ("<tr><th></th><th>0</th></tr><tr><th>trained</th><td>7</td></tr>", True),
        # The column's own heading says something else than the row's; a decimal is no count by its row alone.
        ("<tr><th></th><th>mean minutes</th></tr><tr><th>trained</th><td>7</td></tr>", False),
        ("<tr><th></th><th>value</th></tr><tr><th>trained</th><td>8.0</td></tr>", False),
        ("<tr><th>trained</th><td>8.0</td></tr>", False),
        # No people, no small number, or no whole number.
        ("<tr><th>site</th><th>units</th></tr><tr><td>North</td><td>10</td></tr>", False),
        ("<tr><th>site</th><th>units</th></tr><tr><td>North</td><td>0</td></tr>", False),
        ("<tr><th>site</th><th>units</th></tr><tr><td>North</td><td>1,007</td></tr>", False),
        ("<tr><th>site</th><th>units</th></tr><tr><td>North</td><td>fewer than 10</td></tr>", False),
        ("<tr><th>arm</th><th>trained</th></tr><tr><td>mean</td><td>7.35</td></tr>", False),
        ("<tr><th>arm</th><th>share trained</th></tr><tr><td>all</td><td>5</td></tr>", False),
        ("<tr><th>counted</th><td>185 treated, 260 comparison, 4 clusters</td></tr>", False),
        ("<tr><th></th><th>n</th></tr><tr><th>clusters</th><td>4</td></tr>", False),
        ("<tr><th>effect</th><td>7</td></tr>", False),
    ],
)  # fmt: skip
def test_small_groups_in_tables(tmp_path: Path, table: str, leaks: bool) -> None:
    assert kinds(page(tmp_path, f"<table>{table}</table>")) == ([SMALL] if leaks else [])


@pytest.mark.parametrize(("trained", "found"), [(150, []), (7, [SMALL])])
def test_means_of_an_arm_are_not_counts_of_it(tmp_path: Path, trained: int, found: list[str]) -> None:
    arms = pd.DataFrame(
        {"units": [150, trained], "share": [8.0, 2.0], "se": [2.22, 1.15]}, index=["comparison", "trained"]
    )
    assert kinds(page(tmp_path, arms.to_html())) == found


def test_the_programs_own_word_for_a_unit_counts_too(tmp_path: Path) -> None:
    folder = page(tmp_path, "<table><tr><th>nurses</th><td>7</td></tr></table>")
    assert kinds(folder) == []
    assert kinds(folder, unit="nurse") == [SMALL]


@pytest.mark.parametrize(
    ("value", "leaks"),
    [
        ({"n": {"treated": 9, "comparison": 260}}, True),
        ({"estimates": [{"n": {"treated": 12, "comparison": 3}}]}, True),
        ({"n": {"treated": 185, "comparison": None, "clusters": 4}}, False),
        ({"people": 9}, True),
        ({"checks": 4, "periods": 3, "seed": 5}, False),
    ],
)
def test_small_groups_in_json(tmp_path: Path, value: object, leaks: bool) -> None:
    (tmp_path / "estimate.json").write_text(json.dumps(value))
    assert kinds(tmp_path) == ([SMALL] if leaks else [])


def test_counts_in_json_are_not_taken_for_ids(tmp_path: Path) -> None:
    (tmp_path / "estimate.json").write_text(json.dumps({"n": {"treated": 15992}}))
    assert kinds(tmp_path, ids={"15992"}) == []
    (tmp_path / "estimate.json").write_text(json.dumps({"who": [15992]}))
    assert kinds(tmp_path, ids={"15992"}) == [IDS]


def test_csv_files_are_tables(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("site,units\nNorth,7\n")
    assert kinds(tmp_path) == [SMALL]
    (tmp_path / "t.csv").write_text("site,units\nNorth,17\n")
    assert kinds(tmp_path) == []


def test_tables_about_single_units(tmp_path: Path) -> None:
    folder = page(
        tmp_path, "<table><tr><th>Agent</th><th>minutes</th></tr><tr><td>1</td><td>31</td></tr></table>"
    )
    assert kinds(folder, unit_column="agent") == [ROWS]
    assert kinds(folder, unit_column="person") == []
    assert kinds(page(tmp_path, pd.DataFrame({"minutes": range(201)}).to_html())) == [ROWS]
    assert kinds(page(tmp_path, pd.DataFrame({"minutes": range(200)}).to_html())) == []


@pytest.mark.parametrize(
    ("text", "leaks"),
    [
        ("/srv/project/data/x.csv", True),
        ("file:///srv/project", True),
        ("/home/somebody/x", True),
        ("/Users/somebody/x", True),
        ("C:\\Users\\somebody\\x", True),
        ("/data/jdoe/extract.csv", True),
        ("../../index.html", False),
        ("data/nsw.csv", False),
        ("outputs/jdoe/report.html", False),
        ("/srv/project-two", False),
        ("https://example.org/home/page", False),
    ],
)
def test_paths_of_the_machine(tmp_path: Path, text: str, leaks: bool) -> None:
    found = kinds(page(tmp_path, f"<p>{text}</p>"), forbidden=["/srv/project"], user="jdoe")
    assert found == ([PATHS] if leaks else [])


def test_paths_are_found_behind_json_escapes(tmp_path: Path) -> None:
    cell = new_code_cell("1", outputs=[new_output("stream", text="read\n/srv/project/x.csv")])
    nbformat.write(new_notebook(cells=[cell]), tmp_path / "report.ipynb")
    assert kinds(tmp_path, forbidden=["/srv/project"]) == [PATHS]


def test_files_of_other_kinds_are_not_published(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    (tmp_path / "cut.json").write_text('{"a":')
    assert kinds(tmp_path) == ["a file that cannot be read", "a file of a kind that is never published"]


def test_a_refusal_names_files_and_kinds_only(tmp_path: Path) -> None:
    leaks = scan_folder(page(tmp_path, "<p>AG-0417</p>"), ids={"AG-0417"}, minimum=10)
    with pytest.raises(
        DisclosureError,
        match=r"^Not published.*report\.html: values of an id column \(1\)\. If no .*give ids a prefix\.$",
    ) as error:
        refuse(leaks)
    assert error.value.leaks == tuple(leaks)
    assert "prefix" not in str(DisclosureError([Leak("report.html", SMALL, 1)]))
    refuse([])


def test_twenty_thousand_ids_with_one_beginning_are_found_quickly(tmp_path: Path) -> None:
    ids = frozenset(f"AG-{i:05d}" for i in range(20_000))
    words = "AG trained the AG-team in 2025 and AG-99999 did not. " * 20_000
    page(tmp_path, f"<p>{words}</p>")
    begun = time.perf_counter()
    assert kinds(tmp_path, ids=ids) == []
    assert time.perf_counter() - begun < 5  # comparing every id at every place would take hours
    assert kinds(page(tmp_path, f"<p>{words} AG-12345</p>"), ids=ids) == [IDS]
