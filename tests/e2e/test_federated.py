"""The example of federated learning, and a captured update, as a user runs them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from calls import ROOT
from safetensors.torch import save_file

from seepage.core.record import AuditRecord
from seepage.core.spec import InputSpec
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet, LocalTraining
from seepage.store.files import read_record
from seepage.testing.cases import smooth_pictures

EXAMPLE = str(ROOT / "examples" / "federated.toml")


@pytest.fixture(scope="module")
def example(seepage, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, AuditRecord, str]:
    """The run folder, the record and what the terminal said."""
    out = tmp_path_factory.mktemp("federated")
    done = seepage("audit", EXAMPLE, "--out", str(out), "--processes", "1")
    # Its gate is there to be crossed: bare updates of a fully connected network hold nothing back.
    assert done.returncode == 3, done.stderr
    (run,) = [path.parent for path in out.glob("*/record.json")]
    return run, read_record(run), done.stdout + done.stderr


def test_the_pre_flight_comes_before_the_attacks(example: tuple[Path, AuditRecord, str]) -> None:
    run, record, said = example
    assert said.index("Can this even work?") < said.index("gradient-linear-layer")
    assert "trying the judge" not in said
    assert "null twin" not in said
    (found,) = record.preflight
    assert found.failing == []
    assert (run / "preflight.json").is_file()
    events = (run / "log.jsonl").read_text()
    assert events.index('"preflight"') < events.index('"gradient-linear-layer"')


def test_the_example_leaks_as_its_pre_flight_says(example: tuple[Path, AuditRecord, str]) -> None:
    _, record, _ = example
    assert record.verdict("gradient") == "leaks"
    (finding,) = [f for f in record.findings if f.attack == "linear-layer"]
    (row,) = [f for f in record.preflight[0].forecasts if f.attack == "linear-layer"]
    assert row.outlook is not None
    assert row.outlook.prospect in ("expected", "possible")
    median = finding.facts["psnr_db_median"]
    assert isinstance(median, float)
    assert median > 60


def test_both_reports_tell_it_in_the_words_of_updates(example: tuple[Path, AuditRecord, str]) -> None:
    run, _, _ = example
    for name in ("report.html", "report.md"):
        text = (run / name).read_text()
        assert "Can it work?" in text
        assert "Record by record" in text
        assert "how many records the client has (4)" in text or "how many records the client has \\(4\\)" in text
        assert "null model" not in text.lower()
        assert "update of other records" in text
        # Records are named only when asked for.
        assert ".pgm" not in text


def test_the_plan_answers_without_attacking(seepage, tmp_path: Path) -> None:
    sets = [f"--set=federated.{key}" for key in ("update=delta", "epochs=4", "local_batch=2", "rate=0.2")]
    done = seepage("plan", EXAMPLE, "--out", str(tmp_path), "--set=victim.net=cnn", *sets)
    assert done.returncode == 0, done.stderr
    assert "the update is one gradient (8 steps of 2 records" in " ".join(done.stdout.split())
    assert "impossible" in done.stdout
    assert not list(tmp_path.glob("*/record.json"))


TOML = """
[victim]
kind = "update"
net = "relu-mlp"
classes = 4
update = "update.safetensors"
weights = "global.safetensors"
input = { shape = [1, 8, 8] }

[federated]
records = 3
"""


def test_a_captured_update_is_read_and_not_scored(seepage, tmp_path: Path) -> None:
    spec, rng = InputSpec((1, 8, 8)), np.random.default_rng(0)
    module = client_net("relu-mlp", spec.shape, 4, 0)
    x, y = smooth_pictures(3, rng, 8), np.array([0, 2, 3])
    update = ClientNet(module, spec, 4).round(x, y, LocalTraining(), rng)
    save_file({name: torch.from_numpy(t) for name, t in update.tensors.items()}, tmp_path / "update.safetensors")
    save_file(dict(module.state_dict()), tmp_path / "global.safetensors")
    (tmp_path / "audit.toml").write_text(TOML)
    done = seepage("audit", str(tmp_path / "audit.toml"), "--out", str(tmp_path / "runs"))
    assert done.returncode == 0, done.stderr
    assert "gradient: inconclusive" in done.stdout
    assert "not scored (no true batch)" in " ".join(done.stdout.split())
    (run,) = [path.parent for path in (tmp_path / "runs").glob("*/record.json")]
    page = (run / "report.html").read_text()
    assert "The batch behind this update is not known here" in page
    assert "explain the update" in page
