"""What a prior is: a map from latents to records, learned from public records alone."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from seepage.core.spec import InputSpec

Array = np.ndarray


@runtime_checkable
class Decoder(Protocol):
    """The differentiable side of a prior.

    Calling it maps latents (n, size) to records (n, *shape) within the input's bounds; `classes` (n,)
    conditions a prior that knows classes, and changes nothing in another. `stages` are the maps that,
    one after the other, make up the same: an attack may search between them. `critic` scores records
    (n, *shape) for how real they look, higher is more real: (n,); None where no critic was trained.
    """

    @property
    def stages(self) -> Sequence[Callable[[torch.Tensor], torch.Tensor]]: ...
    def __call__(self, z: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor: ...
    def critic(self, x: torch.Tensor) -> torch.Tensor | None: ...


@runtime_checkable
class Tunable(Protocol):
    """A decoder whose weights can be searched too.

    `weights` are those it was made with, by name; none where it has none that can be had. `drawn` maps latents (n,
    size) to records (n, *shape), each by weights of its own: (n, ...) by name, differentiable in both.
    """

    @property
    def weights(self) -> Mapping[str, torch.Tensor]: ...
    def drawn(self, weights: Mapping[str, torch.Tensor], z: torch.Tensor) -> torch.Tensor: ...


@runtime_checkable
class Prior(Protocol):
    """What records look like in general.

    A latent is a row of `size` numbers that are standard normal for a draw of the prior. Records come
    back in `spec.bounds`, float32.

    Attributes:
        kind: "pca", "gan", "cgan", "diffusion", or "own" for a generator brought by the user.
        spec: what a record looks like.
        size: how many numbers a latent has.
        facts: data, seed, quality, where it was trained: for the report.
    """

    @property
    def kind(self) -> str: ...
    @property
    def spec(self) -> InputSpec: ...
    @property
    def size(self) -> int: ...
    @property
    def facts(self) -> dict[str, float | str | None]: ...
    def decode(self, z: Float[Array, " n k"]) -> Float[Array, " n ..."]:
        """Records for latents."""
        ...

    def encode(self, x: Float[Array, " n ..."]) -> Float[Array, " n k"]:
        """Latents whose records lie near `x`, as near as the prior can cheaply come."""
        ...

    def sample(self, n: int, rng: np.random.Generator, limit: float = 2.0) -> Float[Array, " n ..."]:
        """`n` random records; latents are drawn in at `limit` standard deviations."""
        ...

    def decoder(self) -> Decoder:
        """The same map for torch, differentiable; on the processor."""
        ...
