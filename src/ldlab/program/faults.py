"""Faults: what is wrong with an input, said so that the reader can mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: where, what was found, what was expected, what to do.

    ``line`` counts from 1; it is None where a fault has no line (a missing file, a table).
    """

    file: str
    line: int | None
    field: str
    found: str
    expected: str
    hint: str = ""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        text = f"{place}: {self.field}: found {self.found}; expected {self.expected}"
        return f"{text}. {self.hint}" if self.hint else text


class LdlabError(Exception):
    """Any refusal of ldlab's own; its text is meant for the reader and quotes no row of data."""


class InputError(LdlabError):
    """Input that was refused before any work started; ``faults`` lists every one found."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint that names the closest known word, or lists what there is.

    >>> did_you_mean("tite", ["title", "owner"])
    "Did you mean 'title'?"
    """
    words = [str(word) for word in known]
    folded = {word.casefold(): word for word in words}
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    if close:
        return f"Did you mean '{folded[close[0]]}'?"
    shown = ", ".join(words[:20])
    return f"There is: {shown}{', ...' if len(words) > 20 else ''}." if words else ""


def shorten(value: object, width: int = 60) -> str:
    """A value as a message shows it: quoted if text, cut if long."""
    text = f"'{value}'" if isinstance(value, str) else str(value)
    return text if len(text) <= width else text[: width - 3] + "..."
