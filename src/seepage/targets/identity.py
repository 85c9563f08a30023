"""A digest of a fitted estimator that is the same in every process, before and after it was saved.

Pickles will not do: their bytes depend on which strings are shared, on padding inside structured
arrays and on the order in which attributes were set.
"""

import struct
from typing import Any

import numpy as np

from seepage.targets.answers import digest

# What a fitted object keeps about its environment or its use rather than about what it answers.
_ASIDE = frozenset({"_sklearn_version", "n_jobs", "verbose"})


def state_digest(thing: Any) -> str | None:
    """SHA-256 over the values an object is made of, or None for one whose state cannot be read.

    Objects are taken apart as pickle would, by `__reduce_ex__`, and never run. Numbers count by value,
    so that an int and a NumPy int are the same.
    """
    try:
        return _Walk().of(thing)
    except (TypeError, ValueError, AttributeError, RecursionError):
        return None


class _Walk:
    """One pass over an object; what was met before is not taken apart again."""

    def __init__(self) -> None:
        self._known: dict[int, str] = {}
        self._kept: list[Any] = []

    def of(self, thing: Any) -> str:
        if thing is None or isinstance(thing, (bool, np.bool_)):
            return digest(b"constant", repr(None if thing is None else bool(thing)).encode())
        if isinstance(thing, (int, np.integer)):
            return digest(b"int", repr(int(thing)).encode())
        if isinstance(thing, (float, np.floating)):
            return digest(b"float", struct.pack(">d", float(thing)))
        if isinstance(thing, (str, bytes)):
            return digest(type(thing).__name__.encode(), thing.encode() if isinstance(thing, str) else thing)
        if id(thing) in self._known:
            return self._known[id(thing)]
        # While it is being taken apart, a reference back to it is only noted.
        self._known[id(thing)] = digest(b"above")
        self._kept.append(thing)
        found = self._known[id(thing)] = self._compound(thing)
        return found

    def _compound(self, thing: Any) -> str:
        if isinstance(thing, np.ndarray):
            return self._array(thing)
        if isinstance(thing, np.dtype):
            return digest(b"dtype", str(thing.descr if thing.names else thing.str).encode())
        if isinstance(thing, (list, tuple)):
            return digest(b"sequence", *(self.of(item).encode() for item in thing))
        if isinstance(thing, (set, frozenset)):
            return digest(b"set", *sorted(self.of(item).encode() for item in thing))
        if isinstance(thing, dict):
            pairs = ((self.of(key), self.of(value)) for key, value in thing.items() if key not in _ASIDE)
            return digest(b"mapping", *("".join(pair).encode() for pair in sorted(pairs)))
        if callable(thing) and hasattr(thing, "__qualname__"):
            return digest(b"name", f"{thing.__module__}.{thing.__qualname__}".encode())
        if isinstance(thing, (np.random.RandomState, np.random.Generator)):
            return digest(b"random")  # drew the weights and has no part in an answer
        if hasattr(thing, "get_arrays") and hasattr(thing, "get_n_calls"):
            tree: Any = thing  # a search tree, whose full state counts how often it was asked
            return self.of([np.asarray(part) for part in tree.get_arrays()])
        reduced = thing.__reduce_ex__(4)
        if isinstance(reduced, str):
            return digest(b"name", reduced.encode())
        made, arguments, *rest = reduced
        parts = [self.of(made), self.of(arguments), *(self.of(list(p) if hasattr(p, "__next__") else p) for p in rest)]
        return digest(b"object", type(thing).__qualname__.encode(), *(part.encode() for part in parts))

    def _array(self, thing: np.ndarray) -> str:
        head = f"{thing.dtype.kind}{thing.dtype.itemsize} {thing.shape}".encode()
        if thing.dtype.names:
            fields = (self._array(np.ascontiguousarray(thing[name])) for name in thing.dtype.names)
            return digest(b"fields", *(field.encode() for field in fields))
        if thing.dtype.kind == "O":
            return digest(b"objects", *(self.of(item).encode() for item in thing.ravel()))
        return digest(b"array", head, np.ascontiguousarray(thing).tobytes())
