"""What an attack returns. Five shapes carry all six leaks."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from seepage.core.victim import Model

Array = np.ndarray


@dataclass(frozen=True)
class Guess:
    """Base of all guesses.

    Attributes:
        trace: curves worth keeping (loss by step, say), by name.
        notes: sentences for the report.
        facts: figures for the report (what was assumed, residuals), by name; never used for scoring.
    """

    trace: Mapping[str, Array] = field(default_factory=dict[str, Array], kw_only=True)
    notes: tuple[str, ...] = field(default=(), kw_only=True)
    facts: Mapping[str, float | str | None] = field(default_factory=dict[str, float | str | None], kw_only=True)


@dataclass(frozen=True)
class Scores(Guess):
    """One number a candidate, higher for "more likely yes" (a member, a canary, ...)."""

    values: Float[Array, " n"]


@dataclass(frozen=True)
class Posterior(Guess):
    """One distribution a record over the values an attribute can take; rows sum to one."""

    values: Float[Array, " n v"]


@dataclass(frozen=True)
class Reconstruction(Guess):
    """Records recovered.

    Attributes:
        x: (n, ...) recovered records in the input's bounds.
        labels: (n,) the class each one stands for, or None where that is not known. A class may
            appear several times (several draws); its score is then the mean over them.
        confidence: (n,) the attack's own belief in each, higher is surer; never used for scoring.
        client: (n,) the client each one was recovered from, when the victim is several updates.
        frames: (f, c, ...) what the search held on its way, one record a class, the classes rising; for the
            report's slider. A handful is enough.
        frame_at: (f,) the queries spent (or, with the weights, the steps taken) at each frame.
    """

    x: Float[Array, " n ..."]
    labels: Int[Array, " n"] | None = None
    confidence: Float[Array, " n"] | None = None
    client: Int[Array, " n"] | None = None
    frames: Float[Array, " f c ..."] | None = field(default=None, kw_only=True)
    frame_at: Int[Array, " f"] | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Texts(Guess):
    """For each prompt (captured vector, client), the texts guessed, likeliest first; none where there is no guess."""

    values: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Surrogate(Guess):
    """A model that imitates the victim."""

    model: Model
