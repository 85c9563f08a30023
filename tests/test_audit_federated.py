"""Audit files of federations: what is wrong is said in one sentence; a run is whole and resumable."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from seepage.audit.api import audit_file, setting_of_file
from seepage.audit.priors import wanted
from seepage.core.errors import ConfigError, DataError, ModelError
from seepage.core.records import Records
from seepage.core.spec import InputSpec
from seepage.models.client_nets import client_net
from seepage.models.priors import PCAPrior, Shelf

PLAIN = """
seed = 1
[victim]
kind = "federated"
net = "relu-mlp"
net_options = { hidden = 40 }
[data]
builtin = "digits"
split = "records"
members_share = 0.3
nonmembers_share = 0.3
public_share = 0.3
[federated]
clients = 4
records = 2
[run]
processes = 1
[[attack]]
name = "linear-layer"
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "audit.toml"
    file.write_text(text)
    return file


def test_a_federation_is_audited_from_a_file(tmp_path: Path) -> None:
    record, _ = audit_file(write(tmp_path, PLAIN), out=tmp_path / "runs")
    (finding,) = record.findings
    assert finding.status == "done", finding.error
    assert finding.access == ["updates"]
    assert finding.facts["threat_model"] == "B (informed eavesdropper)"
    assert finding.score is not None
    assert finding.score.controls["null_model"] is not None
    assert record.victim["parameters"] is not None
    assert not any(left.leak == "inversion" for left in record.left_out)
    again, _ = audit_file(write(tmp_path, PLAIN), out=tmp_path / "runs")
    assert again.run.cached == 1
    assert again.comparable() == record.comparable()


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (('net = "relu-mlp"', 'net = "relu-mpl"'), ConfigError, "did you mean 'relu-mlp'"),
        (("net_options = { hidden = 40 }", "net_options = { hiden = 40 }"), ConfigError, "option it does not take"),
        (('net = "relu-mlp"\nnet_options = { hidden = 40 }', ""), ConfigError, "needs net"),
        (("records = 2", "records = 900"), ConfigError, "give more members, or fewer clients"),
        (("records = 2", 'records = 2\nknows = ["lables"]'), ConfigError, "did you mean 'labels'"),
        (("records = 2", "records = 2\ntrained = 5\n"), None, ""),
        (('kind = "federated"', 'kind = "federated"\naccess = "scores"'), ConfigError, "sees 'updates'"),
        (('kind = "federated"', 'kind = "federated"\nspeed = 3'), ConfigError, "unknown key 'speed'"),
        (('name = "linear-layer"', 'name = "latent"'), ConfigError, "cannot run here"),
        (("nonmembers_share = 0.3", "nonmembers_share = 0"), None, ""),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, change: tuple[str, str], error: type[Exception] | None, says: str
) -> None:
    assert change[0] in PLAIN
    file = write(tmp_path, PLAIN.replace(*change))
    if error is None:
        record, _ = audit_file(file, out=tmp_path / "runs")
        assert record.findings[0].status == "done"
        return
    with pytest.raises(error, match=says):
        audit_file(file, out=tmp_path / "runs")


def test_a_model_cannot_be_trained_without_records_that_no_client_holds(tmp_path: Path) -> None:
    text = PLAIN.replace("nonmembers_share = 0.3", "nonmembers_share = 0").replace(
        "records = 2", "records = 2\ntrained = 5"
    )
    with pytest.raises(DataError, match="non-members with classes are needed"):
        audit_file(write(tmp_path, text), out=tmp_path / "runs")


def test_without_spare_records_the_control_is_named_as_missing(tmp_path: Path) -> None:
    text = (
        PLAIN.replace("nonmembers_share = 0.3", "nonmembers_share = 0")
        .replace("members_share = 0.3", "members_share = 0.01")
        .replace("clients = 4", "clients = 8")
    )
    record, _ = audit_file(write(tmp_path, text), out=tmp_path / "runs")
    score = record.findings[0].score
    assert score is not None
    assert "that no client holds" in score.missing["null_model"]


def test_weights_are_read_from_a_file_and_must_fit(tmp_path: Path) -> None:
    net = client_net("relu-mlp", (1, 8, 8), 10, 5, hidden=40)
    save_file(net.state_dict(), str(tmp_path / "w.safetensors"))
    named = 'net_options = { hidden = 40 }\nweights = "w.safetensors"'
    record, _ = audit_file(
        write(tmp_path, PLAIN.replace("net_options = { hidden = 40 }", named)), out=tmp_path / "runs"
    )
    assert record.findings[0].status == "done"
    save_file({"other": torch.zeros(3)}, str(tmp_path / "w.safetensors"))
    with pytest.raises(ModelError, match=r"w\.safetensors"):
        audit_file(
            write(tmp_path, PLAIN.replace("net_options = { hidden = 40 }", named)), out=tmp_path / "runs", fresh=True
        )


def test_a_federated_table_belongs_to_a_federation(tmp_path: Path) -> None:
    text = PLAIN.replace('kind = "federated"\nnet = "relu-mlp"\nnet_options = { hidden = 40 }', 'kind = "recipe"')
    with pytest.raises(ConfigError, match="belongs to"):
        audit_file(write(tmp_path, text + '\n[recipe]\nfit = "softmax"\n'), out=tmp_path / "runs")


def test_one_process_and_two_give_the_same(tmp_path: Path) -> None:
    records = []
    for processes in (1, 2):
        text = PLAIN.replace("[[attack]]", '[[attack]]\nname = "linear-layer"\nlabel = "twice"\n[[attack]]')
        records.append(audit_file(write(tmp_path, text), out=tmp_path / str(processes), processes=processes)[0])
    assert records[0].comparable() == records[1].comparable()
    np.testing.assert_equal(len(records[0].findings), 2)


def test_a_prior_that_an_attack_searches_is_trained_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan of the run says so, and the shelf is asked for it before any attack is played."""
    text = PLAIN.replace('name = "linear-layer"', 'name = "latent-matching"\nprior = "gan"\nsteps = 2\nrestarts = 1')
    asked: list[str] = []

    def fitted(shelf: Shelf, kind: str, public: Records, spec: InputSpec, **options: object) -> PCAPrior:
        asked.append(kind)
        return PCAPrior.fit(public.x, spec, 8)

    monkeypatch.setattr(Shelf, "get", fitted)
    setting, _ = setting_of_file(write(tmp_path, text), out=tmp_path / "runs")
    assert wanted([cell.attack for cell in setting.plan().cells], setting.scene) == ["gan"]
    record, _ = audit_file(write(tmp_path, text), out=tmp_path / "runs")
    assert record.findings[0].status == "done", record.findings[0].error
    # Once by the run itself, then by the attack on the updates and on the control.
    assert asked == ["gan"] * 3
