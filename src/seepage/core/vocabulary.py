"""The words every other module uses: leaks, accesses, modalities and their order."""

from collections.abc import Iterable
from enum import StrEnum


class Leak(StrEnum):
    """What a trained model can give away about the data it was trained on."""

    INVERSION = "inversion"
    GRADIENT = "gradient"
    MEMBERSHIP = "membership"
    ATTRIBUTE = "attribute"
    EXTRACTION = "extraction"
    STEALING = "stealing"


class Modality(StrEnum):
    """What one record is."""

    IMAGE = "image"
    TABLE = "table"
    TEXT = "text"


class Task(StrEnum):
    """What a model answers to a record."""

    CLASSES = "classes"  # one of several: a row of scores that sums to one
    VALUES = "values"  # numbers, in the targets' own units
    LABELS = "labels"  # for each label, on its own, the probability that it applies


class Access(StrEnum):
    """What the adversary sees of a victim."""

    LABELS = "labels"
    TOP_K = "top_k"
    SCORES = "scores"
    LOGITS = "logits"
    EMBEDDINGS = "embeddings"
    WEIGHTS = "weights"
    TEXT = "text"
    TOKEN_LOGPROBS = "token_logprobs"
    UPDATES = "updates"
    ROUNDS = "rounds"


# Each access with what it gives besides itself: scores can be cut to labels, never the other way.
_GIVES: dict[Access, frozenset[Access]] = {
    Access.LABELS: frozenset(),
    Access.TOP_K: frozenset({Access.LABELS}),
    Access.SCORES: frozenset({Access.TOP_K, Access.LABELS}),
    Access.LOGITS: frozenset({Access.SCORES, Access.TOP_K, Access.LABELS}),
    Access.EMBEDDINGS: frozenset(),
    Access.WEIGHTS: frozenset(
        {
            Access.LOGITS,
            Access.SCORES,
            Access.TOP_K,
            Access.LABELS,
            Access.EMBEDDINGS,
            Access.TEXT,
            Access.TOKEN_LOGPROBS,
        }
    ),
    Access.TEXT: frozenset(),
    Access.TOKEN_LOGPROBS: frozenset({Access.TEXT}),
    Access.UPDATES: frozenset(),
    # Who may send out a model of its own sees what comes back for the honest one too.
    Access.ROUNDS: frozenset({Access.UPDATES}),
}


def closure(accesses: Iterable[Access]) -> frozenset[Access]:
    """Everything that holding `accesses` allows: the accesses and all that can be derived from them."""
    given = frozenset(accesses)
    return given.union(*(_GIVES[access] for access in given)) if given else given


def allows(granted: Iterable[Access], needed: Iterable[Access]) -> bool:
    """True when an adversary granted `granted` can run what needs all of `needed`."""
    return frozenset(needed) <= closure(granted)
