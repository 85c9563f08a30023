"""Reference models: the adversary's own, trained as the victim was, on records it chose itself.

What membership attacks need of them is what they answer to the candidates, so that is what is kept of them.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from seepage.core.errors import DataError
from seepage.core.records import Records

if TYPE_CHECKING:
    from seepage.core.defense import Defense

Array = np.ndarray


@dataclass(frozen=True)
class References:
    """What k reference models answer to the n candidates, and which candidates each was trained on.

    Models come in pairs, 2 i and 2 i + 1, trained on complementary halves of the candidates: every candidate was
    trained on by exactly half of the models. Whoever leaves one model out leaves out its partner, too: with the
    partner alone, counting a candidate's models would tell whether the missing one was trained on it.

    Attributes:
        inside: (k, n) which candidates each model was trained on.
        answers: (k, n, c) its scores on the candidates, as they come out of the defenses the adversary knows of.
        population: public records of the same kind that neither the victim nor any reference was trained on; None
            where there are none.
        population_answers: (k, z, c) its scores on them.
    """

    inside: Bool[Array, " k n"]
    answers: Float[Array, " k n c"]
    population: Records | None = None
    population_answers: Float[Array, " k z c"] | None = None

    def __post_init__(self) -> None:
        if self.inside.shape != self.answers.shape[:2]:
            raise DataError(
                f"reference models: answers of {self.inside.shape} (models, candidates) were wanted, got "
                f"{self.answers.shape[:2]}"
            )
        if len(self.inside) % 2 or not np.array_equal(self.inside[0::2], ~self.inside[1::2]):
            raise DataError(
                "reference models come in pairs trained on complementary halves of the candidates; these do not"
            )
        if (self.population is None) != (self.population_answers is None):
            raise DataError("reference models: records of the population and answers to them go together")

    def __len__(self) -> int:
        return len(self.inside)

    def without_pair(self, model: int) -> "References":
        """The models but this one and its partner: the references of a rehearsal in which it is the victim."""
        kept = np.arange(len(self)) // 2 != model // 2
        told = None if self.population_answers is None else self.population_answers[kept]
        return References(self.inside[kept], self.answers[kept], self.population, told)

    def first(self, models: int) -> "References":
        """The first so many models, an even number."""
        told = None if self.population_answers is None else self.population_answers[:models]
        return References(self.inside[:models], self.answers[:models], self.population, told)


@runtime_checkable
class ReferenceSource(Protocol):
    """Where the adversary's reference models come from: trained once, then kept."""

    @property
    def models(self) -> int:
        """How many there are, an even number."""
        ...

    @property
    def population(self) -> Records | None:
        """Public records that no reference is trained on, known before anything is trained."""
        ...

    def get(self) -> References:
        """Their answers; trains those that are not there yet."""
        ...

    def behind(self, defense: "Defense") -> "ReferenceSource":
        """The same with every model behind a defense the adversary knows of."""
        ...
