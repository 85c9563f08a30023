"""What noise buys: (epsilon, delta) of Gaussian and Laplace mechanisms, composed over rounds.

Sampling of clients or records is not counted in: an adversary who sees the update knows that its client took part.
"""

import math

from scipy.optimize import root_scalar
from scipy.special import log_ndtr

from seepage.core.errors import ConfigError

# Beyond this the guarantee says nothing: the odds may change by a factor of e^10000.
MOST_EPSILON = 1e4


def gaussian_delta(epsilon: float, mu: float) -> float:
    """The least delta at which a Gaussian mechanism is (epsilon, delta)-private.

    Exact: Balle and Wang 2018, Improving the Gaussian Mechanism for Differential Privacy, ICML (theorem 8):
    delta = Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu).

    Args:
        epsilon: 0 or more.
        mu: greatest distance (l2) of two answers over the standard deviation of the noise, above 0.
    """
    ahead = float(log_ndtr(mu / 2 - epsilon / mu))
    behind = epsilon + float(log_ndtr(-mu / 2 - epsilon / mu))
    # The difference of two numbers that may be near each other and far below one: by their logarithms.
    return math.exp(ahead) * -math.expm1(min(behind - ahead, 0.0))


def gaussian_epsilon(multiplier: float, delta: float, rounds: int = 1, sensitivity: float = 1.0) -> float | None:
    """The least epsilon at `delta` after `rounds` Gaussian mechanisms; None where none below `MOST_EPSILON` holds.

    T adaptive rounds of one Gaussian mechanism are one of sensitivity sqrt(T): exact, not a bound (Dong, Roth
    and Su 2022, Gaussian Differential Privacy, JRSS B, corollary 3.3).

    Args:
        multiplier: standard deviation of the noise in units of the clipping norm; 0 protects nothing.
        delta: between 0 and 1.
        rounds: how many mechanisms.
        sensitivity: greatest distance of two answers in units of the clipping norm: 1 where a record (or client) may
            be there or not, 2 where its clipped vector may be any other.

    Raises:
        ConfigError: for a delta that is no probability.
    """
    _check_delta(delta)
    if multiplier <= 0:
        return None
    mu = sensitivity * math.sqrt(rounds) / multiplier
    if gaussian_delta(0.0, mu) <= delta:
        return 0.0
    if gaussian_delta(MOST_EPSILON, mu) > delta:
        return None
    return float(root_scalar(lambda e: gaussian_delta(e, mu) - delta, bracket=(0.0, MOST_EPSILON), xtol=1e-10).root)


def gaussian_multiplier(epsilon: float, delta: float, rounds: int = 1, sensitivity: float = 1.0) -> float:
    """The least noise, in units of the clipping norm, that gives (epsilon, delta) after `rounds`.

    Raises:
        ConfigError: for a delta that is no probability, or an epsilon that is not above 0.
    """
    _check_delta(delta)
    if not 0 < epsilon < MOST_EPSILON:
        raise ConfigError(f"an epsilon above 0 and below {MOST_EPSILON:g} was wanted, got {epsilon:g}")
    mu = root_scalar(lambda mu: gaussian_delta(epsilon, mu) - delta, bracket=(1e-9, 1e4), xtol=1e-12).root
    return sensitivity * math.sqrt(rounds) / float(mu)


def laplace_epsilon(multiplier: float, rounds: int = 1, sensitivity: float = 2.0) -> float | None:
    """Epsilon (delta is 0) after `rounds` Laplace mechanisms: T sensitivity / multiplier, by basic composition.

    Args:
        multiplier: scale of the noise in units of the clipping norm (l1); 0 protects nothing.
        rounds: how many mechanisms.
        sensitivity: greatest l1 distance of two answers in units of the clipping norm.

    Returns:
        None where none below `MOST_EPSILON` holds.
    """
    epsilon = rounds * sensitivity / multiplier if multiplier > 0 else math.inf
    return epsilon if epsilon <= MOST_EPSILON else None


def stated(epsilon: float | None, delta: float, rounds: int, unit: str) -> dict[str, float | str | None]:
    """A guarantee as facts of a finding.

    Args:
        epsilon: None where there is none worth the name.
        delta: 0 for a pure one.
        rounds: over how many rounds it is composed.
        unit: whose it is: what may change without being told apart.
    """
    facts: dict[str, float | str | None] = {
        "dp_epsilon": epsilon,
        "dp_delta": delta,
        "dp_rounds": float(rounds),
        "dp_unit": unit,
    }
    if epsilon is None:
        facts["dp_epsilon_missing"] = f"none below {MOST_EPSILON:g}: so little noise guarantees nothing"
    return facts


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ConfigError(
            f"a delta between 0 and 1 was wanted (well below one over the number of clients), got {delta:g}"
        )
