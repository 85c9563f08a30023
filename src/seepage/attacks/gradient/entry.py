"""How a record enters a client's network: the first layer with weights, and what it sees of the record."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from seepage.models.federated import ClientNet

Array = np.ndarray


@dataclass(frozen=True)
class Entry:
    """The first layer with weights.

    Attributes:
        name: of the layer.
        kind: "linear", "convolution" or the name of the layer's class.
        weight, bias: parameter names; no bias is None.
        width: how many neurons (or channels) it has.
        direct: whether its input is the record itself, value by value, up to `scale` and `offset`: what is
            recovered of the input is then recovered of the record.
        scale, offset: (d,) the layer's input is `scale * record + offset`, in the record's own range.
    """

    name: str
    kind: str
    weight: str
    bias: str | None
    width: int
    direct: bool
    scale: Float[Array, " d"]
    offset: Float[Array, " d"]

    def records(self, inputs: Float[Array, " n d"], shape: tuple[int, ...]) -> Float[Array, " n ..."]:
        """The records (n, *shape) whose inputs to the layer these are."""
        return ((inputs - self.offset) / self.scale).reshape(len(inputs), *shape)


def entry(net: ClientNet) -> Entry | None:
    """The first layer with weights that a record meets; None where no layer with weights runs.

    What it sees is found by probing the network with three records, not by its structure: flattening,
    centring and normalisation on the way are seen through, anything else makes it indirect.
    """
    module = net.module
    ran: list[tuple[str, nn.Module, torch.Tensor]] = []
    named = [(name, layer) for name, layer in module.named_modules() if list(layer.parameters(recurse=False))]
    handles = [
        layer.register_forward_pre_hook(
            lambda _, given, name=name, layer=layer: ran.append((name, layer, given[0].detach().double()))
        )
        for name, layer in named
    ]
    shape, bounds = net.spec.shape, net.spec.bounds
    low = np.broadcast_to(bounds.low, shape)
    high = np.broadcast_to(bounds.high, shape)
    mixed = np.random.default_rng(0).random(shape) * (high - low) + low
    try:
        with torch.no_grad():
            module.double()(net.prepare(torch.from_numpy(np.stack([low, high, mixed]).astype(np.float64))))
    finally:
        for handle in handles:
            handle.remove()
    if not ran:
        return None
    name, layer, seen = ran[0]
    weight = getattr(layer, "weight", None)
    kind = type(layer).__name__
    if isinstance(layer, nn.Linear):
        kind = "linear"
    elif isinstance(layer, nn.Conv1d | nn.Conv2d):
        kind = "convolution"
    flat = seen.reshape(3, -1).numpy() if len(seen) == 3 else np.zeros((3, 0))
    size = int(np.prod(shape))
    wide = (high - low).reshape(-1)
    direct = flat.shape[1] == size
    scale, offset = np.ones(size), np.zeros(size)
    if direct:
        scale = (flat[1] - flat[0]) / wide
        offset = flat[0] - scale * low.reshape(-1)
        told = scale * mixed.reshape(-1) + offset
        direct = bool(np.allclose(told, flat[2], atol=1e-9) and (np.abs(scale) > 1e-12).all())
    return Entry(
        name=name,
        kind=kind,
        weight=f"{name}.weight" if name else "weight",
        bias=None if getattr(layer, "bias", None) is None else (f"{name}.bias" if name else "bias"),
        width=0 if weight is None else int(weight.shape[0]),
        direct=direct,
        scale=scale,
        offset=offset,
    )


def rectified(net: ClientNet, first: Entry) -> bool:
    """Whether neurons of a layer that are off get no gradient, and those that are on do: tried on a record."""
    shape, bounds = net.spec.shape, net.spec.bounds
    low, high = np.broadcast_to(bounds.low, shape), np.broadcast_to(bounds.high, shape)
    record = np.random.default_rng(0).random((1, *shape)) * (high - low) + low
    x = torch.from_numpy(record.astype(np.float64))
    slope = net.gradient(x, torch.zeros(1, dtype=torch.long))
    held = net.weights(torch.float64)
    seen = net.inside(first.name, x)[0].detach().reshape(-1)
    before = held[first.weight].reshape(first.width, -1) @ seen + held[str(first.bias)]
    moved = slope[str(first.bias)].detach() != 0
    off = before < 0
    return bool(off.any() and not moved[off].any() and moved[before > 0].any())
