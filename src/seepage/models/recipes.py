"""Built-in recipes: how the victims of the examples and benchmarks are trained.

A recipe is a callable `(x, y, seed, **options) -> torch.nn.Module`; its `build` makes the same
network untrained, so that trained weights can be kept and read back without training again.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from seepage.core.errors import ConfigError, did_you_mean
from seepage.models import nets, private_training
from seepage.models.training import fit_autoencoders, fit_classifier, steps_for

Array = np.ndarray


@contextmanager
def seeded(seed: int) -> Generator[torch.Generator]:
    """Torch's own randomness under `seed` inside, as it was outside; gives a generator of the same seed."""
    with torch.random.fork_rng(devices=[]):
        # Telling devices that are not there takes as long as a small client's whole round.
        told = torch.manual_seed if torch.cuda.is_available() else torch.default_generator.manual_seed
        told(seed % 2**63)
        yield torch.Generator().manual_seed(seed % 2**63)


def _tensors(x: Array, y: Array) -> tuple[torch.Tensor, torch.Tensor, int]:
    return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)), torch.from_numpy(y).long(), int(y.max()) + 1


def fit_cnn(x: Array, y: Array, seed: int, epochs: float = 60, rate: float = 5e-3, least: int = 300) -> nn.Module:
    """A small convolutional network: about 300 steps for 100 pictures, and never fewer than `least`."""
    with seeded(seed) as rng:
        images, labels, classes = _tensors(x, y)
        net = nets.cnn(tuple(images.shape[1:]), classes)
        return fit_classifier(net, images, labels, rng, steps=steps_for(len(x), 64, epochs, least), rate=rate)


def fit_softmax(x: Array, y: Array, seed: int, epochs: float = 100, rate: float = 3e-3) -> nn.Module:
    """Softmax regression."""
    with seeded(seed) as rng:
        images, labels, classes = _tensors(x, y)
        net = nets.softmax_regression(tuple(images.shape[1:]), classes)
        return fit_classifier(net, images, labels, rng, steps=steps_for(len(x), 64, epochs, 600), rate=rate)


def fit_mlp(x: Array, y: Array, seed: int, epochs: float = 60, rate: float = 1e-3, hidden: int = 3000) -> nn.Module:
    """One hidden layer of sigmoids."""
    with seeded(seed) as rng:
        images, labels, classes = _tensors(x, y)
        net = nets.mlp(tuple(images.shape[1:]), classes, hidden)
        return fit_classifier(net, images, labels, rng, steps=steps_for(len(x), 64, epochs, 250), rate=rate)


def fit_autoencoder(x: Array, y: Array, seed: int, epochs: float = 60, rate: float = 1e-3) -> nn.Module:
    """Stacked denoising autoencoders, then the classifier on top of them, fine-tuned as a whole."""
    with seeded(seed) as rng:
        images, labels, classes = _tensors(x, y)
        net = nets.autoencoder(tuple(images.shape[1:]), classes)
        fit_autoencoders(net, images, rng, steps=steps_for(len(x), 64, epochs, 200), rate=rate)
        return fit_classifier(net, images, labels, rng, steps=steps_for(len(x), 64, epochs, 300), rate=rate)


def build_mlp(shape: tuple[int, ...], classes: int, hidden: int = 3000) -> nn.Module:
    """The network `fit_mlp` trains, untrained."""
    return nets.mlp(shape, classes, hidden)


@dataclass(frozen=True)
class BuiltIn:
    """A recipe that comes with Seepage."""

    title: str
    fit: Callable[..., nn.Module]
    build: Callable[..., nn.Module]
    build_options: frozenset[str] = frozenset()
    # Records and options to the (epsilon, delta) that training by them guarantees.
    guaranteed: Callable[[int, Mapping[str, Any]], tuple[float, float]] | None = None


RECIPES: Mapping[str, BuiltIn] = {
    "cnn": BuiltIn("a small convolutional network", fit_cnn, nets.cnn),
    "softmax": BuiltIn("softmax regression (Fredrikson 2015)", fit_softmax, nets.softmax_regression),
    "mlp": BuiltIn("3000 sigmoids (Fredrikson 2015)", fit_mlp, build_mlp, frozenset({"hidden"})),
    "autoencoder": BuiltIn("stacked denoising autoencoders (Fredrikson 2015)", fit_autoencoder, nets.autoencoder),
    "dp-softmax": BuiltIn(
        "softmax regression by DP-SGD",
        private_training.fit_dp_softmax,
        private_training.build_dp_softmax,
        frozenset({"canaries"}),
        private_training.guaranteed,
    ),
    "dp-mlp": BuiltIn(
        "64 sigmoids by DP-SGD",
        private_training.fit_dp_mlp,
        private_training.build_dp_mlp,
        frozenset({"hidden", "canaries"}),
        private_training.guaranteed,
    ),
}


def built_in(name: str) -> BuiltIn:
    """The recipe called `name`.

    Raises:
        ConfigError: for an unknown name, with a "did you mean".
    """
    if name not in RECIPES:
        raise ConfigError(
            f"unknown recipe '{name}': {did_you_mean(name, RECIPES)}; your own is given as 'package.module:function'"
        )
    return RECIPES[name]


def untrained(recipe: BuiltIn, shape: tuple[int, ...], classes: int, options: Mapping[str, Any]) -> nn.Module:
    """The network a recipe trains, before training."""
    return recipe.build(shape, classes, **{k: v for k, v in options.items() if k in recipe.build_options})
