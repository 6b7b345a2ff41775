"""Finding identifiers in a text: many at once, as whole words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_WORD = re.compile(r"[^\W_]+")


def searchable(ids: Iterable[str]) -> frozenset[str]:
    """The ids that can be told from other text: three characters with a letter, or five without.

    Shorter ones look like counts and words; a page that is free of them cannot be promised.
    """
    trimmed = (re.sub(r"^[\W_]+|[\W_]+$", "", " ".join(str(value).split())).lower() for value in ids)
    return frozenset(v for v in trimmed if len(v) >= (3 if any(c.isalpha() for c in v) else 5))


class IdIndex:
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
