"""The texts of clients, as `[data]` names them: members, other texts and public ones, told apart from each other."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from seepage.audit.records import Facts, beside, data_facts
from seepage.audit.tables import DataTable
from seepage.core.errors import ConfigError, DataError, did_you_mean
from seepage.core.record import Check
from seepage.core.records import Records, Splits
from seepage.core.words import words
from seepage.data import Reading
from seepage.data.tables import is_table
from seepage.data.texts import OPTIONS, as_texts, folded, texts_apart

_OPTIONS = (*OPTIONS, "target")


def read_texts(table: DataTable, base: Path, task: str) -> tuple[Splits, list[Check]]:
    """Members, non-members and public texts, told apart from each other.

    Args:
        table: `[data]`.
        base: folder that its paths start from.
        task: what the clients train for; "classification" needs classes.

    Raises:
        ConfigError, DataError: for what cannot be used.
    """
    if table.builtin is not None or table.members is None:
        raise ConfigError("[data] of texts needs members = a text file with one record a line, or a table")
    reading = reading_of_texts(table)
    members = as_texts(beside(table.members, base), table.text, reading, "members")
    if task == "classification" and members.y is None:
        raise DataError(
            "[data] members: clients train a classifier, so their texts need classes: give a table and target = the "
            'column that holds them, or train for the next token ([victim] task = "causal-lm")'
        )
    names = members.class_names or None
    nonmembers, public = (
        None if path is None else part_of_texts(table, beside(path, base), what, names)
        for what, path in (("nonmembers", table.nonmembers), ("public", table.public))
    )
    if nonmembers is not None and (nonmembers.y is None) != (members.y is None):
        raise DataError("[data] nonmembers: members have classes, so these need them: a table with the same columns")
    apart, checks = texts_apart(Splits(members, None, public), table.overlap)
    return Splits(apart.members, spare_texts(nonmembers, apart.members, table.overlap), public), checks


def part_of_texts(table: DataTable, file: Path, what: str, class_names: Sequence[str] | None) -> Records:
    """Texts of one kind; a text file beside tables has no columns, and no classes.

    Raises:
        ConfigError, DataError: for a file that cannot be read so.
    """
    return as_texts(file, table.text if is_table(file) else None, reading_of_texts(table), what, class_names)


def spare_texts(nonmembers: Records | None, members: Records, overlap: str) -> Records | None:
    """Non-members that are neither members nor copies of each other: the control is to be of other texts.

    Raises:
        DataError: for one that is a member, where `overlap` is "refuse"; with "drop" it is left out.
    """
    if nonmembers is None:
        return None
    held, kept, seen = {folded(text) for text in members.texts}, list[int](), set[str]()
    for i, text in enumerate(nonmembers.texts):
        if folded(text) in held and overlap == "refuse":
            raise DataError(
                f"[data] nonmembers: {nonmembers.ids[i]} is a member too, case and spacing aside: leave it out, or "
                'have it left out by overlap = "drop"'
            )
        if folded(text) not in held | seen:
            kept.append(i)
        seen.add(folded(text))
    return nonmembers[np.array(kept, dtype=np.int64)] if kept else None


def reading_of_texts(table: DataTable) -> Reading:
    """How the files of `[data]` are read.

    Raises:
        ConfigError: for an unknown key, or one that is for arrays.
    """
    known = [field.name for field in fields(Reading)]
    for name in table.options:
        if name not in _OPTIONS:
            if name in known:
                raise ConfigError(f"[data] {name} is for other records than texts; of these, {', '.join(_OPTIONS)}")
            raise ConfigError(
                f"[data] unknown key '{name}': {did_you_mean(name, (*_OPTIONS, *DataTable.model_fields))}"
            )
    return Reading(**table.options)


def text_facts(splits: Splits) -> Facts:
    """Counts, classes and the length of the members, for the record."""
    texts = splits.members.texts
    found = {name: value for name, value in data_facts(splits).items() if name != "shape"}
    if not splits.members.class_names:
        del found["classes"]
    return {**found, "words_a_member": sum(len(words(text)) for text in texts) / len(texts)} if texts else found
