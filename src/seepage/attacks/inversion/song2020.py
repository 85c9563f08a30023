"""Words recovered from the vector of a text by classifiers, one a word."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from seepage.attacks.inversion.sentence_parts import asked, directions, public_texts, within
from seepage.attacks.inversion.word_beliefs import Vocabulary, WordBeliefs, ranked, usual_length
from seepage.core.attack import TextInversionAttack
from seepage.core.guess import Texts
from seepage.core.knowledge import Knowledge, TextInversionKnowledge
from seepage.core.target import Target
from seepage.core.vocabulary import Access

LEAST = 10


class SentenceWords(TextInversionAttack):
    """Learns from public texts which words a vector holds, and returns them in the order of belief.

    The multi-label form of Song and Raghunathan: one classifier a word of the vocabulary of the public texts, the
    threshold chosen on held-out ones. Here the classifiers are ridge regressions in closed form; each one's answer
    is set against its answers to other texts, since a plain threshold names common words alone; and the words are
    asked alone as well, which teaches the rare ones. No fewer words are returned than a public text usually has, no
    more than twice as many. The order of the words is not recovered.
    """

    name: ClassVar[str] = "sentence-words"
    title: ClassVar[str] = "Words from the vector"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.EMBEDDINGS})
    cites: ClassVar[tuple[str, ...]] = (
        "Song, Raghunathan 2020, Information Leakage in Embedding Models, CCS (the multi-label form)",
        "Hoerl, Kennard 1970, Ridge Regression, Technometrics 12 (the closed form)",
    )
    needs_public: ClassVar[bool] = True

    queries: int = Field(default=20_000, ge=LEAST, description="texts and words asked to learn from, budget permitting")
    vocabulary: int = Field(default=20_000, ge=1, description="words looked for at the most, the frequent ones first")
    alone: bool = Field(default=True, description="whether words are also asked alone, with what texts leave over")
    ridge: float = Field(default=3.0, gt=0, description="of the ridge regressions")
    plain: bool = Field(default=False, description="rank by the classifiers' plain answers, as in the paper")

    def cost(self, knowledge: TextInversionKnowledge, budget: int | None) -> int:
        return within(self.queries, budget)

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if budget is not None and budget < LEAST:
            return f"it learns from {LEAST} public texts or more, and the budget is {budget}"
        return super().obstacle(knowledge, budget)

    def run(self, target: Target, knowledge: TextInversionKnowledge, rng: np.random.Generator) -> Texts:
        left = within(self.queries, target.remaining)
        texts = public_texts(knowledge, left, rng)
        vocabulary = Vocabulary.of(texts, self.vocabulary)
        vectors = asked(target, texts)
        single = vocabulary.names[: left - len(texts)] if self.alone else ()
        alone = asked(target, single) if single else np.zeros((0, vectors.shape[1]))
        held = vocabulary.numbers(texts)
        heads = WordBeliefs.fit(vectors, held, vocabulary, alone, self.ridge, self.plain)
        usual = usual_length(held)
        guesses: list[tuple[str, ...]] = []
        for beliefs in heads(directions(target.captured_embeddings())):
            chosen = ranked(beliefs, heads.threshold, usual, 2 * usual)
            guesses.append((" ".join(vocabulary.names[i] for i in chosen),))
        return Texts(tuple(guesses))
