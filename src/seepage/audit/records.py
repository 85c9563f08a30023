"""The records of an audit: read, split, described and checked; and what tells one audit's input from another's."""

from dataclasses import fields
from importlib.metadata import version
from pathlib import Path

import numpy as np

from seepage import __version__
from seepage.audit.tables import DataTable
from seepage.core.code import code_digest
from seepage.core.errors import ConfigError, did_you_mean
from seepage.core.records import Splits
from seepage.core.seeds import derive
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Task
from seepage.data import (
    DATASETS,
    Reading,
    as_splits,
    check_splits,
    load_builtin,
    split_identities,
    split_records,
    without_overlap,
)
from seepage.store.files import digest
from seepage.targets import infer_spec

Facts = dict[str, float | str | None]


def data_facts(splits: Splits) -> Facts:
    """Counts, classes and credit of the records, for the record."""
    members = splits.members
    found: Facts = {"members": len(members)}
    if members.task is Task.CLASSES:
        found["classes"] = len(members.class_names)
    else:
        found |= {"task": str(members.task), str(members.task): ", ".join(members.outputs)}
    found["nonmembers"] = None if splits.nonmembers is None else len(splits.nonmembers)
    found["public"] = None if splits.public is None else len(splits.public)
    if splits.public is not None and splits.public.y is not None:
        found["public_classes"] = len(np.unique(splits.public.y))
    found["modality"] = str(splits.members.modality)
    found["shape"] = " x ".join(map(str, splits.members.x.shape[1:]))
    title, _, credit = splits.members.source.partition("; credit: ")
    found["source"] = title or None
    found["credit"] = credit or None
    return found


SPLITS = {
    "identities": ({"private", "members_per_class"}, split_identities),
    "records": ({"members_share", "nonmembers_share", "public_share"}, split_records),
}


def read_data(table: DataTable, spec: InputSpec | None, seed: int, base: Path, own: bool = False) -> Splits:
    """The records that `[data]` names; `own` as for `as_splits`.

    Raises:
        ConfigError: for an unknown data set or option.
        DataError: for records that cannot be read or used.
    """
    options = table.options
    if table.builtin is not None:
        how = str(options.pop("split", "identities"))
        if how not in SPLITS:
            raise ConfigError(f"[data] split: unknown '{how}': {did_you_mean(how, SPLITS)}")
        names, split = SPLITS[how]
        chosen = {name.removesuffix("_share"): options.pop(name) for name in names & set(options)}
        if "size" in options and isinstance(options["size"], list):
            options["size"] = tuple(options["size"])
        if table.builtin not in DATASETS:
            raise ConfigError(f"[data] builtin: unknown '{table.builtin}': {did_you_mean(table.builtin, DATASETS)}")
        return split(load_builtin(table.builtin, **options), **chosen, seed=derive(seed, "split"))
    paths = [
        None if place is None else beside(place, base) for place in (table.members, table.nonmembers, table.public)
    ]
    return as_splits(*paths, spec=spec, reading=reading_of(table), own=own)


def reading_of(table: DataTable) -> Reading:
    """How the files of `[data]` are read.

    Raises:
        ConfigError: for an unknown key.
    """
    options, known = table.options, [f.name for f in fields(Reading)]
    for name in options:
        if name not in known:
            raise ConfigError(f"[data] unknown key '{name}': {did_you_mean(name, [*known, *DataTable.model_fields])}")
    if isinstance(options.get("size"), list):
        options["size"] = tuple(options["size"])
    return Reading(**options)


def spec_identity(spec: InputSpec) -> str:
    """What tells one input declaration from another, every bound included."""
    told = [spec.shape, spec.modality, spec.mean, spec.std, spec.layout, spec.channels, spec.features]
    told += [] if spec.form is None else [repr(spec.form)]
    return digest([*told, spec.bounds.low.tolist(), spec.bounds.high.tolist()])


def splits_identity(splits: Splits) -> dict[str, str | None]:
    """What tells the records of one audit from those of another."""
    return {
        "members": splits.members.digest(),
        "nonmembers": None if splits.nonmembers is None else splits.nonmembers.digest(),
        "public": None if splits.public is None else splits.public.digest(),
    }


def packages() -> dict[str, str]:
    """The versions and the code whose change may change a result."""
    code = code_digest("core", "data", "models", "targets", "cases", "attacks", "defenses", "scoring")
    return {
        "seepage": __version__,
        "code": code,
        **{name: version(name) for name in ("numpy", "scikit-learn", "scipy", "torch")},
    }


def known_spec(declared: InputSpec | None, splits: Splits, spec: InputSpec) -> InputSpec:
    """One input as the adversary knows it: as declared, or read off what is public, never off the members."""
    if declared is not None or splits.public is None or not len(splits.public):
        return declared or spec
    return infer_spec(splits.public)


def beside(place: str, base: Path) -> Path:
    """A path of an audit file: relative to the file's folder."""
    path = Path(place).expanduser()
    return path if path.is_absolute() else base / path


def checked(splits: Splits, spec: InputSpec, overlap: str) -> Splits:
    """The splits after the checks that must hold before anything runs.

    Raises:
        DataError: for a single class, overlapping members and non-members, values out of range.
    """
    if overlap == "drop":
        splits = without_overlap(splits)
    check_splits(splits, spec)
    return splits
