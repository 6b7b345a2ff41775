"""Pages: prose and outputs, no code, nothing fetched, one H1, every figure described."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from ldlab.batch.page import PageError, in_short, render, withheld, without_answers
from ldlab.batch.publish import keep_shown_figures
from ldlab.estimate import Estimate

QUESTION = "# Did the academy shorten resolution time?"


def png(width: int = 3) -> str:
    """A white picture, one pixel high, as base64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, 1, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\x00" + b"\xff" * width)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return base64.b64encode(data).decode()


def shows(data: dict[str, Any], tags: Sequence[str] = (), **metadata: Any) -> NotebookNode:
    output = new_output("display_data", data, metadata=metadata)
    return new_code_cell("secret_source()", outputs=[output], metadata={"tags": list(tags)})


def html(text: str, *tags: str) -> NotebookNode:
    return shows({"text/html": text}, tags)


def soup(*cells: NotebookNode, **settings: Any) -> BeautifulSoup:
    notebook = new_notebook(cells=[new_markdown_cell(QUESTION), *cells])
    return BeautifulSoup(render(notebook, **settings), "html.parser")


def test_a_page_has_a_language_a_viewport_a_policy_and_its_title() -> None:
    page = soup()
    assert page.html is not None
    assert page.html["lang"] == "en"
    assert page.title is not None
    assert page.title.string == "Did the academy shorten resolution time?"
    metas = {m.get("name") or m.get("http-equiv"): m.get("content") for m in page.find_all("meta")}
    assert metas["viewport"] == "width=device-width, initial-scale=1"
    assert metas["Content-Security-Policy"] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert soup(title="Brief").title.string == "Brief"  # type: ignore[union-attr]


def test_sources_are_hidden_and_outputs_shown() -> None:
    cell = new_code_cell(
        "secret_source()",
        outputs=[
            new_output("stream", text="185 trained"),
            new_output("execute_result", {"text/plain": "42"}),
        ],
    )
    page = soup(cell, new_markdown_cell("Some *prose*."))
    assert "secret_source" not in str(page)
    assert [pre.get_text().strip() for pre in page.find_all("pre")] == ["185 trained", "42"]
    assert page.find("em", string="prose")


def test_cells_tagged_remove_cell_are_left_out() -> None:
    page = soup(
        html("<p>away</p>", "remove-cell"), shows({"image/png": png()}, ["remove-cell"]), html("<p>here</p>")
    )
    assert "away" not in page.get_text()
    assert "here" in page.get_text()


@pytest.mark.parametrize("cells", [[], [new_markdown_cell("# Another title")], [html("<h1>Third</h1>")]])
def test_one_h1(cells: list[NotebookNode]) -> None:
    start = [new_markdown_cell("no title")] if not cells else [new_markdown_cell(QUESTION)]
    with pytest.raises(PageError, match="one H1"):
        render(new_notebook(cells=[*start, *cells]))


def test_headings_go_down_one_level_at_a_time() -> None:
    assert soup(new_markdown_cell("## a\n\n### b\n\n## c")).h3
    with pytest.raises(PageError, match="'b' is an H4 after an H2"):
        soup(new_markdown_cell("## a\n\n#### b"))


def test_a_figure_carries_its_description_and_width() -> None:
    page = soup(
        shows(
            {"image/png": png(3), "text/plain": "<Figure>"},
            **{"image/png": {"alt": 'Effect −3.2 "below" target'}},
        )
    )
    image = page.select_one("figure > img")
    assert image is not None
    assert image["alt"] == 'Effect −3.2 "below" target'
    assert image["width"] == "3"
    assert str(image["src"]).startswith("data:image/png;base64,")
    assert "<Figure>" not in page.get_text()


@pytest.mark.parametrize("alt", [{}, {"image/png": {"alt": "  "}}])
def test_a_figure_without_description_fails_the_page(alt: dict[str, Any]) -> None:
    with pytest.raises(PageError, match="code cell 2 has no alternative text"):
        soup(html("<p>first</p>"), shows({"image/png": png()}, **alt))


def test_an_image_in_html_without_description_fails_the_page() -> None:
    with pytest.raises(PageError, match="no alternative text"):
        soup(html('<img src="data:image/png;base64,AAAA">'))


def test_text_from_data_stays_text() -> None:
    frame = pd.DataFrame({"segment": ["<script>alert(1)</script>", "North"], "effect": [1.5, 2.5]})
    page = soup(html(frame.to_html()), shows({"text/plain": "<script>2</script>"}))
    assert not page.find("script")
    assert page.find("td", string="<script>alert(1)</script>")
    assert page.find("pre", string="<script>2</script>")


def test_active_content_is_removed() -> None:
    page = soup(
        html(
            "<script>alert(1)</script><iframe src='https://x.example/'></iframe><p onclick='alert(2)'>kept</p>"
        ),
        new_markdown_cell("<script>alert(3)</script> and <b onmouseover='x()'>bold</b>"),
        shows({"application/javascript": "alert(4)"}),
        shows({"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "plain instead"}),
    )
    assert not page.find_all(["script", "iframe"])
    assert not re.search(r"alert|x\(\)|onclick", str(page))
    assert page.find("p", string="kept")
    assert "plain instead" in page.get_text()


def outside(page: BeautifulSoup) -> list[str]:
    """Everything on a page that a browser would fetch from another address."""
    addresses = [
        str(e[name])
        for e in page.find_all(True)
        for name in ("src", "href", "srcset", "data", "poster", "action")
        if e.get(name)
    ]
    css = re.findall(r"url\(([^)]*)\)|(@import[^;]*)", "".join(s.get_text() for s in page.find_all("style")))
    return [a for a in addresses if "//" in a.partition("base64")[0]] + [str(found) for found in css]


def test_nothing_is_fetched_from_elsewhere() -> None:
    page = soup(
        shows({"image/png": png()}, **{"image/png": {"alt": "a figure"}}),
        html(pd.DataFrame({"n": [12]}).to_html()),
        new_markdown_cell("Maths $a^2$; see [the paper](https://doi.org/10.1/x) and <https://example.org>."),
        nav=[("All programs", "../../index.html")],
    )
    assert outside(page) == []
    assert [link["href"] for link in page.find_all("a")] == ["../../index.html"]
    assert "the paper (doi.org/10.1/x)" in page.get_text()
    assert page.get_text().count("example.org") == 1


@pytest.mark.parametrize(
    "text",
    [
        "<img alt='x' src='https://example.org/x.png'>",
        "<img alt='x' src='//example.org/x.png'>",
        "<img alt='x' src='figures/x.png'>",
        "<video poster='https://example.org/x.png'></video>",
        "<style>p {background: url(https://example.org/x.png)}</style>",
        "<style>@import 'https://example.org/x.css';</style>",
        "<p style=\"background: url('//example.org/x')\">x</p>",
        "<svg><image href='https://example.org/x.png'/></svg>",
    ],
)
def test_a_page_that_would_fetch_something_is_refused(text: str) -> None:
    with pytest.raises(PageError, match="fetch something from elsewhere"):
        soup(html(text))


def test_errors_are_shown_without_traceback() -> None:
    error = new_output(
        "error",
        ename="InputError",
        evalue="target has no <unit>",
        traceback=["File secret.py", "row of Jane"],
    )
    page = soup(new_code_cell("1", outputs=[error]))
    assert "InputError: target has no <unit>" in page.get_text()
    assert "secret" not in str(page)
    assert "Jane" not in str(page)


def test_tables_scroll_by_themselves_and_align_numbers() -> None:
    frame = pd.DataFrame(
        {"site": ["North", "South"], "effect": ["−3.2", "–"], "n": [12, 1345]}, index=["a", "b"]
    )
    page = soup(html(frame.to_html()), new_markdown_cell("| x | y |\n|---|---|\n| one | 1.5% |"))
    assert all(
        table.parent is not None and table.parent["class"] == ["scroll"] for table in page.find_all("table")
    )
    assert [cell.get_text() for cell in page.select("th.num")] == ["effect", "n", "y"]
    assert [cell.get_text() for cell in page.select("td.num")] == ["−3.2", "12", "–", "1345", "1.5%"]


def test_a_brief_opens_the_page_keeps_its_layout_and_may_bring_the_h1() -> None:
    brief = html("<h1>Agents resolve tickets faster</h1><table><tr><td>1</td></tr></table>", "brief")
    page = soup(
        new_markdown_cell("Why this page is as it is."),
        brief,
        html("<table><tr><td>2</td></tr></table>"),
        kind="program_brief",
    )
    assert page.body is not None
    assert page.body["class"] == ["program_brief"]
    assert [h.get_text() for h in page.find_all("h1")] == ["Agents resolve tickets faster"]
    assert page.title is not None
    assert page.title.string == "Agents resolve tickets faster"
    main = page.main
    assert main is not None
    assert main.find(True)["class"] == ["output", "brief"]  # type: ignore[index]
    first, second = page.find_all("table")
    assert first.find_parent(class_="scroll") is None
    assert second.find_parent(class_="scroll") is not None


def test_a_brief_without_h1_stands_behind_the_question() -> None:
    page = soup(new_markdown_cell("Prose."), html("<p>brief</p>", "brief"))
    assert page.main is not None
    assert [e.name for e in page.main.find_all(True, recursive=False)] == ["h1", "div", "p"]


def test_what_comes_behind_the_h1() -> None:
    page = soup(
        new_markdown_cell("Prose."),
        kicker="Academy & more",
        notice_html="<p id='notice'></p>",
        in_short_html="<p id='short'></p>",
        extra_css=".mine{}",
    )
    assert page.main is not None
    marks = [
        e.get("id") or " ".join(e.get("class") or [e.name]) for e in page.main.find_all(True, recursive=False)
    ]
    assert marks[0] == "kicker"
    assert marks[2:5] == ["notice", "short", "p"]
    assert page.find(string="Academy & more")
    assert ".mine{}" in str(page.head)


def test_the_page_is_the_same_from_render_to_render() -> None:
    notebook = new_notebook(cells=[new_markdown_cell(QUESTION), html(pd.DataFrame({"a": [1.5]}).to_html())])
    before = str(notebook)
    assert render(notebook) == render(notebook)
    assert str(notebook) == before


ESTIMATE = Estimate.from_t(
    -3.2, 1.05, method="difference in means", estimand="ATE", design="randomised", kpi="resolution time",
    unit="minutes per ticket", direction="decrease", se_kind="HC2", level=0.9,
    n={"treated": 1185, "comparison": 260, "clusters": None}, target=-5.0, smallest=-1.0,
)  # fmt: skip


def test_in_short_says_what_there_is() -> None:
    text = in_short(
        {
            "claim": {"verdict": "moved, below target", "sentence": "Agents in <North> got faster."},
            "lead": ESTIMATE.model_dump(mode="json"),
            "checks": [{"status": "passed"}, {"status": "not_run"}, {"status": "passed"}],
            "grade": "A",
        }
    )
    block = BeautifulSoup(text, "html.parser")
    assert block.find("p", string="Agents in <North> got faster.")
    terms = dict(
        zip([dt.get_text() for dt in block("dt")], [dd.get_text() for dd in block("dd")], strict=True)
    )
    # -3.2 -/+ 1.645 * 1.05 = -4.93 to -1.47; a width of 3.5 supports one decimal.
    assert terms == {
        "Verdict": "moved, below target: it moved; that it reached the target is not shown",
        "Effect": "−3.2 minutes per ticket, 9-in-10 range −4.9 to −1.5",
        "Counted": "1,185 trained, 260 comparison",
        "Evidence": "grade A; checks: 2 passed, 1 not run",
    }


def test_in_short_leaves_out_what_is_missing() -> None:
    assert in_short({}) == ""
    assert in_short({"lead": {"value": 1}, "program": "x"}) == ""
    assert "<dt>Evidence</dt><dd>grade C</dd>" in in_short({"grade": "C"})


def test_a_broken_result_shows_no_answer() -> None:
    claim = {"verdict": "not readable", "sentence": "This result cannot be read."}
    reason = withheld({"claim": claim})
    assert reason == "Not shown. This result cannot be read."
    cells = [new_markdown_cell(QUESTION), html("<p>effect 4.2</p>", "answer"), html("<p>checks</p>")]
    text = BeautifulSoup(render(without_answers(new_notebook(cells=cells), reason)), "html.parser").get_text()
    assert "4.2" not in text and reason in text and "checks" in text
    assert withheld({"claim": claim | {"verdict": "unclear"}}) == withheld({}) == ""
    assert "4.2" in soup(html("<p>effect 4.2</p>", "answer")).get_text()


def test_a_broken_result_publishes_no_figure_of_an_answer(tmp_path: Path) -> None:
    def shown(content: bytes, *tags: str) -> NotebookNode:
        return shows({"image/png": base64.b64encode(content).decode()}, tags)

    figures = {"effect": b"effect", "balance": b"balance", "kept apart": b"never shown"}
    (tmp_path / "figures").mkdir()
    for name, content in figures.items():
        (tmp_path / "figures" / f"{name}.png").write_bytes(content)
    notebook = new_notebook(cells=[shown(b"effect", "answer"), shown(b"balance")])
    keep_shown_figures(tmp_path, without_answers(notebook, "Not shown."))
    assert [path.stem for path in (tmp_path / "figures").iterdir()] == ["balance"]


def test_what_does_not_apply_leaves_no_empty_section() -> None:
    nothing = new_code_cell("rates", metadata={"tags": ["answer", "optional"]})
    prose, heading = (
        new_markdown_cell("A rate can count hours."),
        new_markdown_cell("## Several arms\n\nEach."),
    )
    page = soup(
        prose, nothing, heading, nothing, new_markdown_cell("Next."), html("<p>checks</p>")
    ).get_text()
    assert "A rate" not in page and "Next." in page
    assert "Several arms" in page  # the section goes on with what is next
    page = soup(heading, nothing, new_markdown_cell("## Money"), html("<p>checks</p>")).get_text()
    assert "Several arms" not in page and "Money" in page
    shown = shows({"text/html": "<p>by hour</p>"}, ("answer", "optional"))
    assert "A rate" in soup(prose, shown).get_text()
    plain = soup(prose, new_code_cell("rates")).get_text()
    assert "A rate" in plain  # only what is tagged so
