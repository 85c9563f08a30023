"""The scene of an audit of federated learning: a model, clients with records, and the updates they send."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from jaxtyping import Int

from seepage.cases.scene import Scene
from seepage.core.case import Training
from seepage.core.errors import ConfigError
from seepage.core.knowledge import PriorSource
from seepage.core.recipe import Recipe
from seepage.core.records import Records
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.victim import Update, Updates
from seepage.core.vocabulary import Access
from seepage.models.federated import ClientNet, LocalTraining, round_recipe

Array = np.ndarray

# What a server knows of the clients it has itself configured. The others have to be granted by name.
PROTOCOL = frozenset({"batch", "rate", "local_batch", "steps", "epochs", "mode", "optimiser", "normalisation"})
# With the public records, where there are any.
DEFAULT = PROTOCOL | {"prior"}
RUNGS = DEFAULT | {"labels", "counts", "statistics"}


@dataclass(frozen=True, kw_only=True)
class Federation(Scene):
    """Everything the audit of federated learning was given.

    Attributes:
        open_net: gives the model as the server sent it; called once.
        spec: what one input looks like.
        members: the clients' records; a client's are drawn from them at random, no record twice.
        local: what a client does in one round.
        clients: how many clients send an update.
        records: how many records each of them has.
        knows: the rungs of the assumption ladder that the adversary is told.
        priors: where the adversary gets its priors from.
        captured: an update that a real client sent, of all the members; instead of simulated ones.
        unmade: what is lacking to make updates like the captured one, or None when they can be made.
        blurred: whether the captured one is the mean of several steps of several clients: how large a step's batch was
            is then a guess.
        optimiser: of the local steps, in words.
    """

    of: ClassVar[str] = "a federation"

    open_net: Callable[[], ClientNet]
    spec: InputSpec
    local: LocalTraining
    clients: int = 8
    records: int = 4
    knows: frozenset[str] = DEFAULT
    priors: PriorSource | None = None
    captured: Update | None = None
    unmade: str | None = None
    blurred: bool = False
    optimiser: str = "sgd"

    def __post_init__(self) -> None:
        wanted = self.clients * self.records
        if wanted > len(self.members):
            raise ConfigError(
                f"{self.clients} clients with {self.records} records each need {wanted} members, there are "
                f"{len(self.members)}: give more members, or fewer clients or records"
            )

    @cached_property
    def net(self) -> ClientNet:
        """The model before the round."""
        return self.open_net()

    @property
    def offers(self) -> frozenset[Access]:
        return frozenset({Access.ROUNDS if self.captured is None else Access.UPDATES})

    @cached_property
    def rows(self) -> Int[Array, " k n"]:
        """(clients, records) the members that each client holds."""
        order = stream(self.seed, "federation", "clients").permutation(len(self.members))
        return order[: self.clients * self.records].reshape(self.clients, self.records)

    @property
    def victim(self) -> Updates:
        """What the clients sent."""
        return self._sent

    @cached_property
    def _sent(self) -> Updates:
        if self.captured is not None:
            return Updates((self.captured,))
        return self.updates(self.members, self.rows, "clients")

    @cached_property
    def spare(self) -> Records:
        """Records of the same kind that no client holds: the members left over, and the non-members."""
        left = np.setdiff1d(np.arange(len(self.members)), self.rows)
        spare = self.members[left]
        return spare if self.nonmembers is None else spare.joined(self.nonmembers)

    @property
    def twin_missing(self) -> str | None:
        wanted = self.clients * self.records
        if self.unmade is not None:
            return self.unmade
        if len(self.spare) >= wanted:
            return None
        return (
            f"{wanted} records that no client holds (non-members, or more members; there are {len(self.spare)}), for "
            "the updates of another batch"
        )

    @property
    def spare_rows(self) -> Int[Array, " k n"]:
        """(clients, records) the spare records that the clients of the control hold. Ask `twin_missing` first."""
        order = stream(self.seed, "federation", "other clients").permutation(len(self.spare))
        return order[: self.clients * self.records].reshape(self.clients, self.records)

    @cached_property
    def twin(self) -> Updates | None:
        """Updates of other records, made in the same way; or None where there are too few."""
        return None if self.twin_missing else self.updates(self.spare, self.spare_rows, "other clients")

    def recipe(self, pool: Records, rows: Int[Array, " k n"], name: str) -> Recipe:
        """How clients with these rows of a pool make their updates."""
        return round_recipe(self.net, self.local, pool[rows.reshape(-1)], rows.shape[1], name)

    def updates(self, pool: Records, rows: Int[Array, " k n"], name: str) -> Updates:
        """What clients with these rows of a pool send."""
        sent = self.recipe(pool, rows, name).fit(np.arange(rows.size), self.seed)
        if not isinstance(sent, Updates):
            raise TypeError(f"a round gave a {type(sent).__name__}")
        return sent

    @property
    def training(self) -> Training | None:
        """How the victim and its twin came to be, for defenses that act inside the clients; None of a captured one."""
        if self.captured is not None:
            return None
        missing = self.twin_missing is not None
        return Training(
            recipe=self.recipe(self.members, self.rows, "clients"),
            members=np.arange(self.rows.size),
            seed=self.seed,
            null_recipe=None if missing else self.recipe(self.spare, self.spare_rows, "other clients"),
            null_members=None if missing else np.arange(self.rows.size),
        )
