"""Leakage, p-values and power: consistent with each other, and right as often as they say."""

import math

import numpy as np
import pytest
from scipy.stats import binom, norm

from seepage.core.errors import DataError
from seepage.scoring import stats
from seepage.scoring.controls import (
    Advantage,
    Against,
    Auc,
    Measure,
    TprAtFpr,
    UnitMean,
    contrast,
    leakage,
    p_value,
    score,
)
from seepage.scoring.power import smallest_effect, smallest_effect_auc


def _share(values) -> UnitMean:
    return UnitMean(np.asarray(values, dtype=float), np.arange(len(values)))


def _yes(rng, p, n=20) -> UnitMean:
    return _share(rng.random(n) < p)


def _random_case(rng) -> tuple[Measure, dict[str, Measure | float]]:
    kind = rng.integers(4)
    if kind == 0:
        value = _yes(rng, rng.choice([0.05, 0.2, 0.5, 0.9]))
        return value, {"chance": 0.05, "no_model": _yes(rng, 0.2), "null_model": _yes(rng, 0.05, 12)}
    pos, neg = rng.normal(rng.choice([0.0, 0.3, 0.6, 3.0]), 1, 60), rng.normal(0, 1, 50)
    other = rng.normal(0, 1, 60), rng.normal(0, 1, 50)
    if kind == 1:
        return Auc(pos, neg), {"chance": 0.5, "null_model": Auc(*other)}
    if kind == 2:
        return TprAtFpr(pos, neg, 0.1), {"chance": 0.1, "null_model": TprAtFpr(*other, 0.1)}
    hits, alarms = int((pos > 0.5).sum()), int((neg > 0.5).sum())
    return Advantage(hits, 60, alarms, 50), {"chance": 0.0}


def test_low_end_above_zero_if_and_only_if_p_below_one_in_forty():
    rng = np.random.default_rng(21)
    seen = {True: 0, False: 0}
    for _ in range(160):
        value, controls = _random_case(rng)
        gap, _ = leakage(value, controls)
        called = gap.low > 0
        assert called == (p_value(value, controls) < 0.025)
        assert gap.low <= gap.value <= gap.high
        seen[called] += 1
    assert min(seen.values()) > 25


def test_leakage_is_against_the_strongest_control_and_above_every_one():
    rng = np.random.default_rng(22)
    value, strong, weak = _share([1] * 15 + [0] * 5), _share([0, 1] * 10), _yes(rng, 0.05)
    controls = {"chance": 0.05, "no_model/nearest": strong, "null_model": weak}
    gap, strongest = leakage(value, controls)
    assert strongest == "no_model/nearest"
    assert gap.value == pytest.approx(0.75 - 0.5)
    assert gap.low == min(contrast(value, control).low for control in controls.values())
    assert p_value(value, controls) == max(p_value(value, {"one": control}) for control in controls.values())


def test_a_control_more_never_makes_a_leak_of_what_was_none():
    rng = np.random.default_rng(23)
    for _ in range(50):
        value, controls = _random_case(rng)
        fewer = {"chance": controls["chance"]}
        assert leakage(value, controls)[0].low <= leakage(value, fewer)[0].low
        assert p_value(value, controls) >= p_value(value, fewer)


def test_three_hits_of_twenty_are_not_above_one_in_twenty():
    """Wilson alone excludes the chance of 1/20, which happens in 7.5 % of blind guesses."""
    value = _share([1] * 3 + [0] * 17)
    assert value.estimate().low > 0.05
    gap, _ = leakage(value, {"chance": 0.05})
    assert gap.low == 0.0
    assert p_value(value, {"chance": 0.05}) == pytest.approx(binom.sf(2, 20, 0.05))
    assert leakage(_share([1] * 4 + [0] * 16), {"chance": 0.05})[0].low > 0


def test_a_blind_guess_is_called_a_leak_in_at_most_one_of_forty_audits():
    rng = np.random.default_rng(24)
    called = {"share": 0, "auc": 0, "tpr": 0, "advantage": 0}
    runs = 400
    for _ in range(runs):
        called["share"] += (
            leakage(_yes(rng, 0.25), {"chance": 0.25, "a": _yes(rng, 0.25), "b": _yes(rng, 0.25)})[0].low > 0
        )
        a, b, c = (rng.normal(size=(2, 60)) for _ in range(3))
        called["auc"] += leakage(Auc(*a), {"chance": 0.5, "a": Auc(*b), "b": Auc(*c)})[0].low > 0
        called["tpr"] += leakage(TprAtFpr(*a, 0.1), {"chance": 0.1})[0].low > 0
        hits, alarms = int((a[0] > 0).sum()), int((a[1] > 0).sum())
        called["advantage"] += leakage(Advantage(hits, 60, alarms, 60), {"chance": 0.0})[0].low > 0
    bound = 0.025 + 3 * math.sqrt(0.025 * 0.975 / runs)
    assert max(called.values()) / runs <= bound


def test_p_values_of_a_blind_guess_are_uniform():
    rng = np.random.default_rng(25)
    p = np.array([p_value(Auc(*rng.normal(size=(2, 60))), {"chance": 0.5}) for _ in range(300)])
    for level in (0.05, 0.1, 0.25, 0.5, 0.75, 0.9):
        assert abs((p <= level).mean() - level) < 4 * math.sqrt(level * (1 - level) / 300)


@pytest.mark.parametrize("rates", [(0.5, 0.5, 0.5), (0.3, 0.3, 0.1), (0.2, 0.25, 0.25)])
def test_leakage_interval_covers_with_several_controls(rates):
    """Also where two controls are about as strong, so that the one on top is on top by luck."""
    rng = np.random.default_rng(26)
    truth = rates[0] - max(rates[1], rates[2], 0.05)
    missed_low = missed_high = 0
    for _ in range(600):
        value, a, b = (_yes(rng, rate) for rate in rates)
        gap, _ = leakage(value, {"chance": 0.05, "a": a, "b": b})
        missed_low += truth < gap.low - 1e-12
        missed_high += truth > gap.high + 1e-12
    bound = 0.025 + 3 * math.sqrt(0.025 * 0.975 / 600)
    assert missed_low / 600 <= bound
    assert missed_high / 600 <= bound


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.9])
def test_difference_of_aucs_over_the_same_records_covers(rho):
    rng = np.random.default_rng(27)
    n, missed = 80, 0
    for _ in range(300):
        common, own = rng.normal(size=(2, 2 * n))
        other = rho * common + math.sqrt(1 - rho**2) * own
        a = Auc(common[:n] + norm.ppf(0.7) * math.sqrt(2), common[n:])
        gap = contrast(a, Auc(other[:n] + norm.ppf(0.6) * math.sqrt(2), other[n:]))
        missed += not gap.low <= 0.1 <= gap.high
    assert missed / 300 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


def test_attacks_that_agree_on_every_record_leave_an_interval():
    rng = np.random.default_rng(28)
    a = Auc(rng.normal(0.5, 1, 100), rng.normal(0, 1, 100))
    gap = contrast(a, a)
    assert gap.value == 0
    assert gap.high - gap.low > 0.01


def test_units_are_paired_by_name():
    """The same control, its units in another order or some left out, is the same control."""
    rng = np.random.default_rng(29)
    value = _share([1] * 12 + [0] * 8)
    control = _share([1] * 9 + [0] * 11)
    assert value.correlation(control) > 0.5
    order = rng.permutation(20)
    assert contrast(value, UnitMean(control.values[order], order)) == contrast(value, control)
    fewer = UnitMean(value.values[:8], np.arange(8))
    assert value.correlation(fewer) == pytest.approx(
        stats.paired_correlation(value.values[:8], value.values[:8]) * math.sqrt(8 / 20)
    )
    assert value.correlation(UnitMean(control.values, np.arange(20) + 100)) == 0.0


def test_a_score_names_its_controls_and_what_is_missing():
    rng = np.random.default_rng(30)
    value = _share([1] * 15 + [0] * 5)
    parts = {"nearest_public": _yes(rng, 0.4), "prior_draw": _yes(rng, 0.05)}
    made = score(
        "s", "S", value, Against(0.05, parts, None, {"null_model": "a recipe, please"}), n=20, unit="class", method="m"
    )
    assert set(made.no_model_parts) == set(parts)
    assert made.controls["no_model"] == max(made.no_model_parts.values(), key=lambda e: e.value)
    assert made.controls["null_model"] is None
    assert made.missing == {"null_model": "a recipe, please"}
    assert made.strongest_control == "no_model"
    assert made.leakage is not None
    assert made.leakage.value == pytest.approx(0.75 - parts["nearest_public"].values.mean())
    alone = score("s", "S", value, Against(0.05), n=20, unit="class", method="m")
    assert set(alone.missing) == {"no_model", "null_model"}
    assert alone.strongest_control == "chance"


def test_chance_must_be_the_chance_of_the_measure():
    rng = np.random.default_rng(31)
    pos, neg = rng.normal(3, 1, 50), rng.normal(0, 1, 50)
    for value in (Auc(pos, neg), TprAtFpr(pos, neg, 0.1), Advantage(40, 50, 5, 50)):
        with pytest.raises(DataError, match="blind guess"):
            p_value(value, {"chance": 0.05})
    with pytest.raises(DataError, match="at least one control"):
        leakage(Auc(pos, neg), {})


# ---- power ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "control", "measured"), [(20, 0.05, False), (20, 0.25, True), (60, 0.1, True)])
def test_smallest_effect_is_called_with_the_power_it_says(n, control, measured):
    rng = np.random.default_rng(32)
    effect = smallest_effect(n, control, measured=measured)
    assert effect is not None
    called = 0
    for _ in range(600):
        value = _yes(rng, control + effect, n)
        # Names apart: the sum over outcomes takes value and control as independent.
        other = UnitMean(_yes(rng, control, n).values, np.arange(n) + n)
        called += leakage(value, {"c": other if measured else control})[0].low > 0
    assert called / 600 == pytest.approx(0.8, abs=3 * math.sqrt(0.16 / 600))


@pytest.mark.parametrize(("m", "n", "measured"), [(100, 100, False), (150, 150, True)])
def test_smallest_effect_of_an_auc_is_called_with_about_the_power_it_says(m, n, measured):
    rng = np.random.default_rng(33)
    effect = smallest_effect_auc(m, n, measured=measured)
    assert effect is not None
    shift = norm.ppf(0.5 + effect) * math.sqrt(2)
    called = 0
    for _ in range(400):
        value = Auc(rng.normal(shift, 1, m), rng.normal(0, 1, n))
        control = Auc(rng.normal(0, 1, m), rng.normal(0, 1, n)) if measured else 0.5
        called += contrast(value, control).low > 0
    assert called / 400 == pytest.approx(0.8, abs=0.05 + 3 * math.sqrt(0.16 / 400))


def test_smallest_effect_falls_with_more_units_and_rises_with_more_tests():
    assert smallest_effect(1, 0.05) is None
    assert smallest_effect(20, 1.0) is None
    assert smallest_effect_auc(2, 2) is None
    sizes = [smallest_effect(n, 0.05, measured=True) for n in (10, 20, 80, 1000, 1001, 5000)]
    assert all(size is not None for size in sizes)
    assert sizes[:4] == sorted(sizes[:4], reverse=True)
    assert sizes[3] == pytest.approx(sizes[4], rel=0.01)  # the sum over outcomes hands over to the normal law
    assert sizes[5] < sizes[4]
    assert smallest_effect(20, 0.05) < smallest_effect(20, 0.05, alpha=0.005)
    assert smallest_effect(20, 0.05) < smallest_effect(20, 0.05, measured=True)
    assert smallest_effect_auc(50, 50) > smallest_effect_auc(500, 500)
