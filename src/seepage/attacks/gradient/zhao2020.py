"""The class of a single record, by the sign of the last layer's gradient."""

from typing import ClassVar

import numpy as np
from jaxtyping import Float

from seepage.attacks.gradient.label_parts import Counts, posterior
from seepage.attacks.gradient.last import LastGradient, last_gradient, last_layer, last_layer_obstacle
from seepage.core.attack import LabelAttack
from seepage.core.guess import Posterior
from seepage.core.knowledge import GradientKnowledge, Knowledge
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update

Array = np.ndarray


class IDLG(LabelAttack):
    """One record: the only class whose residual, softmax less one, is negative.

    With several records every class of a negative mean residual is surely in the batch; each is named with an even
    share, since the sign says nothing of how often. A class the model is not sure of may be there and not show.
    """

    name: ClassVar[str] = "idlg"
    title: ClassVar[str] = "Label by sign"
    cites: ClassVar[tuple[str, ...]] = (
        "Zhao, Mopuri, Bilen 2020, iDLG: Improved Deep Leakage from Gradients, arXiv 2001.02610",
    )
    uses: ClassVar[frozenset[str]] = frozenset({"batch"})

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        return last_layer_obstacle(knowledge) or super().obstacle(knowledge, budget)

    def outlook(self, knowledge: GradientKnowledge, update: Update) -> Outlook | None:
        layer = None if knowledge.net is None else last_layer(knowledge.net)
        if layer is None:
            why = last_layer_obstacle(knowledge) or "there is no last layer to read"
            return Outlook(prospect="impossible", why=why, change="a fully connected last layer")
        if layer.bias is None and not layer.rectified:
            return Outlook(
                prospect="possible",
                why="the last layer has no bias, and its features may be negative: the sign of a row is not sure",
                change="a bias in the last layer, or a ReLU or sigmoid before it",
            )
        batch = knowledge.assumptions.batch.value
        if batch == 1:
            return Outlook(prospect="expected", why="one record: its class alone has a negative gradient")
        return Outlook(
            prospect="possible",
            why=f"{batch or 'an unknown number of'} records: signs tell which classes are there, not how often, and "
            "miss those that the model gives more probability than they have records",
            change="one record an update",
        )

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Posterior:
        layer = last_layer(knowledge.net)
        told = knowledge.assumptions.batch.value
        found: list[Counts] = []
        for client in range(knowledge.clients):
            shares = by_sign(last_gradient(knowledge, target.update(client), layer), one=told == 1)
            batch = int(told) if told else int((shares > 0).sum())
            found.append(Counts(shares, batch, () if told else ("batch",), "sign"))
        return posterior(self, knowledge, found)


def by_sign(given: LastGradient, one: bool) -> Float[Array, " c"]:
    """Even shares over the classes of negative sign (the lowest alone, for `one` record); even over all if none is."""
    signs = given.signs
    there = signs < 0
    if not there.any():
        return np.full(len(signs), 1 / len(signs))
    if one:
        there = np.arange(len(signs)) == signs.argmin()
    return there / there.sum()
