"""Shapes, ranges and preprocessing, declared once."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from seepage.core.errors import ConfigError, DataError
from seepage.core.spec import UNIT, Bounds, InputSpec
from seepage.core.vocabulary import Modality

FLOATS = st.floats(-1e3, 1e3, width=32)
FEATURES = 3
UNITS = arrays(np.float32, (4, FEATURES), elements=st.floats(0, 1, width=32))


LOWS = arrays(np.float32, FEATURES, elements=FLOATS)
# A constant feature among them.
WIDTHS = arrays(np.float32, FEATURES, elements=st.sampled_from([0.0, 0.5, 1.0, 255.0]))


@given(low=LOWS, width=WIDTHS, u=UNITS)
def test_unit_and_back(low: np.ndarray, width: np.ndarray, u: np.ndarray) -> None:
    b = Bounds.of(low, low + width)
    x = b.from_unit(u)
    assert b.contain(x)
    back = b.to_unit(x)
    wide = b.high > b.low
    np.testing.assert_allclose(back[:, wide], u[:, wide], atol=2e-3)
    np.testing.assert_allclose(b.from_unit(back), x, atol=1e-2)
    assert np.isfinite(back).all()


@given(low=LOWS, width=WIDTHS, x=arrays(np.float32, (4, FEATURES), elements=FLOATS))
def test_clipping_is_the_nearest_contained_value(low: np.ndarray, width: np.ndarray, x: np.ndarray) -> None:
    b = Bounds.of(low, low + width)
    clipped = b.clip(x)
    assert b.contain(clipped, tolerance=0.0)
    np.testing.assert_array_equal(b.clip(clipped), clipped)
    inside = (x >= b.low) & (x <= b.high)
    np.testing.assert_array_equal(clipped[inside], x[inside])


def test_containment_is_up_to_a_share_of_the_width() -> None:
    b = Bounds.of(0.0, 255.0)
    assert b.contain(np.array([255.01]))
    assert not b.contain(np.array([255.1]))
    assert not b.contain(np.array([np.nan]))


@pytest.mark.parametrize(("low", "high"), [(1.0, 0.0), (0.0, np.inf), (np.nan, 1.0), ([0.0, 2.0], [1.0, 1.0])])
def test_impossible_ranges_are_refused(low: Any, high: Any) -> None:
    with pytest.raises(ConfigError, match="finite low <= high"):
        Bounds.of(low, high)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": ()}, "positive sides"),
        ({"shape": (0, 3, 3)}, "positive sides"),
        ({"shape": (3, 3)}, "channels, height, width"),
        ({"layout": "cwh"}, "'chw' or 'hwc'"),
        ({"channels": "rbg"}, "'rgb' or 'bgr'"),
        ({"mean": (0.1, 0.2)}, "one for each of 3 channels, got 2"),
        ({"std": (0.0,)}, "positive values"),
    ],
)
def test_impossible_inputs_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        InputSpec(**{"shape": (3, 4, 4), **changes})


class TestCheck:
    spec = InputSpec((1, 2, 2))

    def test_it_gives_single_precision(self) -> None:
        out = self.spec.check(np.zeros((3, 1, 2, 2), dtype=np.int64))
        assert out.dtype == np.float32
        assert out.shape == (3, 1, 2, 2)

    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (np.zeros((2, 2, 2)), r"query: each record should have shape \(1, 2, 2\), got \(2, 2\)"),
            (np.full((2, 1, 2, 2), np.nan), "8 values are NaN or infinite, first in record 0"),
            (np.full((2, 1, 2, 2), 255), r"should lie in \[0, 1\], got \[255, 255\]"),
            (np.array([["a"]]), "numbers were wanted"),
        ],
    )
    def test_it_says_what_was_wanted(self, x: np.ndarray, message: str) -> None:
        with pytest.raises(DataError, match=message):
            self.spec.check(x, "query")

    def test_it_names_the_first_bad_record(self) -> None:
        x = np.zeros((4, 1, 2, 2))
        x[2, 0, 1, 1] = np.inf
        with pytest.raises(DataError, match="1 values are NaN or infinite, first in record 2"):
            self.spec.check(x)


class TestPrepare:
    x = np.random.default_rng(0).random((2, 3, 4, 5)).astype(np.float32)

    def prepared(self, **changes: Any) -> np.ndarray:
        return InputSpec((3, 4, 5), **changes).prepare(self.x)

    def test_without_wishes_nothing_changes(self) -> None:
        np.testing.assert_array_equal(self.prepared(), self.x)

    def test_normalisation_is_per_channel(self) -> None:
        out = self.prepared(mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0))
        for c, (mean, std) in enumerate([(0.1, 1.0), (0.2, 2.0), (0.3, 4.0)]):
            np.testing.assert_allclose(out[:, c], (self.x[:, c] - mean) / std, rtol=1e-5, atol=1e-6)

    def test_one_value_stands_for_all_channels(self) -> None:
        np.testing.assert_allclose(self.prepared(mean=(0.5,), std=(0.5,)), (self.x - 0.5) / 0.5, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(self.prepared(std=(2.0,)), self.x / 2)

    def test_layout_and_colour_order(self) -> None:
        np.testing.assert_array_equal(self.prepared(layout="hwc"), self.x.transpose(0, 2, 3, 1))
        np.testing.assert_array_equal(self.prepared(channels="bgr"), self.x[:, [2, 1, 0]])

    def test_colours_are_swapped_before_they_are_normalised(self) -> None:
        """`mean` and `std` are in the order in which the victim wants its channels."""
        out = self.prepared(channels="bgr", mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0), layout="hwc")
        blue = (self.x[:, 2] - 0.1) / 1.0
        np.testing.assert_allclose(out[..., 0], blue, rtol=1e-5, atol=1e-6)

    def test_grey_pictures_have_no_colour_order(self) -> None:
        grey = self.x[:, :1]
        np.testing.assert_array_equal(InputSpec((1, 4, 5), channels="bgr").prepare(grey), grey)

    def test_tables_are_normalised_per_feature(self) -> None:
        spec = InputSpec((2,), bounds=Bounds.of(-9.0, 9.0), modality=Modality.TABLE, mean=(1.0, 2.0), std=(2.0, 4.0))
        np.testing.assert_allclose(spec.prepare(np.array([[3.0, 6.0]], dtype=np.float32)), [[1.0, 1.0]])

    def test_the_result_is_contiguous_single_precision(self) -> None:
        out = self.prepared(layout="hwc", channels="bgr")
        assert out.flags.c_contiguous
        assert out.dtype == np.float32


def test_size_is_a_count_of_numbers() -> None:
    assert InputSpec((3, 4, 5)).size == 60
    assert InputSpec((7,), modality=Modality.TABLE).size == 7
    assert UNIT.contain(np.array([0.0, 1.0]))
