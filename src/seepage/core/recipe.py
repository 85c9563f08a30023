"""How victims are made: data, trainer and seed. What twins, training defenses and poisons need."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from seepage.core.records import Records
from seepage.core.victim import Victim

Array = np.ndarray
Trainer = Callable[[Records, int], Victim]


@dataclass(frozen=True)
class Recipe:
    """A trainer with the pool of records it may draw on.

    Attributes:
        train: maps records and a seed to a victim; the same arguments give the same victim.
        data: the pool that member indices point into.
        name: for reports and cache keys.
        extra: records that every fit adds to the chosen members (what a poison injects).
    """

    train: Trainer
    data: Records
    name: str = "recipe"
    extra: Records | None = None

    def fit(self, members: Int[Array, " m"], seed: int) -> Victim:
        """A victim trained on the chosen records of the pool (and on `extra`)."""
        chosen = self.data[members]
        return self.train(chosen if self.extra is None else chosen.joined(self.extra), seed)

    def on(self, data: Records) -> "Recipe":
        """The same trainer on another pool: how a null twin is made."""
        return replace(self, data=data)

    def with_trainer(self, train: Trainer, name: str) -> "Recipe":
        """Another trainer on the same pool: what a training defense returns."""
        return replace(self, train=train, name=name)

    def with_extra(self, extra: Records) -> "Recipe":
        """The same recipe with records injected into every fit: what a poison returns."""
        return replace(self, extra=extra if self.extra is None else self.extra.joined(extra))
