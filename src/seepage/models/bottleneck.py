"""A variational bottleneck before a network's last layer: the model extension of Scheliga et al. 2022 (PRECODE)."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from seepage.core.errors import ConfigError, ModelError
from seepage.models.last_layer import last_layer
from seepage.models.training import seeded

if TYPE_CHECKING:
    from seepage.models.federated import ClientNet


@dataclass(frozen=True)
class Bottleneck:
    """What is put before the last layer.

    Attributes:
        size: numbers that the code has.
        beta: weight of the divergence of the code from a standard normal one.
        seed: of its first weights.
    """

    size: int = 256
    beta: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < 1 or self.beta < 0:
            raise ConfigError(f"a size of 1 or more and a beta of 0 or more were wanted, got {self.size}, {self.beta}")


class VariationalBottleneck(nn.Module):
    """Features to a random code and back to as many features (Scheliga et al. 2022, section 3).

    An encoder gives mean and deviation of the code, which is drawn in "train" mode and the mean in "eval" mode; a
    decoder gives the features behind it. `penalty` is beta times the divergence of the last batch's codes from a
    standard normal one, in bits, the mean over its records: a client adds it to its loss.
    """

    def __init__(self, width: int, bottleneck: Bottleneck):
        super().__init__()
        self.encoder = nn.Linear(width, 2 * bottleneck.size)
        self.decoder = nn.Linear(bottleneck.size, width)
        self.beta = bottleneck.beta
        self.penalty: Tensor | None = None

    def forward(self, x: Float[Tensor, " n d"]) -> Float[Tensor, " n d"]:
        mean, raw = self.encoder(x).chunk(2, dim=1)
        deviation = functional.softplus(raw) + 1e-12
        apart = 1 + 2 * deviation.log() - mean.square() - deviation.square()
        self.penalty = self.beta * (-0.5 * apart.sum(dim=1).mean() / math.log(2))
        code = mean + torch.randn_like(mean) * deviation if self.training else mean
        return self.decoder(code)

    def __getstate__(self) -> dict[str, Any]:
        # What a pass left behind belongs to that pass: a copy starts without it.
        return {**self.__dict__, "penalty": None}


class Behind(nn.Module):
    """A last layer behind a bottleneck."""

    def __init__(self, layer: nn.Module, bottleneck: VariationalBottleneck):
        super().__init__()
        self.bottleneck, self.layer = bottleneck, layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.bottleneck(x))


def penalty_of(module: nn.Module) -> Tensor | float:
    """What a module's bottlenecks add to the mean loss of the batch that passed last; 0 without any."""
    found = [layer.penalty for layer in module.modules() if isinstance(layer, VariationalBottleneck)]
    return sum((part for part in found if part is not None), 0.0)


def with_bottleneck(net: "ClientNet", bottleneck: Bottleneck) -> "ClientNet":
    """The model with a fresh bottleneck before its last layer.

    Raises:
        ModelError: when its logits do not come from a fully connected layer.
    """
    from seepage.models.federated import ClientNet

    last = last_layer(net)
    if last is None:
        raise ModelError(
            "a bottleneck goes before the fully connected layer that makes the logits; this network has none"
        )
    module = net.module
    layer = module.get_submodule(last.name)
    with seeded(bottleneck.seed):
        behind = Behind(layer, VariationalBottleneck(last.w.shape[1], bottleneck))
    if not last.name:
        return ClientNet(behind, net.spec, net.classes)
    parent, _, own = last.name.rpartition(".")
    setattr(module.get_submodule(parent), own, behind)
    return ClientNet(module, net.spec, net.classes)


def stochastic(net: "ClientNet") -> frozenset[str]:
    """The parameters of a model's bottlenecks and of the layers behind them: their gradients hang on what was drawn."""
    return frozenset(
        f"{name}.{own}" if name else own
        for name, layer in net.module.named_modules()
        if isinstance(layer, Behind)
        for own, _ in layer.named_parameters()
    )
