"""The contracts every scorer must keep."""

import json
from collections.abc import Sequence

from seepage.core.guess import Guess
from seepage.core.record import Score
from seepage.core.scorer import Controls, Scored, Scorer
from seepage.core.secrets import Secret
from seepage.testing.fingerprints import fingerprint, finite
from seepage.testing.plugins import demand


def check_scorer(
    score: Scorer,
    secret: Secret,
    perfect: Guess,
    blind: Guess,
    maximum: float = 1.0,
    worse_to_better: Sequence[Guess] = (),
) -> None:
    """Hold a scorer against every contract.

    A blind guess scores at chance, a perfect one at the maximum; better guesses never score lower; controls
    are reported and the leakage is the value minus the strongest; missing controls are named; a guess no
    better than its control leaks nothing; the same input gives the same scores, and is left alone.

    Args:
        score: the scorer.
        secret: a secret that the guesses are about.
        perfect: the best possible guess.
        blind: a guess made without looking at the secret. Random ones miss chance by luck in 5 % of draws;
            one that is the same for every unit meets it exactly.
        maximum: the greatest value of the headline score.
        worse_to_better: guesses in an order in which the headline should not fall.

    Raises:
        ContractBroken: with the first contract that does not hold.
    """
    best, worst = score(perfect, secret, Controls()), score(blind, secret, Controls())
    for scored in (best, worst):
        _well_formed(scored)
    _repeatable(score, secret, perfect, best)
    top, bottom = _headline(best), _headline(worst)
    _extremes(top, bottom, maximum)
    _controls(score, secret, perfect, blind)
    values = [_value(_headline(score(guess, secret, Controls()))) for guess in worse_to_better]
    demand(values == sorted(values), f"'{top.name}' falls as the guess gets better: {values}; higher is more leakage")


def _headline(scored: Scored) -> Score:
    return scored.scores[scored.headline]


def _value(score: Score) -> float:
    demand(score.value is not None, f"'{score.name}' has no value: {score.reason}")
    return float(score.value or 0.0)


def _well_formed(scored: Scored) -> None:
    demand(scored.headline in scored.scores, f"the headline '{scored.headline}' is not among the scores")
    for name, score in scored.scores.items():
        demand(name == score.name, f"the score '{score.name}' is filed under '{name}'")
        demand(score.title and score.unit and score.method, f"'{name}' needs a title, a unit and a method")
        demand(score.n > 0, f"'{name}' is over {score.n} units")
        demand(score.value is not None or score.reason, f"'{name}' is missing without a reason")
        json.loads(score.model_dump_json())
        if score.value is not None and score.low is not None and score.high is not None:
            demand(
                score.low <= score.value <= score.high,
                f"'{name}': {score.value:g} lies outside its interval [{score.low:g}, {score.high:g}]",
            )
    head = _headline(scored)
    demand(head.low is not None and head.high is not None, f"the headline '{head.name}' needs an interval")
    demand(head.chance is not None, f"the headline '{head.name}' needs the score of a blind guess as `chance`")
    demand(finite(scored.curves) and finite(scored.gallery), "the curves or the gallery hold NaN or infinite values")
    ranks = [one.rank for one in scored.exposed]
    values = [one.value for one in scored.exposed]
    demand(ranks == list(range(1, len(ranks) + 1)), "`exposed` should be ranked 1, 2, 3, ...")
    demand(values == sorted(values, reverse=True), "`exposed` should begin with the most exposed")
    demand(finite(values), "`exposed` holds NaN or infinite values")


def _repeatable(score: Scorer, secret: Secret, guess: Guess, before: Scored) -> None:
    was = fingerprint(guess)
    again = score(guess, secret, Controls())
    demand(fingerprint(again) == fingerprint(before), "the same guess got other scores; draw no randomness")
    demand(fingerprint(guess) == was, "the scorer changes the guess; work on copies")


def _extremes(top: Score, bottom: Score, maximum: float) -> None:
    demand(abs(_value(top) - maximum) < 1e-9, f"a perfect guess should score {maximum:g}, got {_value(top):g}")
    low, high, chance = bottom.low, bottom.high, bottom.chance
    assert low is not None
    assert high is not None
    assert chance is not None
    demand(
        low <= chance <= high,
        f"a blind guess should score at chance, {chance:g}, within its interval; got [{low:g}, {high:g}]",
    )


def _controls(score: Scorer, secret: Secret, perfect: Guess, blind: Guess) -> None:
    with_both = _headline(score(perfect, secret, Controls(no_model={"blind": blind}, null_model=blind)))
    for control in ("no_model", "null_model"):
        demand(with_both.controls.get(control) is not None, f"the control '{control}' was given and is not reported")
    demand("blind" in with_both.no_model_parts, "every model-free guess that was scored should be named")
    leakage = with_both.leakage
    demand(leakage is not None, "with its controls there, the leakage should be given")
    assert leakage is not None
    strongest = max([one.value for one in with_both.controls.values() if one is not None] + [with_both.chance or 0.0])
    demand(
        abs(leakage.value - (_value(with_both) - strongest)) < 1e-9,
        f"leakage is the value minus the strongest control: {_value(with_both):g} - {strongest:g}, "
        f"got {leakage.value:g}",
    )
    demand(leakage.low <= leakage.value <= leakage.high, "the leakage lies outside its interval")
    demand(
        with_both.p_value is not None and 0 <= with_both.p_value <= 1,
        f"a p-value from 0 to 1 was wanted beside the leakage, got {with_both.p_value}",
    )
    no_better = _headline(score(perfect, secret, Controls(no_model={"perfect": perfect})))
    demand(
        no_better.leakage is not None and no_better.leakage.low <= 0,
        "a guess no better than the one without the model should leak nothing",
    )
    lacking = {"no_model": "public records", "null_model": "a recipe"}
    alone = _headline(score(perfect, secret, Controls(missing=lacking)))
    demand(
        lacking.items() <= alone.missing.items(), f"the missing controls {sorted(lacking)} should be named in the score"
    )
