"""A client's network as a chain of layers with weights and invertible activations between them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from seepage.attacks.gradient.entry import entry
from seepage.models.federated import ClientNet

Array = np.ndarray


@dataclass(frozen=True)
class Activation:
    """What stands behind a layer, told by its outputs a alone.

    Attributes:
        inverse: the input of each output.
        slope: the derivative at each output.
        zero: whether it sends all inputs below zero to zero: there the input is not told.
    """

    inverse: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    zero: bool = False

    def known(self, a: Array) -> Bool[Array, " ..."]:
        """Where the input is told by the output."""
        if not self.zero:
            return np.ones(a.shape, dtype=bool)
        return a > 1e-9 * max(float(np.abs(a).max(initial=0.0)), 1e-300)


def _leaky(layer: nn.Module) -> Activation:
    below = float(layer.negative_slope)  # pyright: ignore[reportArgumentType] - LeakyReLU alone comes here
    return Activation(lambda a: np.where(a < 0, a / below, a), lambda a: np.where(a < 0, below, 1.0))


def _relu(_: nn.Module) -> Activation:
    # What is a trace of rounding above zero counts as zero, as in `known`.
    return Activation(lambda a: a, lambda a: (a > 1e-9 * max(float(np.abs(a).max(initial=0.0)), 1e-300)) * 1.0, True)


def _sigmoid(_: nn.Module) -> Activation:
    def inside(a: Array) -> Array:
        return np.clip(a, 1e-15, 1 - 1e-15)

    return Activation(lambda a: np.log(inside(a)) - np.log1p(-inside(a)), lambda a: inside(a) * (1 - inside(a)))


def _tanh(_: nn.Module) -> Activation:
    def inside(a: Array) -> Array:
        return np.clip(a, -1 + 1e-15, 1 - 1e-15)

    return Activation(lambda a: np.arctanh(inside(a)), lambda a: 1 - inside(a) ** 2)


NOTHING = Activation(lambda a: a, np.ones_like)
ACTIVATIONS: Mapping[type[nn.Module], Callable[[nn.Module], Activation]] = {
    nn.LeakyReLU: _leaky,
    nn.ReLU: _relu,
    nn.Sigmoid: _sigmoid,
    nn.Tanh: _tanh,
}
# Layers that hand on what they are given, in another shape at the most.
PASSING = (nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout2d)


@dataclass(frozen=True)
class Link:
    """One layer with weights.

    Attributes:
        name: of the layer.
        weight: its weights.
        bias: (o,) its biases; zeros where it has none.
        biased: whether it has biases.
        given, made: shapes of its input and output, for one record.
        stride, padding, dilation: of a convolution.
        behind: the activation behind it.
    """

    name: str
    weight: Float[Array, " ..."]
    bias: Float[Array, " o"]
    biased: bool
    given: tuple[int, ...]
    made: tuple[int, ...]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    behind: Activation = NOTHING

    @property
    def convolves(self) -> bool:
        return self.weight.ndim == 4

    def parameter(self, name: str) -> str:
        """The name of its weights or biases in an update."""
        return f"{self.name}.{name}" if self.name else name


class ChainError(Exception):
    """A network that is no chain, and why."""


def chain(net: ClientNet) -> list[Link]:
    """The layers with weights, in the order in which a record meets them.

    Found by watching a record pass: each layer has to be given what the one before it made.

    Raises:
        ChainError: when the network does anything else.
    """
    first = entry(net)
    if first is None or not first.direct:
        raise ChainError("it needs a first layer that sees the record value by value")
    ran = _watched(net)
    while ran and ran[0][0] != first.name:
        ran.pop(0)
    links: list[Link] = []
    for (name, layer, given, made), (_, _, following, _) in zip(ran, [*ran[1:], ran[-1]], strict=True):
        if type(layer) in ACTIVATIONS:
            if links[-1].behind is not NOTHING:
                raise ChainError(f"'{name}' is a second activation behind one layer; one was wanted")
            links[-1] = replace(links[-1], behind=ACTIVATIONS[type(layer)](layer))
        elif isinstance(layer, nn.Linear | nn.Conv2d):
            links.append(_link(name, layer, given, made))
        elif not isinstance(layer, PASSING):
            raise ChainError(
                f"'{name}', a {type(layer).__name__}, cannot be inverted: it needs convolutions and fully connected "
                f"layers with {', '.join(kind.__name__ for kind in ACTIVATIONS)} behind them"
            )
        if layer is not ran[-1][1] and not torch.equal(made.flatten(), following.flatten()):
            raise ChainError(f"between '{name}' and what follows it something happens that is no layer of its own")
    if links[-1].convolves or links[-1].behind is not NOTHING or tuple(ran[-1][3].shape) != (1, net.classes):
        raise ChainError("it needs logits that are made by a fully connected layer")
    return links


def _watched(net: ClientNet) -> list[tuple[str, nn.Module, Tensor, Tensor]]:
    """The innermost layers that a record meets: name, layer, what it is given and what it makes."""
    body, ran = net.body("eval", torch.float64), list[tuple[str, nn.Module, Tensor, Tensor]]()
    handles = [
        layer.register_forward_hook(
            lambda own, given, made, name=name: ran.append((name, own, given[0].clone(), made.clone()))
        )
        for name, layer in body.named_modules()
        if not list(layer.children())
    ]
    low, high = (np.broadcast_to(side, net.spec.shape) for side in (net.spec.bounds.low, net.spec.bounds.high))
    record = np.random.default_rng(0).random(net.spec.shape) * (high - low) + low
    try:
        with torch.no_grad():
            body(net.prepare(torch.from_numpy(record[None].astype(np.float64))))
    finally:
        for handle in handles:
            handle.remove()
    return ran


def _link(name: str, layer: nn.Linear | nn.Conv2d, given: Tensor, made: Tensor) -> Link:
    held = {part: tensor.detach().numpy().copy() for part, tensor in layer.named_parameters(recurse=False)}
    link = Link(
        name=name,
        weight=held["weight"],
        bias=held.get("bias", np.zeros(len(held["weight"]))),
        biased="bias" in held,
        given=tuple(given.shape[1:]),
        made=tuple(made.shape[1:]),
    )
    if isinstance(layer, nn.Linear):
        if given.dim() != 2:
            raise ChainError(f"'{name}' is applied to more than one vector a record")
        return link
    if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise ChainError(f"'{name}' convolves in groups, or pads in another way than with zeros")
    sides = tuple((int(side[0]), int(side[1])) for side in (layer.stride, layer.padding, layer.dilation))
    return replace(link, stride=sides[0], padding=sides[1], dilation=sides[2])
