"""Telling whether two results are the same, whether something was changed, and what can be reached."""

import dataclasses
import functools
import hashlib
import random
import sys
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
from pydantic import BaseModel

from seepage.core.seeds import stream
from seepage.core.victim import Model, Models, TextEncoder, Victim

Array = np.ndarray

# What an encoder of texts is compared by.
_TEXTS = ("a", "The quick brown fox.", "To be, or not to be")

_PLAIN = (str, bytes, int, float, complex, bool, type(None))


def fingerprint(value: Any, probe: Array | None = None) -> str:
    """A digest of everything in `value`: equal for equal arrays, numbers and texts, in equal places.

    Args:
        value: arrays, tensors, dataclasses, pydantic models, mappings and sequences, nested at will.
        probe: (n, *shape) records; a model found inside counts by its answers to them.
    """
    h = hashlib.sha256()
    for part in _parts(value, probe):
        h.update(part)
        h.update(b"\x1f")
    return h.hexdigest()


def _parts(value: Any, probe: Array | None) -> Iterator[bytes]:
    yield type(value).__qualname__.encode()
    if isinstance(value, np.ndarray):
        yield str((value.dtype.str, value.shape)).encode()
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, BaseModel):
        yield value.model_dump_json().encode()
    elif isinstance(value, Model) and probe is not None and not isinstance(value, type):
        yield from _parts(np.asarray(value.predict(probe)), None)
    elif isinstance(value, TextEncoder) and not isinstance(value, type):
        yield from _parts(np.asarray(value.embed(_TEXTS)), None)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield field.name.encode()
            yield from _parts(getattr(value, field.name), probe)
    elif isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            yield repr(key).encode()
            yield from _parts(value[key], probe)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for item in value:
            yield from _parts(item, probe)
    elif isinstance(value, (*_PLAIN, np.generic, AbstractSet)):
        yield repr(value).encode()
    elif isinstance(value, FunctionType):
        # What an active server would be answered: what it does is seen when it is asked.
        yield value.__qualname__.encode()
    elif hasattr(value, "detach"):
        tensor: Any = value
        yield from _parts(tensor.detach().cpu().numpy(), None)
    else:
        yield str(id(value)).encode()


def probe_of(victim: Victim) -> Array | None:
    """Records from all over the bounds of a model, to compare its answers by; None for other victims."""
    if isinstance(victim, Models):
        victim = victim.models[0]
    if not isinstance(victim, Model):
        return None
    unit = stream(0, "testing", "probe").random((16, *victim.spec.shape))
    return victim.spec.bounds.from_unit(unit.astype(np.float32))


def finite(value: Any) -> bool:
    """True when no number in arrays, mappings, sequences and dataclasses is NaN or infinite."""
    if isinstance(value, np.ndarray):
        return bool(np.isfinite(value).all()) if value.dtype.kind in "fc" else True
    if isinstance(value, float):
        return bool(np.isfinite(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return all(finite(getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, Mapping):
        return all(finite(item) for item in value.values())
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return all(finite(item) for item in value)
    return True


def reached(root: Any, wanted: Iterable[Any]) -> str | None:
    """The path by which one of `wanted` is reached from `root` by attributes, items and bound methods, or None.

    What a function closes over is not looked into: that is where a target keeps its victim.
    """
    needles = {id(needle) for needle in wanted}
    seen: set[int] = set()
    queue: list[tuple[str, Any]] = [(type(root).__name__, root)]
    keep: list[Any] = []
    while queue:
        path, value = queue.pop(0)
        if id(value) in needles:
            return path
        if id(value) in seen or isinstance(value, (*_PLAIN, np.ndarray, np.generic, ModuleType)):
            continue
        seen.add(id(value))
        keep.append(value)
        queue.extend((f"{path}{step}", item) for step, item in _steps(value, root))
    return None


def _steps(value: Any, root: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in list(value.items()):
            yield f"[{key!r}]", item
    elif isinstance(value, Sequence | AbstractSet):
        for number, item in enumerate(value):
            yield f"[{number}]", item
    elif isinstance(value, functools.partial):
        yield ".func", value.func
        yield ".args", value.args
        yield ".keywords", value.keywords
    elif isinstance(value, MethodType | BuiltinFunctionType):
        yield ".__self__", value.__self__
    elif isinstance(value, FunctionType):
        yield ".__defaults__", value.__defaults__
        yield ".__dict__", value.__dict__
    if isinstance(value, type):
        return
    for name, item in list(getattr(value, "__dict__", {}).items()):
        yield f".{name}", item
    for name in [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]:
        if hasattr(value, name) and name != "__dict__":
            yield f".{name}", getattr(value, name)
    if value is root:
        # What was left on the class of an attack outlives the run just as well.
        yield ".__class__.__dict__", {k: v for k, v in vars(type(value)).items() if not k.startswith("__")}


@contextmanager
def global_generators(seed: int) -> Generator[list[str]]:
    """The process-wide generators set to `seed` inside, and put back after.

    Yields:
        a list that holds, once the block has ended, the names of the generators that were drawn from:
        numpy's and torch's. That of `random` is set but not watched, since run-time type checkers draw
        from it; whoever depends on it gives another result under another seed.
    """
    torch: Any = sys.modules.get("torch")
    before: tuple[Any, Any, Any] = (
        random.getstate(),
        np.random.get_state(),  # noqa: NPY002 - the legacy generator is what is watched
        None if torch is None else torch.get_rng_state(),
    )
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    if torch is not None:
        torch.manual_seed(seed)
    start = _generator_states(torch)
    drawn: list[str] = []
    try:
        yield drawn
    finally:
        end = _generator_states(torch)
        drawn.extend(name for name in start if start[name] != end[name])
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        if torch is not None:
            torch.set_rng_state(before[2])


def _generator_states(torch: Any) -> dict[str, str]:
    states = {"numpy.random": fingerprint(np.random.get_state())}  # noqa: NPY002
    if torch is not None:
        states["torch"] = fingerprint(torch.get_rng_state().numpy())
    return states
