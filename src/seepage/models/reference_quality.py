"""Are the adversary's reference models like the victim? Held against each other on records neither was trained on."""

import numpy as np
from jaxtyping import Bool, Float

from seepage.core.record import Check
from seepage.core.records import Records
from seepage.core.vocabulary import Task
from seepage.models.quality import CALLED, quality

Array = np.ndarray

REFERENCES_FIT = "reference models like the victim"
# How far the references may lie below the victim (or above) before it is said.
TOLERANCE = 0.05
_SIGMAS = 2.0


def qualities(
    answers: Float[Array, " k n c"], inside: Bool[Array, " k n"], records: Records
) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
    """How well each of k reference models fits the candidates it was trained on, and those it was not (`quality`)."""
    trained = [quality(answer[row], records[row]) for answer, row in zip(answers, inside, strict=True)]
    held = [quality(answer[~row], records[~row]) for answer, row in zip(answers, inside, strict=True)]
    return np.asarray(trained), np.asarray(held)


def references_check(
    victim: tuple[float, float],
    trained: Float[Array, " k"],
    held: Float[Array, " k"],
    task: Task = Task.CLASSES,
    records: int | None = None,
    tolerance: float = TOLERANCE,
) -> Check:
    """Whether reference models fit what they were trained on, and other records, as well as the victim does.

    References that generalise worse, or that fit their own members less, show the attack another kind of model: its
    likelihoods are then of the wrong one, and it finds less than it could. Both are compared, since a victim that was
    trained longer differs in how well it fits its members, and one that was trained better in the others.

    Args:
        victim: its `quality` on its members and on non-members.
        trained: (k,) of each reference on candidates it was trained on.
        held: (k,) on candidates it was not.
        task: what they answer.
        records: over how many records the victim's was measured, for the error of sampling; None for none.
        tolerance: how far they may lie apart beyond that.
    """
    called = CALLED[task]
    said: list[str] = []
    short = False
    for which, own, theirs in (("members", victim[0], trained), ("other records", victim[1], held)):
        mean = float(np.mean(theirs))
        slack = tolerance + _SIGMAS * _standard_error(own, theirs, task, records)
        lower, higher = mean < own - slack, mean > own + slack
        short |= lower or higher
        said.append(f"on {which} {mean:.3f}, the victim {own:.3f}" + (" (less)" if lower else " (more)" * higher))
    spread = f"{float(np.min(held)):.3f} to {float(np.max(held)):.3f}"
    message = f"{called} of the {len(held)} reference models: {'; '.join(said)}; single ones on other records {spread}"
    if short:
        message += (
            ". They are not trained as the victim was: attacks with references are weaker than a better informed "
            "adversary's. Give the recipe the victim's own architecture, epochs, learning rate, regularisation and "
            "augmentation ([recipe] fit and options), and members as many as it was trained on: a reference has half "
            "of the candidates"
        )
    return Check(name=REFERENCES_FIT, passed=not short, message=message)


def _standard_error(own: float, theirs: Float[Array, " k"], task: Task, records: int | None) -> float:
    """Of the difference: the references' mean, and the victim's own accuracy over so many records."""
    between = float(np.var(theirs, ddof=1)) / len(theirs) if len(theirs) > 1 else 0.0
    sampled = 0.0 if records is None or task is Task.VALUES else max(own * (1 - own), 0.0) / records
    return float(np.sqrt(between + sampled))
