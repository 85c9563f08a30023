"""What the numbers say, in words for someone who is no expert.

A sentence is a tuple of `Part`s, so that the HTML and the Markdown can each mark what is strong and
escape the rest in their own way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from seepage.core.record import AuditRecord, Estimate, Finding, Ruling, Score
from seepage.core.vocabulary import Access, Leak
from seepage.report.arms import Subject, applied_text, of_records, of_texts
from seepage.report.numbers import count_of, likely, number, score_text

State = Literal["leak", "unclear", "clear", "untried"]


@dataclass(frozen=True)
class Part:
    """A piece of a sentence."""

    text: str
    strong: bool = False


Sentence = tuple[Part, ...]


def said(*parts: str | Part) -> Sentence:
    """A sentence from plain pieces and strong ones."""
    return tuple(Part(part) if isinstance(part, str) else part for part in parts if part != "")


def plain(sentence: Sentence) -> str:
    """A sentence without its marks."""
    return "".join(part.text for part in sentence)


STATES: dict[Ruling, State] = {
    "leaks": "leak",
    "inconclusive": "unclear",
    "no leak found": "clear",
    "not tried": "untried",
}

LEAK_WORDS: dict[Leak, str] = {
    Leak.INVERSION: "Inversion",
    Leak.GRADIENT: "Gradient inversion",
    Leak.MEMBERSHIP: "Membership",
    Leak.ATTRIBUTE: "Attribute inference",
    Leak.EXTRACTION: "Extraction",
    Leak.STEALING: "Stealing",
}

QUESTIONS: dict[Leak, str] = {
    Leak.INVERSION: "Can what the model learned about a class be turned back into its records?",
    Leak.GRADIENT: "Can a client's records be read from the update it sends?",
    Leak.MEMBERSHIP: "Can one tell whether a record was trained on?",
    Leak.ATTRIBUTE: "Can a hidden attribute of a record be inferred?",
    Leak.EXTRACTION: "Can the model be made to recite its training text?",
    Leak.STEALING: "Can the model be copied from its answers?",
}

TEXT_QUESTION = "Can a text be read from the vector that an encoder gave to it?"

CONTROL_WORDS = {"chance": "chance", "no_model": "a guess without the model", "null_model": "a null model"}

# The same of updates, whose model everybody has.
UPDATE_WORDS = {
    "chance": "chance",
    "no_model": "a guess without the update",
    "null_model": "the update of other records",
}
# Whether an assumption of the attacks holds, for those who read a pre-flight.
HOLDING = {
    "holds": "holds: open to attack",
    "fails": "fails: in the attacks' way",
    "unknown": "not known",
    "noted": "noted",
}


def control_words(updates: bool) -> dict[str, str]:
    """What the controls are called."""
    return UPDATE_WORDS if updates else CONTROL_WORDS


_PLURALS = {"person": "people", "class": "classes", "child": "children"}


def plural(noun: str, n: int = 2) -> str:
    """`noun`, in the plural unless `n` is one."""
    if n == 1:
        return noun
    if noun in _PLURALS:
        return _PLURALS[noun]
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def noun_of(record: AuditRecord, score: Score | None) -> str:
    """What one unit of a score is called: the record's own word for a class (`data.class_noun`), or the unit."""
    unit = "record" if score is None else score.unit
    own = record.data.get("class_noun")
    return own if unit == "class" and isinstance(own, str) and own else unit


_HOLDING = {
    Access.WEIGHTS: "holding the model's weights",
    Access.LOGITS: "who sees the model's raw outputs (logits)",
    Access.SCORES: "who sees only the scores the model answers with",
    Access.TOP_K: "who sees only the model's top scores",
    Access.LABELS: "who sees only the label the model answers with",
    Access.EMBEDDINGS: "who sees the model's embeddings",
    Access.UPDATES: "who sees the updates sent in training",
    Access.ROUNDS: "who leads the training and sends out models of its own",
    Access.TOKEN_LOGPROBS: "who sees the probabilities of the model's words",
    Access.TEXT: "who sees only the text the model writes",
}


_TOLD = {
    "values": "who sees only the numbers the model answers with",
    "labels": "who sees only how likely each label is",
}


def actor(finding: Finding, task: object = None) -> str:
    """Who attacked, with what in hand: `an adversary holding the model's weights`.

    Args:
        finding: what came of it.
        task: what the model answers, where that is no class (`data.task`).
    """
    # The order of _HOLDING is from the most to the least that can be seen of a classifier.
    held = next((words for access, words in _HOLDING.items() if access in finding.access), "")
    held = _TOLD.get(str(task), held)
    text = f"an adversary {held}".rstrip()
    if finding.queries and not {Access.WEIGHTS, Access.UPDATES} & set(finding.access):
        text += f", after {finding.queries:,} queries,"
    if finding.defenses:
        text = f"{text.rstrip(',')}, behind “{applied_text(finding.defenses)}”,"
    return text


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def share(value: float, n: int, noun: str, named: bool = True) -> str:
    """A share as people count: `17 of 20 people`, or `85 in 100` when it is no whole number of units."""
    k = count_of(value, n)
    if k is not None:
        return f"{k} of {n} {plural(noun, n)}" if named else f"{k} of {n}"
    return f"{round(value * 100)} in 100" + (f" {plural(noun)}" if named else "")


def _rank_of(name: str) -> int | None:
    """The k of a top-k accuracy called `judge_accuracy_<k>`."""
    stem, _, k = name.rpartition("_")
    if stem != "judge_accuracy":
        return 1 if name == "judge_accuracy" else None
    return int(k) if k.isdecimal() else None


def is_picture(record: AuditRecord) -> bool:
    """True when the records are images, as far as the record says."""
    return record.data.get("modality", "image") == "image"


def lead(record: AuditRecord, finding: Finding) -> Sentence:
    """What one finding means: who did what, how often it worked, and how often it works without the model."""
    score = finding.score
    if score is None or score.value is None:
        return said(f"{finding.title} gave no value.")
    who, noun = _capital(actor(finding, record.data.get("task"))), noun_of(record, score)
    k = _rank_of(score.name)
    if finding.leak is Leak.INVERSION and k is not None:
        made = "pictures" if is_picture(record) else "records"
        many = Part(share(score.value, score.n, noun), strong=True)
        if k == 1:
            sentence = said(f"{who} made {made} in which an independent judge recognises ", many, ".")
        else:
            guess = f"has the right {noun} among its first {k} guesses"
            sentence = said(f"{who} made {made} for which an independent judge {guess} for ", many, ".")
        return sentence + _without(score, noun, "is recognised for", of_records(finding))
    if finding.leak is Leak.GRADIENT and score.name in ("record_identified", "label_recall"):
        return _of_update(who, finding, score)
    if finding.leak is Leak.MEMBERSHIP and score.name.startswith("auc"):
        return said(
            "Shown one record that was trained on and one that was not, ",
            f"{actor(finding, record.data.get('task'))} picks the right one ",
            Part(f"{round(score.value * 100)} times in 100", strong=True),
            ". ",
        ) + _odds(score)
    return said(f"{who} reached ", Part(score_text(score), strong=True), f" in {_lower(score.title)}.") + _generic(
        score, of_texts(finding)
    )


def _of_update(who: str, finding: Finding, score: Score) -> Sentence:
    """What was read from updates, and what the same attack reads from the update of other records."""
    many = Part(f"{round((score.value or 0.0) * 100)} in 100", strong=True)
    if score.name == "label_recall":
        sentence = said(f"{who} named the labels of ", many, " of the records that clients trained on.")
    else:
        pool = finding.facts.get("pool")
        among = f" among {pool:,.0f}" if isinstance(pool, float) else ""
        sentence = said(f"{who} recovered records so well that ", many, f" of them can be told{among}.")
        middle = finding.facts.get("psnr_db_median")
        if isinstance(middle, float):
            sentence += said(f" Half of them come out at {middle:.0f} dB or better (20 is recognisable, 60 exact).")
    control = score.controls.get(score.strongest_control or "")
    if control is None:
        return sentence + said(f" A blind guess reaches {round((score.chance or 0.0) * 100)} in 100.")
    reached = Part(f"{round(control.value * 100)} in 100", strong=True)
    if score.strongest_control == "null_model":
        return sentence + said(" The same attack on the update of other records reaches ", reached, ".")
    return sentence + said(" Without the update, the best guess reaches ", reached, ".")


def _lower(title: str) -> str:
    return title if title[:2].isupper() else title[:1].lower() + title[1:]


def _without(score: Score, noun: str, verb: str, records: bool = False) -> Sentence:
    control = score.controls.get(score.strongest_control or "")
    if control is not None:
        n = Part(share(control.value, score.n, noun, named=False), strong=True)
        if score.strongest_control == "null_model":
            whom = "with the answers to other records" if records else "on a model that never saw them"
            return said(f" The same attack {whom} {verb} ", n, ".")
        return said(f" Without the {'answers' if records else 'model'}, the best guess {verb} ", n, ".")
    if score.chance is not None:
        return said(f" A blind guess would be right for {share(score.chance, score.n, noun, named=False)}.")
    return said(" There was nothing to compare this with.")


def _odds(score: Score) -> Sentence:
    control = score.controls.get(score.strongest_control or "")
    if control is None:
        return said("A coin is right ", Part("50 times", strong=True), ".")
    times = Part(f"{round(control.value * 100)} times", strong=True)
    if score.strongest_control == "null_model":
        return said("The same attack on a model that saw neither is right ", times, "; a coin, 50 times.")
    return said("Without the model, the best guess is right ", times, "; a coin, 50 times.")


def not_scored(findings: Sequence[Finding]) -> Sentence:
    """What can be said of a captured update whose batch nobody here knows."""
    made = [(f.facts["consistency"], f) for f in findings if isinstance(f.facts.get("consistency"), float)]
    start = "The batch behind this update is not known here, so that nothing can be scored."
    if not made:
        return said(start)
    distance, best = min(made, key=lambda pair: float(pair[0] or 0.0))
    return said(
        f"{start} What explains the update best is what {best.title} recovered: the update that it makes lies ",
        Part(number(float(distance or 0.0)), strong=True),
        " from the captured one, in direction (0 is the same, 1 unrelated).",
    )


def _generic(score: Score, texts: bool) -> Sentence:
    control = score.controls.get(score.strongest_control or "")
    if control is not None:
        whom = "given the vectors of other texts" if texts else "on a model without the secret"
        start = f" The same attack {whom} reaches "
        if score.strongest_control != "null_model":
            start = " Without the model, the best guess reaches "
        return said(start, Part(number(control.value, control.low, control.high), strong=True), ".")
    if score.chance is not None:
        return said(f" A blind guess reaches {number(score.chance)}.")
    return said(" There was nothing to compare this with.")


def certainty(score: Score | None, ruling: Ruling) -> Sentence:
    """How sure the difference to the strongest control is, in keeping with the verdict over all attacks."""
    if score is None or score.value is None:
        return ()
    if score.leakage is None:
        words = UPDATE_WORDS if score.name in ("record_identified", "label_recall") else CONTROL_WORDS
        missing = ", ".join(words.get(name, name) for name in score.missing)
        lacking = f" (missing: {missing})" if missing else ""
        return said(f"This is uncontrolled{lacking}: part of it may be had without the model.")
    gap = f"The difference is {likely(score.leakage)}"
    if ruling == "leaks":
        return said(gap, ", more than luck explains.")
    if score.leakage.low > 0:
        return said(gap, ", more than luck explains by itself; the reasons for the verdict say why it is not enough.")
    return said(gap, ", no more than luck can explain.")


def smallest(effect: float | None) -> Sentence:
    """What size of leak the audit could have missed."""
    if effect is None:
        return ()
    return said("A leakage smaller than ", Part(number(effect), strong=True), " would not have been noticed.")


def change_words(measure: str, before: Estimate, after: Estimate, gap: Estimate) -> str:
    """What a defense did to a measure, with the interval `gap` of the change."""
    start, end = (number(e.value, e.low, e.high) for e in (before, after))
    moved = f"the {measure} from {start} to {end}"
    if gap.high < 0:
        return f"lowered {moved}"
    if gap.low > 0:
        return f"raised {moved}"
    low, high = (number(v, gap.low, gap.high) for v in (gap.low, gap.high))
    return f"moved {moved}, which may be luck (the change lies between {low} and {high})"


def hero(states: Sequence[State], subject: Subject = "model") -> tuple[State, str]:
    """The one line above everything: the worst state with a sentence, of what the audit was about."""
    what = "the texts it was asked about" if subject == "texts" else "training data"
    updates = subject == "updates"
    if updates and "leak" in states:
        return "leak", "These updates give away the records behind them."
    if updates and "unclear" in states:
        return "unclear", "It is not clear yet whether these updates give away the records behind them."
    if updates and "clear" in states:
        return "clear", "Nothing that was tried got more from these updates than can be had without them."
    if "leak" in states:
        return "leak", f"This model gives away {what}."
    if "unclear" in states:
        return "unclear", f"It is not clear yet whether this model gives away {what}."
    if "clear" in states:
        return "clear", "Nothing that was tried got more from this model than can be had without it."
    return "untried", "Nothing has been tried on this model yet."
