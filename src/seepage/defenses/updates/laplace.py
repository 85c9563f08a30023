"""Laplace noise on clipped updates: pure differential privacy of a client."""

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from seepage.core.case import Case
from seepage.core.defense import UpdateDefense
from seepage.core.victim import Update
from seepage.defenses.updates.clip import clipped
from seepage.defenses.updates.gaussian import REPLACED, UNIT
from seepage.defenses.updates.vectors import flat, like, refuse_buffers
from seepage.models.accounting import laplace_epsilon, stated


class LaplaceNoise(UpdateDefense):
    """Shortens the update to l1 norm `clip`, then adds Laplace noise of scale `multiplier * clip`.

    Epsilon is 2 / `multiplier` a round and adds up over rounds; delta is 0. The l1 norm of an update grows with the
    number of weights, the noise of each value with that norm: for networks Gaussian noise costs far less.

    Attributes:
        clip: the greatest l1 norm of an update.
        multiplier: scale of the noise, in units of `clip` (its standard deviation is sqrt(2) times that).
        rounds: how many updates a client sends in the whole training: epsilon is composed over them.
    """

    name: ClassVar[str] = "laplace-noise"
    title: ClassVar[str] = "Clipped, with Laplace noise"
    cites: ClassVar[tuple[str, ...]] = (
        "Dwork, McSherry, Nissim, Smith 2006, Calibrating Noise to Sensitivity in Private Data Analysis, TCC",
    )

    clip: float = Field(default=1.0, gt=0)
    multiplier: float = Field(default=1.0, gt=0)
    rounds: int = Field(default=1, ge=1)

    def noise(self, sent: np.ndarray) -> float:
        return math.sqrt(2.0) * self.multiplier * self.clip

    @property
    def longest(self) -> tuple[float, int]:
        return self.clip, 1

    @property
    def epsilon(self) -> float | None:
        """What the noise buys over all rounds."""
        return laplace_epsilon(self.multiplier, self.rounds, REPLACED)

    def facts(self, case: Case) -> Mapping[str, float | str | None]:
        return stated(self.epsilon, 0.0, self.rounds, UNIT)

    def apply(self, update: Update, rng: np.random.Generator) -> Update:
        """The update clipped and noised, drawn anew for every value.

        Raises:
            ConfigError: when it carries statistics that the noise would not cover.
        """
        refuse_buffers(update, self.name)
        vector = clipped(flat(update), self.clip, order=1)
        return like(update, vector + rng.laplace(scale=self.multiplier * self.clip, size=vector.shape))
