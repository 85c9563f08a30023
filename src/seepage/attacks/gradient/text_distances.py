"""How far the gradients of guessed texts lie from those that were sent, tensor by tensor: one number a problem."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from seepage.attacks.gradient.embedded import Named

# Named gradients (p, *shape) found, and those wanted (p, *shape), or (1, *shape) for all, to (p,) how far they lie
# apart.
Distance = Callable[[Named, Named], Tensor]


def layerwise_cosine(found: Named, wanted: Named) -> Float[Tensor, " p"]:
    """The mean over tensors of one minus their cosine: what the code of Balunovic et al. 2022 calls `cos`.

    A tensor that was sent as zeros has no direction, and is left out.
    """
    total, counted = torch.zeros(()), torch.zeros(())
    for name, tensor in wanted.items():
        made, sent = found[name].flatten(1), tensor.flatten(1)
        length = sent.norm(dim=1)
        apart = 1 - (made * sent).sum(dim=1) / (made.norm(dim=1) * length).clamp_min(1e-12)
        told = (length > 0).to(apart.dtype)
        total, counted = total + told * apart, counted + told
    return total / counted.clamp_min(1.0)


def layerwise_l2_l1(alpha: float, linear: bool, scaled: bool) -> Distance:
    """l2 squared plus `alpha` l1 of the differences, tensor by tensor.

    The form is that of TAG (Deng et al. 2021) in the code of Balunovic et al. 2022, which weighs tensors evenly.

    Args:
        alpha: weight of l1.
        linear: whether tensors weigh less the later they stand in the model, falling evenly to 1 / their number.
        scaled: whether the scale of what was sent is known; else what is found is brought to its length first.
    """

    def distance(found: Named, wanted: Named) -> Tensor:
        total, names = torch.zeros(()), list(wanted)
        ratio = None if scaled else _ratio(found, wanted)
        for k, name in enumerate(names):
            weight = (len(names) - k) / len(names) if linear else 1.0
            made = found[name].flatten(1) if ratio is None else found[name].flatten(1) * ratio[:, None]
            apart = made - wanted[name].flatten(1)
            total = total + weight * (apart.pow(2).sum(1) + alpha * apart.abs().sum(1))
        return total

    return distance


def _ratio(found: Named, wanted: Named) -> Float[Tensor, " p"]:
    sent, made = (
        torch.stack([some[name].flatten(1).pow(2).sum(1) for name in wanted]).sum(dim=0) for some in (wanted, found)
    )
    return (sent / made.clamp_min(1e-24)).sqrt()
