"""ONNX files as victims."""

import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from fixtures_victims import TABLE, save_onnx_mlp, table, tiny_mlp, trained_mlp
from seepage.core.errors import AccessDenied, ConfigError, MissingExtra, ModelError
from seepage.core.spec import Bounds, InputSpec
from seepage.core.victim import Model
from seepage.core.vocabulary import Access, Modality
from seepage.targets.onnx import OnnxModel
from seepage.targets.torch import TorchModel

X, Y = table(60)
NAMES = np.array(["cat", "dog", "emu"])


@pytest.fixture(scope="module")
def estimator():
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)


def graph(path, nodes, inputs, outputs, ir_version=9):
    made = helper.make_graph(nodes, "g", inputs, outputs)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=ir_version)
    path.write_bytes(model.SerializeToString())
    return path


def value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


@pytest.mark.parametrize("batch", ["n", 1, 7])
@pytest.mark.parametrize("softmax", [False, True])
def test_a_file_answers_as_the_network_it_came_from(tmp_path, batch, softmax):
    net = trained_mlp()
    victim = OnnxModel(save_onnx_mlp(net, tmp_path / "m.onnx", batch=batch, softmax=softmax), TABLE)
    own = TorchModel(net, TABLE)
    assert isinstance(victim, Model)
    assert victim.classes == 3
    assert np.allclose(victim.predict(X), own.predict(X), atol=1e-6)
    assert victim.predict(X[:0]).shape == (0, 3)
    if softmax:
        assert victim.offers == {Access.SCORES}
        with pytest.raises(AccessDenied, match="probabilities"):
            victim.logits(X)
    else:
        assert victim.offers == {Access.LOGITS}
        assert np.allclose(victim.logits(X), own.logits(X), atol=1e-5)


@pytest.mark.parametrize("zipmap", [False, True])
def test_converted_estimators_give_their_probabilities(tmp_path, estimator, zipmap):
    path = tmp_path / "m.onnx"
    options = {} if zipmap else {id(estimator): {"zipmap": False}}
    path.write_bytes(to_onnx(estimator, X[:1], options=options).SerializeToString())
    victim = OnnxModel(path, TABLE)
    assert victim._form == ("maps" if zipmap else "rows")
    assert victim.offers == {Access.SCORES}
    assert np.allclose(victim.predict(X), estimator.predict_proba(X.astype(np.float64)), atol=1e-5)


def test_maps_from_names_are_put_in_the_order_of_the_data(tmp_path):
    estimator = LogisticRegression().fit(X, NAMES[Y])
    path = tmp_path / "m.onnx"
    path.write_bytes(to_onnx(estimator, X[:1]).SerializeToString())
    proba = estimator.predict_proba(X.astype(np.float64))
    assert np.allclose(OnnxModel(path, TABLE).predict(X), proba, atol=1e-5)
    victim = OnnxModel(path, TABLE, class_names=["dog", "cat", "bee", "emu"])
    assert np.allclose(victim.predict(X)[:, [1, 0, 3]], proba, atol=1e-5)
    assert np.array_equal(victim.predict(X)[:, 2], np.zeros(len(X)))


def test_labels_alone_are_offered_as_such(tmp_path, estimator):
    path = tmp_path / "m.onnx"
    path.write_bytes(to_onnx(estimator, X[:1], options={id(estimator): {"zipmap": False}}).SerializeToString())
    victim = OnnxModel(path, TABLE, 3, output="label")
    assert victim.offers == {Access.LABELS}
    assert np.array_equal(victim.predict(X), np.eye(3)[estimator.predict(X)])
    with pytest.raises(ModelError, match="give classes"):
        OnnxModel(path, TABLE, output="label")
    with pytest.raises(ModelError, match="class numbers are 0 to 1"):
        OnnxModel(path, TABLE, 2, output="label").predict(X)
    with pytest.raises(AccessDenied, match="labels"):
        victim.logits(X)
    mlp = OnnxModel(save_onnx_mlp(tiny_mlp(), tmp_path / "l.onnx", label=True), TABLE, 3)
    assert np.array_equal(mlp.predict(X).argmax(1), TorchModel(tiny_mlp(), TABLE).predict(X).argmax(1))


def test_labels_that_are_names_go_by_name(tmp_path):
    estimator = LinearSVC().fit(X, NAMES[Y])
    path = tmp_path / "m.onnx"
    path.write_bytes(to_onnx(estimator, X[:1]).SerializeToString())
    victim = OnnxModel(path, TABLE, output="label", class_names=["emu", "dog", "cat"])
    assert np.array_equal(victim.predict(X).argmax(axis=1), 2 - Y_of(estimator))


def Y_of(estimator):
    return np.array([list(NAMES).index(name) for name in estimator.predict(X)])


def test_pictures_are_prepared_and_laid_out(tmp_path):
    spec = InputSpec((3, 2, 4), Bounds.of(0.0, 255.0), mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0), layout="hwc")
    nodes = [helper.make_node("ReduceMean", ["x"], ["m"], axes=[1, 2], keepdims=0)]
    path = graph(tmp_path / "m.onnx", nodes, [value("x", FLOAT, ["n", 2, 4, 3])], [value("m", FLOAT, ["n", 3])])
    x = np.random.default_rng(0).uniform(0, 255, (5, 3, 2, 4)).astype(np.float32)
    assert np.allclose(OnnxModel(path, spec).logits(x), spec.prepare(x).mean(axis=(1, 2)), atol=1e-4)
    first = InputSpec((3, 2, 4), Bounds.of(0.0, 255.0))
    with pytest.raises(ModelError, match=r"shape \(2, 4, 3\).*prepared as \(3, 2, 4\).*\[victim\] input"):
        OnnxModel(path, first)


def test_whole_number_inputs_get_rounded_values(tmp_path):
    spec = InputSpec((3,), Bounds.of(0.0, 255.0), Modality.TABLE)
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=FLOAT)]
    path = graph(tmp_path / "m.onnx", nodes, [value("x", TensorProto.UINT8, [None, 3])], [value("y", FLOAT, [None, 3])])
    x = np.array([[0.4, 254.6, 17.0]], dtype=np.float32)
    assert np.array_equal(OnnxModel(path, spec).logits(x), [[0, 255, 17]])


@pytest.mark.parametrize(("node", "outputs"), [("Sigmoid", "probabilities"), ("Identity", "logits")])
def test_one_column_is_class_one_of_two_once_its_kind_is_known(tmp_path, node, outputs):
    spec = InputSpec((1,), Bounds.of(0.0, 1.0), Modality.TABLE)
    path = tmp_path / "m.onnx"
    graph(path, [helper.make_node(node, ["x"], ["y"])], [value("x", FLOAT, ["n", 1])], [value("y", FLOAT, ["n", 1])])
    with pytest.raises(ModelError, match='say outputs="probabilities" or outputs="logits"'):
        OnnxModel(path, spec)
    x = np.array([[0.2], [0.9]], dtype=np.float32)
    sigmoid = 1 / (1 + np.exp(-x.astype(np.float64)))
    assert np.allclose(OnnxModel(path, spec, outputs=outputs).predict(x)[:, 1:], sigmoid, atol=1e-6)


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "missing"])
def test_damaged_files_are_refused_in_one_message(tmp_path, capfd, damage):
    path = save_onnx_mlp(tiny_mlp(), tmp_path / "m.onnx")
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"truncated": whole[: len(whole) // 2], "garbage": b"\x07" * 99, "empty": b""}[damage])
    with pytest.raises(ModelError) as caught:
        OnnxModel(path, TABLE)
    assert "\n" not in str(caught.value)
    assert "m.onnx" in str(caught.value)
    assert capfd.readouterr().err == ""


def two_inputs(path):
    return graph(
        path,
        [helper.make_node("Add", ["a", "b"], ["y"])],
        [value("a", FLOAT, ["n", 4]), value("b", FLOAT, ["n", 4])],
        [value("y", FLOAT, ["n", 4])],
    )


def two_outputs(path):
    return graph(
        path,
        [helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["z"])],
        [value("x", FLOAT, ["n", 4])],
        [value("y", FLOAT, ["n", 4]), value("z", FLOAT, ["n", 4])],
    )


def text_input(path):
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    return graph(path, nodes, [value("x", TensorProto.STRING, ["n", 4])], [value("y", TensorProto.STRING, ["n", 4])])


def nan_answers(path):
    return graph(
        path,
        [helper.make_node("Sub", ["x", "x"], ["z"]), helper.make_node("Div", ["z", "z"], ["y"])],
        [value("x", FLOAT, ["n", 4])],
        [value("y", FLOAT, ["n", 4])],
    )


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (two_inputs, {}, "2 inputs \\('a', 'b'\\)"),
        (two_outputs, {}, "several outputs to choose from: name one with output=.*'y'.*'z'"),
        (two_outputs, {"output": "w"}, "no output 'w'; it has 'y'"),
        (two_outputs, {"output": "y", "classes": 3}, "tells 4 classes apart, but 3"),
        (text_input, {}, "takes a tensor\\(string\\)"),
        (nan_answers, {}, "NaN"),
        (lambda p: save_onnx_mlp(tiny_mlp(5), p), {}, r"shape \(5\).*prepared as \(4,\)"),
        (lambda p: save_onnx_mlp(tiny_mlp(), p), {"outputs": "probabilities"}, 'say outputs="logits"'),
        (lambda p: save_onnx_mlp(tiny_mlp(), p, softmax=True), {"outputs": "logits"}, 'say outputs="probabilities"'),
    ],
)
def test_what_is_no_classifier_of_such_records_is_refused(tmp_path, make, options, message):
    with pytest.raises(ModelError, match=message):
        OnnxModel(make(tmp_path / "m.onnx"), TABLE, **options)


def test_an_output_can_be_named(tmp_path):
    victim = OnnxModel(two_outputs(tmp_path / "m.onnx"), TABLE, output="z")
    assert np.array_equal(victim.logits(X), np.abs(X).astype(np.float64))


def test_bad_options_say_what_was_meant(tmp_path):
    path = save_onnx_mlp(tiny_mlp(), tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match="did you mean 'logits'"):
        OnnxModel(path, TABLE, outputs="logit")
    with pytest.raises(ConfigError, match="batch"):
        OnnxModel(path, TABLE, batch=-1)


def test_fingerprints_are_of_the_file_and_the_declaration(tmp_path):
    path = save_onnx_mlp(tiny_mlp(), tmp_path / "m.onnx")
    one = OnnxModel(path, TABLE).fingerprint
    assert OnnxModel(path, TABLE, batch=3).fingerprint == one
    assert OnnxModel(save_onnx_mlp(trained_mlp(), tmp_path / "t.onnx"), TABLE).fingerprint != one
    assert OnnxModel(path, InputSpec((4,), modality=Modality.TABLE)).fingerprint != one


def test_a_missing_runtime_names_the_extra(tmp_path, monkeypatch):
    path = save_onnx_mlp(tiny_mlp(), tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r"pip install 'seepage\[onnx\]'"):
        OnnxModel(path, TABLE)


def test_weights_beside_the_file_are_read(tmp_path):
    path = save_onnx_mlp(trained_mlp(), tmp_path / "m.onnx")
    plain = OnnxModel(path, TABLE).predict(X)
    model = onnx.load(path)
    apart = tmp_path / "apart.onnx"
    onnx.save(model, apart, save_as_external_data=True, location="weights.bin", size_threshold=0)
    victim = OnnxModel(apart, TABLE)
    assert np.array_equal(victim.predict(X), plain)
    (tmp_path / "unrelated.txt").write_text("note")
    assert OnnxModel(apart, TABLE).fingerprint == victim.fingerprint
    weights = tmp_path / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\x00\x00\x80\x3f")
    assert OnnxModel(apart, TABLE).fingerprint != victim.fingerprint
