"""Gradients with every record's share clipped and noise added: a step of DP-SGD."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import grad, vmap

from seepage.core.errors import ConfigError, ModelError

# (x, y, weights) -> the mean loss, differentiable in the weights.
LossOf = Callable[[Tensor, Tensor, Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class PerRecord:
    """How much one record may move a gradient.

    Attributes:
        clip: the greatest l2 norm of a record's gradient, over all weights together.
        noise: standard deviation of the Gaussian noise on the sum, in units of `clip`.
    """

    clip: float
    noise: float

    def __post_init__(self) -> None:
        if not (self.clip > 0 and self.noise >= 0):
            raise ConfigError(
                f"a clip above 0 and noise of 0 or more were wanted, got {self.clip:g} and {self.noise:g}"
            )


def refuse_batch_norm(module: nn.Module) -> None:
    """Nothing, unless records meet each other in a layer.

    Raises:
        ModelError: for batch normalisation: the gradient of one record is then not its own.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):  # pyright: ignore[reportPrivateUsage]
            raise ModelError(
                f"records cannot be clipped one by one: the layer '{name}' ({type(layer).__name__}) mixes the records "
                "of a batch; put torch.nn.GroupNorm in its place (opacus.validators.ModuleValidator.fix does)"
            )


def clipped_gradients(
    loss: LossOf, x: Tensor, y: Tensor, weights: Mapping[str, Tensor], clip: float
) -> dict[str, Tensor]:
    """The sum over records of their gradients, each shortened to l2 norm `clip` over all weights.

    A record's factor is min(1, clip / (norm + 1e-6)), as in Opacus.

    Args:
        loss: (x, y, weights) -> mean loss, of batches of one here.
        x: (n, *shape) records.
        y: (n,) classes.
        weights: where the gradient is taken.
        clip: the greatest norm.
    """
    held = {name: w.detach() for name, w in weights.items()}

    def one(weights: dict[str, Tensor], record: Tensor, label: Tensor) -> Tensor:
        return loss(record[None], label[None], weights)

    each: dict[str, Tensor] = vmap(grad(one), in_dims=(None, 0, 0), randomness="different")(held, x, y)
    squares = torch.stack([g.reshape(len(x), -1).square().sum(dim=1) for g in each.values()])
    factor = _factor(squares.sum(dim=0), clip)
    return {name: torch.einsum("i,i...->...", factor, g) for name, g in each.items()}


def clipped_sum(
    gradients: Iterable[Mapping[str, Tensor]], like: Mapping[str, Tensor], clip: float
) -> dict[str, Tensor]:
    """The same sum of gradients that come one by one: for records that cannot be stacked, such as texts.

    Args:
        gradients: of one record each, by the names of `like`.
        like: tensors of the shapes of a gradient; what an empty sum has zeros of.
        clip: the greatest norm.
    """
    total = {name: torch.zeros_like(w) for name, w in like.items()}
    for gradient in gradients:
        factor = _factor(torch.stack([g.square().sum() for g in gradient.values()]).sum(), clip)
        for name, g in gradient.items():
            total[name] += factor * g
    return total


def _factor(squares: Tensor, clip: float) -> Tensor:
    """What gradients of these squared lengths are multiplied by."""
    return (clip / (squares.sqrt() + 1e-6)).clamp(max=1.0)


def noised(
    summed: Mapping[str, Tensor], private: PerRecord, expected: int, draws: torch.Generator
) -> dict[str, Tensor]:
    """A sum of clipped gradients with noise, over the expected number of records; drawn anew for each tensor."""
    deviation = private.noise * private.clip

    def one(total: Tensor) -> Tensor:
        drawn = torch.randn(total.shape, generator=draws, dtype=torch.float64).to(total.dtype)
        return (total + deviation * drawn) / expected

    return {name: one(total) for name, total in summed.items()}


def private_gradient(
    loss: LossOf,
    x: Tensor,
    y: Tensor,
    weights: Mapping[str, Tensor],
    private: PerRecord,
    expected: int,
    draws: torch.Generator,
) -> dict[str, Tensor]:
    """The gradient that a step of DP-SGD goes along: clipped, summed, noised, over the expected number of records.

    The one that Opacus leaves in `p.grad` after `optimizer.pre_step()` (Abadi et al. 2016, Deep Learning with
    Differential Privacy, CCS, algorithm 1).

    Args:
        loss: (x, y, weights) -> mean loss.
        x: (n, *shape) records.
        y: (n,) classes.
        weights: where the gradient is taken.
        private: clipping and noise.
        expected: records a step, by which the sum is divided whatever came.
        draws: the noise is drawn from it, anew for each tensor.
    """
    return noised(clipped_gradients(loss, x, y, weights, private.clip), private, expected, draws)
