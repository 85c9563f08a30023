"""The smallest leakage that would have been called a leak: what an audit could not have seen."""

import numpy as np
from scipy.optimize import root_scalar
from scipy.stats import binom, norm

from seepage.core.errors import ConfigError, DataError
from seepage.scoring.ranks import rank_variance

# Beyond this many units the sums over outcomes say nothing that the normal law does not.
_MOST_EXACT = 1000


def _check(control: float, power: float, alpha: float) -> None:
    if not 0 <= control <= 1:
        raise DataError(f"a control lies between 0 and 1, got {control}")
    if not (0 < power < 1 and 0 < alpha < 0.5):
        raise ConfigError(f"0 < power < 1 and 0 < alpha < 0.5 were wanted, got power={power}, alpha={alpha}")


def _ends(n: int, z: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share, Wilson low and Wilson high for 0 to n successes."""
    share = np.arange(n + 1) / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return share, middle - half, middle + half


def _exact(n: int, control: float, alpha: float, measured: bool) -> tuple[np.ndarray, np.ndarray]:
    """For each outcome of the control: its probability, and the least number of hits called a leak (n + 1: none)."""
    share, low, high = _ends(n, float(norm.isf(alpha)))
    outcomes = np.arange(n + 1)
    if not measured:
        called = (low > control) & (binom.sf(outcomes - 1, n, control) < alpha)
        return np.ones(1), np.array([int(np.argmax(called)) if called.any() else n + 1])
    gap = share[None, :] - share[:, None]
    reach = np.sqrt((share - low)[None, :] ** 2 + (high - share)[:, None] ** 2)
    called = gap > reach
    least = np.where(called.any(axis=1), called.argmax(axis=1), n + 1)
    return binom.pmf(outcomes, n, control), least


def smallest_effect(
    n: int, control: float, power: float = 0.8, alpha: float = 0.025, measured: bool = False
) -> float | None:
    """The smallest true leakage of a share over `n` yes-or-no units that is called a leak with this power.

    By summing over outcomes up to 1000 units, by the normal law beyond.

    Args:
        n: units (classes).
        control: the share that the strongest control has.
        power: the wanted probability of calling the leak.
        alpha: the one-sided level of the call; divide by the number of attacks to allow for Holm's correction.
        measured: the control was itself measured on as many units (taken as independent), rather than
            known, as chance is.

    Returns:
        The leakage, or None when not even a leak of every unit would be called with that power.

    Raises:
        DataError, ConfigError: for arguments out of range.
    """
    if n < 1:
        raise DataError("the smallest effect needs at least one unit, got none")
    _check(control, power, alpha)
    if n <= _MOST_EXACT:
        weights, least = _exact(n, control, alpha, measured)

        def called(truth: float) -> float:
            return float((weights * binom.sf(least - 1, n, truth)).sum())
    else:
        z = float(norm.isf(alpha))
        known = control * (1 - control) / n

        def called(truth: float) -> float:
            spread = truth * (1 - truth) / n
            bar = control + z * np.sqrt(known + (spread if measured else 0))
            total = np.sqrt(spread + (known if measured else 0))
            return float(norm.sf((bar - truth) / total)) if total > 0 else float(truth > bar)

    if control >= 1 or called(1.0) < power:
        return None
    if called(control) >= power:
        return 0.0
    return float(root_scalar(lambda truth: called(truth) - power, bracket=(control, 1.0), xtol=1e-9).root) - control


def smallest_effect_auc(
    members: int,
    nonmembers: int,
    control: float = 0.5,
    power: float = 0.8,
    alpha: float = 0.025,
    measured: bool = False,
) -> float | None:
    """`smallest_effect` for an AUC, by the normal law with the variance of `ranks.rank_variance`.

    Raises:
        DataError, ConfigError: for arguments out of range.
    """
    if members < 1 or nonmembers < 1:
        raise DataError(f"an AUC needs members and non-members, got {members} and {nonmembers}")
    _check(control, power, alpha)
    z, beta = float(norm.isf(alpha)), float(norm.ppf(power))
    known = rank_variance(control, members, nonmembers)

    def margin(truth: float) -> float:
        spread = rank_variance(truth, members, nonmembers)
        # Against a constant the interval is that of a score test, made with the variance at the constant.
        at_null = spread + known if measured else known
        return truth - control - z * np.sqrt(at_null) - beta * np.sqrt(spread + (known if measured else 0))

    if control >= 1 or margin(1.0) < 0:
        return None
    return float(root_scalar(margin, bracket=(control, 1.0), xtol=1e-9).root) - control
