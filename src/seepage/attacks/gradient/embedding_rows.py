"""The set of tokens of a batch, by the rows of the token embedding that its update moved."""

from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field

from seepage.core.attack import TextGradientAttack
from seepage.core.guess import Texts
from seepage.core.knowledge import Knowledge, TextGradientKnowledge
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update

Array = np.ndarray


class EmbeddingRows(TextGradientAttack):
    """Reads which tokens a client's batch held: the rows of the token embedding's gradient that are not zero.

    A token that stands in no text moves no row. That gives the set, without order, count or which record: the same
    bag of tokens, those with the greatest rows first, is guessed for every record of the batch (once, where the
    batch is not known). Where no row is zero because noise was added, rows are taken whose length stands `sigmas`
    deviations above the middle of all.

    Nothing can be read where the output layer shares the embedding, for it moves every row, or where the embedding
    is frozen.
    """

    name: ClassVar[str] = "embedding-rows"
    title: ClassVar[str] = "Rows of the embedding's gradient"
    cites: ClassVar[tuple[str, ...]] = (
        "Melis, Song, De Cristofaro, Shmatikov 2019, Exploiting Unintended Feature Leakage in Collaborative Learning, "
        "IEEE S&P (section 4.1)",
    )
    uses: ClassVar[frozenset[str]] = frozenset({"batch"})

    sigmas: float = Field(default=6.0, gt=0, description="noise: deviations above the middle at which a row is taken")

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if isinstance(knowledge, TextGradientKnowledge) and knowledge.net.tied:
            return "the output layer shares the token embedding, so that every row of its gradient moves"
        if isinstance(knowledge, TextGradientKnowledge) and knowledge.net.embedding not in knowledge.net.trained_names:
            return "the token embedding is frozen: no update speaks of it"
        return super().obstacle(knowledge, budget)

    def outlook(self, knowledge: TextGradientKnowledge, update: Update) -> Outlook | None:
        name = knowledge.net.embedding
        if knowledge.net.tied or name not in update.tensors:
            why = "the output layer shares the token embedding" if knowledge.net.tied else f"no gradient of '{name}'"
            return Outlook(prospect="impossible", why=why, change="an embedding of its own that is trained")
        length = _lengths(update, name)
        moved = int((length > 0).sum())
        if moved == 0:
            return Outlook(prospect="impossible", why=f"'{name}' did not move")
        if moved == len(length):
            return Outlook(
                prospect="possible",
                why=f"every row of '{name}' moved: the update is noisy, and a token shows as far as it stands out",
                change="less noise, or more",
            )
        return Outlook(prospect="expected", why=f"{moved} of {len(length)} rows of '{name}' moved: those tokens")

    def run(self, target: Target, knowledge: TextGradientKnowledge, rng: np.random.Generator) -> Texts:
        found: list[tuple[str, ...]] = []
        counts: list[int] = []
        for client in range(knowledge.clients):
            rows = moved_rows(_lengths(target.update(client), knowledge.net.embedding), self.sigmas)
            rows = rows[rows != knowledge.net.pad]
            text = knowledge.net.write(rows.tolist()) if len(rows) else ""
            counts.append(len(rows))
            found.append((text,) * int(knowledge.assumptions.batch.value or 1) if text else ())
        facts = self.assumed(knowledge) | {"tokens_a_client": float(np.mean(counts)) if counts else 0.0}
        return Texts(tuple(found), facts=facts)


def _lengths(update: Update, name: str) -> Float[Array, " v"]:
    """(v,) the length of each token's row.

    Raises:
        DataError: where the tensor is missing or not finite.
    """
    return np.linalg.norm(update.tensor(name).astype(np.float64), axis=1)


def moved_rows(length: Float[Array, " v"], sigmas: float) -> Int[Array, " m"]:
    """The rows that moved, the longest first; where every row did, those that stand out of the others."""
    least = 0.0
    if (length > 0).mean() > 0.5:
        middle = float(np.median(length))
        least = middle + sigmas * float(np.median(np.abs(length - middle))) / 0.6745
    rows = np.nonzero(length > least)[0]
    return rows[np.argsort(-length[rows], kind="stable")]
