"""The share of a group read off a network's weights, in a form that does not change when its neurons change places.

Two networks that compute the same may hold their hidden neurons in another order; a regressor that reads weights by
their place would have to learn every order. Either neurons are put in one order, or read as a set.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import nn

from seepage.attacks.membership import shares
from seepage.core.attack import PropertyAttack
from seepage.core.errors import ModelError
from seepage.core.guess import Scores
from seepage.core.knowledge import Knowledge, PropertyKnowledge
from seepage.core.seeds import derive
from seepage.core.target import Target, WhiteBox
from seepage.core.vocabulary import Access

Array = np.ndarray
Layers = list[Float[Array, " _ _"]]


# What lets every value pass as it is, once training is over.
_PASSING = (nn.Identity, nn.Flatten, nn.Dropout)


def fully_connected(box: WhiteBox, record: Float[Array, " 1 ..."]) -> Layers:
    """The layers of a network in the order in which a record passes them: weights (out, in) with the bias behind.

    Batch normalisation next to a layer is a part of it, for it only scales and shifts. One record is passed through,
    which is one query.

    Raises:
        ModelError: when anything else than fully connected layers has weights, or layers are not in one chain.
    """
    leaves = {name: layer for name, layer in box.layers.items() if not any(layer.children())}
    known = {
        id(t) for layer in leaves.values() if isinstance(layer, nn.Linear | nn.BatchNorm1d) for t in layer.parameters()
    }
    others = [name for name, tensor in box.parameters().items() if id(tensor) not in known]
    if others:
        raise ModelError(
            f"property-weights reads networks of fully connected layers; '{others[0]}' is of another kind: use "
            "property-answers"
        )
    ran: list[nn.Module] = []
    handles = [layer.register_forward_pre_hook(lambda one, _: ran.append(one)) for layer in leaves.values()]
    try:
        with torch.no_grad():
            box(torch.from_numpy(np.ascontiguousarray(record)))
    finally:
        for handle in handles:
            handle.remove()
    found = _folded([layer for layer in ran if not isinstance(layer, _PASSING)])
    linear = sum(isinstance(layer, nn.Linear) for layer in leaves.values())
    chained = all(before.shape[0] == after.shape[1] - 1 for before, after in pairwise(found))
    if not linear or len(found) != linear or not chained:
        raise ModelError(
            f"property-weights reads fully connected layers that follow one another, each once; of {linear} such "
            f"layers {len(found)} ran, or they do not follow: use property-answers"
        )
    return found


def _folded(ran: list[nn.Module]) -> Layers:
    """The fully connected layers among those that ran, each with the normalisation behind or before it."""
    found: Layers = []
    waiting: tuple[Array, Array] | None = None
    for place, layer in enumerate(ran):
        if isinstance(layer, nn.Linear):
            weights = layer.weight.detach().double().cpu().numpy()
            # Of a layer without one, torch's types know nothing.
            bias: torch.Tensor | None = getattr(layer, "bias", None)
            level = np.zeros(len(weights)) if bias is None else bias.detach().double().cpu().numpy()
            if waiting is not None:
                scale, shift = waiting
                level, weights, waiting = level + weights @ shift, weights * scale, None
            found.append(np.column_stack([weights, level]))
        elif waiting is not None:
            raise ModelError(
                "property-weights reads batch normalisation next to a fully connected layer; here it is not"
            )
        elif isinstance(layer, nn.BatchNorm1d):
            scale, shift = _normalising(layer)
            if place and isinstance(ran[place - 1], nn.Linear):
                found[-1] = found[-1] * scale[:, None]
                found[-1][:, -1] += shift
            else:
                waiting = scale, shift
    if waiting is not None:
        raise ModelError("property-weights reads batch normalisation next to a fully connected layer; here it is not")
    return found


def _normalising(layer: nn.BatchNorm1d) -> tuple[Array, Array]:
    """What batch normalisation multiplies by and adds, once training is over."""
    mean: torch.Tensor | None = layer.running_mean
    var: torch.Tensor | None = layer.running_var
    if mean is None or var is None:
        raise ModelError("property-weights reads batch normalisation that keeps its statistics; this one keeps none")
    scale = 1 / torch.sqrt(var.double() + layer.eps)
    if layer.affine:
        scale = scale * layer.weight.double()
    shift = -mean.double() * scale
    if layer.affine:
        shift = shift + layer.bias.double()
    return scale.detach().cpu().numpy(), shift.detach().cpu().numpy()


def in_order(layers: Layers) -> Layers:
    """The same network with the neurons of every hidden layer sorted by the sum of their weights.

    The columns of the next layer move along, so that the network computes what it did.
    """
    found = [layer.copy() for layer in layers]
    for i in range(len(found) - 1):
        order = np.argsort(found[i].sum(axis=1), kind="stable")
        found[i] = found[i][order]
        found[i + 1][:, :-1] = found[i + 1][:, :-1][:, order]
    return found


@dataclass(frozen=True)
class _Scale:
    """Mean and standard deviation of the weights of one layer, over networks and neurons."""

    mean: float
    std: float

    @classmethod
    def of(cls, networks: list[Layers], i: int) -> "_Scale":
        values = np.concatenate([layers[i].reshape(-1) for layers in networks])
        return cls(float(values.mean()), float(values.std()) or 1.0)


class DeepSets(nn.Module):
    """A share from a network read as sets of neurons, one set a layer (after Ganju et al. 2018).

    A neuron of the first layer is its weights and bias; beyond it, the features of the neurons before it, weighted by
    the weights that join the two, with the mean of these and the bias. phi_i maps a neuron to `width` features, their
    mean over a layer is the layer's, and a linear map takes all layers' to a number. No order of neurons changes it,
    and the size of phi_i does not grow with the layer before.
    """

    def __init__(self, inputs: list[int], width: int):
        super().__init__()
        sizes = [inputs[0] + 1] + [width + 2 for _ in inputs[1:]]
        self.phi = nn.ModuleList(nn.Sequential(nn.Linear(d, 32), nn.ReLU(), nn.Linear(32, width)) for d in sizes)
        self.rho = nn.Linear(width * len(inputs), 1)

    def forward(self, layers: list[torch.Tensor]) -> torch.Tensor:
        """Shares (k,) of k networks; `layers[i]` is (k, out, in + 1)."""
        before: torch.Tensor | None = None
        sums: list[torch.Tensor] = []
        for phi, layer in zip(self.phi, layers, strict=True):
            if before is None:
                neuron = layer
            else:
                weights, bias = layer[..., :-1], layer[..., -1:]
                met = weights @ before / weights.shape[-1]
                neuron = torch.cat([met, weights.mean(dim=-1, keepdim=True), bias], dim=-1)
            features: torch.Tensor = phi(neuron)
            sums.append(features.mean(dim=1))
            before = features
        return self.rho(torch.cat(sums, dim=-1))[:, 0]


class PropertyWeights(PropertyAttack):
    """Learn the share from the weights of a fully connected network, whatever the order of its neurons.

    "sorted": the neurons of every hidden layer in the order of the sum of their weights, all weights one vector, and
    ridge regression. "sets": `DeepSets`, trained on the shadow models. Either is tried on shadow models that it did
    not learn from (`attacks.membership.shares`).

    Attributes:
        representation: how a network is read.
        steps: of training, for "sets".
        width: features of a neuron, for "sets".
        rate: learning rate, for "sets".
    """

    name: ClassVar[str] = "property-weights"
    title: ClassVar[str] = "Share of a group, from the weights"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.WEIGHTS})
    cites: ClassVar[tuple[str, ...]] = (
        "Ganju, Wang, Yang, Gunter, Borisov 2018, Property Inference Attacks on Fully Connected Neural Networks using "
        "Permutation Invariant Representations, CCS",
        "Ateniese, Mancini, Spognardi, Villani, Vitali, Felici 2015, Hacking Smart Machines with Smarter Ones: How to "
        "Extract Meaningful Data from Machine Learning Classifiers, IJSN 10",
    )

    representation: Literal["sorted", "sets"] = "sorted"
    steps: int = Field(default=300, ge=1)
    width: int = Field(default=8, ge=1)
    rate: float = Field(default=3e-3, gt=0)

    def cost(self, knowledge: PropertyKnowledge, budget: int | None) -> int:
        """One record, to see in which order the layers follow one another."""
        return 1

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        return shares.obstacle(knowledge) or super().obstacle(knowledge, budget)

    def run(self, target: Target, knowledge: PropertyKnowledge, rng: np.random.Generator) -> Scores:
        """A value and a share for each model.

        Raises:
            ModelError: as `fully_connected`, or when the models are of different sizes.
            DataError: as `shares.told`.
        """
        record = knowledge.asked.x[:1]
        shadows = knowledge.trained()
        of_shadows = [fully_connected(Target(one, target.access).weights(), record) for one in shadows.models]
        of_models = [fully_connected(target.model(i).weights(), record) for i in range(knowledge.models)]
        wanted = [layer.shape for layer in of_shadows[0]]
        for layers in (*of_shadows, *of_models):
            if [layer.shape for layer in layers] != wanted:
                raise ModelError(
                    f"networks of one size were wanted, the recipe's has layers {wanted}, another "
                    f"{[layer.shape for layer in layers]}: property-weights needs the victim's own recipe"
                )
        if self.representation == "sets":
            return shares.told(shadows, of_shadows, of_models, self._learn, rng)
        flat = [
            np.stack([np.concatenate([layer.reshape(-1) for layer in in_order(one)]) for one in some])
            for some in (of_shadows, of_models)
        ]
        return shares.told(shadows, flat[0], flat[1], shares.ridge, rng)

    def _learn(self, networks: list[Layers], truth: Float[Array, " k"], rng: np.random.Generator) -> Any:
        """A `shares.Learner` of sets."""
        scales = [_Scale.of(networks, i) for i in range(len(networks[0]))]

        def tensors(some: list[Layers]) -> list[torch.Tensor]:
            return [
                torch.from_numpy((np.stack([layers[i] for layers in some]) - scale.mean) / scale.std).float()
                for i, scale in enumerate(scales)
            ]

        middle, spread = float(truth.mean()), float(truth.std()) or 1.0
        wanted = torch.from_numpy((truth - middle) / spread).float()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(int(rng.integers(2**31)), "sets"))
            net = DeepSets([layer.shape[1] - 1 for layer in networks[0]], self.width)
        optimiser = torch.optim.AdamW(net.parameters(), self.rate, weight_decay=1e-2)
        seen = tensors(networks)
        for _ in range(self.steps):
            optimiser.zero_grad()
            ((net(seen) - wanted) ** 2).mean().backward()
            optimiser.step()

        def tell(some: list[Layers]) -> Float[Array, " n"]:
            with torch.no_grad():
                return net(tensors(some)).double().numpy() * spread + middle

        return tell
