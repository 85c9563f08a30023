"""Findings beside one another: what they are called, and which are one attack with and without a defense."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from seepage.core.record import Applied, AuditRecord, Estimate, Finding, LeftOut, Score
from seepage.core.vocabulary import Access, Leak, closure

Subject = Literal["model", "texts", "updates"]

ACCESS_WORDS: dict[Access, str] = {
    Access.LABELS: "labels",
    Access.TOP_K: "top-k scores",
    Access.SCORES: "scores",
    Access.LOGITS: "logits",
    Access.EMBEDDINGS: "embeddings",
    Access.WEIGHTS: "weights",
    Access.TEXT: "text",
    Access.TOKEN_LOGPROBS: "token log-probabilities",
    Access.UPDATES: "updates",
    Access.ROUNDS: "rounds led",
}


def access_text(accesses: Iterable[Access]) -> str:
    """What was opened to an attack, as `scores` or `scores, embeddings`; what follows from another is not named."""
    given = list(dict.fromkeys(accesses))
    own = [a for a in given if not any(a in closure([other]) for other in given if other is not a)]
    return ", ".join(ACCESS_WORDS[access] for access in own) or "nothing"


def left_out(record: AuditRecord) -> list[LeftOut]:
    """What was left out, each said once: one attack may stand in an audit with several parameters."""
    return list({left.model_dump_json(): left for left in record.left_out}.values())


@dataclass(frozen=True)
class LeftOutGroup:
    """Attacks that were left out for one reason."""

    attacks: tuple[str, ...]
    leak: Leak
    defenses: tuple[Applied, ...]
    reason: str

    @property
    def attack(self) -> str:
        """Their names, one after the other."""
        return ", ".join(self.attacks)


def left_out_groups(record: AuditRecord) -> list[LeftOutGroup]:
    """What was left out, those of one leak, arm and reason together."""
    found: dict[str, LeftOutGroup] = {}
    for left in left_out(record):
        reason = left.reason.replace(f"'{left.attack}'", "it")
        key = f"{left.leak} {applied_text(left.defenses)} {reason}"
        before = found[key].attacks if key in found else ()
        found[key] = LeftOutGroup((*before, left.attack), left.leak, tuple(left.defenses), reason)
    return list(found.values())


def applied_text(parts: Sequence[Applied], none: str = "none") -> str:
    """Defenses (or poisons) with their parameters, as `round (digits 1) + noise (scale 0.1)`."""
    return " + ".join(_applied(part) for part in parts) or none


def _applied(part: Applied) -> str:
    params = ", ".join(f"{key} {_plain(value)}" for key, value in part.params.items())
    return f"{part.name} ({params})" if params else part.name


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def budget_text(finding: Finding) -> str:
    """How many questions the attack might ask."""
    if finding.budget is None:
        return "no query limit"
    return f"{finding.budget:,} queries allowed"


def defended(finding: Finding) -> bool:
    """True when the victim stood behind a defense."""
    return bool(finding.defenses)


def of_records(finding: Finding) -> bool:
    """True when single records behind captured answers were recovered: its null control is another record's answer."""
    return finding.case == "record inversion"


def of_canaries(finding: Finding) -> bool:
    """True when canaries were told apart: it speaks of the training's privacy, in a section of its own."""
    return finding.case == "canaries"


def of_texts(finding: Finding) -> bool:
    """True when texts behind captured vectors were recovered: its null control is another text's vector."""
    return finding.case == "text inversion"


def of_updates(finding: Finding) -> bool:
    """True when clients' updates were read: its null control is the update of other records."""
    return finding.leak is Leak.GRADIENT


def subject(record: AuditRecord) -> Subject:
    """What the audit is about, for the words of its report."""
    if only_updates(record):
        return "updates"
    return "texts" if any(of_texts(finding) for finding in record.findings) else "model"


def only_updates(record: AuditRecord) -> bool:
    """True when the whole audit is of updates."""
    return bool(record.preflight) and all(of_updates(f) for f in record.findings)


def unscored(finding: Finding) -> bool:
    """True when there was no truth to hold a completed finding against: of a captured update without its batch."""
    return finding.status == "done" and "unscored" in finding.facts


def strongest_control(score: Score) -> Estimate | None:
    """The control the leakage is measured from; chance (without an interval) when there is no other."""
    known = {name: e for name, e in score.controls.items() if e is not None}
    if score.chance is not None:
        known["chance"] = Estimate(value=score.chance, low=score.chance, high=score.chance)
    if score.strongest_control in known:
        return known[score.strongest_control]
    return max(known.values(), key=lambda e: e.value, default=None)


def measured(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that ended with a headline value."""
    return [f for f in findings if f.status == "done" and f.score is not None and f.score.value is not None]


def strongest(findings: Iterable[Finding]) -> Finding | None:
    """The finding that says most about the model as it is: undefended before defended, then by leakage.

    What was recovered of classes comes before what was recovered behind captured answers, and a leakage that
    excludes zero before one that is larger but may be luck.
    """

    def order(finding: Finding) -> tuple[bool, bool, bool, bool, float]:
        score = finding.score
        if score is None or score.leakage is None:
            value = 0.0 if score is None or score.value is None else score.value - (score.chance or 0.0)
            return not defended(finding), not of_records(finding), False, False, value
        return not defended(finding), not of_records(finding), True, score.leakage.low > 0, score.leakage.value

    return max(measured(findings), key=order, default=None)


@dataclass(frozen=True)
class Group:
    """Findings that can be drawn on one axis: one leak, one headline score."""

    leak: Leak
    title: str
    findings: tuple[Finding, ...]
    several_victims: bool


def groups(record: AuditRecord) -> list[Group]:
    """The findings of a record as they are drawn: by leak and headline score, arms of one attack together."""
    order = {leak: i for i, leak in enumerate(Leak)}
    place = {f.id: i for i, f in enumerate(record.findings)}
    # A failed finding has no headline: it goes with the others of its attack, or of its leak.
    fallback = {
        leak: next((f.headline for f in record.findings if f.leak is leak and f.headline and not of_canaries(f)), "")
        for leak in Leak
    }

    def headline(f: Finding) -> str:
        return (f.headline or fallback[f.leak] or "") + (" of records" if of_records(f) else "")

    first = {}
    for f in record.findings:
        first.setdefault((f.leak, f.victim, _same_attack(f)), place[f.id])
    ordered = sorted(
        (f for f in record.findings if not of_canaries(f)),
        key=lambda f: (
            order[f.leak],
            headline(f),
            f.victim,
            first[f.leak, f.victim, _same_attack(f)],
            defended(f),
            place[f.id],
        ),
    )
    made: list[Group] = []
    for (leak, name), part in groupby(ordered, key=lambda f: (f.leak, headline(f))):
        found = tuple(part)
        scores = [f.score for f in found if f.score is not None]
        title = scores[0].title if scores else name or "no score"
        made.append(Group(leak, title, found, len({f.victim for f in found}) > 1))
    return made


@dataclass(frozen=True)
class Pair:
    """One attack without and with a defense."""

    bare: Finding
    defended: Finding
    measure: str
    before: Estimate
    after: Estimate


def pairs(record: AuditRecord) -> list[Pair]:
    """Every defended finding beside the same attack on the same case without the defense.

    The measure is the leakage where both have one, else the value. A defended finding without a mate,
    or one of two that failed, gives no pair.
    """
    made: list[Pair] = []
    bare = [f for f in measured(record.findings) if not defended(f)]
    for f in measured(record.findings):
        if not defended(f):
            continue
        mates = [
            b
            for b in bare
            if (b.leak, b.victim, b.headline, b.poisons, _same_attack(b))
            == (f.leak, f.victim, f.headline, f.poisons, _same_attack(f))
        ]
        # The same budget and access first: behind a defense an attack may have been opened less.
        mates.sort(key=lambda b: (b.budget != f.budget, b.access != f.access))
        mate = mates[0] if mates else None
        pair = None if mate is None else _pair(mate, f)
        if pair is not None:
            made.append(pair)
    return made


def _same_attack(f: Finding) -> str:
    return json.dumps([f.attack, f.params], sort_keys=True, default=str)


def _pair(bare: Finding, behind: Finding) -> Pair | None:
    a, b = bare.score, behind.score
    if a is None or b is None:
        return None
    if a.leakage is not None and b.leakage is not None:
        return Pair(bare, behind, "leakage", a.leakage, b.leakage)
    before, after = whole(a), whole(b)
    return None if before is None or after is None else Pair(bare, behind, "value", before, after)


def whole(score: Score) -> Estimate | None:
    """The value of a score as an estimate, when it has an interval."""
    if score.value is None or score.low is None or score.high is None:
        return None
    return Estimate(value=score.value, low=score.low, high=score.high)
