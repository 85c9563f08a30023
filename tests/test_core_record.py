"""The record is JSON throughout, and two runs of one configuration compare equal."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from seepage.core.record import (
    SCHEMA_VERSION,
    Applied,
    Artifact,
    AuditRecord,
    Check,
    Config,
    Estimate,
    Exposure,
    Failure,
    Finding,
    GateResult,
    LeftOut,
    Run,
    Score,
    Tool,
    Verdict,
)
from seepage.core.vocabulary import Access, Leak

NUMBERS = st.floats(-1e6, 1e6)


def an_estimate(value: float = 0.5) -> Estimate:
    return Estimate(value=value, low=value - 0.1, high=value + 0.1)


def a_score(**changes: Any) -> Score:
    given_: dict[str, Any] = {
        "name": "auc",
        "title": "AUC",
        "value": 0.7,
        "low": 0.6,
        "high": 0.8,
        "chance": 0.5,
        "controls": {"no_model": an_estimate(), "null_model": None},
        "no_model_parts": {"typicality": an_estimate()},
        "missing": {"null_model": "a recipe"},
        "leakage": an_estimate(0.2),
        "strongest_control": "no_model",
        "p_value": 0.01,
        "n": 120,
        "unit": "record",
        "method": "DeLong",
    }
    return Score(**{**given_, **changes})


def a_finding(**changes: Any) -> Finding:
    given_: dict[str, Any] = {
        "id": "membership-threshold",
        "key": "ab12",
        "leak": Leak.MEMBERSHIP,
        "attack": "threshold",
        "title": "Loss threshold",
        "version": 1,
        "cites": ["Yeom 2018"],
        "params": {"statistic": "loss"},
        "needs": [Access.SCORES],
        "access": [Access.LABELS, Access.SCORES, Access.TOP_K],
        "budget": 1000,
        "queries": 120,
        "queries_by_access": {"scores": 120},
        "seconds": 1.5,
        "seed": 7,
        "case": "membership",
        "victim": "victim",
        "defenses": [Applied(name="round", params={"digits": 1})],
        "adversary": "adaptive",
        "status": "done",
        "headline": "auc",
        "scores": {"auc": a_score()},
        "exposed": [Exposure(id="r1", rank=1, value=0.9, evidence="loss 0.01")],
        "artifacts": [Artifact(kind="curves", path="arrays/a.npz", private=False, keys=["fpr"])],
    }
    return Finding(**{**given_, **changes})


def a_record(**changes: Any) -> AuditRecord:
    given_: dict[str, Any] = {
        "tool": Tool(version="0.1.0"),
        "run": Run(id="1", started="2026-01-01T00:00:00Z", finished="2026-01-01T00:01:00Z", seconds=60, processes=1),
        "environment": {"python": "3.11"},
        "config": Config(as_written={"seed": 7}, as_resolved={"seed": 7, "access": "scores"}),
        "victim": {"family": "cnn", "accuracy": 0.9, "unknown": None},
        "data": {"members": 200.0},
        "checks": [Check(name="overlap", passed=True, message="none", value=an_estimate())],
        "findings": [a_finding()],
        "left_out": [LeftOut(attack="nes", leak=Leak.INVERSION, reason="no public records")],
        "verdicts": {Leak.MEMBERSHIP: Verdict(verdict="leaks", reasons=["threshold: 0.2 above"])},
        "gates": [GateResult(leak=Leak.MEMBERSHIP, threshold=0.1, upper=0.3, passed=False, message="crossed")],
        "limits": ["extraction was not tried"],
    }
    return AuditRecord(**{**given_, **changes})


def test_json_and_back() -> None:
    record = a_record()
    again = AuditRecord.model_validate_json(record.model_dump_json())
    assert again == record
    assert again.schema_version == SCHEMA_VERSION
    assert json.loads(record.model_dump_json())["verdicts"]["membership"]["verdict"] == "leaks"


@given(value=NUMBERS, low=NUMBERS, high=NUMBERS, n=st.integers(1, 10**6))
def test_numbers_survive_json_exactly(value: float, low: float, high: float, n: int) -> None:
    score = a_score(value=value, low=low, high=high, n=n)
    assert Score.model_validate_json(score.model_dump_json()) == score


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_no_number_that_json_lacks_gets_in(broken: float) -> None:
    for field in ("value", "low", "high", "chance", "p_value"):
        with pytest.raises(ValidationError):
            a_score(**{field: broken})
    with pytest.raises(ValidationError):
        a_finding(seconds=broken)
    with pytest.raises(ValidationError):
        Estimate(value=broken, low=0, high=1)


def test_unknown_keys_are_refused_and_nothing_can_be_changed() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        a_score(comment="well")
    with pytest.raises(ValidationError, match="frozen"):
        a_finding().queries = 0  # type: ignore[misc]


def test_what_two_runs_may_differ_in_is_not_compared() -> None:
    record = a_record()
    later = a_record(
        run=Run(id="2", started="2027-01-01T00:00:00Z", finished="x", seconds=1, processes=4, resumed=3, cached=1),
        environment={"python": "3.12", "cores": "64"},
        findings=[a_finding(seconds=99.0)],
    )
    assert later != record
    assert later.comparable() == record.comparable()


@pytest.mark.parametrize(
    "changes",
    [
        {"findings": [a_finding(queries=121)]},
        {"findings": [a_finding(scores={"auc": a_score(value=0.71)})]},
        {"findings": []},
        {"victim": {"family": "mlp"}},
        {"verdicts": {}},
        {"config": Config(as_written={"seed": 8}, as_resolved={"seed": 8})},
    ],
)
def test_what_makes_a_result_is_compared(changes: dict[str, Any]) -> None:
    assert a_record(**changes).comparable() != a_record().comparable()


def test_verdicts_carry_their_reasons() -> None:
    record = a_record()
    verdict = record.verdict("membership")
    assert verdict == "leaks"
    assert verdict.reasons == ["threshold: 0.2 above"]
    assert record.verdict(Leak.STEALING) == "not tried"
    assert record.verdict(Leak.STEALING).reasons
    with pytest.raises(ValueError, match="'telepathy' is not a valid Leak"):
        record.verdict("telepathy")


def test_the_headline_is_one_of_the_scores() -> None:
    score = a_finding().score
    assert score is not None
    assert score.name == "auc"
    assert a_finding(headline=None).score is None
    failed = a_finding(status="failed", headline=None, scores={}, error=Failure(type="ModelError", message="gone"))
    assert failed.score is None
    assert Finding.model_validate_json(failed.model_dump_json()) == failed


def test_the_schema_says_what_every_field_of_a_score_means() -> None:
    fields = AuditRecord.model_json_schema()["$defs"]["Score"]["properties"]
    for name in ("value", "chance", "controls", "missing", "leakage", "p_value", "n", "unit", "method"):
        assert fields[name].get("description"), name
