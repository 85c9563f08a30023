"""What to do next, in words: which access to close, which budget to set, which defense was measured."""

from collections.abc import Sequence

from seepage.core.record import AuditRecord, Finding, Verdict
from seepage.core.vocabulary import Access, Leak
from seepage.report.arms import Pair, applied_text, defended, measured, of_texts, pairs
from seepage.report.numbers import difference
from seepage.report.shares import is_property
from seepage.report.words import change_words, plural

# Accesses from the one that shows most; closing one leaves those after it.
_OPENNESS = (
    Access.WEIGHTS,
    Access.LOGITS,
    Access.EMBEDDINGS,
    Access.SCORES,
    Access.TOP_K,
    Access.LABELS,
    Access.UPDATES,
    Access.ROUNDS,
    Access.TOKEN_LOGPROBS,
    Access.TEXT,
)

_CLOSE = {
    Access.WEIGHTS: "Keep the weights to yourself: serve answers through an interface instead of handing "
    "the model out, then audit again with that narrower access.",
    Access.LOGITS: "Answer with rounded scores or labels instead of logits, then audit again.",
    Access.EMBEDDINGS: "Do not hand out embeddings, or treat them like the records they were made from.",
    Access.SCORES: "Answer with less: the label alone, or scores rounded to a digit. Measure each as a [[defense]].",
    Access.TOP_K: "Answer with the label alone, then audit again.",
    Access.LABELS: "Labels alone leak here, so nothing is left to hide in the answers: retrain with a defense, "
    "and limit how much one caller may ask.",
    Access.ROUNDS: "Have clients look at the model they are sent before they train it ('check-received'), and clip and "
    "noise what they send: a sum over clients does not protect them from a server that plants weights.",
    Access.UPDATES: "Do not send bare updates: clip and noise them, or aggregate them securely before anyone sees one.",
    Access.TOKEN_LOGPROBS: "Do not return token probabilities, then audit again with text alone.",
    Access.TEXT: "Filter what the model writes against the training text, and remove duplicates from that text.",
}

# Of victims that answer numbers or labels instead of classes there is no single label to answer with.
_CLOSE_NUMBERS = (
    "Answer with less: numbers rounded as coarsely as their use allows, or probabilities to a digit. Measure it as a "
    "[[defense]]."
)

_RETRAIN = {
    Leak.INVERSION: "Retraining can help where closing access cannot: fewer epochs, label smoothing, "
    "or training with differential privacy. Measure it; do not assume it.",
    Leak.MEMBERSHIP: "Membership follows overfitting: stop earlier, regularise, use more records, "
    "or train with differential privacy, which bounds it.",
    Leak.EXTRACTION: "Remove duplicates and secrets from the training text before the next training.",
    Leak.ATTRIBUTE: "Ask whether the model needs the column at all, and audit again without it.",
}


_OF_SHARES = (
    "Weight or draw the training records so that the group has the share that the public knows of, then audit again: "
    "what hides single records is not meant to hide a share."
)


def next_steps(record: AuditRecord, leak: Leak, verdict: Verdict) -> list[str]:
    """What to do about one leak, most useful first."""
    findings = [f for f in record.findings if f.leak is leak]
    made = [pair for pair in pairs(record) if pair.bare.leak is leak]
    if verdict.verdict == "leaks":
        return _close(findings, record.data.get("task") is not None) + _defenses(made) + _retrain(leak, findings)
    if verdict.verdict == "inconclusive":
        return _sharpen(findings, verdict) + _failed(findings) + _defenses(made)
    if verdict.verdict == "no leak found":
        return [*_failed(findings), _try_harder(findings), "Audit again when the model, its data or its access change."]
    return [
        f"Add an attack on {leak.value} to the audit before saying anything about it: seepage list attacks names them."
    ]


def _retrain(leak: Leak, findings: Sequence[Finding]) -> list[str]:
    if any(of_texts(f) for f in findings):
        # What a vector holds is what it is for: no other training of the encoder takes it out.
        return [
            "Keep vectors as you keep the texts: the same access rules, encryption and deletion, in the vector "
            "database and in its backups."
        ]
    proven = _proven(findings)
    steps = [_OF_SHARES] if any(is_property(f) for f in proven) else []
    # What shows is what a model learned of a group as a whole, which fits to single records have no part in.
    alone = bool(steps) and all(is_property(f) for f in proven)
    return steps + ([_RETRAIN[leak]] if leak in _RETRAIN and not alone else [])


def _proven(findings: Sequence[Finding]) -> list[Finding]:
    return [f for f in measured(findings) if f.score and f.score.leakage and f.score.leakage.low > 0]


def _close(findings: Sequence[Finding], numbers: bool) -> list[str]:
    leaky = [f for f in _proven(findings) if not defended(f)]
    seen = {access for f in leaky for access in f.needs or f.access}
    closing = {**_CLOSE, Access.SCORES: _CLOSE_NUMBERS} if numbers else _CLOSE
    steps = [closing[access] for access in _OPENNESS if access in seen][:2]
    asked = [f.queries for f in leaky if f.queries and not {Access.WEIGHTS, Access.UPDATES} & set(f.access)]
    if asked:
        steps.append(
            f"Limit how much one caller may ask: {min(asked):,} queries were enough here. "
            "A limit well below that raises the price of the attack; it does not remove the leak."
        )
    return steps


def _defenses(made: Sequence[Pair]) -> list[str]:
    steps: list[str] = []
    for pair in made:
        gap = difference(pair.after, pair.before)
        left = pair.defended.score.leakage if pair.defended.score else None
        rest = ""
        if left is not None:
            rest = " What is left still leaks." if left.low > 0 else " What is left may be luck."
        unaware = (
            " The adversary did not know of it, which flatters it." if pair.defended.adversary == "unaware" else ""
        )
        steps.append(
            f"Measured here, against {pair.bare.title}: “{applied_text(pair.defended.defenses)}” "
            f"{change_words(pair.measure, pair.before, pair.after, gap)}.{rest}{unaware}"
        )
    return steps


def _sharpen(findings: Sequence[Finding], verdict: Verdict) -> list[str]:
    steps: list[str] = []
    missing = {name: text for f in findings if f.score for name, text in f.score.missing.items()}
    for text in missing.values():
        steps.append(f"Supply {text}: without it, what the model adds cannot be told from what is known anyway.")
    units = {(f.score.unit, f.score.n) for f in measured(findings) if f.score}
    for unit, n in sorted(units):
        steps.append(f"Measure over more than {n} {plural(unit, n)}: the interval is too wide to decide.")
    return steps or [f"{verdict.reasons[0]}" if verdict.reasons else "Give the audit more records and controls."]


def _failed(findings: Sequence[Finding]) -> list[str]:
    n = sum(f.status == "failed" for f in findings)
    return [f"Mend what made {n} of the attacks fail, and audit again: a failed attack says nothing."] if n else []


def _try_harder(findings: Sequence[Finding]) -> str:
    accesses = {access for f in findings for access in f.access}
    if Access.UPDATES in accesses:
        return (
            "This holds for the attacks listed below, by a server that follows the protocol and knows what is said of "
            "it; one that alters the model, or knows more, was not tried."
        )
    if Access.WEIGHTS in accesses:
        return "This holds for the attacks listed below and no other; larger budgets or newer attacks may find more."
    return "An adversary with more access (the weights) or a larger budget was not tried; add one if one is thinkable."
