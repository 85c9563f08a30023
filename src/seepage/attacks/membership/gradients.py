"""Norms of the gradients of single records' losses, at the weights or at the record.

A backward pass gives the sum over a batch. The parts of single records are put together from what enters a layer and
from the slope at what leaves it: of a fully connected layer the outer product, of a convolution the same over patches.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seepage.core.errors import DataError
from seepage.core.target import WhiteBox

Array = np.ndarray

_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# Records passed at once at the most: one layer's gradients of them all are held together.
_MOST = 64


def at_records(
    box: WhiteBox, x: Float[Array, " n ..."], y: Int[Array, " n"], norm: str, chunk: int
) -> Float[Array, " n"]:
    """The norm of d loss / d x of each record; n passes."""
    size = max(1, min(256, chunk // max(int(np.prod(x.shape[1:])), 1)))
    found: list[Array] = []
    for i in range(0, len(x), size):
        records = _tensor(x[i : i + size]).requires_grad_()
        (slope,) = torch.autograd.grad(_losses(box(records), y[i : i + size]).sum(), records)
        found.append(_norm([slope.flatten(1)], norm))
    return np.concatenate(found)


def at_weights(
    box: WhiteBox, x: Float[Array, " n ..."], y: Int[Array, " n"], last: bool, norm: str, chunk: int
) -> tuple[Float[Array, " n"], bool]:
    """The norm of d loss / d theta of each record, over all weights or those of the last layer; n passes.

    Returns:
        The norms, and whether they came from backward passes of many records at once.

    Raises:
        DataError: where the network has no weights.
    """
    owners = _owners(box)
    if not owners:
        raise DataError("the victim's network has no weights, so there is no gradient to take the norm of")
    if last:
        owners = owners[-1:]
    weights = list({id(weight): weight for layer in owners for weight in layer.parameters(recurse=False)}.values())
    together = all(_known(layer) for layer in owners) and len(weights) == sum(
        len(list(layer.parameters(recurse=False))) for layer in owners
    )
    for weight in weights:
        # Of the adversary's copy, which asks for no gradients.
        weight.requires_grad_()
    size = max(1, min(_MOST, chunk // sum(weight.numel() for weight in weights)))
    found: list[Array] = []
    at = 0
    while at < len(x):
        rows = slice(at, at + (size if together else 1))
        with _watching(owners if together else []) as passes:
            losses = _losses(box(_tensor(x[rows])), y[rows])
        # A layer that runs twice, or never, is seen only now. The pass is paid for, so it is used all the same.
        together = together and all(len(seen.entered) == 1 for seen in passes)
        found.append(_parts(losses, passes, norm) if together else _one_by_one(losses, weights, norm))
        at += len(losses)
    return np.concatenate(found), together


@dataclass(frozen=True)
class _Pass:
    """What entered a layer and what left it, by call."""

    layer: nn.Module
    entered: list[Tensor] = field(default_factory=list[Tensor])
    left: list[Tensor] = field(default_factory=list[Tensor])


@contextmanager
def _watching(layers: Sequence[nn.Module]) -> Generator[list[_Pass]]:
    """Keeps what passes through `layers`; later changes in place do not reach what is kept."""
    passes = [_Pass(layer) for layer in layers]

    def hook(seen: _Pass) -> Any:
        def passed(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            seen.entered.append(inputs[0].detach().clone())
            seen.left.append(output)
            return output.clone()

        return passed

    handles = [seen.layer.register_forward_hook(hook(seen)) for seen in passes]
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()


def _owners(box: WhiteBox) -> list[nn.Module]:
    """The layers with weights of their own, in the order of their definition."""
    layers: list[nn.Module] = list(box.layers.values())
    known = {id(weight) for layer in layers for weight in layer.parameters(recurse=False)}
    owners = [layer for layer in layers if list(layer.parameters(recurse=False))]
    loose = [weight for weight in box.parameters().values() if id(weight) not in known]
    return [*owners, *([_Loose(loose)] if loose else [])]


class _Loose(nn.Module):
    """Weights that belong to the network itself and to none of its layers."""

    def __init__(self, weights: Sequence[nn.Parameter]):
        super().__init__()
        for i, weight in enumerate(weights):
            self.register_parameter(str(i), weight)


def _known(layer: nn.Module) -> bool:
    """Whether the gradients of single records can be put together from what passes through such a layer."""
    if isinstance(layer, nn.Conv2d):
        return layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    if isinstance(layer, _BATCH_NORM):
        return layer.running_mean is not None and not layer.training
    return isinstance(layer, nn.Linear)


def _parts(losses: Tensor, passes: Sequence[_Pass], norm: str) -> Float[Array, " b"]:
    """Norms over the layers' gradients of each record, from one backward pass."""
    left = [seen.left[0] for seen in passes]
    slopes = cast(Sequence[Any], torch.autograd.grad(losses.sum(), left, allow_unused=True))
    parts: list[Tensor] = []
    for seen, slope in zip(passes, slopes, strict=True):
        if slope is not None:
            parts += _of_layer(seen.layer, seen.entered[0], slope)
    return _norm(parts, norm) if parts else np.zeros(len(losses))


def _of_layer(layer: nn.Module, entered: Tensor, slope: Tensor) -> list[Tensor]:
    """The gradients at a layer's weight and bias, (b, k) each."""
    found: list[Tensor] = []
    biased = "bias" in dict(layer.named_parameters(recurse=False))
    if isinstance(layer, nn.Linear):
        slope, entered = _rows(slope), _rows(entered)
        found.append(torch.einsum("blo,bli->boi", slope, entered))
        found += [slope.sum(1)] if biased else []
    elif isinstance(layer, nn.Conv2d) and not isinstance(layer.padding, str):
        size, padding = layer.kernel_size, layer.padding
        patches = nn.functional.unfold(entered, size, dilation=layer.dilation, padding=padding, stride=layer.stride)
        flat = slope.flatten(2)
        found.append(torch.einsum("bol,bkl->bok", flat, patches))
        found += [flat.sum(2)] if biased else []
    elif isinstance(layer, _BATCH_NORM) and layer.running_mean is not None and layer.running_var is not None:
        sides = (1, -1) + (1,) * (entered.ndim - 2)
        scaled = (entered - layer.running_mean.reshape(sides)) / (layer.running_var.reshape(sides) + layer.eps).sqrt()
        places = tuple(range(2, entered.ndim))
        found += [(slope * scaled).sum(places) if places else slope * scaled, slope.sum(places) if places else slope]
    return [part.flatten(1) for part in found]


def _rows(x: Tensor) -> Tensor:
    return x.flatten(1, -2) if x.ndim > 2 else x[:, None]


def _one_by_one(losses: Tensor, weights: Sequence[Tensor], norm: str) -> Float[Array, " b"]:
    """Norms of the gradients of each loss: a backward pass each."""
    found: list[Array] = []
    for loss in losses:
        slopes = cast(Sequence[Any], torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True))
        parts = [slope.reshape(1, -1) for slope in slopes if slope is not None]
        found.append(_norm(parts, norm) if parts else np.zeros(1))
    return np.concatenate(found)


def _norm(parts: Sequence[Tensor], norm: str) -> Float[Array, " b"]:
    """The norm of each record's gradient, given in parts (b, k)."""
    sizes = [part.abs().double() for part in parts]
    if norm == "max":
        found = torch.stack([size.amax(1) for size in sizes]).amax(0)
    elif norm == "sum":
        found = torch.stack([size.sum(1) for size in sizes]).sum(0)
    else:
        found = torch.stack([size.square().sum(1) for size in sizes]).sum(0).sqrt()
    return found.detach().cpu().numpy()


def _losses(logits: Tensor, y: Int[Array, " b"]) -> Tensor:
    return nn.functional.cross_entropy(logits, torch.from_numpy(np.asarray(y, dtype=np.int64)), reduction="none")


def _tensor(x: Float[Array, " b ..."]) -> Tensor:
    """In double precision: what lies next to a probability of one is told apart as far as the network tells it."""
    return torch.from_numpy(np.asarray(x, dtype=np.float64))
