"""Homomorphic aggregation: the server adds ciphertexts, and whoever holds the key decrypts the sum."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from seepage.core.case import Case
from seepage.core.defense import AggregateDefense, Groups
from seepage.core.victim import Update, Updates
from seepage.defenses.updates.secure_aggregation import cohorts
from seepage.defenses.updates.vectors import stacked, unstacked
from seepage.models.ckks import encrypted_sum


class EncryptedAggregation(AggregateDefense):
    """Clients encrypt their updates under CKKS, the server adds, the key holder decrypts the sum.

    The adversary sees what is decrypted: the sum over a cohort, with the small error of the scheme, divided by the
    number of clients. So the leakage is that of secure aggregation over as many clients; what differs is the cost,
    which is measured and stated, and who is trusted: a key holder who works with the server decrypts single updates.
    The encryption draws from the system's generator, so two runs differ by the scheme's error.

    Attributes:
        cohort: clients a sum is over; has to divide their number. 0 for all clients in one sum.
    """

    name: ClassVar[str] = "encrypted-aggregation"
    title: ClassVar[str] = "Aggregation of encrypted updates (CKKS)"
    cites: ClassVar[tuple[str, ...]] = (
        "Cheon, Kim, Kim, Song 2017, Homomorphic Encryption for Arithmetic of Approximate Numbers, ASIACRYPT",
        "Benaissa, Retiat, Cebere, Belfedhal 2021, TenSEAL: A Library for Encrypted Tensor Operations Using "
        "Homomorphic Encryption, ICLR workshop",
    )
    slack: ClassVar[float] = 1e-4

    cohort: int = Field(default=0, ge=0)

    def groups(self, clients: int) -> Groups:
        return tuple(tuple(cohort) for cohort in cohorts(clients, self.cohort))

    def combine(self, group: Updates, rng: np.random.Generator) -> Update:
        """The mean of the updates, through encryption; draws nothing from `rng`.

        Raises:
            ConfigError: without TenSEAL.
        """
        del rng
        total, _ = encrypted_sum(stacked(group))
        return unstacked(group, total / len(group))

    def facts(self, case: Case) -> Mapping[str, float | str | None]:
        """What it costs: measured on the first cohort."""
        if not isinstance(case.victim, Updates):
            return {}
        first = Updates(tuple(case.victim.clients[client] for client in self.groups(len(case.victim))[0]))
        cost = encrypted_sum(stacked(first))[1]
        return {
            "clients_a_sum": float(len(first)),
            "plain_bytes_a_client": float(cost.plain_bytes),
            "encrypted_bytes_a_client": float(cost.cipher_bytes),
            "encrypt_seconds_a_client": round(cost.encrypt_seconds, 4),
            "add_seconds": round(cost.add_seconds, 4),
            "decrypt_seconds": round(cost.decrypt_seconds, 4),
            "aggregate_error": cost.error,
        }
