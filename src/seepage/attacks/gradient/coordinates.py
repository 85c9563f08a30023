"""What is searched: numbers that stand for records. The start, the way to a record, and its limits.

A search works in units in which records spread about as far as a standard normal: by the declared
normalisation, or a quarter of the value range where none is declared. Rates and random starts then mean the
same whatever the records are.
"""

from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from scipy.fft import idct
from torch import Tensor

from seepage.attacks.inversion.parts import onto_l1_ball
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Modality
from seepage.models.priors import Decoder, Tunable

CoordinatesName = Literal["pixels", "natural"]


@runtime_checkable
class Coordinates(Protocol):
    """Numbers (p, b, *shape) that stand for records.

    Attributes:
        shape: of the numbers of one record.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...
    def records(self, v: Tensor) -> Tensor:
        """The records (p, b, *spec.shape), in their own values; they may leave the bounds."""
        ...

    def inside(self, v: Tensor) -> Tensor:
        """The numbers whose records are the nearest within the bounds."""
        ...


class Pixels:
    """Every value of a record by itself."""

    def __init__(self, spec: InputSpec, dtype: torch.dtype = torch.float32):
        sides = (-1,) + (1,) * (len(spec.shape) - 1)
        low, high = (torch.as_tensor(np.asarray(side)).to(dtype) for side in (spec.bounds.low, spec.bounds.high))
        self.shape = spec.shape
        self._low, self._high = low, high
        if spec.std:
            self._middle = torch.tensor(spec.mean or (0.0,), dtype=dtype).reshape(sides)
            self._scale = torch.tensor(spec.std, dtype=dtype).reshape(sides)
        else:
            self._middle = (low + high) / 2
            self._scale = torch.where(high > low, high - low, torch.ones_like(low)) / 4

    def records(self, v: Tensor) -> Tensor:
        return v * self._scale + self._middle

    def numbers(self, x: Tensor) -> Tensor:
        """The numbers that stand for these records."""
        return (x - self._middle) / self._scale

    def clamped(self, x: Tensor) -> Tensor:
        """The nearest records within the bounds."""
        return x.clamp(self._low, self._high)

    def inside(self, v: Tensor) -> Tensor:
        return self.numbers(self.clamped(self.records(v)))


class Natural:
    """Pictures by their frequencies, each in units of how strong it is in pictures of things.

    The amplitude of a picture of the world falls with the frequency f about as 1/f (Field 1987, Relations between
    the statistics of natural images and the response properties of cortical cells, JOSA A 4), and its
    colours differ less than its brightness. Numbers v stand for the picture whose cosine transform is
    s(f) v, s(f) = 1 / (1 + f)^fall, with f in half periods a picture, in three orthogonal colour channels of which
    the first, the brightness, counts in full. The map is linear and invertible, so that no picture is out of reach:
    it only decides what a search finds first, and what a random start looks like.
    """

    def __init__(self, spec: InputSpec, fall: float = 1.0, colour: float = 0.35, dtype: torch.dtype = torch.float32):
        channels, height, width = spec.shape
        self._pixels = Pixels(spec, dtype)
        self.shape = spec.shape
        self._down, self._across = (
            torch.from_numpy(np.asarray(idct(np.eye(side), axis=0, norm="ortho"))).to(dtype) for side in (height, width)
        )
        frequency = torch.sqrt(torch.arange(height)[:, None] ** 2.0 + torch.arange(width)[None] ** 2.0)
        strength = (1 + frequency).pow(-fall)[None].repeat(channels, 1, 1)
        self._mix = torch.eye(channels, dtype=dtype)
        if channels == 3:
            opponent = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
            self._mix = (opponent / opponent.norm(dim=1, keepdim=True)).to(dtype)
            strength[1:] *= colour
        self._strength = (strength / strength.pow(2).mean().sqrt()).to(dtype)

    def records(self, v: Tensor) -> Tensor:
        plain = self._down @ (v * self._strength) @ self._across.mT
        return self._pixels.records(self._mixed(self._mix.mT, plain))

    def numbers(self, x: Tensor) -> Tensor:
        """The numbers that stand for these pictures."""
        return self._down.mT @ self._mixed(self._mix, self._pixels.numbers(x)) @ self._across / self._strength

    def _mixed(self, mix: Tensor, x: Tensor) -> Tensor:
        """The channels mixed, everywhere alike."""
        return x if len(mix) == 1 else (mix @ x.flatten(-2)).reshape(x.shape)

    def inside(self, v: Tensor) -> Tensor:
        return self.numbers(self._pixels.clamped(self.records(v)))


class Latents:
    """Latents of a prior learned from public records: only what it can draw is within reach."""

    def __init__(self, decoder: Decoder, size: int, limit: float = 3.0):
        self.shape = (size,)
        self._decoder, self._limit = decoder, limit

    def records(self, v: Tensor) -> Tensor:
        # A prior draws in single precision.
        return self._decoder(v.flatten(0, 1).float()).unflatten(0, v.shape[:2]).to(v.dtype)

    def inside(self, v: Tensor) -> Tensor:
        return v.clamp(-self._limit, self._limit)


class Features:
    """What lies between two stages of a prior's generator, within an l1 ball around where a search came from.

    Args:
        after: the rest of the generator, from features (n, ...) to records (n, *shape).
        centre: (p, b, ...) the features around which the balls lie, one a record.
        radius: of the balls.
    """

    def __init__(self, after: Callable[[Tensor], Tensor], centre: Tensor, radius: float):
        self.shape = tuple(centre.shape[2:])
        self._after, self._centre, self._radius = after, centre, radius

    def records(self, v: Tensor) -> Tensor:
        return self._after(v.flatten(0, 1)).unflatten(0, v.shape[:2])

    def inside(self, v: Tensor) -> Tensor:
        off = (v - self._centre).flatten(0, 1).flatten(1)
        held = onto_l1_ball(off, torch.full((len(off),), self._radius).to(off))
        return self._centre + held.reshape(v.shape)


class Tuned:
    """The weights of a prior's generator, a set for each record, whose latent stays as it is.

    A record is its latent and its weights, one after the other; the latents have no slope. Weights are in units of the
    root mean square of their tensor, so that a rate means the same for every tensor and generator (of all weights
    together for a tensor of zeros).
    """

    def __init__(self, decoder: Tunable, size: int):
        self._decoder, self._latent = decoder, size
        self._shapes = {name: tuple(weight.shape) for name, weight in decoder.weights.items()}
        self._sizes = [weight.numel() for weight in decoder.weights.values()]
        self.shape = (size + sum(self._sizes),)
        whole = torch.cat([weight.flatten() for weight in decoder.weights.values()]).float()
        spread = [part.pow(2).mean().sqrt() for part in whole.split(self._sizes)]
        usual = whole.pow(2).mean().sqrt().clamp_min(1e-12)
        units = [torch.where(one > 0, one, usual).expand(size) for one, size in zip(spread, self._sizes, strict=True)]
        self._units = torch.cat(units)
        self._weights = whole / self._units

    def begin(self, z: Tensor) -> Tensor:
        """The numbers of records with these latents (p, b, size) and the weights that the generator came with."""
        return torch.cat([z, self._weights.to(z).expand(*z.shape[:2], -1)], dim=2)

    def records(self, v: Tensor) -> Tensor:
        rows = v.flatten(0, 1)
        parts = (rows[:, self._latent :] * self._units).split(self._sizes, dim=1)
        weights = {n: part.unflatten(1, s) for (n, s), part in zip(self._shapes.items(), parts, strict=True)}
        return self._decoder.drawn(weights, rows[:, : self._latent].detach()).unflatten(0, v.shape[:2])

    def inside(self, v: Tensor) -> Tensor:
        return v


def coordinates_named(name: CoordinatesName, spec: InputSpec, dtype: torch.dtype) -> Pixels | Natural:
    """The coordinates called `name`; what is no picture has values alone."""
    if name == "natural" and spec.modality is Modality.IMAGE:
        return Natural(spec, dtype=dtype)
    return Pixels(spec, dtype)
