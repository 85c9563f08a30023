"""Tables kept in their own form: numbers for the attacks, and the way back to what the victim was trained on."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from seepage.core.errors import DataError
from seepage.data.encoding import (
    canonical,
    categories_of,
    column_of,
    factorized,
    is_absent,
    is_numeric,
    need_columns,
    numbers,
    refuse_unusable,
)
from seepage.data.labels import nearest, nfc

Array = np.ndarray
_log = logging.getLogger(__name__)
# The greatest number up to which single precision tells all whole numbers apart.
_MOST_WHOLE = 2**24


@dataclass(frozen=True)
class OwnColumn:
    """One column of the table.

    Attributes:
        name: of the column.
        dtype: its pandas type, which `OwnForm.frame` gives back.
        names: of a column of texts, its values as texts, in code order; empty for numbers.
        values: the same as they are in the table.
        gaps: whether some values are missing.
        null: what stands for a missing text.
        fill: the number that stands where a number is missing: the median of those present.
    """

    name: str
    dtype: Any
    names: tuple[str, ...] = ()
    values: tuple[Any, ...] = ()
    gaps: bool = False
    null: Any = np.nan
    fill: float = 0.0

    @property
    def outputs(self) -> tuple[str, ...]:
        """The columns of numbers that stand for this one."""
        if self.names:
            return tuple(f"{self.name}={value}" for value in self.names)
        return (self.name, f"{self.name} is missing") if self.gaps else (self.name,)


@dataclass(frozen=True)
class OwnForm:
    """A table as numbers and back: what is missing and what is no number included.

    A number stays as it is. A column of texts becomes one 0/1 column a value, all 0 where it is missing. A column of
    numbers with gaps gets a second column that is 1 where the number is missing; the median stands in its place.

    Attributes:
        own: the feature columns, in the table's order.
    """

    own: tuple[OwnColumn, ...]

    @classmethod
    def fit(cls, frames: Sequence[pd.DataFrame], categories: Mapping[str, Sequence[str]] | None = None) -> "OwnForm":
        """The form of the feature columns of all tables of an audit: a victim that is given a value no member has
        knows itself what to do with it.

        Args:
            frames: members, non-members and public records, as far as they are tables with these columns.
            categories: known values of some columns; those found come after them.

        Raises:
            DataError: for dates, nested values, columns that hold another text in most records, columns that are
                numbers in one table and texts in another.
        """
        first = frames[0]
        for name in categories or {}:
            if name not in first.columns:
                raise DataError(f"members: categories name the column '{name}': {nearest(name, first.columns)}")
        made: list[OwnColumn] = []
        for name in first.columns:
            parts = [column_of(frame, name) for frame in frames if name in frame.columns]
            known = None if categories is None else categories.get(name)
            texts = [known is not None or not is_numeric(part) for part in parts]
            if any(texts) and not all(texts):
                # A whole column of missing values is of either kind.
                parts = [part for part in parts if not part.map(is_absent).all()]
                texts = [known is not None or not is_numeric(part) for part in parts]
            if any(texts) and not all(texts):
                raise DataError(
                    f"the column '{name}' holds numbers in one set of records and texts in another; "
                    "make them alike, or list its values with categories"
                )
            made.append(_texts(name, parts, known) if any(texts) else _numeric(name, parts))
        return cls(tuple(made))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table, in its own order."""
        return tuple(column.name for column in self.own)

    @property
    def texts(self) -> tuple[str, ...]:
        """Those that hold no numbers."""
        return tuple(column.name for column in self.own if column.names)

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the columns of the matrix."""
        return tuple(name for column in self.own for name in column.outputs)

    def transform(self, frame: pd.DataFrame, what: str = "members") -> Float[Array, " n d"]:
        """The matrix of `frame`, float64. A number that is missing where none was is NaN.

        Raises:
            DataError: for missing or unknown columns, texts where numbers were, and unknown values.
        """
        need_columns(frame, self.columns, what)
        blocks = [_block(column, column_of(frame, column.name), what) for column in self.own]
        return np.concatenate(blocks, axis=1) if blocks else np.zeros((len(frame), 0))

    def frame(self, x: Float[Array, " n d"]) -> pd.DataFrame:
        """Records (n, d) as the table they came from; of a record that was in no table, the nearest row."""
        x = np.asarray(x).reshape(len(x), -1)
        made: dict[str, Any] = {}
        begin = 0
        for column in self.own:
            width = len(column.outputs)
            made[column.name] = _back(column, x[:, begin : begin + width])
            begin += width
        return pd.DataFrame(made, columns=list(self.columns))


def _numeric(name: str, parts: Sequence[pd.Series]) -> OwnColumn:
    values = np.concatenate([numbers(part) for part in parts]) if parts else np.zeros(0)
    present = values[np.isfinite(values)]
    gaps = bool(np.isnan(values).any())
    kinds = [part.dtype for part in parts] or [np.dtype(np.float64)]
    dtype = kinds[0]
    if any(kind != dtype for kind in kinds):
        plain = [kind for kind in kinds if isinstance(kind, np.dtype) and kind != np.dtype(object)]
        dtype = np.result_type(*plain) if len(plain) == len(kinds) else np.dtype(np.float64)
    if pd.api.types.is_integer_dtype(dtype) and len(present) and np.abs(present).max() > _MOST_WHOLE:
        _log.warning(
            "column '%s' holds whole numbers beyond %d: the victim is asked about them rounded to single precision; if "
            "they name records or moments, leave the column out with drop",
            name,
            _MOST_WHOLE,
        )
    return OwnColumn(name, dtype, gaps=gaps, fill=float(np.median(present)) if len(present) else 0.0)


def _texts(name: str, parts: Sequence[pd.Series], known: Sequence[str] | None) -> OwnColumn:
    for part in parts:
        refuse_unusable(part, "members")
    whole = pd.concat([part.astype(object) for part in parts], ignore_index=True)
    whole.name = name
    gone = [value for value in whole if is_absent(value)]
    # The spelling of a value that stands in the table; of one that is only listed, the text itself.
    own: dict[str, Any] = {canonical(value): value for value in reversed(list(whole)) if not is_absent(value)}
    listed = tuple(nfc(str(value)) for value in known or ())
    found = categories_of(whole, "members", bool(listed))
    names = (*listed, *(value for value in found if value not in listed))
    dtype = parts[0].dtype
    if isinstance(dtype, pd.CategoricalDtype) and not set(own.values()) <= set(dtype.categories):
        dtype = np.dtype(object)
    null = gone[0] if gone else np.nan
    return OwnColumn(name, dtype, names, tuple(own.get(value, value) for value in names), bool(gone), null)


def _block(column: OwnColumn, given: pd.Series, what: str) -> Array:
    if not column.names:
        if not is_numeric(given):
            raise DataError(f"{what}: the column '{column.name}' should hold numbers, as that of the members does")
        values = numbers(given)
        if not column.gaps:
            return values[:, None]
        missing = np.isnan(values)
        return np.stack([np.where(missing, column.fill, values), missing.astype(np.float64)], axis=1)
    number = {name: i for i, name in enumerate(column.names)}
    codes, values = factorized(given, what)
    at = np.full(len(values) + 1, -1)  # the last stands for -1, a missing value
    for i, value in enumerate(values):
        if is_absent(value):
            continue
        text = canonical(value)
        if text not in number:
            raise DataError(
                f"{what}: the column '{column.name}' holds '{text}', which is none of its {len(number)} known values; "
                "name every value with categories"
            )
        at[i] = number[text]
    return (at[codes][:, None] == np.arange(len(column.names))).astype(np.float64)


def _as_written(values: Array) -> Float[Array, " n"]:
    """Numbers in single precision as they were written: of those nearest to each, the one with the fewest digits."""
    distinct, at = np.unique(np.asarray(values, dtype=np.float32), return_inverse=True)
    return np.asarray([float(str(value)) for value in distinct], dtype=np.float64)[at]


def _back(column: OwnColumn, block: Array) -> Any:
    if column.names:
        values = np.empty(len(column.names) + 1, dtype=object)
        values[:] = [*column.values, column.null]
        # All 0 is a missing text, where there were some; else the likeliest value.
        at = np.where((block.max(axis=1) <= 0.5) & column.gaps, len(column.names), block.argmax(axis=1))
        return pd.Series(values[at], dtype=object).astype(column.dtype)
    values = _as_written(block[:, 0])
    whole = pd.api.types.is_integer_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype)
    values = np.rint(values) if whole else values
    if column.gaps:
        values = np.where(block[:, 1] > 0.5, np.nan, values)
        if isinstance(column.dtype, np.dtype) and whole:
            return pd.Series(values)
    return pd.Series(values).astype(column.dtype)
