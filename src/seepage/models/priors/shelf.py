"""Where priors come from: the user's own, one kept from before, or one trained now and kept."""

import logging
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from seepage.core.errors import ConfigError, SeepageError, did_you_mean
from seepage.core.knowledge import GradientKnowledge, InversionKnowledge
from seepage.core.progress import Listener
from seepage.core.records import Records
from seepage.core.spec import InputSpec
from seepage.models.priors import artefact
from seepage.models.priors.base import Prior
from seepage.models.priors.diffusion import train_diffusion
from seepage.models.priors.gan import train_cgan, train_gan
from seepage.models.priors.pca import PCAPrior
from seepage.models.priors.quality import held_out, measured
from seepage.models.priors.work import Work

_log = logging.getLogger(__name__)
_MOST_IN_MEMORY = 8


def _pca(public: Records, spec: InputSpec, seed: int, work: Work, **options: Any) -> Prior:
    return PCAPrior.fit(public.x, spec, **options)


# kind -> (public, spec, seed, work, **options) -> prior; a training that takes long keeps its state by `work`.
TRAINERS: Mapping[str, Callable[..., Prior]] = {
    "pca": _pca,
    "gan": train_gan,
    "cgan": train_cgan,
    "diffusion": train_diffusion,
}
# Learned in no time: neither kept nor measured, and from all public records.
INSTANT = frozenset({"pca"})


def trained(
    kind: str, public: Records, spec: InputSpec, seed: int = 0, work: Work | None = None, **options: Any
) -> tuple[Prior, artefact.Card]:
    """A prior trained on public records, measured against a tenth of them, with its card.

    Args:
        kind: a key of `TRAINERS`.
        public: records of other people or other sources than the victim's.
        spec: what a record looks like.
        seed: of everything drawn.
        work: where the state is kept while it trains, and who is told; None for neither.
        **options: of that kind.

    Raises:
        ConfigError: for an unknown kind or option.
        DataError: for records that no such prior can be learned from.
        ModelError: when training does not hold.
    """
    train = _trainer(kind)
    if work is None:
        work = Work()
    seen, apart = held_out(public, seed)
    prior = train(seen, spec, seed, work, **options)
    artefact.check(prior, kind)
    mirrored = prior.facts.get("mirrored") == "yes"
    quality = measured(prior, seen, apart, seed, mirrored)
    if quality["warning"] is not None:
        _log.warning("the prior '%s': %s", kind, quality["warning"])
    prior = artefact.with_facts(prior, {"source": public.source, "records": float(len(public)), **quality})
    return prior, artefact.card_of(prior, public, seed, options, {**prior.facts, **quality})


class _Memory:
    """Priors of this process, the latest few; each is trained by one thread while others wait for it."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, Prior] = OrderedDict()
        self._lock = threading.Lock()
        self._busy: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def get(self, key: str, make: Callable[[], Prior]) -> Prior:
        """The prior under `key`, made now when there is none."""
        with self._lock:
            busy = self._busy[key]
        with busy:
            with self._lock:
                if key in self._held:
                    self._held.move_to_end(key)
                    return self._held[key]
            made = make()
            with self._lock:
                self._held[key] = made
                while len(self._held) > _MOST_IN_MEMORY:
                    self._busy.pop(self._held.popitem(last=False)[0], None)
            return made


_MEMORY = _Memory()


@dataclass(frozen=True)
class Shelf:
    """Gives priors by kind. It may be shared by threads, and by processes that share `folder`.

    Attributes:
        folder: where trained priors are kept; None keeps them in this process alone.
        own: a generator the user brought: the kind "own".
        seed: of every training.
        listener: told how far a training is.
    """

    folder: Path | None = None
    own: Prior | None = None
    seed: int = 0
    listener: Listener | None = field(default=None, compare=False, repr=False)

    def get(self, kind: str, public: Records, spec: InputSpec, **options: Any) -> Prior:
        """The prior of this kind, learned from `public`: found in memory, in the folder, or trained now.

        Raises:
            ConfigError: for an unknown kind or option, or "own" when none was brought.
            DataError: for public records that no prior can be learned from.
            ModelError: when training does not hold.
            StoreError: when the folder cannot be written.
        """
        if kind == "own":
            if self.own is None:
                raise ConfigError("the prior 'own' was asked for, and none was brought: set [prior] path, or prior=")
            return self.own
        trainer = _trainer(kind)
        if kind in INSTANT:
            return trainer(public, spec, self.seed, Work(), **options)
        key = artefact.fingerprint(kind, public, spec, self.seed, options)

        def make() -> Prior:
            if self.folder is None:
                work = Work(listener=self.listener, task=_task(kind))
                return trained(kind, public, spec, self.seed, work, **options)[0]
            return self._kept(self.folder, key, kind, public, spec, options)

        return _MEMORY.get(f"{self.folder}/{key}", make)

    def _kept(
        self, folder: Path, key: str, kind: str, public: Records, spec: InputSpec, options: Mapping[str, Any]
    ) -> Prior:
        stem = folder / f"{kind}-{key[:16]}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"priors cannot be kept in {folder}: {error.strerror or error}") from error
        # Two workers may want the same one: the second waits, and finds it.
        with FileLock(folder / f"{stem.name}.lock"):
            if stem.with_name(stem.name + artefact.CARD).is_file():
                try:
                    return artefact.load(stem, spec)
                except SeepageError as error:
                    _log.warning("the prior kept at %s cannot be used (%s): it is trained again", stem, error)
            work = Work(stem.with_name(stem.name + ".part"), key, self.listener, _task(kind))
            prior, card = trained(kind, public, spec, self.seed, work, **options)
            artefact.save(prior, card, stem)
            work.finished()
            return prior


def prior_for(knowledge: InversionKnowledge | GradientKnowledge, kind: str, **options: Any) -> Prior:
    """The prior of this kind that an adversary with this knowledge has.

    Raises:
        ValueError: without public records; an attack's `obstacle` says so before.
        ConfigError, DataError, ModelError: as `Shelf.get`.
    """
    if knowledge.public is None:
        raise ValueError("public records are needed; `obstacle` says so")
    source = knowledge.priors if knowledge.priors is not None else Shelf()
    return source.get(kind, knowledge.public, knowledge.spec, **options)


def _trainer(kind: str) -> Callable[..., Prior]:
    if kind not in TRAINERS:
        raise ConfigError(f"unknown prior '{kind}': {did_you_mean(kind, [*TRAINERS, 'own'])}")
    return TRAINERS[kind]


def _task(kind: str) -> str:
    return f"training the prior '{kind}'"
