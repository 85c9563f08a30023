"""What a judge learned from, and whether the victim learned from it too."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from seepage.core.errors import ConfigError
from seepage.core.records import Records, row_digests

Array = np.ndarray


def learned_from(judge: Any) -> frozenset[bytes]:
    """Digests of the records that a judge learned from, as far as it says: empty when it does not.

    A judge says so by an attribute `trained_on`: the `Records`, or their `row_digests` (of float32
    values in the audit's own range, so that no record needs to be carried along).

    Raises:
        ConfigError: when `trained_on` is something else.
    """
    said = getattr(judge, "trained_on", None)
    if said is None:
        return frozenset()
    if isinstance(said, Records):
        return digests(said)
    if isinstance(said, Iterable) and not isinstance(said, str | bytes):
        found = list(said)
        if all(isinstance(one, bytes) for one in found):
            return frozenset(found)
    raise ConfigError(
        "a judge's `trained_on` should be Records, or digests made by seepage.core.records.row_digests; "
        f"got a {type(said).__name__}"
    )


def digests(records: Records) -> frozenset[bytes]:
    """One digest for each different record."""
    return frozenset(row_digests(np.asarray(records.x, dtype=np.float32)))


def shared(records: Records, learned: frozenset[bytes]) -> np.ndarray:
    """(n,) which of the records are among those learned from, equal in every value."""
    if not learned:
        return np.zeros(len(records), dtype=bool)
    return np.array([one in learned for one in row_digests(np.asarray(records.x, dtype=np.float32))], dtype=bool)
