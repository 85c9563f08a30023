"""A client's gradient as a function of the embeddings of its tokens."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from seepage.attacks.gradient.written_out import WrittenOut
from seepage.models.text_clients import TextNet

Named = Mapping[str, Tensor]
# How sharply an embedding stands for its nearest token, where the token is what the loss predicts: cosines over this.
SHARP = 0.05
# Numbers of gradients held at a time.
AT_ONCE = 2**25


class Embedded:
    """The gradients that problems would send, by the embeddings of their tokens: differentiable twice.

    The embedding layer's output is replaced, so that all else (positions, masks, which token a classifier reads) is
    as the model does it. The token embedding's own gradient has no meaning for what is no token, and is left out.
    Attention is computed plainly, for the fused ways have no second derivative.

    Args:
        net: the model that was sent.
        names: the weights whose gradients are wanted, in this order.
        dtype: of the computation.
    """

    def __init__(self, net: TextNet, names: Sequence[str], dtype: torch.dtype = torch.float32):
        self._net, self.names = net, tuple(names)
        self._module: Any = net.module.to(dtype).requires_grad_(False)
        if hasattr(self._module, "set_attn_implementation"):
            self._module.set_attn_implementation("eager")
        self._held: list[Tensor] = []
        table: nn.Module = self._module.get_input_embeddings()
        table.register_forward_hook(lambda _module, _given, made: self._held[0] if self._held else made)
        # Some tables scale what they hold: the embedding of a token is what the layer says.
        with torch.no_grad():
            self.table: Float[Tensor, " v d"] = table(torch.arange(net.vocabulary)).detach()
        self.unit = functional.normalize(self.table, dim=-1)
        self._weights = {name: dict(self._module.named_parameters())[name] for name in self.names}
        self._some = next(i for i in range(net.vocabulary) if i != net.pad)
        self._mapped = self._agrees()

    @property
    def numbers(self) -> int:
        """How many numbers one problem's gradients have."""
        return sum(weight.numel() for weight in self._weights.values())

    def __call__(self, x: Float[Tensor, " p b t d"], y: Float[Tensor, " p b c"] | None) -> dict[str, Tensor]:
        """The gradient of the mean loss of each problem: (p, *shape) by name.

        Args:
            x: embeddings of the tokens; all texts are as long.
            y: distributions over the classes; None for next tokens, which the embeddings themselves stand for.
        """
        if self._mapped:
            return self._all(x, y)
        each = [self._one(x[i], None if y is None else y[i]) for i in range(len(x))]
        return {name: torch.stack([one[name] for one in each]) for name in self.names}

    def _loss(self, weights: Named, x: Tensor, y: Tensor | None) -> Tensor:
        ids = torch.full(x.shape[:2], self._some)
        self._held.append(x)
        try:
            given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            with WrittenOut():
                out = functional_call(self._module, dict(weights), (), given).logits
        finally:
            self._held.clear()
        if y is not None:
            return -(y * out.log_softmax(dim=-1)).sum(-1).mean()
        cosines = functional.normalize(x[:, 1:], dim=-1) @ self.unit.T
        follows = torch.softmax(cosines / SHARP, dim=-1)
        return -(follows * out[:, :-1].log_softmax(dim=-1)).sum(-1).mean()

    def _all(self, x: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        slope = grad(self._loss)
        return vmap(slope, in_dims=(None, 0, None if y is None else 0))(self._weights, x, y)

    def _one(self, x: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        held = {name: weight.detach().requires_grad_(True) for name, weight in self._weights.items()}
        loss = self._loss(held, x, y)
        slopes = torch.autograd.grad(loss, list(held.values()), create_graph=True, materialize_grads=True)
        return dict(zip(self.names, slopes, strict=True))

    def _agrees(self) -> bool:
        """Whether all problems can be worked on at once with the same result: some models look at their input."""
        some = torch.arange(12) % self._net.vocabulary
        x = self.table[some].reshape(2, 2, 3, -1)
        causal = self._net.task == "causal-lm"
        y = None if causal else torch.full((2, 2, self._net.classes), 1 / self._net.classes, dtype=x.dtype)
        try:
            found = self._all(x, y)
        except (RuntimeError, ValueError, NotImplementedError):
            self._held.clear()
            return False
        one = self._one(x[0], None if y is None else y[0])
        return all(torch.allclose(found[name][0], one[name].detach(), rtol=1e-3, atol=1e-5) for name in self.names)

    def nearest(self, x: Float[Tensor, " p b t d"], allowed: Bool[Tensor, " p 1 1 v"]) -> Int[Tensor, " p b t"]:
        """The token nearest to each embedding by the cosine, of those that are allowed."""
        cosines = functional.normalize(x, dim=-1) @ self.unit.T
        return cosines.masked_fill(~allowed, -torch.inf).argmax(dim=-1)
