"""The predicted class and nothing else: the most that an answer can be cut to."""

from typing import ClassVar

import numpy as np
from jaxtyping import Float

from seepage.core.defense import OutputDefense
from seepage.core.victim import Model
from seepage.core.vocabulary import Access, Task
from seepage.defenses.outputs.wrapped import DefendedModel

Array = np.ndarray


class LabelsOnly(OutputDefense):
    """Answer the likeliest class, without a score.

    Where scores are tied the lowest class is answered. An answer still says on which side of every boundary
    a record lies, so an adversary who may ask often learns the boundaries: `brep-mi` and `lokt` are built on
    that, and the distance to the boundary tells members apart. It takes precision away, not the leak.
    """

    name: ClassVar[str] = "labels-only"
    title: ClassVar[str] = "Labels only"
    cites: ClassVar[tuple[str, ...]] = (
        "Tramer, Zhang, Juels, Reiter, Ristenpart 2016, Stealing Machine Learning Models via Prediction APIs, "
        "USENIX Security",
        "Shokri, Stronati, Song, Shmatikov 2017, Membership Inference Attacks Against Machine Learning Models, "
        "IEEE S&P",
        "Choquette-Choo, Tramer, Carlini, Papernot 2021, Label-Only Membership Inference Attacks, ICML (what "
        "is left behind it)",
    )
    leaves: ClassVar[frozenset[Access]] = frozenset({Access.LABELS})
    tasks: ClassVar[frozenset[Task]] = frozenset({Task.CLASSES})

    @property
    def resolution(self) -> float:
        """An answer is 0 or 1: the grid's step is 1."""
        return 1.0

    def answer(self, scores: Float[Array, " n c"]) -> Float[Array, " n c"]:
        """One-hot rows: 1 at the likeliest class, the lowest of those tied. Answering twice changes nothing more."""
        scores = np.asarray(scores)
        rows = np.zeros(scores.shape, dtype=np.float32)
        rows[np.arange(len(scores)), scores.argmax(axis=1)] = 1.0
        return rows

    def wrap(self, model: Model, rng: np.random.Generator) -> DefendedModel:
        """`model` answering labels alone; draws nothing from `rng`."""
        del rng
        return DefendedModel(model, self.answer, self.leaves)
