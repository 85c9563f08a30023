"""From the last layer back to the first: each input by the equations that its layer's gradient and weights give."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.optimize import root_scalar
from scipy.sparse import block_diag, coo_array, csr_array, vstack
from scipy.sparse.linalg import lsmr
from scipy.special import softmax

from seepage.attacks.gradient.chain import Link

Array = np.ndarray

# Unknowns up to which a layer's equations are factorised; above, they are solved by iterations.
DENSE = 6000
# A matrix whose least singular value is below this share of the greatest does not settle its unknowns.
SETTLED = 1e-4
# Iterations then: where they do not do, the equations hardly settle the input.
ITERATIONS = 400
# Turns of the corrected seminormal equations (Bjorck 1987).
CORRECTIONS = 6


@dataclass(frozen=True)
class Ending:
    """What the last layer was given, and the slope of the loss in its outputs.

    Attributes:
        x: (d,) its input.
        k: (c,) softmax less the label.
    """

    x: Float[Array, " d"]
    k: Float[Array, " c"]


def endings(link: Link, g_weight: Float[Array, " c d"], g_bias: Float[Array, " c"] | None) -> list[Ending]:
    """The inputs of the last layer under which cross-entropy has these gradients.

    With biases k is their gradient. Without, G = k x^T gives x up to a scale, x = s u: the scale solves
    s (softmax(s W u) - onehot) = G u. The label is the one entry of k below zero. With two classes several scales
    may solve it (the twin data of the paper, section 3.2: they have one gradient in all layers); with more,
    all classes have to agree.
    """
    if g_bias is not None:
        power = float(g_bias @ g_bias)
        return [Ending(g_weight.T @ g_bias / power, g_bias)] if power > 0 else []
    left, size, right = np.linalg.svd(g_weight, full_matrices=False)
    if size[0] <= 0:
        return []
    found: list[tuple[float, Ending]] = []
    for sign in (1.0, -1.0):
        u, a = sign * right[0], sign * size[0] * left[:, 0]
        found += _scaled(link, u, a)
    if not found:
        return []
    # Two classes always agree; of more, what agrees as well as the best.
    least = min(off for off, _ in found)
    return [one for off, one in found if off <= max(1e-4, 10 * least)]


def _scaled(link: Link, u: Float[Array, " d"], a: Float[Array, " c"]) -> list[tuple[float, Ending]]:
    """The scales s that solve s (softmax(s W u) - onehot) = a, with how far the classes disagree."""
    label, z = int(a.argmin()), link.weight @ u
    if a[label] >= 0:
        return []

    def off(s: float) -> Array:
        p = softmax(s * z)
        p[label] = -(np.delete(p, label).sum())
        return s * p - a

    # 1 - p < 1, so that the scale is above -a.
    grid = -a[label] * (1 + np.logspace(-8, 8, 600))
    values = np.array([off(s)[label] for s in grid])
    turns = np.nonzero(np.sign(values[:-1]) != np.sign(values[1:]))[0]
    roots = [
        float(root_scalar(lambda s: off(s)[label], bracket=(grid[i], grid[i + 1]), xtol=1e-15, rtol=1e-14).root)
        for i in turns
    ]
    return [(float(np.linalg.norm(off(s)) / np.linalg.norm(a)), Ending(s * u, (off(s) + a) / s)) for s in roots]


def back(links: list[Link], gradients: list[Array], ending: Ending) -> Float[Array, " ..."]:
    """The input of the first layer, from that of the last one.

    For layer l with input x, output z = W x + c and slopes k of the loss in z: W x = z - c (weight constraints), and
    the gradient of the weights is linear in x, K x = G (gradient constraints); the paper's equations 10 and
    11. From x come the z and k of the layer before: z = inverse(x), k = W^T k * slope.

    Args:
        links: of the network.
        gradients: of their weights.
        ending: the input of the last layer and the slopes behind it.
    """
    x, k = ending.x, ending.k
    for place in range(len(links) - 2, -1, -1):
        link, after = links[place], links[place + 1]
        a = x.reshape(link.made)
        k = _through(after, k.reshape(after.made)).reshape(link.made) * link.behind.slope(a)
        known = link.behind.known(a)
        z = np.where(known, link.behind.inverse(a), 0.0)
        x = solved(link, z, known, k, gradients[place])
    return x.reshape(links[0].given)


def _through(link: Link, k: Array) -> Array:
    """W^T k: the slopes of the loss in a layer's input."""
    return weights(link).T @ k.reshape(-1) if link.convolves else link.weight.T @ k


def solved(link: Link, z: Array, known: Bool[Array, " ..."], k: Array, gradient: Array) -> Array:
    """The input of a layer by least squares over its constraints.

    Where the gradient alone settles it (always, for a fully connected layer) the weights are left aside.

    Args:
        link: the layer.
        z: its outputs.
        known: where they are known.
        k: the slopes of the loss in them.
        gradient: of its weights.
    """
    if not link.convolves:
        power = float(k @ k)
        return gradient.T @ k / power if power > 0 else np.zeros(link.given)
    rows, right = slopes(link, k), gradient.transpose(0, 2, 3, 1).reshape(-1, link.given[0])
    left, size, axes = np.linalg.svd(rows, full_matrices=False)
    if len(size) == rows.shape[1] and size[-1] > SETTLED * size[0]:
        return (axes.T @ ((left.T @ right) / size[:, None])).T.reshape(link.given)
    kept = size > 1e-12 * max(float(size[0]), 1e-300)
    # Of each channel the same equations, as few as their rank; as large as those of the weights.
    unit = np.linalg.norm(link.weight) / np.sqrt(len(link.weight)) / max(float(size[0]), 1e-300)
    short = csr_array(unit * size[kept, None] * axes[kept])
    told = (unit * (left.T @ right)[kept]).T.reshape(-1)
    flat, seen = weights(link), known.reshape(-1)
    goal = (z - link.bias[:, None, None]).reshape(-1)
    matrix = csr_array(vstack([flat[seen], block_diag([short] * link.given[0])]))
    return least_squares(matrix, np.concatenate([goal[seen], told])).reshape(link.given)


def least_squares(matrix: csr_array, right: Float[Array, " n"]) -> Float[Array, " d"]:
    """The solution of sparse equations in the sense of least squares, the smallest where there are many."""
    x = np.zeros(len(matrix.T @ right))
    factor = _factor(matrix) if len(x) <= DENSE else None
    if factor is None:
        return lsmr(matrix, right, atol=1e-13, btol=1e-13, maxiter=ITERATIONS)[0]
    for _ in range(CORRECTIONS):
        x = x + cho_solve(factor, matrix.T @ (right - matrix @ x))
    return x


def _factor(matrix: csr_array) -> tuple[Array, bool] | None:
    """The Cholesky factor of A^T A, or None where unknowns are not settled."""
    square = (matrix.T @ matrix).toarray()
    try:
        factor, lower = cho_factor(square, overwrite_a=True, check_finite=False)
    except LinAlgError:
        return None
    least = np.abs(np.diag(factor)).min()
    return (factor, lower) if least > 1e-7 * np.abs(np.diag(factor)).max() else None


def weights(link: Link) -> csr_array:
    """(outputs, inputs) a convolution as a matrix."""
    height, width = link.made[1:]
    parts: list[tuple[Array, Array, Array]] = []
    for i, j, row, column in _taps(link):
        inside = _inside(link, row, column)
        place, seen = np.nonzero(inside.reshape(-1))[0], (row * link.given[2] + column)[inside]
        o, c = np.meshgrid(np.arange(link.made[0]), np.arange(link.given[0]), indexing="ij")
        to = o[:, :, None] * height * width + place
        of = c[:, :, None] * link.given[1] * link.given[2] + seen
        value = np.broadcast_to(link.weight[:, :, i, j, None], to.shape)
        parts.append((value.reshape(-1), to.reshape(-1), of.reshape(-1)))
    value, to, of = (np.concatenate(side) for side in zip(*parts, strict=True))
    shape = (int(np.prod(link.made)), int(np.prod(link.given)))
    return csr_array(coo_array((value, (to, of)), shape=shape))


def slopes(link: Link, k: Float[Array, " o h w"]) -> Float[Array, " e p"]:
    """(out channels x taps, places) K of one input channel: the gradient of a tap sums k over where it looks."""
    found = np.zeros((link.made[0], *link.weight.shape[2:], link.given[1] * link.given[2]))
    for i, j, row, column in _taps(link):
        inside = _inside(link, row, column)
        found[:, i, j, (row * link.given[2] + column)[inside]] = k[:, inside]
    return found.reshape(-1, link.given[1] * link.given[2])


def _taps(link: Link) -> list[tuple[int, int, Array, Array]]:
    """For each tap (i, j) of the kernel the row and the column that it sees from every place."""
    y, x = np.meshgrid(np.arange(link.made[1]), np.arange(link.made[2]), indexing="ij")
    return [
        (
            i,
            j,
            y * link.stride[0] + i * link.dilation[0] - link.padding[0],
            x * link.stride[1] + j * link.dilation[1] - link.padding[1],
        )
        for i in range(link.weight.shape[2])
        for j in range(link.weight.shape[3])
    ]


def _inside(link: Link, row: Array, column: Array) -> Bool[Array, " h w"]:
    return (row >= 0) & (row < link.given[1]) & (column >= 0) & (column < link.given[2])


def settled(link: Link, known: Bool[Array, " ..."], k: Array) -> tuple[int, int, bool]:
    """Rank analysis (Zhu and Blaschko 2021, section 3.4): equations that bear on a layer's input, unknowns, and
    whether the input is settled by them.

    Args:
        link: the layer.
        known: where its outputs are told by what is behind them.
        k: slopes of the loss in its outputs.
    """
    unknowns = int(np.prod(link.given))
    if not link.convolves:
        return unknowns * int(np.abs(k).max() > 0), unknowns, bool(np.abs(k).max() > 0)
    size = np.linalg.svd(slopes(link, k), compute_uv=False)
    rank = int((size > 1e-9 * max(float(size[0]), 1e-300)).sum())
    equations = rank * link.given[0] + int(known.sum())
    if rank == link.given[1] * link.given[2]:
        return equations, unknowns, True
    if equations < unknowns or unknowns > DENSE:
        return equations, unknowns, equations >= unknowns
    _, size, axes = np.linalg.svd(slopes(link, k), full_matrices=False)
    short = csr_array(size[:rank, None] / size[0] * axes[:rank])
    matrix = vstack([weights(link)[known.reshape(-1)], block_diag([short] * link.given[0])])
    return equations, unknowns, _factor(csr_array(matrix)) is not None
