"""Changes of a sentence worth asking about: which word to put in, take out or exchange, and what to move."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import cho_factor, cho_solve

from seepage.attacks.inversion.word_order import WordOrder

Array = np.ndarray
Sentence = tuple[int, ...]
_LONGEST_SPLICE = 6


def word_parts(
    vectors: Float[Array, " n d"], held: Sequence[Sequence[int]], alone: Float[Array, " v d"], ridge: float
) -> Float[Array, " v d"]:
    """What each word adds to the vector of a sentence, if the vector were the mean over its words.

    Fits E ~ B U over texts, with B the shares of the words in each text, by ridge regression that pulls U to
    the vectors of the words asked alone (zeros for a word that was not).

    Args:
        vectors: of the texts, length 1.
        held: for each text the numbers of its words.
        alone: one row a word, length 1 or zeros.
        ridge: weight of the pull.
    """
    shares = np.zeros((len(vectors), len(alone)))
    for i, found in enumerate(held):
        np.add.at(shares[i], list(found), 1 / max(len(found), 1))
    told = shares @ alone
    scale = max(float((told * vectors).sum() / max((told**2).sum(), 1e-12)), 0.0)
    gram = cho_factor(shares @ shares.T + ridge * np.eye(len(vectors)))
    return scale * alone + shares.T @ cho_solve(gram, vectors - scale * told)


@dataclass(frozen=True)
class Edits:
    """Proposes changes towards one captured vector.

    The sentence at hand has a vector that was asked; taking a word out or putting one in moves it about by that
    word's part (`word_parts`). So every change can be judged before any is asked: by the cosine to the captured
    vector it would have, and by how well the words then follow each other.

    Attributes:
        goal: (d,) the captured vector, length 1.
        pool: (k,) the words that may be put in.
        parts: (v, d) what each word adds.
        order: which word follows which.
        fluency: weight of the log-probability of the words, beside the cosine.
        phrases: word numbers of public texts that lie near, to take runs of words from.
    """

    goal: Float[Array, " d"]
    pool: Int[Array, " k"]
    parts: Float[Array, " v d"]
    order: WordOrder
    fluency: float
    phrases: tuple[Sentence, ...]

    def propose(
        self, sentence: Sentence, vector: Float[Array, " d"], most: int, rng: np.random.Generator
    ) -> list[Sentence]:
        """At most so many other sentences: three fifths one word apart, the rest moves and spliced runs."""
        words = (3 * most) // 5
        moves = (most - words) // 2 if len(sentence) > 1 else 0
        found = self._one_word(sentence, vector, words, rng)
        found += self._moves(sentence, moves, rng)
        found += self._splices(sentence, most - words - moves, rng)
        return [other for other in dict.fromkeys(found) if other and other != sentence]

    def _one_word(self, s: Sentence, vector: Array, most: int, rng: np.random.Generator) -> list[Sentence]:
        n = len(s)
        base, own = n * vector, self.parts[list(s)]
        pool = self.parts[self.pool]
        edges = (self.order.edge, *s, self.order.edge)
        after = [self.order.after(v) for v in edges[:-1]]
        before = [self.order.before(w) for w in edges[1:]]
        whole = [float(after[i][edges[i + 1]]) for i in range(n + 1)]
        rated: list[tuple[Array, int, int]] = []
        # Put in before place i; exchange the word at place i.
        put = self._cosines(base, pool)
        for i in range(n + 1):
            gain = after[i][self.pool] + before[i][self.pool] - whole[i]
            rated.append((put + self.fluency * gain, i, 0))
        for i in range(n):
            gain = after[i][self.pool] + before[i + 1][self.pool] - whole[i] - whole[i + 1]
            rated.append((self._cosines(base - own[i], pool) + self.fluency * gain, i, 1))
        grid = np.stack([row for row, _, _ in rated])
        # A little noise, so that two rounds at one sentence do not ask the same.
        grid = grid + rng.gumbel(scale=0.003, size=grid.shape)
        best = np.argpartition(-grid, min(most, grid.size - 1), axis=None)[:most]
        found: list[Sentence] = []
        for flat in best[np.argsort(-grid.ravel()[best], kind="stable")].tolist():
            (_, i, gone), w = rated[flat // len(self.pool)], int(self.pool[flat % len(self.pool)])
            found.append((*s[:i], w, *s[i + gone :]))
        return found + [(*s[:i], *s[i + 1 :]) for i in self._to_drop(base, own) if n > 1]

    def _to_drop(self, base: Array, own: Array, most: int = 4) -> list[int]:
        less = base - own
        length = np.linalg.norm(less, axis=1)
        return np.argsort(-(less @ self.goal) / np.maximum(length, 1e-12), kind="stable")[:most].tolist()

    def _cosines(self, base: Float[Array, " d"], added: Float[Array, " k d"]) -> Float[Array, " k"]:
        """The cosine of `base` + each row of `added` to the goal."""
        length = np.sqrt(np.maximum(base @ base + 2 * added @ base + (added**2).sum(axis=1), 1e-12))
        return (base @ self.goal + added @ self.goal) / length

    def _moves(self, s: Sentence, most: int, rng: np.random.Generator) -> list[Sentence]:
        """Two words exchanged, a run of words put elsewhere or taken out: the more fluent of many drawn."""
        drawn: list[Sentence] = []
        for _ in range(4 * most):
            i, j = sorted(rng.integers(len(s) + 1, size=2).tolist())
            kind = rng.random()
            if kind < 0.15 and 0 < j - i < len(s):
                drawn.append((*s[:i], *s[j:]))
            elif kind < 0.5 and i < j < len(s):
                drawn.append((*s[:i], s[j], *s[i + 1 : j], s[i], *s[j + 1 :]))
            elif i < j:
                rest, run = (*s[:i], *s[j:]), s[i:j]
                k = int(rng.integers(len(rest) + 1))
                drawn.append((*rest[:k], *run, *rest[k:]))
        return self._fluent(drawn, most)

    def _splices(self, s: Sentence, most: int, rng: np.random.Generator) -> list[Sentence]:
        """A run of words of a near public text put in place of a run of this one."""
        if not self.phrases:
            return []
        drawn: list[Sentence] = []
        for _ in range(4 * most):
            source = self.phrases[int(rng.integers(len(self.phrases)))]
            if not source:
                continue
            a = int(rng.integers(len(source)))
            run = source[a : a + int(rng.integers(1, _LONGEST_SPLICE))]
            i = int(rng.integers(len(s) + 1))
            drawn.append((*s[:i], *run, *s[i + int(rng.integers(len(run) + 1)) :]))
        return self._fluent(drawn, most)

    def _fluent(self, drawn: Sequence[Sentence], most: int) -> list[Sentence]:
        different = list(dict.fromkeys(drawn))
        return sorted(different, key=lambda s: -self.order.fluency(s))[:most]
