"""How records of one source are told apart, and what is checked once they are."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from seepage.core.errors import DataError
from seepage.core.record import Check
from seepage.core.records import Records, Splits, row_digests
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Modality, Task
from seepage.data.labels import listed, natural_key

Array = np.ndarray

NEAR = 0.995  # correlation of two pictures, shrunk, above which they are called nearly the same
_THUMB = 16  # side, in pixels, to which pictures are shrunk for that
_FLAT = 1e-3  # standard deviation, in units of the value range, below which a picture shows nothing
_MOST = 4000  # near duplicates are looked for among so many pictures of each side


def split_identities(
    records: Records, private: int | None = None, members_per_class: int | float = 5, seed: int = 0
) -> Splits:
    """Some classes, drawn at random, are private; the rest are public, with classes of their own.

    Of each private class some records, drawn at random, are members and the rest non-members. The draws of a
    class depend on its name and the seed alone.

    Args:
        records: labelled records of all classes.
        private: how many classes are private; None for half of them.
        members_per_class: how many records of a private class are members, or what share (below 1).
        seed: of the draws.

    Returns:
        Splits with members and non-members of the private classes, renumbered in natural order of their
        names, and public records of the others (None when every class is private).

    Raises:
        DataError: for fewer than 2 private classes, more than there are, or a class with too few records.
    """
    names = records.class_names
    private = len(names) // 2 if private is None else private
    if not 2 <= private <= len(names):
        raise DataError(
            f"private is a number of classes from 2 to {len(names)} (those of {records.source or 'memory'}), "
            f"got {private}"
        )
    order = stream(seed, "split", "identities").permutation(len(names))
    chosen = [sorted(names, key=natural_key)[i] for i in order[:private]]
    return split_classes(records, chosen, members_per_class, seed)


def split_classes(
    records: Records, private: Sequence[str], members_per_class: int | float = 0.5, seed: int = 0
) -> Splits:
    """The named classes are private, the rest public; as `split_identities` otherwise.

    Raises:
        DataError: for unknown class names, fewer than 2, or a class with too few records.
    """
    wanted = set(private)
    unknown = sorted(wanted - set(records.class_names), key=natural_key)
    if unknown or len(wanted) < 2:
        raise DataError(
            f"private names 2 or more of the classes {listed(records.class_names)}; got {listed(sorted(wanted))}"
        )
    ours = only_classes(records, [name for name in records.class_names if name in wanted])
    others = [name for name in records.class_names if name not in wanted]
    members: list[int] = []
    for c, name in enumerate(ours.class_names):
        rows = np.nonzero(ours.labels() == c)[0]
        k = round(members_per_class * len(rows)) if members_per_class < 1 else int(members_per_class)
        if not 1 <= k < len(rows):
            raise DataError(
                f"members_per_class = {members_per_class} leaves no members or no non-members of the class '{name}', "
                f"which has {len(rows)} records"
            )
        members += [int(row) for row in stream(seed, "split", "members", name).permutation(rows)[:k]]
    is_member = np.zeros(len(ours), dtype=bool)
    is_member[members] = True
    return Splits(
        members=ours[is_member],
        nonmembers=ours[~is_member],
        public=only_classes(records, others) if others else None,
    )


def split_records(
    records: Records, members: float = 0.4, nonmembers: float = 0.4, public: float = 0.2, seed: int = 0
) -> Splits:
    """Records drawn at random into members, non-members and public, class by class in the same shares.

    Where a share of a class is no whole number it is rounded up or down by a draw, so that no split is
    favoured; the first record of every class goes to the members. The draws of a class depend on its name
    and the seed alone.

    Args:
        records: labelled records.
        members: share of the members, 0 to 1.
        nonmembers: share of the non-members.
        public: share of the public records. The shares sum to 1 at most; 0 gives None.
        seed: of the draws.

    Raises:
        DataError: for shares that cannot be, and for a split that would get no records.
    """
    shares = np.asarray([members, nonmembers, public], dtype=np.float64)
    if (shares < 0).any() or not members > 0 or shares.sum() > 1 + 1e-9:
        raise DataError(
            f"the shares of members, nonmembers and public are 0 to 1, members above 0, and sum to 1 at most; got "
            f"{members:g}, {nonmembers:g} and {public:g}"
        )
    cuts = np.concatenate([[0.0], np.cumsum(shares)])
    where = np.full(len(records), -1)
    for c, name in enumerate(records.class_names):
        rng = stream(seed, "split", "records", name)
        rows = rng.permutation(np.nonzero(records.labels() == c)[0])
        edges = np.floor(cuts * len(rows) + rng.uniform(0, 1 - 1e-9)).astype(np.int64)
        edges[0] = 0
        edges[1:] = np.clip(edges[1:], min(1, len(rows)), len(rows))
        for split in range(3):
            where[rows[edges[split] : edges[split + 1]]] = split
    parts = [records[where == split] if shares[split] > 0 else None for split in range(3)]
    for part, name in zip(parts, ("members", "nonmembers", "public"), strict=True):
        if part is not None and len(part) == 0:
            raise DataError(f"{name} would get none of {len(records)} records; give larger shares or more records")
    return Splits(members=records[where == 0], nonmembers=parts[1], public=parts[2])


def only_classes(records: Records, names: Sequence[str]) -> Records:
    """The records of the named classes, numbered in the order of `names`."""
    number = {name: i for i, name in enumerate(names)}
    renumber = np.asarray([number.get(name, -1) for name in records.class_names], dtype=np.int64)
    y = renumber[records.labels()]
    kept = y >= 0
    chosen = records[kept]
    return replace(chosen, y=y[kept], class_names=tuple(names))


def without_overlap(splits: Splits) -> Splits:
    """The splits with every non-member that equals a member in all values left out.

    Raises:
        DataError: when none is left.
    """
    if splits.nonmembers is None:
        return splits
    rows, _ = _shared(splits.nonmembers, splits.members)
    keep = np.ones(len(splits.nonmembers), dtype=bool)
    keep[rows] = False
    if not keep.any():
        raise DataError(
            f"every one of the {len(keep)} non-members is a member, equal in every value: give records that the victim "
            "was not trained on"
        )
    return replace(splits, nonmembers=splits.nonmembers[keep])


def check_splits(splits: Splits, spec: InputSpec | None = None) -> list[Check]:
    """What can be wrong between the splits: errors where nothing sound can follow, else checks.

    Looked at: shapes, columns, modality and (with a spec) values and range; classes of members and
    non-members; members that are non-members or public too, equal in every value or, for images, nearly the
    same (correlation above 0.995 once shrunk to 16 x 16 grey pixels); classes with fewer than 2 members.

    Args:
        splits: members and, where there are, non-members and public records.
        spec: the victim's input; each split's values are then held against it.

    Returns:
        One check for each thing looked at; one that did not pass is a warning to show loudly.

    Raises:
        DataError: for no records, differing shapes or columns or class names, a single class, and members
            among the non-members (`without_overlap` drops these).
    """
    members, nonmembers, public = splits.members, splits.nonmembers, splits.public
    for records, what in ((members, "members"), (nonmembers, "nonmembers"), (public, "public")):
        if records is not None:
            _alike(records, members, what)
            if spec is not None:
                spec.check(records.x, what)
    checks: list[Check] = []
    if members.y is not None:
        present = np.unique(members.y)
        if present.size < 2:
            raise DataError(f"members: at least 2 classes were wanted, got {present.size}; there is nothing to audit")
        checks.append(_enough(members))
    if nonmembers is not None:
        checks += [_no_overlap(members, nonmembers), *_near(members, nonmembers, "nonmembers")]
        if members.y is not None and nonmembers.y is not None:
            checks.append(_same_classes(members, nonmembers))
    if public is not None:
        checks += [_not_public(members, public), *_near(members, public, "public")]
    return checks


def near_duplicates(
    a: Float[Array, " n c h w"], b: Float[Array, " m c h w"]
) -> tuple[Int[Array, " k"], Int[Array, " k"]]:
    """Rows of `a` whose nearest picture in `b` correlates above `NEAR`, and the rows of those pictures.

    Both are shrunk to at most 16 x 16 grey pixels by area averaging, centred and scaled to unit length;
    pictures without contrast are left out, for all of them would be alike.
    """
    first, second = _thumbnails(a), _thumbnails(b)
    best = np.full(len(first), -1.0, dtype=np.float32)
    at = np.zeros(len(first), dtype=np.int64)
    for start in range(0, len(first), 500):
        similar = first[start : start + 500] @ second.T
        at[start : start + 500] = similar.argmax(axis=1)
        best[start : start + 500] = similar.max(axis=1)
    rows = np.nonzero(best > NEAR)[0]
    return rows, at[rows]


def _thumbnails(x: Float[Array, " n c h w"]) -> Float[Array, " n p"]:
    grey = x.mean(axis=1)
    height, width = min(_THUMB, grey.shape[1]), min(_THUMB, grey.shape[2])
    if grey.shape[1:] != (height, width):
        grey = np.stack(
            [np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX)) for picture in grey]
        )
    flat = grey.reshape(len(grey), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    span = float(np.ptp(x)) or 1.0
    plain = length < _FLAT * span * np.sqrt(flat.shape[1])
    return np.where(plain, 0, flat / np.where(plain, 1, length)).astype(np.float32)


def _shared(records: Records, others: Records) -> tuple[list[int], list[int]]:
    """Rows of `records` that equal a row of `others`, and the first such row."""
    where: dict[bytes | str, int] = {}
    for row, digest in enumerate(_marks(others)):
        where.setdefault(digest, row)
    hits = [(row, where[digest]) for row, digest in enumerate(_marks(records)) if digest in where]
    return [row for row, _ in hits], [row for _, row in hits]


def _marks(records: Records) -> Sequence[bytes | str]:
    """Something for each record that is equal exactly where the records are."""
    # Adding zero makes one value of -0.0 and 0.0, which differ in bytes.
    return records.texts or row_digests(records.x + np.float32(0))


def _alike(records: Records, members: Records, what: str) -> None:
    if len(records) == 0:
        raise DataError(f"{what}: there are no records")
    if records.x.shape[1:] != members.x.shape[1:] or records.modality is not members.modality:
        raise DataError(
            f"{what}: records should be like the members, {members.modality} of shape {members.x.shape[1:]}; "
            f"got {records.modality} of shape {records.x.shape[1:]}"
        )
    if records.labelled and (records.task is not members.task or len(records.outputs) != len(members.outputs)):
        raise DataError(
            f"{what}: their targets should be those of the members: {_predicted(members)}; got {_predicted(records)}"
        )
    if records.features and members.features and records.features != members.features:
        odd = next(
            (i for i, pair in enumerate(zip(records.features, members.features, strict=True)) if len(set(pair)) > 1)
        )
        raise DataError(
            f"{what}: the columns should be the members'; column {odd + 1} is '{records.features[odd]}', "
            f"theirs '{members.features[odd]}'"
        )


def _predicted(records: Records) -> str:
    if records.task is Task.CLASSES:
        return f"{len(records.class_names)} classes"
    return f"{len(records.outputs)} {records.task} a record"


def _enough(members: Records) -> Check:
    counts = np.bincount(members.labels(), minlength=len(members.class_names))
    few = [members.class_names[c] for c in np.nonzero(counts < 2)[0]]
    if few:
        message = (
            f"{len(few)} of {len(counts)} classes have fewer than 2 members: {listed(few)}; their results say little"
        )
    else:
        message = f"every one of {len(counts)} classes has at least {counts.min()} members"
    return Check(name="members per class", passed=not few, message=message)


def _same_classes(members: Records, nonmembers: Records) -> Check:
    if members.class_names != nonmembers.class_names:
        raise DataError(
            f"members and nonmembers should have the same classes: {len(members.class_names)} "
            f"({listed(members.class_names)}) against {len(nonmembers.class_names)} "
            f"({listed(nonmembers.class_names)}); give both the victim's class names"
        )
    ours, theirs = (set(np.unique(records.labels()).tolist()) for records in (members, nonmembers))
    lacking = [members.class_names[c] for c in sorted(ours - theirs)]
    strange = [members.class_names[c] for c in sorted(theirs - ours)]
    if not lacking and not strange:
        return Check(
            name="same classes", passed=True, message=f"members and non-members cover the same {len(ours)} classes"
        )
    parts = [f"{len(lacking)} without non-members: {listed(lacking)}"] if lacking else []
    parts += [f"{len(strange)} without members: {listed(strange)}"] if strange else []
    return Check(
        name="same classes",
        passed=False,
        message="members and non-members cover different classes; " + "; ".join(parts),
    )


def _no_overlap(members: Records, nonmembers: Records) -> Check:
    rows, twins = _shared(nonmembers, members)
    if rows:
        raise DataError(
            f"{len(rows)} of {len(nonmembers)} non-members are members, equal in every value: "
            f"'{nonmembers.ids[rows[0]]}' equals the member '{members.ids[twins[0]]}'; "
            'take them out, or set overlap = "drop"'
        )
    return Check(name="members among non-members", passed=True, message="no non-member equals a member")


def _not_public(members: Records, public: Records) -> Check:
    rows, twins = _shared(members, public)
    if rows:
        message = (
            f"{len(rows)} of {len(members)} members are public records too: '{members.ids[rows[0]]}' equals "
            f"'{public.ids[twins[0]]}'; the adversary would be handed what it should have to recover"
        )
    else:
        message = "no member equals a public record"
    return Check(name="members among public", passed=not rows, message=message)


def _near(members: Records, others: Records, what: str) -> list[Check]:
    if members.modality is not Modality.IMAGE or members.x.ndim != 4:
        return []
    a, b = _some(members), _some(others)
    rows, twins = near_duplicates(a.x, b.x)
    scope = f" (among {len(a)} and {len(b)} of them)" if len(a) < len(members) or len(b) < len(others) else ""
    if not len(rows):
        message = f"no member is nearly the same as a record in {what}{scope}"
    else:
        message = (
            f"{len(rows)} of {len(a)} members are nearly the same as a record in {what}{scope}: "
            f"'{a.ids[int(rows[0])]}' and '{b.ids[int(twins[0])]}' correlate above {NEAR:g}"
        )
    return [Check(name=f"near duplicates in {what}", passed=not len(rows), message=message)]


def _some(records: Records) -> Records:
    if len(records) <= _MOST:
        return records
    return records[np.floor(np.arange(_MOST) * (len(records) / _MOST)).astype(np.int64)]
