"""The recommendation follows its rules, and never calls a setting safe."""

import pytest

from frontier_samples import AXES, cost, frontier, leak, row, rows
from seepage.sweep.advice import advise, choices, chosen


def _kinds(found) -> list[str]:
    return [advice.kind for advice in found]


def test_the_most_accurate_choice_that_stays_within_everywhere_is_recommended() -> None:
    best = chosen(rows(), AXES, 0.1)
    assert best is not None
    # Of weak noise only 8 records hold under both conditions; of these 4 epochs are the most accurate.
    assert [r.id for r in best.rows] == ["8-4-0-1", "8-4-300-1"]
    first = advise(rows(), [], AXES, 0.1)[0]
    assert first.kind == "recommended"
    assert "records a client = 8, local epochs = 4, behind noise weak" in first.text
    assert "0.07 at the most under all 2 conditions" in first.text
    assert "not audited again" in first.text
    assert "Its noise guarantees nothing: no epsilon below 10,000 over 60 rounds" in first.text
    assert "something else" not in first.text
    assert "no proof of safety. Tried: linear-layer" in first.text
    assert "a leakage of 0.08 would have been noticed four times in five" in first.text


def test_one_bad_condition_rules_a_choice_out() -> None:
    spoilt = [
        r.model_copy(update={"leaks": {"record_identified": leak(0.4, 0.6, "leaks")}}) if r.id == "8-4-300-1" else r
        for r in rows()
    ]
    best = chosen(spoilt, AXES, 0.1)
    assert best is not None
    assert best.rows[0].id == "8-1-0-1"


def test_a_leak_that_is_small_is_a_leak() -> None:
    """Above its controls under one condition, though no more than the tolerance."""
    small = leak(0.05, 0.09, "leaks")
    some = [r.model_copy(update={"leaks": {"record_identified": small}}) if r.id == "8-4-300-1" else r for r in rows()]
    states = {choice.rows[0].id: choice.state("record_identified", 0.1) for choice in choices(some, AXES)}
    assert states["8-4-0-1"] == "leaks"
    assert states["8-1-0-1"] == "within"
    assert states["1-4-0-1"] == "inconclusive"
    best = chosen(some, AXES, 0.1)
    assert best is not None
    assert best.rows[0].id == "8-1-0-1"


@pytest.mark.parametrize("harm", ["failed row", "failed attack", "unaware"])
def test_what_was_not_wholly_measured_is_not_recommended(harm: str) -> None:
    changes = {
        "failed row": {"status": "failed", "leaks": {}},
        "failed attack": {"failed": {"spear": "out of memory"}},
        "unaware": {"adversary": "unaware"},
    }[harm]
    spoilt = [r.model_copy(update=changes) if r.id.startswith("8-4") and r.id.endswith("-1") else r for r in rows()]
    best = chosen(spoilt, AXES, 0.1)
    assert best is not None
    assert best.rows[0].id == "8-1-0-1"


def test_of_equal_accuracy_the_one_that_sends_less_is_recommended() -> None:
    found = leak(0.0, 0.05, "no leak found")
    some = [
        row("a", 1, 1, 0, found, cost(0.9, bytes_a_round=4000.0)),
        row("b", 8, 1, 0, found, cost(0.9, bytes_a_round=400.0)),
        row("c", 8, 4, 0, found, cost(0.9, bytes_a_round=400.0, seconds_a_round=1e-9)),
        row("d", 1, 4, 0, found, None),
    ]
    best = chosen(some, AXES, 0.1)
    assert best is not None
    assert best.rows[0].id == "b"


def test_where_nothing_stays_within_nothing_is_recommended() -> None:
    found = advise(rows(), [], AXES, 0.01)
    assert found[0].kind == "none"
    assert "No setting can be recommended" in found[0].text
    assert "Nearest comes" in found[0].text
    assert "recommended" not in _kinds(found)


def test_without_a_measure_nothing_is_said() -> None:
    lost = [r.model_copy(update={"leaks": {}, "status": "failed"}) for r in rows()]
    assert chosen(lost, AXES, 0.1) is None
    assert "Nothing was measured" in advise(lost, [], AXES, 0.1)[0].text


def test_what_can_be_recovered_is_told_by_defense() -> None:
    found = [a for a in advise(rows(), [], AXES, 0.1) if a.kind == "recoverable"]
    assert len(found) == 1
    assert found[0].text.startswith("Without a defense: records can be recovered in 8 of 8 settings")
    assert len(found[0].rows) == 8


def test_epsilon_is_that_of_noise_and_its_absence_is_said() -> None:
    (found,) = [a for a in advise(rows(), [], AXES, 0.1) if a.kind == "privacy"]
    assert "epsilon 6 at delta 1e-05 over 60 rounds" in found.text
    assert "4 of 8 noisy choices have none" in found.text
    assert "next to nothing" not in found.text
    large = [
        r.model_copy(update={"cost": cost(0.8, dp_epsilon=4382.0, dp_delta=1e-5, dp_rounds=60)})
        if r.id.endswith("-2")
        else r
        for r in rows()
    ]
    (found,) = [a for a in advise(large, [], AXES, 0.1) if a.kind == "privacy"]
    assert "epsilon 4,382 at delta 1e-05 over 60 rounds (so great an epsilon protects next to nothing)" in found.text
    bare = [r for r in rows() if r.defense is None]
    (none,) = [a for a in advise(bare, [], AXES, 0.1) if a.kind == "privacy"]
    assert "no epsilon" in none.text


@pytest.mark.parametrize(
    ("again", "said"),
    [
        (leak(0.0, 0.08, "no leak found"), "0.08 at the most, confirmed"),
        (leak(0.0, 0.2, "inconclusive"), "NOT CONFIRMED, though no leak was found"),
        (leak(0.5, 0.6, "leaks"), "it leaks"),
        (None, "could not be measured"),
    ],
)
def test_what_a_second_audit_says_of_the_choice_is_told(again, said: str) -> None:
    more = [row("again", 8, 4, 0, again, None, seed=8, defense_label="noise weak")]
    text = advise(rows(), more, AXES, 0.1)[0].text
    assert said in text
    assert "seed 8" in text


def test_a_record_that_came_out_exactly_is_told_beside_a_small_share() -> None:
    exact = leak(0.01, 0.07, "no leak found", facts={"exact_most": 0.004})
    some = [r.model_copy(update={"leaks": {"record_identified": exact}}) if r.id == "8-4-0-1" else r for r in rows()]
    assert "0.004 of the records came out exactly" in advise(some, [], AXES, 0.1)[0].text


def test_labels_are_told_apart_from_records() -> None:
    names = leak(0.6, 0.7, "leaks", measure="label_recall", title="Labels of the batch named")
    some = [r.model_copy(update={"leaks": {**r.leaks, "label_recall": names}}) for r in rows()]
    (found,) = [a for a in advise(some, [], AXES, 0.1) if a.kind == "labels"]
    assert "told by the update in 24 of 24 settings, 16 of which" in found.text
    assert "No defense tried here keeps them" in found.text
    best = advise(some, [], AXES, 0.1)[0]
    assert best.kind == "recommended"
    assert "It does give away something else: labels of the batch named, leakage 0.60." in best.text


def test_points_that_failed_are_counted_with_the_first_reason() -> None:
    some = [*rows(), row("lost", 1, 1, 0, None, None, defense_label="sums")]
    (found,) = [a for a in advise(some, [], AXES, 0.1) if a.kind == "failed"]
    assert found.text.startswith("1 of 25 points could not be measured")
    assert "too few members" in found.text


def test_nothing_is_ever_called_safe() -> None:
    whole = frontier()
    said = " ".join([*(advice.text for advice in whole.advice), *whole.rules]).lower()
    assert said.replace("no proof of safety", "").find("safe") == -1
    assert "private" not in said
