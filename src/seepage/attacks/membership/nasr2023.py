"""Gradient canaries told apart by what the noised updates moved their weights by."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from seepage.core.attack import MembershipAttack
from seepage.core.guess import Scores
from seepage.core.knowledge import MembershipKnowledge
from seepage.core.target import Target
from seepage.core.vocabulary import Access

LAYER = "gradient_canaries"


class GradientCanaryWeights(MembershipAttack):
    """Score each gradient canary by the sum over all updates of their inner products with its direction.

    A canary's direction is a weight of its own (`seepage.models.gradient_canaries`). With plain steps at one learning
    rate, what the weight has become is that sum but for a factor, so that who has the weights at the end has what who
    saw every noised update would add up. For one step, and where every record is part of every step, the sum is the
    likelihood-ratio test: no adversary tells the canaries apart better. Where records are sampled it is not, and the
    bound is looser.

    Attributes:
        batch: canaries read at a time.
    """

    name: ClassVar[str] = "gradient-canaries"
    title: ClassVar[str] = "Gradient canaries"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.WEIGHTS})
    form: ClassVar[str] = "gradients"
    also: ClassVar[frozenset[str]] = frozenset()
    cites: ClassVar[tuple[str, ...]] = (
        "Nasr, Hayes, Steinke, Balle, Tramer, Jagielski, Carlini, Terzis 2023, Tight Auditing of Differentially "
        "Private Machine Learning, USENIX Security",
        "Steinke, Nasr, Jagielski 2023, Privacy Auditing with One (1) Training Run, NeurIPS",
    )

    batch: int = Field(default=256, ge=1)

    def cost(self, knowledge: MembershipKnowledge, budget: int | None) -> int:
        """One pass through the canaries' layer a canary."""
        del budget
        return len(knowledge.candidates)

    def run(self, target: Target, knowledge: MembershipKnowledge, rng: np.random.Generator) -> Scores:
        """One score a canary; draws nothing from `rng`. A network without such a layer tells nothing: all score 0.

        Raises:
            BudgetExceeded: when the budget is smaller than the number of canaries.
        """
        del rng
        import torch

        count = len(knowledge.candidates)
        layers = target.weights().layers
        layer = next((found for name, found in layers.items() if name.split(".")[-1] == LAYER), None)
        if layer is None:
            return Scores(np.zeros(count), notes=("The network has no layer of gradient canaries.",))
        one_each = torch.eye(count, dtype=next(layer.parameters()).dtype)
        with torch.no_grad():
            moved = torch.cat([layer(one_each[i : i + self.batch]) for i in range(0, count, self.batch)])
        return Scores(moved[:, 0].double().numpy())
