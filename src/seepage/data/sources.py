"""Members, non-members and public records read together, so that classes and columns mean the same in all."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from seepage.core.progress import Listener
from seepage.core.records import Records, Splits
from seepage.core.spec import InputSpec
from seepage.data.arrays import as_frame, as_records, is_frame
from seepage.data.encoding import TableEncoder
from seepage.data.reading import Reading
from seepage.data.tables import feature_columns, frame_records, is_table, read_frame

_DEFAULT = Reading()


def as_splits(
    members: Any,
    nonmembers: Any = None,
    public: Any = None,
    *,
    spec: InputSpec | None = None,
    target: str | None = None,
    class_names: Sequence[str] | None = None,
    reading: Reading = _DEFAULT,
    progress: Listener | None = None,
) -> Splits:
    """What `as_records` makes of each, with one numbering of classes and one set of columns.

    The members decide: their classes number the non-members', and the columns of their table, with the
    categories found in it, are those of every split. Public records are numbered like the members when all
    their classes are among the members'; otherwise they keep classes of their own (other people), and they
    may have none.

    Args:
        members: what the victim was trained on: anything `as_records` takes.
        nonmembers: records like them that it was not trained on, or None.
        public: what the adversary may own, or None.
        spec: the victim's input.
        target: the column that holds the class; the same as `reading.target`.
        class_names: the victim's classes, when they are known; otherwise those found in the members.
        reading: further options.
        progress: told how far reading is.

    Raises:
        DataError: as `as_records` does, and for non-members of a class that no member has.
    """
    reading = reading if target is None else replace(reading, target=target)
    first, reading = _members(members, spec, class_names, reading, progress)
    held_out = owned = None
    if nonmembers is not None:
        held_out = as_records(
            nonmembers,
            spec=spec,
            class_names=first.class_names,
            what="nonmembers",
            reading=reading,
            progress=progress,
        )
    if public is not None:
        owned = as_records(public, spec=spec, what="public", reading=reading, progress=progress)
        if owned.y is not None and set(_present(owned)) <= set(first.class_names):
            owned = as_records(owned, class_names=first.class_names, what="public")
    return Splits(members=first, nonmembers=held_out, public=owned)


def _members(
    members: Any,
    spec: InputSpec | None,
    class_names: Sequence[str] | None,
    reading: Reading,
    progress: Listener | None,
) -> tuple[Records, Reading]:
    """The members, and the options that make other records match them."""
    labels = None
    if isinstance(members, str | Path) and is_table(Path(members)) and Path(members).is_file():
        source, frame = Path(members).name, read_frame(Path(members), reading.delimiter)
    elif is_frame(members):
        source, frame = "a data frame", as_frame(members)
    elif isinstance(members, tuple) and len(members) == 2 and is_frame(members[0]):
        source, frame, labels = "a data frame", as_frame(members[0]), members[1]
    else:
        return as_records(members, spec=spec, class_names=class_names, reading=reading, progress=progress), reading
    if not isinstance(reading.encode, TableEncoder):
        encoder = TableEncoder.fit(feature_columns(frame, reading), reading.encode, reading.categories)
        reading = replace(reading, encode=encoder)
    records = frame_records(frame, labels, reading=reading, spec=spec, class_names=class_names, source=source)
    return records, reading


def _present(records: Records) -> list[str]:
    """The names of the classes that have records."""
    return [records.class_names[c] for c in np.unique(records.labels())]
