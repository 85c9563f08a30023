"""A group of records whose share in the training set is asked about, and what is trained to find out."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from seepage.core.shadows import ShadowSource

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Group:
    """The group, who is in it, and the models that tell how well its share can be told.

    Attributes:
        name: what the group is, in words: "Sex = Female".
        members, nonmembers, public: (n,) which of the records are of the group.
        share: its share as the public knows it.
        held: (n,) which public records are held back for asking.
        records: how many records every shadow model and every trial is trained on.
        trials: how many models are trained to see how well the share can be told, an even number.
        shadows: the adversary's own models.
    """

    name: str
    members: Bool[Array, " m"]
    nonmembers: Bool[Array, " n"] | None
    public: Bool[Array, " p"]
    share: float
    held: Bool[Array, " p"]
    records: int
    trials: int
    shadows: ShadowSource

    @property
    def truth(self) -> float:
        """Its share among the members."""
        return float(self.members.mean())
