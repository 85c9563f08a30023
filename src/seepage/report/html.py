"""The report as one HTML file that needs nothing else: no network, no other file, no script from anywhere.

Everything from the record is hostile text until escaped: the templates escape by default, charts
escape their own text, and the page's policy lets no script run but its own, by its hash.
"""

import base64
import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from seepage.core.errors import StoreError
from seepage.core.record import AuditRecord, Finding
from seepage.report import numbers
from seepage.report.arms import access_text, applied_text, left_out_groups, only_updates, subject
from seepage.report.beside import side_by_side
from seepage.report.budgets import budget_curves
from seepage.report.epsilon import epsilon_view
from seepage.report.epsilon import rows as epsilon_rows
from seepage.report.figures import legend_mark
from seepage.report.gallery import MOST_BYTES, MOST_CLASSES, Gallery, gallery
from seepage.report.identity import shareable
from seepage.report.load import load_all, load_record
from seepage.report.pairs import TextPairs, text_pairs
from seepage.report.property import property_views
from seepage.report.risk import risk_view
from seepage.report.steps import Steps, steps
from seepage.report.story import stories, untried
from seepage.report.toml import toml_text
from seepage.report.updates import update_views
from seepage.report.views import (
    MOST_RANKED,
    arm_text,
    defense_chart,
    forest_charts,
    matrices,
    metric_tables,
    roc_view,
    traces,
    verdict_picture,
)
from seepage.report.words import CONTROL_WORDS, HOLDING, LEAK_WORDS, control_words, hero, noun_of, plural
from seepage.store.files import PRIVATE, PUBLIC, write_bytes

Array = np.ndarray
Arrays = Mapping[str, Mapping[str, Array]]

log = logging.getLogger(__name__)

_TEMPLATES = Path(__file__).parent / "templates"
_CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def write_html(run_folder: Path | str, show_records: bool = False, most_classes: int = MOST_CLASSES) -> Path:
    """Write `report.html` into a run folder.

    Args:
        run_folder: holds `record.json`, and beside it the arrays it names.
        show_records: whether real and recovered records, and the names of members, are shown. The file
            then has mode 0600.
        most_classes: how many classes of one attack are embedded at the most.

    Raises:
        StoreError: when the record cannot be read or the report cannot be written.
    """
    run = Path(run_folder)
    record = load_record(run)
    run = run if run.is_dir() else run.parent
    arrays, problems = load_all(run, record, show_records)
    page = render_html(record, arrays, show_records, most_classes, problems)
    path = run / "report.html"
    write_bytes(path, page.encode(errors="replace"), PRIVATE if show_records else PUBLIC)
    return path


def render_html(
    record: AuditRecord,
    arrays: Arrays,
    show_records: bool,
    most_classes: int = MOST_CLASSES,
    problems: Sequence[str] = (),
) -> str:
    """The report as HTML text.

    Args:
        record: what was found.
        arrays: finding id -> array name -> array; galleries are looked at only when records are shown.
        show_records: whether private records and names may be in the text.
        most_classes: how many classes of one attack are embedded at the most.
        problems: sentences shown above everything (arrays that could not be read).
    """
    record = shareable(record, arrays, show_records)
    shown, more = _galleries(record, arrays, most_classes) if show_records else ([], [])
    context = _context(record, arrays, show_records, shown)
    context["texts"], unread = _texts(record, arrays) if show_records else ([], [])
    more += unread
    context["beside"] = side_by_side([g.finding for g in shown], arrays)
    context["steps"], late = _steps([g.finding for g in shown], arrays, most_classes)
    more += late
    return render("report.html.j2", **context, problems=[*problems, *more])


def _galleries(record: AuditRecord, arrays: Arrays, most: int) -> tuple[list[Gallery], list[str]]:
    having = [f for f in record.findings if "reconstruction" in arrays.get(f.id, {})]
    # The best attack first, then the arms in the order of the record.
    having.sort(key=lambda f: (bool(f.defenses), -(f.score.value or 0.0) if f.score else 0.0))
    made: list[Gallery] = []
    problems: list[str] = []
    for finding in having:
        try:
            found = gallery(finding, arrays[finding.id], most, MOST_BYTES // len(having))
        except StoreError as error:
            log.warning("%s", error)
            problems.append(str(error))
            continue
        made += [found] if found is not None else []
    return made, problems


def _texts(record: AuditRecord, arrays: Arrays) -> tuple[list[TextPairs], list[str]]:
    """The recovered texts of each finding that has some, the bare victim first, and what could not be shown."""
    made: list[TextPairs] = []
    problems: list[str] = []
    for finding in sorted(
        record.findings, key=lambda f: (bool(f.defenses), -(f.score.value or 0.0) if f.score else 0.0)
    ):
        try:
            found = text_pairs(finding, arrays.get(finding.id, {}))
        except StoreError as error:
            log.warning("%s", error)
            problems.append(str(error))
            continue
        made += [found] if found is not None else []
    return made, problems


def _steps(findings: Sequence[Finding], arrays: Arrays, most: int) -> tuple[dict[str, Steps], list[str]]:
    """The frames of each finding, by its id, and what could not be shown."""
    made: dict[str, Steps] = {}
    problems: list[str] = []
    for finding in findings:
        try:
            found = steps(finding, arrays[finding.id], most)
        except StoreError as error:
            log.warning("%s", error)
            problems.append(str(error))
            continue
        if found is not None:
            made[finding.id] = found
    return made, problems


def _context(record: AuditRecord, arrays: Arrays, show_records: bool, shown: list[Gallery]) -> dict[str, Any]:
    told, updates = stories(record), only_updates(record)
    scores = [f.score for f in record.findings if f.score]
    people = record.data.get("class_noun") == "person"
    rocs = [roc_view(f"roc-{k}", f, arrays.get(f.id, {})) for k, f in enumerate(record.findings)]
    found: dict[str, Any] = {
        "record": record,
        "title": record.title or f"Audit of {_victim_name(record)}",
        "victim_name": _victim_name(record),
        "show_records": show_records,
        "stories": told,
        "hero": hero([story.state for story in told], subject(record)),
        "null_head": "Another update" if updates else "Null model",
        "without_head": "Without update" if updates else "Without model",
        "control_words": control_words(updates),
        "only_updates": updates,
        "holding": HOLDING,
        "updates": update_views(record, arrays),
        "pictures": {s.leak: verdict_picture(f"verdict-{k}", s.finding, people) for k, s in enumerate(told)},
        "untried": untried(record),
        "forests": forest_charts(record),
        "filters": _filters(record.findings),
        "several_victims": len({f.victim for f in record.findings}) > 1,
        "budgets": budget_curves(record),
        "metrics": metric_tables(record),
        "defenses": defense_chart(record),
        "galleries": shown,
        "has_gallery": any(a.kind == "gallery" for f in record.findings for a in f.artifacts),
        "noun": "record" if updates else noun_of(record, scores[0] if scores else None),
        "risk": risk_view(record),
        "epsilon": epsilon_view(record),
        "epsilon_rows": [] if record.epsilon is None else epsilon_rows(record.epsilon),
        "rocs": [view for view in rocs if view is not None],
        "shares": property_views(record, arrays),
        "matrices": matrices(record),
        "rankings": [f for f in record.findings if f.exposed],
        "most_ranked": MOST_RANKED,
        "left_out": left_out_groups(record),
        "missing": sorted({item for score in scores for item in score.missing.items()}),
        "traces": {f.id: traces(f"trace-{k}", arrays.get(f.id, {})) for k, f in enumerate(record.findings)},
        "toml": toml_text(record.config.as_written),
        "resolved": toml_text(record.config.as_resolved),
        "data_facts": {name: value for name, value in record.data.items() if name != "class_noun"},
        "seed": record.config.as_resolved.get("seed", record.findings[0].seed if record.findings else None),
        "version": record.tool.version,
    }
    return {**found, "sections": _sections(found)}


def _victim_name(record: AuditRecord) -> str:
    named = record.victim.get("name")
    if isinstance(named, str) and named:
        return named
    return record.findings[0].victim if record.findings else "the model"


def _filters(findings: Sequence[Finding]) -> list[tuple[str, list[str]]]:
    return [
        ("leak", sorted({LEAK_WORDS[f.leak] for f in findings})),
        ("access", sorted({access_text(f.access) for f in findings})),
        ("defense", sorted({applied_text(f.defenses) for f in findings})),
        ("status", sorted({f.status for f in findings})),
    ]


def _sections(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The sections that this page has, as the navigation lists them."""
    record: AuditRecord = found["record"]
    possible = [
        ("verdict", "Verdict", True),
        ("preflight", "Can it work?", record.preflight),
        ("findings", "Findings", True),
        ("metrics", "All metrics", found["metrics"]),
        ("budgets", "Query budget", found["budgets"]),
        ("defenses", "Defenses", found["defenses"]),
        ("updates", "Record by record", found["updates"]),
        ("gallery", "Recovered", found["galleries"] or found["has_gallery"]),
        ("risk", "Who is at risk", found["risk"]),
        ("epsilon", "Epsilon", found["epsilon"]),
        ("membership", "Membership", found["rocs"]),
        ("property", "Shares of groups", found["shares"]),
        ("ranking", "Most exposed", found["rankings"]),
        ("checks", "Checks", record.judge or record.checks or record.data or record.victim),
        ("limits", "Limits", True),
        ("details", "Details", record.findings),
        ("again", "Run it again", True),
    ]
    return [(id_, words) for id_, words, there in possible if there]


def _bar(share: float) -> Markup:
    width = f"{100 * max(0.0, min(share, 1.0)):.0f}%"
    bar = f'<rect width="{width}" height="5" fill="currentColor"/>'
    return Markup(f'<svg class="level" width="100%" height="5" aria-hidden="true" focusable="false">{bar}</svg>')


def _date(text: str) -> str:
    """An ISO time as people write it; anything else as it is."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return text
    zone = "" if when.tzinfo is None else " UTC" if not when.utcoffset() else f" {when:%z}"
    return f"{when.day} {when:%B %Y, %H:%M}{zone}"


def _label(name: str) -> str:
    if name.startswith("psnr_db_"):
        # Facts of updates alone, whose null control is the update of other records.
        return "PSNR in dB, " + name.removeprefix("psnr_db_").replace("null_model", "from another update").replace(
            "_", " "
        )
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


@cache
def _environment() -> Environment:
    env = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # No document may hold these characters, and nothing that is shown has a use for them.
        finalize=lambda value: _CONTROL_CHARACTERS.sub("\ufffd", value) if type(value) is str else value,
    )
    filters: dict[str, Callable[..., str]] = {
        "number": numbers.number,
        "short": numbers.short,
        "interval": numbers.interval,
        "estimate": numbers.estimate,
        "signed": numbers.signed,
        "score": numbers.score_text,
        "p": numbers.p_text,
        "whole": numbers.whole,
        "duration": numbers.duration,
        "fact": numbers.fact,
        "plural": plural,
        "access": access_text,
        "applied": applied_text,
        "arm": arm_text,
        "date": _date,
        "label": _label,
        "exact": lambda value: f"{value:g}",
        "json": lambda value: json.dumps(value, ensure_ascii=False),
    }
    env.filters.update(filters)
    return env


@cache
def _shared() -> dict[str, Any]:
    """What every page needs: style and script with the hashes by which its policy knows them, and vocabulary."""
    style = (_TEMPLATES / "style.css").read_text(encoding="utf-8")
    script = (_TEMPLATES / "script.js").read_text(encoding="utf-8")
    return {
        "style": Markup(style),
        "script": Markup(script),
        "style_hash": _sha256(style),
        "script_hash": _sha256(script),
        "legend": lambda kind: Markup(legend_mark(kind)),
        "bar": _bar,
        "leak_words": LEAK_WORDS,
        "control_words": CONTROL_WORDS,
        "only_updates": False,
    }


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def render(template: str, **context: Any) -> str:
    """A page of this package: `template` filled with `context`, every text in it escaped."""
    return _environment().get_template(template).render(**{**_shared(), **context})
