"""How leakage grows with the number of queries: what a deployer needs to choose a rate limit."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from seepage.core.record import AuditRecord, Estimate, Finding
from seepage.report.arms import access_text, applied_text, measured, strongest_control, whole
from seepage.report.numbers import estimate, number
from seepage.report.svg import CONTROL, INK, LINE, MUTED, SURFACE, VALUE, element, frame, hover, text, ticks


@dataclass(frozen=True)
class Spent:
    """One budget: what the attack reached within it, and the strongest control at the same budget."""

    queries: int
    value: Estimate
    control: Estimate | None
    leaks: bool


@dataclass(frozen=True)
class BudgetCurve:
    """One attack at several budgets.

    Attributes:
        title: the attack; `detail` its access and defense.
        spent: by budget, rising.
        chart: value and control against queries, on a logarithmic axis.
        least: the smallest budget at which the leakage excluded zero, or None when at none did.
        safe: the greatest budget below `least` that was tried, or None.
    """

    title: str
    detail: str
    measure: str
    spent: tuple[Spent, ...]
    chart: Markup
    least: int | None
    safe: int | None
    classes: int | None


def budget_curves(record: AuditRecord) -> list[BudgetCurve]:
    """One curve for every attack that was run at two budgets or more, in the order of the record."""

    def same(f: Finding) -> str:
        told = [f.leak, f.attack, f.params, f.victim, f.headline]
        arms = [part.model_dump(mode="json") for part in (*f.defenses, *f.poisons)]
        return json.dumps([*told, arms, f.adversary], sort_keys=True, default=str)

    place = {f.id: i for i, f in enumerate(record.findings)}
    with_budget = [f for f in measured(record.findings) if f.budget is not None]
    first: dict[str, int] = {}
    for f in with_budget:
        first[same(f)] = min(first.get(same(f), len(place)), place[f.id])
    ordered = sorted(with_budget, key=lambda f: (first[same(f)], f.budget or 0))
    made: list[BudgetCurve] = []
    for _, part in groupby(ordered, key=same):
        found = list({f.budget: f for f in part}.values())
        if len(found) >= 2:
            made.append(_curve(f"budget-{len(made)}", found))
    return made


def _curve(name: str, found: Sequence[Finding]) -> BudgetCurve:
    spent: list[Spent] = []
    for f in found:
        score = f.score
        value = None if score is None else whole(score)
        if score is None or value is None or f.budget is None:
            continue
        leaks = score.leakage is not None and score.leakage.low > 0
        spent.append(Spent(f.budget, value, strongest_control(score), leaks))
    leaking = [point.queries for point in spent if point.leaks]
    least = min(leaking, default=None)
    quiet = [point.queries for point in spent if least is None or point.queries < least]
    score = found[0].score
    measure = "" if score is None else score.title
    behind = f"behind {applied_text(found[0].defenses)} · " if found[0].defenses else ""
    detail = f"{behind}{access_text(found[0].access)}"
    # Titles of findings of one attack may end in their budget: what they share is the attack's name.
    title = found[0].title
    chart = Markup(draw(name, f"{title}: {measure} against queries", spent))
    attacked = found[0].facts.get("classes_attacked")
    classes = int(attacked) if isinstance(attacked, float | int) and attacked else None
    return BudgetCurve(title, detail, measure, tuple(spent), chart, least, max(quiet, default=None), classes)


def draw(name: str, title: str, spent: Sequence[Spent]) -> str:
    """Value (blue, with its interval) and strongest control (grey) against queries, on a logarithmic axis.

    Args:
        name: unique in the document.
        title: what is shown.
        spent: the points, by rising queries; two or more.
    """
    left, top, width, height = 44.0, 12.0, 380.0, 210.0
    low, high = math.log10(spent[0].queries), math.log10(spent[-1].queries)

    def x(queries: int) -> float:
        return left + 14 + (width - 28) * (math.log10(queries) - low) / ((high - low) or 1.0)

    def y(value: float) -> float:
        return top + height * (1 - min(max(value, 0.0), 1.0))

    body = ""
    for t in ticks(0.0, 1.0):
        body += element("line", x1=left, x2=left + width, y1=y(t), y2=y(t), stroke=LINE)
        body += text(left - 7, y(t) + 4, f"{t:g}", fill=MUTED, text_anchor="end", font_size="12")
    last = -math.inf
    for point in spent:
        if x(point.queries) - last >= 44:
            label = text(f"{x(point.queries):.1f}", top + height + 18, _short(point.queries), fill=MUTED)
            body += element("g", label, text_anchor="middle", font_size="12")
            last = x(point.queries)
    body += text(left + width / 2, top + height + 38, "queries allowed", fill=INK, text_anchor="middle")
    body += _band([(x(p.queries), y(p.value.low), y(p.value.high)) for p in spent], VALUE, 0.14)
    known = [(x(p.queries), p.control) for p in spent if p.control is not None]
    body += _line([(at, y(c.value)) for at, c in known], CONTROL, "6 3")
    body += _line([(x(p.queries), y(p.value.value)) for p in spent], VALUE, None)
    for at, c in known:
        body += element("rect", x=at - 3.5, y=y(c.value) - 3.5, width=7, height=7, fill=SURFACE, stroke=CONTROL)
    for p in spent:
        told = hover(_words(p))
        place = {"cx": x(p.queries), "cy": y(p.value.value), "stroke": VALUE, "stroke_width": 2}
        body += element("circle", told, r=5, fill=VALUE if p.leaks else SURFACE, **place)
    description = ". ".join(_words(p) for p in spent)
    return frame(name, title, description, body, left + width + 14, top + height + 46, "budget")


def _words(p: Spent) -> str:
    control = f", strongest control {estimate(p.control)}" if p.control is not None else ""
    return (
        f"{p.queries:,} queries: {estimate(p.value)}{control}; {'leaks' if p.leaks else 'not told from its controls'}"
    )


def _short(queries: int) -> str:
    for size, unit in ((1_000_000, "M"), (1000, "k")):
        if queries >= size:
            return f"{number(queries / size)}{unit}" if queries % size else f"{queries // size}{unit}"
    return str(queries)


def _line(points: Sequence[tuple[float, float]], stroke: str, dashes: str | None) -> str:
    if len(points) < 2:
        return ""
    path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in points)
    return element("path", d=path, fill="none", stroke=stroke, stroke_width=2, stroke_dasharray=dashes)


def _band(points: Sequence[tuple[float, float, float]], fill: str, opacity: float) -> str:
    there = "L".join(f"{at:.1f} {high:.1f}" for at, _, high in points)
    back = "L".join(f"{at:.1f} {low:.1f}" for at, low, _ in reversed(points))
    return element("path", d=f"M{there}L{back}Z", fill=fill, opacity=opacity)
