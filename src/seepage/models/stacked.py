"""Many small networks trained at once: their parameters stacked, one pass for all.

On a processor what a small network costs is mostly overhead a step and a layer; stacked, it is paid once for all
networks. Features are laid out (k, batch, features), where a linear layer is one `baddbmm`; pictures (batch, k *
channels, height, width), where a convolution is one grouped convolution and normalisation has more channels. Every
network sees records of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional

from seepage.models.nets import Centred

# Layers that treat every value alike, or every channel: they need not know of the stack.
_ALIKE = (
    Centred,
    nn.Identity,
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Softplus,
    nn.Sigmoid,
    nn.Tanh,
    nn.Hardtanh,
    nn.Dropout,
)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)
Pass = Callable[[torch.Tensor], torch.Tensor]


def layers_of(net: nn.Module) -> list[tuple[str, nn.Module]] | None:
    """The layers of a chain in order, with their names; None where it is no chain of known layers."""
    found: list[tuple[str, nn.Module]] = []

    def walk(prefix: str, module: nn.Module) -> bool:
        if type(module) is nn.Sequential:
            return all(walk(f"{prefix}{name}.", child) for name, child in module.named_children())
        found.append((prefix.removesuffix("."), module))
        return _known(module)

    return found if walk("", net) else None


def can_stack(net: nn.Module) -> bool:
    """Whether networks like this one can be trained at once."""
    return layers_of(net) is not None


def _known(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.padding_mode == "zeros" and type(layer) is nn.Conv2d
    if isinstance(layer, nn.Flatten):
        return (layer.start_dim, layer.end_dim) == (1, -1)
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        return layer.momentum is not None
    if isinstance(layer, nn.LayerNorm):
        return len(layer.normalized_shape) == 1
    return type(layer) in (*_ALIKE, *_POOLS, *_NORMS, nn.Linear)


def _side_by_side(x: torch.Tensor) -> torch.Tensor:
    """Pictures of all networks (k, batch, c, h, w) as channels, which lie last in memory: half the time there."""
    wide = x.transpose(0, 1).reshape(x.shape[1], -1, *x.shape[3:])
    return wide.contiguous(memory_format=torch.channels_last)


@dataclass
class Stack:
    """k networks of one architecture as one function of (k, batch, ...) records to (k, batch, classes) logits.

    Attributes:
        nets: the networks; `unstack` writes into them what the stack has learned.
        parameters: the stacked parameters, by the name they have in a network.
        buffers: the stacked running statistics.
    """

    nets: Sequence[nn.Module]
    parameters: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    buffers: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])

    def __post_init__(self) -> None:
        self._chains = [layers_of(net) for net in self.nets]
        if any(chain is None for chain in self._chains):
            raise ValueError("these networks cannot be stacked: ask can_stack first")
        states = [dict(net.named_parameters()) for net in self.nets]
        for name in states[0]:
            whole = torch.stack([state[name].detach() for state in states])
            self.parameters[name] = whole.requires_grad_()
        kept = [dict(net.named_buffers()) for net in self.nets]
        for name in kept[0]:
            self.buffers[name] = torch.stack([buffers[name] for buffers in kept])

    def __len__(self) -> int:
        return len(self.nets)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Logits in training mode; (k, batch, ...) records of each network's own."""
        chain = self._chains[0]
        assert chain is not None
        k, batch = x.shape[:2]
        pictures = x.dim() == 5
        flow = _side_by_side(x) if pictures else x
        for name, layer in chain:
            if isinstance(layer, nn.Flatten):
                flow = flow.reshape(batch, k, -1).transpose(0, 1) if pictures else flow.reshape(k, batch, -1)
                pictures = False
            elif isinstance(layer, _ALIKE):
                flow = layer.train()(flow)
            elif isinstance(layer, _POOLS):
                flow = layer(flow)
            elif isinstance(layer, nn.Linear):
                flow = self._linear(name, flow)
            elif isinstance(layer, nn.Conv2d):
                flow = self._convolution(name, layer, flow)
            elif isinstance(layer, nn.LayerNorm):
                flow = self._layer_norm(name, layer, flow)
            else:
                flow = self._normalised(name, layer, flow, pictures)
        return flow

    def _linear(self, name: str, flow: torch.Tensor) -> torch.Tensor:
        weight = self.parameters[f"{name}.weight"].transpose(1, 2)
        bias = self.parameters.get(f"{name}.bias")
        return torch.bmm(flow, weight) if bias is None else torch.baddbmm(bias[:, None], flow, weight)

    def _convolution(self, name: str, layer: nn.Conv2d, flow: torch.Tensor) -> torch.Tensor:
        weight, bias = self.parameters[f"{name}.weight"], self.parameters.get(f"{name}.bias")
        return functional.conv2d(
            flow,
            weight.flatten(0, 1).contiguous(memory_format=torch.channels_last),
            None if bias is None else bias.flatten(),
            layer.stride,
            layer.padding,
            layer.dilation,
            layer.groups * len(self),
        )

    def _layer_norm(self, name: str, layer: nn.LayerNorm, flow: torch.Tensor) -> torch.Tensor:
        flow = functional.layer_norm(flow, layer.normalized_shape, eps=layer.eps)
        weight, bias = self.parameters.get(f"{name}.weight"), self.parameters.get(f"{name}.bias")
        flow = flow if weight is None else flow * weight[:, None]
        return flow if bias is None else flow + bias[:, None]

    def _normalised(self, name: str, layer: nn.Module, flow: torch.Tensor, pictures: bool) -> torch.Tensor:
        """Batch or group normalisation, with the networks side by side as channels."""
        k, batch = len(self), flow.shape[0] if pictures else flow.shape[1]
        wide = flow if pictures else flow.transpose(0, 1).reshape(batch, -1)
        weight, bias = self.parameters.get(f"{name}.weight"), self.parameters.get(f"{name}.bias")
        weight, bias = (None if part is None else part.flatten() for part in (weight, bias))
        if isinstance(layer, nn.GroupNorm):
            wide = functional.group_norm(wide, layer.num_groups * k, weight, bias, layer.eps)
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            mean, var = self.buffers.get(f"{name}.running_mean"), self.buffers.get(f"{name}.running_var")
            if mean is None or var is None or layer.momentum is None:
                wide = functional.batch_norm(wide, None, None, weight, bias, True, 0.0, layer.eps)
            else:
                self.buffers[f"{name}.num_batches_tracked"].add_(1)
                # Views of the stacked statistics, which are written to in place.
                wide = functional.batch_norm(
                    wide, mean.view(-1), var.view(-1), weight, bias, True, layer.momentum, layer.eps
                )
        return wide if pictures else wide.reshape(batch, k, -1).transpose(0, 1)

    def unstack(self) -> list[nn.Module]:
        """The networks with what the stack has learned, in evaluation mode."""
        with torch.no_grad():
            for i, net in enumerate(self.nets):
                for name, parameter in net.named_parameters():
                    parameter.copy_(self.parameters[name][i])
                for name, buffer in net.named_buffers():
                    buffer.copy_(self.buffers[name][i])
                net.eval()
        return list(self.nets)
