"""What the attacks that see labels alone share: a budget spread over candidates, and the first question about each.

One query a candidate is the gap attack (Yeom et al. 2018): right or wrong. What is left goes to more questions.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from seepage.core.errors import DataError
from seepage.core.knowledge import Knowledge, MembershipKnowledge
from seepage.core.target import Target

Array = np.ndarray
BATCH = 1024


def obstacle(knowledge: Knowledge, budget: int | None) -> str | None:
    """Why candidates cannot be asked about by labels, or None when they can."""
    if not isinstance(knowledge, MembershipKnowledge) or not len(knowledge.candidates):
        return "it needs candidates, records of which to ask whether they were trained on"
    if knowledge.candidates.y is None:
        return "it needs the candidates' classes, and they are not labelled"
    wanted = len(knowledge.candidates)
    if budget is not None and budget < wanted:
        return f"it asks one query a candidate at the least: {wanted} are needed, the budget is {budget}"
    return None


def allowed(candidates: int, each: int, budget: int | None) -> int:
    """Queries altogether: `each` a candidate, or as many as the budget has."""
    wanted = candidates * each
    return wanted if budget is None else min(wanted, budget)


def labels(target: Target, x: Float[Array, " n ..."]) -> Int[Array, " n"]:
    """The victim's labels; a query each."""
    parts = [target.labels(x[i : i + BATCH]) for i in range(0, len(x), BATCH)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def first(target: Target, knowledge: MembershipKnowledge) -> tuple[Int[Array, " n"], Bool[Array, " n"]]:
    """The label of each candidate and whether it is right: the gap attack, a query each.

    Raises:
        DataError: for no candidates, or classes that the victim lacks.
    """
    truth, classes = knowledge.candidates.labels(), target.classes or 0
    if not len(truth):
        raise DataError("membership needs at least one candidate, got none")
    if truth.min() < 0 or truth.max() >= classes:
        raise DataError(f"the victim has {classes} classes, the candidates have {truth.min()} to {truth.max()}")
    said = labels(target, knowledge.candidates.x)
    return said, said == truth
