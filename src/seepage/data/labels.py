"""Class labels of any kind to class numbers from 0, the same for every split."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from seepage.core.errors import DataError, did_you_mean

Array = np.ndarray
_SHOWN = 5
_LONG = 40  # characters of a name that a message repeats
_MOST_CLASSES = 100_000  # greater whole numbers are codes (a postcode, a product), not class numbers


def natural_key(name: str) -> tuple[Any, ...]:
    """A sort key that reads numbers as numbers: "s2" comes before "s10"."""
    parts = re.split(r"(\d+)", name)
    return tuple((int(part), "") if i % 2 else (-1, part.casefold()) for i, part in enumerate(parts)), name


def natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """The distinct names in natural order."""
    return tuple(sorted(set(names), key=natural_key))


def nfc(name: str) -> str:
    """One spelling for a name: composed Unicode (macOS writes decomposed names), and always encodable.

    Bytes of a file name that are no UTF-8 (lone surrogates in Python) become backslash escapes.
    """
    return unicodedata.normalize("NFC", name.encode("utf-8", "backslashreplace").decode("utf-8"))


def listed(names: Iterable[str]) -> str:
    """The first few names, quoted, and how many more there are."""
    every = list(names)
    shown = ", ".join(f"'{name if len(name) <= _LONG else name[:_LONG] + '...'}'" for name in every[:_SHOWN])
    return shown + (f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else "")


def nearest(name: str, options: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest known one, or the first few, for tables have many columns."""
    known = list(options)
    hint = did_you_mean(name, known)
    return hint if hint.startswith("did you mean") else f"known: {listed(known) or 'none'}"


def class_numbers(
    values: Any, class_names: Sequence[str] | None = None, what: str = "members"
) -> tuple[Int[Array, " n"], tuple[str, ...]]:
    """Labels as class numbers, with the names of the classes.

    With `class_names` (those of the members, say), each label is looked up by its name; whole numbers
    that are no names but lie in 0 .. len(class_names)-1 are taken as class numbers.
    Without, names are put in natural order and numbered from 0. Whole numbers whose least is 0 are class
    numbers already and stay as they are (up to 99,999); others (1, 2, 3 or -1, 1) are numbered in increasing
    order, which is how scikit-learn orders its columns. A matrix with one 1 a row (one-hot) is read as classes.

    Args:
        values: (n,) numbers, booleans or strings, or (n, c) one-hot.
        class_names: the names to agree with.
        what: which records these are, for messages.

    Raises:
        DataError: for missing labels, real-valued targets, and classes that `class_names` lacks.
    """
    column = _as_column(values, what)
    distinct = [] if column.dtype.kind in "iuf" else list(dict.fromkeys(column))
    # Each distinct value is looked at once: labels are many, classes few.
    missing = np.isnan(column) if column.dtype.kind == "f" else np.zeros(len(column), dtype=bool)
    if any(is_missing(value) for value in distinct):
        missing = np.asarray([is_missing(value) for value in column], dtype=bool)
    if missing.any():
        raise DataError(
            f"{what}: {int(missing.sum())} labels are missing, first in row {int(np.argmax(missing)) + 1}; "
            "drop or label these records"
        )
    if column.dtype.kind in "iuf":
        return _from_numbers(column, class_names, what)
    name_of = {value: nfc(_text(value)) for value in distinct}
    known = natural_order(name_of.values()) if class_names is None else tuple(class_names)
    _refuse_unknown(natural_order(name_of.values()), known, what)
    number = {name: i for i, name in enumerate(known)}
    number_of = {value: number[name] for value, name in name_of.items()}
    return np.asarray([number_of[value] for value in column], dtype=np.int64), known


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def _as_column(values: Any, what: str) -> Array:
    try:
        column = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{what}: one class a record was wanted, got a ragged list of labels") from error
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    one_hot = column.ndim == 2 and column.dtype.kind in "iufb" and np.isin(column, (0, 1)).all()
    if one_hot and (column.sum(axis=1) == 1).all():
        column = column.argmax(axis=1)
    if column.ndim != 1 or column.dtype.kind not in "iufbOUST":
        raise DataError(
            f"{what}: one class a record was wanted, whole numbers or names; "
            f"got labels of shape {column.shape} and type {column.dtype}; of a victim that predicts several labels or "
            'numbers a record say task = "labels" or task = "values"'
        )
    if column.dtype.kind in "iuf":
        return column
    # NumPy's scalars as the Python values they stand for.
    plain = [value.item() if isinstance(value, np.generic) else value for value in column]
    if plain and all(type(value) is int or type(value) is float for value in plain):
        return np.asarray(plain)
    try:
        hash(tuple(plain))
    except TypeError as error:
        raise DataError(f"{what}: one class a record was wanted, got nested labels such as {plain[0]!r}") from error
    out = np.empty(len(plain), dtype=object)
    out[:] = plain
    return out


def is_missing(value: Any) -> bool:
    """True for a label that is not there: None, NaN, pandas' own missing values, an empty text."""
    # pandas' missing values refuse to be compared; known by type, pandas stays unimported.
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return bool(np.isnan(value)) if isinstance(value, float | np.floating) else isinstance(value, str) and not value


def _from_numbers(
    column: Array, class_names: Sequence[str] | None, what: str
) -> tuple[Int[Array, " n"], tuple[str, ...]]:
    whole = column.astype(np.int64) if np.isfinite(column).all() else None
    if whole is None or not (whole == column).all():
        raise DataError(
            f"{what}: the target holds real numbers ({np.unique(column).size} different values); "
            'classes were wanted: whole numbers or names; of a victim that predicts numbers say task = "values"'
        )
    distinct = [int(value) for value in np.unique(whole)]
    if class_names is None:
        if not distinct or (distinct[0] == 0 and distinct[-1] < _MOST_CLASSES):
            return whole, tuple(str(i) for i in range(distinct[-1] + 1 if distinct else 0))
        return np.searchsorted(distinct, whole).astype(np.int64), tuple(str(value) for value in distinct)
    known = tuple(class_names)
    number = {name: i for i, name in enumerate(known)}
    if all(str(value) in number for value in distinct):
        return np.asarray([number[str(value)] for value in whole], dtype=np.int64), known
    if all(0 <= value < len(known) for value in distinct):
        return whole, known
    strangers = [str(value) for value in distinct if str(value) not in number and not 0 <= value < len(known)]
    _refuse_unknown(strangers or [str(value) for value in distinct if str(value) not in number], known, what)
    return whole, known


def _refuse_unknown(names: Iterable[str], known: Sequence[str], what: str) -> None:
    strangers = [name for name in names if name not in set(known)]
    if strangers:
        raise DataError(
            f"{what}: {len(strangers)} classes are not among the {len(known)} known ones ({listed(known)}): "
            f"{listed(strangers)}; remove these records, or name every class with class_names"
        )


def need_two_classes(y: Array, what: str) -> None:
    """Refuse labels of a single class.

    Raises:
        DataError: naming how many classes came.
    """
    if np.unique(y).size < 2:
        raise DataError(
            f"{what}: at least 2 classes were wanted, got {np.unique(y).size}; "
            "a model of one class has nothing to tell apart, so there is nothing to audit"
        )
