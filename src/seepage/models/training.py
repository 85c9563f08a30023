"""Training loops: short, deterministic under their seed, with mild augmentation for pictures."""

import math
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn import functional

Array = np.ndarray


@contextmanager
def seeded(seed: int) -> Generator[torch.Generator]:
    """Torch's own randomness under `seed` inside, as it was outside; gives a generator of the same seed."""
    with torch.random.fork_rng(devices=[]):
        # Telling devices that are not there takes as long as a small client's whole round.
        told = torch.manual_seed if torch.cuda.is_available() else torch.default_generator.manual_seed
        told(seed % 2**63)
        yield torch.Generator().manual_seed(seed % 2**63)


def moved(
    x: torch.Tensor,
    rng: torch.Generator,
    shift: float = 0.06,
    zoom: float = 0.06,
    turn: float = 0.05,
    mirror: bool = True,
) -> torch.Tensor:
    """Pictures (n, c, h, w) shifted, zoomed, turned and mirrored at random; differentiable.

    Args:
        x: the pictures.
        rng: where randomness comes from.
        shift: greatest shift, as a share of the side.
        zoom: greatest change of size, as a share.
        turn: greatest turn, in radians.
        mirror: whether half of them are mirrored.
    """
    n = len(x)
    draw = torch.rand(5, n, generator=rng) * 2 - 1
    angle, size = draw[0] * turn, 1 + draw[1] * zoom
    flip = torch.where(draw[4] < 0, -1.0, 1.0) if mirror else torch.ones(n)
    cos, sin = torch.cos(angle) * size, torch.sin(angle) * size
    theta = torch.stack(
        [
            torch.stack([cos * flip, -sin, draw[2] * shift * 2], dim=1),
            torch.stack([sin * flip, cos, draw[3] * shift * 2], dim=1),
        ],
        dim=1,
    )
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)


def lit(x: torch.Tensor, rng: torch.Generator, amount: float = 0.1) -> torch.Tensor:
    """Pictures in [0, 1] made brighter or darker, and of more or less contrast, at random."""
    sides = (len(x),) + (1,) * (x.dim() - 1)
    gain = 1 + (torch.rand(sides, generator=rng) * 2 - 1) * amount
    bias = (torch.rand(sides, generator=rng) * 2 - 1) * amount
    mean = x.mean(dim=tuple(range(1, x.dim())), keepdim=True)
    return ((x - mean) * gain + mean + bias).clamp(0, 1)


def fit_classifier(
    net: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    rng: torch.Generator,
    *,
    steps: int,
    rate: float,
    batch: int = 64,
    decay: float = 1e-4,
    augment: bool = True,
) -> nn.Module:
    """Train a classifier with AdamW and a one-cycle learning rate; returns it in evaluation mode.

    Dropout draws from torch's global generator: call under `torch.random.fork_rng` with a seed.

    Args:
        net: gives logits.
        x: (n, ...) records in [0, 1].
        y: (n,) classes.
        rng: draws the batches and the augmentation.
        steps: batches to train on.
        rate: greatest learning rate.
        batch: records a step.
        decay: weight decay.
        augment: whether pictures are moved and lit at random.
    """
    optimiser = torch.optim.AdamW(net.parameters(), rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    net.train()
    pictures = augment and x.dim() == 4
    for _ in range(steps):
        # At least two records: batch normalisation cannot train on one.
        rows = torch.randint(len(x), (max(min(batch, 4 * len(x)), 2),), generator=rng)
        seen = x[rows]
        if pictures:
            seen = lit(moved(seen, rng), rng)
        optimiser.zero_grad()
        functional.cross_entropy(net(seen), y[rows]).backward()
        optimiser.step()
        schedule.step()
    return net.eval()


def fit_autoencoders(net: nn.Module, x: torch.Tensor, rng: torch.Generator, *, steps: int, rate: float) -> None:
    """Train the two denoising autoencoders of an `AutoencoderClassifier`, one after the other, in place.

    A fifth of the inputs is put to zero and the whole is to be given back (Vincent et al. 2010).
    """
    from seepage.models.nets import AutoencoderClassifier

    if not isinstance(net, AutoencoderClassifier):
        raise TypeError(f"an AutoencoderClassifier was wanted, got {type(net).__name__}")
    stages = ((net.encoder_1, net.decoder_1, None), (net.encoder_2, net.decoder_2, net.encoder_1))
    for encoder, decoder, below in stages:
        optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], rate)
        for _ in range(steps):
            seen = x[torch.randint(len(x), (64,), generator=rng)]
            seen = moved(seen, rng) if seen.dim() == 4 else seen
            with torch.no_grad():
                clean = seen if below is None else below(seen)
                kept = (torch.rand(clean.shape, generator=rng) > 0.2).to(clean.dtype)
            optimiser.zero_grad()
            functional.mse_loss(decoder(encoder(clean * kept)), clean).backward()
            optimiser.step()


def steps_for(records: int, batch: int, epochs: float, least: int) -> int:
    """How many steps `epochs` passes over the records take, and no fewer than `least`."""
    return max(least, math.ceil(epochs * records / batch))
