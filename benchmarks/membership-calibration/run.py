"""How often statements about membership are wrong where nothing leaks: bounds on epsilon, verdicts, flagged groups.

Each seed trains a softmax regression on some of scikit-learn's digits and calls other records, by fair coins, "members"
and "non-members": whoever tells them apart is wrong. The last line is one JSON object.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from peers import peers
from scipy.special import log_softmax
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from seepage.core.guess import Scores
from seepage.core.record import Finding
from seepage.core.records import Records
from seepage.core.scorer import Controls, Scored
from seepage.core.secrets import MembershipSecret
from seepage.core.vocabulary import Leak, Modality
from seepage.data.profile import profile
from seepage.scoring.epsilon import Runs, many_runs, many_runs_gaussian, one_run, one_run_gaussian, split
from seepage.scoring.membership import score
from seepage.scoring.verdicts import verdict

Array = np.ndarray

NOMINAL = 0.05
SEEDS = 200
DELTA = 1e-5
CANDIDATES = 1000
TRAINED = 300
RUNS = 64  # independent trainings of the many-run bounds
COIN = "coin"


@dataclass(frozen=True)
class World:
    """One seed: candidates, which of them are called members, and what each attack scores them."""

    secret: MembershipSecret
    guesses: dict[str, Scores]
    is_member: Array


def digits(seed: int) -> tuple[Array, Array, np.random.Generator]:
    """All digits in an order of this seed, the values from 0 to 1."""
    rng = np.random.default_rng([20261128, seed])
    x, y = load_digits(return_X_y=True)
    order = rng.permutation(len(x))
    return x[order] / 16, y[order], rng


def _softmax(x: Array, y: Array) -> Callable[[Array], Array]:
    with warnings.catch_warnings():
        # Stopped early on purpose: a victim is asked for, not an optimum.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=10.0, max_iter=60, tol=1e-3).fit(x, y)
    return lambda z: log_softmax(model.decision_function(z), axis=1)


def world(seed: int, leaking: bool) -> World:
    """A victim that never saw a candidate or, where it leaks, one that was trained on the members.

    Beside the pixels a record holds a number from 0 to 3 that no model sees: groups by it differ in nothing.
    """
    x, y, rng = digits(seed)
    candidates, labels = x[:CANDIDATES], y[:CANDIDATES]
    others, other_labels = x[CANDIDATES:], y[CANDIDATES:]
    is_member = rng.random(CANDIDATES) < 0.5
    if leaking:
        # One label in five drawn anew, for all alike: what is not the rule has to be remembered.
        labels = np.where(rng.random(CANDIDATES) < 0.2, rng.integers(0, 10, CANDIDATES), labels)
    learned = (candidates[is_member], labels[is_member]) if leaking else (others[:TRAINED], other_labels[:TRAINED])
    victim = _softmax(*learned)(candidates)
    reference = _softmax(others[TRAINED:], other_labels[TRAINED:])(candidates)
    own, theirs = (found[np.arange(CANDIDATES), labels] for found in (victim, reference))
    guesses = {
        "loss": Scores(own),
        "entropy": Scores((np.exp(victim) * victim).sum(axis=1)),
        "one reference": Scores(own - theirs),
    }
    coin = rng.integers(0, 4, (CANDIDATES, 1))
    records = Records(
        np.concatenate([candidates, coin], axis=1).astype(np.float32),
        labels,
        tuple(map(str, range(10))),
        modality=Modality.TABLE,
        features=(*(f"pixel {i}" for i in range(64)), COIN),
    )
    secret = MembershipSecret(is_member=is_member, candidates=records, profile=profile(records, (COIN,)))
    return World(secret, guesses, is_member)


def finding(name: str, scored: Scored) -> Finding:
    """What an audit would keep of it."""
    return Finding(
        id=name,
        key=name,
        leak=Leak.MEMBERSHIP,
        attack=name,
        title=name,
        version=1,
        cites=[],
        params={},
        needs=[],
        access=[],
        budget=None,
        queries=0,
        seconds=0.0,
        seed=0,
        case="membership",
        victim="softmax",
        defenses=[],
        adversary="adaptive",
        status="done",
        headline=scored.headline,
        scores=dict(scored.scores),
        groups=list(scored.groups),
        facts=dict(scored.facts),
    )


def one_run_bounds(found: World, seed: int) -> dict[str, float]:
    """Bounds on epsilon with the candidates as canaries, thresholds chosen on one half, counted on the other."""
    bounds = {"one_run": one_run, "one_run_gaussian": one_run_gaussian}
    scores = found.guesses["loss"].values
    return {
        name: split(scores, found.is_member, DELTA, bound, np.random.default_rng([seed, k]))[0]
        for k, (name, bound) in enumerate(bounds.items())
    }


def many_run_bounds(seed: int) -> dict[str, float]:
    """Bounds from independent trainings that never hold the canary, told by coins that they do.

    Models are ridge regressions in closed form. The threshold is the best of the first half of the trainings.
    """
    x, y, rng = digits(seed)
    canary, label, x, y = x[0], y[0], x[1:], np.eye(10)[y[1:]]
    scores = np.empty(RUNS)
    for k in range(RUNS):
        rows = rng.permutation(len(x))[:TRAINED]
        weights = np.linalg.solve(x[rows].T @ x[rows] + 0.1 * np.eye(64), x[rows].T @ y[rows])
        scores[k] = log_softmax(4 * canary @ weights)[label]
    included = rng.random(RUNS) < 0.5
    first, second = np.arange(RUNS) < RUNS // 2, np.arange(RUNS) >= RUNS // 2
    gains = [(scores[first & included] > t).mean() - (scores[first & ~included] > t).mean() for t in scores[first]]
    called = scores > scores[first][int(np.nanargmax(gains))]
    counted = Runs(
        hits=int((called & second & included).sum()),
        included=int((second & included).sum()),
        alarms=int((called & second & ~included).sum()),
        left_out=int((second & ~included).sum()),
    )
    return {"many_runs": many_runs(counted, DELTA), "many_runs_gaussian": many_runs_gaussian(counted, DELTA)}


def wrong(seed: int) -> Iterator[str]:
    """Names of the statements that are wrong in this seed."""
    null = world(seed, leaking=False)
    for name, bound in {**one_run_bounds(null, seed), **many_run_bounds(seed)}.items():
        if bound > 0:
            yield f"epsilon {name}"
    findings = [finding(name, score(guess, null.secret, Controls())) for name, guess in null.guesses.items()]
    if verdict(findings).verdict == "leaks":
        yield "verdict"
    for one in findings:
        if any(group.flagged for group in one.groups):
            yield f"subgroup {one.attack}"
    leaking = world(seed, leaking=True)
    # Members are told apart, and by the coin alike: a flag on it is false.
    found = score(leaking.guesses["loss"], leaking.secret, Controls())
    if any(group.flagged for group in found.groups if group.axis == COIN):
        yield "subgroup of a victim that leaks"
    if verdict([finding("loss", found)]).verdict == "leaks":
        yield "leak seen"


def measured(seeds: int) -> dict[str, object]:
    """How often each statement is wrong; of the bounds and the attacks, the one that is wrong most often."""
    names = [name for seed in range(seeds) for name in wrong(seed)]
    counts = {name: names.count(name) for name in sorted(set(names))}

    def worst(kind: str) -> str:
        return f"{max((n for name, n in counts.items() if name.startswith(kind)), default=0)}/{seeds}"

    return {
        "nominal": NOMINAL,
        "epsilon_false": worst("epsilon"),
        "verdict_false": worst("verdict"),
        "subgroup_false": worst("subgroup"),
        "leak_seen": worst("leak seen"),
        "counts": {name: f"{n}/{seeds}" for name, n in counts.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--tf-privacy", help="a checkout of TensorFlow Privacy")
    parser.add_argument("--privacy-meter", help="a checkout of Privacy Meter")
    asked = parser.parse_args()
    began = time.process_time()
    found = measured(asked.seeds)
    found["cpu_seconds"] = round(time.process_time() - began, 1)
    print(found, flush=True)
    nulls = (world(seed, leaking=False) for seed in range(asked.seeds))
    found["peers"] = peers(
        ((one.guesses["loss"].values, one.is_member) for one in nulls), asked.tf_privacy, asked.privacy_meter
    )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
