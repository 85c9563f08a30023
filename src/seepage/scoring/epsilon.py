"""Empirical epsilon: how private a mechanism can be at most, given how well its outcome tells what went in.

Every function takes counts of guesses and gives a lower bound on epsilon that is wrong with a probability of at most
1 - confidence. Canaries are records included or left out by independent fair coins. Guesses are counted on canaries
that took no part in choosing how to guess (`split`): where a threshold is chosen by the scores that it is counted on,
the bound is false.

Which mechanisms a bound speaks of is part of it: `one_run` of any (epsilon, delta)-private one, from one run with many
canaries; `one_run_gaussian` of those with a Gaussian trade-off curve, from one run; `many_runs` of any, from
independent runs with one canary each; `many_runs_gaussian` of Gaussian ones, from such runs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import root_scalar
from scipy.special import ndtr, ndtri
from scipy.stats import beta, binom

from seepage.core.errors import ConfigError, DataError
from seepage.models.accounting import MOST_EPSILON, gaussian_epsilon, gaussian_multiplier

Array = np.ndarray
Bound = Callable[["Guesses", float, float], float]
Standing = Literal["consistent", "violated", "not informative"]

# Beyond this no number of canaries is named that could refute a claim.
MOST_CANARIES = 10**5


@dataclass(frozen=True)
class Guesses:
    """How guesses about canaries came out.

    Attributes:
        canaries: how many there were, guessed or not.
        made: guesses; who abstains on a canary makes none.
        right: of those made.
    """

    canaries: int
    made: int
    right: int

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.made <= self.canaries or self.canaries < 1:
            raise DataError(
                "right guesses among those made among canaries were wanted, got "
                f"{self.right} of {self.made} of {self.canaries}"
            )


def _checked(delta: float, confidence: float) -> float:
    """1 - confidence.

    Raises:
        ConfigError: when `delta` is no probability below 1 or `confidence` does not lie strictly between 0 and 1.
    """
    if not 0 <= delta < 1:
        raise ConfigError(f"delta is a probability from 0 to below 1, got {delta:g}")
    if not 0 < confidence < 1:
        raise ConfigError(f"a confidence level lies strictly between 0 and 1, got {confidence:g}")
    return 1 - confidence


def one_run_p_value(guesses: Guesses, epsilon: float, delta: float) -> float:
    """How likely so many right guesses are at the most, if the mechanism is (epsilon, delta)-private.

    With W binomial of the guesses made, each right with probability e^epsilon / (1 + e^epsilon), m canaries and v right
    guesses: P(W >= v) + 2 m delta max_i P(v > W >= v - i) / i. Source: Steinke, Nasr and Jagielski 2023, Privacy
    Auditing with One (1) Training Run, NeurIPS (theorem 5.2).
    """
    v, made = guesses.right, guesses.made
    if v == 0:
        return 1.0
    likely = 1 / (1 + math.exp(-epsilon))
    whole = float(binom.sf(v - 1, made, likely))
    if delta == 0:
        return min(whole, 1.0)
    # P(v > W >= v - i) for i = 1 to v.
    near = np.cumsum(binom.pmf(v - np.arange(1, v + 1), made, likely))
    return min(1.0, whole + 2 * guesses.canaries * delta * float((near / np.arange(1, v + 1)).max()))


def one_run(guesses: Guesses, delta: float, confidence: float = 0.95) -> float:
    """A lower bound on epsilon from one run: the greatest at which so many right guesses would be too unlikely.

    Raises:
        ConfigError: when `delta` is no probability below 1, or `confidence` not strictly between 0 and 1.
    """
    alpha = _checked(delta, confidence)
    return _greatest(lambda epsilon: alpha - one_run_p_value(guesses, epsilon, delta))


def one_run_gaussian(guesses: Guesses, delta: float, confidence: float = 0.95) -> float:
    """The same for mechanisms whose trade-off curve is at least that of a Gaussian one; by far the greater bound.

    The bound is stated as the epsilon at `delta` of the Gaussian mechanism that is just refuted. Source: Mahloujifar,
    Melis and Chaudhuri 2024, Auditing f-Differential Privacy in One Run (algorithm 3).

    Raises:
        ConfigError: as `one_run`, or for a delta of 0, at which no Gaussian mechanism has an epsilon.
    """
    alpha = _checked(delta, confidence)
    if delta == 0:
        raise ConfigError("a delta above 0 was wanted: at 0 no Gaussian mechanism has an epsilon")
    if guesses.right == 0:
        return 0.0
    return _greatest(lambda epsilon: _excess(guesses, 1 / gaussian_multiplier(epsilon, delta), alpha), least=1e-6)


def _excess(guesses: Guesses, mu: float, alpha: float) -> float:
    """Above 0 where guesses this good have a probability below alpha under a Gaussian mechanism of parameter mu.

    Going down from the guesses that were right, r and h hold the mass of right and of wrong guesses that the tail of
    probability alpha makes at the least: the trade-off curve bounds h by r, and what h grows by r has to follow. All
    canaries together cannot hold more than the guesses made.
    """
    m, made, right = guesses.canaries, guesses.made, guesses.right
    r, h = alpha * right / m, alpha * (made - right) / m
    for i in range(right - 1, -1, -1):
        grown = max(h, float(ndtr(ndtri(r) - mu)))
        r, h = min(1.0, r + i / (made - i) * (grown - h)), grown
        if r + h > made / m:
            return r + h - made / m
    return r + h - made / m


@dataclass(frozen=True)
class Runs:
    """How independent runs with and without one canary were told apart, by a threshold fixed beforehand.

    Attributes:
        hits: runs with the canary that were called so.
        included: runs with it.
        alarms: runs without it that were called runs with it.
        left_out: runs without it.
    """

    hits: int
    included: int
    alarms: int
    left_out: int

    def __post_init__(self) -> None:
        for successes, n in ((self.hits, self.included), (self.alarms, self.left_out)):
            if not 0 <= successes <= n or n < 1:
                raise DataError(f"successes among at least one run were wanted, got {successes} of {n}")

    def rates(self, alpha: float) -> tuple[float, float]:
        """A lower bound of the hit rate and an upper one of the alarm rate, each wrong at most in half of `alpha`.

        Source: Clopper and Pearson 1934, The use of confidence or fiducial limits, Biometrika 26.
        """
        hits, quiet = self.hits, self.left_out - self.alarms
        low = 0.0 if hits == 0 else float(beta.ppf(alpha / 2, hits, self.included - hits + 1))
        high = 1.0 if quiet == 0 else float(beta.ppf(1 - alpha / 2, self.alarms + 1, quiet))
        return low, high


def many_runs(runs: Runs, delta: float, confidence: float = 0.95) -> float:
    """A lower bound on epsilon from independent runs with and without a canary.

    The greater of the two ratios that exact bounds on both rates leave: log((TPR - delta) / FPR) and
    log((TNR - delta) / FNR). Source: Nasr, Songi, Thakurta, Papernot and Carlini 2021, Adversary Instantiation:
    Lower Bounds for Differentially Private Machine Learning, IEEE S&P.

    Raises:
        ConfigError: as `one_run`.
    """
    low, high = runs.rates(_checked(delta, confidence))
    found = 0.0
    for many, few in ((low, high), (1 - high, 1 - low)):
        if many > delta and few > 0:
            found = max(found, math.log((many - delta) / few))
    return found


def many_runs_gaussian(runs: Runs, delta: float, confidence: float = 0.95) -> float:
    """The same for Gaussian mechanisms: mu is at least Phi^-1(TPR) - Phi^-1(FPR), by the same bounds on the rates.

    Source: Dong, Roth and Su 2022, Gaussian Differential Privacy, JRSS B; Nasr, Hayes, Steinke, Balle, Tramer,
    Jagielski, Carlini and Terzis 2023, Tight Auditing of Differentially Private Machine Learning, USENIX Security.

    Raises:
        ConfigError: as `one_run`.
    """
    low, high = runs.rates(_checked(delta, confidence))
    mu = float(ndtri(low) - ndtri(high))
    if not mu > 0:
        return 0.0
    found = gaussian_epsilon(1 / mu, delta)
    return MOST_EPSILON if found is None else found


def _greatest(refuted: Callable[[float], float], least: float = 0.0) -> float:
    """The greatest epsilon that is refuted (above 0 there), which all below are; 0 where none is."""
    if refuted(least) <= 0:
        return 0.0
    high = 1.0
    while refuted(high) > 0:
        if high > MOST_EPSILON / 2:
            return high
        high *= 2
    return float(root_scalar(refuted, bracket=(least, high), xtol=1e-9).root)


@dataclass(frozen=True)
class Rule:
    """How canaries are guessed by their scores: those of `above` or more are in, those of `below` or less are out."""

    above: float
    below: float

    def guesses(self, scores: Float[Array, " m"], included: Bool[Array, " m"]) -> Guesses:
        """How the rule's guesses come out."""
        said_in, said_out = scores >= self.above, scores <= self.below
        right = int((said_in & included).sum() + (said_out & ~included).sum())
        return Guesses(len(scores), int(said_in.sum() + said_out.sum()), right)


def split(
    scores: Float[Array, " m"],
    included: Bool[Array, " m"],
    delta: float,
    bound: Bound,
    rng: np.random.Generator,
    confidence: float = 0.95,
    shares: int = 12,
) -> tuple[float, Guesses, Rule]:
    """A bound from scores: half of the canaries choose how to guess, the other half are guessed.

    Args:
        scores: of the canaries, higher for those that look included.
        included: whether each was.
        delta: of the claim.
        bound: `one_run` or `one_run_gaussian`.
        rng: draws the halves.
        confidence: of the bound.
        shares: numbers of guesses that are tried on the first half, from few to all.

    Returns the bound, the guesses that it rests on, and the rule.

    Raises:
        DataError: for scores that are not finite or no match for the canaries, or fewer than four of them.
    """
    if scores.shape != included.shape or scores.ndim != 1 or len(scores) < 4:
        raise DataError(f"one score a canary and four canaries at the least were wanted, got {scores.shape}")
    if not np.isfinite(scores).all():
        raise DataError("finite scores of canaries were wanted, got NaN or infinite ones")
    order = rng.permutation(len(scores))
    first, second = order[: len(order) // 2], order[len(order) // 2 :]
    rules = _rules(np.sort(scores[first]), shares)
    counted = [rule.guesses(scores[first], included[first]) for rule in rules]
    found = [bound(one, delta, confidence) for one in counted]
    # Where nothing is refuted, the rule with the most right guesses beyond half.
    best = max(range(len(rules)), key=lambda k: (found[k], counted[k].right - counted[k].made / 2))
    held = rules[best].guesses(scores[second], included[second])
    return bound(held, delta, confidence), held, rules[best]


def _rules(ranked: Float[Array, " k"], shares: int) -> list[Rule]:
    """Rules that guess a rising share of the canaries: the highest alone, the lowest alone, and both."""
    counts = np.unique(np.geomspace(1, len(ranked) // 2, shares).astype(int))
    never, always = np.nextafter(ranked[-1], np.inf), np.nextafter(ranked[0], -np.inf)
    # Between two scores, so that ties fall on one side.
    top = {int(k): float((ranked[-k] + ranked[-k - 1]) / 2) for k in counts}
    low = {int(k): float((ranked[k - 1] + ranked[k]) / 2) for k in counts}
    rules = [Rule(top[k], float(always)) for k in top] + [Rule(float(never), low[k]) for k in low]
    return rules + [Rule(top[k], min(low[k], float(np.nextafter(top[k], -np.inf)))) for k in top]


@dataclass(frozen=True)
class Verdict:
    """What a bound says of a claimed epsilon.

    Attributes:
        standing: "violated" where the bound lies above the claim; "not informative" where no guesses at all could have
            refuted it, right as they might be; "consistent" otherwise.
        bound: on epsilon.
        reach: the greatest bound that so many canaries can give.
        wanted: canaries that could refute the claim; None where these can.
    """

    standing: Standing
    bound: float
    reach: float
    wanted: int | None


def verdict(
    claimed: float, found: float, canaries: int, delta: float, bound: Bound, confidence: float = 0.95
) -> Verdict:
    """Holds a bound of `canaries` guessed canaries against a claim of (claimed, delta).

    Raises:
        ConfigError: for a claim below 0, or as the bound.
    """
    if claimed < 0:
        raise ConfigError(f"a claimed epsilon of 0 or more was wanted, got {claimed:g}")
    most = reach(canaries, delta, bound, confidence)
    if found > claimed:
        return Verdict("violated", found, most, None)
    if most > claimed:
        return Verdict("consistent", found, most, None)
    wanted = canaries
    while wanted < MOST_CANARIES and reach(wanted, delta, bound, confidence) <= claimed:
        wanted *= 2
    return Verdict("not informative", found, most, wanted)


def reach(canaries: int, delta: float, bound: Bound, confidence: float = 0.95) -> float:
    """The greatest bound that so many canaries can give: every guess right, of as many as do best."""
    # All of them, but where delta weighs more the more canaries there are: fewer, as long as that is better.
    best, made = 0.0, canaries
    while made >= 1:
        found = bound(Guesses(canaries, made, made), delta, confidence)
        if found < best:
            break
        best, made = found, made // 2
    return best
