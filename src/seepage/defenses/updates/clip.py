"""Updates shortened to a greatest length."""

from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from seepage.core.defense import UpdateDefense
from seepage.core.victim import Update
from seepage.defenses.updates.vectors import flat, like

Array = np.ndarray


def clipped(vector: Float[Array, " d"], norm: float, order: Literal[1, 2] = 2) -> Float[Array, " d"]:
    """The vector shortened to the greatest length `norm` (l1 or l2); left as it is where it is no longer than that."""
    length = float(np.linalg.norm(vector, order))
    return vector * (norm / length) if length > norm else vector


class Clip(UpdateDefense):
    """Shortens the whole update to a greatest l2 norm.

    On its own it changes one number, the scale: whatever is read from ratios of gradients is left. It is here as the
    first half of noise, and because it is often taken for a defense.

    Attributes:
        norm: the greatest l2 norm over all tensors together.
    """

    name: ClassVar[str] = "clip"
    title: ClassVar[str] = "Clipped update"
    cites: ClassVar[tuple[str, ...]] = (
        "McMahan, Ramage, Talwar, Zhang 2018, Learning Differentially Private Recurrent Language Models, ICLR",
    )

    norm: float = Field(default=1.0, gt=0)

    @property
    def longest(self) -> tuple[float, int]:
        return self.norm, 2

    def apply(self, update: Update, rng: np.random.Generator) -> Update:
        """The update shortened; draws nothing from `rng`."""
        del rng
        return like(update, clipped(flat(update), self.norm))
