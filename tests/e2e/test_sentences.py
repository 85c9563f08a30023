"""A vector database audited: from a file and from Python, in one process and two, again and with a report."""

import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import seepage
from fixtures_encoder import save_encoder
from seepage.cli.main import seepage as command_line
from seepage.core.errors import ConfigError, DataError, SeepageError
from seepage.core.record import AuditRecord
from seepage.core.words import words
from seepage.report import write_reports
from seepage.report.html import render_html
from seepage.report.load import load_all, load_arrays
from seepage.report.words import hero
from seepage.store.files import read_record
from seepage.testing.texts import BagEncoder, sentences

AUDIT = """
title = "Notes in a vector database"
seed = 3

[victim]
kind = "encoder"
path = "tiny"

[data]
members = "members.txt"
public = "public.txt"

[[attack]]
name = "sentence-words"

[[attack]]
name = "sentence-search"
queries_per_text = 10
learned = 300

[run]
processes = {processes}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an encoder, texts and an audit file."""
    place = tmp_path_factory.mktemp("sentences")
    rng = np.random.default_rng(5)
    private, public = sentences(12, rng), sentences(150, rng)
    save_encoder(place / "tiny", [*private, *public])
    (place / "members.txt").write_text("\n".join(private), "utf-8")
    (place / "public.txt").write_text("\n".join(public), "utf-8")
    (place / "audit.toml").write_text(AUDIT.format(processes=1), "utf-8")
    (place / "two.toml").write_text(AUDIT.format(processes=2), "utf-8")
    return place


def told_by(*arguments: object) -> tuple[int, str]:
    """Exit code and output of `seepage ARGUMENTS`, in this process."""
    done = CliRunner().invoke(command_line, [str(a) for a in arguments])
    if isinstance(done.exception, SeepageError):
        return done.exception.exit_code, str(done.exception)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def cli(*arguments: object) -> str:
    code, output = told_by(*arguments)
    assert code == 0, output
    return output


def record_of(out: Path) -> AuditRecord:
    (run,) = [path for path in sorted(out.iterdir()) if (path / "record.json").is_file()][-1:]
    return read_record(run)


@pytest.fixture(scope="module")
def done(place: Path) -> AuditRecord:
    cli("audit", place / "audit.toml", "--out", place / "runs")
    return record_of(place / "runs")


def values(record: AuditRecord) -> list[Any]:
    return [(f.id, f.key, f.queries, {n: s.model_dump() for n, s in f.scores.items()}) for f in record.findings]


def test_an_audit_file_audits_an_encoder(done: AuditRecord) -> None:
    assert [f.status for f in done.findings] == ["done", "done"]
    for finding in done.findings:
        score = finding.score
        assert score is not None
        assert score.name == "content_recall"
        assert score.n == 12
        assert None not in score.controls.values()
        assert set(score.no_model_parts) == {"public_text", "nearest_public"}
        assert not score.missing
        assert finding.control_queries == finding.queries
    assert done.victim["pooling"] == "mean"
    assert done.data["modality"] == "text"
    assert [check.name for check in done.checks] == ["texts apart"]
    assert {artifact.private for f in done.findings for artifact in f.artifacts if artifact.kind == "gallery"} == {True}


def test_what_was_recovered_is_private(done: AuditRecord, place: Path) -> None:
    run = Path(done.folder or "")
    arrays = [a for f in done.findings for a in f.artifacts if a.kind == "gallery"]
    for artifact in arrays:
        assert stat.S_IMODE((run / artifact.path).stat().st_mode) == 0o600
        assert load_arrays(run, artifact)["truth"].shape == (12,)
    private = (place / "members.txt").read_text("utf-8").splitlines()
    plainly = [path for path in run.rglob("*") if path.suffix in (".json", ".jsonl", ".md", ".html", ".toml")]
    assert plainly
    for path in plainly:
        assert not [text for text in private if text in path.read_text("utf-8")], path


def test_the_report_shows_texts_only_when_asked(done: AuditRecord, place: Path) -> None:
    run, private = Path(done.folder or ""), (place / "members.txt").read_text("utf-8").splitlines()
    page = write_reports(run, show_records=True)["report"]
    shown = page.read_text("utf-8")
    assert all(text in shown for text in private)
    assert "recovered from another text&#39;s vector" in shown
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    hidden = write_reports(run)["report"].read_text("utf-8")
    assert not any(text in hidden for text in private)
    assert "Can a text be read from the vector" in hidden
    arrays, _ = load_all(run, done, show_records=True)
    given = render_html(done, arrays, show_records=False)
    assert not any(text in given for text in private), "texts that are at hand were shown without being asked for"
    assert hero(["leak"], "texts")[1] == "This model gives away the texts it was asked about."


@pytest.mark.slow
def test_two_processes_find_the_same(done: AuditRecord, place: Path) -> None:
    cli("audit", place / "two.toml", "--out", place / "two")
    other = record_of(place / "two")
    assert other.run.processes == 2
    assert values(other) == values(done)


def test_a_second_run_uses_the_findings_of_the_first(done: AuditRecord, place: Path) -> None:
    cli("audit", place / "audit.toml", "--out", place / "runs")
    again = record_of(place / "runs")
    assert again.run.cached == 2
    assert values(again) == values(done)


def test_another_encoder_is_another_victim(done: AuditRecord, place: Path, tmp_path: Path) -> None:
    from seepage.audit.api import setting_of_file

    before = {cell.key for cell in setting_of_file(place / "audit.toml")[0].plan().cells}
    assert before == {finding.key for finding in done.findings}
    config = place / "tiny" / "1_Pooling" / "config.json"
    content = config.read_text()
    try:
        config.write_text('{"pooling_mode_cls_token": true}')
        assert not before & {cell.key for cell in setting_of_file(place / "audit.toml")[0].plan().cells}
    finally:
        config.write_text(content)


def test_auto_takes_the_attacks_on_texts_and_says_why_others_are_left_out(place: Path, tmp_path: Path) -> None:
    record = seepage.audit(
        BagEncoder(),
        members=(place / "members.txt").read_text("utf-8").splitlines(),
        public=(place / "public.txt").read_text("utf-8").splitlines(),
        access="embeddings",
        out=tmp_path,
    )
    assert {f.attack for f in record.findings} == {"sentence-nearest", "sentence-words"}
    assert record.verdict("inversion") == "leaks"
    reasons = {left.attack: left.reason for left in record.left_out}
    assert "minutes" in reasons["sentence-search"]
    assert reasons["embedding-inversion"] == "it works on image, table, not on text"
    # A leak that no attack of can be played on an encoder is said once, not attack by attack.
    assert "threshold" not in reasons
    assert any("Not tried: " in limit and "membership" in limit for limit in record.limits)
    assert not [reason for reason in reasons.values() if not reason.strip()]


def test_attacks_on_texts_are_left_out_of_other_audits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((60, 4)).astype(np.float32), np.arange(60) % 2
    record = seepage.audit(
        lambda x: np.stack([x[:, 0], 1 - x[:, 0]], axis=1),
        members=(x[:30], y[:30]),
        nonmembers=(x[30:], y[30:]),
        attacks=["auto"],
        budget=100,
        out=tmp_path,
    )
    reasons = {left.attack: left.reason for left in record.left_out}
    assert reasons["sentence-words"] == "it works on text, not on table"


def test_a_function_from_texts_is_an_encoder(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    record = seepage.audit(
        BagEncoder().embed,
        members=sentences(6, rng),
        public=sentences(60, rng),
        access="embeddings",
        attacks={"name": "sentence-words", "plain": True},
        out=tmp_path,
    )
    (finding,) = record.findings
    assert finding.status == "done"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"victim.path": "nowhere"}, "is not there"),
        ({"victim.access": "scores"}, "offers embeddings: grant one of these"),
        ({"data.members": "public.txt"}, "public texts too"),
        ({"data.text": "note"}, "is no CSV"),
        ({"data.nonmembers": "public.txt"}, "no part in the audit of an encoder"),
        ({"data.target": "y"}, "target is for other records"),
        ({"data.limt": "3"}, "did you mean 'limit'"),
        ({"victim.build": "a:b"}, "no option 'build'"),
        ({"recipe.fit": "cnn"}, "has no use for one"),
        ({"victim.input.shape": "[3]"}, "the input of an encoder is a text"),
        ({"attack.0.name": "nes"}, "not on text"),
    ],
)
def test_what_cannot_be_used_is_said(place: Path, tmp_path: Path, changes: dict[str, str], told: str) -> None:
    settings = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    code, output = told_by("audit", place / "audit.toml", "--out", tmp_path, *settings)
    assert code == 2, output
    assert told in " ".join(output.split())


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"nonmembers": ["a"]}, ConfigError, "nonmembers"),
        ({"recipe": "cnn"}, ConfigError, "recipe"),
        ({"model": object()}, ConfigError, "is no encoder of texts"),
        ({"members": np.zeros((3, 2))}, DataError, "a list of texts"),
        ({"pooling": "mean"}, ConfigError, "is an encoder already"),
    ],
)
def test_what_cannot_be_used_is_said_in_python(
    tmp_path: Path, given: dict[str, Any], error: type[Exception], told: str
) -> None:
    call = {"members": ["a b", "c d"], "public": ["e f"], "access": "embeddings", "out": tmp_path} | given
    with pytest.raises(error, match=told):
        seepage.audit(call.pop("model", BagEncoder()), **call)


def test_words_of_members_stay_out_of_the_terminal(place: Path, tmp_path: Path) -> None:
    told = cli("audit", place / "audit.toml", "--out", tmp_path, "--set", "attack.1.queries_per_text=3")
    private = {w for line in (place / "members.txt").read_text("utf-8").splitlines() for w in words(line) if len(w) > 4}
    assert not private & set(words(told))
