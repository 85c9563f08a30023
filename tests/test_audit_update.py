"""Captured updates: read from files and objects, refused with one message, scored with the true batch or not at all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import seepage
from seepage.cases.gradient import knowledge
from seepage.cases.replay import UpdateReplay
from seepage.core.assumptions import Assumptions, Rung
from seepage.core.errors import ConfigError, DataError, ModelError, SeepageError, TrustError
from seepage.core.record import AuditRecord
from seepage.core.spec import InputSpec
from seepage.models.client_nets import client_net
from seepage.models.federated import ClientNet, LocalTraining
from seepage.testing.cases import smooth_pictures

SPEC = InputSpec((1, 8, 8))
CLASSES = 4
State = dict[str, Tensor]


def module(seed: int = 0, **options: int) -> nn.Module:
    return client_net("relu-mlp", SPEC.shape, CLASSES, seed, **{"hidden": 150, **options})


def batch(n: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return smooth_pictures(n, rng, 8), np.array([0, 2, 2, 1, 3, 0])[:n]


def sent(net: nn.Module, local: LocalTraining | None = None, n: int = 3) -> State:
    x, y = batch(n)
    update = ClientNet(net, SPEC, CLASSES).round(x, y, local or LocalTraining(), np.random.default_rng(1))
    return {name: torch.from_numpy(np.array(tensor)) for name, tensor in update.tensors.items()}


def pair(net: nn.Module, local: LocalTraining) -> tuple[State, State]:
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    change = sent(net, local)
    return before, {name: tensor + change.get(name, 0) for name, tensor in before.items()}


def audited(update: Any, tmp_path: Path, net: nn.Module | None = None, **more: Any) -> AuditRecord:
    return seepage.audit_update(
        net or module(), update, input=SPEC, out=tmp_path, attacks=["linear-layer"], fresh=True, **more
    )


# What comes out


def test_without_the_batch_nothing_is_scored_and_the_update_is_explained(tmp_path: Path) -> None:
    record = audited(sent(module()), tmp_path, records=3)
    (finding,) = record.findings
    assert finding.status == "done"
    assert finding.headline is None
    assert finding.scores == {}
    assert record.verdict("gradient") == "inconclusive"
    assert "no true batch" in record.verdict("gradient").reasons[0]
    found, grey = finding.facts["consistency"], finding.facts["consistency_constant"]
    assert isinstance(found, float)
    assert isinstance(grey, float)
    assert found < 1e-4 < 0.1 < grey
    (artifact,) = finding.artifacts
    assert artifact.private
    path = Path(record.folder or "") / artifact.path
    assert path.stat().st_mode & 0o777 == 0o600
    with np.load(path, allow_pickle=False) as arrays:
        assert "real" not in arrays.files
        # What was recovered is the batch, in some order.
        apart = np.abs(arrays["reconstruction"][:, None] - batch()[0][None]).max(axis=(2, 3, 4))
        assert apart.min(axis=0).max() < 1e-3


def test_a_gate_is_not_passed_by_what_was_not_scored(tmp_path: Path) -> None:
    record = audited(sent(module()), tmp_path, records=3, gate={"gradient": 0.5})
    assert not record.gates[0].passed


def test_with_the_batch_findings_are_scored_beside_another_batch(tmp_path: Path) -> None:
    others = smooth_pictures(30, np.random.default_rng(8), 8), np.arange(30) % CLASSES
    record = audited(sent(module()), tmp_path, batch=batch(), nonmembers=others)
    (finding,) = record.findings
    assert finding.score is not None
    assert finding.score.value == 1
    assert finding.score.controls["null_model"] is not None
    assert finding.score.controls["null_model"].value < 0.5
    assert record.verdict("gradient") == "leaks"


def test_the_update_of_other_records_shows_nothing_of_the_batch(tmp_path: Path) -> None:
    """The null control of the whole path: the batch named is not the batch behind the update."""
    x, y = smooth_pictures(3, np.random.default_rng(77), 8), np.array([0, 1, 2])
    others = smooth_pictures(30, np.random.default_rng(8), 8), np.arange(30) % CLASSES
    record = audited(sent(module()), tmp_path, batch=(x, y), nonmembers=others)
    score = record.findings[0].score
    assert score is not None
    assert score.leakage is not None
    assert score.leakage.low <= 0
    assert record.verdict("gradient") != "leaks"


def test_a_single_record_is_a_batch(tmp_path: Path) -> None:
    record = audited(sent(module(), n=1), tmp_path, batch=batch(1))
    assert record.preflight[0].answer.startswith("Yes: linear-layer")
    assert record.findings[0].score is not None


def test_a_pair_of_weights_is_a_change_at_the_weights_before(tmp_path: Path) -> None:
    net = module()
    before, after = pair(net, LocalTraining("delta", 0, 1, 0.05))
    # The model comes with other weights: those before take their place.
    record = audited((before, after), tmp_path, module(seed=9), records=3, local_batch=0, epochs=1, rate=0.05)
    found = record.findings[0].facts["consistency"]
    assert isinstance(found, float)
    assert found < 0.01
    assert record.victim["sent_as"] == "delta"


def test_a_sum_over_clients_is_the_update_of_all_their_records(tmp_path: Path) -> None:
    net, (x, y) = module(), batch(4)
    client = ClientNet(net, SPEC, CLASSES)
    parts = [client.round(x[k], y[k], LocalTraining(), np.random.default_rng(1)) for k in (slice(0, 2), slice(2, 4))]
    summed = {name: parts[0].tensors[name] + parts[1].tensors[name] for name in parts[0].tensors}
    spare = smooth_pictures(8, np.random.default_rng(9), 8), np.arange(8) % CLASSES
    record = seepage.audit_update(
        net,
        summed,
        input=SPEC,
        records=2,
        clients=2,
        summed=True,
        batch=(x, y),
        nonmembers=spare,
        out=tmp_path,
        attacks=["spear", "untrained-counts"],
    )
    exact, counts = record.findings
    assert exact.scores["exact"].value == 1.0
    assert counts.scores["label_recall"].value == 1.0
    assert exact.scores["exact"].controls["null_model"].value == 0.0
    assert "batch 4" in str(exact.facts["assumptions_known"])


def test_steps_of_several_clients_are_nothing_one_client_makes(tmp_path: Path) -> None:
    net = module()
    local = LocalTraining("delta", batch=1, epochs=1, rate=0.1)
    record = seepage.audit_update(
        net,
        sent(net, local, 4),
        kind="delta",
        input=SPEC,
        records=2,
        clients=2,
        local_batch=1,
        epochs=1,
        rate=0.1,
        batch=batch(4),
        nonmembers=(smooth_pictures(8, np.random.default_rng(9), 8), np.arange(8) % CLASSES),
        out=tmp_path,
        attacks=[{"name": "fedavg-matching", "steps": 2}],
    )
    (finding,) = record.findings
    assert "local_batch 2" in str(finding.facts["assumptions_guessed"])
    assert finding.score is not None
    assert "secure-aggregation" in finding.score.missing["null_model"]


def test_what_is_not_said_is_not_known(tmp_path: Path) -> None:
    record = audited(pair(module(), LocalTraining("delta", 1, 2, 0.05)), tmp_path)
    found = {d.name: d for d in record.preflight[0].diagnostics}
    assert found["learning rate"].holds == "unknown"
    assert "cosine" in found["learning rate"].means
    assert "threat model A" in found["knowledge"].found
    record = audited(sent(module()), tmp_path, records=3, knows=[])
    assert "threat model A" in {d.name: d for d in record.preflight[0].diagnostics}["knowledge"].found


# Consistency


def test_the_true_records_explain_the_update_and_others_do_not() -> None:
    net = ClientNet(module(), SPEC, CLASSES)
    x, y = batch()
    update = net.round(x, y, LocalTraining(), np.random.default_rng(1))
    replay = UpdateReplay(net, update, Assumptions(batch=Rung.known(3)))
    assert replay.distance(x, y) == pytest.approx(0, abs=1e-4)
    # The classes are found by themselves, and wrong ones show.
    assert replay.distance(x, None) == pytest.approx(0, abs=1e-4)
    assert (replay.distance(x, (y + 1) % CLASSES) or 0) > 0.3
    assert (replay.distance(batch(seed=5)[0], None) or 0) > 0.3


def test_known_steps_are_taken_again() -> None:
    net = ClientNet(module(), SPEC, CLASSES)
    x, y = batch()
    local = LocalTraining("delta", 0, 6, 0.3)
    update = net.round(x, y, local, np.random.default_rng(1))
    known = Assumptions(steps=Rung.known(6), epochs=Rung.known(6), rate=Rung.known(0.3), local_batch=Rung.known(3))
    simulated = UpdateReplay(net, update, known).distance(x, y)
    as_gradient = UpdateReplay(net, update, Assumptions()).distance(x, y)
    assert simulated == pytest.approx(0, abs=1e-3)
    assert as_gradient is not None
    assert as_gradient > 0.05


# Bad input, one message each


def _changed(name: str, change: Callable[[Tensor], Tensor | None]) -> State:
    update = sent(module())
    made = change(update[name])
    return {k: v for k, v in {**update, name: made}.items() if v is not None}


@pytest.mark.parametrize(
    ("update", "says"),
    [
        (lambda: _changed("2.weight", lambda t: t[:, :5]), "'2.weight' has shape \\(150, 5\\), the model's has"),
        (lambda: _changed("2.bias", lambda t: None), "'2.bias' of the model is missing"),
        (lambda: {**sent(module()), "head.weight": torch.ones(2)}, "'head.weight' is no parameter of the model"),
        (lambda: _changed("4.weight", lambda t: t / 0), "'4.weight' holds NaN or infinite"),
        (lambda: {k: torch.zeros_like(v) for k, v in sent(module()).items()}, "every tensor is zero"),
        (lambda: sent(module(hidden=80)), "'2.weight' has shape \\(80, 64\\)"),
        (lambda: {}, "tensors by name were wanted, got none"),
        (lambda: [np.ones(3)] * 5, "a list of 5 arrays fits neither"),
        (lambda: _changed("2.weight", lambda t: (t * 1e4).to(torch.int32)), "'2.weight' holds int32 numbers"),
        (lambda: {"2.weight": "text"}, "'2.weight'"),
    ],
)
def test_what_does_not_fit_is_named(update: Callable[[], Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=says):
        audited(update(), tmp_path)


def test_without_a_learning_rate_it_is_said_what_can_be_tried(tmp_path: Path) -> None:
    change = sent(module(), LocalTraining("delta", 1, 2, 0.05))
    with pytest.raises(ConfigError, match=r"not told its rate, epochs.*what can still be tried.*'linear-layer'"):
        seepage.audit_update(
            module(), change, kind="delta", input=SPEC, records=3, out=tmp_path, attacks="fedavg-matching"
        )


def test_the_optimiser_that_is_said_is_the_one_that_is_known(tmp_path: Path) -> None:
    net = module()
    before, after = pair(net, LocalTraining("delta", 0, 1, 0.05))
    save_file(before, tmp_path / "b.safetensors")
    save_file(after, tmp_path / "a.safetensors")
    x, y = batch()
    np.savez(tmp_path / "batch.npz", x=x, y=y)
    more = """before = "b.safetensors"
after = "a.safetensors"
[federated]
momentum = 0.9
local_batch = 0
epochs = 2
rate = 0.05
[data]
members = "batch.npz"
"""
    scene = _setting(tmp_path, more).scene
    assert knowledge(scene).assumptions.optimiser.value == "sgd with momentum 0.9"


def test_two_same_weights_are_no_update(tmp_path: Path) -> None:
    state = dict(module().state_dict())
    with pytest.raises(DataError, match="every tensor is zero"):
        audited((state, state), tmp_path)


def test_a_pair_of_two_models(tmp_path: Path) -> None:
    before, after = dict(module().state_dict()), dict(module(hidden=80).state_dict())
    with pytest.raises(DataError, match=r"after: '2\.weight' has shape"):
        audited((before, after), tmp_path)
    del after["2.weight"]
    with pytest.raises(DataError, match=r"after: '2\.weight' is missing"):
        audited((before, after), tmp_path)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"records": 0}, "records: a whole number"),
        ({"clients": 0}, "clients: a whole number"),
        ({"summed": True}, "say how many: clients"),
        ({"batch": "batch", "clients": 2}, "cannot share evenly"),
        ({"rate": -1.0}, "rate: a number above 0"),
        ({"mode": "both"}, "mode is 'train' or 'eval'"),
        ({"kind": "sum"}, "'gradient' or a 'delta'"),
        ({"knows": ["raet"]}, "did you mean 'rate'"),
        ({"batch": "batch", "records": 7}, "they must agree"),
        ({"classes": 5}, "answered"),
    ],
)
def test_arguments_that_cannot_be(more: dict[str, Any], says: str, tmp_path: Path) -> None:
    if more.get("batch"):
        more = {**more, "batch": batch()}
    with pytest.raises((ConfigError, ModelError), match=says):
        audited(sent(module()), tmp_path, **more)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_accepted_and_said(dtype: torch.dtype, tmp_path: Path) -> None:
    record = audited({k: v.to(dtype) for k, v in sent(module()).items()}, tmp_path, records=3)
    found = {d.name: d for d in record.preflight[0].diagnostics}["precision"]
    assert str(dtype).removeprefix("torch.") in found.found
    assert found.holds == "noted"
    assert record.findings[0].status == "done"


def test_buffers_may_be_there_or_not(tmp_path: Path) -> None:
    net = client_net("cnn", SPEC.shape, CLASSES, 0)
    before, after = pair(net, LocalTraining("delta", 0, 1, 0.05))
    bare = {name: tensor for name, tensor in after.items() if "running" not in name and "num_batches" not in name}
    for given, sentence in ((after, "running statistics after the round were sent too"), (bare, "")):
        record = seepage.audit_update(net, (before, given), input=SPEC, out=tmp_path, mode="train", fresh=True)
        found = {d.name: d for d in record.preflight[0].diagnostics}["batch normalisation"]
        assert found.holds == "fails"
        assert sentence in found.found
        assert ("sent too" in found.found) == bool(sentence)


# Files


def test_every_kind_of_file_gives_the_same_update(tmp_path: Path) -> None:
    update, net = sent(module()), module()
    save_file(update, tmp_path / "u.safetensors")
    torch.save({f"module.{name}": tensor for name, tensor in update.items()}, tmp_path / "u.pt")
    np.savez(tmp_path / "named.npz", **{name: tensor.numpy() for name, tensor in update.items()})
    np.savez(tmp_path / "listed.npz", *[update[name].numpy() for name, _ in net.named_parameters()])
    names = ("u.safetensors", "u.pt", "named.npz", "listed.npz")
    found = {audited(tmp_path / name, tmp_path / "runs", records=3).findings[0].facts["consistency"] for name in names}
    assert len(found) == 1


class _Runs:
    def __reduce__(self) -> Any:
        return print, ("code ran",)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"weights": _Runs()}, tmp_path / "u.pt")
    with pytest.raises(TrustError, match="would run code"):
        audited(tmp_path / "u.pt", tmp_path)
    (tmp_path / "short.npz").write_bytes(b"PK nothing")
    with pytest.raises(ModelError, match="cannot be read"):
        audited(tmp_path / "short.npz", tmp_path)
    with pytest.raises(ModelError, match="no file"):
        audited(tmp_path / "none.safetensors", tmp_path)


TOML = """
seed = 3
[victim]
kind = "update"
net = "relu-mlp"
net_options = { hidden = 150 }
classes = 4
input = { shape = [1, 8, 8] }
"""


def _file(tmp_path: Path, more: str) -> Path:
    path = tmp_path / "audit.toml"
    path.write_text(TOML + more)
    return path


def _setting(tmp_path: Path, more: str) -> Any:
    from seepage.audit.api import setting_of_file

    return setting_of_file(_file(tmp_path, more))[0]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("", 'needs update = "..."'),
        ('update = "u.safetensors"\nafter = "a"', "one of the two"),
        ('before = "b.safetensors"', "one of the two"),
        ('update = "u.safetensors"\nwieghts = "w"', "did you mean 'weights'"),
        ('update = "u.safetensors"\n[federated]\nsummed = true', "say how many: clients"),
        ('before = "w.safetensors"\nafter = "a.safetensors"\n[federated]\nupdate = "gradient"', "not a 'gradient'"),
        ('update = "u.safetensors"\naccess = "scores"', "gives 'updates'"),
        ('update = "u.safetensors"\n[data]\nbuiltin = "digits"', "the client's own records"),
        (
            'weights = "w.safetensors"\nbefore = "o.safetensors"\nafter = "a.safetensors"',
            "differs from the weights",
        ),
    ],
)
def test_files_that_say_too_little_or_too_much(more: str, says: str, tmp_path: Path) -> None:
    net = module()
    before, after = pair(net, LocalTraining("delta", 0, 1, 0.05))
    save_file(sent(net), tmp_path / "u.safetensors")
    save_file(before, tmp_path / "w.safetensors")
    save_file(after, tmp_path / "a.safetensors")
    save_file(dict(module(seed=4).state_dict()), tmp_path / "o.safetensors")
    with pytest.raises(SeepageError, match=says):
        _setting(tmp_path, more)


def test_a_file_with_the_batch_is_a_scored_audit(tmp_path: Path) -> None:
    from seepage.audit.api import audit_file

    net = module()
    save_file(sent(net), tmp_path / "u.safetensors")
    save_file(dict(net.state_dict()), tmp_path / "w.safetensors")
    x, y = batch()
    np.savez(tmp_path / "batch.npz", x=x, y=y)
    more = 'weights = "w.safetensors"\nupdate = "u.safetensors"\n[data]\nmembers = "batch.npz"\n'
    record, _ = audit_file(_file(tmp_path, more), out=tmp_path / "runs", processes=1)
    score = next(f for f in record.findings if f.attack == "linear-layer").score
    assert score is not None
    assert score.value == 1
