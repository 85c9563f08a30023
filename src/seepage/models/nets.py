"""Small networks that train in seconds on an ordinary machine."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn


class Centred(nn.Module):
    """Values in [0, 1] to [-1, 1]: what the nets below compute on."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 - 1


def softmax_regression(shape: tuple[int, ...], classes: int) -> nn.Module:
    """One linear layer on pixels: the softmax regression of Fredrikson et al. 2015, section 5."""
    return nn.Sequential(Centred(), nn.Flatten(), nn.Linear(int(np.prod(shape)), classes))


def mlp(shape: tuple[int, ...], classes: int, hidden: int = 3000) -> nn.Module:
    """One hidden layer of sigmoids; 3000 of them in Fredrikson et al. 2015, section 5."""
    return nn.Sequential(
        Centred(), nn.Flatten(), nn.Linear(int(np.prod(shape)), hidden), nn.Sigmoid(), nn.Linear(hidden, classes)
    )


ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU}


def layered(
    shape: tuple[int, ...], classes: int, hidden: Sequence[int], activation: str = "relu", dropout: float = 0.0
) -> nn.Module:
    """Fully connected layers of these widths."""
    layers: list[nn.Module] = [nn.Flatten()]
    before = int(np.prod(shape))
    for width in hidden:
        layers += [nn.Linear(before, width), ACTIVATIONS[activation]()]
        layers += [nn.Dropout(dropout)] if dropout else []
        before = width
    return nn.Sequential(*layers, nn.Linear(before, classes))


class AutoencoderClassifier(nn.Module):
    """Two stacked denoising autoencoders (1000 and 300 sigmoids) under a softmax layer.

    The classifier of Fredrikson et al. 2015, section 5. The decoders, learned beside the encoders
    before the classes are, stay with the network: an adversary with the weights has them too, and
    can search in the space of codes instead of pixels.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, first: int = 1000, second: int = 300):
        super().__init__()
        pixels = int(np.prod(shape))
        self.shape = shape
        self.encoder_1 = nn.Sequential(Centred(), nn.Flatten(), nn.Linear(pixels, first), nn.Sigmoid())
        self.encoder_2 = nn.Sequential(nn.Linear(first, second), nn.Sigmoid())
        self.decoder_2 = nn.Sequential(nn.Linear(second, first), nn.Sigmoid())
        self.decoder_1 = nn.Sequential(nn.Linear(first, pixels), nn.Sigmoid(), nn.Unflatten(1, shape))
        self.output = nn.Linear(second, classes)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Codes in (0, 1): (n, second)."""
        return self.encoder_2(self.encoder_1(x))

    def decode(self, code: torch.Tensor) -> torch.Tensor:
        """Pictures in (0, 1) from codes: (n, *shape)."""
        return self.decoder_1(self.decoder_2(code))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(self.encode(x))


def autoencoder(shape: tuple[int, ...], classes: int) -> nn.Module:
    """The stacked denoising autoencoder classifier with its published sizes."""
    return AutoencoderClassifier(shape, classes)


def cnn(shape: tuple[int, ...], classes: int, width: int = 12) -> nn.Module:
    """Three convolutions with batch normalisation and pooling, then one linear layer."""
    channels, height, _ = shape
    layers: list[nn.Module] = [Centred()]
    before, side = channels, height
    for factor in (1, 2, 4):
        after = width * factor
        layers.append(nn.Conv2d(before, after, 3, padding=1))
        if side >= 4:
            # Pooled first: what follows then works on a quarter of the values.
            layers.append(nn.MaxPool2d(2))
            side //= 2
        layers += [nn.BatchNorm2d(after), nn.ReLU()]
        before = after
    layers += [nn.AdaptiveAvgPool2d(4) if side > 8 else nn.Identity(), nn.Flatten(), nn.Dropout(0.3)]
    body = nn.Sequential(*layers)
    with torch.no_grad():
        body.eval()
        features = body(torch.zeros(1, *shape)).shape[1]
    net = nn.Sequential(body, nn.Linear(features, classes))
    # Channels last in memory: half the time on a processor, the same results.
    return net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - lacks in torch's types
