"""The attack with reference models that suits their number."""

from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from seepage.attacks.membership.brannvall2026 import StudentT
from seepage.attacks.membership.lassila2025 import BASE
from seepage.attacks.membership.reference import Facts, ReferenceAttack, Signals
from seepage.attacks.membership.zarifzadeh2024 import RMIA
from seepage.core.records import Records

Array = np.ndarray
Method = Literal["rmia-offline", "student-t", "base"]

# Up to so many models: measured on Location-30 (benchmarks/membership-location30).
FEW, SOME = 2, 16


class ByNumber(ReferenceAttack):
    """Picks among the attacks with reference models by how many there are, and says which.

    - up to 2: `rmia` offline, which needs no variance;
    - up to 16: `student-t`;
    - more: `base` online, which ranks as online `rmia` and needs no population.

    No test is tried on the victim: one finding, one attack.

    Attributes:
        references: "auto", or the name of the one to take.
    """

    name: ClassVar[str] = "references"
    title: ClassVar[str] = "Reference models, by the test that suits their number"
    cites: ClassVar[tuple[str, ...]] = tuple(dict.fromkeys((*RMIA.cites, *StudentT.cites, *BASE.cites)))
    asks_population: ClassVar[bool] = True

    references: Literal["auto", "rmia-offline", "student-t", "base"] = "auto"

    def signal(self, answers: Float[Array, " *k n c"], records: Records) -> Float[Array, " *k n two"]:
        return np.stack([StudentT().signal(answers, records), BASE().signal(answers, records)], axis=-1)

    def settled(self, signals: Signals) -> tuple["ByNumber", Facts]:
        method, models = self._method(len(signals.inside)), len(signals.inside)
        why = f"of {models} reference models" if self.references == "auto" else "as asked for"
        facts: Facts = {"chosen_test": method, "chosen_because": why}
        return self.model_copy(update={"references": method}), facts

    def judged(self, signals: Signals) -> Float[Array, " n"]:
        method = self._method(len(signals.inside))
        if method == "student-t":
            return StudentT().judged(_column(signals, 0))
        if method == "base":
            return BASE().judged(_column(signals, 1))
        settled, _ = RMIA(mode="offline").settled(_likelihoods(signals))
        return settled.judged(_likelihoods(signals))

    def _method(self, models: int) -> Method:
        if self.references != "auto":
            return self.references
        return "rmia-offline" if models <= FEW else "student-t" if models <= SOME else "base"


def _column(signals: Signals, column: int) -> Signals:
    people, theirs = signals.my_people, signals.their_people
    return Signals(
        signals.inside,
        signals.mine[..., column],
        signals.theirs[..., column],
        None if people is None else people[..., column],
        None if theirs is None else theirs[..., column],
        signals.candidates,
    )


def _likelihoods(signals: Signals) -> Signals:
    logs = _column(signals, 1)
    return Signals(
        logs.inside,
        np.exp(logs.mine),
        np.exp(logs.theirs),
        None if logs.my_people is None else np.exp(logs.my_people),
        None if logs.their_people is None else np.exp(logs.their_people),
        logs.candidates,
    )
