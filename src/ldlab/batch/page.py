"""An executed notebook -> one self-contained page: prose and outputs, no code, no script, nothing fetched."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bs4 import BeautifulSoup, Tag
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from pydantic import ValidationError
from traitlets.config import Config

from ldlab.estimate import VERDICT_MEANS, Estimate
from ldlab.program import LdlabError

TEMPLATES = Path(__file__).parents[1] / "templates"
SHOWN_FIRST = ["text/html", "text/markdown", "image/svg+xml", "image/png", "text/plain"]
IMAGES = ("image/svg+xml", "image/png")
_ACTIVE = "script, iframe, frame, object, embed, applet, link, base, meta, form, noscript, style[scoped]"
_LOADS = (
    "src",
    "srcset",
    "href",
    "xlink:href",
    "data",
    "poster",
    "background",
    "action",
    "formaction",
    "ping",
)
_NUMBER = re.compile(r"^[+\-−]?[$€£]?\d[\d,. ]*(?:[%KMB]|e[+-]?\d+)?$")
_NO_NUMBER = ("", "–", "-", "NaN", "nan", "None", "<NA>", "not shown")
_OUTSIDE_CSS = re.compile(r"@import|url\(\s*['\"]?(?!data:|#)", re.IGNORECASE)


class PageError(LdlabError):
    """A notebook that cannot become a page: what is wrong, in which code cell, what to do."""


def render(
    notebook: NotebookNode,
    *,
    title: str | None = None,
    in_short_html: str = "",
    extra_css: str = "",
    nav: Sequence[tuple[str, str]] = (),
    kind: str = "",
    kicker: str = "",
    notice_html: str = "",
) -> str:
    """Render an executed notebook as a page for readers.

    Parameters
    ----------
    notebook
        The executed notebook; cells tagged ``remove-cell`` are left out, and those tagged ``optional`` that show nothing,
        with the prose before them. The output of a cell tagged ``brief``
        opens the page and keeps its own layout; if it holds an H1, that replaces the notebook's.
    title
        The page's title; default: the text of its H1.
    in_short_html
        Put behind the H1 (see :func:`in_short`). Must be escaped already, as ``notice_html``.
    extra_css
        Style sheet for this page.
    nav
        Links at the top: (text, relative address).
    kind
        Class of ``<body>``.
    kicker
        A line above the H1.
    notice_html
        Put behind the H1, before ``in_short_html``: that something went wrong.

    Raises
    ------
    PageError
        If a figure has no alternative text, the page has no H1 or two, a heading level is skipped, or something
        would be fetched from elsewhere.
    """
    notebook = _without_what_does_not_apply(notebook)
    notebook = _with_alternative_text(notebook)
    settings = {"title": title or "", "extra_css": extra_css, "nav": list(nav), "kind": kind}
    html, _ = _exporter().from_notebook_node(notebook, resources={"ldlab": settings})
    soup = BeautifulSoup(html, "html.parser")
    main = soup.main
    assert main is not None
    _remove_active(main)
    _open_with_brief(main)
    heading = _only_heading(main)
    if any(
        str(image.get("alt", "")).startswith(("No description has been", " "))
        for image in main.find_all("img")
    ):
        raise PageError("An image in the text or in an HTML output has no alternative text.")
    _check_heading_order(main)
    if soup.title is not None and not title:
        soup.title.string = " ".join(heading.get_text().split())
    if kicker:
        heading.insert_before(_fragment(f'<p class="kicker">{escape(kicker)}</p>'))
    heading.insert_after(_fragment(notice_html + in_short_html))
    for table in main.find_all("table"):
        if table.find_parent(class_="brief") is None:
            _lay_out(table, soup)
    _refuse_outside(soup)
    return str(soup)


@cache
def _exporter() -> HTMLExporter:
    config = Config()
    config.NbConvertBase.display_data_priority = SHOWN_FIRST
    return HTMLExporter(
        config=config,
        template_name="ldlab",
        extra_template_basedirs=[str(TEMPLATES)],
        exclude_anchor_links=True,
    )


def withheld(result: Mapping[str, Any]) -> str:
    """Why a page shows no answer, from an ``estimate.json``: a check broke the result; empty where none did."""
    said = result.get("claim") or {}
    return f"Not shown. {said.get('sentence', '')}" if said.get("verdict") == "not readable" else ""


def _without_what_does_not_apply(notebook: NotebookNode) -> NotebookNode:
    """A copy without the cells tagged ``optional`` that show nothing, and without the prose that leads up to them.

    Prose with a heading stays if its section goes on.
    """
    cells: list[NotebookNode] = list(notebook.cells)
    kept: list[NotebookNode] = []
    for place, cell in enumerate(cells):
        if "optional" in cell.metadata.get("tags", []) and not cell.get("outputs"):
            after = cells[place + 1] if place + 1 < len(cells) else None
            ends = after is None or (after.cell_type == "markdown" and after.source.startswith("#"))
            if kept and kept[-1].cell_type == "markdown" and (ends or not kept[-1].source.startswith("#")):
                kept.pop()
            continue
        kept.append(cell)
    return NotebookNode(notebook | {"cells": kept})


def without_answers(notebook: NotebookNode, why: str) -> NotebookNode:
    """A copy in which the outputs of cells tagged ``answer`` give way to the reason."""
    said = NotebookNode(
        output_type="display_data", metadata=NotebookNode(), data=NotebookNode({"text/plain": why})
    )
    cells = [
        NotebookNode(cell | {"outputs": [said]})
        if "answer" in cell.metadata.get("tags", []) and cell.get("outputs")
        else cell
        for cell in notebook.cells
    ]
    return NotebookNode(notebook | {"cells": cells})


def _with_alternative_text(notebook: NotebookNode) -> NotebookNode:
    """A copy whose every figure has its alternative text and width where the template looks for them."""
    notebook = NotebookNode(notebook | {"cells": [NotebookNode(cell) for cell in notebook.cells]})
    number = 0
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        number += 1
        if "remove-cell" in cell.metadata.get("tags", []):
            continue
        # Outputs that no reader can use (widgets, scripts) stay in the notebook.
        seen = [o for o in cell.outputs if "data" not in o or set(o.data) & set(SHOWN_FIRST)]
        cell.outputs = [_described(output, number) for output in seen]
    return notebook


def _described(output: NotebookNode, number: int) -> NotebookNode:
    mime = next((m for m in SHOWN_FIRST if m in output.get("data", {})), "")
    if mime not in IMAGES:
        return output
    given = output.metadata.get(mime, {})
    alt = str(given.get("alt") or output.metadata.get("alt") or "").strip()
    if not alt:
        raise PageError(
            f"The figure of code cell {number} has no alternative text. "
            "Show it through ldlab.plots, or as IPython.display.Image(..., alt='what the figure shows')."
        )
    width = given.get("width") or output.metadata.get("width") or _png_width(output.data[mime], mime)
    metadata = output.metadata | {mime: NotebookNode(given | {"alt": alt, "width": width})}
    return NotebookNode(output | {"metadata": NotebookNode(metadata)})


def _png_width(data: str, mime: str) -> int | None:
    """Width in pixels, from the file's header (PNG specification, section 11.2.2)."""
    if mime != "image/png":
        return None
    return int(struct.unpack(">I", base64.b64decode(data[:64])[16:20])[0])


def _fragment(html: str) -> BeautifulSoup:
    return BeautifulSoup(html, "html.parser")


def _remove_active(main: Tag) -> None:
    """Take out what the page's security policy would block anyway."""
    for element in main.select(_ACTIVE):
        element.decompose()
    for element in main.find_all(True):
        for name in [n for n in element.attrs if n.lower().startswith("on")]:
            del element[name]


def _open_with_brief(main: Tag) -> None:
    briefs = main.select(".output.brief")
    if any(brief.h1 is not None for brief in briefs):
        for heading in main.find_all("h1"):
            if heading.find_parent(class_="brief") is None:
                heading.decompose()
    for brief in reversed(briefs):
        main.insert(0, brief.extract())
    headings = main.find_all("h1")
    if briefs and headings and headings[0].find_parent(class_="brief") is None:
        main.insert(0, headings[0].extract())


def _only_heading(main: Tag) -> Tag:
    headings = main.find_all("h1")
    if len(headings) != 1:
        found = " / ".join(f"'{' '.join(h.get_text().split())}'" for h in headings[:3]) or "none"
        raise PageError(f"A page has one H1, the notebook's question; found {len(headings)}: {found}.")
    return headings[0]


def _check_heading_order(main: Tag) -> None:
    level = 0
    for heading in main.find_all(re.compile(r"^h[1-6]$")):
        this = int(heading.name[1])
        if this > level + 1:
            text = " ".join(heading.get_text().split())
            raise PageError(
                f"Headings go down one level at a time; '{text}' is an H{this} after an H{level}."
            )
        level = this


def _lay_out(table: Tag, soup: BeautifulSoup) -> None:
    """Align numbers to the right, and let a wide table scroll by itself."""
    del table["border"]
    rows = [row.find_all(["th", "td"], recursive=False) for row in table.find_all("tr")]
    body = [row for row in rows if any(cell.name == "td" for cell in row)]
    for column in range(max((len(row) for row in body), default=0)):
        cells = [row[column] for row in body if column < len(row) and row[column].name == "td"]
        texts = [" ".join(cell.get_text().split()) for cell in cells]
        if not any(_NUMBER.match(text) for text in texts):
            continue
        if all(_NUMBER.match(text) or text in _NO_NUMBER or text.startswith("fewer than") for text in texts):
            heads = [row[column] for row in rows if row not in body and column < len(row)]
            for cell in [*cells, *heads]:
                cell["class"] = "num"
    table.wrap(soup.new_tag("div", attrs={"class": "scroll", "tabindex": "0"}))


def _refuse_outside(soup: BeautifulSoup) -> None:
    """Links to elsewhere become text; anything that a browser would fetch is refused."""
    for element in soup.find_all(True):
        for name in [name for name in element.attrs if name.lower() in _LOADS]:
            address = str(element[name]).strip()
            if element.name == "a" and name == "href":
                if not _is_inside(address):
                    _unlink(element, address)
            elif not address.startswith(("data:image/", "#")):
                raise PageError(
                    f"The page would fetch something from elsewhere: <{element.name} {name}>. Show it as a figure instead."
                )
        if _OUTSIDE_CSS.search(
            str(element.get("style", "")) + (element.get_text() if element.name == "style" else "")
        ):
            raise PageError("A style sheet on the page would fetch something from elsewhere.")


def _is_inside(address: str) -> bool:
    parts = urlsplit(address)
    return not parts.scheme and not parts.netloc and not address.startswith(("/", "\\"))


def _unlink(link: Tag, address: str) -> None:
    text = " ".join(link.get_text().split())
    shown = address.removeprefix("https://").removeprefix("http://")
    if urlsplit(address).scheme in ("http", "https") and shown not in text:
        link.append(f" ({shown})")
    link.unwrap()


def in_short(result: Mapping[str, Any]) -> str:
    """The block behind the H1, from an ``estimate.json``: claim, verdict, effect, counts, grade.

    Parts that are missing are left out; all text is escaped.
    """
    claim = result.get("claim") or {}
    rows = [
        ("Verdict", _verdict(claim.get("verdict"))),
        *_effect_rows(result),
        ("Evidence", _grade(result)),
    ]
    shown = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(text))}</dd>" for name, text in rows if text)
    sentence = claim.get("sentence")
    said = f'<p class="claim">{escape(str(sentence))}</p>' if sentence else ""
    if not said and not shown:
        return ""
    return f'<section class="in-short" aria-label="In short">{said}<dl>{shown}</dl></section>'


def _verdict(word: str | None) -> str:
    return f"{word}: {VERDICT_MEANS[word]}" if word in VERDICT_MEANS else word or ""


def _effect_rows(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Effect and counts; no effect where the grade or a broken check forbids a size."""
    try:
        estimate = Estimate.model_validate(result.get("lead") or {})
    except ValidationError:
        return []
    effect = f"{estimate.format(estimate.value, sign=True)} {estimate.shown_unit}, {estimate.interval_text()}"
    verdict = (result.get("claim") or {}).get("verdict")
    if result.get("grade") in ("D", "E") or verdict in ("not readable", "too early"):
        effect = "no size: this evidence cannot carry one; the numbers below are for checking it"
    names = {
        "treated": "trained",
        "comparison": "comparison",
        "clusters": "clusters",
        "observations": "observations",
    }
    counts = [
        f"{count:,} {name}" for key, name in names.items() if (count := estimate.n.get(key)) is not None
    ]
    return [("Effect", effect), ("Counted", ", ".join(counts))]


def _grade(result: Mapping[str, Any]) -> str:
    grade = result.get("grade")
    if not grade:
        return ""
    statuses = [check.get("status") for check in result.get("checks") or []]
    counts = [
        (statuses.count(status), status.replace("_", " ")) for status in ("passed", "failed", "not_run")
    ]
    checks = ", ".join(f"{count} {status}" for count, status in counts if count)
    return f"grade {grade}" + (f"; checks: {checks}" if checks else "")
