"""The share of a group read off a model's answers to a fixed set of records.

Shadow models trained at known shares are asked the same records as the victim; how their answers move with the share
is learned from them. What such a model says depends on what it was trained on, whether the group is a column it sees
or not.
"""

from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field

from seepage.attacks.membership import shares
from seepage.attacks.membership.signals import logarithm
from seepage.core.attack import PropertyAttack
from seepage.core.guess import Scores
from seepage.core.knowledge import Knowledge, PropertyKnowledge
from seepage.core.target import Target
from seepage.core.vocabulary import Access

Array = np.ndarray


def balanced(knowledge: PropertyKnowledge, most: int, rng: np.random.Generator) -> Int[Array, " m"]:
    """Rows of the records held back for asking, at most so many, half of them of the group as far as there are."""
    rows = [rng.permutation(np.nonzero(knowledge.asked_group == kind)[0]) for kind in (True, False)]
    fewer = min(len(rows[0]), len(rows[1]), most // 2)
    first, second = rows if len(rows[0]) <= len(rows[1]) else rows[::-1]
    kept = first[: max(fewer, most - len(second))]
    return np.sort(np.concatenate([kept, second[: most - len(kept)]]))


class PropertyAnswers(PropertyAttack):
    """Learn the share from the answers to some public records, taken together.

    The features of a model are log p of every class and record, less the mean over classes (so that they do not
    depend on the scale of the answers); a share is learned from them by ridge regression, which is tried on shadow
    models that it did not learn from (`attacks.membership.shares`). Zhang et al. train a classifier of two shares on
    the answers; the regressor gives a share, and an interval.

    Attributes:
        queries: records asked, half of them of the group.
    """

    name: ClassVar[str] = "property-answers"
    title: ClassVar[str] = "Share of a group, from answers"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.SCORES})
    cites: ClassVar[tuple[str, ...]] = (
        "Zhang, Tople, Ohrimenko 2021, Leakage of Dataset Properties in Multi-Party Machine Learning, USENIX Security",
        "Ateniese, Mancini, Spognardi, Villani, Vitali, Felici 2015, Hacking Smart Machines with Smarter Ones: How to "
        "Extract Meaningful Data from Machine Learning Classifiers, IJSN 10",
    )

    queries: int = Field(default=200, ge=2, description="records asked, half of them of the group")

    def cost(self, knowledge: PropertyKnowledge, budget: int | None) -> int:
        """One query a record asked; fewer records within a smaller budget."""
        most = min(self.queries, len(knowledge.asked))
        return most if budget is None else min(most, max(budget, 2))

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        return shares.obstacle(knowledge) or super().obstacle(knowledge, budget)

    def run(self, target: Target, knowledge: PropertyKnowledge, rng: np.random.Generator) -> Scores:
        """A value and a share for each model.

        Raises:
            DataError: as `shares.told`.
        """
        rows = balanced(knowledge, self.cost(knowledge, target.budget), rng)
        asked = knowledge.asked.x[rows]

        def seen(one: Target) -> Float[Array, " d"]:
            log = logarithm(one.scores(asked))
            return (log - log.mean(axis=1, keepdims=True)).reshape(-1)

        shadows = knowledge.trained()
        of_shadows = np.stack([seen(Target(one, target.access)) for one in shadows.models])
        of_models = np.stack([seen(target.model(i)) for i in range(knowledge.models)])
        return shares.told(shadows, of_shadows, of_models, shares.ridge, rng)
