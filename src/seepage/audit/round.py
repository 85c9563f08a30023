"""What is known of the round that an update was captured in, and what follows from it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from seepage.audit.tables import FederatedTable
from seepage.cases.federation import RUNGS
from seepage.core.assumptions import Assumptions, Rung, Standing
from seepage.core.errors import ConfigError, did_you_mean
from seepage.core.victim import Update
from seepage.models.federated import LocalTraining

# Rungs that can be told where the true batch is given, and not else.
OF_THE_BATCH = frozenset({"labels", "counts", "statistics"})


@dataclass(frozen=True)
class Round:
    """What is known of the round that an update was captured in; None is unknown.

    Attributes:
        kind: "gradient" of the mean loss, or "delta", the change of the weights.
        records: how many a client trained on.
        clients: how many clients' updates were put together into it.
        summed: whether they were added up; averaged otherwise.
        local_batch: records a local step; 0 for all of them.
        epochs: passes over the records.
        rate: learning rate.
        momentum: of the client's optimiser; 0 is plain SGD.
        mode: how batch normalisation computed.
        knows: the rungs that the adversary is told of what is known here; None for all of it.
    """

    kind: str = "gradient"
    records: int | None = None
    clients: int = 1
    summed: bool = False
    local_batch: int | None = None
    epochs: int | None = None
    rate: float | None = None
    momentum: float | None = None
    mode: str | None = None
    knows: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name in sorted(set(self.knows or ()) - RUNGS):
            raise ConfigError(f"knows: unknown rung '{name}': {did_you_mean(name, sorted(RUNGS))}")
        for name in ("records", "clients", "epochs"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and value >= 1):
                raise ConfigError(f"{name}: a whole number, 1 or more, was wanted, got {value!r}")
        if self.rate is not None and not self.rate > 0:
            raise ConfigError(f"rate: a number above 0 was wanted, got {self.rate!r}")
        if self.mode not in (None, "train", "eval"):
            raise ConfigError(f"mode is 'train' or 'eval', got {self.mode!r}")
        if self.kind not in ("gradient", "delta"):
            raise ConfigError(f"an update is a 'gradient' or a 'delta', got {self.kind!r}")
        if self.summed and self.clients == 1:
            raise ConfigError(
                "summed: it says that the updates of several clients were added up; say how many: clients"
            )

    @classmethod
    def of_table(cls, table: FederatedTable | None, pair: bool) -> "Round":
        """What `[federated]` says; a key that is left out is not known.

        Raises:
            ConfigError: for keys that a captured update has no use for.
        """
        given = {} if table is None else {name: getattr(table, name) for name in table.model_fields_set}
        if given.pop("trained", 0):
            raise ConfigError('[federated] trained: give the weights that the server sent as [victim] weights = "..."')
        kind = given.pop("update", "delta" if pair else "gradient")
        if pair and kind != "delta":
            raise ConfigError("[federated] update: weights before and after give a 'delta', not a 'gradient'")
        if given.get("knows") is not None:
            given["knows"] = tuple(given["knows"])
        return cls(kind=kind, **given)

    def of_batch(self, n: int) -> "Round":
        """The round of a true batch of `n` records, which its clients share evenly.

        Raises:
            ConfigError: when they cannot, or when as many were not said.
        """
        if n % self.clients:
            raise ConfigError(
                f"the true batch has {n} records, which {self.clients} clients cannot share evenly: give the records "
                "of all the clients, as many of each"
            )
        if self.batch not in (None, n):
            of_all = "" if self.clients == 1 else f" of each of {self.clients} clients"
            raise ConfigError(
                f"the true batch has {n} records, and records = {self.records}{of_all} was said: they must agree"
            )
        return replace(self, records=n // self.clients)

    def without_batch(self) -> "Round":
        """The round of a batch that nobody here knows.

        Raises:
            ConfigError: when the adversary is to be told something of it.
        """
        if refused := sorted(set(self.knows or ()) & OF_THE_BATCH):
            raise ConfigError(f"knows: {', '.join(refused)} can be told where the true batch is given, and it is not")
        return self

    def rungs(self, ladder: Assumptions) -> frozenset[str]:
        """What an adversary is told who has the ladder, and what of the true batch it is granted."""
        told = {name for name in RUNGS if getattr(ladder, name).value is not None}
        return frozenset(told | (set(self.knows or ()) & OF_THE_BATCH))

    @property
    def batch(self) -> int | None:
        """Records that the update is of: those of all its clients."""
        return None if self.records is None else self.clients * self.records

    @property
    def step(self) -> int | None:
        """Records a local step, all clients together; None where it is not known."""
        if self.kind == "gradient" or self.local_batch == 0:
            return self.batch
        return None if self.local_batch is None else self.clients * self.local_batch

    @property
    def optimiser(self) -> str | None:
        """Of the local steps, in words; None where it is not known. A gradient is that of plain SGD."""
        if self.kind == "gradient" or self.momentum == 0:
            return "sgd"
        return None if self.momentum is None else f"sgd with momentum {self.momentum:g}"

    @property
    def blurred(self) -> bool:
        """Whether it is the mean of several steps of several clients, which no steps of one client make."""
        return self.clients > 1 and self.steps != 1

    @property
    def steps(self) -> int | None:
        """Local steps, where they follow from what is known."""
        if self.kind == "gradient":
            return 1
        if self.records is None or self.local_batch is None or self.epochs is None:
            return None
        return self.epochs * -(-self.records // (self.local_batch or self.records))

    def ladder(self, public: str | None, normalised: bool = False) -> Assumptions:
        """What the adversary is told, as rungs. Of several clients' steps it can but guess how they go together.

        Args:
            public: what it may own, in words; None for nothing.
            normalised: whether it knows how records are normalised.
        """
        gradient = self.kind == "gradient"
        every = {
            "batch": self.batch,
            "rate": None if gradient else self.rate,
            "local_batch": self.step,
            "steps": self.steps,
            "epochs": 1 if gradient else self.epochs,
            "mode": self.mode,
            "optimiser": self.optimiser,
            "normalisation": "as declared" if normalised else None,
            "prior": public,
        }
        told: dict[str, Any] = {
            name: Rung.known(value)
            for name, value in every.items()
            if value is not None and (self.knows is None or name in self.knows)
        }
        ladder = Assumptions(**told)
        if self.blurred and "local_batch" in told:
            return replace(ladder, local_batch=Rung(self.step, Standing.GUESSED))
        return ladder

    def mean(self, update: Update) -> Update:
        """The mean over its clients, of what may be their sum."""
        if not self.summed:
            return update
        return replace(update, tensors={name: np.asarray(t) / self.clients for name, t in update.tensors.items()})

    def local(self) -> LocalTraining:
        """The local training as far as it is known; ask `unmade` before making updates with it."""
        return LocalTraining(
            "gradient" if self.kind == "gradient" else "delta",
            self.clients * (self.local_batch or 0),
            self.epochs or 1,
            self.rate or LocalTraining.rate,
            "eval" if self.mode == "eval" else "train",
        )

    def unmade(self, moded: bool) -> str | None:
        """What is lacking to make another update like this one, or None when it can be made.

        Args:
            moded: whether the model computes otherwise in train mode than in eval mode.
        """
        if self.blurred:
            return (
                f"a simulation of {self.clients} clients with several local steps each (kind = 'federated' with the "
                "defense 'secure-aggregation'): one client's steps make no such update"
            )
        if self.momentum and self.kind == "delta":
            return "a simulation of clients with momentum, which there is none of: local steps here are plain SGD"
        lacking = [name for name in ("rate", "epochs", "local_batch") if getattr(self, name) is None]
        lacking = lacking if self.kind == "delta" else []
        if moded and self.mode is None:
            lacking.append("mode")
        if not lacking:
            return None
        return (
            f"{', '.join(lacking)} of the round ([federated], or arguments), to make another batch's update in the "
            "same way"
        )
