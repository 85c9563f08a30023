"""Which words a vector holds, learned from texts whose vectors were asked: one linear head a word."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.linalg import cho_factor, cho_solve

from seepage.core.words import document_counts, words

Array = np.ndarray
# Every fifth text is held out: scores are brought to one scale there, and the threshold is chosen there.
HELD_OUT = 5


@dataclass(frozen=True)
class Vocabulary:
    """The words of some texts, the most frequent first.

    Attributes:
        names: the words.
        weight: (v,) what finding one is worth: log((N + 1) / (df + 1)), with df of N texts holding it.
    """

    names: tuple[str, ...]
    weight: Float[Array, " v"]

    @classmethod
    def of(cls, texts: Sequence[str], most: int) -> "Vocabulary":
        """At most so many words; of equally frequent ones the first in the alphabet."""
        counts = document_counts(texts)
        names = sorted(counts, key=lambda word: (-counts[word], word))[:most]
        return cls(tuple(names), np.array([log((len(texts) + 1) / (counts[word] + 1)) for word in names]))

    def __len__(self) -> int:
        return len(self.names)

    def numbers(self, texts: Sequence[str]) -> list[list[int]]:
        """The numbers of the words of each text, in order; unknown words are left out."""
        number = {word: i for i, word in enumerate(self.names)}
        return [[number[word] for word in words(text) if word in number] for text in texts]


@dataclass(frozen=True)
class WordBeliefs:
    """How strongly a vector speaks for each word of a vocabulary.

    One ridge regression a word, on whether a text holds it, all in one closed form (Hoerl, Kennard 1970). The
    answer of a head is set against its answers to texts it has not learned from,

        belief = (answer - mean) / (spread + median spread of all heads),

    so that a rare word, whose head never answers much, is heard beside a common one; the median keeps words that
    only one or two texts hold from being heard by their noise.

    Attributes:
        weights, offset: of the heads.
        mean, spread: (v,) of the heads' answers to held-out texts.
        threshold: the belief above which a word is taken to be there.
    """

    weights: Float[Array, " d v"]
    offset: Float[Array, " v"]
    mean: Float[Array, " v"]
    spread: Float[Array, " v"]
    threshold: float

    def __call__(self, vectors: Float[Array, " n d"]) -> Float[Array, " n v"]:
        return (vectors @ self.weights + self.offset - self.mean) / self.spread

    @classmethod
    def fit(
        cls,
        vectors: Float[Array, " n d"],
        held: Sequence[Sequence[int]],
        vocabulary: Vocabulary,
        alone: Float[Array, " a d"],
        ridge: float,
        plain: bool = False,
    ) -> "WordBeliefs":
        """Heads from texts and, where they were asked, single words.

        Args:
            vectors: of the texts.
            held: for each text the numbers of its words.
            vocabulary: the words.
            alone: the vectors of its first `a` words, each asked as a text of its own; may be empty.
            ridge: weight of the penalty, beside covariances summed over texts.
            plain: whether the answers themselves are the beliefs.
        """
        test = np.arange(len(vectors)) % HELD_OUT == 0 if len(vectors) >= HELD_OUT else np.ones(len(vectors), bool)
        learn = ~test if (~test).any() else test
        there = _presence(held, len(vocabulary))
        x = np.concatenate([vectors[learn], alone])
        y = np.concatenate([there[learn], np.eye(len(alone), len(vocabulary), dtype=np.float32)])
        centre, share = x.mean(axis=0), y.mean(axis=0)
        x = x - centre
        gram = cho_factor(x.T @ x + ridge * np.eye(x.shape[1]))
        # Centred rows of x take the mean of y out by themselves.
        found = cho_solve(gram, x.T @ y)
        offset = share - centre @ found
        tried = vectors[test] @ found + offset
        if plain:
            even = np.ones(len(vocabulary))
            return cls(found, offset, 0 * even, even, _threshold(tried, there[test], even, np.linspace(0.05, 1, 20)))
        mean, spread = tried.mean(axis=0), tried.std(axis=0)
        # At least something, for an encoder that answers always the same.
        spread = spread + max(float(np.median(spread)), 1e-9)
        threshold = _threshold((tried - mean) / spread, there[test], vocabulary.weight, np.linspace(0.5, 8, 31))
        return cls(found, offset, mean, spread, threshold)


def _presence(held: Sequence[Sequence[int]], size: int) -> Float[Array, " n v"]:
    rows = np.zeros((len(held), size), dtype=np.float32)
    for i, found in enumerate(held):
        rows[i, list(found)] = 1
    return rows


def _threshold(
    beliefs: Float[Array, " n v"], there: Array, weight: Float[Array, " v"], grid: Float[Array, " g"]
) -> float:
    """The belief at which the words above it and the words that are there agree best (F1, each word by its weight)."""
    worth = (there * weight).sum()
    found = []
    for level in grid:
        taken: Bool[Array, " n v"] = beliefs > level
        right = (taken * there * weight).sum()
        found.append(2 * right / max(float((taken * weight).sum() + worth), 1e-12))
    return float(grid[int(np.argmax(found))])


def ranked(beliefs: Float[Array, " v"], threshold: float, least: int, most: int) -> Int[Array, " k"]:
    """The words believed above the threshold, strongest first: no fewer than `least`, no more than `most`."""
    order = np.argsort(-beliefs, kind="stable")
    return order[: int(np.clip((beliefs > threshold).sum(), least, most))]


def usual_length(held: Sequence[Sequence[int]]) -> int:
    """The median number of words of a text, 1 at the least."""
    return max(int(np.median([len(found) for found in held])), 1) if held else 1
