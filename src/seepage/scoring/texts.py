"""How alike two texts are, word by word: overlap, ROUGE, edit distance. Pure functions, for every leak of text.

Words are those of `seepage.core.words`. Two texts without words are alike by nothing: 0, never a division by zero.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seepage.core.words import words


@dataclass(frozen=True)
class Overlap:
    """Precision, recall and their harmonic mean, each 0 to 1."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """0 where both are."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def _overlap(common: float, guessed: float, true: float) -> Overlap:
    return Overlap(common / guessed if guessed else 0.0, common / true if true else 0.0)


def word_overlap(guess: str, truth: str) -> Overlap:
    """Words in common, each counted as often as it stands in both."""
    a, b = words(guess), words(truth)
    return _overlap((Counter(a) & Counter(b)).total(), len(a), len(b))


def weighted_recall(guess: Sequence[str], truth: Sequence[str], weight: Mapping[str, float]) -> float:
    """The share of the weight of the words of `truth` that stand in `guess`, each as often as in both; 0 to 1.

    A word without a weight counts nothing. 0 where no word of the truth has a weight.
    """
    wanted, found = Counter(truth), Counter(guess)
    whole = sum(weight.get(word, 0.0) * n for word, n in wanted.items())
    got = sum(weight.get(word, 0.0) * min(n, found[word]) for word, n in wanted.items())
    return got / whole if whole > 0 else 0.0


def rouge_n(guess: str, truth: str, n: int) -> Overlap:
    """ROUGE-N: runs of n words in common, each counted as often as in both.

    Source: Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries, equation 1, with one reference;
    no stemming, no stop words left out.
    """
    a, b = _runs(words(guess), n), _runs(words(truth), n)
    return _overlap((a & b).total(), a.total(), b.total())


def _runs(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def rouge_l(guess: str, truth: str) -> Overlap:
    """ROUGE-L: the longest run of words that stands in both in this order, gaps allowed (Lin 2004, section 3.1)."""
    a, b = words(guess), words(truth)
    return _overlap(_longest_common(a, b), len(a), len(b))


def _longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    row = [0] * (len(b) + 1)
    for one in a:
        before = 0
        for j, other in enumerate(b, 1):
            above = row[j]
            row[j] = before + 1 if one == other else max(above, row[j - 1])
            before = above
    return row[-1]


def same_words(guess: str, truth: str) -> bool:
    """True when both have the same words in the same order, and have some; case and punctuation do not matter."""
    found = words(guess)
    return bool(found) and found == words(truth)


def edit_similarity(guess: str, truth: str) -> float:
    """1 - Levenshtein distance of the characters / length of the longer text, 0 to 1; case folded, spaces made one.

    Source: Levenshtein 1966, Binary codes capable of correcting deletions, insertions, and reversals.
    """
    a, b = (" ".join(text.casefold().split()) for text in (guess, truth))
    if not a or not b:
        return 0.0
    return 1 - _distance(a, b) / max(len(a), len(b))


def _distance(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            above = row[j]
            row[j] = min(above + 1, row[j - 1] + 1, before + (one != other))
            before = above
    return row[-1]
