"""A Hugging Face dataset saved on disk (`save_to_disk`). Nothing is ever downloaded."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from seepage.core.errors import DataError, MissingExtra
from seepage.core.progress import Listener, Progress
from seepage.core.records import Records
from seepage.core.spec import UNIT, InputSpec
from seepage.core.vocabulary import Modality, Task
from seepage.data.images import decode, image_shape, picture_array, strict_decoding
from seepage.data.labels import class_numbers, listed, nearest, need_two_classes
from seepage.data.layout import numeric, to_layout
from seepage.data.reading import Reading
from seepage.data.tables import even_rows, frame_records
from seepage.data.targets import as_columns, target_values

Array = np.ndarray
_DEFAULT = Reading()


def is_saved_dataset(folder: Path) -> bool:
    """True when `folder` is what `save_to_disk` writes."""
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "dataset_info.json").is_file() and (folder / "state.json").is_file()
    )


def read_huggingface(
    source: Any,
    *,
    reading: Reading = _DEFAULT,
    spec: InputSpec | None = None,
    class_names: Sequence[str] | None = None,
    what: str = "members",
    labelled: bool = True,
    progress: Listener | None = None,
) -> Records:
    """The records of a saved Hugging Face dataset, or of one in memory.

    The column of records is `reading.x`, or the only image column, or the only array column; without any, the
    columns together are a table. The class is the column `reading.y` or `reading.target`, or the only
    ClassLabel column, or the column "label".

    Args:
        source: a folder written by `save_to_disk`, a Dataset, or a DatasetDict with `reading.split`.
        reading: `x`, `y` (or `target`), `split`, `size`, `limit`, and for tables what `frame_records` uses.
        spec: the victim's input.
        class_names: the classes to agree with; otherwise those the dataset names.
        what: which records these are, for messages.
        labelled: whether classes are needed.
        progress: told how many pictures are read.

    Raises:
        MissingExtra: when the package `datasets` is not installed.
        DataError: for a damaged folder, a missing split or column (did you mean), pictures that are stored
            elsewhere (a web address), a damaged picture.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra("datasets", "hf", "reading a Hugging Face dataset") from error
    name = "a Hugging Face dataset"
    if isinstance(source, str | Path):
        name = Path(source).name
        source = _load(datasets, Path(source), what)
    table = _one_split(datasets, source, reading.split, what)
    if len(table) == 0:
        raise DataError(f"{what}: {name} holds no records")
    y_name = _label_column(datasets, table, reading, labelled, what)
    x_name = _record_column(datasets, table, reading, y_name, what)
    if x_name is None:
        return _table(datasets, table, y_name, reading, spec, class_names, what, labelled, name)
    rows = np.arange(len(table))
    if reading.limit is not None and reading.limit < len(table):
        rows = even_rows(len(table), reading.limit)
        table = table.select(rows)
    if isinstance(table.features[x_name], datasets.Image):
        x, modality = _pictures(datasets, table, x_name, spec, reading.size, what, progress), Modality.IMAGE
    else:
        # Plain Python values, the same whatever format the dataset was set to, in the type the column declares.
        values = numeric(table.with_format(None)[:][x_name], what)
        declared = _dtype(table.features[x_name])
        values = values.astype(declared) if declared in ("uint8", "uint16", "bool") else values
        x, modality = to_layout(values, spec, what)
    y, names = None, ()
    if y_name is not None and reading.predicts is not Task.CLASSES:
        targets = target_values(
            as_columns(_labels(datasets, table, y_name), what), reading.predicts, what, lone=what == "members"
        )
        ids = tuple(str(row) for row in rows)
        return Records(x=x, ids=ids, modality=modality, source=name, task=reading.predicts, targets=targets)
    if y_name is not None:
        feature = table.features[y_name]
        own = feature.names if isinstance(feature, datasets.ClassLabel) else None
        y, names = class_numbers(_labels(datasets, table, y_name), class_names or own, what)
        if labelled and class_names is None:
            need_two_classes(y, what)
    return Records(x=x, y=y, class_names=names, ids=tuple(str(row) for row in rows), modality=modality, source=name)


def _load(datasets: Any, folder: Path, what: str) -> Any:
    if not folder.is_dir() or not is_saved_dataset(folder):
        raise DataError(f"{what}: {folder} is no folder written by save_to_disk")
    try:
        return datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        # Arrow's own errors derive from OSError or ValueError; a damaged JSON file gives the others.
        raise DataError(
            f"{what}: the Hugging Face dataset in {folder.name} is damaged ({type(error).__name__}: {error}); "
            "copy it or save it again"
        ) from error


def _one_split(datasets: Any, source: Any, split: str | None, what: str) -> Any:
    if isinstance(source, datasets.DatasetDict):
        if split is None:
            raise DataError(f"{what}: the dataset has splits: choose one with split; {listed(source)}")
        if split not in source:
            raise DataError(f"{what}: no split '{split}' in the dataset: {nearest(split, source)}")
        return source[split]
    if not isinstance(source, datasets.Dataset):
        raise DataError(f"{what}: a Dataset or DatasetDict in memory was wanted, got a {type(source).__name__}")
    return source


def _label_column(datasets: Any, table: Any, reading: Reading, labelled: bool, what: str) -> str | None:
    if len(reading.targets) > 1:
        raise DataError(f"{what}: one column of a Hugging Face dataset holds the target; export several to Parquet")
    chosen = reading.y or next(iter(reading.targets), None)
    if chosen is not None:
        if chosen in table.column_names:
            return chosen
        if labelled:
            raise DataError(f"{what}: no column '{chosen}': {nearest(chosen, table.column_names)}")
        return None
    named = [name for name, feature in table.features.items() if isinstance(feature, datasets.ClassLabel)]
    if len(named) == 1:
        return named[0]
    if "label" in table.column_names:
        return "label"
    if labelled:
        raise DataError(f"{what}: say which column holds the class with y; {nearest('label', table.column_names)}")
    return None


def _record_column(datasets: Any, table: Any, reading: Reading, y_name: str | None, what: str) -> str | None:
    if reading.x is not None:
        if reading.x not in table.column_names:
            raise DataError(f"{what}: no column '{reading.x}': {nearest(reading.x, table.column_names)}")
        return reading.x
    features = {name: feature for name, feature in table.features.items() if name not in (y_name, *reading.drop)}
    lists = (datasets.Array2D, datasets.Array3D, datasets.Sequence, list, getattr(datasets, "List", list))
    for kinds in ((datasets.Image,), lists):
        found = [name for name, feature in features.items() if isinstance(feature, kinds)]
        if len(found) > 1:
            raise DataError(f"{what}: several columns may hold the records: {listed(found)}; choose one with x")
        if found:
            return found[0]
    return None


def _dtype(feature: Any) -> str:
    """The type of the numbers in a column of arrays or of lists, nested or not."""
    while not isinstance(getattr(feature, "dtype", None), str) or feature.dtype in ("list", "large_list"):
        inner = feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", None)
        if inner is None:
            return ""
        feature = inner
    return feature.dtype


def _labels(datasets: Any, table: Any, name: str) -> Array:
    """The labels of a column: names where the dataset names its classes, else what it holds."""
    values = table.with_format(None)[:][name]
    feature = table.features[name]
    if isinstance(feature, datasets.ClassLabel):
        # -1 is how a ClassLabel column says that a label is missing.
        return np.asarray(
            [None if value is None or value < 0 else feature.names[value] for value in values], dtype=object
        )
    return np.asarray(values, dtype=object)


def _pictures(
    datasets: Any,
    table: Any,
    name: str,
    spec: InputSpec | None,
    size: tuple[int, int] | None,
    what: str,
    progress: Listener | None,
) -> Array:
    # Undecoded: pictures then pass through this package's own checks, and none is fetched from an address.
    stored = table.select_columns([name]).with_format(None).cast_column(name, datasets.Image(decode=False))
    shape = None if spec is None else image_shape(spec, what)
    planes: list[Array] = []
    with strict_decoding():
        for row, item in enumerate(stored):
            if progress is not None and row % 50 == 0:
                progress(Progress(f"read {what}", "moving", row / len(stored)))
            picture = decode(_open(item[name], row, what), f"of record {row}", what)
            try:
                planes.append(picture_array(picture, shape, size))
            except (ValueError, OSError) as error:
                raise DataError(f"{what}: record {row} cannot be used as a picture: {error}") from error
    sizes = {plane.shape[1:] for plane in planes}
    if len(sizes) > 1:
        raise DataError(
            f"{what}: pictures have {len(sizes)} different sizes, and none is declared; declare the victim's input "
            "shape, or give size = [height, width]"
        )
    channels = max(plane.shape[0] for plane in planes)
    unit = np.stack([np.broadcast_to(plane, (channels, *plane.shape[1:])) for plane in planes])
    return (UNIT if spec is None else spec.bounds).from_unit(unit)


def _open(item: Any, row: int, what: str) -> Any:
    if item is None:
        raise DataError(f"{what}: record {row} holds no picture; drop it before auditing")
    if item.get("bytes"):
        return io.BytesIO(item["bytes"])
    path = item.get("path")
    if not path or "://" in path or not Path(path).is_file():
        raise DataError(
            f"{what}: the picture of record {row} is not stored in the dataset ({path or 'no path'}), and nothing is "
            "downloaded; save the dataset with its pictures embedded"
        )
    return Path(path)


def _table(
    datasets: Any,
    table: Any,
    y_name: str | None,
    reading: Reading,
    spec: InputSpec | None,
    class_names: Sequence[str] | None,
    what: str,
    labelled: bool,
    name: str,
) -> Records:
    frame = table.with_format(None).to_pandas()
    labels = None
    if y_name is not None:
        labels = _labels(datasets, table, y_name)
        frame = frame.drop(columns=[y_name])
        feature = table.features[y_name]
        if class_names is None and isinstance(feature, datasets.ClassLabel):
            class_names = tuple(feature.names)
            if labelled:
                need_two_classes(class_numbers(labels, class_names, what)[0], what)
    return frame_records(
        frame,
        labels,
        # Of numbers and labels the target keeps its name.
        reading=replace(reading, target=None if reading.predicts is Task.CLASSES else y_name),
        spec=spec,
        class_names=class_names,
        what=what,
        labelled=labelled,
        source=name,
    )
