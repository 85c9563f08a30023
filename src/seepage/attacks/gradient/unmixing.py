"""Independent components: from mixtures of pictures to the pictures, up to order and scale."""

import warnings

import numpy as np
import torch
from jaxtyping import Float
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning
from torch.nn import functional

Array = np.ndarray

# Weights of total variation and of decorrelation, its sharpness T, and the rate: the published command for
# Tiny-ImageNet, batches of 128 (facebookresearch/cocktail_party_attack, README).
VARIATION, DECORRELATION, SHARPNESS, RATE = 3.1, 1.47, 12.4, 1e-3


def edges(mixed: Float[Array, " b d"], shape: tuple[int, ...]) -> Float[Array, " b e"]:
    """Differences of neighbouring values of each mixture, where it is a picture; the mixture itself otherwise.

    Differences are mixed as the pictures are. Those of pictures are mostly near zero and far from Gaussian, where
    pixel values are neither, and hardly depend on each other from one picture to the next, where brightness does.
    """
    if len(shape) != 3 or min(shape[1:]) < 2:
        return mixed
    pictures = mixed.reshape(len(mixed), *shape)
    return np.concatenate([np.diff(pictures, axis=axis).reshape(len(mixed), -1) for axis in (2, 3)], axis=1)


def components(mixed: Float[Array, " b d"], rng: np.random.Generator) -> Float[Array, " b b"]:
    """The rows w for which w @ mixed is as far from Gaussian as can be, uncorrelated with each other.

    FastICA (Hyvarinen 1999) with the contrast log cosh.
    """
    seed = int(rng.integers(2**31))
    ica = FastICA(len(mixed), fun="logcosh", whiten="unit-variance", max_iter=1000, tol=1e-6, random_state=seed)
    with warnings.catch_warnings():
        # A component that wavers is still the best there is; what is made of it is checked elsewhere.
        warnings.simplefilter("ignore", ConvergenceWarning)
        ica.fit(mixed.T)
    return ica.components_


def published(mixed: Float[Array, " b d"], shape: tuple[int, ...], steps: int) -> Float[Array, " b b"]:
    """The same by the objective of Kariyappa et al. 2023: Adam from the whitened mixtures themselves.

    minimise over unit rows w
        - mean_i E[log cosh(w_i X)]^2 + tv mean|d(w_i X + mean)| + decor mean(exp(T |w_i.w_j|) - 1)
    with X the centred, whitened mixtures. (The published code computes the first term and then sets it to zero.)
    """
    mean = mixed.mean(axis=1, keepdims=True)
    _, size, axes = np.linalg.svd(mixed - mean, full_matrices=False)
    left = np.linalg.lstsq(axes.T * size, (mixed - mean).T, rcond=None)[0].T
    whiten = np.sqrt(mixed.shape[1] - 1) * np.diag(1 / size) @ left.T
    x, shift = torch.from_numpy(whiten @ (mixed - mean)), torch.from_numpy(whiten @ mean)
    rows = torch.eye(len(mixed), dtype=torch.float64, requires_grad=True)
    descent = torch.optim.Adam([rows], lr=RATE)
    for _ in range(steps):
        w = functional.normalize(rows, dim=1)
        sources = w @ x
        gauss = -(torch.log(torch.cosh(sources)).mean(dim=1) ** 2).mean()
        pictures = (sources + w @ shift).reshape(len(mixed), *shape)
        across = [d for d in (-1, -2) if pictures.dim() == 4]
        variation = sum((pictures.diff(dim=d).abs().mean() for d in across), torch.zeros((), dtype=torch.float64))
        alike = (torch.exp((w @ w.T).abs() * SHARPNESS) - 1).mean()
        loss = gauss + VARIATION * variation + DECORRELATION * alike
        descent.zero_grad()
        loss.backward()
        descent.step()
    return functional.normalize(rows, dim=1).detach().numpy() @ whiten
