"""The classes of a batch, each once, by the least entry of their rows of the last layer's gradient."""

from typing import ClassVar

import numpy as np
from jaxtyping import Float

from seepage.attacks.gradient.label_parts import Counts, Probed, posterior, read
from seepage.attacks.gradient.last import last_layer, last_layer_obstacle
from seepage.core.attack import LabelAttack
from seepage.core.guess import Posterior
from seepage.core.knowledge import GradientKnowledge, Knowledge
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update

Array = np.ndarray


class GradInversionLabels(LabelAttack):
    """The b classes whose rows of the weight gradient have the least minimum over the features.

    Assumes that no class occurs twice in the batch and that features are not negative: then only a record's own
    class can make an entry of its row negative, by -(1 - softmax) z. A batch larger than the number of classes
    names every class alike.
    """

    name: ClassVar[str] = "grad-inversion-labels"
    title: ClassVar[str] = "Labels by least entries"
    cites: ClassVar[tuple[str, ...]] = (
        "Yin, Mallya, Vahdat, Alvarez, Kautz, Molchanov 2021, See through Gradients: Image Batch Recovery via "
        "GradInversion, CVPR",
    )
    uses: ClassVar[frozenset[str]] = frozenset({"batch"})

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        return last_layer_obstacle(knowledge) or super().obstacle(knowledge, budget)

    def outlook(self, knowledge: GradientKnowledge, update: Update) -> Outlook | None:
        layer = None if knowledge.net is None else last_layer(knowledge.net)
        if layer is None:
            why = last_layer_obstacle(knowledge) or "there is no last layer to read"
            return Outlook(prospect="impossible", why=why, change="a fully connected last layer")
        batch = knowledge.assumptions.batch.value
        if not layer.rectified:
            return Outlook(
                prospect="unlikely",
                why="features of the last layer may be negative: any class can then have negative entries",
                change="a ReLU or sigmoid before the last layer",
            )
        if batch is not None and int(batch) > knowledge.classes:
            return Outlook(
                prospect="unlikely",
                why=f"{batch} records over {knowledge.classes} classes: some class occurs twice, and the rule names "
                "each class once",
                change="batches with no class twice",
            )
        return Outlook(
            prospect="possible",
            why="right where no class occurs twice in the batch",
            change="batches with no class twice (then expected)",
        )

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Posterior:
        layer, probed, found = last_layer(knowledge.net), Probed(knowledge, rng), []
        for client in range(knowledge.clients):
            seen = read(knowledge, target.update(client), probed, layer)
            found.append(Counts(by_least(seen.given.weight, seen.batch), seen.batch, seen.for_batch, "least entries"))
        return posterior(self, knowledge, found)


def by_least(weight: Float[Array, " c d"], batch: int) -> Float[Array, " c"]:
    """Even shares over the `batch` classes of the least minimum; over all of them where nothing tells them apart.

    Args:
        weight: the gradient of the last layer's weights.
        batch: how many records.
    """
    least = weight.min(axis=1)
    there = np.zeros(len(least))
    if not least.any():
        return np.full(len(least), 1 / len(least))
    there[np.argsort(least, kind="stable")[:batch]] = 1
    return there / there.sum()
