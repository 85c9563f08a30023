"""Empirical epsilon in a report: what canaries show of the training's privacy, beside what is claimed of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from seepage.core.record import AuditRecord, CanaryBound, EpsilonVerdict
from seepage.report.numbers import number
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
from seepage.report.words import State

FAMILIES = {"any": "any mechanism", "gaussian": "mechanisms no more telling than a Gaussian one"}
_STATES: dict[str | None, State] = {
    "violated": "leak",
    "consistent": "clear",
    "not informative": "unclear",
    None: "unclear",
}
_STEP, _TOP = 52.0, 26.0


@dataclass(frozen=True)
class EpsilonView:
    """The section: the verdict, what it rests on, a drawing.

    Attributes:
        told: the part of the record.
        state: which of the lights it is.
        ruling: the verdict in a word or two.
        family: the mechanisms that the bounds hold for, in words.
        chart: bounds, reach and claim on one axis.
    """

    told: EpsilonVerdict
    state: State
    ruling: str
    family: str
    chart: Markup


def epsilon_view(record: AuditRecord) -> EpsilonView | None:
    """The section of a record; None where no canaries were played."""
    told = record.epsilon
    if told is None:
        return None
    ruling = "no claim" if told.standing is None else told.standing
    chart = Markup(bounds_chart("epsilon", told)) if told.bounds else Markup("")
    return EpsilonView(told, _STATES[told.standing], ruling, FAMILIES[told.family], chart)


def decided(one: CanaryBound) -> float:
    """The bound that is drawn: the one that counts, or where an attack does not decide, its own."""
    return one.alone if one.bound is None else one.bound


def bounds_chart(name: str, told: EpsilonVerdict) -> str:
    """Each attack's lower bound on epsilon, the greatest that could have been seen, and what is claimed.

    Args:
        name: unique in the document.
        told: the part of the record.
    """
    drawn = [decided(one) for one in told.bounds]
    marks = [*drawn, *(v for v in (told.claimed, told.reach) if v is not None)]
    low, high = extent([v * 1.04 for v in marks], (0.0, 1.0))
    axis = Across(low, high, 2.0, 96.0)
    bottom = _TOP + len(drawn) * _STEP
    body = axis.grid([(_TOP + i * _STEP + 22, _TOP + i * _STEP + 46) for i in range(len(drawn))], bottom)
    for i, one in enumerate(told.bounds):
        body += element("g", hover(_spoken(one, told)), _row(one, axis, _TOP + i * _STEP), class_="row")
    if told.reach is not None:
        # The most that could have been seen; the row of the greatest bound carries it for all.
        for i in range(len(drawn)):
            body += mark(axis, told.reach, _TOP + i * _STEP + 34, "diamond", SURFACE, CONTROL)
    if told.claimed is not None:
        for i in range(len(drawn)):
            top = _TOP + i * _STEP
            body += axis.upright(told.claimed, top + 20, top + 48, INK, stroke_width=2, stroke_dasharray="5 3")
        right = told.claimed > (low + high) / 2
        body += text(
            axis.percent(told.claimed),
            12,
            f"claimed {number(told.claimed)}",
            fill=INK,
            font_weight="600",
            text_anchor="end" if right else "start",
        )
    heard = "; ".join(_spoken(one, told) for one in told.bounds)
    return frame(name, "Lower bounds on epsilon", heard, body, None, bottom + 26, "epsilon")


def _row(one: CanaryBound, axis: Across, top: float) -> str:
    y = top + 34
    out = element("rect", x=0, y=top, width="100%", height=_STEP - 4, fill="transparent")
    out += text("0", top + 13, shortened(one.title, 60), fill=INK, font_weight="600")
    says = f"at least {number(decided(one))}"
    out += text("100%", top + 13, says, fill=INK if one.bound is not None else MUTED, text_anchor="end")
    out += span(axis, axis.low, axis.high, y, stroke=LINE, stroke_width=4, stroke_linecap="round")
    out += span(axis, 0.0, decided(one), y, stroke=VALUE, stroke_width=4, stroke_linecap="round")
    return out + mark(axis, decided(one), y, "circle", VALUE if one.bound is not None else SURFACE, VALUE)


def _spoken(one: CanaryBound, told: EpsilonVerdict) -> str:
    most = "" if told.reach is None else f", {number(told.reach)} could have been seen"
    return f"{one.title}: epsilon at least {number(decided(one))} ({one.right} of {one.made} guesses right{most})"


def rows(told: EpsilonVerdict) -> Sequence[tuple[str, str, str, str, str]]:
    """Title, guesses, right ones, bound alone and bound that counts, of each attack."""
    return [
        (
            one.title,
            f"{one.made:,} of {one.guessed:,}",
            f"{one.right:,}",
            number(one.alone),
            "does not decide" if one.bound is None else number(one.bound),
        )
        for one in told.bounds
    ]
