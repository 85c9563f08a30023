"""What a judge says of reconstructions: checked once, then read by every score of class inversion."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from seepage.core.errors import DataError
from seepage.core.guess import Guess, Reconstruction
from seepage.core.records import Records
from seepage.core.secrets import Judge
from seepage.models.independence import learned_from, shared

Array = np.ndarray


@dataclass(frozen=True)
class Judged:
    """What the judge says of some reconstructions.

    Attributes:
        x: (d, ...) the reconstructions.
        labels: (d,) the class each one stands for.
        classes: (k,) those classes, each once, rising.
        chosen: (d,) the class the judge finds likeliest.
        confidence: (d,) its probability of the class the reconstruction stands for.
        top: (d,) its probability of the class it finds likeliest.
        above, tied: (d,) how many classes it finds likelier, and as likely (that class included).
        shown: (k,) for each class the draw to show: the one the attack is surest of, or the first.
    """

    x: Float[Array, " d ..."]
    labels: Int[Array, " d"]
    classes: Int[Array, " k"]
    chosen: Int[Array, " d"]
    confidence: Float[Array, " d"]
    top: Float[Array, " d"]
    above: Int[Array, " d"]
    tied: Int[Array, " d"]
    shown: Int[Array, " k"]

    @property
    def rank(self) -> Int[Array, " d"]:
        """Rank of the class in the judge's eyes, from 1; last among those as likely."""
        return self.above + self.tied

    def hits(self, k: int) -> Float[Array, " d"]:
        """Whether the class is among the judge's k likeliest; a tie counts the odds of a fair draw.

        So a judge that cannot tell gives exactly k / classes.
        """
        return np.clip((k - self.above) / self.tied, 0.0, 1.0)

    def by_class(self, draws: Float[Array, " d"]) -> Float[Array, " k"]:
        """The mean over the draws of each class."""
        places = np.searchsorted(self.classes, self.labels)
        return np.bincount(places, weights=draws) / np.bincount(places)

    def among(self, classes: Int[Array, " j"]) -> "Judged | None":
        """These reconstructions without those of other classes; None when none is left."""
        keep = np.isin(self.labels, classes)
        if not keep.any():
            return None
        kept = np.isin(self.classes, classes)
        moved = np.cumsum(keep) - 1
        return replace(
            self,
            x=self.x[keep],
            labels=self.labels[keep],
            classes=self.classes[kept],
            chosen=self.chosen[keep],
            confidence=self.confidence[keep],
            top=self.top[keep],
            above=self.above[keep],
            tied=self.tied[keep],
            shown=moved[self.shown[kept]],
        )


def judged(guess: Guess, judge: Judge, classes: int, shape: tuple[int, ...], what: str) -> Judged:
    """What `judge` says of the reconstructions in `guess`.

    Raises:
        DataError: when the guess holds no reconstructions, no classes, values that are not finite,
            another shape than the records, or classes that do not exist; or when the judge's
            answer is no distribution over the private classes.
    """
    if not isinstance(guess, Reconstruction):
        raise DataError(f"{what}: a Reconstruction was wanted, got a {type(guess).__name__}")
    if guess.labels is None:
        raise DataError(f"{what}: which class each reconstruction stands for is not said; the attack must set labels")
    x, labels = np.asarray(guess.x), np.asarray(guess.labels)
    if not len(x) or len(labels) != len(x) or x.shape[1:] != shape:
        raise DataError(
            f"{what}: reconstructions of shape {shape}, each with a class, were wanted; "
            f"got {len(x)} of shape {x.shape[1:]} with {len(labels)} classes"
        )
    if guess.confidence is not None and len(guess.confidence) != len(x):
        raise DataError(f"{what}: {len(x)} reconstructions came with {len(guess.confidence)} confidences")
    broken = ~np.isfinite(x.reshape(len(x), -1)).all(axis=1)
    if broken.any():
        raise DataError(
            f"{what}: {int(broken.sum())} of {len(x)} reconstructions hold NaN or infinite values, first that of "
            f"class {int(labels[np.argmax(broken)])}; the attack diverged: try a smaller step"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(f"{what}: classes should be 0 to {classes - 1}, got {labels.min()} to {labels.max()}")
    scores = probabilities(judge, x, classes)
    own = scores[np.arange(len(x)), labels]
    present, first = np.unique(labels, return_index=True)
    shown = first
    if guess.confidence is not None:
        rows = [np.nonzero(labels == c)[0] for c in present]
        shown = np.array([own_rows[np.argmax(guess.confidence[own_rows])] for own_rows in rows])
    return Judged(
        x=x,
        labels=labels,
        classes=present,
        chosen=scores.argmax(axis=1),
        confidence=np.minimum(own, 1.0),
        top=np.minimum(scores.max(axis=1), 1.0),
        above=(scores > own[:, None]).sum(axis=1),
        tied=(scores == own[:, None]).sum(axis=1),
        shown=shown,
    )


def probabilities(judge: Judge, x: Float[Array, " d ..."], classes: int) -> Float[Array, " d c"]:
    """The judge's probabilities over the private classes, (d, classes) float64.

    Raises:
        DataError: when its answer has another shape, or is no probabilities.
    """
    scores = np.asarray(judge.predict(x), dtype=np.float64)
    if scores.shape != (len(x), classes):
        raise DataError(
            f"the judge should give {classes} probabilities a record, got an answer of shape {scores.shape}"
        )
    if not np.isfinite(scores).all() or scores.min() < 0 or scores.max() > 1 + 1e-4:
        raise DataError("the judge should give probabilities in [0, 1], got others")
    return scores


def weaker(records: Records, judge: Judge) -> tuple[str, ...]:
    """A note when the judge learned from what the victim learned from."""
    known = int(shared(records, learned_from(judge)).sum())
    if not known:
        return ()
    return (
        f"The judge learned from {known} of the {len(records)} members, since there were no non-members of every class:"
        " weaker evidence than a judge that shares nothing with the victim. Reconstructions are compared with the"
        " members it did not learn from. Give non-members with classes to have an independent one.",
    )
