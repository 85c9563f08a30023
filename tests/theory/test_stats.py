"""Intervals and tests against closed forms, published figures, full enumeration and simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binom, norm

from seepage.core.errors import ConfigError, DataError
from seepage.core.record import Estimate
from seepage.scoring import ranks, stats


# Newcombe 1998 (Statistics in Medicine 17, 857-872), table I: score and exact intervals.
@pytest.mark.parametrize(
    ("hits", "n", "score", "exact"),
    [
        (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
        (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
        (0, 20, (0.0, 0.1611), (0.0, 0.1684)),
        (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
    ],
)
def test_intervals_of_a_share_are_the_published_ones(hits, n, score, exact):
    for found, wanted in ((stats.wilson(hits, n), score), (stats.clopper_pearson(hits, n), exact)):
        assert (found.low, found.high) == pytest.approx(wanted, abs=6e-5)
        assert found.value == hits / n


# Newcombe 1998 (Statistics in Medicine 17, 873-890), table II, method 10.
@pytest.mark.parametrize(
    ("a", "m", "b", "n", "wanted"),
    [
        (56, 70, 48, 80, (0.0524, 0.3339)),
        (9, 10, 3, 10, (0.1705, 0.8090)),
        (10, 10, 0, 10, (0.6075, 1.0)),
        (0, 10, 0, 10, (-0.2775, 0.2775)),
    ],
)
def test_difference_of_shares_is_the_published_one(a, m, b, n, wanted):
    found = stats.difference(stats.wilson(a, m), stats.wilson(b, n))
    assert (found.low, found.high) == pytest.approx(wanted, abs=6e-5)
    assert found.value == pytest.approx(a / m - b / n)


@pytest.mark.parametrize("n", [1, 5, 20, 100])
def test_clopper_pearson_never_covers_less_than_it_says(n):
    ends = [stats.clopper_pearson(x, n) for x in range(n + 1)]
    low, high = np.array([e.low for e in ends]), np.array([e.high for e in ends])
    for p in np.linspace(0.001, 0.999, 201):
        weight = binom.pmf(np.arange(n + 1), n, p)
        assert weight[p < low].sum() <= 0.025 + 1e-9
        assert weight[p > high].sum() <= 0.025 + 1e-9


@pytest.mark.parametrize("n", [10, 20, 100])
def test_wilson_covers_on_average(n):
    ends = [stats.wilson(x, n) for x in range(n + 1)]
    low, high = np.array([e.low for e in ends]), np.array([e.high for e in ends])
    grid = np.linspace(0.0025, 0.9975, 400)
    covered = [binom.pmf(np.arange(n + 1), n, p)[(low <= p) & (p <= high)].sum() for p in grid]
    assert 0.945 <= np.mean(covered) <= 0.97


def _fractions(rng, kind, p, shape):
    """Numbers in [0, 1] with mean p: what several draws a class, or a confidence, look like."""
    if kind == "yes or no":
        return (rng.random(shape) < p).astype(float)
    if kind == "five draws":
        return rng.binomial(5, p, shape) / 5
    if kind == "classes of their own rate":
        return rng.binomial(5, rng.beta(0.5 * p, 0.5 * (1 - p), shape)) / 5
    return rng.beta(0.3 * p, 0.3 * (1 - p), shape)


@pytest.mark.parametrize("kind", ["five draws", "classes of their own rate", "confidence"])
@pytest.mark.parametrize("p", [0.05, 0.25, 0.5, 0.9])
def test_unit_mean_covers_fractions_at_least_as_well_as_yes_or_no(kind, p):
    rng = np.random.default_rng(11)
    found = [stats.unit_mean(v) for v in _fractions(rng, kind, p, (1500, 20))]
    assert np.mean([e.low <= p <= e.high for e in found]) >= 0.94


@pytest.mark.parametrize("kind", ["yes or no", "five draws", "classes of their own rate", "confidence"])
@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
def test_a_blind_guess_is_above_its_share_in_at_most_one_of_forty_audits(kind, share):
    rng = np.random.default_rng(12)
    p = [stats.above_share(v, share) for v in _fractions(rng, kind, share, (3000, 20))]
    assert np.mean(np.array(p) < 0.025) <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 3000)


def test_above_share_is_the_binomial_tail():
    for hits in range(21):
        values = np.repeat([1.0, 0.0], [hits, 20 - hits])
        assert stats.above_share(values, 0.05) == pytest.approx(binom.sf(hits - 1, 20, 0.05))


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(-1, 1))
def test_difference_with_a_constant_is_a_shift(a, b, c, constant):
    low, value, high = sorted((a, b, c))
    found = stats.difference(
        Estimate(value=value, low=low, high=high), Estimate(value=constant, low=constant, high=constant)
    )
    assert (found.low, found.value, found.high) == pytest.approx((low - constant, value - constant, high - constant))


def _tables(n):
    """Every way in which n pairs of yes or no can come out, with its (both, first, second, none)."""
    return np.array(
        [(a, b, c, n - a - b - c) for a in range(n + 1) for b in range(n + 1 - a) for c in range(n + 1 - a - b)]
    )


@pytest.fixture(scope="module")
def paired_ends():
    tables = _tables(20)
    ends = []
    for both, first, second, none in tables:
        a = np.repeat([1.0, 1.0, 0.0, 0.0], [both, first, second, none])
        b = np.repeat([1.0, 0.0, 1.0, 0.0], [both, first, second, none])
        ends.append(stats.paired_difference(a, b))
    return tables, np.array([e.low for e in ends]), np.array([e.high for e in ends])


@pytest.mark.parametrize(("p", "q"), [(0.05, 0.05), (0.25, 0.25), (0.5, 0.5), (0.9, 0.9), (0.5, 0.25), (0.85, 0.5)])
@pytest.mark.parametrize("phi", [-0.5, 0.0, 0.3, 0.6, 0.9])
def test_paired_difference_covers_at_twenty_classes(paired_ends, p, q, phi):
    """Exact, over all 1771 tables: the end that calls a leak is wrong in 2.8 % at most."""
    tables, low, high = paired_ends
    both = np.clip(p * q + phi * math.sqrt(p * (1 - p) * q * (1 - q)), max(0, p + q - 1), min(p, q))
    cells = np.maximum([both, p - both, q - both, 1 - p - q + both], 1e-300)
    count = np.array([math.lgamma(21) - sum(math.lgamma(x + 1) for x in row) for row in tables])
    weight = np.exp(count + tables @ np.log(cells))
    assert weight.sum() == pytest.approx(1)
    assert weight[p - q < low - 1e-12].sum() <= 0.0285
    assert weight[p - q > high + 1e-12].sum() <= 0.051


def test_pairs_that_all_agree_leave_an_interval():
    for hits in range(21):
        same = np.repeat([1.0, 0.0], [hits, 20 - hits])
        found = stats.paired_difference(same, same)
        assert found.value == 0
        assert found.low < -0.05
        assert found.high > 0.05


def test_pairing_narrows_what_rises_together_and_widens_what_does_not():
    a = np.repeat([1.0, 0.0], [10, 10])
    together = stats.paired_difference(a, a)
    against = stats.paired_difference(a, 1 - a)
    apart = stats.difference(stats.unit_mean(a), stats.unit_mean(a))
    assert together.high - together.low < apart.high - apart.low < against.high - against.low


def test_holm_is_the_step_down_rule():
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([]) == []
    assert stats.holm([0.9, 0.8]) == [1.0, 1.0]


def test_holm_calls_nothing_false_more_often_than_its_level():
    rng = np.random.default_rng(13)
    false = [min(stats.holm(list(rng.random(5)))) < 0.05 for _ in range(4000)]
    assert 0.04 < np.mean(false) < 0.06


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: stats.wilson(1, 0),
        lambda: stats.clopper_pearson(5, 4),
        lambda: stats.unit_mean(np.array([])),
        lambda: stats.unit_mean(np.array([0.5, np.nan])),
        lambda: stats.unit_mean(np.array([1.2])),
        lambda: stats.paired_difference(np.ones(3), np.ones(4)),
        lambda: ranks.auc(np.array([1.0]), np.array([np.inf])),
        lambda: ranks.auc(np.array([]), np.array([1.0])),
    ],
)
def test_what_cannot_be_measured_is_refused(wrong):
    with pytest.raises(DataError):
        wrong()


def test_a_confidence_of_one_is_refused():
    with pytest.raises(ConfigError):
        stats.wilson(1, 2, confidence=1.0)


# ---- ranks ----------------------------------------------------------------------------------------


@given(
    arrays(float, st.integers(1, 12), elements=st.integers(-3, 3).map(float)),
    arrays(float, st.integers(1, 12), elements=st.integers(-3, 3).map(float)),
)
@settings(max_examples=200, deadline=None)
def test_auc_counts_pairs_and_is_the_mirror_of_itself(pos, neg):
    pairs = (pos[:, None] > neg[None, :]) + 0.5 * (pos[:, None] == neg[None, :])
    found, mirrored = ranks.auc(pos, neg), ranks.auc(neg, pos)
    assert found.value == pytest.approx(pairs.mean())
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((found.low, found.high), abs=1e-6)
    stretched = ranks.auc(np.exp(pos), np.exp(neg))
    assert (stretched.value, stretched.low) == pytest.approx((found.value, found.low))


def test_scores_that_do_not_overlap_give_one_with_an_interval():
    found = ranks.auc(np.arange(50.0) + 100, np.arange(50.0))
    assert found.value == found.high == 1.0
    assert found.low == pytest.approx(0.025 ** (1 / 50))
    assert ranks.auc(np.arange(50.0), np.arange(50.0) + 100).high == pytest.approx(1 - 0.025 ** (1 / 50))


def test_rank_variance_at_a_half_is_that_of_the_rank_sum_test():
    assert ranks.rank_variance(0.5, 30, 70) == pytest.approx(101 / (12 * 30 * 70))


def _shift(auc, wide=1.0):
    return norm.ppf(auc) * math.sqrt(1 + wide**2)


def _groups(rng, kind, auc, m, n):
    if kind == "normal":
        return rng.normal(_shift(auc), 1, m), rng.normal(0, 1, n)
    if kind == "wide":
        return rng.normal(_shift(auc, 3.0), 3, m), rng.normal(0, 1, n)
    if kind == "some memorised":
        return rng.normal(0, 1, m) + 100 * (rng.random(m) < 2 * auc - 1), rng.normal(0, 1, n)
    half = auc - 0.5
    return (rng.random(m) < 0.5 + half).astype(float), (rng.random(n) < 0.5 - half).astype(float)


@pytest.mark.parametrize("kind", ["normal", "wide", "some memorised", "two values"])
@pytest.mark.parametrize(("m", "n"), [(50, 50), (200, 200), (30, 300)])
@pytest.mark.parametrize("auc", [0.5, 0.75, 0.98])
def test_auc_interval_covers(kind, m, n, auc):
    rng = np.random.default_rng(14)
    found = [ranks.auc(*_groups(rng, kind, auc, m, n)) for _ in range(200)]
    slack = 3 * math.sqrt(0.05 * 0.95 / 200)
    assert np.mean([e.low <= auc <= e.high for e in found]) >= 0.95 - slack


@pytest.mark.parametrize(("m", "n", "fpr"), [(100, 100, 0.1), (200, 200, 0.01), (1000, 1000, 0.001), (200, 1000, 0.01)])
@pytest.mark.parametrize("mu", [0.0, 1.0, 2.0])
def test_tpr_interval_covers_the_tpr_at_that_fpr(m, n, fpr, mu):
    """Clopper-Pearson at the threshold found does not: the threshold is uncertain too."""
    rng = np.random.default_rng(15)
    truth = norm.sf(norm.isf(fpr) - mu)
    covered, naive = [], []
    for _ in range(250):
        pos = rng.normal(mu, 1, m)
        found, reason = ranks.tpr_at_fpr(pos, rng.normal(0, 1, n), fpr)
        assert found is not None
        assert reason is None
        covered.append(found.low <= truth <= found.high)
        threshold_only = stats.clopper_pearson(round(found.value * m), m)
        naive.append(threshold_only.low <= truth <= threshold_only.high)
    assert np.mean(covered) >= 0.95
    if mu == 2.0:
        assert np.mean(naive) < 0.9


def test_tpr_is_not_made_up_from_too_few_nonmembers():
    pos, neg = np.arange(100.0) + 500, np.arange(99.0)
    found, reason = ranks.tpr_at_fpr(pos, neg, 0.01)
    assert found is None
    assert "at least 100 non-members, there are 99" in str(reason)
    assert ranks.tpr_at_fpr(pos, np.arange(100.0), 0.01)[0] is not None
    assert ranks.not_estimable(1000, 0.001) is None
    assert "10000" in str(ranks.not_estimable(9999, 0.0001))
    with pytest.raises(ConfigError):
        ranks.tpr_at_fpr(pos, neg, 0.0)


def test_ties_count_against_the_adversary():
    same = np.ones(100)
    found, _ = ranks.tpr_at_fpr(same, same, 0.1)
    assert found is not None
    assert found.value == 0.0
    # Eleven of a hundred non-members share the highest score and ten may be accused: nobody is.
    neg = np.concatenate([np.full(11, 5.0), np.zeros(89)])
    found, _ = ranks.tpr_at_fpr(np.full(100, 5.0), neg, 0.1)
    assert found is not None
    assert found.value == 0.0


def test_p_value_at_a_low_fpr_is_exact():
    """Against every order in which five members and six non-members can stand."""
    m, n, fpr = 5, 6, 1 / 6
    orders = list(itertools.combinations(range(m + n), m))
    found = []
    for places in orders:
        scores = np.arange(m + n, dtype=float)
        pos = scores[list(places)]
        neg = np.delete(scores, list(places))
        hits = int((pos > np.sort(neg)[::-1][1]).sum())
        found.append((hits, ranks.above_fpr(pos, neg, fpr)))
    for hits, p in found:
        assert p == pytest.approx(np.mean([other >= hits for other, _ in found]))


def test_roc_passes_through_what_can_be_reached():
    rng = np.random.default_rng(16)
    pos, neg = rng.normal(1, 1, 150), rng.normal(0, 1, 120)
    curve = ranks.roc(pos, neg)
    assert (np.diff(curve.fpr) > 0).all()
    assert (np.diff(curve.tpr) >= 0).all()
    assert curve.fpr[0] == 0
    assert (curve.fpr[-1], curve.tpr[-1]) == (1, 1)
    assert ((curve.low <= curve.tpr) & (curve.tpr <= curve.high)).all()
    for fpr in (0.1, 0.25):
        found, _ = ranks.tpr_at_fpr(pos, neg, fpr)
        assert found is not None
        assert curve.tpr[np.isclose(curve.fpr, fpr)] == pytest.approx([found.value])
    steps = np.diff(np.concatenate([[0.0], curve.fpr]))
    area = float((steps[1:] * curve.tpr[:-1]).sum())
    assert area == pytest.approx(ranks.auc(pos, neg).value, abs=1e-9)


def test_roc_of_scores_that_say_nothing_is_one_step():
    curve = ranks.roc(np.ones(20), np.ones(30))
    assert curve.fpr.tolist() == [0.0, 1.0]
    assert curve.tpr.tolist() == [0.0, 1.0]


def test_a_long_roc_is_thinned_and_keeps_its_ends():
    rng = np.random.default_rng(17)
    curve = ranks.roc(rng.normal(1, 1, 5000), rng.normal(0, 1, 5000))
    assert len(curve.fpr) <= 401
    assert curve.fpr[0] == 0
    assert curve.fpr[1] == pytest.approx(1 / 5000)
    assert curve.fpr[-1] == 1
