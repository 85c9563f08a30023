"""A vocabulary of pieces of words, the same every time it is made of the same texts."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise

# Put before a piece that continues a word.
CONTINUED = "##"
Pair = tuple[str, str]


def word_pieces(counts: Mapping[str, int], special: Sequence[str], size: int) -> dict[str, int]:
    """A vocabulary of at most `size` tokens: the special ones, every letter, and pieces that stand together most often.

    Pairs of neighbouring pieces are joined, the most frequent first (Sennrich, Haddow and Birch 2016, Neural Machine
    Translation of Rare Words with Subword Units, ACL, algorithm 1), and equally frequent ones in the order of their
    letters: the trainers of the library `tokenizers` leave that to chance, and two processes would not agree.

    Args:
        counts: words, and how often each stands in the texts.
        special: tokens that come first.
        size: the most tokens; letters are kept in any case.

    Returns:
        Tokens and their numbers.
    """
    words = {word: _letters(word) for word in sorted(counts) if word}
    tokens = [*special, *sorted({piece for pieces in words.values() for piece in pieces} - set(special))]
    known, pairs, where = set(tokens), Counter[Pair](), defaultdict[Pair, set[str]](set)
    for word, pieces in words.items():
        _count(pieces, counts[word], word, pairs, where)
    heap = [(-count, pair) for pair, count in pairs.items()]
    heapify(heap)
    while heap and len(tokens) < size:
        count, pair = heappop(heap)
        if pairs[pair] != -count or not count:
            # Its count has changed since it was put there; it stands there again with the new one.
            continue
        joined = pair[0] + pair[1].removeprefix(CONTINUED)
        if joined not in known:
            known.add(joined)
            tokens.append(joined)
        for changed in _join(pair, joined, words, counts, pairs, where):
            if pairs[changed] > 0:
                heappush(heap, (-pairs[changed], changed))
    return {token: number for number, token in enumerate(tokens)}


def _letters(word: str) -> list[str]:
    return [word[0], *(CONTINUED + letter for letter in word[1:])]


def _count(
    pieces: Sequence[str], times: int, word: str, pairs: Counter[Pair], where: Mapping[Pair, set[str]]
) -> set[Pair]:
    """Count the pairs of a word `times` more, or less; returns which they are."""
    found = set[Pair]()
    for pair in pairwise(pieces):
        pairs[pair] += times
        where[pair].add(word)
        found.add(pair)
    return found


def _join(
    pair: Pair,
    joined: str,
    words: dict[str, list[str]],
    counts: Mapping[str, int],
    pairs: Counter[Pair],
    where: Mapping[Pair, set[str]],
) -> set[Pair]:
    """Join a pair in every word that has it; returns the pairs whose counts have changed."""
    changed = set[Pair]()
    for word in sorted(where[pair]):
        pieces = words[word]
        changed |= _count(pieces, -counts[word], word, pairs, where)
        made: list[str] = []
        for piece in pieces:
            if made and (made[-1], piece) == pair:
                made[-1] = joined
            else:
                made.append(piece)
        words[word] = made
        changed |= _count(made, counts[word], word, pairs, where)
    where[pair].clear()
    return changed
