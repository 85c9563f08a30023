"""Which records are of a group: by a value of a column, by a class."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from seepage.core.errors import DataError, did_you_mean
from seepage.core.records import Records

Array = np.ndarray


def columns_of(records: Records, column: str) -> list[int]:
    """The places of the features that come from one column: itself, or one for each of its values."""
    return [i for i, name in enumerate(records.features) if name == column or name.startswith(f"{column}=")]


def by_column(
    records: Records, column: str, value: str | float | None, at_least: float | None, what: str
) -> Bool[Array, " n"]:
    """(n,) which records have this value in this column, or a number as great.

    Args:
        records: a table whose features have names; a category is a 0/1 feature "column=value".
        column: its name in the table that was read.
        value: a category, or a number.
        at_least: instead of a value, the least number of the group.
        what: which records these are, for messages.

    Raises:
        DataError: for a column or value that is not there.
    """
    places = columns_of(records, column)
    if not places:
        names = sorted({name.split("=")[0] for name in records.features})
        raise DataError(f"{what}: the property's column '{column}' is not there: {did_you_mean(column, names)}")
    if records.features[places[0]] != column:
        values = [records.features[i].removeprefix(f"{column}=") for i in places]
        if at_least is not None:
            raise DataError(
                f"{what}: '{column}' holds categories ({', '.join(values[:8])}): give a value, not at_least"
            )
        if str(value) not in values:
            raise DataError(f"{what}: '{column}' has no value '{value}': {did_you_mean(str(value), values)}")
        return records.x[:, places[values.index(str(value))]] > 0.5
    numbers = records.x[:, places[0]]
    if at_least is not None:
        return numbers >= np.float32(at_least)
    try:
        wanted = np.float32(value)  # pyright: ignore[reportArgumentType] - what is no number is told below
    except (TypeError, ValueError):
        raise DataError(
            f"{what}: '{column}' holds numbers, and '{value}' is none: give a number, or read the table with "
            'encode = "onehot"'
        ) from None
    return numbers == wanted


def by_class(records: Records, name: str, what: str) -> Bool[Array, " n"]:
    """(n,) which records are of a class.

    Raises:
        DataError: when there is no such class.
    """
    if name not in records.class_names:
        raise DataError(f"{what}: there is no class '{name}': {did_you_mean(name, records.class_names)}")
    return records.labels() == records.class_names.index(name)


def without_column(records: Records, column: str) -> Records:
    """The records without the features of a column."""
    gone = set(columns_of(records, column))
    kept = [i for i in range(len(records.features)) if i not in gone]
    return replace(records, x=records.x[:, kept], features=tuple(records.features[i] for i in kept))
