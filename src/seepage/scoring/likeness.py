"""Likeness in a space of features: neighbours, precision, recall, density, coverage, Frechet distance.

Everything here is about points, (n, d) arrays, and knows nothing of classes or judges.

Sources: T. Kynkäänniemi, T. Karras, S. Laine, J. Lehtinen, T. Aila 2019, Improved Precision and Recall
Metric for Assessing Generative Models, NeurIPS; M. F. Naeem, S. J. Oh, Y. Uh, Y. Choi, J. Yoo 2020,
Reliable Fidelity and Diversity Metrics for Generative Models, ICML; D. C. Dowson, B. V. Landau 1982,
The Fréchet distance between multivariate normal distributions, J. Multivariate Analysis 12;
O. Ledoit, M. Wolf 2004, A well-conditioned estimator for large-dimensional covariance matrices,
J. Multivariate Analysis 88.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh
from scipy.spatial.distance import cdist
from sklearn.covariance import ledoit_wolf

from seepage.core.errors import DataError

Array = np.ndarray

NEIGHBOURS = 3


def distances(a: Float[Array, " m d"], b: Float[Array, " n d"]) -> Float[Array, " m n"]:
    """Euclidean distances, exactly zero between equal points."""
    return cdist(a, b)


def radii(points: Float[Array, " n d"], k: int = NEIGHBOURS) -> Float[Array, " n"]:
    """Distance of each point to its k-th nearest other one; NaN with fewer than k + 1 points."""
    if len(points) < k + 1:
        return np.full(len(points), np.nan)
    # The nearest of all is the point itself.
    return np.partition(distances(points, points), k, axis=1)[:, k]


@dataclass(frozen=True)
class Overlap:
    """How one set of m fakes lies in each of g sets of reals, n in a set. NaN: too few points to compute it.

    Attributes:
        nearest: (m, g) distance of each fake to the nearest real of each set.
        precision: (g,) share of fakes in the ball of some real, [0, 1] (Kynkäänniemi et al. 2019).
        recall: (g,) share of reals in the ball of some fake, [0, 1]; needs k + 1 fakes.
        density: (g,) 1/(k m) times the number of pairs of a fake in the ball of a real, [0, n/k]; 1 is
            expected of fakes drawn like the reals (Naeem et al. 2020). It is divided by the number of
            fakes, never by that of reals.
        coverage: (g,) share of reals whose ball holds some fake, [0, 1] (Naeem et al. 2020).
    """

    nearest: Float[Array, " m g"]
    precision: Float[Array, " g"]
    recall: Float[Array, " g"]
    density: Float[Array, " g"]
    coverage: Float[Array, " g"]


def overlap(
    fakes: Float[Array, " m d"], reals: Sequence[Float[Array, " _ d"]], balls: Sequence[Float[Array, " _"]], k: int
) -> Overlap:
    """Precision, recall, density and coverage of fakes against each set of reals.

    The ball of a point reaches out to its k-th neighbour of its own set. It is open, so that equal sets have
    density 1, and always holds its own centre, so that copies of a record are no hole in it.

    Args:
        fakes: the one set.
        reals: the others.
        balls: for each of them its `radii`, with the same k.
        k: the neighbour that a ball reaches out to.

    Raises:
        DataError: without fakes, without reals, or with an empty set of them.
    """
    sizes = np.array([len(one) for one in reals])
    if not len(fakes) or not len(sizes) or not sizes.min():
        raise DataError(f"fakes and reals were wanted, got {len(fakes)} fakes and sets of {sizes.tolist()} reals")
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    apart, reach, around = distances(fakes, np.concatenate(reals)), np.concatenate(balls), radii(fakes, k)
    in_reals = (apart < reach) | (apart == 0)
    in_fakes = ((apart < around[:, None]) | (apart == 0)).any(axis=0)
    few_reals, few_fakes = np.isnan(reach[starts]), bool(np.isnan(around[0]))
    return Overlap(
        nearest=np.minimum.reduceat(apart, starts, axis=1),
        precision=np.where(few_reals, np.nan, np.logical_or.reduceat(in_reals, starts, axis=1).mean(axis=0)),
        recall=np.where(few_fakes, np.nan, np.add.reduceat(in_fakes, starts, dtype=np.float64) / sizes),
        density=np.where(few_reals, np.nan, np.add.reduceat(in_reals.sum(axis=0), starts) / (k * len(fakes))),
        coverage=np.where(few_reals, np.nan, np.add.reduceat(in_reals.any(axis=0), starts, dtype=np.float64) / sizes),
    )


def frechet_of_normals(
    mean_a: Float[Array, " d"], cov_a: Float[Array, " d d"], mean_b: Float[Array, " d"], cov_b: Float[Array, " d d"]
) -> float:
    """The squared Fréchet distance of two normal distributions, in squared units of the features.

        |mean_a - mean_b|² + tr(cov_a + cov_b - 2 (cov_a^½ cov_b cov_a^½)^½)

    Source: Dowson and Landau 1982.
    """
    values, axes = eigh(cov_a)
    root = (axes * np.sqrt(np.maximum(values, 0))) @ axes.T
    inner = np.maximum(eigh(root @ cov_b @ root, eigvals_only=True), 0)
    gap = float(np.square(mean_a - mean_b).sum())
    return max(gap + float(np.trace(cov_a) + np.trace(cov_b)) - 2 * float(np.sqrt(inner).sum()), 0.0)


def frechet(a: Float[Array, " m d"], b: Float[Array, " n d"]) -> float | None:
    """The squared Fréchet distance between two sets of points; None with fewer than 2 in either.

    Covariances are shrunk towards a multiple of the identity (Ledoit and Wolf 2004), as much as their
    few points ask for. What bias is left depends on the number of points: compare sets of one size.
    """
    if len(a) < 2 or len(b) < 2:
        return None
    return frechet_of_normals(a.mean(axis=0), ledoit_wolf(a)[0], b.mean(axis=0), ledoit_wolf(b)[0])
