"""Making a victim of anything, and reading off records what one input looks like."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import skops.io
import torch
from sklearn.linear_model import LogisticRegression

from fixtures_http import Reply, Server
from fixtures_victims import TABLE, save_onnx_mlp, table, thirds, tiny_mlp, trained_mlp
from seepage.core.errors import ConfigError, DataError, ModelError, TrustError
from seepage.core.records import Records, Splits
from seepage.core.spec import InputSpec
from seepage.core.target import Target
from seepage.core.vocabulary import Access, Modality
from seepage.targets import infer_spec, open_victim, wrap
from seepage.targets.callable import CallableModel
from seepage.targets.onnx import OnnxModel
from seepage.targets.remote import HttpModel
from seepage.targets.sklearn import SklearnModel
from seepage.targets.torch import TorchModel
from seepage.targets.wrap import file_option, kinds, option_names

X, Y = table(40)


def answering(net):
    def play(request, _):
        x = torch.tensor(request.body["inputs"], dtype=torch.float32)
        with torch.no_grad():
            return Reply({"predictions": net(x).softmax(1).tolist()})

    return play


# ---- parity


def test_one_network_answers_alike_in_process_as_a_file_and_over_http(tmp_path):
    net = trained_mlp()
    safetensors.torch.save_file(net.state_dict(), tmp_path / "w.safetensors")
    save_onnx_mlp(net, tmp_path / "m.onnx")
    own = wrap(net, TABLE)
    with Server(answering(net)) as server, wrap(server.url, TABLE) as remote:
        victims = {
            "file": wrap(tmp_path / "w.safetensors", TABLE, build=tiny_mlp),
            "onnx": wrap(tmp_path / "m.onnx", TABLE),
            "http": remote,
            "function": wrap(lambda x: own.predict(x), TABLE),
        }
        for name, victim in victims.items():
            assert victim.classes == own.classes, name
            assert np.allclose(victim.predict(X), own.predict(X), atol=1e-6), name
            assert np.array_equal(Target(victim, {Access.LABELS}).labels(X), own.predict(X).argmax(1)), name


# ---- wrap


def test_everything_becomes_its_own_kind_of_victim(tmp_path):
    estimator = LogisticRegression().fit(X, Y)
    skops.io.dump(estimator, tmp_path / "m.skops")
    assert isinstance(wrap(tiny_mlp(), TABLE, batch=3), TorchModel)
    assert isinstance(wrap(estimator, TABLE), SklearnModel)
    assert isinstance(wrap(thirds, TABLE, classes=3), CallableModel)
    assert isinstance(wrap(str(save_onnx_mlp(tiny_mlp(), tmp_path / "m.onnx")), TABLE), OnnxModel)
    assert isinstance(wrap(tmp_path / "m.skops", TABLE), SklearnModel)
    with wrap("http://127.0.0.1:9/v1", TABLE, classes=3, answers="scores") as remote:
        assert isinstance(remote, HttpModel)


def test_a_victim_stays_what_it_is():
    victim = wrap(tiny_mlp(), TABLE)
    assert wrap(victim) is victim
    assert wrap(victim, classes=3) is victim
    with pytest.raises(ConfigError, match="a victim already"):
        wrap(victim, batch=3)
    with pytest.raises(ConfigError, match="a victim already"):
        wrap(victim, classes=4)


def test_the_input_is_read_off_records():
    assert wrap(tiny_mlp(), like=X).spec.shape == (4,)
    with pytest.raises(ConfigError, match="spec=InputSpec"):
        wrap(tiny_mlp())


def test_pickles_need_trust_here_too(tmp_path):
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps(LogisticRegression().fit(X, Y)))
    with pytest.raises(TrustError):
        wrap(path, TABLE)
    assert wrap(path, TABLE, trust_pickle=True).classes == 3


@pytest.mark.parametrize(
    ("thing", "options", "error", "message"),
    [
        (42, {}, ConfigError, "a int is nothing that can be asked"),
        ("model.h5", {}, ModelError, "neither a URL nor a model file of a known kind"),
        ("model", {}, ModelError, "neither a URL"),
        ("missing.onnx", {}, ModelError, "no file 'missing.onnx'"),
        ("ftp://host/m", {}, ModelError, "neither a URL"),
        (thirds, {"output": "x"}, ConfigError, "did you mean 'outputs'"),
        ("missing.onnx", {"ouput": "x"}, ConfigError, "did you mean 'output'"),
        (tiny_mlp(), {"class_name": []}, ConfigError, "TorchModel has no option 'class_name'"),
    ],
)
def test_what_cannot_be_wrapped_is_refused(thing, options, error, message):
    with pytest.raises(error, match=message):
        wrap(thing, TABLE, **options)


# ---- open_victim


def test_an_audit_files_table_opens_each_kind(tmp_path):
    net = trained_mlp()
    safetensors.torch.save_file(net.state_dict(), tmp_path / "w.safetensors")
    skops.io.dump(LogisticRegression().fit(X, Y), tmp_path / "m.skops")
    save_onnx_mlp(net, tmp_path / "m.onnx")
    own = TorchModel(net, TABLE).predict(X)
    build = "fixtures_victims:tiny_mlp"
    opened = open_victim("torch", TABLE, {"build": build, "weights": str(tmp_path / "w.safetensors")})
    assert np.array_equal(opened.predict(X), own)
    assert open_victim("torch", TABLE, {"build": build, "build_args": {"classes": 4}}).classes == 4
    opened = open_victim("onnx", TABLE, {"path": str(tmp_path / "m.onnx"), "batch": 3})
    assert np.allclose(opened.predict(X), own, atol=1e-6)
    opened = open_victim("sklearn", TABLE, {"path": str(tmp_path / "m.skops"), "class_names": ["0", "1", "2"]})
    assert opened.classes == 3
    assert open_victim("callable", TABLE, {"fn": "fixtures_victims:thirds"}).classes == 3
    with Server(answering(net)) as server:
        headers = {"X-Project": "seepage"}
        with open_victim("http", TABLE, {"url": server.url, "timeout": 5, "headers": headers}) as remote:
            assert np.allclose(remote.predict(X), own, atol=1e-6)
        assert server.requests[0].headers["x-project"] == "seepage"


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("tourch", {}, "unknown kind of victim 'tourch': did you mean 'torch'"),
        ("torch", {"weigths": "x"}, "a torch victim has no option 'weigths': did you mean 'weights'"),
        ("torch", {"spec": "x"}, "no option 'spec'"),
        ("sklearn", {"path": "m.pkl", "trust_pickle": True}, "no option 'trust_pickle'"),
        ("onnx", {}, "an? onnx victim needs the option 'path'"),
        ("http", {"classes": 3}, "needs the option 'url'"),
        ("http", {"url": "http://h", "batch": "many"}, "option 'batch': 'many' cannot be used .*integer"),
        ("http", {"url": "http://h", "headers": ["x"]}, "option 'headers'"),
        ("torch", {}, "needs build="),
        ("callable", {"fn": "fixtures_victims:thirds", "outputs": "logit"}, "did you mean 'logits'"),
    ],
)
def test_mistakes_in_an_audit_file_are_named(kind, options, message):
    with pytest.raises(ConfigError, match=message):
        open_victim(kind, TABLE, options)


def test_options_are_listed_for_every_kind():
    for kind in kinds():
        names = option_names(kind)
        # Of an encoder of texts vectors are asked, not classes.
        assert ("classes" in names) == (kind != "encoder")
        assert not {"spec", "self", "trust_pickle"} & set(names)
        assert file_option(kind) in (*names, None)
    assert file_option("torch") == "weights"
    assert file_option("http") is None
    assert file_option("encoder") == "path"


def test_trust_is_passed_on(tmp_path):
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps(LogisticRegression().fit(X, Y)))
    with pytest.raises(TrustError):
        open_victim("sklearn", TABLE, {"path": str(path)})
    assert open_victim("sklearn", TABLE, {"path": str(path)}, trust_pickle=True).classes == 3


# ---- infer_spec


@pytest.mark.parametrize(
    ("low", "high", "bounds"),
    [
        (0.0, 1.0, (0, 1)),
        (0.2, 0.3, (0, 1)),
        (0.0, 255.0, (0, 255)),
        (3.0, 40.0, (0, 255)),
        (-1.0, 1.0, (-1, 1)),
        (-0.1, 0.9, (-1, 1)),
        (0.0, 1.2, (0, 1.2)),
        (-2.117, 2.64, (-2.2, 2.7)),
        (0.0, 4095.0, (0, 4100)),
        (-1024.0, 3071.0, (-1100, 3100)),
    ],
)
def test_ranges_of_pictures_are_the_usual_ones_or_rounded_out(low, high, bounds):
    x = np.linspace(low, high, 2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    spec = infer_spec(x)
    assert spec.shape == (3, 4, 4)
    assert spec.modality is Modality.IMAGE
    assert spec.bounds.low == pytest.approx(bounds[0], abs=1e-5)
    assert spec.bounds.high == pytest.approx(bounds[1], abs=1e-5)
    assert spec.bounds.contain(x.astype(np.float32))


def test_bytes_are_pictures_from_0_to_255():
    assert infer_spec(np.full((2, 1, 3, 3), 200, dtype=np.uint8)).bounds.high == 255


def test_tables_have_a_range_for_each_feature():
    x = np.array([[1.0, -5.0, 3.0], [2.0, 7.0, 3.0]])
    spec = infer_spec(x)
    assert spec.modality is Modality.TABLE
    assert np.array_equal(spec.bounds.low, [1, -5, 3])
    assert np.array_equal(spec.bounds.high, [2, 7, 3])


def test_all_records_count_and_names_are_kept():
    one = Records(np.zeros((3, 2), dtype=np.float32), modality=Modality.TABLE, features=("age", "pay"))
    two = Records(np.full((2, 2), 4, dtype=np.float32), modality=Modality.TABLE, features=("age", "pay"))
    three = np.full((1, 2), -9.0)
    spec = infer_spec(one, two, three)
    assert spec.features == ("age", "pay")
    assert np.array_equal(spec.bounds.low, [-9, -9])
    assert np.array_equal(spec.bounds.high, [4, 4])
    split = infer_spec(Splits(one, two, None))
    assert np.array_equal(split.bounds.high, [4, 4])
    assert infer_spec(pd.DataFrame({"a": [1.0, 2.0]})).features == ("a",)
    assert infer_spec(torch.rand(2, 1, 3, 3, requires_grad=True)).shape == (1, 3, 3)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((0, 3)), "at least one record"),
        (np.zeros(3), "at least one record"),
        (np.full((2, 2), np.nan), "finite"),
        (np.array([["a", "b"]]), "numbers were wanted"),
        (np.zeros((2, 32, 32, 3)), "channels last"),
        (Records(np.zeros((2, 5, 5), dtype=np.float32)), "an image is .channels, height, width."),
        (Records(np.zeros((2, 5), dtype=np.float32), modality=Modality.TEXT), "images or tables"),
    ],
)
def test_records_that_say_nothing_are_refused(x, message):
    with pytest.raises(DataError, match=message):
        infer_spec(x)


def test_records_of_several_shapes_are_refused():
    with pytest.raises(DataError, match=r"\(4,\) and \(5,\)"):
        infer_spec(np.zeros((2, 4)), np.zeros((2, 5)))


# ---- weight


def test_a_function_is_wrapped_without_loading_torch_or_a_client():
    code = (
        "import sys, numpy as np\n"
        "from seepage.targets import wrap\n"
        "from seepage.core.spec import InputSpec\n"
        "from seepage.core.vocabulary import Modality\n"
        "wrap(lambda x: np.tile([.5, .5], (len(x), 1)), InputSpec((2,), modality=Modality.TABLE))\n"
        "heavy = {'torch', 'sklearn', 'pandas', 'onnxruntime', 'httpx', 'httpx2', 'skops'} & set(sys.modules)\n"
        "raise SystemExit(', '.join(sorted(heavy)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
    assert done.returncode == 0


def test_the_http_client_is_imported_in_one_file():
    folder = Path(sys.modules["seepage.targets"].__file__).parent
    users = {path.name for path in folder.glob("*.py") if "import httpx" in path.read_text()}
    assert users == {"http.py"}


def test_unknown_names_are_attribute_errors():
    import seepage.targets as targets

    with pytest.raises(AttributeError, match="NoModel"):
        _ = targets.NoModel
    for name in targets.__all__:
        assert getattr(targets, name) is not None
    assert isinstance(TABLE, InputSpec)
