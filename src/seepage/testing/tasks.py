"""A case of classes retold as one of labels or of numbers: the same victim, the same answers, another reading.

A classifier's c scores are also c probabilities, one that each class applies, and c numbers that should be 1 for the
record's class and 0 elsewhere. Who knows its members by the first knows them by the others too.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from seepage.core.case import Case
from seepage.core.defense import Defense
from seepage.core.errors import ConfigError
from seepage.core.knowledge import MembershipKnowledge
from seepage.core.records import Records
from seepage.core.references import References, ReferenceSource
from seepage.core.secrets import MembershipSecret
from seepage.core.spec import InputSpec
from seepage.core.victim import Model, Victim
from seepage.core.vocabulary import Access, Task

Array = np.ndarray


def retold(case: Case, task: Task) -> Case:
    """A membership case whose victim and records are read as of another task; without a recipe, which is of classes.

    Args:
        case: of a classifier.
        task: "values" or "labels".

    Raises:
        ConfigError: for another leak.
    """
    known, secret = case.knowledge, case.secret
    if not isinstance(known, MembershipKnowledge) or not isinstance(secret, MembershipSecret):
        raise ConfigError(f"a case of membership was wanted, got one of {case.leak}")
    references = None if known.references is None else _Retold(known.references, task)
    knowledge = MembershipKnowledge(
        public=None if known.public is None else _records(known.public, task),
        candidates=_records(known.candidates, task),
        references=references,
    )
    return replace(
        case,
        victim=_victim(case.victim, task),
        knowledge=knowledge,
        secret=replace(secret, candidates=knowledge.candidates),
        null=None if case.null is None else _victim(case.null, task),
        training=None,
    )


def _records(records: Records, task: Task) -> Records:
    targets = np.eye(len(records.class_names))[records.labels()]
    return replace(records, y=None, class_names=(), task=task, targets=targets, outputs=(), spread=())


@dataclass(frozen=True)
class _Told:
    """What a classifier answers, read as of another task."""

    model: Model
    task: Task

    @property
    def spec(self) -> InputSpec:
        return self.model.spec

    @property
    def classes(self) -> int:
        return self.model.classes

    @property
    def family(self) -> str:
        return self.model.family

    @property
    def offers(self) -> frozenset[Access]:
        return frozenset({Access.SCORES})

    def predict(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        return self.model.predict(x)


def _victim(victim: Victim, task: Task) -> _Told:
    if not isinstance(victim, Model):
        raise ConfigError(f"a classifier was wanted, got a {type(victim).__name__}")
    return _Told(victim, task)


@dataclass(frozen=True)
class _Retold:
    """The same reference models, their population read as of another task."""

    source: ReferenceSource
    task: Task

    @property
    def models(self) -> int:
        return self.source.models

    @property
    def population(self) -> Records | None:
        found = self.source.population
        return None if found is None else _records(found, self.task)

    def get(self) -> References:
        return replace(self.source.get(), population=self.population)

    def behind(self, defense: Defense) -> ReferenceSource:
        return _Retold(self.source.behind(defense), self.task)
