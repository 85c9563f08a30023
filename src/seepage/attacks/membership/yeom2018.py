"""Membership by one threshold on what the victim says of a record itself.

A model fits what it was trained on: its loss there is lower, its confidence higher. One query a
candidate, no reference model. What varies is the statistic.
"""

from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field, model_validator

from seepage.attacks.membership.signals import log_confidence, logarithm
from seepage.core.attack import MembershipAttack
from seepage.core.errors import DataError
from seepage.core.guess import Scores
from seepage.core.knowledge import Knowledge, MembershipKnowledge
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Task

Array = np.ndarray
Statistic = Literal["loss", "confidence", "entropy", "modified-entropy"]


def membership_statistic(
    scores: Float[Array, " n c"], labels: Int[Array, " n"] | None, statistic: Statistic
) -> Float[Array, " n"]:
    """One number a record, higher for a record that looks more like a member.

    With p the scores of a record and y its class:

    - "loss": log p_y, the negative of the cross-entropy (Yeom et al. 2018);
    - "confidence": max p, no class needed (Salem et al. 2019, adversary 3);
    - "entropy": sum_i p_i log p_i, the negative entropy, no class needed (Salem et al. 2019);
    - "modified-entropy": (1 - p_y) log p_y + sum_{i != y} p_i log(1 - p_i), the negative of Song and Mittal 2021:
      unlike the entropy it tells a confident right answer from a confident wrong one.

    Raises:
        DataError: without the classes where they are needed, or with classes the victim does not have.
    """
    p = np.clip(np.asarray(scores, dtype=np.float64), 0.0, 1.0)
    if statistic == "confidence":
        return p.max(axis=1)
    if statistic == "entropy":
        return (p * logarithm(p)).sum(axis=1)
    if labels is None:
        raise DataError(f"the statistic '{statistic}' needs the class of each candidate; use 'confidence' or 'entropy'")
    if len(labels) and (labels.min() < 0 or labels.max() >= p.shape[1]):
        raise DataError(f"the victim has {p.shape[1]} classes, the candidates have {labels.min()} to {labels.max()}")
    rows = np.arange(len(p))
    own = p[rows, labels]
    if statistic == "loss":
        return logarithm(own)
    others = p * logarithm(1.0 - p)
    others[rows, labels] = 0.0
    return (1.0 - own) * logarithm(own) + others.sum(axis=1)


class Threshold(MembershipAttack):
    """Score each candidate by one statistic of the victim's answer to it.

    Ranking needs no threshold. To accuse someone, Yeom's adversary compares the loss with the average loss on
    the training data, which whoever trained the model may have published but no query tells: it is a
    parameter, and only with it does the guess carry `trace["threshold"]`. Nothing is tuned on the candidates.

    Attributes:
        statistic: what is read off an answer (see `membership_statistic`).
        average_training_loss: the victim's mean cross-entropy on its training data, in nats, where that is
            known to the adversary.
        batch: records asked at a time.
    """

    name: ClassVar[str] = "threshold"
    title: ClassVar[str] = "Loss threshold"
    needs: ClassVar[frozenset[Access]] = frozenset({Access.SCORES})
    tasks: ClassVar[frozenset[Task]] = frozenset(Task)
    cites: ClassVar[tuple[str, ...]] = (
        "Yeom, Giacomelli, Fredrikson, Jha 2018, Privacy Risk in Machine Learning: Analyzing the Connection to "
        "Overfitting, CSF",
        "Salem, Zhang, Humbert, Berrang, Fritz, Backes 2019, ML-Leaks: Model and Data Independent Membership "
        "Inference Attacks and Defenses on Machine Learning Models, NDSS",
        "Song, Mittal 2021, Systematic Evaluation of Privacy Risks of Machine Learning Models, USENIX Security",
    )

    statistic: Statistic = "loss"
    average_training_loss: float | None = Field(default=None, ge=0)
    batch: int = Field(default=256, ge=1)

    @model_validator(mode="after")
    def _loss_only(self) -> "Threshold":
        if self.average_training_loss is not None and self.statistic != "loss":
            raise ValueError(f"average_training_loss is a threshold on the loss, not on the {self.statistic}")
        return self

    def cost(self, knowledge: MembershipKnowledge, budget: int | None) -> int:
        """One query a candidate."""
        del budget
        return len(knowledge.candidates)

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if not isinstance(knowledge, MembershipKnowledge):
            return "it needs candidates, records of which to ask whether they were trained on"
        wanted = len(knowledge.candidates)
        if not wanted:
            return "it needs candidates, and none were given"
        if budget is not None and budget < wanted:
            return f"it asks one query a candidate: {wanted} are needed, the budget is {budget}"
        if knowledge.candidates.task is not Task.CLASSES:
            other = self.statistic != "loss" or self.average_training_loss is not None
            told = f"the candidates have {knowledge.candidates.task}, no classes: of them only the statistic 'loss' is"
            return f"{told} known, without average_training_loss" if other else super().obstacle(knowledge, budget)
        if knowledge.candidates.y is None and self.statistic in ("loss", "modified-entropy"):
            return f"the statistic '{self.statistic}' needs the candidates' classes; use 'confidence' or 'entropy'"
        return super().obstacle(knowledge, budget)

    def run(self, target: Target, knowledge: MembershipKnowledge, rng: np.random.Generator) -> Scores:
        """One score a candidate; draws nothing from `rng`.

        Raises:
            BudgetExceeded: when the budget is smaller than the number of candidates.
            DataError: as `membership_statistic`.
        """
        del rng
        candidates = knowledge.candidates
        parts = [target.scores(candidates.x[i : i + self.batch]) for i in range(0, len(candidates), self.batch)]
        if not parts:
            raise DataError("membership needs at least one candidate, got none")
        answers = np.concatenate(parts)
        if candidates.task is Task.CLASSES:
            values = membership_statistic(answers, candidates.y, self.statistic)
        else:
            values = log_confidence(answers, candidates)
        trace: dict[str, Array] = {}
        if self.average_training_loss is not None:
            trace["threshold"] = np.array([-self.average_training_loss])
        return Scores(values, trace=trace)
