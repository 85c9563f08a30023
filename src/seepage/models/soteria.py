"""The representation that a client's gradient gives away, made poorer: the defense of Sun et al. 2021 (Soteria)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from seepage.core.errors import ConfigError

# Keeps the quotient finite for features that are zero, as in the published code.
_APART = 0.1
# Values of the Jacobian that are held at once.
_AT_ONCE = 2**24


@dataclass(frozen=True)
class PrunedFeatures:
    """Which entries of the last layer's gradient a client leaves out.

    Attributes:
        share: of the features, those whose entries are sent as zero.
    """

    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ConfigError(f"a share of the features between 0 and 1 was wanted, got {self.share:g}")


def sensitivity(features: Callable[[Tensor], Tensor], x: Float[Tensor, " n ..."]) -> Float[Tensor, " d"]:
    """How much each feature moves with the records, relative to its size: sum_i |d f_j / d x_i| / (f_j(x_i) + 0.1).

    Its inverse is what bounds how far a record moves when the feature is left out (Sun et al. 2021, section 4; with
    the 0.1 of their code). The whole Jacobian is taken in batched backward passes, not one for each feature.

    Args:
        features: records to the input of the last layer, (n, d).
        x: the records.
    """
    held = x.detach().requires_grad_(True)
    seen = features(held)
    size, width = held.numel(), seen.shape[1]
    unit = torch.eye(width, dtype=seen.dtype)
    step = max(1, _AT_ONCE // size)
    total = torch.zeros(width, dtype=seen.dtype)
    for first in range(0, width, step):
        rows = unit[first : first + step]
        along = rows[:, None, :].expand(-1, len(x), -1)
        (slopes,) = torch.autograd.grad(seen, held, along, retain_graph=True, is_grads_batched=True)
        lengths = slopes.flatten(2).norm(dim=2)
        total[first : first + step] = (lengths.T / (seen.detach()[:, first : first + step] + _APART)).sum(dim=0)
    return total


def kept_features(features: Callable[[Tensor], Tensor], x: Tensor, pruned: PrunedFeatures) -> Float[Tensor, " d"]:
    """(d,) 1 for the features whose entries are sent and 0 for the share that are least sensitive."""
    told = sensitivity(features, x).abs()
    threshold = float(np.quantile(told.numpy(), pruned.share))
    return (told >= threshold).to(told)
