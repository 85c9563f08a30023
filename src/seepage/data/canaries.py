"""Canaries drawn for a data set: which records, with which classes, and the fair coin of each.

A canary is a record that the training data would not hold otherwise, so that a model that has learned it has learned
it from that record alone. Two kinds are made here: records with a class that is not theirs, and records whose columns
(or pixels) are drawn one by one. Each is put into the data with probability 1/2, independently: what Steinke, Nasr and
Jagielski 2023, Privacy Auditing with One (1) Training Run, NeurIPS (algorithm 1), rests on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from seepage.core.canaries import FEWEST, Canaries
from seepage.core.errors import ConfigError, DataError
from seepage.core.records import Records, row_digests
from seepage.core.seeds import stream
from seepage.core.vocabulary import Modality

Array = np.ndarray
Kind = Literal["mislabelled", "random"]
KINDS: tuple[Kind, ...] = ("mislabelled", "random")
# Canaries that are taken from the data leave it; no more than this share of it may go.
MOST_TAKEN = 0.5


@dataclass(frozen=True)
class Drawn:
    """What was drawn for the canaries of a data set.

    Attributes:
        rows: (m,) the record each is made of; empty for records drawn anew.
        classes: (m,) the class each is given.
        included: (m,) whether it goes into the data.
    """

    rows: Int[Array, " k"]
    classes: Int[Array, " m"]
    included: Bool[Array, " m"]


def check(kind: str, count: int, classes: int) -> None:
    """Nothing, unless such canaries cannot be drawn.

    Raises:
        ConfigError: for an unknown kind, or fewer canaries than a bound needs.
        DataError: for fewer than two classes.
    """
    if kind not in KINDS:
        raise ConfigError(f"canaries: kind is one of {', '.join(KINDS)}, got '{kind}'")
    if count < FEWEST:
        raise ConfigError(f"canaries: at least {FEWEST} are wanted, got {count}; hundreds make a bound that tells")
    if classes < 2:
        raise DataError("canaries need records of two classes or more: their class is what the model is to learn")


def draw(
    labels: Int[Array, " n"], classes: int, usable: Int[Array, " u"], kind: str, count: int, seed: int, taken: bool
) -> Drawn:
    """Which records become canaries, with which classes, and which of them are included.

    Args:
        labels: of the records that canaries are made of.
        classes: how many classes there are.
        usable: rows of them that a canary may be made of.
        kind: one of `KINDS`.
        count: how many.
        seed: of every draw.
        taken: whether the records leave the data that they are taken from.

    Raises:
        ConfigError, DataError: as `check`, and for more canaries than there are records to make them of.
    """
    check(kind, count, classes)
    included = stream(seed, "canaries", "coins").random(count) < 0.5
    rng = stream(seed, "canaries", kind)
    if kind == "random":
        return Drawn(np.zeros(0, dtype=np.int64), rng.integers(classes, size=count), included)
    most = int(len(usable) * (MOST_TAKEN if taken else 1))
    if count > most:
        why = f"no more than {MOST_TAKEN:.0%} of them may leave the data" if taken else "each is used once"
        raise DataError(
            f"{count} mislabelled canaries were wanted, and {len(usable)} different records are there to make them "
            f"of: {why}; ask for {most} at the most, take them from other records (--from), or draw random ones"
        )
    rows = rng.choice(usable, size=count, replace=False)
    return Drawn(rows, (labels[rows] + rng.integers(1, classes, size=count)) % classes, included)


def single(marks: Sequence[object]) -> Int[Array, " u"]:
    """Rows whose mark no other row has: of two equal records none can be told to be the canary."""
    counts: dict[object, int] = {}
    for mark in marks:
        counts[mark] = counts.get(mark, 0) + 1
    return np.array([row for row, mark in enumerate(marks) if counts[mark] == 1], dtype=np.int64)


def columns_drawn(x: Array, count: int, rng: np.random.Generator) -> Array:
    """(count, ...) records whose every column takes one of the values it has in `x`, each as likely, by itself."""
    flat = x.reshape(len(x), -1)
    drawn = np.empty((count, flat.shape[1]), dtype=x.dtype)
    for column in range(flat.shape[1]):
        values = np.unique(flat[:, column])
        drawn[:, column] = values[rng.integers(len(values), size=count)]
    return drawn.reshape(count, *x.shape[1:])


def pixels_drawn(like: Array, count: int, rng: np.random.Generator) -> Array:
    """(count, ...) pictures of noise between the least and the greatest value of `like`, whole numbers where it is."""
    low, high = like.min(), like.max()
    if np.issubdtype(like.dtype, np.integer):
        return rng.integers(int(low), int(high) + 1, size=(count, *like.shape[1:])).astype(like.dtype)
    return rng.uniform(low, high, size=(count, *like.shape[1:])).astype(like.dtype)


def canaries_of(
    members: Records, kind: str, count: int, seed: int, public: Records | None = None
) -> tuple[Canaries, Records]:
    """Canaries for records in memory, and the records without those that became canaries.

    Mislabelled ones are made of public records where those have the members' classes and are enough; otherwise of
    members, which then leave the data.

    Raises:
        ConfigError, DataError: as `draw`.
    """
    classes = len(members.class_names)
    check(kind, count, classes)
    pool, taken = members, True
    if kind == "mislabelled" and public is not None and public.y is not None:
        fit = public.class_names == members.class_names and public.x.shape[1:] == members.x.shape[1:]
        if fit and len(_apart(public, members)) >= count:
            pool, taken = public[_apart(public, members)], False
    drawn = draw(pool.labels(), classes, single(row_digests(pool.x)), kind, count, seed, taken)
    rng = stream(seed, "canaries", "values")
    if kind == "random":
        make = pixels_drawn if members.modality is Modality.IMAGE else columns_drawn
        x, rest = make(members.x, count, rng), members
    else:
        x = pool.x[drawn.rows]
        rest = members[np.setdiff1d(np.arange(len(members)), drawn.rows)] if taken else members
    ids = tuple(f"canary {i + 1}" for i in range(count))
    records = replace(members, x=x, y=drawn.classes, ids=ids, source=f"canaries: {kind}")
    note = f"{count} {kind} canaries, {int(drawn.included.sum())} of them included"
    if kind == "mislabelled":
        note += "; made of members, which left the training data" if taken else "; made of public records"
    return Canaries(records, drawn.included, kind, seed, (note + ".",)), rest


def _apart(records: Records, others: Records) -> Int[Array, " k"]:
    """Rows of `records` that equal none of `others`."""
    known = set(row_digests(others.x))
    return np.array([row for row, mark in enumerate(row_digests(records.x)) if mark not in known], dtype=np.int64)


def without_canaries(members: Records, canaries: Canaries) -> tuple[Records, Canaries]:
    """The members that are no canaries, and the canaries that stand in the data once or not at all, as their coin says.

    A canary that equals a member besides is left out of the game, included or not: whether it is there cannot be told
    by its own coin.

    Raises:
        DataError: when an included canary is not among the members, or more than half of them equal other members.
    """
    kept = _marks(members)
    there: dict[bytes, int] = {}
    for mark in kept:
        there[mark] = there.get(mark, 0) + 1
    own = _marks(canaries.records)
    lacking = [i for i, mark in enumerate(own) if canaries.included[i] and there.get(mark, 0) == 0]
    if lacking:
        raise DataError(
            f"{len(lacking)} of {int(canaries.included.sum())} included canaries are not among the {len(members)} "
            f"members (first '{canaries.records.ids[lacking[0]]}'): give as members the data that `seepage corpus "
            "canaries` wrote, all of it, read with the same options"
        )
    twice = single(own)
    alone = np.array([i for i in twice if there.get(own[i], 0) == int(canaries.included[i])], dtype=np.int64)
    if len(alone) < len(own) / 2:
        raise DataError(
            f"{len(own) - len(alone)} of {len(own)} canaries equal other records: so many cannot be told apart; "
            "make others (another kind, fewer columns left out)"
        )
    gone = set(own)
    rest = members[np.array([mark not in gone for mark in kept], dtype=bool)]
    notes = canaries.notes
    if len(alone) < len(own):
        notes += (f"{len(own) - len(alone)} canaries equal other records and take no part.",)
    return rest, replace(canaries, records=canaries.records[alone], included=canaries.included[alone], notes=notes)


def _marks(records: Records) -> list[bytes]:
    """Values and class of each record; adding zero makes one of -0.0 and 0.0."""
    classes = records.labels()
    return [
        mark + int(c).to_bytes(8, "big")
        for mark, c in zip(row_digests(records.x + np.float32(0)), classes, strict=True)
    ]
