"""What a defense is: it turns a victim, a recipe or a corpus into another of the same type.

A poison is the adversary's counterpart: it turns a recipe into another one.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from seepage.core.errors import ConfigError
from seepage.core.knowledge import Knowledge
from seepage.core.recipe import Recipe
from seepage.core.records import Records
from seepage.core.victim import Model, Models, Update, Updates, Victim
from seepage.core.vocabulary import Access, Task

if TYPE_CHECKING:
    from seepage.core.case import Case

Array = np.ndarray
Groups = tuple[tuple[int, ...], ...]


class Defense(BaseModel, ABC):
    """Base of all defenses. Fields are the parameters; class variables are the card.

    Class variables:
        retrains: whether the victim has to be made anew.
        extends: whether the model that clients train has other parameters (`on_net`).
        slack: how far two runs with the same stream may lie apart, relative to the greatest value: 0, but for a
            library that draws from the system's generator, as encryption must.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: ClassVar[str]
    title: ClassVar[str]
    cites: ClassVar[tuple[str, ...]]
    version: ClassVar[int] = 1
    retrains: ClassVar[bool] = False
    extends: ClassVar[bool] = False
    slack: ClassVar[float] = 0.0

    def facts(self, case: "Case") -> Mapping[str, float | str | None]:
        """Figures that hold of this defense in this case, for the finding: the epsilon it buys, what it costs.

        Args:
            case: the case before this defense.

        They follow from parameters and set-up, or are measured on what it costs; never from whether an attack failed.
        """
        return {}

    def on_net(self, net: Any) -> Any:
        """The model that clients behind this defense are sent, of the one they would be sent; the same by default.

        Whoever sees updates has it, aware of the defense or not.
        """
        return net

    def left_out(self, net: Any) -> frozenset[str]:
        """Parameters of a model whose part of an update says nothing of the records, or misleads.

        For adversaries who know the defense: what matches an update leaves them out.

        Args:
            net: the model that clients are sent.
        """
        return frozenset()

    def on_victim(self, victim: Victim, rng: np.random.Generator) -> Victim:
        """The victim behind this defense.

        Raises:
            ConfigError: when this defense does not act on such a victim.
        """
        raise ConfigError(f"the defense '{self.name}' does not act on a {type(victim).__name__}")

    def on_recipe(self, recipe: Recipe) -> Recipe:
        """The recipe whose every fit is defended: what an adversary who knows the defense trains."""

        @wraps(recipe.train)
        def train(records: Records, seed: int, **options: Any) -> Victim:
            return self.on_victim(recipe.train(records, seed, **options), np.random.default_rng(seed))

        return recipe.with_trainer(train, f"{recipe.name}+{self.name}")


class OutputDefense(Defense):
    """Changes what a model answers. Weights, logits and embeddings are out of reach behind it.

    Class variables:
        leaves: the accesses that can be had behind it at the most.
        tasks: what the models it acts on answer.
    """

    leaves: ClassVar[frozenset[Access]] = frozenset({Access.SCORES, Access.TOP_K, Access.LABELS})
    tasks: ClassVar[frozenset[Task]] = frozenset(Task)

    @property
    def resolution(self) -> float:
        """Step of the grid that answers lie on, for adversaries who know it; 0 when answers are not coarsened."""
        return 0.0

    @abstractmethod
    def wrap(self, model: Model, rng: np.random.Generator) -> Model:
        """The model with its answers changed; it offers no more than the answers it gives."""

    def on_victim(self, victim: Victim, rng: np.random.Generator) -> Victim:
        if isinstance(victim, Models):
            streams = rng.spawn(len(victim))
            return Models(tuple(self.wrap(one, own) for one, own in zip(victim.models, streams, strict=True)))
        if not isinstance(victim, Model):
            return super().on_victim(victim, rng)
        return self.wrap(victim, rng)


class UpdateDefense(Defense):
    """Changes what a client sends."""

    def noise(self, sent: Array) -> float:
        """Standard deviation of what was added to the values of a tensor, for adversaries who know it; 0 for none.

        Args:
            sent: the tensor as it left the client.
        """
        return 0.0

    @property
    def longest(self) -> tuple[float, int] | None:
        """The greatest length that an update keeps, and the order of that norm (1 or 2); None where none is cut."""
        return None

    def possible(self, sent: Update) -> Mapping[str, tuple[Array, Array]] | None:
        """Between what each number can have lain before it was coarsened; None where nothing is coarsened.

        For adversaries who know the defense. Infinite where the sign alone is left.

        Args:
            sent: the update as it left the client.
        """
        return None

    @abstractmethod
    def apply(self, update: Update, rng: np.random.Generator) -> Update:
        """The update as it leaves the client."""

    def on_victim(self, victim: Victim, rng: np.random.Generator) -> Victim:
        if isinstance(victim, Updates):
            # One generator a client: shared noise would cancel in the difference of two clients.
            sent = tuple(self.apply(u, r) for u, r in zip(victim.clients, rng.spawn(len(victim)), strict=True))
            asked = victim.asked
            if asked is None:
                return Updates(sent)
            seed = int(rng.integers(2**62))
            return Updates(
                sent, lambda net, turn: self._defended(asked(net, turn), np.random.default_rng([seed, turn]))
            )
        if not isinstance(victim, Update):
            return super().on_victim(victim, rng)
        return self.apply(victim, rng)

    def _defended(self, sent: Updates, rng: np.random.Generator) -> Updates:
        return Updates(tuple(self.apply(u, r) for u, r in zip(sent.clients, rng.spawn(len(sent)), strict=True)))


class AggregateDefense(Defense):
    """Lets the adversary see sums over clients instead of what each client sends.

    The adversary runs the protocol, so it knows how many clients a sum is over, aware or not.
    """

    @abstractmethod
    def groups(self, clients: int) -> Groups:
        """Which clients are summed together, by number; all groups as large as the first.

        A client in no group has left the protocol before its update could enter a sum.

        Raises:
            ConfigError: when so many clients cannot be grouped, or the protocol would stop.
        """

    @abstractmethod
    def combine(self, group: Updates, rng: np.random.Generator) -> Update:
        """What the adversary sees of a group: the mean of its updates."""

    def on_victim(self, victim: Victim, rng: np.random.Generator) -> Victim:
        if not isinstance(victim, Updates):
            return super().on_victim(victim, rng)
        seen, asked = self._summed(victim, rng), victim.asked
        if asked is None:
            return seen
        seed = int(rng.integers(2**62))
        return replace(
            seen, asked=lambda net, turn: self._summed(asked(net, turn), np.random.default_rng([seed, turn]))
        )

    def _summed(self, sent: Updates, rng: np.random.Generator) -> Updates:
        groups = self.groups(len(sent))
        cohorts = [Updates(tuple(sent.clients[client] for client in group)) for group in groups]
        return Updates(tuple(self.combine(one, r) for one, r in zip(cohorts, rng.spawn(len(cohorts)), strict=True)))


class TrainingDefense(Defense):
    """Changes how a victim is trained."""

    retrains: ClassVar[bool] = True

    @abstractmethod
    def on_recipe(self, recipe: Recipe) -> Recipe:
        """The recipe that trains defended victims."""


class CorpusDefense(Defense):
    """Changes what a victim is trained on."""

    retrains: ClassVar[bool] = True

    @abstractmethod
    def clean(self, records: Records, seed: int) -> Records:
        """The records that may be trained on."""

    def on_recipe(self, recipe: Recipe) -> Recipe:
        @wraps(recipe.train)
        def train(records: Records, seed: int, **options: Any) -> Victim:
            return recipe.train(self.clean(records, seed), seed, **options)

        return recipe.with_trainer(train, f"{recipe.name}+{self.name}")


class Poison(BaseModel, ABC):
    """The adversary's transform of the recipe: records slipped into the training data."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: ClassVar[str]
    title: ClassVar[str]
    cites: ClassVar[tuple[str, ...]]
    version: ClassVar[int] = 1

    @abstractmethod
    def apply(self, recipe: Recipe, knowledge: Knowledge, rng: np.random.Generator) -> Recipe:
        """The poisoned recipe, made from what the adversary knows (the records it is after, say)."""
