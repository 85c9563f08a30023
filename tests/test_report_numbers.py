import math
import tomllib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from report_samples import wilson
from seepage.core.record import Estimate
from seepage.report.numbers import (
    MINUS,
    count_of,
    decimals,
    difference,
    duration,
    estimate,
    fact,
    number,
    p_text,
    short,
    signed,
)
from seepage.report.toml import toml_text


def test_the_interval_of_a_difference_covers_it_as_often_as_it_says():
    rng = np.random.default_rng(1)
    n, covered, trials = 40, 0, 2000
    for p, q in ((0.5, 0.5), (0.85, 0.25), (0.1, 0.3), (0.95, 0.9)):
        for _ in range(trials // 4):
            a, b = wilson(rng.binomial(n, p), n), wilson(rng.binomial(n, q), n)
            gap = difference(a, b)
            covered += gap.low <= p - q <= gap.high
    # 2000 draws of a 95 % interval: three standard errors are 0.015.
    assert 0.935 <= covered / trials <= 0.985


def test_a_difference_of_equal_symmetric_estimates_widens_by_the_square_root_of_two():
    e = Estimate(value=0.5, low=0.4, high=0.6)
    gap = difference(e, e)
    assert gap.value == 0
    assert gap.high == pytest.approx(0.1 * math.sqrt(2))
    assert gap.low == pytest.approx(-0.1 * math.sqrt(2))


def test_a_difference_swaps_its_ends_with_its_sides():
    a, b = wilson(17, 20), wilson(5, 20)
    forth, back = difference(a, b), difference(b, a)
    assert (forth.value, forth.low, forth.high) == pytest.approx((-back.value, -back.high, -back.low))


@pytest.mark.parametrize(
    ("value", "low", "high", "shown"),
    [
        (0.85, 0.64, 0.95, "0.85 [0.64, 0.95]"),
        (0.851234, 0.849, 0.8535, "0.851 [0.849, 0.854]"),
        (1234.56, 1100.0, 1400.0, "1,235 [1,100, 1,400]"),
        (3.14159, 2.0, 5.0, "3.1 [2.0, 5.0]"),
        (-0.05, -0.304, 0.21, f"{MINUS}0.05 [{MINUS}0.30, 0.21]"),
        (1.0, 1.0, 1.0, "1.00 [1.00, 1.00]"),
        (-0.0001, -0.2, 0.2, f"0.00 [{MINUS}0.20, 0.20]"),
    ],
)
def test_digits_follow_the_interval(value: float, low: float, high: float, shown: str):
    assert estimate(Estimate(value=value, low=low, high=high)) == shown


@given(st.floats(-1, 1), st.floats(1e-6, 0.5))
def test_no_more_digits_than_the_interval_supports(value: float, half: float):
    places = decimals(value, value - half, value + half)
    # The last place shown is worth at least a hundredth of the half width.
    assert 10.0**-places >= half / 100
    assert float(number(value, value - half, value + half).replace(MINUS, "-")) == pytest.approx(
        value, abs=10.0**-places
    )


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_every_number_has_a_text_that_is_near_it(value: float):
    text = number(value).replace(MINUS, "-").replace(",", "")
    assert float(text) == pytest.approx(value, rel=0.06, abs=1e-9)


def test_a_difference_always_carries_its_sign():
    assert signed(Estimate(value=0.6, low=0.37, high=0.76)).startswith("+0.60 ")
    assert signed(Estimate(value=-0.6, low=-0.7, high=-0.5)).startswith(f"{MINUS}0.60 ")


@pytest.mark.parametrize(
    ("value", "n", "count"), [(0.85, 20, 17), (0.333333, 3, 1), (0.874, 20, None), (1.2, 5, None), (None, 5, None)]
)
def test_a_share_is_a_count_only_when_it_is_whole(value: float | None, n: int, count: int | None):
    assert count_of(value, n) == count


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.96, "10 s"), (59.7, "1 min 0 s"), (185, "3 min 5 s"), (7800, "2 h 10 min")],
)
def test_durations(seconds: float, text: str):
    assert duration(seconds) == text


def test_small_things():
    assert (p_text(0.0000004), p_text(0.004), p_text(0.04), p_text(None)) == ("< 0.001", "0.004", "0.04", "–")
    assert (fact(160), fact(0.9375), fact("cnn"), fact(None), fact(-3.0)) == ("160", "0.94", "cnn", "–", f"{MINUS}3")
    assert (short(0.0064), short(3.14159), number(0.06), number(0.5)) == ("0.01", "3.1", "0.06", "0.50")


_KEYS = st.text(max_size=8)
_LEAVES = st.one_of(
    st.booleans(), st.integers(-(2**62), 2**62), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
_VALUES = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3))


@given(st.dictionaries(_KEYS, _VALUES, max_size=4))
def test_a_configuration_survives_toml(config: dict[str, object]):
    assert tomllib.loads(toml_text(config)) == config


def test_what_is_not_set_is_left_out_and_said():
    text = toml_text({"victim": {"budget": None, "kind": "torch"}})
    assert "# budget is not set" in text
    assert tomllib.loads(text) == {"victim": {"kind": "torch"}}
