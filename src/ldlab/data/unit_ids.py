"""The ids that no published file may hold, however many there are: those of large data are looked up, not listed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ldlab.data import identifiers
from ldlab.data.read import select
from ldlab.data.sums import literal, quoted
from ldlab.program import Program

LARGE = 500_000  # rows, from which ids are looked up; listing them takes 150 bytes each
SHORT = 5  # characters, under which an id may be too short to be searched for
RUN = "[a-z0-9]+"


@dataclass(frozen=True)
class UnitIds:
    """The ids of some programs.

    Attributes
    ----------
    listed
        The ids of programs with fewer than :data:`LARGE` rows, all of them.
    looked_up
        The other programs.
    """

    listed: frozenset[str] = frozenset()
    looked_up: tuple[Program, ...] = ()

    def __or__(self, other: UnitIds) -> UnitIds:
        return UnitIds(self.listed | other.listed, self.looked_up + other.looked_up)

    def __call__(self, words: frozenset[str]) -> frozenset[str]:
        """The ids that a text with these words could hold: each run of a-z and 0-9 in the id, in lower case, is one of them.

        A superset of what is in the text: an id in it brings all its runs. Ids with other letters are always among them.
        """
        found = (_among(program, column, words) for program in self.looked_up for column in _columns(program))
        return self.listed.union(*found)

    def short(self) -> frozenset[str]:
        """The listed ids, and of the others those with fewer than 5 characters."""
        found = set(self.listed)
        for program in self.looked_up:
            for column in _columns(program):
                found |= _ids(program, column, f"length({_text(column)}) < {SHORT}")
        return frozenset(found)


def unit_ids(program: Program) -> UnitIds:
    """The ids of a program, as :func:`ldlab.data.identifiers` names them.

    Raises
    ------
    InputError
        If the program's data cannot be read.
    """
    if int(select(program, "count(*) AS n")["n"].iloc[0]) < LARGE:
        return UnitIds(identifiers(program))
    return UnitIds(frozenset(), (program,))


def _columns(program: Program) -> list[str]:
    """The unit's column, then those of groups that may be small."""
    columns = program.design.columns
    groups = {columns.cluster, columns.team, columns.stratum} - {None, columns.segment, columns.unit}
    return [columns.unit, *sorted(str(name) for name in groups)]


def _text(column: str) -> str:
    """An id as text: whole numbers without a decimal point."""
    return f"regexp_replace(CAST({quoted(column)} AS VARCHAR), '\\.0$', '')"


def _among(program: Program, column: str, words: frozenset[str]) -> frozenset[str]:
    """The longest run decides in SQL, by a join with the words; the other runs of what is left are looked at here."""
    text = f"lower({_text(column)})"
    longest = f"list_reduce(regexp_extract_all({text}, '{RUN}'), lambda a, b: CASE WHEN length(b) > length(a) THEN b ELSE a END)"
    listed = "[" + ", ".join(literal(word) for word in sorted(words)) + "]::VARCHAR[]"
    some = f"regexp_matches({text}, '[a-z0-9]')"
    found = _ids(program, column, f"CASE WHEN {some} THEN {longest} END IN (SELECT unnest({listed}))")
    runs = re.compile(RUN)
    plain = {value for value in found if set(runs.findall(value.lower())) <= words}
    return frozenset(plain) | _ids(program, column, f"strlen({_text(column)}) <> length({_text(column)})")


def _ids(program: Program, column: str, condition: str) -> frozenset[str]:
    """The column's ids of which the condition holds; of a group's column only those of small groups."""
    unit, minimum = program.design.columns.unit, program.analysis.minimum_group_size
    few = "" if column == unit else f"HAVING count(DISTINCT {quoted(unit)}) < {minimum}"
    rest = f"WHERE {quoted(column)} IS NOT NULL AND ({condition}) GROUP BY 1 {few}"
    return frozenset(select(program, f"{_text(column)} AS id", rest)["id"])
