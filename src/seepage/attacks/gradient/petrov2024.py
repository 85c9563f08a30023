"""Exact sequences of tokens from the gradients of two attention layers."""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from seepage.attacks.gradient.attention import Reader, attention_layers
from seepage.attacks.gradient.noise import sharpest, standing_out
from seepage.attacks.gradient.orders import Orders, Places, read_both_ways, read_forward
from seepage.attacks.gradient.span import Span, outlying
from seepage.core.attack import TextGradientAttack
from seepage.core.guess import Texts
from seepage.core.knowledge import Knowledge, TextGradientKnowledge
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update
from seepage.models.text_clients import TextNet

Array = np.ndarray
# Positions tried at a time: most texts end within the first of them.
_BLOCK = 16
# Those that are looked at before an attack.
_GLANCED = 4


class Dager(TextGradientAttack):
    """Tries every token at every position against the span of the first attention layer's gradient.

    The rows of the gradient of an attention layer's projections (query, key and value together: the query alone
    does not see a first token) span the inputs of that layer, as long as a batch has fewer tokens than the model is
    wide. The inputs of the first layer are known up to the token: LN(embedding + position), so that each token of
    the vocabulary is tried at each position. Decoders: prefixes grow by one token at a time, and are kept where the
    second layer's input at their end lies in the span of the second layer's gradient; a token sees only those
    before it, so that each step is decided by itself. Encoders: whole sequences are changed one token at a time
    until all their inputs to the second layer lie in that span (the paper tries all combinations; this finds
    longer ones). Models without positions in the first layer (rotary ones) have one set of tokens for all places.

    Tolerances follow from the spectrum of the update itself (`span.Span`). Where it has no end, because noise was
    added to the update, candidates are those that stand out of all others by `sigmas` standard deviations: the
    answer of an adversary who knows of the noise.
    """

    name: ClassVar[str] = "dager"
    title: ClassVar[str] = "Tokens in the span of attention gradients"
    cites: ClassVar[tuple[str, ...]] = (
        "Petrov, Dimitrov, Baader, Mueller, Vechev 2024, DAGER: Exact Gradient Inversion for Large Language Models, "
        "NeurIPS",
    )
    uses: ClassVar[frozenset[str]] = frozenset({"batch", "mode"})
    version: ClassVar[int] = 2

    sigmas: float = Field(default=4.0, gt=0, description="noise: deviations below the middle at which a token is taken")
    beam: int = Field(default=256, ge=1, description="prefixes or sequences followed at a time, at the most")
    restarts: int = Field(default=3, ge=1, description="encoders: searches without a find after which one ends")
    chunk: int = Field(default=2**27, ge=1, description="numbers of layer inputs held at a time: memory, not results")

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if isinstance(knowledge, TextGradientKnowledge):
            layers = len(attention_layers(knowledge.net.module))
            if layers < 2:
                return (
                    f"it reads two attention layers, and finds {layers} in this model by the names of their "
                    "projections (c_attn, query, q_proj, ...)"
                )
            reader = Reader(knowledge.net)
            if not reader.apart:
                return "the first attention layer does not see each token by itself"
        return super().obstacle(knowledge, budget)

    def outlook(self, knowledge: TextGradientKnowledge, update: Update) -> Outlook | None:
        layers = attention_layers(knowledge.net.module)
        if len(layers) < 2:
            return Outlook(prospect="impossible", why=f"the model has {len(layers)} attention layers, of two needed")
        if knowledge.assumptions.mode.value == "train" and knowledge.net.drops:
            return Outlook(
                prospect="unlikely",
                why="clients train with dropout: what the first layer saw of a token is no token's embedding",
                change="a client who computes its gradient without dropout",
            )
        reader = Reader(knowledge.net, _precision(update))
        space, second = self._spans(reader, update, knowledge.net.pad, _GLANCED)
        shown = f"the gradient of the first attention layer has rank {space.rank} of {space.size}"
        if space.rank == 0:
            why = f"{shown} above the noise of the update" if space.noisy else f"{shown}: it is zero"
            return Outlook(prospect="impossible", why=why, change="less noise" if space.noisy else "")
        if not space.noisy and space.rank >= reader.capacity:
            return Outlook(
                prospect="impossible",
                why=f"{shown}, as many as any tokens have: the batch holds as many tokens as the model is wide, or "
                f"more (records x tokens >= {space.size}), and every token lies in the span",
                change="fewer or shorter records an update, or a wider model",
            )
        if space.noisy:
            return self._through_noise(reader, space, update, knowledge.net.pad)
        if update.kind == "delta" and (knowledge.assumptions.steps.value or 2) > 1:
            return Outlook(
                prospect="possible",
                why=f"{shown}, summed over local steps, of which all but the first saw other weights",
                change="a single local step, or a lower learning rate",
            )
        if not second.noisy and second.rank < space.rank:
            return Outlook(
                prospect="unlikely",
                why=f"{shown}, and that of the second has rank {second.rank}: not every token's input to it lies in "
                "its span (where the loss sees one token a text, the last layer's heads add two directions each), so "
                "that texts cannot be put together",
                change="a deeper model, shorter texts, or a loss over every token",
            )
        return Outlook(
            prospect="expected",
            why=f"{shown}: {space.rank} different tokens with their places, fewer than the model is wide",
            change=f"an update over {space.size} tokens or more",
        )

    def _through_noise(self, reader: Reader, space: Span, update: Update, pad: int) -> Outlook:
        """The outlook where the spectrum has no end that a token fits, by the tokens that stand out at first places."""
        apart = self._apart(reader, space, 0, min(_GLANCED, reader.length) if reader.positioned else 1, pad)
        standing = int((outlying(apart) > self.sigmas).any(dim=1).sum())
        least = "noise, or rounding"
        if update.kind == "delta":
            least += " (a change of weights is rounded as the weights are, of which it is the difference)"
        why = (
            f"the gradient of the first attention layer has no clear rank: {least} hides the smaller of its "
            f"directions; at the first {apart.shape[1]} places {standing} of {reader.vocabulary} tokens stand out of "
            f"all others by {self.sigmas:g} deviations"
        )
        change = "gradients in single precision without noise; or more noise, or an update over more tokens"
        return Outlook(prospect="possible" if standing else "unlikely", why=why, change=change)

    def run(self, target: Target, knowledge: TextGradientKnowledge, rng: np.random.Generator) -> Texts:
        readers: dict[torch.dtype, Reader] = {}
        found: list[tuple[str, ...]] = []
        ranks: list[int] = []
        tokens, noisy, size, capacity = 0, 0, 0, 0
        for client in range(knowledge.clients):
            update = target.update(client)
            dtype = _precision(update)
            if dtype not in readers:
                readers[dtype] = Reader(knowledge.net, dtype)
            reader = readers[dtype]
            first, second = self._spans(reader, update, knowledge.net.pad)
            batch = knowledge.assumptions.batch.value
            ranks.append(first.rank)
            size, capacity, noisy = first.size, reader.capacity, noisy + int(first.noisy)
            if first.rank == 0 or (not first.noisy and first.rank >= reader.capacity):
                found.append(())
                continue
            places = self._tokens(reader, first, knowledge.net.pad, batch)
            tokens += sum(len(some) for some in places)
            orders = Orders(second, batch, self.beam, rng, ends=knowledge.net.ends)
            if reader.causal:
                sequences = read_forward(reader, orders, places)
            else:
                sequences = read_both_ways(reader, orders, places, self.restarts)
            found.append(tuple(knowledge.net.write(ids) for ids in sequences))
        facts = self.assumed(knowledge) | {
            "width": float(size),
            "rank_least": float(min(ranks, default=0)),
            "rank_most": float(max(ranks, default=0)),
            "tokens_in_span": float(tokens),
            "updates_taken_for_noisy": float(noisy),
        }
        return Texts(tuple(found), facts=facts, notes=_notes(ranks, capacity, noisy))

    def spans(self, net: TextNet, update: Update) -> tuple[Span, Span]:
        """What the gradients of the first two layers span, as far as tokens at the first places bear it out.

        Raises:
            DataError: for a tensor that is missing or not finite.
        """
        return self._spans(Reader(net, _precision(update)), update, net.pad, _GLANCED)

    def passing(self, net: TextNet, update: Update, batch: int | None = None) -> Places:
        """The tokens that pass the first layer's test, by position, nearest first; none where nothing can be told."""
        reader = Reader(net, _precision(update))
        space = self._spans(reader, update, net.pad)[0]
        if space.rank == 0 or (not space.noisy and space.rank >= reader.capacity):
            return ()
        return self._tokens(reader, space, net.pad, batch)

    def _tokens(self, reader: Reader, space: Span, pad: int, batch: int | None) -> Places:
        """Tokens that the first layer can have seen, by position; of a model without positions, the same at all."""

        def taken(apart: torch.Tensor) -> Places:
            return standing_out(apart, self.sigmas, batch) if space.noisy else within(apart, space.tolerance)

        if not reader.positioned:
            one = taken(self._apart(reader, space, 0, 1, pad))
            return (one[0] if one else (),) * min(reader.length, max(space.rank, 1))
        apart = self._apart(reader, space, 0, min(_BLOCK, reader.length), pad)
        while len(taken(apart)) == apart.shape[1] < reader.length:
            first = apart.shape[1]
            more = self._apart(reader, space, first, min(2 * first, reader.length), pad)
            apart = torch.cat([apart, more], dim=1)
        return taken(apart)

    def _seen(self, reader: Reader, space: Span, first: int, last: int) -> Iterator[torch.Tensor]:
        """What the first layer sees of the vocabulary at some places, a part of it at a time."""
        rows = max(1, min(8192, self.chunk // (space.size * max(last, 1))))
        for ids in torch.arange(reader.vocabulary).split(rows):
            yield reader.tokens(ids, first, last)

    def _apart(self, reader: Reader, space: Span, first: int, last: int, pad: int) -> torch.Tensor:
        """(vocabulary, places) how far each token at each place stands out of the span; the padding, entirely."""
        apart = torch.cat([space.apart(seen) for seen in self._seen(reader, space, first, last)])
        apart[pad] = 1.0
        return apart

    def _spans(self, reader: Reader, update: Update, pad: int, most: int = _BLOCK) -> tuple[Span, Span]:
        """The spans of the first two layers; a clear end of a spectrum within which no token fits is not believed."""
        gradients = [layer.gradient(update) for layer in reader.layers[:2]]
        first, second = (Span.of(gradient) for gradient in gradients)
        if reader.apart and 0 < first.rank < reader.capacity and not first.noisy:
            start = self._apart(reader, first, 0, 1, pad)
            first = first if bool((start < first.tolerance).any()) else first.at(first.rank)
        if first.noisy and first.rank:
            places = min(most, reader.length) if reader.positioned else 1
            spaces = [Span.of(gradients[0], level) for level in (False, True)]
            first = sharpest(spaces, lambda: self._seen(reader, first, 0, places))
            second = Span.of(gradients[1], first.level).at(first.rank)
        return first, second


def _precision(update: Update) -> torch.dtype:
    """The precision to compute in: that of the update, and single at the least."""
    double = any(np.asarray(tensor).dtype == np.float64 for tensor in update.tensors.values())
    return torch.float64 if double else torch.float32


def within(apart: torch.Tensor, tolerance: float) -> Places:
    """The tokens within the tolerance at each place, nearest first, up to the first place without any."""
    places: list[tuple[int, ...]] = []
    for place in range(apart.shape[1]):
        found = torch.nonzero(apart[:, place] < tolerance)[:, 0]
        if not len(found):
            break
        places.append(tuple(found[torch.argsort(apart[found, place], stable=True)].tolist()))
    return tuple(places)


def _notes(ranks: Sequence[int], capacity: int, noisy: int) -> tuple[str, ...]:
    notes: list[str] = []
    full = sum(rank >= capacity for rank in ranks) if ranks else 0
    zero = sum(rank == 0 for rank in ranks)
    if full:
        notes.append(
            f"{full} of {len(ranks)} updates span all {capacity} directions that tokens have: they were made of as "
            "many tokens as the model is wide, or more, and nothing can be told from them in this way."
        )
    if zero:
        notes.append(f"{zero} of {len(ranks)} updates show no direction in the first attention layer.")
    if noisy:
        notes.append(f"{noisy} of {len(ranks)} updates are noisy: tokens were taken that stand out of all others.")
    return tuple(notes)
