"""The picture of a frontier: leakage against accuracy, one mark a point. Pure functions from numbers to SVG text.

As wide as the page: horizontal places are percentages, so that marks and text keep their size on a phone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from seepage.report.figures import Layout
from seepage.report.svg import (
    CONTROL,
    INK,
    LINE,
    MUTED,
    SURFACE,
    Across,
    Real,
    element,
    extent,
    frame,
    hover,
    text,
    ticks,
)

State = Literal["leak", "unclear", "clear", "untried"]
TONES = {
    "leak": "var(--leak, #a61b12)",
    "unclear": "var(--unclear, #7a4d00)",
    "clear": "var(--clear, #17633d)",
    "untried": "var(--untried, #55606e)",
}
# One shape a condition, in their order; the last one stands for all further ones.
SHAPES = {
    "circle": "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0Z",
    "diamond": "M-6 0 0-6 6 0 0 6Z",
    "square": "M-4.5-4.5h9v9h-9Z",
    "triangle": "M-5.5 4.5 0-5.5 5.5 4.5Z",
}


@dataclass(frozen=True)
class Dot:
    """One point.

    Attributes:
        words: setting, defense and figures, for hover and for those who do not see the picture.
        accuracy: held-out, 0 to 1.
        value, low, high: the leakage; `high` is the greatest upper end of any attack.
        state: what is said of it.
        shape: a name in `SHAPES`.
        nudge: pixels to the side, for points that share an accuracy.
        ringed: whether it is recommended.
    """

    words: str
    accuracy: float
    value: float
    low: float
    high: float
    state: State
    shape: str
    nudge: float = 0.0
    ringed: bool = False


def scatter(name: str, title: str, dots: Sequence[Dot], tolerance: float, layout: Layout = "wide") -> str:
    """Leakage (upwards) against held-out accuracy (to the right): the corner below right is where one wants to be.

    Args:
        name: unique in the document.
        title: what is shown.
        dots: drawn in order, those that are recommended last.
        tolerance: the leakage below which a setting may be recommended; a dashed line.
        layout: "narrow" is taller and has fewer marks on the axes.
    """
    wide = layout == "wide"
    top, bottom = 12.0, 372.0 if wide else 332.0
    seen = [dot.accuracy for dot in dots]
    low, high = extent(seen, (min(seen, default=0.0), max(max(seen, default=1.0), min(seen, default=0.0) + 0.02)))
    pad = 0.03 * (high - low)
    axis = Across(low - pad, high + pad, 7.0 if wide else 13.0, 98.0)
    least = min([0.0, *(dot.low for dot in dots)])
    # What lies far below zero says no more than zero does.
    floor, ceiling = max(least, -0.2), max([1.0, *(dot.high for dot in dots)])

    def y(value: Real) -> float:
        inside = min(max(value, floor), ceiling)
        return bottom - (inside - floor) / (ceiling - floor) * (bottom - top)

    body = _grid(axis, y, (floor, ceiling), (low, high), bottom, wide)
    left, right = f"{axis.left:g}%", f"{axis.right:g}%"
    body += element(
        "rect", x=left, width=f"{axis.right - axis.left:g}%", y=y(tolerance), height=y(floor) - y(tolerance),
        fill=TONES["clear"], opacity=0.07,
    )  # fmt: skip
    body += element(
        "line", x1=left, x2=right, y1=y(tolerance), y2=y(tolerance), stroke=TONES["clear"], stroke_dasharray="5 4"
    )
    body += text(
        f"{axis.left + 0.6:g}%", y(tolerance) - 5, f"tolerance {tolerance:g}", fill=TONES["clear"], font_size="12"
    )
    body += "".join(_dot(dot, axis, y) for dot in sorted(dots, key=lambda dot: dot.ringed))
    body += text("50%", bottom + 38, "held-out accuracy of the federation", fill=MUTED, text_anchor="middle")
    told = ". ".join(dot.words for dot in dots)
    return frame(name, title, told, body, None, bottom + 46, f"frontier {layout}")


def _grid(
    axis: Across,
    y: Callable[[Real], float],
    floor: tuple[Real, Real],
    span: tuple[Real, Real],
    bottom: Real,
    wide: bool,
) -> str:
    out = ""
    for mark in ticks(*floor, 7):
        out += element("line", x1=f"{axis.left:g}%", x2=f"{axis.right:g}%", y1=y(mark), y2=y(mark), stroke=LINE)
        label = f"{mark:g}".replace("-", "−")
        out += text(f"{axis.left - 1:g}%", y(mark) + 4, label, fill=MUTED, text_anchor="end")
    out += element("line", x1=f"{axis.left:g}%", x2=f"{axis.right:g}%", y1=y(0.0), y2=y(0.0), stroke=CONTROL)
    for mark in ticks(*span, 8 if wide else 5):
        out += axis.upright(mark, 12.0, bottom, LINE)
        out += text(axis.percent(mark), bottom + 18, f"{mark:g}", fill=MUTED, text_anchor="middle")
    return out


def _dot(dot: Dot, axis: Across, y: Callable[[Real], float]) -> str:
    tone, x = TONES[dot.state], axis.percent(dot.accuracy)
    thin = {"stroke": tone, "stroke_width": 1.6, "opacity": 0.5}
    line = element("line", x1=dot.nudge, x2=dot.nudge, y1=y(dot.high), y2=y(dot.low), **thin)
    ring = ""
    place = f"translate({dot.nudge:g} {y(dot.value):.1f})"
    if dot.ringed:
        ring = element("circle", cx=dot.nudge, cy=y(dot.value), r=10.5, fill="none", stroke=INK, stroke_width=2)
    fill = SURFACE if dot.state == "unclear" else tone
    path = element("path", d=SHAPES[dot.shape], transform=place, fill=fill, stroke=tone, stroke_width=1.8)
    return element("svg", element("g", hover(dot.words), line, ring, path, class_="row"), x=x, y=0, overflow="visible")


def shape_mark(shape: str, state: State | None = None) -> str:
    """One mark as the picture draws it, for a legend."""
    tone = CONTROL if state is None else TONES[state]
    fill = SURFACE if state == "unclear" else tone
    path = element("path", d=SHAPES[shape], transform="translate(9 9)", fill=fill, stroke=tone, stroke_width=1.8)
    return f'<svg class="legend-mark" width="18" height="18" aria-hidden="true" focusable="false">{path}</svg>'
