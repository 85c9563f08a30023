"""The GAN prior: a generator trained on public pictures, with the critic it was trained against."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from seepage.core.errors import ConfigError, DataError
from seepage.core.records import Records
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Modality
from seepage.models.priors.gan_nets import Critic, Generator
from seepage.models.priors.gan_training import Components, Recipe, fit
from seepage.models.priors.own_weights import each_by_its_own, weights_of
from seepage.models.priors.work import Work

Array = np.ndarray
Facts = Mapping[str, float | str | None]
_BATCH = 256


@dataclass(frozen=True)
class GANPrior:
    """Pictures as a generator draws them from standard normal latents.

    A conditional one ("cgan") knows the classes of the public records: those are other people than the
    victim's. Without a class, it draws with the mean of all classes; `sample` draws classes too.

    Attributes:
        spec: what a record looks like.
        generator: latents to pictures in [0, 1]; in evaluation mode, on the processor.
        critic: how real pictures in [0, 1] look; likewise.
        components: what the latents began as, for a first guess at a record's latent.
        learned: what the report says of its training and quality.
        class_names: the public classes of a conditional one.
    """

    spec: InputSpec
    generator: Generator
    critic: Critic
    components: Components
    learned: Facts = field(default_factory=dict[str, float | str | None])
    class_names: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return "cgan" if self.generator.classes else "gan"

    @property
    def size(self) -> int:
        """How many numbers a latent has."""
        return self.generator.size

    @property
    def classes(self) -> int:
        """How many classes condition it; 0 for none."""
        return self.generator.classes

    @property
    def facts(self) -> dict[str, float | str | None]:
        """What a report says of it."""
        return {"kind": self.kind, "size": float(self.size), **self.learned}

    def decode(self, z: Float[Array, " n k"], classes: Int[Array, " n"] | None = None) -> Float[Array, " n ..."]:
        """Records for latents, in `spec.bounds`; `classes` are public ones."""
        latents = torch.from_numpy(np.ascontiguousarray(z, dtype=np.float32))
        labels = None if classes is None else torch.from_numpy(np.ascontiguousarray(classes)).long()
        made = [np.zeros((0, *self.spec.shape), dtype=np.float32)]
        with torch.no_grad():
            for start in range(0, len(latents), _BATCH):
                part = slice(start, start + _BATCH)
                made.append(self.generator(latents[part], None if labels is None else labels[part]).numpy())
        return self.spec.bounds.from_unit(np.concatenate(made))

    def sample(self, n: int, rng: np.random.Generator, limit: float = 2.0) -> Float[Array, " n ..."]:
        """`n` random records; latents are drawn in at `limit` standard deviations, classes evenly."""
        z = np.clip(rng.standard_normal((n, self.size)), -limit, limit)
        return self.decode(z, rng.integers(self.classes, size=n) if self.classes else None)

    def encode(self, x: Float[Array, " n ..."], steps: int = 40) -> Float[Array, " n k"]:
        """Latents whose records lie near `x`: the projection on the components, then descent on the squared error.

        Args:
            x: records in `spec.bounds`.
            steps: of Adam, with a pull towards likely latents; 0 leaves the projection.
        """
        wanted = torch.from_numpy(self.spec.bounds.to_unit(x))
        found = [np.zeros((0, self.size), dtype=np.float32)]
        for start in range(0, len(wanted), _BATCH):
            part = wanted[start : start + _BATCH]
            found.append(self._refined(part, self.components.latents(part.flatten(1)).clamp(-3, 3), steps))
        return np.concatenate(found)

    def _refined(self, wanted: torch.Tensor, z: torch.Tensor, steps: int) -> Array:
        latents = z.clone().requires_grad_()
        optimiser = torch.optim.Adam([latents], 0.1)
        for number in range(steps):
            for group in optimiser.param_groups:
                group["lr"] = 0.1 * (1 - number / steps) + 0.005
            error = ((self.generator(latents) - wanted) ** 2).flatten(1).mean(1)
            loss = (error + 1e-4 * (latents**2).mean(1)).sum()
            (latents.grad,) = torch.autograd.grad(loss, latents)
            optimiser.step()
        return latents.detach().numpy()

    def decoder(self) -> "GANDecoder":
        """The same map for torch, differentiable."""
        return GANDecoder(self)

    def kept(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """What has to be saved: numbers to build the nets again, and their weights."""
        nets = {"generator": self.generator, "critic": self.critic}
        tensors = {f"{name}.{key}": t for name, net in nets.items() for key, t in net.state_dict().items()}
        tensors |= {"components.means": self.components.means, "components.basis": self.components.basis}
        options = {
            "size": self.size,
            "width": self.generator.width,
            "classes": self.classes,
            "class_names": list(self.class_names),
        }
        return options, tensors


class GANDecoder:
    """Latents to records in the input's bounds; the stages are the generator's, and then the bounds."""

    def __init__(self, prior: GANPrior):
        self._generator = prior.generator
        self._critic = prior.critic
        bounds = prior.spec.bounds
        self._low = torch.from_numpy(np.asarray(bounds.low))
        self._high = torch.from_numpy(np.asarray(bounds.high))

    def _bounded(self, unit: torch.Tensor) -> torch.Tensor:
        return unit * (self._high - self._low) + self._low

    @property
    def stages(self) -> list[Callable[[torch.Tensor], torch.Tensor]]:
        """The maps that make up the decoder, first to last, for no class in particular."""
        return self.stages_for(None)

    def stages_for(self, classes: torch.Tensor | None) -> list[Callable[[torch.Tensor], torch.Tensor]]:
        """The same for these public classes (n,) of a conditional prior."""
        return [*self._generator.stages_for(classes), self._bounded]

    def __call__(self, z: torch.Tensor, classes: torch.Tensor | None = None) -> torch.Tensor:
        """Records in the input's bounds: (n, *shape)."""
        return self._bounded(self._generator(z, classes))

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The generator's, by name."""
        return weights_of(self._generator)

    def drawn(self, weights: Mapping[str, torch.Tensor], z: torch.Tensor) -> torch.Tensor:
        """Records (n, *shape), each by generator weights (n, ...) of its own, for no class in particular."""
        return self._bounded(each_by_its_own(self._generator, weights, z))

    def critic(self, x: torch.Tensor) -> torch.Tensor | None:
        """How real records (n, *shape) in the input's bounds look: (n,), higher is more real."""
        width = torch.where(self._high > self._low, self._high - self._low, torch.ones_like(self._low))
        return self._critic((x - self._low) / width)


def train_gan(public: Records, spec: InputSpec, seed: int, work: Work, **options: Any) -> GANPrior:
    """A GAN prior of public pictures.

    Args:
        public: the pictures; their classes are not used.
        spec: what a record looks like.
        seed: of everything drawn.
        work: where the state is kept, and who is told.
        **options: fields of `Recipe`: steps, size, width, batch, rate, keep, redraw, anchor, smooth, mirror.

    Raises:
        ConfigError: for an unknown option.
        DataError: for records that are no pictures of at least 8 x 8, or too few.
        ModelError: when training does not hold.
    """
    return _train(public, spec, seed, work, 0, options)


def train_cgan(public: Records, spec: InputSpec, seed: int, work: Work, **options: Any) -> GANPrior:
    """A GAN prior that knows the classes of the public pictures; as `train_gan` otherwise.

    Raises:
        DataError: also when the records carry no classes.
    """
    if public.y is None or len(np.unique(public.y)) < 2:
        raise DataError(
            "the prior 'cgan' needs public records with at least 2 classes of their own; use the prior 'gan', "
            "or give the public records as a folder of classes"
        )
    return _train(public, spec, seed, work, len(public.class_names), options)


def _train(
    public: Records, spec: InputSpec, seed: int, work: Work, classes: int, options: Mapping[str, Any]
) -> GANPrior:
    if spec.modality is not Modality.IMAGE:
        raise DataError(f"a GAN draws pictures, and these records are a {spec.modality}; use the prior 'pca'")
    recipe = recipe_of(options)
    unit = spec.bounds.to_unit(spec.check(public.x, "public"))
    made = fit(unit, public.y, classes, seed, work, recipe)
    return GANPrior(
        spec, made.generator, made.critic, made.components, made.facts, public.class_names if classes else ()
    )


def recipe_of(options: Mapping[str, Any]) -> Recipe:
    """The recipe these options name.

    Raises:
        ConfigError: for an unknown option, or a value that cannot be.
    """
    from seepage.core.errors import did_you_mean

    known = Recipe.__dataclass_fields__
    for name in options:
        if name not in known:
            raise ConfigError(f"a GAN prior has no option '{name}'; {did_you_mean(name, known)}")
    recipe = Recipe(**options)
    counts = {"steps": recipe.steps, "size": recipe.size, "width": recipe.width, "batch": recipe.batch}
    least = {"width": 4, "batch": 2}
    for name, value in counts.items():
        if value is not None and (type(value) is not int or value < least.get(name, 1)):
            raise ConfigError(f"{name} of a GAN prior is a whole number from {least.get(name, 1)}, got {value!r}")
    if not 0 < recipe.rate < 1 or not 0 <= recipe.keep < 1:
        raise ConfigError(f"rate lies in (0, 1) and keep in [0, 1), got {recipe.rate!r} and {recipe.keep!r}")
    return recipe


def reopened(
    spec: InputSpec, options: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], learned: Facts
) -> GANPrior:
    """The prior whose `kept` gave these.

    Raises:
        RuntimeError, KeyError: when tensors do not fit the numbers.
    """
    shape, width, classes = spec.shape, int(options["width"]), int(options["classes"])
    generator = Generator(shape, int(options["size"]), width, classes)
    critic = Critic(shape, width, classes, normed=False)
    for name, net in (("generator", generator), ("critic", critic)):
        net.load_state_dict(
            {key.removeprefix(name + "."): t for key, t in tensors.items() if key.startswith(name + ".")}
        )
        # As they were trained: another order in memory is another order of summing.
        net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - lacks in torch's types
        net.eval().requires_grad_(False)
    components = Components(tensors["components.means"], tensors["components.basis"])
    return GANPrior(spec, generator, critic, components, learned, tuple(options["class_names"]))
