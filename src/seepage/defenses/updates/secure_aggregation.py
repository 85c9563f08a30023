"""Secure aggregation: the adversary sees the mean over clients and no client's update."""

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from seepage.core.case import Case
from seepage.core.defense import AggregateDefense, Groups
from seepage.core.errors import ConfigError
from seepage.core.victim import Update, Updates
from seepage.defenses.updates.vectors import stacked, unstacked
from seepage.models.secagg import FixedPoint, aggregate


def cohorts(clients: int, size: int) -> list[range]:
    """Clients cut into cohorts of `size`, one after another; one cohort of all of them for 0.

    Raises:
        ConfigError: when they cannot be cut evenly.
    """
    size = size or clients
    if clients % size:
        raise ConfigError(
            f"{clients} clients cannot be cut into cohorts of {size}: a divisor of {clients} was wanted, or 0 for all"
        )
    return [range(first, first + size) for first in range(0, clients, size)]


class SecureAggregation(AggregateDefense):
    """The server learns the sum over a cohort and nothing else; the adversary divides it by the number of clients.

    The protocol of Bonawitz et al. is played (masks in pairs, masks of one's own, shares, dropouts), so the sum carries
    its rounding to 2^-32. What can be read from the sum is left: it is the update of one client with all records of
    the cohort. It is honest-but-curious: a server that alters the model for one client, answers that it makes up, or
    colluding clients who subtract their own updates, are not stopped; nor does it hide a cohort of one.

    Attributes:
        cohort: clients a sum is over; has to divide their number. 0 for all clients in one sum.
        dropouts: clients of each cohort who stop after having shared keys (the last ones): not in the sum.
        threshold: share of a cohort, from which strictly more must answer for the round to end.
    """

    name: ClassVar[str] = "secure-aggregation"
    title: ClassVar[str] = "Secure aggregation"
    cites: ClassVar[tuple[str, ...]] = (
        "Bonawitz, Ivanov, Kreuter, Marcedone, McMahan, Patel, Ramage, Segal, Seth 2017, Practical Secure Aggregation "
        "for Privacy-Preserving Machine Learning, CCS",
    )

    cohort: int = Field(default=0, ge=0)
    dropouts: int = Field(default=0, ge=0)
    threshold: float = Field(default=0.5, ge=0, lt=1)

    def groups(self, clients: int) -> Groups:
        cut = cohorts(clients, self.cohort)
        left = len(cut[0]) - self.dropouts
        if left < self._needed(len(cut[0])):
            raise ConfigError(
                f"{max(left, 0)} of {len(cut[0])} clients answer and {self._needed(len(cut[0]))} are needed: the round "
                "stops and nothing is learned; fewer dropouts or a lower threshold"
            )
        return tuple(tuple(cohort[:left]) for cohort in cut)

    def _needed(self, clients: int) -> int:
        return math.floor(self.threshold * clients + 1e-9) + 1

    def combine(self, group: Updates, rng: np.random.Generator) -> Update:
        """The mean of the updates of those who answered, after the protocol.

        Raises:
            DataError: for values too large for the sum.
        """
        sent = stacked(group)
        # Those who dropped out take part in the keys; what they would have sent matters to nobody.
        n, left = len(sent) + self.dropouts, len(sent)
        vectors = np.concatenate([sent, np.zeros((self.dropouts, sent.shape[1]))])
        done = aggregate(vectors, self._needed(n), rng, frozenset(range(left, n)))
        return unstacked(group, done.total / left)

    def facts(self, case: Case) -> Mapping[str, float | str | None]:
        if not isinstance(case.victim, Updates):
            return {}
        summed = len(self.groups(len(case.victim))[0])
        facts: dict[str, float | str | None] = {
            "clients_a_sum": float(summed),
            "clients_dropped_out_a_sum": float(self.dropouts),
            "aggregate_step": FixedPoint().step,
            # A masked value is a whole number modulo 2^64.
            "bits_per_value": 64.0,
        }
        if summed == 1:
            facts["aggregate_of_one"] = "a sum over one client is that client's update: nothing is hidden"
        return facts
