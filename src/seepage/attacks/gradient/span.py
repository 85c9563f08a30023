"""The span test: which vectors can have been inputs of a layer whose gradient was seen.

For y = W x the gradient of any loss is dW = sum_i (dL/dy_i) x_i^T: its rows are combinations of the inputs, and with
fewer inputs than `d` numbers each, all other vectors stand out of the space that the rows span.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Array = np.ndarray

# A spectrum that falls by this factor from one value to the next ends there: what follows is rounding.
CLEAN = 50.0
# Rows are brought to one length, but none raised by more than this: what is shorter is rounding itself.
RAISED = 1e4
# Of eight directions so many may be taken for the inputs' where the error is no plain noise: some must be left.
LEFT = 7
# No input is asked to lie nearer than this; a bound beyond the other one tells nothing (shares of its length).
NEAREST, FARTHEST = {torch.float32: 1e-4, torch.float64: 1e-7}, 0.2


@dataclass(frozen=True)
class Span:
    """The space that a layer's inputs span, as its gradient shows it.

    Attributes:
        directions: (d, m) orthonormal, those with most of the gradient first; the first `rank` span the space.
        rank: r, how many of them.
        tolerance: the share of its length by which an input may stand out of the space, by the bound below.
        noisy: whether the spectrum has no clear end, so that `tolerance` says nothing.
        level: whether rows were brought to one length first.
    """

    directions: Tensor
    rank: int
    tolerance: float
    noisy: bool
    level: bool = False

    @property
    def size(self) -> int:
        """d, how many numbers an input has."""
        return int(self.directions.shape[0])

    @property
    def basis(self) -> Tensor:
        """(d, r) the directions that span the space."""
        return self.directions[:, : self.rank]

    def at(self, rank: int) -> "Span":
        """The space of so many directions, taken for noisy."""
        return replace(self, rank=min(rank, self.directions.shape[1]), tolerance=FARTHEST, noisy=True)

    def by_rank(self, vectors: Tensor, ranks: Sequence[int]) -> Tensor:
        """(len(ranks), ...) the share of the square of vectors (..., d) within so many directions, rising ranks."""
        flat = vectors.reshape(-1, self.size).to(self.directions.dtype)
        parts = [(flat @ self.directions[:, low:high]).square().sum(dim=1) for low, high in pairwise((0, *ranks))]
        share = torch.stack(parts).cumsum(dim=0) / flat.square().sum(dim=1).clamp_min(1e-30)
        return share.reshape(len(ranks), *vectors.shape[:-1])

    @classmethod
    def of(cls, gradient: Float[Array, " k d"], level: bool | None = None) -> "Span":
        """The span of the rows of a gradient, in its own precision.

        With s the singular values, r their number above the error and e the largest one of the error, an input
        x = G^T a of the true gradient G stands out by |E a| <= e |a| <= e |x| / s_r; a fifth of that bound, which
        needs every error to conspire, is the tolerance (half of it, where errors were made alike: they then weigh as
        much in the weakest direction as in any). A spectrum that falls by `CLEAN` somewhere ends there.
        Otherwise the error is taken for noise of one variance, and r counts the values above the edge of its
        spectrum (Marchenko and Pastur 1967).

        Rows of any lengths span the same space, and rounding errs by a share of each: with rows of one length the
        small ones of query and key, which tell tokens apart, are not lost in the errors of the value's, which are
        much the same for all tokens where the loss sees a text through one token. An error that is as large in all
        rows (noise, or the rounding of weights of which an update is the difference) is better left as it is. Of
        two spectra with a clear end that with more values above it is taken, else the one that falls more.

        Args:
            gradient: its rows are combinations of a layer's inputs.
            level: whether rows are brought to one length; None takes what ends more clearly.
        """
        rows = torch.from_numpy(np.ascontiguousarray(gradient))
        dtype = torch.float64 if rows.dtype is torch.float64 else torch.float32
        if level is not None:
            return cls._read(rows, dtype, level)[0]
        plain, fall = cls._read(rows, dtype, level=False)
        found, other = cls._read(rows, dtype, level=True)
        if min(fall, other) >= CLEAN and found.rank != plain.rank:
            # What all inputs share can end as clearly as the space does: more directions are nearer its end.
            return max(found, plain, key=lambda space: space.rank)
        return found if other >= max(fall, CLEAN) else plain

    @classmethod
    def _read(cls, rows: Float[Tensor, " k d"], dtype: torch.dtype, level: bool) -> "tuple[Span, float]":
        """The span, and the factor by which the spectrum falls where it falls most."""
        k, d = rows.shape
        values, basis = _right(levelled(rows.double()) if level else rows.double())
        basis = basis.to(dtype)
        top = float(values[0]) if len(values) else 0.0
        if top <= 0:
            return cls(basis, 0, NEAREST[dtype], False, level), 0.0
        least = 0.05 * float(torch.finfo(dtype).eps) * top
        spectrum = np.maximum(values.numpy(), least)
        falls = spectrum[:-1] / spectrum[1:]
        r = int(falls.argmax()) + 1
        fall = float(falls[r - 1])
        if fall < CLEAN:
            r = min(above_noise(spectrum, k, d), LEFT * d // 8)
        bound = float(spectrum[r] / spectrum[r - 1]) if 0 < r < len(spectrum) else 1.0
        return cls(basis, r, max((0.5 if level else 0.2) * bound, NEAREST[dtype]), bound > FARTHEST, level), fall

    def apart(self, vectors: Tensor) -> Tensor:
        """How far vectors (..., d) stand out of the space, as a share of their length: 0 in it, 1 at right angles."""
        flat = vectors.reshape(-1, self.size).to(self.basis.dtype)
        length = flat.square().sum(dim=1).clamp_min(1e-30)
        inside = (flat @ self.basis).square().sum(dim=1)
        found = (1 - inside / length).clamp_min(0).sqrt()
        # The difference of two near numbers loses digits: those that are near are computed again, as a vector.
        near = torch.nonzero(found < 0.05)[:, 0]
        if len(near):
            close = flat[near]
            rest = close - (close @ self.basis) @ self.basis.T
            found[near] = rest.norm(dim=1) / length[near].sqrt()
        return found.reshape(vectors.shape[:-1])


def levelled(rows: Float[Tensor, " k d"]) -> Float[Tensor, " k d"]:
    """The rows brought to one length, none raised by more than `RAISED`."""
    length = rows.norm(dim=1, keepdim=True)
    return rows / length.clamp_min(float(length.max()) / RAISED).clamp_min(1e-300)


def _right(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values, falling, and the right singular vectors (d, min(k, d)).

    In double precision: the decomposition is not to add an error to that of the gradient.
    """
    if rows.shape[0] > rows.shape[1]:
        # The triangle has the same right vectors and is smaller.
        rows = torch.linalg.qr(rows, mode="r").R
    _, values, right = torch.linalg.svd(rows, full_matrices=False)
    return values, right.T


def above_noise(spectrum: Float[Array, " d"], k: int, d: int) -> int:
    """How many singular values of a k x d matrix stand above those of noise of one variance.

    The edge of the noise's spectrum is sigma (sqrt(k) + sqrt(d)); sigma is taken from the median of the values
    below it, in turns until nothing changes. The median of the Marchenko-Pastur law is drawn, not looked up.
    """
    r = 0
    for _ in range(20):
        rest = spectrum[r:]
        if len(rest) < 4:
            return len(spectrum)
        edge = float(np.median(rest)) * _edge_by_median(k - r, d - r) * 1.02
        found = int((spectrum > edge).sum())
        if found <= r:
            return r
        r = found
    return r


def _edge_by_median(k: int, d: int) -> float:
    """The edge of the Marchenko-Pastur spectrum over its median, for a k x d matrix of noise."""
    k, d = max(k, d), min(k, d)
    ratio = d / k
    low, high = (1 - np.sqrt(ratio)) ** 2, (1 + np.sqrt(ratio)) ** 2
    x = np.linspace(low, high, 2002)[1:-1]
    mass = np.cumsum(np.sqrt((high - x) * (x - low)) / x)
    return float(np.sqrt(high / x[np.searchsorted(mass, mass[-1] / 2)]))


def outlying(apart: Tensor) -> Tensor:
    """(v, ...) how many standard deviations each candidate's log-odds lie below the middle, along the first axis.

    Middle and spread are median and median absolute deviation, on which a few true inputs have no hold.
    """
    squared = apart.double().square().clamp(1e-12, 1 - 1e-12)
    odds = squared.log() - (1 - squared).log()
    middle = odds.median(dim=0).values
    spread = (odds - middle).abs().median(dim=0).values / 0.6745
    return (middle - odds) / spread.clamp_min(1e-9)
