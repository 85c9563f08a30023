"""What a report shows of audits of updates: likeness in dB by record, what the adversary knew, which labels leak."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from seepage.core.record import AuditRecord, Finding, Score
from seepage.core.vocabulary import Leak
from seepage.report.numbers import number, short
from seepage.report.plots import finite
from seepage.report.svg import CONTROL, INK, LINE, MUTED, SURFACE, VALUE, Across, element, frame, hover, mark, text

Array = np.ndarray

# Beyond this nothing more is to be seen; recoveries in double precision reach it.
_MOST_DB = 80.0
_RECOGNISABLE, _EXACT = 20.0, 60.0

RUNGS = {
    "batch": "how many records the client has",
    "labels": "the class of each record",
    "counts": "how many records each class has",
    "rate": "the learning rate",
    "local_batch": "records a local step",
    "steps": "local steps",
    "epochs": "passes over the records",
    "mode": "how batch normalisation computed",
    "statistics": "the batch's statistics",
    "optimiser": "the client's optimiser",
    "normalisation": "how records are normalised",
    "prior": "what such records look like",
}
STANDINGS = (("known", "Told"), ("guessed", "Guessed"), ("unknown", "Not needed, or not known"))


@dataclass(frozen=True)
class UpdateView:
    """One finding on updates.

    Attributes:
        finding: which.
        dots: every record's likeness in dB, beside the control's; None where records were not scored.
        rungs: what the result rests on: a heading, and the rungs under it in words.
        threat: the threat model, with its letter.
        labels: the score of the labels read off, where there is one.
        consistency: rows (what, distance) for an update without its batch.
        how: how that distance was made.
    """

    finding: Finding
    dots: Markup | None
    rungs: tuple[tuple[str, str], ...]
    threat: str
    labels: Score | None
    consistency: tuple[tuple[str, str], ...]
    how: str


def update_views(record: AuditRecord, arrays: Mapping[str, Mapping[str, Array]]) -> list[UpdateView]:
    """A view of every completed finding on updates."""
    made: list[UpdateView] = []
    for k, f in enumerate(record.findings):
        if f.leak is not Leak.GRADIENT or f.status != "done":
            continue
        found = arrays.get(f.id, {})
        dots = None
        if "psnr_db" in found:
            rows = [("from the update", finite(found["psnr_db"]), True)]
            if "null_psnr_db" in found:
                rows.append(("from another update", finite(found["null_psnr_db"]), False))
            dots = Markup(decibels(f"db-{k}", f"Likeness of each record, {f.title}", rows))
        made.append(
            UpdateView(
                f,
                dots,
                ladder(f),
                str(f.facts.get("threat_model") or ""),
                f.scores.get("label_recall"),
                _consistency(f),
                str(f.facts.get("consistency_how") or ""),
            )
        )
    return made


def ladder(finding: Finding) -> tuple[tuple[str, str], ...]:
    """What a finding rests on, in words: told, guessed, unknown."""
    rows: list[tuple[str, str]] = []
    for standing, heading in STANDINGS:
        told = finding.facts.get(f"assumptions_{standing}")
        if isinstance(told, str) and told:
            rows.append((heading, "nothing" if told == "none" else _in_words(told)))
    return tuple(rows)


def _in_words(told: str) -> str:
    """`batch 4, mode train` with the names of the rungs in words; values stay."""
    parts: list[str] = []
    for part in told.split(", "):
        name, _, value = part.partition(" ")
        words = RUNGS.get(name)
        # A value may hold a comma of its own: what begins with no rung belongs to the part before it.
        if words is None and parts:
            parts[-1] += f", {part}"
        else:
            parts.append((words or name) + (f" ({value})" if value else ""))
    return "; ".join(parts)


def _consistency(f: Finding) -> tuple[tuple[str, str], ...]:
    names = {
        "consistency": "what was recovered",
        "consistency_constant": "a picture of one grey",
        "consistency_public_mean": "the mean of the public records",
        "consistency_random_tokens": "texts of tokens drawn at random",
        "consistency_public_text": "public texts drawn at random",
        "consistency_frequent_words": "the most frequent words of the public texts",
    }
    found = [(words, f.facts[name]) for name, words in names.items() if name in f.facts]
    return tuple((words, short(value) if isinstance(value, float) else "not known") for words, value in found)


def decibels(name: str, title: str, rows: Sequence[tuple[str, Array, bool]]) -> str:
    """Every record as a dot on an axis of dB, one row a source; from 20 dB on a picture is recognisable, at 60 exact.

    Args:
        name: unique in the document.
        title: what is shown.
        rows: label, values in dB, and whether it is the attack's own (else the control's).
    """
    lowest = min((float(v.min()) for _, v, _ in rows if len(v)), default=0.0)
    axis = Across(min(0.0, 10.0 * np.floor(lowest / 10)), _MOST_DB, 2.0, 98.0)
    heights = [_stacked(values, axis) for _, values, _ in rows]
    y, body, heard = 34.0, "", list[str]()
    bottom = y + sum(30 + 9.0 * (max(h, default=0) + 1) for h in heights)
    body += axis.grid([(24.0, bottom)], bottom)
    for at, words in ((_RECOGNISABLE, "recognisable"), (_EXACT, "exact")):
        body += axis.upright(at, 20, bottom, MUTED, stroke_dasharray="4 3")
        body += text(axis.percent(at), 14, words, fill=MUTED, font_size="12", text_anchor="middle")
    for (label, values, ours), stack in zip(rows, heights, strict=True):
        middle = f"median {number(float(np.median(values)))} dB" if len(values) else "none"
        heard.append(f"{label}: {len(values)} records, {middle}")
        y += 16
        head = {"fill": INK, "font_size": "12", "font_weight": "600", "paint_order": "stroke"}
        body += text("2%", y, f"{label}: {len(values)} records, {middle}", stroke=SURFACE, stroke_width=4, **head)
        base = y + 14 + 9.0 * max(stack, default=0)
        for value, high in zip(values.tolist(), stack, strict=True):
            fill, edge = (VALUE, SURFACE) if ours else (SURFACE, CONTROL)
            drawn = mark(axis, value, base - 9.0 * high, "circle" if ours else "square", fill, edge, 1.2)
            body += element("g", hover(f"{label}: {value:.1f} dB"), drawn, opacity=0.85)
        y = base + 9
    body += element("line", x1="2%", x2="98%", y1=bottom, y2=bottom, stroke=LINE)
    unit = f"dB (peak signal to noise; {_MOST_DB:.0f} and more at the edge)"
    body += text("98%", bottom + 32, unit, fill=MUTED, font_size="12", text_anchor="end")
    return frame(name, title, "; ".join(heard), body, None, bottom + 40, "decibels")


def _stacked(values: Float[Array, " n"], axis: Across) -> list[int]:
    """How high each dot is stacked so that none hides another."""
    taken: dict[int, int] = {}
    out: list[int] = []
    for value in values.tolist():
        place = round(axis.at(value) / 2.2)
        out.append(min(taken.get(place, 0), 7))
        taken[place] = taken.get(place, 0) + 1
    return out
