"""What one pass of many problems through a layer with weights leaves for the sweeps that follow (`sweeps`).

For z = W a + c of one record the gradient of a loss is dW = dz a^T, dc = dz (Goodfellow 2015, Efficient
Per-Example Gradient Computations); a convolution is the same over its patches. Along a direction (V, e) of the weights,
while a moves by a', the output moves by z' = V a + W a' + e, which is linear in V: problems with directions of their
own share one pass.
"""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

Named = Mapping[str, Tensor]


class Layer:
    """A layer with weights.

    Attributes:
        weights: by their own names, detached.
    """

    def __init__(self, weight: Tensor | None, bias: Tensor | None):
        self.weights = {
            name: tensor.detach() for name, tensor in (("weight", weight), ("bias", bias)) if tensor is not None
        }

    def passed(self, x: Tensor, problems: int) -> "tuple[Tensor, LayerPass]":
        """What comes out for the records of all problems, x (problems times records, ...), and the pass."""
        raise NotImplementedError


class LayerPass:
    """One pass through a layer. Its methods are called in this order, those from `along` on once or again."""

    def back(self, slope: Tensor, onward: bool) -> Tensor | None:
        """From the loss's slope in what came out that in what came in; None if that is not asked for (`onward`)."""
        raise NotImplementedError

    def gradients(self) -> dict[str, Float[Tensor, " p ..."]]:
        """Each problem's gradients of the weights."""
        raise NotImplementedError

    def along(self, moved: Tensor | None, way: Named) -> Tensor:
        """How what came out moves along each problem's direction of the weights, while what came in moves so."""
        raise NotImplementedError

    def again(self, pull: Tensor) -> Tensor:
        """The slope, in what came in, of the loss's change along that direction, from the one in what came out."""
        raise NotImplementedError


class LinearLayer(Layer):
    """`nn.Linear`, on one vector a record or several."""

    def __init__(self, layer: nn.Linear):
        super().__init__(layer.weight, layer.bias)

    def passed(self, x: Tensor, problems: int) -> tuple[Tensor, LayerPass]:
        out = functional.linear(x, self.weights["weight"], self.weights.get("bias"))
        return out, _LinearPass(self.weights, x.reshape(problems, -1, x.shape[-1]), out.shape)


class _LinearPass(LayerPass):
    def __init__(self, weights: Named, held: Float[Tensor, " p n i"], made: torch.Size):
        self._weights, self._held, self._made = weights, held, made

    def back(self, slope: Tensor, onward: bool) -> Tensor | None:
        self._slope = slope.reshape(len(self._held), -1, slope.shape[-1])
        return slope @ self._weights["weight"] if onward else None

    def gradients(self) -> dict[str, Float[Tensor, " p ..."]]:
        found = {"weight": self._slope.mT @ self._held, "bias": self._slope.sum(1)}
        return {name: found[name] for name in self._weights}

    def along(self, moved: Tensor | None, way: Named) -> Tensor:
        self._way = way["weight"]
        out = self._held @ self._way.mT
        if "bias" in way:
            out = out + way["bias"][:, None]
        out = out.reshape(self._made)
        return out if moved is None else out + functional.linear(moved, self._weights["weight"])

    def again(self, pull: Tensor) -> Tensor:
        own = pull @ self._weights["weight"]
        return own + (self._slope @ self._way).reshape(own.shape)


class ConvolutionLayer(Layer):
    """`nn.Conv2d` as a product with patches, which serve all sweeps.

    Patches are cut from pictures whose channels lie innermost: a row of a patch is then one run of memory, and cutting
    costs a fraction of what `functional.unfold` takes.

    Raises:
        KeyError: for groups, or padding other than with zeros.
    """

    def __init__(self, layer: nn.Conv2d):
        super().__init__(layer.weight, layer.bias)
        if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            raise KeyError("a convolution in groups, or padded in another way than with zeros")
        self.size = (layer.kernel_size[0], layer.kernel_size[1])
        self.stride = (layer.stride[0], layer.stride[1])
        self.padding = (int(layer.padding[0]), int(layer.padding[1]))
        self.dilation = (layer.dilation[0], layer.dilation[1])
        self._sides: dict[tuple[int, int], tuple[int, int]] = {}
        # The order of the patches, and that of `functional.fold`.
        self.inner = self.patchwise(self.weights["weight"]).contiguous()
        self.folded = self.weights["weight"].flatten(1)

    def patchwise(self, kernels: Float[Tensor, " ... o i h w"]) -> Float[Tensor, " ... o k"]:
        """Kernels with their numbers in the order of the patches': channels innermost."""
        return kernels.movedim(-3, -1).flatten(-3)

    def sides(self, given: tuple[int, int]) -> tuple[int, int]:
        """Height and width of what comes out, from those of what comes in."""
        if given not in self._sides:
            high, wide = (
                (side + 2 * p - d * (k - 1) - 1) // s + 1
                for side, p, d, k, s in zip(given, self.padding, self.dilation, self.size, self.stride, strict=True)
            )
            self._sides[given] = high, wide
        return self._sides[given]

    def patches(self, x: Float[Tensor, " n i h w"]) -> Float[Tensor, " n l k"]:
        """All patches of every picture."""
        n, channels, height, width = x.shape
        (down, across), (high, wide) = self.padding, self.sides((height, width))
        room = x.new_zeros(n, height + 2 * down, width + 2 * across, channels)
        room[:, down : down + height, across : across + width] = x.permute(0, 2, 3, 1)
        one, row, column, _ = room.stride()
        steps = (self.stride[0] * row, self.stride[1] * column, self.dilation[0] * row, self.dilation[1] * column)
        cut = room.as_strided((n, high, wide, *self.size, channels), (one, *steps, 1))
        return cut.reshape(n, high * wide, -1)

    def each(self, patches: Float[Tensor, " n l k"]) -> Float[Tensor, " n o l"]:
        """The weights times the patches, picture by picture: faster than all at once, for the kernels are few."""
        return torch.bmm(self.inner.expand(len(patches), -1, -1), patches.mT)

    def spread(self, patches: Float[Tensor, " n k l"], sides: tuple[int, int]) -> Float[Tensor, " n i h w"]:
        """Patches, in the order of `folded`, summed where they lie."""
        return functional.fold(patches, sides, self.size, self.dilation, self.padding, self.stride)

    def passed(self, x: Tensor, problems: int) -> tuple[Tensor, LayerPass]:
        patches = self.patches(x)
        out = self.each(patches)
        if "bias" in self.weights:
            out += self.weights["bias"][:, None]
        given = (x.shape[2], x.shape[3])
        return out.view(*out.shape[:2], *self.sides(given)), _ConvolutionPass(self, patches, given, problems)


class _ConvolutionPass(LayerPass):
    def __init__(
        self, layer: ConvolutionLayer, patches: Float[Tensor, " n l k"], given: tuple[int, int], problems: int
    ):
        self._layer, self._patches, self._given, self._problems = layer, patches, given, problems

    def _by_problem(self, x: Float[Tensor, " n o l"]) -> Float[Tensor, " p o bl"]:
        if len(x) == self._problems:
            return x
        apart = x.reshape(self._problems, -1, *x.shape[1:])
        return apart.transpose(1, 2).flatten(2)

    def back(self, slope: Tensor, onward: bool) -> Tensor | None:
        self._slope = slope.flatten(2)
        return self._layer.spread(self._layer.folded.mT @ self._slope, self._given) if onward else None

    def gradients(self) -> dict[str, Float[Tensor, " p ..."]]:
        slope = self._by_problem(self._slope)
        held = self._patches.reshape(self._problems, -1, self._patches.shape[2])
        weight, size = slope @ held, self._layer.size
        found = {"weight": weight.view(*weight.shape[:2], *size, -1).movedim(-1, -3), "bias": slope.sum(2)}
        return {name: found[name] for name in self._layer.weights}

    def along(self, moved: Tensor | None, way: Named) -> Tensor:
        self._way = way["weight"]
        held = self._patches.reshape(self._problems, -1, self._patches.shape[2])
        out = self._layer.patchwise(self._way) @ held.mT
        if "bias" in way:
            out += way["bias"][:, :, None]
        if len(self._patches) > self._problems:
            out = out.view(*out.shape[:2], -1, self._patches.shape[1]).transpose(1, 2).flatten(0, 1)
        if moved is not None:
            out += self._layer.each(self._layer.patches(moved))
        return out.view(*out.shape[:2], *self._layer.sides(self._given))

    def again(self, pull: Tensor) -> Tensor:
        way, each = self._way.flatten(2), len(self._slope) // self._problems
        found = self._layer.folded.mT @ pull.flatten(2)
        found.baddbmm_((way.repeat_interleave(each, 0) if each > 1 else way).mT, self._slope)
        return self._layer.spread(found, self._given)


class NormalisationLayer(Layer):
    """Batch normalisation: by running statistics where the layer has them, else by those of each problem's records.

    Attributes:
        mean, var: (p, channels) the statistics of what each problem's records brought, after a pass that was asked for
            them; differentiable.
    """

    def __init__(self, layer: nn.Module):
        super().__init__(getattr(layer, "weight", None), getattr(layer, "bias", None))
        running: tuple[Tensor | None, Tensor | None] = (
            getattr(layer, "running_mean", None),
            getattr(layer, "running_var", None),
        )
        self.running = None if running[0] is None or running[1] is None else (running[0].detach(), running[1].detach())
        self.epsilon = float(getattr(layer, "eps", 1e-5))
        self.mean, self.var = torch.zeros(0), torch.zeros(0)

    def passed(self, x: Tensor, problems: int) -> "tuple[Tensor, NormalisationPass]":
        made = NormalisationPass(self, x, problems)
        return made.out(), made


class NormalisationPass(LayerPass):
    """One pass through batch normalisation: everything as (problems, records, channels, values).

    In formulas, with m the mean over a problem's records and values: level h = (x - m x) r, r = (var + e)^(-1/2),
    and for a change x' of x: h' = J x' = r (x' - m x' - h m(h x')). J is symmetric.
    """

    def __init__(self, layer: NormalisationLayer, x: Tensor, problems: int):
        self._layer, self._shape = layer, x.shape
        apart = self._apart(x, problems)
        self._problems, self._count = problems, apart.shape[1] * apart.shape[3]
        if layer.running is None:
            var, mean = torch.var_mean(apart, dim=(1, 3), unbiased=False, keepdim=True)
        else:
            mean, var = (part.reshape(1, 1, -1, 1) for part in layer.running)
        self._scale = torch.rsqrt(var + layer.epsilon)
        self._level = (apart - mean) * self._scale
        self._mean = mean

    def out(self) -> Tensor:
        """What came out."""
        return self._weighted(self._level, self._layer.weights).reshape(self._shape)

    def _apart(self, x: Tensor, problems: int) -> Float[Tensor, " p b c s"]:
        return x.reshape(problems, -1, x.shape[1], x[0, 0].numel())

    def _weighted(self, level: Tensor, weights: Named) -> Tensor:
        if "weight" in weights:
            level = level * weights["weight"][:, None]
        return level + weights["bias"][:, None] if "bias" in weights else level

    def _turned(self, x: Tensor) -> Tensor:
        """J x."""
        if self._layer.running is not None:
            return x * self._scale
        over = (1, 3)
        with_level = (self._level * x).mean(over, keepdim=True)
        return self._scale * (x - x.mean(over, keepdim=True) - self._level * with_level)

    def statistics(self) -> tuple[Float[Tensor, " p c"], Float[Tensor, " p c"]]:
        """Mean and (biased) variance of what each problem's records brought."""
        given = self._level / self._scale
        var, mean = torch.var_mean(given, dim=(1, 3), unbiased=False)
        return mean + self._mean.reshape(-1, mean.shape[1]), var

    def back(self, slope: Tensor, onward: bool) -> Tensor | None:
        self._slope = self._apart(slope, self._problems)
        self._inside = self._weighted(self._slope, {k: w for k, w in self._layer.weights.items() if k == "weight"})
        return self._turned(self._inside).reshape(self._shape) if onward else None

    def gradients(self) -> dict[str, Float[Tensor, " p ..."]]:
        found: dict[str, Tensor] = {}
        if "weight" in self._layer.weights:
            found["weight"] = (self._slope * self._level).sum((1, 3))
        if "bias" in self._layer.weights:
            found["bias"] = self._slope.sum((1, 3))
        return found

    def along(self, moved: Tensor | None, way: Named) -> Tensor:
        self._way, self._moved = way, None if moved is None else self._apart(moved, self._problems)
        out = torch.zeros_like(self._level)
        if self._moved is not None:
            mine = {k: w for k, w in self._layer.weights.items() if k == "weight"}
            out = self._weighted(self._turned(self._moved), mine)
        if "weight" in way:
            out = out + self._level * way["weight"][:, None, :, None]
        if "bias" in way:
            out = out + way["bias"][:, None, :, None]
        return out.reshape(self._shape)

    def again(self, pull: Tensor, statistics: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """As every layer's; `statistics`: slopes in the mean and the variance (p, channels), which are added."""
        apart = self._apart(pull, self._problems)
        if "weight" in self._layer.weights:
            apart = apart * self._layer.weights["weight"].reshape(-1, 1)
            apart = apart + self._slope * self._way["weight"][:, None, :, None]
        found = self._bent(apart) if self._moved is not None and self._layer.running is None else self._turned(apart)
        if statistics is not None:
            mean, var = (part[:, None, :, None] for part in statistics)
            given = self._level / self._scale
            found = found + (mean + 2 * var * (given - given.mean((1, 3), keepdim=True))) / self._count
        return found.reshape(self._shape)

    def _bent(self, apart: Tensor) -> Tensor:
        """J c for c = `apart`, and the slope of <g, J x'> in x, where g is the loss's slope in the level.

        <g, J x'> = N r (m(g X) - s q), X = x' - m x', s = m(g h), q = m(h x'). With r' = -r^2 m(h x') for any change
        x', its slope is -r^2 (m(g X) - s q) h - J (r (q g + s x')).
        """
        over, r, g, moved = (1, 3), self._scale, self._inside, self._moved
        assert moved is not None
        s = (g * self._level).mean(over, keepdim=True)
        q = (moved * self._level).mean(over, keepdim=True)
        with_moved = (g * (moved - moved.mean(over, keepdim=True))).mean(over, keepdim=True)
        return self._turned(apart - r * (q * g + s * moved)) - r.square() * (with_moved - s * q) * self._level


LAYERS: Mapping[type[nn.Module], Callable[..., Layer]] = {
    nn.Linear: LinearLayer,
    nn.Conv2d: ConvolutionLayer,
    nn.BatchNorm1d: NormalisationLayer,
    nn.BatchNorm2d: NormalisationLayer,
}
