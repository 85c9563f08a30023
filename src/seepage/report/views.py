"""What the page shows beyond the record itself: charts, rankings and curves, made ready for the templates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from seepage.core.record import AuditRecord, Exposure, Finding, Score
from seepage.core.vocabulary import Leak
from seepage.report.arms import (
    access_text,
    applied_text,
    budget_text,
    defended,
    groups,
    of_canaries,
    of_records,
    of_updates,
    pairs,
    unscored,
)
from seepage.report.figures import DumbbellRow, ForestRow, Tally, dumbbell, forest, icon_array, meter
from seepage.report.numbers import number
from seepage.report.plots import RocCurve, RocPoint, finite, histogram, roc, trace
from seepage.report.story import Compared, compared
from seepage.report.words import LEAK_WORDS

Array = np.ndarray

MOST_RANKED = 100
MOST_IN_MATRIX = 24
_SHADES = 6


@dataclass(frozen=True)
class Chart:
    """One chart in two layouts, of which the style sheet shows the one that fits."""

    title: str
    wide: Markup
    narrow: Markup


def arm_text(finding: Finding, with_defense: bool = True) -> str:
    """Access, budget and defense of a finding in one line."""
    # Updates are sent, not asked for: there is no limit to speak of.
    limit = [] if of_updates(finding) and finding.budget is None else [budget_text(finding)]
    parts = [access_text(finding.access), *limit]
    if finding.defenses and with_defense:
        parts.insert(0, f"behind {applied_text(finding.defenses)}")
    if finding.poisons:
        parts.append(f"poisoned by {applied_text(finding.poisons)}")
    if finding.adversary == "unaware":
        parts.append("adversary unaware")
    return " · ".join(parts)


def forest_charts(record: AuditRecord) -> list[Chart]:
    """One forest chart for each leak and headline score."""
    charts: list[Chart] = []
    # A finding right below the same attack without its defense need not repeat the attack's name.
    below = {pair.defended.id for pair in pairs(record)}
    for k, group in enumerate(groups(record)):
        rows = [
            ForestRow(
                _row_label(f, f.id in below, group.several_victims),
                arm_text(f, f.id not in below),
                f.score if f.status == "done" else None,
                f"failed: {f.error.message}" if f.error else _no_value(f),
                f.id in below,
                *(("without the update", "another update") if of_updates(f) else ("without the model", "null model")),
            )
            for f in group.findings
        ]
        title = f"{LEAK_WORDS[group.leak]}: {group.title}"
        drawn = (Markup(forest(f"forest-{k}-{way}", title, rows, way)) for way in ("wide", "narrow"))
        charts.append(Chart(title, *drawn))
    return charts


def _row_label(f: Finding, below: bool, several_victims: bool) -> str:
    if below:
        return f"behind {applied_text(f.defenses)}"
    return f"{f.title} ({f.victim})" if several_victims else f.title


def _no_value(f: Finding) -> str:
    if unscored(f):
        distance = f.facts.get("consistency")
        return "not scored" + (f": its update lies {number(distance)} away" if isinstance(distance, float) else "")
    reason = f.score.reason if f.score else None
    return f"no value: {reason}" if reason else "no value"


def defense_chart(record: AuditRecord) -> Chart | None:
    """Every attack with and without its defense, or None when no defense was measured."""
    rows = [
        DumbbellRow(
            pair.bare.title,
            f"{applied_text(pair.defended.defenses)} · {pair.measure} · adversary {pair.defended.adversary}",
            pair.before,
            pair.after,
        )
        for pair in pairs(record)
    ]
    if not rows:
        return None
    title, words = "Leakage without and with a defense", ("without", "with")
    drawn = (Markup(dumbbell(f"arms-{way}", title, rows, way, words)) for way in ("wide", "narrow"))
    return Chart(title, *drawn)


def verdict_picture(name: str, finding: Finding | None, people: bool) -> Markup | None:
    """The value beside its controls as icons that can be counted, or as bars; None when it is no share."""
    found: Compared | None = compared(finding)
    if found is None or finding is None or finding.score is None:
        return None
    title = finding.score.title
    counts = found.counts
    if counts is None or finding.score.unit not in ("class", "person"):
        return Markup(meter(name, title, found.rows))
    rows = [Tally(label, k, found.n, ours) for (label, _, ours), k in zip(found.rows, counts, strict=True)]
    return Markup(icon_array(name, title, rows, people))


@dataclass(frozen=True)
class MetricTable:
    """Every score of every finding of one leak: a row a finding, a column a score.

    Attributes:
        title: the leak, and the form of it that was played.
        columns: name and title of each score.
        rows: a finding with its scores in that order, None where it has no such score.
        reasons: why scores are missing, each once.
    """

    leak: Leak
    title: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Finding, tuple[Score | None, ...]], ...]
    reasons: tuple[str, ...]


def metric_tables(record: AuditRecord) -> list[MetricTable]:
    """The scores side by side, for each form of a leak whose findings have three or more: not only the kindest."""
    made: list[MetricTable] = []
    for leak in Leak:
        for records in (False, True):
            found = [
                f
                for f in record.findings
                if f.leak is leak and f.scores and of_records(f) is records and not of_canaries(f)
            ]
            columns = {s.name: s.title for f in found for s in f.scores.values()}
            if not found or len(columns) < 3:
                continue
            rows = tuple((f, tuple(f.scores.get(name) for name in columns)) for f in found)
            reasons = {f"{s.title}: {s.reason}": None for f in found for s in f.scores.values() if s.reason}
            title = f"{LEAK_WORDS[leak]}: records behind captured answers" if records else LEAK_WORDS[leak]
            made.append(MetricTable(leak, title, tuple(columns.items()), rows, tuple(reasons)))
    return made


@dataclass(frozen=True)
class RateRow:
    """One reported true positive rate."""

    fpr: float | None
    score: Score


@dataclass(frozen=True)
class RocView:
    """The membership curves of one finding."""

    finding: Finding
    chart: Markup
    histogram: Markup | None
    rates: tuple[RateRow, ...]
    null: bool


def roc_view(name: str, finding: Finding, arrays: Mapping[str, Array]) -> RocView | None:
    """The curves of a finding, or None when it has none that can be drawn; `name` is unique in the page."""
    ours = _curve("the attack", arrays, "", True)
    if ours is None:
        return None
    null = _curve("the same attack on the null model", arrays, "null_", False)
    # A blind guess finds as many members as it accuses others, so chance is the false positive rate itself.
    rates = [RateRow(s.chance, s) for s in finding.scores.values() if s.name.startswith("tpr")]
    points = [RocPoint(row.fpr, row.score.value) for row in rates if row.fpr is not None]
    outside = len(finite(arrays["scores_nonmembers"])) if "scores_nonmembers" in arrays else 0
    curves = [ours, null] if null else [ours]
    title = f"ROC of {finding.title}, {arm_text(finding)}"
    chart = roc(name, title, curves, points, 1 / outside if outside else None)
    bars = None
    if outside and "scores_members" in arrays:
        labels = ("trained on", "not trained on")
        scores = (arrays["scores_members"], arrays["scores_nonmembers"])
        bars = Markup(histogram(f"{name}-bars", "What the attack scores records", *scores, labels))
    ordered = sorted(rates, key=lambda row: -(row.fpr or 0.0))
    return RocView(finding, Markup(chart), bars, tuple(ordered), null is not None)


def _curve(label: str, arrays: Mapping[str, Array], prefix: str, ours: bool) -> RocCurve | None:
    if f"{prefix}fpr" not in arrays or f"{prefix}tpr" not in arrays:
        return None
    fpr, tpr = (np.asarray(arrays[f"{prefix}{name}"], dtype=np.float64).ravel() for name in ("fpr", "tpr"))
    if len(fpr) != len(tpr) or len(fpr) < 2 or not (np.isfinite(fpr).all() and np.isfinite(tpr).all()):
        return None
    band: list[Array | None] = []
    for name in (f"{prefix}tpr_low", f"{prefix}tpr_high"):
        edge = np.asarray(arrays[name], dtype=np.float64).ravel() if name in arrays else None
        band.append(edge if edge is not None and len(edge) == len(fpr) and np.isfinite(edge).all() else None)
    return RocCurve(label, fpr, tpr, *band, ours=ours)


def traces(name: str, arrays: Mapping[str, Array]) -> list[Markup]:
    """A small chart for each trace an attack left; `name` is unique in the page."""
    return [
        Markup(trace(f"{name}-{k}", key.removeprefix("trace_").replace("_", " "), values))
        for k, (key, values) in enumerate(arrays.items())
        if key.startswith("trace_") and values.ndim == 1 and len(values) > 1 and values.dtype.kind in "fiu"
    ]


@dataclass(frozen=True)
class MatrixRow:
    """One member or class: its value under each attack, with a shade from 0 to 5."""

    id: str
    cells: tuple[tuple[Exposure | None, int], ...]


@dataclass(frozen=True)
class Matrix:
    """Who is exposed by what: members or classes down, attacks across."""

    leak: Leak
    title: str
    findings: tuple[Finding, ...]
    rows: tuple[MatrixRow, ...]
    total: int


def matrices(record: AuditRecord) -> list[Matrix]:
    """For each leak with two findings or more that rank the same members: those ranks side by side.

    Rows are in the order of the mean rank over the undefended attacks.
    """
    made: list[Matrix] = []
    for leak in Leak:
        ranked = [f for f in record.findings if f.leak is leak and f.exposed]
        if len(ranked) >= 2:
            made.append(_matrix(leak, ranked))
    return made


def _matrix(leak: Leak, findings: Sequence[Finding]) -> Matrix:
    by_finding = [{e.id: e for e in f.exposed} for f in findings]
    bare = [table for f, table in zip(findings, by_finding, strict=True) if not defended(f)] or by_finding
    ids = list(dict.fromkeys(e.id for f in findings for e in f.exposed))

    def mean_rank(name: str) -> float:
        ranks = [table[name].rank if name in table else len(table) + 1 for table in bare]
        return sum(ranks) / len(ranks)

    kept = sorted(ids, key=mean_rank)[:MOST_IN_MATRIX]
    values = [e.value for table in by_finding for e in table.values()]
    low, high = min(values), max(values)
    low, high = (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)

    def shade(e: Exposure | None) -> int:
        if e is None or high <= low:
            return 0
        return min(_SHADES - 1, int((e.value - low) / (high - low) * _SHADES))

    rows = tuple(MatrixRow(i, tuple((t.get(i), shade(t.get(i))) for t in by_finding)) for i in kept)
    return Matrix(leak, LEAK_WORDS[leak], tuple(findings), rows, len(ids))
