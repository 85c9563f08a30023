"""Clients that look at the model before they train it."""

from typing import ClassVar

import numpy as np

from seepage.core.defense import UpdateDefense
from seepage.core.victim import Update, Updates, Victim
from seepage.defenses.updates.vectors import flat
from seepage.models.federated import ClientNet
from seepage.models.received import inspect_received


class CheckReceived(UpdateDefense):
    """Clients send nothing (zeros) for a model that bears the marks of a malicious server.

    Identical rows, mirrored weights and an emptied classifier are looked for. An honest model's update leaves
    unchanged: this is no defense against a server that only reads. What is planted in another way, or blurred, passes;
    `inspect_received` with the client's own records sees more.
    """

    name: ClassVar[str] = "check-received"
    title: ClassVar[str] = "Clients look at the model they receive"
    cites: ClassVar[tuple[str, ...]] = (
        "Garov, Dimitrov, Jovanovic, Vechev 2024, Hiding in Plain Sight: Disguising Data Stealing Attacks in Federated "
        "Learning, ICLR",
        "Fowl, Geiping, Czaja, Goldblum, Goldstein 2022, Robbing the Fed, ICLR (the marks of an imprint)",
        "Wen, Geiping, Fowl, Goldblum, Goldstein 2022, Fishing for User Data, ICML (the emptied classifier)",
    )

    def apply(self, update: Update, rng: np.random.Generator) -> Update:
        """The update as it is, once it has been looked at for values that cannot be sent."""
        del rng
        flat(update)
        return update

    def on_victim(self, victim: Victim, rng: np.random.Generator) -> Victim:
        if not isinstance(victim, Updates) or victim.asked is None:
            return super().on_victim(victim, rng)
        asked = victim.asked

        def careful(net: ClientNet, turn: int) -> Updates:
            sent = asked(net, turn)
            if not inspect_received(net):
                return sent
            return Updates(tuple(_nothing(update) for update in sent.clients))

        return Updates(victim.clients, careful)


def _nothing(update: Update) -> Update:
    return Update({name: np.zeros_like(tensor) for name, tensor in update.tensors.items()}, update.kind)
