"""Signals of numbers and labels, and how well they are predicted: held against closed forms and simulations."""

import math

import numpy as np
import pytest
from scipy import stats

from seepage.attacks.membership.signals import log_confidence, scaled_confidence
from seepage.attacks.membership.yeom2018 import Threshold
from seepage.cases.membership import low_rates
from seepage.core.errors import DataError
from seepage.core.guess import Scores
from seepage.core.knowledge import MembershipKnowledge
from seepage.core.records import Records
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Modality, Task
from seepage.models.quality import beats_a_constant, quality
from seepage.targets import infer_spec, wrap

RNG = np.random.default_rng(1)


def _records(targets: np.ndarray, task: Task, spread: tuple[float, ...] = ()) -> Records:
    x = np.arange(len(targets), dtype=np.float32)[:, None]
    return Records(x, modality=Modality.TABLE, task=task, targets=targets.astype(np.float64), spread=spread)


def _classes(y: np.ndarray, classes: int) -> Records:
    names = tuple(map(str, range(classes)))
    return Records(np.arange(len(y), dtype=np.float32)[:, None], y, names, modality=Modality.TABLE)


# Signals


def test_numbers_are_scored_by_a_gaussian_in_units_of_the_spread() -> None:
    targets, answers = RNG.normal(size=(50, 2)) * [3, 70], RNG.normal(size=(4, 50, 2)) * [3, 70]
    records = _records(targets, Task.VALUES, (3.0, 70.0))
    wanted = stats.norm.logpdf(targets, answers, [3, 70]).sum(axis=-1) + math.log(2 * math.pi * 3 * 70)
    np.testing.assert_allclose(log_confidence(answers, records), wanted)
    assert (log_confidence(answers, records) <= 0).all()
    # Euros or cents: the same ranking, the same values.
    cents = _records(targets * 100, Task.VALUES, (300.0, 7000.0))
    for signal in (log_confidence, scaled_confidence):
        np.testing.assert_allclose(signal(answers * 100, cents), signal(answers, records))
    np.testing.assert_array_equal(log_confidence(targets[None], records), 0)


def test_labels_are_scored_as_models_of_their_own() -> None:
    truth, p = RNG.integers(2, size=(60, 3)), RNG.uniform(size=(5, 60, 3))
    records = _records(truth, Task.LABELS)
    np.testing.assert_allclose(log_confidence(p, records), stats.bernoulli.logpmf(truth, p).sum(axis=-1))
    signed = np.where(truth == 1, 1, -1) * np.log(p / (1 - p))
    np.testing.assert_allclose(scaled_confidence(p, records), signed.sum(axis=-1))


def test_two_classes_are_one_label() -> None:
    """A binary classifier by either way has the same signals."""
    y, p = RNG.integers(2, size=40), RNG.uniform(size=40)
    both = np.stack([1 - p, p], axis=1)
    label = _records(np.stack([y, y], axis=1), Task.LABELS)
    twice = np.stack([p, p], axis=1)
    for signal in (log_confidence, scaled_confidence):
        np.testing.assert_allclose(signal(twice, label), 2 * signal(both, _classes(y, 2)))


@pytest.mark.parametrize("bias", [0.0, 0.5, 1.0, 3.0])
def test_the_scaled_signal_of_numbers_is_nearly_normal(bias: float) -> None:
    """Over trainings an answer is normal about something: the cube root of its squared error is nearly so."""
    z = np.random.default_rng(7).normal(bias, 1.0, size=(200_000, 1))
    found = scaled_confidence(z[:, None, :], _records(np.zeros((1, 1)), Task.VALUES, (1.0,)))[:, 0]
    raw, logs = -(z[:, 0] ** 2), -np.log(z[:, 0] ** 2)
    assert abs(stats.skew(found)) < 0.55
    assert abs(stats.kurtosis(found)) < 0.7
    for other in (raw, logs):
        assert abs(stats.skew(found)) < abs(stats.skew(other))


def test_many_outputs_too() -> None:
    z = np.random.default_rng(7).normal(size=(100_000, 1, 8))
    found = scaled_confidence(z, _records(np.zeros((1, 8)), Task.VALUES, (1.0,) * 8))[:, 0]
    # Wilson and Hilferty: the cube root of chi-square over k has mean 1 - 2/(9k) and variance 2/(9k).
    assert -found.mean() == pytest.approx(1 - 2 / 72, abs=2e-3)
    assert found.var() == pytest.approx(2 / 72, rel=0.05)
    assert abs(stats.skew(found)) < 0.1


def test_extremes_are_finite() -> None:
    records = _records(np.array([[0, 1], [1, 0]]), Task.LABELS)
    for p in (np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])):
        assert np.isfinite(log_confidence(p, records)).all()
        assert np.isfinite(scaled_confidence(p, records)).all()


def test_answers_that_do_not_fit_are_refused() -> None:
    records = _records(np.zeros((3, 2)), Task.VALUES, (1.0, 1.0))
    with pytest.raises(DataError, match="answers 3 values a record, the candidates have 2"):
        log_confidence(np.zeros((3, 3)), records)
    with pytest.raises(DataError, match="carry no classes"):
        records.labels()


# The attack


def test_the_loss_of_numbers_and_the_auc_of_two_laws() -> None:
    """Members' errors are N(0, s), others' N(0, 1): squared errors of a ratio s^2 give AUC 1 - 2/pi arctan(s)."""
    n, s = 3000, 0.4
    is_member = np.arange(2 * n) < n
    errors = RNG.normal(size=2 * n) * np.where(is_member, s, 1.0)
    targets = RNG.normal(size=2 * n) * 10
    records = _records(targets[:, None], Task.VALUES)
    victim = wrap(lambda x: (targets + errors)[x[:, 0].astype(int)], infer_spec(records), like=records, task="values")
    target = Target(victim, {Access.SCORES})
    guess = Threshold().run(target, MembershipKnowledge(candidates=records), np.random.default_rng(0))
    assert isinstance(guess, Scores)
    won = stats.mannwhitneyu(guess.values[is_member], guess.values[~is_member]).statistic / n**2
    assert won == pytest.approx(1 - 2 / math.pi * math.atan(s), abs=0.015)


def test_statistics_that_need_classes_say_so() -> None:
    known = MembershipKnowledge(candidates=_records(RNG.normal(size=(20, 1)), Task.VALUES))
    assert Threshold().obstacle(known, None) is None
    assert "only the statistic 'loss'" in str(Threshold(statistic="entropy").obstacle(known, None))
    assert "average_training_loss" in str(Threshold(average_training_loss=0.1).obstacle(known, None))
    assert "20 are needed" in str(Threshold().obstacle(known, 5))


# How many non-members


@pytest.mark.parametrize(
    ("n", "passed", "words"),
    [
        (10, False, "down to 10.00%; a rate of 1.00% takes 100 (90 more)"),
        (99, False, "a rate of 1.00% takes 100 (1 more)"),
        (100, True, "down to 1.00%; a rate of 0.10% takes 1,000 (900 more)"),
        (10_000, True, "10,000 non-members tell false-positive rates down to 0.01%"),
        (4, False, "tell no low false-positive rate; a rate of 10.00% takes 10 (6 more)"),
    ],
)
def test_how_many_non_members_a_rate_takes(n: int, passed: bool, words: str) -> None:
    found = low_rates(n)
    assert found.passed is passed
    assert words in found.message


# Fits


def test_quality_is_accuracy_and_explained_variance() -> None:
    y = np.array([0, 1, 2, 1])
    assert quality(np.eye(3)[[0, 1, 1, 1]], _classes(y, 3)) == 0.75
    labels = _records(np.array([[1, 0], [0, 0]]), Task.LABELS)
    assert quality(np.array([[0.9, 0.6], [0.2, 0.1]]), labels) == 0.75
    values = _records(RNG.normal(size=(200, 1)) * 5 + 3, Task.VALUES)
    truth = values.answers()
    assert quality(truth, values) == 1
    assert quality(np.full_like(truth, truth.mean()), values) == pytest.approx(0)
    noisy = truth + RNG.normal(size=truth.shape) * 2
    assert quality(noisy, values) == pytest.approx(1 - ((noisy - truth) ** 2).sum() / (200 * truth.var()))
    assert beats_a_constant(noisy, values)
    assert not beats_a_constant(truth + 50, values)
    rare = _records((RNG.uniform(size=(500, 2)) < 0.05).astype(int), Task.LABELS)
    p = np.broadcast_to(rare.answers().mean(axis=0), (500, 2))
    assert not beats_a_constant(p, rare)
    assert not beats_a_constant(np.full((500, 2), 0.4), rare)
    assert beats_a_constant(np.where(rare.answers() > 0, 0.3, 0.03), rare)
