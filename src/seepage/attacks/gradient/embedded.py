"""A client's gradient as a function of the embeddings of its tokens, and what an update tells of the texts' shape."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from seepage.attacks.gradient.embedding_rows import moved_rows
from seepage.attacks.gradient.kept import left_out
from seepage.attacks.gradient.written_out import WrittenOut
from seepage.core.errors import DataError
from seepage.core.knowledge import Knowledge, TextGradientKnowledge
from seepage.core.outlook import Outlook
from seepage.core.victim import Update
from seepage.models.text_clients import TextNet

Array = np.ndarray
Named = Mapping[str, Tensor]
# How sharply an embedding stands for its nearest token, where the token is what the loss predicts: cosines over this.
SHARP = 0.05
# Standard deviations by which a row of a noisy embedding's gradient stands out of the others.
SIGMAS = 6.0
# Tokens a text is taken to have where neither the update nor public texts tell.
GUESSED_LENGTH = 8
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

    def nearest(self, x: Float[Tensor, " ... d"], allowed: Bool[Tensor, " v"]) -> Int[Tensor, " ..."]:
        """The token nearest to each embedding by the cosine, of those that are allowed."""
        cosines = functional.normalize(x, dim=-1) @ self.unit.T
        return cosines.masked_fill(~allowed, -torch.inf).argmax(dim=-1)


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


def search_obstacle(knowledge: Knowledge) -> str | None:
    """Why no gradient can be simulated at all, or None."""
    if not isinstance(knowledge, TextGradientKnowledge):
        return None
    if knowledge.net is None:
        return "it needs the model that the update is of"
    if not matched_names(knowledge):
        return "nothing but the token embedding is trained: there is no gradient to match"
    return None


def search_outlook(knowledge: TextGradientKnowledge, update: Update, steps: float, restarts: int) -> Outlook:
    """What matching gradients of texts can do, and the seconds it takes: `steps` evaluations a restart and client."""
    why = search_obstacle(knowledge)
    if why is not None:
        return Outlook(prospect="impossible", why=why, change="a client that trains more than its token embedding")
    got = heard(knowledge, update, 0, rows=False, length=None)
    if got.silent:
        return Outlook(prospect="impossible", why="the update is zero throughout: there is nothing to match")
    seconds = _seconds(knowledge.net, got) * steps * restarts * knowledge.clients
    told, net = knowledge.assumptions, knowledge.net
    if told.mode.value == "train" and net.drops:
        return Outlook(
            prospect="unlikely",
            why="clients train with dropout: no text makes this gradient without the same draws",
            change="a client who computes its gradient without dropout",
            seconds=seconds,
        )
    if update.kind == "delta" and (told.steps.value or 2) > 1:
        return Outlook(
            prospect="unlikely",
            why="the update sums several local steps, each at other weights, and is matched as if it were one",
            change="a single local step",
            seconds=seconds,
        )
    shape = f"{got.batch} text{'s' * (got.batch > 1)} of {got.length} tokens an update ({got.length_from})"
    if got.batch > 4:
        return Outlook(
            prospect="unlikely",
            why=f"{shape}: published results are of 1 to 4 texts",
            change="fewer texts an update",
            seconds=seconds,
        )
    return Outlook(
        prospect="possible",
        why=f"{shape}: a search over embeddings",
        change="longer texts or more of them an update, or noise",
        seconds=seconds,
    )


def _seconds(net: TextNet, got: Heard) -> float:
    """Of one evaluation of one problem, with its slope."""
    simulate = Embedded(net, tuple(got.wanted))
    x = simulate.table[: got.batch * got.length].new_zeros(1, got.batch, got.length, simulate.table.shape[1])
    x = (x + simulate.table[1]).requires_grad_(True)
    y = None if net.task == "causal-lm" else torch.full((1, got.batch, net.classes), 1 / net.classes)
    begun = time.perf_counter()
    found = simulate(x, y)
    torch.autograd.grad(torch.stack([g.pow(2).sum() for g in found.values()]).sum(), x, allow_unused=True)
    return time.perf_counter() - begun


# Named gradients (p, *shape) found, and those wanted, to (p,) how far they lie apart.
Distance = Callable[[Named, Named], Tensor]


def layerwise_cosine(found: Named, wanted: Named) -> Float[Tensor, " p"]:
    """The mean over tensors of one minus their cosine (Balunovic et al. 2022, section 3, L_cos).

    A tensor that was sent as zeros has no direction, and is left out.
    """
    parts: list[Tensor] = []
    for name, sent in wanted.items():
        if not bool(sent.any()):
            continue
        made = found[name].flatten(1)
        lengths = made.norm(dim=1) * sent.norm()
        parts.append(1 - (made @ sent.flatten()) / lengths.clamp_min(1e-12))
    return torch.stack(parts).mean(dim=0)


def layerwise_l2_l1(alpha: float, linear: bool, scaled: bool) -> Distance:
    """l2 squared plus `alpha` l1 of the differences, tensor by tensor (Deng et al. 2021, equation 4).

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
            apart = made - wanted[name].flatten()
            total = total + weight * (apart.pow(2).sum(1) + alpha * apart.abs().sum(1))
        return total

    return distance


def _ratio(found: Named, wanted: Named) -> Float[Tensor, " p"]:
    sent = torch.stack([tensor.pow(2).sum() for tensor in wanted.values()]).sum()
    made = torch.stack([found[name].flatten(1).pow(2).sum(1) for name in wanted]).sum(dim=0)
    return (sent / made.clamp_min(1e-24)).sqrt()
