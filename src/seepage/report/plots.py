"""The charts with two axes: ROC, histogram, trace. Pure functions from arrays to SVG text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from seepage.report.numbers import number
from seepage.report.svg import CONTROL, INK, LINE, MUTED, VALUE, element, frame, hover, safe_name, text

Array = np.ndarray

_MOST_POINTS = 240


def finite(values: Shaped[Array, " ..."]) -> Float[Array, " n"]:
    """`values` as floats in one row, without those that are not finite."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    return flat[np.isfinite(flat)]


def _thinned(*columns: Array) -> list[Array]:
    """At most `_MOST_POINTS` of the points, the first and the last among them."""
    n = len(columns[0])
    if n <= _MOST_POINTS:
        return list(columns)
    rows = np.unique(np.linspace(0, n - 1, _MOST_POINTS).round().astype(int))
    return [column[rows] for column in columns]


def _steps(fpr: Array, *rates: Array) -> list[Array]:
    """An empirical curve as it is: flat until the next false positive, then up to the best rate with that many.

    Points are thinned evenly on the logarithmic axis, where the small rates take most of the room.
    """
    rows = np.nonzero(np.diff(fpr, append=np.inf) > 0)[0]
    if len(rows) > _MOST_POINTS:
        kept = np.geomspace(1, len(rows), _MOST_POINTS).round().astype(int) - 1
        rows = rows[np.unique(kept)]
    columns = [column[rows] for column in (fpr, *rates)]
    return [np.repeat(columns[0], 2)[1:], *(np.repeat(rate, 2)[:-1] for rate in columns[1:])]


def _path(x: Array, y: Array) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))


@dataclass(frozen=True)
class RocCurve:
    """True positive rate by false positive rate, with its band when there is one.

    Attributes:
        label: what the curve is.
        fpr, tpr: (k,) in [0, 1], `fpr` rising.
        low, high: (k,) the band of `tpr`, or None.
        ours: False for the null twin's curve.
    """

    label: str
    fpr: Float[Array, " k"]
    tpr: Float[Array, " k"]
    low: Float[Array, " k"] | None = None
    high: Float[Array, " k"] | None = None
    ours: bool = True

    def at(self, rate: float) -> float:
        """The true positive rate reached without exceeding the false positive `rate`; 0 when there is none."""
        within = self.tpr[self.fpr <= rate]
        return float(within.max()) if len(within) else 0.0


@dataclass(frozen=True)
class RocPoint:
    """A false positive rate that is reported; `tpr` is None where it cannot be estimated."""

    fpr: float
    tpr: float | None


@dataclass(frozen=True)
class _LogSquare:
    """Two log axes over [lowest, 1]; smaller values lie on the edge."""

    lowest: float
    left: float = 56.0
    top: float = 12.0
    side: float = 330.0

    def share(self, v: Array | float) -> Array:
        return np.asarray(1 - np.log10(np.clip(v, self.lowest, 1.0)) / math.log10(self.lowest))

    def x(self, v: Array | float) -> Array:
        return np.asarray(self.left + self.side * self.share(v))

    def y(self, v: Array | float) -> Array:
        return np.asarray(self.top + self.side * (1 - self.share(v)))

    def grid(self) -> str:
        right, bottom = self.left + self.side, self.top + self.side
        out = ""
        out += element("rect", x=self.left, y=self.top, width=self.side, height=self.side, fill="none", stroke=LINE)
        for k in range(math.floor(-math.log10(self.lowest) + 1e-9) + 1):
            v = 10.0**-k
            label = f"{v:g}" if k < 4 else f"1e−{k}"
            gx, gy = float(self.x(v)), float(self.y(v))
            out += element("line", x1=gx, x2=gx, y1=self.top, y2=bottom, stroke=LINE)
            out += element("line", x1=self.left, x2=right, y1=gy, y2=gy, stroke=LINE)
            out += text(f"{gx:.1f}", bottom + 18, label, fill=MUTED, text_anchor="middle", font_size="12")
            out += text(self.left - 7, gy + 4, label, fill=MUTED, text_anchor="end", font_size="12")
        chance = {"stroke": CONTROL, "stroke_width": 1.5, "stroke_dasharray": "3 3"}
        out += element("line", x1=self.left, y1=bottom, x2=right, y2=self.top, **chance)
        middle = self.top + self.side / 2
        out += text(self.left + self.side / 2, bottom + 38, "false positive rate", fill=INK, text_anchor="middle")
        turned = f"rotate(-90 13 {middle:g})"
        return out + text(13, middle, "true positive rate", fill=INK, text_anchor="middle", transform=turned)

    def curve(self, c: RocCurve) -> str:
        out, colour = "", VALUE if c.ours else CONTROL
        if c.low is not None and c.high is not None:
            fpr, low, high = _steps(c.fpr, c.low, c.high)
            around = _path(np.r_[self.x(fpr), self.x(fpr)[::-1]], np.r_[self.y(high), self.y(low)[::-1]])
            out += element("path", d=around + "Z", fill=colour, opacity=0.16)
        fpr, tpr = _steps(c.fpr, c.tpr)
        line = {"stroke": colour, "stroke_width": 2.5 if c.ours else 1.8, "stroke_linejoin": "round"}
        dashes = None if c.ours else "6 3"
        out += element("path", d=_path(self.x(fpr), self.y(tpr)), fill="none", stroke_dasharray=dashes, **line)
        return element("g", hover(_roc_words(c)), out)


def roc(
    name: str, title: str, curves: Sequence[RocCurve], points: Sequence[RocPoint] = (), resolution: float | None = None
) -> str:
    """ROC on log-log axes, with the chance diagonal.

    Args:
        name: unique in the document.
        title: what is shown.
        curves: drawn last to first, so that the first lies on top.
        points: rates that are reported.
        resolution: one over the number of non-members: no rate below it can be estimated; greyed.
    """
    axes = _LogSquare(_lowest(curves, points, resolution))
    right, bottom = axes.left + axes.side, axes.top + axes.side
    body = ""
    if resolution and resolution > axes.lowest:
        width = float(axes.x(resolution)) - axes.left
        grey = element("rect", x=axes.left, y=axes.top, width=width, height=axes.side, fill=CONTROL, opacity=0.13)
        body += element("g", hover(f"Rates below {number(resolution)} cannot be estimated: too few non-members"), grey)
        x = axes.left + width / 2 + 4
        upright = {"transform": f"rotate(-90 {x:.1f} {axes.top + 10:g})", "text_anchor": "end"}
        body += text(f"{x:.1f}", axes.top + 10, "not estimable", fill=MUTED, font_size="11", **upright)
    body += axes.grid() + "".join(axes.curve(curve) for curve in reversed(curves))
    for p in points:
        if p.tpr is not None:
            told = hover(f"finds {number(p.tpr)} of members at a false positive rate of {number(p.fpr)}")
            body += element("circle", told, cx=float(axes.x(p.fpr)), cy=float(axes.y(p.tpr)), r=4.5, fill=VALUE)
    told = "; ".join(_roc_words(curve) for curve in curves) + ". The dashed diagonal is chance."
    return frame(name, title, told, body, right + 14, bottom + 46, "roc")


def _lowest(curves: Sequence[RocCurve], points: Sequence[RocPoint], resolution: float | None) -> float:
    """Where the axes begin: a little below the smallest rate that can be estimated."""
    rates = [p.fpr for p in points if p.tpr is not None] + [float(v) for curve in curves for v in curve.fpr]
    least = resolution or min((rate for rate in rates if rate > 0), default=0.01)
    if any(p.tpr is None and p.fpr < least for p in points):
        least /= 4
    return min(max(least, 1e-7), 0.1)


def _roc_words(curve: RocCurve) -> str:
    reached = ", ".join(f"{number(curve.at(rate))} at a false positive rate of {rate:g}" for rate in (0.01, 0.1))
    return f"{curve.label}: true positive rate {reached}"


def histogram(
    name: str, title: str, ours: Shaped[Array, " n"], others: Shaped[Array, " m"], labels: tuple[str, str]
) -> str:
    """Two distributions over the same bins, each as shares of its own total: `ours` filled, `others` hatched.

    Args:
        name: unique in the document.
        title: what is shown.
        ours: (n,) values of the members.
        others: (m,) values of the non-members.
        labels: what the two are called.
    """
    a, b = finite(ours), finite(others)
    width, height, left, top = 420.0, 190.0, 8.0, 34.0
    if not len(a) or not len(b):
        return frame(name, title, "no finite values", text(left, top, "no finite values"), width, 60, "histogram")
    bins = int(np.clip(round(math.sqrt(len(a) + len(b))), 8, 36))
    edges, shares = _binned(a, b, bins)
    ends = (number(float(edges[0])), number(float(edges[-1])))
    if max(float(s.max()) for s in shares) > 0.5:
        # Most values in one bin show nothing: draw their order among all values instead.
        everything = np.sort(np.concatenate([a, b]))
        edges, shares = _binned(_percentile(a, everything), _percentile(b, everything), bins)
        ends = ("lowest score", "highest score, records in order")
    scale = (height - 30) / max(float(max(s.max() for s in shares)), 1e-12)
    base, step = top + height - 20, (width - 2 * left) / bins
    hatch = safe_name(f"{name}-hatch")
    body = (
        f'<defs><pattern id="{hatch}" width="6" height="6" patternUnits="userSpaceOnUse" '
        f'patternTransform="rotate(45)"><rect width="2" height="6" fill="{CONTROL}"/></pattern></defs>'
    )
    for counts, fill, stroke, opacity in ((shares[1], f"url(#{hatch})", CONTROL, 0.8), (shares[0], VALUE, VALUE, 0.5)):
        for i, share in enumerate(counts):
            if share > 0:
                tall = float(share) * scale
                told = hover(f"{number(float(edges[i]))} to {number(float(edges[i + 1]))}: {round(share * 100)} in 100")
                place = {"x": left + i * step + 0.5, "y": base - tall, "width": step - 1, "height": tall}
                body += element("rect", told, fill=fill, stroke=stroke, stroke_width=0.7, opacity=opacity, **place)
    body += element("line", x1=left, x2=width - left, y1=base, y2=base, stroke=MUTED)
    body += text(left, base + 17, ends[0], fill=MUTED, font_size="12")
    body += text(width - left, base + 17, ends[1], fill=MUTED, font_size="12", text_anchor="end")
    body += element("rect", x=left, y=6, width=14, height=12, fill=VALUE, opacity=0.6)
    body += text(left + 20, 16, f"{labels[0]} ({len(a):,})", fill=INK, font_size="12")
    body += element("rect", x=left + 200, y=6, width=14, height=12, fill=f"url(#{hatch})", stroke=CONTROL)
    body += text(left + 220, 16, f"{labels[1]} ({len(b):,})", fill=INK, font_size="12")
    told = "; ".join(f"{label}: median {number(float(np.median(v)))}" for label, v in zip(labels, (a, b), strict=True))
    return frame(name, title, told, body, width, base + 26, "histogram")


def _binned(a: Array, b: Array, bins: int) -> tuple[Array, list[Array]]:
    """Edges over both, and the share of each in every bin; the far 1 % at both ends count in the outermost bins."""
    low, high = (float(v) for v in np.quantile(np.concatenate([a, b]), (0.01, 0.99)))
    if not high > low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, bins + 1)
    return edges, [np.histogram(np.clip(v, low, high), edges)[0] / len(v) for v in (a, b)]


def _percentile(values: Array, everything: Array) -> Array:
    """Where `values` lie among `everything` (sorted), from 0 to 100; equal values share their middle."""
    below, upto = (np.searchsorted(everything, values, side=side) for side in ("left", "right"))
    return 50.0 * (below + upto) / len(everything)


def trace(name: str, label: str, values: Shaped[Array, " n"]) -> str:
    """A small line of something over steps (a loss, say), with its first and last value.

    Values that are not finite are left out; fewer than two finite values give a sentence instead of a line.
    """
    v = np.asarray(values, dtype=np.float64).ravel()
    steps = np.nonzero(np.isfinite(v))[0]
    width, height, top = 260.0, 96.0, 22.0
    head = text(2, 13, label, fill=INK, font_size="12", font_weight="600")
    if len(steps) < 2:
        said = "too few finite values to draw"
        return frame(name, label, said, head + text(2, 40, said, fill=MUTED, font_size="12"), width, height, "trace")
    steps, heights = _thinned(steps, v[steps])
    low, high = float(heights.min()), float(heights.max())
    x = 4 + (steps - steps[0]) / (steps[-1] - steps[0]) * (width - 8)
    y = top + 48 * (1 - (heights - low) / (high - low if high > low else 1.0))
    line = element("path", d=_path(x, y), fill="none", stroke=VALUE, stroke_width=1.8, stroke_linejoin="round")
    ends = text(2, height - 6, number(float(heights[0])), fill=MUTED, font_size="11")
    ends += text(width - 2, height - 6, number(float(heights[-1])), fill=MUTED, font_size="11", text_anchor="end")
    ends += text(width / 2, height - 6, f"{len(v):,} steps", fill=MUTED, font_size="11", text_anchor="middle")
    told = f"from {number(float(heights[0]))} to {number(float(heights[-1]))} over {len(v):,} steps"
    return frame(name, label, told, head + line + ends, width, height, "trace")
