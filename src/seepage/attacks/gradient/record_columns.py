"""What a record would add to the gradient of the first layer, if it were in the batch with a given label."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import linprog
from torch import Tensor, nn

from seepage.attacks.gradient.entry import Entry
from seepage.attacks.gradient.low_rank import Factors
from seepage.models.federated import ClientNet

Array = np.ndarray

# Of how many records without directions the mixtures are searched.
MIXED = 4
# Points of a space of mixtures that are looked at, and from how many of them a search begins.
DRAWN_POINTS = 300
REFINED = 12
# Steps of such a search.
NEWTON = 12
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
    """The network behind a layer, in which every record has a gradient of its own.

    A record's column of D is the slope of its loss in the layer's outputs. It depends on that record's input to the
    layer and its label alone (where no batch normalisation ties records together), so that a record tells its
    column, as a column tells its record.

    Args:
        net: the network.
        layer: its first layer; or one further in that all later layers hang on alone (`inside.inside`).
        bounds: (d,) the least and the greatest value of each input of a layer further in.
    """

    def __init__(
        self, net: ClientNet, layer: Entry, bounds: tuple[Float[Array, " d"], Float[Array, " d"]] | None = None
    ):
        self._net, self._entry, self._bounds = net, layer, bounds
        self._body = net.body("eval", torch.float64)
        self._layer = self._body.get_submodule(layer.name)

    @property
    def bounds(self) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        """The least and the greatest value of each input that a record can have."""
        if self._bounds is not None:
            return self._bounds
        shape, bounds = self._net.spec.shape, self._net.spec.bounds
        ends = [
            np.broadcast_to(side, shape).reshape(-1) * self._entry.scale + self._entry.offset
            for side in (bounds.low, bounds.high)
        ]
        return np.minimum(*ends), np.maximum(*ends)

    def columns(self, inputs: Float[Array, " n d"], only: int | None = None) -> Float[Array, " n c m"]:
        """The column of each record under each label, or one label only, not divided by the batch.

        Args:
            inputs: of the layer; those of no record are taken as they are.
            only: the label.
        """
        records = torch.from_numpy(inputs).double()
        labels = torch.arange(self._net.classes) if only is None else torch.tensor([only])
        found: list[Array] = []
        for some in records.split(max(1, _AT_ONCE // len(labels))):
            each = self._slopes(some.repeat_interleave(len(labels), dim=0), labels.repeat(len(some)))
            found.append(each.reshape(len(some), len(labels), -1))
        return np.concatenate(found) if found else np.zeros((0, len(labels), self._entry.width))

    def _slopes(self, inputs: Tensor, y: Tensor) -> Array:
        kept: list[Tensor] = []

        def give(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor]:
            return (inputs.reshape(len(inputs), *given[0].shape[1:]),)

        def keep(_: nn.Module, __: tuple[Tensor, ...], out: Tensor) -> Tensor:
            # A leaf of its own: nothing before the layer is differentiated.
            kept.append(out.detach().requires_grad_(True))
            return kept[-1]

        handles = [self._layer.register_forward_pre_hook(give), self._layer.register_forward_hook(keep)]
        # Whatever record is sent in: the layer is given its inputs. One does, where layers before it cost something.
        stand_in = torch.zeros(len(inputs) if self._entry.direct else 1, *self._net.spec.shape, dtype=inputs.dtype)
        try:
            loss = nn.functional.cross_entropy(self._body(self._net.prepare(stand_in)), y, reduction="sum")
        finally:
            for handle in handles:
                handle.remove()
        return torch.autograd.grad(loss, kept[-1])[0].reshape(len(inputs), -1).numpy()

    def outside(
        self, inputs: Float[Array, " n d"], factors: Factors, only: int | None = None
    ) -> tuple[Float[Array, " n c m"], Float[Array, " n c b"]]:
        """What of each record's column under each label (or one only) lies outside the space of the columns.

        Returns (n, c, m), lengths as shares of the whole column's, and (n, c, b) the columns in that space.
        """
        columns = self.columns(inputs, only)
        length = np.linalg.norm(columns, axis=2, keepdims=True)
        columns /= np.maximum(length, 1e-300)
        inside = columns[:, :, factors.live] @ factors.left
        # What it moves of neurons that the gradient says nothing moved counts as outside, too.
        columns[:, :, factors.live] -= inside @ factors.left.T
        # No column at all, where the loss is flat, is none of the gradient's.
        return np.where(length > 1e-200, columns, 1 / np.sqrt(columns.shape[2])), inside

    def told(self, inputs: Float[Array, " n d"], factors: Factors) -> Told:
        """The direction of each record, with the label under which it fits the gradient best."""
        outside, inside = self.outside(inputs, factors)
        apart = np.linalg.norm(outside, axis=2)
        rows, label = np.arange(len(inputs)), apart.argmin(axis=1)
        q = inside[rows, label]
        return Told(q / np.maximum(np.linalg.norm(q, axis=1, keepdims=True), 1e-300), apart[rows, label], label)


@dataclass(frozen=True)
class Mixtures:
    """What records can be whose directions are not known: inputs `base + t @ axes`.

    Attributes:
        base: (d,) one of them.
        axes: (k, d) orthonormal in the space of t.
    """

    base: Float[Array, " d"]
    axes: Float[Array, " k d"]

    def at(self, t: Float[Array, " n k"]) -> Float[Array, " n d"]:
        return self.base + t @ self.axes


def mixtures(factors: Factors, found: Float[Array, " k b"], d_bias: Float[Array, " m"]) -> Mixtures:
    """The inputs of the records whose directions are not among those found.

    With the bias as one more input that is 1 for every record, [G, g] = D [X, 1]: the rows of [X, 1] are mixtures of
    the rows that are orthogonal to the directions found, and those with 1 in the last place are an affine space.
    """
    rest = np.linalg.svd(found, full_matrices=True)[2][len(found) :]
    rows = rest @ (factors.singular[:, None] * factors.right)
    last = rest @ (factors.left.T @ d_bias[factors.live])
    base = last / max(float(last @ last), 1e-300)
    axes = np.linalg.svd(last[None], full_matrices=True)[2][1:] @ rows
    # Axes of length 1, across each other: a step in any of them means as much.
    _, length, v = np.linalg.svd(axes, full_matrices=False)
    return Mixtures(base @ rows, v[length > 1e-12 * length.max(initial=0.0)])


def among_mixtures(
    space: Mixtures, factors: Factors, behind: Behind, rng: np.random.Generator
) -> Float[Array, " b"] | None:
    """The direction of a record that lies in this space: one whose column, by the network, lies in the gradient's.

    Points are drawn among those whose values are within the bounds of a record; from the best of them, Gauss-Newton.
    None where no point comes to rest at nothing.
    """
    starts = _within(space, behind, rng)
    if not len(starts):
        return None
    apart = np.linalg.norm(behind.outside(space.at(starts), factors)[0], axis=2)
    wide = np.ptp(starts, axis=0).max()
    for k in np.argsort(apart, axis=None, kind="stable")[:REFINED]:
        row, label = np.unravel_index(k, apart.shape)
        t, left = rested(starts[row], int(label), space, factors, behind, wide)
        if left < factors.coarse:
            q = behind.outside(space.at(t[None]), factors)[1][0, label]
            return q / np.linalg.norm(q)
    return None


def _within(space: Mixtures, behind: Behind, rng: np.random.Generator) -> Float[Array, " n k"]:
    """(n, k) points of the space that are within a record's bounds, spread over it by hit and run (Smith 1984)."""
    low, high = behind.bounds
    axes = space.axes.T
    # The middle of the space, and how far it is from the sides: a linear programme.
    size = np.linalg.norm(axes, axis=1)
    sides = np.vstack([np.column_stack([axes, size]), np.column_stack([-axes, size])])
    room = np.concatenate([high - space.base, space.base - low])
    cost = np.zeros(axes.shape[1] + 1)
    cost[-1] = -1
    solved = linprog(cost, A_ub=sides, b_ub=room, bounds=[(None, None)] * len(cost))
    if not solved.success or solved.x[-1] <= 0:
        return np.zeros((0, axes.shape[1]))
    t, points = solved.x[:-1], list[Array]()
    for _ in range(DRAWN_POINTS):
        way = rng.normal(size=len(t))
        speed, gap = axes @ (way / np.linalg.norm(way)), space.base + axes @ t
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = np.stack([(low - gap) / speed, (high - gap) / speed])
        first, last = np.nanmin(np.where(ends > 0, ends, np.inf)), np.nanmax(np.where(ends < 0, ends, -np.inf))
        t = t + rng.uniform(last, first) * way / np.linalg.norm(way)
        points.append(t)
    return np.array(points)


def rested(
    t: Float[Array, " k"], label: int, space: Mixtures, factors: Factors, behind: Behind, wide: float
) -> tuple[Float[Array, " k"], float]:
    """Where Gauss-Newton comes to rest from a point, and how much of the column lies outside there."""

    def outside(points: Array) -> Array:
        return behind.outside(space.at(points), factors, label)[0][:, 0]

    step = 1e-6 * wide
    value = outside(t[None])[0]
    for _ in range(NEWTON):
        slope = (outside(t + step * np.eye(len(t))) - value) / step
        move = np.linalg.lstsq(slope.T, -value, rcond=None)[0]
        tried = t + move * 0.5 ** np.arange(8)[:, None]
        values = outside(tried)
        best = int(np.linalg.norm(values, axis=1).argmin())
        if np.linalg.norm(values[best]) >= np.linalg.norm(value):
            break
        t, value = tried[best], values[best]
    return t, float(np.linalg.norm(value))
