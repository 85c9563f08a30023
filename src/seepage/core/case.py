"""A case: a victim, what the adversary knows, and the secret that only the scorer sees."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Int

from seepage.core.defense import Defense, Poison
from seepage.core.errors import ConfigError
from seepage.core.guess import Guess
from seepage.core.knowledge import Knowledge
from seepage.core.recipe import Recipe
from seepage.core.secrets import Secret
from seepage.core.seeds import derive, stream
from seepage.core.victim import Victim
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
        baselines: guesses from the same knowledge with no access to the victim, by name.
        training: how the victim came to be, when that is known.
        missing: for each control that cannot be had, what the user could supply.
        facts: figures for the report (accuracies, counts).
        seed: the audit's seed.
        adversary: "adaptive" or "unaware" of the defenses.
    """

    leak: Leak
    name: str
    victim: Victim
    knowledge: Knowledge
    secret: Secret
    null: Victim | None = None
    baselines: Mapping[str, Guess] = field(default_factory=dict[str, Guess])
    training: Training | None = None
    missing: Mapping[str, str] = field(default_factory=dict[str, str])
    facts: Mapping[str, float | str | None] = field(default_factory=dict[str, float | str | None])
    seed: int = 0
    adversary: str = "adaptive"

    def defended(self, defense: Defense, aware: bool = True) -> "Case":
        """This case with the victim, its twin and the adversary's reference models defended.

        Args:
            aware: whether the adversary knows the defense; `False` is recorded as "unaware".

        Raises:
            ConfigError: when the defense retrains and nobody knows how the victim was trained.
        """
        knowledge = self.knowledge
        if aware:
            recipe = None if knowledge.recipe is None else defense.on_recipe(knowledge.recipe)
            knowledge = replace(knowledge, recipe=recipe, defenses=(*knowledge.defenses, defense))
        adversary = self.adversary if aware else "unaware"
        if defense.retrains:
            if self.training is None:
                raise ConfigError(f"the defense '{defense.name}' retrains the victim: give a recipe")
            t = self.training
            training = replace(
                t,
                recipe=defense.on_recipe(t.recipe),
                null_recipe=None if t.null_recipe is None else defense.on_recipe(t.null_recipe),
            )
            victim, null = training.fit()
            return replace(self, victim=victim, null=null, training=training, knowledge=knowledge, adversary=adversary)
        victim = defense.on_victim(self.victim, stream(self.seed, "defense", defense.name, "victim"))
        null = (
            None
            if self.null is None
            else defense.on_victim(self.null, stream(self.seed, "defense", defense.name, "null"))
        )
        training = self.training
        if training is not None:
            training = replace(
                training,
                recipe=defense.on_recipe(training.recipe),
                null_recipe=None if training.null_recipe is None else defense.on_recipe(training.null_recipe),
            )
        return replace(self, victim=victim, null=null, training=training, knowledge=knowledge, adversary=adversary)

    def poisoned(self, poison: Poison) -> "Case":
        """This case with the victim retrained on poisoned data; the twin is poisoned alike.

        Raises:
            ConfigError: when nobody knows how the victim was trained.
        """
        if self.training is None:
            raise ConfigError(f"the poison '{poison.name}' retrains the victim: give a recipe")
        t = self.training
        training = replace(
            t,
            recipe=poison.apply(t.recipe, np.random.default_rng(derive(self.seed, "poison", poison.name))),
            null_recipe=None
            if t.null_recipe is None
            else poison.apply(t.null_recipe, np.random.default_rng(derive(self.seed, "poison", poison.name))),
        )
        victim, null = training.fit()
        return replace(self, victim=victim, null=null, training=training)
