"""A torch `Dataset`, read item by item. torch itself is never imported: only its objects are asked."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image

from seepage.core.errors import DataError
from seepage.core.progress import Listener, Progress
from seepage.core.records import Records
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Modality, Task
from seepage.data.images import image_shape, picture_array, strict_decoding
from seepage.data.labels import class_numbers, need_two_classes
from seepage.data.layout import is_torch, numeric, tensor_array, to_layout
from seepage.data.reading import Reading
from seepage.data.targets import as_columns, target_values

Array = np.ndarray
_DEFAULT = Reading()
_X_NAMES = ("x", "image", "img", "pixel_values", "input", "inputs", "features")
_Y_NAMES = ("y", "label", "labels", "target", "class")


def is_dataset(thing: Any) -> bool:
    """True for a torch Dataset (map-style or iterable), and for a DataLoader, which is refused by name."""
    names = {base.__name__ for base in type(thing).__mro__ if base.__module__.split(".")[0] == "torch"}
    return bool(names & {"Dataset", "IterableDataset", "DataLoader"})


def read_dataset(
    dataset: Any,
    *,
    reading: Reading = _DEFAULT,
    spec: InputSpec | None = None,
    class_names: Sequence[str] | None = None,
    what: str = "members",
    labelled: bool = True,
    progress: Listener | None = None,
) -> Records:
    """The records of a torch dataset, in its order.

    An item is a pair (record, class), a mapping ("x", "image", ... and "y", "label", ..., or the names in
    `reading.x`, `reading.y`), or a record alone, which `labelled` must permit. A record is a tensor, an array
    or a PIL image. Tensors are kept in their own values: a dataset that ends in a Normalize gives values
    outside the victim's range; declare mean and std in the spec instead, and leave Normalize out.

    Args:
        dataset: map-style (len and item), or iterable, which needs `reading.limit`.
        reading: `x`, `y` and `limit` are used.
        spec: the victim's input.
        class_names: the classes to agree with; otherwise the dataset's own `classes`, when it has them.
        what: which records these are, for messages.
        labelled: whether classes are needed.
        progress: told how many items are read.

    Raises:
        DataError: for a loader, a dataset without an end and without a limit, an empty one, an item that
            cannot be read, and whatever `to_layout` refuses.
    """
    if hasattr(dataset, "batch_size") and hasattr(dataset, "dataset"):
        raise DataError(f"{what}: a DataLoader may shuffle and repeat; give its dataset instead (loader.dataset)")
    items, count = _items(dataset, reading.limit, what)
    records: list[Any] = []
    labels: list[Any] = []
    rows: list[int] = []
    with strict_decoding():
        for row, item in items:
            if progress is not None and count and len(rows) % 200 == 0:
                progress(Progress(f"read {what}", "moving", min(1.0, len(rows) / count)))
            record, label = _pair(item, reading, what)
            if isinstance(record, Image.Image):
                record = _picture(record, spec, row, what)
            records.append(tensor_array(record) if is_torch(record) else np.asarray(record))
            labels.append(label)
            rows.append(row)
    if not records:
        raise DataError(f"{what}: the dataset is empty")
    if progress is not None:
        progress(Progress(f"read {what}", "done", 1.0))
    shapes = {record.shape for record in records}
    if len(shapes) > 1:
        odd = next(row for row, record in zip(rows, records, strict=True) if record.shape != records[0].shape)
        raise DataError(
            f"{what}: records of one shape were wanted; record {rows[0]} has {records[0].shape}, "
            f"record {odd} another; resize in the dataset's transform"
        )
    x, modality = to_layout(numeric(np.stack(records), what), spec, what)
    y, names, targets = None, (), None
    if reading.predicts is not Task.CLASSES and all(label is not None for label in labels):
        plain = [tensor_array(label) if is_torch(label) else label for label in labels]
        targets = target_values(as_columns(plain, what), reading.predicts, what, lone=what == "members")
    elif all(label is not None for label in labels):
        plain = [tensor_array(label) if is_torch(label) else label for label in labels]
        y, names = _numbers(np.asarray(plain), dataset, class_names, what)
        if labelled and class_names is None:
            need_two_classes(y, what)
    elif labelled:
        raise DataError(f"{what}: pairs (record, class) were wanted, the dataset gives records alone")
    return Records(
        x=x,
        y=y,
        class_names=names,
        ids=tuple(str(row) for row in rows),
        modality=modality,
        source=type(dataset).__name__,
        task=reading.predicts,
        targets=targets,
    )


def _numbers(
    labels: Array, dataset: Any, class_names: Sequence[str] | None, what: str
) -> tuple[Array, tuple[str, ...]]:
    own = getattr(dataset, "classes", None)
    own = tuple(str(name) for name in own) if isinstance(own, list | tuple) and own else ()
    whole = labels.dtype.kind in "iu" and labels.ndim == 1 and labels.size > 0
    if not whole or not own or labels.min() < 0 or labels.max() >= len(own):
        return class_numbers(labels, class_names, what)
    if class_names is None:
        return labels.astype(np.int64), own
    if set(own) <= set(class_names):
        # By name: another split of the same data may number its classes otherwise.
        return class_numbers(np.asarray([own[label] for label in labels], dtype=object), class_names, what)
    return class_numbers(labels, class_names, what)


def _items(dataset: Any, limit: int | None, what: str) -> tuple[Iterator[tuple[int, Any]], int]:
    """Numbered items and how many there will be."""
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__") or _iterable_only(dataset):
        if limit is None:
            raise DataError(f"{what}: an iterable dataset may have no end; give limit, the number of records to read")
        return enumerate(islice(iter(dataset), limit)), limit
    n = len(dataset)
    rows = range(n) if limit is None or limit >= n else [int(i * n / limit) for i in range(limit)]
    return ((row, _item(dataset, row, what)) for row in rows), len(rows)


def _iterable_only(dataset: Any) -> bool:
    return any(base.__name__ == "IterableDataset" for base in type(dataset).__mro__)


def _item(dataset: Any, row: int, what: str) -> Any:
    try:
        return dataset[row]
    except Exception as error:
        # Whatever the user's own transform raised, the record it happened at is what they need to know.
        raise DataError(
            f"{what}: record {row} of the {type(dataset).__name__} cannot be read: {type(error).__name__}: {error}"
        ) from error


def _pair(item: Any, reading: Reading, what: str) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        x = _named(item, reading.x, _X_NAMES, what)
        if x is None:
            raise DataError(f"{what}: items have the keys {', '.join(map(str, item))}; say which is the record with x")
        return x, _named(item, reading.y, _Y_NAMES, what)
    if isinstance(item, tuple | list):
        if not item:
            raise DataError(f"{what}: an item of the dataset is empty; pairs (record, class) were wanted")
        return item[0], item[1] if len(item) > 1 else None
    return item, None


def _named(item: Mapping[Any, Any], chosen: str | None, usual: Sequence[str], what: str) -> Any:
    if chosen is not None:
        if chosen not in item:
            raise DataError(f"{what}: items have the keys {', '.join(map(str, item))}, and none is '{chosen}'")
        return item[chosen]
    return next((item[name] for name in usual if name in item), None)


def _picture(picture: Image.Image, spec: InputSpec | None, row: int, what: str) -> Array:
    shape = None
    if spec is not None and spec.modality is Modality.IMAGE:
        shape = image_shape(spec, what)
    try:
        unit = picture_array(picture, shape)
    except (ValueError, OSError) as error:
        raise DataError(f"{what}: record {row} cannot be used as a picture: {error}") from error
    return unit if spec is None else spec.bounds.from_unit(unit)
