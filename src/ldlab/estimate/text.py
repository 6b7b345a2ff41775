"""How results print: as rows on a terminal and in JupyterLab, and numbers as readers see them."""

from __future__ import annotations

import math
from html import escape

from pydantic import BaseModel, ConfigDict


class Printed:
    """Prints itself as rows of (name, text): lines on a terminal, a table in JupyterLab."""

    def _rows(self) -> list[tuple[str, str]]:
        raise NotImplementedError

    def __str__(self) -> str:
        return "\n".join(f"{name}: {text}" for name, text in self._rows())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return rows_to_html(self._rows())


class Noun(BaseModel):
    """A frozen result that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def rows_to_html(rows: list[tuple[str, str]]) -> str:
    """A two-column table with row headers; all text escaped. JupyterLab would align text to the right."""
    left = 'style="text-align:left"'
    cells = "".join(
        f'<tr><th scope="row" {left}>{escape(name)}</th><td {left}>{escape(text)}</td></tr>'
        for name, text in rows
    )
    return f"<table>{cells}</table>"


def format_number(value: float, decimals: int, *, sign: bool = False) -> str:
    """A number with thousands separators and a true minus sign; never '-0'.

    >>> format_number(-1234.56, 1, sign=True)
    '−1,234.6'
    """
    if math.isinf(value):
        return "−∞" if value < 0 else "∞"
    rounded = round(value, decimals) + 0.0
    text = f"{abs(rounded):,.{decimals}f}"
    mark = "−" if rounded < 0 else "+" if sign and rounded > 0 else ""
    return mark + text


def format_chance(chance: float) -> str:
    """A chance as a percentage that never claims certainty.

    >>> format_chance(0.9999), format_chance(0.314)
    ('over 99.5%', '31%')
    """
    if math.isnan(chance):
        return "not known"
    if chance >= 0.995:
        return "over 99.5%"
    if chance <= 0.005:
        return "under 0.5%"
    return f"{chance:.0%}"


def format_money(value: float, currency: str) -> str:
    """An amount of money to three significant digits.

    >>> format_money(-103776, "EUR")
    'EUR −104,000'
    """
    digits = 0 if value == 0 else max(0, math.floor(math.log10(abs(value))) - 2)
    return f"{currency} {format_number(round(value, -digits), 0)}"


def chance_in_words(chance: float) -> str:
    """The defined word for a chance (after the UK PHIA yardstick, its bands made contiguous).

    >>> chance_in_words(0.31)
    'unlikely'
    """
    if math.isnan(chance):
        return "not known"
    bounds = [
        (0.05, "remote chance"),
        (0.2, "very unlikely"),
        (0.4, "unlikely"),
        (0.55, "about as likely as not"),
        (0.8, "likely"),
        (0.95, "very likely"),
    ]
    return next((word for bound, word in bounds if chance < bound), "almost certain")


def level_in_words(level: float) -> str:
    """How pages name an interval of this level: '9-in-10 range', or its percentage.

    >>> level_in_words(0.9), level_in_words(0.95)
    ('9-in-10 range', '95% range')
    """
    tenths = level * 10
    return f"{tenths:.0f}-in-10 range" if abs(tenths - round(tenths)) < 1e-9 else f"{level:.0%} range"
