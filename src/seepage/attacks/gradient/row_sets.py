"""Directions that are zero on drawn sets of rows, many sets at once."""

from itertools import combinations, pairwise

import numpy as np
import torch
from jaxtyping import Float, Int

Array = np.ndarray

# Rows beside a set that a draw tests: two of them that agree make a candidate.
TESTED = 6
# A sorting network of six.
_NETWORK = ((0, 5), (1, 3), (2, 4), (1, 2), (3, 4), (0, 3), (2, 5), (0, 1), (2, 3), (4, 5), (1, 2), (3, 4))


def unseen(unit: torch.Tensor, sets: Int[Array, " n k"], near: float) -> Float[Array, " c b"]:
    """A direction that is zero on all rows of a set, for each set that has one.

    Args:
        unit: (m, b) rows of length 1.
        sets: (n, k) rows of each draw, k >= b.
        near: what counts as zero.
    """
    rows = unit[torch.from_numpy(sets)]
    square = rows.mT @ rows
    # Inverted, the space that the rows do not reach outweighs all else.
    inverse, _ = torch.linalg.inv_ex(square + 1e-14 * torch.eye(unit.shape[1], dtype=unit.dtype))
    length, most = inverse.norm(dim=1).max(dim=1)
    q = inverse[torch.arange(len(inverse)), :, most] / length[:, None]
    zero = (rows @ q[:, :, None]).abs().amax(dim=(1, 2)) < max(near, 1e-5)
    return q[zero & torch.isfinite(q).all(dim=1)].numpy()


def candidates(unit: torch.Tensor, sets: Int[Array, " n k"], near: float) -> Float[Array, " c b"]:
    """Directions that are zero on all rows of a set but two, and on two rows that were set aside for testing.

    Multiplied by the inverse of the matrix of a set's first b rows, that set becomes the unit vectors, and a
    direction that is zero on all of it but rows i and j has two entries. Their ratio is told by any further row
    on which it is zero: the same by every one. One inverse thus serves b (b - 1) / 2 subsets of b - 2 rows, each
    of which stands for all subsets of b - 1 rows above it.

    Args:
        unit: (m, b) rows of length 1.
        sets: (n, b + 6) rows of each draw.
        near: by how much of themselves two ratios may differ and count as one.
    """
    b = unit.shape[1]
    inverse, info = torch.linalg.inv_ex(unit[torch.from_numpy(sets[:, :b])])
    size = inverse.norm(dim=1, keepdim=True)
    # A set whose rows are nearly dependent lies in what two records share, and tells nothing.
    good = (info == 0) & (size.amax(dim=(1, 2)) < 1e6)
    inverse, tested = (inverse / size)[good], unit[torch.from_numpy(sets[:, b:])][good]
    seen = torch.bmm(tested, inverse).float().permute(1, 2, 0).contiguous()
    first, second = (torch.tensor(side) for side in zip(*combinations(range(b), 2), strict=True))
    tiny = seen.abs() < max(1e-6, near)
    ratio = torch.where(tiny[:, first] & tiny[:, second], torch.inf, seen[:, first] / seen[:, second])
    rising = list(ratio.unbind(0))
    for i, j in _NETWORK:
        rising[i], rising[j] = torch.minimum(rising[i], rising[j]), torch.maximum(rising[i], rising[j])
    hit, value = torch.zeros_like(rising[0], dtype=torch.bool), torch.zeros_like(rising[0])
    for low, high in pairwise(rising):
        same = (high - low) <= near * (low.abs() + 1e-3)
        value, hit = torch.where(same, low, value), hit | same
    pair, draw = torch.nonzero(hit, as_tuple=True)
    # The ratio again in double precision, from the tested row that says it best.
    rows = torch.arange(len(pair))
    above = torch.bmm(tested[draw], inverse[draw][rows, :, first[pair]].unsqueeze(2)).squeeze(2)
    below = torch.bmm(tested[draw], inverse[draw][rows, :, second[pair]].unsqueeze(2)).squeeze(2)
    exact = above / below
    off = (exact - value[pair, draw].double()[:, None]).abs()
    share = exact[rows, torch.where(off.isnan(), torch.inf, off).argmin(dim=1)]
    q = inverse[draw, :, first[pair]] - share[:, None] * inverse[draw, :, second[pair]]
    q = q / q.norm(dim=1, keepdim=True)
    return q[torch.isfinite(q).all(dim=1)].numpy()
