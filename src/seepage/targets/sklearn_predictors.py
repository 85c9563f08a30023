"""Scikit-learn regressors and multi-label classifiers as victims."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import is_regressor

from seepage.core.errors import ModelError
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Task
from seepage.targets.answers import digest, spec_text
from seepage.targets.identity import state_digest
from seepage.targets.predictors import Predictor
from seepage.targets.sklearn import as_given, asked, check_fitted, column_names, family_of, load_estimator

Array = np.ndarray


def told_task(estimator: Any) -> Task:
    """What an estimator predicts, as far as it shows: a fitted one of several labels has classes for each."""
    if is_regressor(estimator):
        return Task.VALUES
    last = estimator.steps[-1][1] if getattr(estimator, "steps", None) else estimator
    several = isinstance(getattr(last, "classes_", None), list)
    # A neural network of several labels puts a sigmoid before each, and one of two classes a single one.
    sigmoids = getattr(last, "out_activation_", None) == "logistic" and getattr(last, "n_outputs_", 1) > 1
    return Task.LABELS if several or sigmoids or getattr(last, "multilabel_", False) is True else Task.CLASSES


def estimator_predictor(
    estimator: Any, spec: InputSpec, task: Task, count: int, *, family: str | None = None
) -> Predictor:
    """A fitted regressor, or a classifier of several labels with `predict_proba`, as a victim.

    Args:
        estimator: fitted; a pipeline or a search too.
        spec: as for `SklearnModel`.
        task: what it answers.
        count: how many numbers or labels a record.
        family: the architecture family; by the estimator's module when not given.

    Raises:
        ModelError: when it is not fitted, is no regressor, gives no probabilities, or has labels of more than two
            values.
    """
    check_fitted(estimator)
    kind = type(estimator).__name__
    if task is Task.VALUES and told_task(estimator) is not Task.VALUES and hasattr(estimator, "classes_"):
        raise ModelError(f'task = "values" wants a victim that predicts numbers; this {kind} tells classes apart')
    if task is Task.LABELS and not hasattr(estimator, "predict_proba"):
        raise ModelError(
            f'task = "labels" wants the probability of each label; this {kind} has no predict_proba: membership cannot '
            "be told from labels alone here"
        )
    names = column_names(estimator, spec)

    def ask(x: Array) -> Any:
        given = as_given(spec, names, x)
        if task is Task.VALUES:
            return asked(estimator.predict, given)
        return _label_rows(asked(estimator.predict_proba, given), estimator)

    def fingerprint() -> str | None:
        state = state_digest(estimator)
        return None if state is None else digest(state.encode(), task.encode(), spec_text(spec))

    return Predictor(
        ask,
        spec,
        task,
        count,
        who="the estimator",
        family=family or family_of(estimator),
        fingerprint=fingerprint,
    )


def load_sklearn_predictor(
    path: str | Path,
    spec: InputSpec,
    task: Task,
    count: int,
    *,
    family: str | None = None,
    trust_types: Sequence[str] = (),
    trust_pickle: bool = False,
) -> Predictor:
    """A victim from a `.skops` file or, with permission, a pickle: see `load_sklearn`.

    Raises:
        TrustError, ModelError: as `load_sklearn` and `estimator_predictor`.
    """
    estimator = load_estimator(path, trust_types, trust_pickle)
    return estimator_predictor(estimator, spec, task, count, family=family)


def _label_rows(answer: Any, estimator: Any) -> Array:
    """(n, labels) probabilities that each applies: of a list of one (n, 2) array a label, the columns of 1."""
    if not isinstance(answer, list):
        return np.asarray(answer)
    last = estimator.steps[-1][1] if getattr(estimator, "steps", None) else estimator
    known: list[Any] = list(getattr(last, "classes_", []))
    columns: list[Array] = []
    for label, part in enumerate(answer):
        rows = np.asarray(part, dtype=np.float64)
        values = [float(value) for value in (known[label] if label < len(known) else range(rows.shape[1]))]
        if not set(values) <= {0.0, 1.0}:
            raise ModelError(
                f'task = "labels" wants labels that are 0 or 1; label {label + 1} of the estimator has the values '
                f"{', '.join(f'{value:g}' for value in values[:5])}"
            )
        # A label that every record of the training had, or none, has one column.
        columns.append(rows[:, values.index(1.0)] if 1.0 in values else np.zeros(len(rows)))
    return np.stack(columns, axis=1)
