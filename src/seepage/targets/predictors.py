"""Victims that predict numbers, or the probability of each of several labels: one adapter for all of their kinds."""

from collections.abc import Callable
from typing import Any, final

import numpy as np
from jaxtyping import Float

from seepage.core.errors import ConfigError, ModelError, SeepageError
from seepage.core.registry import load
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Access, Task
from seepage.targets.answers import as_batch, as_rows, choice, positive, prepared, probe_records

Array = np.ndarray
Ask = Callable[[Array], Any]

# How far beyond 0 and 1 a probability may lie: single precision, and rounding of a service.
_SLACK = 1e-3
LABEL_OUTPUTS = ("probabilities", "logits")


@final
class Predictor:
    """Whatever answers numbers or labels as a victim.

    `predict` gives (n, outputs): numbers in the targets' own units ("values"), or for each label, on its own, the
    probability that it applies ("labels"). It offers scores, that is these answers, and nothing else.

    Args:
        ask: answers records (n, *spec.shape), in their own values: (n,) or (n, outputs).
        spec: what one record is.
        task: "values" or "labels".
        count: how many numbers or labels a record.
        who: names it in messages.
        family: the architecture family.
        fingerprint: tells it from others; None where that cannot be told.

    Raises:
        ModelError: when it fails, or answers something else than `count` such numbers a record.
        ConfigError: when it is said to tell classes apart.
    """

    def __init__(
        self,
        ask: Ask,
        spec: InputSpec,
        task: Task,
        count: int,
        *,
        who: str,
        family: str = "unknown",
        fingerprint: Callable[[], str | None] = lambda: None,
    ):
        if task is Task.CLASSES:
            raise ConfigError(f"{who}: a victim that tells classes apart is a classifier, no predictor")
        self._ask = ask
        self._spec = spec
        self._task = task
        self._count = count
        self._who = who
        self._family = family
        self._fingerprint = fingerprint
        self.predict(probe_records(spec))

    @property
    def spec(self) -> InputSpec:
        return self._spec

    @property
    def task(self) -> Task:
        return self._task

    @property
    def classes(self) -> int:
        """How many numbers or labels it answers a record."""
        return self._count

    @property
    def family(self) -> str:
        return self._family

    @property
    def offers(self) -> frozenset[Access]:
        return frozenset({Access.SCORES})

    @property
    def fingerprint(self) -> str | None:
        """What tells this victim from others; None where that cannot be told."""
        return self._fingerprint()

    def predict(self, x: Float[Array, " n ..."]) -> Float[Array, " n c"]:
        """(n, outputs) numbers, or probabilities of labels, float64.

        Raises:
            DataError: for records of another shape, or that are not finite.
            ModelError: when the victim fails or answers something else.
        """
        x = as_batch(self._spec, x)
        if not len(x):
            return np.zeros((0, self._count))
        try:
            answer = self._ask(x)
        except SeepageError:
            raise
        except Exception as error:
            raise ModelError(f"{self._who} failed ({type(error).__name__}: {error})") from error
        rows = as_rows(answer, len(x), self._who)
        if rows.shape[1] != self._count:
            raise ModelError(
                f"{self._who} answered {rows.shape[1]} numbers a record, but a record has {self._count} "
                f"{'targets' if self._task is Task.VALUES else 'labels'}; give the targets it was trained on"
            )
        if self._task is Task.VALUES:
            return rows
        if rows.min() < -_SLACK or rows.max() > 1 + _SLACK:
            raise ModelError(
                f"{self._who} answered {rows.min():.4g} to {rows.max():.4g}, which are no probabilities of labels; "
                'if these are logits, say outputs="logits"'
            )
        return np.clip(rows, 0.0, 1.0)


def sigmoid(logits: Array) -> Array:
    """Probabilities from logits, each on its own, safe for any finite value."""
    return np.exp(-np.logaddexp(0.0, -np.asarray(logits, dtype=np.float64)))


def function_predictor(
    fn: str | Callable[[Any], Any],
    spec: InputSpec,
    task: Task,
    count: int,
    *,
    outputs: str = "probabilities",
    batch: int | None = None,
    family: str = "unknown",
) -> Predictor:
    """A victim from a function of prepared records (or of the table, where that is what is read), or its import path.

    Args:
        fn: answers (n,) or (n, outputs) numbers.
        spec: what one record is.
        task: what it answers.
        count: how many numbers a record.
        outputs: of labels: "probabilities" or "logits".
        batch: how many records it is given at a time; all at once when not given.
        family: the architecture family; a function does not say.

    Raises:
        ConfigError: when the path leads nowhere, or for an option that cannot be used.
        ModelError: as `Predictor`.
    """
    found = load(fn) if isinstance(fn, str) else fn
    if not callable(found):
        raise ConfigError(f"fn: '{fn}' is a {type(found).__name__}; a function from records to numbers was wanted")
    if batch is not None:
        positive("batch", batch)
    choice("outputs", outputs, LABEL_OUTPUTS)

    def ask(x: Array) -> Any:
        step = int(batch or len(x))
        parts = [np.asarray(_plain(found(prepared(spec, x[i : i + step])))) for i in range(0, len(x), step)]
        answer = np.concatenate(parts)
        return sigmoid(answer) if task is Task.LABELS and outputs == "logits" else answer

    named = f"the function '{getattr(found, '__name__', type(found).__name__)}'"
    return Predictor(ask, spec, task, count, who=named, family=family)


def _plain(answer: Any) -> Any:
    """A torch tensor cut from its graph, without importing torch; anything else as it is."""
    return answer.detach().cpu() if hasattr(answer, "detach") else answer
