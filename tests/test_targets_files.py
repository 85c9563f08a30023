"""Victims from files: what is read, and that nothing runs without permission."""

import pickle
import zipfile

import joblib
import numpy as np
import pytest
import safetensors.torch
import skops.io
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from fixtures_victims import TABLE, Bomb, not_a_network, table, tiny_mlp, trained_mlp
from seepage.core.errors import ConfigError, ModelError, TrustError
from seepage.targets import wrap
from seepage.targets.sklearn import SklearnModel, load_sklearn
from seepage.targets.torch import TorchModel
from seepage.targets.torch_files import load_torch
from seepage.targets.trust import pickled_names

BUILD = "fixtures_victims:tiny_mlp"
X, Y = table(120)


def fitted():
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)


@pytest.fixture(scope="module")
def net():
    return trained_mlp()


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "code-ran"


# ---- torch


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".bin", ".ckpt"])
@pytest.mark.parametrize("build", [BUILD, tiny_mlp], ids=["path", "function"])
def test_weights_make_the_victim_they_were_saved_from(tmp_path, net, suffix, build):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(net.state_dict(), path)
    else:
        torch.save(net.state_dict(), path)
    victim = load_torch(build, path, TABLE)
    assert np.array_equal(victim.logits(X), TorchModel(net, TABLE).logits(X))
    assert victim.fingerprint == TorchModel(net, TABLE).fingerprint
    untrained = load_torch(build, None, TABLE)
    assert not np.allclose(untrained.logits(X), victim.logits(X))


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model."])
def test_checkpoints_of_trainers_are_opened(tmp_path, net, key, prefix):
    path = tmp_path / "epoch.ckpt"
    state = {prefix + name: value for name, value in net.state_dict().items()}
    torch.save({key: state, "epoch": 3, "optimizer": {"lr": 0.1}}, path)
    assert np.array_equal(load_torch(BUILD, path, TABLE).logits(X), TorchModel(net, TABLE).logits(X))


def test_a_prefix_that_is_the_networks_own_stays(tmp_path):
    path = tmp_path / "w.pt"
    torch.save(Held().state_dict(), path)
    assert load_torch(Held, path, TABLE).classes == 3


class Held(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = tiny_mlp()

    def forward(self, x):
        return self.model(x)


def test_arguments_reach_the_function_that_builds(tmp_path):
    assert load_torch(BUILD, None, TABLE, build_args={"classes": 5}).classes == 5


def test_tied_weights_saved_once_and_counters_of_old_files_are_not_missing(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 4)
            self.norm = nn.BatchNorm1d(4)
            self.b = nn.Linear(4, 4)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.norm(self.a(x)))

    net = Tied()
    left_out = ("b.weight", "norm.num_batches_tracked")
    state = {name: value for name, value in net.state_dict().items() if name not in left_out}
    path = tmp_path / "tied.safetensors"
    safetensors.torch.save_file(state, path)
    victim = load_torch(Tied, path, TABLE)
    assert np.array_equal(victim.logits(X), TorchModel(net, TABLE).logits(X))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("0.bias"), "1 missing: 0.bias"),
        (lambda s: s.update(extra=torch.zeros(2)), "1 not part of the network: extra"),
        (lambda s: s.update({"2.bias": torch.zeros(7)}), r"1 of another shape: 2.bias \(7,\) for \(3,\)"),
        (lambda s: s.update({f"h{i}": torch.zeros(1) for i in range(9)}), "9 not part of the network: .* and 5 more"),
    ],
)
def test_weights_of_another_network_are_refused_by_name(tmp_path, net, change, message):
    state = dict(net.state_dict())
    change(state)
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file(state, path)
    with pytest.raises(ModelError, match=message) as caught:
        load_torch(BUILD, path, TABLE)
    assert len(str(caught.value)) < 300


def test_weights_that_are_not_finite_are_refused(tmp_path, net):
    state = dict(net.state_dict())
    state["0.bias"] = torch.full((8,), torch.nan)
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file(state, path)
    with pytest.raises(ModelError, match="NaN or infinity"):
        load_torch(BUILD, path, TABLE)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "missing", "folder", "text"])
def test_damaged_weights_are_refused_in_one_message(tmp_path, net, suffix, damage):
    path = tmp_path / f"w{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(net.state_dict(), path)
    else:
        torch.save(net.state_dict(), path)
    whole = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "garbage":
        path.write_bytes(b"\x93NUMPY" + bytes(range(256)) * 4)
    elif damage == "text":
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n")
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
        if damage == "folder":
            path.mkdir()
    with pytest.raises(ModelError) as caught:
        load_torch(BUILD, path, TABLE)
    assert not isinstance(caught.value, TrustError)
    assert "\n" not in str(caught.value)


def test_an_old_style_file_is_read_and_its_half_is_damaged(tmp_path, net):
    path = tmp_path / "w.pt"
    torch.save(net.state_dict(), path, _use_new_zipfile_serialization=False)
    assert load_torch(BUILD, path, TABLE).classes == 3
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ModelError, match="damaged") as caught:
        load_torch(BUILD, path, TABLE)
    assert not isinstance(caught.value, TrustError)


def test_a_whole_pickled_network_needs_trust(tmp_path, net):
    path = tmp_path / "whole.pt"
    torch.save(net, path)
    with pytest.raises(TrustError, match=r"torch\.nn\.modules\.container\.Sequential.*save_file") as caught:
        load_torch(BUILD, path, TABLE)
    assert "trust_pickle=True" in str(caught.value)
    victim = load_torch(None, path, TABLE, trust_pickle=True)
    assert np.array_equal(victim.logits(X), TorchModel(net, TABLE).logits(X))


def test_what_does_not_build_a_network_is_refused(tmp_path, net):
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file(net.state_dict(), path)
    with pytest.raises(ModelError, match="returned a int"):
        load_torch(not_a_network, path, TABLE)
    with pytest.raises(ModelError, match="no weights for you") as caught:
        load_torch("fixtures_victims:failing_build", path, TABLE)
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(ConfigError, match="did you mean 'tiny_mlp'"):
        load_torch("fixtures_victims:tiny_mpl", path, TABLE)
    with pytest.raises(ConfigError, match="a function that returns a network"):
        load_torch("fixtures_victims:TABLE", path, TABLE)
    with pytest.raises(ConfigError, match="build="):
        load_torch(None, path, TABLE)
    with pytest.raises(ConfigError, match="build="):
        load_torch(None, None, TABLE)


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], {"state_dict": {"a": 1}}])
def test_a_checkpoint_without_weights_is_refused(tmp_path, content):
    path = tmp_path / "w.pt"
    torch.save(content, path)
    with pytest.raises(ModelError, match="tensors by name"):
        load_torch(BUILD, path, TABLE)


def test_unknown_suffixes_and_torchscript_are_refused(tmp_path):
    path = tmp_path / "w.h5"
    path.write_bytes(b"x")
    with pytest.raises(ModelError, match="no known kind"):
        load_torch(BUILD, path, TABLE)
    path = tmp_path / "script.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("script/data.pkl", b"")
        archive.writestr("script/constants.pkl", b"")
    with pytest.raises(ModelError, match="TorchScript"):
        load_torch(BUILD, path, TABLE)


# ---- nothing runs without permission


def _pickled(path, mark):
    path.write_bytes(pickle.dumps(Bomb(mark)))


def _inside_torch(path, mark):
    torch.save({"state_dict": {"0.weight": torch.zeros(2), "evil": Bomb(mark)}}, path)


def _old_torch(path, mark):
    torch.save(Bomb(mark), path, _use_new_zipfile_serialization=False)


def _joblib(path, mark):
    joblib.dump({"model": Bomb(mark)}, path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("m.pt", _pickled),
        ("m.pth", _inside_torch),
        ("m.bin", _old_torch),
        ("m.ckpt", _inside_torch),
        ("m.pkl", _pickled),
        ("m.pickle", _pickled),
        ("m.joblib", _joblib),
    ],
)
def test_a_malicious_pickle_runs_in_no_loader_without_trust(tmp_path, mark, name, write):
    path = tmp_path / name
    write(path, mark)
    options = {"build": BUILD} if path.suffix in (".pt", ".pth", ".bin", ".ckpt") else {}
    with pytest.raises(TrustError) as caught:
        wrap(path, TABLE, **options)
    assert not mark.exists()
    assert "trust_pickle=True" in str(caught.value)
    if options:
        assert "posix.system" in str(caught.value)
    # The proof that the file was dangerous: with trust it does run.
    with pytest.raises(ModelError):
        wrap(path, TABLE, trust_pickle=True, **options)
    assert mark.exists()


@pytest.mark.parametrize("name", ["m.safetensors", "m.skops", "m.onnx"])
def test_a_pickle_under_a_harmless_name_does_not_run_either(tmp_path, mark, name):
    path = tmp_path / name
    _pickled(path, mark)
    with pytest.raises(ModelError):
        wrap(path, TABLE, **({"build": BUILD} if name.endswith("safetensors") else {}))
    assert not mark.exists()


def test_names_in_a_pickle_are_found_without_running_it(mark):
    for protocol in range(6):
        names, whole = pickled_names(pickle.dumps(Bomb(mark), protocol=protocol))
        assert whole
        assert names == {"posix.system"}
    assert pickled_names(pickle.dumps({"a": [1, 2.0, "x"]})) == (set(), True)
    assert pickled_names(b"\xff\xff")[1] is False
    assert not mark.exists()


# ---- scikit-learn


def test_skops_gives_the_estimator_back(tmp_path):
    path = tmp_path / "m.skops"
    skops.io.dump(fitted(), path)
    victim = load_sklearn(path, TABLE)
    assert np.array_equal(victim.predict(X), SklearnModel(fitted(), TABLE).predict(X))
    assert victim.family == "linear"
    assert victim.fingerprint == SklearnModel(fitted(), TABLE).fingerprint


def test_types_that_are_not_known_to_be_harmless_are_named(tmp_path):
    path = tmp_path / "m.skops"
    skops.io.dump(RandomForestClassifier(3, random_state=0).fit(X, Y), path)
    with pytest.raises(TrustError, match=r"sklearn\.tree\._tree\.Tree.*trust_types"):
        load_sklearn(path, TABLE)
    kept = load_sklearn(path, TABLE, trust_types=["sklearn.tree._tree.Tree"])
    assert kept.family == "tree"
    assert np.array_equal(load_sklearn(path, TABLE, trust_pickle=True).predict(X), kept.predict(X))


@pytest.mark.parametrize("suffix", [".pkl", ".pickle", ".joblib"])
def test_pickled_estimators_need_trust_and_are_told_the_way_to_skops(tmp_path, suffix):
    path = tmp_path / f"m{suffix}"
    if suffix == ".joblib":
        joblib.dump(fitted(), path)
    else:
        path.write_bytes(pickle.dumps(fitted()))
    with pytest.raises(TrustError, match=r"skops\.io\.dump"):
        load_sklearn(path, TABLE)
    assert np.array_equal(
        load_sklearn(path, TABLE, trust_pickle=True).predict(X), SklearnModel(fitted(), TABLE).predict(X)
    )


@pytest.mark.parametrize("suffix", [".skops", ".pkl", ".joblib"])
@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "missing"])
def test_damaged_estimators_are_refused_in_one_message(tmp_path, suffix, damage):
    path = tmp_path / f"m{suffix}"
    {".skops": skops.io.dump, ".joblib": joblib.dump, ".pkl": joblib.dump}[suffix](fitted(), path)
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"truncated": whole[: len(whole) // 2], "garbage": b"\x07" * 99, "empty": b""}[damage])
    with pytest.raises(ModelError) as caught:
        load_sklearn(path, TABLE, trust_pickle=True)
    assert "\n" not in str(caught.value)


def test_a_skops_file_without_its_schema_is_damaged(tmp_path):
    path = tmp_path / "m.skops"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ModelError, match="damaged"):
        load_sklearn(path, TABLE)


def test_a_file_that_holds_no_classifier_is_refused(tmp_path):
    path = tmp_path / "m.skops"
    skops.io.dump({"a": 1}, path)
    with pytest.raises(ModelError, match="a classifier with one output was wanted; this dict"):
        load_sklearn(path, TABLE)
    path = tmp_path / "m.txt"
    path.write_text("x")
    with pytest.raises(ModelError, match="no known kind"):
        load_sklearn(path, TABLE)
