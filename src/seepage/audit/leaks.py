"""The rows of the matrix: for each leak that lives here, how its case is built and its guesses scored."""

from collections.abc import Callable
from dataclasses import dataclass

from seepage.cases import inversion as inversion_case
from seepage.cases import membership as membership_case
from seepage.cases.world import World
from seepage.core.case import Case
from seepage.core.knowledge import Knowledge
from seepage.core.scorer import Scorer
from seepage.core.vocabulary import Leak
from seepage.scoring import inversion as inversion_score
from seepage.scoring import membership as membership_score


@dataclass(frozen=True)
class Row:
    """One leak: why it cannot be audited in a world, what its adversary knows, its case, its scorer.

    Knowledge and case are those of a form of the leak, as the attack names it (`Attack.form`).
    """

    obstacle: Callable[[World], str | None]
    knowledge: Callable[[World, str], Knowledge]
    build: Callable[[World, str], Case]
    score: Scorer


LEAKS: dict[Leak, Row] = {
    Leak.INVERSION: Row(inversion_case.obstacle, inversion_case.knowledge, inversion_case.build, inversion_score.score),
    Leak.MEMBERSHIP: Row(
        membership_case.obstacle, membership_case.knowledge, membership_case.build, membership_score.score
    ),
}
