"""Training many classifiers at once, each as `fit_classifier` trains one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from seepage.models.stacked import Stack, can_stack
from seepage.models.training import fit_classifier, lit, moved, seeded, steps_for

# Steps whose batches are drawn in one go.
DRAWN = 128
# Pixels up to which networks of pictures are stacked: above, arithmetic outweighs what a step costs besides, and a
# grouped convolution takes as long as many plain ones, or longer (benchmarks/membership-speed).
PIXELS = 16 * 16
# Weights up to which networks are stacked, for the same reason: stacked, larger ones no longer fit the caches.
WEIGHTS = 100_000
# Numbers of steps that count as the same: a model may be trained by so much more than alone.
ALIKE = 1.01


@dataclass(frozen=True)
class Schedule:
    """How long and how a classifier is trained (see `fit_classifier`).

    Attributes:
        epochs: passes over the records.
        rate: greatest learning rate.
        least: the fewest steps.
        batch: records a step.
        decay: weight decay.
        augment: whether pictures are moved and lit at random.
    """

    epochs: float
    rate: float
    least: int
    batch: int = 64
    decay: float = 1e-4
    augment: bool = True

    def steps(self, records: int) -> int:
        """Batches to train on."""
        return steps_for(records, self.batch, self.epochs, self.least)

    def drawn(self, records: int) -> int:
        """Records in a batch: two at the least, for batch normalisation."""
        return max(min(self.batch, 4 * records), 2)


def fit_one(
    build: Callable[[], nn.Module], x: torch.Tensor, y: torch.Tensor, seed: int, schedule: Schedule
) -> nn.Module:
    """One classifier, built and trained under its seed; in evaluation mode.

    Args:
        build: makes the network, untrained.
        x: (n, ...) records.
        y: (n,) classes.
        seed: decides everything that is drawn.
        schedule: how it is trained.
    """
    with seeded(seed) as rng:
        return fit_classifier(
            build(),
            x,
            y,
            rng,
            steps=schedule.steps(len(x)),
            rate=schedule.rate,
            batch=schedule.batch,
            decay=schedule.decay,
            augment=schedule.augment,
        )


def fit_many(
    build: Callable[[], nn.Module],
    xs: Sequence[torch.Tensor],
    ys: Sequence[torch.Tensor],
    seeds: Sequence[int],
    schedule: Schedule,
) -> list[nn.Module]:
    """Classifiers of one architecture, each as `fit_one` trains it, up to rounding and dropout's draws.

    First weights, batches and augmentation come from each model's own seed. Networks with a layer that cannot be
    stacked, large networks, networks of large pictures, and models alone in the number of their steps are trained one
    after the other.

    Args:
        build: makes the network, untrained.
        xs: the records of each model.
        ys: their classes.
        seeds: of each model.
        schedule: how they are trained.
    """
    made: list[nn.Module | None] = [None] * len(xs)
    for group in _alike([schedule.steps(len(x)) for x in xs], [schedule.drawn(len(x)) for x in xs]):
        nets = []
        for i in group:
            with seeded(seeds[i]):
                nets.append(build())
        if len(group) > 1 and _small(nets[0], xs[0]) and can_stack(nets[0]):
            trained = _together(
                nets, [xs[i] for i in group], [ys[i] for i in group], [seeds[i] for i in group], schedule
            )
        else:
            trained = [fit_one(build, xs[i], ys[i], seeds[i], schedule) for i in group]
        for i, net in zip(group, trained, strict=True):
            made[i] = net
    return [net for net in made if net is not None]


def _small(net: nn.Module, x: torch.Tensor) -> bool:
    """Whether a step of such a network costs more than its arithmetic, so that stacking gains."""
    pixels = x.shape[-1] * x.shape[-2] if x.dim() == 4 else 0
    return pixels <= PIXELS and sum(parameter.numel() for parameter in net.parameters()) <= WEIGHTS


def _alike(steps: Sequence[int], batches: Sequence[int]) -> list[list[int]]:
    """Models by number, those together whose batches are as large and whose steps are nearly as many."""
    groups: list[list[int]] = []
    for i in sorted(range(len(steps)), key=lambda i: (batches[i], steps[i])):
        first = groups[-1][0] if groups else i
        if groups and batches[first] == batches[i] and steps[i] <= steps[first] * ALIKE:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _together(
    nets: Sequence[nn.Module],
    xs: Sequence[torch.Tensor],
    ys: Sequence[torch.Tensor],
    seeds: Sequence[int],
    schedule: Schedule,
) -> list[nn.Module]:
    stack = Stack(nets)
    steps, batch = max(schedule.steps(len(x)) for x in xs), schedule.drawn(len(xs[0]))
    # The fused step does in one call what the plain one does in a dozen; the update is the same.
    optimiser = torch.optim.AdamW(
        list(stack.parameters.values()), schedule.rate, weight_decay=schedule.decay, fused=True
    )
    course = torch.optim.lr_scheduler.OneCycleLR(optimiser, schedule.rate, total_steps=steps)
    rngs = [torch.Generator().manual_seed(seed % 2**63) for seed in seeds]
    records, classes = torch.cat(list(xs)), torch.cat(list(ys))
    begin = torch.tensor([0, *(len(x) for x in xs[:-1])]).cumsum(0)
    pictures = schedule.augment and xs[0].dim() == 4
    with seeded(seeds[0]):
        for done in range(0, steps, DRAWN):
            ahead = 1 if pictures else min(DRAWN, steps - done)
            for _ in range(0, min(DRAWN, steps - done), ahead):
                drawn = [
                    torch.randint(len(x), (ahead * batch,), generator=rng).view(ahead, batch) + first
                    for x, rng, first in zip(xs, rngs, begin, strict=True)
                ]
                for rows in torch.stack(drawn, dim=1):
                    seen = records[rows]
                    if pictures:
                        seen = torch.stack([lit(moved(one, rng), rng) for one, rng in zip(seen, rngs, strict=True)])
                    optimiser.zero_grad()
                    said = stack(seen)
                    # The mean over each network's batch, summed over networks: their gradients do not meet.
                    loss = functional.cross_entropy(said.flatten(0, 1), classes[rows].flatten(), reduction="sum")
                    (loss / batch).backward()
                    optimiser.step()
                    course.step()
    return stack.unstack()
