"""Scores of class inversion: does a judge that knows the people recognise the reconstructions?

The judge is of another family than the victim and has seen other pictures of the same people. The
unit is a class: intervals are over classes, and a class with several draws counts the mean of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from seepage.core.errors import DataError
from seepage.core.guess import Guess, Reconstruction
from seepage.core.record import Exposure, Score
from seepage.core.records import Records
from seepage.core.scorer import Controls, Scored
from seepage.core.secrets import InversionSecret, Judge, Secret
from seepage.scoring import controls as against

Array = np.ndarray

HEADLINE = "judge_accuracy_1"
_METHOD = (
    "Wilson over classes; differences by squaring and adding, paired by class (Newcombe 1998); "
    "against chance also the exact binomial test"
)


@dataclass(frozen=True)
class Judged:
    """What the judge says of some reconstructions.

    Attributes:
        x: (d, ...) the reconstructions.
        labels: (d,) the class each one stands for.
        classes: (k,) those classes, each once, rising.
        chosen: (d,) the class the judge finds likeliest.
        confidence: (d,) its probability of the class the reconstruction stands for.
        above, tied: (d,) how many classes it finds likelier, and as likely (that class included).
        shown: (k,) for each class the draw to show: the one the attack is surest of, or the first.
    """

    x: Float[Array, " d ..."]
    labels: Int[Array, " d"]
    classes: Int[Array, " k"]
    chosen: Int[Array, " d"]
    confidence: Float[Array, " d"]
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
    scores = np.asarray(judge.predict(x), dtype=np.float64)
    if scores.shape != (len(x), classes):
        raise DataError(
            f"the judge should give {classes} probabilities a record, got an answer of shape {scores.shape}"
        )
    if not np.isfinite(scores).all() or scores.min() < 0 or scores.max() > 1 + 1e-4:
        raise DataError("the judge should give probabilities in [0, 1], got others")
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
        above=(scores > own[:, None]).sum(axis=1),
        tied=(scores == own[:, None]).sum(axis=1),
        shown=shown,
    )


def score(guess: Guess, secret: Secret, controls: Controls) -> Scored:
    """Scores of a `Reconstruction` against an `InversionSecret`.

    - `judge_accuracy_1` (headline): share of the attacked classes whose reconstruction the judge takes
      for that very class; chance 1/classes.
    - `judge_accuracy_5`: the class is among the judge's five likeliest; chance 5/classes; only with more
      than five classes.
    - `judge_confidence`: the judge's mean probability of the class; chance 1/classes.

    The attacked classes are those in `guess.labels`. The twin's class i is paired with the private
    class i; classes that a control lacks are left out of that control alone.

    The gallery has one row an attacked class, rising: `labels`, `real` (the record nearest to the mean of
    its class), `reconstruction`, `nearest_public`, `null_reconstruction`, `prior_draw` (each where that
    control is there), `judge_class`, `judge_confidence`, `judge_rank` (of the reconstruction shown),
    `null_judge_confidence`, `nearest_judge_confidence`; and `class_names`, by class number. A class that a
    control lacks has NaN for its confidence and a picture of zeros.

    Raises:
        DataError: for a guess or a judge's answer that cannot be scored.
    """
    if not isinstance(secret, InversionSecret):
        raise DataError(f"inversion is scored against an InversionSecret, got a {type(secret).__name__}")
    records, judge = secret.records, secret.judge
    names = records.class_names
    if len(names) < 2:
        raise DataError(f"a judge needs at least two classes to choose from, there are {len(names)}")
    shape = records.x.shape[1:]
    value = judged(guess, judge, len(names), shape, "the attack's guess")
    no_model: dict[str, Judged] = {}
    missing = dict(controls.missing)
    for name, other in controls.no_model.items():
        found = judged(other, judge, len(names), shape, f"the control '{name}'").among(value.classes)
        if found is not None:
            no_model[name] = found
    null = None
    if controls.null_model is not None:
        null = judged(controls.null_model, judge, len(names), shape, "the attack on the twin").among(value.classes)
        if null is None:
            missing[against.NULL_MODEL] = "a twin with at least one of the attacked class numbers"

    def measured(name: str, title: str, k: int | None) -> Score:
        def measure(part: Judged) -> against.UnitMean:
            draws = part.confidence if k is None else part.hits(k)
            return against.UnitMean(part.by_class(draws), part.classes)

        return against.score(
            name,
            title,
            measure(value),
            against.Against(
                chance=(k or 1) / len(names),
                no_model={part: measure(found) for part, found in no_model.items()},
                null_model=None if null is None else measure(null),
                missing=missing,
            ),
            n=len(value.classes),
            unit="class",
            method=_METHOD,
        )

    scores = {HEADLINE: measured(HEADLINE, "Classes recognised by the judge", 1)}
    if len(names) > 5:
        scores["judge_accuracy_5"] = measured("judge_accuracy_5", "Classes among the judge's five likeliest", 5)
    scores["judge_confidence"] = measured("judge_confidence", "Judge's confidence in the true class", None)
    return Scored(
        scores=scores,
        headline=HEADLINE,
        exposed=_exposed(value, no_model, null, names),
        gallery=_gallery(value, no_model, null, records),
        facts=_facts(value, no_model, null, judge, len(names)),
    )


def _facts(
    value: Judged, no_model: Mapping[str, Judged], null: Judged | None, judge: Judge, classes: int
) -> dict[str, float | str | None]:
    facts: dict[str, float | str | None] = {"judge_family": judge.family}
    facts |= {key if key.startswith("judge") else f"judge_{key}": fact for key, fact in judge.facts.items()}
    facts["classes"] = float(classes)
    facts["classes_attacked"] = float(len(value.classes))
    facts["draws"] = float(len(value.labels))
    facts["judge_false_positives_null_model"] = None if null is None else float(null.hits(1).mean())
    prior = no_model.get("prior_draw")
    facts["judge_false_positives_prior_draw"] = None if prior is None else float(prior.hits(1).mean())
    return facts


def _spread(part: Judged, draws: Float[Array, " d"], classes: Int[Array, " c"]) -> Float[Array, " c"]:
    """The class means of `part` in the order of `classes`, NaN where it lacks one."""
    out = np.full(len(classes), np.nan)
    out[np.searchsorted(classes, part.classes)] = part.by_class(draws)
    return out


def _exposed(
    value: Judged, no_model: Mapping[str, Judged], null: Judged | None, names: tuple[str, ...]
) -> tuple[Exposure, ...]:
    """Classes by the judge's confidence in their reconstruction beyond that in the best control's."""
    sure = value.by_class(value.confidence)
    others = {name.replace("_", " "): _spread(part, part.confidence, value.classes) for name, part in no_model.items()}
    if null is not None:
        others["the same attack on the twin"] = _spread(null, null.confidence, value.classes)
    hits, draws = value.by_class(value.hits(1)), np.bincount(np.searchsorted(value.classes, value.labels))
    rows: list[tuple[float, int, float | None, str]] = []
    for row, label in enumerate(value.classes):
        known = {name: float(found[row]) for name, found in others.items() if np.isfinite(found[row])}
        control = max(known.values()) if known else None
        rank = int(value.rank[value.shown[row]])
        text = f"the judge takes the reconstruction for '{names[label]}' with probability {sure[row]:.2f}"
        text += f" (its rank {rank} of {len(names)})" if draws[row] == 1 else f" (mean of {draws[row]} draws)"
        if draws[row] > 1:
            text += f", first in {hits[row]:.0%} of them"
        if known:
            text += "; without the model: " + ", ".join(f"{name} {found:.2f}" for name, found in known.items())
        floor = 1 / len(names) if control is None else control
        rows.append((float(sure[row]) - floor, row, control, text))
    rows.sort(key=lambda entry: (-entry[0], entry[1]))
    return tuple(
        Exposure(
            id=names[value.classes[row]],
            rank=place + 1,
            value=float(sure[row]),
            control=control,
            evidence=text,
            index=row,
        )
        for place, (_, row, control, text) in enumerate(rows)
    )


def _pictures(part: Judged, classes: Int[Array, " c"]) -> tuple[Float[Array, " c ..."], Float[Array, " c"]]:
    """The picture shown for each class and the judge's confidence in it; zeros and NaN where there is none."""
    x = np.zeros((len(classes), *part.x.shape[1:]), dtype=np.float32)
    confidence = np.full(len(classes), np.nan)
    rows = np.searchsorted(classes, part.classes)
    x[rows], confidence[rows] = part.x[part.shown], part.confidence[part.shown]
    return x, confidence


def _gallery(value: Judged, no_model: Mapping[str, Judged], null: Judged | None, records: Records) -> dict[str, Array]:
    classes = value.classes
    gallery: dict[str, Array] = {
        "labels": classes.astype(np.int64),
        "real": np.stack([_typical(records.of_class(int(c)), records.class_names[c]) for c in classes]),
        "reconstruction": _pictures(value, classes)[0],
        "judge_class": value.chosen[value.shown].astype(np.int64),
        "judge_confidence": value.confidence[value.shown],
        "judge_rank": value.rank[value.shown].astype(np.int64),
        "class_names": np.array(records.class_names),
    }
    if "nearest_public" in no_model:
        gallery["nearest_public"], gallery["nearest_judge_confidence"] = _pictures(no_model["nearest_public"], classes)
    if "prior_draw" in no_model:
        gallery["prior_draw"] = _pictures(no_model["prior_draw"], classes)[0]
    if null is not None:
        gallery["null_reconstruction"], gallery["null_judge_confidence"] = _pictures(null, classes)
    return gallery


def _typical(records: Records, name: str) -> Float[Array, " ..."]:
    """The record nearest to the mean of its class."""
    if not len(records):
        raise DataError(f"no private record of class '{name}' was given to the scorer")
    flat = records.x.reshape(len(records), -1)
    return records.x[int(((flat - flat.mean(axis=0)) ** 2).sum(axis=1).argmin())]
