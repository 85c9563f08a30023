"""Membership by robust comparison (RMIA): how many other records does this one outdo, each held against references?"""

from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from seepage.attacks.membership.offline import AUTO, best_share, mean_out, tempered
from seepage.attacks.membership.reference import Facts, ReferenceAttack, Signals
from seepage.core.records import Records

Array = np.ndarray


class RMIA(ReferenceAttack):
    """The share of records z whose likelihood ratio the candidate's exceeds `gamma` times (equations 2 to 4).

    A record's ratio is p(x | victim) / p(x), with p(x) the mean probability of its class:

    - online: over all references, half of which were trained on it;
    - offline: from the mean over those that were not, p_out, as ((1 + a) p_out + (1 - a)) / 2 (appendix B.2.2): a says
      how far in-models are believed to lie from out-models.

    The records z are a public population that nobody was trained on, asked of the victim too; the candidates themselves
    where there is none. One sorted search counts them: no table of candidates by population. As the same z serve every
    candidate, the share rises with the candidate's ratio; where shares tie, the ratio decides.

    Attributes:
        mode: "online", or "offline" from the models alone that were not trained on the record.
        gamma: how many times a ratio has to exceed another, at least 1.
        a: of the offline mode; None tries eleven values from 0 to 1 in rehearsals among the references, and takes the
            paper's .33 where there are too few for that.
        temperature: of the softmax; above 1, as in the published code, it lets answers close to certain differ.
    """

    name: ClassVar[str] = "rmia"
    title: ClassVar[str] = "Robust comparison with a population (RMIA)"
    cites: ClassVar[tuple[str, ...]] = (
        "Zarifzadeh, Liu, Shokri 2024, Low-Cost High-Power Membership Inference Attacks, ICML",
    )
    asks_population: ClassVar[bool] = True

    mode: Literal["online", "offline"] = "online"
    gamma: float = Field(default=1.0, ge=1)
    a: float | None = Field(default=None, ge=0, le=1)
    temperature: float = Field(default=2.0, gt=0)

    def signal(self, answers: Float[Array, " *k n c"], records: Records) -> Float[Array, " *k n"]:
        return np.exp(tempered(answers, records, self.temperature))

    def settled(self, signals: Signals) -> tuple["RMIA", Facts]:
        if self.mode == "online" or self.a is not None:
            return self, {}
        best, how = best_share(signals, lambda a, told: self.model_copy(update={"a": a}).judged(told))
        return self.model_copy(update={"a": best}), {"offline_a": best, "offline_a_chosen": how}

    def judged(self, signals: Signals) -> Float[Array, " n"]:
        a = AUTO if self.a is None else self.a
        out = mean_out(signals.theirs, signals.inside)
        usual = signals.theirs.mean(axis=0) if self.mode == "online" else _believed(out, a)
        ratio = signals.mine / np.maximum(usual, np.finfo(np.float64).tiny)
        if signals.my_people is None or signals.their_people is None:
            others = ratio
        else:
            people = _believed(signals.their_people.mean(axis=0), a)
            others = signals.my_people / np.maximum(people, np.finfo(np.float64).tiny)
        exceeded = np.searchsorted(np.sort(others), ratio / self.gamma, side="right")
        # Below one step of the share, and rising with the ratio.
        return (exceeded + ratio / (1 + ratio)) / (len(others) + 1)


def _believed(out: Float[Array, " n"], a: float) -> Float[Array, " n"]:
    return ((1 + a) * out + (1 - a)) / 2
