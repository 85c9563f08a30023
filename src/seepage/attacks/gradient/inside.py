"""A fully connected layer further in: what it sees of records, and whether all that follows hangs on that alone."""

from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd as _Dropout  # pyright: ignore[reportPrivateUsage]

from seepage.attacks.gradient.entry import Entry
from seepage.models.bottleneck import stochastic
from seepage.models.federated import ClientNet

Array = np.ndarray

# How far beyond what records drawn at random reach the features of a record are looked for.
REACH = 3.0
DRAWN = 8


@dataclass(frozen=True)
class Inside:
    """A fully connected layer whose input is features of the record.

    Attributes:
        entry: the layer; `scale` and `offset` are of its features, 1 and 0.
        shape: of the features before they were flattened; (d,) where they never were maps.
        low, high: (d,) between which the features of records are looked for.
        closed: whether the columns of its gradient are a function of each record's own features: nothing after it ties
            records together or draws at random.
        dropout: the share of its features that a client in "train" mode leaves out just before it.
    """

    entry: Entry
    shape: tuple[int, ...]
    low: Float[Array, " d"]
    high: Float[Array, " d"]
    closed: bool
    dropout: float


def inside(net: ClientNet) -> Inside | None:
    """The first fully connected layer with a bias that all later layers hang on alone; None without one.

    Found by trying: records are exchanged at its input, and the logits have to be exchanged with them.
    """
    module = net.module.double()
    x = net.prepare(torch.from_numpy(_drawn(net)))
    for name, layer in module.named_modules():
        if not isinstance(layer, nn.Linear) or "bias" not in dict(layer.named_parameters()):
            continue
        seen = _seen(module, name, x)
        if seen is not None and _alone(module, layer, x, seen.given):
            return _described(name, layer, seen, drawing=bool(stochastic(net)))
    return None


@dataclass(frozen=True)
class _Seen:
    """What a layer was given in one pass, the maps that it was flattened from, and the layers before and after it."""

    given: Tensor
    shape: tuple[int, ...]
    before: list[nn.Module]
    after: list[nn.Module]


def _drawn(net: ClientNet) -> Float[Array, " n ..."]:
    shape, bounds = net.spec.shape, net.spec.bounds
    low, high = np.broadcast_to(bounds.low, shape), np.broadcast_to(bounds.high, shape)
    drawn = np.random.default_rng(0).random((DRAWN, *shape)) * (high - low) + low
    return np.concatenate([np.stack([low, high]), drawn]).astype(np.float64)


def _seen(module: nn.Module, name: str, x: Tensor) -> _Seen | None:
    """None where the layer runs never, or more than once: its gradient is then no product of two matrices."""
    met = module.get_submodule(name)
    ran: list[tuple[nn.Module, Tensor, Tensor]] = []

    def note(layer: nn.Module, given: tuple[Any, ...], out: Any) -> None:
        # Layers that take or give more than a tensor (recurrent ones, attention) are none that is looked for.
        if given and isinstance(given[0], Tensor) and isinstance(out, Tensor):
            ran.append((layer, given[0].detach(), out))

    handles = [layer.register_forward_hook(note) for layer in module.modules() if not list(layer.children())]
    try:
        with torch.no_grad():
            module(x)
    finally:
        for handle in handles:
            handle.remove()
    times = [k for k, (layer, _, _) in enumerate(ran) if layer is met]
    if len(times) != 1:
        return None
    given = ran[times[0]][1]
    if given.dim() != 2 or len(given) != len(x):
        return None
    maps = [out for _, _, out in ran[: times[0]] if out.dim() > 2 and len(out) == len(x)]
    flattened = [m for m in maps if m[0].numel() == given.shape[1] and torch.equal(m.flatten(1), given)]
    shape = tuple(flattened[-1].shape[1:]) if flattened else (given.shape[1],)
    layers = [layer for layer, _, _ in ran]
    return _Seen(given, shape, layers[: times[0]], layers[times[0] + 1 :])


def _alone(module: nn.Module, layer: nn.Linear, x: Tensor, given: Tensor) -> bool:
    """Whether exchanging what the layer is given exchanges the logits: nothing goes round it.

    One record before the layer has to do for all those after it, which is how columns are asked for.
    """
    turned = given.flip(0)
    handle = layer.register_forward_pre_hook(lambda _, __: (turned,))
    try:
        with torch.no_grad():
            exchanged = module(x[:1])
    except (RuntimeError, ValueError, IndexError):
        return False
    finally:
        handle.remove()
    with torch.no_grad():
        own = module(x)
    return exchanged.shape == own.shape and bool(torch.allclose(exchanged.flip(0), own, atol=1e-9))


def _described(name: str, layer: nn.Linear, seen: _Seen, drawing: bool) -> Inside:
    d = layer.in_features
    values = seen.given.numpy()
    low, high = values.min(axis=0), values.max(axis=0)
    middle, half = (low + high) / 2, (high - low) / 2
    # Features that no drawn record moves may still be moved by another.
    wide = np.maximum(half, half.mean()) * REACH
    # What a ReLU made is never below zero.
    least = np.zeros(d) if values.min() >= 0 else middle - wide
    bound = Entry(
        name=name,
        kind="linear",
        weight=f"{name}.weight" if name else "weight",
        bias=f"{name}.bias" if name else "bias",
        width=layer.out_features,
        direct=False,
        scale=np.ones(d),
        offset=np.zeros(d),
    )
    weightless = list(takewhile(lambda one: not list(one.parameters()), reversed(seen.before)))
    left_out = [one.p for one in weightless if isinstance(one, _Dropout)]
    ties = (nn.modules.batchnorm._BatchNorm, _Dropout)  # pyright: ignore[reportPrivateUsage]
    closed = not drawing and not any(isinstance(one, ties) for one in seen.after)
    return Inside(bound, seen.shape, least, middle + wide, closed, left_out[0] if left_out else 0.0)
