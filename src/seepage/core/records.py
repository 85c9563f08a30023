"""Records as arrays: what was trained on, what was not, and what the adversary may own."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from seepage.core.errors import DataError
from seepage.core.frames import TableForm
from seepage.core.vocabulary import Modality, Task

Array = np.ndarray


@dataclass(frozen=True)
class Records:
    """Some records with their classes, or with the numbers or labels that a model predicts of them.

    Attributes:
        x: (n, ...) float32 values; images are channels first.
        y: (n,) class numbers from 0, or None when unlabelled.
        class_names: what the class numbers stand for; `len(class_names)` classes.
        ids: (n,) a name for each record, for reports; stable under selection.
        modality: what one record is.
        features: names of the columns of a table.
        source: where the records came from, with its credit.
        texts: (n,) the records themselves when they are text; `x` is then (n, 0).
        task: what is to be predicted of them: with "classes" it stands in `y`, else in `targets`.
        targets: (n, d) float64: numbers in their own units ("values"), or 0 and 1 for each label ("labels").
        outputs: names of the d targets.
        spread: (d,) standard deviation of the targets, among all candidates of an audit: the unit of errors.
        form: the way back to the table the records came from, for a victim that takes it as it is.
    """

    x: Float[Array, " n ..."]
    y: Int[Array, " n"] | None = None
    class_names: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    modality: Modality = Modality.IMAGE
    features: tuple[str, ...] = ()
    source: str = ""
    texts: tuple[str, ...] = ()
    task: Task = Task.CLASSES
    targets: Float[Array, " n d"] | None = None
    outputs: tuple[str, ...] = ()
    spread: tuple[float, ...] = ()
    form: TableForm | None = None

    @classmethod
    def of_texts(
        cls,
        texts: Sequence[str],
        ids: Sequence[str] = (),
        source: str = "",
        y: Int[Array, " n"] | None = None,
        class_names: tuple[str, ...] = (),
    ) -> "Records":
        """Documents as records: what a language model is trained on, with classes where it tells them apart."""
        empty = np.zeros((len(texts), 0), dtype=np.float32)
        return cls(empty, y, class_names, tuple(ids), Modality.TEXT, source=source, texts=tuple(texts))

    def __post_init__(self) -> None:
        if self.y is not None and len(self.y) != len(self.x):
            raise DataError(f"as many labels as records were wanted: {len(self.x)} records, {len(self.y)} labels")
        if not self.ids:
            object.__setattr__(self, "ids", tuple(str(i) for i in range(len(self.x))))
        if len(self.ids) != len(self.x):
            raise DataError(f"as many ids as records were wanted: {len(self.x)} records, {len(self.ids)} ids")
        if self.texts and len(self.texts) != len(self.x):
            raise DataError(f"as many texts as records were wanted: {len(self.x)} records, {len(self.texts)} texts")
        if self.targets is not None:
            self._settle(self.targets)
        if self.y is not None and len(self.y):
            if not self.class_names:
                object.__setattr__(self, "class_names", tuple(str(i) for i in range(int(self.y.max()) + 1)))
            if int(self.y.min()) < 0 or int(self.y.max()) >= len(self.class_names):
                raise DataError(
                    f"labels should be 0 to {len(self.class_names) - 1}, got {int(self.y.min())} to {int(self.y.max())}"
                )

    def _settle(self, targets: Float[Array, " n d"]) -> None:
        """Check the targets, and name and measure what was not named and measured before."""
        if self.task is Task.CLASSES or self.y is not None:
            raise DataError("records have classes (y) or targets, and not both: say the task of targets")
        if targets.ndim != 2 or len(targets) != len(self.x):
            raise DataError(
                f"as many rows of targets as records were wanted: {len(self.x)} records, targets of {targets.shape}"
            )
        if not self.outputs:
            object.__setattr__(self, "outputs", tuple(f"output {i + 1}" for i in range(targets.shape[1])))
        if not self.spread and len(targets):
            object.__setattr__(self, "spread", spread_of(targets))

    def __len__(self) -> int:
        return len(self.x)

    @property
    def labelled(self) -> bool:
        """Whether it is known what a model should answer: a class, numbers or labels."""
        return self.y is not None or self.targets is not None

    @property
    def width(self) -> int:
        """How many numbers an answer to such a record holds: one a class, value or label."""
        return len(self.class_names) if self.task is Task.CLASSES else len(self.outputs)

    def __getitem__(self, rows: Int[Array, " m"] | Bool[Array, " n"] | Sequence[int] | slice) -> "Records":
        """The chosen records, with their labels and ids."""
        index = np.arange(len(self))[rows if isinstance(rows, slice) else np.asarray(rows)]
        return replace(
            self,
            x=self.x[index],
            y=None if self.y is None else self.y[index],
            ids=tuple(self.ids[i] for i in index),
            texts=tuple(self.texts[i] for i in index) if self.texts else (),
            targets=None if self.targets is None else self.targets[index],
        )

    def labels(self) -> Int[Array, " n"]:
        """The class numbers.

        Raises:
            DataError: when the records are unlabelled.
        """
        if self.y is None:
            raise DataError(f"labelled records were wanted; those from '{self.source or 'memory'}' carry no classes")
        return self.y

    def answers(self) -> Float[Array, " n d"]:
        """The targets.

        Raises:
            DataError: when the records have none.
        """
        if self.targets is None:
            raise DataError(f"records with targets were wanted; those from '{self.source or 'memory'}' carry none")
        return self.targets

    def given(self) -> tuple[Any, Any]:
        """Records and what is to be predicted of them, as a training function takes them.

        Returns:
            `x` (n, ...), or the table as it is where the records have a `form`; and class numbers (n,), or
            targets: (n,) where there is one number a record, else (n, d).

        Raises:
            DataError: when the records are unlabelled.
        """
        x = self.x if self.form is None else self.form.frame(self.x)
        if self.targets is None:
            return x, self.labels()
        return x, self.targets[:, 0] if self.task is Task.VALUES and len(self.outputs) == 1 else self.targets

    def of_class(self, c: int) -> "Records":
        """The records of class `c`."""
        return self[np.nonzero(self.labels() == c)[0]]

    def digest(self) -> str:
        """SHA-256 over values and labels: the same records give the same digest anywhere."""
        h = hashlib.sha256()
        for part in (self.x, self.y, self.targets):
            if part is not None:
                h.update(str((part.dtype.str, part.shape)).encode())
                h.update(np.ascontiguousarray(part).tobytes())
        for text in self.texts:
            h.update(hashlib.sha256(text.encode()).digest())
        return h.hexdigest()

    def joined(self, other: "Records") -> "Records":
        """These records followed by `other`, which must have the same classes, or targets of the same kind."""
        if self.class_names != other.class_names or (self.y is None) != (other.y is None):
            raise DataError("only records with the same classes can be joined")
        if self.task is not other.task or (self.targets is None) != (other.targets is None):
            raise DataError(f"only records with the same targets can be joined, not {self.task} with {other.task}")
        return replace(
            self,
            x=np.concatenate([self.x, other.x]),
            y=None if self.y is None or other.y is None else np.concatenate([self.y, other.y]),
            ids=self.ids + other.ids,
            texts=self.texts + other.texts,
            targets=None
            if self.targets is None or other.targets is None
            else np.concatenate([self.targets, other.targets]),
        )


@dataclass(frozen=True)
class Splits:
    """Records told apart by what happened to them: trained on, held out, owned by the adversary.

    `public` may have classes of its own, or none: the people in it are other people.
    """

    members: Records
    nonmembers: Records | None = None
    public: Records | None = None


def spread_of(targets: Float[Array, " n d"]) -> tuple[float, ...]:
    """The standard deviation of each target, 1 where it is constant."""
    deviation = np.asarray(targets, dtype=np.float64).std(axis=0)
    return tuple(float(s) if s > 0 else 1.0 for s in deviation)


def row_digests(x: Float[Array, " n ..."]) -> tuple[bytes, ...]:
    """One digest a record, equal for records equal in every value: used to find overlaps."""
    flat = np.ascontiguousarray(x.reshape(len(x), int(np.prod(x.shape[1:]))))
    return tuple(hashlib.sha1(row.tobytes(), usedforsecurity=False).digest() for row in flat)
