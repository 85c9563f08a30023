"""The blind baseline: quiet when membership was drawn at random, loud when the splits differ."""

import time
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom, mannwhitneyu

from seepage.core.errors import DataError
from seepage.core.records import Records
from seepage.core.vocabulary import Modality
from seepage.data import as_records, blind_baseline
from seepage.data.blind import _folds, _records_test, auc_columns, permuted
from seepage.data.blind_features import Features

Pair = tuple[Records, Records]


def gaussian_table(rng: np.random.Generator) -> Pair:
    x = rng.normal(size=(100, 6)).astype(np.float32)
    return Records(x[:50], modality=Modality.TABLE), Records(x[50:], modality=Modality.TABLE)


def heavy_tailed_table_with_classes(rng: np.random.Generator) -> Pair:
    x = rng.standard_cauchy(size=(100, 6)).astype(np.float32)
    x[:, 0] = rng.integers(0, 3, 100)
    y = rng.integers(0, 3, 100)
    x[:, 1] += 5 * y
    names = ("a", "b", "c")
    return (
        Records(x[:40], y[:40], names, modality=Modality.TABLE),
        Records(x[40:], y[40:], names, modality=Modality.TABLE),
    )


def people_split_person_by_person(rng: np.random.Generator) -> Pair:
    y = np.repeat(np.arange(10), 10)
    x = (rng.normal(size=(10, 1, 8, 8))[y] + 0.3 * rng.normal(size=(100, 1, 8, 8))).astype(np.float32)
    member = np.zeros(100, dtype=bool)
    for person in range(10):
        member[rng.permutation(np.nonzero(y == person)[0])[:5]] = True
    names = tuple(map(str, range(10)))
    return Records(x[member], y[member], names), Records(x[~member], y[~member], names)


def people_split_at_random(rng: np.random.Generator) -> Pair:
    y = rng.integers(0, 30, 90)
    x = (rng.normal(size=(30, 1, 8, 8))[y] + 0.3 * rng.normal(size=(90, 1, 8, 8))).astype(np.float32)
    names = tuple(map(str, range(30)))
    return Records(x[:45], y[:45], names), Records(x[45:], y[45:], names)


def few_values_and_many_ties(rng: np.random.Generator) -> Pair:
    x = rng.integers(0, 2, size=(90, 4)).astype(np.float32)
    return Records(x[:30], modality=Modality.TABLE), Records(x[30:], modality=Modality.TABLE)


NULLS = [
    gaussian_table,
    heavy_tailed_table_with_classes,
    people_split_person_by_person,
    people_split_at_random,
    few_values_and_many_ties,
]


def rejections(draw: Callable[[np.random.Generator], Pair], runs: int, permutations: int) -> int:
    return sum(
        not blind_baseline(*draw(np.random.default_rng([11, run])), seed=run, permutations=permutations).passed
        for run in range(runs)
    )


@pytest.mark.parametrize("draw", NULLS)
def test_it_cries_wolf_at_its_level_at_the_most(draw):
    runs = 20
    # So many rejections have a probability below 1e-4 at the nominal 5 %.
    assert rejections(draw, runs, 119) <= binom.isf(1e-4, runs, 0.05)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("draw", NULLS)
def test_it_cries_wolf_at_its_level_at_the_most_in_many_runs(draw):
    runs = 400
    assert rejections(draw, runs, 199) <= binom.isf(1e-3, runs, 0.05)


def test_permutation_keeps_the_counts_of_every_stratum_and_is_uniform():
    rng = np.random.default_rng(0)
    strata = np.repeat([0, 1, 2], [3, 5, 1])
    labels = np.asarray([1, 0, 0, 1, 1, 1, 0, 0, 1], dtype=bool)
    y = permuted(labels, strata, 3000, rng)
    np.testing.assert_array_equal(y[:, 0], labels)
    for stratum in range(3):
        np.testing.assert_array_equal(y[strata == stratum].sum(axis=0), labels[strata == stratum].sum())
    shares = y[:, 1:].mean(axis=1)
    assert np.abs(shares[:3] - 1 / 3).max() < 0.06
    assert np.abs(shares[3:8] - 3 / 5).max() < 0.06


def test_auc_of_each_column_is_that_of_mann_whitney():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, (40, 5)).astype(np.float64)
    labels = (rng.uniform(size=(40, 5)) < 0.4).astype(np.float64)
    auc, pairs = auc_columns(scores, labels)
    for k in range(5):
        ones = labels[:, k] == 1
        u = mannwhitneyu(scores[ones, k], scores[~ones, k]).statistic
        assert pairs[k] == ones.sum() * (~ones).sum()
        assert auc[k] == pytest.approx(u / pairs[k])
    assert auc_columns(scores[:, :1], np.ones((40, 1)))[0] == 0.5


def brighter(rng: np.random.Generator, shift: float) -> Pair:
    members, others = people_split_person_by_person(rng)
    return members, Records(others.x + np.float32(shift), others.y, others.class_names)


def later(rng: np.random.Generator, shift: float) -> Pair:
    x = rng.normal(size=(240, 12)).astype(np.float32)
    x[:, 7] = rng.uniform(size=240)
    x[120:, 7] += np.float32(shift)
    names = (*"abcdefg", "date", *"hijk")
    return (
        Records(x[:120], modality=Modality.TABLE, features=names),
        Records(x[120:], modality=Modality.TABLE, features=names),
    )


def wider(rng: np.random.Generator, shift: float) -> Pair:
    x = rng.normal(size=(240, 12)).astype(np.float32)
    x[120:, 3] *= np.float32(1 + shift)
    return Records(x[:120], modality=Modality.TABLE), Records(x[120:], modality=Modality.TABLE)


def noisier(rng: np.random.Generator, shift: float) -> Pair:
    members, others = people_split_person_by_person(rng)
    noise = rng.normal(size=others.x.shape).astype(np.float32)
    return members, Records(others.x + np.float32(shift) * noise, others.y, others.class_names)


def other_classes(rng: np.random.Generator, shift: float) -> Pair:
    x = rng.normal(size=(240, 4)).astype(np.float32)
    y = (rng.uniform(size=240) < np.where(np.arange(240) < 120, 0.5 + shift, 0.5)).astype(np.int64)
    return (
        Records(x[:120], y[:120], ("p", "q"), modality=Modality.TABLE),
        Records(x[120:], y[120:], ("p", "q"), modality=Modality.TABLE),
    )


def together(rng: np.random.Generator, shift: float) -> Pair:
    """Two columns agree in sign among the members, more often the greater the shift: no column tells alone."""
    x = rng.normal(size=(400, 8)).astype(np.float32)
    agree = rng.uniform(size=400) < np.where(np.arange(400) < 200, 0.5 + shift, 0.5 - shift)
    x[:, 1] = np.abs(x[:, 1]) * np.sign(x[:, 0]) * np.where(agree, 1, -1)
    return Records(x[:200], modality=Modality.TABLE), Records(x[200:], modality=Modality.TABLE)


@pytest.mark.parametrize(
    ("draw", "shifts"),
    [
        (brighter, (0.0, 0.1, 0.5)),
        (later, (0.0, 0.25, 1.0)),
        (wider, (0.0, 0.6, 2.0)),
        (noisier, (0.0, 0.2, 0.6)),
        (other_classes, (0.0, 0.25, 0.45)),
        (together, (0.0, 0.3, 0.5)),
    ],
)
def test_a_planted_difference_is_found_and_more_of_it_more_clearly(draw, shifts):
    values = []
    for shift in shifts:
        checks = [blind_baseline(*draw(np.random.default_rng([3, run]), shift), seed=run) for run in range(2)]
        values.append(float(np.mean([check.value.value for check in checks])))
    assert all(not check.passed for check in checks), checks
    assert values == sorted(values)
    assert values[-1] > values[0] + 0.08


def test_the_most_telling_column_is_named():
    check = blind_baseline(*later(np.random.default_rng(0), 0.8))
    assert not check.passed
    assert "most telling is column 'date', which differs in level" in check.message
    spread = blind_baseline(*wider(np.random.default_rng(0), 2.0))
    assert "column 3, which differs in spread" in spread.message
    classes = blind_baseline(*other_classes(np.random.default_rng(0), 0.4))
    assert "the classes have other shares of members" in classes.message


def test_the_interval_lies_above_chance_exactly_when_the_check_fails():
    for run in range(12):
        check = blind_baseline(*later(np.random.default_rng([5, run]), 0.03 * run), seed=run, permutations=119)
        assert (check.value.low > 0.5) == (not check.passed)
        assert 0 <= check.value.low <= check.value.value <= check.value.high <= 1


def test_people_who_differ_do_not_hide_a_small_shift():
    # The shift is a quarter of what separates people, who differ in every direction: only a look at each record
    # beside its own person's others finds it.
    for run in range(3):
        rng = np.random.default_rng([9, run])
        y = np.repeat(np.arange(40), 4)
        x = (rng.normal(size=(40, 1, 6, 6))[y] + 0.3 * rng.normal(size=(160, 1, 6, 6))).astype(np.float32)
        member = np.arange(160) % 4 < 2
        x[~member] += np.float32(0.045)
        names = tuple(map(str, range(40)))
        check = blind_baseline(Records(x[member], y[member], names), Records(x[~member], y[~member], names), seed=run)
        assert not check.passed


def test_records_are_not_blamed_for_what_class_counts_explain():
    # One class varies more than the other and holds most members. Given its class, a record says nothing.
    rejected = 0
    for run in range(20):
        rng = np.random.default_rng([13, run])
        y = (rng.uniform(size=120) < np.where(np.arange(120) < 60, 0.85, 0.15)).astype(np.int64)
        x = (rng.normal(size=(120, 4)) * (1 + 3 * y[:, None])).astype(np.float32)
        features = Features.of(Records(x, modality=Modality.TABLE), y, run)
        arranged = permuted(np.arange(120) < 60, y, 99, rng)
        rejected += _records_test(features, arranged, _folds(y, rng), 0.05).p <= 0.05
    assert rejected <= binom.isf(1e-3, 20, 0.05)
    check = blind_baseline(
        *(
            Records(part, label, ("p", "q"), modality=Modality.TABLE)
            for part, label in ((x[:60], y[:60]), (x[60:], y[60:]))
        )
    )
    assert not check.passed
    assert "by class counts" in check.message


def test_the_same_seed_gives_the_same_check_and_the_order_of_columns_does_not_matter():
    pair = later(np.random.default_rng(1), 0.2)
    assert blind_baseline(*pair, seed=4) == blind_baseline(*pair, seed=4)


def test_texts_are_looked_at_as_words():
    rng = np.random.default_rng(0)
    words = ["the", "patient", "was", "seen", "by", "doctor", "and", "nurse"]

    def documents(n: int, more: tuple[str, ...] = ()) -> Records:
        return as_records([" ".join(rng.choice([*words, *more], 25)) for _ in range(n)])

    assert blind_baseline(documents(60), documents(60)).passed
    check = blind_baseline(documents(60), documents(60, ("2024",)))
    assert not check.passed


def test_identical_records_and_too_few_records():
    flat = Records(np.ones((30, 4), dtype=np.float32), modality=Modality.TABLE)
    check = blind_baseline(flat, flat)
    assert check.passed
    assert check.value.value == 0.5
    few = blind_baseline(flat[:5], flat)
    assert few.passed
    assert few.value is None
    assert "not looked at: 5 members and 30 non-members" in few.message


def test_what_cannot_be_compared_is_refused():
    a = Records(np.ones((30, 4), dtype=np.float32), modality=Modality.TABLE)
    with pytest.raises(DataError, match=r"should have one shape, got \(4,\) and \(3,\)"):
        blind_baseline(a, Records(np.ones((30, 3), dtype=np.float32), modality=Modality.TABLE))
    with pytest.raises(DataError, match="permutations is 99 or more"):
        blind_baseline(a, a, permutations=50)


def test_classes_of_one_kind_only_leave_the_verdict_to_the_class_counts():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 5)).astype(np.float32)
    y = np.repeat(np.arange(6), 20)
    names = tuple("abcdef")
    members = Records(x[:60], y[:60], names, modality=Modality.TABLE)
    others = Records(x[60:], y[60:], names, modality=Modality.TABLE)
    check = blind_baseline(members, others)
    assert not check.passed
    assert "by class counts" in check.message


def seconds(members: Records, nonmembers: Records) -> float:
    begin = time.process_time()
    blind_baseline(members, nonmembers)
    return time.process_time() - begin


def test_it_is_fast_enough_to_run_before_every_audit():
    pictures = np.random.default_rng(0).uniform(size=(200, 1, 32, 32)).astype(np.float32)
    assert seconds(Records(pictures[:100]), Records(pictures[100:])) < 3


@pytest.mark.slow
def test_it_is_fast_enough_for_thousands_of_rows():
    rows = np.random.default_rng(0).normal(size=(5000, 50)).astype(np.float32)
    assert seconds(Records(rows[:2500], modality=Modality.TABLE), Records(rows[2500:], modality=Modality.TABLE)) < 10
