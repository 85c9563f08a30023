"""The share of a group read off how well a model does on the group and on the others: a handful of numbers.

A model does better on what it saw more of. Few numbers need few shadow models to be learned from.
"""

from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field

from seepage.attacks.membership import shares
from seepage.attacks.membership.signals import scaled_confidence
from seepage.attacks.membership.zhang2021 import balanced
from seepage.core.attack import PropertyAttack
from seepage.core.guess import Scores
from seepage.core.knowledge import Knowledge, PropertyKnowledge
from seepage.core.records import Records
from seepage.core.target import Target
from seepage.core.vocabulary import Access

Array = np.ndarray


def confidence_by_kind(answers: Float[Array, " n c"], asked: Records, group: Bool[Array, " n"]) -> Float[Array, " d"]:
    """Mean log p_y - log sum_{i != y} p_i, and the share of right answers, of each class within and without the group.

    A class of which there are no records on one side is left out, for every model alike.
    """
    confidence = scaled_confidence(answers, asked)
    right = answers.argmax(axis=1) == asked.labels()
    found: list[float] = []
    for c in np.unique(asked.labels()):
        for side in (True, False):
            rows = (asked.labels() == c) & (group == side)
            if rows.any():
                found += [float(confidence[rows].mean()), float(right[rows].mean())]
    return np.array(found)


class PropertyConfidence(PropertyAttack):
    """Learn the share from mean confidence and accuracy by class, on the group and on the others.

    Suri and Evans compare a model's accuracy on records of either kind with that of shadow models at two shares (loss
    and threshold tests); Chaudhari et al. the mean of the scaled confidence. Here both are features, class by class,
    from which the share is learned as in `property-answers`.

    Attributes:
        queries: records asked, half of them of the group.
    """

    name: ClassVar[str] = "property-confidence"
    title: ClassVar[str] = "Share of a group, from confidence on it"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.SCORES})
    cites: ClassVar[tuple[str, ...]] = (
        "Suri, Evans 2022, Formalizing and Estimating Distribution Inference Risks, PETS",
        "Chaudhari, Abascal, Oprea, Jagielski, Tramer, Ullman 2023, SNAP: Efficient Extraction of Private Properties "
        "with Poisoning, IEEE S&P",
    )

    queries: int = Field(default=500, ge=4, description="records asked, half of them of the group")

    def cost(self, knowledge: PropertyKnowledge, budget: int | None) -> int:
        """One query a record asked; fewer records within a smaller budget."""
        most = min(self.queries, len(knowledge.asked))
        return most if budget is None else min(most, max(budget, 4))

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        return shares.obstacle(knowledge) or super().obstacle(knowledge, budget)

    def run(self, target: Target, knowledge: PropertyKnowledge, rng: np.random.Generator) -> Scores:
        """A value and a share for each model.

        Raises:
            DataError: as `shares.told`.
        """
        rows = balanced(knowledge, self.cost(knowledge, target.budget), rng)
        asked, group = knowledge.asked[rows], knowledge.asked_group[rows]

        def seen(one: Target) -> Float[Array, " d"]:
            return confidence_by_kind(one.scores(asked.x), asked, group)

        shadows = knowledge.trained()
        of_shadows = np.stack([seen(Target(one, target.access)) for one in shadows.models])
        of_models = np.stack([seen(target.model(i)) for i in range(knowledge.models)])
        return shares.told(shadows, of_shadows, of_models, shares.ridge, rng)
