"""How records are read: the options of every kind of source in one place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seepage.core.errors import ConfigError
from seepage.data.encoding import TableEncoder


@dataclass(frozen=True)
class Reading:
    """Options for reading records; a source uses those that concern it.

    Attributes:
        target: tables: the column that holds the class.
        drop: tables: columns to leave out.
        id: tables: the column that names each record; it is no feature.
        encode: tables: what to do with columns that are not numbers: "onehot", "ordinal", or a fitted encoder.
        categories: tables: the known categories of a column, by column name, instead of those found.
        missing: tables: "error", or "drop" to leave out records with missing or infinite values.
        delimiter: CSV: the character between fields; a comma, or a tab for .tsv.
        x, y: arrays and Hugging Face datasets: the names of the array or column of records and of classes.
        split: Hugging Face: which split of a DatasetDict.
        size: images: (height, width) to resize to, where no input shape is declared.
        limit: at most this many records, spread evenly over the source in its order.
    """

    target: str | None = None
    drop: Sequence[str] = ()
    id: str | None = None
    encode: str | TableEncoder | None = None
    categories: Mapping[str, Sequence[str]] | None = None
    missing: str = "error"
    delimiter: str | None = None
    x: str | None = None
    y: str | None = None
    split: str | None = None
    size: tuple[int, int] | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        for name in ("target", "id", "delimiter", "x", "y", "split"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ConfigError(f"{name} is a text, got {value!r}")
        if not _texts(self.drop):
            raise ConfigError(f"drop is a list of column names, got {self.drop!r}")
        if self.categories is not None and not _listings(self.categories):
            raise ConfigError(f"categories is a list of texts for each column, got {self.categories!r}")
        if self.missing not in ("error", "drop"):
            raise ConfigError(f"missing is 'error' or 'drop', got {self.missing!r}")
        if not isinstance(self.encode, TableEncoder) and self.encode not in (None, "onehot", "ordinal"):
            raise ConfigError(f"encode is 'onehot' or 'ordinal', got {self.encode!r}")
        if self.size is not None and not (_whole(self.size) and len(self.size) == 2):
            raise ConfigError(f"size is (height, width) in pixels, got {self.size!r}")
        if self.limit is not None and not _whole((self.limit,)):
            raise ConfigError(f"limit is the greatest number of records, 1 or more, got {self.limit!r}")
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise ConfigError(f"delimiter is one character, got {self.delimiter!r}")


def _texts(values: object) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(value, str) for value in values)


def _listings(values: object) -> bool:
    return isinstance(values, Mapping) and all(isinstance(k, str) and _texts(v) for k, v in values.items())


def _whole(values: object) -> bool:
    return isinstance(values, list | tuple) and all(type(value) is int and value >= 1 for value in values)
