"""Every example, run as the README says; and what the main job must show."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from calls import ROOT, environment

from seepage.core.record import AuditRecord
from seepage.store.files import read_record

EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(
    path.name
    for path in EXAMPLES.glob("*.py")
    if "__main__" in path.read_text() or "seepage.audit(" in path.read_text()
)
FILES = sorted(path.name for path in EXAMPLES.glob("*.toml"))


@pytest.fixture(scope="module")
def demo(seepage, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, AuditRecord, float]:
    """The run folder, the record and the seconds of the main job."""
    out = tmp_path_factory.mktemp("demo")
    begun = time.monotonic()
    done = seepage("audit", str(EXAMPLES / "faces.toml"), "--out", str(out))
    seconds = time.monotonic() - begun
    assert done.returncode == 0, done.stderr
    (run,) = [path.parent for path in out.glob("*/record.json")]
    for name in ("report.html", "report.md", "record.json"):
        assert str(run / name) in done.stdout
    return run, read_record(run), seconds


def _score(record: AuditRecord, attack: str, label: str = "", defended: bool = False):
    (found,) = [
        finding
        for finding in record.findings
        if finding.attack == attack and label in finding.title and bool(finding.defenses) == defended
    ]
    assert found.score is not None
    return found.score


def test_faces_come_out_of_the_model(demo: tuple[Path, AuditRecord, float]) -> None:
    _, record, _ = demo
    assert record.verdict("inversion") == "leaks"
    latent = _score(record, "latent")
    # Measured on other splits of the people: .90 to 1.00; the twin gives chance (.05) up to .15.
    assert latent.value is not None
    assert latent.value >= 0.8
    assert latent.leakage is not None
    assert latent.leakage.low > 0
    assert latent.chance == pytest.approx(1 / 20)
    scores = _score(record, "nes")
    assert scores.value is not None
    # Measured on other splits: .85 to 1.00, at times above the search with the weights: both are searches.
    assert scores.value >= 0.6
    labels = _score(record, "brep-mi")
    assert labels.value is not None
    # Measured on other splits: .60 to .75.
    assert labels.value >= 0.35
    for score in (latent, scores, labels):
        twin, without = score.controls["null_model"], score.controls["no_model"]
        assert twin is not None
        assert without is not None
        assert twin.value <= 0.25
        assert set(score.no_model_parts) == {"nearest_public", "prior_draw"}


def test_records_come_out_of_captured_embeddings(demo: tuple[Path, AuditRecord, float]) -> None:
    _, record, _ = demo
    captured = _score(record, "embedding-inversion")
    assert captured.value is not None
    assert captured.value >= 0.7
    # The same attack with the answers to other records shows other people.
    other = captured.controls["null_model"]
    assert other is not None
    assert other.value <= 0.2


def test_the_published_pixel_attack_is_recorded_as_what_it_is(demo: tuple[Path, AuditRecord, float]) -> None:
    published = _score(demo[1], "mi-face", "MI-Face 2015")
    assert published.value is not None
    assert published.value <= 0.4
    assert published.leakage is not None
    assert published.leakage.low <= 0


def test_a_second_leak_and_a_defended_arm_are_there(demo: tuple[Path, AuditRecord, float]) -> None:
    _, record, _ = demo
    assert _score(record, "threshold").name == "auc"
    assert _score(record, "nes", defended=True).leakage is not None
    adversaries = {finding.adversary for finding in record.findings if finding.defenses}
    assert adversaries == {"adaptive"}


def test_the_judge_is_independent_and_says_how_good_it_is(demo: tuple[Path, AuditRecord, float]) -> None:
    _, record, _ = demo
    assert record.judge["family"] != record.victim["family"]
    accuracy = record.judge["accuracy_held_out"]
    assert isinstance(accuracy, float)
    assert accuracy >= 0.9
    assert "noise_confident_share" in record.judge


def test_most_exposed_people_are_ranked_with_evidence(demo: tuple[Path, AuditRecord, float]) -> None:
    run, record, _ = demo
    (finding,) = [f for f in record.findings if f.attack == "latent"]
    assert [e.rank for e in finding.exposed] == list(range(1, 21))
    # Ranked by how far the judge's confidence lies above what can be had without the model.
    margins = [e.value - (e.control or 0.0) for e in finding.exposed]
    assert margins == sorted(margins, reverse=True)
    assert all(e.evidence for e in finding.exposed)
    (artifact,) = [a for a in finding.artifacts if a.kind == "gallery"]
    with np.load(run / artifact.path, allow_pickle=False) as arrays:
        assert arrays["reconstruction"].shape == (20, 1, 32, 32)
        assert np.isfinite(arrays["reconstruction"]).all()
        assert {"real", "nearest_public", "null_reconstruction", "prior_draw"} <= set(arrays.files)


def test_the_main_job_is_quick(demo: tuple[Path, AuditRecord, float]) -> None:
    # 120 s on 2 idle cores is the promise (about 50 s were measured); a busy test machine gets more.
    assert demo[2] < 300
    assert demo[1].run.processes == min(2, os.cpu_count() or 1) or (os.cpu_count() or 1) > 2


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_run(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_recorded_run_of_flower(tmp_path: Path, seepage) -> None:
    pytest.importorskip("flwr", reason="Flower, the extra [fl], is not installed")
    copied = tmp_path / "examples"
    shutil.copytree(EXAMPLES, copied)
    played = subprocess.run(
        [sys.executable, str(copied / "flower_app" / "run.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert played.returncode == 0, played.stderr
    only = ("--set", "attack.0.name=spear", "--out", str(tmp_path / "runs"))
    done = seepage("audit", str(copied / "flower.toml"), *only)
    assert done.returncode == 0, done.stderr
    assert "not scored" in done.stdout


def test_one_update_of_a_client_of_texts(tmp_path: Path, seepage) -> None:
    pytest.importorskip("transformers")
    copied = tmp_path / "examples"
    shutil.copytree(EXAMPLES, copied)
    made = subprocess.run(
        [sys.executable, str(copied / "text_client.py")],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    done = seepage("audit", str(copied / "captured-texts.toml"), "--out", str(tmp_path / "audits"))
    assert done.returncode == 0, done.stderr
    (run,) = [path.parent for path in (tmp_path / "audits").glob("*/record.json")]
    (dager,) = [finding for finding in read_record(run).findings if finding.attack == "dager"]
    # The client's own loop of transformers is the one that is simulated: all of its messages are read.
    assert dager.scores["exact"].value == 1
    assert not dager.scores["exact"].missing


# The others have tests of their own; the frontiers, which take minutes, small versions in test_sweep.py and
# test_text_sweep.py.
_OWN = (
    "captured-texts.toml",
    "faces.toml",
    "federated.toml",
    "federated-frontier.toml",
    "federated-frontier-texts.toml",
    "flower.toml",
)


@pytest.mark.parametrize("name", [name for name in FILES if name not in _OWN])
def test_audit_files_run(name: str, tmp_path: Path, seepage) -> None:
    done = seepage("audit", str(EXAMPLES / name), "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("*/report.html"))
