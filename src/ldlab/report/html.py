"""Pieces of HTML that the brief and the portfolio share. All text that comes in is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

STYLE = """<style>
.ldlab{--ink:#1b1f24;--soft:#5b6570;--line:#d9dee3;--good:#0b6e4f;--warn:#9a5b00;--bad:#a1260d;--accent:#1f4e79;
color:var(--ink);font:16px/1.5 Inter,system-ui,"Segoe UI",Helvetica,Arial,sans-serif}
.ldlab *{box-sizing:border-box}.ldlab .kicker{color:var(--soft);font-size:14px;margin:0 0 6px}
.ldlab h1{font-size:26px;line-height:1.25;margin:0 0 16px;letter-spacing:-.01em}.ldlab h2{font-size:19px;margin:34px 0 8px}
.ldlab .decision{display:flex;gap:16px;align-items:center;border:1px solid var(--line);border-left:6px solid var(--warn);padding:10px 16px;margin:0 0 20px}
.ldlab .decision b{font-size:18px;color:var(--warn);white-space:nowrap;text-transform:uppercase}
.ldlab .decision.good{border-left-color:var(--good)}.ldlab .decision.good b{color:var(--good)}
.ldlab .decision.bad{border-left-color:var(--bad)}.ldlab .decision.bad b{color:var(--bad)}
.ldlab .decision span{color:var(--soft);font-size:14.5px}
.ldlab dl{display:grid;grid-template-columns:132px minmax(0,1fr);margin:0}.ldlab dt,.ldlab dd{margin:0;padding:11px 0;border-top:1px solid var(--line)}
.ldlab dt{color:var(--soft);font-size:14px;padding-top:14px}.ldlab .big{font-size:19px;font-weight:600}.ldlab .note{color:var(--soft);font-size:14.5px}
.ldlab .grade{display:inline-flex;gap:4px;vertical-align:middle;margin-right:10px}
.ldlab .grade i{font-style:normal;width:26px;height:26px;line-height:24px;text-align:center;border:1px solid var(--line);color:var(--soft);font-size:14px}
.ldlab .grade i.on{background:var(--accent);border:2px solid var(--accent);color:#fff;font-weight:600;line-height:22px}
.ldlab .checks{list-style:none;margin:8px 0 0;padding:0;font-size:14.5px}.ldlab .checks li{padding:2px 0 2px 96px;position:relative}
.ldlab .checks li b{position:absolute;left:0;font-size:13px;font-weight:400;color:var(--soft);top:3px}.ldlab .checks .f b{color:var(--bad);font-weight:600}
.ldlab td b.good{color:var(--good)}.ldlab td b.bad{color:var(--bad)}.ldlab ol,.ldlab ul.plain{margin:0;padding-left:20px}.ldlab footer{margin-top:22px;color:var(--soft);font-size:13px;border-top:1px solid var(--line);padding-top:10px}
.ldlab .bar{position:relative;height:66px;margin:6px 0 0}.ldlab .bar .axis{position:absolute;left:0;right:0;top:32px;border-top:2px solid var(--line)}
.ldlab .bar .range{position:absolute;top:28px;height:10px;border-radius:5px;background:var(--accent)}
.ldlab .bar .range.dim{background:#8a96a3}
.ldlab .bar .dot{position:absolute;top:24px;width:18px;height:18px;margin-left:-9px;border-radius:50%;border:4px solid var(--accent);background:#fff}
.ldlab .bar .zero,.ldlab .bar .goal{position:absolute;top:16px;height:34px;margin-left:-1px;border-left:2px solid var(--soft)}
.ldlab .bar .goal{border-left:2px dashed var(--good)}.ldlab .bar .below,.ldlab .bar .above{position:absolute;font-size:13px;color:var(--soft);white-space:nowrap;transform:translateX(-50%)}
.ldlab .bar .above{top:-4px;color:var(--good)}.ldlab .bar .below{top:48px}.ldlab .bar .l{transform:none}.ldlab .bar .r{transform:translateX(-100%)}
.ldlab .second{margin:10px 0 0}.ldlab .wide{overflow-x:auto}.ldlab table{border-collapse:collapse;font-size:14.5px;width:100%}.ldlab th,.ldlab td{text-align:left;padding:6px 12px 6px 0;border-bottom:1px solid var(--line);vertical-align:top}
.ldlab thead th{color:var(--soft);font-weight:400;font-size:13px}.ldlab td.num,.ldlab th.num{text-align:right}.ldlab tbody th{font-weight:600}
.ldlab .forest{display:grid;grid-template-columns:minmax(120px,200px) minmax(0,1fr);gap:0 16px;align-items:center}
.ldlab .forest .bar{height:40px;margin:0}.ldlab .forest .bar .axis{top:20px}.ldlab .forest .bar .range{top:16px}.ldlab .forest .bar .dot{top:13px;width:14px;height:14px;margin-left:-7px;border-width:3px}
.ldlab .forest .bar .zero,.ldlab .forest .bar .goal{top:0;height:40px}.ldlab .forest .scale{height:24px}.ldlab .forest .scale .below{top:0}
.ldlab .forest div:nth-child(odd){font-size:14.5px}
.ldlab .range,.ldlab .grade i,.ldlab .dot{print-color-adjust:exact;-webkit-print-color-adjust:exact}
@media(max-width:600px){.ldlab h1{font-size:21px}.ldlab dl{grid-template-columns:minmax(0,1fr)}.ldlab dt{padding-bottom:0}.ldlab dd{border:0;padding-top:2px}
.ldlab .decision{flex-direction:column;align-items:flex-start;gap:4px}.ldlab .forest{grid-template-columns:minmax(0,1fr)}
.ldlab thead{display:none}.ldlab tr{display:block;padding:10px 0;border-bottom:1px solid var(--line)}.ldlab td,.ldlab td.num{display:block;border:0;padding:1px 0;text-align:left}
.ldlab td:empty{display:none}.ldlab td[data-label]:before{content:attr(data-label) ": ";color:var(--soft);font-size:13px}}
@media print{.ldlab{font-size:13px}.ldlab h1{font-size:20px}.ldlab dt,.ldlab dd{padding:7px 0}.ldlab h2{break-after:avoid}.ldlab tr,.ldlab .decision{break-inside:avoid}}
</style>"""


@dataclass(frozen=True)
class Span:
    """An effect with its interval on a scale, in one unit."""

    value: float
    low: float
    high: float


def scale_of(spans: Sequence[Span], marks: Sequence[float]) -> tuple[float, float]:
    """Ends of a scale that holds all spans and marks, with a margin."""
    points = [*marks, *(end for span in spans for end in (span.low, span.high))]
    low, high = min(points), max(points)
    margin = 0.07 * (high - low or 1.0)
    return low - margin, high + margin


def bar(span: Span, *, target: float, target_label: str, zero_label: str, alt: str) -> str:
    """An interval on a line that shows no effect and the target."""
    scale = scale_of([span], [0.0, target])
    return (
        f'<div class="bar" role="img" aria-label="{escape(alt)}"><div class="axis"></div>'
        + _mark("zero", 0.0, scale)
        + _label("below", 0.0, scale, zero_label)
        + _mark("goal", target, scale)
        + _label("above", target, scale, target_label)
        + _range(span, scale)
        + "</div>"
    )


def forest_row(name_html: str, span: Span, scale: tuple[float, float], *, alt: str) -> str:
    """One row of a forest in target units: zero and target lines, and the interval."""
    marks = '<div class="axis"></div>' + _mark("zero", 0.0, scale) + _mark("goal", 1.0, scale)
    return f'<div>{name_html}</div><div class="bar" role="img" aria-label="{escape(alt)}">{marks}{_range(span, scale)}</div>'


def forest_scale(scale: tuple[float, float]) -> str:
    """The labels below a forest in target units."""
    labels = _label("below", 0.0, scale, "no effect") + _label("below", 1.0, scale, "agreed target")
    return f'<div></div><div class="bar scale" aria-hidden="true">{labels}</div>'


def _place(value: float, scale: tuple[float, float]) -> float:
    return round(100 * (value - scale[0]) / (scale[1] - scale[0]), 2)


def _mark(kind: str, value: float, scale: tuple[float, float]) -> str:
    return f'<div class="{kind}" style="left:{_place(value, scale)}%"></div>'


def _label(kind: str, value: float, scale: tuple[float, float], text: str) -> str:
    place = _place(value, scale)
    side = " l" if place < 18 else " r" if place > 82 else ""
    return f'<div class="{kind}{side}" style="left:{place}%">{escape(text)}</div>'


def _range(span: Span, scale: tuple[float, float]) -> str:
    left, right = _place(span.low, scale), _place(span.high, scale)
    return (
        f'<div class="range" style="left:{left}%;width:{round(max(right - left, 0.6), 2)}%"></div>'
        f'<div class="dot" style="left:{_place(span.value, scale)}%"></div>'
    )


def count_of(number: int, noun: str) -> str:
    """A number with its noun.

    >>> count_of(2, "check")
    '2 checks'
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def grade_boxes(grade: str) -> str:
    """The grade among A to E."""
    boxes = "".join(f'<i class="on">{g}</i>' if g == grade else f"<i>{g}</i>" for g in "ABCDE")
    return f'<span class="grade" role="img" aria-label="Grade {grade} on a scale from A (strongest) to E">{boxes}</span>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int] = ()) -> str:
    """A table of ready HTML cells; columns in ``numbers`` are right-aligned; the second column names the row."""

    def css(i: int) -> str:
        return ' class="num"' if i in numbers else ""

    top = "".join(f'<th scope="col"{css(i)}>{escape(name)}</th>' for i, name in enumerate(head))
    labels = [f' data-label="{escape(name)}"' if name else "" for name in head]
    body = "".join(
        "<tr>" + "".join(f"<td{css(i)}{labels[i]}>{cell}</td>" for i, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
