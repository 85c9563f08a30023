"""What a client's update tells of its texts before any search: what is matched, their classes, and their shape."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from seepage.attacks.gradient.embedded import Named
from seepage.attacks.gradient.embedding_rows import moved_rows
from seepage.attacks.gradient.kept import left_out
from seepage.core.errors import DataError
from seepage.core.knowledge import TextGradientKnowledge
from seepage.core.victim import Update
from seepage.models.text_clients import TextNet

Array = np.ndarray
# Standard deviations by which a row of a noisy embedding's gradient stands out of the others.
SIGMAS = 6.0
# Tokens a text is taken to have where neither the update nor public texts tell.
GUESSED_LENGTH = 8


@dataclass(frozen=True)
class Heard:
    """What one client's update says, and the shape that its texts are taken to have.

    Attributes:
        wanted: the gradient by name, of the weights that are matched, in the order of the model.
        scaled: whether its scale is that of a mean gradient, and not only its direction known.
        batch, length: texts, and the tokens that each is taken to have.
        labels: (b,) their classes; None where they are searched for, or there are none.
        allowed: (v,) tokens that are searched among.
        first, last: tokens that the tokenizer puts around every text.
        guessed: what was not told, by rung of the ladder.
        length_from: where the length comes from.
    """

    wanted: Named = field(repr=False)
    scaled: bool
    batch: int
    length: int
    labels: Int[Array, " b"] | None
    allowed: Bool[Tensor, " v"] = field(repr=False)
    first: tuple[int, ...]
    last: tuple[int, ...]
    guessed: Mapping[str, Any] = field(default_factory=dict[str, Any])
    length_from: str = ""

    @property
    def shape(self) -> tuple[Any, ...]:
        """What clients who are searched for together have in common."""
        return (self.scaled, self.batch, self.length, self.labels is None, self.first, self.last)

    @property
    def silent(self) -> bool:
        """Whether nothing was sent that could be matched."""
        return not any(bool(tensor.any()) for tensor in self.wanted.values())


def matched_names(knowledge: TextGradientKnowledge) -> tuple[str, ...]:
    """The weights whose gradients are matched: those trained, but the token embedding and what a defense spoils."""
    net: TextNet = knowledge.net
    spoiled = left_out(knowledge) | {net.embedding}
    return tuple(name for name in net.weights() if name not in spoiled)


def heard(knowledge: TextGradientKnowledge, update: Update, client: int, rows: bool, length: int | None) -> Heard:
    """Read one client's update.

    Classes that are told are used; those of a single text are read off the biases of the last layer (Zhao, Mopuri
    and Bilen 2020); others are to be found with the text. The length is that of the longest text, by the rows of the
    position embedding that moved; every text is taken to be as long.

    Args:
        knowledge: what the adversary holds.
        update: what the client sent.
        client: which one.
        rows: search only among the tokens whose row of the embedding moved, where they can be told.
        length: tokens of a text, for an adversary who knows; None reads it off or guesses.

    Raises:
        DataError: when a tensor is missing, of another shape, or not finite.
    """
    net, told = knowledge.net, knowledge.assumptions
    guessed: dict[str, Any] = {}
    scale, scaled = _scale(knowledge, update)
    weights = net.weights()
    wanted: dict[str, Tensor] = {}
    for name in matched_names(knowledge):
        try:
            sent = update.tensor(name, tuple(weights[name].shape))
        except DataError as error:
            raise DataError(f"client {client}: {error}") from error
        wanted[name] = torch.from_numpy(sent.astype(np.float32)) * scale
    labels = _told_labels(knowledge, client)
    batch = told.batch.value if labels is None else len(labels)
    if batch is None:
        batch = guessed["batch"] = 1
    if net.task == "causal-lm":
        labels = None
    elif labels is None:
        labels = _read_label(wanted, net.classes) if batch == 1 else None
        guessed["labels"] = "found with the texts" if labels is None else labels
    if told.mode.value is None:
        guessed["mode"] = "eval"
    first, last = around(net)
    long, why = _length(knowledge, update, length)
    long = max(long, len(first) + len(last) + 1, 2 if net.task == "causal-lm" else 1)
    return Heard(
        wanted,
        scaled,
        int(batch),
        min(long, net.length),
        labels,
        _allowed(net, update, rows),
        first,
        # Of several texts, one alone is sure to be as long as the longest.
        last if batch == 1 else (),
        guessed,
        why,
    )


def _scale(knowledge: TextGradientKnowledge, update: Update) -> tuple[float, bool]:
    """What turns an update into a mean gradient, and whether its length can then be believed."""
    told = knowledge.assumptions
    believed = not knowledge.defenses
    if update.kind != "delta":
        return 1.0, believed
    rate, steps = told.rate.value, told.steps.value
    return (-1.0 / (float(rate) * int(steps)), believed) if rate and steps else (-1.0, False)


def _told_labels(knowledge: TextGradientKnowledge, client: int) -> Int[Array, " b"] | None:
    told = knowledge.assumptions
    if told.labels.value is not None:
        return np.asarray(told.labels.value, dtype=np.int64).reshape(knowledge.clients, -1)[client]
    if told.counts.value is not None:
        counts = np.asarray(told.counts.value).reshape(knowledge.clients, -1)[client]
        return np.repeat(np.arange(len(counts)), counts)
    return None


def _read_label(wanted: Named, classes: int) -> Int[Array, " 1"] | None:
    """The class of the only text: its bias alone is raised. None where the last layer has no biases."""
    biases = [tensor for name, tensor in wanted.items() if name.endswith("bias") and tensor.shape == (classes,)]
    return np.array([int(biases[-1].argmin())]) if biases and bool(biases[-1].any()) else None


def around(net: TextNet) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The special tokens that the tokenizer puts before and behind every text."""
    if net.tokenizer is None:
        return (), ()
    special = set(net.tokenizer.all_special_ids)
    row = list(net.tokenizer("a")["input_ids"])
    plain = set(net.tokenizer("a", add_special_tokens=False)["input_ids"])
    put = [i for i, token in enumerate(row) if token in special and token not in plain]
    first = [row[i] for k, i in enumerate(put) if i == k]
    last = [row[i] for i in put if i >= len(first)]
    return tuple(first), tuple(last)


def position_table(net: TextNet) -> tuple[str, int] | None:
    """The name of the learned position embedding's weights and the first row in use; None where there is none."""
    module: nn.Module = net.module
    for name, part in module.named_modules():
        own = name.rpartition(".")[2]
        if isinstance(part, nn.Embedding) and ("position" in own or own in ("wpe", "embed_positions")):
            return f"{name}.weight", 0 if part.padding_idx is None else part.padding_idx + 1
    return None


def _length(knowledge: TextGradientKnowledge, update: Update, told: int | None) -> tuple[int, str]:
    """How long texts are taken to be, and why."""
    net = knowledge.net
    if told is not None:
        return told, "told"
    table = position_table(net)
    if table is not None and table[0] in update.tensors and table[0] not in left_out(knowledge):
        rows = np.linalg.norm(update.tensor(table[0]).astype(np.float64), axis=1)[table[1] :]
        moved = np.nonzero(rows)[0]
        if len(moved) == len(rows) and _noisy(knowledge, update):
            moved = moved_rows(rows, SIGMAS)
        if len(moved):
            # The last token of a text predicts nothing, and its place has no gradient.
            return int(moved.max()) + 1 + (net.task == "causal-lm"), "read off the position embedding"
    if knowledge.public is not None and len(knowledge.public):
        long = [int(mask.sum()) for mask in net.encode(knowledge.public.texts[:200]).mask]
        return int(np.median(long)), "guessed: the median of public texts"
    return min(GUESSED_LENGTH, net.length), "guessed"


def _noisy(knowledge: TextGradientKnowledge, update: Update) -> bool:
    """Whether rows may have moved that no token moved: a text as long as the model reads moves every place too."""
    net: TextNet = knowledge.net
    if net.tied or net.embedding not in update.tensors:
        return bool(knowledge.defenses)
    return bool(np.linalg.norm(update.tensor(net.embedding).astype(np.float64), axis=1).all())


def _allowed(net: TextNet, update: Update, rows: bool) -> Bool[Tensor, " v"]:
    """The tokens that are searched among."""
    allowed = torch.ones(net.vocabulary, dtype=torch.bool)
    if rows and not net.tied and net.embedding in update.tensors:
        moved = np.linalg.norm(update.tensor(net.embedding).astype(np.float64), axis=1)
        found = moved_rows(moved, SIGMAS)
        if len(found):
            allowed = torch.zeros_like(allowed)
            allowed[torch.from_numpy(found)] = True
    allowed[net.pad] = False
    return allowed


def written(net: TextNet, got: Heard, ids: Int[Tensor, " b t"]) -> tuple[str, ...]:
    """Token rows as texts, cut at the mark that ends a text."""
    texts: list[str] = []
    for row in ids.tolist():
        ends = [i for i, token in enumerate(row) if token in net.ends and i >= len(got.first)]
        texts.append(net.write(row[: ends[0] if ends else len(row)]))
    return tuple(texts)
