"""What all cases of one audit are built from: a victim, its records, its recipe, its judge.

Victim, twin and judge are made when they are first asked for, and then kept.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
from jaxtyping import Bool

from seepage.cases.group import Group
from seepage.cases.scene import Scene
from seepage.core.canaries import Canaries, Claim
from seepage.core.case import Training
from seepage.core.errors import ConfigError, ModelError
from seepage.core.knowledge import PriorSource
from seepage.core.recipe import Recipe
from seepage.core.records import Records, row_digests
from seepage.core.references import ReferenceSource
from seepage.core.secrets import Judge
from seepage.core.seeds import derive, stream
from seepage.core.spec import InputSpec
from seepage.core.victim import Model, task_of
from seepage.core.vocabulary import Modality, Task
from seepage.models.independence import digests, learned_from, shared
from seepage.models.judges import fit_judge

Array = np.ndarray

# A judge learns from two records of a class at the least. Of members it takes one half; the other half is what
# reconstructions are compared with.
_FEWEST_NONMEMBERS = 2
_FEWEST_MEMBERS = 4


@dataclass(frozen=True, kw_only=True)
class World(Scene):
    """Everything the audit of a classifier was given.

    Attributes:
        open_victim: gives the victim; called once.
        spec: what one input looks like.
        members, nonmembers, public: the records; public ones may have other classes, or none.
        recipe: trains victims like this one, over the pool of members; or None.
        own_judge: a judge brought by the user, or None to train one: on the non-members or, where there are
            not two of every class, on half of the members of each class, which is weaker and said so. One that
            says what it learned from (`trained_on`: Records or row digests) may share none of it with the members.
        adversary_spec: one input as the adversary knows it; `spec` when not given. Ranges read off the
            members would give them away.
        judge_kind: which family of judge to train; "auto" takes one that is not the victim's.
        priors: where the adversary gets its priors from.
        references: gives the adversary's reference models for the candidates of membership; None where it has none.
        groups: columns of a table whose values are groups that membership is looked at in.
        canaries: records that fair coins put into the training data besides the members, or left out.
        claim: the privacy that is claimed of the training.
        group: a group whose share of the members is asked about, or None.
        seed: of the audit.
    """

    of: ClassVar[str] = "a classifier"

    open_victim: Callable[[], Model]
    spec: InputSpec
    recipe: Recipe | None = None
    own_judge: Judge | None = None
    judge_kind: str = "auto"
    adversary_spec: InputSpec | None = None
    priors: PriorSource | None = None
    references: Callable[[Records], ReferenceSource] | None = None
    groups: tuple[str, ...] = ()
    canaries: Canaries | None = None
    claim: Claim | None = None
    group: Group | None = None

    @property
    def modality(self) -> Modality:
        return self.spec.modality

    @property
    def task(self) -> Task:
        """What the victim answers."""
        return self.members.task

    def __post_init__(self) -> None:
        both = int(shared(self.members, learned_from(self.own_judge)).sum())
        if both:
            raise ConfigError(
                f"the judge learned from {both} of the {len(self.members)} members: it would recognise what the victim "
                "was trained on for the same reasons as the victim. Train it on other records of the same classes, or "
                "bring none and have one trained on the non-members"
            )

    @property
    def victim(self) -> Model:
        """The victim, checked against the records it is audited with.

        Raises:
            ModelError: when its classes are fewer than those of the records.
        """
        return self._opened

    @cached_property
    def _opened(self) -> Model:
        victim = self.open_victim()
        if task_of(victim) is not self.task:
            raise ModelError(
                f"the victim answers {task_of(victim)}, the members' targets were read as {self.task}: say "
                f'task = "{task_of(victim)}", or give the victim that was trained on them'
            )
        if self.task is not Task.CLASSES:
            # The adapter has held the number of its answers against that of the targets.
            return victim
        found = len(self.members.class_names)
        if victim.classes != found:
            raise ModelError(
                f"the victim answers {victim.classes} classes, the members have {found} "
                f"({', '.join(self.members.class_names[:5])}{', ...' if found > 5 else ''}): "
                "give the data the victim was trained on, or declare its classes under [victim]"
            )
        return victim

    @cached_property
    def twin_records(self) -> Records | None:
        """What the null twin is trained on: public records with classes, as many a class as the members have.

        Of values and labels: as many of the public records with targets as there are members.
        """
        if self.task is not Task.CLASSES:
            if self.public is None or self.public.targets is None or len(self.public) < 2:
                return None
            drawn = stream(self.seed, "twin", "records").permutation(len(self.public))[: len(self.members)]
            return self.public[np.sort(drawn)]
        if self.public is None or self.public.y is None:
            return None
        counts = np.bincount(self.public.y, minlength=len(self.public.class_names))
        kept = np.nonzero(counts > 0)[0]
        if len(kept) < 2:
            return None
        per_class = int(np.median(np.bincount(self.members.labels(), minlength=len(self.members.class_names))))
        rng = stream(self.seed, "twin", "records")
        same_classes = self.public.class_names == self.members.class_names
        if not same_classes:
            kept = kept[: len(self.members.class_names)]
        rows = [np.sort(rng.permutation(np.nonzero(self.public.y == c)[0])[:per_class]) for c in kept]
        chosen = self.public[np.concatenate(rows)]
        if same_classes:
            return chosen
        # Other people: numbered anew from 0, so that the twin's classes are 0 to k - 1.
        number = {int(c): i for i, c in enumerate(kept)}
        return replace(
            chosen,
            y=np.array([number[int(c)] for c in chosen.labels()], dtype=np.int64),
            class_names=tuple(self.public.class_names[int(c)] for c in kept),
        )

    @property
    def twin_missing(self) -> str | None:
        """What the user could supply to have a null twin, or None when there can be one."""
        if self.recipe is None:
            return "a recipe, a callable (x, y, seed) -> model that trains a victim like this one on other records"
        if self.twin_records is None and self.task is not Task.CLASSES:
            return "public records with targets, to train a twin on"
        if self.twin_records is None:
            return "public records with two classes or more, to train a twin on"
        return None

    @cached_property
    def twin(self) -> Model | None:
        """The null twin: trained by the same recipe on records that hold none of the secret."""
        if self.recipe is None or self.twin_records is None:
            return None
        made = self.recipe.on(self.twin_records).fit(np.arange(len(self.twin_records)), derive(self.seed, "victim"))
        if not isinstance(made, Model) or task_of(made) is not self.task:
            raise ModelError(f"the recipe should return a model of {self.task}, it returned a {type(made).__name__}")
        return made

    @cached_property
    def training(self) -> Training | None:
        """How the victim and its twin came to be, when a recipe is known."""
        if self.recipe is None:
            return None
        records = self.twin_records
        return Training(
            recipe=self.recipe if self.canaries is None else self.canaries.into(self.recipe),
            members=np.arange(len(self.members)),
            seed=derive(self.seed, "victim"),
            null_recipe=None if records is None else self.recipe.on(records),
            null_members=None if records is None else np.arange(len(records)),
        )

    @cached_property
    def judge(self) -> Judge | None:
        """The judge of reconstructions, or None when there are too few records to train one on.

        It learns from the non-members and is tried on the members. Where there are not two non-members of
        every class it learns from half of the members of each class, and is tried on the other half.
        """
        if self.own_judge is not None:
            return self.own_judge
        if self.judge_missing is not None:
            return None
        seed = derive(self.seed, "judge")
        if self.nonmembers is not None and not _lacking(self.nonmembers, self.members, _FEWEST_NONMEMBERS):
            return fit_judge(
                self.nonmembers,
                held_out=self.members,
                spec=self.spec,
                kind=self.judge_kind,
                avoid=self.victim.family,
                seed=seed,
                members=self.members,
            )
        first = self._first_half
        return fit_judge(
            self.members[first],
            held_out=self.members[~first],
            spec=self.spec,
            kind=self.judge_kind,
            avoid=self.victim.family,
            seed=seed,
            source="held-out members: weaker, the victim saw them too",
        )

    @property
    def learned_by_judge(self) -> Bool[Array, " n"]:
        """(n,) which members the judge learns from: none, but where there are too few non-members."""
        few = _lacking(self.nonmembers, self.members, _FEWEST_NONMEMBERS)
        if self.own_judge is not None or not few or self.judge_missing is not None:
            return np.zeros(len(self.members), dtype=bool)
        return self._first_half

    @property
    def _first_half(self) -> Bool[Array, " n"]:
        """(n,) half of the members of each class, the larger one of an odd number. Equal records stay together."""
        rng = stream(self.seed, "judge", "members")
        different = self._different
        labels = different.labels()
        chosen = np.zeros(len(labels), dtype=bool)
        for c in np.unique(labels):
            rows = np.nonzero(labels == c)[0]
            chosen[rng.permutation(rows)[: (len(rows) + 1) // 2]] = True
        return shared(self.members, digests(different[chosen]))

    @property
    def _different(self) -> Records:
        """The members, each value once: two copies of a record are one to learn from."""
        _, first = np.unique(np.array(row_digests(self.members.x)), return_index=True)
        return self.members[np.sort(first)]

    @property
    def judge_missing(self) -> str | None:
        """What the user could supply to have a judge, or None when there can be one."""
        if self.own_judge is not None:
            return None
        few = _lacking(self.nonmembers, self.members, _FEWEST_NONMEMBERS)
        if not few or not _lacking(self._different, self.members, _FEWEST_MEMBERS):
            return None
        otherwise = f"; or {_FEWEST_MEMBERS} different members of every class, half of which a judge could learn from"
        if self.nonmembers is None or self.nonmembers.y is None:
            return (
                "non-members with classes (held-out records of the same classes), to train an independent judge on"
                + otherwise
            )
        return (
            f"at least {_FEWEST_NONMEMBERS} non-members of every class, to train an independent judge on "
            f"({few} classes have fewer)" + otherwise
        )


def _lacking(records: Records | None, members: Records, fewest: int) -> int:
    """How many classes of the members have fewer records than that; all of them without records or labels."""
    if records is None or records.y is None:
        return max(len(members.class_names), 1)
    return int((np.bincount(records.y, minlength=len(members.class_names)) < fewest).sum())
