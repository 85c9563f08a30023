"""Clients who train on texts, audited from a file: plan, audit, two processes, resumed, reported; bad files refused."""

import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from calls import ROOT
from click.testing import CliRunner

from seepage.cli.main import seepage as command_line
from seepage.core.errors import SeepageError
from seepage.core.record import AuditRecord
from seepage.report import write_reports
from seepage.store.files import read_record

pytest.importorskip("transformers")

EXAMPLE = ROOT / "examples" / "federated-texts.toml"
# Small enough for seconds: four clients with two messages each.
SMALL = ("federated.clients=4", "victim.net_options={ width = 64, length = 24, layers = 2 }")


def told_by(*arguments: object) -> tuple[int, str]:
    """Exit code and output of `seepage ARGUMENTS`, in this process."""
    done = CliRunner().invoke(command_line, [str(a) for a in arguments])
    if isinstance(done.exception, SeepageError):
        return done.exception.exit_code, str(done.exception)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def audited(out: Path, *settings: str, file: Path = EXAMPLE, processes: int = 1) -> AuditRecord:
    sets = [part for setting in (*SMALL, *settings) for part in ("--set", setting)]
    code, output = told_by("audit", file, "--out", out, "--processes", processes, *sets)
    assert code == 0, output
    (run,) = [path for path in sorted(out.iterdir()) if (path / "record.json").is_file()][-1:]
    return read_record(run)


def values(record: AuditRecord) -> list[Any]:
    return [(f.id, f.key, {n: s.model_dump() for n, s in f.scores.items()}) for f in record.findings]


def private() -> list[str]:
    lines = (EXAMPLE.parent / "texts" / "messages.csv").read_text("utf-8").splitlines()[1:]
    return [line.rpartition(",")[0] for line in lines]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> AuditRecord:
    return audited(tmp_path_factory.mktemp("texts"), "defense=[]")


def test_a_file_audits_clients_who_train_on_texts(done: AuditRecord) -> None:
    assert [f.status for f in done.findings] == ["done", "done"]
    scores = {f.attack: f.score for f in done.findings}
    for score in scores.values():
        assert score is not None
        assert score.name == "token_recall"
        assert not score.missing
    bag = scores["embedding-rows"]
    assert bag is not None
    assert bag.value is not None
    # The rows that moved are the batch's words: every word of every text is among them.
    assert bag.value >= 0.9
    assert done.data["modality"] == "text"
    assert done.victim["architecture"] == "gpt2"
    assert [check.name for check in done.checks] == ["texts apart"]


def test_the_preflight_speaks_of_texts(done: AuditRecord) -> None:
    (looked,) = done.preflight
    assert {row.attack for row in looked.forecasts} >= {"dager", "embedding-rows"}
    found = {d.name: d for d in looked.diagnostics}
    assert found["token embedding"].holds == "holds"
    assert found["dropout"].holds == "holds"
    # Two layers, of which the last hears of each text by its last token alone: 2 texts x (2 x 4 heads + 1).
    assert found["second attention layer"].holds == "fails"
    assert found["second attention layer"].value == 18
    (dager,) = [row.outlook for row in looked.forecasts if row.attack == "dager"]
    assert dager is not None
    assert dager.prospect == "unlikely"


def test_texts_are_shown_when_asked_and_not_before(done: AuditRecord) -> None:
    run = Path(done.folder or "")
    hidden = write_reports(run)["report"].read_text("utf-8")
    plainly = [p.read_text("utf-8") for p in run.rglob("*") if p.suffix in (".json", ".jsonl", ".md", ".toml")]
    assert not any(text in page for page in (hidden, *plainly) for text in private())
    page = write_reports(run, show_records=True)["report"]
    shown = page.read_text("utf-8").casefold()
    # As the tokenizer writes them: folded.
    assert sum(text.casefold() in shown for text in private()) == 8
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    write_reports(run)


def test_the_plan_says_what_would_run() -> None:
    sets = [part for setting in SMALL for part in ("--set", setting)]
    code, output = told_by("plan", EXAMPLE, *sets)
    assert code == 0, output
    assert "gradient-dager" in output
    assert "Can this even work" in output


@pytest.mark.slow
def test_two_processes_find_the_same_and_nothing_runs_twice(done: AuditRecord, tmp_path: Path) -> None:
    two = audited(tmp_path, "defense=[]", processes=2)
    assert values(two) == values(done)
    again = audited(tmp_path, "defense=[]", processes=2)
    assert again.run.cached == 2


def test_a_folder_is_a_model_and_the_next_token_a_task(tmp_path: Path) -> None:
    from seepage.models.text_nets import text_net

    texts = [*private(), *(EXAMPLE.parent / "texts" / "public.txt").read_text("utf-8").splitlines()]
    net = text_net("tiny-gpt", texts, 2, 0, "causal-lm", width=32, length=24, layers=2)
    net.module.save_pretrained(tmp_path / "model")
    net.tokenizer.save_pretrained(tmp_path / "model")
    shutil.copytree(EXAMPLE.parent / "texts", tmp_path / "texts")
    (tmp_path / "members.txt").write_text("\n".join(private()), "utf-8")
    (tmp_path / "audit.toml").write_text(
        """
[victim]
kind = "federated"
path = "model"
task = "causal-lm"
[data]
members = "members.txt"
public = "texts/public.txt"
[federated]
clients = 2
records = 1
[[attack]]
name = "dager"
""",
        "utf-8",
    )
    code, output = told_by("audit", tmp_path / "audit.toml", "--out", tmp_path / "runs", "--processes", 1)
    assert code == 0, output
    (run,) = [path.parent for path in (tmp_path / "runs").glob("*/record.json")]
    (finding,) = read_record(run).findings
    assert finding.score is not None
    assert finding.score.value is not None
    # All but the last token of a text.
    assert finding.score.value >= 0.8


def test_a_model_can_be_a_checkpoint(tmp_path: Path) -> None:
    held = ["federated.trained=5", 'data.nonmembers="texts/messages.csv"', 'data.overlap="drop"']
    code, output = told_by("plan", EXAMPLE, *[p for s in (*SMALL, *held) for p in ("--set", s)])
    assert code == 2
    assert "non-members are needed" in output
    halves = (EXAMPLE.parent / "texts" / "messages.csv").read_text("utf-8").splitlines()
    (tmp_path / "one.csv").write_text("\n".join(halves[:33]), "utf-8")
    (tmp_path / "other.csv").write_text("\n".join([halves[0], *halves[33:]]), "utf-8")
    settings = ["federated.trained=5", f'data.members="{tmp_path}/one.csv"', f'data.nonmembers="{tmp_path}/other.csv"']
    code, output = told_by("plan", EXAMPLE, *[p for s in (*SMALL, *settings) for p in ("--set", s)])
    assert code == 0, output


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ('victim.wieghts="x"', "unknown key 'wieghts'"),
        ('victim.nett="x"', "did you mean 'net'"),
        ('victim.task="classify"', "did you mean 'classification'"),
        ('victim.vocabulary="private"', "'all' or 'public'"),
        ("victim.input={ shape = [3] }", "[victim] input is for arrays"),
        ('victim.access="rounds"', "sees 'updates'"),
        ('data.text="txt"', "did you mean 'text'"),
        ('data.target="topik"', "did you mean 'topic'"),
        ('data.taget="topic"', "did you mean 'target'"),
        ('data.encode="onehot"', "encode is for other records than texts"),
        ('victim.net="relu-mlp"', "is no model of texts"),
        ('victim.path="folder"', "one of the two"),
        ("federated.momentum=0.9", "captured updates"),
        ('federated.knows=["lables"]', "did you mean 'labels'"),
        ("federated.clients=99", "give more members"),
        ('recipe={ fit = "cnn" }', "[recipe] is for victims that read arrays"),
        ('data.members="texts/public.txt"', "no CSV, TSV or Parquet"),
        ('data.members="texts/none.csv"', "there is no file"),
        ("victim.net_options={ wide = 3 }", "does not take"),
    ],
)
def test_bad_files_get_one_message(setting: str, said: str) -> None:
    code, output = told_by("plan", EXAMPLE, "--set", setting)
    assert code == 2
    assert said in output
    assert "Traceback" not in output


def test_a_column_of_texts_is_for_models_of_texts() -> None:
    code, output = told_by("plan", ROOT / "examples" / "faces.toml", "--set", 'data.text="x"')
    assert code == 2
    assert "[data] text" in output
