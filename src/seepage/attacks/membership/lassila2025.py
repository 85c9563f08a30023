"""Membership by the loss against the loss that references lead one to expect (BASE)."""

from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field
from scipy.special import logsumexp

from seepage.attacks.membership.offline import AUTO, best_share, tempered
from seepage.attacks.membership.reference import Facts, ReferenceAttack, Signals
from seepage.core.records import Records

Array = np.ndarray


class BASE(ReferenceAttack):
    """The log-probability of a record's class, less what reference models lead one to expect.

    - online: l - log mean_k exp(l_k) over all references, half of which were trained on the record. It ranks records as
      online RMIA does, whatever its population: both divide by the mean probability over all references.
    - offline: l - a log mean exp(l_k) over those that were not trained on it.

    Attributes:
        mode: "online", or "offline" from the models alone that were not trained on the record.
        a: of the offline mode; None tries eleven values from 0 to 1 in rehearsals among the references, and takes the
            published .33 where there are too few for that.
        temperature: of the softmax; above 1, as in the published code, it lets answers close to certain differ.
    """

    name: ClassVar[str] = "base"
    title: ClassVar[str] = "Bayesian approximation (BASE)"
    cites: ClassVar[tuple[str, ...]] = (
        "Lassila, Östman, Ngo, Graell i Amat 2025, Practical Bayes-Optimal Membership Inference Attacks, NeurIPS",
    )

    mode: Literal["online", "offline"] = "online"
    a: float | None = Field(default=None, ge=0, le=1)
    temperature: float = Field(default=2.0, gt=0)

    def signal(self, answers: Float[Array, " *k n c"], records: Records) -> Float[Array, " *k n"]:
        return tempered(answers, records, self.temperature)

    def settled(self, signals: Signals) -> tuple["BASE", Facts]:
        if self.mode == "online" or self.a is not None:
            return self, {}
        best, how = best_share(signals, lambda a, told: self.model_copy(update={"a": a}).judged(told))
        return self.model_copy(update={"a": best}), {"offline_a": best, "offline_a_chosen": how}

    def judged(self, signals: Signals) -> Float[Array, " n"]:
        if self.mode == "online":
            return signals.mine - _log_mean(signals.theirs, np.ones_like(signals.inside))
        a = AUTO if self.a is None else self.a
        return signals.mine - a * _log_mean(signals.theirs, ~signals.inside)


def _log_mean(logs: Float[Array, " k n"], where: Array) -> Float[Array, " n"]:
    """The logarithm of the mean probability over the models where `where` holds."""
    return np.asarray(logsumexp(np.where(where, logs, -np.inf), axis=0)) - np.log(where.sum(axis=0))
