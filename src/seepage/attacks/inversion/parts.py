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
ObjectiveName = Literal["cross-entropy", "margin", "logit"]


def cross_entropy(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Minus the log-probability of the wanted class: (n,)."""
    return functional.cross_entropy(logits, classes, reduction="none")


def margin(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """How far the best other class lies above the wanted one, in logits: (n,).

    Unlike the cross-entropy it keeps its gradient when the victim is already sure.
    """
    wanted = logits.gather(1, classes[:, None])[:, 0]
    others = logits.scatter(1, classes[:, None], -torch.inf)
    return others.max(dim=1).values - wanted


def logit(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Minus the wanted class's logit (the identity loss of Nguyen et al. 2023 without its regulariser): (n,)."""
    return -logits.gather(1, classes[:, None])[:, 0]


OBJECTIVES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "cross-entropy": cross_entropy,
    "margin": margin,
    "logit": logit,
}


def total_variation(x: torch.Tensor) -> torch.Tensor:
    """Anisotropic total variation of pictures (n, c, h, w), summed over pixels (Rudin et al. 1992): (n,)."""
    down = (x[..., 1:, :] - x[..., :-1, :]).abs().sum(dim=(1, 2, 3))
    across = (x[..., :, 1:] - x[..., :, :-1]).abs().sum(dim=(1, 2, 3))
    return down + across


def jittered(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Pictures moved a little; anything else as it is. A reconstruction should survive being moved."""
    return moved(x, rng, shift=0.06, zoom=0.06, turn=0.0) if x.dim() == 4 else x


def torch_rng(rng: np.random.Generator) -> torch.Generator:
    """A torch generator drawn from `rng`."""
    return torch.Generator().manual_seed(int(rng.integers(2**62)))


def best_of(confidence: Array, starts: int) -> Array:
    """For each class the row of its surest start; rows lie class by class, `starts` each."""
    per_class = confidence.reshape(-1, starts)
    return per_class.argmax(axis=1) + np.arange(len(per_class)) * starts
