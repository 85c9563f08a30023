"""Scores rounded to a few digits: less of what the model knows leaves it."""

from typing import ClassVar

import numpy as np
from jaxtyping import Float
from pydantic import Field

from seepage.core.defense import OutputDefense
from seepage.core.victim import Model
from seepage.defenses.outputs.wrapped import DefendedModel

Array = np.ndarray


class Round(OutputDefense):
    """Round every score to so many decimal digits.

    A score moves by 0.5 * 10^-digits at the most. Rows are answered as rounded and need not sum to one.
    Classes whose scores become equal are tied: the label is then the lowest of them, which may not be the
    label without the defense (with 0 digits, class 0 whenever no score exceeds one half).

    Attributes:
        digits: decimal digits kept.
    """

    name: ClassVar[str] = "round"
    title: ClassVar[str] = "Rounded scores"
    cites: ClassVar[tuple[str, ...]] = (
        "Fredrikson, Jha, Ristenpart 2015, Model Inversion Attacks that Exploit Confidence Information and Basic "
        "Countermeasures, CCS",
        "Shokri, Stronati, Song, Shmatikov 2017, Membership Inference Attacks Against Machine Learning Models, "
        "IEEE S&P",
    )

    digits: int = Field(default=2, ge=0, le=10)

    @property
    def resolution(self) -> float:
        """The step between two answers: 10^-digits."""
        return 10.0**-self.digits

    def answer(self, scores: Float[Array, " n c"]) -> Float[Array, " n c"]:
        """The scores rounded; halves go to the even digit. Rounding twice changes nothing more."""
        return np.round(np.asarray(scores, dtype=np.float64), self.digits).astype(np.float32)

    def wrap(self, model: Model, rng: np.random.Generator) -> DefendedModel:
        """`model` answering rounded scores; draws nothing from `rng`."""
        del rng
        return DefendedModel(model, self.answer, self.leaves)
