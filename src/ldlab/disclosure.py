"""Disclosure control: a table -> a suppressed table; finished files -> a list of leaks, or a refusal.

Three things never leave: groups with fewer people than the agreed minimum, values of an id column, and paths
that name a machine or its user. Tables are suppressed while they are made; the scan of the finished files is
the second lock, and knows nothing of how they were made.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from bs4 import BeautifulSoup, Tag
from bs4.element import NavigableString, Stylesheet

MOST_ROWS = 200
COMPLEMENTARY = "not shown"
# Words that make a column, a row or a key one that counts people (or what stands for them).
PEOPLE_WORDS = frozenset(
    re.findall(
        r"\w+",
        "people persons person employees participants individuals headcount units treated trained untrained "
        "comparison control controls observations obs rows firms agents workers learners",
    )
)
COUNT_FILLERS = frozenset(["n", "number", "no", "of", "count", "total", "the", "in", "not", "group", "arm"])
NOT_PEOPLE = re.compile(r"cluster|period|draw|chain|check|parameter|program")
TEXT_SUFFIXES = (".html", ".ipynb", ".json", ".csv", ".tsv", ".txt", ".md", ".svg")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
# Attributes that hold drawing, not text.
DRAWING = re.compile(
    r"style|d|points|transform|viewbox|width|height|[xy][12]?|c[xy]|r[xy]?|d[xy]|fill|stroke|color|(col|row)span"
)
_WORD = re.compile(r"[^\W_]+")
_WHOLE = re.compile(r"^(\d{1,3}(?:,\d{3})+|\d+)(?:\.0)?$")
_BEFORE_PATH = r"(?<![\w.~-])"
_ANY_HOME = _BEFORE_PATH + r"(?:/home|/Users|[A-Za-z]:[\\/]+Users)[\\/]+[\w.-]"


type _Cell = tuple[str, bool]


@dataclass(frozen=True)
class Leak:
    """Something that must not be published: in which file, of what kind, how many. Never the value itself."""

    file: str
    kind: str
    count: int

    def __str__(self) -> str:
        return f"{self.file}: {self.kind} ({self.count})"


class DisclosureError(Exception):
    """A refusal to publish; its text names files and kinds of leak, and quotes no value."""

    def __init__(self, leaks: Sequence[Leak]) -> None:
        self.leaks = tuple(leaks)
        super().__init__(
            "Not published, because it would disclose: " + "; ".join(str(leak) for leak in leaks) + "."
        )


def suppress(
    table: pd.DataFrame, counts: Sequence[str], minimum: int, label: str | None = None
) -> pd.DataFrame:
    """Blank the rows of small groups, and as many more as hide them from subtraction.

    A row is blanked when any of its counts is under ``minimum`` (or missing). The total of all rows is taken
    as known: while the blanked rows together hold fewer than ``minimum`` in some count, the next smallest row
    is blanked too (complementary suppression; Hundepool et al. 2012, Statistical Disclosure Control, ch. 4).

    Parameters
    ----------
    table
        One row per group, the group's name in the index. Not changed.
    counts
        Columns that count people.
    minimum
        Smallest group that may be shown.
    label
        What a small row's count columns say; default 'fewer than <minimum>'. Rows blanked to protect another
        say 'not shown'. All their other columns become missing.

    Raises
    ------
    KeyError
        If a count column is not in the table.
    """
    numbers = table[list(counts)].apply(pd.to_numeric, errors="coerce").fillna(0)
    small = (numbers < minimum).any(axis=1).to_numpy()
    result = table.copy()
    if not small.any():
        return result
    hidden = small.copy()
    by_size = numbers.min(axis=1).to_numpy().argsort(kind="stable")
    for row in by_size:
        if (numbers[hidden].sum() >= minimum).all():
            break
        hidden[row] = True
    for name in result.columns:
        if name in counts:
            column = result[name].astype(object)
            column[hidden] = COMPLEMENTARY
            column[small] = label or f"fewer than {minimum}"
            result[name] = column
        else:
            result[name] = result[name].mask(hidden)
    return result


def searchable(ids: Iterable[str]) -> frozenset[str]:
    """The ids that can be told from other text: three characters with a letter, or five without.

    Shorter ones look like counts and words; a page that is free of them cannot be promised.
    """
    trimmed = (re.sub(r"^[\W_]+|[\W_]+$", "", " ".join(str(value).split())).lower() for value in ids)
    return frozenset(v for v in trimmed if len(v) >= (3 if any(c.isalpha() for c in v) else 5))


def scan_folder(
    folder: Path,
    *,
    ids: Iterable[str],
    minimum: int,
    forbidden: Iterable[str | Path] = (),
    user: str = "",
    unit_column: str = "",
    unit: str = "",
) -> list[Leak]:
    """Look through finished files for what must not be published.

    Parameters
    ----------
    folder
        Scanned with all its subfolders.
    ids
        Values of the id columns; matched as whole words, without regard to case (see :func:`searchable`).
    minimum
        Smallest group that may be shown: no smaller whole number may stand under a count's heading in a
        table, under a count's key in JSON, or before 'trained', 'people' ... in a table.
    forbidden
        Folders whose absolute path must not appear (project, home); any other home folder is refused as well.
    user
        A user name that must not appear in an absolute path.
    unit_column, unit
        The id column's name: a table with that heading has rows about single units. What a unit is called.

    Returns
    -------
    list of Leak
        Empty if the folder may be published.
    """
    lock = _Lock(_IdIndex(searchable(ids)), minimum, _path_pattern(forbidden, user), unit_column, unit)
    leaks: list[Leak] = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        shown = path.relative_to(folder).as_posix()
        found = lock.leaks_in(path)
        leaks.extend(Leak(shown, kind, count) for kind, count in found.items() if count)
    return leaks


def refuse(leaks: Sequence[Leak]) -> None:
    """Raise :class:`DisclosureError` if there is any leak."""
    if leaks:
        raise DisclosureError(leaks)


@dataclass
class _Content:
    """What a file says: its text, its tables, and the numbers that it calls counts."""

    texts: list[str] = field(default_factory=list)
    tables: list[_Table] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)


@dataclass
class _Table:
    """Heading rows, then rows of (text, is a heading)."""

    headings: list[list[str]]
    rows: list[list[_Cell]]

    def heading(self, column: int) -> list[str]:
        return [row[column] for row in self.headings if column < len(row) and row[column]]


class _Lock:
    """The rules of one scan."""

    def __init__(
        self, ids: _IdIndex, minimum: int, paths: re.Pattern[str], unit_column: str, unit: str
    ) -> None:
        self.ids, self.minimum, self.paths = ids, minimum, paths
        self.unit_column = unit_column.casefold()
        names = {unit.casefold(), unit.casefold() + "s"} if unit else set()
        self.people = PEOPLE_WORDS | names
        plural = sorted(PEOPLE_WORDS - {"units", "rows", "obs"} | {n for n in names if n.endswith("s")})
        self.counted = re.compile(
            r"(?<![\d.,])(\d[\d,]*) (?:" + "|".join(map(re.escape, plural)) + r")\b(?! cluster)"
        )

    def leaks_in(self, path: Path) -> dict[str, int]:
        kind = path.suffix.lower()
        if kind in IMAGE_SUFFIXES:
            return self._leaks(_Content([path.name]))
        if kind not in TEXT_SUFFIXES:
            return {"a file of a kind that is never published": 1}
        try:
            return self._leaks(self._read(path, kind))
        except json.JSONDecodeError:
            return {"a file that cannot be read": 1}

    def _leaks(self, content: _Content) -> dict[str, int]:
        text = "\n".join(content.texts)
        small = sum(0 < value < self.minimum for value in content.counts)
        return {
            "values of an id column": self.ids.count(text),
            f"counts of fewer than {self.minimum} people": small
            + sum(self._small_counts(table) for table in content.tables),
            "tables with a row for each unit": sum(self._has_unit_rows(table) for table in content.tables),
            "absolute paths or user names": len(self.paths.findall(text)),
        }

    def _read(self, path: Path, kind: str) -> _Content:
        text = path.read_text(encoding="utf-8", errors="replace")
        content = _Content([path.name])
        if kind in (".html", ".svg"):
            _read_html(text, content)
        elif kind in (".json", ".ipynb"):
            value = json.loads(text)
            if kind == ".ipynb":
                _read_notebook(value, content)
            else:
                self._read_json(value, content)
        elif kind in (".csv", ".tsv"):
            content.texts.append(text)
            rows = list(csv.reader(text.splitlines(), delimiter="," if kind == ".csv" else "\t"))
            content.tables.append(_Table(rows[:1], [[(cell, False) for cell in row] for row in rows[1:]]))
        else:
            content.texts.append(text)
        return content

    def _read_json(self, value: Any, content: _Content, key: str = "") -> None:
        if isinstance(value, dict):
            for name, item in value.items():
                content.texts.append(str(name))
                self._read_json(item, content, f"n {name}" if key == "n" else str(name))
        elif isinstance(value, list):
            for item in value:
                self._read_json(item, content, key)
        elif isinstance(value, str):
            content.texts.append(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            counts = key.startswith("n ") and not NOT_PEOPLE.search(key)
            if counts or self._counts_people(key):
                content.counts.append(value)
            elif value >= 0:
                content.texts.append(str(value))

    def _counts_people(self, heading: str) -> bool:
        """Whether a heading names a count: 'n', 'units', 'number of trained agents'; not 'share trained'."""
        words = re.findall(r"[^\W_]+", heading.casefold())
        if not words or NOT_PEOPLE.search(heading.casefold()):
            return False
        known = all(word in self.people or word in COUNT_FILLERS for word in words)
        return known and ("n" in words or any(word in self.people for word in words))

    def _small_counts(self, table: _Table) -> int:
        return sum(self._small_in_row(table, row) for row in table.rows)

    def _small_in_row(self, table: _Table, row: list[_Cell]) -> int:
        label = next((text for text, is_heading in row if is_heading), "")
        if NOT_PEOPLE.search(label.casefold()):
            return 0
        found = 0
        for column, (text, is_heading) in enumerate(row):
            if is_heading:
                continue
            headings = [*table.heading(column), label]
            values = [int(number.replace(",", "")) for number in self.counted.findall(text.casefold())]
            whole = _whole_number(text)
            if whole is not None and any(self._counts_people(heading) for heading in headings):
                values.append(whole)
            found += sum(0 < value < self.minimum for value in values)
        return found

    def _has_unit_rows(self, table: _Table) -> bool:
        names = {heading.casefold() for row in table.headings for heading in row}
        return len(table.rows) > MOST_ROWS or bool(self.unit_column and self.unit_column in names)


class _IdIndex:
    """Finds whole-word occurrences of many ids in one pass over a text.

    Every id is filed under its first word with its length; at each word of the text only the ids filed
    there are compared, so that 20,000 ids cost no more than 20.
    """

    def __init__(self, ids: frozenset[str]) -> None:
        self._ids = ids
        self._lengths: dict[str, set[int]] = {}
        for value in ids:
            first = _WORD.match(value)
            if first:
                self._lengths.setdefault(first.group(), set()).add(len(value))

    def count(self, text: str) -> int:
        """How many different ids the text holds."""
        if not self._ids:
            return 0
        text = " ".join(text.split()).lower()
        return len(set(self._found(text)))

    def _found(self, text: str) -> Iterator[str]:
        for word in _WORD.finditer(text):
            for length in self._lengths.get(word.group(), ()):
                start, end = word.start(), word.start() + length
                whole = not text[end : end + 1].isalnum() and not _part_of_number(text, start, end)
                if whole and text[start:end] in self._ids:
                    yield text[start:end]


def _part_of_number(text: str, start: int, end: int) -> bool:
    """Whether a run of digits belongs to a longer number: 12,345.67 or −12345."""
    if not text[start:end].isdigit():
        return False
    before, after = text[max(start - 2, 0) : start], text[end : end + 2]
    return bool(re.search(r"\d[.,]$|(?:^|\W)\.$|−$", before) or re.match(r"[.,]\d", after))


def _path_pattern(forbidden: Iterable[str | Path], user: str) -> re.Pattern[str]:
    roots = {str(root).rstrip("/\\") for root in forbidden}
    parts = [
        _BEFORE_PATH + re.escape(root) + r"(?![\w-])" for root in sorted(roots) if len(Path(root).parts) > 1
    ]
    parts.append(_ANY_HOME)
    if user:
        parts.append(_BEFORE_PATH + r"(?:/|[A-Za-z]:\\)(?:[\w.-]+[/\\])*" + re.escape(user) + r"(?![\w-])")
    return re.compile("|".join(parts))


def _whole_number(text: str) -> int | None:
    match = _WHOLE.match(text.strip())
    return int(match.group(1).replace(",", "")) if match else None


def _read_html(text: str, content: _Content) -> None:
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


def _table(element: Tag) -> _Table:
    """A table with its spans spread out: headings are the first rows, as long as all cells are headings."""
    grid: list[list[_Cell]] = []
    below: dict[int, tuple[int, _Cell]] = {}
    for line in element.find_all("tr"):
        row: list[_Cell] = []
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
    return _Table([[text for text, _ in row] for row in grid[:first]], grid[first:])


def _take_spanning(row: list[_Cell], below: dict[int, tuple[int, _Cell]]) -> None:
    """Put the cells that reach down from earlier rows where the row has come to them."""
    while len(row) in below:
        row.append(below[len(row)][1])


def _span(cell: Tag, name: str) -> int:
    value = str(cell.get(name, "1"))
    return min(int(value), 1000) if value.isdigit() and int(value) > 0 else 1


def _read_notebook(notebook: Any, content: _Content) -> None:
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
                    _read_html(_joined(value), content)
                elif not mime.startswith("image/"):
                    _read_strings(_joined(value) if mime.startswith("text/") else value, content)


def _read_strings(value: Any, content: _Content) -> None:
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
