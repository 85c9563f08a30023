"""LAMP: embeddings by gradient steps and tokens by discrete moves, in turns, held to a language model."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from seepage.attacks.gradient.embedding_search import Descent, Search, guesses
from seepage.attacks.gradient.heard import Heard
from seepage.attacks.gradient.ngrams import KneserNey
from seepage.attacks.gradient.text_distances import Distance, layerwise_cosine, layerwise_l2_l1
from seepage.attacks.gradient.text_outlooks import search_obstacle, search_outlook
from seepage.attacks.gradient.text_search import searched
from seepage.attacks.inversion.parts import torch_rng
from seepage.core.attack import TextGradientAttack
from seepage.core.guess import Texts
from seepage.core.knowledge import Knowledge, TextGradientKnowledge
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update

Array = np.ndarray
Order = Int[Array, " t"]


class Lamp(TextGradientAttack):
    """Alternates steps of Adam on embeddings with discrete moves of whole tokens, scored by a language model too.

    Continuous: the distance between gradients plus `regular` times the squared difference between the embeddings' mean
    length and the vocabulary's; the rate falls by `factor` every 50 steps. Discrete: every `every` steps, after a tenth
    of them, `moves` orders of each text are tried (two tokens swapped, one token or a span moved, a beginning put at
    the end), and the one is kept with the least distance + `fluency` times the mean surprise of the batch's tokens to
    the language model. That model is, instead of the paper's GPT-2, trigrams with interpolated Kneser-Ney smoothing
    over the public texts; without public texts the distance alone decides.

    Distances, moves and weights are those of the authors' code (github.com/eth-sri/lamp at 852d12f, `attack.py`,
    `utilities.py`, `lamp_cos.sh`), against which they were checked. There the classes are told. Where they are not,
    each restart supposes others, the likeliest first: they cannot be searched for by the cosine, which hears the sign
    of p - y and not its size (with two classes its slope by them is zero).
    """

    name: ClassVar[str] = "lamp"
    title: ClassVar[str] = "Embeddings and discrete moves, with a language model (LAMP)"
    cites: ClassVar[tuple[str, ...]] = (
        "Balunovic, Dimitrov, Jovanovic, Vechev 2022, LAMP: Extracting Text from Gradients with Language Model "
        "Priors, NeurIPS",
    )
    uses: ClassVar[frozenset[str]] = frozenset({"batch", "labels", "counts", "mode", "rate", "steps", "prior"})
    version: ClassVar[int] = 2
    thorough: ClassVar[bool] = True
    version: ClassVar[int] = 2

    steps: int = Field(default=500, ge=1, description="steps of Adam; 2000 as published")
    restarts: int = Field(default=2, ge=1, description="searches a client; the one matched best is kept")
    candidates: int = Field(
        default=50, ge=1, description="chance starts of a search, of which one is taken; 500 published"
    )
    rate: float = Field(default=0.01, gt=0, description="of Adam")
    factor: float = Field(default=0.89, gt=0, le=1, description="of the rate, every 50 steps")
    distance: Literal["cosine", "l2-l1"] = Field(default="cosine", description="between gradients")
    alpha: float = Field(default=0.01, ge=0, description="weight of the l1 distance, of 'l2-l1'")
    regular: float = Field(default=1.0, ge=0, description="weight of the embeddings' length")
    every: int = Field(default=75, ge=1, description="steps from one round of discrete moves to the next")
    moves: int = Field(default=50, ge=0, description="orders tried of each text in a round; 200 as published")
    fluency: float = Field(default=0.2, ge=0, description="weight of the language model")
    rows: bool = Field(default=False, description="search only among tokens whose row of the embedding moved")
    length: int | None = Field(default=None, ge=1, description="tokens of a text; none: read off the update or guessed")

    @classmethod
    def published(cls, **changes: Any) -> "Lamp":
        """The published configuration, of the cosine variant unless `distance` is "l2-l1" (`lamp_l1l2.sh`)."""
        paper: dict[str, Any] = {"steps": 2000, "candidates": 500, "moves": 200, "restarts": 1}
        if changes.get("distance") == "l2-l1":
            paper |= {"fluency": 60.0, "regular": 25.0}
        return cls(**(paper | changes))

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        return search_obstacle(knowledge) or super().obstacle(knowledge, budget)

    def outlook(self, knowledge: TextGradientKnowledge, update: Update) -> Outlook | None:
        batch = int(knowledge.assumptions.batch.value or 1)
        told = knowledge.assumptions
        # Classes are tried once a client, whatever the restarts.
        ways = (
            0 if told.labels.value is not None or told.counts.value is not None else guesses(batch, knowledge.classes)
        )
        starts = self.candidates * (2 + ways / self.restarts)
        # A try of an order or of classes costs no slope: about a third of a step.
        tries = (starts + batch * self.moves * 0.9 * self.steps / self.every) / 3
        return search_outlook(knowledge, update, self.steps + tries, self.restarts)

    def run(self, target: Target, knowledge: TextGradientKnowledge, rng: np.random.Generator) -> Texts:
        public = knowledge.public
        model = None
        if public is not None and len(public) and self.fluency:
            model = KneserNey(knowledge.net.encode(public.texts).sequences(), knowledge.net.vocabulary)
        plan = Descent(
            steps=self.steps,
            rate=self.rate,
            factor=lambda step: self.factor ** (step // 50),
            norm=True,
            regular=self.regular,
            candidates=self.candidates,
            suppose=True,
        )
        found = searched(
            target,
            knowledge,
            self._distance,
            plan,
            self.restarts,
            torch_rng(rng),
            told=lambda guessed: self.assumed(knowledge, **guessed),
            moves=Reorder(self.moves, self.every, self.steps, self.fluency, model, rng) if self.moves else None,
            rows=self.rows,
            length=self.length,
        )
        said = "none" if model is None else "trigrams of public texts, interpolated Kneser-Ney"
        return Texts(found.values, facts=dict(found.facts) | {"language_model": said}, notes=found.notes)

    def _distance(self, got: Heard) -> Distance:
        return layerwise_cosine if self.distance == "cosine" else layerwise_l2_l1(self.alpha, False, got.scaled)


@dataclass(frozen=True)
class Reorder:
    """Discrete moves: each text's tokens in the best of some orders (`swap_tokens` of the authors' code).

    Attributes:
        tried: orders of each text in a round, the present one among them.
        every, steps: when rounds are held.
        fluency: weight of the language model's surprise.
        model: the language model, if there is one.
        rng: draws the orders.
    """

    tried: int
    every: int
    steps: int
    fluency: float
    model: KneserNey | None
    rng: np.random.Generator

    def __call__(self, step: int, search: Search, x: Tensor, y: Tensor | None, owner: Int[Tensor, " p"]) -> Tensor:
        inner = np.arange(len(search.got.first), search.got.length - len(search.got.last))
        if step < 0.1 * self.steps or step % self.every != 1 % self.every or len(inner) < 2:
            return x
        ids = search.tokens(x, owner)
        for text in range(x.shape[1]):
            x, ids = self._best(search, x, ids, y, owner, text, inner)
        return x

    def _best(
        self,
        search: Search,
        x: Float[Tensor, " p b t d"],
        ids: Int[Tensor, " p b t"],
        y: Tensor | None,
        owner: Int[Tensor, " p"],
        text: int,
        inner: Order,
    ) -> tuple[Float[Tensor, " p b t d"], Int[Tensor, " p b t"]]:
        """Each problem's text in the best of its orders, those of all problems tried together."""
        whole = np.arange(x.shape[2])
        drawn = [[whole, *(self._order(inner, len(whole)) for _ in range(self.tried - 1))] for _ in range(len(x))]
        orders = torch.from_numpy(np.array(drawn))
        x, ids = x.clone(), ids.clone()
        for some in torch.arange(len(x)).split(max(1, search.together // self.tried)):
            tried = x[some].repeat_interleave(self.tried, dim=0)
            mine = orders[some].flatten(0, 1)
            tried[:, text] = tried[:, text].gather(1, mine[..., None].expand(-1, -1, x.shape[-1]))
            classes = None if y is None else y[some].repeat_interleave(self.tried, dim=0)
            cost = search.distances(tried, classes, owner[some].repeat_interleave(self.tried))
            words = ids[some, text].repeat_interleave(self.tried, dim=0).gather(1, mine)
            # The mean over all tokens of the batch, of which the other texts stay as they are.
            cost = cost + self.fluency / x.shape[1] * self._surprise(words)
            best = cost.reshape(len(some), self.tried).argmin(dim=1)
            rows = torch.arange(len(some)) * self.tried + best
            x[some, text], ids[some, text] = tried[rows, text], words[rows]
        return x, ids

    def _surprise(self, words: Int[Tensor, " m t"]) -> Float[Tensor, " m"]:
        if self.model is None:
            return torch.zeros(len(words))
        return torch.tensor([self.model.surprise(row) for row in words.tolist()])

    def _order(self, inner: Order, length: int) -> Order:
        whole = np.arange(length)
        whole[inner] = inner[move(len(inner), self.rng)]
        return whole


def move(n: int, rng: np.random.Generator) -> Order:
    """An order of `n` >= 2 things: two swapped, one moved, a span moved, or a beginning put at the end."""
    kind = int(rng.integers(4))
    order = np.arange(n)
    if kind == 0:
        i, j = rng.choice(n, size=2, replace=False)
        order[[i, j]] = order[[j, i]]
        return order
    if kind == 1:
        return _spliced(order, int(i := rng.integers(n)), int(i) + 1, rng)
    if kind == 2:
        first, last = np.sort(rng.choice(n + 1, size=2, replace=False))
        return _spliced(order, int(first), int(last), rng)
    return np.roll(order, -int(rng.integers(1, n)))


def _spliced(order: Order, first: int, last: int, rng: np.random.Generator) -> Order:
    """The order with its part [first, last) taken out and put in anywhere."""
    rest = np.concatenate([order[:first], order[last:]])
    place = int(rng.integers(len(rest) + 1))
    return np.concatenate([rest[:place], order[first:last], rest[place:]])
