"""A language model without weights: counts of token sequences in public texts, smoothed."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np


class KneserNey:
    """Interpolated Kneser-Ney trigrams over token numbers (Kneser and Ney 1995; Chen and Goodman 1999, section 2.7).

    p(w | h) = max(c(hw) - D, 0) / c(h) + D n(h) / c(h) p(w | h shortened), where n(h) counts the different tokens seen
    behind h; shorter histories count in how many different surroundings a sequence was seen instead of how often, and
    the shortest rests on the uniform distribution. D = n1 / (n1 + 2 n2) at each order, from the sequences seen once and
    twice (Ney, Essen and Kneser 1994).

    Args:
        texts: token sequences to learn from.
        vocabulary: how many tokens there are.
        order: the longest sequence counted.
    """

    def __init__(self, texts: Sequence[Sequence[int]], vocabulary: int, order: int = 3):
        self._vocabulary, self._order = vocabulary, order
        # No token: stands before the beginning of each text.
        start = (-1,) * (order - 1)
        seen: Counter[tuple[int, ...]] = Counter()
        for text in texts:
            row = (*start, *text)
            seen.update(row[i : i + order] for i in range(len(row) - order + 1))
        self._counts: list[Counter[tuple[int, ...]]] = [seen]
        for _ in range(order - 1):
            self._counts.insert(0, Counter(gram[1:] for gram in self._counts[0]))
        self._totals: list[dict[tuple[int, ...], tuple[int, int]]] = []
        self._discounts: list[float] = []
        for counts in self._counts:
            totals: dict[tuple[int, ...], list[int]] = defaultdict(lambda: [0, 0])
            for gram, count in counts.items():
                totals[gram[:-1]][0] += count
                totals[gram[:-1]][1] += 1
            self._totals.append({history: (sums[0], sums[1]) for history, sums in totals.items()})
            once, twice = (sum(count == k for count in counts.values()) for k in (1, 2))
            self._discounts.append(once / (once + 2 * twice) if once and twice else 0.5)
        self._known: dict[tuple[int, ...], float] = {}

    def probability(self, history: Sequence[int], token: int) -> float:
        """p(token | history), of which the last `order` - 1 tokens are read."""
        gram = (*((-1,) * (self._order - 1)), *history)[-(self._order - 1) :] if self._order > 1 else ()
        return self._smoothed((*gram, token))

    def _smoothed(self, gram: tuple[int, ...]) -> float:
        if gram in self._known:
            return self._known[gram]
        lower = self._smoothed(gram[1:]) if len(gram) > 1 else 1.0 / self._vocabulary
        level = len(gram) - 1
        total, different = self._totals[level].get(gram[:-1], (0, 0))
        found = lower
        if total:
            discount = self._discounts[level]
            found = max(self._counts[level][gram] - discount, 0.0) / total + discount * different / total * lower
        self._known[gram] = found
        return found

    def surprise(self, text: Sequence[int]) -> float:
        """The mean negative log-probability of a text's tokens: the logarithm of its perplexity."""
        row = list(text)
        return float(np.mean([-np.log(self.probability(row[:i], token)) for i, token in enumerate(row)]))
