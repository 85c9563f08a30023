"""What makes records stand out among others: outliers, small classes, labels their neighbours do not share, copies."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from seepage.core.errors import ConfigError, did_you_mean
from seepage.core.records import Records
from seepage.core.secrets import Profile
from seepage.core.vocabulary import Task

Array = np.ndarray

# Neighbours looked at; directions that pictures and wide tables are looked at in.
NEIGHBOURS, DIRECTIONS = 5, 32
# Distances, in standard deviations a direction, within which two records count as the same.
SAME = 1e-3
# Parts that records are grouped into by how far out they lie, and values of a column up to which it makes groups.
PARTS, VALUES = 10, 20
# Classes up to which each is a group.
CLASSES = 30


def profile(records: Records, columns: Sequence[str] = ()) -> Profile:
    """What makes each of these records stand out among them.

    Distances are Euclidean among standardised features, of more than 32 among their first 32 principal components.

    Args:
        records: with classes, numbers or labels.
        columns: columns of a table whose values are groups too.

    Raises:
        ConfigError: for a column that the table does not have, or that has too many values.
    """
    from sklearn.neighbors import NearestNeighbors

    # Of numbers and of several labels there are no classes to be alone in, or to differ from.
    classes = records.task is Task.CLASSES
    labels, flat = records.labels() if classes else np.zeros(len(records), dtype=np.int64), _directions(records.x)
    k = min(NEIGHBOURS, max(len(records) - 1, 1))
    far, near = NearestNeighbors(n_neighbors=min(k + 1, len(records))).fit(flat).kneighbors(flat)
    far, near = far[:, 1:], near[:, 1:]
    apart = _own_distances(flat, labels, k)
    order = np.argsort(np.argsort(apart, kind="stable"), kind="stable")
    outlier = order / max(len(records) - 1, 1)
    counts = np.bincount(labels)
    named = classes and len(records.class_names) <= CLASSES
    groups = {"class": tuple(records.class_names[c] for c in labels)} if named else {}
    part = np.minimum((outlier * PARTS).astype(int), PARTS - 1)
    groups["rarity"] = tuple(RARITY[i] for i in part)
    groups |= {column: column_groups(records, column) for column in columns}
    return Profile(
        outlier=outlier,
        stranger=(labels[near] == labels[:, None]).mean(axis=1) < 0.5,
        copies=(far <= SAME * np.sqrt(flat.shape[1])).sum(axis=1),
        small_class=counts[labels] < len(records) / max((counts > 0).sum(), 1) / 2,
        groups=groups,
    )


RARITY = ("most ordinary tenth", *(f"tenth {i}" for i in range(2, PARTS)), "rarest tenth")


def _directions(x: Float[Array, " n ..."]) -> Float[Array, " n d"]:
    flat = x.reshape(len(x), -1).astype(np.float64)
    spread = flat.std(axis=0)
    flat = (flat - flat.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    if flat.shape[1] <= DIRECTIONS:
        return flat
    from sklearn.decomposition import PCA

    return PCA(min(DIRECTIONS, len(flat)), svd_solver="randomized", random_state=0).fit_transform(flat)


def _own_distances(flat: Float[Array, " n d"], labels: Array, k: int) -> Float[Array, " n"]:
    """Mean distance to the nearest records of the same class; infinite for one alone in its class."""
    from sklearn.neighbors import NearestNeighbors

    found = np.full(len(flat), np.inf)
    for c in np.unique(labels):
        rows = np.nonzero(labels == c)[0]
        if len(rows) > 1:
            among = min(k + 1, len(rows))
            distances, _ = NearestNeighbors(n_neighbors=among).fit(flat[rows]).kneighbors(flat[rows])
            found[rows] = distances[:, 1:].mean(axis=1)
    return found


def known_columns(columns: Sequence[str], records: Records) -> tuple[str, ...]:
    """The columns, each looked up in the table.

    Raises:
        ConfigError: for a column that the table does not have.
    """
    for column in columns:
        column_groups(records[:1], column)
    return tuple(columns)


def column_groups(records: Records, column: str) -> tuple[str, ...]:
    """The value of a column for every record: of one column, or of its 0/1 columns named "column=value".

    Raises:
        ConfigError: as `profile`.
    """
    parts = [i for i, name in enumerate(records.features) if name.startswith(f"{column}=")]
    if parts:
        names = [records.features[i].removeprefix(f"{column}=") for i in parts]
        return tuple(names[i] for i in records.x[:, parts].argmax(axis=1))
    if column not in records.features:
        known = list(dict.fromkeys(name.split("=")[0] for name in records.features))
        raise ConfigError(
            f"groups: there is no column '{column}': {did_you_mean(column, known)}"
            if known
            else f"groups: these records have no columns, so that '{column}' cannot group them"
        )
    values = records.x[:, records.features.index(column)]
    different = np.unique(values)
    if len(different) > VALUES:
        # Numbers: quarters of their range of ranks.
        cuts = np.unique(np.quantile(values, [0.25, 0.5, 0.75]))
        edges = ["-inf", *(f"{cut:g}" for cut in cuts), "inf"]
        return tuple(f"{edges[i]} to {edges[i + 1]}" for i in np.searchsorted(cuts, values, side="right"))
    return tuple(f"{value:g}" for value in values)
