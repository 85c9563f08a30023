"""The attack with reference models that suits their number."""

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from seepage.attacks.membership.brannvall2026 import StudentT
from seepage.attacks.membership.lassila2025 import BASE
from seepage.attacks.membership.offline import auc, found_at_one, rehearsed
from seepage.attacks.membership.reference import Facts, ReferenceAttack, Signals
from seepage.attacks.membership.zarifzadeh2024 import RMIA
from seepage.core.records import Records

Array = np.ndarray
Method = Literal["rmia-offline", "student-t", "base", "both"]

# From so many models on, tests are chosen by rehearsal: with fewer, a rehearsal has too few references itself.
ENOUGH = 8
# Candidates from which on a rehearsal has the hundred non-members that 1 % takes.
RATED = 200


class ByNumber(ReferenceAttack):
    """Picks among the tests with reference models by how many there are, and says which and why.

    - fewer than 8 models: `base` online, which needs no variance. With models in complementary pairs it was ahead at
      every number from 2 to 16 on four data sets (benchmarks/membership-location30);
    - 8 or more: `base`, `student-t`, or the mean of a candidate's ranks by both, whichever finds the most members of
      the reference models at 1 % false alarms in rehearsals, in which the victim has no part (with fewer than 200
      candidates: whichever has the greatest AUC).

    No test is tried on the victim: one finding, one attack.

    Attributes:
        references: "auto", or the test to take: "rmia-offline", "student-t", "base", or "both", the mean of the ranks
            by the last two.
    """

    name: ClassVar[str] = "references"
    title: ClassVar[str] = "Reference models, by the test that suits them"
    cites: ClassVar[tuple[str, ...]] = tuple(dict.fromkeys((*BASE.cites, *StudentT.cites, *RMIA.cites)))

    references: Literal["auto", "rmia-offline", "student-t", "base", "both"] = "auto"

    def signal(self, answers: Float[Array, " *k n c"], records: Records) -> Float[Array, " *k n two"]:
        return np.stack([StudentT().signal(answers, records), BASE().signal(answers, records)], axis=-1)

    def settled(self, signals: Signals) -> tuple["ByNumber", Facts]:
        models = len(signals.inside)
        if self.references != "auto":
            return self, {"chosen_test": self.references, "chosen_because": "asked for"}
        if models < ENOUGH:
            because = f"of {models} reference models: too few to try tests among themselves"
            return self._taking("base"), {"chosen_test": "base", "chosen_because": because}
        many = signals.inside.shape[1] >= RATED
        measure, called = (found_at_one, "members found at 1 %") if many else (auc, "AUC")
        tried: dict[Method, float] = {
            "base": rehearsed(_column(signals, 1), BASE().judged, measure),
            "student-t": rehearsed(_column(signals, 0), StudentT().judged, measure),
            "both": rehearsed(signals, _both, measure),
        }
        best = max(tried, key=lambda name: tried[name])
        told = ", ".join(f"{name} {value:.3f}" for name, value in tried.items())
        because = f"of {models} reference models, by rehearsals among themselves (mean {called}: {told})"
        return self._taking(best), {"chosen_test": best, "chosen_because": because}

    def judged(self, signals: Signals) -> Float[Array, " n"]:
        if self.references == "student-t":
            return StudentT().judged(_column(signals, 0))
        if self.references in ("base", "auto"):
            return BASE().judged(_column(signals, 1))
        if self.references == "both":
            return _both(signals)
        settled, _ = RMIA(mode="offline").settled(_likelihoods(signals))
        return settled.judged(_likelihoods(signals))

    def _taking(self, test: Method) -> "ByNumber":
        return self.model_copy(update={"references": test})


def _both(signals: Signals) -> Float[Array, " n"]:
    """The mean of each candidate's ranks by `base` and by `student-t`."""
    ranked = [rankdata(BASE().judged(_column(signals, 1))), rankdata(StudentT().judged(_column(signals, 0)))]
    return np.mean(ranked, axis=0)


def _column(signals: Signals, column: int) -> Signals:
    """One of the two signals; no population is asked."""
    return replace(signals, mine=signals.mine[..., column], theirs=signals.theirs[..., column])


def _likelihoods(signals: Signals) -> Signals:
    logs = _column(signals, 1)
    return replace(logs, mine=np.exp(logs.mine), theirs=np.exp(logs.theirs))
