"""What only the scorer sees. Attacks must not import this module (checked in CI)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from seepage.core.canaries import Claim
from seepage.core.records import Records
from seepage.core.victim import Model

Array = np.ndarray


@runtime_checkable
class Judge(Protocol):
    """Recognises reconstructions: of another family, trained on other pictures of the same people.

    `predict` gives (n, classes) probabilities over the private classes; `facts` says how good the
    judge is (accuracy on real held-out records, false positives on noise), for the report.
    """

    @property
    def family(self) -> str: ...
    @property
    def facts(self) -> dict[str, float | str | None]: ...
    def predict(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]: ...


@dataclass(frozen=True)
class Secret:
    """Base of all secrets."""


@runtime_checkable
class GivesFeatures(Protocol):
    """A judge whose features can be read: (n, d), in which likeness is measured."""

    def features(self, x: Float[Array, " n ..."]) -> Float[Array, " n d"]: ...


@dataclass(frozen=True)
class InversionSecret(Secret):
    """The private records by class, and the judge that knows them.

    Attributes:
        records: the private records.
        judge: recognises them.
        public: what the adversary may own: distances to it say what is owed to the prior.
        captured: the records behind the captured answers, when single records are to be recovered.
    """

    records: Records = field(kw_only=True)
    judge: Judge = field(kw_only=True)
    public: Records | None = field(default=None, kw_only=True)
    captured: Records | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class TextInversionSecret(Secret):
    """The texts behind the captured vectors.

    Attributes:
        captured: the texts, in the order of their vectors.
        public: texts that the adversary may own: how rare a word is there is what it is worth.
    """

    captured: Records = field(kw_only=True)
    public: Records | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Profile:
    """What makes records stand out among others, from the records alone.

    Attributes:
        outlier: (n,) share of the records that lie nearer to their nearest ones of the same class.
        stranger: (n,) whether most of the nearest records are of another class: mislabelled, perhaps.
        copies: (n,) how many others are (nearly) the same.
        small_class: (n,) whether its class has less than half of an even share of the records.
        groups: for each axis (class, rarity, a column) the group of every record.
    """

    outlier: Float[Array, " n"]
    stranger: Bool[Array, " n"]
    copies: Int[Array, " n"]
    small_class: Bool[Array, " n"]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


@dataclass(frozen=True)
class MembershipSecret(Secret):
    """Which candidates were trained on.

    Attributes:
        is_member: (n,) which.
        candidates: the records.
        profile: what makes them stand out; None where nobody looked.
    """

    is_member: Bool[Array, " n"] = field(kw_only=True)
    candidates: Records = field(kw_only=True)
    profile: Profile | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class CanarySecret(MembershipSecret):
    """Which canaries fair coins put into the training data.

    Attributes:
        claim: the privacy that is claimed of the training, where one is.
        seed: of the halves in which canaries choose how to guess and are guessed.
    """

    claim: Claim | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)


@dataclass(frozen=True)
class PropertySecret(Secret):
    """How large a share of a group each of the models was trained on.

    Attributes:
        shares: (n,) the shares.
        trial: (n,) which of them are trials, trained for the interval; the other is the victim itself.
        more: (n,) which of the trials were trained at the victim's own share, and not at the public's.
        public: the share that the public knows.
        victim: the victim's own share.
        group: what the group is, in words.
    """

    shares: Float[Array, " n"] = field(kw_only=True)
    trial: Bool[Array, " n"] = field(kw_only=True)
    more: Bool[Array, " n"] = field(kw_only=True)
    public: float = field(kw_only=True)
    victim: float = field(kw_only=True)
    group: str = field(kw_only=True)


@dataclass(frozen=True)
class AttributeSecret(Secret):
    """The true value of the hidden column, as an index into the known values.

    Attributes:
        values: (n,) indices.
        is_member: (n,) which of the records were trained on, when some were not: what the victim says
            about the others it has learned about the population, not from them.
    """

    values: Int[Array, " n"] = field(kw_only=True)
    is_member: Bool[Array, " n"] | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class GradientSecret(Secret):
    """The batch the update was made from; with several updates, their batches one after another.

    Attributes:
        batch: the records.
        client: (n,) the client each record belongs to, or None when there is one client.
        others: records of the same kind that are in no batch: among them and the batch a record has to be
            identified.
    """

    batch: Records = field(kw_only=True)
    client: Int[Array, " n"] | None = field(default=None, kw_only=True)
    others: Records | None = field(default=None, kw_only=True)


@runtime_checkable
class Replay(Protocol):
    """Makes the update anew from records, where the true ones are not known.

    `distance` gives how far the direction of the update that records make lies from that of the captured one, 0 (the
    same) to 1 (unrelated, or opposite), or None where it cannot be made; `how` says how it was made, in words.
    Classes that are not given are chosen for the least distance.
    """

    def distance(self, x: Float[Array, " n ..."], labels: Int[Array, " n"] | None) -> float | None: ...
    @property
    def how(self) -> str: ...


@runtime_checkable
class TextReplay(Protocol):
    """The same of texts; classes, where the model tells them apart, are chosen for the least distance."""

    def distance_of_texts(self, texts: Sequence[str]) -> float | None: ...
    @property
    def how(self) -> str: ...


@dataclass(frozen=True)
class CapturedSecret(Secret):
    """No secret: the batch of a captured update is not known to the auditor either.

    What is recovered can be held against the update alone.
    """

    replay: Replay | TextReplay = field(kw_only=True)


@dataclass(frozen=True)
class ExtractionSecret(Secret):
    """For each prompt, the text that followed it in the training data."""

    continuations: tuple[str, ...] = field(kw_only=True)


@dataclass(frozen=True)
class StealingSecret(Secret):
    """The victim itself, and inputs on which a copy is compared with it."""

    victim: Model = field(kw_only=True)
    probes: Float[Array, " n ..."] = field(kw_only=True)
