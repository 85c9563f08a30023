"""Generators that a target can teach, and what they begin as: principal components, a public GAN, or nothing."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrize import is_parametrized

from seepage.core.knowledge import InversionKnowledge
from seepage.models.priors import PCAPrior, prior_for
from seepage.models.priors.gan import GANPrior
from seepage.models.priors.gan_nets import ClassNorm, Critic, Generator

Tensor = torch.Tensor
Warm = Literal["pca", "gan", "none"]
HIDDEN = 128


class Sketch(nn.Module):
    """Latents to pictures in [0, 1]: a linear sketch of bent latents, then a few convolutions that retouch it.

    It begins as the principal components of the public records, bending and retouching nothing, so that the first
    picture drawn is already one of the linear prior; adversarial training goes on from there. The components stay:
    what is learned is which mixtures of them occur, and what they leave out. Conditional, a class has a gain and an
    offset of its own for every latent (what conditional normalisation does to features in Yuan et al. 2023).

    Args:
        prior: the linear prior to begin with.
        width: channels of the retouching.
        classes: how many classes condition it; 0 for none.
    """

    mean: Tensor
    basis: Tensor

    def __init__(self, prior: PCAPrior, width: int = 16, classes: int = 0):
        super().__init__()
        self.shape, self.size, self.classes = prior.spec.shape, prior.size, classes
        self.register_buffer("mean", torch.from_numpy(prior.mean.copy()))
        self.register_buffer("basis", torch.from_numpy(prior.basis.copy()))
        self.enter = nn.Linear(self.size, HIDDEN)
        self.leave = nn.Linear(HIDDEN, self.size)
        self.gain = nn.Parameter(torch.ones(classes, self.size)) if classes else None
        self.offset = nn.Parameter(torch.zeros(classes, self.size)) if classes else None
        channels = self.shape[0]
        self.fine = nn.Conv2d(channels, width, 3, padding=1)
        self.coarse = nn.Conv2d(channels, 2 * width, 3, padding=1)
        self.deep = nn.Conv2d(2 * width, width, 3, padding=1)
        self.end = nn.Conv2d(2 * width, channels, 3, padding=1)
        for last in (self.leave, self.end):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)  # pyright: ignore[reportArgumentType] - this layer has one

    def forward(self, z: Float[Tensor, " n k"], classes: Int[Tensor, " n"] | None = None) -> Float[Tensor, " n c h w"]:
        if self.gain is not None and self.offset is not None and classes is not None:
            z = z * self.gain[classes] + self.offset[classes]
        z = z + self.leave(functional.leaky_relu(self.enter(z), 0.2))
        sketch = (self.mean + z @ self.basis).reshape(len(z), *self.shape)
        centred = sketch * 2 - 1
        small = functional.leaky_relu(self.coarse(functional.avg_pool2d(centred, 2)), 0.2)
        small = functional.leaky_relu(self.deep(small), 0.2)
        wide = functional.interpolate(small, size=sketch.shape[2:], mode="nearest")
        both = torch.cat([functional.leaky_relu(self.fine(centred), 0.2), wide], dim=1)
        return (sketch + self.end(both)).clamp(0.0, 1.0)

    @torch.no_grad()
    def centre(self, x: Float[Tensor, " m c h w"], classes: Int[Tensor, " m"]) -> None:
        """Begin each class at the mean and spread of its records `x` in [0, 1], in latents.

        The spread is the mean over latents: of a dozen records each latent's own would be a rough guess.
        """
        if self.gain is None or self.offset is None:
            raise ValueError("only a conditional sketch can be centred on classes")
        z = (x.flatten(1) - self.mean) @ self.basis.T / self.basis.square().sum(dim=1)
        for place in classes.unique():
            mine = z[classes == place]
            self.offset[place] = mine.mean(dim=0)
            self.gain[place] = (mine - mine.mean(dim=0)).square().mean().sqrt().clamp_min(0.1)


def begun(
    knowledge: InversionKnowledge, warm: Warm, size: int, width: int, mirror: bool, classes: int = 0
) -> tuple[Sketch | Generator, Critic]:
    """A generator and a critic to go on from; both may be changed. First weights come from torch's generator.

    Args:
        knowledge: gives the public records and the priors learned from them; the victim has no part in it.
        warm: "pca": a `Sketch` of the principal components; "gan": the public GAN prior and its critic, trained when
            it is not at hand yet; "none": as they come.
        size: numbers in a latent, at the most for "pca"; not used for "gan".
        width: channels; not used for "gan".
        mirror: whether mirror images of the public records count as records.
        classes: how many classes condition them; 0 for none.

    Raises:
        DataError: for public records that no prior can be learned from.
    """
    shape = knowledge.spec.shape
    if warm == "pca":
        prior = prior_for(knowledge, "pca", components=size, mirror=mirror)
        if not isinstance(prior, PCAPrior):
            raise TypeError(f"a PCAPrior was wanted, got a {type(prior).__name__}")
        return Sketch(prior, width, classes), Critic(shape, width, classes)
    if warm == "none":
        return Generator(shape, size, width, classes), Critic(shape, width, classes)
    prior = prior_for(knowledge, "gan")
    if not isinstance(prior, GANPrior):
        raise TypeError(f"a GANPrior was wanted, got a {type(prior).__name__}")
    public, judge = prior.generator, prior.critic
    generator = Generator(shape, public.size, public.width, classes)
    critic = Critic(shape, judge.width, classes)
    _copied(generator, public)
    _copied(critic, judge)
    return generator, critic


@torch.no_grad()
def _copied(net: nn.Module, source: nn.Module) -> None:
    """Weights of `source` into `net`, layer by layer; every class of a conditional `net` gets those of no class."""
    theirs = dict(source.named_modules())
    for name, mine in net.named_modules():
        its = theirs.get(name)
        if its is None:
            continue
        for kind in ("weight", "bias"):
            value = getattr(its, kind, None)
            if isinstance(value, Tensor) and isinstance(getattr(mine, kind, None), Tensor):
                if is_parametrized(mine, kind):
                    # Sets the weight before spectral normalisation: it is of norm 1 already.
                    setattr(mine, kind, value.clone())
                else:
                    getattr(mine, kind).copy_(value)
        statistics = dict(its.named_buffers(recurse=False))
        for kind, value in mine.named_buffers(recurse=False):
            if kind in statistics:
                value.copy_(statistics[kind])
        if isinstance(its, ClassNorm) and isinstance(mine, ClassNorm) and mine.gain is not None:
            for rows, row in ((mine.gain, its.norm.weight), (mine.offset, its.norm.bias)):
                if rows is not None:
                    rows.copy_(row.expand_as(rows))
