"""How finely the values of an update are told apart, and how many directions it has above that."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Array = np.ndarray

# Of a larger matrix so many rows and columns are looked at, those of greatest norm: below that, its rank is theirs.
WIDEST = 1024
# Values on a grid are looked for in tensors of at least this many entries; fewer may coincide by chance.
FEWEST = 256
_UNIFORM = 12**-0.5
_EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}


@dataclass(frozen=True)
class Grain:
    """The resolution of a tensor's values, read off the values themselves, whatever type they are stored in.

    Attributes:
        name: "float64", "float32", "float16", "bfloat16", "signs" or "k-bit steps".
        noise: (standard deviation) what rounding to it adds to one entry, in the tensor's own unit.
    """

    name: str
    noise: float

    @property
    def coarse(self) -> bool:
        """Whether values were rounded more than single precision rounds."""
        return self.name not in ("float32", "float64")


def grain(x: Float[Array, " ..."]) -> Grain:
    """The coarsest format or even grid that all values of `x` lie on."""
    flat = np.asarray(x).reshape(-1)
    size = float(np.sqrt(np.mean(flat.astype(np.float64) ** 2))) if flat.size else 0.0
    if flat.size >= FEWEST and (steps := _grid(flat)) is not None:
        return steps
    name = _format(flat)
    return Grain(name, _EPS[name] * _UNIFORM * size)


def _grid(flat: Float[Array, " n"]) -> Grain | None:
    values = np.unique(flat.astype(np.float64))
    if not 2 <= len(values) <= 256:
        return None
    apart = np.diff(values)
    step = float(apart.min())
    whole = apart / step
    # An int8 tensor scaled in single precision lies on its grid up to that precision.
    if np.abs(whole - np.round(whole)).max() > 1e-3 * max(float(np.abs(values).max() / step), 1.0):
        return None
    levels = round(float((values[-1] - values[0]) / step)) + 1
    if levels > 256:
        return None
    signs = levels <= 3 and abs(values[0] + values[-1]) <= 1e-6 * abs(values[-1])
    name = "signs" if signs else f"{max(int(np.ceil(np.log2(levels))), 1)}-bit steps"
    return Grain(name, step * _UNIFORM)


def _format(flat: Float[Array, " n"]) -> str:
    if flat.dtype == np.float16:
        return "float16"
    some = flat[flat != 0]
    if len(some) < 16:
        return "float64" if flat.dtype == np.float64 else "float32"
    single = some.astype(np.float32)
    if flat.dtype == np.float64 and (single.astype(np.float64) != some).any():
        return "float64"
    if ((single.view(np.uint32) & 0xFFFF) == 0).all():
        return "bfloat16"
    with np.errstate(over="ignore"):
        half = single.astype(np.float16).astype(np.float32)
    return "float16" if (half == single).all() else "float32"


@dataclass(frozen=True)
class Spectrum:
    """Singular values of a matrix, greatest first.

    Attributes:
        values: (k,) k the smaller side, at most `WIDEST`.
        floor: what rounding alone could make of a singular value of zero.
        sides: (rows, columns) of the matrix.
    """

    values: Float[Array, " k"]
    floor: float
    sides: tuple[int, int]

    @property
    def rank(self) -> int:
        """How many singular values stand above rounding."""
        return int((self.values > self.floor).sum())

    @property
    def full(self) -> bool:
        """Whether there are as many as there can be."""
        return self.rank >= len(self.values)

    @property
    def tolerance(self) -> float:
        """The floor as a share of the greatest singular value."""
        return self.floor / float(self.values[0]) if len(self.values) and self.values[0] > 0 else 0.0

    def beyond(self, n: int) -> float:
        """The share, 0 to 1, of the matrix's norm that its first `n` directions leave over."""
        squares = self.values**2
        whole = float(squares.sum())
        return float(np.sqrt(squares[n:].sum() / whole)) if whole > 0 else 0.0


def spectrum(x: Float[Array, " m d"], noise: float = 0.0) -> Spectrum:
    """The singular values of `x`, with the floor that rounding sets.

    An m x d matrix of independent noise of standard deviation s has singular values up to s (sqrt m + sqrt d)
    (Vershynin 2018, High-Dimensional Probability, theorem 4.4.5); the floor is twice that, and never below what
    the computation of the values itself loses.

    Args:
        x: finite values.
        noise: standard deviation of what is known to have been added to an entry (rounding).
    """
    part = _greatest(_greatest(x.astype(np.float64)).T).T
    m, d = part.shape
    values = np.linalg.svd(part, compute_uv=False)
    most = float(values[0]) if len(values) else 0.0
    rounding = 4 * (_EPS["float64"] if x.dtype == np.float64 else _EPS["float32"]) * most
    return Spectrum(values, max(2 * noise * (np.sqrt(m) + np.sqrt(d)), rounding), (x.shape[0], x.shape[1]))


def _greatest(x: Float[Array, " m d"]) -> Float[Array, " k d"]:
    """The rows of greatest norm, at most `WIDEST`."""
    if len(x) <= WIDEST:
        return x
    return x[np.sort(np.argsort(-np.linalg.norm(x, axis=1), kind="stable")[:WIDEST])]
