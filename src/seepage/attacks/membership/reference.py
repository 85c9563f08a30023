"""What attacks with reference models share: answers turned into signals, rehearsals, and what a record's training did.

An attack says what it reads off an answer (`signal`) and how the victim's signals are judged by those of the references
(`judged`). Played with each reference model as the victim, and the others without its pair as references, it tells how
much leakage varies between trainings: nothing in that is the victim's.
"""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field
from scipy import stats

from seepage.attacks.membership import outsiders
from seepage.attacks.membership.signals import log_confidence
from seepage.core.attack import MembershipAttack
from seepage.core.errors import DataError
from seepage.core.guess import Scores
from seepage.core.knowledge import Knowledge, MembershipKnowledge
from seepage.core.records import Records
from seepage.core.references import References
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Task

Array = np.ndarray
Facts = dict[str, float | str | None]

# Models that play the victim in rehearsals: enough to see how leakage varies from training to training.
REHEARSALS = 16
# Probabilities below which answers are not coarse.
FINE = 1e-5


@dataclass(frozen=True)
class Signals:
    """What is read off the answers of the victim and of k reference models.

    Attributes:
        inside: (k, n) which candidates each reference was trained on; half of the models for each candidate.
        mine: (n, ...) the victim's, on the candidates.
        theirs: (k, n, ...) the references', on the candidates.
        my_people: (z, ...) the victim's on a population that nobody was trained on; None where there is none.
        their_people: (k, z, ...) the references' on it.
        candidates: the records, for what does not depend on any model.
    """

    inside: Bool[Array, " k n"]
    mine: Float[Array, " n ..."]
    theirs: Float[Array, " k n ..."]
    my_people: Float[Array, " z ..."] | None
    their_people: Float[Array, " k z ..."] | None
    candidates: Records

    def with_victim(self, model: int) -> "Signals":
        """A reference model in the victim's place, and neither it nor its partner among the references."""
        kept = np.arange(len(self.inside)) // 2 != model // 2
        people = self.their_people
        return replace(
            self,
            inside=self.inside[kept],
            mine=self.theirs[model],
            theirs=self.theirs[kept],
            my_people=None if people is None else people[model],
            their_people=None if people is None else people[kept],
        )


class ReferenceAttack(MembershipAttack):
    """Judges the victim's answers by those of reference models.

    Class variables:
        asks_population: whether the victim is asked about the population too.
        rehearsals: models that play the victim in rehearsals, at the most.
    """

    needs: ClassVar[frozenset[Access]] = frozenset({Access.SCORES})
    tasks: ClassVar[frozenset[Task]] = frozenset(Task)
    needs_references: ClassVar[bool] = True
    asks_population: ClassVar[bool] = False
    rehearsals: ClassVar[int] = REHEARSALS

    models: int | None = Field(
        default=None, ge=2, multiple_of=2, description="reference models used, an even number; None for all"
    )
    batch: int = Field(default=1024, ge=1, description="records asked at a time")

    @abstractmethod
    def signal(self, answers: Float[Array, " *k n c"], records: Records) -> Float[Array, " ..."]:
        """What is read off answers to records."""

    @abstractmethod
    def judged(self, signals: Signals) -> Float[Array, " n"]:
        """One number a candidate, higher for "was trained on"."""

    def settled(self, signals: Signals) -> tuple["ReferenceAttack", Facts]:
        """This attack with what it leaves open decided, by the references alone; and what was decided."""
        return self, {}

    def cost(self, knowledge: MembershipKnowledge, budget: int | None) -> int:
        """One query a candidate, and one a record of the population where that is asked."""
        del budget
        people = None if knowledge.references is None else knowledge.references.population
        return len(knowledge.candidates) + (len(people) if self.asks_population and people is not None else 0)

    def obstacle(self, knowledge: Knowledge, budget: int | None) -> str | None:
        if isinstance(knowledge, MembershipKnowledge) and not len(knowledge.candidates):
            return "it needs candidates, and none were given"
        return super().obstacle(knowledge, budget)

    def run(self, target: Target, knowledge: MembershipKnowledge, rng: np.random.Generator) -> Scores:
        """One score a candidate; draws nothing from `rng`.

        `trace` holds the rehearsals, `target_scores` and `target_inside` (t, n), where there are four models or more,
        and `memorisation` (n, 3) (see `memorisation`).

        Raises:
            BudgetExceeded: when the budget is smaller than the number of records to ask about.
            DataError: without reference models.
        """
        del rng
        if knowledge.references is None:
            raise DataError(f"{self.name} needs reference models, and there are none")
        references = knowledge.references.get()
        references = references if self.models is None else references.first(self.models)
        candidates, people = knowledge.candidates, references.population if self.asks_population else None
        told = None if people is None or references.population_answers is None else references.population_answers
        step = grain(references.answers, candidates.task)

        def read(answers: Float[Array, " *k n c"], records: Records) -> Float[Array, " ..."]:
            return self.signal(resolved(answers, step, records.task), records)

        signals = Signals(
            references.inside,
            read(outsiders.answers(target, candidates, self.batch), candidates),
            read(references.answers, candidates),
            None if people is None else read(outsiders.answers(target, people, self.batch), people),
            None if people is None or told is None else read(told, people),
            candidates,
        )
        attack, facts = self.settled(signals)
        trace = {"memorisation": memorisation(references, candidates)}
        if len(references) >= 4:
            played = range(min(len(references), self.rehearsals))
            trace["target_scores"] = np.stack([attack.judged(signals.with_victim(model)) for model in played])
            trace["target_inside"] = references.inside[: len(played)]
        facts = {"reference_models": float(len(references)), **facts}
        if step:
            facts["grain_of_answers"] = step
        if people is not None:
            facts["population"] = float(len(people))
        return Scores(attack.judged(signals), trace=trace, facts=facts)


def grain(answers: Float[Array, " k n c"], task: Task) -> float:
    """The least probability that coarse answers tell from none, a vote of a forest say; 0 where they are not coarse.

    Numbers have no grain. Single precision tells probabilities apart far below `FINE`; what is never below it and yet
    holds zeros counts something, or was rounded.
    """
    if task is Task.VALUES or not (answers <= 0).any():
        return 0.0
    least = float(answers[answers > 0].min(initial=1.0))
    return least if least > FINE else 0.0


def resolved(answers: Float[Array, " *k n c"], step: float, task: Task) -> Float[Array, " *k n c"]:
    """Answers with half a grain in place of none: a vote too few is no certainty, and no logarithm of one either.

    Without this a zero is a logit of -87, which decides every variance. Of labels, certainty of yes loses half a grain
    as well.
    """
    if not step:
        return answers
    return np.clip(answers, step / 2, 1 - step / 2 if task is Task.LABELS else 1.0)


def parts(
    values: Float[Array, " k n"], where: Bool[Array, " k n"]
) -> tuple[Float[Array, " n"], Float[Array, " n"], Float[Array, " n"]]:
    """Number, mean and sum of squared deviations of each column's values where `where` holds."""
    n = where.sum(axis=0).astype(np.float64)
    mean = np.where(where, values, 0.0).sum(axis=0) / np.maximum(n, 1)
    squares = np.where(where, (values - mean) ** 2, 0.0).sum(axis=0)
    return n, mean, squares


def memorisation(references: References, candidates: Records, confidence: float = 0.95) -> Float[Array, " n 3"]:
    """How much likelier a record's own class is where it was trained on than where it was not: value, low, high.

    The mean of p_y over the models that were trained on it less that over those that were not (Feldman and Zhang 2020,
    equation 1, with the probability of the class for its being answered), with Welch's interval over models. Two models
    give no interval: -1 to 1.
    """
    p = np.exp(log_confidence(references.answers, candidates))
    m, inside, in_squares = parts(p, references.inside)
    _, outside, out_squares = parts(p, ~references.inside)
    value = inside - outside
    if len(references) < 4:
        return np.stack([value, np.full_like(value, -1.0), np.full_like(value, 1.0)], axis=1)
    a, b = in_squares / (m - 1) / m, out_squares / (m - 1) / m
    # Where no model differs from another there is nothing to tell the spread by, and one degree of freedom is kept.
    freedom = np.divide((a + b) ** 2, (a**2 + b**2) / (m - 1), out=np.ones_like(a), where=a + b > 0)
    half = stats.t.ppf(0.5 + confidence / 2, freedom) * np.sqrt(a + b)
    return np.stack([value, np.maximum(value - half, -1.0), np.minimum(value + half, 1.0)], axis=1)
