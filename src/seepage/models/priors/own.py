"""A generator from elsewhere: any callable from latents to pictures, with its size and range declared."""

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from seepage.core.errors import ConfigError, ModelError, did_you_mean
from seepage.core.seeds import stream
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Modality
from seepage.models.priors.own_weights import each_by_its_own, weights_of

Array = np.ndarray
Generate = Callable[[torch.Tensor], Any]
_BATCH = 64
_SLACK = 0.02  # of the declared range: what rounding and half precision may add


@dataclass(frozen=True)
class OwnPrior:
    """A generator brought by the user; made by `own_prior`, which checks it.

    Attributes:
        spec: what a record looks like.
        generate: latents (n, *latent) to what it draws.
        latent: shape of one latent as the generator takes it.
        range: least and greatest value of what it draws.
        resize: whether what it draws is brought to the record's size and colours.
        name: for reports.
        learned: what the report says of it.
    """

    spec: InputSpec
    generate: Generate
    latent: tuple[int, ...]
    range: tuple[float, float] = (0.0, 1.0)
    resize: bool = False
    name: str = "a generator of the user's own"
    learned: Mapping[str, float | str | None] = field(default_factory=dict[str, float | str | None])

    @property
    def kind(self) -> str:
        return "own"

    @property
    def size(self) -> int:
        """How many numbers a latent has."""
        return math.prod(self.latent)

    @property
    def facts(self) -> dict[str, float | str | None]:
        """What a report says of it."""
        return {"kind": self.kind, "size": float(self.size), "source": self.name, **self.learned}

    def decode(self, z: Float[Array, " n k"]) -> Float[Array, " n ..."]:
        """Records for latents, in `spec.bounds`."""
        latents = torch.from_numpy(np.ascontiguousarray(z, dtype=np.float32))
        made = [np.zeros((0, *self.spec.shape), dtype=np.float32)]
        with torch.no_grad():
            made += [self.unit(part).numpy() for part in latents.split(_BATCH) if len(part)]
        return self.spec.bounds.from_unit(np.concatenate(made))

    def sample(self, n: int, rng: np.random.Generator, limit: float = 2.0) -> Float[Array, " n ..."]:
        """`n` random records; latents are drawn in at `limit` standard deviations."""
        return self.decode(np.clip(rng.standard_normal((n, self.size)), -limit, limit))

    def encode(self, x: Float[Array, " n ..."], draws: int = 512, steps: int = 60) -> Float[Array, " n k"]:
        """Latents whose records lie near `x`: the nearest of some draws, then descent on the squared error.

        Args:
            x: records in `spec.bounds`.
            draws: among how many the search begins; always the same ones.
            steps: of Adam; none are taken by a generator that gives no gradients.
        """
        wanted = self.spec.bounds.to_unit(x).reshape(len(x), -1)
        pool = stream(0, "prior", "encode").standard_normal((draws, self.size)).astype(np.float32)
        flat = self.spec.bounds.to_unit(self.decode(pool)).reshape(draws, -1)
        begin = pool[((flat**2).sum(axis=1) - 2 * wanted @ flat.T).argmin(axis=1)]
        if not self.differentiable():
            return begin
        found = [np.zeros((0, self.size), dtype=np.float32)]
        for start in range(0, len(x), _BATCH):
            part = slice(start, start + _BATCH)
            found.append(self._refined(torch.from_numpy(wanted[part]), torch.from_numpy(begin[part]), steps))
        return np.concatenate(found)

    def _refined(self, wanted: torch.Tensor, z: torch.Tensor, steps: int) -> Array:
        latents = z.clone().requires_grad_()
        optimiser = torch.optim.Adam([latents], 0.05)
        for _ in range(steps):
            error = ((self.unit(latents).flatten(1) - wanted) ** 2).mean(1) + 1e-4 * (latents**2).mean(1)
            (latents.grad,) = torch.autograd.grad(error.sum(), latents)
            optimiser.step()
        return latents.detach().numpy()

    def differentiable(self) -> bool:
        """Whether gradients come back through the generator."""
        return bool(self.unit(torch.zeros(2, self.size, requires_grad=True)).requires_grad)

    def unit(self, z: torch.Tensor) -> torch.Tensor:
        """What it draws for latents (n, size), in unit scale and of the record's shape."""
        return self.scaled(_asked(self.generate, z.reshape(len(z), *self.latent)))

    def scaled(self, drawn: torch.Tensor) -> torch.Tensor:
        """What the generator draws, in unit scale and of the record's shape."""
        low, high = self.range
        unit = ((drawn - low) / (high - low)).clamp(0, 1)
        return brought(unit, self.spec.shape) if self.resize else unit

    def decoder(self) -> "OwnDecoder":
        """The same map for torch, differentiable.

        Raises:
            ConfigError: for a generator that gives no gradients.
        """
        if not self.differentiable():
            raise ConfigError(
                f"{self.name} gives no gradients with respect to its latents, which an attack with the weights needs: "
                "compute with torch from the latents on, without no_grad or detach"
            )
        return OwnDecoder(self)


class OwnDecoder:
    """Latents to records in the input's bounds: the generator, and then the bounds."""

    def __init__(self, prior: OwnPrior):
        self._prior = prior
        self._low = torch.from_numpy(np.asarray(prior.spec.bounds.low))
        self._high = torch.from_numpy(np.asarray(prior.spec.bounds.high))

    @property
    def stages(self) -> list[Callable[[torch.Tensor], torch.Tensor]]:
        """The maps that make up the decoder, first to last."""
        return [self._prior.unit, self._bounded]

    def _bounded(self, unit: torch.Tensor) -> torch.Tensor:
        return unit * (self._high - self._low) + self._low

    def __call__(self, z: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        """Records in the input's bounds: (n, *shape). The generator is asked for no class."""
        return self._bounded(self._prior.unit(z))

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The generator's, by name; none of a function."""
        return weights_of(self._prior.generate) if isinstance(self._prior.generate, nn.Module) else {}

    def drawn(self, weights: Mapping[str, torch.Tensor], z: torch.Tensor) -> torch.Tensor:
        """Records (n, *shape), each by generator weights (n, ...) of its own.

        Raises:
            TypeError: for a generator that is a function.
        """
        net = self._prior.generate
        if not isinstance(net, nn.Module):
            raise TypeError(f"a torch module was wanted, got {self._prior.name}, which has no weights")
        drawn = each_by_its_own(net, weights, z.reshape(len(z), *self._prior.latent))
        return self._bounded(self._prior.scaled(drawn.float()))

    def critic(self, x: torch.Tensor) -> torch.Tensor | None:
        """No critic came with it: None."""
        return None


def own_prior(
    generator: str | nn.Module | Callable[[torch.Tensor], Any],
    size: int | Sequence[int],
    spec: InputSpec,
    range: tuple[float, float] = (0.0, 1.0),
    resize: bool = False,
) -> OwnPrior:
    """A prior from any generator, checked: it draws records of the right shape, finite, in the range declared.

    Args:
        generator: a torch module or a function from latents (n, size), standard normal, to pictures
            (n, *spec.shape) as tensors or arrays; or its import path "package.module:name". A module is put
            into evaluation mode and onto the processor.
        size: numbers in a latent, or the shape of one, as (100, 1, 1).
        spec: what the victim takes.
        range: least and greatest value of what the generator draws: (-1, 1) for one that ends in tanh.
        resize: bring what it draws to the size and colours of `spec`.

    Raises:
        ConfigError: for a path that leads nowhere, a size, shape or range that does not match: what was
            found, and what to write instead.
        ModelError: when the generator itself fails, or draws NaN.
    """
    name = generator if isinstance(generator, str) else _name(generator)
    generate = _imported(generator) if isinstance(generator, str) else generator
    if isinstance(generate, type) or not callable(generate):
        raise ConfigError(f"a generator is a module or a function, got {name}, which is not: give an instance of it")
    if isinstance(generate, nn.Module):
        generate = generate.to("cpu").eval().requires_grad_(False)
    latent = (size,) if isinstance(size, int) else tuple(size)
    if not latent or any(type(side) is not int or side < 1 for side in latent):
        raise ConfigError(f"size is how many numbers a latent has (or the shape of one), got {size!r}")
    low, high = range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"range is (least, greatest) value of what the generator draws, got {range!r}")
    pool = stream(0, "prior", "own").standard_normal((16, math.prod(latent))).astype(np.float32)
    z = torch.from_numpy(pool)
    with torch.no_grad():
        drawn = _tried(generate, z.reshape(16, *latent), name)
        _check_shape(drawn, spec, resize, name)
        _check_range(drawn, (low, high), name)
        _check_steady(generate, z.reshape(16, *latent), drawn, (low, high), name)
    return OwnPrior(spec, generate, latent, (float(low), float(high)), resize, name)


def _name(thing: Any) -> str:
    return getattr(thing, "__name__", type(thing).__name__)


def _imported(path: str) -> Any:
    module, _, name = path.partition(":")
    if not module or not name:
        raise ConfigError(f"a generator is named as 'package.module:name', got '{path}'")
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"the module '{module}' of the generator '{path}' cannot be imported: {error}; run from its folder or "
            "install its package"
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise ConfigError(f"'{path}': there is no '{part}'; {did_you_mean(part, dir(found))}")
        found = getattr(found, part)
    return found


def _asked(generate: Generate, z: torch.Tensor) -> torch.Tensor:
    drawn = generate(z)
    if isinstance(drawn, np.ndarray):
        drawn = torch.from_numpy(drawn)
    if not isinstance(drawn, torch.Tensor):
        raise TypeError(f"it gives {type(drawn).__name__}; a tensor or an array of pictures was wanted")
    return drawn.float().cpu()


def _tried(generate: Generate, z: torch.Tensor, name: str) -> torch.Tensor:
    try:
        return _asked(generate, z)
    except Exception as error:
        # Whatever the user's own code raised: what it was given is what they need to know.
        raise ModelError(
            f"the generator {name} failed on latents of shape {tuple(z.shape)}: {type(error).__name__}: {error}; "
            "give the `size` it takes (a shape such as (100, 1, 1) when it wants one)"
        ) from error


def _check_shape(drawn: torch.Tensor, spec: InputSpec, resize: bool, name: str) -> None:
    wanted, came = tuple(spec.shape), tuple(drawn.shape[1:])
    if len(drawn) != 16:
        raise ConfigError(f"{name} gives {len(drawn)} pictures for 16 latents; one each was wanted")
    if came == wanted:
        return
    told = f"{name} draws records of shape {came}, and the victim takes {wanted}: "
    if len(came) == 3 and came[2] in (1, 3) and came[0] not in (1, 3):
        raise ConfigError(told + "put channels first, as in `lambda z: generator(z).permute(0, 3, 1, 2)`")
    if spec.modality is Modality.IMAGE and len(came) == 3 and came[0] in (1, 3) and wanted[0] in (1, 3):
        if resize:
            return
        raise ConfigError(told + "set resize=True to have its pictures brought to that size and those colours")
    raise ConfigError(told + "give one that draws this shape")


def _check_range(drawn: torch.Tensor, declared: tuple[float, float], name: str) -> None:
    if not bool(torch.isfinite(drawn).all()):
        raise ModelError(f"{name} draws values that are NaN or infinite: check its weights")
    low, high = declared
    slack = _SLACK * (high - low)
    least, most = float(drawn.min()), float(drawn.max())
    told = f"{name} draws values in [{least:.3g}, {most:.3g}], and range={declared} was declared: "
    if least < low - slack or most > high + slack:
        likely = next(((a, b) for a, b in ((0, 1), (-1, 1), (0, 255)) if a - 0.01 <= least and most <= b * 1.01), None)
        known = f"say range={likely}" if likely else "say the range it draws in, or clip what it draws"
        raise ConfigError(told + known)
    if most - least < 0.05 * (high - low):
        raise ConfigError(
            told + "that is next to nothing of it: say the range it really draws in, or check its weights"
        )


def _check_steady(
    generate: Generate, z: torch.Tensor, drawn: torch.Tensor, declared: tuple[float, float], name: str
) -> None:
    low, high = declared
    again = _tried(generate, z, name)
    if float((again - drawn).abs().max()) > _SLACK * (high - low):
        raise ConfigError(
            f"{name} draws another picture each time for the same latent: fix its noise (and put it into "
            "evaluation mode), or a search in its latents finds nothing"
        )
    if float(drawn.std(dim=0).max()) < 1e-4 * (high - low):
        raise ConfigError(f"{name} draws the same picture for every latent: check its weights and its `size`")


def brought(drawn: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Pictures (n, c, h, w) in [0, 1] of another size or in other colours as (n, *shape); grey and colour alone."""
    if drawn.shape[1] != shape[0]:
        # Grey as ITU-R 601 weighs the channels, which is what image readers do.
        weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
        drawn = (drawn * weights).sum(1, keepdim=True) if shape[0] == 1 else drawn.expand(-1, shape[0], -1, -1)
    if tuple(drawn.shape[2:]) == tuple(shape[1:]):
        return drawn
    return functional.interpolate(drawn, size=shape[1:], mode="bilinear", antialias=True).clamp(0, 1)
