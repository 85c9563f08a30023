"""The gradients of many problems at once: problems share the model, and each has a batch of its own.

Two ways, which agree. `Stacked` runs all records of all problems through the network as one batch and forms
each problem's gradients layer by layer from what went in and the slopes of what came out. `Mapped` maps the
plain gradient over the problems: any network. For few records the first is several times faster, for many in
single precision the second by a little (measured on convolutional networks: see docs/leaks/gradient-optimise.md).
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from seepage.attacks.gradient.layers import NormalisationLayer
from seepage.attacks.gradient.sweeps import Network, Sweeps
from seepage.attacks.gradient.written_out import WrittenOut
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
            with WrittenOut():
                return cross_entropy(functional_call(body, weights, (x,)), y).mean() + penalty_of(body)

        self._slope: Callable[..., dict[str, Tensor]] = vmap(grad(loss), in_dims=(None, 0, 0))

    def __call__(self, x: Float[Tensor, " p b ..."], y: Float[Tensor, " p b c"]) -> Float[Tensor, " p d"]:
        found = self._slope(self._weights, x, y)
        return torch.cat([found[name].flatten(1) for name in self._weights], dim=1)


class Stacked:
    """All problems as one batch, by sweeps written by hand: differentiable once, in records and distributions.

    Args:
        statistics: whether `normalisations` are wanted.

    Raises:
        KeyError: for weights elsewhere than in a layer of `layers.LAYERS`.
    """

    def __init__(self, net: ClientNet, mode: Mode, dtype: torch.dtype, statistics: bool = False):
        self.network = Network(net.body(mode, dtype))
        self.watched = list(self.normalisations.values()) if statistics else []

    @property
    def normalisations(self) -> dict[str, NormalisationLayer]:
        """The layers of batch normalisation, by name; after a call they hold the statistics of what they saw."""
        return {n: layer for n, layer in self.network.layers.items() if isinstance(layer, NormalisationLayer)}

    def __call__(self, x: Float[Tensor, " p b ..."], y: Float[Tensor, " p b c"]) -> Float[Tensor, " p d"]:
        rows, *seen = _Swept.apply(self, x, y)
        for layer, mean, var in zip(self.watched, seen[::2], seen[1::2], strict=True):
            layer.mean, layer.var = mean, var
        return rows


class _Swept(torch.autograd.Function):
    """`Stacked` as one place in the graph of autograd."""

    @staticmethod
    def forward(ctx: Any, stacked: Stacked, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        sweeps = Sweeps(stacked.network, x.detach().flatten(0, 1), y.detach().flatten(0, 1), len(x))
        ctx.stacked, ctx.sweeps, ctx.shapes = stacked, sweeps, (x.shape, y.shape)
        rows = stacked.network.rows(sweeps.gradients, x, len(x))
        return (rows, *(part for layer in stacked.watched for part in sweeps.statistics(layer)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride] - torch's own way to write it
        (slope, *seen), stacked = grad_outputs, ctx.stacked
        statistics = dict(zip(stacked.watched, zip(seen[::2], seen[1::2], strict=True), strict=True))
        x, y = ctx.sweeps.along(stacked.network.apart(slope), statistics)
        return None, x.reshape(ctx.shapes[0]), y.reshape(ctx.shapes[1])


class Either:
    """`Stacked` for few records or double precision, else `Mapped`: by count, so that results do not hang on load."""

    few = 16

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


def stacked_of(
    net: ClientNet, mode: Mode, dtype: torch.dtype = torch.float32, statistics: bool = False
) -> Stacked | None:
    """All problems as one batch, if that gives the network's own gradients, and their slopes, on probes; else None."""
    probe = torch.Generator().manual_seed(0)
    x = torch.randn(2, 2, *net.spec.shape, generator=probe, dtype=torch.float64).requires_grad_(True)
    y = torch.softmax(torch.randn(2, 2, net.classes, generator=probe, dtype=torch.float64), dim=-1).requires_grad_(True)
    way = torch.randn(2, net.parameters, generator=probe, dtype=torch.float64)
    try:
        told = Stacked(net, mode, torch.float64)(x, y)
        slopes = torch.autograd.grad(told, (x, y), way)
        wanted = torch.stack(list(_plain(net, mode, x, y)))
        own = torch.autograd.grad(wanted, (x, y), way)
    except (AttributeError, KeyError, NotImplementedError, RuntimeError):
        # It reads its layers in a way of its own, or has some that no loss reaches or that bend in no known way.
        return None
    for mine, its in zip((told, *slopes), (wanted, *own), strict=True):
        if mine.shape != its.shape or not torch.allclose(
            mine, its, rtol=1e-6, atol=1e-9 * float(its.detach().abs().amax())
        ):
            return None
    return Stacked(net, mode, dtype, statistics)


def _plain(net: ClientNet, mode: Mode, x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """The gradients of one problem after another, as the network gives them, to be differentiated."""
    body = net.body(mode, x.dtype)
    for mine, labels in zip(x, y, strict=True):
        loss = cross_entropy(body(mine), labels).mean() + penalty_of(body)
        found = torch.autograd.grad(loss, list(body.parameters()), create_graph=True, materialize_grads=True)
        yield torch.cat([one.flatten() for one in found])
