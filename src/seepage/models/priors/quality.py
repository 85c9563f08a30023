"""How good a prior is: measured, in features that are fixed formulas and no trained network.

The distance here is a Frechet distance in Gabor features; it is no FID, which is defined by Inception's
features, and no figure of it compares with one.
"""

import math
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch.nn import functional

from seepage.core.records import Records
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Modality
from seepage.models.priors.base import Prior

Array = np.ndarray

_SIDE = 32  # pictures are brought to this side before they are described
_THUMB = 16  # and to this one before near copies are looked for
_ROUNDS = 5  # distances are means over so many draws of the samples
_MOST_HELD_OUT = 500
_FEW = 20  # with fewer records none is held out


def held_out(public: Records, seed: int) -> tuple[Records, Records | None]:
    """Public records to train on, and a tenth (at most 500) to measure against; None of fewer than 20.

    They are drawn at random, so that other pictures of the same people may be among both.
    """
    if len(public) < _FEW:
        return public, None
    order = stream(seed, "prior", "held out").permutation(len(public))
    count = min(max(len(public) // 10, _FEW // 2), _MOST_HELD_OUT)
    return public[np.sort(order[count:])], public[np.sort(order[:count])]


@cache
def _bank() -> torch.Tensor:
    """Gabor filters (16, 1, 11, 11): 2 wavelengths, 4 directions, cosine and sine, of mean 0 and norm 1."""
    reach = torch.arange(-5, 6, dtype=torch.float64)
    y, x = torch.meshgrid(reach, reach, indexing="ij")
    filters: list[torch.Tensor] = []
    for wavelength in (4.0, 8.0):
        envelope = torch.exp(-(x**2 + y**2) / (2 * (wavelength / 2.5) ** 2))
        for direction in range(4):
            angle = direction * math.pi / 4
            along = (x * math.cos(angle) + y * math.sin(angle)) * 2 * math.pi / wavelength
            for wave in (torch.cos(along), torch.sin(along)):
                one = envelope * wave
                one = one - envelope * (one.sum() / envelope.sum())
                filters.append(one / one.norm())
    return torch.stack(filters)[:, None].float()


def features(x: Float[Array, " n ..."], spec: InputSpec) -> Float[Array, " n d"]:
    """What is compared: for pictures 72 Gabor energies on a 3 x 3 grid and a 4 x 4 thumbnail of each channel.

    Energies are those of quadrature pairs of filters (Daugman 1985) on the grey picture brought to 32 x 32.
    Tables are taken as they are, in unit scale.
    """
    unit = torch.from_numpy(spec.bounds.to_unit(x))
    if spec.modality is not Modality.IMAGE:
        return unit.flatten(1).numpy()
    parts = [_described(part) for part in unit.split(512)]
    return torch.cat(parts).numpy() if parts else np.zeros((0, 72 + 16 * spec.shape[0]), dtype=np.float32)


def _described(unit: torch.Tensor) -> torch.Tensor:
    grey = unit.mean(1, keepdim=True)
    same = functional.interpolate(grey, size=(_SIDE, _SIDE), mode="bilinear", antialias=True)
    waves = functional.conv2d(functional.pad(same, (5, 5, 5, 5), mode="replicate"), _bank())
    energy = (waves[:, 0::2] ** 2 + waves[:, 1::2] ** 2 + 1e-8).sqrt()
    thumb = functional.interpolate(unit, size=(4, 4), mode="bilinear", antialias=True)
    return torch.cat([functional.adaptive_avg_pool2d(energy, 3).flatten(1), thumb.flatten(1)], dim=1)


def frechet(a: Float[Array, " n d"], b: Float[Array, " m d"]) -> float:
    """Frechet distance of two samples taken as Gaussians (Dowson & Landau 1982, equation 16): 0 or more.

    |mean_a - mean_b|² + tr(C_a + C_b - 2 (C_a C_b)^½). It grows as samples get smaller: compare samples of one size.
    """
    first, second = a.astype(np.float64), b.astype(np.float64)
    gap = first.mean(axis=0) - second.mean(axis=0)

    def deviations(x: Array) -> Array:
        return (x - x.mean(axis=0)) / math.sqrt(max(len(x) - 1, 1))

    u, v = deviations(first), deviations(second)
    # The trace of (C_a C_b)^½ is the sum of the singular values of U Vᵀ, with C_a = Uᵀ U and C_b = Vᵀ V; the
    # triangular factors, no larger than d x d, have the same ones.
    left, right = (np.asarray(np.linalg.qr(x, mode="r")) for x in (u, v))
    shared = float(np.linalg.svd(left @ right.T, compute_uv=False).sum())
    return max(float(gap @ gap) + float((u**2).sum()) + float((v**2).sum()) - 2 * shared, 0.0)


def _thumbs(x: Array, spec: InputSpec) -> Array:
    """Records as vectors of mean 0 and norm 1: distance then is about what they show, not about contrast."""
    unit = torch.from_numpy(spec.bounds.to_unit(x))
    if spec.modality is Modality.IMAGE and max(spec.shape[1:]) > _THUMB:
        unit = functional.interpolate(unit, size=(_THUMB, _THUMB), mode="bilinear", antialias=True)
    flat = unit.flatten(1).numpy().astype(np.float64)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)


def nearest(x: Float[Array, " n ..."], others: Float[Array, " m ..."], spec: InputSpec) -> Float[Array, " n"]:
    """Distance of each record to its nearest among `others`: sqrt(2 - 2 correlation) of small pictures, 0 to 2."""
    a, b = _thumbs(x, spec), _thumbs(others, spec)
    best = [(a[i : i + 512] @ b.T).max(axis=1) for i in range(0, len(a), 512)]
    return np.sqrt(np.maximum(2 - 2 * np.concatenate(best), 0.0))


def _spread(x: Array) -> float:
    """Mean distance of two rows."""
    squares = (x.astype(np.float64) ** 2).sum(axis=1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * x.astype(np.float64) @ x.T, 0.0))
    return float(distances.sum() / max(len(x) * (len(x) - 1), 1))


def measured(
    prior: Prior, trained_on: Records, apart: Records | None, seed: int, mirrored: bool = False
) -> dict[str, float | str | None]:
    """What is known of a prior's quality.

    Args:
        prior: the prior.
        trained_on: the records it was trained on.
        apart: public records it was not trained on; with None, halves of `trained_on` take both parts.
        seed: of the draws.
        mirrored: whether mirror images were trained on too: a draw near one is then a copy as well.

    Returns:
        "held_out": how many records were kept apart.
        "frechet": distance of draws to these, in Gabor features; "frechet_real": the same for as many
        records trained on. The nearer to each other the two, the better.
        "copies": the share of draws nearer to a record trained on than the nearest 5 % of the records
        kept apart are; .05 is what new records would give. None without any kept apart.
        "diversity": mean distance of two draws over that of two records; 1 is right, 0 is one picture.
        "warning": what is wrong, in words, or None.
    """
    rng = stream(seed, "prior", "quality")
    spec = prior.spec
    real = trained_on
    reference = apart
    if reference is None:
        order = rng.permutation(len(trained_on))
        half = len(order) // 2
        real, reference = trained_on[order[:half]], trained_on[order[half:]]
    m = min(len(real), len(reference))
    draws = prior.sample(max(_ROUNDS * m, 100), rng)
    seen, wanted, drawn = features(real.x, spec), features(reference.x, spec)[:m], features(draws, spec)
    some = [rng.permutation(len(seen))[:m] for _ in range(_ROUNDS)]
    found: dict[str, float | str | None] = {
        "held_out": 0.0 if apart is None else float(len(apart)),
        "frechet": float(np.mean([frechet(drawn[i * m : (i + 1) * m], wanted) for i in range(_ROUNDS)])),
        "frechet_real": float(np.mean([frechet(seen[rows], wanted) for rows in some])),
        "copies": None,
        "diversity": _spread(drawn[:200]) / max(_spread(seen[:200]), 1e-12),
    }
    if apart is not None:
        known = trained_on.x
        if mirrored:
            known = np.concatenate([known, known[..., ::-1]])
        edge = float(np.quantile(nearest(apart.x, known, spec), 0.05))
        found["copies"] = float((nearest(draws, known, spec) < edge).mean())
    found["warning"] = _warning(found)
    return found


def _warning(found: dict[str, float | str | None]) -> str | None:
    said: list[str] = []
    copies, diversity = found["copies"], found["diversity"]
    if isinstance(diversity, float) and diversity < 0.3:
        said.append("its draws are all much alike (it collapsed): train it longer, or with another seed")
    if isinstance(copies, float) and copies > 0.5:
        said.append("most of its draws are near copies of records it was trained on: it knows little else")
    return "; ".join(said) or None
