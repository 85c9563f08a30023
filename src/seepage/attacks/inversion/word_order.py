"""Which word follows which, learned from public texts: how likely a sentence is, and which words fit a gap."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from scipy.sparse import csc_array, csr_array

Array = np.ndarray


class WordOrder:
    """A bigram model over word numbers, with a mark for where a text begins and ends.

        p(w | v) = (count(v, w) + k p(w)) / (count(v) + k)

    with p(w) the share of w among all words: counts with a Dirichlet prior (MacKay, Peto 1995, A Hierarchical
    Dirichlet Language Model). The pull k is `pull`.

    Args:
        held: for each text the numbers of its words, 0 to size - 1.
        size: how many words there are.
        pull: weight of the prior, in words.
    """

    def __init__(self, held: Sequence[Sequence[int]], size: int, pull: float = 3.0):
        self.edge = size
        rows = [[self.edge, *found, self.edge] for found in held if found]
        before = np.array([v for row in rows for v in row[:-1]], dtype=np.int64)
        after = np.array([w for row in rows for w in row[1:]], dtype=np.int64)
        shape = (size + 1, size + 1)
        counts = csr_array((np.ones(len(before)), (before, after)), shape=shape)
        counts.sum_duplicates()
        self._next, self._last = counts, csc_array(counts)
        seen = np.bincount(after, minlength=size + 1) + 0.1
        self._share, self._pull = pull * seen / seen.sum(), pull
        self._total = np.bincount(before, minlength=size + 1) + pull

    def after(self, v: int) -> Float[Array, " w"]:
        """Log p(w | v) for every w, the edge last."""
        row = self._share.copy()
        start, end = self._next.indptr[v], self._next.indptr[v + 1]
        row[self._next.indices[start:end]] += self._next.data[start:end]
        return np.log(row / self._total[v])

    def before(self, w: int) -> Float[Array, " v"]:
        """Log p(w | v) for every v, the edge last."""
        column = np.full(len(self._total), self._share[w])
        start, end = self._last.indptr[w], self._last.indptr[w + 1]
        column[self._last.indices[start:end]] += self._last.data[start:end]
        return np.log(column / self._total)

    def fluency(self, sentence: Sequence[int]) -> float:
        """The log-probability of its words, its end among them: 0 at the most, less with every word."""
        return float(sum(self._one(v, w) for v, w in pairwise([self.edge, *sentence, self.edge])))

    def _one(self, v: int, w: int) -> float:
        start, end = self._next.indptr[v], self._next.indptr[v + 1]
        at = start + int(np.searchsorted(self._next.indices[start:end], w))
        count = self._next.data[at] if at < end and self._next.indices[at] == w else 0.0
        return float(np.log((count + self._share[w]) / self._total[v]))
