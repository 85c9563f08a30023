"""Texts as records: from lists, from files with one record a line, from a column of a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from seepage.core.errors import ConfigError, DataError, did_you_mean
from seepage.core.record import Check
from seepage.core.records import Records, Splits
from seepage.core.vocabulary import Modality
from seepage.data.labels import class_numbers
from seepage.data.reading import Reading
from seepage.data.tables import evenly, is_table, read_frame

_DEFAULT = Reading()
# Options of `Reading` that say something about texts.
OPTIONS = ("delimiter", "id", "limit")


def are_texts(thing: Any) -> bool:
    """Whether these are texts in memory: a list, tuple or series of them, or Records of text."""
    if isinstance(thing, Records):
        return thing.modality is Modality.TEXT
    if isinstance(thing, str | bytes | Path) or not hasattr(thing, "__len__") or not hasattr(thing, "__iter__"):
        return False
    if isinstance(thing, tuple | list) or getattr(thing, "ndim", 0) == 1:
        listed = list(thing)
        return bool(listed) and all(isinstance(one, str) for one in listed)
    return False


def as_texts(
    thing: Any,
    column: str | None = None,
    reading: Reading = _DEFAULT,
    what: str = "members",
    class_names: Sequence[str] | None = None,
) -> Records:
    """Texts as records.

    Args:
        thing: texts in memory, or the path of a text file (UTF-8, one record a line, empty lines left out), of a
            CSV, TSV or Parquet file.
        column: of a table, the column that holds the texts.
        reading: `delimiter`, `id` and `limit` are used; of a table `target` too, the column of the classes.
        what: which records these are, for messages.
        class_names: the classes to agree with (those of the members).

    Raises:
        ConfigError: for a column that is not named, or named where there is none.
        DataError: for a file that cannot be read, and for what is no text.
    """
    if isinstance(thing, Records):
        if thing.modality is not Modality.TEXT:
            raise DataError(f"{what}: texts were wanted, got records of {thing.modality}")
        return thing
    if isinstance(thing, str | Path):
        return _from_file(Path(thing), column, reading, what, class_names)
    if not are_texts(thing):
        raise DataError(
            f"{what}: a list of texts or the path of a file was wanted for an encoder of texts, got "
            f"{'an empty list' if hasattr(thing, '__len__') and not len(thing) else f'a {type(thing).__name__}'}"
        )
    return _records(list(thing), None, "", reading, what)


def _from_file(
    path: Path, column: str | None, reading: Reading, what: str, class_names: Sequence[str] | None
) -> Records:
    if not path.is_file():
        raise DataError(f"{what}: there is no file {path}; a text file with one record a line, or a table, was wanted")
    if is_table(path):
        return _from_table(path, column, reading, what, class_names)
    if column is not None:
        raise ConfigError(f"{what}: text = '{column}' names a column, and {path.name} is no CSV, TSV or Parquet file")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{what}: {path.name} is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise DataError(f"{what}: {path} cannot be read: {error.strerror or error}") from error
    rows = [number for number, line in enumerate(lines) if line.strip()]
    return _records([lines[row].strip() for row in rows], [f"line {row + 1}" for row in rows], path.name, reading, what)


def _from_table(
    path: Path, column: str | None, reading: Reading, what: str, class_names: Sequence[str] | None
) -> Records:
    frame = read_frame(path, reading.delimiter, what)
    names = [str(name) for name in frame.columns]
    if column is None:
        raise ConfigError(f"{what}: {path.name} is a table: say which column holds the texts, as text = '{names[0]}'")
    for name in (column, reading.id, *reading.targets):
        if name is not None and name not in names:
            raise DataError(f"{what}: {path.name} has no column '{name}': {did_you_mean(name, names)}")
    found = frame[column]
    values = found.tolist()
    missing = sum(value is None or value != value for value in values)
    if missing:
        raise DataError(
            f"{what}: {missing} of {len(found)} texts in column '{column}' are missing: leave those rows out"
        )
    if not all(isinstance(value, str) for value in values):
        raise DataError(f"{what}: column '{column}' of {path.name} holds values of type {found.dtype}, no texts")
    ids = [f"row {row + 1}" for row in range(len(found))] if reading.id is None else [str(v) for v in frame[reading.id]]
    classes = frame[reading.targets[0]].to_numpy() if reading.targets else None
    return _records(values, ids, path.name, reading, what, classes, class_names)


def _records(
    texts: Sequence[str],
    ids: Sequence[str] | None,
    source: str,
    reading: Reading,
    what: str,
    classes: Any = None,
    class_names: Sequence[str] | None = None,
) -> Records:
    empty = next((i for i, text in enumerate(texts) if not text.strip()), None)
    if not texts or empty is not None:
        where = "" if not source else f" in {source}"
        raise DataError(f"{what}: {'there are no texts' if not texts else f'text {empty} is empty'}{where}")
    y, names = (None, ()) if classes is None else class_numbers(classes, class_names, what)
    records = Records.of_texts(texts, ids=ids or (), source=source, y=y, class_names=names)
    return evenly(records, reading.limit)


def folded(text: str) -> str:
    """A text with case and spacing taken out of account."""
    return " ".join(text.casefold().split())


def texts_apart(splits: Splits, overlap: Literal["refuse", "drop"]) -> tuple[Splits, list[Check]]:
    """Members that are told apart from each other and from public texts, case and spacing aside, and what was found.

    A text that is public is no secret, and two copies of one are one to recover. Copies among the members are left
    out in any case; members that are public are refused, or with "drop" left out.

    Raises:
        DataError: for members among the public texts, and when none is left.
    """
    members, public = splits.members, splits.public
    owned = set() if public is None else {folded(text) for text in public.texts}
    seen: set[str] = set()
    kept: list[int] = []
    for i, text in enumerate(members.texts):
        if folded(text) not in seen:
            kept.append(i)
        seen.add(folded(text))
    copies = len(members) - len(kept)
    private = [i for i in kept if folded(members.texts[i]) not in owned]
    both = len(kept) - len(private)
    if both and overlap == "refuse":
        first = next(i for i in kept if folded(members.texts[i]) in owned)
        raise DataError(
            f"{both} of {len(kept)} members are public texts too, case and spacing aside "
            f"(first: {members.ids[first]}): what is public is no secret. "
            'Leave them out, or have them left out by overlap = "drop"'
        )
    if not private:
        raise DataError("every member is a public text too: there is nothing to recover")
    message = f"no member is a public text, case and spacing aside, and no two of {len(private)} are the same"
    if both or copies:
        message = f"left out of {len(members)} members: {copies} copies of others, {both} that are public texts too"
    return Splits(members[private], None, public), [Check(name="texts apart", passed=True, message=message)]
