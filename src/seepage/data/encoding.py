"""Table columns to numbers: which columns, in which order, and how those that hold no numbers are coded."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Number
from typing import Any, cast

import numpy as np
import pandas as pd
from jaxtyping import Float

from seepage.core.errors import ConfigError, DataError
from seepage.data.labels import listed, natural_order, nearest, nfc

Array = np.ndarray
_MANY = 50  # more distinct texts than this, and in most records another, look like a name or free text


@dataclass(frozen=True)
class TableEncoder:
    """The numeric matrix of a table, the same for every split.

    Numeric and boolean columns become float32 as they are (booleans 0 and 1). A column of texts or
    categories becomes either one number, the position of its value among `categories` ("ordinal"), or one
    0/1 column a category, named "column=value" ("onehot"). Dates are refused: what number a date should be
    (an age, a month) only its owner knows.

    A victim trained on a numeric matrix of its own needs that very matrix: give `categories` in the order
    that training used, or export the matrix and read that.

    Attributes:
        columns: the feature columns, in the order of the matrix.
        categories: for each coded column, its values in code order.
        kind: "onehot", "ordinal", or None when every column is numeric.
    """

    columns: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    kind: str | None = None

    @classmethod
    def fit(
        cls,
        frame: pd.DataFrame,
        kind: str | None = None,
        categories: Mapping[str, Sequence[str]] | None = None,
        what: str = "members",
    ) -> "TableEncoder":
        """The encoder of the feature columns of `frame` (without target and id).

        Args:
            frame: the members' features.
            kind: "onehot", "ordinal", or None to accept numeric columns only.
            categories: known values of some columns, in code order; the others' values are those found,
                in natural order (or in their own, for an ordered category).
            what: which records these are, for messages.

        Raises:
            DataError: for columns that are not numbers without a `kind`, dates, nested values, and columns
                that hold another text in most records.
        """
        if kind not in (None, "onehot", "ordinal"):
            raise ConfigError(f"encode is 'onehot' or 'ordinal', got '{kind}'")
        given = {name: tuple(nfc(str(value)) for value in values) for name, values in (categories or {}).items()}
        for name in given:
            if name not in frame.columns:
                raise DataError(f"{what}: categories name the column '{name}': {nearest(name, frame.columns)}")
        texts = [name for name in frame.columns if name in given or not is_numeric(column_of(frame, name))]
        for name in texts:
            refuse_unusable(column_of(frame, name), what)
        if texts and kind is None:
            raise DataError(
                f"{what}: {len(texts)} columns are not numbers: {listed(texts)}; "
                'choose encode = "onehot" or encode = "ordinal" as the training did, encode = "own" for a victim that '
                "takes the table as it is (a scikit-learn pipeline), or leave them out with drop"
            )
        found: dict[str, tuple[str, ...]] = {}
        for name in texts:
            if name in given:
                if len(set(given[name])) != len(given[name]):
                    raise DataError(f"{what}: the categories of '{name}' name one value twice")
                found[name] = given[name]
            else:
                found[name] = categories_of(column_of(frame, name), what)
        return cls(tuple(frame.columns), found, kind if found else None)

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the columns of the matrix."""
        return tuple(out for name in self.columns for out in self._outputs(name))

    def transform(self, frame: pd.DataFrame, what: str = "members") -> Float[Array, " n d"]:
        """The matrix of `frame`: float64, so that the caller can tell missing, infinite and too large apart.

        Missing values are NaN. Columns may come in any order.

        Raises:
            DataError: for missing or unknown columns, texts where numbers were, and unknown categories.
        """
        need_columns(frame, self.columns, what)
        blocks = [self._block(column_of(frame, name), what) for name in self.columns]
        return np.concatenate(blocks, axis=1) if blocks else np.zeros((len(frame), 0))

    def _outputs(self, name: str) -> tuple[str, ...]:
        if name not in self.categories or self.kind != "onehot":
            return (name,)
        return tuple(f"{name}={value}" for value in self.categories[name])

    def _block(self, column: pd.Series, what: str) -> Array:
        name = str(column.name)
        if name not in self.categories:
            if not is_numeric(column):
                refuse_unusable(column, what)
                raise DataError(
                    f"{what}: the column '{name}' should hold numbers, got for instance "
                    f"{_first_text(column)!r} in row {_first_text_row(column)}"
                )
            return numbers(column)[:, None]
        known = self.categories[name]
        number = {value: i for i, value in enumerate(known)}
        found, values = factorized(column, what)
        code_of = np.full(len(values) + 1, np.nan)  # the last stands for -1, a missing value
        for i, value in enumerate(values):
            text = canonical(value)
            if text not in number and not is_absent(value):
                row = int(np.argmax(found == i)) + 1
                raise DataError(
                    f"{what}: the column '{name}' holds '{text}' in row {row}, which is none of its "
                    f"{len(known)} known values ({listed(known)}); name every value with categories"
                )
            code_of[i] = number.get(text, np.nan) if not is_absent(value) else np.nan
        codes = code_of[found]
        if self.kind == "ordinal":
            return codes[:, None]
        hot = (codes[:, None] == np.arange(len(known))).astype(np.float64)
        hot[np.isnan(codes)] = np.nan
        return hot


def need_columns(frame: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """Refuse a table with other columns than the members'.

    Raises:
        DataError: naming those that are missing, or not wanted.
    """
    lacking = [name for name in columns if name not in frame.columns]
    if lacking:
        raise DataError(f"{what}: the columns {listed(lacking)} are missing; {nearest(lacking[0], frame.columns)}")
    extra = [name for name in frame.columns if name not in columns]
    if extra:
        raise DataError(
            f"{what}: {len(extra)} columns are not among the members' {len(columns)}: {listed(extra)}; "
            "leave them out with drop"
        )


def column_of(frame: pd.DataFrame, name: str) -> pd.Series:
    """The column called `name`; names are unique here, so it is one column and no frame."""
    return cast(pd.Series, frame[name])


def is_numeric(column: pd.Series) -> bool:
    """True when every value present is a number or a truth value."""
    kind = column.dtype
    if pd.api.types.is_bool_dtype(kind) or (
        pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_complex_dtype(kind)
    ):
        return not isinstance(kind, pd.CategoricalDtype)
    if kind != np.dtype(object):
        return False
    present = [value for value in column if not is_absent(value)]
    return all(isinstance(value, bool | np.bool_ | Decimal | Number) and not _complex(value) for value in present)


def _complex(value: Any) -> bool:
    return isinstance(value, complex | np.complexfloating)


def numbers(column: pd.Series) -> Float[Array, " n"]:
    """The values of a numeric column, float64, NaN where they are missing."""
    if column.dtype == np.dtype(object):
        return np.asarray([np.nan if is_absent(value) else float(value) for value in column], dtype=np.float64)
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def is_absent(value: Any) -> bool:
    """True for a value that is not there: None, NaN, pandas' own missing values, an empty text."""
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value))) or value == ""


def factorized(column: pd.Series, what: str) -> tuple[Array, list[Any]]:
    """For each row the index of its value among the distinct ones, -1 where it is missing; and those values."""
    try:
        codes, values = pd.factorize(column)
    except TypeError as error:
        raise DataError(
            f"{what}: the column '{column.name}' holds values that are no single number or text, such as "
            f"{column.iloc[0]!r}; spread them over columns, or leave it out with drop"
        ) from error
    return codes, list(values)


def canonical(value: Any) -> str:
    """One text for a value, the same whether it came from CSV, Parquet or memory."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return nfc(str(value))


def categories_of(column: pd.Series, what: str, listed: bool = False) -> tuple[str, ...]:
    """The values of a column of texts, in natural order, or in their own for an ordered category.

    Args:
        column: with its name.
        what: which records these are, for messages.
        listed: whether the user has listed values of it: it is a category then, however many there are.

    Raises:
        DataError: when it holds another text in most records, or values that are no single text.
    """
    if isinstance(column.dtype, pd.CategoricalDtype) and column.dtype.ordered:
        return tuple(canonical(value) for value in column.dtype.categories)
    codes, values = factorized(column, what)
    found = natural_order(canonical(value) for value in values if not is_absent(value))
    present = int((codes >= 0).sum())
    if not listed and len(found) > _MANY and 2 * len(found) > present:
        raise DataError(
            f"{what}: the column '{column.name}' holds {len(found)} different texts in {present} records: "
            "it looks like a name or free text, which is no category; leave it out with drop, name it as id, "
            "or list its values with categories"
        )
    return found


def refuse_unusable(column: pd.Series, what: str) -> None:
    """Refuse columns that are neither numbers nor texts.

    Raises:
        DataError: for dates, times, complex and nested values.
    """
    kind = column.dtype
    if isinstance(kind, pd.StringDtype):
        return
    dated = pd.api.types.is_datetime64_any_dtype(kind) or pd.api.types.is_timedelta64_dtype(kind)
    if dated or any(isinstance(value, datetime.date | datetime.time | datetime.timedelta) for value in column):
        raise DataError(
            f"{what}: the column '{column.name}' holds dates or times; turn it into a number that the victim was "
            "trained on (an age, a month), or leave it out with drop"
        )
    for row, value in enumerate(column):
        if isinstance(value, list | tuple | dict | np.ndarray | set) or _complex(value):
            raise DataError(
                f"{what}: the column '{column.name}' holds a {type(value).__name__} in row {row + 1}; "
                "one number or text a record was wanted: spread it over columns, or leave it out with drop"
            )


def _first_text_row(column: pd.Series) -> int:
    for row, value in enumerate(column):
        if not is_absent(value) and not isinstance(value, bool | np.bool_ | Decimal | Number):
            return row + 1
    return 1


def _first_text(column: pd.Series) -> str:
    return str(column.iloc[_first_text_row(column) - 1])
