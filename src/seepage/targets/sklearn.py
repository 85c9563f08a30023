"""A scikit-learn estimator or pipeline as a victim, and its files."""

import json
import zipfile
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import skops.io
from jaxtyping import Float
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from seepage.core.errors import ModelError, TrustError
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Access
from seepage.targets.answers import (
    agreed_classes,
    as_batch,
    as_rows,
    digest,
    label_columns,
    one_hot,
    scatter,
    spec_text,
    to_scores,
)
from seepage.targets.identity import state_digest
from seepage.targets.trust import existing, unpickle

Array = np.ndarray

PICKLED = (".pkl", ".pickle", ".joblib")
_CONVERT = "convert it where it was trained: skops.io.dump(estimator, 'model.skops')"
_WHO = "the estimator"

_FAMILIES = {
    "linear_model": "linear",
    "discriminant_analysis": "linear",
    "tree": "tree",
    "ensemble": "tree",
    "xgboost": "tree",
    "lightgbm": "tree",
    "catboost": "tree",
    "neural_network": "mlp",
    "svm": "kernel",
    "gaussian_process": "kernel",
    "neighbors": "neighbors",
    "naive_bayes": "bayes",
}
# Modules of estimators that only wrap another one, and where they keep it.
_WRAPPERS = ("sklearn.model_selection", "sklearn.calibration", "sklearn.multiclass")
_INNER = ("best_estimator_", "estimator_", "estimator")
# In the ensemble module, but a mixture of whatever they were given.
_MIXED = ("VotingClassifier", "StackingClassifier", "BaggingClassifier", "AdaBoostClassifier")


def family_of(estimator: Any) -> str:
    """The family of an estimator, by the module it comes from; of a pipeline or a search, that of what it ends in."""
    steps = getattr(estimator, "steps", None)
    if steps:
        return family_of(steps[-1][1])
    kind = type(estimator)
    for inner in _INNER if kind.__module__.startswith(_WRAPPERS) else ():
        if hasattr(estimator, inner):
            return family_of(getattr(estimator, inner))
    if kind.__name__ in _MIXED:
        return "unknown"
    if kind.__name__ == "LinearSVC":
        return "linear"
    parts = kind.__module__.split(".")
    return next((_FAMILIES[part] for part in parts if part in _FAMILIES), "unknown")


class SklearnModel:
    """A fitted scikit-learn classifier, pipeline or search (or anything with its methods) as a victim.

    With `predict_proba` it offers scores. Without (a linear support vector machine, say) it offers
    labels alone, as one-hot rows: a softmax over `decision_function` would be scores that the
    estimator never gives. Records reach it flattened to (n, d), in float64, after the spec's
    preprocessing, and with the names it was fitted with when it was fitted on a data frame.

    Args:
        estimator: fitted, with `classes_`.
        spec: what one record is; `features` names the columns when their order differs from that
            the estimator was fitted with.
        classes: how many classes the data has, when the estimator may not have seen all of them.
        class_names: what the data calls its classes, in its own order: the columns are put into
            that order by name. Without it the columns stay in the order of `classes_`, except that
            whole numbers among more `classes` go to the columns they name.
        family: the architecture family; by the estimator's module when not given.
        data_names: the same as `class_names`, for an estimator whose labels are these names, and for no other.

    Raises:
        ModelError: when it is not a fitted single-output classifier for such records.
        ConfigError: for an option that cannot be used.
    """

    def __init__(
        self,
        estimator: Any,
        spec: InputSpec,
        classes: int | None = None,
        *,
        class_names: Sequence[str] = (),
        family: str | None = None,
        data_names: Sequence[str] = (),
    ):
        if not class_names and classes in (None, len(data_names)) and _goes_by(estimator, data_names):
            class_names = data_names
        declared = agreed_classes(classes, class_names, _WHO)
        check_fitted(estimator)
        labels = getattr(estimator, "classes_", None)
        if labels is None or np.ndim(labels) != 1 or not hasattr(estimator, "predict"):
            raise ModelError(
                f"a classifier with one output was wanted; this {type(estimator).__name__} has "
                + (
                    'no classes_; if it predicts numbers, say task = "values"'
                    if labels is None
                    else 'several outputs, each with classes of its own; if each is a yes or no, say task = "labels"'
                )
            )
        self._estimator = estimator
        self._spec = spec
        self._labels: tuple[Any, ...] = tuple(np.asarray(labels).tolist())
        self._columns = label_columns(self._labels, declared, tuple(class_names), _WHO)
        self._classes = declared or len(self._labels)
        self._family = family or family_of(estimator)
        self._scored = hasattr(estimator, "predict_proba")
        self._names = column_names(estimator, spec)

    @property
    def spec(self) -> InputSpec:
        return self._spec

    @property
    def classes(self) -> int:
        return self._classes

    @property
    def family(self) -> str:
        return self._family

    @property
    def offers(self) -> frozenset[Access]:
        return frozenset({Access.SCORES if self._scored else Access.LABELS})

    @property
    def class_labels(self) -> tuple[Any, ...]:
        """The estimator's own label for each class number; None for a class it never saw."""
        own = dict(zip(self._columns, self._labels, strict=True))
        return tuple(own.get(c) for c in range(self._classes))

    @cached_property
    def fingerprint(self) -> str | None:
        """SHA-256 over the fitted estimator and the declaration; None when its state cannot be read."""
        state = state_digest(self._estimator)
        return None if state is None else digest(state.encode(), repr(self._columns).encode(), spec_text(self._spec))

    def predict(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        """(n, classes) probabilities, float64, or one-hot rows of a victim that gives labels alone.

        Raises:
            DataError: for records of another shape, or that are not finite.
            ModelError: when the estimator fails or answers no probabilities.
        """
        x = as_batch(self._spec, x)
        if not len(x):
            return np.zeros((0, self._classes))
        given = as_given(self._spec, self._names, x)
        answer = asked(self._estimator.predict_proba if self._scored else self._estimator.predict, given)
        if not self._scored:
            own = dict(zip(self._labels, self._columns, strict=True))
            return one_hot(np.array([own[label] for label in np.asarray(answer).tolist()]), self._classes)
        rows = as_rows(answer, len(x), _WHO)
        if rows.shape[1] != len(self._columns):
            raise ModelError(f"{_WHO} answered {rows.shape[1]} columns for its {len(self._columns)} classes")
        return scatter(to_scores(rows, "probabilities", _WHO), self._columns, self._classes)


def load_sklearn(
    path: str | Path,
    spec: InputSpec,
    classes: int | None = None,
    *,
    class_names: Sequence[str] = (),
    family: str | None = None,
    trust_types: Sequence[str] = (),
    trust_pickle: bool = False,
    data_names: Sequence[str] = (),
) -> SklearnModel:
    """A victim from a `.skops` file or, with permission, a `.pkl`, `.pickle` or `.joblib` file.

    Args:
        path: the file.
        spec: as for `SklearnModel`.
        classes: as for `SklearnModel`.
        class_names: as for `SklearnModel`.
        family: as for `SklearnModel`.
        trust_types: types that a `.skops` file may hold beside those known to be harmless, by full name.
        trust_pickle: whether the file may run code while it is loaded.
        data_names: as for `SklearnModel`.

    Raises:
        TrustError: for a pickle without permission, and for types in a skops file not known to be
            harmless, with their names.
        ModelError: for a file that is missing, damaged, or holds no fitted classifier.
    """
    estimator = load_estimator(path, trust_types, trust_pickle)
    return SklearnModel(estimator, spec, classes, class_names=class_names, family=family, data_names=data_names)


def load_estimator(path: str | Path, trust_types: Sequence[str] = (), trust_pickle: bool = False) -> Any:
    """The estimator in a file: arguments and errors are those of `load_sklearn`."""
    found = existing(path, "estimator")
    if found.suffix in PICKLED:
        return unpickle(found, joblib.load, trust_pickle, _CONVERT)
    if found.suffix == ".skops":
        return _from_skops(found, trust_types, trust_pickle)
    raise ModelError(
        f"estimator: '{found.name}' is of no known kind; .skops files can be read, "
        f"and {', '.join(PICKLED)} with trust_pickle"
    )


def _from_skops(path: Path, trust_types: Sequence[str], trust_pickle: bool) -> Any:
    try:
        untrusted = skops.io.get_untrusted_types(file=path)
    except (zipfile.BadZipFile, json.JSONDecodeError, KeyError, ValueError, TypeError, OSError, EOFError) as error:
        raise ModelError(
            f"estimator: '{path.name}' cannot be read, it seems damaged or truncated ({type(error).__name__}: {error})"
        ) from error
    unknown = sorted(set(untrusted) - set(trust_types))
    if unknown and not trust_pickle:
        raise TrustError(
            f"'{path.name}' holds types that are not known to be harmless: {', '.join(unknown)}; "
            "if you trust them, name them in trust_types, or pass trust_pickle=True (--trust-pickle)"
        )
    return unpickle(path, lambda p: skops.io.load(p, trusted=list(untrusted)), True, _CONVERT)


def check_fitted(estimator: Any) -> None:
    """Refuse an estimator that was not fitted.

    Raises:
        ModelError: when scikit-learn says so.
    """
    # Estimators that only look like scikit-learn's are known to be fitted by their `classes_`.
    if not isinstance(estimator, BaseEstimator):
        return
    try:
        check_is_fitted(estimator)
    except NotFittedError as error:
        raise ModelError(f"this {type(estimator).__name__} is not fitted: call fit() before auditing it") from error


def _goes_by(estimator: Any, names: Sequence[str]) -> bool:
    """Whether the labels of an estimator are texts, all among `names`: scikit-learn sorts them in another order."""
    labels = getattr(estimator, "classes_", None)
    if labels is None or np.ndim(labels) != 1:
        return False
    known = np.asarray(labels).tolist()
    return all(isinstance(label, str) for label in known) and set(known) <= set(names)


Names = tuple[tuple[str, ...], list[str]]


def as_given(spec: InputSpec, names: Names | None, x: Float[Array, " n ..."]) -> Any:
    """Records as an estimator takes them: rows of float64, with their names where it was fitted with names.

    A table in its own form is given as it is; to an estimator that was fitted without names, as an array of objects.
    """
    if spec.form is not None:
        frame = spec.form.frame(x)
        return frame.to_numpy(dtype=object) if names is None else frame[names[1]]
    flat = spec.prepare(x).reshape(len(x), -1).astype(np.float64)
    return flat if names is None else pd.DataFrame(flat, columns=list(names[0]))[names[1]]


def asked(method: Callable[[Any], Any], given: Any) -> Any:
    """What a method of an estimator answers.

    Raises:
        ModelError: whatever it raises.
    """
    try:
        return method(given)
    except Exception as error:
        hint = ""
        if isinstance(given, pd.DataFrame) and given.isna().to_numpy().any():
            hint = '; if missing values are what it does not take, set missing = "drop"'
        raise ModelError(f"{_WHO} failed ({type(error).__name__}: {str(error).splitlines()[0]}{hint})") from error


def column_names(estimator: Any, spec: InputSpec) -> Names | None:
    """The names of a record's columns and the order in which the estimator wants them; None for no names.

    Raises:
        ModelError: when it was fitted on other columns, or on more or fewer.
    """
    wanted = getattr(estimator, "n_features_in_", None)
    columns = spec.size if spec.form is None else len(spec.form.columns)
    named = getattr(estimator, "feature_names_in_", None) is not None and spec.form is not None
    if wanted is not None and int(wanted) != columns and not named:
        raise ModelError(
            f"{_WHO} takes {int(wanted)} features, but a record of shape {spec.shape} holds {columns}; "
            "declare the victim's own shape under [victim] input"
        )
    fitted = getattr(estimator, "feature_names_in_", None)
    if fitted is None:
        return None
    order = [str(name) for name in fitted]
    given = (spec.features if spec.form is None else spec.form.columns) or tuple(order)
    if set(given) != set(order) or len(given) != len(order):
        strange = sorted(set(given) ^ set(order))
        raise ModelError(
            f"{_WHO} was fitted on other columns than the records have: {', '.join(strange[:5])} "
            "are on one side only; give the same columns: leave others out with drop"
        )
    return given, order
