"""How far a simulated update lies from the one that was sent, and what else a record should satisfy.

Every function works on one row a problem and gives one number a problem.
"""

from collections.abc import Callable
from typing import Literal

from jaxtyping import Float
from torch import Tensor

ObjectiveName = Literal["squared", "relative", "cosine"]
Measure = Callable[[Tensor, Tensor], Tensor]


def squared(found: Float[Tensor, " p d"], wanted: Float[Tensor, " p d"]) -> Float[Tensor, " p"]:
    """Squared Euclidean distance (Zhu et al. 2019, equation 4)."""
    return (found - wanted).pow(2).sum(1)


def cosine(found: Float[Tensor, " p d"], wanted: Float[Tensor, " p d"]) -> Float[Tensor, " p"]:
    """One minus the cosine of the angle between the two (Geiping et al. 2020, equation 4)."""
    lengths = found.norm(dim=1) * wanted.norm(dim=1)
    return 1 - (found * wanted).sum(1) / lengths.clamp_min(1e-12)


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
