"""Built-in recipes that train by DP-SGD, with Opacus: its per-record gradients, its optimiser and its accountant."""

import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from seepage.core.errors import ConfigError, MissingExtra
from seepage.models import nets
from seepage.models.gradient_canaries import LENGTH, WithCanaries, losses, with_entries
from seepage.models.private import PerRecord, refuse_batch_norm

Array = np.ndarray


@contextmanager
def _opacus() -> Generator[Any]:
    """The module, its warnings (of insecure randomness, of hooks) quiet.

    Raises:
        MissingExtra: when it is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import opacus

            # Modules that are not there until they are imported.
            for part in ("accountants.utils", "optimizers"):
                import_module(f"opacus.{part}")
        except ImportError as error:
            raise MissingExtra("opacus", "dp", "training by DP-SGD") from error
        yield opacus


def multiplier_for(epsilon: float, delta: float, rate: float, steps: int) -> float:
    """The noise, in units of the clip, at which Opacus's accountant (Renyi DP) says `epsilon` at `delta`.

    Args:
        epsilon: of the whole training.
        delta: between 0 and 1.
        rate: with which a record is part of a step.
        steps: of the training.

    Raises:
        ConfigError: where no noise gives so little.
    """
    with _opacus() as opacus:
        try:
            found = opacus.accountants.utils.get_noise_multiplier(
                target_epsilon=epsilon, target_delta=delta, sample_rate=rate, steps=steps, accountant="rdp"
            )
        except ValueError as error:
            raise ConfigError(f"no noise gives epsilon {epsilon:g} at delta {delta:g} in {steps} steps") from error
    return float(found)


def accounted_epsilon(noise: float, delta: float, rate: float, steps: int) -> float:
    """What Opacus's accountant (Renyi DP) says of DP-SGD with such noise; the other arguments as above."""
    if noise <= 0:
        raise ConfigError("training without noise has no epsilon: say what is claimed under [claim]")
    with _opacus() as opacus:
        accountant = opacus.accountants.RDPAccountant()
        accountant.history = [(noise, rate, steps)]
        return float(accountant.get_epsilon(delta=delta))


def train_privately(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    seed: int,
    *,
    private: PerRecord,
    sampled: float,
    steps: int,
    rate: float,
    which: Tensor | None = None,
    strength: float = LENGTH,
) -> nn.Module:
    """Train by DP-SGD: Poisson sampling, every record's gradient clipped, noise on the sum, plain steps along it.

    Source: Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar and Zhang 2016, Deep Learning with Differential Privacy,
    CCS (algorithm 1), as Opacus carries it out.

    Args:
        net: gives logits; `WithCanaries` where `which` is given. Trained in place.
        x: (n, *shape) records, with the entries of canaries.
        y: (n,) classes.
        seed: of sampling and noise.
        private: clipping and noise.
        sampled: with which probability a record is part of a step, independently of all others.
        steps: how many.
        rate: learning rate.
        which: (n,) the canary of each entry, -1 for records; None where there are none.
        strength: of the canaries.

    Raises:
        ModelError: for a network with batch normalisation.
        MissingExtra: without Opacus.
    """
    refuse_batch_norm(net)
    draws = torch.Generator().manual_seed(seed % 2**63)
    net.train()
    with _opacus() as opacus:
        module = opacus.GradSampleModule(net, loss_reduction="sum")
        optimiser = opacus.optimizers.DPOptimizer(
            torch.optim.SGD(module.parameters(), lr=rate),
            noise_multiplier=private.noise,
            max_grad_norm=private.clip,
            expected_batch_size=max(round(sampled * len(x)), 1),
            loss_reduction="mean",
            generator=draws,
        )
        for _ in range(steps):
            rows = torch.nonzero(torch.rand(len(x), generator=draws) < sampled)[:, 0]
            optimiser.zero_grad()
            if not len(rows):
                # Nobody was sampled: the noise goes out all the same.
                for weight in module.parameters():
                    weight.grad_sample = weight.new_zeros((0, *weight.shape))
            elif which is None:
                functional.cross_entropy(module(x[rows]), y[rows], reduction="sum").backward()
            else:
                answers = module(x[rows], which[rows])
                losses(answers, y[rows], which[rows], strength).sum().backward()
            optimiser.step()
        # What is left is the plain network, without Opacus's hooks.
        trained = module.to_standard_module()
    return trained.eval()


def _schedule(n: int, batch: int, epochs: float) -> tuple[float, int]:
    """The sampling rate and the number of steps of so many passes over `n` records."""
    sampled = min(1.0, batch / n)
    return sampled, max(1, round(epochs / sampled))


def _fit(
    net: nn.Module,
    x: Array,
    y: Array,
    seed: int,
    epsilon: float,
    delta: float,
    noise: float | None,
    clip: float,
    batch: int,
    epochs: float,
    rate: float,
    canaries: Sequence[bool] | None,
) -> nn.Module:
    records = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
    classes, which = torch.from_numpy(y).long(), None
    if canaries is not None:
        net = WithCanaries(net, len(canaries), LENGTH * clip)
    sampled, steps = _schedule(len(records), batch, epochs)
    if canaries is not None:
        records, classes, which = with_entries(records, classes, canaries)
    spread = multiplier_for(epsilon, delta, sampled, steps) if noise is None else noise
    private = PerRecord(clip, spread)
    return train_privately(
        net,
        records,
        classes,
        seed,
        private=private,
        sampled=sampled,
        steps=steps,
        rate=rate,
        which=which,
        strength=LENGTH * clip,
    )


def fit_dp_softmax(
    x: Array,
    y: Array,
    seed: int,
    epsilon: float = 8.0,
    delta: float = 1e-5,
    noise: float | None = None,
    clip: float = 1.0,
    batch: int = 256,
    epochs: float = 20,
    rate: float = 1.0,
    canaries: Sequence[bool] | None = None,
    classes: int | None = None,
) -> nn.Module:
    """Softmax regression by DP-SGD.

    Args:
        x: (n, *shape) records in [0, 1].
        y: (n,) classes.
        seed: of everything drawn.
        epsilon: of the whole training, by Opacus's accountant; it sets the noise.
        delta: at which.
        noise: standard deviation of the noise in units of the clip, in place of what epsilon asks for.
        clip: the greatest l2 norm of a record's gradient.
        batch: records a step, on average.
        epochs: passes over the records, on average.
        rate: learning rate.
        canaries: which gradient canaries are included, where there are any.
        classes: how many there are, where records may lack some.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        net = nets.softmax_regression(tuple(x.shape[1:]), classes or int(y.max()) + 1)
        return _fit(net, x, y, seed, epsilon, delta, noise, clip, batch, epochs, rate, canaries)


def fit_dp_mlp(
    x: Array,
    y: Array,
    seed: int,
    epsilon: float = 8.0,
    delta: float = 1e-5,
    noise: float | None = None,
    clip: float = 1.0,
    batch: int = 256,
    epochs: float = 20,
    rate: float = 1.0,
    hidden: int = 64,
    canaries: Sequence[bool] | None = None,
    classes: int | None = None,
) -> nn.Module:
    """One hidden layer of sigmoids by DP-SGD; the other arguments as `fit_dp_softmax`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        net = nets.mlp(tuple(x.shape[1:]), classes or int(y.max()) + 1, hidden)
        return _fit(net, x, y, seed, epsilon, delta, noise, clip, batch, epochs, rate, canaries)


def _wrapped(net: nn.Module, canaries: Sequence[bool] | None) -> nn.Module:
    return net if canaries is None else WithCanaries(net, len(canaries))


def build_dp_softmax(shape: tuple[int, ...], classes: int, canaries: Sequence[bool] | None = None) -> nn.Module:
    """The network `fit_dp_softmax` trains, untrained."""
    return _wrapped(nets.softmax_regression(shape, classes), canaries)


def build_dp_mlp(
    shape: tuple[int, ...], classes: int, hidden: int = 64, canaries: Sequence[bool] | None = None
) -> nn.Module:
    """The network `fit_dp_mlp` trains, untrained."""
    return _wrapped(nets.mlp(shape, classes, hidden), canaries)


def guaranteed(n: int, options: Mapping[str, Any]) -> tuple[float, float]:
    """(epsilon, delta) that a recipe trained by DP-SGD guarantees its `n` records, with these options.

    Raises:
        ConfigError: for training without noise, which guarantees nothing.
    """
    delta = float(options.get("delta", 1e-5))
    if options.get("noise") is None:
        return float(options.get("epsilon", 8.0)), delta
    sampled, steps = _schedule(n, int(options.get("batch", 256)), float(options.get("epochs", 20)))
    return accounted_epsilon(float(options["noise"]), delta, sampled, steps), delta
