"""Sparse columns of a low-rank matrix: which mixtures of its columns are zero on many of its rows?

The gradient of a fully connected layer is D X, D (m, b) the gradients before the layer's activation and X
(b, d) its inputs. Behind a ReLU a column of D is zero wherever the neuron was off for that record, so that the
columns are the sparse vectors of the column space (Dimitrov et al. 2024). They are sought in the space of the
left singular vectors U, as directions q with many zeros in U q.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import norm

from seepage.attacks.gradient.low_rank import ZERO, Factors, parallel
from seepage.attacks.gradient.row_sets import TESTED, candidates, unseen

Array = np.ndarray

# Sets of rows drawn at once.
DRAWN = 128
# How many times the draws up to the last find are drawn for the next one, before it is given up.
PATIENCE = 20
# The least share of neurons on their side of a fitted plane.
PARTED = 0.93
# The same for a candidate that is yet to be settled.
MAYBE = 0.8
# Steps of that fit.
FITTED = 25
# Candidates of one draw that are looked through without a find, those that are parted best first.
LOOKED = 16
# Of how many records the mixtures are searched that are zero on the same rows.
SHARED = 3


@dataclass
class Search:
    """The directions found so far, and how they are drawn for.

    Attributes:
        factors: of the gradient.
        positive: (m,) how far each live neuron's input is expected above zero, in units of its spread; what is
            below is likely off, and likely zero in a column.
        sides: (m, k) an orthonormal basis of what the inputs of the live neurons can be, as the record varies in
            the space of the records: a neuron is off where they are negative.
        least: the least share of zeros in a column.
        found: unit vectors q.
        zeros: for each of them, (m,) where its column is zero.
        refused: directions not to be found again.
        flats: (b, c) spaces of mixtures that are zero on the same rows, once looked through.
        drawn: sets of rows drawn.
    """

    factors: Factors
    positive: Float[Array, " m"]
    sides: Float[Array, " m k"]
    least: float = 0.03
    found: list[Float[Array, " b"]] = field(default_factory=list[Array])
    zeros: list[Bool[Array, " m"]] = field(default_factory=list[Array])
    refused: list[Float[Array, " b"]] = field(default_factory=list[Array])
    flats: list[Float[Array, " b c"]] = field(default_factory=list[Array])
    drawn: int = 0
    _looked: int = 0

    @property
    def _fewest(self) -> float:
        """The least share of zeros that is looked at: half of what the found ones have."""
        return max(self.least, 0.5 * min((float(z.mean()) for z in self.zeros), default=0.0))

    @property
    def complete(self) -> bool:
        return len(self.found) == self.factors.rank

    def run(self, samples: int, rng: np.random.Generator, spare: int = 0) -> None:
        """Draws until there is a direction for every record but `spare`, or `samples` sets are drawn in all."""
        f = self.factors
        wanted = f.rank - spare
        if f.rank == 1 and not self.found:
            self.found, self.zeros = [np.ones(1)], [np.zeros(len(f.unit), dtype=bool)]
        unit = torch.from_numpy(f.unit)
        if 2 <= f.rank <= SHARED:
            self._consider(np.array(self._among(np.eye(f.rank))).reshape(-1, f.rank))
        most = len(f.distinct)
        if most < f.rank + TESTED:
            return
        pools = sorted({min(k * (f.rank + TESTED), most) for k in (2, 4, 8, 16, most)})
        turn, last = 0, self.drawn
        while len(self.found) < wanted and self.drawn < min(samples, PATIENCE * last + samples // 4):
            last = self.drawn
            off = self._off()[f.distinct]
            order = np.argsort(-off, kind="stable")
            ranked, off = f.distinct[order], off[order]
            before = len(self.found)
            while len(self.found) == before and self.drawn < min(samples, PATIENCE * last + samples // 4):
                size = pools[turn % len(pools)]
                self._consider(self._draw(unit, ranked[:size], float(off[:size].mean()), turn // len(pools), rng))
                turn += 1
                self.drawn += DRAWN

    def offer(self, q: Float[Array, " n b"]) -> None:
        """Keeps those of the directions that prove to be right, wherever they come from."""
        self._consider(q)

    def add(self, q: Float[Array, " b"]) -> None:
        """Keeps a direction that was proved elsewhere, if it is none of those found, nor a mixture of them."""
        if self._new(q[None])[0]:
            self.found.append(q)
            self.zeros.append(np.abs(self.factors.unit @ q) < self.factors.tolerance(q))

    def _draw(
        self, unit: torch.Tensor, pool: Int[Array, " k"], off: float, lap: int, rng: np.random.Generator
    ) -> Float[Array, " c b"]:
        """Candidates from random sets of these rows, off with this probability.

        As many rows are wanted as one record alone, of the b, is expected to leave off. Where rows are so likely
        off that those are more than b, the candidates are what is zero on all of them.
        """
        b, near = self.factors.rank, self.factors.near
        wanted = int(np.log(b) / -np.log(min(off, 0.999)) * (0.7, 1.0, 1.4)[lap % 3])
        many = min(wanted, len(pool)) if wanted > b else b + TESTED
        scattered = rng.random((DRAWN, len(pool))).argpartition(many - 1, axis=1)[:, :many]
        if wanted > b:
            return unseen(unit, pool[scattered], near)
        return candidates(unit, pool[rng.permuted(scattered, axis=1)], near)

    def _off(self) -> Float[Array, " m"]:
        """(m,) how likely each neuron is off for a record not found yet: so it is for those found, or by its input."""
        so_far = np.sum(self.zeros, axis=0) if self.zeros else 0.0
        return (so_far + 3 * norm.cdf(-self.positive)) / (len(self.zeros) + 3)

    def _consider(self, q: Float[Array, " n b"]) -> None:
        """Keeps those of the candidates that prove to be directions."""
        f = self.factors
        if not len(q):
            return
        q = q[self._new(q)]
        zero = np.abs(q @ f.unit.T) < f.coarse
        enough = zero.mean(axis=1) >= 0.8 * self._fewest
        parted = self._parted(zero[enough])
        q = q[enough][np.argsort(-parted, kind="stable")[: int((parted > MAYBE).sum())]]
        q = q[self._apart(q)]
        looked = self._looked + LOOKED
        while len(q) and not self.complete and self._looked < looked:
            found, flats = len(self.found), len(self.flats)
            for better in self._settled(q[0], f.coarse):
                if not self.complete and self._new(better[None])[0]:
                    self._keep(better)
            q = q[1:]
            if len(self.found) > found:
                looked = self._looked + LOOKED
                q = q[self._new(q)]
            if len(self.flats) > flats:
                q = q[self._apart(q)]

    def _new(self, q: Float[Array, " n b"]) -> Bool[Array, " n"]:
        """(n,) whether directions are none of those found, nor mixtures of them, nor refused."""
        new = np.ones(len(q), dtype=bool)
        if self.refused:
            new &= np.abs(np.array(self.refused) @ q.T).max(axis=0) < 1 - 1e-6
        if self.found:
            basis = np.linalg.qr(np.array(self.found).T)[0]
            new &= np.linalg.norm(q - q @ basis @ basis.T, axis=1) > self.factors.near
        return new

    def _apart(self, q: Float[Array, " n b"]) -> Bool[Array, " n"]:
        """(n,) whether directions lie in none of the spaces that were looked through."""
        if not self.flats or not len(q):
            return np.ones(len(q), dtype=bool)
        sizes = np.array([null.shape[1] for null in self.flats])
        inside = np.add.reduceat((q @ np.concatenate(self.flats, axis=1)) ** 2, np.cumsum(sizes) - sizes, axis=1)
        return inside.max(axis=1) < 1 - 2 * self.factors.near

    def _keep(self, q: Float[Array, " b"]) -> None:
        zero = np.abs(self.factors.unit @ q) < self.factors.tolerance(q)
        if self._parted(zero[None], 10 * FITTED)[0] > PARTED:
            self.found.append(q)
            self.zeros.append(zero)

    def drop(self, rows: Int[Array, " k"]) -> None:
        """Gives up one of these directions: the one whose zeros a plane parts worst from the rest."""
        among = set(rows.tolist())
        worst = next(row for row in self.doubtful() if row in among)
        self.refused.append(self.found.pop(worst))
        self.zeros.pop(worst)

    def doubtful(self) -> list[int]:
        """The directions found, those first whose zeros a plane parts worst from the rest."""
        if not self.zeros:
            return []
        return np.argsort(self._parted(np.array(self.zeros), 10 * FITTED), kind="stable").tolist()

    def closed(self, off: Bool[Array, " m"], others: Float[Array, " k b"]) -> tuple[Array, bool] | None:
        """The direction (b,) that is zero where a record is known to be off, and whether it is the only one.

        None where there is none.

        Args:
            off: the neurons that it leaves off.
            others: the directions of other records. Where another is zero on all these rows too, the part that
                differs from it most is taken: what serves for all records but the other.
        """
        rows = np.nonzero(off)[0]
        if len(rows) < self.factors.rank:
            return None
        null = self._null(rows)
        basis = np.linalg.qr(others.T)[0]
        left = null - basis @ (basis.T @ null)
        main = np.linalg.svd(left)[2][0]
        if np.linalg.norm(left @ main) < self.factors.near:
            return None
        q = null @ main
        zero = np.abs(self.factors.unit[rows] @ q) < self.factors.tolerance(q)[rows]
        return (q, null.shape[1] == 1) if zero.mean() > 0.99 else None

    def _settled(self, q: Float[Array, " b"], coarse: float) -> list[Float[Array, " b"]]:
        """The directions that a candidate leads to, each fixed by all rows that are zero under it.

        The zero rows have to be of rank b - 1 without any single row: otherwise any row at all could have
        been made zero. Where they are of rank b - 2, as where two records share them, the two directions
        are among the mixtures that are zero there.
        """
        f = self.factors
        unit = f.unit
        for least in (coarse, max(1e-8, 10 * f.blur), ZERO):
            zero = np.nonzero(np.abs(unit @ q) < f.tolerance(q, least))[0]
            if len(zero) < max(f.rank, self._fewest * len(unit)):
                return []
            null = self._null(zero)
            self._looked += 1
            if null.shape[1] > SHARED:
                return []
            if null.shape[1] > 1:
                self.flats.append(null)
                return [p for one in self._among(null) for p in self._refined(one)]
            q = null[:, 0]
        return [np.linalg.svd(unit[zero], full_matrices=False)[2][-1]]

    def _refined(self, q: Float[Array, " b"]) -> list[Float[Array, " b"]]:
        """The direction fixed by its zero rows, where they fix one."""
        zero = np.nonzero(np.abs(self.factors.unit @ q) < self.factors.tolerance(q, 1e-8))[0]
        if len(zero) < max(self.factors.rank, self._fewest * len(self.factors.unit)):
            return []
        null = self._null(zero)
        return [null[:, 0]] if null.shape[1] == 1 else []

    def _parted(self, zero: Bool[Array, " n m"], steps: int = FITTED) -> Float[Array, " n"]:
        """(n,) how well a plane through the neurons' weights parts those that are zero from the others, as a share.

        Well for those that one record leaves off. Where there are more records than classes, mixtures of
        columns vanish also on rows that *all* of some records move (the gradients of the logits are dependent);
        with records that look alike such rows are many, but they lie on both sides of any plane.
        """
        signs = np.where(zero, -1.0, 1.0)
        count = zero.sum(axis=1, keepdims=True)
        margin = np.where(zero, 1 / np.maximum(count, 1), 1 / np.maximum(zero.shape[1] - count, 1))
        fitted = margin
        for _ in range(steps):
            fitted = signs * ((signs * margin) @ self.sides @ self.sides.T)
            # Ho and Kashyap 1965: margins that are exceeded grow, which finds the plane where there is one.
            margin = margin + np.maximum(fitted - margin, 0)
        return (fitted > 0).mean(axis=1)

    def _null(self, rows: Int[Array, " k"]) -> Float[Array, " b c"]:
        """(b, c) what is zero on all of these rows but those that stand for a dimension alone."""
        f = self.factors
        small = f.coarse
        given = f.unit[rows]
        s, v = _axes(given, small)
        # Leverage 1: the row alone stands for a dimension.
        alone = ((given @ v[: len(s)].T / s) ** 2).sum(axis=1) > 0.999
        if alone.any():
            s, v = _axes(given[~alone], small)
        return v[len(s) :].T

    def _among(self, null: Float[Array, " b c"]) -> list[Float[Array, " b"]]:
        """The mixtures of some vectors that are zero on more rows than other mixtures are."""
        small = self.factors.coarse
        flat = self.factors.unit @ null
        length = np.linalg.norm(flat, axis=1)
        flat = flat[length > small] / length[length > small, None]
        if null.shape[1] > 2:
            # Rows that one record of the group alone moves are parallel; across them lie the mixtures of the others.
            groups = parallel(flat)
            most = sorted((g for g in groups if len(g) > 1), key=len, reverse=True)[: 2 * null.shape[1]]
            across = [np.linalg.svd(flat[g[:1]])[2][1:].T for g in most]
            return [q for side in across for q in self._among(null @ side)]
        angle = np.sort(np.arctan2(flat[:, 1], flat[:, 0]) % np.pi)
        step = np.diff(angle) > max(1e-8, 30 * self.factors.blur)
        edges = np.concatenate([[0], np.nonzero(step)[0] + 1, [len(angle)]])
        counts = np.diff(edges)
        best = [k for k in np.argsort(-counts, kind="stable")[:4] if counts[k] >= 2]
        middle = [angle[(edges[k] + edges[k + 1] - 1) // 2] for k in best]
        return [null @ np.array([-np.sin(a), np.cos(a)]) for a in middle]


def _axes(rows: Float[Array, " k b"], small: float) -> tuple[Float[Array, " r"], Float[Array, " b b"]]:
    """The singular values above `small`, at most b - 1, and all right singular vectors."""
    b = rows.shape[1]
    square, v = np.linalg.eigh(rows.T @ rows)
    square, v = square[::-1], v[:, ::-1].T
    # Squared, values below 1e-7 drown in rounding.
    kept = int((square[: b - 1] > max(small, 1e-6) ** 2).sum())
    return np.sqrt(square[:kept]), v
