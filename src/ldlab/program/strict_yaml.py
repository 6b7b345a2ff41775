"""Strict YAML: plain maps, lists, text, numbers, true, false and null, with the line of everything."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from ldlab.program.faults import Fault, InputError

SIZE_CAP = 256 * 1024
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where PyYAML was built with it
_INT = re.compile(r"^[-+]?(0|[1-9][0-9]*)$")
_FLOAT = re.compile(r"^[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+)$")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}
Where = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """A parsed YAML file: its value, and the line of every key and item."""

    value: Any
    lines: dict[Where, int]

    def line(self, where: Sequence[str | int]) -> int | None:
        """Line of a place, or of the nearest place above it."""
        place = tuple(where)
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place)


def parse_yaml(text: str, file: str) -> Document:
    """Parse strict YAML: plain maps, lists, text, numbers, true/false, null.

    ``NO``, ``012`` and ``12:30`` stay text; dates stay text until a field asks for a date.

    Raises
    ------
    InputError
        On tags, anchors, aliases, duplicate keys, several documents or a syntax error.
    """
    faults: list[Fault] = []
    if len(text.encode()) > SIZE_CAP:
        raise InputError(
            [
                Fault(
                    file, None, "file", f"{len(text.encode()) // 1024} KiB", f"at most {SIZE_CAP // 1024} KiB"
                )
            ]
        )
    try:
        for event in yaml.parse(text, Loader=LOADER):
            line = event.start_mark.line + 1 if event.start_mark else None
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                faults.append(Fault(file, line, "YAML", "an anchor or alias", "the value written out"))
            elif tag := getattr(event, "tag", None):
                faults.append(Fault(file, line, "YAML", f"the tag {tag}", "plain values; tags can run code"))
        if faults:
            raise InputError(faults)
        node = yaml.compose(text, Loader=LOADER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(
            [
                Fault(
                    file,
                    mark.line + 1 if mark else None,
                    "YAML",
                    problem,
                    "readable YAML",
                    "Indent with spaces, and quote text that holds ': ' or starts with a special character.",
                )
            ]
        ) from error
    lines: dict[Where, int] = {}
    value = _construct(node, (), lines, faults, file) if node is not None else None
    if faults:
        raise InputError(faults)
    return Document(value, lines)


def _construct(node: yaml.Node, where: Where, lines: dict[Where, int], faults: list[Fault], file: str) -> Any:
    lines.setdefault(where, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                faults.append(Fault(file, line, "YAML", "a key that is a list or map", "a word as the key"))
                continue
            if key in result:
                faults.append(
                    Fault(
                        file,
                        line,
                        dotted((*where, key)),
                        "the key a second time",
                        f"each key once (first on line {lines[(*where, key)]})",
                    )
                )
                continue
            lines[(*where, key)] = line
            result[key] = _construct(value_node, (*where, key), lines, faults, file)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_construct(item, (*where, i), lines, faults, file) for i, item in enumerate(node.value)]
    return _scalar(str(node.value), plain=not getattr(node, "style", None))


def _scalar(text: str, *, plain: bool) -> str | int | float | bool | None:
    if not plain:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.match(text):
        return int(text)
    return float(text) if _FLOAT.match(text) else text


def dotted(where: Iterable[str | int]) -> str:
    """A place as messages name it: 'kpi.target.unit'."""
    return ".".join(str(part) for part in where) or "file"
