"""What the attention layers of a transformer see: their names, their inputs, what a token looks like to the first.

Found by probing the model with tokens, not by its class, so that any stack of attention layers will do whose
projections have names in common use.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from seepage.core.victim import Update
from seepage.models.text_clients import TextNet

Array = np.ndarray

# The layers that read the input of attention, as implementations name them; c_attn and its like are fused.
PROJECTIONS = frozenset(
    {
        "c_attn",
        "query_key_value",
        "qkv_proj",
        "Wqkv",
        "query",
        "key",
        "value",
        "q_proj",
        "k_proj",
        "v_proj",
        "q_lin",
        "k_lin",
        "v_lin",
        "query_proj",
        "key_proj",
        "value_proj",
    }
)


class _Seen(Exception):
    """The input of the layer that was asked for."""

    def __init__(self, tensor: Tensor):
        super().__init__()
        self.tensor = tensor


@dataclass(frozen=True)
class AttentionLayer:
    """The projections that read one attention layer's input.

    Attributes:
        modules: their names in the model.
        columns: whether the input runs along the rows of their weights (d, out) instead of the columns.
    """

    modules: tuple[str, ...]
    columns: tuple[bool, ...]

    @property
    def weights(self) -> tuple[str, ...]:
        """The names of their weights."""
        return tuple(f"{name}.weight" for name in self.modules)

    def gradient(self, update: Update) -> Float[Array, " k d"]:
        """Their gradients below each other: every row is a combination of the layer's inputs.

        Raises:
            DataError: when the update lacks one, or one is not finite.
        """
        parts: list[Array] = []
        for name, turned in zip(self.weights, self.columns, strict=True):
            tensor = update.tensor(name)
            if tensor.dtype.itemsize < 4:
                tensor = tensor.astype(np.float32)
            parts.append(tensor.T if turned else tensor)
        return np.concatenate(parts)


class Reader:
    """A model of texts, read up to an attention layer.

    Attributes:
        layers: the attention layers in their order.
        causal: whether a token sees only those before it.
        positioned: whether the first layer sees where a token stands (not so with rotary positions).
        apart: whether the first layer sees each token by itself, and not its neighbours.
    """

    def __init__(self, net: TextNet, dtype: torch.dtype = torch.float32):
        self._net, self._dtype = net, dtype
        self._module: Any = net.module.to(dtype).requires_grad_(False)
        self.layers = attention_layers(self._module)
        self.vocabulary, self.length = net.vocabulary, net.length
        self.causal, self.positioned, self.apart = False, False, False
        if len(self.layers) >= 2:
            self._probe()

    def _probe(self) -> None:
        one, other = (i for i in (1, 2, 3) if i != self._net.pad) if self._net.pad in (1, 2) else (1, 2)
        ids = torch.tensor([[one, one, one], [one, one, other]])
        first, second = self.inputs(0, ids), self.inputs(1, ids)
        self.positioned = not torch.allclose(first[0, 0], first[0, 1], atol=1e-6)
        self.apart = bool(torch.allclose(first[0, :2], first[1, :2], atol=1e-6))
        self.causal = bool(torch.allclose(second[0, :2], second[1, :2], atol=1e-6))

    @cached_property
    def capacity(self) -> int:
        """How many directions the first layer's inputs can have at all: normalisation often leaves one out."""
        width = int(self.inputs(0, torch.tensor([[1]])).shape[-1])
        # Sums of a token and a place: as many of each as can fill the space.
        ids = torch.arange(min(self.vocabulary, 2 * width))
        seen = self.tokens(ids, 0, min(8, self.length)).reshape(-1, width).double()
        values = torch.linalg.eigvalsh(seen.T @ seen)
        return int((values > 1e-10 * values[-1]).sum())

    def inputs(self, layer: int, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """(n, t, d) what an attention layer sees of token sequences (n, t), which are not padded unless `mask` says."""
        where: nn.Module = self._module.get_submodule(self.layers[layer].modules[0])

        def stop(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
            raise _Seen(given[0])

        handle = where.register_forward_pre_hook(stop)
        try:
            with torch.no_grad():
                self._module(input_ids=ids, attention_mask=torch.ones_like(ids) if mask is None else mask.long())
        except _Seen as seen:
            return seen.tensor
        finally:
            handle.remove()
        raise ValueError(f"the model ran without its attention layer {layer}")

    def tokens(self, ids: Tensor, first: int, last: int) -> Tensor:
        """(n, last - first, d) what the first layer sees of each token at each of these positions.

        A sequence of one token only shows it at every position at once.
        """
        if not self.positioned:
            return self.inputs(0, ids[:, None])
        return self.inputs(0, ids[:, None].expand(-1, last))[:, first:]


def attention_layers(module: nn.Module) -> tuple[AttentionLayer, ...]:
    """The attention layers of a model, by the names of their projections; none where they have other names."""
    found: dict[int, list[tuple[str, bool]]] = {}
    for name, part in module.named_modules():
        weight = getattr(part, "weight", None)
        pieces = name.split(".")
        number = next((int(piece) for piece in pieces if piece.isdecimal()), None)
        if pieces[-1] not in PROJECTIONS or number is None or not isinstance(weight, Tensor) or weight.ndim != 2:
            continue
        # GPT-2's own layer keeps its weights the other way round.
        found.setdefault(number, []).append((name, type(part).__name__ == "Conv1D"))
    return tuple(
        AttentionLayer(tuple(name for name, _ in parts), tuple(turned for _, turned in parts))
        for _, parts in sorted(found.items())
    )
