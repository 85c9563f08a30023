"""Secure aggregation: sums exact, uploads uniform, dropouts recovered up to the threshold, no vector ever laid open."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp
from scipy.stats import chisquare
from sympy import isprime

from seepage.core.errors import ConfigError, DataError
from seepage.models.secagg import (
    FIELD,
    GROUP,
    Client,
    FixedPoint,
    aggregate,
    agreed,
    mask,
    recovered,
    shared,
)


def _rng(seed=0):
    return np.random.default_rng(seed)


def test_the_group_is_that_of_the_standard() -> None:
    """RFC 3526 gives the formula of the prime of group 14; it is a safe prime. The field of shares is prime too."""
    with mp.workprec(2200):
        digits = int(mp.floor(mp.mpf(2) ** 1918 * mp.pi))
    assert 2**2048 - 2**1984 - 1 + 2**64 * (digits + 124476) == GROUP
    assert isprime(FIELD)


@given(st.integers(1, 7), st.integers(0, 2**256 - 1), st.data())
@settings(deadline=None, max_examples=25)
def test_any_threshold_of_shares_gives_the_secret_back(parties, secret, data) -> None:
    threshold = data.draw(st.integers(1, parties))
    shares = shared(secret, parties, threshold, _rng(1))
    for some in combinations(shares, threshold):
        assert recovered(some) == secret
    if threshold > 1:
        assert recovered(shares[: threshold - 1]) != secret


def test_fewer_shares_than_the_threshold_say_nothing() -> None:
    """One share of a 2-of-3 sharing of a fixed secret is uniform over the field: here, its leading bits."""
    firsts = [shared(42, 3, 2, _rng(seed))[0][1] >> (521 - 3) for seed in range(800)]
    assert chisquare(np.bincount(firsts, minlength=8)).pvalue > 1e-3


def test_both_ends_of_a_pair_agree_on_one_seed() -> None:
    one, two, three = (Client(number, _rng(number)) for number in range(3))
    assert one.seed_with(two.public) == two.seed_with(one.public)
    assert one.seed_with(two.public) != one.seed_with(three.public)


def test_fixed_point_is_off_by_half_a_step() -> None:
    ring, x = FixedPoint(), _rng(2).normal(size=1000)
    found = ring.decode(ring.encode(x, 4))
    assert np.abs(found - x).max() <= ring.step / 2
    with pytest.raises(DataError, match="clip updates"):
        ring.encode(np.array([2.0**30]), 4)
    with pytest.raises(DataError, match="finite"):
        ring.encode(np.array([np.nan]), 1)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_sum_is_exact(n) -> None:
    ring, x = FixedPoint(), _rng(3).normal(size=(n, 200))
    rounded = sum(ring.decode(ring.encode(row, n)) for row in x)
    found = aggregate(x, n, _rng(4))
    np.testing.assert_array_equal(found.total, rounded)


@pytest.mark.parametrize("gone", [(), (0,), (4,), (1, 3)])
def test_masks_of_those_who_drop_out_are_taken_off_up_to_the_threshold(gone) -> None:
    ring, x = FixedPoint(), _rng(5).normal(size=(5, 50))
    left = [c for c in range(5) if c not in gone]
    found = aggregate(x, 3, _rng(6), dropped=frozenset(gone))
    np.testing.assert_array_equal(found.total, sum(ring.decode(ring.encode(x[c], 5)) for c in left))
    assert set(found.uploads) == set(left)


def test_below_the_threshold_the_round_stops() -> None:
    with pytest.raises(ConfigError, match="2 of 5 clients answer and 3 are needed"):
        aggregate(np.zeros((5, 4)), 3, _rng(7), dropped=frozenset({0, 1, 2}))
    with pytest.raises(ConfigError, match="a threshold from 1 to the 5 clients"):
        aggregate(np.zeros((5, 4)), 6, _rng(7))


def test_an_upload_is_uniform_whatever_it_hides() -> None:
    """The top byte of every number that a client sends, for a vector of zeros and for one of ones."""
    for value in (0.0, 1.0):
        sent = aggregate(np.full((3, 20000), value), 2, _rng(8)).uploads[1]
        counts = np.bincount((sent >> np.uint64(56)).astype(int), minlength=256)
        assert chisquare(counts).pvalue > 1e-3


def test_an_upload_is_uniform_to_those_who_know_all_pair_masks() -> None:
    """The mask of one's own is what protects a client whose key was given away because it answered late."""
    clients = [Client(number, _rng(10 + number)) for number in range(2)]
    pair = mask(agreed(clients[0]._secret, clients[1].public), 20000)
    sent = clients[0].upload(np.zeros(20000, dtype=np.uint64), {1: pair})
    counts = np.bincount(((sent - pair) >> np.uint64(56)).astype(int), minlength=256)
    assert counts.max() < 200
    assert chisquare(counts).pvalue > 1e-3


def test_two_rounds_share_no_mask() -> None:
    x = np.zeros((3, 100))
    one, two = (aggregate(x, 2, _rng(seed)).uploads[0] for seed in (11, 12))
    assert (one != two).mean() > 0.99


def test_no_client_reveals_both_shares_of_another() -> None:
    client = Client(0, _rng(13))
    client.keep(1, ((1, 5), (1, 6)))
    with pytest.raises(DataError, match="no share is revealed"):
        client.reveal(frozenset({1}), frozenset({1}))
