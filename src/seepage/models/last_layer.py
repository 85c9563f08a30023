"""The last layer of a client's network: the one that makes the logits."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

if TYPE_CHECKING:
    from seepage.models.federated import ClientNet

Array = np.ndarray


@dataclass(frozen=True)
class LastLayer:
    """The fully connected layer whose outputs are the logits (up to what the softmax does not see).

    Attributes:
        name: of the layer.
        weight, bias: parameter names; no bias is None.
        w: (classes, d) its weights.
        c: (classes,) its biases; zeros where it has none.
        rectified: whether no feature was below zero when it was probed (after a ReLU or a sigmoid): a class's
            row of the gradient then has the sign that its biases' entry would have.
    """

    name: str
    weight: str
    bias: str | None
    w: Float[Array, " c d"]
    c: Float[Array, " c"]
    rectified: bool


def last_layer(net: "ClientNet") -> LastLayer | None:
    """The linear layer that makes the logits; None where no such layer does.

    Found by probing with three records, not by its place: whatever comes after it may shift all the logits of a
    record by one number (a log-softmax does), which no loss on softmax sees.
    """
    module, shape, bounds = net.module, net.spec.shape, net.spec.bounds
    ran: list[tuple[str, nn.Linear, torch.Tensor, torch.Tensor]] = []

    def watch(name: str, layer: nn.Linear) -> RemovableHandle:
        def note(_: nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
            ran.append((name, layer, given[0].detach(), out.detach()))

        return layer.register_forward_hook(note)

    handles = [watch(name, layer) for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    probes = bounds.from_unit(np.random.default_rng(0).random((3, *shape))).astype(np.float64)
    try:
        with torch.no_grad():
            logits = functional.log_softmax(module.double()(net.prepare(torch.from_numpy(probes))), dim=1)
    finally:
        for handle in handles:
            handle.remove()
    for name, layer, given, out in reversed(ran):
        if given.dim() == 2 and out.shape == logits.shape and torch.allclose(functional.log_softmax(out, 1), logits):
            before = f"{name}." if name else ""
            held = dict(layer.named_parameters(recurse=False))
            biases = held["bias"].detach().numpy().copy() if "bias" in held else np.zeros(len(layer.weight))
            return LastLayer(
                name=name,
                weight=f"{before}weight",
                bias=f"{before}bias" if "bias" in held else None,
                w=layer.weight.detach().numpy().copy(),
                c=biases,
                rectified=bool((given >= 0).all()),
            )
    return None
