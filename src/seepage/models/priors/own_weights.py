"""A network called with weights of its own for every input."""

from collections.abc import Mapping

import torch
from torch import nn
from torch.func import functional_call, vmap

Weights = Mapping[str, torch.Tensor]


def weights_of(net: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a network, by name."""
    return {name: weight.detach() for name, weight in net.named_parameters()}


def each_by_its_own(net: nn.Module, weights: Weights, z: torch.Tensor) -> torch.Tensor:
    """What a network gives for inputs (n, ...), each by weights of its own: (n, ...) by name.

    All at once where the network can be mapped; one after another where it cannot, as those that look at values.
    """

    def one(own: dict[str, torch.Tensor], row: torch.Tensor) -> torch.Tensor:
        return functional_call(net, own, (row[None],))[0]

    try:
        return vmap(one)(dict(weights), z)
    except RuntimeError as error:
        if "vmap" not in str(error):
            raise
    return torch.stack([one({name: w[k] for name, w in weights.items()}, row) for k, row in enumerate(z)])
