"""How far a simulated update lies from the one that was sent, and what else a record should satisfy.

Every function works on one row a problem and gives one number a problem.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

ObjectiveName = Literal["squared", "relative", "cosine"]
Measure = Callable[[Tensor, Tensor], Tensor]
# Lengths below this count as this.
SHORTEST = 1e-12


def squared(found: Float[Tensor, " p d"], wanted: Float[Tensor, " p d"]) -> Float[Tensor, " p"]:
    """Squared Euclidean distance (Zhu et al. 2019, equation 4)."""
    apart = found - wanted
    return torch.linalg.vecdot(apart, apart)


def cosine(found: Float[Tensor, " p d"], wanted: Float[Tensor, " p d"]) -> Float[Tensor, " p"]:
    """One minus the cosine of the angle between the two (Geiping et al. 2020, equation 4); differentiable in `found`.

    The slope is taken in closed form, in two passes: it stands in every step of a search.
    """
    return _Angle.apply(found, wanted)


class _Angle(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, found: Tensor, wanted: Tensor) -> Tensor:
        own = torch.linalg.vector_norm(found, dim=1)
        lengths = own * torch.linalg.vector_norm(wanted, dim=1)
        cosines = torch.linalg.vecdot(found, wanted) / lengths.clamp_min(SHORTEST)
        ctx.save_for_backward(found, wanted, own, lengths, cosines)
        return 1 - cosines

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride] - torch's own way to write it
        (slope,) = grad_outputs
        found, wanted, own, lengths, cosines = ctx.saved_tensors
        # No turn of a vector as short as nothing is felt in its length.
        along = torch.where(lengths > SHORTEST, slope * cosines / own.square().clamp_min(SHORTEST**2), 0.0)
        across = -slope / lengths.clamp_min(SHORTEST)
        return (found * along[:, None]).addcmul_(wanted, across[:, None]), None


def relative(found: Float[Tensor, " p d"], wanted: Float[Tensor, " p d"]) -> Float[Tensor, " p"]:
    """Squared distance in units of the squared length of what is wanted."""
    return squared(found, wanted) / wanted.pow(2).sum(1).clamp_min(1e-24)


OBJECTIVES: dict[str, Measure] = {"squared": squared, "relative": relative, "cosine": cosine}


def total_variation(x: Float[Tensor, " p b ..."]) -> Float[Tensor, " p"]:
    """Mean absolute difference of neighbouring pixels, down plus across, over a problem's pictures; else zero."""
    if x.dim() != 5:
        return x.new_zeros(len(x))
    down = (x[..., 1:, :] - x[..., :-1, :]).abs().mean(dim=(1, 2, 3, 4))
    across = (x[..., :, 1:] - x[..., :, :-1]).abs().mean(dim=(1, 2, 3, 4))
    return down + across


def apart(x: Float[Tensor, " g s ..."]) -> Float[Tensor, " g s"]:
    """Mean squared distance of each of `s` versions of a thing from the mean of its group."""
    return (x - x.mean(dim=1, keepdim=True)).pow(2).flatten(2).mean(2)
