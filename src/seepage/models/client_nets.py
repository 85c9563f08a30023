"""Networks that clients of federated learning train: the known cases of the literature, and those of the examples."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from seepage.core.errors import ConfigError, did_you_mean
from seepage.models.nets import Centred
from seepage.models.nets import cnn as batchnorm_cnn
from seepage.models.training import seeded


def lenet_zhu(shape: tuple[int, ...], classes: int) -> nn.Module:
    """The strided LeNet with sigmoids of Zhu, Liu and Han 2019 (section 4), its weights uniform in [-.5, .5].

    Twice differentiable everywhere, which the attack of that paper needs: the easiest known case.
    """
    channels = shape[0]
    body = nn.Sequential(
        nn.Conv2d(channels, 12, 5, stride=2, padding=2),
        nn.Sigmoid(),
        nn.Conv2d(12, 12, 5, stride=2, padding=2),
        nn.Sigmoid(),
        nn.Conv2d(12, 12, 5, stride=1, padding=2),
        nn.Sigmoid(),
        nn.Flatten(),
    )
    with torch.no_grad():
        features = body(torch.zeros(1, *shape)).shape[1]
    net = nn.Sequential(Centred(), body, nn.Linear(features, classes))
    for weight in net.parameters():
        nn.init.uniform_(weight, -0.5, 0.5)
    return net


def relu_mlp(shape: tuple[int, ...], classes: int, hidden: int = 300, depth: int = 2) -> nn.Module:
    """Fully connected layers with ReLU, the first of which sees the record itself."""
    layers: list[nn.Module] = [Centred(), nn.Flatten()]
    before = int(np.prod(shape))
    for _ in range(depth):
        layers += [nn.Linear(before, hidden), nn.ReLU()]
        before = hidden
    return nn.Sequential(*layers, nn.Linear(before, classes))


def relu_cnn(shape: tuple[int, ...], classes: int, width: int = 16) -> nn.Module:
    """Three convolutions with ReLU, two of them strided, then one linear layer; no batch normalisation."""
    body = nn.Sequential(
        nn.Conv2d(shape[0], width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
    )
    with torch.no_grad():
        features = body(torch.zeros(1, *shape)).shape[1]
    return nn.Sequential(Centred(), body, nn.Linear(features, classes))


def cnn6(shape: tuple[int, ...], classes: int) -> nn.Module:
    """The six convolutions with LeakyReLU and no biases of Zhu and Blaschko 2021 (R-GAP, figure 3).

    Their published code has one logit and the logistic loss; this one has as many logits as classes.
    """
    layers: list[nn.Module] = []
    before = shape[0]
    for after, kernel, stride, padding in (
        (12, 4, 2, 2),
        (36, 3, 2, 1),
        (36, 3, 1, 1),
        (36, 3, 1, 1),
        (64, 3, 2, 1),
        (128, 3, 1, 1),
    ):
        layers += [nn.Conv2d(before, after, kernel, stride, padding, bias=False), nn.LeakyReLU(0.2)]
        before = after
    body = nn.Sequential(*layers, nn.Flatten())
    with torch.no_grad():
        features = body(torch.zeros(1, *shape)).shape[1]
    return nn.Sequential(body, nn.Linear(features, classes, bias=False))


@dataclass(frozen=True)
class BuiltInNet:
    """A network that comes with Seepage."""

    title: str
    build: Callable[..., nn.Module]


CLIENT_NETS: Mapping[str, BuiltInNet] = {
    "lenet-zhu": BuiltInNet("the strided sigmoid LeNet of Zhu et al. 2019", lenet_zhu),
    "relu-mlp": BuiltInNet("fully connected layers with ReLU", relu_mlp),
    "relu-cnn": BuiltInNet("strided convolutions with ReLU", relu_cnn),
    "cnn6": BuiltInNet("the bias-free LeakyReLU network of Zhu and Blaschko 2021", cnn6),
    "cnn": BuiltInNet("convolutions with batch normalisation", batchnorm_cnn),
}


def client_net(name: str, shape: tuple[int, ...], classes: int, seed: int, **options: int) -> nn.Module:
    """The network called `name`, with fresh weights drawn under `seed`.

    Raises:
        ConfigError: for an unknown name or option.
    """
    if name not in CLIENT_NETS:
        raise ConfigError(
            f"unknown network '{name}': {did_you_mean(name, CLIENT_NETS)}; "
            "your own is given as 'package.module:function'"
        )
    with seeded(seed):
        try:
            return CLIENT_NETS[name].build(shape, classes, **options)
        except TypeError as error:
            raise ConfigError(f"the network '{name}' was given an option it does not take: {error}") from error
