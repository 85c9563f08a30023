"""Members, non-members and public records read together, so that classes and columns mean the same in all."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from seepage.core.progress import Listener
from seepage.core.records import Records, Splits, spread_of
from seepage.core.spec import InputSpec
from seepage.data.arrays import as_frame, as_records, is_frame
from seepage.data.encoding import TableEncoder, column_of, is_absent, is_numeric
from seepage.data.own_form import OwnForm
from seepage.data.reading import Reading
from seepage.data.tables import feature_columns, frame_records, is_table, read_frame, target_columns
from seepage.data.targets import same_outputs

_DEFAULT = Reading()


def as_splits(
    members: Any,
    nonmembers: Any = None,
    public: Any = None,
    *,
    spec: InputSpec | None = None,
    target: str | Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
    reading: Reading = _DEFAULT,
    progress: Listener | None = None,
    own: bool = False,
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
        target: the column that holds the class, or the columns of targets; the same as `reading.target`.
        class_names: the victim's classes, when they are known; otherwise those found in the members.
        reading: further options.
        progress: told how far reading is.
        own: whether the victim takes tables as they are: one with texts or missing values is then read in its own
            form (`encode = "own"`), unless `reading` says how to code it.

    Raises:
        DataError: as `as_records` does, and for non-members of a class that no member has.
    """
    reading = reading if target is None else replace(reading, target=target)
    first, reading = _members(members, spec, class_names, reading, progress, (nonmembers, public), own)
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
    return _in_one_unit(Splits(members=first, nonmembers=held_out, public=owned))


def _in_one_unit(splits: Splits) -> Splits:
    """The splits with errors in one unit: the spread of the targets of members and non-members together.

    It says nothing of who is a member: it is the same whoever of them is.
    """
    members, nonmembers, public = splits.members, splits.nonmembers, splits.public
    if members.targets is None:
        return splits
    for records, what in ((nonmembers, "nonmembers"), (public, "public")):
        if records is not None and records.targets is not None:
            same_outputs(records.outputs, members.outputs, what)
    asked = members.targets
    if nonmembers is not None and nonmembers.targets is not None:
        asked = np.concatenate([asked, nonmembers.targets])
    named = {"spread": spread_of(asked), "outputs": members.outputs}
    return Splits(
        members=replace(members, **named),
        nonmembers=None if nonmembers is None or nonmembers.targets is None else replace(nonmembers, **named),
        public=public if public is None or public.targets is None else replace(public, **named),
    )


def _members(
    members: Any,
    spec: InputSpec | None,
    class_names: Sequence[str] | None,
    reading: Reading,
    progress: Listener | None,
    others: Sequence[Any],
    own: bool,
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
    if labels is None:
        # Before the columns are coded: a target that is not found would be taken for a feature.
        target_columns(frame, reading, "members")
    if not isinstance(reading.encode, TableEncoder | OwnForm):
        reading = replace(reading, encode=_encoder(frame, others, reading, own))
    records = frame_records(frame, labels, reading=reading, spec=spec, class_names=class_names, source=source)
    return records, reading


def _frame_of(thing: Any, reading: Reading) -> pd.DataFrame | None:
    """The table in a file or in memory; None for anything else."""
    if isinstance(thing, str | Path) and is_table(Path(thing)) and Path(thing).is_file():
        return read_frame(Path(thing), reading.delimiter)
    if is_frame(thing):
        return as_frame(thing)
    return as_frame(thing[0]) if isinstance(thing, tuple) and len(thing) == 2 and is_frame(thing[0]) else None


def _encoder(frame: pd.DataFrame, others: Sequence[Any], reading: Reading, own: bool) -> TableEncoder | OwnForm:
    """How the members' table becomes numbers, and with it every other one."""
    features = feature_columns(frame, reading)
    if reading.encode == "own" or (own and reading.encode is None and not _all_numbers(features)):
        read = [_frame_of(other, reading) for other in others]
        known = replace(reading, encode=TableEncoder(()))
        tables = [feature_columns(table, known) for table in read if table is not None]
        return OwnForm.fit([features, *tables], reading.categories)
    kind = reading.encode if isinstance(reading.encode, str) else None
    return TableEncoder.fit(features, kind, reading.categories)


def _all_numbers(features: pd.DataFrame) -> bool:
    columns = [column_of(features, name) for name in features.columns]
    return all(is_numeric(column) and not column.map(is_absent).any() for column in columns)


def _present(records: Records) -> list[str]:
    """The names of the classes that have records."""
    return [records.class_names[c] for c in np.unique(records.labels())]
