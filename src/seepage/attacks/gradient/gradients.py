"""The gradients of many problems at once: problems share the model, and each has a batch of its own.

Two ways, which agree. `Stacked` runs all records of all problems through the network as one batch and forms
each problem's gradients layer by layer from what went in and the slopes of what came out. `Mapped` maps the
plain gradient over the problems: any network. For few records the first is several times faster, for many in
single precision the second by a little (measured on convolutional networks: see docs/leaks/gradient-optimise.md).
"""

from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from seepage.attacks.gradient.layers import LAYERS, Layer, NormalisationLayer
from seepage.models.bottleneck import penalty_of
from seepage.models.federated import ClientNet, Mode

BatchNorm = nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage]


@runtime_checkable
class Gradients(Protocol):
    """Gradients of the mean cross-entropy of each problem, one row a problem, differentiable in its inputs.

    Called with prepared records (p, b, *shape) and label distributions (p, b, classes); gives (p, weights), the
    parameters one after another in the order of the module.
    """

    def __call__(self, x: Float[Tensor, " p b ..."], y: Float[Tensor, " p b c"]) -> Float[Tensor, " p d"]: ...


def cross_entropy(logits: Float[Tensor, " n c"], y: Float[Tensor, " n c"]) -> Float[Tensor, " n"]:
    """Of each row, against a distribution over the classes."""
    return -(functional.log_softmax(logits, dim=-1) * y).sum(-1)


class Mapped:
    """The plain gradient, mapped over the problems."""

    def __init__(self, net: ClientNet, mode: Mode, dtype: torch.dtype):
        body = net.body(mode, dtype)
        self._weights = {name: w.detach() for name, w in body.named_parameters()}

        def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            return cross_entropy(functional_call(body, weights, (x,)), y).mean() + penalty_of(body)

        self._slope: Callable[..., dict[str, Tensor]] = vmap(grad(loss), in_dims=(None, 0, 0))

    def __call__(self, x: Float[Tensor, " p b ..."], y: Float[Tensor, " p b c"]) -> Float[Tensor, " p d"]:
        found = self._slope(self._weights, x, y)
        return torch.cat([found[name].flatten(1) for name in self._weights], dim=1)


class Stacked:
    """All problems as one batch; the network's layers with weights must be among `layers.LAYERS`.

    Raises:
        KeyError: for a layer with weights of another kind.
    """

    def __init__(self, net: ClientNet, mode: Mode, dtype: torch.dtype):
        body = net.body(mode, dtype)
        order = [name for name, _ in body.named_parameters()]
        self._layers: dict[str, Layer] = {}
        for name, layer in list(body.named_modules()):
            if hasattr(layer, "inplace"):
                layer.__dict__["inplace"] = False
            if list(layer.parameters(recurse=False)) or isinstance(layer, BatchNorm):
                self._layers[name] = LAYERS[type(layer)](layer)
        self._body = _swapped(body, self._layers)
        self._order = order

    @property
    def normalisations(self) -> dict[str, NormalisationLayer]:
        """The layers of batch normalisation, by name; after a call they hold the statistics of what they saw."""
        return {name: layer for name, layer in self._layers.items() if isinstance(layer, NormalisationLayer)}

    def __call__(self, x: Float[Tensor, " p b ..."], y: Float[Tensor, " p b c"]) -> Float[Tensor, " p d"]:
        problems, batch = x.shape[:2]
        for layer in self._layers.values():
            layer.begin(problems)
        losses = cross_entropy(self._body(x.flatten(0, 1)), y.flatten(0, 1))
        seen = [(name, call) for name, layer in self._layers.items() for call in layer.calls if layer.weights]
        slopes = torch.autograd.grad(losses.sum() / batch, [call.out for _, call in seen], create_graph=True)
        parts: dict[str, Tensor] = {}
        for (name, call), slope in zip(seen, slopes, strict=True):
            for own, part in self._layers[name].gradients(call, slope).items():
                whole = f"{name}.{own}" if name else own
                parts[whole] = parts[whole] + part if whole in parts else part
        return torch.cat([parts[name].flatten(1) for name in self._order], dim=1)


class Either:
    """`Stacked` for few records or double precision, else `Mapped`: by count, so that results do not hang on load."""

    few = 8

    def __init__(self, stacked: Stacked, mapped: Mapped, dtype: torch.dtype):
        self._stacked, self._mapped = stacked, mapped
        self._always = dtype == torch.float64

    def __call__(self, x: Float[Tensor, " p b ..."], y: Float[Tensor, " p b c"]) -> Float[Tensor, " p d"]:
        few = self._always or x.shape[0] * x.shape[1] <= self.few
        return self._stacked(x, y) if few else self._mapped(x, y)


def gradients_of(net: ClientNet, mode: Mode, dtype: torch.dtype = torch.float32) -> Gradients:
    """The fastest way that gives the network's own gradients."""
    stacked, mapped = stacked_of(net, mode, dtype), Mapped(net, mode, dtype)
    return mapped if stacked is None else Either(stacked, mapped, dtype)


def stacked_of(net: ClientNet, mode: Mode, dtype: torch.dtype = torch.float32) -> Stacked | None:
    """All problems as one batch, if that gives the network's own gradients on probes; else None."""
    probe = torch.Generator().manual_seed(0)
    x = torch.randn(2, 2, *net.spec.shape, generator=probe, dtype=torch.float64)
    y = torch.softmax(torch.randn(2, 2, net.classes, generator=probe, dtype=torch.float64), dim=-1)
    try:
        told = Stacked(net, mode, torch.float64)(x.requires_grad_(True), y).detach()
    except (AttributeError, KeyError, NotImplementedError, RuntimeError):
        # It reads its layers in a way of its own, or has some that no loss reaches.
        return None
    wanted = torch.stack(list(_plain(net, mode, x.detach(), y)))
    agree = told.shape == wanted.shape and torch.allclose(told, wanted, rtol=1e-6, atol=1e-9)
    return Stacked(net, mode, dtype) if agree else None


def _plain(net: ClientNet, mode: Mode, x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """The gradients of one problem after another, as the network gives them."""
    body = net.body(mode, x.dtype)
    for mine, labels in zip(x, y, strict=True):
        loss = cross_entropy(body(mine), labels).mean() + penalty_of(body)
        found = torch.autograd.grad(loss, list(body.parameters()), materialize_grads=True)
        yield torch.cat([one.flatten() for one in found])


def _swapped(body: nn.Module, layers: dict[str, Layer]) -> nn.Module:
    """The network with these layers in the place of its own."""
    for name, layer in layers.items():
        if not name:
            return layer
        parent, _, own = name.rpartition(".")
        setattr(body.get_submodule(parent), own, layer)
    return body
