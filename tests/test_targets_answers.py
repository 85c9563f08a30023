"""The checks that every adapter's answers pass through."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from seepage.core.errors import ConfigError, DataError, ModelError
from seepage.core.spec import Bounds, InputSpec
from seepage.core.vocabulary import Modality
from seepage.targets.answers import (
    agreed_classes,
    as_batch,
    as_rows,
    choice,
    digest,
    fit_shape,
    kind_of,
    label_column,
    label_columns,
    probe_records,
    scatter,
    softmax,
    to_logits,
    to_scores,
)

finite = st.floats(-80, 80)
WHO = "the victim"


@given(arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(2, 6)), elements=finite))
def test_softmax_is_a_distribution_that_keeps_the_odds(logits):
    p = softmax(logits)
    assert np.allclose(p.sum(axis=1), 1, atol=1e-12)
    assert np.allclose(softmax(logits + 1000), p)
    assert np.allclose(np.log(p[:, 0]) - np.log(p[:, 1]), logits[:, 0] - logits[:, 1])


def test_softmax_survives_the_greatest_values():
    assert np.array_equal(softmax(np.array([[1e308, 0.0], [-1e308, 0.0]])), [[1, 0], [0, 1]])


@given(
    arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 5)), elements=finite),
    st.sampled_from(["logits", "probabilities", "log_probabilities"]),
)
def test_scores_are_the_softmax_of_the_logits_for_every_kind_of_output(logits, outputs):
    one = logits.shape[1] == 1
    p = softmax(np.concatenate([0 * logits, logits], axis=1) if one else logits)
    told = p[:, 1:] if one else p
    rows = {"logits": logits, "probabilities": told, "log_probabilities": np.log(told)}[outputs]
    scores = to_scores(rows, outputs, WHO)
    assert np.allclose(scores, p, atol=1e-12)
    assert np.allclose(softmax(to_logits(rows, outputs)), p, atol=1e-9)


def test_a_single_logit_is_the_sigmoid_of_class_one():
    z = np.array([[-2.0], [0.0], [3.0]])
    assert np.allclose(to_scores(z, "logits", WHO)[:, 1], 1 / (1 + np.exp(-z[:, 0])))


@pytest.mark.parametrize(
    ("rows", "outputs", "message"),
    [
        ([[0.7, 0.7]], "probabilities", "sums to 1.4"),
        ([[1.2, -0.2]], "probabilities", "negative"),
        ([[1.7]], "probabilities", "probability 1.7"),
        ([[0.2, -1.0]], "log_probabilities", "no log-probability"),
        ([[-3.0, -3.0]], "log_probabilities", "sums to 0.09957"),
    ],
)
def test_what_is_no_distribution_is_refused_with_the_way_out(rows, outputs, message):
    with pytest.raises(ModelError, match=message) as caught:
        to_scores(np.array(rows), outputs, WHO)
    assert 'outputs="logits"' in str(caught.value)


def test_a_last_bit_below_zero_is_zero():
    scores = to_scores(np.array([[1.0, -1e-9]]), "probabilities", WHO)
    assert np.array_equal(scores, [[1.0, 0.0]])
    assert np.array_equal(to_scores(np.array([[-1e-9], [1 + 1e-9]]), "probabilities", WHO), [[1, 0], [0, 1]])


def test_kinds_are_told_apart():
    p = softmax(np.random.default_rng(0).normal(size=(5, 3)))
    assert kind_of(p) == "probabilities"
    assert kind_of(np.log(p)) == "log_probabilities"
    assert kind_of(3 * p) == "logits"
    assert kind_of(np.array([[0.2], [1.5]])) == "logits"
    assert kind_of(np.array([[0.2], [0.5]])) is None


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([[0.5, np.nan]], "NaN or infinite"),
        ([[np.inf, 0.0]], "NaN or infinite"),
        ([[0.5, 0.5], [0.5, 0.5]], r"got shape \(2, 2\)"),
        (np.zeros((1, 2, 2)), r"got shape \(1, 2, 2\)"),
        (np.zeros((1, 0)), r"got shape \(1, 0\)"),
        ([["a", "b"]], "not an array of numbers"),
        ([[1, 2], [3]], "not an array of numbers"),
    ],
)
def test_answers_that_are_no_rows_are_refused(raw, message):
    with pytest.raises(ModelError, match=message):
        as_rows(raw, 1, WHO)


def test_trailing_sides_of_one_are_dropped():
    assert as_rows(np.ones((2, 3, 1, 1)), 2, WHO).shape == (2, 3)
    assert as_rows(np.ones(2), 2, WHO).shape == (2, 1)


@pytest.mark.parametrize(
    "x", [np.zeros((2, 3)), np.zeros(4), np.zeros(()), np.full((2, 4), np.nan), np.array([["a"] * 4])]
)
def test_records_of_another_form_are_refused(x):
    with pytest.raises(DataError):
        as_batch(InputSpec((4,), modality=Modality.TABLE), x)


def test_records_a_little_out_of_bounds_may_be_asked_by_the_owner():
    spec = InputSpec((2,), modality=Modality.TABLE)
    assert as_batch(spec, np.array([[1.5, -0.5]])).dtype == np.float32


def test_probes_lie_in_the_bounds_and_begin_in_the_middle():
    spec = InputSpec((3,), Bounds.of([0.0, -5.0, 2.0], [1.0, 5.0, 2.0]), Modality.TABLE)
    x = probe_records(spec, 50)
    assert spec.bounds.contain(x, 0.0)
    assert np.array_equal(x[0], np.array([0.5, 0, 2], dtype=np.float32))
    assert len(np.unique(x[:, 0])) > 40
    assert np.array_equal(x, probe_records(spec, 50))


def test_shapes_fit_as_they_are_or_flat_or_not_at_all():
    x = np.arange(24.0).reshape(2, 3, 2, 2)
    assert fit_shape([3, None, -1], x, WHO).shape == (2, 3, 2, 2)
    assert np.array_equal(fit_shape(["d"], x, WHO), x.reshape(2, 12))
    with pytest.raises(ModelError, match=r"shape \(1, 2, 2\).*\(3, 2, 2\)"):
        fit_shape([1, 2, 2], x, WHO)
    with pytest.raises(ModelError, match="shape"):
        fit_shape([11], x, WHO)


def test_labels_go_by_name_then_by_number():
    assert label_column("dog", None, ("cat", "dog"), WHO) == 1
    assert label_column(10, None, ("0", "1", "10", "2"), WHO) == 2
    assert label_column(1, None, ("cat", "dog"), WHO) == 1
    assert label_column("2", 3, (), WHO) == 2
    assert label_column(np.int64(2), 3, (), WHO) == 2
    assert label_column(2.0, 3, (), WHO) == 2


@pytest.mark.parametrize(
    ("label", "classes", "names", "message"),
    [
        ("bird", None, ("cat", "dog"), "nothing says which class"),
        ("cat", 2, (), "give class_names"),
        (2, 2, (), "class numbers are 0 to 1"),
        (-1, 2, (), "class numbers are 0 to 1"),
        (0.5, 2, (), "nothing says"),
        (None, 2, (), "nothing says"),
    ],
)
def test_labels_that_stand_for_no_class_are_refused(label, classes, names, message):
    with pytest.raises(ModelError, match=message):
        label_column(label, classes, names, WHO)


def test_columns_follow_the_numbers_of_the_data():
    assert label_columns(["dog", "cat"], None, ("cat", "dog", "emu"), WHO) == (1, 0)
    assert label_columns([1, 2, 3], None, (), WHO) == (0, 1, 2)
    assert label_columns([0, 2, 4], 5, (), WHO) == (0, 2, 4)
    assert label_columns(["x", "y"], 2, (), WHO) == (0, 1)


@pytest.mark.parametrize(
    ("labels", "classes", "names", "message"),
    [
        (["only"], None, (), "two classes or more"),
        (["x", "y"], 3, (), "2 classes apart.*3 were declared"),
        ([0, 1, 2], 2, (), "3 classes apart.*2 were declared"),
        ([0, 7], 5, (), "class numbers are 0 to 4"),
        (["cat", 0], None, ("cat", "dog"), "several labels for one class"),
    ],
)
def test_classes_that_cannot_be_matched_are_refused(labels, classes, names, message):
    with pytest.raises(ModelError, match=message):
        label_columns(labels, classes, names, WHO)


def test_scatter_puts_columns_at_their_class_numbers():
    rows = np.array([[0.1, 0.9]])
    assert np.array_equal(scatter(rows, (2, 0), 3), [[0.9, 0.0, 0.1]])
    assert scatter(rows, (0, 1), 2) is rows


def test_declared_classes_must_agree():
    assert agreed_classes(None, ("a", "b"), WHO) == 2
    assert agreed_classes(3, (), WHO) == 3
    assert agreed_classes(None, (), WHO) is None
    with pytest.raises(ConfigError, match="3 classes were declared, with 2"):
        agreed_classes(3, ("a", "b"), WHO)
    with pytest.raises(ConfigError, match="twice"):
        agreed_classes(None, ("a", "a"), WHO)
    with pytest.raises(ModelError, match="two classes"):
        agreed_classes(1, (), WHO)


def test_choices_say_what_was_meant():
    with pytest.raises(ConfigError, match="did you mean 'logits'"):
        choice("outputs", "logit", ("logits", "probabilities"))


def test_digests_keep_parts_apart():
    assert digest(b"ab", b"c") != digest(b"a", b"bc")
