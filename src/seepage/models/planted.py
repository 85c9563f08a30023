"""Models that a malicious server sends out: an honest one with something planted in it."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from seepage.models.federated import ClientNet

Array = np.ndarray


class Imprint(nn.Module):
    """A layer put before a network: bins of one measured value of the record (Fowl et al. 2022, section 3).

    All rows of its weights are the same measurement w, its biases minus rising thresholds q_1 < ... < q_k.
    What the bins say is added to the record, the same small amount a bin, so that the network behind it works on
    as before and every record has one and the same gradient at all bins that it passes.

    Args:
        measure: (d,) the measurement w of a prepared record.
        thresholds: (k,) rising.
        gain: how much a bin adds to each value of the record.
    """

    def __init__(self, measure: Float[Array, " d"], thresholds: Float[Array, " k"], gain: float = 1e-3):
        super().__init__()
        # Its weights are set, not drawn.
        self.bins = nn.utils.skip_init(nn.Linear, len(measure), len(thresholds))
        rows = np.tile(measure, (len(thresholds), 1)).astype(np.float32)
        self.bins.weight = nn.Parameter(torch.from_numpy(rows))
        self.bins.bias = nn.Parameter(torch.from_numpy(-thresholds.astype(np.float32)))
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        passed = torch.relu(self.bins(x.flatten(1))).sum(dim=1)
        return x + self.gain * passed.reshape(-1, *[1] * (x.dim() - 1))


WEIGHT, BIAS = "0.bins.weight", "0.bins.bias"


def with_imprint(
    net: ClientNet, measure: Float[Array, " d"], thresholds: Float[Array, " k"], gain: float = 1e-3
) -> ClientNet:
    """The model with an imprint before it; the imprint's parameters are `WEIGHT` and `BIAS`."""
    return ClientNet(nn.Sequential(Imprint(measure, thresholds, gain), net.module), net.spec, net.classes)


def with_linear(net: ClientNet, name: str, weight: Float[Array, " m d"], bias: Float[Array, " m"]) -> ClientNet:
    """The model with other values in one fully connected layer.

    Args:
        net: the model.
        name: of the layer.
        weight: its new weights, of the shape of the old.
        bias: its new biases.
    """
    module = net.module
    layer = module.get_submodule(name)
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"a fully connected layer was wanted, '{name}' is a {type(layer).__name__}")
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight.astype(np.float32)))
        layer.bias.copy_(torch.from_numpy(bias.astype(np.float32)))
    return ClientNet(module, net.spec, net.classes)
