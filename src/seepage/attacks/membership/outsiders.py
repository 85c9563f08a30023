"""Public records with classes, which nobody trained on: what the victim answers to those it has not seen.

They cost queries like the candidates do. Behind a small budget fewer of them are asked, drawn at random.
"""

import numpy as np
from jaxtyping import Float

from seepage.core.errors import DataError
from seepage.core.knowledge import Knowledge, MembershipKnowledge
from seepage.core.records import Records
from seepage.core.target import Target

Array = np.ndarray

# Fewer say nothing of the tail that members are looked for in.
LEAST = 20


def obstacle(knowledge: Knowledge, budget: int | None, most: int) -> str | None:
    """Why public non-members cannot be held beside the candidates, or None when they can."""
    if not isinstance(knowledge, MembershipKnowledge) or not len(knowledge.candidates):
        return "it needs candidates, records of which to ask whether they were trained on"
    if knowledge.candidates.y is None:
        return "it needs the candidates' classes, and they are not labelled"
    public = knowledge.public
    if public is None or public.y is None:
        return f"it needs public records with classes, {LEAST} at the least, that were not trained on; none were given"
    if public.class_names != knowledge.candidates.class_names:
        return "it needs public records of the same classes as the candidates', and those given have other classes"
    if len(public) < LEAST:
        return f"it needs {LEAST} public records with classes at the least, and {len(public)} were given"
    wanted = len(knowledge.candidates) + LEAST
    if budget is not None and budget < wanted:
        return (
            f"it asks one query a candidate and one for each of {LEAST} public records or more: {wanted} are needed, "
            f"the budget is {budget}"
        )
    return None


def cost(knowledge: MembershipKnowledge, budget: int | None, most: int) -> int:
    """One query a candidate, and one for each public record, `most` at the most; no more of those than are left."""
    candidates = len(knowledge.candidates)
    public = 0 if knowledge.public is None else min(len(knowledge.public), most)
    if budget is not None:
        public = min(public, max(budget - candidates, 0))
    return candidates + public


def drawn(knowledge: MembershipKnowledge, most: int, remaining: int | None, rng: np.random.Generator) -> Records:
    """The public records to ask, in their order: all, or as many at random as `most` and the queries allow.

    Raises:
        DataError: without public records, where `obstacle` was not heeded.
    """
    public = knowledge.public
    if public is None:
        raise DataError("public records with classes are needed, and none were given")
    count = cost(knowledge, remaining, most) - len(knowledge.candidates)
    if count >= len(public):
        return public
    return public[np.sort(rng.choice(len(public), size=count, replace=False))]


def answers(target: Target, records: Records, batch: int) -> Float[Array, " n c"]:
    """The victim's scores, `batch` records at a time; a query each.

    Raises:
        DataError: for no records.
    """
    if not len(records):
        raise DataError("membership needs at least one record to ask about, got none")
    return np.concatenate([target.scores(records.x[i : i + batch]) for i in range(0, len(records), batch)])
