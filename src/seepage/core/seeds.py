"""Randomness derived from names, never from positions: results are free of order and workers."""

import hashlib

import numpy as np


def derive(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream called `names` under `seed`. Same names, same stream."""
    text = "\x1f".join([str(int(seed)), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """The random generator of the stream called `names` under `seed`."""
    return np.random.default_rng(derive(seed, *names))
