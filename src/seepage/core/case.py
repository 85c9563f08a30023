"""A case: a victim, what the adversary knows, and the secret that only the scorer sees."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Int

from seepage.core.cohorts import pooled_guess, pooled_knowledge, pooled_secret
from seepage.core.defense import AggregateDefense, Defense, Groups, Poison
from seepage.core.errors import ConfigError
from seepage.core.guess import Guess
from seepage.core.knowledge import Knowledge, MembershipKnowledge, UpdateKnowledge
from seepage.core.recipe import Recipe
from seepage.core.secrets import Secret
from seepage.core.seeds import derive, stream
from seepage.core.victim import Captured, Updates, Victim
from seepage.core.vocabulary import Leak

Array = np.ndarray


@dataclass(frozen=True)
class Training:
    """How the victim and its twin came to be: what retraining defenses and poisons need.

    Attributes:
        recipe: trainer and pool of the victim.
        members: which records of the pool were trained on.
        null_recipe, null_members: the same for the twin that never saw the secret.
        seed: of the training run.
    """

    recipe: Recipe
    members: Int[Array, " m"]
    seed: int
    null_recipe: Recipe | None = None
    null_members: Int[Array, " k"] | None = None

    def fit(self) -> tuple[Victim, Victim | None]:
        """The victim and its null twin."""
        null = None
        if self.null_recipe is not None and self.null_members is not None:
            null = self.null_recipe.fit(self.null_members, self.seed)
        return self.recipe.fit(self.members, self.seed), null

    def defended(self, defense: Defense) -> "Training":
        """The same training with every fit defended."""
        null = None if self.null_recipe is None else defense.on_recipe(self.null_recipe)
        return replace(self, recipe=defense.on_recipe(self.recipe), null_recipe=null)

    def poisoned(self, poison: Poison, knowledge: Knowledge, seed: int) -> "Training":
        """The same training on poisoned data; the twin's data is poisoned with the same draws."""
        recipe = poison.apply(self.recipe, knowledge, np.random.default_rng(seed))
        null = self.null_recipe
        if null is not None:
            null = poison.apply(null, knowledge, np.random.default_rng(seed))
        return replace(self, recipe=recipe, null_recipe=null)


@dataclass(frozen=True)
class Case:
    """One game of an audit.

    Attributes:
        leak: which of the six leaks is played.
        name: for reports and seeds.
        victim: what is attacked.
        knowledge: what the adversary holds before the first query.
        secret: what only the scorer sees.
        null: a twin of the victim that never saw the secret, when there is one.
        null_knowledge: what the adversary holds against the twin, where that differs (other classes).
        baselines: guesses from the same knowledge with no access to the victim, by name.
        training: how the victim came to be, when that is known.
        missing: for each control that cannot be had, what the user could supply.
        facts: figures for the report (accuracies, counts).
        seed: the audit's seed.
        adversary: "adaptive" or "unaware" of the defenses.
        captured: (n, ...) private records, or n texts, whose answers the adversary holds; asked of the
            victim by the target, so that a defense stands before them too.
        null_captured: the records whose answers it is given instead, for the control.
    """

    leak: Leak
    name: str
    victim: Victim
    knowledge: Knowledge
    secret: Secret
    null: Victim | None = None
    null_knowledge: Knowledge | None = None
    baselines: Mapping[str, Guess] = field(default_factory=dict[str, Guess])
    training: Training | None = None
    missing: Mapping[str, str] = field(default_factory=dict[str, str])
    facts: Mapping[str, float | str | None] = field(default_factory=dict[str, float | str | None])
    seed: int = 0
    adversary: str = "adaptive"
    captured: Captured | None = None
    null_captured: Captured | None = None

    def defended(self, defense: Defense, aware: bool = True) -> "Case":
        """This case with the victim, its twin and the adversary's reference models defended.

        Args:
            defense: what stands before the victim from now on.
            aware: whether the adversary knows the defense; `False` is recorded as "unaware".

        Raises:
            ConfigError: when the defense retrains and nobody knows how the victim was trained.
        """
        told = (self.told(defense) if aware else replace(self, adversary="unaware")).sent_out(defense)
        training = None if self.training is None else self.training.defended(defense)
        if defense.retrains:
            if training is None:
                raise ConfigError(
                    f"the defense '{defense.name}' retrains the victim: give a recipe; a captured update cannot be "
                    "made anew, simulate the federation instead"
                )
            victim, null = training.fit()
        else:
            victim = defense.on_victim(self.victim, stream(self.seed, "defense", defense.name, "victim"))
            null = self.null
            if null is not None:
                null = defense.on_victim(null, stream(self.seed, "defense", defense.name, "null"))
        if isinstance(defense, AggregateDefense) and isinstance(self.victim, Updates):
            told = told.pooled(defense.groups(len(self.victim)))
        facts = {**self.facts, **defense.facts(self)}
        return replace(told, victim=victim, null=null, training=training, facts=facts)

    def pooled(self, groups: Groups) -> "Case":
        """This case with an adversary who gets one update a group of clients, the mean of theirs.

        The secret is then the union of a group's records; those of clients in no group are nobody's.
        """
        null = None if self.null_knowledge is None else pooled_knowledge(self.null_knowledge, groups)
        return replace(
            self,
            knowledge=pooled_knowledge(self.knowledge, groups),
            null_knowledge=null,
            secret=pooled_secret(self.secret, groups),
            baselines={name: pooled_guess(guess, groups) for name, guess in self.baselines.items()},
        )

    def sent_out(self, defense: Defense) -> "Case":
        """This case with an adversary who has the model that clients behind `defense` are sent: it sent it."""

        def having(knowledge: Knowledge) -> Knowledge:
            if not isinstance(knowledge, UpdateKnowledge) or knowledge.net is None:
                return knowledge
            return replace(knowledge, net=defense.on_net(knowledge.net))

        null = None if self.null_knowledge is None else having(self.null_knowledge)
        return replace(self, knowledge=having(self.knowledge), null_knowledge=null)

    def told(self, defense: Defense) -> "Case":
        """This case with an adversary who knows that `defense` stands before the victim."""

        def telling(knowledge: Knowledge) -> Knowledge:
            recipe = None if knowledge.recipe is None else defense.on_recipe(knowledge.recipe)
            knowledge = replace(knowledge, recipe=recipe, defenses=(*knowledge.defenses, defense))
            if isinstance(knowledge, MembershipKnowledge) and knowledge.references is not None:
                knowledge = replace(knowledge, references=knowledge.references.behind(defense))
            return knowledge

        null_knowledge = None if self.null_knowledge is None else telling(self.null_knowledge)
        return replace(self, knowledge=telling(self.knowledge), null_knowledge=null_knowledge)

    def poisoned(self, poison: Poison) -> "Case":
        """This case with the victim retrained on poisoned data.

        The twin and the adversary's reference models are poisoned alike.

        Raises:
            ConfigError: when nobody knows how the victim was trained.
        """
        if self.training is None:
            raise ConfigError(f"the poison '{poison.name}' retrains the victim: give a recipe")
        seed = derive(self.seed, "poison", poison.name)
        training = self.training.poisoned(poison, self.knowledge, seed)
        victim, null = training.fit()
        knowledge = self.knowledge
        if knowledge.recipe is not None:
            recipe = poison.apply(knowledge.recipe, knowledge, np.random.default_rng(seed))
            knowledge = replace(knowledge, recipe=recipe)
        return replace(self, victim=victim, null=null, training=training, knowledge=knowledge)
