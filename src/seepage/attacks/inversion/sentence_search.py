"""A sentence searched for whose vector is the captured one."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from pydantic import Field

from seepage.attacks.inversion.sentence_edits import Edits, Sentence, word_parts
from seepage.attacks.inversion.sentence_parts import asked, directions, public_texts, within
from seepage.attacks.inversion.word_beliefs import Vocabulary, WordBeliefs, usual_length
from seepage.attacks.inversion.word_order import WordOrder
from seepage.core.attack import TextInversionAttack
from seepage.core.guess import Texts
from seepage.core.knowledge import Knowledge, TextInversionKnowledge
from seepage.core.target import Target
from seepage.core.vocabulary import Access

Array = np.ndarray
LEAST = 20
# Share of a budget that may be spent on learning, before any search.
LEARNING = 0.4
_NEAR = 30
_RIDGE = 3.0
_PART_RIDGE = 0.1


@dataclass(frozen=True)
class _Learned:
    """What the adversary knows of the encoder before it searches."""

    vocabulary: Vocabulary
    held: list[list[int]]
    vectors: Float[Array, " n d"]
    beliefs: WordBeliefs
    parts: Float[Array, " v d"]
    order: WordOrder
    ending: str
    usual: int


class SentenceSearch(TextInversionAttack):
    """Changes a sentence, word by word, until its vector is the captured one.

    Public texts and their single words are asked first: from them come beliefs about the words that the vector
    holds (as in `sentence-words`), what each word adds to a vector, and which word follows which. The search begins
    with the nearest public texts and the words believed most, and keeps a beam of sentences. In each round changes
    of them are proposed (a word put in, taken out or exchanged, words moved, a run of words taken from a near
    public text), judged without a query by the parts of their words, and the most promising ones asked. A sentence
    is as good as the cosine of its vector to the captured one, plus `fluency` times its log-probability over the
    usual number of words. The beam holds no more than two sentences of the same words.

    That a guess is asked again and corrected by where its vector lies is the idea of Morris et al. 2023, who
    train a language model to do it; that a search with a model of language can do without training is that of
    Zhang et al. 2025. Neither a language model nor a gradient is used here, so what is recovered falls short of theirs.
    """

    name: ClassVar[str] = "sentence-search"
    title: ClassVar[str] = "Search for the sentence"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.EMBEDDINGS})
    cites: ClassVar[tuple[str, ...]] = (
        "Morris, Kuleshov, Shmatikov, Rush 2023, Text Embeddings Reveal (Almost) As Much As Text, EMNLP",
        "Zhang, Morris, Shmatikov 2025, Universal Zero-shot Embedding Inversion, arXiv:2504.00147",
        "Song, Raghunathan 2020, Information Leakage in Embedding Models, CCS (beliefs about words)",
    )
    needs_public: ClassVar[bool] = True
    thorough: ClassVar[bool] = True

    queries_per_text: int = Field(default=1000, ge=1, description="asked in search of each text, budget permitting")
    learned: int = Field(default=20_000, ge=LEAST, description="public texts and words asked beforehand at the most")
    beam: int = Field(default=4, ge=1, description="sentences kept from round to round")
    asked_a_round: int = Field(default=48, ge=1, description="changes asked in each round, over the beam")
    pool: int = Field(default=600, ge=1, description="words that may be put in: those believed most")
    fluency: float = Field(default=0.01, ge=0, description="weight of the fluency, beside the cosine")

    def cost(self, knowledge: TextInversionKnowledge, budget: int | None) -> int:
        return within(self.learned + knowledge.captured * self.queries_per_text, budget)

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if budget is not None and budget < LEAST:
            return f"it learns from {LEAST} public texts and words or more, and the budget is {budget}"
        return super().obstacle(knowledge, budget)

    def run(self, target: Target, knowledge: TextInversionKnowledge, rng: np.random.Generator) -> Texts:
        budget = target.remaining
        learned = self._learn(target, knowledge, rng)
        captured = directions(target.captured_embeddings())
        each = self.queries_per_text
        if budget is not None:
            each = min(each, (target.remaining or 0) // max(len(captured), 1))
        # A stream a vector: what is found for one does not depend on which others were captured.
        seed = int(rng.integers(2**62))
        beliefs = learned.beliefs(captured)
        return Texts(
            tuple(
                self._search(target, learned, goal, said, each, np.random.default_rng([seed, _number(goal)]))
                for goal, said in zip(captured, beliefs, strict=True)
            )
        )

    def _learn(self, target: Target, knowledge: TextInversionKnowledge, rng: np.random.Generator) -> _Learned:
        left = self.learned
        if target.remaining is not None:
            left = max(min(left, int(LEARNING * target.remaining)), LEAST // 2)
        texts = public_texts(knowledge, left, rng)
        vocabulary = Vocabulary.of(texts, 10**6)
        vectors = asked(target, texts)
        single = vocabulary.names[: left - len(texts)]
        alone = asked(target, single) if single else np.zeros((0, vectors.shape[1]))
        held = vocabulary.numbers(texts)
        whole = np.zeros((len(vocabulary), vectors.shape[1]))
        whole[: len(alone)] = alone
        return _Learned(
            vocabulary,
            held,
            vectors,
            WordBeliefs.fit(vectors, held, vocabulary, alone, _RIDGE),
            word_parts(vectors, held, whole, _PART_RIDGE),
            WordOrder(held, len(vocabulary)),
            _ending(texts),
            usual_length(held),
        )

    def _search(
        self,
        target: Target,
        learned: _Learned,
        goal: Float[Array, " d"],
        beliefs: Float[Array, " v"],
        queries: int,
        rng: np.random.Generator,
    ) -> tuple[str, ...]:
        """The sentences found for one vector, best first."""
        near = np.argsort(-(learned.vectors @ goal), kind="stable")[:_NEAR]
        strong = np.argsort(-beliefs, kind="stable")
        common = np.arange(min(100, len(beliefs)))
        pool = np.unique(np.concatenate([strong[: self.pool], common]))
        edits = Edits(
            goal,
            pool,
            learned.parts,
            learned.order,
            self.fluency / learned.usual,
            tuple(tuple(learned.held[i]) for i in near),
        )
        beam = _Beam(goal, learned, self.fluency / learned.usual)
        for i in near[: self.beam]:
            beam.add([tuple(learned.held[i])], learned.vectors[i : i + 1])
        left = queries
        start = [tuple(strong[: learned.usual // 2].tolist()), tuple(strong[: learned.usual].tolist())][:left]
        if start:
            beam.add(start, asked(target, beam.texts(start)))
        left -= len(start)
        while left > 0:
            best = beam.best(self.beam, alike=2)
            wanted = min(self.asked_a_round, left)
            each = -(-wanted // len(best))
            found = [other for one in best for other in edits.propose(one, beam.vectors[one], each, rng)]
            new = beam.unseen(found)[:wanted]
            if not new:
                break
            beam.add(new, asked(target, beam.texts(new)))
            left -= len(new)
        return tuple(beam.texts(beam.best(self.beam)))


class _Beam:
    """The sentences asked so far for one vector, and how good each is."""

    def __init__(self, goal: Float[Array, " d"], learned: _Learned, fluency: float):
        self._goal, self._learned, self._fluency = goal, learned, fluency
        self.vectors: dict[Sentence, Array] = {}
        self._good: dict[Sentence, float] = {}

    def texts(self, sentences: Sequence[Sentence]) -> list[str]:
        names, ending = self._learned.vocabulary.names, self._learned.ending
        return [" ".join(names[i] for i in sentence) + ending for sentence in sentences]

    def add(self, sentences: Sequence[Sentence], vectors: Float[Array, " n d"]) -> None:
        for sentence, vector in zip(sentences, vectors, strict=True):
            self.vectors[sentence] = vector
            fluent = self._learned.order.fluency(sentence)
            self._good[sentence] = float(vector @ self._goal) + self._fluency * fluent

    def unseen(self, sentences: Sequence[Sentence]) -> list[Sentence]:
        return [sentence for sentence in dict.fromkeys(sentences) if sentence not in self.vectors]

    def best(self, most: int, alike: int | None = None) -> list[Sentence]:
        """The best sentences, at most `alike` of them made of the same words."""
        chosen: list[Sentence] = []
        met: Counter[frozenset[int]] = Counter()
        for sentence in sorted(self._good, key=lambda sentence: (-self._good[sentence], sentence)):
            held = frozenset(sentence)
            if alike is None or met[held] < alike:
                met[held] += 1
                chosen.append(sentence)
            if len(chosen) == most:
                break
        return chosen


def _ending(texts: Sequence[str]) -> str:
    """The mark that most public texts end with, where most do: an encoder sees it too."""
    last = [text.rstrip()[-1:] for text in texts]
    marks = [mark for mark in last if mark and not mark.isalnum()]
    if 2 * len(marks) <= len(last):
        return ""
    return max(sorted(set(marks)), key=marks.count)


def _number(vector: Float[Array, " d"]) -> int:
    """A number that belongs to a vector, up to rounding."""
    return int.from_bytes(hashlib.sha256(np.round(vector, 5).tobytes()).digest()[:8], "big")
