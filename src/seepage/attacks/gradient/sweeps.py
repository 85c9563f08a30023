"""The gradients of many problems, and their slopes in the records, by sweeps over the network written by hand.

What a search for records needs is the slope, in the records x, of an objective of the gradient g = dL/dw. With v the
objective's slope in g it is the slope in x of <v, g>, v held fixed: of the loss's change along the direction v of
the weights. So it takes no second derivative by any weight (Pearlmutter 1994, Fast Exact Multiplication by the
Hessian, Neural Computation 6, whose operator R is the third sweep):

1. forward: what passes, a;
2. back: the loss's slope in each a, and from these, layer by layer, each problem's g;
3. forward along v: how each a moves, a';
4. back: the slope, in each a, of the loss's change. Its slope in a' was had before: it is the loss's in a.

What the places of a network do in each sweep is in `layers` and `passing`.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from seepage.attacks.gradient.layers import LAYERS, Layer, LayerPass, NormalisationPass
from seepage.attacks.gradient.passing import Differentiated, Passed, Passing, function_passed, module_passed

Normalisation = nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage]
# A place's graph may be asked again: nothing in it is worked on in place.
OUT_OF_PLACE: Mapping[object, Callable[..., Any]] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


@dataclass(frozen=True)
class Place:
    """One place of a network.

    Attributes:
        node: what torch.fx found there.
        module: the module that stands there, if it is one.
        layer: the layer with weights that stands there, if it is one.
        weights: the names of its weights among all parameters, by their own.
        moving: whether what comes out moves when weights do.
        plain: whether it is given one tensor, and beside it only what is written in the network.
    """

    node: fx.Node
    module: nn.Module | None
    layer: Layer | None
    weights: Mapping[str, str]
    moving: bool
    plain: bool

    def made(self, values: Mapping[fx.Node, Any]) -> Any:
        """What the function, method or module without weights there makes of these values."""
        if self.plain:
            args, kwargs = (values[self.node.args[0]], *self.node.args[1:]), dict[str, Any]()  # pyright: ignore[reportArgumentType]
        else:
            args, kwargs = fx.map_arg((self.node.args, dict(self.node.kwargs)), lambda feed: values[feed])
        if "inplace" in kwargs:
            kwargs = {**kwargs, "inplace": False}
        if self.module is not None:
            return self.module(*args, **kwargs)
        if self.node.op == "call_method":
            return getattr(args[0], str(self.node.target))(*args[1:], **kwargs)
        function: Any = OUT_OF_PLACE.get(self.node.target, self.node.target)
        return function(*args, **kwargs)

    def closed(self, values: Mapping[fx.Node, Any]) -> Passed | None:
        """What comes out, and the pass, where it has closed forms."""
        x = values[self.node.args[0]]  # pyright: ignore[reportArgumentType]
        if self.module is not None:
            return module_passed(self.module, x)
        return function_passed(self.node.target, x, self.node.args[1:], lambda: self.made(values))


class Network:
    """A network taken apart, by torch.fx, into places that records pass one after another.

    Args:
        body: from records (n, ...) to logits (n, classes); changed.

    Attributes:
        places: in order.
        entrance, exit: where the records come in, and what gives the logits.
        layers: the layers with weights, and those of batch normalisation, by name.
        shapes: of the parameters, by name and in order.

    Raises:
        KeyError: for weights elsewhere than in a layer of `layers.LAYERS`.
        NotImplementedError: where its course hangs on what passes.
    """

    def __init__(self, body: nn.Module):
        # A network that is a single layer has a place for it too. Names get a first part, which is taken off again.
        whole = nn.Sequential(body)
        self.entrance, *nodes, end = _traced(whole)
        if not isinstance(end.args[0], fx.Node):
            raise NotImplementedError("a network that gives more than logits")
        self.exit = end.args[0]
        self.shapes = {name: weight.shape for name, weight in body.named_parameters()}
        self.layers: dict[str, Layer] = {}
        self.constants: dict[fx.Node, Tensor] = {}
        modules, buffers = dict(whole.named_modules()), dict(whole.named_buffers())
        places: dict[fx.Node, Place] = {}
        for node in nodes:
            if node.op == "get_attr":
                # Weights that are read elsewhere than in their layer are none of these.
                self.constants[node] = buffers[str(node.target)]
                continue
            module = modules[str(node.target)] if node.op == "call_module" else None
            layer = None if module is None else self._met(str(node.target)[2:], module)
            names = {} if layer is None else {own: f"{node.target}.{own}"[2:] for own in layer.weights}
            moving = layer is not None or any(feed in places and places[feed].moving for feed in node.all_input_nodes)
            places[node] = Place(node, module, layer, names, moving, _plain(node))
        self.places = list(places.values())

    def _met(self, name: str, module: nn.Module) -> Layer | None:
        if list(module.parameters()) or isinstance(module, Normalisation):
            if name not in self.layers:
                self.layers[name] = LAYERS[type(module)](module)
            return self.layers[name]
        if hasattr(module, "inplace"):
            module.__dict__["inplace"] = False
        return None

    def apart(self, rows: Float[Tensor, " p d"]) -> dict[str, Float[Tensor, " p ..."]]:
        """Each tensor's part of the rows, by name."""
        parts = rows.split([shape.numel() for shape in self.shapes.values()], dim=1)
        return {name: part.view(-1, *shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def rows(self, parts: Mapping[str, Float[Tensor, " p ..."]], like: Tensor, problems: int) -> Float[Tensor, " p d"]:
        """The tensors of each problem one after another, in the order of the parameters; zeros where there is none."""
        rows = like.new_empty(problems, sum(shape.numel() for shape in self.shapes.values()))
        for name, place in self.apart(rows).items():
            place.copy_(parts[name]) if name in parts else place.zero_()
        return rows


class _Tracer(fx.Tracer):
    """What holds no weights is one place, whatever is in it."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        held = any(isinstance(part, Normalisation) or list(part.parameters()) for part in m.modules())
        return not held or super().is_leaf_module(m, module_qualified_name)


def _traced(whole: nn.Module) -> list[fx.Node]:
    try:
        return list(_Tracer().trace(whole).nodes)
    except Exception as error:
        # A network of anyone's is run with a stand-in for the records, at which it may stumble in any way.
        raise NotImplementedError("the network's course cannot be told without records") from error


def _plain(node: fx.Node) -> bool:
    return bool(node.args) and isinstance(node.args[0], fx.Node) and len(node.all_input_nodes) == 1 and not node.kwargs


@dataclass(frozen=True)
class Step:
    """A place that the records at hand have passed.

    Attributes:
        place: which.
        fed: the nodes from which it had what hangs on the records.
        passed: what the pass left behind.
    """

    place: Place
    fed: Sequence[fx.Node]
    passed: Passing | LayerPass


class Sweeps:
    """The sweeps for one batch of problems: the first two at once, the others for a direction of the weights.

    Args:
        network: what the records pass.
        x: (n, ...) the records, problem by problem.
        y: (n, classes) distributions over classes.
        problems: how many.

    Attributes:
        gradients: by name, (p, *shape) each problem's gradient of the mean cross-entropy.
    """

    def __init__(self, network: Network, x: Tensor, y: Float[Tensor, " n c"], problems: int):
        self._network, self._x, self._problems = network, x, problems
        self._steps: dict[fx.Node, Step] = {}
        logits = self._forward()
        # Of a mean of cross-entropies, each against a distribution that sums to `mass`.
        self._mass, self._odds = y.sum(-1, keepdim=True) * (problems / len(x)), torch.softmax(logits, dim=-1)
        self._share = problems / len(x)
        self.gradients = self._back(self._odds * self._mass - y * self._share)

    def _forward(self) -> Tensor:
        values: dict[fx.Node, Any] = {self._network.entrance: self._x, **self._network.constants}
        for place in self._network.places:
            values[place.node] = self._out(place, values)
        return values[self._network.exit]

    def _out(self, place: Place, values: Mapping[fx.Node, Any]) -> Any:
        """What comes out there; the pass is kept where that is numbers that hang on the records."""
        feeds = place.node.all_input_nodes
        fed = [feed for feed in feeds if feed in self._steps or feed is self._network.entrance]
        if not fed:
            return place.made(values)
        if place.layer is not None:
            out, passed = place.layer.passed(values[fed[0]], self._problems)
        else:
            closed = place.closed(values) if place.plain else None
            out, passed = closed or self._differentiated(place, fed, values)
        if passed is not None:
            self._steps[place.node] = Step(place, fed, passed)
        return out

    def _differentiated(
        self, place: Place, fed: Sequence[fx.Node], values: Mapping[fx.Node, Any]
    ) -> tuple[Any, Passing | None]:
        """What comes out there, and the pass; None where it is not numbers that hang on the records."""
        with torch.enable_grad():
            leaves = {feed: values[feed].detach().requires_grad_(True) for feed in fed}
            made = place.made({**values, **leaves})
        if isinstance(made, Tensor) and made.requires_grad:
            return made.detach(), Differentiated(list(leaves.values()), made)
        if isinstance(made, tuple | list) and any(isinstance(one, Tensor) for one in made):
            raise NotImplementedError(f"{place.node.target} makes several tensors")
        return made, None

    def statistics(self, layer: Layer) -> tuple[Float[Tensor, " p c"], Float[Tensor, " p c"]]:
        """Mean and variance of what each problem's records brought to a layer of batch normalisation."""
        met = [step.passed for step in self._steps.values() if step.place.layer is layer]
        if not met or not isinstance(met[-1], NormalisationPass):
            raise TypeError("a layer of batch normalisation that records pass was wanted")
        return met[-1].statistics()

    def _back(self, slope: Tensor) -> dict[str, Tensor]:
        slopes, gradients = {self._network.exit: slope}, dict[str, Tensor]()
        for node, step in reversed(self._steps.items()):
            slope_here = slopes.pop(node, None)
            if slope_here is None or not step.place.moving:
                continue
            if isinstance(step.passed, LayerPass):
                before = self._steps.get(step.fed[0])
                onward = before is not None and before.place.moving
                found = (step.passed.back(slope_here, onward),)
                for own, part in step.passed.gradients().items():
                    name = step.place.weights[own]
                    gradients[name] = gradients[name] + part if name in gradients else part
            else:
                found = step.passed.back(slope_here)
            _add(slopes, step.fed, found)
        return gradients

    def along(
        self, way: Mapping[str, Tensor], statistics: Mapping[Layer, tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """The slopes, in x and in y, of the loss's change along a direction of the weights.

        Args:
            way: by name, (p, *shape) each problem's direction.
            statistics: by layer of batch normalisation, slopes in the mean and variance that it saw, to be added.
        """
        moves: dict[fx.Node, Tensor] = {}
        for node, step in self._steps.items():
            if not step.place.moving:
                continue
            moved = [moves.get(feed) for feed in step.fed]
            if isinstance(step.passed, LayerPass):
                out = step.passed.along(moved[0], {own: way[name] for own, name in step.place.weights.items()})
            else:
                out = step.passed.along(moved)
            if out is not None:
                moves[node] = out
        moved = moves[self._network.exit]
        expected = (self._odds * moved).sum(-1, keepdim=True)
        less = moved - expected
        return self._again(self._mass * self._odds * less, statistics), less * -self._share

    def _again(self, pull: Tensor, statistics: Mapping[Layer, tuple[Tensor, Tensor]]) -> Tensor:
        pulls = {self._network.exit: pull}
        for node, step in reversed(self._steps.items()):
            pull_here, layer = pulls.pop(node, None), step.place.layer
            if pull_here is None:
                continue
            if isinstance(step.passed, NormalisationPass) and layer is not None:
                found = (step.passed.again(pull_here, statistics.get(layer)),)
            elif isinstance(step.passed, LayerPass):
                found = (step.passed.again(pull_here),)
            else:
                found = step.passed.again(pull_here)
            _add(pulls, step.fed, found)
        return pulls.get(self._network.entrance, torch.zeros_like(self._x))


def _add(sums: dict[fx.Node, Tensor], nodes: Sequence[fx.Node], parts: Sequence[Tensor | None]) -> None:
    for node, part in zip(nodes, parts, strict=True):
        if part is not None:
            sums[node] = sums[node] + part if node in sums else part
