"""What an adversary who reads updates takes for granted: a ladder of rungs, each known, guessed or unknown.

Every result of gradient inversion states it, for attacks are published under assumptions that differ
more than their methods do.
"""

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any


class Standing(StrEnum):
    """How an adversary comes by something."""

    KNOWN = "known"
    GUESSED = "guessed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Rung:
    """One thing about the making of an update: its value, and how the adversary comes by it.

    `value` is None where it is unknown; a rung that is known or guessed has one.
    """

    value: Any = None
    standing: Standing = Standing.UNKNOWN

    @classmethod
    def known(cls, value: Any) -> "Rung":
        return cls(value, Standing.KNOWN)


UNKNOWN = Rung()

# The threat models A to H of Carletti et al. 2025, SoK: Gradient Inversion Attacks in Federated Learning, USENIX
# Security (its table of threat models): each sees the updates; what else it has is told by `Assumptions.letter`.
THREATS = {
    "A": "eavesdropper",
    "B": "informed eavesdropper",
    "C": "parameter-aware eavesdropper",
    "D": "data-enhanced eavesdropper",
    "E": "statistical-informed eavesdropper",
    "F": "active manipulator",
    "G": "data-enhanced manipulator",
    "H": "active client manipulator",
}


@dataclass(frozen=True)
class Assumptions:
    """The ladder. The model itself, and the loss it is trained with, every adversary here has.

    Attributes:
        batch: records in a client's update (int).
        labels: the class of each record, one row a client (k, n), in the order of the records.
        counts: how many records of each class, one row a client (k, c).
        rate: learning rate of the local steps (float).
        local_batch: records in a local step (int); those of the update, for a gradient.
        steps: local steps in an update (int); a gradient is one step.
        epochs: passes over the client's records (int).
        mode: "train" or "eval": which statistics batch normalisation computes with.
        statistics: of batch normalisation over each client's records: a list with one mapping a client,
            "<layer>.mean" and "<layer>.var" -> array.
        optimiser: of the local steps ("sgd").
        normalisation: mean and standard deviation that records are prepared with.
        prior: what records look like in general: public records or a generative model (their name).
        active: whether the server may alter the model before the round.
        selects: whether the server may choose which clients take part.
    """

    batch: Rung = UNKNOWN
    labels: Rung = UNKNOWN
    counts: Rung = UNKNOWN
    rate: Rung = UNKNOWN
    local_batch: Rung = UNKNOWN
    steps: Rung = UNKNOWN
    epochs: Rung = UNKNOWN
    mode: Rung = UNKNOWN
    statistics: Rung = UNKNOWN
    optimiser: Rung = UNKNOWN
    normalisation: Rung = UNKNOWN
    prior: Rung = UNKNOWN
    active: bool = False
    selects: bool = False

    def guess(self, **values: Any) -> "Assumptions":
        """The ladder after the adversary has guessed values for rungs it did not know; known ones stay.

        Raises:
            AttributeError: for a rung that does not exist.
        """
        guessed = {
            name: Rung(value, Standing.GUESSED)
            for name, value in values.items()
            if getattr(self, name).standing is not Standing.KNOWN
        }
        return replace(self, **guessed)

    def without(self, *names: str) -> "Assumptions":
        """The ladder of an adversary who is not told these rungs."""
        return replace(self, **dict.fromkeys(names, UNKNOWN))

    @property
    def letter(self) -> str:
        """The threat model, "A" to "H", that holds all that is known (a guess costs the adversary nothing)."""

        def known(*names: str) -> bool:
            return any(getattr(self, name).standing is Standing.KNOWN for name in names)

        if self.active:
            return "H" if self.selects else "G" if known("prior", "statistics") else "F"
        if known("statistics"):
            return "E"
        if known("prior"):
            return "D"
        if known("rate", "local_batch", "steps", "epochs", "optimiser"):
            return "C"
        return "B" if known("batch", "labels", "counts", "mode", "normalisation") else "A"

    def only(self, names: frozenset[str]) -> "Assumptions":
        """The ladder without what an attack makes no use of: what its result rests on."""
        unused = [f.name for f in fields(self) if f.name not in names and f.name not in ("active", "selects")]
        return self.without(*unused)

    def facts(self) -> dict[str, float | str | None]:
        """The ladder in words, for a finding."""
        rungs = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("active", "selects")}
        said: dict[str, float | str | None] = {"threat_model": f"{self.letter} ({THREATS[self.letter]})"}
        for standing in Standing:
            named = [_told(name, rung) for name, rung in rungs.items() if rung.standing is standing]
            said[f"assumptions_{standing}"] = ", ".join(named) or "none"
        return said


def _told(name: str, rung: Rung) -> str:
    """A rung with its value where that is short; the values of private ones are left out."""
    short = isinstance(rung.value, int | float | str) and not isinstance(rung.value, bool)
    return f"{name} {rung.value}" if short else name
