"""Encoders of texts whose leakage is known, and a small language for them.

BagEncoder       counts words: whoever inverts it correctly recovers every word, and no order
OrderEncoder     counts words and pairs of neighbours, through a random projection: order can be recovered
DeafEncoder      answers always the same: nothing can be recovered
text_inversion_case   sentences of a small language, captured through an encoder
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from jaxtyping import Float

from seepage.core.case import Case
from seepage.core.guess import Texts
from seepage.core.knowledge import TextInversionKnowledge
from seepage.core.records import Records
from seepage.core.secrets import TextInversionSecret
from seepage.core.seeds import derive, stream
from seepage.core.victim import TextEncoder
from seepage.core.vocabulary import Access, Leak
from seepage.core.words import words

Array = np.ndarray

COMMON = ("the", "of", "and", "in", "was", "to", "a", "by")
# Two hundred words that mean nothing, so that nothing is known of them beforehand.
RARE = tuple(a + b + c for a, b, c in product("bdfglmnprs", ("a", "e", "i", "o"), ("ton", "ric", "mel", "sun", "vok")))
CAPTURED, PUBLIC = 6, 150


@dataclass(frozen=True)
class BagEncoder:
    """How often each word of a vocabulary stands in a text: (n, v)."""

    vocabulary: tuple[str, ...] = (*COMMON, *RARE)

    @property
    def offers(self) -> frozenset[Access]:
        return frozenset({Access.EMBEDDINGS})

    def embed(self, texts: Sequence[str]) -> Float[Array, " n d"]:
        place = {word: i for i, word in enumerate(self.vocabulary)}
        rows = np.zeros((len(texts), len(self.vocabulary)), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in words(text):
                if word in place:
                    row[place[word]] += 1
        return rows


@dataclass(frozen=True)
class OrderEncoder:
    """A random direction for each word and, at `pairs` times its length, for each pair of neighbours, added up."""

    size: int = 64
    pairs: float = 0.6

    @property
    def offers(self) -> frozenset[Access]:
        return frozenset({Access.EMBEDDINGS})

    def embed(self, texts: Sequence[str]) -> Float[Array, " n d"]:
        rows = np.zeros((len(texts), self.size), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            found = words(text)
            for word in found:
                row += self._direction(word)
            for before, after in pairwise(found):
                row += self.pairs * self._direction(f"{before} {after}")
        return rows

    def _direction(self, name: str) -> Array:
        return stream(derive(0, "testing", "direction"), name).normal(size=self.size).astype(np.float32)


@dataclass(frozen=True)
class DeafEncoder:
    """The same vector for every text."""

    size: int = 8

    @property
    def offers(self) -> frozenset[Access]:
        return frozenset({Access.EMBEDDINGS})

    def embed(self, texts: Sequence[str]) -> Float[Array, " n d"]:
        return np.ones((len(texts), self.size), dtype=np.float32)


def sentences(n: int, rng: np.random.Generator) -> list[str]:
    """Sentences of four to seven words, common and rare ones in turn: `the baton of remel was gasun.`"""
    found: list[str] = []
    for _ in range(n):
        length = int(rng.integers(4, 8))
        chosen = [str(rng.choice(RARE if i % 2 else COMMON)) for i in range(length)]
        found.append(" ".join(chosen).capitalize() + ".")
    return found


def text_inversion_case(seed: int, encoder: TextEncoder | None = None) -> Case:
    """Inversion of sentences captured through an encoder; a perfect guess is the sentences themselves."""
    rng = stream(seed, "testing", "texts")
    private = Records.of_texts(sentences(CAPTURED, rng))
    public = Records.of_texts(sentences(PUBLIC, rng))
    victim = BagEncoder() if encoder is None else encoder
    known = TextInversionKnowledge(public=public, captured=len(private))
    return Case(
        leak=Leak.INVERSION,
        name="sentences",
        victim=victim,
        knowledge=known,
        secret=TextInversionSecret(captured=private, public=public),
        null=victim,
        null_knowledge=known,
        baselines={"public_text": Texts(tuple((text,) for text in public.texts[:CAPTURED]))},
        seed=seed,
        captured=private.texts,
        null_captured=(*private.texts[-1:], *private.texts[:-1]),
    )
