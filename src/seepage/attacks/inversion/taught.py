"""Parts of the attacks that train a generative network under the target's eyes: losses, pseudo-labels, averages.

Records are in unit scale here, (n, *shape) in [0, 1]; logits are (n, k) for the victim's k classes.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn
from torch.nn import functional

from seepage.attacks.inversion.taught_nets import Sketch
from seepage.core.errors import ConfigError, ModelError
from seepage.core.knowledge import InversionKnowledge
from seepage.core.records import Records
from seepage.core.spec import InputSpec
from seepage.core.target import WhiteBox
from seepage.models.priors.gan_nets import LEAST_SIDE, Generator, follow
from seepage.models.priors.gan_training import mirrored_alike
from seepage.models.training import lit, moved, seeded

Array = np.ndarray
Tensor = torch.Tensor
BATCH = 256


def real_log_odds(logits: Float[Tensor, " n k"]) -> Float[Tensor, " n"]:
    """How much likelier than not a record is real, to a discriminator of k classes and a (k+1)-th for fakes.

    The logit of the fakes is fixed at 0, which costs nothing (a softmax is free of a common shift). With
    Z = sum_j exp(l_j), P(real) = Z / (Z + 1) = sigmoid(log Z): log Z is returned (Salimans et al. 2016, section 5).
    """
    return logits.logsumexp(dim=1)


def soft_cross_entropy(logits: Float[Tensor, " n k"], taught: Float[Tensor, " n k"]) -> Float[Tensor, ""]:
    """Mean of -sum_j t_j log softmax(l)_j: the discriminator is to classify as the target does (Chen et al. 2021)."""
    return -(taught * logits.log_softmax(dim=1)).sum(dim=1).mean()


def real_or_fake(real: Float[Tensor, " n k"], fake: Float[Tensor, " m k"]) -> Float[Tensor, ""]:
    """-1/2 E log P(real | record) - 1/2 E log P(fake | generated): the unsupervised half of a (k+1)-class loss."""
    missed = functional.softplus(-real_log_odds(real)).mean()
    fooled = functional.softplus(real_log_odds(fake)).mean()
    return 0.5 * (missed + fooled)


def mean_feature_gap(real: Float[Tensor, " n d"], fake: Float[Tensor, " m d"]) -> Float[Tensor, ""]:
    """Mean absolute difference of the batch means of two sets of features (feature matching)."""
    return (real.mean(dim=0) - fake.mean(dim=0)).abs().mean()


def entropy(logits: Float[Tensor, " n k"]) -> Float[Tensor, ""]:
    """Mean entropy of softmax(l), in nats: small when every generated record shows one clear class."""
    logs = logits.log_softmax(dim=1)
    return -(logs.exp() * logs).sum(dim=1).mean()


def top_n(logs: Float[Array, " n k"], classes: Int[Array, " c"], n: int) -> tuple[Int[Array, " m"], Int[Array, " m"]]:
    """For each wanted class the `n` records that the target takes for it most readily.

    A record may serve several classes, and a class that the target never predicts gets its n likeliest ones all
    the same (Yuan et al. 2023, top-n selection). The order is by log-probability: probabilities of many classes
    are zero in single precision, and would tie.

    Args:
        logs: log-probabilities, one row a public record.
        classes: columns of `logs` that are wanted.
        n: records a class, never more than there are.

    Returns:
        Rows of `logs`, class by class, likeliest first (the earlier of equals); and for each its place in `classes`.
    """
    count = min(n, len(logs))
    rows = np.argsort(-logs[:, classes], axis=0, kind="stable")[:count].T
    return rows.reshape(-1), np.repeat(np.arange(len(classes)), count)


def share(public: int, classes: int, most: int) -> int:
    """How many pseudo-labelled records a class gets: `most`, and less when there are too few to go round.

    Twice an even share at the most (records may serve two classes on average), and 4 at the least, or all there are:
    were every class to get most of the records, its pictures would say nothing about it.
    """
    return min(most, public, max(4, -(-2 * public // classes)) if classes > 2 else max(4, public // 2))


def answers(net: WhiteBox, x: Float[Tensor, " n ..."], bounded: "Bounded") -> Float[Tensor, " n k"]:
    """The target's log-probabilities of records in unit scale; every record is one query.

    Raises:
        ModelError: when an answer is not finite.
    """
    with torch.no_grad():
        logs = torch.cat([net(bounded(part)).log_softmax(dim=1) for part in x.split(BATCH)])
    if not torch.isfinite(logs).all():
        raise ModelError(
            "finite logits of the public records were wanted from the victim, and some are NaN or infinite"
        )
    return logs.float()


class Bounded:
    """Records in unit scale to the bounds of an input, differentiable."""

    def __init__(self, spec: InputSpec):
        self._low = torch.from_numpy(np.asarray(spec.bounds.low))
        self._width = torch.from_numpy(np.asarray(spec.bounds.high - spec.bounds.low))

    def __call__(self, unit: Float[Tensor, " n ..."]) -> Float[Tensor, " n ..."]:
        return unit.clamp(0.0, 1.0) * self._width + self._low


def seen_anew(x: Float[Tensor, " n c h w"], rng: torch.Generator, mirror: bool) -> Float[Tensor, " n c h w"]:
    """Pictures as the target is shown them: moved, zoomed, turned by at most 5 degrees, mirrored, lit at random.

    The transformations of Yuan et al. 2023, which keep a generator from finding noise that the target likes.
    """
    return lit(moved(x, rng, shift=0.06, zoom=0.1, turn=0.087, mirror=mirror), rng, amount=0.1)


def batches(count: int, size: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Rows in a random order, over and over, `size` at a time."""
    left = torch.empty(0, dtype=torch.long)
    while True:
        while len(left) < size:
            left = torch.cat([left, torch.randperm(count, generator=rng)])
        yield left[:size]
        left = left[size:]


def converging(loss: Tensor, step: int, who: str) -> Tensor:
    """`loss`, when it is finite.

    Raises:
        ConfigError: when it is not: the adversarial training has come apart.
    """
    if not torch.isfinite(loss):
        raise ConfigError(
            f"{who}: training its generator diverged at step {step} (the loss is {loss.item()}); "
            "lower `rate`, or give more public records"
        )
    return loss


def duel(
    generator: Sketch | Generator,
    critic: nn.Module,
    critic_loss: Callable[[], Tensor],
    generator_loss: Callable[[], Tensor],
    *,
    steps: int,
    rate: float,
    critic_steps: int,
    keep: float,
    who: str,
) -> Sketch | Generator:
    """Adversarial training by Adam (betas .5 and .999), losses from closures that draw their own batches.

    Args:
        generator: trained in place.
        critic: trained in place.
        critic_loss: what the critic lowers.
        generator_loss: what the generator lowers.
        steps: of the generator.
        rate: of both.
        critic_steps: steps of the critic for one of the generator.
        keep: share of the running average of weights that a step keeps.
        who: names the attack in an error.

    Returns:
        The generator with the running average of its weights, for evaluation.

    Raises:
        ConfigError: when a loss is no longer finite.
    """
    ours, its = list(generator.parameters()), list(critic.parameters())
    for_generator = torch.optim.Adam(ours, rate, betas=(0.5, 0.999))
    for_critic = torch.optim.Adam(its, rate, betas=(0.5, 0.999))
    average = copy.deepcopy(generator).requires_grad_(False)
    generator.train()
    critic.train()
    for step in range(1, steps + 1):
        for _ in range(critic_steps):
            _descend(for_critic, its, converging(critic_loss(), step, who))
        # Gradients of the generator alone: neither the critic's weights nor the victim's need any here.
        _descend(for_generator, ours, converging(generator_loss(), step, who))
        # Early weights do not linger: the average begins as the mean of what was seen.
        follow(average, generator, min(keep, 1 - 1 / step))
    critic.eval()
    return average.eval()


def _descend(optimiser: torch.optim.Optimizer, weights: list[nn.Parameter], loss: Tensor) -> None:
    for weight, slope in zip(weights, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
        weight.grad = slope
    optimiser.step()


def beginning(rng: torch.Generator) -> AbstractContextManager[torch.Generator]:
    """Inside, new networks draw their first weights from `rng`; torch's own randomness is as it was outside."""
    return seeded(int(torch.randint(2**62, (1,), generator=rng)))


def undrawable(spec: InputSpec) -> str | None:
    """Why no generator here can draw such records, or None."""
    if len(spec.shape) != 3 or min(spec.shape[1:]) < LEAST_SIDE:
        return f"its generator draws pictures of at least {LEAST_SIDE} x {LEAST_SIDE}, and records are {spec.shape}"
    return None


def public_of(knowledge: InversionKnowledge) -> Records:
    """The public records.

    Raises:
        ValueError: without any; `obstacle` says so before.
    """
    if knowledge.public is None:
        raise ValueError("public records are needed; `obstacle` says so")
    return knowledge.public


def mirrors(knowledge: InversionKnowledge) -> bool:
    """Whether mirror images of the public records look like records too: faces yes, handwriting no."""
    public = public_of(knowledge)
    return mirrored_alike(knowledge.spec.bounds.to_unit(public.x), public.y, seed=0)


def in_unit(knowledge: InversionKnowledge, mirror: bool) -> Float[Tensor, " n c h w"]:
    """The public records in unit scale; and their mirror images, when these count as records."""
    unit = torch.from_numpy(knowledge.spec.bounds.to_unit(public_of(knowledge).x))
    return torch.cat([unit, unit.flip(3)]) if mirror else unit


class Frames:
    """What a search held on its way, for the report: about eight looks at evenly spaced steps, the last included."""

    def __init__(self, steps: int, looks: int = 8):
        self._wanted = {round(s) for s in np.linspace(1, steps, min(looks, steps))}
        self._seen: list[Array] = []
        self._at: list[int] = []

    def see(self, step: int, show: Callable[[], Tensor]) -> None:
        """Take a look after step `step` (from 1 on), if it is one of those wanted."""
        if step in self._wanted:
            with torch.no_grad():
                self._seen.append(show().numpy())
            self._at.append(step)

    @property
    def frames(self) -> Float[Array, " f c ..."]:
        return np.stack(self._seen)

    @property
    def at(self) -> Int[Array, " f"]:
        return np.asarray(self._at)
