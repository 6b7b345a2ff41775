"""What was found, and the refusal that follows; neither quotes a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ID_VALUES = "values of an id column"
ID_HINT = (
    "If no single unit is shown, an identifier of the unit or cluster column is also an ordinary word "
    "or number on the page; give ids a prefix."
)


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
        text = "Not published, because it would disclose: " + "; ".join(str(leak) for leak in leaks) + "."
        super().__init__(f"{text} {ID_HINT}" if any(leak.kind == ID_VALUES for leak in leaks) else text)


def refuse(leaks: Sequence[Leak]) -> None:
    """Raise :class:`DisclosureError` if there is any leak."""
    if leaks:
        raise DisclosureError(leaks)
