"""Data files with canaries in them: tables, arrays and folders of pictures, each written as it was read.

What is made are whole files as bytes by their name; writing them, and the manifest, is `seepage.audit.canaries`.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool
from PIL import Image

from seepage.core.errors import DataError
from seepage.core.seeds import stream
from seepage.data import canaries as drawing
from seepage.data.encoding import column_of
from seepage.data.images import SUFFIXES, decode, strict_decoding
from seepage.data.labels import listed, nearest, nfc
from seepage.data.tables import PARQUET_SUFFIXES, TEXT_SUFFIXES, is_table, read_frame

Array = np.ndarray


@dataclass(frozen=True)
class Made:
    """A data set with canaries.

    Attributes:
        data: the files of the data set with the included canaries, by their path within it ("" for a single file).
        records: the files with all canaries, included or not, in the same form.
        ids: (m,) what each canary is called in the records: its row from 1, or its picture's path.
        classes: (m,) names of their classes.
        included: (m,) whether each is in the data.
        marks: (m,) SHA-256 of each canary as written.
        before, after: records in the data without and with canaries.
    """

    data: Mapping[str, bytes]
    records: Mapping[str, bytes]
    ids: tuple[str, ...]
    classes: tuple[str, ...]
    included: Bool[Array, " m"]
    marks: tuple[str, ...]
    before: int
    after: int


@dataclass(frozen=True)
class Asked:
    """What canaries were asked for.

    Attributes:
        kind, count, seed: as `seepage.data.canaries.draw`.
        target: tables: the column that holds the class.
        id: tables: the column that names each record.
        source: other records to make mislabelled canaries of, which then stay out of the data.
    """

    kind: str
    count: int
    seed: int
    target: str | None = None
    id: str | None = None
    source: Path | None = None


def with_canaries(path: Path, asked: Asked) -> Made:
    """The data set at `path` with canaries in it.

    Raises:
        ConfigError, DataError: for data that cannot be read, a missing target, and as `seepage.data.canaries.draw`.
    """
    for place in (path, asked.source):
        if place is not None and not place.exists():
            raise DataError(f"canaries: no file or folder at {place}")
    makers: dict[str, Callable[[Path, Asked], Made]] = {"table": _table, "arrays": _arrays, "pictures": _pictures}
    form = form_of(path)
    if asked.source is not None and form_of(asked.source) != form:
        raise DataError(f"canaries: {asked.source.name} should be of the same form as {path.name} ({form})")
    return makers[form](path, asked)


def form_of(path: Path) -> str:
    """What a path of that name holds: "table", "arrays" or "pictures".

    Raises:
        DataError: for anything else.
    """
    if is_table(path):
        return "table"
    if path.suffix.lower() == ".npz":
        return "arrays"
    if path.is_dir() or not path.suffix:
        return "pictures"
    raise DataError(
        f"canaries: {path.name} is no table ({', '.join((*TEXT_SUFFIXES, *PARQUET_SUFFIXES))}), no .npz file and no "
        "folder of pictures"
    )


def suffix_of(path: Path) -> str:
    """The ending of a data file, both parts of ".csv.gz"; empty for a folder.

    Raises:
        DataError: as `form_of`.
    """
    form, name = form_of(path), path.name.lower()
    if form != "table":
        return ".npz" if form == "arrays" else ""
    return max((end for end in (*TEXT_SUFFIXES, *PARQUET_SUFFIXES) if name.endswith(end)), key=len)


def content_digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of the files below a folder."""
    h = hashlib.sha256()
    for name, content in _files(path):
        h.update(f"{len(name.encode())} {len(content)}\n".encode() + name.encode() + content)
    return h.hexdigest()


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_file():
        yield "", path.read_bytes()
        return
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        yield nfc(file.relative_to(path).as_posix()), file.read_bytes()


# Tables


def _table(path: Path, asked: Asked) -> Made:
    frame = read_frame(path, what="canaries")
    target = _target(frame, asked, path)
    labels, found = pd.factorize(column_of(frame, target), sort=True)
    named = pd.Index(found)
    if (labels < 0).any():
        raise DataError(
            f"canaries: the column '{target}' of {path.name} has missing values; every record needs a class"
        )
    features = [name for name in frame.columns if name not in (target, asked.id)]
    if not features:
        raise DataError(f"canaries: {path.name} has no column beside '{target}'")
    pool, taken = frame, True
    if asked.source is not None and asked.kind == "mislabelled":
        pool, taken = read_frame(asked.source, what="canaries"), False
        if list(pool.columns) != list(frame.columns):
            raise DataError(f"canaries: {asked.source.name} should have the columns of {path.name}")
        own = set(_rows(frame, features))
        apart = np.array([mark not in own for mark in _rows(pool, features)], dtype=bool)
        labels = np.asarray(named.get_indexer(pd.Index(column_of(pool, target))))
        # Of classes that the data has, and no record that it holds.
        usable = np.nonzero(apart & (labels >= 0))[0]
        pool, labels = pool.iloc[usable].reset_index(drop=True), labels[usable]
    usable = drawing.single(_rows(pool, features))
    drawn = drawing.draw(labels, len(named), usable, asked.kind, asked.count, asked.seed, taken)
    rng = stream(asked.seed, "canaries", "values")
    if asked.kind == "random":
        made = pd.DataFrame({name: _column(column_of(frame, str(name)), asked.count, rng) for name in frame.columns})
        rest = frame
    else:
        made = pool.iloc[drawn.rows].reset_index(drop=True)
        rest = frame.drop(index=drawn.rows) if taken else frame
    made[target] = named[drawn.classes]
    if asked.id is not None:
        made[asked.id] = _new_ids(column_of(frame, asked.id), asked.count, rng)
    made = made.astype(frame.dtypes.to_dict())
    whole = pd.concat([rest, made[drawn.included]], ignore_index=True)
    whole = whole.iloc[rng.permutation(len(whole))]
    suffix = suffix_of(path)
    return Made(
        data={"": _written(whole, suffix)},
        records={"": _written(made, suffix)},
        ids=tuple(str(i + 1) for i in range(asked.count)),
        classes=tuple(str(named[c]) for c in drawn.classes),
        included=drawn.included,
        marks=tuple(_hash(row) for row in _rows(made, list(frame.columns))),
        before=len(frame),
        after=len(whole),
    )


def _target(frame: pd.DataFrame, asked: Asked, path: Path) -> str:
    if asked.target is None:
        raise DataError(
            f"canaries: name the column of {path.name} that holds the class with --target; the columns are "
            f"{listed(map(str, frame.columns))}"
        )
    for name in (asked.target, asked.id):
        if name is not None and name not in frame.columns:
            raise DataError(f"canaries: {path.name} has no column '{name}': {nearest(name, map(str, frame.columns))}")
    return asked.target


def _rows(frame: pd.DataFrame, columns: list[str]) -> list[tuple[Any, ...]]:
    """The values of each row, missing ones alike."""
    return [tuple(map(repr, row)) for row in frame[columns].itertuples(index=False, name=None)]


def _column(column: pd.Series, count: int, rng: np.random.Generator) -> Array:
    """`count` values, each one of those that the column has, as likely as any other; no missing ones."""
    values = np.asarray(column.dropna().unique())
    return values[rng.integers(len(values), size=count)] if len(values) else np.repeat(column.to_numpy()[:1], count)


def _new_ids(column: pd.Series, count: int, rng: np.random.Generator) -> Array:
    """Names that no record has, in no telling order."""
    if pd.api.types.is_integer_dtype(column):
        return int(column.max()) + 1 + rng.permutation(count)
    known, made = set(column.astype(str)), list[str]()
    while len(made) < count:
        name = rng.bytes(8).hex()
        if name not in known:
            known.add(name)
            made.append(name)
    return np.array(made, dtype=object)


def _written(frame: pd.DataFrame, suffix: str) -> bytes:
    buffer = io.BytesIO()
    if suffix in PARQUET_SUFFIXES:
        frame.to_parquet(buffer, index=False)
        return buffer.getvalue()
    compression: Any = {"method": "gzip", "mtime": 0} if suffix.endswith(".gz") else None
    frame.to_csv(buffer, index=False, sep="\t" if ".tsv" in suffix else ",", compression=compression)
    return buffer.getvalue()


# Arrays


def _arrays(path: Path, asked: Asked) -> Made:
    held = _npz(path)
    x, y = held["x"], held["y"]
    found, labels = np.unique(y, return_inverse=True)
    pool, pool_labels, taken = x, labels, True
    if asked.source is not None and asked.kind == "mislabelled":
        other = _npz(asked.source)
        if other["x"].shape[1:] != x.shape[1:] or other["x"].dtype != x.dtype:
            raise DataError(
                f"canaries: {asked.source.name} should hold records like those of {path.name}, {x.dtype} of shape "
                f"{x.shape[1:]}; got {other['x'].dtype} of shape {other['x'].shape[1:]}"
            )
        own = {row.tobytes() for row in x}
        apart = np.array([row.tobytes() not in own for row in other["x"]], dtype=bool)
        apart &= np.isin(other["y"], found)
        pool, taken = other["x"][apart], False
        pool_labels = np.searchsorted(found, other["y"][apart])
    usable = drawing.single([row.tobytes() for row in pool])
    drawn = drawing.draw(pool_labels, len(found), usable, asked.kind, asked.count, asked.seed, taken)
    rng = stream(asked.seed, "canaries", "values")
    if asked.kind == "random":
        made = (drawing.columns_drawn if x.ndim == 2 else drawing.pixels_drawn)(x, asked.count, rng)
        kept = np.arange(len(x))
    else:
        made = pool[drawn.rows]
        kept = np.setdiff1d(np.arange(len(x)), drawn.rows) if taken else np.arange(len(x))
    classes = found[drawn.classes]
    order = rng.permutation(len(kept) + int(drawn.included.sum()))
    whole = {
        "x": np.concatenate([x[kept], made[drawn.included]])[order],
        "y": np.concatenate([y[kept], classes[drawn.included]])[order],
    }
    if "ids" in held:
        ids = np.array([*map(str, held["ids"][kept]), *_new_ids(pd.Series(held["ids"].astype(str)), asked.count, rng)])
        whole["ids"] = ids[: len(order)][order]
    names = held.get("class_names")
    extra = {} if names is None else {"class_names": names}
    return Made(
        data={"": _npz_bytes({**whole, **extra})},
        records={"": _npz_bytes({"x": made, "y": classes, **extra})},
        ids=tuple(str(i) for i in range(asked.count)),
        classes=tuple(str(c) for c in classes),
        included=drawn.included,
        marks=tuple(_hash((row.tobytes(), str(c))) for row, c in zip(made, classes, strict=True)),
        before=len(x),
        after=len(order),
    )


def _npz(path: Path) -> dict[str, Array]:
    from seepage.data.arrays import read_npz

    records = read_npz(path, what="canaries")  # for its messages; what is written again is what the file holds
    with np.load(path, allow_pickle=False) as file:
        held = {name: file[name] for name in file.files}
    strange = sorted(set(held) - {"x", "y", "class_names", "ids"})
    if strange:
        raise DataError(
            f"canaries: {path.name} holds {listed(strange)} beside x and y, which a canary would lack; save x, y and, "
            "where there are, class_names and ids alone"
        )
    if held["y"].ndim != 1:
        raise DataError(f"canaries: one class a record was wanted in {path.name}, got y of shape {held['y'].shape}")
    if len(held["x"]) != len(records):
        raise DataError(f"canaries: {path.name} holds {len(held['x'])} records, of which {len(records)} can be read")
    return held


def _npz_bytes(arrays: Mapping[str, Array]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **dict(arrays))  # pyright: ignore[reportArgumentType] - names are no options here
    return buffer.getvalue()


# Pictures


def _pictures(path: Path, asked: Asked) -> Made:
    files, names = _by_class(path)
    labels = np.array([names.index(file.split("/")[0]) for file in files])
    pool_path, pool, pool_labels, taken = path, files, labels, True
    if asked.source is not None and asked.kind == "mislabelled":
        pool_path, taken = asked.source, False
        pool, others = _by_class(asked.source)
        strange = [name for name in others if name not in names]
        if strange:
            raise DataError(f"canaries: {asked.source.name} holds classes that {path.name} lacks: {listed(strange)}")
        own = {_hash(content) for _, content in _files(path)}
        pool = [file for file in pool if _hash((pool_path / file).read_bytes()) not in own]
        pool_labels = np.array([names.index(file.split("/")[0]) for file in pool], dtype=np.int64)
    marks = [_hash((pool_path / file).read_bytes()) for file in pool]
    drawn = drawing.draw(pool_labels, len(names), drawing.single(marks), asked.kind, asked.count, asked.seed, taken)
    rng = stream(asked.seed, "canaries", "values")
    records: dict[str, bytes] = {}
    for i in range(asked.count):
        if asked.kind == "random":
            like = files[int(rng.integers(len(files)))]
            content, suffix = _noise(path / like, like, rng), ".png"
        else:
            file = pool_path / pool[int(drawn.rows[i])]
            content, suffix = file.read_bytes(), file.suffix
        records[f"{names[drawn.classes[i]]}/canary-{i + 1:05d}{suffix}"] = content
    gone = {files[row] for row in drawn.rows} if taken else set[str]()
    included = {name: content for k, (name, content) in enumerate(records.items()) if drawn.included[k]}
    kept = {name: (path / name).read_bytes() for name in files if name not in gone}
    clash = sorted(set(kept) & set(records))
    if clash:
        raise DataError(f"canaries: {path.name} holds {listed(clash)} already: are there canaries in it? Take the data")
    return Made(
        data={**kept, **included},
        records=records,
        ids=tuple(records),
        classes=tuple(names[c] for c in drawn.classes),
        included=drawn.included,
        marks=tuple(_hash(content) for content in records.values()),
        before=len(files),
        after=len(kept) + len(included),
    )


def _by_class(path: Path) -> tuple[list[str], list[str]]:
    """Pictures by their path within the folder, and the names of the classes."""
    if not path.is_dir():
        raise DataError(f"canaries: {path} is no folder; pictures lie in one folder a class")
    found = sorted(
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.is_file()
        and file.suffix.lower() in SUFFIXES
        and not any(part.startswith((".", "__")) for part in file.relative_to(path).parts)
    )
    found = [file for file in found if "/" in file]
    if not found:
        raise DataError(f"canaries: {path} holds no pictures in folders of classes")
    return found, sorted({file.split("/")[0] for file in found})


def _noise(file: Path, name: str, rng: np.random.Generator) -> bytes:
    """A picture of noise of the size and the channels of another."""
    with strict_decoding():
        like = decode(file, name, "canaries")
    grey = len(like.getbands()) < 3
    shape = (like.height, like.width) if grey else (like.height, like.width, 3)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, size=shape, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _hash(content: Any) -> str:
    raw = content if isinstance(content, bytes) else repr(content).encode()
    return hashlib.sha256(raw).hexdigest()
