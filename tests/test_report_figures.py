import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from report_samples import accuracy, wilson
from seepage.core.record import Estimate
from seepage.report.figures import DumbbellRow, ForestRow, Tally, dumbbell, forest, icon_array, meter
from seepage.report.plots import RocCurve, RocPoint, histogram, roc, trace
from seepage.report.svg import Across, extent, ticks

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</svg><script>alert(1)</script>\x00\ud800\"'&]]>"


def parse(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)


def percent(value: str) -> float:
    return float(value.removesuffix("%"))


def circles(root: ElementTree.Element) -> list[float]:
    """Places of the full circles: nested pictures whose path is drawn with arcs."""
    return [
        percent(inner.attrib["x"])
        for inner in root.iter(f"{SVG}svg")
        if "x" in inner.attrib and "a5.5" in inner[0].attrib["d"] and "value" in inner[0].attrib["fill"]
    ]


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_ticks_are_round_even_and_inside(low: float, width: float):
    found = ticks(low, low + width)
    assert 1 <= len(found) <= 7
    assert all(low - 1e-9 * width <= t <= low + width * (1 + 1e-9) for t in found)
    if len(found) > 2:
        assert np.ptp(np.diff(found)) < 1e-6 * width


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8))
def test_an_axis_holds_all_its_values(values: list[float]):
    low, high = extent(values, (0.0, 1.0))
    # Up to a billionth of a step, which is how `extent` tells rounding from reaching beyond.
    assert low <= min(*values, 0.0) + 1e-8
    assert high >= max(*values, 1.0) - 1e-8


@given(st.floats(0, 1), st.floats(0, 1))
def test_places_keep_order_and_proportion(a: float, b: float):
    axis = Across(0.0, 1.0, 35.0, 79.0)
    assert axis.at(a) - axis.at(b) == pytest.approx(44 * (a - b))
    assert axis.at(2.0) == 79.0


@pytest.mark.parametrize("layout", ["wide", "narrow"])
def test_a_forest_puts_values_where_they_belong(layout):
    rows = [ForestRow(f"attack {k}", "scores", accuracy(k)) for k in (2, 9, 17)]
    root = parse(forest("f", "Accuracy", rows, layout))
    left, right = (35.0, 79.0) if layout == "wide" else (2.0, 98.0)
    assert circles(root) == pytest.approx([left + k / 20 * (right - left) for k in (2, 9, 17)], abs=0.01)
    # The band of the leakage is drawn where there is one: 2 of 20 is below the control.
    assert sum(r.get("opacity") == "0.12" for r in root.iter(f"{SVG}rect")) == 2


def test_a_forest_says_in_words_what_it_shows():
    rows = [ForestRow("latent", "weights", accuracy(17)), ForestRow("walk", "labels", None, "failed: no start")]
    root = parse(forest("f", "Accuracy", rows))
    description = root.find(f"{SVG}desc").text
    for words in ("0.85 [0.64, 0.95]", "without the model 0.25", "null model 0.10", "chance 0.05", "failed: no start"):
        assert words in description
    assert root.attrib["role"] == "img"
    labelled = root.attrib["aria-labelledby"].split()
    assert {root.find(f"{SVG}title").attrib["id"], root.find(f"{SVG}desc").attrib["id"]} == set(labelled)


def test_a_missing_control_is_not_drawn_and_is_said():
    row = ForestRow("a", "scores", accuracy(9, no_model=None, null=None))
    root = parse(forest("f", "t", [row]))
    assert "without the model not available" in root.find(f"{SVG}desc").text
    assert "uncontrolled" in "".join(root.itertext())
    assert not any("M-5.5 0 0-5.5" in p.attrib["d"] for p in root.iter(f"{SVG}path"))


def test_a_dumbbell_moves_the_way_the_numbers_do():
    row = DumbbellRow("nes", "round", Estimate(value=0.6, low=0.4, high=0.8), Estimate(value=0.1, low=-0.1, high=0.3))
    root = parse(dumbbell("d", "t", [row], words=("without", "with")))
    places = [percent(s.attrib["x"]) for s in root.iter(f"{SVG}svg") if "x" in s.attrib]
    assert places[0] > places[1]
    assert "without 0.60 [0.40, 0.80], with 0.10 [−0.10, 0.30]" in root.find(f"{SVG}desc").text


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (17, 20), (21, 60)])
def test_an_icon_array_can_be_counted(hits: int, n: int):
    root = parse(icon_array("i", "t", [Tally("with", hits, n, True), Tally("without", 0, n, False)]))
    icons = [p for p in root.iter(f"{SVG}path") if "transform" in p.attrib]
    assert len(icons) == 2 * n
    assert sum(p.attrib["fill"] != "none" for p in icons) == hits


def test_a_bar_is_as_long_as_its_share():
    root = parse(meter("m", "t", [("with", 0.75, True), ("without", 0.5, False)]))
    wide = [float(r.attrib["width"]) for r in root.iter(f"{SVG}rect")]
    assert [wide[1] / wide[0], wide[3] / wide[2]] == pytest.approx([0.75, 0.5], abs=1e-3)


def a_curve(n: int = 100) -> RocCurve:
    fpr = np.linspace(0, 1, n + 1)
    tpr = np.sqrt(fpr)
    return RocCurve("the attack", fpr, tpr, np.clip(tpr - 0.1, 0, 1), np.clip(tpr + 0.1, 0, 1))


def points(root: ElementTree.Element, width: str) -> np.ndarray:
    (path,) = [p for p in root.iter(f"{SVG}path") if p.get("stroke-width") == width]
    return np.array([[float(v) for v in pair.split()] for pair in re.split("[ML]", path.attrib["d"])[1:]])


def test_a_roc_is_logarithmic_on_both_axes():
    root = parse(roc("r", "t", [a_curve()], resolution=0.01))
    p = points(root, "2.5")
    x, y = (p[:, 0] - p[:, 0].min()) / 330, (p[:, 1].max() - p[:, 1]) / 330
    tops = np.nonzero((np.diff(x) == 0) & (np.diff(y) > 0))[0] + 1  # the top of each step lies on the curve
    assert len(tops) == 100
    assert 10 ** (2 * (y[tops] - 1)) == pytest.approx(np.sqrt(10 ** (2 * (x[tops] - 1))), rel=0.05)
    assert (np.diff(x) >= 0).all()
    assert (np.diff(y) >= 0).all()


def test_rates_that_cannot_be_estimated_are_greyed():
    shown = [RocPoint(0.1, 0.3), RocPoint(0.001, None)]
    root = parse(roc("r", "t", [a_curve()], shown, resolution=0.01))
    assert "not estimable" in "".join(root.itertext())
    assert len(list(root.iter(f"{SVG}circle"))) == 1
    without = parse(roc("r", "t", [a_curve()], [RocPoint(0.1, 0.3)], resolution=0.01))
    assert "not estimable" not in "".join(without.itertext())


def test_a_long_curve_is_thinned_and_keeps_its_ends():
    text = roc("r", "t", [a_curve(100_000)], resolution=1e-5)
    assert len(text) < 40_000
    p = points(parse(text), "2.5")
    assert p[0, 0] == pytest.approx(56, abs=0.1)
    assert p[-1] == pytest.approx([386, 12], abs=0.1)


def test_a_histogram_draws_shares_of_each_side():
    rng = np.random.default_rng(0)
    root = parse(histogram("h", "t", rng.normal(1, 1, 300), rng.normal(0, 1, 900), ("in", "out")))
    bars = [r for r in root.iter(f"{SVG}rect") if "opacity" in r.attrib and r.find(f"{SVG}title") is not None]
    heights = {
        kind: sum(float(r.attrib["height"]) for r in bars if kind in r.attrib["fill"]) for kind in ("hatch", "value")
    }
    assert heights["hatch"] == pytest.approx(heights["value"], rel=1e-2)


def test_a_histogram_that_would_be_one_bar_shows_the_order_instead():
    rng = np.random.default_rng(0)
    ours, others = -np.exp(rng.normal(-9, 4, 200)), -np.exp(rng.normal(-6, 4, 200))
    text = histogram("h", "t", ours, others, ("in", "out"))
    assert "records in order" in text
    bars = [r for r in parse(text).iter(f"{SVG}rect") if r.find(f"{SVG}title") is not None]
    assert len(bars) > 20


@pytest.mark.parametrize("values", [np.ones(50), np.array([np.nan, np.inf]), np.array([1.0, np.nan, 3.0]), np.zeros(0)])
def test_degenerate_numbers_are_drawn_or_said(values: np.ndarray):
    for text in (trace("t", "loss", values), histogram("h", "t", values, np.zeros(5), ("a", "b"))):
        root = parse(text)
        assert "nan" not in ElementTree.tostring(root, encoding="unicode").lower().replace("nantial", "")
        assert root.find(f"{SVG}desc").text


def _all_charts(name: str) -> list[str]:
    row = ForestRow(name, name, accuracy(9), name)
    e = wilson(5, 20)
    return [
        forest(name, name, [row, ForestRow(name, name, None, name)]),
        forest(name, name, []),
        dumbbell(name, name, [DumbbellRow(name, name, e, e)]),
        icon_array(name, name, [Tally(name, 1, 2, True)]),
        meter(name, name, [(name, 0.5, True)]),
        roc(name, name, [RocCurve(name, np.array([0.0, 1.0]), np.array([0.0, 1.0]))]),
        histogram(name, name, np.arange(9.0), np.arange(9.0), (name, name)),
        trace(name, name, np.arange(9.0)),
    ]


@pytest.mark.parametrize("name", [HOSTILE, "ملف", "x" * 500, ""])
def test_whatever_things_are_called_a_chart_is_one_well_formed_picture(name: str):
    for text in _all_charts(name):
        root = parse(text)
        assert root.tag == f"{SVG}svg"
        assert not list(root.iter("script"))
        assert not list(root.iter(f"{SVG}script"))


def test_charts_are_the_same_each_time():
    assert _all_charts("a") == _all_charts("a")
