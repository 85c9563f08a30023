"""Shadow models: the adversary's own, trained as the victim was, at shares of a group that it chose itself.

What property inference learns from them is how a share shows in a model, so that the models themselves are kept.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from seepage.core.errors import DataError
from seepage.core.recipe import Recipe
from seepage.core.victim import Model

if TYPE_CHECKING:
    from seepage.core.defense import Defense

Array = np.ndarray


@dataclass(frozen=True)
class Shadows:
    """Models with the share of the group that each was trained on.

    Attributes:
        models: the models.
        shares: (k,) the shares, in [0, 1].
        drawn: the part of the public records of the group, or of the others, whichever is greater, that one of them
            was trained on, in [0, 1), on average: how much they have in common.
    """

    models: tuple[Model, ...]
    shares: Float[Array, " k"]
    drawn: float

    def __post_init__(self) -> None:
        if len(self.models) != len(self.shares):
            raise DataError(f"as many shares as models were wanted: {len(self.models)} and {len(self.shares)}")
        if not 0 <= self.drawn < 1:
            raise DataError(f"a part of the records below all of them was wanted, got {self.drawn}")

    def __len__(self) -> int:
        return len(self.models)


@runtime_checkable
class ShadowSource(Protocol):
    """Where the adversary's shadow models come from: trained once, then kept."""

    @property
    def models(self) -> int:
        """How many there are."""
        ...

    def get(self, recipe: Recipe, defenses: "tuple[Defense, ...]") -> Shadows:
        """The models, trained by `recipe` and standing behind `defenses`, as the adversary knows both."""
        ...
