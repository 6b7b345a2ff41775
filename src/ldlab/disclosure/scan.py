"""The second lock: finished files -> a list of leaks, whatever they were made from."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ldlab.disclosure.ids import IdIndex, searchable
from ldlab.disclosure.leaks import ID_VALUES, Leak
from ldlab.disclosure.reading import Cell, Content, Table, read_html, read_notebook

MOST_ROWS = 200
# Words that make a column, a row or a key one that counts people (or what stands for them).
PEOPLE_WORDS = frozenset(
    re.findall(
        r"\w+",
        "people persons person employees participants individuals headcount units treated trained untrained "
        "comparison control controls observations obs rows firms agents workers learners",
    )
)
COUNT_FILLERS = frozenset(["n", "number", "no", "of", "count", "total", "the", "in", "not", "group", "arm"])
# Column headings that leave it to the row to say what is counted.
SAYS_NOTHING = re.compile(r"\d*|values?|numbers?|counts?|totals?|results?|all", re.IGNORECASE)
NOT_PEOPLE = re.compile(r"cluster|period|draw|chain|check|parameter|program")
TEXT_SUFFIXES = (".html", ".ipynb", ".json", ".csv", ".tsv", ".txt", ".md", ".svg")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_RUN = re.compile(r"[a-z0-9]+")
_WHOLE = re.compile(r"(\d{1,3}(?:,\d{3})+|\d+)(\.0)?")
_BEFORE_PATH = r"(?<![\w.~-])"
_ANY_HOME = _BEFORE_PATH + r"(?:/home|/Users|[A-Za-z]:[\\/]+Users)[\\/]+[\w.-]"


def scan_folder(
    folder: Path,
    *,
    ids: Iterable[str] | Callable[[frozenset[str]], Iterable[str]],
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
        Values of the id columns; matched as whole words, without regard to case (see :func:`searchable`). Or a function
        that is given all runs of a-z and 0-9 in the files, in lower case, and returns at least the ids made of them.
    minimum
        Smallest group that may be shown: no smaller whole number may stand under a count's heading in a
        table, in a row with a count's heading whose column says nothing else, under a count's key in JSON,
        or before 'trained', 'people' ... in a table.
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
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    lock = _Lock(IdIndex(frozenset()), minimum, _path_pattern(forbidden, user), unit_column, unit)
    listed = ids(frozenset().union(*map(lock.runs_in, paths))) if callable(ids) else ids
    lock.ids = IdIndex(searchable(listed))
    leaks: list[Leak] = []
    for path in paths:
        shown = path.relative_to(folder).as_posix()
        found = lock.leaks_in(path)
        leaks.extend(Leak(shown, kind, count) for kind, count in found.items() if count)
    return leaks


class _Lock:
    """The rules of one scan."""

    def __init__(
        self, ids: IdIndex, minimum: int, paths: re.Pattern[str], unit_column: str, unit: str
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
        if path.suffix.lower() not in (*TEXT_SUFFIXES, *IMAGE_SUFFIXES):
            return {"a file of a kind that is never published": 1}
        try:
            return self._leaks(self._content(path))
        except json.JSONDecodeError:
            return {"a file that cannot be read": 1}

    def runs_in(self, path: Path) -> frozenset[str]:
        """Runs of a-z and 0-9 in what a file says, in lower case; a file that is refused anyway has none."""
        try:
            return frozenset(_RUN.findall("\n".join(self._content(path).texts).lower()))
        except json.JSONDecodeError:
            return frozenset()

    def _content(self, path: Path) -> Content:
        kind = path.suffix.lower()
        return self._read(path, kind) if kind in TEXT_SUFFIXES else Content([path.name])

    def _leaks(self, content: Content) -> dict[str, int]:
        text = "\n".join(content.texts)
        small = sum(0 < value < self.minimum for value in content.counts)
        return {
            ID_VALUES: self.ids.count(text),
            f"counts of fewer than {self.minimum} people": small
            + sum(self._small_counts(table) for table in content.tables),
            "tables with a row for each unit": sum(self._has_unit_rows(table) for table in content.tables),
            "absolute paths or user names": len(self.paths.findall(text)),
        }

    def _read(self, path: Path, kind: str) -> Content:
        text = path.read_text(encoding="utf-8", errors="replace")
        content = Content([path.name])
        if kind in (".html", ".svg"):
            read_html(text, content)
        elif kind in (".json", ".ipynb"):
            value = json.loads(text)
            if kind == ".ipynb":
                read_notebook(value, content)
            else:
                self._read_json(value, content)
        elif kind in (".csv", ".tsv"):
            content.texts.append(text)
            rows = list(csv.reader(text.splitlines(), delimiter="," if kind == ".csv" else "\t"))
            content.tables.append(Table(rows[:1], [[(cell, False) for cell in row] for row in rows[1:]]))
        else:
            content.texts.append(text)
        return content

    def _read_json(self, value: Any, content: Content, key: str = "") -> None:
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

    def _small_counts(self, table: Table) -> int:
        return sum(self._small_in_row(table, row) for row in table.rows)

    def _small_in_row(self, table: Table, row: list[Cell]) -> int:
        label = next((text for text, is_heading in row if is_heading), "")
        if NOT_PEOPLE.search(label.casefold()):
            return 0
        found = 0
        for column, (text, is_heading) in enumerate(row):
            if is_heading:
                continue
            values = [_as_int(number) for number in self.counted.findall(text.casefold())]
            whole = _WHOLE.fullmatch(text.strip())
            if whole and self._is_count(table.heading(column), label, written_as_decimal=bool(whole[2])):
                values.append(_as_int(whole[1]))
            found += sum(0 < value < self.minimum for value in values)
        return found

    def _is_count(self, headings: list[str], label: str, *, written_as_decimal: bool) -> bool:
        """Whether a whole number counts people: by its column; by its row if the column says nothing.

        '8.0' may be a mean in a row that is headed 'trained'; under 'units' it is a count.
        """
        if any(self._counts_people(heading) for heading in headings):
            return True
        by_row = all(SAYS_NOTHING.fullmatch(heading) for heading in headings)
        return by_row and not written_as_decimal and self._counts_people(label)

    def _has_unit_rows(self, table: Table) -> bool:
        names = {heading.casefold() for row in table.headings for heading in row}
        return len(table.rows) > MOST_ROWS or bool(self.unit_column and self.unit_column in names)


def _path_pattern(forbidden: Iterable[str | Path], user: str) -> re.Pattern[str]:
    roots = {str(root).rstrip("/\\") for root in forbidden}
    parts = [
        _BEFORE_PATH + re.escape(root) + r"(?![\w-])" for root in sorted(roots) if len(Path(root).parts) > 1
    ]
    parts.append(_ANY_HOME)
    if user:
        parts.append(_BEFORE_PATH + r"(?:/|[A-Za-z]:\\)(?:[\w.-]+[/\\])*" + re.escape(user) + r"(?![\w-])")
    return re.compile("|".join(parts))


def _as_int(number: str) -> int:
    return int(number.replace(",", ""))
