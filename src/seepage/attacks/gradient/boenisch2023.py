"""When the curious abandon honesty: weights of the first layer that fire for one record in many."""

from typing import ClassVar

import numpy as np
from jaxtyping import Float
from pydantic import Field

from seepage.attacks.gradient.entry import Entry, entry
from seepage.attacks.gradient.phong2017 import divided, first_layer_obstacle
from seepage.core.attack import GradientAttack
from seepage.core.guess import Reconstruction
from seepage.core.knowledge import GradientKnowledge, Knowledge
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Modality
from seepage.models.planted import with_linear

Array = np.ndarray


class TrapWeights(GradientAttack):
    """A malicious server sets the first layer so that each neuron fires for few records, and divides.

    Each row has as many negative weights as positive ones; the positive ones are the negative ones mirrored and
    shrunk by `scale`, so that over records of values in [0, 1] the sum is rarely positive. A neuron that fires for one
    record alone gives it back by division (`linear-layer`). Where the layer sees the records centred or
    normalised, the biases take that back: the defence by normalisation that the published attack meets is none.
    """

    name: ClassVar[str] = "trap-weights"
    title: ClassVar[str] = "Trap weights (malicious server)"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.ROUNDS})
    cites: ClassVar[tuple[str, ...]] = (
        "Boenisch, Dziedzic, Schuster, Shahin Shamsabadi, Shumailov, Papernot 2023, When the Curious Abandon Honesty: "
        "Federated Learning Is Not Private, EuroS&P",
    )
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.IMAGE, Modality.TABLE})
    uses: ClassVar[frozenset[str]] = frozenset({"batch", "normalisation"})

    sigma: float = Field(default=0.5, gt=0, description="standard deviation of the weights")
    scale: float = Field(default=0.95, gt=0, lt=1, description="positive weights, as a share of the negative ones")

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if isinstance(knowledge, GradientKnowledge) and (why := first_layer_obstacle(knowledge)):
            return why
        return super().obstacle(knowledge, budget)

    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Reconstruction:
        first = entry(knowledge.net)
        if first is None or first.bias is None:
            raise ValueError("a first layer with a bias is needed; `obstacle` says so")
        weight, bias = self._traps(first, knowledge, rng)
        net = with_linear(knowledge.net, first.name, weight, bias)
        batch = int(knowledge.assumptions.batch.value or first.width)
        rows: list[Array] = []
        owner: list[int] = []
        for client, update in enumerate(target.round(net)):
            sent = update.tensor(first.weight, (first.width, knowledge.spec.size))
            found = divided(sent, update.tensor(first.bias, (first.width,)), batch)
            rows.extend(found)
            owner.extend([client] * len(found))
        inputs = np.stack(rows) if rows else np.zeros((0, knowledge.spec.size))
        x = knowledge.spec.bounds.clip(first.records(inputs, knowledge.spec.shape))
        return Reconstruction(x, client=np.array(owner, dtype=np.int64), facts=self.assumed(knowledge))

    def _traps(
        self, first: Entry, knowledge: GradientKnowledge, rng: np.random.Generator
    ) -> tuple[Float[Array, " m d"], Float[Array, " m"]]:
        """Weights and biases of the layer, for records brought to [0, 1] from their own range."""
        d = knowledge.spec.size
        half = d // 2
        drawn = np.abs(rng.normal(scale=self.sigma, size=(first.width, half)))
        traps = np.zeros((first.width, d))
        for row, values in enumerate(drawn):
            places = rng.permutation(d)
            traps[row, places[:half]] = -values
            traps[row, places[half : 2 * half]] = self.scale * rng.permutation(values)
        bounds = knowledge.spec.bounds
        low = np.broadcast_to(bounds.low, knowledge.spec.shape).reshape(-1)
        wide = np.broadcast_to(bounds.width, knowledge.spec.shape).reshape(-1)
        # The layer sees scale * record + offset, and record = low + wide * unit.
        weight = traps / (first.scale * wide)
        bias = -weight @ (first.offset + first.scale * low)
        return weight, bias
