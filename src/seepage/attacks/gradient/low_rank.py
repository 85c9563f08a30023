"""The gradient of a fully connected layer, factorised: its rank, its live rows, and how exactly they are known."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

Array = np.ndarray

# A product of unit vectors below this is zero, where the update has no noise of its own.
ZERO = 1e-9
# Standard deviations of the noise: rounding grows with the row, so that a few are not enough.
SLACK = 30


@dataclass(frozen=True)
class Factors:
    """The gradient of a layer's weights, factorised: G = U S V, rows of dead neurons left out.

    Attributes:
        live: (m,) the rows of the gradient that are not zero.
        left: (m, b) U, of the live rows.
        singular: (b,) the singular values.
        right: (b, d) V.
        noise: standard deviation of an entry of G that its rank does not explain.
        length: (m,) of the rows of `left`.
        unit: (m, b) the rows of `left`, of length 1.
        distinct: (k,) one row of each direction.
    """

    live: Int[Array, " m"]
    left: Float[Array, " m b"]
    singular: Float[Array, " b"]
    right: Float[Array, " b d"]
    noise: float
    length: Float[Array, " m"]
    unit: Float[Array, " m b"]
    distinct: Int[Array, " k"]

    @property
    def rank(self) -> int:
        return len(self.singular)

    def tolerance(self, q: Float[Array, " b"], least: float = ZERO) -> Float[Array, " m"]:
        """(m,) below what |unit @ q| counts as zero, for a unit vector q."""
        return least + SLACK * self.noise * np.linalg.norm(q / self.singular) / self.length

    @property
    def near(self) -> float:
        """By how much two directions may differ and count as one."""
        return max(1e-6, 30 * self.blur)

    @property
    def coarse(self) -> float:
        """What counts as zero under a direction that is not settled yet."""
        return max(1e-6, 100 * self.blur)

    @cached_property
    def blur(self) -> float:
        """By how much a typical row's direction is uncertain."""
        return float(self.noise * np.sqrt((self.singular**-2).mean()) / np.median(self.length))


def numerical_rank(singular: Float[Array, " k"], shape: tuple[int, int], eps: float) -> int:
    """How many singular values stand above rounding, cut at the widest gap there is.

    Args:
        singular: the singular values, falling.
        shape: of the matrix.
        eps: relative precision that it was computed with.
    """
    if not len(singular) or singular[0] <= 0:
        return 0
    floor = eps * singular[0] * np.sqrt(max(shape)) * 0.1
    above = int((singular > floor).sum())
    kept = np.maximum(singular, floor / 10)
    ratio = kept[:-1] / kept[1:]
    if not len(ratio):
        return above
    return int(ratio[: max(above, 1)].argmax()) + 1 if ratio.max() > 10 else above


def factorise(weight: Float[Array, " m d"], rank: int | None = None) -> Factors:
    """The factors of a gradient.

    Args:
        weight: the gradient of the layer's weights.
        rank: how many records there are at the most; None finds it.
    """
    eps = float(np.finfo(weight.dtype).eps)
    g = weight.astype(np.float64)
    lengths = np.linalg.norm(g, axis=1)
    live = np.nonzero(lengths > 10 * eps * max(float(lengths.max(initial=0.0)), 1e-300))[0]
    if not len(live):
        return Factors(live, g[:0, :0], lengths[:0], g[:0], 0.0, lengths[:0], g[:0, :0], live)
    u, s, v = _leading(g[live], 40 if rank is None else rank + 10, eps)
    b = numerical_rank(s, weight.shape, eps)
    b = b if rank is None else min(b, rank)
    rest = float(np.linalg.norm(g[live] - (u[:, :b] * s[:b]) @ v[:b]))
    spread = rest / np.sqrt(max((len(live) - b) * (g.shape[1] - b), 1))
    left = u[:, :b]
    length = np.linalg.norm(left, axis=1)
    # Rows of dead neurons hold noise alone.
    keep = length > max(1e-12, 20 * spread * float(np.linalg.norm(1 / s[:b])))
    live, left, length = live[keep], left[keep], length[keep]
    unit = left / length[:, None]
    return Factors(
        live,
        left,
        s[:b],
        v[:b],
        spread,
        length,
        unit,
        np.sort(np.array([group[0] for group in parallel(unit)], dtype=np.int64)),
    )


def _leading(g: Float[Array, " m d"], count: int, eps: float) -> tuple[Array, Array, Array]:
    """The greatest singular triples of a matrix, as many as stand above rounding.

    By projection on random vectors (Halko, Martinsson and Tropp 2011, algorithm 4.4), more of them until the
    last singular values are those of rounding; exact where the rank is lower than their number.
    """
    most = min(g.shape)
    while True:
        count = min(count, most)
        if count > most // 3:
            return np.linalg.svd(g, full_matrices=False)
        start = np.random.default_rng(0).normal(size=(g.shape[1], count))
        basis = np.linalg.qr(g @ np.linalg.qr(g.T @ np.linalg.qr(g @ start)[0])[0])[0]
        u, s, v = np.linalg.svd(basis.T @ g, full_matrices=False)
        if numerical_rank(s, g.shape, eps) < count - 4:
            return basis @ u, s, v
        count *= 2


def parallel(unit: Float[Array, " m b"]) -> list[Int[Array, " k"]]:
    """The rows in groups of parallel ones: neurons that the same record alone moves are parallel."""
    if not len(unit) or unit.shape[1] < 2:
        return [np.arange(len(unit))] if len(unit) else []
    rng = np.random.default_rng(0)
    ratio = np.divide(*(unit @ rng.normal(size=(unit.shape[1], 2))).T)
    order = np.argsort(ratio, kind="stable")
    same = np.abs((unit[order[1:]] * unit[order[:-1]]).sum(axis=1)) > 1 - 1e-12
    return np.split(order, np.nonzero(~same)[0] + 1)
