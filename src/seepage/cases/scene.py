"""What all cases of one audit are built from, whatever its victim is: a classifier, an encoder of texts, updates.

The audit plans and plays on scenes; only a case knows which kind of scene it is built in.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from seepage.core.records import Records
from seepage.core.spec import InputSpec
from seepage.core.victim import Victim
from seepage.core.vocabulary import Access, Modality


@dataclass(frozen=True, kw_only=True)
class Scene(ABC):
    """The victim and the records of one audit.

    Attributes:
        members: what the victim was trained on, was asked about, or what clients trained on.
        nonmembers, public: records held out, and what the adversary may own.
        spec: what one input looks like, or None where an input is no array (texts).
        seed: of the audit.
    """

    # What such a victim is called in messages.
    of: ClassVar[str] = "such a victim"

    members: Records
    nonmembers: Records | None = None
    public: Records | None = None
    spec: InputSpec | None
    seed: int = 0

    @property
    def modality(self) -> Modality:
        """What one record is."""
        return self.members.modality

    @property
    @abstractmethod
    def victim(self) -> Victim:
        """The victim: made when it is first asked for, and then kept."""

    @property
    def offers(self) -> frozenset[Access]:
        """The accesses that the victim can give at all; asking opens it."""
        return self.victim.offers

    @property
    @abstractmethod
    def twin_missing(self) -> str | None:
        """What the user could supply to have a null twin, or None when there can be one."""
