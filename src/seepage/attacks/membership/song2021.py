"""Membership by one threshold a class: a record is held against non-members of its own class."""

from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field

from seepage.attacks.membership import outsiders
from seepage.attacks.membership.yeom2018 import Statistic, membership_statistic
from seepage.core.attack import MembershipAttack
from seepage.core.guess import Scores
from seepage.core.knowledge import Knowledge, MembershipKnowledge
from seepage.core.target import Target
from seepage.core.vocabulary import Access

Array = np.ndarray


class ClassThreshold(MembershipAttack):
    """Place each candidate's statistic among those of public non-members of the same class.

    Song and Mittal compare a statistic with a threshold of the record's class, taken from a shadow model's members
    and non-members. Without a shadow model there are non-members alone, who say how often a threshold accuses
    wrongly: the value is F_y(s), the share of non-members of class y whose statistic is not above s, and whoever lies
    above the 1 - `false_alarms` quantile of his class is accused. With n_y public records of the class and F those of
    all classes together,

        F_y(s) = (#{public of class y with a statistic <= s} + `shrinkage` F(s)) / (n_y + `shrinkage`),

    so that a class with few is read like all. Candidates placed alike are ranked by the statistic itself.
    """

    name: ClassVar[str] = "class-threshold"
    title: ClassVar[str] = "One threshold a class"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.SCORES})
    cites: ClassVar[tuple[str, ...]] = (
        "Song, Mittal 2021, Systematic Evaluation of Privacy Risks of Machine Learning Models, USENIX Security, "
        "section 3.2 (class-dependent thresholds and the modified entropy)",
    )
    needs_public: ClassVar[bool] = True

    statistic: Statistic = Field(default="modified-entropy", description="what is read off an answer")
    false_alarms: float = Field(default=0.05, gt=0, lt=1, description="share of non-members that may be accused")
    shrinkage: float = Field(default=20.0, gt=0, description="how many records of its class all classes weigh as much")
    outsiders: int = Field(default=2000, ge=1, description="public non-members asked at the most")
    batch: int = Field(default=256, ge=1, description="records asked at a time")

    def cost(self, knowledge: MembershipKnowledge, budget: int | None) -> int:
        return outsiders.cost(knowledge, budget, self.outsiders)

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        return outsiders.obstacle(knowledge, budget, self.outsiders) or super().obstacle(knowledge, budget)

    def run(self, target: Target, knowledge: MembershipKnowledge, rng: np.random.Generator) -> Scores:
        """One score a candidate in [0, 1]; from `rng` which public records are asked when not all can be.

        Raises:
            DataError: without labelled public records, or with classes that the victim lacks.
        """
        others = outsiders.drawn(knowledge, self.outsiders, target.remaining, rng)
        candidates = knowledge.candidates
        mine = membership_statistic(outsiders.answers(target, candidates, self.batch), candidates.y, self.statistic)
        theirs = membership_statistic(outsiders.answers(target, others, self.batch), others.labels(), self.statistic)
        places = placed(mine, candidates.labels(), theirs, others.labels(), self.shrinkage)
        counts = np.bincount(others.labels(), minlength=int(candidates.labels().max()) + 1)
        fewest = counts[candidates.labels()].min()
        return Scores(
            ranked(places, mine),
            trace={"threshold": np.array([1.0 - self.false_alarms])},
            facts={"outsiders": float(len(others)), "outsiders_of_the_rarest_class": float(fewest)},
        )


def placed(
    mine: Float[Array, " n"],
    classes: Int[Array, " n"],
    theirs: Float[Array, " m"],
    their_classes: Int[Array, " m"],
    shrinkage: float,
) -> Float[Array, " n"]:
    """F_y of each of `mine`: its place among `theirs` of its class, shrunk towards its place among all of them."""
    overall = np.searchsorted(np.sort(theirs), mine, side="right") / len(theirs)
    places = np.empty(len(mine))
    for c in np.unique(classes):
        here = classes == c
        same = np.sort(theirs[their_classes == c])
        below = np.searchsorted(same, mine[here], side="right")
        places[here] = (below + shrinkage * overall[here]) / (len(same) + shrinkage)
    return places


def ranked(places: Float[Array, " n"], mine: Float[Array, " n"]) -> Float[Array, " n"]:
    """Places in [0, 1], lowered by less than lies between two of them where the statistic is lower."""
    levels = np.unique(places)
    between = float(np.diff(levels).min()) if len(levels) > 1 else 1e-6
    order = np.unique(np.column_stack([places, mine]), axis=0, return_inverse=True)[1].reshape(-1)
    lowered = places - (1.0 - (order + 1.0) / (order.max() + 1.0)) * between / 2
    return np.maximum(lowered, -between)
