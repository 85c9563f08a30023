"""Scores of canaries told apart: how private the training can have been at the most.

Fair coins put each canary into the training data or left it out. Half of the canaries, by a draw that the attack has
no part in, choose how to guess from the attack's scores; the others are guessed, and what was right among them bounds
epsilon from below (`seepage.scoring.epsilon.split`). The bound is wrong with a probability of at most 5 %, whatever the
attack: no control is needed besides the coins.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float

from seepage.core.canaries import Claim, Family
from seepage.core.errors import DataError
from seepage.core.guess import Guess, Scores
from seepage.core.record import Score
from seepage.core.scorer import Controls, Scored
from seepage.core.secrets import CanarySecret, Secret
from seepage.core.seeds import stream
from seepage.scoring import controls as against
from seepage.scoring.epsilon import Bound, Guesses, one_run, one_run_gaussian, split

Array = np.ndarray

HEADLINE = "epsilon_lower_bound"
DELTA = 1e-5
CONFIDENCE = 0.95
BOUNDS: Mapping[Family, Bound] = {"any": one_run, "gaussian": one_run_gaussian}
NAMES: Mapping[Family, str] = {"any": "any mechanism", "gaussian": "Gaussian mechanisms"}
_METHOD: Mapping[Family, str] = {
    "any": (
        "Steinke, Nasr and Jagielski 2023, theorem 5.2, one-sided 95 %, guesses chosen on the other half of the "
        "canaries"
    ),
    "gaussian": (
        "Mahloujifar, Melis and Chaudhuri 2024, algorithm 3, one-sided 95 %, guesses chosen on the other half of the "
        "canaries; of mechanisms whose trade-off curve is at least that of a Gaussian one"
    ),
}


def score(guess: Guess, secret: Secret, controls: Controls) -> Scored:
    """Scores of a guess about canaries.

    - `epsilon_lower_bound` (the headline): the epsilon, at the claim's delta (1e-5 without a claim), below which the
      training cannot lie, for the claim's family of mechanisms ("any" without a claim);
    - `epsilon_lower_bound_any` or `epsilon_lower_bound_gaussian`: the same for the other family;
    - `auc`: the probability that an included canary scores above one left out, chance 0.5.

    `facts` hold the guesses that the bounds rest on: `<family>_made`, `<family>_right`, of `canaries_guessed`.

    Raises:
        DataError: for a guess that cannot be scored, or coins that all fell alike.
    """
    del controls
    if not isinstance(secret, CanarySecret):
        raise DataError(f"canaries are scored against a CanarySecret, got a {type(secret).__name__}")
    if not isinstance(guess, Scores):
        raise DataError(f"canaries are told apart by Scores, the attack gave a {type(guess).__name__}")
    included = np.asarray(secret.is_member, dtype=bool)
    values = np.asarray(guess.values, dtype=np.float64)
    if values.shape != included.shape:
        raise DataError(f"one score a canary was wanted, {len(included)} in all, got an array of shape {values.shape}")
    if not np.isfinite(values).all():
        raise DataError(f"the attack gave {int((~np.isfinite(values)).sum())} scores that are NaN or infinite")
    if included.all() or not included.any():
        raise DataError("all coins of the canaries fell alike: there is nothing to tell apart")
    claim = secret.claim or Claim(0.0, DELTA)
    facts: dict[str, float | str | None] = {"claim_delta": claim.delta, "claim_family": claim.family}
    scores: dict[str, Score] = {}
    for family, bound in BOUNDS.items():
        name = HEADLINE if family == claim.family else f"{HEADLINE}_{family}"
        title = f"Lower bound on epsilon ({NAMES[family]}, 95 %)"
        if family == "gaussian" and claim.delta == 0:
            reason = "at a delta of 0 no Gaussian mechanism has an epsilon"
            scores[name] = against.unscored(name, title, 0.0, reason, n=len(values), unit="canary")
            continue
        found, guesses, _ = split(
            values, included, claim.delta, bound, stream(secret.seed, "canaries", "halves"), CONFIDENCE
        )
        facts |= {
            f"{family}_made": float(guesses.made),
            f"{family}_right": float(guesses.right),
            "canaries_guessed": float(guesses.canaries),
        }
        scores[name] = Score(
            name=name,
            title=title,
            value=found,
            low=found,
            chance=0.0,
            n=guesses.canaries,
            unit="canary",
            method=_METHOD[family],
        )
    scores["auc"] = _auc(values, included)
    ordered = {name: scores[name] for name in sorted(scores, key=lambda name: name != HEADLINE)}
    return Scored(
        scores=ordered,
        headline=HEADLINE,
        curves={"scores_included": values[included], "scores_left_out": values[~included]},
        facts=facts,
    )


def _auc(values: Float[Array, " m"], included: Bool[Array, " m"]) -> Score:
    return against.score(
        "auc",
        "AUC of included canaries against those left out",
        against.Auc(values[included], values[~included]),
        against.Against(chance=0.5),
        n=len(values),
        unit="canary",
        method="Newcombe 2006 method 5 with DeLong's variance, and DeLong on the logit scale, the wider",
    )


def guesses_of(facts: Mapping[str, float | str | None], family: Family) -> Guesses | None:
    """The guesses that a finding's bound rests on; None where there are none."""
    numbers = [facts.get(name) for name in ("canaries_guessed", f"{family}_made", f"{family}_right")]
    if not all(isinstance(number, float) for number in numbers):
        return None
    canaries, made, right = (int(float(number or 0)) for number in numbers)
    return Guesses(canaries, made, right)
