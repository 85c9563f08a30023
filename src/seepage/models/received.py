"""Looks that a client takes at a model it received, before it trains it: does it bear the marks of a malicious server?

A look that finds nothing proves nothing: marks can be hidden (a decoder kept secret, planted weights blurred).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from seepage.models.disaggregation import disaggregation
from seepage.models.federated import ClientNet
from seepage.models.last_layer import last_layer

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
# Rows of a classifier this short, against the longest, are empty; from this share on it was emptied. Two classes can
# be told apart with one row.
EMPTY, EMPTIED, FEWEST_CLASSES = 1e-6, 0.5, 3
# One record's gradient over those of all others together (D-SNR), from which the others no longer hide it.
TOO_CLEAR = 5.0
# The share of wrong records whose error does not arrive, from which a model is said to choose whom it hears.
SILENCED = 0.1
# Rows compared at the most.
MOST_ROWS = 4096


@dataclass(frozen=True)
class Alarm:
    """One mark that was found.

    Attributes:
        name: "identical rows", "mirrored weights", "empty classes", "silenced records" or "one record stands out".
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
        x: the client's own records, for the looks at how they share the gradient; None leaves those out.
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
    found += _empty_rows(net)
    if x is not None and y is not None and len(x) > 1:
        found += _by_batch(net, x, y)
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


def _empty_rows(net: ClientNet) -> list[Alarm]:
    """A classifier that was emptied but for a few classes: fishing (Wen et al. 2022)."""
    last = last_layer(net)
    if last is None or len(last.w) < FEWEST_CLASSES:
        return []
    length = np.linalg.norm(last.w.astype(np.float64), axis=1)
    share = float((length <= EMPTY * length.max()).mean())
    if share < EMPTIED or length.max() == 0:
        return []
    return [
        Alarm(
            name="empty classes",
            parameter=last.weight,
            value=share,
            threshold=EMPTIED,
            message=f"{round(share * len(length))} of {len(length)} rows of {last.weight} are empty: records of these "
            "classes have no gradient before it, and those of the others stand alone",
        )
    ]


def _by_batch(net: ClientNet, x: Float[Array, " n ..."], y: Int[Array, " n"]) -> list[Alarm]:
    """What the client's own batch shows: records that are silenced, and one that the others do not hide."""
    told, found = disaggregation(net, x, y), list[Alarm]()
    if told.silenced >= SILENCED:
        found.append(
            Alarm(
                name="silenced records",
                parameter=told.silent_layer,
                value=told.silenced,
                threshold=SILENCED,
                message=f"{told.silenced:.0%} of the records that the model is wrong about do not move "
                f"{told.silent_layer}, which others do: the sum over the batch hides those others less than it should",
            )
        )
    if told.ratio >= TOO_CLEAR:
        found.append(
            Alarm(
                name="one record stands out",
                parameter=told.layer,
                value=told.ratio,
                threshold=TOO_CLEAR,
                message=f"at {told.layer} the gradient of one record is {told.ratio:.1f} times those of the other "
                f"{len(x) - 1} together: the sum over the batch does not hide it, whether or not the server meant that",
            )
        )
    return found
