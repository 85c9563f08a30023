"""The charts of a report: pure functions from numbers to SVG text.

One colour means one thing everywhere: the measured value is blue, what can be had without the model
is grey (a diamond for a guess without the model, a square for the null model, a dashed line for
chance), and the pale band between the strongest control and the value is the leakage.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from seepage.core.record import Estimate, Score
from seepage.report.numbers import estimate, interval, number, score_text, signed
from seepage.report.svg import (
    CONTROL,
    INK,
    LINE,
    MUTED,
    SURFACE,
    VALUE,
    Across,
    element,
    extent,
    frame,
    hover,
    mark,
    shortened,
    span,
    text,
)

Layout = Literal["wide", "narrow"]


@dataclass(frozen=True)
class ForestRow:
    """One finding in a forest chart.

    Attributes:
        label: the attack.
        detail: access, budget, defense.
        score: what was measured, with its controls; None for a finding that failed.
        note: what to say where there is nothing to draw.
        behind: whether the victim stood behind a defense; such a row is indented below its mate.
        without, null: what the two controls are called.
    """

    label: str
    detail: str
    score: Score | None
    note: str = ""
    behind: bool = False
    without: str = "without the model"
    null: str = "null model"


def _marks(score: Score) -> list[float]:
    values = [score.value, score.low, score.high, score.chance]
    for control in score.controls.values():
        values += [control.value, control.low, control.high] if control else []
    return [v for v in values if v is not None]


def spoken(row: ForestRow) -> str:
    """One row in words, for hover and for those who do not see the chart."""
    head = f"{row.label} ({row.detail})"
    score = row.score
    if score is None or score.value is None:
        return f"{head}: {row.note or 'no value'}"
    parts = [f"{head}: {score_text(score)}"]
    for name, words in (("no_model", row.without), ("null_model", row.null)):
        control = score.controls.get(name)
        parts.append(f"{words} {estimate(control)}" if control else f"{words} not available")
    if score.chance is not None:
        parts.append(f"chance {number(score.chance)}")
    if score.leakage is not None:
        parts.append(f"leakage {signed(score.leakage)}")
    return "; ".join(parts)


def forest(name: str, title: str, rows: Sequence[ForestRow], layout: Layout = "wide") -> str:
    """Every finding's value with its interval, beside chance and the controls with theirs.

    Args:
        name: unique in the document.
        title: what the axis measures.
        rows: top to bottom.
        layout: "wide" puts labels left of the plot and numbers right of it; "narrow" above it.
    """
    wide = layout == "wide"
    low, high = extent([v for row in rows if row.score for v in _marks(row.score)], (0.0, 1.0))
    axis = Across(low, high, 35.0 if wide else 2.0, 79.0 if wide else 98.0)
    step, middle, pieces, bottom = _rows(len(rows), wide)
    body = axis.grid(pieces, bottom)
    for i, row in enumerate(rows):
        body += element("g", hover(spoken(row)), _forest_row(row, axis, i * step, middle, wide, i > 0), class_="row")
    return frame(name, title, ". ".join(spoken(row) for row in rows), body, None, bottom + 26, f"forest {layout}")


def _rows(n: int, wide: bool) -> tuple[float, float, list[tuple[float, float]], float]:
    """Height of a row, where its marks lie in it, the pieces of the grid, and where the grid ends.

    Where labels stand above the marks the grid leaves them free.
    """
    step, middle = (58.0, 26.0) if wide else (94.0, 64.0)
    bottom = n * step + (8 if wide else 0)
    pieces = [(0.0, bottom)] if wide else [(i * step + middle - 17, i * step + middle + 19) for i in range(n)]
    return step, middle, pieces, bottom


def _forest_row(row: ForestRow, axis: Across, top: float, middle: float, wide: bool, ruled: bool) -> str:
    y, score = top + middle, row.score
    out = element("rect", x=0, y=top, width="100%", height=56 if wide else 90, fill="transparent")
    if ruled and not row.behind:
        out += element("line", x1="0", x2="100%", y1=top, y2=top, stroke=LINE)
    indent = "2%" if row.behind else "0"
    label, detail = shortened(row.label, 42 if wide else 34), shortened(row.detail, 50 if wide else 52)
    first = y - 4 if wide else top + 20
    weight = None if row.behind else "600"
    out += text(indent, first, label, fill=INK, font_weight=weight)
    out += text(indent, first + 17, detail, fill=MUTED, font_size="12")
    if score is None or score.value is None:
        note = shortened(row.note or "no value", 62 if wide else 46)
        x = axis.percent(axis.low)
        return out + text(x, y + 4 if wide else y + 8, note, fill=MUTED, font_style="italic")
    out += _value_and_controls(score, axis, y)
    value = number(score.value, score.low, score.high)
    if wide:
        out += text("100%", y - 4, score_text(score), fill=INK, font_weight="600", text_anchor="end")
        gap = f"leakage {signed(score.leakage)}" if score.leakage else "uncontrolled"
        return out + text("100%", y + 13, gap, fill=MUTED, font_size="12", text_anchor="end")
    gap = f"leakage {signed(score.leakage).split()[0]}" if score.leakage else "uncontrolled"
    out += text("100%", first, value, fill=INK, font_weight="600", text_anchor="end")
    return out + text("100%", first + 17, gap, fill=MUTED, font_size="12", text_anchor="end")


def _value_and_controls(score: Score, axis: Across, y: float) -> str:
    out = ""
    if score.value is None:
        return out
    if score.leakage is not None and score.leakage.value > 0:
        a, b = axis.at(score.value - score.leakage.value), axis.at(score.value)
        out += element("rect", x=f"{a:.2f}%", y=y - 15, width=f"{b - a:.2f}%", height=30, fill=VALUE, opacity=0.12)
    if score.chance is not None:
        out += axis.upright(score.chance, y - 17, y + 17, CONTROL, stroke_width=1.5, stroke_dasharray="3 3")
    for name, shape, lane, dashes in (("no_model", "diamond", 2.0, None), ("null_model", "square", 11.0, "4 2")):
        control = score.controls.get(name)
        if control is not None:
            line = {"stroke": CONTROL, "stroke_width": 1.6, "stroke_dasharray": dashes}
            out += span(axis, control.low, control.high, y + lane, **line)
            out += mark(axis, control.value, y + lane, shape, SURFACE, CONTROL)
    if score.low is not None and score.high is not None:
        out += span(axis, score.low, score.high, y - 8, stroke=VALUE, stroke_width=3, stroke_linecap="round")
    return out + mark(axis, score.value, y - 8, "circle", VALUE, SURFACE)


def legend_mark(kind: Literal["value", "no_model", "null_model", "chance", "leakage"]) -> str:
    """One mark as the charts draw it, for a legend; it says nothing to a screen reader."""
    axis = Across(0.0, 1.0, 5.0, 95.0)
    line = {"stroke": CONTROL, "stroke_width": 1.6}
    drawn = {
        "value": span(axis, 0, 1, 9, stroke=VALUE, stroke_width=3, stroke_linecap="round")
        + mark(axis, 0.5, 9, "circle", VALUE, SURFACE),
        "no_model": span(axis, 0, 1, 9, **line) + mark(axis, 0.5, 9, "diamond", SURFACE, CONTROL),
        "null_model": span(axis, 0, 1, 9, stroke_dasharray="4 2", **line)
        + mark(axis, 0.5, 9, "square", SURFACE, CONTROL),
        "chance": axis.upright(0.5, 0, 18, CONTROL, stroke_width=1.5, stroke_dasharray="3 3"),
        "leakage": element("rect", x="5%", y=2, width="90%", height=14, fill=VALUE, opacity=0.18),
    }[kind]
    return f'<svg class="legend-mark" width="44" height="18" aria-hidden="true" focusable="false">{drawn}</svg>'


@dataclass(frozen=True)
class DumbbellRow:
    """One measure before and after; `title` and `detail` say of what."""

    title: str
    detail: str
    before: Estimate
    after: Estimate


def dumbbell(
    name: str,
    title: str,
    rows: Sequence[DumbbellRow],
    layout: Layout = "wide",
    words: tuple[str, str] = ("before", "after"),
) -> str:
    """Pairs of estimates: an open circle before, a full one after, each with its interval, joined by an arrow."""
    wide = layout == "wide"
    ends = [v for row in rows for e in (row.before, row.after) for v in (e.value, e.low, e.high)]
    low, high = extent(ends, (0.0, 0.2))
    axis = Across(low, high, 35.0 if wide else 2.0, 79.0 if wide else 98.0)
    step, middle, pieces, bottom = _rows(len(rows), wide)
    body = axis.grid(pieces, bottom)
    body += "".join(axis.upright(0.0, top, end, CONTROL, stroke_width=1.5) for top, end in pieces)
    for i, row in enumerate(rows):
        body += element("g", hover(_dumbbell_words(row, words)), _dumbbell_row(row, axis, i * step, middle, wide))
    description = ". ".join(_dumbbell_words(row, words) for row in rows)
    return frame(name, title, description, body, None, bottom + 26, f"dumbbell {layout}")


def _dumbbell_words(row: DumbbellRow, words: tuple[str, str]) -> str:
    return f"{row.title}, {row.detail}: {words[0]} {estimate(row.before)}, {words[1]} {estimate(row.after)}"


def _dumbbell_row(row: DumbbellRow, axis: Across, top: float, middle: float, wide: bool) -> str:
    y = top + middle
    first = y - 4 if wide else top + 20
    out = element("line", x1="0", x2="100%", y1=top, y2=top, stroke=LINE) if top else ""
    out += text("0", first, shortened(row.title, 42 if wide else 30), fill=INK, font_weight="600")
    out += text("0", first + 17, shortened(row.detail, 50 if wide else 52), fill=MUTED, font_size="12")
    moved = " → ".join(number(e.value, e.low, e.high) for e in (row.before, row.after))
    out += text("100%", first, moved, fill=INK, font_weight="600", text_anchor="end")
    if wide:
        ranges = " → ".join(interval(e.low, e.high) for e in (row.before, row.after))
        out += text("100%", first + 17, ranges, fill=MUTED, font_size="11", text_anchor="end")
    thin = {"stroke": VALUE, "stroke_width": 2, "stroke_linecap": "round"}
    out += span(axis, row.before.low, row.before.high, y - 9, opacity=0.45, **thin)
    out += span(axis, row.after.low, row.after.high, y + 9, **thin)
    out += element(
        "line",
        x1=axis.percent(row.before.value),
        x2=axis.percent(row.after.value),
        y1=y - 9,
        y2=y + 9,
        stroke=VALUE,
        stroke_dasharray="2 3",
    )
    out += mark(axis, row.before.value, y - 9, "circle", SURFACE, VALUE, 2.0)
    return out + mark(axis, row.after.value, y + 9, "circle", VALUE, SURFACE)


@dataclass(frozen=True)
class Tally:
    """`hits` of `n`, under a label; `ours` for what the adversary reached, else a control."""

    label: str
    hits: int
    n: int
    ours: bool


_PERSON = "M0-7a2.6 2.6 0 1 1-.01 0ZM-3.6 6V1.6A2.6 2.6 0 0 1-1-1h2a2.6 2.6 0 0 1 2.6 2.6V6Z"
_DOT = "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0Z"


def icon_array(name: str, title: str, rows: Sequence[Tally], people: bool = False) -> str:
    """One small icon a unit, filled for each hit: shares that can be counted. Twenty icons a line."""
    per_line, pitch = 20, 14.0
    width = per_line * pitch + 4
    y, body, heard = 0.0, "", list[str]()
    for row in rows:
        fill = VALUE if row.ours else CONTROL
        says = f"{row.label}: {row.hits} of {row.n}"
        heard.append(says)
        body += text(2, y + 12, row.label, fill=MUTED, font_size="12")
        count = text(width - 2, y + 12, f"{row.hits} of {row.n}", fill=fill, font_size="12", text_anchor="end")
        body += element("g", count, font_weight="700")
        icons = ""
        for i in range(row.n):
            place = f"translate({i % per_line * pitch + 9:g} {y + 27 + i // per_line * 19:g})"
            hit = i < row.hits
            icons += element(
                "path",
                d=_PERSON if people else _DOT,
                transform=place,
                fill=fill if hit else "none",
                stroke=fill if hit else LINE,
                stroke_width=1.0,
            )
        body += element("g", hover(says), icons)
        y += 27 + ((row.n - 1) // per_line + 1) * 19 + 2
    return frame(name, title, "; ".join(heard), body, width, y, "icons")


def meter(name: str, title: str, rows: Sequence[tuple[str, float, bool]]) -> str:
    """Shares as bars from 0 to 1, each with its label and its number in 100; `True` for the adversary's own."""
    width, y, body = 260.0, 0.0, ""
    for label, value, ours in rows:
        fill = VALUE if ours else CONTROL
        body += text(2, y + 12, label, fill=MUTED, font_size="12")
        body += text(width - 2, y + 12, f"{round(value * 100)} in 100", fill=fill, font_weight="700", text_anchor="end")
        body += element("rect", x=2, y=y + 19, width=width - 4, height=8, rx=4, fill=LINE)
        filled = max(0.0, min(value, 1.0)) * (width - 4)
        body += element("rect", x=2, y=y + 19, width=filled, height=8, rx=4, fill=fill)
        y += 40
    heard = "; ".join(f"{label}: {round(value * 100)} in 100" for label, value, _ in rows)
    return frame(name, title, heard, body, width, y, "meter")
