"""Membership by a classifier that has learned from reference models how answers to known records look."""

from typing import ClassVar

import numpy as np
from jaxtyping import Float
from pydantic import Field

from seepage.attacks.membership.reference import ReferenceAttack, Signals
from seepage.attacks.membership.signals import logarithm, scaled_confidence
from seepage.core.records import Records
from seepage.core.vocabulary import Task

Array = np.ndarray

# Scores of an answer that are looked at, the greatest first: what comes after tells nothing more.
SCORES = 10


class ShadowClassifier(ReferenceAttack):
    """A classifier of answers: given to a record that was trained on, or not?

    It learns from all answers of all reference models: the log-scores in falling order (ten at the most), the scaled
    confidence of the record's class, whether the answer is right, and the class, in whose place the original trains a
    classifier for each (section V.D). Boosted trees stand in for its small networks: they need no tuning. Unlike
    likelihood ratios it compares a record with all others of its class and not with itself.

    Attributes:
        rows: answers it learns from, at the most; drawn evenly.
        rounds: of boosting.
    """

    name: ClassVar[str] = "shadow-classifier"
    title: ClassVar[str] = "Shadow models and a classifier of answers"
    cites: ClassVar[tuple[str, ...]] = (
        "Shokri, Stronati, Song, Shmatikov 2017, Membership Inference Attacks Against Machine Learning Models, "
        "IEEE S&P",
    )
    # Each trains a classifier of its own.
    tasks: ClassVar[frozenset[Task]] = frozenset({Task.CLASSES})
    rehearsals: ClassVar[int] = 4

    rows: int = Field(default=40_000, ge=100)
    rounds: int = Field(default=60, ge=1)

    def signal(self, answers: Float[Array, " *k n c"], records: Records) -> Float[Array, " *k n f"]:
        labels = records.labels()
        ordered = -np.sort(-answers, axis=-1)[..., :SCORES]
        own = scaled_confidence(answers, records)[..., None]
        right = (answers.argmax(axis=-1) == labels)[..., None]
        classes = np.broadcast_to(labels[:, None], own.shape)
        return np.concatenate([own, right, classes, logarithm(np.asarray(ordered, dtype=np.float64))], axis=-1)

    def judged(self, signals: Signals) -> Float[Array, " n"]:
        from sklearn.ensemble import HistGradientBoostingClassifier

        features = signals.theirs.reshape(-1, signals.theirs.shape[-1])
        step = max(1, -(-len(features) // self.rows))
        learner = HistGradientBoostingClassifier(
            max_iter=self.rounds,
            min_samples_leaf=50,
            early_stopping=False,  # pyright: ignore[reportArgumentType] - a bool, as its documentation says
            random_state=0,
        )
        learner.fit(features[::step], signals.inside.reshape(-1)[::step])
        return learner.decision_function(signals.mine)
