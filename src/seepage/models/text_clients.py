"""A client of federated learning who trains a transformer on texts: the model as sent, and the update it sends back."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from seepage.core.errors import ConfigError, DataError, ModelError
from seepage.core.recipe import Recipe
from seepage.core.records import Records
from seepage.core.seeds import stream
from seepage.core.victim import Update, Updates
from seepage.models.federated import LocalTraining, Mode
from seepage.models.private import PerRecord, clipped_sum, noised, refuse_batch_norm
from seepage.models.training import seeded

Array = np.ndarray
Named = Mapping[str, Tensor]
Task = Literal["classification", "causal-lm"]
# (texts, classes, weights) -> what a step goes along.
Slope = Callable[["Batch", Tensor | None, Named], dict[str, Tensor]]


@dataclass(frozen=True)
class Batch:
    """Token sequences of one batch, padded on the right.

    Attributes:
        ids: (n, t) token numbers; the padding's where `mask` is False.
        mask: (n, t) which of them are tokens of the texts.
    """

    ids: Int[Array, " n t"]
    mask: Bool[Array, " n t"]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Int[Array, " m"]) -> "Batch":
        """The chosen sequences, without columns that are padding in all of them."""
        most = max(1, int(self.mask[rows].sum(axis=1).max(initial=1)))
        return Batch(self.ids[rows, :most], self.mask[rows, :most])

    def sequences(self) -> list[tuple[int, ...]]:
        """The sequences without their padding."""
        return [tuple(row[kept].tolist()) for row, kept in zip(self.ids, self.mask, strict=True)]


class TextNet:
    """A model of the `transformers` library at the weights that the server sent, as a function of its weights.

    Parameter names are those of the module, which are those of an update; weights with `requires_grad` off are
    frozen: no update speaks of them. Padding stands on the right and is masked, so that it has no part in the loss.

    Args:
        module: a model whose answer has `logits`: (n, classes) for "classification", (n, t, vocabulary) for
            "causal-lm"; copied.
        task: the loss: mean cross-entropy of the class, or of every next token.
        tokenizer: of the `transformers` library; None for a model of which token numbers alone are known: a text is
            then its token numbers, as in "17 4 205".
        length: tokens read of a text; what follows is cut. By default as many as the model has positions.

    Raises:
        ModelError: for a module that is no such model.
    """

    def __init__(
        self, module: nn.Module, task: Task = "classification", tokenizer: Any = None, length: int | None = None
    ):
        own: Any = copy.deepcopy(module).eval()
        config = getattr(own, "config", None)
        if config is None or not hasattr(own, "get_input_embeddings"):
            raise ModelError(f"a model of the transformers library was wanted, got a {type(module).__name__}")
        if getattr(config, "is_encoder_decoder", False):
            raise ModelError(
                "an encoder or a decoder was wanted; this model is both, and its clients are not simulated"
            )
        if not any(weight.requires_grad for weight in own.parameters()):
            raise ModelError(
                "every weight of the client's model is frozen: there is nothing that an update could be of"
            )
        self.task: Task = task
        self.tokenizer = tokenizer
        self.family: str = str(getattr(config, "model_type", "unknown"))
        self.vocabulary = int(own.get_input_embeddings().weight.shape[0])
        known = None if tokenizer is None else tokenizer.pad_token_id
        self.pad: int = int(next(p for p in (known, config.pad_token_id, 0) if p is not None))
        # Classifiers of sequences that are read from left to right find their last token by it.
        config.pad_token_id = self.pad
        most = int(getattr(config, "max_position_embeddings", 0) or 512)
        # Models of the RoBERTa family number positions from behind the padding token's.
        counted = [m for m in own.modules() if isinstance(m, nn.Embedding) and m.num_embeddings == most]
        most -= max((m.padding_idx + 1 for m in counted if m.padding_idx is not None), default=0)
        self.length = most if length is None else min(length, most)
        self._eval = own
        with torch.no_grad():
            out = self.logits(torch.full((1, 3), self._some_token), torch.ones(1, 3, dtype=torch.bool))
        wanted = 2 if task == "classification" else 3
        if out.ndim != wanted:
            raise ModelError(
                f"the model answered logits of shape {tuple(out.shape)} for one text; "
                f"{wanted} dimensions were wanted for '{task}'"
            )
        self.classes = int(out.shape[-1]) if task == "classification" else 0

    @property
    def _some_token(self) -> int:
        return next(i for i in range(self.vocabulary) if i != self.pad)

    @cached_property
    def _train(self) -> Any:
        return copy.deepcopy(self._eval).train()

    @property
    def module(self) -> Any:
        """A copy of the model, in evaluation mode."""
        return copy.deepcopy(self._eval)

    @property
    def parameters(self) -> int:
        """How many weights there are, frozen ones included."""
        return sum(weight.numel() for weight in self._eval.parameters())

    @property
    def embedding(self) -> str:
        """The name of the token embedding's weights."""
        table = self._eval.get_input_embeddings().weight
        return next(name for name, weight in self._eval.named_parameters() if weight is table)

    @property
    def trained_names(self) -> frozenset[str]:
        """The names of the weights that are not frozen."""
        return frozenset(name for name, weight in self._eval.named_parameters() if weight.requires_grad)

    @property
    def tied(self) -> bool:
        """Whether the output layer shares the token embedding: its gradient then has no row of zeros."""
        head = self._eval.get_output_embeddings()
        return head is not None and head.weight is self._eval.get_input_embeddings().weight

    @property
    def drops(self) -> bool:
        """Whether any layer drops values at random in "train" mode."""
        return any(isinstance(layer, nn.Dropout) and layer.p > 0 for layer in self._eval.modules())

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that the tokenizer puts at the end of every text; none where it puts no such token."""
        if self.tokenizer is None:
            return frozenset()
        last = {row[-1] for row in self.tokenizer(["a", "b c"])["input_ids"] if row}
        return frozenset(last & set(self.tokenizer.all_special_ids)) if len(last) == 1 else frozenset()

    def weights(self, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """The weights that are trained, by name, detached copies."""
        named = self._eval.named_parameters()
        return {name: w.detach().clone().to(dtype) for name, w in named if w.requires_grad}

    def encode(self, texts: Sequence[str]) -> Batch:
        """Texts as the model reads them, cut to `length` tokens.

        Raises:
            DataError: without a tokenizer, for a text that is no list of token numbers; for an empty one.
        """
        rows = [self._ids(text) for text in texts]
        most = max((len(row) for row in rows), default=1)
        ids = np.full((len(rows), most), self.pad, dtype=np.int64)
        mask = np.zeros((len(rows), most), dtype=bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)], mask[i, : len(row)] = row, True
        return Batch(ids, mask)

    def _ids(self, text: str) -> list[int]:
        if self.tokenizer is None:
            parts = text.split()
            if not all(part.isdecimal() and int(part) < self.vocabulary for part in parts):
                raise DataError(
                    f"this model has no tokenizer: token numbers from 0 to {self.vocabulary - 1} were wanted, as in "
                    f"'17 4 205', got '{text[:40]}'; give a tokenizer, or such numbers"
                )
            row = [int(part) for part in parts][: self.length]
        else:
            row = list(self.tokenizer(text, truncation=True, max_length=self.length)["input_ids"])
        if not row:
            raise DataError(f"a text of one token or more was wanted, got '{text[:40]}'")
        return row

    def write(self, ids: Sequence[int]) -> str:
        """A token sequence as text, without the special tokens; without a tokenizer, its token numbers."""
        if self.tokenizer is None:
            return " ".join(str(i) for i in ids)
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True)).strip()

    def read(self, text: str) -> str:
        """What is left of a text once the model has read it: cut, folded and spaced as its tokenizer does."""
        return self.write(self._ids(text))

    def logits(self, ids: Tensor, mask: Tensor, weights: Named | None = None, mode: Mode = "eval") -> Tensor:
        """The model's logits for padded sequences (n, t); differentiable by `weights` (those sent, when not given)."""
        own = self._eval if mode == "eval" else self._train
        out = functional_call(own, dict(weights or {}), (), {"input_ids": ids, "attention_mask": mask.long()})
        return out.logits

    def loss(self, batch: Batch, y: Tensor | None, weights: Named | None = None, mode: Mode = "eval") -> Tensor:
        """The mean loss over a batch: of its classes (n,), or over all next tokens of all its texts."""
        ids, mask = torch.from_numpy(batch.ids), torch.from_numpy(batch.mask)
        out = self.logits(ids, mask, weights, mode)
        if self.task == "causal-lm":
            follows = mask[:, 1:]
            return functional.cross_entropy(out[:, :-1][follows], ids[:, 1:][follows])
        if y is None:
            raise DataError("the model classifies texts, and these have no classes")
        return functional.cross_entropy(out, y)

    def gradient(self, batch: Batch, y: Tensor | None, weights: Named, mode: Mode = "eval") -> dict[str, Tensor]:
        """The gradient of the mean loss by parameter; zero where the loss knows no way."""
        held = {name: w if w.requires_grad else w.requires_grad_(True) for name, w in weights.items()}
        found = torch.autograd.grad(self.loss(batch, y, held, mode), list(held.values()), materialize_grads=True)
        return dict(zip(held, found, strict=True))

    def trained(
        self,
        batch: Batch,
        y: Tensor | None,
        rows: list[Int[Array, " _"]],
        rate: float,
        mode: Mode,
        dtype: torch.dtype,
        along: Slope | None = None,
    ) -> dict[str, Tensor]:
        """The weights after one step of SGD for each of `rows`, starting from those sent.

        Each step goes along the gradient of the mean loss, or along what `along` makes of (texts, classes, weights).
        """
        held: dict[str, Tensor] = self.weights(dtype)
        for some in rows:
            texts, classes = batch[some], None if y is None else y[torch.from_numpy(some)]
            slope = self.gradient(texts, classes, held, mode) if along is None else along(texts, classes, held)
            held = {name: (w - rate * slope[name]).detach() for name, w in held.items()}
        return held

    def clipped(self, batch: Batch, y: Tensor | None, weights: Named, mode: Mode, clip: float) -> dict[str, Tensor]:
        """The sum over texts of their gradients, each shortened to l2 norm `clip` over all weights that are trained.

        A text's gradient is that of its own mean loss, as if it were alone in its batch: of next tokens, a long text
        counts no more than a short one. A text of one token has no next one, and adds nothing.
        """
        follows = batch.mask.sum(axis=1) > (1 if self.task == "causal-lm" else 0)
        each = (
            self.gradient(batch[np.array([i])], None if y is None else y[i : i + 1], weights, mode)
            for i in np.nonzero(follows)[0].tolist()
        )
        return clipped_sum(each, {name: w.detach() for name, w in weights.items()}, clip)

    def round(
        self,
        texts: Sequence[str],
        y: Int[Array, " n"] | None,
        local: LocalTraining,
        rng: np.random.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> Update:
        """The update that a client with these texts sends.

        Args:
            texts: its records.
            y: their classes, for "classification".
            local: what it does.
            rng: draws the order of the records, anew for each epoch, and what dropout drops.
            dtype: precision of the computation; the tensors are sent in it.

        Raises:
            DataError: for texts that cannot be read, or classes that the model does not have.
            ModelError: when texts are to be clipped one by one and meet batch normalisation.
        """
        if y is not None and self.classes and int(y.max()) >= self.classes:
            raise DataError(f"classes 0 to {self.classes - 1} were wanted for this model, got {int(y.max())}")
        batch, labels = self.encode(texts), None if y is None else torch.from_numpy(y).long()
        own = self if dtype is torch.float32 else self.to(dtype)
        with seeded(int(rng.integers(2**62))):
            before, along = own.weights(dtype), own._slope(local, len(texts), rng)
            if local.kind == "gradient":
                sent = along(batch, labels, before)
            else:
                rows = [r for _ in range(local.epochs) for r in local.batches(len(texts), rng.permutation(len(texts)))]
                after = own.trained(batch, labels, rows, local.rate, local.mode, dtype, along)
                sent = {name: after[name] - before[name] for name in before}
        return Update({name: g.detach().numpy() for name, g in sent.items()}, local.kind)

    def _slope(self, local: LocalTraining, n: int, rng: np.random.Generator) -> Slope:
        """What a client goes along: the gradient, or with texts clipped one by one a noised one."""
        private = local.private
        if private is None:
            return lambda batch, y, weights: self.gradient(batch, y, weights, local.mode)
        refuse_batch_norm(self._eval)
        # From a stream of its own: the order of the texts is then that of an undefended client.
        draws = torch.Generator().manual_seed(int(rng.spawn(1)[0].integers(2**62)))
        expected = n if local.kind == "gradient" else min(local.batch or n, n)

        def along(batch: Batch, y: Tensor | None, weights: Named) -> dict[str, Tensor]:
            summed = self.clipped(batch, y, weights, local.mode, private.clip)
            return noised(summed, private, expected, draws)

        return along

    def to(self, dtype: torch.dtype) -> "TextNet":
        """The same model in another precision, frozen weights included."""
        return TextNet(self.module.to(dtype), self.task, self.tokenizer, self.length)


def text_recipe(net: TextNet, local: LocalTraining, records: Records, each: int, name: str = "clients") -> Recipe:
    """How clients make their updates of texts: what a defense that acts inside the client changes.

    Args:
        net: the model that they are sent.
        local: what each does; the option `local` of the recipe.
        records: their texts, one client's after another's.
        each: how many texts a client has.
        name: of the streams that the clients draw from.
    """

    def train(
        records: Records,
        seed: int,
        local: LocalTraining = local,
        private: PerRecord | None = None,
        pruned: object = None,
        bottleneck: object = None,
    ) -> Updates:
        for given, what in ((pruned, "what of a layer's gradient is sent"), (bottleneck, "the model")):
            if given is not None:
                raise ConfigError(
                    f"a defense that changes {what} by records that are arrays cannot be put before clients who train "
                    "on texts"
                )
        if len(records) % each:
            raise DataError(f"{each} texts a client were wanted, {len(records)} cannot be shared out so")
        does = replace(local, private=private or local.private)
        y = records.labels() if net.task == "classification" else None
        sent: list[Update] = []
        for client, rows in enumerate(np.arange(len(records)).reshape(-1, each)):
            rng = stream(seed, "federation", name, str(client))
            sent.append(net.round(records[rows].texts, None if y is None else y[rows], does, rng))
        return Updates(tuple(sent))

    return Recipe(train, records, "federated round", options={"local": local})
