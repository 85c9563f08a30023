"""How well a batch hides each of its records in the gradient of a model: what disaggregation changes."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from seepage.models.federated import ClientNet
from seepage.models.last_layer import last_layer

Array = np.ndarray

# Records that the model is this sure and right about have no error worth the name.
_WRONG = 0.05
# An error that arrives at less than this share of the loudest one's does not arrive.
_UNHEARD = 1e-3
# Values of single records' gradients that are held at once.
_AT_ONCE = 2**25


@dataclass(frozen=True)
class Disaggregation:
    """How the records of a batch share the gradient of a model.

    Attributes:
        ratio: the disaggregation signal-to-noise ratio (D-SNR) of Garov et al. 2024: at the layer where it is greatest,
            the length of one record's gradient over the sum of the lengths of all others'.
        layer: which layer's weights those are.
        silenced: of the records that the model is wrong about, the share whose error does not arrive at some layer
            before the last one where another's does.
        silent_layer: where that is; "" where it is nowhere.
    """

    ratio: float
    layer: str
    silenced: float
    silent_layer: str


def disaggregation(net: ClientNet, x: Float[Array, " n ..."], y: Int[Array, " n"]) -> Disaggregation:
    """The measures of a batch at a model; batch normalisation by its running statistics.

    The ratio compares lengths, and a record's length is its error (softmax less the class) times how far it carries. A
    well-trained model is wrong about few records, which stand out by their error alone. `silenced` takes the error
    out: an honest model carries every error back, one that fishes carries back those it wants.

    Args:
        net: the model.
        x: two records or more.
        y: their classes.
    """
    records, labels = torch.from_numpy(np.asarray(x, dtype=np.float32)), torch.from_numpy(y).long()
    lengths = _lengths(net, records, labels)
    with torch.no_grad():
        said = torch.softmax(net.logits(records), dim=1)
    error = (said - functional.one_hot(labels, net.classes)).norm(dim=1).double().numpy()
    last = last_layer(net)
    ratio, layer, silenced, where = 0.0, "", 0.0, ""
    wrong = error > _WRONG
    for name, each in lengths.items():
        most = float(each.max())
        if most == 0:
            continue
        rest = float(each.sum()) - most
        clear = most / max(rest, 1e-12 * most)
        if clear > ratio:
            ratio, layer = clear, name
        if (last is not None and name == last.weight) or wrong.sum() < 2:
            continue
        carried = each[wrong] / error[wrong]
        unheard = float((carried < _UNHEARD * carried.max()).mean()) if carried.max() > 0 else 0.0
        if unheard > silenced:
            silenced, where = unheard, name
    return Disaggregation(ratio, layer, silenced, where)


def _lengths(net: ClientNet, x: Tensor, y: Tensor) -> dict[str, Float[Array, " n"]]:
    """(n,) the length of each record's own gradient, for the weights of each layer that has a matrix of them."""
    module, weights, buffers = net.module, net.weights(), net.buffers()
    matrices = [name for name, weight in weights.items() if weight.dim() >= 2]

    def loss(held: dict[str, Tensor], record: Tensor, label: Tensor) -> Tensor:
        out = functional_call(module, {**held, **buffers}, (net.prepare(record[None]),))
        return functional.cross_entropy(out, label[None])

    slope = vmap(grad(loss), in_dims=(None, 0, 0))
    together = max(1, _AT_ONCE // net.parameters)
    parts: dict[str, list[Tensor]] = {name: [] for name in matrices}
    for rows in torch.arange(len(x)).split(together):
        each = slope(weights, x[rows], y[rows])
        for name in matrices:
            parts[name].append(each[name].flatten(1).norm(dim=1).double())
    return {name: torch.cat(found).numpy() for name, found in parts.items()}
