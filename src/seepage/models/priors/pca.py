"""The linear prior: principal components of public records."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.utils.extmath import randomized_svd

from seepage.core.errors import DataError
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Modality

Array = np.ndarray
# Above so many records and values, not all components are computed.
_LARGE = 2000


@dataclass(frozen=True)
class PCAPrior:
    """Principal components of public records ("eigenfaces"; Turk & Pentland 1991).

    A latent `z` is in whitened coordinates: each component of a public record has mean 0 and
    variance 1, so a draw of the prior is a standard normal, and |z| says how unusual a record is.

    Attributes:
        spec: what a record looks like.
        mean: (d,) mean public record, in unit scale.
        basis: (k, d) components, each scaled by its standard deviation.
        learned: what the report says of its training and quality.
    """

    spec: InputSpec
    mean: Float[Array, " d"]
    basis: Float[Array, " k d"]
    learned: Mapping[str, float | str | None] = field(default_factory=dict[str, float | str | None])

    @property
    def kind(self) -> str:
        return "pca"

    @property
    def facts(self) -> dict[str, float | str | None]:
        """What a report says of it."""
        return {"kind": self.kind, "size": float(self.size), **self.learned}

    @property
    def size(self) -> int:
        """How many numbers a latent has."""
        return len(self.basis)

    @classmethod
    def fit(cls, x: Float[Array, " n ..."], spec: InputSpec, components: int = 60, mirror: bool = True) -> "PCAPrior":
        """Learn the prior of records `x` in `spec.bounds`.

        Args:
            x: at least two public records.
            spec: what a record looks like.
            components: how many to keep at the most; never more than there are records to support.
            mirror: also learn from the mirror images (images only): faces and most objects allow it.

        Raises:
            DataError: with fewer than two records, or records that are all the same.
        """
        if len(x) < 2:
            raise DataError(f"a prior needs at least 2 public records, got {len(x)}")
        unit = spec.bounds.to_unit(x)
        if mirror and spec.modality is Modality.IMAGE:
            unit = np.concatenate([unit, unit[..., ::-1]])
        flat = unit.reshape(len(unit), -1)
        mean = flat.mean(axis=0, dtype=np.float64)
        s, vt = _principal(flat, mean, components)
        std = s / np.sqrt(max(len(flat) - 1, 1))
        keep = min(components, len(x) - 1, int((std > 1e-5 * max(float(std[0]), 1e-12)).sum()))
        if keep < 1 or std[0] <= 0:
            raise DataError("a prior needs public records that differ from each other; these are all the same")
        # The sign of a component is arbitrary; fixing it keeps results the same across machines. The first value
        # that is nearly the greatest decides: in a mirrored prior the greatest comes twice, with both signs.
        size = np.abs(vt[:keep])
        signs = np.sign(vt[np.arange(keep), (size >= 0.9 * size.max(axis=1, keepdims=True)).argmax(axis=1)])
        basis = vt[:keep] * (std[:keep] * signs)[:, None]
        return cls(spec, mean.astype(np.float32), basis.astype(np.float32))

    def decode(self, z: Float[Array, " n k"]) -> Float[Array, " n ..."]:
        """Records for latents, in `spec.bounds`."""
        unit = np.clip(self.mean + z.astype(np.float32) @ self.basis, 0.0, 1.0)
        return self.spec.bounds.from_unit(unit.reshape(len(z), *self.spec.shape))

    def encode(self, x: Float[Array, " n ..."]) -> Float[Array, " n k"]:
        """Latents of records: the least-squares projection."""
        flat = self.spec.bounds.to_unit(x).reshape(len(x), -1) - self.mean
        return (flat @ self.basis.T / (self.basis**2).sum(axis=1)).astype(np.float32)

    def sample(self, n: int, rng: np.random.Generator, limit: float = 2.0) -> Float[Array, " n ..."]:
        """`n` random records of the prior; components beyond `limit` standard deviations are drawn in."""
        return self.decode(np.clip(rng.standard_normal((n, self.size)), -limit, limit))

    def decoder(self) -> "PCADecoder":
        """The same map for torch tensors, differentiable."""
        return PCADecoder(self)

    def kept(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """What has to be saved."""
        return {}, {"mean": torch.from_numpy(self.mean), "basis": torch.from_numpy(self.basis)}


def reopened(
    spec: InputSpec,
    options: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    learned: Mapping[str, float | str | None],
) -> PCAPrior:
    """The prior whose `kept` gave these tensors; it needs no options.

    Raises:
        KeyError, ValueError: when the tensors are not those of such a prior.
    """
    mean, basis = tensors["mean"].numpy(), tensors["basis"].numpy()
    if mean.shape != (spec.size,) or basis.ndim != 2 or basis.shape[1] != spec.size:
        raise ValueError(f"components of {spec.size} values were wanted, got {basis.shape}")
    return PCAPrior(spec, mean, basis, learned)


def _principal(flat: Array, mean: Array, most: int) -> tuple[Array, Array]:
    """Singular values and right singular vectors of the records about their mean, greatest first.

    All of them, by the smaller of the two Gram matrices; or the greatest `most`, by random projections (Halko,
    Martinsson, Tropp 2011), where that matrix would take gigabytes.
    """
    n, d = flat.shape
    if min(n, d) > _LARGE and 4 * most < min(n, d):
        centred = flat - mean.astype(flat.dtype)
        _, s, vt = randomized_svd(centred, most, random_state=0)
        return s.astype(np.float64), vt.astype(np.float64)
    centred = flat.astype(np.float64) - mean
    gram = centred @ centred.T if n < d else centred.T @ centred
    values, vectors = np.linalg.eigh(gram)
    order = np.argsort(values)[::-1]
    s = np.sqrt(np.maximum(values[order], 0.0))
    vectors = vectors[:, order]
    if n >= d:
        return s, vectors.T
    return s, (vectors.T @ centred) / np.maximum(s, 1e-12 * max(float(s[0]), 1e-300))[:, None]


class PCADecoder:
    """Differentiable decoding of whitened latents to records in the input's bounds.

    Two stages: the latent to a picture in unit scale, and that to the bounds.
    """

    def __init__(self, prior: PCAPrior):
        self._mean = torch.from_numpy(prior.mean)
        self._basis = torch.from_numpy(prior.basis)
        self._shape = prior.spec.shape
        self._low = torch.from_numpy(np.asarray(prior.spec.bounds.low))
        self._width = torch.from_numpy(np.asarray(prior.spec.bounds.high - prior.spec.bounds.low))

    def unit(self, z: torch.Tensor) -> torch.Tensor:
        """Records in unit scale, not clipped: (n, *shape)."""
        return (self._mean + z @ self._basis).reshape(len(z), *self._shape)

    @property
    def stages(self) -> list[Callable[[torch.Tensor], torch.Tensor]]:
        """The maps that make up the decoder, first to last."""
        return [self.unit, self._bounded]

    def _bounded(self, unit: torch.Tensor) -> torch.Tensor:
        return unit.clamp(0.0, 1.0) * self._width + self._low

    def __call__(self, z: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        """Records in the input's bounds: (n, *shape). The prior knows no classes: they change nothing."""
        return self._bounded(self.unit(z))

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The mean record and the components."""
        return {"mean": self._mean, "basis": self._basis}

    def drawn(self, weights: Mapping[str, torch.Tensor], z: torch.Tensor) -> torch.Tensor:
        """Records (n, *shape), each by a mean (n, d) and components (n, size, d) of its own."""
        unit = weights["mean"] + (z[:, None] @ weights["basis"])[:, 0]
        return self._bounded(unit.reshape(len(z), *self._shape))

    def critic(self, x: torch.Tensor) -> torch.Tensor | None:
        """No critic was trained: None."""
        return None
