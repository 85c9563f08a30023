"""Parts that inversion attacks are composed of: objectives, penalties, selection.

Every part works on a batch in which each row goes for a class of its own.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch.nn import functional

from seepage.models.training import moved

Array = np.ndarray
ObjectiveName = Literal["cross-entropy", "margin", "logit", "poincare"]
# Keeps the wanted corner inside the unit ball, as published (Struppek et al. 2022).
CORNER = 1e-4


def cross_entropy(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Minus the log-probability of the wanted class: (n,)."""
    return functional.cross_entropy(logits, classes, reduction="none")


def margin(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """How far the best other class lies above the wanted one, in logits: (n,).

    Unlike the cross-entropy it keeps its gradient when the victim is already sure. It is the max-margin
    loss of PLG-MI (Yuan et al. 2023) as well: the same formula.
    """
    wanted = logits.gather(1, classes[:, None])[:, 0]
    others = logits.scatter(1, classes[:, None], -torch.inf)
    return others.max(dim=1).values - wanted


def logit(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Minus the wanted class's logit (the identity loss of Nguyen et al. 2023 without its regulariser): (n,)."""
    return -logits.gather(1, classes[:, None])[:, 0]


def poincare(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Distance in the Poincare ball from the logits, scaled to L1 norm 1, to the wanted corner: (n,).

    arccosh(1 + 2 |u - v|^2 / ((1 - |u|^2) (1 - |v|^2))) with u = logits / |logits|_1 and v the one-hot
    vector of the class less 1e-4 (Struppek et al. 2022). Its slope does not vanish when the victim is sure.
    With two classes u says little more than which is greater: use another.
    """
    u = logits / logits.abs().sum(dim=1, keepdim=True).clamp_min(1e-12)
    v = functional.one_hot(classes, logits.shape[1]).to(logits.dtype) * (1 - CORNER)
    # A lone logit that is not zero lies on the rim itself, where distances have no end.
    inside = (1 - (u**2).sum(dim=1)).clamp_min(CORNER)
    apart = ((u - v) ** 2).sum(dim=1) / (inside * (1 - (v**2).sum(dim=1)))
    return torch.arccosh(1 + 2 * apart)


OBJECTIVES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "cross-entropy": cross_entropy,
    "margin": margin,
    "logit": logit,
    "poincare": poincare,
}


def total_variation(x: torch.Tensor) -> torch.Tensor:
    """Anisotropic total variation of pictures (n, c, h, w), summed over pixels (Rudin et al. 1992): (n,)."""
    down = (x[..., 1:, :] - x[..., :-1, :]).abs().sum(dim=(1, 2, 3))
    across = (x[..., :, 1:] - x[..., :, :-1]).abs().sum(dim=(1, 2, 3))
    return down + across


def jittered(x: torch.Tensor, rng: torch.Generator, amount: float = 0.06) -> torch.Tensor:
    """Pictures shifted and zoomed by up to `amount` of their side; anything else as it is.

    A reconstruction should survive being moved. It is not mirrored: a mirrored digit is none.
    """
    return moved(x, rng, shift=amount, zoom=amount, turn=0.0, mirror=False) if x.dim() == 4 else x


def views(x: torch.Tensor) -> list[torch.Tensor]:
    """A picture as it is, its mirror image, and the middle nine tenths of both; anything else as it is alone.

    The flips and crops under which Plug & Play chooses its starts (Struppek et al. 2022), always the same.
    """
    if x.dim() != 4:
        return [x]
    theta = torch.tensor([[0.9, 0.0, 0.0], [0.0, 0.9, 0.0]], dtype=x.dtype).expand(len(x), 2, 3)
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    near = functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
    return [x, x.flip(-1), near, near.flip(-1)]


def onto_l1_ball(x: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """The nearest rows of L1 norm at most `radius` (n,), in the Euclidean sense: (n, d).

    Exact: the absolute values are lowered by the one threshold under which they sum to the radius
    (Duchi, Shalev-Shwartz, Singer & Chandra 2008, figure 1), each row's own.

    Raises:
        ValueError: for a radius that is negative.
    """
    if (radius < 0).any():
        raise ValueError(f"a radius of zero or more was wanted, got {float(radius.min()):g}")
    size = x.abs()
    inside = size.sum(dim=1) <= radius
    falling = size.sort(dim=1, descending=True).values
    count = torch.arange(1, x.shape[1] + 1, dtype=x.dtype)
    lowered = (falling.cumsum(dim=1) - radius[:, None]) / count
    last = (falling > lowered).sum(dim=1).clamp_min(1)
    threshold = lowered.gather(1, last[:, None] - 1)
    held = x.sign() * (size - threshold).clamp_min(0)
    return torch.where(inside[:, None], x, torch.where(radius[:, None] > 0, held, torch.zeros_like(x)))


def torch_rng(rng: np.random.Generator) -> torch.Generator:
    """A torch generator drawn from `rng`."""
    return torch.Generator().manual_seed(int(rng.integers(2**62)))


def best_of(confidence: Array, starts: int) -> Array:
    """For each class the row of its surest start; rows lie class by class, `starts` each."""
    per_class = confidence.reshape(-1, starts)
    return per_class.argmax(axis=1) + np.arange(len(per_class)) * starts
