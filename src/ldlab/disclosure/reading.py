"""Finished pages and notebooks -> what they say: texts, tables and counts, without images and drawings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from bs4 import BeautifulSoup, Tag
from bs4.element import NavigableString, Stylesheet

# Attributes that hold drawing, not text.
DRAWING = re.compile(
    r"style|d|points|transform|viewbox|width|height|[xy][12]?|c[xy]|r[xy]?|d[xy]|fill|stroke|color|(col|row)span"
)


type Cell = tuple[str, bool]


@dataclass
class Content:
    """What a file says: its text, its tables, and the numbers that it calls counts."""

    texts: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)


@dataclass
class Table:
    """Heading rows, then rows of (text, is a heading)."""

    headings: list[list[str]]
    rows: list[list[Cell]]

    def heading(self, column: int) -> list[str]:
        """What stands above a column."""
        return [row[column] for row in self.headings if column < len(row) and row[column]]


def read_html(text: str, content: Content) -> None:
    """All text of a page, its attributes too, and its tables; no style sheets, images or drawings."""
    soup = BeautifulSoup(text, "html.parser")
    strings = (
        s
        for s in soup.find_all(string=True)
        if isinstance(s, NavigableString) and not isinstance(s, Stylesheet)
    )
    content.texts.append(" ".join(strings))
    for element in soup.find_all(True):
        for name, value in element.attrs.items():
            words = value if isinstance(value, str) else " ".join(value)
            if not DRAWING.fullmatch(name.lower()) and not words.startswith("data:"):
                content.texts.append(words)
    content.tables.extend(_table(element) for element in soup.find_all("table"))


def _table(element: Tag) -> Table:
    """A table with its spans spread out: headings are the first rows, as long as all cells are headings."""
    grid: list[list[Cell]] = []
    below: dict[int, tuple[int, Cell]] = {}
    for line in element.find_all("tr"):
        row: list[Cell] = []
        for cell in line.find_all(["th", "td"], recursive=False):
            _take_spanning(row, below)
            entry = (" ".join(cell.get_text(" ").split()), cell.name == "th")
            rows, columns = _span(cell, "rowspan"), _span(cell, "colspan")
            for _ in range(columns):
                if rows > 1:
                    below[len(row)] = (rows, entry)
                row.append(entry)
        _take_spanning(row, below)
        below = {column: (left - 1, entry) for column, (left, entry) in below.items() if left > 1}
        grid.append(row)
    first = next((i for i, row in enumerate(grid) if not all(heading for _, heading in row)), len(grid))
    return Table([[text for text, _ in row] for row in grid[:first]], grid[first:])


def _take_spanning(row: list[Cell], below: dict[int, tuple[int, Cell]]) -> None:
    """Put the cells that reach down from earlier rows where the row has come to them."""
    while len(row) in below:
        row.append(below[len(row)][1])


def _span(cell: Tag, name: str) -> int:
    value = str(cell.get(name, "1"))
    return min(int(value), 1000) if value.isdigit() and int(value) > 0 else 1


def read_notebook(notebook: Any, content: Content) -> None:
    """All text of a notebook but its images: sources, outputs, metadata."""
    _read_strings(notebook.get("metadata", {}), content)
    for cell in notebook.get("cells", []):
        content.texts.append(_joined(cell.get("source", "")))
        _read_strings(cell.get("metadata", {}), content)
        for output in cell.get("outputs", []):
            rest = {key: value for key, value in output.items() if key != "data"}
            _read_strings(rest, content)
            for mime, value in output.get("data", {}).items():
                if mime in ("text/html", "image/svg+xml"):
                    read_html(_joined(value), content)
                elif not mime.startswith("image/"):
                    _read_strings(_joined(value) if mime.startswith("text/") else value, content)


def _read_strings(value: Any, content: Content) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            content.texts.append(str(key))
            _read_strings(item, content)
    elif isinstance(value, list):
        for item in value:
            _read_strings(item, content)
    elif isinstance(value, str):
        content.texts.append(value)


def _joined(value: Any) -> str:
    return value if isinstance(value, str) else "".join(value)
