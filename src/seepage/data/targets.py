"""What a model predicts of records that have no classes: numbers, or a yes or no for each of several labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from seepage.core.errors import DataError
from seepage.core.vocabulary import Task
from seepage.data.labels import is_missing, listed
from seepage.data.layout import is_torch, tensor_array

Array = np.ndarray
_WANTED = {Task.VALUES: "one number a record (or several)", Task.LABELS: "0 or 1 for each of two labels or more"}


def as_columns(targets: Any, what: str) -> Array:
    """Targets of any kind as (n, d), values as they are.

    Raises:
        DataError: for a ragged list, and for more than two axes.
    """
    targets = tensor_array(targets) if is_torch(targets) else targets
    try:
        columns = np.asarray(targets)
    except ValueError as error:
        raise DataError(
            f"{what}: as many targets for every record were wanted, got a ragged list; "
            "give 0 or 1 for each label (scikit-learn's MultiLabelBinarizer makes it)"
        ) from error
    if columns.ndim == 1:
        columns = columns[:, None]
    if columns.ndim != 2 or not columns.shape[1]:
        raise DataError(f"{what}: targets (records, outputs) were wanted, got an array of shape {columns.shape}")
    return columns


def names_of(targets: Any) -> tuple[str, ...]:
    """The names that a data frame or a series gives its columns; none for anything else."""
    if hasattr(targets, "columns"):
        return tuple(map(str, targets.columns))
    name = getattr(targets, "name", None)
    return (name,) if isinstance(name, str) and name else ()


def absent(columns: Array) -> Bool[Array, " n"]:
    """(n,) which records lack a target."""
    if columns.dtype.kind in "fc":
        return np.asarray(np.isnan(columns).any(axis=1))
    if columns.dtype.kind in "iub":
        return np.zeros(len(columns), dtype=bool)
    return np.asarray([any(is_missing(value) for value in row) for row in columns], dtype=bool)


def target_values(
    columns: Array, task: Task, what: str, names: Sequence[str] = (), lone: bool = True
) -> Float[Array, " n d"]:
    """Targets (n, d) as numbers, checked.

    Args:
        columns: (n, d) as they came.
        task: "values" or "labels".
        what: which records these are, for messages.
        names: of the columns, for messages.
        lone: whether these records stand for themselves: what has one value throughout is refused.

    Raises:
        DataError: for texts, missing, infinite or constant targets, and labels that are neither 0 nor 1.
    """
    missing = absent(columns)
    if missing.any():
        raise DataError(
            f"{what}: {int(missing.sum())} records have no target, first in row {int(np.argmax(missing)) + 1}; "
            'drop these records, or set missing = "drop"'
        )
    try:
        values = columns.astype(np.float64)
    except (TypeError, ValueError) as error:
        odd = next(value for value in columns.ravel() if not _is_number(value))
        raise DataError(
            f'{what}: task = "{task}" wants {_WANTED[task]}, got for instance {str(odd)!r}; '
            'of names, one a record, a model tells classes apart: task = "classes"'
        ) from error
    if not np.isfinite(values).all():
        row = int(np.argmax(~np.isfinite(values).all(axis=1)))
        raise DataError(f"{what}: the target of row {row + 1} is infinite; drop or mend this record")
    if task is Task.LABELS:
        return _labels(values, what)
    still = np.nonzero(np.ptp(values, axis=0) == 0)[0] if lone and len(values) else []
    if len(still):
        told = names[int(still[0])] if names else f"{int(still[0]) + 1}"
        raise DataError(
            f"{what}: the target {told} is {values[0, int(still[0])]:g} in every record: there is nothing to predict"
        )
    return values


def _labels(values: Array, what: str) -> Array:
    odd = ~np.isin(values, (0.0, 1.0))
    if odd.any():
        raise DataError(
            f'{what}: task = "labels" wants 0 or 1 for each label, got {values[odd][0]:g}; numbers are task = "values"'
        )
    if values.shape[1] < 2:
        raise DataError(
            f'{what}: task = "labels" wants two labels or more, got one column; a single yes or no is a class of two: '
            'task = "classes"'
        )
    return values


def same_outputs(found: Sequence[str], wanted: Sequence[str], what: str) -> None:
    """Refuse targets that are not those of the members.

    Raises:
        DataError: naming both.
    """
    if len(found) != len(wanted):
        raise DataError(
            f"{what}: {len(found)} targets a record, the members have {len(wanted)} ({listed(wanted)}); give the same"
        )


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
