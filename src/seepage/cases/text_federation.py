"""The scene of federated learning on texts: a transformer, clients with texts, and the updates they send."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from jaxtyping import Int

from seepage.cases.federation import DEFAULT
from seepage.cases.scene import Scene
from seepage.core.case import Training
from seepage.core.errors import ConfigError
from seepage.core.recipe import Recipe
from seepage.core.record import Check
from seepage.core.records import Records
from seepage.core.seeds import stream
from seepage.core.victim import Update, Updates
from seepage.core.vocabulary import Access
from seepage.models.federated import LocalTraining
from seepage.models.text_clients import TextNet, text_recipe

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class TextFederation(Scene):
    """Everything the audit of federated learning on texts was given.

    Attributes:
        open_net: gives the model as the server sent it; called once.
        members: the clients' texts, with classes where the model tells classes apart; a client's are drawn from
            them at random, no text twice.
        spec: none, since a text is no array.
        local: what a client does in one round.
        clients: how many clients send an update.
        records: how many texts each of them has.
        knows: the rungs of the assumption ladder that the adversary is told.
        checks: what was found when the texts were looked at.
        captured, unmade, blurred, optimiser: an update that a real client sent, and what is said of it, as for
            clients with arrays (`Federation`).
    """

    of: ClassVar[str] = "clients who train on texts"

    open_net: Callable[[], TextNet]
    local: LocalTraining
    spec: None = None
    clients: int = 8
    records: int = 4
    knows: frozenset[str] = DEFAULT
    checks: tuple[Check, ...] = ()
    captured: Update | None = None
    unmade: str | None = None
    blurred: bool = False
    optimiser: str = "sgd"

    def __post_init__(self) -> None:
        if not self.members.texts:
            raise ConfigError("clients who train on texts need members that are texts")
        if self.clients * self.records > len(self.members):
            raise ConfigError(
                f"{self.clients} clients with {self.records} texts each need {self.clients * self.records} members, "
                f"there are {len(self.members)}: give more members, or fewer clients or records"
            )

    @cached_property
    def net(self) -> TextNet:
        """The model before the round.

        Raises:
            ConfigError: when it tells classes apart that the members do not have.
        """
        net = self.open_net()
        if net.task == "classification" and self.members.y is None:
            raise ConfigError(
                "the model classifies texts, and the members have no classes: give them, or train a "
                "model of the next token"
            )
        return net

    @property
    def offers(self) -> frozenset[Access]:
        return frozenset({Access.UPDATES})

    @cached_property
    def rows(self) -> Int[Array, " k n"]:
        """(clients, records) the members that each client holds."""
        return self._drawn(self.members, "clients")

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
        """Texts of the same kind that no client holds: the members left over, and the non-members."""
        spare = self.members[np.setdiff1d(np.arange(len(self.members)), self.rows)]
        return spare if self.nonmembers is None else spare.joined(self.nonmembers)

    @property
    def twin_missing(self) -> str | None:
        wanted = self.clients * self.records
        if self.unmade is not None:
            return self.unmade
        if len(self.spare) >= wanted:
            return None
        return (
            f"{wanted} texts that no client holds (non-members, or more members; there are {len(self.spare)}), for the "
            "updates of another batch"
        )

    @property
    def spare_rows(self) -> Int[Array, " k n"]:
        """(clients, records) the spare texts that the clients of the control hold. Ask `twin_missing` first."""
        return self._drawn(self.spare, "other clients")

    @cached_property
    def twin(self) -> Updates | None:
        """Updates of other texts, made in the same way; or None where there are too few."""
        return None if self.twin_missing else self.updates(self.spare, self.spare_rows, "other clients")

    def _drawn(self, pool: Records, name: str) -> Int[Array, " k n"]:
        order = stream(self.seed, "federation", name).permutation(len(pool))
        return order[: self.clients * self.records].reshape(self.clients, self.records)

    def updates(self, pool: Records, rows: Int[Array, " k n"], name: str) -> Updates:
        """What clients with these rows of a pool send."""
        sent = self.recipe(pool, rows, name).fit(np.arange(rows.size), self.seed)
        if not isinstance(sent, Updates):
            raise TypeError(f"a round gave a {type(sent).__name__}")
        return sent

    def recipe(self, pool: Records, rows: Int[Array, " k n"], name: str) -> Recipe:
        """How clients with these rows of a pool make their updates."""
        return text_recipe(self.net, self.local, pool[rows.reshape(-1)], rows.shape[1], name)

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
