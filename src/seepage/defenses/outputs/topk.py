"""The scores of the likeliest few classes, and no others."""

from typing import ClassVar

import numpy as np
from jaxtyping import Float
from pydantic import Field

from seepage.core.defense import OutputDefense
from seepage.core.victim import Model
from seepage.core.vocabulary import Access, Task
from seepage.defenses.outputs.wrapped import DefendedModel

Array = np.ndarray


class TopK(OutputDefense):
    """Answer the scores of the `k` likeliest classes; the others are masked (answered as 0).

    Rows then sum to less than one: the scores that are answered are not scaled up, since the sum over the
    rest is no secret either way (one minus the sum of those answered). Of classes tied for the last place
    the lower ones are answered. The predicted class never changes.

    An adversary who trains on answers cut the same way loses little by it (Yang et al. 2019).

    Attributes:
        k: how many classes' scores are answered; as many as there are classes masks nothing.
    """

    name: ClassVar[str] = "top-k"
    title: ClassVar[str] = "Scores of the likeliest classes only"
    cites: ClassVar[tuple[str, ...]] = (
        "Shokri, Stronati, Song, Shmatikov 2017, Membership Inference Attacks Against Machine Learning Models, "
        "IEEE S&P (restricting the prediction vector to the top k classes)",
        "Yang, Zhang, Chang, Liang 2019, Neural Network Inversion in Adversarial Setting via Background Knowledge "
        "Alignment, CCS (inversion of truncated predictions)",
    )
    leaves: ClassVar[frozenset[Access]] = frozenset({Access.TOP_K, Access.LABELS})
    tasks: ClassVar[frozenset[Task]] = frozenset({Task.CLASSES})

    k: int = Field(default=3, ge=1, description="classes whose scores are answered")

    def answer(self, scores: Float[Array, " n c"]) -> Float[Array, " n c"]:
        """The scores, 0 but for the k greatest of each row. Masking twice changes nothing more."""
        scores = np.asarray(scores)
        kept = np.argsort(-scores, axis=1, kind="stable")[:, : self.k]
        rows = np.zeros_like(scores)
        np.put_along_axis(rows, kept, np.take_along_axis(scores, kept, axis=1), axis=1)
        return rows

    def wrap(self, model: Model, rng: np.random.Generator) -> DefendedModel:
        """`model` answering its likeliest classes alone; draws nothing from `rng`."""
        del rng
        return DefendedModel(model, self.answer, self.leaves)
