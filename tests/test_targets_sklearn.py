"""Scikit-learn estimators as victims."""

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from fixtures_victims import TABLE, table
from seepage.core.errors import AccessDenied, ConfigError, ModelError
from seepage.core.spec import Bounds, InputSpec
from seepage.core.target import Target
from seepage.core.victim import GivesLogits, GivesWeights, Model
from seepage.core.vocabulary import Access, Modality
from seepage.targets.identity import state_digest
from seepage.targets.sklearn import SklearnModel, family_of

X, Y = table(150)
FRAME = pd.DataFrame(X.astype(np.float64), columns=list("abcd"))


def test_scores_are_those_of_predict_proba():
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(X.astype(np.float64), Y)
    victim = SklearnModel(estimator, TABLE)
    assert isinstance(victim, Model)
    assert not isinstance(victim, GivesLogits)
    assert not isinstance(victim, GivesWeights)
    assert np.array_equal(victim.predict(X), estimator.predict_proba(X.astype(np.float64)))
    assert victim.classes == 3
    assert victim.class_labels == (0, 1, 2)
    assert victim.offers == {Access.SCORES}
    assert victim.predict(X[:0]).shape == (0, 3)


@pytest.mark.parametrize("estimator", [LinearSVC(), RidgeClassifier()])
def test_without_predict_proba_labels_alone_are_offered(estimator):
    estimator.fit(X, Y)
    victim = SklearnModel(estimator, TABLE)
    rows = victim.predict(X)
    assert victim.offers == {Access.LABELS}
    assert np.array_equal(np.sort(rows, axis=1), np.tile([0.0, 0.0, 1.0], (len(X), 1)))
    assert np.array_equal(rows.argmax(axis=1), estimator.predict(X))
    target = Target(victim, {Access.LABELS})
    assert np.array_equal(target.labels(X), estimator.predict(X))
    with pytest.raises(AccessDenied):
        Target(victim, {Access.SCORES})


def test_an_image_reaches_the_estimator_flat_and_prepared():
    spec = InputSpec((3, 2, 2), Bounds.of(0.0, 255.0), mean=(128.0,), std=(64.0,), layout="hwc", channels="bgr")
    x = np.random.default_rng(0).uniform(0, 255, (60, 3, 2, 2)).astype(np.float32)
    prepared = spec.prepare(x)
    assert prepared.shape == (60, 2, 2, 3)
    estimator = LogisticRegression().fit(prepared.reshape(60, -1), np.arange(60) % 2)
    expected = estimator.predict_proba(prepared.reshape(60, -1).astype(np.float64))
    assert np.array_equal(SklearnModel(estimator, spec).predict(x), expected)


def test_a_model_fitted_on_a_frame_is_asked_by_name_in_its_own_order():
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(FRAME, Y)
    shuffled = ["d", "b", "a", "c"]
    spec = InputSpec((4,), TABLE.bounds, Modality.TABLE, features=tuple(shuffled))
    x = FRAME[shuffled].to_numpy(dtype=np.float32)
    assert np.array_equal(SklearnModel(estimator, spec).predict(x), estimator.predict_proba(FRAME))
    nameless = InputSpec((4,), TABLE.bounds, Modality.TABLE)
    assert np.array_equal(SklearnModel(estimator, nameless).predict(X), estimator.predict_proba(FRAME))
    strange = InputSpec((4,), TABLE.bounds, Modality.TABLE, features=("a", "b", "c", "z"))
    with pytest.raises(ModelError, match="other columns than the records have: d, z"):
        SklearnModel(estimator, strange)


def test_columns_are_in_the_order_of_the_datas_classes():
    names = np.array(["cat", "dog", "emu"])
    estimator = LogisticRegression().fit(X, names[Y])
    proba = estimator.predict_proba(X.astype(np.float64))
    assert np.array_equal(SklearnModel(estimator, TABLE).predict(X), proba)
    victim = SklearnModel(estimator, TABLE, class_names=["emu", "cat", "bee", "dog"])
    assert np.array_equal(victim.predict(X), np.stack([proba[:, 2], proba[:, 0], 0 * proba[:, 0], proba[:, 1]], axis=1))
    assert victim.class_labels == ("emu", "cat", None, "dog")
    with pytest.raises(ModelError, match="'emu'"):
        SklearnModel(estimator, TABLE, class_names=["cat", "dog", "fox"])


def test_classes_the_estimator_never_saw_have_no_chance():
    estimator = LogisticRegression().fit(X, np.array([0, 2, 4])[Y])
    victim = SklearnModel(estimator, TABLE, classes=5)
    assert np.array_equal(victim.predict(X)[:, [1, 3]], np.zeros((len(X), 2)))
    assert victim.class_labels == (0, None, 2, None, 4)
    svm = SklearnModel(LinearSVC().fit(X, np.array([0, 2, 4])[Y]), TABLE, classes=5)
    assert set(svm.predict(X).argmax(axis=1)) == {0, 2, 4}


@pytest.mark.parametrize(
    ("estimator", "family"),
    [
        (LogisticRegression(), "linear"),
        (LinearSVC(), "linear"),
        (DecisionTreeClassifier(), "tree"),
        (RandomForestClassifier(), "tree"),
        (HistGradientBoostingClassifier(), "tree"),
        (MLPClassifier(), "mlp"),
        (SVC(), "kernel"),
        (KNeighborsClassifier(), "neighbors"),
        (GaussianNB(), "bayes"),
        (VotingClassifier([]), "unknown"),
        (make_pipeline(StandardScaler(), RandomForestClassifier()), "tree"),
        (CalibratedClassifierCV(GaussianNB()), "bayes"),
        (object(), "unknown"),
    ],
)
def test_families_come_from_the_module(estimator, family):
    assert family_of(estimator) == family


def test_a_search_is_of_the_family_it_found():
    search = GridSearchCV(make_pipeline(StandardScaler(), SVC()), {"svc__C": [1.0]}, cv=2).fit(X, Y)
    assert family_of(search) == "kernel"
    victim = SklearnModel(search, TABLE, family="other")
    assert victim.family == "other"
    assert victim.offers == {Access.LABELS}


class Duck:
    """Looks like an estimator of another library."""

    classes_ = np.array([0, 1])

    def __init__(self, rows):
        self.rows = rows

    def predict(self, x):
        return np.zeros(len(x), dtype=int)

    def predict_proba(self, x):
        if isinstance(self.rows, Exception):
            raise self.rows
        return np.tile(self.rows, (len(x), 1))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0.5, 0.6], "sums to 1.1"),
        ([1.5, -0.5], "negative"),
        ([np.nan, 0.5], "NaN"),
        ([0.2, 0.3, 0.5], "3 columns for its 2 classes"),
        (ValueError("unknown category"), "unknown category"),
    ],
)
def test_what_is_no_prediction_is_refused(rows, message):
    victim = SklearnModel(Duck(rows), TABLE)
    with pytest.raises(ModelError, match=message):
        victim.predict(X)


@pytest.mark.parametrize(
    ("estimator", "options", "message"),
    [
        (LogisticRegression(), {}, r"LogisticRegression is not fitted: call fit\(\)"),
        (make_pipeline(StandardScaler(), LogisticRegression()), {}, "not fitted"),
        (LinearRegression().fit(X, Y), {}, "has no classes_"),
        (KNeighborsClassifier().fit(X, np.stack([Y, Y], axis=1)), {}, "several outputs"),
        (LogisticRegression().fit(X[:, :3], Y), {}, "takes 3 features, but a record of shape"),
        (GaussianNB().fit(X, np.zeros(len(X))), {}, "two classes or more"),
        (GaussianNB().fit(X, Y), {"classes": 2}, "3 classes apart.*2 were declared"),
    ],
)
def test_what_is_no_fitted_classifier_of_such_records_is_refused(estimator, options, message):
    with pytest.raises(ModelError, match=message):
        SklearnModel(estimator, TABLE, **options)


def test_names_and_numbers_of_classes_must_agree():
    with pytest.raises(ConfigError, match="2 classes were declared, with 3"):
        SklearnModel(GaussianNB().fit(X, Y), TABLE, 2, class_names=["a", "b", "c"])


@pytest.mark.parametrize(
    "make",
    [
        lambda seed: LogisticRegression(C=1.0 + seed),
        lambda seed: RandomForestClassifier(4, random_state=seed),
        lambda seed: GradientBoostingClassifier(n_estimators=3, subsample=0.5, random_state=seed),
        lambda seed: MLPClassifier((4,), solver="lbfgs", max_iter=20 + 9 * seed, random_state=seed),
        lambda seed: KNeighborsClassifier(3 + seed, algorithm="kd_tree"),
    ],
    ids=["linear", "forest", "boosting", "mlp", "neighbors"],
)
@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")  # a few steps are enough to have weights
def test_fingerprints_are_those_of_what_is_answered(make):
    one, same, other = make(0).fit(X, Y), make(0).fit(X, Y), make(1).fit(X, Y)
    first = SklearnModel(one, TABLE)
    before = first.fingerprint
    first.predict(X)
    assert before is not None
    assert SklearnModel(one, TABLE).fingerprint == before
    assert SklearnModel(same, TABLE).fingerprint == before
    assert SklearnModel(other, TABLE).fingerprint != before
    assert SklearnModel(one, InputSpec((4,), modality=Modality.TABLE)).fingerprint != before


def test_digests_see_values_and_not_how_they_are_kept():
    assert state_digest({"a": 1, "b": [1.0, 2]}) == state_digest({"b": (1.0, np.int64(2)), "a": np.int32(1)})
    assert state_digest(np.arange(3)) != state_digest(np.arange(3.0))
    assert state_digest(np.zeros(2)) != state_digest(np.zeros((2, 1)))
    assert state_digest(np.array(["x", None], dtype=object)) == state_digest(np.array(["x", None], dtype=object))
    assert state_digest({"a": 1}) != state_digest({"a": 2})
    assert state_digest([1, [2]]) != state_digest([[1], 2])
    padded = np.zeros(2, dtype=np.dtype([("a", "i1"), ("b", "f8")], align=True))
    dirty = np.frombuffer(bytes(b"\x00" + b"\x07" * 7 + b"\x00" * 8) * 2, dtype=padded.dtype)
    assert padded.tobytes() != dirty.tobytes()
    assert state_digest(padded) == state_digest(dirty)
    loop = []
    loop.append(loop)
    assert state_digest(loop) is not None
    assert state_digest(lambda: 1) is not None
    assert state_digest(i for i in range(3)) is None
