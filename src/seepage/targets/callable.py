"""Any Python function from records to answers as a victim."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from seepage.core.errors import AccessDenied, ConfigError, ModelError, SeepageError
from seepage.core.registry import load
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Access
from seepage.targets.answers import (
    OUTPUTS,
    agreed_classes,
    as_batch,
    as_rows,
    choice,
    enough_classes,
    label_column,
    one_hot,
    positive,
    prepared,
    probe_records,
    to_logits,
    to_scores,
)

Array = np.ndarray


class CallableModel:
    """A function as a victim.

    The function takes a float32 array of prepared records, (n, *spec.shape) in `spec.layout` (of a table read in its
    own form: that table, as a pandas data frame), and
    answers (n, classes) scores, or n labels: whole numbers or texts. A victim of labels offers
    nothing more. (n,) numbers that are not whole are the scores of class 1 of two.

    Args:
        fn: the function.
        spec: what one record is and how the function wants it prepared.
        classes: how many classes; found by asking when not given, which labels do not allow.
        outputs: "probabilities", "logits" or "log_probabilities": what its scores are.
        answers: "scores", "labels", or "auto" to tell from a few answers.
        class_names: what the data calls its classes, in its order, when the function answers texts.
        batch: how many records it is given at a time; all at once when not given.
        sum_tolerance: how far from one a record's probabilities may sum: rounding needs some.
        family: the architecture family; a function does not say.

    Raises:
        ModelError: when the function fails, with its exception as the cause, or answers neither.
        ConfigError: for an option that cannot be used.
    """

    def __init__(
        self,
        fn: Callable[[Any], Any],
        spec: InputSpec,
        classes: int | None = None,
        *,
        outputs: str = "probabilities",
        answers: str = "auto",
        class_names: Sequence[str] = (),
        batch: int | None = None,
        sum_tolerance: float = 1e-2,
        family: str = "unknown",
    ):
        self._fn = fn
        self._who = f"the function '{getattr(fn, '__name__', type(fn).__name__)}'"
        declared = agreed_classes(classes, class_names, self._who)
        if batch is not None:
            positive("batch", batch)
        positive("sum_tolerance", sum_tolerance)
        self._tolerance = sum_tolerance
        self._spec = spec
        self._outputs = choice("outputs", outputs, OUTPUTS)
        choice("answers", answers, ("auto", "scores", "labels"))
        self._class_names = tuple(class_names)
        self._batch = batch
        self._family = family
        x = probe_records(spec)
        first = self._ask(x)
        self._labels = answers == "labels" or (answers == "auto" and _are_labels(first))
        if self._labels:
            if declared is None:
                raise ModelError(f"{self._who} answers labels, which do not tell how many there are: give classes")
            self._classes = declared
            self._columns(first)
            return
        width = self._scores(as_rows(first, len(x), self._who)).shape[1]
        enough_classes(width, self._who)
        if declared not in (None, width):
            raise ModelError(f"{self._who} tells {width} classes apart, but {declared} were declared")
        self._classes = width

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
        if self._labels:
            return frozenset({Access.LABELS})
        return frozenset({Access.LOGITS if self._outputs == "logits" else Access.SCORES})

    @property
    def fingerprint(self) -> str | None:
        """None: what a function will answer cannot be told from looking at it."""
        return None

    def predict(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        """(n, classes) probabilities, float64, or one-hot rows of a victim that gives labels alone.

        Raises:
            DataError: for records of another shape, or that are not finite.
            ModelError: when the function fails or answers no probabilities.
        """
        x = as_batch(self._spec, x)
        if not len(x):
            return np.zeros((0, self._classes))
        answer = self._ask(x)
        if self._labels:
            return one_hot(self._columns(answer), self._classes)
        return self._scores(self._rows(answer, len(x)))

    def logits(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        """(n, classes) unnormalised outputs.

        Raises:
            AccessDenied: when the function answers probabilities or labels.
        """
        if self._labels or self._outputs != "logits":
            raise AccessDenied(f"{self._who} answers {'labels' if self._labels else self._outputs}, no logits")
        x = as_batch(self._spec, x)
        return to_logits(self._rows(self._ask(x), len(x)), "logits") if len(x) else np.zeros((0, self._classes))

    def _ask(self, x: Array) -> Array:
        step = int(self._batch or max(len(x), 1))
        parts: list[Array] = []
        for i in range(0, len(x), step):
            try:
                answer = _as_array(self._fn(prepared(self._spec, x[i : i + step])))
            except SeepageError:
                raise
            except Exception as error:
                raise ModelError(f"{self._who} failed ({type(error).__name__}: {error})") from error
            n = len(x[i : i + step])
            if answer.ndim == 0 or len(answer) != n:
                raise ModelError(f"{self._who} was given {n} records and answered an array of shape {answer.shape}")
            parts.append(answer)
        return np.concatenate(parts)

    def _scores(self, rows: Array) -> Array:
        hint = "; if the function rounds its scores, raise sum_tolerance"
        return to_scores(rows, self._outputs, self._who, tolerance=self._tolerance, hint=hint)

    def _rows(self, answer: Array, n: int) -> Array:
        rows = as_rows(answer, n, self._who)
        width = 2 if rows.shape[1] == 1 else rows.shape[1]
        if width != self._classes:
            raise ModelError(f"{self._who} answered {width} scores a record for {self._classes} classes")
        return rows

    def _columns(self, answer: Array) -> Array:
        labels = answer.reshape(len(answer), -1)
        if labels.shape[1] != 1:
            raise ModelError(f"{self._who} should answer one label a record, got an array of shape {answer.shape}")
        return np.array([label_column(v, self._classes, self._class_names, self._who) for v in labels[:, 0].tolist()])


def load_callable(
    fn: str | Callable[[Any], Any],
    spec: InputSpec,
    classes: int | None = None,
    *,
    outputs: str = "probabilities",
    answers: str = "auto",
    class_names: Sequence[str] = (),
    batch: int | None = None,
    sum_tolerance: float = 1e-2,
    family: str = "unknown",
) -> CallableModel:
    """A victim from a function or its import path "package.module:name".

    Raises:
        ConfigError: when the path leads nowhere or to something that cannot be called.
        ModelError: as for `CallableModel`, whose arguments the others are.
    """
    found = load(fn) if isinstance(fn, str) else fn
    if not callable(found):
        raise ConfigError(f"fn: '{fn}' is a {type(found).__name__}; a function from records to scores was wanted")
    return CallableModel(
        found,
        spec,
        classes,
        outputs=outputs,
        answers=answers,
        class_names=class_names,
        batch=batch,
        sum_tolerance=sum_tolerance,
        family=family,
    )


def _as_array(answer: Any) -> Array:
    """An answer as an array; a torch tensor is cut from its graph first, without importing torch."""
    if hasattr(answer, "detach"):
        answer = answer.detach().cpu()
    return np.asarray(answer)


def _are_labels(answer: Array) -> bool:
    return (answer.ndim == 1 or answer.shape[1:] == (1,)) and answer.dtype.kind in "iubUSO"
