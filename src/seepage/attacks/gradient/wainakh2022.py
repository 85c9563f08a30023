"""Counts of classes by taking each record's impact off the last layer's gradient, one record at a time."""

from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field

from seepage.attacks.gradient.label_parts import Counts, Probed, posterior, read
from seepage.attacks.gradient.last import last_layer, last_layer_obstacle
from seepage.core.attack import LabelAttack
from seepage.core.guess import Posterior
from seepage.core.knowledge import GradientKnowledge, Knowledge
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update

Array = np.ndarray


class LLG(LabelAttack):
    """Every class whose statistic is negative has a record; the rest of the batch by the impact of one record.

    The impact m of a record on its class's statistic is the sum of the negative ones over the batch, and a
    little more for the other records' softmax, (1 + 1/classes). Each class named has m taken off, then the lowest
    one is named next, until the batch is full. Only ratios are used: an update in an unknown scale will do.
    """

    name: ClassVar[str] = "llg"
    title: ClassVar[str] = "Label counts by impact"
    cites: ClassVar[tuple[str, ...]] = (
        "Wainakh et al. 2022, User-Level Label Leakage from Gradients in Federated Learning, PETS",
    )
    uses: ClassVar[frozenset[str]] = frozenset({"batch", "normalisation"})

    statistic: Literal["biases", "weights"] = Field(
        default="biases",
        description="'weights': row sums of the last layer's weight gradient, as published; 'biases': its bias "
        "gradient, whose sign is sure whatever the features are (row sums where the layer has no bias)",
    )

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        return last_layer_obstacle(knowledge) or super().obstacle(knowledge, budget)

    def outlook(self, knowledge: GradientKnowledge, update: Update) -> Outlook | None:
        if why := last_layer_obstacle(knowledge):
            return Outlook(prospect="impossible", why=why, change="a fully connected last layer")
        batch = knowledge.assumptions.batch.value
        if batch == 1:
            return Outlook(prospect="expected", why="one record: its class alone has a negative statistic")
        few = batch is not None and int(batch) <= knowledge.classes
        return Outlook(
            prospect="expected" if few else "possible",
            why=f"{batch or 'an unknown number of'} records over {knowledge.classes} classes: a class with few records "
            "among many may keep a positive statistic, and is then missed",
            change="batches no larger than the number of classes",
        )

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Posterior:
        layer, probed, found = last_layer(knowledge.net), Probed(knowledge, rng), []
        for client in range(knowledge.clients):
            seen = read(knowledge, target.update(client), probed, layer)
            signs = seen.given.signs if self.statistic == "biases" else seen.given.weight.sum(axis=1)
            counts = by_impact(signs, seen.batch)
            found.append(Counts(counts / seen.batch, seen.batch, seen.for_batch, f"impact on {self.statistic}"))
        return posterior(self, knowledge, found)


def by_impact(signs: Float[Array, " c"], batch: int) -> Int[Array, " c"]:
    """Counts (classes,) summing to `batch`; even, where no statistic is negative.

    Args:
        signs: the statistic of each class, in any scale; below zero for classes that are surely there.
        batch: how many records.
    """
    classes = len(signs)
    left = signs.astype(np.float64).copy()
    impact = float(left[left < 0].sum()) / batch * (1 + 1 / classes)
    counts = np.zeros(classes, dtype=np.int64)
    if impact == 0:
        counts += batch // classes
        counts[: batch % classes] += 1
        return counts
    sure = np.argsort(left, kind="stable")[: int((left < 0).sum())]
    for k in sure[:batch]:
        counts[k] += 1
        left[k] -= impact
    while counts.sum() < batch:
        k = int(left.argmin())
        counts[k] += 1
        left[k] -= impact
    return counts
