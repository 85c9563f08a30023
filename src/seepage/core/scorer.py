"""What a scorer is: pure, from a guess, the secret and the controls' guesses to scores."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from seepage.core.guess import Guess
from seepage.core.record import Exposure, Group, Score, Spread
from seepage.core.secrets import Secret

Array = np.ndarray


@dataclass(frozen=True)
class Controls:
    """Guesses that never touched the victim, scored by the same rule.

    Attributes:
        no_model: guesses from the same knowledge without the victim, by name; the best one counts.
        null_model: the same attack's guess on the null twin.
        missing: control -> what the user could supply to have it.
    """

    no_model: Mapping[str, Guess] = field(default_factory=dict[str, Guess])
    null_model: Guess | None = None
    missing: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Scored:
    """What a scorer returns.

    Attributes:
        scores: by name; `headline` is the one the verdict rests on. Both are empty where nothing is known that a
            guess could be held against; `facts["unscored"]` then says why.
        exposed: members or classes, most exposed first.
        groups: how leakage shows in groups of records.
        spread: how scores vary from training to training.
        gallery: arrays that show what was recovered (private).
        curves: arrays that hold no private data (ROC, say).
        facts: figures for the report.
    """

    scores: Mapping[str, Score]
    headline: str
    exposed: tuple[Exposure, ...] = ()
    groups: tuple[Group, ...] = ()
    spread: tuple[Spread, ...] = ()
    gallery: Mapping[str, Array] = field(default_factory=dict[str, Array])
    curves: Mapping[str, Array] = field(default_factory=dict[str, Array])
    facts: Mapping[str, float | str | None] = field(default_factory=dict[str, float | str | None])
    notes: tuple[str, ...] = ()


@runtime_checkable
class Scorer(Protocol):
    """`(guess, secret, controls) -> scores`, with no other input and no randomness."""

    def __call__(self, guess: Guess, secret: Secret, controls: Controls) -> Scored: ...
