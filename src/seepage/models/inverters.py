"""Inverses of a model: from what it answers back to the record it was asked about.

Each is learned from pairs of answers and records, and then maps any answer to a record. The closed form
needs few pairs; the networks need hundreds, and minutes at the most.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from seepage.core.errors import DataError
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Modality
from seepage.models.priors import Prior

Array = np.ndarray
DecoderName = Literal["ridge", "network", "pixels"]
# Side of the grid that a picture is grown from.
FIRST = 4
DECAY = 1e-2


@dataclass(frozen=True)
class Scale:
    """Answers brought to mean 0 and variance 1, as the training pairs have them.

    Attributes:
        mean, std: (d,) of the answers learned from.
    """

    mean: Float[Array, " d"]
    std: Float[Array, " d"]

    @classmethod
    def of(cls, answers: Float[Array, " n d"]) -> "Scale":
        """What brings `answers` to mean 0 and variance 1; a constant column is left at 0."""
        mean, std = answers.mean(axis=0), answers.std(axis=0)
        still = std <= 1e-9 * np.maximum(np.abs(mean), 1.0)
        return cls(mean, np.where(still, np.inf, std))

    def __call__(self, answers: Float[Array, " n d"]) -> Float[Array, " n d"]:
        return (answers - self.mean) / self.std


@dataclass(frozen=True)
class RidgeInverse:
    """The linear map from answers to targets that is best in ridge regression (Hoerl, Kennard 1970).

    W minimises |A W - T|^2 + weight n |W|^2 over centred, scaled answers A (n, d) and centred targets
    T (n, k). Of few answers with many values it is solved by the n x n system, which gives the same W.

    Attributes:
        scale: what answers are brought to first.
        matrix: (d, k) W.
        mean: (k,) the mean target.
    """

    scale: Scale
    matrix: Float[Array, " d k"]
    mean: Float[Array, " k"]

    @classmethod
    def fit(cls, answers: Float[Array, " n d"], targets: Float[Array, " n k"], weight: float) -> "RidgeInverse":
        """Learn from pairs.

        Raises:
            DataError: when there are not as many answers as targets, fewer than two, or values that are not finite.
        """
        _check_pairs(answers, targets)
        scale = Scale.of(answers.astype(np.float64))
        a, mean = scale(answers.astype(np.float64)), targets.astype(np.float64).mean(axis=0)
        t, (n, d) = targets - mean, a.shape
        if d <= n:
            matrix = np.linalg.solve(a.T @ a + weight * n * np.eye(d), a.T @ t)
        else:
            matrix = a.T @ np.linalg.solve(a @ a.T + weight * n * np.eye(n), t)
        return cls(scale, matrix, mean)

    def __call__(self, answers: Float[Array, " n d"]) -> Float[Array, " n k"]:
        """Targets for answers."""
        return self.scale(answers.astype(np.float64)) @ self.matrix + self.mean


class _Cut(nn.Module):
    """The middle of pictures, (n, c, h, w) of any greater size."""

    def __init__(self, height: int, width: int):
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        top, left = (x.shape[-2] - self.height) // 2, (x.shape[-1] - self.width) // 2
        return x[..., top : top + self.height, left : left + self.width]


def picture_decoder(inputs: int, shape: tuple[int, ...], width: int = 16) -> nn.Module:
    """Transposed convolutions from a row of numbers to a picture in (0, 1): the decoder of Yang et al. 2019.

    A grid of about 4 x 4 is doubled until it is as large as the picture; each doubling halves the
    channels, `width` before the last. Tanh and batch normalisation in between, a sigmoid at the end.
    The paper has a width of 128 for pictures of 64 x 64.

    Args:
        inputs: numbers in a row.
        shape: (c, h, w) of the picture, sides of 8 or more; greater sizes are made and cut to it.
        width: channels before the last layer.
    """
    channels, height, across = shape
    doublings = max(1, math.floor(math.log2(min(height, across) / FIRST)))
    grid = (math.ceil(height / 2**doublings), math.ceil(across / 2**doublings))
    before = width * 2 ** (doublings - 1)
    layers: list[nn.Module] = [nn.Linear(inputs, before * grid[0] * grid[1]), nn.Unflatten(1, (before, *grid))]
    layers += [nn.BatchNorm2d(before), nn.Tanh()]
    for left in range(doublings - 1, -1, -1):
        after = channels if left == 0 else width * 2 ** (left - 1)
        layers.append(nn.ConvTranspose2d(before, after, 4, stride=2, padding=1))
        layers += [nn.Sigmoid()] if left == 0 else [nn.BatchNorm2d(after), nn.Tanh()]
        before = after
    return nn.Sequential(*layers, _Cut(height, across))


def dense_decoder(inputs: int, outputs: int, hidden: int = 256) -> nn.Module:
    """Two hidden layers from a row of `inputs` numbers to one of `outputs`."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, outputs),
    )


@dataclass(frozen=True)
class Training:
    """How an inverse is learned.

    Attributes:
        weight: of the ridge, a pair and scaled answer.
        steps: batches a network is trained on.
        rate: its greatest learning rate.
        batch: pairs a step.
        width: channels of the picture decoder before its last layer.
    """

    weight: float = 0.03
    steps: int = 1500
    rate: float = 2e-3
    batch: int = 128
    width: int = 16


Inverse = Callable[[Float[Array, " n d"]], Float[Array, " n ..."]]


def fit_inverse(
    kind: DecoderName,
    answers: Float[Array, " n d"],
    records: Float[Array, " n ..."],
    prior: Prior,
    rng: torch.Generator,
    training: Training | None = None,
) -> Inverse:
    """Learn to give a record back from an answer.

    - "ridge": ridge regression from the answer to the latent of the record in `prior`. Closed form.
    - "network": a dense network to a latent, trained through the prior's decoder on the squared
      difference to the record itself.
    - "pixels": the picture decoder of Yang et al. 2019 (for tables a dense network), on the squared
      difference; the prior has no part in it.

    Args:
        kind: which of the three.
        answers: (n, d) what the model said of each record, any real values.
        records: (n, ...) the records, in the bounds of `prior.spec`.
        prior: what records look like.
        rng: draws weights, batches, dropout.
        training: how it is learned.

    Returns:
        A map from answers (m, d) to records (m, ...) within the bounds.

    Raises:
        DataError: when there are not as many answers as records, fewer than two, or values that are not finite.
    """
    how, spec = training or Training(), prior.spec
    _check_pairs(answers, records)
    if kind == "ridge":
        ridge = RidgeInverse.fit(answers, prior.encode(records), how.weight)
        return lambda found: prior.decode(ridge(found).astype(np.float32))
    scale = Scale.of(answers.astype(np.float64))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=rng)))
        net = _network(kind, answers.shape[1], prior, how)
        _fit(net, _tensor(scale(answers)), torch.from_numpy(spec.bounds.to_unit(records)), rng, how)

    def decoded(found: Array) -> Array:
        with torch.no_grad():
            unit = net(_tensor(scale(found))).clamp(0.0, 1.0)
        return spec.bounds.from_unit(unit.numpy())

    return decoded


class _ThroughPrior(nn.Module):
    """A dense network to a latent, and the prior's decoder from there to a record in unit scale."""

    def __init__(self, inputs: int, prior: Prior):
        super().__init__()
        self.latent = dense_decoder(inputs, prior.size)
        bounds = prior.spec.bounds
        # In a tuple, so that a prior that is a network is not taken for a part to be trained.
        self._prior = (prior.decoder(),)
        self._low = torch.from_numpy(np.asarray(bounds.low))
        self._width = torch.from_numpy(np.asarray(bounds.width))

    def forward(self, answers: torch.Tensor) -> torch.Tensor:
        return (self._prior[0](self.latent(answers)) - self._low) / self._width


def _network(kind: DecoderName, inputs: int, prior: Prior, how: Training) -> nn.Module:
    spec: InputSpec = prior.spec
    if kind == "network":
        return _ThroughPrior(inputs, prior)
    if spec.modality is Modality.IMAGE:
        return picture_decoder(inputs, spec.shape, how.width)
    return nn.Sequential(dense_decoder(inputs, spec.size), nn.Sigmoid(), nn.Unflatten(1, spec.shape))


def _fit(net: nn.Module, answers: torch.Tensor, unit: torch.Tensor, rng: torch.Generator, how: Training) -> None:
    """Train in place on the squared difference to the records."""
    optimiser = torch.optim.AdamW(net.parameters(), how.rate, weight_decay=DECAY)
    # One cycle needs two steps at the least.
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, how.rate, total_steps=max(how.steps, 2))
    net.train()
    for _ in range(how.steps):
        # At least two records: batch normalisation cannot train on one.
        rows = torch.randint(len(answers), (max(min(how.batch, 4 * len(answers)), 2),), generator=rng)
        optimiser.zero_grad()
        functional.mse_loss(net(answers[rows]), unit[rows]).backward()
        optimiser.step()
        schedule.step()
    net.eval()


def _tensor(rows: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))


def _check_pairs(answers: Array, records: Array) -> None:
    if len(answers) != len(records) or len(answers) < 2:
        raise DataError(
            f"an inverse is learned from two pairs or more, got {len(answers)} answers and {len(records)} records"
        )
    if not (np.isfinite(answers).all() and np.isfinite(records).all()):
        raise DataError("answers and records should be finite; some hold NaN or infinite values")
