"""A vocabulary of pieces of words: what plain recounting gives, and the same whatever the order of the words."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from seepage.models.word_pieces import CONTINUED, word_pieces

SPECIAL = ("[PAD]", "[UNK]")
COUNTS = {"low": 5, "lower": 2, "newest": 6, "widest": 3, "wide": 4, "new": 1, "a": 9}


def recounted(counts: dict[str, int], size: int) -> list[str]:
    """The same by counting every pair anew before every join."""
    words = {word: [word[0], *(CONTINUED + c for c in word[1:])] for word in counts}
    tokens = [*SPECIAL, *sorted({piece for pieces in words.values() for piece in pieces})]
    while len(tokens) < size:
        pairs = Counter[tuple[str, str]]()
        for word, pieces in words.items():
            for pair in pairwise(pieces):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        joined = best[0] + best[1].removeprefix(CONTINUED)
        tokens += [] if joined in tokens else [joined]
        for word, pieces in words.items():
            made: list[str] = []
            for piece in pieces:
                if made and (made[-1], piece) == best:
                    made[-1] = joined
                else:
                    made.append(piece)
            words[word] = made
    return tokens


@pytest.mark.parametrize("size", [3, 20, 25, 30, 100])
def test_pairs_are_joined_as_recounting_joins_them(size: int) -> None:
    assert list(word_pieces(COUNTS, SPECIAL, size)) == recounted(COUNTS, size)


def test_chance_words_agree_too() -> None:
    rng = np.random.default_rng(0)
    counts = Counter("".join(rng.choice(list("abc"), rng.integers(1, 9))) for _ in range(300))
    assert list(word_pieces(counts, SPECIAL, 150)) == recounted(dict(counts), 150)


def test_the_order_of_the_words_is_nothing_to_it() -> None:
    turned = dict(reversed(COUNTS.items()))
    assert word_pieces(turned, SPECIAL, 28) == word_pieces(COUNTS, SPECIAL, 28)


def test_a_small_encoder_has_one_vocabulary() -> None:
    pytest.importorskip("transformers")
    from seepage.models.text_nets import text_net

    texts = ["the bank charged me twice for one ticket", "my knee has been swollen since the fall"]
    nets = [text_net("tiny-bert", texts, 2, 0, width=16, heads=2, layers=1) for _ in range(3)]
    vocabularies = [net.tokenizer.get_vocab() for net in nets]
    assert vocabularies[0] == vocabularies[1] == vocabularies[2]
    assert nets[0].read(texts[0].upper()) == texts[0]
