"""The update that records make, held against a captured one."""

from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import nnls
from torch import Tensor

from seepage.core.assumptions import Assumptions
from seepage.core.victim import Update
from seepage.models.federated import ClientNet, Mode

Array = np.ndarray
# Classes are fitted for up to so many pairs of a record and a class: each costs a pass backwards.
_MOST_PAIRS = 512
# Entries of the gradient that the fit of the classes looks at.
_LOOKED_AT = 4096
# Rows that hold each record's classes to a sum of one weigh this much beside the gradient's.
_ONE = 10.0


class UpdateReplay:
    """Makes updates as the captured one was made, as far as that is known, and compares directions.

    Scale is left out, for it hangs on the learning rate and on how many of the records were found.

    Args:
        net: the model before the round.
        update: what was captured.
        ladder: what is known of its making.
    """

    def __init__(self, net: ClientNet, update: Update, ladder: Assumptions):
        self._net, self._ladder = net, ladder
        self._sign = 1.0 if update.kind == "gradient" else -1.0
        self._names = list(net.weights())
        self._target = np.concatenate([update.tensor(name).astype(np.float64).reshape(-1) for name in self._names])
        self._steps = 1 if update.kind == "gradient" else ladder.steps.value

    @property
    def _mode(self) -> Mode:
        return "eval" if self._ladder.mode.value == "eval" or not self._net.has_batch_norm else "train"

    @property
    def _simulates(self) -> bool:
        """Whether the client's own steps can be taken: several, at a known rate."""
        return (self._steps or 0) > 1 and self._ladder.rate.value is not None

    @property
    def how(self) -> str:
        """How the update is made anew, in words."""
        if self._simulates:
            return f"{self._steps} steps of plain SGD in the order of the reconstructions; the client's order is not "
            "known"
        if self._steps == 1:
            return "one gradient, its direction"
        return "one gradient, its direction, for lack of a learning rate or of the number of steps"

    @cached_property
    def _looked(self) -> Int[Array, " k"]:
        """The greatest entries of the captured update, by which classes are fitted."""
        return np.argsort(-np.abs(self._target), kind="stable")[:_LOOKED_AT]

    def distance(self, x: Float[Array, " n ..."], labels: Int[Array, " n"] | None) -> float | None:
        """sqrt(1 - cos^2) between the update these records make and the captured one; 1 for a cosine below 0.

        None where classes are not given and there are too many to fit.
        """
        mode: Mode = self._mode if len(x) > 1 else "eval"
        records = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
        chosen = self._fitted(records, mode) if labels is None else np.asarray(labels, dtype=np.int64)
        if chosen is None:
            return None
        made = self._made(records, torch.from_numpy(chosen), mode)
        lengths = float(np.linalg.norm(made) * np.linalg.norm(self._target))
        cosine = float(made @ self._target) / lengths if lengths > 0 else 0.0
        return float(np.sqrt(max(1 - min(cosine, 1.0) ** 2, 0.0))) if cosine > 0 else 1.0

    def _made(self, x: Tensor, y: Tensor, mode: Mode) -> Float[Array, " p"]:
        if not self._simulates:
            return self._sign * _flat(self._net.gradient(x, y, mode=mode))
        epochs, size = int(self._ladder.epochs.value or 1), int(self._ladder.local_batch.value or len(x))
        rows = [np.arange(i, min(i + size, len(x))) for i in range(0, len(x), size)] * epochs
        after = self._net.trained(x, y, rows, float(self._ladder.rate.value), mode)
        return _flat(after) - _flat(self._net.weights())

    def _fitted(self, x: Tensor, mode: Mode) -> Int[Array, " n"] | None:
        """The classes under which the records' gradient comes nearest to the captured one.

        The gradient of cross-entropy is linear in the classes: sum_ic (p_ic - Y_ic) J_ic / n with J_ic the gradient
        of logit c of record i. Y is fitted by least squares over Y >= 0, each row's sum held to one; its greatest
        entry is the class.
        """
        n, c = len(x), self._net.classes
        if n * c > _MOST_PAIRS:
            return None
        weights = {name: w.requires_grad_(True) for name, w in self._net.weights().items()}
        logits = self._net.logits(x, weights, mode)
        held = list(weights.values())
        slopes = np.stack(
            [
                _row(torch.autograd.grad(logit, held, retain_graph=True, materialize_grads=True))[self._looked]
                for logit in logits.reshape(-1)
            ],
            axis=1,
        )
        given = slopes @ logits.detach().softmax(dim=1).double().numpy().reshape(-1) / n
        target = self._sign * self._target[self._looked] * self._scale(given)
        ones = np.kron(np.eye(n), np.ones((1, c))) * _ONE
        size = max(float(np.abs(given - target).max()), 1e-300)
        found, _ = nnls(
            np.concatenate([slopes / n / size, ones]), np.concatenate([(given - target) / size, np.full(n, _ONE)])
        )
        return found.reshape(n, c).argmax(axis=1)

    def _scale(self, given: Float[Array, " k"]) -> float:
        """What turns the captured update into a gradient; where the rate is not known, its size is taken to fit."""
        if self._sign > 0:
            return 1.0
        if self._ladder.rate.value is not None and self._steps:
            return 1.0 / (float(self._ladder.rate.value) * self._steps)
        return float(np.linalg.norm(given) / max(np.linalg.norm(self._target[self._looked]), 1e-300))


def _flat(named: dict[str, Tensor]) -> Float[Array, " p"]:
    return _row(tuple(named.values()))


def _row(tensors: tuple[Tensor, ...]) -> Float[Array, " p"]:
    return np.concatenate([tensor.detach().double().numpy().reshape(-1) for tensor in tensors])
