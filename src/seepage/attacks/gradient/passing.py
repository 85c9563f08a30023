"""What one pass through a place without weights leaves for the sweeps that follow (`sweeps`).

For b = f(a), with l the loss's slope in b and a' how a moves along a direction of the weights: l goes back as J^T l,
a' on as J a', and the slope m, in b, of the loss's change along the direction as J^T m + d<l, J a'>/da. Only the last
needs second derivatives of f. Activations and changes of shape have closed forms here; whatever else goes
through autograd, one place at a time.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from seepage.models.nets import Centred

Some = Sequence[Tensor | None]


class Passing:
    """One pass. `back` comes first, then `along` and `again`, once or again; where nothing moves, `again` alone."""

    def back(self, slope: Tensor) -> Some:
        """From the loss's slope in what came out those in all that came in."""
        raise NotImplementedError

    def along(self, moved: Some) -> Tensor | None:
        """How what came out moves, while what came in moves so."""
        raise NotImplementedError

    def again(self, pull: Tensor) -> Some:
        """The slopes of the loss's change in all that came in, from the one in what came out."""
        raise NotImplementedError


class Elementwise(Passing):
    """An activation with closed forms.

    Args:
        rise: its derivative f'.
        bend: gives f'' / f'; None for one that is straight almost everywhere.
    """

    def __init__(self, rise: Tensor, bend: Callable[[], Tensor] | None = None):
        self._rise, self._bend = rise, bend
        self._slope: Tensor | None = None
        self._moved: Tensor | None = None

    def back(self, slope: Tensor) -> Some:
        self._slope = slope * self._rise
        return [self._slope]

    def along(self, moved: Some) -> Tensor | None:
        (self._moved,) = moved
        return None if self._moved is None else self._moved * self._rise

    def again(self, pull: Tensor) -> Some:
        found = pull * self._rise
        if self._bend is not None and self._slope is not None and self._moved is not None:
            found.addcmul_(self._slope * self._bend(), self._moved)
        return [found]


class Reshaped(Passing):
    """The same numbers in another shape, or shifted."""

    def __init__(self, given: torch.Size, made: torch.Size):
        self._given, self._made = given, made

    def back(self, slope: Tensor) -> Some:
        return [slope.reshape(self._given)]

    def along(self, moved: Some) -> Tensor | None:
        (given,) = moved
        return None if given is None else given.reshape(self._made)

    def again(self, pull: Tensor) -> Some:
        return [pull.reshape(self._given)]


class Differentiated(Passing):
    """Whatever has no weights, by autograd: J a' is the derivative, in l, of <J^T l, a'>.

    Args:
        given: all that came in, as leaves of a graph.
        made: what came out of them.
    """

    def __init__(self, given: Sequence[Tensor], made: Tensor):
        self._given, self._made = given, made
        self._slope: Tensor | None = None
        self._slopes: Some = [None] * len(given)
        self._moved: Some = [None] * len(given)

    def back(self, slope: Tensor) -> Some:
        self._slope = slope.detach().requires_grad_(True)
        with torch.enable_grad():
            self._slopes = torch.autograd.grad(
                self._made, self._given, self._slope, create_graph=True, allow_unused=True
            )
        found = list[Tensor | None](self._slopes)
        return [None if one is None else one.detach() for one in found]

    def _moving(self) -> tuple[list[Tensor], list[Tensor]]:
        """The slopes of all that came in and moves, and how it moves."""
        pairs = [
            (slope, moved)
            for slope, moved in zip(self._slopes, self._moved, strict=True)
            if slope is not None and moved is not None
        ]
        return [slope for slope, _ in pairs], [moved for _, moved in pairs]

    def along(self, moved: Some) -> Tensor | None:
        self._moved = moved
        slopes, moves = self._moving()
        if self._slope is None or not slopes:
            return None
        return torch.autograd.grad(slopes, self._slope, moves, retain_graph=True)[0]

    def again(self, pull: Tensor) -> Some:
        slopes, moves = self._moving()
        return torch.autograd.grad(
            [self._made, *slopes], self._given, [pull, *moves], retain_graph=True, allow_unused=True
        )


Passed = tuple[Tensor, Passing]


def sigmoid(x: Tensor) -> Passed:
    out = torch.sigmoid(x)
    return out, Elementwise(out * (1 - out), lambda: 1 - 2 * out)


def tanh(x: Tensor) -> Passed:
    out = torch.tanh(x)
    return out, Elementwise(1 - out * out, lambda: -2 * out)


def leaky(x: Tensor, below: float = 0.0) -> Passed:
    """A rectifier that lets through the share `below` of what is negative."""
    rise = torch.where(x > 0, x.new_ones(()), x.new_full((), below))
    return x * rise, Elementwise(rise)


def reshaped(x: Tensor, out: Tensor) -> Passed:
    return out, Reshaped(x.shape, out.shape)


def module_passed(layer: nn.Module, x: Tensor) -> Passed | None:
    """The pass through a module that has closed forms; None for others."""
    match layer:
        case nn.Sigmoid():
            return sigmoid(x)
        case nn.Tanh():
            return tanh(x)
        case nn.ReLU():
            return leaky(x)
        case nn.LeakyReLU():
            return leaky(x, float(layer.negative_slope))
        case Centred():
            return layer(x), Elementwise(x.new_full((), 2.0))
        case nn.Flatten() | nn.Unflatten() | nn.Identity():
            return reshaped(x, layer(x))
        case nn.modules.dropout._DropoutNd() if not layer.training:  # pyright: ignore[reportPrivateUsage]
            return reshaped(x, x)
        case _:
            return None


def function_passed(function: object, x: Tensor, rest: Sequence[Any], out: Callable[[], Tensor]) -> Passed | None:
    """The pass through a function, or a method by its name, that has closed forms; None for others.

    Args:
        function: which.
        x: what it is given.
        rest: what it is told beside.
        out: gives what it makes of them.
    """
    if function in ACTIVATIONS and not rest:
        return ACTIVATIONS[function](x)
    alone = len(rest) == 1 and isinstance(rest[0], int | float)
    if function in RESHAPING or (function in SHIFTING and alone):
        return reshaped(x, out())
    if function in SCALING and alone:
        return out(), Elementwise(SCALING[function](x.new_ones(()), rest[0]))
    return None


ACTIVATIONS: Mapping[object, Callable[[Tensor], Passed]] = {
    **dict.fromkeys((torch.sigmoid, functional.sigmoid, "sigmoid"), sigmoid),
    **dict.fromkeys((torch.tanh, functional.tanh, "tanh"), tanh),
    **dict.fromkeys((torch.relu, functional.relu, "relu"), leaky),
}
RESHAPING = frozenset({torch.flatten, torch.reshape, "flatten", "reshape", "view", "unflatten"})
SHIFTING = frozenset({operator.add, operator.sub})
SCALING: Mapping[object, Callable[..., Tensor]] = {operator.mul: operator.mul, operator.truediv: operator.truediv}
