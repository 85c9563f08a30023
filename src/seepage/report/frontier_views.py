"""What the page of a frontier shows beyond the frontier itself: dots, heat maps and the words of a row."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from seepage.core.frontier import Axis, Frontier, Row, Strongest
from seepage.report.frontier_figures import SHAPES, Dot, State, scatter
from seepage.report.numbers import interval, number
from seepage.report.views import Chart

# Cells darken in steps of a fifth of the leakage.
SHADES = 5


def state_of(leak: Strongest | None, tolerance: float) -> State:
    """What is said of one point, as the page's colours know it."""
    if leak is None:
        return "untried"
    if leak.ruling == "leaks":
        return "leak"
    return "clear" if leak.upper <= tolerance and leak.ruling == "no leak found" else "unclear"


def state_words(leak: Strongest | None, tolerance: float) -> str:
    """The same in words; nothing is called safe."""
    found = state_of(leak, tolerance)
    return {
        "untried": "not measured",
        "leak": "leaks",
        "clear": f"within {tolerance:g}",
        "unclear": "inconclusive",
    }[found]


def shown(value: object) -> str:
    """A value of an axis."""
    return value if isinstance(value, str) else json.dumps(value)


def main_leak(row: Row, frontier: Frontier) -> Strongest | None:
    """What the recommendation looks at."""
    return None if frontier.measure is None else row.leaks.get(frontier.measure)


def recommended(frontier: Frontier) -> frozenset[str]:
    """The ids of the rows that are recommended."""
    return frozenset(name for advice in frontier.advice if advice.kind == "recommended" for name in advice.rows)


def row_words(row: Row, frontier: Frontier) -> str:
    """One row in a sentence."""
    leak = main_leak(row, frontier)
    head = f"{row.label}, defense {row.defense_label}"
    if leak is None:
        return f"{head}: not measured" + (f" ({row.error.message})" if row.error else "")
    told = f"{head}: leakage {number(leak.leakage.value)} {interval(leak.leakage.low, leak.upper)} by {leak.attack}"
    cost = row.cost
    if cost is not None and cost.accuracy is not None:
        told += f", accuracy {number(cost.accuracy.value, cost.accuracy.low, cost.accuracy.high)}"
    return f"{told}: {state_words(leak, frontier.tolerance)}"


def condition_axes(frontier: Frontier) -> list[Axis]:
    """What the federation does not choose."""
    return [axis for axis in frontier.axes if axis.role == "condition" and len(axis.values) > 1]


def shapes(frontier: Frontier) -> dict[str, str]:
    """Condition, in words -> the shape of its marks."""
    names = list(dict.fromkeys(condition_label(row, frontier) for row in frontier.rows))
    known = list(SHAPES)
    return {name: known[min(k, len(known) - 1)] for k, name in enumerate(names)}


def condition_label(row: Row, frontier: Frontier) -> str:
    """Under what condition a row was measured."""
    told = [f"{axis.title} = {shown(row.setting.get(axis.key))}" for axis in condition_axes(frontier)]
    return ", ".join(told) or "as written"


def frontier_chart(frontier: Frontier) -> Chart | None:
    """Leakage against accuracy; None where no point has both."""
    told, ringed = shapes(frontier), recommended(frontier)
    dots: list[Dot] = []
    for row in frontier.rows:
        leak, cost = main_leak(row, frontier), row.cost
        if leak is None or cost is None or cost.accuracy is None:
            continue
        which = list(told).index(condition_label(row, frontier))
        dots.append(
            Dot(
                row_words(row, frontier),
                cost.accuracy.value,
                leak.leakage.value,
                leak.leakage.low,
                leak.upper,
                state_of(leak, frontier.tolerance),
                told[condition_label(row, frontier)],
                # Conditions share their training, and so their accuracy.
                nudge=7.0 * which - 3.5 * (len(told) - 1),
                ringed=row.id in ringed,
            )
        )
    if not dots:
        return None
    title = "What each setting gives away, and the accuracy it leaves"
    drawn = (Markup(scatter(f"frontier-{way}", title, dots, frontier.tolerance, way)) for way in ("wide", "narrow"))
    return Chart(title, *drawn)


@dataclass(frozen=True)
class Cell:
    """One cell of a heat map: a row of the frontier, or none."""

    row: Row | None
    leak: Strongest | None
    state: State
    shade: int
    words: str


@dataclass(frozen=True)
class Heat:
    """The leakage of one defense under one condition, over two axes.

    Attributes:
        title: the condition (and what else is the same in all cells).
        down, across: what the axes are called; `across` is empty where there is one axis alone.
        heads: values across.
        lines: value down -> a cell for each value across.
    """

    title: str
    down: str
    across: str
    heads: tuple[str, ...]
    lines: tuple[tuple[str, tuple[Cell, ...]], ...]


def heats(frontier: Frontier) -> list[tuple[str, list[Heat]]]:
    """Heat maps by defense: the first two choices of more than one value span them, all else makes further maps."""
    varied = [axis for axis in frontier.axes if axis.role == "choice" and len(axis.values) > 1]
    if not varied:
        return []
    down, across = varied[0], varied[1] if len(varied) > 1 else None
    rest = [axis for axis in frontier.axes if axis not in (down, across) and len(axis.values) > 1]
    found: list[tuple[str, list[Heat]]] = []
    for label in dict.fromkeys(row.defense_label for row in frontier.rows):
        mine = [row for row in frontier.rows if row.defense_label == label]
        groups: dict[str, list[Row]] = {}
        for row in mine:
            name = ", ".join(f"{axis.title} = {shown(row.setting.get(axis.key))}" for axis in rest)
            groups.setdefault(name, []).append(row)
        found.append((label, [_heat(name, rows, down, across, frontier) for name, rows in groups.items()]))
    return found


def _heat(title: str, rows: Sequence[Row], down: Axis, across: Axis | None, frontier: Frontier) -> Heat:
    heads = tuple(shown(value) for value in across.values) if across is not None else ("",)

    def cell(value: object, other: object) -> Cell:
        fits = [
            row
            for row in rows
            if row.setting.get(down.key) == value and (across is None or row.setting.get(across.key) == other)
        ]
        row = fits[0] if fits else None
        leak = None if row is None else main_leak(row, frontier)
        size = 0.0 if leak is None else min(max(leak.leakage.value, 0.0), 1.0)
        words = "" if row is None else row_words(row, frontier)
        return Cell(row, leak, state_of(leak, frontier.tolerance), round(size * SHADES), words)

    others = across.values if across is not None else [None]
    lines = tuple((shown(value), tuple(cell(value, other) for other in others)) for value in down.values)
    return Heat(title, down.title, "" if across is None else across.title, heads, lines)
