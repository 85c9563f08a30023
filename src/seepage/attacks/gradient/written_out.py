"""Normalisation written out, where gradients of many problems are mapped and then differentiated."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class WrittenOut(TorchFunctionMode):
    """While it is entered, layer, batch and instance normalisation are computed by means and variances.

    torch's own rules for them under `torch.func.vmap` give the right gradients, and wrong slopes of these (2.13: of
    batch normalisation by the batch's own statistics even the sign may be wrong; compare issue 534 of
    pytorch/functorch). What matches gradients goes by the slopes.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _OWN.get(func, func)(*args, **(kwargs or {}))


def _level(x: Tensor, over: Sequence[int], epsilon: float) -> Tensor:
    var, mean = torch.var_mean(x, dim=list(over), unbiased=False, keepdim=True)
    return (x - mean) * torch.rsqrt(var + epsilon)


def _weighted(level: Tensor, weight: Tensor | None, bias: Tensor | None, sides: Sequence[int]) -> Tensor:
    if weight is not None:
        level = level * weight.reshape(sides)
    return level if bias is None else level + bias.reshape(sides)


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    over = range(-len(normalized_shape), 0)
    return _weighted(_level(input, over, eps), weight, bias, tuple(normalized_shape))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not training or running_mean is not None:
        # By running statistics it is a plain product; and where it keeps some, they are to be kept.
        return functional.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    over = [axis for axis in range(input.dim()) if axis != 1]
    return _weighted(_level(input, over, eps), weight, bias, (-1, *(1,) * (input.dim() - 2)))


def _instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not use_input_stats or running_mean is not None:
        return functional.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)
    return _weighted(_level(input, range(2, input.dim()), eps), weight, bias, (-1, *(1,) * (input.dim() - 2)))


_OWN: Mapping[Any, Callable[..., Tensor]] = {
    functional.layer_norm: _layer_norm,
    functional.batch_norm: _batch_norm,
    functional.instance_norm: _instance_norm,
}
