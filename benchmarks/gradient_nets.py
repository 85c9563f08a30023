"""Networks that we and breaching are both run on, in plain torch: the peer's process has nothing of ours."""

from torch import nn


def lenet(classes: int) -> nn.Module:
    """The LeNet of Zhu et al. for pictures of 3 x 32 x 32."""
    sizes = ((3, 2), (12, 2), (12, 1))
    body = [m for before, step in sizes for m in (nn.Conv2d(before, 12, 5, step, 2), nn.Sigmoid())]
    return nn.Sequential(nn.Sequential(*body, nn.Flatten()), nn.Linear(768, classes)).eval()


def convnet(classes: int, width: int = 16) -> nn.Module:
    """breaching's ConvNet for pictures of 3 x 32 x 32: eight convolutions with batch normalisation and ReLU.

    Pooled by three after the sixth and the last; no dropout. breaching's default is 64 wide: 2.9 million weights.
    """
    layers: list[nn.Module] = []
    before = 3
    for number, factor in enumerate((1, 2, 2, 4, 4, 4, 4, 4)):
        after = factor * width
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.MaxPool2d(3)] if number in (5, 7) else []
        before = after
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(9 * before, classes)).eval()


NETS = {"lenet": lenet, "convnet": convnet}
