"""The small pieces that every chart is drawn from. Pure text; every text in it is escaped.

Two kinds of chart: those that keep their proportions (`viewBox`), and those that are as wide as the
page, whose horizontal places are percentages, so that text and marks keep their size on a phone.
Colours are CSS variables with a fallback, so that a chart follows the page's theme and stands alone.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

INK = "var(--ink, #16202c)"
MUTED = "var(--muted, #55606e)"
LINE = "var(--line, #d9dfe6)"
VALUE = "var(--value, #1d5fd0)"
CONTROL = "var(--control, #5f6b7a)"
SURFACE = "var(--card, #ffffff)"

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")

# Places and sizes: whole numbers are as good, and types are checked to the letter while tests run.
Real = float | int


def clean(text: object) -> str:
    """`text` escaped for a document; characters that no document may hold become U+FFFD."""
    return escape(_CONTROL_CHARACTERS.sub("\ufffd", str(text)))


def shortened(text: str, most: int) -> str:
    """`text`, cut with an ellipsis when it is longer than `most` characters."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def element(tag: str, *children: str, **attributes: object) -> str:
    """One element. Children are markup already; attribute values are escaped; `_` in names becomes `-`.

    A trailing `_` keeps clear of Python's keywords (`class_`). Numbers lose needless digits.
    """
    shown = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    inside = "".join(children)
    return f"<{tag}{shown}>{inside}</{tag}>" if inside else f"<{tag}{shown}/>"


def _attribute(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else clean(value)


def text(x: object, y: Real, content: str, **attributes: object) -> str:
    """A line of text; `content` is escaped here."""
    return element("text", clean(content), x=x, y=y, **attributes)


def hover(content: str) -> str:
    """What shows when the pointer rests on a mark."""
    return element("title", clean(content))


def safe_name(name: str) -> str:
    """`name` as something an element's id may be."""
    return re.sub(r"[^A-Za-z0-9-]", "-", name)


def frame(
    name: str, title: str, description: str, body: str, width: Real | None, height: Real, class_: str = ""
) -> str:
    """A whole chart with its title and description for those who do not see it.

    Args:
        name: unique in the document; ids are made from it.
        title: what the chart shows, in a few words.
        description: what can be seen in it.
        body: markup.
        width: of the `viewBox`, or None for a chart as wide as the page.
        height: in the same units, or in pixels.
        class_: for the style sheet.
    """
    name = safe_name(name)
    head = element("title", clean(title), id=f"{name}-t") + element("desc", clean(description), id=f"{name}-d")
    box = f'width="100%" height="{height:g}"' if width is None else f'viewBox="0 0 {width:g} {height:g}"'
    kind = clean(f"chart {class_}".strip())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{kind}" role="img" '
        f'aria-labelledby="{name}-t {name}-d" font-family="inherit" font-size="13" {box}>{head}{body}</svg>'
    )


def ticks(low: Real, high: Real, most: int = 6) -> list[float]:
    """Round numbers from `low` to `high`, at most about `most` of them, in steps of 1, 2 or 5."""
    if not high > low:
        return [low]
    raw = (high - low) / max(most - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    start = math.ceil(low / step - 1e-9)
    stop = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(start, stop + 1)]


def extent(values: Sequence[Real], at_least: tuple[Real, Real]) -> tuple[Real, Real]:
    """The range of an axis: `at_least`, widened to whole steps where `values` go beyond it."""
    low, high = min((*values, at_least[0])), max((*values, at_least[1]))
    if (low, high) == at_least:
        return at_least
    step = ticks(low, high)
    gap = step[1] - step[0] if len(step) > 1 else (high - low) or 1.0
    return math.floor(low / gap + 1e-9) * gap, math.ceil(high / gap - 1e-9) * gap


@dataclass(frozen=True)
class Across:
    """A horizontal axis in percent of the width: `low` lies at `left`, `high` at `right`."""

    low: Real
    high: Real
    left: Real
    right: Real

    def at(self, value: Real) -> float:
        """Where `value` lies, in percent; values beyond the axis lie at its end."""
        inside = min(max(value, self.low), self.high)
        return self.left + (inside - self.low) / (self.high - self.low) * (self.right - self.left)

    def percent(self, value: Real) -> str:
        """Where `value` lies, as an attribute."""
        return f"{self.at(value):.2f}%"

    def grid(self, pieces: Sequence[tuple[Real, Real]], bottom: Real) -> str:
        """Vertical lines at round numbers, in `pieces` from top to bottom, and the numbers below `bottom`."""
        marks = ticks(self.low, self.high, 7)
        lines = [self.upright(t, top, end, LINE) for t in marks for top, end in pieces]
        labels = [
            text(self.percent(t), bottom + 16, f"{t:g}".replace("-", "−"), fill=MUTED, text_anchor="middle")
            for t in marks
        ]
        return "".join(lines + labels)

    def upright(self, value: Real, top: Real, bottom: Real, stroke: str, **attributes: object) -> str:
        """A vertical line at `value`."""
        x = self.percent(value)
        return element("line", x1=x, x2=x, y1=top, y2=bottom, stroke=stroke, **attributes)


def span(axis: Across, low: Real, high: Real, y: Real, **attributes: object) -> str:
    """A horizontal line from `low` to `high`: an interval."""
    return element("line", x1=axis.percent(low), x2=axis.percent(high), y1=y, y2=y, **attributes)


_SHAPES = {
    "diamond": "M-5.5 0 0-5.5 5.5 0 0 5.5Z",
    "square": "M-4.5-4.5h9v9h-9Z",
    "circle": "M-5.5 0a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0-11 0Z",
}


def mark(axis: Across, value: Real, y: Real, shape: str, fill: str, stroke: str, stroke_width: Real = 1.6) -> str:
    """A small mark at `value`: "circle", "diamond" or "square"; it keeps its size whatever the width."""
    path = element("path", d=_SHAPES[shape], fill=fill, stroke=stroke, stroke_width=stroke_width)
    return element("svg", path, x=axis.percent(value), y=y, overflow="visible")
