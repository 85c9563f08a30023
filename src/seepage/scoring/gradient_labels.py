"""Scores of labels read off updates: how many of a client's records have their class named, counted with repeats."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import binom

from seepage.core.counts import whole_counts
from seepage.core.errors import DataError
from seepage.core.guess import Guess, Posterior, Reconstruction
from seepage.core.record import Exposure, Score
from seepage.core.scorer import Controls, Scored
from seepage.core.secrets import GradientSecret
from seepage.scoring import controls as against

Array = np.ndarray
NAME = "label_recall"
TITLE = "Labels of the batch named, with repeats"
_METHOD = (
    "share of a client's records whose class is named as often as it occurs (the overlap of two multisets, as large as "
    "the batch); chance: classes drawn evenly. Wilson, or its extension to shares, over clients"
)


def overlap(guess: Int[Array, " c"], truth: Int[Array, " c"]) -> float:
    """Records of a batch whose class is named: `sum_c min(guess_c, truth_c) / sum_c truth_c`, 0 to 1."""
    return float(np.minimum(guess, truth).sum() / truth.sum())


def by_chance(truth: Int[Array, " c"]) -> float:
    """The expected overlap of as many classes drawn evenly: exact, by the binomial law of each class's count."""
    n, c = int(truth.sum()), len(truth)
    total = 0.0
    for count in truth.tolist():
        # E min(count, M) = sum_{k=1}^{count} P(M >= k).
        total += float(binom.sf(np.arange(count), n, 1 / c).sum())
    return total / n


class _Counts:
    """The true classes of every client, as counts."""

    def __init__(self, secret: GradientSecret):
        y, names = secret.batch.labels(), secret.batch.class_names
        client = np.zeros(len(y), dtype=np.int64) if secret.client is None else secret.client
        self.clients = np.unique(client)
        self.classes = len(names)
        self.truth = np.stack([np.bincount(y[client == c], minlength=self.classes) for c in self.clients])

    def recall(self, guess: Guess, what: str) -> Float[Array, " k"] | None:
        """(clients,) the overlap for each client; None for a guess that names no classes.

        Raises:
            DataError: for a posterior of another shape.
        """
        if isinstance(guess, Posterior):
            if guess.values.shape != self.truth.shape:
                raise DataError(
                    f"{what}: one distribution over {self.classes} classes for each of {len(self.clients)} clients was "
                    f"wanted, got shape {guess.values.shape}"
                )
            shares = guess.values
        elif isinstance(guess, Reconstruction) and guess.labels is not None:
            owner = np.zeros(len(guess.labels), dtype=np.int64) if guess.client is None else guess.client
            shares = np.stack(
                [np.bincount(guess.labels[owner == c], minlength=self.classes)[: self.classes] for c in self.clients]
            ).astype(float)
            shares[shares.sum(axis=1) == 0] = 1.0
        else:
            return None
        counts = [whole_counts(share, int(n)) for share, n in zip(shares, self.truth.sum(axis=1), strict=True)]
        return np.array([overlap(g, t) for g, t in zip(counts, self.truth, strict=True)])

    def scored(self, value: Float[Array, " k"], controls: Controls) -> Score:
        parts: dict[str, against.Measure] = {}
        for name, other in controls.no_model.items():
            found = self.recall(other, f"the control '{name}'")
            if found is not None:
                parts[name] = self.measure(found)
        null = None
        if controls.null_model is not None:
            null = self.recall(controls.null_model, "the attack given another batch's update")
        return against.score(
            NAME,
            TITLE,
            self.measure(value),
            against.Against(
                chance=float(np.mean([by_chance(t) for t in self.truth])),
                no_model=parts,
                null_model=None if null is None else self.measure(null),
                missing=dict(controls.missing),
            ),
            n=len(self.clients),
            unit="client",
            method=_METHOD,
        )

    def measure(self, values: Float[Array, " k"]) -> against.Measure:
        return against.UnitMean(values, self.clients)


def of_reconstruction(guess: Guess, secret: GradientSecret, controls: Controls) -> Score | None:
    """The label recall of a reconstruction that names classes; None for one that names none, or without labels."""
    if secret.batch.y is None:
        return None
    counts = _Counts(secret)
    value = counts.recall(guess, "the attack's guess")
    return None if value is None else counts.scored(value, controls)


def score(guess: Posterior, secret: GradientSecret, controls: Controls) -> Scored:
    """Scores of a guess of labels alone: one distribution over the classes for each client.

    Raises:
        DataError: for another shape, or a batch without labels.
    """
    counts = _Counts(secret)
    value = counts.recall(guess, "the attack's guess")
    if value is None:
        raise DataError("a distribution over the classes was wanted for each client")
    made = counts.scored(value, controls)
    floor = made.chance or 0.0
    order = np.lexsort((np.arange(len(value)), -value))
    exposed = tuple(
        Exposure(
            id=f"client {int(counts.clients[row])}",
            rank=place + 1,
            value=float(value[row]),
            control=floor,
            evidence=f"{value[row]:.0%} of its {int(counts.truth[row].sum())} labels named; drawn evenly {floor:.0%}",
            index=row,
        )
        for place, row in enumerate(order.tolist())
    )
    facts: Mapping[str, float | str | None] = {
        "clients": float(len(value)),
        "records": float(counts.truth.sum()),
        "batches_named_whole": float((value == 1).mean()),
    }
    return Scored({NAME: made}, NAME, exposed, facts=facts)
