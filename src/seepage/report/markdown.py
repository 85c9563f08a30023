"""The report as Markdown: the same story in text and tables, for reading where HTML is not at hand.

It shows no pictures. Names of members appear only when records are asked for.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from seepage.core.record import AuditRecord
from seepage.core.vocabulary import Leak
from seepage.report import numbers
from seepage.report.arms import (
    access_text,
    applied_text,
    left_out_groups,
    only_updates,
    pairs,
    subject,
    unscored,
)
from seepage.report.epsilon import FAMILIES
from seepage.report.epsilon import rows as epsilon_rows
from seepage.report.identity import shareable
from seepage.report.load import load_all, load_record
from seepage.report.marks import bullets as _list
from seepage.report.marks import safe as _safe
from seepage.report.marks import table as _table
from seepage.report.property import property_views
from seepage.report.risk import risk_view
from seepage.report.story import Story, stories, untried
from seepage.report.toml import toml_text
from seepage.report.updates import update_views
from seepage.report.views import arm_text
from seepage.report.words import LEAK_WORDS, Sentence, control_words, hero
from seepage.store.files import PRIVATE, PUBLIC, write_bytes

MOST_RANKED = 20


def write_markdown(run_folder: Path | str, show_records: bool = False) -> Path:
    """Write `report.md` into a run folder.

    Args:
        run_folder: holds `record.json`.
        show_records: whether members are named; the file then has mode 0600.

    Raises:
        StoreError: when the record cannot be read or the report cannot be written.
    """
    run = Path(run_folder)
    record = load_record(run)
    run = run if run.is_dir() else run.parent
    arrays, problems = load_all(run, record, show_records=False)
    path = run / "report.md"
    page = render_markdown(record, arrays, show_records, problems)
    write_bytes(path, page.encode(errors="replace"), PRIVATE if show_records else PUBLIC)
    return path


def render_markdown(
    record: AuditRecord,
    arrays: Mapping[str, Mapping[str, np.ndarray]],
    show_records: bool,
    problems: Iterable[str] = (),
) -> str:
    """The report as Markdown text.

    Args:
        record: what was found.
        arrays: finding id -> array name -> array; only the names of classes are looked at, to hide them.
        show_records: whether members may be named.
        problems: sentences shown above everything.
    """
    record = shareable(record, arrays, show_records)
    told = stories(record)
    parts = [
        _head(record, problems),
        "## Verdict\n\n**" + hero([story.state for story in told], subject(record))[1] + "**",
        *(f"- **Gate {'held' if g.passed else 'crossed'}.** {_safe(g.message)}" for g in record.gates),
        *(_story(story) for story in told),
        _untried(record),
        _UPDATE_GUIDE if only_updates(record) else _GUIDE,
        _preflight(record),
        _findings(record),
        _updates(record, arrays),
        _epsilon(record),
        _defenses(record),
        _rates(record),
        _risk(record),
        _shares(record, arrays),
        _rankings(record, show_records),
        _checks(record),
        _limits(record),
        _again(record),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


_GUIDE = """## How to read this

- **The value** is what an attack reached, with the range it may truly lie in (95 %). More is more leakage.
- **The controls** need no leak: the best guess without the model, the same attack on a model that never saw the
  secret (null model), and blind chance.
- **The leakage** is the distance from the strongest control. Only when its range excludes zero is anything called
  a leak."""


_UPDATE_GUIDE = _GUIDE.replace("the best guess without the model", "the best guess without the update").replace(
    "the same attack on a model that never saw the\n  secret (null model)",
    "the same attack on the update of other\n  records",
)


def _words(sentence: Sentence) -> str:
    return "".join(f"**{_safe(part.text)}**" if part.strong else _inner(part.text) for part in sentence)


def _inner(text: str) -> str:
    """`_safe`, with the spaces at both ends that join it to its neighbours."""
    return (" " if text[:1] == " " else "") + _safe(text) + (" " if text[-1:] == " " else "")


def _head(record: AuditRecord, problems: Iterable[str]) -> str:
    title = _safe(record.title or "Privacy audit")
    facts = f"{_safe(record.run.started)} · {len(record.findings)} findings in {numbers.duration(record.run.seconds)}"
    made = f"{_safe(record.tool.name)} {_safe(record.tool.version)} · run {_safe(record.run.id)}"
    notes = "".join(f"\n\n> {_safe(problem)}" for problem in problems)
    return f"# {title}\n\n{facts} · {made}{notes}"


def _story(story: Story) -> str:
    parts = [f"### {story.title}: {story.ruling.upper()}", f"*{story.question}*"]
    parts += [_words(sentence) for sentence in story.sentences]
    parts += ["What to do next:", _list(_safe(step) for step in story.steps)]
    reasons = [_safe(reason) for reason in story.reasons]
    words = control_words(story.leak is Leak.GRADIENT)
    reasons += [f"not controlled by {_safe(words.get(name, name))}" for name in story.uncontrolled]
    if reasons:
        parts += ["Why this verdict:", _list(reasons)]
    return "\n\n".join(parts)


def _untried(record: AuditRecord) -> str:
    names = ", ".join(LEAK_WORDS[leak].lower() for leak in untried(record))
    return f"No part of this audit, so nothing is known about: {names}." if names else ""


def _preflight(record: AuditRecord) -> str:
    parts: list[str] = []
    for part in record.preflight:
        behind = f"### Behind {_safe(applied_text(part.defenses))}" if part.defenses else ""
        prospects = [
            [
                _safe(row.attack) + (" (left out)" if row.left_out else ""),
                _safe(row.outlook.prospect if row.outlook else "not known"),
                _safe(row.outlook.why if row.outlook else "nothing can be said beforehand"),
                _safe(row.outlook.change if row.outlook else ""),
            ]
            for row in part.forecasts
        ]
        seen = [[_safe(cell) for cell in (d.name, d.holds, d.found, d.means, d.change)] for d in part.diagnostics]
        parts += [
            behind,
            f"**{_safe(part.answer)}**",
            _table(("Attack", "Prospect", "Why", "What would change it"), prospects) if prospects else "",
            _table(("Looked at", "The assumption", "Found", "What it means", "What would change it"), seen),
        ]
    return "\n\n".join(["## Can it work?", *(part for part in parts if part)]) if parts else ""


def _updates(record: AuditRecord, arrays: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    parts: list[str] = []
    for view in update_views(record, arrays):
        f, lines = view.finding, list[str]()
        low, middle, best = (f.facts.get(f"psnr_db_{name}") for name in ("quarter", "median", "best"))
        other = f.facts.get("psnr_db_median_null_model")
        if isinstance(low, float) and isinstance(middle, float) and isinstance(best, float):
            beside = f"; from the update of other records, median {other:.1f}" if isinstance(other, float) else ""
            lines.append(f"Likeness in dB: quarter {low:.1f}, median {middle:.1f}, best {best:.1f}{beside}")
        if view.labels is not None:
            lines.append(
                f"Labels named: {numbers.score_text(view.labels)}, chance {numbers.number(view.labels.chance)}"
            )
        lines += [f"Distance to the captured update, {_safe(what)}: {_safe(told)}" for what, told in view.consistency]
        lines += [f"Threat model: {_safe(view.threat)}"] if view.threat else []
        lines += [f"{heading}: {_safe(words)}" for heading, words in view.rungs]
        if lines:
            parts.append(f"### {_safe(f.title)} ({_safe(arm_text(f))})\n\n{_list(lines)}")
    return "\n\n".join(["## Record by record", *parts]) if parts else ""


def _findings(record: AuditRecord) -> str:
    if not record.findings:
        return "## What was tried\n\nNo attack was run."
    rows: list[list[str]] = []
    for f in record.findings:
        s = f.score
        value = "not scored" if unscored(f) else numbers.score_text(s)
        if f.status == "failed":
            value = f"failed: {_safe(f.error.message if f.error else '')}"
        controls = [numbers.estimate(s.controls.get(name) if s else None) for name in ("no_model", "null_model")]
        chance, leakage = (numbers.number(s.chance), numbers.signed(s.leakage)) if s else (numbers.MISSING,) * 2
        title = _safe(f.title) + (f" ({_safe(s.title)})" if s else "")
        arm = [LEAK_WORDS[f.leak], access_text(f.access), _safe(applied_text(f.defenses))]
        rows.append([title, *arm, value, leakage, *controls, chance, numbers.whole(f.queries)])
    names = ("Attack", "Leak", "Access", "Defense", "Value", "Leakage")
    updates = only_updates(record)
    names += ("Without the update", "Another update") if updates else ("Without the model", "Null model")
    names += ("Chance", "Queries")
    return "## What was tried\n\n" + _table(names, rows)


def _epsilon(record: AuditRecord) -> str:
    told = record.epsilon
    if told is None:
        return ""
    claim = "no claim" if told.claimed is None else f"claimed {told.claimed:g} at delta {told.delta:g}"
    ruling = "" if told.standing is None else f": {told.standing.upper()}"
    facts = [
        f"{told.included:,} of {told.canaries:,} canaries were put into the training data by fair coins; {claim}",
        f"The bounds hold for {FAMILIES[told.family]}",
    ]
    names = ("Attack", "Guessed", "Right", "Bound alone", "Bound that counts")
    parts = [f"## Empirical epsilon{ruling}", f"**{_safe(told.message)}**", _list(facts)]
    if told.bounds:
        parts.append(_table(names, [[_safe(cell) for cell in row] for row in epsilon_rows(told)]))
    return "\n\n".join(parts)


def _defenses(record: AuditRecord) -> str:
    rows = [
        [
            _safe(pair.bare.title),
            _safe(applied_text(pair.defended.defenses)),
            pair.measure,
            numbers.signed(pair.before),
            numbers.signed(pair.after),
            numbers.signed(numbers.difference(pair.after, pair.before)),
            pair.defended.adversary,
        ]
        for pair in pairs(record)
    ]
    names = ("Attack", "Defense", "Measure", "Without", "With", "Change", "Adversary")
    return "## Without and with a defense\n\n" + _table(names, rows) if rows else ""


def _rates(record: AuditRecord) -> str:
    rows = [
        [
            f"{_safe(f.title)} ({_safe(arm_text(f))})",
            _safe(s.title),
            f"not estimable: {_safe(s.reason or '')}" if s.value is None else numbers.score_text(s),
        ]
        for f in record.findings
        for s in f.scores.values()
        if s.name.startswith("tpr")
    ]
    return (
        "## Members found at few false accusations\n\n" + _table(("Attack", "Measure", "Found"), rows) if rows else ""
    )


def _risk(record: AuditRecord) -> str:
    view = risk_view(record)
    if view is None:
        return ""
    parts = [
        f"## Who is at risk\n\nBy the attack that leaks most, {_safe(view.finding.title)}.",
        _list([_safe(sentence) for sentence in (*view.sentences, *filter(None, [view.missing]))]),
    ]
    if view.spread:
        rows = [
            [words, str(s.targets), numbers.estimate(s.mean), numbers.short(s.deviation), _between(s.least, s.most)]
            for words, s in view.spread
        ]
        parts.append(_table(("From training to training", "Models attacked", "Mean", "Deviation", "Range"), rows))
    rows = [
        [
            _safe(axis.name),
            _safe(g.name),
            f"{g.members} / {g.nonmembers}",
            numbers.estimate(g.auc) if g.auc else f"not estimable: {_safe(g.reason or '')}",
            numbers.short(g.rest),
            f"**more at risk**, {numbers.p_text(g.p_value)}" if g.flagged else "",
        ]
        for axis in view.axes
        for g in axis.groups
    ]
    if rows:
        parts.append(_table(("By", "Group", "Members / others", "AUC", "Other groups", ""), rows))
    rows = [
        [
            str(e.rank),
            _safe(e.id),
            numbers.short(e.value),
            numbers.estimate(e.memorised) if e.memorised else "–",
            _safe("; ".join(e.reasons)),
        ]
        for e in view.listed
    ]
    parts.append(_table(("Rank", "Member", "Above", "Memorised", "What makes it stand out"), rows))
    return "\n\n".join(parts)


def _between(low: float, high: float) -> str:
    return f"{numbers.short(low)} to {numbers.short(high)}"


def _shares(record: AuditRecord, arrays: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    parts: list[str] = []
    for view in property_views(record, arrays):
        said = "\n\n".join(_words(sentence) for sentence in view.sentences)
        rows = _table(("Share", "Value"), [[_safe(what), _safe(told)] for what, told in view.rows])
        parts.append(f"### {_safe(view.finding.title)} ({_safe(arm_text(view.finding))})\n\n{said}\n\n{rows}")
    return "\n\n".join(["## How large a group is in the training set", *parts]) if parts else ""


def _rankings(record: AuditRecord, show_records: bool) -> str:
    parts: list[str] = []
    for f in record.findings:
        rows = [
            [str(e.rank), _safe(e.id), numbers.short(e.value), numbers.short(e.control)]
            + ([_safe(e.evidence)] if show_records else [])
            for e in f.exposed[:MOST_RANKED]
        ]
        if rows:
            names = ["Rank", "Member", "Value", "Without the model"] + (["Evidence"] if show_records else [])
            more = f"\n\nThe first {len(rows)} of {len(f.exposed)}." if len(f.exposed) > len(rows) else ""
            parts.append(f"### {_safe(f.title)} ({_safe(arm_text(f))})\n\n{_table(names, rows)}{more}")
    numbered = "" if show_records else "\n\nMembers are numbered here; the same number is the same member throughout."
    return "\n\n".join([f"## Who is most exposed{numbered}", *parts]) if parts else ""


def _checks(record: AuditRecord) -> str:
    lines = [
        f"**{_safe(c.name)}: {'passed' if c.passed else 'not passed'}.** {_safe(c.message)}"
        + (f" ({numbers.estimate(c.value)})" if c.value else "")
        for c in record.checks
    ]
    lines += [f"Judge, {_safe(name.replace('_', ' '))}: {_safe(numbers.fact(v))}" for name, v in record.judge.items()]
    return "## Can the measurement be trusted?\n\n" + _list(lines) if lines else ""


def _limits(record: AuditRecord) -> str:
    lines: list[str] = []
    for leak, verdict in record.verdicts.items():
        effect = "is not known" if verdict.smallest_effect is None else f"is {numbers.number(verdict.smallest_effect)}"
        lines.append(f"{LEAK_WORDS[leak]}: the smallest leakage that would have been noticed {effect}.")
    lines += [_safe(limit) for limit in record.limits]
    missing = sorted({item for f in record.findings if f.score for item in f.score.missing.items()})
    lines += [
        f"Missing: {control_words(only_updates(record)).get(name, _safe(name))}. You could supply {_safe(what)}."
        for name, what in missing
    ]
    for left in left_out_groups(record):
        behind = f" behind {_safe(applied_text(left.defenses))}" if left.defenses else ""
        lines.append(f"Left out: {_safe(left.attack)} ({LEAK_WORDS[left.leak].lower()}){behind}: {_safe(left.reason)}")
    return "## What this cannot say\n\n" + _list(lines) if lines else ""


def _again(record: AuditRecord) -> str:
    text = toml_text(record.config.as_written)
    # A fence longer than any run of backticks inside cannot be closed from inside.
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    versions = ", ".join(f"{_safe(name)} {_safe(version)}" for name, version in record.environment.items())
    credit = record.data.get("credit")
    parts = [
        "## How to run it again",
        "Save this as `audit.toml` and run `seepage audit audit.toml`.",
        f"{fence}toml\n{text}{fence}",
        f"Made with {versions}." if versions else "",
        f"Data: {_safe(credit)}." if credit else "",
    ]
    return "\n\n".join(part for part in parts if part)
