"""How records are read: the options of every kind of source in one place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from seepage.core.errors import ConfigError, did_you_mean
from seepage.core.vocabulary import Task
from seepage.data.encoding import TableEncoder
from seepage.data.own_form import OwnForm


@dataclass(frozen=True)
class Reading:
    """Options for reading records; a source uses those that concern it.

    Attributes:
        target: tables: the column that holds the class, or the target of a victim that predicts numbers; several
            columns for several outputs.
        task: what the victim predicts: "classes" (also where not given), "values" (numbers) or "labels" (for each
            label whether it applies: several may, or none).
        drop: tables: columns to leave out.
        id: tables: the column that names each record; it is no feature.
        encode: tables: what to do with columns that are not numbers: "onehot", "ordinal", "own" (the victim and its
            recipe are given the table as it is), or a fitted encoder.
        categories: tables: the known categories of a column, by column name, instead of those found.
        missing: tables: "error", "drop" to leave out records with missing or infinite values, or "keep" to give
            missing values to a victim that takes the table as it is. When not given, "keep" with encode = "own", else
            "error".
        delimiter: CSV: the character between fields; a comma, or a tab for .tsv.
        x, y: arrays and Hugging Face datasets: the names of the array or column of records and of classes.
        split: Hugging Face: which split of a DatasetDict.
        size: images: (height, width) to resize to, where no input shape is declared.
        limit: at most this many records, spread evenly over the source in its order.
    """

    target: str | Sequence[str] | None = None
    drop: Sequence[str] = ()
    id: str | None = None
    encode: str | TableEncoder | OwnForm | None = None
    categories: Mapping[str, Sequence[str]] | None = None
    missing: str | None = None
    delimiter: str | None = None
    x: str | None = None
    y: str | None = None
    split: str | None = None
    size: tuple[int, int] | None = None
    limit: int | None = None
    task: str | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns that hold the target."""
        if self.target is None:
            return ()
        return (self.target,) if isinstance(self.target, str) else tuple(self.target)

    @property
    def predicts(self) -> Task:
        """What the victim predicts."""
        return Task.CLASSES if self.task is None else Task(self.task)

    def __post_init__(self) -> None:
        if not (self.target is None or isinstance(self.target, str) or (_texts(self.target) and self.target)):
            raise ConfigError(f"target is the name of a column, or a list of names, got {self.target!r}")
        if self.task is not None:
            asked_task(self.task)
        for name in ("id", "delimiter", "x", "y", "split"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise ConfigError(f"{name} is a text, got {value!r}")
        if not _texts(self.drop):
            raise ConfigError(f"drop is a list of column names, got {self.drop!r}")
        if self.categories is not None and not _listings(self.categories):
            raise ConfigError(f"categories is a list of texts for each column, got {self.categories!r}")
        if self.missing not in (None, "error", "drop", "keep"):
            raise ConfigError(f"missing is 'error', 'drop' or 'keep', got {self.missing!r}")
        fitted = isinstance(self.encode, TableEncoder | OwnForm)
        if not fitted and self.encode not in (None, "onehot", "ordinal", "own"):
            raise ConfigError(f"encode is 'onehot', 'ordinal' or 'own', got {self.encode!r}")
        if self.missing == "keep" and not isinstance(self.encode, OwnForm) and self.encode not in (None, "own"):
            raise ConfigError(
                'missing = "keep" gives missing values to a victim that takes the table as it is: it goes with '
                'encode = "own"; a matrix has no place for them'
            )
        if self.size is not None and not (_whole(self.size) and len(self.size) == 2):
            raise ConfigError(f"size is (height, width) in pixels, got {self.size!r}")
        if self.limit is not None and not _whole((self.limit,)):
            raise ConfigError(f"limit is the greatest number of records, 1 or more, got {self.limit!r}")
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise ConfigError(f"delimiter is one character, got {self.delimiter!r}")


def asked_task(name: str) -> Task:
    """The task called `name`.

    Raises:
        ConfigError: for an unknown one, with a "did you mean".
    """
    if name not in list(Task):
        raise ConfigError(f"task: unknown '{name}': {did_you_mean(str(name), list(Task))}")
    return Task(name)


def _texts(values: object) -> bool:
    return isinstance(values, list | tuple) and all(isinstance(value, str) for value in values)


def _listings(values: object) -> bool:
    return isinstance(values, Mapping) and all(isinstance(k, str) and _texts(v) for k, v in values.items())


def _whole(values: object) -> bool:
    return isinstance(values, list | tuple) and all(type(value) is int and value >= 1 for value in values)
