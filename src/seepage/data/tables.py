"""Tables with a target column: CSV (plain or gzipped), TSV, Parquet, and data frames in memory."""

import csv
import gzip
import io
import logging
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
from jaxtyping import Float

from seepage.core.errors import DataError
from seepage.core.records import Records
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Modality, Task
from seepage.data.encoding import TableEncoder, column_of, is_absent
from seepage.data.labels import class_numbers, is_missing, listed, nearest, need_two_classes, nfc
from seepage.data.own_form import OwnForm
from seepage.data.reading import Reading
from seepage.data.targets import absent, as_columns, names_of, target_values

Array = np.ndarray
_log = logging.getLogger(__name__)

TEXT_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
PARQUET_SUFFIXES = (".parquet", ".pq")
_DEFAULT = Reading()


def is_table(path: Path) -> bool:
    """True when the name of `path` is that of a table this module reads."""
    return path.name.lower().endswith(TEXT_SUFFIXES + PARQUET_SUFFIXES)


def read_table(
    path: str | Path,
    *,
    reading: Reading = _DEFAULT,
    spec: InputSpec | None = None,
    class_names: Sequence[str] | None = None,
    what: str = "members",
    labelled: bool = True,
) -> Records:
    """The records of a CSV, TSV or Parquet file.

    Args:
        path: the file; its first row names the columns (CSV).
        reading: `target`, `drop`, `id`, `encode`, `categories`, `missing`, `delimiter`, `limit`.
        spec: the victim's input; its `features`, when named, set the order of the columns.
        class_names: the classes to agree with (those of the members).
        what: which records these are, for messages.
        labelled: whether a target is needed.

    Returns:
        Records with `x` (n, d) float32 in the columns' own units.

    Raises:
        DataError: for a file that cannot be read, and for what `frame_records` refuses.
    """
    path = Path(path)
    return frame_records(
        read_frame(path, reading.delimiter, what),
        reading=reading,
        spec=spec,
        class_names=class_names,
        what=what,
        labelled=labelled,
        source=path.name,
    )


def read_frame(path: Path, delimiter: str | None = None, what: str = "members") -> pd.DataFrame:
    """The table in a file as a data frame, columns checked, values as they are.

    Raises:
        DataError: when the file is missing, empty, truncated, ragged, not UTF-8, or names a column twice.
    """
    if path.name.lower().endswith(PARQUET_SUFFIXES):
        table = _read_parquet(path, what)
    else:
        table = _read_text(path, delimiter, what)
    _check_names(table.column_names, f"{what}: {path.name}")
    if table.num_rows == 0:
        raise DataError(f"{what}: {path.name} names {table.num_columns} columns and holds no records")
    return table.to_pandas()


def _read_bytes(path: Path, what: str) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.name.lower().endswith(".gz") else raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{what}: {path.name} is no complete gzip file ({error}); copy or export it again") from error
    except OSError as error:
        raise DataError(f"{what}: {path} cannot be read: {error.strerror or error}") from error


def _read_parquet(path: Path, what: str) -> pa.Table:
    raw = _read_bytes(path, what)
    try:
        return pa_parquet.read_table(pa.BufferReader(raw))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{what}: {path.name} is no complete Parquet file ({reason}); copy or export it again"
        ) from error


def _read_text(path: Path, delimiter: str | None, what: str) -> pa.Table:
    raw = _read_bytes(path, what)
    text = _decode(raw, path, what)
    if not text.strip():
        raise DataError(f"{what}: {path.name} is empty; a header and at least one record were wanted")
    raw = text.encode()
    mark = delimiter or ("\t" if ".tsv" in path.name.lower() else ",")
    ragged: list[Any] = []

    def note(row: Any) -> str:
        ragged.append(row)
        return "error"

    try:
        table = pa_csv.read_csv(
            pa.BufferReader(raw),
            # One thread, so that a ragged row has a number; one block, because a row may be longer than the usual one.
            read_options=pa_csv.ReadOptions(use_threads=False, block_size=min(len(raw) + 1024, 2**31 - 1)),
            parse_options=pa_csv.ParseOptions(delimiter=mark, newlines_in_values=True, invalid_row_handler=note),
        )
    except pa.ArrowException as error:
        if ragged:
            row = ragged[0]
            raise DataError(
                f"{what}: {path.name} line {_line_of(text, mark, row.number)} holds {row.actual_columns} fields, "
                f"the header {row.expected_columns}; the file is truncated or a field lacks its quotes"
            ) from error
        raise DataError(f"{what}: {path.name} cannot be read as a table: {str(error).splitlines()[0]}") from error
    if table.num_columns == 1 and any(other in table.column_names[0] for other in ";\t|,"):
        raise DataError(
            f"{what}: {path.name} has one column, '{table.column_names[0]}'; "
            f"its fields seem to be separated by something other than {mark!r}: give delimiter"
        )
    return table


def _decode(raw: bytes, path: Path, what: str) -> str:
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{what}: {path.name} is written in UTF-16; save it as UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(
            f"{what}: {path.name} is not UTF-8: line {line} holds the byte 0x{raw[error.start]:02x}; save it as UTF-8"
        ) from error


def _line_of(text: str, mark: str, number: int) -> int:
    """The line in the file where the `number`-th row that is not blank begins (the header is row 1)."""
    reader = csv.reader(io.StringIO(text), delimiter=mark)
    begins, seen = 1, 0
    try:
        for row in reader:
            seen += bool(row)
            if seen == number:
                return begins
            begins = reader.line_num + 1
    except csv.Error:
        # This reader refuses a field of more than 128 KiB; the offending row is then the one it was in.
        return begins
    return begins


def _check_names(names: Sequence[str], where: str) -> None:
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise DataError(f"{where} names {len(twice)} columns more than once: {listed(twice)}; rename one of each")


def frame_records(
    frame: pd.DataFrame,
    labels: Any = None,
    *,
    reading: Reading = _DEFAULT,
    spec: InputSpec | None = None,
    class_names: Sequence[str] | None = None,
    what: str = "members",
    labelled: bool = True,
    source: str = "a data frame",
) -> Records:
    """The records of a data frame.

    Args:
        frame: one row a record.
        labels: (n,) classes, when they are no column of the frame.
        reading: as for `read_table`.
        spec: the victim's input, as for `read_table`.
        class_names: the classes to agree with.
        what: which records these are, for messages.
        labelled: whether a target is needed.
        source: where the frame came from, for the record.

    Raises:
        DataError: for a missing target (did you mean), columns that are not numbers without an encoding,
            missing, infinite or too large values, a single class, repeated ids.
    """
    task = reading.predicts
    outputs = names_of(labels) or reading.targets
    if labels is not None:
        labels = _one_column(labels, what) if task is Task.CLASSES else as_columns(labels, what)
    frame = _named(frame, what)
    if labels is not None and len(labels) != len(frame):
        raise DataError(f"{what}: {len(frame)} records came with {len(labels)} labels")
    if labels is None:
        labels = target_columns(frame, reading, what, labelled)
    if labels is None and labelled:
        raise DataError(
            f"{what}: name the column that holds the class with target; the columns are {listed(map(str, frame))}"
        )
    ids = None
    if reading.id is not None and (labelled or reading.id in frame.columns):
        ids = tuple(nfc(str(value)) for value in _need_column(frame, reading.id, "id", what))
        _check_ids(ids, reading.id, what)
    features = feature_columns(frame, reading, what)
    encoder = reading.encode
    if encoder == "own":
        encoder = OwnForm.fit([features], reading.categories)
    elif not isinstance(encoder, TableEncoder | OwnForm):
        encoder = TableEncoder.fit(features, encoder, reading.categories, what)
    wide = encoder.transform(features, what)
    names = encoder.features
    if not names:
        raise DataError(f"{what}: no feature column is left beside the target; the columns are {listed(frame)}")
    gaps = _gaps(encoder, features) if isinstance(encoder, OwnForm) else np.zeros(len(wide), dtype=bool)
    keep = _complete(wide, labels, names, reading, what, gaps)
    x = _narrow(wide[keep], names, what)
    form = encoder if isinstance(encoder, OwnForm) else None
    if spec is not None and form is None:
        x, names = _in_order(x, names, spec, what)
    elif spec is not None and spec.form is None:
        raise DataError(
            f'{what}: a table in its own form (encode = "own") says itself what one record is: leave out the '
            "victim's input"
        )
    y, found, targets = None, tuple(class_names or ()), None
    if labels is not None and task is not Task.CLASSES:
        targets = target_values(labels[keep], task, what, outputs, lone=what == "members")
    elif labels is not None:
        y, found = class_numbers(labels[keep], class_names, what)
        if labelled and class_names is None:
            need_two_classes(y, what)
    records = Records(
        x=x,
        y=y,
        class_names=found if y is not None else (),
        ids=tuple(str(row + 1) for row in keep) if ids is None else tuple(ids[row] for row in keep),
        modality=Modality.TABLE,
        features=names,
        source=source,
        task=task,
        targets=targets,
        outputs=outputs if targets is not None else (),
        form=form,
    )
    records = evenly(records, reading.limit)
    return records if spec is None else _checked(records, spec, what)


def target_columns(frame: pd.DataFrame, reading: Reading, what: str, labelled: bool = True) -> Array | None:
    """What the columns named by `reading.target` hold: (n,) of a single class column, else (n, d); None without any.

    Raises:
        DataError: for a column that does not exist (did you mean), and for several columns of classes.
    """
    names = list(reading.targets)
    if not names or not (labelled or set(names) <= set(frame.columns)):
        return None
    for name in names:
        _need_column(frame, name, "target", what)
    if reading.predicts is not Task.CLASSES:
        return frame[names].to_numpy()
    if len(names) > 1:
        raise DataError(
            f"{what}: target names {len(names)} columns, and a class is one; say what the victim predicts: "
            'task = "labels" (0 or 1 for each) or task = "values" (numbers)'
        )
    return column_of(frame, names[0]).to_numpy()


def feature_columns(frame: pd.DataFrame, reading: Reading, what: str = "members") -> pd.DataFrame:
    """The columns of `frame` that are features: all but target, id and what is dropped.

    Once an encoder is fitted, columns to drop may be absent: another split need not have them.

    Raises:
        DataError: for a dropped column that does not exist, a repeated name, and a column without a name.
    """
    frame = _named(frame, what)
    for name in reading.drop:
        if not isinstance(reading.encode, TableEncoder | OwnForm):
            _need_column(frame, name, "drop", what)
    gone = {*reading.drop, *reading.targets, *(() if reading.id is None else (reading.id,))}
    rest = frame.drop(columns=[name for name in frame.columns if name in gone])
    if "" in rest.columns:
        raise DataError(
            f"{what}: column {list(frame.columns).index('') + 1} has no name; a row number written by pandas? "
            'Write with index=False, or leave it out with drop = [""]'
        )
    return rest


def evenly(records: Records, limit: int | None) -> Records:
    """At most `limit` of the records, spread evenly over their order."""
    if limit is None or len(records) <= limit:
        return records
    return records[even_rows(len(records), limit)]


def even_rows(n: int, limit: int) -> Array:
    """`limit` of the rows 0 .. n-1, spread evenly."""
    return np.floor(np.arange(limit) * (n / limit)).astype(np.int64)


def _one_column(labels: Any, what: str) -> Array:
    """Labels as one column: what was one-hot becomes class numbers."""
    column = np.asarray(labels)
    if column.ndim == 2 and column.shape[1] == 1:
        return column[:, 0]
    return column if column.ndim == 1 else class_numbers(column, None, what)[0]


def _named(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    names = [str(name) for name in frame.columns]
    _check_names(names, f"{what}: the table")
    if len(frame) == 0:
        raise DataError(f"{what}: the table has {len(names)} columns and no records")
    return frame.set_axis(names, axis=1).reset_index(drop=True)


def _need_column(frame: pd.DataFrame, name: str, role: str, what: str) -> pd.Series:
    if name not in frame.columns:
        raise DataError(f"{what}: {role} names the column '{name}': {nearest(name, frame.columns)}")
    return column_of(frame, name)


def _check_ids(ids: tuple[str, ...], column: str, what: str) -> None:
    if len(set(ids)) == len(ids):
        return
    seen: set[str] = set()
    for row, name in enumerate(ids):
        if name in seen:
            raise DataError(
                f"{what}: the id '{name}' in column '{column}' comes again in row {row + 1}; "
                "an id names one record: leave the column out with drop, or make it unique"
            )
        seen.add(name)


def _gaps(form: OwnForm, features: pd.DataFrame) -> Array:
    """(n,) which records have a missing value somewhere: in its own form a table keeps them."""
    gone = [column_of(features, name).map(is_absent).to_numpy(dtype=bool) for name in form.columns]
    return np.logical_or.reduce(gone) if gone else np.zeros(len(features), dtype=bool)


def _complete(
    wide: Array, labels: Array | None, names: tuple[str, ...], reading: Reading, what: str, gaps: Array
) -> Array:
    """The rows whose values are all there; every row, or an error, unless missing = "drop"."""
    bad = ~np.isfinite(wide)
    if reading.missing == "drop":
        labels = np.zeros(len(wide)) if labels is None else labels
        unlabelled = (
            absent(labels) if labels.ndim == 2 else np.asarray([is_missing(label) for label in labels], dtype=bool)
        )
        keep = np.nonzero(~bad.any(axis=1) & ~unlabelled & ~gaps)[0]
        if not len(keep):
            raise DataError(f"{what}: every one of {len(wide)} records has a missing or infinite value")
        if len(keep) < len(wide):
            _log.warning("%s: %d of %d records with missing values dropped", what, len(wide) - len(keep), len(wide))
        return keep
    if reading.missing == "error" and gaps.any():
        raise DataError(
            f"{what}: {int(gaps.sum())} records have missing values, first in row {int(np.argmax(gaps)) + 1}; impute "
            'them, or set missing = "drop", or "keep" where the victim takes them'
        )
    if bad.any():
        column = int(np.argmax(bad.any(axis=0)))
        row = int(np.argmax(bad[:, column]))
        kind = "missing (or NaN)" if np.isnan(wide[row, column]) else "infinite"
        raise DataError(
            f"{what}: {int(bad.sum())} values in {int(bad.any(axis=0).sum())} columns are missing or infinite; first, "
            f"column '{names[column]}' is {kind} in row {row + 1}; impute them, or set missing = \"drop\""
        )
    return np.arange(len(wide))


def _narrow(wide: Array, names: tuple[str, ...], what: str) -> Float[Array, " n d"]:
    """float64 to float32, which victims take."""
    over = np.abs(wide) > np.finfo(np.float32).max
    if over.any():
        column = int(np.argmax(over.any(axis=0)))
        row = int(np.argmax(over[:, column]))
        raise DataError(
            f"{what}: column '{names[column]}' holds {wide[row, column]:g} in row {row + 1}, "
            "too large for a 32-bit float; rescale or leave out the column"
        )
    return np.ascontiguousarray(wide, dtype=np.float32)


def _in_order(x: Array, names: tuple[str, ...], spec: InputSpec, what: str) -> tuple[Array, tuple[str, ...]]:
    """The columns in the order the victim declares, when it names them."""
    if spec.features and set(spec.features) != set(names):
        lacking = [name for name in spec.features if name not in names]
        extra = [name for name in names if name not in spec.features]
        raise DataError(
            f"{what}: the victim takes {len(spec.features)} named columns, the table gives {len(names)}; "
            f"missing: {listed(lacking) or 'none'}; not wanted: {listed(extra) or 'none'}"
        )
    if spec.features:
        return x[:, [names.index(name) for name in spec.features]], spec.features
    if x.shape[1:] != spec.shape:
        raise DataError(
            f"{what}: the victim takes {spec.size} numbers a record, the table gives {len(names)} columns "
            f"({listed(names)}); choose the columns with drop, or another encode"
        )
    return x, names


def _checked(records: Records, spec: InputSpec, what: str) -> Records:
    spec.check(records.x, what)
    return records
