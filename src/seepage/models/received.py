"""Looks that a client takes at a model it received, before it trains it: does it bear the marks of a malicious server?

A look that finds nothing proves nothing: marks can be hidden (a decoder kept secret, planted weights blurred).
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from seepage.models.federated import ClientNet

Array = np.ndarray

# Rows shorter than this are alike by chance.
SHORT = 8
# Rows whose cosine is above this are the same measurement.
SAME = 1 - 1e-4
# How much of a layer has to be alike, or mirrored, before it is called planted.
SHARE = 0.05
FEWEST = 4
# Sorted weights of both signs whose ratio varies by less than this are copies of each other.
MIRRORED = 1e-3
# One record's gradient over that of all others together, from which the others no longer hide it.
TOO_CLEAR = 5.0
# Rows compared at the most.
MOST_ROWS = 4096


@dataclass(frozen=True)
class Alarm:
    """One mark that was found.

    Attributes:
        name: "identical rows", "mirrored weights" or "one record stands out".
        parameter: where.
        value: how strong the mark is: the share of the rows, or a ratio of lengths.
        threshold: from where on it is an alarm.
        message: in a sentence.
    """

    name: str
    parameter: str
    value: float
    threshold: float
    message: str


def inspect_received(
    net: ClientNet, x: Float[Array, " n ..."] | None = None, y: Int[Array, " n"] | None = None
) -> tuple[Alarm, ...]:
    """What speaks against training a model that was received.

    Args:
        net: the model.
        x: the client's own records, for the look at how far one of them would stand out; None leaves it out.
        y: their classes.

    Returns:
        The alarms; none for a model without a mark.
    """
    found: list[Alarm] = []
    weights = net.weights()
    for name, weight in weights.items():
        rows = weight.reshape(len(weight), -1).numpy() if weight.dim() >= 2 else np.zeros((0, 0))
        if len(rows) < FEWEST or rows.shape[1] < SHORT:
            continue
        bias = weights.get(name.removesuffix("weight") + "bias")
        found += _identical(name, rows, None if bias is None else bias.numpy())
        found += _mirrored(name, rows)
    if x is not None and y is not None and len(x) > 1:
        found += _standing_out(net, x, y)
    return tuple(found)


def _identical(name: str, rows: Float[Array, " m d"], bias: Float[Array, " m"] | None) -> list[Alarm]:
    """Many rows that measure the same: the bins of an imprint (Fowl et al. 2022)."""
    length = np.linalg.norm(rows, axis=1)
    live = np.nonzero(length > 1e-12)[0][:MOST_ROWS]
    if len(live) < FEWEST:
        return []
    unit = rows[live].astype(np.float64) / length[live, None]
    alike = (unit @ unit.T) > SAME
    group = live[alike[int(alike.sum(axis=1).argmax())]]
    share = len(group) / len(rows)
    if len(group) < max(FEWEST, SHARE * len(rows)):
        return []
    steps = "" if bias is None else f", with {len(np.unique(bias[group]))} different biases"
    return [
        Alarm(
            name="identical rows",
            parameter=name,
            value=share,
            threshold=SHARE,
            message=f"{len(group)} of {len(rows)} rows of {name} measure the same{steps}: they sort records into bins",
        )
    ]


def _mirrored(name: str, rows: Float[Array, " m d"]) -> list[Alarm]:
    """Rows whose positive weights are their negative ones, shrunk: trap weights (Boenisch et al. 2023)."""
    marked = 0
    for row in rows[:MOST_ROWS].astype(np.float64):
        negative, positive = np.sort(-row[row < 0]), np.sort(row[row > 0])
        if len(negative) != len(positive) or len(positive) < SHORT // 2:
            continue
        ratio = positive / negative
        marked += bool(ratio.std() < MIRRORED * ratio.mean())
    looked = min(len(rows), MOST_ROWS)
    if marked < max(FEWEST, SHARE * looked):
        return []
    return [
        Alarm(
            name="mirrored weights",
            parameter=name,
            value=marked / looked,
            threshold=SHARE,
            message=f"in {marked} of {looked} rows of {name} the positive weights are copies of the negative ones: a "
            "neuron of that kind fires for few records and gives them away",
        )
    ]


def _standing_out(net: ClientNet, x: Float[Array, " n ..."], y: Int[Array, " n"]) -> list[Alarm]:
    """One record whose gradient the others do not hide: the disaggregation ratio of Garov et al. 2024 (SEER)."""
    lengths = _gradient_lengths(net, torch.from_numpy(x), torch.from_numpy(y).long())
    worst, where = 0.0, ""
    for name, each in lengths.items():
        if not name.endswith("weight"):
            continue
        rest = np.sqrt(max(float((each**2).sum() - each.max() ** 2), 1e-300))
        if each.max() / rest > worst:
            worst, where = float(each.max() / rest), name
    if worst < TOO_CLEAR:
        return []
    return [
        Alarm(
            name="one record stands out",
            parameter=where,
            value=worst,
            threshold=TOO_CLEAR,
            message=f"at {where} the gradient of one record is {worst:.1f} times that of the other {len(x) - 1} "
            "together: the sum over the batch does not hide it",
        )
    ]


def _gradient_lengths(net: ClientNet, x: Tensor, y: Tensor) -> dict[str, Float[Array, " n"]]:
    """(n,) the length of each record's own gradient, by parameter; batch normalisation by running statistics."""
    module, weights = net.module, net.weights()
    buffers = net.buffers()

    def loss(held: dict[str, Tensor], record: Tensor, label: Tensor) -> Tensor:
        out = functional_call(module, {**held, **buffers}, (net.prepare(record[None]),))
        return functional.cross_entropy(out, label[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))(weights, x, y)
    return {name: g.reshape(len(x), -1).norm(dim=1).double().numpy() for name, g in each.items()}
