"""What an attack is: a frozen configuration that says what it needs, cites its source, and runs.

One abstract base a leak narrows the types of `run`; a paper is one final class below it.
"""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from seepage.core.guess import Guess, Posterior, Reconstruction, Scores, Surrogate, Texts
from seepage.core.knowledge import (
    AttributeKnowledge,
    ExtractionKnowledge,
    GradientKnowledge,
    InversionKnowledge,
    Knowledge,
    MembershipKnowledge,
    PropertyKnowledge,
    StealingKnowledge,
    TextGradientKnowledge,
    TextInversionKnowledge,
    UpdateKnowledge,
)
from seepage.core.outlook import Outlook
from seepage.core.target import Target
from seepage.core.victim import Update
from seepage.core.vocabulary import Access, Leak, Modality, Task


class Attack(BaseModel, ABC):
    """Base of all attacks. Fields are the parameters; class variables are the card.

    Class variables:
        name: the name in the catalogue and in audit files.
        title: what a report calls it, a few words.
        leak: which of the six leaks.
        needs: the accesses without which it cannot run; the target opens these and no other.
        cites: the papers, as "Author, year, title, where".
        modalities: the kinds of record it works on.
        tasks: what the victims it works on answer; of classes alone, unless it reads answers by `signals` only.
        needs_public: whether it needs public records (for a prior).
        form: which form of its leak's case it plays, where there are several: "class" (what does a class look
            like?), "record" (which record was this captured answer given to?) or "text" (which text?) for inversion;
            "" (records), "labels" or "text" for gradient inversion; "" (was this record trained on?) or "property"
            (how large a share of the training set is this group?) for membership.
        also: further forms that it plays wherever they can be had: "canaries" for membership.
        thorough: whether it takes minutes (it trains a generator, say): left out of "auto", part of "all".
        version: raised when the same parameters give another result, so that caches notice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: ClassVar[str]
    title: ClassVar[str]
    leak: ClassVar[Leak]
    needs: ClassVar[frozenset[Access]]
    cites: ClassVar[tuple[str, ...]]
    modalities: ClassVar[frozenset[Modality]] = frozenset(Modality)
    tasks: ClassVar[frozenset[Task]] = frozenset({Task.CLASSES})
    needs_public: ClassVar[bool] = False
    form: ClassVar[str] = ""
    also: ClassVar[frozenset[str]] = frozenset()
    thorough: ClassVar[bool] = False
    version: ClassVar[int] = 1

    @abstractmethod
    def cost(self, knowledge: Any, budget: int | None) -> int:
        """How many queries it will ask at the most: for the plan and the progress bar."""

    @abstractmethod
    def run(self, target: Target, knowledge: Any, rng: np.random.Generator) -> Guess:
        """Attack `target` with `knowledge`, drawing randomness from `rng` alone."""

    def opens(self, granted: frozenset[Access]) -> frozenset[Access]:
        """What its target opens of what the adversary is granted: `needs`, unless it can do with less."""
        return self.needs

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        """Why this attack cannot run with this knowledge and budget, or None when it can."""
        if self.needs_public and (knowledge.public is None or len(knowledge.public) < 2):
            return "it needs public records to learn a prior from, and none were given"
        if budget is not None and (cost := self.cost(knowledge, budget)) > budget:
            return f"it asks {cost} queries, and the budget is {budget}"
        return None


def scores_or_top_k(granted: frozenset[Access]) -> frozenset[Access]:
    """All scores where they are granted, else the top k: for attacks that read answers cut short (`Target.answers`)."""
    cut = Access.SCORES not in granted and Access.TOP_K in granted
    return frozenset({Access.TOP_K if cut else Access.SCORES})


class InversionAttack(Attack):
    """Recover what a class looks like."""

    leak: ClassVar[Leak] = Leak.INVERSION
    form: ClassVar[str] = "class"

    def priors(self, knowledge: InversionKnowledge) -> tuple[str, ...]:
        """Kinds of prior, with their plain options, that `run` will ask for: an audit trains them beforehand."""
        return ()

    @abstractmethod
    def run(self, target: Target, knowledge: InversionKnowledge, rng: np.random.Generator) -> Reconstruction: ...


class RecordInversionAttack(InversionAttack):
    """Recover single records from the answers the victim gave to them (`Target.captured_scores`, ...).

    The guess has one reconstruction a captured answer, in the order of the answers, and no labels.
    """

    form: ClassVar[str] = "record"

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if isinstance(knowledge, InversionKnowledge) and knowledge.captured < 1:
            return "it needs answers of the victim that the adversary captured, and none were given"
        return super().obstacle(knowledge, budget)


class TextInversionAttack(Attack):
    """Recover texts from the vectors that an encoder gave to them (`Target.captured_embeddings`).

    For each captured vector the guess holds the guessed texts, likeliest first; none where there is no guess.
    """

    leak: ClassVar[Leak] = Leak.INVERSION
    form: ClassVar[str] = "text"
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.TEXT})

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if isinstance(knowledge, TextInversionKnowledge) and knowledge.captured < 1:
            return "it needs vectors of private texts that the adversary captured, and none were given"
        return super().obstacle(knowledge, budget)

    @abstractmethod
    def run(self, target: Target, knowledge: TextInversionKnowledge, rng: np.random.Generator) -> Texts: ...


class MembershipAttack(Attack):
    """Tell records that were trained on from records that were not.

    Class variables:
        needs_references: whether it needs reference models (`MembershipKnowledge.references`): an audit trains them
            beforehand, once for all attacks.
    """

    leak: ClassVar[Leak] = Leak.MEMBERSHIP
    also: ClassVar[frozenset[str]] = frozenset({"canaries"})
    needs_references: ClassVar[bool] = False

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if self.needs_references and (not isinstance(knowledge, MembershipKnowledge) or knowledge.references is None):
            return (
                "it needs reference models: give a recipe that trains models like the victim, and how many to train "
                "([references] models = 16; in Python references=16)"
            )
        return super().obstacle(knowledge, budget)

    @abstractmethod
    def run(self, target: Target, knowledge: MembershipKnowledge, rng: np.random.Generator) -> Scores: ...


class PropertyAttack(Attack):
    """Tell how large a share of a training set a group is, of each of several models (`Target.model`).

    The guess has a value for each model, greater for a larger share, and in `trace["shares"]` a row for each: its
    estimated share with the ends of a 95 % interval, all in [0, 1].
    """

    leak: ClassVar[Leak] = Leak.MEMBERSHIP
    form: ClassVar[str] = "property"

    @abstractmethod
    def run(self, target: Target, knowledge: PropertyKnowledge, rng: np.random.Generator) -> Scores: ...


class AttributeAttack(Attack):
    """Infer a hidden column of records whose other columns are known."""

    leak: ClassVar[Leak] = Leak.ATTRIBUTE

    @abstractmethod
    def run(self, target: Target, knowledge: AttributeKnowledge, rng: np.random.Generator) -> Posterior: ...


class UpdateAttack(Attack):
    """Read something out of the updates that clients sent: the base of what `GradientAttack` and `LabelAttack` share.

    Class variables:
        uses: the rungs of the assumption ladder that a result rests on (`core.assumptions`); what it does not
            use it need not know.
    """

    leak: ClassVar[Leak] = Leak.GRADIENT
    needs: ClassVar[frozenset[Access]] = frozenset({Access.UPDATES})
    uses: ClassVar[frozenset[str]] = frozenset()

    def cost(self, knowledge: UpdateKnowledge, budget: int | None) -> int:
        """Every update is read once."""
        return knowledge.clients

    def outlook(self, knowledge: Any, update: Update) -> Outlook | None:
        """What can be expected of this attack on such an update; None where nothing can be said beforehand.

        Fast (a second at the most): it looks at shapes, ranks and the ladder.
        """
        return None

    def assumed(self, knowledge: UpdateKnowledge, **guessed: Any) -> dict[str, float | str | None]:
        """What a result rests on, in words, for `Guess.facts`: the rungs used, and those guessed on the way."""
        ladder = replace(knowledge.assumptions, active=Access.ROUNDS in self.needs)
        return ladder.only(self.uses | set(guessed)).guess(**guessed).facts()


class GradientAttack(UpdateAttack):
    """Recover clients' records from the updates they sent.

    The guess names the client of each reconstruction, and the classes where the attack has found them.
    """

    def priors(self, knowledge: GradientKnowledge) -> tuple[str, ...]:
        """Kinds of prior, with their plain options, that `run` will ask for: an audit trains them beforehand."""
        return ()

    @abstractmethod
    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Reconstruction: ...


class LabelAttack(UpdateAttack):
    """Recover how many records of each class a client trained on: one row a client, its shares of the classes."""

    form: ClassVar[str] = "labels"

    @abstractmethod
    def run(self, target: Target, knowledge: GradientKnowledge, rng: np.random.Generator) -> Posterior: ...


class TextGradientAttack(UpdateAttack):
    """Recover the texts that clients trained on: for each client the texts guessed, surest first, or none.

    A text is written as the model's tokenizer writes it (`TextNet.write`); of a model without one, its token numbers.
    """

    form: ClassVar[str] = "text"
    modalities: ClassVar[frozenset[Modality]] = frozenset({Modality.TEXT})

    @abstractmethod
    def run(self, target: Target, knowledge: TextGradientKnowledge, rng: np.random.Generator) -> Texts: ...


class ExtractionAttack(Attack):
    """Make a language model recite its training text."""

    leak: ClassVar[Leak] = Leak.EXTRACTION

    @abstractmethod
    def run(self, target: Target, knowledge: ExtractionKnowledge, rng: np.random.Generator) -> Texts: ...


class StealingAttack(Attack):
    """Copy the victim from its answers."""

    leak: ClassVar[Leak] = Leak.STEALING

    @abstractmethod
    def run(self, target: Target, knowledge: StealingKnowledge, rng: np.random.Generator) -> Surrogate: ...
