"""Two records side by side: what leaks more, what leaks less, and what was changed between them."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from markupsafe import Markup

from seepage.core.record import AuditRecord, Estimate, Finding
from seepage.core.vocabulary import Leak
from seepage.report import numbers
from seepage.report.arms import access_text, applied_text, groups, whole
from seepage.report.figures import DumbbellRow, dumbbell
from seepage.report.html import render
from seepage.report.identity import shareable
from seepage.report.load import load_all, load_record
from seepage.report.views import Chart
from seepage.report.words import LEAK_WORDS, STATES
from seepage.store.files import write_bytes

Direction = Literal["more", "less", "unclear", "unknown"]


@dataclass(frozen=True)
class Change:
    """One finding in both records, or in one of them.

    Attributes:
        leak, title, defenses, access: what was matched.
        before, after: the findings; None where there is none.
        measure: what `difference` is of: "leakage", or "value" where a control is missing.
        start, end: that measure in the two records.
        difference: `end - start` with its interval.
        direction: "more" or "less" when the interval excludes zero, "unclear" when it does not,
            "unknown" when there is no interval.
        reason: why there is no difference.
    """

    leak: Leak
    title: str
    defenses: str
    access: str
    before: Finding | None
    after: Finding | None
    measure: str = ""
    start: Estimate | None = None
    end: Estimate | None = None
    difference: Estimate | None = None
    direction: Direction = "unknown"
    reason: str = ""


@dataclass(frozen=True)
class VerdictChange:
    """The verdict on one leak in both records; "not tried" where it is no part of one."""

    leak: Leak
    before: str
    after: str

    @property
    def changed(self) -> bool:
        return self.before != self.after


@dataclass(frozen=True)
class ConfigChange:
    """One setting that differs; None for a key that is not there. Values are JSON text."""

    key: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Comparison:
    """What differs between two records."""

    before: AuditRecord
    after: AuditRecord
    changes: tuple[Change, ...]
    verdicts: tuple[VerdictChange, ...]
    config: tuple[ConfigChange, ...]


def compare(record_a: AuditRecord, record_b: AuditRecord) -> Comparison:
    """What differs from `record_a` to `record_b`.

    Findings are matched by leak, attack, defenses and access; where several match, those with the same
    parameters, adversary and victim come first, then the others in their order.
    """
    verdicts = tuple(
        VerdictChange(leak, str(record_a.verdict(leak)), str(record_b.verdict(leak)))
        for leak in Leak
        if leak in record_a.verdicts or leak in record_b.verdicts
    )
    return Comparison(
        record_a,
        record_b,
        tuple(_change(a, b) for a, b in _matched(_ordered(record_a), _ordered(record_b))),
        verdicts,
        tuple(_config(record_a.config.as_resolved, record_b.config.as_resolved)),
    )


def _ordered(record: AuditRecord) -> list[Finding]:
    return [finding for group in groups(record) for finding in group.findings]


def _key(f: Finding) -> tuple[str, ...]:
    defenses = json.dumps([d.model_dump(mode="json") for d in f.defenses], sort_keys=True)
    return f.leak.value, f.attack, defenses, ",".join(sorted(f.access))


def _likeness(a: Finding, b: Finding) -> tuple[bool, ...]:
    return a.params == b.params, a.adversary == b.adversary, a.victim == b.victim, a.poisons == b.poisons


def _matched(a: list[Finding], b: list[Finding]) -> Sequence[tuple[Finding | None, Finding | None]]:
    free: dict[tuple[str, ...], list[Finding]] = defaultdict(list)
    for f in b:
        free[_key(f)].append(f)
    mates: dict[str, Finding] = {}
    # First those that are alike in everything, so that none of them is taken by one that is less alike.
    for exact in (True, False):
        for f in a:
            options = [o for o in free[_key(f)] if not exact or all(_likeness(f, o))]
            if f.id not in mates and options:
                mates[f.id] = max(options, key=lambda o: _likeness(f, o))
                free[_key(f)].remove(mates[f.id])
    taken = {id(f) for f in mates.values()}
    return [(f, mates.get(f.id)) for f in a] + [(None, f) for f in b if id(f) not in taken]


def _change(a: Finding | None, b: Finding | None) -> Change:
    f = b or a
    if f is None:
        raise ValueError("a change needs a finding on at least one side")
    base = Change(f.leak, f.title, applied_text(f.defenses), access_text(f.access), a, b)
    if a is None or b is None:
        return replace(base, reason="only in the second" if a is None else "only in the first")
    failed = [name for name, g in (("first", a), ("second", b)) if g.status == "failed"]
    if failed:
        return replace(base, reason=f"failed in the {' and the '.join(failed)}")
    measure, start, end = _measure(a, b)
    if start is None or end is None:
        return replace(base, reason=measure)
    gap = numbers.difference(end, start)
    way: Direction = "more" if gap.low > 0 else "less" if gap.high < 0 else "unclear"
    return replace(base, measure=measure, start=start, end=end, difference=gap, direction=way)


def _measure(a: Finding, b: Finding) -> tuple[str, Estimate | None, Estimate | None]:
    x, y = a.score, b.score
    if x is None or y is None:
        return "no headline score in one of them", None, None
    if x.name != y.name:
        return f"other scores: {x.title}, then {y.title}", None, None
    if x.leakage is not None and y.leakage is not None:
        return "leakage", x.leakage, y.leakage
    start, end = whole(x), whole(y)
    return ("value", start, end) if start and end else ("no interval in one of them", None, None)


def _config(a: Any, b: Any) -> list[ConfigChange]:
    x, y = _dotted(a), _dotted(b)
    return [
        ConfigChange(key, x.get(key), y.get(key)) for key in sorted(x.keys() | y.keys()) if x.get(key) != y.get(key)
    ]


def _dotted(value: Any, path: str = "") -> dict[str, str]:
    """Every leaf of a configuration by its dotted key; entries of a list are numbered from 0."""
    if isinstance(value, Mapping) and value:
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        items = [(str(i), item) for i, item in enumerate(value)]
    else:
        return {path: json.dumps(value, ensure_ascii=False)}
    return {
        dotted: text for key, item in items for dotted, text in _dotted(item, f"{path}.{key}" if path else key).items()
    }


_DIRECTION_WORDS = {
    "more": "leaks more",
    "less": "leaks less",
    "unclear": "no clear change",
    "unknown": "not compared",
}


def change_line(change: Change) -> str:
    """One change in words: `leaks less: leakage +0.60 [..] to +0.10 [..], change -0.50 [..]`."""
    if change.difference is None:
        return f"{_DIRECTION_WORDS['unknown']}: {change.reason}"
    ends = f"{change.measure} {numbers.signed(change.start)} to {numbers.signed(change.end)}"
    return f"{_DIRECTION_WORDS[change.direction]}: {ends}, change {numbers.signed(change.difference)}"


def compare_text(comparison: Comparison) -> str:
    """A comparison as plain text, for a terminal."""
    a, b = comparison.before, comparison.after
    lines = [f"first   {a.run.id}  {a.title}".rstrip(), f"second  {b.run.id}  {b.title}".rstrip(), "", "Verdicts"]
    for v in comparison.verdicts:
        lines.append(f"  {LEAK_WORDS[v.leak]}: {v.before}" + (f" -> {v.after}" if v.changed else ", as before"))
    lines += ["", "Findings"]
    for c in comparison.changes:
        lines += [f"  {LEAK_WORDS[c.leak]}, {c.title} ({c.access}; defense: {c.defenses})", f"    {change_line(c)}"]
    lines += ["", "Configuration"]
    lines += [f"  {c.key}: {c.before or 'not set'} -> {c.after or 'not set'}" for c in comparison.config] or [
        "  the same"
    ]
    return "\n".join(lines) + "\n"


def write_compare_html(run_a: Path | str, run_b: Path | str, out: Path | str) -> Path:
    """Write the comparison of two runs as one self-contained HTML file. It names no member.

    Args:
        run_a: a run folder or a `record.json`: what was before.
        run_b: the same: what came after.
        out: the file to write.

    Raises:
        StoreError: when a record cannot be read or `out` cannot be written.
    """
    path = Path(out)
    page = render_compare_html(compare(_nameless(run_a), _nameless(run_b)))
    write_bytes(path, page.encode(errors="replace"))
    return path


def _nameless(run: Path | str) -> AuditRecord:
    record = load_record(run)
    folder = Path(run) if Path(run).is_dir() else Path(run).parent
    arrays, _ = load_all(folder, record, show_records=False)
    return shareable(record, arrays, show_records=False)


def render_compare_html(comparison: Comparison) -> str:
    """A comparison as HTML text."""
    charts: list[Chart] = []
    for k, leak in enumerate(Leak):
        rows = [
            DumbbellRow(c.title, f"{c.access} · defense: {c.defenses} · {c.measure}", c.start, c.end)
            for c in comparison.changes
            if c.leak is leak and c.start is not None and c.end is not None
        ]
        if rows:
            title, words = f"{LEAK_WORDS[leak]}: first and second run", ("first", "second")
            drawn = (Markup(dumbbell(f"change-{k}-{way}", title, rows, way, words)) for way in ("wide", "narrow"))
            charts.append(Chart(title, *drawn))
    ways = [c.direction for c in comparison.changes]
    told = [
        f"{n} finding{' leaks' if n == 1 else 's leak'} {way}" for way in ("more", "less") if (n := ways.count(way))
    ]
    summary = ", ".join(told) or "no finding changed by more than luck explains"
    return render(
        "compare.html.j2",
        comparison=comparison,
        charts=charts,
        state="leak" if "more" in ways else "clear" if "less" in ways else "untried",
        summary=summary[:1].upper() + summary[1:] + ".",
        change_line=change_line,
        states=STATES,
        version=comparison.after.tool.version,
    )
