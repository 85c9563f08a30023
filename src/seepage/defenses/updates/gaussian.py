"""Gaussian noise on clipped updates: differential privacy of a client."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from seepage.core.case import Case
from seepage.core.defense import UpdateDefense
from seepage.core.victim import Update
from seepage.defenses.updates.clip import clipped
from seepage.defenses.updates.vectors import flat, like, refuse_buffers
from seepage.models.accounting import gaussian_epsilon, stated

# Two clipped updates lie no further apart than this many clipping norms.
REPLACED = 2.0
UNIT = "client, before a server that sees its update: all its records may be any others"


class GaussianNoise(UpdateDefense):
    """Shortens the update to l2 norm `clip`, then adds Gaussian noise of standard deviation `multiplier * clip`.

    The client adds it, so nobody has to be trusted. With the number of rounds it gives (epsilon, delta): any two
    clients could have sent this update, up to a factor of e^epsilon in the odds. The sensitivity is 2 `clip`, since
    all of a client's records may be replaced; a server that is trusted to add the noise to a sum would need less.

    Attributes:
        clip: the greatest l2 norm of an update.
        multiplier: standard deviation of the noise, in units of `clip`.
        rounds: how many updates a client sends in the whole training: epsilon is composed over them.
        delta: the probability with which the guarantee may fail; well below one over the number of clients.
    """

    name: ClassVar[str] = "gaussian-noise"
    title: ClassVar[str] = "Clipped, with Gaussian noise"
    cites: ClassVar[tuple[str, ...]] = (
        "Balle, Wang 2018, Improving the Gaussian Mechanism for Differential Privacy, ICML",
        "Geyer, Klein, Nabi 2017, Differentially Private Federated Learning: A Client Level Perspective, NIPS workshop",
    )

    clip: float = Field(default=1.0, gt=0)
    multiplier: float = Field(default=1.0, gt=0)
    rounds: int = Field(default=1, ge=1)
    delta: float = Field(default=1e-5, gt=0, lt=1)

    def noise(self, sent: np.ndarray) -> float:
        return self.multiplier * self.clip

    @property
    def longest(self) -> tuple[float, int]:
        return self.clip, 2

    @property
    def epsilon(self) -> float | None:
        """What the noise buys over all rounds, exactly; None where there is no guarantee worth the name."""
        return gaussian_epsilon(self.multiplier, self.delta, self.rounds, REPLACED)

    def facts(self, case: Case) -> Mapping[str, float | str | None]:
        return stated(self.epsilon, self.delta, self.rounds, UNIT)

    def apply(self, update: Update, rng: np.random.Generator) -> Update:
        """The update clipped and noised, drawn anew for every value.

        Raises:
            ConfigError: when it carries statistics that the noise would not cover.
        """
        refuse_buffers(update, self.name)
        vector = clipped(flat(update), self.clip)
        return like(update, vector + rng.normal(scale=self.multiplier * self.clip, size=vector.shape))
