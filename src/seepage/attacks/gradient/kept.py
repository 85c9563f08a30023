"""Which parts of an update are matched: those that the defenses an adversary knows of leave meaningful."""

import torch
from jaxtyping import Float
from torch import Tensor

from seepage.core.knowledge import UpdateKnowledge


def left_out(knowledge: UpdateKnowledge) -> frozenset[str]:
    """The parameters that known defenses make worthless (`Defense.left_out`)."""
    return frozenset[str]().union(*(defense.left_out(knowledge.net) for defense in knowledge.defenses))


def kept(knowledge: UpdateKnowledge, dtype: torch.dtype) -> Float[Tensor, " d"] | None:
    """(d,) 1 where an update is matched and 0 where not, in the order of the model's parameters; None for all of it.

    What is left out is left out of the simulated update and of the one that was sent: the match then says
    nothing of it (Balunovic et al. 2022, Bayesian Framework for Gradient Leakage, section 5, of Soteria).
    """
    names = left_out(knowledge)
    if not names:
        return None
    weights = knowledge.net.weights(dtype)
    return torch.cat([torch.full((w.numel(),), float(name not in names), dtype=dtype) for name, w in weights.items()])
