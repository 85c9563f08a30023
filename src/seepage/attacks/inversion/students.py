"""Copies of a victim, distilled from its answers: other networks that know the same classes (Nguyen et al. 2023)."""

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from seepage.attacks.inversion.parts import jittered
from seepage.attacks.inversion.search import PASS
from seepage.core.target import WhiteBox
from seepage.models import nets
from seepage.models.training import seeded

# Widths of the convolutional copies, one after the other: none has the sizes of a built-in victim.
WIDTHS = (8, 16, 10)


def answered(net: WhiteBox, x: Float[torch.Tensor, " n ..."]) -> Float[torch.Tensor, " n c"]:
    """The victim's logits: one query a record."""
    with torch.no_grad():
        return torch.cat([net(part) for part in x.split(PASS)])


def lesson(
    known: Float[torch.Tensor, " m ..."], drawn: Float[torch.Tensor, " d ..."], asked: int, draws: torch.Generator
) -> Float[torch.Tensor, " n ..."]:
    """The `asked` records a copy is taught on: public ones first, then draws of the prior, then both moved at random.

    Records are in the input's bounds; there are exactly `asked` of them.
    """
    both = torch.cat([known, drawn])
    if asked <= len(both):
        # Half and half where not all can be asked.
        public = min(len(known), max(asked - len(drawn), asked // 2))
        return torch.cat([known[:public], drawn[: asked - public]])
    rows = torch.randint(len(both), (asked - len(both),), generator=draws)
    return torch.cat([both, jittered(both[rows], draws)])


def distilled(
    x: Float[torch.Tensor, " n ..."],
    logits: Float[torch.Tensor, " n c"],
    number: int,
    *,
    seed: int,
    steps: int,
    heat: float,
) -> nn.Module:
    """A copy trained to answer as the victim answered; in evaluation mode, its weights fixed.

    Minimises KL(softmax(victim / heat) || softmax(copy / heat)) over batches of 64 (Hinton, Vinyals & Dean
    2015), by AdamW with a one-cycle rate. Pictures are taught to a small convolutional network, other
    records to one hidden layer.

    Args:
        x: records in unit scale.
        logits: what the victim said of them.
        number: which copy; the next one has another width.
        seed: of its first weights and its batches.
        steps: batches.
        heat: temperature, above zero.
    """
    with seeded(seed) as rng:
        shape, classes = tuple(x.shape[1:]), logits.shape[1]
        if len(shape) == 3:
            net = nets.cnn(shape, classes, WIDTHS[number % len(WIDTHS)])
        else:
            net = nets.mlp(shape, classes, 16 * WIDTHS[number % len(WIDTHS)])
        wanted = (logits / heat).softmax(dim=1)
        optimiser = torch.optim.AdamW(net.parameters(), 5e-3, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=max(steps, 2))
        net.train()
        for _ in range(steps):
            rows = torch.randint(len(x), (min(64, max(len(x), 2)),), generator=rng)
            said = (net(x[rows]) / heat).log_softmax(dim=1)
            optimiser.zero_grad()
            (functional.kl_div(said, wanted[rows], reduction="batchmean") * heat**2).backward()
            optimiser.step()
            schedule.step()
    return net.eval().requires_grad_(False)


def agreement(net: nn.Module, x: Float[torch.Tensor, " n ..."], logits: Float[torch.Tensor, " n c"]) -> float:
    """The share of records of which a copy names the class that the victim named."""
    with torch.no_grad():
        said = torch.cat([net(part).argmax(dim=1) for part in x.split(PASS)])
    return float((said == logits.argmax(dim=1)).float().mean())
