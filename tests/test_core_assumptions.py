"""The assumption ladder: guesses never overwrite knowledge, and the threat model's letter follows what is known."""

import numpy as np
import pytest

from seepage.core.assumptions import THREATS, Assumptions, Rung, Standing


def test_a_guess_fills_what_is_unknown_and_leaves_what_is_known() -> None:
    ladder = Assumptions(batch=Rung.known(4)).guess(batch=8, labels=np.arange(4))
    assert ladder.batch == Rung(4, Standing.KNOWN)
    assert ladder.labels.standing is Standing.GUESSED


def test_a_rung_that_does_not_exist_is_refused() -> None:
    with pytest.raises(AttributeError):
        Assumptions().guess(weather="fine")


@pytest.mark.parametrize(
    ("known", "letter"),
    [
        ({}, "A"),
        ({"batch": 4}, "B"),
        ({"labels": 1, "mode": "eval"}, "B"),
        ({"rate": 0.1}, "C"),
        ({"batch": 4, "prior": "public records"}, "D"),
        ({"prior": "public records", "statistics": 1}, "E"),
    ],
)
def test_the_letter_is_that_of_the_most_that_is_known(known: dict[str, object], letter: str) -> None:
    assert Assumptions(**{k: Rung.known(v) for k, v in known.items()}).letter == letter  # type: ignore[arg-type]


def test_a_server_that_alters_the_model_is_an_active_one() -> None:
    assert Assumptions(active=True).letter == "F"
    assert Assumptions(active=True, prior=Rung.known("public records")).letter == "G"
    assert Assumptions(active=True, selects=True).letter == "H"
    assert set(THREATS) == set("ABCDEFGH")


def test_guesses_cost_the_adversary_nothing() -> None:
    assert Assumptions().guess(rate=0.1, labels=1).letter == "A"


def test_only_what_an_attack_uses_is_stated() -> None:
    ladder = Assumptions(batch=Rung.known(4), rate=Rung.known(0.1), prior=Rung.known("public records"))
    assert ladder.only(frozenset({"batch"})).letter == "B"
    facts = ladder.only(frozenset({"batch"})).facts()
    assert facts["threat_model"] == "B (informed eavesdropper)"
    assert facts["assumptions_known"] == "batch 4"
    assert "rate" in str(facts["assumptions_unknown"])


def test_private_values_are_not_written_out() -> None:
    facts = Assumptions(labels=Rung.known(np.array([3, 1]))).facts()
    assert facts["assumptions_known"] == "labels"
