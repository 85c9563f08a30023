"""Where priors come from: the user's own, one kept from before, or one trained now and kept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seepage.core.errors import ConfigError, did_you_mean
from seepage.core.knowledge import InversionKnowledge
from seepage.core.records import Records
from seepage.core.spec import InputSpec
from seepage.models.priors.base import Prior
from seepage.models.priors.pca import PCAPrior


def _pca(public: Records, spec: InputSpec, seed: int, folder: Path | None, **options: Any) -> Prior:
    return PCAPrior.fit(public.x, spec, **options)


# kind -> (public, spec, seed, folder, **options) -> prior; a trainer that takes long keeps its work in `folder`.
TRAINERS: Mapping[str, Callable[..., Prior]] = {"pca": _pca}


@dataclass(frozen=True)
class Shelf:
    """Gives priors by kind.

    Attributes:
        folder: where trained priors are kept; None keeps none.
        own: a generator the user brought: the kind "own".
        seed: of every training.
    """

    folder: Path | None = None
    own: Prior | None = None
    seed: int = 0

    def get(self, kind: str, public: Records, spec: InputSpec, **options: Any) -> Prior:
        """The prior of this kind, learned from `public`.

        Raises:
            ConfigError: for an unknown kind, or "own" when none was brought.
            DataError: for public records that no prior can be learned from.
        """
        if kind == "own":
            if self.own is None:
                raise ConfigError("the prior 'own' was asked for, and none was brought: set [prior] path, or prior=")
            return self.own
        if kind not in TRAINERS:
            raise ConfigError(f"unknown prior '{kind}': {did_you_mean(kind, [*TRAINERS, 'own'])}")
        return TRAINERS[kind](public, spec, self.seed, self.folder, **options)


def prior_for(knowledge: InversionKnowledge, kind: str, **options: Any) -> Prior:
    """The prior of this kind that an adversary with this knowledge has.

    Raises:
        ValueError: without public records; an attack's `obstacle` says so before.
        ConfigError, DataError: as `Shelf.get`.
    """
    if knowledge.public is None:
        raise ValueError("public records are needed; `obstacle` says so")
    source = knowledge.priors if knowledge.priors is not None else Shelf()
    return source.get(kind, knowledge.public, knowledge.spec, **options)
