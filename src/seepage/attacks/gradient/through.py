"""What known defenses leave of an update: simulated updates are compared with what was sent as the client would.

Three things happen to an update on its way, and each has its counterpart here: it is shortened, which is done to the
simulated one too; it is coarsened, so that every number is known to lie between two others, and only what lies outside
counts; or signs alone are left, and soft signs are compared. Noise has no counterpart: squared distances and angles are
what fits Gaussian noise best as they are.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seepage.core.defense import AggregateDefense, Defense, UpdateDefense
from seepage.core.victim import Update

Ranges = Mapping[str, tuple[np.ndarray, np.ndarray]]
# How steep a soft sign is, in units of the mean magnitude of its tensor.
STEEP = 3.0
# Rounding finer than this, in root mean squares of the update, is left alone: within its ranges nothing would pull any
# more, and on faces (LeNet of Zhu et al., int8) that cost 3 dB.
COARSE = 0.1


@dataclass(frozen=True)
class Through:
    """How a simulated update is compared with the one sent.

    Attributes:
        sizes: how many numbers each tensor has, in their order.
        longest: greatest lengths of an update, each with the order of its norm.
        low, high: (k, d) between what each number lay before it was coarsened; None where none was.
        signs: whether signs alone were sent.
        matched: (k, d) the numbers that are compared; None for all.
        said: what is done, in words; empty for nothing.
    """

    sizes: tuple[int, ...] = ()
    longest: tuple[tuple[float, int], ...] = ()
    low: Float[Tensor, " k d"] | None = field(default=None, repr=False)
    high: Float[Tensor, " k d"] | None = field(default=None, repr=False)
    signs: bool = False
    matched: Bool[Tensor, " k d"] | None = field(default=None, repr=False)
    said: tuple[str, ...] = ()

    def __call__(
        self, found: Float[Tensor, " p d"], wanted: Float[Tensor, " p d"], clients: Tensor
    ) -> tuple[Float[Tensor, " p d"], Float[Tensor, " p d"]]:
        """The two to be compared, for problems of these `clients` (p,).

        The wanted one is, of all updates that would have been sent alike, the nearest to the simulated one.
        """
        for most, order in self.longest:
            lengths = found.norm(order, dim=1, keepdim=True)
            found = found * (most / lengths.clamp_min(1e-30)).clamp_max(1.0)
        if self.signs:
            found = self._soft(found)
        elif self.low is not None and self.high is not None:
            wanted = torch.maximum(torch.minimum(found.detach(), self.high[clients]), self.low[clients])
        if self.matched is not None:
            kept = self.matched[clients]
            found, wanted = found * kept, wanted * kept
        return found, wanted

    def _soft(self, found: Float[Tensor, " p d"]) -> Float[Tensor, " p d"]:
        """Soft signs, as long as the mean magnitude of their tensor."""
        parts: list[Tensor] = []
        for part in found.split(list(self.sizes), dim=1):
            mean = part.abs().mean(dim=1, keepdim=True).clamp_min(1e-30)
            parts.append(mean * torch.tanh(STEEP * part / mean))
        return torch.cat(parts, dim=1)

    def largest(self, wanted: Float[Tensor, " k d"], share: float, without: Sequence[int] = ()) -> "Through":
        """This, with the greatest `share` of each tensor's numbers compared alone, and none of the tensors `without`.

        Zeros are never among them: what was not sent is not matched.
        """
        kept: list[Tensor] = []
        for number, part in enumerate(wanted.abs().split(list(self.sizes), dim=1)):
            count = 0 if number in without else max(1, round(share * part.shape[1]))
            mine = torch.zeros_like(part, dtype=torch.bool)
            mine.scatter_(1, part.topk(count, dim=1).indices, True)
            kept.append(mine & (part > 0))
        return replace(self, matched=torch.cat(kept, dim=1))


def through(
    defenses: Sequence[Defense],
    updates: Sequence[Update],
    names: Sequence[str],
    scale: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Through:
    """How updates behind these defenses are matched.

    Args:
        defenses: those that the adversary knows of, in the order in which they act.
        updates: as they were sent, one a client.
        names: of the tensors, in the order of the model's parameters.
        scale: what the updates were multiplied with since.
        dtype: precision.
    """
    known = _known(defenses)
    sizes = tuple(int(np.asarray(updates[0].tensors[name]).size) for name in names)
    longest = tuple((most * abs(scale), order) for most, order in (d.longest for d in known if d.longest is not None))
    said = ["its greatest length"] if longest else []
    low: Tensor | None = None
    high: Tensor | None = None
    for one in known:
        ranges = [one.possible(update) for update in updates]
        if any(each is None for each in ranges):
            continue
        sides = [torch.stack([_flat(each, names, side) for each in ranges if each is not None]) for side in (0, 1)]
        first, last = (side * scale for side in (sides if scale > 0 else reversed(sides)))
        # Where several coarsened it one after the other, the numbers lay within the widest of these.
        low = first if low is None else torch.minimum(low, first)
        high = last if high is None else torch.maximum(high, last)
    signs = low is not None and high is not None and not bool(torch.isfinite(high - low).all())
    if low is not None and high is not None and not signs and not _coarse(low, high):
        low = high = None
    if low is not None:
        said.append("signs alone" if signs else "what its numbers were rounded from")
    return Through(
        sizes,
        longest,
        None if low is None else low.to(dtype),
        None if high is None else high.to(dtype),
        signs,
        said=tuple(said),
    )


@dataclass(frozen=True)
class Applied:
    """Defenses done to a simulated update as the client does them: for searches that need no slope of it.

    Those that draw, which are noise, are left out but for the greatest length that they keep.

    Attributes:
        steps: what is done, in the order in which the client does it: a defense, or a greatest length and the order of
            its norm.
        shapes: of the tensors, by name, in the order of the model's parameters.
        scale: what updates were multiplied with since they were sent.
        said: what is done, in words; empty for nothing.
    """

    steps: tuple[UpdateDefense | tuple[float, int], ...]
    shapes: Mapping[str, tuple[int, ...]] = field(repr=False)
    scale: float = 1.0
    said: tuple[str, ...] = ()

    def __call__(
        self, found: Float[Tensor, " p d"], wanted: Float[Tensor, " p d"], clients: Tensor
    ) -> tuple[Float[Tensor, " p d"], Float[Tensor, " p d"]]:
        """The two to be compared; it has no slope."""
        del clients
        if not self.steps or not bool(torch.isfinite(found).all()):
            return found, wanted
        rows = [self._passed(row / self.scale) for row in found.detach().double().numpy()]
        return torch.from_numpy(self.scale * np.stack(rows)).to(found), wanted

    def _passed(self, row: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
        cuts = np.cumsum([math.prod(shape) for shape in self.shapes.values()])[:-1]
        parts = np.split(row, cuts)
        update = Update({n: p.reshape(s) for (n, s), p in zip(self.shapes.items(), parts, strict=True)})
        for step in self.steps:
            if isinstance(step, UpdateDefense):
                update = step.apply(update, np.random.default_rng(0))
                continue
            whole = np.concatenate([part.reshape(-1) for part in update.tensors.values()])
            shorter = min(1.0, step[0] / max(float(np.linalg.norm(whole, step[1])), 1e-30))
            update = Update({name: part * shorter for name, part in update.tensors.items()})
        return np.concatenate([part.reshape(-1) for part in update.tensors.values()])


def applied(
    defenses: Sequence[Defense], updates: Sequence[Update], names: Sequence[str], scale: float = 1.0
) -> Applied:
    """The same defenses as `through`, done as they are; arguments as there."""
    shapes = {name: np.asarray(updates[0].tensors[name]).shape for name in names}
    sent = Update({name: np.asarray(updates[0].tensors[name], dtype=np.float64) for name in names})
    steps: list[UpdateDefense | tuple[float, int]] = []
    for one in _known(defenses):
        if not _draws(one, sent):
            steps.append(one)
        elif one.longest is not None:
            steps.append(one.longest)
    done = [f"'{step.name}'" if isinstance(step, UpdateDefense) else "its greatest length" for step in steps]
    return Applied(tuple(steps), shapes, scale, tuple(done))


def _known(defenses: Sequence[Defense]) -> list[UpdateDefense]:
    """The defenses whose work can be seen in what was sent: what was done to the parts of a sum cannot be read off."""
    summed = max((k + 1 for k, d in enumerate(defenses) if isinstance(d, AggregateDefense)), default=0)
    return [d for d in defenses[summed:] if isinstance(d, UpdateDefense)]


def _draws(defense: UpdateDefense, sent: Update) -> bool:
    """Whether a defense draws: it then gives something else under another stream."""
    one, other = (defense.apply(sent, np.random.default_rng(seed)) for seed in (0, 1))
    return any(not np.array_equal(one.tensors[name], other.tensors[name]) for name in sent.tensors)


def _coarse(low: Float[Tensor, " k d"], high: Float[Tensor, " k d"]) -> bool:
    """Whether what is not known of the numbers is worth more than the pull of those that are."""
    room, middle = (high - low) / 2, (high + low) / 2
    return bool(room.pow(2).mean() > COARSE**2 * middle.pow(2).mean())


def _flat(ranges: Ranges, names: Sequence[str], side: int) -> Float[Tensor, " d"]:
    parts = [np.asarray(ranges[name][side], dtype=np.float64).reshape(-1) for name in names]
    return torch.from_numpy(np.concatenate(parts))
