"""Small attacks that keep every contract: the ground on which faults are planted, and oracles for the victims."""

from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field

from seepage.core.attack import InversionAttack, MembershipAttack
from seepage.core.guess import Reconstruction, Scores
from seepage.core.knowledge import InversionKnowledge, MembershipKnowledge
from seepage.core.target import Target
from seepage.core.vocabulary import Access


class Ascent(InversionAttack):
    """Gradient ascent on the log-likelihood of every class from grey, `steps` of Adam at `rate`."""

    name: ClassVar[str] = "plain-ascent"
    title: ClassVar[str] = "Gradient ascent"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.WEIGHTS})
    cites: ClassVar[tuple[str, ...]] = ("Simonyan, Vedaldi, Zisserman, 2014, Deep inside convolutional networks, ICLR",)

    steps: int = Field(default=40, ge=1)
    rate: float = Field(default=0.05, gt=0)

    def cost(self, knowledge: Any, budget: int | None) -> int:
        return self.steps * len(knowledge.classes)

    def run(self, target: Target, knowledge: InversionKnowledge, rng: np.random.Generator) -> Reconstruction:
        network = target.weights()
        x = torch.full((len(knowledge.classes), *knowledge.spec.shape), 0.5, dtype=torch.float64, requires_grad=True)
        wanted = torch.as_tensor(knowledge.classes)
        adam = torch.optim.Adam([x], lr=self.rate)
        for step in range(self.steps):
            adam.param_groups[0]["lr"] = self.rate * (1 - step / self.steps)
            loss = torch.nn.functional.cross_entropy(network(x), wanted, reduction="sum")
            (x.grad,) = torch.autograd.grad(loss, x)
            adam.step()
            with torch.no_grad():
                x.clamp_(0, 1)
        return Reconstruction(x.detach().numpy().astype(np.float32), knowledge.classes)


class Search(InversionAttack):
    """Keeps the best of random blends of public records, `tries` a class or what the budget allows."""

    name: ClassVar[str] = "plain-search"
    title: ClassVar[str] = "Random blends"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.SCORES})
    cites: ClassVar[tuple[str, ...]] = ("Brooks, 1958, A discussion of random methods, Operations Research 6",)
    needs_public: ClassVar[bool] = True

    tries: int = Field(default=20, ge=1)

    def cost(self, knowledge: Any, budget: int | None) -> int:
        classes = len(knowledge.classes)
        tries = self.tries if budget is None else max(min(self.tries, budget // classes), 1)
        return tries * classes

    def run(self, target: Target, knowledge: InversionKnowledge, rng: np.random.Generator) -> Reconstruction:
        assert knowledge.public is not None
        public, classes = knowledge.public.x, knowledge.classes
        tries = self.cost(knowledge, target.budget) // len(classes)
        pick = rng.integers(len(public), size=(tries * len(classes), 2))
        x = (public[pick[:, 0]] + public[pick[:, 1]]) / 2
        scores = target.scores(x)[:, classes].reshape(len(classes), tries, len(classes))
        best = scores[np.arange(len(classes)), :, np.arange(len(classes))].argmax(axis=1)
        return Reconstruction(x.reshape(len(classes), tries, *x.shape[1:])[np.arange(len(classes)), best], classes)


class Loss(MembershipAttack):
    """The score of a candidate is its log-likelihood."""

    name: ClassVar[str] = "plain-loss"
    title: ClassVar[str] = "Loss"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.SCORES})
    cites: ClassVar[tuple[str, ...]] = ("Yeom et al., 2018, Privacy risk in machine learning, CSF",)

    def cost(self, knowledge: Any, budget: int | None) -> int:
        return len(knowledge.candidates)

    def run(self, target: Target, knowledge: MembershipKnowledge, rng: np.random.Generator) -> Scores:
        records = knowledge.candidates
        own = target.scores(records.x)[np.arange(len(records)), records.labels()]
        return Scores(np.log(np.maximum(own, 1e-12)))
