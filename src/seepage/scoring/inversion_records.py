"""Scores of the record form of inversion: is each reconstruction of the record behind its captured answer?

One reconstruction answers one captured answer, in the same order. The unit is a record. A judge that knows
the people says whose picture it shows; apart from that, the true record is looked for among all captured
ones, and the two are compared value by value.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter

from seepage.core.errors import DataError
from seepage.core.guess import Guess, Reconstruction
from seepage.core.record import Exposure, Score
from seepage.core.records import Records
from seepage.core.scorer import Controls, Scored
from seepage.core.secrets import GivesFeatures, InversionSecret, Judge
from seepage.core.vocabulary import Modality
from seepage.scoring import controls as against
from seepage.scoring.inversion_likeness import features_of
from seepage.scoring.judged import Judged, judged, weaker
from seepage.scoring.means import RecordMean

Array = np.ndarray

HEADLINE = "judge_accuracy_1"
_METHOD = (
    "Wilson over records; differences by squaring and adding, paired by record (Newcombe 1998); "
    "against chance also the exact binomial test"
)
_METHOD_ALIKE = "Student's t over records; differences by squaring and adding, paired by record"
NOTE = (
    "A record recovered from its answer was in that answer: the control with the answers of other records says so. "
    "It does not say that the record was memorised: the answer to a record that was never trained on can be "
    "inverted as well. Whether the victim remembers its members is what the membership leak measures."
)
# Wang et al. 2004: a Gaussian window of 1.5 pixels cut at 5, and constants K1, K2 of .01 and .03.
_SIGMA, _RADIUS, _K1, _K2 = 1.5, 5, 0.01, 0.03


@dataclass(frozen=True)
class Compared:
    """One guess about the records, compared with them.

    Attributes:
        judged: what the judge says of each reconstruction, the class of the record taken for its own.
        identified: (n,) whether the true record is the nearest captured one; a tie counts the odds of a fair draw.
        alike: (n,) how alike it is to the true record, 0 to 1.
        error: (n,) mean square difference to the true record, in units of the records' range.
    """

    judged: Judged
    identified: Float[Array, " n"]
    alike: Float[Array, " n"]
    error: Float[Array, " n"]


def identified(guess: Float[Array, " n d"], truth: Float[Array, " n d"]) -> Float[Array, " n"]:
    """For each row of `guess` the odds that the row of `truth` in its place is found nearest to it.

    Likeness is the cosine between the deviations of both from the mean row of `truth`: reconstructions are
    drawn towards the mean, and would all lie nearest to the most ordinary record by plain distance. Of m
    rows equally near, the true one among them, each counts 1/m; so a blind guess gets 1/n on average.

    Args:
        guess: one row a reconstruction.
        truth: one row a record, in the same order.
    """
    mean = truth.mean(axis=0)
    likeness = unit_rows(guess - mean) @ unit_rows(truth - mean).T
    # Rows that are the same up to rounding are tied.
    likeness = np.round(likeness, 9)
    own = np.diag(likeness)[:, None]
    above, tied = (likeness > own).sum(axis=1), (likeness == own).sum(axis=1)
    return np.where(above == 0, 1.0 / tied, 0.0)


def unit_rows(rows: Float[Array, " n d"]) -> Float[Array, " n d"]:
    """Rows of length one; a row of zeros stays one."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 1e-12)


def ssim(a: Float[Array, " n c h w"], b: Float[Array, " n c h w"], span: float) -> Float[Array, " n"]:
    """Structural similarity of pictures, 1 for the same, about 0 for unrelated ones.

    The mean over pixels and channels of the index of Wang, Bovik, Sheikh, Simoncelli 2004 (Image Quality
    Assessment: From Error Visibility to Structural Similarity, IEEE TIP 13), equation 13.

    Args:
        a: pictures.
        b: pictures, one for each of `a`.
        span: the range of their values.
    """

    def smooth(x: Array) -> Array:
        return gaussian_filter(x, (0, 0, _SIGMA, _SIGMA), radius=(0, 0, _RADIUS, _RADIUS), mode="reflect")

    a, b = a.astype(np.float64), b.astype(np.float64)
    c1, c2 = (_K1 * span) ** 2, (_K2 * span) ** 2
    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
    both = smooth(a * b) - mean_a * mean_b
    index = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    index /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return index.mean(axis=(1, 2, 3))


def score(guess: Guess, secret: InversionSecret, controls: Controls) -> Scored:
    """Scores of one reconstruction a captured answer against the captured records.

    - `judge_accuracy_1` (headline): share of the reconstructions in which the judge recognises the class
      (the person) of the record; chance 1/classes.
    - `record_identified`: share whose true record is the nearest of all captured ones (`identified`), in
      the judge's features where it gives them, else value by value; chance 1/records.
    - `ssim` (pictures) or `closeness` (1 - mean absolute difference, in units of the range): likeness to the
      true record, beside the same of the controls. Its `chance` of 0 is that of unrelated noise.

    The control `null_model` is the same attack given the answers to other records. The gallery and the
    exposed rows are those of the class form with one row a record; `nearest_public` is the public record
    nearest to the true one, picked with the secret in hand: shown, and no control, since it is no guess.

    Raises:
        DataError: for a guess or a judge's answer that cannot be scored, or a secret without captured records.
    """
    truth, judge = secret.captured, secret.judge
    if truth is None or not len(truth):
        raise DataError("captured records were wanted in the secret, there are none")
    names = secret.records.class_names
    if len(names) < 2:
        raise DataError(f"a judge needs at least two classes to choose from, there are {len(names)}")
    span = _span(secret.records)
    seen = _Seen(truth, judge, len(names), span)
    value = seen.compare(guess, "the attack's guess")
    no_model = {name: seen.compare(other, f"the control '{name}'") for name, other in controls.no_model.items()}
    null = None
    if controls.null_model is not None:
        null = seen.compare(controls.null_model, "the attack given other records' answers")
    same = _of_same_class(value.judged.x, truth.labels())
    class_alone = None if same is None else seen.compare(Reconstruction(same), "another record of the class")
    order = np.arange(len(truth))
    likeness = "ssim" if truth.modality is Modality.IMAGE else "closeness"

    def measured(name: str, title: str, chance: float) -> Score:
        def measure(part: Compared) -> against.Measure:
            if name == likeness:
                return RecordMean(part.alike)
            return against.UnitMean(part.judged.hits(1) if name == HEADLINE else part.identified, order)

        return against.score(
            name,
            title,
            measure(value),
            against.Against(
                chance=chance,
                # What is had of a record by its class alone: the attack's own picture of another record of the class.
                no_model={part: measure(found) for part, found in no_model.items()}
                | ({} if class_alone is None or name == HEADLINE else {"same_class_answer": measure(class_alone)}),
                null_model=None if null is None else measure(null),
                missing=dict(controls.missing),
            ),
            n=len(truth),
            unit="record",
            method=_METHOD_ALIKE if name == likeness else _METHOD,
        )

    alike = "Structural similarity to the true record" if likeness == "ssim" else "Closeness to the true record"
    scores = {
        HEADLINE: measured(HEADLINE, "Records whose class the judge recognises", 1 / len(names)),
        "record_identified": measured("record_identified", "Records found among all captured ones", 1 / len(truth)),
        likeness: measured(likeness, alike, 0.0),
    }
    return Scored(
        scores=scores,
        headline=HEADLINE,
        exposed=_exposed(value, no_model, null, truth, names),
        gallery=_gallery(value, null, truth, secret.public, judge, names),
        facts=_facts(value, no_model, null, seen, names),
        notes=(NOTE, *weaker(secret.records, judge)),
    )


def _span(records: Records) -> Float[Array, " ..."]:
    """The range of the values: of all of a picture's, of each column of a table."""
    if records.modality is Modality.IMAGE:
        return np.asarray(float(np.ptp(records.x)) or 1.0)
    wide = np.ptp(records.x, axis=0)
    return np.where(wide > 0, wide, 1.0)


def _of_same_class(x: Float[Array, " n ..."], labels: Int[Array, " n"]) -> Float[Array, " n ..."] | None:
    """For each record the reconstruction of another one of its class; None where a class has one record alone."""
    other = np.arange(len(x))
    for c in np.unique(labels):
        rows = np.nonzero(labels == c)[0]
        if len(rows) < 2:
            return None
        other[rows] = np.roll(rows, 1)
    return x[other]


class _Seen:
    """The captured records, as every guess is compared with them."""

    def __init__(self, truth: Records, judge: Judge, classes: int, span: Float[Array, " ..."]):
        self.truth, self.judge, self.classes, self.span = truth, judge, classes, span
        self.by = "the judge's features" if isinstance(judge, GivesFeatures) else "values"
        self._own = self._described(truth.x)

    def _described(self, x: Array) -> Array:
        """What likeness is measured in."""
        if isinstance(self.judge, GivesFeatures):
            return features_of(self.judge, x)
        return x.reshape(len(x), -1).astype(np.float64)

    def compare(self, guess: Guess, what: str) -> Compared:
        """A guess held against the records.

        Raises:
            DataError: when it is no reconstruction of each record.
        """
        if not isinstance(guess, Reconstruction):
            raise DataError(f"{what}: a Reconstruction was wanted, got a {type(guess).__name__}")
        x = np.asarray(guess.x)
        if x.shape != self.truth.x.shape:
            raise DataError(
                f"{what}: one reconstruction for each of {len(self.truth)} captured answers, of shape "
                f"{self.truth.x.shape[1:]}, was wanted; got {len(x)} of shape {x.shape[1:]}"
            )
        own = Reconstruction(x, self.truth.labels())
        found = judged(own, self.judge, self.classes, self.truth.x.shape[1:], what)
        return Compared(
            judged=found,
            identified=identified(self._described(x), self._own),
            alike=self._alike(x),
            error=(((x - self.truth.x) / self.span) ** 2).reshape(len(x), -1).mean(axis=1).astype(np.float64),
        )

    def _alike(self, x: Array) -> Array:
        if self.truth.modality is Modality.IMAGE:
            return np.clip(ssim(x, self.truth.x, float(self.span)), 0.0, 1.0)
        apart = (np.abs(x - self.truth.x) / self.span).reshape(len(x), -1).mean(axis=1)
        return np.clip(1 - apart, 0.0, 1.0).astype(np.float64)


def _facts(
    value: Compared, no_model: Mapping[str, Compared], null: Compared | None, seen: _Seen, names: tuple[str, ...]
) -> dict[str, float | str | None]:
    judge = seen.judge
    facts: dict[str, float | str | None] = {"judge_family": judge.family}
    facts |= {key if key.startswith("judge") else f"judge_{key}": fact for key, fact in judge.facts.items()}
    truth = judged(
        Reconstruction(seen.truth.x, seen.truth.labels()), judge, len(names), seen.truth.x.shape[1:], "the records"
    )
    facts["classes"] = float(len(names))
    facts["captured"] = float(len(seen.truth))
    facts["identified_by"] = seen.by
    facts["judge_accuracy_captured"] = float(truth.hits(1).mean())
    facts["judge_false_positives_null_model"] = None if null is None else float(null.judged.hits(1).mean())
    facts["mean_square_error"] = float(value.error.mean())
    facts |= {f"mean_square_error_{name}": float(found.error.mean()) for name, found in no_model.items()}
    facts["psnr_db"] = float(-10 * np.log10(max(float(value.error.mean()), 1e-12)))
    return facts


def _exposed(
    value: Compared,
    no_model: Mapping[str, Compared],
    null: Compared | None,
    truth: Records,
    names: tuple[str, ...],
) -> tuple[Exposure, ...]:
    """Records by the judge's confidence in their class beyond that in the best control's."""
    others = {name.replace("_", " "): found.judged.confidence for name, found in no_model.items()}
    if null is not None:
        others["other records' answers"] = null.judged.confidence
    labels, sure, rank = truth.labels(), value.judged.confidence, value.judged.rank
    controls = np.max([*others.values()], axis=0) if others else np.full(len(labels), np.nan)
    floor = np.where(np.isfinite(controls), controls, 1 / len(names))
    order = np.lexsort((np.arange(len(labels)), -(sure - floor)))
    rows: list[Exposure] = []
    for place, row in enumerate(order.tolist()):
        text = f"the judge takes the reconstruction for '{names[labels[row]]}' with probability {sure[row]:.2f}"
        text += f" (its rank {int(rank[row])} of {len(names)})"
        text += f"; the true record is {'' if value.identified[row] == 1 else 'not '}the nearest of {len(labels)}"
        if others:
            text += "; otherwise: " + ", ".join(f"{name} {found[row]:.2f}" for name, found in others.items())
        rows.append(
            Exposure(
                id=f"{names[labels[row]]}, record {truth.ids[row]}",
                rank=place + 1,
                value=float(sure[row]),
                control=float(controls[row]) if others else None,
                evidence=text,
                index=row,
            )
        )
    return tuple(rows)


def _gallery(
    value: Compared,
    null: Compared | None,
    truth: Records,
    public: Records | None,
    judge: Judge,
    names: tuple[str, ...],
) -> dict[str, Array]:
    labels = truth.labels()
    gallery: dict[str, Array] = {
        "labels": labels.astype(np.int64),
        "real": truth.x,
        "reconstruction": value.judged.x,
        "judge_class": value.judged.chosen.astype(np.int64),
        "judge_confidence": value.judged.confidence,
        "judge_rank": value.judged.rank.astype(np.int64),
        "class_names": np.array(names),
    }
    if public is not None and len(public):
        near = public.x[_nearest(truth.x, public.x)]
        gallery["nearest_public"] = near
        said = np.asarray(judge.predict(near), dtype=np.float64)
        gallery["nearest_judge_confidence"] = said[np.arange(len(labels)), labels]
    if null is not None:
        gallery["null_reconstruction"] = null.judged.x
        gallery["null_judge_confidence"] = null.judged.confidence
    return gallery


def _nearest(x: Float[Array, " n ..."], pool: Float[Array, " m ..."]) -> Int[Array, " n"]:
    """The row of `pool` nearest to each of `x`."""
    a, b = x.reshape(len(x), -1).astype(np.float64), pool.reshape(len(pool), -1).astype(np.float64)
    return ((b**2).sum(axis=1)[None] - 2 * a @ b.T).argmin(axis=1)
