"""Scores of class inversion: does a judge that knows the people recognise the reconstructions?

The judge is of another family than the victim and has seen other pictures of the same people. The
unit is a class: intervals are over classes, and a class with several draws counts the mean of them.
Beside what the judge says stands how like the private records the reconstructions are in its features.
"""

from collections.abc import Mapping

import numpy as np

from seepage.core.errors import DataError
from seepage.core.guess import Guess
from seepage.core.record import Score
from seepage.core.scorer import Controls, Scored
from seepage.core.secrets import InversionSecret, Judge, Secret, TextInversionSecret
from seepage.scoring import controls as against
from seepage.scoring import inversion_gallery as shown
from seepage.scoring import inversion_likeness as likeness
from seepage.scoring import inversion_records, inversion_texts
from seepage.scoring.judged import Judged, judged, weaker

Array = np.ndarray

HEADLINE = "judge_accuracy_1"
_METHOD = (
    "Wilson over classes; differences by squaring and adding, paired by class (Newcombe 1998); "
    "against chance also the exact binomial test"
)


def score(guess: Guess, secret: Secret, controls: Controls) -> Scored:
    """Scores of a `Reconstruction` against an `InversionSecret`, of classes or (see `inversion_records`) of records.

    Texts against a `TextInversionSecret` are scored by `inversion_texts`.

    - `judge_accuracy_1` (headline): share of the attacked classes whose reconstruction the judge takes
      for that very class; chance 1/classes.
    - `judge_accuracy_5`: the class is among the judge's five likeliest; chance 5/classes; only with more
      than five classes.
    - `judge_confidence`: the judge's mean probability of the class; chance 1/classes.
    - `nearer_private`, `precision`, `recall`, `density`, `coverage`: likeness in the judge's features
      (`inversion_likeness`); without a value where it cannot be computed, with the reason.

    Where some of these are above every control and others are not, a note says which.

    The attacked classes are those in `guess.labels`. The twin's class i is paired with the private
    class i; classes that a control lacks are left out of that control alone.

    The gallery has one row an attacked class, rising: `labels`, `real` (the record nearest to the mean of
    its class), `reconstruction`, `nearest_public`, `null_reconstruction`, `prior_draw` (each where that
    control is there), `judge_class`, `judge_confidence`, `judge_rank` (of the reconstruction shown),
    `null_judge_confidence`, `nearest_judge_confidence`; and `class_names`, by class number. A class that a
    control lacks has NaN for its confidence and a picture of zeros. A search that kept frames adds `frames`
    (f, k, ...) and `frame_at` (f,); the curves are then `frame_at`, `frame_confidence` and `frame_accuracy`.

    Raises:
        DataError: for a guess or a judge's answer that cannot be scored.
    """
    if isinstance(secret, TextInversionSecret):
        return inversion_texts.score(guess, secret, controls)
    if not isinstance(secret, InversionSecret):
        raise DataError(f"inversion is scored against an InversionSecret, got a {type(secret).__name__}")
    if secret.captured is not None:
        return inversion_records.score(guess, secret, controls)
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
    alike, distances = likeness.scores(value, no_model, null, secret, missing)
    scores |= alike
    frames, curves = shown.frames(guess, value, judge, records)
    return Scored(
        scores=scores,
        headline=HEADLINE,
        exposed=shown.exposed(value, no_model, null, names),
        gallery=shown.pictures(value, no_model, null, records) | frames,
        curves=curves,
        facts=_facts(value, no_model, null, judge, len(names)) | distances,
        notes=(*weaker(records, judge), *disagreement(scores)),
    )


def disagreement(scores: Mapping[str, Score]) -> tuple[str, ...]:
    """A note when some measures are above every control and others are not even by value; none otherwise.

    "Above" is what the interval of the leakage says. A measure whose value is above its controls and whose
    interval is not is undecided, which is no disagreement.
    """
    gaps = {name: score.leakage for name, score in scores.items() if score.leakage is not None}
    leaking = [name for name, gap in gaps.items() if gap.low > 0]
    rest = [name for name, gap in gaps.items() if gap.value <= 0]
    if not leaking or not rest:
        return ()
    alike = [name for name in likeness.TITLES if name in gaps]
    text = f"The measures disagree: above every control {_listed(leaking)}; no higher than a control {_listed(rest)}."
    if HEADLINE in leaking and alike and set(alike) <= set(rest):
        text += (
            " The judge recognises what was recovered, yet it is no more like the private records than what can be had"
            " without the model: the judge may have been fooled. Look at the pictures."
        )
    elif HEADLINE in rest:
        text += " Something private shows in what was recovered, but not so much that the judge tells the classes."
    elif "nearer_private" in leaking and "precision" in rest:
        text += (
            " What was recovered points to the right class and is nearer to its private records than to any public one,"
            " without lying among them."
        )
    return (text,)


def _listed(names: list[str]) -> str:
    return (
        f"{'is' if len(names) == 1 else 'are'} " + ", ".join(names[:-1]) + (" and " if names[:-1] else "") + names[-1]
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
    # How sure the judge is of somebody, beside how sure it is on noise (judge_top_confidence_noise).
    arms = {"reconstruction": value, "null_model": null, "prior_draw": prior}
    for name, part in arms.items():
        facts[f"judge_top_confidence_{name}"] = None if part is None else float(part.top.mean())
    return facts
