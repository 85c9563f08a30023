"""Small real victims for the tests of the adapters, and files that run code when loaded."""

import os
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from seepage.core.seeds import stream
from seepage.core.spec import Bounds, InputSpec
from seepage.core.vocabulary import Modality

torch.set_num_threads(1)

Array = np.ndarray
TABLE = InputSpec((4,), Bounds.of([0.0] * 4, [1.0] * 4), Modality.TABLE, features=("a", "b", "c", "d"))


def table(n: int, seed: int = 0) -> tuple[Array, Array]:
    """(n, 4) values in [0, 1] and three classes that they tell apart, with some noise."""
    rng = stream(seed, "tests", "table")
    x = rng.uniform(size=(n, 4)).astype(np.float32)
    y = (x @ np.array([1.0, 1.0, -1.0, 0.0]) + 0.05 * rng.normal(size=n) > np.array([[0.3], [0.7]])).sum(axis=0)
    return x, y


def tiny_mlp(features: int = 4, classes: int = 3) -> nn.Module:
    """An untrained network, the same every time."""
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(features, 8), nn.ReLU(), nn.Linear(8, classes))


def trained_mlp(steps: int = 60) -> nn.Module:
    """`tiny_mlp` after a few steps on `table`."""
    net = tiny_mlp()
    x, y = table(200)
    optimiser = torch.optim.Adam(net.parameters(), 0.05)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(net(torch.tensor(x)), torch.tensor(y))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net


class HwcNet(nn.Module):
    """Takes pictures (n, h, w, 3), blue first, and answers three logits, by a smooth convolution."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = torch.tanh(self.conv(x.permute(0, 3, 1, 2))).mean(dim=(2, 3))
        return self.head(self.drop(features))


def not_a_network() -> int:
    return 3


def failing_build() -> nn.Module:
    raise RuntimeError("no weights for you")


def thirds(x: Array) -> Array:
    """A function victim: the first value's probability, the rest shared by two."""
    p = x.reshape(len(x), -1)[:, 0]
    return np.stack([p, (1 - p) / 2, (1 - p) / 2], axis=1)


def save_onnx_mlp(net: nn.Module, path: Path, *, batch: int | str = "n", softmax: bool = False, label: bool = False):
    """Write a Linear-ReLU-Linear network as an ONNX file, with the same weights."""
    first, last = net[0], net[2]
    weights = {
        name: numpy_helper.from_array(tensor.detach().numpy(), name)
        for name, tensor in (("w1", first.weight), ("b1", first.bias), ("w2", last.weight), ("b2", last.bias))
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["logits"], transB=1),
    ]
    out = "logits"
    if softmax:
        nodes.append(helper.make_node("Softmax", ["logits"], ["p"], axis=1))
        out = "p"
    outputs = [helper.make_tensor_value_info(out, TensorProto.FLOAT, [batch, last.out_features])]
    if label:
        nodes.append(helper.make_node("ArgMax", [out], ["label"], axis=1, keepdims=0))
        outputs = [helper.make_tensor_value_info("label", TensorProto.INT64, [batch])]
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, first.in_features])],
        outputs,
        list(weights.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


class Bomb:
    """Pickled, it makes a file when it is loaded: proof that code ran."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.mark}'",)
