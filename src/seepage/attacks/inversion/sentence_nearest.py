"""Texts recovered as the public text whose vector lies nearest: what a lookup alone gives."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from seepage.attacks.inversion.sentence_parts import asked, directions, public_texts, within
from seepage.core.attack import TextInversionAttack
from seepage.core.guess import Texts
from seepage.core.knowledge import Knowledge, TextInversionKnowledge
from seepage.core.target import Target
from seepage.core.vocabulary import Access


class SentenceNearest(TextInversionAttack):
    """Asks for the vectors of public texts and returns, for each captured vector, the nearest ones by cosine.

    A weak attack: it finds the subject of a text, and its words only where somebody has written them before.
    """

    name: ClassVar[str] = "sentence-nearest"
    title: ClassVar[str] = "Nearest public text"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.EMBEDDINGS})
    cites: ClassVar[tuple[str, ...]] = (
        "Cover, Hart 1967, Nearest Neighbor Pattern Classification, IEEE Transactions on Information Theory 13",
    )
    needs_public: ClassVar[bool] = True

    queries: int = Field(default=10_000, ge=1, description="public texts asked, budget permitting")
    kept: int = Field(default=5, ge=1, description="texts returned for each vector")

    def cost(self, knowledge: TextInversionKnowledge, budget: int | None) -> int:
        known = 0 if knowledge.public is None else len(knowledge.public)
        return within(min(self.queries, known), budget)

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if budget is not None and budget < 1:
            return "it asks for the vector of at least one public text"
        return super().obstacle(knowledge, budget)

    def run(self, target: Target, knowledge: TextInversionKnowledge, rng: np.random.Generator) -> Texts:
        texts = public_texts(knowledge, within(self.queries, target.remaining), rng)
        near = directions(target.captured_embeddings()) @ asked(target, texts).T
        order = np.argsort(-near, axis=1, kind="stable")[:, : self.kept]
        return Texts(tuple(tuple(texts[i] for i in row) for row in order))
