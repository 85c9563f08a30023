"""Updates with the largest values alone."""

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from seepage.core.case import Case
from seepage.core.defense import UpdateDefense
from seepage.core.victim import Update
from seepage.defenses.updates.vectors import flat, like


class TopKUpdate(UpdateDefense):
    """Sends the values of the greatest magnitude, over all tensors together, and zero for the others.

    Meant to save bytes; which values are sent tells of the records too. What is left out is dropped, not kept for a
    later round. Of equal values those that come first are sent.

    Attributes:
        keep: share of the values that are sent.
    """

    name: ClassVar[str] = "top-k-update"
    title: ClassVar[str] = "Largest values of the update"
    cites: ClassVar[tuple[str, ...]] = (
        "Aji, Heafield 2017, Sparse Communication for Distributed Gradient Descent, EMNLP",
        "Zhu, Liu, Han 2019, Deep Leakage from Gradients, NeurIPS (as a defense)",
    )

    keep: float = Field(default=0.1, gt=0, le=1)

    def facts(self, case: Case) -> Mapping[str, float | str | None]:
        return {"share_of_values_sent": self.keep}

    def possible(self, sent: Update) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
        """What was sent is known; what was not is no greater than the least that was."""
        magnitudes = np.abs(flat(sent))
        least = float(magnitudes[magnitudes > 0].min(initial=np.inf))
        least = least if np.isfinite(least) else 0.0
        room = {name: np.where(t == 0, least, 0.0) for name, t in sent.tensors.items()}
        return {name: (t - room[name], t + room[name]) for name, t in sent.tensors.items()}

    def apply(self, update: Update, rng: np.random.Generator) -> Update:
        """The update with zeros for all but the largest values, at least one; draws nothing from `rng`."""
        del rng
        vector = flat(update)
        kept = np.argsort(-np.abs(vector), kind="stable")[: max(1, math.ceil(self.keep * len(vector)))]
        sparse = np.zeros_like(vector)
        sparse[kept] = vector[kept]
        return like(update, sparse)
