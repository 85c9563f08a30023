"""Layers that give each problem's gradients of their weights when many problems go through as one batch.

For z = W a + c of one record the gradient of a loss is dW = dz a^T, dc = dz (Goodfellow 2015, Efficient
Per-Example Gradient Computations); a convolution is the same over its patches. Everything stays
differentiable, which matching of gradients needs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Call:
    """One pass through a layer: what its weights were multiplied with, and what came out."""

    held: Tensor
    out: Tensor


class Layer(nn.Module):
    """Base: remembers its calls since `begin`."""

    def __init__(self, weight: Tensor | None, bias: Tensor | None):
        super().__init__()
        self.weights = {
            name: tensor.detach() for name, tensor in (("weight", weight), ("bias", bias)) if tensor is not None
        }
        self.calls: list[Call] = []
        self.problems = 1

    def begin(self, problems: int) -> None:
        """Forget earlier calls; the next batch holds this many problems, each with as many records."""
        self.problems = problems
        self.calls = []

    def grouped(self, x: Tensor) -> Tensor:
        """The batch axis as (problems, records)."""
        return x.unflatten(0, (self.problems, -1))

    def gradients(self, call: Call, slope: Tensor) -> dict[str, Float[Tensor, " p ..."]]:
        """Each problem's gradients of the weights, from the slope of what came out."""
        raise NotImplementedError


class LinearLayer(Layer):
    """`nn.Linear`, on records (n, d)."""

    def __init__(self, layer: nn.Linear):
        super().__init__(layer.weight, layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 2:
            raise NotImplementedError("a linear layer on more than one vector a record")
        out = functional.linear(x, self.weights["weight"], self.weights.get("bias"))
        self.calls.append(Call(x, out))
        return out

    def gradients(self, call: Call, slope: Tensor) -> dict[str, Float[Tensor, " p ..."]]:
        slope, held = self.grouped(slope), self.grouped(call.held)
        found = {"weight": slope.mT @ held, "bias": slope.sum(1)}
        return {name: found[name] for name in self.weights}


class ConvolutionLayer(Layer):
    """`nn.Conv2d` as a product with patches: their extraction serves the gradients too.

    Raises:
        KeyError: for groups, or padding other than with zeros.
    """

    def __init__(self, layer: nn.Conv2d):
        super().__init__(layer.weight, layer.bias)
        if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            raise KeyError("a convolution in groups, or padded in another way than with zeros")
        self._size = (layer.kernel_size[0], layer.kernel_size[1])
        self._stride = (layer.stride[0], layer.stride[1])
        self._padding = (int(layer.padding[0]), int(layer.padding[1]))
        self._dilation = (layer.dilation[0], layer.dilation[1])
        self._flat = self.weights["weight"].flatten(1)

    def _rows(self, height: int) -> int:
        reach = self._dilation[0] * (self._size[0] - 1) + 1
        return (height + 2 * self._padding[0] - reach) // self._stride[0] + 1

    def forward(self, x: Tensor) -> Tensor:
        patches = functional.unfold(x, self._size, self._dilation, self._padding, self._stride)
        out = self._flat @ patches
        if "bias" in self.weights:
            out = out + self.weights["bias"][:, None]
        self.calls.append(Call(patches, out))
        return out.unflatten(2, (self._rows(x.shape[2]), -1))

    def gradients(self, call: Call, slope: Tensor) -> dict[str, Float[Tensor, " p ..."]]:
        weight = self.grouped(slope @ call.held.mT).sum(1)
        found = {
            "weight": weight.unflatten(2, self.weights["weight"].shape[1:]),
            "bias": self.grouped(slope).sum((1, 3)),
        }
        return {name: found[name] for name in self.weights}


class NormalisationLayer(Layer):
    """Batch normalisation: by running statistics where the layer has them, else by those of each problem's records.

    Attributes:
        mean, var: (p, channels) the statistics of what each problem's records brought, after a pass.
    """

    def __init__(self, layer: nn.Module):
        super().__init__(getattr(layer, "weight", None), getattr(layer, "bias", None))
        running: tuple[Tensor | None, Tensor | None] = (
            getattr(layer, "running_mean", None),
            getattr(layer, "running_var", None),
        )
        self.running = None if running[0] is None or running[1] is None else (running[0].detach(), running[1].detach())
        self._epsilon = float(getattr(layer, "eps", 1e-5))
        self.mean, self.var = torch.zeros(0), torch.zeros(0)

    def forward(self, x: Tensor) -> Tensor:
        sides = (1,) * (x.dim() - 2)
        apart = self.grouped(x)
        over = [axis for axis in range(apart.dim()) if axis != 2]
        over.remove(0)
        self.var, self.mean = torch.var_mean(apart, dim=over, unbiased=False)
        if self.running is None:
            mean, var = (part.unflatten(1, (1, -1, *sides)) for part in (self.mean, self.var))
            level = ((apart - mean) * torch.rsqrt(var + self._epsilon)).flatten(0, 1)
        else:
            mean, var = (part.reshape(-1, *sides) for part in self.running)
            level = (x - mean) * torch.rsqrt(var + self._epsilon)
        out = level
        if "weight" in self.weights:
            out = out * self.weights["weight"].reshape(-1, *sides)
        if "bias" in self.weights:
            out = out + self.weights["bias"].reshape(-1, *sides)
        self.calls.append(Call(level, out))
        return out

    def gradients(self, call: Call, slope: Tensor) -> dict[str, Float[Tensor, " p ..."]]:
        def summed(x: Tensor) -> Tensor:
            apart = self.grouped(x)
            return apart.sum([axis for axis in range(1, apart.dim()) if axis != 2])

        found: dict[str, Tensor] = {}
        if "weight" in self.weights:
            found["weight"] = summed(slope * call.held)
        if "bias" in self.weights:
            found["bias"] = summed(slope)
        return found


LAYERS: Mapping[type[nn.Module], Callable[..., Layer]] = {
    nn.Linear: LinearLayer,
    nn.Conv2d: ConvolutionLayer,
    nn.BatchNorm1d: NormalisationLayer,
    nn.BatchNorm2d: NormalisationLayer,
}
