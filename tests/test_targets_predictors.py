"""Victims that predict numbers or labels, and estimators that are given tables as they are."""

import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from safetensors.torch import save_file
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from torch import nn

from fixtures_victims import TABLE, table
from seepage.core.errors import AccessDenied, ConfigError, ModelError
from seepage.core.target import Target
from seepage.core.victim import Model, task_of
from seepage.core.vocabulary import Access, Task
from seepage.data import Reading, as_splits
from seepage.defenses.outputs.rounding import Round
from seepage.targets import infer_spec, open_victim, task_told, wrap
from seepage.targets.sklearn_predictors import estimator_predictor, told_task

X, _ = table(120)
Y = X @ np.array([3.0, -2.0, 1.0, 0.0]) * 50 + 20
TWO = np.stack([Y, -Y], axis=1)
LABELS = (X[:, :3] > 0.5).astype(int)
WIDE = X.astype(np.float64)


def test_a_regressor_answers_numbers() -> None:
    estimator = make_pipeline(StandardScaler(), RandomForestRegressor(5, random_state=0)).fit(WIDE, Y)
    victim = wrap(estimator, TABLE, task="values", classes=1)
    assert isinstance(victim, Model)
    assert task_of(victim) is Task.VALUES
    assert victim.offers == {Access.SCORES}
    assert victim.family == "tree"
    assert victim.predict(X).shape == (120, 1)
    np.testing.assert_allclose(victim.predict(X)[:, 0], estimator.predict(WIDE))
    assert victim.predict(X[:0]).shape == (0, 1)
    again = wrap(RandomForestRegressor(5, random_state=1).fit(WIDE, Y), TABLE, task="values", classes=1)
    assert victim.fingerprint not in (None, again.fingerprint)
    np.testing.assert_allclose(Target(victim, {Access.SCORES}).scores(X), victim.predict(X))
    with pytest.raises(AccessDenied):
        Target(victim, {Access.WEIGHTS})


@pytest.mark.parametrize("estimator", [LinearRegression(), MultiOutputRegressor(LinearRegression())])
def test_several_numbers(estimator) -> None:
    victim = wrap(estimator.fit(WIDE, TWO), TABLE, task="values", classes=2)
    np.testing.assert_allclose(victim.predict(X), TWO, atol=1e-3)
    with pytest.raises(ModelError, match="answered 2 numbers a record, but a record has 1 targets"):
        wrap(estimator, TABLE, task="values", classes=1)


MANY = {
    "one after the other": MultiOutputClassifier(LogisticRegression()),
    "one against the rest": OneVsRestClassifier(LogisticRegression()),
    "forest": RandomForestClassifier(8, random_state=0),
    "neighbours": KNeighborsClassifier(3),
    "network": MLPClassifier((8,), max_iter=200, random_state=0),
    "pipeline": make_pipeline(StandardScaler(), RandomForestClassifier(8, random_state=0)),
    "search": GridSearchCV(RandomForestClassifier(4, random_state=0), {"max_depth": [3]}, cv=2),
}


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("name", MANY)
def test_estimators_of_several_labels(name: str) -> None:
    estimator = MANY[name].fit(WIDE, LABELS)
    assert told_task(estimator) is Task.LABELS
    victim = estimator_predictor(estimator, TABLE, Task.LABELS, 3)
    p = victim.predict(X)
    assert p.shape == (120, 3)
    assert ((p >= 0) & (p <= 1)).all()
    # Where it is surest it says what it would predict.
    sure = np.abs(p - 0.5) > 0.01
    np.testing.assert_array_equal((p > 0.5)[sure], np.asarray(estimator.predict(WIDE), dtype=bool)[sure])


def test_a_label_that_no_record_had_has_no_probability() -> None:
    labels = LABELS.copy()
    labels[:, 1], labels[:, 2] = 0, 1
    p = estimator_predictor(RandomForestClassifier(4).fit(WIDE, labels), TABLE, Task.LABELS, 3).predict(X)
    assert (p[:, 1] == 0).all()
    assert (p[:, 2] == 1).all()


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_what_estimators_tell_of_their_task() -> None:
    assert told_task(RandomForestRegressor()) is Task.VALUES
    assert told_task(make_pipeline(StandardScaler(), LinearRegression())) is Task.VALUES
    assert told_task(LogisticRegression().fit(WIDE, LABELS[:, 0])) is Task.CLASSES
    assert told_task(MLPClassifier((4,), max_iter=5).fit(WIDE, LABELS[:, 0])) is Task.CLASSES
    assert task_told(nn.Linear(4, 2)) is None
    assert task_told("model.skops") is None


REFUSED = {
    "a classifier for numbers": (LogisticRegression().fit(WIDE, LABELS[:, 0]), Task.VALUES, "tells classes apart"),
    "labels without probabilities": (
        OneVsRestClassifier(LinearSVC()).fit(WIDE, LABELS),
        Task.LABELS,
        "has no predict_proba",
    ),
    "labels of three values": (
        RandomForestClassifier(3).fit(WIDE, LABELS + LABELS[:, ::-1]),
        Task.LABELS,
        "labels that are 0 or 1; label 1 of the estimator has the values",
    ),
    "not fitted": (RandomForestRegressor(), Task.VALUES, "not fitted"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", REFUSED)
def test_estimators_that_are_refused(case: str) -> None:
    estimator, task, message = REFUSED[case]
    with pytest.raises(ModelError, match=message):
        estimator_predictor(estimator, TABLE, task, 3 if task is Task.LABELS else 1)


def test_the_wrong_task_is_told_where_classes_were_wanted() -> None:
    with pytest.raises(ModelError, match='no classes_; if it predicts numbers, say task = "values"'):
        wrap(LinearRegression().fit(WIDE, Y), TABLE)
    with pytest.raises(ModelError, match='if each is a yes or no, say task = "labels"'):
        wrap(RandomForestClassifier(3).fit(WIDE, LABELS), TABLE)


# Networks and functions


def test_a_network_answers_its_outputs_as_they_are() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    victim = wrap(net, TABLE, task="values", classes=1)
    with torch.no_grad():
        np.testing.assert_allclose(victim.predict(X), net(torch.from_numpy(X)).numpy(), rtol=1e-6)
    assert victim.family == "mlp"
    assert net[0].weight.requires_grad


def test_a_network_of_labels_has_a_sigmoid_behind_each_logit() -> None:
    torch.manual_seed(0)
    net = nn.Linear(4, 3)
    with torch.no_grad():
        logits = net(torch.from_numpy(X)).numpy()
    p = wrap(net, TABLE, task="labels", classes=3).predict(X)
    np.testing.assert_allclose(p, 1 / (1 + np.exp(-logits)), rtol=1e-6)
    with_sigmoid = nn.Sequential(net, nn.Sigmoid())
    with pytest.raises(ModelError, match="a second sigmoid would distort"):
        wrap(with_sigmoid, TABLE, task="labels", classes=3)
    said = wrap(with_sigmoid, TABLE, task="labels", classes=3, outputs="probabilities")
    np.testing.assert_allclose(said.predict(X), p, rtol=1e-5)


def test_files_of_predictors(tmp_path) -> None:
    skops.io.dump(LinearRegression().fit(WIDE, Y), tmp_path / "r.skops")
    victim = open_victim("sklearn", TABLE, {"path": str(tmp_path / "r.skops")}, task=Task.VALUES, count=1)
    np.testing.assert_allclose(victim.predict(X)[:, 0], Y, atol=1e-3)
    net = nn.Linear(4, 2)
    save_file(net.state_dict(), tmp_path / "n.safetensors")
    options = {"build": "fixtures_victims:tiny_mlp", "build_args": {"classes": 2}}
    victim = open_victim("torch", TABLE, options, task=Task.VALUES, count=2)
    assert victim.predict(X).shape == (120, 2)
    with pytest.raises(ConfigError, match=r'kind "onnx" tells classes apart.*wrap it in a Python function'):
        open_victim("onnx", TABLE, {"path": "m.onnx"}, task=Task.VALUES, count=1)
    with pytest.raises(ConfigError, match="a sklearn victim of values has no option 'class_names'"):
        open_victim("sklearn", TABLE, {"path": "m", "class_names": ["a"]}, task=Task.VALUES, count=1)


def test_functions() -> None:
    victim = wrap(lambda x: x.sum(axis=1), TABLE, task="values", classes=1, batch=7)
    np.testing.assert_allclose(victim.predict(X)[:, 0], X.sum(axis=1), rtol=1e-6)
    logits = wrap(lambda x: torch.from_numpy(x[:, :2] * 9), TABLE, task="labels", classes=2, outputs="logits")
    assert logits.predict(X).max() < 1
    with pytest.raises(ModelError, match="are no probabilities of labels; if these are logits"):
        wrap(lambda x: x[:, :2] * 9, TABLE, task="labels", classes=2)
    with pytest.raises(ModelError, match=r"failed .ZeroDivisionError"):
        wrap(lambda x: 1 / 0, TABLE, task="values", classes=1)
    with pytest.raises(ModelError, match="NaN or infinite"):
        wrap(lambda x: x.sum(axis=1) * np.nan, TABLE, task="values", classes=1)
    with pytest.raises(ConfigError, match="how many values a record"):
        wrap(lambda x: x, TABLE, task="values")


def test_a_defense_passes_the_task_on() -> None:
    victim = wrap(LinearRegression().fit(WIDE, Y), TABLE, task="values", classes=1)
    defended = Round(digits=0).wrap(victim, np.random.default_rng(0))
    assert task_of(defended) is Task.VALUES
    np.testing.assert_array_equal(defended.predict(X), np.round(victim.predict(X)).astype(np.float32))


# Tables as they are


def _people(n: int = 90) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"age": rng.integers(18, 80, n), "work": rng.choice(["state", "self", "none"], n)})
    return frame.assign(kind=np.where(frame.age + 20 * (frame.work == "self") > 50, "s10", "s2"))


def _pipeline() -> object:
    coded = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["work"]), (StandardScaler(), ["age"]))
    return make_pipeline(coded, LogisticRegression())


def test_a_pipeline_is_given_the_table_it_was_fitted_on() -> None:
    frame = _people()
    raw = frame[["work", "age"]]
    estimator = _pipeline().fit(raw, frame.kind)
    splits = as_splits(frame, target="kind", own=True)
    victim = wrap(estimator, infer_spec(splits), like=splits)
    # Classes are in natural order, "s2" before "s10"; scikit-learn's are sorted: "s10" before "s2".
    assert splits.members.class_names == ("s2", "s10")
    np.testing.assert_allclose(victim.predict(splits.members.x), estimator.predict_proba(raw)[:, ::-1])
    said = np.asarray(splits.members.class_names)[victim.predict(splits.members.x).argmax(axis=1)]
    assert said.tolist() == estimator.predict(raw).tolist()


def test_a_pipeline_on_other_columns_is_refused() -> None:
    frame = _people()
    splits = as_splits(frame.assign(more=1.5), target="kind", own=True)
    with pytest.raises(ModelError, match=r"fitted on other columns.*more are on one side only.*drop"):
        wrap(_pipeline().fit(frame[["work", "age"]], frame.kind), infer_spec(splits), like=splits)


def test_a_function_is_given_the_table_and_a_network_refuses_it() -> None:
    frame = _people()
    splits = as_splits(frame, reading=Reading(target="kind", encode="own"))
    seen: list[pd.DataFrame] = []

    def answer(table: pd.DataFrame) -> np.ndarray:
        seen.append(table)
        return np.full((len(table), 2), 0.5)

    wrap(answer, infer_spec(splits)).predict(splits.members.x)
    pd.testing.assert_frame_equal(seen[-1], frame[["age", "work"]])
    with pytest.raises(ModelError, match=r"'work'.*choose encode"):
        wrap(nn.Linear(4, 2), infer_spec(splits))


def test_missing_values_that_an_estimator_does_not_take() -> None:
    frame = _people()
    estimator = LogisticRegression().fit(frame[["age"]], frame.kind)
    gaps = frame[["age", "kind"]].astype({"age": float})
    gaps.loc[3, "age"] = np.nan
    splits = as_splits(gaps, target="kind", own=True)
    with pytest.raises(ModelError, match='set missing = "drop"'):
        wrap(estimator, infer_spec(splits), like=splits).predict(splits.members.x)
