"""Lower bounds on epsilon: the values of the reference implementation, and never too high where the truth is known."""

import math

import numpy as np
import pytest
from scipy.stats import binom, norm

from seepage.core.errors import ConfigError, DataError
from seepage.models.accounting import gaussian_epsilon
from seepage.scoring.epsilon import (
    Bound,
    Guesses,
    Runs,
    many_runs,
    many_runs_gaussian,
    one_run,
    one_run_gaussian,
    one_run_p_value,
    reach,
    split,
    verdict,
)

DELTA = 1e-5


@pytest.mark.parametrize(
    ("guesses", "steinke", "gaussian"),
    [
        (Guesses(1000, 100, 100), 3.4654, 5.549),
        (Guesses(1000, 100, 90), 1.6261, 2.4564),
        (Guesses(1000, 1000, 750), 0.9764, 1.8189),
        (Guesses(1000, 1000, 600), 0.2972, 0.5835),
        (Guesses(5000, 500, 490), 3.3357, 4.9501),
        (Guesses(10000, 10000, 5600), 0.2076, 0.3509),
    ],
)
def test_one_run_bounds_are_those_of_jax_privacy(guesses: Guesses, steinke: float, gaussian: float) -> None:
    assert one_run(guesses, DELTA) == pytest.approx(steinke, abs=1e-4)
    assert one_run_gaussian(guesses, DELTA) == pytest.approx(gaussian, abs=1e-3)


def test_p_value_is_the_sum_that_defines_it() -> None:
    for made, right, delta in ((20, 15, 0.0), (20, 15, 0.01), (7, 7, 0.001)):
        likely = 1 / (1 + math.exp(-0.5))
        whole = sum(binom.pmf(k, made, likely) for k in range(right, made + 1))
        near = max(sum(binom.pmf(right - j, made, likely) for j in range(1, i + 1)) / i for i in range(1, right + 1))
        wanted = min(1.0, whole + 2 * 30 * delta * near)
        assert one_run_p_value(Guesses(30, made, right), 0.5, delta) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("bound", [one_run, one_run_gaussian])
def test_bounds_rise_with_right_guesses_and_fall_with_confidence(bound: Bound) -> None:
    found = [bound(Guesses(200, 100, right), DELTA, 0.95) for right in (50, 60, 80, 95, 100)]
    assert found == sorted(found)
    assert found[0] == 0
    assert found[-1] > 1
    assert bound(Guesses(200, 100, 90), DELTA, 0.99) < bound(Guesses(200, 100, 90), DELTA, 0.9)


def coins(m: int, mu: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Canaries of a Gaussian mechanism, each seen with noise of its own: scores and inclusion."""
    included = rng.random(m) < 0.5
    return rng.normal(size=m) + mu * included, included


@pytest.mark.parametrize("bound", [one_run, one_run_gaussian])
def test_noise_alone_is_rarely_above_zero(bound: Bound) -> None:
    rng = np.random.default_rng(0)
    wrong = sum(split(*coins(200, 0.0, rng), DELTA, bound, rng)[0] > 0 for _ in range(200))
    # At 5 % of 200 runs, more than 18 come about once in 200 times.
    assert wrong <= 18


@pytest.mark.parametrize(("bound", "share"), [(one_run, 0.2), (one_run_gaussian, 0.5)])
def test_a_gaussian_mechanism_is_bounded_below_and_not_by_little(bound: Bound, share: float) -> None:
    rng, mu = np.random.default_rng(1), 1.0
    truth = gaussian_epsilon(1 / mu, DELTA)
    assert truth is not None
    found = np.array([split(*coins(2000, mu, rng), DELTA, bound, rng)[0] for _ in range(20)])
    assert (found > truth).mean() <= 0.15
    assert np.median(found) > share * truth


def test_thresholds_chosen_on_what_they_are_counted_on_are_wrong_too_often() -> None:
    """Why halves are split: the best of all thresholds, uncorrected, is above zero on noise in far more than 5 %."""
    rng, wrong = np.random.default_rng(2), 0
    for _ in range(100):
        scores, included = coins(100, 0.0, rng)
        order = np.argsort(-scores)
        right = np.cumsum(included[order])
        wrong += max(one_run(Guesses(100, k, int(right[k - 1])), DELTA) for k in range(1, 101)) > 0
    assert wrong > 10


def test_many_runs_cover_the_truth() -> None:
    rng, mu, n = np.random.default_rng(3), 1.5, 2000
    truth = gaussian_epsilon(1 / mu, DELTA)
    assert truth is not None
    general, gaussian = [], []
    for _ in range(200):
        runs = Runs(int(rng.binomial(n, norm.sf(0.5 - mu))), n, int(rng.binomial(n, norm.sf(0.5))), n)
        general.append(many_runs(runs, DELTA))
        gaussian.append(many_runs_gaussian(runs, DELTA))
    assert max(general) < truth
    assert np.mean(np.array(gaussian) > truth) <= 0.05
    assert np.median(gaussian) > 0.85 * truth
    assert many_runs(Runs(50, 100, 50, 100), DELTA) == 0
    assert many_runs_gaussian(Runs(50, 100, 50, 100), DELTA) == 0


def test_claims_are_violated_consistent_or_out_of_reach() -> None:
    found = one_run(Guesses(1000, 100, 100), DELTA)
    assert verdict(1.0, found, 1000, DELTA, one_run).standing == "violated"
    assert verdict(3.6, found, 1000, DELTA, one_run).standing == "consistent"
    far = verdict(8.0, found, 1000, DELTA, one_run)
    assert far.standing == "not informative"
    assert far.wanted is not None
    assert reach(far.wanted, DELTA, one_run) > 8 >= far.reach


@pytest.mark.parametrize(("made", "right"), [(11, 5), (5, 6), (-1, -1)])
def test_impossible_counts_are_refused(made: int, right: int) -> None:
    with pytest.raises(DataError, match="right guesses"):
        Guesses(10, made, right)


def test_impossible_claims_are_refused() -> None:
    with pytest.raises(ConfigError, match="delta"):
        one_run(Guesses(10, 5, 5), 1.0)
    with pytest.raises(ConfigError, match="confidence"):
        one_run(Guesses(10, 5, 5), DELTA, 1.0)
    with pytest.raises(ConfigError, match="above 0"):
        one_run_gaussian(Guesses(10, 5, 5), 0.0)
    with pytest.raises(DataError, match="at least one run"):
        Runs(0, 0, 0, 10)
    with pytest.raises(DataError, match="finite"):
        split(np.array([1.0, np.nan, 0.0, 2.0]), np.ones(4, dtype=bool), DELTA, one_run, np.random.default_rng(0))
