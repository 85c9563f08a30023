"""What a record would add to the gradient of the first layer, if it were in the batch with a given label."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seepage.attacks.gradient.entry import Entry
from seepage.attacks.gradient.low_rank import Factors
from seepage.models.federated import ClientNet

Array = np.ndarray

# Records that go through the network at a time, one for each label.
_AT_ONCE = 4096


@dataclass(frozen=True)
class Told:
    """What the network says of records, held against the gradient.

    Attributes:
        direction: (n, b) the direction q of each record: its column is U q, up to scale.
        apart: (n,) the share of its column that lies outside the space of the columns; rounding for a record of
            the batch with its own label.
        label: (n,) the label with which it lies outside least.
    """

    direction: Float[Array, " n b"]
    apart: Float[Array, " n"]
    label: Int[Array, " n"]


class Behind:
    """The network behind its first layer, in which every record has a gradient of its own.

    A record's column of D is the slope of its loss in the layer's outputs. It depends on that record and its label
    alone (where no batch normalisation ties records together), so that a record tells its column, as a column
    tells its record.
    """

    def __init__(self, net: ClientNet, first: Entry):
        self._net, self._first = net, first
        self._body = net.body("eval", torch.float64)
        self._layer = self._body.get_submodule(first.name)

    def columns(self, inputs: Float[Array, " n d"]) -> Float[Array, " n c m"]:
        """The column of each record under each label, not divided by the batch.

        Args:
            inputs: of the first layer; a record out of bounds is taken as it is.
        """
        records = torch.from_numpy(self._first.records(inputs, self._net.spec.shape)).double()
        classes, found = self._net.classes, list[Array]()
        step = max(1, _AT_ONCE // classes)
        for some in records.split(step):
            labels = torch.arange(classes).repeat(len(some))
            found.append(self._slopes(some.repeat_interleave(classes, dim=0), labels).reshape(len(some), classes, -1))
        return np.concatenate(found) if found else np.zeros((0, classes, self._first.width))

    def _slopes(self, x: Tensor, y: Tensor) -> Array:
        kept: list[Tensor] = []

        def keep(_: nn.Module, __: tuple[Tensor, ...], out: Tensor) -> Tensor:
            # A leaf of its own: nothing before the layer is differentiated.
            kept.append(out.detach().requires_grad_(True))
            return kept[-1]

        handle = self._layer.register_forward_hook(keep)
        try:
            loss = nn.functional.cross_entropy(self._body(self._net.prepare(x)), y, reduction="sum")
        finally:
            handle.remove()
        return torch.autograd.grad(loss, kept[-1])[0].reshape(len(x), -1).numpy()

    def told(self, inputs: Float[Array, " n d"], factors: Factors) -> Told:
        """The direction of each record, with the label under which it fits the gradient best."""
        all_columns = self.columns(inputs)
        inside = all_columns[:, :, factors.live] @ factors.left
        length = np.maximum(np.linalg.norm(all_columns, axis=2), 1e-300)
        # What it moves of neurons that the gradient says nothing moved counts as outside, too.
        all_columns[:, :, factors.live] -= inside @ factors.left.T
        outside = np.linalg.norm(all_columns, axis=2) / length
        label = outside.argmin(axis=1)
        rows = np.arange(len(inputs))
        q = inside[rows, label]
        return Told(q / np.maximum(np.linalg.norm(q, axis=1, keepdims=True), 1e-300), outside[rows, label], label)
