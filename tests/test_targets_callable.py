"""Python functions as victims."""

import numpy as np
import pandas as pd
import pytest
import torch

from fixtures_victims import TABLE, table, thirds
from seepage.core.errors import AccessDenied, ConfigError, DataError, ModelError
from seepage.core.spec import Bounds, InputSpec
from seepage.core.target import Target
from seepage.core.victim import Model
from seepage.core.vocabulary import Access
from seepage.targets.answers import softmax
from seepage.targets.callable import CallableModel, load_callable

X, _ = table(20)


def logits(x):
    return x[:, :3] * 4 - 2


def test_scores_are_what_the_function_answers():
    victim = CallableModel(thirds, TABLE)
    assert isinstance(victim, Model)
    assert victim.classes == 3
    assert victim.family == "unknown"
    assert victim.fingerprint is None
    assert victim.offers == {Access.SCORES}
    assert np.allclose(victim.predict(X), thirds(X), atol=1e-7)
    assert victim.predict(X[:0]).shape == (0, 3)
    assert Target(victim, {Access.SCORES}).scores(X).shape == (20, 3)


def test_logits_are_offered_as_logits():
    victim = CallableModel(logits, TABLE, outputs="logits")
    assert victim.offers == {Access.LOGITS}
    assert np.allclose(victim.logits(X), logits(X))
    assert np.allclose(victim.predict(X), softmax(logits(X)))
    with pytest.raises(AccessDenied, match="answers probabilities, no logits"):
        CallableModel(thirds, TABLE).logits(X)


@pytest.mark.parametrize(
    "form",
    [
        lambda p: torch.tensor(p, requires_grad=True),
        lambda p: pd.DataFrame(p),
        lambda p: p.tolist(),
        lambda p: p.astype(np.float16),
    ],
    ids=["tensor", "frame", "lists", "half"],
)
def test_answers_may_come_in_any_form(form):
    assert np.allclose(CallableModel(lambda x: form(thirds(x)), TABLE).predict(X), thirds(X), atol=2e-3)


def test_rounded_scores_pass_within_the_tolerance():
    def rounded(x):
        return np.round(thirds(x), 1)

    with pytest.raises(ModelError, match="raise sum_tolerance"):
        CallableModel(rounded, TABLE)
    victim = CallableModel(rounded, TABLE, sum_tolerance=0.2)
    assert np.allclose(victim.predict(X), rounded(X))


@pytest.mark.parametrize("squeezed", [True, False])
def test_one_number_is_the_score_of_class_one(squeezed):
    victim = CallableModel(lambda x: x[:, 0] if squeezed else x[:, :1], TABLE)
    assert victim.classes == 2
    assert np.allclose(victim.predict(X), np.stack([1 - X[:, 0], X[:, 0]], axis=1))


@pytest.mark.parametrize("form", [lambda y: y, lambda y: y.tolist(), lambda y: y[:, None], lambda y: y.astype("U1")])
def test_labels_give_one_hot_rows_and_no_more(form):
    def labels(x):
        return thirds(x).argmax(axis=1)

    victim = CallableModel(lambda x: form(labels(x)), TABLE, 3)
    assert victim.offers == {Access.LABELS}
    assert np.array_equal(victim.predict(X), np.eye(3)[labels(X)])
    with pytest.raises(ModelError, match="give classes"):
        CallableModel(lambda x: form(labels(x)), TABLE)
    with pytest.raises(AccessDenied, match="labels"):
        victim.logits(X)


def test_labels_that_are_names_go_by_name():
    victim = CallableModel(lambda x: np.where(x[:, 0] > 0.5, "dog", "cat"), TABLE, class_names=["cat", "dog", "emu"])
    assert victim.classes == 3
    assert np.array_equal(victim.predict(X).argmax(axis=1), (X[:, 0] > 0.5).astype(int))


def test_labels_written_as_floats_are_labels_when_declared():
    victim = CallableModel(lambda x: thirds(x).argmax(axis=1).astype(float), TABLE, 3, answers="labels")
    assert victim.offers == {Access.LABELS}
    assert np.array_equal(victim.predict(X).argmax(axis=1), thirds(X).argmax(axis=1))


def test_records_reach_the_function_prepared_and_in_batches():
    spec = InputSpec((3, 2, 2), Bounds.of(0.0, 255.0), mean=(1.0,), std=(2.0,), layout="hwc")
    seen = []

    def fn(x):
        seen.append(x)
        return np.tile([0.25, 0.75], (len(x), 1))

    victim = CallableModel(fn, spec, batch=3)
    seen.clear()
    x = np.random.default_rng(0).uniform(0, 255, (7, 3, 2, 2)).astype(np.float32)
    victim.predict(x)
    assert [len(part) for part in seen] == [3, 3, 1]
    assert np.array_equal(np.concatenate(seen), spec.prepare(x))


def test_the_cause_of_a_failing_function_is_kept():
    def failing(x):
        raise ZeroDivisionError("no money left")

    with pytest.raises(ModelError, match=r"'failing' failed \(ZeroDivisionError: no money left") as caught:
        CallableModel(failing, TABLE)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_errors_the_user_can_mend_pass_through():
    def failing(x):
        raise DataError("mend me")

    with pytest.raises(DataError, match="mend me"):
        CallableModel(failing, TABLE)


@pytest.mark.parametrize(
    ("fn", "options", "message"),
    [
        (lambda x: np.full((len(x), 3), np.nan), {}, "NaN"),
        (lambda x: x[:, :3], {}, 'instead of 1.*say outputs="logits"'),
        (logits, {}, "negative"),
        (lambda x: thirds(x)[:1], {}, "was given 4 records and answered an array of shape"),
        (lambda x: 3, {}, "answered an array of shape"),
        (lambda x: None, {}, "answered an array of shape"),
        (lambda x: np.zeros((len(x), 2, 2)), {}, "scores were wanted"),
        (thirds, {"classes": 4}, "tells 3 classes apart, but 4"),
        (lambda x: np.ones((len(x), 1)) * 3.0, {}, "probability 3"),
        (lambda x: np.full(len(x), 7), {"classes": 3}, "the label 7; class numbers are 0 to 2"),
        (lambda x: thirds(x), {"answers": "labels", "classes": 3}, "one label a record"),
    ],
)
def test_what_is_no_prediction_is_refused(fn, options, message):
    with pytest.raises(ModelError, match=message):
        CallableModel(fn, TABLE, **options)


def test_answers_may_not_change_their_form_later():
    calls = []

    def moody(x):
        calls.append(len(x))
        return thirds(x) if len(calls) == 1 else np.tile([0.5, 0.5], (len(x), 1))

    victim = CallableModel(moody, TABLE)
    with pytest.raises(ModelError, match="2 scores a record for 3 classes"):
        victim.predict(X)


def test_an_import_path_is_followed():
    assert np.allclose(load_callable("fixtures_victims:thirds", TABLE).predict(X), thirds(X), atol=1e-7)
    with pytest.raises(ConfigError, match="did you mean 'thirds'"):
        load_callable("fixtures_victims:third", TABLE)
    with pytest.raises(ConfigError, match="a function from records to scores"):
        load_callable("fixtures_victims:TABLE", TABLE)
    with pytest.raises(ConfigError, match="no module named"):
        load_callable("no_such_module_here:f", TABLE)
