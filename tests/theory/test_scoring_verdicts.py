"""Verdicts and gates: what may be said, and how often it is wrong."""

import numpy as np
import pytest

from seepage.core.record import Applied, Estimate, Failure, Finding, Score
from seepage.core.vocabulary import Access, Leak
from seepage.scoring.controls import Against, Auc
from seepage.scoring.controls import score as make_score
from seepage.scoring.verdicts import gate, verdict

ROUND = Applied(name="round", params={"digits": 1})


def _score(value=0.85, low=0.3, high=0.8, p=1e-5, missing=None, n=20, **more) -> Score:
    given = {
        "name": "judge_accuracy_1",
        "title": "Classes recognised",
        "value": value,
        "low": max(value - 0.1, 0.0),
        "high": min(value + 0.1, 1.0),
        "chance": 0.05,
        "controls": {"no_model": Estimate(value=0.25, low=0.1, high=0.5), "null_model": None},
        "missing": missing or {},
        "leakage": Estimate(value=value - 0.25, low=low, high=high),
        "strongest_control": "no_model",
        "p_value": p,
        "n": n,
        "unit": "class",
        "method": "Wilson",
    }
    return Score(**(given | more))


def _quiet(**more) -> Score:
    return _score(**({"value": 0.27, "low": -0.05, "high": 0.08, "p": 0.3, "n": 400} | more))


def _finding(score: Score | None = None, **more) -> Finding:
    given = {
        "id": "f",
        "key": "k",
        "leak": Leak.INVERSION,
        "attack": "latent",
        "title": "Latent",
        "version": 1,
        "cites": [],
        "params": {},
        "needs": [Access.WEIGHTS],
        "access": [Access.WEIGHTS],
        "budget": None,
        "queries": 1,
        "seconds": 1.0,
        "seed": 0,
        "case": "c",
        "victim": "cnn",
        "defenses": [],
        "adversary": "adaptive",
        "status": "done",
    }
    if score is not None:
        given |= {"scores": {score.name: score}, "headline": score.name}
    return Finding(**(given | more))


def _failed(**more) -> Finding:
    return _finding(status="failed", error=Failure(type="DataError", message="it diverged"), **more)


def test_a_leak_is_called_with_its_evidence():
    found = verdict([_finding(_score(), id="a")])
    assert found.verdict == "leaks"
    text = found.reasons[0]
    for part in ("latent", "weights", "0.85", "[0.75, 0.95]", "no model 0.25", "0.60 [0.30, 0.80]"):
        assert part in text
    assert found.uncontrolled == []


def test_trying_many_attacks_is_paid_for():
    weak = _score(low=0.01, p=0.01)
    assert verdict([_finding(weak, id="a")]).verdict == "leaks"
    several = [_finding(weak, id="a"), *(_finding(_quiet(), id=f"b{i}") for i in range(2))]
    found = verdict(several)
    assert found.verdict != "leaks"
    assert any("corrected for 3 attacks" in reason for reason in found.reasons)
    strong = [_finding(_score(p=0.001), id="a"), *(_finding(_quiet(), id=f"b{i}") for i in range(2))]
    assert verdict(strong).verdict == "leaks"


def test_a_leak_without_all_controls_says_so():
    found = verdict([_finding(_score(missing={"null_model": "a recipe"}), id="a")])
    assert found.verdict == "leaks"
    assert found.uncontrolled == ["null_model"]
    assert "no null-model control" in found.reasons[0]


def test_no_leak_found_needs_controls_and_narrow_intervals():
    assert verdict([_finding(_quiet(), id="a"), _finding(_quiet(), id="b")]).verdict == "no leak found"
    wide = verdict([_finding(_quiet(), id="a"), _finding(_quiet(high=0.3), id="b")])
    assert wide.verdict == "inconclusive"
    assert "0.30" in wide.reasons[0]
    assert verdict([_finding(_quiet(high=0.3), id="a")], tolerance=0.4).verdict == "no leak found"
    blind = verdict([_finding(_quiet(missing={"no_model": "public faces"}), id="a")])
    assert blind.verdict == "inconclusive"
    assert "public faces" in blind.reasons[0]
    partly = [_finding(_quiet(missing={"no_model": "public faces"}), id="a"), _finding(_quiet(), id="b")]
    assert verdict(partly).verdict == "no leak found"
    assert verdict(partly).uncontrolled == ["no_model"]


def test_confounded_findings_never_call_a_leak():
    found = verdict([_finding(_score(), id="a", confounded="members are older photographs")])
    assert found.verdict == "inconclusive"
    assert any("older photographs" in reason for reason in found.reasons)
    assert verdict([_finding(_score(), id="a", confounded="x"), _finding(_quiet(), id="b")]).verdict == "no leak found"


def test_failed_attacks_are_told_and_call_nothing():
    found = verdict([_failed(id="a")])
    assert found.verdict == "not tried"
    assert "it diverged" in found.reasons[0]
    assert verdict([]).verdict == "not tried"
    mixed = verdict([_finding(_quiet(), id="a"), _failed(id="b")])
    # The one that failed might have found something.
    assert mixed.verdict == "inconclusive"
    assert any("it diverged" in reason for reason in mixed.reasons)


def test_what_could_not_be_estimated_is_no_evidence():
    empty = _score(value=0.5, leakage=None, p_value=None, reason="too few records")
    found = verdict([_finding(empty, id="a")])
    assert found.verdict == "inconclusive"
    assert any("too few records" in reason for reason in found.reasons)


def test_the_undefended_victim_decides():
    behind = _finding(_quiet(), id="d", defenses=[ROUND])
    found = verdict([_finding(_score(), id="a"), behind])
    assert found.verdict == "leaks"
    assert any("behind round(digits=1)" in reason and "not above" in reason for reason in found.reasons)
    leaky_arm = _finding(_score(), id="d", defenses=[ROUND], adversary="unaware")
    found = verdict([_finding(_quiet(), id="a"), leaky_arm])
    assert found.verdict == "no leak found"
    assert any("round(digits=1)" in r and "unaware" in r and "leaks" in r for r in found.reasons)
    only = verdict([leaky_arm])
    assert only.verdict == "leaks"
    assert any("behind defenses only" in reason for reason in only.reasons)


def test_the_smallest_effect_is_that_of_the_sharpest_attack():
    found = verdict([_finding(_quiet(n=20), id="a")])
    assert found.smallest_effect is not None
    assert 0.3 < found.smallest_effect < 0.6
    sharper = verdict([_finding(_quiet(n=20), id="a"), _finding(_quiet(n=400), id="b")])
    assert sharper.smallest_effect is not None
    assert sharper.smallest_effect < 0.2
    auc = _score(name="auc", n=400, unit="record", chance=0.5, strongest_control="chance")
    facts = {"members": 200.0, "nonmembers": 200.0}
    found = verdict([_finding(auc, id="m", facts=facts)])
    assert found.smallest_effect == pytest.approx(0.08, abs=0.01)
    assert verdict([_finding(auc, id="m")]).smallest_effect is None


def test_noise_is_called_a_leak_in_at_most_one_of_twenty_audits():
    """Two hundred audits of two blind attacks each, with a twin that is as blind."""
    rng = np.random.default_rng(61)
    rulings = []
    for _ in range(200):
        findings = []
        for attack in range(2):
            value, twin = (Auc(rng.normal(size=40), rng.normal(size=40)) for _ in range(2))
            made = make_score("auc", "AUC", value, Against(0.5, {}, twin), n=80, unit="record", method="m")
            findings.append(_finding(made, id=f"a{attack}", leak=Leak.MEMBERSHIP))
        rulings.append(verdict(findings).verdict)
    assert rulings.count("leaks") <= 10
    assert "no leak found" not in rulings  # forty members cannot exclude a leakage of 0.1


def test_a_gate_holds_the_upper_end():
    inside, outside = _finding(_quiet(high=0.08), id="a"), _finding(_quiet(high=0.2), id="b")
    passed = gate(Leak.INVERSION, 0.1, [inside])
    assert (passed.passed, passed.upper, passed.threshold) == (True, 0.08, 0.1)
    crossed = gate(Leak.INVERSION, 0.1, [inside, outside])
    assert (crossed.passed, crossed.upper) == (False, 0.2)
    assert "0.200" in crossed.message
    behind = _finding(_quiet(high=0.2), id="d", defenses=[ROUND])
    assert "round(digits=1)" in gate(Leak.INVERSION, 0.1, [inside, behind]).message
    assert gate(Leak.INVERSION, 0.08, [inside]).passed


def test_a_gate_does_not_pass_what_was_not_measured():
    inside = _finding(_quiet(high=0.05), id="a")
    assert not gate(Leak.INVERSION, 0.1, []).passed
    assert not gate(Leak.MEMBERSHIP, 0.1, [inside]).passed
    failed = gate(Leak.INVERSION, 0.1, [inside, _failed(id="b")])
    assert not failed.passed
    assert failed.upper == 0.05
    assert "1 attack failed" in failed.message
    assert not gate(Leak.INVERSION, 0.1, [_failed(id="b")]).passed
    empty = _finding(_score(value=0.5, leakage=None, p_value=None, reason="too few"), id="c")
    assert not gate(Leak.INVERSION, 0.1, [inside, empty]).passed
