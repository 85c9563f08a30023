"""The story of an audit, leak by leak: what the HTML page and the Markdown file both tell."""

from dataclasses import dataclass

from seepage.core.record import AuditRecord, Finding, Ruling
from seepage.core.vocabulary import Leak
from seepage.report.advice import next_steps
from seepage.report.arms import defended, measured, of_canaries, of_records, of_texts, of_updates, strongest, unscored
from seepage.report.numbers import count_of
from seepage.report.shares import PROPERTY_QUESTION, is_property, lead_of_property
from seepage.report.words import (
    LEAK_WORDS,
    QUESTIONS,
    STATES,
    TEXT_QUESTION,
    Sentence,
    State,
    certainty,
    lead,
    not_scored,
    said,
    smallest,
)


@dataclass(frozen=True)
class Story:
    """What is said about one leak.

    Attributes:
        leak: which.
        title, question: for headings.
        ruling, state: the verdict, and which of four lights it is.
        sentences: the verdict in words, the first one first.
        steps: what to do next, most useful first.
        reasons: the verdict's own reasons, as recorded.
        uncontrolled: controls that were missing.
        finding: the one the words are about, when an attack ended with a value.
    """

    leak: Leak
    title: str
    question: str
    ruling: Ruling
    state: State
    sentences: tuple[Sentence, ...]
    steps: tuple[str, ...]
    reasons: tuple[str, ...]
    uncontrolled: tuple[str, ...]
    finding: Finding | None


def stories(record: AuditRecord) -> list[Story]:
    """One story for each leak with a verdict: the worst first, then in the order of the leaks."""
    weight = {"leak": 0, "unclear": 1, "clear": 2, "untried": 3}
    made = [_story(record, leak) for leak in Leak if leak in record.verdicts]
    return sorted(made, key=lambda story: weight[story.state])


def untried(record: AuditRecord) -> list[Leak]:
    """The leaks that are no part of this audit."""
    return [leak for leak in Leak if leak not in record.verdicts]


def _story(record: AuditRecord, leak: Leak) -> Story:
    verdict = record.verdicts[leak]
    findings = [f for f in record.findings if f.leak is leak and not of_canaries(f)]
    best = strongest(findings)
    return Story(
        leak,
        LEAK_WORDS[leak],
        _question(leak, best),
        verdict.verdict,
        STATES[verdict.verdict],
        tuple(s for s in _sentences(record, findings, best, verdict.verdict, verdict.smallest_effect) if s),
        tuple(next_steps(record, leak, verdict)),
        tuple(verdict.reasons),
        tuple(verdict.uncontrolled),
        best,
    )


def _question(leak: Leak, best: Finding | None) -> str:
    if best is not None and of_texts(best):
        return TEXT_QUESTION
    return PROPERTY_QUESTION if is_property(best) else QUESTIONS[leak]


def _sentences(
    record: AuditRecord, findings: list[Finding], best: Finding | None, ruling: Ruling, effect: float | None
) -> list[Sentence]:
    failed = sum(f.status == "failed" for f in findings)
    told: list[Sentence] = []
    captured = [f for f in findings if unscored(f)]
    if best is None and captured:
        return [not_scored(captured), said("The gallery holds what was recovered, for somebody who knows the records.")]
    if best is None:
        tried = f"{failed} attacks were tried and all failed." if failed else "No attack was tried."
        return [said(tried + " Nothing can be said.")]
    if ruling == "no leak found":
        n = len([f for f in measured(findings) if not defended(f)]) or len(measured(findings))
        told.append(said(f"None of the {n} attacks tried did better than luck and public knowledge allow."))
    told += [lead_of_property(best) if is_property(best) else lead(record, best), certainty(best.score, ruling)]
    if ruling != "leaks":
        told.append(smallest(effect))
    if failed:
        some = "One more attack was" if failed == 1 else f"{failed} more attacks were"
        told.append(said(f"{some} tried and failed."))
    if best.confounded:
        told.append(said("Beware: this may not be due to the model. ", best.confounded))
    return told


@dataclass(frozen=True)
class Compared:
    """A value beside its controls, as shares of `n`: (label, share, whether it is the adversary's own)."""

    n: int
    rows: tuple[tuple[str, float, bool], ...]

    @property
    def counts(self) -> list[int] | None:
        """Hits of `n` in each row, when all are whole and few enough to be drawn one by one."""
        hits = [count_of(value, self.n) for _, value, _ in self.rows]
        whole = [hit for hit in hits if hit is not None]
        return whole if len(whole) == len(hits) and self.n <= 60 else None


def compared(finding: Finding | None) -> Compared | None:
    """What of a finding can be drawn as shares, or None when its score is no share."""
    score = None if finding is None else finding.score
    if finding is None or score is None or score.value is None or not 0 <= score.value <= 1:
        return None
    updates = of_updates(finding)
    thing = "update" if updates else "model"
    rows = [(f"with the {thing}", score.value, True)]
    other = "another record's answer" if of_records(finding) else "twin without the secret"
    other = "another text's vector" if of_texts(finding) else other
    other = "another batch's update" if updates else other
    for name, label in (("no_model", f"without the {thing}"), ("null_model", other)):
        control = score.controls.get(name)
        if control is not None and 0 <= control.value <= 1:
            rows.append((label, control.value, False))
    if len(rows) == 1 and score.chance is not None and 0 <= score.chance <= 1:
        rows.append(("by blind guessing", score.chance, False))
    return Compared(score.n, tuple(rows))
