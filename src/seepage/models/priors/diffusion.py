"""A small pixel diffusion prior: trained as in Ho et al. 2020, sampled by the chain of Song et al. 2021."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from seepage.core.errors import ConfigError, DataError, ModelError, did_you_mean
from seepage.core.records import Records
from seepage.core.seeds import derive
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Modality
from seepage.models.device import best_device, described
from seepage.models.priors.diffusion_nets import TIMES, Denoiser, ddim_step, ddim_undone, denoising_loss, few_times
from seepage.models.priors.gan_training import mirrored_alike
from seepage.models.priors.work import Work
from seepage.models.training import moved, seeded

Array = np.ndarray
Tensor = torch.Tensor
Facts = Mapping[str, float | str | None]
FEWEST = 4
LEAST_SIDE = 8
_BATCH = 256
_STEPS_LEAST, _STEPS_MOST = 1200, 4000
_LINEAR_ROWS = 1600


@dataclass(frozen=True)
class Recipe:
    """How a diffusion prior is trained and sampled.

    Attributes:
        steps: batches; None chooses by how many records there are; 0 leaves the net out: the linear denoiser alone.
        width: channels of the net on its finest grid.
        components: directions of the Gaussian that have a variance of their own; None: one a record, 200 at most.
        batch: records a step.
        rate: greatest learning rate; it rises over the first 50 steps and falls along a cosine.
        keep: how much of the running average of the weights is kept a step.
        move: greatest shift, zoom and turn of a record each time it is shown: few records are not learned by heart.
        mirror: also learn from mirror images; None: when those look like records (`mirrored_alike`).
        chain: DDIM steps from noise to record.
    """

    steps: int | None = None
    width: int = 32
    components: int | None = None
    batch: int = 32
    rate: float = 2e-3
    keep: float = 0.999
    move: float = 0.06
    mirror: bool | None = None
    chain: int = 12

    def steps_for(self, records: int) -> int:
        """How many steps this many records are trained for: few records are learned by heart when shown too often."""
        return self.steps if self.steps is not None else min(max(5 * records, _STEPS_LEAST), _STEPS_MOST)

    def components_for(self, records: int, size: int) -> int:
        """How many directions have a variance of their own."""
        most = min(size - 1, 4 * records)
        return min(self.components if self.components is not None else min(200, records), most)


@dataclass(frozen=True)
class DiffusionPrior:
    """A denoising diffusion model of public records (Ho et al. 2020), sampled by DDIM (Song et al. 2021).

    A latent is the noise that a record starts from, flat: as many numbers as a record has. `decode` runs a
    short deterministic chain, `encode` runs it backwards (each step solved by a few fixed-point iterations).

    Attributes:
        spec: what a record looks like.
        denoiser: the trained network, in evaluation mode, on the processor.
        steps: DDIM steps of `decode`.
        learned: what the report says of its training.
    """

    spec: InputSpec
    denoiser: Denoiser
    steps: int = 12
    learned: Mapping[str, float | str | None] = field(default_factory=dict[str, float | str | None])

    @property
    def kind(self) -> str:
        return "diffusion"

    @property
    def size(self) -> int:
        """How many numbers a latent has: as many as a record."""
        return self.spec.size

    @property
    def facts(self) -> dict[str, float | str | None]:
        """What a report says of it."""
        return {"kind": self.kind, "size": float(self.size), **self.learned}

    def decode(self, z: Float[Array, " n k"]) -> Float[Array, " n ..."]:
        """Records for starting noise, in `spec.bounds`."""
        decoder = self.decoder()
        with torch.no_grad():
            parts = [decoder(part) for part in torch.from_numpy(z.astype(np.float32)).split(_BATCH)]
        return torch.cat(parts).numpy()

    def encode(self, x: Float[Array, " n ..."], rounds: int = 4) -> Float[Array, " n k"]:
        """Starting noise whose records lie near `x`: the chain backwards, each step solved in `rounds` iterations."""
        stops = few_times(self.steps)[::-1]
        found: list[Tensor] = []
        with torch.no_grad():
            for y in self.standard(x).split(_BATCH):
                for then, now in pairwise(stops):
                    y = ddim_undone(self.denoiser, y, now, then, rounds)
                found.append(y)
        return torch.cat(found).numpy()

    def standard(self, x: Float[Array, " n ..."]) -> Float[Tensor, " n d"]:
        """Records in `spec.bounds` as the denoiser sees them: flat, less the mean, of mean variance 1."""
        unit = torch.from_numpy(self.spec.bounds.to_unit(x).reshape(len(x), -1))
        return (unit - self.denoiser.mean) / self.denoiser.scale

    def sample(self, n: int, rng: np.random.Generator, limit: float = 2.0) -> Float[Array, " n ..."]:
        """`n` random records; noise beyond `limit` standard deviations is drawn in."""
        return self.decode(np.clip(rng.standard_normal((n, self.size)), -limit, limit))

    def decoder(self) -> "DiffusionDecoder":
        """The same map for torch, differentiable."""
        return DiffusionDecoder(self)

    def denoise(self, y: Float[Tensor, " n d"], t: Tensor) -> Float[Tensor, " n d"]:
        """The predicted clean records, as in `standard`, of noisy ones at times `t` (n,) from 1 to T; differentiable.

        Noisy records at time t are sqrt(a) y + sqrt(1 - a) ε with a = `denoiser.alpha_bar[t]`.
        """
        return self.denoiser(y, t)

    def kept(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What has to be saved: numbers to build the denoiser again, and its weights."""
        options = {"width": self.denoiser.width, "components": len(self.denoiser.variances), "chain": self.steps}
        return options, dict(self.denoiser.state_dict())


class DiffusionDecoder:
    """Starting noise to records: one stage a DDIM step, then the input's bounds."""

    def __init__(self, prior: DiffusionPrior):
        self._denoiser = prior.denoiser
        self._stops = few_times(prior.steps)
        self._shape = prior.spec.shape
        self._low = torch.from_numpy(np.asarray(prior.spec.bounds.low))
        self._width = torch.from_numpy(np.asarray(prior.spec.bounds.high - prior.spec.bounds.low))

    @property
    def stages(self) -> list[Callable[[Tensor], Tensor]]:
        """The maps that make up the decoder, first to last."""
        steps = [partial(self._step, now=now, then=then) for now, then in pairwise(self._stops)]
        return [*steps, self.bounded]

    def _step(self, y: Tensor, now: int, then: int) -> Tensor:
        return ddim_step(self._denoiser, y, now, then)

    def bounded(self, y: Tensor) -> Tensor:
        """Standardised flat records (n, d) as records in the input's bounds: (n, *shape)."""
        unit = (y * self._denoiser.scale + self._denoiser.mean).clamp(0.0, 1.0)
        return unit.reshape(len(y), *self._shape) * self._width + self._low

    def __call__(self, z: Tensor, classes: Tensor | None = None) -> Tensor:
        """Records in the input's bounds: (n, *shape). The prior knows no classes: they change nothing."""
        for stage in self.stages:
            z = stage(z)
        return z

    def critic(self, x: Tensor) -> Tensor | None:
        """No critic was trained: None."""
        return None


class Lessons:
    """The denoiser with everything that changes while it is trained."""

    def __init__(self, unit: Tensor, recipe: Recipe, steps: int, mirror: bool, seed: int):
        self._unit, self._recipe, self._steps, self._mirror = unit, recipe, max(steps, 1), mirror
        self.device = best_device()
        shape = tuple(unit.shape[1:])
        linear_rng = torch.Generator().manual_seed(derive(seed, "prior", "diffusion", "linear"))
        with seeded(derive(seed, "prior", "diffusion", "nets")):
            components = recipe.components_for(len(unit), unit[0].numel())
            model = Denoiser(shape, components, recipe.width if steps else 0)
        model.fit_linear(_shown_often(unit, lambda x: self._moved(x, linear_rng)))
        self.model = model.to(self.device)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        # Without a net there is nothing to learn: the mean and the Gaussian are buffers.
        weights = list(self.model.parameters()) or [torch.zeros(1)]
        self._optimiser = torch.optim.AdamW(weights, recipe.rate, (0.9, 0.99), weight_decay=0.01)
        self._rng = torch.Generator().manual_seed(derive(seed, "prior", "diffusion", "steps"))
        self.loss = math.nan

    def _moved(self, x: Tensor, rng: torch.Generator) -> Tensor:
        size = self._recipe.move
        return moved(x, rng, shift=size, zoom=size, turn=size, mirror=self._mirror)

    def step(self, number: int) -> None:
        """One batch at random times (Ho et al. 2020, algorithm 1).

        Raises:
            ModelError: when the loss is no longer a number.
        """
        n, rng, model = self._recipe.batch, self._rng, self.model
        rows = torch.randint(len(self._unit), (n,), generator=rng)
        shown = self._moved(self._unit[rows], rng).flatten(1).to(self.device)
        times = torch.randint(1, TIMES + 1, (n,), generator=rng).to(self.device)
        noise = torch.randn(shown.shape, generator=rng).to(self.device)
        for group in self._optimiser.param_groups:
            fall = 0.5 + 0.5 * math.cos(math.pi * number / self._steps)
            group["lr"] = self._recipe.rate * min(1.0, (number + 1) / 50) * fall
        loss = denoising_loss(model, (shown - model.mean) / model.scale, times, noise).mean()
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        self._optimiser.step()
        self._follow(min(self._recipe.keep, (1 + number) / (10 + number)))
        if number % 20 == 0:
            self._note(number, loss.item())

    @torch.no_grad()
    def _follow(self, keep: float) -> None:
        for mean, fresh in zip(self.average.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(fresh, 1 - keep)

    def _note(self, number: int, loss: float) -> None:
        if not math.isfinite(loss):
            raise ModelError(
                f"the training of the diffusion prior came apart at step {number}; "
                "lower its rate, or use the prior 'pca'"
            )
        self.loss = loss if math.isnan(self.loss) else 0.9 * self.loss + 0.1 * loss

    def state(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "rng": self._rng.get_state(),
            "loss": self.loss,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._rng.set_state(state["rng"])
        self.loss = float(state["loss"])


def _shown_often(unit: Tensor, move: Callable[[Tensor], Tensor]) -> Float[Array, " m d"]:
    """Records moved at random, each up to 8 times, flat: what the Gaussian is fitted to."""
    times = min(max(_LINEAR_ROWS // len(unit), 1), 8)
    rows = torch.arange(len(unit) * times) % len(unit)
    return move(unit[rows[: max(_LINEAR_ROWS, len(unit))]]).flatten(1).numpy()


def train_diffusion(public: Records, spec: InputSpec, seed: int, work: Work, **options: Any) -> DiffusionPrior:
    """A diffusion prior of public pictures.

    Args:
        public: the pictures; their classes only tell whether mirror images look like records.
        spec: what a record looks like.
        seed: of everything drawn.
        work: where the state is kept, and who is told.
        **options: fields of `Recipe`.

    Raises:
        ConfigError: for an unknown option, or a value that cannot be.
        DataError: for records that are no pictures of at least 8 x 8, all the same, or too few.
        ModelError: when training does not hold.
    """
    recipe = _recipe_of(options)
    if spec.modality is not Modality.IMAGE or min(spec.shape[1:]) < LEAST_SIDE:
        raise DataError(
            f"a diffusion prior draws pictures (channels, height, width) of at least {LEAST_SIDE} x {LEAST_SIDE}, "
            f"got {spec.modality} records of shape {spec.shape}; use the prior 'pca'"
        )
    if len(public) < FEWEST:
        raise DataError(f"a diffusion prior needs at least {FEWEST} public records, got {len(public)}; use 'pca'")
    unit = spec.bounds.to_unit(spec.check(public.x, "public"))
    mirror = mirrored_alike(unit, public.y, seed) if recipe.mirror is None else recipe.mirror
    steps = recipe.steps_for(len(public))
    lessons = Lessons(torch.from_numpy(np.ascontiguousarray(unit)), recipe, steps, mirror, seed)
    seconds = work.run(steps, lessons.step, lessons.state, lessons.restore)
    facts: dict[str, float | str | None] = {
        "steps": float(steps),
        "seconds": round(seconds, 1),
        "device": described(lessons.device),
        "mirrored": "yes" if mirror else "no",
        # 1 is the linear denoiser: how much of its error the net took away.
        "denoising_error": round(lessons.loss, 4) if steps else 1.0,
    }
    return DiffusionPrior(spec, lessons.average.to("cpu").eval(), recipe.chain, facts)


def _recipe_of(options: Mapping[str, Any]) -> Recipe:
    known = Recipe.__dataclass_fields__
    for name in options:
        if name not in known:
            raise ConfigError(f"a diffusion prior has no option '{name}'; {did_you_mean(name, known)}")
    recipe = Recipe(**options)
    least = {"steps": 0, "width": 4, "components": 1, "batch": 2, "chain": 1}
    for name, low in least.items():
        value = options.get(name)
        if value is not None and (type(value) is not int or value < low):
            raise ConfigError(f"{name} of a diffusion prior is a whole number from {low}, got {value!r}")
    if not 0 < recipe.rate < 1 or not 0 <= recipe.keep < 1 or not 0 <= recipe.move < 0.5:
        raise ConfigError(
            "rate lies in (0, 1), keep in [0, 1) and move in [0, 0.5), "
            f"got {recipe.rate!r}, {recipe.keep!r} and {recipe.move!r}"
        )
    return recipe


def reopened(
    spec: InputSpec, options: Mapping[str, Any], tensors: Mapping[str, Tensor], learned: Facts
) -> DiffusionPrior:
    """The prior whose `kept` gave these.

    Raises:
        RuntimeError, KeyError: when tensors do not fit the numbers.
    """
    denoiser = Denoiser(spec.shape, int(options["components"]), int(options["width"]))
    denoiser.load_state_dict(tensors)
    return DiffusionPrior(spec, denoiser.eval().requires_grad_(False), int(options["chain"]), learned)
