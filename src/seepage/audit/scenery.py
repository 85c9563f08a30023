"""A scene with what is to be said of it: what a setting is made of, besides attacks and arms."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seepage.audit.priors import Brought
from seepage.audit.records import Facts
from seepage.cases.scene import Scene
from seepage.core.vocabulary import Access


@dataclass(frozen=True)
class Staged:
    """A scene, from a file or from live objects.

    Attributes:
        scene: the victim and its records.
        name, kind: of the victim, for the record.
        identity: what decides the results besides attacks and arms.
        access: what the adversary is granted.
        data_facts, victim_facts: what the record says before anything is opened.
        known: whether the victim can be told apart from others, so that findings may be used again.
        brought: the priors, where the scene has any.
        opened: the accesses that the victim gives, where asking the scene would train it.
        kept: where a model that the scene trains is kept, by name.
    """

    scene: Scene
    name: str
    kind: str
    identity: Mapping[str, Any]
    access: Access
    data_facts: Facts
    victim_facts: Facts = field(default_factory=dict[str, float | str | None])
    known: bool = True
    brought: Brought | None = None
    opened: Callable[[], frozenset[Access]] | None = None
    kept: Callable[[str], Path | None] = field(default=lambda name: None)

    def offers(self) -> frozenset[Access]:
        """The accesses that the victim gives."""
        return self.scene.offers if self.opened is None else self.opened()
