"""Canaries: records that fair coins put into the training data or left out, and the claim they are held against."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool

from seepage.core.errors import ConfigError, DataError
from seepage.core.recipe import Recipe
from seepage.core.records import Records

Array = np.ndarray
Family = Literal["any", "gaussian"]

# Half of the canaries choose how to guess; of the others a bound needs some.
FEWEST = 20
# Canaries that are gradients in the steps of DP-SGD, and no records.
GRADIENT = "gradient"


@dataclass(frozen=True)
class Claim:
    """What is said of a mechanism: (epsilon, delta)-differential privacy of one record, there or not.

    Attributes:
        epsilon: 0 or more.
        delta: a probability, below 1.
        family: which mechanisms a bound is to hold for: "any", or those whose trade-off curve is at least that of a
            Gaussian one, for which bounds are far greater.
        attack: the one attack, by name, that was said beforehand to decide; None lets all of them, corrected for
            their number.
        source: who says so.
    """

    epsilon: float
    delta: float = 1e-5
    family: Family = "any"
    attack: str | None = None
    source: str = "the audit"

    def __post_init__(self) -> None:
        if not self.epsilon >= 0 or not np.isfinite(self.epsilon):
            raise ConfigError(f"claim: an epsilon of 0 or more was wanted, got {self.epsilon:g}")
        if not 0 <= self.delta < 1:
            raise ConfigError(f"claim: delta is a probability from 0 to below 1, got {self.delta:g}")
        if self.family not in ("any", "gaussian"):
            raise ConfigError(f"claim: family is 'any' or 'gaussian', got {self.family!r}")
        if self.family == "gaussian" and self.delta == 0:
            raise ConfigError("claim: at a delta of 0 no Gaussian mechanism has an epsilon: give a delta above 0")


@dataclass(frozen=True)
class Canaries:
    """Records of which each was included in the training data with probability 1/2, independently of all else.

    Attributes:
        records: the canaries with the classes they were (or would have been) trained with.
        included: which were.
        kind: how they were made.
        seed: of the coins and of what was drawn.
        notes: what is to be said of them.
    """

    records: Records
    included: Bool[Array, " m"]
    kind: str
    seed: int
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.included) != len(self.records):
            raise DataError(f"{len(self.records)} canaries came with {len(self.included)} coins; one each was wanted")
        if len(self.records) < FEWEST:
            raise DataError(
                f"at least {FEWEST} canaries were wanted, got {len(self.records)}: half of them choose how to guess, "
                "and a bound rests on the others"
            )

    def __len__(self) -> int:
        return len(self.records)

    def into(self, recipe: Recipe) -> Recipe:
        """The recipe that trains with the included canaries: as further records, or as entries of its own.

        A recipe takes gradient canaries as the keyword `canaries`, one bool each.
        """
        if self.kind == GRADIENT:
            return recipe.with_options(recipe.name, canaries=[bool(coin) for coin in self.included])
        return recipe.with_extra(self.inserted)

    @property
    def inserted(self) -> Records:
        """Those that were trained on."""
        return self.records[self.included]
