"""Torch networks that predict numbers or labels, as victims."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from seepage.core.errors import ModelError
from seepage.core.spec import InputSpec
from seepage.core.vocabulary import Task
from seepage.targets.answers import choice, positive, spec_text
from seepage.targets.predictors import LABEL_OUTPUTS, Predictor, sigmoid
from seepage.targets.torch import Differentiable, family_of, frozen, network_digest, rows_of
from seepage.targets.torch_files import load_network

Array = np.ndarray


def network_predictor(
    module: nn.Module,
    spec: InputSpec,
    task: Task,
    count: int,
    *,
    outputs: str = "logits",
    batch: int = 256,
    family: str | None = None,
) -> Predictor:
    """A network as a victim: its outputs are the numbers, or the logits of the labels.

    Args:
        module: as for `TorchModel`, (n,) or (n, outputs).
        spec: what one record is and how the network wants it prepared.
        task: what it answers.
        count: how many numbers a record.
        outputs: of labels: "logits" (a sigmoid is put behind each) or "probabilities".
        batch: how many records pass through it at a time.
        family: the architecture family; read off the layers when not given.

    Raises:
        ModelError: as `TorchModel` and `Predictor`, and for a network that ends in a sigmoid and is said to answer
            logits.
    """
    choice("outputs", outputs, LABEL_OUTPUTS)
    last = [layer for layer in module.modules() if not any(layer.children())][-1:]
    if task is Task.LABELS and outputs == "logits" and last and isinstance(last[0], nn.Sigmoid):
        raise ModelError(
            "the network ends in a sigmoid: its answers are probabilities already, and a second sigmoid would distort "
            'them: say outputs="probabilities"'
        )
    positive("batch", batch)
    network = Differentiable(frozen(module), spec, "logits").eval()

    def ask(x: Array) -> Array:
        rows = rows_of(spec, int(batch), x, network.raw)
        return sigmoid(rows) if task is Task.LABELS and outputs == "logits" else rows

    return Predictor(
        ask,
        spec,
        task,
        count,
        who="the network",
        family=family or family_of(network.network),
        fingerprint=lambda: network_digest(network.network, task.encode(), outputs.encode(), spec_text(spec)),
    )


def load_torch_predictor(
    build: str | Callable[..., nn.Module] | None,
    weights: str | Path | None,
    spec: InputSpec,
    task: Task,
    count: int,
    *,
    build_args: Mapping[str, Any] | None = None,
    outputs: str = "logits",
    batch: int = 256,
    family: str | None = None,
    trust_pickle: bool = False,
) -> Predictor:
    """A victim from a function that makes the network and a file with its weights: see `load_torch`.

    Raises:
        TrustError, ModelError, ConfigError: as `load_network` and `network_predictor`.
    """
    network = load_network(build, weights, build_args, trust_pickle=trust_pickle)
    return network_predictor(network, spec, task, count, outputs=outputs, batch=batch, family=family)
