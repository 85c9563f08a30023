"""`[property]`: the group whose share is asked about, found in the records, and what is trained to find out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from pydantic import ValidationError

from seepage.audit.config import explain
from seepage.audit.tables import PropertyTable
from seepage.cases.group import Group
from seepage.core.errors import ConfigError, DataError
from seepage.core.recipe import Recipe
from seepage.core.records import Records, Splits, row_digests
from seepage.core.seeds import stream
from seepage.data.groups import by_class, by_column, without_column
from seepage.models.shadows import TrainedShadows, drawn_at, most_records
from seepage.store.files import digest

Array = np.ndarray
Flags = Bool[Array, " _"]

# Of the public records this part, and no more than so many, are held back for asking.
_HELD, _MOST_HELD = 0.2, 1000
# Of the records of either kind no model gets more than this part: models that share most of their records are alike
# for that reason.
_DRAWN = 0.5
# Shadow models are trained at shares whose odds are these multiples of the public share's.
_ODDS = (1 / 4, 4.0)
_LEVELS = 9
_FEWEST = 20


@dataclass(frozen=True)
class Asked:
    """A property found in the records.

    Attributes:
        table: what was asked.
        name: the group in words.
        splits: the records, without the group's column where the model is not to see it.
        members, nonmembers, public: (n,) which of them are of the group.
    """

    table: PropertyTable
    name: str
    splits: Splits
    members: Flags
    nonmembers: Flags | None
    public: Flags

    def after(self, splits: Splits) -> "Asked":
        """The same once non-members that equal a member were left out (`data.without_overlap`)."""
        before = self.splits.nonmembers
        if (
            before is None
            or self.nonmembers is None
            or splits.nonmembers is None
            or len(splits.nonmembers) == len(before)
        ):
            return replace(self, splits=splits)
        # Adding zero makes one value of -0.0 and 0.0, as the comparison of splits does.
        ours = set(row_digests(self.splits.members.x + np.float32(0)))
        kept = np.array([row not in ours for row in row_digests(before.x + np.float32(0))], dtype=bool)
        return replace(self, splits=splits, nonmembers=self.nonmembers[kept])

    @property
    def identity(self) -> str:
        """What tells one property from another."""
        told = [self.members, self.nonmembers, self.public]
        flags = [None if one is None else np.packbits(one).tobytes().hex() for one in told]
        return digest([self.table.model_dump(mode="json"), flags])


def table_of(given: Mapping[str, Any]) -> tuple[PropertyTable, dict[str, Any]]:
    """The table behind `property=` of a call, and the flags that came with it.

    Raises:
        ConfigError: for an unknown key.
    """
    flags = {name: given[name] for name in ("members", "nonmembers", "public") if name in given}
    rest = {name: value for name, value in given.items() if name not in flags}
    try:
        return PropertyTable.model_validate({**rest, "flags": bool(flags)}), flags
    except ValidationError as error:
        raise explain(error, "property", {"": PropertyTable}) from error


def asked(table: PropertyTable, splits: Splits, flags: Mapping[str, Any], seed: int, trains: bool) -> Asked:
    """The group found in the records, the records as the model is to see them.

    Args:
        table: what was asked.
        splits: the records, the group's column among their features.
        flags: who is in the group, instead of a column: by split.
        seed: of the audit.
        trains: whether the victim is yet to be trained, so that `train_share` can be had.

    Raises:
        ConfigError: for a table that cannot be used with such a victim.
        DataError: for a column, a value or public records that are not there.
    """
    if splits.public is None or splits.public.y is None:
        raise DataError("property inference needs public records with classes, to train shadow models on")
    if splits.public.class_names != splits.members.class_names:
        raise DataError(
            "property inference needs public records of the members' classes, for shadow models to answer the same "
            f"classes; got {', '.join(splits.public.class_names[:5])}"
        )
    if splits.members.modality != splits.public.modality or not len(splits.public):
        raise DataError("property inference needs public records like the members")
    found = {
        name: None if records is None else _flags(table, records, flags.get(name), name)
        for name, records in (("members", splits.members), ("nonmembers", splits.nonmembers), ("public", splits.public))
    }
    members, public = found["members"], found["public"]
    assert members is not None
    assert public is not None
    nonmembers = found["nonmembers"]
    if table.train_share is not None:
        if not trains:
            raise ConfigError(
                '[property] train_share: the victim is trained already; it is for [victim] kind = "recipe", where the '
                "members are drawn here"
            )
        splits, members, nonmembers = _redrawn(table.train_share, splits, members, nonmembers, seed)
    if table.dropped:
        splits = Splits(
            without_column(splits.members, table.column),
            None if splits.nonmembers is None else without_column(splits.nonmembers, table.column),
            None if splits.public is None else without_column(splits.public, table.column),
        )
        if not splits.members.features:
            raise DataError(f"[property] dropped: no column is left beside '{table.column}'")
    return Asked(table, _name(table), splits, members, nonmembers, public)


def _name(table: PropertyTable) -> str:
    if table.class_name:
        return f"class {table.class_name}"
    if table.column:
        return f"{table.column} = {table.value}" if table.at_least is None else f"{table.column} >= {table.at_least:g}"
    return table.name or "the group"


def _flags(table: PropertyTable, records: Records, given: Any, what: str) -> Flags:
    if table.flags:
        if given is None:
            raise ConfigError(
                f"property: flags of the {what} are missing: give one truth value a record for every split"
            )
        flags = np.asarray(given)
        if flags.dtype != np.bool_ or flags.shape != (len(records),):
            raise ConfigError(
                f"property: {what}: {len(records)} truth values were wanted, got {flags.dtype} of shape {flags.shape}"
            )
        return flags
    if table.class_name:
        return by_class(records, table.class_name, what)
    return by_column(records, table.column, table.value, table.at_least, what)


def _redrawn(
    share: float, splits: Splits, members: Flags, nonmembers: Flags | None, seed: int
) -> tuple[Splits, Flags, Flags]:
    """As many members drawn anew from members and non-members, at a share; the others are the non-members."""
    if splits.nonmembers is None or nonmembers is None:
        raise DataError("[property] train_share draws members anew from members and non-members: give non-members")
    pool, flags = splits.members.joined(splits.nonmembers), np.concatenate([members, nonmembers])
    rows = drawn_at(flags, share, len(splits.members), stream(seed, "property", "members"))
    inside = np.zeros(len(pool), dtype=bool)
    inside[rows] = True
    return Splits(pool[inside], pool[~inside], splits.public), flags[inside], flags[~inside]


def group(found: Asked, recipe: Recipe, seed: int) -> Group:
    """The group with its shadow models, none of them trained yet.

    Args:
        found: the property.
        recipe: of the victim.
        seed: of the audit.

    Raises:
        DataError: when there are too few records for models that differ.
        ConfigError: for shares that cannot be.
    """
    table, public = found.table, found.splits.public
    assert public is not None
    share = float(found.public.mean()) if table.public_share is None else table.public_share
    if not 0 < found.public.mean() < 1:
        raise DataError(
            f"of the {len(public)} public records {int(found.public.sum())} are of the group '{found.name}': some of "
            "the group and some others are needed, to learn from"
        )
    held = _held(found.public, seed)
    shares = _shares(table.shares, share, table.shadows)
    flags = found.public[~held]
    pool = found.members if found.nonmembers is None else np.concatenate([found.members, found.nonmembers])
    least = min(
        *(most_records(flags, one) for one in shares),
        most_records(pool, float(found.members.mean())),
        most_records(pool, share),
    )
    most = math.floor(_DRAWN * least)
    records = min(len(found.members), most) if table.records is None else table.records
    if records < _FEWEST or records > most:
        raise DataError(
            f"models of {records} records each cannot be drawn so that none gets more than half of either kind: at "
            f"shares from {shares.min():.2g} to {shares.max():.2g} there are records for {most} each, and {_FEWEST} is "
            "the least; give more public records and non-members, or shares nearer to the public's"
        )
    kept = public[np.nonzero(~held)[0]]
    return Group(
        name=found.name,
        members=found.members,
        nonmembers=found.nonmembers,
        public=found.public,
        share=share,
        held=held,
        records=records,
        trials=table.trials,
        shadows=TrainedShadows(recipe.on(kept), flags, shares, records, seed),
    )


def _held(group: Flags, seed: int) -> Flags:
    """Public records held back for asking, of either kind the same part."""
    part = min(_HELD, _MOST_HELD / len(group))
    held = np.zeros(len(group), dtype=bool)
    for kind in (True, False):
        rows = stream(seed, "property", "asked", int(kind)).permutation(np.nonzero(group == kind)[0])
        held[rows[: math.ceil(part * len(rows))]] = True
    return held


def _shares(given: Sequence[float], public: float, models: int) -> Float[Array, " k"]:
    """The share of every shadow model: those given in turn, or evenly spaced levels about the public's."""
    if given:
        if min(given) <= 0 or max(given) >= 1 or len(set(given)) < 2:
            raise ConfigError(
                f"[property] shares: two different shares or more between 0 and 1 were wanted, got {given}"
            )
        levels = np.asarray(given, dtype=np.float64)
    else:
        low, high = (factor * public / (1 - public) for factor in _ODDS)
        levels = np.linspace(low / (1 + low), high / (1 + high), _LEVELS)
    return np.resize(levels, models)


def told(group: Group) -> dict[str, float | str | None]:
    """What the record says of the group before anything is trained."""
    return {"group": group.name, "group_share_members": group.truth, "group_share_public": group.share}
