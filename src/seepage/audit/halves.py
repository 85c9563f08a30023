"""Which records each reference model is trained on: halves of the candidates, filled up with public records."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from seepage.core.errors import ConfigError
from seepage.core.records import Records
from seepage.core.seeds import stream

Array = np.ndarray

# Public records kept from every training, against which RMIA compares candidates.
POPULATION = 1000
# The fewest of them that are worth it.
LEAST = 100


def halves(candidates: int, models: int, rng: np.random.Generator) -> Bool[Array, " k n"]:
    """Which candidates each model is trained on: pairs of complementary halves, so that each is in half of all models.

    Raises:
        ConfigError: for a number of models that is odd or none.
    """
    if models < 2 or models % 2:
        raise ConfigError(f"reference models come in pairs: an even number, 2 or more, was wanted, got {models}")
    inside = np.zeros((models, candidates), dtype=bool)
    for pair in range(0, models, 2):
        chosen = rng.permutation(candidates)[: candidates // 2]
        inside[pair, chosen] = True
        inside[pair + 1] = ~inside[pair]
    return inside


@dataclass(frozen=True)
class Public:
    """Public records that can serve reference models: some are trained on, the others on none.

    Attributes:
        fill: join a model's half of the candidates where that is fewer than the victim was trained on.
        population: kept from every training; None where there are too few.
    """

    fill: Records | None = None
    population: Records | None = None

    @classmethod
    def of(cls, public: Records | None, like: Records, wanted: int, seed: int) -> "Public":
        """What public records with the classes of `like` are good for.

        Args:
            public: the adversary's records; without classes, or with others, they serve nothing here.
            like: the candidates.
            wanted: records that a half of the candidates lacks.
            seed: decides which record goes where.
        """
        same = public is not None and public.labelled and public.task is like.task
        if public is None or not same or public.class_names != like.class_names or not len(public):
            return cls()
        order = stream(seed, "references", "public").permutation(len(public))
        # Training comes second: a population is worth more to the attacks than a few more records.
        aside = min(POPULATION, max(len(public) // 2, len(public) - wanted))
        aside = aside if aside >= LEAST else 0
        fill = public[np.sort(order[aside:])] if wanted > 0 and aside < len(public) else None
        return cls(fill, public[np.sort(order[:aside])] if aside else None)
