"""How the generator and its critic are trained on few public pictures.

A GAN that starts from nothing has seen too little of 200 pictures, in the minutes two cores give, to draw
a face. This one starts from their principal components: for the first part of its steps the generator
learns, by squared error, to draw what they draw. Its latents are then theirs, a record's latent is known,
and the duel with the critic begins with pictures that are only too smooth. While it lasts, the records
themselves stay anchored at their latents, which also keeps the draws from falling together.
"""

import copy
import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from seepage.core.errors import DataError, ModelError
from seepage.core.seeds import derive, stream
from seepage.core.spec import InputSpec
from seepage.models.device import best_device, described, mixed
from seepage.models.priors.gan_nets import ClassNorm, Critic, Generator, augmented, follow
from seepage.models.priors.pca import PCAPrior
from seepage.models.priors.work import Work
from seepage.models.training import seeded

Array = np.ndarray
_log = logging.getLogger(__name__)

FEWEST = 4
# Records shown in all, by default: few records are learned by heart when they are shown too often.
_SHOWN_LEAST, _SHOWN_MOST = 40_000, 64_000


@dataclass(frozen=True)
class Recipe:
    """How a GAN is trained.

    Attributes:
        steps: batches; None chooses by how many records there are and how large.
        size: numbers in a latent.
        width: channels of generator and critic on their finest inner grid.
        batch: records a step.
        rate: learning rate of both.
        keep: how much of the running average of the generator's weights is kept a step.
        redraw: weight of the critic's redrawing.
        anchor: weight of the squared error of records drawn from their own latents, during the duel.
        smooth: share of the steps in which the generator learns the components, before the duel.
        mirror: also learn from mirror images; None: when those look like records (`mirrored_alike`).
    """

    steps: int | None = None
    size: int = 64
    width: int = 24
    batch: int = 16
    rate: float = 4e-4
    keep: float = 0.99
    redraw: float = 1.0
    anchor: float = 5.0
    smooth: float = 0.3
    mirror: bool | None = None

    def steps_for(self, records: int) -> int:
        """How many steps this many records are trained for."""
        if self.steps is not None:
            return self.steps
        shown = min(max(200 * records, _SHOWN_LEAST), _SHOWN_MOST)
        return math.ceil(shown / self.batch)


@dataclass(frozen=True)
class Components:
    """Principal components of the records, about the mean of each class where classes are known.

    Attributes:
        means: (classes or 1, d) in unit scale.
        basis: (size, d), each scaled by its standard deviation; zero where there are fewer than `size`.
    """

    means: torch.Tensor
    basis: torch.Tensor

    @classmethod
    def of(cls, unit: Float[Array, " n c h w"], y: Int[Array, " n"] | None, classes: int, size: int) -> "Components":
        """Those of records in unit scale; a class without records gets the mean of all."""
        flat = unit.reshape(len(unit), -1)
        if y is None or not classes:
            means, centred = flat.mean(axis=0, keepdims=True), flat - flat.mean(axis=0)
        else:
            of_class = [flat[y == c] if (y == c).any() else flat for c in range(classes)]
            means = np.stack([rows.mean(axis=0) for rows in of_class])
            centred = flat - means[y]
            if float((centred**2).mean()) < 1e-8:  # one record a class: nothing varies within any
                centred = flat - flat.mean(axis=0)
        shape = unit.shape[1:]
        fitted = PCAPrior.fit((0.5 + centred).reshape(-1, *shape), InputSpec(shape), components=size, mirror=False)
        basis = np.zeros((size, flat.shape[1]), dtype=np.float32)
        basis[: fitted.size] = fitted.basis
        return cls(torch.from_numpy(means.astype(np.float32)), torch.from_numpy(basis))

    def _mean(self, classes: torch.Tensor | None) -> torch.Tensor:
        return self.means[classes] if classes is not None and len(self.means) > 1 else self.means.mean(0, keepdim=True)

    def drawn(self, z: torch.Tensor, classes: torch.Tensor | None) -> torch.Tensor:
        """Flat pictures (n, d) for latents."""
        return (self._mean(classes) + z @ self.basis).clamp(0, 1)

    def latents(self, flat: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        """Latents (n, size) of flat pictures (n, d): the projection."""
        power = (self.basis**2).sum(dim=1).clamp_min(1e-12)
        return (flat - self._mean(classes)) @ self.basis.T / power


@dataclass(frozen=True)
class Trained:
    """What a training gives.

    Attributes:
        generator: the running average, in evaluation mode, on the processor.
        critic: with its spectral normalisation worked into the weights, likewise.
        components: what the latents began as: a record's latent is roughly its projection on them.
        facts: steps, seconds, device, whether mirrored, last losses.
    """

    generator: Generator
    critic: Critic
    components: Components
    facts: dict[str, float | str | None]


def mirrored_alike(unit: Float[Array, " n c h w"], y: Int[Array, " n"] | None, seed: int) -> bool:
    """Whether mirror images of these records look like records.

    Principal components are learned from one half (other classes, where classes are known); the mirrored
    other half must be redrawn by them with at most 1.2 times the squared error of the other half itself.
    Faces pass, handwriting and hearts on the left do not.
    """
    rng = stream(seed, "prior", "mirror")
    if y is not None and len(np.unique(y)) >= 4:
        classes = rng.permutation(np.unique(y))
        first = np.isin(y, classes[: len(classes) // 2])
    else:
        first = np.zeros(len(unit), dtype=bool)
        first[rng.permutation(len(unit))[: len(unit) // 2]] = True
    flat = unit.reshape(len(unit), -1)
    learned, other = flat[first][:1000], flat[~first][:1000]
    if len(learned) < 2 or len(other) < 1:
        return False
    mean = learned.mean(axis=0)
    _, _, vt = np.linalg.svd(learned - mean, full_matrices=False)
    basis = vt[: max(1, min(40, len(learned) // 2))]

    def error(x: Array) -> float:
        centred = x - mean
        return float(((centred - centred @ basis.T @ basis) ** 2).mean())

    turned = unit[~first][:1000][..., ::-1].reshape(len(other), -1)
    return error(turned) <= 1.2 * error(other)


class Duel:
    """Generator and critic with everything that changes while they are trained."""

    def __init__(
        self,
        unit: torch.Tensor,
        y: torch.Tensor | None,
        components: Components,
        steps: int,
        recipe: Recipe,
        seed: int,
    ):
        self._recipe, self._y, self._unit = recipe, y, unit
        self._steps = steps
        self._device = best_device()
        # The first steps learn the components; the critic's say then grows over as many steps again.
        self._first = round(recipe.smooth * steps)
        self._components = Components(components.means.to(self._device), components.basis.to(self._device))
        self._latents = components.latents(unit.flatten(1), y)
        shape = tuple(unit.shape[1:])
        classes = len(components.means) if y is not None else 0
        with seeded(derive(seed, "prior", "gan", "nets")):
            generator = Generator(shape, recipe.size, recipe.width, classes)
            critic = Critic(shape, recipe.width, classes)
        memory = torch.channels_last
        self.generator = generator.to(self._device, memory_format=memory)  # pyright: ignore[reportCallIssue]
        self.critic = critic.to(self._device, memory_format=memory)  # pyright: ignore[reportCallIssue]
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        betas = (0.5, 0.99)
        # What makes a class another one is few numbers, which must get further in as many steps.
        of_classes = [
            p for part in self.generator.modules() if isinstance(part, ClassNorm) for p in (part.gain, part.offset)
        ]
        few = [p for p in of_classes if p is not None]
        known = {id(p) for p in few}
        groups = [
            {"params": [p for p in self.generator.parameters() if id(p) not in known], "times": 1.0},
            {"params": few, "times": 10.0},
        ]
        self._draws = torch.optim.Adam([group for group in groups if group["params"]], recipe.rate, betas)
        self._judges = torch.optim.Adam(self.critic.parameters(), recipe.rate, betas)
        self._rng = torch.Generator().manual_seed(derive(seed, "prior", "gan", "steps"))
        self.losses: dict[str, torch.Tensor] = {}

    @property
    def device(self) -> torch.device:
        """Where it is trained."""
        return self._device

    def step(self, number: int) -> None:
        """One batch: in the first part the components, in the second the duel.

        Raises:
            ModelError: when a loss is no longer a number.
        """
        n, rng = self._recipe.batch, self._rng
        # Slower towards the end, down to a tenth.
        rate = self._recipe.rate * min(1.0, max(0.1, 2 * (1 - number / self._steps)))
        for optimiser in (self._draws, self._judges):
            for group in optimiser.param_groups:
                group["lr"] = rate * group.get("times", 1.0)
        rows = torch.randint(len(self._unit), (n,), generator=rng)
        real = self._unit[rows].to(self._device, memory_format=torch.channels_last)
        # Drawn for the classes of the real batch: the critic then sees both in the same proportions.
        y = None if self._y is None else self._y[rows].to(self._device)
        z = torch.randn(n, self._recipe.size, generator=rng).to(self._device)
        # A little noise on the latents of records, as those of one record should all draw it.
        own = (self._latents[rows] + 0.1 * torch.randn(n, self._recipe.size, generator=rng)).to(self._device)
        if number < self._first:
            self._smooth_step(real, y, z, own)
        else:
            self._duel_step(number, real, y, z, own)
        # A short training must not be averaged with its first steps, when nothing was learned yet.
        follow(self.average, self.generator, min(self._recipe.keep, (1 + number) / (10 + number)))
        if number % 20 == 0:
            self._note(number)

    def _smooth_step(self, real: torch.Tensor, y: torch.Tensor | None, z: torch.Tensor, own: torch.Tensor) -> None:
        """The generator learns what the components draw, and the records."""
        half = len(z) // 2
        latents = torch.cat([z[:half], own[half:]])
        wanted = torch.cat([self._components.drawn(z, y)[:half].reshape(half, *real.shape[1:]), real[half:]])
        with mixed(self._device):
            drawn = self.generator(latents, y)
        loss = functional.mse_loss(drawn.float(), wanted)
        self._draws.zero_grad(set_to_none=True)
        loss.backward()
        self._draws.step()
        self.losses["anchor"] = loss.detach()

    def _duel_step(
        self, number: int, real: torch.Tensor, y: torch.Tensor | None, z: torch.Tensor, own: torch.Tensor
    ) -> None:
        """The critic by the hinge loss and its redrawing, then the generator against it."""
        n, rng, both = len(real), self._rng, None if y is None else torch.cat([y, y])
        with mixed(self._device):
            drawn, again = self.generator(torch.cat([z, own]), both).split(n)
            maps = self.critic.maps(seen := augmented(real, rng))
            on_real = self.critic.verdict(self.critic.features_of(maps), y)
            on_drawn = self.critic(augmented(drawn.detach(), rng), y)
            redrawn, small = self.critic.redrawn(maps, seen)
            redraw = functional.mse_loss(redrawn.float(), small.float())
            critic = functional.relu(1 - on_real).mean() + functional.relu(1 + on_drawn).mean()
        self._judges.zero_grad(set_to_none=True)
        (critic + self._recipe.redraw * redraw).backward()
        self._judges.step()
        self.critic.requires_grad_(False)
        # An untrained critic's opinion would undo what the generator has learned.
        say = min(1.0, (number + 1 - self._first) / max(self._first, 1))
        with mixed(self._device):
            verdict = -self.critic(augmented(drawn, rng), y).mean()
            anchor = functional.mse_loss(again.float(), real)
        self._draws.zero_grad(set_to_none=True)
        (say * verdict + self._recipe.anchor * anchor).backward()
        self._draws.step()
        self.critic.requires_grad_(True)
        for name, loss in (("critic", critic), ("generator", verdict), ("redraw", redraw), ("anchor", anchor)):
            self.losses[name] = loss.detach()

    def _note(self, number: int) -> None:
        seen = {name: float(loss) for name, loss in self.losses.items()}
        if not all(math.isfinite(loss) for loss in seen.values()):
            raise ModelError(
                f"the training of the GAN came apart at step {number} (losses {seen}); "
                "lower its rate, or use the prior 'pca'"
            )
        _log.debug("step %d: %s", number, seen)

    def state(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "generator": self.generator.state_dict(),
            "critic": self.critic.state_dict(),
            "average": self.average.state_dict(),
            "draws": self._draws.state_dict(),
            "judges": self._judges.state_dict(),
            "rng": self._rng.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.generator.load_state_dict(state["generator"])
        self.critic.load_state_dict(state["critic"])
        self.average.load_state_dict(state["average"])
        self._draws.load_state_dict(state["draws"])
        self._judges.load_state_dict(state["judges"])
        self._rng.set_state(state["rng"])


@torch.no_grad()
def calibrated(average: Generator, classes: torch.Tensor | None, device: torch.device, seed: int) -> Generator:
    """The averaged generator on the processor, its normalisation measured anew on draws of its own.

    The statistics that were gathered while training belong to the weights of each step, not to their average.
    """
    rng = torch.Generator().manual_seed(derive(seed, "prior", "gan", "norm"))
    norms = [part for part in average.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    average.train()
    for _ in range(20):
        z = torch.randn(64, average.size, generator=rng).to(device)
        y = None if classes is None else classes[torch.randint(len(classes), (64,), generator=rng)].to(device)
        average(z, y)
    for norm in norms:
        norm.momentum = 0.1
    return average.to("cpu").eval()


def plain(critic: Critic) -> Critic:
    """A copy on the processor, in evaluation mode, with spectral normalisation worked into the weights."""
    made = copy.deepcopy(critic).to("cpu").eval()
    for part in list(made.modules()):
        if is_parametrized(part, "weight"):
            remove_parametrizations(part, "weight", leave_parametrized=True)
    made.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - lacks in torch's types
    return made.requires_grad_(False)


def finite(net: nn.Module) -> bool:
    """Whether every weight is a number."""
    tensors: Iterable[torch.Tensor] = net.state_dict().values()
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors if tensor.is_floating_point())


def fit(
    unit: Float[Array, " n c h w"], y: Int[Array, " n"] | None, classes: int, seed: int, work: Work, recipe: Recipe
) -> Trained:
    """Train generator and critic on records in unit scale.

    Args:
        unit: at least 4 pictures in [0, 1], 8 x 8 or larger.
        y: their classes; None for none.
        classes: how many there are to condition on; 0 for an unconditional one.
        seed: of everything drawn.
        work: where the state is kept, and who is told.
        recipe: how to train.

    Raises:
        DataError: for too few pictures, pictures that are all the same, or too small.
        ModelError: when training does not hold.
    """
    if len(unit) < FEWEST:
        raise DataError(f"a GAN needs at least {FEWEST} public records, got {len(unit)}; use the prior 'pca'")
    if float(np.ptp(unit, axis=0).max()) <= 0:
        raise DataError("a prior needs public records that differ from each other; these are all the same")
    mirror = mirrored_alike(unit, y, seed) if recipe.mirror is None else recipe.mirror
    y = y if classes else None
    steps = recipe.steps_for(len(unit))
    if mirror:
        unit = np.concatenate([unit, unit[..., ::-1]])
        y = None if y is None else np.concatenate([y, y])
    labels = None if y is None else torch.from_numpy(np.ascontiguousarray(y)).long()
    components = Components.of(unit, y, classes, recipe.size)
    duel = Duel(torch.from_numpy(np.ascontiguousarray(unit)), labels, components, steps, recipe, seed)
    seconds = work.run(steps, duel.step, duel.state, duel.restore)
    if not (finite(duel.average) and finite(duel.critic)):
        raise ModelError("the training of the GAN came apart; lower its rate, or use the prior 'pca'")
    facts: dict[str, float | str | None] = {
        "steps": float(steps),
        "seconds": round(seconds, 1),
        "device": described(duel.device),
        "mirrored": "yes" if mirror else "no",
    }
    return Trained(calibrated(duel.average, labels, duel.device, seed), plain(duel.critic), components, facts)
