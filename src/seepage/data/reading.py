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
        if self.missing not in ("error", "drop"):
            raise ConfigError(f"missing is 'error' or 'drop', got '{self.missing}'")
        if isinstance(self.encode, str) and self.encode not in ("onehot", "ordinal"):
            raise ConfigError(f"encode is 'onehot' or 'ordinal', got '{self.encode}'")
        if self.size is not None and any(side < 1 for side in self.size):
            raise ConfigError(f"size is (height, width) in pixels, got {tuple(self.size)}")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit is the greatest number of records, 1 or more, got {self.limit}")
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise ConfigError(f"delimiter is one character, got {self.delimiter!r}")
        if isinstance(self.drop, str):
            raise ConfigError(f"drop is a list of columns, got the text {self.drop!r}; write [{self.drop!r}]")
