"""Arrays in memory and `.npz` files, and the one dispatcher from whatever a user has to records."""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from seepage.core.errors import DataError, did_you_mean
from seepage.core.progress import Listener
from seepage.core.records import Records
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Task
from seepage.data.huggingface import is_saved_dataset, read_huggingface
from seepage.data.images import read_images
from seepage.data.labels import class_numbers, need_two_classes, nfc
from seepage.data.layout import is_torch, numeric, tensor_array, to_layout
from seepage.data.reading import Reading
from seepage.data.tables import PARQUET_SUFFIXES, TEXT_SUFFIXES, evenly, frame_records, is_table, read_table
from seepage.data.targets import as_columns, names_of, target_values
from seepage.data.torch_dataset import is_dataset, read_dataset

Array = np.ndarray
_DEFAULT = Reading()
_RUNS_CODE = (".pkl", ".pickle", ".joblib", ".pt", ".pth")


def as_records(
    thing: Any,
    *,
    spec: InputSpec | None = None,
    target: str | None = None,
    class_names: Sequence[str] | None = None,
    what: str = "members",
    labelled: bool | None = None,
    reading: Reading = _DEFAULT,
    progress: Listener | None = None,
) -> Records:
    """Records from whatever a user has.

    `thing` may be Records; a list of texts; a pair (x, y) of NumPy arrays, torch tensors, lists, data frames or
    series; an array alone; a mapping {"x": ..., "y": ...}; a data frame with a target column; a torch Dataset; a
    Hugging Face dataset; or a path to a folder of images, a CSV, TSV or Parquet file, an `.npz` file, or a Hugging
    Face dataset saved on disk.

    Args:
        thing: see above.
        spec: the victim's input: shape, value range, modality. Without it they are read off the data.
        target: the column that holds the class; the same as `reading.target`.
        class_names: the classes to agree with (those of the members), so that numbers mean the same.
        what: which records these are ("members", "nonmembers", "public"), for messages.
        labelled: whether classes are needed; by default everywhere but in public records.
        reading: further options of the source.
        progress: told how far reading is, where it takes long.

    Raises:
        DataError: when it cannot be read or used, saying what was wanted, what came and what to do.
    """
    labelled = what != "public" if labelled is None else labelled
    reading = reading if target is None else replace(reading, target=target)
    if isinstance(thing, str | Path):
        return _from_path(Path(thing), spec, class_names, what, labelled, reading, progress)
    if isinstance(thing, Records):
        return _from_records(thing, spec, class_names, what, labelled, reading)
    if is_torch(thing) and is_dataset(thing):
        return read_dataset(
            thing,
            reading=reading,
            spec=spec,
            class_names=class_names,
            what=what,
            labelled=labelled,
            progress=progress,
        )
    if type(thing).__module__.split(".")[0] == "datasets":
        return read_huggingface(
            thing,
            reading=reading,
            spec=spec,
            class_names=class_names,
            what=what,
            labelled=labelled,
            progress=progress,
        )
    if is_frame(thing):
        return frame_records(
            as_frame(thing), reading=reading, spec=spec, class_names=class_names, what=what, labelled=labelled
        )
    if isinstance(thing, Mapping):
        return _from_mapping(
            thing, reading, spec=spec, class_names=class_names, what=what, labelled=labelled, source="memory"
        )
    if isinstance(thing, list) and thing and all(isinstance(text, str) for text in thing):
        return evenly(Records.of_texts(thing, source="memory"), reading.limit)
    x, y = _pair(thing, what)
    return from_arrays(
        x,
        y,
        spec=spec,
        class_names=class_names,
        what=what,
        labelled=labelled,
        reading=reading,
    )


def from_arrays(
    x: Any,
    y: Any = None,
    *,
    spec: InputSpec | None = None,
    class_names: Sequence[str] | None = None,
    what: str = "members",
    labelled: bool = True,
    reading: Reading = _DEFAULT,
    own_names: Sequence[str] | None = None,
    ids: Sequence[str] = (),
    source: str = "memory",
) -> Records:
    """Records from values and classes in memory.

    Args:
        x: (n, d) a table, or images of shape (n, h, w), (n, h, w, c) or (n, c, h, w): arrays, tensors, lists, or
            a data frame of features. 8-bit pixels are divided by 255.
        y: (n,) class numbers or names, (n, c) one-hot, or None.
        spec: the victim's input.
        class_names: the classes to agree with.
        what: which records these are, for messages.
        labelled: whether classes are needed.
        reading: `limit`, and for a data frame also what `frame_records` uses.
        own_names: what the class numbers in `y` stand for, when the source says so.
        ids: a name for each record.
        source: where they came from.

    Raises:
        DataError: as `to_layout` and `class_numbers` do, for a single class, and for lengths that differ.
    """
    if y is None and labelled:
        raise DataError(f"{what}: records with their classes were wanted: give a pair (x, y)")
    if is_torch(y):
        y = tensor_array(y)
    if is_frame(x):
        return frame_records(
            as_frame(x),
            y,
            reading=reading,
            spec=spec,
            class_names=class_names,
            what=what,
            labelled=labelled,
        )
    values, modality = to_layout(numeric(x, what), spec, what)
    numbers, names, targets = None, (), None
    if y is not None and reading.predicts is not Task.CLASSES:
        targets = target_values(as_columns(y, what), reading.predicts, what, own_names or (), lone=what == "members")
        if len(targets) != len(values):
            raise DataError(f"{what}: {len(values)} records came with {len(targets)} targets; one each was wanted")
    elif y is not None:
        numbers, names = _classes(y, class_names, own_names, what)
        if len(numbers) != len(values):
            raise DataError(f"{what}: {len(values)} records came with {len(numbers)} labels; one each was wanted")
        if labelled and class_names is None:
            need_two_classes(numbers, what)
    records = Records(
        x=values,
        y=numbers,
        class_names=names,
        ids=tuple(ids),
        modality=modality,
        features=_features(spec, values),
        source=source,
        task=reading.predicts,
        targets=targets,
        outputs=_outputs(y, own_names, targets),
    )
    return evenly(records, reading.limit)


def read_npz(
    path: str | Path,
    *,
    reading: Reading = _DEFAULT,
    spec: InputSpec | None = None,
    class_names: Sequence[str] | None = None,
    what: str = "members",
    labelled: bool = True,
) -> Records:
    """The records of an `.npz` file: arrays `x` and `y`, or those named in `reading`.

    An array `class_names` beside them, when present, says what the class numbers stand for, and `ids` names
    the records. Arrays of Python objects are refused: loading them would run code.

    Raises:
        DataError: for a damaged file, a missing array (did you mean), object arrays.
    """
    path = Path(path)
    try:
        # Opened here, because NumPy leaves a file it opened and could not read to the garbage collector.
        with path.open("rb") as raw:
            file = np.load(raw, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise DataError(f"{what}: {path.name} holds one bare array; save x and y together with numpy.savez")
            names = [reading.x or "x", reading.y or "y", "class_names", "ids"]
            held = {name: _load(file, name, path, what) for name in names if name in file.files}
            others = list(file.files)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise DataError(
            f"{what}: {path.name} is no complete .npz file ({error}); copy it or save it again with numpy.savez"
        ) from error
    except MemoryError as error:
        raise DataError(f"{what}: an array in {path.name} claims a size that does not fit in memory") from error
    except OSError as error:
        raise DataError(f"{what}: {path} cannot be read: {error.strerror or error}") from error
    return _from_mapping(
        held,
        reading,
        spec=spec,
        class_names=class_names,
        what=what,
        labelled=labelled,
        source=path.name,
        others=others,
    )


def is_frame(thing: Any) -> bool:
    """True for a data frame (pandas, polars) or an Arrow table."""
    if type(thing).__module__.split(".")[0] not in ("pandas", "polars", "pyarrow"):
        return False
    return type(thing).__name__ in ("DataFrame", "Table")


def as_frame(thing: Any) -> Any:
    """The pandas data frame of a data frame or Arrow table."""
    return thing.to_pandas() if hasattr(thing, "to_pandas") else thing


def _load(file: Any, name: str, path: Path, what: str) -> Array:
    try:
        return file[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise DataError(
            f"{what}: the array '{name}' in {path.name} holds Python objects, which run code when loaded; "
            "save it as numbers or as texts of fixed width"
        ) from error


def _from_path(
    path: Path,
    spec: InputSpec | None,
    class_names: Sequence[str] | None,
    what: str,
    labelled: bool,
    reading: Reading,
    progress: Listener | None,
) -> Records:
    if not path.exists():
        hint = ""
        if path.parent.is_dir():
            near = did_you_mean(path.name, [entry.name for entry in path.parent.iterdir()])
            hint = f"; {near}" if near.startswith("did you mean") else ""
        raise DataError(f"{what}: no file or folder at {path}{hint}")
    if path.is_dir() and is_saved_dataset(path):
        return read_huggingface(
            path,
            reading=reading,
            spec=spec,
            class_names=class_names,
            what=what,
            labelled=labelled,
            progress=progress,
        )
    if path.is_dir() and reading.predicts is not Task.CLASSES:
        raise DataError(
            f"{what}: in a folder of images the folders are classes, and no place is left for {reading.predicts}; "
            "give images and targets as arrays x and y in an .npz file"
        )
    if path.is_dir():
        return read_images(
            path,
            spec=spec,
            size=reading.size,
            class_names=class_names,
            what=what,
            labelled=labelled,
            limit=reading.limit,
            progress=progress,
        )
    if path.suffix.lower() == ".npz":
        return read_npz(path, reading=reading, spec=spec, class_names=class_names, what=what, labelled=labelled)
    if is_table(path):
        return read_table(path, reading=reading, spec=spec, class_names=class_names, what=what, labelled=labelled)
    if path.name.lower().endswith(_RUNS_CODE):
        raise DataError(f"{what}: {path.name} is a pickle, which runs code when loaded; save the arrays as .npz")
    raise DataError(
        f"{what}: {path.name} is of no known kind; a folder of images, a saved Hugging Face dataset, .npz, "
        f"{', '.join(TEXT_SUFFIXES + PARQUET_SUFFIXES)} were wanted"
    )


def _from_records(
    records: Records,
    spec: InputSpec | None,
    class_names: Sequence[str] | None,
    what: str,
    labelled: bool,
    reading: Reading,
) -> Records:
    if len(records) == 0:
        raise DataError(f"{what}: there are no records")
    if not records.labelled and labelled and not records.texts:
        raise DataError(f"{what}: records with their classes were wanted; these carry none")
    if class_names is not None and records.y is not None and tuple(class_names) != records.class_names:
        names = np.asarray([records.class_names[c] for c in records.y], dtype=object)
        y, known = class_numbers(names, class_names, what)
        records = replace(records, y=y, class_names=known)
    elif labelled and class_names is None and records.y is not None:
        need_two_classes(records.y, what)
    if spec is not None and not records.texts:
        records = replace(records, x=spec.check(records.x, what))
    return evenly(records, reading.limit)


def _from_mapping(
    held: Mapping[Any, Any],
    reading: Reading,
    *,
    spec: InputSpec | None,
    class_names: Sequence[str] | None,
    what: str,
    labelled: bool,
    source: str,
    others: Sequence[str] = (),
) -> Records:
    present = [str(name) for name in (others or held)]
    x_name, y_name = reading.x or "x", reading.y or "y"
    for name, wanted in ((x_name, True), (y_name, labelled or reading.y is not None)):
        if wanted and name not in held:
            raise DataError(
                f"{what}: no array '{name}' in {source}, which holds {', '.join(present) or 'none'}; "
                "name the arrays with x and y"
            )
    own = held.get("class_names")
    ids = held.get("ids")
    return from_arrays(
        held[x_name],
        held.get(y_name),
        spec=spec,
        class_names=class_names,
        what=what,
        labelled=labelled,
        reading=reading,
        own_names=None if own is None else [str(name) for name in own],
        ids=() if ids is None else [nfc(str(name)) for name in ids],
        source=source,
    )


def _classes(
    y: Any, class_names: Sequence[str] | None, own_names: Sequence[str] | None, what: str
) -> tuple[Array, tuple[str, ...]]:
    if own_names is None:
        return class_numbers(y, class_names, what)
    numbers, own = class_numbers(y, own_names, what)
    if class_names is None:
        return numbers, own
    return class_numbers(np.asarray([own[c] for c in numbers], dtype=object), class_names, what)


def _pair(thing: Any, what: str) -> tuple[Any, Any]:
    if isinstance(thing, tuple):
        if len(thing) == 2:
            return thing
        raise DataError(f"{what}: a pair (x, y) was wanted, got a tuple of {len(thing)}")
    if isinstance(thing, list | np.ndarray) or is_torch(thing) or hasattr(thing, "__array__"):
        return thing, None
    raise DataError(
        f"{what}: a pair (x, y), a data frame, a torch Dataset or a path was wanted, got a {type(thing).__name__}"
    )


def _outputs(y: Any, own_names: Sequence[str] | None, targets: Array | None) -> tuple[str, ...]:
    """Names of the targets, where their source gives one for each."""
    if targets is None:
        return ()
    names = tuple(own_names or names_of(y))
    return names if len(names) == targets.shape[1] else ()


def _features(spec: InputSpec | None, x: Array) -> tuple[str, ...]:
    if spec is not None and len(spec.features) == x.shape[1] and x.ndim == 2:
        return spec.features
    return ()
