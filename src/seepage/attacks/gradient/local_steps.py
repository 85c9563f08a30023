"""A client's local steps, simulated so that records can be differentiated through them."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call, grad, vmap

from seepage.attacks.gradient.gradients import cross_entropy
from seepage.attacks.gradient.written_out import WrittenOut
from seepage.models.bottleneck import penalty_of
from seepage.models.federated import ClientNet, Mode


class LocalSteps:
    """The change of the weights that plain SGD makes over a client's records, one row a problem.

    The records of a problem are those of its passes one after another, `batch` a pass, in the order in which they are
    taken: `batch` records in all where every pass takes the same ones in the same order.

    Args:
        net: the model as the server sent it.
        mode: which statistics batch normalisation computes with.
        batch: records a client.
        local_batch: records a step.
        epochs: passes over the records.
        rate: learning rate.
        dtype: precision.
    """

    def __init__(
        self,
        net: ClientNet,
        mode: Mode,
        batch: int,
        local_batch: int,
        epochs: int,
        rate: float,
        dtype: torch.dtype = torch.float32,
    ):
        body = net.body(mode, dtype)
        sent = {name: w.detach() for name, w in body.named_parameters()}
        steps = [
            slice(epoch * batch + first, epoch * batch + min(first + local_batch, batch))
            for epoch in range(epochs)
            for first in range(0, batch, local_batch)
        ]
        self._passes, self._batch = epochs, batch

        def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
            with WrittenOut():
                return cross_entropy(functional_call(body, weights, (x,)), y).mean() + penalty_of(body)

        def change(x: Tensor, y: Tensor) -> Tensor:
            held = sent
            for step in steps:
                slope = grad(loss)(held, x[step], y[step])
                held = {name: w - rate * slope[name] for name, w in held.items()}
            return torch.cat([(held[name] - sent[name]).flatten() for name in sent])

        self._change: Callable[..., Tensor] = vmap(change)

    def __call__(self, x: Float[Tensor, " p b ..."], y: Float[Tensor, " p b c"]) -> Float[Tensor, " p d"]:
        if x.shape[1] == self._batch and self._passes > 1:
            x, y = (part.repeat(1, self._passes, *(1,) * (part.dim() - 2)) for part in (x, y))
        return self._change(x, y)
