"""Built-in recipes: how the victims of the examples and benchmarks are trained.

A recipe is a callable `(x, y, seed, **options) -> torch.nn.Module`; its `build` makes the same
network untrained, so that trained weights can be kept and read back without training again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from seepage.core.errors import ConfigError, did_you_mean
from seepage.core.registry import load
from seepage.models import nets
from seepage.models.many import Schedule, fit_many, fit_one
from seepage.models.training import fit_autoencoders, fit_classifier, seeded, steps_for

Array = np.ndarray


def _tensors(x: Array, y: Array, classes: int | None = None) -> tuple[torch.Tensor, torch.Tensor, int]:
    # Writable: what other processes are sent is not, and torch wants it.
    images = torch.from_numpy(np.require(x, np.float32, ["C", "W"]))
    return (
        images,
        torch.from_numpy(np.require(y, np.int64, ["C", "W"])),
        int(y.max()) + 1 if classes is None else classes,
    )


def _fit(
    build: Callable[[tuple[int, ...], int], nn.Module],
    xs: Sequence[Array],
    ys: Sequence[Array],
    seeds: Sequence[int],
    schedule: Schedule,
    classes: int | None,
) -> list[nn.Module]:
    """Networks of one recipe: one alone, or several at once."""
    read = [_tensors(x, y, classes) for x, y in zip(xs, ys, strict=True)]
    shape, most = tuple(xs[0].shape[1:]), max(found for _, _, found in read)

    def made() -> nn.Module:
        return build(shape, most)

    if len(xs) == 1:
        return [fit_one(made, read[0][0], read[0][1], seeds[0], schedule)]
    return fit_many(made, [x for x, _, _ in read], [y for _, y, _ in read], seeds, schedule)


def fit_cnns(
    xs: Sequence[Array],
    ys: Sequence[Array],
    seeds: Sequence[int],
    epochs: float = 60,
    rate: float = 5e-3,
    least: int = 300,
    classes: int | None = None,
) -> list[nn.Module]:
    """Several small convolutional networks, as `fit_cnn` trains one."""
    return _fit(nets.cnn, xs, ys, seeds, Schedule(epochs, rate, least), classes)


def fit_cnn(
    x: Array,
    y: Array,
    seed: int,
    epochs: float = 60,
    rate: float = 5e-3,
    least: int = 300,
    classes: int | None = None,
) -> nn.Module:
    """A small convolutional network: about 300 steps for 100 pictures, and never fewer than `least`."""
    return fit_cnns([x], [y], [seed], epochs, rate, least, classes)[0]


def fit_softmaxes(
    xs: Sequence[Array],
    ys: Sequence[Array],
    seeds: Sequence[int],
    epochs: float = 100,
    rate: float = 3e-3,
    classes: int | None = None,
) -> list[nn.Module]:
    """Several softmax regressions, as `fit_softmax` trains one."""
    return _fit(nets.softmax_regression, xs, ys, seeds, Schedule(epochs, rate, 600), classes)


def fit_softmax(
    x: Array, y: Array, seed: int, epochs: float = 100, rate: float = 3e-3, classes: int | None = None
) -> nn.Module:
    """Softmax regression."""
    return fit_softmaxes([x], [y], [seed], epochs, rate, classes)[0]


def fit_mlps(
    xs: Sequence[Array],
    ys: Sequence[Array],
    seeds: Sequence[int],
    epochs: float = 60,
    rate: float = 1e-3,
    hidden: int = 3000,
    classes: int | None = None,
) -> list[nn.Module]:
    """Several networks with one hidden layer of sigmoids, as `fit_mlp` trains one."""

    def build(shape: tuple[int, ...], found: int) -> nn.Module:
        return nets.mlp(shape, found, hidden)

    return _fit(build, xs, ys, seeds, Schedule(epochs, rate, 250), classes)


def fit_mlp(
    x: Array,
    y: Array,
    seed: int,
    epochs: float = 60,
    rate: float = 1e-3,
    hidden: int = 3000,
    classes: int | None = None,
) -> nn.Module:
    """One hidden layer of sigmoids."""
    return fit_mlps([x], [y], [seed], epochs, rate, hidden, classes)[0]


def fit_networks(
    xs: Sequence[Array],
    ys: Sequence[Array],
    seeds: Sequence[int],
    hidden: Sequence[int] = (64, 64),
    activation: str = "relu",
    dropout: float = 0.0,
    build: str | None = None,
    epochs: float = 50,
    rate: float = 3e-3,
    least: int = 0,
    batch: int = 64,
    decay: float = 1e-4,
    augment: bool = False,
    classes: int | None = None,
) -> list[nn.Module]:
    """Several networks, as `fit_network` trains one."""
    schedule = Schedule(epochs, rate, max(least, 1), batch, decay, augment)

    def made(shape: tuple[int, ...], found: int) -> nn.Module:
        return build_network(shape, found, hidden, activation, dropout, build)

    return _fit(made, xs, ys, seeds, schedule, classes)


def fit_network(
    x: Array,
    y: Array,
    seed: int,
    hidden: Sequence[int] = (64, 64),
    activation: str = "relu",
    dropout: float = 0.0,
    build: str | None = None,
    epochs: float = 50,
    rate: float = 3e-3,
    least: int = 0,
    batch: int = 64,
    decay: float = 1e-4,
    augment: bool = False,
    classes: int | None = None,
) -> nn.Module:
    """Fully connected layers for tables and small pictures, or a network of one's own, by our training loop.

    Args:
        x: (n, ...) records.
        y: (n,) classes.
        seed: of weights and batches.
        hidden: widths of the hidden layers.
        activation: between them: "relu", "tanh", "sigmoid", "gelu".
        dropout: share of hidden values put to zero in training.
        build: import path "package.module:function" of `(shape, classes) -> torch.nn.Module`, in place of layers
            named here. Networks of common layers in a chain are trained many at once (`stacked.can_stack`).
        epochs: passes over the records.
        rate: greatest learning rate, of AdamW with one cycle.
        least: the fewest steps.
        batch: records a step.
        decay: weight decay.
        augment: whether pictures are moved and lit at random.
        classes: how many classes there are, where records may lack some.
    """
    made = fit_networks(
        [x], [y], [seed], hidden, activation, dropout, build, epochs, rate, least, batch, decay, augment, classes
    )
    return made[0]


def fit_autoencoder(
    x: Array, y: Array, seed: int, epochs: float = 60, rate: float = 1e-3, classes: int | None = None
) -> nn.Module:
    """Stacked denoising autoencoders, then the classifier on top of them, fine-tuned as a whole."""
    with seeded(seed) as rng:
        images, labels, found = _tensors(x, y, classes)
        net = nets.autoencoder(tuple(images.shape[1:]), found)
        fit_autoencoders(net, images, rng, steps=steps_for(len(x), 64, epochs, 200), rate=rate)
        return fit_classifier(net, images, labels, rng, steps=steps_for(len(x), 64, epochs, 300), rate=rate)


def build_mlp(shape: tuple[int, ...], classes: int, hidden: int = 3000) -> nn.Module:
    """The network `fit_mlp` trains, untrained."""
    return nets.mlp(shape, classes, hidden)


def build_network(
    shape: tuple[int, ...],
    classes: int,
    hidden: Sequence[int] = (64, 64),
    activation: str = "relu",
    dropout: float = 0.0,
    build: str | None = None,
) -> nn.Module:
    """The network `fit_network` trains, untrained.

    Raises:
        ConfigError: for an activation, a width or an import path that is none.
    """
    if build is not None:
        made = load(build)(shape, classes)
        if not isinstance(made, nn.Module):
            raise ConfigError(
                f"[recipe] options: build: '{build}' should return a torch.nn.Module, it returned a "
                f"{type(made).__name__}"
            )
        return made
    if activation not in nets.ACTIVATIONS:
        raise ConfigError(
            f"[recipe] options: activation: unknown '{activation}': {did_you_mean(activation, nets.ACTIVATIONS)}"
        )
    if not all(isinstance(width, int) and width > 0 for width in hidden):
        raise ConfigError(f"[recipe] options: hidden: widths of layers were wanted, as in [64, 64], got {list(hidden)}")
    return nets.layered(shape, classes, hidden, activation, dropout)


@dataclass(frozen=True)
class BuiltIn:
    """A recipe that comes with Seepage.

    Attributes:
        title: in a few words.
        fit: trains one model.
        build: makes its network, untrained.
        build_options: the options of `fit` that `build` takes.
        many: trains several, at once where the network allows; None where nothing is gained.
    """

    title: str
    fit: Callable[..., nn.Module]
    build: Callable[..., nn.Module]
    build_options: frozenset[str] = frozenset()
    many: Callable[..., list[nn.Module]] | None = None


RECIPES: Mapping[str, BuiltIn] = {
    "network": BuiltIn(
        "fully connected layers, or a network of your own",
        fit_network,
        build_network,
        frozenset({"hidden", "activation", "dropout", "build"}),
        fit_networks,
    ),
    "cnn": BuiltIn("a small convolutional network", fit_cnn, nets.cnn, many=fit_cnns),
    "softmax": BuiltIn(
        "softmax regression (Fredrikson 2015)", fit_softmax, nets.softmax_regression, many=fit_softmaxes
    ),
    "mlp": BuiltIn("3000 sigmoids (Fredrikson 2015)", fit_mlp, build_mlp, frozenset({"hidden"}), fit_mlps),
    "autoencoder": BuiltIn("stacked denoising autoencoders (Fredrikson 2015)", fit_autoencoder, nets.autoencoder),
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
