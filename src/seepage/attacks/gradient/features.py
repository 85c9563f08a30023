"""From the features that a layer was given back to records, by search."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from seepage.attacks.gradient.descent import Adam
from seepage.attacks.gradient.objectives import total_variation
from seepage.models.federated import ClientNet, Mode

Array = np.ndarray

# Weight of total variation and rate of Adam, one stage after another: the smoothest record with about these features
# first, then the features themselves. Chosen on pieces of photographs behind four networks.
STAGES = ((1.0, 0.1), (0.1, 0.03), (0.01, 0.01))
# Records that are searched for at a time where nothing ties them together.
AT_ONCE = 64


@dataclass(frozen=True)
class Pictured:
    """Records and how well their features are those wanted.

    Attributes:
        x: (n, *shape) in the range of records.
        apart: (n,) squared distance of the features, as a share of those wanted.
    """

    x: Float[Array, " n ..."]
    apart: Float[Array, " n"]


def records_of(
    net: ClientNet,
    layer: str,
    features: Float[Array, " n d"],
    owner: Int[Array, " n"],
    mode: Mode,
    dropout: float,
    steps: int,
    restarts: int,
    rng: np.random.Generator,
) -> Pictured:
    """The records whose features are these, smooth where features leave them open.

        minimise |f(x) - z|^2 / |z|^2 + w TV(x)   within the range of records, w falling (`STAGES`)

    Each record from `restarts` starts, the one kept that costs least. The published attack has the cosine of the
    features and one weight (Kariyappa et al. 2023, section 5): the scale of features is told here, and counts.

    Args:
        net: the network.
        layer: the layer that was given the features.
        features: wanted.
        owner: the client of each; one client's records pass together where batch normalisation ties them.
        mode: in which the client's network ran.
        dropout: the share of features that the client left out just before the layer, the rest scaled up: those that
            are zero then say nothing.
        steps: of Adam, in all stages together.
        restarts: starts of each record.
        rng: draws them.
    """
    tied = net.has_batch_norm and mode == "train"
    counted = (features != 0) | (dropout == 0)
    features = features * (1 - dropout)
    groups = [np.nonzero(owner == one)[0] for one in np.unique(owner)]
    if not tied:
        groups = list(np.split(np.arange(len(features)), range(AT_ONCE, len(features), AT_ONCE)))
    x = np.zeros((len(features), *net.spec.shape), dtype=np.float32)
    apart = np.zeros(len(features))
    for rows in groups:
        search = _Search(net, layer, mode, features[rows], counted[rows])
        least = np.full(len(rows), np.inf)
        for _ in range(restarts):
            found, cost, far = search.run(steps, rng.spawn(1)[0])
            # Records that are tied together are kept or given up together.
            better = np.full(len(rows), cost.sum() < least.sum()) if tied else cost < least
            x[rows[better]], apart[rows[better]], least[better] = found[better], far[better], cost[better]
    return Pictured(x, apart)


class _Search:
    """One group of records, sought together."""

    def __init__(
        self, net: ClientNet, layer: str, mode: Mode, features: Float[Array, " n d"], counted: Bool[Array, " n d"]
    ):
        self._net, self._body = net, net.body(mode)
        self._body.requires_grad_(False).get_submodule(layer).register_forward_pre_hook(self._keep)
        self._seen: Tensor | None = None
        self._wanted, self._counted = torch.from_numpy(features).float(), torch.from_numpy(counted)
        self._length = self._wanted.square().sum(dim=1).clamp_min(1e-12)
        bounds = net.spec.bounds
        self._low, self._width = torch.from_numpy(np.array(bounds.low)), torch.from_numpy(np.array(bounds.width))

    def run(self, steps: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
        """Records (n, *shape) from one start, what each costs, and how far its features are from those wanted."""
        size = (len(self._wanted), *self._net.spec.shape)
        start = torch.from_numpy(0.5 + 0.1 * rng.standard_normal(size).astype(np.float32))
        flat = start.flatten(1)
        for (weight, rate), share in zip(STAGES, _shares(steps), strict=True):
            ask = partial(self._cost, size, weight)
            flat = Adam(share, rate, signs="none", schedule="cosine")(flat, ask, lambda v: v.detach().clamp(0, 1)).v
        with torch.no_grad():
            unit = flat.reshape(size)
            cost = self._cost(size, STAGES[-1][0], flat, torch.arange(len(flat)))
            return self._records(unit).numpy(), cost.numpy(), self._apart(unit).numpy()

    def _records(self, unit: Tensor) -> Tensor:
        return unit * self._width + self._low

    def _cost(self, size: tuple[int, ...], weight: float, v: Tensor, _: Tensor) -> Tensor:
        unit = v.reshape(size)
        return self._apart(unit) + weight * total_variation(unit[:, None])

    def _apart(self, unit: Tensor) -> Tensor:
        self._body(self._net.prepare(self._records(unit)))
        assert self._seen is not None
        return ((self._seen - self._wanted).square() * self._counted).sum(dim=1) / self._length

    def _keep(self, _: nn.Module, given: tuple[Tensor, ...]) -> None:
        self._seen = given[0]


def _shares(steps: int) -> Sequence[int]:
    """The steps of each stage, one at the least."""
    return [max(1, len(part)) for part in np.array_split(np.arange(steps), len(STAGES))]
