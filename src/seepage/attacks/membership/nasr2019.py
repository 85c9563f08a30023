"""Membership with the weights: what was trained on pulls less at them."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from seepage.core.attack import MembershipAttack
from seepage.core.errors import DataError
from seepage.core.guess import Scores
from seepage.core.knowledge import Knowledge, MembershipKnowledge
from seepage.core.target import Target
from seepage.core.vocabulary import Access

Array = np.ndarray
Norm = Literal["euclidean", "sum", "max"]


class GradientNorm(MembershipAttack):
    """Score each candidate by minus the norm of its loss's gradient, |d loss(x, y) / d theta|.

    Training has brought the sum of the members' gradients near zero, and in a model that fits them each one of them,
    too. In a softmax regression the gradient is (p - e_y) x^T, its norm |p - e_y| |x|: with a bias |x| stands for
    sqrt(|x|^2 + 1). The network is in evaluation mode: statistics of batch normalisation are those of training.

    Gradients of many records come from one pass where every layer with weights is fully connected, a convolution
    or a batch normalisation (`PerRecord`); else, record by record.
    """

    name: ClassVar[str] = "gradient-norm"
    title: ClassVar[str] = "Norm of the gradient"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.WEIGHTS})
    cites: ClassVar[tuple[str, ...]] = (
        "Nasr, Shokri, Houmansadr 2019, Comprehensive Privacy Analysis of Deep Learning: Passive and Active White-box "
        "Inference Attacks against Centralized and Federated Learning, IEEE S&P",
        "Rezaei, Liu 2021, On the Difficulty of Membership Inference Attacks, CVPR",
    )

    of: Literal["weights", "last", "record"] = Field(
        default="weights", description="the gradient at all weights, at the last layer's alone, or at the record"
    )
    norm: Norm = Field(default="euclidean", description="which norm: l2, l1 (the sum) or l-infinity (the greatest)")
    chunk: int = Field(default=2**24, ge=1, description="numbers held at a time: memory, not results")

    def cost(self, knowledge: MembershipKnowledge, budget: int | None) -> int:
        """One pass a candidate."""
        return len(knowledge.candidates)

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if not isinstance(knowledge, MembershipKnowledge) or not len(knowledge.candidates):
            return "it needs candidates, records of which to ask whether they were trained on"
        if knowledge.candidates.y is None:
            return "it needs the candidates' classes, and they are not labelled"
        wanted = len(knowledge.candidates)
        if budget is not None and budget < wanted:
            return f"it passes each candidate through the network once: {wanted} are needed, the budget is {budget}"
        return super().obstacle(knowledge, budget)

    def run(self, target: Target, knowledge: MembershipKnowledge, rng: np.random.Generator) -> Scores:
        """Minus the norm of each candidate's gradient; draws nothing from `rng`.

        Raises:
            DataError: for classes that the victim lacks, or a network without weights.
        """
        from seepage.attacks.membership.gradients import at_records, at_weights

        del rng
        candidates = knowledge.candidates
        labels, classes = candidates.labels(), target.classes or 0
        if labels.min() < 0 or labels.max() >= classes:
            raise DataError(f"the victim has {classes} classes, the candidates have {labels.min()} to {labels.max()}")
        network = target.weights()
        if self.of == "record":
            return Scores(-at_records(network, candidates.x, labels, self.norm, self.chunk))
        last = self.of == "last"
        found, together = at_weights(network, candidates.x, labels, last, self.norm, self.chunk)
        return Scores(-found, facts={"gradients": "many at once" if together else "record by record"})
