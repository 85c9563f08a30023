from pathlib import Path
from typing import Any

from report_samples import accuracy, empty, faces, write_run
from seepage.core.record import Applied, AuditRecord
from seepage.report import compare, compare_text, write_compare_html
from seepage.report.compare import Change


def changed(record: AuditRecord, **updates: Any) -> AuditRecord:
    """The record with other scores for the findings named, and with `extra` top-level fields."""
    whole = record.model_dump(mode="json")
    whole |= updates.pop("extra", {})
    for finding in whole["findings"]:
        if updates.get(finding["id"]):
            finding |= updates[finding["id"]]
    whole["findings"] = [f for f in whole["findings"] if updates.get(f["id"], "kept") is not None]
    return AuditRecord.model_validate(whole)


def scores(hits: int) -> dict[str, Any]:
    return {"scores": {"judge_accuracy_1": accuracy(hits).model_dump(mode="json")}}


def change_of(changes: tuple[Change, ...], id_: str) -> Change:
    (found,) = [c for c in changes if (c.before or c.after).id == id_]
    return found


def test_a_record_does_not_differ_from_itself():
    record, _ = faces()
    found = compare(record, record)
    assert not found.config
    assert not any(v.changed for v in found.verdicts)
    assert len(found.changes) == len(record.findings)
    for change in found.changes:
        assert change.before is change.after
        assert change.direction == ("unknown" if change.before.status == "failed" else "unclear")
        if change.difference:
            assert change.difference.value == 0


def test_a_difference_has_the_sign_of_the_change_and_turns_with_the_order():
    record, _ = faces()
    better = changed(record, **{"inv-latent": scores(5)})
    forth = change_of(compare(record, better).changes, "inv-latent")
    back = change_of(compare(better, record).changes, "inv-latent")
    assert forth.measure == "leakage"
    assert forth.difference.value == -0.6
    assert forth.difference.high < 0
    assert (forth.direction, back.direction) == ("less", "more")
    assert back.difference.low == -forth.difference.high


def test_findings_are_matched_by_what_was_done_and_not_by_id_or_place():
    record, _ = faces()
    whole = record.model_dump(mode="json")
    whole["findings"].reverse()
    for k, finding in enumerate(whole["findings"]):
        finding["id"] = f"other-{k}"
    for change in compare(record, AuditRecord.model_validate(whole)).changes:
        assert change.before is not None
        assert change.after is not None
        assert (change.before.attack, change.before.params, change.before.defenses) == (
            change.after.attack,
            change.after.params,
            change.after.defenses,
        )


def test_one_attack_with_two_settings_is_not_mixed_up():
    record, _ = faces()
    other = {"params": {"steps": 9, "starts": 8, "tv": 0.5}}
    for change in compare(record, changed(record, **{"inv-pixels": other})).changes:
        if change.before.id == "inv-pixels-tv":
            assert change.after.id == "inv-pixels-tv"
        if change.before.id == "inv-pixels":
            assert change.after.params["steps"] == 9


def test_a_finding_that_is_gone_does_not_take_the_mate_of_another():
    record, _ = faces()
    found = compare(record, changed(record, **{"inv-pixels": None}))
    assert change_of(found.changes, "inv-pixels").reason == "only in the first"
    assert change_of(found.changes, "inv-pixels-tv").after.id == "inv-pixels-tv"


def test_what_is_in_one_only_is_said():
    record, _ = faces()
    found = compare(record, changed(record, **{"inv-nes": None}))
    assert change_of(found.changes, "inv-nes").reason == "only in the first"
    found = compare(changed(record, **{"inv-nes": None}), record)
    assert change_of(found.changes, "inv-nes").reason == "only in the second"
    # With another defense it is another finding.
    other = {"defenses": [Applied(name="round", params={"digits": 2}).model_dump()]}
    found = compare(record, changed(record, **{"inv-nes-round": other}))
    assert [c.reason for c in found.changes if (c.before or c.after).id == "inv-nes-round"] == [
        "only in the first",
        "only in the second",
    ]


def test_without_controls_the_values_are_compared():
    record, _ = faces()
    score = accuracy(9, no_model=None, null=None).model_dump(mode="json")
    found = compare(record, changed(record, **{"inv-latent": {"scores": {"judge_accuracy_1": score}}}))
    change = change_of(found.changes, "inv-latent")
    assert change.measure == "value"
    assert change.difference.value == 9 / 20 - 17 / 20


def test_settings_that_differ_are_named_by_dotted_key():
    record, _ = faces()
    config = record.config.model_dump()
    config["as_resolved"] = {
        **config["as_resolved"],
        "seed": 8,
        "victim": {"kind": "recipe", "access": "scores"},
        "attack": [{"name": "mi-face", "tv": 0.1}],
    }
    found = compare(record, changed(record, extra={"config": config}))
    by_key = {c.key: (c.before, c.after) for c in found.config}
    assert by_key["seed"] == ("7", "8")
    assert by_key["victim.access"] == ('"weights"', '"scores"')
    assert by_key["victim.budget"] == ("60000", None)
    assert by_key["attack.0.tv"] == (None, "0.1")
    assert by_key["attack.1.name"] == ('"latent"', None)
    assert "attack.0.name" not in by_key


def test_changed_verdicts_are_told():
    record, _ = faces()
    verdicts = record.model_dump(mode="json")["verdicts"]
    verdicts["inversion"]["verdict"] = "no leak found"
    del verdicts["membership"]
    text = compare_text(compare(record, changed(record, extra={"verdicts": verdicts})))
    assert "Inversion: leaks -> no leak found" in text
    assert "Membership: leaks -> not tried" in text


def test_the_text_names_findings_and_settings():
    record, _ = faces()
    text = compare_text(compare(record, changed(record, **{"inv-latent": scores(5)})))
    assert "leaks less: leakage +0.60 [0.30, 0.77] to +0.00" in text
    assert "not compared: failed in the first and the second" in text
    assert text.endswith("Configuration\n  the same\n")


def test_the_page_is_whole_and_names_nobody(tmp_path: Path):
    record, arrays = faces()
    hostile = changed(record, extra={"title": "<script>alert(1)</script>"}, **{"inv-latent": scores(5)})
    a, b = write_run(tmp_path / "a", record, arrays), write_run(tmp_path / "b", hostile, arrays)
    page = write_compare_html(a, b, tmp_path / "out.html").read_text(encoding="utf-8")
    assert "1 finding leaks less." in page
    assert "<script>alert" not in page
    assert "s21" not in page
    assert page.rstrip().endswith("</html>")


def test_empty_records_can_be_compared(tmp_path: Path):
    a, b = (write_run(tmp_path / name, empty(), {}) for name in "ab")
    page = write_compare_html(a, b, tmp_path / "out.html").read_text(encoding="utf-8")
    assert "No finding changed by more than luck explains." in page
