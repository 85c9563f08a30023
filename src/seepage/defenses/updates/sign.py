"""Updates of which the signs alone are sent."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np
from pydantic import Field

from seepage.core.case import Case
from seepage.core.defense import UpdateDefense
from seepage.core.victim import Update
from seepage.defenses.updates.vectors import flat


class Sign(UpdateDefense):
    """Sends the sign of every value, one scale a tensor; a value that is zero stays zero.

    Attributes:
        scaled: whether the scale is the mean magnitude of the tensor, so that the step keeps its size; 1 otherwise.
    """

    name: ClassVar[str] = "sign"
    title: ClassVar[str] = "Signs of the update"
    cites: ClassVar[tuple[str, ...]] = (
        "Bernstein, Wang, Azizzadenesheli, Anandkumar 2018, signSGD: Compressed Optimisation for Non-Convex "
        "Problems, ICML",
        "Karimireddy, Rebjock, Stich, Jaggi 2019, Error Feedback Fixes SignSGD, ICML (the scale)",
    )

    scaled: bool = Field(default=True)

    def facts(self, case: Case) -> Mapping[str, float | str | None]:
        return {"bits_per_value": 1.0}

    def possible(self, sent: Update) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
        """Anything of the same sign; zero was zero."""
        return {name: (np.where(t < 0, -np.inf, 0.0), np.where(t > 0, np.inf, 0.0)) for name, t in sent.tensors.items()}

    def apply(self, update: Update, rng: np.random.Generator) -> Update:
        """The update's signs; draws nothing from `rng`."""
        del rng
        flat(update)

        def signs(tensor: np.ndarray) -> np.ndarray:
            scale = float(np.abs(tensor.astype(np.float64)).mean()) if self.scaled and tensor.size else 1.0
            return (np.sign(tensor) * scale).astype(tensor.dtype)

        return replace(update, tensors={name: signs(tensor) for name, tensor in update.tensors.items()})
