"""Scores of property inference: are models trained on more of a group told from those trained at the public's share?

The unit is a model. What is said of the victim itself, a single model, is an estimate with the interval that the
adversary gives it, beside the truth and what the public says.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from seepage.core.errors import DataError
from seepage.core.guess import Guess, Scores
from seepage.core.record import Score
from seepage.core.scorer import Controls, Scored
from seepage.core.secrets import PropertySecret, Secret
from seepage.scoring import controls as against
from seepage.scoring import ranks
from seepage.scoring.stats import clopper_pearson

Array = np.ndarray

HEADLINE = "property_auc"
_AUC_METHOD = (
    "over the trial models; Newcombe 2006 method 5 with DeLong's variance, and DeLong on the logit scale, the wider; "
    "against chance also Mann-Whitney's test"
)
_TOLD_METHOD = (
    "a model is told when its own interval lies beyond the public's share on the side of the truth; Newcombe 1998 "
    "over trial models at the victim's share and at the public's; against chance also Fisher's exact test"
)


@dataclass(frozen=True)
class _Told:
    """What a guess says of the trials at the victim's share and of those at the public's, towards the truth."""

    more: Float[Array, " m"]
    plain: Float[Array, " n"]
    rows: Float[Array, " t 3"] | None
    advantage: against.Advantage | None


def _told(guess: Guess, secret: PropertySecret, what: str) -> _Told:
    if not isinstance(guess, Scores):
        raise DataError(f"{what}: Scores were wanted, got a {type(guess).__name__}")
    values, n = ranks.check_scores(guess.values, what), len(secret.shares)
    if len(values) != n:
        raise DataError(f"{what}: one score a model was wanted, {n} models got {len(values)}")
    side = 1.0 if secret.victim >= secret.public else -1.0
    more, plain = secret.trial & secret.more, secret.trial & ~secret.more
    rows = None if "shares" not in guess.trace else np.asarray(guess.trace["shares"], dtype=np.float64)
    advantage = None
    if rows is not None:
        ordered = rows.shape == (n, 3) and bool(
            np.isfinite(rows).all() and (np.diff(rows[:, [1, 0, 2]], axis=1) >= 0).all()
        )
        if not ordered:
            raise DataError(
                f"{what}: trace['shares'] should hold a share with low and high ends for each of {n} models"
            )
        beyond = rows[:, 1] > secret.public if side > 0 else rows[:, 2] < secret.public
        advantage = against.Advantage(
            hits=int(beyond[more].sum()),
            members=int(more.sum()),
            alarms=int(beyond[plain].sum()),
            nonmembers=int(plain.sum()),
        )
    return _Told(side * values[more], side * values[plain], rows, advantage)


def score(guess: Guess, secret: Secret, controls: Controls) -> Scored:
    """Scores of `Scores` against a `PropertySecret`.

    - `property_auc` (headline): the probability that a trial model trained at the victim's share is placed beyond one
      trained at the public's, on the side where the victim's share lies; ties counted half; chance 0.5.
    - `property_told`: the share of models at the victim's share whose interval lies beyond the public's share, less
      that of models at the public's; only where the guess gives intervals.

    `facts` says what was estimated of the victim itself (`estimated_share`, `_low`, `_high`), how far estimates of
    the trials lie from the truth (`mean_error`), and how many intervals hold it (`coverage`, with its own interval).
    `curves["property_shares"]` has a row for each trial: true share, estimate, low, high.

    Raises:
        DataError: for a guess that cannot be scored, or without trials of both kinds.
    """
    if not isinstance(secret, PropertySecret):
        raise DataError(f"property inference is scored against a PropertySecret, got a {type(secret).__name__}")
    more, plain = int((secret.trial & secret.more).sum()), int((secret.trial & ~secret.more).sum())
    if not more or not plain:
        raise DataError(f"trial models at the victim's share and at the public's were wanted, got {more} and {plain}")
    value = _told(guess, secret, "the attack")
    no_model = {name: _told(other, secret, f"the control '{name}'") for name, other in controls.no_model.items()}
    null = None if controls.null_model is None else _told(controls.null_model, secret, "the attack on null models")

    def auc_of(part: _Told) -> against.Auc:
        return against.Auc(part.more, part.plain)

    scores = {
        HEADLINE: against.score(
            HEADLINE,
            f"AUC of models by their share of {secret.group}",
            auc_of(value),
            against.Against(
                chance=0.5,
                no_model={name: auc_of(part) for name, part in no_model.items()},
                null_model=None if null is None else auc_of(null),
                missing=controls.missing,
            ),
            n=more + plain,
            unit="model",
            method=_AUC_METHOD,
        )
    }
    told = _by_interval(value, no_model, null, controls.missing)
    if told is not None:
        scores[told.name] = told
    facts: dict[str, float | str | None] = {"models_more": float(more), "models_plain": float(plain)}
    curves: dict[str, Array] = {}
    if value.rows is not None:
        facts |= _facts(value.rows, secret)
        curves["property_shares"] = np.column_stack([secret.shares, value.rows])[secret.trial]
    return Scored(scores=scores, headline=HEADLINE, curves=curves, facts=facts)


def _by_interval(
    value: _Told, no_model: Mapping[str, _Told], null: _Told | None, missing: Mapping[str, str]
) -> Score | None:
    if value.advantage is None:
        return None
    parts = {name: part.advantage for name, part in no_model.items()}
    return against.score(
        "property_told",
        "Models told by their own interval, less false alarms",
        value.advantage,
        against.Against(
            chance=0.0,
            no_model={name: part for name, part in parts.items() if part is not None},
            null_model=None if null is None else null.advantage,
            missing=missing,
        ),
        n=len(value.more) + len(value.plain),
        unit="model",
        method=_TOLD_METHOD,
    )


def _facts(rows: Float[Array, " t 3"], secret: PropertySecret) -> dict[str, float | str | None]:
    """The victim's estimate, and how good those of the trials are."""
    trial = secret.trial
    inside = (rows[:, 1] <= secret.shares) & (secret.shares <= rows[:, 2])
    held = clopper_pearson(int(inside[trial].sum()), int(trial.sum()))
    facts: dict[str, float | str | None] = {
        "mean_error": float(np.abs(rows[trial, 0] - secret.shares[trial]).mean()),
        "coverage": held.value,
        "coverage_low": held.low,
        "coverage_high": held.high,
    }
    own = np.nonzero(~trial)[0]
    if len(own):
        estimate, low, high = (float(number) for number in rows[own[0]])
        facts |= {"estimated_share": estimate, "estimated_low": low, "estimated_high": high}
    return facts
